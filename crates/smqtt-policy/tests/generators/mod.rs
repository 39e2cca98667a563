//! Random policies and random holders over a small world, in which conditions meet and miss each
//! other often. Evaluated here by their own rules, from the text's meaning, so that the crate's
//! answer can be compared with one that it did not compute.

#![allow(dead_code)] // Each test binary uses a part.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use smqtt_policy::{AttributeSet, Scale};

/// A policy as a person could write it.
#[derive(Clone, Debug)]
pub(crate) enum Written {
    Flag(&'static str),
    Equal(&'static str, &'static str),
    OneOf(&'static str, Vec<&'static str>),
    Compare(&'static str, &'static str, i64),
    Within(&'static str, i64, i64),
    Date(&'static str, &'static str, u8),
    Topic(String),
    Not(Box<Written>),
    And(Vec<Written>),
    Or(Vec<Written>),
    AtLeast(usize, Vec<Written>),
}

/// A holder, or a message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holder {
    pub(crate) flags: BTreeSet<&'static str>,
    pub(crate) texts: BTreeSet<(&'static str, &'static str)>,
    pub(crate) numbers: BTreeMap<&'static str, i64>,
    pub(crate) dates: BTreeMap<&'static str, u8>,
    pub(crate) topic: Option<String>,
}

const FLAGS: [&str; 2] = ["badge", "on-call"];
const LETTERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const NAMES: [&str; 2] = ["dept", "role"];
const VALUES: [&str; 3] = ["er", "icu", "ward"];
const NUMBERS: [&str; 2] = ["clearance", "level"];
const DATES: [&str; 1] = ["joined"];
const OPERATORS: [&str; 6] = ["=", "!=", "<", "<=", ">", ">="];

impl Written {
    /// The text, fully parenthesised but for the outermost gate.
    pub(crate) fn text(&self) -> String {
        let join = |of: &[Self], joint: &str| {
            let parts: Vec<String> = of.iter().map(|part| format!("({})", part.text())).collect();
            parts.join(joint)
        };
        match self {
            Self::Flag(name) => (*name).to_owned(),
            Self::Equal(name, value) => format!("{name} = {value}"),
            Self::OneOf(name, values) => format!("{name} in ({})", values.join(", ")),
            Self::Compare(name, operator, number) => format!("{name} {operator} {number}"),
            Self::Within(name, lo, hi) => format!("{name} in {lo}..{hi}"),
            Self::Date(name, operator, day) => format!("{name} {operator} 2025-01-{day:02}"),
            Self::Topic(filter) => format!("topic matches \"{filter}\""),
            Self::Not(inner) => format!("not ({})", inner.text()),
            Self::And(of) => join(of, " and "),
            Self::Or(of) => join(of, " or "),
            Self::AtLeast(k, of) => {
                let parts: Vec<String> = of.iter().map(Self::text).collect();
                format!("{k} of ({})", parts.join(", "))
            }
        }
    }

    /// Whether the holder satisfies the policy, by the meaning of the text.
    pub(crate) fn evaluate(&self, holder: &Holder) -> bool {
        self.holds(holder, false)
    }

    /// `not` asks for what is left over, it is no complement: who has no number satisfies neither
    /// `level > 3` nor `not level > 3`.
    fn holds(&self, holder: &Holder, negated: bool) -> bool {
        let count = |of: &[Self]| of.iter().filter(|part| part.holds(holder, negated)).count();
        match self {
            Self::Flag(name) => holder.flags.contains(name),
            Self::Equal(name, value) => holder.texts.contains(&(name, value)),
            Self::OneOf(name, values) => values
                .iter()
                .any(|value| holder.texts.contains(&(name, value))),
            Self::Compare(name, operator, number) => holder
                .numbers
                .get(name)
                .is_some_and(|held| negated != compare(held, operator, number)),
            Self::Within(name, lo, hi) => holder
                .numbers
                .get(name)
                .is_some_and(|held| negated != (lo <= held && held <= hi)),
            Self::Date(name, operator, day) => holder
                .dates
                .get(name)
                .is_some_and(|held| negated != compare(held, operator, day)),
            Self::Topic(filter) => holder
                .topic
                .as_ref()
                .is_some_and(|topic| mqtt_matches(filter, topic)),
            Self::Not(inner) => inner.holds(holder, !negated),
            Self::And(of) if negated => count(of) > 0,
            Self::And(of) => count(of) == of.len(),
            Self::Or(of) if negated => count(of) == of.len(),
            Self::Or(of) => count(of) > 0,
            Self::AtLeast(k, of) if negated => count(of) > of.len() - k,
            Self::AtLeast(k, of) => count(of) >= *k,
        }
    }
}

fn compare<T: Ord>(held: &T, operator: &str, number: &T) -> bool {
    match operator {
        "=" => held == number,
        "!=" => held != number,
        "<" => held < number,
        "<=" => held <= number,
        ">" => held > number,
        ">=" => held >= number,
        other => unreachable!("{other} is not generated"),
    }
}

/// MQTT 5.0 §4.7, written recursively and unlike the crate's own matcher.
pub(crate) fn mqtt_matches(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.split_first(), topic.split_first()) {
            (Some((&"#", _)), _) => true,
            (None, None) => true,
            (Some((&"+", filter)), Some((_, topic))) => levels(filter, topic),
            (Some((part, filter)), Some((level, topic))) => part == level && levels(filter, topic),
            _ => false,
        }
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    let hidden = topic[0].starts_with('$') && matches!(filter[0], "+" | "#");
    !hidden && levels(&filter, &topic)
}

