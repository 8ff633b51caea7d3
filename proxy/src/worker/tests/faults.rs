//! Lost, altered and ended lanes: an app sees a reset, never wrong bytes and never a clean end
//! before all bytes arrived.

use std::cell::Cell;
use std::rc::Rc;

use super::app::App;
use super::rig::{INLET, OUTLET, PLENTY, PORTAL, Rig, Via, noise};
use crate::engine::simulated::{Faults, Flow, Verdict};
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::limits::{KEY_AGE_MAX, LANE_WAIT};
use crate::protocol::command::{Command, Event, Gate, LaneCommand, LaneEvent};
use crate::time::{Duration, Instant};

fn good(seed: u64, via: Via) -> Rig {
    Rig::up(seed, via, Faults::none(), PLENTY)
}

fn lane_closed(why: CloseReason) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Lane { what: LaneEvent::Closed(w), .. } if *w == why)
}

/// Whether these bytes travel on the tunnel, not between an app and its worker.
fn is_tunnel(flow: &Flow) -> bool {
    flow.from.port() == 7348 || flow.to.port() == 7348
}

#[test]
fn a_lost_lane_resets_its_apps_and_services_at_once() {
    for via in Via::ALL {
        let mut rig = good(1, via);
        for _ in 0..20 {
            rig.app(b"hello");
        }
        assert!(rig.until(|rig| rig.apps.iter().all(|app| app.got == b"hello")));
        rig.cut_tunnel();
        let over = |rig: &mut Rig| {
            let all = rig.apps.iter().chain(&rig.served);
            all.into_iter().all(|app| app.failed.is_some() && !app.eof) && rig.is_idle()
        };
        assert!(rig.within(Duration::from_secs(1), over), "{via:?}");
        assert_eq!(rig.ended(CloseReason::TunnelLost), 20);
        assert!(rig.inlet.has(lane_closed(CloseReason::TunnelLost)));
        assert!(rig.outlet.has(lane_closed(CloseReason::TunnelLost)));
        rig.close();
    }
}

#[test]
fn apps_wait_for_the_next_lane_and_get_it() {
    let mut rig = good(1, Via::Direct);
    rig.cut_tunnel();
    assert!(rig.until(|rig| rig.inlet.has(lane_closed(CloseReason::TunnelLost))));
    let app = rig.app(b"hello");
    assert!(rig.until(|rig| rig.inlet.has(|e| matches!(e, Event::LaneWanted { .. }))));
    rig.pass(Duration::from_secs(3));
    assert!(rig.apps[app].failed.is_none());
    rig.connect_lane();
    assert!(rig.within(Duration::from_secs(1), |rig| rig.apps[app].got == b"hello"));
    rig.close();
}

#[test]
fn an_app_without_a_lane_is_reset_after_its_wait() {
    let mut rig = Rig::new(1, Via::Direct, Faults::none(), PLENTY);
    let from = rig.world.now();
    let app = rig.app(b"hello");
    assert!(rig.until(|rig| rig.apps[app].failed.is_some()));
    let took = rig.world.now().since(from);
    assert!(
        took >= LANE_WAIT && took < LANE_WAIT + Duration::from_millis(100),
        "{took:?}"
    );
    assert_eq!(rig.ended(CloseReason::NoLane), 1);
    let told = |e: &Event| {
        matches!(
            e,
            Event::AppRefused {
                why: CloseReason::NoLane,
                ..
            }
        )
    };
    assert!(rig.until(|rig| rig.inlet.has(told)));
    rig.close();
}

#[test]
fn a_closed_gate_resets_apps_at_once() {
    let mut rig = Rig::new(1, Via::Direct, Faults::none(), PLENTY);
    let waiting = rig.app(b"hello");
    rig.pass(Duration::from_secs(1));
    let gate = Gate::Reset(CloseReason::NotAuthorized);
    rig.inlet.tell(Command::Gate {
        portal: PORTAL,
        gate,
    });
    let late = rig.app(b"hello");
    let soon = Duration::from_millis(100);
    let both = |rig: &mut Rig| {
        [waiting, late]
            .iter()
            .all(|&app| rig.apps[app].failed.is_some())
    };
    assert!(rig.within(soon, both));
    assert_eq!(rig.ended(CloseReason::NotAuthorized), 2);
    rig.close();
}

/// What a middlebox does to one byte of the tunnel.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip,
    Drop,
    Double,
    Fin,
    Reset,
}

