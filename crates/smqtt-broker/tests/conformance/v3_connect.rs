//! CONNECT and CONNACK: 3.1 and 3.2 of MQTT 3.1.1. Wills and sessions have files of their own.

use std::time::{Duration, Instant};

use super::harness::{Broker, QUIET};
use super::v3_wire::*;

fn closed_without_connack(port: u16, bytes: &[u8]) {
    let mut wire = Wire::open(port);
    wire.send(bytes);
    if let Some(answer) = wire.next() {
        panic!("{} was answered with {}", hex(bytes), hex(&answer));
    }
}

#[test]
fn a_first_packet_other_than_connect_closes_the_connection() {
    let broker = Broker::open();
    for bytes in [
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
        publish(0, "t", None, b"x"),
        publish(2, "t", Some(1), b"x"),
        subscribe(1, &[("#", 0)]),
        unsubscribe(1, &["#"]),
        ack(PUBREL, 1),
    ] {
        closed_without_connack(broker.port(), &bytes);
    }
}

#[test]
fn a_second_connect_closes_the_connection() {
    let broker = Broker::open();
    let mut wire = Wire::clean(broker.port(), "c");
    wire.send(&connect(CLEAN, "c"));
    wire.expect_closed();
}

#[test]
fn another_protocol_name_closes_the_connection() {
    let broker = Broker::open();
    for name in ["mqtt", "MQT", "MQTT ", "HTTP", ""] {
        let bytes = packet(0x10, &[&string(name), &[4, CLEAN, 0, 0], &string("client")]);
        closed_without_connack(broker.port(), &bytes);
    }
    // MQTT 3.1 had this name. It is another specification, in whose words the client is told so.
    let bytes = packet(
        0x10,
        &[&string("MQIsdp"), &[3, CLEAN, 0, 0], &string("client")],
    );
    let mut wire = Wire::connected(broker.port(), &bytes, &[0x20, 2, 0, 1]);
    wire.expect_closed();
}

#[test]
fn an_unknown_protocol_level_is_refused_with_code_1() {
    let broker = Broker::open();
    for level in [0, 1, 3, 6, 0x84, 0xFF] {
        let mut wire = Wire::open(broker.port());
        wire.send(&packet(
            0x10,
            &[&string("MQTT"), &[level, CLEAN, 0, 0], &string("client")],
        ));
        let answer = wire.receive();
        // Who may speak MQTT 5 is told in its words: unsupported protocol version.
        match level {
            6.. => assert!(
                answer == [0x20, 2, 0, 1] || answer[..4] == [0x20, answer[1], 0, 0x84],
                "{}",
                hex(&answer)
            ),
            _ => assert_eq!(answer, [0x20, 2, 0, 1], "level {level}"),
        }
        wire.expect_closed();
    }
}

#[test]
fn the_reserved_connect_flag_closes_the_connection() {
    let broker = Broker::open();
    closed_without_connack(broker.port(), &connect(CLEAN | 1, "c"));
    closed_without_connack(broker.port(), &connect(1, "c"));
}

#[test]
fn connect_flags_that_contradict_close_the_connection() {
    let broker = Broker::open();
    let id = string("c");
    let text = string("text");
    for (flags, fields) in [
        // A will QoS or will retain without a will.
        (CLEAN | 0x08, vec![&id]),
        (CLEAN | 0x10, vec![&id]),
        (CLEAN | 0x18, vec![&id]),
        (CLEAN | WILL_RETAIN, vec![&id]),
        // Will QoS 3.
        (CLEAN | WILL | 0x18, vec![&id, &text, &text]),
        // A password without a user name.
        (CLEAN | PASSWORD, vec![&id, &text]),
    ] {
        let fields: Vec<&[u8]> = fields.iter().map(|field| &field[..]).collect();
        closed_without_connack(broker.port(), &connect_with(flags, 0, &fields));
    }
}

#[test]
fn fields_that_the_flags_do_not_announce_close_the_connection_and_missing_ones_too() {
    let broker = Broker::open();
    let id = string("c");
    let text = string("text");
    for (flags, fields) in [
        // Too many: a will, a user name, a password that no flag announces.
        (CLEAN, 2),
        (CLEAN, 3),
        (CLEAN | USERNAME, 3),
        (CLEAN | WILL, 4),
        // Too few: of a will of two fields, a user name, a password; no client identifier at all.
        (CLEAN | WILL, 1),
        (CLEAN | WILL, 2),
        (CLEAN | USERNAME, 1),
        (CLEAN | USERNAME | PASSWORD, 2),
        (CLEAN | WILL | USERNAME, 3),
        (CLEAN, 0),
    ] {
        let payload: Vec<&[u8]> = [&id[..], &text, &text, &text][..fields].to_vec();
        closed_without_connack(broker.port(), &connect_with(flags, 0, &payload));
    }
}

