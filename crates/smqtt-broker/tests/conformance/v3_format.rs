//! Strings, flags and packet identifiers: chapters 1 and 2 of MQTT 3.1.1, and what follows a violation (4.8).

use super::harness::Broker;
use super::v3_wire::*;

/// What no UTF-8 string of MQTT may contain.
const ILL_FORMED: [&[u8]; 6] = [
    b"a\xFFb",
    // A surrogate, U+D800 and U+DFFF.
    b"a\xED\xA0\x80b",
    b"a\xED\xBF\xBFb",
    // An overlong slash.
    b"a\xC0\xAFb",
    // A sequence that ends too early.
    b"ab\xE2\x82",
    // Above U+10FFFF.
    b"a\xF4\x90\x80\x80b",
];

/// Packets that have these bytes where a string belongs.
fn packets_with_string(bytes: &[u8]) -> [Vec<u8>; 3] {
    let text = string(bytes);
    [
        packet(0x30, &[&text, b"payload"]),
        packet(0x82, &[&[0, 1], &text, &[0]]),
        packet(0xA2, &[&[0, 1], &text]),
    ]
}

/// CONNECTs that have these bytes as client id, will topic and user name.
fn connects_with_string(bytes: &[u8]) -> [Vec<u8>; 3] {
    let (text, id) = (string(bytes), string("id"));
    [
        connect_with(CLEAN, 0, &[&text]),
        connect_with(CLEAN | WILL, 0, &[&id, &text, &string("gone")]),
        connect_with(CLEAN | USERNAME, 0, &[&id, &text]),
    ]
}

fn closes(port: u16, bytes: &[u8]) {
    let mut wire = Wire::clean(port, "violator");
    wire.send(bytes);
    if let Some(answer) = wire.next() {
        panic!("{} was answered with {}", hex(bytes), hex(&answer));
    }
}

fn closes_at_once(port: u16, bytes: &[u8]) {
    let mut wire = Wire::open(port);
    wire.send(bytes);
    if let Some(answer) = wire.next() {
        panic!("{} was answered with {}", hex(bytes), hex(&answer));
    }
}

#[test]
fn ill_formed_utf8_closes_the_connection_wherever_a_string_belongs() {
    let broker = Broker::open();
    for bytes in ILL_FORMED {
        for packet in packets_with_string(bytes) {
            closes(broker.port(), &packet);
        }
        for packet in connects_with_string(bytes) {
            closes_at_once(broker.port(), &packet);
        }
    }
}

#[test]
fn a_null_character_closes_the_connection_wherever_a_string_belongs() {
    let broker = Broker::open();
    for packet in packets_with_string(b"a\0b") {
        closes(broker.port(), &packet);
    }
    for packet in connects_with_string(b"a\0b") {
        closes_at_once(broker.port(), &packet);
    }
}

#[test]
fn a_zero_width_no_break_space_is_a_character_like_others() {
    let broker = Broker::open();
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe("\u{FEFF}a", 0);
    subscriber.subscribe("a", 0);
    let mut publisher = Wire::clean(broker.port(), "\u{FEFF}pub");
    publisher.send(&publish(0, "\u{FEFF}a", None, b"with"));
    publisher.send(&publish(0, "a", None, b"without"));
    subscriber.expect_publish(0, "\u{FEFF}a", b"with");
    subscriber.expect_publish(0, "a", b"without");
    // Another client identifier is another client.
    Wire::clean(broker.port(), "pub").settle();
    publisher.settle();
}

#[test]
fn reserved_flags_and_packet_types_close_the_connection() {
    let broker = Broker::open();
    let well_formed = [
        (0x20, vec![0, 0]),
        (PUBACK, vec![0, 1]),
        (PUBREC, vec![0, 1]),
        (PUBREL, vec![0, 1]),
        (PUBCOMP, vec![0, 1]),
        (0x82, vec![0, 1, 0, 1, b'a', 0]),
        (0xA2, vec![0, 1, 0, 1, b'a']),
        (PINGREQ[0], vec![]),
        (DISCONNECT[0], vec![]),
    ];
    for (first, body) in well_formed {
        for flags in 0..16 {
            if first & 0x0F != flags {
                closes(broker.port(), &packet(first & 0xF0 | flags, &[&body]));
            }
        }
    }
    for flags in 1..16 {
        let mut bytes = connect(CLEAN, "c");
        bytes[0] |= flags;
        closes_at_once(broker.port(), &bytes);
    }
    for flags in 0..16 {
        closes(broker.port(), &[flags, 0]);
        closes(broker.port(), &[0xF0 | flags, 0]);
    }
}

