//! Long-polling, the upgrade to a WebSocket, and clients of version 3.

use super::*;
use crate::words::policy::PeerLimits;

fn polling() -> Settings {
    let transports =
        Transports { compression: None, recovery: Micros::ZERO, ..Transports::default() };
    Settings { transports, ..settings() }
}

/// A long-polling client. Each request may arrive at another shard.
struct Poller {
    version: u8,
    sid: String,
}

impl Poller {
    fn new(world: &mut World, shard: usize, version: u8) -> (Self, String) {
        let id = world.open(shard);
        let head = format!(
            "GET /socket.io/?EIO={version}&transport=polling&t=x HTTP/1.1\r\nHost: x\r\n\r\n"
        );
        world.bytes(id, head.as_bytes());
        let (status, body) = answer(world, id).unwrap();
        assert_eq!(status, 200, "{body}");
        let sid = body.split_once(r#""sid":""#).unwrap().1.split_once('"').unwrap().0.to_owned();
        (Self { version, sid }, body)
    }

    fn path(&self, transport: &str) -> String {
        format!("/socket.io/?EIO={}&transport={transport}&sid={}", self.version, self.sid)
    }

    fn get(&self, world: &mut World, shard: usize) -> ConnId {
        let id = world.open(shard);
        let head = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", self.path("polling"));
        world.bytes(id, head.as_bytes());
        id
    }

    fn post(&self, world: &mut World, shard: usize, body: &str) -> (u16, String) {
        let id = world.open(shard);
        let (path, length) = (self.path("polling"), body.len());
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        world.bytes(id, head.as_bytes());
        // In two pieces.
        let (first, second) = body.as_bytes().split_at(length / 2);
        world.bytes(id, first);
        world.bytes(id, second);
        world.turn();
        answer(world, id).unwrap()
    }

    /// Sends a request whose body lacks `missing` bytes.
    fn begin_post(&self, world: &mut World, shard: usize, body: &str, missing: usize) -> ConnId {
        let id = world.open(shard);
        let (path, length) = (self.path("polling"), body.len() + missing);
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
        world.bytes(id, head.as_bytes());
        id
    }

    /// Polls until a request waits. Returns the bodies and that request.
    fn listen(&self, world: &mut World, shard: usize) -> (String, ConnId) {
        let mut received = String::new();
        loop {
            let id = self.get(world, shard);
            world.turn();
            match answer(world, id) {
                Some((_, body)) => received += &body,
                None => return (received, id),
            }
        }
    }

    /// Polls and lets time pass until a poll waits. Returns the packets.
    fn fetch(&self, world: &mut World, shard: usize) -> Vec<String> {
        let mut received = Vec::new();
        for _ in 0..20 {
            let id = self.get(world, shard);
            world.pass(MS(10));
            world.turn();
            match answer(world, id) {
                Some((200, body)) if self.version == 4 => {
                    received.extend(body.split('\u{1e}').map(str::to_owned));
                }
                Some((200, body)) => received.push(body),
                Some(other) => panic!("{other:?}"),
                // The waiting poll is answered, so that the test can poll again.
                None => {
                    self.post(world, shard, if self.version == 4 { "3" } else { "1:2" });
                    received.extend(drain(world, id));
                    return received;
                }
            }
        }
        received
    }
}

/// Lets time pass, and returns the body of a waiting request if it was answered.
fn drain(world: &mut World, id: ConnId) -> Option<String> {
    world.pass(MS(10));
    answer(world, id).map(|(_, body)| body)
}

/// Takes the answer sent on a connection: its status and body.
fn answer(world: &mut World, id: ConnId) -> Option<(u16, String)> {
    let sent = String::from_utf8(world.sent.remove(&id)?).unwrap();
    let (head, body) = sent.split_once("\r\n\r\n").unwrap();
    let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    assert_eq!(body.len(), length.parse::<usize>().unwrap());
    Some((status, body.to_owned()))
}

/// Opens a WebSocket to which the poller may upgrade.
fn candidate(world: &mut World, poller: &Poller, shard: usize) -> ConnId {
    let id = world.open(shard);
    let upgrade = String::from_utf8(UPGRADE.to_vec()).unwrap();
    let head = upgrade.replace("/socket.io/?EIO=4&transport=websocket", &poller.path("websocket"));
    world.bytes(id, head.as_bytes());
    id
}

fn texts(body: &str) -> Vec<&str> {
    body.split('\u{1e}').collect()
}

#[test]
fn a_member_can_poll_through_any_shard() {
    for shards in [1_u16, 4] {
        let mut world = World::new(Settings { shards, ..polling() });
        let last = usize::from(shards) - 1;
        let ann = world.client(0);
        world.say(ann, &join("s", "Ann"));
        let (bob, opened) = Poller::new(&mut world, last, 4);
        assert!(
            opened.ends_with(
                r#""upgrades":["websocket"],"pingInterval":3600000,"pingTimeout":5000,"maxPayload":1000000}"#
            ),
            "{opened}"
        );
        assert_eq!(bob.post(&mut world, 0, "40"), (200, "ok".into()));
        let waiting = bob.get(&mut world, last / 2);
        let (status, body) = answer(&mut world, waiting).unwrap();
        assert!(status == 200 && body.starts_with("40{\"sid\":"), "{body}");

        // One body with several packets. The first joins, which moves the client to another shard.
        let waiting = bob.get(&mut world, 0);
        assert_eq!(answer(&mut world, waiting), None, "no packet is queued");
        let burst = [
            &join("s", "Bob"),
            r#"421["chat_message",{"sessionId":"s","message":"one"}]"#,
            r#"422["latency_probe",{"timestamp":1}]"#,
        ];
        assert_eq!(bob.post(&mut world, last, &burst.join("\u{1e}")), (200, "ok".into()));
        world.pass(MS(10));
        let mut received: Vec<String> = Vec::new();
        for shard in 0..=last {
            if let Some((200, body)) = answer(&mut world, waiting) {
                received.extend(texts(&body).into_iter().map(str::to_owned));
            }
            let next = bob.get(&mut world, shard);
            world.turn();
            if let Some((200, body)) = answer(&mut world, next) {
                received.extend(texts(&body).into_iter().map(str::to_owned));
            } else {
                break;
            }
        }
        assert!(received.iter().any(|m| m.starts_with(r#"42["snapshot""#)), "{received:?}");
        assert!(received.iter().any(|m| m.starts_with("431[{\"ok\":true")), "{received:?}");
        assert!(received.iter().any(|m| m.starts_with(r#"42["chat_message""#)), "{received:?}");
        world.pass(MS(10));
        assert!(world.events(ann).contains(&"chat_message".to_owned()));
    }
}

#[test]
fn a_poller_upgrades_to_a_websocket_without_missing_messages() {
    for shards in [1_u16, 4] {
        let mut world = World::new(Settings { shards, ..polling() });
        let last = usize::from(shards) - 1;
        let (bob, _) = Poller::new(&mut world, last, 4);
        bob.post(&mut world, last, "40");
        bob.post(&mut world, 0, &join("s", "Bob"));
        world.pass(MS(10));
        let first = bob.get(&mut world, 0);
        let waiting = bob.get(&mut world, 0);
        assert!(
            answer(&mut world, first).unwrap().1.contains("snapshot")
                && answer(&mut world, waiting).is_none()
        );

        let socket = candidate(&mut world, &bob, last);
        world.say(socket, "2probe");
        assert_eq!(world.received(socket), ["3probe"], "and no open packet");
        world.turn();
        assert_eq!(answer(&mut world, waiting), Some((200, "6".into())));
        // Sent between the probe and the upgrade.
        assert_eq!(bob.post(&mut world, 0, r#"421["play",{"sessionId":"s"}]"#), (200, "ok".into()));
        world.say(socket, "5");
        world.pass(MS(50));
        let received = world.received(socket);
        assert!(received[0].starts_with("431[{\"ok\":true"), "{received:?}");
        assert!(received.iter().any(|m| m.starts_with(r#"42["scroll_tick""#)), "{received:?}");

        let late = bob.get(&mut world, 0);
        let (status, body) = answer(&mut world, late).unwrap();
        assert!(status == 400 && body.contains(r#""code":"#), "{body}");
        world.say(socket, r#"422["latency_probe",{"timestamp":1}]"#);
        assert!(world.received(socket).iter().any(|m| m.starts_with("432[")));
        let members: u32 = world.shards.iter().map(|shard| shard.counters().members).sum();
        assert_eq!(members, 1);
    }
}

#[test]
fn an_upgrading_websocket_follows_its_client_to_another_shard() {
    let home = usize::from(SessionId::parse("s").unwrap().shard(4).0);
    for shard in 0..4 {
        for probes_first in [true, false] {
            let mut world = World::new(Settings { shards: 4, ..polling() });
            let (bob, _) = Poller::new(&mut world, shard, 4);
            bob.post(&mut world, shard, "40");
            let connected = bob.get(&mut world, shard);
            answer(&mut world, connected).unwrap();
            let waiting = bob.get(&mut world, 3 - shard);
            let socket = candidate(&mut world, &bob, 3 - shard);
            if probes_first {
                world.say(socket, "2probe");
            }
            bob.post(&mut world, shard, &join("s", "Bob"));
            if !probes_first {
                world.say(socket, "2probe");
            }
            world.turn();
            let mut both = masked("5");
            both.extend(masked(r#"421["latency_probe",{"timestamp":1}]"#));
            world.bytes(socket, &both);
            world.pass(MS(10));
            let mut received = world.received(socket);
            received.extend(answer(&mut world, waiting).map(|(_, body)| body));
            for start in ["3probe", "431[", r#"42["user_joined""#] {
                assert!(
                    received.iter().any(|m| m.contains(start)),
                    "{shard} to {home}, {start}: {received:?}"
                );
            }
            assert_eq!(world.shards[home].counters().members, 1);
        }
    }
}

#[test]
fn a_misbehaving_upgrade_closes_only_its_own_websocket() {
    let mut world = World::new(polling());
    let (bob, _) = Poller::new(&mut world, 0, 4);
    for says in ["5", "2", "40", "3probe"] {
        let socket = candidate(&mut world, &bob, 0);
        world.say(socket, says);
        assert_eq!(world.received(socket), ["close"], "{says}");
        assert_eq!(world.closed.get(&socket), Some(&Close::Gently));
    }
    let silent = candidate(&mut world, &bob, 0);
    world.say(silent, "2probe");
    world.pass(Micros::from_secs(11));
    assert_eq!(world.received(silent), ["3probe", "close"]);
    // The client stays connected, and can poll again.
    assert_eq!(bob.post(&mut world, 0, "40").0, 200);
    let waiting = bob.get(&mut world, 0);
    assert!(answer(&mut world, waiting).unwrap().1.starts_with("40{"));
    let waiting = bob.get(&mut world, 0);
    assert_eq!(answer(&mut world, waiting), None);

    // After the upgrade another WebSocket is accepted and closed at once.
    let socket = candidate(&mut world, &bob, 0);
    world.say(socket, "2probe");
    world.say(socket, "5");
    let second = candidate(&mut world, &bob, 0);
    assert_eq!(world.received(second), ["close"]);
    assert!(world.places.contains_key(&socket));
}

#[test]
fn a_goodbye_a_violation_or_an_abandoned_poll_closes_a_polling_client() {
    type End = fn(&mut World, &Poller) -> Vec<(u16, String)>;
    type Answers = &'static [(u16, &'static str)];
    let ends: [(&str, End, Answers); 4] = [
        (
            "a close packet",
            |world, bob| {
                let waiting = bob.get(world, 0);
                let posted = bob.post(world, 0, "1");
                vec![answer(world, waiting).unwrap(), posted]
            },
            &[(200, "6"), (200, "ok")],
        ),
        (
            "two requests at once",
            |world, bob| {
                let (first, second) = (bob.get(world, 0), bob.get(world, 0));
                world.turn();
                vec![answer(world, first).unwrap(), answer(world, second).unwrap()]
            },
            &[(200, "1"), (400, r#"{"code":3,"message":"Bad request"}"#)],
        ),
        (
            "no packet",
            |world, bob| vec![bob.post(world, 0, "abc")],
            &[(400, r#"{"code":3,"message":"Bad request"}"#)],
        ),
        (
            "an abandoned request",
            |world, bob| {
                let waiting = bob.get(world, 0);
                let (shard, conn) = world.places[&waiting];
                world.input(shard, Input::Closed { conn, cause: CloseCause::Ended });
                vec![]
            },
            &[],
        ),
    ];
    for (what, end, expected) in ends {
        let mut world = World::new(polling());
        let (bob, _) = Poller::new(&mut world, 0, 4);
        let answers = end(&mut world, &bob);
        let answers: Vec<(u16, &str)> =
            answers.iter().map(|(status, body)| (*status, &**body)).collect();
        assert_eq!(answers, expected, "{what}");
        let after = bob.get(&mut world, 0);
        let gone = (400, r#"{"code":1,"message":"Session ID unknown"}"#.to_owned());
        assert_eq!(answer(&mut world, after), Some(gone), "{what}");
        assert_eq!(world.shards[0].counters().clients, 0, "{what}");
    }
}

#[test]
fn a_silent_or_slow_poller_is_closed() {
    let mut world = World::new(Settings { ping_interval: MS(2_500), ..polling() });
    let (bob, _) = Poller::new(&mut world, 0, 4);
    let waiting = bob.get(&mut world, 0);
    world.pass(MS(2_510));
    assert_eq!(answer(&mut world, waiting), Some((200, "2".into())));
    world.pass(MS(5_010));
    assert_eq!(world.shards[0].counters().clients, 0);

    let limits = Limits { backlog_bytes_max: 20_000, ..Limits::PRODUCTION };
    let mut world = World::new(Settings { limits, ..polling() });
    let (bob, _) = Poller::new(&mut world, 0, 4);
    let ann = world.client(0);
    world.say(ann, &join("s", "Ann"));
    bob.post(&mut world, 0, "40");
    bob.post(&mut world, 0, &join("s", "Bob"));
    for n in 0..40 {
        world.say(ann, &format!(r#"42["seek",{{"sessionId":"s","position":{n}}}]"#));
        world.pass(Micros::from_secs(1));
    }
    assert_eq!(world.shards[0].counters().members, 1, "a client that does not poll is closed");
}

#[test]
fn invalid_polling_requests_are_rejected() {
    let mut world = World::new(polling());
    let (bob, _) = Poller::new(&mut world, 0, 4);
    let path = bob.path("polling");
    for (head, status, code) in [
        ("POST /socket.io/?EIO=4&transport=polling".to_owned(), 400, 2),
        ("GET /socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA".to_owned(), 400, 1),
        ("GET /socket.io/?EIO=4&transport=polling&sid=x".to_owned(), 400, 1),
        ("GET /socket.io/?EIO=4&transport=smoke".to_owned(), 400, 0),
        ("GET /socket.io/?EIO=4".to_owned(), 400, 0),
        (format!("GET {}", path.replace("EIO=4", "EIO=3")), 400, 3),
        (format!("PUT {path}"), 400, 3),
        (format!("GET {}", path.replace("polling", "websocket")), 400, 3),
    ] {
        let id = world.open(0);
        world.bytes(id, format!("{head} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        let (is, body) = answer(&mut world, id).unwrap();
        assert!(is == status && body.contains(&format!(r#""code":{code}"#)), "{head}: {is} {body}");
    }
    let id = world.open(0);
    world.bytes(
        id,
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000001\r\n\r\n").as_bytes(),
    );
    assert_eq!(answer(&mut world, id).unwrap().0, 413);
    assert_eq!(world.shards[0].counters().clients, 1, "invalid requests do not close the session");

    let mut world = World::new(settings());
    let id = world.open(0);
    world.bytes(id, b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(
        answer(&mut world, id),
        Some((400, r#"{"code":0,"message":"Transport unknown"}"#.into()))
    );
}

#[test]
fn a_version_3_client_sends_pings_and_is_connected_at_once() {
    let mut world = World::new(Settings { ping_interval: MS(2_500), ..polling() });
    let id = world.open(0);
    let upgrade = String::from_utf8(UPGRADE.to_vec()).unwrap();
    world.bytes(id, upgrade.replace("EIO=4", "EIO=3").as_bytes());
    let received = world.received(id);
    let sid = received[0].split_once(r#""sid":""#).unwrap().1.split_once('"').unwrap().0.to_owned();
    assert_eq!(received[1..], ["40"]);
    world.say(id, "2");
    world.say(id, "2probe");
    assert_eq!(world.received(id), ["3", "3"]);
    world.say(id, r#"421["join_session",{"sessionId":"s"}]"#);
    let received = world.received(id);
    assert!(received.iter().any(|m| m.starts_with("431[") && m.contains(&sid)), "{received:?}");
    world.say(id, "40/nope,");
    let received = world.received(id);
    assert!(
        received.contains(&r#"44/nope,{"message":"Invalid namespace"}"#.to_owned()),
        "{received:?}"
    );
    // A binary event. In version 3 its attachment begins with the packet type.
    world.say(id, r#"451-2["chat_message",{"_placeholder":true,"num":0}]"#);
    let mut frame = masked("\u{4}\u{1}\u{2}");
    frame[0] = 0x82;
    world.bytes(id, &frame);
    assert!(world.received(id).iter().any(|m| m.starts_with("432[")));
    // A client that sends no pings is closed.
    for _ in 0..4 {
        world.pass(MS(5_000));
        world.say(id, "2");
    }
    world.received(id);
    world.pass(MS(7_600));
    assert_eq!(world.closed.get(&id), Some(&Close::Gently));

    let mut world = World::new(polling());
    let id = world.open(0);
    world.bytes(id, upgrade.replace("EIO=4", "EIO=3").as_bytes());
    world.received(id);
    world.say(id, "3");
    assert_eq!(world.received(id), ["close"], "the server sent no ping");
}

#[test]
fn version_3_polling_bodies_carry_lengths() {
    let mut world = World::new(polling());
    let (bob, opened) = Poller::new(&mut world, 0, 3);
    let (length, rest) = opened.split_once(':').unwrap();
    let (open, connected) = rest.split_at(length.parse().unwrap());
    assert!(open.starts_with("0{") && connected == "2:40", "{opened}");
    let join = r#"421["join_session",{"sessionId":"s","displayName":"É🎸"}]"#;
    let units: usize = join.chars().map(char::len_utf16).sum();
    assert_eq!(bob.post(&mut world, 0, &format!("{units}:{join}1:2")), (200, "ok".into()));
    let received = bob.fetch(&mut world, 0).concat();
    assert!(
        received.contains("431[{") && received.contains("1:3") && received.contains("É🎸"),
        "{received}"
    );
    assert_eq!(bob.post(&mut world, 0, "nonsense").0, 400);
}

#[test]
fn a_draining_server_notifies_and_closes_pollers() {
    let mut world = World::new(polling());
    let (bob, _) = Poller::new(&mut world, 0, 4);
    bob.post(&mut world, 0, "40");
    let first = bob.get(&mut world, 0);
    answer(&mut world, first);
    let waiting = bob.get(&mut world, 0);
    world.input(0, Input::Drain);
    let (status, body) = answer(&mut world, waiting).unwrap();
    let packets: Vec<&str> = body.split('\u{1e}').collect();
    assert_eq!((status, &packets[1..]), (200, &["41", "1"][..]), "{body}");
    assert!(packets[0].starts_with(r#"42["error""#), "{body}");
    assert!(packets[0].contains(r#""code":"draining","event":"disconnect""#), "{body}");
    assert!(world.shards[0].is_drained());
}

#[test]
fn a_poll_during_a_hand_over_and_a_load_waits_for_a_packet() {
    let mut world = World::new(Settings { shards: 2, storage_wait: Some(MS(500)), ..polling() });
    let home = usize::from(SessionId::parse("s").unwrap().shard(2).0);
    let (ann, _) = Poller::new(&mut world, 1 - home, 4);
    ann.post(&mut world, 1 - home, "40");
    ann.fetch(&mut world, 1 - home);
    let join = ann.post(
        &mut world,
        1 - home,
        r#"421["join_session",{"sessionId":"s","displayName":"Ann"}]"#,
    );
    assert_eq!(join.0, 200);
    let id = ann.get(&mut world, home);
    world.turn();
    assert_eq!(
        answer(&mut world, id),
        None,
        "a body without packets would end the client's session"
    );
    world.pass(MS(600));
    let (_, body) = answer(&mut world, id).unwrap();
    assert!(body.starts_with(r#"431[{"ok":true"#), "{body}");
}

#[test]
fn two_bodies_at_once_close_the_polling_client() {
    let mut world = World::new(polling());
    let (bob, _) = Poller::new(&mut world, 0, 4);
    let begun = bob.begin_post(&mut world, 0, "40", 1);
    let other = bob.begin_post(&mut world, 0, "40", 1);
    assert_eq!(answer(&mut world, other).unwrap().0, 400);
    world.bytes(begun, b"0");
    assert_eq!(answer(&mut world, begun).unwrap().0, 400, "the session is closed");
}

#[test]
fn an_incomplete_body_closes_the_polling_client() {
    let mut world = World::new(polling());
    let (bob, _) = Poller::new(&mut world, 0, 4);
    let begun = bob.begin_post(&mut world, 0, "40", 1);
    world.input(0, Input::Closed { conn: begun, cause: CloseCause::Failed });
    let next = bob.begin_post(&mut world, 0, "40", 1);
    assert_eq!(answer(&mut world, next).unwrap().0, 400, "the session is closed");
}

#[test]
fn one_poll_after_a_close_packet_is_answered() {
    let mut world = World::new(polling());
    let (bob, _) = Poller::new(&mut world, 0, 4);
    assert_eq!(bob.post(&mut world, 0, "1"), (200, "ok".into()));
    let (crossed, late) = (bob.get(&mut world, 0), bob.get(&mut world, 0));
    assert_eq!(answer(&mut world, crossed), Some((200, "6".into())));
    assert_eq!(answer(&mut world, late).unwrap().0, 400);

    let (ann, _) = Poller::new(&mut world, 0, 4);
    ann.post(&mut world, 0, "1");
    world.pass(Micros::from_secs(3));
    let late = ann.get(&mut world, 0);
    assert_eq!(answer(&mut world, late).unwrap().0, 400);
}

#[test]
fn a_polling_client_counts_for_its_address_besides_its_requests() {
    let peers =
        PeerLimits { connections_max: 3, connections_per_second: 0, spares_loopback: false };
    let policy = AccessPolicy { peers, ..AccessPolicy::default() };
    let mut world = World::new(Settings { policy, ..polling() });
    let (_bob, _) = Poller::new(&mut world, 0, 4);
    let third = world.open(0);
    world.bytes(third, b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(
        answer(&mut world, third).unwrap().0,
        429,
        "the connection fits the limit, the session does not"
    );
}

#[test]
fn a_rejected_poller_keeps_its_seat_and_an_admitted_one_moves() {
    // One session on shard 0, and one on each shard.
    let mut names = (0..).map(|n| format!("session-{n}"));
    let mut on = |shard| {
        names.find(|name| SessionId::parse(name).unwrap().shard(4) == ShardId(shard)).unwrap()
    };
    let open = on(0);
    for target in 0..4 {
        let locked = on(target);
        let mut world = World::new(Settings { shards: 4, ..polling() });
        let keeper = world.client(0);
        world.say(
            keeper,
            &format!(r#"42["join_session",{{"sessionId":"{locked}","passcode":"right"}}]"#),
        );
        let (bob, _) = Poller::new(&mut world, 1, 4);
        bob.post(&mut world, 1, "40");
        bob.post(&mut world, 2, &join(&open, "Bob"));
        world.pass(MS(20));
        let (_, mut waiting) = bob.listen(&mut world, 1);
        let witness = world.client(0);
        world.say(witness, &join(&open, "Witness"));
        let mut try_it = |world: &mut World, passcode: &str| {
            let burst = [
                format!(
                    r#"427["join_session",{{"sessionId":"{locked}","passcode":"{passcode}"}}]"#
                ),
                format!(r#"428["chat_message",{{"sessionId":"{open}","message":"still here"}}]"#),
            ];
            assert_eq!(bob.post(world, 3, &burst.join("\u{1e}")), (200, "ok".into()));
            world.pass(MS(20));
            let mut received = answer(world, waiting).unwrap().1;
            let (more, next) = bob.listen(world, 3);
            received += &more;
            waiting = next;
            received
        };
        let received = try_it(&mut world, "wrong");
        assert!(
            received.contains(r#"437[{"ok":false,"error":{"code":"bad_passcode""#),
            "{received}"
        );
        assert!(received.contains(r#"438[{"ok":true"#), "{received}");
        assert!(world.events(witness).contains(&"chat_message".to_owned()));
        let received = try_it(&mut world, "right");
        assert!(received.contains(r#"437[{"ok":true"#), "{received}");
        assert!(received.contains(r#"438[{"ok":false,"error":{"code":"not_member""#), "{received}");
        let members: u32 = world.shards.iter().map(|shard| shard.counters().members).sum();
        assert_eq!(members, 3);
    }
}

#[test]
fn a_poller_that_upgrades_during_a_load_still_joins() {
    let mut world = World::new(Settings { storage_wait: Some(MS(500)), ..polling() });
    let (ann, _) = Poller::new(&mut world, 0, 4);
    ann.post(&mut world, 0, "40");
    ann.fetch(&mut world, 0);
    let burst = [
        r#"421["join_session",{"sessionId":"s","displayName":"Ann"}]"#,
        r#"422["latency_probe",{"timestamp":1}]"#,
    ];
    let burst = burst.join("\u{1e}");
    assert_eq!(ann.post(&mut world, 0, &burst), (200, "ok".into()));
    let socket = candidate(&mut world, &ann, 0);
    world.say(socket, "2probe");
    world.say(socket, "5");
    world.say(socket, r#"423["latency_probe",{"timestamp":2}]"#);
    world.pass(MS(600));
    let received = world.received(socket);
    let acks: Vec<&String> = received.iter().filter(|m| m.starts_with("43")).collect();
    assert!(acks[0].starts_with(r#"431[{"ok":true"#), "{received:?}");
    assert!(
        acks[1].starts_with("432[") && acks[2].starts_with("433["),
        "in the order in which they were sent"
    );
}
