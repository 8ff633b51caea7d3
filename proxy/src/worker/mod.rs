//! Floor 3, hot path: one thread, one engine, no locks, no allocation per record.
//!
//! | file | what it is |
//! |---|---|
//! | `mod.rs` | the worker, its turn, and who gets a completion |
//! | `slab`, `net`, `conn`, `timers` | slots with generations, what is in flight on them, what they are, their deadlines |
//! | `accept`, `link` | listeners and strangers; framed connections carried for control |
//! | `relay`, `relay_flow`, `relay_splice` | legs: waiting, paired, forwarded, forwarded in bulk |
//! | `team`, `handover`, `relay_away` | the other workers of the process: who has less to do, apps and links that move there, pairs that they carry |
//! | `lane`, `lane_send`, `lane_recv`, `batch` | links that became lanes, their two directions, what is sealed and not sent |
//! | `circuit`, `circuit_send`, `circuit_recv`, `promote`, `dedicated` | links that became circuits, their two directions, who goes there, and who from the first byte on |
//! | `inlet`, `outlet` | apps that want a stream, targets that streams want |
//! | `portal_limits` | how many streams a portal has, and how long one may be quiet |
//! | `stream`, `stream_out` | the sockets of apps and targets, and their two directions |
//! | `drain` | stopping without cutting anybody, and stopping |
//! | `counters`, `check` | what is counted, what must hold between two turns |
//!
//! # One turn
//! Always in this order: completions → mailbox → timers → new work → one submit-and-wait, before
//! which `--spin` looks for completions without sleeping. No other place blocks. The clock is read once a turn. Work per turn is bounded: one receive per
//! socket and direction, `limits::COMMANDS_PER_TURN` commands, `limits::TURN_BYTES_MAX` sealed
//! per lane.
//!
//! # What reaches control
//! [`Event`]s. Those that must not be lost wait in `outbox` while control's queue is full; until
//! it is empty again nothing that could add to it is begun (links are not read, apps and sessions
//! not accepted), so it holds at most one event per slot. Hints are dropped and counted instead.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::engine::{DoneList, Engine, Wait};
use crate::ids::{LinkId, PortalNo, WorkerId};
use crate::limits::{
    COMMANDS_PER_TURN, CREDIT_BUDGET, HINTS_MAX, SLOTS_RESERVED, STRANGERS_MAX,
    STRANGERS_PER_PREFIX, TRIM_EVERY,
};
use crate::mailbox::{ToWorker, WorkerEnd};
use crate::protocol::command::{Command, Event};
use crate::protocol::lane::LaneShared;
use crate::protocol::portal_limits::PortalLimits;
use crate::protocol::strangers::Strangers;
use crate::time::{Duration, Instant};

mod accept;
mod batch;
mod check;
mod circuit;
mod circuit_recv;
mod circuit_send;
mod conn;
pub mod counters;
mod dedicated;
mod drain;
#[cfg(test)]
mod footprint;
mod handover;
mod inlet;
mod lane;
mod lane_recv;
mod lane_send;
mod link;
mod net;
mod outlet;
mod portal_limits;
mod promote;
mod relay;
mod relay_away;
mod relay_flow;
mod relay_splice;
mod slab;
mod stream;
mod stream_out;
mod team;
mod timers;

#[cfg(all(test, feature = "sim"))]
mod tests;

use conn::Conn;
use counters::Counters;
use lane::{LaneIx, Lanes};
use net::{Landed, Net};
use slab::SlotKey;

/// What a worker is started with.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// This worker's place among those of the process: names its links apart from theirs.
    pub place: WorkerId,
    /// Most sockets at once: streams, legs, links and listeners together.
    pub slots: u32,
    /// What all workers of the process count, by their ids: the same for each of them. Empty where
    /// there is one.
    pub team: Vec<Arc<Counters>>,
    /// How long it looks for completions before it sleeps; at most `limits::SPIN_MAX`.
    pub spin: Duration,
}

impl WorkerConfig {
    /// The only one of its process.
    pub const fn alone(slots: u32) -> WorkerConfig {
        WorkerConfig {
            place: WorkerId::FIRST,
            slots,
            team: Vec::new(),
            spin: Duration::ZERO,
        }
    }
}

/// One worker.
pub struct Worker<E: Engine> {
    net: Net<E>,
    mailbox: WorkerEnd<E::Carry>,
    team: team::Team,
    counters: Arc<Counters>,
    /// Read once a turn.
    now: Instant,
    turn: u64,
    /// See [`WorkerConfig::spin`].
    spin: Duration,
    /// There is work that must not wait for a completion.
    again: bool,
    /// When the engine gives back what it does not need; never while that is little.
    trim_at: Instant,

