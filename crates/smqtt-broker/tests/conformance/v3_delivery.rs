//! Sessions, QoS, redelivery and order: 4.1 to 4.6 of MQTT 3.1.1, and CleanSession (3.1.2.4).

use super::harness::Broker;
use super::v3_wire::*;

/// Publishes with this QoS to the end.
#[track_caller]
fn deliver(publisher: &mut Wire, qos: u8, topic: &str, payload: &[u8]) {
    match qos {
        0 => publisher.send(&publish(0, topic, None, payload)),
        1 => {
            publisher.send(&publish(2, topic, Some(1), payload));
            publisher.expect(&ack(PUBACK, 1));
        }
        _ => {
            publisher.send(&publish(4, topic, Some(2), payload));
            publisher.expect(&ack(PUBREC, 2));
            publisher.send(&ack(PUBREL, 2));
            publisher.expect(&ack(PUBCOMP, 2));
        }
    }
}

/// Acknowledges a PUBLISH to the end.
#[track_caller]
fn acknowledge(wire: &mut Wire, qos: u8, id: Option<u16>) {
    match (qos, id) {
        (1, Some(id)) => wire.send(&ack(PUBACK, id)),
        (2, Some(id)) => {
            wire.send(&ack(PUBREC, id));
            wire.expect(&ack(PUBREL, id));
            wire.send(&ack(PUBCOMP, id));
        }
        _ => {}
    }
}

#[test]
fn a_kept_session_stores_subscriptions_and_messages_of_qos_1_and_2() {
    let broker = Broker::open();
    let mut wire = Wire::kept(broker.port(), "c");
    wire.subscribe("t/#", 2);
    wire.leave();
    let mut publisher = Wire::clean(broker.port(), "pub");
    for n in 0..10 {
        deliver(&mut publisher, 1 + n % 2, "t/x", &[n]);
    }
    for round in 0..2 {
        let mut wire = Wire::resumed(broker.port(), "c");
        if round == 0 {
            let mut waited = Vec::new();
            for n in 0..10 {
                let qos = 1 + n % 2;
                waited.push((qos, wire.expect_publish(qos << 1, "t/x", &[n])));
            }
            for (qos, id) in waited {
                acknowledge(&mut wire, qos, id);
            }
        }
        // The subscription is there without being made again.
        deliver(&mut publisher, 1, "t/y", b"live");
        let id = wire.expect_publish(2, "t/y", b"live");
        acknowledge(&mut wire, 1, id);
        wire.settle();
        wire.vanish();
    }
}

#[test]
fn a_clean_session_takes_nothing_over_and_leaves_nothing() {
    let broker = Broker::open();
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(1, "r", None, b"kept"));
    publisher.settle();
    let mut wire = Wire::kept(broker.port(), "c");
    wire.subscribe("t", 1);
    deliver(&mut publisher, 1, "t", b"unacknowledged");
    wire.expect_publish(2, "t", b"unacknowledged");
    wire.vanish();
    deliver(&mut publisher, 1, "t", b"waiting");
    // It discards what the session before had.
    let mut wire = Wire::clean(broker.port(), "c");
    deliver(&mut publisher, 1, "t", b"unheard");
    wire.settle();
    // What it makes itself ends with its connection.
    wire.subscribe("t", 1);
    wire.vanish();
    let mut wire = Wire::kept(broker.port(), "c");
    deliver(&mut publisher, 1, "t", b"unheard");
    // Retained messages are of no session.
    wire.subscribe("r", 0);
    wire.expect_publish(1, "r", b"kept");
    wire.settle();
}

#[test]
fn a_session_lasts_as_long_as_its_connection() {
    // Even where sessions are not kept for a moment longer.
    let broker = Broker::configured("[session]\nmax_expiry_seconds = 0\n");
    let mut wire = Wire::connected(broker.port(), &connect(0, "c"), &WELCOME);
    wire.subscribe("t", 1);
    let mut publisher = Wire::clean(broker.port(), "pub");
    for n in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(250));
        deliver(&mut publisher, 1, "t", &[n]);
        let id = wire.expect_publish(2, "t", &[n]);
        acknowledge(&mut wire, 1, id);
    }
}

