//! Which leg the relay joins with which.
//!
//! An outlet's leg parks until it is wanted; an inlet's leg is paired with a parked one at once,
//! or waits, at most `limits::PAIR_WAIT`, if a live session serves its address. The worker owns
//! the sockets and calls, for every checked leg, [`Pairing::on_leg`], carries out the [`Verdict`],
//! and says [`Pairing::on_gone`] exactly once when the leg's socket is lost or was closed.
//!
//! # Fairness
//! Inlet *members* that wait take turns. An inlet stays with the outlet that it had last, while
//! that has parked legs (so a query cancel reaches the right server); else it gets the outlet
//! member with the fewest circuits. Of one outlet member the oldest leg goes first.
//!
//! # Bounds
//! Per member and address: `LEGS_UNFINISHED_MAX` that wait or are too young to be proven,
//! `LEGS_PAIRED_MAX` paired, `LEGS_PARKED_MAX` parked. Beyond them: BUSY.

use std::collections::{BTreeMap, VecDeque};

use crypto::Id;

use super::command::Role;
use super::leg::{Answer, LegInfo, Request};
use crate::ids::{AddressHash, SessionId};
use crate::limits::{
    LEG_BUSY_RETRY, LEG_UNPROVEN, LEGS_PAIRED_MAX, LEGS_PARKED_MAX, LEGS_UNFINISHED_MAX, PAIR_WAIT,
    PARK_ASK_AGAIN, PARK_LOW, PARK_PEAK_SPAN, PARK_WANT_MIN,
};
use crate::time::{Duration, Instant};

/// The worker's name for a leg's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegHandle(pub u64);

/// What becomes of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It waits; the worker watches it.
    Wait,
    /// It is joined with that leg, which was waiting. Both are answered PAIRED.
    Pair(LegHandle),
    /// It is answered with this and closed.
    Refuse(Answer),
}

/// An outlet is short of parked legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The session by which its member parked last.
    pub session: SessionId,
    /// The address.
    pub address: AddressHash,
    /// How many more.
    pub want: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Parked,
    Waiting {
        until: Instant,
    },
    /// `with` is `None` once the other leg is gone.
    Paired {
        with: Option<LegHandle>,
        since: Instant,
    },
}

#[derive(Debug)]
struct Leg {
    member: Id,
    role: Role,
    address: AddressHash,
    state: State,
}

/// What an outlet member has at an address.
#[derive(Debug)]
struct Outlet {
    parked: VecDeque<LegHandle>,
    circuits: usize,
    session: SessionId,
    asked: Option<Instant>,
    rate: Rate,
}

/// What an inlet member has at an address.
#[derive(Debug, Default)]
struct Inlet {
    waiting: VecDeque<LegHandle>,
    /// When its circuits that may still be unproven were paired, oldest first.
    young: VecDeque<Instant>,
    circuits: usize,
    /// The outlet member it was paired with last.
    outlet: Option<Id>,
}

#[derive(Debug, Default)]
struct Address {
    outlets: BTreeMap<Id, Outlet>,
    inlets: BTreeMap<Id, Inlet>,
    /// Inlet members that have waiting legs, whose turn is next first.
    turns: VecDeque<Id>,
}

/// Peak pairings in any one second of the current and the last `PARK_PEAK_SPAN`.
#[derive(Debug, Default)]
struct Rate {
    second: Instant,
    count: usize,
    span: Instant,
    peak: usize,
    last_peak: usize,
}

impl Rate {
    fn note(&mut self, now: Instant) {
        if now.since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.count = 0;
        }
        let spans = now.since(self.span);
        if spans >= PARK_PEAK_SPAN {
            self.last_peak = if spans >= PARK_PEAK_SPAN * 2 {
                0
            } else {
                self.peak
            };
            self.peak = 0;
            self.span = now;
        }
        self.count += 1;
        self.peak = self.peak.max(self.count);
    }

    fn target(&self) -> usize {
        let peak = self.peak.max(self.last_peak);
        (2 * peak + PARK_WANT_MIN).clamp(PARK_WANT_MIN, LEGS_PARKED_MAX)
    }
}

