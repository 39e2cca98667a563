//! Topic aliases in both directions (MQTT 5.0 §3.3.2.3.4).

use std::sync::Arc;

use smqtt_proto::packet::Publish;
use smqtt_proto::{
    Closed, Delivery, Message, Packet, ProtocolVersion, QoS, TopicName, Violation, server,
};

use crate::pair::*;

const V5: ProtocolVersion = ProtocolVersion::V5;

fn aliases(packets: &[Packet]) -> Vec<(&str, Option<u16>)> {
    let publishes = packets.iter().filter_map(|packet| match packet {
        Packet::Publish(publish) => Some((
            publish.topic.as_str(),
            publish.properties.topic_alias.map(|alias| alias.get()),
        )),
        _ => None,
    });
    publishes.collect()
}

fn to(topic: &str, pair: &Pair) -> Arc<Message> {
    let publish = Publish::new(TopicName::new(topic).expect("a topic name"), "x");
    Arc::new(Message::new(&publish, pair.now).expect("encodes"))
}

#[test]
fn repeated_topics_are_sent_by_alias_and_arrive_whole() {
    let mut taking_two = options(V5);
    taking_two.topic_alias_maximum = 2;
    let mut pair = Pair::connected_with(taking_two, server::Config::default());
    for topic in ["a", "b", "a", "c", "b", "c"] {
        let message = to(topic, &pair);
        pair.server
            .publish(pair.now, &message, Delivery::new(QoS::AtLeastOnce))
            .expect("sent");
    }
    pair.run();
    let expected = [
        ("a", Some(1)),
        ("b", Some(2)),
        ("", Some(1)),
        ("c", None),
        ("", Some(2)),
        ("c", None),
    ];
    assert_eq!(aliases(&pair.to_client), expected);
    let topics = pair.client_events.iter().filter_map(|event| match event {
        smqtt_proto::client::Event::Publish(publish) => {
            assert_eq!(publish.properties.topic_alias, None, "resolved");
            Some(publish.topic.as_str())
        }
        _ => None,
    });
    assert_eq!(topics.collect::<Vec<_>>(), ["a", "b", "a", "c", "b", "c"]);
}

/// Whoever resolves them gets every message with its topic, however often aliases change hands.
#[test]
fn aliases_go_over_to_the_topics_in_use() {
    let mut taking_two = options(V5);
    taking_two.topic_alias_maximum = 2;
    let mut pair = Pair::connected_with(taking_two, server::Config::default());
    let mut sent = Vec::new();
    for phase in ["a", "b"] {
        for _ in 0..5 {
            // Each twice in a row: what came before is remembered in few places, which two topics may share.
            for topic in ["1", "1", "2", "2"] {
                let topic = format!("{phase}/{topic}");
                let message = to(&topic, &pair);
                pair.server
                    .publish(pair.now, &message, Delivery::default())
                    .expect("sent");
                sent.push(topic);
            }
        }
    }
    pair.run();
    let wire = aliases(&pair.to_client);
    let expected = [("", Some(1)), ("", Some(1)), ("", Some(2)), ("", Some(2))];
    assert_eq!(wire[wire.len() - 4..], expected);
    let topics = pair.client_events.iter().filter_map(|event| match event {
        smqtt_proto::client::Event::Publish(publish) => Some(publish.topic.as_str()),
        _ => None,
    });
    assert_eq!(topics.collect::<Vec<_>>(), sent);
}

#[test]
fn clients_use_the_aliases_that_the_server_takes() {
    let config = server::Config {
        topic_alias_maximum: 1,
        ..server::Config::default()
    };
    let mut pair = Pair::connected_with(options(V5), config);
    for topic in ["a", "a", "b"] {
        let message = to(topic, &pair);
        pair.client
            .publish(pair.now, &message, Delivery::default())
            .expect("sent");
    }
    pair.run();
    assert_eq!(
        aliases(&pair.to_server),
        [("a", Some(1)), ("", Some(1)), ("b", None)]
    );
    assert_eq!(pair.server_got().len(), 3);
}

