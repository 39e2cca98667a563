//! CONNECT and CONNACK: 3.1 and 3.2 of MQTT 5.0. Wills and sessions have files of their own.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::harness::Broker;
use super::v5_wire::*;

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;
const UNSUPPORTED_VERSION: u8 = 0x84;
const SESSION_TAKEN_OVER: u8 = 0x8E;
const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;
const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
const TOPIC_ALIAS_INVALID: u8 = 0x94;
const PACKET_TOO_LARGE: u8 = 0x95;

/// A CONNECT that is refused whoever sends it.
fn refusable(flags: u8, client_id: &str) -> Vec<u8> {
    let method = text(AUTHENTICATION_METHOD, "SCRAM-SHA-1");
    connect(flags, 0, &[method], &[string(client_id)])
}

#[test]
fn a_first_packet_other_than_connect_closes_the_connection() {
    let broker = Broker::open();
    for bytes in [
        PINGREQ.to_vec(),
        vec![0xE0, 0],
        vec![0xF0, 0],
        publish(0, "t", 0, &[], "x"),
        publish(QOS1, "t", 1, &[], "x"),
        subscribe(1, &[], &[("#", 0)]),
        unsubscribe(1, &["#"]),
        ack(PUBREL, 1),
    ] {
        let mut wire = Wire::open(broker.port());
        wire.send(&bytes);
        wire.expect_closed();
    }
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    let broker = Broker::open();
    for again in ["c", "other"] {
        let mut wire = Wire::join(broker.port(), "c");
        wire.send(&connect(CLEAN, 0, &[], &[string(again)]));
        wire.expect_disconnect(PROTOCOL_ERROR);
    }
}

#[test]
fn another_protocol_name_closes_the_connection() {
    let broker = Broker::open();
    for name in ["mqtt", "MQT", "MQTTT", "MQIsdp", "", "HTTP"] {
        let mut wire = Wire::open(broker.port());
        let fields = [&[5, CLEAN, 0, 0, 0][..], &string("c")].concat();
        wire.send(&packet(0x10, &[&string(name), &fields]));
        // A word before is allowed, as long as it says no.
        if let Some(answer) = wire.next() {
            assert!(answer[0] == 0x20 && answer[3] != 0, "{}", hex(&answer));
            wire.expect_closed();
        }
    }
}

#[test]
fn a_later_version_is_refused_as_unsupported() {
    let broker = Broker::open();
    for version in [6, 7, 0x7F, 0xFF] {
        let mut bytes = connect(CLEAN, 0, &[], &[string("c")]);
        bytes[8] = version;
        Wire::refused(broker.port(), &bytes, UNSUPPORTED_VERSION);
    }
}

#[test]
fn the_reserved_connect_flag_is_malformed() {
    let broker = Broker::open();
    for flags in [0x01, CLEAN | 0x01] {
        let bytes = connect(flags, 0, &[], &[string("c")]);
        Wire::refused(broker.port(), &bytes, MALFORMED);
    }
}

#[test]
fn will_flags_that_contradict_are_malformed() {
    let broker = Broker::open();
    for flags in [0x08, 0x10, 0x18, WILL_RETAIN] {
        let bytes = connect(CLEAN | flags, 0, &[], &[string("c")]);
        Wire::refused(broker.port(), &bytes, MALFORMED);
    }
    // Will QoS 3.
    let bytes = connect(CLEAN | WILL | 0x18, 0, &[], &will("c", &[], "t", "x"));
    Wire::refused(broker.port(), &bytes, MALFORMED);
}

