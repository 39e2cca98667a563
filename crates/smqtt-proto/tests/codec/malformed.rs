//! What the specifications forbid is refused, each rule with its own error and reason code.

use bytes::BytesMut;
use smqtt_proto::DecodeError as E;
use smqtt_proto::PacketType as T;
use smqtt_proto::ReasonCode::{MalformedPacket, PacketTooLarge, ProtocolError, TopicAliasInvalid};
use smqtt_proto::{Decoder, PropertyId as P, ProtocolVersion, ReasonCode, TextError, TopicError};

const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;
const BOTH: &[ProtocolVersion] = &[V4, V5];

#[track_caller]
fn refused(versions: &[ProtocolVersion], bytes: &[u8], error: E, reason: ReasonCode) {
    for &version in versions {
        let decoded = Decoder::new(version, 1000).decode(&mut BytesMut::from(bytes));
        assert_eq!(decoded, Err(error.clone()), "{version}");
    }
    assert_eq!(error.reason_code(), reason);
    let message = error.to_string();
    assert!(
        message.len() > 10 && !message.ends_with('.'),
        "an operator reads: {message}"
    );
}

/// A packet with this first byte and body.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, u8::try_from(body.len()).expect("short")];
    assert!(bytes[1] < 128, "one byte of remaining length");
    bytes.extend_from_slice(body);
    bytes
}

/// A v5 CONNECT with these properties and nothing else.
fn connect_with(properties: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05\x02\x00\x00".to_vec();
    body.push(u8::try_from(properties.len()).expect("short"));
    body.extend_from_slice(properties);
    body.extend_from_slice(b"\x00\x00");
    packet(0x10, &body)
}

/// A v5 PUBLISH to "t" with these properties.
fn publish_with(properties: &[u8]) -> Vec<u8> {
    let mut body = b"\x00\x01t".to_vec();
    body.push(u8::try_from(properties.len()).expect("short"));
    body.extend_from_slice(properties);
    packet(0x30, &body)
}

#[test]
fn reserved_packet_type() {
    refused(BOTH, b"\x00\x00", E::ReservedPacketType, MalformedPacket);
    // One byte is enough to know.
    refused(BOTH, b"\x0F", E::ReservedPacketType, MalformedPacket);
}

/// [MQTT-2.1.3-1]; [MQTT-2.2.2-1], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1] of 3.1.1
#[test]
fn reserved_flags() {
    for packet in (1..=15)
        .filter_map(T::from_u8)
        .filter(|packet| *packet != T::Publish)
    {
        for flags in (0..16).filter(|flags| *flags != packet.flags()) {
            let first = (packet as u8) << 4 | flags;
            refused(
                BOTH,
                &[first],
                E::ReservedFlags { packet, flags },
                MalformedPacket,
            );
        }
    }
}

/// [MQTT-3.3.1-4]
#[test]
fn publish_with_qos_3() {
    let error = E::InvalidQoS { packet: T::Publish };
    refused(BOTH, &[0x36], error.clone(), MalformedPacket);
    refused(BOTH, &[0x3F], error, MalformedPacket);
}

/// [MQTT-3.3.1-2]
#[test]
fn dup_with_qos_0() {
    refused(BOTH, &[0x38], E::DupWithQoS0, MalformedPacket);
}

/// MQTT 5.0 §2.1.4
#[test]
fn remaining_length_of_five_bytes() {
    refused(
        BOTH,
        b"\x30\xFF\xFF\xFF\xFF",
        E::VariableIntegerTooLong,
        MalformedPacket,
    );
    refused(
        BOTH,
        b"\x30\x80\x80\x80\x80\x01",
        E::VariableIntegerTooLong,
        MalformedPacket,
    );
}

