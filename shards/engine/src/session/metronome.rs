//! Announces each beat ahead of its time with `metronome_tick`, so that it can be played on time.

use super::state::State;
use super::{Audience, Effect};
use crate::speech::Notice;
use crate::words::ids::MemberId;
use crate::words::music::{BEAT, Bar, Timeline};
use crate::words::time::Micros;

/// Time by which a beat is announced early: the usual worst network delay, and the 100 ms by which
/// browsers schedule sound ahead. Guessed.
const AHEAD: Micros = Micros::from_millis(200);

/// The next beat that a session announces to the members that asked for beats.
#[derive(Clone, Debug)]
pub(super) struct Metronome {
    /// The beat in micro-beats; `None` if no beat will come.
    next_beat: Option<i64>,
}

impl Metronome {
    /// Creates the metronome of a session that has announced no beat.
    pub fn new(timeline: &Timeline, now: Micros) -> Self {
        Self { next_beat: beat_after(timeline, now) }
    }

    /// Sets whether a member wants beats. The first listener finds the next beat.
    pub fn listen(&mut self, state: &mut State, now: Micros, member: MemberId, wants: bool) {
        if wants && !has_listeners(state) {
            self.next_beat = beat_after(state.timeline(), now);
        }
        if let Some(seat) = state.seat_mut(member) {
            seat.metronome = wants;
        }
    }

    /// Adapts to a changed timeline. If the beat goes on, announced beats stay valid.
    pub fn follow(&mut self, timeline: &Timeline, now: Micros, goes_on: bool) {
        if !goes_on || self.next_beat.is_none() {
            self.next_beat = beat_after(timeline, now);
        }
    }

    /// Returns when the next beat is to be announced, if a member listens.
    pub fn deadline(&self, state: &State) -> Option<Micros> {
        let beat = self.next_beat.filter(|_| has_listeners(state))?;
        let time = state.timeline().time_of_beat(beat, Micros::ZERO)?;
        Some(Micros::ZERO + time.since(AHEAD))
    }

    /// Announces the beats that are near. Beats that have passed, after a pause of the whole
    /// process, are skipped.
    pub fn notify_beats(&mut self, state: &State, now: Micros, out: &mut Vec<Effect>) {
        if !has_listeners(state) {
            return;
        }
        let timeline = state.timeline();
        if timeline.is_playing_at(now) {
            self.next_beat = self.next_beat.max(beat_after(timeline, now));
        }
        while let Some(beat) = self.next_beat {
            let time = timeline.time_of_beat(beat, Micros::ZERO);
            let Some(at) = time.filter(|&at| at <= now + AHEAD) else { break };
            let bar = Bar::at(&timeline.meter, beat);
            let tick = Notice::MetronomeTick {
                beat: (bar.in_bar / BEAT) as u32 + 1,
                bar: bar.bar + 1,
                at,
                tempo: timeline.tempo_at(at),
            };
            out.push(Effect::Notify(Audience::Metronome, tick));
            self.next_beat = Some(beat + BEAT);
        }
    }
}

fn has_listeners(state: &State) -> bool {
    state.record.seats.iter().any(|seat| seat.metronome && seat.member.connected)
}

/// Returns the first whole beat from `at` on, as far as the music plays or is scheduled to.
fn beat_after(timeline: &Timeline, at: Micros) -> Option<i64> {
    let from = if timeline.is_playing_at(at) {
        timeline.beat_at(at)
    } else {
        timeline.segments.iter().find(|segment| segment.playing && segment.t0 > at)?.b0
    };
    Some(from + (-from).rem_euclid(BEAT))
}
