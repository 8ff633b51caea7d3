//! Nodes with several workers: a lane and its circuits at each, and bundles that stay together.

use super::super::world::{HostNo, Portal, World};
use super::super::{Input, Reconfigured};
use crate::ids::{PortalNo, WorkerId, WorkerSet};
use crate::limits::{CIRCUITS_FIRST, CREDENTIAL_LIFE, LANE_LIFE, REVOCATION_MAX_AGE};
use crate::protocol::policy::Policy;
use crate::time::Duration;
use crypto::{Random, SeededRandom};

const BACK: Duration = Duration::from_secs(3);

/// A portal whose inlet and outlet have so many workers, not run yet and checked at every moment.
fn portal(seed: u64, inlets: u8, outlets: u8) -> Portal {
    portal_of_lanes(seed, inlets, outlets, 1)
}

/// The same with so many lanes at each of the inlet's workers.
fn portal_of_lanes(seed: u64, inlets: u8, outlets: u8, lanes: u8) -> Portal {
    let mut portal = World::portal_at_start(seed);
    portal.world.checked = true;
    for (host, workers) in [(portal.inlet, inlets), (portal.outlet, outlets)] {
        portal.world.kill(host);
        portal.world.host_mut(host).workers = workers;
        portal.world.host_mut(host).lanes = lanes;
        portal.world.restart(host);
    }
    portal
}

/// Each worker of the inlet has its lanes with their circuits, and nothing else is there.
fn full(world: &World, inlet: HostNo) -> bool {
    let lanes = usize::from(world.host(inlet).lanes);
    let each = (lanes, lanes * CIRCUITS_FIRST);
    let workers = usize::from(world.host(inlet).workers);
    world.at_workers(inlet) == vec![each; workers] && world.lanes().len() == workers * lanes
}

/// The first portal has this policy from now on.
fn set_policy(policy: Policy) -> Input {
    Input::Reconfigured(Box::new(Reconfigured {
        policies: vec![(PortalNo(0), policy)],
        ..Reconfigured::default()
    }))
}

#[test]
fn an_inlet_has_a_lane_at_each_worker_and_tells_them_where() {
    let Portal {
        mut world, inlet, ..
    } = portal(1, 3, 1);
    world.run_until(BACK, |world| full(world, inlet));
    let told = world.host(inlet).serving.get(&PortalNo(0)).copied();
    assert_eq!(told, Some(WorkerId::all(3).collect::<WorkerSet>()));
    assert_eq!(world.status(inlet).portals[0].lanes, 3);
    assert_eq!(world.status(inlet).portals[0].peers.len(), 1);
}

#[test]
fn an_outlet_spreads_lanes_over_its_workers_and_their_circuits_follow() {
    for (seed, inlets, outlets) in [(1, 2, 2), (2, 4, 2), (3, 1, 3), (4, 3, 3)] {
        let Portal {
            mut world,
            inlet,
            outlet,
            ..
        } = portal(seed, inlets, outlets);
        world.run_until(BACK, |world| full(world, inlet));
        let at = world.at_workers(outlet);
        let lanes: Vec<usize> = at.iter().map(|(lanes, _)| *lanes).collect();
        let (least, most) = (lanes.iter().min().unwrap(), lanes.iter().max().unwrap());
        assert!(most - least <= 1, "seed {seed}: {lanes:?}");
        for (lanes, circuits) in at {
            assert_eq!(circuits, lanes * CIRCUITS_FIRST, "seed {seed}");
        }
    }
}

#[test]
fn a_worker_that_lost_its_lane_is_not_named_to_the_others_until_it_has_another() {
    let Portal {
        mut world, inlet, ..
    } = portal(5, 2, 2);
    world.run_until(BACK, |world| full(world, inlet));
    world.lose_lanes(inlet);
    world.settle();
    let told = world.host(inlet).serving.get(&PortalNo(0)).copied();
    assert_eq!(told, Some(WorkerSet::NONE));
    world.run_until(BACK, |world| full(world, inlet));
    let told = world.host(inlet).serving.get(&PortalNo(0)).copied();
    assert_eq!(told, Some(WorkerId::all(2).collect::<WorkerSet>()));
}

#[test]
fn an_inlet_has_so_many_lanes_at_each_worker_and_replaces_each_of_them() {
    let Portal {
        mut world, inlet, ..
    } = portal_of_lanes(7, 2, 1, 3);
    world.run_until(BACK, |world| full(world, inlet));
    assert_eq!(world.status(inlet).portals[0].lanes, 6);
    assert_eq!(world.status(inlet).portals[0].peers.len(), 1);
    let before: Vec<_> = world
        .lanes()
        .into_iter()
        .map(|(bundle, ..)| bundle)
        .collect();
    world.run(LANE_LIFE);
    world.end_retired();
    world.run_until(BACK, |world| full(world, inlet));
    let lanes = world.lanes();
    let mut old = lanes.iter().filter(|(bundle, ..)| before.contains(bundle));
    assert!(old.next().is_none(), "a lane is older than it may be");
}

