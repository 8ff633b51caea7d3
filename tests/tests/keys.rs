//! Keys are made anew under traffic, each second here: nothing that apps send is lost or changed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tests::portal::{Engine, Node, Portal};
use tests::process::{Failure, eventually};
use tests::tcp::{Exchange, Order, Service};

tests::on_both_engines!(bulk_and_queries_flow_while_keys_are_exchanged_every_second,);

const MIB: u64 = 1024 * 1024;
/// Some exchanges, on a machine that is busy.
const LONG: Duration = Duration::from_secs(90);

const EVERY: [&str; 2] = ["--key-exchange-every", "1s"];

fn counter(node: &Node, name: &str) -> u64 {
    let status = node.status().unwrap();
    status["counters"][name].as_u64().unwrap()
}

fn bulk_and_queries_flow_while_keys_are_exchanged_every_second(engine: Engine) {
    let service = Service::exchanges().unwrap();
    let portal = Portal::with_flags(engine, service.address(), &EVERY, &EVERY).unwrap();
    let (inlet, outlet, entry) = (&portal.inlet, &portal.outlet, portal.entry());

    let enough = AtomicBool::new(false);
    let run = |up: u64, down: u64, seed: u64| {
        let order = Order::AtOnce;
        let exchange = Exchange {
            up,
            down,
            seed,
            order,
        };
        exchange.run(entry).unwrap();
    };
    // At least one, whatever happens, and no more than the exchanges take.
    let until_enough = |up: u64, down: u64| {
        for seed in 1.. {
            run(up, down, seed);
            if enough.load(Ordering::Relaxed) {
                return;
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| until_enough(4 * MIB, 4 * MIB));
        scope.spawn(|| until_enough(100, 5_000));
        let exchanged = eventually("keys are exchanged at both ends", LONG, || {
            for node in [inlet, outlet] {
                let exchanges = counter(node, "key_exchanges");
                if exchanges < 4 {
                    return Err(Failure(format!("{exchanges} exchanges")));
                }
            }
            Ok(())
        });
        enough.store(true, Ordering::Relaxed);
        exchanged.unwrap();
    });
    for node in [inlet, outlet] {
        assert_eq!(counter(node, "lane_violations"), 0);
        println!(
            "{engine:?}: {} exchanges, {} lanes",
            counter(node, "key_exchanges"),
            counter(node, "lanes_total"),
        );
        assert_eq!(counter(node, "lanes_total"), 1, "no lane was lost");
    }
}
