//! Latencies in buckets of three per cent, so that a million of them cost no memory and no time.

use std::time::Duration;

/// How many buckets each doubling has, as a power of two.
const FINE: u32 = 5;
const STEPS: u64 = 1 << FINE;

/// How often each latency was seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    total: u64,
    slowest: Duration,
}

impl Histogram {
    /// Counts one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        let index = bucket(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, 0);
        }
        self.buckets[index] += 1;
        self.total += 1;
        self.slowest = self.slowest.max(latency);
    }

    /// Adds what another one has seen.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.total += other.total;
        self.slowest = self.slowest.max(other.slowest);
    }

    /// The latency that so many of a hundred did not exceed, up to the width of a bucket. Zero if none was seen.
    pub(crate) fn percentile(&self, percent: u64) -> Duration {
        let wanted = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_nanos(upper(index as u64)).min(self.slowest);
            }
        }
        self.slowest
    }

    /// The slowest of all, exactly.
    pub(crate) fn slowest(&self) -> Duration {
        self.slowest
    }
}

/// The bucket of a number of nanoseconds: exact below `STEPS`, then `STEPS` to each doubling.
fn bucket(nanoseconds: u64) -> usize {
    let above = nanoseconds.checked_ilog2().unwrap_or(0).saturating_sub(FINE);
    let index = u64::from(above) * STEPS + (nanoseconds >> above);
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// The largest number of nanoseconds in a bucket.
fn upper(index: u64) -> u64 {
    if index < 2 * STEPS {
        return index;
    }
    let above = index / STEPS - 1;
    let first = (index % STEPS + STEPS) << above;
    first + ((1 << above) - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::default().percentile(99), Duration::ZERO);
    }

    #[test]
    fn the_percentiles_of_a_thousand_milliseconds_are_near_their_place() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        let (half, most) = (histogram.percentile(50).as_secs_f64(), histogram.percentile(99).as_secs_f64());
        assert!((0.5..0.52).contains(&half) && (0.99..=1.0).contains(&most), "{half} {most}");
        assert_eq!(histogram.slowest(), Duration::from_secs(1));
    }

    #[test]
    fn two_that_are_merged_have_seen_what_both_saw() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        (0..99).for_each(|_| one.record(Duration::from_micros(10)));
        other.record(Duration::from_secs(5));
        one.merge(&other);
        assert!(one.percentile(99) < Duration::from_micros(11));
        assert_eq!(one.percentile(100), Duration::from_secs(5));
    }

    proptest! {
        #[test]
        fn a_number_is_at_most_three_per_cent_below_the_end_of_its_bucket(nanoseconds in 0..u64::MAX / 2) {
            let end = upper(bucket(nanoseconds) as u64);
            prop_assert!(end >= nanoseconds);
            prop_assert!(end - nanoseconds <= nanoseconds / STEPS);
            prop_assert!(bucket(nanoseconds) <= bucket(nanoseconds + 1));
        }
    }
}
