//! What the gateway counts, and how often it says so.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// At most one line of a kind in this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a gateway has done since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections of local clients that were let in.
    pub clients: u64,
    /// Connections that were refused: by the listener, or because the broker refused theirs.
    pub clients_refused: u64,
    /// Messages that were sealed and acknowledged by the broker, or written to it (QoS 0).
    pub published: u64,
    /// Messages of local clients that no rule allows, or that the broker refused.
    pub publishes_refused: u64,
    /// Messages that were opened and handed to local clients.
    pub delivered: u64,
    /// Messages that were not sealed and passed, because their rule says so.
    pub plaintext_passed: u64,
    /// Messages for local clients that could not be opened.
    pub not_opened: u64,
    /// Subscriptions that no rule allows, or that the broker refused.
    pub subscriptions_refused: u64,
    /// Messages of QoS 0 that were dropped because the broker was away or a local client was slow.
    pub dropped: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} clients, {} messages sealed, {} opened",
            self.clients, self.published, self.delivered
        )?;
        for (count, what) in [
            (self.plaintext_passed, "passed unsealed"),
            (self.not_opened, "not opened"),
            (self.publishes_refused, "publishes refused"),
            (self.subscriptions_refused, "subscriptions refused"),
            (self.clients_refused, "clients refused"),
            (self.dropped, "dropped"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        Ok(())
    }
}

/// The counters and the limit on log lines, shared by all sessions.
#[derive(Default)]
pub(super) struct Account {
    pub(super) clients: AtomicU64,
    pub(super) clients_refused: AtomicU64,
    pub(super) published: AtomicU64,
    pub(super) publishes_refused: AtomicU64,
    pub(super) delivered: AtomicU64,
    pub(super) plaintext_passed: AtomicU64,
    pub(super) not_opened: AtomicU64,
    pub(super) subscriptions_refused: AtomicU64,
    pub(super) dropped: AtomicU64,
    said: Mutex<HashMap<&'static str, Said>>,
}

struct Said {
    at: Instant,
    suppressed: u64,
}

/// Counts one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Account {
    pub(super) fn read(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            clients: of(&self.clients),
            clients_refused: of(&self.clients_refused),
            published: of(&self.published),
            publishes_refused: of(&self.publishes_refused),
            delivered: of(&self.delivered),
            plaintext_passed: of(&self.plaintext_passed),
            not_opened: of(&self.not_opened),
            subscriptions_refused: of(&self.subscriptions_refused),
            dropped: of(&self.dropped),
        }
    }

    /// Whether to log a line of this kind now, and how many were left out since the last.
    pub(super) fn admit(&self, kind: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut said = self.said.lock();
        match said.get_mut(kind) {
            Some(last) if now.saturating_duration_since(last.at) < INTERVAL => {
                last.suppressed += 1;
                None
            }
            Some(last) => {
                last.at = now;
                Some(std::mem::take(&mut last.suppressed))
            }
            None => {
                said.insert(
                    kind,
                    Said {
                        at: now,
                        suppressed: 0,
                    },
                );
                Some(0)
            }
        }
    }
}
