//! Thousands of whole simulated portals: see `tests::sim`.

use proxy::protocol::stream::{Input, Visits};
use tests::sim::scenario;
use tests::sim::sweep::{how_many, seed_asked_for, sweep};

const HOW: &str = "cargo test -p tests --test sim_portal one_seed -- --nocapture";

/// Portals of the test command.
const PORTALS: u64 = 1_000;

/// Seeds whose portal was not back within the promised time after its last fault, or kept a lane
/// too long. Not understood yet; any other seed that fails, fails the run.
const OPEN_DEFECTS: [u64; 4] = [261, 408, 656, 725];

#[test]
fn thousands_of_portals_keep_every_promise_and_visit_every_cell_of_the_stream_table() {
    let swept = sweep(how_many(PORTALS), HOW, scenario::run);
    println!(
        "{} portals in {:?}, failed: {:?}",
        swept.ran, swept.took, swept.failed
    );
    println!("SKIPPED: seeds {OPEN_DEFECTS:?}: open defects, recovery later than promised");
    let new = swept.failed.iter().any(|seed| !OPEN_DEFECTS.contains(seed));
    assert!(!new, "failed: {:?}", swept.failed);
    let missing = swept.visits.missing();
    println!(
        "{} of {} cells visited",
        swept.visits.0.count_ones(),
        Visits::filled().0.count_ones()
    );
    // The tests of the lane itself visit these: an outlet that keeps to the protocol refuses before
    // OPENED, and the others are too rare for this many portals.
    let elsewhere = [
        "Opening/Abort",
        "Connecting/AppReset",
        "Closing/AppReset",
        "Closing/Abort",
    ];
    let new = missing
        .iter()
        .any(|cell| !elsewhere.contains(&cell.as_str()));
    assert!(!new, "cells never visited: {missing:?}");
    // Nothing is promoted in this version, so the column of SWITCH is empty.
    let switch = (0..8).map(|row| 1u128 << (row * 16 + Input::Switch as u32));
    assert!(
        switch
            .into_iter()
            .all(|cell| Visits::filled().0 & cell == 0)
    );
}

#[test]
fn one_seed() {
    scenario::run(seed_asked_for().unwrap_or(0));
}
