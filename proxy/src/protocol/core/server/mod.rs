//! `adit serve`: the authority, a relay, or both, behind one public port.
//!
//! | module | what it holds |
//! |---|---|
//! | [`door`] | connections that have not shown who they are |
//! | [`host`] | the relay, and how it comes to its pass |
//! | [`revoke`] | revocations that are under way |

mod door;
mod host;
mod revoke;

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto::Random;

use self::door::Door;
use self::host::{RelayHost, Source};
use self::revoke::Revoking;
use super::admin::{AdminCall, AdminDesk, AdminPending, AdminReply, AdminStep};
use super::authority::AuthorityCore;
use super::config::ServerConfig;
use super::enrollment::EnrollmentNews;
use super::io::{AdminNo, Core, Input, Level, LogRecord, Now, Output, StoreNo};
use super::link_event::{self, LinkEvent};
use super::outbox::{Outbox, SharedRandom};
use super::status::{MembershipStatus, Reach, ServerStatus, Status};
use super::tally::Tally;
use crate::error::{CloseReason, Problem};
use crate::ids::LinkId;
use crate::limits::{CLOCK_STEP, MISTAKE_HINT_INTERVAL, STORE_REQUESTS_MAX};
use crate::protocol::command::Event;
use crate::protocol::session::Kind;
use crate::protocol::store::{StoreError, StoreReply};
use crate::time::{Duration, Instant};

/// What the server consists of, for who comes through the door.
pub(super) struct Parts {
    out: Outbox,
    authority: Option<AuthorityCore>,
    relay: Option<RelayHost>,
    last_denial: Option<LogRecord>,
    tally: Tally,
}

impl Parts {
    fn serves(&self, kind: Kind) -> bool {
        match kind {
            Kind::Authority => self.authority.is_some(),
            Kind::Relay => self.relay.is_some(),
        }
    }

    /// Events of links that the relay's own enrollment made.
    fn enrollment_event(&mut self, now: Now, link: LinkId, event: LinkEvent) {
        let Some(relay) = &mut self.relay else {
            return;
        };
        let Source::Remote(node, enrollment) = &mut relay.source else {
            return;
        };
        if !enrollment.owns(link) {
            return;
        }
        match enrollment.on_event(node, now, link, event) {
            EnrollmentNews::Joined | EnrollmentNews::Renewed | EnrollmentNews::NoteChanged => {
                relay.take_membership();
            }
            EnrollmentNews::Revocations => {
                let revoked = Arc::clone(node.revocations.revoked());
                enrollment.say_held(node, now, 0);
                relay.core.on_revocations(&mut self.out, now, revoked);
            }
            EnrollmentNews::None
            | EnrollmentNews::Heard
            | EnrollmentNews::TimeChanged
            | EnrollmentNews::Refused => {}
        }
    }
}

/// What the store was asked for by the server itself.
enum Asked {
    /// The local relay's pass.
    RelayPass,
    /// An administrator's call.
    Admin(AdminNo, AdminPending),
}

/// Whether a stranger's connection looks like a person's mistake that was not logged lately.
fn hint_is_due(
    hinted: &mut BTreeMap<CloseReason, Instant>,
    now: Instant,
    why: CloseReason,
) -> bool {
    let mistakes = [
        CloseReason::HttpByMistake,
        CloseReason::TlsByMistake,
        CloseReason::BadVersion,
    ];
    let due = mistakes.contains(&why)
        && hinted
            .get(&why)
            .is_none_or(|&at| now.since(at) >= MISTAKE_HINT_INTERVAL);
    if due {
        hinted.insert(why, now);
    }
    due
}

/// See the module. [`Core`] says how it is run.
pub struct ServerCore {
    parts: Parts,
    door: Door,
    asked: BTreeMap<StoreNo, Asked>,
    revoking: Vec<Revoking>,
    /// What the clocks said when sessions last began anew: a wall clock that was set since differs
    /// from what the other one has counted.
    clocks: Now,
    /// When a mistake of a stranger was last worth a line.
    hinted: BTreeMap<CloseReason, Instant>,
    stopping: bool,
}

