//! How to connect.

use std::sync::Arc;
use std::time::Duration;

use smqtt_pki::Identity;
use smqtt_proto::ProtocolVersion;

use crate::{Backoff, BrokerAddress, Error};

/// How long each step of connecting may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution and TCP. Default: 10 s.
    pub connect: Duration,
    /// The TLS handshake. Default: 10 s.
    pub tls: Duration,
    /// CONNECT until CONNACK. Default: 10 s.
    pub mqtt: Duration,
    /// DISCONNECT until the socket is closed, in-flight messages included. Default: 10 s.
    pub close: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self {
            connect: ten,
            tls: ten,
            mqtt: ten,
            close: ten,
        }
    }
}

/// How a [`Client`](crate::Client) connects, and what it does when the connection is lost.
///
/// Made from an [`Identity`], which knows its broker; everything has a default.
///
/// ```no_run
/// use smqtt_client::{Identity, Options, ProtocolVersion};
///
/// let options = Options::new(Identity::load("keys/sensor-17".as_ref())?)?
///     .broker("mqtts://192.0.2.7:8883".parse()?)
///     .protocol(ProtocolVersion::V3_1_1);
/// # Ok::<(), smqtt_client::Error>(())
/// ```
#[derive(Clone)]
pub struct Options {
    pub(crate) identity: Arc<Identity>,
    pub(crate) broker: Option<BrokerAddress>,
    pub(crate) protocol: ProtocolVersion,
    pub(crate) client_id: Option<String>,
    pub(crate) user_name: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) allow_plain_transport: bool,
    pub(crate) keep_alive: Duration,
    pub(crate) timeouts: Timeouts,
    pub(crate) reconnect: Option<Backoff>,
    pub(crate) max_in_flight: u16,
    pub(crate) max_packet: u32,
    #[cfg(feature = "queue")]
    pub(crate) queue: Option<crate::Queue>,
    #[cfg(feature = "session")]
    pub(crate) session: Option<crate::KeptSession>,
}

/// The most QoS 1 and 2 messages in flight when nothing else is said.
const DEFAULT_IN_FLIGHT: u16 = 1_024;
/// The largest packet that is accepted from the broker when nothing else is said, in bytes.
const DEFAULT_MAX_PACKET: u32 = 16 * 1024 * 1024;
/// The keep-alive interval when nothing else is said.
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(60);

impl Options {
    /// Options for this identity, with the broker that its directory names.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] if the identity names a broker by something that is not an MQTT address.
    pub fn new(identity: impl Into<Arc<Identity>>) -> Result<Self, Error> {
        let identity = identity.into();
        let broker = identity
            .broker()
            .map(str::parse::<BrokerAddress>)
            .transpose()?;
        Ok(Self {
            identity,
            broker,
            protocol: ProtocolVersion::V5,
            client_id: None,
            user_name: None,
            password: None,
            allow_plain_transport: false,
            keep_alive: DEFAULT_KEEP_ALIVE,
            timeouts: Timeouts::default(),
            reconnect: Some(Backoff::default()),
            max_in_flight: DEFAULT_IN_FLIGHT,
            max_packet: DEFAULT_MAX_PACKET,
            #[cfg(feature = "queue")]
            queue: None,
            #[cfg(feature = "session")]
            session: None,
        })
    }

    /// Connects to this broker instead of the one that the identity names.
    #[must_use]
    pub fn broker(mut self, broker: BrokerAddress) -> Self {
        self.broker = Some(broker);
        self
    }

    /// The MQTT version. Default: 5.
    #[must_use]
    pub fn protocol(mut self, protocol: ProtocolVersion) -> Self {
        self.protocol = protocol;
        self
    }

    /// The MQTT client identifier. Default: the device id, a dash and eight random hex digits, so
    /// that two programs of one device do not take each other's session over.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// User name and password for brokers that want them. Over plain transport they are readable on
    /// the way.
    #[must_use]
    pub fn credentials(mut self, user_name: impl Into<String>, password: Option<Vec<u8>>) -> Self {
        self.user_name = Some(user_name.into());
        self.password = password;
        self
    }

    /// Allows `mqtt://` to a host other than this machine. Payloads are sealed all the same, but
    /// topics, policies and credentials are readable on the way, and nobody checks who the broker is.
    /// Default: no.
    #[must_use]
    pub fn allow_plain_transport(mut self, allow: bool) -> Self {
        self.allow_plain_transport = allow;
        self
    }

    /// The MQTT keep-alive, in whole seconds; zero switches it off. Default: 60 s.
    #[must_use]
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        self.keep_alive = interval;
        self
    }

    /// How long each step of connecting may take.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How to come back after a connection is lost; `None`: not at all. The first connection is never
    /// retried. Default: [`Backoff::default`].
    #[must_use]
    pub fn reconnect(mut self, backoff: Option<Backoff>) -> Self {
        self.reconnect = backoff;
        self
    }

    /// The most QoS 1 and 2 messages that may be unacknowledged at a time; what the broker's receive
    /// maximum allows bounds it further. At least 1. Default: 1,024.
    #[must_use]
    pub fn max_in_flight(mut self, messages: u16) -> Self {
        self.max_in_flight = messages.max(1);
        self
    }

    /// The largest packet to accept from the broker, in bytes. Default: 16 MiB.
    #[must_use]
    pub fn max_packet(mut self, bytes: u32) -> Self {
        self.max_packet = bytes;
        self
    }

    /// Keeps what is published until the broker has acknowledged it. Needs a way to [come back](Options::reconnect). Default: no.
    #[cfg(feature = "queue")]
    #[must_use]
    pub fn queue(mut self, queue: crate::Queue) -> Self {
        self.queue = Some(queue);
        self
    }

    /// Lets the session at the broker, and what is needed to go on with it, outlive the program. Default: no.
    #[cfg(feature = "session")]
    #[must_use]
    pub fn keep_session(mut self, session: crate::KeptSession) -> Self {
        self.session = Some(session);
        self
    }

    /// Whether the session at the broker is to outlive the program.
    pub(crate) fn keeps_session(&self) -> bool {
        #[cfg(feature = "session")]
        let kept = self.session.is_some();
        #[cfg(not(feature = "session"))]
        let kept = false;
        kept
    }

    /// The broker to connect to, after the checks that need no network.
    pub(crate) fn checked_broker(&self) -> Result<&BrokerAddress, Error> {
        let broker = self.broker.as_ref().ok_or_else(|| {
            Error::Option("the identity names no broker: give the broker's address".to_owned())
        })?;
        if !broker.is_tls() && !broker.is_loopback() && !self.allow_plain_transport {
            return Err(Error::InsecureTransport(broker.clone()));
        }
        Ok(broker)
    }
}
