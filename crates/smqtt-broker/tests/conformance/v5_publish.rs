//! PUBLISH and its acknowledgements: 3.3 to 3.7 of MQTT 5.0. Retained messages have a file of their own.

use std::time::Duration;

use super::harness::Broker;
use super::v5_wire::*;

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const TOPIC_NAME_INVALID: u8 = 0x90;
const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
const TOPIC_ALIAS_INVALID: u8 = 0x94;

/// This ends a connection with this reason.
#[track_caller]
fn ends(port: u16, bytes: &[u8], reason: u8) {
    let mut wire = Wire::join(port, "c");
    wire.send(bytes);
    wire.expect_disconnect(reason);
}

fn pair(port: u16, filter: &str, options: u8) -> (Wire, Wire) {
    let mut subscriber = Wire::join(port, "subscriber");
    subscriber.listen(filter, options);
    (Wire::join(port, "publisher"), subscriber)
}

#[test]
fn dup_says_that_a_message_is_sent_again_and_is_not_passed_on() {
    let broker = Broker::open();
    let mut subscriber = Wire::keep(broker.port(), "subscriber");
    subscriber.listen("t", 2);
    let mut publisher = Wire::join(broker.port(), "publisher");
    for qos in [QOS1, QOS2] {
        publisher.send(&publish(DUP | qos, "t", 1, &[], "x"));
        publisher.answer();
        let first = subscriber.message_of("x");
        assert_eq!(first.flags, qos, "it is new to the subscriber");
        subscriber.vanish();
        subscriber = Wire::keep(broker.port(), "subscriber");
        let again = subscriber.message_of("x");
        assert_eq!(again.flags, DUP | qos);
        assert_eq!(again.id, first.id);
        subscriber.acknowledge(&again);
    }
}

#[test]
fn dup_with_qos_0_is_malformed() {
    let broker = Broker::open();
    ends(broker.port(), &publish(DUP, "t", 0, &[], "x"), MALFORMED);
}

#[test]
fn qos_3_is_malformed() {
    let broker = Broker::open();
    for flags in [QOS1 | QOS2, QOS1 | QOS2 | RETAIN, QOS1 | QOS2 | DUP] {
        ends(broker.port(), &publish(flags, "t", 1, &[], "x"), MALFORMED);
    }
}

#[test]
fn a_topic_name_without_meaning_ends_the_connection() {
    let broker = Broker::open();
    for topic in ["a/+", "#", "a/#", "a+b", "+"] {
        let mut wire = Wire::join(broker.port(), "c");
        wire.send(&publish(0, topic, 0, &[], "x"));
        let answer = wire.answer();
        assert_eq!(answer.first, 0xE0);
        let reason = answer.reasons[0];
        assert!([MALFORMED, PROTOCOL_ERROR, TOPIC_NAME_INVALID].contains(&reason));
        wire.expect_closed();
    }
    // No topic and no alias.
    ends(broker.port(), &publish(0, "", 0, &[], "x"), PROTOCOL_ERROR);
}

#[test]
fn a_topic_name_that_ends_too_early_is_malformed() {
    let broker = Broker::open();
    ends(broker.port(), &[0x30, 3, 0, 9, b't'], MALFORMED);
    ends(broker.port(), &[0x30, 1, 0], MALFORMED);
}

#[test]
fn messages_come_to_those_whose_filter_matches_with_the_topic_of_the_publisher() {
    let broker = Broker::open();
    let mut all = Vec::new();
    for filter in ["a/b", "a/+", "a/#", "#", "+/b", "a/b/c"] {
        let mut wire = Wire::join(broker.port(), filter);
        wire.listen(filter, 0);
        all.push((filter, wire));
    }
    Wire::join(broker.port(), "publisher").say("a/b", "x");
    for (filter, wire) in &mut all {
        if *filter != "a/b/c" {
            assert_eq!(wire.message_of("x").topic, "a/b");
        }
        wire.expect_silence();
    }
}

