//! The clocks of members: BandClock, which every good client keeps, as in `src/web/clock.js` and
//! held to the same vectors, and the device's own clock that it starts from.
//!
//! Times are milliseconds, as a client has them.

use std::collections::VecDeque;

use super::rng::SimRng;

/// Maximum number of samples.
const RING: usize = 64;

/// Expected and maximum skew of clocks. The first is from experience.
const PRIOR_SKEW: f64 = 50e-6;
const MAX_SKEW: f64 = 110e-6;

/// Rounds of the search for a skew that agrees.
const SKEW_ROUNDS: usize = 30;

/// Smallest width of what samples allow, in milliseconds: below zero because stamps are rounded.
const LEAST_WIDTH: f64 = -0.3;

/// Resolution of time stamps in browsers without isolation, in milliseconds.
const STAMP: f64 = 0.1;

/// Number of samples from which on the shortest round trip is known well.
const SETTLED: usize = 20;

/// Time between two probes of a burst, and otherwise, in milliseconds.
const BURST_APART: f64 = 50.0;
const STEADY_APART: f64 = 2_500.0;

/// An estimate of the server's clock, with its maximum error.
#[derive(Clone, Debug, Default)]
pub struct BandClock {
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
    pub offset: f64,
    pub bound: f64,
}

impl BandClock {
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
        let void = if agree(&self.witnesses, c3) {
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
        let (lower, upper) = intersect(&self.ring, at, 0.0, MAX_SKEW);
        Some(Estimate { offset, bound: (upper - offset).max(offset - lower).max(0.0) + STAMP })
    }