#[test]
fn a_policy_and_a_renewed_credential_reach_every_lane_of_a_worker() {
    let Portal {
        mut world,
        inlet,
        outlet,
        ..
    } = portal_of_lanes(8, 1, 1, 4);
    world.run_until(BACK, |world| full(world, inlet));
    let before = world.lanes();
    world.run(CREDENTIAL_LIFE - CREDENTIAL_LIFE / 8);
    let after = world.lanes();
    for (bundle, of_inlet, of_outlet) in before {
        let now = after.iter().find(|(same, ..)| *same == bundle);
        let Some((_, outlets, inlets)) = now else {
            continue;
        };
        let both = outlets.serial > of_inlet.serial && inlets.serial > of_outlet.serial;
        assert!(both, "a lane has heard of no renewal");
    }
    let gold = Policy::parse(&["gold=true"]).unwrap();
    world.input(outlet, set_policy(gold));
    world.settle();
    world.run(Duration::from_secs(1));
    assert!(world.lanes().is_empty(), "a lane was forgotten");
}

/// Whatever breaks, and when: a while later each worker has its bundle again, and no more.
#[test]
fn bundles_of_several_workers_and_lanes_come_back_whatever_breaks() {
    for seed in 0..100 {
        let mut random = SeededRandom::new(seed);
        let mut draw = |below: u8| {
            let mut byte = [0];
            random.fill(&mut byte);
            byte[0] % below
        };
        let lanes = 1 + draw(3);
        let (inlets, outlets) = (1 + draw(3), 1 + draw(3));
        let Portal {
            mut world,
            server,
            outlet,
            inlet,
        } = portal_of_lanes(seed, inlets, outlets, lanes);
        for _ in 0..12 {
            world.run_rounds(usize::from(draw(6)));
            let host = [inlet, outlet][usize::from(draw(2))];
            match draw(7) {
                0 | 1 => world.lose_lanes(host),
                2 | 3 => world.lose_circuit(host, usize::from(draw(8))),
                4 => world.lose_newest(usize::from(draw(4))),
                5 => world.cut(server, host),
                6 => world.ask_to_retire(outlet),
                _ => world.run(Duration::from_millis(u64::from(draw(200)))),
            }
        }
        world.end_retired();
        world.run(Duration::from_secs(1));
        world.end_retired();
        world.run_until(Duration::from_secs(40), |world| full(world, inlet));
    }
}

/// Portals of which a lane, at least, is on its way between two workers of the outlet.
fn halfway() -> Vec<(u64, Portal)> {
    let halfway = (0..12).filter_map(|seed| {
        let mut portal = portal(seed, 3, 3);
        let (world, inlet) = (&mut portal.world, portal.inlet);
        world.run_until(BACK, |world| full(world, inlet));
        // The next lane belongs to the worker of this one, and its leg is of any.
        world.lose_lane(inlet, seed as usize);
        world.slow = true;
        world.run(BACK);
        (portal.world.lanes_on_the_way(portal.outlet) > 0).then_some((seed, portal))
    });
    let halfway: Vec<_> = halfway.collect();
    assert!(halfway.len() >= 3, "lanes that move are too seldom");
    halfway
}

/// The links arrive, and no lane is left at the outlet.
fn arrive_and_end(seed: u64, world: &mut World, outlet: HostNo) {
    world.slow = false;
    world.hand_on();
    world.settle();
    let left = world.at_workers(outlet);
    assert_eq!(left, vec![(0, 0); 3], "seed {seed}");
    world.run(Duration::from_secs(2));
    assert!(world.lanes().is_empty(), "seed {seed}");
}

#[test]
fn a_new_policy_ends_lanes_that_are_on_their_way_to_another_worker() {
    for (seed, portal) in halfway() {
        let (mut world, outlet) = (portal.world, portal.outlet);
        let gold = Policy::parse(&["gold=true"]).unwrap();
        world.input(outlet, set_policy(gold));
        world.settle();
        arrive_and_end(seed, &mut world, outlet);
    }
}

/// The inlet waits for READY meanwhile: nothing else shows it that moment.
#[test]
fn an_inlet_that_denies_a_lane_which_is_being_made_makes_it_again_when_it_may() {
    for (_, portal) in halfway() {
        let (mut world, inlet) = (portal.world, portal.inlet);
        let set = |world: &mut World, rule| {
            let policy = Policy::parse(&[rule]).unwrap();
            world.input(inlet, set_policy(policy));
            world.settle();
        };
        set(&mut world, "gold=true");
        world.slow = false;
        world.hand_on();
        world.run(Duration::from_secs(1));
        assert!(world.lanes().is_empty());
        set(&mut world, "postgres-outlet=true");
        world.run_until(Duration::from_secs(30), |world| full(world, inlet));
    }
}

#[test]
fn what_is_held_of_revocations_grows_old_and_ends_lanes_that_are_on_their_way() {
    for (seed, portal) in halfway() {
        let (mut world, outlet) = (portal.world, portal.outlet);
        world.withhold(outlet);
        world.run(REVOCATION_MAX_AGE + BACK);
        arrive_and_end(seed, &mut world, outlet);
    }
}
