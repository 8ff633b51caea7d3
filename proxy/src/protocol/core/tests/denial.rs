//! Who is denied, by whom, and what is heard where.

use super::super::world::{HostNo, Plan, World, connecting};
use super::super::{StateFile, Status};
use crate::error::{CloseReason, Code, Problem};
use crate::ids::PortalNo;
use crate::protocol::command::Gate;
use crate::time::Duration;
use crypto::suite::SuiteMask;

const POLICY: Code = Code(3260);
const MAY_NOT_CONNECT: Code = Code(3251);
const ROLE: Code = Code(3248);

/// A server, an outlet of `postgres` with the right attribute, and one more node.
fn world(
    seed: u64,
    spec: super::super::TicketSpec,
    plan: Vec<Plan>,
) -> (World, HostNo, HostNo, HostNo) {
    let mut world = World::new(seed);
    let server = world.add_server("acme");
    let outlet_ticket = World::spec("bank-outlet", "postgres-outlet", &["postgres"]);
    let outlet_ticket = world.ticket(server, outlet_ticket);
    let outlet_plan = vec![Plan::outlet("postgres", "postgres-inlet=true")];
    let outlet = world.add_node("bank", Some(outlet_ticket), outlet_plan);
    let ticket = world.ticket(server, spec);
    let node = world.add_node("node", Some(ticket), plan);
    world.names.insert(
        "localhost:5432".into(),
        vec!["127.0.0.1:5432".parse().unwrap()],
    );
    (world, server, outlet, node)
}

fn inlet(rule: &str) -> Vec<Plan> {
    vec![Plan::inlet("postgres", rule)]
}

fn denial(status: &Status) -> String {
    format!("{:?}", status.last_denial.as_ref().unwrap())
}

