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
fn no_interval_is_no_sys() {
    let broker = Broker::configured("[sys]\ninterval_seconds = 0\n");
    let mut client = Client::connect(broker.port(), Options::v3("c"));
    client.subscribe("$SYS/#", QoS::AtMostOnce);
    client.expect_nothing_for(std::time::Duration::from_millis(1_200));
}
