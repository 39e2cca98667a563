//! Topic names and filters as MQTT 5.0 §4.7 and §4.8 have them, with their own examples.

use bytes::Bytes;
use proptest::prelude::*;
use smqtt_proto::{Level, MqttString, TextError, TopicError, TopicFilter, TopicName};

fn matches(filter: &str, topic: &str) -> bool {
    let filter = TopicFilter::new(filter).expect("a topic filter");
    filter.matches(&TopicName::new(topic).expect("a topic name"))
}

/// MQTT 5.0 §4.7.1.2
#[test]
fn multi_level_wildcards() {
    let filter = "sport/tennis/player1/#";
    assert!(matches(filter, "sport/tennis/player1"));
    assert!(matches(filter, "sport/tennis/player1/ranking"));
    assert!(matches(filter, "sport/tennis/player1/score/wimbledon"));
    assert!(!matches(filter, "sport/tennis/player10"));
    assert!(!matches(filter, "sport/tennis"));
    assert!(matches("sport/#", "sport"));
    assert!(matches("sport/#", "sport/"));
    assert!(matches("#", "sport/tennis"));
    assert!(matches("#", "/"));
}

/// MQTT 5.0 §4.7.1.3
#[test]
fn single_level_wildcards() {
    assert!(matches("sport/tennis/+", "sport/tennis/player1"));
    assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
    assert!(!matches("sport/+", "sport"));
    assert!(matches("sport/+", "sport/"));
    assert!(matches("+/+", "/finance"));
    assert!(matches("/+", "/finance"));
    assert!(!matches("+", "/finance"));
    assert!(matches("+/tennis/#", "sport/tennis"));
    assert!(matches("sport/+/player1", "sport/tennis/player1"));
    assert!(!matches("sport/+/player1", "sport/tennis/player2"));
}

