//! Edited charts: how the music follows them.

use super::*;
use crate::words::music::{Armed, Change, Loop};

/// Selects song `y` of two songs at 120 BPM with 4 beats a bar, which ends at beat 64, carries out
/// these lines and then the edit of a song. Returns the room, and the timeline before the edit.
fn edited(lines: &[&str], edit: &str) -> (Room, Timeline) {
    let mut room = Room::new(RULES);
    let mut said = String::new();
    for line in ["a joins", "a songs x:120:4:64 y:120:4:64", "a song y"].iter().chain(lines) {
        room.run(line, &mut said);
    }
    let before = room.session.state.timeline().clone();
    said.clear();
    room.run(&format!("a edits {edit}"), &mut said);
    assert!(said.contains("1 edits of a"), "{said}");
    (room, before)
}

/// Checks that at all times the song is as many beats farther than before.
fn check_moved(room: &Room, before: &Timeline, beats: i64) {
    let after = room.session.state.timeline();
    for millis in (0..30_000).step_by(50) {
        let at = room.now.at + Micros::from_millis(millis);
        assert_eq!(after.beat_at(at), before.beat_at(at) + beats * BEAT, "after {millis} ms");
    }
}

/// Checks that for some time the song is where it was before.
fn check_unmoved(room: &Room, before: &Timeline, millis: u64) {
    for millis in (0..millis).step_by(50) {
        let at = room.now.at + Micros::from_millis(millis);
        let after = room.session.state.timeline();
        assert_eq!(after.beat_at(at), before.beat_at(at), "after {millis} ms");
    }
}

fn armed(room: &Room, index: usize) -> &Armed {
    room.session.state.timeline().segments[index].armed.as_deref().unwrap()
}

#[test]
fn a_loop_and_an_armed_jump_move_with_the_place() {
    let lines = ["a play", "a loop from=2 to=10", "a seek beat=6 at_beat=9", "+2000"];
    let (room, before) = edited(&lines, "y:120:4:64=Y@1>8");
    check_moved(&room, &before, 8);
    let segments = &room.session.state.timeline().segments;
    let looped = Some(Loop { from: 10 * BEAT, to: 18 * BEAT, p: 5_000_000 });
    let present = &segments[0];
    assert_eq!((present.b0, present.p0, present.looped), (12 * BEAT, 6_000_000, looped));
    let jump = &segments[1];
    assert_eq!((jump.b0, jump.p0, jump.looped), (14 * BEAT, 7_000_000, looped));
    assert_eq!((jump.t0, armed(&room, 1).cut), (before.segments[1].t0, 17 * BEAT));
}

#[test]
fn the_passes_of_a_loop_go_on() {
    let lines = ["a play", "a loop from=0 to=3", "+2500"];
    let (room, before) = edited(&lines, "y:120:4:64=Y@1>4");
    check_moved(&room, &before, 4);
    let present = &room.session.state.timeline().segments[0];
    let looped = Some(Loop { from: 4 * BEAT, to: 7 * BEAT, p: 2_000_000 });
    assert_eq!((present.b0, present.looped), (9 * BEAT, looped));
}

#[test]
fn neither_the_place_nor_the_loop_moves_to_before_the_song() {
    let lines = ["a play", "+2000"];
    let (room, before) = edited(&lines, "y:120:4:64=Y@1>-100");
    check_moved(&room, &before, -4);
    let lines = ["a play", "a loop from=2 to=10", "+2000"];
    let (room, before) = edited(&lines, "y:120:4:64=Y@1>-100");
    check_moved(&room, &before, -2);
    assert_eq!(room.session.state.timeline().position_at(room.now.at), 1_000_000);
}

#[test]
fn a_jump_lands_in_the_song() {
    let lines = ["a play", "a seek beat=1 at_beat=12", "+2000"];
    let (room, _) = edited(&lines, "y:120:4:64=Y@1>-3");
    let jump = &room.session.state.timeline().segments[1];
    assert_eq!((jump.b0, armed(&room, 1).cut), (0, 9 * BEAT));
}

#[test]
fn a_count_in_leads_to_the_moved_place() {
    let lines = ["a play bars=2", "+2000"];
    let (room, before) = edited(&lines, "y:120:4:64=Y@1>8");
    check_moved(&room, &before, 8);
    let present = &room.session.state.timeline().segments[0];
    let place = (present.b0, present.start, present.p0);
    assert_eq!(place, (4 * BEAT, Some(8 * BEAT), 2_000_000));
}