impl ServerCore {
    /// Begins at `now`; the first outputs are there at once.
    pub fn new(config: ServerConfig, random: Box<dyn Random + Send>, now: Now) -> ServerCore {
        let mut random = SharedRandom::new(random);
        let local = config
            .authority
            .as_ref()
            .map(|authority| authority.credential_life);
        let authority = config
            .authority
            .map(|authority| AuthorityCore::new(authority, &mut random));
        let relay = config
            .relay
            .map(|relay| RelayHost::new(relay, local, random.clone(), now));
        let mut out = Outbox::new(Box::new(random));
        if let Some(authority) = &authority {
            let project = authority.project();
            let record = LogRecord::new(Level::Info, "authority")
                .with("project", &project.name)
                .with("id", project.id);
            out.log(record);
        }
        let parts = Parts {
            out,
            authority,
            relay,
            last_denial: None,
            tally: Tally::default(),
        };
        let (door, asked) = (Door::new(), BTreeMap::new());
        let mut core = ServerCore {
            parts,
            door,
            asked,
            revoking: Vec::new(),
            clocks: now,
            hinted: BTreeMap::new(),
            stopping: false,
        };
        core.look(now);
        core
    }

    /// Authority time is this machine's wall clock. Where that was stepped, what was issued before
    /// is expired or not yet valid by the new one, and nodes count from the old one: the relay next
    /// door gets a new pass at once, and sessions begin anew, which makes nodes ask for the time and
    /// for credentials.
    fn look_at_clocks(&mut self, now: Now) {
        let before = self.clocks;
        let parts = &mut self.parts;
        let Some(authority) = parts.authority.as_mut().filter(|_| !self.stopping) else {
            return;
        };
        let counted = u64::try_from(now.mono.since(before.mono).as_millis()).unwrap_or(u64::MAX);
        let expected = before.wall_millis.saturating_add(counted);
        let step = Duration::from_millis(now.wall_millis.abs_diff(expected));
        if step < CLOCK_STEP {
            return;
        }
        self.clocks = now;
        let way = if now.wall_millis > expected {
            "forward"
        } else {
            "back"
        };
        let what = "this machine's clock was set: sessions begin anew by its new time";
        let record = LogRecord::new(Level::Warn, what)
            .code(Problem::ClockSkew.code())
            .with("seconds", step.as_secs())
            .with("direction", way);
        parts.out.log(record);
        authority.begin_anew(&mut parts.out);
        if let Some(relay) = &mut parts.relay {
            relay.renew_pass(now);
        }
    }

    fn on_event(&mut self, now: Now, event: Event) {
        match link_event::of(event) {
            Ok((link, LinkEvent::Frame(bytes))) => {
                if let Some(bytes) = self.door.on_frame(link, bytes) {
                    self.on_frame(now, link, bytes);
                }
            }
            Ok((link, LinkEvent::Closed(why))) => self.on_closed(now, link, why),
            Ok((link, event)) => self.parts.enrollment_event(now, link, event),
            Err(other) => self.on_other(now, other),
        }
    }

    fn on_other(&mut self, now: Now, event: Event) {
        let parts = &mut self.parts;
        match event {
            Event::Accepted { link, .. } if self.stopping => {
                parts.out.close(link, false, CloseReason::Stopping);
            }
            Event::Accepted {
                link,
                preface,
                peer,
            } => {
                self.door.on_accepted(parts, now, link, &preface, peer);
            }
            Event::ParkLow {
                session,
                address,
                want,
            } => {
                if let Some(relay) = &mut parts.relay {
                    relay
                        .core
                        .on_park_low(&mut parts.out, session, address, want);
                }
            }
            Event::NowServed { session, address } => {
                if let Some(relay) = &mut parts.relay {
                    relay.core.on_now_served(&mut parts.out, session, address);
                }
            }
            Event::LegRefused { member, peer, why } => {
                // Anybody can send a wrong preface: those of members are worth a line, and once a
                // minute a mistake that a person may have made.
                let level = if member.is_some() || hint_is_due(&mut self.hinted, now.mono, why) {
                    Level::Warn
                } else {
                    Level::Debug
                };
                let record = LogRecord::new(level, "a leg was refused")
                    .code(why.code())
                    .with("why", why)
                    .with("from", peer);
                let record = member
                    .into_iter()
                    .fold(record, |r, member| r.with("peer", member));
                parts.out.log(if level == Level::Warn {
                    record.with("mend", why.mend())
                } else {
                    record
                });
            }
            // A server has no inlets, outlets or lanes.
            Event::Connected { .. }
            | Event::Frame { .. }
            | Event::Closed { .. }
            | Event::Lane { .. }
            | Event::Circuit { .. }
            | Event::LaneWanted { .. }
            | Event::AppRefused { .. }
            | Event::Stream(_)
            | Event::TargetFailed { .. }
            | Event::DoorsClosed
            | Event::Drained => {}
        }
    }

