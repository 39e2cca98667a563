//! Sessions that outlive their connections, on whichever worker the next one arrives.

#[path = "harness/admin.rs"]
mod admin;
mod harness;

use std::time::Duration;

use admin::{administered, client_report};
use harness::{Broker, Client, Options, publish, wait_for};
use smqtt_proto::packet::{Ack, Disconnect, Publish};
use smqtt_proto::{Packet, ProtocolVersion, QoS, ReasonCode};

const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::V3_1_1, ProtocolVersion::V5];

#[test]
fn a_persistent_session_keeps_subscriptions_and_messages() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    for (version, id) in VERSIONS.into_iter().zip(["three", "five"]) {
        let options = || Options::new(version, id).persistent();
        let (mut client, connack) = Client::connect_with_ack(broker.port(), options());
        assert!(!connack.session_present);
        client.subscribe("t", QoS::AtLeastOnce);
        client.disconnect();
        // Each connection may arrive on another worker than the session's.
        for round in 0..8 {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                publisher.publish("t", qos, &format!("{round} {qos}"));
            }
            let (mut client, connack) = Client::connect_with_ack(broker.port(), options());
            assert!(connack.session_present);
            assert_eq!(client.receive_text(), format!("{round} QoS 1"));
            assert_eq!(client.receive_text(), format!("{round} QoS 2"));
            client.settle();
            client.disconnect();
        }
        // A clean start forgets it all.
        publisher.publish("t", QoS::AtLeastOnce, "forgotten");
        let (mut client, connack) =
            Client::connect_with_ack(broker.port(), Options::new(version, id));
        assert!(!connack.session_present);
        publisher.publish("t", QoS::AtLeastOnce, "not for anyone");
        client.settle();
        client.disconnect();
        let (_client, connack) = Client::connect_with_ack(broker.port(), options());
        assert!(!connack.session_present);
    }
}

#[test]
fn unacknowledged_messages_are_sent_again_with_dup() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    for version in VERSIONS {
        let options = || Options::new(version, "sub").persistent();
        let mut client = Client::connect(broker.port(), options());
        client.subscribe("t", QoS::ExactlyOnce);
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce] {
            publisher.publish("t", qos, "x");
        }
        let first: Vec<Publish> = (0..3).map(|_| client.receive_publish()).collect();
        assert!(first.iter().all(|publish| !publish.dup));
        // The last one gets half-way.
        let released = first[2].packet_id.expect("QoS 2");
        client.send(Packet::PubRec(Ack::new(released, ReasonCode::Success)));
        assert!(matches!(client.receive(), Packet::PubRel(_)));
        client.vanish();
        let mut client = Client::connect(broker.port(), options());
        let mut again = Vec::new();
        for _ in 0..3 {
            match client.receive() {
                Packet::Publish(publish) => again.push(publish),
                Packet::PubRel(ack) => {
                    assert_eq!(ack.packet_id, released);
                    client.send(Packet::PubComp(ack));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(again.len(), 2);
        for (before, after) in first.iter().zip(&again) {
            assert!(after.dup);
            assert_eq!((before.packet_id, before.qos), (after.packet_id, after.qos));
            client.acknowledge(after);
        }
        client.settle();
        client.vanish();
        let mut client = Client::connect(broker.port(), options());
        client.settle();
        client.unsubscribe("t");
    }
}

#[test]
fn a_qos2_message_of_a_client_is_delivered_once_over_a_reconnect() {
    let broker = Broker::open();
    let mut subscriber = Client::connect(broker.port(), Options::v5("sub"));
    subscriber.subscribe("t", QoS::AtMostOnce);
    for version in VERSIONS {
        let options = || Options::new(version, "pub").persistent();
        let mut client = Client::connect(broker.port(), options());
        let mut packet = publish("t", QoS::ExactlyOnce, "once");
        packet.packet_id = Some(client.packet_id());
        client.send(Packet::Publish(packet.clone()));
        assert!(matches!(client.receive(), Packet::PubRec(_)));
        client.vanish();
        let mut client = Client::connect(broker.port(), options());
        packet.dup = true;
        client.send(Packet::Publish(packet.clone()));
        assert!(matches!(client.receive(), Packet::PubRec(_)));
        let released = Ack::new(packet.packet_id.expect("QoS 2"), ReasonCode::Success);
        client.send(Packet::PubRel(released.clone()));
        assert_eq!(client.receive(), Packet::PubComp(released));
        assert_eq!(subscriber.receive_text(), "once");
        subscriber.settle();
        client.disconnect();
    }
}

#[test]
fn a_client_id_belongs_to_the_last_who_connects_with_it() {
    let broker = Broker::open();
    for version in VERSIONS {
        let mut current = Client::connect(broker.port(), Options::new(version, "c").persistent());
        for _ in 0..8 {
            let options = Options::new(version, "c").persistent();
            let (next, connack) = Client::connect_with_ack(broker.port(), options);
            assert!(connack.session_present);
            current.expect_disconnect(ReasonCode::SessionTakenOver);
            current = next;
        }
        current.settle();
    }
}

#[test]
fn a_clean_client_id_can_be_taken_over_too() {
    let broker = Broker::open();
    let mut current = Client::connect(broker.port(), Options::v5("c"));
    for _ in 0..8 {
        let (next, connack) = Client::connect_with_ack(broker.port(), Options::v5("c"));
        assert!(!connack.session_present);
        current.expect_disconnect(ReasonCode::SessionTakenOver);
        current = next;
    }
    current.settle();
}

#[test]
fn a_session_ends_when_its_expiry_interval_has_passed() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let options = || Options::v5("c").properties(|p| p.session_expiry_interval = Some(1));
    let mut client = Client::connect(broker.port(), options());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    assert_eq!(
        publisher.publish("t", QoS::AtLeastOnce, "x"),
        ReasonCode::Success
    );
    harness::wait_for(|| {
        let reason = publisher.publish("t", QoS::AtLeastOnce, "x");
        (reason == ReasonCode::NoMatchingSubscribers).then_some(())
    });
    let mut resuming = options();
    resuming.0.clean_start = false;
    let (_client, connack) = Client::connect_with_ack(broker.port(), resuming);
    assert!(!connack.session_present);
}

