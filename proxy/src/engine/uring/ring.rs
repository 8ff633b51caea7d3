//! The ring itself: set-up, what the kernel must offer, what the ring may do, entering it.
//!
//! # Set-up
//! 1. The kernel is 6.1 or newer; the ring is made disabled, for one thread only, with completion
//!    work deferred to that thread's own system calls (`DEFER_TASKRUN`; where a patched kernel
//!    refuses that, `COOP_TASKRUN`).
//! 2. Every operation in use is there; groups of provided buffers are registered.
//! 3. The ring is restricted to those operations and to no further registration, then enabled.
//! 4. One trial entry arms the waker: a sandbox that forbids io_uring_enter shows here.
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

use io_uring::register::Restriction;
use io_uring::squeue::Flags;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Probe, cqueue, opcode, squeue};
use rustix::io::Errno as SysErrno;

use super::super::config::OpenError;
use super::id::{Id, RequestId};
use super::provided::Group;
use crate::limits::{RING_COMPLETIONS_MAX, RING_PAUSE, TURN_COMPLETIONS_MAX};
use crate::time::Duration;

const ENGINE: &str = "io_uring";
const PROVIDED: &str = "provided-buffers";
/// The oldest kernel with everything the engine relies on.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// The operations in use, by code and name. The ring may do nothing else.
const OPERATIONS: [(u8, &str); 7] = [
    (opcode::Accept::CODE, "accept"),
    (opcode::AsyncCancel::CODE, "cancel"),
    (opcode::Close::CODE, "close"),
    (opcode::Connect::CODE, "connect"),
    (opcode::PollAdd::CODE, "poll"),
    (opcode::Recv::CODE, "recv"),
    (opcode::Send::CODE, "send"),
];

/// Entries of the two queues.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) submissions: u32,
    /// At least as many as `submissions`; completions beyond them wait in the kernel.
    pub(super) completions: u32,
}

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
        check_kernel(&rustix::system::uname().release().to_string_lossy())?;
        let (ring, mode) = set_up(sizes)?;
        check_features(&ring)?;
        let submitter = ring.submitter();
        let mut features = vec![mode, "restricted", "multishot-accept"];
        for group in groups {
            group
                .register(&submitter)
                .map_err(|e| refused("registering buffers", e))?;
            if !features.contains(&PROVIDED) {
                features.push(PROVIDED);
            }
        }
        submitter
            .register_restrictions(&mut restrictions())
            .map_err(|e| refused("restricting the ring", e))?;
        submitter
            .register_enable_rings()
            .map_err(|e| refused("enabling the ring", e))?;
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

/// Entries of the completion queue for that many sockets: one completion of each fits, so only a
/// burst on both directions of all of them overflows into the kernel's own list.
pub(super) fn completions_for(sockets: u32, submissions: u32) -> u32 {
    sockets
        .checked_next_power_of_two()
        .unwrap_or(RING_COMPLETIONS_MAX)
        .clamp(submissions.saturating_mul(2), RING_COMPLETIONS_MAX)
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
        // Nothing would end a wait for memory: look again after a moment instead of spinning. That
        // this pause is cut short by a signal changes nothing.
        let pause = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(RING_PAUSE.subsec_nanos()),
        };
        let _ = rustix::event::poll(&mut [], Some(&pause));
    }
}

fn set_up(sizes: Sizes) -> Result<(IoUring, &'static str), OpenError> {
    let builder = || {
        let mut b = IoUring::builder();
        b.setup_single_issuer()
            .setup_clamp()
            .setup_submit_all()
            .setup_taskrun_flag()
            .setup_r_disabled()
            .setup_cqsize(sizes.completions)
            .dontfork();
        b
    };
    match builder().setup_defer_taskrun().build(sizes.submissions) {
        Ok(ring) => return Ok((ring, "defer-taskrun")),
        Err(e) if is(&e, SysErrno::INVAL) => {}
        Err(e) => return Err(refused("io_uring_setup", e)),
    }
    builder()
        .setup_coop_taskrun()
        .build(sizes.submissions)
        .map(|ring| (ring, "coop-taskrun"))
        .map_err(|e| refused("io_uring_setup", e))
}

