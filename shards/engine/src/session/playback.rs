//! Playback: the leader's commands become the next timeline.
//!
//! A change may be scheduled at most 30 s ahead. Pause and stop cancel a scheduled change; any
//! other command plans it again, see [`Draft`].

use super::draft::{Draft, Move};
use super::{Audience, Effect, Session, unix_at};
use crate::speech::{Ack, Notice, Number, Reject, Start, TempoChange};
use crate::words::ids::MemberId;
use crate::words::music::{BEAT, Position, TimeSignature, Timeline};
use crate::words::time::{Micros, Moment};

/// Maximum time by which a change may be scheduled ahead. A later time is replaced by it.
/// Specified.
const LEAD_MAX: Micros = Micros::from_secs(30);

/// Tolerance of a reported position in microseconds. Specified: the protocol promises 25 ms.
const DRIFT_MAX: u64 = 25_000;

impl Session {
    /// Handles `play`. If the music plays or counts in, nothing changes.
    ///
    /// `quantize` moves the place back to the beginning of its bar or beat, since a stopped band
    /// has no running beat to wait for. The bars of `count_in_bars` are played before the place, as
    /// beats of the same grid.
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
            next.step_back(quantize)?;
        }
        let at = lead(now, at);
        let start = next.play(at, count_in_bars)?;
        let (tempo, position) = (start.bpm0, start.p0);
        let changed = self.install(now, next);
        let (timestamp, timeline) = (unix_at(now, at), self.state.timeline().clone());
        Ok(self.state.report(
            changed,
            member,
            Notice::Play { tempo, position, timestamp, timeline },
            out,
        ))
    }

    /// Handles `pause`. The music stops at its present place; during a count-in it returns to the
    /// place where it was to begin.
    pub(super) fn pause(
        &mut self,
        now: Moment,
        member: MemberId,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let changed = self.stop_playback(now);
        if changed {
            self.state.decide(now);
        }
        Ok(self.state.report(changed, member, self.state.pause_notice(now), out))
    }

    /// Handles `stop`: pauses at the beginning.
    pub(super) fn stop(
        &mut self,
        now: Moment,
        member: MemberId,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let mut next = self.state.draft(now.at);
        next.stop()?;
        let changed = self.install(now, next);
        let timeline = self.state.timeline().clone();
        Ok(self.state.report(changed, member, Notice::Stop { timestamp: now.unix, timeline }, out))
    }

    /// Handles `seek`. While playing, the beat goes on and only the position jumps. While stopped,
    /// both are set.
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

    /// Handles a tempo change: from the present beat on, over `fade`. A fade cannot be heard while
    /// the music is stopped, so the new tempo holds at once.
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
        let changed = self.install(now, next);
        let timeline = self.state.timeline().clone();
        let change =
            Notice::TempoChange { event, old, new: tempo, fade, timestamp: now.unix, timeline };
        Ok(self.state.report(changed, member, change, out))
    }

    /// Handles `set_time_signature`: from the next bar line on, or from the present bar if the
    /// music is stopped.
    pub(super) fn set_time_signature(
        &mut self,
        now: Moment,
        member: MemberId,
        signature: TimeSignature,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let mut next = self.state.draft(now.at);
        next.set_signature(signature)?;
        let changed = self.install(now, next);
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

    /// Handles `beat_sync`: sends all members the leader's distance from the timeline, and moves
    /// nothing.
    pub(super) fn beat_sync(
        &self,
        now: Moment,
        member: MemberId,
        beat_position: Number,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        self.state.leader_only(member)?;
        let timeline = self.state.timeline();
        // The protocol's beats have decimals. The cast saturates.
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

    /// Handles `position_sync`. If the leader reports a position outside the tolerance, the music
    /// moves there; a follower receives a correction. A leader's report is answered with the
    /// position that then holds, sent to all.
    pub(super) fn position_sync(
        &mut self,
        now: Moment,
        member: MemberId,
        position: Position,
        timestamp: Number,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        // No member can report a place before the beginning, where the count-in is.
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

    /// Pauses and cancels scheduled changes. Returns false if there was nothing to pause. The
    /// caller makes it a decision.
    pub(super) fn stop_playback(&mut self, now: Moment) -> bool {
        let mut next = self.state.draft(now.at);
        // mark: pause_keeps_the_plan
        let pauses = next.timeline.is_playing_at(now.at) || next.is_anything_planned();
        if pauses && next.pause(now.at).is_ok() {
            let old = self.state.install(next);
            self.timeline_changed(now, old);
        }
        pauses
    }

    /// Makes a draft the next version. Returns false if it does not differ from the present
    /// timeline.
    pub(super) fn install(&mut self, now: Moment, next: Draft) -> bool {
        let Some(old) = self.state.install(next) else { return false };
        self.timeline_changed(now, Some(old));
        self.state.decide(now);
        true
    }

    /// Adapts announcements and metronome to playback that has changed since `old`.
    pub(super) fn timeline_changed(&mut self, now: Moment, old: Option<Timeline>) {
        let Some(old) = old else { return };
        self.announced = now.at;
        self.metronome.follow(&old, self.state.timeline(), now.at);
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
        assert!((1..=Timeline::METER_MAX).contains(&timeline.meter.len()));
        assert!(timeline.meter.is_sorted_by(|a, b| a.beat < b.beat), "{:?}", timeline.meter);
        for (before, after) in timeline.segments.iter().zip(timeline.segments.iter().skip(1)) {
            let cut = after.armed.as_ref().map(|armed| armed.cut);
            assert!(cut.is_none_or(|cut| before.b0 < cut), "never reached: {after:?}");
            let late = |cut| after.t0.as_micros().abs_diff(before.time_of_count(cut).as_micros());
            assert!(cut.is_none_or(|cut| late(cut) <= 1), "at another time: {after:?}");
        }
    }

    /// Moves the music to a position. Returns whether the timeline changed.
    fn move_to(&mut self, now: Moment, at: Micros, position: i64) -> Result<bool, Reject> {
        let mut next = self.state.draft(now.at);
        next.seek(at, Move::Position(position))?;
        Ok(self.install(now, next))
    }
}

/// Returns the time at which a change that asks for `at` takes effect.
fn lead(now: Moment, at: Option<Micros>) -> Micros {
    at.map_or(now.at, |at| at.clamp(now.at, now.at + LEAD_MAX))
}
