//! The commands: how each one changes the music.

use super::places::{
    bar_line_after, beat_after, duration_of, loop_around, next_count_of, position_of, shift,
    sought, started, stop_after, too_late, with_entry,
};
use super::{Draft, Move, Plan, Planned};
use crate::speech::{Code, Departure, Quantize, Reject};
use crate::words::music::{
    Armed, BEAT, Bar, Change, Loop, MeterChange, Segment, Tempo, TempoEvent, TimeSignature,
};
use crate::words::time::Micros;

/// Maximum age of a press of `one`. Specified.
const ONE_AGE_MAX: Micros = Micros::from_secs(2);

/// A song as it begins.
#[derive(Debug)]
pub(in crate::session) struct SongStart {
    /// The song's id.
    pub song: String,
    /// The song's tempo. `None`: the present one.
    pub tempo: Option<Tempo>,
    /// The song's meter. `None`: the newest signature.
    pub meter: Option<Vec<MeterChange>>,
    /// The song beat at which the song is over, if it ends.
    pub end: Option<i64>,
    /// Whether the song plays, or is stopped at its beginning.
    pub plays: bool,
}

impl Draft {
    /// Starts the stopped music at `at`, after a count-in of `bars` bars, and returns the segment
    /// that plays. Replaces an earlier scheduled start with everything that was scheduled after it.
    pub fn play(&mut self, at: Micros, bars: u32) -> Result<Segment, Reject> {
        self.keep_begun_song();
        let mut plan = self.plan();
        // After its end, the song begins again.
        if self.timeline.end.is_some_and(|end| plan.present.beat_of(plan.present.b0) >= end) {
            (plan.present.b0, plan.present.p0) = (0, 0);
        }
        let start = |later: &Planned| matches!(later, Planned::Scheduled(_, Move::Start(_)));
        let earlier = plan.later.iter().position(start).unwrap_or(plan.later.len());
        plan.later.truncate(earlier);
        let beat = self.beat_of_plan(&plan, at);
        let numerator = MeterChange::at(&plan.meter, beat).signature.numerator;
        self.timeline.count_in = bars * u32::from(numerator);
        let beats = i64::from(self.timeline.count_in) * BEAT;
        self.move_at(plan, at, Move::Start(beats))?;
        Ok(self.timeline.continued_from(self.timeline.segment_index_at(at), at))
    }

    /// Stops where the music was at `pressed`, and cancels what is planned. During a count-in it
    /// stops at the place where the music was to begin.
    pub fn pause(&mut self, pressed: Micros) -> Result<(), Reject> {
        let index = self.timeline.segment_index_at(self.now);
        let mut plan = self.plan();
        // What began after the press is not undone.
        let pressed = pressed.max(self.timeline.segments[index].t0).min(self.now);
        let mut still = self.timeline.continued_from(index, pressed);
        if let Some(start) = still.start.take() {
            let left = still.time_of_count(start).since(pressed);
            (still.p0, still.b0) = (still.p0 + left.as_micros() as i64, start);
        }
        let (p0, bpm1) = (still.p0.max(0), still.bpm0);
        plan.present = Segment { t0: self.now, p0, playing: false, bpm1, ramp: 0, ..still };
        plan.later.clear();
        self.timeline.count_in = 0;
        self.apply(plan)
    }

    /// Stops at the beginning, without a loop.
    pub fn stop(&mut self) -> Result<(), Reject> {
        let present = self.plan().present;
        let is_there = (present.p0, present.b0, present.looped) == (0, 0, None);
        if is_there && !present.playing && !self.is_anything_planned() {
            return Ok(());
        }
        self.pause(self.now)?;
        let still = &mut self.timeline.segments[0];
        (still.p0, still.b0, still.looped) = (0, 0, None); // mark: stop_stays_there
        Ok(())
    }

    /// Begins a song at once.
    pub fn begin(&mut self, song: SongStart) -> Result<(), Reject> {
        let mut plan = self.plan();
        let before = plan.present.clone();
        let nothing_else = self.timeline.segments.iter().all(|segment| segment.armed.is_none())
            && !self.is_anything_planned();
        plan.meter = meter_of_song(&plan, &song);
        plan.later.clear();
        plan.present = song_segment(&plan, &song, before.bpm0);
        (self.timeline.song, self.timeline.end) = (Some(song.song), song.end);
        self.timeline.count_in = 0;
        if nothing_else && plan.present == before && !before.playing {
            // The music is there already, so only the song, its meter and its end can be new.
            self.timeline.meter = plan.meter;
            return Ok(());
        }
        self.rebuild(plan)
    }

