//! Tokens, and the seats that they bring back.

use super::*;

/// The names of the members in order of joining.
fn names(session: &Session) -> Vec<&str> {
    session.members().map(|member| &*member.display_name).collect()
}

#[test]
fn a_token_brings_name_and_place_back_until_its_member_leaves() {
    check(
        "a joins
         b joins token=t
         c joins
         b lost
         d joins token=t
         d leaves
         e joins token=t",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins token=t: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins: Follower v1 | c <- snapshot | all <- joined c Follower 3 | stats
         b lost: all <- left b 2 nobody | stats
         d joins token=t: Follower v1 back | d <- snapshot | all <- joined d Follower 3 | stats
         d leaves: all <- left d 2 nobody | stats
         e joins token=t: Follower v1 | e <- snapshot | all <- joined e Follower 3 | stats",
    );
    let mut room = Room::new(RULES);
    for line in
        ["a joins name=Ann", "+1", "b joins name=Ben token=t", "+1", "c joins name=Cyd", "b quits"]
    {
        room.run(line, &mut String::new());
    }
    assert_eq!(names(&room.session), ["Ann", "Cyd"]);
    room.run("d joins token=t", &mut String::new());
    assert_eq!(names(&room.session), ["Ann", "Ben", "Cyd"]);
    room.run("e joins name=Benno token=t", &mut String::new());
    assert_eq!(names(&room.session), ["Ann", "Benno", "Cyd"]);
}

/// One decision: the lead and the open request pass to the new connection.
#[test]
fn a_second_connection_with_a_token_replaces_the_first() {
    check(
        "a joins token=t
         b joins token=u
         b asks
         x joins token=t
         a play
         x play
         y joins token=u
         x approves y",
        "a joins token=t: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins token=u: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         b asks: pending | a <- request of b | b <- sent to a
         x joins token=t: Leader v2 back | x <- snapshot | all <- left a 1 x replaced | all <- joined x Leader 2 | all <- leader x after a | x <- request of b | all <- snapshot | stats
         a play: NotMember!
         x play: v3 | all <- play 0 120 at 0 | all <- snapshot
         y joins token=u: Follower v4 back | y <- snapshot | all <- left b 1 nobody replaced | all <- joined y Follower 2 | all <- snapshot | stats
         x approves y: v5 | y <- approved | x <- handed to y | all <- role x Follower - | all <- role y Leader handed_over | all <- leader y after x | all <- snapshot",
    );
}

#[test]
fn a_held_lead_comes_back_with_its_token() {
    check(
        "a joins token=t
         b joins
         a lost
         +9000
         x joins follower token=t
         +9000
         x pause",
        "a joins token=t: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a lost: all <- snapshot | stats
         x joins follower token=t: Leader v3 back | x <- snapshot | all <- left a 1 x replaced | all <- joined x Leader 2 | all <- leader x after a | all <- snapshot | stats
         x pause: v3 | only x <- pause 0 | only x <- snapshot",
    );
}

/// Hard case 7 of the protocol.
#[test]
fn a_token_does_not_take_the_lead_from_the_successor() {
    check(
        "a joins token=t
         b joins
         a lost
         +10000
         x joins leader token=t
         x play
         b leaves",
        "a joins token=t: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a lost: all <- snapshot | stats
         +10000: all <- left a 1 b | all <- role b Leader leader_disconnected | all <- leader b after a | all <- snapshot | stats
         x joins leader token=t: Follower v3 back | x <- snapshot | all <- joined x Follower 2 | stats
         x play: NotLeader!
         b leaves: all <- left b 1 x | all <- role x Leader leader_left | all <- leader x after b | all <- snapshot | stats",
    );
}

#[test]
fn a_lead_that_another_member_had_since_does_not_come_back() {
    check(
        "a joins token=t
         b joins
         a lost
         +10000
         b follower
         x joins follower token=t",
        "a joins token=t: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a lost: all <- snapshot | stats
         +10000: all <- left a 1 b | all <- role b Leader leader_disconnected | all <- leader b after a | all <- snapshot | stats
         b follower: v4 | all <- role b Follower - | all <- snapshot
         x joins follower token=t: Follower v4 back | x <- snapshot | all <- joined x Follower 2 | stats",
    );
}

