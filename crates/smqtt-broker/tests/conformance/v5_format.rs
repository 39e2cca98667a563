//! Data types, fixed headers, identifiers and properties: chapters 1 and 2 of MQTT 5.0.

use super::harness::Broker;
use super::v5_wire::*;

const MALFORMED: u8 = 0x81;

/// Each of these ends a connection of its own with "malformed packet".
#[track_caller]
fn malformed(port: u16, packets: &[Vec<u8>]) {
    for bytes in packets {
        let mut wire = Wire::join(port, "c");
        wire.send(bytes);
        let answer = wire.answer();
        assert_eq!(
            (answer.first, &answer.reasons[..]),
            (0xE0, &[MALFORMED][..]),
            "{}",
            hex(bytes)
        );
        wire.expect_closed();
    }
}

/// A PUBLISH of this topic and these properties.
fn publish_bytes(topic: &[u8], with: &[Vec<u8>]) -> Vec<u8> {
    packet(0x30, &[&string(topic), &properties(with), b"x"])
}

/// In every place where a client may send a string.
fn strings_of(bad: &[u8]) -> Vec<Vec<u8>> {
    let filter = [&string(bad)[..], &[0]].concat();
    vec![
        publish_bytes(bad, &[]),
        publish_bytes(b"t", &[text(CONTENT_TYPE, bad)]),
        publish_bytes(b"t", &[text(RESPONSE_TOPIC, bad)]),
        publish_bytes(b"t", &[user(bad, "value")]),
        publish_bytes(b"t", &[user("name", bad)]),
        packet(0x82, &[&[0, 1, 0], &filter]),
        packet(0xA2, &[&[0, 1, 0], &string(bad)]),
        packet(0xE0, &[&[0], &properties(&[text(REASON_STRING, bad)])]),
    ]
}

#[test]
fn ill_formed_utf_8_ends_the_connection() {
    let broker = Broker::open();
    for bad in [
        &b"a\xFF"[..],
        b"\xC0\x80",
        b"\xC1\xBF",
        b"\xED\xA0\x80",
        b"\xED\xBF\xBF",
        b"\xF4\x90\x80\x80",
        b"\xE2\x82",
    ] {
        malformed(broker.port(), &strings_of(bad));
    }
}

#[test]
fn a_null_character_ends_the_connection() {
    let broker = Broker::open();
    malformed(broker.port(), &strings_of(b"a\0b"));
    malformed(broker.port(), &strings_of(b"\0"));
}

#[test]
fn a_zero_width_no_break_space_is_a_character_like_others() {
    let broker = Broker::open();
    let mut marked = Wire::join(broker.port(), "marked");
    let mut plain = Wire::join(broker.port(), "plain");
    marked.listen("\u{FEFF}t", 0);
    plain.listen("t", 0);
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.send(&publish(
        0,
        "\u{FEFF}t",
        0,
        &[user("\u{FEFF}n", "v\u{FEFF}")],
        "marked",
    ));
    publisher.say("t", "plain");
    let message = marked.message_of("marked");
    assert_eq!(message.topic, "\u{FEFF}t");
    assert_eq!(
        message.properties.user(),
        [("\u{FEFF}n".to_owned(), "v\u{FEFF}".to_owned())]
    );
    plain.message_of("plain");
    marked.expect_silence();
    plain.expect_silence();
}

#[test]
fn lengths_with_superfluous_bytes_end_the_connection() {
    let broker = Broker::open();
    malformed(
        broker.port(),
        &[
            // A remaining length, a property length and a subscription identifier.
            vec![0xC0, 0x80, 0x00],
            vec![0x30, 0x85, 0x00, 0, 1, b't', 0, b'x'],
            vec![0x30, 6, 0, 1, b't', 0x80, 0x00, b'x'],
            packet(
                0x82,
                &[&[0, 1, 3, SUBSCRIPTION_ID, 0x81, 0x00], &string("t"), &[0]],
            ),
        ],
    );
}

