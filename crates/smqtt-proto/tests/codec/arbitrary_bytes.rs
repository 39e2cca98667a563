//! Bytes that nobody meant as MQTT are refused, and never do harm.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::*;
use smqtt_proto::packet::{ConnAckProperties, Publish};
use smqtt_proto::{
    Decoder, MqttString, Packet, ProtocolVersion, ReasonCode, Session, client, encode, server,
};

use crate::generate;

/// Decodes as far as it goes. What is decoded can be encoded again, and is then the same.
fn decode_all(decoder: &mut Decoder, bytes: &[u8]) {
    let mut input = BytesMut::from(bytes);
    while let Ok(Some(packet)) = decoder.decode(&mut input) {
        let version = decoder.version().expect("known after a packet");
        if matches!(&packet, Packet::Connect(connect) if connect.version != version) {
            continue; // a second CONNECT, of another version
        }
        let mut again = BytesMut::new();
        encode(&packet, version, &mut again).expect("what was decoded can be encoded");
        let decoded = Decoder::new(version, u32::MAX).decode(&mut again);
        assert_eq!(decoded, Ok(Some(packet)));
    }
}

/// Bytes that begin as a packet does, so that the decoders of all packets are reached.
fn packet_like() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), vec(prop_oneof![any::<u8>(), 0..4_u8], 0..120)).prop_map(|(first, body)| {
        let mut bytes = vec![first, u8::try_from(body.len()).expect("at most 120")];
        bytes.extend(body);
        bytes
    })
}

/// Valid packets with a few bytes changed.
fn damaged() -> impl Strategy<Value = (ProtocolVersion, Vec<u8>)> {
    generate::version()
        .prop_flat_map(|version| {
            let packets = vec(generate::packet(version), 1..4);
            (
                Just(version),
                packets,
                vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            )
        })
        .prop_map(|(version, packets, changes)| {
            let mut bytes = BytesMut::new();
            for packet in &packets {
                encode(packet, version, &mut bytes).expect("generated packets can be encoded");
            }
            let mut bytes = bytes.to_vec();
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            (version, bytes)
        })
}

fn drive_server(bytes: &[u8]) {
    let mut now = Instant::now();
    let mut server = server::Connection::new(Arc::new(server::Config::default()), now);
    for part in bytes.chunks(7) {
        server.handle_input(now, &mut BytesMut::from(part));
        while let Some(event) = server.poll_event() {
            match event {
                server::Event::Connect(_) => {
                    server.accept(now, Session::new(), false, ConnAckProperties::default());
                }
                server::Event::Publish(publish) => {
                    if let Some(id) = publish.packet_id {
                        server.acknowledge(id, ReasonCode::Success);
                    }
                }
                _ => {}
            }
        }
        now += Duration::from_secs(1);
        server.handle_timeout(now);
    }
}

fn drive_client(version: ProtocolVersion, bytes: &[u8]) {
    let now = Instant::now();
    let options = client::Options::new(version, MqttString::new("c").expect("a string"));
    let mut client = client::Connection::new(options, Session::new(), now).expect("encodes");
    client.handle_input(
        now,
        &mut BytesMut::from(&[0x20, 2, 0, 0][..(if version.is_v5() { 0 } else { 4 })]),
    );
    client.handle_input(now, &mut BytesMut::from(bytes));
    while let Some(event) = client.poll_event() {
        if let client::Event::Publish(Publish {
            packet_id: Some(id),
            ..
        }) = event
        {
            client.acknowledge(id, ReasonCode::Success);
        }
    }
}

proptest! {
    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..300)) {
        decode_all(&mut Decoder::for_server(1000), &bytes);
        decode_all(&mut Decoder::new(ProtocolVersion::V3_1_1, u32::MAX), &bytes);
        decode_all(&mut Decoder::new(ProtocolVersion::V5, u32::MAX), &bytes);
    }

    #[test]
    fn noise_in_the_shape_of_packets_never_panics(packets in vec(packet_like(), 1..4)) {
        let bytes = packets.concat();
        decode_all(&mut Decoder::for_server(1000), &bytes);
        decode_all(&mut Decoder::new(ProtocolVersion::V3_1_1, u32::MAX), &bytes);
        decode_all(&mut Decoder::new(ProtocolVersion::V5, u32::MAX), &bytes);
    }

    #[test]
    fn damaged_packets_never_panic((version, bytes) in damaged()) {
        decode_all(&mut Decoder::new(version, u32::MAX), &bytes);
        let mut with_connect = BytesMut::new();
        let connect = client::Options::new(version, MqttString::new("c").expect("a string")).connect;
        encode(&Packet::Connect(Box::new(connect)), version, &mut with_connect).expect("encodes");
        with_connect.extend_from_slice(&bytes);
        drive_server(&with_connect);
        drive_server(&bytes);
        drive_client(version, &bytes);
    }
}