/// [MQTT-1.5.5-1]
#[test]
fn lengths_with_superfluous_bytes() {
    refused(
        &[V5],
        b"\xC0\x80\x00",
        E::VariableIntegerNotMinimal,
        MalformedPacket,
    );
    refused(
        &[V5],
        b"\x30\x05\x00\x01t\x80\x00",
        E::VariableIntegerNotMinimal,
        MalformedPacket,
    );
    let properties = publish_with(b"\x0B\x81\x00");
    refused(
        &[V5],
        &properties,
        E::VariableIntegerNotMinimal,
        MalformedPacket,
    );
    // MQTT 3.1.1 has no such rule.
    let mut input = BytesMut::from(&b"\xC0\x80\x00"[..]);
    assert!(matches!(
        Decoder::new(V4, 1000).decode(&mut input),
        Ok(Some(_))
    ));
}

/// [MQTT-3.1.2-24], [MQTT-3.2.2-15]: refused by the length alone, before anything is stored.
#[test]
fn packets_above_the_limit() {
    let error = E::PacketTooLarge {
        size: 1001,
        limit: 1000,
    };
    refused(BOTH, b"\x30\xE6\x07", error, PacketTooLarge);
    let error = E::PacketTooLarge {
        size: 268_435_460,
        limit: 1000,
    };
    refused(BOTH, b"\x30\xFF\xFF\xFF\x7F", error, PacketTooLarge);
    let decoded = Decoder::new(V5, 1000).decode(&mut BytesMut::from(&b"\x30\xE5\x07"[..]));
    assert_eq!(decoded, Ok(None), "1,000 bytes are not above");
}

/// [MQTT-2.2.1-3], [MQTT-2.2.1-4]; [MQTT-2.3.1-1] of 3.1.1
#[test]
fn packet_identifier_zero() {
    for first in [0x40, 0x50, 0x62, 0x70] {
        let kind = T::from_u8(first >> 4).expect("a packet type");
        let error = E::ZeroPacketId { packet: kind };
        refused(
            BOTH,
            &packet(first, &[0, 0]),
            error.clone(),
            MalformedPacket,
        );
        refused(&[V5], &packet(first, &[0, 0, 0]), error, MalformedPacket);
    }
    for (first, body) in [
        (0x32, &b"\x00\x01t\x00\x00\x00"[..]),
        (0x34, b"\x00\x01t\x00\x00\x00"),
        (0x82, b"\x00\x00\x00\x00\x01t\x00"),
        (0x90, b"\x00\x00\x00\x00"),
        (0xA2, b"\x00\x00\x00\x00\x01t"),
        (0xB0, b"\x00\x00\x00\x00"),
    ] {
        let kind = T::from_u8(first >> 4).expect("a packet type");
        refused(
            BOTH,
            &packet(first, body),
            E::ZeroPacketId { packet: kind },
            MalformedPacket,
        );
    }
}

#[test]
fn packets_that_end_inside_a_field() {
    for (versions, bytes, packet, field) in [
        (BOTH, &b"\x40\x01\x00"[..], T::PubAck, "packet identifier"),
        (BOTH, b"\x40\x00", T::PubAck, "packet identifier"),
        (BOTH, b"\x30\x00", T::Publish, "topic name"),
        (BOTH, b"\x30\x03\x00\x05t", T::Publish, "topic name"),
        (
            BOTH,
            b"\x32\x04\x00\x01t\x00",
            T::Publish,
            "packet identifier",
        ),
        (&[V5], b"\x30\x03\x00\x01t", T::Publish, "property length"),
        (&[V5], b"\x30\x04\x00\x01t\x05", T::Publish, "properties"),
        (
            &[V5],
            b"\x30\x06\x00\x01t\x02\x02\x00",
            T::Publish,
            "message expiry interval",
        ),
        (
            &[V4],
            b"\x82\x05\x00\x01\x00\x01t",
            T::Subscribe,
            "subscription options",
        ),
        (BOTH, b"\x20\x00", T::ConnAck, "acknowledge flags"),
        (&[V4], b"\x20\x01\x00", T::ConnAck, "return code"),
        (&[V5], b"\x20\x02\x00\x00", T::ConnAck, "property length"),
        (BOTH, b"\x10\x00", T::Connect, "protocol name"),
        (BOTH, b"\x10\x06\x00\x04MQTT", T::Connect, "protocol level"),
        (
            BOTH,
            b"\x10\x0A\x00\x04MQTT\x04\x02\x00\x00",
            T::Connect,
            "client identifier",
        ),
        (&[V5], b"\xF0\x01\x18", T::Auth, "property length"),
    ] {
        refused(
            versions,
            bytes,
            E::Truncated { packet, field },
            MalformedPacket,
        );
    }
}