/// Lets the harm happen at that offset of the tunnel's bytes in one direction, counted from now.
fn harm_at(rig: &Rig, harm: Harm, outward: bool, at: u64) -> Rc<Cell<bool>> {
    let done = Rc::new(Cell::new(false));
    let struck = Rc::clone(&done);
    let mut seen = 0;
    rig.world.tap(Some(Box::new(move |flow, bytes| {
        if !is_tunnel(flow) || flow.outward != outward || struck.get() {
            return Verdict::Pass;
        }
        let len = bytes.len() as u64;
        let Some(place) = at.checked_sub(seen).filter(|&place| place < len) else {
            seen += len;
            return Verdict::Pass;
        };
        let place = usize::try_from(place).unwrap();
        struck.set(true);
        match harm {
            Harm::Flip => bytes[place] ^= 1,
            Harm::Drop => drop(bytes.remove(place)),
            Harm::Double => bytes.insert(place, bytes[place]),
            Harm::Fin | Harm::Reset => bytes.truncate(place),
        }
        match harm {
            Harm::Flip | Harm::Drop | Harm::Double => Verdict::Pass,
            Harm::Fin => Verdict::Fin,
            Harm::Reset => Verdict::Reset,
        }
    })));
    done
}

#[test]
fn harm_at_any_byte_of_a_record_is_a_reset_at_the_app() {
    for harm in [Harm::Flip, Harm::Drop, Harm::Double, Harm::Fin, Harm::Reset] {
        for outward in [true, false] {
            // A stream's records are some 150 bytes: OPEN, DATA, OPENED, DATA, END …
            for at in 0..150 {
                let mut rig = good(at, Via::Direct);
                rig.pass(Duration::from_millis(100));
                let struck = harm_at(&rig, harm, outward, at);
                let bytes = noise(40, at);
                let app = rig.app(&bytes);
                rig.apps[app].fin = true;
                let case = format!("{harm:?} at {at}, outward {outward}");
                let ended = |rig: &mut Rig| rig.apps[app].is_over();
                assert!(rig.until(ended), "{case}: the app hangs");
                let app = &rig.apps[app];
                if app.failed.is_none() {
                    assert!(
                        app.is_finished() && app.got == bytes,
                        "{case}: a clean end too early"
                    );
                }
                assert!(bytes.starts_with(&app.got), "{case}: wrong bytes");
                for served in &rig.served {
                    assert!(
                        bytes.starts_with(&served.got),
                        "{case}: wrong bytes at the service"
                    );
                    assert!(!served.eof || served.got == bytes, "{case}: FIN for a cut");
                }
                if app.failed.is_some() {
                    assert!(struck.get(), "{case}: failed without harm");
                }
                rig.world.tap(None);
                rig.close();
            }
        }
    }
}

#[test]
fn an_altered_lane_ends_by_its_tag_and_delivers_no_wrong_byte() {
    for seed in 0..30 {
        let mut rig = Rig::up(seed, Via::Direct, Faults::rough(), PLENTY);
        let bytes = noise(300_000, seed);
        harm_at(&rig, Harm::Flip, seed % 2 == 0, 5_000 + seed * 7_919);
        let app = rig.app(&bytes);
        rig.apps[app].fin = true;
        assert!(
            rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()),
            "seed {seed}"
        );
        assert!(
            rig.apps[app].failed.is_some() && !rig.apps[app].eof,
            "seed {seed}"
        );
        assert!(bytes.starts_with(&rig.apps[app].got), "seed {seed}");
        let violations = [&rig.inlet, &rig.outlet].map(|n| n.counters.lane_violations.get());
        assert_eq!(
            violations.iter().sum::<u64>(),
            1,
            "seed {seed}: {violations:?}"
        );
        rig.world.tap(None);
        rig.close();
    }
}

#[test]
fn an_expired_permit_ends_the_lane_and_an_extended_one_does_not() {
    for end in [INLET, OUTLET] {
        let mut rig = Rig::new(1, Via::Direct, Faults::none(), PLENTY);
        rig.permit_ends = rig.world.now() + Duration::from_secs(10);
        rig.connect_lane();
        assert!(rig.until(|rig| rig.is_ready()));
        let app = rig.app(b"hello");
        rig.pass(Duration::from_secs(5));
        let later = rig.world.now() + Duration::from_secs(60);
        let link = rig.link_of(end);
        let other = if end == INLET {
            &rig.outlet
        } else {
            &rig.inlet
        };
        let what = LaneCommand::Extend {
            serial: 2,
            not_after: later,
        };
        other.tell(Command::Lane {
            link: rig.link_of(other.host),
            what,
        });
        assert!(rig.within(Duration::from_millis(5_100), |rig| {
            rig.apps[app].failed.is_some()
        }));
        let node = if end == INLET {
            &rig.inlet
        } else {
            &rig.outlet
        };
        assert!(
            node.has(lane_closed(CloseReason::PermitExpired)),
            "{link:?}"
        );
        rig.close();
    }
}

