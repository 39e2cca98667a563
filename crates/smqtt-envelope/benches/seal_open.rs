//! Sealing and opening one message under a known key, and what a new key costs both sides.
#![allow(missing_docs)] // criterion's macros make public functions.

#[path = "../tests/world/mod.rs"]
mod world;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use smqtt_envelope::{SealerConfig, Sequence};
use world::{NOW, POLICY, Reader, World, at};

const TOPIC: &str = "plant/7/temperature";

fn messages(c: &mut Criterion) {
    let mut world = World::new();
    let device = world.device("d");
    for size in [64usize, 1024] {
        let payload = vec![0x5a; size];
        let mut group = c.benchmark_group("message");
        group.throughput(Throughput::Bytes(size as u64));

        let mut sealer = world.sealer(&device);
        world.seal(&mut sealer, TOPIC, &payload);
        group.bench_with_input(BenchmarkId::new("seal", size), &payload, |b, payload| {
            b.iter(|| sealer.seal(TOPIC, payload, at(NOW), &mut world.rng));
        });

        // A reader takes each message once, so it gets a new one each time, under one key whose numbers suffice.
        let config = SealerConfig {
            max_messages: Sequence::MAX,
            ..SealerConfig::default()
        };
        let mut sealer = world.sealer_with(&device, POLICY, config);
        let mut opener = world.opener();
        let first = world.seal(&mut sealer, TOPIC, &payload);
        opener.announce(&first.announce.expect("the first message"));
        group.bench_with_input(BenchmarkId::new("open", size), &payload, |b, payload| {
            b.iter_batched(
                || world.seal(&mut sealer, TOPIC, payload).message,
                |message| {
                    opener.handle_publish(TOPIC, &message, false, at(NOW));
                    opener.poll_event()
                },
                BatchSize::SmallInput,
            );
        });
        group.finish();
    }
}

fn keys(c: &mut Criterion) {
    let mut world = World::new();
    let device = world.device("d");
    let mut group = c.benchmark_group("key");
    group.sample_size(20);
    let mut sealer = world.sealer(&device);
    group.bench_function("make a frame", |b| {
        b.iter(|| {
            sealer.end();
            sealer.seal(TOPIC, b"x", at(NOW), &mut world.rng)
        });
    });
    group.bench_function("verify and decapsulate a frame", |b| {
        b.iter_batched(
            || {
                let (announcement, _) = world.first(&device, TOPIC, b"x");
                (world.opener(), announcement)
            },
            |(mut opener, announcement)| opener.announce(&announcement),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, messages, keys);
criterion_main!(benches);
