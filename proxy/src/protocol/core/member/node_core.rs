//! The core of a node: routes inputs to its parts, and what changed in one to the others.
//!
//! ```text
//! enrollment ── joined, renewed, note ──▸ relay link ── usable, served, park low ──▸ portals
//!                        └──────────── renewed credential ───────────────────────────▸
//! ```

mod policies;
mod portals;
mod why;

use std::collections::VecDeque;
use std::sync::Arc;

use crypto::Random;
use crypto::suite::SuiteMask;

use super::inlet::Inlet;
use super::outlet::Outlet;
use super::relay_link::{RelayLink, RelayNews};
use super::stream_log::StreamLog;
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::limits::{
    CIRCUITS_BUILDING_PROCESS_MAX, CIRCUITS_UNPROVEN_MAX, SHAKE_TIMEOUT, SHAKES_PER_LOOK,
    SHAKES_WAITING_MAX,
};
use crate::protocol::command::{Event, Gate};
use crate::protocol::core::admin::{AdminCall, AdminReply};
use crate::protocol::core::config::MemberConfig;
use crate::protocol::core::enrollment::{Enrollment, EnrollmentNews};
use crate::protocol::core::io::{AdminNo, Core, Input, Level, LogRecord, Now, Output, ResolveNo};
use crate::protocol::core::link_event::{self, LinkEvent};
use crate::protocol::core::node::Node;
use crate::protocol::core::revocations::{Freshness, Revocations};
use crate::protocol::core::status::Status;
use crate::time::Instant;

/// See the module. [`Core`] says how it is run.
pub struct MemberCore {
    node: Node,
    enrollment: Enrollment,
    relay: RelayLink,
    inlets: Vec<Inlet>,
    outlets: Vec<Outlet>,
    /// First frames of handshakes that wait for their turn, and until when.
    waiting: VecDeque<(LinkId, Vec<u8>, Instant)>,
    streams: StreamLog,
    /// For portals that come later.
    suites: SuiteMask,
    workers: u8,
    /// When policies that read the clock are asked again about live peers.
    review_due: Instant,
    /// Of the revocation list, at the last look.
    freshness: Freshness,
    stopping: bool,
}

impl MemberCore {
    /// Begins at `now`; the first outputs are there at once.
    pub fn new(config: MemberConfig, random: Box<dyn Random + Send>, now: Now) -> MemberCore {
        let MemberConfig {
            identity,
            membership,
            revocations,
            revocation_max_age,
            key_exchange_every,
            ticket,
            wish,
            suites,
            inlets,
            outlets,
            workers,
        } = config;
        let mut node = Node::new(identity, membership, random);
        node.key_exchange_every = key_exchange_every;
        node.revocations = Revocations::new(revocation_max_age, now.mono);
        if let Some(held) = revocations {
            node.revocations.restore(held, &node.clock, now);
        }
        let id = node.keyring.id();
        node.out
            .log(LogRecord::new(Level::Info, "identity").with("id", id));
        let enrollment = Enrollment::new(&mut node, now, ticket, wish);
        let outlets: Vec<Outlet> = outlets
            .into_iter()
            .map(|config| Outlet::new(config, suites, workers))
            .collect();
        let addresses = portals::served_by(&outlets);
        let mut core = MemberCore {
            relay: RelayLink::new(now.mono, addresses),
            node,
            enrollment,
            inlets: inlets
                .into_iter()
                .map(|config| Inlet::new(config, suites, workers))
                .collect(),
            outlets,
            waiting: VecDeque::new(),
            streams: StreamLog::default(),
            suites,
            workers,
            review_due: Instant::FAR_FUTURE,
            freshness: Freshness::Waiting,
            stopping: false,
        };
        core.set_gates();
        core.plan_review(now);
        core.look(now);
        core
    }

