//! What is in force now: everything that a reload replaces, as one whole that never changes.
//!
//! Each worker holds an `Arc` of its own and gets the next one by mail, so that looking at a limit or
//! a rule on the way of a message costs nothing. Others ask [`Shared::current`](crate::shared::Shared).

use std::sync::Arc;
use std::time::Duration;

use smqtt_pki::TrustAnchor;
use smqtt_proto::{QoS, server};

use crate::access::Access;
use crate::config::Config;
use crate::{Error, tls};

/// One configuration, with all that was read from the files that it names.
#[derive(Debug)]
pub(crate) struct Current {
    /// Valid, and true also of what cannot change while the broker runs.
    pub(crate) config: Config,
    /// What the protocol allows clients that connect from now on, from `config`.
    pub(crate) protocol: Arc<server::Config>,
    /// In the order of `config.listeners`; [`ListenerState::index`](crate::shared::ListenerState)
    /// is the place of a listener's.
    pub(crate) listeners: Vec<ListenerRules>,
    /// Who may do what.
    pub(crate) access: Access,
}

/// What one listener demands of its clients.
pub(crate) struct ListenerRules {
    pub(crate) allow_anonymous: bool,
    /// For `mqtts`.
    pub(crate) tls: Option<ListenerTls>,
}

/// TLS of one listener.
pub(crate) struct ListenerTls {
    pub(crate) config: Arc<rustls::ServerConfig>,
    /// What device certificates are verified against.
    pub(crate) anchor: Option<Arc<TrustAnchor>>,
}

impl Current {
    /// Reads every file that the configuration names.
    ///
    /// # Errors
    /// [`Error`] when the configuration does not validate, or a file is missing, unreadable or wrong.
    pub(crate) fn load(config: Config) -> Result<Self, Error> {
        config.validate()?;
        Ok(Current {
            protocol: Arc::new(protocol_config(&config)),
            listeners: tls::prepare(&config)?,
            access: Access::load(&config)?,
            config,
        })
    }
}

impl std::fmt::Debug for ListenerRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListenerRules")
            .field("allow_anonymous", &self.allow_anonymous)
            .field("tls", &self.tls.is_some())
            .finish()
    }
}

fn protocol_config(config: &Config) -> server::Config {
    server::Config {
        max_packet_size: u32::try_from(config.limits.max_packet_bytes).unwrap_or(u32::MAX),
        receive_maximum: config.session.receive_maximum,
        max_in_flight: config.session.max_in_flight,
        topic_alias_maximum: config.session.topic_alias_maximum,
        outgoing_topic_aliases: config.session.topic_alias_maximum,
        maximum_qos: QoS::ExactlyOnce,
        retain_available: true,
        wildcard_subscriptions: true,
        subscription_identifiers: true,
        shared_subscriptions: config.protocol.shared_subscriptions,
        handshake_timeout: Duration::from_secs(config.limits.connect_timeout_seconds),
    }
}
