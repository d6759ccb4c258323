//! Screens, which show a session and are no members of it.

use super::*;

const JOIN: &str = r#"421["join_session",{"sessionId":"s"}]"#;
const SHOW: &str = r#"421["join_session",{"sessionId":"s","view":"screen"}]"#;

/// Sends an event and returns the messages that its sender receives within the batch window.
fn answers(world: &mut World, id: ConnId, event: &str) -> Vec<String> {
    world.received(id);
    world.say(id, event);
    world.pass(MS(20));
    world.received(id)
}

/// A member that leads, and a screen.
fn shown(world: &mut World) -> (ConnId, ConnId) {
    let (member, screen) = (world.client(0), world.client(0));
    answers(world, member, JOIN);
    let received = answers(world, screen, SHOW);
    assert!(received[0].contains(r#""ok":true"#), "{received:?}");
    assert!(received[1].starts_with(r#"42["snapshot""#), "{received:?}");
    (member, screen)
}

#[test]
fn a_screen_is_counted_apart_and_in_no_list() {
    let mut world = World::new(settings());
    let (member, screen) = shown(&mut world);
    let of_member = world.received(member);
    assert!(of_member.iter().all(|message| !message.contains("user_joined")), "{of_member:?}");
    let stats = of_member.iter().find(|message| message.contains("room_stats")).unwrap();
    assert!(stats.contains(r#""memberCount":1,"#) && stats.contains(r#""screens":1"#), "{stats}");
    let snapshot = answers(&mut world, screen, SHOW).remove(1);
    assert_eq!(snapshot.matches("displayName").count(), 1, "{snapshot}");
    world.say(screen, r#"42["leave_session",{"sessionId":"s"}]"#);
    world.pass(MS(20));
    let of_member = world.received(member);
    assert!(of_member.last().unwrap().contains(r#""screens":0"#), "{of_member:?}");
    assert!(of_member.iter().all(|message| !message.contains("user_left")), "{of_member:?}");
}

#[test]
fn a_screen_asks_and_commands_nothing() {
    let mut world = World::new(settings());
    let (member, screen) = shown(&mut world);
    answers(&mut world, member, r#"42["play",{"sessionId":"s"}]"#);
    for event in ["sync_request", "get_setlist", "get_songs"] {
        let received =
            answers(&mut world, screen, &format!(r#"421["{event}",{{"sessionId":"s"}}]"#));
        let acknowledged = received.iter().any(|message| message.starts_with(r#"431[{"ok":true"#));
        assert!(acknowledged, "{event}: {received:?}");
    }
    for event in [
        r#"421["stop",{"sessionId":"s"}]"#,
        r#"421["set_role",{"sessionId":"s","role":"leader"}]"#,
        r#"421["chat_message",{"sessionId":"s","message":"hi"}]"#,
        r#"421["edit_setlist",{"sessionId":"s","ops":[{"op":"retitle","title":"x"}]}]"#,
        r#"421["position_sync",{"sessionId":"s","positionMs":1,"timestamp":1}]"#,
    ] {
        let received = answers(&mut world, screen, event);
        assert!(received[0].contains(r#""code":"not_allowed""#), "{event}: {received:?}");
    }
    world.turn();
    world.say(member, r#"42["chat_message",{"sessionId":"s","message":"look"}]"#);
    world.pass(MS(50));
    let events = world.events(screen);
    assert!(events.iter().any(|event| event == "scroll_tick"), "{events:?}");
    assert!(events.iter().any(|event| event == "chat_message"), "{events:?}");
}

#[test]
fn a_screen_needs_the_passcode_and_a_session() {
    let mut world = World::new(settings());
    let screen = world.client(0);
    let received = answers(&mut world, screen, SHOW);
    assert!(received[0].contains(r#""code":"session_not_found""#), "{received:?}");
    let member = world.client(0);
    let locked = r#"421["join_session",{"sessionId":"s","passcode":"open"}]"#;
    answers(&mut world, member, locked);
    let received = answers(&mut world, screen, SHOW);
    assert!(received[0].contains(r#""code":"bad_passcode""#), "{received:?}");
    let with = r#"421["join_session",{"sessionId":"s","view":"screen","passcode":"open"}]"#;
    let received = answers(&mut world, screen, with);
    assert!(received[0].contains(r#""ok":true"#), "{received:?}");
}

#[test]
fn a_session_has_sixteen_screens_besides_its_members() {
    let mut world = World::new(settings());
    let member = world.client(0);
    answers(&mut world, member, r#"421["join_session",{"sessionId":"s"}]"#);
    answers(&mut world, member, r#"422["update_settings",{"sessionId":"s","maxMembers":1}]"#);
    let screens: Vec<ConnId> = (0..16).map(|_| world.client(0)).collect();
    for screen in &screens {
        let received = answers(&mut world, *screen, SHOW);
        assert!(received[0].contains(r#""ok":true"#), "{received:?}");
    }
    let one_more = world.client(0);
    let received = answers(&mut world, one_more, SHOW);
    assert!(received[0].contains(r#""code":"session_full""#), "{received:?}");
    world.bytes(screens[3], b"\x88\x80\0\0\0\0");
    world.pass(MS(20));
    let received = answers(&mut world, one_more, SHOW);
    assert!(received[0].contains(r#""ok":true"#), "{received:?}");
    world.turn();
}

#[test]
fn a_session_with_a_screen_alone_stays() {
    let mut world = World::new(settings());
    let (member, screen) = shown(&mut world);
    answers(&mut world, member, r#"421["leave_session",{"sessionId":"s"}]"#);
    world.received(screen);
    for _ in 0..40 {
        world.pass(Micros::from_secs(30));
        world.say(screen, r#"42["heartbeat",{}]"#);
        world.say(screen, "3");
    }
    assert!(!world.closed.contains_key(&screen), "the screen was closed");
    let received = answers(&mut world, screen, r#"421["get_setlist",{"sessionId":"s"}]"#);
    assert!(received[0].contains(r#""ok":true"#), "{received:?}");
    world.turn();
}

#[test]
fn a_member_that_becomes_a_screen_leaves_its_seat() {
    let mut world = World::new(settings());
    let (member, screen) = (world.client(0), world.client(0));
    answers(&mut world, member, JOIN);
    answers(&mut world, screen, JOIN);
    world.received(member);
    let received = answers(&mut world, screen, SHOW);
    assert!(received[0].contains(r#""ok":true"#), "{received:?}");
    assert!(world.events(member).contains(&"user_left".to_owned()));
    world.pass(Micros::from_secs(2));
    let received = answers(&mut world, screen, JOIN);
    assert!(received[0].contains(r#""ok":true"#), "{received:?}");
    assert!(world.events(member).contains(&"user_joined".to_owned()));
    world.turn();
}

#[test]
fn a_screen_comes_from_another_shard() {
    let shards = 4;
    let mut world = World::new(Settings { shards, ..settings() });
    let home = usize::from(SessionId::parse("s").unwrap().shard(shards).0);
    let member = world.client(home);
    answers(&mut world, member, JOIN);
    let screen = world.client((home + 1) % usize::from(shards));
    let received = answers(&mut world, screen, SHOW);
    assert!(received[0].contains(r#""ok":true"#), "{received:?}");
    assert_eq!(world.handed_over, 1);
    world.turn();
}
