//! Processes with several workers: what is handed from one to another, and how even the load is.

use std::time::Duration as Std;

use proxy::engine::simulated::Faults;
use proxy::time::Duration;

use crate::cast::{Shape, Who};
use crate::endpoint::{Ending, Part};
use crate::portal::Portal;
use crate::script::Script;

const SOON: Duration = Duration::from_secs(5);
const MIB: u64 = 1024 * 1024;

/// Every process has so many.
fn with(workers: u8) -> Shape {
    Shape {
        workers: Who::ALL.map(|who| (who, workers)).to_vec(),
        ..Shape::default()
    }
}

/// A portal whose lanes are all there.
fn up(seed: u64, shape: &Shape) -> Portal {
    let mut portal = Portal::up(seed, shape);
    let all = portal.within(SOON, |portal| {
        portal.inlets().iter().all(|who| {
            let lanes = each(portal, *who, "lanes_open");
            lanes
                .iter()
                .all(|&lanes| lanes == portal.routes.len() as u64)
        })
    });
    assert!(all, "seed {seed}: a worker has no lane: {}", portal.story());
    portal
}

fn each(portal: &Portal, who: Who, counter: &str) -> Vec<u64> {
    portal
        .see(who)
        .counters()
        .map_or(Vec::new(), |c| c.each(counter))
}

/// An exchange that goes on for minutes.
fn lasting() -> Script {
    let mut script = Script::echo(20 * 200, 20);
    script.app.pace = Some((20, Std::from_secs(60)));
    script
}

#[test]
fn eight_apps_do_not_all_land_on_one_worker_at_any_process() {
    for seed in 0..8 {
        let mut portal = up(seed, &with(2));
        for _ in 0..8 {
            portal.app(0, lasting());
            portal.pass(Duration::from_millis(50));
        }
        for who in [Who::Inlet, Who::Outlet] {
            let open = each(&portal, who, "streams_open");
            let story = || format!("seed {seed}: {who:?} {open:?}: {}", portal.story());
            assert_eq!(open.iter().sum::<u64>(), 8, "{}", story());
            assert!(open.iter().all(|&open| open >= 2), "{}", story());
        }
        let legs = each(&portal, Who::Server, "legs_paired");
        assert!(legs.iter().all(|&legs| legs > 0), "seed {seed}: {legs:?}");
        portal.close(false);
    }
}

#[test]
fn lanes_and_their_circuits_are_on_one_worker_and_bulk_arrives_whole() {
    for (seed, workers) in [(1, 2), (2, 2), (3, 3), (4, 4)] {
        let mut portal = up(seed, &with(workers));
        portal.pass(Duration::from_secs(2));
        for who in [Who::Inlet, Who::Outlet] {
            let lanes = each(&portal, who, "lanes_open");
            assert_eq!(lanes, vec![1; usize::from(workers)], "seed {seed}: {who:?}");
            let circuits = each(&portal, who, "circuits_open");
            assert_eq!(
                circuits,
                vec![2; usize::from(workers)],
                "seed {seed}: {who:?}"
            );
        }
        assert!(
            each(&portal, Who::Outlet, "links_handed")
                .iter()
                .sum::<u64>()
                > 0,
            "seed {seed}: no link was handed over: {}",
            portal.story()
        );
        let part = Part::plain(2 * MIB);
        let bulk = Script {
            app: part,
            service: part,
        };
        let apps: Vec<usize> = (0..6).map(|_| portal.app(0, bulk)).collect();
        let over = portal.within(Duration::from_secs(60), |portal| {
            portal.apps_are_over() && portal.is_idle()
        });
        assert!(over, "seed {seed}: {}", portal.story());
        for app in apps {
            assert!(portal.is_clean(app), "seed {seed}: {}", portal.story());
        }
        let moved: u64 = each(&portal, Who::Inlet, "promotions").iter().sum();
        assert!(moved > 0, "seed {seed}: all stayed on lanes");
        portal.close(true);
    }
}

#[test]
fn a_relay_spreads_the_pairs_of_one_address_and_its_counts_return_to_their_start() {
    for seed in 0..6 {
        let mut shape = with(1);
        shape.workers = vec![(Who::Server, 3)];
        shape.crowd = true;
        let mut portal = up(seed, &shape);
        portal.pass(Duration::from_secs(2));
        // Two lanes and their circuits.
        let legs = each(&portal, Who::Server, "legs_paired");
        let (least, most) = (legs.iter().min(), legs.iter().max());
        let apart = most.unwrap() - least.unwrap();
        assert!(apart <= 2, "seed {seed}: {legs:?}");
        assert!(legs.iter().all(|&legs| legs > 0), "seed {seed}: {legs:?}");
        for who in [Who::Inlet, Who::Second, Who::Outlet] {
            portal.of(who).kill();
        }
        let empty = portal.within(Duration::from_secs(60), |portal| {
            let gauges = ["legs_paired", "legs_waiting"];
            let all = gauges
                .iter()
                .flat_map(|gauge| each(portal, Who::Server, gauge));
            all.sum::<u64>() == 0
        });
        assert!(empty, "seed {seed}: {}", portal.story());
        for who in [Who::Inlet, Who::Second, Who::Outlet] {
            portal.restart(who);
        }
        assert!(portal.within(SOON, |portal| portal.is_ready()));
        let app = portal.app(0, Script::echo(2000, 100));
        portal.within(SOON, |portal| portal.apps[app].end.is_over());
        assert!(portal.is_clean(app), "seed {seed}: {}", portal.story());
        portal.close(false);
    }
}

#[test]
fn apps_that_come_while_a_worker_has_no_lane_go_to_one_that_has() {
    for seed in 0..10 {
        let mut shape = with(2);
        shape.workers.retain(|(who, _)| *who != Who::Outlet);
        // Legs arrive one after the other, so the lanes do as well.
        shape.faults = Faults::rough();
        let mut portal = Portal::new(seed, &shape);
        let mut apps = Vec::new();
        let ready = portal.within(Duration::from_secs(30), |portal| portal.is_ready());
        assert!(ready, "seed {seed}: {}", portal.story());
        for _ in 0..20 {
            apps.push(portal.app(0, Script::echo(400, 100)));
            portal.pass(Duration::from_micros(200));
        }
        let over = portal.within(SOON, |portal| portal.apps_are_over());
        assert!(over, "seed {seed}: {}", portal.story());
        for app in apps {
            let ending = portal.apps[app].end.ending;
            assert_eq!(ending, Ending::Clean, "seed {seed}: {}", portal.story());
        }
        portal.close(true);
    }
}
