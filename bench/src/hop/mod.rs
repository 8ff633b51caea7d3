//! One plain TCP hop, nothing sealed, in several ways: what the way of moving bytes costs by itself.
//!
//! | module | what it is |
//! |---|---|
//! | `engine` | adit's own engines, used directly: states, no futures |
//! | `tasks` | futures: tokio-uring, Tokio, and Tokio's readiness with splice(2) |
//! | [`load`] | a service and clients that know what must come back |
//!
//! A hop runs in a process of its own, so that its processor time is its own ([`serve`]); the
//! program `hop` starts them, puts load through them in turn and prints the table.

mod engine;
pub mod load;
mod tasks;

use std::io::{self, BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::str::FromStr;

use proxy::engine::{EngineConfig, Epoll, Uring};
use rustix::time::{ClockId, clock_gettime};

/// One receive, and so one send, of a hop: the same for all that have buffers.
const CHUNK: usize = 64 * 1024;

/// A way of making the hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// adit's engine on io_uring.
    Ring,
    /// adit's engine on epoll.
    Epoll,
    /// Futures on tokio-uring.
    TokioUring,
    /// Futures on Tokio, which is epoll.
    Tokio,
    /// splice(2) through a pipe, when Tokio says that a socket is ready.
    Splice,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [
        Kind::Ring,
        Kind::Epoll,
        Kind::TokioUring,
        Kind::Tokio,
        Kind::Splice,
    ];

    /// Its name on the command line and in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Ring => "ring",
            Kind::Epoll => "epoll",
            Kind::TokioUring => "tokio-uring",
            Kind::Tokio => "tokio",
            Kind::Splice => "splice",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Kind, String> {
        let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("{name} is no hop"))
    }
}

/// Runs a hop to `target` in this process. Prints its address, and then, for every line that comes on
/// standard input, the processor time of this process in nanoseconds. Ends with its input.
///
/// # Errors
/// The hop can't be made here.
pub fn serve(kind: Kind, target: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    std::thread::spawn(answer_with_cpu_time);
    forward(kind, listener, target)
}

/// Forwards every connection of the listener to the target, on this thread, without an end.
fn forward(kind: Kind, listener: TcpListener, target: SocketAddr) -> io::Result<()> {
    // A hop's buffers: two for each direction of the load's connections.
    let config = EngineConfig {
        sockets: 1024,
        buffers: [64, 16, 2048, 0],
        pipes: 0,
    };
    let failed = |error| io::Error::other(format!("{}: {error}", kind.name()));
    match kind {
        Kind::Ring => engine::forward(Uring::open(&config).map_err(failed)?, listener, target),
        Kind::Epoll => engine::forward(Epoll::open(&config).map_err(failed)?, listener, target),
        Kind::TokioUring => tasks::on_tokio_uring(listener, target),
        Kind::Tokio => tasks::on_tokio(listener, target, tasks::copy),
        Kind::Splice => tasks::on_tokio(listener, target, tasks::splice),
    }
}

fn answer_with_cpu_time() {
    for line in io::stdin().lock().lines() {
        if line.is_err() {
            break;
        }
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let nanos = time.tv_sec * 1_000_000_000 + time.tv_nsec;
        if writeln!(io::stdout(), "{nanos}").is_err() {
            break;
        }
    }
    std::process::exit(0);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The load's own checks fail where bytes are lost or changed.
    #[test]
    fn every_hop_carries_bulk_and_messages() {
        let service = load::service().expect("a service");
        let uring = proxy::engine::decide(proxy::engine::Choice::Uring);
        for kind in Kind::ALL {
            if matches!(kind, Kind::Ring | Kind::TokioUring)
                && let Err(why) = &uring
            {
                println!("SKIPPED: {}: {why}", kind.name());
                continue;
            }
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            let address = listener.local_addr().expect("an address");
            std::thread::spawn(move || forward(kind, listener, service));
            let time = Duration::from_millis(100);
            for _ in 0..2 {
                let bulk = load::bulk(address, time);
                assert!(bulk.is_ok_and(|done| done.amount > 0), "{}", kind.name());
                let small = load::small(address, time);
                assert!(small.is_ok_and(|done| done.amount > 0), "{}", kind.name());
            }
        }
    }
}