#[test]
fn qos_0_is_sent_once_and_unmarked() {
    let broker = Broker::open();
    let mut wire = Wire::kept(broker.port(), "c");
    wire.subscribe("t", 0);
    let mut publisher = Wire::clean(broker.port(), "pub");
    for qos in 0..3 {
        deliver(&mut publisher, qos, "t", &[qos]);
        wire.expect_publish(0, "t", &[qos]);
    }
    wire.vanish();
    Wire::resumed(broker.port(), "c").settle();
}

#[test]
fn unacknowledged_messages_are_sent_again_marked_with_their_identifiers_and_in_order() {
    let broker = Broker::open();
    let mut wire = Wire::kept(broker.port(), "c");
    wire.subscribe("t", 2);
    let mut publisher = Wire::clean(broker.port(), "pub");
    let mut sent = Vec::new();
    for n in 0..8 {
        let qos = 1 + n % 2;
        deliver(&mut publisher, qos, "t", &[n]);
        // The first time without DUP.
        let id = wire.expect_publish(qos << 1, "t", &[n]).unwrap();
        sent.push((qos, id, n));
    }
    // The third and the sixth are over; the second is received and not released, as the broker knows.
    acknowledge(&mut wire, 1, Some(sent[2].1));
    acknowledge(&mut wire, 2, Some(sent[5].1));
    wire.send(&ack(PUBREC, sent[1].1));
    wire.expect(&ack(PUBREL, sent[1].1));
    wire.settle();
    wire.vanish();
    for _ in 0..2 {
        let mut wire = Wire::resumed(broker.port(), "c");
        let mut publishes = Vec::new();
        wire.send(&PINGREQ);
        loop {
            let packet = wire.receive();
            if packet == PINGRESP {
                break;
            }
            if packet[0] == PUBREL {
                // Its PUBLISH is not sent again: only this.
                assert_eq!(hex(&packet), hex(&ack(PUBREL, sent[1].1)));
                publishes.push(packet);
            } else {
                publishes.push(packet);
            }
        }
        let (releases, publishes): (Vec<_>, Vec<_>) = publishes
            .into_iter()
            .partition(|packet| packet[0] == PUBREL);
        assert_eq!(releases.len(), 1);
        let again = [0, 3, 4, 6, 7].map(|n: usize| {
            let (qos, id, payload) = sent[n];
            publish(8 | qos << 1, "t", Some(id), &[payload])
        });
        assert_eq!(publishes, again);
        wire.vanish();
    }
}

#[test]
fn after_puback_the_same_identifier_is_a_new_message_whatever_dup_says() {
    let broker = Broker::open();
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe("t", 0);
    let mut publisher = Wire::clean(broker.port(), "pub");
    for (n, dup) in [0, 8, 8, 0].into_iter().enumerate() {
        let payload = [u8::try_from(n).unwrap()];
        publisher.send(&publish(dup | 2, "t", Some(7), &payload));
        publisher.expect(&ack(PUBACK, 7));
        subscriber.expect_publish(0, "t", &payload);
    }
}

#[test]
fn a_qos_2_message_is_delivered_once_until_it_is_released_over_reconnects_too() {
    let broker = Broker::open();
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe("t", 0);
    let mut publisher = Wire::kept(broker.port(), "pub");
    publisher.send(&publish(4, "t", Some(7), b"first"));
    publisher.expect(&ack(PUBREC, 7));
    publisher.send(&publish(8 | 4, "t", Some(7), b"first"));
    publisher.expect(&ack(PUBREC, 7));
    publisher.vanish();
    let mut publisher = Wire::resumed(broker.port(), "pub");
    publisher.send(&publish(8 | 4, "t", Some(7), b"first"));
    publisher.expect(&ack(PUBREC, 7));
    publisher.send(&ack(PUBREL, 7));
    publisher.expect(&ack(PUBCOMP, 7));
    // Now the identifier is free for another.
    publisher.send(&publish(4, "t", Some(7), b"second"));
    publisher.expect(&ack(PUBREC, 7));
    subscriber.expect_publish(0, "t", b"first");
    subscriber.expect_publish(0, "t", b"second");
    // A release that comes again is answered again: its PUBCOMP may be lost.
    publisher.send(&ack(PUBREL, 7));
    publisher.expect(&ack(PUBCOMP, 7));
    publisher.send(&ack(PUBREL, 7));
    publisher.expect(&ack(PUBCOMP, 7));
}

