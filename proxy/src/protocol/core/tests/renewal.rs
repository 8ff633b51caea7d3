//! Credentials and passes are renewed with traffic flowing, and access ends when they are not.

use super::super::world::{Plan, Portal, Seat, World};
use super::super::{MembershipStatus, Reach};
use crate::error::{CloseReason, Problem};
use crate::limits::CREDENTIAL_LIFE;
use crate::protocol::store::{MemberKey, NewTicket};
use crate::time::Duration;

fn serial(world: &World, host: super::super::world::HostNo) -> u64 {
    match world.status(host).membership {
        MembershipStatus::Enrolled { serial, .. } => serial,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_day_passes_and_every_lane_is_replaced_before_it_is_lost() {
    let mut portal = World::portal(1);
    let Portal {
        world,
        server,
        outlet,
        inlet,
    } = &mut portal;
    for host in [*outlet, *inlet] {
        world.host_mut(host).logs.clear();
    }
    let first = world.lanes()[0].0;
    let (before_outlet, before_inlet) = (serial(world, *outlet), serial(world, *inlet));
    for _ in 0..(24 * 6) {
        world.run(Duration::from_secs(600));
        assert!(world.status(*inlet).ready() && world.status(*outlet).ready());
        assert!(!world.lanes().is_empty());
        assert!(world.status(*server).server.unwrap().relay_sessions <= 3);
        for (_, inlet, outlet) in world.lanes() {
            assert!(inlet.serial > 0 && outlet.serial > 0);
        }
    }
    assert_ne!(world.lanes()[0].0, first, "replaced");
    assert!(serial(world, *outlet) > before_outlet && serial(world, *inlet) > before_inlet);
    for host in [*outlet, *inlet] {
        let logs = &world.host(host).logs;
        let trouble: Vec<_> = logs
            .iter()
            .filter(|record| record.level >= super::super::Level::Warn)
            .collect();
        assert!(trouble.is_empty(), "{trouble:#?}");
    }
    // A day without trouble is a day without news.
    for host in [*outlet, *inlet] {
        let logs = &world.host(host).logs;
        let news: Vec<_> = logs
            .iter()
            .filter(|record| record.level >= super::super::Level::Info)
            .collect();
        assert!(news.is_empty(), "{news:#?}");
    }
}

#[test]
fn a_renewal_extends_a_live_lane_at_both_ends() {
    // Replacement and renewal come at times that are drawn: over some seeds, both ends of some
    // lane must be seen extended without the lane being replaced.
    let (mut at_inlet, mut at_outlet) = (false, false);
    for seed in 1..=4 {
        let mut portal = World::portal(seed);
        let world = &mut portal.world;
        let mut before = world.lanes();
        for _ in 0..300 {
            world.run(Duration::from_secs(10));
            let after = world.lanes();
            for (bundle, inlet, outlet) in &after {
                if let Some((_, i, o)) = before.iter().find(|(same, ..)| same == bundle) {
                    at_inlet |= inlet.serial > i.serial;
                    at_outlet |= outlet.serial > o.serial;
                }
            }
            before = after;
        }
    }
    assert!(at_inlet && at_outlet);
}

#[test]
fn a_relay_session_is_remade_before_it_is_closed() {
    let mut portal = World::portal(3);
    let world = &mut portal.world;
    let sessions = |world: &World| world.host(portal.server).relay_worker.sessions.clone();
    let before = sessions(world);
    for _ in 0..400 {
        world.run(Duration::from_secs(10));
        assert!(
            world.status(portal.outlet).ready(),
            "never without parked legs"
        );
        assert!(matches!(
            world.status(portal.outlet).relay,
            Reach::Reached { .. }
        ));
    }
    assert!(
        before.iter().all(|old| !sessions(world).contains(old)),
        "all are new by now"
    );
}

#[test]
fn access_ends_at_expiry_while_the_authority_is_away_and_comes_back_with_it() {
    let mut portal = World::portal(4);
    let Portal {
        world,
        server,
        outlet,
        inlet,
    } = &mut portal;
    // How old the word on revocations may be is another matter: here it is the credential that ends.
    for host in [*outlet, *inlet] {
        world.host_mut(host).max_age = 2 * CREDENTIAL_LIFE;
        world.kill(host);
        world.restart(host);
    }
    world.run_until(Duration::from_secs(10), |world| {
        world.status(*outlet).ready() && world.status(*inlet).ready()
    });
    // The store refuses everything: sessions stay, renewals fail.
    world.host_mut(*server).store_broken = true;
    world.run(CREDENTIAL_LIFE - Duration::from_secs(60));
    assert_eq!(world.lanes().len(), 1, "valid to the end");
    world.run(Duration::from_secs(120));
    assert!(world.lanes().is_empty(), "and not longer");
    assert!(!world.status(*inlet).ready());
    assert_eq!(
        world.host(*inlet).logged(Problem::StoreUnavailable.code()),
        1
    );
    let MembershipStatus::NotEnrolled { code, .. } = world.status(*inlet).membership else {
        panic!();
    };
    assert_eq!(code, Problem::StoreUnavailable.code());
    world.host_mut(*server).store_broken = false;
    let (outlet, inlet) = (*outlet, *inlet);
    let took = world.run_until(Duration::from_secs(25), |world| {
        world.status(outlet).ready() && world.status(inlet).ready() && !world.lanes().is_empty()
    });
    assert!(took < Duration::from_secs(22), "{took:?}");
}

#[test]
fn a_credential_that_lost_the_attribute_cuts_the_lane() {
    let mut portal = World::portal(5);
    let Portal {
        world,
        server,
        outlet,
        inlet,
    } = &mut portal;
    let id = world.status(*inlet).id;
    // The member redeems nothing; its row is changed by a ticket that its identity redeems at
    // another process, which loses the attribute.
    let Seat::Server { store, .. } = &mut world.host_mut(*server).seat else {
        panic!()
    };
    let member = store.member(&MemberKey::Id(id)).unwrap().unwrap();
    let ticket = NewTicket {
        id: crypto::ticket::TicketId([9; 16]),
        secret_hash: [9; 32],
        name: None,
        grants: World::spec("x", "less", &[]).grants(),
        uses: 1,
        bound_to: None,
        replaces: None,
        created_by: id,
        created: member.enrolled,
        expires: member.enrolled.plus(1000),
    };
    store.create_ticket(&ticket).unwrap();
    let redeem = crate::protocol::store::Redeem {
        ticket: ticket.id,
        secret_hash: [9; 32],
        wish: None,
        id,
        identity: member.identity,
        now: member.enrolled,
        life: CREDENTIAL_LIFE,
    };
    store.redeem(&redeem).unwrap();
    world.run(Duration::from_secs(2700));
    assert!(world.lanes().is_empty());
    assert!(
        world
            .host(*outlet)
            .said("renewed credential is not accepted")
            == 1
            || world.host(*outlet).said("an inlet was denied") >= 1
    );
    assert!(!world.status(*inlet).ready());
}

#[test]
fn a_restarted_node_needs_neither_ticket_nor_authority() {
    let mut portal = World::portal(6);
    let Portal {
        world,
        server,
        inlet,
        ..
    } = &mut portal;
    world.host_mut(*server).store_broken = true;
    world.kill(*inlet);
    if let Seat::Node { ticket, .. } = &mut world.host_mut(*inlet).seat {
        *ticket = None;
    }
    world.run(Duration::from_secs(1));
    world.restart(*inlet);
    let inlet = *inlet;
    let took = world.run_until(Duration::from_secs(2), |world| world.status(inlet).ready());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(world.host(inlet).said("this node is a member"), 1);
}

#[test]
fn an_expired_node_renews_when_it_is_back() {
    let mut portal = World::portal(7);
    let Portal { world, inlet, .. } = &mut portal;
    world.kill(*inlet);
    world.run(Duration::from_secs(3 * 3600));
    world.restart(*inlet);
    let inlet = *inlet;
    world.run_until(Duration::from_secs(2), |world| world.status(inlet).ready());
    assert_eq!(world.lanes().len(), 1);
    assert_eq!(
        world.host(inlet).logged(CloseReason::NotAuthorized.code()),
        0
    );
    let _ = Plan::inlet("a", "b=c");
}

#[test]
fn a_step_of_the_authoritys_clock_is_over_in_seconds() {
    for (seed, hours) in [(1, 2), (2, -2)] {
        let mut portal = World::portal(seed);
        let (server, inlet) = (portal.server, portal.inlet);
        let world = &mut portal.world;
        world.run(Duration::from_secs(30));
        world.host_mut(server).clock_error_secs = hours * 3600;
        world.run(Duration::from_secs(10));
        assert_eq!(world.host(server).logged(Problem::ClockSkew.code()), 1);
        // Who starts now finds a relay whose pass is valid, and a peer whose credential is.
        world.kill(inlet);
        world.restart(inlet);
        let took = world.run_until(Duration::from_secs(30), |world| {
            world.status(inlet).ready() && !world.lanes().is_empty()
        });
        assert!(took <= Duration::from_secs(2), "{hours} h: {took:?}");
        world.run(Duration::from_secs(7200));
        assert!(world.status(inlet).ready());
        assert_eq!(world.host(server).logged(Problem::ClockSkew.code()), 1);
    }
}

#[test]
fn a_machine_that_was_suspended_is_back_in_seconds() {
    // The clock of control and engine counts suspend: to a node it is a jump, over everything's end.
    let mut portal = World::portal(5);
    let (outlet, inlet) = (portal.outlet, portal.inlet);
    let world = &mut portal.world;
    world.kill(inlet);
    world.run(Duration::from_secs(3 * 3600));
    world.restart(inlet);
    let took = world.run_until(Duration::from_secs(30), |world| {
        world.status(inlet).ready() && world.status(outlet).ready() && !world.lanes().is_empty()
    });
    assert!(took <= Duration::from_secs(2), "{took:?}");
}

#[test]
fn a_name_that_does_not_resolve_when_the_relay_session_is_remade_is_asked_again() {
    let mut portal = World::portal(6);
    let (server, inlet) = (portal.server, portal.inlet);
    let world = &mut portal.world;
    world.run(Duration::from_secs(60));
    let names = std::mem::take(&mut world.names);
    // The world fails where timers keep a host busy.
    world.run(Duration::from_secs(3700));
    assert!(world.status(inlet).ready());
    world.names = names;
    world.run(Duration::from_secs(600));
    assert!(world.status(inlet).ready());
    assert!(world.status(server).server.unwrap().relay_sessions <= 3);
}
