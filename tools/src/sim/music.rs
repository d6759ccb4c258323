//! The model's music: the current position, and a list of changes for later.
//!
//! The engine keeps a list of segments, and plans it again with every change. The model plans
//! nothing: it keeps later changes as they are, and answers every question by applying them in
//! order.
//!
//! The model does not know how far ahead an armed change must be, nor time signatures that wait for
//! the next pass of a loop. If a change depends on these, the music is *unknown*: it is not compared
//! until it is [taken over](Music::take_over) from the real session.

use bandsync_engine::words::music::{Change, Loop, Timeline};
use bandsync_engine::words::time::Micros;

/// Microbeats in a beat.
pub const BEAT: i128 = 1_000_000;

/// The last position in microseconds: 24 hours.
const POSITION_MAX: i128 = 86_400_000_000;

/// The last beat to which an edit of a chart moves the place, in micro-beats.
const CHART_END: i128 = 576_000 * BEAT;

/// Maximum age of a press of pause that counts where it was made, in microseconds.
const PRESS_AGE_MAX: u64 = 500_000;

/// Maximum age of a press of `one`, in microseconds.
const ONE_AGE_MAX: u64 = 2_000_000;

/// A piece of music that starts at `t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    pub t: i128,
    pub position: i128,
    /// The count in microbeats, which goes on where a loop leads back.
    pub beat: i128,
    pub playing: bool,
    /// Tempo at `t`, in thousandths of a BPM.
    pub from: i128,
    /// Tempo after the ramp.
    pub to: i128,
    pub ramp: i128,
    /// The beat at which the count-in ends, while it lasts.
    start: Option<i128>,
    looped: Option<Looped>,
}

/// A stretch of the song that is played again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Looped {
    from: i128,
    to: i128,
    /// The position at `from`.
    position: i128,
}

/// A change for later.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Scheduled {
    Start,
    Seek(i128),
    /// A jump to a beat.
    Jump(i128),
    /// A tempo, and the time in which it is reached.
    Tempo(i128, i128),
}

/// The time of a scheduled change.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    /// A time.
    At(i128),
    /// A count of the music before.
    Count(i128),
}

/// Playback.
#[derive(Clone, Debug, PartialEq)]
pub struct Music {
    here: Piece,
    /// Changes for later, in the order of their times. Armed ones come before scheduled ones.
    scheduled: Vec<(When, Scheduled)>,
    /// Whether the model does not know how the music continues.
    is_unknown: bool,
    /// Whether the music was unknown since it was last stopped.
    was_unknown: bool,
    /// Number of armed changes that have begun and left the list.
    begun: u64,
    /// Number of beats of the count-in.
    count_in: i128,
    /// Time signatures: the first beat, the beats in a bar, and the note of a beat.
    pub meter: Vec<(i128, u8, u8)>,
}

impl Music {
    pub fn new(now: u64) -> Self {
        let here = Piece {
            t: now.into(),
            position: 0,
            beat: 0,
            playing: false,
            from: 120_000,
            to: 120_000,
            ramp: 0,
            start: None,
            looped: None,
        };
        Self {
            here,
            scheduled: Vec::new(),
            is_unknown: false,
            was_unknown: false,
            begun: 0,
            count_in: 0,
            meter: vec![(0, 4, 4)],
        }
    }

    /// Returns the music at an instant, with all changes up to then applied.
    pub fn at(&self, t: u64) -> Piece {
        let (piece, due) = self.ruling(t);
        go_on(piece, t.into(), self.cap(due))
    }

    /// Returns the piece that holds at an instant, and the number of changes that are due by then.
    fn ruling(&self, t: u64) -> (Piece, usize) {
        let mut piece = self.here;
        for (due, (when, change)) in self.scheduled.iter().enumerate() {
            let at = time_of(piece, *when);
            if at > i128::from(t) {
                return (piece, due);
            }
            piece = carry_out(piece, at, (*when, *change), self.count_in);
        }
        (piece, self.scheduled.len())
    }

