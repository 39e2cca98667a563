//! Retained messages: 3.3.1.3 of MQTT 5.0.

use super::harness::Broker;
use super::v5_wire::*;

/// What a new subscriber of the filter gets, with these options.
fn retained(port: u16, filter: &str, options: u8) -> Vec<(String, String)> {
    let mut wire = Wire::join(port, "reader");
    wire.listen(filter, options);
    wire.send(&PINGREQ);
    let mut all = Vec::new();
    loop {
        let packet = wire.receive();
        if packet == PINGRESP {
            wire.leave();
            all.sort();
            return all;
        }
        let message = Publish::parse(&packet);
        assert_eq!(message.flags & RETAIN, RETAIN);
        all.push((message.topic, message.payload));
    }
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter()
        .map(|(topic, payload)| ((*topic).to_owned(), (*payload).to_owned()))
        .collect()
}

#[test]
fn the_last_retained_message_of_a_topic_is_stored() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    for (flags, payload) in [(0, "first"), (QOS1, "second"), (QOS2, "third")] {
        publisher.deliver(RETAIN | flags, "t", payload);
        assert_eq!(retained(broker.port(), "t", 0), pairs(&[("t", payload)]));
    }
}

#[test]
fn an_empty_retained_message_is_delivered_and_removes_the_stored_one() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.say("t", "live");
    publisher.send(&publish(RETAIN, "t", 0, &[], "stored"));
    publisher.settle();
    let mut subscriber = Wire::join(broker.port(), "subscriber");
    subscriber.listen("t", RETAIN_AS_PUBLISHED);
    subscriber.message_of("stored");
    publisher.send(&publish(RETAIN, "t", 0, &[], ""));
    publisher.settle();
    // As any other message, and it is not stored itself.
    assert_eq!(subscriber.message_of("").flags, RETAIN);
    assert_eq!(retained(broker.port(), "t", 0), []);
}

#[test]
fn a_message_that_is_not_retained_leaves_the_stored_one() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.say("none", "live");
    assert_eq!(retained(broker.port(), "none", 0), []);
    publisher.send(&publish(RETAIN, "t", 0, &[], "stored"));
    publisher.say("t", "live");
    publisher.say("t", "");
    assert_eq!(retained(broker.port(), "t", 0), pairs(&[("t", "stored")]));
}

#[test]
fn a_new_subscription_gets_all_retained_messages_that_match() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    for topic in ["a/1", "a/2", "b/1", "a"] {
        publisher.send(&publish(RETAIN, topic, 0, &[], topic));
    }
    publisher.settle();
    let stored = |all: &[&str]| pairs(&all.iter().map(|t| (*t, *t)).collect::<Vec<_>>());
    assert_eq!(retained(broker.port(), "a/+", 0), stored(&["a/1", "a/2"]));
    assert_eq!(
        retained(broker.port(), "a/#", 0),
        stored(&["a", "a/1", "a/2"])
    );
    assert_eq!(retained(broker.port(), "c", 0), []);
    // Again for a subscription that is made again.
    let mut wire = Wire::join(broker.port(), "again");
    for _ in 0..3 {
        wire.listen("b/1", 0);
        wire.message_of("b/1");
    }
}

#[test]
fn retain_handling_1_is_for_new_subscriptions_alone() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.send(&publish(RETAIN, "t", 0, &[], "stored"));
    publisher.settle();
    let mut wire = Wire::keep(broker.port(), "c");
    wire.listen("t", RETAINED_IF_NEW);
    wire.message_of("stored");
    wire.listen("t", RETAINED_IF_NEW);
    wire.expect_silence();
    // Nor when the subscription was made on an earlier connection.
    wire.leave();
    let mut wire = Wire::keep(broker.port(), "c");
    wire.listen("t", RETAINED_IF_NEW);
    wire.expect_silence();
    wire.send(&unsubscribe(1, &["t"]));
    wire.answer();
    wire.listen("t", RETAINED_IF_NEW);
    wire.message_of("stored");
}

#[test]
fn retain_handling_2_sends_none() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.send(&publish(RETAIN, "t", 0, &[], "stored"));
    publisher.settle();
    let mut wire = Wire::join(broker.port(), "c");
    wire.listen("t", NO_RETAINED);
    wire.listen("t", NO_RETAINED);
    wire.expect_silence();
    // What comes from now on is another matter.
    publisher.send(&publish(RETAIN, "t", 0, &[], "live"));
    wire.message_of("live");
}

#[test]
fn live_messages_keep_the_retain_flag_only_on_demand() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    let mut plain = Wire::join(broker.port(), "plain");
    plain.listen("t", 0);
    let mut keeping = Wire::join(broker.port(), "keeping");
    keeping.listen("t", RETAIN_AS_PUBLISHED);
    for flags in [RETAIN, 0] {
        publisher.send(&publish(flags, "t", 0, &[], "live"));
        assert_eq!(plain.message_of("live").flags, 0);
        assert_eq!(keeping.message_of("live").flags, flags);
    }
    // A message sent because of the subscription has the flag anyhow.
    plain.listen("t", 0);
    assert_eq!(plain.message_of("live").flags, RETAIN);
}
