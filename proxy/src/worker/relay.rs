//! The relay: legs are checked, parked and paired by the tables of `protocol`, then bytes are
//! copied between two sockets and never looked at.
//!
//! # Life of a leg
//! 1. Its 96 bytes are opened with its session's leg key: one AEAD, no public-key work.
//! 2. *Waiting*: it is parked, or waits for an outlet. An armed receive notices when it hangs up;
//!    one receive of early bytes is kept.
//! 3. *Paired*: both legs get their sealed answer, then [`relay_flow`](super::relay_flow) carries
//!    bytes, in bulk [`relay_splice`](super::relay_splice); or it is *refused*: the sealed answer,
//!    then FIN.
//!
//! All legs of an address are paired on one worker: no lock, no double pairing. Where there are
//! several, see [`relay_away`](super::relay_away).

use std::net::SocketAddr;

use crypto::Id;

use super::Worker;
use super::conn::Conn;
use super::net::code;
use super::relay_away::Away;
use super::relay_flow::Flow;
use super::slab::SlotKey;
use crate::engine::{Class, Close, Engine, Outcome};
use crate::error::CloseReason;
use crate::ids::{AddressHash, SessionId, WorkerId};
use crate::limits::{LEG_ANSWER, LEG_PREFACE, LINK_LINGER};
use crate::mailbox::LegNote;
use crate::protocol::command::{Event, LegEntry, Role};
use crate::protocol::leg::{Answer, LegInfo, LegTable};
use crate::protocol::pairing::{LegHandle, Over, Pairing, Verdict, Want};
use crate::time::Instant;

/// How far a leg is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Parked, or waiting for an outlet.
    Waiting,
    /// Joined with the leg in that slot.
    Paired(SlotKey),
    /// Joined with the leg in that slot, and on its way to that worker.
    Leaving(SlotKey, WorkerId),
    /// Its refusal is on the way; FIN follows, then the peer's end is awaited.
    Refused,
    /// Being closed.
    Closing,
}

/// One leg at the relay.
#[derive(Debug)]
pub(super) struct Leg {
    pub state: State,
    /// From this leg to its counterpart.
    pub flow: Flow,
    /// The sealed answer, until it is handed to the engine. Nothing is sent to the leg before it.
    pub answer: Option<Box<[u8; LEG_ANSWER]>>,
    /// What its preface said, until the leg is answered; `None` if that was refused.
    info: Option<Box<LegInfo>>,
    /// An outlet's leg that was paired and has shown no sign of life.
    pub silent: bool,
    /// Another worker keeps its books, by this name.
    pub home: Option<Box<(WorkerId, LegHandle)>>,
}

impl Leg {
    /// A leg of which nothing is decided; `first` came behind its preface.
    pub fn new(first: Vec<u8>) -> Leg {
        Leg {
            state: State::Closing,
            flow: Flow::new(first),
            answer: None,
            info: None,
            silent: false,
            home: None,
        }
    }
}

/// The relay's tables.
#[derive(Debug)]
pub(super) struct Relay {
    pub table: LegTable,
    pub pairing: Pairing,
    /// Pairs that others carry for this worker, and it for them.
    pub away: Away,
    /// `table.next_deadline()`, which costs a walk, as of the table's last change.
    sweep_at: Instant,
}

impl Relay {
    /// Of one of so many workers.
    pub fn new(workers: usize) -> Self {
        Relay {
            table: LegTable::default(),
            pairing: Pairing::default(),
            away: Away::new(workers),
            sweep_at: Instant::FAR_FUTURE,
        }
    }

    pub fn next_deadline(&self) -> Instant {
        self.sweep_at.min(self.pairing.next_deadline())
    }
}

/// Whether the peer did that, and not the engine or this end.
fn is_sign(code: u8, what: &Outcome) -> bool {
    code == code::RECV && matches!(what, Outcome::Received { .. } | Outcome::Eof { .. })
}

