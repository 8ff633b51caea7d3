//! Framed connections that are carried for control, and strangers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::app::App;
use super::rig::{INLET, Node, OUTLET, PLENTY, RELAY, Rig, Via, noise};
use crate::engine::simulated::Faults;
use crate::error::CloseReason;
use crate::ids::LinkId;
use crate::limits::{FRAME_MAX, STRANGER_TIMEOUT, STRANGERS_PER_PREFIX};
use crate::protocol::command::{Command, Event, Expect};
use crate::protocol::preface::{Kind, Preface};
use crate::time::{Duration, Instant};

const PUBLIC: u16 = 7348;
const LINK: LinkId = LinkId(2);

/// Two workers and no control but the test.
fn pair(seed: u64, faults: Faults) -> Rig {
    let mut rig = Rig::new(seed, Via::Direct, faults, PLENTY);
    rig.adopts = false;
    rig
}

fn dial(rig: &Rig, to: Vec<SocketAddr>, within: Duration) {
    rig.inlet.tell(Command::Dial {
        link: LINK,
        to,
        hello: Preface::bytes(Kind::RelaySession).to_vec(),
        expect: Expect::Frame,
        deadline: rig.world.now() + within,
    });
}

fn public() -> SocketAddr {
    SocketAddr::new(OUTLET, PUBLIC)
}

fn send(node: &Node, link: LinkId, bytes: &[u8], framed: bool, then: Expect) {
    node.tell(Command::Send {
        link,
        bytes: bytes.to_vec(),
        framed,
        then,
    });
}

fn frames(node: &Node) -> Vec<&[u8]> {
    node.events
        .iter()
        .filter_map(|event| {
            if let Event::Frame { bytes, .. } = event {
                Some(&bytes[..])
            } else {
                None
            }
        })
        .collect()
}

fn closed(node: &Node) -> Option<CloseReason> {
    node.events.iter().find_map(|event| {
        if let Event::Closed { why, .. } = event {
            Some(*why)
        } else {
            None
        }
    })
}

/// Dials and waits until the other side has the link; its name there.
fn connected(rig: &mut Rig) -> LinkId {
    dial(rig, vec![public()], Duration::from_secs(10));
    assert!(rig.until(|rig| rig.outlet.has(|e| matches!(e, Event::Accepted { .. }))));
    let accepted = rig.outlet.events.iter().find_map(|event| match event {
        Event::Accepted { link, preface, .. } => {
            assert_eq!(*preface, Preface::bytes(Kind::RelaySession));
            Some(*link)
        }
        _ => None,
    });
    accepted.unwrap()
}

#[test]
fn pieces_arrive_whole_and_one_at_a_time() {
    for seed in 0..20 {
        let mut rig = pair(
            seed,
            if seed == 0 {
                Faults::none()
            } else {
                Faults::rough()
            },
        );
        let there = connected(&mut rig);
        assert!(rig.until(|rig| rig.inlet.has(|e| matches!(e, Event::Connected { .. }))));
        let long = noise(FRAME_MAX, seed);
        for piece in [&b"one"[..], &long, b"three"] {
            send(&rig.outlet, there, piece, true, Expect::Nothing);
        }
        send(&rig.outlet, there, b"exact", false, Expect::Exact(4));
        send(&rig.inlet, LINK, b"four", false, Expect::Frame);
        for have in 1..=3 {
            assert!(
                rig.until(|rig| frames(&rig.inlet).len() == have),
                "seed {seed}: {have}"
            );
            rig.pass(Duration::from_secs(1));
            assert_eq!(
                frames(&rig.inlet).len(),
                have,
                "seed {seed}: one piece at a time"
            );
            let then = if have < 3 {
                Expect::Frame
            } else {
                Expect::Exact(5)
            };
            send(&rig.inlet, LINK, b"", true, then);
        }
        assert!(
            rig.until(|rig| frames(&rig.inlet).len() == 4),
            "seed {seed}"
        );
        assert_eq!(
            frames(&rig.inlet),
            [&b"one"[..], &long, b"three", b"exact"],
            "seed {seed}"
        );
        assert_eq!(frames(&rig.outlet), [b"four"], "seed {seed}");
        rig.close();
    }
}

