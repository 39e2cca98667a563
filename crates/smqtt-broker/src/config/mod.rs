//! The broker's configuration: defaults, then the TOML file, then `SMQTT_BROKER_*` variables, then
//! flags, each overriding the one before. `smqtt-broker.example.toml` beside this crate lists every
//! key with its default, and a test holds the two equal.

mod admin;
mod cli;
mod file;
mod fixed;
mod listen;
mod listener;
mod protocol;
mod rules;

pub use admin::{Admin, Metrics, Shutdown};
pub use cli::Cli;
pub use listen::{ListenUrl, Scheme};
pub use listener::{ClientCertificate, Listener, MqttVersion, ProxySource, TlsVersion, UnixMode};
pub use protocol::Protocol;
pub use rules::{AccessRules, Authority, ClientIdRule, Sealed, SealedMode};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Error;

/// Everything the broker can be told. `Config::default()` has no listener, so it validates only
/// once one was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Worker threads; 0 means one per core that this process may use. At most 64.
    pub workers: usize,
    /// Where the broker keeps its state; made with mode 0700 when missing. Without one nothing is
    /// written to disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Where to listen, `[[listener]]` in the file.
    #[serde(rename = "listener", skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Listener>,
    /// Certificate files shared by all `mqtts` and `wss` listeners.
    pub tls: Tls,
    /// What all TCP listeners have in common.
    pub tcp: Tcp,
    /// What is logged, and how.
    pub log: Log,
    /// Bounds on connections and packets.
    pub limits: Limits,
    /// Bounds on sessions and their queues.
    pub session: SessionLimits,
    /// Bounds on the retained store.
    pub retained: RetainedLimits,
    /// What survives a crash.
    pub store: StoreSettings,
    /// Optional features of the protocol.
    pub protocol: Protocol,
    /// Who is admitted, and what they may do.
    pub access: AccessRules,
    /// Topics that take sealed messages only, `[[sealed]]` in the file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sealed: Vec<Sealed>,
    /// What clients are told of the authority.
    pub authority: Authority,
    /// The `$SYS` topics.
    pub sys: Sys,
    /// When the configuration is read again.
    pub reload: Reload,
    /// The admin listener.
    pub admin: Admin,
    /// What is counted beyond the ordinary.
    pub metrics: Metrics,
    /// How the broker goes.
    pub shutdown: Shutdown,
    /// The diagnostic capture of all traffic after TLS.
    pub capture: Capture,
}

/// Certificate files, PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The broker's certificate chain, its own certificate first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The private key of the first certificate; must not be readable by group or others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The authority's root certificate; devices must show a certificate issued under it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// The authority's revocation list, PEM or DER: a device whose certificate is on it is refused,
    /// and so is every device once the list has expired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crl: Option<PathBuf>,
    /// End a connection when its client's certificate expires.
    pub end_at_expiry: bool,
}

/// What all TCP listeners have in common. `TCP_NODELAY` is always on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tcp {
    /// Seconds without traffic after which the system asks whether the other end is still there; 0
    /// never.
    pub keepalive_seconds: u32,
    /// Connections that may wait to be accepted, by each worker; the system may allow fewer.
    pub backlog: u32,
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as
    /// `info,smqtt_broker=debug`.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Bounds on connections and packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections at a time over all listeners, those without a CONNECT yet included.
    pub connections: usize,
    /// Connections at a time that are shaking hands for TLS, WebSocket or the PROXY protocol. While
    /// there are so many, further ones wait to be accepted.
    pub handshakes: usize,
    /// Connections that one IPv4 address, or one IPv6 /64, may open each second in the long run; 0
    /// for any number.
    pub connect_rate_per_address: u32,
    /// Connections that it may open at once after a quiet time.
    pub connect_burst_per_address: u32,
    /// Networks whose addresses may connect as often as they like.
    pub connect_rate_exempt: Vec<ipnet::IpNet>,
    /// Sessions at a time, of clients that are away included.
    pub sessions: usize,
    /// Bytes that the broker keeps for clients at most: messages, sessions, buffers; 0 for half of
    /// what the machine, or the control group, has.
    pub memory_bytes: u64,
    /// Seconds from accepting a connection to having its CONNECT, TLS handshake included.
    pub connect_timeout_seconds: u64,
    /// Largest MQTT packet accepted, in bytes with its fixed header; at most 268,435,460.
    pub max_packet_bytes: usize,
    /// Most levels a topic name or filter may have.
    pub topic_levels: usize,
    /// Output buffered for a connection that does not read, in bytes; beyond it messages wait in
    /// the session's queue.
    pub write_buffer_bytes: usize,
}

