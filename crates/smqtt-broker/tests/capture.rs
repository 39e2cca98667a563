//! The capture holds what the broker saw after TLS, both directions, and nobody else may read it.

mod harness;

use std::os::unix::fs::PermissionsExt;

use harness::{Broker, Options, TestPki, connect_tls, utf8};
use smqtt_proto::{ProtocolVersion, QoS, ReasonCode};

fn count(haystack: &[u8], needle: &[u8]) -> usize {
    haystack
        .windows(needle.len())
        .filter(|window| *window == needle)
        .count()
}

#[test]
fn both_directions_are_captured_after_tls() {
    let mut pki = TestPki::new(1);
    let file = pki.path("capture");
    let arguments = pki.arguments();
    let mut args: Vec<&str> = arguments.iter().map(String::as_str).collect();
    args.extend(["--capture", utf8(&file)]);
    let mut broker = Broker::start(&args);
    let mut client = connect_tls(broker.port(), &pki.device("d"), ProtocolVersion::V5);
    assert_eq!(
        client.handshake(Options::v5("c")).reason,
        ReasonCode::Success
    );
    client.subscribe("t", QoS::AtMostOnce);
    client.publish("t", QoS::AtMostOnce, "a payload to be found");
    client.publish("t", QoS::AtMostOnce, &"large".repeat(1_000));
    assert_eq!(client.receive_text(), "a payload to be found");
    assert_eq!(client.receive_text(), "large".repeat(1_000));
    client.disconnect();
    broker.signal("TERM");
    assert!(broker.wait().success());
    let captured = std::fs::read(&file).expect("the capture");
    assert_eq!(
        count(&captured, b"a payload to be found"),
        2,
        "once in, once out"
    );
    assert_eq!(count(&captured, b"large"), 2_000);
    let mode = std::fs::metadata(&file)
        .expect("metadata")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_capture_is_announced_and_bounded() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (file, config) = (dir.path().join("capture"), dir.path().join("broker.toml"));
    std::fs::write(&config, "[capture]\nmax_bytes = 100\n").expect("write");
    let mut broker = Broker::open_with(&["--config", utf8(&config), "--capture", utf8(&file)]);
    let mut client = harness::Client::connect(broker.port(), Options::v5("c"));
    client.publish("t", QoS::AtLeastOnce, &"x".repeat(500));
    broker.wait_for_line("capture stopped");
    client.settle();
    assert_eq!(std::fs::metadata(&file).expect("the capture").len(), 100);
}
