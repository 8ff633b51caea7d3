//! Which leg the relay joins with which.
//!
//! An outlet's leg parks until it is wanted; an inlet's leg is paired with a parked one at once,
//! or waits, at most `limits::PAIR_WAIT`, if a live session serves its address. The worker owns
//! the sockets. It calls
//!
//! - [`Pairing::on_leg`] for every checked leg, and carries out the [`Verdict`];
//! - [`Pairing::on_sign`] when the first thing comes from an outlet's leg that was paired;
//! - [`Pairing::on_gone`] exactly once when the leg's socket is lost or was closed;
//! - after each of these, and after those about sessions and time, [`Pairing::poll_pair`],
//!   [`Pairing::poll_want`] and [`Pairing::poll_served`] until they have nothing.
//!
//! # Fairness
//! Inlet *members* that wait take turns. While an inlet has a circuit with an outlet that is in
//! session, its further legs go to that one, or wait for it (so a query cancel reaches the right
//! server, and circuits join their lane). Else it gets the outlet member with the fewest circuits,
//! then the one whose leg is oldest. Of one outlet member, legs of its latest session go first,
//! the oldest of them before the others.
//!
//! # Outlets that are dead
//! A leg that was paired and shows no sign of life for `limits::LEG_SIGN` is dead, whatever the
//! inlet did, and so is what its member parked before that pairing: all are closed at once, not
//! one after the other. An outlet that parked nothing since has failed, and is passed over for
//! `limits::OUTLET_FAILED` if another has legs. An inlet that waited in vain for the outlet that it
//! keeps to may go to any for as long. No inlet can make another's outlet fail.
//!
//! # Bounds
//! Per member and address: `LEGS_UNFINISHED_MAX` that wait or are too young to be proven,
//! `LEGS_PAIRED_MAX` paired, `LEGS_PARKED_MAX` parked. Beyond them, and while a member waits after
//! a denial: BUSY.

mod address;
mod check;
mod marks;
mod rate;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crypto::Id;

use self::address::{Address, Parked};
use self::marks::{Denials, Failures};
use super::command::Role;
use super::leg::{Answer, LegInfo, LegTable, Request};
use crate::ids::{AddressHash, SessionId};
use crate::limits::{LEG_BUSY_RETRY, LEG_SIGN, PAIR_WAIT, UNSERVED_MAX};
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

/// What time has done to a leg. The pairing has forgotten it, unless it is one of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It waited long enough: it is answered NO_OUTLET and closed.
    Unanswered(LegHandle),
    /// Nobody is at its other end: it is reset, and with it the leg that it is paired with.
    Dead(LegHandle),
}

/// An outlet is short of parked legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// The session by which its member parks.
    pub session: SessionId,
    /// The address.
    pub address: AddressHash,
    /// How many more.
    pub want: u16,
}

/// Who serves an address now.
pub trait Serving {
    /// The members in session that serve it, each with its latest session, in order of their ids.
    fn serving(&self, address: &AddressHash) -> Vec<(Id, SessionId)>;
}

