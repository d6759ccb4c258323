//! The messages between clients and server, decoded from recorded bytes into lines for people.

use std::collections::BTreeMap;

use bandsync_engine::io::{LoadResult, NodeNews, Output, Outputs, StorageEvent};
use bandsync_engine::trace::Recorded;
use bandsync_engine::transport::{self, Unread};
use bandsync_engine::wire::frame::{Message, Reader};
use bandsync_engine::wire::payload::{self, Part, Version};
use bandsync_engine::words::ids::{ConnId, SessionId};
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::time::Micros;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::format::Entry;

/// The direction of a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the server.
    In,
    /// From the server.
    Out,
    /// Neither: inside the server.
    Here,
}

/// A message, or another thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The index of the input that carried it or caused it.
    pub index: u64,
    /// The time of that input.
    pub at: Micros,
    /// The direction.
    pub direction: Direction,
    /// Its connections: none, one, or all receivers.
    pub conns: Vec<ConnId>,
    /// The event of Socket.IO, or otherwise the kind of message.
    pub event: String,
    /// The content.
    pub text: String,
    /// Size on the network.
    pub bytes: usize,
    /// The session that it belongs to, if known.
    pub session: Option<String>,
    /// Socket id and name of the member that it belongs to, if known.
    pub member: Option<String>,
}

impl Line {
    /// Prints event, size and content.
    pub fn brief(&self) -> String {
        const CHARS_MAX: usize = 160;
        let arrow = match self.direction {
            Direction::In => "→",
            Direction::Out => "←",
            Direction::Here => "·",
        };
        let whose = match self.conns.as_slice() {
            [] => String::new(),
            [conn] => conn.to_string(),
            many => format!("×{}", many.len()),
        };
        let mut text: String = self
            .text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(CHARS_MAX)
            .collect();
        if self.text.chars().nth(CHARS_MAX).is_some() {
            text.push('…');
        }
        format!("{whose:>8} {arrow} {:<20} {:>6} B  {text}", self.event, self.bytes)
    }
}

/// Follows the connections of a shard.
pub struct Decoder {
    limits: Limits,
    people: BTreeMap<ConnId, Person>,
}

/// The known state of a connection.
#[derive(Default)]
struct Person {
    /// Reads frames, once the connection is a WebSocket.
    reader: Option<Reader>,
    socket: Option<String>,
    name: Option<String>,
    session: Option<String>,
}

impl Person {
    fn member(&self) -> Option<String> {
        match (&self.socket, &self.name) {
            (Some(socket), Some(name)) => Some(format!("{socket} {name}")),
            (socket, name) => socket.clone().or_else(|| name.clone()),
        }
    }
}

