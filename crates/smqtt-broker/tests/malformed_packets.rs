//! Bytes that are not MQTT end the connection, with the reason on MQTT 5, and nothing else.

mod harness;

use harness::{Broker, Client, Options};
use smqtt_proto::{ProtocolVersion, QoS, ReasonCode};

#[test]
fn malformed_packets_end_the_connection_with_their_reason() {
    let broker = Broker::configured("[limits]\nmax_packet_bytes = 2000\n");
    let cases: &[(&[u8], ReasonCode)] = &[
        // Packet type 0.
        (&[0x00, 0], ReasonCode::MalformedPacket),
        // Reserved flags of SUBSCRIBE.
        (&[0x80, 5, 0, 1, 0, 0, 0], ReasonCode::MalformedPacket),
        // QoS 3.
        (&[0x36, 4, 0, 1, b't', 0], ReasonCode::MalformedPacket),
        // A remaining length of five bytes.
        (
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1],
            ReasonCode::MalformedPacket,
        ),
        // A topic that is not UTF-8.
        (&[0x30, 4, 0, 1, 0xFF, 0], ReasonCode::MalformedPacket),
        // Packet identifier 0.
        (&[0x32, 6, 0, 1, b't', 0, 0, 0], ReasonCode::MalformedPacket),
        // A packet that is announced larger than allowed, of which nothing more comes.
        (&[0x30, 0xFF, 0xFF, 0x7F], ReasonCode::PacketTooLarge),
        // A second CONNECT.
        (
            &[
                0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, 1, b'c',
            ],
            ReasonCode::ProtocolError,
        ),
        // What only servers send.
        (&[0x20, 3, 0, 0, 0], ReasonCode::ProtocolError),
        // AUTH where none was agreed on.
        (&[0xF0, 0], ReasonCode::ProtocolError),
    ];
    for (bytes, reason) in cases {
        let mut client = Client::connect(broker.port(), Options::v5("c"));
        client.send_bytes(bytes);
        client.expect_disconnect(*reason);
    }
    for bytes in [
        &[0x00, 0][..],
        &[0x36, 3, 0, 1, b't'],
        &[0xF0, 0],
        &[0x82, 2, 0, 1],
    ] {
        let mut client = Client::connect(broker.port(), Options::v3("c"));
        client.send_bytes(bytes);
        client.expect_closed();
    }
    // All others are as well as ever.
    Client::connect(broker.port(), Options::v5("well")).settle();
}

#[test]
fn what_came_before_the_malformed_packet_counts() {
    let broker = Broker::open();
    let mut subscriber = Client::connect(broker.port(), Options::v5("sub"));
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    client.send_bytes(&[0x30, 5, 0, 1, b't', 0, b'x', 0x00, 0x00]);
    client.expect_disconnect(ReasonCode::MalformedPacket);
    assert_eq!(subscriber.receive_text(), "x");
}

#[test]
fn a_stream_that_does_not_begin_with_connect_is_closed() {
    let broker = Broker::open();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xC0, 0],
        &[0x30, 4, 0, 1, b't', b'x'],
        &[0x10, 2, 0, 4, 9],
    ] {
        let mut client = Client::raw(broker.port(), ProtocolVersion::V5);
        client.send_bytes(bytes);
        if bytes != [0x10, 2, 0, 4, 9] {
            client.expect_closed();
            continue;
        }
        // A CONNECT that ends too early may be answered with a CONNACK of the reason.
        while client.try_receive().is_some() {}
    }
}

#[test]
fn packets_arrive_however_the_stream_is_cut() {
    let broker = Broker::open();
    let mut subscriber = Client::connect(broker.port(), Options::v5("sub"));
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    let packet = [0x30, 5, 0, 1, b't', 0, b'x'];
    for step in [1, 2, 3, 5, 11] {
        for part in packet.repeat(4).chunks(step) {
            client.send_bytes(part);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!([0; 4].map(|_| subscriber.receive_text()), ["x"; 4]);
    }
}
