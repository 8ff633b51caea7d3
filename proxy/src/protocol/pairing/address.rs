//! The legs at one relay address: who is parked, who waits, and who gets whom.

use std::collections::{BTreeMap, VecDeque};

use crypto::Id;

use super::rate::Rate;
use super::{LegHandle, State};
use crate::ids::SessionId;
use crate::limits::{
    LEG_UNPROVEN, LEGS_PAIRED_MAX, LEGS_PARKED_MAX, LEGS_UNFINISHED_MAX, OUTLET_FAILED,
    PARK_ASK_AGAIN, PARK_LOW,
};
use crate::time::Instant;

/// A parked leg.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parked {
    pub handle: LegHandle,
    pub session: SessionId,
    pub at: Instant,
}

/// What an outlet member has at an address.
#[derive(Debug)]
pub(super) struct Outlet {
    /// In the order in which they came.
    pub parked: VecDeque<Parked>,
    pub circuits: usize,
    /// The session by which it parked last.
    session: SessionId,
    asked: Option<Instant>,
    rate: Rate,
}

impl Outlet {
    fn new(session: SessionId) -> Outlet {
        Outlet {
            parked: VecDeque::new(),
            circuits: 0,
            session,
            asked: None,
            rate: Rate::default(),
        }
    }

    fn is_idle(&self) -> bool {
        self.parked.is_empty() && self.circuits == 0
    }

    /// The leg that goes next.
    fn next(&self) -> Option<usize> {
        let latest = |leg: &Parked| leg.session == self.session;
        let latest = self.parked.iter().position(latest);
        latest.or((!self.parked.is_empty()).then_some(0))
    }
}

/// What an inlet member has at an address.
#[derive(Debug, Default)]
pub(super) struct Inlet {
    pub waiting: VecDeque<LegHandle>,
    /// When its circuits that may still be unproven were paired, oldest first.
    young: VecDeque<Instant>,
    pub circuits: usize,
    /// The outlet member it was paired with last.
    outlet: Option<Id>,
    /// It has waited for that one in vain: until then it may go to any.
    loose_until: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Address {
    pub outlets: BTreeMap<Id, Outlet>,
    pub inlets: BTreeMap<Id, Inlet>,
    /// Inlet members that have waiting legs, whose turn is next first.
    pub turns: VecDeque<Id>,
}

impl Address {
    /// An outlet's leg parks; false when it has as many as it may.
    pub fn park(&mut self, member: Id, leg: Parked) -> bool {
        let outlet = self
            .outlets
            .entry(member)
            .or_insert_with(|| Outlet::new(leg.session));
        outlet.session = leg.session;
        let room = outlet.parked.len() < LEGS_PARKED_MAX;
        if room {
            outlet.parked.push_back(leg);
        }
        room
    }

    /// An inlet's leg waits; false when the member has as many as it may.
    pub fn queue(&mut self, now: Instant, member: Id, leg: LegHandle) -> bool {
        let inlet = self.inlets.entry(member).or_default();
        while inlet
            .young
            .front()
            .is_some_and(|&since| now.since(since) >= LEG_UNPROVEN)
        {
            inlet.young.pop_front();
        }
        let unfinished = inlet.young.len() + inlet.waiting.len();
        if unfinished >= LEGS_UNFINISHED_MAX || inlet.circuits >= LEGS_PAIRED_MAX {
            return false;
        }
        if inlet.waiting.is_empty() {
            self.turns.push_back(member);
        }
        inlet.waiting.push_back(leg);
        true
    }

    /// An inlet's leg waited in vain.
    pub fn loosen(&mut self, now: Instant, inlet: &Id) {
        if let Some(inlet) = self.inlets.get_mut(inlet) {
            inlet.loose_until = now + OUTLET_FAILED;
        }
    }

    /// The outlet that an inlet has circuits with, and keeps to.
    fn bound(&self, now: Instant, inlet: &Id) -> Option<Id> {
        let inlet = self.inlets.get(inlet)?;
        let binds = inlet.circuits > 0 && inlet.loose_until <= now;
        inlet.outlet.filter(|_| binds)
    }

    /// The outlet that an inlet gets a leg of now.
    fn choose(
        &self,
        now: Instant,
        inlet: &Id,
        served: &[(Id, SessionId)],
        failed: impl Fn(&Id) -> bool,
    ) -> Option<Id> {
        let in_session = |id: &Id| served.iter().any(|(other, _)| other == id);
        let bound = self.bound(now, inlet);
        if let Some(id) = bound.filter(|id| in_session(id) && !failed(id)) {
            let outlet = self.outlets.get(&id)?;
            return (!outlet.parked.is_empty()).then_some(id);
        }
        let candidates = self.outlets.iter().filter_map(|(id, outlet)| {
            let at = outlet.parked.get(outlet.next()?)?.at;
            Some(((failed(id), outlet.circuits, at), *id))
        });
        candidates.min().map(|(_, id)| id)
    }

