//! Rules of how streams end and when their numbers are free.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::super::*;
use super::world::{NOW_MILLIS, Side, World, give, one_stream, open_at};
use crate::error::Code;
use crate::protocol::record::{Body, Kind};
use crate::time::Instant;
use Side::{Inlet, Outlet};

#[test]
fn half_close_carries_a_long_answer_behind_the_requests_fin() {
    let mut world = one_stream();
    world.send(Inlet, 0, 10);
    world.fin(Inlet, 0);
    world.settle();
    world.write(Outlet, 0, 10);
    assert!(world.outlet.apps[0].fin_due);
    let mut left = 3 * 1024 * 1024;
    while left > 0 {
        left -= world.send(Outlet, 0, left);
        world.settle();
        world.write(Inlet, 0, usize::MAX);
        world.settle();
    }
    world.fin(Outlet, 0);
    assert!(world.close_if_done(0));
    world.settle();
    assert_eq!(world.inlet.apps[0].freed, Some(CloseReason::Finished));
    assert_eq!(world.inlet.apps[0].got, 3 * 1024 * 1024);
    assert_eq!(
        (world.inlet.lane.streams(), world.outlet.lane.streams()),
        (0, 0)
    );
    world.check_apps();
}

#[test]
fn an_end_held_while_connecting_is_a_fin_behind_the_held_bytes() {
    let mut world = World::ready();
    world.eager = false;
    let app = world.open().unwrap();
    world.send(Inlet, app, 5);
    world.fin(Inlet, app);
    world.settle();
    assert!(!world.outlet.apps[0].fin_due);
    world.connected(0);
    assert!(world.outlet.apps[0].fin_due && world.outlet.apps[0].pending == 5);
}

#[test]
fn a_number_waits_for_closed_and_the_lowest_free_one_is_taken() {
    let mut world = World::ready();
    for _ in 0..3 {
        world.open().unwrap();
    }
    world.settle();
    for side in [Inlet, Outlet] {
        world.fin(side, 1);
    }
    world.settle();
    assert_eq!(world.inlet.lane.streams(), 3, "no CLOSED yet");
    let app = world.open().unwrap();
    assert_eq!(world.inlet.n(app), StreamNo(4));
    world.close_if_done(1);
    world.settle();
    let app = world.open().unwrap();
    assert_eq!(world.inlet.n(app), StreamNo(2));
}

#[test]
fn a_number_waits_until_a_slow_app_has_read_everything() {
    let mut world = one_stream();
    world.send(Outlet, 0, 1000);
    for side in [Inlet, Outlet] {
        world.fin(side, 0);
    }
    world.settle();
    world.close_if_done(0);
    world.settle();
    assert_eq!(
        world.inlet.lane.streams(),
        1,
        "CLOSED is read, bytes are not"
    );
    world.write(Inlet, 0, 999);
    assert!(world.inlet.apps[0].is_live());
    world.write(Inlet, 0, 1);
    assert_eq!(world.inlet.apps[0].freed, Some(CloseReason::Finished));
    assert_eq!(world.inlet.lane.streams(), 0);
}

#[test]
fn a_reset_behind_closed_has_nobody_to_tell() {
    let mut world = one_stream();
    world.send(Outlet, 0, 1000);
    for side in [Inlet, Outlet] {
        world.fin(side, 0);
    }
    world.settle();
    world.close_if_done(0);
    world.settle();
    world.reset(Inlet, 0);
    assert!(!world.inlet.lane.has_control());
    assert_eq!(world.inlet.lane.streams(), 0);
}

#[test]
fn a_reset_becomes_a_reset_and_the_number_waits_for_the_answer() {
    for side in [Inlet, Outlet] {
        let mut world = one_stream();
        world.reset(side, 0);
        assert_eq!(world.end(side).apps[0].freed, Some(CloseReason::AppReset));
        world.pull_control(side);
        assert_eq!(world.end(side).lane.streams(), 1);
        world.settle();
        let other = world.end(side.other());
        assert_eq!(other.apps[0].reset, Some(CloseReason::PeerReset));
        assert!(!other.apps[0].fin_due);
        assert_eq!(
            (world.inlet.lane.streams(), world.outlet.lane.streams()),
            (0, 0)
        );
    }
}

#[test]
fn aborts_that_cross_are_each_others_answer() {
    let mut world = one_stream();
    world.reset(Inlet, 0);
    world.reset(Outlet, 0);
    world.pull_control(Inlet);
    world.pull_control(Outlet);
    world.settle();
    assert_eq!(
        (world.inlet.lane.streams(), world.outlet.lane.streams()),
        (0, 0)
    );
    assert!(world.inlet.apps[0].reset.is_none() && world.outlet.apps[0].reset.is_none());
}

