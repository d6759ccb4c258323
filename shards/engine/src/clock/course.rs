//! The course of a clock that is steered: the time that it shows as a function of the machine's
//! clock. It bends at one moment, approaches the time that it should show, and then runs on at the
//! rate of the clock that it follows.
//!
//! It never goes back, and is never more than [`Course::SLEW_MAX`] faster or slower than the
//! machine's clock, except that it may step forward.

/// One, as a rate: rates are counted in parts of 2⁴⁰, about 10⁻¹².
const ONE: i64 = 1 << 40;

/// The largest difference of a rate from one: 0.5 %.
const SLEW: i64 = ONE / 200;

/// Time from the decision about a bend until it, in nanoseconds. Readers that still have the former
/// course agree with those that have the new one as long as it is not over.
const AHEAD: i64 = 4_000_000;

/// Time in which the course is to show the right time again, in nanoseconds. Longer if that would
/// need too large a slew. Guessed: the rate of a clock that members follow changes little.
const GLIDE: i64 = 1_000_000_000;

/// Error from which on a clock steps forward if it may, in nanoseconds. Less is slewed in a second.
const STEP: i64 = 5_000_000;

/// A clock's course. Times are nanoseconds: of the machine's clock, and as shown.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Course {
    /// The machine's time at which the course bends.
    from: i64,
    /// The time that is shown then.
    at: i64,
    /// The step forward at that moment.
    step: i64,
    /// Difference of the rate from one, before the bend.
    before: i64,
    /// Difference of the rate from one, from the bend on.
    slew: i64,
    /// The machine's time at which the right time is shown again.
    until: i64,
    /// Difference of the rate from one, from then on.
    rate: i64,
}

impl Course {
    /// The largest difference between the rate of a course and that of the machine's clock.
    pub const SLEW_MAX: f64 = 0.005;

    /// Number of words of [`Course::words`].
    pub const WORDS: usize = 7;

    /// Returns the course of a clock that shows `at` at the machine's time `from`. `skew` is the
    /// amount by which it is faster than the machine's clock, as a part of 1.
    pub fn starting(from: i64, at: i64, skew: f64) -> Self {
        let rate = rate_of(skew);
        Self { from, at, step: 0, before: rate, slew: rate, until: from, rate }
    }

    /// Returns the time that is shown at a machine's time.
    pub fn read(&self, machine: i64) -> i64 {
        let passed = machine.saturating_sub(self.from);
        if passed < 0 {
            let left = passed.saturating_neg();
            return self.at.saturating_sub(self.step).saturating_sub(shown(left, self.before));
        }
        let glide = self.until.saturating_sub(self.from);
        if passed <= glide {
            return self.at.saturating_add(shown(passed, self.slew));
        }
        let then = self.at.saturating_add(shown(glide, self.slew));
        then.saturating_add(shown(passed.saturating_sub(glide), self.rate))
    }

    /// Whether the clock runs at its final rate already.
    pub fn is_straight(&self, machine: i64) -> bool {
        machine >= self.from && machine >= self.until
    }

    /// Returns a machine's time at which at least `at` is shown, at most some nanoseconds after the
    /// first.
    pub fn machine_time(&self, at: i64) -> i64 {
        let passed = at.saturating_sub(self.at);
        if passed < 0 {
            let left = passed.saturating_add(self.step).min(0).saturating_neg();
            let span = i128::from(left) * i128::from(ONE) / i128::from(ONE + self.before);
            return self.from.saturating_sub(limited(span));
        }
        let glide = self.until.saturating_sub(self.from);
        let gained = shown(glide, self.slew);
        if passed <= gained {
            return self.from.saturating_add(machine(passed, self.slew));
        }
        self.until.saturating_add(machine(passed.saturating_sub(gained), self.rate))
    }