    /// Whether the relay session is wanted.
    fn wants_relay(&self) -> bool {
        let portals =
            self.inlets.iter().any(Inlet::is_wanted) || self.outlets.iter().any(Outlet::is_wanted);
        let member = self.node.membership.is_some() && !self.enrollment.is_revoked();
        portals && member && !self.stopping
    }

    /// Apps are reset at once while there is nothing to hope for.
    fn set_gates(&mut self) {
        let gate = self.gate();
        for inlet in &mut self.inlets {
            inlet.set_gate(&mut self.node, gate);
        }
    }

    /// What this node as a whole has for apps.
    fn gate(&self) -> Gate {
        let hopeless = self.node.membership.is_none() && !self.enrollment.hopeful();
        if hopeless {
            Gate::Reset(CloseReason::NotAuthorized)
        } else if self.enrollment.is_revoked() {
            Gate::Reset(CloseReason::Revoked)
        } else if self.freshness == Freshness::Stale {
            Gate::Reset(CloseReason::RevocationStale)
        } else {
            Gate::Wait
        }
    }

    fn on_event(&mut self, now: Now, event: Event) {
        let (link, event) = match link_event::of(event) {
            Ok(of_link) => of_link,
            Err(other) => return self.on_other(now, other),
        };
        if self.enrollment.owns(link) {
            let news = self.enrollment.on_event(&mut self.node, now, link, event);
            return self.on_enrollment(now, news);
        }
        if self.relay.owns(link) {
            let news = self.relay.on_event(&mut self.node, now, link, event);
            return self.on_relay(now, news);
        }
        if let Some(inlet) = self.inlets.iter_mut().find(|inlet| inlet.owns(link)) {
            return inlet.on_event(&mut self.node, now, link, event);
        }
        let Some(outlet) = self.outlets.iter_mut().find(|outlet| outlet.owns(link)) else {
            return;
        };
        match event {
            LinkEvent::Frame(bytes) if outlet.awaits_stranger(link) => {
                self.put_off(now, link, bytes);
            }
            event @ (LinkEvent::Connected(_)
            | LinkEvent::Frame(_)
            | LinkEvent::Closed(_)
            | LinkEvent::Lane(_)
            | LinkEvent::Circuit(_)) => outlet.on_event(&mut self.node, now, link, event),
        }
    }

    fn on_other(&mut self, now: Now, event: Event) {
        match event {
            Event::Stream(report) => self.streams.on_ended(&mut self.node.out, now, &report),
            Event::AppRefused { portal, app, why } => {
                let inlet = self
                    .inlets
                    .iter_mut()
                    .find(|inlet| inlet.portal() == portal);
                if let Some(inlet) = inlet {
                    inlet.on_app_refused(&mut self.node, app, why);
                }
            }
            Event::TargetFailed { target, .. } => {
                for outlet in &mut self.outlets {
                    outlet.targets.on_failed(now, &target);
                }
            }
            // A lane is being made whenever one is wanted; the others are a server's.
            Event::LaneWanted { .. }
            | Event::Accepted { .. }
            | Event::Connected { .. }
            | Event::Frame { .. }
            | Event::Closed { .. }
            | Event::Lane { .. }
            | Event::Circuit { .. }
            | Event::ParkLow { .. }
            | Event::NowServed { .. }
            | Event::LegRefused { .. }
            | Event::DoorsClosed
            | Event::Drained => {}
        }
    }

    /// A handshake begins when everything else that is here was looked at.
    fn put_off(&mut self, now: Now, link: LinkId, frame: Vec<u8>) {
        if self.waiting.len() < SHAKES_WAITING_MAX {
            self.waiting
                .push_back((link, frame, now.mono + SHAKE_TIMEOUT));
            return;
        }
        let why = CloseReason::Overloaded;
        self.node.out.close(link, false, why);
        self.forget(now, link, why);
    }

    fn forget(&mut self, now: Now, link: LinkId, why: CloseReason) {
        if let Some(outlet) = self.outlets.iter_mut().find(|outlet| outlet.owns(link)) {
            outlet.on_event(&mut self.node, now, link, LinkEvent::Closed(why));
        }
    }

