//! Lanes in use get fresh keys, whoever holds their credential then, and end where they can't.

use super::super::world::{ExchangeFault, HostNo, Plan, Portal, Seat, World};
use super::identity::{rotate, serial};
use crate::error::CloseReason;
use crate::ids::BundleId;
use crate::limits::{KEY_EXCHANGE_EVERY, KEY_EXCHANGE_TIMEOUT, LANE_LIFE};
use crate::protocol::command::{Gate, Role};
use crate::time::Duration;

/// A portal with a key exchange each few seconds.
fn quick(seed: u64) -> Portal {
    every(seed, Duration::from_secs(4))
}

/// A portal with a key exchange within that time.
fn every(seed: u64, time: Duration) -> Portal {
    let mut portal = World::portal_at_start(seed);
    let world = &mut portal.world;
    for host in [portal.outlet, portal.inlet] {
        world.host_mut(host).key_exchange_every = time;
        world.kill(host);
        world.restart(host);
    }
    let (outlet, inlet) = (portal.outlet, portal.inlet);
    world.run_until(Duration::from_secs(10), |world| {
        world.status(outlet).ready() && world.status(inlet).ready()
    });
    portal
}

/// The same with two lanes, where each end's policy pins the other's id.
fn pinned(seed: u64) -> Portal {
    let mut portal = World::portal_at_start(seed);
    let (world, outlet, inlet) = (&mut portal.world, portal.outlet, portal.inlet);
    for (host, peer) in [(outlet, inlet), (inlet, outlet)] {
        let rule = format!("id={}", world.status(peer).id);
        world.kill(host);
        let of = world.host_mut(host);
        (of.key_exchange_every, of.lanes) = (Duration::from_secs(4), 2);
        if let Seat::Node { plan, .. } = &mut of.seat {
            *plan = vec![match &plan[0] {
                Plan::Inlet(via, _) => Plan::inlet(via, &rule),
                Plan::Outlet(at, _) => Plan::outlet(at, &rule),
            }];
        }
        world.restart(host);
    }
    world.run_until(Duration::from_secs(10), |world| world.lanes().len() == 2);
    world.busy = true;
    portal
}

fn bundles(world: &World) -> Vec<BundleId> {
    world.lanes().into_iter().map(|lane| lane.0).collect()
}

#[test]
fn a_lane_stays_whose_peer_changed_its_key_while_a_message_was_under_way() {
    // Message 2 is the outlet's, message 3 the inlet's. The other lane brings the news first.
    for (reader, read) in [(Role::Inlet, 0), (Role::Outlet, 1)] {
        let mut portal = pinned(u64::from(read) + 1);
        let world = &mut portal.world;
        let (before, slow) = (bundles(world), world.oldest_lane());
        world.exchange_fault = Some(ExchangeFault::Held(slow, reader, read));
        world.run_until(Duration::from_secs(10), |world| {
            world.is_unread(slow, reader)
        });
        let (changes, hears) = match reader {
            Role::Inlet => (portal.outlet, portal.inlet),
            Role::Outlet => (portal.inlet, portal.outlet),
        };
        let old = serial(world, changes);
        rotate(world, changes, 5);
        world.run_until(Duration::from_secs(20), |world| {
            serial(world, changes) > old
        });
        world.run(Duration::from_millis(100));
        world.exchange_fault = None;
        world.run(Duration::from_secs(20));
        assert_eq!(said(world, hears, "a lane was cut"), 0, "{reader:?}");
        assert_eq!(bundles(world), before, "{reader:?}");
        assert!(world.exchanges(slow).iter().all(|&over| over >= 3));
    }
}

#[test]
fn lanes_between_pinned_ends_stay_through_exchanges_and_changes_of_keys() {
    for seed in 1..=4 {
        let mut portal = pinned(seed);
        let world = &mut portal.world;
        let before = bundles(world);
        for change in 0..6 {
            for host in [portal.inlet, portal.outlet] {
                rotate(world, host, seed * 100 + change);
                world.run(Duration::from_millis(700 + 390 * change));
            }
        }
        world.run(Duration::from_secs(10));
        for host in [portal.inlet, portal.outlet] {
            assert_eq!(said(world, host, "a lane was cut"), 0, "seed {seed}");
        }
        assert_eq!(bundles(world), before, "seed {seed}");
    }
}

