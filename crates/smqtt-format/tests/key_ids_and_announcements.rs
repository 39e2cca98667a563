//! Key ids have one spelling; announcements stand where a reader's filter finds them.

use proptest::prelude::*;
use smqtt_format::{KeyId, announce};

#[test]
fn a_key_id_is_the_start_of_the_frames_sha_256() {
    // SHA-256("abc"), FIPS 180-2 appendix B.1.
    assert_eq!(KeyId::of(b"abc").to_string(), "ba7816bf8f01cfea");
}

#[test]
fn key_ids_have_one_spelling() {
    let kid: KeyId = "ba7816bf8f01cfea".parse().expect("valid");
    assert_eq!(kid, KeyId::of(b"abc"));
    for wrong in [
        "",
        "ba7816bf8f01cfe",
        "ba7816bf8f01cfeaa",
        "BA7816BF8F01CFEA",
        "+a7816bf8f01cfea",
        "ba7816bf8f01cfeé",
    ] {
        assert!(wrong.parse::<KeyId>().is_err(), "{wrong}");
    }
}

#[test]
fn announcements_are_taken_apart() {
    let at = |topic| announce::parse(topic).map(|(topic, _)| topic);
    assert_eq!(at("smqtt/keys/a/b/ba7816bf8f01cfea"), Some("a/b"));
    // A topic may end or start with an empty level, and may itself look like anything.
    assert_eq!(at("smqtt/keys/a//ba7816bf8f01cfea"), Some("a/"));
    assert_eq!(at("smqtt/keys//ba7816bf8f01cfea"), None);
    assert_eq!(at("smqtt/keys///ba7816bf8f01cfea"), Some("/"));
    assert_eq!(at("smqtt/keys/ba7816bf8f01cfea"), None);
    assert_eq!(at("smqtt/keys/a/BA7816BF8F01CFEA"), None);
    assert_eq!(at("smqtt/key/a/ba7816bf8f01cfea"), None);
    assert_eq!(at("a/b"), None);
}

#[test]
fn the_longest_topic_has_an_announcement_that_mqtt_can_carry() {
    let longest = "t".repeat(announce::MAX_TOPIC_LEN);
    assert_eq!(announce::topic(&longest, &KeyId([0; 8])).len(), 65_535);
}

#[test]
fn reserved_topics_are_recognised() {
    assert!(announce::is_reserved("smqtt/authority/state"));
    assert!(announce::is_reserved("smqtt"));
    assert!(!announce::is_reserved("smqttt/a"));
    assert!(!announce::is_reserved("a/smqtt/b"));
}

#[test]
fn filters_of_announcements() {
    for (filter, expected) in [
        ("a", "smqtt/keys/a/+"),
        ("+", "smqtt/keys/+/+"),
        ("#", "smqtt/keys/#"),
        ("a/#", "smqtt/keys/a/#"),
        ("/", "smqtt/keys///+"),
        ("$share/g/a/#", "smqtt/keys/a/#"),
        ("$share/g/#", "smqtt/keys/#"),
        ("$SYS/x", "smqtt/keys/$SYS/x/+"),
    ] {
        assert_eq!(announce::filter(filter), expected);
    }
}

/// MQTT's matching, for topics and filters without `$` (MQTT 5 §4.7).
fn matches(filter: &str, topic: &str) -> bool {
    let mut topic = topic.split('/');
    let mut filter = filter.split('/');
    loop {
        match (filter.next(), topic.next()) {
            // "a/#" matches "a" too.
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(name)) if level == name => {}
            (None, None) => return true,
            (Some(_), _) | (None, Some(_)) => return false,
        }
    }
}

proptest! {
    #[test]
    fn announcements_round_trip(topic in "[a-c/]{1,12}", kid in any::<[u8; 8]>()) {
        let kid = KeyId(kid);
        let announced = announce::topic(&topic, &kid);
        prop_assert_eq!(announce::parse(&announced), Some((&*topic, kid)));
    }

    /// A reader gets the announcements of all topics that its filter matches; of others only where the filter ends in
    /// `+/#`, whose `+` then matches the key id of the level above.
    #[test]
    fn a_readers_filter_finds_the_announcements_of_its_topics(
        topic in "[ab](/[ab]){0,3}", filter in "[ab+](/[ab+]){0,3}(/#)?",
    ) {
        let announced = announce::topic(&topic, &KeyId([0xab; 8]));
        let found = matches(&announce::filter(&filter), &announced);
        prop_assert!(found || !matches(&filter, &topic));
        prop_assert!(!found || matches(&filter, &topic) || filter.ends_with("+/#"));
    }
}
