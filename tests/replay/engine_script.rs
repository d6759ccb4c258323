//! Traces of a single engine, for compression, which no recorded server uses.

use std::net::{IpAddr, Ipv4Addr};

use bandsync_engine::engine::Engine;
use bandsync_engine::io::{Input, Output, Outputs, Settings, Transports};
use bandsync_engine::trace::{Digest, Outcome, Recorded};
use bandsync_engine::wire::deflate::{Deflater, Window};
use bandsync_engine::words::compression::Compression;
use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;
use bandsync_trace::format::{End, Entry, EntryBlock, Header, Packer, write_entry};

/// An engine, a clock, and all inputs.
struct Stage {
    engine: Engine,
    settings: Settings,
    now: Micros,
    before: Micros,
    index: u64,
    entries: Vec<u8>,
    digest: Digest,
    out: Outputs,
    /// Bytes that the last input and its turn sent.
    sent: Vec<u8>,
}

impl Stage {
    fn new(context_takeover: bool) -> Self {
        let compression =
            Compression { context_takeover, threshold: 100, ..Compression::default() };
        let transports = Transports {
            polling: true,
            compression: Some(compression),
            ..Settings::default().transports
        };
        let tick_interval = Micros::from_millis(100);
        let settings = Settings {
            seed: 1.into(),
            started_unix_ms: 1_800_000_000_000,
            tick_interval,
            transports,
            ..Settings::default()
        };
        Self {
            engine: Engine::new(settings.clone()),
            settings,
            now: Micros::from_secs(1),
            before: Micros::ZERO,
            index: 0,
            entries: Vec::new(),
            digest: Digest::default(),
            out: Outputs::default(),
            sent: Vec::new(),
        }
    }

    fn input(&mut self, mut input: Input<'_>) {
        let (before, index, at) = (self.before, self.index, self.now);
        let copy = match &mut input {
            Input::Received { bytes, .. } => bytes.to_vec(),
            _ => Vec::new(),
        };
        let recorded = match &input {
            Input::Received { conn, .. } => Recorded::Received { conn: *conn, bytes: &copy },
            Input::Opened { conn, peer } => Recorded::Opened { conn: *conn, peer: *peer },
            _ => Recorded::TurnEnded,
        };
        self.engine.handle(at, input, &mut self.out);
        let outcome = match self.out.list.len() as u32 {
            0 => Outcome::Nothing,
            count => {
                self.digest.add(&self.out, 0);
                Outcome::Outputs { count, digest: self.digest.sum() }
            }
        };
        write_entry(&mut self.entries, before, &Entry { index, at, input: recorded, outcome });
        (self.before, self.index) = (at, index + 1);
        for output in &self.out.list {
            if let Output::Send { bytes, .. } | Output::Fanout { bytes, .. } = output {
                self.sent.extend_from_slice(&self.out.bytes[bytes.range()]);
            }
        }
        self.out.clear();
    }

    fn open(&mut self, index: u32) -> ConnId {
        let conn = ConnId { index, generation: 0 };
        self.input(Input::Opened { conn, peer: IpAddr::V4(Ipv4Addr::LOCALHOST) });
        conn
    }

    /// Passes bytes to the engine, and returns the bytes that it sends within the second.
    fn receive(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<u8> {
        self.sent.clear();
        self.input(Input::Received { conn, bytes: &mut bytes.to_vec() });
        self.input(Input::TurnEnded);
        let end = self.now + Micros::from_secs(1);
        while let Some(next) = self.engine.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.input(Input::TurnEnded);
        }
        self.now = end;
        std::mem::take(&mut self.sent)
    }

    fn trace(&self) -> Vec<u8> {
        let (mut packer, mut out) = (Packer::default(), Vec::new());
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let settings = self.settings.clone();
        packer.header(&mut out, &Header { program, run: 1, segment: 0, settings });
        let entries = &self.entries;
        packer.entries(&mut out, &EntryBlock { first: 0, at: Micros::ZERO, digest: 0, entries });
        packer.end(&mut out, &End::Finished);
        out
    }
}

/// A client that compresses its messages.
struct Client {
    conn: ConnId,
    deflater: Deflater,
    window: Option<Window>,
}

impl Client {
    fn connect(stage: &mut Stage, index: u32, takeover: bool) -> Self {
        let conn = stage.open(index);
        let answer = stage.receive(
            conn,
            b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\n\
              Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
              Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\
              Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
        );
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(answer.contains("server_no_context_takeover"), !takeover, "{answer}");
        let window = takeover.then(Window::default);
        let mut client = Self { conn, deflater: Deflater::new(6), window };
        client.say(stage, "40");
        client.say(stage, r#"420["join_session",{"sessionId":"s","displayName":"Ada"}]"#);
        client
    }

    fn say(&mut self, stage: &mut Stage, text: &str) -> Vec<u8> {
        let (first, payload) =
            match self.deflater.deflate(text.as_bytes(), 15, self.window.as_mut()) {
                Some(payload) => (0xc1, payload),
                None => (0x81, text.as_bytes()),
            };
        let mask = [9, 200, 3, 77];
        let mut frame = vec![first, 0xfe];
        frame.extend((payload.len() as u16).to_be_bytes());
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        stage.receive(self.conn, &frame)
    }
}

fn compressed(takeover: bool) -> Vec<u8> {
    let mut stage = Stage::new(takeover);
    let mut clients = [0, 1].map(|index| Client::connect(&mut stage, index, takeover));
    clients[0].say(&mut stage, r#"421["play",{"sessionId":"s"}]"#);
    let lyrics = "Chorus twice, then the bridge, then the chorus again. ".repeat(6);
    for client in &mut clients {
        let chat = format!(r#"422["chat_message",{{"sessionId":"s","message":"{lyrics}"}}]"#);
        let sent = client.say(&mut stage, &chat);
        assert!(sent.contains(&0xc1), "nothing compressed goes out");
    }
    stage.trace()
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
    let mut stage = Stage::new(false);
    let conn = stage.open(0);
    let head = "HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip, deflate\r\n";
    let open = format!("GET /socket.io/?EIO=4&transport=polling {head}\r\n");
    let answer = stage.receive(conn, open.as_bytes());
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
        stage.receive(conn, post.as_bytes());
        let answer = stage.receive(conn, format!("GET {target} {head}\r\n").as_bytes());
        packed += usize::from(String::from_utf8_lossy(&answer).contains("Content-Encoding: "));
    }
    assert!(packed >= 1, "no answer is compressed");
    stage.trace()
}
