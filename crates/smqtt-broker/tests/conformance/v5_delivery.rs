//! How messages are delivered, sent again and kept in order: 4.2 to 4.6 and 4.9 of MQTT 5.0.

use std::time::Duration;

use super::harness::Broker;
use super::v5_wire::*;

fn pair(port: u16, options: u8) -> (Wire, Wire) {
    let mut subscriber = Wire::keep(port, "subscriber");
    subscriber.listen("t", options);
    (Wire::join(port, "publisher"), subscriber)
}

#[test]
fn packets_may_come_in_any_pieces() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 1);
    let packets: Vec<u8> = (1..=20)
        .flat_map(|id| publish(QOS1, "t", id, &[], &id.to_string()))
        .collect();
    for size in [1, 2, 7, packets.len()] {
        for part in packets.chunks(size) {
            publisher.send(part);
        }
        for id in 1..=20 {
            publisher.expect_answer(PUBACK, id, 0);
            let message = subscriber.message_of(&id.to_string());
            subscriber.acknowledge(&message);
        }
    }
}

#[test]
fn qos_0_is_sent_once_and_not_marked() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 2);
    publisher.say("t", "x");
    assert_eq!(subscriber.message_of("x").flags, 0);
    subscriber.vanish();
    Wire::keep(broker.port(), "subscriber").expect_silence();
}

#[test]
fn qos_1_is_unacknowledged_until_puback() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 1);
    publisher.deliver(QOS1, "t", "x");
    let first = subscriber.message_of("x");
    assert_eq!(first.flags, QOS1, "new: not marked");
    // No time makes the broker send it again.
    std::thread::sleep(Duration::from_millis(1500));
    subscriber.expect_silence();
    for _ in 0..2 {
        subscriber.vanish();
        subscriber = Wire::keep(broker.port(), "subscriber");
        let again = subscriber.message_of("x");
        assert_eq!((again.flags, again.id), (QOS1 | DUP, first.id));
    }
    subscriber.send(&ack(PUBACK, first.id));
    subscriber.settle();
    subscriber.vanish();
    Wire::keep(broker.port(), "subscriber").expect_silence();
}

#[test]
fn after_puback_the_identifier_stands_for_another_message() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 1);
    for (flags, payload) in [(QOS1, "one"), (QOS1, "two"), (QOS1 | DUP, "three")] {
        publisher.send(&publish(flags, "t", 5, &[], payload));
        publisher.expect_answer(PUBACK, 5, 0);
        let message = subscriber.message_of(payload);
        assert_eq!(message.flags, QOS1);
        subscriber.acknowledge(&message);
    }
}

#[test]
fn qos_2_takes_four_packets_and_continues_where_it_broke_off() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 2);
    publisher.deliver(QOS2, "t", "x");
    let first = subscriber.message_of("x");
    assert_eq!(first.flags, QOS2, "new: not marked");
    subscriber.vanish();
    // Before PUBREC it is the PUBLISH that is sent again.
    let mut subscriber = Wire::keep(broker.port(), "subscriber");
    let again = subscriber.message_of("x");
    assert_eq!((again.flags, again.id), (QOS2 | DUP, first.id));
    subscriber.send(&ack(PUBREC, first.id));
    subscriber.expect_answer(PUBREL, first.id, 0);
    // After it, the PUBREL; never the PUBLISH.
    for _ in 0..2 {
        subscriber.vanish();
        subscriber = Wire::keep(broker.port(), "subscriber");
        subscriber.expect_answer(PUBREL, first.id, 0);
        subscriber.expect_silence();
    }
    // A repeated PUBREC is answered again.
    subscriber.send(&ack(PUBREC, first.id));
    subscriber.expect_answer(PUBREL, first.id, 0);
    subscriber.send(&ack(PUBCOMP, first.id));
    subscriber.settle();
    subscriber.vanish();
    Wire::keep(broker.port(), "subscriber").expect_silence();
}

