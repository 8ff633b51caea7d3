//! An outlet portal: parked legs, the handshakes of those that were paired, lanes and circuits.
//!
//! A leg is dialed → parked → paired by the relay → message 1 → message 3 → checked → adopted, or
//! denied with one sealed record. Parked legs are watched by the worker; the pool makes more. What a
//! paired leg becomes, a lane or a circuit of one that is here, is the inlet's to say.
//!
//! Legs are parked from each worker. A lane goes to the worker that has the fewest, a circuit to that
//! of its lane: the link is handed there when the handshake is done, and has another name then. What
//! is said to that name in between may find nothing: it is said again when the lane is heard of.

mod circuits;
mod lanes;
mod policy;
mod shake;

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto::check::Direction;
use crypto::suite::SuiteMask;

use self::circuits::Circuit;
use super::legs::{Leg, LegAsk};
use super::peer::{Judge, Lane};
use super::relay_link::RelayLink;
use super::targets::Targets;
use crate::error::{CloseReason, Code, Problem};
use crate::ids::{AddressHash, BundleId, LinkId, PortalNo, SessionId, WorkerId};
use crate::limits::{PAIRED_IDLE, RELAY_SESSION_LINGER};
use crate::protocol::command::{Command, LaneCommand, Role, address_hash};
use crate::protocol::core::config::OutletConfig;
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::link_event::LinkEvent;
use crate::protocol::core::node::Node;
use crate::protocol::core::status::PortalStatus;
use crate::protocol::policy::Policy;
use crate::protocol::pool::{Failure, ParkPool};
use crate::protocol::shake::OutletShake;
use crate::time::Instant;

/// A leg of this portal, and what has become of it.
enum Stage {
    Dialing(Leg),
    Parked(Leg),
    /// Message 1 is due.
    Paired,
    /// Message 3 is due.
    Shaking(Box<OutletShake>),
    Lane(Lane),
    /// A lane that was cut before its worker said that it is there. It is kept until it has ended.
    Cut(CutLane),
    Circuit(Circuit),
}

/// See [`Stage::Cut`].
struct CutLane {
    peer: crypto::Id,
    bundle: BundleId,
    why: CloseReason,
}

/// The worker of the smallest number.
fn fewest(numbers: &[usize]) -> WorkerId {
    let workers = (0..).map(WorkerId).zip(numbers);
    let least = workers.min_by_key(|(worker, number)| (**number, *worker));
    least.map_or(WorkerId::FIRST, |(worker, _)| worker)
}

/// See the module.
pub struct Outlet {
    portal: PortalNo,
    address: crypto::names::RelayAddress,
    policy: Policy,
    /// How often the policy was set.
    policy_version: u64,
    suites: SuiteMask,
    workers: u8,
    names: Arc<[String]>,
    /// Its targets.
    pub targets: Targets,
    pool: ParkPool,
    stages: BTreeMap<LinkId, Stage>,
    /// The session under which legs are parked now; those of others count no more …
    session: Option<SessionId>,
    /// … and are let go at this time: the relay forgets the key of a session that has ended.
    let_go: Instant,
    /// Whether the relay lets this node serve the address.
    permitted: Option<bool>,
    open_logged: bool,
    trouble: Option<(Code, String)>,
    /// It lets nobody in any more: lanes that are there end with their streams.
    closed: bool,
    /// Handshakes that ended behind message 2 since it was last logged, and when it may be again.
    broken_off: (u64, Instant),
}

impl Outlet {
    /// A portal without legs.
    pub fn new(config: OutletConfig, suites: SuiteMask, workers: u8) -> Outlet {
        let OutletConfig {
            portal,
            at,
            targets,
            allow,
        } = config;
        let targets = Targets::new(portal, targets);
        Outlet {
            portal,
            address: at,
            policy: allow,
            policy_version: 1,
            suites,
            workers: workers.max(1),
            names: Arc::from(targets.names()),
            targets,
            pool: ParkPool::default(),
            stages: BTreeMap::new(),
            session: None,
            let_go: Instant::FAR_FUTURE,
            permitted: None,
            open_logged: false,
            broken_off: (0, Instant::ZERO),
            trouble: None,
            closed: false,
        }
    }

    /// Whether it is to have legs at the relay.
    pub fn is_wanted(&self) -> bool {
        !self.closed
    }