#[test]
fn reserved_flags_end_the_connection() {
    let broker = Broker::open();
    let port = broker.port();
    for first in [0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0, 0xF0] {
        let right = match first {
            0x82 => subscribe(1, &[], &[("t", 0)]),
            0xA2 => unsubscribe(1, &["t"]),
            0xC0 | 0xE0 | 0xF0 => vec![first, 0],
            _ => ack(first, 1),
        };
        for wrong in (0..16).filter(|flags| first & 0x0F != *flags) {
            let mut bytes = right.clone();
            bytes[0] = first & 0xF0 | wrong;
            malformed(port, &[bytes]);
        }
    }
    for wrong in [0x11, 0x12, 0x18] {
        let mut bytes = connect(CLEAN, 0, &[], &[string("c")]);
        bytes[0] = wrong;
        let mut wire = Wire::open(port);
        wire.send(&bytes);
        wire.expect_closed();
    }
}

#[test]
fn a_message_of_qos_0_has_no_identifier() {
    let broker = Broker::open();
    let mut subscriber = Wire::join(broker.port(), "subscriber");
    subscriber.listen("t", 2);
    let mut publisher = Wire::join(broker.port(), "publisher");
    // Identifier 0x0001 here would be a property length and a payload.
    publisher.send(&[0x30, 6, 0, 1, b't', 0, 1, b'x']);
    subscriber.expect(&[0x30, 6, 0, 1, b't', 0, 1, b'x']);
}

#[test]
fn packet_identifier_0_ends_the_connection() {
    let broker = Broker::open();
    malformed(
        broker.port(),
        &[
            publish(QOS1, "t", 0, &[], "x"),
            publish(QOS2, "t", 0, &[], "x"),
            subscribe(0, &[], &[("t", 0)]),
            unsubscribe(0, &["t"]),
        ],
    );
}

#[test]
fn the_broker_uses_identifiers_that_are_free() {
    let broker = Broker::open();
    let mut subscriber = Wire::join(broker.port(), "subscriber");
    subscriber.listen("t", 2);
    let mut publisher = Wire::join(broker.port(), "publisher");
    let mut in_use = std::collections::HashSet::new();
    for round in 0..30 {
        publisher.deliver(if round % 2 == 0 { QOS1 } else { QOS2 }, "t", "x");
        let message = subscriber.message();
        assert_ne!(message.id, 0);
        assert!(in_use.insert(message.id), "{} is in use", message.id);
        // Some are never acknowledged.
        if round % 3 != 0 {
            subscriber.acknowledge(&message);
            subscriber.settle();
            in_use.remove(&message.id);
        }
    }
}

#[test]
fn acknowledgements_have_the_identifier_of_what_they_acknowledge() {
    let broker = Broker::open();
    let mut wire = Wire::join(broker.port(), "c");
    for id in [1, 2, 255, 256, 0x1234, u16::MAX] {
        wire.send(&publish(QOS1, "t", id, &[], "x"));
        wire.expect_answer(PUBACK, id, 0x10);
        wire.send(&publish(QOS2, "t", id, &[], "x"));
        wire.expect_answer(PUBREC, id, 0x10);
        wire.send(&ack(PUBREL, id));
        wire.expect_answer(PUBCOMP, id, 0);
        wire.send(&subscribe(id, &[], &[("u", 1)]));
        wire.expect(&answer(SUBACK, id, &[1]));
        wire.send(&unsubscribe(id, &["u"]));
        wire.expect(&answer(UNSUBACK, id, &[0]));
    }
    // The broker's own messages, too.
    wire.listen("t", 2);
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.deliver(QOS2, "t", "x");
    let message = wire.message();
    wire.acknowledge(&message);
}

#[test]
fn no_properties_are_a_length_of_zero() {
    let broker = Broker::open();
    let mut wire = Wire::join(broker.port(), "c");
    wire.send(&subscribe(7, &[], &[("t", 0)]));
    wire.expect(&[SUBACK, 4, 0, 7, 0, 0]);
    wire.send(&publish(0, "t", 0, &[], "x"));
    wire.expect(&[0x30, 5, 0, 1, b't', 0, b'x']);
    // Left out, they are missed.
    malformed(
        broker.port(),
        &[
            vec![0x30, 3, 0, 1, b't'],
            vec![0x82, 2, 0, 1],
            vec![0xA2, 2, 0, 1],
        ],
    );
}
