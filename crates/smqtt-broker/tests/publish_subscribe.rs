//! Messages from publishers to subscribers: QoS, wildcards, properties, subscription options.

mod harness;

use std::num::NonZeroU16;

use harness::{Broker, Client, Options, publish, text};
use smqtt_proto::packet::{MessageProperties, Publish, PublishProperties, SubscriptionOptions};
use smqtt_proto::{Packet, ProtocolVersion, QoS, ReasonCode, TopicName};

const ALL_QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

#[test]
fn messages_arrive_with_the_lesser_of_both_qos_between_all_versions() {
    let broker = Broker::open();
    for from in VERSIONS {
        for to in VERSIONS {
            let mut publisher = Client::connect(broker.port(), Options::new(from, "pub"));
            for granted in ALL_QOS {
                let mut subscriber = Client::connect(broker.port(), Options::new(to, "sub"));
                assert_eq!(
                    subscriber.subscribe("a/b", granted),
                    ReasonCode::granted(granted)
                );
                for qos in ALL_QOS {
                    assert_eq!(publisher.publish("a/b", qos, "hello"), ReasonCode::Success);
                    let got = subscriber.receive_publish();
                    assert_eq!(got.qos, qos.min(granted));
                    assert_eq!(
                        (got.topic.as_str(), &got.payload[..]),
                        ("a/b", &b"hello"[..])
                    );
                    assert!(!got.retain && !got.dup);
                    subscriber.acknowledge(&got);
                }
                subscriber.settle();
                subscriber.disconnect();
            }
        }
    }
}

#[test]
fn empty_and_large_payloads_arrive_whole() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let mut subscriber = Client::connect(broker.port(), Options::v3("sub"));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    for size in [0, 1, 1_023, 1_024, 70_000, 1_000_000] {
        let payload: String = (0..size)
            .map(|i| char::from(b'a' + (i % 26) as u8))
            .collect();
        publisher.publish("t", QoS::AtLeastOnce, &payload);
        assert!(subscriber.receive_text() == payload, "{size} bytes");
    }
}

#[test]
fn wildcards_select_by_level_and_leave_system_topics_alone() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v3("pub"));
    for (filter, topic, matches) in [
        ("sport/+/player1", "sport/tennis/player1", true),
        ("sport/+/player1", "sport/tennis/x/player1", false),
        ("sport/tennis/#", "sport/tennis", true),
        ("sport/tennis/#", "sport/tennis/player1/ranking", true),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$private/x", false),
        ("+/x", "$private/x", false),
        ("$private/#", "$private/x", true),
        ("#", "any/thing", true),
    ] {
        let mut subscriber = Client::connect(broker.port(), Options::v3("sub"));
        subscriber.subscribe(filter, QoS::AtMostOnce);
        subscriber.subscribe("the end", QoS::AtMostOnce);
        publisher.publish(topic, QoS::AtLeastOnce, "x");
        publisher.publish("the end", QoS::AtLeastOnce, "x");
        let mut got = Vec::new();
        while got.last().is_none_or(|last| last != "the end") {
            got.push(subscriber.receive_publish().topic.as_str().to_owned());
        }
        let expected = if matches {
            vec![topic, "the end"]
        } else {
            vec!["the end"]
        };
        assert_eq!(got, expected, "{filter}");
        subscriber.disconnect();
    }
}

#[test]
fn a_session_gets_one_copy_with_the_identifiers_of_all_matching_subscriptions() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let mut subscriber = Client::connect(broker.port(), Options::v5("sub"));
    subscriber.subscribe_with("a/#", SubscriptionOptions::new(QoS::AtMostOnce), Some(1));
    subscriber.subscribe_with(
        "a/+",
        SubscriptionOptions::new(QoS::AtLeastOnce),
        Some(268_435_455),
    );
    subscriber.subscribe_with("+/b", SubscriptionOptions::new(QoS::AtMostOnce), None);
    publisher.publish("a/b", QoS::ExactlyOnce, "x");
    let got = subscriber.receive_publish();
    assert_eq!(got.qos, QoS::AtLeastOnce);
    let mut ids = got.properties.subscription_ids.to_vec();
    ids.sort_unstable();
    assert_eq!(ids, [1, 268_435_455]);
    subscriber.acknowledge(&got);
    subscriber.settle();
}

