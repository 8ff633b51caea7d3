//! `--spin`: workers look for work before they sleep, and still sleep.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use tests::portal::{Engine, Part, Portal, START};
use tests::process::eventually;
use tests::tcp::{self, Service};

tests::on_both_engines!(a_portal_that_spins_answers_and_finds_work_without_sleeping);

fn a_portal_that_spins_answers_and_finds_work_without_sleeping(engine: Engine) {
    let service = Service::echo().unwrap();
    let spin = ["--spin", "1000"];
    let mut portal = Portal::with_flags(engine, service.address(), &spin, &spin).unwrap();
    let entry = portal.entry();
    let open = || {
        let app = tcp::connect(entry)?;
        tcp::ping(&app, b"hello").map(|()| app)
    };
    let app = eventually("the portal works", START, open).unwrap().0;
    for part in [Part::Outlet, Part::Inlet] {
        let mut counter = |name: &str| {
            let status = portal.node(part).status().unwrap();
            status["counters"][name].as_u64().unwrap()
        };
        let hits = eventually("work is found", START, || {
            tcp::ping(&app, b"once more")?;
            match counter("spins_hit") {
                0 => Err(tests::process::Failure("no hit".into())),
                hits => Ok(hits),
            }
        });
        let (hits, _) = hits.unwrap();
        // Every look is one turn's, and most turns of an idle worker end in sleep.
        let (spins, turns) = (counter("spins"), counter("turns"));
        assert!(hits <= spins && spins <= turns, "{hits}, {spins}, {turns}");
    }
}