#[test]
fn an_abort_that_crosses_closed_is_ignored_and_closed_is_its_answer() {
    let mut world = one_stream();
    for side in [Inlet, Outlet] {
        world.fin(side, 0);
    }
    world.settle();
    world.close_if_done(0);
    world.pull_control(Outlet);
    world.reset(Inlet, 0);
    world.pull_control(Inlet);
    world.settle();
    assert_eq!(
        (world.inlet.lane.streams(), world.outlet.lane.streams()),
        (0, 0)
    );
    let app = world.open().unwrap();
    world.settle();
    assert_eq!(world.inlet.n(app), StreamNo(1));
    assert!(
        world.outlet.apps[1].is_live(),
        "the old ABORT did not hit the new stream"
    );
}

#[test]
fn an_abort_right_behind_its_open_still_gets_an_answer() {
    let mut world = World::ready();
    let app = world.open().unwrap();
    world.reset(Inlet, app);
    world.settle();
    assert_eq!(
        (world.inlet.lane.streams(), world.outlet.lane.streams()),
        (0, 0)
    );
    assert_eq!(world.outlet.apps[0].freed, Some(CloseReason::PeerReset));
}

#[test]
fn refused_is_the_outlets_abort_and_tells_why() {
    let mut world = World::ready();
    world.eager = false;
    let app = world.open().unwrap();
    world.send(Inlet, app, 50);
    world.settle();
    world.failed(0, CloseReason::TargetRefused);
    assert_eq!(
        world.send(Inlet, app, 7),
        7,
        "crosses REFUSED and is discarded"
    );
    world.settle();
    assert_eq!(world.inlet.apps[0].reset, Some(CloseReason::TargetRefused));
    assert_eq!(
        (world.inlet.lane.streams(), world.outlet.lane.streams()),
        (0, 0)
    );
}

#[test]
fn a_reset_that_crosses_refused_needs_no_more_answer() {
    let mut world = World::ready();
    world.eager = false;
    world.open().unwrap();
    world.settle();
    world.failed(0, CloseReason::TargetUnknown);
    world.pull_control(Outlet);
    world.reset(Inlet, 0);
    world.settle();
    assert_eq!(
        (world.inlet.lane.streams(), world.outlet.lane.streams()),
        (0, 0)
    );
}

#[test]
fn an_end_that_counts_other_bytes_is_a_violation() {
    for said in [9, 11, 0, u64::MAX] {
        let mut world = one_stream();
        world.send(Inlet, 0, 10);
        world.settle();
        let wrong = give(&mut world, Outlet, &Body::End(said), 1);
        assert_eq!(wrong, Err(Violation::Count { said, counted: 10 }));
    }
}

#[test]
fn a_number_is_not_free_before_its_closed_has_left() {
    let mut world = one_stream();
    for side in [Inlet, Outlet] {
        world.fin(side, 0);
    }
    world.settle();
    world.close_if_done(0);
    let open = Body::Open(open_at("postgres", NOW_MILLIS));
    let early = give(&mut world, Outlet, &open, 1);
    assert!(
        matches!(
            early,
            Err(Violation::OutOfTurn {
                input: Input::Open,
                ..
            })
        ),
        "{early:?}"
    );
}

#[test]
fn data_behind_end_is_a_violation() {
    let mut world = one_stream();
    world.fin(Inlet, 0);
    world.settle();
    for body in [Body::Data(&[1]), Body::End(0)] {
        let more = give(&mut world, Outlet, &body, 1);
        assert!(
            matches!(
                more,
                Err(Violation::OutOfTurn {
                    state: State::PeerDone,
                    ..
                })
            ),
            "{more:?}"
        );
    }
}

#[test]
fn a_peers_code_never_makes_a_reset_look_clean() {
    for (code, why) in [
        (CloseReason::Finished.code(), CloseReason::PeerReset),
        (CloseReason::AppReset.code(), CloseReason::PeerReset),
        (Code(1), CloseReason::PeerReset),
        (CloseReason::Stopping.code(), CloseReason::Stopping),
    ] {
        let mut world = one_stream();
        assert_eq!(give(&mut world, Inlet, &Body::Abort(code), 1), Ok(()));
        let (n, key) = (StreamNo(1), StreamKey(0));
        assert_eq!(
            world.inlet.lane.poll_reaction(),
            Some(Reaction::ResetApp { n, key, why })
        );
    }
}

#[test]
fn a_lost_lane_resets_every_app_and_gives_everything_back() {
    let mut world = one_stream();
    world.open().unwrap();
    world.lose();
    for end in [&world.inlet, &world.outlet] {
        for app in &end.apps {
            assert_eq!(app.reset, Some(CloseReason::TunnelLost));
            assert!(!app.fin_due);
        }
        assert_eq!(end.lane.streams(), 0);
        assert_eq!(end.lane.next_deadline(), Instant::FAR_FUTURE);
        assert!(!end.lane.has_control());
    }
    assert_eq!(world.open(), Err(OpenRefused::NotReady));
    let late = give(&mut world, Inlet, &Body::Ping(1), 0);
    assert_eq!(late, Err(Violation::Untimely(Kind::Ping)));
}
