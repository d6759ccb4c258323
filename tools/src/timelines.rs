//! Timelines that JavaScript has evaluated, evaluated again by the engine.
//!
//! A case is a line of JSON in the form of `tests/vectors/timeline-song.json`. Its answers must be
//! those of the engine, to the integer: a device and the server that disagree by a microbeat show
//! different bars.

use std::fmt;
use std::io::BufRead;

use bandsync_engine::words::music::{
    Armed, Change, Loop, MeterChange, Place, Segment, Tempo, TempoEvent, TimeSignature, Timeline,
};
use bandsync_engine::words::time::Micros;
use serde::Deserialize;

/// The reason why a comparison ends.
#[derive(Debug)]
pub enum Failure {
    /// A line cannot be read.
    Line {
        /// Its number, from 1.
        line: usize,
        /// The fault of the line.
        error: String,
    },
    /// The engine gives another answer.
    Answer {
        /// The name of the timeline.
        name: String,
        /// The answer of JavaScript.
        theirs: String,
        /// The answer of the engine.
        ours: String,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { line, error } => write!(f, "line {line}: {error}"),
            Self::Answer { name, theirs, ours } => {
                write!(f, "timeline {name}: JavaScript says {theirs}, the engine says {ours}")
            }
        }
    }
}

/// Compares all cases, one a line. Returns the number of answers.
///
/// # Errors
/// The first line that cannot be read, or the first answer that differs.
pub fn compare(cases: impl BufRead) -> Result<u64, Failure> {
    let mut answers = 0;
    for (index, line) in cases.lines().enumerate() {
        let failed = |error: String| Failure::Line { line: index + 1, error };
        let line = line.map_err(|error| failed(error.to_string()))?;
        let case: Case = serde_json::from_str(&line).map_err(|error| failed(error.to_string()))?;
        let timeline = case.timeline.read().map_err(|error| failed(error.to_owned()))?;
        answers += case.check(&timeline)?;
    }
    Ok(answers)
}

/// A timeline with the answers of JavaScript.
#[derive(Deserialize)]
struct Case {
    name: String,
    timeline: WireTimeline,
    at: Vec<Point>,
    times: Vec<BeatTime>,
    clicks: Clicks,
}

/// The place at an instant.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Point {
    t: u64,
    segment: usize,
    count: i64,
    song: i64,
    pass: i64,
    position: i64,
    tempo: u32,
    playing: bool,
    bar: i64,
    in_bar: i64,
    num: u8,
    den: u8,
    count_in: bool,
}

/// The first time, not before `from`, of a song beat.
#[derive(Debug, Deserialize, PartialEq)]
struct BeatTime {
    beat: i64,
    from: u64,
    t: Option<u64>,
}

/// The beats that sound from one instant until before another.
#[derive(Debug, Deserialize, PartialEq)]
struct Clicks {
    since: u64,
    until: u64,
    beats: Vec<ClickTime>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct ClickTime {
    t: u64,
    song: i64,
    bar: i64,
    in_bar: i64,
}

impl Case {
    /// Compares the answers, and returns their number.
    fn check(&self, timeline: &Timeline) -> Result<u64, Failure> {
        for theirs in &self.at {
            self.same(theirs, &point(timeline, theirs.t))?;
        }
        for theirs in &self.times {
            let BeatTime { beat, from, .. } = *theirs;
            let t = timeline.time_of_beat(beat, Micros::from_micros(from));
            self.same(theirs, &BeatTime { beat, from, t: t.map(Micros::as_micros) })?;
        }
        let Clicks { since, until, .. } = self.clicks;
        let beats = clicks(timeline, since, until);
        self.same(&self.clicks, &Clicks { since, until, beats })?;
        Ok((self.at.len() + self.times.len() + self.clicks.beats.len()) as u64)
    }

    fn same<T: fmt::Debug + PartialEq>(&self, theirs: &T, ours: &T) -> Result<(), Failure> {
        if theirs == ours {
            return Ok(());
        }
        Err(Failure::Answer {
            name: self.name.clone(),
            theirs: format!("{theirs:?}"),
            ours: format!("{ours:?}"),
        })
    }
}

fn point(timeline: &Timeline, t: u64) -> Point {
    let at = Micros::from_micros(t);
    let Place { beat, bar, counts_in } = timeline.place_at(at);
    Point {
        t,
        segment: timeline.segment_index_at(at),
        count: timeline.count_at(at),
        song: beat,
        pass: timeline.pass_at(at),
        position: timeline.position_at(at),
        tempo: timeline.tempo_at(at).milli_bpm(),
        playing: timeline.is_playing_at(at),
        bar: bar.bar,
        in_bar: bar.in_bar,
        num: bar.signature.numerator,
        den: bar.signature.denominator,
        count_in: counts_in,
    }
}

fn clicks(timeline: &Timeline, since: u64, until: u64) -> Vec<ClickTime> {
    let mut found = Vec::new();
    let mut from = since;
    while let Some(click) = timeline.next_click(Micros::from_micros(from)) {
        let (t, place) = (click.at.as_micros(), click.place);
        if t >= until {
            break;
        }
        found.push(ClickTime { t, song: place.beat, bar: place.bar.bar, in_bar: place.bar.in_bar });
        from = t + 1;
    }
    found
}

/// A timeline as it is on the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireTimeline {
    epoch: u64,
    version: u64,
    segments: Vec<WireSegment>,
    meter: Vec<WireMeter>,
    quantum: i64,
    count_in: u32,
    made_at: u64,
}

