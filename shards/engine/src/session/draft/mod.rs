//! The next timeline while it is planned: the present one with a change.
//!
//! A command makes a new timeline. Its first segment continues the music from now, and earlier
//! segments are dropped. Then the pending changes are computed again: an armed change keeps its
//! beat, so its time follows the tempo; a scheduled change keeps its time, and a scheduled start
//! uses the new place and tempo. The end of the song is computed last.
//!
//! The shared vectors (`plans` in `tests/vectors/timeline-song.json`) are the specification.

mod charts;
mod commands;
mod places;

pub(super) use self::charts::ChartEdit;
pub(super) use self::commands::SongStart;

use self::places::{
    bar_line_after, beats_of, duration_of, position_of, sought, started, stop_after,
};
use crate::speech::{Code, Reject};
use crate::words::music::{Armed, BEAT, Change, MeterChange, Segment, Timeline};
use crate::words::time::Micros;

/// A timeline that may be changed before it is installed. If a change is rejected, the draft must
/// be dropped.
#[derive(Debug)]
pub(super) struct Draft {
    /// The result so far.
    pub timeline: Timeline,
    /// Time of the change.
    pub now: Micros,
    /// Minimum time between a command and a change that is armed for the next bar line or beat.
    lead_time: Micros,
}

/// The music as it continues from now, and what is planned for later.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    present: Segment,
    /// In order of time. Armed changes come before scheduled ones.
    later: Vec<Planned>,
    meter: Vec<MeterChange>,
}

/// A change for later.
#[derive(Clone, Debug, PartialEq)]
enum Planned {
    /// Waits until the present segment has counted to a place.
    Armed(Segment, Armed),
    /// Waits for a time.
    Scheduled(Micros, Move),
}

/// A change of the place, wherever the music is by then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Move {
    /// The music starts, after a count-in of this many microbeats.
    Start(i64),
    /// The music continues at a position.
    Position(i64),
    /// The music continues at a beat.
    Beat(i64),
}

impl Draft {
    /// Creates a draft of the present timeline.
    pub fn new(timeline: &Timeline, now: Micros, lead_time: Micros) -> Self {
        Self { timeline: timeline.clone(), now, lead_time }
    }

    /// Moves the music from its present time to the time `there` of another clock.
    pub fn carry_over(&mut self, there: Micros) {
        let mut plan = self.plan();
        plan.present.t0 = there;
        for later in &mut plan.later {
            if let Planned::Scheduled(at, _) = later {
                *at = there + at.since(self.now);
            }
        }
        // A stored timeline may lack the end of its song, which needs a segment too.
        plan.later.truncate(Timeline::SEGMENTS_MAX - 2);
        self.keep_begun_song();
        self.now = there;
        let rebuilt = self.rebuild(plan);
        debug_assert!(rebuilt.is_ok(), "the present needs no more room than the past: {rebuilt:?}");
    }

    /// Whether a change is planned for later. The end of the song does not count.
    pub fn is_anything_planned(&self) -> bool {
        let later = self.timeline.segments.iter().filter(|segment| segment.t0 > self.now);
        later.into_iter().any(|segment| !is_end(segment))
    }

    /// Returns the plan of the timeline at the present time.
    fn plan(&self) -> Plan {
        let index = self.timeline.segment_index_at(self.now);
        let later = self.timeline.segments.iter().enumerate().skip(index + 1);
        let planned = |(index, segment): (usize, &Segment)| match segment.armed.as_deref() {
            Some(armed) => {
                Planned::Armed(Segment { armed: None, ..segment.clone() }, armed.clone())
            }
            None => Planned::Scheduled(segment.t0, self.move_of(index)),
        };
        Plan {
            present: self.timeline.continued_from(index, self.now),
            later: later.filter(|(_, segment)| !is_end(segment)).map(planned).collect(),
            meter: self.timeline.meter_of(index).to_vec(),
        }
    }

    /// Returns the move that a scheduled segment makes.
    fn move_of(&self, index: usize) -> Move {
        let segment = &self.timeline.segments[index];
        let before = self.timeline.continued_from(index.saturating_sub(1), segment.t0);
        // mark: count_in_forgotten
        let counted_in = segment.start.map_or(0, |start| start - segment.b0);
        let beat = segment.b0 + counted_in;
        let position = segment.p0 + duration_of(counted_in, segment.bpm0);
        match before.playing {
            false if segment.playing => Move::Start(counted_in),
            true if (segment.b0 - before.b0) % BEAT == 0 => Move::Position(position),
            false if beat == beats_of(position, segment.bpm0) => Move::Position(position),
            _ => Move::Beat(beat),
        }
    }

    /// Makes a plan the timeline.
    ///
    /// # Errors
    /// `not_allowed` if too many changes would be planned, or the meter has too many entries.
    fn apply(&mut self, plan: Plan) -> Result<(), Reject> {
        self.keep_begun_song();
        self.rebuild(plan)
    }

    /// Keeps the id and the end of an armed song that has begun, because its segment is about to be
    /// dropped.
    fn keep_begun_song(&mut self) {
        let index = self.timeline.segment_index_at(self.now);
        let begun =
            self.timeline.segments.iter().take(index + 1).rev().find_map(|segment| match &segment
                .armed
                .as_deref()?
                .change
            {
                Change::Song { id, end } => Some((id.clone(), *end)),
                _ => None,
            });
        if let Some((song, end)) = begun {
            (self.timeline.song, self.timeline.end) = (Some(song), end);
        }
    }