    /// Whether it was closed, and nothing of it is left.
    pub fn has_ended(&self) -> bool {
        self.closed && self.stages.is_empty()
    }

    /// Lets nobody in any more; streams go on.
    pub fn close(&mut self, node: &mut Node) {
        self.closed = true;
        self.targets.forget();
        self.unpark(node, CloseReason::PortalClosed);
        self.retire(node);
    }

    /// Its relay address.
    pub fn address(&self) -> &crypto::names::RelayAddress {
        &self.address
    }

    /// Whether this link is one of the portal's.
    pub fn owns(&self, link: LinkId) -> bool {
        self.stages.contains_key(&link)
    }

    /// Whether the next frame of this link costs public-key work for a peer that nobody knows.
    pub fn awaits_stranger(&self, link: LinkId) -> bool {
        matches!(self.stages.get(&link), Some(Stage::Paired))
    }

    /// There is news that may make an attempt succeed: don't wait.
    pub fn wake(&mut self) {
        self.pool.wake();
    }

    /// There is a usable session: park anew, under it. Legs of the one before stay until those
    /// of this one are there.
    pub fn on_session(&mut self, node: &mut Node, now: Now, relay: &RelayLink) {
        self.pool.start_over();
        self.let_go = now.mono + RELAY_SESSION_LINGER;
        self.on_served(node, relay);
    }

    /// The relay said whether this node may serve the address.
    pub fn on_served(&mut self, node: &mut Node, relay: &RelayLink) {
        let permitted = relay.may_serve(&self.address);
        if permitted != self.permitted {
            self.permitted = permitted;
            self.trouble = (permitted == Some(false)).then(|| {
                let problem = Problem::MayNotServe;
                (
                    problem.code(),
                    format!("{problem}; to mend it: {}", problem.mend()),
                )
            });
            self.pool.wake();
            node.out.status_changed();
        }
    }

    /// The relay is short of legs.
    pub fn on_park_low(&mut self, now: Now, hash: AddressHash, want: u16, node: &Node) {
        let project = node
            .membership
            .as_ref()
            .map(|membership| membership.project());
        if project.is_some_and(|project| address_hash(&project, &self.address) == hash) {
            self.pool.raise(now.mono, usize::from(want));
        }
    }

    fn let_go(&mut self, node: &mut Node) {
        self.let_go = Instant::FAR_FUTURE;
        let current = self.session;
        let old = |stage: &Stage| match stage {
            Stage::Dialing(leg) | Stage::Parked(leg) => Some(leg.session) != current,
            Stage::Paired
            | Stage::Shaking(_)
            | Stage::Lane(_)
            | Stage::Cut(_)
            | Stage::Circuit(_) => false,
        };
        for (link, _) in self.stages.extract_if(.., |_, stage| old(stage)) {
            node.out.close(link, false, CloseReason::Replaced);
        }
    }

    /// Dials the legs that are missing.
    pub fn begin(&mut self, node: &mut Node, now: Now, relay: &mut RelayLink) {
        if self.let_go <= now.mono {
            self.let_go(node);
        }
        let project = node
            .membership
            .as_ref()
            .map(|membership| membership.project());
        let Some(project) = project.filter(|_| self.may_park(relay)) else {
            return;
        };
        let hash = address_hash(&project, &self.address);
        for _ in 0..self.pool.begin(now.mono) {
            let Some(grant) = relay.grant_leg() else {
                self.pool
                    .on_failed(now.mono, Failure::Lost, node.out.random());
                return;
            };
            self.session = Some(grant.session);
            let ask = LegAsk {
                worker: self.emptiest(),
                role: Role::Outlet,
                suites: node.suites(self.suites),
                address: hash,
                bulk: false,
            };
            let (link, leg) = Leg::dial(&mut node.out, now.mono, grant, ask);
            self.stages.insert(link, Stage::Dialing(leg));
        }
    }

    /// The worker with the fewest legs that have not become anything.
    fn emptiest(&self) -> WorkerId {
        let mut legs = vec![0_usize; usize::from(self.workers)];
        for (link, stage) in &self.stages {
            if let (Stage::Dialing(_) | Stage::Parked(_), Some(legs)) =
                (stage, legs.get_mut(link.worker().index()))
            {
                *legs += 1;
            }
        }
        fewest(&legs)
    }

