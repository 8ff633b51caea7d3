//! A relay: who has a session, which addresses it serves, and the leg keys that its workers check
//! legs by. Legs themselves never come here; pairing is the worker's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crypto::attestation::Purpose;
use crypto::check::{
    Denial, Evidence, Grant, PassQuestion, SessionPart, TrustedAuthority, VerifiedMember,
    verify_pass,
};
use crypto::credential::{Connect, Pass};
use crypto::leg::LegKey;
use crypto::names::RelayAddress;
use crypto::statics::{StaticKeypair, StaticPublic};
use crypto::{Id, UnixTime};
use std::net::SocketAddr;
use zeroize::Zeroizing;

use super::by_peer::ByPeer;
use super::clock::AuthorityClock;
use super::io::{Level, LogRecord, Now};
use super::membership::Pinned;
use super::node::denial_record;
use super::outbox::Outbox;
use super::revocations::RevokedMembers;
use crate::error::{CloseReason, Problem};
use crate::ids::{AddressHash, LinkId, SessionId};
use crate::limits::{REVOKED_LEGS_END, SESSION_DEAD, SESSIONS_MAX};
use crate::protocol::command::{Command, ConnectSet, LegEntry, address_hash};
use crate::protocol::keyring::Keyring;
use crate::protocol::session::{Accepted, Message, Refusal, RequestNo, Sealed, SessionError};
use crate::time::Instant;

use super::authority::NotAdmitted;

/// What a relay needs to be one: its own pass, and whom it believes.
pub struct RelayGrant {
    /// The authority, and with it the project.
    pub authority: TrustedAuthority,
    /// Shown to nodes.
    pub pass: Pass,
}

struct Session {
    sealed: Sealed,
    member: VerifiedMember,
    evidence: Evidence,
    id: SessionId,
    key: LegKey,
    /// What the node says it serves, permitted or not.
    asked: Vec<RelayAddress>,
    ends: Instant,
}

impl Session {
    /// What it asked to serve, by whether its pass permits it.
    fn split(&self) -> (Vec<RelayAddress>, Vec<RelayAddress>) {
        let permitted = |address: &RelayAddress| self.member.may_serve().contains(address);
        self.asked.iter().cloned().partition(permitted)
    }
}

/// The relay's part of a server. See the module.
#[derive(Default)]
pub struct RelayCore {
    leg_address: Option<SocketAddr>,
    sessions: BTreeMap<LinkId, Session>,
    by_peer: ByPeer,
    by_id: BTreeMap<SessionId, LinkId>,
    /// When the pass of each session ends.
    ends: BTreeSet<(Instant, LinkId)>,
    /// Who is a member no longer.
    revoked: Arc<RevokedMembers>,
    /// Of those, whose legs end then.
    gone: VecDeque<(Instant, Id)>,
}

impl RelayCore {
    /// A relay without sessions. `leg_address` is where legs reach this very process, if not
    /// where sessions do.
    pub fn new(leg_address: Option<SocketAddr>) -> RelayCore {
        RelayCore {
            leg_address,
            ..RelayCore::default()
        }
    }

