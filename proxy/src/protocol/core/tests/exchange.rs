//! Lanes in use get fresh keys, whoever holds their credential then, and end where they can't.

use super::super::world::{ExchangeFault, HostNo, Portal, World};
use crate::error::CloseReason;
use crate::limits::{KEY_EXCHANGE_EVERY, KEY_EXCHANGE_TIMEOUT, LANE_LIFE};
use crate::time::Duration;

/// A portal whose lanes carry streams for as long as the test lasts.
fn busy(seed: u64) -> Portal {
    let mut portal = World::portal(seed);
    portal.world.busy = true;
    portal
}

/// The same, with a key exchange each few seconds.
fn quick(seed: u64) -> Portal {
    let mut portal = World::portal_at_start(seed);
    let world = &mut portal.world;
    for host in [portal.outlet, portal.inlet] {
        world.host_mut(host).key_exchange_every = Duration::from_secs(4);
        world.kill(host);
        world.restart(host);
    }
    let (outlet, inlet) = (portal.outlet, portal.inlet);
    world.run_until(Duration::from_secs(10), |world| {
        world.status(outlet).ready() && world.status(inlet).ready()
    });
    portal
}

#[test]
fn a_lane_in_use_gets_fresh_keys_within_each_hour() {
    let mut portal = busy(1);
    let world = &mut portal.world;
    world.run(LANE_LIFE);
    let old = world.oldest_lane();
    for hours in 1..=6 {
        world.run(KEY_EXCHANGE_EVERY);
        let [inlet, outlet] = world.exchanges(old);
        assert!(
            inlet >= hours && inlet.abs_diff(outlet) <= 1,
            "{inlet} {outlet} in {hours} h"
        );
    }
    for host in [portal.outlet, portal.inlet] {
        let logs = &world.host(host).logs;
        let warned =
            |record: &&crate::protocol::core::LogRecord| record.level >= super::super::Level::Warn;
        assert_eq!(logs.iter().filter(warned).count(), 0, "{logs:#?}");
    }
}

#[test]
fn exchanges_cross_renewals_and_replacements() {
    for seed in 1..=3 {
        let mut portal = quick(seed);
        let world = &mut portal.world;
        world.busy = true;
        let first = world.oldest_lane();
        world.run(Duration::from_secs(3 * 3600));
        let [inlet, outlet] = world.exchanges(first);
        assert!(inlet > 2000 && outlet > 2000, "{inlet} {outlet}");
        assert_eq!(said(world, portal.inlet, "a lane was cut"), 0);
        assert_eq!(said(world, portal.outlet, "a lane was cut"), 0);
    }
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
