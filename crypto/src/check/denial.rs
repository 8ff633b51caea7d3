//! Why a peer was not believed.

use super::PolicyDenial;
use crate::attestation::Purpose;
use crate::credential::Roles;
use crate::identity::HistoryFault;
use crate::names::RelayAddress;
use std::fmt;

/// A step of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// (a) the identity and its history.
    Identity,
    /// (b) the attestation.
    Attestation,
    /// (c) the static key.
    StaticKey,
    /// (d) the credential or pass.
    Credential,
    /// (e) address and revocation.
    Permission,
    /// (f) policy.
    Policy,
}

impl Step {
    /// Its letter in PROTOCOL.md.
    pub fn letter(self) -> char {
        match self {
            Step::Identity => 'a',
            Step::Attestation => 'b',
            Step::StaticKey => 'c',
            Step::Credential => 'd',
            Step::Permission => 'e',
            Step::Policy => 'f',
        }
    }
}

/// What a step found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// (a) Not the identity that was expected here.
    OtherIdentity,
    /// (a) The history does not follow the one that is held.
    History(HistoryFault),
    /// (a) The history is not the one that the credential names: the key changed since.
    CredentialHistory,
    /// (b) Signed by another key than the identity's last.
    AttestationSignature,
    /// (b) It attests for another id.
    AttestationId,
    /// (b) It is for another project.
    AttestationProject,
    /// (b) It is for another purpose.
    AttestationPurpose(Purpose),
    /// (b) It lives longer than 24 h or ends before it begins.
    AttestationSpan,
    /// (b) It begins in this many seconds.
    AttestationEarly(u64),
    /// (b) It ended this many seconds ago.
    AttestationExpired(u64),
    /// (c) The handshake used another static key than the attested one.
    StaticKey,
    /// (d) There is no credential or pass, or the other of the two.
    NoCredential,
    /// (d) Its authority key is not accepted: unknown, or replaced more than a life ago.
    AuthorityKey(u16),
    /// (d) The authority did not sign it.
    CredentialSignature,
    /// (d) It is for another project.
    CredentialProject,
    /// (d) It is about another member.
    CredentialSubject,
    /// (d) It lives longer than 1 h or ends before it begins.
    CredentialSpan,
    /// (d) It begins in this many seconds.
    CredentialEarly(u64),
    /// (d) It ended this many seconds ago.
    CredentialExpired(u64),
    /// (d) It lacks the role that this place needs.
    Role(Roles),
    /// (e) It does not permit serving this address.
    MayNotServe(RelayAddress),
    /// (e) It does not permit connecting to this address.
    MayNotConnect(RelayAddress),
    /// (e) It is revoked.
    Revoked,
    /// (e) The revocation list is too old: this many seconds.
    RevocationStale(u64),
    /// (f) The policy said no.
    Policy(PolicyDenial),
}

/// The first step that failed, and why. For the local log and audit; never for the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    reason: Reason,
}

impl Denial {
    pub(super) fn new(reason: Reason) -> Denial {
        Denial { reason }
    }

    /// What was found.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The step that failed.
    pub fn step(&self) -> Step {
        match self.code() / 10 {
            321 => Step::Identity,
            322 => Step::Attestation,
            323 => Step::StaticKey,
            324 => Step::Credential,
            325 => Step::Permission,
            _ => Step::Policy,
        }
    }

    /// The number in `ADIT-…`: stable for ever, the tens digit telling the step.
    pub fn code(&self) -> u16 {
        self.reason.code()
    }
}

impl Reason {
    /// The number in `ADIT-…`: stable for ever, the tens digit telling the step.
    pub fn code(&self) -> u16 {
        match self {
            Reason::OtherIdentity => 3210,
            Reason::History(HistoryFault::Shorter) => 3211,
            Reason::History(HistoryFault::Forked) => 3212,
            Reason::CredentialHistory => 3213,
            Reason::AttestationSignature => 3220,
            Reason::AttestationId => 3221,
            Reason::AttestationProject => 3222,
            Reason::AttestationPurpose(_) => 3223,
            Reason::AttestationSpan => 3224,
            Reason::AttestationEarly(_) => 3225,
            Reason::AttestationExpired(_) => 3226,
            Reason::StaticKey => 3230,
            Reason::NoCredential => 3240,
            Reason::AuthorityKey(_) => 3241,
            Reason::CredentialSignature => 3242,
            Reason::CredentialProject => 3243,
            Reason::CredentialSubject => 3244,
            Reason::CredentialSpan => 3245,
            Reason::CredentialEarly(_) => 3246,
            Reason::CredentialExpired(_) => 3247,
            Reason::Role(_) => 3248,
            Reason::MayNotServe(_) => 3250,
            Reason::MayNotConnect(_) => 3251,
            Reason::Revoked => 3252,
            Reason::RevocationStale(_) => 3253,
            Reason::Policy(_) => 3260,
        }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "denied at step {}: {}",
            self.step().letter(),
            self.reason
        )
    }
}

impl std::error::Error for Denial {}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::OtherIdentity => f.write_str("it is not the identity expected here"),
            Reason::History(fault) => fault.fmt(f),
            Reason::CredentialHistory => {
                f.write_str("its key history is not the one its credential names")
            }
            Reason::AttestationSignature => {
                f.write_str("its attestation is not signed by its current key")
            }
            Reason::AttestationId => f.write_str("its attestation is another identity's"),
            Reason::AttestationProject => f.write_str("its attestation is for another project"),
            Reason::AttestationPurpose(purpose) => {
                write!(f, "its attestation is for another purpose ({purpose})")
            }
            Reason::AttestationSpan => f.write_str("its attestation lives longer than 24 h"),
            Reason::AttestationEarly(s) => write!(f, "its attestation begins in {s} s"),
            Reason::AttestationExpired(s) => write!(f, "its attestation expired {s} s ago"),
            Reason::StaticKey => f.write_str("it used another key than the attested one"),
            Reason::NoCredential => f.write_str("it showed no credential of the kind needed here"),
            Reason::AuthorityKey(index) => {
                write!(
                    f,
                    "its credential names authority key {index}, which is not accepted"
                )
            }
            Reason::CredentialSignature => {
                f.write_str("its credential is not signed by the authority")
            }
            Reason::CredentialProject => f.write_str("its credential is for another project"),
            Reason::CredentialSubject => f.write_str("its credential is another member's"),
            Reason::CredentialSpan => f.write_str("its credential lives longer than 1 h"),
            Reason::CredentialEarly(s) => write!(f, "its credential begins in {s} s"),
            Reason::CredentialExpired(s) => write!(f, "its credential expired {s} s ago"),
            Reason::Role(roles) => write!(f, "its roles ({roles}) do not fit here"),
            Reason::MayNotServe(address) => write!(f, "it may not serve {address}"),
            Reason::MayNotConnect(address) => write!(f, "it may not connect to {address}"),
            Reason::Revoked => f.write_str("its credential is revoked"),
            Reason::RevocationStale(age_s) => {
                write!(f, "no word on revocations from the authority for {age_s} s")
            }
            Reason::Policy(denial) => write!(f, "policy {}: {}", denial.rule, denial.reason),
        }
    }
}
