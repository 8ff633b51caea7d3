//! A worker whose colleague takes nothing: what it would hand over stays, or ends with a reason. What is
//! taken is tested with whole processes (`tests/tests/sim_portal/workers.rs`).

use super::rig::{BULK, Node, PLENTY, PORTAL, Rig, Via};
use crate::engine::simulated::Faults;
use crate::error::CloseReason;
use crate::ids::{LinkId, WorkerId, WorkerSet};
use crate::protocol::command::{Command, Event, Role};
use crate::time::Duration;

fn shunned(seed: u64, via: Via, buffers: [u32; 4]) -> Rig {
    Rig::of(seed, via, Faults::rough(), buffers, Node::shunned)
}

fn others() -> WorkerSet {
    WorkerSet::NONE.with(WorkerId(0))
}

#[test]
fn pairs_that_nobody_takes_stay_and_carry_their_bytes() {
    for seed in 0..30 {
        let mut rig = shunned(seed, Via::Relay, BULK);
        rig.connect_lane();
        assert!(rig.until(|rig| rig.is_ready()), "seed {seed}");
        for _ in 0..3 {
            rig.add_circuit();
        }
        let relay = rig.relay.as_ref().unwrap();
        assert_eq!(relay.counters.legs_paired.get(), 8, "seed {seed}");
        assert_eq!(relay.counters.pairs_handed.get(), 0, "seed {seed}");
        let app = rig.app(b"there and back");
        rig.apps[app].fin = true;
        assert!(rig.until(|rig| rig.apps[app].is_finished()), "seed {seed}");
        assert_eq!(rig.apps[app].got, b"there and back", "seed {seed}");
        rig.close();
    }
}

#[test]
fn an_app_that_nobody_takes_waits_and_gets_the_lane_that_comes() {
    for seed in 0..30 {
        let mut rig = shunned(seed, Via::Direct, PLENTY);
        let hosts = |workers| Command::Hosts {
            portal: PORTAL,
            workers,
        };
        // One that waits already when another worker gets a lane, and one that comes later.
        let first = rig.app(b"first");
        assert!(rig.until(|rig| rig.inlet.counters.apps_waiting.get() == 1));
        rig.inlet.tell(hosts(others()));
        let second = rig.app(b"second");
        assert!(rig.until(|rig| rig.inlet.counters.apps_waiting.get() == 2));
        rig.pass(Duration::from_millis(100));
        rig.inlet.tell(hosts(others()));
        rig.pass(Duration::from_millis(100));
        assert_eq!(rig.inlet.counters.apps_waiting.get(), 2, "seed {seed}");
        assert_eq!(rig.inlet.counters.apps_handed.get(), 0, "seed {seed}");
        rig.connect_lane();
        for (app, says) in [(first, &b"first"[..]), (second, b"second")] {
            rig.apps[app].fin = true;
            assert!(rig.until(|rig| rig.apps[app].is_finished()), "seed {seed}");
            assert_eq!(rig.apps[app].got, says, "seed {seed}");
        }
        rig.close();
    }
}

#[test]
fn an_app_that_hangs_up_while_it_moves_is_gone() {
    for seed in 0..30 {
        let mut rig = shunned(seed, Via::Direct, PLENTY);
        let app = rig.app(b"");
        assert!(rig.until(|rig| rig.inlet.counters.apps_waiting.get() == 1));
        rig.inlet.tell(Command::Hosts {
            portal: PORTAL,
            workers: others(),
        });
        rig.apps[app].reset();
        let gone = rig.until(|rig| rig.inlet.counters.streams_open.get() == 0);
        assert!(gone, "seed {seed}");
        rig.close();
    }
}

#[test]
fn a_link_that_nobody_takes_is_closed_under_its_new_name() {
    let mut rig = shunned(1, Via::Direct, PLENTY);
    rig.adopts = false;
    let link = rig.connect_lane();
    let connected = |event: &Event| matches!(event, Event::Connected { .. });
    assert!(rig.until(|rig| rig.inlet.has(connected)));
    let name = LinkId::at(WorkerId(0), 900);
    let Command::Adopt(mut adopt) = rig.adopt(Role::Inlet, link, (1, 0), Vec::new()) else {
        unreachable!("it adopts");
    };
    adopt.link = name;
    rig.inlet.tell(Command::HandOver { link, adopt });
    let closed = |event: &Event| matches!(event, Event::Closed { link, why: CloseReason::Overloaded } if *link == name);
    assert!(rig.until(|rig| rig.inlet.has(closed)));
    assert_eq!(rig.inlet.counters.links_open.get(), 0);
    rig.close();
}
