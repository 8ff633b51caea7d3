//! The order of a fresh key exchange, and what is out of it.

use super::super::*;
use super::world::Side::{Inlet, Outlet};
use super::world::{World, give};
use crate::limits::{KEY_EXCHANGE_BURST, KEY_EXCHANGE_REST};
use crate::protocol::record::{Body, Kind};
use crate::time::Duration;

/// A world where the inlet's control has begun the exchange and nobody goes on by himself.
fn begun() -> World {
    let mut world = World::ready();
    world.exchanges = false;
    world.inlet.lane.exchange(1, vec![1]);
    world
}

fn untimely(kind: Kind) -> Result<(), Violation> {
    Err(Violation::Untimely(kind))
}

#[test]
fn both_directions_go_over_to_the_mixed_key_and_the_next_exchange_follows() {
    let mut world = World::ready();
    for number in 1..=3 {
        world.inlet.lane.exchange(number, vec![1]);
        world.settle();
        world.pass(KEY_EXCHANGE_REST);
        for end in [&world.inlet, &world.outlet] {
            assert_eq!(end.mixed, number);
            assert_eq!(end.held, None, "the secret is forgotten");
        }
    }
}

#[test]
fn the_inlet_goes_over_only_behind_key_ready_and_the_outlet_behind_having_said_it() {
    let mut world = begun();
    world.settle();
    world.outlet.lane.exchange(1, vec![2]);
    world.settle();
    assert!(world.inlet.lane.mix(1, Some(vec![3])));
    assert_eq!(world.inlet.lane.mix_due(), None, "message 3 has not left");
    world.settle();
    assert_eq!(world.inlet.lane.mix_due(), None, "KEY_READY has not come");
    assert!(world.outlet.lane.mix(1, None));
    assert_eq!(
        world.outlet.lane.mix_due(),
        None,
        "KEY_READY has not been said"
    );
    world.pull_control(Outlet);
    assert_eq!(world.inlet.lane.mix_due(), None);
    assert!(world.arrive(Inlet));
    assert_eq!(world.inlet.lane.mix_due(), Some(1));
}

#[test]
fn a_message_of_an_exchange_leaves_before_a_credential_that_came_meanwhile() {
    let mut world = begun();
    world.inlet.lane.credential(b"newer".to_vec());
    let mut buf = [0; 256];
    let lane = &mut world.inlet.lane;
    let kinds = std::iter::from_fn(|| lane.next_control(&mut buf).map(|(header, _)| header.kind));
    assert_eq!(
        kinds.collect::<Vec<_>>(),
        [Kind::KeyExchange, Kind::Credential]
    );
}

#[test]
fn an_exchange_that_the_outlet_begins_is_a_violation() {
    let mut world = World::ready();
    let begins = give(&mut world, Inlet, &Body::KeyExchange(1, &[1]), 0);
    assert_eq!(begins, untimely(Kind::KeyExchange));
    // While the inlet's own is under way, too.
    let mut world = begun();
    let begins = give(&mut world, Inlet, &Body::KeyExchange(2, &[1]), 0);
    assert_eq!(begins, untimely(Kind::KeyExchange));
}

#[test]
fn an_answer_to_a_message_that_has_not_left_is_a_violation() {
    let mut world = begun();
    let early = give(&mut world, Inlet, &Body::KeyExchange(1, &[2]), 0);
    assert_eq!(early, untimely(Kind::KeyExchange));
}

#[test]
fn numbers_that_leave_one_out_or_come_again_are_violations() {
    for number in [0, 2, u32::MAX] {
        let mut world = World::ready();
        let wrong = give(&mut world, Outlet, &Body::KeyExchange(number, &[1]), 0);
        assert_eq!(wrong, untimely(Kind::KeyExchange), "{number}");
    }
    let mut world = World::ready();
    world.inlet.lane.exchange(1, vec![1]);
    world.settle();
    let again = give(&mut world, Outlet, &Body::KeyExchange(1, &[1]), 0);
    assert_eq!(again, untimely(Kind::KeyExchange));
}

