//! Announces each beat ahead of its time with `metronome_tick`, so that it can be played on time.

use super::state::State;
use super::{Audience, Effect};
use crate::speech::Notice;
use crate::words::ids::MemberId;
use crate::words::music::{BEAT, Click, Timeline};
use crate::words::time::Micros;

/// Time by which a beat is announced early: the usual worst network delay, and the 100 ms by which
/// browsers schedule sound ahead. Guessed.
const AHEAD: Micros = Micros::from_millis(200);

/// The beats that a session announces to the members that asked for beats.
#[derive(Clone, Debug)]
pub(super) struct Metronome {
    /// All beats that sound before this time were announced.
    announced: Micros,
}

impl Metronome {
    /// Creates the metronome of a session that has announced no beat.
    pub const fn new(now: Micros) -> Self {
        Self { announced: now }
    }

    /// Sets whether a member wants beats. The first listener receives the next beat.
    pub fn listen(&mut self, state: &mut State, now: Micros, member: MemberId, wants: bool) {
        if wants && !has_listeners(state) {
            self.announced = now;
        }
        if let Some(seat) = state.seat_mut(member) {
            seat.metronome = wants;
        }
    }

    /// Adapts to a changed timeline. If the click goes on, announced beats stay valid, however much
    /// earlier or later they sound now.
    pub fn follow(&mut self, old: &Timeline, new: &Timeline, now: Micros) {
        let beats = old.count_at(now) - new.count_at(now);
        let goes_on = old.is_playing_at(now) && new.is_playing_at(now) && beats % BEAT == 0;
        let announced = std::mem::replace(&mut self.announced, now);
        let ahead =
            std::iter::successors(old.next_click(now), |click| old.next_click(after(click)));
        if goes_on {
            for _ in ahead.take_while(|click| click.at < announced) {
                self.announced = new.next_click(self.announced).as_ref().map_or(now, after);
            }
        }
    }

    /// Returns when the next beat is to be announced, if a member listens.
    pub fn deadline(&self, state: &State) -> Option<Micros> {
        let listened = has_listeners(state).then(|| state.timeline())?;
        let click = listened.next_click(self.announced)?;
        Some(Micros::ZERO + click.at.since(AHEAD))
    }

    /// Announces the beats that are near. Beats that have passed, after a pause of the whole
    /// process, are skipped.
    pub fn notify_beats(&mut self, state: &State, now: Micros, out: &mut Vec<Effect>) {
        if !has_listeners(state) {
            return;
        }
        let timeline = state.timeline();
        self.announced = self.announced.max(now);
        while let Some(click) = timeline.next_click(self.announced) {
            if click.at > now + AHEAD {
                break;
            }
            let bar = click.place.bar;
            let tick = Notice::MetronomeTick {
                beat: (bar.in_bar / BEAT) as u32 + 1,
                bar: bar.bar + 1,
                at: click.at,
                tempo: timeline.tempo_at(click.at),
            };
            out.push(Effect::Notify(Audience::Metronome, tick));
            self.announced = after(&click);
        }
    }
}

fn has_listeners(state: &State) -> bool {
    state.record.seats.iter().any(|seat| seat.metronome && seat.member.connected)
}

/// Returns the first instant after a click.
fn after(click: &Click) -> Micros {
    click.at + Micros::from_micros(1)
}
