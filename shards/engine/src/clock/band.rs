//! BandClock: the estimate of another clock from probes, as every good client keeps one of the
//! server, and every node of a cluster one of the node that it follows. `src/web/clock.js` is the
//! same in JavaScript, and both are held to the same vectors.
//!
//! Times are milliseconds, as a client has them.

use std::collections::VecDeque;

/// Maximum number of samples.
const RING: usize = 64;

/// Rounds of the search for a skew that agrees.
const SKEW_ROUNDS: usize = 30;

/// Number of samples from which on the shortest round trip is known well.
const SETTLED: usize = 20;

/// The facts about the clocks that an estimate relies on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Resolution of time stamps, in milliseconds.
    pub stamp: f64,
    /// Smallest width of what samples allow, in milliseconds: below zero because stamps are
    /// rounded.
    pub least_width: f64,
    /// Expected skew between the two clocks.
    pub prior_skew: f64,
    /// Maximum skew between the two clocks.
    pub max_skew: f64,
}

impl Limits {
    /// Browsers without isolation, on devices with ordinary crystals. Their expected skew is from
    /// experience.
    pub const BROWSER: Self =
        Self { stamp: 0.1, least_width: -0.3, prior_skew: 50e-6, max_skew: 110e-6 };

    /// Nodes of a cluster, whose stamps are nanoseconds. NTP may turn a machine's clock by 500 ppm,
    /// so little is expected, and the first second of probes shows the skew.
    pub const NODE: Self =
        Self { stamp: 0.002, least_width: -0.005, prior_skew: 250e-6, max_skew: 510e-6 };
}

impl Default for Limits {
    fn default() -> Self {
        Self::BROWSER
    }
}

/// An estimate of the server's clock, with its maximum error.
#[derive(Clone, Debug, Default)]
pub struct BandClock {
    limits: Limits,
    /// The samples since a clock has stepped or the route has changed.
    ring: VecDeque<Sample>,
    /// The samples since a clock has certainly stepped, without those that say nothing more. They
    /// only show steps.
    witnesses: VecDeque<Sample>,
    /// The line through the samples.
    line: Option<Line>,
}

/// An answered probe.
#[derive(Clone, Copy, Debug)]
struct Sample {
    c0: f64,
    c3: f64,
    /// Upper limit of the offset.
    upper: f64,
    /// Lower limit of the offset.
    lower: f64,
    mid: f64,
    rtt: f64,
}

/// The offset as a linear function of time.
#[derive(Clone, Copy, Debug)]
struct Line {
    when: f64,
    mid: f64,
    slope: f64,
    slope_sd: f64,
}

/// An offset from local time to server time, with its maximum error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The offset, in milliseconds.
    pub offset: f64,
    /// Its maximum error, in milliseconds.
    pub bound: f64,
}

impl BandClock {
    /// Creates an estimate without samples.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Adds an answered probe. Returns true if it shows that a clock stepped or the route changed.
    pub fn add(&mut self, c0: f64, s1: f64, s2: f64, c3: f64) -> bool {
        if ![c0, s1, s2, c3].iter().all(|stamp| stamp.is_finite()) || c3 < c0 || s2 < s1 {
            return false;
        }
        let (upper, lower) = (s1 - c0, s2 - c3);
        let sample =
            Sample { c0, c3, upper, lower, mid: (upper + lower) / 2.0, rtt: c3 - c0 - (s2 - s1) };
        self.ring.push_back(sample);
        if self.ring.len() > RING {
            self.ring.pop_front();
        }
        self.witnesses.push_back(sample);
        // Samples that a step made void are dropped for good: with age their bounds widen so much
        // that they would seem to agree again.
        let void = if agree(&self.witnesses, c3, self.limits) {
            self.keep_useful();
            self.void_at(c3)
        } else {
            // Only the newest is surely from after the step: a slow one from before may agree with
            // it, and be wrong.
            self.witnesses = VecDeque::from([sample]);
            self.ring.len() - 1
        };
        self.ring.drain(..void); // mark: samples_before_a_step_kept
        self.line = Some(self.fit());
        void > 0
    }

