//! The message to all members, and the automatic message of the lead.

use super::*;

/// Plays a script and shows the message after each line, with the version.
#[track_caller]
fn check_message(script: &str) {
    let mut room = Room::new(RULES);
    let mut said = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (line, expected) = line.split_once(" => ").unwrap();
        room.run(line, &mut said);
        let snapshot = room.session.snapshot(room.now);
        let shown = format!("v{} {}", room.session.version(), snapshot.message);
        assert_eq!(shown, expected, "after {line}");
    }
}

#[test]
fn the_automatic_message_names_the_leader_without_a_version_of_its_own() {
    let room = Room::new(RULES);
    assert_eq!(room.session.snapshot(room.now).message, "Waiting for members…");
    check_message(
        "a joins name=Ann => v1 Ann is leading
         b joins name=Ben => v1 Ann is leading
         b leader => v2 Leader connected
         b leader => v2 Leader connected
         b leader a => v3 Ann is now leading
         a leader => v4 Leader connected
         a leader => v4 Leader connected
         a joins name=Anna => v4 Leader connected
         a follower => v5 Ben is now leading
         a asks => v5 Ben is now leading
         b approves a => v6 Anna is now leading
         a leaves => v7 Ben is now leading
         c joins name=Cleo leader => v8 Cleo is leading
         c lost => v9 Cleo is leading
         +10000 => v10 Ben is now leading
         b leaves => v11 Waiting for members…",
    );
}

#[test]
fn the_automatic_message_waits_for_members_and_for_a_leader() {
    check_message(
        "a joins follower => v1 Waiting for leader…
         b joins follower => v1 Waiting for leader…
         a leaves => v1 Waiting for leader…
         b leaves => v1 Waiting for members…
         b joins follower => v1 Waiting for leader…
         b asks => v2 User YmJi is now leading
         b follower => v3 Waiting for leader…
         b leader => v4 Leader connected",
    );
}

#[test]
fn a_set_message_stays_until_it_is_cleared() {
    check_message(
        "a joins name=Ann => v1 Ann is leading
         a message Ann => v2 Ann
         a leader => v2 Ann
         b joins leader => v3 Ann
         b leaves => v4 Ann
         a message Ann => v4 Ann
         a message => v5 Ann is leading
         a message => v5 Ann is leading",
    );
}

#[test]
fn setting_the_automatic_message_s_current_text_makes_it_stay() {
    let mut room = Room::new(RULES);
    let mut said = String::new();
    room.run("a joins name=Ann", &mut said);
    let command = SessionCommand::UpdateMessage(text("Ann is leading"));
    let mut out = Vec::new();
    let terms = Terms::default();
    let ack = room.session.handle(room.now, member("a"), terms, command, &mut out).unwrap();
    assert_eq!(ack, Ack::Changed { epoch: 1, version: 1 });
    assert_eq!(out, [Effect::Snapshot(Audience::Sender(member("a")))]);
    room.run("b joins leader", &mut said);
    assert_eq!(room.session.snapshot(room.now).message, "Ann is leading");
}

#[test]
fn the_automatic_message_survives_a_restart_while_the_seat_is_held() {
    let mut room = Room::new(RULES);
    let mut said = String::new();
    for line in ["a joins name=Ann", "a leader", "b joins follower"] {
        room.run(line, &mut said);
    }
    let record = room.session.record();
    let back = Session::from_record(record.clone(), &Arc::new(RULES), room.now, 2);
    assert_eq!(back.snapshot(room.now).message, "Leader connected");
    let older = Record { message: String::new(), ..record.clone() };
    let back = Session::from_record(older, &Arc::new(RULES), room.now, 2);
    assert_eq!(back.snapshot(room.now).message, "Ann is leading");
    let late = Moment { unix: UnixMillis(room.now.unix.0 + 3_600_000), ..room.now };
    let back = Session::from_record(record, &Arc::new(RULES), late, 2);
    assert_eq!(back.snapshot(room.now).message, "Waiting for members…");
}
