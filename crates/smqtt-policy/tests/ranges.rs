//! Comparisons through intervals agree with the comparison of numbers, cost what is said, and
//! open with one leaf.

mod generators;

use generators::number;
use proptest::prelude::*;
use smqtt_policy::{AttributeSet, Error, Policy};

fn held(number: i64) -> AttributeSet {
    format!("n = {number}").parse().expect("a number")
}

fn parse(text: &str) -> Policy {
    text.parse()
        .unwrap_or_else(|error: smqtt_policy::ParseError| panic!("{}", error.render(text)))
}

/// How many leaves of the formula the set has.
fn open_leaves(policy: &Policy, set: &AttributeSet) -> usize {
    policy
        .formula()
        .leaves()
        .filter(|leaf| set.contains(leaf))
        .count()
}

type Comparison = fn(i64, i64) -> bool;

#[test]
fn every_comparison_agrees_over_a_whole_domain() {
    let domain = -20..=20i64;
    let sets: Vec<AttributeSet> = domain.clone().map(held).collect();
    for bound in domain.clone() {
        let tests: [(&str, Comparison); 6] = [
            ("<", |n, b| n < b),
            ("<=", |n, b| n <= b),
            ("=", |n, b| n == b),
            ("!=", |n, b| n != b),
            (">=", |n, b| n >= b),
            (">", |n, b| n > b),
        ];
        for (operator, holds) in tests {
            let policy = parse(&format!("n {operator} {bound}"));
            for (number, set) in domain.clone().zip(&sets) {
                let expected = holds(number, bound);
                assert_eq!(
                    policy.formula().evaluate(set),
                    expected,
                    "{number} {operator} {bound}"
                );
                assert_eq!(open_leaves(&policy, set), usize::from(expected));
            }
        }
    }
}

#[test]
fn every_range_agrees_over_a_whole_domain() {
    let domain = -20..=20i64;
    let sets: Vec<AttributeSet> = domain.clone().map(held).collect();
    for lo in domain.clone() {
        for hi in lo..=20 {
            let policy = parse(&format!("n in {lo}..{hi}"));
            for (number, set) in domain.clone().zip(&sets) {
                let expected = (lo..=hi).contains(&number);
                assert_eq!(
                    open_leaves(&policy, set),
                    usize::from(expected),
                    "{number} in {lo}..{hi}"
                );
            }
        }
    }
}

/// 2·⌈log2 n⌉ rows for a range of n numbers, each side of zero by itself.
fn allowed_rows(lo: i64, hi: i64) -> usize {
    let log = |count: u64| (count.max(2) - 1).ilog2() as usize + 1;
    match (lo < 0, hi < 0) {
        (true, false) => allowed_rows(lo, -1) + allowed_rows(0, hi),
        _ => 2 * log(lo.abs_diff(hi).saturating_add(1)),
    }
}

#[test]
fn a_short_range_costs_at_most_twice_its_logarithm() {
    for lo in -66..=66i64 {
        for hi in lo..=66 {
            let rows = parse(&format!("n in {lo}..{hi}")).formula().rows();
            assert!(rows <= allowed_rows(lo, hi), "{rows} rows for {lo}..{hi}");
        }
    }
}

proptest! {
    #[test]
    fn any_range_agrees_and_costs_at_most_twice_its_logarithm(
        a in number(), b in number(), n in number(),
    ) {
        let (lo, hi) = (a.min(b), a.max(b));
        let policy = parse(&format!("n in {lo}..{hi}"));
        for n in [n, lo, hi, lo.saturating_sub(1), hi.saturating_add(1)] {
            prop_assert_eq!(open_leaves(&policy, &held(n)), usize::from(lo <= n && n <= hi));
        }
        prop_assert!(policy.formula().rows() <= allowed_rows(lo, hi));
    }

    #[test]
    fn a_number_brings_attributes_by_its_magnitude(n in number()) {
        let magnitude = if n < 0 { -1 - n } else { n };
        let bits = 64 - magnitude.leading_zeros() as usize;
        prop_assert!(held(n).len() <= bits.max(1) + 7);
    }
}

#[test]
fn small_numbers_are_cheap() {
    for (text, attributes) in [("n = 0", 8), ("n = 1", 8), ("n = 5", 10), ("n = 1000", 17)] {
        assert_eq!(
            text.parse::<AttributeSet>().expect("parses").len(),
            attributes,
            "{text}"
        );
    }
    for (text, rows) in [
        ("n >= 0", 1),
        ("n < 0", 1),
        ("n >= 3", 6),
        ("n in 3..7", 2),
        ("n in 0..7", 1),
        ("n >= -9223372036854775808", 1),
        ("d >= 0001-01-01", 1),
    ] {
        assert_eq!(parse(text).formula().rows(), rows, "{text}");
    }
}

