//! Shared subscriptions (MQTT 5.0 §4.8.2): each message to one member of the group, and to another
//! one if that member goes.

mod harness;

use std::collections::BTreeSet;

use harness::{Broker, Client, Options};
use smqtt_proto::packet::{Ack, Publish, SubscriptionOptions};
use smqtt_proto::{Packet, QoS, ReasonCode};

const GROUP: &str = "$share/g/t/+";

fn member(port: u16, options: Options, qos: QoS) -> Client {
    let mut member = Client::connect(port, options);
    assert_eq!(member.subscribe(GROUP, qos), ReasonCode::granted(qos));
    member
}

/// A member that leaves everything after its first message unsent.
fn narrow(client_id: &str) -> Options {
    Options::v5(client_id).properties(|p| p.receive_maximum = Some(1))
}

fn text(publish: &Publish) -> String {
    String::from_utf8(publish.payload.to_vec()).expect("text")
}

fn numbers(range: std::ops::Range<usize>) -> BTreeSet<String> {
    range.map(|number| number.to_string()).collect()
}

fn send(publisher: &mut Client, qos: QoS, range: std::ops::Range<usize>) {
    for number in range {
        let reason = publisher.publish("t/1", qos, &number.to_string());
        assert_eq!(reason, ReasonCode::Success);
    }
}

/// Takes and acknowledges what has come for a client until now; nothing may come twice.
fn take(client: &mut Client, got: &mut BTreeSet<String>) {
    client.send(Packet::PingReq);
    loop {
        match client.receive() {
            Packet::Publish(publish) => {
                assert!(!publish.dup && got.insert(text(&publish)), "{publish:?}");
                let ack = |id| Ack::new(id, ReasonCode::Success);
                match (publish.qos, publish.packet_id) {
                    (QoS::AtLeastOnce, Some(id)) => client.send(Packet::PubAck(ack(id))),
                    (_, Some(id)) => client.send(Packet::PubRec(ack(id))),
                    (_, None) => {}
                }
            }
            Packet::PubRel(ack) => client.send(Packet::PubComp(ack)),
            Packet::PingResp => return,
            other => panic!("{other:?}"),
        }
    }
}

/// Takes what comes for these clients until it is everything that is expected.
fn take_all(clients: &mut [Client], got: &mut BTreeSet<String>, expected: &BTreeSet<String>) {
    harness::wait_for(|| {
        clients.iter_mut().for_each(|client| take(client, got));
        (got.len() >= expected.len()).then_some(())
    });
    assert_eq!(got, expected);
}

#[test]
fn members_on_all_workers_take_turns() {
    let broker = Broker::open();
    let port = broker.port();
    let mut members: Vec<Client> = (0..5)
        .map(|i| {
            let id = format!("m{i}");
            match i % 2 {
                0 => member(port, Options::v5(&id), QoS::AtLeastOnce),
                _ => member(port, Options::v3(&id), QoS::AtLeastOnce),
            }
        })
        .collect();
    let mut other = Client::connect(port, Options::v5("other-group"));
    other.subscribe("$share/h/t/#", QoS::AtMostOnce);
    let mut publisher = Client::connect(port, Options::v5("pub"));
    for (qos, range) in [
        (QoS::AtMostOnce, 0..50),
        (QoS::AtLeastOnce, 50..100),
        (QoS::ExactlyOnce, 100..150),
    ] {
        send(&mut publisher, qos, range);
    }
    let mut got = BTreeSet::new();
    for member in &mut members {
        for _ in 0..30 {
            assert!(got.insert(member.receive_text()), "a message came twice");
        }
    }
    assert_eq!(got, numbers(0..150));
    for number in 0..150 {
        assert_eq!(other.receive_text(), number.to_string());
    }
    for member in members.iter_mut().chain([&mut other]) {
        member.settle();
    }
}

