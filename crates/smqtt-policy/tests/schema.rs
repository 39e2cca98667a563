//! A schema refuses what nobody can hold, tells what was meant, and gives `not` its meaning.

mod generators;

use std::collections::BTreeSet;

use generators::{holder, written};
use proptest::prelude::*;
use smqtt_policy::{AttributeSet, AttributeType, Definition, Error, Policy, Scale, Schema, limits};

const HOSPITAL: &str = r#"
[attributes.role]
type = "text"
values = ["doctor", "nurse", "technician", "visitor"]
many = true
description = "what somebody does here"

[attributes.dept]
type = "text"
values = ["er", "icu", "ward"]

[attributes.room]
type = "text"

[attributes.clearance]
type = "integer"
min = 0
max = 7

[attributes.joined]
type = "date"
min = 2000-01-01

[attributes.shift]
type = "time"
max = 23:00:00

[attributes.valid]
type = "instant"
min = "2020-01-01T00:00Z"
max = 2030-01-01T00:00:00Z

[attributes.on-call]
type = "flag"
"#;

fn hospital() -> Schema {
    Schema::from_toml(HOSPITAL).unwrap_or_else(|error| panic!("{error}"))
}

fn policy(text: &str) -> String {
    match hospital().policy(text) {
        Ok(policy) => policy.to_string(),
        Err(error) => panic!("{}", error.render(text)),
    }
}

#[test]
fn a_policy_that_the_schema_allows_is_read_as_without_it() {
    for text in [
        "role = doctor and (dept = icu or dept = er) and clearance >= 3",
        "2 of (role = nurse, on-call, joined < 2020-01-01)",
        "shift in 08:00..17:00 or valid > 2025-01-01T00:00Z",
        "topic matches house/#",
    ] {
        assert_eq!(
            policy(text),
            text.parse::<Policy>().expect("parses").as_str()
        );
    }
}

#[test]
fn not_means_the_other_values() {
    for (text, expected) in [
        ("not dept = ward", "dept = er or dept = icu"),
        ("dept != ward", "dept = er or dept = icu"),
        ("clearance != 0", "clearance >= 1"),
        ("not clearance in 3..7", "clearance <= 2"),
        ("not dept != ward", "dept = ward"),
        ("not (dept = ward or dept = er)", "dept = icu"),
        ("not dept in (ward, er)", "dept = icu"),
        (
            "not (dept = ward and clearance > 3)",
            "clearance <= 3 or dept = er or dept = icu",
        ),
        (
            "not 2 of (dept = ward, clearance > 3, joined > 2020-01-01)",
            "2 of (clearance <= 3, joined <= 2020-01-01, dept = er or dept = icu)",
        ),
    ] {
        assert_eq!(policy(text), expected, "{text}");
    }
}

#[test]
fn words_take_the_type_that_the_schema_gives() {
    assert_eq!(policy("room = 101"), "room = \"101\"");
    assert_eq!(
        policy("room in (101, 2025-01-01)"),
        "room = \"101\" or room = \"2025-01-01\""
    );
    let set = hospital()
        .attribute_set("room = 101, clearance = 3")
        .expect("allowed");
    assert_eq!(set.to_string(), "clearance = 3, room = \"101\"");
    assert!(
        hospital()
            .policy("room = 101")
            .expect("allowed")
            .evaluate(&set)
    );
}

