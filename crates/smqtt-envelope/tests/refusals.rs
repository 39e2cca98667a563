//! Every reason for a refusal, reached by doing the very thing.

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use smqtt_envelope::{Event, KeyId, OpenerConfig, Refusal, SealerConfig};
use smqtt_format::{Access, Error as FormatError, announce};
use smqtt_policy::Epoch;
use world::{
    DAY, EPOCH, HOUR, NOW, POLICY, Reader, TECHNICIAN, World, at, key_refused, nothing, opened,
    refused,
};

/// Replaces the key id in a sealed message, which stands at bytes 9 to 16.
fn relabelled(message: &[u8], kid: KeyId) -> Vec<u8> {
    let mut message = message.to_vec();
    message[9..17].copy_from_slice(kid.as_bytes());
    message
}

#[test]
fn plaintext() {
    let mut world = World::new();
    let mut opener = world.opener();
    for payload in [&b"21.5"[..], b"", b"{\"t\": 21.5}"] {
        assert_eq!(refused(opener.take("a", payload)), Refusal::Plaintext);
    }
    let at = announce::topic("a", &KeyId([1; 8]));
    assert_eq!(key_refused(opener.take(&at, b"text")), Refusal::Plaintext);
    assert_eq!(opener.counters().refused.get("plaintext"), 3);
    assert_eq!(opener.counters().keys_refused.get("plaintext"), 1);
}

#[test]
fn malformed() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let mut opener = world.opener();
    let cut = &message[..message.len() - 1];
    assert!(matches!(
        refused(opener.take("a", cut)),
        Refusal::Malformed(FormatError::Truncated { .. })
    ));
    let cut = &announcement.frame[..announcement.frame.len() - 1];
    assert!(matches!(
        key_refused(opener.take(&announcement.topic, cut)),
        Refusal::Malformed(FormatError::Truncated { .. })
    ));
}

#[test]
fn misplaced() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let mut opener = world.opener();
    assert_eq!(
        refused(opener.take("a", &announcement.frame)),
        Refusal::Misplaced
    );
    assert_eq!(
        key_refused(opener.take(&announcement.topic, &message)),
        Refusal::Misplaced
    );
    let inline = [&announcement.frame[..], &message].concat();
    assert_eq!(
        key_refused(opener.take(&announcement.topic, &inline)),
        Refusal::Misplaced
    );
}

#[test]
fn frame_too_long() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let limit = announcement.frame.len() - 1;
    let expected = Refusal::FrameTooLong {
        length: announcement.frame.len(),
        limit,
    };
    let config = OpenerConfig {
        frame_len: limit,
        ..OpenerConfig::default()
    };
    let mut opener = world.opener_with(TECHNICIAN, config);
    assert_eq!(key_refused(opener.announce(&announcement)), expected);
    let inline = [&announcement.frame[..], &message].concat();
    assert_eq!(refused(opener.take("a", &inline)), expected);
    assert_eq!(opener.counters().verifications, 0);
}

#[test]
fn kid_mismatch() {
    let mut world = World::new();
    let device = world.device("d");
    let (ours, message) = world.first(&device, "a", b"x");
    let (theirs, _) = world.first(&device, "a", b"y");
    let mut opener = world.opener();
    assert_eq!(
        key_refused(opener.take(&ours.topic, &theirs.frame)),
        Refusal::KidMismatch
    );
    let inline = [&theirs.frame[..], &message].concat();
    assert_eq!(refused(opener.take("a", &inline)), Refusal::KidMismatch);
    assert_eq!(opener.counters().verifications, 0);
    // Also where the frame that the message names is known.
    nothing(opener.announce(&ours));
    assert_eq!(refused(opener.take("a", &inline)), Refusal::KidMismatch);
}

#[test]
fn unsupported_suite() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let mut opener = world.opener();
    let of_suite_9 = world.signed_anew(&announcement.frame, &device, |c| c.suite = 9);
    assert_eq!(
        key_refused(opener.announce_frame("a", &of_suite_9)),
        Refusal::UnsupportedSuite(9)
    );
    // A suite of ciphertext-policies with attributes in place of a policy.
    let by_attributes = world.signed_anew(&announcement.frame, &device, |c| {
        c.access = Access::Attributes(b"x");
    });
    assert_eq!(
        key_refused(opener.announce_frame("a", &by_attributes)),
        Refusal::UnsupportedSuite(1)
    );
    // Messages under it are refused for the same reason, without waiting.
    let message = relabelled(&message, KeyId::of(&of_suite_9));
    assert_eq!(
        refused(opener.take("a", &message)),
        Refusal::UnsupportedSuite(9)
    );
}

