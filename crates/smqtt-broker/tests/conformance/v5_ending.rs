//! PINGREQ, DISCONNECT and AUTH, and what ends a connection: 3.12 to 3.15, 4.12 and 4.13 of MQTT 5.0.

use super::harness::Broker;
use super::v5_wire::*;

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;

/// The DISCONNECT that ends a connection on which this was sent.
#[track_caller]
fn ended_by(port: u16, bytes: &[u8]) -> Answer {
    let mut wire = Wire::join(port, "c");
    wire.send(bytes);
    let answer = wire.answer();
    assert_eq!(answer.first, 0xE0, "{}", hex(bytes));
    wire.expect_closed();
    answer
}

/// An AUTH of this reason and method.
fn auth(reason: u8, method: &str) -> Vec<u8> {
    let with = properties(&[text(AUTHENTICATION_METHOD, method)]);
    packet(0xF0, &[&[reason], &with])
}

#[test]
fn every_ping_is_answered() {
    let broker = Broker::open();
    let mut wire = Wire::join(broker.port(), "c");
    wire.send(&PINGREQ.repeat(10));
    for _ in 0..10 {
        wire.expect(&[0xD0, 0]);
    }
    // And nothing else is.
    wire.expect_silence();
}

#[test]
fn before_a_connack_there_is_no_disconnect() {
    let broker = Broker::open();
    let method = text(AUTHENTICATION_METHOD, "none");
    let unknown = connect(CLEAN, 0, &[method], &[string("c")]);
    for bytes in [
        PINGREQ.to_vec(),
        vec![0x00, 0],
        connect(CLEAN | 1, 0, &[], &[string("c")]),
        connect(CLEAN, 0, &[byte(0x7E, 0)], &[string("c")]),
        [&unknown[..], &[0x00, 0]].concat(),
        [&unknown[..], &PINGREQ].concat(),
    ] {
        let mut wire = Wire::open(broker.port());
        wire.send(&bytes);
        while let Some(packet) = wire.next() {
            assert_eq!(packet[0], 0x20, "{}", hex(&packet));
            assert!(packet[3] >= 0x80, "{}", hex(&packet));
        }
    }
}

#[test]
fn wrong_flags_of_disconnect_and_auth_are_malformed() {
    let broker = Broker::open();
    for first in [0xE0, 0xF0] {
        for flags in 1..16 {
            let answer = ended_by(broker.port(), &[first | flags, 0]);
            assert_eq!(answer.reasons, [MALFORMED]);
        }
    }
}

#[test]
fn reasons_that_disconnect_does_not_have_end_the_connection_as_an_error() {
    let broker = Broker::open();
    // None, one of other packets, one that servers alone give.
    for reason in [0x01, 0xFF, 0x92, 0x10, 0x8D, 0x9D] {
        let answer = ended_by(broker.port(), &[0xE0, 1, reason]);
        assert!([MALFORMED, PROTOCOL_ERROR].contains(&answer.reasons[0]));
    }
}

#[test]
fn the_brokers_disconnect_has_a_reason_that_exists_and_no_session_expiry() {
    let broker = Broker::configured("[limits]\nmax_packet_bytes = 1024\n");
    let port = broker.port();
    let mut answers: Vec<Answer> = [
        vec![0x00, 0],
        vec![0x20, 3, 0, 0, 0],
        publish(QOS1 | QOS2, "t", 1, &[], "x"),
        publish(0, "t", 0, &[two(TOPIC_ALIAS, 1000)], "x"),
        publish(0, "#", 0, &[], "x"),
        vec![0x30, 0xFF, 0x7F],
    ]
    .iter()
    .map(|bytes| ended_by(port, bytes))
    .collect();
    let mut first = Wire::join(port, "c");
    let _second = Wire::join(port, "c");
    answers.push(first.answer());
    for answer in answers {
        let known = [
            0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
            0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
        ];
        assert!(known.contains(&answer.reasons[0]), "{answer:?}");
        assert_eq!(answer.properties.get(SESSION_EXPIRY), None);
    }
}

#[test]
fn a_broker_that_stops_says_so_and_closes() {
    let broker = Broker::open();
    let mut wires = ["a", "b", "c"].map(|id| Wire::join(broker.port(), id));
    broker.signal("TERM");
    for wire in &mut wires {
        let answer = wire.answer();
        assert_eq!((answer.first, &answer.reasons[..]), (0xE0, &[0x8B][..]));
        assert_eq!(answer.properties.get(SESSION_EXPIRY), None);
        wire.expect_closed();
    }
}

