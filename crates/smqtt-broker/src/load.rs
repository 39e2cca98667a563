//! Load averages: how much happens a minute, over the last one, five and fifteen.

use std::time::Duration;

/// The averages of one counter.
#[derive(Debug, Default)]
pub(crate) struct Load {
    total: u64,
    averages: [f64; 3],
}

/// Minutes that an average is over, with its name.
pub(crate) const PERIODS: [(f64, &str); 3] = [(1.0, "1min"), (5.0, "5min"), (15.0, "15min")];

impl Load {
    /// Takes the counter's value `elapsed` after the one before, and returns the averages: each
    /// decays exponentially, as a system's load averages do.
    pub(crate) fn update(&mut self, total: u64, elapsed: Duration) -> [f64; 3] {
        let minutes = elapsed.as_secs_f64() / 60.0;
        if minutes > 0.0 {
            let now = total.wrapping_sub(self.total) as f64 / minutes;
            for (average, (period, _)) in self.averages.iter_mut().zip(PERIODS) {
                *average = now + (-minutes / period).exp() * (*average - now);
            }
            self.total = total;
        }
        self.averages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_approached_and_silence_decays() {
        let mut load = Load::default();
        let ten = Duration::from_secs(10);
        assert_eq!(load.update(0, Duration::ZERO), [0.0; 3]);
        let mut total = 0;
        let mut averages = [0.0; 3];
        for _ in 0..6 {
            total += 10;
            averages = load.update(total, ten);
        }
        // A minute of 60 a minute: the shorter the period, the nearer.
        let expected = [1.0_f64, 5.0, 15.0].map(|period| 60.0 * (1.0 - (-1.0 / period).exp()));
        for (average, expected) in averages.iter().zip(expected) {
            assert!((average - expected).abs() < 1e-9, "{average} {expected}");
        }
        for _ in 0..600 {
            averages = load.update(total, ten);
        }
        assert!(averages[0] < 1e-9 && averages[1] < 1e-3);
    }
}