#[derive(Deserialize)]
struct WireSegment {
    t0: u64,
    p0: i64,
    b0: i64,
    rate: u8,
    bpm0: u32,
    bpm1: u32,
    ramp: u64,
    #[serde(rename = "loop")]
    looped: Option<Loop>,
    start: Option<i64>,
    cut: Option<i64>,
    armed: Option<String>,
    song: Option<String>,
    end: Option<i64>,
    meter: Option<Vec<WireMeter>>,
}

#[derive(Deserialize)]
struct WireMeter {
    beat: i64,
    num: u64,
    den: u64,
}

impl WireTimeline {
    fn read(&self) -> Result<Timeline, &'static str> {
        if self.segments.is_empty() || self.segments.len() > Timeline::SEGMENTS_MAX {
            return Err("a timeline has 1 to 8 segments");
        }
        Ok(Timeline {
            epoch: self.epoch,
            version: self.version,
            leader: None,
            song: None,
            segments: self.segments.iter().map(WireSegment::read).collect::<Result<_, _>>()?,
            meter: meter(&self.meter)?,
            end: None,
            quantum: self.quantum,
            count_in: self.count_in,
            made_at: Micros::from_micros(self.made_at),
        })
    }
}

impl WireSegment {
    fn read(&self) -> Result<Segment, &'static str> {
        let tempo = |milli_bpm| Tempo::from_milli_bpm(milli_bpm).ok_or("a tempo is out of range");
        Ok(Segment {
            t0: Micros::from_micros(self.t0),
            p0: self.p0,
            b0: self.b0,
            playing: self.rate == 1,
            bpm0: tempo(self.bpm0)?,
            bpm1: tempo(self.bpm1)?,
            ramp: self.ramp,
            looped: self.looped,
            start: self.start,
            armed: self.armed()?.map(Box::new),
        })
    }

    fn armed(&self) -> Result<Option<Armed>, &'static str> {
        let (Some(cut), Some(armed)) = (self.cut, self.armed.as_deref()) else { return Ok(None) };
        let change = match armed {
            "jump" => Change::Jump,
            "song" => {
                let id = self.song.clone().ok_or("an armed song has no id")?;
                Change::Song { id, end: self.end }
            }
            "tempo" => Change::Tempo(TempoEvent::Change),
            "meter" => Change::Meter,
            "end" => Change::End,
            _ => return Err("an armed change has no known kind"),
        };
        Ok(Some(Armed { cut, change, meter: self.meter.as_deref().map(meter).transpose()? }))
    }
}

fn meter(entries: &[WireMeter]) -> Result<Vec<MeterChange>, &'static str> {
    let entry = |entry: &WireMeter| {
        let signature = TimeSignature::new(entry.num, entry.den).ok_or("no such signature")?;
        Ok(MeterChange { beat: entry.beat, signature })
    };
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One second into a timeline that plays at 60 BPM from 0.
    const CASE: &str = r#"{"name":"steady",
        "timeline":{"epoch":1,"version":1,"leader":null,"quantum":0,"countIn":0,"madeAt":0,
            "segments":[{"t0":0,"p0":0,"b0":0,"rate":1,"bpm0":60000,"bpm1":60000,"ramp":0}],
            "meter":[{"beat":0,"num":4,"den":4}]},
        "at":[{"t":1000000,"segment":0,"count":1000000,"song":1000000,"pass":0,"position":1000000,
            "tempo":60000,"playing":true,"bar":0,"inBar":1000000,"num":4,"den":4,"countIn":false}],
        "times":[{"beat":4000000,"from":0,"t":4000000}],
        "clicks":{"since":1,"until":1000001,"beats":[{"t":1000000,"song":1000000,"bar":0,"inBar":1000000}]}}"#;

    fn line(case: &str) -> String {
        case.replace('\n', " ")
    }

    #[test]
    fn equal_answers_are_counted() {
        let two = format!("{}\n{}\n", line(CASE), line(CASE));
        assert!(matches!(compare(two.as_bytes()), Ok(6)));
    }

    #[test]
    fn one_wrong_answer_of_any_kind_is_found() {
        let wrong = [
            (r#""count":1000000"#, r#""count":1000001"#),
            (r#""from":0,"t":4000000"#, r#""from":0,"t":null"#),
            (r#""until":1000001"#, r#""until":2000001"#),
        ];
        for (right, wrong) in wrong {
            let case = line(CASE).replace(right, wrong);
            let failure = compare(case.as_bytes()).expect_err(wrong);
            assert!(failure.to_string().contains("timeline steady: JavaScript says"), "{failure}");
        }
    }

    #[test]
    fn a_malformed_line_is_reported_by_its_number() {
        let malformed = [("\"rate\":1", "\"rate\":-1"), ("60000", "0"), ("\"num\":4", "\"num\":0")];
        for (right, wrong) in malformed {
            let cases = format!("{}\n{}\n", line(CASE), line(CASE).replace(right, wrong));
            let failure = compare(cases.as_bytes()).expect_err(wrong);
            assert!(failure.to_string().starts_with("line 2: "), "{failure}");
        }
    }
}