#[test]
fn a_deadline_closes_with_its_reason() {
    let mut rig = pair(1, Faults::none());
    connected(&mut rig);
    let at = rig.world.now() + Duration::from_secs(2);
    rig.inlet.tell(Command::Deadline {
        link: LINK,
        at,
        why: CloseReason::ShakeTimeout,
    });
    assert!(rig.until(|rig| closed(&rig.inlet).is_some()));
    assert_eq!(closed(&rig.inlet), Some(CloseReason::ShakeTimeout));
    assert!(rig.world.now() >= at && rig.world.now().since(at) < Duration::from_millis(10));
    assert!(rig.until(|rig| closed(&rig.outlet) == Some(CloseReason::TunnelLost)));
    rig.close();
}

#[test]
fn a_deadline_that_was_taken_away_does_nothing() {
    let mut rig = pair(1, Faults::none());
    connected(&mut rig);
    let at = rig.world.now() + Duration::from_secs(2);
    rig.inlet.tell(Command::Deadline {
        link: LINK,
        at,
        why: CloseReason::ShakeTimeout,
    });
    let at = Instant::FAR_FUTURE;
    rig.inlet.tell(Command::Deadline {
        link: LINK,
        at,
        why: CloseReason::ShakeTimeout,
    });
    rig.pass(Duration::from_secs(10));
    assert_eq!(closed(&rig.inlet), None);
    rig.close();
}

#[test]
fn a_dial_tries_its_addresses_in_order() {
    let mut rig = pair(1, Faults::none());
    let dead = IpAddr::V4(Ipv4Addr::new(10, 0, 9, 9));
    rig.world.blackhole(dead, true);
    let refused = SocketAddr::new(RELAY, 1);
    dial(
        &rig,
        vec![refused, SocketAddr::new(dead, 1), public()],
        Duration::from_secs(9),
    );
    assert!(rig.until(|rig| rig.inlet.has(|e| matches!(e, Event::Connected { .. }))));
    let right = |e: &Event| matches!(e, Event::Connected { peer, .. } if *peer == public());
    assert!(rig.inlet.has(right));
    rig.close();
}

#[test]
fn a_dial_that_nobody_answers_ends_at_its_deadline() {
    let mut rig = pair(1, Faults::none());
    rig.world.blackhole(OUTLET, true);
    dial(&rig, vec![public(), public()], Duration::from_secs(3));
    let from = rig.world.now();
    assert!(rig.until(|rig| closed(&rig.inlet).is_some()));
    assert_eq!(closed(&rig.inlet), Some(CloseReason::DialTimeout));
    assert!(rig.world.now().since(from) < Duration::from_millis(3100));
    rig.close();
}

#[test]
fn a_dial_without_a_usable_address_fails_at_once() {
    for to in [vec![], vec![SocketAddr::new(RELAY, 1)]] {
        let mut rig = pair(1, Faults::none());
        dial(&rig, to, Duration::from_secs(3));
        assert!(rig.within(Duration::from_secs(1), |rig| closed(&rig.inlet).is_some()));
        assert_eq!(closed(&rig.inlet), Some(CloseReason::DialFailed));
        rig.close();
    }
}

#[test]
fn a_close_that_flushes_delivers_everything_first() {
    for seed in 0..10 {
        let mut rig = pair(seed, Faults::rough());
        let there = connected(&mut rig);
        // What the other side says meanwhile must not destroy it.
        send(&rig.inlet, LINK, &noise(FRAME_MAX, 3), true, Expect::Frame);
        let last = noise(FRAME_MAX, seed);
        send(&rig.outlet, there, &last, true, Expect::Nothing);
        let why = CloseReason::NotAuthorized;
        rig.outlet.tell(Command::Close {
            link: there,
            flush: true,
            why,
        });
        assert!(
            rig.until(|rig| frames(&rig.inlet).len() == 1),
            "seed {seed}"
        );
        assert!(frames(&rig.inlet) == [last], "seed {seed}");
        send(&rig.inlet, LINK, b"", true, Expect::Frame);
        assert!(rig.until(|rig| closed(&rig.inlet).is_some()), "seed {seed}");
        assert!(
            rig.until(|rig| rig.outlet.counters.links_open.get() == 0),
            "seed {seed}"
        );
        assert_eq!(
            closed(&rig.outlet),
            None,
            "seed {seed}: control asked for it"
        );
        rig.close();
    }
}

