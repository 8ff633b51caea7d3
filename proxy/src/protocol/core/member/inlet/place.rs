//! What an inlet has for each lane that it should have at a worker: one that takes streams or is being
//! built, those before it that end, and the circuits of each.

use std::collections::BTreeMap;

use super::super::legs::Leg;
use super::super::peer::Lane;
use super::circuits::Circuits;
use crate::error::CloseReason;
use crate::ids::{BundleId, LinkId, WorkerId};
use crate::protocol::core::node::Node;
use crate::protocol::pool::{CircuitPool, LanePool};
use crate::protocol::shake::InletShake;
use crate::time::Instant;

/// The lane that is being built.
pub(super) enum Building {
    Leg(LinkId, Leg),
    Shaking(LinkId, Box<InletShake>, BundleId),
    /// Adopted; the outlet's READY or DENIED is due.
    Waiting(LinkId, Lane, Instant),
}

impl Building {
    pub(super) fn link(&self) -> LinkId {
        match self {
            Building::Leg(link, _) | Building::Shaking(link, ..) | Building::Waiting(link, ..) => {
                *link
            }
        }
    }
}

/// A lane that was ready, by its link, and its circuits.
pub(super) struct Bundle {
    pub(super) lane: Lane,
    pub(super) circuits: Circuits,
}

/// A lane that there should be at a worker.
pub(super) struct Place {
    pub(super) worker: WorkerId,
    pub(super) pool: LanePool,
    pub(super) building: Option<Building>,
    pub(super) bundles: BTreeMap<LinkId, Bundle>,
    /// The pool of the bundle that was lost last.
    pub(super) circuits_before: CircuitPool,
}

impl Place {
    pub(super) fn new(worker: WorkerId) -> Place {
        Place {
            worker,
            pool: LanePool::default(),
            building: None,
            bundles: BTreeMap::new(),
            circuits_before: CircuitPool::default(),
        }
    }

    pub(super) fn is_building(&self, link: LinkId) -> bool {
        let building = self.building.as_ref();
        building.is_some_and(|building| building.link() == link)
    }

    /// Whether this link is one of its own.
    pub(super) fn owns(&self, link: LinkId) -> bool {
        let mut circuits = self.bundles.values().map(|bundle| &bundle.circuits);
        self.is_building(link)
            || self.bundles.contains_key(&link)
            || circuits.any(|circuits| circuits.owns(link))
    }

    /// Whether one of its lanes takes streams.
    pub(super) fn is_ready(&self) -> bool {
        self.bundles.values().any(|bundle| !bundle.lane.retiring)
    }

    /// The circuits of lanes that take streams.
    pub(super) fn wanted_circuits(&mut self) -> impl Iterator<Item = &mut Circuits> {
        let live = self.bundles.values_mut().filter(|b| !b.lane.retiring);
        live.map(|bundle| &mut bundle.circuits)
    }

    pub(super) fn next_timer(&self, usable: bool) -> Instant {
        let lane = match &self.building {
            Some(Building::Waiting(_, _, until)) => *until,
            Some(Building::Leg(..) | Building::Shaking(..)) => Instant::FAR_FUTURE,
            None if usable => self.pool.next_timer(),
            None => Instant::FAR_FUTURE,
        };
        let circuits = self.bundles.values().map(|bundle| {
            let dial = if usable && !bundle.lane.retiring {
                bundle.circuits.pool().next_due()
            } else {
                Instant::FAR_FUTURE
            };
            let exchange = bundle.lane.exchanges.next_timer();
            bundle.circuits.next_timer().min(dial).min(exchange)
        });
        circuits.fold(lane, Instant::min)
    }
}

impl Bundle {
    /// Its lane takes no more streams. Returns the pool for the bundle that takes over.
    pub(super) fn retire(&mut self, node: &mut Node) -> CircuitPool {
        self.lane.retiring = true;
        let why = CloseReason::Replaced;
        self.circuits.give_up_building(node, why);
        self.circuits.pool().heir()
    }
}
