//! Steps (a) to (c) in an authority session, at both ends.

use super::*;
use crate::identity::HistoryFault;

/// Evidence of `who` for `project`, and the verdict of whoever requires this.
fn ask(
    who: &IdentitySecret,
    project: &Id,
    required: Option<(Id, HistoryMark)>,
    histories: &dyn Histories,
) -> Result<VerifiedIdentity, Denial> {
    let (from, until) = (NOW.minus(60), NOW.plus(60));
    let attestation = who
        .attest(
            project,
            &static_key(5),
            Purpose::AuthoritySession,
            from,
            until,
        )
        .expect("short");
    let evidence = Evidence {
        identity: who.identity().clone(),
        attestation,
        grant: Grant::Nothing,
    };
    let question = IdentityQuestion {
        project,
        required,
        histories,
        remote_static: &static_key(5),
        now: NOW,
    };
    verify_identity(&evidence, &question)
}

fn rotated(mut who: IdentitySecret, seed: u64) -> IdentitySecret {
    who.rotate(&mut SeededRandom::new(seed)).expect("room");
    who
}

#[test]
fn a_node_believes_the_authority_of_its_ticket_and_any_history_that_goes_on_from_it() {
    let authority = secret(1);
    let (project, ticket) = (authority.id(), authority.identity().mark());
    for who in [secret(1), rotated(secret(1), 9)] {
        let verified = ask(&who, &project, Some((project, ticket)), &NoHistories);
        let verified = verified.expect("believed");
        assert_eq!(verified.id(), project);
        assert_eq!(verified.identity(), who.identity());
        assert_eq!(verified.static_key(), static_key(5));
        assert_eq!(verified.expires(), NOW.plus(60));
    }
}

#[test]
fn a_relay_that_answers_enrollment_itself_is_denied() {
    let authority = secret(1);
    let (project, ticket) = (authority.id(), authority.identity().mark());
    let denial = denied(ask(
        &secret(66),
        &project,
        Some((project, ticket)),
        &NoHistories,
    ));
    assert_eq!(denial, (Step::Identity, Reason::OtherIdentity));
}

#[test]
fn an_authority_with_a_shorter_or_forked_history_is_denied() {
    let longer = rotated(secret(1), 8);
    let (project, held) = (longer.id(), longer.identity().mark());
    for (who, fault) in [
        (secret(1), HistoryFault::Shorter),
        (rotated(secret(1), 9), HistoryFault::Forked),
    ] {
        let denial = denied(ask(&who, &project, Some((project, held)), &NoHistories));
        assert_eq!(denial, (Step::Identity, Reason::History(fault)));
    }
}

#[test]
fn the_authority_believes_an_unknown_node_and_a_known_one_that_went_on() {
    let project = secret(1).id();
    let held = Holds(secret(2).id(), secret(2).identity().mark());
    assert!(ask(&secret(2), &project, None, &NoHistories).is_ok());
    assert!(ask(&rotated(secret(2), 9), &project, None, &held).is_ok());
}

#[test]
fn a_known_node_with_a_shorter_or_forked_history_is_denied() {
    let project = secret(1).id();
    let longer = rotated(secret(2), 8);
    let held = Holds(longer.id(), longer.identity().mark());
    for (who, fault) in [
        (secret(2), HistoryFault::Shorter),
        (rotated(secret(2), 9), HistoryFault::Forked),
    ] {
        let denial = denied(ask(&who, &project, None, &held));
        assert_eq!(denial, (Step::Identity, Reason::History(fault)));
    }
}

#[test]
fn steps_b_and_c_are_run_for_sessions_too() {
    let (node, project) = (secret(2), secret(1).id());
    let verdict = |project: &Id, purpose, key| {
        let (from, until) = (NOW.minus(60), NOW.plus(60));
        let attestation = node
            .attest(&secret(1).id(), &key, purpose, from, until)
            .expect("short");
        let identity = node.identity().clone();
        let evidence = Evidence {
            identity,
            attestation,
            grant: Grant::Nothing,
        };
        let question = IdentityQuestion {
            project,
            required: None,
            histories: &NoHistories,
            remote_static: &static_key(5),
            now: NOW,
        };
        denied(verify_identity(&evidence, &question))
    };
    let session = Purpose::AuthoritySession;
    let denial = verdict(&Id([9; 32]), session, static_key(5));
    assert_eq!(denial, (Step::Attestation, Reason::AttestationProject));
    let denial = verdict(&project, Purpose::Circuit, static_key(5));
    assert_eq!(
        denial,
        (
            Step::Attestation,
            Reason::AttestationPurpose(Purpose::Circuit)
        )
    );
    let denial = verdict(&project, session, static_key(6));
    assert_eq!(denial, (Step::StaticKey, Reason::StaticKey));
}
