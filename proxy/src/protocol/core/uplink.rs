//! One session that a node keeps with a server: resolve, dial, handshake, pings, and all of it
//! again when it is lost. What is said in the session is the business of who owns the uplink.
//!
//! ```text
//! Waiting ── begin ──▸ Resolving ──▸ Dialing ── frame 2 ──▸ Open
//!    ▴                     │            │                     │
//!    └──── back-off ───────┴────────────┴─────────────────────┘
//! ```
//!
//! One log record per change of state: reached, and not reached any more (with the reason of the
//! first failure); the failures between are counted, not logged.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crypto::Id;
use crypto::check::{Denial, Evidence, Grant, Reason};
use crypto::names::HostPort;
use crypto::statics::StaticPublic;

use super::io::{Level, LogRecord, Now, ResolveNo};
use super::link_event::LinkEvent;
use super::node::Node;
use super::status::Reach;
use super::text::clean;
use crate::error::{CloseReason, Code, Problem};
use crate::ids::LinkId;
use crate::limits::{
    DIAL_ADDRESSES_MAX, DIAL_TIMEOUT, SESSION_DEAD, SESSION_PING, SESSION_REQUESTS_MAX,
    SHAKE_TIMEOUT, TUNNEL_DIAL,
};
use crate::protocol::command::{Command, Expect};
use crate::protocol::pool::{Backoff, Failure};
use crate::protocol::session::{Dialing, Kind, Message, RequestNo, Sealed, SessionError};
use crate::time::Instant;

/// Whom an uplink means and what it shows there.
pub struct Target {
    /// The project.
    pub project: Id,
    /// What the authority said of this node, as far as this server may see it.
    pub grant: Grant,
}

enum State {
    Waiting,
    Resolving(ResolveNo),
    Dialing {
        link: LinkId,
        dialing: Box<Dialing>,
        at: Option<SocketAddr>,
    },
    Open(Box<Open>),
}

/// An open session.
struct Open {
    link: LinkId,
    sealed: Sealed,
    at: SocketAddr,
    since: Instant,
    next_ping: Instant,
    next_request: u32,
    /// Requests without an answer, and when they were made.
    asked: BTreeMap<RequestNo, Instant>,
    /// The server has said something that is not a denial.
    accepted: bool,
}

/// What an event meant for the owner.
pub enum UplinkNews {
    /// Nothing.
    None,
    /// The session is open.
    Up,
    /// A message came.
    Message(RequestNo, Message),
    /// The session, or the attempt to make one, is over; it will be tried again by itself.
    Down,
}

/// See the module.
pub struct Uplink {
    kind: Kind,
    /// It replaces one that still works: no news for a user.
    quiet: bool,
    state: State,
    backoff: Backoff,
    /// Which of the addresses is next.
    cursor: usize,
    /// When the present attempt began.
    attempt: Option<Instant>,
    /// Since when the present state of affairs (reached, not reached) lasts.
    since: Instant,
    failures: u32,
    why: Option<(Code, String)>,
    /// Whether the present trouble was logged.
    logged: bool,
}

impl Uplink {
    /// Not begun.
    pub fn new(kind: Kind, now: Instant) -> Self {
        Uplink {
            kind,
            quiet: false,
            state: State::Waiting,
            backoff: Backoff::default(),
            cursor: 0,
            attempt: None,
            since: now,
            failures: 0,
            why: None,
            logged: false,
        }
    }

    /// The same, to replace a session that still works.
    pub fn replacement(kind: Kind, now: Instant) -> Self {
        Uplink {
            quiet: true,
            ..Uplink::new(kind, now)
        }
    }

    /// Whether this link is the uplink's.
    pub fn owns(&self, link: LinkId) -> bool {
        match &self.state {
            State::Waiting | State::Resolving(_) => false,
            State::Dialing { link: own, .. } => *own == link,
            State::Open(open) => open.link == link,
        }
    }

    /// Whether this question is the uplink's.
    pub fn asked(&self, no: ResolveNo) -> bool {
        matches!(&self.state, State::Resolving(own) if *own == no)
    }