#[test]
fn what_the_connect_flags_announce_has_to_be_there_and_nothing_else() {
    let broker = Broker::open();
    let id = string("c");
    let word = string("word");
    let will = [vec![0], string("t"), string("x")].concat();
    let mut complete = 0;
    for flags in [
        0,
        WILL,
        USERNAME,
        PASSWORD,
        USERNAME | PASSWORD,
        WILL | USERNAME,
    ] {
        let mut fields = vec![id.clone()];
        if flags & WILL != 0 {
            fields.push(will.clone());
        }
        for flag in [USERNAME, PASSWORD] {
            if flags & flag != 0 {
                fields.push(word.clone());
            }
        }
        let of = |fields: &[Vec<u8>]| connect(CLEAN | flags, 0, &[], fields);
        let (wire, _) = Wire::let_in(broker.port(), &of(&fields));
        wire.leave();
        complete += 1;
        // One field too few, and one too many.
        Wire::refused(broker.port(), &of(&fields[..fields.len() - 1]), MALFORMED);
        fields.push(word.clone());
        Wire::refused(broker.port(), &of(&fields), MALFORMED);
    }
    assert_eq!(complete, 6);
    // A will without its topic, or without its payload.
    for part in [&will[..1], &will[..4]] {
        let bytes = connect(CLEAN | WILL, 0, &[], &[id.clone(), part.to_vec()]);
        Wire::refused(broker.port(), &bytes, MALFORMED);
    }
}

#[test]
fn the_fields_of_the_payload_have_their_order() {
    let broker = Broker::open();
    let mut watcher = Wire::join(broker.port(), "watcher");
    watcher.listen("will/topic", 0);
    let mut fields = will("the-client", &[], "will/topic", "will payload");
    fields.extend([string("user"), string("password")]);
    let flags = CLEAN | WILL | USERNAME | PASSWORD;
    let (first, _) = Wire::let_in(broker.port(), &connect(flags, 0, &[], &fields));
    // The first field was the client identifier, the next the will's.
    let mut second = Wire::join(broker.port(), "the-client");
    drop(first);
    assert_eq!(watcher.message().payload, "will payload");
    second.settle();
}

#[test]
fn strings_of_connect_are_utf_8() {
    let broker = Broker::open();
    for bad in [&b"a\xFF"[..], b"\xED\xA0\x80", b"a\0"] {
        let bad = string(bad);
        let id = string("c");
        let none = vec![0];
        for (flags, fields) in [
            (CLEAN, vec![bad.clone()]),
            (CLEAN | USERNAME, vec![id.clone(), bad.clone()]),
            (
                CLEAN | WILL,
                vec![id.clone(), none, bad.clone(), string("x")],
            ),
        ] {
            let bytes = connect(flags, 0, &[], &fields);
            Wire::refused(broker.port(), &bytes, MALFORMED);
        }
    }
}

#[test]
fn a_connect_without_client_identifier_is_malformed() {
    let broker = Broker::open();
    Wire::refused(broker.port(), &connect(CLEAN, 0, &[], &[]), MALFORMED);
}

#[test]
fn client_identifiers_of_23_letters_and_digits_are_let_in() {
    let broker = Broker::open();
    for id in [
        "0123456789ABCDEFGHIJKLM",
        "NOPQRSTUVWXYZabcdefghij",
        "klmnopqrstuvwxyz",
        "x",
    ] {
        let (mut wire, connack) =
            Wire::let_in(broker.port(), &connect(CLEAN, 0, &[], &[string(id)]));
        assert_eq!(connack.properties.get(ASSIGNED_CLIENT_ID), None);
        wire.settle();
    }
}

