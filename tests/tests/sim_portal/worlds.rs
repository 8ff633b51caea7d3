//! Worlds that the scenarios draw too seldom, or that take hours: a store that fails, wrong clocks,
//! a relay apart from its authority. Each with a few seeds of its own.

use crate::cast::{Shape, Who};
use crate::endpoint::{Ending, Part};
use crate::portal::Portal;
use crate::process::EPOCH;
use crate::script::Script;
use proxy::error::{CloseReason, Problem};
use proxy::limits::{REVOCATION_MAX_AGE, REVOCATION_MAX_AGE_MAX};
use proxy::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
/// A refusal is waited out, then a dial and an exchange.
const BACK: Duration = Duration::from_secs(10 + 2);

/// A new app's exchange ends well within that time, whatever happens to the tries before.
fn works(portal: &mut Portal, at: Who, within: Duration) {
    let since = portal.world.now();
    while portal.world.now().since(since) < within {
        let app = portal.app_at(at, 0, Script::echo(60, 20));
        let left = within.saturating_sub(portal.world.now().since(since));
        portal.within(left, |portal| portal.apps[app].end.is_over());
        if portal.apps[app].end.ending == Ending::Clean {
            return;
        }
        portal.pass(Duration::from_millis(50));
    }
    panic!("the portal does not work: {}", portal.story());
}

/// An app that says something every ten minutes for as long as it may.
fn long_app(portal: &mut Portal) -> usize {
    let mut script = Script::echo(20 * 200, 20);
    script.app.pace = Some((20, MINUTE * 10));
    portal.app(0, script)
}

#[test]
fn nodes_that_come_while_the_store_fails_are_in_once_it_works() {
    for seed in 0..30 {
        let shape = Shape {
            apart: seed % 2 == 0,
            ..Shape::default()
        };
        let mut portal = Portal::new(seed, &shape);
        portal.of(Who::Server).store_fails = true;
        portal.pass(Duration::from_millis(500 + seed * 400));
        assert!(!portal.is_ready(), "nobody is enrolled by a broken store");
        portal.of(Who::Server).store_fails = false;
        let ready = portal.within(BACK * 2, |portal| portal.is_ready());
        assert!(ready, "seed {seed}: {}", portal.story());
        works(&mut portal, Who::Inlet, BACK);
        portal.close(false);
    }
}

#[test]
fn a_store_that_fails_for_less_than_a_credential_lives_disturbs_nobody() {
    // How old the word on revocations may be is another matter.
    let shape = Shape {
        max_age: REVOCATION_MAX_AGE_MAX,
        ..Shape::default()
    };
    for seed in 0..5 {
        let mut portal = Portal::up(seed, &shape);
        let long = long_app(&mut portal);
        portal.pass(MINUTE * (10 + seed as u32));
        portal.of(Who::Server).store_fails = true;
        // From a renewal that is due on, credentials are half their hour old.
        portal.pass(MINUTE * 25);
        works(&mut portal, Who::Inlet, Duration::from_secs(2));
        portal.of(Who::Server).store_fails = false;
        portal.pass(MINUTE * 60);
        works(&mut portal, Who::Inlet, Duration::from_secs(2));
        let ending = portal.apps[long].end.ending;
        assert_eq!(ending, Ending::Open, "seed {seed}: {}", portal.story());
        portal.close(false);
    }
}

#[test]
fn access_ends_when_credentials_can_not_be_renewed_and_is_back_with_the_store() {
    for seed in 0..5 {
        let mut portal = Portal::up(seed, &Shape::default());
        let long = long_app(&mut portal);
        portal.of(Who::Server).store_fails = true;
        // Its next word may be ten minutes away.
        portal.pass(MINUTE * 75);
        let ending = portal.apps[long].end.ending;
        assert!(
            matches!(ending, Ending::Failed(_)),
            "seed {seed}: {ending:?}: {}",
            portal.story()
        );
        let code = Some(Problem::StoreUnavailable.code());
        let logs = &portal.see(Who::Server).logs;
        let logged = logs.iter().filter(|(_, record)| record.code == code);
        assert!(logged.count() <= 2, "a line for each change of state");
        let app = portal.app(0, Script::echo(60, 20));
        portal.within(Duration::from_secs(8), |portal| {
            portal.apps[app].end.is_over()
        });
        let ending = portal.apps[app].end.ending;
        assert!(
            matches!(ending, Ending::Failed(_)),
            "seed {seed}: {ending:?}"
        );
        portal.of(Who::Server).store_fails = false;
        works(&mut portal, Who::Inlet, BACK * 2);
        portal.close(false);
    }
}

#[test]
fn a_clock_that_is_wrong_by_two_hours_or_jumps_costs_no_stream_and_no_renewal() {
    for seed in 0..6 {
        let who = [Who::Inlet, Who::Outlet][seed as usize % 2];
        let by = [-7200, 7200, -600][seed as usize % 3];
        let shape = Shape {
            wrong_clock: Some((who, by)),
            ..Shape::default()
        };
        let mut portal = Portal::up(seed, &shape);
        let long = long_app(&mut portal);
        for _ in 0..3 {
            portal.pass(MINUTE * 35);
            // An hour back or forth while it runs.
            let error = &mut portal.of(who).clock_error_s;
            *error = -*error / 2;
            works(&mut portal, Who::Inlet, Duration::from_secs(2));
        }
        let ending = portal.apps[long].end.ending;
        assert_eq!(ending, Ending::Open, "seed {seed}: {}", portal.story());
        portal.close(false);
    }
}

