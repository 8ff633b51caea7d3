//! Many seeds on all cores. A seed that fails prints its number and how to run it alone.
//!
//! | variable | what it does |
//! |---|---|
//! | `ADIT_SEED` | the one seed of the test `one_seed` |
//! | `ADIT_SEEDS` | how many seeds are run, from 0 on |
//! | `ADIT_LONG` | a hundred times as many |

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proxy::protocol::stream::Visits;

use super::portal::Ran;

/// Failures after which no more seeds are begun.
const FAILURES: usize = 5;

/// How a sweep went.
#[derive(Debug, Default)]
pub struct Swept {
    /// Seeds that ran.
    pub ran: u64,
    /// Those that failed, in order.
    pub failed: Vec<u64>,
    /// Cells of the stream table that were visited.
    pub visits: Visits,
    /// How long it took.
    pub took: Duration,
}

/// The seed that the environment names.
pub fn seed_asked_for() -> Option<u64> {
    std::env::var("ADIT_SEED").ok()?.parse().ok()
}

/// How many seeds to run where the default is `usual`.
pub fn how_many(usual: u64) -> u64 {
    let asked = std::env::var("ADIT_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok());
    let long = std::env::var_os("ADIT_LONG").is_some();
    asked.unwrap_or(if long { usual * 100 } else { usual })
}

/// Runs the seeds below `count`, on as many threads as there are cores. `how` is the command that
/// runs one seed alone.
pub fn sweep(count: u64, how: &str, run: impl Fn(u64) -> Ran + Sync) -> Swept {
    let started = Instant::now();
    let next = AtomicU64::new(0);
    let failures = AtomicUsize::new(0);
    let swept = Mutex::new(Swept::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count || failures.load(Ordering::Relaxed) >= FAILURES {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed)));
            let mut swept = swept.lock().unwrap();
            swept.ran += 1;
            match outcome {
                Ok(ran) => swept.visits.add(ran.visits),
                Err(_) => {
                    failures.fetch_add(1, Ordering::Relaxed);
                    swept.failed.push(seed);
                    println!("seed {seed} failed; alone: ADIT_SEED={seed} {how}");
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let mut swept = swept.into_inner().unwrap();
    swept.failed.sort_unstable();
    swept.took = started.elapsed();
    swept
}
