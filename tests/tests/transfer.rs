//! What apps send is what the other side gets: every byte, every end, in both directions, directly
//! (which tests the fixtures) and through a portal on each engine.
//!
//! `ADIT_LONG=1` moves 1 GiB each way instead of 64 MiB, and holds 1,000 slow readers instead of 40.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use tests::portal::{Part, Route, Way};
use tests::process::{eventually, long};
use tests::tcp::{self, Ending, Exchange, Order, PATIENCE, Service};

tests::on_every_way!(
    bytes_arrive_unchanged_upward,
    bytes_arrive_unchanged_downward,
    both_directions_at_once_carry_their_own_bytes,
    an_answer_comes_after_the_end_of_its_request,
    a_client_that_only_listens_still_gets_its_answer,
    two_hundred_streams_of_mixed_sizes_are_kept_apart,
    a_server_may_speak_first,
    a_connection_without_a_byte_ends_for_both,
    a_service_that_closes_at_once_ends_the_connection_in_good_order,
    a_reset_by_the_client_is_a_reset_at_the_service,
    a_reset_by_the_service_is_a_reset_at_the_client,
    single_bytes_travel_at_once,
    slow_readers_hold_up_nobody_and_cost_little_memory,
    connections_that_come_and_go_leave_nothing_behind,
);

const MIB: u64 = 1024 * 1024;

/// The volume of one direction.
fn bulk() -> u64 {
    if long() { 1024 * MIB } else { 64 * MIB }
}

/// The way to a service, and the service, which must outlive it.
fn open(way: Way, service: &Service) -> Option<Route> {
    way.open(service.address()).unwrap()
}

/// Runs one exchange; client and service must both be content.
fn exchange(way: Way, exchange: Exchange) {
    let service = Service::exchanges().unwrap();
    let Some(route) = open(way, &service) else {
        return;
    };
    exchange.run(route.entry).unwrap();
    assert_eq!(service.report(PATIENCE).unwrap(), Ending::Fin);
}

fn bytes_arrive_unchanged_upward(way: Way) {
    exchange(
        way,
        Exchange {
            up: bulk(),
            down: 0,
            seed: 1,
            order: Order::AtOnce,
        },
    );
}

fn bytes_arrive_unchanged_downward(way: Way) {
    exchange(
        way,
        Exchange {
            up: 0,
            down: bulk(),
            seed: 2,
            order: Order::AtOnce,
        },
    );
}

fn both_directions_at_once_carry_their_own_bytes(way: Way) {
    exchange(
        way,
        Exchange {
            up: bulk(),
            down: bulk(),
            seed: 3,
            order: Order::AtOnce,
        },
    );
}

fn an_answer_comes_after_the_end_of_its_request(way: Way) {
    exchange(
        way,
        Exchange {
            up: 1000,
            down: 64 * MIB,
            seed: 4,
            order: Order::AfterFin,
        },
    );
}

fn a_client_that_only_listens_still_gets_its_answer(way: Way) {
    exchange(
        way,
        Exchange {
            up: 0,
            down: 3,
            seed: 5,
            order: Order::AfterFin,
        },
    );
}

fn two_hundred_streams_of_mixed_sizes_are_kept_apart(way: Way) {
    let service = Service::exchanges().unwrap();
    let Some(route) = open(way, &service) else {
        return;
    };
    // From nothing over the sizes around a record to some that need much credit.
    let sizes = [0, 1, 100, 16_363, 16_364, 16_365, 70_000, 300_000];
    let exchanges: Vec<Exchange> = (0..200u64)
        .map(|number| {
            let at = |n: u64| sizes[usize::try_from(n).unwrap() % sizes.len()];
            let order = if number % 3 == 0 {
                Order::AfterFin
            } else {
                Order::AtOnce
            };
            Exchange {
                up: at(number),
                down: at(number / 8),
                seed: 1000 + number,
                order,
            }
        })
        .collect();
    thread::scope(|scope| {
        let running: Vec<_> = exchanges
            .iter()
            .map(|it| scope.spawn(|| it.run(route.entry)))
            .collect();
        for exchange in running {
            exchange.join().unwrap().unwrap();
        }
    });
    for _ in &exchanges {
        assert_eq!(service.report(PATIENCE).unwrap(), Ending::Fin);
    }
}

fn a_server_may_speak_first(way: Way) {
    let greeting = b"220 the server speaks first\r\n";
    let service = Service::greeting(greeting).unwrap();
    let Some(route) = open(way, &service) else {
        return;
    };
    let mut client = tcp::connect(route.entry).unwrap();
    let mut heard = vec![0; greeting.len()];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(heard, greeting);
}

fn a_connection_without_a_byte_ends_for_both(way: Way) {
    let service = Service::echo().unwrap();
    let Some(route) = open(way, &service) else {
        return;
    };
    let client = tcp::connect(route.entry).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(tcp::ending(&client, PATIENCE).unwrap().0, Ending::Fin);
    assert_eq!(service.report(PATIENCE).unwrap(), Ending::Fin);
}

fn a_service_that_closes_at_once_ends_the_connection_in_good_order(way: Way) {
    let service = Service::closing().unwrap();
    let Some(route) = open(way, &service) else {
        return;
    };
    let client = tcp::connect(route.entry).unwrap();
    assert_eq!(tcp::ending(&client, PATIENCE).unwrap().0, Ending::Fin);
}