#[test]
fn a_failed_exchange_of_a_lane_that_retires_is_no_loss_while_another_takes_streams() {
    let mut portal = every(3, Duration::from_secs(240));
    let world = &mut portal.world;
    world.busy = true;
    let old = world.oldest_lane();
    while world.lanes().len() < 2 {
        world.run(Duration::from_secs(5));
    }
    let new: Vec<_> = bundles(world).into_iter().filter(|no| *no != old).collect();
    world.exchange_fault = Some(ExchangeFault::GarbledOn(old));
    world.run(Duration::from_secs(240));
    assert_eq!(said(world, portal.inlet, "a fresh key exchange failed"), 1);
    let gates = &world.host(portal.inlet).gates;
    assert!(gates.values().all(|gate| *gate == Gate::Wait), "{gates:?}");
    assert_eq!(bundles(world), new, "no lane is made for it");
}

#[test]
fn status_says_why_an_exchange_failed() {
    let mut portal = quick(4);
    let world = &mut portal.world;
    world.busy = true;
    world.exchange_fault = Some(ExchangeFault::Garbled(2));
    let inlet = portal.inlet;
    world.run_until(Duration::from_secs(5), |world| {
        said(world, inlet, "a fresh key exchange failed") == 1
    });
    let why = world.status(inlet).portals[0]
        .why
        .clone()
        .unwrap_or_default();
    assert!(why.contains("the handshake failed"), "{why}");
}

#[test]
fn a_lane_in_use_gets_fresh_keys_within_an_hour() {
    let mut portal = World::portal(1);
    let world = &mut portal.world;
    let lane = world.oldest_lane();
    // It carries a stream from before it is replaced.
    world.run(LANE_LIFE / 2 - Duration::from_secs(60));
    world.busy = true;
    world.run(KEY_EXCHANGE_EVERY - LANE_LIFE / 2 + Duration::from_secs(60));
    let [inlet, outlet] = world.exchanges(lane);
    assert!(inlet >= 1 && outlet >= 1, "{inlet} {outlet}");
    for host in [portal.outlet, portal.inlet] {
        assert_eq!(said(world, host, "a lane was cut"), 0);
    }
}

#[test]
fn exchanges_on_a_lane_follow_each_other() {
    let mut portal = quick(1);
    let world = &mut portal.world;
    world.busy = true;
    let first = world.oldest_lane();
    world.run(Duration::from_secs(120));
    let [inlet, outlet] = world.exchanges(first);
    // One in three to four seconds.
    assert!(inlet >= 29 && outlet >= 29, "{inlet} {outlet}");
    assert_eq!(said(world, portal.inlet, "a lane was cut"), 0);
    assert_eq!(said(world, portal.outlet, "a lane was cut"), 0);
}

fn said(world: &World, host: HostNo, text: &str) -> usize {
    world.host(host).said(text)
}

#[test]
fn a_message_of_an_exchange_that_is_not_the_peers_costs_the_lane() {
    // Of the first exchange: message 1 gives no sign of it yet, 2 and 3 do.
    for (message, at_inlet) in [(1, true), (2, true), (3, false)] {
        let mut portal = quick(u64::from(message));
        let world = &mut portal.world;
        world.busy = true;
        world.exchange_fault = Some(ExchangeFault::Garbled(message));
        world.run(Duration::from_secs(5));
        let who = if at_inlet {
            portal.inlet
        } else {
            portal.outlet
        };
        assert_eq!(
            said(world, who, "a fresh key exchange failed"),
            1,
            "message {message}"
        );
    }
}

#[test]
fn a_lane_whose_exchange_is_not_answered_ends() {
    let mut portal = quick(2);
    let world = &mut portal.world;
    world.busy = true;
    world.exchange_fault = Some(ExchangeFault::Lost);
    world.run(KEY_EXCHANGE_TIMEOUT - Duration::from_secs(1));
    assert_eq!(said(world, portal.inlet, "were not made anew"), 0);
    world.run(Duration::from_secs(6));
    assert!(said(world, portal.inlet, "were not made anew") >= 1);
    assert!(
        world
            .host(portal.inlet)
            .logged(CloseReason::ShakeTimeout.code())
            >= 1
    );
}
