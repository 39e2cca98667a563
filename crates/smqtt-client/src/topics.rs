//! Which topics can be published to and subscribed to.

use smqtt_format::announce;
use smqtt_proto::{TopicFilter, TopicName};

use crate::Error;

/// Checks a topic to publish to: a valid MQTT topic name, outside of `smqtt/`, which is for key
/// frames and the authority, outside of `$`, which is the broker's, and short enough for its key
/// frames to be announced.
///
/// # Errors
///
/// [`Error::Topic`] says what is wrong.
pub fn publishable(topic: &str) -> Result<TopicName, Error> {
    let refuse = |reason: String| Error::Topic {
        topic: topic.to_owned(),
        reason,
    };
    let name = TopicName::new(topic).map_err(|error| refuse(error.to_string()))?;
    if announce::is_reserved(topic) {
        return Err(refuse(
            "topics below smqtt/ are for key frames: choose another".to_owned(),
        ));
    }
    if name.is_system() {
        return Err(refuse(
            "topics that begin with $ are the broker's own: choose another".to_owned(),
        ));
    }
    if topic.len() > announce::MAX_TOPIC_LEN {
        return Err(refuse(format!(
            "it is longer than the {} bytes that leave room for its key frames: shorten it",
            announce::MAX_TOPIC_LEN
        )));
    }
    Ok(name)
}

/// Checks a topic filter to subscribe to and returns it.
///
/// # Errors
///
/// [`Error::Topic`] says what is wrong.
pub fn subscribable(filter: &str) -> Result<TopicFilter, Error> {
    let refuse = |reason: String| Error::Topic {
        topic: filter.to_owned(),
        reason,
    };
    let parsed = TopicFilter::new(filter).map_err(|error| refuse(error.to_string()))?;
    if announce::is_reserved(parsed.filter()) {
        return Err(refuse(
            "key frames below smqtt/ are subscribed to by themselves: leave it out".to_owned(),
        ));
    }
    if filter.len() > announce::MAX_TOPIC_LEN {
        return Err(refuse(format!(
            "it is longer than the {} bytes that leave room for its key frames: shorten it",
            announce::MAX_TOPIC_LEN
        )));
    }
    Ok(parsed)
}

/// The filter that brings the key frames for what `filter` selects.
pub(crate) fn announcements(filter: &TopicFilter) -> Result<TopicFilter, Error> {
    let text = announce::filter(filter.as_str());
    TopicFilter::new(text.as_str()).map_err(|error| Error::Topic {
        topic: text,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_the_system_and_of_the_broker_are_not_published_to() {
        for topic in ["", "a/+", "a/#", "smqtt", "smqtt/keys/a", "$SYS/a", "a\0b"] {
            assert!(publishable(topic).is_err(), "{topic:?}");
        }
        for topic in ["a", "a/b", "smqttx/a", "a/smqtt/b", "/", "a b"] {
            assert!(publishable(topic).is_ok(), "{topic:?}");
        }
        assert!(publishable(&"a".repeat(announce::MAX_TOPIC_LEN)).is_ok());
        assert!(publishable(&"a".repeat(announce::MAX_TOPIC_LEN + 1)).is_err());
    }

    #[test]
    fn filters_bring_their_key_frames_along() {
        for (filter, expected) in [
            ("a/+/b", "smqtt/keys/a/+/b/+"),
            ("a/#", "smqtt/keys/a/#"),
            ("#", "smqtt/keys/#"),
            ("$share/group/a/+", "smqtt/keys/a/+/+"),
        ] {
            let filter = subscribable(filter).unwrap();
            assert_eq!(announcements(&filter).unwrap().as_str(), expected);
        }
        for filter in ["", "a/#/b", "a+", "smqtt/keys/#", "$share/g"] {
            assert!(subscribable(filter).is_err(), "{filter:?}");
        }
    }
}