#[test]
fn a_client_without_identifier_is_told_the_one_it_has() {
    let broker = Broker::open();
    let mut assigned = HashSet::new();
    let mut wires = Vec::new();
    for flags in [CLEAN, CLEAN, 0, CLEAN] {
        let bytes = connect(flags, 0, &[four(SESSION_EXPIRY, 60)], &[string("")]);
        let (wire, connack) = Wire::let_in(broker.port(), &bytes);
        assert_eq!(connack.flags, 0, "the session is new");
        let id = connack.properties.text(ASSIGNED_CLIENT_ID);
        assigned.insert(id.expect("an assigned identifier").to_owned());
        wires.push((wire, id.expect("an assigned identifier").to_owned()));
    }
    assert_eq!(assigned.len(), 4, "everybody has another");
    // It stands for the session as if the client had chosen it.
    let (mut wire, id) = wires.pop().expect("four");
    wire.listen("t", 1);
    wire.leave();
    let (_wire, connack) = Wire::let_in(broker.port(), &keeping(0, &id));
    assert_eq!(connack.flags, 1);
    assert_eq!(connack.properties.get(ASSIGNED_CLIENT_ID), None);
    // Of those who are still here, it takes the place.
    let (mut wire, id) = wires.pop().expect("three");
    let _second = Wire::keep(broker.port(), &id);
    wire.expect_disconnect(SESSION_TAKEN_OVER);
}

#[test]
fn extended_authentication_is_refused_and_the_connection_closed() {
    let broker = Broker::open();
    Wire::refused(
        broker.port(),
        &refusable(CLEAN, "c"),
        BAD_AUTHENTICATION_METHOD,
    );
}

#[test]
fn a_malformed_connect_is_refused_and_the_connection_closed() {
    let broker = Broker::open();
    let id = [string("c")];
    for (with, reason) in [
        // A property that CONNECT does not have, one twice, one cut short.
        (vec![two(TOPIC_ALIAS, 1)], MALFORMED),
        (
            vec![four(SESSION_EXPIRY, 1), four(SESSION_EXPIRY, 1)],
            PROTOCOL_ERROR,
        ),
        (vec![vec![SESSION_EXPIRY, 0, 0]], MALFORMED),
        // Values that are not allowed.
        (vec![two(RECEIVE_MAXIMUM, 0)], PROTOCOL_ERROR),
        (vec![four(MAXIMUM_PACKET_SIZE, 0)], PROTOCOL_ERROR),
        (vec![byte(REQUEST_PROBLEM_INFORMATION, 2)], PROTOCOL_ERROR),
        (vec![byte(REQUEST_RESPONSE_INFORMATION, 2)], PROTOCOL_ERROR),
    ] {
        Wire::refused(broker.port(), &connect(CLEAN, 0, &with, &id), reason);
    }
}

#[test]
fn a_client_that_connects_again_takes_the_place_of_the_first() {
    let broker = Broker::open();
    for flags in [0, CLEAN] {
        let mut first = Wire::join(broker.port(), "c");
        let (mut second, _) = Wire::let_in(broker.port(), &connect(flags, 0, &[], &[string("c")]));
        first.expect_disconnect(SESSION_TAKEN_OVER);
        second.settle();
    }
}

#[test]
fn an_accepted_client_gets_one_connack_before_all_else() {
    let broker = Broker::open();
    let mut absent = Wire::keep(broker.port(), "c");
    absent.listen("t", 1);
    absent.leave();
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.deliver(QOS1, "t", "waits");
    let mut wire = Wire::open(broker.port());
    wire.send(&[&keeping(0, "c")[..], &PINGREQ].concat());
    let bytes = wire.receive();
    assert_eq!(bytes[0], 0x20, "first a CONNACK: {}", hex(&bytes));
    assert_eq!(bytes[2], 1, "the other acknowledge flags are 0");
    assert_eq!(bytes[3], 0, "success");
    // None of what follows is another one.
    let mut types = HashSet::new();
    for _ in 0..2 {
        types.insert(wire.receive()[0] & 0xF0);
    }
    assert_eq!(types, HashSet::from([0x30, 0xD0]));
    wire.settle();
}

#[test]
fn what_follows_a_refused_connect_is_not_processed() {
    let broker = Broker::open();
    let mut subscriber = Wire::join(broker.port(), "subscriber");
    subscriber.listen("#", 0);
    let mut wire = Wire::open(broker.port());
    let more = [
        publish(0, "t", 0, &[], "x"),
        publish(RETAIN | QOS1, "r", 1, &[], "x"),
    ];
    wire.send(&[&refusable(CLEAN, "c")[..], &more.concat(), &PINGREQ].concat());
    assert_eq!(wire.connack().reason, BAD_AUTHENTICATION_METHOD);
    wire.expect_closed();
    subscriber.expect_silence();
    subscriber.listen("r", 0);
    subscriber.expect_silence();
}

