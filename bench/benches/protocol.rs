//! The protocol floor without I/O: codecs, a lane's two ends with 50 streams, policy decisions.

use bench::work::ALL;
use criterion::{Criterion, criterion_group, criterion_main};

fn protocol(c: &mut Criterion) {
    for about in ["codec", "lane", "policy"] {
        let mut group = c.benchmark_group(about);
        for work in &ALL {
            let Some((of, what)) = work.name.split_once('/') else {
                continue;
            };
            if of == about {
                let mut again = (work.prepare)();
                group.bench_function(what, |b| b.iter(&mut again));
            }
        }
        group.finish();
    }
}

criterion_group!(floor, protocol);
criterion_main!(floor);
