//! Pipes for bulk: bytes move from socket to pipe to socket by splice(2), which passes pages on
//! instead of copying them.
//!
//! # Invariants
//! - Both ends and both sockets are non-blocking: splice(2) on a socket that blocks blocks whatever
//!   its flags say.
//! - [`Pipe::held`] = bytes moved in − bytes moved out, always: a full pipe and an empty socket give
//!   the same EAGAIN, so whoever does not count can't tell them apart.
//! - A pipe that is kept for the next direction is empty: nobody gets bytes of another.
//! - Pipes out + pipes kept ≤ the most that the engine may have, and so are their descriptors.
//!
//! A kernel where splice(2) does not work on sockets (a sandbox's, a user-space network stack)
//! shows that at the first attempt; from then on there are no pipes.

#[cfg(feature = "sim")]
use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno as SysErrno;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

use super::leak;
use crate::limits::{PIPE_SIZE, PIPE_SIZE_LEAST, PIPES_KEPT, PIPES_MAX};

#[derive(Debug)]
enum Ends {
    Kernel {
        read: OwnedFd,
        write: OwnedFd,
    },
    #[cfg(feature = "sim")]
    Simulated(VecDeque<u8>),
}

/// A pipe of one direction of a bulk relay, from [`Engine::pipe`](super::Engine::pipe). Not
/// `Clone`; give it back with [`Engine::recycle`](super::Engine::recycle). Dropping one is a bug
/// that debug builds report (see [`leaks`](super::leaks)).
#[derive(Debug)]
pub struct Pipe {
    ends: Ends,
    held: usize,
    size: usize,
    out: bool,
}

impl Pipe {
    /// Bytes that were moved in and not out.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Most bytes that it may hold. It counts in pages, so small pieces fill it earlier.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Makes one.
    ///
    /// # Errors
    /// What pipe2 says (EMFILE, ENFILE, ENOMEM); EPERM when the kernel gives this user only small
    /// pipes any more (pipe-user-pages-soft).
    pub(super) fn open() -> io::Result<Pipe> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let size = match fcntl_setpipe_size(&write, PIPE_SIZE) {
            Ok(size) => size,
            Err(_) => fcntl_getpipe_size(&write)?,
        };
        if size < PIPE_SIZE_LEAST {
            return Err(SysErrno::PERM.into());
        }
        Ok(Pipe {
            ends: Ends::Kernel { read, write },
            held: 0,
            size,
            out: false,
        })
    }

    /// Moves up to `max` bytes in that have arrived on a non-blocking socket.
    pub(super) fn fill(&mut self, from: BorrowedFd<'_>, max: usize) -> io::Result<usize> {
        let write = match &self.ends {
            Ends::Kernel { write, .. } => write,
            #[cfg(feature = "sim")]
            Ends::Simulated(_) => return Err(foreign()),
        };
        let moved = retried(|| splice(from, None, write, None, max, SpliceFlags::NONBLOCK))?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what a non-blocking socket takes out. A broken connection raises SIGPIPE, which
    /// Rust's runtime has the process ignore.
    pub(super) fn drain(&mut self, to: BorrowedFd<'_>) -> io::Result<usize> {
        if self.held == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (read, len) = match &self.ends {
            Ends::Kernel { read, .. } => (read, self.held),
            #[cfg(feature = "sim")]
            Ends::Simulated(_) => return Err(foreign()),
        };
        let moved = retried(|| splice(read, None, to, None, len, SpliceFlags::NONBLOCK))?;
        debug_assert!(moved <= self.held, "more came out than went in");
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }
}

#[cfg(feature = "sim")]
impl Pipe {
    /// One of a simulated kernel.
    pub(super) fn simulated(size: usize) -> Pipe {
        Pipe {
            ends: Ends::Simulated(VecDeque::new()),
            held: 0,
            size,
            out: false,
        }
    }

    /// What a simulated one holds, to be changed; [`Pipe::count`] must follow.
    pub(super) fn bytes(&mut self) -> Option<&mut VecDeque<u8>> {
        match &mut self.ends {
            Ends::Kernel { .. } => None,
            Ends::Simulated(bytes) => Some(bytes),
        }
    }

    /// Counts what a simulated one holds.
    pub(super) fn count(&mut self) {
        if let Ends::Simulated(bytes) = &self.ends {
            self.held = bytes.len();
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if self.out {
            leak::report("pipe");
        }
    }
}

#[cfg(feature = "sim")]
fn foreign() -> io::Error {
    debug_assert!(false, "a pipe of another engine");
    SysErrno::BADF.into()
}

/// Makes the call until no signal interrupts it.
fn retried(mut call: impl FnMut() -> Result<usize, SysErrno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(SysErrno::INTR) => {}
            done => return Ok(done?),
        }
    }
}

