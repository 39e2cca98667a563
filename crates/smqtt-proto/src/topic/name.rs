//! Names that messages are published to.

use std::borrow::Borrow;
use std::fmt;

use bytes::Bytes;

use super::TopicError;
use crate::text::{MqttString, contains_any};

/// A topic name: at least one character, no wildcards, at most 65,535 bytes
/// (`[MQTT-4.7.3-1]`, `[MQTT-4.7.3-3]`, `[MQTT-3.3.2-2]`).
///
/// The one exception is [`TopicName::ALIASED`], which only the codec makes and which stands in a
/// v5 PUBLISH whose topic is said by a topic alias alone; connections resolve it before anybody sees it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(MqttString);

impl TopicName {
    /// The zero-length topic of a v5 PUBLISH that names its topic by alias alone (`[MQTT-3.3.2-8]`).
    pub const ALIASED: TopicName = TopicName(MqttString::empty());

    /// Checks a text and copies it.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: impl Into<String>) -> Result<TopicName, TopicError> {
        TopicName::from_text(MqttString::new(text)?)
    }

    /// Checks bytes and shares them.
    ///
    /// # Errors
    /// Says which rule the bytes break.
    pub fn from_bytes(bytes: Bytes) -> Result<TopicName, TopicError> {
        TopicName::from_text(MqttString::from_bytes(bytes)?)
    }

    /// Checks an MQTT string and shares it.
    ///
    /// # Errors
    /// Empty, or contains a wildcard.
    pub fn from_text(text: MqttString) -> Result<TopicName, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        if contains_any(text.bytes(), [b'+', b'#']) {
            return Err(TopicError::WildcardInName);
        }
        Ok(TopicName(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The shared bytes of the text.
    pub fn bytes(&self) -> &Bytes {
        self.0.bytes()
    }

    /// The text as a shared MQTT string.
    pub fn text(&self) -> &MqttString {
        &self.0
    }

    /// Whether this is [`TopicName::ALIASED`].
    pub fn is_aliased(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it starts with `$`: such topics are the server's own, and filters that begin with a
    /// wildcard do not match them (`[MQTT-4.7.2-1]`).
    pub fn is_system(&self) -> bool {
        self.0.bytes().first() == Some(&b'$')
    }

    /// The levels between the `/`, which may be empty.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.as_str().split('/')
    }

    /// A copy in memory of its own, so that keeping it keeps no read buffer alive.
    pub fn detach(&self) -> TopicName {
        TopicName(self.0.detach())
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq<str> for TopicName {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for TopicName {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl TryFrom<&str> for TopicName {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, TopicError> {
        TopicName::new(text)
    }
}

impl TryFrom<String> for TopicName {
    type Error = TopicError;

    fn try_from(text: String) -> Result<Self, TopicError> {
        TopicName::new(text)
    }
}

impl std::str::FromStr for TopicName {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        TopicName::new(text)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
