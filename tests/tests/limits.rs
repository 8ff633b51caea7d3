//! The limits of a portal, as flags, and as the file has them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::portal::{Engine, Portal, SHORTLY, START};
use tests::process::eventually;
use tests::tcp::{self, Ending, PATIENCE, Service};

tests::on_both_engines!(
    an_inlet_resets_connections_beyond_its_maximum,
    an_outlet_resets_connections_beyond_its_maximum,
    a_connection_that_is_idle_for_too_long_is_reset_and_a_busy_one_is_not,
);

/// A portal whose nodes were started again with more flags.
fn portal(engine: Engine, inlet: &[&str], outlet: &[&str]) -> (Portal, Service) {
    let service = Service::echo().unwrap();
    let mut portal = Portal::start(engine, service.address()).unwrap();
    for (node, flags) in [(&mut portal.outlet, outlet), (&mut portal.inlet, inlet)] {
        if !flags.is_empty() {
            node.restart_with(flags).unwrap();
            node.wait_ready(START).unwrap();
        }
    }
    portal.inlet.wait_ready(START).unwrap();
    (portal, service)
}

/// Two connections work, a third is reset, and one more works when one has ended.
fn two_fit(portal: &mut Portal) {
    let entry = portal.entry();
    let open = || {
        let app = tcp::connect(entry)?;
        tcp::ping(&app, b"hello").map(|()| app)
    };
    let (first, _) = eventually("the portal works", START, open).unwrap();
    let second = open().unwrap();
    // The reset may come before the connection is of any use.
    if let Ok(third) = tcp::connect(entry) {
        assert_eq!(tcp::ending(&third, PATIENCE).unwrap().0, Ending::Reset);
    }
    tcp::ping(&second, b"still here").unwrap();
    drop(first);
    eventually("there is room again", START, open).unwrap();
}

fn an_inlet_resets_connections_beyond_its_maximum(engine: Engine) {
    let (mut portal, _service) = portal(engine, &["--max-streams", "2"], &[]);
    two_fit(&mut portal);
    let inlet = portal.inlet.process();
    inlet.wait_for_line(&["ADIT-6002"], SHORTLY).unwrap();
}

fn an_outlet_resets_connections_beyond_its_maximum(engine: Engine) {
    let (mut portal, _service) = portal(engine, &[], &["--max-streams", "2"]);
    two_fit(&mut portal);
    for node in [&mut portal.inlet, &mut portal.outlet] {
        let process = node.process();
        process.wait_for_line(&["ADIT-6002"], SHORTLY).unwrap();
    }
}

fn a_connection_that_is_idle_for_too_long_is_reset_and_a_busy_one_is_not(engine: Engine) {
    let (mut portal, _service) = portal(engine, &["--idle-timeout", "2s"], &[]);
    let busy = tcp::connect(portal.entry()).unwrap();
    tcp::ping(&busy, b"hello").unwrap();
    let idle = tcp::connect(portal.entry()).unwrap();
    let began = Instant::now();
    tcp::ping(&idle, b"hello").unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pings = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                tcp::ping(&busy, b"x").unwrap();
            }
        });
        let (ending, _) = tcp::ending(&idle, PATIENCE).unwrap();
        let took = began.elapsed();
        over.store(true, Ordering::Relaxed);
        assert_eq!(ending, Ending::Reset);
        assert!(took > Duration::from_millis(1500), "after {took:?}");
        pings.join().unwrap();
    });
    tcp::ping(&busy, b"still here").unwrap();
    let inlet = portal.inlet.process();
    inlet.wait_for_line(&["ADIT-5003"], SHORTLY).unwrap();
}
