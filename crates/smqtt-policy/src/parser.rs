//! Tokens to syntax trees and attribute sets. `docs/policy.md` has the grammar.

use std::ops::Range;

use crate::expr::{Expr, ExprKind, Literal, Name};
use crate::lexer::{Lexer, Operator, Token, TokenKind};
use crate::limits::{MAX_CONDITIONS, MAX_NAME_BYTES, MAX_NESTING, MAX_TEXT_BYTES, MAX_VALUE_BYTES};
use crate::text::{canonical, is_reserved};
use crate::topic::Filter;
use crate::{Error, ParseError, Scale};

/// Parses a policy.
pub(crate) fn policy(source: &str) -> Result<Expr, ParseError> {
    let mut parser = Parser::new("policy", source)?;
    if parser.peek()?.kind == TokenKind::End {
        return Err(ParseError::new(0..source.len(), "the policy is empty")
            .with_hint("name what a reader must hold, for example `role = doctor`"));
    }
    let expr = parser.disjunction()?;
    let token = parser.bump()?;
    match token.kind {
        TokenKind::End => Ok(expr),
        TokenKind::Close => Err(ParseError::new(token.span, "this `)` closes nothing")
            .with_hint("remove it, or add the `(` that it belongs to")),
        _ => Err(parser.unexpected("`and`, `or` or the end", token)),
    }
}