#[test]
fn a_scheduled_start_leads_to_the_moved_place() {
    let lines = ["a play in=1000"];
    let (room, before) = edited(&lines, "y:120:4:64=Y@1>8");
    check_moved(&room, &before, 8);
    assert!(!room.session.state.timeline().is_playing_at(room.now.at));
}

#[test]
fn an_armed_tempo_moves_with_the_place() {
    let lines = ["a play", "a tempo 60 at_beat=8", "+2000"];
    let (room, before) = edited(&lines, "y:120:4:64=Y@1>2");
    check_moved(&room, &before, 2);
    assert_eq!(armed(&room, 1).cut, 10 * BEAT);
}

#[test]
fn a_changed_meter_and_end_hold_at_once() {
    let (room, before) = edited(&["a play", "+2000"], "y:120:3:32=Y@1");
    let timeline = room.session.state.timeline();
    check_unmoved(&room, &before, 14_000);
    assert_eq!(timeline.meter.len(), 1);
    assert_eq!(timeline.meter[0].signature.numerator, 3);
    assert_eq!((timeline.end, before.end), (Some(32 * BEAT), Some(64 * BEAT)));
    // One bar after the end.
    assert_eq!((armed(&room, 1).cut, &armed(&room, 1).change), (35 * BEAT, &Change::End));
    let (room, _) = edited(&["a play", "+2000"], "y:120:4=Y@1");
    let timeline = room.session.state.timeline();
    assert_eq!((timeline.end, timeline.segments.len()), (None, 1));
}

#[test]
fn a_signature_of_the_leader_stays_if_the_songs_meter_does() {
    let (room, before) = edited(&["a signature 5/4"], "y:120:4:64=Y@1");
    assert_eq!(room.session.state.timeline().meter, before.meter);
    assert_eq!(before.meter[0].signature.numerator, 5);
}

#[test]
fn an_edit_of_another_song_leaves_the_music_alone() {
    let lines = ["a play", "a loop from=2 to=10", "+2000"];
    let (room, before) = edited(&lines, "x:120:3:16=X@1>8");
    let after = room.session.state.timeline();
    assert_eq!(after.segments, before.segments);
    assert_eq!((&after.meter, after.end), (&before.meter, before.end));
}

#[test]
fn an_armed_song_begins_with_its_new_meter_and_end() {
    let lines = ["a play", "a song x play at_beat=8", "+2000"];
    let (room, before) = edited(&lines, "x:120:3:16=X@1>8");
    check_unmoved(&room, &before, 2_000);
    let armed = armed(&room, 1);
    assert_eq!(armed.cut, 8 * BEAT);
    assert_eq!(armed.change, Change::Song { id: "x".into(), end: Some(16 * BEAT) });
    assert_eq!(armed.meter.as_ref().unwrap()[0].signature.numerator, 3);
}

#[test]
fn a_signature_that_waits_for_the_next_pass_moves_with_the_loop() {
    let lines = ["a play", "a loop from=0 to=4", "+1000", "a signature 3/4"];
    let (room, before) = edited(&lines, "y:120:4:64=Y@1>4");
    check_moved(&room, &before, 4);
    let change = armed(&room, 1);
    assert_eq!((change.cut, &change.change), (8 * BEAT, &Change::Meter));
    let meter = change.meter.as_ref().unwrap();
    let entries: Vec<(i64, u8)> =
        meter.iter().map(|entry| (entry.beat / BEAT, entry.signature.numerator)).collect();
    assert_eq!(entries, [(0, 4), (4, 3)]);
}

#[test]
fn a_removed_song_is_armed_no_longer() {
    let lines = ["a play", "a song x play at_beat=8", "+2000"];
    let (room, _) = edited(&lines, "-x@1");
    let timeline = room.session.state.timeline();
    let songs = timeline.segments.iter().filter_map(|segment| segment.armed.as_deref());
    assert_eq!(songs.map(|armed| &armed.change).collect::<Vec<_>>(), [&Change::End]);
}

#[test]
fn a_signature_that_waits_counts_as_an_entry_of_the_meter() {
    let room = edited(&["a play", "a loop from=4 to=8", "+2500"], "y:120:4:64=Y@1").0;
    let mut timeline = room.session.state.timeline().clone();
    let entry = |at: usize| MeterChange { beat: 100 * at as i64 * BEAT, ..MeterChange::COMMON };
    timeline.meter = (0..Timeline::METER_MAX).map(entry).collect();
    let mut draft = Draft::new(&timeline, room.now.at, Micros::ZERO);
    let rejected = draft.set_signature(TimeSignature { numerator: 3, denominator: 4 });
    assert_eq!(rejected.unwrap_err().code, Code::NotAllowed);
}
