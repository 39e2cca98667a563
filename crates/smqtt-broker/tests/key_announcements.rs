//! Below `smqtt/keys/` only key frames stand, and only the device that has announced one withdraws it.

mod harness;

use harness::{Broker, Client, Options, TestPki, connect_tls, publish};
use smqtt_format::{
    Access, KeyFrame, KeyFrameContent, SignatureAlgorithm, UnsignedKeyFrame, announce,
};
use smqtt_proto::packet::Publish;
use smqtt_proto::{QoS, ReasonCode};

/// A key frame that `device` has signed for `topic`, with where it is announced. What would be the
/// encrypted key is nothing that opens anything: the broker cannot tell.
fn key_frame(pki: &mut TestPki, device: &str, topic: &str) -> (String, Vec<u8>) {
    let (chain, key) = pki.identity(device);
    let content = KeyFrameContent {
        suite: 1,
        access: Access::Policy("role = reader"),
        epoch: 1,
        ciphertext: &[7; 100],
        created: 1_700_000_000,
        lifetime: 3600,
        confirmation: &[9; _],
        topic,
        rules: smqtt_format::MessageRules {
            signed: false,
            padded: false,
        },
    };
    let chain: Vec<&[u8]> = chain.iter().map(AsRef::as_ref).collect();
    let frame =
        UnsignedKeyFrame::new(SignatureAlgorithm::Es256, &chain, &content).expect("a frame");
    let signature = key.sign(&frame.to_be_signed());
    let frame = frame.finish(&signature).expect("a frame");
    let kid = KeyFrame::parse(&frame).expect("well-formed").kid();
    (announce::topic(topic, &kid), frame)
}

fn retained(topic: &str, payload: &[u8]) -> Publish {
    Publish {
        payload: payload.to_vec().into(),
        retain: true,
        ..publish(topic, QoS::AtLeastOnce, "")
    }
}

fn both_versions(check: impl Fn(fn(&str) -> Options)) {
    check(Options::v5);
    check(Options::v3);
}

fn connect(port: u16, pki: &mut TestPki, device: &str, options: Options) -> Client {
    let mut client = connect_tls(port, &pki.device(device), options.0.version);
    assert_eq!(client.handshake(options).reason, ReasonCode::Success);
    client
}

/// Whether something is retained at `topic`, by asking as the device `reader`.
fn stands(port: u16, pki: &mut TestPki, topic: &str) -> bool {
    let mut reader = connect(port, pki, "reader", Options::v5("reader"));
    reader.subscribe(topic, QoS::AtMostOnce);
    reader.send(smqtt_proto::Packet::PingReq);
    match reader.receive() {
        smqtt_proto::Packet::Publish(publish) => {
            assert!(publish.retain && !publish.payload.is_empty());
            true
        }
        smqtt_proto::Packet::PingResp => false,
        other => panic!("expected PUBLISH or PINGRESP, got {other:?}"),
    }
}

#[test]
fn a_device_withdraws_its_own_announcement_and_nobody_elses() {
    let pki = std::cell::RefCell::new(TestPki::new(41));
    let mut arguments = pki.borrow().arguments();
    arguments.extend(["--workers".into(), "4".into(), "--allow-anonymous".into()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let broker = Broker::start(&arguments);
    let port = broker.port();
    both_versions(|options| {
        let pki = &mut *pki.borrow_mut();
        let (topic, frame) = key_frame(pki, "d1", "plant/t");
        let mut owner = connect(port, pki, "d1", options("d1"));
        assert!(!owner.publish_packet(retained(&topic, &frame)).is_error());
        assert!(stands(port, pki, &topic));

        let mut other = connect(port, pki, "d2", options("d2"));
        let mut anonymous = connect_tls(port, &pki.anonymous(), options("a").0.version);
        anonymous.handshake(options("a"));
        let (_, of_another) = key_frame(pki, "d2", "plant/t");
        for (payload, what) in [
            (&b""[..], "an empty message"),
            (b"forged", "no key frame"),
            (&of_another, "a frame with another key id"),
        ] {
            for client in [&mut other, &mut anonymous] {
                let reason = client.publish_packet(retained(&topic, payload));
                // MQTT 3.1.1 has no way to say no.
                assert!(
                    reason == ReasonCode::NotAuthorized
                        || options("").0.version != smqtt_proto::ProtocolVersion::V5,
                    "{what}: {reason:?}"
                );
                assert!(stands(port, pki, &topic), "{what} has taken its place");
            }
        }
        // Nor can the frame be announced in the name of another.
        assert!(!owner.publish_packet(retained(&topic, b"")).is_error());
        assert!(!stands(port, pki, &topic), "its own device withdraws it");
        other.publish_packet(retained(&topic, &frame));
        assert!(
            !stands(port, pki, &topic),
            "another device has announced it"
        );
    });
}
