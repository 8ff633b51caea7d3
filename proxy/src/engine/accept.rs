//! What a listening socket does when descriptors, memory or places are used up.
//!
//! Accepting rests for [`ACCEPT_PAUSE`] and tries again: connections wait in the backlog
//! meanwhile, and nothing spins. When that goes on for [`ACCEPT_PAUSES_MAX`] rests, the reserve
//! descriptor is given up for a moment to accept the connection that waited longest and reset it:
//! one refusal per rest, because a client must not wait for ever without a word.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::net::{self, SocketFlags};

use super::config::Close;
use super::op::{Errno, SockRef};
use super::os;
use crate::limits::{ACCEPT_PAUSE, ACCEPT_PAUSES_MAX};
use crate::time::Instant;

/// What an error of accept(2) means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AcceptError {
    /// Nobody is waiting.
    Empty,
    /// That connection is gone or the call was interrupted: try the next.
    Again,
    /// Descriptors or memory are used up: rest.
    Exhausted,
    /// The socket can't accept at all.
    Fatal,
}

/// Linux's accept(2) also returns the pending network errors of the new connection.
pub(super) fn classify(e: Errno) -> AcceptError {
    use rustix::io::Errno as E;
    let Errno(raw) = e;
    let is = |list: &[E]| list.iter().any(|e| e.raw_os_error() == raw);
    if is(&[E::AGAIN]) {
        AcceptError::Empty
    } else if is(&[E::MFILE, E::NFILE, E::NOBUFS, E::NOMEM]) {
        AcceptError::Exhausted
    } else if is(&[E::BADF, E::INVAL, E::NOTSOCK, E::OPNOTSUPP, E::FAULT]) {
        AcceptError::Fatal
    } else {
        AcceptError::Again
    }
}

/// The listening sockets that rest, and the reserve descriptor.
#[derive(Debug)]
pub(super) struct Rests {
    /// Few: one per listening socket at most.
    resting: Vec<(SockRef, Instant)>,
    reserve: Option<OwnedFd>,
}

impl Rests {
    /// Nobody rests. Without a reserve (no `/dev/null`) connections only wait.
    pub(super) fn new() -> Rests {
        Rests {
            resting: Vec::new(),
            reserve: open_reserve(),
        }
    }

    /// `listener` could not accept at `now`, for the `tries`th time in a row: it rests. Refuses
    /// one waiting connection when that has gone on for too long.
    pub(super) fn begin(&mut self, name: SockRef, fd: BorrowedFd<'_>, tries: u32, now: Instant) {
        if tries > ACCEPT_PAUSES_MAX {
            self.refuse_one(fd);
        }
        self.resting.push((name, now + ACCEPT_PAUSE));
    }

    fn refuse_one(&mut self, listener: BorrowedFd<'_>) {
        drop(self.reserve.take());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        if let Ok(fd) = net::accept_with(listener, flags) {
            os::prepare_close(fd.as_fd(), Close::Reset);
        }
        self.reserve = open_reserve();
    }

    /// When the next rest ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.resting.iter().map(|&(_, until)| until).min()
    }

    /// One listening socket whose rest is over at `now`.
    pub(super) fn over(&mut self, now: Instant) -> Option<SockRef> {
        let i = self.resting.iter().position(|&(_, until)| until <= now)?;
        Some(self.resting.swap_remove(i).0)
    }

    /// Ends a rest early, because its `Accept` was cancelled.
    pub(super) fn forget(&mut self, name: SockRef) {
        self.resting.retain(|&(n, _)| n != name);
    }
}

fn open_reserve() -> Option<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
}