    listeners: Vec<SlotKey>,
    /// Some listener rests because a bound is reached.
    accept_paused: bool,
    strangers: Strangers<SlotKey>,
    links: BTreeMap<LinkId, SlotKey>,
    next_link: u64,
    /// Links and strangers that wait for room in control's queue.
    links_paused: Vec<SlotKey>,
    relay: relay::Relay,
    lanes: Lanes,
    circuits: circuit::CircuitTable,
    /// Circuits whose receiving side can go on at the end of this turn.
    circuits_touched: Vec<circuit::CircuitIx>,
    /// The last turn in which a lane carried bytes of apps.
    small_turn: u64,
    /// Lanes with something to do at the end of this turn.
    dirty: Vec<LaneIx>,
    /// Lanes with something left to do in the next turn.
    dirty_later: Vec<LaneIx>,
    /// Streams whose sending side has something to do at the end of this turn.
    touched: Vec<SlotKey>,
    inlets: BTreeMap<PortalNo, inlet::Inlet>,
    targets: BTreeMap<PortalNo, outlet::Targets>,
    limits: BTreeMap<PortalNo, Arc<PortalLimits>>,
    /// The credit budget and the authority's time, for all lanes.
    shared: LaneShared,
    outbox: VecDeque<Event>,
    hints: VecDeque<Event>,
    drain: drain::Drain,

    // Kept between turns so that a turn allocates nothing.
    done: DoneList,
    inbox: Vec<ToWorker<E::Carry>>,
    runs: Vec<lane_recv::Run>,
}

