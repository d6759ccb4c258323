//! Percentiles of the last second and the last interval, and the buckets for Prometheus, from the
//! histograms of the shards.

use bandsync_driver::{Histograms, LongestTurn};
use hdrhistogram::Histogram;
use serde::Serialize;

/// Number of histograms.
pub const HISTOGRAM_COUNT: usize = 5;
/// The names of all histograms, in the order of [`Histograms::all`].
pub const NAMES: [&str; HISTOGRAM_COUNT] =
    ["handler", "tickLateness", "turn", "roundTrip", "mailbox"];

/// Indices of single gauges.
pub const HANDLER: usize = 0;
/// Index of the lateness of ticks.
pub const TICK_LATENESS: usize = 1;
/// Index of the duration of turns.
pub const TURN: usize = 2;
/// Index of the round trips to clients.
pub const ROUND_TRIP: usize = 3;
/// Index of the time that mail between shards waits.
pub const MAILBOX: usize = 4;

/// Upper bounds of the buckets of times, in nanoseconds: 1, 2.5 and 5 of each power of ten from 1
/// µs to 10 s. They never change, so that counts of different days can be added.
pub const TIME_BUCKETS: [u64; 22] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Upper bounds of the buckets of connections.
pub const DEPTH_BUCKETS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// Returns the upper bounds of a gauge's buckets.
pub fn buckets(gauge: usize) -> &'static [u64] {
    if gauge == MAILBOX { &DEPTH_BUCKETS } else { &TIME_BUCKETS }
}

/// The distribution of some values. Times are in milliseconds, counts are counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Number of values.
    pub count: u64,
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    fn of(histogram: &Histogram<u64>, unit: f64) -> Self {
        let at = |quantile| rounded(histogram.value_at_quantile(quantile) as f64 / unit);
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            count: histogram.len(),
            mean: rounded(histogram.mean() / unit),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
        }
    }

    /// Returns `value`, or `None` if nothing was measured.
    pub fn if_any(&self, value: f64) -> Option<f64> {
        (self.count > 0).then_some(value)
    }
}

/// The distributions of all gauges.
pub type Spreads = [Spread; HISTOGRAM_COUNT];

/// Counts since the start, which Prometheus adds up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Values per bucket, without those of lower buckets. Values above all buckets are only in
    /// `count`.
    pub buckets: Vec<u64>,
    /// Number of values.
    pub count: u64,
    /// Sum in nanoseconds, or connections. The values are exact within one percent.
    pub sum: u64,
}

/// The measurements of one shard, or of all shards.
pub struct Meter {
    second: [Histogram<u64>; HISTOGRAM_COUNT],
    interval: [Histogram<u64>; HISTOGRAM_COUNT],
    last: Spreads,
    totals: [Totals; HISTOGRAM_COUNT],
    /// The longest turn of this interval so far, and of the last one.
    longest_turn: LongestTurn,
    last_longest_turn: LongestTurn,
}

impl Meter {
    /// Creates a meter without measurements.
    pub fn new() -> Self {
        Self {
            second: std::array::from_fn(|_| empty()),
            interval: std::array::from_fn(|_| empty()),
            last: Spreads::default(),
            totals: std::array::from_fn(|gauge| Totals {
                buckets: vec![0; buckets(gauge).len()],
                ..Totals::default()
            }),
            longest_turn: LongestTurn::default(),
            last_longest_turn: LongestTurn::default(),
        }
    }

    /// Adds the measurements of a shard.
    pub fn add(&mut self, gauges: &Histograms) {
        self.longest_turn = self.longest_turn.or(gauges.longest_turn);
        for (gauge, measured) in gauges.all().into_iter().enumerate() {
            for value in measured.iter_recorded() {
                let (at, count) = (value.value_iterated_to(), u64::from(value.count_at_value()));
                self.second[gauge].saturating_record_n(at, count);
                self.totals[gauge].add(buckets(gauge), at, count);
            }
        }
    }

    /// Ends a second and returns its distributions.
    pub fn end_second(&mut self) -> Spreads {
        let spreads = std::array::from_fn(|gauge| Spread::of(&self.second[gauge], unit(gauge)));
        for (second, interval) in self.second.iter_mut().zip(&mut self.interval) {
            // Both histograms have the same bounds, so one can be added to the other.
            let added = interval.add(&*second);
            assert!(added.is_ok(), "histograms have the same bounds");
            second.reset();
        }
        spreads
    }

    /// Ends an interval.
    pub fn end_interval(&mut self) {
        self.last = self.running();
        self.last_longest_turn = std::mem::take(&mut self.longest_turn);
        self.interval.iter_mut().for_each(Histogram::reset);
    }