/// The relay's legs. See the module's contract.
#[derive(Debug, Default)]
pub struct Pairing {
    legs: BTreeMap<LegHandle, Leg>,
    addresses: BTreeMap<AddressHash, Address>,
    /// Waiting legs by their deadline; entries of legs that went on are skipped.
    waits: VecDeque<(Instant, LegHandle)>,
    wants: VecDeque<Want>,
}

const BUSY: Verdict = Verdict::Refuse(Answer::Busy {
    retry_ms: LEG_BUSY_RETRY.as_millis() as u32,
});

impl Pairing {
    /// Bytes of memory that a leg costs, when the tree's nodes are half full.
    #[cfg(test)]
    pub(crate) const LEG: usize = 2 * size_of::<(LegHandle, Leg)>();

    /// A leg whose preface was checked. `is_served`: a live session serves its address.
    pub fn on_leg(
        &mut self,
        now: Instant,
        handle: LegHandle,
        info: &LegInfo,
        is_served: bool,
    ) -> Verdict {
        debug_assert!(!self.legs.contains_key(&handle), "a handle in use");
        if !info.permitted {
            return Verdict::Refuse(Answer::NotPermitted);
        }
        let address = self.addresses.entry(info.request.address).or_default();
        let verdict = match info.request.role {
            Role::Outlet => address.outlet_leg(handle, info),
            Role::Inlet => address.inlet_leg(now, handle, info, is_served),
        };
        let state = match (verdict, info.request.role) {
            (Verdict::Refuse(_), _) => {
                self.tidy(&info.request.address);
                return verdict;
            }
            (Verdict::Pair(with), _) => State::Paired {
                with: Some(with),
                since: now,
            },
            (Verdict::Wait, Role::Outlet) => State::Parked,
            (Verdict::Wait, Role::Inlet) => {
                let until = now + PAIR_WAIT;
                self.waits.push_back((until, handle));
                State::Waiting { until }
            }
        };
        let Request { role, address, .. } = info.request;
        self.legs.insert(
            handle,
            Leg {
                member: info.member,
                role,
                address,
                state,
            },
        );
        if let Verdict::Pair(with) = verdict {
            self.join(now, handle, with);
        } else if role == Role::Inlet {
            self.ask(now, address);
        }
        verdict
    }

    /// Books a pair on both sides.
    fn join(&mut self, now: Instant, new: LegHandle, old: LegHandle) {
        if let Some(leg) = self.legs.get_mut(&old) {
            leg.state = State::Paired {
                with: Some(new),
                since: now,
            };
        }
        let member = |handle, role| {
            self.legs
                .get(handle)
                .filter(|leg: &&Leg| leg.role == role)
                .map(|leg| leg.member)
        };
        let find = |role| member(&new, role).or_else(|| member(&old, role));
        let Some((inlet, outlet)) = find(Role::Inlet).zip(find(Role::Outlet)) else {
            return;
        };
        let Some(hash) = self.legs.get(&new).map(|leg| leg.address) else {
            return;
        };
        let Some(address) = self.addresses.get_mut(&hash) else {
            return;
        };
        let inlet = address.inlets.entry(inlet).or_default();
        inlet.circuits += 1;
        inlet.outlet = Some(outlet);
        inlet.young.push_back(now);
        if let Some(outlet) = address.outlets.get_mut(&outlet) {
            outlet.circuits += 1;
            outlet.rate.note(now);
        }
        self.ask(now, hash);
    }