    fn on_frame(&mut self, now: Now, link: LinkId, bytes: Vec<u8>) {
        let parts = &mut self.parts;
        if let Some(authority) = parts.authority.as_mut().filter(|core| core.owns(link)) {
            return authority.on_frame(&mut parts.out, now, link, &bytes);
        }
        if let Some(RelayHost {
            core,
            source,
            grant: Some(grant),
        }) = &mut parts.relay
            && core.owns(link)
        {
            return core.on_frame(&mut parts.out, now, &source.clock(), grant, link, &bytes);
        }
        parts.enrollment_event(now, link, LinkEvent::Frame(bytes));
    }

    fn on_closed(&mut self, now: Now, link: LinkId, why: CloseReason) {
        let parts = &mut self.parts;
        if self.door.on_closed(link) {
            return;
        }
        if let Some(authority) = parts.authority.as_mut().filter(|core| core.owns(link)) {
            return authority.on_closed(link);
        }
        if let Some(relay) = parts.relay.as_mut().filter(|relay| relay.core.owns(link)) {
            return relay.core.on_closed(&mut parts.out, link);
        }
        parts.enrollment_event(now, link, LinkEvent::Closed(why));
    }

    fn on_store(&mut self, now: Now, no: StoreNo, answer: Result<StoreReply, StoreError>) {
        let parts = &mut self.parts;
        let answer = match &mut parts.authority {
            Some(authority) => authority.on_store(&mut parts.out, now, no, answer),
            None => Some(answer),
        };
        let (Some(answer), Some(asked)) = (answer, self.asked.remove(&no)) else {
            return;
        };
        match (asked, &parts.authority, &mut parts.relay) {
            (Asked::Admin(no, pending), _, _) => {
                self.on_admin_reply(now, no, AdminDesk::finish(pending, answer));
            }
            (Asked::RelayPass, Some(authority), Some(relay)) => {
                relay.on_pass(&mut parts.out, now, authority, answer);
            }
            (Asked::RelayPass, _, _) => {}
        }
    }

    fn on_admin(&mut self, now: Now, no: AdminNo, call: AdminCall) {
        let step = match (&self.parts.authority, call) {
            (_, AdminCall::Status) => {
                AdminStep::Reply(AdminReply::Status(Box::new(self.status(now))))
            }
            (Some(_), _) if self.asked.len() >= STORE_REQUESTS_MAX => {
                AdminStep::Reply(AdminReply::refused(Problem::AuthorityBusy, "try again"))
            }
            (Some(authority), call) => {
                authority
                    .desk()
                    .begin(call, now.wall(), self.parts.out.random())
            }
            (None, _) => AdminStep::Reply(AdminReply::not_here()),
        };
        match step {
            AdminStep::Reply(reply) => {
                self.parts.out.push(Output::Admin {
                    no,
                    reply: Box::new(reply),
                });
            }
            AdminStep::Ask(request, pending) => {
                let asked = self.parts.out.store(request);
                self.asked.insert(asked, Asked::Admin(no, pending));
            }
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.answer_revoking();
        let parts = &mut self.parts;
        if let Some(relay) = &mut parts.relay {
            relay.core.stop(&mut parts.out);
            if let Source::Remote(node, enrollment) = &mut relay.source {
                enrollment.stop(node);
            }
        }
        if let Some(authority) = &mut parts.authority {
            authority.stop(&mut parts.out);
        }
        self.door.stop(&mut parts.out);
        parts.out.status_changed();
    }

    /// Does what has become due.
    fn look(&mut self, now: Now) {
        if self.stopping {
            return;
        }
        let parts = &mut self.parts;
        if let Some(authority) = &mut parts.authority {
            authority.on_timer(&mut parts.out, now);
            for link in authority.take_freed() {
                self.door.strangers.leave(link);
            }
            if let (Some(revoked), Some(relay)) = (authority.take_list(), &mut parts.relay) {
                relay.core.on_revocations(&mut parts.out, now, revoked);
            }
        }
        self.look_at_revoking(now);
        let parts = &mut self.parts;
        if let Some(relay) = &mut parts.relay {
            if let Some(no) = relay.ask_pass(&mut parts.out, now) {
                self.asked.insert(no, Asked::RelayPass);
            }
            relay.core.on_timer(&mut parts.out, now);
            if let Source::Remote(node, enrollment) = &mut relay.source {
                enrollment.on_timer(node, now);
                if node.membership.is_some() {
                    node.revocations.look(&mut node.out, now.mono);
                }
            }
        }
    }

    fn ready(&self) -> bool {
        let relay = self
            .parts
            .relay
            .as_ref()
            .is_none_or(|relay| relay.grant.is_some());
        relay && !self.stopping
    }
}

impl Core for ServerCore {
    fn handle(&mut self, now: Now, input: Input) {
        self.look_at_clocks(now);
        match input {
            Input::Event(event) => self.on_event(now, event),
            Input::Resolved { no, answer } => {
                if let Some(RelayHost {
                    source: Source::Remote(node, enrollment),
                    ..
                }) = &mut self.parts.relay
                {
                    enrollment.on_resolved(node, now, no, &answer);
                }
            }
            Input::Store { no, answer } => self.on_store(now, no, answer),
            Input::Admin { no, call } => self.on_admin(now, no, call),
            Input::Ticket(ticket) => {
                if let Some(RelayHost {
                    source: Source::Remote(node, enrollment),
                    ..
                }) = &mut self.parts.relay
                {
                    enrollment.on_ticket(node, now, *ticket);
                }
            }
            Input::Identity(identity) => {
                if let Some(RelayHost {
                    source: Source::Remote(node, enrollment),
                    ..
                }) = &mut self.parts.relay
                {
                    enrollment.on_identity(node, *identity);
                }
            }
            // A server has no portals.
            Input::Reconfigured(_) => {}
            Input::Stop => self.stop(),
            Input::Timer => self.door.shake(&mut self.parts, now),
        }
        self.look(now);
    }

