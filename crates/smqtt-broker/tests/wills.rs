//! Wills: published when a client is lost, not when it leaves.

mod harness;

use std::time::Duration;

use harness::{Broker, Client, Options, text};
use smqtt_proto::packet::{Disconnect, Will, WillProperties};
use smqtt_proto::{Packet, ProtocolVersion, QoS, ReasonCode, TopicName};

fn will(topic: &str, payload: &'static str) -> Will {
    Will {
        topic: TopicName::new(topic).expect("topic"),
        payload: payload.into(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: WillProperties::default(),
    }
}

fn delayed(topic: &str, payload: &'static str, seconds: u32) -> Will {
    let mut will = will(topic, payload);
    will.properties.will_delay_interval = Some(seconds);
    will
}

fn watcher(broker: &Broker) -> Client {
    let mut watcher = Client::connect(broker.port(), Options::v5("watcher"));
    watcher.subscribe("will/#", QoS::AtLeastOnce);
    watcher
}

#[test]
fn a_lost_client_leaves_its_will_and_a_leaving_one_does_not() {
    let broker = Broker::open();
    let mut watcher = watcher(&broker);
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let options = || Options::new(version, "c");
        Client::connect(broker.port(), options().will(will("will/left", "no"))).disconnect();
        Client::connect(broker.port(), options().will(will("will/lost", "yes"))).vanish();
        assert_eq!(watcher.receive_text(), "yes");
        let mut broken = Client::connect(
            broker.port(),
            options().will(will("will/broken", "yes too")),
        );
        broken.send_bytes(&[0, 0]);
        assert_eq!(watcher.receive_text(), "yes too");
    }
    let options = Options::v5("c").will(will("will/asked", "asked for"));
    let mut asking = Client::connect(broker.port(), options);
    asking.send(Packet::Disconnect(Disconnect::new(
        ReasonCode::DisconnectWithWill,
    )));
    assert_eq!(watcher.receive_text(), "asked for");
    watcher.settle();
}

#[test]
fn a_will_carries_its_properties_and_may_be_retained() {
    let broker = Broker::open();
    let mut will = will("will/t", "payload");
    will.retain = true;
    will.properties = WillProperties {
        payload_is_utf8: Some(true),
        content_type: Some(text("text/plain")),
        response_topic: Some(TopicName::new("answer").expect("topic")),
        correlation_data: Some("id".into()),
        user_properties: vec![(text("b"), text("1")), (text("a"), text("2"))],
        message_expiry_interval: Some(100),
        will_delay_interval: None,
    };
    Client::connect(broker.port(), Options::v5("c").will(will.clone())).vanish();
    let mut watcher = watcher(&broker);
    let got = watcher.receive_publish();
    assert!(got.retain && got.qos == QoS::AtLeastOnce);
    let p = got.properties;
    assert_eq!(p.payload_is_utf8, Some(true));
    assert_eq!(p.content_type, will.properties.content_type);
    assert_eq!(p.response_topic, will.properties.response_topic);
    assert_eq!(p.correlation_data, will.properties.correlation_data);
    assert_eq!(p.user_properties, will.properties.user_properties);
    assert!(
        p.message_expiry_interval
            .is_some_and(|s| (90..=100).contains(&s))
    );
}

#[test]
fn a_delayed_will_waits_and_is_withdrawn_when_the_client_comes_back() {
    let broker = Broker::open();
    let mut watcher = watcher(&broker);
    let options = |will| Options::v5("c").persistent().will(will);
    Client::connect(broker.port(), options(delayed("will/t", "withdrawn", 1))).vanish();
    let back = Client::connect(broker.port(), options(delayed("will/t", "late", 1)));
    watcher.expect_nothing_for(Duration::from_millis(1_300));
    back.vanish();
    watcher.expect_nothing();
    assert_eq!(watcher.receive_text(), "late");
}

#[test]
fn the_end_of_the_session_ends_the_delay() {
    let broker = Broker::open();
    let mut watcher = watcher(&broker);
    // No session behind the connection: the will is due with it.
    let options = Options::v5("a").will(delayed("will/t", "no session", 1_000));
    Client::connect(broker.port(), options).vanish();
    assert_eq!(watcher.receive_text(), "no session");
    // A short one.
    let options = Options::v5("b")
        .will(delayed("will/t", "short session", 1_000))
        .properties(|p| p.session_expiry_interval = Some(1));
    Client::connect(broker.port(), options).vanish();
    assert_eq!(watcher.receive_text(), "short session");
    // One that a clean start ends.
    let options = Options::v5("c")
        .persistent()
        .will(delayed("will/t", "clean start", 1_000));
    Client::connect(broker.port(), options).vanish();
    let _next = Client::connect(broker.port(), Options::v5("c"));
    assert_eq!(watcher.receive_text(), "clean start");
}

#[test]
fn a_taken_over_connection_leaves_its_will() {
    let broker = Broker::open();
    let mut watcher = watcher(&broker);
    let options = |payload| Options::v3("c").persistent().will(will("will/t", payload));
    let mut first = Client::connect(broker.port(), options("first"));
    let _second = Client::connect(broker.port(), options("second"));
    assert_eq!(watcher.receive_text(), "first");
    first.expect_closed();
    watcher.settle();
}

#[test]
fn a_will_for_the_brokers_own_topics_is_refused() {
    let broker = Broker::open();
    let mut client = Client::raw(broker.port(), ProtocolVersion::V5);
    let connack = client.handshake(Options::v5("c").will(will("$SYS/broker/x", "x")));
    assert_eq!(connack.reason, ReasonCode::TopicNameInvalid);
    client.expect_closed();
}