impl<E: Engine> Worker<E> {
    /// A worker that has nothing yet; everything comes by its mailbox.
    pub fn new(
        engine: E,
        mailbox: WorkerEnd<E::Carry>,
        config: &WorkerConfig,
        counters: Arc<Counters>,
    ) -> Self {
        let now = engine.now();
        // What a process may have of these is shared among its workers.
        let workers = config.team.len().max(1);
        let strangers = STRANGERS_MAX / workers;
        Worker {
            net: Net::new(engine, config.slots),
            mailbox,
            team: team::Team::new(config),
            counters,
            now,
            turn: 0,
            spin: config.spin,
            again: false,
            trim_at: Instant::FAR_FUTURE,
            listeners: Vec::new(),
            accept_paused: false,
            strangers: Strangers::new(strangers, STRANGERS_PER_PREFIX.min(strangers)),
            links: BTreeMap::new(),
            next_link: LinkId::at(config.place, 1).0,
            links_paused: Vec::new(),
            relay: relay::Relay::new(workers),
            lanes: Lanes::default(),
            circuits: circuit::CircuitTable::default(),
            circuits_touched: Vec::new(),
            small_turn: 0,
            dirty: Vec::new(),
            dirty_later: Vec::new(),
            touched: Vec::new(),
            inlets: BTreeMap::new(),
            targets: BTreeMap::new(),
            limits: BTreeMap::new(),
            shared: LaneShared::new(CREDIT_BUDGET / workers),
            outbox: VecDeque::new(),
            hints: VecDeque::new(),
            drain: drain::Drain::default(),
            done: DoneList::new(),
            inbox: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Runs until `Command::Stop` has closed everything.
    pub fn run(&mut self) {
        while self.one_turn() {}
    }

    /// One turn; false when the worker has stopped. A simulation calls this itself.
    pub fn one_turn(&mut self) -> bool {
        self.now = self.net.engine.now();
        self.turn += 1;
        self.again = false;
        self.counters.turns.add(1);

        self.take_completions();
        self.take_commands();
        self.fire_timers();
        self.do_new_work();
        self.trim();

        let last = self.drain.is_over() && self.net.slots.is_empty();
        // The last turn carries out the last closes.
        let wait = if last { Wait::Poll } else { self.how_long() };
        let mut done = std::mem::take(&mut self.done);
        if !self.spins(wait, &mut done) {
            self.net.turn(wait, &mut done);
        }
        self.done = done;
        !last
    }

    /// Submits, and looks for what completes for a while instead of sleeping at once. Whether
    /// something did, or somebody woke the engine: then the turn is over.
    fn spins(&mut self, wait: Wait, done: &mut DoneList) -> bool {
        if self.spin.is_zero() || wait == Wait::Poll {
            return false;
        }
        let mut stats = self.net.turn(Wait::Poll, done);
        let start = self.net.engine.now();
        let until = match wait {
            Wait::Until(at) => at.min(start + self.spin),
            Wait::Poll | Wait::Forever => start + self.spin,
        };
        self.counters.spins.add(1);
        while stats.completions == 0 && !stats.woken {
            if self.net.engine.now() >= until {
                return false;
            }
            std::hint::spin_loop();
            stats = self.net.turn(Wait::Poll, done);
        }
        self.counters.spins_hit.add(1);
        true
    }

    fn how_long(&mut self) -> Wait {
        if self.again {
            return Wait::Poll;
        }
        let retry_at = self.net.retry_at(self.now);
        let until = self
            .net
            .next_deadline()
            .min(self.next_own_deadline())
            .min(retry_at);
        if until == Instant::FAR_FUTURE {
            Wait::Forever
        } else {
            Wait::Until(until)
        }
    }

    /// Deadlines that are no slot's: those of the relay's tables, of the drain and of the engine.
    fn next_own_deadline(&self) -> Instant {
        self.relay
            .next_deadline()
            .min(self.drain.next_deadline())
            .min(self.team.next_deadline())
            .min(self.trim_at)
    }

    /// Gives memory back from time to time, while there is some to give.
    fn trim(&mut self) {
        if self.now >= self.trim_at {
            self.trim_at = Instant::FAR_FUTURE;
            self.net.engine.trim();
        }
        if self.trim_at == Instant::FAR_FUTURE && self.net.engine.has_slack() {
            self.trim_at = self.now + TRIM_EVERY;
        }
    }

    fn take_completions(&mut self) {
        let mut done = std::mem::take(&mut self.done);
        for done in done.drain(..) {
            match self.net.landed(done) {
                Landed::Live(key, code, what) => self.completed(key, code, what),
                Landed::Closed(key) => self.closed(key),
                Landed::Starved => self.counters.starved.add(1),
                Landed::Nothing => {}
            }
        }
        self.done = done;
    }

    fn completed(&mut self, key: SlotKey, code: u8, what: crate::engine::Outcome) {
        let Some(slot) = self.net.slots.get(key) else {
            return self.net.reclaim(what);
        };
        match &slot.conn {
            Conn::Listener(_) => self.listener_done(key, what),
            Conn::Stranger(_) => self.stranger_done(key, code, what),
            Conn::Link(_) => self.link_done(key, code, what),
            Conn::Leg(_) => self.leg_done(key, code, what),
            Conn::Lane(ix) => self.lane_done(*ix, code, what),
            Conn::Circuit(ix) => self.circuit_done(*ix, code, what),
            Conn::Stream(_) => self.stream_done(key, code, what),
        }
    }

    /// The slot's socket is closed.
    fn closed(&mut self, key: SlotKey) {
        let Some(slot) = self.net.slots.get(key) else {
            return;
        };
        match &slot.conn {
            Conn::Listener(_) => {
                self.net.remove(key);
                self.listeners.retain(|&listener| listener != key);
            }
            Conn::Stranger(_) => self.stranger_closed(key),
            Conn::Link(_) => self.link_closed(key),
            Conn::Leg(_) => self.leg_closed(key),
            Conn::Lane(ix) => self.lane_closed(*ix),
            Conn::Circuit(ix) => self.circuit_closed(*ix),
            Conn::Stream(_) => self.stream_closed(key),
        }
    }

    fn fire_timers(&mut self) {
        while let Some(key) = self.net.next_due(self.now) {
            let Some(slot) = self.net.slots.get(key) else {
                continue;
            };
            match &slot.conn {
                Conn::Listener(_) => {}
                Conn::Stranger(_) => self.stranger_drop(key),
                Conn::Link(_) => self.link_due(key),
                Conn::Leg(_) => self.leg_due(key),
                Conn::Lane(ix) => self.lane_due(*ix),
                Conn::Circuit(ix) => self.circuit_due(*ix),
                Conn::Stream(_) => self.stream_due(key),
            }
        }
        self.relay_due();
        self.drain_due();
    }

    fn take_commands(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        self.again |= self.mailbox.receive(&mut inbox, COMMANDS_PER_TURN);
        for message in inbox.drain(..) {
            match message {
                ToWorker::Listen { portal, socket } => self.listen(portal, &socket),
                ToWorker::Command(command) => self.command(command),
                ToWorker::Handed(handed) => self.take_over(handed),
            }
        }
        self.inbox = inbox;
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Dial {
                link,
                to,
                hello,
                expect,
                deadline,
            } => {
                self.link_dial(link, to, hello, expect, deadline);
            }
            Command::Send {
                link,
                bytes,
                framed,
                then,
            } => {
                self.link_send(link, &bytes, framed, then);
            }
            Command::Deadline { link, at, why } => self.link_deadline(link, at, why),
            Command::Close {
                link,
                flush,
                why: _,
            } => self.link_close(link, flush),
            Command::Adopt(adopt) => self.adopt(*adopt),
            Command::HandOver { link, adopt } => self.link_hand_over(link, adopt),
            Command::Lane { link, what } => self.lane_command(link, what),
            Command::Circuit { link, what } => self.circuit_command(link, what),
            Command::LegKey(entry) => self.leg_key(*entry),
            Command::LegKeyGone { session } => self.leg_key_gone(session),
            Command::MemberGone { member } => self.leg_member_gone(member),
            Command::MemberDenied { address, member } => self.leg_denied(address, member),
            Command::ClosePortal { portal, why } => self.close_portal(portal, why),
            Command::Targets { portal, targets } => self.set_targets(portal, &targets),
            Command::Gate { portal, gate } => self.set_gate(portal, gate),
            Command::Hosts { portal, workers } => self.set_hosts(portal, workers),
            Command::Limits { portal, limits } => self.set_limits(portal, limits),
            Command::AuthorityTime { unix_millis, at } => {
                self.shared.set_authority_time(unix_millis, at);
            }
            Command::Drain { idle, deadline } => self.begin_drain(idle, deadline),
            Command::Stop => self.stop(),
        }
    }

    /// What the turn's events made possible: starved slots, deliveries, and last the batches.
    fn do_new_work(&mut self) {
        self.dirty.append(&mut self.dirty_later);
        for _ in 0..self.net.fed(self.now) {
            if let Some(key) = self.net.next_starved() {
                self.resume(key);
            }
        }
        self.empty_outbox();
        self.say_notes();
        loop {
            self.settle();
            if self.dirty.is_empty() {
                break;
            }
            let mut dirty = std::mem::take(&mut self.dirty);
            for ix in dirty.drain(..) {
                self.lane_flush(ix);
            }
            // Nothing was added meanwhile but lanes that ended: keep the longer list.
            dirty.append(&mut self.dirty);
            self.dirty = dirty;
        }
        self.again |= !self.dirty_later.is_empty();
        self.drain_step();
        self.settle();
    }

    /// Finishes what deliveries and closings have begun.
    fn settle(&mut self) {
        loop {
            if let Some(key) = self.touched.pop() {
                self.stream_pump(key);
            } else if let Some(ix) = self.circuits_touched.pop() {
                self.circuit_next(ix);
            } else if let Some(key) = self.net.next_closed() {
                self.closed(key);
            } else {
                break;
            }
        }
    }

    fn resume(&mut self, key: SlotKey) {
        let Some(slot) = self.net.slots.get(key) else {
            return;
        };
        if !slot.is_live() {
            return;
        }
        match &slot.conn {
            Conn::Listener(_) => self.net.accept(key),
            Conn::Stranger(_) => self.stranger_read(key),
            Conn::Link(_) => {
                self.link_pump(key);
                self.link_read(key);
            }
            Conn::Leg(_) => self.leg_resume(key),
            Conn::Lane(ix) => self.lane_resume(*ix),
            Conn::Circuit(ix) => self.circuit_resume(*ix),
            Conn::Stream(_) => self.stream_resume(key),
        }
    }

    /// Tells control something that must not be lost.
    fn tell(&mut self, event: Event) {
        if !self.outbox.is_empty() {
            self.outbox.push_back(event);
        } else if let Err(event) = self.mailbox.send(event) {
            self.counters.mailbox_full.add(1);
            self.outbox.push_back(event);
        }
    }

    /// Tells control something that comes again if it matters.
    fn hint(&mut self, event: Event) {
        let sent = if self.outbox.is_empty() && self.hints.is_empty() {
            self.mailbox.send(event)
        } else {
            Err(event)
        };
        if let Err(event) = sent {
            if self.hints.len() < HINTS_MAX {
                self.hints.push_back(event);
            } else {
                self.counters.hints_dropped.add(1);
            }
        }
    }

    /// Whether control has fallen behind: nothing is begun that would tell it more.
    fn is_congested(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn empty_outbox(&mut self) {
        if self.outbox.is_empty() && self.hints.is_empty() {
            return;
        }
        while let Some(event) = self.outbox.pop_front().or_else(|| self.hints.pop_front()) {
            if let Err(event) = self.mailbox.send(event) {
                return self.outbox.push_front(event);
            }
        }
        for key in std::mem::take(&mut self.links_paused) {
            self.resume(key);
        }
        self.inlets_resume();
    }

    /// Slots that streams and strangers leave to links and lanes.
    fn reserve(&self) -> usize {
        SLOTS_RESERVED
    }
}
