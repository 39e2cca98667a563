//! From the syntax tree to the normal form: what each condition asks for, and what `not` leaves
//! over. The gates around conditions are normalised by the [`arena`](crate::arena) on the way.
//!
//! `not` moves inwards until it meets a comparison or an enumerated value and becomes what that
//! leaves over; `!=`, `in (…)` and strict comparisons become ranges and alternatives.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::arena::{Arena, Built, Id, Node};
use crate::condition::{Condition, Kind, Test};
use crate::expr::{Expr, ExprKind, Literal, Name};
use crate::interval::Interval;
use crate::lexer::Operator;
use crate::limits::MAX_CONDITIONS;
use crate::range::{complement, intersection, range};
use crate::{ParseError, Policy, Scale, Schema};

/// Checks a policy against a schema, if there is one, and brings it to its normal form.
pub(crate) fn normalise(expr: &Expr, schema: Option<&Schema>) -> Result<Policy, ParseError> {
    let mut builder = Builder {
        arena: Arena::new(schema),
        schema,
        conditions: 0,
    };
    let root = builder.expr(expr, false)?;
    let tree = builder.arena.tree(root);
    Policy::from_tree(tree).map_err(|error| ParseError::at(expr.span.clone(), &error))
}

/// Syntax tree to nodes.
struct Builder<'s> {
    arena: Arena<'s>,
    schema: Option<&'s Schema>,
    conditions: usize,
}

