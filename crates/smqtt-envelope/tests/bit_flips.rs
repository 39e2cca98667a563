//! Every bit of every byte, flipped: nothing that was altered is opened.

mod world;

use std::collections::BTreeSet;

use smqtt_envelope::{Event, Opener, Refusal};
use world::{NOW, Reader, World, at, nothing, opened};

/// Everything that comes of a publish in the end, the time for waiting over.
fn outcome(opener: &mut Opener, topic: &str, payload: &[u8]) -> Vec<Refusal> {
    opener.handle_publish(topic, payload, false, at(NOW));
    opener.handle_timeout(at(NOW + 3600));
    opener
        .drain()
        .into_iter()
        .map(|event| match event {
            Event::Refused { reason, .. } | Event::KeyRefused { reason, .. } => reason,
            other => panic!("an altered publish led to {other:?}"),
        })
        .collect()
}

fn codes(reasons: &[Refusal]) -> Vec<&'static str> {
    reasons.iter().map(Refusal::code).collect()
}

#[test]
fn in_a_sealed_message() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"21.5");
    let mut opener = world.opener();
    nothing(opener.announce(&announcement));
    let mut seen = BTreeSet::new();
    for byte in 0..message.len() {
        for bit in 0..8 {
            let mut altered = message.clone();
            altered[byte] ^= 1 << bit;
            let reasons = outcome(&mut opener, "a", &altered);
            let expected: &[&str] = match byte {
                // Tag and array head: no envelope any more. The rest of the structure is checked before the keys.
                0..=1 => &["plaintext", "malformed"],
                2..=8 | 17..=18 => &["malformed"],
                // The key id names a frame that never comes.
                9..=16 => &["unknown-key"],
                // The sequence number: 0 is none, every other has another nonce.
                19 => &["malformed", "altered"],
                20 => &["malformed"],
                _ => &["altered"],
            };
            let codes = codes(&reasons);
            assert!(
                matches!(codes[..], [code] if expected.contains(&code)),
                "byte {byte}, bit {bit}: {codes:?}"
            );
            seen.extend(codes);
        }
    }
    assert_eq!(
        seen,
        BTreeSet::from(["altered", "malformed", "plaintext", "unknown-key"])
    );
    // The message itself is still as good as new.
    opened(opener.take("a", &message));
}

#[test]
fn in_an_announced_frame_that_keeps_its_name() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"21.5");
    let mut opener = world.opener();
    for byte in 0..announcement.frame.len() {
        let mut altered = announcement.frame.to_vec();
        altered[byte] ^= 1 << (byte % 8);
        let codes = codes(&outcome(&mut opener, &announcement.topic, &altered));
        assert!(
            matches!(codes[..], ["kid-mismatch" | "malformed" | "plaintext"]),
            "byte {byte}: {codes:?}"
        );
    }
    assert_eq!(opener.counters().verifications, 0);
    nothing(opener.announce(&announcement));
    opened(opener.take("a", &message));
}

#[test]
fn in_an_announced_frame_that_takes_its_new_name() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"21.5");
    let mut opener = world.opener();
    let mut seen = BTreeSet::new();
    for byte in 0..announcement.frame.len() {
        let mut altered = announcement.frame.to_vec();
        altered[byte] ^= 1 << (byte % 8);
        let name = smqtt_format::announce::topic("a", &smqtt_envelope::KeyId::of(&altered));
        let codes = codes(&outcome(&mut opener, &name, &altered));
        assert!(
            matches!(
                codes[..],
                ["plaintext"
                    | "malformed"
                    | "unsupported-suite"
                    | "untrusted-publisher"
                    | "bad-signature"]
            ),
            "byte {byte}: {codes:?}"
        );
        seen.extend(codes);
    }
    assert!(seen.contains("bad-signature") && seen.contains("untrusted-publisher"));
    // No altered frame has cost a pairing.
    assert_eq!(opener.counters().decapsulations, 0);
    nothing(opener.announce(&announcement));
    opened(opener.take("a", &message));
}

#[test]
fn in_an_inline_message_whether_or_not_its_frame_is_known() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let first = world.seal(&mut sealer, "a", b"1");
    let inline = world.seal_inline(&mut sealer, "a", b"2").message;
    let mut knows = world.opener();
    nothing(knows.announce(&first.announce.expect("the first message")));
    opened(knows.take("a", &first.message));
    let mut knows_not = world.opener();
    for opener in [&mut knows, &mut knows_not] {
        for byte in 0..inline.len() {
            let mut altered = inline.clone();
            altered[byte] ^= 1 << (byte % 8);
            let reasons = outcome(opener, "a", &altered);
            assert!(!reasons.is_empty(), "byte {byte} was not refused");
        }
        opened(opener.take("a", &inline));
    }
}
