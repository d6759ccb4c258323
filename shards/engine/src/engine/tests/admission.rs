//! Members that ask to join another session, which may reject them.

use super::*;

const SHARDS: u16 = 4;

/// The names of a session on the first shard and of another one on `shard`.
fn names(shard: u16, shards: u16) -> (String, String) {
    let mut names = (0..).map(|n| format!("session-{n}"));
    let mut on = |shard| {
        names.find(|name| SessionId::parse(name).unwrap().shard(shards) == ShardId(shard)).unwrap()
    };
    (on(0), on(shard))
}

fn join_with(ack: u32, session: &str, passcode: &str) -> String {
    format!(r#"42{ack}["join_session",{{"sessionId":"{session}","passcode":"{passcode}"}}]"#)
}

fn chat(session: &str, text: &str) -> String {
    format!(r#"42["chat_message",{{"sessionId":"{session}","message":"{text}"}}]"#)
}

/// Opens a locked session with one member and an open one with two, Bob and a witness. Returns Bob
/// and the witness.
fn neighbours(world: &mut World, locked: &str, open: &str) -> (ConnId, ConnId) {
    let keeper = world.client(0);
    world.say(keeper, &join_with(1, locked, "right"));
    let (witness, bob) = (world.client(0), world.client(1 % world.shards.len()));
    for conn in [witness, bob] {
        world.say(conn, &join(open, "Bob"));
    }
    world.pass(MS(20));
    world.received(bob);
    world.received(witness);
    (bob, witness)
}

#[test]
fn a_member_rejected_by_another_session_keeps_its_seat() {
    for shards in [1, SHARDS] {
        for target in 0..shards {
            let mut world = World::new(Settings { shards, ..settings() });
            let (open, locked) = names(target, shards);
            let (bob, witness) = neighbours(&mut world, &locked, &open);
            // The message after the join arrives in the same read.
            let mut burst = masked(&join_with(7, &locked, "wrong"));
            burst.extend(masked(&chat(&open, "still here")));
            world.bytes(bob, &burst);
            world.pass(MS(20));
            let received = world.received(bob);
            let rejected = r#"437[{"ok":false,"error":{"code":"bad_passcode","message":"#;
            assert!(
                received[0].starts_with(rejected) && received[0].contains(r#""field":"passcode""#),
                "{received:?}"
            );
            assert_eq!(world.events(witness), ["chat_message"], "{locked}");

            world.say(bob, &join_with(8, &locked, "right"));
            world.pass(MS(20));
            let received = world.received(bob);
            assert!(received.iter().any(|m| m.starts_with(r#"438[{"ok":true"#)), "{received:?}");
            assert!(world.events(witness).contains(&"user_left".to_owned()));
            let members: u32 = world.shards.iter().map(|shard| shard.counters().members).sum();
            assert_eq!(members, 3);
        }
    }
}

#[test]
fn a_member_rejected_as_full_or_rate_limited_keeps_its_seat() {
    let mut world = World::new(Settings { shards: SHARDS, session_members_max: 2, ..settings() });
    let (open, locked) = names(2, SHARDS);
    let (bob, witness) = neighbours(&mut world, &locked, &open);
    let other = world.client(3);
    world.say(other, &join_with(1, &locked, "right"));
    for n in 0..11 {
        world.pass(Micros::from_secs(1));
        world.say(bob, &join_with(n, &locked, "wrong"));
    }
    let received = world.received(bob).join("\n");
    assert!(received.contains(r#"4310[{"ok":false,"error":{"code":"rate_limited""#), "{received}");
    world.pass(Micros::from_secs(600));
    world.say(bob, &join_with(12, &locked, "right"));
    let received = world.received(bob).join("\n");
    assert!(received.contains(r#"4312[{"ok":false,"error":{"code":"session_full""#), "{received}");
    world.received(witness);
    world.say(bob, &chat(&open, "still here"));
    world.pass(MS(20));
    assert_eq!(world.events(witness).last().unwrap(), "chat_message");
}

#[test]
fn an_admission_for_a_closed_connection_is_ignored() {
    let mut world = World::new(Settings { shards: SHARDS, ..settings() });
    let (open, locked) = names(2, SHARDS);
    let (bob, witness) = neighbours(&mut world, &locked, &open);
    world.slow_mail = true;
    world.say(bob, &join_with(7, &locked, "right"));
    world.say(bob, &chat(&open, "sent too late"));
    assert_eq!(world.messages.len(), 1);
    let (shard, conn) = world.places[&bob];
    world.input(shard, Input::Closed { conn, cause: CloseCause::Failed });
    world.pass(MS(20));
    assert!(world.events(witness).contains(&"user_left".to_owned()));
    world.deliver();
    world.deliver();
    world.pass(MS(20));
    assert_eq!(
        (world.messages.len(), world.handed_over),
        (0, 2),
        "only the hand-overs to their first sessions"
    );
    let members: u32 = world.shards.iter().map(|shard| shard.counters().members).sum();
    assert_eq!(members, 2);
    // A malformed message has no effect either.
    world.input(0, Input::ShardMessage { message: b"nonsense" });
    world.turn();
}

#[test]
fn a_recovered_member_does_not_receive_the_answer_to_its_earlier_join() {
    let transports = Transports { recovery: Micros::from_secs(120), ..settings().transports };
    let mut world = World::new(Settings { shards: SHARDS, transports, ..settings() });
    let ((open, locked), (_, third)) = (names(2, SHARDS), names(3, SHARDS));
    let keeper = world.client(0);
    world.say(keeper, &join_with(1, &locked, "right"));
    let bob = world.open(0);
    world.bytes(bob, UPGRADE);
    world.say(bob, "40");
    let greeting = world.received(bob).pop().unwrap();
    let pid = greeting.split_once(r#""pid":""#).unwrap().1.split_once('"').unwrap().0.to_owned();
    world.say(bob, &join(&open, "Bob"));
    world.pass(MS(20));
    let received = world.received(bob);
    let offset = received
        .iter()
        .rev()
        .find_map(|m| m.strip_suffix("\"]")?.rsplit_once('"'))
        .unwrap()
        .1
        .to_owned();
    world.slow_mail = true;
    world.say(bob, &join_with(7, &locked, "wrong"));
    let (shard, conn) = world.places[&bob];
    world.input(shard, Input::Closed { conn, cause: CloseCause::Failed });
    world.places.remove(&bob);
    let back = world.open(0);
    world.bytes(back, UPGRADE);
    world.say(back, &format!(r#"40{{"pid":"{pid}","offset":"{offset}"}}"#));
    world.say(back, &format!(r#"427["join_session",{{"sessionId":"{third}"}}]"#));
    for _ in 0..4 {
        world.deliver();
    }
    world.pass(MS(20));
    let acks: Vec<String> =
        world.received(back).into_iter().filter(|m| m.starts_with("437")).collect();
    assert!(acks.len() == 1 && acks[0].starts_with(r#"437[{"ok":true"#), "{acks:?}");
    assert_eq!(world.shards[3].counters().members, 1);
}

/// A reserved seat is not given to another member, and the reservation expires.
#[test]
fn the_second_of_two_members_that_want_the_last_seat_is_rejected() {
    let mut world = World::new(Settings { shards: SHARDS, session_members_max: 2, ..settings() });
    let ((open, full), (_, other)) = (names(2, SHARDS), names(3, SHARDS));
    let keeper = world.client(2);
    world.say(keeper, &join(&full, "Keeper"));
    let (bob, cyd) = (world.client(0), world.client(3));
    world.say(bob, &join(&open, "Bob"));
    world.say(cyd, &join(&other, "Cyd"));
    world.pass(MS(20));
    world.received(cyd);
    world.slow_mail = true;
    world.say(bob, &join_with(7, &full, ""));
    world.say(cyd, &join_with(8, &full, ""));
    assert_eq!(world.messages.len(), 2);
    for _ in 0..4 {
        world.deliver();
    }
    world.slow_mail = false;
    world.pass(MS(20));
    assert!(world.received(bob).iter().any(|m| m.starts_with(r#"437[{"ok":true"#)));
    let received = world.received(cyd).join("\n");
    assert!(received.contains(r#"438[{"ok":false,"error":{"code":"session_full""#), "{received}");
    assert_eq!(world.shards[3].counters().members, 1, "the rejected member keeps its seat");

    // If an admitted member is lost before its hand-over, its seat stays reserved for a second.
    world.say(
        bob,
        r#"42["leave_session",{"sessionId":""}]"#.replace("\"\"", &format!("\"{full}\"")).as_str(),
    );
    world.say(bob, &join(&open, "Bob"));
    world.pass(MS(20));
    world.slow_mail = true;
    world.say(bob, &join_with(7, &full, ""));
    world.deliver();
    let (shard, conn) = world.places[&bob];
    world.input(shard, Input::Closed { conn, cause: CloseCause::Failed });
    world.deliver();
    world.slow_mail = false;
    world.pass(MS(500));
    world.say(cyd, &join_with(9, &full, ""));
    world.pass(MS(600));
    world.say(cyd, &join_with(10, &full, ""));
    world.pass(MS(20));
    let received = world.received(cyd).join("\n");
    assert!(received.contains(r#"439[{"ok":false,"error":{"code":"session_full""#), "{received}");
    assert!(received.contains(r#"4310[{"ok":true"#), "{received}");
}
