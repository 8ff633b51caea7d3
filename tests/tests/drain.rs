//! Asked to end, a process does so as soon as nobody needs it any more, and says nothing of losses.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use tests::portal::{Engine, Part, Portal, START};
use tests::process::eventually;
use tests::tcp::{self, PATIENCE, Service};

tests::on_both_engines!(
    an_idle_relay_ends_long_before_its_deadline_and_the_portal_is_back_with_the_next,
    an_idle_node_ends_without_a_word_of_losses_at_either_end,
);

/// Two seconds in which nothing new comes, and time for a busy machine; the deadline is 25 s.
const SOON: Duration = Duration::from_secs(12);

fn portal(engine: Engine) -> (Portal, Service) {
    let service = Service::echo().unwrap();
    let portal = Portal::start(engine, service.address()).unwrap();
    (portal, service)
}

fn an_idle_relay_ends_long_before_its_deadline_and_the_portal_is_back_with_the_next(
    engine: Engine,
) {
    let (mut portal, _service) = portal(engine);
    let asked = Instant::now();
    portal.project.serve.terminate();
    // Arrivals are still served; nothing but the public port tells them that they come late.
    tcp::ping(&tcp::connect(portal.entry()).unwrap(), b"late").unwrap();
    let serve = portal.project.serve.process();
    assert_eq!(serve.wait(SOON).unwrap().code(), Some(0));
    println!("ended after {:?}", asked.elapsed());
    portal.project.serve.restart().unwrap();
    eventually("the portal works again", PATIENCE, || {
        tcp::ping(&tcp::connect(portal.entry())?, b"again")
    })
    .unwrap();
    for part in [Part::Inlet, Part::Outlet] {
        let lost = portal.node(part).process().lines_with(&["lane was lost"]);
        assert_eq!(lost, Vec::<String>::new(), "{part:?}");
    }
}

fn an_idle_node_ends_without_a_word_of_losses_at_either_end(engine: Engine) {
    for part in [Part::Inlet, Part::Outlet] {
        let (mut portal, _service) = portal(engine);
        portal.node(part).terminate();
        let status = portal.node(part).process().wait(START).unwrap();
        assert_eq!(status.code(), Some(0), "{part:?}");
        for end in [Part::Inlet, Part::Outlet] {
            let lost = portal.node(end).process().lines_with(&["ADIT-4309"]);
            assert_eq!(lost, Vec::<String>::new(), "{end:?} when {part:?} ends");
            let lost = portal.node(end).process().lines_with(&["lane was lost"]);
            assert_eq!(lost, Vec::<String>::new(), "{end:?} when {part:?} ends");
        }
    }
}
