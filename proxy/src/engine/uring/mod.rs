//! The io_uring engine: operations become requests on a ring, and one system call a turn submits
//! all of them, waits, and collects what completed.
//!
//! 1. `submit` stores the operation in its socket's entry, which owns its buffer from then on, and
//!    puts a request into the submission queue (`issue`). The kernel sees it in the next turn.
//! 2. `turn` closes what was closed, lends buffers to the kernel, enters the ring once, and turns
//!    completions into results (`complete`). What needs another request, such as the
//!    rest of a short send or a receive that found nothing, is issued for the next entry.
//!
//! | file | what it is |
//! |---|---|
//! | `setup` | making a ring: probing, restrictions |
//! | `ring` | submitting, entering, collecting |
//! | `id` | whose completion it is |
//! | `socket` | a socket and what the kernel holds for it |
//! | `provided` | buffers that lie in the kernel until bytes come |
//! | `issue` | operation → request |
//! | `complete` | completion → result; polls |
//! | `received`, `sent`, `incoming` | completions of receives, of sends and connects, of accepts |
//!
//! # Invariants
//! - A side of a socket has at most one request in the kernel. Its operation, with its buffer, stays
//!   in the entry until that request's last completion was seen, and so does the entry.
//! - Buffers, groups and ring outlive every request: dropping the engine cancels all, waits for
//!   the last completion of each, and where that does not come in time leaks the memory instead of
//!   unmapping it under the kernel.
//! - The ring is used on the thread that opened it (the pool makes the engine `!Send`).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use io_uring::cqueue;

use super::accept::Rests;
use super::buf::{Buf, Class, Pool, PoolStats};
use super::config::{
    Caps, Close, Dir, EngineConfig, Family, Kind, OpenError, SockOpt, TurnStats, Wait,
};
use super::op::{Done, DoneList, Errno, Op, Outcome, Sock, SockRef, Token};
use super::pipe::{Pipe, Pipes};
use super::slots;
use super::table::Table;
use super::wake::EventWaker;
use super::{Engine, os};
use crate::limits::{RING_DRAIN, RING_SUBMISSIONS, SLEEP_MAX, SOCKETS_MAX};
use crate::time::{Duration, Instant};

mod complete;
mod id;
mod incoming;
mod issue;
mod provided;
mod received;
mod ring;
mod sent;
mod setup;
mod socket;
#[cfg(test)]
mod tests;

use provided::Group;
use ring::Ring;
use setup::Sizes;
use socket::{SIDES, Socket};

/// An engine on io_uring. See the module for how it works and [`Engine`] for how it is used.
#[derive(Debug)]
pub struct Uring {
    // Before the groups and the pool, so that it is dropped before them.
    ring: Ring,
    /// By class; a class without one receives into buffers taken when bytes have come.
    groups: [Option<Group>; 4],
    pool: Pool,
    pipes: Pipes,
    table: Table<Socket>,
    sockets_max: u32,
    waker: EventWaker,
    now: Instant,
    /// Results that were known before the turn.
    local: DoneList,
    /// Closed by the worker; their descriptors are closed in the next turn.
    doomed: Vec<OwnedFd>,
    rests: Rests,
    /// Completions being worked on; kept for its memory.
    completions: Vec<cqueue::Entry>,
}

impl Uring {
    /// Bytes of memory that a socket costs.
    #[cfg(test)]
    pub(crate) const SOCKET: usize = Table::<Socket>::PLACE;

    /// Opens an engine on this thread, on which it must stay.
    ///
    /// # Errors
    /// [`OpenError::Unavailable`] where io_uring is not to be had: EPERM, EACCES, ENOSYS, a kernel
    /// before 6.1, missing features. [`OpenError::Failed`] for anything else (ENOMEM, EMFILE).
    pub fn open(cfg: &EngineConfig) -> Result<Uring, OpenError> {
        let submissions = RING_SUBMISSIONS;
        let completions = setup::completions_for(cfg.sockets, submissions);
        Self::open_sized(
            cfg,
            Sizes {
                submissions,
                completions,
            },
        )
    }

    fn open_sized(cfg: &EngineConfig, sizes: Sizes) -> Result<Uring, OpenError> {
        let pool = Pool::open(cfg.buffers).map_err(setup::failed)?;
        let waker = EventWaker::new().map_err(setup::failed)?;
        let mut groups = [None, None, None, None];
        for (class, group) in Class::ALL.into_iter().zip(&mut groups) {
            *group = Group::new(class, pool.made(class)).map_err(setup::failed)?;
        }
        Ok(Uring {
            ring: Ring::open(sizes, groups.iter().flatten(), waker.fd())?,
            groups,
            pool,
            pipes: Pipes::new(cfg.pipes),
            table: Table::new(cfg.sockets),
            sockets_max: cfg.sockets.min(SOCKETS_MAX),
            waker,
            now: os::boottime(),
            local: Vec::new(),
            doomed: Vec::new(),
            rests: Rests::new(),
            completions: Vec::new(),
        })
    }

