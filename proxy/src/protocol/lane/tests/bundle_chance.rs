//! A pair of honest bundle ends under random interleavings of lane, circuits, apps, time and
//! loss. A failure prints its seed; `ADIT_SEED=n` runs that one alone.

use super::super::*;
use super::bundle::{App, Bundle, LONGEST, SIDES};
use super::chance::{Chance, Seed, seeds};
use super::world::Side;
use crate::limits::CREDIT_BUDGET;
use crate::time::Duration;

const SEEDS: u64 = 4_000;
const STEPS: usize = 500;
const APPS_MAX: usize = 6;
const CIRCUITS: usize = 4;

/// What a run is like, besides its seed.
#[derive(Clone, Copy)]
struct Weather {
    /// One in so many steps breaks a circuit; 0 none.
    breaks: usize,
    /// One in so many steps resets an app.
    resets: usize,
}

fn pick(
    bundle: &mut Bundle,
    chance: &mut Chance,
    side: Side,
    is: impl Fn(&App) -> bool,
) -> Option<usize> {
    let apps = bundle.end(side).apps.iter().enumerate();
    let fitting: Vec<usize> = apps
        .filter(|(_, app)| app.is_live() && is(app))
        .map(|(at, _)| at)
        .collect();
    let at = chance.below(fitting.len());
    fitting.get(at).copied()
}

fn step(bundle: &mut Bundle, chance: &mut Chance, weather: Weather) {
    let side = SIDES[chance.below(2)];
    let size = [1, 100, 4_000, LONGEST][chance.below(4)];
    let circuits = bundle.circuits();
    let circuit = circuits.get(chance.below(circuits.len())).copied();
    if weather.breaks > 0 && chance.below(weather.breaks) == 0 {
        if let Some(no) = circuit {
            bundle.break_circuit(no);
        }
        return;
    }
    if weather.resets > 0 && chance.below(weather.resets) == 0 {
        if let Some(app) = pick(bundle, chance, side, |_| true) {
            bundle.reset(side, app);
        }
        return;
    }
    let sends = |app: &App| !app.fin_sent && !app.connecting;
    match chance.below(100) {
        0..6 => {
            let live = bundle.end(Side::Inlet).apps.iter();
            if live.filter(|app| app.is_live()).count() < APPS_MAX {
                bundle.open();
            }
        }
        6..10 => {
            if circuits.len() < CIRCUITS {
                bundle.add_circuit();
            }
        }
        10..16 => {
            if let Some(app) = pick(bundle, chance, Side::Outlet, |app| app.connecting) {
                bundle.connected(app);
            }
        }
        16..34 => {
            if let Some(app) = pick(bundle, chance, side, sends) {
                bundle.send(side, app, 1 + chance.below(size));
            }
        }
        34..42 => {
            if let Some(app) = pick(bundle, chance, side, sends) {
                let _ = bundle.promote(side, app);
            }
        }
        42..47 => {
            if let Some(app) = pick(bundle, chance, side, sends) {
                bundle.go_back(side, app);
            }
        }
        47..49 => {
            if let Some(app) = pick(bundle, chance, side, sends) {
                bundle.fin(side, app);
            }
        }
        49..62 => {
            if let Some(app) = pick(bundle, chance, side, |app| !app.is_written()) {
                bundle.write(side, app, 1 + chance.below(2 * size));
            }
        }
        62..65 => {
            let apps = bundle.end(Side::Outlet).apps.len();
            if apps > 0 {
                bundle.close_if_done(chance.below(apps));
            }
        }
        65..70 => bundle.pull_lane(side),
        70..75 => {
            if let Some(no) = circuit {
                bundle.pull_circuit(side, no);
            }
        }
        75..86 => {
            bundle.arrive(side);
        }
        86..97 => {
            if let Some(no) = circuit {
                bundle.arrive_on(side, no);
            }
        }
        97 => bundle.hear_of_loss(chance.below(8)),
        98 => bundle.pass(Duration::from_millis(chance.next() % 1_500)),
        _ => {
            if let Some(no) = circuit.filter(|_| chance.below(8) == 0) {
                bundle.lane(side).retire_circuit(no);
            }
        }
    }
}

/// Lets every stream come to its end, however it has begun.
fn finish(bundle: &mut Bundle) {
    for _ in 0..10_000 {
        bundle.settle();
        let mut live = false;
        for side in SIDES {
            for app in 0..bundle.end(side).apps.len() {
                let one = &bundle.end(side).apps[app];
                if !one.is_live() {
                    continue;
                }
                live = true;
                let (connecting, fin_sent) = (one.connecting, one.fin_sent);
                if connecting {
                    bundle.connected(app);
                }
                if !fin_sent {
                    bundle.fin(side, app);
                }
                bundle.write(side, app, usize::MAX);
            }
        }
        for app in 0..bundle.end(Side::Outlet).apps.len() {
            bundle.close_if_done(app);
        }
        if !live {
            break;
        }
    }
    bundle.settle();
    for side in SIDES {
        assert_eq!(
            bundle.lane(side).streams(),
            0,
            "streams are left at {side:?}"
        );
        assert!(bundle.end(side).apps.iter().all(|app| !app.is_live()));
        bundle.lane(side).check_circuits_idle();
    }
}

/// One bundle; how many directions left the lane, and how many came back.
fn run(seed: u64) -> (u64, u64, Visits) {
    let _seed = Seed(seed);
    let mut chance = Chance::new(seed);
    let weather = Weather {
        breaks: [0, 0, 60, 200][chance.below(4)],
        resets: [0, 30, 100, 400][chance.below(4)],
    };
    let mut bundle = Bundle::new();
    for _ in 0..STEPS {
        step(&mut bundle, &mut chance, weather);
        bundle.check_apps();
    }
    if chance.below(6) == 0 {
        bundle.lose_lane();
    } else {
        finish(&mut bundle);
    }
    bundle.check_apps();
    if weather.breaks == 0 && weather.resets == 0 {
        let lost = bundle.end(Side::Inlet).apps.iter();
        let clean = [Some(CloseReason::Finished), Some(CloseReason::TunnelLost)];
        assert!(lost.clone().all(|app| clean.contains(&app.freed)
            || app.freed == Some(CloseReason::OpenTimeout)
            || app.freed == Some(CloseReason::TargetTimeout)));
    }
    let mut visits = Visits::default();
    for side in SIDES {
        assert_eq!(bundle.end(side).shared.credit_left(), CREDIT_BUDGET);
        visits.add(bundle.lane(side).visited());
    }
    (bundle.moved, bundle.returned, visits)
}

#[test]
fn no_interleaving_of_lane_and_circuits_loses_repeats_or_reorders_a_byte() {
    let seeds = seeds(SEEDS);
    let (mut moved, mut returned) = (0, 0);
    let mut visits = Visits::default();
    for &seed in &seeds {
        let (moves, returns, visited) = run(seed);
        moved += moves;
        returned += returns;
        visits.add(visited);
    }
    if seeds.len() > 1 {
        let often = 2 * seeds.len() as u64;
        assert!(moved > often, "only {moved} directions moved");
        assert!(returned > often / 2, "only {returned} came back");
        let mut missing = visits.missing();
        missing.retain(|cell| cell.ends_with("/Switch"));
        assert_eq!(missing, Vec::<String>::new(), "cells nobody came to");
    }
}

#[test]
fn a_seed_gives_the_same_bundle_again() {
    assert_eq!(run(11), run(11));
}