    /// The next few handshakes.
    fn shake(&mut self, now: Now) {
        for _ in 0..SHAKES_PER_LOOK {
            let Some((link, bytes, until)) = self.waiting.pop_front() else {
                return;
            };
            if until <= now.mono {
                let why = CloseReason::ShakeTimeout;
                self.node.out.close(link, false, why);
                self.forget(now, link, why);
                continue;
            }
            if let Some(outlet) = self.outlets.iter_mut().find(|outlet| outlet.owns(link)) {
                outlet.on_event(&mut self.node, now, link, LinkEvent::Frame(bytes));
            }
        }
    }

    fn on_enrollment(&mut self, now: Now, news: EnrollmentNews) {
        match news {
            EnrollmentNews::None => {}
            EnrollmentNews::Joined => {
                self.set_gates();
                self.relay.wake();
            }
            EnrollmentNews::Renewed => {
                self.relay.on_renewed(&mut self.node, now);
                if let Some(evidence) = self.node.circuit_evidence(now) {
                    let evidence = evidence.encode();
                    for inlet in &mut self.inlets {
                        inlet.wake();
                        inlet.on_renewed(&mut self.node, &evidence);
                    }
                    for outlet in &mut self.outlets {
                        outlet.on_renewed(&mut self.node, &evidence);
                    }
                }
            }
            EnrollmentNews::Heard => {}
            EnrollmentNews::Revocations => self.on_revocations(now),
            EnrollmentNews::NoteChanged => self.relay.wake(),
            EnrollmentNews::TimeChanged => {
                self.relay.wake();
                for inlet in &mut self.inlets {
                    inlet.wake();
                }
            }
            EnrollmentNews::Refused if self.enrollment.is_revoked() => {
                self.cut_all(now, CloseReason::Revoked);
                self.relay.stop(&mut self.node);
                self.set_gates();
            }
            EnrollmentNews::Refused => self.set_gates_if_hopeless(),
        }
    }

    /// Another list is held: whoever it names is cut, here and now.
    fn on_revocations(&mut self, now: Now) {
        let revoked = Arc::clone(self.node.revocations.revoked());
        let why = CloseReason::Revoked;
        let node = &mut self.node;
        let mut cut = 0;
        for inlet in &mut self.inlets {
            cut += inlet.cut(node, now, why, |lane| lane.is_revoked(&revoked));
        }
        for outlet in &mut self.outlets {
            cut += outlet.cut(node, why, |lane| lane.is_revoked(&revoked));
        }
        let news = self.relay.on_revocations(node, now);
        node.persist_revocations(now);
        self.enrollment.say_held(node, now, cut);
        self.on_relay(now, news);
    }

    /// Ends every lane.
    fn cut_all(&mut self, now: Now, why: CloseReason) {
        for inlet in &mut self.inlets {
            inlet.cut(&mut self.node, now, why, |_| true);
        }
        for outlet in &mut self.outlets {
            outlet.cut(&mut self.node, why, |_| true);
            outlet.hold(&mut self.node, why);
        }
    }

    /// What the age of the authority's word on revocations has changed.
    fn look_at_revocations(&mut self, now: Now) {
        if self.node.membership.is_none() {
            return self.relay.hold(true);
        }
        let turned = self.node.revocations.look(&mut self.node.out, now.mono);
        self.freshness = self.node.revocations.freshness_at(now.mono);
        self.relay.hold(!self.freshness.permits());
        match turned {
            Some(true) => {
                self.set_gates();
                for inlet in &mut self.inlets {
                    inlet.wake();
                }
                for outlet in &mut self.outlets {
                    outlet.wake();
                }
            }
            Some(false) => {
                self.cut_all(now, CloseReason::RevocationStale);
                self.set_gates();
            }
            None => {}
        }
    }

