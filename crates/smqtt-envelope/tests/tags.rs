//! Messages with tags: who may open them, the readers' key policies say.

mod world;

use std::sync::Arc;

use smqtt_abe::kp;
use smqtt_envelope::{Delivery, Error, Event, Opener, OpenerConfig, Refusal, Sealer, SealerConfig};
use smqtt_format::Access;
use smqtt_policy::{AttributeSet, Epoch, Policy};
use world::{
    DAY, Device, EPOCH, NOW, Reader as _, TECHNICIAN, World, at, key_refused, nothing, opened,
    refused,
};

const TAGS: &str = "kind = temperature, site = 4";
const TOPIC: &str = "plant/7/temperature";

/// An authority's key policies.
struct Tagged {
    world: World,
    master: kp::MasterKey,
    parameters: kp::PublicParameters,
}

impl Tagged {
    fn new() -> Self {
        let world = World::new();
        let master = kp::MasterKey::beside(&world.master);
        let parameters = master.public_parameters();
        Self {
            world,
            master,
            parameters,
        }
    }

    fn sealer(&self, device: &Device, config: SealerConfig) -> Sealer {
        let tags = TAGS.parse().expect("tags");
        let parameters = self.parameters.clone();
        Sealer::with_tags(Arc::clone(device) as _, parameters, &tags, EPOCH, config).expect("valid")
    }

    fn key(&mut self, policy: &str, epoch: Epoch) -> kp::PolicyKey {
        let policy: Policy = policy.parse().expect("a policy");
        self.master
            .issue(
                &self.parameters,
                &policy.at_epoch(epoch),
                &mut self.world.rng,
            )
            .expect("issued")
    }

    /// A reader with attributes that satisfy nothing here, and a key policy.
    fn reader(&mut self, policy: &str) -> Opener {
        let mut opener = self
            .world
            .opener_with("role = visitor", OpenerConfig::default());
        let key = self.key(policy, EPOCH);
        opener.add_policy_key(&self.parameters, key).expect("fits");
        opener
    }
}

#[test]
fn a_key_policy_that_the_tags_satisfy_opens_announced_and_inline() {
    let mut tagged = Tagged::new();
    let device = tagged.world.device("sensor-17");
    let mut sealer = tagged.sealer(&device, SealerConfig::default());
    let first = tagged.world.seal(&mut sealer, TOPIC, b"21.5");
    let mut reader = tagged.reader("kind = temperature and site in 1..5");
    nothing(reader.announce(&first.announce.expect("the first message")));
    let message = opened(reader.take(TOPIC, &first.message));
    assert_eq!(message.payload, b"21.5");
    assert_eq!(message.publisher.as_str(), "sensor-17");
    assert_eq!(message.access.tags(), Some(TAGS));
    assert_eq!(message.access.policy(), None);

    let inline = tagged.world.seal_inline(&mut sealer, TOPIC, b"21.6");
    let mut late = tagged.reader("topic matches plant/+/temperature");
    assert_eq!(opened(late.take(TOPIC, &inline.message)).payload, b"21.6");
    assert_eq!(late.counters().decapsulations, 1);
}

#[test]
fn others_are_told_why_without_a_pairing() {
    let mut tagged = Tagged::new();
    let device = tagged.world.device("d");
    let mut sealer = tagged.sealer(&device, SealerConfig::default());
    let sealed = tagged.world.seal_inline(&mut sealer, TOPIC, b"x");
    for policy in [
        "kind = pressure",
        "kind = temperature and site in 5..9",
        "kind = temperature and topic matches plant/8/#",
    ] {
        let mut reader = tagged.reader(policy);
        assert_eq!(
            refused_inline(reader.take(TOPIC, &sealed.message)),
            Refusal::OutsideKeyPolicy { tags: TAGS.into() },
            "{policy}"
        );
        assert_eq!(reader.counters().decapsulations, 0);
    }
    // Attributes that would satisfy any policy here are no key policy.
    let mut technician = tagged
        .world
        .opener_with(&format!("{TECHNICIAN}, {TAGS}"), OpenerConfig::default());
    assert_eq!(
        refused_inline(technician.take(TOPIC, &sealed.message)),
        Refusal::NoKeyPolicy { tags: TAGS.into() }
    );
    // And a key policy opens nothing that is sealed under a policy.
    let mut under_policy = tagged.world.sealer(&device);
    let sealed = tagged.world.seal_inline(&mut under_policy, TOPIC, b"x");
    let mut reader = tagged.reader("role = technician");
    assert!(matches!(
        refused_inline(reader.take(TOPIC, &sealed.message)),
        Refusal::NotAuthorised { .. }
    ));
}

