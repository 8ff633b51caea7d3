//! Bulk directions on circuits of their own: the same bytes, ends and resets as on a lane.

use super::app::App;
use super::rig::{BULK, INLET, OUTLET, Rig, Via, noise};
use crate::engine::simulated::{Faults, SimSocket};
use crate::error::CloseReason;
use crate::limits::CIRCUIT_QUIET;
use crate::protocol::command::{CircuitCommand, CircuitEvent, Command, Event, LaneEvent};
use crate::time::Duration;

const MIB: usize = 1024 * 1024;

/// As rough as `Faults::rough`, but fast: on a slow network nothing is bulk.
fn windy() -> Faults {
    Faults {
        latency: Duration::from_micros(1)..Duration::from_millis(2),
        window: 256 * 1024,
        short_reads: 200,
        short_writes: 200,
        split: 500,
        ..Faults::none()
    }
}

/// Runs a case on a good network and on rough ones, directly and through a relay, with so many
/// circuits.
fn everywhere(circuits: usize, case: impl Fn(Rig)) {
    for via in Via::ALL {
        for seed in 1..6 {
            let faults = if seed == 1 { Faults::none() } else { windy() };
            let mut rig = Rig::up(seed, via, faults, BULK);
            for _ in 0..circuits {
                rig.add_circuit();
            }
            case(rig);
        }
    }
}

/// No circuit's direction is in use at either end, once what is under way has arrived.
fn is_at_rest(rig: &Rig) -> bool {
    [&rig.inlet, &rig.outlet]
        .iter()
        .all(|node| node.worker.circuits_are_idle())
}

fn promotions(rig: &Rig) -> (u64, u64) {
    (
        rig.inlet.counters.promotions.get(),
        rig.outlet.counters.promotions.get(),
    )
}

#[test]
fn bulk_both_ways_moves_to_circuits_and_arrives_byte_identical() {
    everywhere(2, |mut rig| {
        let seed = rig.world.seed();
        let bytes = noise(4 * MIB, seed);
        let app = rig.app(&bytes);
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        let failed = rig.apps[app].failed;
        assert!(rig.apps[app].is_finished(), "seed {seed}: {failed:?}");
        assert!(rig.apps[app].got == bytes, "seed {seed}: other bytes came");
        let (up, down) = promotions(&rig);
        assert!(up > 0 && down > 0, "seed {seed}: {up} up, {down} down");
        let counters = &rig.inlet.counters;
        assert!(
            counters.circuit_bytes_sent.get() > MIB as u64,
            "seed {seed}"
        );
        assert!(
            counters.circuit_bytes_received.get() > MIB as u64,
            "seed {seed}"
        );
        assert!(rig.until(|rig| is_at_rest(rig)), "seed {seed}");
        rig.close();
    });
}

/// A service that answers four mebibytes once the request has ended.
fn answers_after_the_end(sock: SimSocket) -> App {
    let mut app = App::new(sock);
    app.answer = noise(4 * MIB, 99);
    app
}