    /// Returns the course that leads to the right time. `aim` returns the right time for a
    /// machine's time, and `skew` is the amount by which the followed clock is faster than the
    /// machine's. If the clock is behind and `may_step`, it steps forward.
    ///
    /// `None`: a bend is too near. Try again later.
    pub fn toward(
        &self,
        now: i64,
        aim: impl FnOnce(i64) -> i64,
        skew: f64,
        may_step: bool,
    ) -> Option<Self> {
        if self.from > now {
            return None;
        }
        let mut from = now.saturating_add(AHEAD);
        // Before the new bend, the course has to be straight.
        if self.until > now && self.until < from {
            if self.until.saturating_sub(now) < AHEAD / 2 {
                return None;
            }
            from = self.until;
        }
        let before = if self.until >= from { self.slew } else { self.rate };
        let (at, rate) = (self.read(from), rate_of(skew));
        let error = aim(from).saturating_sub(at);
        let straight = Self { from, at, step: 0, before, slew: rate, until: from, rate };
        if error >= STEP && may_step {
            return Some(Self { at: at.saturating_add(error), step: error, ..straight });
        }
        let wanted = limited(i128::from(error) * i128::from(ONE) / i128::from(GLIDE));
        let slew = rate.saturating_add(wanted).clamp(-SLEW, SLEW);
        if slew == rate {
            return Some(straight);
        }
        let span = i128::from(error) * i128::from(ONE) / i128::from(slew - rate);
        Some(Self { slew, until: from.saturating_add(limited(span.max(0))), ..straight })
    }

    /// Returns the course without its slew: it goes on from what it shows, at its final rate.
    /// `None`: a bend is too near. Try again later.
    pub fn released(&self, now: i64) -> Option<Self> {
        let skew = self.rate as f64 / ONE as f64;
        self.toward(now, |from| self.read(from), skew, false)
    }

    /// Returns the course as words, which threads can share.
    pub fn words(&self) -> [i64; Self::WORDS] {
        let Self { from, at, step, before, slew, until, rate } = *self;
        [from, at, step, before, slew, until, rate]
    }

    /// Returns the course of [`Course::words`].
    pub fn of_words([from, at, step, before, slew, until, rate]: [i64; Self::WORDS]) -> Self {
        Self { from, at, step, before, slew, until, rate }
    }
}

/// Returns a rate's difference from one.
fn rate_of(skew: f64) -> i64 {
    ((skew * ONE as f64) as i64).clamp(-SLEW, SLEW)
}

/// Returns the time that is shown to pass in a span of the machine's time. It never falls with the
/// span, because it is rounded downwards.
fn shown(span: i64, rate: i64) -> i64 {
    limited(i128::from(span) + ((i128::from(span) * i128::from(rate)) >> 40))
}

/// Returns the shortest span of the machine's time in which as much is shown to pass.
fn machine(passed: i64, rate: i64) -> i64 {
    let parts = i128::from(passed) * i128::from(ONE);
    let one = i128::from(ONE + rate);
    limited((parts + one - 1) / one)
}

