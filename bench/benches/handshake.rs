//! What a new lane costs: a whole Noise handshake, and the relay's part, a leg preface without any
//! public-key work.

use std::hint::black_box;

use bench::keys::{Parties, SUITES};
use criterion::{Criterion, criterion_group, criterion_main};
use crypto::leg::{LegKey, PREFACE_BODY, PREFACE_CLEAR};

fn handshake(c: &mut Criterion) {
    let mut group = c.benchmark_group("handshake");
    for (suite, name) in SUITES {
        let mut parties = Parties::new(suite);
        group.bench_function(format!("{name}, both ends"), |b| b.iter(|| parties.shake()));
    }
    group.finish();
}

fn leg(c: &mut Criterion) {
    let mut group = c.benchmark_group("leg");
    let key = LegKey::from_secret(&[7; 32]);
    let (clear, body) = ([1; PREFACE_CLEAR], [2; PREFACE_BODY]);
    group.bench_function("seal preface", |b| {
        b.iter(|| key.seal_preface(1, black_box(&clear), black_box(&body)));
    });
    let sealed = key.seal_preface(1, &clear, &body);
    group.bench_function("open preface", |b| {
        b.iter(|| key.open_preface(1, black_box(&clear), black_box(&sealed)));
    });
    group.finish();
}

criterion_group!(shaking, handshake, leg);
criterion_main!(shaking);