pub(super) fn handle_of(key: SlotKey) -> LegHandle {
    LegHandle(key.pack())
}

pub(super) fn key_of(handle: LegHandle) -> SlotKey {
    SlotKey::unpack(handle.0)
}

impl<E: Engine> Worker<E> {
    pub(super) fn leg_mut(&mut self, key: SlotKey) -> Option<&mut Leg> {
        match &mut self.net.slots.get_mut(key)?.conn {
            Conn::Leg(leg) => Some(leg),
            Conn::Listener(_)
            | Conn::Stranger(_)
            | Conn::Link(_)
            | Conn::Lane(_)
            | Conn::Circuit(_)
            | Conn::Stream(_) => None,
        }
    }

    /// `Command::LegKey`.
    pub(super) fn leg_key(&mut self, entry: LegEntry) {
        let member = entry.member;
        for address in self.relay.table.publish(entry) {
            self.relay.pairing.on_served(&address);
        }
        self.relay.sweep_at = self.relay.table.next_deadline();
        self.leg_serves_less(&member);
    }

    /// `Command::LegKeyGone`.
    pub(super) fn leg_key_gone(&mut self, session: SessionId) {
        let member = self.relay.table.end_session(self.now, session);
        self.relay.sweep_at = self.relay.table.next_deadline();
        self.relay.pairing.on_session_end(session);
        if let Some(member) = member {
            self.leg_serves_less(&member);
        }
    }

    /// Who waits for that member's legs may have to go to another.
    fn leg_serves_less(&mut self, member: &Id) {
        let Relay { table, pairing, .. } = &mut self.relay;
        pairing.on_serves_less(self.now, member, table);
        self.legs_look();
    }

    /// `Command::MemberGone`.
    pub(super) fn leg_member_gone(&mut self, member: Id) {
        self.relay.table.forget(&member);
        self.relay.sweep_at = self.relay.table.next_deadline();
        for handle in self.relay.pairing.legs_of(&member) {
            self.leg_cut(handle);
        }
        self.leg_serves_less(&member);
    }

    /// `Command::MemberDenied`.
    pub(super) fn leg_denied(&mut self, address: AddressHash, member: Id) {
        self.relay.pairing.on_denied(self.now, address, member);
    }

    /// The pairing's books no longer hold that leg.
    fn leg_gone(&mut self, key: SlotKey) {
        if let Some(home) = self.leg_mut(key).and_then(|leg| leg.home.take()) {
            return self.leg_gone_abroad(*home);
        }
        let Relay { table, pairing, .. } = &mut self.relay;
        pairing.on_gone(self.now, handle_of(key), table);
    }

    /// A stranger sent a whole leg preface, and what came behind it.
    pub(super) fn leg_arrived(&mut self, key: SlotKey, peer: SocketAddr, received: Vec<u8>) {
        let Some(slot) = self.net.slots.get_mut(key) else {
            return;
        };
        let mut preface = received;
        let first = preface.split_off(preface.len().min(LEG_PREFACE));
        slot.conn = Conn::Leg(Leg::new(first));
        let checked = match preface.first_chunk::<LEG_PREFACE>() {
            Some(preface) => self
                .relay
                .table
                .check(self.now, preface)
                .map_err(|why| why.reason()),
            None => Err(CloseReason::Malformed),
        };
        let info = match checked {
            Ok(info) => info,
            Err(why) => {
                self.counters.legs_refused.add(1);
                self.hint(Event::LegRefused {
                    member: None,
                    peer,
                    why,
                });
                return self.net.terminate(key, Close::Reset);
            }
        };
        let Relay { table, pairing, .. } = &mut self.relay;
        let verdict = pairing.on_leg(self.now, handle_of(key), &info, table);
        self.counters.legs_waiting.add(1);
        if let Some(leg) = self.leg_mut(key) {
            leg.state = State::Waiting;
            leg.info = Some(Box::new(info));
        }
        match verdict {
            Verdict::Wait => self.net.recv_any(key, Class::Small),
            Verdict::Pair(other) => self.leg_pair(key, key_of(other)),
            Verdict::Refuse(answer) => {
                if let Some(why) = answer.reason() {
                    self.hint(Event::LegRefused {
                        member: Some(info.member),
                        peer,
                        why,
                    });
                }
                self.leg_refuse(key, answer);
            }
        }
        self.legs_look();
    }

