//! What a peer can do wrong with well-formed packets.

use crate::{DecodeError, PacketId, PacketType, QoS, ReasonCode};

/// How the peer broke the protocol. The connection ends: on MQTT 5.0 with DISCONNECT (before the CONNACK: with
/// CONNACK) and [`Violation::reason_code`], on MQTT 3.1.1 by closing it (`[MQTT-4.8.0-1]` of 3.1.1, `[MQTT-4.13.1-1]`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Its bytes are not MQTT.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A packet that this side never sends, or not now.
    #[error("{packet} is not allowed here")]
    UnexpectedPacket {
        /// The packet.
        packet: PacketType,
    },
    /// A second CONNECT (`[MQTT-3.1.0-2]`).
    #[error("a second CONNECT on one connection")]
    SecondConnect,
    /// An acknowledgement of another kind than the packet with this identifier needs (`[MQTT-4.3.3-1]` and following).
    #[error("{packet} for packet identifier {packet_id}, which waits for another answer")]
    WrongAcknowledgement {
        /// The packet.
        packet: PacketType,
        /// The identifier.
        packet_id: PacketId,
    },
    /// More unacknowledged publications than allowed (`[MQTT-3.3.4-7]`, `[MQTT-3.3.4-9]`).
    #[error("more than {limit} publications without waiting for an acknowledgement")]
    ReceiveMaximumExceeded {
        /// The receive maximum.
        limit: u16,
    },
    /// A topic alias above the maximum (`[MQTT-3.3.2-9]`, `[MQTT-3.3.2-11]`).
    #[error("topic alias {alias} is above the maximum of {maximum}")]
    TopicAliasAboveMaximum {
        /// The alias.
        alias: u16,
        /// The topic alias maximum.
        maximum: u16,
    },
    /// A topic alias that stands for no topic yet (MQTT 5.0 §3.3.2.3.4).
    #[error("topic alias {alias} was used before it was given a topic")]
    UnknownTopicAlias {
        /// The alias.
        alias: u16,
    },
    /// A QoS above the server's maximum (`[MQTT-3.2.2-11]`).
    #[error("{qos} is above the maximum QoS")]
    QoSNotSupported {
        /// The QoS.
        qos: QoS,
    },
    /// A retained message where there are none (`[MQTT-3.2.2-14]`).
    #[error("a retained message, which is not supported")]
    RetainNotSupported,
    /// A client's PUBLISH with a subscription identifier (`[MQTT-3.3.4-6]`).
    #[error("PUBLISH of a client with a subscription identifier")]
    SubscriptionIdInPublish,
    /// A subscription identifier where there are none (MQTT 5.0 §3.2.2.3.12).
    #[error("a subscription identifier, which is not supported")]
    SubscriptionIdsNotSupported,
    /// A shared subscription where there are none (MQTT 5.0 §3.2.2.3.13).
    #[error("a shared subscription, which is not supported")]
    SharedSubscriptionsNotSupported,
    /// A wildcard where there are none (MQTT 5.0 §3.2.2.3.11).
    #[error("a wildcard subscription, which is not supported")]
    WildcardSubscriptionsNotSupported,
    /// DISCONNECT gives a session expiry to a session that was to end with its connection (MQTT 5.0 §3.14.2.2.2).
    #[error("DISCONNECT asks to keep a session that CONNECT asked to end with the connection")]
    SessionExpiryAfterZero,
    /// The server's DISCONNECT has a session expiry interval (`[MQTT-3.14.2-2]`).
    #[error("DISCONNECT of the server has a session expiry interval")]
    SessionExpiryFromServer,
    /// DISCONNECT with a reason that only the other side may give (MQTT 5.0 §3.14.2.1).
    #[error("DISCONNECT with the reason \"{reason}\", which only the other side may give")]
    ForeignDisconnectReason {
        /// The reason.
        reason: ReasonCode,
    },
    /// AUTH without an authentication method in CONNECT, or with another one (`[MQTT-4.12.0-5]`, `[MQTT-4.12.0-7]`).
    #[error("AUTH does not have the authentication method of CONNECT")]
    AuthenticationMethod,
    /// The server resumes a session although a new one was asked for, or none exists here (`[MQTT-3.2.2-4]`).
    #[error("the server says that it resumes a session that does not exist")]
    UnexpectedSession,
    /// An answer to a SUBSCRIBE or UNSUBSCRIBE that was not sent, or with another number of codes.
    #[error("{packet} does not fit any request that waits for it")]
    UnexpectedAnswer {
        /// The packet.
        packet: PacketType,
    },
}