#[test]
fn bytes_after_the_last_field() {
    for (versions, bytes, packet) in [
        (BOTH, &b"\xC0\x01\x00"[..], T::PingReq),
        (BOTH, b"\xD0\x01\x00", T::PingResp),
        (&[V4], b"\x40\x03\x00\x01\x00", T::PubAck),
        (&[V5], b"\x40\x05\x00\x01\x00\x00\x00", T::PubAck),
        (&[V4], b"\xE0\x01\x00", T::Disconnect),
        (&[V5], b"\xE0\x03\x00\x00\x00", T::Disconnect),
        (&[V4], b"\xB0\x03\x00\x01\x00", T::UnsubAck),
        (&[V4], b"\x20\x03\x00\x00\x00", T::ConnAck),
        (
            BOTH,
            b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x00\x00",
            T::Connect,
        ),
    ] {
        refused(
            versions,
            bytes,
            E::TrailingBytes { packet, count: 1 },
            MalformedPacket,
        );
    }
}

/// [MQTT-1.5.4-1]
#[test]
fn ill_formed_utf_8() {
    for text in [
        &b"\xFF"[..],
        b"\xC0\x80",         // U+0000, overlong
        b"\xED\xA0\x80",     // the surrogate U+D800
        b"\xED\xBF\xBF",     // the surrogate U+DFFF
        b"\xF4\x90\x80\x80", // above U+10FFFF
        b"\xE2\x82",         // cut
    ] {
        let mut body = vec![0, u8::try_from(text.len()).expect("short")];
        body.extend_from_slice(text);
        let error = E::Text {
            packet: T::Publish,
            field: "topic name",
            error: TextError::NotUtf8,
        };
        refused(&[V4], &packet(0x30, &body), error, MalformedPacket);
        let mut properties = vec![3];
        properties.extend_from_slice(&body);
        let error = E::Text {
            packet: T::Publish,
            field: "content type",
            error: TextError::NotUtf8,
        };
        refused(&[V5], &publish_with(&properties), error, MalformedPacket);
    }
}

/// [MQTT-1.5.4-2]; [MQTT-1.5.3-2] of 3.1.1
#[test]
fn null_characters() {
    let null = |packet, field| E::Text {
        packet,
        field,
        error: TextError::Null,
    };
    refused(
        BOTH,
        b"\x30\x05\x00\x03a\x00b",
        null(T::Publish, "topic name"),
        MalformedPacket,
    );
    let connect = b"\x10\x0D\x00\x04MQTT\x04\x02\x00\x00\x00\x01\x00";
    refused(
        BOTH,
        connect,
        null(T::Connect, "client identifier"),
        MalformedPacket,
    );
    let subscribe = b"\x82\x06\x00\x01\x00\x01\x00\x00";
    refused(
        &[V4],
        subscribe,
        null(T::Subscribe, "topic filter"),
        MalformedPacket,
    );
    let user = publish_with(b"\x26\x00\x01\x00\x00\x00");
    refused(
        &[V5],
        &user,
        null(T::Publish, "user property name"),
        MalformedPacket,
    );
}

/// [MQTT-3.3.2-2], [MQTT-4.7.1-1], [MQTT-4.7.3-1]
#[test]
fn topic_names_that_are_none() {
    let not = |error| E::Topic {
        packet: T::Publish,
        field: "topic name",
        error,
    };
    refused(
        BOTH,
        b"\x30\x03\x00\x01+",
        not(TopicError::WildcardInName),
        MalformedPacket,
    );
    refused(
        BOTH,
        b"\x30\x05\x00\x03a/#",
        not(TopicError::WildcardInName),
        MalformedPacket,
    );
    refused(
        &[V4],
        b"\x30\x02\x00\x00",
        not(TopicError::Empty),
        MalformedPacket,
    );
    let will = |error| E::Topic {
        packet: T::Connect,
        field: "will topic",
        error,
    };
    let connect = b"\x10\x11\x00\x04MQTT\x04\x06\x00\x00\x00\x00\x00\x01+\x00\x00";
    refused(
        BOTH,
        connect,
        will(TopicError::WildcardInName),
        MalformedPacket,
    );
}

