//! CONNECT: who is let in, and what the CONNACK says.

mod harness;

use harness::{Broker, Client, Options};
use smqtt_proto::packet::Credential;
use smqtt_proto::{Packet, ProtocolVersion, QoS, ReasonCode};

#[test]
fn both_versions_are_let_in() {
    let broker = Broker::open();
    for options in [Options::v3("three"), Options::v5("five")] {
        let (mut client, connack) = Client::connect_with_ack(broker.port(), options);
        assert!(!connack.session_present);
        client.settle();
        client.disconnect();
    }
}

#[test]
fn mqtt5_clients_are_told_the_limits() {
    let broker = Broker::configured(
        "[limits]\nmax_packet_bytes = 5000\n[session]\nreceive_maximum = 7\ntopic_alias_maximum = 3\nmax_expiry_seconds = 100\nmax_keep_alive_seconds = 60\n",
    );
    let options = Options::v5("c")
        .keep_alive(120)
        .properties(|p| p.session_expiry_interval = Some(1_000));
    let (_client, connack) = Client::connect_with_ack(broker.port(), options);
    let p = connack.properties;
    assert_eq!(p.maximum_packet_size, Some(5000));
    assert_eq!(p.receive_maximum, Some(7));
    assert_eq!(p.topic_alias_maximum, Some(3));
    assert_eq!(p.session_expiry_interval, Some(100));
    assert_eq!(p.server_keep_alive, Some(60));
    assert_eq!(p.assigned_client_identifier, None);
    assert_eq!(p.shared_subscription_available, None);
}

#[test]
fn a_client_without_id_gets_one_if_it_keeps_no_session() {
    let broker = Broker::open();
    let (_a, first) = Client::connect_with_ack(broker.port(), Options::v5(""));
    let (_b, second) = Client::connect_with_ack(broker.port(), Options::v5("").persistent());
    let (first, second) = (
        first.properties.assigned_client_identifier,
        second.properties.assigned_client_identifier,
    );
    assert!(first.is_some() && second.is_some() && first != second);
    Client::connect(broker.port(), Options::v3("")).settle();
    // [MQTT-3.1.3-8] of 3.1.1
    let mut refused = Client::raw(broker.port(), ProtocolVersion::V3_1_1);
    let connack = refused.handshake(Options::v3("").persistent());
    assert_eq!(connack.reason, ReasonCode::ClientIdentifierNotValid);
    refused.expect_closed();
}

#[test]
fn extended_authentication_is_refused() {
    let broker = Broker::open();
    let mut client = Client::raw(broker.port(), ProtocolVersion::V5);
    let options = Options::v5("c").properties(|p| {
        p.authentication_method = Some(harness::text("SCRAM-SHA-256"));
        p.authentication_data = Some(Credential::new(&b"x"[..]));
    });
    assert_eq!(
        client.handshake(options).reason,
        ReasonCode::BadAuthenticationMethod
    );
    client.expect_closed();
}

#[test]
fn unknown_versions_are_told_so() {
    let broker = Broker::open();
    for (level, answer) in [(3, &[0x20, 2, 0, 1][..]), (6, &[0x20, 3, 0, 0x84, 0])] {
        let mut client = Client::raw(broker.port(), ProtocolVersion::V5);
        client.send_bytes(&[
            0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 60, 0, 1, b'c',
        ]);
        assert_eq!(client.read_to_end(), answer, "level {level}");
    }
}

#[test]
fn what_follows_a_connect_without_waiting_is_handled_in_order() {
    let broker = Broker::open();
    // Several, because some are handed to another worker between their packets.
    for i in 0..20 {
        let mut client = Client::raw(broker.port(), ProtocolVersion::V3_1_1);
        let mut bytes = bytes::BytesMut::new();
        let connect = Packet::Connect(Box::new(Options::v3(&format!("c{i}")).0));
        let mut publish = harness::publish("t", QoS::AtLeastOnce, "x");
        publish.packet_id = smqtt_proto::PacketId::new(9);
        for packet in [
            connect,
            Packet::PingReq,
            Packet::Publish(publish),
            Packet::PingReq,
        ] {
            smqtt_proto::encode(&packet, ProtocolVersion::V3_1_1, &mut bytes).expect("encodable");
        }
        client.send_bytes(&bytes);
        assert!(matches!(client.receive(), Packet::ConnAck(_)));
        assert_eq!(client.receive(), Packet::PingResp);
        assert!(matches!(client.receive(), Packet::PubAck(ack) if ack.packet_id.get() == 9));
        assert_eq!(client.receive(), Packet::PingResp);
    }
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let broker = Broker::configured("[limits]\nconnect_timeout_seconds = 1\n");
    let mut silent = Client::raw(broker.port(), ProtocolVersion::V5);
    let mut half = Client::raw(broker.port(), ProtocolVersion::V5);
    half.send_bytes(&[0x10, 13, 0, 4]);
    silent.expect_closed();
    half.expect_closed();
}

#[test]
fn no_more_than_the_allowed_connections_are_open() {
    let broker = Broker::configured("[limits]\nconnections = 2\n");
    let first = Client::connect(broker.port(), Options::v5("a"));
    let _second = Client::connect(broker.port(), Options::v5("b"));
    Client::raw(broker.port(), ProtocolVersion::V5).expect_closed();
    first.disconnect();
    // The place is free as soon as the broker has noticed.
    harness::wait_for(|| {
        let mut third = Client::raw(broker.port(), ProtocolVersion::V5);
        third
            .try_send(Packet::Connect(Box::new(Options::v5("c").0)))
            .then(|| third.try_receive())?
    });
}

#[test]
fn a_server_that_has_moved_says_where_to() {
    let broker = Broker::configured(
        "[protocol]\nserver_reference = \"other.example:8883\"\nserver_moved = true\n",
    );
    let mut five = Client::raw(broker.port(), ProtocolVersion::V5);
    let connack = five.handshake(Options::v5("five"));
    assert_eq!(connack.reason, ReasonCode::ServerMoved);
    let reference = connack.properties.server_reference.expect("a reference");
    assert_eq!(reference.as_str(), "other.example:8883");
    five.expect_closed();
    let mut three = Client::raw(broker.port(), ProtocolVersion::V3_1_1);
    let connack = three.handshake(Options::v3("three"));
    assert_eq!(connack.reason, ReasonCode::ServerUnavailable);
    three.expect_closed();
}

#[test]
fn response_information_is_for_who_asks() {
    let broker = Broker::configured("[protocol]\nresponse_information = \"response/\"\n");
    let asking = |id: &str, ask| {
        let options = Options::v5(id).properties(|p| p.request_response_information = ask);
        let (_, connack) = Client::connect_with_ack(broker.port(), options);
        let information = connack.properties.response_information;
        information.map(|text| text.as_str().to_owned())
    };
    assert_eq!(asking("c/1", Some(true)).as_deref(), Some("response/c/1"));
    // [MQTT-3.1.2-28]
    assert_eq!(asking("c", Some(false)), None);
    assert_eq!(asking("c", None), None);
    // No topic can be made of this one.
    assert_eq!(asking("c+", Some(true)), None);
}
