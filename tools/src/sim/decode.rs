//! Decodes the server's packets for the members and the oracle.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::rng::Digest;

/// A message from the server. It is decoded once for all its receivers.
#[derive(Debug)]
pub struct Decoded {
    pub what: ServerMessage,
    /// Its offset in the session's replay log, and the number in that.
    pub offset: Option<(String, u64)>,
    /// The time at which it was first sent.
    pub at: u64,
    /// Number of bytes that all sessions had sent by then.
    pub bytes: u64,
}

/// The content of a message.
#[derive(Debug)]
pub enum ServerMessage {
    /// `40`: connected as this member, with the secret to recover its seat.
    Connected(String, Option<String>),
    Ack(Ack),
    /// An event that carries a version of a session.
    State(State),
    Tick {
        session: u16,
        version: (u64, u64),
        /// The position in microseconds.
        position: i128,
        /// The number of the tick, over all sessions.
        serial: u64,
    },
    /// A metronome tick, with the time of its beat in microseconds.
    Beat {
        session: u16,
        at: u64,
    },
    /// A chat message to this session.
    Chat(u16),
    /// A ping of Engine.IO.
    EnginePing,
    /// A ping of the application, with its timestamp.
    Ping(i64),
    /// A report of the client's connection quality.
    Quality,
    /// Any other message that concerns one client and no session.
    Link,
    EngineOpen,
    /// A goodbye of the server.
    Disconnect,
    Other,
}

/// An acknowledgement.
#[derive(Debug)]
pub struct Ack {
    pub id: u64,
    pub ok: bool,
    pub code: String,
    /// Whether the reason is too many wrong passcodes.
    pub guessing: bool,
    pub version: (u64, u64),
    pub position: Option<i128>,
    pub t1: Option<i128>,
    pub t2: Option<i128>,
    pub restored: Option<bool>,
    /// Whether the member got a seat that it had before.
    pub is_back: bool,
    pub repeated: bool,
    pub superseded: bool,
    pub cut: bool,
    pub pending: bool,
}

impl Ack {
    /// Returns the times at which the server received a probe and answered it, in milliseconds.
    pub fn stamps(&self) -> Option<(f64, f64)> {
        self.t1.zip(self.t2).map(|(t1, t2)| (t1 as f64 / 1_000.0, t2 as f64 / 1_000.0))
    }
}

/// A version of a session.
#[derive(Debug)]
pub struct State {
    pub session: u16,
    pub version: (u64, u64),
    pub sum: Option<u64>,
    pub timeline: Option<u64>,
    /// Digest of the whole event, if it announces a change.
    pub change: Option<u64>,
    pub snapshot: Option<Snapshot>,
}

impl Decoded {
    /// Whether it repeats a known state instead of announcing a change, so it has that state's
    /// offset.
    pub fn is_snapshot(&self) -> bool {
        matches!(&self.what, ServerMessage::State(State { snapshot: Some(_), .. }))
    }
}

/// The content of a snapshot.
#[derive(Debug)]
pub struct Snapshot {
    pub position: i128,
    pub playing: bool,
    pub leader: Option<String>,
    pub members: Vec<(String, bool)>,
    pub member_count: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(borrow, default)]
    pub session_id: Option<Cow<'a, str>>,
    pub epoch: Option<u64>,
    pub version: Option<u64>,
    pub checksum: Option<Cow<'a, str>>,
    pub timeline: Option<&'a RawValue>,
    pub position: Option<f64>,
    pub position_ms: Option<f64>,
    pub is_playing: Option<bool>,
    pub leader_socket_id: Option<Cow<'a, str>>,
    pub members: Option<Vec<MemberFields<'a>>>,
    pub member_count: Option<u32>,
    pub timestamp: Option<f64>,
    pub ok: Option<bool>,
    pub error: Option<ErrorFields<'a>>,
    pub sid: Option<Cow<'a, str>>,
    pub pid: Option<Cow<'a, str>>,
    pub at_server_ms: Option<f64>,
    pub restored: Option<bool>,
    #[serde(borrow)]
    pub seat: Option<Cow<'a, str>>,
    pub repeated: Option<bool>,
    pub superseded: Option<bool>,
    pub cut: Option<bool>,
    pub pending: Option<bool>,
    pub t1: Option<f64>,
    pub t2: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MemberFields<'a> {
    #[serde(borrow)]
    pub socket_id: Cow<'a, str>,
    pub connected: bool,
}

#[derive(Deserialize)]
struct ErrorFields<'a> {
    #[serde(borrow)]
    pub code: Cow<'a, str>,
    #[serde(borrow)]
    pub message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct VersionFields {
    pub epoch: u64,
    pub version: u64,
}

/// Returns the offset at the end of an event, and the number in it.
pub fn offset_of(text: &str) -> Option<(String, u64)> {
    let inside = text.strip_prefix("42[")?.strip_suffix("\"]")?;
    let (_, offset) = inside.rsplit_once(",\"")?;
    let (log, number) = offset.rsplit_once('.')?;
    log.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit()).then_some(())?;
    Some((offset.to_owned(), number.parse().ok()?))
}

/// Returns the part of an offset that all offsets of one session's log share.
pub fn log_of(offset: &str) -> &str {
    offset.rsplit_once('.').map_or("", |(log, _)| log)
}

