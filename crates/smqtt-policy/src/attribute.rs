//! One attribute: the unit that a key carries and that a row of a share matrix demands.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::encoding::{Reader, put_text};
use crate::interval::{Interval, containing};
use crate::limits::{MAX_NAME_BYTES, MAX_SET_BYTES, MAX_TOPIC_LEVELS, MAX_VALUE_BYTES};
use crate::text::{already_canonical, canonical, literal};
use crate::{Epoch, Error, Scale};

/// The first byte of an attribute's encoding. Never reused, never renumbered.
mod tag {
    pub(super) const FLAG: u8 = 0x01;
    pub(super) const VALUE: u8 = 0x02;
    pub(super) const NUMBER: u8 = 0x03;
    pub(super) const EPOCH: u8 = 0x04;
    pub(super) const TOPIC_LEVEL: u8 = 0x05;
    pub(super) const TOPIC_DEPTH: u8 = 0x06;
    pub(super) const TOPIC_ORDINARY: u8 = 0x07;
}

/// One attribute, in canonical form.
///
/// Equal attributes have equal encodings and different ones have different encodings, so an
/// encoding (with a tag for what it is used for) is what gets hashed to the curve.
///
/// What a policy or an attribute-set text can state is a *flag* (`on-call`), a *value*
/// (`dept = icu`) or a *number* (`clearance = 3`, `joined = 2024-05-01`). The others are derived:
/// the intervals that a number lies in, the levels and depth of a topic, and the [`Epoch`], which no
/// text can name.
///
/// ```
/// use smqtt_policy::Attribute;
///
/// let attribute: Attribute = "dept = icu".parse()?;
/// assert_eq!(attribute, Attribute::value("dept", "icu")?);
/// assert_eq!(Attribute::decode(&attribute.encode())?, attribute);
/// # Ok::<(), smqtt_policy::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attribute(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Flag {
        name: Arc<str>,
    },
    Value {
        name: Arc<str>,
        value: Arc<str>,
    },
    Number {
        name: Arc<str>,
        scale: Scale,
        interval: Interval,
    },
    Epoch(Epoch),
    TopicLevel {
        index: u8,
        level: Arc<str>,
    },
    TopicDepth(u8),
    TopicOrdinary,
}

impl Attribute {
    /// The bare attribute `name`.
    ///
    /// # Errors
    ///
    /// When the name is empty, longer than [`MAX_NAME_BYTES`], begins or ends with a space, or has
    /// invisible characters.
    pub fn flag(name: &str) -> Result<Self, Error> {
        Ok(Self(Kind::Flag {
            name: checked_name(name)?,
        }))
    }

    /// The attribute `name = value` with a text for its value, even one of digits only.
    ///
    /// # Errors
    ///
    /// As [`Attribute::flag`], for the name and for the value (of at most [`MAX_VALUE_BYTES`]).
    pub fn value(name: &str, value: &str) -> Result<Self, Error> {
        let value = canonical("attribute value", value, MAX_VALUE_BYTES)?;
        Ok(Self(Kind::Value {
            name: checked_name(name)?,
            value,
        }))
    }

    /// The attribute `name = number`.
    ///
    /// # Errors
    ///
    /// As [`Attribute::flag`] for the name.
    pub fn integer(name: &str, number: i64) -> Result<Self, Error> {
        Self::number(name, Scale::Integer, number)
    }

    /// The attribute `name = number` on a scale: an integer, or a date or time as an integer.
    ///
    /// # Errors
    ///
    /// As [`Attribute::flag`] for the name, and when the scale has no such number.
    pub fn number(name: &str, scale: Scale, number: i64) -> Result<Self, Error> {
        if !scale.holds(number) {
            return Err(Error::NumberOutOfRange { scale });
        }
        let interval = Interval::point(number);
        Ok(Self(Kind::Number {
            name: checked_name(name)?,
            scale,
            interval,
        }))
    }

    /// The attribute of an epoch. No policy and no attribute-set text can name it.
    #[must_use]
    pub const fn epoch(epoch: Epoch) -> Self {
        Self(Kind::Epoch(epoch))
    }

    /// An attribute whose name and value are already in canonical form.
    pub(crate) fn canonical_value(name: Arc<str>, value: Arc<str>) -> Self {
        Self(Kind::Value { name, value })
    }

    /// A flag whose name is already in canonical form.
    pub(crate) fn canonical_flag(name: Arc<str>) -> Self {
        Self(Kind::Flag { name })
    }

