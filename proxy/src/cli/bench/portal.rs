//! A portal of the benchmark's own: authority and relay, outlet and inlet, each a process of this
//! same program with a state directory that is removed at the end.

use std::ffi::OsStr;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::plan::Counted;
use crate::cli::reach;
use crate::cli::scratch::Scratch;
use crate::cli::settings::Settings;
use crate::control::admin::wire::Call;
use crate::control::failure::{Exit, Failure, codes};
use crate::control::files::Home;
use crate::limits::BENCH_START_DEADLINE;

const PROJECT: &str = "bench";
const ADDRESS: &str = "bench";
const OUTLET_RULE: &str = "bench-outlet=true";
const INLET_RULE: &str = "bench-inlet=true";

/// Between two looks at a process that is starting.
const PAUSE: Duration = Duration::from_millis(10);

/// A running portal. Dropping it ends its processes.
pub(super) struct OwnPortal {
    // Before the directory that they use.
    parts: Vec<Part>,
    /// Where apps connect to.
    pub(super) entry: SocketAddr,
    /// The engine that its processes chose.
    pub(super) engine: String,
    _scratch: Scratch,
}

impl OwnPortal {
    /// Starts one that leads to `service`, and waits until it is ready.
    ///
    /// # Errors
    /// A process could not be started, ended, or was not ready in time; with the end of its log.
    pub(super) fn start(settings: &Settings, service: SocketAddr) -> Result<OwnPortal, Failure> {
        let scratch = Scratch::new("bench")?;
        let maker = Maker {
            settings,
            root: scratch.path(),
        };
        let public = free_address()?.to_string();
        maker.run(&["project", "create", PROJECT, "--address", &public])?;
        let ready_by = Instant::now() + BENCH_START_DEADLINE;
        let mut serve = maker.start("serve", None, &["serve", "--listen", &public])?;
        serve.ready(ready_by)?;

        let serving = ["--attribute", OUTLET_RULE, "--may-serve", ADDRESS];
        let serving = maker.ticket("outlet", &serving)?;
        let target = service.to_string();
        let outlet = ["outlet", "--at", ADDRESS, "--to", &target];
        let outlet = [&outlet[..], &["--allow", INLET_RULE]].concat();
        let mut outlet = maker.start("outlet", Some(&serving), &outlet)?;
        outlet.ready(ready_by)?;

        let using = maker.ticket("inlet", &["--attribute", INLET_RULE])?;
        let inlet = ["inlet", "--via", ADDRESS, "--from", "127.0.0.1:0"];
        let inlet = [&inlet[..], &["--allow", OUTLET_RULE]].concat();
        let mut inlet = maker.start("inlet", Some(&using), &inlet)?;
        inlet.ready(ready_by)?;

        let status = inlet.ask(&Call::Status)?;
        let entry = status["listening"][0]["address"].as_str();
        let entry = entry.and_then(|address| address.parse().ok());
        let entry = entry.ok_or_else(|| inlet.failed("it does not say where it listens"))?;
        let engine = status["engine"]["kind"].as_str().unwrap_or("unknown");
        Ok(OwnPortal {
            entry,
            engine: engine.to_owned(),
            parts: vec![inlet, serve, outlet],
            _scratch: scratch,
        })
    }

    /// Its processes, in the order of the way through them.
    pub(super) fn processes(&self) -> Vec<Counted> {
        let counted = |part: &Part| Counted {
            role: part.role,
            id: part.child.id(),
        };
        self.parts.iter().map(counted).collect()
    }
}

/// Makes the parts of one portal.
struct Maker<'a> {
    settings: &'a Settings,
    root: &'a Path,
}