#[test]
fn before_its_connack_a_client_with_a_method_sends_only_auth() {
    let broker = Broker::open();
    let mut subscriber = Wire::join(broker.port(), "subscriber");
    subscriber.listen("#", 0);
    for packet in [publish(0, "t", 0, &[], "x"), subscribe(1, &[], &[("#", 0)])] {
        let mut wire = Wire::open(broker.port());
        wire.send(&[&refusable(CLEAN, "c")[..], &packet].concat());
        assert!(wire.connack().reason >= 0x80);
        wire.expect_closed();
    }
    subscriber.expect_silence();
}

#[test]
fn a_refusal_says_that_no_session_is_present_and_closes() {
    let broker = Broker::open();
    Wire::keep(broker.port(), "c").leave();
    Wire::refused(broker.port(), &refusable(0, "c"), BAD_AUTHENTICATION_METHOD);
    // It was there all the time.
    let (_, connack) = Wire::let_in(broker.port(), &keeping(0, "c"));
    assert_eq!(connack.flags, 1);
}

#[test]
fn every_connack_has_a_reason_that_exists() {
    let broker = Broker::open();
    let known = [
        0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95,
        0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
    ];
    let whole = connect(
        CLEAN | WILL | USERNAME,
        10,
        &[four(SESSION_EXPIRY, 60), user("name", "value")],
        &[
            will("c", &[four(WILL_DELAY, 1)], "t", "x"),
            vec![string("user")],
        ]
        .concat(),
    );
    let mut seen = HashSet::new();
    for at in 2..whole.len() {
        for value in [0x00, 0x7F, 0xFF] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            let mut wire = Wire::open(broker.port());
            // What is missing, or too much, comes to an end.
            bytes.extend([0xE0, 0]);
            wire.send(&bytes);
            let first = wire.next();
            while wire.next().is_some() {}
            if let Some(connack) = first {
                assert_eq!(connack[0], 0x20, "{}", hex(&connack));
                assert!(known.contains(&connack[3]) || connack == [0x20, 2, 0, 1]);
                seen.insert(connack[3]);
            }
        }
    }
    assert!(seen.len() >= 4, "different answers came: {seen:?}");
}

#[test]
fn every_qos_is_served_and_no_maximum_told() {
    let broker = Broker::open();
    let (mut wire, connack) = Wire::let_in(broker.port(), &connect(CLEAN, 0, &[], &[string("c")]));
    assert_eq!(connack.properties.get(MAXIMUM_QOS), None);
    wire.send(&subscribe(1, &[], &[("0", 0), ("1", 1), ("2", 2)]));
    wire.expect(&answer(SUBACK, 1, &[0, 1, 2]));
    let mut publisher = Wire::join(broker.port(), "publisher");
    for (topic, flags) in [("0", 0), ("1", QOS1), ("2", QOS2)] {
        publisher.deliver(flags, topic, "x");
        let message = wire.message();
        assert_eq!(message.flags, flags);
        wire.acknowledge(&message);
    }
}

#[test]
fn retained_messages_are_served_and_their_absence_not_told() {
    let broker = Broker::open();
    let (mut wire, connack) = Wire::let_in(broker.port(), &connect(CLEAN, 0, &[], &[string("c")]));
    assert_ne!(connack.properties.number(RETAIN_AVAILABLE), Some(0));
    wire.deliver(RETAIN, "t", "x");
    wire.listen("t", 0);
    assert_eq!(wire.message_of("x").flags, RETAIN);
}

