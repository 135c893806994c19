//! What a number costs whoever works one out, and whoever checks the half that holders check.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use wire::{KeyPair, Number, Seed, Stretch};

fn bench(c: &mut Criterion) {
    let key = KeyPair::from_seed(Seed::from_number(1)).public();
    let mut group = c.benchmark_group("number");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    group.bench_function("stretch", |b| b.iter(|| Stretch::of(black_box(&key))));
    group.bench_function("check", |b| {
        b.iter(|| Number::of(black_box(&key), &Stretch([7; Stretch::LEN])));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