#[test]
fn a_repeated_qos_2_message_is_delivered_once() {
    let broker = Broker::open();
    let (_, mut subscriber) = pair(broker.port(), 2);
    let mut publisher = Wire::keep(broker.port(), "publisher");
    publisher.send(&publish(QOS2, "t", 5, &[], "x"));
    publisher.expect_answer(PUBREC, 5, 0);
    let message = subscriber.message_of("x");
    subscriber.acknowledge(&message);
    publisher.send(&publish(QOS2 | DUP, "t", 5, &[], "x"));
    publisher.expect_answer(PUBREC, 5, 0);
    publisher.vanish();
    let mut publisher = Wire::keep(broker.port(), "publisher");
    publisher.send(&publish(QOS2 | DUP, "t", 5, &[], "x"));
    publisher.expect_answer(PUBREC, 5, 0);
    subscriber.expect_silence();
    publisher.send(&ack(PUBREL, 5));
    publisher.expect_answer(PUBCOMP, 5, 0);
    // From here on the identifier stands for another message.
    publisher.send(&publish(QOS2, "t", 5, &[], "y"));
    publisher.expect_answer(PUBREC, 5, 0);
    let message = subscriber.message_of("y");
    subscriber.acknowledge(&message);
    publisher.send(&ack(PUBREL, 5));
    publisher.expect_answer(PUBCOMP, 5, 0);
    subscriber.expect_silence();
}

#[test]
fn a_refused_qos_2_message_is_over() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 2);
    publisher.send(&publish(QOS2, "$SYS/x", 5, &[], "x"));
    let answer = publisher.answer();
    assert_eq!((answer.first, answer.id), (PUBREC, 5));
    assert!(answer.reasons[0] >= 0x80);
    // The identifier stands for another message at once.
    publisher.send(&publish(QOS2, "t", 5, &[], "y"));
    publisher.expect_answer(PUBREC, 5, 0);
    let message = subscriber.message_of("y");
    subscriber.acknowledge(&message);
}

#[test]
fn what_a_subscriber_refuses_is_acknowledged_and_not_sent_again() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 2);
    publisher.deliver(QOS1, "t", "one");
    publisher.deliver(QOS2, "t", "two");
    let one = subscriber.message_of("one");
    let two = subscriber.message_of("two");
    subscriber.send(&ack_with(PUBACK, one.id, 0x83));
    subscriber.send(&ack_with(PUBREC, two.id, 0x97));
    // No PUBREL follows.
    subscriber.expect_silence();
    subscriber.vanish();
    Wire::keep(broker.port(), "subscriber").expect_silence();
}

#[test]
fn a_message_under_way_does_not_expire() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 2);
    let with = [four(MESSAGE_EXPIRY, 3)];
    publisher.send(&publish(QOS2, "t", 1, &with, "x"));
    publisher.expect_answer(PUBREC, 1, 0);
    let first = subscriber.message_of("x");
    std::thread::sleep(Duration::from_millis(3300));
    // Both exchanges go on, whatever became of the message.
    publisher.send(&publish(QOS2 | DUP, "t", 1, &with, "x"));
    publisher.expect_answer(PUBREC, 1, 0);
    publisher.send(&ack(PUBREL, 1));
    publisher.expect_answer(PUBCOMP, 1, 0);
    subscriber.send(&ack(PUBREC, first.id));
    subscriber.expect_answer(PUBREL, first.id, 0);
    subscriber.send(&ack(PUBCOMP, first.id));
    subscriber.settle();
}

#[test]
fn a_qos_2_message_that_has_expired_is_sent_again_all_the_same() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 2);
    publisher.send(&publish(QOS2, "t", 1, &[four(MESSAGE_EXPIRY, 3)], "x"));
    publisher.expect_answer(PUBREC, 1, 0);
    let first = subscriber.message_of("x");
    subscriber.vanish();
    std::thread::sleep(Duration::from_millis(3300));
    let mut subscriber = Wire::keep(broker.port(), "subscriber");
    let again = subscriber.message_of("x");
    assert_eq!((again.id, again.flags), (first.id, QOS2 | DUP));
    subscriber.acknowledge(&again);
}

