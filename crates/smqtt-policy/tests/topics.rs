//! `topic matches` is MQTT's matching, through attributes that a message carries.

mod generators;

use generators::{filter, mqtt_matches, topic};
use proptest::prelude::*;
use smqtt_policy::{AttributeSet, Policy};

fn policy(filter: &str) -> Policy {
    format!("topic matches \"{filter}\"")
        .parse()
        .unwrap_or_else(|error| panic!("{filter}: {error}"))
}

fn at(topic: &str) -> AttributeSet {
    AttributeSet::new()
        .with_topic(topic)
        .unwrap_or_else(|error| panic!("{topic}: {error}"))
}

proptest! {
    #[test]
    fn filters_match_as_mqtt_says(filter in filter(), topic in topic()) {
        let expected = mqtt_matches(&filter, &topic);
        let policy = policy(&filter);
        prop_assert_eq!(policy.evaluate(&at(&topic)), expected, "{} {}", filter, topic);
        prop_assert_eq!(policy.formula().evaluate(&at(&topic)), expected, "{} {}", filter, topic);
    }

    /// Absorption rests on this: a filter that goes matched nothing that the other one does not.
    #[test]
    fn an_alternative_of_filters_matches_what_either_does(
        a in filter(), b in filter(), topic in topic(),
    ) {
        let either: Policy =
            format!("topic matches \"{a}\" or topic matches \"{b}\"").parse().expect("parses");
        let expected = mqtt_matches(&a, &topic) || mqtt_matches(&b, &topic);
        prop_assert_eq!(either.formula().evaluate(&at(&topic)), expected);
        let both: Policy =
            format!("topic matches \"{a}\" and topic matches \"{b}\"").parse().expect("parses");
        let expected = mqtt_matches(&a, &topic) && mqtt_matches(&b, &topic);
        prop_assert_eq!(both.formula().evaluate(&at(&topic)), expected);
    }
}

/// The examples of MQTT 5.0 §4.7.
#[test]
fn the_examples_of_the_standard_hold() {
    for (filter, topic, expected) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/ranking",
            true,
        ),
        (
            "sport/tennis/player1/#",
            "sport/tennis/player1/score/wimbledon",
            true,
        ),
        ("sport/#", "sport", true),
        ("#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("+/tennis/#", "sport/tennis", true),
        ("sport/+/player1", "sport/tennis/player1", true),
        ("#", "$SYS/monitor/Clients", false),
        ("+/monitor/Clients", "$SYS/monitor/Clients", false),
        ("$SYS/#", "$SYS/monitor/Clients", true),
        ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
        ("a/+/#", "a", false),
        ("a/+/#", "a/b", true),
        ("a/+/+/#", "a/b", false),
        ("ACCOUNTS", "Accounts", false),
    ] {
        assert_eq!(
            mqtt_matches(filter, topic),
            expected,
            "the test's own matcher: {filter} {topic}"
        );
        assert_eq!(
            policy(filter).evaluate(&at(topic)),
            expected,
            "{filter} {topic}"
        );
        assert_eq!(
            policy(filter).formula().evaluate(&at(topic)),
            expected,
            "{filter} {topic}"
        );
    }
}

#[test]
fn a_filter_costs_a_row_for_each_named_level_and_one_for_the_depth() {
    for (filter, rows) in [
        ("house/+/temperature", 3),
        ("house/#", 1),
        ("#", 1),
        ("+", 2),
        ("+/a/#", 2),
        ("a/+/#", 1 + 31),
    ] {
        assert_eq!(policy(filter).formula().rows(), rows, "{filter}");
    }
    assert_eq!(at("house/kitchen/temperature").len(), 3 + 2);
    assert_eq!(at("$SYS/x").len(), 2 + 1);
}

#[test]
fn topics_are_compared_by_code_point() {
    assert!(!policy("a/u\u{308}").evaluate(&at("a/\u{fc}")));
    assert!(policy("a/u\u{308}").formula().evaluate(&at("a/u\u{308}")));
    assert_eq!(
        policy("a/u\u{308}").as_str(),
        "topic matches \"a/u\u{308}\""
    );
}

#[test]
fn only_topic_names_label_a_message() {
    for bad in ["", "a/+", "a/#", "a\0b", "a\nb"] {
        assert!(AttributeSet::new().with_topic(bad).is_err(), "{bad:?}");
    }
    assert!(AttributeSet::new().with_topic(&["a"; 32].join("/")).is_ok());
    assert!(
        AttributeSet::new()
            .with_topic(&["a"; 33].join("/"))
            .is_err()
    );
    assert!(AttributeSet::new().with_topic(&"a".repeat(65_535)).is_ok());
    assert!(AttributeSet::new().with_topic(&"a".repeat(65_536)).is_err());
    assert!(
        format!("topic matches {}", ["a"; 33].join("/"))
            .parse::<Policy>()
            .is_err()
    );
}

#[test]
fn a_policy_tells_whether_it_asks_for_a_topic() {
    assert!(policy("a/#").asks_for_topic());
    assert!(
        "a or 2 of (b, c, topic matches d)"
            .parse::<Policy>()
            .expect("parses")
            .asks_for_topic()
    );
    assert!(
        !"topics = a"
            .parse::<Policy>()
            .expect("parses")
            .asks_for_topic()
    );
}

#[test]
fn a_filter_ends_where_a_list_goes_on() {
    let policy: Policy = "2 of (topic matches a/#, (topic matches b/+), c)"
        .parse()
        .expect("parses");
    assert_eq!(
        policy.as_str(),
        "2 of (c, topic matches a/#, topic matches b/+)"
    );
}
