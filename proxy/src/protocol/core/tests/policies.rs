//! Policies that change while lanes are up, and those whose answer changes with the time.

use super::super::world::{HostNo, Portal, World};
use super::super::{AdminCall, AdminReply, Input, Level, PolicyChange, Reconfigured};
use crate::error::{CloseReason, Code, Problem};
use crate::ids::PortalNo;
use crate::protocol::command::{Gate, Role};
use crate::protocol::policy::{Effect, Mode, Policy, RuleSpec, Written};
use crate::time::Duration;

const POLICY: Code = Code(3260);
const PORTAL: PortalNo = PortalNo(0);
const INLETS: &str = "postgres-inlet=true";

fn policy(rules: &[RuleSpec]) -> Policy {
    Policy::read(rules).unwrap()
}

fn short(text: &str) -> RuleSpec {
    RuleSpec::short(Effect::Allow, text)
}

fn set(world: &mut World, host: HostNo, policy: Policy) {
    world.input(
        host,
        Input::Reconfigured(Box::new(Reconfigured {
            policies: vec![(PORTAL, policy)],
            ..Reconfigured::default()
        })),
    );
    world.settle();
}

/// What a host's core logged of that kind.
fn said(world: &World, host: HostNo, what: &str) -> Vec<String> {
    let logs = world.host(host).logs.iter();
    let logs = logs.filter(|record| record.what.contains(what));
    logs.map(|record| format!("{record:?}")).collect()
}

