//! The timeline, and the values computed from it: the place in the song at a time, and the times of
//! beats.
//!
//! Every result is the exact value rounded once, halves up, so that the server and all devices
//! compute the same microsecond for the same beat. `tests/vectors/README.md` has the formulas that
//! clients use too.
//!
//! There are two scales of beats, both in microbeats. Within a segment the *count* only increases,
//! also over the passes of a loop. The *song beat* is the count wrapped into the loop. Segments
//! (`b0`, `start`) and armed changes (`cut`) have counts; bars, songs and commands have song beats.

mod meter;
mod segment;
mod stored;

pub use meter::{Bar, MeterChange};
pub use stored::TimelineAdditions;

use serde::{Deserialize, Serialize};

use super::{BEAT, Tempo, TempoEvent};
use crate::words::ids::MemberId;
use crate::words::time::Micros;

/// The truth about playback: a small versioned value, sent whole with every change, from which
/// every client computes the position.
///
/// The highest (`epoch`, `version`) wins, so neither order nor loss of messages matters.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// The epoch rises if the session's server changes or its state was lost.
    pub epoch: u64,
    /// Number of decisions in the epoch.
    pub version: u64,
    /// The leader, if there is one.
    pub leader: Option<MemberId>,
    /// The id of the song that is on, if there is one.
    #[serde(skip)]
    pub song: Option<String>,
    /// One to eight segments in order of `t0`. The last one with `t0 <= t` holds at `t`; later ones
    /// are scheduled.
    pub segments: Vec<Segment>,
    /// At least one entry, in order of `beat`.
    pub meter: Vec<MeterChange>,
    /// The song beat at which the song is over, if it ends.
    #[serde(skip)]
    pub end: Option<i64>,
    /// Grid for changes while playing, in microbeats; 0 means at once.
    pub quantum: i64,
    /// Beats counted in before the first one sounds.
    pub count_in: u32,
    /// Time of this version.
    pub made_at: Micros,
}

/// A part of the timeline: from `t0` on, position and count are functions of time.
///
/// The fields that serialization skips are stored as [`TimelineAdditions`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// Beginning, on the server's clock.
    pub t0: Micros,
    /// Position at `t0` in microseconds; negative while counting in.
    pub p0: i64,
    /// Count at `t0` in microbeats; negative while counting in.
    pub b0: i64,
    /// Whether time moves the position. False means stopped.
    pub playing: bool,
    /// The tempo at `t0`.
    pub bpm0: Tempo,
    /// The tempo after the ramp.
    pub bpm1: Tempo,
    /// Duration of the change from `bpm0` to `bpm1` in microseconds; 0 means no ramp.
    pub ramp: u64,
    /// The loop that the segment plays, if there is one.
    #[serde(skip)]
    pub looped: Option<Loop>,
    /// The beat up to which the segment counts in, if it does.
    #[serde(skip)]
    pub start: Option<i64>,
    /// The reason why the segment waits for a count, if it does.
    #[serde(skip)]
    pub armed: Option<Box<Armed>>,
}

/// A stretch of the song that is played again and again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// The first song beat, in microbeats.
    pub from: i64,
    /// The song beat at which the loop leads back: whole beats after `from`.
    pub to: i64,
    /// The position at `from`, in microseconds.
    pub p: i64,
}

/// A change that waits until the segment before it has counted to a place.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Armed {
    /// The count of the segment before at which the change takes place.
    pub cut: i64,
    /// The kind of change.
    pub change: Change,
    /// The meter from then on, if it changes.
    pub meter: Option<Vec<MeterChange>>,
}

/// The kinds of armed changes.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// The music goes on at another beat.
    Jump,
    /// Another song begins.
    Song {
        /// The song's id.
        id: String,
        /// The song beat at which the song is over, if it ends.
        end: Option<i64>,
    },
    /// The tempo changes. It is announced under the name with which it was sent.
    Tempo(TempoEvent),
    /// The meter changes.
    Meter,
    /// The song is over.
    End,
}

/// The place in the song at an instant, as members see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// The song beat in microbeats; while counting in, the count.
    pub beat: i64,
    /// The bar of the beat. While counting in, bars are counted from the start backwards.
    pub bar: Bar,
    /// Whether the music counts in.
    pub counts_in: bool,
}

/// A beat that sounds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Click {
    /// The time at which it sounds.
    pub at: Micros,
    /// Its place in the song.
    pub place: Place,
}

impl Timeline {
    /// Maximum number of segments.
    pub const SEGMENTS_MAX: usize = 8;

    /// Maximum number of meter changes. Specified.
    pub const METER_MAX: usize = 64;

    /// Returns the position at `at` in microseconds; negative while counting in.
    pub fn position_at(&self, at: Micros) -> i64 {
        narrow(self.position(self.segment_index_at(at), wide(at)))
    }

    /// Returns position and tempo at `at`, by one look for the segment: all that a tick needs.
    pub fn motion_at(&self, at: Micros) -> (i64, Tempo) {
        let (index, t) = (self.segment_index_at(at), wide(at));
        (narrow(self.position(index, t)), self.segments[index].tempo(t))
    }

