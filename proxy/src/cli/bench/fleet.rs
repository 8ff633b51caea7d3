//! Many connections of one workload at once, on a few threads.

use std::future::Future;
use std::io;
use std::sync::{Arc, Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, LocalSet};

use crate::limits::{BENCH_STALL_DEADLINE, BENCH_THREADS_MAX};

/// One read or write of a bulk transfer.
pub(super) const CHUNK: usize = 128 * 1024;

/// A workload's part on one connection.
pub(super) trait Load: Clone + Send + 'static {
    /// What is made before the clock starts.
    type Ready: 'static;

    /// Opens what connection `number` needs.
    fn prepare(&self, number: usize) -> impl Future<Output = io::Result<Self::Ready>>;

    /// Does as much as there is time for, and returns when all of it has come back.
    fn run(&self, ready: Self::Ready, until: Instant) -> impl Future<Output = io::Result<Tally>>;
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Bytes that were sent.
    pub(super) sent: u64,
    /// Bytes that arrived, counted where they arrived.
    pub(super) arrived: u64,
    /// Messages or connections.
    pub(super) count: u64,
    /// Connections that failed.
    pub(super) failed: u64,
}

impl Tally {
    /// A transfer of which the two ends say this.
    ///
    /// # Errors
    /// They don't agree.
    pub(super) fn transfer(sent: u64, arrived: u64) -> io::Result<Tally> {
        if sent == arrived {
            Ok(Tally {
                sent,
                arrived,
                ..Tally::default()
            })
        } else {
            let what = format!("{sent} bytes were sent and {arrived} arrived");
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
    }

    /// Both together.
    #[must_use]
    pub(super) fn plus(self, other: Tally) -> Tally {
        Tally {
            sent: self.sent + other.sent,
            arrived: self.arrived + other.arrived,
            count: self.count + other.count,
            failed: self.failed + other.failed,
        }
    }
}

/// How many threads make load: half of the processors, the other half serves.
pub(super) fn threads() -> usize {
    let processors = thread::available_parallelism().map_or(2, usize::from);
    (processors / 2).clamp(1, BENCH_THREADS_MAX)
}

/// Runs a future and its local tasks on this thread.
///
/// # Errors
/// The future's own, or that there is no runtime to be had.
pub(super) fn local<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(LocalSet::new().run_until(future))
}

/// Opens `streams` connections of the workload and, when all are open, runs them for `time`. Returns
/// the sum and how long it took until the last byte was back.
///
/// # Errors
/// One of them failed, or was not done in time.
pub(super) fn run<L: Load>(
    load: &L,
    streams: usize,
    time: Duration,
) -> io::Result<(Tally, Duration)> {
    let threads = threads().min(streams).max(1);
    let gate = Arc::new(Gate {
        barrier: Barrier::new(threads),
        began: OnceLock::new(),
    });
    let running: Vec<_> = (0..threads)
        .map(|first| {
            let (load, gate) = (load.clone(), Arc::clone(&gate));
            let numbers = (first..streams).step_by(threads);
            thread::spawn(move || local(share(load, numbers, gate, time)))
        })
        .collect();
    let mut total = Tally::default();
    let mut elapsed = Duration::ZERO;
    for thread in running {
        let ended = thread.join().map_err(|_| lost())?;
        let (tally, took) = ended?;
        total = total.plus(tally);
        elapsed = elapsed.max(took);
    }
    Ok((total, elapsed))
}

/// Where the threads wait for each other, and when they went on.
struct Gate {
    barrier: Barrier,
    began: OnceLock<Instant>,
}

/// One thread's connections.
async fn share<L: Load>(
    load: L,
    numbers: impl Iterator<Item = usize>,
    gate: Arc<Gate>,
    time: Duration,
) -> io::Result<(Tally, Duration)> {
    let preparing = spawn_all(numbers, |number| {
        let load = load.clone();
        async move { load.prepare(number).await }
    });
    let ready = all(preparing, BENCH_STALL_DEADLINE).await;
    // Also after a failure: the others wait.
    gate.barrier.wait();
    let ready = ready?;
    let began = *gate.began.get_or_init(Instant::now);
    let until = began + time;
    let running = spawn_all(ready.into_iter(), |ready| {
        let load = load.clone();
        async move { load.run(ready, until).await }
    });
    let tallies = all(running, time * 2 + BENCH_STALL_DEADLINE).await?;
    let total = tallies.into_iter().fold(Tally::default(), Tally::plus);
    Ok((total, began.elapsed()))
}

fn spawn_all<T, F>(
    items: impl Iterator<Item = T>,
    mut task: impl FnMut(T) -> F,
) -> Vec<JoinHandle<F::Output>>
where
    F: Future<Output: 'static> + 'static,
{
    items
        .map(|item| tokio::task::spawn_local(task(item)))
        .collect()
}

/// What all of them return, or the first failure.
async fn all<T>(tasks: Vec<JoinHandle<io::Result<T>>>, within: Duration) -> io::Result<Vec<T>> {
    let joined = async {
        let mut results = Vec::with_capacity(tasks.len());
        for task in tasks {
            results.push(task.await.map_err(|_| lost())??);
        }
        Ok(results)
    };
    tokio::time::timeout(within, joined)
        .await
        .unwrap_or_else(|_| {
            let what = "not all of it came back in time";
            Err(io::Error::new(io::ErrorKind::TimedOut, what))
        })
}

fn lost() -> io::Error {
    io::Error::other("a thread or task of the benchmark ended early")
}
