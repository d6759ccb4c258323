//! Playback: how what the leader says becomes the next timeline.
//!
//! A change takes effect at once unless it names a time; one that does is scheduled, at most 30 s
//! ahead. What was scheduled for later than a change is planned again on the new ground: a start
//! that was counted in begins at the new place and in the new tempo. Pause and stop cancel it.

use super::{Audience, Effect, Session, unix_at};
use crate::speech::{Ack, Code, Notice, Number, Quantize, Reject, TempoEvent};
use crate::words::ids::MemberId;
use crate::words::music::{BEAT, MeterChange, Position, Segment, Tempo, TimeSignature, Timeline};
use crate::words::time::{Micros, Moment};

/// How far ahead a change may be scheduled; a later time is brought forward to it.
const LEAD_MAX: Micros = Micros::from_secs(30);

/// What a reported position may be off before anybody is corrected, in microseconds: the 25 ms that
/// the protocol promises.
const DRIFT_MAX: u64 = 25_000;

/// Meter changes that a timeline remembers; the oldest is forgotten, and bars count from the next.
const METER_MAX: usize = 16;

impl Session {
    /// `play`. While the music plays, or counts in, it changes nothing.
    ///
    /// With `quantize` the place moves back to the beginning of its bar or beat, since a band that
    /// stands still has no running beat to wait for. `count_in_bars` are played before the place,
    /// as beats of the same grid.
    pub(super) fn play(
        &mut self,
        now: Moment,
        member: MemberId,
        at: Option<Micros>,
        count_in_bars: u32,
        quantize: Option<Quantize>,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let mut next = self.state.timeline().clone();
        if next.is_playing_at(now.at) {
            let (tempo, position) = (next.tempo_at(now.at), next.position_at(now.at));
            let play = Notice::Play { tempo, position, timestamp: now.unix, timeline: next };
            return Ok(self.state.report(false, member, play, out));
        }
        if let Some(quantize) = quantize {
            next.step_back(now.at, quantize);
        }
        let at = lead(now, at);
        next.count_in = count_in_bars * u32::from(next.signature_at(at).numerator);
        next.cancel_start(now.at);
        let start = next.start(at);
        next.turn(now.at, start)?;
        let changed = self.take_course(now, next);
        let (tempo, position) = (start.bpm0, start.p0);
        let (timestamp, timeline) = (unix_at(now, at), self.state.timeline().clone());
        Ok(self.state.report(
            changed,
            member,
            Notice::Play { tempo, position, timestamp, timeline },
            out,
        ))
    }

    /// `pause`: where it was pressed; a pause during the count-in goes back to where the music was
    /// to begin.
    pub(super) fn pause(
        &mut self,
        now: Moment,
        member: MemberId,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let changed = self.stand_still(now);
        if changed {
            self.state.decide(now);
        }
        Ok(self.state.report(changed, member, self.state.pause_notice(now), out))
    }

    /// `stop`: pauses, at the beginning.
    pub(super) fn stop(
        &mut self,
        now: Moment,
        member: MemberId,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let mut next = self.state.timeline().clone();
        next.rewind(now.at);
        let changed = self.take_course(now, next);
        let timeline = self.state.timeline().clone();
        Ok(self.state.report(changed, member, Notice::Stop { timestamp: now.unix, timeline }, out))
    }

    /// `seek`: while playing, the beat goes on and only the position jumps; standing still, both
    /// are set.
    pub(super) fn seek(
        &mut self,
        now: Moment,
        member: MemberId,
        position: Position,
        at: Option<Micros>,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?; // mark: follower_may_seek
        let at = lead(now, at);
        let position = position.as_micros() as i64;
        let changed = self.move_to(now, at, position)?;
        let (timestamp, timeline) = (unix_at(now, at), self.state.timeline().clone());
        Ok(self.state.report(changed, member, Notice::Seek { position, timestamp, timeline }, out))
    }

    /// A tempo change: from the present beat on, over `fade`. Standing still nothing is heard of a
    /// fade, so that the new tempo holds at once.
    pub(super) fn change_tempo(
        &mut self,
        now: Moment,
        member: MemberId,
        tempo: Tempo,
        fade: Micros,
        event: TempoEvent,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?; // mark: follower_may_set_tempo
        let old = self.state.timeline().tempo_at(now.at);
        let fade = if self.state.timeline().is_playing_at(now.at) && old != tempo {
            fade
        } else {
            Micros::ZERO
        };
        let mut next = self.state.timeline().clone();
        next.set_tempo(now.at, tempo, fade)?;
        let changed = self.take_course(now, next);
        let timeline = self.state.timeline().clone();
        let change =
            Notice::TempoChange { event, old, new: tempo, fade, timestamp: now.unix, timeline };
        Ok(self.state.report(changed, member, change, out))
    }

