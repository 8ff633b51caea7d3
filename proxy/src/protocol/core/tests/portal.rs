//! A portal from nothing to a lane.

use super::super::world::{Plan, Portal, World};
use crate::error::CloseReason;
use crate::ids::PortalNo;
use crate::protocol::command::{Gate, KnownTarget};
use crate::time::Duration;

#[test]
fn a_portal_opens_from_two_tickets() {
    let portal = World::portal(1);
    let world = &portal.world;
    let lanes = world.lanes();
    assert_eq!(lanes.len(), 1);
    let (_, inlet, outlet) = &lanes[0];
    assert_eq!(inlet.peer, world.status(portal.outlet).id);
    assert_eq!(inlet.peer_name, "bank-outlet");
    assert_eq!(outlet.peer, world.status(portal.inlet).id);
    assert_eq!(outlet.peer_name, "analysis-inlet");
    assert_eq!(&*inlet.targets, ["postgres".to_owned()]);
    assert_eq!(&*outlet.targets, ["postgres".to_owned()]);
    for permit in [inlet, outlet] {
        let ends = permit.not_after.since(world.now());
        let hour = Duration::from_secs(3600 + crypto::limits::CLOCK_TOLERANCE);
        assert!(ends <= hour + Duration::from_secs(1) && ends >= hour - Duration::from_secs(9));
    }
    assert!(world.host(portal.inlet).ticket_spent);
    assert_eq!(
        world.host(portal.inlet).gates.get(&PortalNo(0)),
        None,
        "apps always waited"
    );
    let targets = &world.host(portal.outlet).targets;
    assert_eq!(
        targets,
        &[KnownTarget {
            name: "postgres".into(),
            to: vec!["127.0.0.1:5432".parse().unwrap()],
            proxy_header: false,
        }]
    );
}

#[test]
fn it_opens_within_a_second() {
    let mut portal = World::portal_at_start(2);
    let (outlet, inlet) = (portal.outlet, portal.inlet);
    portal.world.run_until(Duration::from_secs(1), |world| {
        world.status(outlet).ready() && world.status(inlet).ready()
    });
}

#[test]
fn the_outlet_keeps_four_legs_parked_and_more_when_asked() {
    let mut portal = World::portal(3);
    portal.world.run(Duration::from_secs(3));
    assert_eq!(portal.world.status(portal.outlet).portals[0].parked, 4);
    assert_eq!(portal.world.host(portal.server).relay_worker.parked(), 4);
    // Every leg is taken at once: the emulated relay asks for eight more.
    for n in 0..4 {
        let ticket = World::spec(&format!("inlet-{n}"), "postgres-inlet", &[]);
        let ticket = portal.world.ticket(portal.server, ticket);
        let plan = vec![Plan::inlet("postgres", "postgres-outlet=true")];
        portal
            .world
            .add_node(&format!("more-{n}"), Some(ticket), plan);
    }
    portal.world.run(Duration::from_secs(3));
    assert!(portal.world.status(portal.outlet).portals[0].parked >= 8);
    assert_eq!(portal.world.lanes().len(), 5);
}

#[test]
fn the_authoritys_time_reaches_the_worker() {
    let portal = World::portal(4);
    let (millis, at) = portal.world.host(portal.inlet).authority_time.unwrap();
    let here = portal.world.time().0 * 1000;
    let there = millis + portal.world.now().since(at).as_millis() as u64;
    assert!(here.abs_diff(there) <= 1000, "{here} {there}");
}

#[test]
fn several_portals_of_one_node_share_a_session_and_no_lane() {
    let mut world = World::new(5);
    let server = world.add_server("acme");
    let spec = World::spec("bank", "outlet", &["a", "b"]);
    let ticket = world.ticket(server, spec);
    let plan = vec![
        Plan::outlet("a", "inlet=true"),
        Plan::outlet("b", "inlet=true"),
    ];
    let outlet = world.add_node("bank", Some(ticket), plan);
    let spec = World::spec("analysis", "inlet", &[]);
    let ticket = world.ticket(server, spec);
    let plan = vec![
        Plan::inlet("a", "outlet=true"),
        Plan::inlet("b", "outlet=true"),
    ];
    let inlet = world.add_node("analysis", Some(ticket), plan);
    world.names.insert(
        "localhost:5432".into(),
        vec!["127.0.0.1:5432".parse().unwrap()],
    );
    world.run_until(Duration::from_secs(5), |world| {
        world.status(outlet).ready() && world.status(inlet).ready()
    });
    assert_eq!(world.lanes().len(), 2);
    let status = world.status(server).server.unwrap();
    assert_eq!((status.relay_sessions, status.authority_sessions), (2, 2));
    assert_eq!(status.served.len(), 2);
    assert_eq!(status.strangers, 0, "members are no strangers");
}

#[test]
fn a_stopping_node_goes_off_the_air_and_keeps_its_lanes() {
    let mut portal = World::portal(6);
    portal.world.input(portal.outlet, super::super::Input::Stop);
    portal.world.run(Duration::from_secs(5));
    assert_eq!(portal.world.lanes().len(), 1);
    assert_eq!(portal.world.host(portal.server).relay_worker.parked(), 0);
    assert!(!portal.world.status(portal.outlet).ready());
    // Who comes now is told at once that nobody serves the address, after a second of waiting.
    let spec = World::spec("late", "postgres-inlet", &[]);
    let ticket = portal.world.ticket(portal.server, spec);
    let plan = vec![Plan::inlet("postgres", "postgres-outlet=true")];
    let late = portal.world.add_node("late", Some(ticket), plan);
    portal.world.run(Duration::from_secs(3));
    let gate = Gate::Reset(CloseReason::NoOutlet);
    assert_eq!(portal.world.host(late).gates.get(&PortalNo(0)), Some(&gate));
    assert_eq!(
        portal.world.host(late).logged(CloseReason::NoOutlet.code()),
        1
    );
    let _ = Gate::Wait;
}

#[test]
fn lanes_through_a_relay_that_goes_away_retire_and_are_made_anew_when_it_is_back() {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = World::portal(7);
    world.input(server, super::super::Input::Stop);
    world.run(Duration::from_millis(200));
    assert_eq!(world.lanes().len(), 0, "the relay waits for them to end");
    assert!(!world.status(inlet).ready());
    for node in [outlet, inlet] {
        assert_eq!(world.host(node).said("the relay is going away"), 1);
        assert_eq!(world.host(node).said("lane was lost"), 0);
    }
    world.run(Duration::from_secs(20));
    world.kill(server);
    world.restart(server);
    world.run_until(Duration::from_secs(2), |world| {
        world.status(outlet).ready() && world.status(inlet).ready()
    });
}