    /// Returns the count at `at` in microbeats. It goes on where a loop leads back.
    pub fn count_at(&self, at: Micros) -> i64 {
        narrow(self.count(self.segment_index_at(at), wide(at)))
    }

    /// Returns the song beat at `at` in microbeats; while counting in, the count.
    pub fn beat_at(&self, at: Micros) -> i64 {
        let (count, segment) = (self.count_at(at), self.segment_at(at));
        if segment.start_after(count).is_some() { count } else { segment.beat_of(count) }
    }

    /// Returns the place at `at`.
    pub fn place_at(&self, at: Micros) -> Place {
        let index = self.segment_index_at(at);
        self.place(index, narrow(self.count(index, wide(at))))
    }

    /// Returns the number of the loop's pass at `at`, from 1; 0 before the loop and without one.
    pub fn pass_at(&self, at: Micros) -> i64 {
        let index = self.segment_index_at(at);
        narrow(self.pass(index, wide(at)))
    }

    /// Returns the tempo at `at`, even while the music is stopped.
    pub fn tempo_at(&self, at: Micros) -> Tempo {
        self.segment_at(at).tempo(wide(at))
    }

    /// Whether time moves the position at `at`.
    pub fn is_playing_at(&self, at: Micros) -> bool {
        self.segment_at(at).playing
    }

    /// Returns the meter of the segment with this index: its own, or that of the last one before it
    /// that changed the meter.
    pub fn meter_of(&self, index: usize) -> &[MeterChange] {
        let begun = self.segments.iter().take(index + 1).rev();
        let own = begun.filter_map(|segment| segment.armed.as_ref()?.meter.as_deref());
        own.into_iter().next().unwrap_or(&self.meter)
    }

    /// Returns the id of the song that is on at `at`, if there is one. An armed song is on from its
    /// beginning, without a version of its own.
    pub fn song_at(&self, at: Micros) -> Option<&str> {
        let begun = self.segments.iter().take(self.segment_index_at(at) + 1).rev();
        let ids = begun.filter_map(|segment| match &segment.armed.as_ref()?.change {
            Change::Song { id, .. } => Some(id.as_str()),
            _ => None,
        });
        ids.into_iter().next().or(self.song.as_deref())
    }

    /// Returns the first time, not before `from`, at which the song reaches `beat`; `None` if it
    /// never does.
    pub fn time_of_beat(&self, beat: i64, from: Micros) -> Option<Micros> {
        let time = self.first_time_of(i128::from(beat), wide(from))?;
        u64::try_from(time).ok().map(Micros::from_micros)
    }

    /// Returns the first boundary at or after `beat` of a grid of `quantum` microbeats, which
    /// restarts at every meter entry. A quantum of 0 means no grid.
    pub fn next_boundary(&self, beat: i64, quantum: i64) -> i64 {
        if quantum <= 0 {
            return beat;
        }
        let start = MeterChange::at(&self.meter, beat).beat;
        let next = start + quantum * (beat - start + quantum - 1).div_euclid(quantum);
        let following = self.meter.iter().find(|entry| entry.beat > beat && entry.beat > start);
        following.map_or(next, |following| next.min(following.beat))
    }

    /// Returns the first beat that sounds at `since` or later.
    pub fn next_click(&self, since: Micros) -> Option<Click> {
        let (index, time, count) =
            (0..self.segments.len()).find_map(|index| self.clicks_of(index, wide(since)).next())?;
        let at = Micros::from_micros(u64::try_from(time).ok()?);
        Some(Click { at, place: self.place(index, narrow(count)) })
    }

    /// Whether this timeline replaces `other`: the higher (`epoch`, `version`) wins, and equal ones
    /// are the same timeline.
    pub fn is_newer(&self, other: &Self) -> bool {
        (self.epoch, self.version) > (other.epoch, other.version)
    }

    /// Returns the index of the segment that holds at `at`: the last one that has begun, or the
    /// first.
    pub fn segment_index_at(&self, at: Micros) -> usize {
        self.segments.iter().rposition(|segment| segment.t0 <= at).unwrap_or(0)
    }

    /// Returns the segment that continues the music of another one from `at`. It waits for nothing.
    pub fn continued_from(&self, index: usize, at: Micros) -> Segment {
        let segment = &self.segments[index];
        let (t, ramp) = (wide(at), segment.ramp_left_at(at));
        let (count, tempo) = (narrow(self.count(index, t)), segment.tempo(t));
        Segment {
            t0: at,
            p0: narrow(self.position(index, t)),
            b0: count,
            playing: segment.playing,
            bpm0: tempo,
            bpm1: if ramp == 0 { tempo } else { segment.bpm1 },
            ramp,
            looped: segment.looped,
            start: segment.start_after(count),
            armed: None,
        }
    }

    /// Returns the segment that holds at `at`. A timeline has at least one.
    fn segment_at(&self, at: Micros) -> &Segment {
        &self.segments[self.segment_index_at(at)]
    }

