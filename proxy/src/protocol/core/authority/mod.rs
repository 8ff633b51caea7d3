//! The authority: who redeems and renews, what time it is, and what is signed.
//!
//! What a peer may do is decided by the store's rows, read anew for each request: an identity
//! without a row may redeem, ask for the time and for the project note, and nothing else.
//!
//! Anybody can make an identity, so a session is a *guest's* until a redemption or renewal has
//! shown that it is a member's: it keeps its place among the strangers, which are few, and has
//! little time. Nodes renew first thing in each session.

mod answers;
mod beacon;

use std::collections::{BTreeMap, VecDeque};

use crypto::Random;
use crypto::attestation::Purpose;
use crypto::check::{
    Denial, Evidence, Grant, IdentityQuestion, NoHistories, VerifiedIdentity, verify_identity,
};
use crypto::identity::{Identity, IdentitySecret};
use crypto::limits::NOTE_RELAYS_MAX;
use crypto::names::Name;
use crypto::project::ProjectNote;
use crypto::statics::StaticKeypair;
use crypto::suite::{Suite, SuiteMask};

use self::beacon::Beacons;
use super::admin::AdminDesk;
use super::by_peer::ByPeer;
use super::config::AuthorityConfig;
use super::io::{Level, LogRecord, Now, StoreNo};
use super::outbox::Outbox;
use crate::error::{CloseReason, Problem};
use crate::ids::LinkId;
use crate::limits::{
    GUEST_REQUESTS_MAX, GUEST_TIME, SESSION_DEAD, SESSION_REQUESTS_MAX, SESSIONS_MAX,
    STORE_REQUESTS_MAX,
};
use crate::protocol::keyring::Keyring;
use crate::protocol::session::{Accepted, Message, Refusal, RequestNo, Sealed, SessionError};
use crate::protocol::store::{ProjectRow, Redeem, Renew, StoreRequest};
use crate::time::{Duration, Instant};

/// What the store was asked for.
struct Pending {
    link: LinkId,
    request: RequestNo,
    /// The presented identity, which the credential names.
    identity: Identity,
}

struct Session {
    sealed: Sealed,
    peer: VerifiedIdentity,
    /// It keeps its place among the strangers until it is known to be a member's.
    is_guest: bool,
    /// Store requests without an answer.
    waiting: usize,
    /// The member's name, once it is known.
    name: Option<Name>,
    /// The revocation list that the node says it holds, and how many lanes it has cut by it.
    holds: Option<(u64, u32)>,
}

/// Why a peer that finished its handshake has no session.
pub enum NotAdmitted {
    /// It is not believed; the session is good for one refusal.
    Denied(Box<(Denial, Sealed)>),
    /// There are too many sessions.
    Full,
}

/// The authority's part of a server. See the module.
pub struct AuthorityCore {
    keyring: Keyring,
    project: ProjectRow,
    note: ProjectNote,
    sessions: BTreeMap<LinkId, Session>,
    by_peer: ByPeer,
    /// Guests in the order in which their time is over.
    guests: VecDeque<(Instant, LinkId)>,
    /// Guests that are guests no longer; the server takes their places back.
    freed: Vec<LinkId>,
    pending: BTreeMap<StoreNo, Pending>,
    /// The store answered the last request with an error.
    store_fails: bool,
    credential_life: Duration,
    beacons: Beacons,
}

impl AuthorityCore {
    /// The authority of a project. Its note names the first 16 addresses of the row.
    pub fn new(config: AuthorityConfig, random: &mut dyn Random) -> AuthorityCore {
        let AuthorityConfig {
            identity,
            project,
            credential_life,
        } = config;
        // Both ends still have to offer what they use: a project forbids nothing by default.
        let suites = SuiteMask::NONE.with(Suite::AesGcm).with(Suite::ChaChaPoly);
        let name = project.name.clone();
        let relays = project
            .addresses
            .iter()
            .take(NOTE_RELAYS_MAX)
            .cloned()
            .collect();
        let note = ProjectNote::issue(&identity, name, project.note_number, relays, suites)
            .expect("a note has room for NOTE_RELAYS_MAX relays");
        AuthorityCore {
            keyring: Keyring::new(identity, random),
            project,
            note,
            sessions: BTreeMap::new(),
            by_peer: ByPeer::default(),
            guests: VecDeque::new(),
            freed: Vec::new(),
            pending: BTreeMap::new(),
            store_fails: false,
            credential_life,
            beacons: Beacons::default(),
        }
    }

