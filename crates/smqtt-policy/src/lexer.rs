//! Text to tokens.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use crate::ParseError;
use crate::text::{continues_word, is_forbidden, starts_word};

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Operator {
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind<'a> {
    /// Letters, digits and a few signs, as they stand in the source.
    Word(&'a str),
    /// What stood between quotes, escapes resolved.
    Quoted(String),
    Operator(Operator),
    Open,
    Close,
    Comma,
    DotDot,
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: TokenKind<'a>,
    pub(crate) span: Range<usize>,
}

impl Token<'_> {
    /// Whether this is the language's word `keyword`, in whatever case.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        matches!(self.kind, TokenKind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// As a message calls it: ``found `>=` ``.
impl fmt::Display for TokenKind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text: Cow<'_, str> = match self {
            Self::Word(word) => Cow::Borrowed(*word),
            Self::Quoted(text) => Cow::Owned(crate::text::quoted(text)),
            Self::Operator(operator) => Cow::Borrowed(operator.symbol()),
            Self::Open => Cow::Borrowed("("),
            Self::Close => Cow::Borrowed(")"),
            Self::Comma => Cow::Borrowed(","),
            Self::DotDot => Cow::Borrowed(".."),
            Self::End => return f.write_str("the end"),
        };
        if text.chars().count() > 40 {
            let head: String = text.chars().take(39).collect();
            write!(f, "`{head}…`")
        } else {
            write!(f, "`{text}`")
        }
    }
}

/// Reads tokens on demand: what follows `matches` is read by other rules.
pub(crate) struct Lexer<'a> {
    source: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) const fn new(source: &'a str) -> Self {
        Self {
            source,
            position: 0,
        }
    }

    fn rest(&self) -> &'a str {
        &self.source[self.position..]
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        let space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
        self.position += rest.len() - rest.trim_start_matches(space).len();
    }

    fn token(&mut self, length: usize, kind: TokenKind<'a>) -> Token<'a> {
        let start = self.position;
        self.position += length;
        Token {
            kind,
            span: start..self.position,
        }
    }

    pub(crate) fn next(&mut self) -> Result<Token<'a>, ParseError> {
        self.skip_space();
        let rest = self.rest();
        let mut chars = rest.chars();
        let Some(first) = chars.next() else {
            return Ok(self.token(0, TokenKind::End));
        };
        let second = chars.next();
        Ok(match (first, second) {
            ('(', _) => self.token(1, TokenKind::Open),
            (')', _) => self.token(1, TokenKind::Close),
            (',', _) => self.token(1, TokenKind::Comma),
            ('.', Some('.')) => self.token(2, TokenKind::DotDot),
            ('=', Some('=')) => return Err(self.unknown(2, "write `=`")),
            ('=', _) => self.token(1, TokenKind::Operator(Operator::Equal)),
            ('!', Some('=')) => self.token(2, TokenKind::Operator(Operator::NotEqual)),
            ('<', Some('=')) => self.token(2, TokenKind::Operator(Operator::LessOrEqual)),
            ('<', Some('>')) => return Err(self.unknown(2, "write `!=`")),
            ('<', _) => self.token(1, TokenKind::Operator(Operator::Less)),
            ('>', Some('=')) => self.token(2, TokenKind::Operator(Operator::GreaterOrEqual)),
            ('>', _) => self.token(1, TokenKind::Operator(Operator::Greater)),
            ('"' | '\'', _) => return self.quoted(first),
            ('-', Some(digit)) if digit.is_ascii_digit() => self.word(),
            (c, _) if starts_word(c) => self.word(),
            ('≤', _) => return Err(self.unknown(first.len_utf8(), "write `<=`")),
            ('≥', _) => return Err(self.unknown(first.len_utf8(), "write `>=`")),
            ('≠', _) => return Err(self.unknown(first.len_utf8(), "write `!=`")),
            ('&', Some('&')) => return Err(self.unknown(2, "write `and`")),
            ('|', Some('|')) => return Err(self.unknown(2, "write `or`")),
            ('&' | '∧', _) => return Err(self.unknown(first.len_utf8(), "write `and`")),
            ('|' | '∨', _) => return Err(self.unknown(first.len_utf8(), "write `or`")),
            ('!' | '¬', _) => return Err(self.unknown(first.len_utf8(), "write `not`")),
            ('“' | '”' | '„' | '‘' | '’' | '«' | '»', _) => {
                return Err(self.unknown(first.len_utf8(), "write straight quotes: \"…\""));
            }
            (c, _) => {
                return Err(self.unknown(
                    c.len_utf8(),
                    "names and values with other signs go in quotes",
                ));
            }
        })
    }

    fn unknown(&self, length: usize, hint: &str) -> ParseError {
        let text = &self.rest()[..length];
        let shown = match text.chars().next() {
            Some(c) if is_forbidden(c) => format!("U+{:04X}", u32::from(c)),
            _ => format!("`{text}`"),
        };
        let span = self.position..self.position + length;
        ParseError::new(span, format!("{shown} has no meaning here")).with_hint(hint)
    }

    fn word(&mut self) -> Token<'a> {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .skip(1)
            .find(|&(index, c)| !continues_word(c) || rest[index..].starts_with(".."))
            .map_or(rest.len(), |(index, _)| index);
        self.token(end, TokenKind::Word(&rest[..end]))
    }

    fn quoted(&mut self, quote: char) -> Result<Token<'a>, ParseError> {
        let start = self.position;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((index, c)) = chars.next() {
            let here = start + index;
            if c == quote {
                self.position = here + 1;
                return Ok(Token {
                    kind: TokenKind::Quoted(text),
                    span: start..self.position,
                });
            }
            if c == '\\' {
                match chars.next() {
                    Some((_, escaped @ ('\\' | '"' | '\''))) => text.push(escaped),
                    Some((_, other)) => {
                        return Err(ParseError::new(
                            here..here + 1 + other.len_utf8(),
                            "unknown escape in a quoted text",
                        )
                        .with_hint("only `\\\"`, `\\'` and `\\\\` are escapes"));
                    }
                    None => break,
                }
                continue;
            }
            if is_forbidden(c) {
                return Err(ParseError::new(
                    here..here + c.len_utf8(),
                    format!("U+{:04X} is not visible as itself", u32::from(c)),
                )
                .with_hint("remove it"));
            }
            text.push(c);
        }
        Err(
            ParseError::new(start..start + 1, "this quote is never closed")
                .with_hint(format!("end the text with {quote}")),
        )
    }

    /// What follows `matches`: a quoted text, or everything up to white space, a parenthesis or comma.
    pub(crate) fn filter(&mut self) -> Result<Token<'a>, ParseError> {
        self.skip_space();
        let rest = self.rest();
        if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
            return self.quoted(quote);
        }
        let end = rest
            .find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | ',' | '"' | '\''))
            .unwrap_or(rest.len());
        if end == 0 {
            return self.next();
        }
        Ok(self.token(end, TokenKind::Word(&rest[..end])))
    }
}
