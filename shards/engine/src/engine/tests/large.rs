//! Large sessions, in which joins and leaves are counted and not announced one by one.

use super::*;

const JOIN: &str = r#"42["join_session",{"sessionId":"s"}]"#;

/// Sessions of more than two are large.
fn world() -> World {
    let limits = Limits { members_listed_max: 2, ..settings().limits };
    World::new(Settings { limits, ..settings() })
}

fn newcomer(world: &mut World) -> ConnId {
    let id = world.client(0);
    world.say(id, JOIN);
    id
}

/// Returns the payloads of the events of this name that a connection received.
fn received(world: &mut World, id: ConnId, name: &str) -> Vec<serde_json::Value> {
    let messages = world.received(id);
    let events = messages.iter().filter_map(|message| message.strip_prefix("42"));
    let events = events.map(|event| serde_json::from_str::<serde_json::Value>(event).unwrap());
    events.filter(|event| event[0] == name).map(|event| event[1].clone()).collect()
}

#[test]
fn joins_within_a_second_are_counted_in_one_room_stats() {
    let mut world = world();
    let [first, second, third] = [(); 3].map(|()| newcomer(&mut world));
    world.pass(Micros::from_secs(2));
    for id in [first, second, third] {
        world.received(id);
    }
    for _ in 0..20 {
        newcomer(&mut world);
        world.pass(Micros::from_millis(100));
    }
    let counts = |stats: Vec<serde_json::Value>| -> Vec<u64> {
        stats.iter().map(|stats| stats["memberCount"].as_u64().unwrap()).collect()
    };
    assert_eq!(counts(received(&mut world, first, "room_stats")), [13, 23]);
    assert_eq!(
        received(&mut world, second, "user_joined"),
        [(); 0].map(|()| serde_json::Value::Null)
    );
    world.pass(Micros::from_secs(60));
    assert_eq!(
        counts(received(&mut world, third, "room_stats")),
        [13, 23],
        "no change, no statistics"
    );
}

#[test]
fn a_large_session_s_snapshot_has_a_member_count_and_a_bounded_size() {
    let mut world = world();
    let mut named = Vec::new();
    for count in 1..=20 {
        let id = newcomer(&mut world);
        let snapshot = received(&mut world, id, "snapshot").remove(0);
        named.push(snapshot["members"].as_array().unwrap().len());
        let member_count = snapshot.get("memberCount").map(|count| count.as_u64().unwrap());
        assert_eq!(member_count, (count > 2).then_some(count));
    }
    assert_eq!(named, [[1, 2].as_slice(), &[1; 18]].concat());
}
