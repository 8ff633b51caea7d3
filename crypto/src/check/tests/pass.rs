//! Steps (a) to (e) in a relay session.

use super::*;

fn ask(
    world: &World,
    evidence: &Evidence,
    part: SessionPart,
    standing: Standing,
) -> Result<VerifiedMember, Denial> {
    let question = PassQuestion {
        authority: &world.trusted(),
        histories: &NoHistories,
        remote_static: &static_key(5),
        now: NOW,
        part,
        revocation: &Always(standing),
    };
    verify_pass(evidence, &question)
}

fn relay_world() -> World {
    let mut world = World::new();
    world.body.roles = Roles::RELAY;
    world
}

#[test]
fn a_relay_believes_a_node_and_learns_neither_name_nor_attributes() {
    let world = World::new();
    let member = ask(
        &world,
        &world.pass_evidence(),
        SessionPart::Node,
        Standing::Good,
    );
    let member = member.expect("believed");
    assert_eq!(member.id(), world.node.id());
    assert_eq!(member.name(), None);
    assert_eq!(member.attributes(), None);
    assert_eq!(member.may_serve(), [address(ADDRESS)]);
    assert_eq!(*member.may_connect(), Connect::Only(vec![]));
}

#[test]
fn a_node_believes_a_relay() {
    let world = relay_world();
    let relay = ask(
        &world,
        &world.pass_evidence(),
        SessionPart::Relay,
        Standing::Good,
    );
    assert_eq!(relay.expect("believed").roles(), Roles::RELAY);
}

#[test]
fn a_member_is_no_relay_and_a_relay_no_member() {
    let world = World::new();
    let denial = denied(ask(
        &world,
        &world.pass_evidence(),
        SessionPart::Relay,
        Standing::Good,
    ));
    assert_eq!(denial, (Step::Credential, Reason::Role(Roles::MEMBER)));
    let world = relay_world();
    let denial = denied(ask(
        &world,
        &world.pass_evidence(),
        SessionPart::Node,
        Standing::Good,
    ));
    assert_eq!(denial, (Step::Credential, Reason::Role(Roles::RELAY)));
}

#[test]
fn evidence_for_a_circuit_is_worth_nothing_in_a_relay_session() {
    let world = World::new();
    let mut evidence = world.credential_evidence();
    let denial = denied(ask(&world, &evidence, SessionPart::Node, Standing::Good));
    assert_eq!(denial, (Step::Credential, Reason::NoCredential));
    evidence.grant = world.pass_evidence().grant;
    let denial = denied(ask(&world, &evidence, SessionPart::Node, Standing::Good));
    assert_eq!(
        denial,
        (
            Step::Attestation,
            Reason::AttestationPurpose(Purpose::Circuit)
        )
    );
}

#[test]
fn a_revoked_pass_is_denied() {
    let world = World::new();
    let evidence = world.pass_evidence();
    let denial = denied(ask(&world, &evidence, SessionPart::Node, Standing::Revoked));
    assert_eq!(denial, (Step::Permission, Reason::Revoked));
}

#[test]
fn a_pass_by_another_authority_is_denied() {
    let world = World::new();
    let mut other = World {
        authority: secret(66),
        ..World::new()
    };
    other.body.project = other.authority.id();
    let mut evidence = world.pass_evidence();
    evidence.grant = other.pass_evidence().grant;
    let denial = denied(ask(&world, &evidence, SessionPart::Node, Standing::Good));
    assert_eq!(denial, (Step::Credential, Reason::CredentialSignature));
}
