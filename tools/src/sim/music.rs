//! The model's music: the current position, and a list of wishes for later.
//!
//! The engine keeps a list of segments, and plans it again with every change. The model plans
//! nothing: a change for later stays a wish, and every question is answered by applying the wishes
//! from the start.

/// Micro-beats in a beat.
const BEAT: i128 = 1_000_000;

/// A piece of music that starts at `t`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Piece {
    pub t: i128,
    pub position: i128,
    pub beat: i128,
    pub playing: bool,
    /// Tempo at `t`, in thousandths of a BPM.
    pub from: i128,
    /// Tempo after the ramp.
    pub to: i128,
    pub ramp: i128,
    /// The beat at which the count-in ends, while it lasts.
    start: Option<i128>,
}

/// A change for later.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Start,
    Seek(i128),
}

/// Playback.
#[derive(Clone, Debug, PartialEq)]
pub struct Music {
    here: Piece,
    /// Changes for later, in the order of their times.
    wishes: Vec<(i128, Wish)>,
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
        };
        Self { here, wishes: Vec::new(), count_in: 0, meter: vec![(0, 4, 4)] }
    }

    /// Returns the music at an instant, with all wishes up to then applied.
    pub fn at(&self, t: u64) -> Piece {
        let mut piece = self.here;
        for (at, wish) in self.wishes.iter().filter(|(at, _)| *at <= i128::from(t)) {
            piece = come_true(go_on(piece, *at), *wish, self.count_in);
        }
        go_on(piece, t.into())
    }

    /// Returns the number of beats of the count-in.
    pub fn count_in(&self) -> i128 {
        self.count_in
    }

    /// Whether a wish is left at an instant.
    pub fn is_anything_planned(&self, t: u64) -> bool {
        self.wishes.iter().any(|(at, _)| *at > i128::from(t))
    }

    /// Returns the time of the next wish.
    pub fn next_wish(&self, t: u64) -> Option<u64> {
        self.wishes.iter().map(|(at, _)| *at).find(|at| *at > i128::from(t)).map(|at| at as u64)
    }

    /// Returns the time signature at an instant.
    pub fn signature(&self, t: u64) -> (u8, u8) {
        let (_, numerator, denominator) = self.bar(self.at(t).beat);
        (numerator, denominator)
    }

    /// Starts the music at `at`. Returns false if it plays already.
    pub fn play(&mut self, now: u64, at: u64, bars: u8, quantize: Option<bool>) -> bool {
        if self.at(now).playing {
            return false;
        }
        if let Some(bar) = quantize {
            let still = self.at(now);
            let into = if bar { self.bar(still.beat).0 } else { still.beat.rem_euclid(BEAT) };
            if into > 0 {
                let position = (still.position - length_of(into, still.from)).max(0);
                self.settle(Piece { position, beat: still.beat - into, ..still });
            }
        }
        // This replaces an earlier wish for a start, and all wishes after that.
        self.fold(now);
        if let Some(start) = self.wishes.iter().position(|(_, wish)| *wish == Wish::Start) {
            self.wishes.truncate(start);
        }
        self.count_in = i128::from(bars) * i128::from(self.signature(at).0);
        self.wish(now, at, Wish::Start);
        true
    }

    /// Pauses the music. Returns false if there is nothing to pause.
    pub fn pause(&mut self, now: u64) -> bool {
        let here = self.at(now);
        if !here.playing && !self.is_anything_planned(now) {
            return false;
        }
        // A count-in goes back to the place where the music was to start.
        let (position, beat) = here
            .start
            .map_or((here.position, here.beat), |start| (here.position + wait(here, start), start));
        let still = Piece { position, beat, playing: false, to: here.from, ramp: 0, ..here };
        self.settle(Piece { start: None, ..still });
        self.count_in = 0;
        true
    }

    /// Stops the music at its start.
    pub fn rewind(&mut self, now: u64) -> bool {
        let before = (self.at(now), self.is_anything_planned(now));
        self.pause(now);
        self.settle(Piece { position: 0, beat: 0, ..self.at(now) });
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
        let same = stays || come_true(here, Wish::Seek(to.into()), 0) == here;
        if same && (at <= now || !here.playing) && !self.is_anything_planned(now) {
            return false;
        }
        self.wish(now, at, Wish::Seek(to.into()));
        true
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
        true
    }

    /// Changes the signature from the next bar line on, or from this bar on if the music is paused,
    /// up to the next change. Returns false if a bar of this signature begins there anyway.
    pub fn signature_from_here(&mut self, now: u64, numerator: u8, denominator: u8) -> bool {
        let here = self.at(now);
        let (into, of, _) = self.bar(here.beat);
        let mut from = here.beat - into;
        if here.playing && into > 0 {
            from += i128::from(of) * BEAT;
            if let Some((next, ..)) = self.meter.iter().find(|(beat, ..)| *beat > here.beat) {
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

    /// Applies the wishes up to now, and continues from now, as every change does.
    pub fn fold(&mut self, now: u64) {
        let due = self.wishes.iter().take_while(|(at, _)| *at <= i128::from(now)).count();
        for (at, wish) in self.wishes.drain(..due) {
            self.here = come_true(go_on(self.here, at), wish, self.count_in);
        }
        self.here = go_on(self.here, now.into());
    }

    /// Moves the music in time, so that its state at `then` is that at `now`.
    pub fn move_clock(&mut self, then: u64, now: u64) {
        self.fold(then);
        let by = i128::from(now) - i128::from(then);
        self.here.t = now.into();
        self.wishes.iter_mut().for_each(|(at, _)| *at += by);
    }

    fn settle(&mut self, here: Piece) {
        self.here = here;
        self.wishes.clear();
    }

    /// Adds a wish. A wish for now is applied at once, and a newer wish replaces a jump.
    fn wish(&mut self, now: u64, at: u64, wish: Wish) {
        self.fold(now);
        if at <= now {
            self.here = come_true(self.here, wish, self.count_in);
            return;
        }
        let at = i128::from(at);
        self.wishes.retain(|(other, old)| *other != at || *old == Wish::Start);
        let index =
            self.wishes.iter().position(|(other, _)| *other >= at).unwrap_or(self.wishes.len());
        self.wishes.insert(index, (at, wish));
    }
}

/// Returns the same music as a piece that starts at a later instant.
fn go_on(piece: Piece, t: i128) -> Piece {
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
    Piece {
        t,
        position: piece.position + if piece.playing { passed } else { 0 },
        beat: piece.beat + beats,
        playing: piece.playing,
        from: tempo,
        to: if ramp == 0 { tempo } else { piece.to },
        ramp,
        start: piece.start.filter(|start| piece.beat + beats < *start),
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

fn come_true(piece: Piece, wish: Wish, count_in: i128) -> Piece {
    match wish {
        Wish::Start if piece.playing => piece,
        Wish::Start => {
            let beats = count_in * BEAT;
            let position = piece.position - length_of(beats, piece.from);
            let start = (beats > 0).then_some(piece.beat);
            Piece { position, beat: piece.beat - beats, playing: true, start, ..piece }
        }
        Wish::Seek(to) => {
            let mut beat = round(to * piece.from, 60_000);
            // What is left of a count-in is still to be counted.
            let place = piece.start.unwrap_or(piece.beat);
            let left = place - piece.beat;
            if piece.playing {
                // The click goes on, so the place moves by whole beats.
                beat = place + BEAT * round(beat - place, BEAT);
                beat += if beat < 0 { BEAT } else { 0 };
            }
            let position = to - length_of(left, piece.from);
            Piece { position, beat: beat - left, start: piece.start.map(|_| beat), ..piece }
        }
    }
}

/// Returns the duration of a number of micro-beats, in microseconds.
fn length_of(beats: i128, tempo: i128) -> i128 {
    round(60_000 * beats, tempo)
}

/// Divides and rounds to the nearest whole number, halves up.
fn round(dividend: i128, divisor: i128) -> i128 {
    (2 * dividend + divisor).div_euclid(2 * divisor)
}
