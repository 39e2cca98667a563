//! PUBACK, PUBREC, PUBREL and PUBCOMP, which have one shape.

use super::UserProperties;
use crate::{MqttString, PacketId, ReasonCode};

/// The content of PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5.0 §3.4 to §3.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// The identifier of the PUBLISH that this is about (`[MQTT-2.2.1-5]`).
    pub packet_id: PacketId,
    /// How it went; MQTT 3.1.1 can only say [`ReasonCode::Success`].
    pub reason: ReasonCode,
    /// MQTT 5.0 properties.
    pub properties: AckProperties,
}

impl Ack {
    /// An acknowledgement without properties.
    pub fn new(packet_id: PacketId, reason: ReasonCode) -> Ack {
        Ack {
            packet_id,
            reason,
            properties: AckProperties::default(),
        }
    }
}

/// The properties of PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AckProperties {
    /// For people to read (property 31).
    pub reason_string: Option<MqttString>,
    /// User properties (property 38).
    pub user_properties: UserProperties,
}
