//! Filters that subscriptions select topics with.

use std::fmt;

use bytes::Bytes;

use super::{TopicError, TopicName};
use crate::text::MqttString;

/// What a shared subscription starts with (MQTT 5.0 §4.8.2).
const SHARE_PREFIX: &str = "$share/";

/// One level of a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level<'a> {
    /// A level that must be equal, possibly empty.
    Literal(&'a str),
    /// `+`: any one level.
    Single,
    /// `#`: this level's parent and any number of levels below it; always the last.
    Multi,
}

/// A topic filter, parsed once: at least one character, wildcards where they may be, at most 65,535 bytes
/// (`[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]`, `[MQTT-4.7.3-1]`).
///
/// A shared subscription `$share/GROUP/FILTER` keeps its whole text ([`TopicFilter::as_str`]); what it selects
/// is [`TopicFilter::filter`].
#[derive(Clone)]
pub struct TopicFilter {
    text: MqttString,
    /// Length of GROUP in bytes, 0 if not shared.
    group: u16,
    wild: bool,
}

impl TopicFilter {
    /// Checks a text and copies it.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn new(text: impl Into<String>) -> Result<TopicFilter, TopicError> {
        TopicFilter::from_text(MqttString::new(text)?)
    }

    /// Checks bytes and shares them.
    ///
    /// # Errors
    /// Says which rule the bytes break.
    pub fn from_bytes(bytes: Bytes) -> Result<TopicFilter, TopicError> {
        TopicFilter::from_text(MqttString::from_bytes(bytes)?)
    }

    /// Checks an MQTT string and shares it.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn from_text(text: MqttString) -> Result<TopicFilter, TopicError> {
        if text.is_empty() {
            return Err(TopicError::Empty);
        }
        let mut group = 0;
        let mut filter = text.as_str();
        if let Some(rest) = filter.strip_prefix(SHARE_PREFIX) {
            let (name, rest) = rest.split_once('/').ok_or(TopicError::MalformedShare)?;
            if name.is_empty() || name.contains(['+', '#']) || rest.is_empty() {
                return Err(TopicError::MalformedShare);
            }
            group = u16::try_from(name.len()).expect("an MqttString is at most 65535 bytes long");
            filter = rest;
        }
        let wild = check_wildcards(filter)?;
        Ok(TopicFilter { text, group, wild })
    }

    /// The whole text, with `$share/GROUP/` if it has one.
    pub fn as_str(&self) -> &str {
        self.text.as_str()
    }

    /// The whole text as a shared MQTT string.
    pub fn text(&self) -> &MqttString {
        &self.text
    }

    /// The group of a shared subscription.
    pub fn share_group(&self) -> Option<&str> {
        match usize::from(self.group) {
            0 => None,
            len => Some(&self.as_str()[SHARE_PREFIX.len()..SHARE_PREFIX.len() + len]),
        }
    }

    /// Whether this is a shared subscription.
    pub fn is_shared(&self) -> bool {
        self.group != 0
    }

    /// The filter that selects topics: the text without `$share/GROUP/`.
    pub fn filter(&self) -> &str {
        match usize::from(self.group) {
            0 => self.as_str(),
            len => &self.as_str()[SHARE_PREFIX.len() + len + 1..],
        }
    }

    /// Whether it has a wildcard, `+` or `#`.
    pub fn has_wildcards(&self) -> bool {
        self.wild
    }

    /// The levels of [`TopicFilter::filter`].
    pub fn levels(&self) -> impl Iterator<Item = Level<'_>> {
        self.filter().split('/').map(|level| match level {
            "+" => Level::Single,
            "#" => Level::Multi,
            literal => Level::Literal(literal),
        })
    }

    /// Whether a message of this topic is selected: `sport/#` selects `sport` too, and filters that
    /// start with a wildcard do not select topics that start with `$` (`[MQTT-4.7.2-1]`).
    pub fn matches(&self, topic: &TopicName) -> bool {
        let (filter, topic) = (self.filter().as_bytes(), topic.as_str().as_bytes());
        if !self.wild {
            return filter == topic;
        }
        if topic.first() == Some(&b'$') && matches!(filter.first(), Some(b'+' | b'#')) {
            return false;
        }
        let mut names = topic.split(|&b| b == b'/');
        for level in filter.split(|&b| b == b'/') {
            match (level, names.next()) {
                (b"#", _) => return true,
                (_, None) => return false,
                (b"+", Some(_)) => {}
                (literal, Some(name)) => {
                    if literal != name {
                        return false;
                    }
                }
            }
        }
        names.next().is_none()
    }

    /// A copy in memory of its own, so that keeping it keeps no read buffer alive.
    pub fn detach(&self) -> TopicFilter {
        TopicFilter {
            text: self.text.detach(),
            ..*self
        }
    }
}

/// Whether the filter has wildcards, or which of them is misplaced.
fn check_wildcards(filter: &str) -> Result<bool, TopicError> {
    let mut wild = false;
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            "+" => wild = true,
            "#" if levels.peek().is_none() => wild = true,
            _ if level.contains('#') => return Err(TopicError::MisplacedHash),
            _ if level.contains('+') => return Err(TopicError::MisplacedPlus),
            _ => {}
        }
    }
    Ok(wild)
}

impl PartialEq for TopicFilter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicFilter {}

impl std::hash::Hash for TopicFilter {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for TopicFilter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TopicFilter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl TryFrom<&str> for TopicFilter {
    type Error = TopicError;

    fn try_from(text: &str) -> Result<Self, TopicError> {
        TopicFilter::new(text)
    }
}

impl TryFrom<String> for TopicFilter {
    type Error = TopicError;

    fn try_from(text: String) -> Result<Self, TopicError> {
        TopicFilter::new(text)
    }
}

impl std::str::FromStr for TopicFilter {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        TopicFilter::new(text)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