    /// Returns the count at which the change of this index begins, if it waits for one.
    fn cap(&self, index: usize) -> Option<i128> {
        match self.scheduled.get(index)?.0 {
            When::Count(count) => Some(count),
            When::At(_) => None,
        }
    }

    /// Whether the music is not known until it is taken over from the real session.
    pub fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Whether a change is armed.
    pub fn is_armed(&self) -> bool {
        self.scheduled.iter().any(|(when, _)| matches!(when, When::Count(_)))
    }

    /// Returns the number of armed changes that have begun up to an instant; `None` if it is not
    /// known.
    pub fn begun(&self, t: u64) -> Option<u64> {
        let due = self.scheduled[..self.ruling(t).1].iter();
        let begun = due.filter(|(when, _)| matches!(when, When::Count(_))).count() as u64;
        (!self.was_unknown && !self.is_unknown).then_some(self.begun + begun)
    }

    /// Takes the music over from a real timeline as it is now. If that has changes ahead which the
    /// model does not know, the music remains unknown.
    pub fn take_over(&mut self, real: &Timeline, now: u64) {
        self.was_unknown = true;
        let looped = |looped: Loop| Looped {
            from: looped.from.into(),
            to: looped.to.into(),
            position: looped.p.into(),
        };
        let index = real.segment_index_at(Micros::from_micros(now));
        let (first, later) = (&real.segments[index], &real.segments[index + 1..]);
        let mut scheduled = Vec::new();
        for segment in later {
            let Some(armed) = &segment.armed else { return };
            if armed.meter.is_some() {
                return;
            }
            let change = match armed.change {
                Change::Jump => Scheduled::Jump(segment.b0.into()),
                Change::Tempo(_) => {
                    Scheduled::Tempo(segment.bpm1.milli_bpm().into(), segment.ramp.into())
                }
                Change::Song { .. } | Change::Meter | Change::End => return,
            };
            scheduled.push((When::Count(armed.cut.into()), change));
        }
        self.here = Piece {
            t: first.t0.as_micros().into(),
            position: first.p0.into(),
            beat: first.b0.into(),
            playing: first.playing,
            from: first.bpm0.milli_bpm().into(),
            to: first.bpm1.milli_bpm().into(),
            ramp: first.ramp.into(),
            start: first.start.map(i128::from),
            looped: first.looped.map(looped),
        };
        self.meter = real
            .meter_of(index)
            .iter()
            .map(|entry| {
                let signature = entry.signature;
                (entry.beat.into(), signature.numerator, signature.denominator)
            })
            .collect();
        (self.scheduled, self.is_unknown, self.count_in) = (scheduled, false, real.count_in.into());
    }

    /// Returns the number of beats of the count-in.
    pub fn count_in(&self) -> i128 {
        self.count_in
    }

    /// Whether a change is still ahead at an instant.
    pub fn is_anything_planned(&self, t: u64) -> bool {
        self.ruling(t).1 < self.scheduled.len()
    }

    /// Returns the time of the next change.
    pub fn next_wish(&self, t: u64) -> Option<u64> {
        let (piece, due) = self.ruling(t);
        let (when, _) = self.scheduled.get(due)?;
        Some(time_of(piece, *when) as u64)
    }

    /// Returns the time signature at an instant.
    pub fn signature(&self, t: u64) -> (u8, u8) {
        let (_, numerator, denominator) = self.bar(self.at(t).song_beat());
        (numerator, denominator)
    }

    /// Starts the music at `at`. Returns false if it plays already.
    pub fn play(&mut self, now: u64, at: u64, bars: u8, quantize: Option<bool>) -> bool {
        if self.at(now).playing {
            return false;
        }
        if let Some(bar) = quantize {
            let still = self.at(now);
            let into =
                if bar { self.bar(still.song_beat()).0 } else { still.beat.rem_euclid(BEAT) };
            if into > 0 {
                let position = (still.position - length_of(into, still.from)).max(0);
                self.settle(Piece { position, beat: still.beat - into, ..still });
            }
        }
        // This replaces an earlier change for a start, and all changes after that.
        self.fold(now);
        if let Some(start) =
            self.scheduled.iter().position(|(_, change)| *change == Scheduled::Start)
        {
            self.scheduled.truncate(start);
        }
        self.count_in = i128::from(bars) * i128::from(self.signature(at).0);
        self.schedule(now, at, Scheduled::Start);
        true
    }

