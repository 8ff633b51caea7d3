//! Directions on circuits, rule by rule.

use super::super::*;
use super::bundle::{Bundle, zeros};
use super::world::Side::{self, Inlet, Outlet};
use crate::ids::CircuitNo;
use crate::limits::{CIRCUITS_MAX, CONTINUE_WAIT, SWITCH_WAIT, WANT_AGAIN};
use crate::protocol::record::{Body, Kind, Switch};
use crate::time::Duration;

const ONE: CircuitNo = CircuitNo(1);

fn switch(circuit: u16, bytes: u64) -> Body<'static> {
    let circuit = CircuitNo(circuit);
    Body::Switch(Switch { circuit, bytes })
}

/// Bytes are sent and written, one way.
fn carry(bundle: &mut Bundle, from: Side, len: usize) {
    assert_eq!(bundle.send(from, 0, len), len);
    bundle.settle();
    bundle.write(from.other(), 0, len);
    bundle.settle();
}

#[test]
fn a_direction_moves_comes_back_and_moves_again() {
    for side in [Inlet, Outlet] {
        let mut bundle = Bundle::one_stream();
        carry(&mut bundle, side, 100);
        for round in 0..3 {
            assert_eq!(bundle.promote(side, 0), Ok(ONE));
            bundle.settle();
            let n = bundle.n(side, 0);
            assert_eq!(bundle.lane(side).sends_on(n), Some(ONE));
            carry(&mut bundle, side, 5_000);
            assert!(bundle.go_back(side, 0));
            bundle.settle();
            assert_eq!(
                bundle.end(side).idle,
                round + 1,
                "the direction is given back"
            );
            carry(&mut bundle, side, 10);
        }
        assert_eq!(bundle.end(side.other()).apps[0].got, 100 + 3 * 5_010);
    }
}

#[test]
fn both_directions_of_a_stream_use_one_circuit() {
    let mut bundle = Bundle::one_stream();
    assert_eq!(bundle.promote(Inlet, 0), Ok(ONE));
    assert_eq!(bundle.promote(Outlet, 0), Ok(ONE));
    bundle.settle();
    carry(&mut bundle, Inlet, 700);
    carry(&mut bundle, Outlet, 900);
    for side in [Inlet, Outlet] {
        bundle.fin(side, 0);
    }
    bundle.settle();
    bundle.close_if_done(0);
    bundle.settle();
    for side in [Inlet, Outlet] {
        assert_eq!(bundle.end(side).apps[0].freed, Some(CloseReason::Finished));
        bundle.lane(side).check_circuits_idle();
    }
}

#[test]
fn a_direction_is_not_used_again_before_its_run_was_read_to_its_end() {
    let mut bundle = Bundle::one_stream();
    assert_eq!(bundle.promote(Inlet, 0), Ok(ONE));
    bundle.settle();
    bundle.send(Inlet, 0, 100);
    bundle.fin(Inlet, 0);
    bundle.settle();
    let other = bundle.open().unwrap_or(0);
    assert_eq!(bundle.promote(Inlet, other), Err(Stays::NoCircuit));
    bundle.write(Outlet, 0, 100);
    bundle.settle();
    assert_eq!(bundle.promote(Inlet, other), Ok(ONE));
}

#[test]
fn a_continue_that_comes_first_waits_for_its_switch() {
    let mut bundle = Bundle::one_stream();
    let took = bundle.give_on(Outlet, ONE, &Body::Continue(0), 1);
    assert_eq!(took, Ok(Took::Wait));
    assert_eq!(bundle.give(Outlet, &switch(1, 0), 1), Ok(()));
    let read = bundle.lane(Outlet).poll_reaction();
    assert_eq!(read, Some(Reaction::CircuitRead { circuit: ONE }));
    let data = bundle.give_on(Outlet, ONE, &Body::Data(zeros(5)), 1);
    assert!(matches!(data, Ok(Took::Deliver { n: StreamNo(1), .. })));
}

#[test]
fn a_continue_whose_switch_never_comes_gives_its_circuit_up() {
    let mut bundle = Bundle::one_stream();
    let took = bundle.give_on(Outlet, ONE, &Body::Continue(0), 1);
    assert_eq!(took, Ok(Took::Wait));
    let now = bundle.now + SWITCH_WAIT;
    assert_eq!(bundle.lane(Outlet).next_deadline(), now);
    bundle.lane(Outlet).on_timer(now);
    let dead = bundle.lane(Outlet).poll_reaction();
    assert_eq!(dead, Some(Reaction::CircuitDead { circuit: ONE }));
}

