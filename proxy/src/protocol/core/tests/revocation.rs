//! Who is revoked is cut wherever that can be heard, and nobody relies on an old list for long.

use super::super::MembershipStatus;
use super::super::admin::{AdminCall, AdminReply, Revoked};
use super::super::world::{Host, HostNo, Plan, Portal, Seat, World};
use crate::error::{CloseReason, Problem};
use crate::ids::PortalNo;
use crate::limits::{BEACON_LATE, REVOCATION_KEPT, REVOCATION_MAX_AGE};
use crate::protocol::command::Gate;
use crate::protocol::store::{MemberKey, Revoke, Stamp};
use crate::time::Duration;

/// So long after a session was lost it may take until the next one is there.
const BACK: Duration = Duration::from_secs(2);

fn revoke(world: &mut World, server: HostNo, name: &str) -> Revoked {
    let call = AdminCall::RevokeMember {
        member: MemberKey::Name(name.parse().unwrap()),
        reason: String::new(),
    };
    match world.call(server, call) {
        AdminReply::Revoked(revoked) => *revoked,
        other => panic!("not revoked: {other:?}"),
    }
}

/// What another authority process on the same store does.
fn revoke_in_store(world: &mut World, server: HostNo, name: &str) {
    let now = world.time();
    let Seat::Server { store, project, .. } = &mut world.host_mut(server).seat else {
        panic!("not a server");
    };
    let revoke = Revoke {
        member: MemberKey::Name(name.parse().unwrap()),
        actor: project.id,
        reason: String::new(),
        now,
    };
    store.revoke(&revoke).unwrap();
}

fn logged(host: &Host, why: CloseReason) -> usize {
    host.logged(why.code())
}

#[test]
fn a_revoked_inlet_is_cut_at_once_and_stays_out() {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = World::portal(1);
    world.run(Duration::from_secs(3));
    let revoked = revoke(&mut world, server, "analysis-inlet");
    // No time has passed.
    assert!(world.lanes().is_empty());
    let bank = &revoked.nodes[..];
    assert_eq!(bank.len(), 1, "the other node that is connected");
    assert_eq!((bank[0].holds, bank[0].cut), (true, 1));
    assert_eq!(bank[0].name.as_ref().unwrap().as_str(), "bank-outlet");
    assert_eq!(revoked.sessions, 2, "with authority and relay");
    // A moment later it is told itself.
    world.run(Duration::from_millis(501));
    let gate = world.host(inlet).gates.get(&PortalNo(0));
    assert_eq!(gate, Some(&Gate::Reset(CloseReason::Revoked)));
    // The reason is in both logs.
    assert_eq!(logged(world.host(outlet), CloseReason::Revoked), 1);
    assert!(world.host(inlet).logged(Problem::MemberRevoked.code()) >= 1);
    let MembershipStatus::Enrolled { .. } = world.status(inlet).membership else {
        panic!("its credential lasts until it ends");
    };
    for _ in 0..20 {
        world.run(Duration::from_secs(200));
        assert!(world.lanes().is_empty());
        assert_eq!(world.status(server).server.unwrap().relay_sessions, 1);
    }
    assert!(world.status(outlet).ready(), "who is not meant is not hurt");
    assert_eq!(logged(world.host(outlet), CloseReason::RevocationStale), 0);
    let MembershipStatus::NotEnrolled { code, .. } = world.status(inlet).membership else {
        panic!("its credential is over");
    };
    assert_eq!(code, Problem::MemberRevoked.code());
}

