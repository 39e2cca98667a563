//! What routing costs: finding who wants a topic, and one message to many subscribers.
#![allow(missing_docs)] // criterion's macros make public functions.

mod world;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use smqtt_proto::QoS;
use world::{Subscribers, filters, publish, topics};

/// Topics that match one filter each, and so many that what is looked at for one of them has left the caches when it comes again.
fn trie_match(c: &mut Criterion) {
    let mut group = c.benchmark_group("trie match");
    for count in [1_000, 100_000, 1_000_000] {
        let (trie, topics) = (filters(count), topics(count.min(100_000), count));
        group.throughput(Throughput::Elements(topics.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                for topic in &topics {
                    trie.matches(topic, |subscription| {
                        black_box(subscription);
                    });
                }
            });
        });
    }
    group.finish();
}

/// One message of 64 bytes to so many subscribers, up to the bytes that their sockets would take.
fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan-out");
    let publish = publish(QoS::AtMostOnce);
    for count in [1, 10, 100, 500, 1000] {
        let mut subscribers = Subscribers::new(count, QoS::AtMostOnce);
        group.throughput(Throughput::Elements(count as u64));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| subscribers.deliver(&publish));
        });
    }
    group.finish();
}

criterion_group!(benches, trie_match, fan_out);
criterion_main!(benches);
