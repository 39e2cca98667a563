//! Quantiles of many durations in little memory.

/// Counts by 64 steps for each power of two: what it tells is at most 1.6 % off.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Histogram {
        Histogram {
            counts: vec![0; 64 * 64],
            total: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    pub(crate) fn record(&mut self, value: u64) {
        let place = if value < 64 {
            value as usize
        } else {
            let exponent = 63 - value.leading_zeros() as usize;
            (exponent - 5) * 64 + ((value >> (exponent - 6)) & 63) as usize
        };
        self.counts[place] += 1;
        self.total += 1;
    }

    /// The value below which this part of all lies; 0 of nothing.
    pub(crate) fn quantile(&self, part: f64) -> u64 {
        let wanted = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (place, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let (exponent, step) = (place / 64 + 5, place as u64 % 64);
                return if place < 64 {
                    place as u64
                } else {
                    ((64 + step) << (exponent - 6)) + (1 << (exponent - 6)) / 2
                };
            }
        }
        0
    }
}