    /// Returns the number of samples in use.
    pub fn samples(&self) -> usize {
        self.ring.len()
    }

    /// Returns the shortest round trip of the samples in use.
    pub fn round_trip(&self) -> f64 {
        self.ring.iter().fold(f64::INFINITY, |least, sample| least.min(sample.rtt))
    }

    /// Returns the estimate for a local time, if there is a sample.
    pub fn estimate(&self, at: f64) -> Option<Estimate> {
        let line = self.line?;
        let (lower, upper) = intersect(&self.ring, at, line.slope, line.slope_sd);
        let along = line.mid + line.slope * (at - line.when);
        let offset = if lower <= upper { (lower + upper) / 2.0 } else { along };
        // The line is only a good guess: if round trips scatter widely, it may be far from the
        // truth. The range that the samples allow for any skew is certain.
        // mark: bound_trusts_the_line
        let (lower, upper) = intersect(&self.ring, at, 0.0, self.limits.max_skew);
        let bound = (upper - offset).max(offset - lower).max(0.0) + self.limits.stamp;
        Some(Estimate { offset, bound })
    }

    /// Returns the amount by which the other clock is faster than the local one, as a part of 1.
    pub fn skew(&self) -> f64 {
        self.line.map_or(0.0, |line| line.slope)
    }

    /// Counts the oldest samples that are from another route than the newest.
    ///
    /// The range that samples allow can hardly be narrower than the round trip of the path. With 20
    /// samples, that is known well enough to demand three quarters of it. This is likely, not
    /// certain. So the void samples still testify to a step that the others would hide.
    fn void_at(&self, at: f64) -> usize {
        let least = if self.ring.len() >= SETTLED {
            (0.75 * self.round_trip() - 0.5).max(self.limits.least_width)
        } else {
            self.limits.least_width
        };
        let (mut upper, mut lower) = (f64::INFINITY, f64::NEG_INFINITY);
        for (index, sample) in self.ring.iter().enumerate().rev() {
            let slack = self.limits.max_skew * (at - sample.c0);
            upper = upper.min(sample.upper + slack);
            lower = lower.max(sample.lower - slack);
            // The newest sample alone is never void, however odd its stamps.
            if upper - lower < least && index + 1 < self.ring.len() {
                return index + 1;
            }
        }
        0
    }

    /// Drops the witnesses in both of whose directions others limit the offset more, whatever the
    /// skew is.
    fn keep_useful(&mut self) {
        let (all, most) = (&self.witnesses, self.limits.max_skew);
        let is_useful = |s: &Sample| {
            all.iter().all(|t| s.upper - t.upper <= most * (s.c0 - t.c0).abs())
                || all.iter().all(|t| t.lower - s.lower <= most * (s.c3 - t.c3).abs())
        };
        let mut useful: VecDeque<Sample> = all.iter().copied().filter(is_useful).collect();
        useful.drain(..useful.len().saturating_sub(RING));
        self.witnesses = useful;
    }