/// [MQTT-3.3.2-8]
#[test]
fn neither_topic_nor_alias() {
    refused(&[V5], b"\x30\x03\x00\x00\x00", E::NoTopic, ProtocolError);
}

/// [MQTT-3.3.2-14]
#[test]
fn response_topics_with_wildcards() {
    let error = E::ResponseTopic {
        packet: T::Publish,
        error: TopicError::WildcardInName,
    };
    refused(&[V5], &publish_with(b"\x08\x00\x01#"), error, ProtocolError);
}

/// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1], [MQTT-4.8.2-1], [MQTT-4.8.2-2]
#[test]
fn topic_filters_that_are_none() {
    for (filter, error) in [
        (&b""[..], TopicError::Empty),
        (b"a/#/b", TopicError::MisplacedHash),
        (b"a#", TopicError::MisplacedHash),
        (b"a+/b", TopicError::MisplacedPlus),
        (b"$share/g", TopicError::MalformedShare),
        (b"$share//t", TopicError::MalformedShare),
        (b"$share/g+/t", TopicError::MalformedShare),
        (b"$share/g/", TopicError::MalformedShare),
    ] {
        let mut body = vec![0, 1, 0, u8::try_from(filter.len()).expect("short")];
        body.extend_from_slice(filter);
        let unsubscribe = packet(0xA2, &body);
        body.push(0);
        let subscribe = packet(0x82, &body);
        let field = "topic filter";
        refused(
            &[V4],
            &subscribe,
            E::Topic {
                packet: T::Subscribe,
                field,
                error,
            },
            MalformedPacket,
        );
        let wrong = E::Topic {
            packet: T::Unsubscribe,
            field,
            error,
        };
        refused(&[V4], &unsubscribe, wrong, MalformedPacket);
    }
}

/// [MQTT-3.8.3-2], [MQTT-3.10.3-2]; [MQTT-3.8.3-3], [MQTT-3.10.3-2] of 3.1.1
#[test]
fn requests_about_nothing() {
    for (first, kind) in [(0x82, T::Subscribe), (0xA2, T::Unsubscribe)] {
        let error = E::NoSubscriptions { packet: kind };
        refused(&[V4], &packet(first, &[0, 1]), error.clone(), ProtocolError);
        refused(&[V5], &packet(first, &[0, 1, 0]), error, ProtocolError);
    }
}

/// [MQTT-3.8.3-5]; [MQTT-3-8.3-4] of 3.1.1
#[test]
fn reserved_bits_of_subscription_options() {
    let field = "subscription options";
    for value in [0x40, 0x80] {
        let error = E::ReservedBits {
            packet: T::Subscribe,
            field,
            value,
        };
        let bytes = [0x82, 7, 0, 1, 0, 0, 1, b't', value];
        refused(&[V5], &bytes, error, MalformedPacket);
    }
    for value in [0x04, 0x08, 0x10, 0x20, 0x40, 0x80] {
        let error = E::ReservedBits {
            packet: T::Subscribe,
            field,
            value,
        };
        let bytes = [0x82, 6, 0, 1, 0, 1, b't', value];
        refused(&[V4], &bytes, error, MalformedPacket);
    }
}

/// MQTT 5.0 §3.8.3.1, [MQTT-3.8.3-4]
#[test]
fn subscription_options_that_do_not_exist() {
    let bytes = |options| [0x82, 7, 0, 1, 0, 0, 1, b't', options];
    let error = |field| E::SubscriptionOption { field };
    refused(&[V5], &bytes(0x03), error("maximum QoS"), ProtocolError);
    refused(&[V5], &bytes(0x30), error("retain handling"), ProtocolError);
    refused(
        &[V4],
        &[0x82, 6, 0, 1, 0, 1, b't', 3],
        error("maximum QoS"),
        ProtocolError,
    );
    let shared = b"\x82\x10\x00\x01\x00\x00\x0A$share/g/t\x04";
    refused(&[V5], shared, E::NoLocalOnSharedSubscription, ProtocolError);
}

