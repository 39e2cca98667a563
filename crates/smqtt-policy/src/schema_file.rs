//! The schema's TOML form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::MAX_SCHEMA_BYTES;
use crate::schema::written;
use crate::{AttributeType, Definition, Error, Scale, Schema};

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    attributes: BTreeMap<String, Item>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Item {
    r#type: Type,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    values: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "is_false")]
    many: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<Bound>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Bound>,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Type {
    Flag,
    Text,
    Integer,
    Date,
    Time,
    Instant,
}

/// The end of a range: a TOML integer, a TOML date or time, or one in quotes.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Bound {
    Integer(i64),
    Datetime(toml::value::Datetime),
    Text(String),
}

impl Bound {
    fn on(&self, scale: Scale) -> Option<i64> {
        let text = match self {
            Self::Integer(number) => number.to_string(),
            Self::Datetime(datetime) => datetime.to_string(),
            Self::Text(text) => text.clone(),
        };
        match Scale::read(&text) {
            Ok(Some((found, number))) if found == scale => Some(number),
            _ => None,
        }
    }

    fn of(scale: Scale, number: i64) -> Self {
        match scale {
            Scale::Integer => Self::Integer(number),
            _ => Self::Text(written(scale, number)),
        }
    }
}

impl Schema {
    /// Reads a schema from its TOML form, a table `attributes` with one table for each attribute:
    /// `type` (`flag`, `text`, `integer`, `date`, `time`, `instant`), `values` and `many` for a
    /// text, `min` and `max` for a number, `description` for any.
    ///
    /// # Errors
    ///
    /// [`Error::TextTooLong`] above [`MAX_SCHEMA_BYTES`], [`Error::SchemaSyntax`] when it is not TOML of
    /// this form, [`Error::SchemaDefinition`] when a definition contradicts itself.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_SCHEMA_BYTES {
            let bytes = text.len();
            return Err(Error::TextTooLong {
                what: "schema",
                bytes,
                limit: MAX_SCHEMA_BYTES,
            });
        }
        let file: File = toml::from_str(text).map_err(|error| Error::SchemaSyntax {
            message: error.to_string().trim_end().to_owned(),
        })?;
        let mut schema = Self::new();
        for (name, item) in file.attributes {
            let before = schema.iter().count();
            let definition = item.definition(&name)?;
            schema.define(&name, definition)?;
            if schema.iter().count() == before {
                let reason = "another definition has the same name in Unicode NFC".to_owned();
                return Err(Error::SchemaDefinition { name, reason });
            }
        }
        Ok(schema)
    }

    /// The TOML form, which [`from_toml`](Schema::from_toml) reads back to an equal schema.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let attributes = self
            .iter()
            .map(|(name, definition)| (name.to_owned(), Item::of(definition)))
            .collect();
        // Tables of strings, booleans and integers have no value that TOML cannot hold.
        toml::to_string(&File { attributes }).expect("a schema has a TOML form")
    }
}

impl Item {
    fn definition(self, name: &str) -> Result<Definition, Error> {
        let impossible = |reason: &str| Error::SchemaDefinition {
            name: name.to_owned(),
            reason: reason.to_owned(),
        };
        let is_text = matches!(self.r#type, Type::Text);
        if !is_text && (self.values.is_some() || self.many) {
            return Err(impossible("`values` and `many` are for `type = \"text\"`"));
        }
        let scale = match self.r#type {
            Type::Flag | Type::Text => None,
            Type::Integer => Some(Scale::Integer),
            Type::Date => Some(Scale::Date),
            Type::Time => Some(Scale::TimeOfDay),
            Type::Instant => Some(Scale::Instant),
        };
        let Some(scale) = scale else {
            if self.min.is_some() || self.max.is_some() {
                return Err(impossible(
                    "`min` and `max` are for numbers, dates and times",
                ));
            }
            let kind = if is_text {
                let values = self.values.map(|values| values.into_iter().collect());
                AttributeType::Text {
                    values,
                    many: self.many,
                }
            } else {
                AttributeType::Flag
            };
            return Ok(Definition {
                kind,
                description: self.description,
            });
        };
        let end = |bound: Option<Bound>| match bound {
            None => Ok(None),
            Some(bound) => match bound.on(scale) {
                Some(number) => Ok(Some(number)),
                None => Err(impossible(&format!(
                    "`min` and `max` must be of its type, {scale}"
                ))),
            },
        };
        let kind = AttributeType::Number {
            scale,
            min: end(self.min)?,
            max: end(self.max)?,
        };
        Ok(Definition {
            kind,
            description: self.description,
        })
    }

    fn of(definition: &Definition) -> Self {
        let mut item = Self {
            r#type: Type::Flag,
            description: definition.description.clone(),
            values: None,
            many: false,
            min: None,
            max: None,
        };
        match &definition.kind {
            AttributeType::Flag => {}
            AttributeType::Text { values, many } => {
                item.r#type = Type::Text;
                item.values = values
                    .as_ref()
                    .map(|values| values.iter().cloned().collect());
                item.many = *many;
            }
            AttributeType::Number { scale, min, max } => {
                item.r#type = match scale {
                    Scale::Integer => Type::Integer,
                    Scale::Date => Type::Date,
                    Scale::TimeOfDay => Type::Time,
                    Scale::Instant => Type::Instant,
                };
                item.min = min.map(|number| Bound::of(*scale, number));
                item.max = max.map(|number| Bound::of(*scale, number));
            }
        }
        item
    }
}
