//! DISCONNECT.

use super::UserProperties;
use crate::{MqttString, ReasonCode};

/// DISCONNECT, the last packet of either side (MQTT 5.0 §3.14); with MQTT 3.1.1 only clients send it, and it is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Why.
    pub reason: ReasonCode,
    /// MQTT 5.0 properties.
    pub properties: DisconnectProperties,
}

impl Disconnect {
    /// A disconnection without properties.
    pub fn new(reason: ReasonCode) -> Disconnect {
        Disconnect {
            reason,
            properties: DisconnectProperties::default(),
        }
    }
}

/// The properties of DISCONNECT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DisconnectProperties {
    /// The client's last word about the session expiry interval in seconds (property 17).
    pub session_expiry_interval: Option<u32>,
    /// For people to read (property 31).
    pub reason_string: Option<MqttString>,
    /// User properties (property 38).
    pub user_properties: UserProperties,
    /// Another server to use (property 28).
    pub server_reference: Option<MqttString>,
}
