//! An inlet portal: one lane that takes streams, its replacement in time, the circuits that go with
//! it, and what apps are told while there is none.
//!
//! A lane is built in steps, one at a time: leg dialed → paired by the relay → handshake → adopted
//! by the worker → READY. Whatever fails on the way, the pool says when the next attempt begins.
//! A lane that is ready gets circuits, which end with it at the latest.

mod circuits;
mod lane;
mod policy;
mod terms;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crypto::names::RelayAddress;
use crypto::suite::SuiteMask;

use self::circuits::Circuits;
use self::terms::Terms;
use super::legs::Leg;
use super::peer::Lane;
use super::relay_link::RelayLink;
use crate::error::{CloseReason, Code};
use crate::ids::{BundleId, LinkId, PortalNo};
use crate::limits::PAIRING_TIMEOUT;
use crate::protocol::command::{Command, Gate, LaneCommand, LaneEvent, Role, address_hash};
use crate::protocol::core::config::InletConfig;
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::link_event::LinkEvent;
use crate::protocol::core::node::Node;
use crate::protocol::core::status::{CircuitsStatus, PortalStatus};
use crate::protocol::pool::{CircuitPool, Failure, LanePool};
use crate::protocol::shake::InletShake;
use crate::time::Instant;

/// The lane that is being built.
enum Building {
    Leg(LinkId, Leg),
    Shaking(LinkId, Box<InletShake>, BundleId),
    /// Adopted; the outlet's READY or DENIED is due.
    Waiting(LinkId, Lane, Instant),
}

impl Building {
    fn link(&self) -> LinkId {
        match self {
            Building::Leg(link, _) | Building::Shaking(link, ..) | Building::Waiting(link, ..) => {
                *link
            }
        }
    }
}

/// A lane that was ready, by its link, and its circuits.
struct Bundle {
    lane: Lane,
    circuits: Circuits,
}

/// See the module.
pub struct Inlet {
    terms: Terms,
    pool: LanePool,
    building: Option<Building>,
    bundles: BTreeMap<LinkId, Bundle>,
    /// The pool of the bundle that was lost last.
    circuits_before: CircuitPool,
    gate: Gate,
    trouble: Option<(Code, String)>,
    /// The relay has answered NO_OUTLET since then.
    unserved_since: Option<Instant>,
    /// Why apps are reset, as it was logged.
    resets_logged: Option<CloseReason>,
}

impl Bundle {
    /// Its lane takes no more streams. Returns the pool for the bundle that takes over.
    fn retire(&mut self, node: &mut Node) -> CircuitPool {
        self.lane.retiring = true;
        let why = CloseReason::Replaced;
        self.circuits.give_up_building(node, why);
        self.circuits.pool().heir()
    }
}

impl Inlet {
    /// A portal without a lane; apps wait.
    pub fn new(config: InletConfig, suites: SuiteMask) -> Inlet {
        Inlet {
            terms: Terms::new(config, suites),
            pool: LanePool::default(),
            building: None,
            bundles: BTreeMap::new(),
            circuits_before: CircuitPool::default(),
            gate: Gate::Wait,
            trouble: None,
            unserved_since: None,
            resets_logged: None,
        }
    }

    /// Whether this link is one of the portal's.
    pub fn owns(&self, link: LinkId) -> bool {
        self.is_building(link)
            || self
                .bundles
                .iter()
                .any(|(lane, bundle)| *lane == link || bundle.circuits.owns(link))
    }

    fn is_building(&self, link: LinkId) -> bool {
        let building = self.building.as_ref();
        building.is_some_and(|building| building.link() == link)
    }

    /// What apps are told while there is no lane.
    pub fn set_gate(&mut self, node: &mut Node, gate: Gate) {
        if self.gate != gate {
            self.gate = gate;
            let portal = self.terms.config.portal;
            node.out.command(Command::Gate { portal, gate });
        }
    }

    /// Its number.
    pub fn portal(&self) -> PortalNo {
        self.terms.config.portal
    }

    /// An app was reset before it had a stream. The first one for a reason is worth a line; a
    /// port scan is not worth thousands.
    pub fn on_app_refused(&mut self, node: &mut Node, app: SocketAddr, why: CloseReason) {
        let news = self.resets_logged.replace(why) != Some(why);
        let level = if news { Level::Warn } else { Level::Debug };
        let record = LogRecord::new(level, "an application was reset")
            .code(why.code())
            .with("why", why)
            .with("address", &self.terms.config.via)
            .with("from", app);
        node.out.log(record);
    }

    /// The relay address it goes to.
    pub fn via(&self) -> &RelayAddress {
        &self.terms.config.via
    }

    /// There is news that may make an attempt succeed: don't wait.
    pub fn wake(&mut self) {
        self.pool.wake();
        for bundle in self.bundles.values_mut() {
            bundle.circuits.wake();
        }
    }

    /// Begins a lane if one is due.
    pub fn begin(&mut self, node: &mut Node, now: Now, relay: &mut RelayLink) {
        if let Some(Building::Waiting(link, _, until)) = &self.building
            && *until <= now.mono
        {
            let what = LaneCommand::Cut(CloseReason::ShakeTimeout);
            node.out.command(Command::Lane { link: *link, what });
            self.fail(node, now, CloseReason::ShakeTimeout, Failure::Lost);
        }
        for bundle in self.bundles.values_mut() {
            bundle.circuits.on_timer(node, now, &self.terms);
        }
        let project = node
            .membership
            .as_ref()
            .map(|membership| membership.project());
        let Some(project) = project.filter(|_| relay.usable()) else {
            return;
        };
        if !self.pool.begin(now.mono) {
            return;
        }
        match relay.grant_leg() {
            Some(grant) => {
                let hash = address_hash(&project, &self.terms.config.via);
                let role = Role::Inlet;
                let suites = node.suites(self.terms.suites);
                let (link, leg) =
                    Leg::dial(&mut node.out, now.mono, grant, role, suites, hash, false);
                self.building = Some(Building::Leg(link, leg));
            }
            None => self
                .pool
                .on_failed(now.mono, Failure::Lost, node.out.random()),
        }
    }

