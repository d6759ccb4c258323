//! Times that were measured, as a histogram that can be stored, merged and drawn.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::alarm::Nanos;

/// Measured times, to three digits, from a tenth of a microsecond to a minute.
#[derive(Clone, Debug)]
pub struct Times {
    histogram: Histogram<u64>,
}

/// The percentiles that reports name.
pub const PERCENTILES: [(&str, f64); 5] =
    [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9), ("max", 100.0)];

/// Some percentiles of [`Times`], in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many were measured.
    pub count: u64,
    /// At [`PERCENTILES`].
    pub percentiles: Vec<f64>,
    /// The curve: how many of 100 lie at or below so many microseconds. Steps get finer towards
    /// 100.
    pub curve: Vec<(f64, f64)>,
}

impl Summary {
    /// Takes the worse of each percentile of the two; the curve is that of the one with the worse
    /// end.
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
    /// Takes one in.
    #[inline]
    pub fn record(&mut self, time: Nanos) {
        self.histogram.saturating_record(time);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// What a report says of them.
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
    fn percentiles_are_those_of_what_was_recorded() {
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
