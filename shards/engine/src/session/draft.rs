//! The next timeline while it is planned: the present one with a change.
//!
//! A change takes effect at once unless it names a time. Changes that are already scheduled are
//! planned again on the changed timeline: a counted-in start then begins at the new place and in
//! the new tempo.

use crate::record::METER_MAX;
use crate::speech::{Code, Quantize, Reject};
use crate::words::music::{BEAT, Bar, MeterChange, Segment, Tempo, TimeSignature, Timeline};
use crate::words::time::Micros;

/// A timeline that may be changed before it is taken.
#[derive(Debug)]
pub(super) struct Draft {
    /// The result so far.
    pub timeline: Timeline,
    /// Time of the change.
    pub now: Micros,
}

impl Draft {
    /// Creates a draft of the present timeline.
    pub fn new(timeline: &Timeline, now: Micros) -> Self {
        Self { timeline: timeline.clone(), now }
    }

    /// Moves the music from its present time to the time `there` of another clock.
    pub fn carry_over(&mut self, there: Micros) {
        let turned = self.turn(self.onward(self.now));
        assert!(turned.is_ok(), "the present takes no more room than what led to it");
        for segment in &mut self.timeline.segments {
            segment.t0 = there + segment.t0.since(self.now);
        }
    }

    /// Inserts a segment at its time, now or later, and drops the past. Later changes are planned
    /// again.
    ///
    /// # Errors
    /// `not_allowed` if too many changes would be scheduled.
    pub fn turn(&mut self, segment: Segment) -> Result<(), Reject> {
        self.timeline.segments.drain(..self.timeline.segment_index_at(self.now));
        let until =
            self.timeline.segments.iter().position(|s| s.t0 > self.now && s.t0 >= segment.t0);
        let later = self.timeline.segments.split_off(until.unwrap_or(self.timeline.segments.len()));
        if segment.t0 == self.now {
            self.timeline.segments.clear();
        }
        let turned_at = segment.t0;
        self.timeline.segments.push(segment);
        for planned in later {
            let starts = planned.playing && !self.timeline.is_playing_at(planned.t0);
            if planned.t0 == turned_at && !starts {
                continue;
            }
            let again =
                if starts { self.start(planned.t0) } else { self.sought(planned.t0, planned.p0) };
            self.timeline.segments.retain(|s| s.t0 < again.t0);
            self.timeline.segments.push(again);
        }
        if self.timeline.segments.len() > Timeline::SEGMENTS_MAX {
            return Err(Reject::new(
                Code::NotAllowed,
                "too many changes are scheduled; wait for the first",
            ));
        }
        Ok(())
    }

    /// Returns the segment that continues the music from `at`.
    fn onward(&self, at: Micros) -> Segment {
        let ruling = &self.timeline.segments[self.timeline.segment_index_at(at)];
        let ramp = ruling.ramp.saturating_sub(at.since(ruling.t0).as_micros());
        let tempo = self.timeline.tempo_at(at);
        let bpm1 = if ramp == 0 { tempo } else { ruling.bpm1 };
        Segment {
            t0: at,
            p0: self.timeline.position_at(at),
            b0: self.timeline.beat_at(at),
            bpm0: tempo,
            bpm1,
            ramp,
            ..ruling.clone()
        }
    }

    /// Returns the segment that starts the music at `at`, after the count-in.
    pub fn start(&self, at: Micros) -> Segment {
        let still = self.onward(at);
        let beats = i64::from(self.timeline.count_in) * BEAT; // mark: count_in_forgotten
        let p0 = still.p0 - micros_of_beats(beats, still.bpm0);
        Segment { p0, b0: still.b0 - beats, playing: true, ..still }
    }

    /// Returns the segment that continues the music from `at` at another position.
    pub fn sought(&self, at: Micros, position: i64) -> Segment {
        let present = self.onward(at);
        let b0 = if present.playing { present.b0 } else { beats_of_micros(position, present.bpm0) };
        Segment { p0: position, b0, ..present }
    }

    /// Changes the tempo from now on, over `fade`.
    pub fn set_tempo(&mut self, tempo: Tempo, fade: Micros) -> Result<(), Reject> {
        let present = self.onward(self.now);
        if present.ramp == 0 && present.bpm0 == tempo {
            return Ok(());
        }
        let bpm0 = if fade == Micros::ZERO { tempo } else { present.bpm0 }; // mark: fade_jumps
        // mark: tempo_recounts_beats
        self.turn(Segment { bpm0, bpm1: tempo, ramp: fade.as_micros(), ..present })
    }

