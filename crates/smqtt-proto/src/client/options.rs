//! How a client connects.

use std::time::Duration;

use crate::packet::{Connect, ConnectProperties};
use crate::{MqttString, ProtocolVersion};

/// What a client says in its CONNECT and how much it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The CONNECT. On MQTT 5.0 its receive maximum, maximum packet size and topic alias maximum are filled in from
    /// the fields below where they are `None`.
    pub connect: Connect,
    /// The largest packet in bytes that is accepted, fixed header included; 1 MiB by default.
    pub max_packet_size: u32,
    /// QoS 1 and 2 messages that the server may have unacknowledged; 1,024 by default, at least 1. A 5.0 server that
    /// exceeds it by more than `receive_tolerance` is disconnected, a 3.1.1 server has to wait.
    pub receive_maximum: u16,
    /// By how much a 5.0 server may exceed that before it is disconnected; 0 by default.
    pub receive_tolerance: u16,
    /// QoS 1 and 2 messages that are sent without waiting for acknowledgement, if the server's receive maximum is not
    /// less; 1,024 by default, at least 1.
    pub max_in_flight: u16,
    /// Topic aliases that the server may use; 32 by default.
    pub topic_alias_maximum: u16,
    /// Topic aliases that are used towards a server that takes as many; 32 by default.
    pub outgoing_topic_aliases: u16,
    /// How long the server may take to answer the CONNECT; 10 s by default.
    pub handshake_timeout: Duration,
    /// How long the server may be silent after a PINGREQ; 10 s by default.
    pub ping_timeout: Duration,
}

impl Options {
    /// A client of this name with a clean start, a keep-alive of 60 s, and defaults otherwise.
    pub fn new(version: ProtocolVersion, client_id: MqttString) -> Options {
        Options {
            connect: Connect {
                version,
                clean_start: true,
                keep_alive: 60,
                client_id,
                will: None,
                username: None,
                password: None,
                properties: ConnectProperties::default(),
            },
            max_packet_size: 1024 * 1024,
            receive_maximum: 1024,
            receive_tolerance: 0,
            max_in_flight: 1024,
            topic_alias_maximum: 32,
            outgoing_topic_aliases: 32,
            handshake_timeout: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(10),
        }
    }
}