impl Holder {
    pub(crate) fn set(&self) -> AttributeSet {
        let mut parts: Vec<String> = Vec::new();
        parts.extend(self.flags.iter().map(|name| (*name).to_owned()));
        parts.extend(
            self.texts
                .iter()
                .map(|(name, value)| format!("{name} = {value}")),
        );
        parts.extend(
            self.numbers
                .iter()
                .map(|(name, number)| format!("{name} = {number}")),
        );
        parts.extend(
            self.dates
                .iter()
                .map(|(name, day)| format!("{name} = 2025-01-{day:02}")),
        );
        let set: AttributeSet = parts.join(", ").parse().expect("a holder's text is valid");
        match &self.topic {
            Some(topic) => set.with_topic(topic).expect("a holder's topic is valid"),
            None => set,
        }
    }
}

/// Numbers around zero, around powers of two, and at the ends.
pub(crate) fn number() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => -20..20i64,
        1 => (0..63u32, -2..3i64).prop_map(|(bits, off)| (1i64 << bits).saturating_add(off)),
        1 => (0..63u32, -2..3i64).prop_map(|(bits, off)| (-1i64 << bits).saturating_add(off)),
        1 => prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()],
    ]
}

pub(crate) fn topic() -> impl Strategy<Value = String> {
    let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("$s")];
    prop::collection::vec(level, 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a topic is not empty", |topic| !topic.is_empty())
}

pub(crate) fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![
        Just("a"),
        Just("b"),
        Just(""),
        Just("$s"),
        Just("+"),
        Just("+")
    ];
    (prop::collection::vec(level, 0..4), any::<bool>())
        .prop_map(|(mut levels, open)| {
            if open {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("a filter is not empty", |filter| !filter.is_empty())
}

pub(crate) fn holder() -> impl Strategy<Value = Holder> {
    (
        prop::sample::subsequence(FLAGS.to_vec(), 0..=FLAGS.len()),
        prop::collection::btree_set(
            (prop::sample::select(&NAMES), prop::sample::select(&VALUES)),
            0..4,
        ),
        prop::collection::btree_map(prop::sample::select(&NUMBERS), number(), 0..=2),
        prop::collection::btree_map(prop::sample::select(&DATES), 1..29u8, 0..=1),
        prop::option::of(topic()),
    )
        .prop_map(|(flags, texts, numbers, dates, topic)| Holder {
            flags: flags.into_iter().collect(),
            texts,
            numbers,
            dates,
            topic,
        })
}

fn condition() -> impl Strategy<Value = Written> {
    prop_oneof![
        2 => prop::sample::select(&FLAGS).prop_map(Written::Flag),
        4 => (prop::sample::select(&NAMES), prop::sample::select(&VALUES))
            .prop_map(|(name, value)| Written::Equal(name, value)),
        1 => (prop::sample::select(&NAMES), prop::sample::subsequence(VALUES.to_vec(), 1..=3))
            .prop_map(|(name, values)| Written::OneOf(name, values)),
        2 => filter().prop_map(Written::Topic),
        6 => numeric(),
    ]
}

/// Conditions that `not` may stand before without a schema.
fn numeric() -> impl Strategy<Value = Written> {
    prop_oneof![
        3 => (prop::sample::select(&NUMBERS), prop::sample::select(&OPERATORS), number())
            .prop_map(|(name, operator, number)| Written::Compare(name, operator, number)),
        1 => (prop::sample::select(&NUMBERS), number(), number())
            .prop_map(|(name, a, b)| Written::Within(name, a.min(b), a.max(b))),
        1 => (prop::sample::select(&DATES), prop::sample::select(&OPERATORS), 1..29u8)
            .prop_map(|(name, operator, day)| Written::Date(name, operator, day)),
    ]
}

fn gates(leaf: BoxedStrategy<Written>) -> impl Strategy<Value = Written> {
    leaf.prop_recursive(4, 24, 4, |inner| {
        let some = prop::collection::vec(inner, 1..5);
        prop_oneof![
            some.clone().prop_map(Written::And),
            some.clone().prop_map(Written::Or),
            (some, any::<prop::sample::Index>())
                .prop_map(|(of, k)| Written::AtLeast(k.index(of.len()) + 1, of)),
        ]
    })
}

/// Any policy of this world.
pub(crate) fn written() -> impl Strategy<Value = Written> {
    let negated = gates(numeric().boxed()).prop_map(|inner| Written::Not(Box::new(inner)));
    gates(prop_oneof![5 => condition(), 1 => negated].boxed())
}

/// Policies of few flags and many gates, where absorption and factoring have most to do.
pub(crate) fn boolean() -> impl Strategy<Value = Written> {
    let leaf = prop::sample::select(&LETTERS)
        .prop_map(Written::Flag)
        .boxed();
    leaf.prop_recursive(5, 48, 5, |inner| {
        let some = prop::collection::vec(inner, 2..6);
        prop_oneof![
            4 => some.clone().prop_map(Written::And),
            4 => some.clone().prop_map(Written::Or),
            1 => (some, any::<prop::sample::Index>())
                .prop_map(|(of, k)| Written::AtLeast(k.index(of.len()) + 1, of)),
        ]
    })
}

/// Every holder of the flags of [`boolean`].
pub(crate) fn holders_of_letters() -> impl Iterator<Item = Holder> {
    (0..1u32 << LETTERS.len()).map(|mask| {
        let held = LETTERS
            .iter()
            .enumerate()
            .filter(move |(bit, _)| mask >> bit & 1 == 1);
        Holder {
            flags: held.map(|(_, name)| *name).collect(),
            ..Holder::default()
        }
    })
}

/// The scales, for tests that go through all of them.
pub(crate) fn scale() -> impl Strategy<Value = Scale> {
    prop::sample::select(&Scale::ALL)
}