    /// What it shows in a handshake, and the key for it.
    pub fn shown<'k>(
        keyring: &'k mut Keyring,
        grant: &RelayGrant,
        now: UnixTime,
    ) -> (Evidence, &'k StaticKeypair) {
        let (project, purpose) = (grant.authority.project(), Purpose::RelaySession);
        let pass = Grant::Pass(Box::new(grant.pass.clone()));
        (
            keyring.evidence(&project, purpose, now, pass),
            keyring.pair(purpose),
        )
    }

    /// Whether this link is a session.
    pub fn owns(&self, link: LinkId) -> bool {
        self.sessions.contains_key(&link)
    }

    /// Open sessions.
    pub fn count(&self) -> usize {
        self.sessions.len()
    }

    /// Addresses that are served now, and by whom.
    pub fn served(&self) -> Vec<(RelayAddress, Vec<Id>)> {
        let mut served: BTreeMap<RelayAddress, BTreeSet<Id>> = BTreeMap::new();
        for session in self.sessions.values() {
            for address in session.split().0 {
                served
                    .entry(address)
                    .or_default()
                    .insert(session.member.id());
            }
        }
        served
            .into_iter()
            .map(|(address, ids)| (address, ids.into_iter().collect()))
            .collect()
    }

    /// A handshake is through: steps (a) to (e) on the node's pass, then it is welcome.
    ///
    /// # Errors
    /// The denial, or that there are too many sessions.
    pub fn admit(
        &mut self,
        out: &mut Outbox,
        now: Now,
        clock: &AuthorityClock,
        grant: &RelayGrant,
        link: LinkId,
        accepted: Accepted,
    ) -> Result<(), NotAdmitted> {
        let Accepted {
            evidence,
            remote_static,
            mut sealed,
        } = accepted;
        let time = clock.now(now);
        let member = match check_node(grant, &self.revoked, &evidence, &remote_static, time) {
            Ok(member) => member,
            Err(denial) => return Err(NotAdmitted::Denied(Box::new((denial, sealed)))),
        };
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(NotAdmitted::Full);
        }
        let peer = member.id();
        if let Some(oldest) = self.by_peer.in_the_way(peer) {
            out.close(oldest, false, CloseReason::Replaced);
            self.on_closed(out, oldest);
        }
        let id = SessionId(out.draw());
        let secret = Zeroizing::new(out.draw());
        let key = LegKey::from_secret(&secret);
        let leg_address = self.leg_address;
        let welcome = Message::Welcome {
            session: id,
            secret,
            leg_address,
        };
        let Ok(frame) = sealed.seal(RequestNo::UNASKED, welcome) else {
            return Err(NotAdmitted::Full);
        };
        let ends = pass_end(clock, now, &member);
        let session = Session {
            sealed,
            member,
            evidence,
            id,
            key,
            asked: Vec::new(),
            ends,
        };
        // The worker knows the key before the node can use it.
        publish(out, &session);
        self.by_peer.insert(peer, link, now.mono);
        self.by_id.insert(id, link);
        self.ends.insert((ends, link));
        self.sessions.insert(link, session);
        out.send_frame(link, frame);
        out.deadline(link, now.mono, SESSION_DEAD, CloseReason::SessionDead);
        Ok(())
    }

    /// Begins with the list that an earlier process held.
    pub fn know_revocations(&mut self, revoked: Arc<RevokedMembers>) {
        self.revoked = revoked;
    }

    /// There is a newer revocation list: sessions of members that it names end now. Their legs end a
    /// moment later, paired or not, so that the ends, which know why, come first and can say it.
    pub fn on_revocations(&mut self, out: &mut Outbox, now: Now, revoked: Arc<RevokedMembers>) {
        let sessions = self.sessions.iter();
        let ended: Vec<LinkId> = sessions
            .filter(|(_, session)| revoked.has(&session.member.id(), session.member.serial()))
            .map(|(link, _)| *link)
            .collect();
        for link in ended {
            if let Some(session) = self.sessions.get(&link) {
                let why = CloseReason::Revoked;
                let record = LogRecord::new(Level::Warn, format!("a relay session ended: {why}"))
                    .code(why.code())
                    .with("peer", session.member.id())
                    .with("list", revoked.number());
                out.log(record);
            }
            self.refuse(out, link, Problem::RelayDenied);
        }
        // Legs outlive their sessions: those of a member without one end too.
        let before = std::mem::replace(&mut self.revoked, revoked);
        let new = self.revoked.members().filter(|id| !before.names(id));
        let due = now.mono + REVOKED_LEGS_END;
        self.gone.extend(new.map(|id| (due, *id)));
    }

    /// Sessions of a member.
    pub fn sessions_of(&self, member: &Id) -> usize {
        self.by_peer.of(*member).count()
    }

    /// A session's link is gone.
    pub fn on_closed(&mut self, out: &mut Outbox, link: LinkId) {
        if let Some(session) = self.sessions.remove(&link) {
            self.by_peer.remove(session.member.id(), link);
            self.by_id.remove(&session.id);
            self.ends.remove(&(session.ends, link));
            out.command(Command::LegKeyGone {
                session: session.id,
            });
        }
    }

    /// A frame of a session.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else comes is out of turn"
    )]
    pub fn on_frame(
        &mut self,
        out: &mut Outbox,
        now: Now,
        clock: &AuthorityClock,
        grant: &RelayGrant,
        link: LinkId,
        frame: &[u8],
    ) {
        let Some(session) = self.sessions.get_mut(&link) else {
            return;
        };
        let (request, message) = match session.sealed.open(frame) {
            Ok(opened) => opened,
            Err(error) => return self.break_off(out, link, &error),
        };
        out.deadline(link, now.mono, SESSION_DEAD, CloseReason::SessionDead);
        match message {
            Message::Ping => self.reply(out, link, request, Message::Pong),
            Message::Serve { addresses } => {
                session.asked = addresses;
                publish(out, session);
                self.say_served(out, link, request);
            }
            Message::Denied { address, member } => {
                // It decides about the addresses that it serves, and about no others.
                let project = project_of(&session.evidence);
                let serves = session.split().0.into_iter().any(|served| {
                    project.is_some_and(|project| address_hash(&project, &served) == address)
                });
                if serves {
                    out.command(Command::MemberDenied { address, member });
                }
                self.reply(out, link, request, Message::Pong);
            }
            Message::PassRenewed { pass } => {
                match self.on_pass(out, now, clock, grant, link, &pass) {
                    Ok(()) => self.say_served(out, link, request),
                    Err(record) => {
                        out.log(record);
                        self.refuse(out, link, Problem::RelayDenied);
                    }
                }
            }
            _ => self.break_off(out, link, &SessionError::Violation),
        }
    }

    /// A newer pass: the check again.
    fn on_pass(
        &mut self,
        out: &mut Outbox,
        now: Now,
        clock: &AuthorityClock,
        grant: &RelayGrant,
        link: LinkId,
        pass: &[u8],
    ) -> Result<(), LogRecord> {
        let what = "a renewed pass was denied";
        let Some(session) = self.sessions.get_mut(&link) else {
            return Ok(());
        };
        let peer = session.member.id();
        let pass = Pass::decode(pass).map_err(|error| {
            let code = CloseReason::Malformed.code();
            LogRecord::new(Level::Warn, what)
                .code(code)
                .with("why", error)
                .with("peer", peer)
        })?;
        let mut evidence = session.evidence.clone();
        evidence.grant = Grant::Pass(Box::new(pass));
        let key = session.member.static_key();
        let member = check_node(grant, &self.revoked, &evidence, &key, clock.now(now))
            .map_err(|denial| denial_record(what, &denial).with("peer", peer))?;
        if member.serial() < session.member.serial() {
            return Ok(());
        }
        self.ends.remove(&(session.ends, link));
        session.ends = pass_end(clock, now, &member);
        session.member = member;
        session.evidence = evidence;
        self.ends.insert((session.ends, link));
        publish(out, session);
        Ok(())
    }

    fn say_served(&mut self, out: &mut Outbox, link: LinkId, request: RequestNo) {
        let Some(session) = self.sessions.get(&link) else {
            return;
        };
        let (accepted, refused) = session.split();
        for address in &refused {
            let problem = Problem::MayNotServe;
            let record = LogRecord::new(Level::Warn, "an address was refused")
                .code(problem.code())
                .with("address", address)
                .with("peer", session.member.id());
            out.log(record);
        }
        self.reply(out, link, request, Message::Served { accepted, refused });
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

    fn refuse(&mut self, out: &mut Outbox, link: LinkId, problem: Problem) {
        self.reply(
            out,
            link,
            RequestNo::UNASKED,
            Message::Refused(Refusal::new(problem)),
        );
        out.close(link, true, CloseReason::NotAuthorized);
        self.on_closed(out, link);
    }

    fn break_off(&mut self, out: &mut Outbox, link: LinkId, error: &SessionError) {
        out.close(link, false, error.close_reason());
        let peer = self.sessions.get(&link).map(|session| session.member.id());
        let record = LogRecord::new(Level::Warn, "a relay session was broken off")
            .code(error.code())
            .with("why", error);
        out.log(
            peer.into_iter()
                .fold(record, |record, peer| record.with("peer", peer)),
        );
        self.on_closed(out, link);
    }

    /// The worker is short of parked legs: tell the node.
    pub fn on_park_low(
        &mut self,
        out: &mut Outbox,
        id: SessionId,
        address: AddressHash,
        want: u16,
    ) {
        if let Some(link) = self.by_id.get(&id).copied() {
            let message = Message::ParkLow { address, want };
            self.reply(out, link, RequestNo::UNASKED, message);
        }
    }

    /// An address is served again that was not when the node asked for it: tell it.
    pub fn on_now_served(&mut self, out: &mut Outbox, id: SessionId, address: AddressHash) {
        if let Some(link) = self.by_id.get(&id).copied() {
            let message = Message::NowServed { address };
            self.reply(out, link, RequestNo::UNASKED, message);
        }
    }

    /// Ends the sessions whose pass is over, and the legs of who is a member no longer.
    pub fn on_timer(&mut self, out: &mut Outbox, now: Now) {
        while let Some((_, member)) = self.gone.pop_front_if(|(due, _)| *due <= now.mono) {
            out.command(Command::MemberGone { member });
        }
        while let Some((at, link)) = self.ends.first().copied() {
            if at > now.mono {
                return;
            }
            if let Some(session) = self.sessions.get(&link) {
                let what = "a relay session ended: the pass expired unrenewed";
                let code = CloseReason::PermitExpired.code();
                let record = LogRecord::new(Level::Warn, what).code(code);
                out.log(record.with("peer", session.member.id()));
            }
            self.refuse(out, link, Problem::CredentialExpired);
            self.ends.remove(&(at, link));
        }
    }

    /// When [`on_timer`](Self::on_timer) has something to do.
    pub fn next_timer(&self) -> Instant {
        let ends = self.ends.first().map_or(Instant::FAR_FUTURE, |(at, _)| *at);
        let gone = self.gone.front().map_or(Instant::FAR_FUTURE, |(at, _)| *at);
        ends.min(gone)
    }

    /// Tells all nodes, and ends all sessions.
    pub fn stop(&mut self, out: &mut Outbox) {
        let links: Vec<LinkId> = self.sessions.keys().copied().collect();
        for link in links {
            self.reply(out, link, RequestNo::UNASKED, Message::GoingAway);
            out.close(link, true, CloseReason::RelayGoingAway);
            self.on_closed(out, link);
        }
    }
}

