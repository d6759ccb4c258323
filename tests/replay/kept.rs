//! Committed recordings, each of one thing that servers do, which this build must replay with the
//! same outputs.
//!
//! `RECORD_ANEW=target/debug/bandsync cargo test --test replay kept` records all of them again, and
//! `RECORD_ONLY=drain` one of them. A server that records agrees to no compression, so the last few
//! come from scripts for a single engine.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use bandsync_testkit::TestClient;

use crate::engine_script as engine;
use crate::support::{Scratch, Server, bandsync, text};

/// A recording.
struct Kept {
    name: &'static str,
    /// Patterns that some line of `trace show --json` must match; `*` stands for anything.
    holds: &'static [&'static str],
    how: How,
}

enum How {
    /// By a server, with these actions of members.
    Server(fn(&Stand<'_>)),
    /// By an engine, as bytes.
    Engine(fn() -> Vec<u8>),
}

use How::{Engine, Server as Real};

#[rustfmt::skip] // a table
const KEPT: &[Kept] = &[
    Kept { name: "hand-over", how: Real(hand_over), holds: &[
        r#""out"*"hand over""#, r#""in"*"arrived""#, r#""out"*"snapshot""#] },
    Kept { name: "admission", how: Real(admission), holds: &[
        r#""out"*"write""#, r#""shard message""#, r#""out"*"hand over""#, r#""in"*"arrived""#] },
    Kept { name: "admission-refused", how: Real(admission_refused), holds: &[
        r#""out"*"write""#, r#""shard message""#, "bad_passcode"] },
    Kept { name: "polling", how: Real(polling), holds: &[
        r#""in"*"http"*GET *transport=polling"#, r#""in"*"http"*POST "#, r#""in"*"chat_message""#,
        r#""out"*"scroll_tick""#, r#""in"*"engine close""#] },
    Kept { name: "polling-broken", how: Real(polling_broken), holds: &[
        r#""out"*HTTP/1.1 400"#, r#""in"*"http"*DELETE "#] },
    Kept { name: "polling-hand-over", how: Real(polling_hand_over), holds: &[
        r#"GET *transport=polling"#, r#""out"*"hand over""#, r#""in"*"arrived""#] },
    Kept { name: "upgrade", how: Real(upgrade), holds: &[
        r#""in"*"engine ping"*probe"#, r#""out"*"noop""#, r#""in"*"upgrade""#,
        r#""in"*"engine close""#] },
    Kept { name: "engine-io-3", how: Real(engine_io_3), holds: &[
        "EIO=3&transport=websocket", r#""in"*"engine ping""#, r#""in"*"join_session""#] },
    Kept { name: "engine-io-3-polling", how: Real(engine_io_3_polling), holds: &[
        "EIO=3&transport=polling", r#""in"*"join_session""#, r#""out"*"snapshot""#] },
    Kept { name: "recovery", how: Real(recovery), holds: &[
        r#""in"*"connect"*offset"#, r#""out"*"chat_message""#, r#""in"*"closed""#] },
    Kept { name: "recovery-elsewhere", how: Real(recovery_elsewhere), holds: &[
        r#""in"*"connect"*offset"#, r#""out"*"hand over""#] },
    Kept { name: "recovery-refused", how: Real(recovery_refused), holds: &[
        r#""in"*"connect"*offset"#, r#""out"*"connect"*sid"#] },
    Kept { name: "loading", how: Real(loading), holds: &[
        r#""out"*"load""#, r#""storage"*is there"#, r#""out"*"store""#, r#""out"*"snapshot""#] },
    Kept { name: "loading-nothing", how: Real(loading_nothing), holds: &[
        r#""out"*"load""#, r#""storage"*is not there"#, r#""out"*"store""#] },
    Kept { name: "expiry", how: Real(expiry), holds: &[
        r#""out"*"store""#, r#""out"*"forget""#] },
    Kept { name: "memory-low", how: Real(memory_low), holds: &[r#""memory"*Low"#] },
    Kept { name: "memory-out", how: Real(memory_out), holds: &[
        r#""memory"*Out"#, "HTTP/1.1 503", r#""out"*"scroll_tick""#] },
    Kept { name: "drain", how: Real(drain), holds: &[r#""here"*"drain""#, r#""out"*"frame close""#] },
    Kept { name: "drain-disconnect", how: Real(drain_disconnect), holds: &[
        r#""here"*"drain""#, r#""out"*"disconnect""#] },
    Kept { name: "leadership", how: Real(leadership), holds: &[
        r#""in"*"request_leader""#, r#""in"*"approve_leader_request""#, r#""out"*"leader_changed""#] },
    Kept { name: "music", how: Real(music), holds: &[
        r#""in"*"seek""#, r#""in"*"tempo_change""#, r#""in"*"set_time_signature""#,
        r#""in"*"set_setlist""#, r#""in"*"select_song""#, r#""in"*"stop""#, r#""out"*"cue""#] },
    Kept { name: "rates", how: Real(rates), holds: &[r#""in"*"set_tempo""#, r#""out"*superseded"#] },
    Kept { name: "heartbeat", how: Real(heartbeat), holds: &[
        r#""out"*"engine ping""#, r#""in"*"engine pong""#, r#""in"*"pong""#, r#""out"*"close""#] },
    Kept { name: "abuse", how: Real(abuse), holds: &[
        r#""in"*"broken frame""#, r#""in"*"no packet""#, r#""in"*"binary""#, r#""out"*"close""#] },
    Kept { name: "pages", how: Real(pages), holds: &[r#""out"*"ask the host""#, r#""answered""#] },
    // `show` does not know what was agreed on, so a compressed frame looks broken to it.
    Kept { name: "compression", how: Engine(engine::compression), holds: &[
        r#""in"*"broken frame""#, r#""in"*"GET "#, r#""out"*"http"*101"#] },
    Kept { name: "compression-takeover", how: Engine(engine::compression_takeover), holds: &[
        r#""in"*"broken frame""#, r#""out"*"http"*101"#] },
    Kept { name: "compression-polling", how: Engine(engine::compression_polling), holds: &[
        r#""in"*"http"*GET *transport=polling"#, r#""in"*"join_session""#, r#""out"*"http"*200"#] },
];

/// The folder in which a server records.
struct Stand<'a> {
    program: &'a Path,
    directory: &'a Path,
}

impl Stand<'_> {
    fn serve(&self, shards: &str, options: &[&str]) -> Server {
        let common = ["--shards", shards, "--log-level", "off", "--scroll-tick-interval", "100"];
        let storage: &[&str] =
            if options.contains(&"--storage") { &[] } else { &["--storage", "memory"] };
        let options = [&common, storage, options].concat();
        Server::launch(&mut Command::new(self.program), self.directory, &options)
    }

    /// The options for sessions in a file that outlives the server.
    fn file(&self) -> [String; 4] {
        let data = self.directory.join("data").display().to_string();
        ["--storage".into(), "file".into(), "--data".into(), data]
    }
}

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    top().join("tests/traces")
}

fn shown(trace: &Path) -> String {
    text(&bandsync(&["trace", "show", "--json"], &[trace]))
}

/// Patterns that no line matches.
fn missing(kept: &Kept, shown: &str) -> Vec<&'static str> {
    let has = |line: &str, pattern: &str| {
        pattern.split('*').try_fold(line, |rest, part| Some(rest.split_once(part)?.1)).is_some()
    };
    let nowhere = |pattern: &&&'static str| !shown.lines().any(|line| has(line, pattern));
    kept.holds.iter().filter(nowhere).copied().collect()
}

/// Records until one shard's trace holds everything: the kernel decides where members meet.
fn record(kept: &Kept, program: &Path) {
    let to = folder().join(format!("{}.trace", kept.name));
    let mut lacks = Vec::new();
    for _ in 0..10 {
        let scratch = Scratch::new(kept.name);
        let traces = match kept.how {
            How::Server(script) => {
                script(&Stand { program, directory: &scratch.0 });
                scratch.traces()
            }
            How::Engine(script) => {
                let path = scratch.0.join("engine.trace");
                fs::write(&path, script()).unwrap();
                vec![path]
            }
        };
        for trace in traces {
            lacks = missing(kept, &shown(&trace));
            if lacks.is_empty() {
                fs::copy(&trace, &to).unwrap();
                return;
            }
        }
    }
    panic!("{} holds no {lacks:?}", kept.name);
}

#[test]
fn kept_recordings_are_verified_and_contain_the_required_lines() {
    if let Some(program) = std::env::var_os("RECORD_ANEW") {
        let only = std::env::var("RECORD_ONLY").ok();
        let wanted = |kept: &&Kept| only.as_ref().is_none_or(|only| only == kept.name);
        KEPT.iter().filter(wanted).for_each(|kept| record(kept, &top().join(&program)));
    }
    let mut wrong = Vec::new();
    for kept in KEPT {
        let trace = folder().join(format!("{}.trace", kept.name));
        let lacks = missing(kept, &shown(&trace));
        if !lacks.is_empty() {
            wrong.push(format!("{} holds no {lacks:?}", kept.name));
        }
        let replayed = bandsync(&["replay"], &[&trace]);
        if !replayed.status.success() {
            wrong.push(text(&replayed));
        }
    }
    assert!(wrong.is_empty(), "{}\ntests/README.md says when to record anew", wrong.join("\n"));
    let named: BTreeSet<PathBuf> =
        KEPT.iter().map(|kept| folder().join(format!("{}.trace", kept.name))).collect();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let is_trace = path.extension().is_some_and(|extension| extension == "trace");
        let is_known = named.contains(&path) || path.ends_with("band.trace");
        assert!(!is_trace || is_known, "{}: nobody says what it holds", path.display());
    }
}

/// Sends a request on a new connection, and returns head and body of the answer.
fn http(port: u16, method: &str, target: &str, body: &str) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (head.to_owned(), body.to_owned())
}

/// A client that polls.
struct Poller {
    port: u16,
    version: u8,
    sid: String,
}

impl Poller {
    fn connect(port: u16, version: u8) -> Self {
        let target = format!("/socket.io/?EIO={version}&transport=polling");
        let (_, open) = http(port, "GET", &target, "");
        let (_, rest) = open.split_once(r#""sid":""#).unwrap();
        let sid = rest.split('"').next().unwrap().to_owned();
        let poller = Self { port, version, sid };
        // Version 3 is connected without a request, perhaps in the same body.
        if version == 4 {
            poller.post("40");
            poller.hear("40");
        }
        poller
    }

    fn target(&self) -> String {
        format!("/socket.io/?EIO={}&transport=polling&sid={}", self.version, self.sid)
    }

    fn post(&self, packet: &str) -> (String, String) {
        let body = match self.version {
            3 => format!("{}:{packet}", packet.len()),
            _ => packet.to_owned(),
        };
        http(self.port, "POST", &self.target(), &body)
    }

    fn poll(&self) -> String {
        let (_, body) = http(self.port, "GET", &self.target(), "");
        if self.version == 4 && body.split('\u{1e}').any(|packet| packet == "2") {
            self.post("3");
        }
        body
    }

    /// Polls until this text arrives.
    fn hear(&self, text: &str) -> String {
        for _ in 0..200 {
            let body = self.poll();
            if body.contains(text) {
                return body;
            }
        }
        panic!("{text} does not come");
    }

    fn ask(&self, event: &str, payload: &str) -> String {
        self.post(&format!(r#"427["{event}",{payload}]"#));
        self.hear("437[")
    }
}

fn join(member: &mut TestClient, session: &str) -> String {
    let payload = format!(r#"{{"sessionId":"{session}","displayName":"Ada"}}"#);
    member.ask("join_session", &payload)
}

fn joined(port: u16, session: &str) -> TestClient {
    let mut member = TestClient::connect(port);
    assert!(join(&mut member, session).contains(r#""ok":true"#));
    member
}

/// Sends an event that the server answers or passes on to the sender's session.
fn call(member: &mut TestClient, event: &str, more: &str) -> String {
    member.ask(event, &format!(r#"{{"sessionId":"s"{more}}}"#))
}

fn hand_over(stand: &Stand<'_>) {
    let server = stand.serve("2", &[]);
    let mut members: Vec<TestClient> =
        (0..6).map(|n| joined(server.port, &format!("s{n}"))).collect();
    for member in &mut members {
        member.hear(r#"42["snapshot""#);
    }
    server.stop();
}

fn admission(stand: &Stand<'_>) {
    let server = stand.serve("2", &[]);
    let mut members: Vec<TestClient> = (0..2).map(|_| joined(server.port, "s")).collect();
    for n in 0..6 {
        for member in &mut members {
            join(member, &format!("s{n}"));
        }
    }
    server.stop();
}

fn admission_refused(stand: &Stand<'_>) {
    let server = stand.serve("2", &["--event-rates", "join_session=0"]);
    let leaders: Vec<TestClient> = (0..4)
        .map(|n| {
            let mut leader = joined(server.port, &format!("s{n}"));
            let locked = format!(r#"{{"sessionId":"s{n}","passcode":"open sesame"}}"#);
            leader.ask("update_settings", &locked);
            leader
        })
        .collect();
    let mut guest = joined(server.port, "lobby");
    for n in 0..4 {
        let payload = format!(r#"{{"sessionId":"s{n}","passcode":"wrong sesame"}}"#);
        assert!(guest.ask("join_session", &payload).contains("bad_passcode"));
    }
    drop(leaders);
    server.stop();
}

fn polling(stand: &Stand<'_>) {
    let server = stand.serve("1", &[]);
    let poller = Poller::connect(server.port, 4);
    poller.ask("join_session", r#"{"sessionId":"s","displayName":"Ada"}"#);
    poller.ask("play", r#"{"sessionId":"s"}"#);
    poller.hear("scroll_tick");
    poller.post("42[\"chat_message\",{\"sessionId\":\"s\",\"message\":\"one\"}]\u{1e}42[\"chat_message\",{\"sessionId\":\"s\",\"message\":\"two\"}]");
    poller.hear("two");
    poller.post("1");
    server.stop();
}

fn polling_broken(stand: &Stand<'_>) {
    let server = stand.serve("1", &[]);
    let unknown = "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAAAAAA";
    http(server.port, "GET", unknown, "");
    http(server.port, "GET", "/socket.io/?EIO=4&transport=pigeon", "");
    http(server.port, "DELETE", "/socket.io/?EIO=4&transport=polling", "");
    let poller = Poller::connect(server.port, 4);
    poller.post("no packet");
    poller.poll();
    // Two polls at once, one of which is aborted.
    let poller = Poller::connect(server.port, 4);
    let target = poller.target();
    let port = server.port;
    let other = thread::spawn(move || http(port, "GET", &target, ""));
    poller.poll();
    other.join().unwrap();
    server.stop();
}

fn polling_hand_over(stand: &Stand<'_>) {
    let server = stand.serve("2", &[]);
    for n in 0..3 {
        let poller = Poller::connect(server.port, 4);
        poller.ask("join_session", &format!(r#"{{"sessionId":"s{n}"}}"#));
        poller.post("1");
    }
    server.stop();
}

fn upgrade(stand: &Stand<'_>) {
    let server = stand.serve("1", &[]);
    let poller = Poller::connect(server.port, 4);
    poller.ask("join_session", r#"{"sessionId":"s"}"#);
    let query = format!("EIO=4&transport=websocket&sid={}", poller.sid);
    // The first probe is aborted.
    let mut candidate = TestClient::open(server.port, &query);
    candidate.say("2probe");
    candidate.hear("3probe");
    drop(candidate);
    poller.ask("chat_message", r#"{"sessionId":"s","message":"still polling"}"#);
    // The batch, so that the next request waits.
    poller.hear("still polling");
    let mut candidate = TestClient::open(server.port, &query);
    let (port, target) = (server.port, poller.target());
    let waiting = thread::spawn(move || http(port, "GET", &target, ""));
    candidate.say("2probe");
    candidate.hear("3probe");
    waiting.join().unwrap();
    candidate.say("5");
    call(&mut candidate, "chat_message", r#","message":"by WebSocket""#);
    candidate.say("1");
    // Until the server has read that and ended the connection.
    candidate.break_off(b"");
    server.stop();
}

fn engine_io_3(stand: &Stand<'_>) {
    let server = stand.serve("1", &["--engine-io-3", "on"]);
    let mut member = TestClient::open(server.port, "EIO=3&transport=websocket");
    member.hear("40");
    join(&mut member, "s");
    member.say("2");
    member.hear("3");
    call(&mut member, "play", "");
    member.hear(r#"42["scroll_tick""#);
    member.say("41");
    server.stop();
}

fn engine_io_3_polling(stand: &Stand<'_>) {
    let server = stand.serve("1", &["--engine-io-3", "on"]);
    let poller = Poller::connect(server.port, 3);
    poller.post(r#"427["join_session",{"sessionId":"s"}]"#);
    poller.hear("snapshot");
    poller.post("2");
    poller.hear("1:3");
    poller.post("1");
    server.stop();
}

/// A member that can recover, with the answer to its connect.
fn recoverable(port: u16) -> (TestClient, String) {
    let mut member = TestClient::open(port, "EIO=4&transport=websocket");
    member.say("40");
    let greeting = member.hear("40{");
    let (_, pid) = greeting.split_once(r#""pid":""#).unwrap();
    let pid = pid.split('"').next().unwrap().to_owned();
    join(&mut member, "s");
    let snapshot = member.hear(r#"42["snapshot""#);
    let offset = snapshot.rsplit('"').nth(1).unwrap();
    let back = format!(r#"40{{"pid":"{pid}","offset":"{offset}"}}"#);
    (member, back)
}

fn come_back(port: u16, back: &str) -> TestClient {
    let mut member = TestClient::open(port, "EIO=4&transport=websocket");
    member.say(back);
    member.hear("40{");
    member
}

fn recovery(stand: &Stand<'_>) {
    let server = stand.serve("1", &[]);
    let mut leader = joined(server.port, "s");
    let (follower, back) = recoverable(server.port);
    drop(follower);
    leader.hear(r#"42["user_left""#);
    call(&mut leader, "chat_message", r#","message":"missed""#);
    leader.hear(r#"42["chat_message""#);
    let mut follower = come_back(server.port, &back);
    call(&mut follower, "chat_message", r#","message":"back again""#);
    server.stop();
}

fn recovery_elsewhere(stand: &Stand<'_>) {
    let server = stand.serve("2", &[]);
    let mut leader = joined(server.port, "s");
    for _ in 0..4 {
        let (follower, back) = recoverable(server.port);
        drop(follower);
        leader.hear(r#"42["user_left""#);
        come_back(server.port, &back);
    }
    server.stop();
}

fn recovery_refused(stand: &Stand<'_>) {
    let server = stand.serve("1", &[]);
    let leader = joined(server.port, "s");
    let (follower, back) = recoverable(server.port);
    come_back(server.port, r#"40{"pid":"AAAAAAAAAAAAAAAAAAAA","offset":"0.0.0.1"}"#);
    // A member that left on purpose does not recover.
    let mut follower = follower;
    follower.say("41");
    come_back(server.port, &back);
    drop(leader);
    server.stop();
}

fn loading(stand: &Stand<'_>) {
    let file = stand.file();
    let options: Vec<&str> = file.iter().map(String::as_str).collect();
    let before = Scratch::new("before");
    let server = Stand { directory: &before.0, ..*stand }.serve("1", &options);
    let mut leader = joined(server.port, "s");
    call(&mut leader, "play", "");
    server.stop();
    let server = stand.serve("1", &options);
    let mut members: Vec<TestClient> = (0..2).map(|_| joined(server.port, "s")).collect();
    call(&mut members[1], "chat_message", r#","message":"stored""#);
    server.stop();
}

fn loading_nothing(stand: &Stand<'_>) {
    let file = stand.file();
    let server = stand.serve("1", &file.each_ref().map(String::as_str));
    let mut members: Vec<TestClient> = (0..3).map(|_| TestClient::connect(server.port)).collect();
    for member in &mut members {
        member.say(r#"427["join_session",{"sessionId":"s"}]"#);
        member.say(r#"42["chat_message",{"sessionId":"s","message":"sent while it is loaded"}]"#);
    }
    for member in &mut members {
        member.hear("437[");
        member.hear(r#"42["chat_message""#);
    }
    drop(members);
    server.stop();
}

fn expiry(stand: &Stand<'_>) {
    let file = stand.file();
    let options: Vec<&str> = file.iter().map(String::as_str).collect();
    let server = stand.serve("1", &[&options, &["--session-ttl", "1000"][..]].concat());
    let mut member = joined(server.port, "s");
    join(&mut member, "other");
    thread::sleep(Duration::from_millis(2_500));
    join(&mut member, "s");
    server.stop();
}

fn memory_low(stand: &Stand<'_>) {
    let server = stand.serve("1", &["--memory-threshold", "10"]);
    let mut member = joined(server.port, "s");
    join(&mut member, "other");
    thread::sleep(Duration::from_millis(2_500));
    join(&mut member, "s");
    server.stop();
}

fn memory_out(stand: &Stand<'_>) {
    let server = stand.serve("1", &["--memory-threshold", "10", "--memory-limit", "10"]);
    // Memory is read once a second, so some members are accepted before.
    let mut member = joined(server.port, "s");
    call(&mut member, "play", "");
    let is_rejected = || {
        let (head, _) = http(server.port, "GET", "/socket.io/?EIO=4&transport=polling", "");
        head.starts_with("HTTP/1.1 503")
    };
    while !is_rejected() {
        member.hear(r#"42["scroll_tick""#);
    }
    member.hear(r#"42["scroll_tick""#);
    server.stop();
}

fn drained(stand: &Stand<'_>, goodbye: &str) {
    let server = stand.serve("1", &["--drain-goodbye", goodbye]);
    let members: Vec<TestClient> = (0..2).map(|_| joined(server.port, "s")).collect();
    let poller = Poller::connect(server.port, 4);
    poller.ask("join_session", r#"{"sessionId":"s"}"#);
    // The first batch, so that the next request waits for the goodbye.
    poller.hear("user_joined");
    let waiting = thread::spawn(move || poller.poll());
    thread::sleep(Duration::from_millis(300));
    server.stop();
    waiting.join().unwrap();
    drop(members);
}

fn drain(stand: &Stand<'_>) {
    drained(stand, "reconnect");
}

fn drain_disconnect(stand: &Stand<'_>) {
    drained(stand, "disconnect");
}

fn leadership(stand: &Stand<'_>) {
    let server = stand.serve("1", &["--leader-grace", "300", "--recovery-window", "0"]);
    let mut leader = joined(server.port, "s");
    call(&mut leader, "update_settings", r#","leaderRule":"ask""#);
    let mut follower = TestClient::connect(server.port);
    let answer = join(&mut follower, "s");
    let (_, id) = answer.split_once(r#""socketId":""#).unwrap();
    let requester = format!(r#","requesterId":"{}""#, id.split('"').next().unwrap());
    for answer in ["deny_leader_request", "approve_leader_request"] {
        call(&mut follower, "request_leader", "");
        call(&mut leader, answer, &requester);
    }
    call(&mut follower, "play", "");
    drop(follower);
    thread::sleep(Duration::from_millis(1_000));
    call(&mut leader, "request_leader", "");
    server.stop();
}

fn music(stand: &Stand<'_>) {
    let server = stand.serve("1", &[]);
    let mut leader = joined(server.port, "s");
    let mut follower = joined(server.port, "s");
    for (event, more) in [
        ("set_time_signature", r#","numerator":7,"denominator":8"#),
        ("play", r#","countInBars":1"#),
        ("seek", r#","position":30000"#),
        ("tempo_change", r#","tempo":140.5,"fadeTime":2000"#),
        ("cue", r#","text":"Chorus""#),
        ("update_message", r#","message":"Twice""#),
        (
            "set_setlist",
            r#","setlist":{"title":"Tonight","songs":[{"id":"a","title":"First","tempo":96},{"id":"b","title":"Second"}]}"#,
        ),
        ("select_song", r#","songId":"a""#),
        ("get_song", r#","songId":"b""#),
        ("pause", ""),
        ("play", r#","quantize":"bar""#),
        ("stop", ""),
        ("sync_request", ""),
        ("seek", r#","position":-1"#),
    ] {
        call(&mut leader, event, more);
    }
    call(&mut follower, "seek", r#","position":1"#);
    follower.say(r#"42["position_sync",{"sessionId":"s","positionMs":99999,"timestamp":1}]"#);
    follower.say(r#"42["clock_sync",{"t0":1}]"#);
    follower.say(r#"42["latency_probe",{"timestamp":1}]"#);
    call(&mut follower, "sync_request", "");
    server.stop();
}

fn rates(stand: &Stand<'_>) {
    let server = stand.serve("1", &[]);
    let mut leader = joined(server.port, "s");
    for n in 0..40 {
        leader.say(&format!(r#"428["set_tempo",{{"sessionId":"s","tempo":{}}}]"#, 60 + n));
    }
    for n in 0..12 {
        leader.say(&format!(r#"429["chat_message",{{"sessionId":"s","message":"{n}"}}]"#));
    }
    call(&mut leader, "play", "");
    server.stop();
}

fn heartbeat(stand: &Stand<'_>) {
    let pings = ["--socket-ping-interval", "200", "--socket-ping-timeout", "1000"];
    let server = stand.serve("1", &[&pings[..], &["--heartbeat-interval", "100"]].concat());
    let mut member = joined(server.port, "s");
    let mut silent = TestClient::open(server.port, "EIO=4&transport=websocket");
    silent.say("40");
    for n in 0..6 {
        member.hear(r#"42["ping""#);
        member.say(&format!(r#"42["pong",{{"timestamp":{n}}}]"#));
    }
    silent.break_off(&[]);
    server.stop();
}

fn abuse(stand: &Stand<'_>) {
    let server = stand.serve("1", &[]);
    let open = || TestClient::open(server.port, "EIO=4&transport=websocket");
    // Not masked, reserved bits, a control frame that is too long, an unknown opcode.
    for bytes in
        [&[0x81, 0][..], &[0xf1, 0x80, 0, 0, 0, 0], &[0x89, 0xfe], &[0x88, 0x81, 0, 0, 0, 0, 9]]
    {
        open().break_off(bytes);
    }
    for packet in ["", "9", "42", "42[", r#"42["connect"]"#, "40{", "44", "451-", "2"] {
        let mut member = open();
        member.say("40");
        member.say(packet);
        member.break_off(&[]);
    }
    let mut member = joined(server.port, "s");
    member.say(r#"451-["chat_message",{"_placeholder":true,"num":0}]"#);
    // A binary message, and a ping between the fragments of another.
    member.send(&[0x82, 0x83, 0, 0, 0, 0, 1, 2, 3]);
    member.say(r#"42["no_such_event",{}]"#);
    member.ask("chat_message", r#"{"sessionId":"s","message":{"__proto__":1}}"#);
    member.send(&[
        0x01, 0x81, 0, 0, 0, 0, b'4', 0x89, 0x80, 0, 0, 0, 0, 0x80, 0x81, 0, 0, 0, 0, b'1',
    ]);
    drop(member);
    server.stop();
}

fn pages(stand: &Stand<'_>) {
    let server = stand.serve("1", &[]);
    for target in ["/", "/health", "/livez", "/metrics", "/nowhere", "/%00"] {
        http(server.port, "GET", target, "");
    }
    http(server.port, "HEAD", "/", "");
    http(server.port, "POST", "/health", "body");
    http(server.port, "OPTIONS", "/socket.io/?EIO=4&transport=polling", "");
    server.stop();
}
