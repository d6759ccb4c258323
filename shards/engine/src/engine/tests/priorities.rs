//! The order of messages in a turn, and limits of their delay.
use super::*;
use crate::engine::turn::FLUSH_MEMBERS_MAX;

/// Takes the messages sent to a connection. Returns the names of events, and `ack` for an
/// acknowledgement.
fn names(world: &mut World, id: ConnId) -> Vec<String> {
    let name = |text: String| match text.strip_prefix("42[\"").and_then(|rest| rest.split_once('"'))
    {
        Some((name, _)) => name.to_owned(),
        None if text.starts_with("43") => "ack".to_owned(),
        None => text,
    };
    world.received(id).into_iter().map(name).collect()
}

/// A band that plays, just after a tick, with batch windows of `batch` ms.
fn playing_at_a_tick(batch: u64) -> (World, ConnId, ConnId) {
    let mut settings = settings();
    settings.batch_interval = Micros::from_millis(batch);
    settings.heartbeat_interval = HOUR;
    let mut world = World::new(settings);
    let (ann, bob) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(Micros::from_millis(100));
    while !names(&mut world, bob).contains(&"scroll_tick".to_owned()) {
        world.pass(Micros::from_micros(500));
    }
    (world, ann, bob)
}

/// Updates are sent in order of arrival, then their one snapshot, then statistics, although these
/// were queued first.
#[test]
fn a_batch_sends_updates_then_the_snapshot_then_statistics() {
    let (mut world, ann, bob) = playing_at_a_tick(16);
    let cyd = world.client(0);
    world.pass(Micros::from_millis(1));
    world.received(bob);
    world.say(cyd, &join("s", "Cyd"));
    world.say(ann, r#"42["seek",{"sessionId":"s","position":9000}]"#);
    world.say(ann, r#"42["chat_message",{"sessionId":"s","message":"la"}]"#);
    world.pass(Micros::from_millis(16));
    let received = names(&mut world, bob);
    let expected = ["user_joined", "seek", "chat_message", "snapshot", "room_stats"];
    let batch: Vec<&String> = received.iter().filter(|name| *name != "scroll_tick").collect();
    assert_eq!(batch, expected, "{received:?}");
}

#[test]
fn a_tick_precedes_a_batch_due_in_the_same_turn() {
    let (mut world, ann, bob) = playing_at_a_tick(5);
    // The window closes before the next tick, but the shard is late and both are overdue.
    world.say(ann, r#"42["chat_message",{"sessionId":"s","message":"la"}]"#);
    names(&mut world, bob);
    world.now = world.now + Micros::from_millis(40);
    world.turn();
    assert_eq!(names(&mut world, bob), ["scroll_tick", "chat_message"]);
}

#[test]
fn a_sync_response_precedes_an_overdue_tick() {
    let (mut world, ann, _) = playing_at_a_tick(5);
    names(&mut world, ann);
    world.now = world.now + Micros::from_millis(40);
    world.say(ann, r#"429["sync_request",{"sessionId":"s"}]"#);
    world.turn();
    assert_eq!(names(&mut world, ann), ["ack", "sync_response", "scroll_tick"]);
}

/// A batch is sent whole when its window closes, so nothing in it waits for a second window.
#[test]
fn statistics_wait_for_at_most_one_window_under_load() {
    let mut settings = settings();
    settings.heartbeat_interval = HOUR;
    let mut world = World::new(settings);
    let (ann, bob) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(Micros::from_millis(50));
    let cyd = world.client(0);
    world.received(bob);
    world.say(cyd, &join("s", "Cyd"));
    let began = world.now;
    let mut stats = None;
    for step in 0..40 {
        if step % 4 == 0 {
            world.say(ann, r#"42["position_sync",{"sessionId":"s","positionMs":1,"timestamp":1}]"#);
            world.say(ann, r#"42["sync_request",{"sessionId":"s"}]"#);
        }
        world.pass(Micros::from_micros(500));
        if stats.is_none() && names(&mut world, bob).contains(&"room_stats".to_owned()) {
            stats = Some(world.now.since(began));
        }
    }
    let waited = stats.expect("statistics were sent");
    assert!(waited <= Micros::from_micros(5_500), "{waited:?}");
}

/// In a session of 100 members chat waits for up to four windows. If an update is queued meanwhile,
/// both are sent when the update's window closes.
#[test]
fn chat_to_many_members_waits_until_another_effect_is_queued() {
    let settings = Settings { heartbeat_interval: HOUR, ..settings() };
    let mut world = World::new(settings);
    let crowd: Vec<ConnId> = (0..100)
        .map(|_| {
            let member = world.client(0);
            world.say(member, &join("s", "Eve"));
            member
        })
        .collect();
    world.pass(Micros::from_millis(100));
    let (leader, listener) = (crowd[0], crowd[99]);
    let chat = r#"42["chat_message",{"sessionId":"s","message":"la"}]"#;
    let mut chat_delay = |seek_at: Option<u64>| {
        names(&mut world, listener);
        world.say(leader, chat);
        (1..=25).find(|millis| {
            if seek_at.is_some_and(|at| at + 1 == *millis) {
                world.say(leader, r#"42["seek",{"sessionId":"s","position":1000}]"#);
            }
            world.pass(Micros::from_millis(1));
            names(&mut world, listener).contains(&"chat_message".to_owned())
        })
    };
    assert_eq!(chat_delay(None), Some(20));
    assert_eq!(chat_delay(Some(2)), Some(7));
    assert_eq!(chat_delay(Some(17)), Some(20));
}

#[test]
fn without_a_window_effects_are_sent_in_the_same_turn() {
    let mut settings = settings();
    settings.batch_interval = Micros::ZERO;
    let mut world = World::new(settings);
    let (ann, bob) = duo(&mut world);
    for event in [
        r#"42["chat_message",{"sessionId":"s","message":"la"}]"#,
        r#"42["seek",{"sessionId":"s","position":1000}]"#,
        r#"42["play",{"sessionId":"s"}]"#,
        r#"42["leave_session",{"sessionId":"s"}]"#,
    ] {
        world.say(ann, event);
        world.turn();
        assert!(!names(&mut world, bob).is_empty(), "{event} sent nothing");
    }
}

/// If the batches of many sessions are due at once, a turn sends a limited number of them. A tick
/// that becomes due meanwhile precedes the rest.
#[test]
fn a_tick_does_not_wait_for_the_batches_of_many_sessions() {
    let (mut world, ann, _) = playing_at_a_tick(5);
    let halls: Vec<Vec<ConnId>> = (0..10)
        .map(|hall| {
            (0..30)
                .map(|_| {
                    let member = world.client(0);
                    world.say(member, &join(&format!("hall-{hall}"), "Eve"));
                    member
                })
                .collect()
        })
        .collect();
    world.pass(Micros::from_millis(100));
    for (hall, members) in halls.iter().enumerate() {
        members.iter().for_each(|member| drop(world.received(*member)));
        let chat = format!(r#"42["chat_message",{{"sessionId":"hall-{hall}","message":"la"}}]"#);
        world.say(members[0], &chat);
    }
    let receivers = |world: &mut World| {
        let receives =
            |world: &mut World, id| names(world, id).contains(&"chat_message".to_owned());
        halls.iter().flatten().filter(|member| receives(world, **member)).count()
    };
    world.now = world.now + Micros::from_millis(6);
    world.input(0, Input::TurnEnded);
    let first = receivers(&mut world);
    assert!((FLUSH_MEMBERS_MAX..FLUSH_MEMBERS_MAX + 30).contains(&first), "{first}");
    assert_eq!(
        world.shards[0].next_deadline(),
        Some(world.now),
        "the other batches wait for the next turn only"
    );
    names(&mut world, ann);
    world.now = world.now + Micros::from_millis(16);
    world.input(0, Input::TurnEnded);
    assert!(names(&mut world, ann).contains(&"scroll_tick".to_owned()));
    let second = receivers(&mut world);
    assert!(second < 2 * FLUSH_MEMBERS_MAX, "{second}");
    let mut all = first + second;
    for _ in 0..10 {
        world.input(0, Input::TurnEnded);
        all += receivers(&mut world);
    }
    assert_eq!(all, 300);
}