    /// The authority's key.
    pub fn identity(&self) -> &IdentitySecret {
        self.keyring.identity()
    }

    /// The project's row.
    pub fn project(&self) -> &ProjectRow {
        &self.project
    }

    /// The desk for administrators' calls.
    pub fn desk(&self) -> AdminDesk<'_> {
        AdminDesk {
            authority: self.keyring.identity(),
            project: &self.project,
        }
    }

    /// What it shows in a handshake, and the key for it.
    pub fn shown(&mut self, now: Now) -> (Evidence, &StaticKeypair) {
        let (project, purpose) = (self.project.id, Purpose::AuthoritySession);
        let evidence = self
            .keyring
            .evidence(&project, purpose, now.wall(), Grant::Nothing);
        (evidence, self.keyring.pair(purpose))
    }

    /// Whether this link is a session.
    pub fn owns(&self, link: LinkId) -> bool {
        self.sessions.contains_key(&link)
    }

    /// Open sessions.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// A handshake is through: steps (a) to (c) on the peer, then it has a session, as a guest.
    ///
    /// # Errors
    /// The denial, or that there are too many sessions; the place is not kept then.
    pub fn admit(
        &mut self,
        out: &mut Outbox,
        now: Now,
        link: LinkId,
        accepted: Accepted,
    ) -> Result<(), NotAdmitted> {
        let Accepted {
            evidence,
            remote_static,
            sealed,
        } = accepted;
        let question = IdentityQuestion {
            project: &self.project.id,
            required: None,
            histories: &NoHistories,
            remote_static: &remote_static,
            now: now.wall(),
        };
        let peer = match verify_identity(&evidence, &question) {
            Ok(peer) => peer,
            Err(denial) => return Err(NotAdmitted::Denied(Box::new((denial, sealed)))),
        };
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(NotAdmitted::Full);
        }
        let id = peer.id();
        if let Some(oldest) = self.by_peer.in_the_way(id) {
            out.close(oldest, false, CloseReason::Replaced);
            self.on_closed(oldest);
        }
        self.by_peer.insert(id, link, now.mono);
        self.guests.push_back((now.mono + GUEST_TIME, link));
        self.sessions.insert(
            link,
            Session {
                sealed,
                peer,
                is_guest: true,
                waiting: 0,
                name: None,
                holds: None,
            },
        );
        out.expect_frame(link);
        out.deadline(link, now.mono, SESSION_DEAD, CloseReason::SessionDead);
        Ok(())
    }

    /// Closes the sessions of guests whose time is over, and asks for the next beacon.
    pub fn on_timer(&mut self, out: &mut Outbox, now: Now) {
        self.tell_those_out(out, now);
        self.ask_stamp(out, now);
        while let Some((until, link)) = self.guests.front().copied() {
            if until > now.mono {
                return;
            }
            self.guests.pop_front();
            if self
                .sessions
                .get(&link)
                .is_some_and(|session| session.is_guest)
            {
                out.close(link, true, CloseReason::NotAuthorized);
                self.on_closed(link);
            }
        }
    }

    /// When [`on_timer`](Self::on_timer) has something to do.
    pub fn next_timer(&self) -> Instant {
        let guests = self.guests.front();
        let guests = guests.map_or(Instant::FAR_FUTURE, |(until, _)| *until);
        guests.min(self.beacons.next_timer())
    }

    /// Guests that have been guests no longer since the last call.
    pub fn take_freed(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.freed)
    }

    /// A session's link is gone.
    pub fn on_closed(&mut self, link: LinkId) {
        if let Some(session) = self.sessions.remove(&link) {
            self.by_peer.remove(session.peer.id(), link);
            self.freed.extend(session.is_guest.then_some(link));
        }
    }

    /// A frame of a session.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else comes is out of turn"
    )]
    pub fn on_frame(&mut self, out: &mut Outbox, now: Now, link: LinkId, frame: &[u8]) {
        let Some(session) = self.sessions.get_mut(&link) else {
            return;
        };
        let (request, message) = match session.sealed.open(frame) {
            Ok(opened) => opened,
            Err(error) => return self.break_off(out, link, &error),
        };
        out.deadline(link, now.mono, SESSION_DEAD, CloseReason::SessionDead);
        let reply = match message {
            Message::Ping => Message::Pong,
            Message::Time { nonce } => Message::TimeIs {
                nonce,
                unix_millis: now.wall_millis,
            },
            Message::GetProject => Message::Project {
                note: self.note.encode(),
            },
            Message::GetRevocations { offset } if !session.is_guest => self.beacons.part(offset),
            Message::Holds { number, cut } if !session.is_guest => {
                session.holds = Some((number, cut));
                Message::Pong
            }
            Message::Redeem {
                ticket,
                secret,
                wish,
            } => {
                let redeem = Redeem {
                    ticket,
                    secret_hash: secret.hash(&ticket),
                    wish,
                    id: session.peer.id(),
                    identity: session.peer.identity().encode(),
                    now: now.wall(),
                    life: self.credential_life,
                };
                return self.ask(out, link, request, StoreRequest::Redeem(Box::new(redeem)));
            }
            Message::Renew => {
                let renew = Renew {
                    id: session.peer.id(),
                    identity: session.peer.identity().encode(),
                    now: now.wall(),
                    life: self.credential_life,
                };
                return self.ask(out, link, request, StoreRequest::Renew(Box::new(renew)));
            }
            _ => return self.break_off(out, link, &SessionError::Violation),
        };
        self.reply(out, link, request, reply);
    }

    fn ask(&mut self, out: &mut Outbox, link: LinkId, request: RequestNo, asked: StoreRequest) {
        let Some(session) = self.sessions.get_mut(&link) else {
            return;
        };
        // Who has not shown that it is a member must not use up what members need.
        let most = if session.is_guest {
            GUEST_REQUESTS_MAX
        } else {
            SESSION_REQUESTS_MAX
        };
        if session.waiting >= most || self.pending.len() >= STORE_REQUESTS_MAX {
            let busy = Message::Refused(Refusal::new(Problem::AuthorityBusy));
            return self.reply(out, link, request, busy);
        }
        session.waiting += 1;
        let identity = session.peer.identity().clone();
        let no = out.store(asked);
        self.pending.insert(
            no,
            Pending {
                link,
                request,
                identity,
            },
        );
        out.expect_frame(link);
    }

    fn reply(&mut self, out: &mut Outbox, link: LinkId, request: RequestNo, message: Message) {
        let Some(session) = self.sessions.get_mut(&link) else {
            return;
        };
        match session.sealed.seal(request, message) {
            Ok(frame) => out.send_frame(link, frame),
            Err(error) => self.break_off(out, link, &error),
        }
    }

    fn break_off(&mut self, out: &mut Outbox, link: LinkId, error: &SessionError) {
        out.close(link, false, error.close_reason());
        let peer = self.sessions.get(&link).map(|session| session.peer.id());
        let record = LogRecord::new(Level::Warn, "an authority session was broken off")
            .code(error.code())
            .with("why", error);
        out.log(
            peer.into_iter()
                .fold(record, |record, peer| record.with("peer", peer)),
        );
        self.on_closed(link);
    }

    /// Ends all sessions, so that their nodes begin new ones.
    pub fn begin_anew(&mut self, out: &mut Outbox) {
        self.end_sessions(out, CloseReason::Replaced);
    }

    /// Ends all sessions for good.
    pub fn stop(&mut self, out: &mut Outbox) {
        self.end_sessions(out, CloseReason::Stopping);
    }

    fn end_sessions(&mut self, out: &mut Outbox, why: CloseReason) {
        for (link, session) in std::mem::take(&mut self.sessions) {
            out.close(link, true, why);
            self.freed.extend(session.is_guest.then_some(link));
        }
        self.by_peer.clear();
        self.guests.clear();
    }
}
