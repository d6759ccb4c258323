//! Values above their rate: the newest one wins.

use super::*;
use crate::words::limits::RateLimits;

fn tempo(ack: u32, bpm: u32) -> String {
    format!(r#"42{ack}["set_tempo",{{"sessionId":"s","tempo":{bpm}}}]"#)
}

/// Takes the messages sent to a member. Returns the acknowledgements with their ids, in order, and
/// all other messages.
fn acks(world: &mut World, id: ConnId) -> (Vec<(u32, String)>, Vec<String>) {
    let received = world.received(id).into_iter().partition(|text| text.starts_with("43"));
    let (acks, others): (Vec<String>, Vec<String>) = received;
    let read = |ack: String| {
        let (id, text) = ack[2..].split_once('[').unwrap();
        (id.parse().unwrap(), text.to_owned())
    };
    (acks.into_iter().map(read).collect(), others)
}

fn bpm(world: &World) -> u32 {
    let session =
        world.shards.iter().find_map(|shard| shard.session(&SessionId::parse("s").unwrap()));
    session.unwrap().room_stats(world.now).tempo.milli_bpm() / 1_000
}

/// A drag of 60 values in 1.5 s.
#[test]
fn a_dragged_slider_ends_at_its_last_value() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    for n in 0..60 {
        world.say(ann, &tempo(n, 61 + n));
        world.pass(MS(25));
    }
    world.pass(Micros::from_secs(1));
    assert_eq!(bpm(&world), 120);
    assert_eq!(world.closed.get(&ann), None);
    let (acks, others) = acks(&mut world, ann);
    assert!(others.iter().all(|text| !text.contains("rate_limit_exceeded")), "{others:?}");
    let mut ids: Vec<u32> = acks.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.last(), Some(&59));
    ids.sort_unstable();
    assert_eq!(ids, (0..60).collect::<Vec<u32>>(), "each is acknowledged once");
    let (superseded, applied): (Vec<_>, Vec<_>) =
        acks.iter().partition(|(_, text)| text.contains(r#""superseded":true,"epoch":"#));
    assert!(acks.iter().all(|(_, text)| text.starts_with(r#"{"ok":true,"#)), "{acks:?}");
    // A burst of ten, then five per second.
    assert_eq!((applied.len(), superseded.len()), (18, 42));
    let changes =
        world.received(bob).iter().filter(|text| text.contains(r#"42["tempo_changed""#)).count();
    assert_eq!(changes, 18);
}

#[test]
fn a_waiting_value_is_applied_before_any_later_command() {
    for later in ["play", "pause", "chat_message", "sync_request", "leave_session"] {
        let mut world = World::new(settings());
        let (ann, _) = duo(&mut world);
        for n in 0..13 {
            world.say(ann, &tempo(n, 60 + n));
        }
        assert_eq!(bpm(&world), 69, "a burst of ten");
        world.say(ann, &format!(r#"42100["{later}",{{"sessionId":"s","message":"x"}}]"#));
        assert_eq!(bpm(&world), 72, "{later}");
        let (acks, _) = acks(&mut world, ann);
        let last: Vec<u32> = acks[acks.len() - 4..].iter().map(|(id, _)| *id).collect();
        assert_eq!(last, [10, 11, 12, 100], "{later}");
        assert!(acks.iter().all(|(_, text)| text.starts_with(r#"{"ok":true"#)), "{acks:?}");
        world.pass(Micros::from_secs(5));
        assert_eq!(bpm(&world), 72);
    }
}

#[test]
fn events_of_the_connection_alone_do_not_flush_a_waiting_value() {
    let mut world = World::new(settings());
    let (ann, _) = duo(&mut world);
    for n in 0..11 {
        world.say(ann, &tempo(n, 60 + n));
    }
    for text in [
        r#"42["latency_probe",{"timestamp":1}]"#,
        r#"42["clock_sync",{"t0":1}]"#,
        r#"42["heartbeat",{}]"#,
        r#"42["connection_quality",{}]"#,
        r#"42["no_such_event",{}]"#,
    ] {
        world.say(ann, text);
    }
    assert_eq!(bpm(&world), 69);
    world.pass(MS(199));
    assert_eq!(bpm(&world), 69);
    world.pass(MS(1));
    assert_eq!(bpm(&world), 70);
}

#[test]
fn values_of_several_events_are_applied_in_order_of_arrival() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    let change = |ack: u32, bpm: u32| {
        format!(r#"42{ack}["tempo_change",{{"sessionId":"s","tempo":{bpm}}}]"#)
    };
    for n in 0..10 {
        world.say(ann, &tempo(n, 60 + n));
    }
    world.pass(MS(100));
    for n in 0..10 {
        world.say(ann, &change(20 + n, 80 + n));
    }
    world.pass(MS(5));
    world.received(ann);
    world.received(bob);
    // The rate admits the second of them later, and the third must wait for it.
    for text in [change(31, 91), tempo(11, 71), change(32, 92)] {
        world.say(ann, &text);
    }
    world.pass(MS(95));
    let (early, _) = acks(&mut world, ann);
    assert_eq!(early.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [31, 11]);
    assert_eq!(bpm(&world), 71);
    world.pass(MS(300));
    let (late, _) = acks(&mut world, ann);
    assert_eq!(late.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [32]);
    assert_eq!(bpm(&world), 92);
}

#[test]
fn applying_a_waiting_value_first_applies_earlier_ones() {
    let rates = RateLimits { tempo_change: 1, ..RateLimits::default() };
    let mut world = World::new(settings());
    let mut settings = settings();
    settings.policy.rates = rates;
    world.shards = vec![Engine::new(settings)];
    let (ann, _) = duo(&mut world);
    let change = |ack: u32, bpm: u32| {
        format!(r#"42{ack}["tempo_change",{{"sessionId":"s","tempo":{bpm}}}]"#)
    };
    for n in 10..20 {
        world.say(ann, &tempo(n, 70 + n));
    }
    for n in 0..2 {
        world.say(ann, &change(n, 60 + n));
    }
    world.received(ann);
    world.say(ann, &change(2, 62));
    world.say(ann, &tempo(20, 90));
    // The rate admits the change after a second, but the tempo behind it sooner.
    world.pass(MS(200));
    let (acks, _) = acks(&mut world, ann);
    assert_eq!(acks.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 20]);
    assert_eq!(bpm(&world), 90);
}

#[test]
fn a_new_value_within_its_rate_supersedes_the_waiting_one() {
    let mut world = World::new(settings());
    let (ann, _) = duo(&mut world);
    for n in 0..11 {
        world.say(ann, &tempo(n, 60 + n));
    }
    world.received(ann);
    // In the turn that admits the eleventh, before its timer fires.
    world.now = world.now + MS(200);
    world.say(ann, &tempo(11, 99));
    let (acks, _) = acks(&mut world, ann);
    assert_eq!(acks.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [10, 11]);
    assert!(acks[0].1.contains("superseded") && !acks[1].1.contains("superseded"), "{acks:?}");
    world.pass(Micros::from_secs(1));
    assert_eq!(bpm(&world), 99);
}

#[test]
fn a_retried_command_does_not_supersede_a_newer_one() {
    let mut world = World::new(settings());
    let (ann, _) = duo(&mut world);
    let named = |ack: u32, bpm: u32, number: u32| {
        format!(
            r#"42{ack}["set_tempo",{{"sessionId":"s","tempo":{bpm},"commandId":"ann-{number}"}}]"#
        )
    };
    for n in 0..10 {
        world.say(ann, &tempo(n, 60 + n));
    }
    world.received(ann);
    for text in [named(11, 97, 7), named(12, 95, 5)] {
        world.say(ann, &text);
    }
    let (early, _) = acks(&mut world, ann);
    assert!(early.len() == 1 && early[0].0 == 12 && early[0].1.contains("superseded"), "{early:?}");
    world.say(ann, r#"42["chat_message",{"sessionId":"s","message":"x"}]"#);
    assert_eq!(bpm(&world), 97);
    world.pass(MS(200));
    world.say(ann, &named(13, 96, 6));
    world.pass(MS(400));
    let (late, _) = acks(&mut world, ann);
    assert!(late.iter().any(|(id, text)| *id == 13 && text.contains("repeated")), "{late:?}");
    assert_eq!(bpm(&world), 97);
}

#[test]
fn a_retried_command_does_not_change_the_order() {
    let mut world = World::new(settings());
    let (ann, _) = duo(&mut world);
    let named = |ack: u32, bpm: u32, number: u32| {
        format!(
            r#"42{ack}["set_tempo",{{"sessionId":"s","tempo":{bpm},"commandId":"ann-{number}"}}]"#
        )
    };
    let seek =
        |ack: u32, ms: u32| format!(r#"42{ack}["seek",{{"sessionId":"s","position":{ms}}}]"#);
    for n in 0..10 {
        world.say(ann, &seek(n, n));
    }
    world.pass(MS(100));
    for n in 20..30 {
        world.say(ann, &tempo(n, 60 + n));
    }
    world.received(ann);
    // The rate admits the seek first, but the tempo came before it.
    for text in [named(31, 97, 7), seek(32, 5_000), named(33, 95, 5)] {
        world.say(ann, &text);
    }
    world.pass(MS(100));
    let (acks, _) = acks(&mut world, ann);
    assert_eq!(acks.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [33, 31, 32]);
}

#[test]
fn a_value_that_waits_past_its_time_is_rejected() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    for n in 0..10 {
        world.say(ann, &tempo(n, 60 + n));
    }
    world.pass(MS(10));
    world.received(ann);
    world.received(bob);
    let limited = |ack: u32, bpm: u32, at: Micros| {
        let limit = at.as_millis();
        format!(
            r#"42{ack}["set_tempo",{{"sessionId":"s","tempo":{bpm},"notAfterServerMs":{limit}}}]"#
        )
    };
    // There is room for it 190 ms from now.
    world.say(ann, &limited(10, 97, world.now + MS(100)));
    world.pass(MS(300));
    let (late, _) = acks(&mut world, ann);
    assert!(late.len() == 1 && late[0].1.contains(r#""code":"too_late""#), "{late:?}");
    assert_eq!((bpm(&world), world.received(bob)), (69, Vec::<String>::new()));
    world.say(ann, &limited(11, 98, world.now + MS(1_000)));
    world.pass(MS(300));
    let (early, _) = acks(&mut world, ann);
    assert!(early.len() == 1 && early[0].1.contains(r#""ok":true"#), "{early:?}");
    assert_eq!(bpm(&world), 98);
}

#[test]
fn a_waiting_value_is_dropped_with_its_connection_or_namespace() {
    for bye in ["41", "1", ""] {
        let mut world = World::new(settings());
        let (ann, bob) = duo(&mut world);
        for n in 0..11 {
            world.say(ann, &tempo(n, 60 + n));
        }
        match bye {
            "" => {
                let (shard, conn) = world.places[&ann];
                world.input(shard, Input::Closed { conn, cause: CloseCause::Failed });
            }
            bye => world.say(ann, bye),
        }
        world.pass(Micros::from_secs(1));
        assert_eq!(bpm(&world), 69, "{bye:?}");
        world.received(bob);
        if bye == "41" {
            world.say(ann, "40");
            world.say(ann, &join("s", "Ann"));
            world.pass(Micros::from_secs(1));
            assert_eq!(bpm(&world), 69);
        }
    }
}

#[test]
fn a_waiting_value_is_applied_before_a_join_hands_over_the_connection() {
    let mut world = World::new(Settings { shards: 2, ..settings() });
    let (ann, _) = duo(&mut world);
    let home = SessionId::parse("s").unwrap().shard(2);
    let other = (0..)
        .map(|n| format!("t{n}"))
        .find(|name| SessionId::parse(name).unwrap().shard(2) != home);
    for n in 0..11 {
        world.say(ann, &tempo(n, 60 + n));
    }
    world.say(ann, &join(&other.unwrap(), "Ann"));
    assert_eq!(bpm(&world), 70);
    world.pass(Micros::from_secs(1));
    assert_eq!(world.closed.get(&ann), None);
}

#[test]
fn a_command_that_cannot_wait_is_rejected_and_counted() {
    for bad in [
        r#"["set_tempo",{"sessionId":"s","tempo":0}]"#,
        r#"["set_tempo",{"sessionId":"elsewhere","tempo":90}]"#,
        r#"["seek",{"sessionId":"s","position":1,"atServerMs":5}]"#,
        r#"["play",{"sessionId":"s"}]"#,
    ] {
        let mut world = World::new(settings());
        let (ann, _) = duo(&mut world);
        for n in 0..12 {
            world.say(ann, &tempo(n, 60 + n));
            world.say(ann, &format!(r#"42["seek",{{"sessionId":"s","position":{n}}}]"#));
            world.say(ann, r#"42["cue",{"sessionId":"s","text":"x"}]"#);
            world.say(ann, &format!("42{}{bad}", 100 + n));
            world.received(ann);
        }
        for n in 0..9 {
            let ack = 200 + n;
            if world.places.contains_key(&ann) {
                world.say(ann, &format!("42{ack}{bad}"));
            }
        }
        let received = world.received(ann).join("\n");
        let limited = r#"[{"ok":false,"error":{"code":"rate_limited","message":"too many of these: try again in"#;
        assert!(
            received.contains(&format!("43200{limited}")) && received.contains(r#","retryAfter":"#),
            "{received}"
        );
        assert!(received.contains(r#"42["rate_limit_exceeded",{"eventType":"#), "{received}");
        assert!(world.closed.contains_key(&ann), "{bad}");
    }
}

/// The total rate of a connection also covers waiting values that other commands flush.
#[test]
fn waiting_values_count_against_the_total_rate() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    let mut changes = 0;
    for round in 0..1_000 {
        for n in 0..3 {
            world.say(ann, &tempo(0, 60 + (round + n) % 100));
            world.say(ann, &format!(r#"42["seek",{{"sessionId":"s","position":{}}}]"#, round + n));
        }
        if round % 11 == 0 {
            world.say(ann, r#"42["chat_message",{"sessionId":"s","message":"x"}]"#);
        }
        world.pass(MS(10));
        changes += world
            .received(bob)
            .iter()
            .filter(|text| text.contains(r#"42["tempo"#) || text.contains(r#"42["seek"#))
            .count();
        world.received(ann);
    }
    assert_eq!(world.closed.get(&ann), None);
    assert!((100..=1_200).contains(&changes), "{changes} in ten seconds");
}

#[test]
fn a_waiting_report_counts_from_its_arrival() {
    let mut world = World::new(settings());
    let mut settings = settings();
    settings.policy.rates.position_sync = 1;
    world.shards = vec![Engine::new(settings)];
    let (ann, bob) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(MS(100));
    let report = |ms: u32| {
        format!(r#"42["position_sync",{{"sessionId":"s","positionMs":{ms},"timestamp":1}}]"#)
    };
    for _ in 0..3 {
        world.say(ann, &report(100));
    }
    world.pass(MS(10));
    world.received(bob);
    world.pass(Micros::from_secs(2));
    let received = world.received(bob);
    let reports: Vec<&String> =
        received.iter().filter(|text| text.contains("position_sync")).collect();
    assert!(reports.len() == 1 && reports[0].contains(r#""positionMs":1100,"#), "{reports:?}");
    assert!(
        !received.iter().any(|text| text.contains("snapshot")),
        "the report corrects no member"
    );
}