    /// Fits a line to the midpoints by weighted least squares. A sample's deviation grows with the
    /// excess of its round trip over the shortest. The slope has a prior, so that a short span
    /// cannot distort it.
    fn fit(&self) -> Line {
        let least = self.round_trip();
        let weight = |sample: &Sample| {
            let deviation = self.limits.stamp / 2.0 + 0.02 * least + (sample.rtt - least) / 2.0;
            1.0 / (deviation * deviation)
        };
        let when = |sample: &Sample| (sample.c0 + sample.c3) / 2.0;
        // Centred on the first sample: raw stamps are large, and their squares would lose
        // precision.
        let first = self.ring[0];
        let (t0, m0) = (when(&first), first.mid);
        let (mut sum, mut t, mut m) = (0.0, 0.0, 0.0);
        for sample in &self.ring {
            let w = weight(sample);
            sum += w;
            t += w * (when(sample) - t0);
            m += w * (sample.mid - m0);
        }
        (t, m) = (t / sum, m / sum);
        let (mut tt, mut tm) = (0.0, 0.0);
        for sample in &self.ring {
            let w = weight(sample);
            let apart = when(sample) - t0 - t;
            tt += w * apart * apart;
            tm += w * apart * (sample.mid - m0 - m);
        }
        let precision = tt + 1.0 / (self.limits.prior_skew * self.limits.prior_skew);
        Line { when: t0 + t, mid: m0 + m, slope: tm / precision, slope_sd: 1.0 / precision.sqrt() }
    }
}

/// Whether some skew and offset agree with all samples. If not, a clock has stepped.
fn agree(samples: &VecDeque<Sample>, at: f64, limits: Limits) -> bool {
    let width = |skew: f64| {
        let (lower, upper) = intersect(samples, at, skew, 0.0);
        upper - lower
    };
    // The width is a concave function of the skew: of the two outer thirds, the worse one cannot
    // hold its maximum.
    let (mut from, mut to) = (-limits.max_skew, limits.max_skew);
    for _ in 0..SKEW_ROUNDS {
        let third = (to - from) / 3.0;
        let (low, high) = (width(from + third), width(to - third));
        if low.max(high) >= limits.least_width {
            return true;
        }
        if low < high { from += third } else { to -= third }
    }
    samples.len() == 1
}

/// Returns the range that all samples allow, each moved to `at` along the slope and widened by
/// `slack` times its age.
fn intersect(samples: &VecDeque<Sample>, at: f64, slope: f64, slack: f64) -> (f64, f64) {
    let (mut upper, mut lower) = (f64::INFINITY, f64::NEG_INFINITY);
    for sample in samples {
        upper = upper.min(sample.upper + (slope + slack) * (at - sample.c0));
        lower = lower.max(sample.lower + (slope - slack) * (at - sample.c3));
    }
    (lower, upper)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Vectors {
        clocks: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        samples: Vec<[f64; 4]>,
        checks: Vec<Check>,
    }

    #[derive(Deserialize)]
    struct Check {
        after: usize,
        at: f64,
        used: usize,
        offset: f64,
        bound: f64,
    }

    /// These vectors also hold for the JavaScript, in `tests/js/unit/clock.test.js`.
    #[test]
    fn the_clock_agrees_with_the_shared_vectors() {
        let vectors: Vectors =
            serde_json::from_str(include_str!("../../../../tests/vectors/clock.json")).unwrap();
        let mut count = 0;
        for Vector { name, samples, checks } in vectors.clocks {
            for check in checks {
                let mut clock = BandClock::default();
                for [c0, s1, s2, c3] in &samples[..check.after] {
                    clock.add(*c0, *s1, *s2, *c3);
                }
                let found = clock.estimate(check.at).unwrap();
                let what = format!("{name} after {} at {}", check.after, check.at);
                assert_eq!(clock.samples(), check.used, "{what}");
                assert!(
                    (found.offset - check.offset).abs() < 1e-6,
                    "{what}: offset {}",
                    found.offset
                );
                assert!((found.bound - check.bound).abs() < 1e-6, "{what}: bound {}", found.bound);
                count += 1;
            }
        }
        assert!(count > 100, "there are only {count} checks");
    }

    #[test]
    fn invalid_timestamps_are_dropped() {
        let mut clock = BandClock::default();
        for [c0, s1, s2, c3] in
            [[1.0, f64::NAN, 2.0, 3.0], [3.0, 5.0, 5.0, 1.0], [1.0, 9.0, 5.0, 3.0]]
        {
            assert!(!clock.add(c0, s1, s2, c3));
        }
        assert_eq!(clock.estimate(1.0), None);
    }
}