/// [MQTT-3.1.0-1]
#[test]
fn a_first_packet_that_is_not_connect() {
    for (bytes, packet) in [
        (b"\xC0\x00", T::PingReq),
        (b"\xF0\x00", T::Auth),
        (b"\xE0\x00", T::Disconnect),
    ] {
        let decoded = Decoder::for_server(1000).decode(&mut BytesMut::from(&bytes[..]));
        assert_eq!(decoded, Err(E::ConnectExpected { packet }));
    }
    assert_eq!(
        E::ConnectExpected { packet: T::Auth }.reason_code(),
        ProtocolError
    );
}

/// [MQTT-3.1.2-1], [MQTT-3.1.2-2]
#[test]
fn other_protocols_and_levels() {
    let unsupported = ReasonCode::UnsupportedProtocolVersion;
    refused(
        BOTH,
        &packet(0x10, b"\x00\x04HTTP\x04\x02\x00\x00\x00\x00"),
        E::UnknownProtocolName,
        unsupported,
    );
    refused(
        BOTH,
        &packet(0x10, b"\x00\x04mqtt\x04\x02\x00\x00\x00\x00"),
        E::UnknownProtocolName,
        unsupported,
    );
    for level in [0, 3, 6, 0x84] {
        let body = [0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0, 0, 0];
        refused(
            BOTH,
            &packet(0x10, &body),
            E::UnsupportedProtocolLevel { level },
            unsupported,
        );
    }
    let level_3_1 = packet(0x10, b"\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00");
    refused(
        BOTH,
        &level_3_1,
        E::UnsupportedProtocolLevel { level: 3 },
        unsupported,
    );
}

/// [MQTT-3.1.2-3], [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13]; [MQTT-3.1.2-22] of 3.1.1
#[test]
fn connect_flags_that_contradict() {
    let connect = |level: u8, flags: u8| {
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 0];
        if level == 5 {
            body.push(0);
        }
        body.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
        packet(0x10, &body)
    };
    for level in [4, 5] {
        let field = "connect flags";
        let reserved = E::ReservedBits {
            packet: T::Connect,
            field,
            value: 0x03,
        };
        refused(BOTH, &connect(level, 0x03), reserved, MalformedPacket);
        refused(
            BOTH,
            &connect(level, 0x08),
            E::WillFlagsWithoutWill,
            MalformedPacket,
        );
        refused(
            BOTH,
            &connect(level, 0x20),
            E::WillFlagsWithoutWill,
            MalformedPacket,
        );
        refused(
            BOTH,
            &connect(level, 0x1C),
            E::InvalidQoS { packet: T::Connect },
            MalformedPacket,
        );
    }
    refused(
        BOTH,
        &connect(4, 0x40),
        E::PasswordWithoutUserName,
        MalformedPacket,
    );
}

/// [MQTT-3.2.2-1], [MQTT-3.2.2-6]; MQTT 3.1.1 §3.2.2.3
#[test]
fn connacks_that_contradict() {
    let error = E::ReservedBits {
        packet: T::ConnAck,
        field: "acknowledge flags",
        value: 2,
    };
    refused(BOTH, b"\x20\x03\x02\x00\x00", error, MalformedPacket);
    refused(
        &[V5],
        b"\x20\x03\x01\x87\x00",
        E::SessionPresentWithError,
        ProtocolError,
    );
    refused(
        &[V4],
        b"\x20\x02\x01\x05",
        E::SessionPresentWithError,
        ProtocolError,
    );
    let error = E::UnknownReasonCode {
        packet: T::ConnAck,
        code: 6,
    };
    refused(&[V4], b"\x20\x02\x00\x06", error, ProtocolError);
}