    /// `set_time_signature`: from the next bar line on, or from the present bar if the music stands
    /// still.
    pub(super) fn set_time_signature(
        &mut self,
        now: Moment,
        member: MemberId,
        signature: TimeSignature,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let mut next = self.state.timeline().clone();
        next.set_signature(now.at, signature);
        let changed = self.take_course(now, next);
        let update = Notice::SessionUpdate {
            settings: None,
            time_signature: Some((signature, self.state.timeline().clone())),
            epoch: self.state.epoch(),
            version: self.state.version(),
            checksum: self.state.checksum(),
        };
        out.push(Effect::Notify(Audience::of(changed, member), update));
        Ok(self.state.changed())
    }

    /// `beat_sync`: tells everybody how far the leader is from the timeline, and moves nothing.
    pub(super) fn beat_sync(
        &self,
        now: Moment,
        member: MemberId,
        beat_position: Number,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let timeline = self.state.timeline();
        // The protocol's beats have decimals; the cast saturates.
        let reported = (beat_position.0 * BEAT as f64).round() as i64;
        let sync = Notice::BeatSync {
            master_time: now.unix,
            beat_position,
            tempo: timeline.tempo_at(now.at),
            drift: reported.saturating_sub(timeline.beat_at(now.at)),
        };
        out.push(Effect::Notify(Audience::All, sync));
        Ok(Ack::Done)
    }

    /// `position_sync`: the leader's position is taken over if it is off by more than the
    /// tolerance, a follower is told where it should be. All are told the position that holds then.
    pub(super) fn position_sync(
        &mut self,
        now: Moment,
        member: MemberId,
        position: Position,
        timestamp: Number,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        // Nobody can report a place before the beginning, where the count-in is.
        let correct = self.state.timeline().position_at(now.at).max(0);
        let reported = position.as_micros() as i64;
        let off = correct.abs_diff(reported) > DRIFT_MAX;
        // mark: report_moves_the_band
        if self.state.leader() != Some(member) {
            if off {
                let correction = Notice::DriftCorrection { correct, reported, timestamp: now.unix };
                out.push(Effect::Notify(Audience::One(member), correction));
            }
            return Ok(Ack::Done);
        }
        let moved = off && self.move_to(now, now.at, reported)?;
        let sync = Notice::PositionSync {
            position: self.state.timeline().position_at(now.at),
            server_time: now.unix,
            client_timestamp: timestamp,
        };
        out.push(Effect::Notify(Audience::All, sync));
        if moved {
            out.push(Effect::Snapshot(Audience::All));
        }
        Ok(self.state.changed())
    }

    /// Pauses and cancels what is scheduled; the caller makes it a decision. False if there is
    /// nothing to pause.
    pub(super) fn stand_still(&mut self, now: Moment) -> bool {
        let timeline = &mut self.state.record.timeline;
        // mark: pause_keeps_the_plan
        let pauses = timeline.is_playing_at(now.at) || timeline.is_anything_scheduled(now.at);
        if pauses {
            timeline.pause(now.at);
            self.follow_course(now, false);
        }
        pauses
    }

    /// Makes another timeline the next version, unless nothing about it is different.
    pub(super) fn take_course(&mut self, now: Moment, next: Timeline) -> bool {
        let Some(goes_on) = self.state.take_course(now.at, next) else { return false };
        self.follow_course(now, goes_on);
        self.state.decide(now);
        true
    }

    /// Notes that playback has changed; `goes_on` says whether its beat does not.
    fn follow_course(&mut self, now: Moment, goes_on: bool) {
        self.announced = now.at;
        self.metronome.follow(self.state.timeline(), now.at, goes_on);
    }

