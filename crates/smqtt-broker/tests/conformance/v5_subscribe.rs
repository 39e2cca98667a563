//! SUBSCRIBE to UNSUBACK: 3.8 to 3.11 of MQTT 5.0.

use super::harness::Broker;
use super::v5_wire::*;

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;

/// This ends a connection with one of these reasons.
#[track_caller]
fn ends(port: u16, bytes: &[u8], reasons: &[u8]) {
    let mut wire = Wire::join(port, "c");
    wire.send(bytes);
    let answer = wire.answer();
    assert_eq!(answer.first, 0xE0, "{}", hex(bytes));
    assert!(
        reasons.contains(&answer.reasons[0]),
        "{}: {answer:?}",
        hex(bytes)
    );
    wire.expect_closed();
}

#[test]
fn wrong_flags_are_malformed() {
    let broker = Broker::open();
    for flags in (0..16).filter(|flags| *flags != 2) {
        for (first, mut bytes) in [
            (0x80, subscribe(1, &[], &[("t", 0)])),
            (0xA0, unsubscribe(1, &["t"])),
        ] {
            bytes[0] = first | flags;
            ends(broker.port(), &bytes, &[MALFORMED]);
        }
    }
}

#[test]
fn filters_that_are_not_utf_8_are_malformed() {
    let broker = Broker::open();
    for bad in [&b"\xFF"[..], b"a/\xED\xA0\x80", b"a\0"] {
        let filter = string(bad);
        ends(
            broker.port(),
            &packet(0x82, &[&[0, 1, 0], &filter, &[0]]),
            &[MALFORMED],
        );
        ends(
            broker.port(),
            &packet(0xA2, &[&[0, 1, 0], &filter]),
            &[MALFORMED],
        );
    }
}

#[test]
fn requests_without_a_filter_are_a_protocol_error() {
    let broker = Broker::open();
    ends(broker.port(), &subscribe(1, &[], &[]), &[PROTOCOL_ERROR]);
    ends(broker.port(), &unsubscribe(1, &[]), &[PROTOCOL_ERROR]);
    // A filter without its options.
    ends(
        broker.port(),
        &packet(0x82, &[&[0, 1, 0], &string("t")]),
        &[MALFORMED],
    );
}

#[test]
fn no_local_keeps_a_client_from_its_own_messages() {
    let broker = Broker::open();
    let mut wire = Wire::keep(broker.port(), "c");
    wire.listen("t", NO_LOCAL | 1);
    wire.say("t", "own");
    wire.expect_silence();
    Wire::join(broker.port(), "other").say("t", "another's");
    wire.message_of("another's");
    // It is the client identifier that counts, not the connection.
    wire.vanish();
    let mut wire = Wire::keep(broker.port(), "c");
    wire.say("t", "own");
    wire.expect_silence();
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let broker = Broker::open();
    let bytes = subscribe(1, &[], &[("$share/group/t", NO_LOCAL)]);
    ends(broker.port(), &bytes, &[PROTOCOL_ERROR]);
}

#[test]
fn options_that_do_not_exist_end_the_connection() {
    let broker = Broker::open();
    for options in [0x40, 0x80, 0xC0, 0x41] {
        ends(
            broker.port(),
            &subscribe(1, &[], &[("t", options)]),
            &[MALFORMED],
        );
    }
    // QoS 3, and retain handling 3.
    for options in [0x03, 0x30] {
        let both = &[MALFORMED, PROTOCOL_ERROR];
        ends(broker.port(), &subscribe(1, &[], &[("t", options)]), both);
    }
}

#[test]
fn every_request_is_answered_with_its_identifier_and_a_reason_for_each_filter_in_order() {
    let broker = Broker::configured("[limits]\ntopic_levels = 2\n");
    let mut wire = Wire::join(broker.port(), "c");
    for id in [1, 0x0102, u16::MAX] {
        let filters = [("a", 2), ("too/many/levels", 1), ("b/#", 0), ("+", 1)];
        wire.send(&subscribe(id, &[], &filters));
        let answer = wire.answer();
        assert_eq!((answer.first, answer.id), (SUBACK, id));
        let reasons = &answer.reasons;
        assert_eq!(reasons.len(), 4);
        assert_eq!((reasons[0], reasons[2], reasons[3]), (2, 0, 1));
        let refusals = [0x80, 0x83, 0x87, 0x8F, 0x97];
        assert!(refusals.contains(&reasons[1]), "{answer:?}");
        wire.send(&unsubscribe(id, &["none", "a", "b/#", "a", "+"]));
        let answer = wire.answer();
        assert_eq!((answer.first, answer.id), (UNSUBACK, id));
        assert_eq!(answer.reasons, [0x11, 0, 0, 0x11, 0]);
    }
}

