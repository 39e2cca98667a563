//! Limits on what one address or one token may try.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use smqtt_pki::UnixTime;

/// How many addresses, or tokens, are remembered.
const ROOM: usize = 4096;

/// Counts failures per address and says who has to wait.
///
/// An address (of IPv6: its /64 network, which is what one customer has) may fail [`Limiter::BURST`] times at once, and then
/// once every [`Limiter::PAUSE`]. Who does not fail is never held up. Memory is bounded by [`Limiter::ADDRESSES`].
#[derive(Debug)]
pub struct Limiter(Buckets<IpAddr>);

impl Default for Limiter {
    fn default() -> Self {
        Self(Buckets::new(FAILURES))
    }
}

impl Limiter {
    /// How many failures are let pass at once.
    pub const BURST: u32 = 10;
    /// How long one failure takes to be forgotten.
    pub const PAUSE: Duration = Duration::from_secs(6);
    /// How many addresses are remembered.
    pub const ADDRESSES: usize = ROOM;

    /// Whether the address may try now.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn check(&self, address: IpAddr, now: UnixTime) -> Result<(), Duration> {
        self.0.check(&network(address), now)
    }

    /// Notes a failure of the address.
    pub fn failed(&self, address: IpAddr, now: UnixTime) {
        self.0.charge(network(address), now);
    }
}

/// What is let pass of failures.
const FAILURES: Rate = Rate {
    burst: Limiter::BURST,
    amount: 1,
    period: Limiter::PAUSE.as_secs(),
};

/// All limits of a service.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Failures per address.
    pub(crate) failures: Limiter,
    /// Failures per token, from whatever addresses they come.
    tokens: Buckets<[u8; 32]>,
    /// Requests per address; none: as many as it likes.
    requests: Option<Buckets<IpAddr>>,
}

impl Limits {
    /// How long an address can ask at more than its rate: this many seconds' worth at once.
    const BURST_SECONDS: u32 = 10;

    pub(crate) fn new(requests_per_second: Option<NonZeroU32>) -> Self {
        let rate = |amount: NonZeroU32| Rate {
            burst: amount.get().saturating_mul(Self::BURST_SECONDS),
            amount: amount.get(),
            period: 1,
        };
        Self {
            failures: Limiter::default(),
            tokens: Buckets::new(FAILURES),
            requests: requests_per_second.map(|amount| Buckets::new(rate(amount))),
        }
    }

    /// Whether the address may ask once more.
    pub(crate) fn request(&self, address: IpAddr, now: UnixTime) -> Result<(), Duration> {
        match &self.requests {
            None => Ok(()),
            Some(requests) => requests.take(network(address), now),
        }
    }

    /// Whether the token with this digest may be tried.
    pub(crate) fn token(&self, digest: &[u8; 32], now: UnixTime) -> Result<(), Duration> {
        self.tokens.check(digest, now)
    }

    /// Notes a failure with this token.
    pub(crate) fn token_failed(&self, digest: [u8; 32], now: UnixTime) {
        self.tokens.charge(digest, now);
    }
}

/// So many at once, then so many in each period.
#[derive(Clone, Copy, Debug)]
struct Rate {
    burst: u32,
    amount: u32,
    /// In seconds.
    period: u64,
}

/// What each of many has done lately. Of more than [`ROOM`] those are forgotten that have done the least.
#[derive(Debug)]
struct Buckets<K> {
    rate: Rate,
    buckets: Mutex<HashMap<K, Bucket>>,
}

impl<K: Eq + Hash + Clone> Buckets<K> {
    fn new(rate: Rate) -> Self {
        Self {
            rate,
            buckets: Mutex::new(HashMap::new()),
        }
    }

    fn check(&self, key: &K, now: UnixTime) -> Result<(), Duration> {
        let mut buckets = self.lock();
        match buckets.get_mut(key) {
            None => Ok(()),
            Some(bucket) => bucket.check(now, self.rate),
        }
    }

    fn charge(&self, key: K, now: UnixTime) {
        let mut buckets = self.lock();
        self.bucket(&mut buckets, key, now).charge();
    }

    /// Charges one if that is let pass.
    fn take(&self, key: K, now: UnixTime) -> Result<(), Duration> {
        let mut buckets = self.lock();
        let bucket = self.bucket(&mut buckets, key, now);
        bucket.check(now, self.rate)?;
        bucket.charge();
        Ok(())
    }

