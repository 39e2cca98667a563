//! Topic names and topic filters: 4.7 of MQTT 5.0.

use super::harness::Broker;
use super::v5_wire::*;

/// A filter that is none is refused in the SUBACK, or ends the connection.
#[track_caller]
fn no_filter(port: u16, filter: &str) {
    for bytes in [subscribe(1, &[], &[(filter, 0)]), unsubscribe(1, &[filter])] {
        let mut wire = Wire::join(port, "c");
        wire.send(&bytes);
        let answer = wire.answer();
        match answer.first {
            0xE0 => {
                let known = [0x81, 0x82, 0x8F].contains(&answer.reasons[0]);
                assert!(known, "{filter:?}: {answer:?}");
                wire.expect_closed();
            }
            SUBACK | UNSUBACK => assert_eq!(answer.reasons, [0x8F], "{filter:?}"),
            _ => panic!("{filter:?}: {answer:?}"),
        }
    }
}

/// A topic that is none ends the connection.
#[track_caller]
fn no_topic(port: u16, topic: &str) {
    let mut wire = Wire::join(port, "c");
    wire.send(&publish(0, topic, 0, &[], "x"));
    let answer = wire.answer();
    assert_eq!(answer.first, 0xE0, "{topic:?}");
    assert!([0x81, 0x82, 0x90].contains(&answer.reasons[0]), "{topic:?}");
    wire.expect_closed();
}

/// Says which of these topics a subscription of the filter gets.
fn matched<'a>(port: u16, filter: &str, topics: &[&'a str]) -> Vec<&'a str> {
    let mut subscriber = Wire::join(port, "subscriber");
    let end = "the/very/end";
    subscriber.listen(filter, 0);
    subscriber.listen(end, 0);
    let mut publisher = Wire::join(port, "publisher");
    for topic in topics {
        publisher.send(&publish(0, topic, 0, &[], "x"));
    }
    // A last one, which goes the same way.
    publisher.say(end, "");
    let mut got = Vec::new();
    loop {
        let message = subscriber.message();
        if message.payload.is_empty() {
            break;
        }
        got.push(message.topic);
    }
    subscriber.leave();
    let one = |topic: &&&str| got.iter().any(|other| other == **topic);
    assert_eq!(topics.iter().filter(one).count(), got.len());
    topics.iter().filter(one).copied().collect()
}

#[test]
fn topic_names_have_no_wildcards() {
    let broker = Broker::open();
    for topic in ["#", "+", "a/#", "a/+/b", "a+", "#a"] {
        no_topic(broker.port(), topic);
    }
}

#[test]
fn a_multi_level_wildcard_is_the_whole_last_level() {
    let broker = Broker::open();
    for filter in ["a/#/b", "#/", "##", "a#", "a/b#", "#a"] {
        no_filter(broker.port(), filter);
    }
    let topics = ["a", "a/", "a/b", "a/b/c", "ab", "b", "/a"];
    assert_eq!(
        matched(broker.port(), "a/#", &topics),
        ["a", "a/", "a/b", "a/b/c"]
    );
    assert_eq!(matched(broker.port(), "#", &topics), topics);
}

#[test]
fn a_single_level_wildcard_is_a_whole_level() {
    let broker = Broker::open();
    for filter in ["a+", "+a", "a/b+", "a/+b/c", "++", "a/++"] {
        no_filter(broker.port(), filter);
    }
    let topics = ["a", "a/", "a/b", "a/b/c", "/b", "c/b", "/"];
    let port = broker.port();
    assert_eq!(matched(port, "+", &topics), ["a"]);
    assert_eq!(matched(port, "a/+", &topics), ["a/", "a/b"]);
    assert_eq!(matched(port, "+/b", &topics), ["a/b", "/b", "c/b"]);
    assert_eq!(
        matched(port, "+/+", &topics),
        ["a/", "a/b", "/b", "c/b", "/"]
    );
    assert_eq!(
        matched(port, "+/b/#", &topics),
        ["a/b", "a/b/c", "/b", "c/b"]
    );
}

#[test]
fn a_leading_wildcard_does_not_reach_topics_of_the_broker() {
    let broker = Broker::configured("[sys]\ninterval_seconds = 1\n");
    let mut all = Wire::join(broker.port(), "all");
    for filter in ["#", "+/#", "+/broker/#"] {
        all.listen(filter, 0);
    }
    let mut sys = Wire::join(broker.port(), "sys");
    sys.listen("$SYS/#", 0);
    assert!(sys.message().topic.starts_with("$SYS/"));
    all.expect_silence();
    // Nor topics that clients made with a dollar sign.
    assert_eq!(matched(broker.port(), "+/x", &["$other/x", "a/x"]), ["a/x"]);
    assert_eq!(
        matched(broker.port(), "$other/+", &["$other/x", "a/x"]),
        ["$other/x"]
    );
}

#[test]
fn topics_have_at_least_one_character() {
    let broker = Broker::open();
    no_topic(broker.port(), "");
    no_filter(broker.port(), "");
    assert_eq!(matched(broker.port(), "/", &["/", "//"]), ["/"]);
}

#[test]
fn topics_have_no_null_character() {
    let broker = Broker::open();
    for topic in ["\0", "a\0", "a/\0/b"] {
        no_topic(broker.port(), topic);
        no_filter(broker.port(), topic);
    }
}

#[test]
fn topics_of_65535_bytes_are_topics() {
    let broker = Broker::open();
    let long = "x".repeat(65_535);
    assert_eq!(matched(broker.port(), &long, &[&long]), [&long]);
}

#[test]
fn topics_are_compared_as_they_are() {
    let broker = Broker::open();
    // Case, spaces, empty levels, and two ways to write the same letter.
    let topics = [
        "caf\u{e9}",
        "cafe\u{301}",
        "CAF\u{c9}",
        " caf\u{e9}",
        "caf\u{e9}/",
        "/caf\u{e9}",
    ];
    for topic in topics {
        assert_eq!(matched(broker.port(), topic, &topics), [topic]);
    }
}
