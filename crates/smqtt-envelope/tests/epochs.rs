//! What a reader does while the epoch changes.

mod world;

use smqtt_envelope::{Event, Opener, OpenerConfig, Refusal};
use smqtt_policy::Epoch;
use world::{EPOCH, NOW, Reader, TECHNICIAN, World, at, key_refused, nothing, opened, refused};

const NEXT: Epoch = Epoch::new(8);

/// A publisher at the next epoch and a reader at this one.
fn ahead() -> (World, smqtt_envelope::Sealer, Opener) {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    sealer.set_epoch(NEXT).expect("forward");
    let opener = world.opener();
    (world, sealer, opener)
}

#[test]
fn messages_of_the_next_epoch_wait_for_the_renewal() {
    let (mut world, mut sealer, mut opener) = ahead();
    let first = world.seal(&mut sealer, "a", b"1");
    // One before its frame, one after.
    nothing(opener.take("a", &first.message));
    let events = opener.announce(&first.announce.expect("the first message"));
    assert!(matches!(
        events[..],
        [Event::EpochAhead {
            epoch: NEXT,
            held: EPOCH
        }]
    ));
    let second = world.seal(&mut sealer, "a", b"2");
    nothing(opener.take("a", &second.message));
    // Both are given longer than a key frame would be.
    opener.handle_timeout(at(NOW + 59));
    nothing(opener.drain());

    let renewed = world.attribute_key(TECHNICIAN, NEXT);
    opener.add_key(renewed, at(NOW + 59)).expect("fits");
    let payloads: Vec<_> = opener
        .drain()
        .into_iter()
        .map(|event| opened(vec![event]).payload)
        .collect();
    assert_eq!(payloads, [b"1", b"2"]);
    assert_eq!(opener.waiting(), 0);
    // The signature was verified when the frame came, not again.
    assert_eq!(opener.counters().verifications, 1);
    assert_eq!(opener.counters().decapsulations, 1);
    let third = world.seal(&mut sealer, "a", b"3");
    opened(opener.take("a", &third.message));
}

#[test]
fn without_renewal_they_are_refused_as_ahead() {
    let (mut world, mut sealer, mut opener) = ahead();
    let first = world.seal_inline(&mut sealer, "a", b"1");
    assert!(matches!(
        opener.take("a", &first.message)[..],
        [Event::EpochAhead { .. }]
    ));
    // Told once.
    let second = world.seal_inline(&mut sealer, "a", b"2");
    nothing(opener.take("a", &second.message));
    assert_eq!(opener.poll_timeout(), Some(at(NOW + 60)));
    opener.handle_timeout(at(NOW + 60));
    let events = opener.drain();
    assert_eq!(events.len(), 2);
    for event in events {
        assert_eq!(
            refused(vec![event]),
            Refusal::EpochAhead {
                epoch: NEXT,
                held: EPOCH,
            }
        );
    }
}

#[test]
fn what_waits_for_a_renewal_is_refused_when_its_publisher_is_revoked() {
    let mut world = World::new();
    let (device, serial) = world.device_and_serial("d");
    let mut sealer = world.sealer(&device);
    sealer.set_epoch(NEXT).expect("forward");
    let mut opener = world.opener();
    let first = world.seal_inline(&mut sealer, "a", b"1");
    opener.take("a", &first.message);
    opener.revoke([serial]);
    opener.handle_timeout(at(NOW + 60));
    assert_eq!(refused(opener.drain()), Refusal::RevokedPublisher);
}

#[test]
fn a_renewal_that_lost_the_attribute_refuses_what_waited() {
    let (mut world, mut sealer, mut opener) = ahead();
    let first = world.seal(&mut sealer, "a", b"1");
    opener.announce(&first.announce.expect("the first message"));
    nothing(opener.take("a", &first.message));
    let renewed = world.attribute_key("role = visitor", NEXT);
    opener.add_key(renewed, at(NOW)).expect("fits");
    let mut events = opener.drain();
    assert_eq!(events.len(), 2);
    let message = events.split_off(1);
    assert!(matches!(key_refused(events), Refusal::NotAuthorised { .. }));
    assert!(matches!(refused(message), Refusal::NotAuthorised { .. }));
}

#[test]
fn what_was_sealed_before_the_change_is_read_after_it() {
    let mut world = World::new();
    let device = world.device("d");
    let (known, message) = world.first(&device, "a", b"1");
    let (unknown, late) = world.first(&device, "a", b"2");
    let mut opener = world.opener();
    nothing(opener.announce(&known));
    let renewed = world.attribute_key(TECHNICIAN, NEXT);
    opener.add_key(renewed, at(NOW)).expect("fits");
    // Under a key that is known, and under one that comes only now: the old attribute key is still held.
    opened(opener.take("a", &message));
    nothing(opener.announce(&unknown));
    opened(opener.take("a", &late));
}

#[test]
fn the_keys_of_four_epochs_are_held() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, _) = world.first(&device, "a", b"1");
    for (renewals, readable) in [(3, true), (4, false)] {
        let mut opener = world.opener();
        for n in 1..=renewals {
            let renewed = world.attribute_key(TECHNICIAN, Epoch::new(EPOCH.get() + n));
            opener.add_key(renewed, at(NOW)).expect("fits");
        }
        let events = opener.announce(&announcement);
        assert_eq!(events.is_empty(), readable);
    }
}

#[test]
fn new_attributes_of_the_same_epoch_lift_refusals() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"1");
    let mut opener = world.opener_with("role = visitor", OpenerConfig::default());
    key_refused(opener.announce(&announcement));
    let changed = world.attribute_key(TECHNICIAN, EPOCH);
    opener.add_key(changed, at(NOW)).expect("fits");
    nothing(opener.announce(&announcement));
    opened(opener.take("a", &message));
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    let mut world = World::new();
    let mut opener = world.opener();
    let mut elsewhere = World::from_seed(9);
    let foreign = elsewhere.attribute_key(TECHNICIAN, NEXT);
    assert!(matches!(
        opener.add_key(foreign, at(NOW)),
        Err(smqtt_envelope::Error::WrongParameters)
    ));
    let attributes: smqtt_policy::AttributeSet = TECHNICIAN.parse().expect("attributes");
    if let Ok(timeless) = world
        .master
        .issue(&world.parameters, &attributes, &mut world.rng)
    {
        assert!(matches!(
            opener.add_key(timeless, at(NOW)),
            Err(smqtt_envelope::Error::NoEpoch)
        ));
    }
}
