//! An inlet portal: at each worker one lane that takes streams (or as many as configured), its
//! replacement in time and the circuits that go with it; and what apps are told while there is none.
//!
//! A lane is built in steps, one at a time: leg dialed → paired by the relay → handshake → adopted
//! by the worker → READY. Whatever fails on the way, the pool says when the next attempt begins.
//! A lane that is ready gets circuits, which end with it at the latest.

mod circuits;
mod lane;
mod place;
mod policy;
mod terms;

use std::net::SocketAddr;

use crypto::names::RelayAddress;
use crypto::suite::SuiteMask;

use self::place::{Building, Bundle, Place};
use self::terms::Terms;
use super::legs::{Leg, LegAsk};
use super::peer::{Judge, Lane};
use super::relay_link::RelayLink;
use crate::error::{CloseReason, Code};
use crate::ids::{LinkId, PortalNo, WorkerId, WorkerSet};
use crate::limits::{INLET_LANES_MAX, PAIRING_TIMEOUT};
use crate::protocol::command::{Command, Gate, LaneCommand, LaneEvent, Role, address_hash};
use crate::protocol::core::config::InletConfig;
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::link_event::LinkEvent;
use crate::protocol::core::node::Node;
use crate::protocol::core::status::{CircuitsStatus, PortalStatus};
use crate::protocol::pool::Failure;
use crate::time::Instant;

/// See the module.
pub struct Inlet {
    terms: Terms,
    /// One for each lane that there should be, those of one worker side by side.
    places: Vec<Place>,
    workers: u8,
    /// Where lanes take streams, as the workers were told.
    hosts: WorkerSet,
    gate: Gate,
    trouble: Option<(Code, String)>,
    /// The relay has answered NO_OUTLET since then.
    unserved_since: Option<Instant>,
    /// Why apps are reset, as it was logged.
    resets_logged: Option<CloseReason>,
    /// It takes no apps any more: lanes that are there end with their streams.
    closed: bool,
}

impl Inlet {
    /// A portal without a lane; apps wait.
    pub fn new(config: InletConfig, suites: SuiteMask, workers: u8) -> Inlet {
        let workers = workers.max(1);
        let lanes = usize::from(config.lanes.clamp(1, INLET_LANES_MAX));
        let places = WorkerId::all(workers).flat_map(|worker| std::iter::repeat_n(worker, lanes));
        Inlet {
            places: places.map(Place::new).collect(),
            workers,
            terms: Terms::new(config, suites),
            hosts: WorkerSet::NONE,
            gate: Gate::Wait,
            trouble: None,
            unserved_since: None,
            resets_logged: None,
            closed: false,
        }
    }

    /// Whether it is to have lanes.
    pub fn is_wanted(&self) -> bool {
        !self.closed
    }

    /// Whether it was closed, and nothing of it is left.
    pub fn has_ended(&self) -> bool {
        let empty = |place: &Place| place.building.is_none() && place.bundles.is_empty();
        self.closed && self.places.iter().all(empty)
    }

    /// Takes no apps any more; streams go on.
    pub fn close(&mut self, node: &mut Node, now: Now) {
        self.closed = true;
        self.stop(node);
        self.on_relay_leaves(node, now);
    }

    /// Whether this link is one of the portal's.
    pub fn owns(&self, link: LinkId) -> bool {
        self.place_of(link).is_some()
    }

    /// Which place has this link.
    fn place_of(&self, link: LinkId) -> Option<usize> {
        self.places.iter().position(|place| place.owns(link))
    }

