//! A project with its relay, an outlet and an inlet, each a process of its own, as users run them.
//!
//! Every process has its own `ADIT_HOME`: the three sides share nothing but the ticket files that
//! the administrator hands out. A [`Project`] starts authority and relay only and lets a test do
//! the rest by hand; a [`Portal`] is the good case, ready for apps. [`Way`] lets the same test run
//! with no portal between, which shows that a failure is not the fixture's own.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Ended, Failure, Outcome, Process, eventually, skipped};
use crate::tcp;

/// A command that prints and ends must have ended by then.
pub const SHORTLY: Duration = Duration::from_secs(10);
/// A process that was just started must be ready by then.
pub const START: Duration = Duration::from_secs(15);
/// The project that the fixtures make.
pub const PROJECT: &str = "acme";
/// The relay address that portals of the fixtures use.
pub const ADDRESS: &str = "db";
/// What an outlet demands of an inlet in the good case.
pub const INLET_RULE: &str = "db-inlet=true";
/// What an inlet demands of an outlet in the good case.
pub const OUTLET_RULE: &str = "db-outlet=true";

/// Which engine the processes of a portal use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// io_uring, and no fallback.
    Uring,
    /// epoll.
    Epoll,
}

impl Engine {
    /// The value of `--engine`.
    pub fn name(self) -> &'static str {
        match self {
            Engine::Uring => "uring",
            Engine::Epoll => "epoll",
        }
    }

    /// Can it run on this machine? Says so with a `SKIPPED` line where it can't.
    pub fn is_possible(self, test: &str) -> bool {
        let switch = fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
        if self == Engine::Uring && switch.trim() == "2" {
            skipped(
                test,
                "io_uring is switched off here (sysctl kernel.io_uring_disabled)",
            );
            return false;
        }
        true
    }
}

/// The `adit` program: `ADIT_BIN`, or built once in the profile of the tests.
pub fn adit() -> Outcome<&'static Path> {
    static PROGRAM: OnceLock<Outcome<PathBuf>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| match std::env::var_os("ADIT_BIN") {
        Some(path) => Ok(PathBuf::from(path)),
        None => escargot::CargoBuild::new()
            .manifest_path(workspace().join("Cargo.toml"))
            .package("proxy")
            .bin("adit")
            .run()
            .map(|run| run.path().to_owned())
            .map_err(|error| Failure(format!("building adit: {error}"))),
    });
    built.as_deref().map_err(Clone::clone)
}

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// `adit` with these arguments and this state directory, and nothing of the caller's environment
/// that it would heed.
pub fn command<S: AsRef<std::ffi::OsStr>>(home: &Path, args: &[S]) -> Outcome<Command> {
    let mut command = Command::new(adit()?);
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"ADIT_") {
            command.env_remove(name);
        }
    }
    // HOME too: what should go into the state directory must not end up in the user's own.
    command
        .env("ADIT_HOME", home)
        .env("HOME", home)
        .current_dir(home)
        .args(args);
    Ok(command)
}

/// A long-running `adit` process with its state directory; it can be started again.
pub struct Node {
    name: String,
    home: PathBuf,
    args: Vec<OsString>,
    process: Process,
}

impl Node {
    /// Starts `adit` with these arguments.
    pub fn start(name: &str, home: &Path, args: Vec<OsString>) -> Outcome<Node> {
        let process = Process::spawn(name, command(home, &args)?)?;
        Ok(Node {
            name: name.to_owned(),
            home: home.to_owned(),
            args,
            process,
        })
    }

    /// The running process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its state directory.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Waits until `adit health --ready` says that it can do its work.
    pub fn wait_ready(&mut self, within: Duration) -> Outcome<()> {
        let name = self.name.clone();
        let ready = eventually(&format!("{name} is ready"), within, || {
            if !self.process.runs() {
                return Err(Failure(format!("{name} has ended")));
            }
            self.health()?.success()
        });
        ready.map(|_| ())
    }

    /// What `adit health --ready` says now.
    pub fn health(&self) -> Outcome<Ended> {
        let health = command(&self.home, &["health", "--ready"])?;
        Process::run(&format!("health of {}", self.name), health, SHORTLY)
    }

