//! Steps (a) to (f), in order.

use super::denial::Reason;
use super::{
    Denial, Evidence, Grant, Histories, MemberView, Policy, Revocation, Standing, TrustedAuthority,
    VerifiedIdentity, VerifiedMember,
};
use crate::attestation::{Attestation, Purpose};
use crate::credential::{PassBody, Roles};
use crate::id::Id;
use crate::identity::{HistoryMark, Identity};
use crate::limits::{ATTESTATION_LIFE_MAX, CREDENTIAL_LIFE_MAX};
use crate::names::RelayAddress;
use crate::sign::{BadSignature, PublicKey};
use crate::statics::StaticPublic;
use crate::time::{UnixTime, ValidityFault};

/// What a verifier asks in an authority session.
pub struct IdentityQuestion<'a> {
    /// The project of this session.
    pub project: &'a Id,
    /// Who must be there: a node requires the authority, with a history that follows what it
    /// holds (at first, its ticket's mark). The authority takes anybody: `None`.
    pub required: Option<(Id, HistoryMark)>,
    /// What is held of others: the authority's store of nodes.
    pub histories: &'a dyn Histories,
    /// The static key that the handshake used.
    pub remote_static: &'a StaticPublic,
    /// Authority time.
    pub now: UnixTime,
}

/// What a verifier asks of the other end of a circuit.
pub struct MemberQuestion<'a> {
    /// The authority, and with it the project.
    pub authority: &'a TrustedAuthority,
    /// What is held of pinned peers.
    pub histories: &'a dyn Histories,
    /// The static key that the handshake used.
    pub remote_static: &'a StaticPublic,
    /// Authority time.
    pub now: UnixTime,
    /// The relay address of the verifier's *own* request, as in its prologue.
    pub address: &'a RelayAddress,
    /// What the peer must be permitted to do with it.
    pub direction: Direction,
    /// The revocation list.
    pub revocation: &'a dyn Revocation,
    /// The verifier's own policy.
    pub policy: &'a dyn Policy,
}

/// What a peer does with the address of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It serves it: an inlet asks this of the outlet.
    Serve,
    /// It connects to it: an outlet asks this of the inlet.
    Connect,
}

/// What a verifier asks in a relay session.
pub struct PassQuestion<'a> {
    /// The authority, and with it the project.
    pub authority: &'a TrustedAuthority,
    /// What is held of pinned peers.
    pub histories: &'a dyn Histories,
    /// The static key that the handshake used.
    pub remote_static: &'a StaticPublic,
    /// Authority time.
    pub now: UnixTime,
    /// What the peer must be.
    pub part: SessionPart,
    /// The revocation list.
    pub revocation: &'a dyn Revocation,
}

/// Which end of a relay session the peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionPart {
    /// The relay: a node asks this.
    Relay,
    /// A member's node: the relay asks this.
    Node,
}

fn deny<T>(reason: Reason) -> Result<T, Denial> {
    Err(Denial::new(reason))
}

/// Steps (a) to (c), for authority sessions.
///
/// # Errors
/// [`Denial`] of the first step that failed.
pub fn verify_identity(
    evidence: &Evidence,
    question: &IdentityQuestion<'_>,
) -> Result<VerifiedIdentity, Denial> {
    let identity = &evidence.identity;
    if let Some((id, held)) = &question.required {
        if identity.id() != *id {
            return deny(Reason::OtherIdentity);
        }
        follow(identity, Some(*held))?;
    }
    follow(identity, question.histories.held(&identity.id()))?;
    let session = Session {
        project: *question.project,
        purpose: Purpose::AuthoritySession,
        remote_static: question.remote_static,
        now: question.now,
    };
    session.attested(identity, &evidence.attestation)
}

/// Steps (a) to (f), for circuits.
///
/// # Errors
/// [`Denial`] of the first step that failed.
pub fn verify_member(
    evidence: &Evidence,
    question: &MemberQuestion<'_>,
) -> Result<VerifiedMember, Denial> {
    let Grant::Credential(credential) = &evidence.grant else {
        return deny(Reason::NoCredential);
    };
    let body = credential.body();
    let member = granted(
        evidence,
        &Session {
            project: question.authority.project(),
            purpose: Purpose::Circuit,
            remote_static: question.remote_static,
            now: question.now,
        },
        question.authority,
        question.histories,
        body.to_pass(),
        |key| credential.verify(key),
        |roles| roles.has(Roles::MEMBER),
    )?;
    match question.direction {
        Direction::Serve if !body.may_serve.contains(question.address) => {
            return deny(Reason::MayNotServe(question.address.clone()));
        }
        Direction::Connect if !body.may_connect.permits(question.address) => {
            return deny(Reason::MayNotConnect(question.address.clone()));
        }
        Direction::Serve | Direction::Connect => {}
    }
    not_revoked(&member, question.revocation, question.now)?;
    let view = MemberView {
        id: &body.subject,
        name: &body.name,
        attributes: &body.attributes,
        roles: body.roles,
        address: question.address,
        now: question.now,
    };
    let decision = question.policy.decide(&view);
    #[cfg(feature = "planted")]
    let decision = decision.or_else(|denial| {
        let skipped = crate::planted::is(crate::planted::Bug::SkippedCheck);
        if skipped { Ok(()) } else { Err(denial) }
    });
    decision.map_err(|denial| Denial::new(Reason::Policy(denial)))?;
    Ok(VerifiedMember {
        named: Some((body.name.clone(), body.attributes.clone())),
        ..member
    })
}

