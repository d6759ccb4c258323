//! Recent measurements: a capped series of points for each metric, in memory, so that requests are
//! answered at once. The backend stores the same points, so the series survive a restart.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

/// A metric's name and value.
pub type Point = (String, f64);

/// Distance of points, in milliseconds.
pub const INTERVAL_MS: i64 = 10_000;

/// Time that points are kept, in milliseconds: a day.
pub const KEPT_MS: i64 = 24 * 3_600 * 1_000;

/// Maximum metrics. Measurements of others are dropped.
const METRICS_MAX: usize = 128;

/// The series of all metrics.
#[derive(Debug, Default)]
pub struct History {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    series: BTreeMap<String, VecDeque<(i64, f64)>>,
    /// Number of the current interval, with sum and count of each metric.
    interval: i64,
    sums: BTreeMap<String, (f64, u32)>,
}

impl History {
    /// Adds the measurements of an instant (Unix milliseconds). If they begin a new interval, the
    /// means of the interval before become its points, which are returned with its start, to be
    /// stored.
    pub fn add(&self, at: i64, points: &[Point]) -> Option<(i64, Vec<Point>)> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let interval = at.div_euclid(INTERVAL_MS) * INTERVAL_MS;
        let mut whole = None;
        if interval != inner.interval && !inner.sums.is_empty() {
            let means = std::mem::take(&mut inner.sums).into_iter();
            let means: Vec<Point> =
                means.map(|(name, (sum, count))| (name, sum / f64::from(count))).collect();
            inner.keep(inner.interval, &means);
            whole = Some((inner.interval, means));
        }
        inner.interval = interval;
        for (name, value) in points.iter().filter(|(_, value)| value.is_finite()) {
            if inner.sums.len() < METRICS_MAX || inner.sums.contains_key(name) {
                let (sum, count) = inner.sums.entry(name.clone()).or_default();
                (*sum, *count) = (*sum + value, *count + 1);
            }
        }
        whole
    }

    /// Adds stored points before those measured since.
    pub fn restore(&self, points: Vec<(i64, Point)>) {
        let mut inner = self.inner.lock();
        let now =
            inner.series.values().filter_map(|series| series.front()).map(|(at, _)| *at).min();
        for (at, point) in points {
            if now.is_none_or(|now| at < now) {
                inner.keep(at, &[point]);
            }
        }
        for series in inner.series.values_mut() {
            series.make_contiguous().sort_by_key(|(at, _)| *at);
        }
    }

    /// Returns the names of all metrics that have points.
    pub fn metrics(&self) -> Vec<String> {
        let inner = self.inner.lock();
        inner.series.keys().cloned().collect()
    }

    /// Returns the points of a metric since an instant; `None` if there is no such metric.
    pub fn since(&self, metric: &str, since: i64) -> Option<Vec<(i64, f64)>> {
        let inner = self.inner.lock();
        let series = inner.series.get(metric)?;
        Some(series.iter().filter(|(at, _)| *at >= since).copied().collect())
    }
}

impl Inner {
    fn keep(&mut self, at: i64, points: &[Point]) {
        for (name, value) in points {
            if self.series.len() >= METRICS_MAX && !self.series.contains_key(name) {
                continue;
            }
            let series = self.series.entry(name.clone()).or_default();
            series.push_back((at, *value));
            while series.len() > (KEPT_MS / INTERVAL_MS) as usize {
                series.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn points(values: &[(&str, f64)]) -> Vec<Point> {
        values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn a_point_is_the_mean_of_its_interval() {
        let history = History::default();
        assert_eq!(history.add(10_000, &points(&[("cpu", 1.0)])), None);
        assert_eq!(history.add(19_999, &points(&[("cpu", 3.0), ("odd", f64::NAN)])), None);
        let whole = history.add(20_000, &points(&[("cpu", 9.0)]));
        assert_eq!(whole, Some((10_000, points(&[("cpu", 2.0)]))));
        assert_eq!(history.since("cpu", 0), Some(vec![(10_000, 2.0)]));
        assert_eq!((history.since("cpu", 10_001), history.since("odd", 0)), (Some(vec![]), None));
    }

    #[test]
    fn the_points_of_a_series_and_the_number_of_series_are_bounded() {
        let history = History::default();
        for n in 0..9_000 {
            history.add(n * INTERVAL_MS, &points(&[("cpu", n as f64)]));
        }
        let series = history.since("cpu", 0).unwrap();
        assert_eq!((series.len(), series[0]), (8_640, (359 * INTERVAL_MS, 359.0)));
        let many: Vec<Point> = (0..500).map(|n| (format!("m{n}"), 1.0)).collect();
        history.add(10_000 * INTERVAL_MS, &many);
        history.add(10_001 * INTERVAL_MS, &many);
        assert_eq!(history.metrics().len(), METRICS_MAX);
    }

    #[test]
    fn stored_points_precede_newly_measured_ones() {
        let history = History::default();
        for at in [50_000, 60_000] {
            history.add(at, &points(&[("cpu", 5.0)]));
        }
        let stored = [30_000, 50_000, 40_000].map(|at| (at, ("cpu".to_owned(), 1.0)));
        history.restore(stored.to_vec());
        assert_eq!(history.since("cpu", 0).unwrap(), [(30_000, 1.0), (40_000, 1.0), (50_000, 5.0)]);
    }
}