    /// How it judges outlets.
    pub fn judge(&self) -> Judge<'_> {
        self.terms.judge()
    }

    /// Its lanes.
    pub fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.bundles().map(|(_, bundle)| &bundle.lane)
    }

    fn bundles(&self) -> impl Iterator<Item = (&LinkId, &Bundle)> + Clone {
        self.places.iter().flat_map(|place| &place.bundles)
    }

    fn bundles_mut(&mut self) -> impl Iterator<Item = (&LinkId, &mut Bundle)> {
        let places = self.places.iter_mut();
        places.flat_map(|place| &mut place.bundles)
    }

    /// Tells the workers where lanes take streams, if that has changed.
    fn tell_hosts(&mut self, node: &mut Node) {
        let ready = self.places.iter().filter(|place| place.is_ready());
        let workers: WorkerSet = ready.map(|place| place.worker).collect();
        if self.workers > 1 && workers != self.hosts {
            self.hosts = workers;
            let portal = self.portal();
            node.out.command(Command::Hosts { portal, workers });
        }
    }

    /// No lane can be had at that place for now. While another has one, apps go there.
    fn set_gate_at(&mut self, node: &mut Node, at: usize, gate: Gate) {
        let mut others = self.places.iter().enumerate();
        if !others.any(|(place, other)| place != at && other.is_ready()) {
            self.set_gate(node, gate);
        }
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
        for place in &mut self.places {
            place.pool.wake();
        }
        for (_, bundle) in self.bundles_mut() {
            bundle.circuits.wake();
        }
    }

    /// Begins the lanes that are due.
    pub fn begin(&mut self, node: &mut Node, now: Now, relay: &mut RelayLink) {
        for at in 0..self.places.len() {
            if let Some(Building::Waiting(link, _, until)) = &self.places[at].building
                && *until <= now.mono
            {
                let what = LaneCommand::Cut(CloseReason::ShakeTimeout);
                node.out.command(Command::Lane { link: *link, what });
                self.fail(node, now, at, CloseReason::ShakeTimeout, Failure::Lost);
            }
        }
        let places = self.places.iter_mut();
        for (link, bundle) in places.flat_map(|place| &mut place.bundles) {
            bundle.lane.on_exchange_timer(node, now, *link);
            bundle.circuits.on_timer(node, now, &self.terms);
        }
        let project = node
            .membership
            .as_ref()
            .map(|membership| membership.project());
        let Some(project) = project.filter(|_| relay.usable() && !self.closed) else {
            return;
        };
        for place in &mut self.places {
            if !place.pool.begin(now.mono) {
                continue;
            }
            match relay.grant_leg() {
                Some(grant) => {
                    let ask = LegAsk {
                        worker: place.worker,
                        role: Role::Inlet,
                        suites: node.suites(self.terms.suites),
                        address: address_hash(&project, &self.terms.config.via),
                        bulk: false,
                    };
                    let (link, leg) = Leg::dial(&mut node.out, now.mono, grant, ask);
                    place.building = Some(Building::Leg(link, leg));
                }
                None => place
                    .pool
                    .on_failed(now.mono, Failure::Lost, node.out.random()),
            }
        }
    }

    /// Whether circuits should be dialed now.
    pub fn misses_circuits(&mut self, now: Now) -> bool {
        let places = self.places.iter_mut();
        let mut wanted = places.flat_map(Place::wanted_circuits);
        wanted.any(|circuits| circuits.due(now.mono) > 0)
    }

    /// Circuits that are being made.
    pub fn circuits_building(&self) -> usize {
        let bundles = self.bundles();
        bundles.map(|(_, b)| b.circuits.pool().building()).sum()
    }

    /// Circuits that its relay counts as unfinished.
    pub fn circuits_unproven(&self, now: Now) -> usize {
        let bundles = self.bundles();
        bundles.map(|(_, b)| b.circuits.unproven(now.mono)).sum()
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
        for circuits in self.places.iter_mut().flat_map(Place::wanted_circuits) {
            let allowed = (hash, at_most - dialed);
            dialed += circuits.dial(node, now, relay, &self.terms, allowed);
        }
        dialed
    }

    /// When [`begin`](Self::begin) has something to do, or circuits should be dialed.
    pub fn next_timer(&self, usable: bool) -> Instant {
        let places = self.places.iter();
        let timers = places.map(|place| place.next_timer(usable && !self.closed));
        timers.min().unwrap_or(Instant::FAR_FUTURE)
    }

    /// An event of a link that is [owned](Self::owns).
    pub fn on_event(&mut self, node: &mut Node, now: Now, link: LinkId, event: LinkEvent) {
        let Some(at) = self.place_of(link) else {
            return;
        };
        let bundles = self.places[at].bundles.values_mut();
        let mut circuits = bundles.map(|bundle| &mut bundle.circuits);
        if let Some(circuits) = circuits.find(|circuits| circuits.owns(link)) {
            return circuits.on_event(node, now, &self.terms, link, event);
        }
        match event {
            LinkEvent::Connected(_) => {
                let why = CloseReason::NoOutlet;
                node.out.deadline(link, now.mono, PAIRING_TIMEOUT, why);
            }
            LinkEvent::Frame(bytes) => self.on_frame(node, now, at, &bytes),
            LinkEvent::Closed(why) => self.on_closed(node, now, (at, link), why),
            LinkEvent::Lane(what) => self.on_lane(node, now, (at, link), what),
            LinkEvent::Circuit(_) => {}
        }
        self.tell_hosts(node);
    }

    /// Sends this node's renewed credential on all lanes.
    pub fn on_renewed(&mut self, node: &mut Node, evidence: &[u8]) {
        for (link, _) in self.bundles() {
            let what = LaneCommand::Credential(evidence.to_vec());
            node.out.command(Command::Lane { link: *link, what });
        }
    }

    /// The relay is about to end and waits for its circuits: lanes end with their last stream, and
    /// another is made as soon as a relay is there.
    pub fn on_relay_leaves(&mut self, node: &mut Node, now: Now) {
        for at in 0..self.places.len() {
            let links: Vec<LinkId> = self.places[at].bundles.keys().copied().collect();
            for link in links {
                let what = LaneCommand::Retire;
                node.out.command(Command::Lane { link, what });
                self.on_lane(node, now, (at, link), LaneEvent::Retiring);
            }
        }
        self.tell_hosts(node);
        node.out.status_changed();
    }

    /// Gives up what is being built.
    pub fn stop(&mut self, node: &mut Node) {
        let why = CloseReason::Stopping;
        for place in &mut self.places {
            match place.building.take() {
                Some(Building::Waiting(link, ..)) => {
                    // The worker has it already, and may have given it apps.
                    let what = LaneCommand::Cut(why);
                    node.out.command(Command::Lane { link, what });
                }
                Some(building) => node.out.close(building.link(), false, why),
                None => {}
            }
        }
        for (_, bundle) in self.bundles_mut() {
            bundle.circuits.give_up_building(node, why);
        }
    }

    /// What `status` shows.
    pub fn status(&self) -> PortalStatus {
        let lanes = self.bundles().map(|(_, bundle)| &bundle.lane);
        let live = || lanes.clone().filter(|lane| !lane.retiring);
        let ready = live().next().is_some();
        let mut circuits = CircuitsStatus::default();
        for (_, bundle) in self.bundles() {
            circuits += bundle.circuits.status();
        }
        // Several lanes lead to the same peer.
        let mut peers: Vec<_> = live().map(|lane| (lane.peer, lane.name.clone())).collect();
        peers.dedup();
        PortalStatus {
            portal: self.portal(),
            role: Role::Inlet,
            address: self.terms.config.via.clone(),
            ready: ready && !self.closed,
            closing: self.closed,
            lanes: self.bundles().count(),
            parked: 0,
            circuits,
            targets: Vec::new(),
            peers,
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
