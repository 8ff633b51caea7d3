//! The epoll engine: the same contract by readiness, for where io_uring is not to be had.
//!
//! 1. `submit` only notes the operation and queues its socket.
//! 2. `turn` first tries what was queued: all sends, then all receives. A fresh socket counts as
//!    ready, so most operations are done here without waiting for an event.
//! 3. Then it asks epoll once, sleeping only when nothing has completed, notes the new readiness,
//!    and tries the operations of those sockets.
//!
//! Each socket is added to the set once in its life, edge-triggered for everything: readiness is
//! remembered in the entry until the kernel says EAGAIN or moves less than it was asked for.
//! An idle receive holds no buffer; one is taken when bytes are believed to be there.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno as SysErrno;

use super::accept::Rests;
use super::buf::{Buf, Class, Pool, PoolStats};
use super::config::{
    Caps, Close, Dir, EngineConfig, Family, Kind, OpenError, SockOpt, TurnStats, Wait,
};
use super::op::{Done, DoneList, Errno, Op, Outcome, Sock, SockRef, Token};
use super::pipe::{Pipe, Pipes};
use super::slots::{self, Side, Slots};
use super::table::Table;
use super::wake::EventWaker;
use super::{Engine, os};
use crate::limits::{EPOLL_EVENTS, SLEEP_MAX};
use crate::time::Instant;

mod run;

/// The event data of the waker; no socket has it, because names are 32 bits.
const WAKER: u64 = u64::MAX;

/// A socket and what is known of it.
#[derive(Debug)]
struct Entry {
    fd: OwnedFd,
    slots: Slots,
    /// In the epoll set.
    joined: bool,
    /// Its `Connect` was begun.
    connecting: bool,
    /// A receive may find something.
    readable: bool,
    /// A send may move something.
    writable: bool,
    /// The peer's direction has ended: a short receive does not mean that nothing follows.
    ended: bool,
    /// In the queue of sockets to try.
    queued: bool,
    /// Rests in a row of a listening socket.
    rests: u32,
}

impl Entry {
    fn new(fd: OwnedFd) -> Entry {
        Entry {
            fd,
            slots: Slots::default(),
            joined: false,
            connecting: false,
            readable: false,
            writable: false,
            ended: false,
            queued: false,
            rests: 0,
        }
    }
}

/// An engine on epoll. See the module for how it works and [`Engine`] for how it is used.
pub struct Epoll {
    set: OwnedFd,
    table: Table<Entry>,
    pool: Pool,
    pipes: Pipes,
    waker: EventWaker,
    now: Instant,
    /// Sockets whose operations are to be tried.
    queue: Vec<SockRef>,
    /// The queue being worked on; kept for its memory.
    working: Vec<SockRef>,
    /// Results that were known before the turn.
    local: DoneList,
    /// Closed by the worker; their descriptors are closed in the next turn.
    doomed: Vec<OwnedFd>,
    rests: Rests,
    events: Vec<epoll::Event>,
    syscalls: u32,
}

impl std::fmt::Debug for Epoll {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Epoll({} sockets)", self.table.len())
    }
}

impl Epoll {
    /// Bytes of memory that a socket costs.
    #[cfg(test)]
    pub(crate) const SOCKET: usize = Table::<Entry>::PLACE;

    /// Opens an engine on this thread.
    ///
    /// # Errors
    /// [`OpenError::Failed`] with what epoll_create, eventfd or mmap say (EMFILE, ENOMEM).
    pub fn open(cfg: &EngineConfig) -> Result<Epoll, OpenError> {
        Self::build(cfg).map_err(|source| OpenError::Failed {
            engine: "epoll",
            source,
        })
    }

