//! Streams on a lane: bytes, ends and resets.

use super::app::App;
use super::rig::{PLENTY, Rig, Via, noise};
use crate::engine::simulated::Faults;
use crate::error::CloseReason;
use crate::protocol::command::{Event, LaneEvent};
use crate::time::Duration;

const MIB: usize = 1024 * 1024;

/// Runs a case on a good network and on rough ones, directly and through a relay.
fn everywhere(case: impl Fn(Rig)) {
    for via in Via::ALL {
        case(Rig::up(1, via, Faults::none(), PLENTY));
        for seed in 2..8 {
            case(Rig::up(seed, via, Faults::rough(), PLENTY));
        }
    }
}

#[test]
fn a_small_message_comes_back() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        let app = rig.app(b"hello");
        assert!(
            rig.until(|rig| rig.apps[app].got == b"hello"),
            "seed {seed}"
        );
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_finished() && rig.is_idle()),
            "seed {seed}"
        );
        assert_eq!(rig.ended(CloseReason::Finished), 1, "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_mebibyte_each_way_arrives_byte_identical() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        let bytes = noise(MIB, seed);
        let app = rig.app(&bytes);
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(
            rig.apps[app].is_finished(),
            "seed {seed}: {:?}",
            rig.apps[app].failed
        );
        assert!(
            rig.apps[app].got == bytes,
            "seed {seed}: other bytes came back"
        );
        let report = rig.inlet.reports();
        assert_eq!(report.len(), 1, "seed {seed}");
        assert_eq!(
            (report[0].bytes_sent, report[0].bytes_received),
            (MIB as u64, MIB as u64)
        );
        rig.close();
    });
}

/// A service that answers a mebibyte once the request has ended.
fn answers_after_the_end(sock: crate::engine::simulated::SimSocket) -> App {
    let mut app = App::new(sock);
    app.answer = noise(MIB, 99);
    app
}

#[test]
fn a_reply_after_the_requests_end_arrives_whole() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        rig.serve = answers_after_the_end;
        let app = rig.app(b"request");
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(
            rig.apps[app].is_finished(),
            "seed {seed}: {:?}",
            rig.apps[app].failed
        );
        assert!(rig.apps[app].got == noise(MIB, 99), "seed {seed}");
        assert_eq!(rig.served[0].got, b"request", "seed {seed}");
        rig.close();
    });
}

/// A service that greets and ends its direction at once, and reads on.
fn greets_and_ends(sock: crate::engine::simulated::SimSocket) -> App {
    let mut app = App::new(sock);
    app.say(b"welcome");
    app.fin = true;
    app
}

#[test]
fn a_service_that_ends_first_still_gets_everything() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        rig.serve = greets_and_ends;
        let app = rig.app(b"");
        assert!(rig.until(|rig| rig.apps[app].eof), "seed {seed}");
        assert_eq!(rig.apps[app].got, b"welcome", "seed {seed}");
        let bytes = noise(MIB, seed);
        rig.apps[app].say(&bytes);
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(rig.until(|rig| rig.served[0].is_finished()), "seed {seed}");
        assert!(rig.served[0].got == bytes, "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_reset_of_the_app_reaches_the_service() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        let app = rig.app(b"hello");
        assert!(
            rig.until(|rig| rig.apps[app].got == b"hello"),
            "seed {seed}"
        );
        rig.apps[app].reset();
        assert!(
            rig.until(|rig| rig.served[0].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(
            rig.served[0].failed.is_some() && !rig.served[0].eof,
            "seed {seed}"
        );
        assert_eq!(rig.ended(CloseReason::AppReset), 1, "seed {seed}");
        assert_eq!(
            rig.outlet.counters.ended(CloseReason::PeerReset),
            1,
            "seed {seed}"
        );
        rig.close();
    });
}

/// A service that resets once it has read something.
fn resets(sock: crate::engine::simulated::SimSocket) -> App {
    let mut app = App::new(sock);
    app.reset_after = Some(3);
    app
}

#[test]
fn a_reset_of_the_service_reaches_the_app() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        rig.serve = resets;
        let app = rig.app(b"hello");
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(
            rig.apps[app].failed.is_some() && !rig.apps[app].eof,
            "seed {seed}"
        );
        assert_eq!(rig.ended(CloseReason::PeerReset), 1, "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_half_closed_app_that_resets_is_noticed() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        // The service reads to the end and then stays silent.
        rig.serve = App::new;
        let app = rig.app(b"hello");
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.served.first().is_some_and(|s| s.eof)),
            "seed {seed}"
        );
        rig.apps[app].reset();
        assert!(
            rig.until(|rig| rig.served[0].failed.is_some() && rig.is_idle()),
            "seed {seed}"
        );
        rig.close();
    });
}

#[test]
fn two_hundred_streams_share_a_lane() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        let bytes: Vec<_> = (0..200)
            .map(|n| noise(3000 + 7 * n, seed + n as u64))
            .collect();
        for bytes in &bytes {
            let app = rig.app(bytes);
            rig.apps[app].fin = true;
        }
        assert!(
            rig.until(|rig| rig.apps.iter().all(App::is_over) && rig.is_idle()),
            "seed {seed}"
        );
        for (app, bytes) in rig.apps.iter().zip(&bytes) {
            assert!(
                app.is_finished() && app.got == *bytes,
                "seed {seed}: {:?}",
                app.failed
            );
        }
        let counters = &rig.inlet.counters;
        assert!(
            counters.lane_sends.get() < counters.records_sent.get(),
            "records are batched"
        );
        rig.close();
    });
}

