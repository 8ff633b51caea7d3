//! The io_uring engine.
//!
//! 1. `submit` writes a submission entry; nothing enters the kernel.
//! 2. `turn` closes what was closed, refills the provided buffers, enters the kernel once
//!    (submitting everything, and waiting when nothing is known to have completed), and turns each
//!    completion into a `Done` or into the next step of its operation.
//! 3. Steps that an operation may need, all inside the engine: the rest of a short send; a poll
//!    after EAGAIN; an own buffer where no provided one was left; a fresh multishot accept.
//!
//! | module | what it is |
//! |---|---|
//! | `setup` | opening the ring, and its groups of provided buffers |
//! | `issue` | from an operation to submission entries |
//! | `complete` | from a completion to a `Done` or the next step |
//!
//! # Invariants
//! - Memory that the kernel may touch belongs to a buffer, part or address in the entry's slots
//!   until the final completion of that submission was seen; entries are removed only when
//!   nothing of theirs is in the kernel (`in_kernel`, `polls`).
//! - A ring is made, entered and dropped on one thread (SINGLE_ISSUER, DEFER_TASKRUN): `Uring` is
//!   not `Send`.
//!
//! # What is not used, and why
//! Registered files can't be handed to another worker. `register_ring_fd` is remembered by one
//! `Submitter` only, which borrows the ring. Multishot receives and zero-copy sends cost more than
//! they save here. SQPOLL needs a core.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno as SysErrno;

use super::accept::Rests;
use super::buf::{Buf, Class, Pool, PoolStats};
use super::config::{
    Caps, Close, Dir, EngineConfig, Family, Kind, OpenError, SockOpt, TurnStats, Wait,
};
use super::op::{Done, DoneList, Errno, Op, Outcome, Sock, SockRef, Token};
use super::slots::{self, Side, Slots};
use super::table::Table;
use super::wake::EventWaker;
use super::{Engine, os};
use crate::limits::{SLEEP_MAX, URING_DRAIN_TURNS};
use crate::time::{Duration, Instant};

mod complete;
mod issue;
mod setup;

use issue::Step;
use setup::Group;

/// A socket and what of it is in the kernel.
#[derive(Debug)]
struct Entry {
    fd: OwnedFd,
    slots: Slots,
    /// Which step of each side's operation the kernel has.
    steps: [Option<Step>; 3],
    /// The side's operation is to end.
    cancelled: [bool; 3],
    /// A cancel of this socket is in the kernel.
    cancelling: bool,
    /// The last receive left bytes behind, or the socket is fresh: try before polling.
    nonempty: bool,
    /// The peer's FIN was read. See `issue` for what that does to sends.
    ended: bool,
    /// The send in the kernel waits there for room.
    waits_inside: bool,
    /// That send was asked to come back, to go on outside.
    recalled: bool,
    /// The buffer that a `RecvAny` took because no provided one was left.
    own: Option<Buf>,
    /// The group that a `RecvAny` was given.
    group: u16,
    /// The address of a `Connect`, where the kernel reads it.
    address: Option<Box<socket2::SockAddr>>,
    /// Rests in a row of a listening socket.
    rests: u32,
    /// It was closed with operations in flight (a bug): how to close it after them.
    zombie: Option<Close>,
}

impl Entry {
    fn new(fd: OwnedFd) -> Entry {
        Entry {
            fd,
            slots: Slots::default(),
            steps: [None; 3],
            cancelled: [false; 3],
            cancelling: false,
            nonempty: false,
            ended: false,
            waits_inside: false,
            recalled: false,
            own: None,
            group: 0,
            address: None,
            rests: 0,
            zombie: None,
        }
    }

    fn in_kernel(&self) -> bool {
        self.steps.iter().any(Option::is_some)
    }
}

/// The place of a side's state in an entry.
fn place(side: Side) -> usize {
    match side {
        Side::In => 0,
        Side::Out => 1,
        Side::Watch => 2,
    }
}