    fn adopt(&mut self, fd: OwnedFd) -> Result<Sock, OwnedFd> {
        let name = self
            .table
            .insert(Socket::new(fd))
            .map_err(|socket| socket.fd)?;
        Ok(Sock::new(name))
    }

    /// Sockets that still fit into the table.
    fn free_places(&self) -> usize {
        (self.sockets_max as usize).saturating_sub(self.table.len())
    }

    /// Listening sockets whose rest is over accept again.
    fn end_rests(&mut self, out: &mut DoneList) {
        while let Some(name) = self.rests.over(self.now) {
            self.accept_on(name, out);
        }
    }

    /// How long the ring may wait; `None` when it must not.
    fn patience(&self, wait: Wait, idle: bool) -> Option<Duration> {
        let left = match wait {
            Wait::Poll => return None,
            _ if !idle => return None,
            Wait::Until(t) => t.since(self.now),
            Wait::Forever => SLEEP_MAX,
        };
        let left = match self.rests.next() {
            Some(t) => left.min(t.since(self.now)),
            None => left,
        };
        Some(left.min(SLEEP_MAX)).filter(|left| !left.is_zero())
    }

    /// Turns the completions that are there into results.
    fn reap(&mut self, out: &mut DoneList) {
        let mut completions = std::mem::take(&mut self.completions);
        self.ring.reap(&mut completions);
        for completion in completions.drain(..) {
            self.complete(&completion, out);
        }
        self.completions = completions;
    }

    /// Takes a socket out of the table and has it closed in the next turn.
    fn doom(&mut self, name: SockRef) {
        if let Some(socket) = self.table.remove(name) {
            self.rests.forget(name);
            for fd in socket.held.into_iter().flat_map(|held| held.0) {
                os::prepare_close(fd.as_fd(), Close::Reset);
                self.doomed.push(fd);
            }
            self.doomed.push(socket.fd);
        }
    }

    /// Ends all operations of a socket, for nobody.
    fn abandon(&mut self, name: SockRef) {
        let for_others = std::mem::take(&mut self.local);
        for side in SIDES {
            self.cancel_side(name, side);
        }
        for done in std::mem::replace(&mut self.local, for_others) {
            self.swallow(done.what);
        }
    }

    /// Takes a result that nobody waits for.
    fn swallow(&mut self, what: Outcome) {
        if let Outcome::Accepted(sock, _) = what {
            self.close(sock, Close::Reset);
        } else if let Some(buf) = slots::buffers_of(what) {
            self.pool.free(buf);
        }
    }
}

impl Engine for Uring {
    type Carry = OwnedFd;
    type Waker = EventWaker;

