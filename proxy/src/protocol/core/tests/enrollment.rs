//! Tickets, and what the user hears when one does not work.

use super::super::admin::{AdminCall, AdminReply};
use super::super::world::{Plan, Seat, World};
use super::super::{Input, MembershipStatus, Reach};
use crate::error::{CloseReason, Problem};
use crate::ids::PortalNo;
use crate::limits::{REDEEM_REPEAT, TICKET_LIFE};
use crate::protocol::command::Gate;
use crate::time::Duration;
use crypto::ticket::Ticket;

fn copy(ticket: &Ticket) -> Ticket {
    Ticket::from_text(&ticket.to_text()).unwrap()
}

fn inlet() -> Vec<Plan> {
    vec![Plan::inlet("postgres", "postgres-outlet=true")]
}

#[test]
fn a_used_ticket_says_by_whom_and_when_at_both_sides() {
    let mut world = World::new(1);
    let server = world.add_server("acme");
    let ticket = world.ticket(server, World::spec("analysis", "postgres-inlet", &[]));
    let second = copy(&ticket);
    let first = world.add_node("first", Some(ticket), inlet());
    world.run(Duration::from_secs(1));
    let late = world.add_node("late", Some(second), inlet());
    world.run(Duration::from_secs(1));

    let winner = world.status(first).id;
    let MembershipStatus::NotEnrolled { code, why } = world.status(late).membership else {
        panic!("{:?}", world.status(late).membership);
    };
    assert_eq!(code, Problem::TicketUsed.code());
    assert!(why.contains(&winner.to_string()), "{why}");
    assert!(why.contains("2027-01-15T08:00:0"), "{why}");
    assert!(
        why.contains("adit ticket create --name NAME --replaces NAME"),
        "{why}"
    );
    assert_eq!(world.host(late).logged(Problem::TicketUsed.code()), 1);
    assert_eq!(world.host(server).logged(Problem::TicketUsed.code()), 1);
    assert!(!world.host(late).ticket_spent);
    // Apps there are reset at once, and the node is quiet.
    let gate = Gate::Reset(CloseReason::NotAuthorized);
    assert_eq!(world.host(late).gates.get(&PortalNo(0)), Some(&gate));
    let dials = world.dials[&late];
    world.run(Duration::from_secs(3600));
    assert_eq!(world.dials[&late], dials);
    assert_eq!(world.status(late).authority, Reach::NotNeeded);
}

#[test]
fn a_fresh_ticket_mends_it_without_a_restart() {
    let mut world = World::new(2);
    let server = world.add_server("acme");
    let ticket = world.ticket(server, World::spec("analysis", "postgres-inlet", &[]));
    let used = copy(&ticket);
    world.add_node("first", Some(ticket), inlet());
    world.run(Duration::from_secs(1));
    let late = world.add_node("late", Some(used), inlet());
    world.run(Duration::from_secs(1));
    let fresh = world.ticket(server, World::spec("late", "postgres-inlet", &[]));
    world.input(late, Input::Ticket(Box::new(fresh)));
    world.run(Duration::from_secs(1));
    assert!(matches!(
        world.status(late).membership,
        MembershipStatus::Enrolled { .. }
    ));
    assert_eq!(world.host(late).gates.get(&PortalNo(0)), Some(&Gate::Wait));
}

#[test]
fn an_expired_ticket_is_refused_with_its_code() {
    let mut world = World::new(3);
    let server = world.add_server("acme");
    let ticket = world.ticket(server, World::spec("analysis", "postgres-inlet", &[]));
    world.run(TICKET_LIFE + Duration::from_secs(1));
    let late = world.add_node("late", Some(ticket), inlet());
    world.run(Duration::from_secs(1));
    let MembershipStatus::NotEnrolled { code, why } = world.status(late).membership else {
        panic!("{:?}", world.status(late).membership);
    };
    assert_eq!(code, Problem::TicketExpired.code());
    assert!(why.contains("2027-01-15T08:10:01Z"), "{why}");
    assert_eq!(world.host(late).logged(Problem::TicketExpired.code()), 1);
}

