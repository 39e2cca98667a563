//! One budget for what clients make the broker keep.
//!
//! What is kept of messages is charged exactly, once however many sessions share it: the memory of a
//! message carries its charge, and whichever worker lets go of it last takes the charge off its own
//! account. An account is a number of one thread; it may go below zero, only the sum of all means
//! something. Connections, sessions and subscriptions are charged at what they take about.
//!
//! Nothing on the way of a message is shared between workers: each publishes its account at the end
//! of a pass, and looks at the sum when its own has moved, or every few milliseconds.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// What a connection takes beside its buffers, about: itself, its task, its socket's registration.
pub(crate) const CONNECTION: i64 = 3 * 1024;
/// What a session takes beside its messages, about.
pub(crate) const SESSION: i64 = 1024;
/// What a subscription takes with its place in the trie, about.
pub(crate) const SUBSCRIPTION: i64 = 256;

thread_local! {
    /// Charged by this thread since the last [`take`].
    static CHARGED: Cell<i64> = const { Cell::new(0) };
}

/// Memory that is charged as long as it lives.
struct Charged(Vec<u8>);

impl Charged {
    /// With what a message takes around its bytes.
    fn weight(&self) -> i64 {
        i64::try_from(self.0.capacity()).unwrap_or(i64::MAX / 2) + MESSAGE
    }
}

/// What a message takes beside its bytes.
const MESSAGE: i64 = 256;

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Charged {
    fn drop(&mut self) {
        // A thread that ends has no account any more, and nobody asks for it.
        let _ = CHARGED.try_with(|charged| charged.set(charged.get() - self.weight()));
    }
}

/// Charges the memory of a message that is kept.
pub(crate) fn charge(memory: Vec<u8>) -> Bytes {
    let memory = Charged(memory);
    CHARGED.with(|charged| charged.set(charged.get() + memory.weight()));
    Bytes::from_owner(memory)
}

/// Charges what is kept of a message whose bytes are on disk, as long as it lives.
#[derive(Debug)]
pub(crate) struct OnDisk(());

impl OnDisk {
    /// Its number and size, and its place in a queue, about.
    const WEIGHT: i64 = 192;

    /// Charges it.
    pub(crate) fn charge() -> Self {
        CHARGED.with(|charged| charged.set(charged.get() + Self::WEIGHT));
        OnDisk(())
    }
}

impl Drop for OnDisk {
    fn drop(&mut self) {
        let _ = CHARGED.try_with(|charged| charged.set(charged.get() - Self::WEIGHT));
    }
}

/// What this thread has charged, less what it has let go of, since the last call.
pub(crate) fn take() -> i64 {
    CHARGED.with(|charged| charged.replace(0))
}

/// How full the budget is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Pressure {
    /// There is room.
    #[default]
    None,
    /// From four fifths on: QoS 0 messages do not wait, nothing new is retained.
    High,
    /// From nineteen twentieths on: nothing is taken that would have to be kept, and no client is let
    /// in but those that come back for what waits for them.
    Critical,
    /// Nothing is left: not even for a handshake.
    Full,
}

impl Pressure {
    /// Of `used` bytes of `budget`. It eases a twentieth below where it began, so as not to flicker.
    pub(crate) fn of(used: u64, budget: u64, before: Pressure) -> Pressure {
        let percent = u128::from(used) * 100 / u128::from(budget.max(1));
        let ease = |stage| u128::from(before >= stage) * 5;
        if percent + ease(Pressure::Full) >= 100 {
            Pressure::Full
        } else if percent + ease(Pressure::Critical) >= 95 {
            Pressure::Critical
        } else if percent + ease(Pressure::High) >= 80 {
            Pressure::High
        } else {
            Pressure::None
        }
    }

    /// Its name in the log.
    pub(crate) fn consequence(self) -> &'static str {
        match self {
            Pressure::None => "there is room again",
            Pressure::High => {
                "QoS 0 messages do not wait for slow clients, nothing new is retained"
            }
            Pressure::Critical => {
                "publications that would be kept, subscriptions and new sessions are refused"
            }
            Pressure::Full => "connections are refused, too",
        }
    }
}

