//! The ring itself: what is submitted, entering the kernel, what completed. It is made by `setup`;
//! one trial entry then arms the waker, so that a sandbox that forbids io_uring_enter shows at once.
//!
//! # Invariants
//! - Nothing reaches the kernel but in [`Ring::enter`] (and the trial entry). What does not fit
//!   into the submission queue waits in `backlog`, in order.
//! - `requests` counts the requests that refer to memory and whose last completion has not been
//!   seen. While it is not 0 the buffers, the groups and the ring stay.

#![expect(
    unsafe_code,
    reason = "pushing a submission hands the kernel a pointer; the contract is Ring::push's"
)]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use io_uring::squeue::Flags;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use rustix::io::Errno as SysErrno;

use super::super::config::OpenError;
use super::super::os;
use super::id::{Id, RequestId};
use super::provided::Group;
use super::setup::{self, Sizes, refused};
use crate::limits::{RING_PAUSE, TURN_COMPLETIONS_MAX};
use crate::time::Duration;

/// A ring and what waits to be submitted.
pub(super) struct Ring {
    ring: IoUring,
    backlog: VecDeque<squeue::Entry>,
    requests: u32,
    syscalls: u32,
    /// Waiting is not accounted as waiting for a disk.
    no_iowait: bool,
    features: Vec<&'static str>,
}

impl Ring {
    /// Makes the ring of this thread, with the groups registered and the waker armed.
    ///
    /// # Errors
    /// [`OpenError::Unavailable`] when the kernel or a sandbox does not offer what is needed,
    /// [`OpenError::Failed`] for anything else (ENOMEM, EMFILE).
    pub(super) fn open<'a>(
        sizes: Sizes,
        groups: impl Iterator<Item = &'a Group>,
        waker: BorrowedFd<'_>,
    ) -> Result<Ring, OpenError> {
        let (ring, features) = setup::make(sizes, groups)?;
        let mut ring = Ring {
            no_iowait: ring.params().is_feature_no_iowait(),
            ring,
            backlog: VecDeque::new(),
            requests: 0,
            syscalls: 0,
            features,
        };
        ring.watch_waker(waker);
        ring.ring
            .submit()
            .map_err(|e| refused("io_uring_enter", e))?;
        Ok(ring)
    }

    /// What is in use, for `status`.
    pub(super) fn features(&self) -> &[&'static str] {
        &self.features
    }

    /// System calls since the last time this was asked.
    pub(super) fn take_syscalls(&mut self) -> u32 {
        std::mem::take(&mut self.syscalls)
    }

    /// Notes system calls made beside the ring.
    pub(super) fn count_syscall(&mut self) {
        self.syscalls += 1;
    }

    /// Requests that refer to memory and are not over.
    pub(super) fn requests(&self) -> u32 {
        self.requests
    }

    /// The last completion of a request was seen.
    pub(super) fn landed(&mut self) {
        debug_assert!(self.requests > 0);
        self.requests = self.requests.saturating_sub(1);
    }

    /// Submits a request in the next `enter`.
    ///
    /// # Safety
    /// What `entry` points to must stay valid, and untouched by anybody but the kernel, until the
    /// last completion of its id has been seen.
    pub(super) unsafe fn push_request(&mut self, id: RequestId, entry: squeue::Entry) {
        self.requests += 1;
        // SAFETY: the caller's promise.
        unsafe { self.push(entry.user_data(Id::Request(id).encode())) }
    }

    /// Waits for events on `fd`: once, or at every edge until it is cancelled.
    pub(super) fn poll(&mut self, id: RequestId, fd: BorrowedFd<'_>, events: u32, edges: bool) {
        let entry = opcode::PollAdd::new(Fd(fd.as_raw_fd()), events).multi(edges);
        // SAFETY: a poll refers to no memory.
        unsafe { self.push_request(id, entry.build()) }
    }

    /// Asks a request to end. Says nothing when it is found.
    pub(super) fn cancel(&mut self, id: RequestId) {
        let entry = opcode::AsyncCancel::new(Id::Request(id).encode())
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Id::Cancel(id).encode());
        // SAFETY: a cancellation refers to no memory.
        unsafe { self.push(entry) }
    }

    /// Closes a descriptor in the next `enter`.
    pub(super) fn close(&mut self, fd: OwnedFd) {
        let entry = opcode::Close::new(Fd(fd.into_raw_fd()))
            .build()
            .flags(Flags::SKIP_SUCCESS)
            .user_data(Id::Nothing.encode());
        // SAFETY: closing refers to no memory, and this was the descriptor's owner.
        unsafe { self.push(entry) }
    }

    /// Reports every write to the waker's eventfd from the next `enter` on.
    pub(super) fn watch_waker(&mut self, waker: BorrowedFd<'_>) {
        let events = u32::from(rustix::event::PollFlags::IN.bits());
        let entry = opcode::PollAdd::new(Fd(waker.as_raw_fd()), events)
            .multi(true)
            .build()
            .user_data(Id::Waker.encode());
        // SAFETY: a poll refers to no memory.
        unsafe { self.push(entry) }
    }

    /// # Safety
    /// As for [`push_request`](Self::push_request).
    unsafe fn push(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() {
            // SAFETY: the caller's promise.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    /// Submits everything and waits for a completion for at most `wait`; with `None` only
    /// submits and collects. One system call, none when there is nothing to do; more only when
    /// the submission queue is too small for what a turn decided.
    pub(super) fn enter(&mut self, wait: Option<Duration>) {
        let all_queued = self.flush_backlog();
        let wait = wait.filter(|w| all_queued && !w.is_zero());
        if wait.is_none() {
            let queue = self.ring.submission();
            if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
                return;
            }
        }
        let span = Timespec::from(wait.unwrap_or_default());
        let mut args = SubmitArgs::new();
        if wait.is_some() {
            args = args.timespec(&span);
        }
        let flags = if self.no_iowait && wait.is_some() {
            EnterFlags::NO_IOWAIT
        } else {
            EnterFlags::empty()
        };
        let want = usize::from(wait.is_some());
        self.syscalls += 1;
        let entered = self
            .ring
            .submitter()
            .submit_with_args_and_flags(want, &args, flags);
        if let Err(e) = entered {
            bear(&e);
        }
    }

    /// Moves the backlog into the submission queue, submitting as often as that is full. False
    /// when the kernel takes no more just now.
    fn flush_backlog(&mut self) -> bool {
        while !self.backlog.is_empty() {
            let mut queue = self.ring.submission();
            while let Some(entry) = self.backlog.front() {
                // SAFETY: promised by whoever pushed it; the promise lasts until its completion.
                if unsafe { queue.push(entry) }.is_err() {
                    break;
                }
                self.backlog.pop_front();
            }
            drop(queue);
            if self.backlog.is_empty() {
                break;
            }
            self.syscalls += 1;
            match self.ring.submit() {
                Ok(0) => return false,
                Ok(_) => {}
                Err(e) => {
                    bear(&e);
                    return false;
                }
            }
        }
        true
    }

    /// Moves completions into `into`, a bounded number of them; the rest keeps for the next time.
    pub(super) fn reap(&mut self, into: &mut Vec<cqueue::Entry>) {
        let room = TURN_COMPLETIONS_MAX.saturating_sub(into.len());
        into.extend(self.ring.completion().take(room));
    }
}

