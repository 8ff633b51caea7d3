//! The other end of a lane: checked at the handshake, and again whenever it renews its
//! credential.

use crypto::Id;
use crypto::check::{
    Denial, Direction, Evidence, EvidenceError, Histories, MemberQuestion, MemberView,
    PolicyDenial, Reason, VerifiedMember, verify_member,
};
use crypto::credential::Roles;
use crypto::identity::HistoryMark;
use crypto::names::{Attributes, Name, RelayAddress};
use crypto::statics::StaticPublic;

use super::exchange::Exchanges;
use crate::error::{CloseReason, Code};
use crate::ids::{BundleId, LinkId};
use crate::limits::{AUDITED_MAX, PEERS_SEEN_MAX};
use crate::protocol::command::{Command, LaneCommand};
use crate::protocol::core::io::{Level, LogRecord, Now};
use crate::protocol::core::membership::Membership;
use crate::protocol::core::node::{Node, denial_record};
use crate::protocol::core::revocations::{AsOf, RevokedMembers};
use crate::protocol::policy::{Effect, Policy};
use crate::time::Instant;

/// How a portal judges its peers.
pub struct Judge<'a> {
    /// The portal's own relay address.
    pub address: &'a RelayAddress,
    /// What the peer must be permitted to do with it.
    pub direction: Direction,
    /// The portal's policy.
    pub policy: &'a Policy,
}

impl Judge<'_> {
    /// The whole check, steps (a) to (f).
    pub fn check(
        &self,
        membership: &Membership,
        now: crypto::UnixTime,
        revocation: &AsOf<'_>,
        shown: &Evidence,
        key: &StaticPublic,
    ) -> Result<VerifiedMember, Denial> {
        let pinned = &membership.pinned;
        self.check_against(pinned, membership, now, revocation, shown, key)
    }

    /// The same, with other histories than those held of pinned peers.
    pub fn check_against(
        &self,
        histories: &dyn Histories,
        membership: &Membership,
        now: crypto::UnixTime,
        revocation: &AsOf<'_>,
        shown: &Evidence,
        key: &StaticPublic,
    ) -> Result<VerifiedMember, Denial> {
        let question = MemberQuestion {
            authority: &membership.authority,
            histories,
            remote_static: key,
            now,
            address: self.address,
            direction: self.direction,
            revocation,
            policy: self.policy,
        };
        verify_member(shown, &question)
    }
}

/// What a policy is asked about a peer that has passed the rest of the check.
struct Facts {
    name: Name,
    attributes: Attributes,
    roles: Roles,
}

impl Facts {
    /// `None` for who has shown no credential, and so was not checked for a portal.
    fn of(peer: &VerifiedMember) -> Option<Facts> {
        Some(Facts {
            name: peer.name()?.clone(),
            attributes: peer.attributes()?.clone(),
            roles: peer.roles(),
        })
    }
}

/// A lane with its peer.
pub struct Lane {
    /// The peer's id.
    pub peer: Id,
    /// Its name.
    pub name: String,
    /// The name on which the logs of both ends agree.
    pub bundle: BundleId,
    /// READY was sent or read.
    pub ready: bool,
    /// It takes no new streams any more.
    pub retiring: bool,
    /// Outlet: what it was told before it was ready, and may not have heard.
    pub unheard: Unheard,
    /// Its fresh key exchanges.
    pub exchanges: Exchanges,
    /// The history that the peer showed last on this lane.
    pub(super) shown: HistoryMark,
    serial: u64,
    static_key: StaticPublic,
    facts: Option<Facts>,
}

/// What a lane that was not ready yet was told. A worker drops commands for a link that is still on its
/// way to it, so they are said again once the lane is there.
#[derive(Clone, Copy, Default)]
pub struct Unheard {
    /// This node's credential was renewed.
    pub renewed: bool,
    /// It is to retire.
    pub retire: bool,
}

/// Why a renewed credential was not accepted.
enum RenewalError {
    Malformed(EvidenceError),
    Denied(Denial),
    OtherMember,
}

/// A lane was cut, for the peer was not accepted again.
pub struct NotAccepted {
    /// What apps and the other end are told.
    pub why: CloseReason,
    /// The code of the error …
    pub code: Code,
    /// … and its text.
    pub words: String,
}

