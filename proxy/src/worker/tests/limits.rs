//! The limits of a portal: how many streams, and how long one may be quiet.

use std::sync::Arc;

use super::rig::{PLENTY, PORTAL, Rig, Via, noise};
use crate::engine::simulated::Faults;
use crate::error::CloseReason;
use crate::protocol::command::{Command, Event, Role};
use crate::protocol::portal_limits::{Limits, PortalLimits};
use crate::time::Duration;

/// A rig whose portal has these limits at one end.
fn limited(role: Role, limits: Limits) -> (Rig, Arc<PortalLimits>) {
    let rig = Rig::up(1, Via::ALL[0], Faults::none(), PLENTY);
    let limits = PortalLimits::new(limits);
    let end = match role {
        Role::Inlet => &rig.inlet,
        Role::Outlet => &rig.outlet,
    };
    end.tell(Command::Limits {
        portal: PORTAL,
        limits: Arc::clone(&limits),
    });
    (rig, limits)
}

fn streams(most: u32) -> Limits {
    Limits {
        streams_max: Some(most),
        idle: None,
    }
}

fn idle(idle: Duration) -> Limits {
    Limits {
        streams_max: None,
        idle: Some(idle),
    }
}

fn answered(rig: &mut Rig, app: usize) -> bool {
    rig.within(Duration::from_secs(1), |rig| rig.apps[app].got == b"hello")
}

#[test]
fn a_portal_that_is_full_resets_the_next_app_and_takes_one_when_one_has_ended() {
    for role in [Role::Inlet, Role::Outlet] {
        let (mut rig, limits) = limited(role, streams(2));
        let first = rig.app(b"hello");
        let second = rig.app(b"hello");
        assert!(
            answered(&mut rig, first) && answered(&mut rig, second),
            "{role:?}"
        );
        let third = rig.app(b"hello");
        assert!(
            rig.until(|rig| rig.apps[third].failed.is_some()),
            "{role:?}"
        );
        let is_full = |event: &Event| {
            matches!(
                event,
                Event::AppRefused {
                    why: CloseReason::PortalFull,
                    ..
                }
            )
        };
        match role {
            Role::Inlet => assert!(rig.inlet.has(is_full)),
            Role::Outlet => {
                let reports = rig.outlet.reports();
                let full = reports.iter().filter(|r| r.why == CloseReason::PortalFull);
                assert_eq!(full.count(), 1);
            }
        }
        assert_eq!(limits.open(), 2, "{role:?}");
        rig.apps[first].fin = true;
        assert!(rig.until(|rig| rig.apps[first].is_finished()), "{role:?}");
        assert!(rig.until(|_| limits.open() == 1), "{role:?}");
        let fourth = rig.app(b"hello");
        assert!(answered(&mut rig, fourth), "{role:?}");
        for app in [second, fourth] {
            rig.apps[app].fin = true;
        }
        assert!(
            rig.until(|rig| rig.is_idle()) && limits.open() == 0,
            "{role:?}"
        );
        rig.close();
    }
}

#[test]
fn a_stream_that_is_quiet_for_too_long_is_reset_at_both_ends_and_a_busy_one_is_not() {
    for role in [Role::Inlet, Role::Outlet] {
        let (mut rig, limits) = limited(role, idle(Duration::from_secs(8)));
        let quiet = rig.app(b"hello");
        let busy = rig.app(b"hello");
        assert!(
            answered(&mut rig, quiet) && answered(&mut rig, busy),
            "{role:?}"
        );
        for second in 0..7 {
            rig.pass(Duration::from_secs(1));
            rig.apps[busy].say(b"x");
            assert!(
                rig.apps[quiet].failed.is_none(),
                "{role:?} after {second} s"
            );
        }
        for _ in 0..4 {
            rig.pass(Duration::from_secs(1));
            rig.apps[busy].say(b"x");
        }
        assert!(rig.apps[quiet].failed.is_some(), "{role:?}");
        assert!(rig.apps[busy].failed.is_none(), "{role:?}");
        let ends = [&rig.inlet, &rig.outlet];
        let why =
            |node: &super::rig::Node| node.reports().iter().map(|r| r.why).collect::<Vec<_>>();
        assert!(
            ends.iter()
                .any(|end| why(end) == [CloseReason::IdleTooLong]),
            "{role:?}"
        );
        // Half an hour of work is no quiet, and a limit that is taken away holds no more.
        limits.set(Limits::default());
        rig.pass(Duration::from_secs(60));
        assert!(rig.apps[busy].failed.is_none(), "{role:?}");
        rig.apps[busy].fin = true;
        assert!(rig.until(|rig| rig.is_idle()), "{role:?}");
        rig.close();
    }
}

#[test]
fn bulk_on_a_circuit_of_its_own_is_no_quiet() {
    let (mut rig, _) = limited(Role::Outlet, idle(Duration::from_millis(200)));
    let bytes = noise(8 * 1024 * 1024, 1);
    let app = rig.app(&bytes);
    rig.apps[app].fin = true;
    assert!(rig.until(|rig| rig.apps[app].is_over() && rig.is_idle()));
    assert!(rig.apps[app].is_finished(), "{:?}", rig.apps[app].failed);
    rig.close();
}
