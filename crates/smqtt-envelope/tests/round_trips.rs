//! What a publisher seals, an authorised reader opens, byte for byte, on every way a key frame can take.

mod world;

use std::sync::Arc;

use proptest::prelude::*;
use smqtt_envelope::{Delivery, OpenerConfig, SealerConfig};
use smqtt_format::{Envelope, SealedMessage, Sequence};
use world::{DAY, NOW, POLICY, Reader, TECHNICIAN, World, nothing, opened};

#[test]
fn an_announced_key_opens_its_messages() {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener();

    let first = world.seal(&mut sealer, "plant/7", b"21.5");
    nothing(opener.announce(&first.announce.expect("the first message announces its key")));
    let message = opened(opener.take("plant/7", &first.message));
    assert_eq!(message.payload, b"21.5");
    assert_eq!(&*message.topic, "plant/7");
    assert_eq!(message.publisher.as_str(), "sensor-17");
    assert_eq!(message.access.policy(), Some(POLICY));
    assert_eq!(message.kid, first.kid);
    assert_eq!(message.sequence, Sequence::FIRST);
    assert_eq!(message.key_created, NOW);
    assert!(!message.retained && !message.repeated && !message.late);

    let second = world.seal(&mut sealer, "plant/7", b"");
    assert_eq!(second.announce, None);
    let message = opened(opener.take("plant/7", &second.message));
    assert_eq!(message.payload, b"");
    assert_eq!(message.sequence.get(), 2);
}

#[test]
fn an_inline_message_opens_by_itself_at_any_time() {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let config = SealerConfig {
        delivery: Delivery::Inline,
        ..SealerConfig::default()
    };
    let mut sealer = world.sealer_with(&device, POLICY, config);
    for number in 1..=3 {
        let sealed = world.seal(&mut sealer, "a", b"x");
        assert_eq!(sealed.announce, None);
        // Each reader sees only one of them.
        let mut opener = world.opener();
        let message = opened(opener.take("a", &sealed.message));
        assert_eq!(message.sequence.get(), number);
    }
}

#[test]
fn messages_that_come_before_their_key_wait_and_keep_their_order() {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener();
    let sealed: Vec<_> = (0..5u8)
        .map(|n| world.seal(&mut sealer, "a", &[n]))
        .collect();
    for message in &sealed {
        nothing(opener.take("a", &message.message));
    }
    assert_eq!(opener.waiting(), 5);
    let announcement = sealed[0].announce.as_ref().expect("the first message");
    let payloads: Vec<u8> = opener
        .announce(announcement)
        .into_iter()
        .map(|event| opened(vec![event]).payload[0])
        .collect();
    assert_eq!(payloads, [0, 1, 2, 3, 4]);
    assert_eq!(opener.waiting(), 0);
    assert_eq!(opener.poll_timeout().map(|t| t.as_secs()), None);
    assert_eq!(opener.counters().waited, 5);
}

#[test]
fn an_inline_message_brings_the_key_for_those_that_wait() {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener();
    let first = world.seal(&mut sealer, "a", b"1");
    nothing(opener.take("a", &first.message));
    let second = world.seal_inline(&mut sealer, "a", b"2");
    let events = opener.take("a", &second.message);
    let payloads: Vec<_> = events
        .into_iter()
        .map(|event| opened(vec![event]).payload)
        .collect();
    assert_eq!(payloads, [b"1", b"2"]);
}

#[test]
fn each_topic_has_its_own_announcement_and_numbers() {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let mut sealer = world.sealer(&device);
    let a = world.seal(&mut sealer, "a", b"1");
    let b = world.seal(&mut sealer, "b", b"2");
    let a2 = world.seal(&mut sealer, "a", b"3");
    assert_eq!(a.kid, b.kid, "one key serves several topics");
    let a_announced = a.announce.expect("new topic");
    let b_announced = b.announce.expect("new topic");
    assert_eq!(a_announced.topic, format!("smqtt/keys/a/{}", a.kid));
    assert_eq!(b_announced.topic, format!("smqtt/keys/b/{}", a.kid));
    assert!(Arc::ptr_eq(&a_announced.frame, &b_announced.frame));
    assert_eq!(
        (a.sequence.get(), b.sequence.get(), a2.sequence.get()),
        (1, 1, 2)
    );

    // A reader of b alone reads b.
    let mut opener = world.opener();
    opener.announce(&b_announced);
    assert_eq!(opened(opener.take("b", &b.message)).payload, b"2");
}