impl Serving for LegTable {
    fn serving(&self, address: &AddressHash) -> Vec<(Id, SessionId)> {
        LegTable::serving(self, address)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Parked,
    Waiting,
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
    session: SessionId,
    state: State,
    /// When its wait is over, or a sign of life is due.
    due: Option<Instant>,
}

/// The relay's legs. See the module's contract.
#[derive(Debug, Default)]
pub struct Pairing {
    legs: BTreeMap<LegHandle, Leg>,
    addresses: BTreeMap<AddressHash, Address>,
    /// The legs that have something due, by when.
    due: BTreeSet<(Instant, LegHandle)>,
    failures: Failures,
    denials: Denials,
    /// Who asked for an address that nobody served.
    unserved: BTreeSet<(AddressHash, SessionId)>,
    pairs: VecDeque<(LegHandle, LegHandle)>,
    wants: VecDeque<Want>,
    news: VecDeque<(SessionId, AddressHash)>,
}

#[cfg(test)]
impl Pairing {
    /// Bytes of memory that a leg costs, when the tree's nodes are half full.
    pub(crate) const LEG: usize = 2 * size_of::<(LegHandle, Leg)>();
}

fn busy(retry: Duration) -> Verdict {
    let retry_ms = u32::try_from(retry.as_millis()).unwrap_or(u32::MAX);
    Verdict::Refuse(Answer::Busy { retry_ms })
}

impl Pairing {
    /// A leg whose preface was checked.
    pub fn on_leg(
        &mut self,
        now: Instant,
        handle: LegHandle,
        info: &LegInfo,
        serving: &impl Serving,
    ) -> Verdict {
        debug_assert!(!self.legs.contains_key(&handle), "a handle in use");
        if !info.permitted {
            return Verdict::Refuse(Answer::NotPermitted);
        }
        let Request { role, address, .. } = info.request;
        let (member, session) = (info.member, info.session);
        let (state, due) = match role {
            Role::Outlet => {
                self.failures.on_leg(address, member, session);
                let at = now;
                let parked = Parked {
                    handle,
                    session,
                    at,
                };
                let place = self.addresses.entry(address).or_default();
                if !place.park(member, parked) {
                    self.tidy(&address);
                    return busy(LEG_BUSY_RETRY);
                }
                (State::Parked, None)
            }
            Role::Inlet => {
                if let Some(wait) = self.denials.wait(now, &address, &member) {
                    return busy(wait);
                }
                let place = self.addresses.entry(address).or_default();
                if !place.queue(now, member, handle) {
                    self.tidy(&address);
                    return busy(LEG_BUSY_RETRY);
                }
                (State::Waiting, Some(now + PAIR_WAIT))
            }
        };
        self.legs.insert(
            handle,
            Leg {
                member,
                role,
                address,
                session,
                state,
                due: None,
            },
        );
        self.set_due(handle, due);
        let served = serving.serving(&address);
        self.settle(now, &address, &served);
        let paired = |pair: &(LegHandle, LegHandle)| pair.0 == handle || pair.1 == handle;
        if let Some(pair) = self.pairs.iter().position(paired)
            && let Some((one, two)) = self.pairs.remove(pair)
        {
            return Verdict::Pair(if one == handle { two } else { one });
        }
        if role == Role::Inlet {
            if served.is_empty() {
                self.forget(handle);
                if self.unserved.len() < UNSERVED_MAX {
                    self.unserved.insert((address, session));
                }
                return Verdict::Refuse(Answer::NoOutlet);
            }
            self.ask(now, address, &served);
        }
        Verdict::Wait
    }

    /// Something came from an outlet's leg that was paired: its bytes, or its end.
    pub fn on_sign(&mut self, handle: LegHandle) {
        let paired = |leg: &Leg| matches!(leg.state, State::Paired { .. });
        if self.legs.get(&handle).is_some_and(paired) {
            self.set_due(handle, None);
        }
    }

    /// The leg's socket is gone, whatever it was doing. A paired leg's counterpart is the
    /// worker's to end; it says so in its own call.
    pub fn on_gone(&mut self, now: Instant, handle: LegHandle, serving: &impl Serving) {
        let Some(address) = self.legs.get(&handle).map(|leg| leg.address) else {
            return;
        };
        self.forget(handle);
        self.look(now, address, serving);
    }

    /// A member's session ended.
    pub fn on_session_end(&mut self, session: SessionId) {
        self.unserved.retain(|(_, asked)| *asked != session);
    }

    /// A member serves less than before.
    pub fn on_serves_less(&mut self, now: Instant, member: &Id, serving: &impl Serving) {
        let with = |place: &Address| place.has_outlet(member);
        let with = self.addresses.iter().filter(|(_, place)| with(place));
        for address in with.map(|(address, _)| *address).collect::<Vec<_>>() {
            self.look(now, address, serving);
        }
    }

    /// A session has begun to serve the address.
    pub fn on_served(&mut self, address: &AddressHash) {
        self.denials.forget(address);
        let asked = self.unserved.extract_if(.., |(at, _)| at == address);
        self.news.extend(asked.map(|(at, session)| (session, at)));
    }

    /// An outlet's policy denied that inlet member.
    pub fn on_denied(&mut self, now: Instant, address: AddressHash, inlet: Id) {
        self.denials.note(now, address, inlet);
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
        self.due.first().map_or(Instant::FAR_FUTURE, |(at, _)| *at)
    }