#[test]
fn what_the_publisher_says_of_a_message_is_passed_on_as_it_is() {
    let broker = Broker::open();
    let (mut publisher, mut subscriber) = pair(broker.port(), "t", 2);
    let users = [("b", "1"), ("a", "2"), ("b", "0"), ("", ""), ("b", "1")];
    for indicator in [0, 1] {
        for qos in [0, QOS1, QOS2] {
            let mut with = vec![
                byte(PAYLOAD_FORMAT, indicator),
                text(CONTENT_TYPE, "text/plain"),
                text(RESPONSE_TOPIC, "answers/\u{e4}"),
                text(CORRELATION_DATA, [0, 255, 128]),
            ];
            with.extend(users.iter().map(|(k, v)| user(k, v)));
            publisher.send(&publish(qos, "t", 1, &with, "x"));
            let message = subscriber.message_of("x");
            let got = message.properties.user();
            let got: Vec<_> = got.iter().map(|(k, v)| (&k[..], &v[..])).collect();
            assert_eq!(got, users);
            let p = &message.properties;
            assert_eq!(p.number(PAYLOAD_FORMAT).unwrap_or(0), indicator.into());
            assert_eq!(p.text(CONTENT_TYPE), Some("text/plain"));
            assert_eq!(p.text(RESPONSE_TOPIC), Some("answers/\u{e4}"));
            assert_eq!(p.get(CORRELATION_DATA), Some(&[0, 255, 128][..]));
            subscriber.acknowledge(&message);
            if qos != 0 {
                publisher.answer();
            }
            if qos == QOS2 {
                publisher.send(&ack(PUBREL, 1));
                publisher.answer();
            }
        }
    }
}

#[test]
fn a_payload_format_that_does_not_exist_is_a_protocol_error() {
    let broker = Broker::open();
    let bytes = publish(0, "t", 0, &[byte(PAYLOAD_FORMAT, 2)], "x");
    ends(broker.port(), &bytes, PROTOCOL_ERROR);
}

#[test]
fn what_has_expired_is_deleted_and_the_rest_says_how_long_it_lasts() {
    let broker = Broker::open();
    let mut subscriber = Wire::keep(broker.port(), "subscriber");
    subscriber.listen("t", 1);
    subscriber.leave();
    let mut publisher = Wire::join(broker.port(), "publisher");
    for (payload, seconds) in [("short", 1), ("long", 100)] {
        let with = [four(MESSAGE_EXPIRY, seconds)];
        publisher.send(&publish(QOS1, "t", 1, &with, payload));
        publisher.answer();
        publisher.send(&publish(RETAIN, &format!("r/{payload}"), 0, &with, payload));
    }
    publisher.deliver(QOS1, "t", "for ever");
    std::thread::sleep(Duration::from_millis(1200));
    let mut subscriber = Wire::keep(broker.port(), "subscriber");
    let message = subscriber.message_of("long");
    let left = message
        .properties
        .number(MESSAGE_EXPIRY)
        .expect("an interval");
    assert!((60..100).contains(&left), "{left} seconds of 100 are left");
    let message = subscriber.message_of("for ever");
    assert_eq!(message.properties.get(MESSAGE_EXPIRY), None);
    subscriber.listen("r/#", 0);
    let message = subscriber.message_of("long");
    let left = message
        .properties
        .number(MESSAGE_EXPIRY)
        .expect("an interval");
    assert!((60..100).contains(&left), "{left} seconds of 100 are left");
    subscriber.expect_silence();
}

#[test]
fn topic_aliases_end_with_the_connection() {
    let broker = Broker::open();
    let with = [two(TOPIC_ALIAS, 1)];
    let mut first = Wire::keep(broker.port(), "c");
    first.send(&publish(0, "t", 0, &with, "x"));
    first.settle();
    let mut other = Wire::join(broker.port(), "other");
    other.send(&publish(0, "", 0, &with, "x"));
    other.expect_disconnect(PROTOCOL_ERROR);
    first.vanish();
    let mut again = Wire::keep(broker.port(), "c");
    again.send(&publish(0, "", 0, &with, "x"));
    again.expect_disconnect(PROTOCOL_ERROR);
}