impl Violation {
    /// The MQTT 5.0 reason code to end the connection with.
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            Violation::Malformed(error) => error.reason_code(),
            Violation::ReceiveMaximumExceeded { .. } => ReasonCode::ReceiveMaximumExceeded,
            Violation::TopicAliasAboveMaximum { .. } => ReasonCode::TopicAliasInvalid,
            Violation::QoSNotSupported { .. } => ReasonCode::QoSNotSupported,
            Violation::RetainNotSupported => ReasonCode::RetainNotSupported,
            Violation::SubscriptionIdsNotSupported => {
                ReasonCode::SubscriptionIdentifiersNotSupported
            }
            Violation::SharedSubscriptionsNotSupported => {
                ReasonCode::SharedSubscriptionsNotSupported
            }
            Violation::WildcardSubscriptionsNotSupported => {
                ReasonCode::WildcardSubscriptionsNotSupported
            }
            Violation::UnexpectedPacket { .. }
            | Violation::SecondConnect
            | Violation::WrongAcknowledgement { .. }
            | Violation::UnknownTopicAlias { .. }
            | Violation::SubscriptionIdInPublish
            | Violation::SessionExpiryAfterZero
            | Violation::SessionExpiryFromServer
            | Violation::ForeignDisconnectReason { .. }
            | Violation::AuthenticationMethod
            | Violation::UnexpectedSession
            | Violation::UnexpectedAnswer { .. } => ReasonCode::ProtocolError,
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The peer said DISCONNECT.
    Disconnected(crate::packet::Disconnect),
    /// This side ended it: `disconnect` or `reject` was called.
    Local(ReasonCode),
    /// The server refused the connection in its CONNACK.
    Refused(Box<crate::packet::ConnAck>),
    /// The peer broke the protocol.
    Violation(Violation),
    /// The peer was silent for too long: for one and a half keep-alives (`[MQTT-3.1.2-22]`), or after a PINGREQ.
    KeepAlive,
    /// The handshake took too long.
    HandshakeTimeout,
    /// The stream ended without DISCONNECT.
    EndOfStream,
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Closed::Disconnected(disconnect) => {
                write!(f, "the peer disconnected: {}", disconnect.reason)?;
                match &disconnect.properties.reason_string {
                    Some(text) => write!(f, ": {}", text.as_str().escape_debug()),
                    None => Ok(()),
                }
            }
            Closed::Local(reason) => write!(f, "disconnected: {reason}"),
            Closed::Refused(connack) => {
                write!(f, "the server refused the connection: {}", connack.reason)?;
                match &connack.properties.reason_string {
                    Some(text) => write!(f, ": {}", text.as_str().escape_debug()),
                    None => Ok(()),
                }
            }
            Closed::Violation(violation) => write!(f, "the peer broke the protocol: {violation}"),
            Closed::KeepAlive => f.write_str("the peer was silent for too long"),
            Closed::HandshakeTimeout => f.write_str("the handshake took too long"),
            Closed::EndOfStream => f.write_str("the stream ended without DISCONNECT"),
        }
    }
}

/// Why a message could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no connection, or no longer.
    #[error("the connection is not open")]
    NotOpen,
    /// So many messages are unacknowledged as the peer takes: send it again after an acknowledgement.
    #[error("the in-flight window is full, wait for an acknowledgement")]
    WindowFull,
    /// The packet is larger than the peer takes: it must not be sent (`[MQTT-3.1.2-24]`, `[MQTT-3.2.2-15]`), and a
    /// server acts as if it had been (`[MQTT-3.1.2-25]`).
    #[error("the packet is {size} bytes long, the peer takes at most {limit}")]
    PacketTooLarge {
        /// Length of the packet in bytes.
        size: usize,
        /// What the peer takes.
        limit: u32,
    },
    /// Its message expiry interval is over (`[MQTT-3.3.2-5]`).
    #[error("the message has expired")]
    Expired,
    /// The server does not take this QoS (`[MQTT-3.2.2-11]`).
    #[error("the server takes no more than {maximum}")]
    QoSNotSupported {
        /// The most that it takes.
        maximum: QoS,
    },
    /// The server does not take retained messages (`[MQTT-3.2.2-14]`).
    #[error("the server does not support retained messages")]
    RetainNotSupported,
    /// It can't be encoded.
    #[error(transparent)]
    Encode(#[from] crate::EncodeError),
}
