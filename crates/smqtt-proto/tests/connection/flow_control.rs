//! No more unacknowledged messages than the receiver takes (MQTT 5.0 §4.9).

use std::time::Instant;

use bytes::BytesMut;
use smqtt_proto::packet::ConnAckProperties;
use smqtt_proto::{
    Closed, Delivery, Packet, ProtocolVersion, PublishError, QoS, ReasonCode, Session, Violation,
    client, server,
};

use crate::pair::*;

const V5: ProtocolVersion = ProtocolVersion::V5;

fn narrow(receive_maximum: u16) -> server::Config {
    server::Config {
        receive_maximum,
        ..server::Config::default()
    }
}

/// [MQTT-3.3.4-7], [MQTT-4.9.0-2]
#[test]
fn a_client_sends_no_more_than_the_server_takes() {
    let mut pair = Pair::connected_with(options(V5), narrow(2));
    pair.server_acknowledges = false;
    assert_eq!(pair.client.room(), 2);
    let first = pair
        .client_publish("1", QoS::AtLeastOnce)
        .expect("an identifier");
    let second = pair
        .client_publish("2", QoS::ExactlyOnce)
        .expect("an identifier");
    let third = message("3", pair.now);
    let full = pair
        .client
        .publish(pair.now, &third, Delivery::new(QoS::AtLeastOnce));
    assert_eq!(full, Err(PublishError::WindowFull));
    // [MQTT-4.9.0-3]: QoS 0 is not held up.
    pair.client_publish("0", QoS::AtMostOnce);
    pair.run();
    assert_eq!(pair.server_got(), ["1", "2", "0"]);
    pair.server.acknowledge(first, ReasonCode::Success);
    pair.run();
    assert_eq!(pair.client.room(), 1);
    pair.server.acknowledge(second, ReasonCode::Success);
    pair.run();
    assert_eq!(pair.client.room(), 2, "after PUBCOMP");
    pair.client
        .publish(pair.now, &third, Delivery::new(QoS::AtLeastOnce))
        .expect("there is room");
}

/// A place in the window is taken until PUBCOMP, not only until PUBREC (MQTT 5.0 §4.9).
#[test]
fn a_qos_2_message_takes_its_place_until_pubcomp() {
    let mut pair = Pair::connected_with(options(V5), narrow(1));
    pair.client_publish("1", QoS::ExactlyOnce);
    pair.client_to_server();
    pair.server_to_client();
    assert_eq!(pair.names_to_client(), ["PUBREC"]);
    assert_eq!(pair.client.room(), 0);
    pair.run();
    assert_eq!(pair.client.room(), 1);
}

/// [MQTT-3.3.4-9]
#[test]
fn a_server_sends_no_more_than_the_client_takes() {
    for (version, expected) in [(ProtocolVersion::V3_1_1, 5), (V5, 3)] {
        let mut taking_three = options(version);
        taking_three.receive_maximum = 3;
        let config = server::Config {
            max_in_flight: 5,
            ..server::Config::default()
        };
        let mut pair = Pair::connected_with(taking_three, config);
        pair.client_acknowledges = false;
        assert_eq!(pair.server.room(), expected);
        for n in 0..expected {
            pair.server_publish(&n.to_string(), QoS::AtLeastOnce);
        }
        assert_eq!(pair.server.room(), 0);
        let one_more = message("x", pair.now);
        let full = pair
            .server
            .publish(pair.now, &one_more, Delivery::new(QoS::ExactlyOnce));
        assert_eq!(full, Err(PublishError::WindowFull));
        pair.run();
        pair.client.acknowledge(id(1), ReasonCode::Success);
        pair.run();
        // 3.1.1: the client held back what it did not take, and takes it as it acknowledges.
        assert_eq!(pair.server.room(), 1);
    }
}

/// A server that exceeds the receive maximum is served as far as the client tolerates it.
#[test]
fn a_client_takes_as_many_beyond_its_maximum_as_it_tolerates() {
    let now = Instant::now();
    let mut tolerant = options(V5);
    (tolerant.receive_maximum, tolerant.receive_tolerance) = (1, 1);
    let mut client = client::Connection::new(tolerant, Session::new(), now).expect("encodes");
    let mut input = BytesMut::from(
        &b"\x20\x03\x00\x00\x00\x32\x06\x00\x01t\x00\x01\x00\x32\x06\x00\x01t\x00\x02\x00\x32\x06\x00\x01t\x00\x03\x00"[..],
    );
    client.handle_input(now, &mut input);
    let mut taken = 0;
    let closed = loop {
        match client.poll_event().expect("it is closed in the end") {
            client::Event::Publish(_) => taken += 1,
            client::Event::Closed(closed) => break closed,
            _ => {}
        }
    };
    assert_eq!(taken, 2);
    let violation = Violation::ReceiveMaximumExceeded { limit: 2 };
    assert_eq!(closed, Closed::Violation(violation));
}

/// MQTT 5.0 §3.3.4: a protocol error with a reason code of its own.
#[test]
fn a_client_that_sends_too_many_is_disconnected_in_5_0() {
    let mut alone = Alone::open(V5, narrow(2));
    alone.feed(
        b"\x32\x06\x00\x01t\x00\x01\x00\x34\x06\x00\x01t\x00\x02\x00\x32\x06\x00\x01t\x00\x03\x00",
    );
    let events = alone.events();
    let violation = Violation::ReceiveMaximumExceeded { limit: 2 };
    assert_eq!(
        events[2],
        server::Event::Closed(Closed::Violation(violation))
    );
    assert_eq!(alone.written(), b"\xE0\x01\x93");
}