    fn may_park(&self, relay: &RelayLink) -> bool {
        relay.usable() && self.permitted == Some(true) && !self.closed
    }

    /// When [`begin`](Self::begin) has something to do.
    pub fn next_timer(&self, relay: &RelayLink) -> Instant {
        let park = if self.may_park(relay) {
            self.pool.next_timer()
        } else {
            Instant::FAR_FUTURE
        };
        park.min(self.targets.next_timer()).min(self.let_go)
    }

    /// An event of a link that is [owned](Self::owns).
    pub fn on_event(&mut self, node: &mut Node, now: Now, link: LinkId, event: LinkEvent) {
        match event {
            LinkEvent::Connected(_) => self.on_parked(node, link),
            LinkEvent::Frame(bytes) => self.on_frame(node, now, link, &bytes),
            LinkEvent::Closed(why) => self.on_closed(node, now, link, why),
            LinkEvent::Lane(what) => self.on_lane(node, now, link, what),
            LinkEvent::Circuit(what) => self.on_circuit(node, link, what),
        }
    }

    fn counts(&self, leg: &Leg) -> bool {
        Some(leg.session) == self.session
    }

    fn on_parked(&mut self, node: &mut Node, link: LinkId) {
        match self.stages.remove(&link) {
            Some(Stage::Dialing(leg)) => {
                // No deadline: a parked leg waits for as long as it is watched.
                node.out.no_deadline(link);
                if self.counts(&leg) {
                    self.pool.on_parked();
                }
                self.stages.insert(link, Stage::Parked(leg));
                if !self.open_logged {
                    self.open_logged = true;
                    let record = LogRecord::new(Level::Info, "portal open");
                    node.out.log(record.with("address", &self.address));
                }
                self.trouble = None;
                node.out.status_changed();
            }
            Some(other) => drop(self.stages.insert(link, other)),
            None => {}
        }
    }

    fn on_frame(&mut self, node: &mut Node, now: Now, link: LinkId, bytes: &[u8]) {
        match self.stages.remove(&link) {
            Some(Stage::Dialing(leg)) => self.on_answer(node, now, link, &leg, false, bytes),
            Some(Stage::Parked(leg)) => self.on_answer(node, now, link, &leg, true, bytes),
            Some(Stage::Paired) => self.on_frame_1(node, now, link, bytes),
            Some(Stage::Shaking(shake)) => match shake.on_frame_3(bytes) {
                Ok(proposal) => {
                    node.tally.on_handshake(true);
                    self.decide(node, now, link, proposal);
                }
                Err(error) => self.on_shake_failed(node, link, &error),
            },
            Some(stage @ (Stage::Lane(_) | Stage::Cut(_) | Stage::Circuit(_))) => {
                self.stages.insert(link, stage);
            }
            None => {}
        }
    }

    fn on_answer(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        leg: &Leg,
        parked: bool,
        bytes: &[u8],
    ) {
        let answer = leg.on_answer(bytes);
        if self.counts(leg) {
            let random = node.out.random();
            match (&answer, parked) {
                (Ok(_), true) => self.pool.on_paired(),
                (Ok(_), false) => {
                    self.pool.on_parked();
                    self.pool.on_paired();
                }
                (Err((_, failure)), true) => self.pool.on_lost(now.mono, *failure, random),
                (Err((_, failure)), false) => self.pool.on_failed(now.mono, *failure, random),
            }
        }
        match answer {
            Ok(_) => {
                node.out.expect_frame(link);
                node.out
                    .deadline(link, now.mono, PAIRED_IDLE, CloseReason::ShakeTimeout);
                self.stages.insert(link, Stage::Paired);
            }
            Err((why, failure)) => {
                node.out.close(link, false, why);
                if failure == Failure::Refused {
                    self.trouble = Some((why.code(), why.to_string()));
                }
                node.out.status_changed();
            }
        }
    }

    /// Its number.
    pub fn portal(&self) -> PortalNo {
        self.portal
    }

