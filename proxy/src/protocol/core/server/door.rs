//! The door: connections that have not shown who they are.
//!
//! They are bounded in number, in total and per source network (the oldest make room), have 5 s for the whole handshake,
//! and their frames wait in a queue of their own, of which a few are taken each time everything
//! else has been looked at: a flood of handshakes slows strangers, not members.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use super::Parts;
use super::host::RelayHost;
use crate::error::{CloseReason, Code};
use crate::ids::LinkId;
use crate::limits::{
    MISTAKE_HINT_INTERVAL, PREFACE, SESSION_STRANGERS_MAX, SESSION_STRANGERS_PER_PREFIX_MAX,
    SHAKE_BYTES, SHAKE_TIMEOUT, SHAKES_PER_LOOK,
};
use crate::protocol::command::{Command, Expect};
use crate::protocol::core::authority::NotAdmitted;
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::node::denial_record;
use crate::protocol::core::outbox::Outbox;
use crate::protocol::core::relay::RelayCore;
use crate::protocol::session::{Accepting, Kind, Message, Refusal, RequestNo, SessionError};
use crate::protocol::strangers::Strangers;
use crate::time::Instant;

/// A connection that has not shown who it is.
struct Stranger {
    kind: Kind,
    peer: SocketAddr,
    /// The whole handshake must be over by then.
    until: Instant,
    step: Step,
    /// Its frame, which waits for its turn and goes with it.
    frame: Option<Vec<u8>>,
}

enum Step {
    /// Frame 1 is due.
    First,
    /// Frame 3 is due.
    Third(Box<Accepting>),
    /// Its frame is being looked at.
    Busy,
}

/// See the module.
pub struct Door {
    /// The places, those of the authority's guests among them.
    pub strangers: Strangers<LinkId>,
    shaking: BTreeMap<LinkId, Stranger>,
    /// Whose frames wait, in the order in which they came.
    queue: VecDeque<LinkId>,
    /// Those that had to make room since it was last logged, and when it may be logged again.
    evicted: u64,
    crowd_logged_until: Instant,
}

impl Door {
    /// Nobody is here yet.
    pub fn new() -> Door {
        Door {
            strangers: Strangers::new(SESSION_STRANGERS_MAX, SESSION_STRANGERS_PER_PREFIX_MAX),
            shaking: BTreeMap::new(),
            queue: VecDeque::new(),
            evicted: 0,
            crowd_logged_until: Instant::ZERO,
        }
    }

    /// Somebody connected.
    pub fn on_accepted(
        &mut self,
        parts: &mut Parts,
        now: Now,
        link: LinkId,
        preface: &[u8; PREFACE],
        peer: SocketAddr,
    ) {
        let kind = Kind::of_preface(preface).filter(|kind| parts.serves(*kind));
        let Some(kind) = kind else {
            return parts.out.close(link, false, CloseReason::NotAdit);
        };
        if let Some(oldest) = self.strangers.admit(link, peer) {
            self.evict(parts, now, oldest, peer);
        }
        let until = now.mono + SHAKE_TIMEOUT;
        self.shaking.insert(
            link,
            Stranger {
                kind,
                peer,
                until,
                step: Step::First,
                frame: None,
            },
        );
        parts.out.expect_frame(link);
        expect_by(&mut parts.out, link, until);
    }

    /// Closes the one that had to make room for a newcomer, a guest of the authority's perhaps.
    fn evict(&mut self, parts: &mut Parts, now: Now, oldest: LinkId, newcomer: SocketAddr) {
        self.shaking.remove(&oldest);
        parts.out.close(oldest, false, CloseReason::Overloaded);
        if let Some(authority) = &mut parts.authority {
            authority.on_closed(oldest);
        }
        self.evicted += 1;
        if self.crowd_logged_until <= now.mono {
            self.crowd_logged_until = now.mono + MISTAKE_HINT_INTERVAL;
            let what = "too many connections have not shown who they are: the oldest make room";
            let record = LogRecord::new(Level::Warn, what)
                .code(CloseReason::Overloaded.code())
                .with("closed", std::mem::take(&mut self.evicted))
                .with("newest_from", newcomer);
            parts.out.log(record);
        }
    }

    /// A frame; given back if its link is no stranger's.
    pub fn on_frame(&mut self, link: LinkId, bytes: Vec<u8>) -> Option<Vec<u8>> {
        let Some(stranger) = self.shaking.get_mut(&link) else {
            return Some(bytes);
        };
        if stranger.frame.replace(bytes).is_none() {
            self.queue.push_back(link);
        }
        None
    }

    /// A link is gone; says whether it was a stranger's.
    pub fn on_closed(&mut self, link: LinkId) -> bool {
        self.strangers.leave(link);
        self.shaking.remove(&link).is_some()
    }

    /// Whether frames wait.
    pub fn busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Closes the door.
    pub fn stop(&mut self, out: &mut Outbox) {
        for link in std::mem::take(&mut self.shaking).into_keys() {
            self.strangers.leave(link);
            out.close(link, false, CloseReason::Stopping);
        }
        self.queue.clear();
    }

