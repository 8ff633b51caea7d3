//! A policy that changes while bytes flow.

use proxy::ids::PortalNo;
use proxy::protocol::core::{Input, Reconfigured};
use proxy::protocol::policy::Policy;
use proxy::time::Duration;

use super::cast::{Shape, Who};
use super::endpoint::{Ending, Part};
use super::portal::Portal;
use super::script::Script;

fn policy(rules: &[String]) -> Input {
    Input::Reconfigured(Box::new(Reconfigured {
        policies: vec![(PortalNo(0), Policy::parse(rules).unwrap())],
        ..Reconfigured::default()
    }))
}

#[test]
fn whom_a_new_policy_denies_is_reset_in_the_middle_of_bulk_and_nobody_else_is() {
    for seed in 1..12 {
        let crowd = Shape {
            crowd: true,
            workers: vec![(Who::Outlet, 1 + (seed % 3) as u8)],
            ..Shape::default()
        };
        let mut portal = Portal::up(seed, &crowd);
        portal.pass(Duration::from_secs(2));
        // Some 13 MB/s, for five seconds.
        let part = Part {
            pace: Some((64 * 1024, Duration::from_millis(5))),
            ..Part::plain(64 * 1024 * 1024)
        };
        let bulk = Script {
            app: part,
            service: part,
        };
        let mut long = Script::echo(200 * 100, 100);
        long.app.pace = Some((100, Duration::from_millis(20)));
        let denied = [
            portal.app_at(Who::Inlet, 0, bulk),
            portal.app_at(Who::Inlet, 0, long),
        ];
        let allowed = portal.app_at(Who::Second, 0, long);
        portal.pass(Duration::from_millis(20 + 13 * seed));
        let now = portal.world.now();
        let second = portal.see(Who::Second).status(now).unwrap().id;
        let rule = format!("postgres-inlet=true,id={second}");
        portal.of(Who::Outlet).input(policy(&[rule]));
        let cut = portal.within(Duration::from_secs(1), |portal| {
            denied.iter().all(|app| portal.apps[*app].end.is_over())
        });
        assert!(cut, "seed {seed}: {}", portal.story());
        for app in denied {
            let ending = portal.apps[app].end.ending;
            assert!(
                matches!(ending, Ending::Failed(_)),
                "seed {seed}: {ending:?} {}",
                portal.story()
            );
        }
        let over = portal.within(Duration::from_secs(60), |portal| {
            portal.apps_are_over() && portal.is_idle()
        });
        assert!(
            over && portal.is_clean(allowed),
            "seed {seed}: {}",
            portal.story()
        );
        // Who is denied gets in again when it is allowed again.
        portal
            .of(Who::Outlet)
            .input(policy(&["postgres-inlet=true".into()]));
        portal.pass(Duration::from_secs(75));
        let again = portal.app_at(Who::Inlet, 0, Script::echo(300, 100));
        portal.within(Duration::from_secs(1), |portal| {
            portal.apps[again].end.is_over()
        });
        assert!(portal.is_clean(again), "seed {seed}: {}", portal.story());
        portal.close(true);
    }
}
