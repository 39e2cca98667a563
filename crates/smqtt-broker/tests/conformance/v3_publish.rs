//! PUBLISH and retained messages: 3.3 of MQTT 3.1.1.

use super::harness::Broker;
use super::v3_wire::*;

fn closes(port: u16, bytes: &[u8]) {
    let mut wire = Wire::clean(port, "violator");
    wire.send(bytes);
    if let Some(answer) = wire.next() {
        panic!("{} was answered with {}", hex(bytes), hex(&answer));
    }
}

/// What a new subscriber to the filter is sent, in the order of the topics.
fn retained(broker: &Broker, filter: &str) -> Vec<Vec<u8>> {
    let mut wire = Wire::clean(broker.port(), "late");
    wire.subscribe(filter, 0);
    wire.send(&PINGREQ);
    let mut packets = Vec::new();
    loop {
        match wire.receive() {
            ping if ping == PINGRESP => break,
            packet => packets.push(packet),
        }
    }
    packets.sort();
    packets
}

#[test]
fn dup_is_never_passed_on() {
    let broker = Broker::open();
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe("t", 2);
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(8 | 2, "t", Some(1), b"1"));
    publisher.expect(&ack(PUBACK, 1));
    publisher.send(&publish(8 | 4, "t", Some(2), b"2"));
    publisher.expect(&ack(PUBREC, 2));
    subscriber.expect_publish(2, "t", b"1");
    subscriber.expect_publish(4, "t", b"2");
}

#[test]
fn dup_with_qos_0_closes_the_connection() {
    let broker = Broker::open();
    closes(broker.port(), &publish(8, "t", None, b"x"));
}

#[test]
fn qos_3_closes_the_connection() {
    let broker = Broker::open();
    for flags in [6, 7, 14, 15] {
        closes(broker.port(), &publish(flags, "t", Some(1), b"x"));
    }
}

#[test]
fn a_new_subscriber_gets_the_last_retained_message_of_each_topic_with_its_qos() {
    let broker = Broker::open();
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(1, "r/0", None, b"old"));
    publisher.send(&publish(1, "r/0", None, b"zero"));
    publisher.send(&publish(3, "r/1", Some(1), b"one"));
    publisher.expect(&ack(PUBACK, 1));
    publisher.send(&publish(5, "r/2", Some(2), b"two"));
    publisher.expect(&ack(PUBREC, 2));
    publisher.send(&ack(PUBREL, 2));
    publisher.expect(&ack(PUBCOMP, 2));
    publisher.send(&publish(1, "other", None, b"x"));
    publisher.settle();
    // They outlive the session of their publisher.
    publisher.leave();
    for (topic, flags, payload) in [("r/0", 1, "zero"), ("r/1", 3, "one"), ("r/2", 5, "two")] {
        let mut late = Wire::clean(broker.port(), "late");
        late.subscribe(topic, 2);
        late.expect_publish(flags, topic, payload.as_bytes());
    }
    let all = ["zero", "one", "two"].iter().zip(["r/0", "r/1", "r/2"]);
    let all: Vec<_> = all
        .map(|(payload, topic)| publish(1, topic, None, payload.as_bytes()))
        .collect();
    assert_eq!(
        retained(&broker, "r/+").len(),
        all.len(),
        "one message a topic"
    );
    for packet in all {
        assert!(retained(&broker, "r/+").contains(&packet));
    }
}

#[test]
fn a_retained_qos_0_message_replaces_what_was_retained_before() {
    let broker = Broker::open();
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(3, "r", Some(1), b"before"));
    publisher.expect(&ack(PUBACK, 1));
    publisher.send(&publish(1, "r", None, b"after"));
    publisher.settle();
    assert_eq!(retained(&broker, "r"), [publish(1, "r", None, b"after")]);
}

#[test]
fn messages_to_established_subscriptions_are_not_marked_retained() {
    let broker = Broker::open();
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe("r", 1);
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(1, "r", None, b"0"));
    publisher.send(&publish(3, "r", Some(1), b"1"));
    subscriber.expect_publish(0, "r", b"0");
    subscriber.expect_publish(2, "r", b"1");
}