impl Maker<'_> {
    /// This program in the home of a role, and nothing of the caller's environment that it would
    /// heed.
    fn command(&self, role: &str) -> Result<Command, Failure> {
        let program = std::env::current_exe().map_err(|error| start_failure(role, &error))?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"ADIT_") {
                command.env_remove(name);
            }
        }
        command
            .env("ADIT_HOME", self.root.join(role))
            .env("ADIT_ENGINE", self.settings.engine.name())
            .env("ADIT_WORKERS", self.settings.workers.to_string())
            .env("ADIT_SPIN", self.settings.spin.as_micros().to_string())
            .env("ADIT_LOG_LEVEL", "warn")
            .stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command at the authority's home to its end. Returns what it printed.
    fn run(&self, args: &[&str]) -> Result<String, Failure> {
        let what = || format!("adit {}", args.join(" "));
        let mut command = self.command("serve")?;
        let output = command.args(args).output();
        let output = output.map_err(|error| start_failure(&what(), &error))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(start_failure(&what(), &said.trim()))
        }
    }

    fn ticket(&self, name: &str, grants: &[&str]) -> Result<String, Failure> {
        let create = ["ticket", "create", "--name", name];
        let printed = self.run(&[&create[..], grants].concat())?;
        Ok(printed.trim().to_owned())
    }

    /// Starts a process that stays.
    fn start(
        &self,
        role: &'static str,
        ticket: Option<&str>,
        args: &[impl AsRef<OsStr>],
    ) -> Result<Part, Failure> {
        let log = self.root.join(format!("{role}.log"));
        let failed = |error: &std::io::Error| start_failure(role, error);
        let to_log = File::create(&log).map_err(|error| failed(&error))?;
        let mut command = self.command(role)?;
        if let Some(ticket) = ticket {
            command.env("ADIT_TICKET", ticket);
        }
        // In a group of its own, so that what is typed at the terminal ends the benchmark, and it
        // ends them.
        command
            .args(args)
            .stdout(Stdio::null())
            .stderr(to_log)
            .process_group(0);
        let child = command.spawn().map_err(|error| failed(&error))?;
        Ok(Part {
            role,
            child,
            settings: Settings {
                home: Home::at(self.root.join(role)),
                project: None,
                ..self.settings.clone()
            },
            log,
        })
    }
}

/// One process.
struct Part {
    role: &'static str,
    child: Child,
    settings: Settings,
    log: PathBuf,
}

impl Part {
    /// Waits until it says that it can do its work.
    fn ready(&mut self, by: Instant) -> Result<(), Failure> {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.failed(&format!("it ended ({status})")));
            }
            let health = self.ask(&Call::Health);
            if matches!(&health, Ok(health) if health["ready"] == true) {
                return Ok(());
            }
            if Instant::now() > by {
                let why = match health {
                    Ok(health) => health["why"].to_string(),
                    Err(failure) => failure.to_string(),
                };
                return Err(self.failed(&format!("it did not become ready: {why}")));
            }
            thread::sleep(PAUSE);
        }
    }

    fn ask(&self, call: &Call) -> Result<Value, Failure> {
        let mut processes = reach::processes(&self.settings, None)?;
        match processes.first_mut() {
            Some(process) => process.client.call(call),
            None => Err(self.failed("it does not answer")),
        }
    }

    fn failed(&self, why: &str) -> Failure {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        match log.lines().last() {
            Some(last) => start_failure(self.role, &format!("{why}; its last words: {last}")),
            None => start_failure(self.role, &why),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Nothing of it is to be kept, so it need not end in good order.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start_failure(what: &str, why: &dyn std::fmt::Display) -> Failure {
    let what = format!("can't start the benchmark's portal ({what})");
    Failure::new(codes::BENCH, Exit::Runtime, what, why)
}

/// An address for a process that must be told where to listen before it starts. The port comes from
/// the kernel, on a loopback address that nothing else is likely to use: it is not taken meanwhile.
fn free_address() -> Result<SocketAddr, Failure> {
    let [a, b, c] = crypto::random::bytes(&mut crypto::SystemRandom::new());
    let ip = Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254));
    TcpListener::bind((ip, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| start_failure("a port", &error))
}
