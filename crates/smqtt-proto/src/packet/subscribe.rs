//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK.

use super::{AckProperties, UserProperties};
use crate::{PacketId, QoS, ReasonCode, TopicFilter};

/// SUBSCRIBE (MQTT 5.0 §3.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Its identifier.
    pub packet_id: PacketId,
    /// MQTT 5.0 properties.
    pub properties: SubscribeProperties,
    /// At least one (`[MQTT-3.8.3-2]`).
    pub subscriptions: Vec<Subscription>,
}

/// The properties of SUBSCRIBE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscribeProperties {
    /// The identifier of these subscriptions (property 11), 1 to 268,435,455.
    pub subscription_id: Option<u32>,
    /// User properties (property 38).
    pub user_properties: UserProperties,
}

/// One subscription of a SUBSCRIBE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// What to select.
    pub filter: TopicFilter,
    /// How to deliver it.
    pub options: SubscriptionOptions,
}

/// Subscription options (MQTT 5.0 §3.8.3.1); MQTT 3.1.1 has the QoS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SubscriptionOptions {
    /// The highest QoS to deliver with.
    pub qos: QoS,
    /// Not what this client itself published; never with shared subscriptions (`[MQTT-3.8.3-4]`).
    pub no_local: bool,
    /// Keep the retain flag as it was published.
    pub retain_as_published: bool,
    /// When to send retained messages.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// Options with this QoS and defaults.
    pub fn new(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions {
            qos,
            ..SubscriptionOptions::default()
        }
    }
}

/// When a subscription gets retained messages (MQTT 5.0 §3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum RetainHandling {
    /// At every SUBSCRIBE.
    #[default]
    Send = 0,
    /// Only if the subscription is new.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

impl RetainHandling {
    /// The one with this number, or `None` for 3 and above.
    pub fn from_u8(value: u8) -> Option<RetainHandling> {
        match value {
            0 => Some(RetainHandling::Send),
            1 => Some(RetainHandling::SendIfNew),
            2 => Some(RetainHandling::DoNotSend),
            _ => None,
        }
    }
}

/// SUBACK (MQTT 5.0 §3.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck {
    /// The identifier of the SUBSCRIBE (`[MQTT-2.2.1-6]`).
    pub packet_id: PacketId,
    /// MQTT 5.0 properties.
    pub properties: AckProperties,
    /// One for each subscription, in its order (`[MQTT-3.9.3-1]`). MQTT 3.1.1 says every failure as 0x80.
    pub reasons: Vec<ReasonCode>,
}

/// UNSUBSCRIBE (MQTT 5.0 §3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// Its identifier.
    pub packet_id: PacketId,
    /// MQTT 5.0 properties.
    pub properties: UnsubscribeProperties,
    /// At least one (`[MQTT-3.10.3-2]`).
    pub filters: Vec<TopicFilter>,
}

/// The properties of UNSUBSCRIBE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnsubscribeProperties {
    /// User properties (property 38).
    pub user_properties: UserProperties,
}

/// UNSUBACK (MQTT 5.0 §3.11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubAck {
    /// The identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// MQTT 5.0 properties.
    pub properties: AckProperties,
    /// One for each filter, in its order (`[MQTT-3.11.3-1]`); empty in MQTT 3.1.1.
    pub reasons: Vec<ReasonCode>,
}
