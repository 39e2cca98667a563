//! What all workers share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Instant;

use parking_lot::RwLock;
use smqtt_pki::TrustAnchor;
use smqtt_proto::packet::Connect;
use smqtt_proto::{Delivery, Message, server};

use crate::capture::CaptureFile;
use crate::config::Config;
use crate::counters::Counters;
use crate::directory::{Directory, Identity};
use crate::mailbox::Mailbox;
use crate::retained::RetainedStore;
use crate::session::SessionRef;
use crate::transport::Detached;
use crate::trie::Trie;

/// The state behind all workers: read-mostly, or one entry per worker.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// What the protocol allows clients, from `config`.
    pub(crate) protocol: Arc<server::Config>,
    pub(crate) trie: RwLock<Trie>,
    /// [`Trie::version`], readable without the lock. Written under the write lock.
    pub(crate) trie_version: AtomicU64,
    pub(crate) retained: RwLock<RetainedStore>,
    pub(crate) directory: Directory,
    pub(crate) mailboxes: Vec<Mailbox<Mail>>,
    pub(crate) counters: Vec<Counters>,
    /// Connections of all workers, to hold against the limit.
    pub(crate) connections: AtomicUsize,
    pub(crate) capture: Option<CaptureFile>,
    pub(crate) started: Instant,
}

/// One listener, as its connections need to know it.
pub(crate) struct ListenerState {
    pub(crate) url: crate::config::ListenUrl,
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

impl std::fmt::Debug for ListenerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ListenerState({})", self.url)
    }
}

/// One session that a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) session: SessionRef,
    /// The highest QoS granted, whether the retain flag is kept as published, and the identifiers of
    /// the matching subscriptions.
    pub(crate) delivery: Delivery,
}

/// What one worker hands to another.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A message for sessions of the receiving worker.
    Publish {
        message: Arc<Message>,
        targets: Arc<[Target]>,
    },
    /// A connection whose session belongs to the receiving worker.
    HandOver(Box<HandedOver>),
    /// A mailbox that was full has been emptied: read on from publishers.
    Resume,
    /// End all connections and stop.
    Stop,
}

/// A connection between two workers.
#[derive(Debug)]
pub(crate) struct HandedOver {
    pub(crate) transport: Detached,
    /// Which waits for the answer to its CONNECT.
    pub(crate) protocol: server::Connection,
    pub(crate) listener: Arc<ListenerState>,
    pub(crate) peer: SocketAddr,
    pub(crate) admission: Admission,
}

/// A client whose CONNECT has been found good, on its way to its session.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) connect: Box<Connect>,
    /// The client's own identifier, or the one that was made for it.
    pub(crate) client_id: Arc<str>,
    /// Whether it was made.
    pub(crate) assigned: bool,
    pub(crate) identity: Identity,
}