impl Builder<'_> {
    /// The node of an expression, or of its opposite.
    fn expr(&mut self, expr: &Expr, negated: bool) -> Result<Id, ParseError> {
        let built = match &expr.kind {
            ExprKind::And(of) => {
                let of = self.children(of, negated)?;
                if negated {
                    self.arena.any(of)
                } else {
                    self.arena.all(of)
                }
            }
            ExprKind::Or(of) => {
                let of = self.children(of, negated)?;
                if negated {
                    self.arena.all(of)
                } else {
                    self.arena.any(of)
                }
            }
            ExprKind::AtLeast { k, of } => {
                let children = self.children(of, negated)?;
                let k = if negated { of.len() - k + 1 } else { *k };
                self.arena.at_least(k, children)
            }
            ExprKind::Not(inner) => Some(self.expr(inner, !negated)?),
            ExprKind::TopicMatches(filter) if !negated => {
                self.condition(&expr.span, Condition(Kind::Topic(filter.clone())))?
            }
            ExprKind::TopicMatches(_) => {
                return Err(
                    ParseError::new(expr.span.clone(), "`not` cannot exclude a topic")
                        .with_hint("list the filters that are allowed"),
                );
            }
            ExprKind::Flag(name) => self.flag(name, negated, &expr.span)?,
            ExprKind::Compare {
                name,
                operator,
                value,
            } => {
                let numeric = self.literal(name, value)?.number;
                match numeric {
                    Some((scale, number)) => {
                        let (lo, hi) = match operator {
                            Operator::Equal | Operator::NotEqual => (Some(number), Some(number)),
                            Operator::Less => (Some(i64::MIN), number.checked_sub(1)),
                            Operator::LessOrEqual => (Some(i64::MIN), Some(number)),
                            Operator::Greater => (number.checked_add(1), Some(i64::MAX)),
                            Operator::GreaterOrEqual => (Some(number), Some(i64::MAX)),
                        };
                        let ends = lo.zip(hi).and_then(|(lo, hi)| range(scale, lo, hi));
                        let negated = negated != (*operator == Operator::NotEqual);
                        self.range(name, scale, ends, negated, &expr.span)?
                    }
                    None => match operator {
                        Operator::Equal | Operator::NotEqual => {
                            let negated = negated != (*operator == Operator::NotEqual);
                            let values = std::slice::from_ref(value);
                            self.one_of(name, values, negated, &expr.span)?
                        }
                        _ => return Err(not_a_number(value, operator.symbol())),
                    },
                }
            }
            ExprKind::Range { name, lo, hi } => {
                let lo_number = self.literal(name, lo)?.number;
                let hi_number = self.literal(name, hi)?.number;
                let (scale, from) = lo_number.ok_or_else(|| not_a_number(lo, "in"))?;
                let (other, to) = hi_number.ok_or_else(|| not_a_number(hi, ".."))?;
                if scale != other {
                    let message = format!(
                        "a range from {} {scale} to {} {other}",
                        article(scale),
                        article(other)
                    );
                    return Err(ParseError::new(lo.span.start..hi.span.end, message)
                        .with_hint("both ends must be of one kind"));
                }
                if from > to {
                    return Err(ParseError::new(
                        lo.span.start..hi.span.end,
                        "the range is empty: its lower end is above its upper end",
                    )
                    .with_hint("write the smaller number first"));
                }
                self.range(name, scale, range(scale, from, to), negated, &expr.span)?
            }
            ExprKind::OneOf { name, values } => self.one_of(name, values, negated, &expr.span)?,
        };
        built.ok_or_else(|| {
            ParseError::new(expr.span.clone(), "nothing can satisfy this")
                .with_hint("correct it, or remove it")
        })
    }

    fn children(&mut self, of: &[Expr], negated: bool) -> Result<Vec<Built>, ParseError> {
        of.iter()
            .map(|child| self.expr(child, negated).map(Some))
            .collect()
    }

    fn condition(
        &mut self,
        span: &Range<usize>,
        condition: Condition,
    ) -> Result<Built, ParseError> {
        // `in` and `not` multiply conditions after the parser has counted them.
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            let message = format!("more than {MAX_CONDITIONS} conditions in one policy");
            return Err(ParseError::new(span.clone(), message).with_hint("simplify the policy"));
        }
        Ok(Some(self.arena.intern(Node::Condition(condition))))
    }

    /// A literal as the schema reads it.
    fn literal(&self, name: &Name, literal: &Literal) -> Result<Literal, ParseError> {
        let Some(schema) = self.schema else {
            return Ok(literal.clone());
        };
        schema
            .literal(&name.text, literal)
            .map_err(|error| ParseError::of_value(name, literal, &error))
    }

    fn flag(
        &mut self,
        name: &Name,
        negated: bool,
        span: &Range<usize>,
    ) -> Result<Built, ParseError> {
        if let Some(schema) = self.schema {
            schema
                .flag(&name.text)
                .map_err(|error| ParseError::at(name.span.clone(), &error))?;
        }
        if negated {
            return Err(ParseError::new(
                span.clone(),
                format!("`not` cannot exclude the flag `{}`", name.text),
            )
            .with_hint(
                "a key cannot prove that it lacks an attribute; give everyone a value instead",
            ));
        }
        self.condition(span, Condition::named(&name.text, Test::Flag))
    }

    fn range(
        &mut self,
        name: &Name,
        scale: Scale,
        ends: Option<Interval>,
        negated: bool,
        span: &Range<usize>,
    ) -> Result<Built, ParseError> {
        let parts = match (ends, negated) {
            (ends, false) => [ends, None],
            (Some(ends), true) => complement(scale, ends),
            (None, true) => [range(scale, i64::MIN, i64::MAX), None],
        };
        self.numbers(name, scale, parts.into_iter().flatten().collect(), span)
    }

    /// Any of some ranges of one attribute. Those in which the schema lets nobody be would be rows
    /// that nobody opens: they go.
    fn numbers(
        &mut self,
        name: &Name,
        scale: Scale,
        mut parts: Vec<Interval>,
        span: &Range<usize>,
    ) -> Result<Built, ParseError> {
        if let Some(schema) = self.schema {
            schema
                .range(&name.text, scale, &parts)
                .map_err(|error| ParseError::at(span.clone(), &error))?;
            parts.retain(|part| schema.range(&name.text, scale, &[*part]).is_ok());
        }
        let mut built = Vec::with_capacity(parts.len());
        for part in parts {
            let condition = Condition::named(&name.text, Test::In(scale, part));
            built.push(self.condition(span, condition)?);
        }
        Ok(self.arena.any(built))
    }

    fn one_of(
        &mut self,
        name: &Name,
        values: &[Literal],
        negated: bool,
        span: &Range<usize>,
    ) -> Result<Built, ParseError> {
        let mut tests = Vec::with_capacity(values.len());
        for value in values {
            let value = self.literal(name, value)?;
            tests.push(match value.number {
                Some((scale, number)) => Test::In(scale, Interval::point(number)),
                None => Test::Equal(value.text),
            });
        }
        if !negated {
            let mut built = Vec::with_capacity(tests.len());
            for test in tests {
                built.push(self.condition(span, Condition::named(&name.text, test))?);
            }
            return Ok(self.arena.any(built));
        }
        self.none_of(name, &tests, span)
    }

    /// The values that `tests` leave over.
    fn none_of(
        &mut self,
        name: &Name,
        tests: &[Test],
        span: &Range<usize>,
    ) -> Result<Built, ParseError> {
        let mut built = Vec::new();
        let mut texts = Vec::new();
        let mut excluded: BTreeMap<Scale, Vec<Interval>> = BTreeMap::new();
        for test in tests {
            match test {
                Test::Equal(text) => texts.push(text),
                Test::In(scale, ends) => excluded.entry(*scale).or_default().push(*ends),
                Test::Flag => {}
            }
        }
        for (scale, excluded) in excluded {
            let mut left = Vec::from_iter(range(scale, i64::MIN, i64::MAX));
            for cut in excluded {
                let outside = complement(scale, cut);
                left = left
                    .into_iter()
                    .flat_map(|part| outside.map(|side| intersection(scale, part, side?)))
                    .flatten()
                    .collect();
            }
            built.push(self.numbers(name, scale, left, span)?);
        }
        if !texts.is_empty() {
            let Some(schema) = self.schema else {
                return Err(ParseError::new(
                    span.clone(),
                    format!("`not` needs to know which values `{}` can have", name.text),
                )
                .with_hint("check the policy against the authority's schema, or list the values that may read"));
            };
            let others = schema
                .other_values(&name.text, &texts)
                .map_err(|error| ParseError::at(span.clone(), &error))?;
            let mut alternatives = Vec::with_capacity(others.len());
            for value in others {
                let condition = Condition::named(&name.text, Test::Equal(value));
                alternatives.push(self.condition(span, condition)?);
            }
            built.push(self.arena.any(alternatives));
        }
        Ok(self.arena.all(built))
    }
}

fn article(scale: Scale) -> &'static str {
    if matches!(scale, Scale::Integer | Scale::Instant) {
        "an"
    } else {
        "a"
    }
}

fn not_a_number(value: &Literal, after: &str) -> ParseError {
    let message = format!(
        "`{after}` compares numbers, dates and times, not the text `{}`",
        value.text
    );
    ParseError::new(value.span.clone(), message)
        .with_hint("a number stands without quotes; texts compare with `=` and `in (…)`")
}