    /// What `adit status --json` says now.
    pub fn status(&self) -> Outcome<serde_json::Value> {
        let status = command(&self.home, &["status", "--json"])?;
        let said = Process::run(&format!("status of {}", self.name), status, SHORTLY)?.success()?;
        serde_json::from_slice(&said.stdout)
            .map_err(|error| Failure(format!("status of {}: {error}: {}", self.name, said.text())))
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops it (SIGSTOP): it lives, and does nothing.
    pub fn stop(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on after [`Node::stop`].
    pub fn resume(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// Asks it to drain (SIGTERM).
    pub fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// Starts it again with the same arguments; a process that still runs is killed first.
    pub fn restart(&mut self) -> Outcome<()> {
        self.process.kill();
        self.process = Process::spawn(&self.name, command(&self.home, &self.args)?)?;
        Ok(())
    }
}

/// A project whose authority and relay run in one process (`adit serve`).
pub struct Project {
    /// Authority and relay.
    pub serve: Node,
    engine: Engine,
    public: SocketAddr,
    folder: TempDir,
}

impl Project {
    /// Creates a project in a new folder and waits until its relay is ready.
    pub fn start(engine: Engine) -> Outcome<Project> {
        Project::start_at(engine, tcp::own_address()?)
    }

    /// The same at a given public address.
    pub fn start_at(engine: Engine, public: SocketAddr) -> Outcome<Project> {
        let folder = TempDir::with_prefix("adit-test-");
        let folder = folder.map_err(|error| Failure(format!("making a folder: {error}")))?;
        let home = new_home(&folder, "authority")?;
        let create = [
            "project",
            "create",
            PROJECT,
            "--address",
            &public.to_string(),
        ];
        Process::run("project create", command(&home, &create)?, SHORTLY)?.success()?;
        let args = [
            "serve",
            "--listen",
            &public.to_string(),
            "--engine",
            engine.name(),
        ];
        let serve = Node::start("serve", &home, args.map(OsString::from).into())?;
        let mut project = Project {
            serve,
            engine,
            public,
            folder,
        };
        project.serve.wait_ready(START)?;
        Ok(project)
    }

    /// The one public address: members, strangers, everybody comes here.
    pub fn public(&self) -> SocketAddr {
        self.public
    }

    /// Runs an administrator's command where the authority lives.
    pub fn admin(&self, args: &[&str]) -> Outcome<Ended> {
        let what = format!("adit {}", args.join(" "));
        Process::run(&what, command(self.serve.home(), args)?, SHORTLY)
    }

    /// Makes a ticket (`adit ticket create --name NAME …`) and returns the file that holds it.
    pub fn ticket(&self, name: &str, more: &[&str]) -> Outcome<PathBuf> {
        let mut args = vec!["ticket", "create", "--name", name];
        args.extend(more);
        let ticket = self.admin(&args)?.success()?;
        let file = self.folder.path().join(format!("{name}.ticket"));
        fs::write(&file, &ticket.stdout)
            .map_err(|error| Failure(format!("writing {}: {error}", file.display())))?;
        Ok(file)
    }

    /// A new, empty state directory on this project's "machine".
    pub fn home(&self, name: &str) -> Outcome<PathBuf> {
        new_home(&self.folder, name)
    }

    /// Starts an outlet that serves [`ADDRESS`] and leads to `target`; doesn't wait for it.
    pub fn outlet(
        &self,
        name: &str,
        ticket: &Path,
        target: SocketAddr,
        allow: &str,
    ) -> Outcome<Node> {
        let target = target.to_string();
        let to = ["--at", ADDRESS, "--to", &target, "--allow", allow];
        self.node(name, "outlet", ticket, &to)
    }

    /// Starts an inlet that listens on `entry` and leads to [`ADDRESS`]; doesn't wait for it.
    pub fn inlet(
        &self,
        name: &str,
        ticket: &Path,
        entry: SocketAddr,
        allow: &str,
    ) -> Outcome<Node> {
        let entry = entry.to_string();
        let from = ["--via", ADDRESS, "--from", &entry, "--allow", allow];
        self.node(name, "inlet", ticket, &from)
    }

    /// Starts `adit KIND --ticket … --engine …` with more arguments in a state directory of its own.
    pub fn node(&self, name: &str, kind: &str, ticket: &Path, more: &[&str]) -> Outcome<Node> {
        let mut args: Vec<OsString> = vec![kind.into(), "--ticket".into(), ticket.into()];
        args.extend(["--engine", self.engine.name()].map(OsString::from));
        args.extend(more.iter().map(OsString::from));
        Node::start(name, &self.home(name)?, args)
    }

    /// A ticket that lets its redeemer be the outlet of the good case.
    pub fn outlet_ticket(&self, name: &str) -> Outcome<PathBuf> {
        self.ticket(name, &["--attribute", OUTLET_RULE, "--may-serve", ADDRESS])
    }

    /// A ticket that lets its redeemer be the inlet of the good case.
    pub fn inlet_ticket(&self, name: &str) -> Outcome<PathBuf> {
        self.ticket(name, &["--attribute", INLET_RULE])
    }
}

fn new_home(folder: &TempDir, name: &str) -> Outcome<PathBuf> {
    let home = folder.path().join(name);
    fs::create_dir_all(&home)
        .map_err(|error| Failure(format!("making {}: {error}", home.display())))?;
    Ok(home)
}

/// A whole portal, ready for apps.
pub struct Portal {
    /// The app's side.
    pub inlet: Node,
    /// The target's side.
    pub outlet: Node,
    /// Authority and relay, between and apart from the two.
    pub project: Project,
    entry: SocketAddr,
}

impl Portal {
    /// Starts everything and waits until the inlet says that it can carry a connection.
    pub fn start(engine: Engine, target: SocketAddr) -> Outcome<Portal> {
        let project = Project::start(engine)?;
        let entry = tcp::own_address()?;
        let (serving, using) = (
            project.outlet_ticket("outlet")?,
            project.inlet_ticket("inlet")?,
        );
        let mut outlet = project.outlet("outlet", &serving, target, INLET_RULE)?;
        outlet.wait_ready(START)?;
        let mut inlet = project.inlet("inlet", &using, entry, OUTLET_RULE)?;
        inlet.wait_ready(START)?;
        Ok(Portal {
            inlet,
            outlet,
            project,
            entry,
        })
    }

    /// Where apps connect to.
    pub fn entry(&self) -> SocketAddr {
        self.entry
    }

    /// One of the three processes.
    pub fn node(&mut self, part: Part) -> &mut Node {
        match part {
            Part::Inlet => &mut self.inlet,
            Part::Serve => &mut self.project.serve,
            Part::Outlet => &mut self.outlet,
        }
    }
}

/// The processes of a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The app's side.
    Inlet,
    /// Authority and relay.
    Serve,
    /// The target's side.
    Outlet,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 3] = [Part::Inlet, Part::Serve, Part::Outlet];
}

/// How a test's client reaches its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// With nothing between: whether the test itself is right.
    Direct,
    /// Through a portal.
    Through(Engine),
}

