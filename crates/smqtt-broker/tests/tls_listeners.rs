//! TLS 1.3 listeners, and client certificates as identities.

mod harness;

use harness::{Broker, Client, Options, TestPki, connect_tls};
use smqtt_proto::{ProtocolVersion, QoS, ReasonCode};

fn broker(pki: &TestPki, more: &[&str]) -> Broker {
    let arguments = pki.arguments();
    let mut all: Vec<&str> = arguments.iter().map(String::as_str).collect();
    all.extend(["--workers", "4"]);
    all.extend(more);
    Broker::start(&all)
}

#[test]
fn devices_talk_over_tls() {
    let mut pki = TestPki::new(1);
    let broker = broker(&pki, &[]);
    let (sensor, reader) = (pki.device("sensor-1"), pki.device("reader-1"));
    for version in [ProtocolVersion::V3_1_1, ProtocolVersion::V5] {
        let mut subscriber = connect_tls(broker.port(), &reader, version);
        assert_eq!(
            subscriber.handshake(Options::new(version, "r")).reason,
            ReasonCode::Success
        );
        subscriber.subscribe("t", QoS::ExactlyOnce);
        let mut publisher = connect_tls(broker.port(), &sensor, version);
        assert_eq!(
            publisher.handshake(Options::new(version, "s")).reason,
            ReasonCode::Success
        );
        for size in [1, 20_000, 500_000] {
            let payload = "x".repeat(size);
            publisher.publish("t", QoS::ExactlyOnce, &payload);
            assert!(subscriber.receive_text() == payload);
        }
        subscriber.settle();
    }
}

#[test]
fn who_shows_no_certificate_of_the_authority_gets_no_further_than_the_handshake() {
    let pki = TestPki::new(2);
    let mut other = TestPki::new(3);
    let broker = broker(&pki, &[]);
    let mut stranger = other.device("sensor-1");
    // A stranger that trusts this broker, so that it is the broker who refuses.
    let trusting = pki.anonymous();
    let resolver = std::mem::replace(
        &mut stranger.client_auth_cert_resolver,
        trusting.client_auth_cert_resolver.clone(),
    );
    let mut stranger = trusting.clone();
    stranger.client_auth_cert_resolver = resolver;
    for config in [&trusting, &stranger] {
        let mut client = connect_tls(broker.port(), config, ProtocolVersion::V5);
        assert!(client.try_handshake(Options::v5("c")).is_none());
    }
}

#[test]
fn anonymous_clients_are_admitted_only_when_that_is_said() {
    let mut pki = TestPki::new(4);
    let broker = broker(&pki, &["--allow-anonymous"]);
    for config in [pki.anonymous(), pki.device("sensor-1")] {
        let mut client = connect_tls(broker.port(), &config, ProtocolVersion::V5);
        assert_eq!(
            client.handshake(Options::v5("c")).reason,
            ReasonCode::Success
        );
        client.settle();
        client.disconnect();
    }
}

#[test]
fn a_client_id_is_taken_over_by_its_own_device_alone() {
    let mut pki = TestPki::new(5);
    let broker = broker(&pki, &["--allow-anonymous"]);
    let (owner, thief) = (pki.device("owner"), pki.device("thief"));
    let connect = |config| {
        let mut client = connect_tls(broker.port(), config, ProtocolVersion::V5);
        let connack = client.handshake(Options::v5("c").persistent());
        (client, connack.reason)
    };
    let (mut first, reason) = connect(&owner);
    assert_eq!(reason, ReasonCode::Success);
    let anonymous = pki.anonymous();
    for other in [&thief, &anonymous] {
        let (mut refused, reason) = connect(other);
        assert_eq!(reason, ReasonCode::NotAuthorized);
        refused.expect_closed();
        first.settle();
    }
    let (second, reason) = connect(&owner);
    assert_eq!(reason, ReasonCode::Success);
    first.expect_disconnect(ReasonCode::SessionTakenOver);
    // The session still belongs to the owner when nobody is connected.
    second.disconnect();
    assert_eq!(connect(&thief).1, ReasonCode::NotAuthorized);
}

#[test]
fn plain_bytes_on_a_tls_listener_are_refused() {
    let pki = TestPki::new(6);
    let broker = broker(&pki, &[]);
    let mut client = Client::raw(broker.port(), ProtocolVersion::V5);
    client.send_bytes(&[
        0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, 1, b'c',
    ]);
    let answer = client.read_to_end();
    assert!(!answer.starts_with(&[0x20]), "{answer:?}");
}

#[test]
fn older_tls_is_refused() {
    let mut pki = TestPki::new(7);
    let broker = broker(&pki, &[]);
    let device = pki.device("sensor-1");
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut old = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("TLS 1.2")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    old.client_auth_cert_resolver = device.client_auth_cert_resolver.clone();
    let mut client = connect_tls(broker.port(), &old, ProtocolVersion::V5);
    let error = client.handshake_error(Options::v5("c"));
    assert!(error.contains("ProtocolVersion"), "{error}");
}

#[test]
fn several_listeners_serve_one_broker() {
    let mut pki = TestPki::new(8);
    let broker = broker(
        &pki,
        &["--listen", "mqtt://127.0.0.1:0", "--allow-anonymous"],
    );
    let mut plain = Client::connect(broker.ports()[1], Options::v3("plain"));
    plain.subscribe("t", QoS::AtMostOnce);
    let mut device = connect_tls(broker.ports()[0], &pki.device("d"), ProtocolVersion::V5);
    assert_eq!(
        device.handshake(Options::v5("d")).reason,
        ReasonCode::Success
    );
    device.publish("t", QoS::AtMostOnce, "x");
    assert_eq!(plain.receive_text(), "x");
}
