//! Messages with QoS 0, 1 and 2 in both directions, subscriptions, and the order of everything.

use smqtt_proto::packet::{
    AckProperties, SubAck, SubscribeProperties, Subscription, SubscriptionOptions, UnsubAck,
    UnsubscribeProperties,
};
use smqtt_proto::{
    Closed, Delivery, MqttString, Packet, PacketType, ProtocolVersion, QoS, ReasonCode,
    TopicFilter, Violation, client, server,
};

use crate::pair::*;

#[test]
fn qos_0_is_sent_and_forgotten() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        assert_eq!(pair.client_publish("up", QoS::AtMostOnce), None);
        assert_eq!(pair.server_publish("down", QoS::AtMostOnce), None);
        pair.run();
        assert_eq!(
            (pair.server_got(), pair.client_got()),
            (vec!["up".into()], vec!["down".into()])
        );
        assert_eq!(
            (pair.names_to_server(), pair.names_to_client()),
            (vec!["PUBLISH"], vec!["PUBLISH"])
        );
        assert!(pair.client.session().is_empty() && pair.server.session().is_empty());
    }
}

/// [MQTT-4.3.2-1] to [MQTT-4.3.2-5]
#[test]
fn qos_1_ends_with_puback() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        let up = pair
            .client_publish("up", QoS::AtLeastOnce)
            .expect("an identifier");
        let down = pair
            .server_publish("down", QoS::AtLeastOnce)
            .expect("an identifier");
        assert_eq!(pair.client.session().in_flight(), 1);
        pair.run();
        assert_eq!(
            (pair.server_got(), pair.client_got()),
            (vec!["up".into()], vec!["down".into()])
        );
        let acknowledged = client::Event::Acknowledged {
            packet_id: up,
            reason: ReasonCode::Success,
        };
        assert!(pair.client_events.contains(&acknowledged));
        let acknowledged = server::Event::Acknowledged {
            packet_id: down,
            reason: ReasonCode::Success,
        };
        assert!(pair.server_events.contains(&acknowledged));
        assert!(pair.client.session().is_empty() && pair.server.session().is_empty());
    }
}

/// [MQTT-4.3.3-1] to [MQTT-4.3.3-13]
#[test]
fn qos_2_takes_four_packets() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        let up = pair
            .client_publish("up", QoS::ExactlyOnce)
            .expect("an identifier");
        pair.run();
        assert_eq!(pair.names_to_server(), ["PUBLISH", "PUBREL"]);
        assert_eq!(pair.names_to_client(), ["PUBREC", "PUBCOMP"]);
        assert_eq!(
            pair.client_events,
            [
                client::Event::Received { packet_id: up },
                client::Event::Acknowledged {
                    packet_id: up,
                    reason: ReasonCode::Success
                },
            ]
        );
        assert_eq!(pair.server_got(), ["up"]);
        assert_eq!(
            pair.server_events[1],
            server::Event::Released { packet_id: up }
        );
        pair.forget();
        let down = pair
            .server_publish("down", QoS::ExactlyOnce)
            .expect("an identifier");
        pair.run();
        assert_eq!(pair.names_to_client(), ["PUBLISH", "PUBREL"]);
        assert_eq!(pair.client_got(), ["down"]);
        let acknowledged = server::Event::Acknowledged {
            packet_id: down,
            reason: ReasonCode::Success,
        };
        assert_eq!(pair.server_events[1], acknowledged);
        assert!(pair.client.session().is_empty() && pair.server.session().is_empty());
    }
}

/// [MQTT-4.3.3-10]: the message comes once, however often it is sent.
#[test]
fn a_repeated_qos_2_message_is_delivered_once() {
    for version in VERSIONS {
        let mut alone = Alone::open(version, server::Config::default());
        let publish: &[u8] = if version.is_v5() {
            b"\x34\x06\x00\x01t\x00\x07\x00"
        } else {
            b"\x34\x05\x00\x01t\x00\x07"
        };
        let repeated = [&[publish[0] | 0x08][..], &publish[1..]].concat();
        alone.feed(publish);
        assert_eq!(alone.events().len(), 1);
        // Repeated before the server has decided: its decision answers once.
        alone.feed(&repeated);
        assert!(alone.events().is_empty() && alone.written().is_empty());
        alone.server.acknowledge(id(7), ReasonCode::Success);
        assert_eq!(alone.written(), b"\x50\x02\x00\x07");
        // Repeated after: answered again, not delivered again.
        alone.feed(&repeated);
        assert!(alone.events().is_empty());
        assert_eq!(alone.written(), b"\x50\x02\x00\x07");
        alone.feed(b"\x62\x02\x00\x07");
        assert_eq!(
            alone.events(),
            [server::Event::Released { packet_id: id(7) }]
        );
        assert_eq!(alone.written(), b"\x70\x02\x00\x07");
        // The identifier is free: the same packet is a new message.
        alone.feed(publish);
        assert_eq!(alone.events().len(), 1);
    }
}

