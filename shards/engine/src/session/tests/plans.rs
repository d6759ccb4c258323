//! Plans: the timelines that the server makes of commands, to the integer.

use serde_json::Value;

use super::*;
use crate::session::draft::{ChartEdit, Draft, Move, SongStart};
use crate::speech::Departure;
use crate::words::music::vectors::{self, list, meter, micros, tempo};

#[test]
fn the_shared_plans_hold() {
    assert_eq!(check(&vectors::of_songs()), 88);
}

#[test]
fn plans_of_times_beats_and_shifts_hold() {
    assert_eq!(check(&vectors::of_plans()), 16);
}

/// Checks all plans, and returns their number.
fn check(vectors: &Value) -> usize {
    let mut checked = 0;
    for case in list(&vectors["plans"]) {
        let (name, command) = (&case["name"], &case["command"]);
        let before = vectors::timeline(&case["before"]);
        let (now, lead) = (micros(&case["now"]), micros(&case["lead"]));
        let mut draft = Draft::new(&before, now, lead);
        carry_out(&mut draft, command).unwrap();
        let expected = vectors::timeline(&case["after"]);
        let found = Timeline {
            version: before.version + 1,
            made_at: now,
            // The beats of the count-in are for old clients, and the reference leaves them alone.
            count_in: expected.count_in,
            ..draft.timeline
        };
        assert_eq!(found, expected, "{name}: {command}");
        checked += 1;
    }
    checked
}

fn carry_out(draft: &mut Draft, command: &Value) -> Result<(), Reject> {
    let int = |name: &str| command[name].as_i64();
    let fade = Micros::from_micros(command["fade"].as_u64().unwrap_or(0));
    let departure = match command["line"].as_str() {
        Some("beat") => Departure::Beat,
        _ => int("atBeat").map_or(Departure::Bar, Departure::AtBeat),
    };
    let now = draft.now;
    let at = command.get("time").map_or(now, micros);
    match command["do"].as_str().unwrap() {
        "tempo" => match int("atBeat") {
            Some(beat) => draft.arm_tempo(tempo(&command["bpm"]), fade, beat, TempoEvent::Change),
            None => draft.set_tempo(tempo(&command["bpm"]), fade),
        },
        "jump" => match command["song"].as_str() {
            Some(song) => {
                let start = SongStart {
                    song: song.into(),
                    tempo: Some(tempo(&command["bpm"])),
                    meter: Some(meter(&command["meter"])),
                    end: int("end"),
                    plays: command["rate"] == 1,
                };
                draft.arm_song(start, departure)
            }
            None => draft.jump(int("beat").unwrap(), departure),
        },
        "cancel" => draft.cancel(),
        "loop" => draft.set_loop(int("from").zip(int("to"))),
        "nudge" => draft.nudge(int("beats").unwrap() * BEAT),
        "one" => draft.one(micros(&command["at"])),
        "pause" => draft.pause(now),
        "stop" => draft.stop(),
        "play" => {
            let bars = command["bars"].as_u64().unwrap_or(0);
            draft.play(at, bars as u32).map(|_| ())
        }
        "meter" => {
            let signature =
                TimeSignature::new(int("num").unwrap() as u64, int("den").unwrap() as u64);
            draft.set_signature(signature.unwrap())
        }
        "seek" => draft.seek(at, Move::Position(int("position").unwrap())),
        "seekBeat" => draft.seek(at, Move::Beat(int("beat").unwrap())),
        "shift" => {
            let edit = ChartEdit { shift: int("beats").unwrap() * BEAT, ..ChartEdit::default() };
            let on = draft.timeline.song.clone();
            draft.follow_charts(on.as_deref(), |_| edit.clone())
        }
        other => panic!("no such command: {other}"),
    }
}
