//! Reads the shared vectors: timelines in their form on the wire, and what they must give.

#![allow(clippy::unwrap_used)]
use serde_json::Value;

use super::*;
use crate::words::music::TimeSignature;

/// Returns the vectors of timelines without loops.
pub(crate) fn plain() -> Value {
    serde_json::from_str(include_str!("../../../../../../tests/vectors/timeline.json")).unwrap()
}

/// Returns the vectors of timelines with loops, and the plans.
pub(crate) fn of_songs() -> Value {
    serde_json::from_str(include_str!("../../../../../../tests/vectors/timeline-song.json"))
        .unwrap()
}

/// Returns the plans of starts and seeks at a time, of changes at a beat, and of edited charts.
pub(crate) fn of_plans() -> Value {
    serde_json::from_str(include_str!("../../../../../../tests/vectors/timeline-plans.json"))
        .unwrap()
}

/// Reads a timeline.
pub(crate) fn timeline(value: &Value) -> Timeline {
    Timeline {
        epoch: value["epoch"].as_u64().unwrap(),
        version: value["version"].as_u64().unwrap(),
        leader: None,
        song: value["song"].as_str().map(String::from),
        segments: list(&value["segments"]).iter().map(segment).collect(),
        meter: meter(&value["meter"]),
        end: value["end"].as_i64(),
        quantum: value["quantum"].as_i64().unwrap(),
        count_in: value["countIn"].as_u64().unwrap() as u32,
        made_at: micros(&value["madeAt"]),
    }
}

/// Reads a meter.
pub(crate) fn meter(value: &Value) -> Vec<MeterChange> {
    let entry = |entry: &Value| MeterChange {
        beat: entry["beat"].as_i64().unwrap(),
        signature: TimeSignature::new(
            entry["num"].as_u64().unwrap(),
            entry["den"].as_u64().unwrap(),
        )
        .unwrap(),
    };
    list(value).iter().map(entry).collect()
}

/// Reads a tempo in milli-BPM.
pub(crate) fn tempo(value: &Value) -> Tempo {
    Tempo::from_milli_bpm(value.as_u64().unwrap() as u32).unwrap()
}

/// Reads a time in microseconds.
pub(crate) fn micros(value: &Value) -> Micros {
    Micros::from_micros(value.as_u64().unwrap())
}

/// Returns the items of an array.
pub(crate) fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn segment(value: &Value) -> Segment {
    let looped = |looped: &Value| Loop {
        from: looped["from"].as_i64().unwrap(),
        to: looped["to"].as_i64().unwrap(),
        p: looped["p"].as_i64().unwrap(),
    };
    let armed = |change: &Value| Armed {
        cut: value["cut"].as_i64().unwrap(),
        change: match change.as_str().unwrap() {
            "jump" => Change::Jump,
            "song" => Change::Song {
                id: value["song"].as_str().unwrap().into(),
                end: value["end"].as_i64(),
            },
            "tempo" => Change::Tempo(TempoEvent::Change),
            "meter" => Change::Meter,
            "end" => Change::End,
            other => panic!("no such change: {other}"),
        },
        meter: value.get("meter").map(meter),
    };
    Segment {
        t0: micros(&value["t0"]),
        p0: value["p0"].as_i64().unwrap(),
        b0: value["b0"].as_i64().unwrap(),
        playing: value["rate"] == 1,
        bpm0: tempo(&value["bpm0"]),
        bpm1: tempo(&value["bpm1"]),
        ramp: value["ramp"].as_u64().unwrap(),
        looped: value.get("loop").map(looped),
        start: value["start"].as_i64(),
        armed: value.get("armed").map(|change| Box::new(armed(change))),
    }
}