/// What the tests of the engine look at and pretend.
#[cfg(test)]
impl Ring {
    /// Counts a request as if the kernel had it, for a completion that the test makes up.
    pub(super) fn pretend_request(&mut self) {
        self.requests += 1;
    }

    /// Completions wait in the kernel because the queue is full.
    pub(super) fn has_overflown(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Submits an operation that the ring is not made for.
    pub(super) fn push_nop(&mut self) {
        let entry = opcode::Nop::new().build().user_data(Id::Nothing.encode());
        // SAFETY: it refers to no memory.
        unsafe { self.push(entry) }
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} requests)", self.requests)
    }
}

/// What io_uring_enter may say without anything being wrong: the time is up, a signal came,
/// completions must be collected first, memory is short for a moment. Anything else means that
/// completions were lost or that the ring is not this thread's: going on would be worse.
fn bear(e: &io::Error) {
    let errno = e.raw_os_error().map(SysErrno::from_raw_os_error);
    let harmless = matches!(
        errno,
        Some(SysErrno::TIME | SysErrno::INTR | SysErrno::BUSY)
    );
    let short = matches!(
        errno,
        Some(SysErrno::AGAIN | SysErrno::NOMEM | SysErrno::NOBUFS)
    );
    assert!(harmless || short, "io_uring_enter: {e}");
    if short {
        // Nothing would end a wait for memory: look again after a moment instead of spinning.
        os::rest(RING_PAUSE);
    }
}