#[test]
fn the_brokers_topic_aliases_end_with_the_connection() {
    let broker = Broker::open();
    let bytes = connect(
        0,
        0,
        &[four(SESSION_EXPIRY, 60), two(TOPIC_ALIAS_MAXIMUM, 5)],
        &[string("c")],
    );
    let mut publisher = Wire::join(broker.port(), "publisher");
    for _ in 0..2 {
        let (mut wire, _) = Wire::let_in(broker.port(), &bytes);
        wire.listen("t", 0);
        publisher.say("t", "x");
        assert_eq!(wire.message_of("x").topic, "t", "the topic is named first");
        publisher.say("t", "y");
        wire.message_of("y");
        wire.leave();
    }
}

#[test]
fn topic_alias_0_ends_the_connection() {
    let broker = Broker::open();
    for topic in ["t", ""] {
        let mut wire = Wire::join(broker.port(), "c");
        wire.send(&publish(0, topic, 0, &[two(TOPIC_ALIAS, 0)], "x"));
        let answer = wire.answer();
        assert_eq!(answer.first, 0xE0);
        assert!([PROTOCOL_ERROR, TOPIC_ALIAS_INVALID].contains(&answer.reasons[0]));
        wire.expect_closed();
    }
}

#[test]
fn a_response_topic_with_wildcards_ends_the_connection() {
    let broker = Broker::open();
    for topic in ["+", "a/#"] {
        let mut wire = Wire::join(broker.port(), "c");
        wire.send(&publish(0, "t", 0, &[text(RESPONSE_TOPIC, topic)], "x"));
        let answer = wire.answer();
        assert_eq!(answer.first, 0xE0);
        let reason = answer.reasons[0];
        assert!([MALFORMED, PROTOCOL_ERROR, TOPIC_NAME_INVALID].contains(&reason));
        wire.expect_closed();
    }
}

#[test]
fn the_acknowledgement_follows_the_qos() {
    let broker = Broker::open();
    let (mut wire, _subscriber) = pair(broker.port(), "t", 2);
    wire.send(&publish(0, "t", 0, &[], "x"));
    wire.settle();
    wire.send(&publish(QOS1, "t", 1, &[], "x"));
    wire.expect_answer(PUBACK, 1, 0);
    wire.send(&publish(QOS2, "t", 2, &[], "x"));
    wire.expect_answer(PUBREC, 2, 0);
    wire.settle();
    wire.send(&ack(PUBREL, 2));
    wire.expect_answer(PUBCOMP, 2, 0);
    wire.settle();
}

#[test]
fn acknowledgements_say_what_became_of_the_message() {
    let broker = Broker::open();
    let mut wire = Wire::join(broker.port(), "c");
    wire.listen("t", 0);
    for (topic, reason) in [("t", 0x00), ("nobody/listens", 0x10)] {
        wire.send(&publish(QOS1, topic, 1, &[], ""));
        wire.send(&publish(QOS2, topic, 2, &[], ""));
        wire.send(&ack(PUBREL, 2));
        let mut answers = Vec::new();
        while answers.len() < 3 {
            let packet = wire.receive();
            if packet[0] & 0xF0 != 0x30 {
                let reason = packet.get(4).copied().unwrap_or(0);
                answers.push((packet[0], reason));
            }
        }
        let expected = [(PUBACK, reason), (PUBREC, reason), (PUBCOMP, 0)];
        assert_eq!(answers, expected);
    }
    // A topic that no client publishes to is refused, by a reason of this packet.
    wire.send(&publish(QOS1, "$SYS/x", 1, &[], ""));
    let answer = wire.answer();
    assert_eq!(answer.first, PUBACK);
    assert!(
        [0x80, 0x83, 0x87, 0x90].contains(&answer.reasons[0]),
        "{answer:?}"
    );
    wire.send(&publish(QOS2, "$SYS/x", 2, &[], ""));
    let answer = wire.answer();
    assert_eq!(answer.first, PUBREC);
    assert!(
        [0x80, 0x83, 0x87, 0x90].contains(&answer.reasons[0]),
        "{answer:?}"
    );
    // What is not known is said so.
    wire.send(&ack(PUBREL, 9));
    wire.expect_answer(PUBCOMP, 9, 0x92);
    wire.send(&ack(PUBREC, 9));
    wire.expect_answer(PUBREL, 9, 0x92);
}

