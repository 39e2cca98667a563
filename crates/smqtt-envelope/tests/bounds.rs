//! What a hostile broker, and a hostile registered device, can make a reader hold and compute; and that neither opens anything twice.

mod world;

use smqtt_envelope::{Event, KeyId, Opener, OpenerConfig, Refusal};
use smqtt_format::{SealedMessage, Sequence};
use world::{NOW, Reader, TECHNICIAN, World, at, key_refused, nothing, opened, refused};

/// A sealed message under a key that nobody has.
fn junk(n: u32) -> Vec<u8> {
    let mut kid = [0xff; 8];
    kid[..4].copy_from_slice(&n.to_be_bytes());
    let mut out = Vec::new();
    SealedMessage::write_head(&mut out, &KeyId(kid), Sequence::FIRST, 20);
    out.extend_from_slice(&[0; 36]);
    out
}

fn codes(events: Vec<Event>) -> Vec<&'static str> {
    events
        .into_iter()
        .map(|event| match event {
            Event::Refused { reason, .. } | Event::KeyRefused { reason, .. } => reason.code(),
            Event::Opened(_) => "opened",
            other => panic!("unexpected {other:?}"),
        })
        .collect()
}

#[test]
fn waiting_messages_are_bounded_and_the_longest_waiting_go_first() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let config = OpenerConfig {
        waiting_messages: 100,
        ..OpenerConfig::default()
    };
    let mut opener = world.opener_with(TECHNICIAN, config);
    for n in 0..100 {
        nothing(opener.take("a", &junk(n)));
    }
    // The broker's flood does not keep out what is new,
    assert_eq!(refused(opener.take("a", &message)), Refusal::WaitingFull);
    assert_eq!(opener.waiting(), 100);
    // whose frame comes in time.
    assert_eq!(codes(opener.announce(&announcement)), ["opened"]);
    for n in 100..10_000 {
        opener.take("a", &junk(n));
        assert!(opener.waiting() <= 100);
    }
    assert_eq!(opener.counters().verifications, 1);
}

#[test]
fn waiting_bytes_are_bounded() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let big = world.seal(&mut sealer, "a", &[0; 10_000]);
    let config = OpenerConfig {
        waiting_bytes: 5_000,
        ..OpenerConfig::default()
    };
    let mut opener = world.opener_with(TECHNICIAN, config);
    nothing(opener.take("a", &junk(1)));
    assert_eq!(
        refused(opener.take("a", &big.message)),
        Refusal::WaitingFull
    );
    assert_eq!(opener.waiting(), 1);
}

#[test]
fn unverified_frames_displace_no_key_and_cost_no_pairing() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let first = world.seal(&mut sealer, "a", b"x");
    let announcement = first.announce.expect("the first message");
    let config = OpenerConfig {
        refused_frames: 8,
        ..OpenerConfig::default()
    };
    let mut opener = world.opener_with(TECHNICIAN, config);
    nothing(opener.announce(&announcement));
    opened(opener.take("a", &first.message));
    for n in 0..100u8 {
        let mut forged = announcement.frame.to_vec();
        let length = forged.len();
        forged[length - 1] ^= n + 1;
        assert_eq!(
            key_refused(opener.announce_frame("a", &forged)),
            Refusal::BadSignature
        );
    }
    assert_eq!(opener.counters().decapsulations, 1);
    let second = world.seal(&mut sealer, "a", b"x");
    opened(opener.take("a", &second.message));
}