/// The quota comes back with PUBACK and with PUBCOMP, also for a QoS 2 message that is refused.
#[test]
fn an_acknowledged_message_gives_its_place_back() {
    let mut alone = Alone::open(V5, narrow(1));
    for n in 1..=20_u8 {
        let qos = if n % 2 == 0 { 0x32 } else { 0x34 };
        alone.feed(&[qos, 6, 0, 1, b't', 0, n, 0]);
        assert!(matches!(alone.events()[..], [server::Event::Publish(_)]));
        let reason = if n % 4 == 1 {
            ReasonCode::QuotaExceeded
        } else {
            ReasonCode::Success
        };
        alone.server.acknowledge(id(n.into()), reason);
        if n % 4 == 3 {
            alone.feed(&[0x62, 2, 0, n]);
            assert!(matches!(
                alone.events()[..],
                [server::Event::Released { .. }]
            ));
        }
    }
    assert!(alone.server.is_open());
    assert!(alone.server.session().is_empty());
}

/// A session brings old QoS 2 identifiers: they do not count against the new connection's quota.
#[test]
fn the_quota_begins_anew_with_each_connection() {
    let mut pair = Pair::connected_with(options(V5), narrow(2));
    for _ in 0..2 {
        pair.client_publish("x", QoS::ExactlyOnce);
    }
    pair.client_to_server();
    pair.server_to_client(); // PUBREC came, PUBREL is lost
    pair.reconnect(options(V5), narrow(2), true);
    pair.run();
    assert_eq!(pair.names_to_server(), ["CONNECT", "PUBREL", "PUBREL"]);
    assert_eq!(pair.client.room(), 2);
    for n in 0..10 {
        pair.client_publish(&n.to_string(), QoS::ExactlyOnce);
        pair.run();
    }
    assert!(pair.server.is_open(), "{:?}", pair.server_events);
}

/// A connection that resumes the session of one on which QoS 2 message 9 was received and not released.
fn resumed(receive_maximum: u16) -> Alone {
    let mut first = Alone::open(V5, narrow(receive_maximum));
    first.feed(b"\x34\x06\x00\x01t\x00\x09\x00");
    assert_eq!(first.events().len(), 1);
    first.server.acknowledge(id(9), ReasonCode::Success);
    first.server.handle_end_of_stream();
    let session = first.server.take_session();
    let mut second = Alone::new(narrow(receive_maximum));
    second.feed(&bytes(&Packet::Connect(Box::new(options(V5).connect)), V5));
    assert_eq!(second.events().len(), 1);
    second
        .server
        .accept(second.now, session, true, ConnAckProperties::default());
    second.written();
    second
}

#[test]
fn releasing_an_old_message_gives_back_no_place_that_it_did_not_take() {
    let mut alone = resumed(2);
    alone.feed(b"\x32\x06\x00\x01t\x00\x01\x00\x32\x06\x00\x01t\x00\x02\x00\x62\x02\x00\x09");
    assert_eq!(alone.events().len(), 3);
    alone.feed(b"\x32\x06\x00\x01t\x00\x03\x00");
    let violation = Violation::ReceiveMaximumExceeded { limit: 2 };
    assert_eq!(
        alone.events(),
        [server::Event::Closed(Closed::Violation(violation))]
    );
}

#[test]
fn a_repeated_message_takes_a_place_and_gives_it_back() {
    let mut alone = resumed(1);
    alone.feed(b"\x3C\x06\x00\x01t\x00\x09\x00");
    assert!(alone.events().is_empty());
    assert_eq!(alone.written(), b"\x50\x02\x00\x09");
    alone.feed(b"\x62\x02\x00\x09\x32\x06\x00\x01t\x00\x01\x00");
    let events = alone.events();
    assert!(
        matches!(
            events[..],
            [server::Event::Released { .. }, server::Event::Publish(_)]
        ),
        "{events:?}"
    );
    // While it is repeated and not released, there is no place for another.
    let mut alone = resumed(1);
    alone.feed(b"\x3C\x06\x00\x01t\x00\x09\x00\x32\x06\x00\x01t\x00\x01\x00");
    let violation = Violation::ReceiveMaximumExceeded { limit: 1 };
    assert_eq!(
        alone.events(),
        [server::Event::Closed(Closed::Violation(violation))]
    );
}

/// MQTT 3.1.1 has no receive maximum: the stream waits instead, and nobody is disconnected.
#[test]
fn a_3_1_1_client_that_sends_many_has_to_wait() {
    let mut alone = Alone::open(ProtocolVersion::V3_1_1, narrow(2));
    for n in 1..=5_u8 {
        alone.feed(&[0x32, 5, 0, 1, b't', 0, n]);
    }
    assert_eq!(alone.events().len(), 2);
    assert!(!alone.server.wants_input());
    for n in 1..=5 {
        alone.server.acknowledge(id(n), ReasonCode::Success);
        let more = usize::from(n <= 3);
        assert_eq!(alone.events().len(), more);
    }
    assert!(alone.server.wants_input() && alone.server.is_open());
    assert_eq!(alone.written().len(), 5 * 4);
}
