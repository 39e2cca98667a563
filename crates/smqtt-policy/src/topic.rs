//! Topic names and topic filters, as attributes see them (MQTT 5.0 §4.7).

use std::sync::Arc;

use crate::limits::{MAX_TOPIC_BYTES, MAX_TOPIC_LEVELS};
use crate::text::is_forbidden;
use crate::{Attribute, Error};

/// A topic name: what a message is published to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Topic(Arc<str>);

impl Topic {
    /// Checks a topic name: not empty, no wildcard, no U+0000, at most 32 levels.
    pub(crate) fn new(text: &str) -> Result<Self, Error> {
        check(text)?;
        if text.contains(['+', '#']) {
            return Err(Error::Topic {
                kind: "name",
                reason: "`+` and `#` belong in filters only [MQTT-3.3.2-2]",
            });
        }
        bound_levels("name", text.split('/').count())?;
        Ok(Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The attributes of a message at this topic: each level, the depth, and whether wildcards see it.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = Attribute> + '_ {
        let depth = self.0.split('/').count();
        let levels = self
            .0
            .split('/')
            .enumerate()
            .map(|(index, level)| Attribute::topic_level(level_number(index), level));
        let ordinary = (!self.0.starts_with('$')).then(Attribute::topic_ordinary);
        levels
            .chain([Attribute::topic_depth(level_number(depth))])
            .chain(ordinary)
    }
}

/// Topics have at most [`MAX_TOPIC_LEVELS`] levels, so an index or a depth fits in a byte.
fn level_number(number: usize) -> u8 {
    u8::try_from(number).expect("a topic has at most 32 levels")
}

fn check(text: &str) -> Result<(), Error> {
    if text.is_empty() {
        return Err(Error::EmptyText { what: "topic" });
    }
    if text.len() > MAX_TOPIC_BYTES {
        return Err(Error::TextTooLong {
            what: "topic",
            bytes: text.len(),
            limit: MAX_TOPIC_BYTES,
        });
    }
    // [MQTT-1.5.4-2] forbids U+0000 and allows a peer to refuse other control characters.
    if let Some(character) = text.chars().find(|c| c.is_control()) {
        return Err(Error::ForbiddenCharacter {
            what: "topic",
            character,
        });
    }
    Ok(())
}

fn bound_levels(kind: &'static str, levels: usize) -> Result<(), Error> {
    if levels > MAX_TOPIC_LEVELS {
        return Err(Error::Topic {
            kind,
            reason: "more than 32 levels, which no policy can bind",
        });
    }
    Ok(())
}

/// A topic filter: what `topic matches` compares with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Filter(Arc<str>);

impl Filter {
    /// Checks a topic filter: `+` alone in its level, `#` alone in the last one.
    pub(crate) fn new(text: &str) -> Result<Self, Error> {
        check(text)?;
        // A policy's text shows all that it says; MQTT itself would allow these.
        if let Some(character) = text.chars().find(|&c| is_forbidden(c)) {
            return Err(Error::ForbiddenCharacter {
                what: "topic filter",
                character,
            });
        }
        bound_levels("filter", text.split('/').count())?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            if level.contains('+') && level != "+" {
                return Err(Error::Topic {
                    kind: "filter",
                    reason: "`+` must have a level of its own [MQTT-4.7.1-2]",
                });
            }
            if level.contains('#') && (level != "#" || levels.peek().is_some()) {
                return Err(Error::Topic {
                    kind: "filter",
                    reason: "`#` must be the last level, alone [MQTT-4.7.1-1]",
                });
            }
        }
        Ok(Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the filter matches a topic name, by MQTT's rules and not through attributes.
    pub(crate) fn matches(&self, topic: &Topic) -> bool {
        if topic.0.starts_with('$') && self.0.starts_with(['+', '#']) {
            return false; // [MQTT-4.7.2-1]
        }
        let mut levels = topic.0.split('/');
        for part in self.0.split('/') {
            if part == "#" {
                return true;
            }
            match levels.next() {
                Some(level) if part == "+" || part == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// Whether every topic that this filter matches is matched by `other`.
    pub(crate) fn implies(&self, other: &Self) -> bool {
        if self.0.starts_with('$') && other.0.starts_with(['+', '#']) {
            return false;
        }
        let mut levels = self.0.split('/');
        for part in other.0.split('/') {
            if part == "#" {
                return true;
            }
            match levels.next() {
                Some("#") | None => return false,
                Some("+") if part != "+" => return false,
                Some(level) if part != "+" && part != level => return false,
                Some(_) => {}
            }
        }
        levels.next().is_none()
    }

    /// The filter's conditions on a topic's attributes: all of them must hold, in this order. Each
    /// is an alternative over one or more attributes.
    pub(crate) fn conditions(&self) -> Vec<Vec<Attribute>> {
        let (levels, open) = match self.0.strip_suffix('#') {
            Some(rest) => (rest.strip_suffix('/'), true),
            None => (Some(&*self.0), false),
        };
        let levels: Vec<&str> = levels.map(|l| l.split('/').collect()).unwrap_or_default();
        let mut conditions = Vec::new();
        for (index, level) in levels.iter().enumerate() {
            if *level != "+" {
                conditions.push(vec![Attribute::topic_level(level_number(index), level)]);
            }
        }
        let depth = levels.len();
        if !open {
            conditions.push(vec![Attribute::topic_depth(level_number(depth))]);
        } else if depth > 1 && levels.last() == Some(&"+") {
            // `a/+/#` is any topic of two levels or more; a named last level implies its depth.
            let depths = depth..=MAX_TOPIC_LEVELS;
            conditions.push(
                depths
                    .map(|d| Attribute::topic_depth(level_number(d)))
                    .collect(),
            );
        }
        if self.0.starts_with(['+', '#']) {
            conditions.push(vec![Attribute::topic_ordinary()]);
        }
        conditions
    }
}
