//! Playback: the leader's commands become the next timeline.
//!
//! A change may be scheduled at most 30 s ahead, or armed: it then waits for a place in the song.
//! Pause and stop cancel both. Most other commands keep them; [`Draft`] says what each one drops.

use super::draft::{Draft, Move};
use super::metronome::Metronome;
use super::state::{Part, State};
use super::{Audience, Effect, unix_at};
use crate::speech::{Ack, Notice, Number, Reject, Start, Target, TempoChange, When};
use crate::words::ids::MemberId;
use crate::words::music::{BEAT, Position, Segment, TimeSignature, Timeline};
use crate::words::time::{Micros, Moment};

/// Maximum time by which a change may be scheduled ahead. A later time is replaced by it.
/// Specified.
const SCHEDULE_AHEAD_MAX: Micros = Micros::from_secs(30);

/// Maximum age of a press of pause at whose time the music stops. Specified.
const PRESS_AGE_MAX: Micros = Micros::from_millis(500);

/// Tolerance of a reported position in microseconds. Specified: the protocol promises 25 ms.
const DRIFT_MAX: u64 = 25_000;

/// The part of a session that changes the music and announces what begins by itself.
#[derive(Clone, Debug)]
pub(super) struct Playback {
    metronome: Metronome,
    /// Time up to which the starts of scheduled segments were announced.
    announced: Micros,
}

impl Playback {
    /// Creates the playback of a session that has announced nothing.
    pub const fn new(now: Micros) -> Self {
        Self { metronome: Metronome::new(now), announced: now }
    }

    /// Sets whether a member wants beats.
    pub fn listen(&mut self, state: &mut State, now: Micros, member: MemberId, wants: bool) {
        self.metronome.listen(state, now, member, wants);
    }

    /// Returns the time at which something is to be announced even if nothing happens.
    pub fn next_deadline(&self, state: &State) -> Option<Micros> {
        let starts = state.timeline().segments.iter().map(|segment| segment.t0);
        let scheduled = starts.into_iter().find(|&t0| t0 > self.announced);
        [scheduled, self.metronome.deadline(state)].into_iter().flatten().min()
    }

    /// Returns the time at which the next beat is to be announced, if a member listens.
    pub fn next_beat(&self, state: &State) -> Option<Micros> {
        self.metronome.deadline(state)
    }

    /// Follows the timeline of a copy. The original has announced what has begun.
    pub fn follow_copy(&mut self, old: &Timeline, new: &Timeline, now: Micros) {
        self.metronome.follow(old, new, now);
        self.announced = self.announced.max(now);
    }

    /// Announces the beats that are near.
    pub fn notify_beats(&mut self, state: &State, now: Micros, out: &mut Vec<Effect>) {
        self.metronome.notify_beats(state, now, out);
    }

    /// Announces scheduled and armed changes that have begun since the last call: the event of each
    /// armed one, and a snapshot. A command calls this first, because it drops what has begun.
    pub fn announce_begun(&mut self, state: &State, now: Moment, out: &mut Vec<Effect>) {
        let segments = state.timeline().segments.iter().enumerate();
        let has_begun = |segment: &Segment| self.announced < segment.t0 && segment.t0 <= now.at;
        let mut any = false;
        for (index, _) in segments.filter(|(_, segment)| has_begun(segment)) {
            any = true;
            // mark: armed_begins_unnamed
            let notice = state.begun_notice(now, index);
            out.extend(notice.map(|notice| Effect::Notify(Audience::All, notice)));
        }
        if any {
            out.extend([Effect::Snapshot(Audience::All), Effect::RoomStats]);
        }
        self.announced = self.announced.max(now.at);
    }

    /// Handles `play`. If the music plays or counts in, nothing changes.
    ///
    /// `quantize` moves the place back to the beginning of its bar or beat, since a stopped band
    /// has no running beat to wait for. The bars of `count_in_bars` are played before the place, as
    /// beats of the same grid.
    pub fn play(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        Start { at, count_in_bars, quantize }: Start,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        state.leader_only(member)?;
        let mut next = state.draft(now.at);
        let present = &next.timeline;
        if present.is_playing_at(now.at) {
            let (tempo, position) = (present.tempo_at(now.at), present.position_at(now.at));
            let (timestamp, timeline) = (now.unix, next.timeline);
            let play = Notice::Play { tempo, position, timestamp, timeline };
            return Ok(state.report(false, member, play, out));
        }
        if let Some(quantize) = quantize {
            next.step_back(quantize)?;
        }
        let at = start_time(now, at);
        let start = next.play(at, count_in_bars)?;
        let (tempo, position) = (start.bpm0, start.p0);
        let changed = self.install(state, now, next);
        let (timestamp, timeline) = (unix_at(now, at), state.timeline().clone());
        Ok(state.report(
            changed,
            member,
            Notice::Play { tempo, position, timestamp, timeline },
            out,
        ))
    }

