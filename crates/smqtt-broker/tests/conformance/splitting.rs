//! TCP may cut a stream anywhere and join what was written apart: the answers are the same.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::harness::{Broker, PATIENCE};
use super::v3_wire::*;

/// Everything that a client of 3.1.1 says from CONNECT to DISCONNECT, with messages to itself in each QoS.
fn session_of_3_1_1() -> Vec<u8> {
    [
        connect_with_will(WILL_RETAIN, "c", "w", "gone"),
        subscribe(0x0102, &[("t/+", 0), ("u", 0)]),
        publish(0, "t/0", None, b"zero"),
        publish(2, "t/1", Some(3), b"one"),
        publish(4, "t/2", Some(4), b"two"),
        PINGREQ.to_vec(),
        ack(PUBREL, 4),
        // A remaining length of two bytes.
        publish(2, "u", Some(5), &[b'x'; 130]),
        unsubscribe(6, &["t/+", "u"]),
        publish(2, "t/1", Some(7), b"unheard"),
        DISCONNECT.to_vec(),
    ]
    .concat()
}

/// The same in MQTT 5.
fn session_of_5_0() -> Vec<u8> {
    let header = [&string("MQTT")[..], &[5, CLEAN, 0, 0]].concat();
    // Session expiry 0, topic alias maximum 0, one user property.
    let properties = [
        &[0x11, 0, 0, 0, 0, 0x22, 0, 0, 0x26][..],
        &string("k"),
        &string("v"),
    ]
    .concat();
    let length = u8::try_from(properties.len()).expect("one byte");
    let publish5 = |flags: u8, topic: &str, id: Option<u16>, payload: &[u8]| {
        let id = id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default();
        // Payload format and content type.
        let properties = [&[0x01, 1, 0x03][..], &string("text")].concat();
        let length = u8::try_from(properties.len()).expect("one byte");
        packet(
            0x30 | flags,
            &[&string(topic), &id, &[length], &properties, payload],
        )
    };
    [
        packet(0x10, &[&header, &[length], &properties, &string("c")]),
        packet(
            0x82,
            &[
                &[1, 2, 2, 0x0B, 9],
                &string("t/+"),
                &[0],
                &string("u"),
                &[0x08],
            ],
        ),
        publish5(0, "t/0", None, b"zero"),
        publish5(2, "t/1", Some(3), b"one"),
        publish5(4, "t/2", Some(4), b"two"),
        PINGREQ.to_vec(),
        ack(PUBREL, 4),
        publish5(2, "u", Some(5), &[b'x'; 130]),
        packet(0xA2, &[&[0, 6, 0], &string("t/+"), &string("u")]),
        publish5(2, "t/1", Some(7), b"unheard"),
        packet(0xE0, &[&[0, 0]]),
    ]
    .concat()
}

/// What the broker answers to the parts, each written on its own: answers, and messages. The two are told apart
/// because the broker may say them in either order.
fn answers(port: u16, parts: &[&[u8]], pause: Duration) -> (Vec<String>, Vec<String>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    stream.set_nodelay(true).expect("nodelay");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    for part in parts {
        stream.write_all(part).expect("the broker reads");
        std::thread::sleep(pause);
    }
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .expect("the end of the connection");
    let mut packets = Vec::new();
    while let Some(length) = packet_length(&bytes) {
        packets.push(bytes.drain(..length).collect::<Vec<u8>>());
    }
    assert_eq!(bytes, [], "whole packets");
    let (messages, answers): (Vec<_>, Vec<_>) = packets
        .into_iter()
        .partition(|packet| packet[0] & 0xF0 == 0x30);
    let shown = |packets: Vec<Vec<u8>>| packets.iter().map(|packet| hex(packet)).collect();
    (shown(answers), shown(messages))
}

fn cut_everywhere(session: &[u8]) {
    let broker = Broker::open();
    let whole = answers(broker.port(), &[session], Duration::ZERO);
    // CONNACK, SUBACK, three PUBACKs, PUBREC, PUBCOMP, PINGRESP, UNSUBACK, and four messages.
    assert_eq!((whole.0.len(), whole.1.len()), (9, 4), "{whole:?}");
    for at in 1..session.len() {
        let (one, two) = session.split_at(at);
        let pause = Duration::from_millis(1);
        assert_eq!(
            answers(broker.port(), &[one, two], pause),
            whole,
            "cut at {at}"
        );
    }
    for size in [1, 2, 3, 7] {
        let parts: Vec<&[u8]> = session.chunks(size).collect();
        let pause = Duration::from_micros(200);
        assert_eq!(
            answers(broker.port(), &parts, pause),
            whole,
            "pieces of {size}"
        );
    }
}

#[test]
fn a_session_of_3_1_1_is_answered_alike_wherever_its_bytes_are_cut() {
    cut_everywhere(&session_of_3_1_1());
}

#[test]
fn a_session_of_5_0_is_answered_alike_wherever_its_bytes_are_cut() {
    cut_everywhere(&session_of_5_0());
}
