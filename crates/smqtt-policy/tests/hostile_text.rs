//! Whatever the text, the answer is a policy within the limits or an error with a place.

mod generators;

use generators::written;
use proptest::prelude::*;
use smqtt_policy::{Attribute, AttributeSet, Error, ParseError, Policy, Schema, limits};

fn schema() -> Schema {
    Schema::from_toml(
        r#"
        attributes.a.type = "flag"
        attributes.role = { type = "text", values = ["doctor", "nurse", "visitor"] }
        attributes.n = { type = "integer", min = 0, max = 7 }
        attributes.d.type = "date"
        "#,
    )
    .expect("a valid schema")
}

/// Everything that can be done with a text; panics only if the crate does.
fn try_everything(text: &str) {
    let check = |error: &ParseError| {
        assert!(error.span().start <= error.span().end && error.span().end <= text.len());
        assert!(
            text.get(error.span()).is_some(),
            "{error:?} is not on characters of {text:?}"
        );
        assert!(!error.message().is_empty());
        let rendered = error.render(text);
        assert!(rendered.contains('^'), "{rendered}");
        assert!(
            rendered
                .chars()
                .all(|c| c == '\n' || c == '\t' || !c.is_control()),
            "{rendered:?}"
        );
    };
    for policy in [text.parse::<Policy>(), schema().policy(text)] {
        match policy {
            Ok(policy) => {
                assert!(policy.formula().rows() < limits::MAX_ROWS);
                assert!(policy.formula().depth() < limits::MAX_FORMULA_DEPTH);
                assert_eq!(policy.formula().check(), Ok(()));
                assert_eq!(
                    Policy::from_canonical(policy.as_str()).as_ref(),
                    Ok(&policy)
                );
                let _ = policy.explain(&AttributeSet::new()).to_string();
            }
            Err(error) => check(&error),
        }
    }
    for set in [text.parse::<AttributeSet>(), schema().attribute_set(text)] {
        match set {
            Ok(set) => assert_eq!(set.to_string().parse(), Ok(set)),
            Err(error) => check(&error),
        }
    }
    match text.parse::<Attribute>() {
        Ok(attribute) => assert_eq!(attribute.to_string().parse(), Ok(attribute)),
        Err(Error::Parse(error)) => check(&error),
        Err(_) => {}
    }
    let _ = Policy::from_canonical(text);
    let _ = Schema::from_toml(text);
}

/// Words of the language in any order: past the lexer, into every corner of the parser.
fn soup() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "and",
        "or",
        "not",
        "of",
        "in",
        "matches",
        "topic",
        "epoch",
        "(",
        ")",
        "(",
        ")",
        ",",
        "=",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "..",
        "1",
        "2",
        "-3",
        "7",
        "99999999999999999999",
        "a",
        "role",
        "doctor",
        "n",
        "d",
        "2025-01-31",
        "2025-99-31",
        "08:30",
        "\"q\"",
        "'",
        "\"",
        "\\",
        "a/+/#",
        "#",
        "+",
        ".",
        "-",
        "≥",
        "\u{200b}",
        "u\u{308}",
        "\n",
        "\t",
        "k of",
        "2 of (",
        "role = doctor",
        "n in 1..5",
        "not n > 3",
        "topic matches a/#",
    ]);
    prop::collection::vec((token, prop_oneof![4 => Just(" "), 1 => Just("")]), 0..40).prop_map(
        |tokens| {
            tokens
                .iter()
                .flat_map(|(token, space)| [*token, *space])
                .collect()
        },
    )
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        try_everything(&text);
    }

    #[test]
    fn arbitrary_words_never_panic(text in soup()) {
        try_everything(&text);
    }

    #[test]
    fn damaged_policies_never_panic(
        policy in written(), at in any::<prop::sample::Index>(), replacement in any::<char>(),
    ) {
        let mut text: Vec<char> = policy.text().chars().collect();
        let at = at.index(text.len());
        text[at] = replacement;
        try_everything(&text.iter().collect::<String>());
        text.truncate(at);
        try_everything(&text.iter().collect::<String>());
    }

    #[test]
    fn any_name_and_value_survives_quoting(name in any::<String>(), value in any::<String>()) {
        for attribute in [Attribute::flag(&name), Attribute::value(&name, &value)].into_iter().flatten() {
            prop_assert_eq!(attribute.to_string().parse::<Attribute>(), Ok(attribute.clone()));
            let policy: Policy = attribute.to_string().parse().expect("an attribute is a policy");
            prop_assert_eq!(policy.as_str(), attribute.to_string());
        }
    }
}

#[test]
fn deep_nesting_is_refused_at_its_place() {
    let open = "(".repeat(16_000);
    let error = open.parse::<Policy>().expect_err("too deep");
    assert_eq!(error.span(), limits::MAX_NESTING..limits::MAX_NESTING + 1);
    assert_eq!(error.message(), "nested deeper than 64 levels");
    let error = "not "
        .repeat(4_000)
        .parse::<Policy>()
        .expect_err("too deep");
    assert_eq!(error.message(), "nested deeper than 64 levels");
    let lists = "1 of (".repeat(2_000);
    assert_eq!(
        lists.parse::<Policy>().expect_err("too deep").message(),
        "nested deeper than 64 levels"
    );

    let fits = format!("{}a{}", "(".repeat(64), ")".repeat(64));
    assert_eq!(
        fits.parse::<Policy>().expect("within the limit").as_str(),
        "a"
    );
}

