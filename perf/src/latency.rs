//! Measured times as a histogram that can be stored, merged and drawn.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::timer_fd::Nanos;

/// Measured times, with three digits, from 0.1 µs to a minute.
#[derive(Clone, Debug)]
pub struct Times {
    histogram: Histogram<u64>,
}

/// The percentiles in reports.
pub const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];

/// Percentiles of [`Times`], in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of measured times.
    pub count: u64,
    /// Values of [`PERCENTILES`].
    pub percentiles: Vec<f64>,
    /// The curve: percent of the times that are at most this many microseconds. Steps get finer
    /// towards 100.
    pub curve: Vec<(f64, f64)>,
}

impl Summary {
    /// Takes the worse value of each percentile, and the curve with the worse end.
    pub fn worsen(&mut self, other: &Self) {
        self.count += other.count;
        if other.percentiles.last() > self.percentiles.last() {
            self.curve.clone_from(&other.curve);
        }
        for (own, other) in self.percentiles.iter_mut().zip(&other.percentiles) {
            *own = own.max(*other);
        }
    }
}

impl Default for Times {
    fn default() -> Self {
        let Ok(histogram) = Histogram::new_with_bounds(100, 60_000_000_000, 3) else {
            panic!("the bounds are fixed and in order")
        };
        Self { histogram }
    }
}

impl Times {
    /// Adds a time.
    #[inline]
    pub fn record(&mut self, time: Nanos) {
        self.histogram.saturating_record(time);
    }

    /// Number of times.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// Returns the percentiles and the curve.
    pub fn summary(&self) -> Summary {
        let micros = |nanos: u64| nanos as f64 / 1_000.0;
        let at = |percentile| micros(self.histogram.value_at_percentile(percentile));
        let mut summary = Summary { count: self.count(), ..Summary::default() };
        if summary.count > 0 {
            summary.percentiles =
                PERCENTILES.iter().map(|(_, percentile)| at(*percentile)).collect();
            let steps = self.histogram.iter_quantiles(5);
            summary.curve =
                steps.map(|step| (step.percentile(), micros(step.value_iterated_to()))).collect();
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_match_the_recorded_values() {
        let mut times = Times::default();
        (1..=1_000).for_each(|n| times.record(n * 1_000));
        let summary = times.summary();
        assert_eq!(summary.count, 1_000);
        let expected = [500.0, 900.0, 990.0, 999.0, 1_000.0];
        for (found, expected) in summary.percentiles.iter().zip(expected) {
            assert!((found - expected).abs() < 2.0, "{summary:?}");
        }
        assert!(summary.curve.is_sorted());
        assert_eq!(Times::default().summary(), Summary::default());
    }
}