/// [MQTT-4.3.3-9]: a PUBREC with an error ends it.
#[test]
fn a_refused_qos_2_message_is_over() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.server_acknowledges = false;
    let up = pair
        .client_publish("up", QoS::ExactlyOnce)
        .expect("an identifier");
    pair.run();
    pair.server.acknowledge(up, ReasonCode::QuotaExceeded);
    pair.run();
    let refused = client::Event::Acknowledged {
        packet_id: up,
        reason: ReasonCode::QuotaExceeded,
    };
    assert_eq!(pair.client_events, [refused]);
    assert_eq!(pair.names_to_server(), ["PUBLISH"], "no PUBREL");
    assert!(pair.client.session().is_empty() && pair.server.session().is_empty());
}

/// [MQTT-4.6.0-2], [MQTT-4.6.0-3]
#[test]
fn acknowledgements_leave_in_the_order_of_the_messages() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.server_acknowledges = false;
    let ids: Vec<_> = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce]
        .into_iter()
        .filter_map(|qos| pair.client_publish("x", qos))
        .collect();
    pair.run();
    pair.server.acknowledge(ids[2], ReasonCode::Success);
    pair.server.acknowledge(ids[1], ReasonCode::Success);
    pair.run();
    assert!(pair.to_client.is_empty(), "the first is still owed");
    pair.server
        .acknowledge(ids[0], ReasonCode::NoMatchingSubscribers);
    pair.run();
    assert_eq!(
        pair.names_to_client(),
        ["PUBACK", "PUBREC", "PUBACK", "PUBCOMP"]
    );
    let got: Vec<_> = pair.to_client.iter().map(identifier).collect();
    assert_eq!(got, [ids[0], ids[1], ids[2], ids[1]]);
}

fn identifier(packet: &Packet) -> smqtt_proto::PacketId {
    match packet {
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            ack.packet_id
        }
        other => panic!("not an acknowledgement: {other:?}"),
    }
}

/// [MQTT-4.6.0-1], [MQTT-4.6.0-6]
#[test]
fn messages_arrive_in_the_order_of_sending() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        let texts: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        for (n, text) in texts.iter().enumerate() {
            let qos = QoS::from_u8(u8::try_from(n % 3).expect("small")).expect("0, 1 or 2");
            pair.client_publish(text, qos);
            pair.server_publish(text, qos);
        }
        pair.run();
        assert_eq!(pair.server_got(), texts);
        assert_eq!(pair.client_got(), texts);
    }
}

#[test]
fn identifiers_are_not_used_twice_at_a_time() {
    let mut pair = Pair::connected(ProtocolVersion::V5);
    pair.server_acknowledges = false;
    let mut seen = std::collections::HashSet::new();
    for _ in 0..500 {
        assert!(seen.insert(pair.client_publish("x", QoS::AtLeastOnce)));
    }
    let filter = TopicFilter::new("a").expect("a topic filter");
    let request = pair
        .client
        .unsubscribe(pair.now, vec![filter], UnsubscribeProperties::default());
    assert!(
        seen.insert(request.ok()),
        "requests have identifiers of their own"
    );
}

#[test]
fn identifiers_are_used_again_while_one_message_stays_unacknowledged() {
    let mut alone = Alone::open(ProtocolVersion::V3_1_1, server::Config::default());
    let message = message("x", alone.now);
    let publish = |alone: &mut Alone| {
        let delivery = Delivery::new(QoS::AtLeastOnce);
        alone
            .server
            .publish(alone.now, &message, delivery)
            .expect("there is room")
            .expect("an identifier")
    };
    let stays = publish(&mut alone);
    for _ in 0..70_000 {
        let next = publish(&mut alone);
        assert!(next != stays && next.get() < 10, "the table stays small");
        alone.feed(&[0x40, 2, 0, u8::try_from(next.get()).expect("below 10")]);
        assert_eq!(alone.events().len(), 1);
        alone.written();
    }
}

fn subscriptions(filters: &[&str]) -> Vec<Subscription> {
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    let subscription = |filter: &&str| Subscription {
        filter: TopicFilter::new(*filter).expect("a filter"),
        options,
    };
    filters.iter().map(subscription).collect()
}

