//! Errors name the place, what is wrong there, and what to write instead.

use smqtt_policy::{AttributeSet, ParseError, Policy};

fn fails(text: &str) -> ParseError {
    text.parse::<Policy>().expect_err(text)
}

/// What the caret stands under, the message and the hint.
fn parts(text: &str) -> (String, String, String) {
    let error = fails(text);
    let hint = error.hint().unwrap_or_default().to_owned();
    (
        text[error.span()].to_owned(),
        error.message().to_owned(),
        hint,
    )
}

#[test]
fn mistakes_are_told_with_their_remedy() {
    for (text, place, message, hint) in [
        (
            "",
            "",
            "the policy is empty",
            "name what a reader must hold, for example `role = doctor`",
        ),
        (
            "role = head physician",
            "physician",
            "expected `and`, `or` or the end, found `physician`",
            "a value of several words goes in quotes: \"head physician\"",
        ),
        (
            "role doctor",
            "doctor",
            "expected `and`, `or` or the end, found `doctor`",
            "join conditions with `and` or `or`",
        ),
        (
            "role = ",
            "",
            "expected a value after `=`, found the end",
            "",
        ),
        (
            "role = and dept = icu",
            "and",
            "expected a value after `=`, found `and`",
            "`and` is a word of the language: as a value it goes in quotes",
        ),
        (
            "role == doctor",
            "==",
            "`==` has no meaning here",
            "write `=`",
        ),
        ("a && b", "&&", "`&&` has no meaning here", "write `and`"),
        ("a | b", "|", "`|` has no meaning here", "write `or`"),
        ("!a", "!", "`!` has no meaning here", "write `not`"),
        ("n ≥ 3", "≥", "`≥` has no meaning here", "write `>=`"),
        (
            "n => 3",
            ">",
            "expected a value after `=`, found `>`",
            "write `>=`",
        ),
        ("n <> 3", "<>", "`<>` has no meaning here", "write `!=`"),
        (
            "role = “doctor”",
            "“",
            "`“` has no meaning here",
            "write straight quotes: \"…\"",
        ),
        (
            "role = \"doctor",
            "\"",
            "this quote is never closed",
            "end the text with \"",
        ),
        (
            "role = \"a\\nb\"",
            "\\n",
            "unknown escape in a quoted text",
            "only `\\\"`, `\\'` and `\\\\` are escapes",
        ),
        (
            "(a and b",
            "(",
            "this `(` is never closed",
            "add the `)` that belongs to it",
        ),
        (
            "a and b)",
            ")",
            "this `)` closes nothing",
            "remove it, or add the `(` that it belongs to",
        ),
        (
            "a, b",
            ",",
            "expected `and`, `or` or the end, found `,`",
            "join conditions with `and` or `or`; commas are for `k of (…)`",
        ),
        (
            "3 of (a, b)",
            "3",
            "3 of 2 is not possible",
            "use a number from 1 to 2",
        ),
        (
            "0 of (a, b)",
            "0",
            "0 of 2 is not possible",
            "use a number from 1 to 2",
        ),
        (
            "2 of a, b",
            "a",
            "expected `(` after `of`, found `a`",
            "write `2 of (…, …)` with the alternatives in parentheses",
        ),
        (
            "7",
            "7",
            "expected a condition, found `7`",
            "a name that is a number goes in quotes: \"7\"",
        ),
        (
            "2025-01-01 < d",
            "2025-01-01",
            "expected an attribute's name, found `2025-01-01`",
            "a name that is a number goes in quotes: \"2025-01-01\"",
        ),
        (
            "epoch = 7",
            "epoch",
            "expected a condition, found `epoch`",
            "`epoch` is a word of the language: an attribute of that name goes in quotes",
        ),
        (
            "topic = a/b",
            "=",
            "expected `matches` after `topic`, found `=`",
            "write `topic matches house/+/temperature`, or \"topic\" for an attribute",
        ),
        (
            "topic matches",
            "",
            "expected a topic filter after `matches`, found the end",
            "for example `house/+/temperature`",
        ),
        (
            "topic matches a/b+",
            "a/b+",
            "not a valid topic filter",
            "`+` must have a level of its own [MQTT-4.7.1-2]",
        ),
        (
            "topic matches a/#/b",
            "a/#/b",
            "not a valid topic filter",
            "`#` must be the last level, alone [MQTT-4.7.1-1]",
        ),
        (
            "not topic matches a",
            "topic matches a",
            "`not` cannot exclude a topic",
            "list the filters that are allowed",
        ),
        (
            "not a",
            "a",
            "`not` cannot exclude the flag `a`",
            "a key cannot prove that it lacks an attribute; give everyone a value instead",
        ),
        (
            "role != doctor",
            "role != doctor",
            "`not` needs to know which values `role` can have",
            "check the policy against the authority's schema, or list the values that may read",
        ),
        (
            "role > doctor",
            "doctor",
            "`>` compares numbers, dates and times, not the text `doctor`",
            "a number stands without quotes; texts compare with `=` and `in (…)`",
        ),
        (
            "n > \"3\"",
            "\"3\"",
            "`>` compares numbers, dates and times, not the text `3`",
            "a number stands without quotes; texts compare with `=` and `in (…)`",
        ),
        (
            "n in 7..3",
            "7..3",
            "the range is empty: its lower end is above its upper end",
            "write the smaller number first",
        ),
        (
            "n in 3..2025-01-01",
            "3..2025-01-01",
            "a range from an integer to a date",
            "both ends must be of one kind",
        ),
        (
            "n in 3",
            "",
            "expected `..` after the lower end, found the end",
            "write `n in 3..9` for a range, `n in (3, …)` for a list",
        ),
        (
            "n in (3, 4",
            "(",
            "this `(` is never closed",
            "add the `)` that belongs to it",
        ),
        (
            "n in (3 4)",
            "4",
            "expected `,` or `)`, found `4`",
            "a value of several words goes in quotes: \"3 4\"",
        ),
        (
            "n = 3 and n = 4",
            "n = 3 and n = 4",
            "nothing can satisfy this",
            "correct it, or remove it",
        ),
        (
            "a or (n > 5 and n < 3)",
            "(n > 5 and n < 3)",
            "nothing can satisfy this",
            "correct it, or remove it",
        ),
        (
            "n = 9223372036854775808",
            "9223372036854775808",
            "not a valid integer",
            "correct it, or put it in quotes if it is a text",
        ),
        (
            "d = 2025-02-30",
            "2025-02-30",
            "not a valid date",
            "correct it, or put it in quotes if it is a text",
        ),
        (
            "a\u{200b}",
            "\u{200b}",
            "U+200B has no meaning here",
            "names and values with other signs go in quotes",
        ),
        (
            "\"a\u{200b}b\"",
            "\u{200b}",
            "U+200B is not visible as itself",
            "remove it",
        ),
        (
            "\" a\"",
            "\" a\"",
            "attribute name begins or ends with a space",
            "remove it",
        ),
        (
            "\"\"",
            "\"\"",
            "attribute name is empty",
            "give it at least one character",
        ),
    ] {
        assert_eq!(
            parts(text),
            (place.to_owned(), message.to_owned(), hint.to_owned()),
            "{text}"
        );
    }
}

