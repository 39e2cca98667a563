//! What a device holds, or what a message is labelled with.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::encoding::{Reader, put_text};
use crate::limits::{MAX_ATTRIBUTES, MAX_SET_BYTES, MAX_STATED};
use crate::topic::Topic;
use crate::{Attribute, Epoch, Error, ParseError};

/// The tag of a whole topic in a set's encoding; the attributes' own tags end below it.
const TAG_TOPIC: u8 = 0x08;

/// A set of attributes: what a device's key carries (CP), or what a message is labelled with (KP).
///
/// A set is *stated* in a few attributes and *expands* to more: a number brings the intervals in
/// which it lies, a topic its levels and depth. [`stated`](AttributeSet::stated) and the text form
/// have the former, [`iter`](AttributeSet::iter) and [`contains`](AttributeSet::contains) the latter.
/// An attribute may have several text values (`role = doctor, role = surgeon`) but only one number of
/// a scale, so that two comparisons of one name speak of the same number.
///
/// ```
/// use smqtt_policy::{Attribute, AttributeSet, Epoch};
///
/// let set: AttributeSet = "role = doctor, dept=icu, on-call".parse()?;
/// assert_eq!(set.to_string(), "dept = icu, on-call, role = doctor");
/// assert!(set.contains(&Attribute::flag("on-call")?));
///
/// let key = set.with_epoch(Epoch::new(7));
/// assert_eq!(key.epoch(), Some(Epoch::new(7)));
/// assert_eq!(AttributeSet::decode(&key.encode())?, key);
/// # Ok::<(), smqtt_policy::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AttributeSet {
    stated: BTreeSet<Attribute>,
    topic: Option<Topic>,
    epoch: Option<Epoch>,
    /// All of the above, expanded; follows from them.
    expanded: BTreeSet<Attribute>,
}

