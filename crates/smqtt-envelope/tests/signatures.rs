//! A publisher that signs each message: what no other reader of the policy can make in its name.

mod world;

use smqtt_envelope::{Event, OpenerConfig, Refusal, SealerConfig, Sequence, Signing};
use world::{POLICY, Reader, TECHNICIAN, World, nothing, opened, refused, stripped};

const TOPIC: &str = "plant/7";

fn each() -> SealerConfig {
    SealerConfig {
        signing: Signing::Each,
        ..SealerConfig::default()
    }
}

fn demanding() -> OpenerConfig {
    OpenerConfig {
        require_signature: true,
        ..OpenerConfig::default()
    }
}

fn number(number: u32) -> Sequence {
    Sequence::new(number).expect("not 0")
}

#[test]
fn a_message_that_its_publisher_signed_opens_and_says_so() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer_with(&device, POLICY, each());
    let mut opener = world.opener_with(TECHNICIAN, demanding());
    for n in 1..=3u8 {
        let sealed = world.seal_inline(&mut sealer, TOPIC, &[n]);
        let message = opened(opener.take(TOPIC, &sealed.message));
        assert!(message.signed);
        assert_eq!(message.payload, [n]);
    }
    let sealed = world.seal(&mut sealer, TOPIC, b"21.5");
    assert_eq!(
        sealed.message.len(),
        4 + 37 + 67,
        "67 bytes for a signature"
    );
    assert_eq!(sealer.messages_signed(), 4);
    assert_eq!(opener.counters().message_verifications, 3);
}

#[test]
fn without_signing_each_no_message_costs_a_signature() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener();
    for _ in 0..50 {
        let sealed = world.seal_inline(&mut sealer, TOPIC, b"x");
        assert!(!opened(opener.take(TOPIC, &sealed.message)).signed);
    }
    let counters = opener.counters();
    assert_eq!((sealer.frames_made(), sealer.messages_signed()), (1, 0));
    assert_eq!((counters.verifications, counters.decapsulations), (1, 1));
    assert_eq!(counters.message_verifications, 0);
}

#[test]
fn a_reader_of_the_same_policy_can_not_speak_for_the_publisher() {
    let mut world = World::new();
    let (device, colleague) = (world.device("d"), world.device("colleague"));
    let mut sealer = world.sealer_with(&device, POLICY, each());
    let first = world.seal(&mut sealer, TOPIC, b"1");
    let frame = first.announce.clone().expect("the first message");
    let insider = world.insider(&frame.frame, TOPIC);
    let mut opener = world.opener();
    nothing(opener.announce(&frame));
    assert!(opened(opener.take(TOPIC, &first.message)).signed);

    let own = insider.seal(number(2), b"open the gate", Some(&colleague));
    assert_eq!(refused(opener.take(TOPIC, &own)), Refusal::Forged);
    let none = insider.seal(number(2), b"open the gate", None);
    assert_eq!(refused(opener.take(TOPIC, &none)), Refusal::Unsigned);
    // Nor by another's signature: of an earlier message, of another place, of another number.
    let signature = smqtt_format::SealedMessage::parse(&first.message)
        .expect("a message")
        .signature()
        .copied()
        .expect("signed");
    let mut borrowed = insider.seal(number(2), b"1", Some(&colleague));
    let at = borrowed.len() - 1 - 16 - 1 - 64;
    borrowed[at..at + 64].copy_from_slice(&signature);
    assert_eq!(refused(opener.take(TOPIC, &borrowed)), Refusal::Forged);
    // What was forged has used up no number: the publisher's own second message opens.
    let second = world.seal(&mut sealer, TOPIC, b"2");
    assert_eq!(opened(opener.take(TOPIC, &second.message)).payload, b"2");
}

#[test]
fn a_signature_neither_comes_off_nor_on() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer_with(&device, POLICY, each());
    let first = world.seal(&mut sealer, TOPIC, b"1");
    let mut opener = world.opener();
    nothing(opener.announce(&first.announce.clone().expect("the first message")));
    let without = stripped(&first.message);
    assert_eq!(refused(opener.take(TOPIC, &without)), Refusal::Unsigned);
    for bit in 0..8 {
        let mut altered = first.message.clone();
        let at = altered.len() - 1 - 16 - 1 - 1;
        altered[at] ^= 1 << bit;
        assert_eq!(refused(opener.take(TOPIC, &altered)), Refusal::Forged);
    }
    assert!(opened(opener.take(TOPIC, &first.message)).signed);

    // A frame whose messages are not signed has none that are.
    let mut plain = world.sealer(&device);
    let message = world.seal(&mut plain, TOPIC, b"1");
    let frame = message.announce.clone().expect("the first message");
    nothing(opener.announce(&frame));
    let insider = world.insider(&frame.frame, TOPIC);
    let signed = insider.seal(number(1), b"1", Some(&device));
    assert_eq!(refused(opener.take(TOPIC, &signed)), Refusal::Altered);
    assert!(!opened(opener.take(TOPIC, &message.message)).signed);
}

#[test]
fn a_reader_may_demand_that_each_message_is_signed() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let mut opener = world.opener_with(TECHNICIAN, demanding());
    let sealed = world.seal_inline(&mut sealer, TOPIC, b"x");
    assert_eq!(
        refused(opener.take(TOPIC, &sealed.message)),
        Refusal::Unsigned
    );
    assert_eq!(opener.counters().refused.get("unsigned"), 1);
}

#[test]
fn a_signed_message_waits_for_a_renewal_like_any_other() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer_with(&device, POLICY, each());
    let next = smqtt_policy::Epoch::new(world::EPOCH.get() + 1);
    let _ = sealer.set_epoch(next).expect("later");
    let mut opener = world.opener_with(TECHNICIAN, demanding());
    let sealed = world.seal_inline(&mut sealer, TOPIC, b"x");
    let events = opener.take(TOPIC, &sealed.message);
    assert!(
        matches!(&events[..], [Event::EpochAhead { .. }]),
        "{events:?}"
    );
    let key = world.attribute_key(TECHNICIAN, next);
    opener.add_key(key, world::at(world::NOW)).expect("fits");
    assert!(opened(opener.drain()).signed);
}
