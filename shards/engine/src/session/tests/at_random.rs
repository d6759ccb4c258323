//! Members who say anything at any time, and what must hold all the same.

use proptest::prelude::*;

use super::*;

/// A line of a script: what a member does, or time that passes.
fn line() -> impl Strategy<Value = String> {
    let fixed = [
        "joins",
        "joins",
        "joins leader",
        "joins follower",
        "joins metronome",
        "joins leader pin=7",
        "joins leader pin=8 passcode=x",
        "joins passcode=x",
        "joins token=t",
        "joins token=u",
        "joins leader token=t new=u",
        "joins follower token=u new=t",
        "leaves",
        "quits",
        "lost",
        "lost",
        "leader",
        "leader",
        "follower",
        "asks",
        "asks",
        "play",
        "play",
        "play",
        "play bar",
        "play beat",
        "pause",
        "stop",
        "sync",
        "sync 0 version=3",
        "message m",
        "message n",
        "says hello",
        "cue now",
        "signature 3/4",
        "signature 4/4",
        "signature 7/8",
        "at_beat 17.5",
        "at 60000",
        "songs x:90 y:140:3 z",
        "songs x:90:4:16 y:140:3:7 z",
        "song y play at=bar",
        "song x play",
        "loop",
        "cancel",
        "pause ago=300",
        "songs y",
        "song +1",
        "song -1",
        "song y",
        "gets x",
        "lists",
        "reads",
        "edits +x",
        "edits +v<y",
        "edits -x@1",
        "edits x<",
        "edits y=Y@1>3",
        "edits x=X@2>-3",
        "lets b",
        "stops b",
        "settings edits=all",
        "settings max=2",
        "settings max=9",
        "settings rule=ask",
        "settings rule=open",
        "settings rule=pin",
        "settings rule=pin pin=7",
        "settings pin=none",
        "settings passcode=x",
        "settings passcode=none",
        "settings loss=pause",
        "settings cues=all",
    ];
    let letter = || prop::sample::select(vec!["a", "b", "c", "d", "e"]);
    let doing = prop_oneof![
        4 => prop::sample::select(fixed.to_vec()).prop_map(String::from),
        1 => (0..40_000_u32, 0..9_u8).prop_map(|(ms, bars)| format!("play in={ms} bars={bars}")),
        1 => (0..90_000_u32).prop_map(|to| format!("seek {to}")),
        1 => (0..90_000_u32, 0..20_000_u32).prop_map(|(to, ms)| format!("seek {to} in={ms}")),
        1 => (20..=400_u32).prop_map(|bpm| format!("set_tempo {bpm}")),
        1 => (20..=400_u32, 0..9_000_u32).prop_map(|(bpm, ms)| format!("tempo {bpm} fade={ms}")),
        1 => (0..90_u32).prop_map(|beat| format!("seek beat={beat} at=bar")),
        1 => (0..90_u32, 0..90_u32).prop_map(|(to, from)| format!("seek beat={to} at_beat={from}")),
        1 => (0..60_u32, 1..20_u32)
            .prop_map(|(from, beats)| format!("loop from={from} to={}", from + beats)),
        1 => (20..=400_u32, 0..90_u32)
            .prop_map(|(bpm, beat)| format!("tempo {bpm} fade=2000 at_beat={beat}")),
        1 => (-8..=8_i32).prop_filter("0 is refused", |beats| *beats != 0)
            .prop_map(|beats| format!("nudge {beats}")),
        1 => (0..2_500_u32).prop_map(|ms| format!("one ago={ms}")),
        1 => letter().prop_map(|other| format!("leader {other}")),
        1 => letter().prop_map(|other| format!("approves {other}")),
        1 => letter().prop_map(|other| format!("denies {other}")),
    ];
    prop_oneof![
        8 => (letter(), doing).prop_map(|(who, what)| format!("{who} {what}")),
        1 => (0..3_000_u32).prop_map(|ms| format!("+{ms}")),
        1 => (0..20_000_u32).prop_map(|ms| format!("+{ms}")),
    ]
}

/// A record without what passes by itself.
fn decided(session: &Session) -> Record {
    let mut record = session.record();
    (record.last_active_at, record.last_active_unix) = (Micros::ZERO, UnixMillis(0));
    record
}

fn step(room: &mut Room, line: &str) -> String {
    let before = decided(&room.session);
    let (checksum, leader, now) =
        (room.session.checksum(), room.session.state.leader(), room.now.at);
    let mut said = String::new();
    room.run(line, &mut said);
    let after = decided(&room.session);
    let raised = after.timeline.version - before.timeline.version;
    let refused = said.contains("!");
    if refused {
        assert_eq!(before, after, "{line} was refused");
        assert_eq!(said.lines().count(), 1);
        assert!(!said.contains("<-"), "a refusal tells nobody: {said}");
    }
    assert_eq!(raised == 0, checksum == room.session.checksum(), "{line}");
    if let Some((who, what)) = line.split_once(' ') {
        assert!(raised <= 1, "{line} raised the version by {raised}");
        let presence =
            ["joins", "leaves", "quits", "lost"].iter().any(|word| what.starts_with(word));
        if raised == 0 && !presence {
            assert_eq!(before, after, "{line} changed something without a version");
        }
        let may_move = leader == Some(member(who)) || presence || what.starts_with("edits");
        assert!(
            may_move || before.timeline.segments == after.timeline.segments,
            "{line} moved the transport"
        );
    } else if raised == 0 {
        assert_eq!(before, after, "time changed something without a version");
        let (from, to) = (&before.timeline, room.now.at);
        assert!(
            !from.is_playing_at(now)
                || from.segment_index_at(to) > from.segment_index_at(now)
                || from.count_at(to) >= from.count_at(now),
            "{line}: the beat went back"
        );
    }
    said
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_sequence_of_commands_keeps_the_session_consistent(lines in prop::collection::vec(line(), 1..120)) {
        let (mut room, mut again) = (Room::new(RULES), Room::new(RULES));
        for line in &lines {
            prop_assert_eq!(step(&mut room, line), step(&mut again, line), "not the same twice");
        }
    }

    #[test]
    fn a_stored_session_continues_playing(lines in prop::collection::vec(line(), 1..60), away in 0..5_000_u64) {
        let mut room = Room::new(RULES);
        let mut said = String::new();
        lines.iter().for_each(|line| room.run(line, &mut said));
        room.run("+0", &mut said);
        let record = room.session.record();
        let (then, timeline) = (room.now.at, record.timeline.clone());

        let idle = room.now.at.since(record.last_active_at);
        let elsewhere = Moment {
            at: Micros::from_secs(5),
            unix: UnixMillis(record.last_active_unix.0 + (idle.as_millis() + away) as i64),
        };
        let opened = Session::from_record(record, &Arc::new(RULES), elsewhere, 9);
        opened.check_invariants();
        prop_assert!(opened.is_empty());
        for later in [0, 700, 9_000, 40_000].map(Micros::from_millis) {
            let here = then + Micros::from_millis(away) + later;
            let there = elsewhere.at + later;
            prop_assert_eq!(opened.is_playing(there), timeline.is_playing_at(here));
            let (was, is) = (timeline.position_at(here), opened.record().timeline.position_at(there));
            // What is armed may begin at another microsecond, as the tempo of a fade is rounded.
            prop_assert!((was - is).abs() < 1_000, "at {} instead of {}", is, was);
            // The tempo in the middle of a fade is rounded where the record takes over.
            let beats = timeline.beat_at(here) - opened.record().timeline.beat_at(there);
            prop_assert!(beats.abs() < 100, "{} microbeats off", beats);
        }
    }
}
