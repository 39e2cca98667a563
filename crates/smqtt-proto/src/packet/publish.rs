//! PUBLISH.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use smallvec::SmallVec;

use super::{UserProperties, Will};
use crate::{MqttString, PacketId, QoS, TopicName};

/// Subscription identifiers, 1 to 268,435,455 each.
pub type SubscriptionIds = SmallVec<[u32; 4]>;

/// PUBLISH, a message (MQTT 5.0 §3.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Whether it may have been sent before; never with QoS 0 (`[MQTT-3.3.1-2]`).
    pub dup: bool,
    /// Its delivery guarantee.
    pub qos: QoS,
    /// Towards the server: retain it. Towards the client: it was retained.
    pub retain: bool,
    /// Its topic, [`TopicName::ALIASED`] if said by the topic alias alone.
    pub topic: TopicName,
    /// Its identifier: with QoS 1 and 2, and only then (`[MQTT-2.2.1-2]`).
    pub packet_id: Option<PacketId>,
    /// MQTT 5.0 properties.
    pub properties: PublishProperties,
    /// What it says.
    pub payload: Bytes,
}

impl Publish {
    /// A QoS 0 message without properties.
    pub fn new(topic: TopicName, payload: impl Into<Bytes>) -> Publish {
        Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: None,
            properties: PublishProperties::default(),
            payload: payload.into(),
        }
    }
}

/// What a will becomes when it is due: how long it waits until then is not part of the message.
impl From<Will> for Publish {
    fn from(will: Will) -> Publish {
        let properties = will.properties;
        Publish {
            dup: false,
            qos: will.qos,
            retain: will.retain,
            topic: will.topic,
            packet_id: None,
            properties: PublishProperties::from(MessageProperties {
                payload_is_utf8: properties.payload_is_utf8,
                message_expiry_interval: properties.message_expiry_interval,
                content_type: properties.content_type,
                response_topic: properties.response_topic,
                correlation_data: properties.correlation_data,
                user_properties: properties.user_properties,
                ..MessageProperties::default()
            }),
            payload: will.payload,
        }
    }
}

/// The properties of PUBLISH: the topic alias, which belongs to the connection, and those that belong to the message.
///
/// Most messages have none of the latter. They are on the heap and only if there are any, so that a [`Publish`] stays
/// small; reading them (`publish.properties.content_type`) needs no look at whether there are any, and writing one makes
/// the place for them.
#[derive(Clone, Default)]
pub struct PublishProperties {
    /// A number that stands for the topic on this connection (property 35).
    pub topic_alias: Option<NonZeroU16>,
    message: Option<Box<MessageProperties>>,
}

impl PublishProperties {
    /// The properties of the message, by value.
    pub fn into_message(self) -> MessageProperties {
        self.message
            .map_or_else(MessageProperties::default, |message| *message)
    }
}

impl Deref for PublishProperties {
    type Target = MessageProperties;

    fn deref(&self) -> &MessageProperties {
        static NONE: MessageProperties = MessageProperties::NONE;
        self.message.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for PublishProperties {
    fn deref_mut(&mut self) -> &mut MessageProperties {
        self.message.get_or_insert_default()
    }
}

impl From<MessageProperties> for PublishProperties {
    fn from(message: MessageProperties) -> PublishProperties {
        let message = (message != MessageProperties::NONE).then(|| Box::new(message));
        PublishProperties {
            topic_alias: None,
            message,
        }
    }
}

impl PartialEq for PublishProperties {
    fn eq(&self, other: &PublishProperties) -> bool {
        self.topic_alias == other.topic_alias && **self == **other
    }
}

impl Eq for PublishProperties {}

impl fmt::Debug for PublishProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublishProperties")
            .field("topic_alias", &self.topic_alias)
            .field("message", &**self)
            .finish()
    }
}

/// The properties of PUBLISH that belong to the message. A server passes all of them on but the subscription
/// identifiers, user properties in their order (`[MQTT-3.3.2-17]`), and lessens the message expiry interval
/// (`[MQTT-3.3.2-6]`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageProperties {
    /// Whether the payload is UTF-8 text (property 1); false by default.
    pub payload_is_utf8: Option<bool>,
    /// Seconds that the message lives (property 2); for ever by default.
    pub message_expiry_interval: Option<u32>,
    /// Where a response goes (property 8).
    pub response_topic: Option<TopicName>,
    /// What a response repeats (property 9), at most 65,535 bytes.
    pub correlation_data: Option<Bytes>,
    /// User properties (property 38).
    pub user_properties: UserProperties,
    /// The subscriptions that selected it (property 11), set by servers only (`[MQTT-3.3.4-6]`).
    pub subscription_ids: SubscriptionIds,
    /// The type of the payload (property 3).
    pub content_type: Option<MqttString>,
}

impl MessageProperties {
    /// No property at all.
    pub const NONE: MessageProperties = MessageProperties {
        payload_is_utf8: None,
        message_expiry_interval: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
        subscription_ids: SmallVec::new_const(),
        content_type: None,
    };
}