    fn bucket<'a>(
        &self,
        buckets: &'a mut HashMap<K, Bucket>,
        key: K,
        now: UnixTime,
    ) -> &'a mut Bucket {
        if buckets.len() >= ROOM && !buckets.contains_key(&key) {
            for bucket in buckets.values_mut() {
                bucket.drain(now, self.rate);
            }
            buckets.retain(|_, bucket| bucket.level > 0);
            // Still full: somebody has many addresses. The one closest to being forgotten makes room.
            if buckets.len() >= ROOM {
                let least = buckets
                    .iter()
                    .min_by_key(|(_, bucket)| bucket.level)
                    .map(|(n, _)| n.clone());
                least.map(|n| buckets.remove(&n));
            }
        }
        let bucket = buckets.entry(key).or_insert_with(|| Bucket::new(now));
        bucket.drain(now, self.rate);
        bucket
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Bucket>> {
        // The map is whole after a panic elsewhere: nothing in here panics halfway.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many refusals may still be written to the audit log: the log must not be anybody's means to fill the disk.
#[derive(Debug)]
pub(crate) struct AuditBudget(Mutex<(Bucket, u64)>);

impl AuditBudget {
    const BURST: u32 = 200;
    const RATE: Rate = Rate {
        burst: Self::BURST,
        amount: 1,
        period: 1,
    };

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
        if bucket.check(now, Self::RATE).is_err() {
            *left_out += 1;
            return None;
        }
        bucket.charge();
        Some(std::mem::take(left_out))
    }
}

/// What was done, and is forgotten bit by bit.
#[derive(Debug)]
struct Bucket {
    level: u32,
    /// From when the next period counts, in seconds since 1970.
    since: u64,
}

impl Bucket {
    fn new(now: UnixTime) -> Self {
        Self {
            level: 0,
            since: now.as_secs(),
        }
    }

    fn charge(&mut self) {
        self.level = self.level.saturating_add(1);
    }

    fn check(&mut self, now: UnixTime, rate: Rate) -> Result<(), Duration> {
        self.drain(now, rate);
        if self.level < rate.burst {
            return Ok(());
        }
        let next = (self.since + rate.period).saturating_sub(now.as_secs());
        Err(Duration::from_secs(next.max(1)))
    }

    fn drain(&mut self, now: UnixTime, rate: Rate) {
        let periods = now.as_secs().saturating_sub(self.since) / rate.period;
        let forgotten = u32::try_from(periods)
            .unwrap_or(u32::MAX)
            .saturating_mul(rate.amount);
        self.level = self.level.saturating_sub(forgotten);
        self.since = if self.level == 0 {
            now.as_secs()
        } else {
            self.since + periods * rate.period
        };
    }
}

/// What counts as one address.
pub(crate) fn network(address: IpAddr) -> IpAddr {
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
        assert_eq!(limiter.0.lock().len(), Limiter::ADDRESSES);
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

    #[test]
    fn requests_and_tokens_have_limits_of_their_own() {
        let limits = Limits::new(NonZeroU32::new(2));
        for _ in 0..20 {
            assert_eq!(limits.request(ip("192.0.2.1"), at(0)), Ok(()));
        }
        let second = Duration::from_secs(1);
        assert_eq!(limits.request(ip("192.0.2.1"), at(0)), Err(second));
        assert_eq!(limits.request(ip("192.0.2.2"), at(0)), Ok(()));
        for (asked, answer) in [(1, Ok(())), (1, Ok(())), (1, Err(second)), (9, Ok(()))] {
            assert_eq!(limits.request(ip("192.0.2.1"), at(asked)), answer);
        }
        assert_eq!(Limits::new(None).request(ip("192.0.2.1"), at(0)), Ok(()));

        for _ in 0..Limiter::BURST {
            limits.token_failed([1; 32], at(0));
        }
        assert_eq!(limits.token(&[1; 32], at(0)), Err(Limiter::PAUSE));
        assert_eq!(limits.token(&[2; 32], at(0)), Ok(()));
        assert_eq!(limits.token(&[1; 32], at(6)), Ok(()));
    }
}
