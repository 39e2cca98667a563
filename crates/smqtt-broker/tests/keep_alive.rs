//! Keep-alive: a client that is silent for one and a half intervals is gone.

mod harness;

use std::time::{Duration, Instant};

use harness::{Broker, Client, Options};
use smqtt_proto::{ProtocolVersion, ReasonCode};

#[test]
fn a_silent_client_is_disconnected_and_a_pinging_one_is_not() {
    let broker = Broker::open();
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let mut silent =
            Client::connect(broker.port(), Options::new(version, "silent").keep_alive(1));
        let mut pinging = Client::connect(
            broker.port(),
            Options::new(version, "pinging").keep_alive(1),
        );
        let mut free = Client::connect(broker.port(), Options::new(version, "free").keep_alive(0));
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(2_000) {
            pinging.settle();
            std::thread::sleep(Duration::from_millis(100));
        }
        silent.expect_disconnect(ReasonCode::KeepAliveTimeout);
        pinging.settle();
        free.settle();
    }
}

#[test]
fn the_servers_keep_alive_takes_the_place_of_the_clients() {
    let broker = Broker::configured("[session]\nmax_keep_alive_seconds = 1\n");
    let (mut client, connack) =
        Client::connect_with_ack(broker.port(), Options::v5("c").keep_alive(0));
    assert_eq!(connack.properties.server_keep_alive, Some(1));
    client.expect_disconnect(ReasonCode::KeepAliveTimeout);
}