    /// Whether the session is open, and where.
    pub fn open_at(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Open(open) => Some(open.at),
            State::Waiting | State::Resolving(_) | State::Dialing { .. } => None,
        }
    }

    /// Whether nothing is under way: [`begin`](Self::begin) has not been called, or it failed.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// What `status` shows.
    pub fn reach(&self, now: Instant) -> Reach {
        match &self.state {
            State::Open(open) if open.accepted => Reach::Reached {
                at: open.at,
                since: now.since(open.since),
            },
            State::Waiting | State::Resolving(_) | State::Dialing { .. } | State::Open(_) => {
                Reach::Trying {
                    since: now.since(self.since),
                    failures: self.failures,
                    why: self.why.as_ref().map(|(_, why)| why.clone()),
                }
            }
        }
    }

    /// There is news that may make an attempt succeed: don't wait.
    pub fn wake(&mut self) {
        self.backoff.reset();
    }

    /// Begins an attempt if none is under way and none has to wait.
    pub fn begin(&mut self, node: &mut Node, now: Now, addresses: &[HostPort]) {
        if !matches!(self.state, State::Waiting) || now.mono < self.backoff.not_before() {
            return;
        }
        let Some(address) = addresses.get(self.cursor % addresses.len().max(1)) else {
            return;
        };
        self.attempt = Some(now.mono);
        self.state = State::Resolving(node.out.resolve(address.clone()));
    }

    /// The resolver's answer to a question that is [`asked`](Self::asked).
    pub fn on_resolved(
        &mut self,
        node: &mut Node,
        now: Now,
        target: &Target,
        answer: Result<Vec<SocketAddr>, String>,
    ) {
        let why = match answer {
            Ok(mut to) if !to.is_empty() => {
                to.truncate(DIAL_ADDRESSES_MAX);
                return self.dial(node, now, target, to);
            }
            Ok(_) => String::from("no addresses"),
            Err(why) => clean(&why),
        };
        let why = format!("{}: {why}", Problem::NameUnresolved);
        self.fail(
            node,
            now,
            Problem::NameUnresolved.code(),
            why,
            Failure::Lost,
        );
    }

    fn dial(&mut self, node: &mut Node, now: Now, target: &Target, to: Vec<SocketAddr>) {
        let pair = node.keyring.pair(self.kind.purpose());
        match Dialing::start(self.kind, &target.project, pair, node.out.random()) {
            Ok((dialing, hello)) => {
                let link = node.out.new_link();
                let tries = u32::try_from(to.len()).unwrap_or(1);
                let deadline = now.mono + DIAL_TIMEOUT.min(TUNNEL_DIAL * tries);
                let expect = Expect::Frame;
                node.out.command(Command::Dial {
                    link,
                    to,
                    hello,
                    expect,
                    deadline,
                });
                self.state = State::Dialing {
                    link,
                    dialing: Box::new(dialing),
                    at: None,
                };
            }
            Err(error) => self.fail_session(node, now, &error),
        }
    }

    /// An event of a link that is the uplink's [own](Self::owns). `check` judges what the server
    /// shows, before this node shows anything.
    pub fn on_event(
        &mut self,
        node: &mut Node,
        now: Now,
        target: &Target,
        link: LinkId,
        event: LinkEvent,
        check: impl FnOnce(&mut Node, &Evidence, &StaticPublic) -> Result<(), Denial>,
    ) -> UplinkNews {
        match event {
            LinkEvent::Connected(peer) => {
                if let State::Dialing { at, .. } = &mut self.state {
                    *at = Some(peer);
                }
                node.out
                    .deadline(link, now.mono, SHAKE_TIMEOUT, CloseReason::ShakeTimeout);
                UplinkNews::None
            }
            LinkEvent::Frame(bytes) => self.on_frame(node, now, target, &bytes, check),
            LinkEvent::Closed(why) => {
                self.fail(node, now, why.code(), why.to_string(), Failure::Lost);
                UplinkNews::Down
            }
            LinkEvent::Lane(_) | LinkEvent::Circuit(_) => UplinkNews::None,
        }
    }

    fn on_frame(
        &mut self,
        node: &mut Node,
        now: Now,
        target: &Target,
        frame: &[u8],
        check: impl FnOnce(&mut Node, &Evidence, &StaticPublic) -> Result<(), Denial>,
    ) -> UplinkNews {
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::Dialing { link, dialing, at } => {
                let purpose = self.kind.purpose();
                let grant = target.grant.clone();
                let time = node.clock.now(now);
                let evidence = node.keyring.evidence(&target.project, purpose, time, grant);
                let check = |shown: &Evidence, key: &StaticPublic| check(node, shown, key);
                match dialing.on_frame_2(frame, &evidence, check) {
                    Ok(((), frame_3, sealed)) => {
                        node.out.send_frame(link, frame_3);
                        self.opened(node, now, link, sealed, at);
                        UplinkNews::Up
                    }
                    Err(error) => {
                        node.out.close(link, false, error.close_reason());
                        self.fail_session(node, now, &error);
                        UplinkNews::Down
                    }
                }
            }
            State::Open(mut open) => {
                let opened = open.sealed.open(frame);
                let link = open.link;
                self.state = State::Open(open);
                match opened {
                    Ok((request, message)) => self.on_message(node, now, link, request, message),
                    Err(error) => self.break_off(node, now, &error),
                }
            }
            other @ (State::Waiting | State::Resolving(_)) => {
                self.state = other;
                UplinkNews::None
            }
        }
    }

    fn opened(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        sealed: Sealed,
        at: Option<SocketAddr>,
    ) {
        self.attempt = None;
        let at = at.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        node.out
            .deadline(link, now.mono, SESSION_DEAD, CloseReason::SessionDead);
        self.state = State::Open(Box::new(Open {
            link,
            sealed,
            at,
            since: now.mono,
            next_ping: now.mono + SESSION_PING,
            next_request: 1,
            asked: BTreeMap::new(),
            accepted: false,
        }));
    }

    /// The server talks to this node: only now it is reached. A session that is refused as soon
    /// as it is open must not look like one that was lost, over and over.
    fn accepted(&mut self, node: &mut Node, now: Now) {
        let State::Open(open) = &mut self.state else {
            return;
        };
        if std::mem::replace(&mut open.accepted, true) {
            return;
        }
        let at = open.at;
        let level = if self.quiet {
            Level::Debug
        } else {
            Level::Info
        };
        let record = LogRecord::new(level, format!("{} reached", self.who()));
        node.out.log(record.with("address", at));
        node.out.status_changed();
        self.quiet = false;
        self.since = now.mono;
        self.failures = 0;
        self.why = None;
        self.logged = false;
    }

    fn on_message(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        request: RequestNo,
        message: Message,
    ) -> UplinkNews {
        let State::Open(open) = &mut self.state else {
            return UplinkNews::None;
        };
        let expected = request == RequestNo::UNASKED || open.asked.remove(&request).is_some();
        if !expected {
            return self.break_off(node, now, &SessionError::Violation);
        }
        node.out.expect_frame(link);
        node.out
            .deadline(link, now.mono, SESSION_DEAD, CloseReason::SessionDead);
        let denied = request == RequestNo::UNASKED && matches!(message, Message::Refused(_));
        if !denied {
            self.accepted(node, now);
        }
        if matches!(message, Message::Pong) {
            UplinkNews::None
        } else {
            UplinkNews::Message(request, message)
        }
    }

    /// Sends a request; its number comes back with the answer. `None` without a session, or when
    /// too many answers are owed: the owner asks again when the session is up next.
    pub fn ask(&mut self, node: &mut Node, now: Now, message: Message) -> Option<RequestNo> {
        let State::Open(open) = &mut self.state else {
            return None;
        };
        if open.asked.len() >= SESSION_REQUESTS_MAX {
            return None;
        }
        let request = RequestNo(open.next_request);
        match open.sealed.seal(request, message) {
            Ok(frame) => {
                open.next_request += 1;
                open.asked.insert(request, now.mono);
                node.out.send_frame(open.link, frame);
                Some(request)
            }
            Err(error) => {
                self.break_off(node, now, &error);
                None
            }
        }
    }

    /// The peer broke the protocol, or a request was not answered: give the session up.
    pub fn break_off(&mut self, node: &mut Node, now: Now, error: &SessionError) -> UplinkNews {
        self.close(node, error.close_reason(), false);
        self.fail_session(node, now, error);
        UplinkNews::Down
    }

    /// The server said no to this node as such: give the session up and come back later.
    pub fn refused(&mut self, node: &mut Node, now: Now, code: Code, why: String) {
        self.close(node, CloseReason::NotAuthorized, true);
        self.fail(node, now, code, why, Failure::Refused);
    }

    /// Ends without trying again until [`begin`](Self::begin).
    pub fn close(&mut self, node: &mut Node, why: CloseReason, flush: bool) {
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::Waiting | State::Resolving(_) => {}
            State::Dialing { link, .. } => node.out.close(link, false, why),
            State::Open(open) => node.out.close(open.link, flush, why),
        }
    }

    /// Takes the open session's link out, for a session that is being replaced: the owner closes
    /// it later.
    pub fn release(&mut self) -> Option<LinkId> {
        match std::mem::replace(&mut self.state, State::Waiting) {
            State::Open(open) => Some(open.link),
            other @ (State::Waiting | State::Resolving(_) | State::Dialing { .. }) => {
                self.state = other;
                None
            }
        }
    }

    fn fail_session(&mut self, node: &mut Node, now: Now, error: &SessionError) {
        let Some(problem) = self.problem(error) else {
            return self.fail(node, now, error.code(), error.to_string(), Failure::Lost);
        };
        let why = format!("{problem}: {error}");
        // A message that was altered once says nothing about the server; twice, it will be again.
        let denied = matches!(error, SessionError::Denied(_));
        let known = self.why.as_ref().map(|(code, _)| *code) == Some(problem.code());
        let failure = if denied || known {
            Failure::Refused
        } else {
            Failure::Lost
        };
        self.fail(node, now, problem.code(), why, failure);
    }

    /// What is behind a failed handshake, where that is known and trying again at once is no use.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only what has to do with clocks is special"
    )]
    fn problem(&self, error: &SessionError) -> Option<Problem> {
        let other_end = match self.kind {
            Kind::Authority => Problem::WrongProject,
            Kind::Relay => Problem::NotARelay,
        };
        match error {
            SessionError::Denied(denial) => Some(match denial.reason() {
                Reason::AttestationEarly(_)
                | Reason::AttestationExpired(_)
                | Reason::CredentialEarly(_) => Problem::ClockSkew,
                _ => other_end,
            }),
            SessionError::Noise(_) | SessionError::Evidence(_) => Some(other_end),
            SessionError::Malformed
            | SessionError::Suite
            | SessionError::Version(..)
            | SessionError::BadTag
            | SessionError::Violation
            | SessionError::Limit => None,
        }
    }

    fn fail(&mut self, node: &mut Node, now: Now, code: Code, why: String, failure: Failure) {
        self.state = State::Waiting;
        self.cursor = self.cursor.wrapping_add(1);
        // What an attempt took is part of the wait for the next one. A session that was lost is
        // waited for anew: a thousand others have lost theirs at the same instant.
        let attempt = self.attempt.take().filter(|_| failure == Failure::Lost);
        let since = attempt.unwrap_or(now.mono);
        self.backoff.failed(since, failure, node.out.random());
        if self.failures == 0 {
            self.since = now.mono;
        }
        self.failures = self.failures.saturating_add(1);
        let changed = self.why.as_ref().is_none_or(|(before, _)| *before != code);
        if !self.logged || (changed && failure == Failure::Refused) {
            let who = self.who();
            let level = if self.quiet {
                Level::Debug
            } else {
                Level::Warn
            };
            let record = LogRecord::new(level, format!("{who} can't be reached")).code(code);
            node.out.log(record.with("why", &why));
            self.logged = true;
        }
        if changed {
            node.out.status_changed();
        }
        self.why = Some((code, why));
    }

    fn who(&self) -> &'static str {
        match self.kind {
            Kind::Authority => "the authority",
            Kind::Relay => "the relay",
        }
    }

    /// Pings, and gives a session up that owes an answer for too long.
    pub fn on_timer(&mut self, node: &mut Node, now: Now) -> UplinkNews {
        let State::Open(open) = &mut self.state else {
            return UplinkNews::None;
        };
        let overdue = |asked: &Instant| now.mono.since(*asked) >= SESSION_DEAD;
        if open.asked.values().any(overdue) {
            let why = CloseReason::SessionDead;
            self.close(node, why, false);
            self.fail(node, now, why.code(), why.to_string(), Failure::Lost);
            return UplinkNews::Down;
        }
        if now.mono >= open.next_ping {
            open.next_ping = now.mono + SESSION_PING;
            self.ask(node, now, Message::Ping);
        }
        UplinkNews::None
    }

    /// When `begin` or `on_timer` has something to do. `wanted` says whether it should dial.
    pub fn next_timer(&self, wanted: bool) -> Instant {
        match &self.state {
            State::Waiting if wanted => self.backoff.not_before(),
            State::Waiting | State::Resolving(_) | State::Dialing { .. } => Instant::FAR_FUTURE,
            State::Open(open) => open.next_ping,
        }
    }
}