#[test]
fn packet_identifier_zero_closes_the_connection() {
    let broker = Broker::open();
    for bytes in [
        publish(2, "t", Some(0), b""),
        publish(4, "t", Some(0), b""),
        subscribe(0, &[("t", 0)]),
        unsubscribe(0, &["t"]),
        ack(PUBACK, 0),
        ack(PUBREC, 0),
        ack(PUBREL, 0),
        ack(PUBCOMP, 0),
    ] {
        closes(broker.port(), &bytes);
    }
}

#[test]
fn answers_have_the_packet_identifier_of_what_they_answer() {
    let broker = Broker::open();
    let mut wire = Wire::clean(broker.port(), "c");
    for id in [1, 0x0100, 0x1234, 0xFFFF] {
        wire.send(&publish(2, "t", Some(id), b"x"));
        wire.expect(&ack(PUBACK, id));
        wire.send(&publish(4, "t", Some(id), b"x"));
        wire.expect(&ack(PUBREC, id));
        wire.send(&ack(PUBREL, id));
        wire.expect(&ack(PUBCOMP, id));
        wire.send(&subscribe(id, &[("u", 1)]));
        wire.expect(&suback(id, &[1]));
        wire.send(&unsubscribe(id, &["u"]));
        wire.expect(&unsuback(id));
    }
}

#[test]
fn the_broker_uses_packet_identifiers_that_are_free_and_none_with_qos_0() {
    let broker = Broker::open();
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe("#", 2);
    let mut publisher = Wire::clean(broker.port(), "pub");
    let mut open = Vec::new();
    for n in 0..10 {
        let payload = [n];
        publisher.send(&publish(0, "zero", None, &payload));
        publisher.send(&publish(2, "one", Some(1), &payload));
        publisher.expect(&ack(PUBACK, 1));
        publisher.send(&publish(4, "two", Some(2), &payload));
        publisher.expect(&ack(PUBREC, 2));
        publisher.send(&ack(PUBREL, 2));
        publisher.expect(&ack(PUBCOMP, 2));
        // A QoS 0 PUBLISH with an identifier would have two bytes more.
        subscriber.expect_publish(0, "zero", &payload);
        for (flags, topic) in [(2, "one"), (4, "two")] {
            let id = subscriber.expect_publish(flags, topic, &payload).unwrap();
            assert!(!open.contains(&id), "{id} is not acknowledged yet");
            open.push(id);
        }
    }
}

#[test]
fn a_violation_closes_the_connection_on_which_it_came_and_no_other() {
    let broker = Broker::open();
    let mut bystander = Wire::clean(broker.port(), "bystander");
    for bytes in [
        // What only servers send.
        WELCOME.to_vec(),
        suback(1, &[0]),
        unsuback(1),
        PINGRESP.to_vec(),
        // A remaining length of five bytes, one that is longer than it needs to be, and bodies that end too early
        // or too late.
        vec![0x30, 0x80, 0x80, 0x80, 0x80, 1],
        vec![0x30, 1, 0],
        vec![0x32, 4, 0, 1, b't', 0],
        packet(PUBACK, &[&[0, 1, 0]]),
        packet(PINGREQ[0], &[&[0]]),
        packet(DISCONNECT[0], &[&[0]]),
    ] {
        closes(broker.port(), &bytes);
        bystander.settle();
    }
}

#[test]
fn a_packet_that_the_broker_has_no_room_for_closes_its_connection() {
    let broker = Broker::configured("[limits]\nmax_packet_bytes = 2000\n");
    let mut fits = Wire::clean(broker.port(), "fits");
    fits.send(&publish(2, "t", Some(1), &[b'x'; 1900]));
    fits.expect(&ack(PUBACK, 1));
    closes(
        broker.port(),
        &publish(2, "t", Some(1), &[b'x'; 2100])[..100],
    );
    fits.settle();
}
