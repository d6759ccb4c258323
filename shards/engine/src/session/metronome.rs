//! `metronome_tick`: tells of each beat ahead of its time, so that it can be played on time.

use super::{Audience, Effect, Session};
use crate::speech::Notice;
use crate::words::ids::MemberId;
use crate::words::music::BEAT;
use crate::words::time::{Micros, Moment};

/// How long before its time a beat is told: the network's worst usual delay and the 100 ms that
/// browsers schedule sound ahead.
const AHEAD: Micros = Micros::from_millis(200);

impl Session {
    /// Whether a member asked for `metronome_tick`.
    pub fn wants_metronome(&self, member: MemberId) -> bool {
        self.state.seat(member).is_some_and(|seat| seat.metronome)
    }

    /// Notes whether a member wants the beats; the first listener finds the beat that comes next.
    pub(super) fn listen_to_metronome(&mut self, now: Moment, member: MemberId, wants: bool) {
        if wants && !self.has_listeners() {
            self.next_beat = self.beat_after(now.at);
        }
        if let Some(seat) = self.state.seat_mut(member) {
            seat.metronome = wants;
        }
    }

    /// Playback has changed. If the beat goes on, what was told of it stands.
    pub(super) fn follow_course(&mut self, now: Moment, goes_on: bool) {
        self.announced = now.at;
        if !goes_on || self.next_beat.is_none() {
            self.next_beat = self.beat_after(now.at);
        }
    }

    pub(super) fn metronome_deadline(&self) -> Option<Micros> {
        let beat = self.next_beat.filter(|_| self.has_listeners())?;
        let time = self.state.timeline().time_of_beat(beat, Micros::ZERO)?;
        Some(Micros::ZERO + time.since(AHEAD))
    }

    /// Tells of the beats that are near. Those that are over, after a pause of the whole process,
    /// are skipped.
    pub(super) fn notify_beats(&mut self, now: Moment, out: &mut Vec<Effect>) {
        if !self.has_listeners() {
            return;
        }
        if self.is_playing(now.at) {
            self.next_beat = self.next_beat.max(self.beat_after(now.at));
        }
        while let Some(beat) = self.next_beat {
            let timeline = self.state.timeline();
            let time = timeline.time_of_beat(beat, Micros::ZERO);
            let Some(at) = time.filter(|&at| at <= now.at + AHEAD) else { break };
            let bar = timeline.bar_at(beat);
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

    fn has_listeners(&self) -> bool {
        self.state.record.seats.iter().any(|seat| seat.metronome && seat.member.connected)
    }

    /// The first whole beat from `at` on, as far as the music plays or is scheduled to.
    fn beat_after(&self, at: Micros) -> Option<i64> {
        let timeline = self.state.timeline();
        let from = if timeline.is_playing_at(at) {
            timeline.beat_at(at)
        } else {
            timeline.segments.iter().find(|segment| segment.playing && segment.t0 > at)?.b0
        };
        Some(from + (-from).rem_euclid(BEAT))
    }
}
