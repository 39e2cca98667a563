//! Names and values: Unicode text in one canonical form.

use std::sync::Arc;

use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{UnicodeNormalization as _, is_nfc};

use crate::Error;

/// Words of the language, which name an attribute only in quotes. Compared without ASCII case.
const RESERVED: [&str; 8] = ["and", "or", "not", "of", "in", "matches", "topic", "epoch"];

/// Whether `word` is one of the language's own words, in whatever ASCII case.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED
        .iter()
        .any(|reserved| word.eq_ignore_ascii_case(reserved))
}

/// `text` in NFC, if it may be a name or value of at most `limit` bytes.
pub(crate) fn canonical(what: &'static str, text: &str, limit: usize) -> Result<Arc<str>, Error> {
    // NFC grows a text at most threefold (Unicode UAX #15), so this bounds the copy as well.
    if text.len() > limit.saturating_mul(4) {
        return Err(Error::TextTooLong {
            what,
            bytes: text.len(),
            limit,
        });
    }
    let normal: String = text.nfc().collect();
    check(what, &normal, limit)?;
    Ok(normal.into())
}

/// `text` as it is, if it is already in canonical form.
pub(crate) fn already_canonical(
    what: &'static str,
    text: &str,
    limit: usize,
) -> Result<Arc<str>, Error> {
    check(what, text, limit)?;
    if !is_nfc(text) {
        return Err(Error::NotCanonical {
            what: "text that is not in Unicode NFC",
        });
    }
    Ok(text.into())
}

fn check(what: &'static str, text: &str, limit: usize) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::EmptyText { what });
    }
    if text.len() > limit {
        return Err(Error::TextTooLong {
            what,
            bytes: text.len(),
            limit,
        });
    }
    if let Some(character) = text.chars().find(|&c| is_forbidden(c)) {
        return Err(Error::ForbiddenCharacter { what, character });
    }
    if text.starts_with(' ') || text.ends_with(' ') {
        return Err(Error::EdgeSpace { what });
    }
    Ok(())
}

/// Characters that nobody sees, or that change how their neighbours are shown: two names that look
/// alike must be alike.
pub(crate) fn is_forbidden(c: char) -> bool {
    (c.is_whitespace() && c != ' ')
        || c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
            | '\u{FFF0}'..='\u{FFFB}' | '\u{1D173}'..='\u{1D17A}' | '\u{E0000}'..='\u{E0FFF}')
        || (c as u32) & 0xFFFE == 0xFFFE
        || matches!(c, '\u{FDD0}'..='\u{FDEF}')
}

/// Whether a word may begin with `c`.
pub(crate) fn starts_word(c: char) -> bool {
    c == '_' || c == '/' || c == '@' || c.is_alphanumeric()
}

/// Whether a word may go on with `c`. A dot counts only where no second one follows (`3..7`).
pub(crate) fn continues_word(c: char) -> bool {
    starts_word(c) || matches!(c, '-' | '.' | ':' | '+') || is_combining_mark(c)
}

/// Whether the canonical form writes `text` without quotes: an ASCII word, for whose characters no
/// edition of Unicode has another opinion.
pub(crate) fn is_plain_word(text: &str) -> bool {
    text.is_ascii()
        && text.starts_with(starts_word)
        && text.chars().all(continues_word)
        && !text.contains("..")
        && !text.ends_with('.')
}

/// `text` between double quotes, with `"` and `\` escaped by `\`.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// A name or text value as the canonical form writes it: in quotes where it would read as something
/// else.
pub(crate) fn literal(text: &str) -> String {
    if is_plain_word(text) && !is_reserved(text) && !crate::Scale::claims(text) {
        text.to_owned()
    } else {
        quoted(text)
    }
}
