//! Signals and the child command: how a process is asked to end from outside.
//!
//! SIGTERM drains (the app in a pod gets it at the same moment and still has queries to make),
//! SIGHUP reads the configuration again, where there is one, and else ends the process as ever.
//! SIGINT finishes what is under way, a second one of either ends at once. With a command behind
//! `--`, both are forwarded to it and the portal ends after it, with its exit code.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::mpsc;

use super::driver::Stop;
use super::failure::{Exit, Failure, codes};
use super::log;
use super::portals::PortalChanges;
use super::process::Running;
use super::supervisor::{SOCKET_VARIABLE, Supervisor};
use super::worker_thread::use_huge_pages;
use crate::limits::DRAIN_DEADLINE;
use crate::protocol::core::{Level, LogRecord};

/// SIGTERM and SIGINT, from the moment this is made.
pub struct StopSignals {
    term: Signals,
    int: Signals,
    hangup: Option<Signals>,
}

fn taken(kind: SignalKind) -> Result<Signals, Failure> {
    let why = |error| Failure::new(codes::THREAD, Exit::Runtime, "can't handle signals", error);
    signal(kind).map_err(why)
}

impl StopSignals {
    /// Takes the signals over from their default, which would end the process.
    ///
    /// # Errors
    /// Descriptors are used up.
    pub fn new() -> Result<StopSignals, Failure> {
        Ok(StopSignals {
            term: taken(SignalKind::terminate())?,
            int: taken(SignalKind::interrupt())?,
            hangup: None,
        })
    }

    /// SIGHUP too, for [`run_reloading`].
    ///
    /// # Errors
    /// Descriptors are used up.
    pub fn with_hangup(mut self) -> Result<StopSignals, Failure> {
        self.hangup = Some(taken(SignalKind::hangup())?);
        Ok(self)
    }

    /// The next one.
    pub async fn next(&mut self) -> Stop {
        tokio::select! {
            _ = self.term.recv() => Stop::Drain,
            _ = self.int.recv() => Stop::Finish,
        }
    }

    /// Passes every one on.
    async fn forward(mut self, stop: mpsc::Sender<Stop>, supervisor: Option<Rc<Supervisor>>) {
        loop {
            let how = self.next().await;
            if let Some(supervisor) = &supervisor {
                supervisor.stopping();
            }
            if stop.send(how).await.is_err() {
                return;
            }
        }
    }
}

/// Reads the configuration of a process again: what changes, or why nothing does. What can't be changed
/// without a restart it logs itself.
pub type Reload = Box<dyn FnMut() -> Result<PortalChanges, Failure>>;

/// Runs a process until it was asked to end; SIGHUP has `reload` called.
///
/// # Errors
/// What made it end by itself.
pub async fn run_reloading(
    running: Running,
    mut signals: StopSignals,
    mut reload: Reload,
) -> Result<(), Failure> {
    let changes = running.changes();
    let Some(mut hangup) = signals.hangup.take() else {
        return run(running, signals).await;
    };
    let again = tokio::task::spawn_local(async move {
        while hangup.recv().await.is_some() {
            match reload() {
                Ok(read) => {
                    log::emit(&LogRecord::new(
                        Level::Info,
                        "the configuration was read again",
                    ));
                    if changes.send(read).await.is_err() {
                        return;
                    }
                }
                Err(failure) => {
                    let what = "the new configuration is refused; the one before stays in force";
                    let why = format!("{}: {}", failure.what, failure.why);
                    let record = LogRecord::new(Level::Error, what).code(failure.code);
                    log::emit(&record.with("why", why).with("mend", failure.mend()));
                }
            }
        }
    });
    let result = run(running, signals).await;
    again.abort();
    result
}

/// Runs a process until it was asked to end.
///
/// # Errors
/// What made it end by itself.
pub async fn run(running: Running, signals: StopSignals) -> Result<(), Failure> {
    let supervisor = follow(&running);
    until_ended(running, signals, supervisor).await
}

/// Has the service manager told of the process, if there is one.
fn follow(running: &Running) -> Option<Rc<Supervisor>> {
    let supervisor = Rc::new(Supervisor::named(std::env::var_os(SOCKET_VARIABLE))?);
    let (told, progress) = (Rc::clone(&supervisor), running.progress.clone());
    // Ends with the process's driver, which has the other end of `progress`.
    tokio::task::spawn_local(async move { told.follow(progress).await });
    Some(supervisor)
}

