//! Streams that have circuits of their own from the first byte on.

use super::app::App;
use super::rig::{BULK, Rig, Via, noise};
use crate::engine::simulated::Faults;
use crate::limits::{CIRCUIT_QUIET, DEDICATED_WAIT};
use crate::protocol::command::{Event, LaneEvent};
use crate::time::Duration;

/// A dedicated portal with so many circuits.
fn up(seed: u64, via: Via, faults: Faults, circuits: usize) -> Rig {
    let mut rig = Rig::new(seed, via, faults, BULK);
    rig.dedicated = true;
    rig.connect_lane();
    assert!(rig.until(|rig| rig.is_ready()), "seed {seed}: no lane");
    for _ in 0..circuits {
        rig.add_circuit();
    }
    rig
}

/// Runs a case on a good network and on rough ones, directly and through a relay.
fn everywhere(circuits: usize, case: impl Fn(Rig)) {
    for via in Via::ALL {
        case(up(1, via, Faults::none(), circuits));
        for seed in 2..8 {
            case(up(seed, via, Faults::rough(), circuits));
        }
    }
}

/// What left on lanes, of apps and of services.
fn on_lanes(rig: &Rig) -> u64 {
    let nodes = [&rig.inlet, &rig.outlet].into_iter();
    nodes
        .map(|node| node.counters.bytes_sent.get() - node.counters.circuit_bytes_sent.get())
        .sum()
}

#[test]
fn every_byte_leaves_on_circuits_and_a_quiet_stream_stays_there() {
    everywhere(3, |mut rig| {
        let seed = rig.world.seed();
        let apps: Vec<usize> = (0..3).map(|_| rig.app(b"hello")).collect();
        let echoed = |rig: &mut Rig, what: &[u8]| {
            let apps = apps.clone();
            rig.until(|rig| apps.iter().all(|&app| rig.apps[app].got == what))
        };
        assert!(echoed(&mut rig, b"hello"), "seed {seed}");
        rig.pass(CIRCUIT_QUIET * 4);
        for &app in &apps {
            rig.apps[app].say(b", again");
        }
        assert!(echoed(&mut rig, b"hello, again"), "seed {seed}");
        for node in [&rig.inlet, &rig.outlet] {
            let counters = &node.counters;
            assert_eq!(counters.promotions.get(), 3, "seed {seed}");
            assert_eq!(counters.demotions.get(), 0, "seed {seed}");
        }
        for &app in &apps {
            rig.apps[app].fin = true;
        }
        let over = |rig: &mut Rig| rig.apps.iter().all(App::is_over) && rig.is_idle();
        assert!(rig.until(over), "seed {seed}");
        assert!(rig.apps.iter().all(App::is_finished), "seed {seed}");
        assert_eq!(on_lanes(&rig), 0, "seed {seed}");
        rig.close();
    });
}

#[test]
fn bulk_and_its_ends_arrive_whole() {
    everywhere(2, |mut rig| {
        let seed = rig.world.seed();
        let says: Vec<Vec<u8>> = (0..4).map(|at| noise(300_000, seed * 10 + at)).collect();
        let apps: Vec<usize> = says.iter().map(|bytes| rig.app(bytes)).collect();
        for &app in &apps {
            rig.apps[app].fin = true;
        }
        let over = |rig: &mut Rig| rig.apps.iter().all(App::is_over) && rig.is_idle();
        assert!(rig.until(over), "seed {seed}");
        for (&app, bytes) in apps.iter().zip(&says) {
            assert!(rig.apps[app].is_finished(), "seed {seed}: app {app}");
            assert!(rig.apps[app].got == *bytes, "seed {seed}: app {app}");
        }
        rig.close();
    });
}

#[test]
fn without_a_circuit_it_asks_for_one_and_goes_on_on_the_lane_after_five_seconds() {
    everywhere(0, |mut rig| {
        let seed = rig.world.seed();
        let app = rig.app(b"hello");
        let early = DEDICATED_WAIT - Duration::from_millis(500);
        let came = rig.within(early, |rig| !rig.apps[app].got.is_empty());
        assert!(!came, "seed {seed}: it did not wait");
        let asked = rig.inlet.has(|event| {
            let wanted = |what: &LaneEvent| matches!(what, LaneEvent::Circuits { wanted: 1.., .. });
            matches!(event, Event::Lane { what, .. } if wanted(what))
        });
        assert!(asked, "seed {seed}: nobody asked for a circuit");
        let soon = Duration::from_secs(2);
        let came = rig.within(soon, |rig| rig.apps[app].got == b"hello");
        assert!(came, "seed {seed}: it hangs");
        for node in [&rig.inlet, &rig.outlet] {
            assert_eq!(node.counters.dedicated_late.get(), 1, "seed {seed}");
        }
        // Late is better than never.
        rig.add_circuit();
        rig.apps[app].say(b", again");
        let came = rig.until(|rig| rig.apps[app].got == b"hello, again");
        assert!(came, "seed {seed}");
        assert_eq!(rig.inlet.counters.promotions.get(), 1, "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_circuit_that_comes_in_time_is_taken_at_once() {
    everywhere(0, |mut rig| {
        let seed = rig.world.seed();
        let app = rig.app(b"hello");
        rig.pass(Duration::from_secs(1));
        assert!(rig.apps[app].got.is_empty(), "seed {seed}");
        rig.add_circuit();
        let soon = Duration::from_secs(1);
        let came = rig.within(soon, |rig| rig.apps[app].got == b"hello");
        assert!(came, "seed {seed}");
        assert_eq!(on_lanes(&rig), 0, "seed {seed}");
        rig.close();
    });
}

#[test]
fn what_ends_without_a_byte_waits_for_no_circuit() {
    everywhere(0, |mut rig| {
        let seed = rig.world.seed();
        let app = rig.app(b"");
        rig.apps[app].fin = true;
        let soon = Duration::from_secs(2);
        let over = rig.within(soon, |rig| rig.apps[app].is_over() && rig.is_idle());
        assert!(over, "seed {seed}");
        assert!(rig.apps[app].is_finished(), "seed {seed}");
        for node in [&rig.inlet, &rig.outlet] {
            assert_eq!(node.counters.dedicated_late.get(), 0, "seed {seed}");
        }
        rig.close();
    });
}
