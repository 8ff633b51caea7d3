//! Which leg is joined with which: the relay's one decision, without I/O and without bytes.
//!
//! # Contract
//! - A checked leg goes to [`Pairing::on_leg`]. It is paired, waits (an outlet's is *parked*), or
//!   is refused. The owner seals and sends the answers ([`LegInfo::answer`]): both legs of a
//!   [`Pair`] get PAIRED with the other's suites, exactly once.
//! - After any call, [`Pairing::poll`] until it is empty: a call may decide about other legs too.
//! - Every leg whose connection ended is reported to [`Pairing::on_gone`], also one that was
//!   refused or ended here. A circuit ends with either of its legs; the owner closes the other.
//! - A member's [`Standing`] (from [`LegTable`](super::leg::LegTable)) goes to
//!   [`Pairing::on_standing`] before the first of its legs and whenever it changes.
//!
//! # Rules
//! 1. An inlet's leg waits (`limits::PAIR_WAIT`) only if a live session serves the address; else
//!    NO_OUTLET at once, and the inlet tries its next relay.
//! 2. An inlet member stays with one outlet member of an address while that answers, so that a
//!    query's cancel reaches the server that runs the query. Otherwise: one that did not fail
//!    within `limits::OUTLET_SKIP`, the fewest circuits, the oldest leg.
//! 3. A parked leg goes to the waiting members in turns, to each member's oldest leg.
//! 4. Bounds per member and address: `LEGS_UNFINISHED_MAX`, `LEGS_PAIRED_MAX` (inlet),
//!    `LEGS_PARKED_MAX` (outlet); past them BUSY.
//! 5. Fewer than `limits::PARK_LOW` parked legs, and the outlet is asked for more.
//! 6. Legs end with their member's standing, paired ones too.
//!
//! Everything that is walked is ordered, so the same calls give the same decisions.

mod address;
mod check;
mod peak;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crypto::Id;
use crypto::suite::SuiteMask;

pub use self::verdict::{LegHandle, Outcome, Pair, Verdict};

use self::address::Address;
use super::command::Role;
use super::leg::{Answer, LegInfo, Standing};
use crate::error::CloseReason;
use crate::ids::AddressHash;
use crate::limits::{
    LEG_BUSY_RETRY, LEGS_PAIRED_MAX, LEGS_PARKED_MAX, LEGS_UNFINISHED_MAX, PAIR_WAIT,
};
use crate::time::Instant;

/// A leg that is known here.
#[derive(Debug)]
struct Leg {
    member: Id,
    address: AddressHash,
    role: Role,
    suites: SuiteMask,
    /// Order of arrival.
    arrived: u64,
    state: LegState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LegState {
    /// An inlet's, until then.
    Waiting(Instant),
    /// An outlet's.
    Parked,
    /// A circuit since then; the other leg may have ended already.
    Paired { with: LegHandle, since: Instant },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A waiting leg has waited long enough.
    Wait(LegHandle),
    /// A member's legs end.
    Ends(Id),
}

/// All legs of one relay worker. See the module's contract.
#[derive(Debug, Default)]
pub struct Pairing {
    legs: BTreeMap<LegHandle, Leg>,
    members: BTreeMap<Id, Standing>,
    /// Addresses that are served or have legs.
    addresses: BTreeMap<AddressHash, Address>,
    /// Members with a live session that serves an address.
    served: BTreeMap<AddressHash, BTreeSet<Id>>,
    timers: BTreeSet<(Instant, Timer)>,
    outcomes: VecDeque<Outcome>,
    arrivals: u64,
    draining: bool,
}

impl Pairing {
    /// Without any leg.
    pub fn new() -> Pairing {
        Pairing::default()
    }