/// [MQTT-3.8.4-1] to [MQTT-3.8.4-6], [MQTT-3.10.4-4] to [MQTT-3.10.4-6]
#[test]
fn requests_are_answered_with_a_code_for_each() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        let properties = SubscribeProperties::default();
        let asked = pair
            .client
            .subscribe(pair.now, subscriptions(&["a/+", "b"]), properties)
            .expect("sent");
        pair.run();
        let [server::Event::Subscribe(subscribe)] = &pair.server_events[..] else {
            panic!("a SUBSCRIBE")
        };
        assert_eq!(
            (subscribe.packet_id, subscribe.subscriptions.len()),
            (asked, 2)
        );
        let reasons = vec![ReasonCode::GrantedQoS1, ReasonCode::UnspecifiedError];
        let suback = SubAck {
            packet_id: asked,
            properties: AckProperties::default(),
            reasons,
        };
        pair.server.suback(suback.clone());
        pair.run();
        assert_eq!(pair.client_events, [client::Event::SubAck(suback)]);

        pair.forget();
        let filters = vec![TopicFilter::new("b").expect("a filter")];
        let asked = pair
            .client
            .unsubscribe(pair.now, filters, UnsubscribeProperties::default())
            .expect("sent");
        pair.run();
        assert!(matches!(
            &pair.server_events[..],
            [server::Event::Unsubscribe(_)]
        ));
        let reasons = if version.is_v5() {
            vec![ReasonCode::NoSubscriptionExisted]
        } else {
            Vec::new()
        };
        let unsuback = UnsubAck {
            packet_id: asked,
            properties: AckProperties::default(),
            reasons,
        };
        pair.server.unsuback(unsuback.clone());
        pair.run();
        assert_eq!(pair.client_events, [client::Event::UnsubAck(unsuback)]);
        assert!(pair.client.session().is_empty());
    }
}

/// [MQTT-3.8.4-6]: as many codes as filters, to a request that was made.
#[test]
fn an_answer_that_fits_no_request_is_a_violation() {
    for wire in [
        &b"\x90\x04\x00\x01\x00\x00"[..],
        b"\x90\x04\x00\x05\x00\x00",
        b"\xB0\x04\x00\x01\x00\x00",
    ] {
        let mut pair = Pair::connected(ProtocolVersion::V5);
        let properties = SubscribeProperties::default();
        pair.client
            .subscribe(pair.now, subscriptions(&["a", "b"]), properties)
            .expect("sent");
        pair.client.handle_input(pair.now, &mut wire.into());
        pair.drain_client();
        let packet = PacketType::from_u8(wire[0] >> 4).expect("a packet type");
        let violation = Closed::Violation(Violation::UnexpectedAnswer { packet });
        assert_eq!(pair.client_events, [client::Event::Closed(violation)]);
    }
}

/// [MQTT-3.1.2-29], [MQTT-3.9.2-1]
#[test]
fn text_for_people_is_left_out_where_it_is_not_wanted_or_does_not_fit() {
    let properties = AckProperties {
        reason_string: Some(MqttString::new("because of the rules ".repeat(10)).expect("a string")),
        user_properties: vec![(
            MqttString::new("rule").expect("a string"),
            MqttString::empty(),
        )],
    };
    let suback = SubAck {
        packet_id: id(1),
        properties,
        reasons: vec![ReasonCode::NotAuthorized],
    };
    let bare = b"\x90\x04\x00\x01\x00\x87";
    let mut connect = options(ProtocolVersion::V5).connect;
    let mut wanted = Alone::open_as(connect.clone(), server::Config::default());
    wanted.server.suback(suback.clone());
    assert!(wanted.written().len() > bare.len());
    connect.properties.request_problem_information = Some(false);
    let mut unwanted = Alone::open_as(connect.clone(), server::Config::default());
    unwanted.server.suback(suback.clone());
    assert_eq!(unwanted.written(), bare);
    connect.properties.request_problem_information = None;
    connect.properties.maximum_packet_size = Some(100);
    let mut too_large = Alone::open_as(connect, server::Config::default());
    too_large.server.suback(suback);
    assert_eq!(too_large.written(), bare);
}

/// MQTT 5.0 §3.6.2.1, §3.7.2.1
#[test]
fn acknowledgements_of_nothing_are_answered_so_that_the_peer_can_let_go() {
    for (version, pubrel, pubcomp) in [
        (
            ProtocolVersion::V3_1_1,
            &b"\x62\x02\x00\x09"[..],
            &b"\x70\x02\x00\x09"[..],
        ),
        (
            ProtocolVersion::V5,
            b"\x62\x03\x00\x09\x92",
            b"\x70\x03\x00\x09\x92",
        ),
    ] {
        let mut alone = Alone::open(version, server::Config::default());
        alone.feed(b"\x50\x02\x00\x09");
        assert!(alone.events().is_empty());
        assert_eq!(alone.written(), pubrel);
        alone.feed(b"\x62\x02\x00\x09");
        assert!(alone.events().is_empty());
        assert_eq!(alone.written(), pubcomp);
        alone.feed(b"\x40\x02\x00\x09\x70\x02\x00\x09");
        assert!(alone.events().is_empty() && alone.written().is_empty());
        assert!(alone.server.is_open());
    }
}