    /// An interval of the family, for a name that is already in canonical form.
    pub(crate) fn interval(name: Arc<str>, scale: Scale, interval: Interval) -> Self {
        Self(Kind::Number {
            name,
            scale,
            interval,
        })
    }

    pub(crate) fn topic_level(index: u8, level: &str) -> Self {
        Self(Kind::TopicLevel {
            index,
            level: level.into(),
        })
    }

    pub(crate) const fn topic_depth(depth: u8) -> Self {
        Self(Kind::TopicDepth(depth))
    }

    pub(crate) const fn topic_ordinary() -> Self {
        Self(Kind::TopicOrdinary)
    }

    /// The attribute's name; the epoch and a topic's attributes have none.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Kind::Flag { name } | Kind::Value { name, .. } | Kind::Number { name, .. } => {
                Some(name)
            }
            _ => None,
        }
    }

    /// The attribute's value, if it is a text.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.0 {
            Kind::Value { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The attribute's scale and number, if it states one (and is not an interval derived from one).
    #[must_use]
    pub fn as_number(&self) -> Option<(Scale, i64)> {
        match &self.0 {
            Kind::Number {
                scale, interval, ..
            } if interval.is_point() => Some((*scale, interval.lo)),
            _ => None,
        }
    }

    /// The epoch, if this is the attribute of one.
    #[must_use]
    pub const fn as_epoch(&self) -> Option<Epoch> {
        match self.0 {
            Kind::Epoch(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// Whether the attribute is a bare name.
    #[must_use]
    pub const fn is_flag(&self) -> bool {
        matches!(self.0, Kind::Flag { .. })
    }

    /// Whether a text can state this attribute: flags, values and numbers, not what is derived.
    #[must_use]
    pub fn is_stated(&self) -> bool {
        match &self.0 {
            Kind::Flag { .. } | Kind::Value { .. } => true,
            Kind::Number {
                scale, interval, ..
            } => interval.is_point() && scale.holds(interval.lo),
            _ => false,
        }
    }

    /// This attribute and, for a number, the intervals that it lies in.
    pub(crate) fn expand(&self) -> Vec<Self> {
        match &self.0 {
            Kind::Number {
                name,
                scale,
                interval,
            } if interval.is_point() => containing(interval.lo)
                .into_iter()
                .map(|around| Self::interval(Arc::clone(name), *scale, around))
                .collect(),
            _ => vec![self.clone()],
        }
    }

    /// The canonical bytes of this attribute: a kind tag, then fixed-width or length-prefixed fields.
    ///
    /// No encoding is a prefix of another. `docs/policy.md` lists the kinds byte by byte.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48);
        self.encode_into(&mut out);
        out
    }

    /// Appends the canonical bytes of this attribute to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Kind::Flag { name } => {
                out.push(tag::FLAG);
                put_text(out, name);
            }
            Kind::Value { name, value } => {
                out.push(tag::VALUE);
                put_text(out, name);
                put_text(out, value);
            }
            Kind::Number {
                name,
                scale,
                interval,
            } => {
                out.push(tag::NUMBER);
                put_text(out, name);
                out.push(scale.id());
                out.extend_from_slice(&interval.lo.to_be_bytes());
                out.extend_from_slice(&interval.hi.to_be_bytes());
            }
            Kind::Epoch(epoch) => {
                out.push(tag::EPOCH);
                out.extend_from_slice(&epoch.get().to_be_bytes());
            }
            Kind::TopicLevel { index, level } => {
                out.extend_from_slice(&[tag::TOPIC_LEVEL, *index]);
                put_text(out, level);
            }
            Kind::TopicDepth(depth) => out.extend_from_slice(&[tag::TOPIC_DEPTH, *depth]),
            Kind::TopicOrdinary => out.push(tag::TOPIC_ORDINARY),
        }
    }

    /// Reads the canonical bytes of one attribute, all of them.
    ///
    /// # Errors
    ///
    /// When the bytes are cut off, extended, of an unknown kind, or not what
    /// [`encode`](Attribute::encode) writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, MAX_SET_BYTES)?;
        let tag = reader.u8()?;
        let attribute = Self::decode_tagged(tag, &mut reader)?;
        reader.finish()?;
        Ok(attribute)
    }

    /// Reads what follows the kind tag of an attribute.
    pub(crate) fn decode_tagged(tag: u8, reader: &mut Reader<'_>) -> Result<Self, Error> {
        let name = |reader: &mut Reader<'_>| {
            already_canonical("attribute name", reader.text()?, MAX_NAME_BYTES)
        };
        Ok(Self(match tag {
            tag::FLAG => Kind::Flag {
                name: name(reader)?,
            },
            tag::VALUE => {
                let name = name(reader)?;
                let value = already_canonical("attribute value", reader.text()?, MAX_VALUE_BYTES)?;
                Kind::Value { name, value }
            }
            tag::NUMBER => {
                let name = name(reader)?;
                let scale = Scale::from_id(reader.u8()?).ok_or(Error::NotCanonical {
                    what: "a number of an unknown scale",
                })?;
                let interval = Interval::new(reader.i64()?, reader.i64()?);
                if !interval.is_of_family() {
                    return Err(Error::NotCanonical {
                        what: "an interval outside the family",
                    });
                }
                Kind::Number {
                    name,
                    scale,
                    interval,
                }
            }
            tag::EPOCH => Kind::Epoch(Epoch::new(reader.u64()?)),
            tag::TOPIC_LEVEL => {
                let index = reader.u8()?;
                let level = reader.text()?;
                if usize::from(index) >= MAX_TOPIC_LEVELS || !is_topic_level(level) {
                    return Err(Error::NotCanonical {
                        what: "not a level of a topic",
                    });
                }
                Kind::TopicLevel {
                    index,
                    level: level.into(),
                }
            }
            tag::TOPIC_DEPTH => {
                let depth = reader.u8()?;
                if depth == 0 || usize::from(depth) > MAX_TOPIC_LEVELS {
                    return Err(Error::NotCanonical {
                        what: "not a depth of a topic",
                    });
                }
                Kind::TopicDepth(depth)
            }
            tag::TOPIC_ORDINARY => Kind::TopicOrdinary,
            tag => return Err(Error::UnknownKind { tag }),
        }))
    }

    /// By name, then kind, then value; the nameless ones last.
    fn sort_key(&self) -> (u8, &str, u8, &str, i64, i64) {
        match &self.0 {
            Kind::Flag { name } => (0, name, tag::FLAG, "", 0, 0),
            Kind::Value { name, value } => (0, name, tag::VALUE, value, 0, 0),
            Kind::Number {
                name,
                scale,
                interval,
            } => (
                0,
                name,
                tag::NUMBER + scale.id(),
                "",
                interval.lo,
                interval.hi,
            ),
            Kind::TopicLevel { index, level } => (1, "", *index, level, 0, 0),
            Kind::TopicDepth(depth) => (2, "", *depth, "", 0, 0),
            Kind::TopicOrdinary => (3, "", 0, "", 0, 0),
            Kind::Epoch(_) => (4, "", 0, "", 0, 0),
        }
    }
}

