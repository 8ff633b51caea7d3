//! Portals that come and go while the others of their node have streams.

use super::super::admin::AdminCall;
use super::super::world::{HostNo, Plan, Portal, World};
use super::super::{Input, Reconfigured};
use crate::ids::PortalNo;
use crate::protocol::store::MemberKey;
use crate::time::Duration;

const BACK: Duration = Duration::from_secs(3);
const TO_OUTLETS: &str = "postgres-outlet=true";
const TO_INLETS: &str = "postgres-inlet=true";

/// An outlet that may serve two addresses and serves one, and an inlet to that one.
fn portal(seed: u64) -> Portal {
    let mut world = World::new(seed);
    world.checked = true;
    // Lanes have streams: one that retires stays until it is ended.
    world.busy = true;
    let server = world.add_server("acme");
    let spec = World::spec("bank-outlet", "postgres-outlet", &["postgres", "reports"]);
    let ticket = world.ticket(server, spec);
    let plan = vec![Plan::outlet("postgres", TO_INLETS)];
    let outlet = world.add_node("bank", Some(ticket), plan);
    let spec = World::spec("analysis-inlet", "postgres-inlet", &[]);
    let ticket = world.ticket(server, spec);
    let plan = vec![Plan::inlet("postgres", TO_OUTLETS)];
    let inlet = world.add_node("analysis", Some(ticket), plan);
    let service = vec!["127.0.0.1:5432".parse().unwrap()];
    world.names.insert("localhost:5432".into(), service);
    world.run_until(BACK, |world| ready(world, &[outlet, inlet], 1));
    Portal {
        world,
        server,
        outlet,
        inlet,
    }
}

/// All portals of these are ready, and there are so many lanes.
fn ready(world: &World, hosts: &[HostNo], lanes: usize) -> bool {
    let ready = |host: &HostNo| world.status(*host).ready();
    hosts.iter().all(ready) && world.lanes().len() == lanes
}

/// Adds portals with the number 1.
fn add(world: &mut World, host: HostNo, plan: Plan) {
    let (inlets, outlets) = Plan::configs(&[plan], 1, 1);
    change(
        world,
        host,
        Reconfigured {
            inlets,
            outlets,
            ..Reconfigured::default()
        },
    );
}

fn close(world: &mut World, host: HostNo, portal: PortalNo) {
    let closed = vec![portal];
    change(
        world,
        host,
        Reconfigured {
            closed,
            ..Reconfigured::default()
        },
    );
}

fn change(world: &mut World, host: HostNo, changes: Reconfigured) {
    world.input(host, Input::Reconfigured(Box::new(changes)));
    world.settle();
}

#[test]
fn a_portal_that_is_added_opens_and_the_one_before_keeps_its_lane() {
    for inlet_first in [false, true] {
        let Portal {
            mut world,
            outlet,
            inlet,
            ..
        } = portal(1);
        let before = world.bundles();
        let mut plans = vec![
            (outlet, Plan::outlet("reports", TO_INLETS)),
            (inlet, Plan::inlet("reports", TO_OUTLETS)),
        ];
        if inlet_first {
            plans.reverse();
        }
        for (host, plan) in plans {
            add(&mut world, host, plan);
            world.run(Duration::from_secs(1));
        }
        world.run_until(BACK, |world| ready(world, &[outlet, inlet], 2));
        assert!(world.bundles().contains(&before[0]));
        assert_eq!(world.status(outlet).portals.len(), 2);
    }
}

#[test]
fn an_address_that_this_node_may_not_serve_is_refused_and_the_others_go_on() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = portal(2);
    add(&mut world, outlet, Plan::outlet("payroll", TO_INLETS));
    world.run(BACK);
    assert!(!world.status(outlet).ready());
    let payroll = &world.status(outlet).portals[1];
    assert!(payroll.why.as_ref().unwrap().contains("may not serve"));
    assert!(ready(&world, &[inlet], 1));
    close(&mut world, outlet, PortalNo(1));
    assert!(world.status(outlet).ready());
}

#[test]
fn a_closed_inlet_keeps_its_lane_for_its_streams_and_is_gone_with_it() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = portal(3);
    close(&mut world, inlet, PortalNo(0));
    world.run(Duration::from_secs(60));
    assert_eq!(world.host(inlet).closed, [PortalNo(0)]);
    assert_eq!(
        world.lanes().len(),
        1,
        "streams go on, and nothing new is made"
    );
    assert!(world.status(inlet).portals[0].closing);
    world.end_retired();
    world.run(Duration::from_secs(60));
    assert!(world.status(inlet).portals.is_empty());
    assert!(world.lanes().is_empty());
    assert!(
        ready(&world, &[outlet], 0),
        "the other end notices nothing else"
    );
    // The same address again, under another number.
    add(&mut world, inlet, Plan::inlet("postgres", TO_OUTLETS));
    world.run_until(BACK, |world| ready(world, &[outlet, inlet], 1));
}

#[test]
fn a_closed_outlet_leaves_the_relay_and_keeps_the_lanes_that_it_has() {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = portal(4);
    assert!(world.host(server).relay_worker.parked() > 0);
    close(&mut world, outlet, PortalNo(0));
    world.run(Duration::from_secs(1));
    assert_eq!(world.host(server).relay_worker.parked(), 0);
    assert_eq!(world.lanes().len(), 1);
    world.end_retired();
    world.run(Duration::from_secs(10));
    assert!(!world.status(inlet).ready(), "nobody serves the address");
    add(&mut world, outlet, Plan::outlet("postgres", TO_INLETS));
    world.run_until(BACK, |world| ready(world, &[outlet, inlet], 1));
}

#[test]
fn who_is_revoked_is_cut_from_a_closed_portal_too() {
    for at_inlet in [true, false] {
        let Portal {
            mut world,
            server,
            outlet,
            inlet,
        } = portal(5);
        let (host, revoked) = match at_inlet {
            true => (inlet, "bank-outlet"),
            false => (outlet, "analysis-inlet"),
        };
        close(&mut world, host, PortalNo(0));
        // Time for the authority to be heard, in a world where the relay can't cut the member's legs.
        world.run(Duration::from_secs(3));
        assert_eq!(world.lanes().len(), 1);
        let member = MemberKey::Name(revoked.parse().unwrap());
        let reason = String::new();
        world.call(server, AdminCall::RevokeMember { member, reason });
        world.run(Duration::from_secs(2));
        assert!(world.lanes().is_empty(), "at the inlet: {at_inlet}");
        let cut = world.host(host).said("a lane was cut");
        assert_eq!(cut, 1, "at the inlet: {at_inlet}");
    }
}

#[test]
fn closing_at_any_moment_leaves_nothing_behind() {
    for rounds in 0..80 {
        let mut portal = World::portal_at_start(6);
        portal.world.checked = true;
        portal.world.busy = true;
        let Portal {
            mut world,
            outlet,
            inlet,
            ..
        } = portal;
        world.run_rounds(rounds);
        let host = [outlet, inlet][rounds % 2];
        close(&mut world, host, PortalNo(0));
        world.run(Duration::from_secs(15));
        world.end_retired();
        world.run(Duration::from_secs(5));
        world.end_retired();
        world.run(Duration::from_secs(1));
        assert!(world.lanes().is_empty(), "closed after {rounds} rounds");
        let plan = match host == inlet {
            true => Plan::inlet("postgres", TO_OUTLETS),
            false => Plan::outlet("postgres", TO_INLETS),
        };
        add(&mut world, host, plan);
        world.run_until(Duration::from_secs(40), |world| {
            ready(world, &[outlet, inlet], 1)
        });
    }
}