    /// Arms a song. If the music is stopped, the song begins at once.
    pub fn arm_song(&mut self, song: SongStart, departure: Departure) -> Result<(), Reject> {
        let plan = self.plan();
        if !plan.present.playing {
            return self.begin(song);
        }
        let segment = song_segment(&plan, &song, plan.present.bpm1);
        let meter = meter_of_song(&plan, &song);
        let change = Change::Song { id: song.song, end: song.end };
        self.arm(plan, segment, (change, Some(meter)), departure)
    }

    /// Removes songs that the set list no longer has: an armed one is cancelled, and the present
    /// one loses its id and its end.
    pub fn keep_songs(&mut self, has: impl Fn(&str) -> bool) -> Result<(), Reject> {
        let mut plan = self.plan();
        let planned = plan.later.len();
        plan.later.retain(|later| match later {
            Planned::Armed(_, Armed { change: Change::Song { id, .. }, .. }) => has(id),
            _ => true,
        });
        let present = self.timeline.song_at(self.now);
        let is_gone = present.is_some_and(|id| !has(id));
        if !is_gone && plan.later.len() == planned {
            return Ok(());
        }
        self.keep_begun_song();
        if is_gone {
            (self.timeline.song, self.timeline.end) = (None, None);
        }
        self.rebuild(plan)
    }

    /// Arms a jump to a beat. If the music is stopped, the place moves at once.
    pub fn jump(&mut self, beat: i64, departure: Departure) -> Result<(), Reject> {
        let plan = self.plan();
        if !plan.present.playing {
            return self.seek(self.now, Move::Beat(beat));
        }
        let looped = loop_around(plan.present.looped, beat);
        let segment = Segment { b0: beat, looped, start: None, ..plan.present.clone() };
        self.arm(plan, segment, (Change::Jump, None), departure)
    }

    /// Moves the place at `at`. An armed jump or song is cancelled; an armed tempo stays at its
    /// beat.
    pub fn seek(&mut self, at: Micros, to: Move) -> Result<(), Reject> {
        let mut plan = self.plan();
        let (present, at_once) = (&plan.present, at <= self.now);
        // A position that does not belong to the beat, as after a change of the tempo, may stay.
        let stays = present.start.is_none() && to == Move::Position(present.p0);
        let is_there = sought(present.clone(), to) == *present || present.playing && stays;
        if is_there && (at_once || !present.playing) && !self.is_anything_planned() {
            return Ok(());
        }
        let folded = present.b0 - present.beat_of(present.b0);
        let mut waiting_meter = None;
        plan.later.retain_mut(|later| {
            let Planned::Armed(_, armed) = later else { return true };
            if matches!(armed.change, Change::Jump | Change::Song { .. }) {
                return false; // mark: seek_keeps_the_jump
            }
            if at_once {
                armed.cut -= folded;
                waiting_meter = armed.meter.take().or(waiting_meter.take());
            }
            matches!(armed.change, Change::Tempo(_)) || !at_once
        });
        plan.meter = waiting_meter.unwrap_or(plan.meter);
        self.move_at(plan, at, to)
    }

    /// Changes the tempo from now on, over `fade`.
    pub fn set_tempo(&mut self, tempo: Tempo, fade: Micros) -> Result<(), Reject> {
        let mut plan = self.plan();
        let present = plan.present;
        if present.ramp == 0 && present.bpm0 == tempo {
            return Ok(());
        }
        let bpm0 = if fade == Micros::ZERO { tempo } else { present.bpm0 }; // mark: fade_jumps
        // mark: tempo_recounts_beats
        plan.present = Segment { bpm0, bpm1: tempo, ramp: fade.as_micros(), ..present };
        self.apply(plan)
    }

