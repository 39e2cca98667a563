//! PUBLISH.

use std::num::NonZeroU16;

use bytes::Bytes;
use smallvec::SmallVec;

use super::UserProperties;
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

/// The properties of PUBLISH. A server passes all of them on but the topic alias and the subscription identifiers,
/// user properties in their order (`[MQTT-3.3.2-17]`), and lessens the message expiry interval (`[MQTT-3.3.2-6]`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublishProperties {
    /// Whether the payload is UTF-8 text (property 1); false by default.
    pub payload_is_utf8: Option<bool>,
    /// Seconds that the message lives (property 2); for ever by default.
    pub message_expiry_interval: Option<u32>,
    /// A number that stands for the topic on this connection (property 35).
    pub topic_alias: Option<NonZeroU16>,
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
