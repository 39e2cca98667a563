//! The `$SYS` topics: retained, true, and not for `#`.

mod harness;

use harness::{Broker, Client, Options};
use smqtt_proto::QoS;

#[test]
fn the_broker_tells_about_itself() {
    let broker = Broker::configured("[sys]\ninterval_seconds = 1\n");
    let mut publisher = Client::connect(broker.port(), Options::v3("pub"));
    for _ in 0..5 {
        publisher.publish("t", QoS::AtLeastOnce, "x");
    }
    let mut client = Client::connect(broker.port(), Options::v3("c"));
    client.subscribe("$SYS/broker/+", QoS::AtMostOnce);
    let version = format!("smqtt-broker {}", env!("CARGO_PKG_VERSION"));
    loop {
        let got = client.receive_publish();
        if got.topic.as_str() == "$SYS/broker/version" {
            assert_eq!(got.payload, version);
            break;
        }
    }
    client.unsubscribe_quietly("$SYS/broker/+");
    for (topic, expected) in [
        ("clients/connected", "2"),
        ("publish/messages/received", "5"),
    ] {
        let topic = format!("$SYS/broker/{topic}");
        client.subscribe(&topic, QoS::AtMostOnce);
        while client.receive_text() != expected {}
        client.unsubscribe_quietly(&topic);
    }
}

#[test]
fn sessions_drops_memory_and_load_are_told() {
    let broker = Broker::configured("[sys]\ninterval_seconds = 1\n[session]\nqueue_messages = 2\n");
    let mut away = Client::connect(broker.port(), Options::v5("away").persistent());
    away.subscribe("t", QoS::AtLeastOnce);
    away.disconnect();
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    for _ in 0..5 {
        client.publish("t", QoS::AtLeastOnce, "x");
    }
    client.retain("kept", QoS::AtLeastOnce, &"x".repeat(100_000));
    // Waits until the number at a topic is as wanted.
    let mut told = |topic: &str, wanted: &dyn Fn(f64) -> bool| {
        let topic = format!("$SYS/broker/{topic}");
        client.subscribe(&topic, QoS::AtMostOnce);
        while !wanted(client.receive_text().parse().expect("a number")) {}
        client.unsubscribe_quietly(&topic);
    };
    told("clients/total", &|n| n == 2.0);
    told("clients/maximum", &|n| n == 2.0);
    told("clients/disconnected", &|n| n == 1.0);
    told("publish/messages/dropped", &|n| n == 3.0);
    told("publish/messages/dropped/queue-messages", &|n| n == 3.0);
    told("heap/current", &|n| n >= 100_000.0);
    told("heap/maximum", &|n| n >= 100_000.0);
    told("load/publish/received/1min", &|n| n > 0.0);
    told("load/bytes/received/15min", &|n| n > 0.0);
    told("load/publish/dropped/5min", &|n| n > 0.0);
    told("load/connections/1min", &|n| n > 0.0);
}

#[test]
fn no_interval_is_no_sys() {
    let broker = Broker::configured("[sys]\ninterval_seconds = 0\n");
    let mut client = Client::connect(broker.port(), Options::v3("c"));
    client.subscribe("$SYS/#", QoS::AtMostOnce);
    client.expect_nothing_for(std::time::Duration::from_millis(1_200));
}
