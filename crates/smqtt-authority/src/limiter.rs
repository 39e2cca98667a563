//! Limits on failed attempts.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smqtt_pki::UnixTime;

/// Counts failures per address and says who has to wait.
///
/// An address (of IPv6: its /64 network, which is what one customer has) may fail [`Limiter::BURST`] times at once, and then
/// once every [`Limiter::PAUSE`]. Who does not fail is never held up. Memory is bounded by [`Limiter::ADDRESSES`].
#[derive(Debug, Default)]
pub struct Limiter {
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

impl Limiter {
    /// How many failures are let pass at once.
    pub const BURST: u32 = 10;
    /// How long one failure takes to be forgotten.
    pub const PAUSE: Duration = Duration::from_secs(6);
    /// How many addresses are remembered.
    pub const ADDRESSES: usize = 4096;

    /// Whether the address may try now.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn check(&self, address: IpAddr, now: UnixTime) -> Result<(), Duration> {
        let mut buckets = self.lock();
        let Some(bucket) = buckets.get_mut(&network(address)) else {
            return Ok(());
        };
        bucket.drain(now, Self::PAUSE);
        if bucket.failures < Self::BURST {
            Ok(())
        } else {
            Err(bucket.wait(now, Self::PAUSE))
        }
    }

    /// Notes a failure of the address.
    pub fn failed(&self, address: IpAddr, now: UnixTime) {
        let mut buckets = self.lock();
        let network = network(address);
        if buckets.len() >= Self::ADDRESSES && !buckets.contains_key(&network) {
            for bucket in buckets.values_mut() {
                bucket.drain(now, Self::PAUSE);
            }
            buckets.retain(|_, bucket| bucket.failures > 0);
            // Still full: somebody has many addresses. The one closest to being forgotten makes room.
            if buckets.len() >= Self::ADDRESSES {
                let least = buckets
                    .iter()
                    .min_by_key(|(_, bucket)| bucket.failures)
                    .map(|(n, _)| *n);
                least.map(|n| buckets.remove(&n));
            }
        }
        let bucket = buckets.entry(network).or_insert_with(|| Bucket::new(now));
        bucket.drain(now, Self::PAUSE);
        bucket.failures = bucket.failures.saturating_add(1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Bucket>> {
        // The map is whole after a panic elsewhere: nothing in here panics halfway.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many refusals may still be written to the audit log: the log must not be anybody's means to fill the disk.
#[derive(Debug)]
pub(crate) struct AuditBudget(Mutex<(Bucket, u64)>);

impl AuditBudget {
    const BURST: u32 = 200;
    const PAUSE: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Self {
        Self(Mutex::new((
            Bucket::new(UnixTime::since_unix_epoch(Duration::ZERO)),
            0,
        )))
    }

    /// Whether to write a refusal; if so, how many were left out since the last that was written.
    pub(crate) fn take(&self, now: UnixTime) -> Option<u64> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (bucket, left_out) = &mut *guard;
        bucket.drain(now, Self::PAUSE);
        if bucket.failures >= Self::BURST {
            *left_out += 1;
            return None;
        }
        bucket.failures += 1;
        Some(std::mem::take(left_out))
    }
}

/// Failures that are forgotten one by one.
#[derive(Debug)]
struct Bucket {
    failures: u32,
    /// From when the next failure's being forgotten counts, in seconds since 1970.
    since: u64,
}

impl Bucket {
    fn new(now: UnixTime) -> Self {
        Self {
            failures: 0,
            since: now.as_secs(),
        }
    }

    fn drain(&mut self, now: UnixTime, pause: Duration) {
        let passed = now.as_secs().saturating_sub(self.since) / pause.as_secs();
        self.failures = self
            .failures
            .saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
        self.since = if self.failures == 0 {
            now.as_secs()
        } else {
            self.since + passed * pause.as_secs()
        };
    }

    fn wait(&self, now: UnixTime, pause: Duration) -> Duration {
        Duration::from_secs(
            (self.since + pause.as_secs())
                .saturating_sub(now.as_secs())
                .max(1),
        )
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(1_000_000 + seconds))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn who_fails_too_often_waits_and_is_forgiven_step_by_step() {
        let limiter = Limiter::default();
        for _ in 0..Limiter::BURST {
            assert_eq!(limiter.check(ip("192.0.2.1"), at(0)), Ok(()));
            limiter.failed(ip("192.0.2.1"), at(0));
        }
        assert_eq!(
            limiter.check(ip("192.0.2.1"), at(0)),
            Err(Duration::from_secs(6))
        );
        assert_eq!(
            limiter.check(ip("192.0.2.1"), at(4)),
            Err(Duration::from_secs(2))
        );
        assert_eq!(limiter.check(ip("192.0.2.1"), at(6)), Ok(()));
        limiter.failed(ip("192.0.2.1"), at(6));
        assert!(limiter.check(ip("192.0.2.1"), at(7)).is_err());
        assert_eq!(limiter.check(ip("192.0.2.1"), at(100)), Ok(()));
    }

    #[test]
    fn others_are_not_held_up_and_a_network_counts_as_one() {
        let limiter = Limiter::default();
        for host in 0..Limiter::BURST {
            limiter.failed(ip(&format!("2001:db8::{host}")), at(0));
            limiter.failed(ip("::ffff:192.0.2.1"), at(0));
        }
        assert!(limiter.check(ip("2001:db8::ffff"), at(0)).is_err());
        assert!(limiter.check(ip("2001:db8:0:1::"), at(0)).is_ok());
        assert!(limiter.check(ip("192.0.2.1"), at(0)).is_err());
        assert!(limiter.check(ip("192.0.2.2"), at(0)).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_the_worst_are_remembered() {
        let limiter = Limiter::default();
        for _ in 0..Limiter::BURST {
            limiter.failed(ip("192.0.2.1"), at(0));
        }
        for n in 0..2 * u32::try_from(Limiter::ADDRESSES).expect("small") {
            limiter.failed(IpAddr::from((n + 0x0a00_0000).to_be_bytes()), at(0));
        }
        assert_eq!(limiter.lock().len(), Limiter::ADDRESSES);
        assert!(limiter.check(ip("192.0.2.1"), at(0)).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_free_anybody_nor_lock_anybody_out_for_long() {
        let limiter = Limiter::default();
        for _ in 0..Limiter::BURST {
            limiter.failed(ip("192.0.2.1"), at(1000));
        }
        assert!(limiter.check(ip("192.0.2.1"), at(0)).is_err());
        assert!(limiter.check(ip("192.0.2.1"), at(1006)).is_ok());
    }

    #[test]
    fn refusals_beyond_the_budget_are_counted_and_told_of_later() {
        let budget = AuditBudget::new();
        for _ in 0..AuditBudget::BURST {
            assert_eq!(budget.take(at(0)), Some(0));
        }
        assert_eq!((budget.take(at(0)), budget.take(at(0))), (None, None));
        assert_eq!(budget.take(at(1)), Some(2));
        assert_eq!(budget.take(at(1)), None);
        assert_eq!(budget.take(at(2)), Some(1));
    }
}
