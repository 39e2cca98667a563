//! When a publisher's key periods end, and what it is told to announce and to clear.

mod world;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use smqtt_envelope::{Delivery, Error, Sealed, Sealer, SealerConfig, Sequence};
use smqtt_policy::Epoch;
use world::{DAY, Device, EPOCH, NOW, POLICY, Reader, World, at, nothing, opened};

fn seal_at(world: &mut World, sealer: &mut Sealer, topic: &str, seconds: u64) -> Sealed {
    sealer
        .seal(topic, b"x", at(seconds), &mut world.rng)
        .expect("sealed")
}

fn publisher(config: SealerConfig) -> (World, Sealer) {
    let mut world = World::new();
    let device = world.device("d");
    let sealer = world.sealer_with(&device, POLICY, config);
    (world, sealer)
}

#[test]
fn a_period_ends_with_its_last_number_and_the_next_starts_at_one() {
    let (mut world, mut sealer) = publisher(SealerConfig {
        max_messages: Sequence::new(3).expect("not 0"),
        ..SealerConfig::default()
    });
    let mut used = HashSet::new();
    let mut kids = Vec::new();
    let mut opener = world.opener();
    for number in 0..10u32 {
        let sealed = world.seal(&mut sealer, "a", b"x");
        assert_eq!(sealed.sequence.get(), number % 3 + 1);
        assert!(
            used.insert((sealed.kid, sealed.sequence)),
            "a key and number were used twice"
        );
        if number % 3 == 0 {
            let announcement = sealed.announce.expect("a new key is announced");
            nothing(opener.announce(&announcement));
            // The announcement of the period that ended is to be cleared, once.
            let ended: Vec<String> = kids
                .last()
                .map(|kid| format!("smqtt/keys/a/{kid}"))
                .into_iter()
                .collect();
            assert_eq!(sealed.clear, ended);
            kids.push(sealed.kid);
        } else {
            assert_eq!(sealed.announce, None);
            assert!(sealed.clear.is_empty());
        }
        opened(opener.take("a", &sealed.message));
    }
    assert_eq!(sealer.frames_made(), 4);
}

#[test]
fn a_period_ends_with_its_lifetime() {
    let (mut world, mut sealer) = publisher(SealerConfig {
        lifetime: Duration::from_secs(60),
        ..SealerConfig::default()
    });
    let first = seal_at(&mut world, &mut sealer, "a", NOW);
    assert_eq!(first.announce.as_ref().map(|a| a.expires_in), Some(60));
    let last = seal_at(&mut world, &mut sealer, "a", NOW + 59);
    assert_eq!(last.kid, first.kid);
    let next = seal_at(&mut world, &mut sealer, "a", NOW + 60);
    assert_ne!(next.kid, first.kid);
    assert_eq!(next.clear, [format!("smqtt/keys/a/{}", first.kid)]);
}

#[test]
fn a_clock_that_goes_back_far_ends_the_period() {
    let (mut world, mut sealer) = publisher(SealerConfig::default());
    let first = seal_at(&mut world, &mut sealer, "a", NOW);
    let slewed = seal_at(&mut world, &mut sealer, "a", NOW - 60);
    assert_eq!(slewed.kid, first.kid);
    let set_back = seal_at(&mut world, &mut sealer, "a", NOW - 61);
    assert_ne!(set_back.kid, first.kid);
}

#[test]
fn a_period_ends_with_its_epoch() {
    let (mut world, mut sealer) = publisher(SealerConfig::default());
    let first = world.seal(&mut sealer, "a", b"x");
    world.seal(&mut sealer, "b", b"x");
    assert_eq!(sealer.set_epoch(EPOCH).expect("the same"), [""; 0]);
    assert_eq!(world.seal(&mut sealer, "a", b"x").kid, first.kid);

    let next = EPOCH.next().expect("not the last");
    let mut cleared = sealer.set_epoch(next).expect("forward");
    cleared.sort();
    let expected = ["a", "b"].map(|topic| format!("smqtt/keys/{topic}/{}", first.kid));
    assert_eq!(cleared, expected);
    assert_eq!(sealer.epoch(), next);
    let sealed = world.seal(&mut sealer, "a", b"x");
    assert_ne!(sealed.kid, first.kid);
    assert!(sealed.clear.is_empty(), "told already");

    assert!(matches!(
        sealer.set_epoch(EPOCH),
        Err(Error::EpochBackwards { .. })
    ));
    assert_eq!(world.seal(&mut sealer, "a", b"x").kid, sealed.kid);

    // Where that epoch was not the authority's.
    assert_eq!(sealer.go_back_to(next), [""; 0], "the same");
    let cleared = sealer.go_back_to(EPOCH);
    assert_eq!(cleared, [format!("smqtt/keys/a/{}", sealed.kid)]);
    assert_eq!(sealer.epoch(), EPOCH);
    let back = world.seal(&mut sealer, "a", b"x");
    assert_ne!(back.kid, sealed.kid);
    assert!(back.announce.is_some());
    assert_eq!(sealer.go_back_to(next), [""; 0], "it is later");
    assert_eq!(world.seal(&mut sealer, "a", b"x").kid, back.kid);
}

