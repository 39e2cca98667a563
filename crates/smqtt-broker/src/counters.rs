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

    /// Sets it to `n`; for the owning worker only.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
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
    /// A publication was refused because a session's queue was full.
    QueueRefused => "queue-refused",
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
    /// The memory budget was used up: a QoS 0 message would have had to wait, or a message was not
    /// retained.
    Memory => "memory",
    /// The retained store was full: the message was delivered and not retained.
    RetainedFull => "retained-full",
    /// The store could not be written: the message was delivered and not retained.
    StoreFailing => "store-failing",
    /// The store on disk had lost the message.
    StoreDamaged => "store-damaged",
}

/// Why a connection was turned away before a byte of it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `limits.connections` were open.
    Connections,
    /// Its address had connected too often.
    Rate,
    /// The memory budget was used up.
    Memory,
    /// It is from none of the listener's proxies.
    Proxy,
}

impl Refusal {
    /// All causes.
    pub(crate) const ALL: &[Refusal] = &[
        Refusal::Connections,
        Refusal::Rate,
        Refusal::Memory,
        Refusal::Proxy,
    ];

    /// Its stable name in logs and metrics.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Refusal::Connections => "connection-limit",
            Refusal::Rate => "connect-rate",
            Refusal::Memory => "memory",
            Refusal::Proxy => "proxy",
        }
    }
}

/// What went over the connections of one listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerCounters {
    /// Connections open.
    pub(crate) connections: Counter,
    /// Connections that were ever accepted.
    pub(crate) accepted: Counter,
    /// MQTT packets received.
    pub(crate) packets_received: Counter,
    /// MQTT packets sent.
    pub(crate) packets_sent: Counter,
    /// PUBLISH packets received.
    pub(crate) publishes_received: Counter,
    /// PUBLISH packets sent.
    pub(crate) publishes_sent: Counter,
    /// Bytes received, after TLS.
    pub(crate) bytes_received: Counter,
    /// Bytes sent, before TLS.
    pub(crate) bytes_sent: Counter,
}

/// The messages under one of `metrics.topic_prefixes`.
#[derive(Debug, Default)]
pub(crate) struct PrefixCounters {
    /// Messages published.
    pub(crate) messages: Counter,
    /// Bytes of their payloads.
    pub(crate) bytes: Counter,
    /// Sessions that they were for.
    pub(crate) deliveries: Counter,
}

/// What one session lost, by cause; nothing in memory while it lost nothing.
#[derive(Debug, Default)]
pub(crate) struct Losses(Option<Box<[u64; DropCause::ALL.len()]>>);

impl Losses {
    /// Counts `messages` lost for `cause`.
    pub(crate) fn add(&mut self, cause: DropCause, messages: u64) {
        if messages > 0 {
            self.0.get_or_insert_default()[cause as usize] += messages;
        }
    }

    /// The causes that there were, with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (DropCause, u64)> + '_ {
        let counts = self.0.as_deref().into_iter().flatten();
        DropCause::ALL
            .iter()
            .copied()
            .zip(counts.copied())
            .filter(|(_, count)| *count > 0)
    }
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
    /// Clients that were ever let in.
    pub(crate) clients_admitted: Counter,
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
    /// The worker's share of the memory budget, in two's complement: its messages may be freed by
    /// another.
    pub(crate) memory: Counter,
    /// Subscriptions of its sessions.
    pub(crate) subscriptions: Counter,
    /// Seconds after the broker's start at which the worker last looked at its timers.
    pub(crate) alive_at: Counter,
    /// In the order of the listeners.
    pub(crate) listeners: Box<[ListenerCounters]>,
    /// In the order of `metrics.topic_prefixes`.
    pub(crate) prefixes: Box<[PrefixCounters]>,
    drops: [Counter; DropCause::ALL.len()],
    refusals: [Counter; Refusal::ALL.len()],
}

impl Counters {
    /// Counters for so many listeners and topic prefixes.
    pub(crate) fn new(listeners: usize, prefixes: usize) -> Self {
        Counters {
            listeners: (0..listeners)
                .map(|_| ListenerCounters::default())
                .collect(),
            prefixes: (0..prefixes).map(|_| PrefixCounters::default()).collect(),
            ..Counters::default()
        }
    }

    /// Counts a connection that was turned away.
    pub(crate) fn refused(&self, cause: Refusal) {
        self.connections_refused.add(1);
        self.refusals[cause as usize].add(1);
    }

    /// Connections turned away for `cause`.
    pub(crate) fn refusals(&self, cause: Refusal) -> u64 {
        self.refusals[cause as usize].get()
    }

    /// Counts one drop.
    pub(crate) fn dropped(&self, cause: DropCause, messages: u64) {
        self.drops[cause as usize].add(messages);
    }

    /// Messages dropped, whatever the cause.
    pub(crate) fn all_drops(&self) -> u64 {
        self.drops.iter().map(Counter::get).sum()
    }

    /// Messages dropped for `cause`.
    pub(crate) fn drops(&self, cause: DropCause) -> u64 {
        self.drops[cause as usize].get()
    }
}

/// What has been logged of the drops of all workers.
#[derive(Debug, Default)]
pub(crate) struct DropLog([Option<(std::time::Instant, u64)>; DropCause::ALL.len()]);

impl DropLog {
    /// How many messages to log for `cause`, of which there were `total` so far: `None` when there
    /// are no new ones, or the last line is less than a second old.
    pub(crate) fn admit(
        &mut self,
        cause: DropCause,
        total: u64,
        now: std::time::Instant,
    ) -> Option<u64> {
        let (last, logged) = self.0[cause as usize].unzip();
        let messages = total.saturating_sub(logged.unwrap_or(0));
        let second = std::time::Duration::from_secs(1);
        if messages == 0 || last.is_some_and(|at| now.saturating_duration_since(at) < second) {
            return None;
        }
        self.0[cause as usize] = Some((now, total));
        Some(messages)
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
    fn drops_are_logged_once_a_second_and_cause() {
        let mut log = DropLog::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(log.admit(DropCause::Expired, 0, at(0)), None);
        assert_eq!(log.admit(DropCause::Expired, 3, at(0)), Some(3));
        assert_eq!(log.admit(DropCause::QueueBytes, 1, at(0)), Some(1));
        assert_eq!(log.admit(DropCause::Expired, 9, at(999)), None);
        assert_eq!(log.admit(DropCause::Expired, 9, at(1_000)), Some(6));
        assert_eq!(log.admit(DropCause::Expired, 9, at(9_000)), None);
    }

    #[test]
    fn losses_are_kept_by_cause() {
        let mut losses = Losses::default();
        losses.add(DropCause::Expired, 0);
        assert_eq!(losses.iter().count(), 0);
        losses.add(DropCause::Expired, 2);
        losses.add(DropCause::Expired, 3);
        assert_eq!(losses.iter().collect::<Vec<_>>(), [(DropCause::Expired, 5)]);
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
