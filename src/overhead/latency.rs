//! Latencies: how they are collected in runs, and what is told of all of them together.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{figures::Percentiles, real};
use crate::limits;

/// Two significant digits: a hundredth is far below what a machine differs from run to run.
const DIGITS: u8 = 2;

/// Points of a curve, by the share of what is slower: each one has ten times less above it than the one of three before.
const CURVE: [f64; 14] =
    [0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.75, 99.9, 99.95, 99.99, 100.0];

/// A histogram of nanoseconds, up to a minute.
#[must_use]
pub fn empty() -> Histogram<u64> {
    Histogram::new_with_bounds(1, limits::HISTOGRAM_NS_MAX, DIGITS)
        .expect("bounds and digits that are possible")
}

/// Counts one operation. What took longer than a histogram tells apart counts as the longest.
pub fn record(into: &mut Histogram<u64>, took: Duration) {
    add(into, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), 1);
}

/// Counts so many operations that took so many nanoseconds.
pub fn add(into: &mut Histogram<u64>, ns: u64, count: u64) {
    into.saturating_record_n(ns.max(1), count);
}

/// Nanoseconds, and how many took so long, rising.
#[must_use]
pub fn counts(of: &Histogram<u64>) -> Vec<(u64, u64)> {
    of.iter_recorded().map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).collect()
}

/// What is told of them; nothing of none.
#[must_use]
pub fn percentiles(of: &Histogram<u64>) -> Option<Percentiles> {
    let us = |percent: f64| real(of.value_at_percentile(percent)) / 1000.0;
    (!of.is_empty()).then(|| Percentiles {
        p50: us(50.0),
        p99: us(99.0),
        p999: us(99.9),
        curve: CURVE.map(|percent| (percent, us(percent))).to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_again_within_a_hundredth() {
        let mut histogram = empty();
        for us in 1..=1000 {
            record(&mut histogram, Duration::from_micros(us));
        }
        let mut again = empty();
        counts(&histogram).into_iter().for_each(|(ns, count)| add(&mut again, ns, count));
        for histogram in [&histogram, &again] {
            let told = percentiles(histogram).unwrap();
            for (figure, expected) in [(told.p50, 500.0), (told.p99, 990.0), (told.p999, 999.0)] {
                assert!((figure / expected - 1.0_f64).abs() < 0.02, "{figure} is not {expected}");
            }
            assert!(
                told.curve.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1),
                "{:?}",
                told.curve
            );
        }
        assert_eq!(percentiles(&empty()), None);
    }

    #[test]
    fn a_latency_beyond_a_minute_counts_as_a_minute() {
        let mut histogram = empty();
        record(&mut histogram, Duration::from_secs(3600));
        assert!((percentiles(&histogram).unwrap().p50 / 6e7 - 1.0).abs() < 0.02);
    }
}