#[test]
fn mistakes_in_attribute_sets_are_told_with_their_remedy() {
    for (text, place, message, hint) in [
        (
            "role = doctor dept = icu",
            "dept",
            "expected `,` or the end, found `dept`",
            "a value of several words goes in quotes: \"doctor dept\"",
        ),
        (
            "a b",
            "b",
            "expected `,` or the end, found `b`",
            "separate them with commas",
        ),
        (
            "a,",
            "",
            "expected an attribute, found the end",
            "write attributes as `name = value` or `name`, separated by commas",
        ),
        (
            "clearance >= 3",
            ">=",
            "an attribute cannot be stated with `>=`",
            "a set states values (`clearance = 3`), a policy compares them",
        ),
        (
            "epoch = 3",
            "epoch",
            "expected a condition, found `epoch`",
            "`epoch` is a word of the language: an attribute of that name goes in quotes",
        ),
    ] {
        let error = text.parse::<AttributeSet>().expect_err(text);
        let found = (
            &text[error.span()],
            error.message(),
            error.hint().unwrap_or_default(),
        );
        assert_eq!(found, (place, message, hint), "{text}");
    }
}

#[test]
fn the_caret_stands_under_the_place() {
    let source = "role = doctor and (dept = icu";
    assert_eq!(
        fails(source).render(source),
        "error: this `(` is never closed\n  \
         |\n\
         1 | role = doctor and (dept = icu\n  \
         |                   ^\n  \
         = hint: add the `)` that belongs to it"
    );
}

#[test]
fn the_caret_stands_at_the_end_of_a_text_that_breaks_off() {
    let source = "role = doctor and ";
    assert_eq!(
        fails(source).render(source),
        "error: expected a condition, found the end\n  \
         |\n\
         1 | role = doctor and\n  \
         |                   ^\n  \
         = hint: a condition is `name = value`, a bare name, or a group in `(…)`"
    );
}

#[test]
fn the_line_is_shown_of_a_text_of_several() {
    let source = "a\nand b\nand (c or\n\td && e)\n";
    assert_eq!(
        fails(source).render(source),
        "error: `&&` has no meaning here\n  \
         |\n\
         4 | \td && e)\n  \
         | \t  ^^\n  \
         = hint: write `and`"
    );
}

#[test]
fn columns_are_counted_as_a_terminal_shows_them() {
    let source = "\"u\u{308}\" = \"\u{533b}\u{751f}\" ?";
    let rendered = fails(source).render(source);
    let lines: Vec<&str> = rendered.lines().collect();
    assert_eq!(lines[2], "1 | \"u\u{308}\" = \"\u{533b}\u{751f}\" ?");
    assert_eq!(lines[3], "  |              ^");
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let source = format!("{} ? {}", "a or ".repeat(100), "or b".repeat(100));
    let rendered = fails(&source).render(&source);
    let lines: Vec<&str> = rendered.lines().collect();
    assert!(
        lines[2].starts_with("1 | …") && lines[2].ends_with('…'),
        "{rendered}"
    );
    assert!(lines[2].chars().count() < 110);
    let caret = lines[3].chars().position(|c| c == '^').expect("a caret");
    assert_eq!(lines[2].chars().nth(caret), Some('?'));
}

#[test]
fn what_would_drive_a_terminal_is_not_shown() {
    let source = "a and \u{1b}[31m";
    let error = fails(source);
    assert_eq!(error.message(), "U+001B has no meaning here");
    assert!(!error.render(source).contains('\u{1b}'));
    assert!(error.render(source).contains("a and \u{fffd}[31m"));
}

#[test]
fn a_line_without_the_source_has_the_place_as_well() {
    let error = fails("a and");
    assert_eq!(
        error.to_string(),
        "expected a condition, found the end (at byte 5): a condition is `name = value`, a bare name, \
         or a group in `(…)`"
    );
}

#[test]
fn rendering_with_another_source_does_no_harm() {
    let error = fails("aaaaaaaaaaaaaaaaaa and");
    for other in ["", "ü", "a\nb\n\n", "üüüüüüüüüüüüüüüüüüüüüüüü"] {
        assert!(error.render(other).contains('^'));
    }
}