#[test]
fn the_broker_releases_what_was_received_and_does_not_repeat_it() {
    let broker = Broker::open();
    let mut wire = Wire::kept(broker.port(), "c");
    wire.subscribe("t", 2);
    deliver(&mut Wire::clean(broker.port(), "pub"), 2, "t", b"x");
    let id = wire.expect_publish(4, "t", b"x").unwrap();
    wire.vanish();
    let mut wire = Wire::resumed(broker.port(), "c");
    wire.expect(&publish(8 | 4, "t", Some(id), b"x"));
    wire.send(&ack(PUBREC, id));
    wire.expect(&ack(PUBREL, id));
    wire.vanish();
    let mut wire = Wire::resumed(broker.port(), "c");
    wire.expect(&ack(PUBREL, id));
    wire.send(&ack(PUBCOMP, id));
    wire.settle();
    wire.vanish();
    Wire::resumed(broker.port(), "c").settle();
}

#[test]
fn every_matching_session_gets_the_message_whether_connected_or_not() {
    let broker = Broker::open();
    let filters = ["a/b", "a/+", "#", "+/b"];
    let mut wires = filters.map(|filter| {
        let mut wire = Wire::kept(broker.port(), filter);
        wire.subscribe(filter, 1);
        wire
    });
    wires[1].send(&DISCONNECT);
    wires[1].expect_closed();
    let mut other = Wire::clean(broker.port(), "other");
    other.subscribe("a/c", 1);
    deliver(&mut Wire::clean(broker.port(), "pub"), 1, "a/b", b"x");
    wires[1] = Wire::resumed(broker.port(), filters[1]);
    for wire in &mut wires {
        let id = wire.expect_publish(2, "a/b", b"x");
        acknowledge(wire, 1, id);
    }
    other.settle();
}

#[test]
fn messages_of_a_topic_arrive_in_the_order_of_their_publisher() {
    let broker = Broker::open();
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe("t/#", 2);
    let mut publishers = ["t/a", "t/b"].map(|topic| (topic, Wire::clean(broker.port(), topic)));
    for n in 0..40u8 {
        for (topic, publisher) in &mut publishers {
            publisher.send(&publish(2, topic, Some(u16::from(n) + 1), &[n]));
        }
    }
    let mut next = [0u8; 2];
    for _ in 0..80 {
        let packet = subscriber.receive();
        let which = usize::from(packet[2 + 2 + 2] - b'a');
        let id = [packet[7], packet[8]];
        assert_eq!(packet[9], next[which], "in the order of publishing");
        next[which] += 1;
        subscriber.send(&ack(PUBACK, u16::from_be_bytes(id)));
    }
    assert_eq!(next, [40, 40]);
    // Acknowledgements come in the order of the messages.
    for (_, publisher) in &mut publishers {
        for n in 1..=40 {
            publisher.expect(&ack(PUBACK, n));
        }
    }
}

#[test]
fn qos_2_answers_come_in_the_order_of_the_messages() {
    let broker = Broker::open();
    let mut wire = Wire::clean(broker.port(), "c");
    let ids = [9, 3, 700, 1];
    wire.send(&ids.map(|id| publish(4, "t", Some(id), b"x")).concat());
    for id in ids {
        wire.expect(&ack(PUBREC, id));
    }
    wire.send(&ids.map(|id| ack(PUBREL, id)).concat());
    for id in ids {
        wire.expect(&ack(PUBCOMP, id));
    }
    // As the sender, the broker answers PUBREC with PUBREL in the order of the PUBRECs.
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe("t", 2);
    wire.send(&ids.map(|id| publish(4, "t", Some(id), b"x")).concat());
    let got = ids.map(|_| subscriber.expect_publish(4, "t", b"x").unwrap());
    subscriber.send(&got.map(|id| ack(PUBREC, id)).concat());
    for id in got {
        subscriber.expect(&ack(PUBREL, id));
    }
}

#[test]
fn after_disconnect_nothing_is_read_and_the_connection_closes() {
    let broker = Broker::open();
    let mut watcher = Wire::clean(broker.port(), "watcher");
    watcher.subscribe("t", 0);
    let mut wire = Wire::clean(broker.port(), "c");
    wire.send(
        &[
            publish(0, "t", None, b"before"),
            DISCONNECT.to_vec(),
            publish(0, "t", None, b"after"),
        ]
        .concat(),
    );
    wire.expect_closed();
    watcher.expect_publish(0, "t", b"before");
    deliver(&mut Wire::clean(broker.port(), "pub"), 1, "t", b"mark");
    watcher.expect_publish(0, "t", b"mark");
}
