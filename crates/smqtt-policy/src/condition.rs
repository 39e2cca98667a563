//! One condition of a policy: what a reader is asked for, before it is written out in attributes.

use std::fmt;
use std::sync::Arc;

use crate::interval::{Interval, cover};
use crate::text::{literal, quoted};
use crate::topic::{Filter, Topic};
use crate::{Attribute, AttributeSet, Formula, Scale};

/// A condition of a policy: `on-call`, `dept = icu`, `clearance >= 3`, `topic matches a/#`.
///
/// Displays as the canonical text. A policy's [`Formula`] has one leaf for a flag or a value, and
/// several for a range or a topic filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition(pub(crate) Kind);

/// The order of variants and fields is the order of conditions in canonical text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Named { name: Arc<str>, test: Test },
    Topic(Filter),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Test {
    Flag,
    Equal(Arc<str>),
    In(Scale, Interval),
}

impl Condition {
    pub(crate) fn named(name: &Arc<str>, test: Test) -> Self {
        Self(Kind::Named {
            name: Arc::clone(name),
            test,
        })
    }

    /// The attribute that the condition is about; none for a topic.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Kind::Named { name, .. } => Some(name),
            Kind::Topic(_) => None,
        }
    }

    /// Whether the condition is about the topic of a message.
    #[must_use]
    pub const fn is_topic(&self) -> bool {
        matches!(self.0, Kind::Topic(_))
    }

    /// Whether `set` meets the condition.
    ///
    /// Decided by comparing numbers and matching topics, not through derived attributes.
    #[must_use]
    pub fn is_met_by(&self, set: &AttributeSet) -> bool {
        match &self.0 {
            Kind::Named {
                name,
                test: Test::In(scale, range),
            } => set
                .number(name, *scale)
                .is_some_and(|number| range.contains(Interval::point(number))),
            Kind::Named {
                name,
                test: Test::Flag,
            } => set.contains(&Attribute::canonical_flag(Arc::clone(name))),
            Kind::Named {
                name,
                test: Test::Equal(value),
            } => set.contains(&Attribute::canonical_value(
                Arc::clone(name),
                Arc::clone(value),
            )),
            Kind::Topic(filter) => set
                .topic_name()
                .is_some_and(|topic: &Topic| filter.matches(topic)),
        }
    }

    /// Whether every set that meets `self` meets `other`.
    pub(crate) fn implies(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (
                Kind::Named {
                    name,
                    test: Test::In(scale, range),
                },
                Kind::Named {
                    name: other_name,
                    test: Test::In(other_scale, other_range),
                },
            ) => name == other_name && scale == other_scale && other_range.contains(*range),
            (Kind::Topic(filter), Kind::Topic(other)) => filter.implies(other),
            (condition, other) => condition == other,
        }
    }

    /// The rows that the condition takes in a share matrix.
    pub(crate) fn rows(&self) -> usize {
        match &self.0 {
            Kind::Named {
                test: Test::In(_, range),
                ..
            } => cover(*range).len(),
            Kind::Named { .. } => 1,
            Kind::Topic(filter) => filter.conditions().iter().map(Vec::len).sum(),
        }
    }

    /// The condition in single attributes. This is part of the format: peers must agree on it.
    pub(crate) fn formula(&self) -> Formula {
        match &self.0 {
            Kind::Named { name, test } => match test {
                Test::Flag => Formula::Attribute(Attribute::canonical_flag(Arc::clone(name))),
                Test::Equal(value) => Formula::Attribute(Attribute::canonical_value(
                    Arc::clone(name),
                    Arc::clone(value),
                )),
                Test::In(scale, range) => {
                    let part = |part| Attribute::interval(Arc::clone(name), *scale, part);
                    any_of(cover(*range).into_iter().map(part))
                }
            },
            Kind::Topic(filter) => {
                Formula::all(filter.conditions().into_iter().map(any_of).collect())
            }
        }
    }
}

fn any_of(attributes: impl IntoIterator<Item = Attribute>) -> Formula {
    Formula::any(attributes.into_iter().map(Formula::Attribute).collect())
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Topic(filter) => {
                let text = filter.as_str();
                let plain = text
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && !b"()\"',".contains(&b));
                write!(
                    f,
                    "topic matches {}",
                    if plain { text.to_owned() } else { quoted(text) }
                )
            }
            Kind::Named { name, test } => {
                f.write_str(&literal(name))?;
                match test {
                    Test::Flag => Ok(()),
                    Test::Equal(value) => write!(f, " = {}", literal(value)),
                    Test::In(scale, range) => write_range(*scale, *range, f),
                }
            }
        }
    }
}

/// A range in the one way that it is written: an end that is open leaves a single comparison.
fn write_range(scale: Scale, range: Interval, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if range.is_point() {
        f.write_str(" = ")?;
        scale.write(range.lo, f)
    } else if range.hi == i64::MAX {
        f.write_str(" >= ")?;
        scale.write(range.lo.max(scale.least()), f)
    } else if range.lo == i64::MIN {
        f.write_str(" <= ")?;
        scale.write(range.hi, f)
    } else {
        f.write_str(" in ")?;
        scale.write(range.lo, f)?;
        f.write_str("..")?;
        scale.write(range.hi, f)
    }
}