#[test]
fn a_period_ends_with_its_certificate_or_on_request() {
    let (mut world, mut sealer) = publisher(SealerConfig::default());
    let first = world.seal(&mut sealer, "a", b"x");
    let renewed: Device = world.device("d");
    assert_eq!(sealer.set_signer(Arc::clone(&renewed) as _).len(), 1);
    let second = world.seal(&mut sealer, "a", b"x");
    assert_ne!(second.kid, first.kid);
    assert_eq!(sealer.end(), [format!("smqtt/keys/a/{}", second.kid)]);
    assert_eq!(sealer.end(), [""; 0]);
    assert!(sealer.announcements(at(NOW)).is_empty());
}

#[test]
fn a_key_serves_a_bounded_number_of_topics() {
    let (mut world, mut sealer) = publisher(SealerConfig {
        max_topics: 2,
        ..SealerConfig::default()
    });
    let a = world.seal(&mut sealer, "a", b"x");
    let b = world.seal(&mut sealer, "b", b"x");
    assert_eq!(b.kid, a.kid);
    assert_eq!(world.seal(&mut sealer, "a", b"x").kid, a.kid);
    let c = world.seal(&mut sealer, "c", b"x");
    assert_ne!(c.kid, a.kid);
    assert_eq!(c.clear.len(), 2);
}

#[test]
fn a_restart_makes_a_new_key() {
    let mut world = World::new();
    let device = world.device("d");
    let before = world.first(&device, "a", b"x").0;
    let after = world.first(&device, "a", b"x").0;
    assert_ne!(before.kid, after.kid);
}

#[test]
fn current_announcements_can_be_repeated() {
    let (mut world, mut sealer) = publisher(SealerConfig::default());
    let a = world.seal(&mut sealer, "a", b"x").announce;
    world.seal_inline(&mut sealer, "b", b"x");
    let c = world.seal(&mut sealer, "c", b"x").announce;
    let mut again = sealer.announcements(at(NOW));
    again.sort_by(|a, b| a.topic.cmp(&b.topic));
    let expected: Vec<_> = [a, c].into_iter().flatten().collect();
    assert_eq!(again, expected, "b was never announced");
    let later = sealer.announcements(at(NOW + DAY - 10));
    assert_eq!(later[0].expires_in, 10);
}

#[test]
fn a_topic_that_was_sealed_inline_is_announced_when_it_is_needed() {
    let (mut world, mut sealer) = publisher(SealerConfig::default());
    let inline = world.seal_inline(&mut sealer, "a", b"x");
    assert_eq!(inline.announce, None);
    let announced = world.seal(&mut sealer, "a", b"x");
    assert!(announced.announce.is_some());
    assert_eq!(announced.sequence.get(), 2);
    // An inline period leaves nothing to clear.
    sealer.end();
    world.seal_inline(&mut sealer, "a", b"x");
    assert_eq!(sealer.end(), [""; 0]);
}

#[test]
fn topics_that_can_not_be_announced_are_refused() {
    let (mut world, mut sealer) = publisher(SealerConfig::default());
    let long = "t".repeat(65_508);
    for topic in ["", "a/+", "#", "a\0b", "smqtt/keys/a", "smqtt", &long] {
        let result = sealer.seal(topic, b"x", at(NOW), &mut world.rng);
        assert!(matches!(result, Err(Error::Topic { .. })), "{topic:.20}");
    }
    assert_eq!(sealer.frames_made(), 0);
    world.seal(&mut sealer, &long[1..], b"x");
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    let mut world = World::new();
    let device = world.device("d");
    let build = |policy: &str, config| {
        Sealer::new(
            Arc::clone(&device) as _,
            world.parameters.clone(),
            policy.parse().expect("a policy"),
            Epoch::new(1),
            config,
        )
        .map(|_| ())
    };
    for lifetime in [
        Duration::ZERO,
        Duration::from_millis(999),
        Duration::from_secs(1 << 32),
    ] {
        let config = SealerConfig {
            lifetime,
            ..SealerConfig::default()
        };
        assert!(matches!(
            build(POLICY, config),
            Err(Error::Config {
                field: "lifetime",
                ..
            })
        ));
    }
    let config = SealerConfig {
        max_topics: 0,
        ..SealerConfig::default()
    };
    assert!(matches!(
        build(POLICY, config),
        Err(Error::Config {
            field: "max_topics",
            ..
        })
    ));
    assert!(matches!(
        build("topic matches a/+", SealerConfig::default()),
        Err(Error::TopicInPolicy { .. })
    ));
}

#[test]
fn delivery_follows_the_configuration() {
    let (mut world, mut sealer) = publisher(SealerConfig {
        delivery: Delivery::Inline,
        ..SealerConfig::default()
    });
    let sealed = world.seal(&mut sealer, "a", b"x");
    assert_eq!(sealed.announce, None);
    opened(world.opener().take("a", &sealed.message));
}
