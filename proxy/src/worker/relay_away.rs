//! Legs of a relay with several workers: who pairs them, and who carries the pairs.
//!
//! # Books
//! Each address has a *home*: the worker that its hash names. Whoever accepts a leg opens its preface
//! to learn the address, and hands the connection there. So the whole of an address, who is parked,
//! who waits, whose turn it is, is decided in one place, exactly as with one worker. A preface that is
//! sent again names the same address and comes to the same home, whose window knows its counter: no
//! memory is shared for that.
//!
//! # Load
//! A pair is carried by the worker that carries the fewest of that home's. A waiting leg has a receive
//! or a watch armed: that is cancelled and awaited, and what it brings goes with the leg. Both sockets
//! move at once or not at all. The home keeps the pair in its books, under the names that the two legs
//! had there, until its carrier says that they are gone; it hears of the outlet's first sign of life
//! as well, and tells the carrier when a leg must end.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::Worker;
use super::conn::Conn;
use super::net::code;
use super::relay::{Leg, Relay, State, handle_of};
use super::slab::SlotKey;
use crate::engine::{Close, Engine, Outcome};
use crate::ids::WorkerId;
use crate::limits::LEG_PREFACE;
use crate::mailbox::{Handed, HandedLeg, LegNote};
use crate::protocol::pairing::LegHandle;

/// Pairs that others carry for this worker, and it for them.
#[derive(Debug)]
pub(super) struct Away {
    /// Who carries a leg that is in this worker's books and not here.
    carriers: BTreeMap<LegHandle, WorkerId>,
    /// Legs of pairs of this worker's books, by who carries them.
    carried: Vec<usize>,
    /// The legs here that are in the books of others.
    guests: BTreeMap<(WorkerId, LegHandle), SlotKey>,
}

impl Away {
    pub fn new(workers: usize) -> Away {
        Away {
            carriers: BTreeMap::new(),
            carried: vec![0; workers],
            guests: BTreeMap::new(),
        }
    }

    /// Who carries the next pair; `None`: this worker.
    pub fn carrier(&self, me: WorkerId) -> Option<WorkerId> {
        let workers = (0..).map(WorkerId).zip(&self.carried);
        let least = workers.min_by_key(|(worker, legs)| (**legs, *worker != me, *worker));
        least
            .map(|(worker, _)| worker)
            .filter(|worker| *worker != me)
    }

    /// That worker carries one more leg.
    pub fn carries(&mut self, worker: WorkerId) {
        if let Some(legs) = self.carried.get_mut(worker.index()) {
            *legs += 1;
        }
    }

    /// And one less.
    pub fn carries_no_more(&mut self, worker: WorkerId) {
        if let Some(legs) = self.carried.get_mut(worker.index()) {
            debug_assert!(*legs > 0, "a leg was carried");
            *legs = legs.saturating_sub(1);
        }
    }

    /// Who carries a leg that is not here.
    pub fn of(&self, leg: LegHandle) -> Option<WorkerId> {
        self.carriers.get(&leg).copied()
    }
}

impl<E: Engine> Worker<E> {
    /// Who keeps the books of the address that a leg asks for; `None`: this worker, or nobody.
    pub(super) fn leg_home(&self, received: &[u8]) -> Option<WorkerId> {
        let workers = self.team.size() as u64;
        if workers == 1 {
            return None;
        }
        let preface = received.first_chunk::<LEG_PREFACE>()?;
        let address = self.relay.table.address_of(self.now, preface)?;
        let (hash, _) = address.0.split_first_chunk::<8>()?;
        let home = u64::from_be_bytes(*hash) % workers;
        let home = WorkerId(u8::try_from(home).ok()?);
        Some(home).filter(|home| *home != self.team.me)
    }

    /// Hands a leg to the worker that keeps the books of its address; one that finds no room there
    /// is closed.
    pub(super) fn leg_go_home(
        &mut self,
        key: SlotKey,
        home: WorkerId,
        peer: SocketAddr,
        received: Vec<u8>,
    ) {
        let Some(socket) = self.net.detach(key) else {
            return self.net.terminate(key, Close::Reset);
        };
        let leg = Handed::Leg {
            socket,
            peer,
            received,
        };
        self.net.remove(key);
        match self.mailbox.hand(home, leg) {
            Ok(()) => self.counters.legs_handed.add(1),
            Err(_) => self.counters.legs_refused.add(1),
        }
    }

    /// A leg of an address whose books are here.
    pub(super) fn leg_taken(&mut self, socket: E::Carry, peer: SocketAddr, received: Vec<u8>) {
        let fits = self.drain.is_accepting() && self.net.slots.room() > self.reserve();
        let conn = Conn::Leg(Leg::new(Vec::new()));
        match fits.then(|| self.net.take_over(socket, conn)) {
            Some(Ok(key)) => self.leg_arrived(key, peer, received),
            Some(Err(())) | None => self.counters.legs_refused.add(1),
        }
    }

    // ---- a pair, at its home --------------------------------------------------------------------

    /// Begins to hand over two legs that were just joined, and have their answers.
    pub(super) fn pair_leave(&mut self, one: SlotKey, two: SlotKey, to: WorkerId) {
        for (key, other) in [(one, two), (two, one)] {
            if let Some(leg) = self.leg_mut(key) {
                leg.state = State::Leaving(other, to);
                self.relay.away.carries(to);
                self.net.cancel(key);
            }
        }
        self.pair_depart(one);
    }