#[test]
fn a_relay_works_while_its_authority_is_away_and_after_its_own_restart() {
    for seed in 0..6 {
        let shape = Shape {
            apart: true,
            crowd: true,
            max_age: REVOCATION_MAX_AGE_MAX,
            ..Shape::default()
        };
        let mut portal = Portal::up(seed, &shape);
        let long = long_app(&mut portal);
        portal.of(Who::Server).kill();
        portal.pass(MINUTE * 12);
        for at in [Who::Inlet, Who::Second] {
            works(&mut portal, at, Duration::from_secs(1));
        }
        assert_eq!(portal.apps[long].end.ending, Ending::Open);
        portal.of(Who::Relay).kill();
        portal.restart(Who::Relay);
        for at in [Who::Inlet, Who::Second] {
            works(&mut portal, at, Duration::from_secs(2));
        }
        portal.restart(Who::Server);
        portal.pass(MINUTE * 60);
        works(&mut portal, Who::Inlet, Duration::from_secs(2));
        portal.close(false);
    }
}

#[test]
fn a_revoked_inlet_s_streams_end_within_two_seconds_and_nobody_else_s() {
    for seed in 0..6 {
        let shape = Shape {
            apart: seed % 2 == 0,
            crowd: true,
            workers: vec![(Who::Outlet, 1 + (seed % 3) as u8)],
            ..Shape::default()
        };
        let mut portal = Portal::up(seed, &shape);
        portal.pass(Duration::from_millis(1500 + 137 * seed));
        let long = |portal: &mut Portal, at| {
            let mut script = Script::echo(20 * 2000, 20);
            script.app.pace = Some((20, Duration::from_millis(50)));
            portal.app_at(at, 0, script)
        };
        let stays = long(&mut portal, Who::Inlet);
        long(&mut portal, Who::Second);
        portal.pass(Duration::from_millis(500));
        let now = crypto::UnixTime(EPOCH + portal.world.now().as_nanos() / 1_000_000_000);
        portal.of(Who::Server).revoke_in_store(now, "second-inlet");
        let ended = portal.within(Duration::from_secs(2), |portal| {
            portal.ended(Who::Outlet, CloseReason::Revoked) == 1
        });
        assert!(ended, "seed {seed}: {}", portal.story());
        portal.pass(Duration::from_secs(20));
        let ending = portal.apps[stays].end.ending;
        assert_eq!(ending, Ending::Open, "seed {seed}: {}", portal.story());
        let late = portal.app_at(Who::Second, 0, Script::echo(60, 20));
        portal.within(Duration::from_secs(8), |portal| {
            portal.apps[late].end.is_over()
        });
        assert!(!portal.is_clean(late), "seed {seed}: {}", portal.story());
        portal.close(false);
    }
}

#[test]
fn streams_end_at_the_age_allowed_while_the_authority_is_away_and_are_back_with_it() {
    for seed in 0..4 {
        let shape = Shape {
            apart: true,
            ..Shape::default()
        };
        let mut portal = Portal::up(seed, &shape);
        portal.pass(Duration::from_secs(5 + seed));
        long_app(&mut portal);
        portal.pass(Duration::from_secs(2));
        portal.of(Who::Server).kill();
        let cut = |portal: &Portal| {
            let of = |who| portal.ended(who, CloseReason::RevocationStale);
            of(Who::Inlet) + of(Who::Outlet)
        };
        portal.pass(REVOCATION_MAX_AGE - Duration::from_secs(3));
        assert_eq!(cut(&portal), 0, "seed {seed}: {}", portal.story());
        portal.pass(Duration::from_secs(4));
        assert!(cut(&portal) >= 1, "seed {seed}: {}", portal.story());
        portal.restart(Who::Server);
        works(&mut portal, Who::Inlet, BACK * 2);
        portal.close(false);
    }
}

#[test]
fn keys_are_made_anew_under_bulk_and_queries_and_directions_leave_old_circuits() {
    const MIB: u64 = 1024 * 1024;
    for seed in 0..6 {
        let shape = Shape {
            key_exchange_every: Duration::from_millis(20 + 60 * seed),
            workers: vec![
                (Who::Inlet, 1 + (seed % 2) as u8),
                (Who::Outlet, 1 + (seed % 3) as u8),
            ],
            ..Shape::default()
        };
        let mut portal = Portal::up(seed, &shape);
        portal.pass(Duration::from_secs(2));
        let part = Part {
            pace: Some((64 * 1024, Duration::from_millis(5))),
            ..Part::plain(32 * MIB)
        };
        let bulk = Script {
            app: part,
            service: part,
        };
        let mut queries = Script::echo(200 * 100, 100);
        queries.app.pace = Some((100, Duration::from_millis(10)));
        let apps = [portal.app(0, bulk), portal.app(0, queries)];
        let over = portal.within(Duration::from_secs(60), |portal| {
            portal.apps_are_over() && portal.is_idle()
        });
        assert!(over, "seed {seed}: {}", portal.story());
        for app in apps {
            assert!(portal.is_clean(app), "seed {seed}: {}", portal.story());
        }
        for who in [Who::Inlet, Who::Outlet] {
            let counters = portal.see(who).counters().unwrap();
            let [exchanges, left] =
                ["key_exchanges", "circuits_left"].map(|name| counters.get(name));
            assert!(exchanges > 4, "seed {seed}: {who:?}: {exchanges} exchanges");
            assert!(left > 0, "seed {seed}: {who:?}: nobody left a circuit");
            assert_eq!(counters.get("lane_violations"), 0, "seed {seed}: {who:?}");
        }
        portal.close(true);
    }
}
