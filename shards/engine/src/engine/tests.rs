//! The whole engine from bytes to bytes, in a world of one thread and no clock.
#![allow(clippy::unwrap_used)]

mod bonds;
mod compression;
mod cuts;
mod polling;
mod recovery;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use super::Engine;
use crate::io::report::Sample;
use crate::io::{
    Close, CloseCause, FreeMemory, Goodbye, HttpResponse, Input, Output, Outputs, Settings,
    Transports, Version3,
};
use crate::speech::Code;
use crate::trace::{self, Recorded};
use crate::words::ids::{ConnId, SessionId, ShardId};
use crate::words::limits::Limits;
use crate::words::origins::Origins;
use crate::words::policy::AccessPolicy;
use crate::words::time::Micros;

mod storage;
mod tokens;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const UPGRADE: &[u8] =
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: band\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

mod admission;
mod large;
mod late;
mod leadership;
mod long;
mod nodes;
mod policy;
mod priorities;
mod screens;
mod unchanged;

const HOUR: Micros = Micros::from_secs(3_600);

pub(super) fn settings() -> Settings {
    Settings {
        shard: ShardId(0),
        shards: 1,
        seed: 1.into(),
        started_unix_ms: 1_800_000_000_000,
        limits: Limits { stale_after: HOUR, silence_max: HOUR, ..Limits::PRODUCTION },
        tick_interval: Micros::from_millis(16),
        batch_interval: Micros::from_millis(5),
        // Long, so that members need not answer. Tests of pings set a shorter one.
        ping_interval: HOUR,
        ping_timeout: Micros::from_millis(5_000),
        heartbeat_interval: Micros::from_secs(5),
        leader_grace: Micros::from_secs(10),
        session_members_max: 256,
        origins: Origins::Own,
        transports: Transports {
            polling: false,
            version_3: Version3::Off,
            compression: None,
            recovery: Micros::ZERO,
        },
        policy: AccessPolicy::default(),
        storage_wait: None,
        goodbye: Goodbye::Disconnect,
        cluster: None,
    }
}