fn check_node(
    grant: &RelayGrant,
    revoked: &RevokedMembers,
    shown: &Evidence,
    key: &StaticPublic,
    now: UnixTime,
) -> Result<VerifiedMember, Denial> {
    let question = PassQuestion {
        authority: &grant.authority,
        histories: &Pinned::default(),
        remote_static: key,
        now,
        part: SessionPart::Node,
        // Only availability is at stake here, so an old list is good enough.
        revocation: revoked,
    };
    verify_pass(shown, &question)
}

/// When what the pass permits is over, with the tolerance that the check granted.
fn pass_end(clock: &AuthorityClock, now: Now, member: &VerifiedMember) -> Instant {
    clock.instant_of(
        now,
        member
            .credential_expires()
            .plus(crypto::limits::CLOCK_TOLERANCE),
    )
}

/// Tells the worker what legs of this session may do.
fn publish(out: &mut Outbox, session: &Session) {
    let member = &session.member;
    let Some(project) = project_of(&session.evidence) else {
        return;
    };
    let hash = |address: &RelayAddress| address_hash(&project, address);
    let connect = match member.may_connect() {
        Connect::All => ConnectSet::All,
        Connect::Only(addresses) => ConnectSet::Only(addresses.iter().map(hash).collect()),
    };
    out.command(Command::LegKey(Box::new(LegEntry {
        session: session.id,
        key: session.key.clone(),
        member: member.id(),
        serve: session.split().0.iter().map(hash).collect(),
        connect,
        not_after: session.ends,
    })));
}

/// The project that was checked: the attestation's.
fn project_of(evidence: &Evidence) -> Option<Id> {
    match &evidence.grant {
        Grant::Pass(pass) => Some(pass.body().project),
        Grant::Nothing | Grant::Credential(_) => None,
    }
}
