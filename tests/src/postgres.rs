//! A PostgreSQL server of the tests' own, and the programs that talk to one.
//!
//! The server listens on the loopback at a port from the kernel, keeps its data in a temporary
//! folder without syncing it, and trusts everybody on it. All tests of one binary that run at the
//! same time share it; each makes a database of its own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::portal::workspace;
use crate::process::{Ended, Failure, Outcome, Process, installed, skipped};
use crate::tcp;

/// A statement or a short benchmark must have ended by then.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The user that a PostgreSQL server may run as; it refuses to run as root.
const SERVER_USER: &str = "postgres";
const USER: &str = "adit";

/// A running server.
pub struct Postgres {
    process: Process,
    address: SocketAddr,
    programs: PathBuf,
    _folder: TempDir,
}

impl Postgres {
    /// The server that the running tests share. `None` where PostgreSQL is not installed; a
    /// `SKIPPED` line says so.
    pub fn shared(test: &str) -> Outcome<Option<Arc<Postgres>>> {
        static RUNNING: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let Some(programs) = server_programs() else {
            skipped(
                test,
                "PostgreSQL's programs are not installed (initdb, postgres)",
            );
            return Ok(None);
        };
        if let Some(missing) = ["psql", "pgbench"]
            .iter()
            .find(|program| !programs.join(program).is_file())
        {
            skipped(test, &format!("{missing} is not installed"));
            return Ok(None);
        }
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = running.upgrade() {
            return Ok(Some(server));
        }
        let server = Arc::new(Postgres::start(programs)?);
        *running = Arc::downgrade(&server);
        Ok(Some(server))
    }

    fn start(programs: PathBuf) -> Outcome<Postgres> {
        let fail = |error: std::io::Error| Failure(format!("PostgreSQL's folder: {error}"));
        let folder = TempDir::with_prefix("adit-pg-").map_err(fail)?;
        // The server's user must get through to its own folder inside.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).map_err(fail)?;
        let cluster = folder.path().join("cluster");
        fs::create_dir(&cluster).map_err(fail)?;
        if rustix::process::geteuid().is_root() {
            let (user, group) = user_and_group(SERVER_USER)?;
            chown(&cluster, Some(user), Some(group)).map_err(fail)?;
        }

        let mut initdb = as_server_user(&programs.join("initdb"), folder.path());
        initdb.args([
            "--no-sync",
            "--no-instructions",
            "--auth=trust",
            "--encoding=UTF8",
        ]);
        initdb
            .args(["--locale=C", "--username", USER, "--pgdata"])
            .arg(&cluster);
        Process::run("initdb", initdb, PATIENCE)?.success()?;

        let address = tcp::own_address()?;
        let mut postgres = as_server_user(&programs.join("postgres"), folder.path());
        postgres
            .arg("-D")
            .arg(&cluster)
            .args(["-p", &address.port().to_string()]);
        for setting in [
            &format!("listen_addresses={}", address.ip()),
            "unix_socket_directories=",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "autovacuum=off",
            "max_connections=200",
        ] {
            postgres.args(["-c", setting]);
        }
        let process = Process::spawn("postgres", postgres)?;
        process.wait_for_line(&["ready to accept connections"], PATIENCE)?;
        Ok(Postgres {
            process,
            address,
            programs,
            _folder: folder,
        })
    }

    /// Where it listens: the target of a portal, and what clients compare with.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The server's process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Makes a new, empty database.
    pub fn database(self: &Arc<Self>) -> Outcome<Database> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let database = |name: &str| Database {
            server: Arc::clone(self),
            name: name.to_owned(),
        };
        database("postgres")
            .at(self.address)
            .psql(&format!("create database {name}"))?;
        Ok(database(&name))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its immediate shutdown, rather than a kill: the postmaster ends its children before
        // itself, and nobody writes into the folder any more when it is removed.
        self.process.signal(Signal::QUIT);
        let _ = self.process.wait(PATIENCE);
    }
}

/// A database of one test.
pub struct Database {
    server: Arc<Postgres>,
    name: String,
}

impl Database {
    /// Programs that reach it at this address: the server's own, or a portal's entry.
    pub fn at(&self, entry: SocketAddr) -> Client {
        Client {
            programs: self.server.programs.clone(),
            database: self.name.clone(),
            entry,
        }
    }

    /// Its URL, for what connects by itself.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@{}/{}", self.server.address, self.name)
    }

    /// Programs that reach it directly.
    pub fn direct(&self) -> Client {
        self.at(self.server.address)
    }
}

/// PostgreSQL's own clients, pointed at one database by host and port.
#[derive(Clone, Debug)]
pub struct Client {
    programs: PathBuf,
    database: String,
    entry: SocketAddr,
}

/// What a run of pgbench says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Benched {
    /// Transactions that went through.
    pub processed: u64,
    /// Transactions that failed.
    pub failed: u64,
}

impl Client {
    /// Sets what every PostgreSQL client reads from its environment.
    pub fn environment(&self, command: &mut Command) {
        command
            .env("PGHOST", self.entry.ip().to_string())
            .env("PGPORT", self.entry.port().to_string())
            .env("PGUSER", USER)
            .env("PGDATABASE", &self.database)
            .env("PGCONNECT_TIMEOUT", "10");
    }

    /// One of PostgreSQL's programs with these arguments.
    pub fn program(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.args(args);
        self.environment(&mut command);
        command
    }

