//! The specifications' own examples, byte by byte, and packets written down from their tables.

use bytes::{Bytes, BytesMut};
use smqtt_proto::packet::*;
use smqtt_proto::*;

/// These bytes are this packet, both ways.
fn is(version: ProtocolVersion, bytes: &[u8], packet: Packet) {
    let mut input = BytesMut::from(bytes);
    let decoded = Decoder::new(version, u32::MAX).decode(&mut input);
    assert_eq!(decoded, Ok(Some(packet.clone())), "decoding {bytes:02X?}");
    assert!(input.is_empty());
    let mut encoded = BytesMut::new();
    encode(&packet, version, &mut encoded).expect("encodes");
    assert_eq!(&encoded[..], bytes, "encoding {packet:?}");
}

/// These bytes decode to this packet, which has a shorter encoding.
fn decodes(version: ProtocolVersion, bytes: &[u8], packet: Packet) {
    let decoded = Decoder::new(version, u32::MAX).decode(&mut BytesMut::from(bytes));
    assert_eq!(decoded, Ok(Some(packet)), "decoding {bytes:02X?}");
}

const V4: ProtocolVersion = ProtocolVersion::V3_1_1;
const V5: ProtocolVersion = ProtocolVersion::V5;

fn text(text: &str) -> MqttString {
    MqttString::new(text).expect("an MQTT string")
}

fn name(text: &str) -> TopicName {
    TopicName::new(text).expect("a topic name")
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::new(text).expect("a topic filter")
}

fn id(id: u16) -> PacketId {
    PacketId::new(id).expect("not zero")
}