/// Gates that no rule can merge: `a0 and (b0 or (a1 and (b1 or …)))`.
fn alternating(levels: usize) -> String {
    let mut text = String::from("z");
    for level in (0..levels).rev() {
        let joint = if level % 2 == 0 { "and" } else { "or" };
        text = format!("a{level} {joint} ({text})");
    }
    text
}

#[test]
fn deep_policies_are_refused_after_normalisation() {
    let deepest = alternating(limits::MAX_DEPTH - 1);
    let policy: Policy = deepest.parse().expect("within the limit");
    assert_eq!(policy.formula().depth(), limits::MAX_DEPTH);
    let error = alternating(limits::MAX_DEPTH)
        .parse::<Policy>()
        .expect_err("too deep");
    assert_eq!(error.message(), "nested deeper than 32 levels");
}

#[test]
fn long_texts_are_refused_unread() {
    let error = "a"
        .repeat(limits::MAX_TEXT_BYTES + 1)
        .parse::<Policy>()
        .expect_err("too long");
    assert_eq!(
        error.message(),
        "the policy has 16385 bytes, the limit is 16384"
    );
    let error = ", "
        .repeat(limits::MAX_TEXT_BYTES)
        .parse::<AttributeSet>()
        .expect_err("too long");
    assert_eq!(
        error.message(),
        "the attribute set has 32768 bytes, the limit is 16384"
    );
}

#[test]
fn many_conditions_and_many_rows_are_refused() {
    let of = |count: usize, part: fn(usize) -> String, joint: &str| {
        (0..count).map(part).collect::<Vec<_>>().join(joint)
    };
    let flags = |count| of(count, |i| format!("a{i}"), " or ");
    assert_eq!(
        flags(511)
            .parse::<Policy>()
            .expect("within the limit")
            .formula()
            .rows(),
        511
    );
    let error = flags(512).parse::<Policy>().expect_err("too many rows");
    assert_eq!(
        error.message(),
        "the policy needs 512 rows, the limit is 511"
    );
    let error = flags(1025)
        .parse::<Policy>()
        .expect_err("too many conditions");
    assert_eq!(error.message(), "more than 1024 conditions in one policy");

    let ranges = of(60, |i| format!("n{i} in 1000..4000000000"), " and ");
    let error = ranges.parse::<Policy>().expect_err("too many rows");
    assert!(
        error.message().contains("rows, the limit is 511"),
        "{error}"
    );

    let repeated = format!("2 of ({})", of(65, |_| "a".to_owned(), ", "));
    let error = repeated
        .parse::<Policy>()
        .expect_err("one attribute too often");
    assert_eq!(error.message(), "`a` occurs 65 times, the limit is 64");
}

#[test]
fn sets_are_bounded() {
    let flags = |count: usize| {
        (0..count)
            .map(|i| format!("a{i}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    assert_eq!(
        flags(256)
            .parse::<AttributeSet>()
            .expect("within the limit")
            .len(),
        256
    );
    let error = flags(257).parse::<AttributeSet>().expect_err("too many");
    assert_eq!(
        error.message(),
        "too many attributes in one set, the limit is 256"
    );
    let numbers: Vec<String> = (0..80)
        .map(|i| format!("n{i}=-9223372036854775808"))
        .collect();
    let error = numbers
        .join(",")
        .parse::<AttributeSet>()
        .expect_err("too many");
    assert_eq!(
        error.message(),
        "too many attributes in one set, the limit is 4096"
    );
}

#[test]
fn long_names_and_values_are_refused() {
    let name = |length| format!("{} = b", "n".repeat(length));
    assert!(name(128).parse::<AttributeSet>().is_ok());
    let error = name(129).parse::<AttributeSet>().expect_err("too long");
    assert_eq!(
        error.message(),
        "attribute name has 129 bytes, the limit is 128"
    );
    let value = |length| format!("a = {}", "v".repeat(length));
    assert!(value(256).parse::<Policy>().is_ok());
    let error = value(257).parse::<Policy>().expect_err("too long");
    assert_eq!(
        error.message(),
        "attribute value has 257 bytes, the limit is 256"
    );
    assert!(Attribute::flag("").is_err());
    assert!(Attribute::value("a", " b").is_err());
    assert!(Attribute::value("a", "b\u{202e}c").is_err());
}

/// Work grows with the text, not with what could be made of it.
#[test]
fn policies_that_ask_for_most_work_are_answered() {
    let pairs: Vec<String> = (0..16)
        .flat_map(|i| (0..i).map(move |j| format!("(a{i} and a{j})")))
        .collect();
    let policy: Policy = pairs.join(" or ").parse().expect("parses");
    let names: Vec<String> = ["a0", "a1"]
        .into_iter()
        .map(str::to_owned)
        .chain((10..16).map(|i| format!("a{i}")))
        .chain((2..10).map(|i| format!("a{i}")))
        .collect();
    assert_eq!(policy.as_str(), format!("2 of ({})", names.join(", ")));

    let wide: Vec<String> = (0..340)
        .map(|i| format!("(x{} and y{} and z{})", i % 7, i % 11, i % 13))
        .collect();
    let policy = wide.join(" or ").parse::<Policy>().expect("parses");
    assert!(policy.formula().rows() < limits::MAX_ROWS);

    let thresholds: Vec<String> = (0..200)
        .map(|i| format!("2 of (a{i}, b{i}, c{i}, d{})", i % 3))
        .collect();
    assert!(thresholds.join(" and ").parse::<Policy>().is_err());
}
