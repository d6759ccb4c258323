//! A real server is recorded while members play on two shards, and what it did is replayed.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bandsync_driver::recorder::format::SegmentReader;

const SECRETS: [&str; 4] = ["open sesame", "wrong sesame", "pin 4711 pin", "bearer of the token"];

/// A directory that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bandsync-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn traces(&self) -> Vec<PathBuf> {
        let mut traces: Vec<PathBuf> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        traces.retain(|path| path.extension().is_some_and(|extension| extension == "trace"));
        traces.sort();
        traces
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bandsync(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bandsync"))
        .args(arguments)
        .args(paths)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(directory: &Path, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bandsync"))
            .args(["serve", "--port", "0", "--host", "localhost", "--shards", "2", "--log-level", "off"])
            .args(options)
            .arg("--record")
            .arg(directory)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("http://127.0.0.1:")?;
            rest.split('/').next()?.trim().parse().ok()
        });
        std::thread::spawn(move || lines.count());
        Self { child, port: port.unwrap() }
    }

    /// Ends it in order.
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A member with a WebSocket of its own.
struct Member {
    stream: BufReader<TcpStream>,
}

impl Member {
    fn connect(port: u16) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                       Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
                       Sec-WebSocket-Version: 13\r\nAuthorization: bearer of the token\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut member = Self { stream: BufReader::new(stream) };
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert!(member.stream.read_line(&mut line).unwrap() > 0);
        }
        member.say("40");
        member.hear("40{");
        member
    }

    /// Sends a packet in two pieces, so that a read may end between them.
    fn say(&mut self, packet: &str) {
        let mask = [9, 200, 3, 77];
        let mut frame = vec![0x81, 0xfe];
        frame.extend((packet.len() as u16).to_be_bytes());
        frame.extend(mask);
        frame.extend(packet.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        let (first, second) = frame.split_at(frame.len() / 2);
        for part in [first, second] {
            self.stream.get_mut().write_all(part).unwrap();
            std::thread::yield_now();
        }
    }

    /// Waits for a packet that begins like this, and returns it.
    fn hear(&mut self, beginning: &str) -> String {
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).unwrap();
            let mut length = usize::from(head[1]);
            if length == 126 {
                let mut long = [0; 2];
                self.stream.read_exact(&mut long).unwrap();
                length = usize::from(u16::from_be_bytes(long));
            }
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).unwrap();
            let text = String::from_utf8(payload).unwrap();
            if text == "2" {
                self.say("3");
            }
            if text.starts_with(beginning) {
                return text;
            }
        }
    }

    fn ask(&mut self, event: &str, payload: &str) -> String {
        self.say(&format!(r#"427["{event}",{payload}]"#));
        self.hear("437[")
    }
}

/// What a small band does: two sessions, one of them with a passcode and a PIN, on two shards.
fn play(port: u16) -> Vec<Member> {
    let mut members = Vec::new();
    for session in ["demo", "stage", "a", "b", "c"] {
        let mut leader = Member::connect(port);
        let joined =
            leader.ask("join_session", &format!(r#"{{"sessionId":"{session}","displayName":"Ada"}}"#));
        assert!(joined.contains(r#""ok":true"#), "{joined}");
        let settings = format!(
            r#"{{"sessionId":"{session}","leaderRule":"pin","passcode":"open sesame","leaderPin":"pin 4711 pin"}}"#
        );
        let set = leader.ask("update_settings", &settings);
        assert!(set.contains(r#""ok":true"#), "{set}");
        leader.ask("play", &format!(r#"{{"sessionId":"{session}"}}"#));

        let mut follower = Member::connect(port);
        let refused = follower
            .ask("join_session", &format!(r#"{{"sessionId":"{session}","passcode":"wrong sesame"}}"#));
        assert!(refused.contains("bad_passcode"), "{refused}");
        let mut follower = Member::connect(port);
        let joined = follower.ask(
            "join_session",
            &format!(
                r#"{{"sessionId":"{session}","passcode":"open sesame","leaderPin":"pin 4711 pin","displayName":"Bo"}}"#
            ),
        );
        assert!(joined.contains(r#""ok":true"#), "{joined}");
        for _ in 0..10 {
            follower.hear(r#"42["scroll_tick""#);
        }
        members.extend([leader, follower]);
    }
    members
}

/// Every byte of the entries, uncompressed.
fn entries(trace: &Path) -> Vec<u8> {
    let mut reader = SegmentReader::new(fs::File::open(trace).unwrap()).unwrap();
    let mut all = Vec::new();
    while let Some(stretch) = reader.stretch().unwrap() {
        all.extend_from_slice(stretch.entries);
    }
    all
}

#[test]
fn what_a_server_did_is_replayed_without_its_secrets() {
    let scratch = Scratch::new("replay");
    let server = Server::start(&scratch.0, &["--record-max-age", "1000"]);
    let members = play(server.port);
    let mut last = Member::connect(server.port);
    last.ask("join_session", r#"{"sessionId":"late"}"#);
    server.stop();
    drop(members);

    let traces = scratch.traces();
    assert!(traces.len() >= 2, "{traces:?}");
    let replayed = bandsync(&["replay"], &[&scratch.0]);
    assert!(replayed.status.success(), "{}", text(&replayed));
    let report = text(&replayed);
    assert_eq!(report.matches("the outputs are the same").count(), 3, "{report}");

    let shown = bandsync(&["trace", "show", "--json"], &[&scratch.0]);
    assert!(shown.status.success(), "{}", text(&shown));
    let shown = text(&shown);
    for event in ["join_session", "update_settings", "arrived", "hand over", "scroll_tick", "drain"] {
        assert!(shown.contains(&format!(r#""event":"{event}""#)), "{event} is not shown");
    }
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{secret:?} is shown");
        for trace in &traces {
            let entries = entries(trace);
            let found = entries.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
            assert!(!found, "{secret:?} is in {}", trace.display());
        }
    }
    assert!(shown.contains("bad_passcode"), "a wrong passcode stays wrong");
}

/// The trace of the first shard, whole.
fn first_shard(scratch: &Scratch) -> PathBuf {
    let mut traces = scratch.traces();
    traces.retain(|trace| trace.to_string_lossy().contains("-shard0-"));
    traces.remove(0)
}

#[test]
fn a_trace_is_looked_at_cut_compared_and_shrunk() {
    let scratch = Scratch::new("trace");
    let server = Server::start(&scratch.0, &[]);
    drop(play(server.port));
    server.stop();
    let trace = first_shard(&scratch);
    let out = scratch.0.join("part");
    let to = out.to_str().unwrap();

    let stats = text(&bandsync(&["trace", "stats"], &[&scratch.0]));
    for part in
        ["to the server", "from the server", "scroll_tick", "messages from the server", "who talks most"]
    {
        assert!(stats.contains(part), "{part}: {stats}");
    }
    assert!(bandsync(&["trace", "diff"], &[&trace, &trace]).status.success());

    let cut = bandsync(&["trace", "cut", "--session", "a", "--out", to], &[&trace]);
    assert!(cut.status.success(), "{}", text(&cut));
    let replayed = bandsync(&["replay"], &[&out]);
    assert!(replayed.status.success(), "{}", text(&replayed));
    assert_eq!(bandsync(&["trace", "diff"], &[&trace, &out]).status.code(), Some(1));

    let shrunk = bandsync(&["trace", "shrink", "--check", "bad_passcode", "--out", to], &[&trace]);
    assert!(shrunk.status.success(), "{}", text(&shrunk));
    let shown = text(&bandsync(&["trace", "show", "--turns"], &[&out]));
    assert!(shown.contains("bad_passcode") && shown.lines().count() < 60, "{shown}");
    assert!(!shown.contains("scroll_tick"), "{shown}");
}

#[test]
fn outputs_that_differ_are_named_and_a_killed_servers_trace_is_read() {
    let scratch = Scratch::new("parted");
    let server = Server::start(&scratch.0, &["--seed", "5"]);
    let mut members = play(server.port);
    let trace = first_shard(&scratch);
    let header = fs::metadata(&trace).unwrap().len();
    // A shard gives away what it has recorded once a second.
    let mut ticks = 0;
    while fs::metadata(&trace).unwrap().len() == header {
        members[0].hear(r#"42["scroll_tick""#);
        ticks += 1;
        assert!(ticks < 10_000, "nothing is written");
    }
    drop(server);
    let replayed = bandsync(&["replay"], &[&trace]);
    // Nothing that was written is missing; what was not, nobody knows.
    assert!(replayed.status.success(), "{}", text(&replayed));

    // The same inputs with another seed lead to other ids.
    let bytes = fs::read(&trace).unwrap();
    let other = Scratch::new("other");
    let server = Server::start(&other.0, &["--seed", "6"]);
    drop(server);
    let header = fs::read(first_shard(&other)).unwrap();
    let length = |bytes: &[u8]| 17 + 13 + u32::from_le_bytes(bytes[18..22].try_into().unwrap()) as usize;
    let mixed = other.0.join("mixed");
    fs::write(&mixed, [&header[..length(&header)], &bytes[length(&bytes)..]].concat()).unwrap();
    let replayed = bandsync(&["replay"], &[&mixed]);
    let report = text(&replayed);
    assert_eq!(replayed.status.code(), Some(1), "{report}");
    for part in ["THE OUTPUTS DIFFER", "at input ", "expected", "actual"] {
        assert!(report.contains(part), "{part}: {report}");
    }
    let refused = bandsync(&["replay"], &[Path::new(file!())]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
}
