//! What is in force now: everything that a reload replaces, as one whole that never changes.
//!
//! Each worker holds an `Arc` of its own and gets the next one by mail, so that looking at a limit or
//! a rule on the way of a message costs nothing. Others ask [`Shared::current`](crate::shared::Shared).

use std::sync::Arc;
use std::time::Duration;

use smqtt_pki::{Revocations, TrustAnchor};
use smqtt_proto::{QoS, server};

use crate::access::Access;
use crate::config::{Config, Listener};
use crate::websocket::WebRules;
use crate::{Error, tls};

/// One configuration, with all that was read from the files that it names.
#[derive(Debug)]
pub(crate) struct Current {
    /// Valid, and true also of what cannot change while the broker runs.
    pub(crate) config: Config,
    /// In the order of `config.listeners`; [`ListenerState::index`](crate::shared::ListenerState)
    /// is the place of a listener's.
    pub(crate) listeners: Vec<ListenerRules>,
    /// Bytes that may be kept for clients.
    pub(crate) memory: u64,
    /// Who may do what.
    pub(crate) access: Access,
}

/// What one listener demands of its clients.
pub(crate) struct ListenerRules {
    pub(crate) allow_anonymous: bool,
    /// What the protocol allows clients that connect from now on.
    pub(crate) protocol: Arc<server::Config>,
    /// For `mqtts` and `wss`.
    pub(crate) tls: Option<ListenerTls>,
    /// For `ws` and `wss`.
    pub(crate) web: Option<Arc<WebRules>>,
}

impl ListenerRules {
    /// Those of `listener`, with `tls` prepared.
    pub(crate) fn new(config: &Config, listener: &Listener, tls: Option<ListenerTls>) -> Self {
        let web = listener.url.scheme().is_websocket().then(|| WebRules {
            path: listener.url.path().map(str::to_owned),
            origins: listener.ws_origins.clone(),
        });
        ListenerRules {
            allow_anonymous: listener.allow_anonymous,
            protocol: Arc::new(protocol_config(config, listener)),
            tls,
            web: web.map(Arc::new),
        }
    }
}

/// TLS of one listener.
pub(crate) struct ListenerTls {
    pub(crate) config: Arc<rustls::ServerConfig>,
    /// What device certificates are verified against.
    pub(crate) anchor: Option<Arc<TrustAnchor>>,
    /// Those that the anchor's authority has taken back.
    pub(crate) revocations: Option<Arc<Revocations>>,
}

impl Current {
    /// Reads every file that the configuration names.
    ///
    /// # Errors
    /// [`Error`] when the configuration does not validate, or a file is missing, unreadable or wrong.
    pub(crate) fn load(config: Config) -> Result<Self, Error> {
        config.validate()?;
        Ok(Current {
            memory: crate::memory::budget(config.limits.memory_bytes),
            listeners: tls::prepare(&config)?,
            access: Access::load(&config)?,
            config,
        })
    }
}

impl Current {
    /// The revocation lists, if there are any.
    pub(crate) fn revocations(&self) -> Option<&Revocations> {
        let mut lists = self
            .listeners
            .iter()
            .filter_map(|rules| rules.tls.as_ref()?.revocations.as_deref());
        lists.next()
    }

    /// Checks that this may follow on `before`: a revocation list that is older than the one in force
    /// would let revoked clients in again.
    ///
    /// # Errors
    /// [`Error::TlsFiles`].
    pub(crate) fn check_follows(&self, before: &Current) -> Result<(), Error> {
        let pairs = self.listeners.iter().zip(&before.listeners);
        for (next, before) in pairs.filter_map(|(a, b)| Some((a.tls.as_ref()?, b.tls.as_ref()?))) {
            let (Some(anchor), Some(anchor_before)) = (&next.anchor, &before.anchor) else {
                continue;
            };
            let (Some(lists), Some(lists_before)) = (&next.revocations, &before.revocations) else {
                continue;
            };
            if anchor.is_same_authority(anchor_before)
                && let Some((number, number_before)) = lists.older_than(lists_before)
            {
                return Err(Error::TlsFiles(format!(
                    "{}: its number {number} is older than {number_before}, which is in force: give the authority's newest",
                    self.config.tls.crl.clone().unwrap_or_default().display(),
                )));
            }
        }
        Ok(())
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

fn protocol_config(config: &Config, listener: &Listener) -> server::Config {
    let max_packet_bytes = listener
        .max_packet_bytes
        .unwrap_or(config.limits.max_packet_bytes);
    server::Config {
        max_packet_size: u32::try_from(max_packet_bytes).unwrap_or(u32::MAX),
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