/// [MQTT-3.3.2-11], [MQTT-3.3.2-12]: who takes none gets none; MQTT 3.1.1 has none.
#[test]
fn no_alias_is_sent_to_who_takes_none() {
    for version in VERSIONS {
        let mut taking_none = options(version);
        taking_none.topic_alias_maximum = 0;
        let config = server::Config {
            topic_alias_maximum: 0,
            ..server::Config::default()
        };
        let mut pair = Pair::connected_with(taking_none, config);
        for _ in 0..2 {
            pair.server_publish("x", QoS::AtMostOnce);
            pair.client_publish("x", QoS::AtMostOnce);
        }
        pair.run();
        assert_eq!(aliases(&pair.to_client), [("a/b", None); 2]);
        assert_eq!(aliases(&pair.to_server), [("a/b", None); 2]);
    }
}

/// [MQTT-3.3.2-7]: aliases end with the connection, also for what is sent again.
#[test]
fn aliases_begin_anew_with_each_connection() {
    let mut pair = Pair::connected(V5);
    pair.client_publish("1", QoS::AtLeastOnce);
    pair.client_publish("2", QoS::AtLeastOnce);
    pair.reconnect(options(V5), server::Config::default(), true);
    pair.run();
    assert_eq!(aliases(&pair.to_server), [("a/b", Some(1)), ("", Some(1))]);
    assert_eq!(pair.server_got(), ["1", "2"]);
}

/// A message that is not sent teaches the peer no alias.
#[test]
fn a_message_that_is_too_large_sets_no_alias() {
    let mut small = options(V5);
    small.max_packet_size = 50;
    let mut pair = Pair::connected_with(small, server::Config::default());
    let large = message(&"x".repeat(60), pair.now);
    pair.server
        .publish(pair.now, &large, Delivery::default())
        .expect_err("too large");
    pair.server_publish("small", QoS::AtMostOnce);
    pair.run();
    assert_eq!(aliases(&pair.to_client), [("a/b", Some(1))]);
}

#[test]
fn an_alias_can_be_given_to_another_topic() {
    let mut alone = Alone::open(V5, server::Config::default());
    alone.feed(b"\x30\x07\x00\x01a\x03\x23\x00\x05\x30\x06\x00\x00\x03\x23\x00\x05");
    alone.feed(b"\x30\x07\x00\x01b\x03\x23\x00\x05\x30\x06\x00\x00\x03\x23\x00\x05");
    let topics: Vec<_> = alone
        .events()
        .into_iter()
        .map(|event| match event {
            server::Event::Publish(publish) => publish.topic.as_str().to_owned(),
            other => panic!("not a message: {other:?}"),
        })
        .collect();
    assert_eq!(topics, ["a", "a", "b", "b"]);
}

/// An alias lives as long as the connection: it must not keep the read buffer that it came in.
#[test]
fn an_alias_keeps_no_read_buffer() {
    let mut alone = Alone::open(V5, server::Config::default());
    let mut input = bytes::BytesMut::from(&b"\x30\x07\x00\x01a\x03\x23\x00\x05"[..]);
    let buffer = input.as_ptr_range();
    alone.server.handle_input(alone.now, &mut input);
    let first = alone.events();
    alone.feed(b"\x30\x06\x00\x00\x03\x23\x00\x05");
    let second = alone.events();
    let within = |events: &[server::Event]| match events {
        [server::Event::Publish(publish)] => buffer.contains(&publish.topic.bytes().as_ptr()),
        other => panic!("not a message: {other:?}"),
    };
    assert!(within(&first) && !within(&second));
}

/// [MQTT-3.3.2-9]; 0x94 for an alias above the maximum, 0x82 for one that stands for nothing.
#[test]
fn wrong_aliases_end_the_connection() {
    for (wire, violation, reason) in [
        (
            &b"\x30\x07\x00\x01a\x03\x23\x00\x21"[..],
            Violation::TopicAliasAboveMaximum {
                alias: 33,
                maximum: 32,
            },
            0x94,
        ),
        (
            b"\x30\x06\x00\x00\x03\x23\x00\x05",
            Violation::UnknownTopicAlias { alias: 5 },
            0x82,
        ),
    ] {
        let mut alone = Alone::open(V5, server::Config::default());
        alone.feed(wire);
        assert_eq!(
            alone.events(),
            [server::Event::Closed(Closed::Violation(violation))]
        );
        assert_eq!(alone.written(), [0xE0, 1, reason]);
    }
}