    /// Arms a tempo at a song beat. If the music is stopped, the tempo holds at once.
    pub fn arm_tempo(
        &mut self,
        tempo: Tempo,
        fade: Micros,
        beat: i64,
        event: TempoEvent,
    ) -> Result<(), Reject> {
        let mut plan = self.plan();
        if !plan.present.playing {
            return self.set_tempo(tempo, Micros::ZERO);
        }
        let cut = self.reachable_count(&plan, beat)?;
        let leaves_before = |later: &Planned| match later {
            Planned::Armed(_, armed) => {
                armed.cut <= cut && !matches!(armed.change, Change::Tempo(_) | Change::Meter)
            }
            Planned::Scheduled(at, _) => *at <= plan.present.time_of_count(cut),
        };
        if plan.later.iter().any(leaves_before) {
            return Err(too_late(
                "another change begins before this beat; cancel it, or wait for it",
            ));
        }
        let mut meter = None;
        plan.later.retain_mut(|later| match later {
            Planned::Armed(_, armed) if armed.cut == cut => {
                meter = armed.meter.take().or(meter.take());
                false
            }
            _ => true,
        });
        let segment = Segment {
            bpm0: tempo,
            bpm1: tempo,
            ramp: fade.as_micros(),
            start: None,
            ..plan.present.clone()
        };
        insert(&mut plan, segment, Armed { cut, change: Change::Tempo(event), meter });
        self.apply(plan)
    }

    /// Cancels everything that is armed, but not the loop and not the end.
    pub fn cancel(&mut self) -> Result<(), Reject> {
        let mut plan = self.plan();
        let before = plan.later.len();
        plan.later.retain(|later| matches!(later, Planned::Scheduled(..)));
        if plan.later.len() == before { Ok(()) } else { self.apply(plan) }
    }

    /// Loops from one song beat to another. `None` releases the loop: the present pass is the last.
    pub fn set_loop(&mut self, bounds: Option<(i64, i64)>) -> Result<(), Reject> {
        let mut plan = self.plan();
        let (count, beat) = (plan.present.b0, plan.present.beat_of(plan.present.b0));
        let old = plan.present.looped.take();
        if bounds.is_some_and(|(_, to)| beat >= to) {
            return Err(too_late("the music is past the end of this loop"));
        }
        if old.is_none() && bounds.is_none() {
            return Ok(());
        }
        plan.present.b0 = beat; // mark: released_loop_counts_on
        let tempo = plan.present.bpm0;
        let looped = bounds.map(|(from, to)| Loop { from, to, p: position_of(from, tempo) });
        self.fold_armed(&mut plan, old, count - beat);
        for later in &mut plan.later {
            let Planned::Armed(segment, armed) = later else { continue };
            if let Some(looped) = looped {
                armed.cut = armed.cut.min(looped.to); // mark: jump_forgotten_at_loop_end
            }
            if armed.change == Change::Jump {
                segment.looped = loop_around(looped, segment.b0);
            }
        }
        plan.present.looped = looped;
        self.apply(plan)
    }

    /// Moves the place by whole beats at once, which are named in microbeats. The click goes on.
    pub fn nudge(&mut self, micro_beats: i64) -> Result<(), Reject> {
        debug_assert!(micro_beats % BEAT == 0, "{micro_beats} are no whole beats");
        let mut plan = self.plan();
        let count = plan.present.b0 + micro_beats;
        if count < 0 {
            return Err(Reject::new(Code::NotAllowed, "this is before the beginning of the song"));
        }
        plan.present = shift(plan.present, count);
        self.apply(plan)
    }

    /// Corrects the bar: shifts the music so that a bar begins at `pressed`, the time at which the
    /// leader pressed on beat one. The nearest bar line is used, and the next one if the press is
    /// halfway. The end of a loop counts as a bar line. A time later than now counts as now.
    pub fn one(&mut self, pressed: Micros) -> Result<(), Reject> {
        if self.now.since(pressed) > ONE_AGE_MAX {
            return Err(too_late("this press is more than 2 s ago; press again"));
        }
        let (mut plan, pressed) = (self.plan(), pressed.min(self.now));
        if !plan.present.playing {
            return Err(Reject::new(Code::NotAllowed, "the music is stopped; start it first"));
        }
        let index = self.timeline.segment_index_at(self.now);
        let present = self.timeline.continued_from(index, pressed);
        let beat = present.beat_of(present.b0);
        let before = beat - Bar::at(&plan.meter, beat).in_bar;
        let after = Bar::line_after(&plan.meter, beat + 1);
        let after = present.looped.map_or(after, |looped| after.min(looped.to));
        // No press moves the music to before its beginning.
        let may_go_back = before >= 0 || present.start.is_some();
        let is_nearer = beat - before < after - beat;
        let line = if may_go_back && is_nearer { before } else { after };
        let count = present.b0 + line - beat;
        plan.present = shift(present, count);
        self.apply(plan)
    }