#[test]
fn both_extended_permits_keep_the_lane() {
    let mut rig = Rig::new(1, Via::Direct, Faults::none(), PLENTY);
    rig.permit_ends = rig.world.now() + Duration::from_secs(10);
    rig.connect_lane();
    assert!(rig.until(|rig| rig.is_ready()));
    for node in [&rig.inlet, &rig.outlet] {
        let what = LaneCommand::Extend {
            serial: 2,
            not_after: Instant::FAR_FUTURE,
        };
        node.tell(Command::Lane {
            link: rig.link_of(node.host),
            what,
        });
    }
    rig.pass(Duration::from_secs(20));
    let app = rig.app(b"hello");
    assert!(rig.until(|rig| rig.apps[app].got == b"hello"));
    rig.close();
}

#[test]
fn a_cut_ends_streams_at_both_ends_with_its_reason() {
    let mut rig = good(1, Via::Direct);
    let app = rig.app(b"hello");
    assert!(rig.until(|rig| rig.apps[app].got == b"hello"));
    let what = LaneCommand::Cut(CloseReason::NotAuthorized);
    rig.outlet.tell(Command::Lane {
        link: rig.link_of(OUTLET),
        what,
    });
    assert!(rig.within(Duration::from_secs(1), |rig| rig.apps[app].failed.is_some()));
    assert_eq!(rig.outlet.counters.ended(CloseReason::NotAuthorized), 1);
    assert!(rig.until(|rig| rig.served[0].failed.is_some()));
    rig.close();
}

#[test]
fn a_retired_lane_keeps_its_streams_and_new_ones_go_to_the_next() {
    for end in [INLET, OUTLET] {
        let mut rig = good(1, Via::Direct);
        let old = rig.app(b"old");
        assert!(rig.until(|rig| rig.apps[old].got == b"old"));
        let node = if end == INLET {
            &rig.inlet
        } else {
            &rig.outlet
        };
        let link = rig.link_of(end);
        node.tell(Command::Lane {
            link,
            what: LaneCommand::Retire,
        });
        rig.pass(Duration::from_secs(1));
        let second = rig.connect_lane();
        let new = rig.app(b"new");
        assert!(rig.until(|rig| rig.apps[new].got == b"new"), "{end}");
        rig.apps[old].say(b" still");
        assert!(rig.until(|rig| rig.apps[old].got == b"old still"), "{end}");
        rig.apps[old].fin = true;
        // The inlet closes the spent lane.
        let spent = |rig: &mut Rig| rig.inlet.has(lane_closed(CloseReason::Retired));
        assert!(rig.until(spent), "{end}");
        let spent = |rig: &mut Rig| rig.outlet.has(lane_closed(CloseReason::Retired));
        assert!(rig.until(spent), "{end}: for the outlet it was not lost");
        assert!(
            rig.until(|rig| rig.outlet.counters.lanes_open.get() == 1),
            "{end}"
        );
        assert_eq!(rig.inlet.counters.lanes_open.get(), 1, "{end} {second:?}");
        rig.close();
    }
}

#[test]
fn an_open_that_crosses_a_retire_goes_to_the_next_lane_with_its_first_bytes() {
    for seed in 0..40 {
        let mut rig = Rig::up(seed, Via::Direct, Faults::rough(), PLENTY);
        let link = rig.link_of(OUTLET);
        let apps: Vec<_> = (0..5).map(|n| rig.app(&noise(3_000 + n, seed))).collect();
        for &app in &apps {
            rig.apps[app].fin = app % 2 == 0;
        }
        rig.pass(Duration::from_millis(seed));
        rig.outlet.tell(Command::Lane {
            link,
            what: LaneCommand::Retire,
        });
        rig.connect_lane();
        let whole = |rig: &mut Rig| {
            apps.iter()
                .all(|&app| rig.apps[app].got == noise(3_000 + app, seed))
        };
        assert!(rig.until(whole), "seed {seed}");
        let served: usize = rig.served.iter().map(|s| s.got.len()).sum();
        let said: usize = (0..5).map(|n| 3_000 + n).sum();
        assert_eq!(served, said, "seed {seed}: a byte reached a service twice");
        rig.close();
    }
}

