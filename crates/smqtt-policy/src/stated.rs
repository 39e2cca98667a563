//! Tokens to attributes and attribute sets: what a device or a message states.

use std::ops::Range;

use crate::interval::Interval;
use crate::lexer::{Operator, TokenKind};
use crate::parser::Parser;
use crate::{Attribute, AttributeSet, ParseError, Schema};

/// Parses an attribute set, and checks it against a schema if there is one.
pub(crate) fn attribute_set(
    source: &str,
    schema: Option<&Schema>,
) -> Result<AttributeSet, ParseError> {
    let mut parser = Parser::new("attribute set", source)?;
    let mut set = AttributeSet::new();
    if parser.peek()?.kind == TokenKind::End {
        return Ok(set);
    }
    loop {
        let (attribute, span) = parser.stated_attribute(schema)?;
        if let Some(schema) = schema {
            schema
                .check_next(&set, &attribute)
                .map_err(|error| ParseError::at(span.clone(), &error))?;
        }
        set.insert(attribute)
            .map_err(|error| ParseError::at(span, &error))?;
        let token = parser.bump()?;
        match token.kind {
            TokenKind::End => return Ok(set),
            TokenKind::Comma => {}
            _ => return Err(parser.unexpected("`,` or the end", token)),
        }
    }
}

/// Parses one attribute as a set states it.
pub(crate) fn attribute(source: &str) -> Result<Attribute, ParseError> {
    let mut parser = Parser::new("attribute", source)?;
    let (attribute, _) = parser.stated_attribute(None)?;
    let token = parser.bump()?;
    match token.kind {
        TokenKind::End => Ok(attribute),
        _ => Err(parser.unexpected("the end", token)),
    }
}

impl Parser<'_> {
    /// `name` or `name = value`, as a set states it.
    fn stated_attribute(
        &mut self,
        schema: Option<&Schema>,
    ) -> Result<(Attribute, Range<usize>), ParseError> {
        let token = self.bump()?;
        let name = match token.kind {
            TokenKind::Word(_) | TokenKind::Quoted(_) => self.name(token)?,
            found => {
                return Err(ParseError::new(
                    token.span,
                    format!("expected an attribute, found {found}"),
                )
                .with_hint("write attributes as `name = value` or `name`, separated by commas"));
            }
        };
        let mut span = name.span.clone();
        match self.peek()?.kind {
            TokenKind::Operator(Operator::Equal) => {
                self.peeked = None;
                let mut value = self.value("=")?;
                span.end = value.span.end;
                if let Some(schema) = schema {
                    value = schema
                        .literal(&name.text, &value)
                        .map_err(|error| ParseError::of_value(&name, &value, &error))?;
                }
                let attribute = match value.number {
                    Some((scale, number)) => {
                        let point = Interval::point(number);
                        Attribute::interval(name.text, scale, point)
                    }
                    None => Attribute::canonical_value(name.text, value.text),
                };
                Ok((attribute, span))
            }
            TokenKind::Operator(operator) => {
                let token = self.bump()?;
                Err(ParseError::new(
                    token.span,
                    format!("an attribute cannot be stated with `{}`", operator.symbol()),
                )
                .with_hint("a set states values (`clearance = 3`), a policy compares them"))
            }
            _ => {
                if let Some(schema) = schema {
                    schema
                        .flag(&name.text)
                        .map_err(|error| ParseError::at(span.clone(), &error))?;
                }
                Ok((Attribute::canonical_flag(name.text), span))
            }
        }
    }
}
