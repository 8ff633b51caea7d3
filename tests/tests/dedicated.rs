//! `--dedicated`: every connection has circuits of its own, from its first byte to its last.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpStream;

use tests::portal::{Engine, Part, Portal, START};
use tests::process::eventually;
use tests::tcp::{self, Exchange, Service};

tests::on_both_engines!(
    no_byte_of_a_connection_takes_the_lane,
    what_connections_send_arrives_whole,
);

const MIB: u64 = 1024 * 1024;
const STREAMS: u64 = 8;

fn portal(engine: Engine, service: &Service) -> Portal {
    Portal::with_flags(engine, service.address(), &[], &["--dedicated"]).unwrap()
}

fn counter(portal: &mut Portal, part: Part, name: &str) -> u64 {
    let status = portal.node(part).status().unwrap();
    status["counters"][name].as_u64().unwrap()
}

fn no_byte_of_a_connection_takes_the_lane(engine: Engine) {
    let service = Service::echo().unwrap();
    let mut portal = portal(engine, &service);
    let entry = portal.entry();
    let open = || {
        let app = tcp::connect(entry)?;
        tcp::ping(&app, b"hello").map(|()| app)
    };
    // More than are made beforehand; one after the other, for a machine that makes one circuit in time
    // may not make twenty.
    let apps: Vec<TcpStream> = (0..STREAMS).map(|_| open().unwrap()).collect();
    for app in &apps {
        tcp::ping(app, b"again").unwrap();
    }
    for part in [Part::Inlet, Part::Outlet] {
        let promotions = counter(&mut portal, part, "promotions");
        assert_eq!(promotions, STREAMS, "{part:?}");
        assert_eq!(counter(&mut portal, part, "dedicated_late"), 0, "{part:?}");
        let all = counter(&mut portal, part, "bytes_sent");
        let on_circuits = counter(&mut portal, part, "circuit_bytes_sent");
        assert_eq!(all, on_circuits, "{part:?}");
    }
    drop(apps);
    eventually("a new connection works", START, open).unwrap();
}

fn what_connections_send_arrives_whole(engine: Engine) {
    let service = Service::exchanges().unwrap();
    let portal = portal(engine, &service);
    let entry = portal.entry();
    let sizes = [0, 1, 100, 16_364, 70_000, 300_000];
    let small = (0..36_usize).map(|number| (sizes[number % 6], sizes[number / 6]));
    let exchanges = small.chain([(16 * MIB, 0), (0, 16 * MIB), (8 * MIB, 8 * MIB)]);
    Exchange::run_all(entry, exchanges).unwrap();
}
