//! Topic names and topic filters (MQTT 5.0 §4.7, §4.8).

mod filter;
mod name;

pub use filter::{Level, TopicFilter};
pub use name::TopicName;

use crate::text::TextError;

/// Why a text is neither a topic name nor a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Not an MQTT string at all.
    #[error("the topic is {0}")]
    Text(#[from] TextError),
    /// Topic names and filters are at least one character long (`[MQTT-4.7.3-1]`).
    #[error("the topic is empty, it needs at least one character")]
    Empty,
    /// A topic name contains `+` or `#` (`[MQTT-3.3.2-2]`, `[MQTT-4.7.1-1]`).
    #[error("a topic name to publish to must not contain the wildcards '+' and '#'")]
    WildcardInName,
    /// `#` is not alone in the last level (`[MQTT-4.7.1-1]`).
    #[error("'#' must be a whole level and the last one")]
    MisplacedHash,
    /// `+` shares its level with other characters (`[MQTT-4.7.1-2]`).
    #[error("'+' must be a whole level")]
    MisplacedPlus,
    /// `$share/` without a group, with a wildcard in the group, or without a filter after it
    /// (`[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`).
    #[error(
        "a shared subscription is $share/GROUP/FILTER with a group without '+' and '#' and a filter of at least one character"
    )]
    MalformedShare,
}