    /// A completion of a leg that leaves.
    pub(super) fn leg_leaving_done(&mut self, key: SlotKey, code: u8, what: Outcome) {
        match (code, what) {
            (code::RECV, Outcome::Received { buf, at, len, .. }) => {
                let silent = self.leg_mut(key).is_some_and(|leg| {
                    leg.flow.early(&buf[at..at + len]);
                    std::mem::take(&mut leg.silent)
                });
                self.net.free(buf);
                if silent {
                    self.leg_signs(key);
                }
            }
            (_, what @ Outcome::Cancelled { .. }) => self.net.reclaim(what),
            // It is lost, and its counterpart with it.
            (_, what) => {
                self.net.reclaim(what);
                return self.pair_close(key, Close::Reset);
            }
        }
        self.pair_depart(key);
    }

    /// Hands both over once nothing is in flight on either. Where there is no room for them, they
    /// stay.
    pub(super) fn pair_depart(&mut self, key: SlotKey) {
        let Some(State::Leaving(other, to)) = self.leg_mut(key).map(|leg| leg.state) else {
            return;
        };
        if self.net.is_busy(key) || self.net.is_busy(other) {
            return;
        }
        let Some(one) = self.leg_pack(key) else {
            return self.pair_close(key, Close::Reset);
        };
        let Some(two) = self.leg_pack(other) else {
            self.leg_unpack(key, one);
            return self.pair_close(key, Close::Reset);
        };
        let pair = Handed::Pair {
            home: self.team.me,
            legs: Box::new([one, two]),
        };
        match self.mailbox.hand(to, pair) {
            Ok(()) => {
                self.counters.pairs_handed.add(1);
                for key in [key, other] {
                    self.net.remove(key);
                    self.relay.away.carriers.insert(handle_of(key), to);
                }
            }
            Err(Handed::Pair { legs, .. }) => {
                let [one, two] = *legs;
                for _ in 0..2 {
                    self.relay.away.carries_no_more(to);
                }
                let back = [(key, one), (other, two)].map(|(key, leg)| self.leg_unpack(key, leg));
                self.pair_begin(key, other);
                if back != [true; 2] {
                    self.pair_close(key, Close::Reset);
                }
            }
            Err(
                Handed::App { .. } | Handed::Link { .. } | Handed::Leg { .. } | Handed::Note { .. },
            ) => {}
        }
    }

    fn leg_pack(&mut self, key: SlotKey) -> Option<HandedLeg<E::Carry>> {
        let socket = self.net.detach(key)?;
        let leg = self.leg_mut(key)?;
        Some(HandedLeg {
            socket,
            handle: handle_of(key),
            silent: leg.silent,
            answer: leg.answer.take(),
            received: leg.flow.take_first(),
        })
    }

    fn leg_unpack(&mut self, key: SlotKey, packed: HandedLeg<E::Carry>) -> bool {
        if let Some(leg) = self.leg_mut(key) {
            leg.answer = packed.answer;
            leg.flow.early(&packed.received);
        }
        self.net.reattach(key, packed.socket)
    }

    // ---- a pair, at its carrier -------------------------------------------------------------------

    /// A pair of another worker's books.
    pub(super) fn pair_taken(&mut self, home: WorkerId, legs: [HandedLeg<E::Carry>; 2]) {
        let handles = [legs[0].handle, legs[1].handle];
        let mut keys = Vec::with_capacity(2);
        for packed in legs {
            let mut leg = Leg::new(packed.received);
            leg.answer = packed.answer;
            leg.silent = packed.silent;
            leg.home = Some(Box::new((home, packed.handle)));
            if let Ok(key) = self.net.take_over(packed.socket, Conn::Leg(leg)) {
                keys.push(key);
            }
        }
        let [one, two] = keys[..] else {
            for key in keys {
                // Its books hear of both below.
                if let Some(leg) = self.leg_mut(key) {
                    leg.home = None;
                }
                self.net.terminate(key, Close::Reset);
            }
            for handle in handles {
                self.note(home, handle, LegNote::Gone);
            }
            return;
        };
        for (key, handle) in [(one, handles[0]), (two, handles[1])] {
            self.relay.away.guests.insert((home, handle), key);
        }
        self.pair_begin(one, two);
    }

    /// The first thing came from an outlet's leg that was paired.
    pub(super) fn leg_signs(&mut self, key: SlotKey) {
        match self
            .leg_mut(key)
            .and_then(|leg| leg.home.as_deref().copied())
        {
            Some((home, handle)) => self.note(home, handle, LegNote::Sign),
            None => self.relay.pairing.on_sign(handle_of(key)),
        }
    }

    /// A leg here that is in the books of another worker is gone.
    pub(super) fn leg_gone_abroad(&mut self, (home, handle): (WorkerId, LegHandle)) {
        self.relay.away.guests.remove(&(home, handle));
        self.note(home, handle, LegNote::Gone);
    }

    // ---- notes --------------------------------------------------------------------------------

    /// Another worker says something of a leg.
    pub(super) fn leg_noted(&mut self, from: WorkerId, leg: LegHandle, what: LegNote) {
        match what {
            LegNote::Sign => self.relay.pairing.on_sign(leg),
            LegNote::Gone => {
                if self.relay.away.carriers.remove(&leg).is_some() {
                    self.relay.away.carries_no_more(from);
                    let Relay { table, pairing, .. } = &mut self.relay;
                    pairing.on_gone(self.now, leg, table);
                    self.legs_look();
                }
            }
            LegNote::Cut => {
                if let Some(key) = self.relay.away.guests.get(&(from, leg)).copied() {
                    self.pair_close(key, Close::Reset);
                }
            }
        }
    }
}
