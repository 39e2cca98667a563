//! `docs/policy.md` describes what this crate does: its examples are run.

use smqtt_policy::{Attribute, AttributeSet, Policy, Schema, limits};

const PAGE: &str = include_str!("../../../docs/policy.md");

/// The fenced blocks of a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    PAGE.split(fence.as_str())
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

/// What stands in backquotes in the first cells of the table under a heading.
fn first_cells(heading: &str) -> Vec<&'static str> {
    let section = PAGE.split(heading).nth(1).expect("the heading exists");
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    rows.skip(2)
        .filter_map(|row| row.split('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn the_canonical_forms_are_as_shown() {
    let mut shown = 0;
    for line in blocks("canonical").iter().flat_map(|block| block.lines()) {
        let (written, canonical) = line.split_once('⇒').expect("an arrow");
        let policy: Policy = written
            .trim()
            .parse()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(policy.as_str(), canonical.trim(), "{line}");
        shown += 1;
    }
    assert_eq!(shown, 17);
}

#[test]
fn the_conditions_are_as_listed() {
    let listed = first_cells("\n## Policies");
    assert_eq!(listed.len(), 15);
    for text in listed {
        let text = text.replace("not p", "not n = 3");
        assert!(text.parse::<Policy>().is_ok(), "{text}");
    }
}

#[test]
fn the_attributes_are_as_listed() {
    let section = PAGE
        .split("\n## Attributes")
        .nth(1)
        .expect("the heading exists");
    let rows = section
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = rows.skip(2).filter_map(|row| row.split('|').nth(2));
    let mut listed = 0;
    for text in cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        let attribute: Attribute = text
            .parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(attribute.to_string(), text);
        listed += 1;
    }
    assert_eq!(listed, 9);
}

#[test]
fn the_examples_at_the_top_parse() {
    let examples = PAGE
        .split("\n\n")
        .find(|part| part.starts_with("    role = doctor"))
        .expect("examples");
    for text in examples.lines() {
        assert!(text.parse::<Policy>().is_ok(), "{text}");
    }
    assert!(
        "role = doctor, role = surgeon, dept = icu, clearance = 5, on-call"
            .parse::<AttributeSet>()
            .is_ok()
    );
}

#[test]
fn the_schema_and_its_error_are_as_shown() {
    let schema = Schema::from_toml(blocks("toml")[0]).expect("the schema on the page");
    let (text, rendered) = blocks("error")[0]
        .split_once('\n')
        .expect("a policy and its error");
    assert_eq!(
        schema.policy(text).expect_err("an error").render(text),
        rendered.trim_end()
    );
    let policy = schema
        .policy("not (dept = er or dept = icu)")
        .expect("one department is left");
    assert_eq!(policy.as_str(), "dept = ward");
}

#[test]
fn the_explanation_is_as_shown() {
    let policy: Policy = "role = doctor and (dept = icu or clearance >= 3)"
        .parse()
        .expect("parses");
    let set: AttributeSet = "role = doctor, dept = er".parse().expect("parses");
    let shown = policy.explain(&set).to_string().replace('\n', "\n    ");
    assert!(PAGE.contains(&format!("\n    {shown}\n")), "{shown}");
}

#[test]
fn the_limits_are_as_listed() {
    for (what, limit) in [
        ("policy or set text", limits::MAX_TEXT_BYTES),
        ("name", limits::MAX_NAME_BYTES),
        ("text value", limits::MAX_VALUE_BYTES),
        ("topic name or filter", limits::MAX_TOPIC_BYTES),
        (
            "nesting of parentheses, `not` and `k of` in a text",
            limits::MAX_NESTING,
        ),
        ("conditions in a text", limits::MAX_CONDITIONS),
        ("levels of a policy after normalisation", limits::MAX_DEPTH),
        ("rows of a policy with its epoch", limits::MAX_ROWS),
        (
            "occurrences of one attribute in a formula (τ)",
            limits::MAX_OCCURRENCES,
        ),
        ("attributes that a set states", limits::MAX_STATED),
        ("attributes of a set, expanded", limits::MAX_ATTRIBUTES),
        ("encoding of a set or formula", limits::MAX_SET_BYTES),
        ("encoding of a set or formula", limits::MAX_FORMULA_BYTES),
        ("schema", limits::MAX_SCHEMA_BYTES),
    ] {
        let row = PAGE
            .lines()
            .find(|line| line.starts_with(&format!("| {what} |")))
            .expect(what);
        let number = row
            .split('|')
            .nth(2)
            .and_then(|cell| cell.split_whitespace().next());
        assert_eq!(number, Some(limit.to_string().as_str()), "{what}");
    }
    assert!(PAGE.contains(&format!(
        "| {} bytes, {} levels |",
        limits::MAX_TOPIC_BYTES,
        limits::MAX_TOPIC_LEVELS
    )));
}

#[test]
fn the_costs_of_numbers_are_as_said() {
    for (set, attributes) in [("n = 0", 8), ("n = 1", 8), ("n = 5", 10), ("n = 1000", 17)] {
        assert_eq!(
            set.parse::<AttributeSet>().expect("parses").len(),
            attributes,
            "{set}"
        );
    }
    for (policy, rows) in [
        ("n in 3..7", 2),
        ("n in 0..7", 1),
        ("n >= 0", 1),
        ("n >= 3", 6),
    ] {
        assert_eq!(
            policy.parse::<Policy>().expect("parses").formula().rows(),
            rows,
            "{policy}"
        );
    }
}
