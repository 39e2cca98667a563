//! One policy has one text, and reading the text changes nothing.

mod generators;

use generators::{Written, written};
use proptest::prelude::*;
use smqtt_policy::{Error, Policy};

fn canonical(text: &str) -> String {
    text.parse::<Policy>()
        .unwrap_or_else(|error| panic!("{}", error.render(text)))
        .to_string()
}

proptest! {
    #[test]
    fn reading_the_canonical_text_gives_it_again(policy in written()) {
        if let Ok(policy) = policy.text().parse::<Policy>() {
            let again: Policy = policy.as_str().parse().expect("canonical text parses");
            prop_assert_eq!(again.as_str(), policy.as_str());
            prop_assert_eq!(again.formula(), policy.formula());
        }
    }

    #[test]
    fn what_a_peer_sends_has_the_formula_that_the_sender_used(policy in written()) {
        if let Ok(policy) = policy.text().parse::<Policy>() {
            let received = Policy::from_canonical(policy.as_str()).expect("canonical text is accepted");
            prop_assert_eq!(received.as_str(), policy.as_str());
            prop_assert_eq!(received.formula(), policy.formula());
        }
    }

    #[test]
    fn the_order_of_operands_does_not_matter(policy in written(), seed in any::<u64>()) {
        let shuffled = shuffle(&policy, &mut { seed });
        let (a, b) = (policy.text().parse::<Policy>(), shuffled.text().parse::<Policy>());
        prop_assert_eq!(a.ok(), b.ok());
    }

    #[test]
    fn repetition_does_not_matter(policy in written()) {
        let twice = Written::And(vec![policy.clone(), Written::Or(vec![policy.clone(), policy.clone()])]);
        prop_assert_eq!(policy.text().parse::<Policy>().ok(), twice.text().parse::<Policy>().ok());
    }

    #[test]
    fn only_canonical_text_is_taken_from_a_peer(policy in written()) {
        let text = policy.text();
        if let Ok(received) = Policy::from_canonical(&text) {
            prop_assert_eq!(received.as_str(), text);
        }
    }
}

fn shuffle(policy: &Written, state: &mut u64) -> Written {
    let mut reorder = |of: &[Written]| {
        let mut of: Vec<Written> = of.iter().map(|part| shuffle(part, state)).collect();
        for last in (1..of.len()).rev() {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            of.swap(last, (*state >> 33) as usize % (last + 1));
        }
        of
    };
    match policy {
        Written::And(of) => Written::And(reorder(of)),
        Written::Or(of) => Written::Or(reorder(of)),
        Written::AtLeast(k, of) => Written::AtLeast(*k, reorder(of)),
        Written::Not(inner) => Written::Not(Box::new(shuffle(inner, state))),
        other => other.clone(),
    }
}

#[test]
fn spelling_is_unified() {
    for (written, expected) in [
        ("role=doctor", "role = doctor"),
        ("  ROLE = 'doctor'\n", "ROLE = doctor"),
        ("\"role\" = \"doctor\"", "role = doctor"),
        ("a AND b Or c", "c or (a and b)"),
        ("(((a)))", "a"),
        ("\"and\"", "\"and\""),
        ("dept = \"OR\"", "dept = \"OR\""),
        ("room = \"101\"", "room = \"101\""),
        ("room = 101", "room = 101"),
        ("room = 007", "room = 007"),
        ("name = 'say \"hi\" \\\\'", "name = \"say \\\"hi\\\" \\\\\""),
        ("city = M\u{fc}nchen", "city = \"M\u{fc}nchen\""),
        ("city = Mu\u{308}nchen", "city = \"M\u{fc}nchen\""),
        ("fever = true", "fever = true"),
        ("mac = aa:bb:cc", "mac = aa:bb:cc"),
        ("at = 2025-01-02T03:04:00Z", "at = 2025-01-02T03:04Z"),
        ("at > 07:59:59", "at >= 08:00"),
        ("1 of (a, b)", "a or b"),
        ("2 of (a, b)", "a and b"),
        ("2 of (c, b, a)", "2 of (a, b, c)"),
        ("dept in (icu, er)", "dept = er or dept = icu"),
        ("topic matches \"a/+/b\"", "topic matches a/+/b"),
        ("topic matches 'a b/#'", "topic matches \"a b/#\""),
        ("\"topic\" = a", "\"topic\" = a"),
    ] {
        assert_eq!(canonical(written), expected, "{written}");
    }
}