    pub(super) fn check_timeline(&self) {
        let timeline = self.state.timeline();
        assert!((1..=Timeline::SEGMENTS_MAX).contains(&timeline.segments.len()));
        assert!(timeline.segments.is_sorted_by(|a, b| a.t0 < b.t0), "{:?}", timeline.segments);
        assert!(
            timeline
                .segments
                .iter()
                .all(|s| s.playing || (s.ramp == 0 && s.bpm0 == s.bpm1 && s.p0 >= 0))
        );
        assert!((1..=METER_MAX).contains(&timeline.meter.len()));
        assert!(timeline.meter.is_sorted_by(|a, b| a.beat < b.beat), "{:?}", timeline.meter);
        let seams = timeline.segments.windows(2).filter(|pair| pair[0].playing && pair[1].playing);
        for pair in seams {
            let up_to_seam = Timeline { segments: vec![pair[0]], ..timeline.clone() };
            assert_eq!(
                up_to_seam.beat_at(pair[1].t0),
                pair[1].b0,
                "beats jump at {:?}",
                pair[1].t0
            );
        }
    }

    fn move_to(&mut self, now: Moment, at: Micros, position: i64) -> Result<bool, Reject> {
        let mut next = self.state.timeline().clone();
        let target = next.sought(at, position);
        let is_there = if next.is_playing_at(now.at) {
            at == now.at && next.position_at(at) == position
        } else {
            next.is_still_at(now.at, position, target.b0)
        };
        let here = is_there && !next.is_anything_scheduled(now.at);
        if !here {
            next.turn(now.at, target)?;
        }
        Ok(self.take_course(now, next))
    }
}

/// When a change that asks for `at` takes effect.
fn lead(now: Moment, at: Option<Micros>) -> Micros {
    at.map_or(now.at, |at| at.clamp(now.at, now.at + LEAD_MAX))
}

impl Timeline {
    /// Puts `segment` in at its time, now or later, and forgets the past. What was scheduled for
    /// after it is planned again.
    pub(super) fn turn(&mut self, now: Micros, segment: Segment) -> Result<(), Reject> {
        self.segments.drain(..self.segment_index_at(now));
        let until = self.segments.iter().position(|s| s.t0 > now && s.t0 >= segment.t0);
        let later = self.segments.split_off(until.unwrap_or(self.segments.len()));
        if segment.t0 == now {
            self.segments.clear();
        }
        self.segments.push(segment);
        for planned in later {
            let starts = planned.playing && !self.is_playing_at(planned.t0);
            if planned.t0 == segment.t0 && !starts {
                continue;
            }
            let again =
                if starts { self.start(planned.t0) } else { self.sought(planned.t0, planned.p0) };
            self.segments.retain(|s| s.t0 < again.t0);
            self.segments.push(again);
        }
        if self.segments.len() > Self::SEGMENTS_MAX {
            return Err(Reject::new(
                Code::NotAllowed,
                "too many changes are scheduled; wait for the first",
            ));
        }
        Ok(())
    }

    /// The music as it goes on from `at`.
    pub(super) fn onward(&self, at: Micros) -> Segment {
        let ruling = self.segments[self.segment_index_at(at)];
        let ramp = ruling.ramp.saturating_sub(at.since(ruling.t0).as_micros());
        let tempo = self.tempo_at(at);
        let bpm1 = if ramp == 0 { tempo } else { ruling.bpm1 };
        Segment {
            t0: at,
            p0: self.position_at(at),
            b0: self.beat_at(at),
            bpm0: tempo,
            bpm1,
            ramp,
            ..ruling
        }
    }

    /// Playing from where the music stands at `at`, after the count-in.
    fn start(&self, at: Micros) -> Segment {
        let still = self.onward(at);
        let beats = i64::from(self.count_in) * BEAT; // mark: count_in_forgotten
        let p0 = still.p0 - micros_of_beats(beats, still.bpm0);
        Segment { p0, b0: still.b0 - beats, playing: true, ..still }
    }

    /// The music as it goes on from `at` at another place.
    fn sought(&self, at: Micros, position: i64) -> Segment {
        let present = self.onward(at);
        let b0 = if present.playing { present.b0 } else { beats_of_micros(position, present.bpm0) };
        Segment { p0: position, b0, ..present }
    }

    fn set_tempo(&mut self, now: Micros, tempo: Tempo, fade: Micros) -> Result<(), Reject> {
        let present = self.onward(now);
        if present.ramp == 0 && present.bpm0 == tempo {
            return Ok(());
        }
        let bpm0 = if fade == Micros::ZERO { tempo } else { present.bpm0 }; // mark: fade_jumps
        // mark: tempo_recounts_beats
        self.turn(now, Segment { bpm0, bpm1: tempo, ramp: fade.as_micros(), ..present })
    }

