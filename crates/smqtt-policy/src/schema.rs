//! The authority's schema: which attributes exist, and what values they can have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::condition::{Kind, Test};
use crate::expr::Literal;
use crate::interval::Interval;
use crate::limits::{MAX_NAME_BYTES, MAX_VALUE_BYTES};
use crate::nearest::nearest;
use crate::normal::normalise;
use crate::text::{canonical, literal};
use crate::{Attribute, AttributeSet, Error, ParseError, Policy, Scale};

/// What an attribute is, in a [`Schema`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttributeType {
    /// A bare name.
    Flag,
    /// A text.
    Text {
        /// The values that it can have; `None` for any. Only an attribute with listed values
        /// and one value at a time can be negated.
        values: Option<BTreeSet<String>>,
        /// Whether one holder may have several values at a time.
        many: bool,
    },
    /// A number, date or time.
    Number {
        /// What is counted.
        scale: Scale,
        /// The least value, on the scale.
        min: Option<i64>,
        /// The greatest value, on the scale.
        max: Option<i64>,
    },
}

/// The definition of one attribute in a [`Schema`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// What the attribute is.
    pub kind: AttributeType,
    /// What it means, for people.
    pub description: Option<String>,
}

/// The attributes of an authority: names, types, allowed values, ranges.
///
/// A policy or attribute set that is read through a schema has no misspelt name, no value that
/// nobody can have and no comparison of a text; what is wrong is told with the nearest candidates.
///
/// ```
/// use smqtt_policy::Schema;
///
/// let schema = Schema::from_toml(r#"
///     [attributes.dept]
///     type = "text"
///     values = ["icu", "er", "ward"]
///
///     [attributes.clearance]
///     type = "integer"
///     min = 0
///     max = 7
/// "#)?;
/// let policy = schema.policy("not dept = ward and clearance >= 3")?;
/// assert_eq!(policy.as_str(), "clearance >= 3 and (dept = er or dept = icu)");
///
/// let error = schema.policy("dpt = icu").unwrap_err();
/// assert_eq!(error.message(), "the schema has no attribute `dpt`");
/// assert_eq!(error.hint(), Some("did you mean `dept`?"));
/// # Ok::<(), smqtt_policy::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    attributes: BTreeMap<Arc<str>, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    definition: Definition,
    /// The values of an enumerated text, in canonical form.
    values: Option<BTreeSet<Arc<str>>>,
}

impl Schema {
    /// A schema without attributes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute, or replaces its definition.
    ///
    /// # Errors
    ///
    /// When the name or a value cannot be one, when no value is allowed, or when a range is empty
    /// or outside its scale.
    pub fn define(&mut self, name: &str, mut definition: Definition) -> Result<(), Error> {
        let name = canonical("attribute name", name, MAX_NAME_BYTES)?;
        let impossible = |reason: String| Error::SchemaDefinition {
            name: name.to_string(),
            reason,
        };
        let mut values = None;
        match &mut definition.kind {
            AttributeType::Flag => {}
            AttributeType::Text { values: None, .. } => {}
            AttributeType::Text {
                values: Some(texts),
                ..
            } => {
                let allowed = texts
                    .iter()
                    .map(|text| canonical("attribute value", text, MAX_VALUE_BYTES))
                    .collect::<Result<BTreeSet<_>, _>>()
                    .map_err(|error| impossible(error.to_string()))?;
                if allowed.is_empty() {
                    return Err(impossible("it allows no value".to_owned()));
                }
                *texts = allowed.iter().map(|text| text.to_string()).collect();
                values = Some(allowed);
            }
            AttributeType::Number { scale, min, max } => {
                let (least, greatest) = (
                    min.unwrap_or(scale.least()),
                    max.unwrap_or(scale.greatest()),
                );
                if !scale.holds(least) || !scale.holds(greatest) {
                    return Err(impossible(format!(
                        "its range is outside what a {scale} can be"
                    )));
                }
                if least > greatest {
                    return Err(impossible("its range is empty".to_owned()));
                }
            }
        }
        self.attributes.insert(name, Entry { definition, values });
        Ok(())
    }