    /// Returns the distributions of the last interval. With `first`, those of the first interval so
    /// far.
    pub fn spreads(&self, first: bool) -> Spreads {
        if first { self.running() } else { self.last }
    }

    /// Returns the longest turn of the last interval. With `first`, that of the first interval so
    /// far.
    pub fn longest_turn(&self, first: bool) -> LongestTurn {
        if first { self.longest_turn } else { self.last_longest_turn }
    }

    /// Returns all values since the start, by histogram.
    pub fn totals(&self) -> &[Totals; HISTOGRAM_COUNT] {
        &self.totals
    }

    fn running(&self) -> Spreads {
        std::array::from_fn(|gauge| Spread::of(&self.interval[gauge], unit(gauge)))
    }
}

impl Totals {
    fn add(&mut self, bounds: &[u64], value: u64, count: u64) {
        let index = bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get_mut(index) {
            *bucket += count;
        }
        self.count += count;
        self.sum = self.sum.saturating_add(value.saturating_mul(count));
    }
}

fn empty() -> Histogram<u64> {
    let made = Histogram::new_with_bounds(1, 60_000_000_000, 2);
    made.unwrap_or_else(|error| panic!("the bounds are ours: {error}"))
}

/// Number of measured units in one displayed unit.
fn unit(gauge: usize) -> f64 {
    if gauge == MAILBOX { 1.0 } else { 1_000_000.0 }
}

/// Rounds to a millionth of the unit; of a millisecond, that is a nanosecond.
fn rounded(value: f64) -> f64 {
    (value * 1_000_000.0).round() / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use bandsync_driver::TurnPhase;

    use super::*;

    fn measured(nanos: impl IntoIterator<Item = u64>) -> Histograms {
        let mut gauges = Histograms::new();
        for value in nanos {
            gauges.round_trip.saturating_record(value);
        }
        gauges
    }

    #[test]
    fn the_longest_turn_is_that_of_the_last_interval() {
        let turn = |nanos| {
            let phase = TurnPhase::Writes;
            let longest_turn = LongestTurn { nanos, phase, phase_nanos: nanos / 2 };
            Histograms { longest_turn, ..Histograms::new() }
        };
        let mut meter = Meter::new();
        for nanos in [3, 9, 4] {
            meter.add(&turn(nanos));
        }
        assert_eq!((meter.longest_turn(true).nanos, meter.longest_turn(false).nanos), (9, 0));
        meter.end_interval();
        meter.add(&turn(5));
        assert_eq!(meter.longest_turn(false), turn(9).longest_turn);
        meter.end_interval();
        assert_eq!(meter.longest_turn(false).nanos, 5);
    }

    #[test]
    fn percentiles_are_accurate_within_one_percent() {
        let mut meter = Meter::new();
        meter.add(&measured((1..=1_000).map(|n| n * 1_000_000)));
        let spread = meter.end_second()[ROUND_TRIP];
        assert_eq!(spread.count, 1_000);
        for (value, expected) in [
            (spread.p50, 500.0),
            (spread.p99, 990.0),
            (spread.p999, 999.0),
            (spread.max, 1_000.0),
            (spread.mean, 500.5),
        ] {
            assert!((value / expected - 1.0).abs() < 0.011, "{value} for {expected}");
        }
    }

    #[test]
    fn seconds_and_intervals_are_reset_and_totals_are_not() {
        let mut meter = Meter::new();
        meter.add(&measured([2_000_000, 3_000_000]));
        assert_eq!(meter.end_second()[ROUND_TRIP].count, 2);
        meter.add(&measured([40_000_000]));
        assert_eq!(meter.end_second()[ROUND_TRIP].count, 1);
        assert_eq!(meter.spreads(true)[ROUND_TRIP].count, 3, "the first interval so far");
        meter.end_interval();
        assert_eq!(meter.spreads(false)[ROUND_TRIP].count, 3);
        assert_eq!(meter.end_second()[ROUND_TRIP], Spread::default());
        meter.end_interval();
        assert_eq!(meter.spreads(false)[ROUND_TRIP].count, 0);
        assert_eq!(meter.totals()[ROUND_TRIP].count, 3);
    }

    #[test]
    fn a_value_counts_in_the_lowest_bucket_that_holds_it() {
        let mut totals = Totals { buckets: vec![0; 3], ..Totals::default() };
        for value in [0, 1, 2, 4, 5, 1_000] {
            totals.add(&[1, 2, 4], value, 1);
        }
        assert_eq!((totals.buckets, totals.count, totals.sum), (vec![2, 1, 1], 6, 1_012));
    }

    #[test]
    fn bucket_limits_are_strictly_increasing() {
        for (gauge, name) in NAMES.into_iter().enumerate() {
            assert!(buckets(gauge).is_sorted_by(|a, b| a < b), "{name}");
        }
    }
}
