//! Errors of clients' clocks, and the least errors that their data permits.
//!
//! All times are in milliseconds of the machine's clock, and errors are signed: above zero, a clock
//! is ahead.

use serde::Deserialize;

use super::truth::Truth;

/// Time after which a clock counts as settled, as in the measurements of earlier versions.
const SETTLING_MS: f64 = 5_000.0;

/// Maximum error of a clock that has recovered from a step, as in the study of estimators.
const RECOVERED_MS: f64 = 5.0;

/// Maximum time between two looks that count as one. Errors change by less than 0.01 ms meanwhile.
const SAME_TIME_MS: f64 = 60.0;

/// Maximum skew of a clock, for which clients allow.
const SKEW_MAX: f64 = 110e-6;

/// Contradiction that rounded timestamps may explain, for which clients allow.
const ROUNDED_MS: f64 = 0.3;

/// Unit to which browsers round their clocks. An answer is this much later than it seems.
const ROUNDING_MS: f64 = 0.1;

/// The output of a client.
#[derive(Debug, Deserialize)]
pub struct Found {
    /// Members that were looked at once, a second after they had connected.
    pub connects: Vec<Seen>,
    /// The member that stayed.
    pub steady: Seen,
}

/// The data of a member and the looks at its clock, each in the order of time.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// The unit to which the member's clock is rounded down; 0 if its rounding is not known.
    pub stamp_ms: f64,
    /// Skew of the member's clock against the machine's: 0.0001 is 100 ppm fast.
    pub skew: f64,
    /// Answered probes: sent, received and answered by the server's clock, and answer received.
    pub probes: Vec<[f64; 4]>,
    /// Looks: their time, the server's time by estimate and as shown, and the shown bound.
    pub looks: Vec<[f64; 4]>,
    /// Steps of the member's clock: their time and size.
    pub steps: Vec<[f64; 2]>,
}

/// An error of a look.
pub type Error = fn(&Look) -> f64;

/// A look, with what the truth adds.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Time of the look.
    pub at: f64,
    /// Error of the estimate.
    pub estimated: f64,
    /// Error of the clock that the music follows.
    pub shown: f64,
    /// The bound that the client shows for it.
    pub bound: f64,
    /// Error of the best estimate from the same data.
    pub limit: f64,
    /// Whether a client can know of the last step: the probes before and after it contradict each
    /// other at every rate that its clock may have.
    pub is_informed: bool,
}

/// The best estimator: it knows the exact rate of its clock, keeps all probes, and uses that no
/// probe arrives before it is sent, in either direction.
///
/// The middle of what all probes allow has the least greatest error. If the fastest probes of the
/// two directions do not take equally long, it is off by half of the difference. No timestamp shows
/// that difference, so every other estimator is only better by chance.
#[derive(Clone, Copy)]
struct Oracle {
    lower: f64,
    upper: f64,
}

impl Oracle {
    const IGNORANT: Self = Self { lower: f64::NEG_INFINITY, upper: f64::INFINITY };

    /// Adds a probe whose client's times were rounded down to a multiple of `stamp`.
    fn add(&mut self, [sent, t1, t2, received]: [f64; 4], stamp: f64) {
        self.upper = self.upper.min(t1 - sent);
        self.lower = self.lower.max(t2 - received - stamp);
    }

    fn offset(&self) -> f64 {
        self.lower.midpoint(self.upper)
    }
}

/// All probes since a step showed. A step shows when no rate that a clock may have brings them into
/// agreement; with slow probes a small one may stay hidden.
#[derive(Default)]
struct Belief {
    probes: Vec<[f64; 4]>,
    /// The steps since the belief began. They move the clock, and so the times of later probes.
    stepped: f64,
}

impl Belief {
    /// Adds a probe. Returns false if it shows that the clock has stepped. `skew` is the clock's
    /// true one, which its owner does not know.
    fn add(&mut self, [sent, t1, t2, received]: [f64; 4], skew: f64) -> bool {
        self.probes.push([sent + self.stepped, t1, t2, received + self.stepped]);
        // The times of the probes have the true rate, so rates are relative to it.
        let (mut from, mut to) = (skew - SKEW_MAX, skew + SKEW_MAX);
        // The width is a concave function of the rate.
        for _ in 0..40 {
            let third = (to - from) / 3.0;
            let (low, high) = (self.width(from + third), self.width(to - third));
            if low.max(high) >= -ROUNDED_MS {
                return true;
            }
            if low < high { from += third } else { to -= third }
        }
        false
    }

    /// Returns the width of the range of offsets that all probes allow at a rate.
    fn width(&self, rate: f64) -> f64 {
        let now = self.probes.last().map_or(0.0, |probe| probe[3]);
        let (mut lower, mut upper) = (f64::NEG_INFINITY, f64::INFINITY);
        for [sent, t1, t2, received] in &self.probes {
            upper = upper.min(t1 - sent + rate * (now - sent));
            lower = lower.max(t2 - received + rate * (now - received));
        }
        upper - lower
    }
}

