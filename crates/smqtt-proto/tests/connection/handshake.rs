//! CONNECT and CONNACK.

use std::time::Duration;

use smqtt_proto::packet::{
    ConnAck, ConnAckProperties, Disconnect, DisconnectProperties, SubscribeProperties,
    Subscription, SubscriptionOptions,
};
use smqtt_proto::{
    Closed, DecodeError, MqttString, Packet, PacketType, ProtocolVersion, PublishError, QoS,
    ReasonCode, Session, TopicFilter, Violation, client, server,
};

use crate::pair::*;

const V5: ProtocolVersion = ProtocolVersion::V5;

fn connacks(pair: &Pair) -> Vec<&ConnAck> {
    let packets = pair.to_client.iter().filter_map(|packet| match packet {
        Packet::ConnAck(connack) => Some(&**connack),
        _ => None,
    });
    packets.collect()
}

#[test]
fn both_ends_open_in_both_versions() {
    for version in VERSIONS {
        let mut pair = Pair::new(options(version), server::Config::default());
        assert!(!pair.client.is_open());
        pair.run();
        assert!(pair.client.is_open() && pair.server.is_open());
        assert_eq!(pair.server.version(), Some(version));
        assert!(matches!(
            &pair.server_events[..],
            [server::Event::Connect(_)]
        ));
        let [client::Event::Connected { connack, lost }] = &pair.client_events[..] else {
            panic!("only the connection: {:?}", pair.client_events)
        };
        assert!(!connack.session_present && lost.is_empty());
    }
}

/// MQTT 5.0 §3.2.2.3: the server says what it takes.
#[test]
fn the_connack_tells_the_configuration() {
    let config = server::Config {
        max_packet_size: 5000,
        receive_maximum: 7,
        topic_alias_maximum: 3,
        maximum_qos: QoS::AtLeastOnce,
        retain_available: false,
        wildcard_subscriptions: false,
        subscription_identifiers: false,
        shared_subscriptions: false,
        ..server::Config::default()
    };
    let mut pair = Pair::new(options(V5), config.clone());
    pair.run();
    let expected = ConnAckProperties {
        receive_maximum: Some(7),
        maximum_packet_size: Some(5000),
        topic_alias_maximum: Some(3),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(false),
        wildcard_subscription_available: Some(false),
        subscription_identifiers_available: Some(false),
        shared_subscription_available: Some(false),
        ..ConnAckProperties::default()
    };
    assert_eq!(connacks(&pair)[0].properties, expected);
    let mut pair = Pair::new(options(ProtocolVersion::V3_1_1), config);
    pair.run();
    assert_eq!(connacks(&pair)[0].properties, ConnAckProperties::default());
}

/// [MQTT-3.2.2-16], [MQTT-3.1.2-28]
#[test]
fn only_who_asked_gets_an_identifier_and_response_information() {
    let told = ConnAckProperties {
        assigned_client_identifier: Some(MqttString::new("auto-1").expect("a string")),
        response_information: Some(MqttString::new("reply/").expect("a string")),
        ..ConnAckProperties::default()
    };
    let mut pair = Pair::new(options(V5), server::Config::default());
    pair.connack = told.clone();
    pair.run();
    assert_eq!(
        connacks(&pair)[0].properties.assigned_client_identifier,
        None
    );
    assert_eq!(connacks(&pair)[0].properties.response_information, None);
    let mut asking = options(V5);
    asking.connect.client_id = MqttString::empty();
    asking.connect.properties.request_response_information = Some(true);
    let mut pair = Pair::new(asking, server::Config::default());
    pair.connack = told.clone();
    pair.run();
    assert_eq!(
        connacks(&pair)[0].properties.assigned_client_identifier,
        told.assigned_client_identifier
    );
    assert_eq!(
        connacks(&pair)[0].properties.response_information,
        told.response_information
    );
}

