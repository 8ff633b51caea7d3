//! The `adit` program and its long-running processes.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;

use super::SHORTLY;
use crate::process::{Ended, Failure, Outcome, Process, eventually};

/// The `adit` program with all its features: `ADIT_BIN`, or built once in the profile of the tests.
pub fn adit() -> Outcome<&'static Path> {
    static PROGRAM: OnceLock<Outcome<PathBuf>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| match std::env::var_os("ADIT_BIN") {
        Some(path) => Ok(PathBuf::from(path)),
        None => escargot::CargoBuild::new()
            .manifest_path(workspace().join("Cargo.toml"))
            .package("proxy")
            .bin("adit")
            .features("store-postgres")
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
pub fn command<S: AsRef<OsStr>>(home: &Path, args: &[S]) -> Outcome<Command> {
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

/// Runs `adit` with these arguments and this state directory to its end, which must come
/// [`SHORTLY`].
pub fn run<S: AsRef<OsStr>>(home: &Path, args: &[S]) -> Outcome<Ended> {
    let command = command(home, args)?;
    let shown = command.get_args().collect::<Vec<_>>().join(OsStr::new(" "));
    Process::run(&format!("adit {}", shown.display()), command, SHORTLY)
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
        run(&self.home, &["health", "--ready"])
    }

    /// What `adit status --json` says now.
    pub fn status(&self) -> Outcome<serde_json::Value> {
        run(&self.home, &["status", "--json"])?.json()
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to drain (SIGTERM).
    pub fn terminate(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// Starts it again with the same arguments; a process that still runs is killed first.
    pub fn restart(&mut self) -> Outcome<()> {
        self.restart_with(&[])
    }

    /// The same with these arguments behind its own.
    pub fn restart_with(&mut self, more: &[&str]) -> Outcome<()> {
        self.process.kill();
        let mut command = command(&self.home, &self.args)?;
        command.args(more);
        self.process = Process::spawn(&self.name, command)?;
        Ok(())
    }

    /// From now on it is started without its ticket: a member needs none.
    pub fn forget_ticket(&mut self) {
        if let Some(at) = self.args.iter().position(|arg| arg == "--ticket") {
            self.args.drain(at..at + 2);
        }
    }

    /// The only file of this name in the state directories of its projects' nodes
    /// (`HOME/PROJECT/nodes/NODE/FILE`).
    pub fn state_file(&self, file: &str) -> Outcome<PathBuf> {
        let nodes = self.home.join(super::PROJECT).join("nodes");
        let fail = |what: String| Failure(format!("{}: {what}", nodes.display()));
        let entries = fs::read_dir(&nodes).map_err(|error| fail(error.to_string()))?;
        let mut found = entries
            .flatten()
            .map(|node| node.path().join(file))
            .filter(|path| path.is_file());
        match (found.next(), found.next()) {
            (Some(path), None) => Ok(path),
            (None, _) => Err(fail(format!("no {file}"))),
            (Some(_), Some(_)) => Err(fail(format!("more than one {file}"))),
        }
    }
}
