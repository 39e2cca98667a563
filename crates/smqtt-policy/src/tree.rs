//! A policy as conditions and gates: what its canonical text spells out.

use std::fmt;

use crate::condition::{Condition, Kind, Test};
use crate::expr::{Expr, ExprKind};
use crate::interval::Interval;
use crate::lexer::Operator;
use crate::range::range;
use crate::{AttributeSet, Error, Formula};

/// A monotone tree of conditions. Gates have at least two children.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tree {
    Condition(Condition),
    Gate { k: usize, of: Vec<Tree> },
}

impl Tree {
    pub(crate) fn evaluate(&self, set: &AttributeSet) -> bool {
        match self {
            Self::Condition(condition) => condition.is_met_by(set),
            Self::Gate { k, of } => {
                of.iter()
                    .filter(|child| child.evaluate(set))
                    .take(*k)
                    .count()
                    == *k
            }
        }
    }

    pub(crate) fn conditions(&self) -> impl Iterator<Item = &Condition> {
        let mut pending = vec![self];
        std::iter::from_fn(move || {
            loop {
                match pending.pop()? {
                    Self::Condition(condition) => return Some(condition),
                    Self::Gate { of, .. } => pending.extend(of.iter().rev()),
                }
            }
        })
    }

    /// The number of levels: 1 for a condition, one more for each gate around it.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Condition(_) => 1,
            Self::Gate { of, .. } => 1 + of.iter().map(Self::depth).max().unwrap_or(0),
        }
    }

    /// The tree in single attributes. This is part of the format: peers must agree on it.
    ///
    /// Children keep their order; a conjunction in a conjunction, or an alternative in an
    /// alternative, which ranges and topic filters bring, is spliced into the gate around it.
    pub(crate) fn formula(&self) -> Formula {
        let (k, of) = match self {
            Self::Condition(condition) => return condition.formula(),
            Self::Gate { k, of } => (*k, of),
        };
        let (all, any) = (k == of.len(), k == 1);
        let mut children = Vec::with_capacity(of.len());
        for child in of {
            match child.formula() {
                Formula::Threshold { k, of } if (all && k == of.len()) || (any && k == 1) => {
                    children.extend(of);
                }
                other => children.push(other),
            }
        }
        let k = if all { children.len() } else { k };
        Formula::gate(k, children)
    }

    /// Reads a tree from canonical text: only what [`Display`](fmt::Display) writes has a meaning here.
    pub(crate) fn from_canonical(expr: &Expr) -> Result<Self, Error> {
        let gate = |k, of: &[Expr]| {
            let of = of
                .iter()
                .map(Self::from_canonical)
                .collect::<Result<Vec<_>, _>>()?;
            Ok(Self::Gate { k, of })
        };
        let foreign = Error::NotCanonical {
            what: "the policy is not as this language writes it",
        };
        let (name, test) = match &expr.kind {
            ExprKind::And(of) => return gate(of.len(), of),
            ExprKind::Or(of) => return gate(1, of),
            ExprKind::AtLeast { k, of } => return gate(*k, of),
            ExprKind::TopicMatches(filter) => {
                return Ok(Self::Condition(Condition(Kind::Topic(filter.clone()))));
            }
            ExprKind::Flag(name) => (name, Test::Flag),
            ExprKind::Compare {
                name,
                operator: Operator::Equal,
                value,
            } => {
                let test = match value.number {
                    Some((scale, number)) => Test::In(scale, Interval::point(number)),
                    None => Test::Equal(value.text.clone()),
                };
                (name, test)
            }
            ExprKind::Compare {
                name,
                operator,
                value,
            } => {
                let Some((scale, number)) = value.number else {
                    return Err(foreign);
                };
                let whole = (scale.least(), scale.greatest());
                let (lo, hi) = match operator {
                    Operator::GreaterOrEqual => (number, whole.1),
                    Operator::LessOrEqual => (whole.0, number),
                    _ => return Err(foreign),
                };
                (name, Test::In(scale, range(scale, lo, hi).ok_or(foreign)?))
            }
            ExprKind::Range { name, lo, hi } => {
                let (Some((scale, lo)), Some((other, hi))) = (lo.number, hi.number) else {
                    return Err(foreign);
                };
                if scale != other {
                    return Err(foreign);
                }
                (name, Test::In(scale, range(scale, lo, hi).ok_or(foreign)?))
            }
            ExprKind::Not(_) | ExprKind::OneOf { .. } => return Err(foreign),
        };
        Ok(Self::Condition(Condition::named(&name.text, test)))
    }
}

impl fmt::Display for Tree {
    /// The canonical text. Gates inside gates stand in parentheses, so that no reader has to know
    /// which of `and` and `or` binds closer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (k, of) = match self {
            Self::Condition(condition) => return condition.fmt(f),
            Self::Gate { k, of } => (*k, of),
        };
        let joint = match k {
            1 => " or ",
            _ if k == of.len() => " and ",
            _ => {
                write!(f, "{k} of (")?;
                for (index, child) in of.iter().enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    child.fmt(f)?;
                }
                return f.write_str(")");
            }
        };
        for (index, child) in of.iter().enumerate() {
            f.write_str(if index > 0 { joint } else { "" })?;
            match child {
                Self::Gate { k, of } if *k == 1 || *k == of.len() => write!(f, "({child})")?,
                _ => child.fmt(f)?,
            }
        }
        Ok(())
    }
}
