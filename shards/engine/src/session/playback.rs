//! Playback: the leader's commands become the next timeline.
//!
//! A change may be scheduled at most 30 s ahead. Pause and stop cancel a scheduled change; any
//! other command plans it again, see [`Draft`].

use super::draft::{Draft, METER_MAX};
use super::{Audience, Effect, Session, unix_at};
use crate::speech::{Ack, Notice, Number, Reject, Start, TempoChange};
use crate::words::ids::MemberId;
use crate::words::music::{BEAT, Position, TimeSignature, Timeline};
use crate::words::time::{Micros, Moment};

/// How far ahead a change may be scheduled; a later time is brought forward to it.
const LEAD_MAX: Micros = Micros::from_secs(30);

/// What a reported position may be off before anybody is corrected, in microseconds: the 25 ms that
/// the protocol promises.
const DRIFT_MAX: u64 = 25_000;

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
        Start { at, count_in_bars, quantize }: Start,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let mut next = self.state.draft(now.at);
        let present = &next.timeline;
        if present.is_playing_at(now.at) {
            let (tempo, position) = (present.tempo_at(now.at), present.position_at(now.at));
            let (timestamp, timeline) = (now.unix, next.timeline);
            let play = Notice::Play { tempo, position, timestamp, timeline };
            return Ok(self.state.report(false, member, play, out));
        }
        if let Some(quantize) = quantize {
            next.step_back(quantize);
        }
        let at = lead(now, at);
        next.timeline.count_in = count_in_bars * u32::from(next.signature_at(at).numerator);
        next.cancel_start();
        let start = next.start(at);
        next.turn(start)?;
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
        let mut next = self.state.draft(now.at);
        next.rewind();
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
        TempoChange { tempo, fade, event }: TempoChange,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?; // mark: follower_may_set_tempo
        let old = self.state.timeline().tempo_at(now.at);
        let fade = if self.state.timeline().is_playing_at(now.at) && old != tempo {
            fade
        } else {
            Micros::ZERO
        };
        let mut next = self.state.draft(now.at);
        next.set_tempo(tempo, fade)?;
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
        let mut next = self.state.draft(now.at);
        next.set_signature(signature);
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
        let mut next = self.state.draft(now.at);
        // mark: pause_keeps_the_plan
        let pauses = next.timeline.is_playing_at(now.at) || next.is_anything_scheduled();
        if pauses {
            next.pause();
            self.state.take_course(next);
            self.follow_course(now, false);
        }
        pauses
    }

    /// Makes another timeline the next version, unless nothing about it is different.
    pub(super) fn take_course(&mut self, now: Moment, next: Draft) -> bool {
        let Some(goes_on) = self.state.take_course(next) else { return false };
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
        let mut next = self.state.draft(now.at);
        let target = next.sought(at, position);
        let is_there = if next.timeline.is_playing_at(now.at) {
            at == now.at && next.timeline.position_at(at) == position
        } else {
            next.is_still_at(position, target.b0)
        };
        let here = is_there && !next.is_anything_scheduled();
        if !here {
            next.turn(target)?;
        }
        Ok(self.take_course(now, next))
    }
}

/// When a change that asks for `at` takes effect.
fn lead(now: Moment, at: Option<Micros>) -> Micros {
    at.map_or(now.at, |at| at.clamp(now.at, now.at + LEAD_MAX))
}