#[test]
fn a_ticket_of_another_project_is_refused_before_the_secret_is_shown() {
    let mut world = World::new(4);
    let acme = world.add_server("acme");
    let other = world.add_server("other");
    let ticket = world.ticket(acme, World::spec("analysis", "postgres-inlet", &[]));
    // The name leads to the other project's server.
    let there = world.host(other).address;
    world.names.insert("acme.example:7348".into(), vec![there]);
    let node = world.add_node("node", Some(ticket), inlet());
    world.run(Duration::from_secs(60));
    assert_eq!(
        world.host(node).logged(Problem::WrongProject.code()),
        1,
        "once, not each time"
    );
    let Reach::Trying {
        why: Some(why),
        failures,
        ..
    } = world.status(node).authority
    else {
        panic!("{:?}", world.status(node).authority);
    };
    assert!(why.contains("not the authority of this project"), "{why}");
    assert!(
        (5..=14).contains(&failures),
        "about 10 s between attempts: {failures}"
    );
    // It never came to a session there.
    assert_eq!(world.status(other).server.unwrap().authority_sessions, 0);
    let AdminReply::Members(members) = world.call(other, AdminCall::Members { after: None }) else {
        panic!();
    };
    assert_eq!(members.len(), 1, "only its relay");
    // When the name leads home, it enrolls.
    let home = world.host(acme).address;
    world.names.insert("acme.example:7348".into(), vec![home]);
    world.run(Duration::from_secs(11));
    assert!(matches!(
        world.status(node).membership,
        MembershipStatus::Enrolled { .. }
    ));
}

#[test]
fn a_lost_answer_is_repeated_and_counts_once() {
    let mut world = World::new(5);
    let server = world.add_server("acme");
    let ticket = world.ticket(server, World::spec("analysis", "postgres-inlet", &[]));
    let node = world.add_node("node", Some(ticket), inlet());
    world.run(Duration::from_secs(1));
    // The node lost its state: same identity, same ticket, nothing else.
    let wipe = |world: &mut World| match &mut world.host_mut(node).seat {
        Seat::Node { membership, .. } => *membership = None,
        Seat::Server { .. } => panic!(),
    };
    world.kill(node);
    wipe(&mut world);
    world.restart(node);
    world.run(Duration::from_secs(1));
    assert!(matches!(
        world.status(node).membership,
        MembershipStatus::Enrolled { .. }
    ));
    world.kill(node);
    wipe(&mut world);
    world.run(REDEEM_REPEAT);
    world.restart(node);
    world.run(Duration::from_secs(1));
    let MembershipStatus::NotEnrolled { code, .. } = world.status(node).membership else {
        panic!();
    };
    assert_eq!(code, Problem::TicketUsed.code());
}

#[test]
fn a_member_ignores_a_ticket_and_says_so() {
    let mut portal = World::portal(6);
    let spec = World::spec("another", "x", &[]);
    let ticket = portal.world.ticket(portal.server, spec);
    let rest = copy(&ticket);
    portal
        .world
        .input(portal.inlet, Input::Ticket(Box::new(ticket)));
    portal.world.run(Duration::from_secs(1));
    assert_eq!(
        portal
            .world
            .host(portal.inlet)
            .said("the ticket is ignored"),
        1
    );
    assert_eq!(portal.world.lanes().len(), 1);
    // It was not used up.
    let other = portal.world.add_node("other", Some(rest), Vec::new());
    portal.world.run(Duration::from_secs(1));
    let MembershipStatus::Enrolled { name, .. } = portal.world.status(other).membership else {
        panic!();
    };
    assert_eq!(name.as_str(), "another");
}

#[test]
fn a_replaced_member_can_not_renew_and_says_why_when_its_hour_is_over() {
    let mut portal = World::portal(7);
    let mut spec = World::spec("analysis-inlet", "postgres-inlet", &[]);
    spec.replaces = spec.name.clone();
    let ticket = portal.world.ticket(portal.server, spec);
    let plan = inlet();
    let fresh = portal.world.add_node("fresh", Some(ticket), plan);
    portal.world.run(Duration::from_secs(2));
    assert!(portal.world.status(fresh).ready());
    portal.world.run(Duration::from_secs(3700));
    let MembershipStatus::NotEnrolled { code, why } = portal.world.status(portal.inlet).membership
    else {
        panic!("{:?}", portal.world.status(portal.inlet).membership);
    };
    assert_eq!(code, Problem::MemberRevoked.code());
    assert!(why.contains("fresh ticket"), "{why}");
    assert_eq!(
        portal
            .world
            .host(portal.inlet)
            .logged(Problem::MemberRevoked.code()),
        1
    );
    assert!(!portal.world.status(portal.inlet).ready());
    assert!(portal.world.status(fresh).ready());
}

#[test]
fn a_broken_store_refuses_for_now_and_the_node_comes_back() {
    let mut world = World::new(8);
    let server = world.add_server("acme");
    let ticket = world.ticket(server, World::spec("analysis", "postgres-inlet", &[]));
    world.host_mut(server).store_broken = true;
    let node = world.add_node("node", Some(ticket), inlet());
    world.run(Duration::from_secs(5));
    assert!(matches!(
        world.status(node).membership,
        MembershipStatus::Enrolling { .. }
    ));
    assert_eq!(world.host(node).logged(Problem::StoreUnavailable.code()), 1);
    world.host_mut(server).store_broken = false;
    world.run(Duration::from_secs(11));
    assert!(matches!(
        world.status(node).membership,
        MembershipStatus::Enrolled { .. }
    ));
}

