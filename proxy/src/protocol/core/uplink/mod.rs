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

mod failing;
mod talk;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crypto::Id;
use crypto::check::{Denial, Evidence, Grant};
use crypto::names::HostPort;
use crypto::statics::StaticPublic;

use super::io::{Now, ResolveNo};
use super::link_event::LinkEvent;
use super::node::Node;
use super::status::Reach;
use super::text::clean;
use crate::error::{CloseReason, Code, Problem};
use crate::ids::{LinkId, WorkerId};
use crate::limits::{
    DIAL_ADDRESSES_MAX, DIAL_TIMEOUT, SESSION_DEAD, SESSION_PING, SHAKE_TIMEOUT, TUNNEL_DIAL,
};
use crate::protocol::command::{Command, Expect};
use crate::protocol::pool::{Backoff, Failure};
use crate::protocol::session::{Dialing, Kind, Message, RequestNo, Sealed};
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
    /// Which of the addresses is next, and how many are left of this round: they are tried at once,
    /// one after the other, and waited for only when all have failed.
    cursor: usize,
    left: usize,
    /// When the present attempt began.
    attempt: Option<Instant>,
    /// Since when the present state of affairs (reached, not reached) lasts.
    since: Instant,
    failures: u32,
    why: Option<(Code, String)>,
    /// The code by which the present trouble was logged. A refusal with another one is news, also
    /// where its first occurrence was passed over as an accident.
    logged: Option<Code>,
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
            left: 0,
            attempt: None,
            since: now,
            failures: 0,
            why: None,
            logged: None,
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
        if self.left == 0 {
            self.left = addresses.len();
        }
        self.left -= 1;
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
                let link = node.out.new_link(WorkerId::FIRST);
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

    /// When `begin` or `on_timer` has something to do. `wanted` says whether it should dial.
    pub fn next_timer(&self, wanted: bool) -> Instant {
        match &self.state {
            State::Waiting if wanted => self.backoff.not_before(),
            State::Waiting | State::Resolving(_) | State::Dialing { .. } => Instant::FAR_FUTURE,
            State::Open(open) => open.next_ping,
        }
    }
}