#[test]
fn a_revoked_outlet_is_cut_at_once_and_serves_no_more() {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = World::portal(2);
    world.run(Duration::from_secs(3));
    assert_eq!(world.host(server).relay_worker.parked(), 4);
    revoke(&mut world, server, "bank-outlet");
    assert!(world.lanes().is_empty());
    assert!(world.host(inlet).said("a lane was cut") == 1);
    world.run(Duration::from_millis(1001));
    assert_eq!(world.host(server).relay_worker.parked(), 0);
    world.run(Duration::from_secs(60));
    assert!(world.lanes().is_empty());
    assert_eq!(world.status(server).server.unwrap().served, vec![]);
    assert!(!world.status(inlet).ready() && !world.status(outlet).ready());
    // A successor takes over, with no step at the inlet.
    let spec = World::spec("bank-outlet", "postgres-outlet", &["postgres"]);
    let ticket = world.ticket(server, spec);
    let plan = vec![Plan::outlet("postgres", "postgres-inlet=true")];
    let successor = world.add_node("bank-2", Some(ticket), plan);
    let took = world.run_until(Duration::from_secs(20), |world| {
        world.status(successor).ready() && world.status(inlet).ready()
    });
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn a_revoked_member_that_hears_nothing_is_denied_by_the_relay() {
    let Portal {
        mut world,
        server,
        inlet,
        ..
    } = World::portal(3);
    world.run(Duration::from_secs(3));
    // The inlet does not hear that it is out: what it asks for meets the others' checks.
    world.withhold(inlet);
    revoke(&mut world, server, "analysis-inlet");
    assert!(world.lanes().is_empty());
    world.run(Duration::from_secs(30));
    assert!(world.lanes().is_empty());
    // The relay's check: its sessions are denied at step (e).
    assert!(world.host(server).logs.iter().any(|record| {
        record.code.map(|code| code.0) == Some(3252) && record.what.contains("relay session")
    }));
    assert!(!world.status(inlet).ready());
}

#[test]
fn a_node_that_was_away_hears_it_when_it_is_back() {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = World::portal(4);
    world.run(Duration::from_secs(3));
    world.kill(outlet);
    revoke(&mut world, server, "analysis-inlet");
    world.run(Duration::from_secs(10));
    world.restart(outlet);
    world.run_until(BACK, |world| world.status(outlet).ready());
    assert_eq!(world.status(outlet).revocations.unwrap().list, 1);
    // And one that was away while it was itself revoked.
    world.kill(inlet);
    world.run(Duration::from_secs(10));
    world.restart(inlet);
    world.run(Duration::from_secs(5));
    assert!(world.lanes().is_empty());
    let gate = world.host(inlet).gates.get(&PortalNo(0));
    assert_eq!(gate, Some(&Gate::Reset(CloseReason::Revoked)));
}

#[test]
fn another_process_s_revocation_is_heard_within_two_seconds() {
    let Portal {
        mut world, server, ..
    } = World::portal(5);
    world.run(Duration::from_secs(3));
    revoke_in_store(&mut world, server, "analysis-inlet");
    assert_eq!(world.lanes().len(), 1, "nobody was told yet");
    let took = world.run_until(Duration::from_secs(2), |world| world.lanes().is_empty());
    assert!(took <= Duration::from_millis(1005), "{took:?}");
}

#[test]
fn a_withheld_authority_is_warned_of_at_ten_seconds_and_cut_at_the_age_allowed() {
    for age_s in [5, 30, 300] {
        let max_age = Duration::from_secs(age_s);
        let mut portal = World::portal_at_start(6);
        let (outlet, inlet) = (portal.outlet, portal.inlet);
        let world = &mut portal.world;
        world.host_mut(outlet).max_age = max_age;
        world.kill(outlet);
        world.restart(outlet);
        world.run_until(Duration::from_secs(10), |world| {
            world.status(outlet).ready() && world.status(inlet).ready()
        });
        world.run(Duration::from_secs(3));
        // Nothing of the authority reaches the outlet any more; what goes through the relay does.
        world.withhold(outlet);
        world.withhold(inlet);
        let began = world.now();
        if max_age > BEACON_LATE {
            world.run(BEACON_LATE - Duration::from_millis(1100));
            assert_eq!(
                world.host(outlet).logged(Problem::RevocationsLate.code()),
                0
            );
            world.run(Duration::from_millis(1200));
            assert_eq!(
                world.host(outlet).logged(Problem::RevocationsLate.code()),
                1
            );
        }
        world.run_until(max_age, |world| world.lanes().is_empty());
        let took = world.now().since(began);
        assert!(took <= max_age, "{took:?} of {max_age:?}");
        assert!(
            took + Duration::from_secs(2) >= max_age,
            "{took:?} of {max_age:?}"
        );
        assert_eq!(logged(world.host(outlet), CloseReason::RevocationStale), 2);
        world.run(Duration::from_secs(60));
        assert!(world.lanes().is_empty(), "and nothing is opened");
        assert!(!world.status(outlet).ready());
    }
}

#[test]
fn streams_come_back_with_the_authority_s_word() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = World::portal(7);
    world.run(Duration::from_secs(3));
    world.withhold(outlet);
    world.run(REVOCATION_MAX_AGE + Duration::from_secs(60));
    assert!(world.lanes().is_empty());
    world.deliver_to(outlet);
    let took = world.run_until(Duration::from_secs(30), |world| {
        world.status(outlet).ready() && world.status(inlet).ready()
    });
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(world.host(outlet).said("is there again"), 1);
}