/// The frame is told of first, then the message.
#[track_caller]
fn refused_inline(mut events: Vec<Event>) -> Refusal {
    let message = events.pop().into_iter().collect();
    let reason = key_refused(events);
    assert_eq!(refused(message), reason);
    reason
}

#[test]
fn each_topic_has_a_frame_that_says_it_and_opens_nothing_elsewhere() {
    let mut tagged = Tagged::new();
    let device = tagged.world.device("d");
    let mut sealer = tagged.sealer(&device, SealerConfig::default());
    let a = tagged.world.seal(&mut sealer, "a", b"1");
    let b = tagged.world.seal(&mut sealer, "b", b"1");
    let again = tagged.world.seal(&mut sealer, "a", b"2");
    assert_ne!(a.kid, b.kid);
    assert_eq!((again.kid, again.sequence.get()), (a.kid, 2));
    assert!(again.announce.is_none());
    assert_eq!(sealer.frames_made(), 2);
    assert_eq!(sealer.announcements(at(NOW)).len(), 2);

    let mut only_a = tagged.reader("topic matches a");
    let mut both = tagged.reader("kind = temperature");
    for announcement in [&a, &b].map(|sealed| sealed.announce.as_ref().expect("the first")) {
        only_a.announce(announcement);
        nothing(both.announce(announcement));
    }
    assert_eq!(opened(only_a.take("a", &a.message)).payload, b"1");
    assert!(matches!(
        refused(only_a.take("b", &b.message)),
        Refusal::OutsideKeyPolicy { .. }
    ));
    // Moved, with its own frame known: it was sealed for another topic.
    assert_eq!(
        refused(both.take("b", &again.message)),
        Refusal::WrongTopic {
            sealed_for: "a".into()
        }
    );
}

#[test]
fn what_is_beyond_the_topics_ends_the_oldest_period() {
    let mut tagged = Tagged::new();
    let device = tagged.world.device("d");
    let config = SealerConfig {
        max_topics: 2,
        ..SealerConfig::default()
    };
    let mut sealer = tagged.sealer(&device, config);
    let mut seal = |topic: &str, seconds| {
        let rng = &mut tagged.world.rng;
        sealer
            .seal(topic, b"x", at(NOW + seconds), rng)
            .expect("sealed")
    };
    let a = seal("a", 0);
    seal("b", 1);
    let c = seal("c", 2);
    assert_eq!(c.clear, [format!("smqtt/keys/a/{}", a.kid)]);
    assert_ne!(seal("a", 3).kid, a.kid);
}

