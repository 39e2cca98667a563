//! Topic names and filters: 4.7 of MQTT 3.1.1.

use super::harness::Broker;
use super::v3_wire::*;

/// Which of the topics a subscriber to the filter gets.
fn selected<'a>(broker: &Broker, filter: &str, topics: &[&'a str]) -> Vec<&'a str> {
    let mut subscriber = Wire::clean(broker.port(), "sub");
    subscriber.subscribe(filter, 0);
    if filter != "the end" {
        subscriber.subscribe("the end", 0);
    }
    let mut publisher = Wire::clean(broker.port(), "pub");
    for topic in topics.iter().copied().chain(["the end"]) {
        publisher.send(&publish(0, topic, None, topic.as_bytes()));
    }
    let mut got = Vec::new();
    loop {
        let packet = subscriber.receive();
        if packet == publish(0, "the end", None, b"the end") {
            return got;
        }
        let topic = topics
            .iter()
            .find(|topic| packet == publish(0, topic, None, topic.as_bytes()));
        got.push(*topic.unwrap_or_else(|| panic!("not published: {}", hex(&packet))));
    }
}

fn closes(port: u16, bytes: &[u8]) {
    let mut wire = Wire::clean(port, "violator");
    wire.send_in_vain(bytes);
    if let Some(answer) = wire.next() {
        panic!("{} was answered with {}", hex(bytes), hex(&answer));
    }
}

#[test]
fn wildcards_select_by_whole_levels() {
    let broker = Broker::open();
    let topics = [
        "a", "/a", "a/", "a/b", "a/b/c", "b/b", "/", "//", "A/b", "a/ b",
    ];
    for (filter, expected) in [
        ("a/#", &["a", "a/", "a/b", "a/b/c", "a/ b"][..]),
        ("+", &["a"]),
        ("/+", &["/a", "/"]),
        ("+/+", &["/a", "a/", "a/b", "b/b", "/", "A/b", "a/ b"]),
        ("+/b/#", &["a/b", "a/b/c", "b/b", "A/b"]),
        ("a/+", &["a/", "a/b", "a/ b"]),
        ("/#", &["/a", "/", "//"]),
        ("a/+/c", &["a/b/c"]),
        ("a/b", &["a/b"]),
    ] {
        assert_eq!(selected(&broker, filter, &topics), expected, "{filter}");
    }
}

#[test]
fn misplaced_wildcards_close_the_connection() {
    let broker = Broker::open();
    for filter in [
        "a#", "#a", "a/#/b", "#/a", "##", "a+", "+a", "a/b+", "a/+b/c", "++", "a/##", "+#",
    ] {
        closes(broker.port(), &subscribe(1, &[(filter, 0)]));
        closes(broker.port(), &unsubscribe(1, &[filter]));
    }
}

#[test]
fn leading_wildcards_do_not_match_topics_with_a_dollar_sign() {
    let broker = Broker::open();
    let topics = ["$other/x", "$other", "a/$other"];
    for (filter, expected) in [
        ("+/x", &[][..]),
        ("+", &[]),
        ("+/+", &["a/$other"]),
        ("$other/#", &["$other/x", "$other"]),
        ("$other/+", &["$other/x"]),
        ("$other/x", &["$other/x"]),
    ] {
        assert_eq!(selected(&broker, filter, &topics), expected, "{filter}");
    }
    // Nor retained ones, the broker's own among them.
    let mut publisher = Wire::clean(broker.port(), "pub");
    publisher.send(&publish(1, "$other/x", None, b"kept"));
    publisher.settle();
    let mut wire = Wire::clean(broker.port(), "late");
    wire.subscribe("#", 0);
    wire.subscribe("+/#", 0);
    wire.settle();
    wire.subscribe("$other/#", 0);
    wire.expect_publish(1, "$other/x", b"kept");
}

#[test]
fn topics_are_compared_as_they_are() {
    let broker = Broker::open();
    // One letter composed and decomposed, case, spaces, empty levels, dots, percent signs.
    let topics = [
        "\u{E9}",
        "e\u{301}",
        "t",
        "T",
        " t",
        "t ",
        "t/",
        "/t",
        "t//",
        "./t",
        "t/.",
        "%74",
        "\u{FEFF}t",
    ];
    for topic in topics {
        assert_eq!(selected(&broker, topic, &topics), [topic]);
    }
}

#[test]
fn empty_topics_and_filters_close_the_connection() {
    let broker = Broker::open();
    closes(broker.port(), &publish(0, "", None, b"x"));
    closes(broker.port(), &subscribe(1, &[("", 0)]));
    closes(broker.port(), &unsubscribe(1, &[""]));
}

#[test]
fn topics_of_65535_bytes_are_relayed_whole() {
    let broker = Broker::configured("[limits]\nmax_packet_bytes = 200000\n");
    let longest = "x".repeat(65_535);
    let mut wire = Wire::clean(broker.port(), "c");
    wire.subscribe(&longest, 0);
    wire.send(&publish(0, &longest, None, b"payload"));
    wire.expect_publish(0, &longest, b"payload");
    let mut filter = longest[..65_533].to_owned();
    filter.push_str("/#");
    wire.subscribe(&filter, 0);
    wire.settle();
}