#[test]
fn a_frame_that_comes_again_costs_nothing_again() {
    let mut world = World::new();
    let device = world.device("d");
    let attacker = world.device("attacker");
    let mut sealer = world.sealer(&device);
    let first = world.seal(&mut sealer, "a", b"x");
    let announcement = first.announce.expect("the first message");
    let mut forged = announcement.frame.to_vec();
    *forged.last_mut().expect("not empty") ^= 1;
    let stolen = world.signed_anew(&announcement.frame, &attacker, |_| {});

    let mut opener = world.opener();
    for round in 0..10 {
        opener.announce(&announcement);
        opener.announce_frame("a", &forged);
        opener.announce_frame("b", &stolen);
        let inline = world.seal_inline(&mut sealer, "a", b"x");
        opener.take("a", &inline.message);
        let counters = opener.counters();
        assert_eq!(
            (counters.verifications, counters.decapsulations),
            (3, 2),
            "round {round}"
        );
    }
    assert_eq!(opener.counters().keys_refused.total(), 2);
    assert_eq!(opener.counters().opened, 10);
}

#[test]
fn announcements_at_any_number_of_topics_are_only_hints() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let mut opener = world.opener();
    for n in 0..1000 {
        nothing(opener.announce_frame(&format!("elsewhere/{n}"), &announcement.frame));
    }
    let derivations = opener.counters().derivations;
    // A message that does not open is tried at a bounded number of other topics.
    let mut altered = message.clone();
    *altered.last_mut().expect("not empty") ^= 1;
    assert_eq!(refused(opener.take("a", &altered)), Refusal::Altered);
    assert!(opener.counters().derivations - derivations <= 9);
    opened(opener.take("a", &message));
}

#[test]
fn clearing_an_announcement_takes_no_key_away() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let mut opener = world.opener();
    nothing(opener.announce(&announcement));
    nothing(opener.take(&announcement.topic, b""));
    nothing(opener.take_retained(&announcement.topic, b""));
    opened(opener.take("a", &message));
    assert_eq!(opener.counters().cleared, 2);
}

#[test]
fn other_reserved_topics_are_ignored() {
    let mut world = World::new();
    let mut opener = world.opener();
    for topic in ["smqtt/authority/state", "smqtt", "smqtt/keys/a/nohex"] {
        nothing(opener.take(topic, b"anything"));
    }
    assert_eq!(opener.counters().ignored, 3);
}

#[test]
fn a_publisher_can_make_a_reader_decapsulate_only_so_often() {
    let mut world = World::new();
    let hostile = world.device("hostile");
    let honest = world.device("honest");
    let config = OpenerConfig {
        new_keys_per_minute: 5,
        ..OpenerConfig::default()
    };
    let mut opener = world.opener_with(TECHNICIAN, config);
    // The start of a minute, so that the test crosses none.
    let now = NOW / 60 * 60;
    let mut last = None;
    for n in 0..20 {
        let (announcement, message) = world.first(&hostile, "a", b"x");
        let events = opener.take_at(&announcement.topic, &announcement.frame, false, now);
        if n < 5 {
            nothing(events);
        } else {
            assert_eq!(key_refused(events), Refusal::TooManyKeys);
            let events = opener.take_at("a", &message, false, now);
            assert_eq!(refused(events), Refusal::TooManyKeys);
        }
        last = Some((announcement, message));
    }
    assert_eq!(opener.counters().decapsulations, 5);
    // Others are not affected,
    let (announcement, message) = world.first(&honest, "a", b"x");
    nothing(opener.take_at(&announcement.topic, &announcement.frame, false, now));
    opened(opener.take_at("a", &message, false, now));
    // and the device itself is heard again later.
    let (announcement, message) = last.expect("twenty");
    let later = now + 300;
    nothing(opener.take_at(&announcement.topic, &announcement.frame, false, later));
    opened(opener.take_at("a", &message, false, later));
}

/// Keys, each used for one message, of one device; created a second apart.
fn used_keys(world: &mut World, name: &str, count: u64) -> Vec<(u64, Vec<u8>)> {
    let device = world.device(name);
    (0..count)
        .map(|n| {
            let mut sealer = world.sealer(&device);
            let sealed = sealer
                .seal_inline("a", b"x", at(NOW + n), &mut world.rng)
                .expect("sealed");
            (NOW + n, sealed.message)
        })
        .collect()
}