/// An engine on io_uring. See the module for how it works and [`Engine`] for how it is used.
///
/// Field order matters: the ring is dropped before the groups and the pool.
pub struct Uring {
    ring: IoUring,
    groups: Vec<Group>,
    table: Table<Entry>,
    pool: Pool,
    waker: EventWaker,
    now: Instant,
    /// Submission entries that found the queue full.
    backlog: VecDeque<squeue::Entry>,
    /// Submissions whose final completion has not come, the waker's poll and cancels too.
    in_flight: usize,
    /// Results that were known before the turn.
    local: DoneList,
    doomed: Vec<OwnedFd>,
    rests: Rests,
    /// Connections that were accepted when the table was full.
    parked: VecDeque<(SockRef, OwnedFd)>,
    /// Completions of this turn; kept for its memory.
    completions: Vec<cqueue::Entry>,
    syscalls: u32,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Uring({} sockets, {} in flight)",
            self.table.len(),
            self.in_flight
        )
    }
}

impl Uring {
    /// Opens an engine on this thread, which alone may use it.
    ///
    /// # Errors
    /// [`OpenError::Unavailable`] where the kernel or a sandbox does not offer what it needs:
    /// EPERM, EACCES, ENOSYS, Linux before 6.1. [`OpenError::Failed`] for ENOMEM, EMFILE and the
    /// like.
    pub fn open(cfg: &EngineConfig) -> Result<Uring, OpenError> {
        let ring = setup::open_ring(cfg.sockets)?;
        let failed = |source| OpenError::Failed {
            engine: "io_uring",
            source,
        };
        let mut engine = Uring {
            ring,
            groups: Vec::new(),
            table: Table::new(cfg.sockets),
            pool: Pool::open(cfg.buffers).map_err(failed)?,
            waker: EventWaker::new().map_err(failed)?,
            now: os::monotonic(),
            backlog: VecDeque::new(),
            in_flight: 0,
            local: Vec::new(),
            doomed: Vec::new(),
            rests: Rests::new(),
            parked: VecDeque::new(),
            completions: Vec::new(),
            syscalls: 0,
        };
        engine.watch_waker();
        Ok(engine)
    }

    fn insert(&mut self, entry: Entry) -> Result<Sock, Entry> {
        self.table.insert(entry).map(Sock::new)
    }

    // ---- entering the kernel --------------------------------------------------------------

    /// Moves the backlog into the submission queue, entering the kernel as often as it is full.
    fn flush_backlog(&mut self) {
        while let Some(sqe) = self.backlog.pop_front() {
            if !self.try_push(&sqe) {
                self.backlog.push_front(sqe);
                if !self.enter(0, None) {
                    break;
                }
            }
        }
    }

    /// One io_uring_enter. False when the kernel took nothing: completions must be reaped first
    /// (EBUSY), or memory is short (EAGAIN).
    fn enter(&mut self, want: usize, timeout: Option<Duration>) -> bool {
        self.syscalls += 1;
        let submitter = self.ring.submitter();
        let entered = match timeout {
            Some(left) => {
                let left = Timespec::from(left);
                submitter.submit_with_args(want, &SubmitArgs::new().timespec(&left))
            }
            None => submitter.submit_and_wait(want),
        };
        match entered {
            Ok(_) => true,
            Err(e) => {
                let errno = SysErrno::from_io_error(&e);
                let usual = [
                    SysErrno::TIME,
                    SysErrno::INTR,
                    SysErrno::BUSY,
                    SysErrno::AGAIN,
                ];
                debug_assert!(
                    errno.is_some_and(|n| usual.contains(&n)),
                    "io_uring_enter: {e}"
                );
                matches!(errno, Some(SysErrno::TIME | SysErrno::INTR))
            }
        }
    }

    /// Whether an enter would do anything: something to submit, deferred work, an overflow.
    fn has_business(&mut self) -> bool {
        let sq = self.ring.submission();
        !sq.is_empty() || sq.taskrun() || sq.cq_overflow()
    }

    /// Takes the completions that are there and deals with each.
    fn reap(&mut self, out: &mut DoneList) {
        let mut completions = std::mem::take(&mut self.completions);
        completions.extend(self.ring.completion());
        for cqe in completions.drain(..) {
            self.complete(&cqe, out);
        }
        self.completions = completions;
    }