    /// The leg's socket is gone, whatever it was doing. A paired leg's counterpart is the
    /// worker's to end; it says so in its own call.
    pub fn on_gone(&mut self, now: Instant, handle: LegHandle) {
        let Some(leg) = self.legs.remove(&handle) else {
            return;
        };
        if let State::Paired {
            with: Some(with), ..
        } = leg.state
            && let Some(Leg {
                state: State::Paired { with, .. },
                ..
            }) = self.legs.get_mut(&with)
        {
            *with = None;
        }
        let Some(address) = self.addresses.get_mut(&leg.address) else {
            return;
        };
        match leg.role {
            Role::Outlet => {
                if let Some(outlet) = address.outlets.get_mut(&leg.member) {
                    match leg.state {
                        State::Paired { .. } => outlet.circuits -= 1,
                        State::Parked | State::Waiting { .. } => {
                            outlet.parked.retain(|&parked| parked != handle);
                        }
                    }
                    if outlet.parked.is_empty() && outlet.circuits == 0 {
                        address.outlets.remove(&leg.member);
                    }
                }
            }
            Role::Inlet => {
                if let Some(inlet) = address.inlets.get_mut(&leg.member) {
                    match leg.state {
                        State::Paired { since, .. } => {
                            inlet.circuits -= 1;
                            inlet.young.retain(|&young| young != since);
                        }
                        State::Parked | State::Waiting { .. } => {
                            inlet.waiting.retain(|&waiting| waiting != handle);
                        }
                    }
                    if inlet.waiting.is_empty() {
                        address.turns.retain(|&member| member != leg.member);
                        if inlet.circuits == 0 {
                            address.inlets.remove(&leg.member);
                        }
                    }
                }
            }
        }
        self.ask(now, leg.address);
        self.tidy(&leg.address);
    }

    /// All legs of a member (its sessions and grace are over): to be closed by the worker.
    pub fn legs_of(&self, member: &Id) -> Vec<LegHandle> {
        self.legs
            .iter()
            .filter(|(_, leg)| leg.member == *member)
            .map(|(&h, _)| h)
            .collect()
    }

    /// Legs that wait or are parked, for a relay that goes away.
    pub fn unpaired(&self) -> Vec<LegHandle> {
        let unpaired = |leg: &Leg| !matches!(leg.state, State::Paired { .. });
        self.legs
            .iter()
            .filter(|(_, leg)| unpaired(leg))
            .map(|(&h, _)| h)
            .collect()
    }

    /// When [`Pairing::on_timer`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        self.waits
            .front()
            .map_or(Instant::FAR_FUTURE, |&(until, _)| until)
    }

    /// The inlets' legs that waited long enough: each is answered NO_OUTLET and closed.
    pub fn on_timer(&mut self, now: Instant) -> Vec<LegHandle> {
        let mut over = Vec::new();
        while let Some(&(until, handle)) = self.waits.front() {
            let waits = self
                .legs
                .get(&handle)
                .is_some_and(|l| l.state == State::Waiting { until });
            if waits && until > now {
                break;
            }
            self.waits.pop_front();
            if waits {
                over.push(handle);
            }
        }
        over
    }

    /// The next outlet that should be asked for more legs.
    pub fn poll_want(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// How many legs are parked and how many are paired, for the counters.
    pub fn counts(&self) -> (usize, usize) {
        let paired = |leg: &&Leg| matches!(leg.state, State::Paired { .. });
        let parked = |leg: &&Leg| leg.state == State::Parked;
        (
            self.legs.values().filter(parked).count(),
            self.legs.values().filter(paired).count(),
        )
    }

    /// Notes which outlets of an address are short of legs.
    fn ask(&mut self, now: Instant, hash: AddressHash) {
        let Some(address) = self.addresses.get_mut(&hash) else {
            return;
        };
        for outlet in address.outlets.values_mut() {
            let again = outlet
                .asked
                .is_none_or(|at| now.since(at) >= PARK_ASK_AGAIN);
            if outlet.parked.len() >= PARK_LOW || !again {
                continue;
            }
            outlet.asked = Some(now);
            let want = outlet.rate.target() - outlet.parked.len();
            let want = u16::try_from(want).unwrap_or(u16::MAX);
            self.wants.push_back(Want {
                session: outlet.session,
                address: hash,
                want,
            });
        }
    }

    /// Forgets an address that nobody is at.
    fn tidy(&mut self, hash: &AddressHash) {
        if let Some(address) = self.addresses.get(hash)
            && address.outlets.is_empty()
            && address.inlets.is_empty()
        {
            self.addresses.remove(hash);
        }
    }

    /// Checks what must hold between two calls.
    ///
    /// # Panics
    /// When it doesn't. For simulations and debug builds.
    pub fn check(&self) {
        let mut booked = 0;
        for (handle, leg) in &self.legs {
            if let State::Paired {
                with: Some(with), ..
            } = leg.state
            {
                let other = self.legs.get(&with).expect("a leg's counterpart is there");
                assert_ne!(leg.role, other.role, "an inlet is paired with an outlet");
                assert_eq!(leg.address, other.address, "pairs share their address");
                let back =
                    matches!(other.state, State::Paired { with, .. } if with == Some(*handle));
                assert!(back, "a leg is paired once");
            }
        }
        for address in self.addresses.values() {
            let parked: usize = address.outlets.values().map(|o| o.parked.len()).sum();
            let waiting: usize = address.inlets.values().map(|i| i.waiting.len()).sum();
            assert!(
                parked == 0 || waiting == 0,
                "nobody waits while a leg is parked"
            );
            booked += parked + waiting;
            booked += address.outlets.values().map(|o| o.circuits).sum::<usize>();
            booked += address.inlets.values().map(|i| i.circuits).sum::<usize>();
            let queued = address
                .inlets
                .values()
                .filter(|i| !i.waiting.is_empty())
                .count();
            assert_eq!(queued, address.turns.len(), "who waits has one turn");
        }
        assert_eq!(booked, self.legs.len(), "each leg in exactly one place");
    }
}

