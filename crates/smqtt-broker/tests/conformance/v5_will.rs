//! Wills: 3.1.2.5 to 3.1.2.7 and 3.1.3.2 of MQTT 5.0.

use super::harness::Broker;
use super::v5_wire::*;

/// Leaves a will of these flags and properties behind, and is lost.
fn die(port: u16, flags: u8, with: &[Vec<u8>], payload: &str) {
    let fields = will("mortal", with, "will", payload);
    let (wire, _) = Wire::let_in(port, &connect(CLEAN | WILL | flags, 0, &[], &fields));
    wire.vanish();
}

fn watcher(port: u16) -> Wire {
    let mut watcher = Wire::join(port, "watcher");
    watcher.listen("will", 2 | RETAIN_AS_PUBLISHED);
    watcher
}

#[test]
fn a_lost_client_leaves_its_will_once() {
    let broker = Broker::open();
    let mut watcher = watcher(broker.port());
    let fields = will("mortal", &[], "will", "gone");
    let with = [four(SESSION_EXPIRY, 60)];
    let (wire, _) = Wire::let_in(broker.port(), &connect(WILL, 0, &with, &fields));
    watcher.expect_silence();
    wire.vanish();
    watcher.message_of("gone");
    // The session goes on without it.
    Wire::keep(broker.port(), "mortal").vanish();
    watcher.expect_silence();
}

#[test]
fn a_protocol_error_leaves_the_will() {
    let broker = Broker::open();
    let mut watcher = watcher(broker.port());
    let fields = will("mortal", &[], "will", "gone");
    let (mut wire, _) = Wire::let_in(broker.port(), &connect(CLEAN | WILL, 0, &[], &fields));
    wire.send(&[0x00, 0]);
    wire.expect_disconnect(0x81);
    watcher.message_of("gone");
}

#[test]
fn a_normal_disconnect_deletes_the_will() {
    let broker = Broker::open();
    let mut watcher = watcher(broker.port());
    let fields = will("mortal", &[], "will", "gone");
    for packet in [&[0xE0, 0][..], &[0xE0, 1, 0], &[0xE0, 2, 0, 0]] {
        let with = [four(SESSION_EXPIRY, 60)];
        let (mut wire, _) = Wire::let_in(broker.port(), &connect(WILL, 0, &with, &fields));
        wire.send(packet);
        wire.expect_closed();
    }
    // Not at the end of the session either.
    Wire::join(broker.port(), "mortal").leave();
    watcher.expect_silence();
}

#[test]
fn a_disconnect_with_will_leaves_it() {
    let broker = Broker::open();
    let mut watcher = watcher(broker.port());
    let fields = will("mortal", &[], "will", "gone");
    let (mut wire, _) = Wire::let_in(broker.port(), &connect(CLEAN | WILL, 0, &[], &fields));
    wire.send(&[0xE0, 1, 0x04]);
    wire.expect_closed();
    watcher.message_of("gone");
}

#[test]
fn a_will_is_published_with_its_qos() {
    let broker = Broker::open();
    let mut watcher = watcher(broker.port());
    for (flags, qos) in [(0x00, 0), (0x08, QOS1), (0x10, QOS2)] {
        die(broker.port(), flags, &[], "gone");
        let message = watcher.message_of("gone");
        assert_eq!(message.flags, qos);
        watcher.acknowledge(&message);
    }
}

#[test]
fn a_will_is_retained_if_it_says_so() {
    let broker = Broker::open();
    let mut watcher = watcher(broker.port());
    die(broker.port(), 0, &[], "passing");
    assert_eq!(watcher.message_of("passing").flags, 0);
    let mut later = Wire::join(broker.port(), "later");
    later.listen("will", 0);
    later.expect_silence();
    die(broker.port(), WILL_RETAIN, &[], "lasting");
    assert_eq!(watcher.message_of("lasting").flags, RETAIN);
    later.message_of("lasting");
    later.listen("will", 0);
    assert_eq!(later.message_of("lasting").flags, RETAIN);
}

#[test]
fn a_will_waits_for_its_delay() {
    let broker = Broker::open();
    let mut watcher = watcher(broker.port());
    let delay = [four(WILL_DELAY, 3)];
    let fields = will("mortal", &delay, "will", "gone");
    let with = [four(SESSION_EXPIRY, 60)];
    let (wire, _) = Wire::let_in(broker.port(), &connect(WILL, 0, &with, &fields));
    wire.vanish();
    watcher.expect_silence();
    watcher.message_of("gone");
}

#[test]
fn the_end_of_the_session_ends_the_wills_delay() {
    let broker = Broker::open();
    let mut watcher = watcher(broker.port());
    // No session is kept.
    die(broker.port(), 0, &[four(WILL_DELAY, 600)], "at once");
    watcher.message_of("at once");
    // The session expires.
    let fields = will("mortal", &[four(WILL_DELAY, 600)], "will", "expired");
    let with = [four(SESSION_EXPIRY, 1)];
    let (wire, _) = Wire::let_in(broker.port(), &connect(WILL, 0, &with, &fields));
    wire.vanish();
    watcher.message_of("expired");
    // Somebody starts over.
    let fields = will("mortal", &[four(WILL_DELAY, 600)], "will", "replaced");
    let with = [four(SESSION_EXPIRY, 60)];
    let (wire, _) = Wire::let_in(broker.port(), &connect(WILL, 0, &with, &fields));
    wire.vanish();
    watcher.expect_silence();
    let _clean = Wire::join(broker.port(), "mortal");
    watcher.message_of("replaced");
}

#[test]
fn a_client_that_is_back_within_the_delay_has_left_no_will() {
    let broker = Broker::open();
    let mut watcher = watcher(broker.port());
    let fields = will("mortal", &[four(WILL_DELAY, 3)], "will", "gone");
    let with = [four(SESSION_EXPIRY, 60)];
    let (wire, _) = Wire::let_in(broker.port(), &connect(WILL, 0, &with, &fields));
    wire.vanish();
    let mut back = Wire::keep(broker.port(), "mortal");
    std::thread::sleep(std::time::Duration::from_millis(3200));
    watcher.expect_silence();
    back.settle();
}

#[test]
fn the_wills_properties_come_with_it_in_order() {
    let broker = Broker::open();
    let mut watcher = watcher(broker.port());
    let users = [("b", "1"), ("a", "2"), ("b", "0"), ("a", "2")];
    let mut with: Vec<_> = users.iter().map(|(k, v)| user(k, v)).collect();
    with.push(text(CONTENT_TYPE, "text/plain"));
    with.push(text(RESPONSE_TOPIC, "answers"));
    with.push(text(CORRELATION_DATA, [0, 255]));
    with.push(byte(PAYLOAD_FORMAT, 1));
    die(broker.port(), 0, &with, "gone");
    let properties = watcher.message_of("gone").properties;
    let got = properties.user();
    let got: Vec<_> = got.iter().map(|(k, v)| (&k[..], &v[..])).collect();
    assert_eq!(got, users);
    assert_eq!(properties.text(CONTENT_TYPE), Some("text/plain"));
    assert_eq!(properties.text(RESPONSE_TOPIC), Some("answers"));
    assert_eq!(properties.get(CORRELATION_DATA), Some(&[0, 255][..]));
    assert_eq!(properties.number(PAYLOAD_FORMAT), Some(1));
}
