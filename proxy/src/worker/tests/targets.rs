//! Targets: which address is tried, what a target is told first, and what becomes of an app whose
//! target can't be reached.

use std::net::SocketAddr;

use super::rig::{OUTLET, PLENTY, PORTAL, Rig, TARGET, Via, noise, target};
use crate::engine::Errno;
use crate::engine::simulated::{Faults, OpKind};
use crate::error::CloseReason;
use crate::limits::TARGET_SHUNNED;
use crate::protocol::command::{Command, Event, KnownTarget};
use crate::time::Duration;

/// Runs a case on a good network and on rough ones.
fn everywhere(case: impl Fn(Rig)) {
    case(Rig::up(1, Via::Direct, Faults::none(), PLENTY));
    for seed in 2..8 {
        case(Rig::up(seed, Via::Relay, Faults::rough(), PLENTY));
    }
}

/// What every header of the PROXY protocol begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21";
/// Where nobody answers.
fn dead(rig: &Rig) -> SocketAddr {
    let dead = SocketAddr::new([10, 0, 9, 9].into(), 5432);
    rig.world.blackhole(dead.ip(), true);
    dead
}

/// What comes behind the header.
fn behind_header(bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(SIGNATURE)?;
    let length = u16::from_be_bytes([*rest.get(1)?, *rest.get(2)?]);
    rest.get(3 + usize::from(length)..)
}

#[test]
fn a_refused_target_resets_the_app_at_once() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        rig.service = None;
        let app = rig.app(b"hello");
        let soon = Duration::from_secs(1);
        assert!(
            rig.within(soon, |rig| rig.apps[app].failed.is_some()),
            "seed {seed}"
        );
        assert!(rig.until(|rig| rig.is_idle()), "seed {seed}");
        assert_eq!(rig.ended(CloseReason::TargetRefused), 1, "seed {seed}");
        let hint = |e: &Event| {
            let why = CloseReason::TargetRefused;
            matches!(e, Event::TargetFailed { target, why: w, .. } if target == TARGET && *w == why)
        };
        assert!(rig.outlet.has(hint), "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_target_that_does_not_answer_is_given_up() {
    let mut rig = Rig::up(1, Via::Direct, Faults::none(), PLENTY);
    let dead = dead(&rig);
    rig.outlet.tell(Command::Targets {
        portal: PORTAL,
        targets: vec![target(vec![dead])],
    });
    let app = rig.app(b"hello");
    assert!(rig.within(Duration::from_secs(6), |rig| rig.apps[app].failed.is_some()));
    assert!(rig.until(|rig| rig.is_idle()));
    assert_eq!(rig.ended(CloseReason::TargetTimeout), 1);
    rig.close();
}

#[test]
fn the_next_address_of_a_target_is_tried() {
    let mut rig = Rig::up(1, Via::Direct, Faults::none(), PLENTY);
    let dead = dead(&rig);
    let to = vec![
        SocketAddr::new(OUTLET, 1),
        dead,
        SocketAddr::new(OUTLET, 5432),
    ];
    rig.outlet.tell(Command::Targets {
        portal: PORTAL,
        targets: vec![target(to)],
    });
    let app = rig.app(b"hello");
    assert!(rig.within(Duration::from_secs(5), |rig| rig.apps[app].got == b"hello"));
    rig.close();
}

#[test]
fn an_unknown_target_is_refused() {
    let mut rig = Rig::up(1, Via::Direct, Faults::none(), PLENTY);
    rig.outlet.tell(Command::Targets {
        portal: PORTAL,
        targets: vec![],
    });
    let app = rig.app(b"hello");
    assert!(rig.within(Duration::from_secs(1), |rig| rig.apps[app].failed.is_some()));
    assert!(rig.until(|rig| rig.is_idle()));
    assert_eq!(rig.ended(CloseReason::TargetUnknown), 1);
    assert_eq!(
        rig.outlet.reports().len(),
        1,
        "refused ones are reported too"
    );
    rig.close();
}

#[test]
fn an_address_that_did_not_answer_is_tried_last_for_a_while() {
    let mut rig = Rig::up(1, Via::Direct, Faults::none(), PLENTY);
    let to = vec![dead(&rig), SocketAddr::new(OUTLET, 5432)];
    rig.outlet.tell(Command::Targets {
        portal: PORTAL,
        targets: vec![target(to.clone())],
    });
    let answered = |rig: &mut Rig, span| {
        let app = rig.app(b"hello");
        rig.within(span, |rig| rig.apps[app].got == b"hello")
    };
    let soon = Duration::from_secs(1);
    assert!(!answered(&mut rig, soon), "it begins with the dead one");
    assert!(rig.within(Duration::from_secs(4), |rig| rig.apps[0].got == b"hello"));
    assert!(answered(&mut rig, soon), "it knows better now");
    // It stays known when the names are looked up again.
    rig.outlet.tell(Command::Targets {
        portal: PORTAL,
        targets: vec![target(to)],
    });
    assert!(answered(&mut rig, soon));
    rig.pass(TARGET_SHUNNED);
    assert!(
        !answered(&mut rig, soon),
        "the first place has its turn again"
    );
    rig.close();
}

#[test]
fn a_target_that_wants_a_header_has_it_once_and_first() {
    everywhere(|mut rig| {
        let seed = rig.world.seed();
        rig.outlet.tell(Command::Targets {
            portal: PORTAL,
            targets: vec![KnownTarget {
                proxy_header: true,
                ..target(vec![SocketAddr::new(OUTLET, 5432)])
            }],
        });
        let bytes = noise(40_000, seed);
        let app = rig.app(&bytes);
        rig.apps[app].fin = true;
        let all = |rig: &mut Rig| behind_header(&rig.apps[app].got) == Some(&bytes[..]);
        assert!(rig.until(all), "seed {seed}");
        assert!(rig.until(|rig| rig.apps[app].is_finished()), "seed {seed}");
        rig.close();
    });
}

#[test]
fn a_target_that_takes_no_header_is_not_connected() {
    let mut rig = Rig::up(1, Via::Direct, Faults::none(), PLENTY);
    let here = SocketAddr::new(OUTLET, 5432);
    rig.outlet.tell(Command::Targets {
        portal: PORTAL,
        targets: vec![KnownTarget {
            proxy_header: true,
            ..target(vec![here])
        }],
    });
    let outlet = rig.outlet.engine;
    rig.world.fail_next(outlet, OpKind::Send, Errno::CONNRESET);
    let app = rig.app(b"hello");
    assert!(rig.until(|rig| rig.apps[app].failed.is_some()));
    assert!(rig.until(|rig| rig.is_idle()));
    assert_eq!(rig.ended(CloseReason::TargetRefused), 1);
    rig.close();
}
