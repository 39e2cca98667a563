//! CONNACK.

use super::{Credential, UserProperties};
use crate::{MqttString, QoS, ReasonCode};

/// CONNACK, the server's answer to CONNECT (MQTT 5.0 §3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnAck {
    /// Whether the server resumes a session that it has (`[MQTT-3.2.2-2]`, `[MQTT-3.2.2-3]`).
    pub session_present: bool,
    /// Whether and why not the connection is accepted. Encoded for MQTT 3.1.1 as
    /// [`ReasonCode::connect_return_code`].
    pub reason: ReasonCode,
    /// MQTT 5.0 properties.
    pub properties: ConnAckProperties,
}

/// The properties of CONNACK. `None` means that the property is absent and its default holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnAckProperties {
    /// Seconds that the session outlives its connection, if other than what CONNECT asked for (property 17).
    pub session_expiry_interval: Option<u32>,
    /// Unacknowledged QoS 1 and 2 publications that the server takes at a time (property 33); 65,535 by default, never 0.
    pub receive_maximum: Option<u16>,
    /// The highest QoS that the server takes (property 36); QoS 2 by default, which is never sent.
    pub maximum_qos: Option<QoS>,
    /// Whether retained messages are supported (property 37); true by default.
    pub retain_available: Option<bool>,
    /// The largest packet in bytes that the server takes (property 39); unlimited by default, never 0.
    pub maximum_packet_size: Option<u32>,
    /// The client identifier that the server chose for a client that gave none (property 18).
    pub assigned_client_identifier: Option<MqttString>,
    /// The highest topic alias that the server takes (property 34); 0 by default.
    pub topic_alias_maximum: Option<u16>,
    /// For people to read (property 31).
    pub reason_string: Option<MqttString>,
    /// User properties (property 38).
    pub user_properties: UserProperties,
    /// Whether wildcard subscriptions are supported (property 40); true by default.
    pub wildcard_subscription_available: Option<bool>,
    /// Whether subscription identifiers are supported (property 41); true by default.
    pub subscription_identifiers_available: Option<bool>,
    /// Whether shared subscriptions are supported (property 42); true by default.
    pub shared_subscription_available: Option<bool>,
    /// The keep-alive in seconds that the client must use in place of its own (property 19).
    pub server_keep_alive: Option<u16>,
    /// What to build response topics from (property 26).
    pub response_information: Option<MqttString>,
    /// Another server to use (property 28).
    pub server_reference: Option<MqttString>,
    /// The method of authentication (property 21).
    pub authentication_method: Option<MqttString>,
    /// What the method defines (property 22).
    pub authentication_data: Option<Credential>,
}
