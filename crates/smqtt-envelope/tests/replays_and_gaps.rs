//! What a reader says of messages that come again, too late, or not at all.

mod world;

use smqtt_envelope::{Event, Opener, OpenerConfig, Refusal};
use world::{NOW, Reader, TECHNICIAN, World, nothing, opened, refused};

/// A reader that was there from the start, and the first messages of a topic.
fn stream(messages: usize) -> (Opener, Vec<Vec<u8>>) {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener();
    let mut payloads = Vec::new();
    for _ in 0..messages {
        let sealed = world.seal(&mut sealer, "a", b"x");
        if let Some(announcement) = &sealed.announce {
            nothing(opener.announce(announcement));
        }
        payloads.push(sealed.message);
    }
    (opener, payloads)
}

/// The number of the first missing message and how many, and the message behind the gap.
#[track_caller]
fn gap(events: Vec<Event>) -> (u32, u32, u32) {
    match &events[..] {
        [
            Event::Missing {
                first,
                count,
                topic,
                publisher,
                ..
            },
            Event::Opened(message),
        ] => {
            assert_eq!((&**topic, publisher.as_str()), ("a", "sensor-17"));
            (first.get(), *count, message.sequence.get())
        }
        other => panic!("expected a gap and a message, found {other:?}"),
    }
}

#[test]
fn a_redelivery_is_counted_as_a_replay_and_not_opened() {
    let (mut opener, messages) = stream(3);
    for message in &messages {
        opened(opener.take("a", message));
    }
    for message in &messages {
        assert!(matches!(
            refused(opener.take("a", message)),
            Refusal::Replay { .. }
        ));
    }
    assert_eq!(opener.counters().opened, 3);
    assert_eq!(opener.counters().refused.get("replay"), 3);
}

#[test]
fn a_replay_from_far_behind_the_window_is_refused() {
    let (mut opener, messages) = stream(200);
    for message in &messages {
        opened(opener.take("a", message));
    }
    for message in &messages {
        assert!(matches!(
            refused(opener.take("a", message)),
            Refusal::Replay { .. }
        ));
    }
}

#[test]
fn a_gap_is_reported_and_what_comes_late_is_marked() {
    let (mut opener, messages) = stream(6);
    opened(opener.take("a", &messages[0]));
    assert_eq!(gap(opener.take("a", &messages[4])), (2, 3, 5));
    let late = opened(opener.take("a", &messages[2]));
    assert!(late.late && !late.repeated);
    assert!(matches!(
        refused(opener.take("a", &messages[2])),
        Refusal::Replay { .. }
    ));
    opened(opener.take("a", &messages[5]));
    let counters = opener.counters();
    assert_eq!(
        (counters.missing, counters.late, counters.opened),
        (3, 1, 4)
    );
}

#[test]
fn who_saw_the_key_announced_misses_the_first_messages_too() {
    let (mut opener, messages) = stream(3);
    assert_eq!(gap(opener.take("a", &messages[2])), (1, 2, 3));
}

#[test]
fn who_joined_late_misses_nothing() {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let mut sealer = world.sealer(&device);
    let first = world.seal(&mut sealer, "a", b"x");
    let announcement = first.announce.expect("the first message");
    world.seal(&mut sealer, "a", b"x");
    let third = world.seal(&mut sealer, "a", b"x");
    let mut opener = world.opener();
    nothing(opener.take_retained(&announcement.topic, &announcement.frame));
    // That the publisher announces again does not make the reader one who was there before.
    nothing(opener.announce(&announcement));
    opened(opener.take("a", &third.message));
    // What was sent before it joined is opened, if it comes.
    assert!(opened(opener.take("a", &first.message)).late);
    assert_eq!(opener.counters().missing, 0);
}

#[test]
fn a_retained_message_may_repeat_and_is_marked() {
    let (mut opener, messages) = stream(2);
    let message = opened(opener.take_retained("a", &messages[0]));
    assert!(message.retained && !message.repeated);
    for _ in 0..3 {
        let message = opened(opener.take_retained("a", &messages[0]));
        assert!(message.retained && message.repeated && !message.late);
    }
    // The same one without the mark is a replay.
    assert!(matches!(
        refused(opener.take("a", &messages[0])),
        Refusal::Replay { .. }
    ));
    opened(opener.take("a", &messages[1]));
    assert_eq!(opener.counters().repeated, 3);
}

#[test]
fn a_retained_message_from_far_behind_is_marked_as_repeated() {
    let (mut opener, messages) = stream(200);
    for message in &messages {
        opened(opener.take("a", message));
    }
    assert!(opened(opener.take_retained("a", &messages[0])).repeated);
}

#[test]
fn a_member_of_a_shared_subscription_can_do_without_gaps() {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let mut sealer = world.sealer(&device);
    let config = OpenerConfig {
        report_missing: false,
        ..OpenerConfig::default()
    };
    let mut opener = world.opener_with(TECHNICIAN, config);
    for number in 0..10 {
        let sealed = world.seal(&mut sealer, "a", b"x");
        if let Some(announcement) = &sealed.announce {
            opener.announce(announcement);
        }
        if number % 3 == 0 {
            opened(opener.take("a", &sealed.message));
        }
    }
    assert_eq!(opener.counters().missing, 0);
}

#[test]
fn windows_of_different_topics_and_keys_are_apart() {
    let mut world = World::new();
    let device = world.device("sensor-17");
    let mut opener = world.opener();
    for _ in 0..2 {
        // A restart makes a new key.
        let mut sealer = world.sealer(&device);
        for topic in ["a", "b"] {
            let sealed = world.seal(&mut sealer, topic, b"x");
            opener.announce(&sealed.announce.expect("a new topic"));
            opened(opener.take_at(topic, &sealed.message, false, NOW));
        }
    }
    assert_eq!(opener.counters().opened, 4);
    assert_eq!(opener.counters().missing, 0);
}