#[test]
fn an_inlet_that_the_new_policy_of_the_outlet_denies_is_cut_and_comes_back_when_it_may() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = World::portal(1);
    assert_eq!(world.lanes().len(), 1);
    set(&mut world, outlet, policy(&[short("gold=true")]));
    world.run(Duration::from_secs(1));
    assert!(world.lanes().is_empty());
    let cut = said(&world, outlet, "a lane was cut");
    assert_eq!(cut.len(), 1, "{cut:?}");
    for part in ["gold=true", "attribute gold is missing", "analysis-inlet"] {
        assert!(cut[0].contains(part), "{part}: {cut:?}");
    }
    let changed = said(&world, outlet, "the policy was changed");
    assert!(changed[0].contains(r#"("lanes_cut", "1")"#), "{changed:?}");
    // The other end hears nothing of rules.
    let heard = format!("{:?}", world.host(inlet).logs);
    assert!(!heard.contains("gold"), "{heard}");
    assert_eq!(world.status(outlet).portals[0].rules, ["allow: gold=true"]);
    // Allowed again, it is back after the wait that follows a denial.
    set(
        &mut world,
        outlet,
        policy(&[short("gold=true"), short(INLETS)]),
    );
    let took = world.run_until(Duration::from_secs(30), |world| !world.lanes().is_empty());
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn a_denial_at_any_moment_of_a_lane_s_making_does_not_stop_the_inlet_for_good() {
    const ADDRESS_IS_SERVED: &str = "postgres-outlet=true";
    for step in 0..60 {
        let Portal {
            mut world, inlet, ..
        } = World::portal_at_start(1);
        world.run(Duration::from_millis(2) * step);
        set(&mut world, inlet, policy(&[short("gold=true")]));
        world.run(Duration::from_millis(500));
        assert!(world.lanes().is_empty(), "step {step}");
        set(&mut world, inlet, policy(&[short(ADDRESS_IS_SERVED)]));
        let most = Duration::from_secs(90);
        let took = world.run_until(most, |world| !world.lanes().is_empty());
        assert!(took < most, "step {step}: {took:?}");
    }
}

#[test]
fn a_policy_that_says_the_same_or_still_allows_cuts_nothing() {
    let Portal {
        mut world, outlet, ..
    } = World::portal(2);
    let lane = world.lanes()[0].0;
    set(&mut world, outlet, policy(&[short(INLETS)]));
    assert!(said(&world, outlet, "the policy was changed").is_empty());
    let stricter = RuleSpec::short(Effect::Deny, "env=test");
    set(&mut world, outlet, policy(&[short(INLETS), stricter]));
    assert_eq!(said(&world, outlet, "the policy was changed").len(), 1);
    world.run(Duration::from_secs(5));
    assert_eq!(world.lanes()[0].0, lane);
    assert!(said(&world, outlet, "a lane was cut").is_empty());
    assert_eq!(world.host(outlet).logged(POLICY), 0);
}

#[test]
fn an_outlet_that_the_new_policy_of_the_inlet_denies_is_cut_and_apps_are_reset() {
    let Portal {
        mut world, inlet, ..
    } = World::portal(3);
    set(&mut world, inlet, policy(&[short("gold-outlet=true")]));
    world.run(Duration::from_secs(1));
    assert!(world.lanes().is_empty());
    let gate = Gate::Reset(CloseReason::NotAuthorized);
    assert_eq!(world.host(inlet).gates.get(&PORTAL), Some(&gate));
    assert_eq!(said(&world, inlet, "a lane was cut").len(), 1);
    // An inlet asks at once when its own policy changes.
    set(&mut world, inlet, policy(&[short("postgres-outlet=true")]));
    let took = world.run_until(Duration::from_secs(5), |world| !world.lanes().is_empty());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(world.host(inlet).gates.get(&PORTAL), Some(&Gate::Wait));
}

#[test]
fn no_rule_at_all_cuts_everybody() {
    let Portal {
        mut world, outlet, ..
    } = World::portal(4);
    set(&mut world, outlet, Policy::default());
    world.run(Duration::from_secs(1));
    assert!(world.lanes().is_empty());
    let changed = said(&world, outlet, "the policy was changed");
    assert!(changed[0].contains("nobody is allowed"), "{changed:?}");
}

#[test]
fn a_rule_in_audit_mode_is_logged_once_a_peer_and_cuts_nobody() {
    let Portal {
        mut world, outlet, ..
    } = World::portal(5);
    let audit = RuleSpec {
        name: Some("stricter".parse().unwrap()),
        mode: Mode::Audit,
        ..RuleSpec::short(Effect::Deny, INLETS)
    };
    set(&mut world, outlet, policy(&[short(INLETS), audit]));
    for _ in 0..24 {
        world.run(Duration::from_secs(600));
        assert!(!world.lanes().is_empty());
    }
    let audited = said(&world, outlet, "in audit mode would have denied");
    assert_eq!(audited.len(), 1, "{audited:?}");
    assert!(audited[0].contains("stricter") && audited[0].contains("analysis-inlet"));
}

#[test]
fn an_administrator_changes_the_policy_of_the_portals_at_an_address() {
    let Portal {
        mut world,
        outlet,
        server,
        ..
    } = World::portal(6);
    let change = |address: &str, role, rule| {
        AdminCall::SetPolicy(Box::new(PolicyChange {
            address: address.parse().unwrap(),
            role,
            policy: policy(&[short(rule)]),
        }))
    };
    let refused = |reply| match reply {
        AdminReply::Refused { code, .. } => code,
        other => unreachable!("{other:?}"),
    };
    let no = Problem::NoSuchPortal.code();
    assert_eq!(
        refused(world.call(outlet, change("other", None, INLETS))),
        no
    );
    let inlets = change("postgres", Some(Role::Inlet), INLETS);
    assert_eq!(refused(world.call(outlet, inlets)), no);
    assert_eq!(
        refused(world.call(server, change("postgres", None, INLETS))),
        no
    );
    for (rule, cut) in [(INLETS, None), ("gold=true", Some(1))] {
        let reply = world.call(outlet, change("postgres", None, rule));
        let AdminReply::PolicySet(portals) = reply else {
            unreachable!("{reply:?}")
        };
        assert_eq!(portals, [(Role::Outlet, cut)]);
    }
}

#[test]
fn each_end_says_which_of_its_rules_allows_the_other_end() {
    let Portal {
        mut world,
        outlet,
        inlet,
        server,
        ..
    } = World::portal(8);
    for (host, role, rule) in [
        (outlet, Role::Outlet, INLETS),
        (inlet, Role::Inlet, "postgres-outlet=true"),
    ] {
        let reply = world.call(host, AdminCall::Why("postgres".parse().unwrap()));
        let AdminReply::Why(portals) = reply else {
            unreachable!("{reply:?}")
        };
        assert_eq!(portals.len(), 1);
        assert_eq!((portals[0].role, portals[0].permitted), (role, Some(true)));
        let decisions: Vec<_> = portals[0].peers.iter().map(|peer| &peer.decision).collect();
        assert_eq!(decisions, [&Ok(rule.to_owned())]);
    }
    for (host, address) in [(outlet, "other"), (server, "postgres")] {
        let reply = world.call(host, AdminCall::Why(address.parse().unwrap()));
        let no = Problem::NoSuchPortal.code();
        assert!(matches!(reply, AdminReply::Refused { code, .. } if code == no));
    }
}

#[test]
fn denials_and_handshakes_are_counted_at_both_ends() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = World::portal(9);
    let before = world.status(inlet).tally;
    assert!(before.handshakes_finished >= 1, "{before:?}");
    assert_eq!(before.denials().count(), 0);
    set(&mut world, outlet, policy(&[short("gold=true")]));
    world.run(Duration::from_secs(120));
    let denied = |world: &World, host, code| {
        let tally = world.status(host).tally;
        let found = tally.denials().find(|(of, _)| *of == code);
        found.map_or(0, |(_, count)| count)
    };
    // Each further attempt of the inlet is one more, though the log has it once.
    let given = denied(&world, outlet, POLICY);
    let received = denied(&world, inlet, CloseReason::NotAuthorized.code());
    assert!(
        given > 2 && received > 1,
        "{given} given, {received} received"
    );
    assert!(world.status(outlet).tally.handshakes_finished >= 3);
}

#[cfg(feature = "policy-cel")]
#[test]
fn a_rule_that_reads_the_clock_cuts_when_its_time_is_over() {
    let Portal {
        mut world, outlet, ..
    } = World::portal(7);
    let end = world.time().0 + 120;
    let until = RuleSpec {
        name: Some("until".parse().unwrap()),
        effect: Effect::Deny,
        mode: Mode::Enforce,
        condition: Written::Cel(format!("now >= {end}")),
    };
    set(&mut world, outlet, policy(&[short(INLETS), until]));
    world.run(Duration::from_secs(110));
    assert!(!world.lanes().is_empty());
    let took = world.run_until(Duration::from_secs(60), |world| world.lanes().is_empty());
    assert!(took < Duration::from_secs(30), "{took:?}");
    assert_eq!(said(&world, outlet, "a lane was cut").len(), 1);
    let records = world.host(outlet).logs.iter();
    let loud = records.filter(|record| record.level >= Level::Warn).count();
    assert!((1..=3).contains(&loud), "{loud}");
}
