//! Padded payloads: what a broker sees of their length, and that nobody but who holds the key has a say.

mod world;

use smqtt_envelope::{Padding, Refusal, SealerConfig, Sequence, Signing};
use smqtt_format::SealedMessage;
use world::{POLICY, Reader, World, nothing, opened, refused};

const TOPIC: &str = "plant/7";

fn padded(classes: &str) -> SealerConfig {
    SealerConfig {
        padding: classes.parse().expect("classes"),
        ..SealerConfig::default()
    }
}

#[test]
fn payloads_of_one_class_have_one_length_on_the_wire() {
    let mut world = World::new();
    let device = world.device("d");
    for (classes, lengths, wire) in [
        ("pow2", 0..=15, 16),
        ("pow2", 16..=31, 32),
        ("64,256", 0..=63, 64),
        ("64,256", 64..=255, 256),
        ("64,256", 256..=511, 512),
    ] {
        let mut sealer = world.sealer_with(&device, POLICY, padded(classes));
        let mut opener = world.opener();
        for length in lengths {
            // Zeros at the end are the payload's own.
            let payload = vec![0; length];
            let sealed = world.seal(&mut sealer, TOPIC, &payload);
            if let Some(frame) = &sealed.announce {
                nothing(opener.announce(frame));
            }
            let seen = SealedMessage::parse(&sealed.message).expect("a message");
            assert_eq!(seen.payload_len(), wire, "{classes}, {length}");
            assert_eq!(opened(opener.take(TOPIC, &sealed.message)).payload, payload);
        }
    }
}

#[test]
fn padding_and_signatures_go_together_and_inline() {
    let mut world = World::new();
    let device = world.device("d");
    let config = SealerConfig {
        signing: Signing::Each,
        ..padded("pow2")
    };
    let mut sealer = world.sealer_with(&device, POLICY, config);
    let mut opener = world.opener();
    let sealed = world.seal_inline(&mut sealer, TOPIC, b"21.5");
    assert_eq!(sealed.message.capacity(), sealed.message.len());
    let message = opened(opener.take(TOPIC, &sealed.message));
    assert_eq!((&message.payload[..], message.signed), (&b"21.5"[..], true));
}

#[test]
fn what_is_not_padded_as_the_frame_says_is_refused_and_uses_up_no_number() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer_with(&device, POLICY, padded("pow2"));
    let first = world.seal(&mut sealer, TOPIC, b"on");
    let frame = first.announce.clone().expect("the first message");
    let insider = world.insider(&frame.frame, TOPIC);
    let mut opener = world.opener();
    nothing(opener.announce(&frame));
    for plaintext in [&b""[..], b"on", &[0; 16], b"on\x80\x01"] {
        let sealed = insider.seal(Sequence::FIRST, plaintext, None);
        assert_eq!(refused(opener.take(TOPIC, &sealed)), Refusal::BadPadding);
    }
    assert_eq!(opened(opener.take(TOPIC, &first.message)).payload, b"on");
    assert_eq!(opener.counters().refused.get("bad-padding"), 4);
}

#[test]
fn padding_off_is_what_it_was() {
    let mut world = World::new();
    let device = world.device("d");
    let mut plain = world.sealer(&device);
    let sealed = world.seal(&mut plain, TOPIC, b"21.5");
    assert_eq!(sealed.message.len(), 4 + 37);
    assert_eq!(Padding::default(), Padding::Off);
}