/// [MQTT-3.2.2-1] of 5.0's reason codes; §3.2.2.3 of 3.1.1's return codes; [MQTT-3.2.2-6]
#[test]
fn a_refused_client_learns_why() {
    for version in VERSIONS {
        for reason in [
            ReasonCode::NotAuthorized,
            ReasonCode::ClientIdentifierNotValid,
            ReasonCode::ServerUnavailable,
        ] {
            let mut alone = Alone::new(server::Config::default());
            alone.feed(&bytes(
                &Packet::Connect(Box::new(options(version).connect)),
                version,
            ));
            assert!(matches!(
                alone.server.poll_event(),
                Some(server::Event::Connect(_))
            ));
            alone.server.reject(reason, ConnAckProperties::default());
            assert_eq!(
                alone.events(),
                [server::Event::Closed(Closed::Local(reason))]
            );
            let connack = alone.written();
            let mut client = client::Connection::new(options(version), Session::new(), alone.now)
                .expect("encodes");
            client.handle_input(alone.now, &mut connack[..].into());
            let Some(client::Event::Closed(Closed::Refused(connack))) = client.poll_event() else {
                panic!("the client was refused")
            };
            assert_eq!(connack.reason, reason);
            assert!(client.poll_event().is_none() && client.is_closed());
        }
    }
}

/// MQTT 5.0 §3.1.2.11.4: a client may send on without waiting for the CONNACK; what it sends waits.
#[test]
fn packets_behind_the_connect_wait_for_the_decision() {
    let mut alone = Alone::new(server::Config::default());
    let mut stream = bytes(&Packet::Connect(Box::new(options(V5).connect)), V5);
    stream.extend_from_slice(b"\x30\x05\x00\x01t\x00x\xC0\x00");
    alone.feed(&stream);
    assert!(matches!(alone.events()[..], [server::Event::Connect(_)]));
    assert!(!alone.server.wants_input());
    assert!(alone.events().is_empty() && alone.written().is_empty());
    alone.server.accept(
        alone.now,
        Session::new(),
        false,
        ConnAckProperties::default(),
    );
    assert!(alone.server.wants_input());
    assert!(matches!(alone.events()[..], [server::Event::Publish(_)]));
    let written = alone.written();
    assert!(
        written.ends_with(b"\xD0\x00") && written[0] == 0x20,
        "CONNACK, then PINGRESP"
    );
}

#[test]
fn a_handshake_that_takes_too_long_ends() {
    let config = server::Config {
        handshake_timeout: Duration::from_secs(5),
        ..server::Config::default()
    };
    let mut alone = Alone::new(config);
    let deadline = alone.now + Duration::from_secs(5);
    assert_eq!(alone.server.poll_timeout(), Some(deadline));
    alone.feed(b"\x10\x20"); // the beginning of a CONNECT does not help
    alone
        .server
        .handle_timeout(deadline - Duration::from_millis(1));
    assert!(alone.events().is_empty());
    alone.server.handle_timeout(deadline);
    assert_eq!(
        alone.events(),
        [server::Event::Closed(Closed::HandshakeTimeout)]
    );
    assert_eq!(alone.server.poll_timeout(), None);

    let now = alone.now;
    let mut client = client::Connection::new(options(V5), Session::new(), now).expect("encodes");
    client.handle_timeout(client.poll_timeout().expect("a server may not answer"));
    assert_eq!(
        client.poll_event(),
        Some(client::Event::Closed(Closed::HandshakeTimeout))
    );
}

/// [MQTT-3.1.0-1]: closed without an answer.
#[test]
fn a_first_packet_that_is_not_connect_ends_it() {
    let mut alone = Alone::new(server::Config::default());
    alone.feed(b"\xC0\x00");
    let violation = DecodeError::ConnectExpected {
        packet: PacketType::PingReq,
    }
    .into();
    assert_eq!(
        alone.events(),
        [server::Event::Closed(Closed::Violation(violation))]
    );
    assert!(alone.written().is_empty());
}