#[test]
fn a_disconnect_may_change_the_expiry_interval_but_not_from_zero() {
    let broker = Broker::open();
    let leave = |mut client: Client, seconds| {
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        disconnect.properties.session_expiry_interval = Some(seconds);
        client.send(Packet::Disconnect(disconnect));
        client
    };
    leave(
        Client::connect(broker.port(), Options::v5("a").persistent()),
        0,
    )
    .expect_closed();
    let (_client, connack) = Client::connect_with_ack(broker.port(), Options::v5("a").persistent());
    assert!(!connack.session_present);
    leave(Client::connect(broker.port(), Options::v5("b")), 10)
        .expect_disconnect(ReasonCode::ProtocolError);
}

#[test]
fn the_queue_of_an_absent_client_is_bounded() {
    for (policy, expected) in [("newest", ["0", "1"]), ("oldest", ["3", "4"])] {
        let broker = Broker::configured(&format!(
            "[session]\nqueue_messages = 2\nqueue_full = \"{policy}\"\n"
        ));
        let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
        let mut client = Client::connect(broker.port(), Options::v5("sub").persistent());
        client.subscribe("t", QoS::AtLeastOnce);
        client.disconnect();
        for i in 0..5 {
            publisher.publish("t", QoS::AtLeastOnce, &i.to_string());
        }
        // Messages from another worker may still be on their way.
        std::thread::sleep(Duration::from_millis(100));
        let mut client = Client::connect(broker.port(), Options::v5("sub").persistent());
        assert_eq!([0; 2].map(|_| client.receive_text()), expected);
        client.settle();
    }
}

#[test]
fn qos0_waits_for_an_absent_client_only_on_demand() {
    for (keep, waiting, expected) in [(false, 1, "one"), (true, 2, "zero")] {
        let (broker, admin) = administered(&format!("[session]\nqueue_qos0 = {keep}\n"));
        let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
        let mut client = Client::connect(broker.port(), Options::v3("sub").persistent());
        client.subscribe("t", QoS::AtLeastOnce);
        client.disconnect();
        publisher.publish("t", QoS::AtMostOnce, "zero");
        publisher.publish("t", QoS::AtLeastOnce, "one");
        // From another worker they come a moment later.
        wait_for(|| (client_report(&admin, "sub")["queued_messages"] == waiting).then_some(()));
        let mut client = Client::connect(broker.port(), Options::v3("sub").persistent());
        assert_eq!(client.receive_text(), expected);
    }
}

#[test]
fn queued_messages_expire() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    let mut client = Client::connect(broker.port(), Options::v5("sub").persistent());
    client.subscribe("t", QoS::AtLeastOnce);
    client.disconnect();
    for (payload, seconds) in [("short", 1), ("long", 100)] {
        let mut packet = publish("t", QoS::AtLeastOnce, payload);
        packet.properties.message_expiry_interval = Some(seconds);
        publisher.publish_packet(packet);
    }
    std::thread::sleep(Duration::from_millis(1_100));
    let mut client = Client::connect(broker.port(), Options::v5("sub").persistent());
    assert_eq!(client.receive_text(), "long");
    client.settle();
}
