//! The clocks of members: the plan of their probes, the device's own clock, and the checks of
//! [`BandClock`], which every good client keeps.

use std::collections::VecDeque;

use bandsync_engine::clock::{BandClock, Estimate, Limits};

use super::rng::SimRng;

/// Time between two probes of a burst, and otherwise, in milliseconds.
const BURST_APART: f64 = 50.0;
const STEADY_APART: f64 = 2_500.0;

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
                let slack = 2.0 * Limits::BROWSER.max_skew * 200_000.0;
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