    fn set_gates_if_hopeless(&mut self) {
        if self.node.membership.is_none() {
            self.set_gates();
        }
    }

    fn on_relay(&mut self, now: Now, news: RelayNews) {
        match news {
            RelayNews::None | RelayNews::Lost => {}
            RelayNews::Ready => {
                for inlet in &mut self.inlets {
                    inlet.wake();
                }
                for outlet in &mut self.outlets {
                    outlet.on_session(&mut self.node, now, &self.relay);
                }
            }
            RelayNews::Served => {
                for outlet in &mut self.outlets {
                    outlet.on_served(&mut self.node, &self.relay);
                }
            }
            RelayNews::GoingAway => {
                for inlet in &mut self.inlets {
                    inlet.on_relay_leaves(&mut self.node, now);
                }
                for outlet in &mut self.outlets {
                    outlet.on_relay_leaves(&mut self.node);
                }
            }
            RelayNews::NowServed => {
                for inlet in &mut self.inlets {
                    inlet.wake();
                }
            }
            RelayNews::ParkLow(hash, want) => {
                for outlet in &mut self.outlets {
                    outlet.on_park_low(now, hash, want, &self.node);
                }
            }
        }
    }

    fn revocations_timer(&self) -> Instant {
        let member = self.node.membership.as_ref();
        member.map_or(Instant::FAR_FUTURE, |_| self.node.revocations.next_timer())
    }

    fn on_resolved(
        &mut self,
        now: Now,
        no: ResolveNo,
        answer: &Result<Vec<std::net::SocketAddr>, String>,
    ) {
        let node = &mut self.node;
        let taken = self.enrollment.on_resolved(node, now, no, answer)
            || self.relay.on_resolved(node, now, no, answer);
        if !taken {
            for outlet in &mut self.outlets {
                if outlet.targets.on_resolved(node, now, no, answer) {
                    return;
                }
            }
        }
    }

    fn on_admin(&mut self, now: Now, no: AdminNo, call: &AdminCall) {
        let reply = match call {
            AdminCall::Status => AdminReply::Status(Box::new(self.status(now))),
            AdminCall::SetPolicy(change) => self.change_policy(now, change),
            AdminCall::Why(address) => self.why(now, address),
            AdminCall::CreateTicket(_)
            | AdminCall::Tickets { .. }
            | AdminCall::Members { .. }
            | AdminCall::Member(_)
            | AdminCall::RevokeMember { .. }
            | AdminCall::RevokeTicket(_)
            | AdminCall::Audit(_) => AdminReply::not_here(),
        };
        self.node.out.push(Output::Admin {
            no,
            reply: Box::new(reply),
        });
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.enrollment.stop(&mut self.node);
        self.relay.stop(&mut self.node);
        for inlet in &mut self.inlets {
            inlet.stop(&mut self.node);
        }
        for outlet in &mut self.outlets {
            outlet.stop(&mut self.node);
        }
        self.waiting.clear();
        self.node.out.status_changed();
    }

    /// Does what has become due, in the order in which the parts depend on each other.
    fn look(&mut self, now: Now) {
        if self.stopping {
            return;
        }
        let wanted = self.wants_relay();
        self.streams.on_timer(&mut self.node.out, now);
        self.review_policies(now);
        self.enrollment.on_timer(&mut self.node, now);
        self.look_at_revocations(now);
        let news = self.relay.on_timer(&mut self.node, now, wanted);
        debug_assert!(
            matches!(news, RelayNews::None | RelayNews::Lost),
            "only events bring more"
        );
        self.relay.on_denied(&mut self.node, now);
        for inlet in &mut self.inlets {
            inlet.begin(&mut self.node, now, &mut self.relay);
        }
        for outlet in &mut self.outlets {
            outlet.targets.on_timer(&mut self.node, now);
            outlet.begin(&mut self.node, now, &mut self.relay);
        }
        self.dial_circuits(now);
        self.forget_closed_portals();
    }