#[test]
fn a_period_ends_by_count_time_and_epoch_with_tags_too() {
    let mut tagged = Tagged::new();
    let device = tagged.world.device("d");
    let config = SealerConfig {
        max_messages: smqtt_envelope::Sequence::new(2).expect("not 0"),
        delivery: Delivery::Inline,
        ..SealerConfig::default()
    };
    let mut sealer = tagged.sealer(&device, config);
    let first = tagged.world.seal(&mut sealer, TOPIC, b"1");
    let second = tagged.world.seal(&mut sealer, TOPIC, b"2");
    let third = tagged.world.seal(&mut sealer, TOPIC, b"3");
    assert_eq!(first.kid, second.kid);
    assert_ne!(second.kid, third.kid);
    let rng = &mut tagged.world.rng;
    let later = sealer
        .seal(TOPIC, b"4", at(NOW + DAY), rng)
        .expect("sealed");
    assert_ne!(third.kid, later.kid);
    sealer.set_epoch(Epoch::new(8)).expect("later");
    let next = sealer
        .seal(TOPIC, b"5", at(NOW + DAY), rng)
        .expect("sealed");
    assert_ne!(later.kid, next.kid);

    // A reader that is not renewed waits; with the policy key of the epoch, before its attribute key, it opens.
    let mut reader = tagged.reader("kind = temperature");
    let events = reader.take_at(TOPIC, &next.message, false, NOW + DAY);
    assert!(
        matches!(events[..], [Event::EpochAhead { .. }]),
        "{events:?}"
    );
    let key = tagged.key("kind = temperature", Epoch::new(8));
    reader
        .add_policy_key(&tagged.parameters, key)
        .expect("fits");
    nothing(reader.drain());
    let key = tagged.world.attribute_key("role = visitor", Epoch::new(8));
    reader.add_key(key, at(NOW + DAY)).expect("fits");
    assert_eq!(opened(reader.drain()).payload, b"5");
    // Of the epoch before it still has the key.
    let before = reader.take_at(TOPIC, &later.message, false, NOW + DAY);
    assert_eq!(opened(before).payload, b"4");
}

#[test]
fn a_key_policy_that_comes_later_opens_what_was_refused() {
    let mut tagged = Tagged::new();
    let device = tagged.world.device("d");
    let mut sealer = tagged.sealer(&device, SealerConfig::default());
    let sealed = tagged.world.seal(&mut sealer, TOPIC, b"x");
    let announcement = sealed.announce.expect("the first message");
    let mut reader = tagged
        .world
        .opener_with("role = visitor", OpenerConfig::default());
    assert!(matches!(
        key_refused(reader.announce(&announcement)),
        Refusal::NoKeyPolicy { .. }
    ));
    for (policy, opens) in [("kind = pressure", false), ("site = 4", true)] {
        let key = tagged.key(policy, EPOCH);
        reader
            .add_policy_key(&tagged.parameters, key)
            .expect("fits");
        let events = reader.announce(&announcement);
        assert_eq!(events.is_empty(), opens, "{events:?}");
    }
    assert_eq!(opened(reader.take(TOPIC, &sealed.message)).payload, b"x");
}

#[test]
fn a_frame_that_says_something_else_than_it_should_is_refused() {
    let mut tagged = Tagged::new();
    let device = tagged.world.device("d");
    let mut sealer = tagged.sealer(&device, SealerConfig::default());
    let sealed = tagged.world.seal(&mut sealer, TOPIC, b"x");
    let frame = sealed.announce.expect("the first message").frame;
    let tags: AttributeSet = TAGS.parse().expect("tags");
    let other_epoch = tags
        .with_topic(TOPIC)
        .expect("valid")
        .with_epoch(Epoch::new(6));
    let other_tags: AttributeSet = "kind = temperature".parse().expect("tags");
    let other_tags = other_tags
        .with_topic(TOPIC)
        .expect("valid")
        .with_epoch(EPOCH);
    for (encoded, expected) in [
        // Tags of another epoch than the frame's, none, and rubbish.
        (other_epoch.encode(), Refusal::UnreadablePolicy),
        (tags.encode(), Refusal::UnreadablePolicy),
        (vec![0xff; 9], Refusal::UnreadablePolicy),
        // Tags that the key was not encapsulated for.
        (other_tags.encode(), Refusal::BadEncapsulation),
    ] {
        let changed = tagged.world.signed_anew(&frame, &device, |content| {
            // For longer than any frame lives.
            content.access = Access::Attributes(encoded.clone().leak());
        });
        let mut reader = tagged.reader("kind = temperature");
        assert_eq!(
            key_refused(reader.announce_frame(TOPIC, &changed)),
            expected,
            "{encoded:?}"
        );
    }
    for suite in [1, 3] {
        let changed = tagged
            .world
            .signed_anew(&frame, &device, |content| content.suite = suite);
        let mut reader = tagged.reader("kind = temperature");
        assert_eq!(
            key_refused(reader.announce_frame(TOPIC, &changed)),
            Refusal::UnsupportedSuite(suite)
        );
    }
    // Taken from its publisher and signed by another device.
    let thief = tagged.world.device("thief");
    let stolen = tagged.world.signed_anew(&frame, &thief, |_| {});
    let mut reader = tagged.reader("kind = temperature");
    assert_eq!(
        key_refused(reader.announce_frame(TOPIC, &stolen)),
        Refusal::NotItsSigner
    );
}

