//! What can be wrong with bytes that should be packets, and with packets that should become bytes.

use crate::text::TextError;
use crate::topic::TopicError;
use crate::{PacketType, PropertyId, ReasonCode};

/// Why bytes are not an MQTT packet. The stream can't be decoded any further: the connection must be closed,
/// on MQTT 5.0 with [`DecodeError::reason_code`] (`[MQTT-4.13.1-1]`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Packet type 0 (MQTT 5.0 §2.1.2).
    #[error("packet type 0 is reserved")]
    ReservedPacketType,
    /// The lower bits of the first byte are not what they must be (`[MQTT-2.1.3-1]`, `[MQTT-2.2.2-1]` of 3.1.1).
    #[error("{packet} has the reserved flags {flags:#06b}, expected {:#06b}", packet.flags())]
    ReservedFlags {
        /// The packet.
        packet: PacketType,
        /// The lower four bits.
        flags: u8,
    },
    /// The first packet of a client is not CONNECT (`[MQTT-3.1.0-1]`).
    #[error("the first packet is {packet}, it must be CONNECT")]
    ConnectExpected {
        /// The packet.
        packet: PacketType,
    },
    /// AUTH on an MQTT 3.1.1 connection.
    #[error("{packet} does not exist in MQTT 3.1.1")]
    NotInVersion {
        /// The packet.
        packet: PacketType,
    },
    /// A variable byte integer is longer than four bytes (MQTT 5.0 §1.5.5).
    #[error("a variable byte integer is longer than four bytes")]
    VariableIntegerTooLong,
    /// A variable byte integer has more bytes than it needs (`[MQTT-1.5.5-1]`).
    #[error("a variable byte integer is not encoded in as few bytes as possible")]
    VariableIntegerNotMinimal,
    /// The packet is larger than this side takes (`[MQTT-3.1.2-24]`, `[MQTT-3.2.2-15]`).
    #[error("the packet is {size} bytes long, at most {limit} are accepted")]
    PacketTooLarge {
        /// Size of the packet in bytes, fixed header included.
        size: u64,
        /// The most that is accepted.
        limit: u32,
    },
    /// The remaining length ends the packet inside a field.
    #[error("{packet} ends before or inside its {field}")]
    Truncated {
        /// The packet.
        packet: PacketType,
        /// What was being read.
        field: &'static str,
    },
    /// There are bytes after the last field.
    #[error("{packet} has {count} bytes after its last field")]
    TrailingBytes {
        /// The packet.
        packet: PacketType,
        /// How many.
        count: usize,
    },
    /// A string is not one (`[MQTT-1.5.4-1]`, `[MQTT-1.5.4-2]`).
    #[error("the {field} of {packet} is {error}")]
    Text {
        /// The packet.
        packet: PacketType,
        /// The field.
        field: &'static str,
        /// What is wrong.
        error: TextError,
    },
    /// A topic name or filter is not one (`[MQTT-3.3.2-2]`, `[MQTT-4.7.1-1]`, `[MQTT-4.7.3-1]`, `[MQTT-4.8.2-1]`).
    #[error("the {field} of {packet} is not valid: {error}")]
    Topic {
        /// The packet.
        packet: PacketType,
        /// The field.
        field: &'static str,
        /// What is wrong.
        error: TopicError,
    },
    /// A v5 PUBLISH has neither topic nor topic alias (`[MQTT-3.3.2-8]`).
    #[error("PUBLISH has neither a topic nor a topic alias")]
    NoTopic,
    /// The response topic contains a wildcard (`[MQTT-3.3.2-14]`).
    #[error("the response topic of {packet} is not valid: {error}")]
    ResponseTopic {
        /// The packet.
        packet: PacketType,
        /// What is wrong.
        error: TopicError,
    },
    /// The packet identifier is zero (`[MQTT-2.2.1-3]`, `[MQTT-2.2.1-4]`; `[MQTT-2.3.1-1]` of 3.1.1).
    #[error("{packet} has the packet identifier 0")]
    ZeroPacketId {
        /// The packet.
        packet: PacketType,
    },
    /// Both QoS bits of a PUBLISH or of a will are set (`[MQTT-3.3.1-4]`, `[MQTT-3.1.2-12]`).
    #[error("{packet} has QoS 3, which does not exist")]
    InvalidQoS {
        /// The packet.
        packet: PacketType,
    },
    /// A QoS 0 PUBLISH is marked as a repetition (`[MQTT-3.3.1-2]`).
    #[error("PUBLISH with QoS 0 has the DUP flag")]
    DupWithQoS0,
    /// Bits that must be zero are not (`[MQTT-3.1.2-3]`, `[MQTT-3.2.2-1]`, `[MQTT-3.8.3-5]`).
    #[error("the {field} of {packet} has reserved bits set: {value:#010b}")]
    ReservedBits {
        /// The packet.
        packet: PacketType,
        /// The field.
        field: &'static str,
        /// Its value.
        value: u8,
    },
    /// CONNECT has no will but a will QoS or will retain (`[MQTT-3.1.2-11]`, `[MQTT-3.1.2-13]`, `[MQTT-3.1.2-15]` of 3.1.1).
    #[error("CONNECT has a will QoS or will retain but no will")]
    WillFlagsWithoutWill,
    /// A 3.1.1 CONNECT has a password but no user name (`[MQTT-3.1.2-22]` of 3.1.1).
    #[error("CONNECT has a password but no user name, which MQTT 3.1.1 does not allow")]
    PasswordWithoutUserName,
    /// The protocol name is not "MQTT" (`[MQTT-3.1.2-1]`).
    #[error("the protocol name of CONNECT is not \"MQTT\"")]
    UnknownProtocolName,
    /// The protocol level is neither 4 nor 5 (`[MQTT-3.1.2-2]`).
    #[error("protocol level {level} is not supported, only 4 (MQTT 3.1.1) and 5 (MQTT 5.0) are")]
    UnsupportedProtocolLevel {
        /// The protocol level byte.
        level: u8,
    },
    /// No such property (MQTT 5.0 §2.2.2.2).
    #[error("{packet} has the unknown property {id}")]
    UnknownProperty {
        /// The packet.
        packet: PacketType,
        /// The property identifier.
        id: u32,
    },
    /// The property does not belong in this packet (MQTT 5.0 §2.2.2.2).
    #[error("{packet} has the property {property}, which does not belong there")]
    MisplacedProperty {
        /// The packet.
        packet: PacketType,
        /// The property.
        property: PropertyId,
    },
    /// A property is there twice (MQTT 5.0 §3.1.2.11 and the like).
    #[error("{packet} has the property {property} more than once")]
    DuplicateProperty {
        /// The packet.
        packet: PacketType,
        /// The property.
        property: PropertyId,
    },
    /// A property has a value that it must not have.
    #[error("the {property} of {packet} must not be {value}")]
    PropertyValue {
        /// The packet.
        packet: PacketType,
        /// The property.
        property: PropertyId,
        /// Its value.
        value: u32,
    },
    /// Authentication data, or an AUTH that is not empty, without an authentication method
    /// (MQTT 5.0 §3.1.2.11.10, §3.15.2.2.2).
    #[error("{packet} has no authentication method for its authentication")]
    NoAuthenticationMethod {
        /// The packet.
        packet: PacketType,
    },
    /// The reason code is unknown or does not belong in this packet (`[MQTT-3.4.2-1]` and the like).
    #[error("{packet} has the reason code {code:#04x}, which it can't have")]
    UnknownReasonCode {
        /// The packet.
        packet: PacketType,
        /// The code.
        code: u8,
    },
    /// Refused, but with session present (`[MQTT-3.2.2-6]`).
    #[error("CONNACK refuses the connection and says that there is a session")]
    SessionPresentWithError,
    /// SUBSCRIBE, SUBACK, UNSUBSCRIBE or UNSUBACK about nothing (`[MQTT-3.8.3-2]`, `[MQTT-3.10.3-2]`).
    #[error("{packet} names no subscription, it must name at least one")]
    NoSubscriptions {
        /// The packet.
        packet: PacketType,
    },
    /// A subscription option has a value that does not exist (MQTT 5.0 §3.8.3.1).
    #[error("SUBSCRIBE has the {field} 3, which does not exist")]
    SubscriptionOption {
        /// QoS or retain handling.
        field: &'static str,
    },
    /// A shared subscription with no local (`[MQTT-3.8.3-4]`).
    #[error("SUBSCRIBE asks for no local on a shared subscription")]
    NoLocalOnSharedSubscription,
}

