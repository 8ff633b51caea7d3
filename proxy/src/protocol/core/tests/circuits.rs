//! The circuits of a bundle: made after the lane, kept in number, never leaked, whatever breaks.

use super::super::CircuitsStatus;
use super::super::world::{HostNo, Plan, Portal, Seat, World};
use crate::error::CloseReason;
use crate::ids::CircuitNo;
use crate::limits::{
    CIRCUIT_LIFE, CIRCUITS_FIRST, CIRCUITS_MIN, CIRCUITS_READY_MAX, CIRCUITS_SPARE,
    CIRCUITS_UNPROVEN_MAX,
};
use crate::time::Duration;
use crypto::SeededRandom;

const BACK: Duration = Duration::from_secs(2);
const SEEDS: u64 = 200;

/// A portal that is open and has its circuits, checked at every moment.
fn portal(seed: u64) -> Portal {
    let mut portal = World::portal_at_start(seed);
    portal.world.checked = true;
    let (outlet, inlet) = (portal.outlet, portal.inlet);
    portal
        .world
        .run_until(BACK, |world| full(world, outlet, inlet, CIRCUITS_FIRST));
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
    assert!(full(&world, outlet, inlet, CIRCUITS_FIRST));
    assert_eq!(world.circuits_of(inlet).count(), CIRCUITS_FIRST);
}

/// How many there should be by what the inlet shows.
fn target(world: &World, inlet: HostNo) -> usize {
    match circuits(world, inlet).peak {
        0 => CIRCUITS_FIRST,
        peak => (peak + CIRCUITS_SPARE).clamp(CIRCUITS_MIN, CIRCUITS_READY_MAX),
    }
}

#[test]
fn a_circuit_is_replaced_before_its_keys_are_old() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = portal(2);
    for _ in 0..10 {
        let before = numbers(&world, inlet);
        world.run(CIRCUIT_LIFE + Duration::from_secs(1));
        let after = numbers(&world, inlet);
        assert!(
            before.iter().all(|no| !after.contains(no)),
            "{before:?} {after:?}"
        );
        assert_eq!(after.len(), CIRCUITS_FIRST);
        assert_eq!(after, numbers(&world, outlet));
    }
}

#[test]
fn one_that_is_in_use_then_ends_what_it_carries() {
    let Portal {
        mut world, inlet, ..
    } = portal(3);
    world.busy = true;
    let before = numbers(&world, inlet);
    world.run(CIRCUIT_LIFE + Duration::from_secs(1));
    let status = circuits(&world, inlet);
    assert_eq!(
        (status.ready, status.retiring),
        (CIRCUITS_FIRST, before.len())
    );
    world.end_retired();
    world.run(Duration::from_secs(1));
    let status = circuits(&world, inlet);
    assert_eq!((status.ready, status.retiring), (CIRCUITS_FIRST, 0));
    assert!(numbers(&world, inlet).iter().all(|no| !before.contains(no)));
}

#[test]
fn a_lane_that_retires_keeps_its_circuits_to_its_end_and_the_next_has_its_own() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = portal(4);
    world.say_circuits(inlet, 3, 0);
    world.run_until(BACK, |world| full(world, outlet, inlet, 5));
    world.busy = true;
    world.ask_to_retire(outlet);
    // The next bundle begins with what the one before has used.
    world.run_until(BACK, |world| {
        world.lanes().len() == 2 && full(world, outlet, inlet, 10)
    });
    world.busy = false;
    world.end_retired();
    world.run_until(BACK, |world| {
        world.lanes().len() == 1 && full(world, outlet, inlet, 5)
    });
}

#[test]
fn circuits_of_a_lane_that_the_outlet_has_lost_are_denied_without_haste() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = portal(5);
    world.forget_lanes(outlet);
    let before = world.dials[&inlet];
    world.run(Duration::from_secs(60));
    let dials = world.dials[&inlet] - before;
    assert!((40..=100).contains(&dials), "{dials} dials in a minute");
    let lack = "no circuit to the outlet; the lane carries all";
    assert_eq!(world.host(inlet).said(lack), 1);
    assert_eq!(circuits(&world, inlet).ready, 0);
    world.lose_lanes(inlet);
    world.run_until(BACK, |world| full(world, outlet, inlet, CIRCUITS_FIRST));
}

