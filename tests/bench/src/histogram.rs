//! Latencies, counted in buckets whose width grows with the value.
//!
//! Values below 128 µs have a bucket each; above, 64 buckets to each power of two, so a percentile is at most 1.6 %
//! too high. Constant in memory, whatever the number of requests.

use std::time::Duration;

/// Buckets to a power of two.
const STEPS: u64 = 64;
/// Values below this have a bucket each.
const EXACT: u64 = 2 * STEPS;
/// Enough buckets for 2^36 µs, some 19 hours.
const BUCKETS: usize = 64 * 31;

/// Counted latencies.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    greatest: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, greatest: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
        self.greatest = self.greatest.max(micros);
    }

    /// How many were counted.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The greatest, in microseconds.
    #[must_use]
    pub const fn greatest(&self) -> u64 {
        self.greatest
    }

    /// The least value, in microseconds, that this many thousandths of all latencies do not exceed; `None` if there
    /// are none.
    #[must_use]
    pub fn permille(&self, permille: u64) -> Option<u64> {
        if self.total == 0 {
            return None;
        }
        let wanted = (self.total * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let index = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(upper(index).min(self.greatest))
    }
}

/// The bucket of a value.
fn bucket(micros: u64) -> usize {
    if micros < EXACT {
        return usize::try_from(micros).unwrap_or(0);
    }
    let power = u64::from(micros.ilog2());
    let shift = power - u64::from(STEPS.ilog2());
    let index = shift * STEPS + (micros >> shift);
    usize::try_from(index).map_or(BUCKETS - 1, |index| index.min(BUCKETS - 1))
}

/// The greatest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < EXACT {
        return index;
    }
    let shift = index / STEPS - 1;
    ((index - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_its_bucket_and_no_bucket_is_wider_than_a_64th() {
        for micros in (0..5000).chain([65_535, 65_536, 1_000_000, 59_999_999, 3_600_000_000]) {
            let upper = upper(bucket(micros));
            assert!(upper >= micros && upper - micros <= micros / 64, "{micros} in a bucket up to {upper}");
        }
    }

    #[test]
    fn buckets_follow_one_another() {
        let mut last = 0;
        for micros in 0..100_000 {
            let index = bucket(micros);
            assert!(index == last || index == last + 1, "{micros}: {last} then {index}");
            last = index;
        }
    }

    #[test]
    fn percentiles_are_the_least_value_that_enough_do_not_exceed() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.permille(500), None);
        for micros in 1..=100 {
            histogram.record(Duration::from_micros(micros));
        }
        for (permille, expected) in [(500, 50), (990, 99), (999, 100), (1000, 100), (0, 1)] {
            assert_eq!(histogram.permille(permille), Some(expected), "{permille}");
        }
    }

    #[test]
    fn the_unbelievable_is_counted_too() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        assert_eq!((histogram.total(), histogram.permille(500).is_some()), (1, true));
    }
}
