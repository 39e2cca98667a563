//! Where key frames are announced: retained, at `smqtt/keys/<topic>/<key id>`.
//!
//! A publisher announces a frame at [`topic`]; a reader that subscribes to a filter subscribes to its [`filter`] too, and finds
//! the frames of exactly the topics that it reads, on any broker that keeps retained messages.

use crate::KeyId;

/// Everything below this prefix belongs to SMQTT itself; no message may be sealed for a topic there.
pub const RESERVED_PREFIX: &str = "smqtt/";

/// The prefix of all announcements.
pub const PREFIX: &str = "smqtt/keys/";

/// The longest topic, in bytes, whose announcements still fit in an MQTT topic name of 65,535 bytes.
pub const MAX_TOPIC_LEN: usize = u16::MAX as usize - PREFIX.len() - 1 - 2 * KeyId::LEN;

/// The topic at which the frame `kid` is announced for messages at `topic`.
///
/// ```
/// use smqtt_format::{KeyId, announce};
/// let kid = KeyId([0, 1, 2, 3, 4, 5, 6, 0xff]);
/// assert_eq!(announce::topic("house/attic", &kid), "smqtt/keys/house/attic/00010203040506ff");
/// ```
#[must_use]
pub fn topic(topic: &str, kid: &KeyId) -> String {
    format!("{PREFIX}{topic}/{kid}")
}

/// The topic filter that brings the announcements for every topic that `filter` matches, and for no others, except that of a filter
/// that ends in `+/#` the `+` also matches the key ids of the level above.
///
/// A shared subscription's group is left out: each member of the group needs every frame.
///
/// ```
/// use smqtt_format::announce;
/// assert_eq!(announce::filter("house/+/temperature"), "smqtt/keys/house/+/temperature/+");
/// assert_eq!(announce::filter("house/#"), "smqtt/keys/house/#");
/// assert_eq!(announce::filter("$share/workers/house/+"), "smqtt/keys/house/+/+");
/// ```
#[must_use]
pub fn filter(filter: &str) -> String {
    let filter = filter
        .strip_prefix("$share/")
        .and_then(|rest| rest.split_once('/'))
        .map_or(filter, |(_group, filter)| filter);
    if filter == "#" || filter.ends_with("/#") {
        format!("{PREFIX}{filter}")
    } else {
        format!("{PREFIX}{filter}/+")
    }
}

/// Takes an announcement's topic apart into the topic of the messages and the key id; `None` if it is not the topic of an
/// announcement.
///
/// ```
/// use smqtt_format::{KeyId, announce};
/// let kid = KeyId([0, 1, 2, 3, 4, 5, 6, 0xff]);
/// assert_eq!(announce::parse("smqtt/keys/a/b/00010203040506ff"), Some(("a/b", kid)));
/// assert_eq!(announce::parse("smqtt/keys/a/b"), None);
/// ```
#[must_use]
pub fn parse(topic: &str) -> Option<(&str, KeyId)> {
    let (topic, kid) = topic.strip_prefix(PREFIX)?.rsplit_once('/')?;
    (!topic.is_empty()).then_some((topic, kid.parse().ok()?))
}

/// Whether `topic` lies below [`RESERVED_PREFIX`] (or is its first level alone).
#[must_use]
pub fn is_reserved(topic: &str) -> bool {
    topic.starts_with(RESERVED_PREFIX) || topic == "smqtt"
}
