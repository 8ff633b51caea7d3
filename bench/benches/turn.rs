//! The worker's loop on the simulated engine: messages of 64 bytes on many streams, there and back.
//! Only the inlet's turns are timed.

use bench::turn::Turns;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn turn(c: &mut Criterion) {
    let mut group = c.benchmark_group("turn");
    for streams in [1, 50, 500] {
        let mut turns = Turns::new(streams);
        group.throughput(Throughput::Elements(streams as u64));
        group.bench_function(BenchmarkId::new("64 B there and back", streams), |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| turns.round()).sum());
        });
    }
    group.finish();
}

criterion_group!(loop_turns, turn);
criterion_main!(loop_turns);