#[test]
fn streams_go_to_the_lane_that_has_the_fewest() {
    for seed in 0..4 {
        let mut rig = Rig::up(seed, Via::Direct, Faults::rough(), PLENTY);
        let first: Vec<usize> = (0..10).map(|_| rig.app(b"first")).collect();
        let up = |rig: &Rig, apps: &[usize]| apps.iter().all(|&app| !rig.apps[app].got.is_empty());
        assert!(rig.until(|rig| up(rig, &first)), "seed {seed}");
        for lanes in [2, 3] {
            rig.connect_lane();
            let ready = |event: &&Event| {
                let what = |what: &LaneEvent| matches!(what, LaneEvent::Ready);
                matches!(event, Event::Lane { what: it, .. } if what(it))
            };
            let up = rig.until(|rig| rig.inlet.events.iter().filter(ready).count() == lanes);
            assert!(up, "seed {seed}");
        }
        let then: Vec<usize> = (0..20).map(|_| rig.app(b"then")).collect();
        assert!(rig.until(|rig| up(rig, &then)), "seed {seed}");
        let lanes = rig.inlet.worker.lanes.iter();
        let streams: Vec<usize> = lanes.map(|(_, lane)| lane.streams).collect();
        assert_eq!(streams, [10, 10, 10], "seed {seed}");
        rig.close();
    }
}

#[test]
fn a_slow_reader_holds_its_credit_and_nobody_up() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        let bytes = noise(MIB, seed);
        let slow = rig.app(&bytes);
        rig.apps[slow].reads = 0;
        rig.apps[slow].fin = true;
        rig.pass(Duration::from_secs(5));
        let fast = rig.app(b"hello");
        assert!(
            rig.within(Duration::from_secs(2), |rig| rig.apps[fast].got == b"hello"),
            "{seed}"
        );
        rig.apps[slow].reads = 1000;
        assert!(rig.until(|rig| rig.apps[slow].is_over()), "seed {seed}");
        assert!(
            rig.apps[slow].is_finished() && rig.apps[slow].got == bytes,
            "seed {seed}"
        );
        rig.close();
    });
}

#[test]
fn one_byte_at_a_time_gives_the_same_bytes() {
    let faults = || Faults {
        one_byte: true,
        ..Faults::rough()
    };
    for seed in 0..3 {
        let mut rig = Rig::up(seed, Via::Direct, faults(), PLENTY);
        let bytes = noise(2000, seed);
        let app = rig.app(&bytes);
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(
            rig.apps[app].is_finished() && rig.apps[app].got == bytes,
            "seed {seed}"
        );
        rig.close();
    }
}

#[test]
fn starved_pools_slow_down_and_lose_nothing() {
    for seed in 0..10 {
        let mut rig = Rig::up(seed, Via::Direct, Faults::rough(), [3, 1, 3, 0]);
        let bytes: Vec<_> = (0..20).map(|n| noise(20_000, seed + n)).collect();
        for bytes in &bytes {
            let app = rig.app(bytes);
            rig.apps[app].fin = true;
        }
        let over = |rig: &mut Rig| {
            rig.steps > 100_000 || rig.apps.iter().all(App::is_over) && rig.is_idle()
        };
        let r = rig.within(Duration::from_secs(20), over);
        eprintln!(
            "{:?} {} steps {:?} {:?}",
            rig.world.now(),
            rig.steps,
            rig.inlet.counters.all(),
            rig.outlet.counters.all()
        );
        if !r || rig.steps > 100_000 {
            rig.inlet.worker.dump();
            eprintln!("----------- outlet");
            rig.outlet.worker.dump();
        }
        assert!(r, "seed {seed}");
        for (app, bytes) in rig.apps.iter().zip(&bytes) {
            assert!(
                app.is_finished() && app.got == *bytes,
                "seed {seed}: {:?}",
                app.failed
            );
        }
        assert!(
            rig.inlet.counters.starved.get() > 0,
            "seed {seed}: nothing starved"
        );
        rig.close();
    }
}

#[test]
fn alloc_that_fails_now_and_then_loses_nothing() {
    for seed in 0..10 {
        let faults = Faults {
            starve: 300,
            ..Faults::rough()
        };
        let mut rig = Rig::up(seed, Via::Direct, faults, PLENTY);
        let bytes = noise(200_000, seed);
        let app = rig.app(&bytes);
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(
            rig.apps[app].is_finished() && rig.apps[app].got == bytes,
            "seed {seed}"
        );
        rig.close();
    }
}

#[test]
fn open_and_first_bytes_leave_in_one_send() {
    let mut rig = Rig::new(1, Via::Direct, Faults::none(), PLENTY);
    // The app waits for a lane, so its first bytes are there when it gets one.
    rig.app(b"hello");
    rig.pass(Duration::from_secs(1));
    rig.connect_lane();
    assert!(rig.until(|rig| rig.served.first().is_some_and(|s| s.got == b"hello")));
    assert_eq!(rig.inlet.counters.lane_sends.get(), 1);
    rig.close();
}

#[test]
fn a_service_that_speaks_first_is_heard_by_a_silent_app() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        rig.serve = |sock| {
            let mut app = App::new(sock);
            app.say(b"welcome");
            app
        };
        let app = rig.app(b"");
        assert!(
            rig.until(|rig| rig.apps[app].got == b"welcome"),
            "seed {seed}"
        );
        rig.close();
    });
}

#[test]
fn connect_and_close_at_once_leaves_nothing() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        for n in 0..300 {
            let app = rig.app(b"");
            if n % 3 == 0 {
                rig.apps[app].fin = true;
            } else if n % 3 == 1 {
                rig.apps[app].reset();
            } else {
                rig.apps.pop();
            }
            if n % 10 == 0 {
                rig.pass(Duration::from_millis(3));
            }
        }
        assert!(
            rig.until(|rig| rig.is_idle() && rig.apps.iter().all(App::is_over)),
            "seed {seed}"
        );
        rig.close();
    });
}
