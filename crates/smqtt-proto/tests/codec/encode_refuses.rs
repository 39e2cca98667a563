//! Packets that MQTT has no bytes for are refused, and leave the buffer as it was.

use bytes::{Bytes, BytesMut};
use smqtt_proto::packet::*;
use smqtt_proto::*;

fn refused(packet: Packet, version: ProtocolVersion) -> EncodeError {
    let mut out = BytesMut::from(&b"before"[..]);
    let error = encode(&packet, version, &mut out).expect_err("it can't be encoded");
    assert_eq!(encoded_len(&packet, version), Err(error.clone()));
    assert_eq!(&out[..], b"before");
    error
}

fn publish() -> Publish {
    Publish::new(TopicName::new("a").expect("a topic name"), "x")
}

fn connect(version: ProtocolVersion) -> Connect {
    client::Options::new(version, MqttString::empty()).connect
}

fn id() -> PacketId {
    PacketId::new(1).expect("not zero")
}

#[test]
fn binary_data_beyond_two_length_bytes() {
    let mut publish = publish();
    publish.properties.correlation_data = Some(Bytes::from(vec![0; 65_536]));
    let error = refused(Packet::Publish(publish), ProtocolVersion::V5);
    assert_eq!(
        error,
        EncodeError::FieldTooLong {
            field: "correlation data",
            length: 65_536
        }
    );
    let mut connect = connect(ProtocolVersion::V5);
    connect.password = Some(Credential::new(vec![0; 65_536]));
    let error = refused(Packet::Connect(Box::new(connect)), ProtocolVersion::V5);
    assert_eq!(
        error,
        EncodeError::FieldTooLong {
            field: "password",
            length: 65_536
        }
    );
}

#[test]
fn packets_beyond_four_bytes_of_remaining_length() {
    let publish = Publish {
        payload: Bytes::from(vec![0; 268_435_455]),
        ..publish()
    };
    let error = refused(Packet::Publish(publish), ProtocolVersion::V3_1_1);
    assert_eq!(
        error,
        EncodeError::PacketTooLong {
            length: 268_435_458
        }
    );
}

#[test]
fn identifiers_that_do_not_fit_the_qos() {
    for (qos, packet_id, dup) in [
        (QoS::AtMostOnce, Some(id()), false),
        (QoS::AtLeastOnce, None, false),
        (QoS::ExactlyOnce, None, true),
        (QoS::AtMostOnce, None, true),
    ] {
        let publish = Publish {
            qos,
            packet_id,
            dup,
            ..publish()
        };
        let error = refused(Packet::Publish(publish), ProtocolVersion::V3_1_1);
        assert_eq!(error, EncodeError::PublishIdentifier);
    }
}

#[test]
fn a_topic_that_is_not_there() {
    let mut aliased = Publish {
        topic: TopicName::ALIASED,
        ..publish()
    };
    assert_eq!(
        refused(Packet::Publish(aliased.clone()), ProtocolVersion::V5),
        EncodeError::NoTopic
    );
    aliased.properties.topic_alias = std::num::NonZeroU16::new(1);
    assert_eq!(
        refused(Packet::Publish(aliased), ProtocolVersion::V3_1_1),
        EncodeError::NoTopic
    );
    let mut publish = publish();
    publish.properties.response_topic = Some(TopicName::ALIASED);
    assert_eq!(
        refused(Packet::Publish(publish), ProtocolVersion::V5),
        EncodeError::NoTopic
    );
    let mut connect = connect(ProtocolVersion::V3_1_1);
    connect.will = Some(Will {
        topic: TopicName::ALIASED,
        payload: Bytes::new(),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: WillProperties::default(),
    });
    assert_eq!(
        refused(Packet::Connect(Box::new(connect)), ProtocolVersion::V3_1_1),
        EncodeError::NoTopic
    );
}

#[test]
fn what_the_version_does_not_have() {
    let auth = Auth {
        reason: ReasonCode::Success,
        properties: AuthProperties::default(),
    };
    let error = refused(Packet::Auth(Box::new(auth)), ProtocolVersion::V3_1_1);
    assert_eq!(
        error,
        EncodeError::NotInVersion {
            packet: PacketType::Auth
        }
    );
    let connect_v5 = Packet::Connect(Box::new(connect(ProtocolVersion::V5)));
    assert_eq!(
        refused(connect_v5, ProtocolVersion::V3_1_1),
        EncodeError::VersionMismatch
    );
    let mut connect = connect(ProtocolVersion::V3_1_1);
    connect.password = Some(Credential::new("secret"));
    let error = refused(Packet::Connect(Box::new(connect)), ProtocolVersion::V3_1_1);
    assert_eq!(error, EncodeError::PasswordWithoutUserName);
}

#[test]
fn requests_and_answers_about_nothing() {
    let packet_id = id();
    let (properties, reasons) = (AckProperties::default(), Vec::new());
    let subscribe = Subscribe {
        packet_id,
        properties: SubscribeProperties::default(),
        subscriptions: Vec::new(),
    };
    let unsubscribe = Unsubscribe {
        packet_id,
        properties: UnsubscribeProperties::default(),
        filters: Vec::new(),
    };
    let suback = SubAck {
        packet_id,
        properties: properties.clone(),
        reasons: reasons.clone(),
    };
    let unsuback = UnsubAck {
        packet_id,
        properties,
        reasons,
    };
    for packet in [
        Packet::Subscribe(subscribe),
        Packet::Unsubscribe(unsubscribe),
        Packet::SubAck(suback),
        Packet::UnsubAck(unsuback),
    ] {
        let expected = EncodeError::NoSubscriptions {
            packet: packet.packet_type(),
        };
        assert_eq!(refused(packet, ProtocolVersion::V5), expected);
    }
}

#[test]
fn limits_of_zero() {
    let mut first = connect(ProtocolVersion::V5);
    first.properties.receive_maximum = Some(0);
    let error = refused(Packet::Connect(Box::new(first)), ProtocolVersion::V5);
    assert_eq!(
        error,
        EncodeError::Value {
            field: "receive maximum",
            value: 0
        }
    );
    let mut second = connect(ProtocolVersion::V5);
    second.properties.maximum_packet_size = Some(0);
    let error = refused(Packet::Connect(Box::new(second)), ProtocolVersion::V5);
    assert_eq!(
        error,
        EncodeError::Value {
            field: "maximum packet size",
            value: 0
        }
    );
}

#[test]
fn credentials_are_not_shown() {
    let mut connect = connect(ProtocolVersion::V5);
    connect.password = Some(Credential::new("hunter2"));
    connect.properties.authentication_data = Some(Credential::new("hunter2"));
    let shown = format!(
        "{connect:?} {:#?}",
        Packet::Connect(Box::new(connect.clone()))
    );
    assert!(!shown.contains("hunter2"));
    assert!(!shown.contains("104, 117, 110"), "not as numbers either");
}