fn open_all(opener: &mut Opener, messages: &[(u64, Vec<u8>)]) -> Vec<&'static str> {
    messages
        .iter()
        .flat_map(|(seconds, message)| codes(opener.take_at("a", message, false, *seconds)))
        .collect()
}

#[test]
fn a_publishers_oldest_keys_make_room_and_are_never_taken_again() {
    let mut world = World::new();
    let many = used_keys(&mut world, "restless", 12);
    let few = used_keys(&mut world, "calm", 1);
    let config = OpenerConfig {
        key_bytes_per_publisher: 8_000,
        ..OpenerConfig::default()
    };
    let mut opener = world.opener_with(TECHNICIAN, config);
    assert_eq!(open_all(&mut opener, &few), ["opened"]);
    assert_eq!(open_all(&mut opener, &many), ["opened"; 12]);
    let forgotten = opener.counters().forgotten;
    assert!(forgotten > 0, "the bound was reached");

    // Replayed: what is known is a replay, what is forgotten is refused as forgotten. Nothing is opened twice.
    let again: Vec<_> = open_all(&mut opener, &many)
        .into_iter()
        .filter(|code| *code != "forgotten-key" && *code != "replay")
        .collect();
    // A frame that is forgotten is told of, and its message refused.
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(
        opener.counters().keys_refused.get("forgotten-key"),
        forgotten
    );
    // The calm one's key is untouched.
    assert_eq!(open_all(&mut opener, &few), ["replay"]);
}

#[test]
fn at_the_bound_of_all_the_heaviest_publisher_makes_room() {
    let mut world = World::new();
    let few = used_keys(&mut world, "calm", 2);
    let many = used_keys(&mut world, "restless", 12);
    let config = OpenerConfig {
        key_bytes: 12_000,
        key_bytes_per_publisher: 12_000,
        ..OpenerConfig::default()
    };
    let mut opener = world.opener_with(TECHNICIAN, config);
    assert_eq!(open_all(&mut opener, &few), ["opened"; 2]);
    assert_eq!(open_all(&mut opener, &many), ["opened"; 12]);
    assert!(opener.counters().forgotten > 0);
    assert_eq!(open_all(&mut opener, &few), ["replay"; 2]);
}

#[test]
fn topics_of_one_key_are_bounded_by_the_same_memory() {
    let mut world = World::new();
    let device = world.device("d");
    let mut sealer = world.sealer(&device);
    let config = OpenerConfig {
        key_bytes_per_publisher: 20_000,
        ..OpenerConfig::default()
    };
    let mut opener = world.opener_with(TECHNICIAN, config);
    let mut results = Vec::new();
    let mut messages = Vec::new();
    for n in 0..64 {
        let topic = format!("topic/{n}");
        let sealed = world.seal(&mut sealer, &topic, b"x");
        if n == 0 {
            nothing(opener.announce(&sealed.announce.expect("a new topic")));
        }
        results.extend(codes(opener.take(&topic, &sealed.message)));
        messages.push((topic, sealed.message));
    }
    let open = results.iter().filter(|code| **code == "opened").count();
    assert!(open > 5 && open < 64, "{open} of 64 topics");
    assert!(
        results[open..].iter().all(|code| *code == "too-many-keys"),
        "{results:?}"
    );
    // What was opened is not opened again.
    for (topic, message) in &messages[..open] {
        assert_eq!(codes(opener.take(topic, message)), ["replay"]);
    }
}

#[test]
fn ended_keys_are_dropped_and_refused_as_expired() {
    let mut world = World::new();
    let device = world.device("d");
    let (announcement, message) = world.first(&device, "a", b"x");
    let mut opener = world.opener();
    nothing(opener.announce(&announcement));
    opened(opener.take("a", &message));
    let much_later = NOW + 30 * world::DAY;
    let inline = [&announcement.frame[..], &message].concat();
    let events = opener.take_at("a", &inline, false, much_later);
    assert_eq!(codes(events), ["expired", "expired"]);
}
