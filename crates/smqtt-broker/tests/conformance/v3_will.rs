//! Wills: 3.1.2.5 to 3.1.2.7 of MQTT 3.1.1.

use super::harness::Broker;
use super::v3_wire::*;

/// A watcher of the topic `will`, which gets marks by [`mark`].
fn watcher(broker: &Broker) -> Wire {
    let mut watcher = Wire::clean(broker.port(), "watcher");
    watcher.subscribe("will", 2);
    watcher.subscribe("mark", 0);
    watcher
}

/// Makes sure that nothing has come to the watcher.
#[track_caller]
fn nothing_came(broker: &Broker, watcher: &mut Wire) {
    Wire::clean(broker.port(), "marker").send(&publish(0, "mark", None, b""));
    watcher.expect_publish(0, "mark", b"");
}

#[test]
fn a_lost_connection_leaves_its_will_with_the_qos_it_named() {
    let broker = Broker::open();
    let mut watcher = watcher(&broker);
    for qos in 0..3 {
        let will = connect_with_will(qos << 3, "c", "will", "gone");
        Wire::connected(broker.port(), &will, &WELCOME).vanish();
        watcher.expect_publish(qos << 1, "will", b"gone");
        // Once: it is not in any state that a next connection has.
        Wire::clean(broker.port(), "c").vanish();
        nothing_came(&broker, &mut watcher);
    }
}

#[test]
fn a_violation_and_a_silent_client_leave_their_will() {
    let broker = Broker::open();
    let mut watcher = watcher(&broker);
    let mut wire = Wire::connected(
        broker.port(),
        &connect_with_will(0, "c", "will", "violated"),
        &WELCOME,
    );
    wire.send(&[0, 0]);
    wire.expect_closed();
    watcher.expect_publish(0, "will", b"violated");
    let fields: [&[u8]; 3] = [&string("c"), &string("will"), &string("silent")];
    let mut wire = Wire::connected(
        broker.port(),
        &connect_with(CLEAN | WILL, 1, &fields),
        &WELCOME,
    );
    watcher.expect_publish(0, "will", b"silent");
    wire.expect_closed();
}

#[test]
fn disconnect_takes_the_will_back() {
    let broker = Broker::open();
    let mut watcher = watcher(&broker);
    for flags in [0, WILL_RETAIN] {
        let will = connect_with_will(flags, "c", "will", "gone");
        Wire::connected(broker.port(), &will, &WELCOME).leave();
        nothing_came(&broker, &mut watcher);
        // Not even when the same client is lost later, without a will.
        Wire::clean(broker.port(), "c").vanish();
        nothing_came(&broker, &mut watcher);
    }
}

#[test]
fn no_will_no_message() {
    let broker = Broker::open();
    let mut watcher = Wire::clean(broker.port(), "watcher");
    watcher.subscribe("#", 0);
    Wire::clean(broker.port(), "c").vanish();
    nothing_came(&broker, &mut watcher);
}

#[test]
fn a_will_is_retained_if_it_says_so_and_only_then() {
    let broker = Broker::open();
    let mut watcher = watcher(&broker);
    for (flags, payload) in [(0, "passing"), (WILL_RETAIN, "lasting")] {
        let will = connect_with_will(flags, "c", "will", payload);
        Wire::connected(broker.port(), &will, &WELCOME).vanish();
        watcher.expect_publish(0, "will", payload.as_bytes());
        let mut late = Wire::clean(broker.port(), "late");
        late.subscribe("will", 0);
        if flags == WILL_RETAIN {
            late.expect_publish(1, "will", payload.as_bytes());
        }
        late.settle();
    }
}

#[test]
fn a_will_of_a_kept_session_is_published_once() {
    let broker = Broker::open();
    let mut watcher = watcher(&broker);
    let fields: [&[u8]; 3] = [&string("c"), &string("will"), &string("gone")];
    let will = connect_with(WILL, 0, &fields);
    Wire::connected(broker.port(), &will, &WELCOME).vanish();
    watcher.expect_publish(0, "will", b"gone");
    Wire::resumed(broker.port(), "c").vanish();
    nothing_came(&broker, &mut watcher);
}