#[test]
fn a_packet_larger_than_the_broker_takes_ends_the_connection() {
    let broker = Broker::configured("[limits]\nmax_packet_bytes = 1024\n");
    let (mut wire, connack) = Wire::let_in(broker.port(), &connect(CLEAN, 0, &[], &[string("c")]));
    assert_eq!(connack.properties.number(MAXIMUM_PACKET_SIZE), Some(1024));
    // 3 bytes of fixed header, 3 of topic, 1 of property length.
    let largest = publish(0, "t", 0, &[], &"x".repeat(1024 - 7));
    assert_eq!(largest.len(), 1024);
    wire.send(&largest);
    wire.settle();
    wire.send_in_vain(&publish(0, "t", 0, &[], &"x".repeat(1024 - 6)));
    wire.expect_disconnect(PACKET_TOO_LARGE);
}

#[test]
fn topic_aliases_are_taken_up_to_the_maximum_and_not_above() {
    let broker = Broker::configured("[session]\ntopic_alias_maximum = 3\n");
    let mut subscriber = Wire::join(broker.port(), "subscriber");
    subscriber.listen("t/#", 0);
    let (mut wire, connack) = Wire::let_in(broker.port(), &connect(CLEAN, 0, &[], &[string("c")]));
    assert_eq!(connack.properties.number(TOPIC_ALIAS_MAXIMUM), Some(3));
    for alias in 1..=3 {
        let with = [two(TOPIC_ALIAS, alias)];
        wire.send(&publish(0, &format!("t/{alias}"), 0, &with, "first"));
        wire.send(&publish(0, "", 0, &with, "again"));
        for payload in ["first", "again"] {
            assert_eq!(subscriber.message_of(payload).topic, format!("t/{alias}"));
        }
    }
    wire.send(&publish(0, "t/4", 0, &[two(TOPIC_ALIAS, 4)], "x"));
    wire.expect_disconnect(TOPIC_ALIAS_INVALID);
    subscriber.expect_silence();
}

#[test]
fn where_no_alias_maximum_is_told_none_is_taken() {
    let broker = Broker::configured("[session]\ntopic_alias_maximum = 0\n");
    let (mut wire, connack) = Wire::let_in(broker.port(), &connect(CLEAN, 0, &[], &[string("c")]));
    assert_eq!(
        connack.properties.number(TOPIC_ALIAS_MAXIMUM).unwrap_or(0),
        0
    );
    wire.send(&publish(0, "t", 0, &[two(TOPIC_ALIAS, 1)], "x"));
    wire.expect_disconnect(TOPIC_ALIAS_INVALID);
}

#[test]
fn a_client_silent_for_one_and_a_half_keep_alives_is_gone() {
    let broker = Broker::open();
    let mut watcher = Wire::join(broker.port(), "watcher");
    watcher.listen("will", 0);
    let fields = will("c", &[], "will", "gone");
    let begun = Instant::now();
    let (mut wire, connack) = Wire::let_in(broker.port(), &connect(CLEAN | WILL, 1, &[], &fields));
    // The client's own keep-alive counts.
    assert_eq!(connack.properties.get(SERVER_KEEP_ALIVE), None);
    wire.expect_disconnect(KEEP_ALIVE_TIMEOUT);
    assert!(begun.elapsed() >= Duration::from_millis(1500));
    // As if the network had failed.
    watcher.message_of("gone");
}

#[test]
fn no_packet_is_larger_than_the_client_takes() {
    let broker = Broker::open();
    let mut small = Wire::join_with(broker.port(), "small", &[four(MAXIMUM_PACKET_SIZE, 50)]);
    small.listen("t", 2);
    let mut publisher = Wire::join(broker.port(), "publisher");
    for flags in [0, QOS1, QOS2] {
        // 2 bytes of fixed header, 3 of topic, 1 of property length, 2 of identifier.
        let room = if flags == 0 { 44 } else { 42 };
        publisher.deliver(flags, "t", &"x".repeat(room));
        publisher.deliver(flags, "t", &"y".repeat(room + 1));
        publisher.deliver(flags, "t", "z");
        // The one in the middle is left out, and holds up nothing.
        let largest = small.message_of(&"x".repeat(room));
        let last = small.message_of("z");
        small.acknowledge(&largest);
        small.acknowledge(&last);
    }
    small.expect_silence();
}