    /// How it judges inlets.
    pub fn judge(&self) -> Judge<'_> {
        let (address, policy) = (&self.address, &self.policy);
        Judge {
            address,
            direction: Direction::Connect,
            policy,
        }
    }

    fn on_closed(&mut self, node: &mut Node, now: Now, link: LinkId, why: CloseReason) {
        match self.stages.remove(&link) {
            Some(Stage::Dialing(leg)) if self.counts(&leg) => {
                self.pool
                    .on_failed(now.mono, Failure::Lost, node.out.random());
                self.on_leg_lost(node, why);
            }
            Some(Stage::Parked(leg)) if self.counts(&leg) => {
                self.pool
                    .on_lost(now.mono, Failure::Lost, node.out.random());
                self.on_leg_lost(node, why);
            }
            Some(Stage::Lane(lane)) => self.on_lane_gone(node, link, &lane, why),
            Some(Stage::Shaking(_)) => self.on_broken_off(node, now, why),
            Some(
                Stage::Dialing(_)
                | Stage::Parked(_)
                | Stage::Paired
                | Stage::Cut(_)
                | Stage::Circuit(_),
            )
            | None => {}
        }
    }

    /// One record when the last parked leg is gone, not one a leg.
    fn on_leg_lost(&mut self, node: &mut Node, why: CloseReason) {
        if self.pool.parked() == 0 && self.open_logged {
            self.open_logged = false;
            let record = LogRecord::new(Level::Warn, "no leg is parked at the relay")
                .code(why.code())
                .with("why", why)
                .with("address", &self.address);
            node.out.log(record);
            self.trouble = Some((why.code(), why.to_string()));
        }
        node.out.status_changed();
    }

    /// Sends this node's renewed credential on all lanes.
    pub fn on_renewed(&mut self, node: &mut Node, evidence: &[u8]) {
        self.pool.wake();
        for (link, stage) in &mut self.stages {
            if let Stage::Lane(lane) = stage {
                lane.unheard.renewed = !lane.ready;
                let what = LaneCommand::Credential(evidence.to_vec());
                node.out.command(Command::Lane { link: *link, what });
            }
        }
    }

    /// The relay is about to end and waits for its circuits: lanes end with their last stream.
    pub fn on_relay_leaves(&mut self, node: &mut Node) {
        self.retire(node);
    }

    /// All lanes end with their last stream.
    fn retire(&mut self, node: &mut Node) {
        for (link, stage) in &mut self.stages {
            if let Stage::Lane(lane) = stage {
                lane.unheard.retire = !lane.ready;
                let what = LaneCommand::Retire;
                node.out.command(Command::Lane { link: *link, what });
            }
        }
    }

    /// Takes its legs off the relay; lanes and circuits go on.
    pub fn stop(&mut self, node: &mut Node) {
        self.unpark(node, CloseReason::Stopping);
    }

    /// May let nobody in for now, and says so to the relay by having no legs there.
    pub fn hold(&mut self, node: &mut Node, why: CloseReason) {
        self.unpark(node, why);
        self.trouble = Some((why.code(), why.to_string()));
    }

    fn unpark(&mut self, node: &mut Node, why: CloseReason) {
        let adopted =
            |stage: &mut Stage| matches!(stage, Stage::Lane(_) | Stage::Cut(_) | Stage::Circuit(_));
        for (link, _) in self.stages.extract_if(.., |_, stage| !adopted(stage)) {
            node.out.close(link, false, why);
        }
        self.pool.start_over();
    }

    /// Its lanes.
    pub fn all_lanes(&self) -> impl Iterator<Item = &Lane> {
        self.lanes().map(|(_, lane)| lane)
    }

    /// What `status` shows.
    pub fn status(&self) -> PortalStatus {
        let ready = self.permitted == Some(true) && self.pool.parked() > 0;
        PortalStatus {
            portal: self.portal,
            role: Role::Outlet,
            address: self.address.clone(),
            ready: ready && !self.closed,
            closing: self.closed,
            lanes: self.lanes().count(),
            parked: self.pool.parked(),
            circuits: self.circuits_status(),
            targets: self.targets.configured(),
            peers: self
                .lanes()
                .map(|(_, lane)| (lane.peer, lane.name.clone()))
                .collect(),
            pinned: self.policy.pinned(),
            rules: self.policy.lines(),
            why: self
                .trouble
                .as_ref()
                .filter(|_| !ready)
                .map(|(_, why)| why.clone()),
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and looks at the cases it is about"
)]
mod tests;