/// [MQTT-4.7.2-1]
#[test]
fn topics_with_a_dollar_sign_are_not_for_leading_wildcards() {
    assert!(!matches("#", "$SYS/broker/uptime"));
    assert!(!matches("+/monitor/Clients", "$SYS/monitor/Clients"));
    assert!(!matches("+", "$SYS"));
    assert!(matches("$SYS/#", "$SYS/broker/uptime"));
    assert!(matches("$SYS/#", "$SYS"));
    assert!(matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
    assert!(matches("a/+", "a/$SYS"), "only at the beginning");
}

/// MQTT 5.0 §4.7.3: case, spaces and a leading slash make a difference (`[MQTT-4.7.3-4]`).
#[test]
fn topics_are_compared_as_they_are() {
    assert!(!matches("ACCOUNTS", "Accounts"));
    assert!(matches("Accounts payable", "Accounts payable"));
    assert!(!matches("/finance", "finance"));
    // Precomposed and combining: not normalised.
    assert!(!matches("\u{E9}", "e\u{301}"));
}

/// MQTT 5.0 §4.7.1.2, §4.7.1.3: what is not valid there.
#[test]
fn misplaced_wildcards_are_refused() {
    let error = |text: &str| TopicFilter::new(text).map(|_| ());
    assert_eq!(error("sport/tennis#"), Err(TopicError::MisplacedHash));
    assert_eq!(
        error("sport/tennis/#/ranking"),
        Err(TopicError::MisplacedHash)
    );
    assert_eq!(error("##"), Err(TopicError::MisplacedHash));
    assert_eq!(error("sport+"), Err(TopicError::MisplacedPlus));
    assert_eq!(error("++"), Err(TopicError::MisplacedPlus));
    assert_eq!(error("$share/g/a#"), Err(TopicError::MisplacedHash));
    for valid in [
        "#",
        "+",
        "+/tennis/#",
        "sport/+/player1",
        "/",
        "//",
        "+/+/#",
        "$SYS/#",
    ] {
        assert_eq!(error(valid), Ok(()));
    }
}

/// [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3]
#[test]
fn empty_null_and_overlong_topics_are_refused() {
    assert_eq!(TopicName::new("").map(|_| ()), Err(TopicError::Empty));
    assert_eq!(TopicFilter::new("").map(|_| ()), Err(TopicError::Empty));
    assert_eq!(
        TopicName::new("a\0").map(|_| ()),
        Err(TopicError::Text(TextError::Null))
    );
    assert_eq!(
        TopicFilter::new("a\0").map(|_| ()),
        Err(TopicError::Text(TextError::Null))
    );
    assert!(TopicName::new("x".repeat(65_535)).is_ok());
    let too_long = TopicError::Text(TextError::TooLong { length: 65_536 });
    assert_eq!(
        TopicName::new("x".repeat(65_536)).map(|_| ()),
        Err(too_long)
    );
    assert_eq!(
        TopicFilter::new("x".repeat(65_536)).map(|_| ()),
        Err(too_long)
    );
    let surrogate = Bytes::from_static(b"\xED\xA0\x80");
    assert_eq!(
        TopicName::from_bytes(surrogate).map(|_| ()),
        Err(TopicError::Text(TextError::NotUtf8))
    );
}

/// [MQTT-4.7.1-1], [MQTT-3.3.2-2]
#[test]
fn names_have_no_wildcards() {
    for text in ["+", "#", "a/+/b", "a+", "a/#"] {
        assert_eq!(
            TopicName::new(text).map(|_| ()),
            Err(TopicError::WildcardInName)
        );
    }
    let name = TopicName::new("$SYS//x").expect("a topic name");
    assert!(name.is_system() && !name.is_aliased());
    assert!(name.levels().eq(["$SYS", "", "x"]));
}

/// MQTT 5.0 §4.8.2
#[test]
fn shared_subscriptions_have_a_group_and_a_filter() {
    let filter = TopicFilter::new("$share/consumer1/sport/tennis/+").expect("a topic filter");
    assert!(filter.is_shared() && filter.has_wildcards());
    assert_eq!(filter.share_group(), Some("consumer1"));
    assert_eq!(filter.filter(), "sport/tennis/+");
    assert_eq!(filter.as_str(), "$share/consumer1/sport/tennis/+");
    assert!(filter.matches(&TopicName::new("sport/tennis/x").expect("a topic name")));
    let levels = [
        Level::Literal("sport"),
        Level::Literal("tennis"),
        Level::Single,
    ];
    assert!(filter.levels().eq(levels));

    let leading_slash = TopicFilter::new("$share/consumer1//finance").expect("a topic filter");
    assert_eq!(leading_slash.filter(), "/finance");
    assert!(
        TopicFilter::new("$share/g/#")
            .expect("a topic filter")
            .levels()
            .eq([Level::Multi])
    );
    assert!(
        !matches("$share/g/#", "$SYS/x"),
        "[MQTT-4.7.2-1] holds for the filter inside"
    );
    assert!(
        !TopicFilter::new("$shared/g/t")
            .expect("a topic filter")
            .is_shared()
    );
    for malformed in [
        "$share/",
        "$share/g",
        "$share//t",
        "$share/g/",
        "$share/+/t",
        "$share/g#/t",
    ] {
        assert_eq!(
            TopicFilter::new(malformed).map(|_| ()),
            Err(TopicError::MalformedShare),
            "{malformed}"
        );
    }
}

/// The rules of §4.7 once more, level by level, slowly and obviously.
fn matches_by_the_book(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => matches_by_the_book(filter, topic),
        ([level, filter @ ..], [name, topic @ ..]) if level == name => {
            matches_by_the_book(filter, topic)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_the_rules_level_by_level(
        filter in "[ab+/]{0,4}(/?#)?",
        topic in "\\$?[ab/]{1,6}",
    ) {
        let Ok(parsed) = TopicFilter::new(filter.as_str()) else { return Ok(()) };
        let levels: Vec<&str> = filter.split('/').collect();
        let names: Vec<&str> = topic.split('/').collect();
        let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
        let expected = !hidden && matches_by_the_book(&levels, &names);
        prop_assert_eq!(parsed.matches(&TopicName::new(topic.as_str()).expect("no wildcards")), expected);
    }

    #[test]
    fn any_text_is_a_filter_or_refused(text in any::<String>()) {
        if let Ok(filter) = TopicFilter::new(text.as_str()) {
            prop_assert_eq!(filter.as_str(), text.as_str());
            prop_assert_eq!(filter.has_wildcards(), filter.levels().any(|level| !matches!(level, Level::Literal(_))));
        }
        prop_assert_eq!(MqttString::new(text.as_str()).is_err(), text.contains('\0'));
    }
}
