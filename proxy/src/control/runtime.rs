//! The runtime of the control thread: Tokio on a ring where io_uring works, plain Tokio elsewhere.
//!
//! Tasks stay on the thread in both, so nothing of control is `Send` that need not be. Sockets,
//! signals and timers are Tokio's own types in both; only files differ (see
//! [`files`](super::files)).

use std::future::Future;
use std::io;

use super::failure::{Exit, Failure, codes};
use crate::engine::Kind;
use crate::limits::CONTROL_RING_ENTRIES;

/// A current-thread runtime with local tasks.
pub enum Runtime {
    /// tokio-uring's: a Tokio runtime whose driver is a ring.
    Uring(tokio_uring::Runtime),
    /// Tokio's own.
    Plain(tokio::runtime::Runtime),
}

impl Runtime {
    /// Opens the runtime that goes with the worker's engine: with `Kind::Uring` on a ring. Where
    /// that ring is denied after all (a memlock limit that the worker's ring used up), plain Tokio
    /// takes over; `status` names the worker's engine, which is the one that matters.
    ///
    /// # Errors
    /// Descriptors or memory are used up.
    pub fn open(kind: Kind) -> io::Result<Runtime> {
        if kind == Kind::Uring {
            // Not `tokio_uring::start()`: that panics where io_uring is denied.
            let mut builder = tokio_uring::builder();
            builder.entries(CONTROL_RING_ENTRIES);
            if let Ok(runtime) = tokio_uring::Runtime::new(&builder) {
                return Ok(Runtime::Uring(runtime));
            }
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Runtime::Plain(runtime))
    }

    /// The same as a command's failure.
    ///
    /// # Errors
    /// As [`Runtime::open`].
    pub fn for_control(kind: Kind) -> Result<Runtime, Failure> {
        Runtime::open(kind).map_err(|error| {
            Failure::new(
                codes::THREAD,
                Exit::Runtime,
                "can't start the runtime",
                error,
            )
        })
    }

    /// Whether files may be written on the ring.
    pub fn has_ring(&self) -> bool {
        matches!(self, Runtime::Uring(_))
    }

    /// Runs a future, and the local tasks it spawns, to its end.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Runtime::Uring(runtime) => runtime.block_on(future),
            Runtime::Plain(runtime) => {
                let local = tokio::task::LocalSet::new();
                runtime.block_on(local.run_until(future))
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn both_runtimes_run_local_tasks() {
        for kind in [Kind::Uring, Kind::Epoll] {
            let runtime = Runtime::open(kind).unwrap();
            let answer =
                runtime.block_on(async { tokio::task::spawn_local(async { 42 }).await.unwrap() });
            assert_eq!(answer, 42);
        }
    }

    #[test]
    fn epoll_never_opens_a_ring() {
        assert!(!Runtime::open(Kind::Epoll).unwrap().has_ring());
    }
}