    /// The circuits of lanes that take streams.
    fn wanted_circuits(&mut self) -> impl Iterator<Item = &mut Circuits> {
        let live = self.bundles.values_mut().filter(|b| !b.lane.retiring);
        live.map(|bundle| &mut bundle.circuits)
    }

    /// Whether circuits should be dialed now.
    pub fn misses_circuits(&mut self, now: Now) -> bool {
        self.wanted_circuits()
            .any(|circuits| circuits.due(now.mono) > 0)
    }

    /// Circuits that are being made.
    pub fn circuits_building(&self) -> usize {
        let pools = self.bundles.values().map(|b| b.circuits.pool().building());
        pools.sum()
    }

    /// Circuits that its relay counts as unfinished.
    pub fn circuits_unproven(&self, now: Now) -> usize {
        let bundles = self.bundles.values();
        bundles.map(|b| b.circuits.unproven(now.mono)).sum()
    }

    /// Dials circuits that are missing, `at_most` so many. Returns how many were dialed.
    pub fn dial_circuits(
        &mut self,
        node: &mut Node,
        now: Now,
        relay: &mut RelayLink,
        at_most: usize,
    ) -> usize {
        let Some(membership) = &node.membership else {
            return 0;
        };
        let hash = address_hash(&membership.project(), &self.terms.config.via);
        let mut dialed = 0;
        for bundle in self.bundles.values_mut().filter(|b| !b.lane.retiring) {
            let allowed = (hash, at_most - dialed);
            dialed += bundle.circuits.dial(node, now, relay, &self.terms, allowed);
        }
        dialed
    }

    /// When [`begin`](Self::begin) has something to do, or circuits should be dialed.
    pub fn next_timer(&self, usable: bool) -> Instant {
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
            bundle.circuits.next_timer().min(dial)
        });
        circuits.fold(lane, Instant::min)
    }

    /// An event of a link that is [owned](Self::owns).
    pub fn on_event(&mut self, node: &mut Node, now: Now, link: LinkId, event: LinkEvent) {
        let mut circuits = self.bundles.values_mut().map(|bundle| &mut bundle.circuits);
        if let Some(circuits) = circuits.find(|circuits| circuits.owns(link)) {
            return circuits.on_event(node, now, &self.terms, link, event);
        }
        match event {
            LinkEvent::Connected(_) => {
                let why = CloseReason::NoOutlet;
                node.out.deadline(link, now.mono, PAIRING_TIMEOUT, why);
            }
            LinkEvent::Frame(bytes) => self.on_frame(node, now, &bytes),
            LinkEvent::Closed(why) => self.on_closed(node, now, link, why),
            LinkEvent::Lane(what) => self.on_lane(node, now, link, what),
            LinkEvent::Circuit(_) => {}
        }
    }

    /// Sends this node's renewed credential on all lanes.
    pub fn on_renewed(&mut self, node: &mut Node, evidence: &[u8]) {
        for link in self.bundles.keys() {
            let what = LaneCommand::Credential(evidence.to_vec());
            node.out.command(Command::Lane { link: *link, what });
        }
    }

    /// The relay is about to end and waits for its circuits: lanes end with their last stream, and
    /// another is made as soon as a relay is there.
    pub fn on_relay_leaves(&mut self, node: &mut Node, now: Now) {
        let links: Vec<LinkId> = self.bundles.keys().copied().collect();
        for link in links {
            let what = LaneCommand::Retire;
            node.out.command(Command::Lane { link, what });
            self.on_lane(node, now, link, LaneEvent::Retiring);
        }
        node.out.status_changed();
    }

    /// Gives up what is being built.
    pub fn stop(&mut self, node: &mut Node) {
        if let Some(building) = self.building.take() {
            node.out
                .close(building.link(), false, CloseReason::Stopping);
        }
        for bundle in self.bundles.values_mut() {
            let why = CloseReason::Stopping;
            bundle.circuits.give_up_building(node, why);
        }
    }

    /// What `status` shows.
    pub fn status(&self) -> PortalStatus {
        let lanes = self.bundles.values().map(|bundle| &bundle.lane);
        let live = || lanes.clone().filter(|lane| !lane.retiring);
        let ready = live().next().is_some();
        let mut circuits = CircuitsStatus::default();
        for bundle in self.bundles.values() {
            circuits += bundle.circuits.status();
        }
        PortalStatus {
            portal: self.portal(),
            role: Role::Inlet,
            address: self.terms.config.via.clone(),
            ready,
            lanes: self.bundles.len(),
            parked: 0,
            circuits,
            peers: live().map(|lane| (lane.peer, lane.name.clone())).collect(),
            pinned: self.terms.config.allow.pinned(),
            rules: self.terms.config.allow.lines(),
            why: self
                .trouble
                .as_ref()
                .filter(|_| !ready)
                .map(|(_, why)| why.clone()),
        }
    }
}