#[test]
fn the_fields_of_a_connect_are_read_in_their_order() {
    let broker = Broker::open();
    let mut watcher = Wire::clean(broker.port(), "watcher");
    watcher.subscribe("#", 0);
    let fields: [&[u8]; 5] = [
        &string("the-id"),
        &string("the/topic"),
        &string("the message"),
        &string("the-user"),
        &string("the-password"),
    ];
    let everything = connect_with(CLEAN | WILL | USERNAME | PASSWORD, 0, &fields);
    let mut wire = Wire::connected(broker.port(), &everything, &WELCOME);
    wire.settle();
    // The first field is the client identifier: who comes with the same takes over.
    let mut second = Wire::clean(broker.port(), "the-id");
    wire.expect_closed();
    watcher.expect_publish(0, "the/topic", b"the message");
    second.settle();
}

#[test]
fn client_identifiers_of_letters_and_digits_are_allowed() {
    let broker = Broker::open();
    let all = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for id in ["0", "z", &all[..23], &all[20..43], &all[39..]] {
        Wire::clean(broker.port(), id).settle();
    }
}

#[test]
fn a_client_without_identifier_gets_one_of_its_own() {
    let broker = Broker::open();
    let mut first = Wire::clean(broker.port(), "");
    let mut second = Wire::clean(broker.port(), "");
    // Were they one client, the second would have taken the first one's place.
    first.subscribe("t", 0);
    second.send(&publish(0, "t", None, b"from the other"));
    first.expect_publish(0, "t", b"from the other");
    first.settle();
    second.settle();
}

#[test]
fn a_kept_session_without_identifier_is_refused_with_code_2() {
    let broker = Broker::open();
    let mut wire = Wire::connected(broker.port(), &connect(0, ""), &[0x20, 2, 0, 2]);
    wire.expect_closed();
}

#[test]
fn nothing_after_a_refused_connect_is_processed() {
    let broker = Broker::open();
    let mut watcher = Wire::clean(broker.port(), "watcher");
    watcher.subscribe("t", 0);
    let mut wire = Wire::open(broker.port());
    wire.send(&[connect(0, ""), publish(1, "t", None, b"unheard")].concat());
    wire.expect(&[0x20, 2, 0, 2]);
    wire.expect_closed();
    // It is not stored either.
    Wire::clean(broker.port(), "late").subscribe("t", 0);
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(0, "t", None, b"heard"));
    watcher.expect_publish(0, "t", b"heard");
}

#[test]
fn a_client_that_comes_again_takes_the_place_of_the_first() {
    let broker = Broker::open();
    for flags in [CLEAN, 0] {
        let mut first = Wire::clean(broker.port(), "same");
        let mut second = Wire::connected(broker.port(), &connect(flags, "same"), &WELCOME);
        first.expect_closed();
        second.settle();
    }
}

#[test]
fn the_first_packet_from_the_broker_is_the_connack() {
    let broker = Broker::open();
    let mut session = Wire::kept(broker.port(), "sub");
    session.subscribe("t", 1);
    session.leave();
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(2, "t", Some(1), b"waiting"));
    publisher.expect(&ack(PUBACK, 1));
    // Much could be said: a message waits, and a ping and a subscription come without waiting for the CONNACK.
    let mut wire = Wire::open(broker.port());
    wire.send(
        &[
            connect(0, "sub"),
            PINGREQ.to_vec(),
            subscribe(7, &[("u", 0)]),
        ]
        .concat(),
    );
    wire.expect(&WELCOME_BACK);
    let mut rest = [wire.receive(), wire.receive(), wire.receive()].map(|packet| packet[0] & 0xF0);
    rest.sort_unstable();
    assert_eq!(rest, [0x30, 0x90, 0xD0]);
}

#[test]
fn session_present_tells_whether_there_was_one() {
    let broker = Broker::open();
    // `kept`, `resumed` and `clean` each expect their CONNACK.
    Wire::kept(broker.port(), "c").leave();
    Wire::resumed(broker.port(), "c").vanish();
    Wire::resumed(broker.port(), "c").leave();
    Wire::clean(broker.port(), "c").leave();
    Wire::kept(broker.port(), "c").leave();
}

#[test]
fn refusals_say_that_no_session_is_present_and_close_the_connection() {
    let broker = Broker::open();
    Wire::kept(broker.port(), "c").leave();
    let level_3 = packet(0x10, &[&string("MQTT"), &[3, 0, 0, 0], &string("c")]);
    for (bytes, code) in [(connect(0, ""), 2), (level_3, 1)] {
        let mut wire = Wire::connected(broker.port(), &bytes, &[0x20, 2, 0, code]);
        wire.expect_closed();
    }
    Wire::resumed(broker.port(), "c").settle();
}

#[test]
fn a_silent_client_is_disconnected_after_one_and_a_half_keep_alives() {
    let broker = Broker::open();
    let begin = Instant::now();
    let mut silent = Wire::connected(
        broker.port(),
        &connect_with(CLEAN, 1, &[&string("silent")]),
        &WELCOME,
    );
    let mut timeless = Wire::clean(broker.port(), "timeless");
    silent.expect_closed();
    assert!(begin.elapsed() >= Duration::from_millis(1500));
    // Without a keep-alive nobody waits for anything.
    timeless.settle();
}

#[test]
fn pings_are_answered_and_keep_the_connection() {
    let broker = Broker::open();
    let mut wire = Wire::connected(
        broker.port(),
        &connect_with(CLEAN, 2, &[&string("c")]),
        &WELCOME,
    );
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_millis(3500) {
        wire.settle();
        std::thread::sleep(QUIET);
    }
}
