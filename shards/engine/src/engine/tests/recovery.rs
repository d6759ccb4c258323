//! Members that lose their connection and recover their seat.

use super::*;

fn recovering() -> Settings {
    Settings {
        transports: Transports {
            polling: false,
            version_3: Version3::Off,
            compression: None,
            recovery: Micros::from_secs(120),
        },
        ..settings()
    }
}

/// The values that a client keeps for its recovery.
#[derive(Clone, Debug, Default)]
struct Client {
    sid: String,
    pid: String,
    offset: String,
}

impl Client {
    /// Keeps the ids of a connect and the offset of an event, as `socket.io-client` does.
    fn notes(&mut self, received: &[String]) {
        for message in received {
            if let Some(packet) = message.strip_prefix("40") {
                let packet: serde_json::Value = serde_json::from_str(packet).unwrap();
                self.sid = packet["sid"].as_str().unwrap().into();
                self.pid = packet["pid"].as_str().unwrap().into();
            } else if let Some(event) = message.strip_prefix("42") {
                let event: Vec<serde_json::Value> = serde_json::from_str(event).unwrap();
                if let Some(offset) = event.last().unwrap().as_str() {
                    self.offset = offset.into();
                }
            }
        }
    }

    fn connect(&self) -> String {
        format!(r#"40{{"pid":"{}","offset":"{}"}}"#, self.pid, self.offset)
    }
}

/// A leader and a follower in session `s`, and the values that their clients keep.
fn noting_duo(world: &mut World) -> [(ConnId, Client); 2] {
    let last = world.shards.len() - 1;
    let duo = [(0, "Ann"), (last, "Bob")].map(|(shard, name)| {
        let id = world.open(shard);
        world.bytes(id, UPGRADE);
        world.say(id, "40");
        world.say(id, &join("s", name));
        (id, Client::default())
    });
    world.pass(MS(10));
    duo.map(|(id, mut client)| {
        client.notes(&world.received(id));
        (id, client)
    })
}

fn lose(world: &mut World, id: ConnId) {
    let (shard, conn) = world.places[&id];
    world.input(shard, Input::Closed { conn, cause: CloseCause::Failed });
    world.places.remove(&id);
    world.pass(MS(10));
}

/// Opens a connection and connects with the values that the client kept.
fn come_back(world: &mut World, shard: usize, client: &mut Client) -> (ConnId, Vec<String>) {
    let id = world.open(shard);
    world.bytes(id, UPGRADE);
    world.say(id, &client.connect());
    let mut received = world.received(id);
    assert!(received.remove(0).starts_with("0{"));
    client.notes(&received);
    (id, received)
}

fn chat(world: &mut World, from: ConnId, text: &str) {
    world.say(from, &format!(r#"42["chat_message",{{"sessionId":"s","message":"{text}"}}]"#));
    world.pass(MS(10));
}

/// Returns the names of events, and `connected` for a connect.
fn names(received: &[String]) -> Vec<&str> {
    let name = |message: &'_ String| -> &'static str {
        match message {
            m if m.starts_with("40{") => "connected",
            m if m.starts_with(r#"42["chat_message""#) => "chat_message",
            m if m.starts_with(r#"42["user_left""#) => "user_left",
            m if m.starts_with(r#"42["user_joined""#) => "user_joined",
            m if m.starts_with(r#"42["snapshot""#) => "snapshot",
            m if m.starts_with(r#"42["room_stats""#) => "room_stats",
            other => panic!("{other}"),
        }
    };
    received.iter().map(name).collect()
}

#[test]
fn a_recovered_member_keeps_its_id_and_receives_missed_events_in_order() {
    for shards in [1, 4] {
        for shard in 0..usize::from(shards) {
            let mut world = World::new(Settings { shards, ..recovering() });
            let [(ann, _), (bob, mut client)] = noting_duo(&mut world);
            let before = client.clone();
            lose(&mut world, bob);
            chat(&mut world, ann, "one");
            chat(&mut world, ann, "two");
            assert_eq!(
                names(&world.received(ann)),
                ["user_left", "room_stats", "chat_message", "chat_message"],
                "the others receive that it left"
            );
            let (bob, received) = come_back(&mut world, shard, &mut client);
            // It does not receive its own `user_left`.
            assert_eq!(names(&received), ["chat_message", "chat_message", "connected", "snapshot"]);
            assert!(received[0].contains("one") && received[1].contains("two"), "{received:?}");
            assert_eq!((&client.sid, &client.pid), (&before.sid, &before.pid));

            world.pass(MS(10));
            assert_eq!(names(&world.received(ann)), ["user_joined", "room_stats"]);
            assert_eq!(
                names(&world.received(bob)),
                ["user_joined", "room_stats"],
                "nothing is sent twice"
            );
            chat(&mut world, bob, "three");
            let received = world.received(ann);
            assert!(received[0].contains(&before.sid), "it sends under its old id: {received:?}");
        }
    }
}

#[test]
fn events_in_flight_during_a_disconnect_are_sent_again() {
    let mut world = World::new(recovering());
    let [(ann, _), (bob, mut client)] = noting_duo(&mut world);
    chat(&mut world, ann, "lost on the way");
    // The client never reads these messages.
    world.received(bob);
    lose(&mut world, bob);
    let (_, received) = come_back(&mut world, 0, &mut client);
    assert_eq!(names(&received), ["chat_message", "connected", "snapshot"]);
}

#[test]
fn a_recovered_member_receives_the_newest_version_after_a_lead_change() {
    let mut world = World::new(recovering());
    let [(ann, _), (bob, mut client)] = noting_duo(&mut world);
    lose(&mut world, bob);
    world.say(ann, r#"42["leave_session",{"sessionId":"s"}]"#);
    world.pass(MS(10));
    let cid = world.open(0);
    world.bytes(cid, UPGRADE);
    world.say(cid, "40");
    world.say(cid, &join("s", "Cid"));
    world.pass(MS(10));
    let version = |received: &[String]| {
        let newest =
            received.iter().rfind(|message| message.starts_with("42[\"snapshot\"")).unwrap();
        newest.split_once(r#""version":"#).unwrap().1.split_once(',').unwrap().0.to_owned()
    };
    let newest = version(&world.received(cid));
    let (_, received) = come_back(&mut world, 0, &mut client);
    assert_eq!(version(&received), newest);
}

#[test]
fn a_recovered_member_must_show_a_changed_pin() {
    for (changed, code) in [(false, None), (true, Some("not_allowed"))] {
        let mut world = World::new(recovering());
        let join = |name: &str| {
            format!(
                r#"42["join_session",{{"sessionId":"s","displayName":"{name}","leaderPin":"1111"}}]"#
            )
        };
        let [ann, bob] = ["Ann", "Bob"].map(|name| {
            let id = world.open(0);
            world.bytes(id, UPGRADE);
            world.say(id, "40");
            world.say(id, &join(name));
            id
        });
        world.pass(MS(10));
        let mut client = Client::default();
        client.notes(&world.received(bob));
        lose(&mut world, bob);
        if changed {
            world.say(ann, r#"42["update_settings",{"sessionId":"s","leaderPin":"2222"}]"#);
        }
        let (bob, _) = come_back(&mut world, 0, &mut client);
        world.pass(MS(10));
        world.received(bob);
        world.say(bob, r#"421["set_role",{"sessionId":"s","role":"leader"}]"#);
        let received = world.received(bob);
        let ack = received.iter().find_map(|message| message.strip_prefix("431")).unwrap();
        let ack: serde_json::Value = serde_json::from_str(ack).unwrap();
        assert_eq!(ack[0]["error"]["code"].as_str(), code, "{ack}");
    }
}

#[test]
fn a_second_use_of_a_pid_moves_the_seat_to_the_newer_connection() {
    let mut world = World::new(recovering());
    let [_, (bob, mut client)] = noting_duo(&mut world);
    lose(&mut world, bob);
    let (bob, _) = come_back(&mut world, 0, &mut client);
    lose(&mut world, bob);
    let mut thief = client.clone();
    come_back(&mut world, 0, &mut client);
    let sid = thief.sid.clone();
    // A connection may fail silently, so a newer one with the pid takes the seat over, even while
    // the older one is open.
    let (_, received) = come_back(&mut world, 0, &mut thief);
    assert_eq!((names(&received).last(), thief.sid == sid), (Some(&"snapshot"), true));
    world.pass(MS(10));
    assert_eq!(world.shards[0].counters().members, 2, "no member has two seats");
}

#[test]
fn a_member_that_left_on_purpose_does_not_recover() {
    for goodbye in ["41", r#"42["leave_session",{"sessionId":"s"}]"#] {
        let mut world = World::new(recovering());
        let [_, (bob, mut client)] = noting_duo(&mut world);
        let before = client.clone();
        world.say(bob, goodbye);
        lose(&mut world, bob);
        let (_, received) = come_back(&mut world, 0, &mut client);
        assert_eq!(names(&received), ["connected"], "after {goodbye}");
        assert!(client.sid != before.sid && client.pid != before.pid);
    }
}

#[test]
fn an_invalid_pid_or_offset_does_not_recover() {
    let mut world = World::new(Settings { shards: 2, ..recovering() });
    let [_, (bob, client)] = noting_duo(&mut world);
    lose(&mut world, bob);
    let ahead = client.offset.rsplit_once('.').unwrap().0.to_owned() + ".999";
    for (what, pid, offset) in [
        ("an unknown pid", "AAAAAAAAAAAAAAAAAAAA", &*client.offset),
        ("a malformed pid", "x", &*client.offset),
        ("a malformed offset", &*client.pid, "Q84k5cT"),
        ("an unknown shard", &*client.pid, "7.0.0.1"),
        ("an unknown session", &*client.pid, "0.9.9.1"),
        ("an event that was not sent yet", &*client.pid, &*ahead),
    ] {
        let mut pretender = Client { pid: pid.into(), offset: offset.into(), ..client.clone() };
        let (_, received) = come_back(&mut world, 0, &mut pretender);
        assert_eq!(names(&received), ["connected"], "{what}");
        assert!(pretender.sid != client.sid && pretender.pid != client.pid, "{what}");
    }
}

#[test]
fn a_seat_is_kept_for_two_minutes() {
    for (seconds, comes_back) in [(119, true), (121, false)] {
        let mut world = World::new(recovering());
        let [_, (bob, mut client)] = noting_duo(&mut world);
        let before = client.clone();
        lose(&mut world, bob);
        world.pass(Micros::from_secs(seconds));
        come_back(&mut world, 0, &mut client);
        assert_eq!(client.sid == before.sid, comes_back, "after {seconds} s");
    }
}

#[test]
fn a_member_that_missed_more_than_is_kept_does_not_recover() {
    let limits = Limits { recovery_bytes_max: 2_048, ..Limits::PRODUCTION };
    let mut world = World::new(Settings { limits, ..recovering() });
    let [(ann, _), (bob, mut client)] = noting_duo(&mut world);
    let before = client.clone();
    lose(&mut world, bob);
    for _ in 0..10 {
        chat(&mut world, ann, &"x".repeat(400));
    }
    let (_, received) = come_back(&mut world, 0, &mut client);
    assert_eq!(names(&received), ["connected"]);
    assert_ne!(client.sid, before.sid);
}

#[test]
fn a_recovered_leader_leads_again_unless_it_was_replaced() {
    for (seconds, role) in [(9, "leader"), (11, "follower")] {
        let mut world = World::new(recovering());
        let [(ann, mut client), (bob, _)] = noting_duo(&mut world);
        lose(&mut world, ann);
        world.pass(Micros::from_secs(seconds));
        world.received(bob);
        let (ann, received) = come_back(&mut world, 0, &mut client);
        assert!(received.iter().any(|message| message.starts_with("40{")), "{received:?}");
        world.say(ann, r#"421["play",{"sessionId":"s"}]"#);
        let received = world.received(ann);
        let ok = received.iter().any(|message| message.starts_with(r#"431[{"ok":true"#));
        assert_eq!(ok, role == "leader", "{received:?}");
    }
    // Without another member the lead is not given away.
    let mut world = World::new(recovering());
    let [(ann, mut client), (bob, _)] = noting_duo(&mut world);
    world.say(bob, r#"42["leave_session",{"sessionId":"s"}]"#);
    world.pass(MS(10));
    client.notes(&world.received(ann));
    lose(&mut world, ann);
    world.pass(Micros::from_secs(60));
    let (ann, _) = come_back(&mut world, 0, &mut client);
    world.say(ann, r#"421["play",{"sessionId":"s"}]"#);
    let received = world.received(ann);
    assert!(
        received.iter().any(|message| message.starts_with(r#"431[{"ok":true"#)),
        "{received:?}"
    );
}

#[test]
fn only_replayable_events_carry_an_offset() {
    let mut world = World::new(recovering());
    let [(ann, _), (bob, _)] = noting_duo(&mut world);
    world.say(ann, r#"421["play",{"sessionId":"s"}]"#);
    world.say(bob, r#"42["latency_probe",{"timestamp":1}]"#);
    world.say(bob, r#"42["sync_request",{"sessionId":"s"}]"#);
    world.pass(Micros::from_secs(6));
    let received = [world.received(ann), world.received(bob)].concat();
    let mut seen = 0;
    for message in received.iter().filter(|message| message.starts_with("42")) {
        let event: Vec<serde_json::Value> = serde_json::from_str(&message[2..]).unwrap();
        let lasts = ["play", "snapshot"].contains(&event[0].as_str().unwrap());
        assert_eq!(event.len(), if lasts { 3 } else { 2 }, "{message}");
        seen += usize::from(lasts);
    }
    assert!(
        seen >= 4 && received.iter().any(|m| m.starts_with("42[\"scroll_tick\"")),
        "{received:?}"
    );
    assert!(
        received.iter().any(|m| m.starts_with("431[{") && m.ends_with("}]")),
        "an acknowledgement has no offset"
    );
}

#[test]
fn kept_events_and_the_empty_session_expire() {
    let mut world = World::new(recovering());
    for (id, _) in noting_duo(&mut world) {
        lose(&mut world, id);
    }
    world.pass(Micros::from_secs(300));
    assert_eq!(world.shards[0].counters().sessions, 1);
    assert_eq!(world.shards[0].resources.replay_bytes, 0);
    world.pass(Limits::PRODUCTION.empty_session_ttl);
    assert_eq!(world.shards[0].next_deadline(), None);
}

#[test]
fn kept_events_expire_in_an_inactive_session() {
    let mut world = World::new(Settings { heartbeat_interval: HOUR, ..recovering() });
    let ann = world.client(0);
    world.say(ann, &join("s", "Ann"));
    world.pass(MS(10));
    assert!(world.shards[0].resources.replay_bytes > 0);
    world.pass(Micros::from_secs(300));
    assert_eq!(world.shards[0].resources.replay_bytes, 0);
}

#[test]
fn low_memory_drops_kept_events_but_keeps_recoverable_sessions() {
    let mut world = World::new(recovering());
    let [(ann, mut client), (bob, _)] = noting_duo(&mut world);
    client.notes(&world.received(ann));
    assert!(world.shards[0].counters().recovery_bytes > 0);
    for id in [ann, bob] {
        let (shard, conn) = world.places[&id];
        world.input(shard, Input::Closed { conn, cause: CloseCause::Failed });
    }
    world.pass(Micros::from_millis(10));
    world.input(0, Input::Memory(FreeMemory::Low));
    world.turn();
    let counters = world.shards[0].counters();
    assert_eq!((counters.recovery_bytes, counters.sessions), (0, 1));
    assert!(counters.recovery_bytes_shed > 0);
    world.pass(Micros::from_secs(121));
    world.input(0, Input::Memory(FreeMemory::Low));
    assert_eq!(world.shards[0].counters().sessions, 0);
}

/// Fault 30: a leader's commands reach the server, but the answers are lost. The leader sends all
/// commands again, in any order: after a recovery, and as a new member.
#[test]
fn commands_retried_after_a_reconnect_are_applied_once() {
    let setlist = r#"{"title":"","songs":[{"id":"a","title":"A","format":"text","body":""},{"id":"b","title":"B","format":"text","body":""},{"id":"c","title":"C","format":"text","body":""}]}"#;
    let say = |number: u64, event: &str, fields: &str| {
        format!(r#"42{number}["{event}",{{"sessionId":"s","commandId":"phone-{number}"{fields}}}]"#)
    };
    let commands = [
        say(1, "select_song", r#","step":1"#),
        say(2, "play", ""),
        say(3, "seek", r#","position":7000"#),
        say(4, "chat_message", r#","message":"next""#),
        say(5, "pause", ""),
    ];
    let s = SessionId::parse("s").unwrap();
    for keeps_seat in [true, false] {
        let mut world = World::new(recovering());
        let [(ann, mut client), (bob, _)] = noting_duo(&mut world);
        world.say(ann, &format!(r#"42["set_setlist",{{"sessionId":"s","setlist":{setlist}}}]"#));
        world.say(ann, r#"42["select_song",{"sessionId":"s","songId":"a"}]"#);
        for command in &commands {
            world.say(ann, command);
        }
        world.pass(MS(10));
        world.received(bob);
        lose(&mut world, ann);
        if !keeps_seat {
            client.pid = "A".repeat(20);
        }
        let (again, _) = come_back(&mut world, 0, &mut client);
        if !keeps_seat {
            world.say(again, &join("s", "Ann"));
        }
        world.pass(MS(10));
        world.received(again);
        let version = world.shards[0].session(&s).unwrap().version();
        for number in [3, 1, 5, 2, 4, 5] {
            world.say(again, &commands[number - 1]);
        }
        world.pass(MS(10));
        let acks: Vec<String> =
            world.received(again).into_iter().filter(|text| text.starts_with("43")).collect();
        assert!(
            acks.len() == 6 && acks.iter().all(|ack| ack.contains(r#""repeated":true"#)),
            "keeps its seat: {keeps_seat}; {acks:?}"
        );
        let received = world.received(bob).join("\n");
        assert!(
            !received.contains("chat_message") && !received.contains("song_changed"),
            "{received}"
        );
        let session = world.shards[0].session(&s).unwrap();
        assert_eq!(session.version(), version, "no command was applied again");
        // Later commands are applied, and so is another client's command with the same number.
        for next in
            [say(6, "play", ""), say(7, "pause", ""), say(1, "play", "").replace("phone", "pedal")]
        {
            world.say(again, &next);
        }
        world.pass(MS(10));
        let acks = world.received(again).into_iter().filter(|text| text.starts_with("43"));
        let rejected = if keeps_seat { "" } else { "not_leader" };
        for ack in acks {
            assert!(!ack.contains("repeated") && ack.contains(rejected), "{ack}");
        }
    }
}

/// A member that sends commands under many client names evicts only its own entries.
#[test]
fn a_member_cannot_evict_the_commands_of_others() {
    let mut world = World::new(settings());
    let (ann, eve) = (world.client(0), world.client(0));
    for (conn, name) in [(ann, "Ann"), (eve, "Eve")] {
        world.say(conn, &join("s", name));
    }
    let chat = |client: &str| {
        format!(
            r#"427["chat_message",{{"sessionId":"s","message":"hi","commandId":"{client}-1"}}]"#
        )
    };
    let send = |world: &mut World, conn, client: &str| {
        world.say(conn, &chat(client));
        let received = world.received(conn);
        received.into_iter().find(|message| message.starts_with("437")).unwrap()
    };
    assert!(!send(&mut world, ann, "ann").contains("repeated"));
    for client in 0..300 {
        let ack = send(&mut world, eve, &format!("eve{client}"));
        assert!(ack.contains(r#""ok":true"#) && !ack.contains("repeated"), "{ack}");
        world.pass(Micros::from_secs(1));
    }
    assert!(send(&mut world, ann, "ann").contains(r#""repeated":true"#));
    assert!(
        send(&mut world, eve, "eve296").contains(r#""repeated":true"#),
        "the member's last four are remembered"
    );
}

/// A rejected member may try again, because nothing was applied.
#[test]
fn a_rejected_command_is_applied_when_retried() {
    let mut world = World::new(recovering());
    let [(ann, _), (bob, _)] = noting_duo(&mut world);
    let play = r#"421["play",{"sessionId":"s","commandId":"b-1"}]"#;
    world.say(bob, play);
    let s = SessionId::parse("s").unwrap();
    let bob_id = world.shards[0].session(&s).unwrap().members().nth(1).unwrap().id;
    world.say(
        ann,
        &format!(
            r#"42["set_role",{{"sessionId":"s","role":"leader","memberId":"{}"}}]"#,
            bob_id.as_str()
        ),
    );
    world.say(bob, play);
    world.say(bob, play);
    world.pass(MS(10));
    let acks: Vec<String> =
        world.received(bob).into_iter().filter(|text| text.starts_with("431")).collect();
    let found = ["not_leader", r#""ok":true,"epoch""#, "repeated"]
        .map(|part| acks.iter().position(|ack| ack.contains(part)));
    assert_eq!(found, [Some(0), Some(1), Some(2)], "{acks:?}");
}

#[test]
fn a_replayed_user_joined_has_the_same_bytes() {
    let mut world = World::new(recovering());
    let [(ann, _), (bob, mut client)] = noting_duo(&mut world);
    lose(&mut world, bob);
    world.received(ann);
    let cyd = world.open(0);
    world.bytes(cyd, UPGRADE);
    world.say(cyd, "40");
    world.say(
        cyd,
        r#"42["join_session",{"sessionId":"s","displayName":"Cyd \"Ö\" \\","instrument":"tuba"}]"#,
    );
    world.pass(MS(10));
    let joins = |received: Vec<String>| {
        let joined = received
            .into_iter()
            .filter(|text| text.contains("user_joined") && text.contains("tuba"));
        joined.collect::<Vec<_>>()
    };
    let there = joins(world.received(ann));
    let (_, received) = come_back(&mut world, 0, &mut client);
    assert_eq!((there.len(), joins(received)), (1, there));
}