#[test]
fn a_frame_that_is_too_long_ends_the_link() {
    let mut rig = pair(1, Faults::none());
    let there = connected(&mut rig);
    send(
        &rig.outlet,
        there,
        &u16::MAX.to_be_bytes(),
        false,
        Expect::Nothing,
    );
    assert!(rig.until(|rig| closed(&rig.inlet) == Some(CloseReason::Malformed)));
    rig.close();
}

#[test]
fn events_wait_while_control_is_busy_and_arrive_in_order() {
    let mut rig = pair(1, Faults::none());
    let there = connected(&mut rig);
    rig.outlet.listening = false;
    // Fill the mailbox with what nobody takes, then let a frame come.
    let strange = |n: u64| LinkId(1_000_000 + 2 * n);
    for n in 0..crate::limits::MAILBOX_MAX as u64 {
        rig.outlet.tell(Command::Dial {
            link: strange(n),
            to: vec![],
            hello: vec![],
            expect: Expect::Nothing,
            deadline: Instant::FAR_FUTURE,
        });
        if n % 64 == 0 {
            rig.pass(Duration::from_millis(1));
        }
    }
    rig.pass(Duration::from_millis(10));
    send(&rig.outlet, there, b"", true, Expect::Frame);
    send(&rig.inlet, LINK, b"late", true, Expect::Nothing);
    rig.pass(Duration::from_secs(1));
    rig.outlet.listening = true;
    assert!(rig.until(|rig| frames(&rig.outlet) == [b"late"]));
    let order: Vec<LinkId> = rig
        .outlet
        .events
        .iter()
        .filter_map(|e| {
            if let Event::Closed { link, .. } = e {
                Some(*link)
            } else {
                None
            }
        })
        .collect();
    let expected: Vec<LinkId> = (0..crate::limits::MAILBOX_MAX as u64)
        .map(strange)
        .collect();
    assert_eq!(order, expected);
    rig.close();
}

/// A stranger that says this.
fn stranger(rig: &mut Rig, from: IpAddr, says: &[u8]) -> usize {
    let mut app = App::new(rig.world.app_connect(from, public()));
    app.say(says);
    rig.apps.push(app);
    rig.apps.len() - 1
}

#[test]
fn a_stranger_that_speaks_something_else_is_reset_with_a_hint() {
    let mut rig = pair(1, Faults::none());
    for says in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"ADIT\x02\x01\0\0",
    ] {
        let app = stranger(&mut rig, RELAY, says);
        assert!(rig.within(Duration::from_secs(1), |rig| rig.apps[app].failed.is_some()));
    }
    assert!(rig.outlet.has(|e| matches!(
        e,
        Event::LegRefused {
            why: CloseReason::HttpByMistake,
            ..
        }
    )));
    assert!(rig.outlet.has(|e| matches!(
        e,
        Event::LegRefused {
            why: CloseReason::BadVersion,
            ..
        }
    )));
    assert_eq!(rig.outlet.counters.strangers_dropped.get(), 3);
    rig.close();
}

#[test]
fn a_silent_stranger_is_closed_after_its_time() {
    let mut rig = pair(1, Faults::none());
    let from = rig.world.now();
    for says in [&b""[..], b"ADIT", &Preface::bytes(Kind::Leg)] {
        stranger(&mut rig, RELAY, says);
    }
    assert!(rig.until(|rig| rig.apps.iter().all(|app| app.failed.is_some())));
    let took = rig.world.now().since(from);
    assert!(took >= STRANGER_TIMEOUT && took < STRANGER_TIMEOUT + Duration::from_millis(100));
    rig.close();
}

#[test]
fn one_network_can_not_keep_others_out() {
    let mut rig = pair(1, Faults::none());
    for _ in 0..STRANGERS_PER_PREFIX + 10 {
        stranger(&mut rig, RELAY, b"");
    }
    rig.pass(Duration::from_secs(1));
    let refused = rig.apps.iter().filter(|app| app.failed.is_some()).count();
    // All simulated hosts of this test are in one /24.
    assert_eq!(refused, 10);
    let far = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let app = stranger(&mut rig, far, &Preface::bytes(Kind::AuthoritySession));
    assert!(rig.until(|rig| rig.outlet.has(|e| matches!(e, Event::Accepted { .. }))));
    assert!(rig.apps[app].failed.is_none());
    assert_ne!(far, INLET);
    rig.close();
}
