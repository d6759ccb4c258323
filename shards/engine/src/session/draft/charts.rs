//! Edited charts: how the music follows them.

use super::places::{duration_of, loop_around, with_entry};
use super::{Draft, Move, Plan, Planned};
use crate::speech::Reject;
use crate::words::music::{Armed, BEAT, Change, Loop, MeterChange, Position};

/// Maximum beat to which an edit moves the place, in micro-beats. Specified for beats that clients
/// name.
const PLACE_MAX: i64 = 576_000 * BEAT;

/// An edit of a song's chart, as far as the music follows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::session) struct ChartEdit {
    /// The new meter, if it changed.
    pub meter: Option<Vec<MeterChange>>,
    /// The new end of the song, if it changed.
    pub end: Option<Option<i64>>,
    /// Micro-beats by which the place moves, so that the line that sounds stays.
    pub shift: i64,
}

impl Draft {
    /// Follows the edits of the song that is on and of an armed one. The meter and the end of the
    /// song that is on hold at once; place, loop and what is planned move by its shift. An armed
    /// song will begin with its new meter and end.
    pub fn follow_charts(
        &mut self,
        on: Option<&str>,
        edit_of: impl Fn(&str) -> ChartEdit,
    ) -> Result<(), Reject> {
        let before = self.plan();
        let mut plan = before.clone();
        for later in &mut plan.later {
            if let Planned::Armed(_, armed) = later
                && let Change::Song { id, end } = &mut armed.change
            {
                let edit = edit_of(id);
                *end = edit.end.unwrap_or(*end);
                armed.meter = edit.meter.or(armed.meter.take());
            }
        }
        let edit = on.map(edit_of).unwrap_or_default();
        let by = shift(&mut plan, edit.shift);
        let old_meter = plan.meter.clone();
        plan.meter = edit.meter.unwrap_or(plan.meter);
        carry_meters(&mut plan, &old_meter, by);
        if plan == before && edit.end.is_none() {
            return Ok(());
        }
        self.keep_begun_song();
        self.timeline.end = edit.end.unwrap_or(self.timeline.end);
        self.rebuild(plan)
    }
}

/// Moves place, loop and what is planned by whole beats, but not before the song. The click goes on.
/// Returns the micro-beats by which they have moved.
fn shift(plan: &mut Plan, by: i64) -> i64 {
    let present = &mut plan.present;
    let place = present.start.unwrap_or(present.beat_of(present.b0));
    let first = present.looped.map_or(place, |looped| looped.from.min(place));
    let whole = |beats: i64| beats.max(0) / BEAT * BEAT;
    let by = by.clamp(-whole(first), whole(PLACE_MAX - place));
    if by == 0 {
        return 0;
    }
    let duration = duration_of(by, present.bpm0);
    let moved = |position: i64| {
        let most = position.max(Position::MAX.as_micros() as i64);
        (position + duration).clamp(0, most)
    };
    let moved_loop = |Loop { from, to, p }| Loop { from: from + by, to: to + by, p: moved(p) };
    let counted_in = duration_of(present.start.map_or(0, |start| start - present.b0), present.bpm0);
    present.p0 = moved(present.p0 + counted_in) - counted_in;
    present.b0 += by;
    present.start = present.start.map(|start| start + by);
    present.looped = present.looped.map(moved_loop); // mark: shift_leaves_loop
    let looped = present.looped;
    for later in &mut plan.later {
        match later {
            Planned::Armed(segment, armed) => {
                armed.cut += by;
                if armed.change == Change::Jump {
                    segment.b0 = (segment.b0 + by).max(0);
                    segment.looped = loop_around(looped, segment.b0);
                }
            }
            Planned::Scheduled(_, Move::Position(position)) => *position = moved(*position),
            Planned::Scheduled(_, Move::Beat(beat)) => *beat = (*beat + by).max(0),
            Planned::Scheduled(_, Move::Start(_)) => {}
        }
    }
    by
}

/// Carries signatures that wait for an armed change over to the song's new meter.
fn carry_meters(plan: &mut Plan, old: &[MeterChange], by: i64) {
    for later in &mut plan.later {
        let Planned::Armed(_, Armed { change, meter: Some(meter), .. }) = later else { continue };
        if matches!(change, Change::Song { .. }) {
            continue;
        }
        let waiting = meter.iter().filter(|entry| !old.contains(entry));
        let carried = |meter: Vec<MeterChange>, entry: &MeterChange| {
            with_entry(&meter, MeterChange { beat: (entry.beat + by).max(0), ..*entry })
        };
        *meter = waiting.fold(plan.meter.clone(), carried);
    }
}