    /// Circuits come after lanes and parked legs, and leave the relay room for lanes.
    fn dial_circuits(&mut self, now: Now) {
        if !self.relay.usable() {
            return;
        }
        let inlets = self.inlets.iter();
        let mut building: usize = inlets.map(Inlet::circuits_building).sum();
        for n in 0..self.inlets.len() {
            if !self.inlets[n].misses_circuits(now) {
                continue;
            }
            let of_address = |other: &&Inlet| other.via() == self.inlets[n].via();
            let unproven: usize = self
                .inlets
                .iter()
                .filter(of_address)
                .map(|other| other.circuits_unproven(now))
                .sum();
            let at_most = CIRCUITS_BUILDING_PROCESS_MAX
                .saturating_sub(building)
                .min(CIRCUITS_UNPROVEN_MAX.saturating_sub(unproven));
            let (node, relay) = (&mut self.node, &mut self.relay);
            building += self.inlets[n].dial_circuits(node, now, relay, at_most);
        }
    }
}

impl Core for MemberCore {
    fn handle(&mut self, now: Now, input: Input) {
        match input {
            // Often, and nothing becomes due by them.
            Input::Event(Event::Stream(report)) => {
                return self.streams.on_ended(&mut self.node.out, now, &report);
            }
            Input::Event(event) => self.on_event(now, event),
            Input::Resolved { no, answer } => self.on_resolved(now, no, &answer),
            // A node asks no store.
            Input::Store { .. } => {}
            Input::Admin { no, call } => self.on_admin(now, no, &call),
            Input::Ticket(ticket) => {
                self.enrollment.on_ticket(&mut self.node, now, *ticket);
                self.set_gates();
            }
            Input::Identity(identity) => self.enrollment.on_identity(&mut self.node, *identity),
            Input::Reconfigured(changes) => self.reconfigure(now, *changes),
            Input::Stop => self.stop(),
            Input::Timer => self.shake(now),
        }
        self.look(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.node.out.poll()
    }

    fn next_timer(&self) -> Instant {
        if !self.waiting.is_empty() {
            return Instant::ZERO;
        }
        if self.stopping {
            return Instant::FAR_FUTURE;
        }
        let usable = self.relay.usable();
        let inlets = self.inlets.iter().map(|inlet| inlet.next_timer(usable));
        let outlets = self
            .outlets
            .iter()
            .map(|outlet| outlet.next_timer(&self.relay));
        inlets
            .chain(outlets)
            .fold(self.relay.next_timer(self.wants_relay()), Instant::min)
            .min(self.enrollment.next_timer())
            .min(self.streams.next_timer())
            .min(self.review_due)
            .min(self.revocations_timer())
    }

    #[cfg(test)]
    fn owns(&self, link: LinkId) -> bool {
        self.enrollment.owns(link)
            || self.relay.owns(link)
            || self.inlets.iter().any(|inlet| inlet.owns(link))
            || self.outlets.iter().any(|outlet| outlet.owns(link))
    }

    fn status(&self, now: Now) -> Status {
        let membership = self.node.membership.as_ref();
        let mut portals: Vec<_> = self.inlets.iter().map(Inlet::status).collect();
        portals.extend(self.outlets.iter().map(Outlet::status));
        portals.sort_by_key(|portal| portal.portal);
        Status {
            id: self.node.keyring.id(),
            project: membership.map(|m| (m.project_name().clone(), m.project())),
            membership: self.enrollment.membership_status(&self.node, now),
            authority: self.enrollment.reach(now.mono),
            relay: self.relay.reach(now.mono, self.wants_relay()),
            clock_ahead_millis: self.node.clock.wall_ahead(now),
            revocations: membership.map(|_| self.node.revocations.status(now.mono)),
            portals,
            last_denial: self.node.last_denial.clone(),
            tally: self.node.tally.clone(),
            server: None,
        }
    }
}