#[test]
fn a_key_is_changed_when_it_is_old() {
    let mut rig = good(1, Via::Direct);
    let app = rig.app(b"one");
    assert!(rig.until(|rig| rig.apps[app].got == b"one"));
    for round in 1..=3 {
        rig.pass(KEY_AGE_MAX);
        rig.apps[app].say(b"more");
        assert!(rig.until(|rig| rig.apps[app].got.len() == 3 + 4 * round));
    }
    assert!(rig.inlet.counters.key_updates.get() >= 3);
    assert!(rig.outlet.counters.key_updates.get() >= 3);
    rig.close();
}

#[test]
fn a_drain_cuts_nobody_before_its_deadline() {
    for end in [INLET, OUTLET] {
        let mut rig = good(1, Via::Direct);
        let app = rig.app(b"hello");
        assert!(rig.until(|rig| rig.apps[app].got == b"hello"));
        let node = if end == INLET {
            &rig.inlet
        } else {
            &rig.outlet
        };
        node.tell(Command::Drain {
            idle: Duration::from_secs(2),
            deadline: rig.world.now() + Duration::from_secs(30),
        });
        rig.pass(Duration::from_secs(1));
        let late = rig.app(b"late");
        assert!(
            rig.until(|rig| rig.apps[late].got == b"late"),
            "{end}: arrivals are served"
        );
        rig.pass(Duration::from_secs(10));
        rig.apps[app].say(b" again");
        assert!(
            rig.until(|rig| rig.apps[app].got == b"hello again"),
            "{end}"
        );
        let drained = |e: &Event| matches!(e, Event::Drained);
        let node = if end == INLET {
            &rig.inlet
        } else {
            &rig.outlet
        };
        assert!(!node.has(drained));
        for app in &mut rig.apps {
            app.fin = true;
        }
        let is_drained = |rig: &mut Rig| {
            let node = if end == INLET {
                &rig.inlet
            } else {
                &rig.outlet
            };
            node.has(drained)
        };
        assert!(rig.within(Duration::from_secs(1), is_drained), "{end}");
        assert!(
            rig.until(|rig| rig.apps.iter().all(App::is_finished)),
            "{end}"
        );
        rig.close();
    }
}

#[test]
fn a_drain_cuts_what_is_left_at_its_deadline() {
    let mut rig = good(1, Via::Direct);
    let app = rig.app(b"hello");
    assert!(rig.until(|rig| rig.apps[app].got == b"hello"));
    let deadline = rig.world.now() + Duration::from_secs(5);
    rig.inlet.tell(Command::Drain {
        idle: Duration::from_secs(2),
        deadline,
    });
    assert!(rig.until(|rig| rig.inlet.has(|e| matches!(e, Event::Drained))));
    assert!(rig.world.now() >= deadline);
    assert!(rig.until(|rig| rig.apps[app].failed.is_some()));
    assert_eq!(rig.ended(CloseReason::Stopping), 1);
    rig.close();
}

#[test]
fn hostile_networks_end_streams_and_never_lie() {
    for seed in 0..60 {
        let mut rig = Rig::new(seed, Via::Direct, Faults::hostile(), PLENTY);
        let mut lanes = 0;
        let mut said = Vec::new();
        for n in 0..30 {
            if rig.inlet.counters.lanes_open.get() == 0 && lanes < 200 {
                lanes += 1;
                rig.connect_lane();
            }
            let bytes = noise(
                usize::try_from(rig.world.random() % 20_000).unwrap(),
                seed + n,
            );
            let app = rig.app(&bytes);
            rig.apps[app].fin = true;
            said.push(bytes);
            rig.pass(Duration::from_millis(rig.world.random() % 400));
        }
        let over = |rig: &mut Rig| rig.apps.iter().all(App::is_over) && rig.is_idle();
        assert!(rig.until(over), "seed {seed}: something hangs");
        for (app, bytes) in rig.apps.iter().zip(&said) {
            assert!(bytes.starts_with(&app.got), "seed {seed}: wrong bytes");
            assert!(
                !app.is_finished() || app.got == *bytes,
                "seed {seed}: a clean end too early"
            );
        }
        let _ = LinkId(lanes);
        rig.close();
    }
}