#[test]
fn properties_are_relayed_in_order_and_expiry_counts_down() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let mut subscriber = Client::connect(broker.port(), Options::v5("sub"));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    let user = vec![
        (text("z"), text("1")),
        (text("a"), text("2")),
        (text("z"), text("1")),
        (text(""), text("")),
    ];
    let mut properties = PublishProperties::from(MessageProperties {
        payload_is_utf8: Some(true),
        message_expiry_interval: Some(100),
        response_topic: Some(TopicName::new("answer/here").expect("topic")),
        correlation_data: Some((&b"\x00\xFFcorrelation"[..]).into()),
        user_properties: user,
        content_type: Some(text("application/cose")),
        ..MessageProperties::default()
    });
    properties.topic_alias = NonZeroU16::new(1);
    let packet = Publish {
        properties: properties.clone(),
        ..publish("t", QoS::AtLeastOnce, "x")
    };
    publisher.publish_packet(packet);
    let got = subscriber.receive_publish();
    let seconds = got.properties.message_expiry_interval;
    assert!(
        seconds.is_some_and(|s| (90..=100).contains(&s)),
        "{seconds:?}"
    );
    let mut expected = properties;
    expected.topic_alias = None;
    expected.message_expiry_interval = seconds;
    assert_eq!(got.properties, expected);
}

#[test]
fn topic_aliases_of_publishers_are_resolved() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let mut subscriber = Client::connect(broker.port(), Options::v5("sub"));
    subscriber.subscribe("#", QoS::AtMostOnce);
    for (topic, alias, payload) in [
        ("a", 1, "1"),
        ("", 1, "2"),
        ("b", 1, "3"),
        ("", 1, "4"),
        ("c", 32, "5"),
        ("", 32, "6"),
    ] {
        let topic = if topic.is_empty() {
            TopicName::ALIASED
        } else {
            TopicName::new(topic).expect("topic")
        };
        let mut packet = Publish::new(topic, payload);
        packet.properties.topic_alias = NonZeroU16::new(alias);
        publisher.publish_packet(packet);
    }
    for (topic, payload) in [
        ("a", "1"),
        ("a", "2"),
        ("b", "3"),
        ("b", "4"),
        ("c", "5"),
        ("c", "6"),
    ] {
        let got = subscriber.receive_publish();
        assert_eq!(
            (got.topic.as_str(), &got.payload[..]),
            (topic, payload.as_bytes())
        );
        assert_eq!(
            got.properties.topic_alias, None,
            "this subscriber takes none"
        );
    }
    let mut packet = Publish::new(TopicName::new("d").expect("topic"), "x");
    packet.properties.topic_alias = NonZeroU16::new(33);
    publisher.publish_packet(packet);
    publisher.expect_disconnect(ReasonCode::TopicAliasInvalid);
}

#[test]
fn no_local_keeps_a_session_from_its_own_messages() {
    let broker = Broker::open();
    let mut both = Client::connect(broker.port(), Options::v5("both"));
    let mut other = Client::connect(broker.port(), Options::v5("other"));
    let options = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    for client in [&mut both, &mut other] {
        client.subscribe_with("t", options, None);
    }
    both.publish("t", QoS::AtMostOnce, "mine");
    both.settle();
    assert_eq!(other.receive_text(), "mine");
    other.publish("t", QoS::AtMostOnce, "theirs");
    assert_eq!(both.receive_text(), "theirs");
}

#[test]
fn messages_larger_than_a_subscriber_takes_are_left_out_for_it_alone() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let small = Options::v5("small").properties(|p| p.maximum_packet_size = Some(40));
    let mut small = Client::connect(broker.port(), small);
    let mut large = Client::connect(broker.port(), Options::v5("large"));
    for client in [&mut small, &mut large] {
        client.subscribe("t", QoS::AtLeastOnce);
    }
    let long = "x".repeat(100);
    for payload in ["first", &long, "last"] {
        publisher.publish("t", QoS::AtLeastOnce, payload);
    }
    assert_eq!(
        ["first", "last"].map(|_| small.receive_text()),
        ["first", "last"]
    );
    assert_eq!(
        [0; 3].map(|_| large.receive_text()),
        ["first", &long, "last"]
    );
}

