//! What routing costs in instructions, which repeat where times do not: scripts/bench/instructions.

#[path = "../../../scripts/bench/counted.rs"]
mod counted;
mod world;

use counted::count;
use smqtt_proto::QoS;
use world::{Subscribers, filters, publish, topics};

const FILTERS: usize = 100_000;
const SUBSCRIBERS: usize = 500;

const OPERATIONS: [&str; 3] = [
    "trie-match-100k-x1000",
    "fan-out-500-qos0",
    "fan-out-500-qos1",
];

fn run(name: &str) {
    if name.starts_with("trie") {
        let (trie, topics) = (filters(FILTERS), topics(1_000, FILTERS));
        count(|| {
            let mut found = 0;
            for topic in &topics {
                trie.matches(topic, |_| found += 1);
            }
            assert_eq!(found, topics.len());
        });
        return;
    }
    let qos = if name.ends_with("qos1") {
        QoS::AtLeastOnce
    } else {
        QoS::AtMostOnce
    };
    let publish = publish(qos);
    let mut subscribers = Subscribers::new(SUBSCRIBERS, qos);
    count(|| assert!(subscribers.deliver(&publish) > 64 * SUBSCRIBERS));
}

fn main() {
    counted::main(&OPERATIONS, run);
}