    fn build(cfg: &EngineConfig) -> io::Result<Epoll> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = EventWaker::new()?;
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&set, waker.fd(), EventData::new_u64(WAKER), flags)?;
        Ok(Epoll {
            set,
            table: Table::new(cfg.sockets),
            pool: Pool::open(cfg.buffers)?,
            pipes: Pipes::new(cfg.pipes),
            waker,
            now: os::boottime(),
            queue: Vec::new(),
            working: Vec::new(),
            local: Vec::new(),
            doomed: Vec::new(),
            rests: Rests::new(),
            events: Vec::with_capacity(EPOLL_EVENTS),
            syscalls: 0,
        })
    }

    /// Adds the socket to the set, once in its life.
    fn join(&mut self, name: SockRef, extra: EventFlags) -> io::Result<()> {
        let Some(e) = self.table.get_mut(name) else {
            return Err(Errno::BADF.into());
        };
        let flags = EventFlags::IN | EventFlags::ET | extra;
        self.syscalls += 1;
        epoll::add(
            &self.set,
            &e.fd,
            EventData::new_u64(u64::from(name.0)),
            flags,
        )?;
        e.joined = true;
        Ok(())
    }

    /// Takes a connected socket in. It counts as ready until it proves not to be.
    fn adopt(&mut self, fd: OwnedFd) -> Result<Sock, OwnedFd> {
        let entry = Entry {
            readable: true,
            writable: true,
            ..Entry::new(fd)
        };
        let name = self.table.insert(entry).map_err(|e| e.fd)?;
        match self.join(name, EventFlags::OUT | EventFlags::RDHUP) {
            Ok(()) => Ok(Sock::new(name)),
            Err(_) => match self.table.remove(name) {
                Some(e) => Err(e.fd),
                // `insert` has just put it there.
                None => Ok(Sock::new(name)),
            },
        }
    }

    fn enqueue(&mut self, name: SockRef) {
        if let Some(e) = self.table.get_mut(name)
            && !e.queued
        {
            e.queued = true;
            self.queue.push(name);
        }
    }

    /// Tries the operations of all queued sockets, the outward ones first.
    fn try_queued(&mut self, out: &mut DoneList) {
        std::mem::swap(&mut self.queue, &mut self.working);
        for i in 0..self.working.len() {
            self.try_outward(self.working[i], out);
        }
        for i in 0..self.working.len() {
            let name = self.working[i];
            if let Some(e) = self.table.get_mut(name) {
                e.queued = false;
            }
            self.try_inward(name, out);
            self.try_watch(name, out);
        }
        self.working.clear();
    }

    /// Listening sockets whose rest is over accept again.
    fn end_rests(&mut self) {
        while let Some(name) = self.rests.over(self.now) {
            if let Some(e) = self.table.get_mut(name) {
                e.readable = true;
            }
            self.enqueue(name);
        }
    }

    /// How long epoll may sleep; zero when it must not.
    fn timeout(&self, wait: Wait, idle: bool) -> rustix::event::Timespec {
        let left = match wait {
            _ if !idle => std::time::Duration::ZERO,
            Wait::Poll => std::time::Duration::ZERO,
            Wait::Until(t) => t.since(self.now),
            Wait::Forever => SLEEP_MAX,
        };
        let left = match self.rests.next() {
            Some(t) => left.min(t.since(self.now)),
            None => left,
        };
        let left = left.min(SLEEP_MAX);
        rustix::event::Timespec {
            // At most SLEEP_MAX, so both fit.
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(0),
            tv_nsec: i64::from(left.subsec_nanos()),
        }
    }

    /// One epoll_wait: notes what became ready and queues those sockets.
    fn gather(&mut self, timeout: &rustix::event::Timespec) {
        self.events.clear();
        self.syscalls += 1;
        let space = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.set, space, Some(timeout)) {
            Ok(_) | Err(SysErrno::INTR) => {}
            // Only a closed set or a bad pointer could be the reason.
            Err(e) => debug_assert!(false, "epoll_wait: {e}"),
        }
        for i in 0..self.events.len() {
            let (flags, data) = (self.events[i].flags, self.events[i].data.u64());
            let Ok(raw) = u32::try_from(data) else {
                continue;
            };
            let name = SockRef(raw);
            let Some(e) = self.table.get_mut(name) else {
                continue;
            };
            if flags.intersects(EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP) {
                e.ended = true;
                e.readable = true;
            }
            e.readable |= flags.contains(EventFlags::IN);
            e.writable |= flags.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR);
            if !e.slots.is_idle() {
                self.enqueue(name);
            }
        }
    }
}

impl Engine for Epoll {
    type Carry = OwnedFd;
    type Waker = EventWaker;