impl Address {
    fn outlet_leg(&mut self, handle: LegHandle, info: &LegInfo) -> Verdict {
        let waiting = self.next_waiting();
        let outlet = self.outlets.entry(info.member).or_insert_with(|| Outlet {
            parked: VecDeque::new(),
            circuits: 0,
            session: info.session,
            asked: None,
            rate: Rate::default(),
        });
        outlet.session = info.session;
        if let Some(waiting) = waiting {
            return Verdict::Pair(waiting);
        }
        if outlet.parked.len() >= LEGS_PARKED_MAX {
            return BUSY;
        }
        outlet.parked.push_back(handle);
        Verdict::Wait
    }

    /// The next inlet member's oldest leg; the member goes to the end of the line.
    fn next_waiting(&mut self) -> Option<LegHandle> {
        let member = self.turns.pop_front()?;
        let inlet = self.inlets.get_mut(&member)?;
        let handle = inlet.waiting.pop_front();
        if !inlet.waiting.is_empty() {
            self.turns.push_back(member);
        }
        handle
    }

    fn inlet_leg(
        &mut self,
        now: Instant,
        handle: LegHandle,
        info: &LegInfo,
        is_served: bool,
    ) -> Verdict {
        let inlet = self.inlets.entry(info.member).or_default();
        while inlet
            .young
            .front()
            .is_some_and(|&since| now.since(since) >= LEG_UNPROVEN)
        {
            inlet.young.pop_front();
        }
        let unfinished = inlet.young.len() + inlet.waiting.len();
        let full = unfinished >= LEGS_UNFINISHED_MAX || inlet.circuits >= LEGS_PAIRED_MAX;
        let had = inlet.outlet;
        let verdict = if full {
            BUSY
        } else if let Some(parked) = self.take_parked(had) {
            Verdict::Pair(parked)
        } else if is_served {
            let inlet = self.inlets.entry(info.member).or_default();
            if inlet.waiting.is_empty() {
                self.turns.push_back(info.member);
            }
            inlet.waiting.push_back(handle);
            Verdict::Wait
        } else {
            Verdict::Refuse(Answer::NoOutlet)
        };
        if let Verdict::Refuse(_) = verdict
            && let Some(inlet) = self.inlets.get(&info.member)
            && inlet.circuits == 0
            && inlet.waiting.is_empty()
        {
            self.inlets.remove(&info.member);
        }
        verdict
    }

    fn take_parked(&mut self, had: Option<Id>) -> Option<LegHandle> {
        let had = had.filter(|id| self.outlets.get(id).is_some_and(|o| !o.parked.is_empty()));
        let id = had.or_else(|| {
            let with_legs = self
                .outlets
                .iter()
                .filter(|(_, outlet)| !outlet.parked.is_empty());
            with_legs
                .min_by_key(|(_, outlet)| outlet.circuits)
                .map(|(id, _)| *id)
        })?;
        self.outlets.get_mut(&id)?.parked.pop_front()
    }
}

#[cfg(test)]
#[path = "pairing_tests.rs"]
mod tests;
