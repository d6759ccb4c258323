//! Traces of a single engine, for compression, which no recorded server uses.

use bandsync_engine::io::tap::Tap;
use bandsync_engine::io::{Input, Output, Outputs, Settings, Transports};
use bandsync_engine::trace::{self, Digest, Outcome, Recorded};
use bandsync_engine::wire::deflate::{Deflater, Window};
use bandsync_engine::words::compression::Compression;
use bandsync_engine::words::time::Micros;
use bandsync_testkit::{Harness, frames};
use bandsync_trace::format::{End, EntryBlock, Header, Packer};

/// The bytes that mask a client's frames.
const MASK: [u8; 4] = [9, 200, 3, 77];

fn settings(context_takeover: bool) -> Settings {
    let compression = Compression { context_takeover, threshold: 100, ..Compression::default() };
    let transports = Transports {
        polling: true,
        compression: Some(compression),
        ..Settings::default().transports
    };
    Settings {
        seed: 1.into(),
        started_unix_ms: 1_800_000_000_000,
        tick_interval: Micros::from_millis(100),
        transports,
        ..Settings::default()
    }
}

/// A tap that writes the entries of a trace.
#[derive(Default)]
struct Script {
    /// The time of the last input.
    before: Micros,
    entries: Vec<u8>,
    digest: Digest,
    /// Bytes that the engine sent since they were last taken.
    sent: Vec<u8>,
}

impl Tap for Script {
    fn input(&mut self, at: Micros, input: &Input<'_>) {
        trace::write_input(&mut self.entries, at.since(self.before), &Recorded::of(input));
        self.before = at;
    }

    fn outputs(&mut self, outputs: &Outputs, _from: usize) {
        let outcome = match outputs.list.len() as u32 {
            0 => Outcome::Nothing,
            count => {
                self.digest.add(outputs, 0);
                Outcome::Outputs { count, digest: self.digest.sum() }
            }
        };
        trace::write_outcome(&mut self.entries, outcome);
        for output in &outputs.list {
            if let Output::Send { bytes, .. } | Output::Fanout { bytes, .. } = output {
                self.sent.extend_from_slice(&outputs.bytes[bytes.range()]);
            }
        }
    }
}

fn stage(settings: &Settings) -> Harness<Script> {
    Harness::new(settings, |_| Script::default())
}

/// Passes bytes to the engine, and returns the bytes that it sends within the second.
fn receive(stage: &mut Harness<Script>, client: u32, bytes: &[u8]) -> Vec<u8> {
    stage.tap(0).sent.clear();
    stage.received(client, &mut bytes.to_vec());
    stage.turn();
    stage.pass(Micros::from_secs(1));
    std::mem::take(&mut stage.tap(0).sent)
}

fn trace(stage: &mut Harness<Script>, settings: Settings) -> Vec<u8> {
    let (mut packer, mut out) = (Packer::default(), Vec::new());
    let program = env!("CARGO_PKG_VERSION").to_owned();
    packer.header(&mut out, &Header { program, run: 1, segment: 0, settings });
    let entries = &stage.tap(0).entries;
    packer.entries(&mut out, &EntryBlock { first: 0, at: Micros::ZERO, digest: 0, entries });
    packer.end(&mut out, &End::Finished);
    out
}

/// A client that compresses its messages.
struct Client {
    number: u32,
    deflater: Deflater,
    window: Option<Window>,
}

impl Client {
    fn connect(stage: &mut Harness<Script>, takeover: bool) -> Self {
        let number = stage.open(0);
        let answer = receive(
            stage,
            number,
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
              Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
              Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        );
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(answer.contains("server_no_context_takeover"), !takeover, "{answer}");
        let window = takeover.then(Window::default);
        let mut client = Self { number, deflater: Deflater::new(6), window };
        client.say(stage, "40");
        client.say(stage, r#"420["join_session",{"sessionId":"s","displayName":"Ada"}]"#);
        client
    }

    fn say(&mut self, stage: &mut Harness<Script>, text: &str) -> Vec<u8> {
        let (first, payload) =
            match self.deflater.deflate(text.as_bytes(), 15, self.window.as_mut()) {
                Some(payload) => (0xc1, payload),
                None => (0x81, text.as_bytes()),
            };
        let mut frame = Vec::new();
        frames::write(&mut frame, first, payload, Some(MASK));
        receive(stage, self.number, &frame)
    }
}

fn compressed(takeover: bool) -> Vec<u8> {
    let settings = settings(takeover);
    let mut stage = stage(&settings);
    let mut clients = [(); 2].map(|()| Client::connect(&mut stage, takeover));
    clients[0].say(&mut stage, r#"421["play",{"sessionId":"s"}]"#);
    let lyrics = "Chorus twice, then the bridge, then the chorus again. ".repeat(6);
    for client in &mut clients {
        let chat = format!(r#"422["chat_message",{{"sessionId":"s","message":"{lyrics}"}}]"#);
        let sent = client.say(&mut stage, &chat);
        assert!(sent.contains(&0xc1), "the message is sent compressed");
    }
    trace(&mut stage, settings)
}

/// Messages that are compressed independently.
pub fn compression() -> Vec<u8> {
    compressed(false)
}

/// Messages that refer to earlier ones.
pub fn compression_takeover() -> Vec<u8> {
    compressed(true)
}

/// Answers to polls.
pub fn compression_polling() -> Vec<u8> {
    let settings = settings(false);
    let mut stage = stage(&settings);
    let client = stage.open(0);
    let head = "HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip, deflate\r\n";
    let open = format!("GET /socket.io/?EIO=4&transport=polling {head}\r\n");
    let answer = receive(&mut stage, client, open.as_bytes());
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (_, rest) = answer.split_once(r#""sid":""#).unwrap();
    let target =
        format!("/socket.io/?EIO=4&transport=polling&sid={}", rest.split('"').next().unwrap());
    let lyrics = "Chorus twice, then the bridge, then the chorus again. ".repeat(6);
    let mut packed = 0;
    for packet in [
        "40".to_owned(),
        r#"420["join_session",{"sessionId":"s","displayName":"Ada"}]"#.to_owned(),
        format!(r#"422["chat_message",{{"sessionId":"s","message":"{lyrics}"}}]"#),
    ] {
        let length = packet.len();
        let post = format!("POST {target} {head}Content-Length: {length}\r\n\r\n{packet}");
        receive(&mut stage, client, post.as_bytes());
        let answer = receive(&mut stage, client, format!("GET {target} {head}\r\n").as_bytes());
        packed += usize::from(String::from_utf8_lossy(&answer).contains("Content-Encoding: "));
    }
    assert!(packed >= 1, "no answer is compressed");
    trace(&mut stage, settings)
}
