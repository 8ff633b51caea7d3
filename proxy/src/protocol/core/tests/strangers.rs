//! Who has not shown who it is: few, briefly, and in nobody's way.

use super::super::world::{HostNo, Portal, World};
use super::super::{Input, MembershipStatus};
use crate::error::Problem;
use crate::ids::LinkId;
use crate::limits::{GUEST_TIME, PREFACE, SESSION_STRANGERS_MAX, SESSION_STRANGERS_PER_PREFIX_MAX};
use crate::protocol::command::Event;
use crate::protocol::session::Kind;
use crate::time::Duration;
use std::net::SocketAddr;

fn knock(world: &mut World, server: HostNo, n: u64, from: SocketAddr) {
    let preface: [u8; PREFACE] = Kind::Authority.preface();
    let link = LinkId(1_000_001 + 2 * n);
    world.input(
        server,
        Input::Event(Event::Accepted {
            link,
            preface,
            peer: from,
        }),
    );
}

fn strangers(world: &World, server: HostNo) -> usize {
    world.status(server).server.unwrap().strangers
}

#[test]
fn a_flood_from_one_prefix_leaves_places_for_others() {
    let Portal {
        mut world, server, ..
    } = World::portal(1);
    for n in 0..1000 {
        knock(
            &mut world,
            server,
            n,
            SocketAddr::from(([192, 0, 2, n as u8], 1)),
        );
    }
    world.settle();
    assert_eq!(strangers(&world, server), SESSION_STRANGERS_PER_PREFIX_MAX);
    assert_eq!(world.host(server).said("make room"), 1, "one line, not 936");
    let ticket = world.ticket(server, World::spec("new", "x", &[]));
    let node = world.add_node("new", Some(ticket), Vec::new());
    world.run(Duration::from_secs(1));
    assert!(matches!(
        world.status(node).membership,
        MembershipStatus::Enrolled { .. }
    ));
}

#[test]
fn strangers_from_everywhere_are_bounded_and_members_are_not_disturbed() {
    let Portal {
        mut world,
        server,
        outlet,
        inlet,
    } = World::portal(2);
    for n in 0..5000u64 {
        knock(
            &mut world,
            server,
            n,
            SocketAddr::from(([10, 77, (n % 250) as u8, 9], 1)),
        );
    }
    world.settle();
    assert_eq!(strangers(&world, server), SESSION_STRANGERS_MAX);
    world.run(Duration::from_secs(30));
    assert_eq!(world.lanes().len(), 1);
    assert!(world.status(outlet).ready() && world.status(inlet).ready());
}

#[test]
fn a_flood_that_never_ends_locks_nobody_out() {
    let Portal {
        mut world, server, ..
    } = World::portal(6);
    let mut flood = 0..;
    let mut pour = |world: &mut World, many: usize| {
        for n in flood.by_ref().take(many) {
            let from = SocketAddr::from(([10, (n % 7) as u8, (n % 250) as u8, 9], 1));
            knock(world, server, n, from);
        }
    };
    pour(&mut world, 2 * SESSION_STRANGERS_MAX);
    let ticket = world.ticket(server, World::spec("new", "x", &[]));
    let node = world.add_node("new", Some(ticket), Vec::new());
    for _ in 0..100 {
        pour(&mut world, 20);
        world.run(Duration::from_millis(20));
    }
    assert!(matches!(
        world.status(node).membership,
        MembershipStatus::Enrolled { .. }
    ));
    assert_eq!(strangers(&world, server), SESSION_STRANGERS_MAX);
}

#[test]
fn garbage_costs_a_place_for_a_moment_only() {
    let Portal {
        mut world, server, ..
    } = World::portal(3);
    for n in 0..20 {
        knock(&mut world, server, n, SocketAddr::from(([192, 0, 2, 7], 1)));
        let link = LinkId(1_000_001 + 2 * n);
        let bytes = vec![n as u8; n as usize];
        world.input(server, Input::Event(Event::Frame { link, bytes }));
    }
    world.run(Duration::from_secs(1));
    assert_eq!(strangers(&world, server), 0);
}

#[test]
fn an_identity_alone_is_a_guest_and_has_little_time() {
    let Portal {
        mut world, server, ..
    } = World::portal(4);
    // A node that holds its session open without being a member: its ticket is expired, and it
    // is frozen before it can close the session by itself.
    let ticket = world.ticket(server, World::spec("guest", "x", &[]));
    world.host_mut(server).store_broken = true;
    let node = world.add_node("guest", Some(ticket), Vec::new());
    world.run(Duration::from_secs(1));
    let count = |world: &World| world.status(server).server.unwrap().authority_sessions;
    let with_guest = count(&world);
    assert_eq!(
        strangers(&world, server),
        1,
        "a guest keeps its place among the strangers"
    );
    world.walls.push((node, server));
    world.run(GUEST_TIME);
    assert_eq!(count(&world), with_guest - 1);
    assert_eq!(strangers(&world, server), 0);
}

#[test]
fn a_kind_that_is_not_served_is_not_let_in() {
    let Portal {
        mut world, server, ..
    } = World::portal(5);
    let link = LinkId(1_000_001);
    let preface = *b"ADIT\x01\x04\0\0";
    let peer = SocketAddr::from(([192, 0, 2, 7], 1));
    world.input(
        server,
        Input::Event(Event::Accepted {
            link,
            preface,
            peer,
        }),
    );
    world.settle();
    assert_eq!(strangers(&world, server), 0);
}

#[test]
fn who_is_not_believed_gives_its_place_back() {
    let Portal {
        mut world, server, ..
    } = World::portal(6);
    let ticket = world.ticket(server, World::spec("lost-in-time", "x", &[]));
    let node = world.add_node("lost-in-time", Some(ticket), Vec::new());
    world.kill(node);
    // It believes the authority's attestation, and the authority not its own, which begins in 17
    // hours.
    world.host_mut(node).clock_error_secs = 20 * 3600;
    world.restart(node);
    world.run(Duration::from_secs(60));
    assert_eq!(strangers(&world, server), 0);
    assert!(world.host(server).said("an authority session was denied") > 0);
    assert_eq!(world.host(node).logged(Problem::ClockSkew.code()), 1);
    let why = format!("{:?}", world.status(node).authority);
    assert!(
        why.contains("by 72000 s") && why.contains("timedatectl"),
        "{why}"
    );
}

#[test]
fn a_clock_that_is_days_off_is_named_as_the_cause() {
    for error in [3 * 24 * 3600, -3 * 24 * 3600] {
        let Portal {
            mut world, server, ..
        } = World::portal(7);
        let ticket = world.ticket(server, World::spec("lost-in-time", "x", &[]));
        let node = world.add_node("lost-in-time", Some(ticket), Vec::new());
        world.kill(node);
        world.host_mut(node).clock_error_secs = error;
        world.restart(node);
        world.run(Duration::from_secs(60));
        assert_eq!(world.host(node).logged(Problem::ClockSkew.code()), 1);
        assert_eq!(strangers(&world, server), 0);
    }
}