#[test]
fn an_outlet_of_another_member_gets_no_circuit_of_the_bundle() {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = portal(6);
    let bundle = world.lanes()[0].0;
    let spec = World::spec("second", "postgres-outlet", &["postgres"]);
    let ticket = world.ticket(server, spec);
    let plan = vec![Plan::outlet("postgres", "postgres-inlet=true")];
    let second = world.add_node("second", Some(ticket), plan);
    world.run_until(BACK, |world| world.status(second).ready());
    // More at once than the first outlet has parked: some legs get to the second.
    world.say_circuits(inlet, 20, 0);
    world.run(Duration::from_secs(10));
    assert_eq!(world.lanes().len(), 1);
    assert_eq!(world.lanes()[0].0, bundle, "the lane is as it was");
    assert!(
        world
            .circuits_of(inlet)
            .all(|(_, end)| end.bundle == bundle)
    );
    assert_eq!(world.circuits_of(second).count(), 0);
    assert!(world.circuits_of(outlet).count() > CIRCUITS_FIRST);
}

#[test]
fn a_member_that_is_no_longer_allowed_gets_no_circuit() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = portal(7);
    // The outlet comes back with another rule, as after a change of its configuration.
    world.kill(outlet);
    if let Seat::Node { plan, .. } = &mut world.host_mut(outlet).seat {
        *plan = vec![Plan::outlet("postgres", "gold=true")];
    }
    world.restart(outlet);
    world.run(Duration::from_secs(30));
    assert_eq!(
        world.circuits_of(inlet).count() + world.circuits_of(outlet).count(),
        0
    );
}

#[test]
fn a_burst_of_circuits_leaves_room_for_a_lane() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = portal(8);
    world.say_circuits(inlet, u16::MAX, 0);
    world.run(Duration::from_millis(200));
    assert!(world.circuits_of(inlet).count() <= CIRCUITS_UNPROVEN_MAX);
    // In the middle of it, the lane is lost: another one is there at once.
    world.lose_lanes(inlet);
    world.run_until(Duration::from_millis(500), |world| world.lanes().len() == 1);
    world.run(Duration::from_secs(16));
    assert!(full(&world, outlet, inlet, CIRCUITS_READY_MAX));
    assert_eq!(world.host(inlet).logged(CloseReason::RelayBusy.code()), 0);
}

#[test]
fn one_that_is_lost_at_any_moment_of_its_making_is_made_again() {
    for rounds in 0..16 {
        for back in 0..6 {
            let Portal {
                mut world,
                outlet,
                inlet,
                ..
            } = portal(9);
            world.say_circuits(inlet, 2, 0);
            world.run_rounds(rounds);
            world.lose_newest(back);
            world.run_until(BACK, |world| full(world, outlet, inlet, CIRCUITS_MIN));
        }
    }
}

/// Faults in any order, then nothing for two seconds.
fn break_and_mend(seed: u64) {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = portal(seed);
    let mut random = SeededRandom::new(!seed);
    let mut draw = |below: u64| {
        let bytes: [u8; 8] = crypto::random::bytes(&mut random);
        u64::from_be_bytes(bytes) % below
    };
    for _ in 0..draw(16) {
        match draw(12) {
            0 => world.say_circuits(inlet, draw(12) as u16, draw(4) as u16),
            1 | 2 => world.lose_circuit(inlet, draw(64) as usize),
            3 => world.lose_circuit(outlet, draw(64) as usize),
            4 => world.lose_lanes(if draw(2) == 0 { inlet } else { outlet }),
            5 => world.cut(server, if draw(2) == 0 { inlet } else { outlet }),
            6 => {
                let victim = [server, outlet, inlet][draw(3) as usize];
                world.kill(victim);
                world.run(Duration::from_millis(draw(20_000)));
                world.restart(victim);
            }
            7 => {
                world.forget_lanes(outlet);
                world.run(Duration::from_millis(draw(5_000)));
                world.lose_lanes(inlet);
            }
            8 => world.ask_to_retire(outlet),
            9 => world.busy = true,
            10 => {
                world.busy = false;
                world.end_retired();
            }
            _ => world.run(Duration::from_secs(draw(900))),
        }
        // Often, the next fault comes while the cores are at work on what this one has broken.
        match draw(8) {
            0 => world.run(Duration::from_secs(3)),
            1 => world.run(Duration::from_millis(draw(200))),
            _ => world.run_rounds(draw(16) as usize),
        }
    }
    world.busy = false;
    world.end_retired();
    world.run_until(BACK, |world| {
        let ready = circuits(world, inlet).ready;
        ready >= target(world, inlet) && full(world, outlet, inlet, ready)
    });
}

#[test]
fn after_whatever_breaks_the_circuits_are_there_again_within_two_seconds() {
    for seed in 0..SEEDS {
        break_and_mend(seed);
    }
}
