//! Each step of the check, taken alone, fails with its own denial; with all in place it passes.

mod credential;
mod evidence;
mod identity;
mod member;
mod pass;

use super::*;
use crate::attestation::{Attestation, Purpose};
use crate::credential::{Connect, CredentialBody, issue};
use crate::identity::IdentitySecret;
use crate::random::SeededRandom;
use crate::statics::{StaticKeypair, StaticPublic};

const NOW: UnixTime = UnixTime(1_000_000);
const ADDRESS: &str = "postgres";

fn secret(seed: u64) -> IdentitySecret {
    IdentitySecret::create(&mut SeededRandom::new(seed))
}

fn static_key(seed: u64) -> StaticPublic {
    StaticKeypair::generate(&mut SeededRandom::new(seed)).public()
}

fn address(text: &str) -> RelayAddress {
    text.parse().expect("a relay address")
}

/// An authority and a node with everything in order; each test breaks one thing.
struct World {
    authority: IdentitySecret,
    node: IdentitySecret,
    body: CredentialBody,
}

impl World {
    fn new() -> World {
        let (authority, node) = (secret(1), secret(2));
        let mut attributes = Attributes::new();
        let (name, value) = ("postgres-outlet".parse(), "true".parse());
        attributes
            .insert(name.expect("a name"), value.expect("a value"))
            .expect("room for one attribute");
        let mark = node.identity().mark();
        let body = CredentialBody {
            project: authority.id(),
            subject: node.id(),
            history_head: mark.head,
            history_len: mark.len,
            serial: 7,
            name: "bank-outlet".parse().expect("a name"),
            attributes,
            roles: Roles::MEMBER,
            may_serve: vec![address(ADDRESS)],
            may_connect: Connect::Only(vec![]),
            not_before: NOW.minus(60),
            not_after: NOW.plus(600),
            authority_key: 0,
        };
        World {
            authority,
            node,
            body,
        }
    }

    fn attest(&self, purpose: Purpose) -> Attestation {
        self.node
            .attest(
                &self.authority.id(),
                &static_key(5),
                purpose,
                NOW.minus(60),
                NOW.plus(3_600),
            )
            .expect("an hour is not too long")
    }

    fn credential_evidence(&self) -> Evidence {
        let (credential, _) = issue(&self.authority, self.body.clone()).expect("issued");
        Evidence {
            identity: self.node.identity().clone(),
            attestation: self.attest(Purpose::Circuit),
            grant: Grant::Credential(Box::new(credential)),
        }
    }

    fn pass_evidence(&self) -> Evidence {
        let (_, pass) = issue(&self.authority, self.body.clone()).expect("issued");
        Evidence {
            identity: self.node.identity().clone(),
            attestation: self.attest(Purpose::RelaySession),
            grant: Grant::Pass(Box::new(pass)),
        }
    }

    fn trusted(&self) -> TrustedAuthority {
        TrustedAuthority::new(self.authority.identity().clone(), UnixTime(0))
    }
}

/// Holds one mark, of one id.
struct Holds(Id, HistoryMark);

impl Histories for Holds {
    fn held(&self, id: &Id) -> Option<HistoryMark> {
        (*id == self.0).then_some(self.1)
    }
}

/// Says the same of everybody.
struct Always(Standing);

impl Revocation for Always {
    fn standing(&self, _id: &Id, _serial: u64, _now: UnixTime) -> Standing {
        self.0
    }
}

/// Allows whoever has `postgres-outlet=true`.
struct WantsOutlet;

impl Policy for WantsOutlet {
    fn decide(&self, member: &MemberView<'_>) -> Result<(), PolicyDenial> {
        let value = member.attributes.get("postgres-outlet");
        if value.is_some_and(|value| value.as_str() == "true") {
            return Ok(());
        }
        let reason = format!("{} lacks postgres-outlet=true", member.name);
        Err(PolicyDenial {
            rule: "allow 1".into(),
            reason,
        })
    }
}

/// The step and the reason of a check that must fail.
fn denied<T: std::fmt::Debug>(result: Result<T, Denial>) -> (Step, Reason) {
    let denial = result.expect_err("the check passed");
    (denial.step(), denial.reason().clone())
}

#[test]
fn every_reason_has_a_code_of_its_own_in_the_range_of_its_step() {
    use crate::identity::HistoryFault;
    let policy = PolicyDenial {
        rule: "r".into(),
        reason: "x".into(),
    };
    let reasons = [
        (Step::Identity, Reason::OtherIdentity),
        (Step::Identity, Reason::History(HistoryFault::Shorter)),
        (Step::Identity, Reason::History(HistoryFault::Forked)),
        (Step::Identity, Reason::CredentialHistory),
        (Step::Attestation, Reason::AttestationSignature),
        (Step::Attestation, Reason::AttestationId),
        (Step::Attestation, Reason::AttestationProject),
        (
            Step::Attestation,
            Reason::AttestationPurpose(Purpose::Circuit),
        ),
        (Step::Attestation, Reason::AttestationSpan),
        (Step::Attestation, Reason::AttestationEarly(1)),
        (Step::Attestation, Reason::AttestationExpired(1)),
        (Step::StaticKey, Reason::StaticKey),
        (Step::Credential, Reason::NoCredential),
        (Step::Credential, Reason::AuthorityKey(1)),
        (Step::Credential, Reason::CredentialSignature),
        (Step::Credential, Reason::CredentialProject),
        (Step::Credential, Reason::CredentialSubject),
        (Step::Credential, Reason::CredentialSpan),
        (Step::Credential, Reason::CredentialEarly(1)),
        (Step::Credential, Reason::CredentialExpired(1)),
        (Step::Credential, Reason::Role(Roles::RELAY)),
        (Step::Permission, Reason::MayNotServe(address("a"))),
        (Step::Permission, Reason::MayNotConnect(address("a"))),
        (Step::Permission, Reason::Revoked),
        (Step::Permission, Reason::RevocationStale(1)),
        (Step::Policy, Reason::Policy(policy)),
    ];
    let mut codes = std::collections::BTreeSet::new();
    for (step, reason) in reasons {
        let denial = Denial::new(reason);
        assert_eq!(denial.step(), step, "{denial}");
        assert!(codes.insert(denial.code()), "{} twice", denial.code());
        let text = denial.to_string();
        assert!(
            text.starts_with(&format!("denied at step {}: ", step.letter())),
            "{text}"
        );
    }
}