    /// The next outcome. Poll until `None` after every other call.
    pub fn poll(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// A leg whose preface was in order and that its member may use.
    pub fn on_leg(&mut self, now: Instant, handle: LegHandle, info: &LegInfo) -> Verdict {
        assert!(!self.legs.contains_key(&handle), "a leg's name is in use");
        if self.draining {
            return Verdict::Refused(Answer::GoingAway);
        }
        if self
            .members
            .get(&info.member)
            .is_none_or(|standing| standing.ends <= now)
        {
            return Verdict::Refused(Answer::NotPermitted);
        }
        self.arrivals += 1;
        let leg = Leg {
            member: info.member,
            address: info.address,
            role: info.role,
            suites: info.suites,
            arrived: self.arrivals,
            state: LegState::Parked,
        };
        match info.role {
            Role::Inlet => self.inlet_leg(now, handle, leg),
            Role::Outlet => self.outlet_leg(now, handle, leg),
        }
    }

    fn inlet_leg(&mut self, now: Instant, handle: LegHandle, mut leg: Leg) -> Verdict {
        // Nothing is kept of an address that nobody serves: members may name any.
        let inlet = self.addresses.get_mut(&leg.address);
        if let Some(inlet) = inlet.and_then(|address| address.inlets.get_mut(&leg.member)) {
            let unfinished = inlet.unfinished(now);
            if unfinished >= LEGS_UNFINISHED_MAX || inlet.paired >= LEGS_PAIRED_MAX {
                return Verdict::Refused(Answer::Busy(LEG_BUSY_RETRY));
            }
        }
        if let Some(outlet) = self.choose(now, leg.address, leg.member)
            && let Some(parked) = self.take_parked(leg.address, outlet)
        {
            self.legs.insert(handle, leg);
            return Verdict::Paired(self.pair(now, handle, parked));
        }
        if !self.is_served(leg.address) {
            return Verdict::Refused(Answer::NoOutlet);
        }
        let until = now + PAIR_WAIT;
        leg.state = LegState::Waiting(until);
        let (at, member) = (leg.address, leg.member);
        self.timers.insert((until, Timer::Wait(handle)));
        self.legs.insert(handle, leg);
        self.addresses.entry(at).or_default().wait(member, handle);
        self.ask_all(now, at);
        Verdict::Waits
    }

    fn outlet_leg(&mut self, now: Instant, handle: LegHandle, leg: Leg) -> Verdict {
        let (at, member, arrived) = (leg.address, leg.member, leg.arrived);
        let address = self.addresses.entry(at).or_default();
        let outlet = address.outlets.entry(member).or_default();
        if outlet.parked.len() >= LEGS_PARKED_MAX {
            return Verdict::Refused(Answer::Busy(LEG_BUSY_RETRY));
        }
        outlet.came();
        self.legs.insert(handle, leg);
        if let Some(inlet) = self.next_waiting(at, member) {
            return Verdict::Paired(self.pair(now, inlet, handle));
        }
        let address = self.addresses.entry(at).or_default();
        address
            .outlets
            .entry(member)
            .or_default()
            .parked
            .push_back((arrived, handle));
        Verdict::Waits
    }

    /// The leg's connection ended. Unknown ones are ignored.
    pub fn on_gone(&mut self, now: Instant, handle: LegHandle) {
        if let Some(leg) = self.remove(now, handle)
            && leg.role == Role::Outlet
            && leg.state == LegState::Parked
        {
            self.ask(now, leg.address, leg.member);
        }
    }

    /// What a member may do has changed: a session began, ended, or serves other addresses.
    pub fn on_standing(&mut self, now: Instant, standing: Standing) {
        let (member, ends) = (standing.member, standing.ends);
        let served: BTreeSet<AddressHash> = match standing.session {
            Some(_) => standing.serves.iter().copied().collect(),
            None => BTreeSet::new(),
        };
        self.timers.insert((ends, Timer::Ends(member)));
        let old = self.members.insert(member, standing);
        for &address in &served {
            self.served.entry(address).or_default().insert(member);
        }
        let Some(old) = old else { return };
        if old.ends != ends {
            self.timers.remove(&(old.ends, Timer::Ends(member)));
        }
        for address in old
            .serves
            .into_iter()
            .filter(|address| !served.contains(address))
        {
            self.serves_no_more(now, member, address);
        }
    }

    fn serves_no_more(&mut self, now: Instant, member: Id, address: AddressHash) {
        if let Some(members) = self.served.get_mut(&address) {
            members.remove(&member);
            if members.is_empty() {
                self.served.remove(&address);
            }
        }
        self.reconsider(now, address);
    }

    /// The relay is shutting down: unpaired legs are told, and new ones too. Circuits go on.
    pub fn drain(&mut self, now: Instant) {
        self.draining = true;
        let unpaired = |leg: &Leg| !matches!(leg.state, LegState::Paired { .. });
        let legs: Vec<LegHandle> = self
            .legs
            .iter()
            .filter(|(_, leg)| unpaired(leg))
            .map(|(&handle, _)| handle)
            .collect();
        for leg in legs {
            self.remove(now, leg);
            self.outcomes.push_back(Outcome::Refused {
                leg,
                answer: Answer::GoingAway,
            });
        }
    }

    /// When [`Pairing::on_timer`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        self.timers
            .first()
            .map_or(Instant::FAR_FUTURE, |&(at, _)| at)
    }