    /// psql with this input and its usual noise off.
    pub fn psql_command(&self, sql: &str) -> Command {
        let plain = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"];
        let mut command = self.program("psql", &plain);
        command.args(["-v", "ON_ERROR_STOP=1", "-c", sql]);
        command
    }

    /// Runs one statement, or one of psql's own commands; returns what it printed, trimmed.
    pub fn psql(&self, sql: &str) -> Outcome<String> {
        let said = Process::run(&format!("psql: {sql}"), self.psql_command(sql), PATIENCE)?;
        Ok(said.success()?.text().trim().to_owned())
    }

    /// pgbench with these arguments.
    pub fn pgbench_command(&self, args: &[&str]) -> Command {
        self.program("pgbench", args)
    }

    /// Fills the database with pgbench's tables (100,000 accounts).
    pub fn pgbench_init(&self) -> Outcome<()> {
        let init = self.pgbench_command(&["--initialize", "--quiet", "--scale=1"]);
        Process::run("pgbench -i", init, PATIENCE)?
            .success()
            .map(|_| ())
    }

    /// Runs pgbench to its end.
    pub fn pgbench(&self, args: &[&str]) -> Outcome<Benched> {
        let name = format!("pgbench {}", args.join(" "));
        let said = Process::run(&name, self.pgbench_command(args), PATIENCE)?.success()?;
        benched(&said)
    }
}

/// Reads pgbench's summary.
fn benched(said: &Ended) -> Outcome<Benched> {
    let text = said.text();
    let number = |label: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(label));
        let digits = found.and_then(|rest| rest.trim().split(['/', ' ']).next());
        digits
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| Failure(format!("pgbench did not say {label:?}: {said}")))
    };
    Ok(Benched {
        processed: number("number of transactions actually processed:")?,
        failed: number("number of failed transactions:")?,
    })
}

/// The example's Node.js app with the packages it needs, in a folder of its own that later runs use
/// again. `None` where it can't be had; a `SKIPPED` line says why.
pub fn node_app(test: &str) -> Option<&'static Path> {
    static APP: OnceLock<Outcome<PathBuf>> = OnceLock::new();
    match APP.get_or_init(install_node_app) {
        Ok(folder) => Some(folder),
        Err(why) => {
            skipped(test, &why.to_string());
            None
        }
    }
}

fn install_node_app() -> Outcome<PathBuf> {
    if let Some(missing) = ["node", "npm"].iter().find(|program| !installed(program)) {
        return Err(Failure(format!("{missing} is not installed")));
    }
    let fail = |error: std::io::Error| Failure(format!("installing the example's app: {error}"));
    let example = workspace().join("examples/postgres");
    // Test programs are in target/PROFILE/deps.
    let program = std::env::current_exe().map_err(fail)?;
    let target = program.ancestors().nth(3).unwrap_or(&program);
    let folder = target.join("tmp/node-app");
    fs::create_dir_all(&folder).map_err(fail)?;
    fs::copy(example.join("app.js"), folder.join("app.js")).map_err(fail)?;

    // npm writes its own list last: where it is there and of this lock file, so is everything.
    let wanted = fs::read(example.join("package-lock.json")).map_err(fail)?;
    let lock = folder.join("package-lock.json");
    let installed = folder.join("node_modules/.package-lock.json");
    if installed.is_file() && fs::read(&lock).is_ok_and(|lock| lock == wanted) {
        return Ok(folder);
    }
    fs::copy(example.join("package.json"), folder.join("package.json")).map_err(fail)?;
    fs::write(&lock, &wanted).map_err(fail)?;
    let mut npm = Command::new("npm");
    npm.args([
        "ci",
        "--prefer-offline",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
    ]);
    npm.current_dir(&folder);
    Process::run("npm ci", npm, 2 * PATIENCE)?.success()?;
    Ok(folder)
}

/// The folder of initdb and postgres: Debian keeps them out of `PATH`. The newest release wins.
fn server_programs() -> Option<PathBuf> {
    let has_server = |folder: &PathBuf| {
        ["initdb", "postgres"]
            .iter()
            .all(|it| folder.join(it).is_file())
    };
    let releases = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let newest = releases
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path(),
            ))
        })
        .map(|(release, path)| (release, path.join("bin")))
        .filter(|(_, folder)| has_server(folder))
        .max();
    let in_path = || std::env::split_paths(&std::env::var_os("PATH")?).find(has_server);
    newest.map(|(_, folder)| folder).or_else(in_path)
}

/// A server's program as the user that may run it, in a folder where that user may be.
fn as_server_user(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    if rustix::process::geteuid().is_root() {
        command = Command::new("setpriv");
        command.args([
            "--reuid",
            SERVER_USER,
            "--regid",
            SERVER_USER,
            "--clear-groups",
        ]);
        // Without its parent the server stops by itself, at once and with its children.
        command.args(["--pdeathsig", "QUIT", "--"]).arg(program);
    }
    command.current_dir(folder).env("LC_ALL", "C");
    command
}

fn user_and_group(name: &str) -> Outcome<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd");
    let users = users.map_err(|error| Failure(format!("/etc/passwd: {error}")))?;
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        Some((fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    found.ok_or_else(|| {
        Failure(format!(
            "there is no user {name}, and PostgreSQL refuses root"
        ))
    })
}
