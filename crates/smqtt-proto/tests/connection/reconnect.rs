//! What survives a broken connection.

use smqtt_proto::packet::SubscribeProperties;
use smqtt_proto::packet::{Subscription, SubscriptionOptions};
use smqtt_proto::{
    Delivery, InFlight, Packet, ProtocolVersion, QoS, ReasonCode, Session, TopicFilter, client,
    server,
};

use crate::pair::*;

fn is_dup(packet: &Packet) -> bool {
    matches!(packet, Packet::Publish(publish) if publish.dup)
}

/// [MQTT-4.4.0-1], [MQTT-3.3.1-1]
#[test]
fn unacknowledged_messages_are_sent_again_in_order_and_marked() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        pair.client_publish("1", QoS::AtLeastOnce);
        pair.client_publish("lost", QoS::AtMostOnce);
        pair.client_publish("2", QoS::ExactlyOnce);
        pair.client_publish("3", QoS::AtLeastOnce);
        pair.reconnect(options(version), server::Config::default(), true);
        pair.run();
        assert!(
            matches!(&pair.client_events[0], client::Event::Connected { connack, lost }
            if connack.session_present && lost.is_empty())
        );
        assert_eq!(pair.server_got(), ["1", "2", "3"]);
        assert_eq!(
            pair.to_server
                .iter()
                .filter(|packet| is_dup(packet))
                .count(),
            3
        );
        assert!(pair.client.session().is_empty() && pair.server.session().is_empty());
    }
}

/// The same from the server, whose session waited in memory.
#[test]
fn a_server_sends_its_unacknowledged_messages_again() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        pair.server_publish("1", QoS::ExactlyOnce);
        pair.server_publish("2", QoS::AtLeastOnce);
        pair.reconnect(options(version), server::Config::default(), true);
        pair.run();
        assert_eq!(pair.client_got(), ["1", "2"]);
        assert!(
            pair.to_client
                .iter()
                .filter(|packet| is_dup(packet))
                .count()
                == 2
        );
        assert!(pair.server.session().is_empty());
    }
}

/// [MQTT-4.4.0-1], [MQTT-4.3.3-13]: a QoS 2 message is delivered once, wherever the connection breaks.
#[test]
fn qos_2_is_exactly_once_wherever_it_breaks() {
    for version in VERSIONS {
        for steps in 0..4 {
            let mut pair = Pair::connected(version);
            let up = pair
                .client_publish("once", QoS::ExactlyOnce)
                .expect("an identifier");
            for step in 0..steps {
                if step % 2 == 0 {
                    pair.client_to_server();
                } else {
                    pair.server_to_client();
                }
            }
            let before = pair.server_got();
            pair.reconnect(options(version), server::Config::default(), true);
            pair.run();
            let all = [before, pair.server_got()].concat();
            assert_eq!(all, ["once"], "{version}, broken after {steps} steps");
            let acknowledged = client::Event::Acknowledged {
                packet_id: up,
                reason: ReasonCode::Success,
            };
            assert!(
                pair.client_events.contains(&acknowledged),
                "{version}, broken after {steps} steps"
            );
            assert!(pair.client.session().is_empty() && pair.server.session().is_empty());
        }
    }
}

/// The owner may be slower than the network: its decision reaches the sender on the next connection.
#[test]
fn a_qos_2_message_that_is_decided_after_the_break_is_not_delivered_again() {
    let version = ProtocolVersion::V5;
    let mut pair = Pair::connected(version);
    pair.server_acknowledges = false;
    let up = pair
        .client_publish("slow", QoS::ExactlyOnce)
        .expect("an identifier");
    pair.run();
    assert_eq!(pair.server_got(), ["slow"]);
    // Decided on the next connection, after the sender has repeated it.
    pair.reconnect(options(version), server::Config::default(), true);
    pair.run();
    assert!(pair.server_got().is_empty());
    assert_eq!(pair.names_to_client(), ["CONNACK"]);
    pair.server.acknowledge(up, ReasonCode::Success);
    pair.run();
    assert_eq!(pair.names_to_client(), ["CONNACK", "PUBREC", "PUBCOMP"]);
    // Decided while there is no connection.
    let up = pair
        .client_publish("slower", QoS::ExactlyOnce)
        .expect("an identifier");
    pair.run();
    pair.reconnect(options(version), server::Config::default(), true);
    pair.session.as_mut().expect("kept").acknowledge(up);
    pair.run();
    assert!(pair.server_got().is_empty());
    assert_eq!(pair.names_to_client(), ["CONNACK", "PUBREC", "PUBCOMP"]);
    assert!(pair.client.session().is_empty());
}

/// [MQTT-3.2.2-5]
#[test]
fn without_a_session_the_client_starts_over_and_gets_back_what_was_lost() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        let first = pair
            .client_publish("1", QoS::AtLeastOnce)
            .expect("an identifier");
        let second = pair
            .client_publish("2", QoS::ExactlyOnce)
            .expect("an identifier");
        pair.reconnect(options(version), server::Config::default(), false);
        pair.run();
        let client::Event::Connected { connack, lost } = &pair.client_events[0] else {
            panic!("connected")
        };
        assert!(!connack.session_present);
        let ids: Vec<_> = lost.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, [first, second]);
        let InFlight::Published { message, delivery } = &lost[0].1 else {
            panic!("published")
        };
        assert_eq!(
            (&message.payload()[..], delivery.qos),
            (&b"1"[..], QoS::AtLeastOnce)
        );
        assert!(pair.server_got().is_empty());
        assert!(pair.client.session().is_empty());
    }
}