/// Returns the looks at a member's clock. Those before its first answer are left out.
pub fn looks(seen: &Seen, truth: &Truth) -> Vec<Look> {
    let offset = truth.offset();
    let (mut probes, mut steps) = (seen.probes.iter().peekable(), seen.steps.iter().peekable());
    let (mut oracle, mut belief) = (Oracle::IGNORANT, Belief::default());
    let (mut is_answered, mut is_hidden) = (false, false);
    let (mut last_step, mut since_step) = (f64::NEG_INFINITY, Vec::new());
    let mut found = Vec::new();
    for &[at, estimated, shown, bound] in &seen.looks {
        while let Some([step, size]) = steps.next_if(|[step, _]| *step <= at) {
            // Answers from before the step say nothing about the clock after it.
            while let Some(probe) = probes.next_if(|probe| probe[3] <= *step) {
                belief.add(*probe, seen.skew);
            }
            oracle = Oracle::IGNORANT;
            since_step.clear();
            (is_answered, is_hidden) = (false, true);
            belief.stepped += size;
            last_step = *step;
        }
        while let Some(probe) = probes.next_if(|probe| probe[3] + ROUNDING_MS <= at) {
            // One that was under way during a step has timestamps of two clocks.
            if probe[0] < last_step {
                continue;
            }
            oracle.add(*probe, seen.stamp_ms);
            is_answered = true;
            since_step.push(*probe);
            if !belief.add(*probe, seen.skew) {
                belief = Belief { probes: since_step.clone(), stepped: 0.0 };
                is_hidden = false;
            }
        }
        let error = |server: f64| server - at - offset;
        let limit = if is_answered { oracle.offset() - offset } else { f64::INFINITY };
        let (estimated, shown) = (error(estimated), error(shown));
        let is_informed = is_answered && !is_hidden;
        found.push(Look { at, estimated, shown, bound, limit, is_informed });
    }
    found
}

/// Returns the looks at a settled clock, before its first step.
pub fn steady<'a>(seen: &Seen, looks: &'a [Look]) -> &'a [Look] {
    let begin = seen.probes.first().map_or(f64::INFINITY, |probe| probe[0] + SETTLING_MS);
    let end = seen.steps.first().map_or(f64::INFINITY, |step| step[0]);
    let from = looks.partition_point(|look| look.at < begin);
    let to = looks.partition_point(|look| look.at < end).max(from);
    &looks[from..to]
}

/// Returns the time from each step until an error is small and stays so until the next step;
/// infinite if it does not.
pub fn recoveries(seen: &Seen, looks: &[Look], error: Error) -> Vec<f64> {
    let ends = seen.steps.iter().skip(1).map(|step| step[0]).chain([f64::INFINITY]);
    let each = seen.steps.iter().zip(ends).map(|(&[step, _], end)| {
        let mut since = looks.iter().filter(|look| look.at >= step && look.at < end).rev();
        let last_bad = since.find(|look| error(look).abs() > RECOVERED_MS);
        let good = looks.iter().find(|look| {
            look.at >= step && look.at < end && last_bad.is_none_or(|bad| look.at > bad.at)
        });
        good.map_or(f64::INFINITY, |look| look.at - step)
    });
    each.collect()
}

/// The checks of a bound: their number, and by how much each broken one was exceeded.
#[derive(Debug, Default)]
pub struct Checks {
    /// All checks.
    pub count: usize,
    /// The excess of each broken bound.
    pub broken: Vec<f64>,
}

impl Checks {
    /// Checks the bounds that are shown. Until the probes contradict each other after a step, no
    /// client can know of it, so these looks are left out.
    pub fn add(&mut self, looks: &[Look], truth: &Truth) {
        for look in looks.iter().filter(|look| look.is_informed) {
            self.count += 1;
            let excess = look.shown.abs() - look.bound - truth.bound();
            if excess > 0.0 {
                self.broken.push(excess);
            }
        }
    }
}

