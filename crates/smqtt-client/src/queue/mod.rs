//! The offline queue: what is published while the broker is away, in memory or on disk, sealed.
//!
//! Between publishers and the connection stands a [`Courier`]. It keeps every message before it passes it on, in order, and lets
//! go of it when the broker has acknowledged it. What is on disk is what goes over the wire: sealed payloads, topics, properties.

mod courier;
pub(crate) mod record;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::Error;
use crate::ledger::Ledger;

pub(crate) use courier::Courier;
pub(crate) use store::Store;

/// What happens to a message for which a queue has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Its publisher waits until there is.
    #[default]
    Wait,
    /// It is refused: [`Error::QueueFull`].
    Refuse,
    /// The oldest that the connection has not taken yet make room for it; they count as refused.
    DropOldest,
}

/// A queue for what cannot be sent yet.
///
/// With one, [`Client::connect`](crate::Client::connect) does not wait for the broker, key frames go inline, and a message that
/// was kept outlives the connection and, on disk, the program. It is sent in the order in which it was handed over, and again
/// where it is not known to have arrived: readers drop by its sequence number what they have already.
#[derive(Clone, Debug)]
pub struct Queue {
    directory: Option<PathBuf>,
    messages: u64,
    bytes: u64,
    full: WhenFull,
}

impl Queue {
    /// A queue that lives as long as the client.
    #[must_use]
    pub fn in_memory() -> Self {
        Self {
            directory: None,
            messages: 10_000,
            bytes: 64 << 20,
            full: WhenFull::default(),
        }
    }

    /// A queue in this directory, which is made if it is not there. One program at a time may use it; what it left is sent
    /// first.
    #[must_use]
    pub fn on_disk(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: Some(directory.into()),
            ..Self::in_memory()
        }
    }

    /// The most messages that it holds, at least 1. Default: 10,000.
    #[must_use]
    pub fn max_messages(mut self, messages: u64) -> Self {
        self.messages = messages.max(1);
        self
    }

    /// The most bytes that it holds, sealed, exceeded by one message at most. Default: 64 MiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes.max(1);
        self
    }

    /// What happens when it is full. Default: [`WhenFull::Wait`].
    #[must_use]
    pub fn when_full(mut self, full: WhenFull) -> Self {
        self.full = full;
        self
    }

    /// Where it is, if it is on disk.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }
}

/// How many messages of one publisher its queue has kept.
#[derive(Clone)]
pub struct Kept(Arc<Ledger>);

impl Kept {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self(ledger)
    }

    /// Resolves when these are more than `count`: how many. Nothing is lost if the returned future is dropped.
    pub async fn beyond(&self, count: u64) -> u64 {
        self.0.kept_beyond(count).await
    }
}

/// How full a queue is: shared by publishers, which add, and the courier, which takes off.
pub(crate) struct Gauge {
    limits: Queue,
    messages: AtomicU64,
    bytes: AtomicU64,
    /// Something was taken off.
    room: Notify,
}

impl Gauge {
    pub(crate) fn new(limits: Queue) -> Self {
        Self {
            limits,
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            room: Notify::new(),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.messages.load(Ordering::Acquire) >= self.limits.messages
            || self.bytes.load(Ordering::Acquire) >= self.limits.bytes
    }

    pub(crate) fn drops_oldest(&self) -> bool {
        self.limits.full == WhenFull::DropOldest
    }

    /// Whether so many are above the limits. What was handed over and is not kept yet does not count: it drops nothing.
    fn exceeds(&self, messages: usize, bytes: u64) -> bool {
        messages as u64 > self.limits.messages || bytes > self.limits.bytes
    }

    /// Resolves when one more message may be handed over.
    pub(crate) async fn admit(&self) -> Result<(), Error> {
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            match self.limits.full {
                _ if !self.is_full() => return Ok(()),
                WhenFull::DropOldest => return Ok(()),
                WhenFull::Refuse => {
                    return Err(Error::QueueFull {
                        messages: self.limits.messages,
                        bytes: self.limits.bytes,
                    });
                }
                WhenFull::Wait => room.await,
            }
        }
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.messages.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A message turned out to be so much longer.
    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn take_off(&self, bytes: u64) {
        self.messages.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.room.notify_waiters();
    }
}
