//! A node's identity changes its key while lanes are up; the old key is of no use afterwards.

use crypto::SeededRandom;
use crypto::identity::IdentitySecret;

use super::super::world::{HostNo, Portal, Seat, World};
use super::super::{Input, MembershipStatus};
use crate::error::Problem;
use crate::time::Duration;
use zeroize::Zeroizing;

/// Changes the key as a driver does: durably, then in the running core.
pub(super) fn rotate(world: &mut World, host: HostNo, seed: u64) {
    let Seat::Node { identity, .. } = &mut world.host_mut(host).seat else {
        panic!("not a node");
    };
    let mut secret = IdentitySecret::from_bytes(identity).unwrap();
    secret.rotate(&mut SeededRandom::new(seed)).unwrap();
    *identity = secret.to_bytes();
    world.input(host, Input::Identity(Box::new(secret)));
    world.settle();
}

fn key_on_disk(world: &World, host: HostNo) -> Zeroizing<Vec<u8>> {
    match &world.host(host).seat {
        Seat::Node { identity, .. } => identity.clone(),
        Seat::Server { .. } => panic!("not a node"),
    }
}

pub(super) fn serial(world: &World, host: HostNo) -> u64 {
    match world.status(host).membership {
        MembershipStatus::Enrolled { serial, .. } => serial,
        other => panic!("{other:?}"),
    }
}

#[test]
fn lanes_stay_and_both_ends_show_the_new_key_from_then_on() {
    for seed in 1..=3 {
        let Portal {
            mut world,
            server,
            outlet,
            inlet,
        } = World::portal(seed);
        world.busy = true;
        world.checked = true;
        let (before, ids) = (world.bundles(), [outlet, inlet].map(|h| world.status(h).id));
        let sessions = world.host(server).relay_worker.sessions.clone();
        for host in [outlet, inlet] {
            let serial_before = serial(&world, host);
            rotate(&mut world, host, seed);
            world.run(Duration::from_secs(10));
            assert!(serial(&world, host) > serial_before, "a credential for it");
        }
        assert_eq!(world.bundles(), before, "no lane was lost");
        assert_eq!([outlet, inlet].map(|h| world.status(h).id), ids);
        let now = &world.host(server).relay_worker.sessions;
        assert!(
            sessions.iter().all(|old| !now.contains(old)),
            "new sessions"
        );
        for host in [outlet, inlet] {
            assert!(world.status(host).ready());
            assert_eq!(world.host(host).said("a lane was cut"), 0);
            // What is on disk is what works.
            world.kill(host);
            world.restart(host);
        }
        world.run_until(Duration::from_secs(20), |world| {
            world.status(outlet).ready() && world.status(inlet).ready()
        });
    }
}

#[test]
fn while_the_authority_is_away_the_credential_at_hand_is_shown_with_the_key_that_it_names() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = World::portal(4);
    for host in [outlet, inlet] {
        world.withhold(host);
        rotate(&mut world, host, 9);
        // Once more, before anybody has heard of the first.
        rotate(&mut world, host, 10);
    }
    // A new lane has to be made meanwhile.
    world.kill(inlet);
    let before = serial(&world, outlet);
    world.deliver_to(inlet);
    world.restart(inlet);
    world.run_until(Duration::from_secs(20), |world| {
        world.status(inlet).ready() && !world.lanes().is_empty()
    });
    assert_eq!(
        serial(&world, outlet),
        before,
        "it has not reached the authority"
    );
    world.deliver_to(outlet);
    world.run_until(Duration::from_secs(40), |world| {
        serial(world, outlet) > before
    });
    assert!(world.status(outlet).ready());
}

#[test]
fn the_old_key_and_one_that_was_forked_off_it_are_refused_for_good() {
    for forked in [false, true] {
        let Portal {
            mut world, inlet, ..
        } = World::portal(5);
        let mut stolen = key_on_disk(&world, inlet);
        if forked {
            let mut secret = IdentitySecret::from_bytes(&stolen).unwrap();
            secret.rotate(&mut SeededRandom::new(666)).unwrap();
            stolen = secret.to_bytes();
        }
        rotate(&mut world, inlet, 7);
        world.run(Duration::from_secs(10));
        world.kill(inlet);
        if let Seat::Node { identity, .. } = &mut world.host_mut(inlet).seat {
            *identity = stolen;
        }
        world.restart(inlet);
        world.run(Duration::from_secs(30));
        assert!(!world.status(inlet).ready(), "forked: {forked}");
        assert!(world.lanes().is_empty());
        let refused = world.host(inlet).logged(Problem::HistoryForked.code());
        assert_eq!(refused, 1, "forked: {forked}");
    }
}