#[test]
fn a_restart_goes_on_from_the_word_on_disk_and_not_for_longer() {
    let Portal {
        mut world,
        outlet,
        inlet,
        ..
    } = World::portal(8);
    world.run(Duration::from_secs(90));
    world.withhold(outlet);
    let began = world.now();
    world.kill(outlet);
    world.run(Duration::from_secs(1));
    world.restart(outlet);
    world.run_until(BACK, |world| world.status(outlet).ready());
    world.run_until(Duration::from_secs(10), |world| world.status(inlet).ready());
    world.run_until(REVOCATION_MAX_AGE, |world| world.lanes().is_empty());
    assert!(world.now().since(began) <= REVOCATION_MAX_AGE);
    // Started again when it is too old: nothing opens.
    world.kill(outlet);
    world.restart(outlet);
    world.run(Duration::from_secs(60));
    assert!(!world.status(outlet).ready());
    assert!(world.lanes().is_empty());
}

#[test]
fn clocks_five_seconds_off_neither_cut_nor_warn() {
    for (seed, server_s, node_s) in [(1, 5, -5), (2, -5, 5), (3, 5, 5)] {
        let mut portal = World::portal_at_start(seed);
        let (server, outlet, inlet) = (portal.server, portal.outlet, portal.inlet);
        let world = &mut portal.world;
        for (host, error) in [(server, server_s), (outlet, node_s), (inlet, -node_s)] {
            world.host_mut(host).clock_error_secs = error;
            world.host_mut(host).max_age = Duration::from_secs(5);
            world.kill(host);
            world.restart(host);
        }
        world.run_until(Duration::from_secs(10), |world| {
            world.status(outlet).ready() && world.status(inlet).ready()
        });
        world.run(Duration::from_secs(120));
        assert_eq!(world.lanes().len(), 1);
        for host in [outlet, inlet] {
            assert_eq!(logged(world.host(host), CloseReason::RevocationStale), 0);
        }
        revoke(world, server, "analysis-inlet");
        assert!(world.lanes().is_empty());
    }
}

#[test]
fn an_entry_leaves_the_list_and_the_member_stays_out() {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = World::portal(9);
    world.run(Duration::from_secs(3));
    revoke(&mut world, server, "analysis-inlet");
    world.run(REVOCATION_KEPT + Duration::from_secs(10));
    let now = world.time();
    let Seat::Server { store, .. } = &mut world.host_mut(server).seat else {
        panic!("not a server");
    };
    let stamped = store.stamp(&Stamp { have: None, now }).unwrap();
    assert_eq!(stamped.entries, Some(Vec::new()));
    assert_eq!(world.status(outlet).revocations.unwrap().list, 2);
    world.kill(inlet);
    world.restart(inlet);
    world.run(Duration::from_secs(60));
    assert!(world.lanes().is_empty());
}

