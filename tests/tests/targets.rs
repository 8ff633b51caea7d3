//! What an outlet makes of the places of its target, and what it tells a target that wants to know
//! whom it serves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::net::SocketAddr;

use tests::portal::{ADDRESS, Engine, INLET_RULE, Node, OUTLET_RULE, Project, START};
use tests::tcp::{self, Ending, Service};

tests::on_both_engines!(
    the_next_place_serves_while_the_first_does_not_answer,
    a_target_is_told_the_apps_address_and_the_inlets_id,
);

/// A portal whose outlet has these flags.
struct World {
    entry: SocketAddr,
    inlet: Node,
    _outlet: Node,
    _project: Project,
}

fn portal(engine: Engine, flags: &[&str]) -> World {
    let project = Project::start(engine).unwrap();
    let ticket = project.outlet_ticket("bank").unwrap();
    let args = [&["--at", ADDRESS, "--allow", INLET_RULE], flags].concat();
    let mut outlet = project.node("bank", "outlet", &ticket, &args).unwrap();
    outlet.wait_ready(START).unwrap();
    let ticket = project.inlet_ticket("analysis").unwrap();
    let entry = tcp::own_address().unwrap();
    let mut inlet = project
        .inlet("analysis", &ticket, entry, OUTLET_RULE)
        .unwrap();
    inlet.wait_ready(START).unwrap();
    World {
        entry,
        inlet,
        _outlet: outlet,
        _project: project,
    }
}

/// A service that says a word and ends.
fn saying(word: &'static [u8]) -> Service {
    Service::start(move |mut stream| {
        stream.write_all(word).unwrap();
        Ok(Ending::Fin)
    })
    .unwrap()
}

fn who_answers(entry: SocketAddr) -> Vec<u8> {
    let app = tcp::connect(entry).unwrap();
    tcp::read_to_fin(&app).unwrap()
}

fn the_next_place_serves_while_the_first_does_not_answer(engine: Engine) {
    let (primary, standby) = (saying(b"primary"), saying(b"standby"));
    let places = [primary.address(), standby.address()].map(|to| to.to_string());
    let world = portal(engine, &["--to", &places[0], "--to", &places[1]]);
    assert_eq!(who_answers(world.entry), b"primary");
    drop(primary);
    for _ in 0..3 {
        assert_eq!(who_answers(world.entry), b"standby");
    }
}

fn a_target_is_told_the_apps_address_and_the_inlets_id(engine: Engine) {
    let service = Service::echo().unwrap();
    let to = service.address().to_string();
    let world = portal(engine, &["--to", &to, "--send-proxy-v2"]);
    let mut app = tcp::connect(world.entry).unwrap();
    app.write_all(b"after the header").unwrap();
    app.shutdown(std::net::Shutdown::Write).unwrap();
    let told = tcp::read_to_fin(&app).unwrap();

    let (header, rest) = told.split_at(16);
    assert_eq!(&header[..14], b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    let (about, bytes) = rest.split_at(length);
    assert_eq!(bytes, b"after the header");
    let SocketAddr::V4(source) = app.local_addr().unwrap() else {
        unreachable!("the fixture is IPv4")
    };
    assert_eq!(about[..4], source.ip().octets());
    assert_eq!(about[8..10], source.port().to_be_bytes());
    let id = world.inlet.status().unwrap()["id"].to_string();
    let id = id.trim_matches('"').as_bytes();
    assert!(about.windows(id.len()).any(|window| window == id));
}
