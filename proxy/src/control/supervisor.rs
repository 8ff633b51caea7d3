//! Tells the service manager that started this process how far it is: the protocol of sd_notify(3), which
//! is one datagram of `NAME=VALUE` lines to the socket that `NOTIFY_SOCKET` names.
//!
//! `READY=1` is said once everything that this process opens is open. That a portal can carry a connection
//! depends on others and may take until somebody makes a ticket, so it is in `STATUS` only: a manager would
//! end a process whose start takes too long. Where no manager asks, nothing is sent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use tokio::sync::watch;

use super::driver::Progress;
use super::log;
use crate::protocol::core::{Level, LogRecord};

/// Names the manager's socket: a path, or after `@` an abstract name. A command behind `--` doesn't get it.
pub const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// A service manager that wants to be told.
pub struct Supervisor {
    socket: UnixDatagram,
}

impl Supervisor {
    /// The one whose socket the variable names. A socket that can't be reached is logged and then left alone.
    pub fn named(socket: Option<OsString>) -> Option<Supervisor> {
        let name = socket.filter(|name| !name.is_empty())?;
        match connect(&name) {
            Ok(socket) => Some(Supervisor { socket }),
            Err(error) => {
                let what = "can't tell the service manager how far this process is";
                let record = LogRecord::new(Level::Warn, what);
                log::emit(&record.with("socket", name.display()).with("why", error));
                None
            }
        }
    }

    /// Says that this process has started, and from then on what it has reached.
    pub async fn follow(&self, mut progress: watch::Receiver<Progress>) {
        let mut told = status(&progress.borrow_and_update());
        self.tell(&format!("READY=1\nSTATUS={told}"));
        while progress.changed().await.is_ok() {
            // It is written anew at every look, mostly without a change.
            let now = status(&progress.borrow_and_update());
            if now != told {
                self.tell(&format!("STATUS={now}"));
                told = now;
            }
        }
    }

    /// Says that this process is ending.
    pub fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing what is under way");
    }

    fn tell(&self, state: &str) {
        // A manager that went away or has a full queue is no reason to end or to wait.
        let _ = self.socket.send(state.as_bytes());
    }
}

fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

fn status(progress: &Progress) -> &'static str {
    match (progress.ready, progress.enrolled) {
        (true, _) => "ready",
        (false, true) => "not ready; adit status says why",
        (false, false) => "not a member, not ready; adit status says why",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn an_abstract_socket_is_found_behind_its_at_sign() {
        let name = format!("adit-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let told = Supervisor::named(Some(format!("@{name}").into())).unwrap();
        told.stopping();
        let mut buffer = [0; 64];
        let length = manager.recv(&mut buffer).unwrap();
        assert!(buffer[..length].starts_with(b"STOPPING=1\n"));
    }

    #[test]
    fn nobody_is_told_where_nobody_asks() {
        assert!(Supervisor::named(None).is_none());
        assert!(Supervisor::named(Some(OsString::new())).is_none());
        assert!(Supervisor::named(Some("/nowhere/socket".into())).is_none());
    }
}