#[test]
fn unsubscribing_ends_delivery_and_tells_what_there_was() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let mut subscriber = Client::connect(broker.port(), Options::v5("sub"));
    subscriber.subscribe("t", QoS::AtLeastOnce);
    assert_eq!(subscriber.unsubscribe("t"), [ReasonCode::Success]);
    assert_eq!(
        subscriber.unsubscribe("t"),
        [ReasonCode::NoSubscriptionExisted]
    );
    assert_eq!(
        publisher.publish("t", QoS::AtLeastOnce, "x"),
        ReasonCode::NoMatchingSubscribers
    );
    subscriber.settle();
}

#[test]
fn the_receive_maximum_of_a_subscriber_is_kept() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let options = Options::v5("sub").properties(|p| p.receive_maximum = Some(2));
    let mut subscriber = Client::connect(broker.port(), options);
    subscriber.subscribe("t", QoS::AtLeastOnce);
    for i in 0..5 {
        publisher.publish("t", QoS::AtLeastOnce, &i.to_string());
    }
    let first = subscriber.receive_publish();
    let second = subscriber.receive_publish();
    subscriber.settle();
    subscriber.acknowledge(&second);
    assert_eq!(subscriber.receive_text(), "2");
    subscriber.acknowledge(&first);
    assert_eq!([0; 2].map(|_| subscriber.receive_text()), ["3", "4"]);
}

#[test]
fn a_publisher_that_exceeds_the_receive_maximum_is_disconnected() {
    let broker = Broker::configured("[session]\nreceive_maximum = 2\n");
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    for _ in 0..3 {
        let mut packet = publish("t", QoS::ExactlyOnce, "x");
        packet.packet_id = Some(publisher.packet_id());
        publisher.send(Packet::Publish(packet));
    }
    assert!(matches!(publisher.receive(), Packet::PubRec(_)));
    assert!(matches!(publisher.receive(), Packet::PubRec(_)));
    publisher.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn a_repeated_qos2_message_is_delivered_once() {
    let broker = Broker::open();
    let mut subscriber = Client::connect(broker.port(), Options::v3("sub"));
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut publisher = Client::connect(broker.port(), Options::v3("pub"));
    let mut packet = publish("t", QoS::ExactlyOnce, "once");
    packet.packet_id = Some(publisher.packet_id());
    for dup in [false, true] {
        publisher.send(Packet::Publish(Publish {
            dup,
            ..packet.clone()
        }));
        assert!(matches!(publisher.receive(), Packet::PubRec(_)));
    }
    publisher.publish("t", QoS::AtLeastOnce, "next");
    assert_eq!([0; 2].map(|_| subscriber.receive_text()), ["once", "next"]);
}

#[test]
fn clients_do_not_publish_to_the_brokers_own_topics() {
    let broker = Broker::open();
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    client.subscribe("$SYS/broker/mine", QoS::AtMostOnce);
    assert_eq!(
        client.publish("$SYS/broker/mine", QoS::AtLeastOnce, "x"),
        ReasonCode::NotAuthorized
    );
    assert_eq!(
        client.publish("$SYS/broker/mine", QoS::ExactlyOnce, "x"),
        ReasonCode::NotAuthorized
    );
    client.publish("$SYS/broker/mine", QoS::AtMostOnce, "x");
    client.settle();
}

#[test]
fn the_reason_of_a_refusal_need_not_be_told() {
    let broker = Broker::configured("[protocol]\ntell_not_authorized = false\n");
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(
            client.publish("$SYS/broker/mine", qos, "x"),
            ReasonCode::UnspecifiedError
        );
    }
}

#[test]
fn subscriptions_and_levels_are_bounded() {
    let broker = Broker::configured("[limits]\ntopic_levels = 3\n[session]\nsubscriptions = 2\n");
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    assert_eq!(
        client.subscribe("a/b/c/d", QoS::AtMostOnce),
        ReasonCode::TopicFilterInvalid
    );
    for filter in ["a", "b", "a"] {
        assert_eq!(
            client.subscribe(filter, QoS::AtMostOnce),
            ReasonCode::Success
        );
    }
    assert_eq!(
        client.subscribe("c", QoS::AtMostOnce),
        ReasonCode::QuotaExceeded
    );
    client.unsubscribe("a");
    assert_eq!(client.subscribe("c", QoS::AtMostOnce), ReasonCode::Success);
    assert_eq!(
        client.publish("a/b/c/d", QoS::AtLeastOnce, "x"),
        ReasonCode::TopicNameInvalid
    );
}
