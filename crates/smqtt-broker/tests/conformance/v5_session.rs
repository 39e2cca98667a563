//! What is kept of a client between its connections: 3.1.2.4, 3.1.2.11.2 and 4.1 of MQTT 5.0.

use std::time::Duration;

use super::harness::Broker;
use super::v5_wire::*;

/// Connects, and says whether a session was present.
fn present(port: u16, connect: &[u8]) -> (Wire, bool) {
    let (wire, connack) = Wire::let_in(port, connect);
    assert!(connack.flags <= 1, "the other acknowledge flags are 0");
    (wire, connack.flags == 1)
}

#[test]
fn a_kept_session_is_resumed_with_all_it_has() {
    let broker = Broker::open();
    let (mut wire, known) = present(broker.port(), &keeping(0, "c"));
    assert!(!known, "there was none");
    wire.listen("t/#", 2);
    wire.vanish();
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.deliver(QOS1, "t/1", "one");
    publisher.deliver(QOS2, "t/2", "two");
    let (mut wire, known) = present(broker.port(), &keeping(0, "c"));
    assert!(known);
    for (payload, flags) in [("one", QOS1), ("two", QOS2)] {
        let message = wire.message_of(payload);
        assert_eq!(message.flags, flags);
        wire.acknowledge(&message);
    }
    // The subscription is alive.
    publisher.say("t/3", "three");
    wire.message_of("three");
}

#[test]
fn a_clean_start_discards_what_was_kept() {
    let broker = Broker::open();
    let mut wire = Wire::keep(broker.port(), "c");
    wire.listen("t", 1);
    wire.leave();
    let mut publisher = Wire::join(broker.port(), "publisher");
    publisher.deliver(QOS1, "t", "waits");
    let (mut wire, known) = present(broker.port(), &keeping(CLEAN, "c"));
    assert!(!known);
    publisher.say("t", "now");
    wire.expect_silence();
    wire.leave();
    // What it began is a session of its own.
    let (_, known) = present(broker.port(), &keeping(0, "c"));
    assert!(known);
}

#[test]
fn a_clean_start_takes_the_session_from_a_client_that_is_connected() {
    let broker = Broker::open();
    let mut first = Wire::keep(broker.port(), "c");
    first.listen("t", 1);
    let (mut second, known) = present(broker.port(), &keeping(CLEAN, "c"));
    assert!(!known);
    first.expect_disconnect(0x8E);
    Wire::join(broker.port(), "publisher").say("t", "x");
    second.expect_silence();
}

#[test]
fn the_client_identifier_names_the_session() {
    let broker = Broker::open();
    for id in ["a", "A", "a ", "\u{e4}"] {
        let (mut wire, known) = present(broker.port(), &keeping(0, id));
        assert!(!known, "{id:?} is somebody else");
        wire.listen(id, 0);
        wire.leave();
    }
    let mut publisher = Wire::join(broker.port(), "publisher");
    for id in ["a", "A", "a ", "\u{e4}"] {
        let (mut wire, known) = present(broker.port(), &keeping(0, id));
        assert!(known);
        publisher.say(id, id);
        wire.message_of(id);
    }
}

#[test]
fn without_expiry_interval_the_session_ends_with_the_connection() {
    let broker = Broker::open();
    for with in [vec![], vec![four(SESSION_EXPIRY, 0)]] {
        let bytes = connect(0, 0, &with, &[string("c")]);
        for leave in [true, false] {
            let (wire, known) = present(broker.port(), &bytes);
            assert!(!known);
            if leave { wire.leave() } else { wire.vanish() }
        }
    }
}

#[test]
fn a_session_is_discarded_when_its_expiry_interval_has_passed() {
    let broker = Broker::open();
    let short = connect(0, 0, &[four(SESSION_EXPIRY, 1)], &[string("c")]);
    let (mut wire, _) = present(broker.port(), &short);
    wire.listen("t", 1);
    // While it is connected, nothing passes.
    std::thread::sleep(Duration::from_millis(1300));
    Wire::join(broker.port(), "publisher").say("t", "x");
    wire.message_of("x");
    wire.vanish();
    std::thread::sleep(Duration::from_millis(1300));
    let (mut wire, known) = present(broker.port(), &short);
    assert!(!known);
    Wire::join(broker.port(), "publisher").say("t", "x");
    wire.expect_silence();
}

#[test]
fn subscriptions_and_messages_stay_while_the_client_is_connected() {
    let broker = Broker::open();
    // No session is to be kept after the connection; it is there as long.
    let mut wire = Wire::join_with(broker.port(), "c", &[two(RECEIVE_MAXIMUM, 1)]);
    wire.listen("t", 1);
    let mut publisher = Wire::join(broker.port(), "publisher");
    for n in 0..100 {
        publisher.deliver(QOS1, "t", &n.to_string());
    }
    for n in 0..100 {
        let message = wire.message_of(&n.to_string());
        wire.acknowledge(&message);
    }
}
