//! What an outlet makes of the places of its target, and what it tells a target that wants to know
//! whom it serves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::net::SocketAddr;

use tests::portal::{Engine, Portal};
use tests::tcp::{self, Ending, Service};

tests::on_both_engines!(
    the_next_place_serves_while_the_first_does_not_answer,
    a_target_is_told_the_apps_address_and_the_inlets_id,
);

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
    let second = standby.address().to_string();
    let portal = Portal::with_flags(engine, primary.address(), &["--to", &second], &[]).unwrap();
    assert_eq!(who_answers(portal.entry()), b"primary");
    drop(primary);
    for _ in 0..3 {
        assert_eq!(who_answers(portal.entry()), b"standby");
    }
}

fn a_target_is_told_the_apps_address_and_the_inlets_id(engine: Engine) {
    let service = Service::echo().unwrap();
    let header = ["--send-proxy-v2"];
    let portal = Portal::with_flags(engine, service.address(), &header, &[]).unwrap();
    let mut app = tcp::connect(portal.entry()).unwrap();
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
    let id = portal.inlet.status().unwrap()["id"].to_string();
    let id = id.trim_matches('"').as_bytes();
    assert!(about.windows(id.len()).any(|window| window == id));
}
