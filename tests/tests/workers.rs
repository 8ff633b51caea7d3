//! Processes with several workers: what apps send arrives whole, the load is even, sockets are handed
//! over, and a killed process is as little of a loss as with one worker.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpStream;

use serde_json::Value;
use tests::portal::{Engine, Part, Portal, SHORTLY, START};
use tests::process::{Failure, eventually};
use tests::tcp::{self, Exchange, PATIENCE, Service};

tests::on_both_engines!(
    two_hundred_streams_are_kept_apart_and_bulk_arrives_whole,
    eight_connections_do_not_all_land_on_one_worker,
    a_killed_process_comes_back_with_all_its_workers,
    a_process_that_is_asked_to_end_lets_the_streams_of_all_its_workers_finish,
);

const WORKERS: u8 = 2;
const MIB: u64 = 1024 * 1024;

fn portal(engine: Engine, service: &Service) -> Portal {
    let mut portal = Portal::with_workers(engine, WORKERS, service.address()).unwrap();
    for part in [Part::Inlet, Part::Outlet] {
        all_have(&mut portal, part, "lanes_open");
    }
    portal
}

/// One counter of each worker.
fn each(portal: &mut Portal, part: Part, counter: &str) -> Vec<u64> {
    let status = portal.node(part).status().unwrap();
    let workers = status["workers"].as_array().unwrap();
    let counter = |worker: &Value| worker[counter].as_u64().unwrap();
    workers.iter().map(counter).collect()
}

/// Waits until each worker has some.
fn all_have(portal: &mut Portal, part: Part, counter: &str) {
    eventually(&format!("{counter} of {part:?}"), START, || {
        let each = each(portal, part, counter);
        if each.len() == usize::from(WORKERS) && each.iter().all(|&n| n > 0) {
            Ok(())
        } else {
            Err(Failure(format!("{each:?}")))
        }
    })
    .unwrap();
}

fn two_hundred_streams_are_kept_apart_and_bulk_arrives_whole(engine: Engine) {
    let service = Service::exchanges().unwrap();
    let mut portal = portal(engine, &service);
    let entry = portal.entry();
    let sizes = [0, 1, 100, 16_364, 70_000, 300_000];
    let small = (0..200_u64).map(|number| {
        let at = |n: u64| sizes[usize::try_from(n).unwrap() % sizes.len()];
        (at(number), at(number / 6))
    });
    let exchanges = small.chain([(32 * MIB, 0), (0, 32 * MIB), (16 * MIB, 16 * MIB)]);
    Exchange::run_all(entry, exchanges).unwrap();
    for part in Part::ALL {
        let counter = if part == Part::Serve {
            "bytes_relayed"
        } else {
            "streams_total"
        };
        let each = each(&mut portal, part, counter);
        println!("{part:?}: {counter} {each:?}");
        assert!(each.iter().all(|&n| n > 0), "{part:?}: {counter} {each:?}");
    }
}

fn eight_connections_do_not_all_land_on_one_worker(engine: Engine) {
    let service = Service::echo().unwrap();
    let mut portal = portal(engine, &service);
    let mut apps: Vec<TcpStream> = Vec::new();
    for _ in 0..8 {
        let app = tcp::connect(portal.entry()).unwrap();
        tcp::ping(&app, b"hello").unwrap();
        apps.push(app);
    }
    for part in [Part::Inlet, Part::Outlet] {
        let open = each(&mut portal, part, "streams_open");
        println!("{part:?}: {open:?}");
        assert_eq!(open.iter().sum::<u64>(), 8, "{part:?}: {open:?}");
        assert!(open.iter().all(|&n| n >= 2), "{part:?}: {open:?}");
    }
    let legs = each(&mut portal, Part::Serve, "legs_paired");
    assert!(legs.iter().all(|&n| n > 0), "relay: {legs:?}");
    // All pairs of an address are made on one worker: the other's were handed to it.
    let status = portal.project.serve.status().unwrap();
    let handed = status["counters"]["pairs_handed"].as_u64().unwrap();
    assert!(handed > 0, "no pair was handed over");
}

fn a_killed_process_comes_back_with_all_its_workers(engine: Engine) {
    let service = Service::echo().unwrap();
    let mut portal = portal(engine, &service);
    for part in Part::ALL {
        portal.node(part).kill();
        portal.node(part).restart().unwrap();
        let entry = portal.entry();
        eventually("the portal works again", PATIENCE, || {
            tcp::ping(&tcp::connect(entry)?, b"again")
        })
        .unwrap();
        for end in [Part::Inlet, Part::Outlet] {
            all_have(&mut portal, end, "lanes_open");
        }
    }
}

fn a_process_that_is_asked_to_end_lets_the_streams_of_all_its_workers_finish(engine: Engine) {
    for part in [Part::Inlet, Part::Outlet] {
        let service = Service::echo().unwrap();
        let mut portal = portal(engine, &service);
        let apps: Vec<TcpStream> = (0..6)
            .map(|_| tcp::connect(portal.entry()).unwrap())
            .collect();
        for app in &apps {
            tcp::ping(app, b"before").unwrap();
        }
        portal.node(part).terminate();
        let process = portal.node(part).process();
        process.wait_for_line(&["stopping"], SHORTLY).unwrap();
        for app in &apps {
            tcp::ping(app, b"meanwhile").unwrap();
        }
        drop(apps);
        let status = portal.node(part).process().wait(START).unwrap();
        assert_eq!(status.code(), Some(0), "{part:?}");
    }
}
