//! An inlet portal: one lane that takes streams, its replacement in time, and what apps are told
//! while there is none.
//!
//! A lane is built in steps, one at a time: leg dialed → paired by the relay → handshake → adopted
//! by the worker → READY. Whatever fails on the way, the pool says when the next attempt begins.

mod shake;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crypto::check::Direction;
use crypto::suite::SuiteMask;

use super::legs::Leg;
use super::peer::{Judge, Lane};
use super::relay_link::RelayLink;
use crate::error::{CloseReason, Code};
use crate::ids::{BundleId, LinkId, PortalNo};
use crate::limits::{NO_OUTLET_PATIENCE, PAIRING_TIMEOUT};
use crate::protocol::command::{Command, Gate, LaneCommand, LaneEvent, Role, address_hash};
use crate::protocol::core::config::InletConfig;
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::link_event::LinkEvent;
use crate::protocol::core::node::Node;
use crate::protocol::core::status::PortalStatus;
use crate::protocol::pool::{Failure, LanePool};
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

/// See the module.
pub struct Inlet {
    config: InletConfig,
    suites: SuiteMask,
    targets: Arc<[String]>,
    pool: LanePool,
    building: Option<Building>,
    lanes: BTreeMap<LinkId, Lane>,
    gate: Gate,
    trouble: Option<(Code, String)>,
    /// The relay has answered NO_OUTLET since then.
    unserved_since: Option<Instant>,
    /// Why apps are reset, as it was logged.
    resets_logged: Option<CloseReason>,
}

impl Inlet {
    /// A portal without a lane; apps wait.
    pub fn new(config: InletConfig, suites: SuiteMask) -> Inlet {
        let target = config
            .target
            .as_ref()
            .map_or(config.via.as_str(), |name| name.as_str());
        let targets = Arc::from([target.to_owned()]);
        Inlet {
            config,
            suites,
            targets,
            pool: LanePool::default(),
            building: None,
            lanes: BTreeMap::new(),
            gate: Gate::Wait,
            trouble: None,
            unserved_since: None,
            resets_logged: None,
        }
    }

    /// Whether this link is one of the portal's.
    pub fn owns(&self, link: LinkId) -> bool {
        self.lanes.contains_key(&link)
            || self
                .building
                .as_ref()
                .is_some_and(|building| building.link() == link)
    }

    /// What apps are told while there is no lane.
    pub fn set_gate(&mut self, node: &mut Node, gate: Gate) {
        if self.gate != gate {
            self.gate = gate;
            let portal = self.config.portal;
            node.out.command(Command::Gate { portal, gate });
        }
    }

    /// Its number.
    pub fn portal(&self) -> PortalNo {
        self.config.portal
    }

    /// An app was reset before it had a stream. The first one for a reason is worth a line; a
    /// port scan is not worth thousands.
    pub fn on_app_refused(&mut self, node: &mut Node, app: SocketAddr, why: CloseReason) {
        let news = self.resets_logged.replace(why) != Some(why);
        let level = if news { Level::Warn } else { Level::Debug };
        let record = LogRecord::new(level, "an application was reset")
            .code(why.code())
            .with("why", why)
            .with("address", &self.config.via)
            .with("from", app);
        node.out.log(record);
    }