    /// Counts the oldest samples that are from another route than the newest.
    ///
    /// The range that samples allow can hardly be narrower than the round trip of the path. With 20
    /// samples, that is known well enough to demand three quarters of it. This is likely, not
    /// certain. So the void samples still testify to a step that the others would hide.
    fn void_at(&self, at: f64) -> usize {
        let least = if self.ring.len() >= SETTLED {
            (0.75 * self.round_trip() - 0.5).max(LEAST_WIDTH)
        } else {
            LEAST_WIDTH
        };
        let (mut upper, mut lower) = (f64::INFINITY, f64::NEG_INFINITY);
        for (index, sample) in self.ring.iter().enumerate().rev() {
            let slack = MAX_SKEW * (at - sample.c0);
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
        let all = &self.witnesses;
        let is_useful = |s: &Sample| {
            all.iter().all(|t| s.upper - t.upper <= MAX_SKEW * (s.c0 - t.c0).abs())
                || all.iter().all(|t| t.lower - s.lower <= MAX_SKEW * (s.c3 - t.c3).abs())
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
            let deviation = STAMP / 2.0 + 0.02 * least + (sample.rtt - least) / 2.0;
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
        let precision = tt + 1.0 / (PRIOR_SKEW * PRIOR_SKEW);
        Line { when: t0 + t, mid: m0 + m, slope: tm / precision, slope_sd: 1.0 / precision.sqrt() }
    }
}

/// Whether some skew and offset agree with all samples. If not, a clock has stepped.
fn agree(samples: &VecDeque<Sample>, at: f64) -> bool {
    let width = |skew: f64| {
        let (lower, upper) = intersect(samples, at, skew, 0.0);
        upper - lower
    };
    // The width is a concave function of the skew: of the two outer thirds, the worse one cannot
    // hold its maximum.
    let (mut from, mut to) = (-MAX_SKEW, MAX_SKEW);
    for _ in 0..SKEW_ROUNDS {
        let third = (to - from) / 3.0;
        let (low, high) = (width(from + third), width(to - third));
        if low.max(high) >= LEAST_WIDTH {
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

/// The times at which a client probes, in milliseconds of its own clock: often after it connects,
/// then rarely.
#[derive(Clone, Debug, Default)]
pub struct ProbePlan {
    /// Times of the probes in bursts, in order.
    bursts: VecDeque<f64>,
    steady: Option<f64>,
}

impl ProbePlan {
    /// Starts the plan of a client that has connected or returned.
    pub fn start(&mut self, at: f64) {
        self.bursts.clear();
        self.steady = Some(at + STEADY_APART);
        self.burst(at, 20);
        for after in [1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0] {
            self.burst(at + after, 8);
        }
    }

    /// Schedules a burst of probes.
    pub fn burst(&mut self, at: f64, count: u32) {
        self.bursts.extend((0..count).map(|n| at + BURST_APART * f64::from(n)));
        self.bursts.make_contiguous().sort_by(f64::total_cmp);
    }

    /// Returns the time of the next probe.
    pub fn next(&self) -> Option<f64> {
        let steady = self.steady?;
        Some(self.bursts.front().map_or(steady, |burst| burst.min(steady)))
    }

    /// Takes the probe that is due, if any. Missed probes count as one.
    pub fn take(&mut self, at: f64) -> bool {
        if self.next().is_none_or(|next| next > at) {
            return false;
        }
        self.bursts.retain(|burst| *burst > at);
        self.steady = self.steady.map(|steady| {
            let missed = ((at - steady) / STEADY_APART).floor() + 1.0;
            if steady <= at { steady + STEADY_APART * missed } else { steady }
        });
        true
    }
}

/// The clock of a device. It runs a little fast or slow, by a changing amount, and is sometimes
/// set.
#[derive(Clone, Debug)]
pub struct Device {
    /// The true time of the last reading in microseconds, and the reading in nanoseconds.
    at: u64,
    reads: i64,
    /// The amount by which the clock is fast, in parts per 10⁹.
    skew: i64,
    luck: SimRng,
}

impl Device {
    /// Creates a clock with a random time that is up to 100 ppm fast or slow.
    pub fn new(mut luck: SimRng) -> Self {
        let reads = luck.below(2_000_000_000_000_000) as i64;
        let skew = luck.between(0, 200_000) as i64 - 100_000;
        Self { at: 0, reads, skew, luck }
    }

    /// Reads the clock at a true time, in milliseconds, rounded as browsers do.
    pub fn read(&mut self, now: u64) -> f64 {
        let passed = (now - self.at) as i64;
        self.reads += 1_000 * passed + passed * self.skew / 1_000_000;
        self.at = now;
        if passed > 0 {
            // The temperature changes the frequency, by about 0.02 ppm per second.
            let most = 1 + passed.min(1_000_000) as u64 / 50_000;
            self.skew = (self.skew + self.luck.between(0, 2 * most) as i64 - most as i64)
                .clamp(-100_000, 100_000);
        }
        (self.reads as f64 / 1e5).round() / 10.0
    }

    /// Sets the clock by this many milliseconds.
    pub fn step(&mut self, millis: i64) {
        self.reads += millis * 1_000_000;
    }
}

/// The clock of a member that keeps the server's time, and the checks of its estimate.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    device: Device,
    pub band: BandClock,
    pub plan: ProbePlan,
    /// Probes without an answer: their ids, and when they were sent by the device's clock and in
    /// truth.
    asked: Vec<(u64, f64, u64)>,
    /// Facts about samples from before the device's clock was set, while they are in use.
    past: Option<Past>,
    /// Number of answers since the network became calm.
    pub calm_answers: u32,
}

/// A step of the device's clock from before which samples are still in use.
#[derive(Clone, Debug)]
struct Past {
    at: u64,
    /// Sum of all steps, and their number.
    by: f64,
    steps: u32,
    /// Shortest round trips before and since, and number of answers to probes sent since.
    best_before: f64,
    best_since: f64,
    since: usize,
    /// Whether a probe was sent before the step and answered after it. Its round trip is wrong by
    /// the step, so its range may agree with wrong samples as well as with right ones.
    straddled: bool,
}

impl Timekeeper {
    pub fn new(luck: SimRng) -> Self {
        Self {
            device: Device::new(luck),
            band: BandClock::default(),
            plan: ProbePlan::default(),
            asked: Vec::new(),
            past: None,
            calm_answers: 0,
        }
    }

    /// Notes a probe with this id, and returns the device's time for it.
    pub fn ask(&mut self, now: u64, id: u64) -> f64 {
        let c0 = self.device.read(now);
        self.asked.push((id, c0, now));
        c0
    }

    /// Forgets probes whose answers are lost with the connection.
    pub fn disconnected(&mut self) {
        self.asked.clear();
        self.plan = ProbePlan::default();
    }

    /// Steps the device's clock, as when it is set or the device slept.
    pub fn step(&mut self, now: u64, millis: i64) {
        self.device.read(now);
        self.device.step(millis);
        let best = self.band.round_trip();
        let past = self.past.get_or_insert(Past {
            at: now,
            by: 0.0,
            steps: 0,
            best_before: best,
            best_since: f64::INFINITY,
            since: 0,
            straddled: false,
        });
        (past.at, past.best_since, past.since) = (now, f64::INFINITY, 0);
        past.by += millis.abs() as f64;
        past.steps += 1;
    }

    /// Handles the answer to a probe, with the server's stamps in milliseconds. Returns whether
    /// another burst is worthwhile.
    ///
    /// # Errors
    /// If the error of the estimate exceeds its bound.
    pub fn answered(&mut self, now: u64, id: u64, s1: f64, s2: f64) -> Result<bool, String> {
        let Some(index) = self.asked.iter().position(|(asked, ..)| *asked == id) else {
            return Ok(false);
        };
        let (_, c0, sent) = self.asked.swap_remove(index);
        let c3 = self.device.read(now);
        let stepped = self.band.add(c0, s1, s2, c3);
        self.calm_answers += 1;
        if let Some(past) = &mut self.past {
            if sent >= past.at {
                past.since += 1;
                past.best_since = past.best_since.min(c3 - c0 - (s2 - s1));
            } else {
                past.straddled = true;
            }
            if past.since >= self.band.samples() {
                self.past = None;
            }
        }
        self.check(now).map(|()| stepped)
    }

    /// Checks that the true offset is within the bound.
    ///
    /// A step cannot be known before a later probe is answered. A step that is small against the
    /// round trips may add itself to the error until the samples before it are dropped; a larger
    /// one is noticed at once.
    ///
    /// # Errors
    /// If the error of the estimate exceeds its bound.
    pub fn check(&mut self, now: u64) -> Result<(), String> {
        let at = self.device.read(now);
        let Some(Estimate { offset, bound }) = self.band.estimate(at) else { return Ok(()) };
        let allowed = match &self.past {
            None => bound,
            Some(past) if past.since == 0 => return Ok(()),
            Some(past) => {
                // The skew of the clocks widens the ranges of older samples.
                let slack = 2.0 * MAX_SKEW * 200_000.0;
                // Twice the round trips, because the best samples before may be dropped by now.
                let round_trips = past.best_before + past.best_since;
                let seen =
                    past.steps == 1 && !past.straddled && past.by > 2.0 * round_trips + slack + 1.0;
                bound + if seen { 0.0 } else { past.by }
            }
        };
        let error = (at + offset - now as f64 / 1_000.0).abs();
        if error <= allowed {
            return Ok(());
        }
        let (samples, past) = (self.band.samples(), &self.past);
        Err(format!("off by {error:.3} ms, said {bound:.3} ms after {samples} answers, {past:?}"))
    }

    /// Returns the bound of the estimate now, if probes since the last step are answered.
    pub fn bound(&mut self, now: u64) -> Option<f64> {
        let at = self.device.read(now);
        self.band.estimate(at).filter(|_| self.past.is_none()).map(|estimate| estimate.bound)
    }
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
            serde_json::from_str(include_str!("../../../tests/vectors/clock.json")).unwrap();
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

    #[test]
    fn the_probe_plan_matches_that_of_the_page() {
        let mut plan = ProbePlan::default();
        assert!(!plan.take(1e9));
        plan.start(0.0);
        let mut times = Vec::new();
        while let Some(next) = plan.next().filter(|next| *next < 299_999.0) {
            times.push(next);
            assert!(plan.take(next));
        }
        assert_eq!(times.len(), 20 + 5 * 8 + 119 - 3);
        assert_eq!((times[20], times.last().copied()), (1_000.0, Some(297_500.0)));
        assert!(plan.take(400_000.0) && !plan.take(400_000.0), "missed probes are not made up for");
        assert_eq!(plan.next(), Some(402_500.0));
    }
}