/// The pipes of one engine.
#[derive(Debug)]
pub(super) struct Pipes {
    kept: Vec<Pipe>,
    out: u32,
    max: u32,
}

impl Pipes {
    /// None yet, at most `max`.
    pub(super) fn new(max: u32) -> Pipes {
        Pipes {
            kept: Vec::new(),
            out: 0,
            max: max.min(PIPES_MAX),
        }
    }

    /// An empty pipe: a kept one, or what `make` makes.
    pub(super) fn take(&mut self, make: impl FnOnce() -> io::Result<Pipe>) -> Option<Pipe> {
        if self.out >= self.max {
            return None;
        }
        let mut pipe = self.kept.pop().or_else(|| make().ok())?;
        debug_assert_eq!(pipe.held, 0, "a kept pipe is empty");
        pipe.out = true;
        self.out += 1;
        Some(pipe)
    }

    /// Takes one back.
    pub(super) fn put(&mut self, mut pipe: Pipe) {
        debug_assert!(self.out > 0, "a pipe of another engine");
        self.out = self.out.saturating_sub(1);
        pipe.out = false;
        if pipe.held == 0 && self.kept.len() < PIPES_KEPT && self.max > 0 {
            self.kept.push(pipe);
        }
    }

    /// Whether some are kept.
    pub(super) fn has_slack(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Closes those that are kept; for quiet times.
    pub(super) fn trim(&mut self) {
        self.kept.clear();
    }

    /// What `status` calls it, where there may be any.
    pub(super) fn feature(&self) -> Option<&'static str> {
        (self.max > 0).then_some("splice")
    }

    /// How many are out.
    pub(super) fn out(&self) -> u32 {
        self.out
    }

    /// Looks at how a splice ended. What says that splicing does not work here at all becomes
    /// `Unsupported`, and there are no pipes any more; anything else passes.
    pub(super) fn judge(&mut self, moved: io::Result<usize>) -> io::Result<usize> {
        const NOT_HERE: [SysErrno; 5] = [
            SysErrno::INVAL,
            SysErrno::NOSYS,
            SysErrno::PERM,
            SysErrno::ACCESS,
            SysErrno::OPNOTSUPP,
        ];
        moved.map_err(|error| {
            let errno = SysErrno::from_io_error(&error);
            if errno.is_some_and(|errno| NOT_HERE.contains(&errno)) {
                self.max = 0;
                self.kept.clear();
                return io::Error::new(io::ErrorKind::Unsupported, error);
            }
            error
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn no_more_pipes_are_out_than_the_engine_may_have() {
        let mut pipes = Pipes::new(2);
        let one = pipes.take(Pipe::open).unwrap();
        let two = pipes.take(Pipe::open).unwrap();
        assert!(pipes.take(Pipe::open).is_none());
        pipes.put(one);
        let again = pipes.take(|| Err(SysErrno::MFILE.into())).unwrap();
        assert_eq!(pipes.out(), 2);
        pipes.put(two);
        pipes.put(again);
        assert_eq!((pipes.out(), pipes.kept.len()), (0, 2));
        pipes.trim();
        assert!(pipes.take(|| Err(SysErrno::MFILE.into())).is_none());
    }

    #[test]
    fn a_pipe_with_bytes_in_it_is_not_kept() {
        let mut pipes = Pipes::new(2);
        let mut pipe = pipes.take(Pipe::open).unwrap();
        pipe.held = 1;
        pipes.put(pipe);
        assert!(pipes.kept.is_empty());
    }

    #[test]
    fn where_splicing_does_not_work_there_are_no_pipes_any_more() {
        let mut pipes = Pipes::new(2);
        let pipe = pipes.take(Pipe::open).unwrap();
        pipes.put(pipe);
        for (errno, works) in [
            (SysErrno::AGAIN, true),
            (SysErrno::CONNRESET, true),
            (SysErrno::INVAL, false),
        ] {
            let judged = pipes.judge(Err(errno.into())).unwrap_err();
            assert_eq!(judged.kind() != io::ErrorKind::Unsupported, works);
        }
        assert!(pipes.take(Pipe::open).is_none());
    }

    #[test]
    fn a_dropped_pipe_is_reported() {
        let before = leak::leaks();
        drop(Pipes::new(1).take(Pipe::open).unwrap());
        assert_eq!(leak::leaks(), before + u64::from(cfg!(debug_assertions)));
    }
}
