//! The simulation finds bugs: six are planted, one after the other, and a seed of the ordinary
//! sweep must fail for each.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::scenario;
use crypto::planted::{Bug, plant};

/// Within so many seeds each bug is found.
const SEEDS: u64 = 500;

/// The first seed that fails with that bug, and how.
fn hunt(bug: Bug) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| {
        plant(Some(bug));
        let outcome = catch_unwind(AssertUnwindSafe(|| scenario::run(seed)));
        plant(None);
        let panic = outcome.err()?;
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let line = text.and_then(|text| text.lines().next()).unwrap_or("");
        Some((seed, line.to_owned()))
    })
}

#[test]
fn each_of_six_planted_bugs_is_found() {
    let found: Vec<_> = crypto::planted::BUGS
        .into_iter()
        .map(|bug| (bug, hunt(bug)))
        .collect();
    for (bug, found) in &found {
        match found {
            Some((seed, how)) => println!("{bug:?} is found by seed {seed}: {how}"),
            None => panic!("{bug:?} is not found by {SEEDS} seeds"),
        }
    }
    // And with every bug asleep, the same seeds pass.
    for (_, found) in found {
        if let Some((seed, _)) = found {
            scenario::run(seed);
        }
    }
}