#[test]
fn what_the_schema_does_not_have_is_told_with_what_it_has() {
    for (text, place, message, hint) in [
        (
            "rolle = doctor",
            "rolle",
            "the schema has no attribute `rolle`",
            "did you mean `role`?",
        ),
        (
            "Role = doctor",
            "Role",
            "the schema has no attribute `Role`",
            "did you mean `role`?",
        ),
        (
            "oncall",
            "oncall",
            "the schema has no attribute `oncall`",
            "did you mean `on-call`?",
        ),
        (
            "zzz = 1",
            "zzz",
            "the schema has no attribute `zzz`",
            "there is clearance, dept, joined, on-call, role, room, shift, valid",
        ),
        (
            "role = docter",
            "docter",
            "`docter` is not a value of `role`",
            "did you mean `doctor`?",
        ),
        (
            "role = odctor",
            "odctor",
            "`odctor` is not a value of `role`",
            "did you mean `doctor`?",
        ),
        (
            "dept = surgery",
            "surgery",
            "`surgery` is not a value of `dept`",
            "there is er, icu, ward",
        ),
        (
            "dept in (icu, wart)",
            "wart",
            "`wart` is not a value of `dept`",
            "did you mean `ward`?",
        ),
        (
            "on-call = yes",
            "yes",
            "`on-call` is a flag",
            "write it alone: `on-call`",
        ),
        ("role", "role", "`role` is a text", "write `role = doctor`"),
        ("room", "room", "`room` is a text", "write `room = …`"),
        (
            "clearance",
            "clearance",
            "`clearance` is an integer",
            "write `clearance = 0`",
        ),
        (
            "clearance = high",
            "high",
            "`clearance` is an integer",
            "write `clearance = 0`",
        ),
        (
            "clearance = \"3\"",
            "\"3\"",
            "`clearance` is an integer",
            "write `clearance = 0`",
        ),
        (
            "clearance > 7",
            "clearance > 7",
            "outside the range of `clearance`",
            "it goes from 0 to 7",
        ),
        (
            "clearance in 8..9",
            "clearance in 8..9",
            "outside the range of `clearance`",
            "it goes from 0 to 7",
        ),
        (
            "not clearance >= 0",
            "clearance >= 0",
            "outside the range of `clearance`",
            "it goes from 0 to 7",
        ),
        (
            "joined < 2000-01-01",
            "joined < 2000-01-01",
            "outside the range of `joined`",
            "it goes from 2000-01-01 up",
        ),
        (
            "joined = 2000",
            "2000",
            "`joined` is a date",
            "write `joined = 2000-01-01`",
        ),
        (
            "shift > 23:00",
            "shift > 23:00",
            "outside the range of `shift`",
            "it goes up to 23:00",
        ),
        (
            "not dept in (er, icu, ward)",
            "dept in (er, icu, ward)",
            "nothing can satisfy this",
            "correct it, or remove it",
        ),
        (
            "dept = er and dept = icu",
            "dept = er and dept = icu",
            "nothing can satisfy this",
            "correct it, or remove it",
        ),
        (
            "not role = visitor",
            "role = visitor",
            "`role` is an attribute of several values, which `not` cannot exclude",
            "one value does not tell that another is missing; list those that may read",
        ),
        (
            "not room = 101",
            "room = 101",
            "`room` is a text of any value, which `not` cannot exclude",
            "list its values in the schema, or list those that may read",
        ),
        (
            "not on-call",
            "on-call",
            "`not` cannot exclude the flag `on-call`",
            "a key cannot prove that it lacks an attribute; give everyone a value instead",
        ),
    ] {
        let error = hospital().policy(text).expect_err(text);
        let found = (
            &text[error.span()],
            error.message(),
            error.hint().unwrap_or_default(),
        );
        assert_eq!(found, (place, message, hint), "{text}");
    }
}

#[test]
fn attribute_sets_are_checked_as_well() {
    let schema = hospital();
    assert!(
        schema
            .attribute_set("role = doctor, role = nurse, dept = icu, on-call")
            .is_ok()
    );
    for (text, place, message) in [
        (
            "rolle = doctor",
            "rolle",
            "the schema has no attribute `rolle`",
        ),
        (
            "role = docter",
            "docter",
            "`docter` is not a value of `role`",
        ),
        (
            "dept = icu, dept = er",
            "dept = er",
            "`dept` already has another value",
        ),
        (
            "clearance = 8",
            "clearance = 8",
            "outside the range of `clearance`",
        ),
        (
            "clearance = 3, clearance = 4",
            "clearance = 4",
            "`clearance` already has another integer",
        ),
        ("role", "role", "`role` is a text"),
        ("on-call = 3", "3", "`on-call` is a flag"),
    ] {
        let error = schema.attribute_set(text).expect_err(text);
        assert_eq!(
            (&text[error.span()], error.message()),
            (place, message),
            "{text}"
        );
    }
}

