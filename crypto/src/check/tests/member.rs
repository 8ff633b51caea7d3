//! Steps (a) to (f) on a circuit.

use super::*;
use crate::id::Id;
use crate::identity::HistoryFault;

/// What an inlet asks of the outlet, with one thing to change.
struct Asked {
    authority: TrustedAuthority,
    histories: Box<dyn Histories>,
    remote_static: StaticPublic,
    now: UnixTime,
    address: RelayAddress,
    direction: Direction,
    revocation: Always,
}

impl Asked {
    fn of(world: &World) -> Asked {
        Asked {
            authority: world.trusted(),
            histories: Box::new(NoHistories),
            remote_static: static_key(5),
            now: NOW,
            address: address(ADDRESS),
            direction: Direction::Serve,
            revocation: Always(Standing::Good),
        }
    }

    fn verify(&self, evidence: &Evidence) -> Result<VerifiedMember, Denial> {
        let question = MemberQuestion {
            authority: &self.authority,
            histories: &*self.histories,
            remote_static: &self.remote_static,
            now: self.now,
            address: &self.address,
            direction: self.direction,
            revocation: &self.revocation,
            policy: &WantsOutlet,
        };
        verify_member(evidence, &question)
    }
}

/// Asks about the world after `change`.
fn changed(change: impl FnOnce(&mut World)) -> (Step, Reason) {
    let mut world = World::new();
    change(&mut world);
    denied(Asked::of(&world).verify(&world.credential_evidence()))
}

/// Asks about evidence after `change`, in an otherwise good world.
fn shown(change: impl FnOnce(&World, &mut Evidence)) -> (Step, Reason) {
    let world = World::new();
    let mut evidence = world.credential_evidence();
    change(&world, &mut evidence);
    denied(Asked::of(&world).verify(&evidence))
}

/// Asks something else about good evidence.
fn asked(change: impl FnOnce(&World, &mut Asked)) -> (Step, Reason) {
    let world = World::new();
    let mut asked = Asked::of(&world);
    change(&world, &mut asked);
    denied(asked.verify(&world.credential_evidence()))
}

#[test]
fn with_everything_in_order_the_member_is_believed() {
    let world = World::new();
    let member = Asked::of(&world)
        .verify(&world.credential_evidence())
        .expect("believed");
    assert_eq!(member.id(), world.node.id());
    assert_eq!(member.serial(), 7);
    assert_eq!(member.roles(), Roles::MEMBER);
    assert_eq!(member.static_key(), static_key(5));
    assert_eq!(member.name().map(Name::as_str), Some("bank-outlet"));
    assert_eq!(member.attributes().map(Attributes::len), Some(1));
    assert_eq!(member.may_serve(), [address(ADDRESS)]);
    assert_eq!(member.credential_expires(), NOW.plus(600));
    assert_eq!(
        member.expires(),
        NOW.plus(600),
        "the credential ends before the attestation"
    );
}

#[test]
fn a_history_that_the_credential_does_not_name_is_denied() {
    let denial = changed(|world| world.node.rotate(&mut SeededRandom::new(9)).expect("room"));
    assert_eq!(denial, (Step::Identity, Reason::CredentialHistory));
    let denial = changed(|world| world.body.history_len = 1);
    assert_eq!(denial, (Step::Identity, Reason::CredentialHistory));
    let denial = changed(|world| world.body.history_head = [0; 32]);
    assert_eq!(denial, (Step::Identity, Reason::CredentialHistory));
}

#[test]
fn an_old_key_is_denied_by_whoever_saw_the_new_one() {
    for (fork, fault) in [
        (None, HistoryFault::Shorter),
        (Some(3), HistoryFault::Forked),
    ] {
        let mut rotated = secret(2);
        rotated.rotate(&mut SeededRandom::new(9)).expect("room");
        let held = Holds(rotated.id(), rotated.identity().mark());
        let mut world = World::new();
        if let Some(seed) = fork {
            world
                .node
                .rotate(&mut SeededRandom::new(seed))
                .expect("room");
            let mark = world.node.identity().mark();
            (world.body.history_head, world.body.history_len) = (mark.head, mark.len);
        }
        let mut asked = Asked::of(&world);
        asked.histories = Box::new(held);
        let denial = denied(asked.verify(&world.credential_evidence()));
        assert_eq!(denial, (Step::Identity, Reason::History(fault)));
    }
}

#[test]
fn an_attestation_of_another_identity_is_denied() {
    let denial = shown(|_, evidence| {
        let thief = World {
            node: secret(3),
            ..World::new()
        };
        evidence.attestation = thief.attest(Purpose::Circuit);
    });
    assert_eq!(denial, (Step::Attestation, Reason::AttestationId));
}

#[test]
fn an_attestation_by_a_key_that_was_given_up_is_denied() {
    let denial = shown(|world, evidence| {
        // By somebody else, and by the node's own key as it was before a rotation.
        let mut thief = World {
            node: secret(3),
            ..World::new()
        };
        evidence.attestation = thief.attest(Purpose::Circuit);
        thief.node = secret(2);
        assert_eq!(thief.node.id(), world.node.id());
    });
    assert_eq!(denial, (Step::Attestation, Reason::AttestationId));
    let mut world = World::new();
    let old = world.attest(Purpose::Circuit);
    world.node.rotate(&mut SeededRandom::new(9)).expect("room");
    let mark = world.node.identity().mark();
    (world.body.history_head, world.body.history_len) = (mark.head, mark.len);
    let evidence = Evidence {
        attestation: old,
        ..world.credential_evidence()
    };
    let denial = denied(Asked::of(&world).verify(&evidence));
    assert_eq!(denial, (Step::Attestation, Reason::AttestationSignature));
}

