//! Sealing and opening one record in place: the cryptography that a byte on a lane costs, at each
//! end.

use bench::keys::{SUITES, ends, open, record, seal};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// A small query, a page, a full lane record, and large circuit records.
const PAYLOADS: [usize; 5] = [64, 1024, 16 * 1024 - 24, 64 * 1024, 256 * 1024 - 28];

fn sealing(c: &mut Criterion) {
    for (suite, name) in SUITES {
        let mut group = c.benchmark_group(format!("seal/{name}"));
        for payload in PAYLOADS {
            let (mut sealer, _) = ends(suite);
            let mut record = record(payload);
            group.throughput(Throughput::Bytes(payload as u64));
            group.bench_function(BenchmarkId::from_parameter(payload), |b| {
                b.iter(|| seal(&mut sealer, &mut record));
            });
        }
        group.finish();
    }
}

fn opening(c: &mut Criterion) {
    for (suite, name) in SUITES {
        let mut group = c.benchmark_group(format!("open/{name}"));
        for payload in PAYLOADS {
            let (mut sealer, mut opener) = ends(suite);
            group.throughput(Throughput::Bytes(payload as u64));
            group.bench_function(BenchmarkId::from_parameter(payload), |b| {
                // A record opens once, so each needs to be sealed first; the batches keep order.
                b.iter_batched_ref(
                    || {
                        let mut record = record(payload);
                        seal(&mut sealer, &mut record);
                        record
                    },
                    |record| open(&mut opener, record),
                    if payload > 16 * 1024 {
                        BatchSize::LargeInput
                    } else {
                        BatchSize::SmallInput
                    },
                );
            });
        }
        group.finish();
    }
}

criterion_group!(records, sealing, opening);
criterion_main!(records);