#[test]
fn an_empty_retained_message_is_delivered_and_removes_what_was_retained() {
    let broker = Broker::open();
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe("r", 0);
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(1, "r", None, b"kept"));
    publisher.send(&publish(1, "r", None, b""));
    publisher.settle();
    subscriber.expect_publish(0, "r", b"kept");
    subscriber.expect_publish(0, "r", b"");
    assert_eq!(retained(&broker, "r"), [[0; 0]; 0]);
    // On a topic where nothing was retained it is not stored either.
    publisher.send(&publish(1, "empty", None, b""));
    publisher.settle();
    assert_eq!(retained(&broker, "empty"), [[0; 0]; 0]);
}

#[test]
fn a_message_without_retain_leaves_the_retained_one_alone() {
    let broker = Broker::open();
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(1, "r", None, b"kept"));
    publisher.send(&publish(0, "r", None, b"passing"));
    publisher.send(&publish(0, "r", None, b""));
    publisher.send(&publish(0, "s", None, b"passing"));
    publisher.settle();
    assert_eq!(retained(&broker, "#"), [publish(1, "r", None, b"kept")]);
}

#[test]
fn a_topic_that_is_missing_or_has_wildcards_closes_the_connection() {
    let broker = Broker::open();
    for topic in ["", "#", "+", "a/#", "a/+/b", "a#", "a+b"] {
        closes(broker.port(), &publish(0, topic, None, b"x"));
    }
    closes(broker.port(), &packet(0x30, &[]));
    closes(broker.port(), &packet(0x30, &[&[0]]));
    closes(broker.port(), &packet(0x30, &[&[0, 2], b"t"]));
}

#[test]
fn each_qos_is_answered_with_its_own_packet() {
    let broker = Broker::open();
    let mut wire = Wire::clean(broker.port(), "c");
    wire.send(&publish(0, "t", None, b"x"));
    // No answer to QoS 0: the next packet is the PINGRESP.
    wire.settle();
    wire.send(&publish(2, "t", Some(5), b"x"));
    wire.expect(&ack(PUBACK, 5));
    wire.send(&publish(4, "t", Some(6), b"x"));
    wire.expect(&ack(PUBREC, 6));
    wire.settle();
}

#[test]
fn overlapping_subscriptions_get_the_highest_of_their_qos() {
    let broker = Broker::open();
    let mut subscriber = Wire::clean(broker.port(), "sub");
    for (filter, qos) in [("a/#", 0), ("a/+", 2), ("a/b", 1)] {
        subscriber.subscribe(filter, qos);
    }
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(4, "a/b", Some(1), b"x"));
    publisher.expect(&ack(PUBREC, 1));
    publisher.send(&publish(2, "a/b", Some(2), b"y"));
    publisher.expect(&ack(PUBACK, 2));
    // One copy each, of the highest granted QoS that the message has.
    subscriber.expect_publish(4, "a/b", b"x");
    subscriber.expect_publish(2, "a/b", b"y");
}

#[test]
fn a_publish_that_is_not_allowed_is_acknowledged_and_goes_nowhere() {
    let broker = Broker::open();
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe("$SYS/x", 0);
    subscriber.subscribe("mark", 0);
    let mut wire = Wire::clean(broker.port(), "pub");
    // The broker's own topics are not for clients.
    wire.send(&publish(1, "$SYS/x", None, b"x"));
    wire.send(&publish(3, "$SYS/x", Some(1), b"x"));
    wire.expect(&ack(PUBACK, 1));
    wire.send(&publish(5, "$SYS/x", Some(2), b"x"));
    wire.expect(&ack(PUBREC, 2));
    wire.send(&ack(PUBREL, 2));
    wire.expect(&ack(PUBCOMP, 2));
    wire.send(&publish(0, "mark", None, b""));
    subscriber.expect_publish(0, "mark", b"");
    assert_eq!(retained(&broker, "$SYS/x"), [[0; 0]; 0]);
}