#[test]
fn a_bulk_reply_after_the_requests_end_arrives_whole() {
    everywhere(1, |mut rig| {
        let seed = rig.world.seed();
        rig.serve = answers_after_the_end;
        let app = rig.app(b"request");
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(rig.apps[app].is_finished(), "seed {seed}");
        assert!(rig.apps[app].got == noise(4 * MIB, 99), "seed {seed}");
        assert_eq!(promotions(&rig), (0, 1), "seed {seed}");
        assert!(rig.until(|rig| is_at_rest(rig)), "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_quiet_direction_goes_back_and_leaves_again() {
    everywhere(1, |mut rig| {
        let seed = rig.world.seed();
        let mut said = noise(2 * MIB, seed);
        let app = rig.app(&said);
        let echoed = |rig: &mut Rig, len| rig.until(|rig| rig.apps[app].got.len() == len);
        assert!(echoed(&mut rig, said.len()), "seed {seed}");
        rig.pass(CIRCUIT_QUIET * 3);
        assert!(is_at_rest(&rig), "seed {seed}: a circuit is in use");
        assert!(rig.inlet.counters.demotions.get() >= 1, "seed {seed}");
        let small = noise(100, seed + 1);
        said.extend_from_slice(&small);
        rig.apps[app].say(&small);
        assert!(echoed(&mut rig, said.len()), "seed {seed}");
        let (before, _) = promotions(&rig);
        let more = noise(2 * MIB, seed + 2);
        said.extend_from_slice(&more);
        rig.apps[app].say(&more);
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(rig.apps[app].is_finished(), "seed {seed}");
        assert!(rig.apps[app].got == said, "seed {seed}: other bytes came");
        assert!(
            promotions(&rig).0 > before,
            "seed {seed}: it stayed on the lane"
        );
        rig.close();
    });
}

/// A reader that rests leaves bytes on the lane and on circuits that the direction has left again.
#[test]
fn a_direction_that_goes_back_and_leaves_while_nobody_reads_keeps_its_order() {
    everywhere(3, |mut rig| {
        let seed = rig.world.seed();
        rig.serve = App::new;
        let mut said = noise(400 * 1024, seed);
        let app = rig.app(&said);
        assert!(rig.until(|rig| !rig.served.is_empty()), "seed {seed}");
        rig.served[0].reads = 0;
        for burst in 1..6 {
            rig.pass(CIRCUIT_QUIET * 2);
            let more = noise(usize::try_from(burst).unwrap() * 60 * 1024, seed + burst);
            rig.apps[app].say(&more);
            said.extend_from_slice(&more);
            if burst == 3 {
                // A little is read, and then nothing again.
                let got = rig.served[0].got.len();
                rig.served[0].reads = 100 * 1024;
                rig.within(CIRCUIT_QUIET, |rig| rig.served[0].got.len() > got);
                rig.served[0].reads = 0;
            }
        }
        rig.apps[app].fin = true;
        rig.pass(CIRCUIT_QUIET * 2);
        rig.served[0].reads = usize::MAX;
        assert!(rig.until(|rig| rig.served[0].eof), "seed {seed}");
        assert!(rig.served[0].got == said, "seed {seed}: other bytes came");
        rig.served[0].fin = true;
        let over = rig.until(|rig| rig.is_idle() && rig.apps[app].is_over());
        assert!(over && rig.apps[app].is_finished(), "seed {seed}");
        rig.close();
    });
}

#[test]
fn many_bulk_streams_share_few_circuits() {
    everywhere(2, |mut rig| {
        let seed = rig.world.seed();
        let says: Vec<Vec<u8>> = (0..6).map(|at| noise(MIB, seed * 10 + at)).collect();
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
        assert!(rig.until(|rig| is_at_rest(rig)), "seed {seed}");
        rig.close();
    });
}

#[test]
fn without_an_idle_circuit_bulk_stays_on_the_lane_and_control_is_told() {
    everywhere(0, |mut rig| {
        let seed = rig.world.seed();
        let bytes = noise(2 * MIB, seed);
        let app = rig.app(&bytes);
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(rig.apps[app].got == bytes, "seed {seed}");
        assert_eq!(promotions(&rig), (0, 0), "seed {seed}");
        let told = rig.inlet.has(|event| {
            let Event::Lane { what, .. } = event else {
                return false;
            };
            matches!(what, LaneEvent::Circuits { wanted, .. } if *wanted > 0)
        });
        assert!(told, "seed {seed}: nobody asked for a circuit");
        rig.close();
    });
}

#[test]
fn a_direction_that_wished_moves_when_a_circuit_comes() {
    for via in Via::ALL {
        let mut rig = Rig::up(3, via, Faults::none(), BULK);
        let bytes = noise(8 * MIB, 3);
        let app = rig.app(&bytes);
        rig.apps[app].reads = 2048;
        assert!(rig.until(|rig| rig.inlet.counters.promotions_starved.get() > 0));
        rig.add_circuit();
        assert!(rig.until(|rig| rig.inlet.counters.promotions.get() > 0));
        rig.apps[app].reads = usize::MAX;
        rig.apps[app].fin = true;
        assert!(rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()));
        assert!(rig.apps[app].got == bytes);
        rig.close();
    }
}

#[test]
fn a_slow_reader_on_a_circuit_holds_two_buffers_and_nobody_else() {
    everywhere(2, |mut rig| {
        let seed = rig.world.seed();
        rig.serve = answers_after_the_end;
        let slow = rig.app(b"request");
        rig.apps[slow].fin = true;
        rig.apps[slow].reads = 0;
        assert!(rig.until(|rig| promotions(rig).1 > 0), "seed {seed}");
        // Longer than a path may be silent, and than the peer is asked for a sign of life.
        rig.pass(Duration::from_secs(60));
        let held = rig.inlet.worker.bulk_buffers_out();
        assert!(held <= 2, "seed {seed}: {held} buffers are held");
        rig.serve = App::echo;
        let fast = rig.app(b"hello");
        let soon = Duration::from_secs(5);
        assert!(
            rig.within(soon, |rig| rig.apps[fast].got == b"hello"),
            "seed {seed}"
        );
        rig.apps[slow].reads = usize::MAX;
        assert!(rig.until(|rig| rig.apps[slow].is_over()), "seed {seed}");
        assert!(rig.apps[slow].got == noise(4 * MIB, 99), "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_reset_in_the_middle_reaches_the_other_side_and_frees_the_circuit() {
    everywhere(2, |mut rig| {
        let seed = rig.world.seed();
        let app = rig.app(&noise(8 * MIB, seed));
        let moving = |rig: &mut Rig| promotions(rig).0 > 0 && promotions(rig).1 > 0;
        assert!(rig.until(moving), "seed {seed}");
        rig.apps[app].reset();
        assert!(
            rig.until(|rig| rig.served[0].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(!rig.served[0].eof, "seed {seed}: a cut is never an end");
        assert!(rig.until(|rig| is_at_rest(rig)), "seed {seed}");
        let again = noise(2 * MIB, seed + 1);
        let next = rig.app(&again);
        rig.apps[next].fin = true;
        assert!(rig.until(|rig| rig.apps[next].is_over()), "seed {seed}");
        assert!(rig.apps[next].got == again, "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_lost_circuit_takes_the_streams_that_use_it_and_no_other() {
    everywhere(1, |mut rig| {
        let seed = rig.world.seed();
        let bulk = rig.app(&noise(8 * MIB, seed));
        let small = rig.app(b"hello");
        assert!(rig.until(|rig| promotions(rig).0 > 0), "seed {seed}");
        let link = crate::ids::LinkId(1002);
        let cut = CircuitCommand::Cut(CloseReason::TunnelLost);
        rig.inlet.tell(Command::Circuit { link, what: cut });
        assert!(
            rig.until(|rig| rig.apps[bulk].failed.is_some()),
            "seed {seed}"
        );
        assert!(!rig.apps[bulk].eof, "seed {seed}: a cut is never an end");
        rig.apps[small].fin = true;
        assert!(
            rig.until(|rig| rig.apps[small].is_finished()),
            "seed {seed}"
        );
        assert!(rig.until(|rig| rig.is_idle()), "seed {seed}");
        let closed = |event: &Event| {
            matches!(
                event,
                Event::Circuit {
                    what: CircuitEvent::Closed(_),
                    ..
                }
            )
        };
        assert!(rig.until(|rig| rig.outlet.has(closed)), "seed {seed}");
        assert!(rig.inlet.has(closed), "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_lost_tunnel_ends_everything_at_both_ends() {
    everywhere(2, |mut rig| {
        let seed = rig.world.seed();
        let app = rig.app(&noise(8 * MIB, seed));
        assert!(rig.until(|rig| promotions(rig).0 > 0), "seed {seed}");
        rig.cut_tunnel();
        assert!(
            rig.until(|rig| rig.apps[app].failed.is_some()),
            "seed {seed}"
        );
        rig.world.reset_between(OUTLET, super::rig::RELAY);
        assert!(rig.until(|rig| rig.is_idle()), "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_retired_circuit_closes_in_order_when_its_run_is_over() {
    everywhere(1, |mut rig| {
        let seed = rig.world.seed();
        let bytes = noise(4 * MIB, seed);
        let app = rig.app(&bytes);
        rig.apps[app].fin = true;
        assert!(rig.until(|rig| promotions(rig).0 > 0), "seed {seed}");
        let link = crate::ids::LinkId(1002);
        let what = CircuitCommand::Retire;
        rig.inlet.tell(Command::Circuit { link, what });
        assert!(rig.until(|rig| rig.apps[app].is_over()), "seed {seed}");
        assert!(rig.apps[app].got == bytes, "seed {seed}");
        let closed = |event: &Event| {
            matches!(
                event,
                Event::Circuit {
                    what: CircuitEvent::Closed(CloseReason::Replaced),
                    ..
                }
            )
        };
        assert!(rig.until(|rig| rig.inlet.has(closed)), "seed {seed}");
        assert!(rig.until(|rig| rig.outlet.has(closed)), "seed {seed}");
        assert_eq!(rig.ended(CloseReason::TunnelLost), 0, "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_circuit_without_its_lane_is_closed() {
    let mut rig = Rig::up(1, Via::Direct, Faults::none(), BULK);
    rig.add_circuit();
    let link = rig.link_of(INLET);
    let what = crate::protocol::command::LaneCommand::Cut(CloseReason::Replaced);
    rig.inlet.tell(Command::Lane { link, what });
    let gone = |rig: &mut Rig| {
        [&rig.inlet, &rig.outlet]
            .iter()
            .all(|node| node.counters.circuits_open.get() == 0)
    };
    assert!(rig.until(gone));
    rig.close();
}

#[test]
fn starvation_of_bulk_buffers_delays_and_breaks_nothing() {
    for via in Via::ALL {
        for seed in 1..4 {
            let few = [1024, 256, 64, 3];
            let mut rig = Rig::up(seed, via, windy(), few);
            rig.add_circuit();
            rig.add_circuit();
            let says: Vec<Vec<u8>> = (0..3).map(|at| noise(2 * MIB, seed + at)).collect();
            for bytes in &says {
                let app = rig.app(bytes);
                rig.apps[app].fin = true;
            }
            let over = |rig: &mut Rig| rig.apps.iter().all(App::is_over) && rig.is_idle();
            assert!(rig.until(over), "seed {seed}");
            for (app, bytes) in rig.apps.iter().zip(&says) {
                assert!(app.is_finished() && app.got == *bytes, "seed {seed}");
            }
            rig.close();
        }
    }
}