#[test]
fn reasons_that_an_acknowledgement_does_not_have_end_the_connection() {
    let broker = Broker::open();
    for (first, reason) in [
        (PUBACK, 0x92),
        (PUBACK, 0x01),
        (PUBREC, 0x92),
        (PUBREC, 0x04),
        (PUBREL, 0x80),
        (PUBREL, 0x10),
        (PUBCOMP, 0x80),
        (PUBCOMP, 0xFF),
    ] {
        let mut wire = Wire::join(broker.port(), "c");
        wire.send(&ack_with(first, 1, reason));
        let answer = wire.answer();
        assert_eq!(answer.first, 0xE0, "{first:#x} {reason:#x}");
        assert!([MALFORMED, PROTOCOL_ERROR].contains(&answer.reasons[0]));
        wire.expect_closed();
    }
}

#[test]
fn wrong_flags_of_pubrel_are_malformed() {
    let broker = Broker::open();
    for flags in (0..16).filter(|flags| *flags != 2) {
        ends(broker.port(), &ack(0x60 | flags, 1), MALFORMED);
    }
}

#[test]
fn answers_fit_the_smallest_clients() {
    let broker = Broker::configured("[limits]\ntopic_levels = 2\n");
    // No larger than the CONNACK needs.
    let (mut wire, _) = Wire::let_in(
        broker.port(),
        &connect(CLEAN, 0, &[four(MAXIMUM_PACKET_SIZE, 32)], &[string("c")]),
    );
    let plain = |answer: Answer, first: u8| {
        assert_eq!(answer.first, first);
        assert_eq!(answer.properties.get(REASON_STRING), None);
        assert_eq!(answer.properties.user(), []);
    };
    wire.send(&publish(QOS1, "$SYS/x", 1, &[], ""));
    plain(wire.answer(), PUBACK);
    wire.send(&publish(QOS2, "$SYS/x", 1, &[], ""));
    plain(wire.answer(), PUBREC);
    wire.send(&ack(PUBREL, 9));
    plain(wire.answer(), PUBCOMP);
    wire.send(&ack(PUBREC, 9));
    plain(wire.answer(), PUBREL);
    wire.send(&subscribe(1, &[], &[("a/b/c", 0)]));
    plain(wire.answer(), SUBACK);
    wire.send(&unsubscribe(1, &["none"]));
    plain(wire.answer(), UNSUBACK);
    wire.send(&[0x00, 0]);
    plain(wire.answer(), 0xE0);
}

#[test]
fn overlapping_subscriptions_get_one_message_with_the_highest_qos_and_all_identifiers() {
    let broker = Broker::open();
    let mut wire = Wire::join(broker.port(), "subscriber");
    for (n, (filter, qos)) in [("t/#", 0), ("t/+", 2), ("+/1", 1)].into_iter().enumerate() {
        let id = u8::try_from(n).expect("few") + 1;
        wire.send(&subscribe(
            1,
            &[vec![SUBSCRIPTION_ID, id]],
            &[(filter, qos)],
        ));
        wire.expect(&answer(SUBACK, 1, &[qos]));
    }
    wire.send(&subscribe(1, &[], &[("t/1", 0)]));
    wire.answer();
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.deliver(QOS2, "t/1", "x");
    let message = wire.message_of("x");
    assert_eq!(message.flags, QOS2);
    assert_eq!(message.properties.subscription_ids(), [1, 2, 3]);
    wire.acknowledge(&message);
    publisher.deliver(QOS2, "t/2", "y");
    let message = wire.message_of("y");
    assert_eq!(message.properties.subscription_ids(), [1, 2]);
    wire.acknowledge(&message);
    wire.expect_silence();
}