/// Bounds on sessions and their queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionLimits {
    /// Longest time in seconds that a session is kept after its connection ended. MQTT 3.1.1
    /// sessions with clean session off get exactly this.
    pub max_expiry_seconds: u32,
    /// Messages waiting for one session.
    pub queue_messages: usize,
    /// Bytes (topic, properties and payload) waiting for one session.
    pub queue_bytes: usize,
    /// Which message a full queue drops.
    pub queue_full: QueueFull,
    /// Keep QoS 0 messages too for a persistent session whose client is away.
    pub queue_qos0: bool,
    /// Subscriptions of one session.
    pub subscriptions: usize,
    /// QoS 1 and 2 messages that a client may have unacknowledged towards the broker, 1 to 65,535.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages that the broker leaves unacknowledged towards a client, 1 to 65,535; a
    /// smaller receive maximum of an MQTT 5 client wins.
    pub max_in_flight: u16,
    /// Topic aliases a client may set up.
    pub topic_alias_maximum: u16,
    /// Longest keep-alive granted, in seconds; 0 grants any, none included. MQTT 5 clients are told
    /// in Server Keep Alive.
    pub max_keep_alive_seconds: u16,
}

/// Which message a full queue drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueFull {
    /// The one that waited longest.
    Oldest,
    /// The one that just came.
    Newest,
    /// None: the publisher is refused.
    Refuse,
}

/// Bounds on the retained store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetainedLimits {
    /// Topics with a retained message.
    pub messages: usize,
    /// Bytes (topic, properties and payload) of all retained messages.
    pub bytes: usize,
}

/// What survives a crash of the broker or of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// What an acknowledgement for a persistent session or a retained message promises. Without
    /// `data_dir` it is `none`, whatever this says.
    pub durability: Durability,
}

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It is on the medium: it survives a power cut.
    #[default]
    Sync,
    /// It is with the operating system: it survives the broker's end, however that comes.
    Os,
    /// Nothing: it is in memory.
    None,
}

impl Durability {
    /// Its name, in the configuration and towards clients.
    pub fn name(self) -> &'static str {
        match self {
            Durability::Sync => "sync",
            Durability::Os => "os",
            Durability::None => "none",
        }
    }
}

/// The `$SYS` topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sys {
    /// Seconds between two updates; 0 turns `$SYS` off.
    pub interval_seconds: u64,
}

/// When the configuration is read again; on SIGHUP it always is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// Also when the configuration file, or a file that it names, has changed.
    pub watch: bool,
}

/// The diagnostic capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capture {
    /// File to which every byte is appended that the broker sees after TLS, both directions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Size in bytes at which the capture stops.
    pub max_bytes: u64,
}

impl Default for Tls {
    fn default() -> Self {
        Tls {
            cert: None,
            key: None,
            client_ca: None,
            crl: None,
            end_at_expiry: true,
        }
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Tcp {
            keepalive_seconds: 300,
            backlog: 4_096,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 100_000,
            handshakes: 4_096,
            connect_rate_per_address: 200,
            connect_burst_per_address: 2_000,
            connect_rate_exempt: [
                ipnet::Ipv4Net::new_assert([127, 0, 0, 0].into(), 8).into(),
                ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::LOCALHOST, 128).into(),
            ]
            .into(),
            sessions: 1_000_000,
            memory_bytes: 0,
            connect_timeout_seconds: 10,
            max_packet_bytes: 1_048_576,
            topic_levels: 128,
            write_buffer_bytes: 65_536,
        }
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        SessionLimits {
            max_expiry_seconds: 2_592_000,
            queue_messages: 10_000,
            queue_bytes: 16_777_216,
            queue_full: QueueFull::Newest,
            queue_qos0: false,
            subscriptions: 10_000,
            receive_maximum: 256,
            max_in_flight: 256,
            topic_alias_maximum: 32,
            max_keep_alive_seconds: 0,
        }
    }
}

impl Default for RetainedLimits {
    fn default() -> Self {
        RetainedLimits {
            messages: 1_000_000,
            bytes: 268_435_456,
        }
    }
}

impl Default for Sys {
    fn default() -> Self {
        Sys {
            interval_seconds: 10,
        }
    }
}

impl Default for Reload {
    fn default() -> Self {
        Reload { watch: true }
    }
}

impl Default for Capture {
    fn default() -> Self {
        Capture {
            file: None,
            max_bytes: 268_435_456,
        }
    }
}

impl Config {
    /// Worker threads to start: what was configured, or one per core, from 1 to 64.
    pub fn worker_count(&self) -> usize {
        let wanted = match self.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        wanted.clamp(1, MAX_WORKERS)
    }

    /// What acknowledgements promise.
    pub fn durability(&self) -> Durability {
        match &self.data_dir {
            Some(_) => self.store.durability,
            None => Durability::None,
        }
    }

