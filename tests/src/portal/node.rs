//! The `adit` program and its long-running processes.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::Signal;

use super::SHORTLY;
use crate::process::{Ended, Failure, Outcome, Process, eventually};

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