    fn caps(&self) -> Caps {
        Caps {
            kind: Kind::Epoll,
            features: [&["edge-triggered"], self.pipes.feature().as_slice()].concat(),
        }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn listen(&mut self, shared: &OwnedFd) -> io::Result<Sock> {
        let fd = shared.try_clone()?;
        rustix::io::ioctl_fionbio(&fd, true)?;
        let entry = Entry {
            readable: true,
            ..Entry::new(fd)
        };
        let name = self
            .table
            .insert(entry)
            .map_err(|_| io::Error::from(Errno::MFILE))?;
        // One connection wakes one worker, not all that share the socket.
        if let Err(e) = self.join(name, EventFlags::EXCLUSIVE) {
            self.table.remove(name);
            return Err(e);
        }
        Ok(Sock::new(name))
    }

    fn socket(&mut self, family: Family, opt: &SockOpt) -> io::Result<Sock> {
        if self.table.is_full() {
            return Err(Errno::MFILE.into());
        }
        // It joins the set once it connects: before that it would only report a hang-up.
        let entry = Entry::new(os::stream(family, opt)?);
        let name = self
            .table
            .insert(entry)
            .map_err(|_| io::Error::from(Errno::MFILE))?;
        Ok(Sock::new(name))
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
            Some(e) => {
                if e.joined {
                    // It fails only for a descriptor that is not in the set.
                    let _ = epoll::delete(&self.set, &e.fd);
                }
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
        let try_now = match side {
            Side::In => e.readable,
            Side::Out | Side::Watch => true,
        };
        if try_now {
            self.enqueue(name);
        }
        Ok(())
    }

    fn cancel(&mut self, s: SockRef) {
        let Some(e) = self.table.get_mut(s) else {
            return;
        };
        // Nothing is in the kernel: what is in flight ends here, in the next turn.
        if let Some((t, op)) = e.slots.inward.take() {
            self.local.push(Done::last(t, op.ended(None)));
        }
        if let Some((t, op)) = e.slots.outward.take() {
            self.local.push(Done::last(t, op.ended(None)));
        }
        if let Some(t) = e.slots.watch.take() {
            self.local.push(Done::last(
                t,
                Outcome::Cancelled {
                    buf: None,
                    part: None,
                },
            ));
        }
        self.rests.forget(s);
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
        let Some(e) = self.table.remove(s.taken()) else {
            return;
        };
        debug_assert!(e.slots.is_idle(), "closed with an operation in flight");
        let ops = [
            e.slots.inward.map(|(_, op)| op.ended(None)),
            e.slots.outward.map(|(_, op)| op.ended(None)),
        ];
        for buf in ops.into_iter().flatten().filter_map(slots::buffers_of) {
            self.pool.free(buf);
        }
        if e.joined {
            // A listening socket is shared with other descriptors: closing this one would leave
            // it in the set.
            let _ = epoll::delete(&self.set, &e.fd);
        }
        os::prepare_close(e.fd.as_fd(), how);
        self.doomed.push(e.fd);
    }

    fn turn(&mut self, wait: Wait, out: &mut DoneList) -> TurnStats {
        let before = out.len();
        self.syscalls += u32::try_from(self.doomed.len()).unwrap_or(u32::MAX);
        self.doomed.clear();
        out.append(&mut self.local);
        self.end_rests();
        self.try_queued(out);
        let mut woken;
        loop {
            let idle = out.len() == before && self.queue.is_empty();
            let timeout = self.timeout(wait, idle);
            let sleeps = (timeout.tv_sec, timeout.tv_nsec) != (0, 0);
            // Somebody may have woken us between two turns: then this one only looks.
            if sleeps && !self.waker.begin_sleep() {
                self.gather(&rustix::event::Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                });
            } else {
                self.gather(&timeout);
            }
            woken = self.waker.end_sleep();
            self.now = os::boottime();
            self.end_rests();
            self.try_queued(out);
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
        let e = self.table.get_mut(from);
        let e = e.ok_or_else(|| io::Error::from(Errno::BADF))?;
        self.syscalls += 1;
        let was_empty = p.held() == 0;
        let moved = p.fill(e.fd.as_fd(), max);
        if was_empty && would_block(&moved) {
            e.readable = false;
        }
        self.pipes.judge(moved)
    }

    fn splice_out(&mut self, p: &mut Pipe, to: SockRef) -> io::Result<usize> {
        let e = self.table.get_mut(to);
        let e = e.ok_or_else(|| io::Error::from(Errno::BADF))?;
        debug_assert!(e.slots.outward.is_none(), "a splice would overtake a send");
        self.syscalls += 1;
        let had_some = p.held() > 0;
        let moved = p.drain(e.fd.as_fd());
        if had_some && would_block(&moved) {
            e.writable = false;
        }
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
        self.pool.trim();
        self.pipes.trim();
    }

    fn waker(&self) -> EventWaker {
        self.waker.clone()
    }
}

fn would_block(moved: &io::Result<usize>) -> bool {
    matches!(moved, Err(e) if e.kind() == io::ErrorKind::WouldBlock)
}

impl Drop for Epoll {
    fn drop(&mut self) {
        // Operations in flight end with their engine; their buffers are not leaks of the worker.
        let mut bufs = Vec::new();
        for (_, e) in self.table.iter_mut() {
            let inward = e.slots.inward.take().map(|(_, op)| op.ended(None));
            let outward = e.slots.outward.take().map(|(_, op)| op.ended(None));
            bufs.extend(
                [inward, outward]
                    .into_iter()
                    .flatten()
                    .filter_map(slots::buffers_of),
            );
        }
        bufs.extend(
            self.local
                .drain(..)
                .filter_map(|d| slots::buffers_of(d.what)),
        );
        bufs.into_iter().for_each(|b| self.pool.free(b));
    }
}
