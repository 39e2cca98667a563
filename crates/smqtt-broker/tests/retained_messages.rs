//! Retained messages: kept, replaced, cleared, found by filter, expired, bounded.

mod harness;

use std::time::Duration;

use harness::{Broker, Client, Options, publish};
use smqtt_proto::packet::{Publish, RetainHandling, SubscriptionOptions};
use smqtt_proto::{QoS, ReasonCode};

#[test]
fn a_new_subscriber_gets_the_last_retained_message_of_each_topic() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    for (topic, payload) in [
        ("a/1", "old"),
        ("a/1", "one"),
        ("a/2", "two"),
        ("b/1", "other"),
        ("a/3", "gone"),
    ] {
        publisher.retain(topic, QoS::AtLeastOnce, payload);
    }
    publisher.retain("a/3", QoS::AtLeastOnce, "");
    publisher.publish("a/1", QoS::AtLeastOnce, "not retained");
    for options in [Options::v3("three"), Options::v5("five")] {
        let mut subscriber = Client::connect(broker.port(), options);
        subscriber.subscribe("a/+", QoS::AtLeastOnce);
        for (topic, payload) in [("a/1", "one"), ("a/2", "two")] {
            let got = subscriber.receive_publish();
            assert_eq!(
                (got.topic.as_str(), &got.payload[..]),
                (topic, payload.as_bytes())
            );
            assert!(got.retain);
            subscriber.acknowledge(&got);
        }
        subscriber.settle();
    }
}

#[test]
fn the_retain_flag_of_live_messages_is_kept_only_on_demand() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let mut plain = Client::connect(broker.port(), Options::v5("plain"));
    let mut keeping = Client::connect(broker.port(), Options::v5("keeping"));
    plain.subscribe("t", QoS::AtMostOnce);
    let options = SubscriptionOptions {
        retain_as_published: true,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    keeping.subscribe_with("t", options, None);
    publisher.retain("t", QoS::AtLeastOnce, "x");
    publisher.publish("t", QoS::AtLeastOnce, "y");
    assert_eq!(
        [0; 2].map(|_| plain.receive_publish().retain),
        [false, false]
    );
    assert_eq!(
        [0; 2].map(|_| keeping.receive_publish().retain),
        [true, false]
    );
}

#[test]
fn retain_handling_decides_when_retained_messages_are_sent() {
    let broker = Broker::open();
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    client.retain("t", QoS::AtLeastOnce, "x");
    let mut subscribe = |retain_handling, expected| {
        let options = SubscriptionOptions {
            retain_handling,
            ..SubscriptionOptions::new(QoS::AtMostOnce)
        };
        client.subscribe_with("t", options, Some(5));
        if expected {
            let got = client.receive_publish();
            assert_eq!(got.properties.subscription_ids.as_slice(), [5]);
        }
        client.settle();
    };
    subscribe(RetainHandling::DoNotSend, false);
    subscribe(RetainHandling::SendIfNew, false);
    subscribe(RetainHandling::Send, true);
    subscribe(RetainHandling::Send, true);
    client.unsubscribe("t");
    let options = SubscriptionOptions {
        retain_handling: RetainHandling::SendIfNew,
        ..SubscriptionOptions::new(QoS::AtMostOnce)
    };
    client.subscribe_with("t", options, None);
    assert_eq!(client.receive_text(), "x");
}

#[test]
fn more_retained_messages_than_buffers_hold_arrive_at_the_readers_pace() {
    let broker =
        Broker::configured("[limits]\nwrite_buffer_bytes = 2048\n[session]\nqueue_messages = 10\n");
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    for i in 0..500 {
        publisher.retain(
            &format!("many/{i:03}"),
            QoS::AtLeastOnce,
            &format!("{i:0>200}"),
        );
    }
    let options = Options::v5("sub").properties(|p| p.receive_maximum = Some(3));
    let mut subscriber = Client::connect(broker.port(), options);
    subscriber.subscribe("many/#", QoS::AtLeastOnce);
    for i in 0..500 {
        let got = subscriber.receive_publish();
        assert_eq!(got.topic.as_str(), format!("many/{i:03}"));
        subscriber.acknowledge(&got);
    }
    subscriber.settle();
}

#[test]
fn expired_messages_are_not_delivered() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    for (topic, seconds) in [
        ("t/short", Some(1)),
        ("t/long", Some(100)),
        ("t/ever", None),
    ] {
        let mut packet = Publish {
            retain: true,
            ..publish(topic, QoS::AtLeastOnce, "x")
        };
        packet.properties.message_expiry_interval = seconds;
        publisher.publish_packet(packet);
    }
    std::thread::sleep(Duration::from_millis(1_100));
    let mut subscriber = Client::connect(broker.port(), Options::v5("sub"));
    subscriber.subscribe("t/#", QoS::AtMostOnce);
    let ever = subscriber.receive_publish();
    assert_eq!(
        (ever.topic.as_str(), ever.properties.message_expiry_interval),
        ("t/ever", None)
    );
    let long = subscriber.receive_publish();
    assert_eq!(long.topic.as_str(), "t/long");
    assert!(
        long.properties
            .message_expiry_interval
            .is_some_and(|s| (80..100).contains(&s))
    );
    subscriber.settle();
}

#[test]
fn a_full_store_refuses_and_says_so() {
    let broker = Broker::configured("[retained]\nmessages = 2\n");
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    for (topic, expected) in [
        ("a", ReasonCode::NoMatchingSubscribers),
        ("b", ReasonCode::NoMatchingSubscribers),
        ("c", ReasonCode::QuotaExceeded),
        ("a", ReasonCode::NoMatchingSubscribers),
    ] {
        assert_eq!(
            client.retain(topic, QoS::AtLeastOnce, "x"),
            expected,
            "{topic}"
        );
        assert_eq!(
            client.retain(topic, QoS::ExactlyOnce, "x"),
            expected,
            "{topic}"
        );
    }
    // MQTT 3.1.1 has no way to be told: the message is delivered, and not kept.
    let mut old = Client::connect(broker.port(), Options::v3("old"));
    client.subscribe("c", QoS::AtMostOnce);
    assert_eq!(
        old.retain("c", QoS::AtLeastOnce, "live"),
        ReasonCode::Success
    );
    assert_eq!(client.receive_text(), "live");
    old.subscribe("#", QoS::AtMostOnce);
    assert_eq!(
        [0; 2].map(|_| old.receive_publish().topic.as_str().to_owned()),
        ["a", "b"]
    );
    old.settle();
}
