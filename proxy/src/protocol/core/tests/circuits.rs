//! The circuits of a bundle: made after the lane, kept in number, never leaked, whatever breaks.

use super::super::CircuitsStatus;
use super::super::world::{HostNo, Portal, World};
use crate::ids::CircuitNo;
use crate::limits::{CIRCUIT_LIFE, CIRCUITS_MIN, CIRCUITS_QUIET, CIRCUITS_READY_MAX};
use crate::time::Duration;

const BACK: Duration = Duration::from_secs(2);

/// A portal that is open and has its circuits, checked at every moment.
fn portal(seed: u64) -> Portal {
    let mut portal = World::portal_at_start(seed);
    portal.world.checked = true;
    let (outlet, inlet) = (portal.outlet, portal.inlet);
    portal
        .world
        .run_until(BACK, |world| full(world, outlet, inlet, CIRCUITS_QUIET));
    portal
}

fn circuits(world: &World, host: HostNo) -> CircuitsStatus {
    world.status(host).portals[0].circuits
}

/// Both ends have a lane and so many circuits, and nothing is being made.
fn full(world: &World, outlet: HostNo, inlet: HostNo, ready: usize) -> bool {
    let alive = |host| world.host(host).alive() && world.status(host).ready();
    if !alive(outlet) || !alive(inlet) || world.lanes().is_empty() {
        return false;
    }
    let (near, far) = (circuits(world, inlet), circuits(world, outlet));
    (near.ready, near.building) == (ready, 0) && (far.ready, far.building) == (ready, 0)
}

fn numbers(world: &World, host: HostNo) -> Vec<CircuitNo> {
    let mut numbers: Vec<_> = world.circuits_of(host).map(|(_, end)| end.no).collect();
    numbers.sort();
    numbers
}

#[test]
fn two_circuits_come_with_the_lane_and_more_when_they_are_used() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = portal(1);
    assert_eq!(numbers(&world, inlet), [CircuitNo(1), CircuitNo(2)]);
    assert_eq!(numbers(&world, outlet), numbers(&world, inlet));
    world.say_circuits(inlet, 1, 0);
    world.run_until(BACK, |world| full(world, outlet, inlet, CIRCUITS_MIN));
    world.say_circuits(inlet, 4, 5);
    world.run_until(BACK, |world| full(world, outlet, inlet, 11));
    assert_eq!(circuits(&world, inlet).peak, 9);
    // A minute later they are too many, and go one by one.
    world.run(Duration::from_secs(180));
    assert!(full(&world, outlet, inlet, CIRCUITS_QUIET));
    assert_eq!(world.circuits_of(inlet).count(), CIRCUITS_QUIET);
}