#[test]
fn after_a_disconnect_of_the_client_nothing_comes_and_nothing_counts() {
    let broker = Broker::open();
    let mut subscriber = Wire::join(broker.port(), "subscriber");
    subscriber.listen("#", 0);
    for disconnect in [&[0xE0, 0][..], &[0xE0, 1, 0x04], &[0xE0, 2, 0x81, 0]] {
        let mut wire = Wire::join(broker.port(), "c");
        wire.listen("#", 0);
        let more = [publish(0, "t", 0, &[], "x"), PINGREQ.to_vec()].concat();
        wire.send(&[disconnect, &more].concat());
        wire.expect_closed();
        subscriber.expect_silence();
    }
}

#[test]
fn after_a_disconnect_of_the_broker_nothing_comes_and_it_closes() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    let mut wire = Wire::join(broker.port(), "c");
    wire.listen("t", 0);
    let more = [publish(0, "t", 0, &[], "x"), PINGREQ.to_vec()].concat();
    wire.send(&[&[0x00, 0][..], &more].concat());
    publisher.say("t", "x");
    // A message of the publisher may have been faster.
    let mut answer = wire.receive();
    while answer[0] == 0x30 {
        answer = wire.receive();
    }
    assert_eq!(answer[..3], [0xE0, answer[1], MALFORMED]);
    wire.expect_closed();
}

#[test]
fn a_session_that_was_to_end_is_not_kept_by_disconnect() {
    let broker = Broker::open();
    let with = properties(&[four(SESSION_EXPIRY, 60)]);
    let answer = ended_by(broker.port(), &packet(0xE0, &[&[0], &with]));
    assert_eq!(answer.reasons, [PROTOCOL_ERROR]);
}

#[test]
fn auth_without_a_method_in_connect_is_a_protocol_error() {
    let broker = Broker::open();
    for bytes in [
        vec![0xF0, 0],
        auth(0x18, "method"),
        auth(0x19, "method"),
        auth(0x00, "method"),
    ] {
        let answer = ended_by(broker.port(), &bytes);
        assert_eq!(answer.reasons, [PROTOCOL_ERROR], "{}", hex(&bytes));
    }
}

#[test]
fn reasons_that_auth_does_not_have_end_the_connection() {
    let broker = Broker::open();
    for reason in [0x01, 0x80, 0x8C, 0xFF] {
        let answer = ended_by(broker.port(), &auth(reason, "method"));
        assert!([MALFORMED, PROTOCOL_ERROR].contains(&answer.reasons[0]));
    }
}

#[test]
fn a_client_without_method_sees_none() {
    let broker = Broker::open();
    let bytes = connect(CLEAN, 0, &[], &[string("c")]);
    let (mut wire, connack) = Wire::let_in(broker.port(), &bytes);
    assert_eq!(connack.properties.get(AUTHENTICATION_METHOD), None);
    wire.expect_silence();
}

#[test]
fn a_method_that_is_not_supported_is_refused_without_auth() {
    let broker = Broker::open();
    for method in ["SCRAM-SHA-1", "", "GS2-KRB5"] {
        let with = [text(AUTHENTICATION_METHOD, method)];
        let bytes = connect(CLEAN, 0, &with, &[string("c")]);
        Wire::refused(broker.port(), &bytes, BAD_AUTHENTICATION_METHOD);
        // A first step that comes with it changes nothing.
        let mut wire = Wire::open(broker.port());
        wire.send(&[bytes, auth(0x18, method)].concat());
        assert_eq!(wire.connack().reason, BAD_AUTHENTICATION_METHOD);
        wire.expect_closed();
    }
}

#[test]
fn an_error_ends_the_connection_with_its_reason() {
    let broker = Broker::configured("[limits]\nmax_packet_bytes = 1024\n");
    for (bytes, reason) in [
        (vec![0x00, 0], MALFORMED),
        (publish(QOS1 | QOS2, "t", 1, &[], "x"), MALFORMED),
        (connect(CLEAN, 0, &[], &[string("c")]), PROTOCOL_ERROR),
        (subscribe(1, &[], &[]), PROTOCOL_ERROR),
        (publish(0, "t", 0, &[two(TOPIC_ALIAS, 1000)], "x"), 0x94),
        (vec![0x30, 0xFF, 0xFF, 0x7F], 0x95),
    ] {
        assert_eq!(
            ended_by(broker.port(), &bytes).reasons,
            [reason],
            "{}",
            hex(&bytes)
        );
    }
}