    fn rebuild(&mut self, Plan { present, later, meter }: Plan) -> Result<(), Reject> {
        let armed_meters = later.iter().filter_map(|later| match later {
            Planned::Armed(_, armed) => armed.meter.as_ref(),
            Planned::Scheduled(..) => None,
        });
        let longest = armed_meters.map(Vec::len).fold(meter.len(), usize::max);
        if longest > Timeline::METER_MAX {
            let message = format!(
                "a song has at most {} changes of the time signature; change one of them instead",
                Timeline::METER_MAX
            );
            return Err(Reject::new(Code::NotAllowed, message));
        }
        self.timeline.meter = meter;
        self.timeline.segments = vec![present];
        for change in later {
            match change {
                Planned::Armed(segment, armed) => self.add_armed(segment, armed),
                Planned::Scheduled(at, to) => self.add_scheduled(at, to),
            }
        }
        self.add_end();
        if self.timeline.segments.len() > Timeline::SEGMENTS_MAX {
            return Err(Reject::new(
                Code::NotAllowed,
                "too many changes are scheduled; wait for the first",
            ));
        }
        Ok(())
    }

    /// Adds a move for a time.
    fn add_scheduled(&mut self, at: Micros, to: Move) {
        let before = self.timeline.continued_from(self.timeline.segment_index_at(at), at);
        let moved = match to {
            Move::Start(_) if before.playing => before,
            Move::Start(beats) => started(before, beats),
            to => sought(before, to),
        };
        while let Some(overtaken) = self.timeline.segments.pop_if(|segment| segment.t0 >= at) {
            // The place for which this meter waited is not reached, so the meter holds at once.
            if let Some(meter) = overtaken.armed.and_then(|armed| armed.meter) {
                self.timeline.meter = meter;
            }
        }
        self.timeline.segments.push(moved);
    }

    /// Adds an armed change at the time at which the segment before has counted to its place. If
    /// the music is past that place, the change takes the next bar line.
    fn add_armed(&mut self, mut segment: Segment, mut armed: Armed) {
        if !self.timeline.segments.iter().all(|segment| segment.playing) {
            return; // Stopped music reaches no place.
        }
        let present = &self.timeline.segments[0];
        if armed.cut <= present.count_at(self.now) {
            let ahead = present.count_at(self.now + self.lead_time);
            armed.cut = bar_line_after(present, &self.timeline.meter, ahead);
        }
        let overtaken =
            |later: &mut Segment| later.armed.as_ref().is_some_and(|later| later.cut >= armed.cut);
        while let Some(lost) = self.timeline.segments.pop_if(overtaken) {
            armed.meter = armed.meter.or_else(|| lost.armed.and_then(|lost| lost.meter));
        }
        let before = &self.timeline.segments[self.timeline.segments.len() - 1];
        let at = time_of_cut(before, armed.cut);
        segment.t0 = at;
        let (tempo, ramp) = (before.tempo_at(at), before.ramp_left_at(at));
        match armed.change {
            Change::Jump | Change::Meter => {
                let bpm1 = if ramp == 0 { tempo } else { before.bpm1 };
                (segment.bpm0, segment.bpm1, segment.ramp) = (tempo, bpm1, ramp);
            }
            Change::Tempo(_) if segment.ramp > 0 => segment.bpm0 = tempo,
            Change::Tempo(_) | Change::Song { .. } | Change::End => {}
        }
        match armed.change {
            Change::Jump => segment.p0 = position_of(segment.b0, segment.bpm0),
            Change::Tempo(_) | Change::Meter => {
                segment.b0 = armed.cut;
                segment.looped = before.looped;
                let wraps = before.next_wrap(armed.cut - 1) == Some(armed.cut);
                let wrapped = before.looped.filter(|_| wraps).map(|looped| looped.p);
                segment.p0 = wrapped.unwrap_or_else(|| self.timeline.position_at(at));
            }
            Change::Song { .. } | Change::End => {}
        }
        segment.armed = Some(Box::new(armed));
        self.timeline.segments.push(segment);
    }

    /// Adds the stop one bar after the end of the song, unless a loop is before it.
    fn add_end(&mut self) {
        let last = self.timeline.segments.len() - 1;
        let before = &self.timeline.segments[last];
        let end = match before.armed.as_ref().map(|armed| &armed.change) {
            Some(Change::Song { end, .. }) => *end,
            _ => self.timeline.end,
        };
        let Some(end) = end.filter(|_| before.playing && before.looped.is_none()) else { return };
        let cut = stop_after(end, self.timeline.meter_of(last));
        // No song ends before it has begun.
        if cut <= before.start.unwrap_or(before.b0) {
            return;
        }
        let t0 = time_of_cut(before, cut);
        let (p0, tempo) = (self.timeline.position_at(t0), before.tempo_at(t0));
        let armed = Armed { cut, change: Change::End, meter: None };
        self.timeline.segments.push(Segment {
            t0,
            p0,
            b0: cut,
            playing: false,
            bpm0: tempo,
            bpm1: tempo,
            ramp: 0,
            looped: None,
            start: None,
            armed: Some(Box::new(armed)),
        });
    }
}

/// Returns the time at which a segment has counted to `cut`. Two segments never begin at the same
/// time, even if rounding makes it so.
fn time_of_cut(segment: &Segment, cut: i64) -> Micros {
    segment.time_of_count(cut).max(segment.t0 + Micros::from_micros(1))
}

/// Whether a segment is the planned end of the song.
fn is_end(segment: &Segment) -> bool {
    segment.armed.as_ref().is_some_and(|armed| armed.change == Change::End)
}
