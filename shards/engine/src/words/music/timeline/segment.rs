//! One segment of a timeline: count, tempo and loop as functions of time, and their inverse.
//!
//! Every function answers as if the segment went on for ever. [`super::Timeline`] knows where the
//! next one begins.

use super::{Loop, Segment, Tempo, narrow, wide};
use crate::words::time::Micros;

impl Segment {
    /// Returns the count at `at`.
    pub fn count_at(&self, at: Micros) -> i64 {
        narrow(self.count(wide(at)))
    }

    /// Returns the tempo at `at`, even while the music is stopped.
    pub fn tempo_at(&self, at: Micros) -> Tempo {
        self.tempo(wide(at))
    }

    /// Returns the time at which a playing segment reaches `count`.
    pub fn time_of_count(&self, count: i64) -> Micros {
        Micros::from_micros(u64::try_from(self.time_of(count.into())).unwrap_or(0))
    }

    /// Returns the song beat of `count`: a loop leads back to its beginning.
    pub fn beat_of(&self, count: i64) -> i64 {
        narrow(self.fold(count.into()))
    }

    /// Returns the first count after `count` at which the loop leads back; `None` without a loop.
    pub fn next_wrap(&self, count: i64) -> Option<i64> {
        self.looped.map(|looped| narrow(looped.wrap_after(count.into())))
    }

    /// Returns the end of the count-in if `count` lies in it.
    pub fn start_after(&self, count: i64) -> Option<i64> {
        self.start.filter(|start| self.playing && count < *start)
    }

    /// Returns the time left of the ramp at `at`, in microseconds.
    pub fn ramp_left_at(&self, at: Micros) -> u64 {
        if self.playing { self.ramp.saturating_sub(at.since(self.t0).as_micros()) } else { 0 }
    }

    /// Returns the position at `t`, at which the segment has counted to `count`.
    pub(super) fn position(&self, t: i128, count: i128) -> i128 {
        if !self.playing {
            return self.p0.into();
        }
        let passes = self.looped.filter(|looped| count >= looped.wrap_after(i128::from(self.b0)));
        let Some(looped) = passes else { return i128::from(self.p0) + t - wide(self.t0) };
        let wrapped = self.time_of(looped.wrap_before(count));
        i128::from(looped.p) + (t - wrapped).max(0)
    }

    /// Returns the count at `t`: the integral of the tempo, linear after the ramp and quadratic
    /// within it.
    pub(super) fn count(&self, t: i128) -> i128 {
        let (tau, v0, v1, ramp) = self.terms(t);
        let moved = match () {
            () if !self.playing => 0,
            () if tau <= 0 => round(v0 * tau, 60_000),
            () if tau < ramp => round(2 * v0 * ramp * tau + (v1 - v0) * tau * tau, 120_000 * ramp),
            () => round((v0 + v1) * ramp + 2 * v1 * (tau - ramp), 120_000),
        };
        i128::from(self.b0) + moved
    }

    pub(super) fn tempo(&self, t: i128) -> Tempo {
        let (tau, v0, v1, ramp) = self.terms(t);
        match () {
            () if tau >= 0 && tau >= ramp => self.bpm1,
            () if tau <= 0 => self.bpm0,
            // Between two tempos lies a tempo.
            () => Tempo((v0 + round((v1 - v0) * tau, ramp)) as u32),
        }
    }

    /// Returns the time of a count: the inverse of `count`, for a segment that plays.
    pub(super) fn time_of(&self, count: i128) -> i128 {
        debug_assert!(self.playing, "a stopped segment reaches no count");
        let (_, v0, v1, ramp) = self.terms(0);
        let (t0, difference) = (wide(self.t0), v1 - v0);
        let beats = count - i128::from(self.b0);
        let past_ramp = 120_000 * beats - (v0 + v1) * ramp;
        if beats > 0 && past_ramp >= 0 {
            return t0 + ramp + round(past_ramp, 2 * v1);
        }
        if beats <= 0 || difference == 0 {
            return t0 + round(60_000 * beats, v0);
        }
        // Four times the square of the speed at that count, in units that make it an integer.
        let square = 4 * (v0 * v0 * ramp * ramp + 120_000 * difference * ramp * beats);
        let root = square.isqrt();
        if difference > 0 {
            return t0 + (root - 2 * v0 * ramp + difference).div_euclid(2 * difference);
        }
        let root_up = root + i128::from(root * root != square);
        t0 + (2 * v0 * ramp - root_up - difference).div_euclid(-2 * difference)
    }

    pub(super) fn fold(&self, count: i128) -> i128 {
        match self.looped.filter(|looped| count >= i128::from(looped.to)) {
            Some(looped) => count - looped.length() * (looped.pass_of(count) - 1),
            None => count,
        }
    }

    /// Returns the time since `t0`, both tempos in milli-BPM, and the ramp.
    fn terms(&self, t: i128) -> (i128, i128, i128, i128) {
        let milli_bpm = |tempo: Tempo| i128::from(tempo.milli_bpm());
        (t - wide(self.t0), milli_bpm(self.bpm0), milli_bpm(self.bpm1), i128::from(self.ramp))
    }
}

impl Loop {
    pub(super) fn length(&self) -> i128 {
        i128::from(self.to) - i128::from(self.from)
    }

    /// Returns the number of the pass at `count`, from 1; 0 before the loop.
    pub(super) fn pass_of(&self, count: i128) -> i128 {
        let from = i128::from(self.from);
        if count < from { 0 } else { 1 + (count - from).div_euclid(self.length()) }
    }

    /// Returns the beginning of the pass at `count`.
    fn wrap_before(&self, count: i128) -> i128 {
        i128::from(self.from) + self.length() * (self.pass_of(count) - 1)
    }

    /// Returns the first count after `count` at which the loop leads back.
    fn wrap_after(&self, count: i128) -> i128 {
        i128::from(self.from) + self.length() * self.pass_of(count).max(1)
    }
}

/// Returns `n / d` rounded, halves up; `d` is positive.
pub(super) fn round(n: i128, d: i128) -> i128 {
    debug_assert!(d > 0, "{n} is divided by {d}");
    (2 * n + d).div_euclid(2 * d)
}