    /// The definition of an attribute.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Definition> {
        self.attributes.get(name).map(|entry| &entry.definition)
    }

    /// All attributes by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Definition)> {
        self.attributes
            .iter()
            .map(|(name, entry)| (&**name, &entry.definition))
    }

    /// Parses and normalises a policy, checked against this schema.
    ///
    /// # Errors
    ///
    /// Where the text does not parse, or asks for what the schema does not have.
    pub fn policy(&self, text: &str) -> Result<Policy, ParseError> {
        normalise(&crate::parser::policy(text)?, Some(self))
    }

    /// Parses an attribute set, checked against this schema.
    ///
    /// # Errors
    ///
    /// Where the text does not parse, or states what the schema does not have.
    pub fn attribute_set(&self, text: &str) -> Result<AttributeSet, ParseError> {
        crate::stated::attribute_set(text, Some(self))
    }

    /// Checks a policy that was parsed elsewhere.
    ///
    /// # Errors
    ///
    /// For the first condition that asks for what the schema does not have.
    pub fn check_policy(&self, policy: &Policy) -> Result<(), Error> {
        policy
            .conditions()
            .try_for_each(|condition| match &condition.0 {
                Kind::Topic(_) => Ok(()),
                Kind::Named {
                    name,
                    test: Test::Flag,
                } => self.flag(name),
                Kind::Named {
                    name,
                    test: Test::Equal(value),
                } => self.text(name, value).map(|_| ()),
                Kind::Named {
                    name,
                    test: Test::In(scale, range),
                } => self.range(name, *scale, &[*range]),
            })
    }

    /// Checks an attribute set that was parsed elsewhere. Topic and epoch are no part of a schema.
    ///
    /// # Errors
    ///
    /// For the first attribute that the schema does not have.
    pub fn check_set(&self, set: &AttributeSet) -> Result<(), Error> {
        let mut checked = AttributeSet::new();
        for attribute in set.stated() {
            self.check_next(&checked, attribute)?;
            checked.insert(attribute.clone())?;
        }
        Ok(())
    }

    fn check_stated(&self, attribute: &Attribute) -> Result<(), Error> {
        let name = attribute.name().unwrap_or_default();
        match (attribute.text(), attribute.as_number()) {
            (Some(text), _) => self.text(name, text).map(|_| ()),
            (_, Some((scale, number))) => self.range(name, scale, &[Interval::point(number)]),
            _ => self.flag(name),
        }
    }

    /// Whether one more attribute may join a set: it is possible by itself, and no second value where
    /// one is allowed.
    pub(crate) fn check_next(&self, set: &AttributeSet, next: &Attribute) -> Result<(), Error> {
        self.check_stated(next)?;
        let Some(name) = next.name() else {
            return Ok(());
        };
        let another = |held: &&Attribute| held.name() == Some(name) && *held != next;
        if self.has_one_value(name) && set.stated().any(|held| another(&held)) {
            return Err(Error::SecondValue {
                name: name.to_owned(),
            });
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry, Error> {
        self.attributes
            .get(name)
            .ok_or_else(|| Error::UnknownAttribute {
                name: name.to_owned(),
                nearest: nearest(name, self.attributes.keys().map(|name| &**name)),
            })
    }

    /// Whether a holder has at most one value of this attribute at a time.
    pub(crate) fn has_one_value(&self, name: &str) -> bool {
        self.attributes.get(name).is_some_and(|entry| {
            matches!(
                entry.definition.kind,
                AttributeType::Text { many: false, .. }
            )
        })
    }

    /// Checks a flag.
    pub(crate) fn flag(&self, name: &str) -> Result<(), Error> {
        let entry = self.entry(name)?;
        match entry.definition.kind {
            AttributeType::Flag => Ok(()),
            _ => Err(entry.wrong_type(name)),
        }
    }

    /// A value as the type of the attribute reads it: a word that looks like a number is a text where
    /// the attribute is one.
    pub(crate) fn literal(&self, name: &str, value: &Literal) -> Result<Literal, Error> {
        let entry = self.entry(name)?;
        match (&entry.definition.kind, value.number) {
            (AttributeType::Text { .. }, _) => {
                let text = self.text(name, &value.text)?;
                Ok(Literal {
                    text,
                    number: None,
                    span: value.span.clone(),
                })
            }
            (AttributeType::Number { scale, .. }, Some((found, _))) if *scale == found => {
                Ok(value.clone())
            }
            _ => Err(entry.wrong_type(name)),
        }
    }

    /// Checks a text value and returns it.
    fn text(&self, name: &str, value: &str) -> Result<Arc<str>, Error> {
        let entry = self.entry(name)?;
        let AttributeType::Text { .. } = entry.definition.kind else {
            return Err(entry.wrong_type(name));
        };
        match &entry.values {
            None => Ok(value.into()),
            Some(values) => values
                .get(value)
                .cloned()
                .ok_or_else(|| Error::UnknownValue {
                    name: name.to_owned(),
                    value: value.to_owned(),
                    nearest: nearest(value, values.iter().map(|value| &**value)),
                }),
        }
    }

    /// Checks that a number of some ranges is possible.
    pub(crate) fn range(&self, name: &str, scale: Scale, parts: &[Interval]) -> Result<(), Error> {
        let entry = self.entry(name)?;
        let AttributeType::Number {
            scale: expected,
            min,
            max,
        } = entry.definition.kind
        else {
            return Err(entry.wrong_type(name));
        };
        if expected != scale {
            return Err(entry.wrong_type(name));
        }
        let (least, greatest) = (min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX));
        // Nothing at all is for the caller to refuse.
        if parts.is_empty()
            || parts
                .iter()
                .any(|part| part.lo <= greatest && least <= part.hi)
        {
            return Ok(());
        }
        Err(Error::OutOfRange {
            name: name.to_owned(),
            range: written_range(scale, min, max),
        })
    }

    /// The values that an attribute can have besides `excluded`.
    pub(crate) fn other_values(
        &self,
        name: &str,
        excluded: &[&Arc<str>],
    ) -> Result<Vec<Arc<str>>, Error> {
        let entry = self.entry(name)?;
        match (&entry.definition.kind, &entry.values) {
            (AttributeType::Text { many: false, .. }, Some(values)) => Ok(values
                .iter()
                .filter(|value| !excluded.contains(value))
                .cloned()
                .collect()),
            (AttributeType::Text { many: true, .. }, _) => Err(Error::WrongType {
                name: name.to_owned(),
                expected: "an attribute of several values, which `not` cannot exclude".to_owned(),
                example:
                    "one value does not tell that another is missing; list those that may read"
                        .to_owned(),
            }),
            _ => Err(Error::WrongType {
                name: name.to_owned(),
                expected: "a text of any value, which `not` cannot exclude".to_owned(),
                example: "list its values in the schema, or list those that may read".to_owned(),
            }),
        }
    }
}

