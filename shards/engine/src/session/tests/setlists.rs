//! Set lists: revisions, edits by several members, conflicts, and rights.

use super::*;

/// The part of a script that gives `a` the lead and three songs, and what comes of it.
const SONGS: &str = "a joins
    b joins
    a songs x y z";
const SONGS_SAID: &str = "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
     b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
     a songs x y z: v2 | all <- 3 songs | all <- snapshot";

/// Runs a script after [`SONGS`].
#[track_caller]
fn check_edits(script: &str, expected: &str) {
    check(&format!("{SONGS}\n{script}"), &format!("{SONGS_SAID}\n{expected}"));
}

#[test]
fn any_member_asks_for_the_list() {
    check(
        "a joins
         a lists
         a reads
         a reads x
         a songs x y z
         b joins
         b lists
         c lists
         b reads z q x
         b reads",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a lists: r0 :
         a reads: r0  more
         a reads x: r0  more
         a songs x y z: v2 | all <- 3 songs | all <- snapshot
         b joins: Follower v2 | b <- snapshot | all <- joined b Follower 2 | stats
         b lists: r1 tonight: x@1 y@1 z@1
         c lists: NotMember!
         b reads z q x: r1 z@1 x@1 more
         b reads: r1 x@1 y@1 z@1 more",
    );
}

#[test]
fn all_songs_begin_with_the_selected_one() {
    check_edits(
        "a song y
         b reads",
        "a song y: v3 | all <- song 1 y | all <- snapshot
         b reads: r1 y@1 x@1 z@1 more",
    );
}

#[test]
fn an_answer_with_songs_ends_before_256_kib_but_has_one() {
    let mut list = setlist(&["a", "b", "c", "d"]);
    for (song, bytes) in list.songs_mut().zip([200_000, 60_000, 3_000, 300_000]) {
        song.body = "x".repeat(bytes);
    }
    let songs = songs::Songs { list: Some(&list), selected: None };
    let answer = |wanted: &[&str]| {
        let ids: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        super::answer(Ok(songs.songs(Some(&ids))))
    };
    assert_eq!(answer(&["a", "b", "c", "d"]), "r0 a@0 b@0 more c d");
    assert_eq!(answer(&["c", "d"]), "r0 c@0 more d");
    assert_eq!(answer(&["d", "c"]), "r0 d@0 more c");
    assert_eq!(answer(&[]), "r0  more ");
}

#[test]
fn songs_that_a_new_list_leaves_unchanged_keep_their_revision() {
    check_edits(
        "a songs x y z
         a songs z x:90 w
         b lists
         a songs z x:90
         b lists",
        "a songs x y z: v2 | only a <- 3 songs | only a <- snapshot
         a songs z x:90 w: v3 | all <- 3 songs | all <- snapshot
         b lists: r2 tonight: z@1 x@2 w@2
         a songs z x:90: v4 | all <- 2 songs | all <- snapshot
         b lists: r3 tonight: z@1 x@2",
    );
}

#[test]
fn operations_apply_in_order() {
    check_edits(
        r#"a edits +w +v<y
         b lists
         a edits x< z<v w<gone "late
         b lists
         a edits y=Y@1 -v@2
         b lists"#,
        r#"a edits +w +v<y: v3 r2 | all <- 2 edits of a from r1 to r2
         b lists: r2 tonight: x@1 v@2 y@1 z@1 w@2
         a edits x< z<v w<gone "late: v4 r3 | all <- 4 edits of a from r2 to r3
         b lists: r3 late: z@1 v@2 y@1 x@1 w@2
         a edits y=Y@1 -v@2: v5 r4 | all <- 2 edits of a from r3 to r4
         b lists: r4 late: z@1 y@4 x@1 w@2"#,
    );
}

#[test]
fn an_edit_begins_a_list() {
    check(
        r#"a joins
         a edits +x "tonight
         a lists"#,
        r#"a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         a edits +x "tonight: v2 r1 | all <- 2 edits of a from r0 to r1
         a lists: r1 tonight: x@1"#,
    );
}