    /// Changes the signature from the next bar line up to the next entry of the meter, or from the
    /// present bar if the music is stopped. In the last bar of a pass the change waits for the next
    /// pass.
    pub fn set_signature(&mut self, signature: TimeSignature) -> Result<(), Reject> {
        let mut plan = self.plan();
        let (present, count) = (&plan.present, plan.present.b0);
        let beat = present.beat_of(count);
        let wrap = present.next_wrap(count).filter(|_| present.playing);
        let line = if present.playing {
            let line = bar_line_after(present, &plan.meter, count);
            wrap.map_or(line, |wrap| line.min(wrap))
        } else {
            count - Bar::at(&plan.meter, beat).in_bar
        };
        let waits = |later: &Planned| {
            matches!(later, Planned::Armed(_, Armed { change: Change::Meter, .. }))
        };
        let from = beat + line - count;
        let is_waiting = plan.later.iter().any(waits);
        if !is_waiting && wrap != Some(line) && begins_bar(&plan.meter, from, signature) {
            return Ok(());
        }
        plan.later.retain(|later| !waits(later));
        let meter_with = |beat| with_entry(&plan.meter, MeterChange { beat, signature });
        let loop_from = present.looped.map_or(0, |looped| looped.from);
        // If an armed change begins before that bar line, the signature holds from the beat to which
        // the change leads.
        for later in &mut plan.later {
            let Planned::Armed(segment, armed) = later else { continue };
            match armed.change {
                // No bar of this song is left.
                Change::Song { .. } if armed.cut <= line => return Ok(()),
                Change::Jump if armed.cut <= line => armed.meter = Some(meter_with(segment.b0)),
                Change::Tempo(_) if Some(armed.cut) == wrap && wrap == Some(line) => {
                    armed.meter = Some(meter_with(loop_from));
                }
                _ => continue,
            }
            return self.apply(plan);
        }
        if wrap == Some(line) {
            let meter = Some(meter_with(loop_from));
            let segment = Segment { start: None, ..present.clone() };
            insert(&mut plan, segment, Armed { cut: line, change: Change::Meter, meter });
        } else {
            plan.meter = meter_with(from);
        }
        self.apply(plan)
    }

    /// Moves the place of the stopped music back to the beginning of its bar or beat, but not before
    /// the song.
    pub fn step_back(&mut self, quantize: Quantize) -> Result<(), Reject> {
        let mut plan = self.plan();
        let still = &mut plan.present;
        let into = match quantize {
            Quantize::Bar => self.timeline.place_at(self.now).bar.in_bar,
            Quantize::Beat => still.b0.rem_euclid(BEAT),
        };
        if into == 0 {
            return Ok(());
        }
        still.p0 = (still.p0 - duration_of(into, still.bpm0)).max(0);
        still.b0 -= into;
        plan.later.clear();
        self.apply(plan)
    }

    /// Arms a jump or a song. It replaces an earlier one and all changes that were armed for later
    /// beats; a meter that waited for one of those is kept.
    fn arm(
        &mut self,
        mut plan: Plan,
        segment: Segment,
        (change, meter): (Change, Option<Vec<MeterChange>>),
        departure: Departure,
    ) -> Result<(), Reject> {
        let ahead = plan.present.count_at(self.now + self.lead_time);
        let cut = match departure {
            Departure::Bar => bar_line_after(&plan.present, &plan.meter, ahead),
            Departure::Beat => beat_after(&plan.present, ahead),
            Departure::AtBeat(beat) => self.reachable_count(&plan, beat)?,
        };
        let mut waiting_meter = None;
        plan.later.retain_mut(|later| {
            let Planned::Armed(_, armed) = later else { return false };
            let stays = matches!(armed.change, Change::Tempo(_) | Change::Meter) && armed.cut < cut;
            if armed.cut >= cut && !matches!(armed.change, Change::Song { .. }) {
                waiting_meter = armed.meter.take().or(waiting_meter.take());
            }
            stays
        });
        insert(&mut plan, segment, Armed { cut, change, meter: meter.or(waiting_meter) });
        self.apply(plan)
    }

    /// Moves the place at a time, now or later.
    fn move_at(&mut self, mut plan: Plan, at: Micros, to: Move) -> Result<(), Reject> {
        if at <= self.now {
            plan.present = match to {
                Move::Start(beats) => started(plan.present, beats),
                to => sought(plan.present, to),
            };
            return self.apply(plan);
        }
        // A newer move at the same time replaces the older one, but a start still starts.
        plan.later.retain(|later| match later {
            Planned::Scheduled(other, to) => *other != at || matches!(to, Move::Start(_)),
            Planned::Armed(..) => true,
        });
        let is_after =
            |later: &Planned| matches!(later, Planned::Scheduled(other, _) if *other >= at);
        let index = plan.later.iter().position(is_after).unwrap_or(plan.later.len());
        plan.later.insert(index, Planned::Scheduled(at, to));
        self.apply(plan)
    }

