//! What a worker counts. Each worker writes its own counters; anyone may read them.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread changes and others read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call this: there is one writer, so a load and a store
    /// do what a locked addition would.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Takes `n` off; for the owning worker only.
    pub(crate) fn sub(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_sub(n),
            Ordering::Relaxed,
        );
    }

    /// The value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! drop_causes {
    ($($(#[$doc:meta])* $name:ident => $code:literal,)*) => {
        /// Why a message was not delivered to a session, or not kept. Every drop has one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum DropCause {
            $($(#[$doc])* $name,)*
        }

        impl DropCause {
            /// All causes.
            pub(crate) const ALL: &[DropCause] = &[$(DropCause::$name),*];

            /// Its stable name in logs and `$SYS`.
            pub(crate) fn code(self) -> &'static str {
                match self {
                    $(DropCause::$name => $code,)*
                }
            }
        }
    };
}

drop_causes! {
    /// The session's queue had its maximum of messages.
    QueueMessages => "queue-messages",
    /// The session's queue had its maximum of bytes.
    QueueBytes => "queue-bytes",
    /// The message expired before it could be sent.
    Expired => "expired",
    /// The packet would be larger than the client accepts.
    PacketTooLarge => "packet-too-large",
    /// The message cannot be encoded for the client.
    Unsendable => "unsendable",
    /// A QoS 0 message waited for a slow client whose connection then ended.
    Disconnected => "disconnected",
    /// The session ended with messages in its queue.
    SessionEnded => "session-ended",
    /// The retained store was full: the message was delivered and not retained.
    RetainedFull => "retained-full",
}

/// One worker's counters. A cache line apart from another worker's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    /// Connections, those without a CONNECT yet included.
    pub(crate) connections: Counter,
    /// Connections that were ever accepted.
    pub(crate) connections_accepted: Counter,
    /// Connections refused because of the limit.
    pub(crate) connections_refused: Counter,
    /// Clients connected.
    pub(crate) clients_connected: Counter,
    /// Sessions, connected or not.
    pub(crate) sessions: Counter,
    /// PUBLISH packets received.
    pub(crate) publish_received: Counter,
    /// PUBLISH packets refused: a topic that clients may not publish to, or a full store.
    pub(crate) publish_refused: Counter,
    /// PUBLISH packets sent.
    pub(crate) publish_sent: Counter,
    /// Bytes received, after TLS.
    pub(crate) bytes_received: Counter,
    /// Bytes sent, before TLS.
    pub(crate) bytes_sent: Counter,
    /// Connections ended because the peer broke the rules of TLS or MQTT, or was refused.
    pub(crate) peer_errors: Counter,
    /// Clients refused at the handshake because their certificate is revoked.
    pub(crate) revoked: Counter,
    /// Clients refused for a wrong password, or a user that there is none of.
    pub(crate) passwords_refused: Counter,
    /// Messages and subscriptions that the rules do not allow.
    pub(crate) denied: Counter,
    /// Messages refused at sealed topics.
    pub(crate) unsealed_refused: Counter,
    /// Messages that were not sealed, accepted at topics where that is only counted.
    pub(crate) unsealed_accepted: Counter,
    /// Sessions ended because their client is not admitted any more.
    pub(crate) expelled: Counter,
    drops: [Counter; DropCause::ALL.len()],
}

impl Counters {
    /// Counts one drop.
    pub(crate) fn dropped(&self, cause: DropCause, messages: u64) {
        self.drops[cause as usize].add(messages);
    }

    /// Messages dropped for `cause`.
    pub(crate) fn drops(&self, cause: DropCause) -> u64 {
        self.drops[cause as usize].get()
    }
}

/// Limits how often each kind of peer-caused event is logged: at most one line a second and kind,
/// which says how many there were since the line before.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    kinds: Vec<(&'static str, std::time::Instant, u64)>,
}

impl LogLimit {
    /// Counts an event of `kind`; `Some(suppressed)` when it may be logged, with the number that
    /// were not.
    pub(crate) fn admit(&mut self, kind: &'static str, now: std::time::Instant) -> Option<u64> {
        let Some((_, last, suppressed)) = self.kinds.iter_mut().find(|(k, ..)| *k == kind) else {
            self.kinds.push((kind, now, 0));
            return Some(0);
        };
        if now.saturating_duration_since(*last) < std::time::Duration::from_secs(1) {
            *suppressed += 1;
            return None;
        }
        *last = now;
        Some(std::mem::take(suppressed))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn each_kind_is_logged_once_a_second_with_what_was_left_out() {
        let mut limit = LogLimit::default();
        let start = Instant::now();
        assert_eq!(limit.admit("a", start), Some(0));
        assert_eq!(limit.admit("b", start), Some(0));
        for i in 0..5 {
            assert_eq!(limit.admit("a", start + Duration::from_millis(i)), None);
        }
        assert_eq!(limit.admit("a", start + Duration::from_secs(1)), Some(5));
        assert_eq!(limit.admit("b", start + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn causes_have_distinct_names_and_counters() {
        let counters = Counters::default();
        for (i, cause) in DropCause::ALL.iter().enumerate() {
            counters.dropped(*cause, i as u64 + 1);
            assert!(
                DropCause::ALL[..i]
                    .iter()
                    .all(|other| other.code() != cause.code())
            );
        }
        for (i, cause) in DropCause::ALL.iter().enumerate() {
            assert_eq!(counters.drops(*cause), i as u64 + 1);
        }
    }
}
