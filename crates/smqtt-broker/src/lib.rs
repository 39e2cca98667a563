//! The SMQTT broker: MQTT 3.1.1 and 5.0 over TLS 1.3, relaying what it cannot read.
//!
//! The broker sees topics, sizes and times; payloads are opaque bytes to it, and it links nothing
//! that could open one. The daemon `smqtt-broker` is a thin shell around [`Broker`], which other
//! programs can embed:
//!
//! ```
//! use smqtt_broker::{Broker, Config, Listener};
//!
//! # fn main() -> Result<(), smqtt_broker::Error> {
//! let mut config = Config::default();
//! config.listeners.push(Listener {
//!     allow_anonymous: true,
//!     ..Listener::new("mqtt://127.0.0.1:0".parse().expect("a listener address"))
//! });
//! let broker = Broker::start(config)?;
//! println!("connect to {}", broker.urls()[0]);
//! broker.stop()
//! # }
//! ```
//!
//! # How it is built
//!
//! One worker thread per core, each with a runtime of its own. A connection belongs to one worker
//! for life once its CONNECT was read; a session belongs to one worker for life, and a connection
//! goes to the worker of its session. **Invariant: a session, its queue, its messages in flight and
//! its connection's buffers are touched by their worker only**, so a message takes no lock on its
//! way but the two that are read-locked once per batch: the subscription [`trie`] and the
//! [`retained`] store. Messages for sessions of other workers go to that worker's mailbox, once per pass.
//!
//! The data structures are plain and driven by tests without any runtime; what waits for sockets and
//! timers is a thin loop around them.
#![forbid(unsafe_code)]

mod access;
mod activation;
mod admin;
mod broker;
mod capture;
mod certificate;
mod commands;
mod config;
mod connect_rate;
mod connection;
#[cfg(test)]
mod corpora;
mod counters;
mod current;
mod data_dir;
mod directory;
mod error;
mod hosts;
mod lifecycle;
mod listening;
mod load;
pub mod logging;
mod mailbox;
mod memory;
mod peer;
mod proxy;
mod queue;
mod reload;
mod restore;
pub mod retained;
mod seat;
mod session;
mod share;
mod shared;
mod socket;
mod store;
mod subscription;
mod subscriptions;
pub mod systemd;
mod targets;
mod tls;
mod transport;
pub mod trie;
mod websocket;
mod worker;

pub use access::{Action, PasswordFile, Passwords};
pub use broker::{Broker, Halt, Reloaded};
pub use commands::Command;
pub use config::{
    AccessRules, Admin, Authority, Capture, Cli, ClientCertificate, ClientIdRule, Config,
    Durability, Limits, ListenUrl, Listener, Log, LogFormat, Metrics, MqttVersion, Protocol,
    ProxySource, QueueFull, Reload, RetainedLimits, Scheme, Sealed, SealedMode, SessionLimits,
    Shutdown, StoreSettings, Sys, Tcp, Tls, TlsVersion, UnixMode,
};
pub use error::Error;
pub use reload::Reloader;
pub use session::SessionRef;
pub use subscription::Subscription;