/// [MQTT-3.2.2-8], [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1], [MQTT-3.9.3-2],
/// [MQTT-3.11.3-2], [MQTT-3.14.2-1], [MQTT-3.15.2-1]
#[test]
fn reason_codes_that_do_not_belong() {
    for (bytes, kind, code) in [
        (&b"\x20\x03\x00\x18\x00"[..], T::ConnAck, 0x18),
        (b"\x40\x03\x00\x01\x01", T::PubAck, 0x01),
        (b"\x40\x03\x00\x01\xFF", T::PubAck, 0xFF),
        (b"\x50\x03\x00\x01\x92", T::PubRec, 0x92),
        (b"\x62\x03\x00\x01\x80", T::PubRel, 0x80),
        (b"\x70\x03\x00\x01\x10", T::PubComp, 0x10),
        (b"\x90\x04\x00\x01\x00\x03", T::SubAck, 0x03),
        (b"\xB0\x04\x00\x01\x00\x01", T::UnsubAck, 0x01),
        (b"\xE0\x01\x01", T::Disconnect, 0x01),
        (b"\xE0\x01\x84", T::Disconnect, 0x84),
        (b"\xF0\x02\x01\x00", T::Auth, 0x01),
    ] {
        refused(
            &[V5],
            bytes,
            E::UnknownReasonCode { packet: kind, code },
            ProtocolError,
        );
    }
    let error = E::UnknownReasonCode {
        packet: T::SubAck,
        code: 0x87,
    };
    refused(&[V4], b"\x90\x03\x00\x01\x87", error, ProtocolError);
}

/// MQTT 5.0 §2.2.2.2
#[test]
fn properties_that_do_not_belong() {
    let unknown = |packet, id| E::UnknownProperty { packet, id };
    for id in [0x00, 0x04, 0x7F] {
        let error = unknown(T::Publish, id);
        refused(
            &[V5],
            &publish_with(&[u8::try_from(id).expect("short")]),
            error,
            MalformedPacket,
        );
    }
    refused(
        &[V5],
        &publish_with(b"\x80\x01"),
        unknown(T::Publish, 128),
        MalformedPacket,
    );
    let misplaced = |packet, property| E::MisplacedProperty { packet, property };
    for (bytes, error) in [
        (
            publish_with(b"\x21\x00\x01"),
            misplaced(T::Publish, P::ReceiveMaximum),
        ),
        (
            connect_with(b"\x23\x00\x01"),
            misplaced(T::Connect, P::TopicAlias),
        ),
        (
            packet(0x20, b"\x00\x00\x03\x23\x00\x01"),
            misplaced(T::ConnAck, P::TopicAlias),
        ),
        (
            packet(0x40, b"\x00\x01\x00\x02\x01\x00"),
            misplaced(T::PubAck, P::PayloadFormatIndicator),
        ),
        (
            packet(0x82, b"\x00\x01\x04\x1F\x00\x01x\x00\x01t\x00"),
            misplaced(T::Subscribe, P::ReasonString),
        ),
        (
            packet(0xA2, b"\x00\x01\x02\x0B\x01\x00\x01t"),
            misplaced(T::Unsubscribe, P::SubscriptionIdentifier),
        ),
        (
            packet(0xE0, b"\x00\x02\x01\x00"),
            misplaced(T::Disconnect, P::PayloadFormatIndicator),
        ),
        (
            packet(0xF0, b"\x18\x05\x11\x00\x00\x00\x01"),
            misplaced(T::Auth, P::SessionExpiryInterval),
        ),
    ] {
        refused(&[V5], &bytes, error, MalformedPacket);
    }
    // What a CONNECT may have, its will may not.
    let will = b"\x00\x04MQTT\x05\x06\x00\x00\x00\x00\x00\x05\x11\x00\x00\x00\x01\x00\x01t\x00\x00";
    let error = misplaced(T::Connect, P::SessionExpiryInterval);
    refused(&[V5], &packet(0x10, will), error, MalformedPacket);
}

