//! How often one address may connect: a token bucket each, in a table that does not grow with
//! the number of addresses that try.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use parking_lot::Mutex;

use crate::config::Limits;

/// The buckets of all addresses.
#[derive(Debug, Default)]
pub(crate) struct ConnectRate {
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    /// When the bucket of an address will be full again. One that is full has no entry.
    full_at: HashMap<IpAddr, Instant, RandomState>,
    swept: Option<Instant>,
}

const SHARDS: usize = 16;
/// Addresses remembered in one shard.
const SHARD_ADDRESSES: usize = 4_096;
/// A full shard is looked through for buckets that have filled up at most this often.
const SWEEP: Duration = Duration::from_millis(100);

impl ConnectRate {
    /// Whether `address` may connect at `now`; if so, that costs it a token.
    pub(crate) fn admit(&self, address: IpAddr, now: Instant, limits: &Limits) -> bool {
        let rate = limits.connect_rate_per_address;
        let address = canonical(address);
        if rate == 0
            || limits
                .connect_rate_exempt
                .iter()
                .any(|net| net.contains(&address))
        {
            return true;
        }
        let token = Duration::from_secs(1) / rate;
        let bucket = token * limits.connect_burst_per_address.max(1);
        let key = network(address);
        let mut shard = self.shards[self.hasher.hash_one(key) as usize % SHARDS].lock();
        let full_at = shard.full_at.get(&key).map_or(now, |at| (*at).max(now)) + token;
        if full_at.saturating_duration_since(now) > bucket {
            return false;
        }
        shard.make_room(&key, now);
        shard.full_at.insert(key, full_at);
        true
    }
}

impl Shard {
    /// Forgets full buckets and, if all are in use, one of them: whoever floods the table with
    /// addresses gets that one a few connections more, and no memory.
    fn make_room(&mut self, key: &IpAddr, now: Instant) {
        if self.full_at.len() < SHARD_ADDRESSES || self.full_at.contains_key(key) {
            return;
        }
        if self
            .swept
            .is_none_or(|at| now.saturating_duration_since(at) >= SWEEP)
        {
            self.swept = Some(now);
            self.full_at.retain(|_, at| *at > now);
        }
        if self.full_at.len() >= SHARD_ADDRESSES
            && let Some(any) = self.full_at.keys().next().copied()
        {
            self.full_at.remove(&any);
        }
    }
}

/// An IPv4 address that came over an IPv6 socket is an IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Who is held to one bucket: an IPv4 address, or the /64 that one IPv6 subscriber has whole.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: u32, burst: u32) -> Limits {
        Limits {
            connect_rate_per_address: rate,
            connect_burst_per_address: burst,
            ..Limits::default()
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn a_burst_is_admitted_and_then_the_rate() {
        let (rates, limits, start) = (ConnectRate::default(), limits(10, 5), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let admitted = |address: &str, ms| rates.admit(ip(address), at(ms), &limits);
        assert_eq!((0..8).filter(|_| admitted("192.0.2.1", 0)).count(), 5);
        assert!(admitted("192.0.2.2", 0), "another address has its own");
        assert!(!admitted("192.0.2.1", 99) && admitted("192.0.2.1", 100));
        assert!(!admitted("192.0.2.1", 150));
        assert_eq!((0..8).filter(|_| admitted("192.0.2.1", 60_000)).count(), 5);
        assert!(!admitted("::ffff:192.0.2.1", 60_000), "the same address");
    }

    #[test]
    fn an_ipv6_subscriber_is_its_whole_network() {
        let (rates, limits, now) = (ConnectRate::default(), limits(1, 1), Instant::now());
        assert!(rates.admit(ip("2001:db8::1"), now, &limits));
        assert!(!rates.admit(ip("2001:db8::2:1"), now, &limits));
        assert!(rates.admit(ip("2001:db8:0:1::1"), now, &limits));
    }

    #[test]
    fn loopback_is_exempt_until_configured_otherwise_and_0_is_no_limit() {
        let (rates, now) = (ConnectRate::default(), Instant::now());
        let mut strict = limits(1, 1);
        assert!((0..9).all(|_| rates.admit(ip("127.0.0.9"), now, &strict)));
        assert!((0..9).all(|_| rates.admit(ip("::1"), now, &strict)));
        strict.connect_rate_exempt.clear();
        assert!(rates.admit(ip("::1"), now, &strict) && !rates.admit(ip("::1"), now, &strict));
        assert!((0..9).all(|_| rates.admit(ip("192.0.2.1"), now, &limits(0, 1))));
    }

    #[test]
    fn the_table_is_bounded_whoever_comes() {
        let (rates, limits, now) = (ConnectRate::default(), limits(1, 1), Instant::now());
        for n in 0..(SHARDS * SHARD_ADDRESSES * 2) as u32 {
            rates.admit(
                std::net::Ipv4Addr::from(n).into(),
                now,
                &Limits {
                    connect_rate_exempt: Vec::new(),
                    ..limits.clone()
                },
            );
        }
        for shard in &rates.shards {
            assert_eq!(shard.lock().full_at.len(), SHARD_ADDRESSES);
        }
    }
}