#[test]
fn every_session_with_a_matching_subscription_gets_the_message() {
    let broker = Broker::open();
    let ids = ["a", "b", "c", "d", "e", "f"];
    let mut wires = ids.map(|id| {
        let mut wire = Wire::keep(broker.port(), id);
        wire.listen("t", 1);
        wire
    });
    // Half of them are away.
    for wire in &mut wires[..3] {
        wire.send(&[0xE0, 0]);
        wire.expect_closed();
    }
    Wire::join(broker.port(), "publisher").deliver(QOS1, "t", "x");
    for id in &ids[..3] {
        Wire::keep(broker.port(), id).message_of("x");
    }
    for wire in &mut wires[3..] {
        wire.message_of("x");
    }
}

#[test]
fn messages_come_in_the_order_of_the_publisher() {
    let broker = Broker::open();
    let mut subscribers = ["a", "b", "c", "d"].map(|id| {
        let mut wire = Wire::join(broker.port(), id);
        wire.listen("t/#", 2);
        wire
    });
    let mut publisher = Wire::join(broker.port(), "publisher");
    for flags in [0, QOS1, QOS2] {
        let all: Vec<u8> = (1..=100)
            .flat_map(|n| publish(flags, &format!("t/{}", n % 3), n, &[], &n.to_string()))
            .collect();
        publisher.send(&all);
        if flags != 0 {
            // Acknowledgements, too.
            let first = if flags == QOS1 { PUBACK } else { PUBREC };
            for n in 1..=100 {
                publisher.expect_answer(first, n, 0);
            }
        }
        if flags == QOS2 {
            let all: Vec<u8> = (1..=100).flat_map(|n| ack(PUBREL, n)).collect();
            publisher.send(&all);
            for n in 1..=100 {
                publisher.expect_answer(PUBCOMP, n, 0);
            }
        }
        for subscriber in &mut subscribers {
            for n in 1..=100 {
                let message = subscriber.message_of(&n.to_string());
                if flags == QOS1 {
                    subscriber.send(&ack(PUBACK, message.id));
                }
                if flags == QOS2 {
                    subscriber.send(&ack_with(PUBREC, message.id, 0x80));
                }
            }
        }
    }
}

#[test]
fn unacknowledged_messages_are_sent_again_in_their_order() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 2);
    for n in 0..20 {
        let flags = if n % 2 == 0 { QOS1 } else { QOS2 };
        publisher.deliver(flags, "t", &n.to_string());
    }
    let first: Vec<Publish> = (0..20)
        .map(|n| subscriber.message_of(&n.to_string()))
        .collect();
    // Some in the middle are acknowledged: their places are used again.
    for message in [&first[4], &first[8]] {
        subscriber.acknowledge(message);
    }
    publisher.deliver(QOS1, "t", "20");
    subscriber.message_of("20");
    subscriber.vanish();
    let mut subscriber = Wire::keep(broker.port(), "subscriber");
    for n in (0..=20).filter(|n| ![4, 8].contains(n)) {
        let again = subscriber.message_of(&n.to_string());
        assert_eq!(again.flags & DUP, DUP);
        assert!(n == 20 || again.id == first[n].id);
    }
    subscriber.expect_silence();
}

#[test]
fn what_is_sent_again_keeps_to_the_receive_maximum_of_the_new_connection() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), 1);
    for n in 0..5 {
        publisher.deliver(QOS1, "t", &n.to_string());
        subscriber.message_of(&n.to_string());
    }
    subscriber.vanish();
    let with = [four(SESSION_EXPIRY, 60), two(RECEIVE_MAXIMUM, 2)];
    let bytes = connect(0, 0, &with, &[string("subscriber")]);
    let (mut subscriber, _) = Wire::let_in(broker.port(), &bytes);
    let first = subscriber.message_of("0");
    subscriber.message_of("1");
    subscriber.expect_silence();
    subscriber.acknowledge(&first);
    subscriber.message_of("2");
    subscriber.expect_silence();
}
