//! The timeline, and the values computed from it: the position at a time, and the time of a beat.
//!
//! Every result is the exact value rounded once, halves up, so that the server and all devices
//! compute the same microsecond for the same beat. `tests/vectors/README.md` has the formulas that
//! clients use too.

use serde::{Deserialize, Serialize};

use super::{BEAT, Tempo, TimeSignature};
use crate::words::ids::MemberId;
use crate::words::time::Micros;

/// The truth about playback: a small versioned value, sent whole with every change, from which
/// every client computes the position.
///
/// The highest (`epoch`, `version`) wins, so neither order nor loss of messages matters.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// The epoch rises if the session's server changes or its state was lost.
    pub epoch: u64,
    /// Number of decisions in the epoch.
    pub version: u64,
    /// The leader, if there is one.
    pub leader: Option<MemberId>,
    /// One to eight segments in order of `t0`. The last one with `t0 <= t` holds at `t`; later ones
    /// are scheduled.
    pub segments: Vec<Segment>,
    /// At least one entry, in order of `beat`.
    pub meter: Vec<MeterChange>,
    /// Grid for changes while playing, in micro-beats; 0 means at once.
    pub quantum: i64,
    /// Beats counted in before the first one sounds.
    pub count_in: u32,
    /// Time of this version.
    pub made_at: Micros,
}

/// A part of the timeline: from `t0` on, position and beat are functions of time.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Beginning, on the server's clock.
    pub t0: Micros,
    /// Position at `t0` in microseconds; negative while counting in.
    pub p0: i64,
    /// Beat at `t0` in micro-beats; negative while counting in.
    pub b0: i64,
    /// Whether time moves the position. False means stopped.
    pub playing: bool,
    /// The tempo at `t0`.
    pub bpm0: Tempo,
    /// The tempo after the ramp.
    pub bpm1: Tempo,
    /// Duration of the change from `bpm0` to `bpm1` in microseconds; 0 means no ramp.
    pub ramp: u64,
}

/// A time signature that holds from a beat on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct MeterChange {
    /// The first beat of its first bar, in micro-beats.
    pub beat: i64,
    /// The signature.
    pub signature: TimeSignature,
}

/// The place of a beat among the bars.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bar {
    /// Number of the bar, from 0 at the first meter entry; negative before it.
    pub bar: i64,
    /// Micro-beats since the bar began.
    pub in_bar: i64,
    /// The signature of the bar.
    pub signature: TimeSignature,
}

impl Timeline {
    /// Maximum number of segments.
    pub const SEGMENTS_MAX: usize = 8;

    /// Returns the position at `at` in microseconds; negative while counting in.
    pub fn position_at(&self, at: Micros) -> i64 {
        narrow(self.segment_at(at).position(wide(at)))
    }

    /// Returns the beat at `at` in micro-beats.
    pub fn beat_at(&self, at: Micros) -> i64 {
        narrow(self.segment_at(at).beat(wide(at)))
    }

    /// Returns the tempo at `at`, even while the music is stopped.
    pub fn tempo_at(&self, at: Micros) -> Tempo {
        self.segment_at(at).tempo(wide(at))
    }

    /// Whether time moves the position at `at`.
    pub fn is_playing_at(&self, at: Micros) -> bool {
        self.segment_at(at).playing
    }

    /// Returns the first time, not before `from`, at which the music reaches `beat`; `None` if it
    /// never does.
    pub fn time_of_beat(&self, beat: i64, from: Micros) -> Option<Micros> {
        let time = self.first_time_of(i128::from(beat), wide(from))?;
        u64::try_from(time).ok().map(Micros::from_micros)
    }

    /// Returns the bar of `beat`. A meter entry always begins a bar.
    pub fn bar_at(&self, beat: i64) -> Bar {
        let entry = self.meter_entry(beat);
        let bars_before: i64 = self.meter[..entry + usize::from(!self.meter.is_empty())]
            .windows(2)
            .map(|pair| {
                (pair[1].beat - pair[0].beat + pair[0].bar_length() - 1)
                    .div_euclid(pair[0].bar_length())
            })
            .sum();
        let MeterChange { beat: start, signature } =
            self.meter.get(entry).copied().unwrap_or(MeterChange::COMMON);
        let length = i64::from(signature.numerator) * BEAT;
        Bar {
            bar: bars_before + (beat - start).div_euclid(length),
            in_bar: (beat - start).rem_euclid(length),
            signature,
        }
    }