#[test]
fn what_was_parsed_elsewhere_can_be_checked() {
    let schema = hospital();
    let check_policy = |text: &str| schema.check_policy(&text.parse().expect("parses"));
    assert_eq!(
        check_policy("role = doctor or clearance >= 3 or topic matches a/#"),
        Ok(())
    );
    assert!(matches!(
        check_policy("rolle = doctor"),
        Err(Error::UnknownAttribute { .. })
    ));
    assert!(matches!(
        check_policy("role = docter"),
        Err(Error::UnknownValue { .. })
    ));
    assert!(matches!(
        check_policy("room = 101"),
        Err(Error::WrongType { .. })
    ));
    assert!(matches!(
        check_policy("clearance >= 8"),
        Err(Error::OutOfRange { .. })
    ));
    assert!(matches!(
        check_policy("joined >= 3"),
        Err(Error::WrongType { .. })
    ));

    let check_set = |text: &str| schema.check_set(&text.parse().expect("parses"));
    assert_eq!(
        check_set("role = doctor, role = nurse, clearance = 7, on-call"),
        Ok(())
    );
    assert!(matches!(check_set("role"), Err(Error::WrongType { .. })));
    assert!(matches!(
        check_set("clearance = 8"),
        Err(Error::OutOfRange { .. })
    ));
    assert!(matches!(
        check_set("dept = er, dept = icu"),
        Err(Error::SecondValue { .. })
    ));
    assert!(matches!(
        check_set("badge"),
        Err(Error::UnknownAttribute { .. })
    ));
}

#[test]
fn the_toml_form_is_read_back() {
    let schema = hospital();
    assert_eq!(Schema::from_toml(&schema.to_toml()), Ok(schema.clone()));
    assert_eq!(schema.iter().count(), 8);
    assert_eq!(
        schema.get("clearance").map(|definition| &definition.kind),
        Some(&AttributeType::Number {
            scale: Scale::Integer,
            min: Some(0),
            max: Some(7)
        })
    );
    assert_eq!(
        schema
            .get("role")
            .and_then(|definition| definition.description.as_deref()),
        Some("what somebody does here")
    );
    assert_eq!(Schema::from_toml(""), Ok(Schema::new()));
}

#[test]
fn schemas_that_contradict_themselves_are_refused() {
    for (definition, reason) in [
        (
            "type = \"flag\"\nvalues = [\"a\"]",
            "`values` and `many` are for `type = \"text\"`",
        ),
        (
            "type = \"integer\"\nmany = true",
            "`values` and `many` are for `type = \"text\"`",
        ),
        (
            "type = \"text\"\nmin = 3",
            "`min` and `max` are for numbers, dates and times",
        ),
        ("type = \"text\"\nvalues = []", "it allows no value"),
        (
            "type = \"text\"\nvalues = [\" a\"]",
            "attribute value begins or ends with a space: remove it",
        ),
        ("type = \"integer\"\nmin = 3\nmax = 2", "its range is empty"),
        (
            "type = \"integer\"\nmin = 2025-01-01",
            "`min` and `max` must be of its type, integer",
        ),
        (
            "type = \"date\"\nmin = 3",
            "`min` and `max` must be of its type, date",
        ),
        (
            "type = \"date\"\nmin = \"2025-02-30\"",
            "`min` and `max` must be of its type, date",
        ),
    ] {
        let error =
            Schema::from_toml(&format!("[attributes.x]\n{definition}")).expect_err(definition);
        let expected = Error::SchemaDefinition {
            name: "x".to_owned(),
            reason: reason.to_owned(),
        };
        assert_eq!(error, expected, "{definition}");
    }
    for text in [
        "[attributes.x]",
        "[attributes.x]\ntype = \"number\"",
        "[attributes.x]\ntype = \"flag\"\ncolour = \"red\"",
        "[atributes.x]\ntype = \"flag\"",
        "attributes = 3",
        "[attributes.x",
    ] {
        assert!(
            matches!(Schema::from_toml(text), Err(Error::SchemaSyntax { .. })),
            "{text}"
        );
    }
    let twins =
        "[attributes.\"\u{e4}\"]\ntype = \"flag\"\n[attributes.\"a\u{308}\"]\ntype = \"flag\"";
    assert!(matches!(
        Schema::from_toml(twins),
        Err(Error::SchemaDefinition { .. })
    ));
    let long = format!("#{}", "x".repeat(limits::MAX_SCHEMA_BYTES));
    assert!(matches!(
        Schema::from_toml(&long),
        Err(Error::TextTooLong { .. })
    ));
    assert!(matches!(
        Schema::from_toml("[attributes.\"\"]\ntype = \"flag\""),
        Err(Error::EmptyText { .. })
    ));
}

