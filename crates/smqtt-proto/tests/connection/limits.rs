//! Maximum packet size, maximum QoS, and what else the other side does not take.

use std::time::Duration;

use smqtt_proto::packet::{
    ConnAckProperties, Publish, SubscribeProperties, Subscription, SubscriptionOptions,
};
use smqtt_proto::{
    Closed, DecodeError, Delivery, Message, MqttString, Packet, ProtocolVersion, PublishError, QoS,
    ReasonCode, Session, TopicFilter, TopicName, Violation, client, server,
};

use crate::pair::*;

const V5: ProtocolVersion = ProtocolVersion::V5;

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]
#[test]
fn a_message_above_the_clients_maximum_is_not_sent() {
    let mut small = options(V5);
    small.max_packet_size = 50;
    let mut pair = Pair::connected_with(small, server::Config::default());
    let large = message(&"x".repeat(60), pair.now);
    let fits = message(&"x".repeat(30), pair.now);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let refused = pair.server.publish(pair.now, &large, Delivery::new(qos));
        assert!(
            matches!(refused, Err(PublishError::PacketTooLarge { size, limit: 50 }) if size > 60)
        );
        assert!(
            pair.server
                .publish(pair.now, &fits, Delivery::new(qos))
                .is_ok()
        );
    }
    pair.run();
    assert_eq!(pair.client_got().len(), 3);
    assert!(
        pair.server.session().is_empty(),
        "what was refused left nothing behind"
    );
}

/// [MQTT-3.2.2-15]
#[test]
fn a_request_above_the_servers_maximum_is_not_sent() {
    let config = server::Config {
        max_packet_size: 60,
        ..server::Config::default()
    };
    let mut pair = Pair::connected_with(options(V5), config);
    let filter = TopicFilter::new("x".repeat(60)).expect("a filter");
    let subscription = Subscription {
        filter,
        options: SubscriptionOptions::default(),
    };
    let refused =
        pair.client
            .subscribe(pair.now, vec![subscription], SubscribeProperties::default());
    assert_eq!(
        refused,
        Err(client::RequestError::PacketTooLarge { limit: 60 })
    );
    assert!(pair.client.session().is_empty());
    let large = message(&"x".repeat(60), pair.now);
    let refused = pair.client.publish(pair.now, &large, Delivery::default());
    assert!(matches!(
        refused,
        Err(PublishError::PacketTooLarge { limit: 60, .. })
    ));
}

/// MQTT 5.0 §3.2.2.3.6: 0x95.
#[test]
fn a_packet_above_the_servers_maximum_ends_the_connection() {
    for version in VERSIONS {
        let config = server::Config {
            max_packet_size: 60,
            ..server::Config::default()
        };
        let mut alone = Alone::open(version, config);
        alone.feed(b"\xC0\x00\x30\x3B\x00");
        let error = DecodeError::PacketTooLarge {
            size: 61,
            limit: 60,
        };
        let closed = Closed::Violation(Violation::Malformed(error));
        assert_eq!(alone.events(), [server::Event::Closed(closed)]);
        let expected: &[u8] = if version.is_v5() {
            b"\xD0\x00\xE0\x01\x95"
        } else {
            b"\xD0\x00"
        };
        assert_eq!(
            alone.written(),
            expected,
            "the PINGREQ before it was answered"
        );
    }
}

/// [MQTT-3.2.2-11], [MQTT-3.2.2-14]
#[test]
fn a_client_keeps_to_what_the_server_takes() {
    let config = server::Config {
        maximum_qos: QoS::AtLeastOnce,
        retain_available: false,
        ..server::Config::default()
    };
    let mut pair = Pair::connected_with(options(V5), config);
    let message = message("x", pair.now);
    let refused = pair
        .client
        .publish(pair.now, &message, Delivery::new(QoS::ExactlyOnce));
    assert_eq!(
        refused,
        Err(PublishError::QoSNotSupported {
            maximum: QoS::AtLeastOnce
        })
    );
    let retained = Delivery {
        retain: true,
        ..Delivery::default()
    };
    let refused = pair.client.publish(pair.now, &message, retained);
    assert_eq!(refused, Err(PublishError::RetainNotSupported));
}