#[test]
fn a_stream_whose_continue_does_not_come_is_reset() {
    let mut bundle = Bundle::one_stream();
    assert_eq!(bundle.give(Outlet, &switch(1, 0), 1), Ok(()));
    bundle.pass(CONTINUE_WAIT);
    assert_eq!(
        bundle.end(Outlet).apps[0].freed,
        Some(CloseReason::TunnelLost)
    );
    bundle.settle();
    assert_eq!(
        bundle.end(Inlet).apps[0].freed,
        Some(CloseReason::TunnelLost)
    );
}

#[test]
fn records_of_a_direction_that_is_elsewhere_are_violations() {
    let elsewhere = |kind| Err(Violation::Elsewhere(kind));
    let mut bundle = Bundle::one_stream();
    for (body, n) in [
        (Body::Data(zeros(3)), 1),
        (Body::End(0), 1),
        (Body::Cut, 1),
        (switch(0, 0), 1),
    ] {
        let took = bundle.give_on(Outlet, ONE, &body, n);
        assert_eq!(took, elsewhere(body.kind()).map(|()| Took::Nothing));
    }
    assert_eq!(
        bundle.give(Outlet, &Body::Continue(0), 1),
        elsewhere(Kind::Continue)
    );
    assert_eq!(
        bundle.give(Outlet, &switch(0, 0), 1),
        elsewhere(Kind::Switch)
    );
    let mut bundle = Bundle::one_stream();
    assert_eq!(bundle.give(Outlet, &switch(1, 0), 1), Ok(()));
    for body in [Body::Data(zeros(3)), Body::End(0), switch(1, 0)] {
        assert_eq!(bundle.give(Outlet, &body, 1), elsewhere(body.kind()));
    }
    for (at, n) in [(1, 1), (0, 2)] {
        let took = bundle.give_on(Outlet, ONE, &Body::Continue(at), n);
        assert_eq!(took, Err(Violation::Elsewhere(Kind::Continue)), "{at} {n}");
    }
    assert_eq!(
        bundle.give_on(Outlet, ONE, &Body::Continue(0), 1),
        Ok(Took::Nothing)
    );
    let took = bundle.give_on(Outlet, ONE, &Body::Data(zeros(3)), 2);
    assert_eq!(took, Err(Violation::Elsewhere(Kind::Data)));
    let took = bundle.give_on(Outlet, ONE, &Body::Retire, 0);
    assert_eq!(took, Err(Violation::Elsewhere(Kind::Retire)));
}

#[test]
fn counts_that_differ_are_violations() {
    let mut bundle = Bundle::one_stream();
    let counts = |said, counted| Violation::Count { said, counted };
    assert_eq!(bundle.give(Outlet, &switch(1, 7), 1), Err(counts(7, 0)));
    let mut bundle = Bundle::one_stream();
    assert_eq!(bundle.promote(Inlet, 0), Ok(ONE));
    bundle.settle();
    carry(&mut bundle, Inlet, 10);
    let took = bundle.give_on(Outlet, ONE, &Body::End(9), 1);
    assert_eq!(took, Err(counts(9, 10)));
    let mut bundle = Bundle::one_stream();
    assert_eq!(bundle.promote(Inlet, 0), Ok(ONE));
    bundle.settle();
    carry(&mut bundle, Inlet, 10);
    assert_eq!(
        bundle.give_on(Outlet, ONE, &switch(0, 10), 1),
        Ok(Took::Nothing)
    );
    assert_eq!(
        bundle.give(Outlet, &Body::Continue(11), 1),
        Err(counts(11, 10))
    );
}

#[test]
fn a_circuit_that_is_in_use_takes_no_other_stream() {
    let mut bundle = Bundle::one_stream();
    let two = bundle.open().unwrap_or(0);
    bundle.settle();
    bundle.connected(two);
    bundle.settle();
    assert_eq!(bundle.give(Outlet, &switch(1, 0), 1), Ok(()));
    let other = bundle.give(Outlet, &switch(1, 0), 2);
    assert_eq!(other, Err(Violation::Elsewhere(Kind::Switch)));
}