    /// Pauses the music where it was at `pressed`, if that is not long ago. Returns false if there
    /// is nothing to pause.
    pub fn pause(&mut self, now: u64, pressed: u64) -> bool {
        if !self.at(now).playing && !self.is_anything_planned(now) {
            return false;
        }
        let (piece, due) = self.ruling(now);
        let is_recent = pressed <= now && now - pressed <= PRESS_AGE_MAX;
        let pressed = if is_recent { i128::from(pressed).max(piece.t) } else { now.into() };
        let here = go_on(piece, pressed, self.cap(due));
        // A count-in goes back to the place where the music was to start.
        let (position, beat) = here
            .start
            .map_or((here.position, here.beat), |start| (here.position + wait(here, start), start));
        let (t, position) = (now.into(), position.max(0));
        let still = Piece { t, position, beat, playing: false, to: here.from, ramp: 0, ..here };
        self.settle(Piece { start: None, ..still });
        self.count_in = 0;
        true
    }

    /// Stops the music at its start.
    pub fn rewind(&mut self, now: u64) -> bool {
        let before = (self.at(now), self.is_anything_planned(now));
        self.pause(now, now);
        self.settle(Piece { position: 0, beat: 0, looped: None, ..self.at(now) });
        before != (self.at(now), false)
    }

    /// Stops the music at the start of a song, in its tempo and signature, or the newest ones.
    pub fn begin(&mut self, now: u64, tempo: Option<u32>, signature: Option<(u8, u8)>) -> bool {
        let before = (self.at(now), self.meter.clone(), self.is_anything_planned(now));
        let (_, numerator, denominator) = self.meter[self.meter.len() - 1];
        let (numerator, denominator) = signature.unwrap_or((numerator, denominator));
        self.rewind(now);
        self.meter = vec![(0, numerator, denominator)];
        self.count_in = 0;
        let still = self.at(now);
        let tempo = tempo.map_or(still.from, i128::from);
        self.settle(Piece { from: tempo, to: tempo, ..still });
        before != (self.at(now), self.meter.clone(), false)
    }

    /// Seeks to another position, now or later. Returns false if the position does not change.
    pub fn seek(&mut self, now: u64, at: u64, to: u64) -> bool {
        let here = self.at(now);
        // While playing, a position that does not belong to its beat may stay.
        let stays = here.playing && here.start.is_none() && here.position == i128::from(to);
        let same = stays || sought(here, to.into()) == here;
        if same && (at <= now || !here.playing) && !self.is_anything_planned(now) {
            return false;
        }
        self.fold(now);
        self.forget_jumps();
        self.schedule(now, at, Scheduled::Seek(to.into()));
        true
    }

    /// Jumps to a beat when the song next reaches `from`, or at once if the music is stopped.
    ///
    /// # Errors
    /// If the song does not reach that beat.
    pub fn jump(&mut self, now: u64, to: i128, from: i128) -> Result<bool, String> {
        let before = self.clone();
        self.fold(now);
        if !self.here.playing {
            let here = moved(self.here, to, position_of(to, self.here.from));
            if here == self.here && self.scheduled.is_empty() {
                *self = before;
                return Ok(false);
            }
            self.forget_jumps();
            self.here = here;
            return Ok(*self != before);
        }
        let count = self.reached(from)?;
        self.scheduled.retain(|(when, change)| {
            matches!((when, change), (When::Count(other), Scheduled::Tempo(..)) if *other < count)
        });
        self.scheduled.push((When::Count(count), Scheduled::Jump(to)));
        Ok(*self != before)
    }