/// [MQTT-3.3.4-6]
#[test]
fn a_client_sends_no_subscription_identifiers() {
    let mut pair = Pair::connected(V5);
    let message = message("x", pair.now);
    let delivery = Delivery {
        subscription_ids: [1][..].into(),
        ..Delivery::default()
    };
    pair.client
        .publish(pair.now, &message, delivery)
        .expect("sent without them");
    pair.run();
    assert_eq!(pair.server_got(), ["x"]);
}

/// MQTT 5.0 §3.2.2.3.4, §3.2.2.3.5, §3.2.2.3.11 to §3.2.2.3.13
#[test]
fn a_client_that_asks_for_what_is_not_supported_is_disconnected() {
    let config = server::Config {
        maximum_qos: QoS::AtMostOnce,
        retain_available: false,
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        shared_subscriptions: false,
        ..server::Config::default()
    };
    for (wire, violation) in [
        (
            &b"\x32\x06\x00\x01t\x00\x01\x00"[..],
            Violation::QoSNotSupported {
                qos: QoS::AtLeastOnce,
            },
        ),
        (b"\x31\x04\x00\x01t\x00", Violation::RetainNotSupported),
        (
            b"\x82\x07\x00\x01\x00\x00\x01+\x00",
            Violation::WildcardSubscriptionsNotSupported,
        ),
        (
            b"\x82\x09\x00\x01\x02\x0B\x01\x00\x01t\x00",
            Violation::SubscriptionIdsNotSupported,
        ),
        (
            b"\x82\x10\x00\x01\x00\x00\x0A$share/g/t\x00",
            Violation::SharedSubscriptionsNotSupported,
        ),
    ] {
        let mut alone = Alone::open(V5, config.clone());
        alone.feed(wire);
        let reason = violation.reason_code();
        assert_eq!(
            alone.events(),
            [server::Event::Closed(Closed::Violation(violation))]
        );
        assert_eq!(alone.written(), [0xE0, 1, reason.as_u8()]);
    }
}

/// [MQTT-3.3.2-5]
#[test]
fn an_expired_message_is_not_sent() {
    let mut pair = Pair::connected(V5);
    let mut publish = Publish::new(TopicName::new("a").expect("a topic name"), "x");
    publish.properties.message_expiry_interval = Some(10);
    let message = std::sync::Arc::new(Message::new(&publish, pair.now).expect("encodes"));
    let now = pair.now + Duration::from_secs(10);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let refused = pair.server.publish(now, &message, Delivery::new(qos));
        assert_eq!(refused, Err(PublishError::Expired));
    }
    assert!(pair.server.session().is_empty());
}

/// [MQTT-3.2.2-19], [MQTT-3.2.2-20], [MQTT-3.14.2-3]
#[test]
fn what_is_only_for_people_is_left_out_of_packets_that_would_be_too_large() {
    let mut small = options(V5);
    small.max_packet_size = 40;
    let mut pair = Pair::new(small.clone(), server::Config::default());
    let long = MqttString::new("because ".repeat(10)).expect("a string");
    pair.connack = ConnAckProperties {
        reason_string: Some(long.clone()),
        ..ConnAckProperties::default()
    };
    pair.run();
    assert!(pair.client.is_open());
    let properties = smqtt_proto::packet::DisconnectProperties {
        reason_string: Some(long),
        ..Default::default()
    };
    pair.server.disconnect(ReasonCode::ServerBusy, properties);
    pair.drain_server();
    pair.run();
    assert_eq!(
        pair.to_client.last().map(|packet| bytes(packet, V5)),
        Some(b"\xE0\x01\x89".to_vec())
    );
}

#[test]
fn a_client_that_takes_less_than_a_connack_is_not_let_in() {
    let mut connect = options(V5).connect;
    connect.properties.maximum_packet_size = Some(4);
    let mut alone = Alone::new(server::Config::default());
    alone.feed(&bytes(&Packet::Connect(Box::new(connect)), V5));
    alone.events();
    alone.server.accept(
        alone.now,
        Session::new(),
        false,
        ConnAckProperties::default(),
    );
    assert_eq!(
        alone.events(),
        [server::Event::Closed(Closed::Local(
            ReasonCode::PacketTooLarge
        ))]
    );
    assert!(alone.written().is_empty());
}
