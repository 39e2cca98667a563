//! Shared subscriptions: 4.8.2 of MQTT 5.0.

use super::harness::Broker;
use super::v5_wire::*;

/// A member of a group on the topic "t", with a kept session.
fn member(port: u16, client_id: &str, qos: u8) -> Wire {
    let mut wire = Wire::keep(port, client_id);
    wire.listen("$share/group/t", qos);
    wire
}

#[test]
fn a_group_has_a_name_and_a_filter() {
    let broker = Broker::open();
    for filter in [
        "$share",
        "$share/",
        "$share//",
        "$share//t",
        "$share/group",
        "$share/group/",
        "$share/+/t",
        "$share/#/t",
        "$share/a+b/t",
        "$share/a#/t",
        "$share/group/a#",
    ] {
        let mut wire = Wire::join(broker.port(), "c");
        wire.send(&subscribe(1, &[], &[(filter, 0)]));
        let answer = wire.answer();
        // The word alone is a filter like others.
        if filter == "$share" && answer.reasons == [0] {
            continue;
        }
        assert!(
            [0x81, 0x82, 0x8F].contains(&answer.reasons[0]),
            "{filter}: {answer:?}"
        );
        assert!([0xE0, SUBACK].contains(&answer.first));
    }
    // A name of one character, and a filter with all there is.
    let mut wire = Wire::join(broker.port(), "c");
    wire.listen("$share/g/a/+/#", 0);
    wire.listen("$share/$\u{e4} -/a/b", 0);
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.say("a/b", "x");
    // Two groups: each has the message.
    wire.message_of("x");
    wire.message_of("x");
    publisher.say("$share/g/a/b", "x");
    wire.expect_silence();
}

#[test]
fn each_message_goes_to_one_member_with_its_own_qos() {
    let broker = Broker::open();
    let mut low = member(broker.port(), "low", 0);
    let mut high = member(broker.port(), "high", 1);
    let mut publisher = Wire::join(broker.port(), "publisher");
    for n in 0..20 {
        publisher.deliver(QOS2, "t", &n.to_string());
    }
    let mut got = Vec::new();
    for (wire, flags) in [(&mut low, 0), (&mut high, QOS1)] {
        std::thread::sleep(super::harness::QUIET);
        wire.send(&PINGREQ);
        let mut count = 0;
        loop {
            let packet = wire.receive();
            if packet == PINGRESP {
                break;
            }
            let message = Publish::parse(&packet);
            assert_eq!(message.flags, flags);
            wire.acknowledge(&message);
            got.push(message.payload.parse::<usize>().expect("a number"));
            count += 1;
        }
        assert!(count > 0, "both have their turns");
    }
    got.sort_unstable();
    assert_eq!(got, (0..20).collect::<Vec<_>>());
}

#[test]
fn a_qos_2_delivery_is_completed_when_its_member_comes_back() {
    let broker = Broker::open();
    let mut first = member(broker.port(), "first", 2);
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.deliver(QOS2, "t", "x");
    let message = first.message_of("x");
    let mut second = member(broker.port(), "second", 2);
    first.vanish();
    second.expect_silence();
    let mut first = Wire::keep(broker.port(), "first");
    let again = first.message_of("x");
    assert_eq!((again.id, again.flags), (message.id, QOS2 | DUP));
    first.acknowledge(&again);
    second.expect_silence();
}

#[test]
fn a_qos_2_delivery_whose_member_does_not_come_back_goes_to_nobody_else() {
    let broker = Broker::open();
    let mut first = member(broker.port(), "first", 2);
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.deliver(QOS2, "t", "x");
    first.message_of("x");
    let mut second = member(broker.port(), "second", 2);
    first.vanish();
    // Its session ends.
    Wire::join(broker.port(), "first").leave();
    second.expect_silence();
    publisher.deliver(QOS2, "t", "y");
    second.message_of("y");
}

#[test]
fn what_a_member_refuses_goes_to_nobody_else() {
    let broker = Broker::open();
    let mut first = member(broker.port(), "first", 2);
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.deliver(QOS1, "t", "one");
    publisher.deliver(QOS2, "t", "two");
    let one = first.message_of("one");
    let two = first.message_of("two");
    let mut second = member(broker.port(), "second", 2);
    first.send(&ack_with(PUBACK, one.id, 0x83));
    first.send(&ack_with(PUBREC, two.id, 0x83));
    first.settle();
    first.vanish();
    second.expect_silence();
}