/// A worker's account.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Messages that are kept.
    pub(crate) messages: i64,
    /// Bytes in the buffers of connections.
    pub(crate) buffers: i64,
    /// When the sum of all accounts was last looked at, and what this one was then.
    looked: Option<(Instant, i64)>,
}

/// An account that has moved so far is a reason to look at the sum.
const MOVED: i64 = 64 * 1024;
/// As is so much time.
const LOOK: Duration = Duration::from_millis(10);

impl Account {
    /// Messages and buffers, now.
    pub(crate) fn balance(&mut self) -> i64 {
        self.messages += take();
        self.messages + self.buffers
    }

    /// Whether it is time to look at the sum of all accounts.
    pub(crate) fn is_time(&mut self, balance: i64, now: Instant) -> bool {
        let quiet = self.looked.is_some_and(|(at, then)| {
            now.saturating_duration_since(at) < LOOK && (balance - then).abs() < MOVED
        });
        if !quiet {
            self.looked = Some((now, balance));
        }
        !quiet
    }
}

/// The budget that is configured, or half of the memory that this process may use.
pub(crate) fn budget(configured: u64) -> u64 {
    if configured > 0 {
        return configured;
    }
    let (machine, group) = sysinfo::System::new().map_or((0, 0), |mut system| {
        system.refresh_memory();
        let group = system.cgroup_limits().map_or(0, |group| group.total_memory);
        (system.total_memory(), group)
    });
    match [machine, group]
        .into_iter()
        .filter(|bytes| *bytes > 0)
        .min()
    {
        Some(bytes) => bytes / 2,
        // No idea: as much as a small machine has.
        None => 1 << 30,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_charged_once_and_until_the_last_reference() {
        take();
        let bytes = charge(vec![7; 1000]);
        assert_eq!(take(), 1000 + MESSAGE);
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(take(), 0);
        drop(part);
        assert_eq!(take(), -1000 - MESSAGE);
    }

    #[test]
    fn the_account_follows_memory_to_another_thread() {
        take();
        let bytes = charge(vec![7; 1000]);
        let there = std::thread::spawn(move || {
            drop(bytes);
            take()
        })
        .join()
        .expect("no panic");
        assert_eq!(take() + there, 0);
    }

    #[test]
    fn pressure_rises_and_eases_late() {
        let of = |used, before| Pressure::of(used, 100, before);
        assert_eq!(of(79, Pressure::None), Pressure::None);
        assert_eq!(of(80, Pressure::None), Pressure::High);
        assert_eq!(of(76, Pressure::High), Pressure::High);
        assert_eq!(of(74, Pressure::High), Pressure::None);
        assert_eq!(of(95, Pressure::High), Pressure::Critical);
        assert_eq!(of(91, Pressure::Critical), Pressure::Critical);
        assert_eq!(of(89, Pressure::Critical), Pressure::High);
        assert_eq!(of(99, Pressure::Critical), Pressure::Critical);
        assert_eq!(of(100, Pressure::Critical), Pressure::Full);
        assert_eq!(of(96, Pressure::Full), Pressure::Full);
        assert_eq!(of(94, Pressure::Full), Pressure::Critical);
        assert_eq!(of(u64::MAX, Pressure::None), Pressure::Full);
        assert_eq!(Pressure::of(1, 0, Pressure::None), Pressure::Full);
    }

    #[test]
    fn the_sum_is_looked_at_when_it_may_have_changed() {
        let mut account = Account::default();
        let start = Instant::now();
        assert!(account.is_time(0, start));
        assert!(!account.is_time(MOVED - 1, start));
        assert!(account.is_time(MOVED, start));
        assert!(!account.is_time(MOVED, start));
        assert!(account.is_time(MOVED, start + LOOK));
    }

    #[test]
    fn a_budget_is_always_something() {
        assert_eq!(budget(5), 5);
        assert!(budget(0) > 1 << 20);
    }
}