/// Decodes a packet. `sessions` is the number of sessions in the world.
pub fn understand(text: &str, sessions: usize) -> Result<ServerMessage, String> {
    let check = |json: &'_ str| -> Result<(), String> {
        serde_json::from_str::<serde::de::IgnoredAny>(json)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    match text.as_bytes() {
        b"2" => return Ok(ServerMessage::EnginePing),
        b"41" => return Ok(ServerMessage::Disconnect),
        [b'0', ..] => return check(&text[1..]).map(|()| ServerMessage::EngineOpen),
        [b'4', b'0', ..] => {
            let fields: Fields<'_> = parse(&text[2..])?;
            let sid = fields.sid.unwrap_or_default().into_owned();
            return Ok(ServerMessage::Connected(sid, fields.pid.map(Cow::into_owned)));
        }
        [b'4', b'3', ..] => return understand_ack(&text[2..]),
        [b'4', b'4', ..] => return Ok(ServerMessage::Link),
        _ => {}
    }
    let inside = text.strip_prefix("42[\"").and_then(|rest| rest.strip_suffix(']'));
    let (name, json) = inside.and_then(|rest| rest.split_once("\",")).ok_or("no event")?;
    // After the fields there may be the event's offset in the session's log.
    let mut values = serde_json::Deserializer::from_str(json);
    let fields = Fields::deserialize(&mut values).map_err(|error| error.to_string())?;
    let session =
        fields.session_id.as_deref().and_then(|name| name.strip_prefix('s')?.parse::<u16>().ok());
    let timeline: Option<VersionFields> = match fields.timeline {
        Some(raw) => Some(parse(raw.get())?),
        None => None,
    };
    let version = match (fields.epoch, fields.version, &timeline) {
        (Some(epoch), Some(version), _) => Some((epoch, version)),
        (_, _, Some(timeline)) => Some((timeline.epoch, timeline.version)),
        _ => None,
    };
    if name == "ping" {
        return Ok(ServerMessage::Ping(fields.timestamp.unwrap_or_default() as i64));
    }
    let (Some(session), Some(version)) = (session, version) else {
        if let (Some(session), Some(at), "metronome_tick") = (session, fields.at_server_ms, name) {
            return Ok(ServerMessage::Beat { session, at: micros(at) as u64 });
        }
        return Ok(match session.filter(|session| usize::from(*session) < sessions) {
            Some(session) if name == "chat_message" => ServerMessage::Chat(session),
            None if name == "connection_quality" => ServerMessage::Quality,
            None if fields.session_id.is_none() => ServerMessage::Link,
            _ => ServerMessage::Other,
        });
    };
    if usize::from(session) >= sessions {
        return Err("an unknown session".into());
    }
    if let ("scroll_tick", Some(position)) = (name, fields.position_ms) {
        let position = micros(position);
        return Ok(ServerMessage::Tick { session, version, position, serial: 0 });
    }
    let sum = fields.checksum.map(|sum| Digest::of(sum.as_bytes()));
    let timeline = fields.timeline.map(|raw| Digest::of(raw.get().as_bytes()));
    let members = fields.members.unwrap_or_default();
    let snapshot = (name == "snapshot").then(|| Snapshot {
        position: micros(fields.position.unwrap_or(-1.0)),
        playing: fields.is_playing.unwrap_or_default(),
        leader: fields.leader_socket_id.map(Cow::into_owned),
        members: members.into_iter().map(|m| (m.socket_id.into_owned(), m.connected)).collect(),
        member_count: fields.member_count,
    });
    // Without the offset, which clients that cannot recover do not receive.
    let event = &json[..values.into_iter::<serde::de::IgnoredAny>().byte_offset()];
    let change =
        (snapshot.is_none() && name != "sync_response").then(|| Digest::of(event.as_bytes()));
    Ok(ServerMessage::State(State { session, version, sum, timeline, change, snapshot }))
}

fn understand_ack(text: &str) -> Result<ServerMessage, String> {
    let (id, json) = text.split_once('[').ok_or("no acknowledgement")?;
    let json = json.strip_suffix(']').ok_or("no acknowledgement")?;
    let id = id.parse().map_err(|_| "no acknowledgement id")?;
    let fields: Fields<'_> = parse(json)?;
    let guessing =
        fields.error.as_ref().is_some_and(|error| error.message.starts_with("too many wrong"));
    let code = fields.error.map(|error| error.code.into_owned()).unwrap_or_default();
    Ok(ServerMessage::Ack(Ack {
        id,
        ok: fields.ok.ok_or("neither done nor rejected")?,
        code,
        guessing,
        version: (fields.epoch.unwrap_or_default(), fields.version.unwrap_or_default()),
        position: fields.position_ms.map(micros),
        t1: fields.t1.map(micros),
        t2: fields.t2.map(micros),
        restored: fields.restored,
        is_back: fields.seat.as_deref() == Some("back"),
        repeated: fields.repeated == Some(true),
        superseded: fields.superseded == Some(true),
        cut: fields.cut == Some(true),
        pending: fields.pending == Some(true),
    }))
}

fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, String> {
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// Converts printed milliseconds to microseconds.
fn micros(millis: f64) -> i128 {
    (millis * 1_000.0).round() as i128
}