    /// Returns the first boundary at or after `beat` of a grid of `quantum` micro-beats, which
    /// restarts at every meter entry. A quantum of 0 means no grid.
    pub fn next_boundary(&self, beat: i64, quantum: i64) -> i64 {
        if quantum <= 0 {
            return beat;
        }
        let entry = self.meter_entry(beat);
        let start = self.meter.get(entry).map_or(0, |entry| entry.beat);
        let next = start + quantum * (beat - start + quantum - 1).div_euclid(quantum);
        self.meter.get(entry + 1).map_or(next, |following| next.min(following.beat))
    }

    /// Whether this timeline replaces `other`: the higher (`epoch`, `version`) wins, and equal ones
    /// are the same timeline.
    pub fn is_newer(&self, other: &Self) -> bool {
        (self.epoch, self.version) > (other.epoch, other.version)
    }

    /// Returns the index of the segment that holds at `at`: the last one that has begun, or the
    /// first.
    pub fn segment_index_at(&self, at: Micros) -> usize {
        self.segments.iter().rposition(|segment| segment.t0 <= at).unwrap_or(0)
    }

    /// Returns the segment that holds at `at`. A timeline has at least one.
    fn segment_at(&self, at: Micros) -> &Segment {
        &self.segments[self.segment_index_at(at)]
    }

    /// Finds the segment of a beat by beats instead of times, so that rounding leaves no gap
    /// between two segments.
    fn first_time_of(&self, beat: i128, from: i128) -> Option<i128> {
        self.segments.iter().enumerate().find_map(|(index, segment)| {
            let begins = index == 0 || i128::from(segment.b0) <= beat;
            let ends = self
                .segments
                .get(index + 1)
                .is_some_and(|next| segment.beat(wide(next.t0)) <= beat);
            let time = (segment.playing && begins && !ends).then(|| segment.time_of(beat))?;
            (time >= from).then_some(time)
        })
    }

    fn meter_entry(&self, beat: i64) -> usize {
        self.meter.iter().rposition(|entry| entry.beat <= beat).unwrap_or(0)
    }
}

impl Segment {
    fn position(&self, t: i128) -> i128 {
        i128::from(self.p0) + if self.playing { t - wide(self.t0) } else { 0 }
    }

    /// Returns the beat at `t`: the integral of the tempo, linear after the ramp and quadratic
    /// within it.
    fn beat(&self, t: i128) -> i128 {
        let (tau, v0, v1, ramp) = self.terms(t);
        let moved = match () {
            () if !self.playing => 0,
            () if tau <= 0 => round(v0 * tau, 60_000),
            () if tau < ramp => round(2 * v0 * ramp * tau + (v1 - v0) * tau * tau, 120_000 * ramp),
            () => round((v0 + v1) * ramp + 2 * v1 * (tau - ramp), 120_000),
        };
        i128::from(self.b0) + moved
    }

    fn tempo(&self, t: i128) -> Tempo {
        let (tau, v0, v1, ramp) = self.terms(t);
        match () {
            () if tau >= 0 && tau >= ramp => self.bpm1,
            () if tau <= 0 => self.bpm0,
            // Between two tempos lies a tempo.
            () => Tempo((v0 + round((v1 - v0) * tau, ramp)) as u32),
        }
    }

    /// Returns the time of a beat: the inverse of `beat`, for a segment that plays.
    fn time_of(&self, beat: i128) -> i128 {
        debug_assert!(self.playing, "a stopped segment reaches no beat");
        let (_, v0, v1, ramp) = self.terms(0);
        let (t0, difference) = (wide(self.t0), v1 - v0);
        let beats = beat - i128::from(self.b0);
        let past_ramp = 120_000 * beats - (v0 + v1) * ramp;
        if beats > 0 && past_ramp >= 0 {
            return t0 + ramp + round(past_ramp, 2 * v1);
        }
        if beats <= 0 || difference == 0 {
            return t0 + round(60_000 * beats, v0);
        }
        // Four times the square of the speed at that beat, in units that make it an integer.
        let square = 4 * (v0 * v0 * ramp * ramp + 120_000 * difference * ramp * beats);
        let root = square.isqrt();
        if difference > 0 {
            return t0 + (root - 2 * v0 * ramp + difference).div_euclid(2 * difference);
        }
        let root_up = root + i128::from(root * root != square);
        t0 + (2 * v0 * ramp - root_up - difference).div_euclid(-2 * difference)
    }

