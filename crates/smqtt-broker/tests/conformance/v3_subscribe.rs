//! SUBSCRIBE, UNSUBSCRIBE and their answers: 3.8 to 3.11 of MQTT 3.1.1.

use super::harness::Broker;
use super::v3_wire::*;

fn closes(port: u16, bytes: &[u8]) {
    let mut wire = Wire::clean(port, "violator");
    wire.send(bytes);
    if let Some(answer) = wire.next() {
        panic!("{} was answered with {}", hex(bytes), hex(&answer));
    }
}

/// Publishes with QoS 1 to the end.
#[track_caller]
fn deliver(publisher: &mut Wire, topic: &str, payload: &[u8]) {
    publisher.send(&publish(2, topic, Some(1), payload));
    publisher.expect(&ack(PUBACK, 1));
}

#[test]
fn requests_about_no_filter_close_the_connection() {
    let broker = Broker::open();
    closes(broker.port(), &subscribe(1, &[]));
    closes(broker.port(), &unsubscribe(1, &[]));
    // A filter without its QoS.
    closes(broker.port(), &packet(0x82, &[&[0, 1], &string("t")]));
    // Bytes between the filters.
    closes(
        broker.port(),
        &packet(0xA2, &[&[0, 1], &string("t"), &[0], &string("u")]),
    );
}

#[test]
fn reserved_bits_and_qos_3_close_the_connection() {
    let broker = Broker::open();
    for options in (0..8).map(|bit| 1 << bit).filter(|bit| *bit > 2).chain([3]) {
        closes(broker.port(), &subscribe(1, &[("t", options)]));
        closes(broker.port(), &subscribe(1, &[("s", 0), ("t", options)]));
    }
}

#[test]
fn suback_has_a_code_for_each_filter_in_their_order() {
    let broker = Broker::configured("[limits]\ntopic_levels = 3\n");
    let mut wire = Wire::clean(broker.port(), "c");
    wire.send(&subscribe(
        0x0203,
        &[("a", 2), ("b/+", 0), ("a/b/c/d", 1), ("c/#", 1), ("a", 0)],
    ));
    wire.expect(&suback(0x0203, &[2, 0, 0x80, 1, 0]));
    // Failed for one filter, it holds for the others.
    deliver(&mut Wire::clean(broker.port(), "pub"), "c/d", b"x");
    wire.expect_publish(2, "c/d", b"x");
}

#[test]
fn many_filters_in_one_packet_are_as_many_packets() {
    let broker = Broker::open();
    let mut publisher = Wire::clean(broker.port(), "pub");
    for topic in ["a", "b"] {
        publisher.send(&publish(1, topic, None, topic.as_bytes()));
    }
    publisher.settle();
    let mut wire = Wire::clean(broker.port(), "c");
    // The last of three subscriptions to one filter holds.
    wire.send(&subscribe(
        1,
        &[("a", 0), ("b", 2), ("c", 0), ("c", 2), ("c", 1)],
    ));
    wire.expect(&suback(1, &[0, 2, 0, 2, 1]));
    wire.expect_publish(1, "a", b"a");
    wire.expect_publish(1, "b", b"b");
    publisher.send(&publish(4, "c", Some(1), b"c"));
    wire.expect_publish(2, "c", b"c");
    publisher.expect(&ack(PUBREC, 1));
    wire.send(&unsubscribe(2, &["a", "never", "b"]));
    wire.expect(&unsuback(2));
    for topic in ["a", "b", "c"] {
        deliver(&mut publisher, topic, b"after");
    }
    wire.expect_publish(2, "c", b"after");
}

#[test]
fn a_repeated_subscription_takes_the_place_of_the_first_and_sends_retained_messages_again() {
    let broker = Broker::open();
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(1, "t/r", None, b"kept"));
    publisher.settle();
    let mut wire = Wire::clean(broker.port(), "c");
    for qos in [0, 1, 0] {
        wire.subscribe("t/#", qos);
        wire.expect_publish(1, "t/r", b"kept");
        // One copy, of the QoS that was granted last.
        deliver(&mut publisher, "t/x", b"live");
        wire.expect_publish(qos << 1, "t/x", b"live");
    }
    wire.settle();
}