#[test]
fn a_shared_subscription_stands_beside_the_others_of_its_session() {
    let broker = Broker::open();
    let mut publisher = Client::connect(broker.port(), Options::v5("pub"));
    publisher.retain("t/1", QoS::AtLeastOnce, "kept");
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    let options = SubscriptionOptions::new(QoS::AtLeastOnce);
    client.subscribe_with(GROUP, options, Some(3));
    // Retained messages are not for groups.
    client.settle();
    client.subscribe_with("t/2", options, Some(4));
    publisher.publish("t/2", QoS::AtLeastOnce, "both");
    let mut identifiers = Vec::new();
    for _ in 0..2 {
        let publish = client.receive_publish();
        client.acknowledge(&publish);
        assert_eq!(text(&publish), "both");
        identifiers.extend(publish.properties.subscription_ids.to_vec());
    }
    identifiers.sort_unstable();
    assert_eq!(identifiers, [3, 4]);
    assert_eq!(client.unsubscribe(GROUP), [ReasonCode::Success]);
    assert_eq!(
        client.unsubscribe(GROUP),
        [ReasonCode::NoSubscriptionExisted]
    );
    assert_eq!(
        publisher.publish("t/1", QoS::AtLeastOnce, "nobody"),
        ReasonCode::NoMatchingSubscribers
    );
    client.settle();
}

#[test]
fn no_local_is_a_protocol_error() {
    // [MQTT-3.8.3-4]
    let broker = Broker::open();
    let mut client = Client::connect(broker.port(), Options::v5("c"));
    client.send_bytes(b"\x82\x10\x00\x01\x00\x00\x0A$share/g/t\x05");
    client.expect_disconnect(ReasonCode::ProtocolError);
}

#[test]
fn what_a_member_leaves_undone_goes_to_the_others() {
    let broker = Broker::open();
    let port = broker.port();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut leaver = member(port, narrow("leaver"), qos);
        let mut stayers = ["s1", "s2"].map(|id| member(port, Options::v5(id), qos));
        let mut publisher = Client::connect(port, Options::v5("pub"));
        send(&mut publisher, qos, 0..30);
        // One message is in flight to the leaver, nine wait behind it.
        let in_flight = leaver.receive_publish();
        leaver.vanish();
        let mut expected = numbers(0..30);
        if qos == QoS::ExactlyOnce {
            // [MQTT-4.8.2-5]: nobody else gets what may have been delivered.
            expected.remove(&text(&in_flight));
        }
        let mut got = BTreeSet::new();
        take_all(&mut stayers, &mut got, &expected);
        std::thread::sleep(harness::QUIET);
        take_all(&mut stayers, &mut got, &expected);
    }
}

#[test]
fn members_that_are_away_get_only_what_nobody_else_can_take() {
    let broker = Broker::open();
    let port = broker.port();
    let away = || Options::v5("away").persistent();
    member(port, away(), QoS::AtLeastOnce).disconnect();
    let mut present = member(port, Options::v5("present"), QoS::AtLeastOnce);
    let mut publisher = Client::connect(port, Options::v5("pub"));
    send(&mut publisher, QoS::AtLeastOnce, 0..10);
    for number in 0..10 {
        assert_eq!(present.receive_text(), number.to_string());
    }
    present.disconnect();
    send(&mut publisher, QoS::AtLeastOnce, 10..20);
    let (mut back, connack) = Client::connect_with_ack(port, away());
    assert!(connack.session_present);
    for number in 10..20 {
        assert_eq!(back.receive_text(), number.to_string());
    }
    back.settle();
}

#[test]
fn what_waits_for_a_member_goes_to_the_others_when_it_goes_away() {
    let broker = Broker::open();
    let port = broker.port();
    let mut leaver = member(port, narrow("leaver").persistent(), QoS::AtLeastOnce);
    let mut present = member(port, Options::v5("present"), QoS::AtLeastOnce);
    let mut publisher = Client::connect(port, Options::v5("pub"));
    send(&mut publisher, QoS::AtLeastOnce, 0..20);
    let in_flight = text(&leaver.receive_publish());
    leaver.vanish();
    let mut got = BTreeSet::new();
    for _ in 0..19 {
        assert!(got.insert(present.receive_text()));
    }
    present.settle();
    // What was sent waits for its acknowledgement.
    let mut back = Client::connect(port, narrow("leaver").persistent());
    let again = back.receive_publish();
    back.acknowledge(&again);
    assert!(again.dup && text(&again) == in_flight && got.insert(in_flight));
    assert_eq!(got, numbers(0..20));
    back.settle();
}