async fn until_ended(
    mut running: Running,
    signals: StopSignals,
    supervisor: Option<Rc<Supervisor>>,
) -> Result<(), Failure> {
    let forward = tokio::task::spawn_local(signals.forward(running.stopper(), supervisor));
    let result = running.ended().await;
    forward.abort();
    result
}

/// Runs a process and, when it is ready, the command; ends with the command. Returns its exit
/// code, as a shell would give it.
///
/// # Errors
/// What made the process end by itself, or that the command can't be started.
pub async fn run_with_child(
    mut running: Running,
    mut signals: StopSignals,
    command: &[OsString],
) -> Result<u8, Failure> {
    let stop = running.stopper();
    let supervisor = follow(&running);
    let early = tokio::select! {
        ready = running.until(|progress| progress.ready) => {
            ready?;
            None
        }
        how = signals.next() => Some(how),
    };
    if let Some(how) = early {
        let _ = stop.send(how).await;
        until_ended(running, signals, supervisor).await?;
        return Ok(0);
    }
    let started = spawn(command);
    let code = match started {
        Ok(child) => watch(child, &mut running, &mut signals).await,
        Err(failure) => Err(failure),
    };
    // What the command wrote last may still be on its way to the outlet.
    let _ = stop.send(Stop::Finish).await;
    let ended = until_ended(running, signals, supervisor).await;
    let code = code?;
    ended.map(|()| code)
}

async fn watch(
    mut child: Child,
    running: &mut Running,
    signals: &mut StopSignals,
) -> Result<u8, Failure> {
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| {
                    Failure::new(codes::CHILD, Exit::Runtime, "can't wait for the command", error)
                })?;
                return Ok(shell_code(status));
            }
            // A terminal sends SIGINT to the command itself.
            how = signals.next() => if !(how == Stop::Finish && std::io::stdin().is_terminal()) {
                forward(&child, how);
            },
            // The portal ended by itself: the command would only meet closed doors.
            failed = running.progress.wait_for(|_| false) => {
                debug_assert!(failed.is_err());
                forward(&child, Stop::Drain);
                let Ok(status) = tokio::time::timeout(DRAIN_DEADLINE, child.wait()).await else {
                    // It ignores SIGTERM.
                    let _ = child.kill().await;
                    return Ok(1);
                };
                return Ok(status.ok().map_or(1, shell_code));
            }
        }
    }
}

fn forward(child: &Child, how: Stop) {
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let signal = if how == Stop::Finish {
            Signal::INT
        } else {
            Signal::TERM
        };
        // It may have ended meanwhile; then there is nothing to forward to.
        let _ = kill_process(pid, signal);
    }
}

fn spawn(command: &[OsString]) -> Result<Child, Failure> {
    let (program, arguments) = command.split_first().ok_or_else(|| {
        Failure::usage(
            "there is no command behind --",
            "put the program and its arguments there",
        )
    })?;
    let mut child = Command::new(program);
    child
        .args(arguments)
        .stdin(Stdio::inherit())
        .kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if is_ours(&name) {
            child.env_remove(name);
        }
    }
    use_huge_pages(true);
    let started = child.spawn();
    use_huge_pages(false);
    started.map_err(|error| {
        let what = format!("can't start {}", program.to_string_lossy());
        Failure::new(codes::CHILD, Exit::Runtime, what, error)
    })
}

/// Whether a variable configures adit, and may hold a ticket, or lets its holder speak for this process: a
/// child never sees it.
fn is_ours(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"ADIT_") || name == SOCKET_VARIABLE
}

/// The exit code as a shell gives it: 128 and the signal's number for a command that was killed.
fn shell_code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_command_gives_128_and_the_signal() {
        assert_eq!(shell_code(ExitStatus::from_raw(0x0300)), 3);
        assert_eq!(shell_code(ExitStatus::from_raw(15)), 143);
    }

    #[test]
    fn every_variable_of_ours_is_kept_from_the_command() {
        assert!(is_ours("ADIT_TICKET".as_ref()));
        assert!(is_ours("ADIT_".as_ref()));
        assert!(is_ours("NOTIFY_SOCKET".as_ref()));
        assert!(!is_ours("PATH".as_ref()));
        assert!(!is_ours("MY_ADIT_TICKET".as_ref()));
    }
}