#[test]
fn several_filters_are_like_as_many_requests() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.send(&publish(RETAIN, "a", 0, &[], "stored"));
    publisher.settle();
    let mut wire = Wire::join(broker.port(), "c");
    wire.send(&subscribe(1, &[], &[("a", 0), ("b", 1), ("a", 2)]));
    wire.expect(&answer(SUBACK, 1, &[0, 1, 2]));
    // The third took the place of the first.
    wire.message_of("stored");
    wire.settle();
    publisher.deliver(QOS2, "a", "x");
    let message = wire.message_of("x");
    assert_eq!(message.flags, QOS2);
    wire.acknowledge(&message);
    wire.send(&unsubscribe(2, &["a", "b"]));
    wire.expect(&answer(UNSUBACK, 2, &[0, 0]));
    publisher.say("a", "x");
    publisher.say("b", "x");
    wire.expect_silence();
}

#[test]
fn a_subscription_made_again_takes_the_place_of_the_first() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.send(&publish(RETAIN, "t", 0, &[], "stored"));
    publisher.settle();
    let mut wire = Wire::join(broker.port(), "c");
    for (qos, id) in [(0, 1), (2, 2), (1, 3)] {
        wire.send(&subscribe(1, &[vec![SUBSCRIPTION_ID, id]], &[("t", qos)]));
        wire.expect(&answer(SUBACK, 1, &[qos]));
        wire.message_of("stored");
        publisher.deliver(QOS2, "t", "live");
        let message = wire.message_of("live");
        assert_eq!(message.flags, [0, QOS1, QOS2][usize::from(qos)]);
        assert_eq!(message.properties.subscription_ids(), [u32::from(id)]);
        wire.acknowledge(&message);
    }
    wire.expect_silence();
}

#[test]
fn no_message_is_lost_when_a_subscription_is_made_again() {
    let broker = Broker::open();
    let mut wire = Wire::join(broker.port(), "c");
    wire.listen("t", 1);
    let mut publisher = Wire::join(broker.port(), "publisher");
    let (mut next, mut granted) = (0, 0);
    for n in 0..200 {
        publisher.send(&publish(QOS1, "t", n + 1, &[], &n.to_string()));
        if n % 10 == 0 {
            wire.send(&subscribe(1, &[], &[("t", 1)]));
        }
    }
    while next < 200 || granted < 20 {
        let packet = wire.receive();
        if packet[0] == SUBACK {
            granted += 1;
            continue;
        }
        let message = Publish::parse(&packet);
        assert_eq!(message.payload, next.to_string());
        wire.acknowledge(&message);
        next += 1;
    }
}

#[test]
fn messages_come_with_the_lower_of_both_qos() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    for granted in 0..3 {
        let mut wire = Wire::join(broker.port(), "c");
        wire.listen("t", granted);
        for published in 0..3u8 {
            publisher.deliver(published << 1, "t", "x");
            let message = wire.message_of("x");
            assert_eq!(message.flags >> 1, granted.min(published));
            wire.acknowledge(&message);
        }
        wire.leave();
    }
}

#[test]
fn only_the_same_filter_ends_a_subscription() {
    let broker = Broker::open();
    let mut wire = Wire::join(broker.port(), "c");
    wire.listen("a/+", 0);
    for other in ["a/b", "a/#", "A/+", "a/+/", "+", "#"] {
        wire.send(&unsubscribe(1, &[other]));
        wire.expect(&answer(UNSUBACK, 1, &[0x11]));
    }
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.say("a/b", "still");
    wire.message_of("still");
    wire.send(&unsubscribe(1, &["a/+"]));
    wire.expect(&answer(UNSUBACK, 1, &[0]));
    publisher.say("a/b", "no more");
    wire.expect_silence();
}

#[test]
fn what_was_under_way_when_a_subscription_ended_is_completed() {
    let broker = Broker::open();
    let mut wire = Wire::keep(broker.port(), "c");
    wire.listen("t", 2);
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.deliver(QOS1, "t", "one");
    publisher.deliver(QOS2, "t", "two");
    let one = wire.message_of("one");
    let two = wire.message_of("two");
    wire.send(&unsubscribe(1, &["t"]));
    wire.expect(&answer(UNSUBACK, 1, &[0]));
    // Over a new connection, too.
    wire.vanish();
    let mut wire = Wire::keep(broker.port(), "c");
    for (payload, first) in [("one", &one), ("two", &two)] {
        let again = wire.message_of(payload);
        assert_eq!((again.id, again.flags), (first.id, first.flags | DUP));
        wire.acknowledge(&again);
    }
    wire.settle();
}