    /// Changes the tempo when the song next reaches `from`, or at once if the music is stopped.
    ///
    /// # Errors
    /// If the song does not reach that beat.
    pub fn arm_tempo(
        &mut self,
        now: u64,
        tempo: u32,
        fade: u64,
        from: i128,
    ) -> Result<bool, String> {
        if !self.at(now).playing {
            return Ok(self.tempo(now, tempo, 0));
        }
        let before = self.clone();
        self.fold(now);
        let count = self.reached(from)?;
        let at = time_of(self.here, When::Count(count));
        let leaves = |(when, change): &(When, Scheduled)| match when {
            When::Count(other) => *other <= count && matches!(change, Scheduled::Jump(_)),
            When::At(other) => *other <= at,
        };
        if self.scheduled.iter().any(leaves) {
            return Err("a tempo was armed behind a jump".into());
        }
        self.scheduled.retain(|(when, _)| *when != When::Count(count));
        let is_after = |(when, _): &(When, Scheduled)| match when {
            When::Count(other) => *other > count,
            When::At(_) => true,
        };
        let index = self.scheduled.iter().position(is_after).unwrap_or(self.scheduled.len());
        self.scheduled
            .insert(index, (When::Count(count), Scheduled::Tempo(tempo.into(), fade.into())));
        Ok(*self != before)
    }

    /// Cancels armed changes. Returns false if there are none.
    pub fn cancel(&mut self, now: u64) -> bool {
        let due = self.ruling(now).1;
        if !self.scheduled[due..].iter().any(|(when, _)| matches!(when, When::Count(_))) {
            return false;
        }
        let before = self.clone();
        self.fold(now);
        self.scheduled.retain(|(when, _)| matches!(when, When::At(_)));
        *self != before
    }

    /// Loops between two beats, or releases the loop. Returns false if there is none to release.
    ///
    /// # Errors
    /// If the music is past the end of the loop.
    pub fn set_loop(&mut self, now: u64, bounds: Option<(i128, i128)>) -> Result<bool, String> {
        let (before, here) = (self.clone(), self.at(now));
        if bounds.is_some_and(|(_, to)| here.folded() >= to) {
            return Err("a loop was set that the music is past".into());
        }
        if bounds.is_none() && here.looped.is_none() {
            return Ok(false);
        }
        self.fold(now);
        let (beat, old) = (self.here.folded(), self.here.looped);
        let by = self.here.beat - beat;
        for (when, change) in &mut self.scheduled {
            let When::Count(count) = when else { continue };
            *count -= by;
            // A change of a later pass takes the next bar line, which depends on the lead.
            self.is_unknown |=
                old.is_some_and(|old| *count > old.to) && matches!(change, Scheduled::Jump(_));
        }
        if let Some(old) = old {
            let is_later = |when: &When| matches!(when, When::Count(count) if *count > old.to);
            self.scheduled
                .retain(|(when, change)| matches!(change, Scheduled::Jump(_)) || !is_later(when));
        }
        for (when, _) in &mut self.scheduled {
            if let (When::Count(count), Some((_, to))) = (when, bounds) {
                *count = to.min(*count);
            }
        }
        self.here.beat = beat;
        self.here.looped = bounds.map(|(from, to)| Looped {
            from,
            to,
            position: position_of(from, self.here.from),
        });
        // Two changes at one place become one, and which one is the engine's affair.
        self.is_unknown |= self.scheduled.windows(2).any(|pair| pair[0].0 == pair[1].0);
        self.drop_overtaken();
        Ok(*self != before)
    }

    /// Moves the place by whole beats.
    ///
    /// # Errors
    /// If that is before the beginning.
    pub fn nudge(&mut self, now: u64, beats: i128) -> Result<bool, String> {
        let before = self.clone();
        self.fold(now);
        let count = self.here.beat + beats * BEAT;
        if count < 0 {
            return Err("the place was moved to before the beginning".into());
        }
        self.here = shift(self.here, count);
        self.look_for_overtaken(now);
        Ok(*self != before)
    }