#[test]
fn a_free_lead_comes_back_with_the_pin_that_was_shown() {
    check(
        "a joins pin=1234 token=t
         b joins
         a lost
         +10000
         x joins follower token=t",
        "a joins pin=1234 token=t: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         a lost: all <- snapshot | stats
         +10000: all <- left a 1 nobody | all <- snapshot | stats
         x joins follower token=t: Leader v4 back | x <- snapshot | all <- joined x Follower 2 | all <- role x Leader - | all <- leader x after nobody | all <- snapshot | stats",
    );
}

#[test]
fn a_token_takes_the_place_of_the_passcode_until_that_changes() {
    check(
        "a joins passcode=p
         b joins passcode=p token=t
         b lost
         d joins token=t passcode=wrong
         d lost
         a settings passcode=q
         e joins token=t
         e joins token=t passcode=q
         a settings pin=1234
         f joins token=t pin=0000
         f joins token=t",
        "a joins passcode=p: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins passcode=p token=t: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         b lost: all <- left b 1 nobody | stats
         d joins token=t passcode=wrong: Follower v1 back | d <- snapshot | all <- joined d Follower 2 | stats
         d lost: all <- left d 1 nobody | stats
         a settings passcode=q: v2 | all <- settings
         e joins token=t: BadPasscode passcode!
         e joins token=t passcode=q: Follower v2 | e <- snapshot | all <- joined e Follower 2 | stats
         a settings pin=1234: v3 | all <- settings
         f joins token=t pin=0000: BadPasscode leaderPin!
         f joins token=t: Follower v4 back | f <- snapshot | all <- left e 1 nobody replaced | all <- joined f Follower 2 | all <- snapshot | stats",
    );
}

/// A join is repeated if its acknowledgement was lost.
#[test]
fn a_new_token_takes_the_place_of_the_old_one() {
    check(
        "a joins
         b joins token=t
         c joins token=t new=u
         d joins token=t new=u
         e joins token=t
         e joins token=u",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins token=t: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins token=t new=u: Follower v2 back | c <- snapshot | all <- left b 1 nobody replaced | all <- joined c Follower 2 | all <- snapshot | stats
         d joins token=t new=u: Follower v3 back | d <- snapshot | all <- left c 1 nobody replaced | all <- joined d Follower 2 | all <- snapshot | stats
         e joins token=t: Follower v3 | e <- snapshot | all <- joined e Follower 3 | stats
         e joins token=u: NotAllowed token!",
    );
}

#[test]
fn a_returning_member_is_admitted_to_a_full_session() {
    check(
        "a joins
         b joins token=t
         c joins
         d joins
         b lost
         e joins
         f joins
         g joins token=t
         a settings cues=all
         a settings max=3",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins token=t: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         c joins: Follower v1 | c <- snapshot | all <- joined c Follower 3 | stats
         d joins: Follower v1 | d <- snapshot | all <- joined d Follower 4 | stats
         b lost: all <- left b 3 nobody | stats
         e joins: Follower v1 | e <- snapshot | all <- joined e Follower 4 | stats
         f joins: SessionFull!
         g joins token=t: Follower v1 back | g <- snapshot | all <- snapshot | stats
         a settings cues=all: v2 | all <- settings
         a settings max=3: InvalidPayload maxMembers!",
    );
}

#[test]
fn a_seat_is_remembered_for_twelve_hours() {
    check(
        "a joins
         b joins token=t
         b lost
         +43200000
         c joins token=t
         c lost
         +43200001
         d joins token=t",
        "a joins: Leader v1 | a <- snapshot | all <- joined a Leader 1 | stats
         b joins token=t: Follower v1 | b <- snapshot | all <- joined b Follower 2 | stats
         b lost: all <- left b 1 nobody | stats
         c joins token=t: Follower v1 back | c <- snapshot | all <- joined c Follower 2 | stats
         c lost: all <- left c 1 nobody | stats
         d joins token=t: Follower v1 | d <- snapshot | all <- joined d Follower 2 | stats",
    );
}