    /// What time has done.
    pub fn on_timer(&mut self, now: Instant, serving: &impl Serving) -> Vec<Over> {
        let mut over = Vec::new();
        let mut touched = BTreeSet::new();
        while let Some((at, handle)) = self.due.first().copied() {
            if at > now {
                break;
            }
            self.set_due(handle, None);
            let Some(leg) = self.legs.get(&handle) else {
                continue;
            };
            let (address, member) = (leg.address, leg.member);
            touched.insert(address);
            match leg.state {
                State::Waiting => {
                    if let Some(place) = self.addresses.get_mut(&address) {
                        place.loosen(now, &member);
                    }
                    self.forget(handle);
                    over.push(Over::Unanswered(handle));
                }
                State::Paired { since, .. } => {
                    let session = leg.session;
                    let place = self.addresses.get(&address);
                    let (older, newer) = place.map_or((Vec::new(), false), |place| {
                        place.parked_around(&member, since)
                    });
                    if !newer {
                        self.failures.note(now, address, member, session);
                    }
                    over.push(Over::Dead(handle));
                    for parked in older {
                        self.forget(parked);
                        over.push(Over::Dead(parked));
                    }
                }
                State::Parked => {}
            }
        }
        for address in touched {
            self.look(now, address, serving);
        }
        over
    }

    /// The next two legs, the inlet's first, that were waiting and are joined now: both are
    /// answered PAIRED.
    pub fn poll_pair(&mut self) -> Option<(LegHandle, LegHandle)> {
        self.pairs.pop_front()
    }

    /// The next outlet that should be asked for more legs.
    pub fn poll_want(&mut self) -> Option<Want> {
        self.wants.pop_front()
    }

    /// The next session whose node should hear that the address is served now.
    pub fn poll_served(&mut self) -> Option<(SessionId, AddressHash)> {
        self.news.pop_front()
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

    /// Joins what can be joined at an address and asks for what is missing there.
    fn look(&mut self, now: Instant, address: AddressHash, serving: &impl Serving) {
        let Some(place) = self.addresses.get(&address) else {
            return;
        };
        // Who serves it matters only to those who wait.
        let served = if place.anyone_waits() {
            serving.serving(&address)
        } else {
            Vec::new()
        };
        self.settle(now, &address, &served);
        self.ask(now, address, &served);
        self.tidy(&address);
    }

    /// Joins what can be joined.
    fn settle(&mut self, now: Instant, address: &AddressHash, served: &[(Id, SessionId)]) {
        let failures = &self.failures;
        let Some(place) = self.addresses.get_mut(address) else {
            return;
        };
        let mut joined = Vec::new();
        let failed = |outlet: &Id| failures.has_failed(now, address, outlet);
        while let Some(pair) = place.next_pair(now, served, failed) {
            joined.push(pair);
        }
        for (inlet, outlet) in joined {
            for (handle, with, due) in
                [(inlet, outlet, None), (outlet, inlet, Some(now + LEG_SIGN))]
            {
                if let Some(leg) = self.legs.get_mut(&handle) {
                    leg.state = State::Paired {
                        with: Some(with),
                        since: now,
                    };
                }
                self.set_due(handle, due);
            }
            self.pairs.push_back((inlet, outlet));
            self.ask(now, *address, &[]);
        }
    }

    fn set_due(&mut self, handle: LegHandle, due: Option<Instant>) {
        let Some(leg) = self.legs.get_mut(&handle) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut leg.due, due) {
            self.due.remove(&(before, handle));
        }
        if let Some(at) = due {
            self.due.insert((at, handle));
        }
    }

    /// Takes a leg out of the books.
    fn forget(&mut self, handle: LegHandle) {
        self.set_due(handle, None);
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
        self.pairs
            .retain(|(one, two)| *one != handle && *two != handle);
        if let Some(place) = self.addresses.get_mut(&leg.address) {
            match leg.role {
                Role::Outlet => place.outlet_gone(&leg.member, handle, leg.state),
                Role::Inlet => place.inlet_gone(&leg.member, handle, leg.state),
            }
        }
        self.tidy(&leg.address);
    }

    /// Notes which outlets of an address are short of legs; `served` are asked even if they have
    /// none here.
    fn ask(&mut self, now: Instant, address: AddressHash, served: &[(Id, SessionId)]) {
        if let Some(place) = self.addresses.get_mut(&address) {
            for (session, want) in place.short(now, served) {
                self.wants.push_back(Want {
                    session,
                    address,
                    want,
                });
            }
        }
    }

    /// Forgets an address that nobody is at.
    fn tidy(&mut self, address: &AddressHash) {
        if let Some(place) = self.addresses.get_mut(address)
            && place.is_empty()
        {
            self.addresses.remove(address);
        }
    }
}

#[cfg(test)]
mod tests;