#[test]
fn a_message_too_large_takes_no_place_in_the_window() {
    let broker = Broker::open();
    let terms = [four(MAXIMUM_PACKET_SIZE, 50), two(RECEIVE_MAXIMUM, 1)];
    let mut small = Wire::join_with(broker.port(), "small", &terms);
    small.listen("t", 1);
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.deliver(QOS1, "t", &"y".repeat(100));
    publisher.deliver(QOS1, "t", "z");
    small.message_of("z");
}

#[test]
fn topic_aliases_are_sent_up_to_the_clients_maximum() {
    let broker = Broker::open();
    let mut publisher = Wire::join(broker.port(), "publisher");
    let mut without = Wire::join(broker.port(), "without");
    let mut zero = Wire::join_with(broker.port(), "zero", &[two(TOPIC_ALIAS_MAXIMUM, 0)]);
    let mut some = Wire::join_with(broker.port(), "some", &[two(TOPIC_ALIAS_MAXIMUM, 2)]);
    for wire in [&mut without, &mut zero, &mut some] {
        wire.listen("t/#", 0);
    }
    let mut used = HashSet::new();
    for round in 0..3 {
        for topic in ["t/1", "t/2", "t/3"] {
            publisher.say(topic, "x");
            for wire in [&mut without, &mut zero] {
                let message = wire.message();
                assert_eq!(message.topic, topic);
                assert_eq!(message.properties.get(TOPIC_ALIAS), None);
            }
            let message = some.message();
            let alias = message.properties.number(TOPIC_ALIAS);
            assert!(
                alias.is_none_or(|alias| (1..=2).contains(&alias)),
                "{alias:?}"
            );
            assert!(
                round > 0 || message.topic == topic,
                "the first time it is named"
            );
            used.extend(alias);
        }
    }
    assert!(!used.is_empty(), "aliases are used");
}

#[test]
fn response_information_comes_only_when_asked_for() {
    let broker = Broker::configured("[protocol]\nresponse_information = \"response/\"\n");
    for (asked, told) in [(None, false), (Some(0), false), (Some(1), true)] {
        let with: Vec<_> = asked
            .map(|asked| byte(REQUEST_RESPONSE_INFORMATION, asked))
            .into_iter()
            .collect();
        let (_, connack) = Wire::let_in(broker.port(), &connect(CLEAN, 0, &with, &[string("c")]));
        let information = connack.properties.get(RESPONSE_INFORMATION);
        assert_eq!(information.is_some(), told, "asked: {asked:?}");
    }
}

#[test]
fn who_wants_no_problem_information_gets_none() {
    let broker = Broker::configured("[limits]\ntopic_levels = 2\n");
    let with = [byte(REQUEST_PROBLEM_INFORMATION, 0)];
    let mut wire = Wire::join_with(broker.port(), "c", &with);
    let refused = |answer: Answer| {
        assert!(
            answer.reasons.iter().any(|reason| *reason >= 0x10),
            "{answer:?}"
        );
        assert_eq!(answer.properties.get(REASON_STRING), None);
        assert_eq!(answer.properties.user(), []);
    };
    wire.send(&publish(QOS1, "$SYS/x", 1, &[], "x"));
    refused(wire.answer());
    wire.send(&publish(QOS2, "$SYS/x", 2, &[], "x"));
    refused(wire.answer());
    wire.send(&ack(PUBREL, 3));
    refused(wire.answer());
    wire.send(&ack(PUBREC, 3));
    refused(wire.answer());
    wire.send(&subscribe(1, &[], &[("a/b/c", 0)]));
    refused(wire.answer());
    wire.send(&unsubscribe(1, &["none"]));
    refused(wire.answer());
}