    fn pause(&mut self, now: Micros) {
        let present = self.onward(now);
        let (p0, b0) = if present.p0 < 0 { (0, 0) } else { (present.p0, present.b0) };
        self.segments =
            vec![Segment { p0, b0, playing: false, bpm1: present.bpm0, ramp: 0, ..present }];
        self.count_in = 0;
    }

    /// Stops at the beginning, where the newest signature holds.
    pub(super) fn rewind(&mut self, now: Micros) {
        if let Some(last) = self.meter.last().copied() {
            self.meter = vec![MeterChange { beat: 0, ..last }];
        }
        if !self.is_still_at(now, 0, 0) || self.is_anything_scheduled(now) {
            self.pause(now);
            let still = Segment { p0: 0, b0: 0, ..self.onward(now) }; // mark: stop_stays_there
            self.segments = vec![still];
        }
    }

    /// The tempo and the signature to begin a song with; only while the music stands still.
    pub(super) fn begin_with(
        &mut self,
        now: Micros,
        tempo: Option<Tempo>,
        signature: Option<TimeSignature>,
    ) {
        let tempo = tempo.unwrap_or(self.tempo_at(now));
        for segment in &mut self.segments {
            (segment.bpm0, segment.bpm1) = (tempo, tempo);
        }
        if let Some(signature) = signature {
            self.meter = vec![MeterChange { beat: 0, signature }];
        }
    }

    fn set_signature(&mut self, now: Micros, signature: TimeSignature) {
        let beat = self.beat_at(now);
        let bar = self.bar_at(beat);
        let first = self.meter.first().map_or(0, |entry| entry.beat);
        let from = if self.is_playing_at(now) && bar.in_bar > 0 {
            self.next_boundary(beat, i64::from(bar.signature.numerator) * BEAT)
        } else {
            beat - bar.in_bar
        };
        // A count-in lies before the first bar, and must not become it.
        let from = from.max(first);
        self.meter.retain(|entry| entry.beat < from);
        if self.meter.last().is_none_or(|last| last.signature != signature) {
            self.meter.push(MeterChange { beat: from, signature });
        }
        if self.meter.len() > METER_MAX {
            self.meter.remove(0);
        }
    }

    /// Moves the place back to the beginning of its bar or beat, but not before the song.
    fn step_back(&mut self, now: Micros, quantize: Quantize) {
        let still = self.onward(now);
        let into = match quantize {
            Quantize::Bar => self.bar_at(still.b0).in_bar,
            Quantize::Beat => still.b0.rem_euclid(BEAT),
        };
        let p0 = (still.p0 - micros_of_beats(into, still.bpm0)).max(0);
        if into > 0 {
            self.segments = vec![Segment { p0, b0: still.b0 - into, ..still }];
        }
    }

    fn cancel_start(&mut self, now: Micros) {
        let start =
            self.segments_after(now).find(|segment| segment.playing).map(|segment| segment.t0);
        if let Some(start) = start {
            self.segments.retain(|segment| segment.t0 < start);
        }
    }

    fn signature_at(&self, at: Micros) -> TimeSignature {
        self.bar_at(self.beat_at(at)).signature
    }

    fn is_still_at(&self, now: Micros, position: i64, beat: i64) -> bool {
        !self.is_playing_at(now) && self.position_at(now) == position && self.beat_at(now) == beat
    }

    fn is_anything_scheduled(&self, now: Micros) -> bool {
        self.segments_after(now).next().is_some()
    }

    fn segments_after(&self, now: Micros) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(move |segment| segment.t0 > now)
    }
}

/// How long so many micro-beats take, rounded to the nearest microsecond.
fn micros_of_beats(beats: i64, tempo: Tempo) -> i64 {
    let tempo = i128::from(tempo.milli_bpm());
    (120_000 * i128::from(beats) + tempo).div_euclid(2 * tempo) as i64
}

/// The micro-beats in so many microseconds, rounded to the nearest.
fn beats_of_micros(micros: i64, tempo: Tempo) -> i64 {
    (i128::from(micros) * i128::from(tempo.milli_bpm()) + 30_000).div_euclid(60_000) as i64
}