/// Steps (a) to (e) with a pass, for relay sessions. Which addresses the member may use is asked
/// later, leg by leg.
///
/// # Errors
/// [`Denial`] of the first step that failed.
pub fn verify_pass(
    evidence: &Evidence,
    question: &PassQuestion<'_>,
) -> Result<VerifiedMember, Denial> {
    let Grant::Pass(pass) = &evidence.grant else {
        return deny(Reason::NoCredential);
    };
    let member = granted(
        evidence,
        &Session {
            project: question.authority.project(),
            purpose: Purpose::RelaySession,
            remote_static: question.remote_static,
            now: question.now,
        },
        question.authority,
        question.histories,
        pass.body().clone(),
        |key| pass.verify(key),
        |roles| match question.part {
            SessionPart::Relay => roles == Roles::RELAY,
            SessionPart::Node => roles.has(Roles::MEMBER),
        },
    )?;
    not_revoked(&member, question.revocation, question.now)?;
    Ok(member)
}

/// What steps (b) and (c) compare with.
struct Session<'a> {
    project: Id,
    purpose: Purpose,
    remote_static: &'a StaticPublic,
    now: UnixTime,
}

impl Session<'_> {
    /// Steps (b) and (c).
    fn attested(
        &self,
        identity: &Identity,
        attestation: &Attestation,
    ) -> Result<VerifiedIdentity, Denial> {
        let body = attestation.body();
        if body.id != identity.id() {
            return deny(Reason::AttestationId);
        }
        if attestation.verify(identity.key()).is_err() {
            return deny(Reason::AttestationSignature);
        }
        if body.project != self.project {
            return deny(Reason::AttestationProject);
        }
        if body.purpose != self.purpose {
            return deny(Reason::AttestationPurpose(body.purpose));
        }
        match attestation.validity().judge(self.now, ATTESTATION_LIFE_MAX) {
            Ok(()) => {}
            Err(ValidityFault::Span) => return deny(Reason::AttestationSpan),
            Err(ValidityFault::Early(s)) => return deny(Reason::AttestationEarly(s)),
            Err(ValidityFault::Late(s)) => return deny(Reason::AttestationExpired(s)),
        }
        if body.static_key != *self.remote_static {
            return deny(Reason::StaticKey);
        }
        Ok(VerifiedIdentity {
            identity: identity.clone(),
            static_key: body.static_key,
            expires: body.not_after,
        })
    }
}

/// Step (a) against what is held.
fn follow(identity: &Identity, held: Option<HistoryMark>) -> Result<(), Denial> {
    match held.map(|held| identity.follows(&held)) {
        None | Some(Ok(())) => Ok(()),
        Some(Err(fault)) => deny(Reason::History(fault)),
    }
}

/// Steps (a) to (d).
fn granted(
    evidence: &Evidence,
    session: &Session<'_>,
    authority: &TrustedAuthority,
    histories: &dyn Histories,
    grant: PassBody,
    signed_by: impl FnOnce(&PublicKey) -> Result<(), BadSignature>,
    role_fits: impl FnOnce(Roles) -> bool,
) -> Result<VerifiedMember, Denial> {
    let identity = &evidence.identity;
    follow(identity, histories.held(&identity.id()))?;
    if identity.mark()
        != (HistoryMark {
            head: grant.history_head,
            len: grant.history_len,
        })
    {
        return deny(Reason::CredentialHistory);
    }
    let identity = session.attested(identity, &evidence.attestation)?;
    let Some(key) = authority.accepted_key(grant.authority_key, session.now) else {
        return deny(Reason::AuthorityKey(grant.authority_key));
    };
    if signed_by(key).is_err() {
        return deny(Reason::CredentialSignature);
    }
    if grant.project != session.project {
        return deny(Reason::CredentialProject);
    }
    if grant.subject != identity.id() {
        return deny(Reason::CredentialSubject);
    }
    match grant.validity().judge(session.now, CREDENTIAL_LIFE_MAX) {
        Ok(()) => {}
        Err(ValidityFault::Span) => return deny(Reason::CredentialSpan),
        Err(ValidityFault::Early(s)) => return deny(Reason::CredentialEarly(s)),
        Err(ValidityFault::Late(s)) => return deny(Reason::CredentialExpired(s)),
    }
    if !role_fits(grant.roles) {
        return deny(Reason::Role(grant.roles));
    }
    Ok(VerifiedMember {
        identity,
        grant,
        named: None,
    })
}

/// The half of step (e) that every grant needs.
fn not_revoked(
    member: &VerifiedMember,
    revocation: &dyn Revocation,
    now: UnixTime,
) -> Result<(), Denial> {
    match revocation.standing(&member.id(), member.serial(), now) {
        Standing::Good => Ok(()),
        Standing::Revoked => deny(Reason::Revoked),
        Standing::Stale { age_s } => deny(Reason::RevocationStale(age_s)),
    }
}
