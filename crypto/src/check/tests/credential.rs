//! Step (d) on a circuit: whose word counts, about whom, until when.

use super::member::{Asked, changed, shown};
use super::*;
use crate::identity::HistoryFault;

#[test]
fn no_credential_and_a_pass_in_its_place_are_denied() {
    let denial = shown(|_, evidence| evidence.grant = Grant::Nothing);
    assert_eq!(denial, (Step::Credential, Reason::NoCredential));
    let denial = shown(|world, evidence| evidence.grant = world.pass_evidence().grant);
    assert_eq!(denial, (Step::Credential, Reason::NoCredential));
}

#[test]
fn a_credential_by_another_authority_is_denied() {
    let mallory = secret(66);
    let world = World::new();
    let mut body = world.body.clone();
    body.project = mallory.id();
    let (credential, _) = issue(&mallory, body).expect("issued");
    let mut evidence = world.credential_evidence();
    evidence.grant = Grant::Credential(Box::new(credential));
    // The signature is what fails first: over Mallory's project, by Mallory's key.
    let denial = denied(Asked::of(&world).verify(&evidence));
    assert_eq!(denial, (Step::Credential, Reason::CredentialSignature));
}

#[test]
fn a_credential_of_another_project_is_denied_even_when_its_signature_fits() {
    // An authority can't issue one through `issue`; a verifier must not rely on that.
    let world = World::new();
    let forged = crate::credential::tests_only_forge(
        &world.authority,
        CredentialBody {
            project: Id([9; 32]),
            ..world.body.clone()
        },
    );
    let mut evidence = world.credential_evidence();
    evidence.grant = Grant::Credential(Box::new(forged));
    let denial = denied(Asked::of(&world).verify(&evidence));
    assert_eq!(denial, (Step::Credential, Reason::CredentialProject));
}

#[test]
fn a_credential_that_lives_too_long_is_denied() {
    let world = World::new();
    let forged = crate::credential::tests_only_forge(
        &world.authority,
        CredentialBody {
            not_after: NOW.plus(3_600),
            ..world.body.clone()
        },
    );
    let mut evidence = world.credential_evidence();
    evidence.grant = Grant::Credential(Box::new(forged));
    let denial = denied(Asked::of(&world).verify(&evidence));
    assert_eq!(denial, (Step::Credential, Reason::CredentialSpan));
}

#[test]
fn a_credential_about_another_member_is_denied() {
    let denial = changed(|world| world.body.subject = secret(3).id());
    assert_eq!(denial, (Step::Credential, Reason::CredentialSubject));
}

#[test]
fn a_credential_outside_its_time_is_denied() {
    let denial = changed(|world| world.body.not_after = NOW.minus(31));
    assert_eq!(denial, (Step::Credential, Reason::CredentialExpired(31)));
    let denial = changed(|world| world.body.not_before = NOW.plus(31));
    assert_eq!(denial, (Step::Credential, Reason::CredentialEarly(31)));
}

#[test]
fn a_relays_credential_never_passes_as_a_members() {
    let denial = changed(|world| world.body.roles = Roles::RELAY);
    assert_eq!(denial, (Step::Credential, Reason::Role(Roles::RELAY)));
    let denial = changed(|world| world.body.roles = Roles::ADMIN);
    assert_eq!(denial, (Step::Credential, Reason::Role(Roles::ADMIN)));
}

#[test]
fn the_authoritys_previous_key_is_accepted_for_one_credential_life() {
    let mut world = World::new();
    let evidence = world.credential_evidence();
    let mut asked = Asked::of(&world);
    world
        .authority
        .rotate(&mut SeededRandom::new(9))
        .expect("room");
    let since = NOW.minus(3_600);
    assert_eq!(
        asked.authority.adopt(world.authority.identity(), since),
        Ok(true)
    );
    assert!(
        asked.verify(&evidence).is_ok(),
        "the last second of the old key"
    );
    asked.authority = World::new().trusted();
    assert_eq!(
        asked
            .authority
            .adopt(world.authority.identity(), since.minus(1)),
        Ok(true)
    );
    assert_eq!(
        denied(asked.verify(&evidence)),
        (Step::Credential, Reason::AuthorityKey(0))
    );
    assert!(
        asked.verify(&world.credential_evidence()).is_ok(),
        "the new key"
    );
}

#[test]
fn the_key_before_the_previous_one_and_an_unseen_one_are_denied() {
    let mut world = World::new();
    let (old, seen) = (world.credential_evidence(), world.trusted());
    world
        .authority
        .rotate(&mut SeededRandom::new(8))
        .expect("room");
    let mut asked = Asked::of(&world);
    asked.authority = seen;
    let denial = denied(asked.verify(&world.credential_evidence()));
    assert_eq!(denial, (Step::Credential, Reason::AuthorityKey(1)));
    world
        .authority
        .rotate(&mut SeededRandom::new(9))
        .expect("room");
    assert_eq!(
        asked.authority.adopt(world.authority.identity(), NOW),
        Ok(true)
    );
    assert_eq!(
        denied(asked.verify(&old)),
        (Step::Credential, Reason::AuthorityKey(0))
    );
}

#[test]
fn a_trusted_authority_adopts_no_shorter_forked_or_other_history() {
    let mut longer = secret(1);
    longer.rotate(&mut SeededRandom::new(8)).expect("room");
    let mut forked = secret(1);
    forked.rotate(&mut SeededRandom::new(9)).expect("room");
    let mut trusted = TrustedAuthority::new(longer.identity().clone(), UnixTime(0));
    assert_eq!(
        trusted.adopt(secret(1).identity(), NOW),
        Err(HistoryFault::Shorter)
    );
    assert_eq!(
        trusted.adopt(forked.identity(), NOW),
        Err(HistoryFault::Forked)
    );
    assert_eq!(
        trusted.adopt(secret(3).identity(), NOW),
        Err(HistoryFault::Forked)
    );
    assert_eq!(trusted.adopt(longer.identity(), NOW), Ok(false));
    assert_eq!(trusted.previous_until(), UnixTime(0));
}