    fn caps(&self) -> Caps {
        Caps {
            kind: Kind::Uring,
            features: [self.ring.features(), self.pipes.feature().as_slice()].concat(),
        }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn listen(&mut self, shared: &OwnedFd) -> io::Result<Sock> {
        let fd = shared.try_clone()?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        self.adopt(fd).map_err(|_| Errno::MFILE.into())
    }

    fn socket(&mut self, family: Family, opt: &SockOpt) -> io::Result<Sock> {
        if self.table.is_full() {
            return Err(Errno::MFILE.into());
        }
        self.adopt(os::stream(family, opt)?)
            .map_err(|_| Errno::MFILE.into())
    }

    fn attach(&mut self, c: OwnedFd) -> Result<Sock, OwnedFd> {
        match rustix::io::ioctl_fionbio(&c, true) {
            Ok(()) => self.adopt(c),
            Err(_) => Err(c),
        }
    }

    fn detach(&mut self, s: Sock) -> Result<OwnedFd, Sock> {
        if !self.table.get(s.name()).is_some_and(|e| e.slots.is_idle()) {
            return Err(s);
        }
        match self.table.remove(s.name()) {
            Some(socket) => {
                s.taken();
                Ok(socket.fd)
            }
            None => Err(s),
        }
    }

    fn tune(&mut self, s: SockRef, opt: &SockOpt) -> io::Result<()> {
        let e = self.table.get(s).filter(|e| !e.closing);
        let e = e.ok_or_else(|| io::Error::from(Errno::BADF))?;
        os::tune(e.fd.as_fd(), opt)
    }

    fn submit(&mut self, t: Token, op: Op) -> Result<(), Op> {
        let name = op.on();
        let Some(e) = self.table.get_mut(name).filter(|e| !e.closing) else {
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
        self.issue(name, side);
        Ok(())
    }

    fn cancel(&mut self, s: SockRef) {
        for side in SIDES {
            self.cancel_side(s, side);
        }
    }

    fn shutdown(&mut self, s: SockRef, d: Dir) -> io::Result<()> {
        let e = self.table.get(s).filter(|e| !e.closing);
        let e = e.ok_or_else(|| io::Error::from(Errno::BADF))?;
        if d == Dir::Write && e.slots.outward.is_some() {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        self.ring.count_syscall();
        os::shutdown(e.fd.as_fd(), d)
    }

    fn close(&mut self, s: Sock, how: Close) {
        let name = s.taken();
        let Some(e) = self.table.get_mut(name) else {
            return;
        };
        if how == Close::Reset {
            self.ring.count_syscall();
        }
        os::prepare_close(e.fd.as_fd(), how);
        if !e.slots.is_idle() {
            debug_assert!(false, "closed with an operation in flight");
            e.closing = true;
            self.abandon(name);
        }
        // Else the last completion takes it from there.
        if self.table.get(name).is_some_and(|e| e.slots.is_idle()) {
            self.doom(name);
        }
    }

    fn turn(&mut self, wait: Wait, out: &mut DoneList) -> TurnStats {
        let before = out.len();
        out.append(&mut self.local);
        let mut woken;
        loop {
            for fd in self.doomed.drain(..) {
                self.ring.close(fd);
            }
            for group in self.groups.iter_mut().flatten() {
                group.refill(&self.pool);
            }
            let idle = out.len() == before;
            // Somebody may have woken us between two turns: then this one only looks.
            let patience = self
                .patience(wait, idle)
                .filter(|_| self.waker.begin_sleep());
            self.ring.enter(patience);
            woken = self.waker.end_sleep();
            self.now = os::boottime();
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
            syscalls: self.ring.take_syscalls(),
            completions: u32::try_from(out.len() - before).unwrap_or(u32::MAX),
            woken,
        }
    }

    fn alloc(&mut self, c: Class) -> Option<Buf> {
        self.pool.alloc(c)
    }

    fn free(&mut self, b: Buf) {
        self.pool.free(b);
    }

    fn pipe(&mut self) -> Option<Pipe> {
        self.pipes.take(Pipe::open)
    }

    fn splice_in(&mut self, from: SockRef, p: &mut Pipe, max: usize) -> io::Result<usize> {
        let e = self.table.get(from).filter(|e| !e.closing);
        let e = e.ok_or_else(|| io::Error::from(Errno::BADF))?;
        self.ring.count_syscall();
        let moved = p.fill(e.fd.as_fd(), max);
        if matches!(moved, Ok(0)) {
            self.note_end(from);
        }
        self.pipes.judge(moved)
    }

    fn splice_out(&mut self, p: &mut Pipe, to: SockRef) -> io::Result<usize> {
        let e = self.table.get(to).filter(|e| !e.closing);
        let e = e.ok_or_else(|| io::Error::from(Errno::BADF))?;
        debug_assert!(e.slots.outward.is_none(), "a splice would overtake a send");
        self.ring.count_syscall();
        let moved = p.drain(e.fd.as_fd());
        self.pipes.judge(moved)
    }

    fn recycle(&mut self, p: Pipe) {
        self.pipes.put(p);
    }

    fn pool(&self) -> PoolStats {
        PoolStats {
            pipes: self.pipes.out(),
            ..self.pool.stats()
        }
    }

    fn has_slack(&self) -> bool {
        self.pool.has_slack() || self.pipes.has_slack()
    }

    fn trim(&mut self) {
        for (class, group) in Class::ALL.into_iter().zip(&mut self.groups) {
            if let Some(group) = group {
                group.shrink_to(self.pool.peak(class));
            }
        }
        self.pool.trim();
        self.pipes.trim();
    }

    fn waker(&self) -> EventWaker {
        self.waker.clone()
    }
}

impl Drop for Uring {
    /// Terminate, join, close. Requests in the kernel refer to the pool and to the groups, and
    /// closing a ring does not wait for them: each must be seen to end first.
    fn drop(&mut self) {
        let names: Vec<SockRef> = self.table.iter_mut().map(|(name, _)| name).collect();
        for &name in &names {
            self.cancel(name);
        }
        let mut rest = std::mem::take(&mut self.local);
        let (round, longest) = RING_DRAIN;
        let deadline = os::boottime() + longest;
        loop {
            for fd in self.doomed.drain(..) {
                self.ring.close(fd);
            }
            let busy = self.ring.requests() > 0;
            self.ring.enter(busy.then_some(round));
            self.reap(&mut rest);
            if self.ring.requests() == 0 || os::boottime() >= deadline {
                break;
            }
        }
        for done in rest {
            self.swallow(done.what);
        }
        if self.ring.requests() > 0 {
            self.pool.leak();
            for group in &mut self.groups {
                if let Some(group) = group.take() {
                    group.leak();
                }
            }
        }
        // What never reached the kernel, or did not come back: its buffers are no leaks of the
        // worker's, and those that the kernel may still use are in leaked memory.
        for name in names {
            let Some(socket) = self.table.get_mut(name) else {
                continue;
            };
            for buf in socket.take_buffers() {
                self.pool.free(buf);
            }
        }
    }
}