    /// Moves the place, the loop and all changes by whole beats after an edit of the song's chart, but
    /// not to before the song.
    pub fn follow_chart(&mut self, now: u64, beats: i128) {
        let here = self.at(now);
        let place = here.start.unwrap_or(here.folded());
        let first = here.looped.map_or(place, |looped| looped.from.min(place));
        let whole = |beats: i128| beats.max(0) / BEAT * BEAT;
        let by = (beats * BEAT).max(-whole(first)).min(whole(CHART_END - place));
        if by == 0 {
            return;
        }
        self.fold(now);
        let duration = length_of(by, here.from);
        let moved = |position: i128| (position + duration).max(0).min(position.max(POSITION_MAX));
        let counted_in = here.start.map_or(0, |start| length_of(start - here.beat, here.from));
        self.here.position = moved(here.position + counted_in) - counted_in;
        self.here.beat += by;
        self.here.start = here.start.map(|start| start + by);
        self.here.looped = here.looped.map(|looped| Looped {
            from: looped.from + by,
            to: looped.to + by,
            position: moved(looped.position),
        });
        for (when, change) in &mut self.scheduled {
            if let When::Count(count) = when {
                *count += by;
            }
            match change {
                Scheduled::Jump(to) => *to = (*to + by).max(0),
                Scheduled::Seek(to) => *to = moved(*to),
                Scheduled::Start | Scheduled::Tempo(..) => {}
            }
        }
    }

    /// Moves the nearest bar line to `pressed`.
    ///
    /// # Errors
    /// If that is long ago, or the music is stopped.
    pub fn one(&mut self, now: u64, pressed: u64) -> Result<bool, String> {
        let pressed = pressed.min(now);
        let before = self.clone();
        let (piece, due) = self.ruling(now);
        if now - pressed > ONE_AGE_MAX || !piece.playing {
            return Err("a press was obeyed that is old, or while the music was stopped".into());
        }
        let there = go_on(piece, pressed.into(), self.cap(due));
        self.fold(now);
        let beat = there.folded();
        let (into, of, _) = self.bar(beat);
        let next = self.meter.iter().map(|(from, ..)| *from).find(|from| *from > beat);
        let line = beat - into;
        let after = next.unwrap_or(i128::MAX).min(line + i128::from(of) * BEAT);
        let after = there.looped.map_or(after, |looped| after.min(looped.to));
        let may_go_back = line >= 0 || there.start.is_some();
        let to = if may_go_back && beat - line < after - beat { line } else { after };
        self.here = shift(there, there.beat + to - beat);
        self.look_for_overtaken(now);
        Ok(*self != before)
    }

    /// Changes the tempo from now on. Returns false if the music has that tempo.
    pub fn tempo(&mut self, now: u64, tempo: u32, fade: u64) -> bool {
        let here = self.at(now);
        let tempo = i128::from(tempo);
        let fade = if here.playing && here.from != tempo { i128::from(fade) } else { 0 };
        if here.ramp == 0 && here.from == tempo {
            return false;
        }
        self.fold(now);
        let from = if fade == 0 { tempo } else { here.from };
        self.here = Piece { from, to: tempo, ramp: fade, ..here };
        self.drop_overtaken();
        true
    }

    /// Changes the signature from the next bar line on, or from this bar on if the music is paused,
    /// up to the next change. Returns false if a bar of this signature begins there anyway.
    pub fn signature_from_here(&mut self, now: u64, numerator: u8, denominator: u8) -> bool {
        let here = self.at(now);
        let is_armed = matches!(self.scheduled.get(self.ruling(now).1), Some((When::Count(_), _)));
        if here.playing && (here.looped.is_some() || is_armed) {
            // The change may wait for the next pass, or go along with a jump.
            self.is_unknown = true;
            return true;
        }
        let place = here.folded();
        let (into, of, _) = self.bar(place);
        let mut from = place - into;
        if here.playing && into > 0 {
            from += i128::from(of) * BEAT;
            if let Some((next, ..)) = self.meter.iter().find(|(beat, ..)| *beat > place) {
                from = from.min(*next);
            }
        }
        let from = here.start.unwrap_or(from);
        if self.bar(from) == (0, numerator, denominator) {
            return false;
        }
        self.fold(now);
        self.meter.retain(|(beat, ..)| *beat != from);
        self.meter.push((from, numerator, denominator));
        self.meter.sort_unstable();
        true
    }