impl DecodeError {
    /// The MQTT 5.0 reason code to close the connection with.
    pub fn reason_code(&self) -> ReasonCode {
        use DecodeError as E;
        match self {
            E::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            E::UnsupportedProtocolLevel { .. } | E::UnknownProtocolName => {
                ReasonCode::UnsupportedProtocolVersion
            }
            E::PropertyValue {
                property: PropertyId::TopicAlias,
                ..
            } => ReasonCode::TopicAliasInvalid,
            E::ConnectExpected { .. }
            | E::NotInVersion { .. }
            | E::NoTopic
            | E::ResponseTopic { .. }
            | E::DuplicateProperty { .. }
            | E::PropertyValue { .. }
            | E::NoAuthenticationMethod { .. }
            | E::UnknownReasonCode { .. }
            | E::SessionPresentWithError
            | E::NoSubscriptions { .. }
            | E::SubscriptionOption { .. }
            | E::NoLocalOnSharedSubscription => ReasonCode::ProtocolError,
            E::ReservedPacketType
            | E::ReservedFlags { .. }
            | E::VariableIntegerTooLong
            | E::VariableIntegerNotMinimal
            | E::Truncated { .. }
            | E::TrailingBytes { .. }
            | E::Text { .. }
            | E::Topic { .. }
            | E::ZeroPacketId { .. }
            | E::InvalidQoS { .. }
            | E::DupWithQoS0
            | E::ReservedBits { .. }
            | E::WillFlagsWithoutWill
            | E::PasswordWithoutUserName
            | E::UnknownProperty { .. }
            | E::MisplacedProperty { .. } => ReasonCode::MalformedPacket,
        }
    }
}

