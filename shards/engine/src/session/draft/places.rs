//! Places of the music: the next line, and the place after a move.

use super::Move;
use crate::speech::{Code, Reject};
use crate::words::music::{BEAT, Bar, Loop, MeterChange, Position, Segment, Tempo};

/// Returns the first count at or after `count` at which a bar begins. In a loop without a bar line
/// that is the beginning of a pass, and in a count-in the beginning of the song.
pub(super) fn bar_line_after(segment: &Segment, meter: &[MeterChange], count: i64) -> i64 {
    if let Some(start) = segment.start_after(count) {
        return start;
    }
    let beat = segment.beat_of(count);
    let line = count + Bar::line_after(meter, beat) - beat;
    let Some((looped, wrap)) = segment.looped.zip(segment.next_wrap(count)) else { return line };
    if line < wrap {
        return line;
    }
    let first = Bar::line_after(meter, looped.from);
    if first < looped.to { wrap + first - looped.from } else { wrap }
}

/// Returns the first count at or after `count` at which a beat sounds.
pub(super) fn beat_after(segment: &Segment, count: i64) -> i64 {
    segment.start_after(count).unwrap_or(count + (-count).rem_euclid(BEAT))
}

/// Returns the count at which the song is next at `beat`.
///
/// # Errors
/// `too_late` if the beat is over, or a loop leads back before it, or the count-in ends after it.
pub(super) fn next_count_of(segment: &Segment, beat: i64) -> Result<i64, Reject> {
    let present = segment.b0;
    let mut count = present + beat - segment.beat_of(present);
    if let Some(looped) = segment.looped.filter(|looped| count <= present && beat >= looped.from) {
        count += looped.to - looped.from;
    }
    let is_behind_loop = segment.looped.is_some_and(|looped| beat > looped.to);
    let is_before_start = segment.start_after(present).is_some_and(|start| count < start);
    if is_behind_loop {
        let message = "the loop ends before this beat; release the loop, or name a beat inside it";
        return Err(too_late(message));
    }
    if count <= present || is_before_start {
        return Err(too_late("the music is past this beat; name a later one"));
    }
    Ok(count)
}

/// Returns the count at which the music stops: one bar after the end of the song.
pub(super) fn stop_after(end: i64, meter: &[MeterChange]) -> i64 {
    end + MeterChange::at(meter, end).bar_length()
}

/// Moves the place to another count, and the position by as long as that takes. The click goes on.
pub(super) fn shift(mut segment: Segment, count: i64) -> Segment {
    let (before, tempo) = (segment.b0, segment.bpm0);
    segment.p0 = (segment.p0 + duration_of(count - before, tempo)).max(0);
    let folded = |count: i64| count - segment.beat_of(count);
    let changes_pass =
        segment.looped.filter(|looped| count >= looped.to && folded(count) != folded(before));
    if let Some(looped) = changes_pass {
        segment.p0 = looped.p + duration_of(segment.beat_of(count) - looped.from, tempo);
    }
    segment.b0 = count;
    segment
}

/// Returns the music at another place. In a count-in the start moves and the count goes on.
pub(super) fn sought(present: Segment, to: Move) -> Segment {
    let place = present.start.unwrap_or(present.beat_of(present.b0));
    match to {
        Move::Start(_) => present,
        Move::Beat(beat) => {
            let position = position_of(beat, present.bpm0);
            moved(present, beat, position)
        }
        Move::Position(position) => {
            let mut beat = beats_of(position, present.bpm0);
            if present.playing {
                // The click goes on, so the place moves by whole beats.
                beat = place + BEAT * (2 * (beat - place) + BEAT).div_euclid(2 * BEAT);
                beat += if beat < 0 { BEAT } else { 0 };
            }
            moved(present, beat, position)
        }
    }
}

/// Returns the stopped music as it starts, after a count-in of `beats`.
pub(super) fn started(still: Segment, beats: i64) -> Segment {
    Segment {
        p0: still.p0 - duration_of(beats, still.bpm0),
        b0: still.b0 - beats,
        playing: true,
        start: (beats > 0).then_some(still.b0),
        ..still
    }
}

/// Returns the loop if a beat is in it: a jump inside a loop keeps it, one out of it ends it.
pub(super) fn loop_around(looped: Option<Loop>, beat: i64) -> Option<Loop> {
    looped.filter(|looped| (looped.from..looped.to).contains(&beat))
}

/// Returns the position that belongs to a song beat after a jump.
pub(super) fn position_of(beat: i64, tempo: Tempo) -> i64 {
    duration_of(beat, tempo).min(Position::MAX.as_micros() as i64)
}

/// Returns the duration of microbeats, rounded to the nearest microsecond.
pub(super) fn duration_of(beats: i64, tempo: Tempo) -> i64 {
    let tempo = i128::from(tempo.milli_bpm());
    (120_000 * i128::from(beats) + tempo).div_euclid(2 * tempo) as i64
}

/// Returns the microbeats in `micros` microseconds, rounded to the nearest.
pub(super) fn beats_of(micros: i64, tempo: Tempo) -> i64 {
    (i128::from(micros) * i128::from(tempo.milli_bpm()) + 30_000).div_euclid(60_000) as i64
}

/// Returns a meter with another entry, which replaces one at the same beat.
pub(super) fn with_entry(meter: &[MeterChange], new: MeterChange) -> Vec<MeterChange> {
    let mut entries: Vec<MeterChange> =
        meter.iter().filter(|entry| entry.beat != new.beat).copied().collect();
    entries.insert(entries.partition_point(|entry| entry.beat < new.beat), new);
    entries
}

/// Returns the rejection of a change whose place is over.
pub(super) fn too_late(message: &'static str) -> Reject {
    Reject::new(Code::TooLate, message)
}

fn moved(mut segment: Segment, beat: i64, position: i64) -> Segment {
    let counted_in = segment.start.map_or(0, |start| start - segment.b0);
    segment.looped = loop_around(segment.looped, beat);
    segment.start = segment.start.map(|_| beat);
    segment.b0 = beat - counted_in;
    segment.p0 = position - duration_of(counted_in, segment.bpm0);
    segment
}