    /// Handles `pause`. The music stops at its present place; during a count-in it returns to the
    /// place where it was to begin. If `pressed` is at most 500 ms ago, the music stops at the
    /// position of that time, so the displays of followers move back.
    pub fn pause(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        pressed: Option<Micros>,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        state.leader_only(member)?;
        let is_recent = |at: &Micros| *at <= now.at && now.at.since(*at) <= PRESS_AGE_MAX;
        let pressed = pressed.filter(is_recent).unwrap_or(now.at);
        let changed = self.stop_playback(state, now, pressed);
        if changed {
            state.decide(now);
        }
        Ok(state.report(changed, member, state.pause_notice(now), out))
    }

    /// Handles `stop`: pauses at the beginning.
    pub fn stop(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        state.leader_only(member)?;
        let mut next = state.draft(now.at);
        next.stop()?;
        let changed = self.install(state, now, next);
        let timeline = state.timeline().clone();
        Ok(state.report(changed, member, Notice::Stop { timestamp: now.unix, timeline }, out))
    }

    /// Handles `seek`. A seek to a position while playing keeps the click, so the place moves by
    /// whole beats. A seek to a beat may be armed while playing.
    pub fn seek(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        (to, when): (Target, When),
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        state.leader_only(member)?; // mark: follower_may_seek
        let mut next = state.draft(now.at);
        let at = match (when, to) {
            (When::Armed(departure), Target::Beat(beat))
                if state.timeline().is_playing_at(now.at) =>
            {
                next.jump(beat, departure)?;
                return Ok(self.install_for_later(state, now, member, next, out));
            }
            (When::At(at), _) => start_time(now, Some(at)),
            (When::Now | When::Armed(_), _) => now.at,
        };
        next.seek(at, move_to(to))?;
        let changed = self.install(state, now, next);
        let (timestamp, timeline) = (unix_at(now, at), state.timeline().clone());
        let (position, beat) = match to {
            Target::Position(to) => (to.as_micros() as i64, timeline.beat_at(at)),
            Target::Beat(beat) => (timeline.position_at(at), beat),
        };
        let seek = Notice::Seek { position, beat, timestamp, timeline };
        Ok(state.report(changed, member, seek, out))
    }

    /// Handles `loop` and `cancel`, which do not move the place.
    pub fn change_later(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        change: impl FnOnce(&mut Draft) -> Result<(), Reject>,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        state.leader_only(member)?;
        let mut next = state.draft(now.at);
        change(&mut next)?;
        Ok(self.install_for_later(state, now, member, next, out))
    }

    /// Handles `nudge` and `one`, which correct the place at once.
    pub fn correct(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        change: impl FnOnce(&mut Draft) -> Result<(), Reject>,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        state.leader_only(member)?;
        let mut next = state.draft(now.at);
        change(&mut next)?;
        let changed = self.install(state, now, next);
        Ok(state.report(changed, member, state.seek_notice(now), out))
    }

    /// Handles a tempo change: from the present beat on, or from `at_beat`, over `fade`. A fade
    /// cannot be heard while the music is stopped, so the new tempo holds at once.
    pub fn change_tempo(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        TempoChange { tempo, fade, at_beat, event }: TempoChange,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        state.leader_only(member)?; // mark: follower_may_set_tempo
        let mut next = state.draft(now.at);
        let is_playing = state.timeline().is_playing_at(now.at);
        if let Some(beat) = at_beat.filter(|_| is_playing) {
            next.arm_tempo(tempo, fade, beat, event)?;
            return Ok(self.install_for_later(state, now, member, next, out));
        }
        let old = state.timeline().tempo_at(now.at);
        let fade = if is_playing && old != tempo { fade } else { Micros::ZERO };
        next.set_tempo(tempo, fade)?;
        let changed = self.install(state, now, next);
        let timeline = state.timeline().clone();
        let change =
            Notice::TempoChange { event, old, new: tempo, fade, timestamp: now.unix, timeline };
        Ok(state.report(changed, member, change, out))
    }