    /// Returns the position of a beat in its bar, and the bar's signature.
    fn bar(&self, beat: i128) -> (i128, u8, u8) {
        let (start, numerator, denominator) =
            *self.meter.iter().rev().find(|(from, ..)| *from <= beat).unwrap_or(&self.meter[0]);
        ((beat - start).rem_euclid(i128::from(numerator) * BEAT), numerator, denominator)
    }

    /// Applies the changes up to now, and continues from now, as every change does.
    pub fn fold(&mut self, now: u64) {
        let (here, due) = (self.at(now), self.ruling(now).1);
        let begun = self.scheduled.drain(..due).filter(|(when, _)| matches!(when, When::Count(_)));
        self.begun += begun.count() as u64;
        self.here = here;
    }

    /// Moves the music in time, so that its state at `then` is that at `now`.
    pub fn move_clock(&mut self, then: u64, now: u64) {
        self.fold(then);
        let by = i128::from(now) - i128::from(then);
        self.here.t = now.into();
        for (when, _) in &mut self.scheduled {
            if let When::At(at) = when {
                *at += by;
            }
        }
    }

    /// Stops the music somewhere. Lost music is stopped where the model does not know.
    fn settle(&mut self, here: Piece) {
        self.fold(here.t as u64);
        self.here = here;
        self.scheduled.clear();
        self.was_unknown = self.is_unknown;
    }

    /// Adds a change. A change for now is applied at once, and a newer change replaces a jump.
    fn schedule(&mut self, now: u64, at: u64, change: Scheduled) {
        self.fold(now);
        if at <= now {
            let by = self.here.beat - self.here.folded();
            let when = When::At(now.into());
            self.here = carry_out(self.here, now.into(), (when, change), self.count_in);
            for (when, _) in &mut self.scheduled {
                if let When::Count(count) = when {
                    *count -= by;
                }
            }
            return self.look_for_overtaken(now);
        }
        let at = i128::from(at);
        self.scheduled.retain(|(other, old)| *other != When::At(at) || *old == Scheduled::Start);
        let is_after =
            |(when, _): &(When, Scheduled)| matches!(when, When::At(other) if *other >= at);
        let index = self.scheduled.iter().position(is_after).unwrap_or(self.scheduled.len());
        self.scheduled.insert(index, (When::At(at), change));
        self.drop_overtaken();
    }

    fn forget_jumps(&mut self) {
        self.scheduled.retain(|(_, change)| !matches!(change, Scheduled::Jump(_)));
    }

    /// Returns the count at which the song is next at a beat.
    fn reached(&self, beat: i128) -> Result<i128, String> {
        let here = self.here;
        let mut count = here.beat + beat - here.folded();
        if let Some(looped) = here.looped {
            if count <= here.beat && beat >= looped.from {
                count += looped.to - looped.from;
            }
            if beat > looped.to {
                return Err(format!("beat {beat} is behind {looped:?}"));
            }
        }
        if count <= here.beat || here.start.is_some_and(|start| count < start) {
            return Err(format!("beat {beat} is over in {here:?}"));
        }
        Ok(count)
    }

    /// Loses the music if it is past the place of an armed change, which then takes the next bar
    /// line.
    fn look_for_overtaken(&mut self, now: u64) {
        let beat = go_on(self.here, now.into(), None).beat;
        self.is_unknown |= self
            .scheduled
            .iter()
            .any(|(when, _)| matches!(when, When::Count(count) if *count <= beat));
        self.drop_overtaken();
    }