impl Entry {
    fn wrong_type(&self, name: &str) -> Error {
        let name_text = literal(name);
        let (expected, example) = match &self.definition.kind {
            AttributeType::Flag => (
                "a flag".to_owned(),
                format!("write it alone: `{name_text}`"),
            ),
            AttributeType::Text { values, .. } => {
                let example = values.as_ref().and_then(|values| values.first());
                let example = example.map_or("…".to_owned(), |value| literal(value));
                (
                    "a text".to_owned(),
                    format!("write `{name_text} = {example}`"),
                )
            }
            AttributeType::Number { scale, min, max } => {
                let article = if matches!(scale, Scale::Integer | Scale::Instant) {
                    "an"
                } else {
                    "a"
                };
                let example = match (scale, min.or(*max)) {
                    (scale, Some(number)) => written(*scale, number),
                    (Scale::Integer, None) => "3".to_owned(),
                    (Scale::Date, None) => "2025-01-31".to_owned(),
                    (Scale::TimeOfDay, None) => "08:30".to_owned(),
                    (Scale::Instant, None) => "2025-01-31T08:30Z".to_owned(),
                };
                (
                    format!("{article} {scale}"),
                    format!("write `{name_text} = {example}`"),
                )
            }
        };
        Error::WrongType {
            name: name.to_owned(),
            expected,
            example,
        }
    }
}

pub(crate) fn written(scale: Scale, number: i64) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = scale.write(number, &mut text);
    text
}

fn written_range(scale: Scale, min: Option<i64>, max: Option<i64>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => {
            format!("from {} to {}", written(scale, min), written(scale, max))
        }
        (Some(min), None) => format!("from {} up", written(scale, min)),
        (None, Some(max)) => format!("up to {}", written(scale, max)),
        (None, None) => "over its whole scale".to_owned(),
    }
}
