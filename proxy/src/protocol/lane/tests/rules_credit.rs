//! Rules of credit.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::super::*;
use super::world::{Side, World, give, one_stream};
use crate::limits::{CREDIT_INITIAL, CREDIT_MAX};
use crate::protocol::record::{Body, Header, Kind};
use crate::time::Instant;
use Side::{Inlet, Outlet};

#[test]
fn credit_bounds_what_may_be_sent_and_comes_back_when_half_is_used() {
    let mut world = one_stream();
    let all = CREDIT_INITIAL as usize;
    let mut sent = 0;
    while world.inlet.lane.sendable(StreamNo(1)) > 0 {
        sent += world.send(Inlet, 0, all);
    }
    assert_eq!(sent, all);
    world.settle();
    world.write(Outlet, 0, all / 2 - 1);
    assert!(!world.outlet.lane.has_control(), "less than half is used");
    world.write(Outlet, 0, 1);
    world.settle();
    assert!(world.inlet.lane.sendable(StreamNo(1)) >= all / 2);
}

#[test]
fn one_byte_more_than_granted_is_a_violation() {
    let mut world = one_stream();
    let bytes = vec![0; CREDIT_INITIAL as usize];
    let mut over = |len: usize| {
        let header = Header::new(Kind::Data, StreamNo(1));
        world
            .outlet
            .lane
            .on_record(Instant::ZERO, header, &bytes[..len])
    };
    assert_eq!(over(bytes.len() - 1), Ok(()));
    assert_eq!(over(2), Err(Violation::Overrun { got: 2, granted: 1 }));
}

#[test]
fn a_fast_stream_gets_more_credit_while_the_budget_allows() {
    for (budget, most) in [
        (usize::MAX, CREDIT_MAX),
        (0, CREDIT_INITIAL),
        (20_000, 32 * 1024),
    ] {
        let mut world = World::with_credit(budget);
        world.settle();
        world.open().unwrap();
        world.settle();
        for _ in 0..200 {
            while world.send(Outlet, 0, usize::MAX) > 0 {}
            world.settle();
            world.write(Inlet, 0, usize::MAX);
            world.settle();
        }
        assert_eq!(world.outlet.lane.sendable(StreamNo(1)), most as usize);
        world.reset(Inlet, 0);
        assert_eq!(
            world.inlet.shared.credit_left(),
            budget,
            "a reset gives everything back"
        );
    }
}

#[test]
fn a_blocked_stream_holds_no_other_up() {
    let mut world = World::ready();
    for _ in 0..100 {
        world.open().unwrap();
    }
    world.settle();
    while world.send(Outlet, 0, usize::MAX) > 0 {}
    world.settle();
    for app in 1..100 {
        for _ in 0..20 {
            assert_eq!(world.send(Outlet, app, 5000), 5000);
            world.settle();
            world.write(Inlet, app, 5000);
            world.settle();
        }
    }
    assert_eq!(world.send(Outlet, 0, 1), 0, "its app has read nothing");
}

#[test]
fn credit_after_end_is_ignored_and_too_much_is_a_violation() {
    let mut world = one_stream();
    let too_much = Body::Credit(CREDIT_MAX - CREDIT_INITIAL + 1);
    assert_eq!(
        give(&mut world, Outlet, &too_much, 1),
        Err(Violation::TooMuchCredit)
    );
    let mut world = one_stream();
    world.fin(Outlet, 0);
    assert_eq!(give(&mut world, Outlet, &too_much, 1), Ok(()));
    assert_eq!(world.outlet.lane.sendable(StreamNo(1)), 0);
}
