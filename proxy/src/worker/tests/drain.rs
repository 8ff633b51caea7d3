//! A relay that is asked to end: it ends with its nodes' lanes, whoever knocks meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::app::App;
use super::rig::{INLET, PLENTY, RELAY, Rig, Via};
use crate::engine::simulated::Faults;
use crate::error::CloseReason;
use crate::limits::{DRAIN_DEADLINE, DRAIN_IDLE};
use crate::protocol::command::{Command, Event, LaneCommand, LaneEvent};
use crate::time::{Duration, Instant};

/// A relay with a lane through it, just asked to end; and when that was.
fn draining() -> (Rig, Instant) {
    let rig = Rig::up(1, Via::Relay, Faults::none(), PLENTY);
    let asked = rig.world.now();
    rig.relay.as_ref().unwrap().tell(Command::Drain {
        idle: DRAIN_IDLE,
        deadline: asked + DRAIN_DEADLINE,
    });
    (rig, asked)
}

fn relay_has(rig: &Rig, which: impl Fn(&Event) -> bool) -> bool {
    rig.relay.as_ref().unwrap().has(which)
}

/// Tells the inlet what its control would, having heard that the relay goes away.
fn retire(rig: &Rig) {
    let link = rig.link_of(INLET);
    let what = LaneCommand::Retire;
    rig.inlet.tell(Command::Lane { link, what });
}

#[test]
fn connections_of_strangers_do_not_keep_a_relay_from_ending() {
    let (mut rig, asked) = draining();
    for n in 0..3 {
        let from = IpAddr::V4(Ipv4Addr::new(203, 0, 113, n));
        let knock = App::new(rig.world.app_connect(from, SocketAddr::new(RELAY, 7348)));
        rig.apps.push(knock);
        rig.pass(DRAIN_IDLE * 3 / 8);
    }
    assert!(relay_has(&rig, |e| matches!(e, Event::DoorsClosed)));
    assert!(rig.world.now().since(asked) < DRAIN_IDLE * 2);
    rig.close();
}

#[test]
fn a_relay_ends_as_soon_as_its_last_lane_has_retired() {
    let (mut rig, asked) = draining();
    assert!(rig.until(|rig| relay_has(rig, |e| matches!(e, Event::DoorsClosed))));
    assert!(!relay_has(&rig, |e| matches!(e, Event::Drained)));
    retire(&rig);
    assert!(rig.until(|rig| relay_has(rig, |e| matches!(e, Event::Drained))));
    let took = rig.world.now().since(asked);
    assert!(took < DRAIN_IDLE + Duration::from_secs(1), "{took:?}");
    let retired = |event: &Event| {
        let retired = LaneEvent::Closed(CloseReason::Retired);
        matches!(event, Event::Lane { what, .. } if format!("{what:?}") == format!("{retired:?}"))
    };
    assert!(rig.until(|rig| rig.inlet.has(retired) && rig.outlet.has(retired)));
    rig.close();
}

#[test]
fn a_stream_through_a_draining_relay_goes_on_and_the_relay_waits_for_it() {
    let (mut rig, _) = draining();
    let app = rig.app(b"hello");
    assert!(rig.until(|rig| relay_has(rig, |e| matches!(e, Event::DoorsClosed))));
    retire(&rig);
    rig.pass(DRAIN_DEADLINE / 2);
    assert!(!relay_has(&rig, |e| matches!(e, Event::Drained)));
    rig.apps[app].say(b" again");
    assert!(rig.until(|rig| rig.apps[app].got == b"hello again"));
    rig.apps[app].fin = true;
    assert!(rig.within(Duration::from_secs(1), |rig| {
        relay_has(rig, |e| matches!(e, Event::Drained))
    }));
    assert!(rig.apps[app].is_finished());
    rig.close();
}