    /// How long the kernel may wait.
    fn timeout(&self, wait: Wait) -> Duration {
        let left = match wait {
            Wait::Poll => Duration::ZERO,
            Wait::Until(t) => t.since(self.now),
            Wait::Forever => SLEEP_MAX,
        };
        let left = self
            .rests
            .next()
            .map_or(left, |t| left.min(t.since(self.now)));
        left.min(SLEEP_MAX)
    }

    /// Listening sockets whose rest is over accept again.
    fn end_rests(&mut self, out: &mut DoneList) {
        while let Some(name) = self.rests.over(self.now) {
            self.accept_again(name, out);
        }
    }

    /// Asks the kernel to end everything it has of a socket.
    fn cancel_in_kernel(&mut self, name: SockRef) {
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        if std::mem::replace(&mut e.cancelling, true) {
            return;
        }
        let fd = Fd(e.fd.as_raw_fd());
        let sqe = opcode::AsyncCancel2::new(CancelBuilder::fd(fd).all()).build();
        self.push(sqe.user_data(issue::user_data(name, issue::Code::Cancel)));
    }
}

impl Engine for Uring {
    type Carry = OwnedFd;
    type Waker = EventWaker;

    fn caps(&self) -> Caps {
        let mut features = vec![
            "single-issuer",
            "defer-taskrun",
            "multishot-accept",
            "restricted",
        ];
        if !self.groups.is_empty() {
            features.push("provided-buffers");
        }
        Caps {
            kind: Kind::Uring,
            features,
        }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn listen(&mut self, shared: &OwnedFd) -> io::Result<Sock> {
        let fd = shared.try_clone()?;
        self.insert(Entry::new(fd)).map_err(|_| Errno::MFILE.into())
    }

    fn socket(&mut self, family: Family, opt: &SockOpt) -> io::Result<Sock> {
        if self.table.is_full() {
            return Err(Errno::MFILE.into());
        }
        let fd = os::stream(family, opt)?;
        self.insert(Entry::new(fd)).map_err(|_| Errno::MFILE.into())
    }

    fn attach(&mut self, c: OwnedFd) -> Result<Sock, OwnedFd> {
        let entry = Entry {
            nonempty: true,
            ..Entry::new(c)
        };
        self.insert(entry).map_err(|e| e.fd)
    }

    fn detach(&mut self, s: Sock) -> Result<OwnedFd, Sock> {
        if !self
            .table
            .get(s.name())
            .is_some_and(|e| e.slots.is_idle() && !e.in_kernel())
        {
            return Err(s);
        }
        match self.table.remove(s.name()) {
            Some(e) => {
                s.taken();
                Ok(e.fd)
            }
            None => Err(s),
        }
    }

    fn tune(&mut self, s: SockRef, opt: &SockOpt) -> io::Result<()> {
        let e = self
            .table
            .get(s)
            .ok_or_else(|| io::Error::from(Errno::BADF))?;
        os::tune(e.fd.as_fd(), opt)
    }

    fn submit(&mut self, t: Token, op: Op) -> Result<(), Op> {
        let name = op.on();
        let Some(e) = self.table.get_mut(name) else {
            self.local
                .push(Done::last(t, slots::refuse(op, Errno::BADF)));
            return Ok(());
        };
        if !op.is_well_formed() {
            self.local
                .push(Done::last(t, slots::refuse(op, Errno::INVAL)));
            return Ok(());
        }
        let side = e.slots.put(t, op)?;
        e.cancelled[place(side)] = false;
        self.issue(name, side);
        Ok(())
    }

    fn cancel(&mut self, s: SockRef) {
        let Some(e) = self.table.get_mut(s) else {
            return;
        };
        let held = [
            e.slots.inward.is_some(),
            e.slots.outward.is_some(),
            e.slots.watch.is_some(),
        ];
        e.cancelled = held;
        if e.slots.inward.is_some() && e.steps[0].is_none() {
            // An accept that rests is not in the kernel.
            if let Some((t, op)) = e.slots.inward.take() {
                self.local.push(Done::last(t, op.ended(None)));
            }
            self.rests.forget(s);
        }
        if self.table.get(s).is_some_and(Entry::in_kernel) {
            self.cancel_in_kernel(s);
        }
    }

    fn shutdown(&mut self, s: SockRef, d: Dir) -> io::Result<()> {
        let e = self
            .table
            .get(s)
            .ok_or_else(|| io::Error::from(Errno::BADF))?;
        if d == Dir::Write && e.slots.outward.is_some() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        self.syscalls += 1;
        os::shutdown(e.fd.as_fd(), d)
    }

    fn close(&mut self, s: Sock, how: Close) {
        let name = s.taken();
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        self.rests.forget(name);
        self.parked.retain(|(listener, _)| *listener != name);
        if e.slots.is_idle() && !e.in_kernel() {
            os::prepare_close(e.fd.as_fd(), how);
            if let Some(e) = self.table.remove(name) {
                self.doomed.push(e.fd);
            }
            return;
        }
        debug_assert!(false, "closed with an operation in flight");
        // The kernel may still write into its buffers: it is closed once they are back.
        e.zombie = Some(how);
        e.cancelled = [true; 3];
        self.cancel_in_kernel(name);
    }

    fn turn(&mut self, wait: Wait, out: &mut DoneList) -> TurnStats {
        let before = out.len();
        self.syscalls += u32::try_from(self.doomed.len()).unwrap_or(u32::MAX);
        self.doomed.clear();
        out.append(&mut self.local);
        self.end_rests(out);
        self.deliver_parked(out);
        loop {
            for group in &mut self.groups {
                group.refill(&self.pool);
            }
            self.flush_backlog();
            let timeout = self.timeout(wait);
            let may_sleep = out.len() == before && !timeout.is_zero() && self.backlog.is_empty();
            // Somebody may have woken us between two turns: then this one only looks.
            if may_sleep && self.waker.begin_sleep() {
                self.enter(1, Some(timeout));
            } else if self.has_business() {
                self.enter(0, None);
            }
            let woken = self.waker.end_sleep();
            self.now = os::monotonic();
            self.reap(out);
            self.end_rests(out);
            let over = match wait {
                Wait::Poll => true,
                Wait::Until(t) => t <= self.now,
                Wait::Forever => false,
            };
            if out.len() > before || woken || over {
                break;
            }
        }
        TurnStats {
            syscalls: std::mem::take(&mut self.syscalls),
            completions: u32::try_from(out.len() - before).unwrap_or(u32::MAX),
        }
    }

    fn alloc(&mut self, c: Class) -> Option<Buf> {
        self.pool.alloc(c)
    }

    fn free(&mut self, b: Buf) {
        self.pool.free(b);
    }

    fn pool(&self) -> PoolStats {
        self.pool.stats()
    }

    fn trim(&mut self) {
        self.pool.trim();
    }

    fn waker(&self) -> EventWaker {
        self.waker.clone()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel must be done with every buffer before the pool goes.
        let sqe = opcode::AsyncCancel2::new(CancelBuilder::any()).build();
        self.push(sqe.user_data(issue::ENGINE_CANCEL));
        let mut ignored = Vec::new();
        for (_, e) in self.table.iter_mut() {
            e.cancelled = [true; 3];
        }
        for _ in 0..URING_DRAIN_TURNS {
            self.flush_backlog();
            if self.in_flight == 0 {
                break;
            }
            self.enter(1, Some(Duration::from_millis(1)));
            self.reap(&mut ignored);
        }
        if self.in_flight > 0 {
            self.pool.leak();
        }
        ignored.append(&mut self.local);
        let mut ended: Vec<Outcome> = Vec::new();
        for done in ignored {
            match done.what {
                // Its table entry is dropped with the engine.
                Outcome::Accepted(sock, _) => drop(sock.taken()),
                what => ended.push(what),
            }
        }
        let mut bufs = Vec::new();
        for (_, e) in self.table.iter_mut() {
            ended.extend(e.slots.inward.take().map(|(_, op)| op.ended(None)));
            ended.extend(e.slots.outward.take().map(|(_, op)| op.ended(None)));
            bufs.extend(e.own.take());
        }
        bufs.extend(ended.into_iter().filter_map(slots::buffers_of));
        bufs.into_iter().for_each(|b| self.pool.free(b));
    }
}