/// Reads one text. Ends with an error at the first fault.
pub(crate) struct Parser<'a> {
    source: &'a str,
    lexer: Lexer<'a>,
    pub(crate) peeked: Option<Token<'a>>,
    nesting: usize,
    conditions: usize,
    /// The value that was read last, to tell `role = head physician` for what it is.
    last_value: Option<Range<usize>>,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(what: &str, source: &'a str) -> Result<Self, ParseError> {
        if source.len() > MAX_TEXT_BYTES {
            let message = format!(
                "the {what} has {} bytes, the limit is {MAX_TEXT_BYTES}",
                source.len()
            );
            return Err(ParseError::new(0..0, message).with_hint("shorten it"));
        }
        let lexer = Lexer::new(source);
        Ok(Self {
            source,
            lexer,
            peeked: None,
            nesting: 0,
            conditions: 0,
            last_value: None,
        })
    }

    pub(crate) fn peek(&mut self) -> Result<&Token<'a>, ParseError> {
        let token = match self.peeked.take() {
            Some(token) => token,
            None => self.lexer.next()?,
        };
        Ok(self.peeked.insert(token))
    }

    pub(crate) fn bump(&mut self) -> Result<Token<'a>, ParseError> {
        match self.peeked.take() {
            Some(token) => Ok(token),
            None => self.lexer.next(),
        }
    }

    fn bump_if(&mut self, keyword: &str) -> Result<bool, ParseError> {
        let found = self.peek()?.is(keyword);
        if found {
            self.peeked = None;
        }
        Ok(found)
    }

    fn disjunction(&mut self) -> Result<Expr, ParseError> {
        self.chain("or", ExprKind::Or, Self::conjunction)
    }

    fn conjunction(&mut self) -> Result<Expr, ParseError> {
        self.chain("and", ExprKind::And, Self::negation)
    }

    fn chain(
        &mut self,
        keyword: &str,
        gate: impl Fn(Vec<Expr>) -> ExprKind,
        operand: impl Fn(&mut Self) -> Result<Expr, ParseError>,
    ) -> Result<Expr, ParseError> {
        let first = operand(self)?;
        let mut span = first.span.clone();
        let mut operands = vec![first];
        while self.bump_if(keyword)? {
            let next = operand(self)?;
            span.end = next.span.end;
            operands.push(next);
        }
        Ok(match operands.pop() {
            Some(only) if operands.is_empty() => only,
            last => {
                operands.extend(last);
                Expr {
                    kind: gate(operands),
                    span,
                }
            }
        })
    }

    fn negation(&mut self) -> Result<Expr, ParseError> {
        if !self.peek()?.is("not") {
            return self.primary();
        }
        let not = self.bump()?;
        self.enter(&not.span)?;
        let operand = self.negation()?;
        self.nesting -= 1;
        let span = not.span.start..operand.span.end;
        Ok(Expr {
            kind: ExprKind::Not(Box::new(operand)),
            span,
        })
    }

    fn enter(&mut self, span: &Range<usize>) -> Result<(), ParseError> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            let message = format!("nested deeper than {MAX_NESTING} levels");
            return Err(ParseError::new(span.clone(), message).with_hint("flatten the policy"));
        }
        Ok(())
    }

    fn primary(&mut self) -> Result<Expr, ParseError> {
        let token = self.bump()?;
        match &token.kind {
            TokenKind::Open => {
                self.enter(&token.span)?;
                let mut inner = self.disjunction()?;
                let end = self.close(&token.span, "`and`, `or` or `)`")?;
                self.nesting -= 1;
                inner.span = token.span.start..end;
                Ok(inner)
            }
            TokenKind::Word(word) if matches!(Scale::read(word), Ok(Some((Scale::Integer, _)))) => {
                let (k, word) = (word.parse::<i64>(), *word);
                if self.bump_if("of")? {
                    return self.at_least(k.unwrap_or(i64::MAX), token.span);
                }
                Err(
                    ParseError::new(token.span, format!("expected a condition, found `{word}`"))
                        .with_hint(format!(
                            "a name that is a number goes in quotes: \"{word}\""
                        )),
                )
            }
            TokenKind::Word(_) if token.is("topic") => self.topic(token.span),
            TokenKind::Word(_) | TokenKind::Quoted(_) => {
                let name = self.name(token)?;
                self.condition(name)
            }
            found => Err(self.expected_condition(found, token.span.clone())),
        }
    }

    /// The end of a group, where `expected` could stand. Returns the byte after its `)`.
    fn close(&mut self, open: &Range<usize>, expected: &str) -> Result<usize, ParseError> {
        let token = self.bump()?;
        match token.kind {
            TokenKind::Close => Ok(token.span.end),
            TokenKind::End => Err(ParseError::new(open.clone(), "this `(` is never closed")
                .with_hint("add the `)` that belongs to it")),
            _ => Err(self.unexpected(expected, token)),
        }
    }

    /// `k of (…)`, from the parenthesis on.
    fn at_least(&mut self, k: i64, count: Range<usize>) -> Result<Expr, ParseError> {
        let open = self.bump()?;
        if open.kind != TokenKind::Open {
            let message = format!("expected `(` after `of`, found {}", open.kind);
            return Err(ParseError::new(open.span, message).with_hint(format!(
                "write `{k} of (…, …)` with the alternatives in parentheses"
            )));
        }
        self.enter(&open.span)?;
        let mut of = vec![self.disjunction()?];
        while self.peek()?.kind == TokenKind::Comma {
            self.peeked = None;
            of.push(self.disjunction()?);
        }
        let end = self.close(&open.span, "`,`, `and`, `or` or `)`")?;
        self.nesting -= 1;
        match usize::try_from(k) {
            Ok(k) if 1 <= k && k <= of.len() => Ok(Expr {
                kind: ExprKind::AtLeast { k, of },
                span: count.start..end,
            }),
            _ => Err(
                ParseError::new(count, format!("{k} of {} is not possible", of.len()))
                    .with_hint(format!("use a number from 1 to {}", of.len())),
            ),
        }
    }

    /// `topic matches FILTER`, from `matches` on.
    fn topic(&mut self, topic: Range<usize>) -> Result<Expr, ParseError> {
        if !self.bump_if("matches")? {
            let found = self.bump()?;
            return Err(ParseError::new(
                found.span,
                format!("expected `matches` after `topic`, found {}", found.kind),
            )
            .with_hint(
                "write `topic matches house/+/temperature`, or \"topic\" for an attribute",
            ));
        }
        self.count_condition(&topic)?;
        let token = self.lexer.filter()?;
        let text = match &token.kind {
            TokenKind::Word(word) => (*word).to_owned(),
            TokenKind::Quoted(text) => text.clone(),
            found => {
                let message = format!("expected a topic filter after `matches`, found {found}");
                return Err(ParseError::new(token.span, message)
                    .with_hint("for example `house/+/temperature`"));
            }
        };
        let filter =
            Filter::new(&text).map_err(|error| ParseError::at(token.span.clone(), &error))?;
        let span = topic.start..token.span.end;
        Ok(Expr {
            kind: ExprKind::TopicMatches(filter),
            span,
        })
    }

    fn count_condition(&mut self, span: &Range<usize>) -> Result<(), ParseError> {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            let message = format!("more than {MAX_CONDITIONS} conditions in one policy");
            return Err(ParseError::new(span.clone(), message).with_hint("simplify the policy"));
        }
        Ok(())
    }

    /// An attribute's name from the token that should be one.
    pub(crate) fn name(&mut self, token: Token<'a>) -> Result<Name, ParseError> {
        let text = match token.kind {
            TokenKind::Word(word) if is_reserved(word) => {
                return Err(ParseError::new(
                    token.span,
                    format!("expected a condition, found `{word}`"),
                )
                .with_hint(format!(
                    "`{word}` is a word of the language: an attribute of that name goes in quotes"
                )));
            }
            TokenKind::Word(word) if Scale::claims(word) => {
                return Err(ParseError::new(
                    token.span,
                    format!("expected an attribute's name, found `{word}`"),
                )
                .with_hint(format!(
                    "a name that is a number goes in quotes: \"{word}\""
                )));
            }
            TokenKind::Word(word) => canonical("attribute name", word, MAX_NAME_BYTES),
            TokenKind::Quoted(ref text) => canonical("attribute name", text, MAX_NAME_BYTES),
            ref found => return Err(self.expected_condition(found, token.span)),
        };
        let text = text.map_err(|error| ParseError::at(token.span.clone(), &error))?;
        Ok(Name {
            text,
            span: token.span,
        })
    }

    /// What follows a name: nothing, a comparison, or `in`.
    fn condition(&mut self, name: Name) -> Result<Expr, ParseError> {
        self.count_condition(&name.span)?;
        let start = name.span.start;
        if let TokenKind::Operator(operator) = self.peek()?.kind {
            self.peeked = None;
            let value = self.value(operator.symbol())?;
            let span = start..value.span.end;
            return Ok(Expr {
                kind: ExprKind::Compare {
                    name,
                    operator,
                    value,
                },
                span,
            });
        }
        if self.bump_if("in")? {
            return self.membership(name);
        }
        let span = name.span.clone();
        Ok(Expr {
            kind: ExprKind::Flag(name),
            span,
        })
    }

    /// `name in lo..hi` or `name in (a, b)`, from after `in`.
    fn membership(&mut self, name: Name) -> Result<Expr, ParseError> {
        let start = name.span.start;
        if self.peek()?.kind == TokenKind::Open {
            let open = self.bump()?;
            let mut values = vec![self.value("(")?];
            while self.peek()?.kind == TokenKind::Comma {
                self.peeked = None;
                self.count_condition(&name.span)?;
                values.push(self.value(",")?);
            }
            let end = self.close(&open.span, "`,` or `)`")?;
            return Ok(Expr {
                kind: ExprKind::OneOf { name, values },
                span: start..end,
            });
        }
        let lo = self.value("in")?;
        let dots = self.bump()?;
        if dots.kind != TokenKind::DotDot {
            return Err(ParseError::new(
                dots.span,
                format!("expected `..` after the lower end, found {}", dots.kind),
            )
            .with_hint(format!(
                "write `{0} in {1}..9` for a range, `{0} in ({1}, …)` for a list",
                crate::text::literal(&name.text),
                self.slice(&lo.span)
            )));
        }
        let hi = self.value("..")?;
        let span = start..hi.span.end;
        Ok(Expr {
            kind: ExprKind::Range { name, lo, hi },
            span,
        })
    }

    fn slice(&self, span: &Range<usize>) -> &'a str {
        self.source.get(span.clone()).unwrap_or_default()
    }

    /// A value, which has to follow `after`.
    pub(crate) fn value(&mut self, after: &str) -> Result<Literal, ParseError> {
        let token = self.bump()?;
        let span = token.span;
        let expected = |found: &TokenKind<'_>| {
            ParseError::new(
                span.clone(),
                format!("expected a value after `{after}`, found {found}"),
            )
        };
        let at = |error: Error| ParseError::at(span.clone(), &error);
        let (text, number) = match &token.kind {
            TokenKind::Word(word) if is_reserved(word) => {
                return Err(expected(&token.kind).with_hint(format!(
                    "`{word}` is a word of the language: as a value it goes in quotes"
                )));
            }
            TokenKind::Word(word) => (*word, Scale::read(word).map_err(at)?),
            TokenKind::Quoted(text) => (text.as_str(), None),
            TokenKind::Operator(operator @ (Operator::Less | Operator::Greater))
                if after == "=" =>
            {
                return Err(
                    expected(&token.kind).with_hint(format!("write `{}=`", operator.symbol()))
                );
            }
            found => return Err(expected(found)),
        };
        let text = canonical("attribute value", text, MAX_VALUE_BYTES).map_err(at)?;
        self.last_value = Some(span.clone());
        Ok(Literal { text, number, span })
    }

    fn expected_condition(&self, found: &TokenKind<'_>, span: Range<usize>) -> ParseError {
        let error = ParseError::new(span, format!("expected a condition, found {found}"));
        match found {
            TokenKind::Operator(_) => error.with_hint("an attribute's name comes first"),
            _ => error.with_hint("a condition is `name = value`, a bare name, or a group in `(…)`"),
        }
    }

    /// A token that stands where only `expected` could follow.
    pub(crate) fn unexpected(&self, expected: &str, token: Token<'_>) -> ParseError {
        let error = ParseError::new(
            token.span.clone(),
            format!("expected {expected}, found {}", token.kind),
        );
        let connectives = expected.contains("`and`");
        match token.kind {
            TokenKind::Word(_) | TokenKind::Quoted(_) => match self.value_of_words(&token) {
                Some(hint) => error.with_hint(hint),
                None if connectives => error.with_hint("join conditions with `and` or `or`"),
                None if expected.contains("`,`") => error.with_hint("separate them with commas"),
                None => error,
            },
            TokenKind::Comma if connectives => {
                error.with_hint("join conditions with `and` or `or`; commas are for `k of (…)`")
            }
            TokenKind::Operator(_) if connectives => {
                error.with_hint("join two comparisons with `and`")
            }
            TokenKind::DotDot if connectives => {
                error.with_hint("a range is written `name in 3..7`")
            }
            TokenKind::Open if connectives => error.with_hint("join a group with `and` or `or`"),
            _ => error,
        }
    }

    /// The hint for `role = head physician`: a word follows a value with nothing but space between.
    fn value_of_words(&self, token: &Token<'_>) -> Option<String> {
        let value = self.last_value.clone()?;
        let between = self.source.get(value.end..token.span.start)?;
        let TokenKind::Word(word) = token.kind else {
            return None;
        };
        let plain = !self.slice(&value).starts_with(['"', '\'']) && !is_reserved(word);
        (plain && !between.is_empty() && between.trim().is_empty()).then(|| {
            let words = format!("{} {word}", self.slice(&value));
            format!("a value of several words goes in quotes: \"{words}\"")
        })
    }
}