#[test]
fn superfluous_parts_go() {
    for (written, expected) in [
        ("a and a", "a"),
        ("a or (a and b)", "a"),
        ("a and (a or b)", "a"),
        ("(a and b) or (c and b and a)", "a and b"),
        ("a and (b and (c and d))", "a and b and c and d"),
        ("a or (b or (c or d))", "a or b or c or d"),
        ("2 of (a, b, c) or (a and b and d)", "2 of (a, b, c)"),
        (
            "3 of (a, b, c, d) or 2 of (a, b, c, d)",
            "2 of (a, b, c, d)",
        ),
        ("2 of (a, b, c) and (a or b)", "2 of (a, b, c)"),
        ("n >= 3 or n >= 5", "n >= 3"),
        ("n >= 3 and n >= 5", "n >= 5"),
        ("n >= 3 and n <= 7", "n in 3..7"),
        ("n in 1..4 or n in 5..9", "n in 1..9"),
        ("n > 3 and n < 5", "n = 4"),
        ("n != 4", "n <= 3 or n >= 5"),
        ("not n in 3..7", "n <= 2 or n >= 8"),
        (
            "not (n = 3 or n = 5)",
            "(n <= 2 or n >= 4) and (n <= 4 or n >= 6)",
        ),
        ("not n in (3, 5)", "n <= 2 or n = 4 or n >= 6"),
        (
            "not 2 of (n > 1, m > 1, o > 1)",
            "2 of (m <= 1, n <= 1, o <= 1)",
        ),
        ("not not n = 3", "n = 3"),
        (
            "d < 2025-01-31 and d >= 2025-01-01",
            "d in 2025-01-01..2025-01-30",
        ),
        (
            "topic matches a/# and topic matches a/b",
            "topic matches a/b",
        ),
        (
            "topic matches a/# or topic matches a/b",
            "topic matches a/#",
        ),
    ] {
        assert_eq!(canonical(written), expected, "{written}");
    }
}

#[test]
fn common_parts_are_factored_out() {
    for (written, expected, rows) in [
        ("(a and b) or (a and c)", "a and (b or c)", 3),
        ("(a or b) and (a or c)", "a or (b and c)", 3),
        (
            "(a and b and c) or (a and b and d)",
            "a and b and (c or d)",
            4,
        ),
        ("(a and b) or (b and c) or (a and c)", "2 of (a, b, c)", 3),
        ("(a or b) and (b or c) and (a or c)", "2 of (a, b, c)", 3),
        (
            "(a and b and c) or (a and b and d) or (a and c and d) or (b and c and d)",
            "3 of (a, b, c, d)",
            4,
        ),
        (
            "(a and b) or (a and c) or (d and e) or (d and f)",
            "(a and (b or c)) or (d and (e or f))",
            6,
        ),
        (
            "(x in 3..9 and a) or (x in 3..9 and b)",
            "x in 3..9 and (a or b)",
            5,
        ),
    ] {
        assert_eq!(canonical(written), expected, "{written}");
        assert_eq!(
            written.parse::<Policy>().expect("parses").formula().rows(),
            rows,
            "{written}"
        );
    }
}

#[test]
fn other_spellings_from_a_peer_are_refused() {
    for text in [
        "a  and b",
        " a",
        "a\n",
        "a AND b",
        "(a and b)",
        "\"a\"",
        "a and (b)",
        "1 of (a, b)",
        "2 of (a, b)",
        "n > 3",
        "n in 3..3",
        "n in 3..9223372036854775807",
        "n != 3",
        "not n = 3",
        "a in (b, c)",
        "at = 08:30:00",
        "city = \"Mu\u{308}nchen\"",
        "n >= 08:00 and n in 3..08:00",
    ] {
        assert!(Policy::from_canonical(text).is_err(), "{text}");
    }
    assert!(matches!(
        Policy::from_canonical("a and"),
        Err(Error::Parse(_))
    ));
}

/// What a later version would normalise further is still read as it was meant.
#[test]
fn a_peer_may_normalise_less() {
    let policy = Policy::from_canonical("b and a and a").expect("well spelt");
    assert_eq!(policy.as_str(), "b and a and a");
    assert_eq!(policy.formula().rows(), 3);
    assert_eq!(policy.formula().occurrences(), 2);
}