#[test]
fn a_store_that_went_back_is_not_believed() {
    let Portal {
        mut world,
        server,
        outlet,
        ..
    } = World::portal(10);
    world.run(Duration::from_secs(3));
    revoke(&mut world, server, "analysis-inlet");
    // A backup from before the revocation is put in its place.
    let Seat::Server { store, project, .. } = &mut world.host_mut(server).seat else {
        panic!("not a server");
    };
    let mut backup = crate::protocol::store::MemoryStore::new();
    crate::protocol::store::Store::create_project(&mut backup, project).unwrap();
    *store = Box::new(backup);
    world.kill(server);
    world.restart(server);
    world.run(Duration::from_secs(5));
    // Its members are gone too, so nobody gets a session to hear beacons by: what was heard before
    // is held, and ages.
    assert_eq!(world.status(outlet).revocations.unwrap().list, 1);
    world.run(REVOCATION_MAX_AGE);
    assert_eq!(logged(world.host(outlet), CloseReason::RevocationStale), 1);
}

#[test]
fn a_short_credential_is_renewed_in_time() {
    let mut portal = World::portal_at_start(11);
    let (server, outlet, inlet) = (portal.server, portal.outlet, portal.inlet);
    let world = &mut portal.world;
    world.host_mut(server).credential_life = Duration::from_secs(30);
    world.kill(server);
    world.restart(server);
    world.run_until(Duration::from_secs(10), |world| {
        world.status(outlet).ready() && world.status(inlet).ready()
    });
    let serial = |world: &World| match world.status(inlet).membership {
        MembershipStatus::Enrolled {
            serial, expires_in, ..
        } => (serial, expires_in),
        other => panic!("{other:?}"),
    };
    let first = serial(world).0;
    for _ in 0..60 {
        world.run(Duration::from_secs(5));
        assert!(world.status(inlet).ready() && world.status(outlet).ready());
        // Renewed at two thirds, a little earlier by chance.
        assert!(
            serial(world).1 >= Duration::from_secs(8),
            "{:?}",
            serial(world)
        );
    }
    assert!(serial(world).0 > first + 10);
}

#[test]
fn a_ticket_of_a_revoked_member_and_one_taken_back_are_good_for_nothing() {
    let Portal {
        mut world, server, ..
    } = World::portal(12);
    let ticket = world.ticket(server, World::spec("late", "postgres-inlet", &[]));
    let reply = world.call(server, AdminCall::RevokeTicket(ticket.id));
    assert!(matches!(
        reply,
        AdminReply::TicketRevoked { already: false }
    ));
    let reply = world.call(server, AdminCall::RevokeTicket(ticket.id));
    assert!(matches!(reply, AdminReply::TicketRevoked { already: true }));
    let plan = vec![Plan::inlet("postgres", "postgres-outlet=true")];
    let late = world.add_node("late", Some(ticket), plan);
    world.run(Duration::from_secs(5));
    let MembershipStatus::NotEnrolled { code, .. } = world.status(late).membership else {
        panic!("it must not become a member");
    };
    assert_eq!(code, Problem::TicketRevoked.code());
    let unknown = AdminCall::RevokeTicket(crypto::ticket::TicketId([0; 16]));
    let AdminReply::Refused { code, .. } = world.call(server, unknown) else {
        panic!("there is no such ticket");
    };
    assert_eq!(code, Problem::NoSuchTicket.code());
}

#[test]
fn the_relay_cuts_the_legs_of_a_revoked_member_when_neither_end_has_heard() {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = World::portal(13);
    world.run(Duration::from_secs(3));
    world.withhold(outlet);
    world.withhold(inlet);
    revoke_in_store(&mut world, server, "analysis-inlet");
    let took = world.run_until(Duration::from_secs(3), |world| world.lanes().is_empty());
    assert!(took <= Duration::from_millis(2005), "{took:?}");
    world.run(Duration::from_secs(60));
    assert!(world.lanes().is_empty());
}