impl Way {
    /// Opens it. `None` where it can't be on this machine; a `SKIPPED` line says why.
    pub fn open(self, target: SocketAddr) -> Outcome<Option<Route>> {
        match self {
            Way::Direct => Ok(Some(Route {
                entry: target,
                portal: None,
            })),
            Way::Through(engine) if engine.is_possible("a way through a portal") => {
                let portal = Portal::start(engine, target)?;
                Ok(Some(Route {
                    entry: portal.entry(),
                    portal: Some(portal),
                }))
            }
            Way::Through(_) => Ok(None),
        }
    }
}

/// An open [`Way`].
pub struct Route {
    /// Where the client connects to.
    pub entry: SocketAddr,
    /// The portal on the way, if there is one.
    pub portal: Option<Portal>,
}

/// Makes tests of functions that take a [`Way`]: one directly, one through each engine.
#[macro_export]
macro_rules! on_every_way {
    ($($name:ident),* $(,)?) => {
        mod direct {
            $(#[test] fn $name() { super::$name($crate::portal::Way::Direct); })*
        }
        mod uring {
            use $crate::portal::{Engine, Way};
            $(#[test] fn $name() { super::$name(Way::Through(Engine::Uring)); })*
        }
        mod epoll {
            use $crate::portal::{Engine, Way};
            $(#[test] fn $name() { super::$name(Way::Through(Engine::Epoll)); })*
        }
    };
}

/// Makes tests of functions that take an [`Engine`]: one for each that is possible here.
#[macro_export]
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod uring {
            use $crate::portal::Engine;
            $(#[test] fn $name() {
                if Engine::Uring.is_possible(stringify!($name)) {
                    super::$name(Engine::Uring);
                }
            })*
        }
        mod epoll {
            $(#[test] fn $name() { super::$name($crate::portal::Engine::Epoll); })*
        }
    };
}
