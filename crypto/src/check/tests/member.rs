//! Steps (a) to (c), (e) and (f) on a circuit; `credential` has step (d).

use super::*;
use crate::id::Id;
use crate::identity::HistoryFault;

/// What an inlet asks of the outlet, with one thing to change.
pub(super) struct Asked {
    pub(super) authority: TrustedAuthority,
    histories: Box<dyn Histories>,
    remote_static: StaticPublic,
    now: UnixTime,
    address: RelayAddress,
    direction: Direction,
    revocation: Always,
}

impl Asked {
    pub(super) fn of(world: &World) -> Asked {
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

    pub(super) fn verify(&self, evidence: &Evidence) -> Result<VerifiedMember, Denial> {
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
pub(super) fn changed(change: impl FnOnce(&mut World)) -> (Step, Reason) {
    let mut world = World::new();
    change(&mut world);
    denied(Asked::of(&world).verify(&world.credential_evidence()))
}

/// Asks about evidence after `change`, in an otherwise good world.
pub(super) fn shown(change: impl FnOnce(&World, &mut Evidence)) -> (Step, Reason) {
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