    /// Returns the count at which the song is next at `beat`, if it gets there before its end.
    ///
    /// # Errors
    /// `too_late` if the song is past it, or stops or loops before it.
    fn reachable_count(&mut self, plan: &Plan, beat: i64) -> Result<i64, Reject> {
        self.keep_begun_song();
        let count = next_count_of(&plan.present, beat)?;
        let stop = self.timeline.end.map(|end| stop_after(end, &plan.meter));
        let stops = stop.is_some_and(|stop| (plan.present.b0 + 1..count).contains(&stop));
        if stops && plan.present.looped.is_none() {
            return Err(too_late("the song ends before it reaches this beat"));
        }
        Ok(count)
    }

    /// Returns the song beat at a time if the music follows a plan.
    fn beat_of_plan(&self, plan: &Plan, at: Micros) -> i64 {
        let mut there = Self { timeline: self.timeline.clone(), ..*self };
        match there.rebuild(plan.clone()) {
            Ok(()) => there.timeline.beat_at(at),
            Err(_) => plan.present.beat_of(plan.present.b0),
        }
    }

    /// Measures armed changes in song beats of the present pass instead of counts, because the loop
    /// changes. A change that was to take place in a later pass takes the next bar line; if it is a
    /// tempo, it is dropped.
    fn fold_armed(&self, plan: &mut Plan, old: Option<Loop>, folded: i64) {
        for later in &plan.later {
            let Planned::Armed(_, Armed { change: Change::Meter | Change::Tempo(_), meter, .. }) =
                later
            else {
                continue;
            };
            // A signature that waited for the next pass holds from the end of the loop on.
            if let (Some(old), Some(meter)) = (old, meter) {
                let signature = MeterChange::at(meter, old.from).signature;
                plan.meter = with_entry(&plan.meter, MeterChange { beat: old.to, signature });
            }
        }
        let present = &plan.present;
        let line =
            bar_line_after(present, &plan.meter, present.count_at(self.now + self.lead_time));
        plan.later.retain_mut(|later| {
            let Planned::Armed(_, armed) = later else { return true };
            if matches!(armed.change, Change::Tempo(_)) {
                armed.meter = None;
            }
            armed.cut -= folded;
            let is_later = old.is_some_and(|old| armed.cut > old.to);
            if is_later {
                armed.cut = line;
            }
            match armed.change {
                Change::Meter => false,
                Change::Tempo(_) => !is_later,
                Change::Jump | Change::Song { .. } | Change::End => true,
            }
        });
    }
}

/// Inserts an armed change in order of the places, before what is scheduled.
fn insert(plan: &mut Plan, segment: Segment, armed: Armed) {
    let is_after = |later: &Planned| match later {
        Planned::Armed(_, other) => other.cut > armed.cut,
        Planned::Scheduled(..) => true,
    };
    let index = plan.later.iter().position(is_after).unwrap_or(plan.later.len());
    plan.later.insert(index, Planned::Armed(segment, armed));
}

/// Returns the segment that begins a song.
fn song_segment(plan: &Plan, song: &SongStart, default_tempo: Tempo) -> Segment {
    let tempo = song.tempo.unwrap_or(default_tempo);
    Segment {
        p0: 0,
        b0: 0,
        playing: song.plays,
        bpm0: tempo,
        bpm1: tempo,
        ramp: 0,
        looped: None,
        start: None,
        ..plan.present.clone()
    }
}

/// Returns the meter of a song. A song without one has the newest signature.
fn meter_of_song(plan: &Plan, song: &SongStart) -> Vec<MeterChange> {
    let newest = plan.meter.last().copied().unwrap_or(MeterChange::COMMON);
    song.meter.clone().unwrap_or_else(|| vec![MeterChange { beat: 0, ..newest }])
}

/// Whether a bar of this signature begins at `beat` anyway.
fn begins_bar(meter: &[MeterChange], beat: i64, signature: TimeSignature) -> bool {
    MeterChange::at(meter, beat).signature == signature && Bar::at(meter, beat).in_bar == 0
}
