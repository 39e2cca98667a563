//! Well-formed packets in the wrong place: on MQTT 5.0 answered with a DISCONNECT, on MQTT 3.1.1 closed.

use smqtt_proto::packet::Connect;
use smqtt_proto::{
    Closed, PacketType, ProtocolVersion, QoS, ReasonCode, Violation, client, server,
};

use crate::pair::*;

const V5: ProtocolVersion = ProtocolVersion::V5;

#[track_caller]
fn violates(mut alone: Alone, wire: &[u8], violation: Violation) {
    let version = alone.server.version();
    alone.feed(wire);
    let reason = violation.reason_code();
    assert_eq!(
        alone.events().last(),
        Some(&server::Event::Closed(Closed::Violation(violation)))
    );
    let written = alone.written();
    if version == Some(V5) {
        assert!(
            written.ends_with(&[0xE0, 1, reason.as_u8()]),
            "{written:02X?}"
        );
    } else {
        assert!(!written.contains(&0xE0), "{written:02X?}");
    }
    assert!(alone.server.is_closed());
}

/// MQTT 5.0 §4.13.1, [MQTT-4.8.0-1] of 3.1.1
#[test]
fn packets_that_only_servers_send() {
    for version in VERSIONS {
        let tail: &[u8] = if version.is_v5() { b"\x00" } else { b"" };
        for (wire, packet) in [
            (
                [b"\x20\x02\x00\x00"[..].to_vec(), Vec::new()].concat(),
                PacketType::ConnAck,
            ),
            (
                [b"\x90\x03\x00\x01\x00"[..].to_vec(), Vec::new()].concat(),
                PacketType::SubAck,
            ),
            (b"\xD0\x00".to_vec(), PacketType::PingResp),
        ] {
            let mut wire = wire;
            if packet != PacketType::PingResp {
                wire.extend_from_slice(tail);
                wire[1] += u8::try_from(tail.len()).expect("short");
            }
            let alone = Alone::open(version, server::Config::default());
            violates(alone, &wire, Violation::UnexpectedPacket { packet });
        }
    }
}

#[test]
fn packets_that_only_clients_send() {
    for version in VERSIONS {
        for (wire, packet) in [
            (&b"\xC0\x00"[..], PacketType::PingReq),
            (&b"\x20\x02\x00\x00"[..], PacketType::ConnAck),
        ] {
            if version.is_v5() && packet == PacketType::ConnAck {
                continue; // of another shape there, and the same rule
            }
            let mut pair = Pair::connected(version);
            pair.client.handle_input(pair.now, &mut wire.into());
            pair.drain_client();
            let closed = Closed::Violation(Violation::UnexpectedPacket { packet });
            assert_eq!(pair.client_events, [client::Event::Closed(closed)]);
        }
    }
}

/// MQTT 5.0 §4.3: each step has its own packet.
#[test]
fn acknowledgements_of_the_wrong_kind() {
    for version in VERSIONS {
        for (qos, first, packet) in [
            (QoS::AtLeastOnce, 0x50, PacketType::PubRec),
            (QoS::AtLeastOnce, 0x70, PacketType::PubComp),
            (QoS::ExactlyOnce, 0x40, PacketType::PubAck),
            (QoS::ExactlyOnce, 0x70, PacketType::PubComp),
        ] {
            let mut alone = Alone::open(version, server::Config::default());
            let message = message("x", alone.now);
            let delivery = smqtt_proto::Delivery::new(qos);
            let packet_id = alone
                .server
                .publish(alone.now, &message, delivery)
                .expect("sent")
                .expect("an id");
            let violation = Violation::WrongAcknowledgement { packet, packet_id };
            violates(alone, &[first, 2, 0, 1], violation);
        }
    }
}

/// A PUBREL before its PUBREC: the sender can't know that the message arrived.
#[test]
fn a_release_before_the_receipt() {
    let mut alone = Alone::open(V5, server::Config::default());
    alone.feed(b"\x34\x06\x00\x01t\x00\x07\x00");
    assert_eq!(alone.events().len(), 1);
    let violation = Violation::WrongAcknowledgement {
        packet: PacketType::PubRel,
        packet_id: id(7),
    };
    violates(alone, b"\x62\x02\x00\x07", violation);
}

/// [MQTT-3.3.4-6]
#[test]
fn a_clients_publish_with_a_subscription_identifier() {
    let alone = Alone::open(V5, server::Config::default());
    violates(
        alone,
        b"\x30\x06\x00\x01t\x02\x0B\x01",
        Violation::SubscriptionIdInPublish,
    );
}

fn with_expiry(seconds: Option<u32>) -> Connect {
    let mut connect = options(V5).connect;
    connect.properties.session_expiry_interval = seconds;
    connect
}

/// MQTT 5.0 §3.14.2.2.2
#[test]
fn a_session_that_was_to_end_can_not_be_kept_by_disconnect() {
    let wire = b"\xE0\x07\x00\x05\x11\x00\x00\x00\x01";
    for seconds in [None, Some(0)] {
        let alone = Alone::open_as(with_expiry(seconds), server::Config::default());
        violates(alone, wire, Violation::SessionExpiryAfterZero);
    }
    let mut alone = Alone::open_as(with_expiry(Some(5)), server::Config::default());
    alone.feed(wire);
    assert!(
        matches!(&alone.events()[..], [server::Event::Closed(Closed::Disconnected(disconnect))]
        if disconnect.properties.session_expiry_interval == Some(1))
    );
}

/// MQTT 5.0 §3.14.2.1: whose reasons are whose.
#[test]
fn a_client_can_not_disconnect_for_a_servers_reason() {
    for reason in [
        ReasonCode::ServerShuttingDown,
        ReasonCode::SessionTakenOver,
        ReasonCode::KeepAliveTimeout,
    ] {
        let alone = Alone::open(V5, server::Config::default());
        violates(
            alone,
            &[0xE0, 1, reason.as_u8()],
            Violation::ForeignDisconnectReason { reason },
        );
    }
    let mut alone = Alone::open(V5, server::Config::default());
    alone.feed(b"\xE0\x01\x04");
    assert!(
        matches!(&alone.events()[..], [server::Event::Closed(Closed::Disconnected(disconnect))]
        if disconnect.reason == ReasonCode::DisconnectWithWill)
    );
}

/// What came before the malformed packet is handled, what comes after it is not.
#[test]
fn a_stream_is_used_up_to_its_first_error() {
    let mut alone = Alone::open(V5, server::Config::default());
    alone.feed(b"\x30\x05\x00\x01t\x00x\xC0\x00\xC0\x01\x00\x30\x05\x00\x01t\x00y");
    let events = alone.events();
    assert!(matches!(
        &events[..],
        [
            server::Event::Publish(_),
            server::Event::Closed(Closed::Violation(_))
        ]
    ));
    assert_eq!(alone.written(), b"\xD0\x00\xE0\x01\x81");
}

#[test]
fn a_stream_that_ends_without_disconnect_is_told_apart() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        pair.server.handle_end_of_stream();
        pair.drain_server();
        assert_eq!(
            pair.server_events,
            [server::Event::Closed(Closed::EndOfStream)]
        );
        pair.client.handle_end_of_stream();
        pair.drain_client();
        assert_eq!(
            pair.client_events,
            [client::Event::Closed(Closed::EndOfStream)]
        );
    }
}