    /// The next few frames of strangers.
    pub fn shake(&mut self, parts: &mut Parts, now: Now) {
        let mut looked_at = 0;
        while looked_at < SHAKES_PER_LOOK {
            let Some(link) = self.queue.pop_front() else {
                return;
            };
            let Some(stranger) = self.shaking.get_mut(&link) else {
                continue;
            };
            let Some(bytes) = stranger.frame.take() else {
                continue;
            };
            // The longer the history of an identity, the more signatures there are to verify: a long
            // one is worth several short ones.
            looked_at += 1 + bytes.len() / SHAKE_BYTES;
            if stranger.until <= now.mono {
                self.turn_away(&mut parts.out, link, CloseReason::ShakeTimeout);
                continue;
            }
            match std::mem::replace(&mut stranger.step, Step::Busy) {
                Step::First => self.on_frame_1(parts, now, link, &bytes),
                Step::Third(accepting) => self.on_frame_3(parts, now, link, *accepting, &bytes),
                Step::Busy => self.turn_away(&mut parts.out, link, CloseReason::Violation),
            }
        }
    }

    fn turn_away(&mut self, out: &mut Outbox, link: LinkId, why: CloseReason) {
        out.close(link, false, why);
        self.shaking.remove(&link);
        self.strangers.leave(link);
    }

    fn on_frame_1(&mut self, parts: &mut Parts, now: Now, link: LinkId, bytes: &[u8]) {
        let Some(kind) = self.shaking.get(&link).map(|stranger| stranger.kind) else {
            return;
        };
        let accepting = match (kind, &mut parts.authority, &mut parts.relay) {
            (Kind::Authority, Some(authority), _) => {
                let project = authority.project().id;
                let (shown, pair) = authority.shown(now);
                Accepting::on_frame_1(kind, &project, pair, &shown, bytes, parts.out.random())
            }
            (
                Kind::Relay,
                _,
                Some(RelayHost {
                    source,
                    grant: Some(grant),
                    ..
                }),
            ) => {
                let time = source.clock().now(now);
                let (shown, pair) = RelayCore::shown(source.keyring(), grant, time);
                let project = grant.authority.project();
                Accepting::on_frame_1(kind, &project, pair, &shown, bytes, parts.out.random())
            }
            // A relay that has no pass yet: the node tries again soon.
            _ => return self.turn_away(&mut parts.out, link, CloseReason::RelayBusy),
        };
        match accepting {
            Ok((accepting, frame_2)) => {
                if let Some(stranger) = self.shaking.get_mut(&link) {
                    stranger.step = Step::Third(Box::new(accepting));
                    parts.out.send_frame(link, frame_2);
                    expect_by(&mut parts.out, link, stranger.until);
                }
            }
            Err(error) => self.on_bad_handshake(parts, link, &error),
        }
    }

    fn on_bad_handshake(&mut self, parts: &mut Parts, link: LinkId, error: &SessionError) {
        parts.tally.on_handshake(false);
        if let Some(stranger) = self.shaking.get(&link) {
            let record = LogRecord::new(Level::Debug, "a handshake failed")
                .code(error.code())
                .with("why", error)
                .with("from", stranger.peer);
            parts.out.log(record);
        }
        self.turn_away(&mut parts.out, link, error.close_reason());
    }

    fn on_frame_3(
        &mut self,
        parts: &mut Parts,
        now: Now,
        link: LinkId,
        accepting: Accepting,
        bytes: &[u8],
    ) {
        let accepted = match accepting.on_frame_3(bytes) {
            Ok(accepted) => accepted,
            Err(error) => return self.on_bad_handshake(parts, link, &error),
        };
        let Some(Stranger { kind, peer, .. }) = self.shaking.remove(&link) else {
            return;
        };
        parts.tally.on_handshake(true);
        let claimed = accepted.evidence.identity.id();
        let admitted = match (kind, &mut parts.authority, &mut parts.relay) {
            (Kind::Authority, Some(authority), _) => {
                // It keeps its place among the strangers while it is a guest.
                authority.admit(&mut parts.out, now, link, accepted)
            }
            (
                Kind::Relay,
                _,
                Some(RelayHost {
                    core,
                    source,
                    grant: Some(grant),
                }),
            ) => {
                self.strangers.leave(link);
                core.admit(&mut parts.out, now, &source.clock(), grant, link, accepted)
            }
            _ => {
                self.strangers.leave(link);
                return parts.out.close(link, false, CloseReason::RelayBusy);
            }
        };
        let Err(refusal) = admitted else {
            return;
        };
        if kind == Kind::Authority {
            self.strangers.leave(link);
        }
        match refusal {
            NotAdmitted::Full => parts.out.close(link, false, CloseReason::Overloaded),
            NotAdmitted::Denied(denied) => {
                let (denial, mut sealed) = *denied;
                let what = match kind {
                    Kind::Authority => "an authority session was denied",
                    Kind::Relay => "a relay session was denied",
                };
                let record = denial_record(what, &denial)
                    .with("peer", claimed)
                    .with("from", peer);
                parts.tally.on_denial(Code(denial.code()));
                parts.last_denial = Some(record.clone());
                parts.out.log(record);
                let code = CloseReason::NotAuthorized.code().0;
                let detail = String::new();
                // The authority's time, which nodes go by: a wrong clock is the likeliest cause.
                let at = (kind == Kind::Authority).then(|| now.wall());
                let refusal = Refusal {
                    code,
                    detail,
                    redeemed_by: None,
                    at,
                };
                let message = Message::Refused(refusal);
                if let Ok(bytes) = sealed.seal(RequestNo::UNASKED, message) {
                    let then = Expect::Nothing;
                    parts.out.command(Command::Send {
                        link,
                        bytes,
                        framed: true,
                        then,
                    });
                }
                parts.out.close(link, true, CloseReason::NotAuthorized);
            }
        }
    }
}

/// The next frame of a handshake is due; as a whole it has one deadline.
fn expect_by(out: &mut Outbox, link: LinkId, at: Instant) {
    out.command(Command::Deadline {
        link,
        at,
        why: CloseReason::ShakeTimeout,
    });
}