    /// Returns the count at `t`. A segment never counts to where an armed one takes over: rounding
    /// must not show a beat that is not played.
    fn count(&self, index: usize, t: i128) -> i128 {
        let count = self.segments[index].count(t);
        self.cut_of(index).map_or(count, |cut| count.min(cut - 1))
    }

    fn position(&self, index: usize, t: i128) -> i128 {
        let segment = &self.segments[index];
        // Counting takes longer than adding, and nearly no segment has a loop.
        let count = if segment.looped.is_some() { self.count(index, t) } else { 0 };
        segment.position(t, count)
    }

    fn pass(&self, index: usize, t: i128) -> i128 {
        let looped = self.segments[index].looped;
        looped.map_or(0, |looped| looped.pass_of(self.count(index, t)))
    }

    /// Returns the place of a count in a segment.
    fn place(&self, index: usize, count: i64) -> Place {
        let (segment, meter) = (&self.segments[index], self.meter_of(index));
        if let Some(start) = segment.start_after(count) {
            let entry = MeterChange { beat: start, ..MeterChange::at(meter, start) };
            return Place { beat: count, bar: Bar::since(entry, count), counts_in: true };
        }
        let beat = segment.beat_of(count);
        Place { beat, bar: Bar::at(meter, beat), counts_in: false }
    }

    /// Returns the count at which the segment after this one takes over, if that one is armed.
    fn cut_of(&self, index: usize) -> Option<i128> {
        self.segments.get(index + 1)?.armed.as_ref().map(|armed| armed.cut.into())
    }

    /// Returns the counts that a segment covers: from the first one up to the second. `None` has no
    /// limit. The segment of a beat is found by counts instead of times, so that rounding leaves no
    /// gap between two segments.
    fn counts_of(&self, index: usize) -> (Option<i128>, Option<i128>) {
        let segment = &self.segments[index];
        let low = (index > 0).then_some(segment.b0.into());
        let next = self.segments.get(index + 1);
        let high =
            next.map(|next| self.cut_of(index).unwrap_or_else(|| segment.count(wide(next.t0))));
        (low, high)
    }

    /// Returns the index of a segment with the time and the count of each beat that sounds in it at
    /// `since` or later. The last segment has no end.
    fn clicks_of(
        &self,
        index: usize,
        since: i128,
    ) -> impl Iterator<Item = (usize, i128, i128)> + use<'_> {
        let (segment, beat) = (&self.segments[index], i128::from(BEAT));
        let (low, high) = self.counts_of(index);
        let over = self.segments.get(index + 1).is_some_and(|next| wide(next.t0) < since);
        let from = if index == 0 { since } else { since.max(wide(segment.t0)) };
        let whole_from = |count: i128| -(-count).div_euclid(beat);
        // The count is rounded, so the beat before it may sound a microsecond later.
        let first = whole_from(segment.count(from)) - 1;
        let first = low.map_or(first, |low| first.max(whole_from(low)));
        (first..)
            .map(move |whole| whole * beat)
            .take_while(move |count| {
                segment.playing && !over && high.is_none_or(|high| *count < high)
            })
            .map(move |count| (index, segment.time_of(count), count))
            .filter(move |(_, time, _)| *time >= since)
    }

    fn first_time_of(&self, beat: i128, from: i128) -> Option<i128> {
        (0..self.segments.len()).find_map(|index| self.first_time_in(index, beat, from))
    }

    /// Returns the first time, not before `from`, at which a segment is at a song beat.
    fn first_time_in(&self, index: usize, beat: i128, from: i128) -> Option<i128> {
        let segment = &self.segments[index];
        let (low, high) = self.counts_of(index);
        // The beats of a count-in are not those of the song.
        let low = low.max(segment.start.map(i128::from));
        let looped = segment.looped.filter(|looped| beat >= i128::from(looped.from));
        if !segment.playing || looped.is_some_and(|looped| beat >= i128::from(looped.to)) {
            return None;
        }
        let length = looped.map_or(0, |looped| looped.length());
        // Returns the first count of a later pass at or after `count`.
        let later =
            |count: i128| beat + length * (count - beat + length - 1).div_euclid(length).max(0);
        let mut count = beat;
        if length > 0 {
            count = low.map_or(count, later);
            let reached = segment.count(from);
            if segment.time_of(count) < from {
                count += length * (reached - count).div_euclid(length).max(0);
            }
        }
        loop {
            let covered =
                low.is_none_or(|low| count >= low) && high.is_none_or(|high| count < high);
            if !covered {
                return None;
            }
            let time = segment.time_of(count);
            if time >= from || length == 0 {
                return (time >= from).then_some(time);
            }
            count += length;
        }
    }
}

fn wide(at: Micros) -> i128 {
    i128::from(at.as_micros())
}

/// Narrows a result. The 24 hours of a song and the age of any real server fit; the clamp is for an
/// impossible clock.
fn narrow(value: i128) -> i64 {
    value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
}

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) mod vectors;