    /// Stops at the present place and cancels scheduled changes. A pause during a count-in returns
    /// to the beginning.
    pub fn pause(&mut self) {
        let present = self.onward(self.now);
        let (p0, b0) = if present.p0 < 0 { (0, 0) } else { (present.p0, present.b0) };
        self.timeline.segments =
            vec![Segment { p0, b0, playing: false, bpm1: present.bpm0, ramp: 0, ..present }];
        self.timeline.count_in = 0;
    }

    /// Stops at the beginning, with the newest signature.
    pub fn rewind(&mut self) {
        if let Some(last) = self.timeline.meter.last().copied() {
            self.timeline.meter = vec![MeterChange { beat: 0, ..last }];
        }
        if !self.is_still_at(0, 0) || self.is_anything_scheduled() {
            self.pause();
            let still = Segment { p0: 0, b0: 0, ..self.onward(self.now) }; // mark: stop_stays_there
            self.timeline.segments = vec![still];
        }
    }

    /// Sets the tempo and signature of a song. The music must be stopped.
    pub fn begin_with(&mut self, tempo: Option<Tempo>, signature: Option<TimeSignature>) {
        debug_assert!(!self.timeline.is_playing_at(self.now), "a song begins with stopped music");
        let tempo = tempo.unwrap_or(self.timeline.tempo_at(self.now));
        for segment in &mut self.timeline.segments {
            (segment.bpm0, segment.bpm1) = (tempo, tempo);
        }
        if let Some(signature) = signature {
            self.timeline.meter = vec![MeterChange { beat: 0, signature }];
        }
    }

    /// Changes the signature from the next bar line on, or from the present bar if the music is
    /// stopped.
    pub fn set_signature(&mut self, signature: TimeSignature) {
        let beat = self.timeline.beat_at(self.now);
        let bar = Bar::at(&self.timeline.meter, beat);
        let first = self.timeline.meter.first().map_or(0, |entry| entry.beat);
        let from = if self.timeline.is_playing_at(self.now) && bar.in_bar > 0 {
            self.timeline.next_boundary(beat, i64::from(bar.signature.numerator) * BEAT)
        } else {
            beat - bar.in_bar
        };
        // A count-in lies before the first bar and must not become it.
        let from = from.max(first);
        self.timeline.meter.retain(|entry| entry.beat < from);
        if self.timeline.meter.last().is_none_or(|last| last.signature != signature) {
            self.timeline.meter.push(MeterChange { beat: from, signature });
        }
        if self.timeline.meter.len() > METER_MAX {
            self.timeline.meter.remove(0);
        }
    }

    /// Moves the place back to the beginning of its bar or beat, but not before the song.
    pub fn step_back(&mut self, quantize: Quantize) {
        let still = self.onward(self.now);
        let into = match quantize {
            Quantize::Bar => Bar::at(&self.timeline.meter, still.b0).in_bar,
            Quantize::Beat => still.b0.rem_euclid(BEAT),
        };
        let p0 = (still.p0 - micros_of_beats(into, still.bpm0)).max(0);
        if into > 0 {
            self.timeline.segments = vec![Segment { p0, b0: still.b0 - into, ..still }];
        }
    }

    /// Cancels a scheduled start with all later changes.
    pub fn cancel_start(&mut self) {
        let start = self.segments_after().find(|segment| segment.playing).map(|segment| segment.t0);
        if let Some(start) = start {
            self.timeline.segments.retain(|segment| segment.t0 < start);
        }
    }

    pub fn signature_at(&self, at: Micros) -> TimeSignature {
        self.timeline.place_at(at).bar.signature
    }

    /// Whether the music is stopped at this position and beat.
    pub fn is_still_at(&self, position: i64, beat: i64) -> bool {
        !self.timeline.is_playing_at(self.now)
            && self.timeline.position_at(self.now) == position
            && self.timeline.beat_at(self.now) == beat
    }

    /// Whether a change is scheduled for later.
    pub fn is_anything_scheduled(&self) -> bool {
        self.segments_after().next().is_some()
    }

    fn segments_after(&self) -> impl Iterator<Item = &Segment> {
        self.timeline.segments.iter().filter(move |segment| segment.t0 > self.now)
    }
}

/// Returns the duration of `beats` micro-beats, rounded to the nearest microsecond.
fn micros_of_beats(beats: i64, tempo: Tempo) -> i64 {
    let tempo = i128::from(tempo.milli_bpm());
    (120_000 * i128::from(beats) + tempo).div_euclid(2 * tempo) as i64
}

/// Returns the micro-beats in `micros` microseconds, rounded to the nearest.
fn beats_of_micros(micros: i64, tempo: Tempo) -> i64 {
    (i128::from(micros) * i128::from(tempo.milli_bpm()) + 30_000).div_euclid(60_000) as i64
}