    /// Joins two waiting legs: each gets its answer, then bytes flow.
    fn leg_pair(&mut self, one: SlotKey, two: SlotKey) {
        let is_bulk = |leg: &mut Leg| leg.info.as_ref().is_some_and(|info| info.request.bulk);
        let bulk = self.leg_mut(one).is_some_and(is_bulk) || self.leg_mut(two).is_some_and(is_bulk);
        let suites = |leg: &mut Leg| leg.info.as_ref().map(|info| info.request.suites);
        let masks = self
            .leg_mut(one)
            .and_then(suites)
            .zip(self.leg_mut(two).and_then(suites));
        let Some((of_one, of_two)) = masks else {
            return;
        };
        for (key, suites) in [(one, of_two), (two, of_one)] {
            if let Some(leg) = self.leg_mut(key) {
                let info = leg.info.as_ref();
                leg.silent = info.is_some_and(|info| info.request.role == Role::Outlet);
            }
            self.leg_seal(key, Answer::Paired { suites });
        }
        if bulk {
            for key in [one, two] {
                self.net.tune_patient(key);
            }
        }
        self.counters.legs_waiting.sub(2);
        match self.relay.away.carrier(self.team.me) {
            Some(to) => self.pair_leave(one, two, to),
            None => self.pair_begin(one, two),
        }
    }

    /// Bytes flow between two legs from now on, behind their answers.
    pub(super) fn pair_begin(&mut self, one: SlotKey, two: SlotKey) {
        for (key, to) in [(one, two), (two, one)] {
            let Some(leg) = self.leg_mut(key) else { return };
            leg.state = State::Paired(to);
            if leg.home.is_none() {
                self.relay.away.carries(self.team.me);
            }
        }
        self.counters.legs_paired.add(2);
        self.counters.pairs_total.add(1);
        for key in [one, two] {
            self.leg_put_answer(key);
        }
        for key in [one, two] {
            self.flow_start(key);
        }
    }

    /// Answers a waiting leg with a refusal, then FIN.
    fn leg_refuse(&mut self, key: SlotKey, answer: Answer) {
        self.leg_seal(key, answer);
        let Some(leg) = self.leg_mut(key) else { return };
        leg.state = State::Refused;
        self.counters.legs_waiting.sub(1);
        self.counters.legs_refused.add(1);
        self.net.set_deadline(key, self.now + LINK_LINGER);
        self.leg_put_answer(key);
    }

    /// A session that is forgotten can't be answered: its legs are about to be swept.
    fn leg_seal(&mut self, key: SlotKey, answer: Answer) {
        let Some(info) = self.leg_mut(key).and_then(|leg| leg.info.take()) else {
            return;
        };
        let sealed = self.relay.table.answer(&info, answer);
        if let Some(leg) = self.leg_mut(key) {
            leg.answer = sealed.map(Box::new);
        }
    }

    /// Hands the sealed answer to the engine, once there is a buffer for it.
    fn leg_put_answer(&mut self, key: SlotKey) {
        // One that leaves takes its answer along: a send would have to be awaited.
        let is_due =
            |leg: &mut Leg| leg.answer.is_some() && !matches!(leg.state, State::Leaving(..));
        if !self.leg_mut(key).is_some_and(is_due) {
            return;
        }
        let Some(mut buf) = self.net.engine.alloc(Class::Small) else {
            self.counters.starved.add(1);
            return self.net.starve(key);
        };
        match self.leg_mut(key).and_then(|leg| leg.answer.take()) {
            Some(answer) => {
                buf[..LEG_ANSWER].copy_from_slice(&*answer);
                self.net.send(key, buf, 0..LEG_ANSWER);
            }
            None => self.net.free(buf),
        }
    }