#[test]
fn an_attestation_for_another_project_is_denied() {
    let denial = shown(|world, evidence| {
        let (from, until) = (NOW.minus(60), NOW.plus(60));
        evidence.attestation = world
            .node
            .attest(&Id([9; 32]), &static_key(5), Purpose::Circuit, from, until)
            .expect("short");
    });
    assert_eq!(denial, (Step::Attestation, Reason::AttestationProject));
}

#[test]
fn an_attestation_for_another_purpose_is_denied() {
    for purpose in [Purpose::AuthoritySession, Purpose::RelaySession] {
        let denial = shown(|world, evidence| evidence.attestation = world.attest(purpose));
        assert_eq!(
            denial,
            (Step::Attestation, Reason::AttestationPurpose(purpose))
        );
    }
}

#[test]
fn an_attestation_outside_its_time_is_denied() {
    let span = |from, until| {
        shown(|world, evidence| {
            let project = world.authority.id();
            evidence.attestation = world
                .node
                .attest(&project, &static_key(5), Purpose::Circuit, from, until)
                .expect("a day");
        })
    };
    let denial = span(NOW.minus(100), NOW.minus(31));
    assert_eq!(denial, (Step::Attestation, Reason::AttestationExpired(31)));
    let denial = span(NOW.plus(31), NOW.plus(100));
    assert_eq!(denial, (Step::Attestation, Reason::AttestationEarly(31)));
}

#[test]
fn an_attestation_that_lives_too_long_is_denied() {
    let denial = shown(|world, evidence| {
        let mut body = world.attest(Purpose::Circuit).body().clone();
        body.not_after = body.not_before.plus(86_401);
        evidence.attestation = Attestation::sign(&world.node, body);
    });
    assert_eq!(denial, (Step::Attestation, Reason::AttestationSpan));
}

#[test]
fn a_static_key_that_is_not_the_attested_one_is_denied() {
    let denial = asked(|_, asked| asked.remote_static = static_key(6));
    assert_eq!(denial, (Step::StaticKey, Reason::StaticKey));
}

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
    let (credential, _) = credential::issue(&mallory, body).expect("issued");
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
    let forged = credential::tests_only_forge(
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
    let forged = credential::tests_only_forge(
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

#[test]
fn an_address_that_it_may_not_serve_is_denied() {
    let denial = asked(|_, asked| asked.address = address("postgres-staging"));
    assert_eq!(
        denial,
        (
            Step::Permission,
            Reason::MayNotServe(address("postgres-staging"))
        )
    );
}

#[test]
fn permission_to_serve_is_none_to_connect_nor_the_other_way_round() {
    let denial = asked(|_, asked| asked.direction = Direction::Connect);
    assert_eq!(
        denial,
        (Step::Permission, Reason::MayNotConnect(address(ADDRESS)))
    );
    let denial = changed(|world| {
        world.body.may_serve = vec![];
        world.body.may_connect = Connect::All;
    });
    assert_eq!(
        denial,
        (Step::Permission, Reason::MayNotServe(address(ADDRESS)))
    );
}

#[test]
fn an_inlet_that_may_connect_is_believed_by_the_outlet() {
    for connect in [Connect::All, Connect::Only(vec![address(ADDRESS)])] {
        let mut world = World::new();
        world.body.may_connect = connect;
        let mut asked = Asked::of(&world);
        asked.direction = Direction::Connect;
        assert!(asked.verify(&world.credential_evidence()).is_ok());
    }
}

#[test]
fn a_revoked_credential_and_a_stale_list_are_denied() {
    let denial = asked(|_, asked| asked.revocation = Always(Standing::Revoked));
    assert_eq!(denial, (Step::Permission, Reason::Revoked));
    let stale = Standing::Stale { age_s: 301 };
    let denial = asked(|_, asked| asked.revocation = Always(stale));
    assert_eq!(denial, (Step::Permission, Reason::RevocationStale(301)));
}

#[test]
fn a_missing_attribute_is_denied_by_policy() {
    let (step, reason) = changed(|world| world.body.attributes = Attributes::new());
    assert_eq!(step, Step::Policy);
    let Reason::Policy(denial) = reason else {
        unreachable!("{reason:?}")
    };
    assert_eq!(denial.reason, "bank-outlet lacks postgres-outlet=true");
}

#[test]
fn the_first_step_that_fails_is_the_answer() {
    // Everything is wrong at once; then one thing after the other is put right.
    let mut world = World::new();
    let mut asked = Asked::of(&world);
    asked.remote_static = static_key(6);
    asked.address = address("other");
    asked.revocation = Always(Standing::Revoked);
    world.body.attributes = Attributes::new();
    world.body.roles = Roles::ADMIN;
    world.body.history_len = 1;
    let mut evidence = world.credential_evidence();
    evidence.attestation = world.attest(Purpose::RelaySession);
    let step = |asked: &Asked, evidence: &Evidence| denied(asked.verify(evidence)).0;
    assert_eq!(step(&asked, &evidence), Step::Identity);
    world.body.history_len = 0;
    evidence.grant = world.credential_evidence().grant;
    assert_eq!(step(&asked, &evidence), Step::Attestation);
    evidence.attestation = world.attest(Purpose::Circuit);
    assert_eq!(step(&asked, &evidence), Step::StaticKey);
    asked.remote_static = static_key(5);
    assert_eq!(step(&asked, &evidence), Step::Credential);
    world.body.roles = Roles::MEMBER;
    evidence.grant = world.credential_evidence().grant;
    assert_eq!(step(&asked, &evidence), Step::Permission);
    asked.address = address(ADDRESS);
    asked.revocation = Always(Standing::Good);
    assert_eq!(step(&asked, &evidence), Step::Policy);
}
