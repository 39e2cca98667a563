//! An MQTT client library that nobody here wrote.

mod harness;

use std::time::Duration;

use harness::Broker;

#[test]
fn rumqttc_speaks_mqtt_3_1_1_with_the_broker() {
    use rumqttc::{Client, Event, MqttOptions, Packet, QoS};
    let broker = Broker::open();
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", broker.port());
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe("r/+", QoS::ExactlyOnce).expect("queued");
    let all = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    let mut got = Vec::new();
    for event in connection.iter() {
        match event.expect("the connection stays") {
            Event::Incoming(Packet::SubAck(_)) => {
                for qos in all {
                    client
                        .publish("r/1", qos, false, format!("{qos:?}"))
                        .expect("queued");
                }
            }
            Event::Incoming(Packet::Publish(publish)) => {
                assert_eq!(publish.payload, format!("{:?}", publish.qos));
                got.push(publish.qos);
                if got.len() == all.len() {
                    break;
                }
            }
            _ => {}
        }
    }
    assert!(all.iter().all(|qos| got.contains(qos)));
}

#[test]
fn rumqttc_speaks_mqtt_5_with_the_broker() {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::{LastWill, Packet, PublishProperties};
    use rumqttc::v5::{Client, Event, MqttOptions};
    let broker = Broker::open();
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", broker.port());
    options.set_keep_alive(Duration::from_secs(5));
    options.set_last_will(LastWill::new(
        "r/will",
        "gone",
        QoS::AtLeastOnce,
        false,
        None,
    ));
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe("r/+", QoS::AtLeastOnce).expect("queued");
    let properties = PublishProperties {
        content_type: Some("text/plain".into()),
        user_properties: vec![("b".into(), "1".into()), ("a".into(), "2".into())],
        ..PublishProperties::default()
    };
    for event in connection.iter() {
        match event.expect("the connection stays") {
            Event::Incoming(Packet::SubAck(_)) => client
                .publish_with_properties("r/1", QoS::AtLeastOnce, true, "x", properties.clone())
                .expect("queued"),
            Event::Incoming(Packet::Publish(publish)) => {
                let got = publish.properties.expect("properties");
                assert_eq!(got.content_type, properties.content_type);
                assert_eq!(got.user_properties, properties.user_properties);
                break;
            }
            _ => {}
        }
    }
    let mut watcher = harness::Client::connect(broker.port(), harness::Options::v3("watcher"));
    watcher.subscribe("r/will", smqtt_proto::QoS::AtMostOnce);
    drop(connection);
    assert_eq!(watcher.receive_text(), "gone");
}