#[test]
fn untrusted_publisher() {
    let mut world = World::new();
    let mut elsewhere = World::from_seed(2);
    // Another authority's device of the same name, which holds the right parameters.
    elsewhere.parameters = world.parameters.clone();
    let stranger = elsewhere.device("sensor-17");
    let (announcement, message) = elsewhere.first(&stranger, "a", b"x");
    let mut opener = world.opener();
    assert!(matches!(
        key_refused(opener.announce(&announcement)),
        Refusal::UntrustedPublisher(_)
    ));
    assert!(matches!(
        refused(opener.take("a", &message)),
        Refusal::UntrustedPublisher(_)
    ));
}

#[test]
fn untrusted_publisher_because_its_certificate_expired_or_is_not_valid_yet() {
    let mut world = World::new();
    for from in [NOW - 91 * DAY, NOW + DAY] {
        let (device, _) = world.device_valid_from("d", from);
        let (announcement, _) = world.first(&device, "a", b"x");
        let mut opener = world.opener();
        assert!(matches!(
            key_refused(opener.announce(&announcement)),
            Refusal::UntrustedPublisher(_)
        ));
    }
}

#[test]
fn a_certificate_that_becomes_valid_is_looked_at_again() {
    let mut world = World::new();
    let (device, _) = world.device_valid_from("d", NOW + 400);
    let (announcement, message) = world.first(&device, "a", b"x");
    let mut opener = world.opener();
    key_refused(opener.announce(&announcement));
    let later = NOW + 400;
    nothing(opener.take_at(&announcement.topic, &announcement.frame, false, later));
    opened(opener.take_at("a", &message, false, later));
}

#[test]
fn bad_signature() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let mut frame = announcement.frame.to_vec();
    *frame.last_mut().expect("not empty") ^= 1;
    let mut opener = world.opener();
    assert_eq!(
        key_refused(opener.announce_frame("a", &frame)),
        Refusal::BadSignature
    );
    assert_eq!(
        refused(opener.take("a", &relabelled(&message, KeyId::of(&frame)))),
        Refusal::BadSignature
    );
    assert_eq!(opener.counters().decapsulations, 0);
}

#[test]
fn a_frame_that_names_another_signer_has_a_bad_signature() {
    let mut world = World::new();
    let victim = world.device("victim");
    let attacker = world.device("attacker");
    let (announcement, _) = world.first(&victim, "a", b"x");
    // Signed by the attacker, with the victim's certificate.
    let forged = world.signed_anew(&announcement.frame, &attacker, |c| c.created += 1);
    let forged = {
        let theirs = smqtt_format::KeyFrame::parse(&forged).expect("valid");
        let chain: Vec<&[u8]> = victim.1.iter().map(AsRef::as_ref).collect();
        smqtt_format::UnsignedKeyFrame::new(theirs.algorithm(), &chain, theirs.content())
            .expect("valid")
            .finish(theirs.signature())
            .expect("not too long")
    };
    assert_eq!(
        key_refused(world.opener().announce_frame("a", &forged)),
        Refusal::BadSignature
    );
}

#[test]
fn revoked_publisher() {
    let mut world = World::new();
    let (device, serial) = world.device_and_serial("d");
    let mut sealer = world.sealer(&device);
    let first = world.seal(&mut sealer, "a", b"x");
    let announcement = first.announce.expect("the first message");
    let mut opener = world.opener();
    nothing(opener.announce(&announcement));
    opened(opener.take("a", &first.message));

    opener.revoke([serial]);
    // Under a key that is known already,
    let second = world.seal(&mut sealer, "a", b"x");
    assert_eq!(
        refused(opener.take("a", &second.message)),
        Refusal::RevokedPublisher
    );
    // and under a new one, before it costs a pairing.
    let (announcement, message) = world.first(&device, "a", b"x");
    let before = opener.counters().decapsulations;
    assert_eq!(
        key_refused(opener.announce(&announcement)),
        Refusal::RevokedPublisher
    );
    assert_eq!(
        refused(opener.take("a", &message)),
        Refusal::RevokedPublisher
    );
    assert_eq!(opener.counters().decapsulations, before);
}