#[test]
fn an_inlet_without_the_attribute_is_denied_by_the_outlet() {
    let spec = World::spec("stranger", "something-else", &[]);
    let (mut world, _, outlet, node) = world(1, spec, inlet("postgres-outlet=true"));
    let took = world.run_until(Duration::from_secs(2), |world| {
        world.status(node).last_denial.is_some()
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
    // Here: the rule and what is missing. There: not authorized, and nothing else.
    let here = denial(&world.status(outlet));
    assert!(
        here.contains("attribute postgres-inlet is missing"),
        "{here}"
    );
    assert!(here.contains(&world.status(node).id.to_string()), "{here}");
    let there = denial(&world.status(node));
    assert!(
        there.contains("not authorized") && !there.contains("postgres-inlet"),
        "{there}"
    );
    assert_eq!(world.host(outlet).logged(POLICY), 1);
    assert_eq!(
        world.host(node).logged(CloseReason::NotAuthorized.code()),
        1
    );
    let gate = Gate::Reset(CloseReason::NotAuthorized);
    assert_eq!(world.host(node).gates.get(&PortalNo(0)), Some(&gate));
    // It asks again about every ten seconds, and its own log stays quiet.
    let before = world.dials[&node];
    world.run(Duration::from_secs(60));
    let asked = world.dials[&node] - before;
    assert!((6..=13).contains(&asked), "{asked}");
    assert_eq!(
        world.host(node).logged(CloseReason::NotAuthorized.code()),
        1
    );
    assert!(world.lanes().is_empty());
}

#[test]
fn an_outlet_without_the_attribute_is_denied_by_the_inlet() {
    let spec = World::spec("analysis", "postgres-inlet", &[]);
    let (mut world, _, outlet, node) = world(2, spec, inlet("gold-outlet=true"));
    world.run(Duration::from_secs(2));
    let here = denial(&world.status(node));
    assert!(here.contains("attribute gold-outlet is missing"), "{here}");
    assert_eq!(world.host(node).logged(POLICY), 1);
    let gate = Gate::Reset(CloseReason::NotAuthorized);
    assert_eq!(world.host(node).gates.get(&PortalNo(0)), Some(&gate));
    // The inlet showed nothing: the outlet never learned who it was.
    assert!(world.status(outlet).last_denial.is_none());
    assert!(world.lanes().is_empty());
}

#[test]
fn without_a_rule_everybody_is_denied() {
    let spec = World::spec("analysis", "postgres-inlet", &[]);
    let (mut world, _, _, node) = world(3, spec, inlet(""));
    world.run(Duration::from_secs(2));
    assert!(denial(&world.status(node)).contains("no rule is set"));
    assert!(world.lanes().is_empty());
}

#[test]
fn an_address_without_permission_is_neither_served_nor_reached() {
    let spec = World::spec("greedy", "postgres-outlet", &["other"]);
    let plan = vec![Plan::outlet("postgres", "postgres-inlet=true")];
    let (mut world, server, _, node) = world(4, spec, plan);
    world.run(Duration::from_secs(2));
    let code = Problem::MayNotServe.code();
    assert_eq!(world.host(node).logged(code), 1);
    assert_eq!(world.host(server).logged(code), 1);
    let status = world.status(node);
    assert!(!status.ready());
    let why = status.portals[0].why.clone().unwrap();
    assert!(why.contains("--may-serve"), "{why}");
    assert_eq!(status.portals[0].parked, 0);
    let served = world.status(server).server.unwrap().served;
    assert_eq!(served.len(), 1);
    assert_eq!(served[0].1.len(), 1, "only the bank's");
}

#[test]
fn a_member_that_may_not_connect_is_stopped_by_relay_and_app_is_reset() {
    let spec = connecting(World::spec("analysis", "postgres-inlet", &[]), &["other"]);
    let (mut world, server, _, node) = world(5, spec, inlet("postgres-outlet=true"));
    world.run(Duration::from_secs(2));
    let why = CloseReason::AddressNotPermitted;
    assert_eq!(
        world.host(node).gates.get(&PortalNo(0)),
        Some(&Gate::Reset(why))
    );
    assert_eq!(world.host(node).logged(why.code()), 1);
    assert!(world.host(server).logged(why.code()) >= 1);
    assert!(world.lanes().is_empty());
}

#[test]
fn a_lenient_relay_does_not_help_who_may_not_connect() {
    // The relay lets the leg of a permitted address through and joins it with another's.
    let spec = connecting(
        World::spec("bank-as-inlet", "postgres-inlet", &[]),
        &["postgres"],
    );
    let (mut world, _, outlet, node) = world(6, spec, inlet("postgres-outlet=true"));
    world.run(Duration::from_secs(2));
    assert_eq!(world.lanes().len(), 1, "permitted: it works");
    assert_eq!(world.host(outlet).logged(MAY_NOT_CONNECT), 0);
    let _ = node;
}

#[test]
fn a_relay_that_joins_another_address_gets_a_failed_handshake() {
    let mut world = World::new(7);
    let server = world.add_server("acme");
    let spec = World::spec("bank", "postgres-outlet", &["postgres-staging"]);
    let ticket = world.ticket(server, spec);
    let plan = vec![Plan::outlet("postgres-staging", "postgres-inlet=true")];
    let outlet = world.add_node("bank", Some(ticket), plan);
    let ticket = world.ticket(server, World::spec("analysis", "postgres-inlet", &[]));
    world.mispair = true;
    let node = world.add_node("node", Some(ticket), inlet("postgres-outlet=true"));
    world.run(Duration::from_secs(2));
    assert_eq!(world.host(node).logged(CloseReason::ShakeFailed.code()), 1);
    let gate = Gate::Reset(CloseReason::ShakeFailed);
    assert_eq!(world.host(node).gates.get(&PortalNo(0)), Some(&gate));
    assert!(world.lanes().is_empty());
    assert!(
        world.status(outlet).last_denial.is_none(),
        "no message 3 came"
    );
}

#[test]
fn a_relay_that_strips_suites_gets_a_failed_handshake() {
    for forged in [SuiteMask(0b10), SuiteMask(0b00), SuiteMask(0b1000)] {
        let spec = World::spec("analysis", "postgres-inlet", &[]);
        let (mut world, _, _, node) = world(8, spec, inlet("postgres-outlet=true"));
        world.forged_mask = Some(forged);
        world.run(Duration::from_secs(2));
        assert_eq!(
            world.host(node).logged(CloseReason::ShakeFailed.code()),
            1,
            "{forged:?}"
        );
        assert!(world.lanes().is_empty());
        // An honest relay again: it works, nothing was remembered.
        world.forged_mask = None;
        world.run(Duration::from_secs(11));
        assert_eq!(world.lanes().len(), 1);
    }
}

#[test]
fn pins_hold_against_everybody_else() {
    let spec = World::spec("analysis", "postgres-inlet", &[]);
    let (mut world, _, outlet, node) = world(9, spec, inlet("postgres-outlet=true"));
    world.run(Duration::from_secs(2));
    let id = world.status(outlet).id;
    let other = world.status(node).id;
    assert!(!world.status(node).portals[0].pinned);
    for (pin, lanes) in [(id, 1), (other, 0)] {
        world.kill(node);
        if let super::super::world::Seat::Node { plan, .. } = &mut world.host_mut(node).seat {
            *plan = inlet(&format!("postgres-outlet=true,id={pin}"));
        }
        world.restart(node);
        world.run(Duration::from_secs(2));
        assert_eq!(world.lanes().len(), lanes);
        assert!(world.status(node).portals[0].pinned);
    }
    let _ = StateFile::Membership;
}

#[test]
fn a_relays_ticket_makes_no_member() {
    let mut spec = World::spec("second-relay", "", &[]);
    spec.roles = crypto::credential::Roles::RELAY;
    let (mut world, server, _, node) = world(10, spec, inlet("postgres-outlet=true"));
    world.run(Duration::from_secs(2));
    assert!(world.host(server).logged(ROLE) >= 1);
    assert_eq!(world.host(node).logged(Problem::RelayDenied.code()), 1);
    assert!(world.lanes().is_empty());
}
