//! Commands that change nothing: only their sender receives the outcome.

use super::*;

/// Returns the messages that a member received, without the ticks.
fn received(world: &mut World, id: ConnId) -> Vec<String> {
    let received = world.received(id);
    received.into_iter().filter(|text| !text.contains("scroll_tick")).collect()
}

fn version(text: &str) -> &str {
    let (_, rest) = text.split_once("\"version\":").unwrap();
    &rest[..rest.find([',', '}']).unwrap()]
}

#[test]
fn a_command_without_effect_is_answered_to_its_sender_only() {
    const CASES: [(&str, &str, &[&str]); 16] = [
        ("pause", "", &["pause", "snapshot"]),
        ("stop", "", &["stop", "snapshot"]),
        ("seek", r#","position":0"#, &["seek", "snapshot"]),
        ("set_tempo", r#","tempo":120"#, &["tempo_changed", "snapshot"]),
        ("tempo_change", r#","tempo":120,"fadeTime":500"#, &["tempo_change", "snapshot"]),
        ("tempo_changed", r#","tempo":120"#, &["tempo_changed", "snapshot"]),
        ("update_message", r#","message":"hello""#, &["snapshot"]),
        ("set_role", r#","role":"leader""#, &["role_changed", "leader_changed", "snapshot"]),
        ("request_leader", "", &["role_changed", "leader_changed", "snapshot"]),
        ("set_time_signature", r#","numerator":4,"denominator":4"#, &["session_update"]),
        ("update_settings", r#","anyoneMayCue":false"#, &["session_update"]),
        (
            "set_setlist",
            r#","setlist":{"title":"","songs":[{"id":"1","title":"1","format":"text","body":""}]}"#,
            &["setlist", "snapshot"],
        ),
        ("select_song", r#","songId":"1""#, &["song_changed", "snapshot"]),
        ("play", "", &["play", "snapshot"]),
        ("seek", r#","position":250"#, &["seek", "snapshot"]),
        ("set_tempo", r#","tempo":120"#, &["tempo_changed", "snapshot"]),
    ];
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    // The state that the commands below set again.
    for text in [
        r#"42["update_message",{"sessionId":"s","message":"hello"}]"#,
        r#"42["set_setlist",{"sessionId":"s","setlist":{"title":"","songs":[{"id":"1","title":"1","format":"text","body":""}]}}]"#,
        r#"42["select_song",{"sessionId":"s","songId":"1"}]"#,
    ] {
        world.say(ann, text);
    }
    world.pass(Micros::from_secs(10));
    for (name, fields, notices) in CASES {
        if name == "play" {
            world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
        }
        if world.shards[0].is_ticking() || name == "play" {
            world.say(ann, r#"42["seek",{"sessionId":"s","position":0}]"#);
            world.pass(MS(250));
        }
        for id in [ann, bob] {
            world.received(id);
        }
        world.say(ann, r#"428["sync_request",{"sessionId":"s"}]"#);
        let before =
            world.received(ann).iter().map(|text| version(text).to_owned()).next().unwrap();
        // At the same instant, so that the position is unchanged.
        world.say(ann, &format!(r#"427["{name}",{{"sessionId":"s"{fields}}}]"#));
        let mut answer = received(&mut world, ann);
        world.pass(MS(10));
        answer.extend(received(&mut world, ann));
        assert!(answer[0].starts_with(r#"437[{"ok":true,"epoch":"#), "{name}: {answer:?}");
        assert_eq!(version(&answer[0]), before, "{name}");
        let names: Vec<&str> =
            answer[1..].iter().map(|text| text.split('"').nth(1).unwrap()).collect();
        assert_eq!(names, notices, "{name}");
        assert_eq!(received(&mut world, bob), Vec::<String>::new(), "{name}");
        world.pass(Micros::from_secs(2) - MS(10));
    }
}

#[test]
fn a_follower_that_asks_to_follow_receives_its_role() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    world.say(bob, r#"427["set_role",{"sessionId":"s","role":"follower"}]"#);
    world.pass(MS(10));
    let answer = world.received(bob);
    assert!(answer[0].starts_with(r#"437[{"ok":true,"epoch":"#), "{answer:?}");
    assert!(answer[1].contains(r#""role":"follower","previousRole":"follower""#), "{answer:?}");
    assert!(answer[2].starts_with(r#"42["snapshot""#) && answer.len() == 3, "{answer:?}");
    assert_eq!(world.received(ann), Vec::<String>::new());
}

/// Within a window each change is sent to all members once. Its sender receives changes and answers
/// in order.
#[test]
fn an_answer_does_not_overtake_a_change() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    for text in ["play", "play", "pause", "pause"] {
        world.say(ann, &format!(r#"42["{text}",{{"sessionId":"s"}}]"#));
    }
    world.pass(MS(10));
    assert_eq!(world.events(ann), ["play", "play", "pause", "pause", "snapshot"]);
    assert_eq!(world.events(bob), ["play", "pause", "snapshot"]);
    for _ in 0..3 {
        world.say(ann, r#"42["pause",{"sessionId":"s"}]"#);
    }
    world.pass(MS(10));
    assert_eq!(world.events(ann), ["pause", "pause", "pause", "snapshot"]);
    assert_eq!(world.events(bob), Vec::<String>::new());
}