fn a_reset_by_the_client_is_a_reset_at_the_service(way: Way) {
    let service = Service::echo().unwrap();
    let Some(route) = open(way, &service) else {
        return;
    };
    let client = tcp::connect(route.entry).unwrap();
    tcp::ping(&client, b"there and back").unwrap();
    tcp::reset(client).unwrap();
    assert_eq!(service.report(PATIENCE).unwrap(), Ending::Reset);
}

fn a_reset_by_the_service_is_a_reset_at_the_client(way: Way) {
    let service = Service::resetting().unwrap();
    let Some(route) = open(way, &service) else {
        return;
    };
    let mut client = tcp::connect(route.entry).unwrap();
    client.write_all(b"x").unwrap();
    assert_eq!(tcp::ending(&client, PATIENCE).unwrap().0, Ending::Reset);
}

/// 40 ms is what a sender that waits for acknowledgements (Nagle) would add to each.
fn single_bytes_travel_at_once(way: Way) {
    let service = Service::echo().unwrap();
    let Some(route) = open(way, &service) else {
        return;
    };
    let client = tcp::connect(route.entry).unwrap();
    let mut times: Vec<Duration> = (0..100u8)
        .map(|byte| {
            let began = Instant::now();
            tcp::ping(&client, &[byte]).unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    assert!(
        times[50] < Duration::from_millis(20),
        "the median of a round trip: {:?}",
        times[50]
    );
}

fn slow_readers_hold_up_nobody_and_cost_little_memory(way: Way) {
    let service = Service::patient_exchanges(30 * PATIENCE).unwrap();
    let Some(mut route) = open(way, &service) else {
        return;
    };
    let quick = Exchange {
        up: 16 * MIB,
        down: 16 * MIB,
        seed: 7,
        order: Order::AtOnce,
    };
    let alone = timed(&quick, route.entry);
    let before = resident_bytes(&mut route);

    // The buffers of the kernel alone hold none of these answers.
    let held = Exchange {
        up: 0,
        down: 16 * MIB,
        seed: 6,
        order: Order::AtOnce,
    };
    let slow: Vec<_> = (0..if long() { 1000 } else { 40 })
        .map(|_| {
            let client = tcp::connect_with_receive_buffer(route.entry, 16 * 1024).unwrap();
            held.begin(&client).unwrap();
            client
        })
        .collect();
    for client in &slow {
        tcp::again(|| client.peek(&mut [0])).unwrap();
    }
    let beside = timed(&quick, route.entry);
    println!(
        "a quick exchange took {alone:?} alone, {beside:?} next to {} slow readers",
        slow.len(),
    );

    // 256 KiB of credit for each, and as much again for what is under way.
    let allowed = 32 * MIB + slow.len() as u64 * MIB / 2;
    for (before, after) in before.iter().zip(resident_bytes(&mut route)) {
        let grown = after.saturating_sub(*before);
        println!("a process grew by {} KiB", grown / 1024);
        assert!(
            grown < allowed,
            "a process grew by {grown} bytes; {allowed} are allowed"
        );
    }
    // One that begins to read gets everything, in the right order.
    held.rest(&slow[0]).unwrap();
}

fn timed(exchange: &Exchange, entry: SocketAddr) -> Duration {
    let began = Instant::now();
    exchange.run(entry).unwrap();
    began.elapsed()
}

/// Resident memory of the portal's processes; directly there is none.
fn resident_bytes(route: &mut Route) -> Vec<u64> {
    let Some(portal) = &mut route.portal else {
        return Vec::new();
    };
    Part::ALL
        .map(|part| portal.node(part).process().resident_bytes().unwrap())
        .into()
}

/// Descriptors are what leaks first: each connection takes at least one in inlet and outlet.
fn connections_that_come_and_go_leave_nothing_behind(way: Way) {
    let service = Service::echo().unwrap();
    let Some(mut route) = open(way, &service) else {
        return;
    };
    one_echo(route.entry);
    let before = descriptors(&mut route);
    for number in 0..if long() { 20_000 } else { 500 } {
        let client = tcp::connect(route.entry).unwrap();
        match number % 3 {
            0 => drop(client),
            1 => tcp::reset(client).unwrap(),
            _ => one_echo(route.entry),
        }
    }
    let (_, took) = eventually("descriptors are back where they were", PATIENCE, || {
        let now = descriptors(&mut route);
        if now.iter().zip(&before).all(|(now, before)| now <= before) {
            Ok(())
        } else {
            Err(format!("{before:?} before, {now:?} now").into())
        }
    })
    .unwrap();
    println!("everything was closed after {took:?}");
    one_echo(route.entry);
}

fn one_echo(entry: SocketAddr) {
    let client = tcp::connect(entry).unwrap();
    tcp::ping(&client, b"x").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(tcp::ending(&client, PATIENCE).unwrap().0, Ending::Fin);
}

/// Open descriptors of the portal's processes; directly there are none. 8 more than before are
/// none of the connections': warm circuits and sessions may come and go.
fn descriptors(route: &mut Route) -> Vec<usize> {
    let Some(portal) = &mut route.portal else {
        return Vec::new();
    };
    Part::ALL
        .map(|part| {
            let folder = format!("/proc/{}/fd", portal.node(part).process().id());
            std::fs::read_dir(&folder).map_or(0, Iterator::count) / 8
        })
        .into()
}
