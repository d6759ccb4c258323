//! Records real shards by a tap, and replays them on new engines: the outputs are equal, turn for
//! turn.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bandsync_driver::{Asker, Clock, End, Fleet, Host, Plan, SharedMetrics};
use bandsync_engine::engine::Engine;
use bandsync_engine::io::tap::Tap;
use bandsync_engine::io::{HttpRequest, HttpResponse, Input, Outputs, Settings};
use bandsync_engine::trace::{self, Recorded};
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;
use bandsync_testkit::TestClient;

const SHARDS: u16 = 3;
const PATIENCE: Duration = Duration::from_secs(30);

/// The run of a shard: its inputs in order, and the outputs of each turn.
#[derive(Default)]
struct Tape {
    inputs: Vec<u8>,
    turns: Vec<u8>,
    /// Whether the last input ended a turn, whose outputs are then complete.
    turn_ended: bool,
}

struct Recorder(Arc<Mutex<Tape>>);

impl Tap for Recorder {
    fn input(&mut self, at: Micros, input: &Input<'_>) {
        let mut tape = self.0.lock().unwrap();
        tape.turn_ended = matches!(input, Input::TurnEnded);
        trace::write_input(&mut tape.inputs, at, &Recorded::of(input));
    }

    fn outputs(&mut self, outputs: &Outputs, _from: usize) {
        let mut tape = self.0.lock().unwrap();
        if tape.turn_ended {
            trace::write_outputs(&mut tape.turns, outputs);
        }
    }
}

struct Page;

impl Host for Page {
    fn answer(&self, _: Asker, request: &HttpRequest) -> Option<HttpResponse> {
        Some(HttpResponse {
            status: 200,
            headers: Vec::new(),
            body: request.path.clone().into_bytes().into(),
        })
    }
}

fn settings(shard: u16, started_unix_ms: i64) -> Settings {
    let tick_interval = Micros::from_millis(8);
    Settings {
        shard: ShardId(shard),
        shards: SHARDS,
        seed: 7.into(),
        started_unix_ms,
        tick_interval,
        ..Settings::default()
    }
}

/// Plays as a band of two in one session, whose name decides on which shard it lives.
fn play(port: u16, session: &str, done: &Sender<()>) {
    let members = [0, 1].map(|n| {
        // In one write, so that the rest is handed over unread after the join.
        let join = format!(r#"42{n}["join_session",{{"sessionId":"{session}"}}]"#);
        let mut member = TestClient::burst(port, "", &["40", &join]);
        member.hear(&format!("43{n}[{{\"ok\":true"));
        member
    });
    let [mut leader, mut follower] = members;
    leader.say(&format!(r#"42["play",{{"sessionId":"{session}"}}]"#));
    for _ in 0..20 {
        follower.hear(r#"42["scroll_tick""#);
    }
    leader.say(&format!(r#"42["seek",{{"sessionId":"{session}","position":5000}}]"#));
    follower.hear(r#"42["seek""#);
    done.send(()).unwrap();
    follower.hear_of("draining");
}

#[test]
fn new_engines_reproduce_the_outputs_of_real_shards() {
    let clock = Clock::start();
    let started_unix_ms = clock.started_unix_ms();
    let tapes: Vec<Arc<Mutex<Tape>>> = (0..SHARDS).map(|_| Arc::default()).collect();
    let host: Arc<dyn Host> = Arc::new(Page);
    let plan = Plan { pin: false, ..Plan::new(Ipv4Addr::LOCALHOST.into(), 0) };
    let metrics = SharedMetrics::new(SHARDS);
    let fleet = Fleet::start(&plan, clock, &metrics, &host, |shard| {
        let tap: Box<dyn Tap> = Box::new(Recorder(Arc::clone(&tapes[usize::from(shard.0)])));
        (Engine::new(settings(shard.0, started_unix_ms)), tap)
    })
    .unwrap();
    let port = fleet.address().port();

    let (done, finished) = channel();
    let bands: Vec<_> = (0..8)
        .map(|n| {
            let done = done.clone();
            std::thread::spawn(move || play(port, &format!("band-{n}"), &done))
        })
        .collect();
    let mut page = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    page.set_read_timeout(Some(PATIENCE)).unwrap();
    page.write_all(b"GET /somewhere HTTP/1.1\r\nHost: band\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    page.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("/somewhere"), "{answer}");
    for _ in &bands {
        finished.recv_timeout(PATIENCE).unwrap();
    }
    fleet.drain(PATIENCE);
    for band in bands {
        band.join().unwrap();
    }
    assert_eq!(fleet.join(), vec![End::Drained; usize::from(SHARDS)]);

    let mut handed_over = 0;
    for (shard, tape) in tapes.iter().enumerate() {
        let tape = tape.lock().unwrap();
        let mut engine = Engine::new(settings(shard as u16, started_unix_ms));
        let (mut inputs, mut turns) = (&tape.inputs[..], &tape.turns[..]);
        let (mut out, mut copy, mut turn) = (Outputs::default(), Vec::new(), 0);
        while !inputs.is_empty() {
            let (at, input) = trace::read_input(&mut inputs).unwrap();
            handed_over += u32::from(matches!(input, Recorded::Arrived { .. }));
            engine.handle(at, input.to_input(&mut copy), &mut out);
            if input == Recorded::TurnEnded {
                assert!(
                    out == trace::read_outputs(&mut turns).unwrap(),
                    "shard {shard} parts in turn {turn}"
                );
                out.clear();
                turn += 1;
            }
        }
        assert!(turns.is_empty() && turn > 0);
    }
    assert!(handed_over > 0, "with 16 connections on 3 shards, some were on the wrong one");
}