#[test]
fn the_ends_of_the_numbers_are_numbers() {
    for text in ["n = 9223372036854775807", "n = -9223372036854775808"] {
        let set: AttributeSet = text.parse().expect("parses");
        assert!(parse(text).formula().evaluate(&set));
    }
    assert!("n > 9223372036854775807".parse::<Policy>().is_err());
    assert!("n < -9223372036854775808".parse::<Policy>().is_err());
    assert!("n = 9223372036854775808".parse::<Policy>().is_err());
    assert_eq!(
        parse("n >= 9223372036854775807").as_str(),
        "n = 9223372036854775807"
    );
}

#[test]
fn scales_do_not_mix() {
    let day = "x = 2025-01-31".parse::<AttributeSet>().expect("parses");
    assert!(parse("x >= 2025-01-01").evaluate(&day));
    assert!(!parse("x >= 3").evaluate(&day));
    assert!(!parse("x >= 3").formula().evaluate(&day));
    assert!(!parse("x = 20119").formula().evaluate(&day));
    assert!(!parse("x = \"2025-01-31\"").formula().evaluate(&day));
    let both: AttributeSet = "x = 2025-01-31, x = 3"
        .parse()
        .expect("one number of each scale");
    assert!(parse("x = 3 and x > 2024-12-31").formula().evaluate(&both));
}

#[test]
fn an_attribute_has_one_number() {
    let error = "n = 3, n = 4"
        .parse::<AttributeSet>()
        .expect_err("two numbers");
    assert_eq!(error.message(), "`n` already has another integer");
    assert_eq!(error.span(), 7..12);
    let mut set: AttributeSet = "n = 3, n = 3".parse().expect("the same number");
    let another = "n = 4".parse().expect("an attribute");
    assert!(matches!(
        set.insert(another),
        Err(Error::SecondNumber { .. })
    ));
}

#[test]
fn dates_and_times_compare_in_their_calendar() {
    for (policy, inside, outside) in [
        ("d > 2024-02-28", "d = 2024-02-29", "d = 2024-02-28"),
        ("d < 2000-03-01", "d = 2000-02-29", "d = 2000-03-01"),
        ("d <= 1969-12-31", "d = 0001-01-01", "d = 1970-01-01"),
        ("d > 9999-12-30", "d = 9999-12-31", "d = 9999-12-30"),
        ("t in 08:00..17:59:59", "t = 17:59:59", "t = 18:00"),
        ("t >= 22:00 or t < 06:00", "t = 23:59:59", "t = 06:00"),
        (
            "i < 2025-01-01T00:00Z",
            "i = 2024-12-31T23:59:59Z",
            "i = 2025-01-01T00:00:00Z",
        ),
        (
            "i >= 1969-12-31T23:59:59Z",
            "i = 1970-01-01T00:00Z",
            "i = 1969-12-31T23:59:58Z",
        ),
    ] {
        let policy = parse(policy);
        for (text, expected) in [(inside, true), (outside, false)] {
            let set: AttributeSet = text.parse().expect("parses");
            assert_eq!(policy.evaluate(&set), expected, "{policy}: {text}");
            assert_eq!(
                policy.formula().evaluate(&set),
                expected,
                "{policy}: {text}"
            );
            assert_eq!(set.to_string().parse::<AttributeSet>(), Ok(set));
        }
    }
    for bad in [
        "d = 2025-02-29",
        "d = 1900-02-29",
        "d = 2025-13-01",
        "d = 2025-00-01",
        "d = 2025-04-31",
        "d = 0000-01-01",
        "t = 24:00",
        "t = 23:60",
        "t = 23:59:60",
        "i = 2025-02-30T00:00Z",
    ] {
        assert!(bad.parse::<AttributeSet>().is_err(), "{bad}");
    }
}

/// Counts days from one month's ends to the next, over two cycles of the calendar and its ends.
#[test]
fn every_day_of_the_calendar_follows_the_one_before() {
    let mut number = None;
    for year in (1..=5).chain(1599..=2401).chain(9990..=9999) {
        if matches!(year, 1599 | 9990) {
            number = None;
        }
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let lengths = [
            31,
            if leap { 29 } else { 28 },
            31,
            30,
            31,
            30,
            31,
            31,
            30,
            31,
            30,
            31,
        ];
        for (month, days) in lengths.into_iter().enumerate() {
            for day in [1, days] {
                let text = format!("d = {year:04}-{:02}-{day:02}", month + 1);
                let date: smqtt_policy::Attribute = text.parse().expect("a date");
                assert_eq!(date.to_string(), text);
                let (_, n) = date.as_number().expect("a number");
                if let Some(before) = number {
                    assert_eq!(n - before, if day == 1 { 1 } else { days - 1 }, "{text}");
                }
                number = Some(n);
            }
        }
    }
}