fn checked_name(name: &str) -> Result<Arc<str>, Error> {
    canonical("attribute name", name, MAX_NAME_BYTES)
}

fn is_topic_level(level: &str) -> bool {
    !level.contains(|c: char| matches!(c, '/' | '+' | '#') || c.is_control())
}

impl Ord for Attribute {
    fn cmp(&self, other: &Self) -> Ordering {
        let epochs = || self.as_epoch().cmp(&other.as_epoch());
        self.sort_key().cmp(&other.sort_key()).then_with(epochs)
    }
}

impl PartialOrd for Attribute {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Attribute {
    type Err = Error;

    /// Reads one attribute as an attribute-set text states it: `dept = icu`, `on-call`,
    /// `clearance = 3`.
    fn from_str(text: &str) -> Result<Self, Error> {
        Ok(crate::stated::attribute(text)?)
    }
}

impl fmt::Display for Attribute {
    /// The canonical text; for a derived attribute, a description that no text can state.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Flag { name } => f.write_str(&literal(name)),
            Kind::Value { name, value } => write!(f, "{} = {}", literal(name), literal(value)),
            Kind::Number {
                name,
                scale,
                interval,
            } => {
                f.write_str(&literal(name))?;
                if interval.is_point() {
                    f.write_str(" = ")?;
                    return scale.write(interval.lo, f);
                }
                f.write_str(" in ")?;
                scale.write(interval.lo, f)?;
                f.write_str("..")?;
                scale.write(interval.hi, f)
            }
            Kind::Epoch(epoch) => write!(f, "epoch {epoch}"),
            Kind::TopicLevel { index, level } => {
                write!(
                    f,
                    "topic level {} {}",
                    u16::from(*index) + 1,
                    literal(level)
                )
            }
            Kind::TopicDepth(depth) => write!(f, "topic depth {depth}"),
            Kind::TopicOrdinary => f.write_str("topic without $"),
        }
    }
}