    /// Gives up what has waited long enough and ends what may not go on.
    pub fn on_timer(&mut self, now: Instant) {
        while let Some(&(at, timer)) = self.timers.first().filter(|&&(at, _)| at <= now) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Wait(leg) => {
                    if let Some(gone) = self.remove(now, leg) {
                        // The outlet it stayed with did not answer.
                        if let Some(address) = self.addresses.get_mut(&gone.address) {
                            address.unstick(gone.member);
                        }
                        let answer = Answer::NoOutlet;
                        self.outcomes.push_back(Outcome::Refused { leg, answer });
                    }
                }
                Timer::Ends(member) => self.end_member(now, member),
            }
        }
    }

    /// Legs that wait or are parked, and legs that are paired.
    pub fn counts(&self) -> (usize, usize) {
        let paired = |leg: &&Leg| matches!(leg.state, LegState::Paired { .. });
        let paired = self.legs.values().filter(paired).count();
        (self.legs.len() - paired, paired)
    }

    fn end_member(&mut self, now: Instant, member: Id) {
        let Some(standing) = self.members.remove(&member) else {
            return;
        };
        let legs: Vec<LegHandle> = self
            .legs
            .iter()
            .filter(|(_, leg)| leg.member == member)
            .map(|(&handle, _)| handle)
            .collect();
        for leg in legs {
            self.remove(now, leg);
            self.outcomes.push_back(Outcome::Ended {
                leg,
                why: CloseReason::LegExpired,
            });
        }
        for address in self.addresses.values_mut() {
            address.forget(member);
        }
        for address in standing.serves {
            self.serves_no_more(now, member, address);
        }
        self.addresses.retain(|_, address| !address.is_empty());
        self.outcomes.push_back(Outcome::MemberEnded(member));
    }

    /// Waiting legs of an address after an outlet stopped serving it: they go elsewhere or hear
    /// that there is nobody.
    fn reconsider(&mut self, now: Instant, at: AddressHash) {
        let Some(address) = self.addresses.get(&at) else {
            return;
        };
        let mut waiting: Vec<(u64, LegHandle)> = address
            .inlets
            .values()
            .flat_map(|inlet| inlet.waiting.iter())
            .filter_map(|&handle| Some((self.legs.get(&handle)?.arrived, handle)))
            .collect();
        waiting.sort_unstable();
        for (_, leg) in waiting {
            let Some(member) = self.legs.get(&leg).map(|leg| leg.member) else {
                continue;
            };
            let outlet = self.choose(now, at, member);
            if let Some(parked) = outlet.and_then(|outlet| self.take_parked(at, outlet)) {
                let pair = self.pair(now, leg, parked);
                self.outcomes.push_back(Outcome::Paired(pair));
            } else if !self.is_served(at) {
                self.remove(now, leg);
                self.outcomes.push_back(Outcome::Refused {
                    leg,
                    answer: Answer::NoOutlet,
                });
            }
        }
    }

    /// Whether a live session serves the address.
    fn is_served(&self, address: AddressHash) -> bool {
        self.served.contains_key(&address)
    }

    fn serves(&self, outlet: Id, address: AddressHash) -> bool {
        self.served
            .get(&address)
            .is_some_and(|members| members.contains(&outlet))
    }

    /// Whether the outlet answers on this address: it has a leg parked or can be asked for one.
    fn answers(&self, address: AddressHash, outlet: Id) -> bool {
        let parked = self
            .addresses
            .get(&address)
            .and_then(|a| a.outlets.get(&outlet));
        parked.is_some_and(|outlet| !outlet.parked.is_empty()) || self.serves(outlet, address)
    }

    /// The outlet whose parked leg this inlet member gets, if there is one (rule 2).
    fn choose(&self, now: Instant, at: AddressHash, inlet: Id) -> Option<Id> {
        let address = self.addresses.get(&at)?;
        let stays_with = address
            .inlets
            .get(&inlet)
            .and_then(|inlet| inlet.stays_with);
        match stays_with.filter(|&outlet| self.answers(at, outlet)) {
            Some(outlet) => address
                .outlets
                .get(&outlet)
                .filter(|o| !o.parked.is_empty())
                .map(|_| outlet),
            None => address.best_outlet(now),
        }
    }

    /// The waiting leg whose turn it is for a leg of this outlet (rule 3).
    fn next_waiting(&mut self, at: AddressHash, outlet: Id) -> Option<LegHandle> {
        let address = self.addresses.get(&at)?;
        let fits = |inlet: &Id| {
            let stays_with = address.inlets.get(inlet).and_then(|inlet| inlet.stays_with);
            stays_with.is_none_or(|other| other == outlet || !self.answers(at, other))
        };
        let member = address.turns.iter().find(|inlet| fits(inlet)).copied()?;
        address.inlets.get(&member)?.waiting.front().copied()
    }

    /// Takes the oldest parked leg of an outlet.
    fn take_parked(&mut self, at: AddressHash, outlet: Id) -> Option<LegHandle> {
        let parked = &mut self
            .addresses
            .get_mut(&at)?
            .outlets
            .get_mut(&outlet)?
            .parked;
        parked.pop_front().map(|(_, handle)| handle)
    }

    /// Joins two legs that are known; the inlet's leaves the queue it may be in. The outlet is
    /// asked for more legs if few are left.
    fn pair(&mut self, now: Instant, inlet: LegHandle, outlet: LegHandle) -> Pair {
        let mut suites = [SuiteMask::NONE; 2];
        let mut members = [None; 2];
        let mut at = None;
        for (side, (handle, with)) in [(inlet, outlet), (outlet, inlet)].into_iter().enumerate() {
            if let Some(leg) = self.legs.get_mut(&handle) {
                if let LegState::Waiting(until) = leg.state {
                    self.timers.remove(&(until, Timer::Wait(handle)));
                }
                leg.state = LegState::Paired { with, since: now };
                suites[side] = leg.suites;
                members[side] = Some(leg.member);
                at = Some(leg.address);
            }
        }
        if let (Some(at), [Some(from), Some(to)]) = (at, members) {
            self.addresses
                .entry(at)
                .or_default()
                .paired(now, (from, inlet), to);
            self.ask(now, at, to);
        }
        let [inlet_suites, outlet_suites] = suites;
        Pair {
            inlet,
            outlet,
            inlet_suites,
            outlet_suites,
        }
    }

    /// Forgets a leg and what it counts for.
    fn remove(&mut self, now: Instant, handle: LegHandle) -> Option<Leg> {
        let leg = self.legs.remove(&handle)?;
        let address = self.addresses.entry(leg.address).or_default();
        match leg.state {
            LegState::Waiting(until) => {
                self.timers.remove(&(until, Timer::Wait(handle)));
                address.wait_no_more(leg.member, handle);
            }
            LegState::Parked => address.unpark(leg.member, handle),
            LegState::Paired { with, since } => {
                if let Some(other) = self.legs.get(&with).map(|other| other.member) {
                    let inlet = leg.role == Role::Inlet;
                    let (from, to) = if inlet {
                        (leg.member, other)
                    } else {
                        (other, leg.member)
                    };
                    let inlet_leg = if inlet { handle } else { with };
                    address.unpaired(now, since, (from, inlet_leg), to);
                }
            }
        }
        address.prune(leg.member);
        if address.is_empty() {
            self.addresses.remove(&leg.address);
        }
        Some(leg)
    }

    fn ask_all(&mut self, now: Instant, at: AddressHash) {
        let outlets = self.served.get(&at).cloned().unwrap_or_default();
        for outlet in outlets {
            self.ask(now, at, outlet);
        }
    }

    /// Asks an outlet for legs if few are parked (rule 5).
    fn ask(&mut self, now: Instant, at: AddressHash, outlet: Id) {
        if self.draining || !self.serves(outlet, at) {
            return;
        }
        let session = self
            .members
            .get(&outlet)
            .and_then(|standing| standing.session);
        let Some(session) = session else { return };
        let address = self.addresses.entry(at).or_default();
        if let Some(want) = address.outlets.entry(outlet).or_default().want(now) {
            self.outcomes.push_back(Outcome::ParkLow {
                session,
                address: at,
                want,
            });
        }
    }
}
