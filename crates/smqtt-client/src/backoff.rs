//! How long to wait before the next attempt to connect.

use std::time::Duration;

use rand::{Rng, RngExt};

/// Exponential backoff with full jitter: the n-th wait is uniform in `[least, ceiling(n)]`, where the
/// ceiling doubles from `first` up to `most`. Devices that lost the same broker at the same moment
/// therefore do not come back at the same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The shortest wait. Default: 100 ms.
    pub least: Duration,
    /// The ceiling of the first wait. Default: 1 s.
    pub first: Duration,
    /// The ceiling that no wait exceeds. Default: 60 s.
    pub most: Duration,
    /// How long to keep trying after a loss; `None`: for ever. Default: for ever.
    pub give_up: Option<Duration>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            least: Duration::from_millis(100),
            first: Duration::from_secs(1),
            most: Duration::from_secs(60),
            give_up: None,
        }
    }
}

impl Backoff {
    /// The wait before attempt number `attempt`, counted from 0.
    pub(crate) fn wait<R: Rng + ?Sized>(&self, attempt: u32, rng: &mut R) -> Duration {
        let ceiling = self
            .first
            .saturating_mul(1u32.checked_shl(attempt).unwrap_or(u32::MAX))
            .min(self.most)
            .max(self.least);
        let least = u64::try_from(self.least.as_millis()).unwrap_or(u64::MAX);
        let ceiling = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(rng.random_range(least..=ceiling))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_between_the_least_and_a_ceiling_that_doubles() {
        let backoff = Backoff::default();
        let mut rng = rand::rng();
        for attempt in 0..200 {
            let ceiling = match attempt {
                0 => Duration::from_secs(1),
                1 => Duration::from_secs(2),
                2 => Duration::from_secs(4),
                _ => backoff.most,
            };
            for _ in 0..20 {
                let wait = backoff.wait(attempt, &mut rng);
                assert!(
                    wait >= backoff.least && wait <= ceiling,
                    "{attempt}: {wait:?}"
                );
            }
        }
    }

    #[test]
    fn waits_are_spread() {
        let mut rng = rand::rng();
        let waits: std::collections::HashSet<_> = (0..50)
            .map(|_| Backoff::default().wait(5, &mut rng))
            .collect();
        assert!(waits.len() > 25, "{waits:?}");
    }
}