    /// Returns the time since `t0`, both tempos in milli-BPM, and the ramp.
    fn terms(&self, t: i128) -> (i128, i128, i128, i128) {
        let milli_bpm = |tempo: Tempo| i128::from(tempo.milli_bpm());
        (t - wide(self.t0), milli_bpm(self.bpm0), milli_bpm(self.bpm1), i128::from(self.ramp))
    }
}

impl MeterChange {
    /// The default meter.
    pub const COMMON: Self = Self { beat: 0, signature: TimeSignature::COMMON };

    fn bar_length(&self) -> i64 {
        i64::from(self.signature.numerator) * BEAT
    }
}

/// Returns `n / d` rounded, halves up; `d` is positive.
fn round(n: i128, d: i128) -> i128 {
    debug_assert!(d > 0, "{n} is divided by {d}");
    (2 * n + d).div_euclid(2 * d)
}

fn wide(at: Micros) -> i128 {
    i128::from(at.as_micros())
}

/// Narrows a result. The 24 hours of a song and the age of any real server fit; the clamp is for an
/// impossible clock.
fn narrow(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Every program that computes the music must match these vectors.
    #[test]
    fn the_shared_vectors_hold() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/timeline.json");
        let vectors: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let mut checked = 0;
        for case in list(&vectors["timelines"]) {
            let timeline = timeline(&case["timeline"]);
            let what = |point: &Value| format!("{}: {point}", case["name"]);
            for point in list(&case["at"]) {
                let t = int(&point["t"]);
                let rules = timeline.segments.iter().rposition(|s| wide(s.t0) <= t).unwrap_or(0);
                let segment = &timeline.segments[rules];
                assert_eq!(rules as i128, int(&point["segment"]), "{}", what(point));
                assert_eq!(segment.position(t), int(&point["position"]), "{}", what(point));
                assert_eq!(segment.beat(t), int(&point["beat"]), "{}", what(point));
                assert_eq!(
                    i128::from(segment.tempo(t).milli_bpm()),
                    int(&point["tempo"]),
                    "{}",
                    what(point)
                );
                if let Ok(t) = u64::try_from(t).map(Micros::from_micros) {
                    assert_eq!(
                        i128::from(timeline.position_at(t)),
                        int(&point["position"]),
                        "{}",
                        what(point)
                    );
                    assert_eq!(
                        i128::from(timeline.beat_at(t)),
                        int(&point["beat"]),
                        "{}",
                        what(point)
                    );
                    assert_eq!(i128::from(timeline.tempo_at(t).milli_bpm()), int(&point["tempo"]));
                }
                checked += 1;
            }
            for point in list(&case["beats"]) {
                let time = timeline.first_time_of(int(&point["beat"]), int(&point["from"]));
                assert_eq!(time, point["t"].as_i64().map(i128::from), "{}", what(point));
                checked += 1;
            }
            for point in list(&case["bars"]) {
                let Bar { bar, in_bar, signature } =
                    timeline.bar_at(point["beat"].as_i64().unwrap());
                let found = [bar, in_bar, signature.numerator.into(), signature.denominator.into()];
                let expected =
                    ["bar", "inBar", "num", "den"].map(|name| point[name].as_i64().unwrap());
                assert_eq!(found, expected, "{}", what(point));
                checked += 1;
            }
            for point in list(&case["boundaries"]) {
                let [beat, quantum, next] =
                    ["beat", "quantum", "next"].map(|name| point[name].as_i64().unwrap());
                assert_eq!(timeline.next_boundary(beat, quantum), next, "{}", what(point));
                checked += 1;
            }
        }
        let mut numbered = steady();
        for pair in list(&vectors["newer"]) {
            let mut with = |name: &str| {
                numbered.epoch = pair[name][0].as_u64().unwrap();
                numbered.version = pair[name][1].as_u64().unwrap();
                numbered.clone()
            };
            assert_eq!(with("a").is_newer(&with("b")), pair["newer"].as_bool().unwrap(), "{pair}");
        }
        assert!(checked > 500, "only {checked} points");
    }

    fn list(value: &Value) -> &Vec<Value> {
        value.as_array().unwrap()
    }

    fn int(value: &Value) -> i128 {
        value.as_i64().unwrap().into()
    }

    /// Reads a timeline in its form on the wire.
    fn timeline(value: &Value) -> Timeline {
        let segment = |s: &Value| Segment {
            t0: Micros::from_micros(s["t0"].as_u64().unwrap()),
            p0: s["p0"].as_i64().unwrap(),
            b0: s["b0"].as_i64().unwrap(),
            playing: s["rate"] == 1,
            bpm0: Tempo::from_milli_bpm(s["bpm0"].as_u64().unwrap() as u32).unwrap(),
            bpm1: Tempo::from_milli_bpm(s["bpm1"].as_u64().unwrap() as u32).unwrap(),
            ramp: s["ramp"].as_u64().unwrap(),
        };
        let entry = |m: &Value| MeterChange {
            beat: m["beat"].as_i64().unwrap(),
            signature: TimeSignature::new(m["num"].as_u64().unwrap(), m["den"].as_u64().unwrap())
                .unwrap(),
        };
        Timeline {
            segments: list(&value["segments"]).iter().map(segment).collect(),
            meter: list(&value["meter"]).iter().map(entry).collect(),
            quantum: value["quantum"].as_i64().unwrap(),
            ..steady()
        }
    }

    fn steady() -> Timeline {
        Timeline {
            epoch: 1,
            version: 0,
            leader: None,
            segments: vec![Segment {
                t0: Micros::ZERO,
                p0: 0,
                b0: 0,
                playing: true,
                bpm0: Tempo::DEFAULT,
                bpm1: Tempo::DEFAULT,
                ramp: 0,
            }],
            meter: vec![MeterChange::COMMON],
            quantum: 0,
            count_in: 0,
            made_at: Micros::ZERO,
        }
    }

    /// A timeline that plays from 10 s on, with up to seven tempo changes that keep the beat.
    fn played() -> impl Strategy<Value = Timeline> {
        let tempo = || (1_000..=400_000_u32).prop_map(Tempo);
        let change =
            (1..=60_000_000_u64, tempo(), tempo(), prop_oneof![Just(0), 1..=100_000_000_u64]);
        proptest::collection::vec(change, 1..=8).prop_map(|changes| {
            let mut timeline = steady();
            timeline.segments[0].t0 = Micros::from_secs(10);
            for (index, (length, bpm0, bpm1, ramp)) in changes.into_iter().enumerate() {
                if index > 0 {
                    let t0 = timeline.segments[index - 1].t0 + Micros::from_micros(length);
                    let (p0, b0) = (timeline.position_at(t0), timeline.beat_at(t0));
                    timeline.segments.push(Segment { t0, p0, b0, ..timeline.segments[index - 1] });
                }
                let segment = &mut timeline.segments[index];
                (segment.bpm0, segment.bpm1, segment.ramp) = (bpm0, bpm1, ramp);
            }
            timeline
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn position_and_beat_never_decrease_while_playing(
            timeline in played(), from in 10_000_000..600_000_000_u64, step in 0..2_000_000_u64,
        ) {
            let (from, to) = (Micros::from_micros(from), Micros::from_micros(from + step));
            prop_assert_eq!(timeline.position_at(to) - timeline.position_at(from), step as i64);
            let beats = timeline.beat_at(to) - timeline.beat_at(from);
            // At most 400 BPM, and the rounding of both ends and of a seam each segment.
            prop_assert!((0..=(step * 20 / 3) as i64 + 10).contains(&beats), "{} beats in {} µs", beats, step);
        }

        #[test]
        fn beats_are_continuous_across_tempo_changes(timeline in played()) {
            for pair in timeline.segments.windows(2) {
                let seam = wide(pair[1].t0);
                prop_assert_eq!(pair[0].beat(seam), pair[1].beat(seam));
                prop_assert_eq!(pair[0].position(seam), pair[1].position(seam));
            }
        }

        #[test]
        fn the_time_of_a_beat_inverts_the_beat_at_a_time(timeline in played(), at in 10_000_000..900_000_000_u64) {
            let beat = timeline.beat_at(Micros::from_micros(at));
            let time = timeline.time_of_beat(beat, Micros::ZERO).unwrap();
            // A microsecond is 7 micro-beats at 400 BPM and a sixtieth of one at 1; time and beat
            // are rounded once each.
            prop_assert!((timeline.beat_at(time) - beat).abs() <= 5, "beat {} at {:?}", beat, time);
            let micro_beat = u64::from(60_000 / timeline.tempo_at(Micros::from_micros(at)).milli_bpm());
            prop_assert!(time.as_micros().abs_diff(at) <= 3 + micro_beat, "{:?} for {}", time, at);
        }
    }
}