#[test]
fn the_identifier_of_the_subscription_comes_with_its_messages() {
    let broker = Broker::open();
    let mut wire = Wire::join(broker.port(), "subscriber");
    let largest = vec![SUBSCRIPTION_ID, 0xFF, 0xFF, 0xFF, 0x7F];
    wire.send(&subscribe(1, &[largest], &[("large", 0)]));
    wire.answer();
    wire.listen("without", 0);
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.send(&publish(RETAIN, "large", 0, &[], "x"));
    publisher.say("without", "y");
    assert_eq!(
        wire.message_of("x").properties.subscription_ids(),
        [268_435_455]
    );
    assert_eq!(wire.message_of("y").properties.subscription_ids(), [0; 0]);
    // With retained messages, too.
    wire.send(&subscribe(1, &[vec![SUBSCRIPTION_ID, 7]], &[("large", 0)]));
    wire.answer();
    assert_eq!(wire.message_of("x").properties.subscription_ids(), [7]);
}

#[test]
fn a_subscription_identifier_from_a_publisher_is_a_protocol_error() {
    let broker = Broker::open();
    let bytes = publish(0, "t", 0, &[vec![SUBSCRIPTION_ID, 1]], "x");
    ends(broker.port(), &bytes, PROTOCOL_ERROR);
}

#[test]
fn more_messages_than_the_brokers_receive_maximum_end_the_connection() {
    let broker = Broker::configured("[session]\nreceive_maximum = 3\n");
    let (mut wire, connack) = Wire::let_in(broker.port(), &connect(CLEAN, 0, &[], &[string("c")]));
    assert_eq!(connack.properties.number(RECEIVE_MAXIMUM), Some(3));
    for id in 1..=3 {
        wire.send(&publish(QOS2, "t", id, &[], "x"));
        wire.answer();
    }
    // Everything else goes on.
    wire.listen("u", 0);
    wire.send(&publish(0, "u", 0, &[], "x"));
    wire.message_of("x");
    wire.send(&ack(PUBREL, 1));
    wire.expect_answer(PUBCOMP, 1, 0);
    wire.send(&publish(QOS2, "t", 4, &[], "x"));
    wire.answer();
    wire.send(&publish(QOS2, "t", 5, &[], "x"));
    wire.expect_disconnect(RECEIVE_MAXIMUM_EXCEEDED);
}

#[test]
fn no_more_messages_are_unacknowledged_than_the_client_takes() {
    let broker = Broker::open();
    let mut wire = Wire::join_with(broker.port(), "subscriber", &[two(RECEIVE_MAXIMUM, 2)]);
    wire.listen("t", 2);
    let mut publisher = Wire::join(broker.port(), "publisher");
    for n in 0..6 {
        let flags = if n % 2 == 0 { QOS1 } else { QOS2 };
        publisher.deliver(flags, "t", &n.to_string());
    }
    let first = wire.message_of("0");
    let second = wire.message_of("1");
    wire.expect_silence();
    // Everything else is sent.
    wire.listen("u", 1);
    publisher.say("u", "qos 0");
    assert_eq!(wire.message_of("qos 0").flags, 0);
    wire.send(&unsubscribe(1, &["u"]));
    wire.expect(&answer(UNSUBACK, 1, &[0]));
    // A place is free after PUBACK; with QoS 2, after PUBCOMP and not before.
    wire.acknowledge(&first);
    let third = wire.message_of("2");
    wire.send(&ack(PUBREC, second.id));
    wire.expect_answer(PUBREL, second.id, 0);
    wire.expect_silence();
    wire.send(&ack(PUBCOMP, second.id));
    let fourth = wire.message_of("3");
    // Or after a PUBREC that refuses.
    wire.send(&ack_with(PUBREC, fourth.id, 0x80));
    wire.message_of("4");
    wire.acknowledge(&third);
    wire.message_of("5");
    wire.expect_silence();
}