impl Decoder {
    /// Creates a decoder without connections.
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), people: BTreeMap::new() }
    }

    /// Decodes an input.
    pub fn input(&mut self, entry: &Entry<'_>) -> Vec<Line> {
        let mut lines = Vec::new();
        match &entry.input {
            Recorded::Received { conn, bytes } => self.received(entry, *conn, bytes, &mut lines),
            Recorded::Arrived { conn, state, .. } => {
                let (reader, unread) = match transport::unread(state) {
                    Some(Unread::Frames(from)) => (Some(Reader::default()), from),
                    Some(Unread::Requests(from)) => (None, from),
                    None => (None, 0..0),
                };
                let joins = joining(&state[..unread.start]).unwrap_or_default();
                let (name, session) = (field(&joins, "displayName"), field(&joins, "sessionId"));
                let person = Person { reader, name, session, ..Person::default() };
                let (member, session) = (person.member(), person.session.clone());
                self.people.insert(*conn, person);
                lines.push(Line { member, session, ..plain(entry, Some(*conn), state.len()) });
                if !unread.is_empty() {
                    self.received(entry, *conn, &state[unread], &mut lines);
                }
            }
            Recorded::Closed { conn, .. } => {
                let mut line = plain(entry, Some(*conn), 0);
                if let Some(person) = self.people.remove(conn) {
                    (line.member, line.session) = (person.member(), person.session);
                }
                lines.push(line);
            }
            Recorded::Opened { conn, .. } => {
                self.people.insert(*conn, Person::default());
                lines.push(plain(entry, Some(*conn), 0));
            }
            Recorded::Backlog { conn, .. } => lines.push(plain(entry, Some(*conn), 0)),
            Recorded::Responded { conn, response } => {
                lines.push(Line { bytes: response.body.len(), ..plain(entry, Some(*conn), 0) });
            }
            Recorded::ShardMessage { message } => lines.push(plain(entry, None, message.len())),
            Recorded::Storage { .. }
            | Recorded::Node { .. }
            | Recorded::WallClock { .. }
            | Recorded::Memory(_)
            | Recorded::Drain
            | Recorded::TurnEnded => lines.push(plain(entry, None, 0)),
        }
        lines
    }

    fn received(&mut self, entry: &Entry<'_>, conn: ConnId, bytes: &[u8], lines: &mut Vec<Line>) {
        let person = self.people.entry(conn).or_default();
        let mut messages: Vec<(usize, String, String)> = Vec::new();
        match &mut person.reader {
            None => {
                let text = String::from_utf8_lossy(bytes);
                let first = text.lines().next().unwrap_or_default().to_owned();
                if first.contains("transport=polling") {
                    polled(&text)
                        .for_each(|(bytes, (event, text))| messages.push((bytes, event, text)));
                }
                messages.insert(0, (bytes.len(), "http".into(), first));
                // Not by the server's answer, which is missing when only inputs are decoded.
                if text.to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n") {
                    person.reader = Some(Reader::default());
                }
            }
            Some(reader) => {
                let mut copy = bytes.to_vec();
                let mut at = 0;
                loop {
                    let before = at;
                    let (event, text) = match reader.next(&self.limits, &mut copy, &mut at) {
                        Ok(None) => break,
                        Ok(Some(Message::Text(text))) => packet(text),
                        Ok(Some(Message::Binary(data))) => {
                            ("binary".into(), format!("{} bytes", data.len()))
                        }
                        Ok(Some(Message::Deflated { payload, .. })) => {
                            ("compressed".into(), format!("{} bytes", payload.len()))
                        }
                        Ok(Some(Message::Ping(_))) => ("frame ping".into(), String::new()),
                        Ok(Some(Message::Pong(_))) => ("frame pong".into(), String::new()),
                        Ok(Some(Message::Close(close))) => (
                            "frame close".into(),
                            close.map_or_else(String::new, |close| close.code.to_string()),
                        ),
                        Err(error) => {
                            messages.push((
                                copy.len() - before,
                                "broken frame".into(),
                                error.to_string(),
                            ));
                            // The engine reads nothing after this either.
                            person.reader = Some(Reader::default());
                            break;
                        }
                    };
                    messages.push((at - before, event, text));
                }
                if messages.is_empty() && !bytes.is_empty() {
                    messages.push((bytes.len(), "part of a frame".into(), String::new()));
                }
            }
        }
        for (bytes, event, text) in messages {
            if let Some(session) = field(&text, "sessionId") {
                person.session = Some(session);
            }
            if let Some(name) = field(&text, "displayName").filter(|_| event == "join_session") {
                person.name = Some(name);
            }
            let (session, member) = (person.session.clone(), person.member());
            let line = plain(entry, Some(conn), bytes);
            lines.push(Line { direction: Direction::In, event, text, session, member, ..line });
        }
    }

    /// Decodes the outputs of an input.
    pub fn outputs(&mut self, entry: &Entry<'_>, outputs: &Outputs) -> Vec<Line> {
        let mut lines = Vec::new();
        for output in &outputs.list {
            match output {
                Output::Send { to, bytes } => {
                    let bytes = outputs.bytes.get(bytes.range()).unwrap_or_default();
                    self.sent(entry, vec![*to], bytes, &mut lines);
                }
                Output::Fanout { to, bytes, .. } => {
                    let to = outputs.receivers.get(to.range()).unwrap_or_default().to_vec();
                    let bytes = outputs.bytes.get(bytes.range()).unwrap_or_default();
                    self.sent(entry, to, bytes, &mut lines);
                }
                Output::Close { conn, how } => {
                    lines.push(self.done(entry, *conn, "close", format!("{how:?}")))
                }
                Output::HandOver { conn, to, state } => {
                    let line = self.done(entry, *conn, "hand over", format!("to shard {}", to.0));
                    lines.push(Line { bytes: state.range().len(), ..line });
                }
                Output::Request { conn, request } => {
                    lines.push(self.done(entry, *conn, "ask the host", request.path.clone()));
                }
                Output::ShardMessage { to, message } => {
                    let (text, bytes) = (format!("to shard {}", to.0), message.range().len());
                    let line = plain(entry, None, bytes);
                    lines.push(Line {
                        direction: Direction::Out,
                        event: "write".into(),
                        text,
                        ..line
                    });
                }
                Output::Load { session } => lines.push(ordered(entry, "load", session, 0)),
                Output::Store { session, record, .. } => {
                    lines.push(ordered(entry, "store", session, record.range().len()));
                }
                Output::Forget { session, .. } => lines.push(ordered(entry, "forget", session, 0)),
                Output::Claim { session, .. } => lines.push(ordered(entry, "claim", session, 0)),
                Output::Commit { session, record, .. } => {
                    lines.push(ordered(entry, "commit", session, record.range().len()));
                }
                Output::Publish { session, body, .. } => {
                    lines.push(ordered(entry, "publish", session, body.range().len()));
                }
                Output::Release { session, .. } => {
                    lines.push(ordered(entry, "release", session, 0));
                }
                Output::Announce { body, .. } => lines.push(plain(entry, None, body.range().len())),
                Output::Noted { .. } => lines.push(plain(entry, None, 0)),
            }
        }
        lines
    }

    fn done(&self, entry: &Entry<'_>, conn: ConnId, event: &str, text: String) -> Line {
        let person = self.people.get(&conn);
        Line {
            direction: Direction::Out,
            event: event.into(),
            text,
            session: person.and_then(|person| person.session.clone()),
            member: person.and_then(Person::member),
            ..plain(entry, Some(conn), 0)
        }
    }

    fn sent(
        &mut self,
        entry: &Entry<'_>,
        to: Vec<ConnId>,
        mut bytes: &[u8],
        lines: &mut Vec<Line>,
    ) {
        let mut add =
            |people: &BTreeMap<ConnId, Person>, event: String, text: String, bytes: usize| {
                let person = to.first().and_then(|conn| people.get(conn));
                let session =
                    field(&text, "sessionId").or_else(|| person.and_then(|p| p.session.clone()));
                let member = person.filter(|_| to.len() == 1).and_then(Person::member);
                let line = plain(entry, None, bytes);
                let conns = to.clone();
                lines.push(Line {
                    direction: Direction::Out,
                    conns,
                    event,
                    text,
                    session,
                    member,
                    ..line
                });
            };
        if bytes.starts_with(b"HTTP/1.1") {
            let text = String::from_utf8_lossy(bytes);
            let status = text.lines().next().unwrap_or_default().to_owned();
            if bytes.starts_with(b"HTTP/1.1 101")
                && let [conn] = to.as_slice()
            {
                self.people.entry(*conn).or_default().reader = Some(Reader::default());
            }
            add(&self.people, "http".into(), status, bytes.len());
            if text.contains("\r\nContent-Type: text/plain; charset=UTF-8\r\n") {
                polled(&text)
                    .for_each(|(bytes, (event, text))| add(&self.people, event, text, bytes));
            }
            return;
        }
        while let Some((opcode, payload, length)) = server_frame(bytes) {
            bytes = &bytes[length..];
            let text = String::from_utf8_lossy(payload);
            let (event, text) = match opcode {
                1 => packet(&text),
                2 => ("binary".into(), format!("{} bytes", payload.len())),
                8 => ("frame close".into(), String::new()),
                9 => ("frame ping".into(), String::new()),
                10 => ("frame pong".into(), String::new()),
                other => (format!("frame {other}"), String::new()),
            };
            if event == "connect"
                && let (Some(sid), [conn]) = (field(&text, "sid"), to.as_slice())
            {
                self.people.entry(*conn).or_default().socket = Some(sid);
            }
            add(&self.people, event, text, length);
        }
        if !bytes.is_empty() {
            add(&self.people, "bytes".into(), String::new(), bytes.len());
        }
    }

    /// Whether `who` names this connection: as `index.generation`, socket id, or name.
    pub fn is(&self, conn: ConnId, who: &str) -> bool {
        let known = |person: &Person| {
            person.socket.as_deref() == Some(who) || person.name.as_deref() == Some(who)
        };
        conn.to_string() == who || self.people.get(&conn).is_some_and(known)
    }
}