#[test]
fn a_song_that_was_changed_or_removed_meanwhile_is_a_conflict() {
    check_edits(
        "a edits x=X@1 -y@1
         a edits x=Z@1
         a edits +w x=Z@1
         a edits -x@1
         a edits y=Y@1
         a edits -y@1
         a edits -q@0
         b lists
         a edits x=Z@2",
        "a edits x=X@1 -y@1: v3 r2 | all <- 2 edits of a from r1 to r2
         a edits x=Z@1: Conflict r2 x X!
         a edits +w x=Z@1: Conflict r2 x X!
         a edits -x@1: Conflict r2 x X!
         a edits y=Y@1: Conflict r2 y gone!
         a edits -y@1: Conflict r2 y gone!
         a edits -q@0: Conflict r2 q gone!
         b lists: r2 tonight: x@2 z@1
         a edits x=Z@2: v4 r3 | all <- 1 edits of a from r2 to r3",
    );
}

#[test]
fn moves_additions_and_titles_never_conflict() {
    check_edits(
        r#"a edits -x@1
         a edits x<y
         a edits y<x
         a edits +x<q
         a edits y<y
         b lists"#,
        r#"a edits -x@1: v3 r2 | all <- 1 edits of a from r1 to r2
         a edits x<y: v4 r3 | all <- 1 edits of a from r2 to r3
         a edits y<x: v5 r4 | all <- 1 edits of a from r3 to r4
         a edits +x<q: v6 r5 | all <- 1 edits of a from r4 to r5
         a edits y<y: v7 r6 | all <- 1 edits of a from r5 to r6
         b lists: r6 tonight: z@1 y@1 x@5"#,
    );
}

#[test]
fn a_song_may_be_changed_twice_in_one_edit() {
    check_edits(
        "a edits x=A@1 x=B@1
         a edits +w w=W@0 -w@0
         a edits -x@2 +x
         b lists",
        "a edits x=A@1 x=B@1: v3 r2 | all <- 2 edits of a from r1 to r2
         a edits +w w=W@0 -w@0: v4 r3 | all <- 3 edits of a from r2 to r3
         a edits -x@2 +x: v5 r4 | all <- 2 edits of a from r3 to r4
         b lists: r4 tonight: y@1 z@1 x@4",
    );
}

#[test]
fn the_id_of_another_song_cannot_be_added() {
    check_edits(
        "a edits +x
         a edits +w +w
         b lists",
        "a edits +x: InvalidPayload ops!
         a edits +w +w: InvalidPayload ops!
         b lists: r1 tonight: x@1 y@1 z@1",
    );
}

#[test]
fn the_song_that_plays_cannot_be_removed() {
    check_edits(
        "a song y
         a play
         a edits -x@1
         a edits -y@1
         a pause
         a edits -y@1
         a song +1",
        "a song y: v3 | all <- song 1 y | all <- snapshot
         a play: v4 | all <- play 0 120 at 0 | all <- snapshot
         a edits -x@1: v5 r2 | all <- 1 edits of a from r1 to r2 | all <- snapshot
         a edits -y@1: NotAllowed!
         a pause: v6 | all <- pause 0 | all <- snapshot
         a edits -y@1: v7 r3 | all <- 1 edits of a from r2 to r3 | all <- snapshot
         a song +1: v8 | all <- song 0 z | all <- snapshot",
    );
}

#[test]
fn an_edited_chart_moves_the_place_and_keeps_the_line_that_sounds() {
    check_edits(
        "a song y
         a play
         +2000
         a edits y=Y@1>8
         a edits x=X@1>8
         a at_beat 12
         a edits y=Y@2>-100
         a at_beat 0
         +500
         a pause
         a edits y=Y@4>2
         a play",
        "a song y: v3 | all <- song 1 y | all <- snapshot
         a play: v4 | all <- play 0 120 at 0 | all <- snapshot
         a edits y=Y@1>8: v5 r2 | all <- 1 edits of a from r1 to r2 | all <- snapshot
         a edits x=X@1>8: v6 r3 | all <- 1 edits of a from r2 to r3
         a at_beat 12: done | all <- beat off by 0
         a edits y=Y@2>-100: v7 r4 | all <- 1 edits of a from r3 to r4 | all <- snapshot
         a at_beat 0: done | all <- beat off by 0
         a pause: v8 | all <- pause 500 | all <- snapshot
         a edits y=Y@4>2: v9 r5 | all <- 1 edits of a from r4 to r5 | all <- snapshot
         a play: v10 | all <- play 1500 120 at 2500 | all <- snapshot",
    );
}

