//! What MQTT 5 lets a publisher say beside a message.

use bytes::Bytes;
use smqtt_format::{MEDIA_TYPE, MEDIA_TYPE_INLINE};
use smqtt_proto::packet::MessageProperties;
use smqtt_proto::{MqttString, TopicName};

use crate::{Error, publishable};

/// The properties of a message that are the application's: what MQTT 5 carries beside the payload.
///
/// They are **not sealed**: a broker reads them, and may change, add and drop them. A reader must not
/// rest anything on them that it would not leave to the broker. MQTT 3.1.1 has none.
///
/// ```
/// use smqtt_client::Properties;
///
/// let properties = Properties::default()
///     .user("unit", "celsius")
///     .content_type("text/plain")
///     .response_topic("plant/7/answers");
/// assert!(!properties.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Properties {
    /// Pairs of name and value, in order; a name may occur more than once.
    pub user: Vec<(String, String)>,
    /// The type of the payload. Without one, a sealed message says that it is COSE.
    pub content_type: Option<String>,
    /// Where a response is wanted.
    pub response_topic: Option<String>,
    /// What a response repeats, so that the requester knows its request; at most 65,535 bytes.
    pub correlation_data: Option<Vec<u8>>,
    /// Seconds that the broker may keep the message; of a received one, those that were left.
    pub expiry: Option<u32>,
}

impl Properties {
    /// None at all.
    pub(crate) const NONE: Self = Self {
        user: Vec::new(),
        content_type: None,
        response_topic: None,
        correlation_data: None,
        expiry: None,
    };

    /// Adds a user property.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.user.push((name.into(), value.into()));
        self
    }

    /// Says what the payload is.
    #[must_use]
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.content_type = Some(content_type.into());
        self
    }

    /// Says where a response is wanted.
    #[must_use]
    pub fn response_topic(mut self, topic: impl Into<String>) -> Self {
        self.response_topic = Some(topic.into());
        self
    }

    /// Says what a response repeats.
    #[must_use]
    pub fn correlation_data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.correlation_data = Some(data.into());
        self
    }

    /// Lets the broker drop the message after so many seconds.
    #[must_use]
    pub fn expiry(mut self, seconds: u32) -> Self {
        self.expiry = Some(seconds);
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    ///
    /// [`Error::Topic`] for a response topic that is none, [`Error::Option`] for texts that MQTT can not
    /// carry (a zero character, more than 65,535 bytes).
    pub fn check(&self) -> Result<(), Error> {
        self.to_mqtt(MEDIA_TYPE).map(drop)
    }

    /// The properties as they go out, with `envelope` as the content type where there is no other.
    pub(crate) fn to_mqtt(&self, envelope: &'static str) -> Result<MessageProperties, Error> {
        let content_type = match &self.content_type {
            Some(own) => text("content type", own)?,
            None => MqttString::from_bytes(Bytes::from_static(envelope.as_bytes()))
                .map_err(|error| refused("content type", error))?,
        };
        let user = self.user.iter().map(|(name, value)| {
            Ok::<_, Error>((
                text("name of a user property", name)?,
                text("value of a user property", value)?,
            ))
        });
        let correlation_data = self.correlation_data.as_deref().map(Bytes::copy_from_slice);
        if correlation_data
            .as_ref()
            .is_some_and(|data| data.len() > MqttString::MAX_LEN)
        {
            return Err(refused("correlation data", "longer than 65535 bytes"));
        }
        Ok(MessageProperties {
            payload_is_utf8: Some(false),
            message_expiry_interval: self.expiry,
            response_topic: self
                .response_topic
                .as_deref()
                .map(publishable)
                .transpose()?,
            correlation_data,
            user_properties: user.collect::<Result<_, _>>()?,
            content_type: Some(content_type),
            ..MessageProperties::NONE
        })
    }

    /// What is the application's among the properties of a received message; `None` if nothing is.
    pub(crate) fn of(received: &MessageProperties) -> Option<Self> {
        let own_type = received
            .content_type
            .as_ref()
            .map(MqttString::as_str)
            .filter(|text| *text != MEDIA_TYPE && *text != MEDIA_TYPE_INLINE);
        let properties = Self {
            user: received
                .user_properties
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()))
                .collect(),
            content_type: own_type.map(str::to_owned),
            response_topic: received
                .response_topic
                .as_ref()
                .map(TopicName::as_str)
                .map(str::to_owned),
            correlation_data: received.correlation_data.as_ref().map(|data| data.to_vec()),
            expiry: received.message_expiry_interval,
        };
        (!properties.is_empty()).then_some(properties)
    }

    /// About how many bytes they take.
    pub(crate) fn size(&self) -> usize {
        let user = self
            .user
            .iter()
            .map(|(name, value)| size_of::<(String, String)>() + name.len() + value.len());
        size_of::<Self>()
            + user.sum::<usize>()
            + self.content_type.as_ref().map_or(0, String::len)
            + self.response_topic.as_ref().map_or(0, String::len)
            + self.correlation_data.as_ref().map_or(0, Vec::len)
    }
}

fn text(what: &str, text: &str) -> Result<MqttString, Error> {
    MqttString::new(text).map_err(|error| refused(what, error))
}

fn refused(what: &str, why: impl std::fmt::Display) -> Error {
    Error::Option(format!("the {what} cannot be sent: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_comes_in_again() {
        let properties = Properties::default()
            .user("unit", "celsius")
            .user("unit", "kelvin")
            .content_type("text/plain")
            .response_topic("a/b")
            .correlation_data([1, 2])
            .expiry(7);
        let mqtt = properties.to_mqtt(MEDIA_TYPE).unwrap();
        assert_eq!(Properties::of(&mqtt), Some(properties));
    }

    #[test]
    fn the_envelope_s_own_properties_are_none_of_the_application_s() {
        for envelope in [MEDIA_TYPE, MEDIA_TYPE_INLINE] {
            let mqtt = Properties::default().to_mqtt(envelope).unwrap();
            assert_eq!(mqtt.content_type.as_deref(), Some(envelope));
            assert_eq!(Properties::of(&mqtt), None);
        }
    }

    #[test]
    fn what_mqtt_cannot_carry_is_refused() {
        let long = "x".repeat(65_536);
        for properties in [
            Properties::default().user("a\0", ""),
            Properties::default().user("a", long.as_str()),
            Properties::default().content_type(long.as_str()),
            Properties::default().correlation_data(long.as_bytes()),
            Properties::default().response_topic("a/+"),
            Properties::default().response_topic(""),
        ] {
            assert!(properties.check().is_err(), "{properties:.80?}");
        }
    }
}