fn pairs(pairs: &[(&str, &str)]) -> UserProperties {
    pairs
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

/// MQTT 5.0 figure 1-2: "A" and U+2A6D4.
#[test]
fn a_string_outside_the_basic_plane() {
    let bytes = b"\x82\x0B\x00\x01\x00\x00\x05A\xF0\xAA\x9B\x94\x00";
    let subscriptions = vec![Subscription {
        filter: filter("A\u{2A6D4}"),
        options: SubscriptionOptions::default(),
    }];
    let properties = SubscribeProperties::default();
    is(
        V5,
        bytes,
        Packet::Subscribe(Subscribe {
            packet_id: id(1),
            properties,
            subscriptions,
        }),
    );
}

/// [MQTT-1.5.4-3]: U+FEFF stays where it is.
#[test]
fn a_zero_width_no_break_space_is_kept() {
    let publish = Publish::new(name("\u{FEFF}a\u{FEFF}"), "");
    is(
        V4,
        b"\x30\x09\x00\x07\xEF\xBB\xBFa\xEF\xBB\xBF",
        Packet::Publish(publish),
    );
}

/// MQTT 3.1.1 figure 3.6: flags 0xCE, keep-alive 10.
#[test]
fn connect_3_1_1() {
    let bytes = b"\x10\x27\x00\x04MQTT\x04\xCE\x00\x0A\x00\x03cli\x00\x04will\x00\x04gone\x00\x04user\x00\x04pass";
    let will = Will {
        topic: name("will"),
        payload: Bytes::from("gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: WillProperties::default(),
    };
    let connect = Connect {
        version: V4,
        clean_start: true,
        keep_alive: 10,
        client_id: text("cli"),
        will: Some(will),
        username: Some(text("user")),
        password: Some(Credential::new("pass")),
        properties: ConnectProperties::default(),
    };
    is(V4, bytes, Packet::Connect(Box::new(connect)));
}

/// MQTT 5.0 figure 3-6, and every property of CONNECT and of a will.
#[test]
fn connect_5_0() {
    let mut bytes = BytesMut::from(&b"\x10\xA5\x01\x00\x04MQTT\x05\xEE\x00\x0A"[..]);
    bytes.extend_from_slice(
        b"\x3F\x11\x00\x00\x00\x0A\x21\x00\x14\x27\x00\x00\x01\x00\x22\x00\x05\x19\x01\x17\x00",
    );
    bytes.extend_from_slice(b"\x26\x00\x01k\x00\x01v\x26\x00\x01k\x00\x01w");
    bytes.extend_from_slice(b"\x15\x00\x0DSCRAM-SHA-256\x16\x00\x0Aclient-1st");
    bytes.extend_from_slice(b"\x00\x03cli");
    bytes.extend_from_slice(b"\x3B\x18\x00\x00\x00\x1E\x01\x01\x02\x00\x00\x00\x3C\x03\x00\x0Atext/plain\x08\x00\x05reply\x09\x00\x04\x00\x01\x02\x03");
    bytes.extend_from_slice(b"\x26\x00\x07who-did\x00\x07it-then");
    bytes.extend_from_slice(b"\x00\x04will\x00\x04gone\x00\x04user\x00\x06secret");
    let will = Will {
        topic: name("will"),
        payload: Bytes::from("gone"),
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: WillProperties {
            will_delay_interval: Some(30),
            payload_is_utf8: Some(true),
            message_expiry_interval: Some(60),
            content_type: Some(text("text/plain")),
            response_topic: Some(name("reply")),
            correlation_data: Some(Bytes::from(vec![0, 1, 2, 3])),
            user_properties: pairs(&[("who-did", "it-then")]),
        },
    };
    let connect = Connect {
        version: V5,
        clean_start: true,
        keep_alive: 10,
        client_id: text("cli"),
        will: Some(will),
        username: Some(text("user")),
        password: Some(Credential::new("secret")),
        properties: ConnectProperties {
            session_expiry_interval: Some(10),
            receive_maximum: Some(20),
            maximum_packet_size: Some(256),
            topic_alias_maximum: Some(5),
            request_response_information: Some(true),
            request_problem_information: Some(false),
            user_properties: pairs(&[("k", "v"), ("k", "w")]),
            authentication_method: Some(text("SCRAM-SHA-256")),
            authentication_data: Some(Credential::new("client-1st")),
        },
    };
    // The order of properties is free: what we write differs in order only.
    let mut input = bytes.clone();
    let decoded = Decoder::for_server(u32::MAX).decode(&mut input);
    assert_eq!(decoded, Ok(Some(Packet::Connect(Box::new(connect)))));
}

#[test]
fn connack_3_1_1() {
    for (bytes, session_present, reason) in [
        (b"\x20\x02\x00\x00", false, ReasonCode::Success),
        (b"\x20\x02\x01\x00", true, ReasonCode::Success),
        (
            b"\x20\x02\x00\x01",
            false,
            ReasonCode::UnsupportedProtocolVersion,
        ),
        (
            b"\x20\x02\x00\x02",
            false,
            ReasonCode::ClientIdentifierNotValid,
        ),
        (b"\x20\x02\x00\x03", false, ReasonCode::ServerUnavailable),
        (
            b"\x20\x02\x00\x04",
            false,
            ReasonCode::BadUserNameOrPassword,
        ),
        (b"\x20\x02\x00\x05", false, ReasonCode::NotAuthorized),
    ] {
        let properties = ConnAckProperties::default();
        is(
            V4,
            bytes,
            Packet::ConnAck(Box::new(ConnAck {
                session_present,
                reason,
                properties,
            })),
        );
    }
}

#[test]
fn connack_5_0() {
    let bytes = b"\x20\x5A\x01\x00\x57\x11\x00\x00\x00\x0A\x21\x00\x14\x24\x01\x25\x01\x27\x00\x00\x01\x00\x12\x00\x03cli\x22\x00\x05\x1F\x00\x02hi\x26\x00\x01k\x00\x01v\x28\x01\x29\x00\x2A\x01\x13\x00\x1E\x1A\x00\x06reply/\x1C\x00\x0Bexample.org\x15\x00\x05SCRAM\x16\x00\x06server";
    let properties = ConnAckProperties {
        session_expiry_interval: Some(10),
        receive_maximum: Some(20),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(true),
        maximum_packet_size: Some(256),
        assigned_client_identifier: Some(text("cli")),
        topic_alias_maximum: Some(5),
        reason_string: Some(text("hi")),
        user_properties: pairs(&[("k", "v")]),
        wildcard_subscription_available: Some(true),
        subscription_identifiers_available: Some(false),
        shared_subscription_available: Some(true),
        server_keep_alive: Some(30),
        response_information: Some(text("reply/")),
        server_reference: Some(text("example.org")),
        authentication_method: Some(text("SCRAM")),
        authentication_data: Some(Credential::new("server")),
    };
    let reason = ReasonCode::Success;
    is(
        V5,
        bytes,
        Packet::ConnAck(Box::new(ConnAck {
            session_present: true,
            reason,
            properties,
        })),
    );
}

/// MQTT 3.1.1 figure 3.11: topic "a/b", packet identifier 10. MQTT 5.0 figure 3-9 has a property length of 0 in it.
#[test]
fn publish() {
    let mut publish = Publish::new(name("a/b"), "hi");
    publish.qos = QoS::AtLeastOnce;
    publish.packet_id = Some(id(10));
    is(
        V4,
        b"\x32\x09\x00\x03a/b\x00\x0Ahi",
        Packet::Publish(publish.clone()),
    );
    is(
        V5,
        b"\x32\x0A\x00\x03a/b\x00\x0A\x00hi",
        Packet::Publish(publish.clone()),
    );
    publish.dup = true;
    publish.retain = true;
    publish.qos = QoS::ExactlyOnce;
    is(
        V4,
        b"\x3D\x09\x00\x03a/b\x00\x0Ahi",
        Packet::Publish(publish),
    );
    is(
        V4,
        b"\x30\x05\x00\x03a/b",
        Packet::Publish(Publish::new(name("a/b"), "")),
    );
}

#[test]
fn publish_5_0_with_every_property() {
    let bytes = b"\x30\x3A\x00\x01t\x31\x02\x00\x00\x00\x3C\x23\x00\x05\x0B\x01\x0B\x80\x01\x01\x01\x08\x00\x05reply\x09\x00\x02\x00\xFF\x03\x00\x04text\x26\x00\x01b\x00\x011\x26\x00\x01a\x00\x012hello";
    let mut publish = Publish::new(name("t"), "hello");
    publish.properties = PublishProperties::from(MessageProperties {
        payload_is_utf8: Some(true),
        message_expiry_interval: Some(60),
        response_topic: Some(name("reply")),
        correlation_data: Some(Bytes::from(vec![0x00, 0xFF])),
        user_properties: pairs(&[("b", "1"), ("a", "2")]),
        subscription_ids: [1, 128][..].into(),
        content_type: Some(text("text")),
    });
    publish.properties.topic_alias = std::num::NonZeroU16::new(5);
    is(V5, bytes, Packet::Publish(publish));
}

#[test]
fn publish_5_0_by_topic_alias_alone() {
    let mut publish = Publish::new(TopicName::ALIASED, "x");
    publish.properties.topic_alias = std::num::NonZeroU16::new(258);
    is(
        V5,
        b"\x30\x07\x00\x00\x03\x23\x01\x02x",
        Packet::Publish(publish),
    );
}

#[test]
fn acknowledgements() {
    let ack = |reason| Ack::new(id(0x1234), reason);
    let success = ReasonCode::Success;
    for version in [V4, V5] {
        is(version, b"\x40\x02\x12\x34", Packet::PubAck(ack(success)));
        is(version, b"\x50\x02\x12\x34", Packet::PubRec(ack(success)));
        is(version, b"\x62\x02\x12\x34", Packet::PubRel(ack(success)));
        is(version, b"\x70\x02\x12\x34", Packet::PubComp(ack(success)));
        is(version, b"\xC0\x00", Packet::PingReq);
        is(version, b"\xD0\x00", Packet::PingResp);
    }
    let none = ReasonCode::NoMatchingSubscribers;
    is(V5, b"\x40\x03\x12\x34\x10", Packet::PubAck(ack(none)));
    decodes(V5, b"\x40\x03\x12\x34\x00", Packet::PubAck(ack(success)));
    decodes(
        V5,
        b"\x40\x04\x12\x34\x00\x00",
        Packet::PubAck(ack(success)),
    );
    is(
        V5,
        b"\x50\x03\x12\x34\x97",
        Packet::PubRec(ack(ReasonCode::QuotaExceeded)),
    );
    is(
        V5,
        b"\x62\x03\x12\x34\x92",
        Packet::PubRel(ack(ReasonCode::PacketIdentifierNotFound)),
    );
    let mut with_text = ack(success);
    with_text.properties.reason_string = Some(text("ok"));
    with_text.properties.user_properties = pairs(&[("k", "v")]);
    is(
        V5,
        b"\x70\x10\x12\x34\x00\x0C\x1F\x00\x02ok\x26\x00\x01k\x00\x01v",
        Packet::PubComp(with_text),
    );
}

/// MQTT 3.1.1 figures 3.22 and 3.23, MQTT 5.0 figures 3-21: "a/b" with QoS 1, "c/d" with QoS 2.
#[test]
fn subscribe() {
    let subscription = |text, qos| Subscription {
        filter: filter(text),
        options: SubscriptionOptions::new(qos),
    };
    let subscriptions = vec![
        subscription("a/b", QoS::AtLeastOnce),
        subscription("c/d", QoS::ExactlyOnce),
    ];
    let properties = SubscribeProperties::default();
    let subscribe = Subscribe {
        packet_id: id(10),
        properties,
        subscriptions,
    };
    is(
        V4,
        b"\x82\x0E\x00\x0A\x00\x03a/b\x01\x00\x03c/d\x02",
        Packet::Subscribe(subscribe.clone()),
    );
    is(
        V5,
        b"\x82\x0F\x00\x0A\x00\x00\x03a/b\x01\x00\x03c/d\x02",
        Packet::Subscribe(subscribe),
    );
}

#[test]
fn subscribe_5_0_with_all_options() {
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    let shared = SubscriptionOptions {
        retain_handling: RetainHandling::SendIfNew,
        ..Default::default()
    };
    let subscribe = Subscribe {
        packet_id: id(1),
        properties: SubscribeProperties {
            subscription_id: Some(268_435_455),
            user_properties: pairs(&[("k", "v")]),
        },
        subscriptions: vec![
            Subscription {
                filter: filter("+/#"),
                options,
            },
            Subscription {
                filter: filter("$share/g/t"),
                options: shared,
            },
        ],
    };
    let bytes = b"\x82\x22\x00\x01\x0C\x0B\xFF\xFF\xFF\x7F\x26\x00\x01k\x00\x01v\x00\x03+/#\x2E\x00\x0A$share/g/t\x10";
    is(V5, bytes, Packet::Subscribe(subscribe));
}

/// MQTT 3.1.1 figure 3.26: success QoS 0, success QoS 2, failure.
#[test]
fn suback() {
    let reasons = vec![
        ReasonCode::Success,
        ReasonCode::GrantedQoS2,
        ReasonCode::UnspecifiedError,
    ];
    let properties = AckProperties::default();
    let mut suback = SubAck {
        packet_id: id(10),
        properties,
        reasons,
    };
    is(
        V4,
        b"\x90\x05\x00\x0A\x00\x02\x80",
        Packet::SubAck(suback.clone()),
    );
    is(
        V5,
        b"\x90\x06\x00\x0A\x00\x00\x02\x80",
        Packet::SubAck(suback.clone()),
    );
    // MQTT 3.1.1 says every failure as 0x80.
    suback.reasons = vec![ReasonCode::NotAuthorized];
    let mut out = BytesMut::new();
    encode(&Packet::SubAck(suback), V4, &mut out).expect("encodes");
    assert_eq!(&out[..], b"\x90\x03\x00\x0A\x80");
}

/// MQTT 3.1.1 figure 3.30, MQTT 5.0 figure 3-30.
#[test]
fn unsubscribe() {
    let properties = UnsubscribeProperties::default();
    let filters = vec![filter("a/b"), filter("c/d")];
    let unsubscribe = Unsubscribe {
        packet_id: id(10),
        properties,
        filters,
    };
    is(
        V4,
        b"\xA2\x0C\x00\x0A\x00\x03a/b\x00\x03c/d",
        Packet::Unsubscribe(unsubscribe.clone()),
    );
    is(
        V5,
        b"\xA2\x0D\x00\x0A\x00\x00\x03a/b\x00\x03c/d",
        Packet::Unsubscribe(unsubscribe),
    );
}

#[test]
fn unsuback() {
    let properties = AckProperties::default();
    let unsuback = UnsubAck {
        packet_id: id(10),
        properties,
        reasons: Vec::new(),
    };
    is(V4, b"\xB0\x02\x00\x0A", Packet::UnsubAck(unsuback.clone()));
    let reasons = vec![ReasonCode::Success, ReasonCode::NoSubscriptionExisted];
    is(
        V5,
        b"\xB0\x05\x00\x0A\x00\x00\x11",
        Packet::UnsubAck(UnsubAck {
            reasons,
            ..unsuback
        }),
    );
}

#[test]
fn disconnect() {
    let success = Disconnect::new(ReasonCode::Success);
    is(V4, b"\xE0\x00", Packet::Disconnect(success.clone()));
    is(V5, b"\xE0\x00", Packet::Disconnect(success.clone()));
    decodes(V5, b"\xE0\x01\x00", Packet::Disconnect(success.clone()));
    decodes(V5, b"\xE0\x02\x00\x00", Packet::Disconnect(success));
    is(
        V5,
        b"\xE0\x01\x8E",
        Packet::Disconnect(Disconnect::new(ReasonCode::SessionTakenOver)),
    );
    let properties = DisconnectProperties {
        session_expiry_interval: Some(5),
        reason_string: Some(text("bye")),
        user_properties: pairs(&[("k", "v")]),
        server_reference: Some(text("b")),
    };
    let reason = ReasonCode::UseAnotherServer;
    let bytes =
        b"\xE0\x18\x9C\x16\x11\x00\x00\x00\x05\x1F\x00\x03bye\x26\x00\x01k\x00\x01v\x1C\x00\x01b";
    is(
        V5,
        bytes,
        Packet::Disconnect(Disconnect { reason, properties }),
    );
}

#[test]
fn auth() {
    let empty = Auth {
        reason: ReasonCode::Success,
        properties: AuthProperties::default(),
    };
    is(V5, b"\xF0\x00", Packet::Auth(Box::new(empty)));
    let properties = AuthProperties {
        authentication_method: Some(text("SCRAM")),
        authentication_data: Some(Credential::new("step")),
        reason_string: Some(text("go on")),
        user_properties: pairs(&[("k", "v")]),
    };
    let reason = ReasonCode::ContinueAuthentication;
    let bytes =
        b"\xF0\x20\x18\x1E\x15\x00\x05SCRAM\x16\x00\x04step\x1F\x00\x05go on\x26\x00\x01k\x00\x01v";
    is(
        V5,
        bytes,
        Packet::Auth(Box::new(Auth { reason, properties })),
    );
}