#[test]
fn what_does_not_fit_together_is_refused_at_once() {
    let mut tagged = Tagged::new();
    let device = tagged.world.device("d");
    let none = AttributeSet::new();
    let made = Sealer::with_tags(
        Arc::clone(&device) as _,
        tagged.parameters.clone(),
        &none,
        EPOCH,
        SealerConfig::default(),
    );
    assert!(matches!(made.err(), Some(Error::NoTags)));
    let mut sealer = tagged.sealer(&device, SealerConfig::default());
    let deep = vec!["x"; 40].join("/");
    let sealed = sealer.seal(&deep, b"x", at(NOW), &mut tagged.world.rng);
    assert!(matches!(sealed.err(), Some(Error::Tags { .. })));

    let mut reader = tagged.reader("kind = temperature");
    let foreign = kp::setup(&mut tagged.world.rng);
    let policy: Policy = "a".parse().expect("a policy");
    let key = foreign
        .0
        .issue(&foreign.1, &policy.at_epoch(EPOCH), &mut tagged.world.rng)
        .expect("issued");
    assert!(matches!(
        reader.add_policy_key(&foreign.1, key),
        Err(Error::WrongParameters)
    ));
    let key = tagged
        .master
        .issue(&tagged.parameters, policy.formula(), &mut tagged.world.rng)
        .expect("issued");
    assert!(matches!(
        reader.add_policy_key(&tagged.parameters, key),
        Err(Error::NoEpoch)
    ));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

    /// The encryption opens exactly what the language says.
    #[test]
    fn a_reader_opens_what_its_key_policy_says(
        kinds in proptest::sample::subsequence(vec!["a", "b", "c", "d"], 1..=4),
        site in 0i64..8,
        policy in proptest::sample::select(vec![
            "a", "a and b", "a or c", "2 of (a, b, c)", "site in 2..5", "site >= 4 and (b or d)",
            "topic matches +/7", "topic matches plant/# and a", "site < 3 or topic matches x/#",
        ]),
        topic in proptest::sample::select(vec!["plant/7", "x/7", "plant/8/t", "y"]),
    ) {
        let mut tagged = Tagged::new();
        let device = tagged.world.device("d");
        let tags: AttributeSet = format!("{}, site = {site}", kinds.join(", ")).parse().expect("tags");
        let mut sealer = Sealer::with_tags(
            Arc::clone(&device) as _, tagged.parameters.clone(), &tags, EPOCH, SealerConfig::default(),
        ).expect("valid");
        let sealed = tagged.world.seal_inline(&mut sealer, topic, b"x");
        let label = tags.with_topic(topic).expect("a topic");
        let expected = policy.parse::<Policy>().expect("a policy").evaluate(&label);
        let mut reader = tagged.reader(policy);
        let opens = matches!(reader.take(topic, &sealed.message).last(), Some(Event::Opened(_)));
        proptest::prop_assert_eq!(opens, expected);
    }
}