    /// The inlet whose turn is next, of those that an outlet has a leg for.
    pub fn next_turn(
        &self,
        now: Instant,
        served: &[(Id, SessionId)],
        failed: impl Fn(&Id) -> bool,
    ) -> Option<(usize, Id)> {
        if self.outlets.values().all(|outlet| outlet.parked.is_empty()) {
            return None;
        }
        let mut turns = self.turns.iter().enumerate();
        turns.find_map(|(turn, inlet)| Some((turn, self.choose(now, inlet, served, &failed)?)))
    }

    /// Joins the next two, the inlet's leg first, and books it on both sides. The member goes to
    /// the end of the line.
    pub fn next_pair(
        &mut self,
        now: Instant,
        served: &[(Id, SessionId)],
        failed: impl Fn(&Id) -> bool,
    ) -> Option<(LegHandle, LegHandle)> {
        let (turn, id) = self.next_turn(now, served, failed)?;
        let outlet = self.outlets.get_mut(&id)?;
        let parked = outlet.parked.remove(outlet.next()?)?;
        outlet.circuits += 1;
        outlet.rate.note(now);
        let member = self.turns.remove(turn)?;
        let inlet = self.inlets.get_mut(&member)?;
        let waiting = inlet.waiting.pop_front()?;
        inlet.circuits += 1;
        inlet.outlet = Some(id);
        inlet.young.push_back(now);
        if !inlet.waiting.is_empty() {
            self.turns.push_back(member);
        }
        Some((waiting, parked.handle))
    }

    /// A leg of an outlet is gone.
    pub fn outlet_gone(&mut self, member: &Id, handle: LegHandle, state: State) {
        let Some(outlet) = self.outlets.get_mut(member) else {
            return;
        };
        match state {
            State::Paired { .. } => outlet.circuits -= 1,
            State::Parked | State::Waiting => outlet.parked.retain(|leg| leg.handle != handle),
        }
    }

    /// A leg of an inlet is gone.
    pub fn inlet_gone(&mut self, member: &Id, handle: LegHandle, state: State) {
        let Some(inlet) = self.inlets.get_mut(member) else {
            return;
        };
        match state {
            State::Paired { since, .. } => {
                inlet.circuits -= 1;
                if let Some(young) = inlet.young.iter().position(|&young| young == since) {
                    inlet.young.remove(young);
                }
            }
            State::Parked | State::Waiting => {
                let waited = !inlet.waiting.is_empty();
                inlet.waiting.retain(|&waiting| waiting != handle);
                if waited && inlet.waiting.is_empty() {
                    self.turns.retain(|other| other != member);
                }
            }
        }
    }

    /// A member's legs that were parked at that time, and whether it has parked since.
    pub fn parked_around(&self, member: &Id, since: Instant) -> (Vec<LegHandle>, bool) {
        let parked = self.outlets.get(member).map(|outlet| &outlet.parked);
        let (older, newer): (Vec<&Parked>, Vec<&Parked>) = parked
            .into_iter()
            .flatten()
            .partition(|leg| leg.at <= since);
        let older = older.into_iter().map(|leg| leg.handle).collect();
        (older, !newer.is_empty())
    }

    /// Whether that member has something here as an outlet.
    pub fn has_outlet(&self, member: &Id) -> bool {
        self.outlets.contains_key(member)
    }

    /// Whether a leg waits for an outlet.
    pub fn anyone_waits(&self) -> bool {
        !self.turns.is_empty()
    }

    /// The outlets that should be asked for legs now, by which session, and for how many. Of
    /// `served` also those that have none here.
    pub fn short(&mut self, now: Instant, served: &[(Id, SessionId)]) -> Vec<(SessionId, u16)> {
        if !self.turns.is_empty() {
            for (member, session) in served {
                let outlet = self.outlets.entry(*member);
                let outlet = outlet.or_insert_with(|| Outlet::new(*session));
                if outlet.is_idle() {
                    outlet.session = *session;
                }
            }
        }
        let mut short = Vec::new();
        for outlet in self.outlets.values_mut() {
            let again = outlet
                .asked
                .is_none_or(|at| now.since(at) >= PARK_ASK_AGAIN);
            if outlet.parked.len() >= PARK_LOW || !again {
                continue;
            }
            outlet.asked = Some(now);
            let want = outlet.rate.target() - outlet.parked.len();
            short.push((outlet.session, u16::try_from(want).unwrap_or(u16::MAX)));
        }
        short
    }

    /// Forgets who has nothing here any more; whether that leaves nobody. Outlets without legs
    /// are kept while somebody waits, so that they are not asked too often.
    pub fn is_empty(&mut self) -> bool {
        self.inlets
            .retain(|_, inlet| inlet.circuits > 0 || !inlet.waiting.is_empty());
        if self.turns.is_empty() {
            self.outlets.retain(|_, outlet| !outlet.is_idle());
        }
        self.outlets.is_empty() && self.inlets.is_empty()
    }
}
