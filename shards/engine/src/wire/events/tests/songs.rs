//! Songs, set lists and their edits.

use super::*;

#[test]
fn a_song_is_chosen_by_id_or_by_step() {
    let choose = |fields: &str| match command(
        ClientEvent::SelectSong,
        &format!(r#"{{"sessionId":"stage"{fields}}}"#),
    ) {
        Ok(Command::Session(_, _, SessionCommand::SelectSong(selection))) => Ok(selection.choice),
        Err(reject) => Err((reject.field.unwrap(), reject.message.into_owned())),
        other => panic!("{other:?}"),
    };
    assert_eq!(choose(r#","songId":"s1""#), Ok(SongChoice::Id("s1".into())));
    assert_eq!(choose(r#","step":1"#), Ok(SongChoice::Step(true)));
    assert_eq!(choose(r#","step":-1.0,"songId":null"#), Ok(SongChoice::Step(false)));
    let wrong = |field, message: &str| Err((field, message.to_owned()));
    assert_eq!(choose(""), wrong("songId", "songId is required, or step instead of it"));
    assert_eq!(
        choose(r#","songId":"s1","step":1"#),
        wrong("step", "step must be left out where songId says which song")
    );
    for step in ["0", "2", "\"1\"", "true", "[]", "{}"] {
        assert_eq!(
            choose(&format!(r#","step":{step}"#)),
            wrong("step", "step must be 1 for the next song or -1 for the one before")
        );
    }
    check(
        ClientEvent::SelectSong,
        r#"{"sessionId":"stage","songId":"s1","play":true,"at":"beat"}"#,
        SessionCommand::SelectSong(SongSelection {
            choice: SongChoice::Id("s1".into()),
            plays: true,
            departure: Some(Departure::Beat),
        }),
    );
    check(
        ClientEvent::GetSong,
        r#"{"sessionId":"stage","songId":" s1 "}"#,
        SessionCommand::GetSong("s1".into()),
    );
    takes(ClientEvent::GetSong, "songId", &[&text_of(64)]);
    rejects(
        ClientEvent::GetSong,
        "songId",
        &["\"\"", &text_of(65)],
        "songId must be a text of 1 to 64 characters",
    );
}

#[test]
fn a_song_has_bars_and_an_end() {
    let song = |more: &str| {
        read_setlist(&format!(
            r#"{{"title":"","songs":[{{"id":"a","title":"b","format":"text","body":""{more}}}]}}"#
        ))
    };
    let read =
        song(r#","meter":[{"beat":0,"num":3,"den":4},{"beat":6,"num":6,"den":8}],"endBeat":64.5"#)
            .unwrap();
    let entry = |beat, numerator, denominator| MeterChange {
        beat,
        signature: TimeSignature { numerator, denominator },
    };
    assert_eq!(read.songs[0].meter, [entry(0, 3, 4), entry(6_000_000, 6, 8)]);
    assert_eq!(read.songs[0].end, Some(64_500_000));
    for (more, message) in [
        (r#","meter":{}"#, "setlist.songs[0].meter must be an array of time signatures"),
        (r#","meter":[{"beat":0.5,"num":3,"den":4}]"#, "meter[0].beat must be a whole number"),
        (r#","meter":[{"beat":0,"num":33,"den":4}]"#, "meter[0].num must be a whole number"),
        (
            r#","meter":[{"beat":4,"num":3,"den":4},{"beat":4,"num":3,"den":4}]"#,
            "meter must be in order of its beats",
        ),
        (r#","endBeat":-1"#, "endBeat must be a number of beats"),
    ] {
        let reject = song(more).unwrap_err();
        assert_eq!(reject.field, Some("setlist"));
        assert!(reject.message.contains(message), "{more}: {}", reject.message);
    }
    let entries: Vec<String> =
        (0..65).map(|beat| format!(r#"{{"beat":{beat},"num":1,"den":4}}"#)).collect();
    let reject = song(&format!(r#","meter":[{}]"#, entries.join(","))).unwrap_err();
    assert_eq!(reject.code, Code::NotAllowed, "{}", reject.message);
}

fn read_setlist(setlist: &str) -> Result<Setlist, Reject> {
    let payload = format!(r#"{{"sessionId":"stage","setlist":{setlist}}}"#);
    match command(ClientEvent::SetSetlist, &payload)? {
        Command::Session(_, _, SessionCommand::SetSetlist(setlist)) => Ok(setlist),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_set_list_is_read_with_all_fields() {
    let read = read_setlist(
        r#"{"title":" Friday ","songs":[
            {"id":"s1","title":"Harbour","artist":"Us","key":"Em","tempoBpm":96.5,"timeSignature":{"numerator":6,"denominator":8},"format":"chordpro","body":"  [Em]One\r\n\ttwo\u0000\n","durationMs":180000.5},
            {"id":"s2","title":"Jam","artist":"","format":"text","body":"","extra":1}]}"#,
    );
    let full = Song {
        id: "s1".into(),
        title: "Harbour".into(),
        artist: Some("Us".into()),
        key: Some("Em".into()),
        tempo: Some(tempo_of(96_500)),
        time_signature: Some(TimeSignature { numerator: 6, denominator: 8 }),
        format: SongFormat::ChordPro,
        body: "  [Em]One\n\ttwo\n".into(),
        duration: Some(position_of(180_000_500)),
        meter: Vec::new(),
        end: None,
        revision: 0,
    };
    let bare = Song {
        id: "s2".into(),
        title: "Jam".into(),
        artist: None,
        key: None,
        tempo: None,
        time_signature: None,
        format: SongFormat::Text,
        body: String::new(),
        duration: None,
        meter: Vec::new(),
        end: None,
        revision: 0,
    };
    let songs = [full, bare].map(Arc::new).into();
    assert_eq!(read, Ok(Setlist { title: "Friday".into(), songs, revision: 0 }));
    assert_eq!(read_setlist(r#"{"title":"","songs":[]}"#), Ok(Setlist::default()));
}

/// The rejection of a set list whose second song has this field.
fn rejected_song(field: &str, json: &str) -> Option<String> {
    let song = format!(r#"{{"id":"s2","title":"Jam","format":"text","body":"","{field}":{json}}}"#);
    let first = r#"{"id":"s1","title":"Harbour","format":"text","body":""}"#;
    let reject = read_setlist(&format!(r#"{{"title":"","songs":[{first},{song}]}}"#)).err()?;
    assert_eq!((reject.code, reject.field), (Code::InvalidPayload, Some("setlist")));
    Some(reject.message.into_owned())
}

#[test]
fn the_fields_of_a_song_are_bounded() {
    for (field, good) in [
        ("id", text_of(64)),
        ("title", text_of(200)),
        ("artist", text_of(200)),
        ("key", text_of(16)),
        ("tempoBpm", "400".into()),
        ("timeSignature", r#"{"numerator":32,"denominator":32}"#.into()),
        ("format", "\"chordpro\"".into()),
        ("body", text_of(32_768)),
        ("durationMs", "86400000".into()),
    ] {
        assert_eq!(rejected_song(field, &good), None, "{field}: {good:.80}");
    }
    for (field, bad, message) in [
        ("id", text_of(65), ".id must be a text of 1 to 64 characters"),
        ("id", "\"\"".into(), ".id must be a text of 1 to 64 characters"),
        ("id", "\"s1\"".into(), ".id must be unlike those of the songs before it"),
        ("title", text_of(201), ".title must be a text of 1 to 200 characters"),
        ("title", "null".into(), ".title must be a text of 1 to 200 characters"),
        ("artist", text_of(201), ".artist must be a text of 0 to 200 characters"),
        ("key", text_of(17), ".key must be a text of 0 to 16 characters"),
        ("tempoBpm", "\"96\"".into(), ".tempoBpm must be a number from 1 to 400 BPM"),
        (
            "timeSignature",
            "\"6/8\"".into(),
            ".timeSignature must be an object with numerator and denominator",
        ),
        (
            "timeSignature",
            "{}".into(),
            ".timeSignature.numerator must be a whole number from 1 to 32",
        ),
        (
            "timeSignature",
            r#"{"numerator":6,"denominator":7}"#.into(),
            ".timeSignature.denominator must be 1, 2, 4, 8, 16 or 32",
        ),
        ("format", "\"pdf\"".into(), ".format must be \"chordpro\" or \"text\""),
        ("body", "null".into(), ".body must be a text"),
        (
            "durationMs",
            "-1".into(),
            ".durationMs must be a number from 0 to 86400000 ms, which is 24 hours",
        ),
    ] {
        assert_eq!(
            rejected_song(field, &bad),
            Some(format!("setlist.songs[1]{message}")),
            "{bad:.80}"
        );
    }
}

#[test]
fn the_size_of_a_set_list_is_bounded() {
    let songs = |count: usize| {
        let song = |n| format!(r#"{{"id":"s{n}","title":"Jam","format":"text","body":""}}"#);
        let songs: Vec<String> = (0..count).map(song).collect();
        format!(r#"{{"title":"","songs":[{}]}}"#, songs.join(","))
    };
    assert_eq!(read_setlist(&songs(500)).unwrap().songs.len(), 500);
    let filled = |bytes: usize| {
        let frame = r#"{"title":"","songs":[],"filling":""}"#;
        frame.replace(r#"g":"""#, &format!(r#"g":"{}""#, "x".repeat(bytes - frame.len())))
    };
    assert!(read_setlist(&filled(1_048_576)).is_ok());
    for (bad, code, message) in [
        (songs(501), Code::TooLarge, "setlist must have at most 500 songs"),
        (filled(1_048_577), Code::TooLarge, "setlist must be at most 1048576 bytes in all"),
        ("{}".into(), Code::InvalidPayload, "setlist.title must be a text of 0 to 200 characters"),
        (
            format!(r#"{{"title":{},"songs":[]}}"#, text_of(201)),
            Code::InvalidPayload,
            "setlist.title must be a text of 0 to 200 characters",
        ),
        (r#"{"title":""}"#.into(), Code::InvalidPayload, "setlist.songs must be an array of songs"),
        (
            r#"{"title":"","songs":{}}"#.into(),
            Code::InvalidPayload,
            "setlist.songs must be an array of songs",
        ),
        (
            r#"{"title":"","songs":[7]}"#.into(),
            Code::InvalidPayload,
            "setlist.songs[0] must be an object",
        ),
        ("[]".into(), Code::InvalidPayload, "setlist must be an object with title and songs"),
    ] {
        let reject = read_setlist(&bad).unwrap_err();
        assert_eq!((reject.code, reject.field, &*reject.message), (code, Some("setlist"), message));
    }
    let (bytes, max) = (1_048_577, 1_048_576);
    assert_eq!(read_setlist(&filled(bytes)).unwrap_err().excess, Some(Excess { bytes, max }));
    let long = format!(
        r#"{{"title":"","songs":[{{"id":"s","title":"Jam","format":"text","body":{}}}]}}"#,
        text_of(32_769)
    );
    let reject = read_setlist(&long).unwrap_err();
    let message = "setlist.songs[0].body must be at most 65536 bytes";
    assert_eq!((reject.code, &*reject.message), (Code::TooLarge, message));
    assert_eq!(reject.excess, Some(Excess { bytes: 65_538, max: 65_536 }));
}

fn read_operations(operations: &str) -> Result<Vec<Operation>, Reject> {
    let payload = format!(r#"{{"sessionId":"stage","ops":{operations}}}"#);
    match command(ClientEvent::EditSetlist, &payload)? {
        Command::Session(_, _, SessionCommand::EditSetlist(operations)) => Ok(operations),
        other => panic!("{other:?}"),
    }
}

const JAM: &str = r#"{"id":"s2","title":"Jam","format":"text","body":"la"}"#;

#[test]
fn operations_are_read_with_their_fields() {
    let read = read_operations(&format!(
        r#"[{{"op":"add","song":{JAM},"before":"s1"}},{{"op":"add","song":{JAM},"before":null}},
            {{"op":"replace","song":{JAM},"was":3,"shift":-4096}},{{"op":"replace","song":{JAM},"was":0}},
            {{"op":"move","songId":"s1","before":"s2","was":"not read"}},{{"op":"move","songId":"s1"}},
            {{"op":"remove","songId":"s1","was":7}},{{"op":"retitle","title":" Friday "}},{{"op":"retitle","title":""}}]"#
    ));
    let list = read_setlist(&format!(r#"{{"title":"","songs":[{JAM}]}}"#)).unwrap();
    let song = || Arc::clone(&list.songs[0]);
    let expected = vec![
        Operation::Add { song: song(), before: Some("s1".into()) },
        Operation::Add { song: song(), before: None },
        Operation::Replace { song: song(), was: 3, shift: -4096 },
        Operation::Replace { song: song(), was: 0, shift: 0 },
        Operation::Move { id: "s1".into(), before: Some("s2".into()) },
        Operation::Move { id: "s1".into(), before: None },
        Operation::Remove { id: "s1".into(), was: 7 },
        Operation::Retitle { title: "Friday".into() },
        Operation::Retitle { title: String::new() },
    ];
    assert_eq!(read, Ok(expected));
}

#[test]
fn the_fields_of_operations_are_bounded() {
    let many = |count| format!("[{}]", vec![r#"{"op":"retitle","title":""}"#; count].join(","));
    assert_eq!(read_operations(&many(100)).map(|operations| operations.len()), Ok(100));
    let count = "ops must be an array of 1 to 100 operations";
    let jam_with = |field: &str| format!(r#"{},{field}}}"#, JAM.strip_suffix('}').unwrap());
    let second = |operation: &str| format!(r#"[{{"op":"retitle","title":""}},{operation}]"#);
    for (bad, message) in [
        (many(0), count),
        (many(101), count),
        ("{}".into(), count),
        (second("7"), "ops[1] must be an object"),
        (
            second(r#"{"op":"sort"}"#),
            r#"ops[1].op must be "add" or "replace" or "move" or "remove" or "retitle""#,
        ),
        (
            second(r#"{"op":"add","song":[]}"#),
            "ops[1].song must be an object with the fields of a song",
        ),
        (
            second(&format!(r#"{{"op":"add","song":{}}}"#, jam_with(r#""title":"""#))),
            "ops[1].song.title must be a text of 1 to 200 characters",
        ),
        (
            second(&format!(r#"{{"op":"add","song":{JAM},"before":7}}"#)),
            "ops[1].before must be a text of 1 to 64 characters",
        ),
        (
            second(&format!(r#"{{"op":"replace","song":{JAM}}}"#)),
            "ops[1].was must be a whole number from 0 on",
        ),
        (
            second(&format!(r#"{{"op":"replace","song":{JAM},"was":1,"shift":4097}}"#)),
            "ops[1].shift must be a whole number of beats from -4096 to 4096",
        ),
        (
            second(&format!(r#"{{"op":"replace","song":{JAM},"was":1,"shift":0.5}}"#)),
            "ops[1].shift must be a whole number of beats from -4096 to 4096",
        ),
        (second(r#"{"op":"move"}"#), "ops[1].songId must be a text of 1 to 64 characters"),
        (
            second(r#"{"op":"remove","songId":"s1","was":-1}"#),
            "ops[1].was must be a whole number from 0 on",
        ),
        (
            second(&format!(r#"{{"op":"retitle","title":{}}}"#, text_of(201))),
            "ops[1].title must be a text of 0 to 200 characters",
        ),
    ] {
        let reject = read_operations(&bad).unwrap_err();
        assert_eq!(reject, Reject::field("ops", message.to_owned()), "{bad:.80}");
    }
    let long = format!(r#""body":{}"#, text_of(32_769));
    let add = format!(r#"[{{"op":"add","song":{}}}]"#, jam_with(&long));
    let reject = read_operations(&add).unwrap_err();
    assert_eq!((reject.code, reject.field), (Code::TooLarge, Some("ops")));
    assert_eq!(reject.excess, Some(Excess { bytes: 65_538, max: 65_536 }));
}

#[test]
fn songs_are_requested_by_their_ids() {
    for (fields, ids) in [
        ("", None),
        (r#","songIds":null"#, None),
        (r#","songIds":[]"#, Some(vec![])),
        (r#","songIds":["s2","s1"]"#, Some(vec!["s2".to_owned(), "s1".to_owned()])),
    ] {
        check(
            ClientEvent::GetSongs,
            &format!(r#"{{"sessionId":"stage"{fields}}}"#),
            SessionCommand::GetSongs(ids),
        );
    }
    let ids = |count| format!("[{}]", vec!["\"s\""; count].join(","));
    takes(ClientEvent::GetSongs, "songIds", &[&ids(500)]);
    let message = "songIds must be an array of at most 500 ids of songs";
    rejects(ClientEvent::GetSongs, "songIds", &[&ids(501), "{}", "\"s1\""], message);
    let message = "songIds[1] must be a text of 1 to 64 characters";
    rejects(ClientEvent::GetSongs, "songIds", &[r#"["s1",7]"#, r#"["s1",""]"#], message);
}