#[test]
fn an_edit_is_applied_once() {
    check_edits(
        "a edits x=X@1 id=1
         a edits x=X@1 id=1
         a edits x=X@1 id=2
         a edits x=X@2 id=2",
        "a edits x=X@1 id=1: v3 r2 | all <- 1 edits of a from r1 to r2
         a edits x=X@1 id=1: repeated { epoch: 1, version: 3 }
         a edits x=X@1 id=2: Conflict r2 x X!
         a edits x=X@2 id=2: v4 r3 | all <- 1 edits of a from r2 to r3",
    );
}

#[test]
fn members_edit_if_the_leader_allows_it() {
    check_edits(
        "b edits x<
         b lets b
         a lets b
         a lets b
         b edits x<
         a stops b
         b edits x<
         a settings edits=all
         b edits x<
         a settings edits=leader
         b edits x<
         a lets c
         c edits x<",
        "b edits x<: NotAllowed!
         b lets b: NotLeader!
         a lets b: v3 | all <- b edits true
         a lets b: v3 | only a <- b edits true
         b edits x<: v4 r2 | all <- 1 edits of b from r1 to r2
         a stops b: v5 | all <- b edits false
         b edits x<: NotAllowed!
         a settings edits=all: v6 | all <- settings
         b edits x<: v7 r3 | all <- 1 edits of b from r2 to r3
         a settings edits=leader: v8 | all <- settings
         b edits x<: NotAllowed!
         a lets c: InvalidPayload memberId!
         c edits x<: NotMember!",
    );
}

#[test]
fn a_right_comes_back_with_its_seat() {
    let mut room = Room::new(RULES);
    let mut said = String::new();
    for line in ["a joins", "b joins", "a lets b"] {
        room.run(line, &mut said);
    }
    let lost = room.session.seat_of(member("b")).unwrap();
    room.run("b lost", &mut said);
    assert!(room.session.restore(room.now, lost, &mut Vec::new()));
    room.run("b edits +x", &mut said);
    assert!(said.ends_with("b edits +x: v3 r1 | all <- 1 edits of b from r0 to r1\n"), "{said}");
}

#[test]
fn the_size_of_an_edited_list_is_bounded() {
    let ids: Vec<String> = (0..499).map(|id| format!("s{id}")).collect();
    let mut room = Room::new(RULES);
    let mut said = String::new();
    for line in ["a joins", &format!("a songs {}", ids.join(" ")), "a edits +x", "a edits +y"] {
        room.run(line, &mut said);
    }
    assert!(said.ends_with("a edits +y: TooLarge ops!\n"), "{said}");
    room.run("a edits -s7@1 +y", &mut said);
    assert!(said.contains("a edits -s7@1 +y: v4 r3"), "{said}");

    let mut list = setlist(&["x"]);
    list.songs_mut().for_each(|song| song.body = "x".repeat(Setlist::TEXT_BYTES_MAX - 9));
    let add = |title: &str| {
        let mut draft = songs_draft::SongsDraft::new(Some(&list), None);
        draft.apply(0, &mut Operation::Retitle { title: title.into() }).unwrap();
        draft.finish()
    };
    assert_eq!(add("tonight").unwrap().text_bytes(), Setlist::TEXT_BYTES_MAX);
    let excess = add("tonight!").unwrap_err().excess.unwrap();
    assert_eq!((excess.bytes, excess.max), (1_048_577, 1_048_576));
}

#[test]
fn revisions_and_rights_survive_in_the_record() {
    let mut room = Room::new(RULES);
    let mut said = String::new();
    let lines = ["a joins", "a songs x y", "a edits y=Y@1", "a lets a", "a settings edits=all"];
    lines.iter().for_each(|line| room.run(line, &mut said));
    let record = room.session.record();
    let mut bytes = Vec::new();
    record.print(&mut bytes);
    let read = Record::parse(&bytes).unwrap();
    assert_eq!(read, record);
    let opened = Session::from_record(read, &Arc::new(RULES), room.now, 9);
    room.session = opened;
    for (line, expected) in [
        ("a joins", "Leader"),
        ("a lists", "r2 tonight: x@1 y@2"),
        ("a edits y=Z@1", "Conflict r2 y Y!"),
    ] {
        let mut said = String::new();
        room.run(line, &mut said);
        assert!(said.contains(expected), "{said}");
    }
    assert!(room.session.snapshot(room.now).settings.anyone_may_edit);
    assert!(room.session.members().all(|member| member.may_edit));
}