    /// A completion of a leg.
    pub(super) fn leg_done(&mut self, key: SlotKey, code: u8, what: Outcome) {
        let Some(leg) = self.leg_mut(key) else {
            return self.net.reclaim(what);
        };
        match leg.state {
            State::Paired(to) => {
                if std::mem::take(&mut leg.silent) {
                    leg.silent = !is_sign(code, &what);
                    if !leg.silent {
                        self.leg_signs(key);
                    }
                }
                self.flow_done(key, to, code, what);
            }
            State::Waiting => self.leg_waiting_done(key, code, what),
            State::Leaving(..) => self.leg_leaving_done(key, code, what),
            State::Refused => self.leg_refused_done(key, code, what),
            State::Closing => self.net.reclaim(what),
        }
    }

    fn leg_waiting_done(&mut self, key: SlotKey, code: u8, what: Outcome) {
        match (code, what) {
            (code::RECV, Outcome::Received { buf, at, len, .. }) => {
                if let Some(leg) = self.leg_mut(key) {
                    leg.flow.early(&buf[at..at + len]);
                }
                self.net.free(buf);
                // One receive of early bytes is kept; what else comes stays in the kernel.
                self.net.watch(key);
            }
            (_, what) => {
                self.net.reclaim(what);
                self.leg_stop(key, Close::Reset);
            }
        }
    }

    fn leg_refused_done(&mut self, key: SlotKey, code: u8, what: Outcome) {
        match (code, what) {
            (code::SEND, Outcome::Sent { buf }) => {
                self.net.free(buf);
                if self.net.finish(key) {
                    self.net.recv_any(key, Class::Small);
                } else {
                    self.leg_stop(key, Close::Reset);
                }
            }
            (code::RECV, Outcome::Received { buf, .. }) => {
                self.net.free(buf);
                self.net.recv_any(key, Class::Small);
            }
            (_, what) => {
                self.net.reclaim(what);
                self.leg_stop(key, Close::Fin);
            }
        }
    }

    /// The first step of closing one leg.
    pub(super) fn leg_stop(&mut self, key: SlotKey, how: Close) {
        let Some(leg) = self.leg_mut(key) else { return };
        let held = leg.flow.take_held();
        let pipe = leg.flow.take_pipe();
        leg.answer = None;
        let abroad = leg.home.is_some();
        match std::mem::replace(&mut leg.state, State::Closing) {
            State::Waiting => self.counters.legs_waiting.sub(1),
            State::Paired(_) => {
                self.counters.legs_paired.sub(1);
                if !abroad {
                    self.relay.away.carries_no_more(self.team.me);
                }
            }
            State::Leaving(_, to) => self.relay.away.carries_no_more(to),
            State::Refused | State::Closing => {}
        }
        if let Some(buf) = held {
            self.net.free(buf);
        }
        if let Some(pipe) = pipe {
            self.pipe_back(*pipe);
        }
        self.leg_gone(key);
        self.net.terminate(key, how);
        self.legs_look();
    }

    /// The leg's socket is closed.
    pub(super) fn leg_closed(&mut self, key: SlotKey) {
        self.net.remove(key);
    }

    /// A refused leg did not close in time; a paired one has been quiet.
    pub(super) fn leg_due(&mut self, key: SlotKey) {
        match self.leg_mut(key).map(|leg| leg.state) {
            Some(State::Paired(_)) => self.splice_quiet(key),
            Some(State::Leaving(..)) => {}
            Some(_) | None => self.leg_stop(key, Close::Reset),
        }
    }