#[test]
fn an_ack_that_was_not_earned_is_a_violation() {
    let mut bundle = Bundle::one_stream();
    let early = Err(Violation::Untimely(Kind::Ack));
    assert_eq!(bundle.give(Inlet, &Body::Ack(ONE), 0), early);
    assert_eq!(bundle.promote(Inlet, 0), Ok(ONE));
    bundle.settle();
    assert_eq!(bundle.give(Inlet, &Body::Ack(ONE), 0), early);
    assert_eq!(
        bundle.give(Inlet, &Body::Ack(CircuitNo(9)), 0),
        Ok(()),
        "lost here"
    );
}

#[test]
fn a_switch_to_a_circuit_that_is_gone_resets_its_stream_alone() {
    let mut bundle = Bundle::one_stream();
    bundle.open();
    bundle.settle();
    assert_eq!(bundle.promote(Inlet, 0), Ok(ONE));
    bundle.pull_lane(Inlet);
    bundle
        .lane(Outlet)
        .on_circuit_lost(ONE, CloseReason::TunnelLost);
    bundle.settle();
    assert_eq!(
        bundle.end(Outlet).apps[0].freed,
        Some(CloseReason::TunnelLost)
    );
    assert!(bundle.end(Inlet).apps[1].is_live());
}

#[test]
fn a_lost_circuit_takes_the_streams_of_both_its_directions_and_no_other() {
    let mut bundle = Bundle::one_stream();
    for _ in 0..2 {
        let app = bundle.open().unwrap_or(0);
        bundle.settle();
        bundle.connected(app);
        bundle.settle();
    }
    assert_eq!(bundle.promote(Inlet, 0), Ok(ONE));
    assert_eq!(bundle.promote(Outlet, 1), Ok(ONE));
    bundle.settle();
    bundle.break_circuit(ONE);
    bundle.settle();
    for side in [Inlet, Outlet] {
        let apps = &bundle.end(side).apps;
        let freed: Vec<bool> = apps.iter().map(|app| !app.is_live()).collect();
        assert_eq!(freed, [true, true, false], "{side:?}");
    }
    bundle.settle();
    assert_eq!(bundle.lane(Inlet).streams(), 1);
}

#[test]
fn a_direction_whose_circuit_is_lost_before_it_has_left_goes_on_on_the_lane() {
    let mut bundle = Bundle::one_stream();
    assert_eq!(bundle.promote(Inlet, 0), Ok(ONE));
    let n = bundle.n(Inlet, 0);
    assert_eq!(bundle.lane(Inlet).sendable(n), 0);
    bundle
        .lane(Inlet)
        .on_circuit_lost(ONE, CloseReason::TunnelLost);
    assert!(bundle.lane(Inlet).sendable(n) > 0);
    let said = bundle.lane(Inlet).poll_reaction();
    assert!(
        matches!(said, Some(Reaction::Resume { n: of, .. }) if of == n),
        "the app waits for nothing: {said:?}"
    );
}

#[test]
fn credit_that_comes_after_a_switch_counts_when_the_direction_is_back() {
    let mut bundle = Bundle::one_stream();
    let n = bundle.n(Inlet, 0);
    while bundle.send(Inlet, 0, 16_000) > 0 {}
    assert_eq!(bundle.promote(Inlet, 0), Ok(ONE));
    bundle.settle();
    assert_eq!(bundle.lane(Inlet).sendable(n), 0);
    while !bundle.end(Outlet).apps[0].is_written() {
        bundle.write(Outlet, 0, usize::MAX);
    }
    bundle.settle();
    assert!(bundle.go_back(Inlet, 0));
    bundle.settle();
    assert!(
        bundle.lane(Inlet).sendable(n) > 0,
        "or it would never send again"
    );
}

#[test]
fn closed_may_overtake_the_end_on_a_circuit() {
    for reset in [false, true] {
        let mut bundle = Bundle::one_stream();
        assert_eq!(bundle.promote(Outlet, 0), Ok(ONE));
        bundle.settle();
        bundle.send(Outlet, 0, 50);
        bundle.fin(Outlet, 0);
        bundle.pull_circuit(Outlet, ONE);
        bundle.fin(Inlet, 0);
        bundle.pull_lane(Inlet);
        while bundle.arrive(Outlet) {}
        bundle.close_if_done(0);
        bundle.pull_lane(Outlet);
        while bundle.arrive(Inlet) {}
        assert_eq!(bundle.lane(Outlet).streams(), 0, "CLOSED has left");
        assert!(
            bundle.end(Inlet).apps[0].is_live(),
            "END is still on the circuit"
        );
        if reset {
            bundle.reset(Inlet, 0);
        } else {
            while bundle.arrive_on(Inlet, ONE) {}
            bundle.write(Inlet, 0, 50);
        }
        bundle.settle();
        assert_eq!(bundle.lane(Inlet).streams(), 0, "reset: {reset}");
        bundle.lane(Inlet).check_circuits_idle();
        bundle.lane(Outlet).check_circuits_idle();
    }
}