/// [MQTT-3.1.2-2]
#[test]
fn an_unknown_level_is_answered_in_a_version_that_the_client_may_know() {
    for (level, expected) in [(3, &b"\x20\x02\x00\x01"[..]), (6, b"\x20\x03\x00\x84\x00")] {
        let mut alone = Alone::new(server::Config::default());
        alone.feed(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 0, 0, 0]);
        let violation = DecodeError::UnsupportedProtocolLevel { level }.into();
        assert_eq!(
            alone.events(),
            [server::Event::Closed(Closed::Violation(violation))]
        );
        assert_eq!(alone.written(), expected);
    }
}

/// [MQTT-3.1.4-1], [MQTT-3.1.4-2]: MQTT 5.0 is told, MQTT 3.1.1 is closed.
#[test]
fn a_malformed_connect_is_answered_in_5_0_only() {
    for (level, expected) in [(4, &b""[..]), (5, b"\x20\x03\x00\x81\x00")] {
        let mut alone = Alone::new(server::Config::default());
        alone.feed(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', level, 3, 0, 0, 0, 0]);
        assert!(matches!(
            alone.events()[..],
            [server::Event::Closed(Closed::Violation(_))]
        ));
        assert_eq!(alone.written(), expected);
    }
}

/// [MQTT-3.1.0-2]
#[test]
fn a_second_connect_ends_it() {
    for version in VERSIONS {
        let mut alone = Alone::open(version, server::Config::default());
        alone.feed(&bytes(
            &Packet::Connect(Box::new(options(version).connect)),
            version,
        ));
        assert_eq!(
            alone.events(),
            [server::Event::Closed(Closed::Violation(
                Violation::SecondConnect
            ))]
        );
        let expected: &[u8] = if version.is_v5() {
            b"\xE0\x01\x82"
        } else {
            b""
        };
        assert_eq!(alone.written(), expected);
    }
}

/// [MQTT-3.2.0-1]: a server begins with a CONNACK.
#[test]
fn a_server_that_begins_otherwise_is_left() {
    for version in VERSIONS {
        let pair = Pair::new(options(version), server::Config::default());
        let mut client = pair.client;
        client.handle_input(pair.now, &mut b"\xD0\x00"[..].into());
        let violation = Violation::UnexpectedPacket {
            packet: PacketType::PingResp,
        };
        assert_eq!(
            client.poll_event(),
            Some(client::Event::Closed(Closed::Violation(violation)))
        );
    }
}

/// [MQTT-3.2.2-2]
#[test]
fn a_session_after_a_clean_start_is_a_violation() {
    for version in VERSIONS {
        let mut clean = options(version);
        clean.connect.clean_start = true;
        let mut pair = Pair::new(clean, server::Config::default());
        pair.session = Some(Session::new());
        pair.run();
        let closed = client::Event::Closed(Closed::Violation(Violation::UnexpectedSession));
        assert_eq!(pair.client_events, [closed]);
    }
}

#[test]
fn nothing_is_sent_before_the_connack() {
    let mut pair = Pair::new(options(V5), server::Config::default());
    let message = message("early", pair.now);
    let result = pair.client.publish(pair.now, &message, Default::default());
    assert_eq!(result, Err(PublishError::NotOpen));
    let subscription = Subscription {
        filter: TopicFilter::new("a").expect("a topic filter"),
        options: SubscriptionOptions::default(),
    };
    let result =
        pair.client
            .subscribe(pair.now, vec![subscription], SubscribeProperties::default());
    assert_eq!(result, Err(client::RequestError::NotOpen));
    let result = pair.server.publish(pair.now, &message, Default::default());
    assert_eq!(result, Err(PublishError::NotOpen));
}

/// MQTT 5.0 §3.14, §3.14.4
#[test]
fn disconnect_says_why_to_the_other_end() {
    let mut pair = Pair::connected(V5);
    pair.server.disconnect(
        ReasonCode::ServerShuttingDown,
        DisconnectProperties::default(),
    );
    pair.drain_server();
    pair.run();
    let disconnect = Disconnect::new(ReasonCode::ServerShuttingDown);
    assert_eq!(
        pair.client_events,
        [client::Event::Closed(Closed::Disconnected(disconnect))]
    );
    let local = Closed::Local(ReasonCode::ServerShuttingDown);
    assert_eq!(pair.server_events, [server::Event::Closed(local)]);

    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        pair.client
            .disconnect(ReasonCode::Success, DisconnectProperties::default());
        pair.drain_client();
        pair.run();
        let disconnect = Disconnect::new(ReasonCode::Success);
        assert_eq!(
            pair.server_events,
            [server::Event::Closed(Closed::Disconnected(disconnect))]
        );
        assert_eq!(
            pair.client_events,
            [client::Event::Closed(Closed::Local(ReasonCode::Success))]
        );
    }
}