    /// There is news that may make an attempt succeed: don't wait.
    pub fn wake(&mut self) {
        self.pool.wake();
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
                let hash = address_hash(&project, &self.config.via);
                let role = Role::Inlet;
                let suites = node.suites(self.suites);
                let (link, leg) = Leg::dial(&mut node.out, now.mono, grant, role, suites, hash);
                self.building = Some(Building::Leg(link, leg));
            }
            None => self
                .pool
                .on_failed(now.mono, Failure::Lost, node.out.random()),
        }
    }

    /// When [`begin`](Self::begin) has something to do.
    pub fn next_timer(&self, usable: bool) -> Instant {
        match &self.building {
            Some(Building::Waiting(_, _, until)) => *until,
            Some(Building::Leg(..) | Building::Shaking(..)) => Instant::FAR_FUTURE,
            None if usable => self.pool.next_timer(),
            None => Instant::FAR_FUTURE,
        }
    }

    /// An event of a link that is [owned](Self::owns).
    pub fn on_event(&mut self, node: &mut Node, now: Now, link: LinkId, event: LinkEvent) {
        match event {
            LinkEvent::Connected(_) => {
                let why = CloseReason::NoOutlet;
                node.out.deadline(link, now.mono, PAIRING_TIMEOUT, why);
            }
            LinkEvent::Frame(bytes) => self.on_frame(node, now, &bytes),
            LinkEvent::Closed(why) => self.on_closed(node, now, link, why),
            LinkEvent::Lane(what) => self.on_lane(node, now, link, what),
        }
    }

    fn on_frame(&mut self, node: &mut Node, now: Now, bytes: &[u8]) {
        match self.building.take() {
            Some(Building::Leg(link, leg)) => match leg.on_answer(bytes) {
                Ok(hinted) => self.shake(node, now, link, hinted),
                Err((why, failure)) => {
                    node.out.close(link, false, why);
                    if failure == Failure::Refused || self.is_unserved(now, why) {
                        self.set_gate(node, Gate::Reset(why));
                    }
                    self.fail(node, now, why, failure);
                }
            },
            Some(Building::Shaking(link, shake, bundle)) => {
                self.on_frame_2(node, now, link, *shake, bundle, bytes);
            }
            other @ (Some(Building::Waiting(..)) | None) => self.building = other,
        }
    }

    fn judge(&self) -> Judge<'_> {
        let (address, policy) = (&self.config.via, &self.config.allow);
        Judge {
            address,
            direction: Direction::Serve,
            policy,
        }
    }

    fn on_closed(&mut self, node: &mut Node, now: Now, link: LinkId, why: CloseReason) {
        if self
            .building
            .as_ref()
            .is_some_and(|building| building.link() == link)
        {
            self.fail(node, now, why, Failure::Lost);
        } else {
            self.on_lane_gone(node, now, link, why, Failure::Lost);
        }
    }

    fn on_lane(&mut self, node: &mut Node, now: Now, link: LinkId, what: LaneEvent) {
        match what {
            LaneEvent::Ready => self.on_ready(node, now, link),
            LaneEvent::Denied(why) => self.on_denied(node, now, link, why),
            LaneEvent::Credential(bytes) => self.on_credential(node, now, link, &bytes),
            LaneEvent::Retiring => {
                if let Some(lane) = self.lanes.get_mut(&link) {
                    lane.retiring = true;
                    self.pool.replace(now.mono);
                }
            }
            LaneEvent::Closed(why) => self.on_closed(node, now, link, why),
        }
    }

    fn on_ready(&mut self, node: &mut Node, now: Now, link: LinkId) {
        match self.building.take() {
            Some(Building::Waiting(own, mut lane, _)) if own == link => {
                for (old, before) in &mut self.lanes {
                    if !before.retiring {
                        before.retiring = true;
                        let what = LaneCommand::Retire;
                        node.out.command(Command::Lane { link: *old, what });
                    }
                }
                lane.ready = true;
                if self.lanes.is_empty() {
                    let record = LogRecord::new(Level::Info, "portal open")
                        .with("address", &self.config.via)
                        .with("peer", lane.peer)
                        .with("peer_name", &lane.name)
                        .with("bundle", format_args!("{:?}", lane.bundle));
                    node.out.log(record);
                }
                self.lanes.insert(link, lane);
                self.trouble = None;
                self.unserved_since = None;
                self.resets_logged = None;
                self.pool.on_ready(now.mono, node.out.random());
                self.set_gate(node, Gate::Wait);
                node.out.status_changed();
            }
            other => self.building = other,
        }
    }

    /// Whether nobody has served the address for so long that waiting for a lane is pointless. An
    /// outlet that restarts is back within that time, and its apps should wait for it.
    fn is_unserved(&mut self, now: Now, why: CloseReason) -> bool {
        if why != CloseReason::NoOutlet {
            self.unserved_since = None;
            return false;
        }
        let since = *self.unserved_since.get_or_insert(now.mono);
        now.mono.since(since) >= NO_OUTLET_PATIENCE
    }

    fn on_denied(&mut self, node: &mut Node, now: Now, link: LinkId, why: CloseReason) {
        if self
            .building
            .as_ref()
            .is_none_or(|building| building.link() != link)
        {
            return;
        }
        node.out.command(Command::Lane {
            link,
            what: LaneCommand::Cut(why),
        });
        if self.is_news(why.code()) {
            let record = LogRecord::new(Level::Warn, "the outlet denied this node")
                .code(why.code())
                .with("why", why)
                .with("address", &self.config.via);
            node.deny(record);
        }
        self.trouble = Some((why.code(), format!("the outlet denied this node: {why}")));
        self.building = None;
        self.set_gate(node, Gate::Reset(why));
        self.pool
            .on_failed(now.mono, Failure::Refused, node.out.random());
        node.out.status_changed();
    }

    fn on_credential(&mut self, node: &mut Node, now: Now, link: LinkId, bytes: &[u8]) {
        let Some(mut lane) = self.lanes.remove(&link) else {
            return;
        };
        if lane.on_credential(node, now, link, &self.judge(), bytes) {
            self.lanes.insert(link, lane);
        } else {
            let why = CloseReason::NotAuthorized;
            self.trouble = Some((why.code(), "the outlet is no longer allowed".into()));
            self.set_gate(node, Gate::Reset(why));
            self.pool
                .on_lost(now.mono, Failure::Refused, node.out.random());
            node.out.status_changed();
        }
    }

    fn on_lane_gone(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        why: CloseReason,
        failure: Failure,
    ) {
        let Some(lane) = self.lanes.remove(&link) else {
            return;
        };
        // An old lane that ended with its last stream is no news.
        if lane.retiring || why == CloseReason::Retired {
            return node.out.status_changed();
        }
        let record = LogRecord::new(Level::Warn, "the lane was lost")
            .code(why.code())
            .with("why", why)
            .with("address", &self.config.via)
            .with("peer", lane.peer);
        node.out.log(record);
        self.trouble = Some((why.code(), why.to_string()));
        self.pool.on_lost(now.mono, failure, node.out.random());
        node.out.status_changed();
    }

    fn fail(&mut self, node: &mut Node, now: Now, why: CloseReason, failure: Failure) {
        self.building = None;
        if self.is_news(why.code()) && (self.trouble.is_none() || failure == Failure::Refused) {
            let record = LogRecord::new(Level::Warn, "no lane to the outlet")
                .code(why.code())
                .with("why", why)
                .with("address", &self.config.via);
            match failure {
                Failure::Refused => node.deny(record),
                Failure::Lost => node.out.log(record),
            }
        }
        self.trouble = Some((why.code(), why.to_string()));
        self.pool.on_failed(now.mono, failure, node.out.random());
        node.out.status_changed();
    }

    fn is_news(&self, code: Code) -> bool {
        self.trouble
            .as_ref()
            .is_none_or(|(before, _)| *before != code)
    }

    /// Sends this node's renewed credential on all lanes.
    pub fn on_renewed(&mut self, node: &mut Node, evidence: &[u8]) {
        for link in self.lanes.keys() {
            let what = LaneCommand::Credential(evidence.to_vec());
            node.out.command(Command::Lane { link: *link, what });
        }
    }

    /// The relay is about to end and waits for its circuits: lanes end with their last stream, and
    /// another is made as soon as a relay is there.
    pub fn on_relay_leaves(&mut self, node: &mut Node, now: Now) {
        let links: Vec<LinkId> = self.lanes.keys().copied().collect();
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
    }

    /// What `status` shows.
    pub fn status(&self) -> PortalStatus {
        let live = || self.lanes.values().filter(|lane| !lane.retiring);
        let ready = live().next().is_some();
        PortalStatus {
            portal: self.config.portal,
            role: Role::Inlet,
            address: self.config.via.clone(),
            ready,
            lanes: self.lanes.len(),
            parked: 0,
            peers: live().map(|lane| (lane.peer, lane.name.clone())).collect(),
            pinned: self.config.allow.pinned(),
            why: self
                .trouble
                .as_ref()
                .filter(|_| !ready)
                .map(|(_, why)| why.clone()),
        }
    }
}