#[test]
fn not_yet_valid_beyond_the_clock_skew() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    // The reader's clock is slow.
    let mut opener = world.opener();
    let reason =
        key_refused(opener.take_at(&announcement.topic, &announcement.frame, false, NOW - 301));
    assert_eq!(reason, Refusal::NotYetValid { seconds: 301 });
    assert_eq!(
        reason.to_string(),
        "its key is valid only in 301 s: check the publisher's clock and this one's"
    );
    assert_eq!(
        refused(opener.take_at("a", &message, false, NOW - 301)),
        reason
    );
    // Within the skew it is taken.
    let mut opener = world.opener();
    nothing(opener.take_at(&announcement.topic, &announcement.frame, false, NOW - 300));
    opened(opener.take_at("a", &message, false, NOW - 300));
}

#[test]
fn expired_beyond_lifetime_delay_and_skew() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let config = OpenerConfig {
        max_delay: Duration::from_secs(HOUR),
        ..OpenerConfig::default()
    };
    let ends = NOW + DAY;
    let last = ends + HOUR + 300;
    // As a frame, when it arrives;
    let mut opener = world.opener_with(TECHNICIAN, config.clone());
    let announce_at = |opener: &mut smqtt_envelope::Opener, seconds| {
        opener.take_at(&announcement.topic, &announcement.frame, true, seconds)
    };
    assert_eq!(
        key_refused(announce_at(&mut opener, last + 1)),
        Refusal::Expired {
            seconds: HOUR + 301
        }
    );
    // as a message under a frame that was taken in time.
    let mut opener = world.opener_with(TECHNICIAN, config);
    nothing(announce_at(&mut opener, last));
    opened(opener.take_at("a", &message, false, last));
    assert_eq!(
        refused(opener.take_at("a", &message, false, last + 1)),
        Refusal::Expired {
            seconds: HOUR + 301
        }
    );
}

#[test]
fn expired_epoch_and_epoch_ahead() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let reader = |world: &mut World, epoch| {
        let key = world.attribute_key(TECHNICIAN, Epoch::new(epoch));
        smqtt_envelope::Opener::new(
            world.authority.trust_anchor().clone(),
            world.parameters.clone(),
            key,
            OpenerConfig::default(),
        )
        .expect("valid")
    };
    let mut renewed = reader(&mut world, 8);
    let expected = Refusal::ExpiredEpoch {
        epoch: EPOCH,
        held: Epoch::new(8),
    };
    assert_eq!(key_refused(renewed.announce(&announcement)), expected);
    assert_eq!(refused(renewed.take("a", &message)), expected);
    assert_eq!(renewed.counters().decapsulations, 0);

    let mut behind = reader(&mut world, 6);
    assert!(matches!(
        behind.announce(&announcement)[..],
        [Event::EpochAhead { .. }]
    ));
    nothing(behind.take("a", &message));
    behind.handle_timeout(at(NOW + 60));
    assert_eq!(
        refused(behind.drain()),
        Refusal::EpochAhead {
            epoch: EPOCH,
            held: Epoch::new(6),
        }
    );
}

#[test]
fn unreadable_policy() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, _) = world.first(&device, "a", b"x");
    for policy in [
        "role = ",
        // Another spelling of the policy: nothing but the canonical one is taken.
        "role=technician and site=berlin",
        "role = technician  and site = berlin",
    ] {
        let frame = world.signed_anew(&announcement.frame, &device, |c| {
            c.access = Access::Policy(policy);
        });
        let mut opener = world.opener();
        assert_eq!(
            key_refused(opener.announce_frame("a", &frame)),
            Refusal::UnreadablePolicy
        );
    }
}

#[test]
fn not_authorised_is_known_without_a_pairing_and_remembered() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let first = world.seal(&mut sealer, "a", b"x");
    let announcement = first.announce.expect("the first message");
    let mut visitor = world.opener_with("role = visitor", OpenerConfig::default());
    let expected = Refusal::NotAuthorised {
        policy: POLICY.into(),
    };
    assert_eq!(key_refused(visitor.announce(&announcement)), expected);
    assert_eq!(refused(visitor.take("a", &first.message)), expected);
    for _ in 0..10 {
        let sealed = world.seal_inline(&mut sealer, "a", b"x");
        assert_eq!(refused(visitor.take("a", &sealed.message)), expected);
    }
    // The frame again: no event, it was told.
    nothing(visitor.announce(&announcement));
    let counters = visitor.counters();
    assert_eq!(counters.refused.get("not-authorised"), 11);
    assert_eq!(counters.keys_refused.get("not-authorised"), 1);
    assert_eq!(counters.verifications, 1);
    assert_eq!(counters.decapsulations, 0);
}