/// Returns a request to the storage.
fn ordered(entry: &Entry<'_>, event: &str, session: &SessionId, bytes: usize) -> Line {
    let session = Some(session.as_str().to_owned());
    Line { direction: Direction::Out, event: event.into(), session, bytes, ..plain(entry, None, 0) }
}

/// Describes an event of the storage; of a record only its length.
fn storage_event(event: &StorageEvent) -> String {
    match event {
        StorageEvent::Loaded { session, found: LoadResult::Record(bytes) } => {
            format!("storage: {session:?} is there, {} bytes", bytes.len())
        }
        StorageEvent::Loaded { session, found: LoadResult::Nothing } => {
            format!("storage: {session:?} is not there")
        }
        StorageEvent::Loaded { session, found: LoadResult::Unknown } => {
            format!("storage: {session:?} cannot be had")
        }
        StorageEvent::Stored { session, epoch, version, outcome } => {
            format!("storage: {session:?} {epoch}.{version}: {outcome:?}")
        }
        StorageEvent::Returned => "storage: back again".into(),
    }
}

/// Describes an input in a few words.
pub fn describe(input: &Recorded<'_>) -> String {
    match input {
        Recorded::Opened { conn, peer } => format!("{conn} opened from {peer}"),
        Recorded::Arrived { conn, state, .. } => {
            format!("{conn} arrived from another shard with {} bytes", state.len())
        }
        Recorded::Received { conn, bytes } => {
            format!("{conn} received {} bytes: {}", bytes.len(), content(bytes))
        }
        Recorded::Closed { conn, cause } => format!("{conn} closed: {cause:?}"),
        Recorded::Backlog { conn, bytes } => format!("{conn} has {bytes} unsent bytes"),
        Recorded::Responded { conn, response } => {
            format!("{conn} is answered {} with {} bytes", response.status, response.body.len())
        }
        Recorded::WallClock { started_unix_ms } => {
            format!("wall clock: the server started at {started_unix_ms} ms")
        }
        Recorded::ShardMessage { message } => {
            format!("another shard writes {} bytes", message.len())
        }
        Recorded::Memory(memory) => format!("memory: {memory:?}"),
        Recorded::Storage { event } => storage_event(event),
        Recorded::Node { news } => node_news(news),
        Recorded::Drain => "drain".into(),
        Recorded::TurnEnded => "end of the turn".into(),
    }
}

