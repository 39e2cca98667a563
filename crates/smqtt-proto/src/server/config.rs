//! What a server allows its clients.

use std::time::Duration;

use crate::QoS;

/// Limits and abilities of a server. A changed configuration applies to new connections only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The largest packet in bytes that is accepted, fixed header included; 1 MiB by default.
    pub max_packet_size: u32,
    /// QoS 1 and 2 publications that a client may have unacknowledged; 1,024 by default, at least 1. A 5.0 client
    /// that exceeds it is disconnected, a 3.1.1 client has to wait.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages that are sent to a client without waiting for acknowledgement, if its own receive
    /// maximum is not less; 1,024 by default, at least 1.
    pub max_in_flight: u16,
    /// Topic aliases that a client may use; 32 by default.
    pub topic_alias_maximum: u16,
    /// Topic aliases that are used towards a client that takes as many; 32 by default.
    pub outgoing_topic_aliases: u16,
    /// The highest QoS that is accepted; QoS 2 by default.
    pub maximum_qos: QoS,
    /// Whether retained messages are accepted; true by default.
    pub retain_available: bool,
    /// Whether wildcard subscriptions are accepted; true by default.
    pub wildcard_subscriptions: bool,
    /// Whether subscription identifiers are accepted; true by default.
    pub subscription_identifiers: bool,
    /// Whether shared subscriptions are accepted; true by default.
    pub shared_subscriptions: bool,
    /// How long a client may take from its first byte to the end of the handshake; 10 s by default.
    pub handshake_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            max_packet_size: 1024 * 1024,
            receive_maximum: 1024,
            max_in_flight: 1024,
            topic_alias_maximum: 32,
            outgoing_topic_aliases: 32,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_subscriptions: true,
            subscription_identifiers: true,
            shared_subscriptions: true,
            handshake_timeout: Duration::from_secs(10),
        }
    }
}