#[test]
fn a_member_whose_queue_is_full_is_passed_over() {
    let broker = Broker::configured("[session]\nqueue_messages = 5\n");
    let port = broker.port();
    let mut slow = member(port, narrow("slow"), QoS::AtLeastOnce);
    let mut quick = ["q1", "q2"].map(|id| member(port, Options::v5(id), QoS::AtLeastOnce));
    let mut publisher = Client::connect(port, Options::v5("pub"));
    let mut got = BTreeSet::new();
    for number in 0..60 {
        send(&mut publisher, QoS::AtLeastOnce, number..number + 1);
        quick.iter_mut().for_each(|client| take(client, &mut got));
    }
    // The slow one has one message in flight and five waiting; it gets them when it goes on.
    for _ in 0..6 {
        assert!(got.insert(slow.receive_text()));
    }
    take_all(&mut quick, &mut got, &numbers(0..60));
}

#[test]
fn what_a_member_refuses_is_over() {
    // [MQTT-4.8.2-6]
    let broker = Broker::open();
    let port = broker.port();
    let mut refuser = member(port, Options::v5("refuser"), QoS::AtLeastOnce);
    let mut publisher = Client::connect(port, Options::v5("pub"));
    send(&mut publisher, QoS::AtLeastOnce, 0..1);
    let mut other = member(port, Options::v5("other"), QoS::AtLeastOnce);
    let id = refuser.receive_publish().packet_id.expect("QoS 1");
    refuser.send(Packet::PubAck(Ack::new(id, ReasonCode::QuotaExceeded)));
    refuser.settle();
    refuser.vanish();
    other.settle();
    other.expect_nothing();
}

#[test]
fn nothing_is_lost_while_members_come_and_go() {
    const MESSAGES: usize = 2_000;
    let broker = Broker::open();
    let port = broker.port();
    let mut stayer = member(port, Options::v5("stayer"), QoS::AtLeastOnce);
    let (sender, receiver) = std::sync::mpsc::channel();
    let churn: Vec<_> = (0..3)
        .map(|thread| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for round in 0..15 {
                    let id = format!("m{thread}");
                    let mut client = member(port, narrow(&id), QoS::AtLeastOnce);
                    for _ in 0..round % 5 {
                        let publish = client.receive_publish();
                        sender.send(text(&publish)).expect("the test listens");
                        client.acknowledge(&publish);
                    }
                    client.vanish();
                }
            })
        })
        .collect();
    let staying = std::thread::spawn(move || {
        loop {
            let text = stayer.receive_text();
            if text == "end" || sender.send(text).is_err() {
                return;
            }
        }
    });
    let mut publisher = Client::connect(port, Options::v5("pub"));
    let mut next = 0;
    while next < MESSAGES || churn.iter().any(|thread| !thread.is_finished()) {
        send(&mut publisher, QoS::AtLeastOnce, next..next + 1);
        next += 1;
    }
    for thread in churn {
        thread.join().expect("no assertion failed");
    }
    let mut missing = numbers(0..next);
    while !missing.is_empty() {
        // At least once: what a leaver had not acknowledged may come again.
        let text = receiver
            .recv_timeout(harness::PATIENCE)
            .unwrap_or_else(|_| panic!("{} messages are lost", missing.len()));
        missing.remove(&text);
    }
    publisher.publish("t/1", QoS::AtLeastOnce, "end");
    staying.join().expect("no assertion failed");
}

#[test]
fn groups_are_counted() {
    let broker = Broker::configured("[sys]\ninterval_seconds = 1\n");
    let _members = ["a", "b"].map(|id| member(broker.port(), Options::v5(id), QoS::AtMostOnce));
    let mut watcher = Client::connect(broker.port(), Options::v5("watcher"));
    for (topic, value) in [("groups", "1"), ("count", "2")] {
        let topic = format!("$SYS/broker/shared_subscriptions/{topic}");
        watcher.subscribe(&topic, QoS::AtMostOnce);
        while watcher.receive_text() != value {}
    }
}

#[test]
fn where_they_are_off_both_versions_are_told() {
    let broker = Broker::configured("[protocol]\nshared_subscriptions = false\n");
    let (mut five, connack) = Client::connect_with_ack(broker.port(), Options::v5("five"));
    let available = connack.properties.shared_subscription_available;
    assert_eq!(available, Some(false));
    five.send_bytes(b"\x82\x10\x00\x01\x00\x00\x0A$share/g/t\x00");
    five.expect_disconnect(ReasonCode::SharedSubscriptionsNotSupported);
    let mut three = Client::connect(broker.port(), Options::v3("three"));
    assert_eq!(
        three.subscribe(GROUP, QoS::AtMostOnce),
        ReasonCode::UnspecifiedError
    );
}