#[test]
fn what_the_lane_brings_early_is_held_behind_the_circuit() {
    let mut bundle = Bundle::one_stream();
    assert_eq!(bundle.promote(Inlet, 0), Ok(ONE));
    bundle.settle();
    bundle.send(Inlet, 0, 100);
    assert!(bundle.go_back(Inlet, 0));
    bundle.pull_circuit(Inlet, ONE);
    bundle.send(Inlet, 0, 30);
    bundle.fin(Inlet, 0);
    bundle.pull_lane(Inlet);
    while bundle.arrive(Outlet) {}
    bundle.write(Outlet, 0, usize::MAX);
    assert_eq!(
        bundle.end(Outlet).apps[0].got,
        0,
        "the circuit's bytes are first"
    );
    assert!(!bundle.end(Outlet).apps[0].fin_due);
    for _ in 0..4 {
        while bundle.arrive_on(Outlet, ONE) {}
        bundle.write(Outlet, 0, usize::MAX);
    }
    assert_eq!(bundle.end(Outlet).apps[0].got, 130);
    assert!(bundle.end(Outlet).apps[0].fin_due);
}

#[test]
fn a_circuit_retires_when_both_ends_are_done_with_it() {
    let mut bundle = Bundle::one_stream();
    assert_eq!(bundle.promote(Outlet, 0), Ok(ONE));
    bundle.settle();
    bundle.lane(Inlet).retire_circuit(ONE);
    bundle.settle();
    assert_eq!(bundle.promote(Inlet, 0), Err(Stays::NoCircuit));
    assert!(
        !bundle.lane(Inlet).is_circuit_spent(ONE),
        "the other direction goes on"
    );
    carry(&mut bundle, Outlet, 500);
    bundle.fin(Outlet, 0);
    bundle.settle();
    for side in [Inlet, Outlet] {
        assert!(bundle.lane(side).is_circuit_spent(ONE), "{side:?}");
    }
    let after = bundle.give_on(Outlet, ONE, &Body::Continue(0), 1);
    assert_eq!(after, Err(Violation::Untimely(Kind::Continue)));
    let after = bundle.give(Outlet, &switch(1, 0), 1);
    assert_eq!(after, Err(Violation::Elsewhere(Kind::Switch)));
}

#[test]
fn want_is_said_at_most_once_a_second() {
    let mut bundle = Bundle::one_stream();
    let mut now = bundle.now;
    assert!(!bundle.lane(Inlet).want(now, 3), "an inlet dials by itself");
    assert!(bundle.lane(Outlet).want(now, 3));
    bundle.settle();
    assert_eq!(bundle.end(Inlet).wants, 3);
    now = now + (WANT_AGAIN - Duration::from_millis(1));
    assert!(!bundle.lane(Outlet).want(now, 4));
    now = now + Duration::from_millis(1);
    assert!(bundle.lane(Outlet).want(now, 5));
    bundle.settle();
    assert_eq!(bundle.end(Inlet).wants, 5);
}

#[test]
fn circuits_are_bounded_and_numbered_once() {
    let mut bundle = Bundle::new();
    for _ in 0..CIRCUITS_MAX {
        bundle.add_circuit();
    }
    for no in [0, 1, 999] {
        assert!(!bundle.lane(Inlet).add_circuit(CircuitNo(no)), "{no}");
    }
}

#[test]
fn the_peak_is_what_was_in_use_at_once() {
    let mut bundle = Bundle::one_stream();
    bundle.add_circuit();
    bundle.open();
    bundle.settle();
    assert_eq!(bundle.lane(Inlet).circuits_peak(), 0);
    assert!(bundle.promote(Inlet, 0).is_ok() && bundle.promote(Inlet, 1).is_ok());
    bundle.settle();
    for side in [Inlet, Outlet] {
        assert_eq!(bundle.lane(side).circuits_peak(), 2, "{side:?}");
    }
    bundle.fin(Inlet, 0);
    bundle.settle();
    bundle.lane(Inlet).reset_circuits_peak();
    assert_eq!(bundle.lane(Inlet).circuits_peak(), 1);
}