/// A request dies with its connection: its identifier is free again.
#[test]
fn requests_are_not_repeated() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        let filter = TopicFilter::new("a").expect("a filter");
        let subscription = Subscription {
            filter,
            options: SubscriptionOptions::default(),
        };
        pair.client
            .subscribe(pair.now, vec![subscription], SubscribeProperties::default())
            .expect("sent");
        pair.reconnect(options(version), server::Config::default(), true);
        assert_eq!(pair.client.session().in_flight(), 0);
        pair.run();
        assert_eq!(pair.names_to_server(), ["CONNECT"]);
        assert!(pair.client.session().is_empty());
    }
}

/// MQTT 5.0 §4.9: the window of the new connection holds for what is sent again, too; new messages wait behind it.
#[test]
fn what_is_sent_again_keeps_to_the_new_window() {
    let version = ProtocolVersion::V5;
    let mut pair = Pair::connected(version);
    for n in 0..10 {
        pair.client_publish(&n.to_string(), QoS::AtLeastOnce);
    }
    let narrow = server::Config {
        receive_maximum: 3,
        ..server::Config::default()
    };
    pair.reconnect(options(version), narrow, true);
    pair.server_acknowledges = false;
    pair.run();
    assert_eq!(pair.server_got(), ["0", "1", "2"]);
    assert_eq!(pair.client.room(), 0);
    pair.server_acknowledges = true;
    for n in 1..=3 {
        pair.server.acknowledge(id(n), ReasonCode::Success);
    }
    pair.run();
    let texts: Vec<String> = (0..10).map(|n| n.to_string()).collect();
    assert_eq!(pair.server_got(), texts);
    assert_eq!(pair.client.room(), 3);
}

/// [MQTT-3.1.2-25]: as if it had been sent.
#[test]
fn what_has_become_too_large_is_dropped_and_reported() {
    let version = ProtocolVersion::V5;
    let mut pair = Pair::connected(version);
    let large = pair
        .server_publish(&"x".repeat(500), QoS::AtLeastOnce)
        .expect("an identifier");
    pair.server_publish("small", QoS::AtLeastOnce);
    let mut narrow = options(version);
    narrow.max_packet_size = 100;
    pair.reconnect(narrow, server::Config::default(), true);
    pair.run();
    assert_eq!(pair.client_got(), ["small"]);
    let dropped = server::Event::Acknowledged {
        packet_id: large,
        reason: ReasonCode::PacketTooLarge,
    };
    assert!(pair.server_events.contains(&dropped));
    assert!(pair.server.session().is_empty());
}

/// A session can be written down and restored by a store.
#[test]
fn a_restored_session_goes_on_where_it_was() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        pair.server_publish("released", QoS::ExactlyOnce);
        pair.server_to_client();
        pair.client_to_server();
        pair.server_publish("1", QoS::AtLeastOnce);
        pair.server_publish("2", QoS::ExactlyOnce);
        pair.client_publish("half", QoS::ExactlyOnce);
        pair.client_to_server();
        let before = pair.server_got();
        assert_eq!(before, ["half"]);
        pair.reconnect(options(version), server::Config::default(), true);
        let kept = pair.session.take().expect("kept");
        let mut restored = Session::new();
        for (packet_id, state) in kept.outgoing() {
            restored.restore_outgoing(packet_id, state);
        }
        for packet_id in kept.incoming() {
            restored.restore_incoming(packet_id);
        }
        assert_eq!(restored.outgoing(), kept.outgoing());
        assert_eq!(restored.in_flight(), 3);
        pair.session = Some(restored);
        pair.run();
        assert_eq!(
            pair.client_got(),
            ["1", "2"],
            "the released one was delivered before"
        );
        assert!(
            pair.server_got().is_empty(),
            "so was the one that came half"
        );
        assert!(pair.client.session().is_empty() && pair.server.session().is_empty());
    }
}

#[test]
fn restoring_far_identifiers_leaves_the_others_free() {
    let now = std::time::Instant::now();
    let mut session = Session::new();
    let published = |qos| InFlight::Published {
        message: message("x", now),
        delivery: Delivery::new(qos),
    };
    session.restore_outgoing(id(65_535), published(QoS::AtLeastOnce));
    session.restore_outgoing(id(3), InFlight::Released);
    session.restore_outgoing(id(3), InFlight::Released);
    session.restore_outgoing(id(9), published(QoS::AtMostOnce));
    assert_eq!(session.in_flight(), 2);
    let ids: Vec<_> = session.outgoing().iter().map(|(id, _)| id.get()).collect();
    assert_eq!(ids, [65_535, 3], "in the order of sending");
}

#[test]
fn sessions_move_between_threads() {
    fn movable<T: Send + 'static>(_: &T) {}
    let pair = Pair::connected(ProtocolVersion::V5);
    movable(&pair.server);
    movable(&pair.client);
    movable(pair.server.session());
}

/// A server that takes nothing more and can't say so, as one of MQTT 3.1.1: what it did not take is new when it
/// comes again.
#[test]
fn a_message_that_was_withdrawn_is_handed_over_again() {
    let version = ProtocolVersion::V3_1_1;
    let mut pair = Pair::connected(version);
    pair.server_acknowledges = false;
    let up = pair
        .client_publish("refused", QoS::ExactlyOnce)
        .expect("an identifier");
    pair.run();
    assert_eq!(pair.server_got(), ["refused"]);
    pair.server.withdraw(up);
    pair.server_acknowledges = true;
    pair.reconnect(options(version), server::Config::default(), true);
    pair.run();
    assert_eq!(pair.server_got(), ["refused"]);
    assert_eq!(pair.names_to_client(), ["CONNACK", "PUBREC", "PUBCOMP"]);
    assert!(pair.client.session().is_empty());
}