impl AttributeSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a text can state: a flag, a value or a number. Returns whether it was new.
    ///
    /// # Errors
    ///
    /// When the attribute is a derived one, when it is a second number by the same name and scale,
    /// or when the set is full ([`MAX_STATED`], [`MAX_ATTRIBUTES`]). The set is then unchanged.
    pub fn insert(&mut self, attribute: Attribute) -> Result<bool, Error> {
        if !attribute.is_stated() {
            return Err(Error::Derived {
                attribute: attribute.to_string(),
            });
        }
        if self.stated.contains(&attribute) {
            return Ok(false);
        }
        if let (Some(name), Some((scale, _))) = (attribute.name(), attribute.as_number())
            && self.number(name, scale).is_some()
        {
            return Err(Error::SecondNumber {
                name: name.to_owned(),
                scale,
            });
        }
        if self.stated.len() >= MAX_STATED {
            return Err(Error::TooManyAttributes { limit: MAX_STATED });
        }
        let expansion = attribute.expand();
        if self.expanded.len() + expansion.len() > MAX_ATTRIBUTES {
            return Err(Error::TooManyAttributes {
                limit: MAX_ATTRIBUTES,
            });
        }
        self.expanded.extend(expansion);
        self.stated.insert(attribute);
        Ok(true)
    }

    /// The number that the set states for `name` on this scale.
    #[must_use]
    pub fn number(&self, name: &str, scale: crate::Scale) -> Option<i64> {
        self.stated
            .iter()
            .find_map(|attribute| match attribute.as_number() {
                Some((s, number)) if s == scale && attribute.name() == Some(name) => Some(number),
                _ => None,
            })
    }

    /// Whether the set has this attribute, stated or derived.
    #[must_use]
    pub fn contains(&self, attribute: &Attribute) -> bool {
        self.expanded.contains(attribute)
    }

    /// All attributes in ascending order, derived ones, those of the topic and the epoch included.
    ///
    /// These are the attributes for which an attribute key or a KP ciphertext has an element.
    pub fn iter(&self) -> std::collections::btree_set::Iter<'_, Attribute> {
        self.expanded.iter()
    }

    /// The attributes that were stated, in ascending order, without topic and epoch.
    pub fn stated(&self) -> std::collections::btree_set::Iter<'_, Attribute> {
        self.stated.iter()
    }

    /// How many attributes [`iter`](AttributeSet::iter) yields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.expanded.len()
    }

    /// Whether the set has nothing at all, not even an epoch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.expanded.is_empty()
    }

    /// This set at `epoch`, in place of the epoch that it had.
    #[must_use]
    pub fn with_epoch(&self, epoch: Epoch) -> Self {
        let mut set = self.without_epoch();
        set.epoch = Some(epoch);
        set.expanded.insert(Attribute::epoch(epoch));
        set
    }

    /// This set without an epoch.
    #[must_use]
    pub fn without_epoch(&self) -> Self {
        let mut set = self.clone();
        if let Some(epoch) = set.epoch.take() {
            set.expanded.remove(&Attribute::epoch(epoch));
        }
        set
    }

    /// The epoch of the set, if it has one.
    #[must_use]
    pub const fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// This set for a message that is published to `topic`, in place of the topic that it had.
    ///
    /// # Errors
    ///
    /// When `topic` is not a topic name of MQTT, has control characters, or has more than
    /// [`MAX_TOPIC_LEVELS`](crate::limits::MAX_TOPIC_LEVELS) levels.
    pub fn with_topic(&self, topic: &str) -> Result<Self, Error> {
        let topic = Topic::new(topic)?;
        let mut set = self.without_topic();
        set.expanded.extend(topic.attributes());
        set.topic = Some(topic);
        Ok(set)
    }

    /// This set without a topic.
    #[must_use]
    pub fn without_topic(&self) -> Self {
        let mut set = self.clone();
        if let Some(topic) = set.topic.take() {
            for attribute in topic.attributes() {
                set.expanded.remove(&attribute);
            }
        }
        set
    }

    /// The topic of the set, if it has one.
    #[must_use]
    pub fn topic(&self) -> Option<&str> {
        self.topic.as_ref().map(Topic::as_str)
    }

    pub(crate) const fn topic_name(&self) -> Option<&Topic> {
        self.topic.as_ref()
    }

    /// The canonical bytes of this set: how many attributes are stated, each one, topic, epoch.
    ///
    /// Derived attributes are not written: they follow. Equal sets have equal encodings, different
    /// ones different encodings, and no encoding is a prefix of another.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let parts = self.stated.len()
            + usize::from(self.topic.is_some())
            + usize::from(self.epoch.is_some());
        // MAX_STATED and two more fit in two bytes.
        let count = u16::try_from(parts).expect("a set states at most MAX_STATED attributes");
        let mut out = Vec::with_capacity(2 + 32 * parts);
        out.extend_from_slice(&count.to_be_bytes());
        for attribute in &self.stated {
            attribute.encode_into(&mut out);
        }
        if let Some(topic) = &self.topic {
            out.push(TAG_TOPIC);
            put_text(&mut out, topic.as_str());
        }
        if let Some(epoch) = self.epoch {
            Attribute::epoch(epoch).encode_into(&mut out);
        }
        out
    }

    /// Reads the canonical bytes of a set, all of them.
    ///
    /// # Errors
    ///
    /// When the bytes are cut off, extended, of an unknown kind, beyond the limits, or not what
    /// [`encode`](AttributeSet::encode) writes: out of order, repeated, or derived attributes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, MAX_SET_BYTES)?;
        let count = usize::from(reader.u16()?);
        if count > MAX_STATED + 2 {
            return Err(Error::TooManyAttributes { limit: MAX_STATED });
        }
        let out_of_order = || Error::NotCanonical {
            what: "attributes out of order or repeated",
        };
        let mut set = Self::new();
        for _ in 0..count {
            if set.epoch.is_some() {
                return Err(out_of_order());
            }
            let tag = reader.u8()?;
            if tag == TAG_TOPIC {
                if set.topic.is_some() {
                    return Err(out_of_order());
                }
                set = set.with_topic(reader.text()?)?;
                continue;
            }
            let attribute = Attribute::decode_tagged(tag, &mut reader)?;
            if let Some(epoch) = attribute.as_epoch() {
                set = set.with_epoch(epoch);
                continue;
            }
            if set.topic.is_some() || set.stated.last().is_some_and(|last| *last >= attribute) {
                return Err(out_of_order());
            }
            set.insert(attribute)?;
        }
        reader.finish()?;
        Ok(set)
    }
}

impl<'a> IntoIterator for &'a AttributeSet {
    type Item = &'a Attribute;
    type IntoIter = std::collections::btree_set::Iter<'a, Attribute>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FromStr for AttributeSet {
    type Err = ParseError;

    /// Reads `name = value` and bare names, separated by commas. The empty text is the empty set.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        crate::stated::attribute_set(text, None)
    }
}

impl fmt::Display for AttributeSet {
    /// What is stated, in canonical form; the topic and the epoch follow in parentheses.
    ///
    /// Without topic and epoch the text parses to the same set again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, attribute) in self.stated.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            attribute.fmt(f)?;
        }
        let space = if self.stated.is_empty() { "" } else { " " };
        match (self.topic(), self.epoch) {
            (None, None) => Ok(()),
            (None, Some(epoch)) => write!(f, "{space}(epoch {epoch})"),
            (Some(topic), None) => write!(f, "{space}(topic {topic})"),
            (Some(topic), Some(epoch)) => write!(f, "{space}(topic {topic}, epoch {epoch})"),
        }
    }
}