#[test]
fn a_policy_that_was_widened_on_the_way_opens_nothing() {
    let mut world = World::new();
    let publisher = world.device("d");
    let visitor_device = world.device("v");
    let (announcement, _) = world.first(&publisher, "a", b"x");
    // A visitor who may sign frames writes a policy that it satisfies over another's ciphertext.
    let frame = world.signed_anew(&announcement.frame, &visitor_device, |c| {
        c.access = Access::Policy("role = visitor");
    });
    let mut visitor = world.opener_with("role = visitor", OpenerConfig::default());
    assert!(matches!(
        key_refused(visitor.announce_frame("a", &frame)),
        Refusal::BadEncapsulation | Refusal::NotItsSigner
    ));
}

#[test]
fn bad_encapsulation() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, _) = world.first(&device, "a", b"x");
    let frame = world.signed_anew(&announcement.frame, &device, |c| {
        c.ciphertext = &c.ciphertext[..c.ciphertext.len() - 1];
    });
    let mut opener = world.opener();
    assert_eq!(
        key_refused(opener.announce_frame("a", &frame)),
        Refusal::BadEncapsulation
    );
}

#[test]
fn not_its_signer_when_another_device_signs_the_frame_anew() {
    let mut world = World::new();
    let victim = world.device("victim");
    let attacker = world.device("attacker");
    let (announcement, message) = world.first(&victim, "a", b"x");
    let stolen = world.signed_anew(&announcement.frame, &attacker, |_| {});

    // With the old name: the frame is not the one that is named.
    let mut opener = world.opener();
    assert_eq!(
        key_refused(opener.take(&announcement.topic, &stolen)),
        Refusal::KidMismatch
    );
    let inline = [&stolen[..], &message].concat();
    assert_eq!(refused(opener.take("a", &inline)), Refusal::KidMismatch);

    // With its own name: the attacker could not confirm the key, which it does not know.
    let events = opener.announce_frame("a", &stolen);
    assert!(matches!(
        &events[..],
        [Event::KeyRefused { publisher: Some(publisher), reason: Refusal::NotItsSigner, .. }]
            if publisher.as_str() == "attacker"
    ));
    let relabelled = relabelled(&message, KeyId::of(&stolen));
    assert_eq!(
        refused(opener.take("a", &relabelled)),
        Refusal::NotItsSigner
    );
    let inline = [&stolen[..], &relabelled].concat();
    assert_eq!(refused(opener.take("a", &inline)), Refusal::NotItsSigner);
    assert_eq!(opener.counters().decapsulations, 1);

    // None of this harms the victim.
    nothing(opener.announce(&announcement));
    assert_eq!(
        opened(opener.take("a", &message)).publisher.as_str(),
        "victim"
    );
}

#[test]
fn unknown_key_after_the_wait() {
    let mut world = World::new();
    let device = world.device("d");
    let (_, message) = world.first(&device, "a", b"x");
    let mut opener = world.opener();
    nothing(opener.take("a", &message));
    assert_eq!(opener.poll_timeout(), Some(at(NOW + 10)));
    opener.handle_timeout(at(NOW + 9));
    nothing(opener.drain());
    opener.handle_timeout(at(NOW + 10));
    assert_eq!(refused(opener.drain()), Refusal::UnknownKey);
    assert_eq!(opener.poll_timeout(), None);
}

#[test]
fn wrong_topic_is_proved_by_the_topic_that_the_frame_names() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "plant/7", b"x");
    let expected = Refusal::WrongTopic {
        sealed_for: "plant/7".into(),
    };
    // Announced: the relay moves frame and message.
    let mut opener = world.opener();
    nothing(opener.announce_frame("plant/8", &announcement.frame));
    assert_eq!(refused(opener.take("plant/8", &message)), expected);
    // Inline, at a reader that never saw the right topic.
    let mut opener = world.opener();
    let inline = [&announcement.frame[..], &message].concat();
    assert_eq!(refused(opener.take("plant/8", &inline)), expected);
    // The message where it belongs is not a replay.
    opened(opener.take("plant/7", &inline));
}

#[test]
fn wrong_topic_is_proved_by_every_topic_where_the_key_was_seen() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    world.seal(&mut sealer, "first", b"x");
    let second = world.seal(&mut sealer, "second", b"x");
    let third = world.seal(&mut sealer, "third", b"x");

    // Announced there,
    let mut opener = world.opener();
    nothing(opener.announce(&second.announce.expect("a new topic")));
    assert_eq!(
        refused(opener.take("first", &second.message)),
        Refusal::WrongTopic {
            sealed_for: "second".into(),
        }
    );
    // or opened there.
    opened(opener.take("third", &third.message));
    assert_eq!(
        refused(opener.take("second", &third.message)),
        Refusal::WrongTopic {
            sealed_for: "third".into(),
        }
    );
}