/// [MQTT-3.14.4-1], [MQTT-3.14.4-2]: nothing is sent or heard after DISCONNECT.
#[test]
fn after_the_end_nothing_follows() {
    let mut alone = Alone::open(V5, server::Config::default());
    alone.feed(b"\xE0\x00\xC0\x00\x30\x05\x00\x01t\x00x");
    assert!(matches!(
        alone.events()[..],
        [server::Event::Closed(Closed::Disconnected(_))]
    ));
    alone.feed(b"\xC0\x00");
    assert!(alone.events().is_empty() && alone.written().is_empty());
    assert!(!alone.server.wants_input());
    let message = message("late", alone.now);
    let result = alone
        .server
        .publish(alone.now, &message, Default::default());
    assert_eq!(result, Err(PublishError::NotOpen));
    alone
        .server
        .disconnect(ReasonCode::ServerBusy, DisconnectProperties::default());
    assert!(alone.events().is_empty() && alone.written().is_empty());
}

/// MQTT 3.1.1 has no DISCONNECT of the server; [MQTT-3.14.2-2] of 5.0.
#[test]
fn a_server_that_disconnects_wrongly_has_broken_the_protocol() {
    for (version, wire, violation) in [
        (
            ProtocolVersion::V3_1_1,
            &b"\xE0\x00"[..],
            Violation::UnexpectedPacket {
                packet: PacketType::Disconnect,
            },
        ),
        (
            V5,
            b"\xE0\x07\x00\x05\x11\x00\x00\x00\x01",
            Violation::SessionExpiryFromServer,
        ),
        (
            V5,
            b"\xE0\x01\x04",
            Violation::ForeignDisconnectReason {
                reason: ReasonCode::DisconnectWithWill,
            },
        ),
    ] {
        let mut pair = Pair::connected(version);
        pair.client.handle_input(pair.now, &mut wire.into());
        pair.drain_client();
        assert_eq!(
            pair.client_events,
            [client::Event::Closed(Closed::Violation(violation))]
        );
    }
}

/// [MQTT-3.14.0-1]: before the CONNACK, a server says it in the CONNACK.
#[test]
fn an_end_before_the_decision_is_told_by_connack() {
    let mut alone = Alone::new(server::Config::default());
    alone.feed(&bytes(&Packet::Connect(Box::new(options(V5).connect)), V5));
    alone.events();
    alone
        .server
        .disconnect(ReasonCode::ServerBusy, DisconnectProperties::default());
    assert_eq!(alone.written(), b"\x20\x03\x00\x89\x00");

    let mut alone = Alone::new(server::Config::default());
    alone.feed(&bytes(&Packet::Connect(Box::new(options(V5).connect)), V5));
    alone.events();
    let properties = DisconnectProperties {
        server_reference: Some(MqttString::new("b:1").expect("a string")),
        ..DisconnectProperties::default()
    };
    alone
        .server
        .disconnect(ReasonCode::UseAnotherServer, properties);
    assert_eq!(alone.written(), b"\x20\x09\x00\x9C\x06\x1C\x00\x03b:1");
}