/// Shards, and the bytes that they sent to their connections.
struct World {
    shards: Vec<Engine>,
    now: Micros,
    out: Outputs,
    next: u32,
    /// The present shard and id of each connection, by its first id.
    places: BTreeMap<ConnId, (usize, ConnId)>,
    sent: BTreeMap<ConnId, Vec<u8>>,
    closed: BTreeMap<ConnId, Close>,
    handed_over: u32,
    trace: Vec<u8>,
    outputs: Vec<u8>,
    /// Unread messages between shards.
    messages: VecDeque<(usize, Vec<u8>)>,
    /// Whether messages wait for [`deliver`](Self::deliver).
    slow_mail: bool,
    /// Outputs for the storage, with the record if one is to be stored.
    orders: Vec<(Output, Vec<u8>)>,
    /// Outputs for the store and for other nodes, with the bytes that they name, by shard.
    to_nodes: Vec<(usize, Output, Vec<Vec<u8>>)>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let of = |shard| Engine::new(Settings { shard: ShardId(shard), ..settings.clone() });
        Self {
            shards: (0..settings.shards).map(of).collect(),
            now: Micros::from_secs(1),
            out: Outputs::default(),
            next: 0,
            places: BTreeMap::new(),
            sent: BTreeMap::new(),
            closed: BTreeMap::new(),
            handed_over: 0,
            trace: Vec::new(),
            outputs: Vec::new(),
            messages: VecDeque::new(),
            slow_mail: false,
            orders: Vec::new(),
            to_nodes: Vec::new(),
        }
    }

    fn new_id(&mut self) -> ConnId {
        self.next += 1;
        ConnId { index: self.next, generation: 0 }
    }

    /// Opens a connection on a shard.
    fn open(&mut self, shard: usize) -> ConnId {
        let id = self.new_id();
        self.places.insert(id, (shard, id));
        self.input(shard, Input::Opened { conn: id, peer: PEER });
        id
    }

    /// Opens a connection, upgrades it, and connects to the main namespace.
    fn client(&mut self, shard: usize) -> ConnId {
        let id = self.open(shard);
        self.bytes(id, UPGRADE);
        self.say(id, "40");
        let received = self.received(id);
        assert!(received.last().unwrap().starts_with("40{\"sid\":"), "{received:?}");
        id
    }

    fn bytes(&mut self, id: ConnId, bytes: &[u8]) {
        let (shard, conn) = self.places[&id];
        self.input(shard, Input::Received { conn, bytes: &mut bytes.to_vec() });
    }

    fn say(&mut self, id: ConnId, text: &str) {
        self.bytes(id, &masked(text));
    }

    /// Ends a turn of every shard, at the current time.
    fn turn(&mut self) {
        for shard in 0..self.shards.len() {
            self.input(shard, Input::TurnEnded);
            self.shards[shard].check_invariants();
        }
    }

    /// Lets time pass. Wakes the shards at their deadlines, as a driver does.
    fn pass(&mut self, span: Micros) {
        let end = self.now + span;
        while let Some(next) =
            self.shards.iter().filter_map(Engine::next_deadline).min().filter(|at| *at <= end)
        {
            self.now = next.max(self.now);
            self.turn();
        }
        self.now = end;
    }

    fn input(&mut self, shard: usize, input: Input<'_>) {
        if shard == 0 {
            trace::write_input(&mut self.trace, self.now, &Recorded::of(&input));
        }
        self.shards[shard].handle(self.now, input, &mut self.out);
        if shard == 0 {
            trace::write_outputs(&mut self.outputs, &self.out);
        }
        let out = std::mem::take(&mut self.out);
        let first = |places: &BTreeMap<ConnId, (usize, ConnId)>, conn| {
            *places.iter().find(|(_, place)| **place == (shard, conn)).unwrap().0
        };
        for output in &out.list {
            match output {
                Output::Send { to, bytes } => {
                    let sent = self.sent.entry(first(&self.places, *to)).or_default();
                    sent.extend_from_slice(&out.bytes[bytes.range()]);
                }
                Output::Fanout { to, bytes, .. } => {
                    for to in &out.receivers[to.range()] {
                        let sent = self.sent.entry(first(&self.places, *to)).or_default();
                        sent.extend_from_slice(&out.bytes[bytes.range()]);
                    }
                }
                Output::Close { conn, how } => {
                    let id = first(&self.places, *conn);
                    self.places.remove(&id);
                    self.closed.insert(id, *how);
                }
                Output::HandOver { conn, to, state } => {
                    let id = first(&self.places, *conn);
                    let conn = self.new_id();
                    self.places.insert(id, (usize::from(to.0), conn));
                    self.handed_over += 1;
                    let state = &out.bytes[state.range()];
                    self.input(usize::from(to.0), Input::Arrived { conn, peer: PEER, state });
                }
                Output::ShardMessage { to, message } => {
                    self.messages
                        .push_back((usize::from(to.0), out.bytes[message.range()].to_vec()));
                    if !self.slow_mail {
                        self.deliver();
                    }
                }
                Output::Load { .. } | Output::Forget { .. } => {
                    self.orders.push((output.clone(), Vec::new()))
                }
                Output::Store { record, .. } => {
                    self.orders.push((output.clone(), out.bytes[record.range()].to_vec()));
                }
                Output::Claim { .. }
                | Output::Commit { .. }
                | Output::Publish { .. }
                | Output::Announce { .. }
                | Output::Noted { .. }
                | Output::Release { .. } => {
                    let spans = match output {
                        Output::Commit { record, branches, head, tail, .. } => {
                            vec![record, branches, head, tail]
                        }
                        Output::Publish { body, .. } | Output::Announce { body, .. } => vec![body],
                        _ => Vec::new(),
                    };
                    let bytes = spans.into_iter().map(|span| out.bytes[span.range()].to_vec());
                    self.to_nodes.push((shard, output.clone(), bytes.collect()));
                }
                Output::Request { conn, request } => {
                    let body = format!("asked for {}", request.path).into_bytes().into();
                    let response = HttpResponse { status: 200, headers: Vec::new(), body };
                    self.input(shard, Input::Responded { conn: *conn, response });
                }
            }
        }
    }

    /// Delivers the messages between shards.
    fn deliver(&mut self) {
        for (to, message) in std::mem::take(&mut self.messages) {
            self.input(to, Input::ShardMessage { message: &message });
        }
    }

    /// Takes the messages sent to a connection since the last call. A close frame becomes `close
    /// <code>`.
    fn received(&mut self, id: ConnId) -> Vec<String> {
        let bytes = self.sent.remove(&id).unwrap_or_default();
        let text =
            bytes.windows(4).position(|w| w == b"\r\n\r\n").filter(|_| bytes.starts_with(b"HTTP"));
        messages(&bytes[text.map_or(0, |end| end + 4)..])
    }

    /// Takes the messages sent to a connection, and returns the names of the events.
    fn events(&mut self, id: ConnId) -> Vec<String> {
        let received = self.received(id);
        let name = |message: &String| {
            message
                .strip_prefix("42[\"")
                .and_then(|rest| rest.split_once('"'))
                .map(|(name, _)| name.to_owned())
        };
        received.iter().filter_map(name).collect()
    }
}