impl Lane {
    /// A lane with a peer that has just passed the check.
    pub fn new(peer: &VerifiedMember, bundle: BundleId, exchanges: Exchanges) -> Lane {
        Lane {
            peer: peer.id(),
            name: peer_name(peer),
            bundle,
            ready: false,
            retiring: false,
            unheard: Unheard::default(),
            exchanges,
            shown: peer.identity().mark(),
            serial: peer.serial(),
            static_key: peer.static_key(),
            facts: Facts::of(peer),
        }
    }

    /// Asks the policy again about a peer that was checked before: the policy is another one, or it
    /// is another time. A peer that is allowed no longer is cut, and this returns false.
    pub fn review(&self, node: &mut Node, now: Now, link: LinkId, judge: &Judge<'_>) -> bool {
        let Err(denial) = self.ask(node, now, judge) else {
            self.log_audited(node, now, judge);
            return true;
        };
        let what = "a lane was cut: the policy does not allow the peer any more";
        let rule = denial.rule.clone();
        let reason = Reason::Policy(denial);
        let record = LogRecord::new(Level::Warn, what)
            .code(Code(reason.code()))
            .with("why", reason)
            .with("rule", rule)
            .with("address", judge.address)
            .with("peer", self.peer)
            .with("peer_name", &self.name);
        node.deny(record);
        let what = LaneCommand::Cut(CloseReason::NotAuthorized);
        node.out.command(Command::Lane { link, what });
        false
    }

    fn view<'a>(&'a self, node: &Node, now: Now, judge: &Judge<'a>) -> Option<MemberView<'a>> {
        let facts = self.facts.as_ref()?;
        Some(MemberView {
            id: &self.peer,
            name: &facts.name,
            attributes: &facts.attributes,
            roles: facts.roles,
            address: judge.address,
            now: node.clock.now(now),
        })
    }

    /// The rule that allows its peer now, or why none does.
    pub fn explain(
        &self,
        node: &Node,
        now: Now,
        judge: &Judge<'_>,
    ) -> Result<String, PolicyDenial> {
        match self.view(node, now, judge) {
            Some(view) => judge.policy.explain(&view).map(ToString::to_string),
            None => self.ask(node, now, judge).map(|()| String::new()),
        }
    }

    fn ask(&self, node: &Node, now: Now, judge: &Judge<'_>) -> Result<(), PolicyDenial> {
        match self.view(node, now, judge) {
            Some(view) => crypto::check::Policy::decide(judge.policy, &view),
            None => Err(PolicyDenial {
                rule: "(none)".into(),
                reason: "the peer has shown no attributes".into(),
            }),
        }
    }

    /// Logs what rules in audit mode would have changed for this peer, which is allowed.
    pub fn log_audited(&self, node: &mut Node, now: Now, judge: &Judge<'_>) {
        let Some(view) = self.view(node, now, judge) else {
            return;
        };
        for audited in judge.policy.audit(&view, true) {
            debug_assert_eq!(audited.effect, Effect::Deny, "it is allowed already");
            let pair = (self.peer, audited.rule);
            if node.audited.len() >= AUDITED_MAX || node.audited.contains(&pair) {
                continue;
            }
            let what = "a rule in audit mode would have denied a peer";
            let record = LogRecord::new(Level::Warn, what)
                .with("why", audited.reason)
                .with("rule", &pair.1)
                .with("address", judge.address)
                .with("peer", self.peer)
                .with("peer_name", &self.name);
            node.audited.insert(pair);
            node.out.log(record);
        }
    }

    /// Whether its peer is a member no longer.
    pub fn is_revoked(&self, revoked: &RevokedMembers) -> bool {
        revoked.has(&self.peer, self.serial)
    }

    /// Cuts it, and says so in the log.
    pub fn cut(&self, node: &mut Node, link: LinkId, address: &RelayAddress, why: CloseReason) {
        let record = LogRecord::new(Level::Warn, format!("a lane was cut: {why}"))
            .code(why.code())
            .with("address", address)
            .with("peer", self.peer)
            .with("peer_name", &self.name)
            .with("bundle", format_args!("{:?}", self.bundle))
            .with("list", node.revocations.revoked().number());
        node.deny(record);
        let what = LaneCommand::Cut(why);
        node.out.command(Command::Lane { link, what });
    }