/// Returns the difference between the most advanced and the most delayed of several clocks, at each
/// look of the first one for which all have one.
pub fn spreads(members: &[&[Look]], error: Error) -> Vec<f64> {
    let Some((first, others)) = members.split_first() else { return Vec::new() };
    let nearest = |looks: &[Look], at: f64| {
        let next = looks.partition_point(|look| look.at < at);
        let around = [next.checked_sub(1), Some(next)].into_iter().flatten();
        let near = around.filter_map(|index| looks.get(index).copied());
        let near = near.filter(|look| (look.at - at).abs() <= SAME_TIME_MS);
        near.min_by(|a, b| (a.at - at).abs().total_cmp(&(b.at - at).abs()))
    };
    let spread = |look: &Look| {
        let own = error(look);
        others.iter().try_fold((own, own), |(least, most), looks| {
            let other = error(&nearest(looks, look.at)?);
            Some((other.min(least), other.max(most)))
        })
    };
    first.iter().filter_map(spread).map(|(least, most)| most - least).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a probe of a server whose clock is 1000 ms ahead.
    fn probe(sent: f64, up: f64, down: f64) -> [f64; 4] {
        let arrived = sent + up + 1_000.0;
        [sent, arrived, arrived, sent + up + down]
    }

    fn look(at: f64, error: f64) -> Look {
        Look { at, estimated: error, shown: error, bound: 1.0, limit: 0.0, is_informed: true }
    }

    #[test]
    fn the_limit_is_half_the_difference_of_the_fastest_directions() {
        let seen = Seen {
            probes: vec![probe(0.0, 5.0, 3.0), probe(50.0, 9.0, 1.0), probe(100.0, 8.0, 8.0)],
            looks: vec![[20.0, 1_021.0, 1_022.0, 9.0], [120.0, 1_120.0, 1_120.0, 9.0]],
            ..Seen::default()
        };
        let found = looks(&seen, &Truth::exact(1_000.0));
        assert_eq!((found[0].estimated, found[0].shown, found[0].limit), (1.0, 2.0, 1.0));
        assert_eq!(found[1].limit, 2.0, "the fastest took 5 ms up and 1 ms down");
        let rounded = Seen { stamp_ms: 1.0, ..seen };
        let found = looks(&rounded, &Truth::exact(1_000.0));
        assert_eq!(found[1].limit, 1.5, "an answer may have come up to 1 ms later");
    }

    #[test]
    fn a_step_makes_the_oracle_forget_and_excuses_the_bound_until_it_shows() {
        let seen = Seen {
            probes: vec![probe(0.0, 1.0, 1.0), probe(30.0, 4.0, 2.0)],
            looks: vec![
                [10.0, 1_010.0, 1_010.0, 1.0],
                [25.0, 1_075.0, 1_075.0, 1.0],
                [40.0, 1_090.0, 1_090.0, 1.0],
            ],
            steps: vec![[20.0, 50.0]],
            ..Seen::default()
        };
        let truth = Truth::exact(1_000.0);
        let found = looks(&seen, &truth);
        let informed: Vec<bool> = found.iter().map(|look| look.is_informed).collect();
        assert_eq!(informed, [true, false, true]);
        assert_eq!((found[0].limit, found[2].limit), (0.0, 1.0));
        let mut checks = Checks::default();
        checks.add(&found, &truth);
        assert_eq!((checks.count, checks.broken), (2, vec![49.0]));
    }

    #[test]
    fn a_step_that_slow_probes_hide_is_excused_until_a_fast_one_shows_it() {
        let seen = Seen {
            probes: vec![probe(0.0, 30.0, 30.0), probe(110.0, 30.0, 30.0), probe(210.0, 2.0, 2.0)],
            looks: vec![
                [80.0, 1_080.0, 1_080.0, 30.0],
                [190.0, 1_210.0, 1_210.0, 5.0],
                [250.0, 1_270.0, 1_270.0, 5.0],
            ],
            steps: vec![[100.0, 20.0]],
            ..Seen::default()
        };
        let found = looks(&seen, &Truth::exact(1_000.0));
        let informed: Vec<bool> = found.iter().map(|look| look.is_informed).collect();
        assert_eq!(informed, [true, false, false], "2 ms and 18 ms are within 30 ms");
        let seen = Seen { steps: vec![[100.0, 40.0]], ..seen };
        let found = looks(&seen, &Truth::exact(1_000.0));
        let informed: Vec<bool> = found.iter().map(|look| look.is_informed).collect();
        assert_eq!(informed, [true, false, true], "40 ms are not");
    }

    #[test]
    fn a_clock_is_steady_from_five_seconds_until_its_first_step() {
        let all = [1_000.0, 5_000.0, 9_000.0, 10_000.0].map(|at| look(at, 0.0));
        let seen = Seen { probes: vec![probe(0.0, 1.0, 1.0)], ..Seen::default() };
        assert_eq!(steady(&seen, &all).len(), 3);
        let seen = Seen { steps: vec![[9_500.0, 20.0]], ..seen };
        assert_eq!(steady(&seen, &all).len(), 2);
        let early = Seen { steps: vec![[4_000.0, 20.0]], ..seen };
        assert_eq!(steady(&early, &all).len(), 0);
    }

    #[test]
    fn a_recovery_lasts_until_the_error_stays_small() {
        let all = [
            look(100.0, 30.0),
            look(150.0, 1.0),
            look(200.0, 9.0),
            look(250.0, 2.0),
            look(300.0, 1.0),
            look(400.0, 50.0),
        ];
        let seen = Seen { steps: vec![[90.0, 30.0], [390.0, 50.0]], ..Seen::default() };
        assert_eq!(recoveries(&seen, &all, |look| look.shown), [160.0, f64::INFINITY]);
    }

    #[test]
    fn a_spread_needs_a_look_at_every_member() {
        let one = [look(0.0, 0.5), look(50.0, 0.5), look(100.0, 0.5)];
        let two = [look(10.0, -1.0), look(55.0, 2.0)];
        assert_eq!(spreads(&[&one, &two], |look| look.shown), [1.5, 1.5, 1.5]);
        let three = [look(200.0, 0.0)];
        assert_eq!(spreads(&[&one, &two, &three], |look| look.shown), [0.0; 0]);
    }
}
