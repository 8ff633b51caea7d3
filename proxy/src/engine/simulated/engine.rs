//! [`SimEngine`]: the engine's contract on the sockets of a world.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::faults::OpKind;
use super::net::{Net, Owner, SockId};
use super::world::EngineId;
use crate::engine::buf::Pool;
use crate::engine::op::Done;
use crate::engine::pipe::{Pipe, Pipes};
use crate::engine::slots::{self, Side, Slots};
use crate::engine::table::Table;
use crate::engine::{
    Buf, Caps, Class, Close, Dir, DoneList, Engine, EngineConfig, Errno, Family, Kind, Op, Outcome,
    PoolStats, Sock, SockOpt, SockRef, Token, TurnStats, Wait, Wake,
};
use crate::time::Instant;

/// A simulated socket in transit. Dropping it closes the socket, as dropping a descriptor does.
#[derive(Debug)]
pub struct SimCarry {
    id: SockId,
    graveyard: Option<Arc<Mutex<Vec<SockId>>>>,
}

impl SimCarry {
    pub(super) fn new(id: SockId, net: &Net) -> SimCarry {
        SimCarry {
            id,
            graveyard: Some(Arc::clone(&net.graveyard)),
        }
    }

    pub(super) fn id(&self) -> SockId {
        self.id
    }

    fn arrive(mut self) -> SockId {
        self.graveyard = None;
        self.id
    }
}

impl Drop for SimCarry {
    fn drop(&mut self) {
        if let Some(graveyard) = self.graveyard.take()
            && let Ok(mut dead) = graveyard.lock()
        {
            dead.push(self.id);
        }
    }
}

/// Wakes a simulated engine: it has a turn before the clock moves on.
#[derive(Clone, Debug)]
pub struct SimWaker(Arc<AtomicBool>);

impl Wake for SimWaker {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: SockId,
    pub(super) listens: bool,
    pub(super) connecting: bool,
    pub(super) slots: Slots,
    /// What of it is to be cancelled in the next turn: inward, outward, watch.
    pub(super) cancel: [bool; 3],
}

/// A simulated engine. Its `turn` never blocks: it does what can be done at this instant and
/// notes how long it would have slept. See [the module](super) for how to run one.
pub struct SimEngine {
    pub(super) net: Rc<RefCell<Net>>,
    pub(super) id: u32,
    pub(super) host: IpAddr,
    pub(super) table: Table<Entry>,
    pub(super) pool: Pool,
    pub(super) pipes: Pipes,
    pub(super) local: DoneList,
    pub(super) doomed: Vec<(SockId, bool, Close)>,
    pub(super) waker: SimWaker,
    pub(super) now: Instant,
    pub(super) busy: Vec<SockRef>,
    pub(super) woken: bool,
}

impl std::fmt::Debug for SimEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimEngine({} at {})", self.id, self.host)
    }
}

impl SimEngine {
    pub(super) fn open(
        net: Rc<RefCell<Net>>,
        host: IpAddr,
        cfg: &EngineConfig,
    ) -> io::Result<SimEngine> {
        let pool = Pool::open(cfg.buffers)?;
        let (id, woken) = net.borrow_mut().add_engine();
        let now = net.borrow().now;
        Ok(SimEngine {
            net,
            id,
            host,
            table: Table::new(cfg.sockets),
            pool,
            pipes: Pipes::new(cfg.pipes),
            local: Vec::new(),
            doomed: Vec::new(),
            waker: SimWaker(woken),
            now,
            busy: Vec::new(),
            woken: false,
        })
    }

    /// Its name in the world.
    pub fn id(&self) -> EngineId {
        EngineId(self.id)
    }

    /// Whether somebody woke it before its last turn: that turn would not have slept.
    pub fn was_woken(&self) -> bool {
        self.woken
    }

    fn owner(&self) -> Owner {
        Owner::Engine(self.id)
    }

    pub(super) fn violation(&self, what: String) {
        self.net
            .borrow_mut()
            .violation(format!("engine {}: {what}", self.id));
    }