    /// The peer's CREDENTIAL arrived: the whole check again. Extends the permit.
    ///
    /// # Errors
    /// [`NotAccepted`]: it has cut the lane.
    pub fn on_credential(
        &mut self,
        node: &mut Node,
        now: Now,
        link: LinkId,
        judge: &Judge<'_>,
        bytes: &[u8],
    ) -> Result<(), NotAccepted> {
        let error = match self.recheck(node, now, judge, bytes) {
            Ok(Some((serial, not_after))) => {
                let what = LaneCommand::Extend { serial, not_after };
                node.out.command(Command::Lane { link, what });
                return Ok(());
            }
            // Not newer than the one that was checked: nothing to extend, nothing wrong.
            Ok(None) => return Ok(()),
            Err(error) => error,
        };
        let what = "a lane was cut: the peer's renewed credential is not accepted";
        let why = CloseReason::NotAuthorized;
        let (code, words) = match &error {
            RenewalError::Denied(denial) => (Code(denial.code()), denial.to_string()),
            RenewalError::Malformed(error) => (Code(error.code()), error.to_string()),
            RenewalError::OtherMember => (why.code(), "it is another member's".into()),
        };
        let record = match &error {
            RenewalError::Denied(denial) => denial_record(what, denial),
            RenewalError::Malformed(_) | RenewalError::OtherMember => {
                let record = LogRecord::new(Level::Warn, what);
                record.code(code).with("why", &words)
            }
        };
        node.deny(record.with("peer", self.peer).with("peer_name", &self.name));
        let what = LaneCommand::Cut(why);
        node.out.command(Command::Lane { link, what });
        Err(NotAccepted { why, code, words })
    }

    fn recheck(
        &mut self,
        node: &mut Node,
        now: Now,
        judge: &Judge<'_>,
        bytes: &[u8],
    ) -> Result<Option<(u64, Instant)>, RenewalError> {
        let shown = Evidence::decode(bytes).map_err(RenewalError::Malformed)?;
        if shown.identity.id() != self.peer {
            return Err(RenewalError::OtherMember);
        }
        let Some(membership) = &node.membership else {
            return Ok(None);
        };
        let time = node.clock.now(now);
        let peer = judge
            .check(
                membership,
                time,
                &node.revocations.as_of(now.mono),
                &shown,
                &self.static_key,
            )
            .map_err(RenewalError::Denied)?;
        Ok(self.renewed(node, now, judge, &peer))
    }

    /// What the peer has shown of itself, and was checked, counts from now on. Returns the serial and
    /// the end of its credential, if that is a newer one.
    pub(super) fn renewed(
        &mut self,
        node: &mut Node,
        now: Now,
        judge: &Judge<'_>,
        peer: &VerifiedMember,
    ) -> Option<(u64, Instant)> {
        self.static_key = peer.static_key();
        self.shown = peer.identity().mark();
        if peer.serial() <= self.serial {
            return None;
        }
        self.serial = peer.serial();
        self.name = peer_name(peer);
        self.facts = Facts::of(peer);
        remember(node, judge.policy, peer);
        self.log_audited(node, now, judge);
        Some((peer.serial(), permit_end(node, now, peer)))
    }
}

/// Until when what was verified of a peer holds, with the tolerance that the check granted.
pub fn permit_end(node: &Node, now: Now, peer: &VerifiedMember) -> Instant {
    let end = peer.expires().plus(crypto::limits::CLOCK_TOLERANCE);
    node.clock.instant_of(now, end)
}

/// The peer's name; every credential has one.
pub fn peer_name(peer: &VerifiedMember) -> String {
    peer.name().map(ToString::to_string).unwrap_or_default()
}

/// Keeps the history of a pinned peer, and logs a peer that was not seen before.
pub fn remember(node: &mut Node, policy: &Policy, peer: &VerifiedMember) {
    let id = peer.id();
    let pinned = policy.pins().any(|pin| pin == id);
    if let Some(membership) = node.membership.as_mut().filter(|_| pinned)
        && membership.pinned.remember(id, peer.identity().mark())
    {
        node.persist();
    }
    if node.seen.contains(&id) {
        return;
    }
    if node.seen.len() < PEERS_SEEN_MAX {
        node.seen.insert(id);
    }
    let record = LogRecord::new(
        Level::Info,
        "a peer was seen for the first time since the start",
    )
    .with("peer", id)
    .with("peer_name", peer_name(peer));
    node.out.log(record);
}