    /// The files that are read when this configuration is loaded.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let tls = &self.tls;
        let (access, authority) = (&self.access, &self.authority);
        let files = [
            &tls.cert,
            &tls.key,
            &tls.client_ca,
            &tls.crl,
            &access.passwords,
            &access.acl,
            &authority.ca,
        ];
        files.into_iter().flatten().cloned().collect()
    }

    /// Checks what no single value shows: that there is a listener, that nothing insecure was
    /// asked for by accident, and that numbers are in range.
    ///
    /// # Errors
    /// [`Error::Config`] with what is wrong and what to do.
    pub fn validate(&self) -> Result<(), Error> {
        let refuse = |message: String| Err(Error::Config(message));
        if self.listeners.is_empty() {
            return refuse(
                "no listener: add --listen mqtts://ADDR:PORT or a [[listener]] section to the configuration".into(),
            );
        }
        if self.workers > MAX_WORKERS {
            return refuse(format!(
                "workers = {} is too many: use at most {MAX_WORKERS}, or 0 for one per core",
                self.workers
            ));
        }
        for listener in &self.listeners {
            self.validate_listener(listener)?;
        }
        if self.tls.crl.is_some() && self.tls.client_ca.is_none() {
            return refuse(
                "a revocation list needs the authority whose it is: give --tls-client-ca FILE (tls.client_ca)".into(),
            );
        }
        self.protocol.validate().map_err(Error::Config)?;
        self.authority.validate().map_err(Error::Config)?;
        for sealed in &self.sealed {
            sealed.validate().map_err(Error::Config)?;
        }
        self.admin.validate().map_err(Error::Config)?;
        self.metrics.validate().map_err(Error::Config)?;
        self.shutdown.validate().map_err(Error::Config)?;
        let at_least_one = [
            ("limits.connections", self.limits.connections as u64),
            ("limits.handshakes", self.limits.handshakes as u64),
            ("tcp.backlog", u64::from(self.tcp.backlog)),
            ("limits.sessions", self.limits.sessions as u64),
            (
                "limits.connect_burst_per_address",
                u64::from(self.limits.connect_burst_per_address),
            ),
            (
                "limits.connect_timeout_seconds",
                self.limits.connect_timeout_seconds,
            ),
            ("limits.topic_levels", self.limits.topic_levels as u64),
            ("session.queue_messages", self.session.queue_messages as u64),
            ("session.queue_bytes", self.session.queue_bytes as u64),
            ("session.subscriptions", self.session.subscriptions as u64),
            (
                "session.receive_maximum",
                u64::from(self.session.receive_maximum),
            ),
            (
                "session.max_in_flight",
                u64::from(self.session.max_in_flight),
            ),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return refuse(format!("{key} = 0 would admit nothing: use 1 or more"));
            }
        }
        if !(MIN_PACKET_BYTES..=MAX_PACKET_BYTES).contains(&self.limits.max_packet_bytes) {
            return refuse(format!(
                "limits.max_packet_bytes = {} is out of range: use {MIN_PACKET_BYTES} to {MAX_PACKET_BYTES}",
                self.limits.max_packet_bytes
            ));
        }
        if self.limits.write_buffer_bytes < MIN_PACKET_BYTES {
            return refuse(format!(
                "limits.write_buffer_bytes = {} is too small: use {MIN_PACKET_BYTES} or more",
                self.limits.write_buffer_bytes
            ));
        }
        Ok(())
    }

    fn validate_listener(&self, listener: &Listener) -> Result<(), Error> {
        listener.validate(self).map_err(Error::Config)?;
        let url = &listener.url;
        let verifiable = self.tls.client_ca.is_some();
        let message = match url.scheme().is_tls() {
            _ if listener.allow_anonymous || self.access.passwords.is_some() => return Ok(()),
            false => format!(
                "{url} could not tell who its clients are: use mqtts:// with client certificates, give a password file (access.passwords), or say --allow-anonymous (allow_anonymous = true)"
            ),
            true if !verifiable => format!(
                "{url} could not verify devices: give --tls-client-ca FILE (tls.client_ca), or say --allow-anonymous (allow_anonymous = true)"
            ),
            true if listener.client_certificate(verifiable) == ClientCertificate::None => format!(
                "{url} could not tell who its clients are: ask for their certificates (client_certificate), or say --allow-anonymous (allow_anonymous = true)"
            ),
            true => return Ok(()),
        };
        Err(Error::Config(message))
    }
}

/// One bit of a 64-bit mask per worker.
const MAX_WORKERS: usize = 64;
/// Room for every CONNECT that a strict client sends.
const MIN_PACKET_BYTES: usize = 1_024;
/// Largest remaining length (268,435,455) with its five bytes of fixed header.
const MAX_PACKET_BYTES: usize = 268_435_460;