    /// Drops armed changes that a scheduled one comes before.
    fn drop_overtaken(&mut self) {
        if self.is_unknown {
            return;
        }
        let (mut piece, mut kept) = (self.here, Vec::<(i128, (When, Scheduled))>::new());
        for change in std::mem::take(&mut self.scheduled) {
            let at = time_of(piece, change.0);
            if matches!(change.0, When::At(_)) {
                let is_overtaken = |(other, (when, _)): &mut (i128, (When, Scheduled))| {
                    *other >= at && matches!(when, When::Count(_))
                };
                while kept.pop_if(is_overtaken).is_some() {}
                piece = kept.iter().fold(self.here, |piece, (at, change)| {
                    carry_out(piece, *at, *change, self.count_in)
                });
            }
            piece = carry_out(piece, at, change, self.count_in);
            kept.push((at, change));
        }
        self.scheduled = kept.into_iter().map(|(_, change)| change).collect();
    }
}

impl Piece {
    /// Returns the song beat: the count, unless a loop has led back.
    fn folded(&self) -> i128 {
        match self.looped.filter(|looped| self.beat >= looped.to) {
            Some(looped) => {
                looped.from + (self.beat - looped.from).rem_euclid(looped.to - looped.from)
            }
            None => self.beat,
        }
    }

    /// Returns the song beat; while counting in, the count.
    pub fn song_beat(&self) -> i128 {
        if self.start.is_some() { self.beat } else { self.folded() }
    }
}

/// Returns the first count after `count` at which a loop leads back.
fn wrap_after(looped: Looped, count: i128) -> i128 {
    let size = looped.to - looped.from;
    if count < looped.to { looped.to } else { count - (count - looped.from) % size + size }
}

/// Returns the time at which a change begins.
fn time_of(piece: Piece, when: When) -> i128 {
    match when {
        When::At(at) => at,
        When::Count(_) if !piece.playing => i128::MAX,
        When::Count(count) => (piece.t + wait(piece, count)).max(piece.t + 1),
    }
}

/// Returns the same music as a piece that starts at a later instant. It counts at most up to before
/// `cap`, where an armed change takes over.
fn go_on(piece: Piece, t: i128, cap: Option<i128>) -> Piece {
    let passed = t - piece.t;
    let (mut beats, mut tempo) = (0, piece.from);
    if piece.playing {
        // Twice the area under the tempo, so that all numbers stay whole until the end.
        let ramped = passed.min(piece.ramp);
        let after = passed - ramped;
        beats = match () {
            () if piece.ramp == 0 || passed <= 0 => round(piece.from * passed, 60_000),
            () if after == 0 && ramped < piece.ramp => {
                let rise = (piece.to - piece.from) * ramped * ramped;
                round(2 * piece.from * piece.ramp * ramped + rise, 120_000 * piece.ramp)
            }
            () => round((piece.from + piece.to) * piece.ramp + 2 * piece.to * after, 120_000),
        };
    }
    if piece.ramp > 0 {
        let reached = passed.clamp(0, piece.ramp);
        tempo = piece.from + round((piece.to - piece.from) * reached, piece.ramp);
    } else if passed >= 0 {
        tempo = piece.to;
    }
    let ramp = (piece.ramp - passed.max(0)).max(0);
    let count = piece.beat + beats;
    let beat = cap.map_or(count, |cap| count.min(cap - 1));
    let mut position = piece.position + if piece.playing { passed } else { 0 };
    if let Some(looped) = piece.looped.filter(|_| piece.playing) {
        let (size, first) = (looped.to - looped.from, wrap_after(looped, piece.beat));
        if beat >= first {
            let wrap = beat - (beat - looped.from) % size;
            position = looped.position + (t - piece.t - wait(piece, wrap)).max(0);
        }
    }
    Piece {
        t,
        position,
        beat,
        playing: piece.playing,
        from: tempo,
        to: if ramp == 0 { tempo } else { piece.to },
        ramp,
        start: piece.start.filter(|start| beat < *start),
        looped: piece.looped,
    }
}

