//! The clocks of members: BandClock, which every good client keeps, as in `src/web/clock.js` and
//! held to the same vectors, and the device's own clock that it starts from.
//!
//! Times are milliseconds, as a client has them.

use std::collections::VecDeque;

use super::rng::SimRng;

/// Answers that are remembered.
const RING: usize = 64;

/// How fast or slow clocks are, by experience and at most.
const PRIOR_SKEW: f64 = 50e-6;
const MAX_SKEW: f64 = 110e-6;

/// Stamps are rounded to 0.1 ms by browsers without isolation.
const STAMP: f64 = 0.1;

/// From so many answers on the round trip is known well.
const SETTLED: usize = 20;

/// Between two probes of a burst, and when there is nothing special.
const BURST_APART: f64 = 50.0;
const STEADY_APART: f64 = 2_500.0;

/// What the server's clock reads, and how far off that can be.
#[derive(Clone, Debug, Default)]
pub struct BandClock {
    /// The samples since the last step of a clock, and the line through them.
    ring: VecDeque<Sample>,
    line: Option<Line>,
}

/// An answered probe.
#[derive(Clone, Copy, Debug)]
struct Sample {
    c0: f64,
    c3: f64,
    /// The offset is not above and not below.
    upper: f64,
    lower: f64,
    mid: f64,
    rtt: f64,
}

/// Offsets over time.
#[derive(Clone, Copy, Debug)]
struct Line {
    when: f64,
    mid: f64,
    slope: f64,
    slope_sd: f64,
}

/// Server time is local time and `offset`, which is `bound` off at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub offset: f64,
    pub bound: f64,
}

impl BandClock {
    /// Takes an answered probe in. True if it shows that a clock stepped or the route changed.
    pub fn add(&mut self, c0: f64, s1: f64, s2: f64, c3: f64) -> bool {
        if ![c0, s1, s2, c3].iter().all(|stamp| stamp.is_finite()) || c3 < c0 || s2 < s1 {
            return false;
        }
        let (upper, lower) = (s1 - c0, s2 - c3);
        self.ring.push_back(Sample {
            c0,
            c3,
            upper,
            lower,
            mid: (upper + lower) / 2.0,
            rtt: c3 - c0 - (s2 - s1),
        });
        if self.ring.len() > RING {
            self.ring.pop_front();
        }
        // What a step made void is void for ever: with age its bounds get so wide that it would
        // seem to agree again.
        let void = self.void_at(c3);
        self.ring.drain(..void); // mark: samples_before_a_step_kept
        self.line = Some(self.fit());
        void > 0
    }

    /// Answers in use.
    pub fn samples(&self) -> usize {
        self.ring.len()
    }

    /// The shortest round trip of those.
    pub fn round_trip(&self) -> f64 {
        self.ring.iter().fold(f64::INFINITY, |least, sample| least.min(sample.rtt))
    }

    /// The offset at a local time, as soon as there is an answer.
    pub fn estimate(&self, at: f64) -> Option<Estimate> {
        let line = self.line?;
        let (lower, upper) = self.intersect(at, line.slope, line.slope_sd);
        let along = line.mid + line.slope * (at - line.when);
        let offset = if lower <= upper { (lower + upper) / 2.0 } else { along };
        // The line is a good guess and no more: where round trips scatter widely it may be far from
        // the truth. What the samples allow whatever the skew is sure.
        // mark: bound_trusts_the_line
        let (lower, upper) = self.intersect(at, 0.0, MAX_SKEW);
        Some(Estimate { offset, bound: (upper - offset).max(offset - lower).max(0.0) + STAMP })
    }

    /// How many of the oldest samples do not agree with the newest. What the samples allow can
    /// never be narrower than the path's own round trip; with 20 samples that is known well enough
    /// to ask for three quarters of it.
    fn void_at(&self, at: f64) -> usize {
        let least = if self.ring.len() >= SETTLED {
            (0.75 * self.round_trip() - 0.5).max(-0.3)
        } else {
            -0.3
        };
        let (mut upper, mut lower) = (f64::INFINITY, f64::NEG_INFINITY);
        for (place, sample) in self.ring.iter().enumerate().rev() {
            let slack = MAX_SKEW * (at - sample.c0);
            upper = upper.min(sample.upper + slack);
            lower = lower.max(sample.lower - slack);
            // The newest sample alone is never void, however odd its stamps.
            if upper - lower < least && place + 1 < self.ring.len() {
                return place + 1;
            }
        }
        0
    }

    /// Weighted least squares of the midpoints over time. A sample's deviation grows with its round
    /// trip's excess over the least; the slope has a prior, so that a short span cannot throw it.
    fn fit(&self) -> Line {
        let least = self.round_trip();
        let weight = |sample: &Sample| {
            let deviation = STAMP / 2.0 + 0.02 * least + (sample.rtt - least) / 2.0;
            1.0 / (deviation * deviation)
        };
        let when = |sample: &Sample| (sample.c0 + sample.c3) / 2.0;
        // Centred on the first sample: raw stamps are large, and their squares would eat the
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

    /// What all samples allow, each carried to `at` along the slope and widened by `slack` for its
    /// age.
    fn intersect(&self, at: f64, slope: f64, slack: f64) -> (f64, f64) {
        let (mut upper, mut lower) = (f64::INFINITY, f64::NEG_INFINITY);
        for sample in &self.ring {
            upper = upper.min(sample.upper + (slope + slack) * (at - sample.c0));
            lower = lower.max(sample.lower + (slope - slack) * (at - sample.c3));
        }
        (lower, upper)
    }
}

/// When a client probes, in its own milliseconds: often when it comes, and then now and again.
#[derive(Clone, Debug, Default)]
pub struct ProbePlan {
    /// In order of time.
    bursts: VecDeque<f64>,
    steady: Option<f64>,
}

impl ProbePlan {
    /// The client has come, or come back.
    pub fn start(&mut self, at: f64) {
        self.bursts.clear();
        self.steady = Some(at + STEADY_APART);
        self.burst(at, 20);
        for after in [1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0] {
            self.burst(at + after, 8);
        }
    }