    pub(super) fn insert(&mut self, id: SockId, listens: bool) -> Result<Sock, SockId> {
        let entry = Entry {
            id,
            listens,
            connecting: false,
            slots: Slots::default(),
            cancel: [false; 3],
        };
        match self.table.insert(entry) {
            Ok(name) => {
                if !listens {
                    self.net.borrow_mut().set_owner(id, Owner::Engine(self.id));
                }
                Ok(Sock::new(name))
            }
            Err(entry) => Err(entry.id),
        }
    }
}

impl Engine for SimEngine {
    type Carry = SimCarry;
    type Waker = SimWaker;

    fn caps(&self) -> Caps {
        Caps {
            kind: Kind::Simulated,
            features: Vec::new(),
        }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn listen(&mut self, shared: &SimCarry) -> io::Result<Sock> {
        if self.table.is_full() {
            return Err(Errno::MFILE.into());
        }
        if !self
            .net
            .borrow_mut()
            .share(shared.id, Owner::Engine(self.id))
        {
            return Err(Errno::INVAL.into());
        }
        self.insert(shared.id, true)
            .map_err(|_| Errno::MFILE.into())
    }

    fn socket(&mut self, _: Family, opt: &SockOpt) -> io::Result<Sock> {
        if let Some(errno) = self.net.borrow_mut().ordered(self.id, OpKind::Socket) {
            return Err(errno.into());
        }
        if self.table.is_full() {
            return Err(Errno::MFILE.into());
        }
        let id = self.net.borrow_mut().socket(self.owner(), self.host);
        self.net.borrow_mut().set_options(id, *opt);
        self.insert(id, false).map_err(|_| Errno::MFILE.into())
    }

    fn attach(&mut self, c: SimCarry) -> Result<Sock, SimCarry> {
        if self.table.is_full() || !self.net.borrow().is_connection(c.id) {
            return Err(c);
        }
        let id = c.arrive();
        self.insert(id, false)
            .map_err(|id| SimCarry::new(id, &self.net.borrow()))
    }

    fn detach(&mut self, s: Sock) -> Result<SimCarry, Sock> {
        if !self
            .table
            .get(s.name())
            .is_some_and(|e| e.slots.is_idle() && !e.listens)
        {
            return Err(s);
        }
        match self.table.remove(s.name()) {
            Some(e) => {
                s.taken();
                let mut net = self.net.borrow_mut();
                net.set_owner(e.id, Owner::Nobody);
                Ok(SimCarry::new(e.id, &net))
            }
            None => Err(s),
        }
    }

    fn tune(&mut self, s: SockRef, opt: &SockOpt) -> io::Result<()> {
        let e = self
            .table
            .get(s)
            .ok_or_else(|| io::Error::from(Errno::BADF))?;
        self.net.borrow_mut().set_options(e.id, *opt);
        Ok(())
    }

    fn submit(&mut self, t: Token, op: Op) -> Result<(), Op> {
        let name = op.on();
        let Some(e) = self.table.get_mut(name) else {
            self.violation(format!("{op:?} on a closed socket"));
            self.local
                .push(Done::last(t, slots::refuse(op, Errno::BADF)));
            return Ok(());
        };
        if !op.is_well_formed() {
            self.violation(format!("{op:?} does not fit"));
            self.local
                .push(Done::last(t, slots::refuse(op, Errno::INVAL)));
            return Ok(());
        }
        match e.slots.put(t, op) {
            Ok(side) => {
                let i = match side {
                    Side::In => 0,
                    Side::Out => 1,
                    Side::Watch => 2,
                };
                e.cancel[i] = false;
                self.net.borrow_mut().tell(Owner::Engine(self.id));
                Ok(())
            }
            Err(op) => {
                self.violation(format!("{op:?} next to another of its side"));
                Err(op)
            }
        }
    }

    fn cancel(&mut self, s: SockRef) {
        if let Some(e) = self.table.get_mut(s) {
            e.cancel = [
                e.slots.inward.is_some(),
                e.slots.outward.is_some(),
                e.slots.watch.is_some(),
            ];
            self.net.borrow_mut().tell(Owner::Engine(self.id));
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
        Ok(self.net.borrow_mut().shutdown(e.id, d)?)
    }

    fn close(&mut self, s: Sock, how: Close) {
        let name = s.taken();
        let Some(e) = self.table.remove(name) else {
            self.violation(format!("{name:?} of another engine was closed here"));
            return;
        };
        if !e.slots.is_idle() {
            self.violation(format!("{name:?} was closed with an operation in flight"));
        }
        let ops = [
            e.slots.inward.map(|(_, op)| op.ended(None)),
            e.slots.outward.map(|(_, op)| op.ended(None)),
        ];
        for buf in ops.into_iter().flatten().filter_map(slots::buffers_of) {
            self.pool.free(buf);
        }
        self.doomed.push((e.id, e.listens, how));
        self.net.borrow_mut().tell(Owner::Engine(self.id));
    }

    fn turn(&mut self, wait: Wait, out: &mut DoneList) -> TurnStats {
        let before = out.len();
        let mut busy = std::mem::take(&mut self.busy);
        {
            let mut net = self.net.borrow_mut();
            net.bury();
            self.woken = net.begin_turn(self.id);
            self.now = net.now;
            for (id, listens, how) in self.doomed.drain(..) {
                if listens {
                    net.unshare(id, Some(Owner::Engine(self.id)));
                } else {
                    net.close(id, how);
                }
            }
            busy.extend(
                self.table
                    .iter_mut()
                    .filter(|(_, e)| !e.slots.is_idle())
                    .map(|(n, _)| n),
            );
            // The kernel promises no order among sockets.
            net.rng.shuffle(&mut busy);
        }
        out.append(&mut self.local);
        for &name in &busy {
            self.try_outward(name, out);
        }
        for name in busy.drain(..) {
            self.try_inward(name, out);
            self.try_watch(name, out);
        }
        self.busy = busy;
        let mut net = self.net.borrow_mut();
        if let Some(e) = net.engine(self.id) {
            // Completions are dealt with before anything else happens.
            e.wait = if out.len() > before { Wait::Poll } else { wait };
        }
        TurnStats {
            syscalls: 0,
            completions: u32::try_from(out.len() - before).unwrap_or(u32::MAX),
            woken: false,
        }
    }

    fn alloc(&mut self, c: Class) -> Option<Buf> {
        let mut net = self.net.borrow_mut();
        let starve = net.faults.starve;
        if net.rng.chance(starve) || net.ordered(self.id, OpKind::Alloc).is_some() {
            return None;
        }
        self.pool.alloc(c)
    }

    fn free(&mut self, b: Buf) {
        let foreign = self.pool.stats().foreign;
        self.pool.free(b);
        if self.pool.stats().foreign > foreign {
            self.violation("a buffer of another engine was freed here".into());
        }
    }

    fn pipe(&mut self) -> Option<Pipe> {
        self.make_pipe()
    }

    fn splice_in(&mut self, from: SockRef, p: &mut Pipe, max: usize) -> io::Result<usize> {
        let moved = self.fill(from, p, max);
        self.pipes.judge(moved)
    }

    fn splice_out(&mut self, p: &mut Pipe, to: SockRef) -> io::Result<usize> {
        let moved = self.drain(p, to);
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

    fn waker(&self) -> SimWaker {
        self.waker.clone()
    }
}

impl Drop for SimEngine {
    fn drop(&mut self) {
        let mut ended: Vec<Outcome> = self.local.drain(..).map(|d| d.what).collect();
        let mut socks = Vec::new();
        for (_, e) in self.table.iter_mut() {
            ended.extend(e.slots.inward.take().map(|(_, op)| op.ended(None)));
            ended.extend(e.slots.outward.take().map(|(_, op)| op.ended(None)));
            // What a kernel does with sockets that have been set up to be reset: see `os`.
            socks.push((e.id, e.listens, Close::Reset));
        }
        for buf in ended.into_iter().filter_map(slots::buffers_of) {
            self.pool.free(buf);
        }
        socks.append(&mut self.doomed);
        let Ok(mut net) = self.net.try_borrow_mut() else {
            return;
        };
        for (id, listens, how) in socks {
            if listens {
                net.unshare(id, Some(Owner::Engine(self.id)));
            } else {
                net.close(id, how);
            }
        }
        if let Some(e) = net.engine(self.id) {
            e.alive = false;
        }
    }
}