/// Why a packet can't be encoded: it holds what MQTT has no bytes for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// Binary data is longer than its two length bytes can say.
    #[error("the {field} is {length} bytes long, at most 65535 are possible")]
    FieldTooLong {
        /// The field.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// The packet is longer than four bytes of remaining length can say.
    #[error("the packet has {length} bytes, at most 268435455 are possible")]
    PacketTooLong {
        /// Its remaining length.
        length: usize,
    },
    /// A number is zero or above what its encoding holds.
    #[error("the {field} must not be {value}")]
    Value {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// A packet identifier with QoS 0 or none with QoS 1 or 2 (`[MQTT-2.2.1-2]`), or DUP with QoS 0.
    #[error(
        "PUBLISH needs a packet identifier with QoS 1 and 2, and neither it nor DUP with QoS 0"
    )]
    PublishIdentifier,
    /// The aliased topic without an alias, or on MQTT 3.1.1, or in a will.
    #[error("the topic is missing and no topic alias stands for it")]
    NoTopic,
    /// AUTH on an MQTT 3.1.1 connection.
    #[error("{packet} does not exist in MQTT 3.1.1")]
    NotInVersion {
        /// The packet.
        packet: PacketType,
    },
    /// An AUTH that is not empty, without an authentication method (MQTT 5.0 §3.15.2.2.2).
    #[error("AUTH has no authentication method")]
    NoAuthenticationMethod,
    /// CONNECT encoded for another version than the one that it asks for.
    #[error("CONNECT asks for another protocol version than it is encoded for")]
    VersionMismatch,
    /// SUBSCRIBE, SUBACK, UNSUBSCRIBE or UNSUBACK about nothing.
    #[error("{packet} names no subscription, it must name at least one")]
    NoSubscriptions {
        /// The packet.
        packet: PacketType,
    },
    /// A 3.1.1 CONNECT with a password and without a user name (`[MQTT-3.1.2-22]` of 3.1.1).
    #[error("MQTT 3.1.1 has no password without a user name")]
    PasswordWithoutUserName,
}