/// MQTT 5.0 §3.1.2.11, §3.2.2.3, §3.3.2.3 and following, a sentence for each property
#[test]
fn properties_that_repeat() {
    let twice = |property: &[u8]| [property, property].concat();
    for (property, bytes) in [
        (P::SessionExpiryInterval, &b"\x11\x00\x00\x00\x01"[..]),
        (P::ReceiveMaximum, b"\x21\x00\x01"),
        (P::MaximumPacketSize, b"\x27\x00\x00\x00\x01"),
        (P::TopicAliasMaximum, b"\x22\x00\x01"),
        (P::RequestResponseInformation, b"\x19\x01"),
        (P::RequestProblemInformation, b"\x17\x01"),
        (P::AuthenticationMethod, b"\x15\x00\x01m"),
        (P::AuthenticationData, b"\x16\x00\x01d"),
    ] {
        let error = E::DuplicateProperty {
            packet: T::Connect,
            property,
        };
        refused(&[V5], &connect_with(&twice(bytes)), error, ProtocolError);
    }
    for (property, bytes) in [
        (P::PayloadFormatIndicator, &b"\x01\x01"[..]),
        (P::MessageExpiryInterval, b"\x02\x00\x00\x00\x01"),
        (P::TopicAlias, b"\x23\x00\x01"),
        (P::ResponseTopic, b"\x08\x00\x01r"),
        (P::CorrelationData, b"\x09\x00\x01c"),
        (P::ContentType, b"\x03\x00\x01c"),
    ] {
        let error = E::DuplicateProperty {
            packet: T::Publish,
            property,
        };
        refused(&[V5], &publish_with(&twice(bytes)), error, ProtocolError);
    }
    let error = E::DuplicateProperty {
        packet: T::Subscribe,
        property: P::SubscriptionIdentifier,
    };
    let subscribe = packet(0x82, b"\x00\x01\x04\x0B\x01\x0B\x02\x00\x01t\x00");
    refused(&[V5], &subscribe, error, ProtocolError);
}

/// MQTT 5.0 §3.1.2.11.3, §3.1.2.11.4, §3.1.2.11.6, §3.1.2.11.7, §3.2.2.3.4, §3.3.2.3.4, §3.3.2.3.8
#[test]
fn property_values_that_are_not_allowed() {
    let value = |packet, property, value| E::PropertyValue {
        packet,
        property,
        value,
    };
    for (bytes, error) in [
        (
            connect_with(b"\x21\x00\x00"),
            value(T::Connect, P::ReceiveMaximum, 0),
        ),
        (
            connect_with(b"\x27\x00\x00\x00\x00"),
            value(T::Connect, P::MaximumPacketSize, 0),
        ),
        (
            connect_with(b"\x19\x02"),
            value(T::Connect, P::RequestResponseInformation, 2),
        ),
        (
            connect_with(b"\x17\x02"),
            value(T::Connect, P::RequestProblemInformation, 2),
        ),
        (
            publish_with(b"\x01\x02"),
            value(T::Publish, P::PayloadFormatIndicator, 2),
        ),
        (
            publish_with(b"\x0B\x00"),
            value(T::Publish, P::SubscriptionIdentifier, 0),
        ),
        (
            packet(0x20, b"\x00\x00\x02\x24\x02"),
            value(T::ConnAck, P::MaximumQoS, 2),
        ),
        (
            packet(0x20, b"\x00\x00\x02\x25\x02"),
            value(T::ConnAck, P::RetainAvailable, 2),
        ),
    ] {
        refused(&[V5], &bytes, error, ProtocolError);
    }
    // [MQTT-3.3.2-8] has a reason code of its own.
    let error = value(T::Publish, P::TopicAlias, 0);
    refused(
        &[V5],
        &publish_with(b"\x23\x00\x00"),
        error,
        TopicAliasInvalid,
    );
}

/// MQTT 5.0 §3.1.2.11.10, §3.15.2.2.2
#[test]
fn authentication_without_a_method() {
    let error = |packet| E::NoAuthenticationMethod { packet };
    refused(
        &[V5],
        &connect_with(b"\x16\x00\x01d"),
        error(T::Connect),
        ProtocolError,
    );
    refused(&[V5], b"\xF0\x02\x18\x00", error(T::Auth), ProtocolError);
    refused(
        &[V5],
        b"\xF0\x06\x18\x04\x16\x00\x01d",
        error(T::Auth),
        ProtocolError,
    );
}

#[test]
fn auth_in_3_1_1() {
    refused(
        &[V4],
        b"\xF0\x00",
        E::NotInVersion { packet: T::Auth },
        ProtocolError,
    );
}