fn limited(value: i128) -> i64 {
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// A course that was steered at some times towards clocks with some errors.
    #[derive(Clone, Debug)]
    struct Steer {
        after: i64,
        error: i64,
        skew: f64,
        may_step: bool,
    }

    prop_compose! {
        fn steer()(
            after in prop_oneof![0..10_000_000_i64, 0..5 * SECOND],
            error in prop_oneof![-1_000_000..1_000_000_i64, -3_600 * SECOND..3_600 * SECOND],
            skew in -500e-6..500e-6_f64,
            may_step: bool,
        ) -> Steer {
            Steer { after, error, skew, may_step }
        }
    }

    proptest! {
        #[test]
        fn a_course_never_goes_back_and_slews_by_half_a_percent_at_most(
            start in 0..1_000_000 * SECOND,
            steers in prop::collection::vec(steer(), 1..8),
            looks in prop::collection::vec(0..3_000_000_i64, 50),
        ) {
            let mut now = 1_000 * SECOND;
            let mut course = Course::starting(now, start, 0.0);
            let mut before = course.read(now);
            for Steer { after, error, skew, may_step } in steers {
                now += after;
                let was = course;
                // Nobody has the next course before now.
                prop_assert!(was.read(now) >= before);
                let mut then = now;
                before = was.read(now);
                let right = |at| was.read(at) + error;
                let next = course.toward(now, right, skew, may_step);
                if let Some(next) = next {
                    // Up to the bend, readers of both courses agree.
                    for at in [now, now + 1, now + AHEAD / 4, next.from - 1] {
                        prop_assert!((next.read(at) - was.read(at)).abs() <= 1);
                    }
                    course = next;
                }
                for look in &looks {
                    let at = then + look;
                    let read = course.read(at);
                    prop_assert!(read >= before, "{read} after {before}");
                    let most = *look + look / 200 + 2;
                    let is_over = then < course.from && at >= course.from;
                    let stepped = if is_over { course.step } else { 0 };
                    prop_assert!(read - before <= most + stepped);
                    prop_assert!(read - before >= look - look / 200 - 2);
                    (then, before) = (at, read);
                }
                now = now.max(then);
            }
        }

        #[test]
        fn a_course_reaches_the_right_time_and_stays_with_it(
            error in -50_000_000..50_000_000_i64, skew in -500e-6..500e-6_f64,
            may_step: bool,
        ) {
            let course = Course::starting(7 * SECOND, 100 * SECOND, 20e-6);
            let now = 9 * SECOND;
            let passed = |at: i64| at - now + ((at - now) as f64 * skew) as i64;
            let right = |at: i64| course.read(now) + error + passed(at);
            let next = course.toward(now, right, skew, may_step).unwrap();
            let there = next.until;
            prop_assert!(there <= now + 13 * SECOND, "50 ms take 11 s at most");
            for later in [there, there + SECOND, there + 100 * SECOND] {
                prop_assert!((next.read(later) - right(later)).abs() <= 10, "{later}");
            }
            prop_assert!(!may_step || error < STEP + 1_000_000 || there <= now + AHEAD);
        }

        #[test]
        fn a_machine_time_is_soon_after_the_first_that_shows_as_much(
            error in -50_000_000..50_000_000_i64, skew in -500e-6..500e-6_f64, may_step: bool,
            passed in -3 * SECOND..60 * SECOND,
        ) {
            let course = Course::starting(7 * SECOND, 100 * SECOND, 0.0);
            let now = 9 * SECOND;
            let right = |at: i64| course.read(at) + error;
            let next = course.toward(now, right, skew, may_step).unwrap();
            let at = next.read(now) + passed;
            let machine = next.machine_time(at);
            prop_assert!(next.read(machine) >= at, "{} of {at}", next.read(machine));
            prop_assert!(next.read(machine - 3) < at);
        }

        #[test]
        fn no_words_make_a_course_panic(words: [i64; Course::WORDS], at: i64) {
            let mut words = words;
            for place in [3, 4, 6] {
                words[place] = words[place].clamp(-SLEW, SLEW);
            }
            let course = Course::of_words(words);
            prop_assert_eq!(course.words(), words);
            let _ = (course.read(at), course.machine_time(at));
            let _ = course.toward(at, |_| words[0], 1e300, words[1] > 0);
            let _ = course.toward(at, |_| i64::MIN, f64::NAN, true);
        }
    }

    #[test]
    fn a_released_course_goes_on_from_what_it_shows() {
        let course = Course::starting(0, 100 * SECOND, 0.0);
        let late = course.toward(SECOND, |at| course.read(at) + SECOND, 100e-6, false).unwrap();
        let now = 5 * SECOND;
        let free = late.released(now).unwrap();
        assert_eq!(free.read(free.from), late.read(free.from));
        let passed = free.read(free.from + 10 * SECOND) - free.read(free.from);
        assert!((passed - 10 * SECOND - 1_000_000).abs() <= 1, "{passed}");
        assert_eq!(free.released(now), None, "its own bend is to come");
    }
}