#[test]
fn a_repeated_subscription_loses_nothing_of_the_flow() {
    let broker = Broker::open();
    let mut wire = Wire::clean(broker.port(), "c");
    wire.subscribe("t", 0);
    let mut publisher = Wire::clean(broker.port(), "pub");
    let mut expected = 0;
    for round in 0..20u8 {
        for n in 0..10 {
            publisher.send(&publish(0, "t", None, &[round * 10 + n]));
        }
        wire.send(&subscribe(999, &[("t", 0)]));
        let mut answered = false;
        while !answered || expected < (round + 1) * 10 {
            let packet = wire.receive();
            if packet == suback(999, &[0]) {
                answered = true;
            } else {
                assert_eq!(hex(&packet), hex(&publish(0, "t", None, &[expected])));
                expected += 1;
            }
        }
    }
}

#[test]
fn messages_arrive_with_the_lesser_of_published_and_granted_qos() {
    let broker = Broker::open();
    let mut subscribers = [0, 1, 2].map(|granted| {
        let mut wire = Wire::clean(broker.port(), &format!("sub{granted}"));
        wire.subscribe("t", granted);
        wire
    });
    let mut publisher = Wire::clean(broker.port(), "pub");
    for published in [0, 1, 2] {
        let id = (published > 0).then_some(u16::from(published));
        publisher.send(&publish(published << 1, "t", id, &[published]));
        for (granted, wire) in (0..).zip(&mut subscribers) {
            wire.expect_publish(published.min(granted) << 1, "t", &[published]);
        }
    }
}

#[test]
fn unsubscribing_compares_filters_as_they_are_written() {
    let broker = Broker::open();
    let mut wire = Wire::clean(broker.port(), "c");
    let mut publisher = Wire::clean(broker.port(), "pub");
    wire.subscribe("a/+", 0);
    // None of these is the filter, though each matches the same topic; each is answered nevertheless.
    for filter in ["a/b", "a/#", "+/+", "#", "A/+", "a/+/"] {
        wire.send(&unsubscribe(3, &[filter]));
        wire.expect(&unsuback(3));
    }
    deliver(&mut publisher, "a/b", b"still");
    wire.expect_publish(0, "a/b", b"still");
    wire.send(&unsubscribe(4, &["a/+"]));
    wire.expect(&unsuback(4));
    wire.subscribe("mark", 0);
    deliver(&mut publisher, "a/b", b"no more");
    deliver(&mut publisher, "mark", b"");
    wire.expect_publish(0, "mark", b"");
}

#[test]
fn what_was_begun_is_delivered_to_the_end_after_unsubscribing() {
    let broker = Broker::open();
    let mut wire = Wire::kept(broker.port(), "c");
    wire.subscribe("t", 2);
    let mut publisher = Wire::clean(broker.port(), "pub");
    deliver(&mut publisher, "t", b"one");
    publisher.send(&publish(4, "t", Some(2), b"two"));
    publisher.expect(&ack(PUBREC, 2));
    let one = wire.expect_publish(2, "t", b"one").unwrap();
    let two = wire.expect_publish(4, "t", b"two").unwrap();
    wire.send(&unsubscribe(1, &["t"]));
    wire.expect(&unsuback(1));
    wire.send(&ack(PUBREC, two));
    wire.expect(&ack(PUBREL, two));
    wire.vanish();
    // Over a reconnect too.
    let mut wire = Wire::resumed(broker.port(), "c");
    let mut again = [wire.receive(), wire.receive()];
    again.sort();
    let expected = [publish(8 | 2, "t", Some(one), b"one"), ack(PUBREL, two)];
    assert_eq!(again, expected);
    wire.send(&[ack(PUBACK, one), ack(PUBCOMP, two)].concat());
    wire.settle();
}
