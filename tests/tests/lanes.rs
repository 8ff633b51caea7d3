//! `--lanes`: several lanes at one worker carry the streams of one inlet, and all that is decided
//! about its member holds for each of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpStream;

use tests::portal::{Engine, Part, Portal, START};
use tests::process::{Failure, eventually};
use tests::tcp::{self, Ending, Exchange, PATIENCE, Service};

tests::on_both_engines!(
    streams_on_several_lanes_are_kept_apart_and_bulk_arrives_whole,
    a_revocation_cuts_the_streams_of_every_lane,
);

const LANES: u64 = 3;
const MIB: u64 = 1024 * 1024;

/// A portal whose inlet has so many lanes.
fn portal(engine: Engine, service: &Service) -> Portal {
    let lanes = ["--lanes", "3"];
    let mut portal = Portal::with_flags(engine, service.address(), &[], &lanes).unwrap();
    for part in [Part::Inlet, Part::Outlet] {
        eventually(&format!("{LANES} lanes of {part:?}"), START, || {
            let status = portal.node(part).status()?;
            match status["counters"]["lanes_open"].as_u64() {
                Some(lanes) if lanes == LANES => Ok(()),
                lanes => Err(Failure(format!("{lanes:?}"))),
            }
        })
        .unwrap();
    }
    portal
}

fn streams_on_several_lanes_are_kept_apart_and_bulk_arrives_whole(engine: Engine) {
    let service = Service::exchanges().unwrap();
    let portal = portal(engine, &service);
    let entry = portal.entry();
    let sizes = [0, 1, 100, 16_364, 70_000, 300_000];
    let small = (0..60_usize).map(|number| (sizes[number % 6], sizes[number / 6 % 6]));
    let exchanges = small.chain([(16 * MIB, 0), (0, 16 * MIB), (8 * MIB, 8 * MIB)]);
    Exchange::run_all(entry, exchanges).unwrap();
}

fn a_revocation_cuts_the_streams_of_every_lane(engine: Engine) {
    let service = Service::echo().unwrap();
    let portal = portal(engine, &service);
    let apps: Vec<TcpStream> = (0..4 * LANES)
        .map(|_| tcp::connect(portal.entry()).unwrap())
        .collect();
    for app in &apps {
        tcp::ping(app, b"before").unwrap();
    }
    let revoke = ["member", "revoke", "inlet", "--reason", "test"];
    portal.project.admin(&revoke).unwrap().success().unwrap();
    for app in &apps {
        assert_eq!(tcp::ending(app, PATIENCE).unwrap().0, Ending::Reset);
    }
}