#[test]
fn several_publishers_share_a_topic() {
    let mut world = World::new();
    let mut opener = world.opener();
    let mut sealers: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let device = world.device(name);
            (name, world.sealer(&device))
        })
        .collect();
    for round in 1..=3 {
        for (name, sealer) in &mut sealers {
            let sealed = world.seal(sealer, "shared", name.as_bytes());
            if let Some(announcement) = &sealed.announce {
                nothing(opener.announce(announcement));
            }
            let message = opened(opener.take("shared", &sealed.message));
            assert_eq!(message.publisher.as_str(), *name);
            assert_eq!(message.sequence.get(), round);
        }
    }
}

#[test]
fn a_reader_that_was_away_reads_what_the_broker_kept() {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let (announcement, message) = world.first(&device, "a", b"x");
    let mut opener = world.opener();
    let later = NOW + 5 * DAY;
    opener.take_at(&announcement.topic, &announcement.frame, false, later);
    assert_eq!(
        opened(opener.take_at("a", &message, false, later)).payload,
        b"x"
    );
}

/// The whole of what sealing adds, over sizes and numbers.
#[test]
fn a_message_costs_at_most_40_bytes() {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener();
    let mut largest = 0;
    let mut smallest = usize::MAX;
    let mut sizes = [0, 1, 7, 8, 63, 64, 239, 240, 1024, 65_518, 65_519]
        .into_iter()
        .cycle();
    for number in 1..=65_535u32 {
        // Large payloads at the ends, where the numbers change their length; else none.
        let boundary = !(300..=65_500).contains(&number);
        let size = if boundary {
            sizes.next().expect("endless")
        } else {
            0
        };
        let payload = vec![0xa5; size];
        let sealed = world.seal(&mut sealer, "t", &payload);
        assert_eq!(sealed.sequence.get(), number);
        let overhead = sealed.message.len() - size;
        assert_eq!(overhead, SealedMessage::overhead(sealed.sequence, size));
        largest = largest.max(overhead);
        smallest = smallest.min(overhead);
        if let Some(announcement) = &sealed.announce {
            opener.announce(announcement);
        }
        if boundary {
            opener.handle_publish("t", &sealed.message, false, world::at(NOW));
        }
    }
    opener.drain();
    assert_eq!(opener.counters().opened, 299 + 35);
    assert_eq!((smallest, largest), (37, 40));
    // The next message has a new key rather than a longer number.
    let next = world.seal(&mut sealer, "t", b"");
    assert_eq!(next.sequence, Sequence::FIRST);
    assert!(next.announce.is_some());
}

#[test]
fn beyond_64_kib_a_message_costs_at_most_42_bytes() {
    let mut world = World::new();
    let device = world.device("camera-1");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener();
    for size in [65_520, 65_536, 1_000_000] {
        let payload = vec![7; size];
        let sealed = world.seal_inline(&mut sealer, "t", &payload);
        let Ok(Envelope::Inline {
            frame,
            sealed: message,
        }) = Envelope::parse(&sealed.message)
        else {
            panic!("an inline message");
        };
        assert_eq!(message.as_bytes().len() - size, 41);
        assert_eq!(
            frame.as_bytes().len() + message.as_bytes().len(),
            sealed.message.len()
        );
        assert_eq!(opened(opener.take("t", &sealed.message)).payload, payload);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_payload_at_any_topic_comes_back(
        publishes in prop::collection::vec(("[a-zß/]{1,12}", prop::collection::vec(any::<u8>(), 0..400), any::<bool>()), 1..12),
    ) {
        let mut world = World::new();
        let device = world.device("d");
        let mut sealer = world.sealer(&device);
        let mut opener = world.opener_with(TECHNICIAN, OpenerConfig::default());
        for (topic, payload, inline) in publishes {
            let sealed = if inline {
                world.seal_inline(&mut sealer, &topic, &payload)
            } else {
                world.seal(&mut sealer, &topic, &payload)
            };
            if let Some(announcement) = &sealed.announce {
                prop_assert_eq!(opener.announce(announcement).len(), 0);
            }
            let message = opened(opener.take(&topic, &sealed.message));
            prop_assert_eq!(message.payload, payload);
            prop_assert_eq!(&*message.topic, &*topic);
        }
        prop_assert_eq!(opener.counters().decapsulations, 1);
        prop_assert_eq!(opener.counters().refused.total(), 0);
    }
}
