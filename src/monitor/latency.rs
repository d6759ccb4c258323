//! From the shards' histograms to percentiles of the last second and of the last interval, and to
//! the buckets that Prometheus adds up.

use bandsync_driver::Histograms;
use hdrhistogram::Histogram;
use serde::Serialize;

/// How many things are measured, and their names in the order of [`Histograms::all`].
pub const GAUGES: usize = 5;
/// The names of all gauges, in the order of [`Histograms::all`].
pub const NAMES: [&str; GAUGES] = ["handler", "tickLateness", "turn", "roundTrip", "mailbox"];

/// The places of some of them.
pub const HANDLER: usize = 0;
/// The index of: how late ticks were.
pub const TICK_LATENESS: usize = 1;
/// The index of: how long turns took.
pub const TURN: usize = 2;
/// The index of: round trips to clients.
pub const ROUND_TRIP: usize = 3;
/// The index of: how long mail between shards waited.
pub const MAILBOX: usize = 4;

/// The upper bounds of the buckets of times, in nanoseconds: 1, 2.5 and 5 of each power of ten from
/// a microsecond to ten seconds. They never change, so that counts of different days can be added.
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

/// Of counts of connections.
pub const DEPTH_BUCKETS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// The upper bounds of one thing's buckets.
pub fn buckets(gauge: usize) -> &'static [u64] {
    if gauge == MAILBOX { &DEPTH_BUCKETS } else { &TIME_BUCKETS }
}

/// How values are spread. Times are in milliseconds, counts are counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// How many values there are.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Their median.
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

    /// A value, or nothing if nothing was measured.
    pub fn if_any(&self, value: f64) -> Option<f64> {
        (self.count > 0).then_some(value)
    }
}

/// All five.
pub type Spreads = [Spread; GAUGES];

/// Counts since the start, to be added up by others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// In each bucket, the ones below not included; what is above all buckets counts in `count`
    /// only.
    pub buckets: Vec<u64>,
    /// How many values there are.
    pub count: u64,
    /// In nanoseconds, or connections; from values that are true within one percent.
    pub sum: u64,
}

/// What one shard, or all together, measured.
pub struct Meter {
    second: [Histogram<u64>; GAUGES],
    interval: [Histogram<u64>; GAUGES],
    last: Spreads,
    totals: [Totals; GAUGES],
}

impl Meter {
    /// A meter that has measured nothing.
    pub fn new() -> Self {
        Self {
            second: std::array::from_fn(|_| empty()),
            interval: std::array::from_fn(|_| empty()),
            last: Spreads::default(),
            totals: std::array::from_fn(|gauge| Totals {
                buckets: vec![0; buckets(gauge).len()],
                ..Totals::default()
            }),
        }
    }

    /// Adds what a shard measured.
    pub fn add(&mut self, gauges: &Histograms) {
        for (gauge, measured) in gauges.all().into_iter().enumerate() {
            for value in measured.iter_recorded() {
                let (at, count) = (value.value_iterated_to(), u64::from(value.count_at_value()));
                self.second[gauge].saturating_record_n(at, count);
                self.totals[gauge].add(buckets(gauge), at, count);
            }
        }
    }

    /// Ends a second: its values, and from now on the next one's.
    pub fn end_second(&mut self) -> Spreads {
        let spreads = std::array::from_fn(|gauge| Spread::of(&self.second[gauge], unit(gauge)));
        for (second, interval) in self.second.iter_mut().zip(&mut self.interval) {
            // Both were made alike, so one fits into the other.
            let added = interval.add(&*second);
            assert!(added.is_ok(), "histograms are made alike");
            second.reset();
        }
        spreads
    }

    /// Ends an interval.
    pub fn end_interval(&mut self) {
        self.last = self.running();
        self.interval.iter_mut().for_each(Histogram::reset);
    }

    /// The last interval; before there is one, what there is of the first.
    pub fn spreads(&self, first: bool) -> Spreads {
        if first { self.running() } else { self.last }
    }

    /// All values since the start, by gauge.
    pub fn totals(&self) -> &[Totals; GAUGES] {
        &self.totals
    }

    fn running(&self) -> Spreads {
        std::array::from_fn(|gauge| Spread::of(&self.interval[gauge], unit(gauge)))
    }
}

impl Totals {
    fn add(&mut self, bounds: &[u64], value: u64, count: u64) {
        let place = bounds.partition_point(|bound| *bound < value);
        if let Some(bucket) = self.buckets.get_mut(place) {
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

/// How many of what is measured make one of what is shown.
fn unit(gauge: usize) -> f64 {
    if gauge == MAILBOX { 1.0 } else { 1_000_000.0 }
}

/// To a millionth of the unit, which is a nanosecond.
fn rounded(value: f64) -> f64 {
    (value * 1_000_000.0).round() / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(nanos: impl IntoIterator<Item = u64>) -> Histograms {
        let mut gauges = Histograms::new();
        for value in nanos {
            gauges.round_trip.saturating_record(value);
        }
        gauges
    }

    #[test]
    fn percentiles_are_true_within_a_hundredth() {
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
    fn a_second_and_an_interval_begin_anew_and_totals_do_not() {
        let mut meter = Meter::new();
        meter.add(&measured([2_000_000, 3_000_000]));
        assert_eq!(meter.end_second()[ROUND_TRIP].count, 2);
        meter.add(&measured([40_000_000]));
        assert_eq!(meter.end_second()[ROUND_TRIP].count, 1);
        assert_eq!(meter.spreads(true)[ROUND_TRIP].count, 3, "what there is of the first interval");
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
    fn buckets_rise() {
        for (gauge, name) in NAMES.into_iter().enumerate() {
            assert!(buckets(gauge).is_sorted_by(|a, b| a < b), "{name}");
        }
    }
}