    /// A few probes in a row.
    pub fn burst(&mut self, at: f64, count: u32) {
        self.bursts.extend((0..count).map(|n| at + BURST_APART * f64::from(n)));
        self.bursts.make_contiguous().sort_by(f64::total_cmp);
    }

    /// When the next probe is due.
    pub fn next(&self) -> Option<f64> {
        let steady = self.steady?;
        Some(self.bursts.front().map_or(steady, |burst| burst.min(steady)))
    }

    /// Whether a probe is due; all that were missed count as one.
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

/// A device's clock: it runs a little fast or slow, not always by the same, and now and then it is
/// set.
#[derive(Clone, Debug)]
pub struct Device {
    /// The true time at which it was looked at last, in microseconds, and what it read then, in
    /// nanoseconds.
    at: u64,
    reads: i64,
    /// By how much it is fast, in parts of a thousand million.
    skew: i64,
    luck: SimRng,
}

impl Device {
    /// One that is anywhere, and up to 100 ppm fast or slow.
    pub fn new(mut luck: SimRng) -> Self {
        let reads = luck.below(2_000_000_000_000_000) as i64;
        let skew = luck.between(0, 200_000) as i64 - 100_000;
        Self { at: 0, reads, skew, luck }
    }

    /// What it shows at a true time, in milliseconds that are rounded as browsers do it.
    pub fn read(&mut self, now: u64) -> f64 {
        let passed = (now - self.at) as i64;
        self.reads += 1_000 * passed + passed * self.skew / 1_000_000;
        self.at = now;
        if passed > 0 {
            // The temperature changes, and with it the frequency: some 0.02 ppm in a second.
            let most = 1 + passed.min(1_000_000) as u64 / 50_000;
            self.skew = (self.skew + self.luck.between(0, 2 * most) as i64 - most as i64)
                .clamp(-100_000, 100_000);
        }
        (self.reads as f64 / 1e5).round() / 10.0
    }

    /// Somebody sets it.
    pub fn step(&mut self, millis: i64) {
        self.reads += millis * 1_000_000;
    }
}

/// A member that keeps the server's time, and what can be said of how well.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    device: Device,
    pub band: BandClock,
    pub plan: ProbePlan,
    /// Probes without an answer: their ids, when they were sent by the device, and truly.
    asked: Vec<(u64, f64, u64)>,
    /// What is left in the ring of a time before its clock was set.
    past: Option<Past>,
    /// Answers since the network became calm.
    pub calm_answers: u32,
}

/// The device was set, and answers from before are still in use.
#[derive(Clone, Debug)]
struct Past {
    at: u64,
    /// By how much, all steps added up, and how many there were.
    by: f64,
    steps: u32,
    /// The shortest round trips before and since, and answers to what was asked since.
    best_before: f64,
    best_since: f64,
    since: usize,
    /// Whether something was asked before and answered since. Its round trip is off by the step,
    /// and with it what it allows, which may then agree with what is wrong as well as with what is
    /// right.
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

    /// Asks for the time under this id; returns what its device shows.
    pub fn ask(&mut self, now: u64, id: u64) -> f64 {
        let c0 = self.device.read(now);
        self.asked.push((id, c0, now));
        c0
    }

    /// Its connection is gone, and the answers with it.
    pub fn disconnected(&mut self) {
        self.asked.clear();
        self.plan = ProbePlan::default();
    }

    /// Somebody sets its clock, or it slept.
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

    /// The answer to a probe has come: the server's stamps, in milliseconds. Whether another burst
    /// is worth it.
    ///
    /// # Errors
    /// If the estimate is further off than it says.
    pub fn answered(&mut self, now: u64, id: u64, s1: f64, s2: f64) -> Result<bool, String> {
        let Some(place) = self.asked.iter().position(|(asked, ..)| *asked == id) else {
            return Ok(false);
        };
        let (_, c0, sent) = self.asked.swap_remove(place);
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

    /// Whether the truth is within the bound. Nothing can be known of a step before something that
    /// was asked later is answered. One that is too small to be seen against the round trips is off
    /// by itself at most, until what was answered before is forgotten; a larger one is noticed at
    /// once.
    pub fn check(&mut self, now: u64) -> Result<(), String> {
        let at = self.device.read(now);
        let Some(Estimate { offset, bound }) = self.band.estimate(at) else { return Ok(()) };
        let allowed = match &self.past {
            None => bound,
            Some(past) if past.since == 0 => return Ok(()),
            Some(past) => {
                // What older answers lose of their worth by the skew of the clocks.
                let slack = 2.0 * MAX_SKEW * 200_000.0;
                // Twice the round trips, because the best ones before may be forgotten by now.
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

    /// The bound that it would show now, once it has answers to what it asked since its clock was
    /// set.
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

    /// The same that `tests/js/unit/clock.test.js` holds the JavaScript to.
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
    fn nonsense_stamps_are_dropped() {
        let mut clock = BandClock::default();
        for [c0, s1, s2, c3] in
            [[1.0, f64::NAN, 2.0, 3.0], [3.0, 5.0, 5.0, 1.0], [1.0, 9.0, 5.0, 3.0]]
        {
            assert!(!clock.add(c0, s1, s2, c3));
        }
        assert_eq!(clock.estimate(1.0), None);
    }

    #[test]
    fn the_plan_is_that_of_the_page() {
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
