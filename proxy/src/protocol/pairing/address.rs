//! One relay address: who waits for it, who is parked at it, and whose turn it is.

use std::collections::{BTreeMap, VecDeque};

use crypto::Id;

use super::LegHandle;
use super::peak::Peak;
use crate::limits::{
    LEG_UNPROVEN, LEGS_PARKED_MAX, OUTLET_SKIP, PARK_ASK_AGAIN, PARK_LOW, PARK_WANT_MIN,
};
use crate::time::Instant;

/// An inlet member at this address.
#[derive(Debug, Default)]
pub(super) struct Inlet {
    /// Legs that wait, oldest first.
    pub(super) waiting: VecDeque<LegHandle>,
    /// Its circuits.
    pub(super) paired: usize,
    /// Those of them that are too young to be known to work, oldest first.
    unproven: VecDeque<(Instant, LegHandle)>,
    /// The outlet it was paired with last.
    pub(super) stays_with: Option<Id>,
}

impl Inlet {
    /// Legs that wait and circuits that may not have finished their handshake.
    pub(super) fn unfinished(&mut self, now: Instant) -> usize {
        while self
            .unproven
            .front()
            .is_some_and(|&(since, _)| since + LEG_UNPROVEN <= now)
        {
            self.unproven.pop_front();
        }
        self.waiting.len() + self.unproven.len()
    }
}

/// An outlet member at this address.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    /// Its legs and their order of arrival, oldest first.
    pub(super) parked: VecDeque<(u64, LegHandle)>,
    paired: usize,
    peak: Peak,
    /// When it was asked for more legs, and how many of them have not come.
    asked: Option<(Instant, usize)>,
    failed: Option<Instant>,
}

impl Outlet {
    /// A leg of it came.
    pub(super) fn came(&mut self) {
        self.asked = match self.asked {
            Some((at, owed)) if owed > 1 => Some((at, owed - 1)),
            Some(_) | None => None,
        };
    }

    /// How many legs more it should park, if it is to be asked now.
    pub(super) fn want(&mut self, now: Instant) -> Option<u16> {
        let waits = self.asked.is_some_and(|(at, _)| now < at + PARK_ASK_AGAIN);
        if self.parked.len() >= PARK_LOW || waits {
            return None;
        }
        let target = 2 * self.peak.get(now) + PARK_WANT_MIN;
        let more = target.clamp(PARK_WANT_MIN, LEGS_PARKED_MAX) - self.parked.len();
        self.asked = Some((now, more));
        u16::try_from(more).ok()
    }
}

/// An address.
#[derive(Debug, Default)]
pub(super) struct Address {
    pub(super) inlets: BTreeMap<Id, Inlet>,
    pub(super) outlets: BTreeMap<Id, Outlet>,
    /// Inlet members with a waiting leg, in the order of their turns.
    pub(super) turns: VecDeque<Id>,
}

impl Address {
    pub(super) fn wait(&mut self, inlet: Id, leg: LegHandle) {
        let waiting = &mut self.inlets.entry(inlet).or_default().waiting;
        if waiting.is_empty() {
            self.turns.push_back(inlet);
        }
        waiting.push_back(leg);
    }

    pub(super) fn wait_no_more(&mut self, inlet: Id, leg: LegHandle) {
        let Some(entry) = self.inlets.get_mut(&inlet) else {
            return;
        };
        let before = entry.waiting.len();
        entry.waiting.retain(|&waiting| waiting != leg);
        if entry.waiting.is_empty() && before > 0 {
            self.turns.retain(|&member| member != inlet);
        }
    }

    pub(super) fn unpark(&mut self, outlet: Id, leg: LegHandle) {
        if let Some(outlet) = self.outlets.get_mut(&outlet) {
            outlet.parked.retain(|&(_, parked)| parked != leg);
        }
    }

    pub(super) fn unstick(&mut self, inlet: Id) {
        if let Some(inlet) = self.inlets.get_mut(&inlet) {
            inlet.stays_with = None;
        }
    }

    /// A circuit begins. The inlet member goes to the end of the turns.
    pub(super) fn paired(&mut self, now: Instant, (inlet, leg): (Id, LegHandle), outlet: Id) {
        self.wait_no_more(inlet, leg);
        if let Some(at) = self.turns.iter().position(|&member| member == inlet) {
            self.turns.remove(at);
            self.turns.push_back(inlet);
        }
        let entry = self.inlets.entry(inlet).or_default();
        entry.paired += 1;
        entry.unproven.push_back((now, leg));
        entry.stays_with = Some(outlet);
        let outlet = self.outlets.entry(outlet).or_default();
        outlet.paired += 1;
        outlet.peak.note(now);
    }

    /// A circuit has ended. One that ended young has failed, as far as a relay can tell: the
    /// inlet may try another outlet, if there is one.
    pub(super) fn unpaired(
        &mut self,
        now: Instant,
        since: Instant,
        (inlet, leg): (Id, LegHandle),
        outlet: Id,
    ) {
        let failed = now < since + LEG_UNPROVEN;
        if let Some(entry) = self.inlets.get_mut(&inlet) {
            entry.paired -= 1;
            entry.unproven.retain(|&(_, young)| young != leg);
            if failed {
                entry.stays_with = None;
            }
        }
        if let Some(entry) = self.outlets.get_mut(&outlet) {
            entry.paired -= 1;
            if failed {
                entry.failed = Some(now);
            }
        }
    }

    /// The outlet with a parked leg that an inlet without ties should get: one that has not
    /// failed lately, with the fewest circuits, with the oldest leg.
    pub(super) fn best_outlet(&self, now: Instant) -> Option<Id> {
        let parked = self.outlets.iter().filter_map(|(&id, outlet)| {
            let (arrived, _) = outlet.parked.front()?;
            let failed = outlet.failed.is_some_and(|at| now < at + OUTLET_SKIP);
            Some(((failed, outlet.paired, *arrived), id))
        });
        parked.min().map(|(_, id)| id)
    }

    /// Forgets an inlet member of which nothing is left to remember.
    pub(super) fn prune(&mut self, member: Id) {
        let nothing = |inlet: &Inlet| {
            inlet.waiting.is_empty() && inlet.paired == 0 && inlet.stays_with.is_none()
        };
        if self.inlets.get(&member).is_some_and(nothing) {
            self.inlets.remove(&member);
        }
    }

    /// A member is gone, its legs removed.
    pub(super) fn forget(&mut self, member: Id) {
        if self
            .inlets
            .get(&member)
            .is_some_and(|inlet| inlet.paired == 0)
        {
            self.inlets.remove(&member);
        }
        if self
            .outlets
            .get(&member)
            .is_some_and(|outlet| outlet.paired == 0)
        {
            self.outlets.remove(&member);
        }
        for inlet in self.inlets.values_mut() {
            if inlet.stays_with == Some(member) {
                inlet.stays_with = None;
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inlets.is_empty() && self.outlets.is_empty()
    }

    pub(super) fn check(&self) {
        let with_legs = self
            .inlets
            .iter()
            .filter(|(_, inlet)| !inlet.waiting.is_empty());
        let mut turns: Vec<Id> = self.turns.iter().copied().collect();
        turns.sort_unstable();
        assert!(
            with_legs.map(|(&id, _)| id).eq(turns),
            "who waits has one turn"
        );
        let circuits: usize = self.inlets.values().map(|inlet| inlet.paired).sum();
        let other_side: usize = self.outlets.values().map(|outlet| outlet.paired).sum();
        assert_eq!(circuits, other_side, "a circuit has two ends");
    }
}