    /// Handles `set_time_signature`: from the next bar line on, or from the present bar if the
    /// music is stopped.
    pub fn set_time_signature(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        signature: TimeSignature,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        state.leader_only(member)?;
        let mut next = state.draft(now.at);
        next.set_signature(signature)?;
        let changed = self.install(state, now, next);
        let update = state.update_notice(Part::Signature(signature));
        out.push(Effect::Notify(Audience::of(changed, member), update));
        Ok(state.changed())
    }

    /// Handles `beat_sync`: sends all members the leader's distance from the timeline, and moves
    /// nothing.
    pub fn beat_sync(
        &self,
        state: &State,
        now: Moment,
        member: MemberId,
        beat_position: Number,
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        state.leader_only(member)?;
        let timeline = state.timeline();
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
    pub fn position_sync(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        (position, timestamp): (Position, Number),
        out: &mut Vec<Effect>,
    ) -> Result<Ack, Reject> {
        // No member can report a place before the beginning, where the count-in is.
        let correct = state.timeline().position_at(now.at).max(0);
        let reported = position.as_micros() as i64;
        let off = correct.abs_diff(reported) > DRIFT_MAX;
        // mark: report_moves_the_band
        if state.leader() != Some(member) {
            if off {
                let correction = Notice::DriftCorrection { correct, reported, timestamp: now.unix };
                out.push(Effect::Notify(Audience::One(member), correction));
            }
            return Ok(Ack::Done);
        }
        let mut next = state.draft(now.at);
        if off {
            next.seek(now.at, Move::Position(reported))?;
        }
        let moved = self.install(state, now, next);
        let sync = Notice::PositionSync {
            position: state.timeline().position_at(now.at),
            server_time: now.unix,
            client_timestamp: timestamp,
        };
        out.push(Effect::Notify(Audience::All, sync));
        if moved {
            out.push(Effect::Snapshot(Audience::All));
        }
        Ok(state.changed())
    }

    /// Pauses where the music was at `pressed`, and cancels what is planned. Returns false if there
    /// was nothing to pause. The caller makes it a decision.
    pub fn stop_playback(&mut self, state: &mut State, now: Moment, pressed: Micros) -> bool {
        let mut next = state.draft(now.at);
        // mark: pause_keeps_the_plan
        let pauses = next.timeline.is_playing_at(now.at) || next.is_anything_planned();
        if pauses && next.pause(pressed).is_ok() {
            let old = state.install(next);
            self.timeline_changed(state, now, old);
        }
        pauses
    }

    /// Makes a draft the next version. Returns false if it does not differ from the present
    /// timeline.
    pub fn install(&mut self, state: &mut State, now: Moment, next: Draft) -> bool {
        let Some(old) = state.install(next) else { return false };
        self.timeline_changed(state, now, Some(old));
        state.decide(now);
        true
    }

    /// Adapts announcements and metronome to playback that has changed since `old`.
    pub fn timeline_changed(&mut self, state: &State, now: Moment, old: Option<Timeline>) {
        let Some(old) = old else { return };
        self.announced = now.at;
        self.metronome.follow(&old, state.timeline(), now.at);
    }

    /// Checks that the timeline is one that members can follow.
    pub fn check(timeline: &Timeline) {
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

    /// Installs a draft whose change begins later. Members receive the timeline alone.
    pub fn install_for_later(
        &mut self,
        state: &mut State,
        now: Moment,
        member: MemberId,
        next: Draft,
        out: &mut Vec<Effect>,
    ) -> Ack {
        let changed = self.install(state, now, next);
        let update = state.update_notice(Part::Timeline);
        out.push(Effect::Notify(Audience::of(changed, member), update));
        state.changed()
    }
}

fn move_to(target: Target) -> Move {
    match target {
        Target::Position(position) => Move::Position(position.as_micros() as i64),
        Target::Beat(beat) => Move::Beat(beat),
    }
}

/// Returns the time at which a change that asks for `at` takes effect.
fn start_time(now: Moment, at: Option<Micros>) -> Micros {
    at.map_or(now.at, |at| at.clamp(now.at, now.at + SCHEDULE_AHEAD_MAX))
}