#[test]
fn a_move_from_a_topic_that_the_reader_never_saw_is_altered_or_moved() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let first = world.seal(&mut sealer, "first", b"x");
    let second = world.seal(&mut sealer, "second", b"x");
    let mut opener = world.opener();
    nothing(opener.announce(&first.announce.expect("a new topic")));
    let reason = refused(opener.take("first", &second.message));
    assert_eq!(reason, Refusal::Altered);
    assert_eq!(reason.to_string(), "altered, or moved from another topic");
}

#[test]
fn altered() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, mut message) = world.first(&device, "a", b"x");
    *message.last_mut().expect("not empty") ^= 0x80;
    let mut opener = world.opener();
    nothing(opener.announce(&announcement));
    assert_eq!(refused(opener.take("a", &message)), Refusal::Altered);
}

#[test]
fn replay() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let mut opener = world.opener();
    nothing(opener.announce(&announcement));
    opened(opener.take("a", &message));
    assert_eq!(
        refused(opener.take("a", &message)),
        Refusal::Replay {
            sequence: smqtt_envelope::Sequence::FIRST,
        }
    );
    // In its inline form too.
    let inline = [&announcement.frame[..], &message].concat();
    assert!(matches!(
        refused(opener.take("a", &inline)),
        Refusal::Replay { .. }
    ));
}

#[test]
fn a_bad_message_ends_nothing() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer_with(&device, POLICY, SealerConfig::default());
    let mut opener = world.opener();
    let first = world.seal(&mut sealer, "a", b"1");
    nothing(opener.announce(&first.announce.expect("the first message")));
    for rubbish in [&b"text"[..], &[0xd0, 0x83], &[0xd2, 0x84], &[]] {
        refused(opener.take("a", rubbish));
    }
    opened(opener.take("a", &first.message));
}

#[test]
fn unwanted_publisher() {
    let mut world = World::new();
    let (wanted, other) = (world.device("wanted"), world.device("other"));
    let config = OpenerConfig {
        publishers: Some(["wanted".parse().expect("a device id")].into()),
        ..OpenerConfig::default()
    };
    let mut opener = world.opener_with(TECHNICIAN, config);
    for (device, is_wanted) in [(&wanted, true), (&other, false)] {
        let (announcement, message) = world.first(device, "a", b"x");
        nothing(opener.take(&announcement.topic, &announcement.frame));
        let taken = opener.take("a", &message);
        if is_wanted {
            opened(taken);
        } else {
            assert_eq!(refused(taken), Refusal::UnwantedPublisher);
        }
    }
}

#[test]
fn too_old() {
    let mut world = World::new();
    let device = world.device("d");
    let config = OpenerConfig {
        max_age: Some(Duration::from_secs(60)),
        clock_skew: Duration::from_secs(5),
        ..OpenerConfig::default()
    };
    for (after, expected) in [(65, None), (66, Some(Refusal::TooOld { seconds: 66 }))] {
        let (announcement, message) = world.first(&device, "a", b"x");
        let mut opener = world.opener_with(TECHNICIAN, config.clone());
        nothing(opener.announce(&announcement));
        let taken = opener.take_at("a", &message, false, NOW + after);
        match expected {
            None => drop(opened(taken)),
            Some(reason) => assert_eq!(refused(taken), reason),
        }
    }
}

#[test]
fn codes_are_stable_and_distinct() {
    let expected = [
        "plaintext",
        "malformed",
        "misplaced",
        "frame-too-long",
        "kid-mismatch",
        "unsupported-suite",
        "untrusted-publisher",
        "bad-signature",
        "revoked-publisher",
        "not-yet-valid",
        "expired",
        "expired-epoch",
        "epoch-ahead",
        "unreadable-policy",
        "not-authorised",
        "no-key-policy",
        "outside-key-policy",
        "forgotten-key",
        "too-many-keys",
        "bad-encapsulation",
        "not-its-signer",
        "unknown-key",
        "waiting-full",
        "unwanted-publisher",
        "too-old",
        "unsigned",
        "wrong-topic",
        "altered",
        "forged",
        "bad-padding",
        "replay",
    ];
    assert_eq!(Refusal::CODES, expected);
    assert_eq!(
        Refusal::CODES.iter().collect::<BTreeSet<_>>().len(),
        Refusal::CODES.len()
    );
    assert_eq!(Refusal::Altered.code(), "altered");
    assert_eq!(Refusal::UnsupportedSuite(3).code(), "unsupported-suite");
}
