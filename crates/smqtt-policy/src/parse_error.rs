//! A text that does not parse: the place, what is wrong there, and what to write instead.

use std::fmt;
use std::ops::Range;

use unicode_normalization::char::is_combining_mark;

use crate::Error;
use crate::expr::{Literal, Name};
use crate::text::is_forbidden;

/// Why a policy, attribute or attribute-set text does not parse, and where.
///
/// ```
/// use smqtt_policy::Policy;
///
/// let source = "role = doctor and clearance => 3";
/// let error = source.parse::<Policy>().unwrap_err();
/// assert_eq!(error.render(source), "\
/// error: expected a value after `=`, found `>`
///   |
/// 1 | role = doctor and clearance => 3
///   |                              ^
///   = hint: write `>=`");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    span: Range<usize>,
    message: String,
    hint: Option<String>,
}

/// Columns of the source that [`ParseError::render`] shows of a long line.
const WINDOW: usize = 96;

impl ParseError {
    pub(crate) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: None,
        }
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error of the crate at a place in a text.
    pub(crate) fn at(span: Range<usize>, error: &Error) -> Self {
        if let Error::Parse(error) = error {
            return error.clone();
        }
        // Messages are "what is wrong: what to do".
        let message = error.to_string();
        match message.split_once(": ") {
            Some((what, todo)) => Self::new(span, what).with_hint(todo),
            None => Self::new(span, message),
        }
    }

    /// An error of the schema about `name = value`, at the name or at the value.
    pub(crate) fn of_value(name: &Name, value: &Literal, error: &Error) -> Self {
        let place = match error {
            Error::UnknownAttribute { .. } => &name.span,
            _ => &value.span,
        };
        Self::at(place.clone(), error)
    }

    /// Where in the text the fault is, in bytes. Empty at the end of a text that breaks off.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where in the text the fault begins, in bytes from its start.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.span.start
    }

    /// What is wrong, in one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to write instead, in one line, where that can be told.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The error with the line of `source` that it is in and carets under the place.
    ///
    /// `source` is the text that was parsed; with any other one the place is meaningless, but
    /// nothing worse happens. What would not show as itself on a terminal is shown as `�`.
    /// There is no newline at the end.
    #[must_use]
    pub fn render(&self, source: &str) -> String {
        let start = floor_char_boundary(source, self.span.start);
        let end = floor_char_boundary(source, self.span.end).max(start);
        let line_start = source[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = source[start..]
            .find('\n')
            .map_or(source.len(), |newline| start + newline);
        let end = end.min(line_end);
        let number = source[..line_start].matches('\n').count() + 1;

        let before = &source[line_start..start];
        let place = &source[start..end];
        let after = &source[end..line_end];
        let (cut_before, before) = keep_end(before, WINDOW / 2);
        let (place, cut_place) = keep_start(place, WINDOW / 2);
        let (after, cut_after) = if cut_place {
            ("", true)
        } else {
            keep_start(after, WINDOW / 2 - width(place) / 2)
        };

        let mut shown = String::new();
        let mut marks = String::new();
        if cut_before {
            shown.push('…');
            marks.push(' ');
        }
        for c in before.chars() {
            shown.push(visible(c));
            // A tab under a tab is as wide, whatever the terminal's stops.
            if c == '\t' {
                marks.push('\t');
            } else {
                marks.extend(std::iter::repeat_n(' ', char_width(c)));
            }
        }
        shown.extend(place.chars().map(visible));
        marks.extend(std::iter::repeat_n('^', width(place).max(1)));
        shown.extend(after.chars().map(visible));
        if cut_after {
            shown.push('…');
        }

        let number = number.to_string();
        let gutter = " ".repeat(number.len());
        let mut out = format!("error: {}\n{gutter} |\n{number} | ", self.message);
        out.push_str(shown.trim_end());
        out.push_str(&format!("\n{gutter} | {marks}"));
        if let Some(hint) = &self.hint {
            out.push_str(&format!("\n{gutter} = hint: {hint}"));
        }
        out
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.message, self.span.start)?;
        match &self.hint {
            Some(hint) => write!(f, ": {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ParseError {}

fn floor_char_boundary(text: &str, index: usize) -> usize {
    let mut index = index.min(text.len());
    while !text.is_char_boundary(index) {
        index -= 1;
    }
    index
}

/// The last characters of `text` that fit in `columns`, and whether any were left off.
fn keep_end(text: &str, columns: usize) -> (bool, &str) {
    let mut used = 0;
    for (index, c) in text.char_indices().rev() {
        used += char_width(c);
        if used > columns {
            return (true, &text[index + c.len_utf8()..]);
        }
    }
    (false, text)
}

/// The first characters of `text` that fit in `columns`, and whether any were left off.
fn keep_start(text: &str, columns: usize) -> (&str, bool) {
    let mut used = 0;
    for (index, c) in text.char_indices() {
        used += char_width(c);
        if used > columns {
            return (&text[..index], true);
        }
    }
    (text, false)
}

fn visible(c: char) -> char {
    if c != '\t' && is_forbidden(c) {
        '\u{FFFD}'
    } else {
        c
    }
}

fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Columns that a terminal gives to `c`: none to a combining mark, two to East Asian wide
/// characters and emoji, one to the rest.
fn char_width(c: char) -> usize {
    match c {
        _ if is_combining_mark(c) => 0,
        '\u{1100}'..='\u{115F}'
        | '\u{2E80}'..='\u{303E}'
        | '\u{3041}'..='\u{33FF}'
        | '\u{3400}'..='\u{4DBF}'
        | '\u{4E00}'..='\u{9FFF}'
        | '\u{A000}'..='\u{A4CF}'
        | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}'
        | '\u{FE30}'..='\u{FE4F}'
        | '\u{FF00}'..='\u{FF60}'
        | '\u{FFE0}'..='\u{FFE6}'
        | '\u{1F300}'..='\u{1F64F}'
        | '\u{1F900}'..='\u{1F9FF}'
        | '\u{20000}'..='\u{3FFFD}' => 2,
        _ => 1,
    }
}
