//! CONNECT.

use std::fmt;

use bytes::Bytes;

use super::UserProperties;
use crate::{MqttString, ProtocolVersion, QoS, TopicName};

/// CONNECT, the first packet of a client (MQTT 5.0 §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The version that the connection will speak.
    pub version: ProtocolVersion,
    /// Whether to begin with a new session (`[MQTT-3.1.2-4]`); MQTT 3.1.1 calls it clean session, and there the
    /// session also ends with the connection.
    pub clean_start: bool,
    /// The longest time in seconds between two packets of the client; 0 turns keep-alive off.
    pub keep_alive: u16,
    /// Who connects; empty to have the server choose.
    pub client_id: MqttString,
    /// What the server publishes when the connection ends without a normal DISCONNECT.
    pub will: Option<Will>,
    /// User name.
    pub username: Option<MqttString>,
    /// Password, at most 65,535 bytes.
    pub password: Option<Credential>,
    /// MQTT 5.0 properties.
    pub properties: ConnectProperties,
}

/// The properties of CONNECT. `None` means that the property is absent and its default holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectProperties {
    /// Seconds that the session outlives its connection (property 17); 0 by default, `u32::MAX` for ever.
    pub session_expiry_interval: Option<u32>,
    /// Unacknowledged QoS 1 and 2 publications that the client takes at a time (property 33); 65,535 by default, never 0.
    pub receive_maximum: Option<u16>,
    /// The largest packet in bytes that the client takes (property 39); unlimited by default, never 0.
    pub maximum_packet_size: Option<u32>,
    /// The highest topic alias that the client takes (property 34); 0 by default.
    pub topic_alias_maximum: Option<u16>,
    /// Whether the server may send response information (property 25); false by default.
    pub request_response_information: Option<bool>,
    /// Whether the server may send reason strings and user properties with failures (property 23); true by default.
    pub request_problem_information: Option<bool>,
    /// User properties (property 38).
    pub user_properties: UserProperties,
    /// The method of authentication (property 21).
    pub authentication_method: Option<MqttString>,
    /// What the method defines (property 22).
    pub authentication_data: Option<Credential>,
}

/// A will: the message that the server publishes for a client that is gone (MQTT 5.0 §3.1.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// Where to publish it.
    pub topic: TopicName,
    /// Its payload, at most 65,535 bytes.
    pub payload: Bytes,
    /// Its QoS.
    pub qos: QoS,
    /// Whether to retain it.
    pub retain: bool,
    /// MQTT 5.0 properties.
    pub properties: WillProperties,
}

/// The properties of a will.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WillProperties {
    /// Seconds to wait before publishing it (property 24); 0 by default.
    pub will_delay_interval: Option<u32>,
    /// Whether the payload is UTF-8 text (property 1); false by default.
    pub payload_is_utf8: Option<bool>,
    /// Seconds that the message lives (property 2).
    pub message_expiry_interval: Option<u32>,
    /// The type of the payload (property 3).
    pub content_type: Option<MqttString>,
    /// Where a response goes (property 8).
    pub response_topic: Option<TopicName>,
    /// What a response repeats (property 9), at most 65,535 bytes.
    pub correlation_data: Option<Bytes>,
    /// User properties (property 38).
    pub user_properties: UserProperties,
}

/// A password or authentication data: shown by no `Debug` or `Display`.
///
/// `==` exists for tests and takes a time that depends on the content; compare credentials in constant time.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(Bytes);

impl Credential {
    /// Wraps it.
    pub fn new(value: impl Into<Bytes>) -> Credential {
        Credential(value.into())
    }

    /// The secret bytes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(..)")
    }
}