#[test]
fn a_second_message_before_the_answer_is_a_violation() {
    let mut world = begun();
    world.settle();
    for number in [1, 2] {
        let second = give(&mut world, Outlet, &Body::KeyExchange(number, &[3]), 0);
        assert_eq!(second, untimely(Kind::KeyExchange));
    }
}

#[test]
fn a_key_update_that_names_an_unknown_mix_is_a_violation_in_every_step() {
    let all = [Inlet, Outlet];
    let unknown = |world: &mut World, number| {
        for side in all {
            let wrong = give(world, side, &Body::KeyUpdate(Some(number)), 0);
            assert_eq!(wrong, untimely(Kind::KeyUpdate), "{side:?} {number}");
        }
    };
    let mut world = begun();
    unknown(&mut world, 1);
    world.settle();
    unknown(&mut world, 1);
    world.outlet.lane.exchange(1, vec![2]);
    world.settle();
    unknown(&mut world, 1);
    assert!(world.inlet.lane.mix(1, Some(vec![3])));
    world.settle();
    unknown(&mut world, 1);
    assert!(world.outlet.lane.mix(1, None));
    // The inlet may not have heard KEY_READY before it is said.
    unknown(&mut world, 1);
    world.pull_control(Outlet);
    let mixes = Body::KeyUpdate(Some(1));
    assert_eq!(
        give(&mut world, Inlet, &mixes, 0),
        untimely(Kind::KeyUpdate)
    );
    assert!(world.arrive(Inlet), "KEY_READY");
    unknown(&mut world, 2);
    for side in all {
        assert_eq!(give(&mut world, side, &mixes, 0), Ok(()));
        assert_eq!(give(&mut world, side, &mixes, 0), untimely(Kind::KeyUpdate));
    }
}

#[test]
fn key_ready_is_the_outlets_and_comes_once_and_in_turn() {
    let mut world = World::ready();
    let ready = Body::KeyReady(1);
    assert_eq!(
        give(&mut world, Outlet, &ready, 0),
        Err(Violation::WrongEnd(Kind::KeyReady))
    );
    assert_eq!(give(&mut world, Inlet, &ready, 0), untimely(Kind::KeyReady));
    let mut world = begun();
    world.settle();
    world.outlet.lane.exchange(1, vec![2]);
    world.settle();
    assert!(world.inlet.lane.mix(1, Some(vec![3])));
    let early = give(&mut world, Inlet, &ready, 0);
    assert_eq!(early, untimely(Kind::KeyReady), "message 3 has not left");
    world.settle();
    let other = give(&mut world, Inlet, &Body::KeyReady(2), 0);
    assert_eq!(other, untimely(Kind::KeyReady));
    assert_eq!(give(&mut world, Inlet, &ready, 0), Ok(()));
    assert_eq!(give(&mut world, Inlet, &ready, 0), untimely(Kind::KeyReady));
}

#[test]
fn ordinary_key_updates_go_on_in_the_middle_of_an_exchange() {
    let mut world = begun();
    for side in [Inlet, Outlet] {
        assert_eq!(give(&mut world, side, &Body::KeyUpdate(None), 0), Ok(()));
        let said = world.end(side).lane.poll_reaction();
        assert_eq!(said, Some(Reaction::KeyUpdate { mix: None }));
    }
}

#[test]
fn exchanges_in_a_row_reach_control_at_a_bounded_rate() {
    let mut world = World::ready();
    let mut reached = 0;
    for number in 1..=KEY_EXCHANGE_BURST + 3 {
        world.inlet.lane.exchange(number, vec![1]);
        world.settle();
        reached = world.outlet.mixed;
        if reached < number {
            break;
        }
    }
    assert_eq!(reached, KEY_EXCHANGE_BURST);
    world.pass(KEY_EXCHANGE_REST - Duration::from_nanos(1));
    world.settle();
    assert_eq!(world.outlet.mixed, KEY_EXCHANGE_BURST);
    world.pass(Duration::from_nanos(1));
    world.settle();
    assert_eq!(world.outlet.mixed, KEY_EXCHANGE_BURST + 1);
}