/// Returns a masked frame of a client.
fn masked(text: &str) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![0x81];
    match text.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length => match u16::try_from(length) {
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        },
    }
    frame.extend_from_slice(&mask);
    frame.extend(text.bytes().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Returns the messages in the server's frames.
fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut messages = Vec::new();
    while let [kind, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => panic!("no message of the tests is that long"),
            length => (usize::from(*length), rest),
        };
        let (body, rest) = rest.split_at(length);
        messages.push(match kind {
            0x81 => String::from_utf8(body.to_vec()).unwrap(),
            0x88 if body.is_empty() => "close".to_owned(),
            0x88 => format!("close {}", u16::from_be_bytes([body[0], body[1]])),
            0x8a => format!("pong {}", String::from_utf8_lossy(body)),
            other => panic!("frame {other:#x}"),
        });
        bytes = rest;
    }
    messages
}

fn join(session: &str, name: &str) -> String {
    format!(r#"42["join_session",{{"sessionId":"{session}","displayName":"{name}"}}]"#)
}

/// A leader and a follower in session `s`. The messages of their joins are dropped.
fn duo(world: &mut World) -> (ConnId, ConnId) {
    let shards = world.shards.len();
    let (ann, bob) = (world.client(0), world.client(shards - 1));
    world.say(ann, &join("s", "Ann"));
    world.say(bob, &join("s", "Bob"));
    world.pass(Micros::from_millis(10));
    world.received(ann);
    world.received(bob);
    (ann, bob)
}

const MS: fn(u64) -> Micros = Micros::from_millis;

#[test]
fn a_connection_is_upgraded_and_greeted() {
    let mut world = World::new(settings());
    let id = world.open(0);
    world.bytes(id, UPGRADE);
    let sent = String::from_utf8_lossy(&world.sent[&id]).into_owned();
    assert!(sent.starts_with("HTTP/1.1 101 "), "{sent}");
    assert!(sent.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{sent}");
    let received = world.received(id);
    assert!(received[0].starts_with(r#"0{"sid":""#), "{received:?}");
    assert!(
        received[0].ends_with(
            r#","upgrades":[],"pingInterval":3600000,"pingTimeout":5000,"maxPayload":1000000}"#
        ),
        "{received:?}"
    );
}

#[test]
fn members_of_a_session_receive_each_other_s_events() {
    let mut world = World::new(settings());
    let (ann, bob) = (world.client(0), world.client(0));
    world.say(ann, &join("s", "Ann"));
    assert_eq!(world.events(ann), ["snapshot"], "the newcomer's snapshot does not wait");
    world.pass(MS(10));
    assert_eq!(world.events(ann), ["user_joined", "room_stats"]);
    world.say(bob, &join("s", "Bob"));
    world.pass(MS(10));
    assert_eq!(world.events(ann), ["user_joined", "room_stats"]);
    assert_eq!(world.events(bob), ["snapshot", "user_joined", "room_stats"]);
    world.say(bob, r#"42["chat_message",{"sessionId":"s","message":"hi"}]"#);
    world.pass(MS(10));
    assert_eq!(
        (world.events(ann), world.events(bob)),
        (vec!["chat_message".into()], vec!["chat_message".into()])
    );
}

#[test]
fn an_acknowledgement_precedes_the_notice() {
    let mut world = World::new(settings());
    let (ann, _) = duo(&mut world);
    world.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    let received = world.received(ann);
    assert!(received[0].starts_with(r#"437[{"ok":true"#), "{received:?}");
}

#[test]
fn a_rejection_is_an_acknowledgement_or_an_error() {
    let mut world = World::new(settings());
    let (_, bob) = duo(&mut world);
    world.say(bob, r#"421["play",{"sessionId":"s"}]"#);
    let received = world.received(bob);
    assert!(
        received[0].starts_with(r#"431[{"ok":false,"error":{"code":"not_leader""#),
        "{received:?}"
    );
    world.say(bob, r#"42["play",{"sessionId":"s"}]"#);
    let received = world.received(bob);
    assert!(
        received[0].starts_with(r#"42["error",{"#)
            && received[0].contains(r#""code":"not_leader""#),
        "{received:?}"
    );
}

#[test]
fn updates_of_one_window_share_a_snapshot() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.say(ann, r#"42["set_tempo",{"sessionId":"s","tempo":90}]"#);
    world.turn();
    assert_eq!(world.events(bob), [""; 0], "the window is open");
    world.pass(MS(5));
    let mut events = world.events(bob);
    events.retain(|event| event != "scroll_tick");
    assert_eq!(events.iter().filter(|event| *event == "snapshot").count(), 1, "{events:?}");
    assert_eq!(events.first().unwrap(), "play");
    assert_eq!(events.last().unwrap(), "snapshot");
}

#[test]
fn without_a_window_nothing_waits_beyond_the_turn() {
    let mut world = World::new(Settings { batch_interval: Micros::ZERO, ..settings() });
    let (ann, bob) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.turn();
    assert_eq!(world.events(bob), ["play", "snapshot"]);
}

/// Takes the messages sent to a member, and returns the `positionMs` of the ticks.
fn positions(world: &mut World, id: ConnId) -> Vec<f64> {
    let ticks =
        world.received(id).into_iter().filter(|message| message.starts_with(r#"42["scroll_tick""#));
    let position = |tick: String| {
        let (_, rest) = tick.split_once(r#""positionMs":"#).unwrap();
        rest.split_once(',').unwrap().0.parse().unwrap()
    };
    ticks.map(position).collect()
}

#[test]
fn all_members_receive_the_same_ticks_on_the_grid() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    let started = world.now;
    world.pass(Micros::from_secs(60));
    let received = positions(&mut world, ann);
    assert_eq!(received, positions(&mut world, bob));
    assert_eq!(received.len(), 3_750);
    let apart: Vec<f64> = received.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(apart.iter().all(|apart| (apart - 16.0).abs() < 0.0005), "ticks are 16 ms apart");
    let last = (world.now - started).as_micros() as f64 / 1_000.0;
    assert!(last - received.last().unwrap() <= 16.0);
}

#[test]
fn a_delayed_shard_sends_one_late_tick_with_the_right_position() {
    let mut world = World::new(settings());
    let (ann, _) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(MS(100));
    positions(&mut world, ann);
    let before = world.now;
    world.now = world.now + Micros::from_secs(5);
    world.turn();
    world.pass(MS(32));
    let received = positions(&mut world, ann);
    assert_eq!(received.len(), 3, "one late tick instead of 312, then the grid goes on");
    assert!(received[0] >= 5_000.0 && before < world.now);
}

#[test]
fn after_a_seek_the_next_tick_continues_from_the_new_position() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(MS(200));
    world.received(bob);
    world.say(ann, r#"42["seek",{"sessionId":"s","position":60000}]"#);
    world.pass(MS(16));
    let received = positions(&mut world, bob);
    assert!((60_000.0..=60_016.0).contains(&received[0]), "{received:?}");
}

#[test]
fn a_member_receives_ticks_at_its_requested_rate() {
    let mut world = World::new(settings());
    let (ann, none, few) = (world.client(0), world.client(0), world.client(0));
    world.say(ann, &join("s", "Ann"));
    world.say(none, r#"42["join_session",{"sessionId":"s","tickHz":0}]"#);
    world.say(few, r#"42["join_session",{"sessionId":"s","tickHz":10}]"#);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(Micros::from_secs(2));
    let counts = [ann, none, few].map(|id| positions(&mut world, id).len());
    assert_eq!(counts, [125, 0, 21]);
}

#[test]
fn a_session_skips_ticks_that_no_member_requested() {
    let mut world = World::new(settings());
    let (ann, bob) = (world.client(0), world.client(0));
    world.say(ann, r#"42["join_session",{"sessionId":"s","tickHz":1}]"#);
    world.say(bob, r#"42["join_session",{"sessionId":"s","tickHz":0}]"#);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(Micros::from_secs(10));
    let mut wakes = 0;
    world.shards[0].samples().take(|what, _| wakes += u32::from(what == Sample::TickLateness));
    let ticks = positions(&mut world, ann);
    assert_eq!((wakes, ticks.len()), (10, 10));
    let apart = |pair: &[f64]| (pair[1] - pair[0]).round() == 1_008.0;
    assert!(ticks.windows(2).all(apart), "63 intervals of 16 ms: {ticks:?}");
}

#[test]
fn a_member_with_a_low_rate_receives_its_tick_after_a_delay() {
    let mut world = World::new(settings());
    let ann = world.client(0);
    world.say(ann, r#"42["join_session",{"sessionId":"s","tickHz":1}]"#);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(Micros::from_secs(5));
    positions(&mut world, ann);
    world.now = world.now + MS(1_500);
    world.turn();
    assert_eq!(positions(&mut world, ann).len(), 1);
}

#[test]
fn members_from_different_shards_can_share_a_session() {
    let home = SessionId::parse("s").unwrap().shard(4).0;
    for first in 0..4 {
        for second in 0..4 {
            let mut world = World::new(Settings { shards: 4, ..settings() });
            let (ann, bob) = (world.client(first), world.client(second));
            // One read has all messages, but only a part of the last one.
            let mut burst = masked(&join("s", "Ann"));
            burst.extend(masked(r#"425["play",{"sessionId":"s"}]"#));
            let last = masked(r#"42["chat_message",{"sessionId":"s","message":"one"}]"#);
            burst.extend_from_slice(&last[..9]);
            world.bytes(ann, &burst);
            world.bytes(ann, &last[9..]);
            world.say(bob, &join("s", "Bob"));
            world.say(bob, r#"42["chat_message",{"sessionId":"s","message":"two"}]"#);
            world.pass(MS(10));
            let received = world.received(ann);
            assert!(
                received.iter().any(|message| message.starts_with("435[{\"ok\":true")),
                "{received:?}"
            );
            let chats: Vec<&String> =
                received.iter().filter(|m| m.starts_with("42[\"chat_message\"")).collect();
            assert!(chats[0].contains("one") && chats[1].contains("two"), "{chats:?}");
            let moved = u32::from(first as u16 != home) + u32::from(second as u16 != home);
            assert_eq!(world.handed_over, moved, "each connection is handed over once");
        }
    }
}

#[test]
fn a_member_can_move_to_a_session_on_another_shard() {
    let mut world = World::new(Settings { shards: 4, ..settings() });
    let ann = world.client(0);
    let shards: Vec<u16> = (0..12)
        .map(|n| {
            let name = format!("session-{n}");
            world.say(ann, &format!(r#"42{n}["join_session",{{"sessionId":"{name}"}}]"#));
            world.pass(Micros::from_secs(1));
            assert!(
                world.received(ann).iter().any(|m| m.starts_with(&format!("43{n}[{{\"ok\":true"))),
                "{name}"
            );
            SessionId::parse(&name).unwrap().shard(4).0
        })
        .collect();
    let moves = shards.windows(2).filter(|pair| pair[0] != pair[1]).count() as u32
        + u32::from(shards[0] != 0);
    assert_eq!(world.handed_over, moves);
    let members: u32 = world.shards.iter().map(|shard| shard.counters().members).sum();
    assert_eq!(members, 1, "it left the others");
}

#[test]
fn the_split_of_input_into_reads_does_not_change_the_output() {
    let mut stream = UPGRADE.to_vec();
    for text in [
        "40",
        &join("s", "Ann"),
        r#"421["play",{"sessionId":"s"}]"#,
        "3",
        r#"42["nonsense",{}]"#,
        "1",
    ] {
        stream.extend(masked(text));
    }
    let run = |cuts: &[usize]| {
        let mut world = World::new(settings());
        let id = world.open(0);
        let mut from = 0;
        for &to in cuts.iter().chain([&stream.len()]) {
            if world.places.contains_key(&id) {
                world.bytes(id, &stream[from..to]);
            }
            from = to;
        }
        world.pass(MS(50));
        (world.sent.remove(&id).unwrap(), world.closed)
    };
    let whole = run(&[]);
    for cut in 1..stream.len() {
        assert!(run(&[cut]) == whole, "cut at {cut}");
    }
    let every: Vec<usize> = (1..stream.len()).collect();
    assert!(run(&every) == whole, "byte by byte");
}

#[test]
fn a_silent_client_is_pinged_and_then_closed() {
    let mut world = World::new(Settings { ping_interval: MS(2_500), ..settings() });
    let (ann, bob) = duo(&mut world);
    let mut pings = 0;
    for _ in 0..20 {
        world.pass(MS(500));
        let received = world.received(bob);
        for _ in received.iter().filter(|message| *message == "2") {
            pings += 1;
            world.say(bob, "3");
        }
    }
    assert!(pings >= 3 && world.places.contains_key(&bob), "bob answers and stays");
    assert!(!world.places.contains_key(&ann), "ann is silent");
    let received = world.received(ann);
    assert_eq!(received.last().unwrap(), "close");
}

#[test]
fn a_client_that_never_connects_is_closed() {
    let mut world = World::new(settings());
    let id = world.open(0);
    world.bytes(id, UPGRADE);
    for _ in 0..50 {
        world.pass(Micros::from_secs(1));
        if world.places.contains_key(&id) {
            world.say(id, "3");
        }
    }
    assert_eq!(world.closed.get(&id), Some(&Close::Gently));
}

#[test]
fn a_slow_head_times_out() {
    let mut world = World::new(settings());
    let id = world.open(0);
    for byte in &UPGRADE[..20] {
        world.bytes(id, &[*byte]);
        world.pass(MS(900));
        if !world.places.contains_key(&id) {
            break;
        }
    }
    assert!(
        String::from_utf8_lossy(&world.sent[&id]).starts_with("HTTP/1.1 408"),
        "after ten seconds"
    );
}

#[test]
fn the_host_receives_page_requests_in_order() {
    let mut world = World::new(settings());
    let id = world.open(0);
    world.bytes(
        id,
        b"GET /one HTTP/1.1\r\nHost: x\r\n\r\nHEAD /two HTTP/1.1\r\nHost: x\r\n\r\nGET /thr",
    );
    world.bytes(id, b"ee HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let sent = String::from_utf8(world.sent.remove(&id).unwrap()).unwrap();
    assert_eq!(sent.matches("HTTP/1.1 200 OK").count(), 3);
    assert!(
        sent.contains("asked for /one")
            && !sent.contains("asked for /two")
            && sent.ends_with("asked for /three")
    );
    assert_eq!(world.closed.get(&id), Some(&Close::Gently));
}

#[test]
fn an_idle_keep_alive_connection_is_closed_without_an_answer() {
    let mut world = World::new(settings());
    let id = world.open(0);
    world.bytes(id, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let sent = world.sent[&id].len();
    world.pass(Micros::from_secs(31));
    assert_eq!(world.closed.get(&id), Some(&Close::Gently));
    assert_eq!(world.sent[&id].len(), sent);
}

#[test]
fn a_draining_server_notifies_and_closes_its_clients() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    let idle = world.open(0);
    world.bytes(idle, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(world.closed.get(&idle), None, "it stays open for another request");
    world.input(0, Input::Drain);
    for id in [ann, bob] {
        let received = world.received(id);
        assert!(
            received[0].starts_with(r#"42["error""#) && received[0].contains("draining"),
            "{received:?}"
        );
        assert_eq!(received[1..], ["41", "close 1001"]);
    }
    assert!(world.closed.contains_key(&idle) && world.shards[0].is_drained());
}

#[test]
fn a_request_unread_at_the_start_of_a_drain_is_answered() {
    let mut world = World::new(settings());
    let [unread, begun, silent] = [world.open(0), world.open(0), world.open(0)];
    let probe = b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n";
    world.bytes(begun, &probe[..9]);
    world.input(0, Input::Drain);
    assert!(world.closed.is_empty());
    world.bytes(unread, probe);
    world.bytes(begun, &probe[9..]);
    for id in [unread, begun] {
        let sent = String::from_utf8_lossy(&world.sent[&id]).into_owned();
        assert!(sent.contains("asked for /readyz"), "{sent}");
        assert_eq!(world.closed.get(&id), Some(&Close::Gently));
    }
    world.pass(MS(999));
    assert_eq!(world.closed.get(&silent), None);
    world.pass(MS(1));
    assert!(world.closed.contains_key(&silent), "the drain waits no longer for its request");
}

#[test]
fn a_request_pending_at_the_start_of_a_drain_is_answered() {
    let mut world = World::new(settings());
    let id = world.open(0);
    let conn = world.places[&id].1;
    let bytes = &mut b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    world.shards[0].handle(world.now, Input::Received { conn, bytes }, &mut world.out);
    let asked = std::mem::take(&mut world.out).list;
    assert!(matches!(asked[..], [Output::Request { .. }]), "{asked:?}");
    world.input(0, Input::Drain);
    assert!(world.closed.is_empty());
    let response = HttpResponse { status: 200, headers: Vec::new(), body: b"here".into() };
    world.input(0, Input::Responded { conn, response });
    let sent = String::from_utf8_lossy(&world.sent[&id]).into_owned();
    assert!(sent.contains("\r\nConnection: close\r\n") && sent.ends_with("here"), "{sent}");
    assert_eq!(world.closed.get(&id), Some(&Close::Gently));
}

#[test]
fn a_draining_server_answers_probes_and_rejects_clients() {
    let mut world = World::new(settings());
    let (ann, _) = duo(&mut world);
    world.input(0, Input::Drain);
    assert!(world.closed.contains_key(&ann));
    let polls = b"GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n\r\n";
    let elsewhere: &[u8] =
        b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    for (request, status, body) in [
        (&b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"[..], 200, "asked for /readyz"),
        (UPGRADE, 503, "The server is draining"),
        (polls, 503, "The server is draining"),
        (elsewhere, 503, "The server is draining"),
    ] {
        let late = world.open(0);
        assert_eq!(world.closed.get(&late), None, "it is accepted");
        assert!(world.shards[0].is_drained(), "the drain does not wait for it");
        world.bytes(late, request);
        let sent = String::from_utf8_lossy(&world.sent[&late]).into_owned();
        assert!(sent.starts_with(&format!("HTTP/1.1 {status} ")), "{sent}");
        assert!(sent.contains("\r\nConnection: close\r\n") && sent.contains(body), "{sent}");
        assert_eq!(sent.contains("\r\nRetry-After: 5\r\n"), status == 503, "{sent}");
        assert_eq!(world.closed.get(&late), Some(&Close::Gently), "{sent}");
    }
}

#[test]
fn all_resources_are_freed_after_the_last_member_leaves() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(MS(100));
    for id in [ann, bob] {
        let (shard, conn) = world.places[&id];
        world.input(shard, Input::Closed { conn, cause: CloseCause::Ended });
    }
    world.pass(MS(20));
    let counters = world.shards[0].counters();
    assert_eq!(
        (counters.connections, counters.clients, counters.members, counters.sessions),
        (0, 0, 0, 1)
    );
    world.pass(Limits::PRODUCTION.empty_session_ttl);
    world.pass(Limits::PRODUCTION.empty_session_ttl);
    assert_eq!(world.shards[0].counters().sessions, 0);
    assert_eq!(world.shards[0].next_deadline(), None, "no timer is left");
}

#[test]
fn a_reader_with_too_much_unsent_output_is_closed() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    let (_, conn) = world.places[&bob];
    world.input(0, Input::Backlog { conn, bytes: Limits::PRODUCTION.backlog_bytes_max });
    assert!(world.places.contains_key(&bob), "at the limit");
    world.input(0, Input::Backlog { conn, bytes: Limits::PRODUCTION.backlog_bytes_max + 1 });
    assert_eq!(world.closed.get(&bob), Some(&Close::Abort));
    world.pass(MS(10));
    assert_eq!(world.events(ann), ["user_left", "room_stats"]);
}

#[test]
fn connections_and_sessions_are_limited() {
    let mut world = World::new(Settings { limits: Limits::TINY, ..settings() });
    let clients: Vec<ConnId> = (0..4).map(|_| world.client(0)).collect();
    let fifth = world.open(0);
    assert!(String::from_utf8_lossy(&world.sent[&fifth]).starts_with("HTTP/1.1 503"));
    for (n, id) in clients.iter().take(3).enumerate() {
        world.say(*id, &format!(r#"421["join_session",{{"sessionId":"s{n}"}}]"#));
    }
    let last = world.received(clients[2]);
    assert!(last[0].contains(r#""code":"session_full""#), "{last:?}");
    // An empty session is evicted for a new one.
    world.say(clients[0], r#"42["leave_session",{"sessionId":"s0"}]"#);
    world.say(clients[2], r#"422["join_session",{"sessionId":"s2"}]"#);
    assert!(world.received(clients[2]).iter().any(|m| m.starts_with("432[{\"ok\":true")));
}

#[test]
fn a_client_over_its_rate_is_warned_and_then_closed() {
    let mut world = World::new(settings());
    let (_, bob) = duo(&mut world);
    for _ in 0..40 {
        if world.places.contains_key(&bob) {
            world.say(bob, r#"42["sync_request",{"sessionId":"s"}]"#);
        }
    }
    let events = world.events(bob);
    assert_eq!(
        events.iter().filter(|event| *event == "sync_response").count(),
        20,
        "twice the rate"
    );
    assert_eq!(events.iter().filter(|event| *event == "rate_limit_exceeded").count(), 10);
    assert_eq!(world.closed.get(&bob), Some(&Close::Gently));
}

#[test]
fn a_protocol_violation_closes_the_connection() {
    let cases: [(&str, &[u8], &str); 8] = [
        ("an Engine.IO ping", &masked("2"), "close"),
        ("an unknown packet", &masked("x"), "close"),
        ("a second connect", &masked("40"), "close"),
        ("an event for another namespace", &masked("42/admin,[\"x\"]"), "close"),
        ("bad JSON", &masked("42[\"x\""), "close"),
        ("a connect error", &masked("44{}"), "close"),
        ("an unmasked frame", &[0x81, 0x01, b'3'], "close 1002"),
        ("a close", &[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8], "close 1000"),
    ];
    for (what, bytes, answer) in cases {
        let mut world = World::new(settings());
        let id = world.client(0);
        world.bytes(id, bytes);
        assert_eq!(world.received(id), [answer], "{what}");
        assert_eq!(world.closed.get(&id), Some(&Close::Gently), "{what}");
    }
}

#[test]
fn another_namespace_is_rejected_and_the_connection_stays() {
    let mut world = World::new(settings());
    let id = world.client(0);
    world.say(id, "40/admin,{}");
    assert_eq!(world.received(id), [r#"44/admin,{"message":"Invalid namespace"}"#]);
    assert!(world.places.contains_key(&id));
}

#[test]
fn a_replayed_run_gives_the_same_outputs() {
    let mut world = World::new(settings());
    let (ann, bob) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    for n in 0..20 {
        world.pass(MS(37));
        world.say(bob, &format!(r#"42{n}["clock_sync",{{"t0":{n}}}]"#));
        world.say(ann, &format!(r#"42["seek",{{"sessionId":"s","position":{}}}]"#, n * 1_000));
    }
    world.input(0, Input::Drain);

    let mut engine = Engine::new(settings());
    let (mut inputs, mut outputs, mut copy) = (&world.trace[..], Vec::new(), Vec::new());
    while !inputs.is_empty() {
        let (at, input) = trace::read_input(&mut inputs).unwrap();
        let mut out = Outputs::default();
        engine.handle(at, input.to_input(&mut copy), &mut out);
        trace::write_outputs(&mut outputs, &out);
    }
    assert!(outputs == world.outputs, "{} bytes against {}", outputs.len(), world.outputs.len());
}

#[test]
fn late_ticks_and_round_trips_are_measured() {
    let mut world = World::new(Settings { heartbeat_interval: MS(5_000), ..settings() });
    let (ann, _) = duo(&mut world);
    world.say(ann, r#"42["play",{"sessionId":"s"}]"#);
    world.pass(MS(100));
    let mut measured = Vec::new();
    world.shards[0].samples().take(|what, value| measured.push((what, value)));
    assert!(
        measured.len() >= 5 && measured.iter().all(|one| *one == (Sample::TickLateness, MS(0)))
    );

    let due = world.shards[0].next_deadline().unwrap();
    world.now = due + MS(3);
    world.turn();
    let mut late = Vec::new();
    world.shards[0].samples().take(|what, value| late.push((what, value)));
    assert_eq!(late, [(Sample::TickLateness, MS(3))]);

    world.say(ann, r#"42["pause",{"sessionId":"s"}]"#);
    world.pass(MS(5_000));
    world.say(ann, r#"42["pong"]"#);
    let mut trips = 0;
    world.shards[0].samples().take(|what, _| trips += u32::from(what == Sample::RoundTrip));
    assert_eq!(trips, 1);
}

#[test]
fn rejections_are_counted_by_their_code() {
    let mut world = World::new(settings());
    let (_, bob) = duo(&mut world);
    world.say(bob, r#"421["play",{"sessionId":"s"}]"#);
    world.say(bob, r#"42["no_such_event",{}]"#);
    let counters = world.shards[0].counters();
    let of = |code: Code| counters.refusals_by_code[code.index()];
    assert_eq!((of(Code::NotLeader), of(Code::UnknownEvent), counters.refusals), (1, 1, 2));
}

#[test]
fn a_roster_lists_members_without_secrets() {
    let mut world = World::new(settings());
    let ann = world.client(0);
    world.say(
        ann,
        r#"42["join_session",{"sessionId":"s","displayName":"A \"x\"","passcode":"hush","leaderPin":"2468"}]"#,
    );
    let mut out = Vec::new();
    world.shards[0].roster(&mut out);
    let roster: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!((&roster[0]["sessionId"], &roster[0]["connectedCount"]), (&"s".into(), &1.into()));
    assert_eq!(roster[0]["members"][0]["displayName"], "A \"x\"");
    let text = String::from_utf8(out).unwrap();
    assert!(!text.contains("hush") && !text.contains("2468"), "{text}");

    world.say(ann, r#"42["leave_session",{"sessionId":"s"}]"#);
    let mut out = Vec::new();
    world.shards[0].roster(&mut out);
    assert_eq!(out, b"[]", "an empty session is not listed");
}

#[test]
fn out_of_memory_empty_sessions_are_evicted_and_members_stay() {
    let mut world = World::new(settings());
    let (ann, _) = duo(&mut world);
    let passing = world.client(0);
    world.say(passing, &join("empty", "Eve"));
    world.say(passing, r#"42["leave_session",{"sessionId":"empty"}]"#);
    assert_eq!(world.shards[0].counters().sessions, 2);
    world.input(0, Input::Memory(FreeMemory::Out));
    world.turn();
    let counters = world.shards[0].counters();
    assert_eq!((counters.sessions, counters.sessions_shed, counters.members), (1, 1, 2));

    let newcomer = world.open(0);
    world.bytes(newcomer, UPGRADE);
    let answer = String::from_utf8_lossy(&world.sent[&newcomer]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 5"), "{answer}");
    let operator = world.open(0);
    world.bytes(operator, b"GET /health HTTP/1.1\r\nHost: band\r\n\r\n");
    assert!(String::from_utf8_lossy(&world.sent[&operator]).starts_with("HTTP/1.1 200 "));
    world.say(ann, r#"427["play",{"sessionId":"s"}]"#);
    assert!(world.received(ann).iter().any(|message| message.starts_with(r#"437[{"ok":true"#)));

    world.input(0, Input::Memory(FreeMemory::Enough));
    world.client(0);
}

#[test]
fn a_recreated_session_has_a_higher_epoch_after_the_wall_clock_steps_back() {
    let mut world = World::new(settings());
    let epoch =
        |world: &World| world.shards[0].session(&SessionId::parse("s").unwrap()).unwrap().epoch();
    let ann = world.client(0);
    world.say(ann, &join("s", "Ann"));
    let before = epoch(&world);
    world.say(ann, r#"42["leave_session",{"sessionId":"s"}]"#);
    world.pass(Limits::PRODUCTION.empty_session_ttl + Limits::PRODUCTION.empty_session_ttl);
    world.input(0, Input::WallClock { started_unix_ms: settings().started_unix_ms - 7_200_000 });
    let ann = world.client(0);
    world.say(ann, &join("s", "Ann"));
    assert!(epoch(&world) > before, "{} after {before}", epoch(&world));
}