    /// Gets its turn after waiting for a buffer.
    pub(super) fn leg_resume(&mut self, key: SlotKey) {
        self.leg_put_answer(key);
        let Some(leg) = self.leg_mut(key) else { return };
        match leg.state {
            State::Waiting => self.net.recv_any(key, Class::Small),
            State::Paired(to) => {
                self.flow_start(key);
                // Its counterpart may have waited for this leg's answer to leave.
                self.flow_pump(to);
            }
            State::Refused => {
                if !self.net.is_flying(key, code::SEND) {
                    self.net.recv_any(key, Class::Small);
                }
            }
            State::Leaving(..) => self.pair_depart(key),
            State::Closing => {}
        }
    }

    /// What the clock does to legs.
    pub(super) fn relay_due(&mut self) {
        if self.now < self.relay.next_deadline() {
            return;
        }
        if self.now >= self.relay.sweep_at {
            for member in self.relay.table.sweep(self.now) {
                for handle in self.relay.pairing.legs_of(&member) {
                    self.leg_cut(handle);
                }
            }
            self.relay.sweep_at = self.relay.table.next_deadline();
        }
        let Relay { table, pairing, .. } = &mut self.relay;
        for over in pairing.on_timer(self.now, table) {
            match over {
                Over::Unanswered(leg) => self.leg_refuse(key_of(leg), Answer::NoOutlet),
                Over::Dead(leg) => self.leg_cut(leg),
            }
        }
        self.legs_look();
    }

    /// Ends a leg, and with it the pair it is in.
    fn leg_cut(&mut self, handle: LegHandle) {
        if let Some(carrier) = self.relay.away.of(handle) {
            return self.note(carrier, handle, LegNote::Cut);
        }
        let key = key_of(handle);
        match self.leg_mut(key).map(|leg| leg.state) {
            Some(State::Paired(_) | State::Leaving(..)) => self.pair_close(key, Close::Reset),
            Some(_) | None => self.leg_stop(key, Close::Reset),
        }
    }

    /// The relay goes away: legs that wait for somebody are told.
    pub(super) fn legs_leave(&mut self) {
        for handle in self.relay.pairing.unpaired() {
            self.leg_gone(key_of(handle));
            self.leg_refuse(key_of(handle), Answer::GoingAway);
        }
        self.legs_look();
    }

    /// Carries out what the pairing has decided besides: pairs of legs that were waiting, and
    /// which outlets are short of parked ones.
    pub(super) fn legs_look(&mut self) {
        while let Some((inlet, outlet)) = self.relay.pairing.poll_pair() {
            self.leg_pair(key_of(inlet), key_of(outlet));
        }
        while let Some((session, address)) = self.relay.pairing.poll_served() {
            self.hint(Event::NowServed { session, address });
        }
        while let Some(Want {
            session,
            address,
            want,
        }) = self.relay.pairing.poll_want()
        {
            self.hint(Event::ParkLow {
                session,
                address,
                want,
            });
        }
    }

    /// The invariants of one leg.
    pub(super) fn check_leg(&self, key: SlotKey, leg: &Leg, count: &mut super::check::Count) {
        count.pipes += usize::from(leg.flow.is_spliced());
        match leg.state {
            State::Waiting => count.legs_waiting += 1,
            State::Paired(to) => {
                count.legs_paired += 1;
                let other = self.net.slots.get(to).map(|slot| &slot.conn);
                let back =
                    matches!(other, Some(Conn::Leg(other)) if other.state == State::Paired(key));
                assert!(back, "paired legs name each other");
            }
            State::Leaving(to, _) => {
                let other = self.net.slots.get(to).map(|slot| &slot.conn);
                let back = matches!(other, Some(Conn::Leg(other))
                    if matches!(other.state, State::Leaving(back, _) if back == key));
                assert!(back, "a pair leaves together");
            }
            State::Refused | State::Closing => {}
        }
    }

    /// The relay's own books.
    pub(super) fn check_relay(&self) {
        self.relay.pairing.check(self.now, &self.relay.table);
    }
}