/// A member with this number, which has joined with the token of this number.
fn join_as(room: &mut Room, number: usize, token_number: usize) -> (MemberId, bool) {
    let mut bytes = [9; 15];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    let member = MemberId::from_bytes(bytes);
    let join = Join { token: Some(token(&token_number.to_string())), ..join(&[]) };
    let ack = room.session.join(room.now, member, &join, &mut Vec::new()).unwrap();
    (member, matches!(ack, Ack::Joined { is_back: true, .. }))
}

#[test]
fn the_members_gone_longest_are_forgotten_first() {
    let mut room = Room::new(RULES);
    room.run("a joins", &mut String::new());
    for number in 0..=Tokens::ABSENT_MAX {
        let (member, is_back) = join_as(&mut room, number, number);
        assert!(!is_back);
        let reason = LeaveReason::TransportClosed;
        room.session.lost(room.now, member, reason, &mut Vec::new());
    }
    assert_eq!(room.session.state().tokens.absent().len(), Tokens::ABSENT_MAX);
    assert!(join_as(&mut room, 5_001, 1).1 && !join_as(&mut room, 5_000, 0).1);
    room.session.check_invariants();
}

#[test]
fn tokens_bring_seats_back_after_a_restart() {
    let mut room = Room::new(RULES);
    for line in [
        "a joins name=Ann passcode=p token=t",
        "+1",
        "b joins name=Ben passcode=p token=u",
        "+1",
        "c joins name=Cyd passcode=p token=v",
        "d joins name=Dan passcode=p",
        "b lost",
    ] {
        room.run(line, &mut String::new());
    }
    let mut bytes = Vec::new();
    room.session.state().print(&mut bytes);
    let reopen = |minutes: i64| {
        let record = Record::parse(&bytes).unwrap();
        let later = UnixMillis(room.now.unix.0 + minutes * 60_000);
        let now = Moment { unix: later, ..room.now };
        Room { session: Session::from_record(record, &Arc::new(RULES), now, 2), now }
    };
    let back = |room: &mut Room, line: &str| {
        let mut said = String::new();
        room.run(line, &mut said);
        said.split(" | ").next().unwrap_or_default().trim().to_owned()
    };
    // Within the grace the lead is still held, and a follower does not take it.
    let mut soon = reopen(0);
    assert_eq!(back(&mut soon, "x joins token=v"), "x joins token=v: Follower v1 back");
    assert_eq!(back(&mut soon, "y joins token=t"), "y joins token=t: Leader v2 back");
    assert_eq!(back(&mut soon, "z joins token=u"), "z joins token=u: Follower v2 back");
    assert_eq!(names(&soon.session), ["Ann", "Ben", "Cyd"]);
    // Dan had no token, and so needs the passcode.
    assert_eq!(back(&mut soon, "d joins"), "d joins: BadPasscode passcode!");
    // Later nobody leads, so the leader's seat brings the lead back. The others do as they ask.
    let mut late = reopen(60);
    assert_eq!(
        back(&mut late, "x joins follower token=v"),
        "x joins follower token=v: Follower v1 back"
    );
    assert_eq!(
        back(&mut late, "y joins follower token=t"),
        "y joins follower token=t: Leader v2 back"
    );
    // And a day later all are forgotten.
    assert_eq!(
        back(&mut reopen(24 * 60), "y joins token=t"),
        "y joins token=t: BadPasscode passcode!"
    );
}

#[test]
fn every_change_of_a_token_makes_another_record() {
    let mut room = Room::new(RULES);
    let mut changes = Vec::new();
    for line in [
        "a joins",
        "b joins token=t",
        "b joins token=t",
        "b lost",
        "c joins token=t",
        "d joins token=t new=u",
        "d leaves",
        "a leaves",
    ] {
        room.run(line, &mut String::new());
        changes.push(room.session.state().tokens.changes());
    }
    // The stored record has a lost member as present.
    assert_eq!(changes, [0, 1, 1, 1, 2, 3, 4, 4]);
}