/// Returns the time in microseconds after which a playing piece reaches a beat ahead, rounded to
/// the nearest: the last half of a microsecond at which the beat is not reached.
fn wait(piece: Piece, beat: i128) -> i128 {
    let beats = beat - piece.beat;
    // The beats up to half of a microsecond after `passed`, and `beats`, both times 480 000.
    let is_past = |passed: i128| {
        let (half, ramp) = (2 * passed + 1, piece.ramp);
        match () {
            () if half < 2 * ramp => {
                let rise = (piece.to - piece.from) * half * half;
                4 * piece.from * ramp * half + rise > 480_000 * beats * ramp
            }
            () => {
                let ramped = 4 * (piece.from + piece.to) * ramp;
                ramped + 4 * piece.to * (half - 2 * ramp) > 480_000 * beats
            }
        }
    };
    let (mut low, mut high) = (0, 1 << 40);
    while low < high {
        let middle = (low + high) / 2;
        if is_past(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// Returns the music after a change that begins at `at`.
fn carry_out(piece: Piece, at: i128, (when, change): (When, Scheduled), count_in: i128) -> Piece {
    let there = go_on(piece, at, None);
    match change {
        Scheduled::Start if there.playing => there,
        Scheduled::Start => {
            let beats = count_in * BEAT;
            let position = there.position - length_of(beats, there.from);
            let start = (beats > 0).then_some(there.beat);
            Piece { position, beat: there.beat - beats, playing: true, start, ..there }
        }
        Scheduled::Seek(to) => sought(there, to),
        Scheduled::Jump(to) => {
            let position = position_of(to, there.from);
            let looped = loop_around(there.looped, to);
            Piece { position, beat: to, start: None, looped, ..there }
        }
        Scheduled::Tempo(tempo, fade) => {
            let When::Count(count) = when else { return there };
            let from = if fade == 0 { tempo } else { there.from };
            let wrapped = there.looped.filter(|looped| wrap_after(*looped, count - 1) == count);
            let position = wrapped.map_or(there.position, |looped| looped.position);
            let beat = count;
            Piece { position, beat, from, to: tempo, ramp: fade, start: None, ..there }
        }
    }
}

/// Returns the music at another position.
fn sought(piece: Piece, to: i128) -> Piece {
    let mut beat = round(to * piece.from, 60_000);
    let place = piece.start.unwrap_or(piece.folded());
    if piece.playing {
        // The click goes on, so the place moves by whole beats.
        beat = place + BEAT * round(beat - place, BEAT);
        beat += if beat < 0 { BEAT } else { 0 };
    }
    moved(piece, beat, to)
}

/// Returns the music at another place. What is left of a count-in is still to be counted.
fn moved(piece: Piece, beat: i128, position: i128) -> Piece {
    let left = piece.start.map_or(0, |start| start - piece.beat);
    Piece {
        position: position - length_of(left, piece.from),
        beat: beat - left,
        start: piece.start.map(|_| beat),
        looped: loop_around(piece.looped, beat),
        ..piece
    }
}

/// Returns the music at another count, and its position as much later or earlier.
fn shift(piece: Piece, count: i128) -> Piece {
    let mut there = Piece { beat: count, ..piece };
    there.position = (piece.position + length_of(count - piece.beat, piece.from)).max(0);
    if let Some(looped) = piece.looped.filter(|looped| count >= looped.to)
        && count - there.folded() != piece.beat - piece.folded()
    {
        there.position = looped.position + length_of(there.folded() - looped.from, piece.from);
    }
    there
}

/// Returns the loop, if a beat is in it.
fn loop_around(looped: Option<Looped>, beat: i128) -> Option<Looped> {
    looped.filter(|looped| (looped.from..looped.to).contains(&beat))
}

/// Returns the position of a beat after a jump.
fn position_of(beat: i128, tempo: i128) -> i128 {
    length_of(beat, tempo).min(POSITION_MAX)
}

/// Returns the duration of a number of microbeats, in microseconds.
fn length_of(beats: i128, tempo: i128) -> i128 {
    round(60_000 * beats, tempo)
}

/// Divides and rounds to the nearest whole number, halves up.
fn round(dividend: i128, divisor: i128) -> i128 {
    (2 * dividend + divisor).div_euclid(2 * divisor)
}
