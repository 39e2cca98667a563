//! What a hundred messages under a known key cost in instructions, which repeat where times do not:
//! scripts/bench/instructions.

#[path = "../../../scripts/bench/counted.rs"]
mod counted;
#[path = "../tests/world/mod.rs"]
mod world;

use counted::count;
use smqtt_envelope::Event;
use world::{NOW, Reader, World, at};

const TOPIC: &str = "plant/7/temperature";
const MESSAGES: usize = 100;

const OPERATIONS: [&str; 4] = [
    "seal-64-x100",
    "seal-1024-x100",
    "open-64-x100",
    "open-1024-x100",
];

fn run(name: &str) {
    let size = if name.contains("1024") { 1024 } else { 64 };
    let payload = vec![0x5a; size];
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener();
    let first = world.seal(&mut sealer, TOPIC, &payload);
    if name.starts_with("seal") {
        count(|| {
            (0..MESSAGES)
                .map(|_| world.seal(&mut sealer, TOPIC, &payload).message.len())
                .sum::<usize>()
        });
        return;
    }
    opener.announce(&first.announce.expect("the first message"));
    opener.handle_publish(TOPIC, &first.message, false, at(NOW));
    assert!(matches!(opener.poll_event(), Some(Event::Opened(_))));
    // A reader takes each message once: a batch for each time that it is run.
    let mut sealed = (0..3 * MESSAGES)
        .map(|_| world.seal(&mut sealer, TOPIC, &payload).message)
        .collect::<Vec<_>>()
        .into_iter();
    count(|| {
        for message in sealed.by_ref().take(MESSAGES) {
            opener.handle_publish(TOPIC, &message, false, at(NOW));
            let event = opener.poll_event();
            assert!(matches!(event, Some(Event::Opened(_))), "{event:?}");
        }
    });
    assert_eq!(sealed.len(), 0);
}

fn main() {
    counted::main(&OPERATIONS, run);
}