#[test]
fn a_node_without_a_ticket_says_what_to_do() {
    let mut world = World::new(9);
    world.add_server("acme");
    let node = world.add_node("node", None, inlet());
    world.run(Duration::from_secs(60));
    let MembershipStatus::NotEnrolled { code, why } = world.status(node).membership else {
        panic!();
    };
    assert_eq!(code, Problem::NoTicket.code());
    assert!(why.contains("adit ticket create"), "{why}");
    assert!(!world.dials.contains_key(&node));
}

#[test]
fn a_ticket_can_not_promise_what_no_credential_holds() {
    let mut world = World::new(10);
    let server = world.add_server("acme");
    let refused = |world: &mut World, spec| match world
        .call(server, AdminCall::CreateTicket(Box::new(spec)))
    {
        AdminReply::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    };
    let mut spec = World::spec("a", "id", &[]);
    assert_eq!(
        refused(&mut world, spec.clone()),
        Problem::TicketSpec.code()
    );
    spec = World::spec("a", "x", &[]);
    spec.uses = 0;
    assert_eq!(refused(&mut world, spec), Problem::TicketSpec.code());
    spec = World::spec("a", "x", &[]);
    spec.life = Duration::from_secs(31 * 24 * 3600);
    assert_eq!(refused(&mut world, spec), Problem::TicketSpec.code());
    spec = World::spec("a", "", &[]);
    for n in 0..20 {
        let value = "v".repeat(250).parse().unwrap();
        spec.attributes
            .insert(format!("a{n}").parse().unwrap(), value)
            .unwrap();
    }
    assert_eq!(refused(&mut world, spec), Problem::GrantsTooLong.code());
    spec = World::spec("a", "x", &[]);
    spec.replaces = Some("nobody".parse().unwrap());
    assert_eq!(refused(&mut world, spec), Problem::NoSuchMember.code());
}

#[test]
fn a_wrong_clock_does_not_keep_a_node_out_and_is_warned_about() {
    for (seed, error) in [(11, 7200), (12, -7200)] {
        let mut portal = World::portal_at_start(seed);
        portal.world.kill(portal.inlet);
        portal.world.host_mut(portal.inlet).clock_error_secs = error;
        portal.world.restart(portal.inlet);
        let (outlet, inlet) = (portal.outlet, portal.inlet);
        portal.world.run_until(Duration::from_secs(5), |world| {
            world.status(outlet).ready() && world.status(inlet).ready()
        });
        let host = portal.world.host(inlet);
        assert_eq!(host.logged(Problem::ClockSkew.code()), 1);
        let ahead = portal.world.status(inlet).clock_ahead_millis.unwrap();
        assert!((ahead - error * 1000).abs() < 2000, "{ahead}");
        let (millis, at) = host.authority_time.unwrap();
        let there = millis + portal.world.now().since(at).as_millis() as u64;
        assert!(there.abs_diff(portal.world.time().0 * 1000) <= 1000);
    }
}

#[test]
fn an_impostor_that_knows_all_but_the_key_gets_no_secret() {
    let mut world = World::new(13);
    let acme = world.add_server("acme");
    let impostor = world.add_impostor(acme);
    let ticket = world.ticket(acme, World::spec("analysis", "postgres-inlet", &[]));
    let there = world.host(impostor).address;
    world.names.insert("acme.example:7348".into(), vec![there]);
    let node = world.add_node("node", Some(ticket), inlet());
    world.run(Duration::from_secs(30));
    assert_eq!(world.host(node).logged(Problem::WrongProject.code()), 1);
    assert!(matches!(
        world.status(node).membership,
        MembershipStatus::Enrolling { .. }
    ));
    let status = world.status(impostor).server.unwrap();
    assert_eq!(
        (status.authority_sessions, status.strangers),
        (0, 0),
        "no message 3 came"
    );
    // A member is not taken in by it either.
    let home = world.host(acme).address;
    world.names.insert("acme.example:7348".into(), vec![home]);
    world.run(Duration::from_secs(11));
    world.names.insert("acme.example:7348".into(), vec![there]);
    world.cut(node, acme);
    world.run(Duration::from_secs(11));
    let status = world.status(impostor).server.unwrap();
    assert_eq!((status.authority_sessions, status.relay_sessions), (0, 0));
}