#[test]
fn deeply_nested_toml_is_refused() {
    for text in [
        format!("x = {}", "[".repeat(100_000)),
        format!("x = {}", "{a=".repeat(100_000)),
        format!("[{}]", "a.".repeat(100_000)),
    ] {
        assert!(matches!(
            Schema::from_toml(&text),
            Err(Error::SchemaSyntax { .. })
        ));
    }
}

/// The world of the generators as a schema; texts have one value each.
fn world(many: bool) -> Schema {
    let mut schema = Schema::new();
    let mut define = |name: &str, kind| {
        schema
            .define(
                name,
                Definition {
                    kind,
                    description: None,
                },
            )
            .expect("a possible definition");
    };
    for name in ["badge", "on-call"] {
        define(name, AttributeType::Flag);
    }
    for name in ["dept", "role"] {
        let values: BTreeSet<String> = ["er", "icu", "ward"].map(str::to_owned).into();
        define(
            name,
            AttributeType::Text {
                values: Some(values),
                many,
            },
        );
    }
    for name in ["clearance", "level"] {
        define(
            name,
            AttributeType::Number {
                scale: Scale::Integer,
                min: None,
                max: None,
            },
        );
    }
    define(
        "joined",
        AttributeType::Number {
            scale: Scale::Date,
            min: None,
            max: None,
        },
    );
    schema
}

proptest! {
    #[test]
    fn a_schema_that_allows_everything_changes_nothing(policy in written(), holder in holder()) {
        let schema = world(true);
        let (with, without) = (schema.policy(&policy.text()), policy.text().parse::<Policy>());
        prop_assert_eq!(&with, &without);
        if let Ok(policy) = with {
            prop_assert_eq!(schema.check_policy(&policy), Ok(()));
        }
        prop_assert_eq!(schema.check_set(&holder.set()), Ok(()));
        let text = holder.set().without_topic().to_string();
        prop_assert_eq!(schema.attribute_set(&text), text.parse::<AttributeSet>());
    }

    /// Where an attribute has one value, the schema may simplify, for holders that obey it.
    #[test]
    fn one_value_at_a_time_keeps_the_meaning(policy in written(), mut holder in holder()) {
        let schema = world(false);
        let mut seen = BTreeSet::new();
        holder.texts.retain(|(name, _)| seen.insert(*name));
        prop_assert_eq!(schema.check_set(&holder.set()), Ok(()));
        if let Ok(parsed) = schema.policy(&policy.text()) {
            prop_assert_eq!(parsed.evaluate(&holder.set()), policy.evaluate(&holder), "{}", parsed);
            prop_assert_eq!(parsed.as_str().parse::<Policy>(), Ok(parsed.clone()));
            prop_assert_eq!(schema.policy(parsed.as_str()), Ok(parsed));
        }
    }
}