/// Describes news of the cluster without their contents.
fn node_news(news: &NodeNews) -> String {
    match news {
        NodeNews::Table { peers, .. } => format!("{} other nodes live", peers.len()),
        NodeNews::Gone { node } => format!("node {} is gone", node.number),
        NodeNews::Standing { first, last, standing } => {
            format!("standing in buckets {first} to {last}: {standing:?}")
        }
        NodeNews::Claimed { session, .. } => format!("answer to the claim of {}", session.as_str()),
        NodeNews::Committed { session, version, .. } => {
            format!("answer to the commit of {} version {version}", session.as_str())
        }
        NodeNews::Unheard { to, .. } => format!("a message did not reach nodes {to:?}"),
        NodeNews::Heard { from, body } => {
            format!("node {} writes {} bytes", from.number, body.len())
        }
    }
}

/// Returns the content of a read, if it begins at a frame or a request.
fn content(bytes: &[u8]) -> String {
    if bytes.first().is_some_and(u8::is_ascii_uppercase) {
        return String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().to_owned();
    }
    let (mut copy, mut at, mut reader) = (bytes.to_vec(), 0, Reader::default());
    match reader.next(&Limits::PRODUCTION, &mut copy, &mut at) {
        Ok(Some(Message::Text(text))) => text.chars().take(200).collect(),
        _ => "no whole text frame".into(),
    }
}

