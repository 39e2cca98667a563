//! Who is silent for too long is left.

use std::time::Duration;

use smqtt_proto::packet::ConnAckProperties;
use smqtt_proto::{Closed, ProtocolVersion, QoS, client, server};

use crate::pair::*;

const SECOND: Duration = Duration::from_secs(1);

fn with_keep_alive(version: ProtocolVersion, seconds: u16) -> client::Options {
    let mut options = options(version);
    options.connect.keep_alive = seconds;
    options
}

/// [MQTT-3.1.2-22]; [MQTT-3.1.2-24] of 3.1.1
#[test]
fn a_silent_client_is_disconnected_after_one_and_a_half_keep_alives() {
    for version in VERSIONS {
        let mut alone = Alone::open_as(
            with_keep_alive(version, 10).connect,
            server::Config::default(),
        );
        let deadline = alone.now + 15 * SECOND;
        assert_eq!(alone.server.poll_timeout(), Some(deadline));
        alone
            .server
            .handle_timeout(deadline - Duration::from_millis(1));
        assert!(alone.events().is_empty());
        alone.server.handle_timeout(deadline);
        assert_eq!(alone.events(), [server::Event::Closed(Closed::KeepAlive)]);
        let expected: &[u8] = if version.is_v5() {
            b"\xE0\x01\x8D"
        } else {
            b""
        };
        assert_eq!(alone.written(), expected);
    }
}

#[test]
fn every_whole_packet_counts_and_parts_do_not() {
    let connect = with_keep_alive(ProtocolVersion::V5, 10).connect;
    let mut alone = Alone::open_as(connect, server::Config::default());
    let start = alone.now;
    alone.now = start + 10 * SECOND;
    alone.feed(b"\x30\x05\x00\x01t\x00x");
    assert_eq!(alone.server.poll_timeout(), Some(start + 25 * SECOND));
    alone.now = start + 20 * SECOND;
    alone.feed(b"\x30\x05\x00");
    assert_eq!(alone.server.poll_timeout(), Some(start + 25 * SECOND));
    alone.feed(b"\x01t\x00x");
    assert_eq!(alone.server.poll_timeout(), Some(start + 35 * SECOND));
}

/// MQTT 5.0 §3.1.2.10: 0 turns it off.
#[test]
fn without_a_keep_alive_nobody_waits_for_anything() {
    for version in VERSIONS {
        let mut pair = Pair::connected(version);
        assert_eq!(
            (pair.client.poll_timeout(), pair.server.poll_timeout()),
            (None, None)
        );
        pair.advance(Duration::from_secs(1_000_000));
        assert!(pair.client.is_open() && pair.server.is_open());
    }
}

/// [MQTT-3.1.2-20], [MQTT-3.12.4-1]
#[test]
fn a_client_with_nothing_to_say_pings() {
    for version in VERSIONS {
        let mut pair =
            Pair::connected_with(with_keep_alive(version, 10), server::Config::default());
        for _ in 0..5 {
            pair.advance(10 * SECOND);
        }
        assert_eq!(pair.names_to_server(), ["PINGREQ"; 5]);
        assert_eq!(pair.names_to_client(), ["PINGRESP"; 5]);
        assert!(pair.client_events.is_empty() && pair.server_events.is_empty());
        // Who has something to say need not ping.
        pair.forget();
        for _ in 0..5 {
            pair.advance(9 * SECOND);
            pair.client_publish("x", QoS::AtMostOnce);
            pair.run();
        }
        assert_eq!(pair.names_to_server(), ["PUBLISH"; 5]);
    }
}

/// [MQTT-3.2.2-21]
#[test]
fn the_server_may_set_the_keep_alive_in_5_0() {
    for (version, expected) in [(ProtocolVersion::V3_1_1, 10), (ProtocolVersion::V5, 4)] {
        let mut pair = Pair::new(with_keep_alive(version, 10), server::Config::default());
        pair.connack = ConnAckProperties {
            server_keep_alive: Some(4),
            ..ConnAckProperties::default()
        };
        pair.run();
        assert_eq!(
            pair.client.poll_timeout(),
            Some(pair.now + expected * SECOND)
        );
        assert_eq!(
            pair.server.poll_timeout(),
            Some(pair.now + expected * SECOND * 3 / 2)
        );
    }
}

#[test]
fn a_server_that_does_not_answer_a_ping_is_left() {
    for version in VERSIONS {
        let mut pair =
            Pair::connected_with(with_keep_alive(version, 60), server::Config::default());
        let pinged = pair.now + 60 * SECOND;
        pair.client.handle_timeout(pinged);
        // Other packets show that it lives: then the answer has longer.
        let sign_of_life = pinged + 5 * SECOND;
        pair.client
            .handle_input(sign_of_life, &mut b"\x40\x02\x00\x09"[..].into());
        pair.drain_client();
        assert_eq!(pair.client.poll_timeout(), Some(sign_of_life + 10 * SECOND));
        pair.client.handle_timeout(sign_of_life + 10 * SECOND);
        pair.drain_client();
        assert_eq!(
            pair.client_events,
            [client::Event::Closed(Closed::KeepAlive)]
        );
    }
}