fn check_kernel(release: &str) -> Result<(), OpenError> {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < KERNEL_MIN {
        let (major, minor) = KERNEL_MIN;
        return Err(unavailable(format!(
            "this kernel is {release}, it needs {major}.{minor}"
        )));
    }
    Ok(())
}

fn check_features(ring: &IoUring) -> Result<(), OpenError> {
    let params = ring.params();
    let needed = [
        (params.is_feature_ext_arg(), "waiting with a timeout"),
        (params.is_feature_nodrop(), "keeping completions"),
        (params.is_feature_fast_poll(), "polling inside"),
        (params.is_feature_submit_stable(), "copying arguments"),
        (params.is_feature_skip_cqe_on_success(), "silent success"),
    ];
    if let Some((_, what)) = needed.iter().find(|(there, _)| !there) {
        return Err(unavailable(format!("the kernel's lacks {what}")));
    }
    let mut probe = Probe::new();
    ring.submitter()
        .register_probe(&mut probe)
        .map_err(|e| refused("probing", e))?;
    match OPERATIONS
        .iter()
        .find(|(code, _)| !probe.is_supported(*code))
    {
        Some((_, what)) => Err(unavailable(format!("the kernel's lacks {what}"))),
        None => Ok(()),
    }
}

/// The operations in use, with the two flags in use, and no registration.
fn restrictions() -> Vec<Restriction> {
    let flags = Flags::BUFFER_SELECT | Flags::SKIP_SUCCESS;
    OPERATIONS
        .iter()
        .map(|&(code, _)| Restriction::sqe_op(code))
        .chain([Restriction::sqe_flags_allowed(flags.bits())])
        .collect()
}

fn is(e: &io::Error, errno: SysErrno) -> bool {
    e.raw_os_error() == Some(errno.raw_os_error())
}

fn unavailable(why: String) -> OpenError {
    OpenError::Unavailable {
        engine: ENGINE,
        why,
    }
}

/// Sorts an error of set-up: a kernel or a sandbox that does not offer it, or a failure.
fn refused(step: &str, e: io::Error) -> OpenError {
    let hint = if is(&e, SysErrno::PERM) {
        "a seccomp profile or the sysctl kernel.io_uring_disabled forbids it"
    } else if is(&e, SysErrno::ACCESS) {
        "a security policy forbids it"
    } else if is(&e, SysErrno::NOSYS) {
        "the kernel is built without it or a sandbox hides it"
    } else if is(&e, SysErrno::INVAL) || is(&e, SysErrno::OPNOTSUPP) {
        "the kernel does not know it"
    } else {
        return failed(e);
    };
    unavailable(format!("{step}: {e}: {hint}"))
}

/// An error that is no reason to use another engine.
pub(super) fn failed(source: io::Error) -> OpenError {
    OpenError::Failed {
        engine: ENGINE,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_6_1_are_refused() {
        for old in ["5.15.0-91-generic", "6.0.19", "4.4.0", "", "unknown"] {
            assert!(
                matches!(check_kernel(old), Err(OpenError::Unavailable { .. })),
                "{old}"
            );
        }
        for new in ["6.1.0-18-amd64", "6.18.44", "7.0", "10.2-rc1"] {
            assert!(check_kernel(new).is_ok(), "{new}");
        }
    }

    #[test]
    fn denial_falls_back_and_exhaustion_does_not() {
        for errno in [
            SysErrno::PERM,
            SysErrno::NOSYS,
            SysErrno::ACCESS,
            SysErrno::INVAL,
        ] {
            let e = refused("io_uring_setup", errno.into());
            assert!(matches!(e, OpenError::Unavailable { .. }), "{e}");
        }
        for errno in [SysErrno::NOMEM, SysErrno::MFILE, SysErrno::NFILE] {
            let e = refused("io_uring_setup", errno.into());
            assert!(matches!(e, OpenError::Failed { .. }), "{e}");
        }
    }

    #[test]
    fn the_completion_queue_holds_one_of_each_socket_within_the_kernels_bounds() {
        assert_eq!(completions_for(3, 1024), 2048);
        assert_eq!(completions_for(20_000, 1024), 32_768);
        assert_eq!(completions_for(1 << 20, 1024), RING_COMPLETIONS_MAX);
        assert_eq!(completions_for(u32::MAX, 1024), RING_COMPLETIONS_MAX);
    }
}