    fn poll_output(&mut self) -> Option<Output> {
        let own = self.parts.out.poll();
        own.or_else(|| match &mut self.parts.relay {
            Some(RelayHost {
                source: Source::Remote(node, _),
                ..
            }) => node.out.poll(),
            _ => None,
        })
    }

    fn next_timer(&self) -> Instant {
        if self.door.busy() {
            return Instant::ZERO;
        }
        if self.stopping {
            return Instant::FAR_FUTURE;
        }
        let authority = self.parts.authority.as_ref().map(AuthorityCore::next_timer);
        let relay = self.parts.relay.as_ref().map(RelayHost::next_timer);
        [authority, relay, self.revoking_until()]
            .into_iter()
            .flatten()
            .fold(Instant::FAR_FUTURE, Instant::min)
    }

    fn status(&self, now: Now) -> Status {
        let server = ServerStatus {
            ready: self.ready(),
            authority_sessions: self
                .parts
                .authority
                .as_ref()
                .map_or(0, AuthorityCore::count),
            relay_sessions: self
                .parts
                .relay
                .as_ref()
                .map_or(0, |relay| relay.core.count()),
            strangers: self.door.strangers.count(),
            served: self
                .parts
                .relay
                .as_ref()
                .map(|relay| relay.core.served())
                .unwrap_or_default(),
        };
        let revocations = match &self.parts.relay {
            Some(RelayHost {
                source: Source::Remote(node, _),
                ..
            }) if node.membership.is_some() => Some(node.revocations.status(now.mono)),
            _ => None,
        };
        let (id, project, membership, authority, clock) =
            match (&self.parts.authority, &self.parts.relay) {
                (Some(core), _) => {
                    let row = core.project();
                    let project = Some((row.name.clone(), row.id));
                    (
                        row.id,
                        project,
                        MembershipStatus::Authority,
                        Reach::NotNeeded,
                        None,
                    )
                }
                (
                    None,
                    Some(RelayHost {
                        source: Source::Remote(node, enrollment),
                        ..
                    }),
                ) => (
                    node.keyring.id(),
                    node.membership
                        .as_ref()
                        .map(|m| (m.project_name().clone(), m.project())),
                    enrollment.membership_status(node, now),
                    enrollment.reach(now.mono),
                    node.clock.wall_ahead(now),
                ),
                // No authority and no relay that needs one: there is nothing to be.
                _ => (
                    crypto::Id([0; 32]),
                    None,
                    MembershipStatus::Authority,
                    Reach::NotNeeded,
                    None,
                ),
            };
        Status {
            id,
            project,
            membership,
            authority,
            relay: Reach::NotNeeded,
            clock_ahead_millis: clock,
            revocations,
            portals: Vec::new(),
            last_denial: self.parts.last_denial.clone(),
            tally: self.parts.tally.clone(),
            server: Some(server),
        }
    }
}
