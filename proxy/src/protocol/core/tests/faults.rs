//! Everything breaks and comes back, in any order, within two seconds of the last missing piece.

use super::super::world::{HostNo, Portal, World};
use crate::time::Duration;

const BACK: Duration = Duration::from_secs(2);

fn open(world: &World, outlet: HostNo, inlet: HostNo) -> bool {
    world.host(outlet).alive()
        && world.host(inlet).alive()
        && world.status(outlet).ready()
        && world.status(inlet).ready()
        && !world.lanes().is_empty()
}

#[test]
fn each_process_may_die_and_the_portal_is_back_within_two_seconds() {
    for seed in 1..=20 {
        let Portal {
            mut world,
            server,
            outlet,
            inlet,
        } = World::portal(seed);
        for (n, victim) in [server, outlet, inlet].into_iter().enumerate() {
            world.kill(victim);
            world.run(Duration::from_millis(
                1 + (seed * 997 * (n as u64 + 1)) % 30_000,
            ));
            assert!(!open(&world, outlet, inlet));
            world.restart(victim);
            world.run_until(BACK, |world| open(world, outlet, inlet));
        }
    }
}

#[test]
fn all_may_die_and_come_back_in_any_order() {
    for seed in 1..=12 {
        let Portal {
            mut world,
            server,
            outlet,
            inlet,
        } = World::portal(seed);
        let mut order = [server, outlet, inlet];
        order.rotate_left(seed as usize % 3);
        if seed % 2 == 0 {
            order.swap(0, 1);
        }
        for host in order {
            world.kill(host);
        }
        for host in order {
            world.run(Duration::from_secs(5 * seed));
            world.restart(host);
        }
        world.run_until(BACK, |world| open(world, outlet, inlet));
    }
}

#[test]
fn broken_connections_are_made_anew() {
    for seed in 1..=10 {
        let Portal {
            mut world,
            server,
            outlet,
            inlet,
        } = World::portal(seed);
        world.cut(inlet, server);
        world.run_until(BACK, |world| open(world, outlet, inlet));
        world.cut(outlet, server);
        world.run_until(BACK, |world| open(world, outlet, inlet));
        world.cut(outlet, server);
        world.cut(inlet, server);
        world.run_until(BACK, |world| open(world, outlet, inlet));
    }
}

#[test]
fn a_wall_is_tried_without_haste_and_with_one_line_in_the_log() {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = World::portal(1);
    world.walls.push((inlet, server));
    world.cut(inlet, server);
    let before = world.dials[&inlet];
    world.run(Duration::from_secs(300));
    let dials = world.dials[&inlet] - before;
    // Two sessions, 0.75 to 1.5 s between dials each; no leg without a session.
    assert!((400..=820).contains(&dials), "{dials}");
    assert_eq!(world.host(inlet).said("the relay can't be reached"), 1);
    assert_eq!(world.host(inlet).said("the authority can't be reached"), 1);
    world.walls.clear();
    world.run_until(BACK, |world| open(world, outlet, inlet));
    assert_eq!(world.host(inlet).said("the relay reached"), 2);
}

#[test]
fn a_name_that_does_not_resolve_is_asked_again() {
    let mut portal = World::portal_at_start(3);
    let names = std::mem::take(&mut portal.world.names);
    portal.world.run(Duration::from_secs(20));
    let host = portal.world.host(portal.inlet);
    assert_eq!(host.said("the authority can't be reached"), 1);
    portal.world.names = names;
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = portal;
    world.run_until(BACK, |world| open(world, outlet, inlet));
}

#[test]
fn a_target_that_moves_is_found_again() {
    let Portal {
        mut world, outlet, ..
    } = World::portal(4);
    let moved = "127.0.0.1:5433".parse().unwrap();
    world.names.insert("localhost:5432".into(), vec![moved]);
    let event = crate::protocol::command::Event::TargetFailed {
        portal: crate::ids::PortalNo(0),
        target: "postgres".into(),
        why: crate::error::CloseReason::TargetRefused,
    };
    world.input(outlet, super::super::Input::Event(event));
    world.run(Duration::from_secs(2));
    assert_eq!(world.host(outlet).targets[0].to, [moved]);
    // And without being asked.
    let moved = "127.0.0.1:5434".parse().unwrap();
    world.names.insert("localhost:5432".into(), vec![moved]);
    world.run(Duration::from_secs(31));
    assert_eq!(world.host(outlet).targets[0].to, [moved]);
    // A resolver that is down takes nothing away.
    world.names.remove("localhost:5432");
    world.run(Duration::from_secs(120));
    assert_eq!(world.host(outlet).targets[0].to, [moved]);
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let trace = |seed| {
        let Portal {
            mut world,
            server,
            outlet,
            inlet,
        } = World::portal(seed);
        world.kill(server);
        world.run(Duration::from_secs(7));
        world.restart(server);
        world.run(Duration::from_secs(20));
        let logs = |host| format!("{:?}", world.host(host).logs);
        [logs(server), logs(outlet), logs(inlet)]
    };
    assert_eq!(trace(5), trace(5));
}