fn plain(entry: &Entry<'_>, conn: Option<ConnId>, bytes: usize) -> Line {
    let event = match &entry.input {
        Recorded::Opened { .. } => "opened",
        Recorded::Arrived { .. } => "arrived",
        Recorded::Received { .. } => "received",
        Recorded::Closed { .. } => "closed",
        Recorded::Backlog { .. } => "backlog",
        Recorded::Responded { .. } => "answered",
        Recorded::WallClock { .. } => "wall clock",
        Recorded::ShardMessage { .. } => "shard message",
        Recorded::Memory(_) => "memory",
        Recorded::Storage { .. } => "storage",
        Recorded::Node { .. } => "node",
        Recorded::Drain => "drain",
        Recorded::TurnEnded => "turn ended",
    };
    let (direction, text) = match &entry.input {
        Recorded::Drain | Recorded::TurnEnded => (Direction::Here, String::new()),
        Recorded::Opened { peer, .. } | Recorded::Arrived { peer, .. } => {
            (Direction::In, peer.to_string())
        }
        Recorded::Closed { cause, .. } => (Direction::In, format!("{cause:?}")),
        Recorded::Received { .. } => (Direction::In, String::new()),
        other => (Direction::Here, describe(other)),
    };
    Line {
        index: entry.index,
        at: entry.at,
        direction,
        conns: conn.into_iter().collect(),
        event: event.into(),
        text,
        bytes,
        session: None,
        member: None,
    }
}

/// Returns the packets in a polling body, with their lengths. A second request in the same bytes is
/// ignored.
fn polled(http: &str) -> impl Iterator<Item = (usize, (String, String))> {
    let body = http.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    // A body of version 4 never parses as one of version 3, in which a length comes first.
    let parts = payload::parts(body.as_bytes(), Version::V3, false)
        .or_else(|_| payload::parts(body.as_bytes(), Version::V4, false));
    parts.unwrap_or_default().into_iter().filter_map(|part| match part {
        Part::Text("" | "ok") | Part::Binary(_) => None,
        Part::Text(text) => Some((text.len(), packet(text))),
    })
}

/// Event and content of an Engine.IO packet.
fn packet(text: &str) -> (String, String) {
    const ENGINE: [&str; 7] =
        ["engine open", "engine close", "engine ping", "engine pong", "", "upgrade", "noop"];
    const SOCKET: [&str; 7] =
        ["connect", "disconnect", "event", "ack", "connect_error", "binary event", "binary ack"];
    let kind = |text: &str| text.bytes().next().map(|byte| usize::from(byte.wrapping_sub(b'0')));
    let rest = |text: &str| text.get(1..).unwrap_or_default().to_owned();
    match kind(text) {
        Some(4) => {}
        Some(engine @ 0..7) => return (ENGINE[engine].into(), rest(text)),
        _ => return ("no packet".into(), text.to_owned()),
    }
    let packet = rest(text);
    let Some(socket) = kind(&packet).filter(|kind| *kind < 7) else {
        return ("no packet".into(), packet);
    };
    let content = packet.find(['[', '{']).map_or("", |at| &packet[at..]);
    let items: Vec<&RawValue> = serde_json::from_str(content).unwrap_or_default();
    let name = items.first().and_then(|name| serde_json::from_str::<String>(name.get()).ok());
    match (socket, name) {
        (2 | 5, Some(name)) => {
            let arguments: Vec<&str> = items[1..].iter().map(|item| item.get()).collect();
            (name, arguments.join(", "))
        }
        _ => (SOCKET[socket].into(), content.to_owned()),
    }
}

