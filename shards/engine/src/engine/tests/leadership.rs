//! The lead after network failures and with concurrent requests, under the engine's clock.
use super::*;

/// Joins session `s`. Returns the connection and the member's id.
fn member(world: &mut World, shard: usize, name: &str) -> (ConnId, String) {
    let conn = world.open(shard);
    world.bytes(conn, UPGRADE);
    world.say(conn, "40");
    let connect = world.received(conn).pop().unwrap();
    let id = connect.split('"').nth(3).unwrap().to_owned();
    world.say(conn, &join("s", name));
    (conn, id)
}

fn three(world: &mut World) -> [(ConnId, String); 3] {
    let band = ["Ann", "Bob", "Cyd"].map(|name| member(world, 0, name));
    world.pass(Micros::from_millis(10));
    for (conn, _) in &band {
        world.received(*conn);
    }
    band
}

fn lose(world: &mut World, conn: ConnId) {
    let (shard, place) = world.places[&conn];
    world.input(shard, Input::Closed { conn: place, cause: CloseCause::Failed });
}

fn claims(world: &mut World, conn: ConnId, ack: u32) {
    world.say(conn, &format!(r#"42{ack}["set_role",{{"sessionId":"s","role":"leader"}}]"#));
}

#[test]
fn ticks_continue_without_a_gap_while_a_lost_leader_is_replaced() {
    let mut settings = settings();
    settings.heartbeat_interval = HOUR;
    let mut world = World::new(settings);
    let [(ann, _), (bob, bob_id), (cyd, _)] = three(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(Micros::from_secs(1));
    lose(&mut world, ann);
    world.pass(Micros::from_secs(15));
    let received = world.received(cyd).join("\n");
    assert!(
        received.contains("leader_disconnected")
            && received.contains(&format!("\"leaderSocketId\":\"{bob_id}\""))
    );
    for text in [received, world.received(bob).join("\n")] {
        let ticks: Vec<f64> = text
            .lines()
            .filter(|line| line.starts_with("42[\"scroll_tick\""))
            .filter_map(|line| {
                line.split("\"positionMs\":").nth(1)?.split(',').next()?.parse().ok()
            })
            .collect();
        assert_eq!(ticks.len(), 16_000 / 16);
        assert!(
            ticks.windows(2).all(|pair| (pair[1] - pair[0] - 16.0).abs() < 1e-6),
            "a gap in {ticks:?}"
        );
    }
}

#[test]
fn the_first_of_two_claims_in_one_window_wins_and_both_are_answered() {
    let mut world = World::new(settings());
    let [(ann, _), (bob, bob_id), (cyd, _)] = three(&mut world);
    claims(&mut world, bob, 1);
    claims(&mut world, cyd, 2);
    world.pass(Micros::from_millis(20));
    let (won, lost) = (world.received(bob).join("\n"), world.received(cyd).join("\n"));
    assert!(won.starts_with("431[{\"ok\":true"), "{won}");
    assert!(lost.starts_with("432[{\"ok\":false,\"error\":{\"code\":\"not_allowed\""), "{lost}");
    for messages in [won, lost, world.received(ann).join("\n")] {
        let snapshots: Vec<&str> =
            messages.lines().filter(|line| line.contains("\"leaderSocketId\"")).collect();
        assert_eq!(snapshots.len(), 1, "one window, one snapshot: {messages}");
        assert!(snapshots[0].contains(&format!("\"leaderSocketId\":\"{bob_id}\"")));
    }
    claims(&mut world, cyd, 3);
    assert!(world.received(cyd)[0].starts_with("433[{\"ok\":true"), "a later claim is a new one");
}

#[test]
fn a_former_leader_s_late_command_is_rejected() {
    let mut world = World::new(settings());
    let [(ann, _), (bob, _), _] = three(&mut world);
    claims(&mut world, bob, 1);
    world.say(ann, r#"427["seek",{"sessionId":"s","position":5000}]"#);
    let received = world.received(ann);
    assert!(received[0].contains("\"code\":\"not_leader\""), "{received:?}");
}