/// Returns the session that a handed-over connection wants to join, which is JSON in its packed
/// state.
fn joining(state: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(state);
    text.match_indices('{').find_map(|(at, _)| {
        let object: &RawValue =
            serde_json::Deserializer::from_str(&text[at..]).into_iter().next()?.ok()?;
        object.get().contains("\"sessionId\"").then(|| object.get().to_owned())
    })
}

/// Returns the value of a text field in a JSON object.
fn field(json: &str, name: &str) -> Option<String> {
    let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(json).ok()?;
    object.get(name)?.as_str().map(str::to_owned)
}

/// Opcode, payload and whole length of a server's frame at the front of `bytes`.
fn server_frame(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (long, length) = match second {
        126 => (2, usize::from(u16::from_be_bytes(*rest.first_chunk()?))),
        127 => (8, usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?),
        short => (0, usize::from(*short)),
    };
    let payload = rest.get(long..)?.get(..length)?;
    Some((first & 0x0f, payload, 2 + long + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_named_by_their_event() {
        let check = |text: &str, event: &str, content: &str| {
            assert_eq!(packet(text), (event.to_owned(), content.to_owned()), "{text}");
        };
        check(r#"42["play",{"sessionId":"a"}]"#, "play", r#"{"sessionId":"a"}"#);
        check(r#"42/x,17["play"]"#, "play", "");
        check(r#"4317[{"ok":true}]"#, "ack", r#"[{"ok":true}]"#);
        check(r#"40{"sid":"b"}"#, "connect", r#"{"sid":"b"}"#);
        check("3", "engine pong", "");
        for text in ["", "x", "4", "49", "42", "é", "4é"] {
            packet(text);
        }
    }

    #[test]
    fn a_handed_over_client_is_identified_by_its_join() {
        let state = b"\0{x\x07\xff{\"sessionId\":\"a\",\"displayName\":\"Ada\"}{}";
        let joins = joining(state).unwrap_or_default();
        assert_eq!(joins, r#"{"sessionId":"a","displayName":"Ada"}"#);
        assert_eq!(joining(b"{}{"), None);
    }

    #[test]
    fn long_polling_bodies_are_decoded() {
        let check = |body: &str, events: &[&str]| {
            let http = format!("POST /socket.io/?transport=polling HTTP/1.1\r\n\r\n{body}");
            let found: Vec<String> = polled(&http).map(|(_, (event, _))| event).collect();
            assert_eq!(found, events, "{body}");
        };
        check("42[\"play\"]\u{1e}3", &["play", "engine pong"]);
        check("10:42[\"play\"]1:3", &["play", "engine pong"]);
        check("ok", &[]);
        check("", &[]);
    }

    #[test]
    fn server_frames_are_decoded() {
        let mut bytes = Vec::new();
        for length in [0, 125, 126, 70_000] {
            bytes.clear();
            bandsync_engine::wire::frame::text(&mut bytes, |out| {
                out.resize(out.len() + length, b'x')
            });
            assert_eq!(
                server_frame(&bytes).map(|(opcode, payload, whole)| (opcode, payload.len(), whole)),
                Some((1, length, bytes.len()))
            );
            assert_eq!(server_frame(&bytes[..bytes.len() - 1]), None);
        }
    }
}
