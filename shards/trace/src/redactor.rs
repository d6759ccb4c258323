//! Covers secrets in recorded inputs, in place and with equal length, so that a replay behaves like
//! the server.
//!
//! The cover of a secret depends on the secret and on a key that is made for the run and never
//! written. Equal secrets stay equal however they are spelled, and different ones stay different,
//! so a right passcode is right in the replay too. Each character keeps its kind and its spelling,
//! so well-formed input stays well-formed, and malformed input malformed. A trace reveals no more
//! than that, and the length.
//!
//! A replay takes the same path only if no byte changes that the engine acts on. So the redactor
//! reads HTTP and frames as the engine does: a JSON secret is one in a body or a frame, after a
//! packet's namespace, and nowhere else.
//!
//! Reads may cut messages anywhere, so all states here continue from byte to byte.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use bandsync_engine::io::{LoadResult, StorageEvent};
use bandsync_engine::record::{Record, SecretKind};
use bandsync_engine::trace::{self, Recorded};
use bandsync_engine::transport::{self, Unread};
use bandsync_engine::words::ids::ConnId;

/// JSON keys, and parameters of a query, whose values are secret.
const SECRET_KEYS: [&[u8]; 7] =
    [b"passcode", b"leaderPin", b"token", b"newToken", b"password", b"secret", b"authorization"];

/// JSON keys of tokens of seats. The engine rejects a token with other characters than letters,
/// digits, `_` and `-`, so their covers have no others either.
const TOKEN_KEYS: [&[u8]; 2] = [b"token", b"newToken"];

/// Headers whose values are secret, in lower case.
const SECRET_HEADERS: [&[u8]; 4] =
    [b"authorization", b"proxy-authorization", b"x-admin-token", b"x-auth-token"];

/// Covers secrets in the inputs of one shard.
pub struct Redactor {
    key: RandomState,
    conns: BTreeMap<u32, Stream>,
}

impl Redactor {
    /// Creates the redactor of a shard. All shards of a run have the same key, because connections
    /// move between them.
    pub fn new(key: RandomState) -> Self {
        Self { key, conns: BTreeMap::new() }
    }

    /// Redacts packed entries. If an entry cannot be read, it and all that follow stay unchanged.
    pub fn redact(&mut self, entries: &mut [u8]) {
        let mut at = 0;
        while let Some((next, found)) = step(entries, at) {
            at = next;
            match found {
                Found::Begin(conn) => drop(self.conns.insert(conn.index, Stream::default())),
                Found::End(conn) => drop(self.conns.remove(&conn.index)),
                Found::Bytes(conn, range) => {
                    let stream = self.conns.entry(conn.index).or_default();
                    stream.redact(&self.key, &mut entries[range]);
                }
                Found::Arrival(conn, range) => self.arrival(conn, &mut entries[range]),
                Found::ShardMessage(range) => {
                    let mut json = Json::default();
                    entries[range].iter_mut().for_each(|byte| json.take(&self.key, byte));
                }
                Found::Record(range) => {
                    Record::cover_secrets(&mut entries[range], |kind, secret| {
                        cover_text(&self.key, kind, secret)
                    });
                }
                Found::Else => {}
            }
        }
    }

    fn arrival(&mut self, conn: ConnId, state: &mut [u8]) {
        let (unread, mut stream) = match transport::unread(state) {
            Some(Unread::Frames(range)) => (range, Stream::Frames(Frames::default())),
            Some(Unread::Requests(range)) => (range, Stream::default()),
            None => (state.len()..state.len(), Stream::default()),
        };
        let mut json = Json::default();
        for byte in &mut state[..unread.start] {
            json.take(&self.key, byte);
        }
        stream.redact(&self.key, &mut state[unread]);
        self.conns.insert(conn.index, stream);
    }
}

/// The parts of an entry that may hold secrets.
enum Found {
    Begin(ConnId),
    End(ConnId),
    Bytes(ConnId, Range<usize>),
    Arrival(ConnId, Range<usize>),
    ShardMessage(Range<usize>),
    Record(Range<usize>),
    Else,
}

/// Returns the entry at `at`, and the position of the next one.
fn step(entries: &[u8], at: usize) -> Option<(usize, Found)> {
    let mut rest = entries.get(at..).filter(|rest| !rest.is_empty())?;
    let (_, input) = trace::read_input(&mut rest).ok()?;
    let input_end = entries.len() - rest.len();
    trace::read_outcome(&mut rest).ok()?;
    let range = |bytes: &[u8]| {
        let start = bytes.as_ptr() as usize - entries.as_ptr() as usize;
        start..start + bytes.len()
    };
    let found = match input {
        Recorded::Opened { conn, .. } => Found::Begin(conn),
        Recorded::Closed { conn, .. } => Found::End(conn),
        Recorded::Received { conn, bytes } => Found::Bytes(conn, range(bytes)),
        Recorded::Arrived { conn, state, .. } => Found::Arrival(conn, range(state)),
        Recorded::ShardMessage { message } => Found::ShardMessage(range(message)),
        // Answers of the server hold no secret of a member.
        Recorded::Responded { .. } => Found::Else,
        Recorded::Storage { event } => match event.as_ref() {
            StorageEvent::Loaded { found: LoadResult::Record(record), .. } => {
                // The record was copied while reading, and is the last field of its input.
                let range = input_end - record.len()..input_end;
                assert!(entries[range.clone()] == **record, "a record ends its input");
                Found::Record(range)
            }
            StorageEvent::Loaded { .. } | StorageEvent::Stored { .. } | StorageEvent::Returned => {
                Found::Else
            }
        },
        // A clustered server does not record yet, because its messages hold secrets.
        Recorded::Node { .. } => Found::Else,
        Recorded::Backlog { .. }
        | Recorded::WallClock { .. }
        | Recorded::Memory(_)
        | Recorded::Drain
        | Recorded::TurnEnded => Found::Else,
    };
    Some((entries.len() - rest.len(), found))
}

/// The protocol of a connection's next bytes.
enum Stream {
    /// The head of a request.
    Head(Head),
    /// The body of a request, with the number of missing bytes.
    Body(u64, Json),
    /// The bytes after the head of an upgrade.
    Upgrading,
    /// WebSocket frames.
    Frames(Frames),
}

impl Default for Stream {
    fn default() -> Self {
        Self::Head(Head::default())
    }
}

impl Stream {
    fn redact(&mut self, key: &RandomState, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let byte = &mut bytes[at];
            match self {
                Self::Head(head) => {
                    if let Some(next) = head.take(key, byte) {
                        *self = next;
                    }
                }
                Self::Body(left, json) => {
                    json.take_in_body(key, byte);
                    *left -= 1;
                    if *left == 0 {
                        *self = Self::default();
                    }
                }
                Self::Upgrading => {
                    *self = Self::after_upgrade(*byte);
                    continue;
                }
                Self::Frames(frames) => frames.take(key, byte),
            }
            at += 1;
        }
    }

    /// The state after an upgrade. If it was rejected, another request follows, which begins with a
    /// letter. No frame begins like that, except compressed fragments, and no method begins with
    /// one of those letters.
    fn after_upgrade(first: u8) -> Self {
        if matches!(first, b'C'..=b'Z' | b'a'..=b'z') {
            Self::default()
        } else {
            Self::Frames(Frames::default())
        }
    }
}

/// The head of a request, with the fields that decide about the bytes after it.
#[derive(Default)]
struct Head {
    line: Line,
    /// Whether `Upgrade` names WebSockets, and whether `Connection` names the upgrade.
    upgrade: bool,
    connection: bool,
    /// Length of the body, once it is known.
    length: Option<u64>,
}

/// Length of a body that the engine does not read, because it rejects the head and closes the
/// connection.
const UNREAD: u64 = u64::MAX;

/// A line of a request's head.
#[derive(Default)]
enum Line {
    /// Before the first line, which empty lines may precede.
    #[default]
    Start,
    /// The first line, with method and target.
    Target(Query),
    /// A header's name.
    Name(Word),
    /// The secret value of a header.
    Secret(Veil),
    /// The value of `Cookie`.
    Cookies(Cookie),
    /// The items of `Upgrade`, or of `Connection` if true.
    Items(Word, bool),
    /// The value of `Content-Length`.
    Length(Word),
    /// A value without secrets.
    Value,
}

impl Head {
    /// Takes a byte. Returns the state after the head, if this byte ends it.
    fn take(&mut self, key: &RandomState, byte: &mut u8) -> Option<Stream> {
        if *byte == b'\n' {
            return self.end_line();
        }
        match &mut self.line {
            Line::Start if *byte == b'\r' => {}
            Line::Start => {
                let mut query = Query::Path;
                query.take(key, byte);
                self.line = Line::Target(query);
            }
            Line::Target(query) => query.take(key, byte),
            Line::Name(word) if *byte == b':' => {
                self.line = match word {
                    word if SECRET_HEADERS.iter().any(|name| word.is(name)) => {
                        Line::Secret(Veil::default())
                    }
                    word if word.is(b"cookie") => Line::Cookies(Cookie::default()),
                    word if word.is(b"upgrade") => Line::Items(Word::default(), false),
                    word if word.is(b"connection") => Line::Items(Word::default(), true),
                    word if word.is(b"content-length") => Line::Length(Word::default()),
                    word if word.is(b"transfer-encoding") => {
                        self.length = Some(UNREAD);
                        Line::Value
                    }
                    _ => Line::Value,
                }
            }
            Line::Items(_, _) if *byte == b',' => self.end_item(),
            Line::Name(word) if *byte == b'\r' && word.is_empty() => {}
            Line::Items(word, _) | Line::Length(word) if is_space(*byte) && word.is_empty() => {}
            Line::Name(word) | Line::Items(word, _) | Line::Length(word) => {
                word.push(byte.to_ascii_lowercase());
            }
            Line::Secret(veil) => veil.cover(key, byte),
            Line::Cookies(cookie) => cookie.take(key, byte),
            Line::Value => {}
        }
        None
    }

    fn end_line(&mut self) -> Option<Stream> {
        self.end_item();
        let ended = std::mem::replace(&mut self.line, Line::Name(Word::default()));
        match ended {
            Line::Start => self.line = Line::Start,
            Line::Length(word) => {
                let given = word.text().and_then(|digits| digits.trim_end().parse().ok());
                self.length = Some(given.filter(|_| self.length.is_none()).unwrap_or(UNREAD));
            }
            Line::Name(word) if word.is_empty() => return Some(self.next()),
            _ => {}
        }
        None
    }

    /// Ends an item of a list.
    fn end_item(&mut self) {
        if let Line::Items(word, is_connection) = &mut self.line {
            let item = std::mem::take(word);
            let item = item.text().unwrap_or_default().trim_end();
            if *is_connection {
                self.connection |= item == "upgrade";
            } else {
                self.upgrade |= item == "websocket";
            }
        }
    }

    fn next(&self) -> Stream {
        match self.length {
            _ if self.upgrade && self.connection => Stream::Upgrading,
            None | Some(0) => Stream::default(),
            Some(length) => Stream::Body(length, Json::default()),
        }
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A cookie, whose name and value are secret.
///
/// The exception is `io`, which names a session of Engine.IO 3. The engine compares it with the id
/// that it made, so a replay needs the same value. Like a `sid`, it is worthless once the session
/// is over.
#[derive(Default)]
struct Cookie {
    /// Bytes so far.
    length: usize,
    /// Bytes at the beginning that equal `io=`. If all three do, the rest is not covered.
    shown: usize,
    veil: Veil,
    /// The byte before, as written.
    last: u8,
}

impl Cookie {
    const SHOWN: &[u8] = b"io=";

    fn take(&mut self, key: &RandomState, byte: &mut u8) {
        match *byte {
            b';' => return *self = Self::default(),
            b' ' | b'\t' if self.length == 0 => return,
            read if self.shown == self.length && Self::SHOWN.get(self.shown) == Some(&read) => {
                self.shown += 1
            }
            _ if self.shown == Self::SHOWN.len() => {}
            _ => {
                self.veil.cover(key, byte);
                // No covered name may look like the one that is not covered.
                if self.length == 1 && (self.last, *byte) == (b'i', b'o') {
                    *byte = b'p';
                }
            }
        }
        self.length += 1;
        self.last = *byte;
    }
}

/// A position in a request's target.
enum Query {
    Path,
    Name(Word),
    Value,
    Secret(Veil),
}

impl Query {
    fn take(&mut self, key: &RandomState, byte: &mut u8) {
        match (&mut *self, *byte) {
            (_, b' ') => *self = Self::Path,
            (Self::Path, b'?') | (Self::Name(_) | Self::Value | Self::Secret(_), b'?' | b'&') => {
                *self = Self::Name(Word::default());
            }
            (Self::Name(word), b'=') => {
                // mark: query_token_uncovered
                let is_secret = SECRET_KEYS.iter().any(|name| word.is(name));
                *self = if is_secret { Self::Secret(Veil::default()) } else { Self::Value };
            }
            (Self::Name(word), letter) => word.push(letter),
            (Self::Secret(veil), _) => veil.cover(key, byte),
            (Self::Path | Self::Value, _) => {}
        }
    }
}

/// The frames of a client, whose messages are redacted.
#[derive(Default)]
struct Frames {
    head: [u8; 14],
    have: usize,
    /// Payload bytes that are missing.
    missing: u64,
    /// The mask, rotated so that its first byte is for the next byte of the payload.
    mask: [u8; 4],
    /// Whether the message is compressed; only its first frame says so.
    compressed: bool,
    json: Json,
}

impl Frames {
    fn take(&mut self, key: &RandomState, byte: &mut u8) {
        if self.missing == 0 {
            self.head[self.have] = *byte;
            self.have += 1;
            self.begin();
            return;
        }
        let [mask, ..] = self.mask;
        let mut plain = *byte ^ mask;
        let is_control = self.head[0] & 0x08 != 0;
        let is_compressed = self.head[0] & 0x40 != 0 || self.compressed && !is_control;
        if is_compressed {
            // A part of a compressed message cannot be read. A server that records agrees to no
            // compression.
            plain = 0;
        } else if !is_control {
            self.json.take(key, &mut plain);
        }
        *byte = plain ^ mask;
        self.mask.rotate_left(1);
        self.missing -= 1;
    }

    /// Begins the payload if the header is complete.
    fn begin(&mut self) {
        if self.have < 2 {
            return;
        }
        let long = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let masked = if self.head[1] & 0x80 != 0 { 4 } else { 0 };
        if self.have < 2 + long + masked {
            return;
        }
        let big_endian =
            |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        self.missing = match long {
            0 => u64::from(self.head[1] & 0x7f),
            _ => big_endian(&self.head[2..2 + long]),
        };
        self.mask = [0; 4];
        self.mask[..masked].copy_from_slice(&self.head[2 + long..2 + long + masked]);
        self.have = 0;
        if matches!(self.head[0] & 0x0f, 1 | 2) {
            self.compressed = self.head[0] & 0x40 != 0;
            self.json = Json::default();
        }
    }
}

/// A position in a packet with JSON.
///
/// A word is the content of a string, or the text between two: every quote ends one and begins
/// another. So secrets are found even if a text was cut or is malformed. A word is a key if a colon
/// follows.
#[derive(Default)]
struct Json {
    state: State,
    /// Whether the word is inside a string, as far as quotes come in pairs.
    inside: bool,
}

/// The next part of a packet.
enum State {
    /// A word.
    Word(Word),
    /// The rest of a namespace, which the server may send back to its client.
    Namespace,
    /// After a secret's key.
    Key(SecretKind),
    /// After the colon that follows it.
    Colon(SecretKind),
    /// Inside a secret text.
    Text(Cover),
    /// Inside a number in a secret's place.
    Number(Digits),
    /// Inside an object or array in a secret's place.
    Nested { depth: u32, text: Option<Cover>, digits: Digits },
}

impl Default for State {
    fn default() -> Self {
        Self::Word(Word::default())
    }
}

/// A position in a number: before its first digit, or after it.
#[derive(Clone, Copy, Default)]
struct Digits {
    begun: bool,
}

impl Digits {
    /// Covers a digit. A number that begins with 0 has no other digit before its point, or it is
    /// malformed.
    fn cover(&mut self, byte: &mut u8) {
        if self.begun || *byte != b'0' {
            *byte = b'1';
        }
        self.begun = true;
    }
}

/// Separator of packets in a polling body.
const SEPARATOR: u8 = 0x1e;

impl Json {
    /// Takes a byte of a body that may hold several packets.
    fn take_in_body(&mut self, key: &RandomState, byte: &mut u8) {
        if *byte == SEPARATOR && !matches!(self.state, State::Namespace) {
            *self = Self::default();
        } else {
            self.take(key, byte);
        }
    }

    fn take(&mut self, key: &RandomState, byte: &mut u8) {
        let read = *byte;
        match &mut self.state {
            State::Word(word) => match read {
                b'"' if !word.is_escaping() => {
                    let word = word.unescaped().unwrap_or_default();
                    let is_key = SECRET_KEYS.contains(&word.as_slice());
                    let is_token = TOKEN_KEYS.contains(&word.as_slice());
                    let kind = if is_token { SecretKind::Token } else { SecretKind::Typed };
                    self.inside = !self.inside;
                    // mark: passcode_uncovered
                    self.state = if is_key { State::Key(kind) } else { State::default() };
                }
                // Outside of strings, JSON has no such byte.
                b'/' if !self.inside => self.state = State::Namespace,
                _ => word.push(read),
            },
            State::Namespace if read == b',' => self.state = State::default(),
            State::Namespace => {}
            State::Text(cover) => {
                if read == b'"' && !cover.is_escaping() {
                    *self = Self::default();
                } else {
                    cover.take(key, byte);
                }
            }
            State::Nested { text: Some(cover), .. } if read != b'"' || cover.is_escaping() => {
                cover.take(key, byte);
            }
            State::Nested { depth, text, digits } => match read {
                b'"' => {
                    let begun = || Cover::new(SecretKind::Typed);
                    *text = if text.is_some() { None } else { Some(begun()) };
                }
                b'0'..=b'9' => digits.cover(byte),
                b'+' | b'-' | b'.' | b'e' | b'E' => {}
                _ => {
                    *digits = Digits::default();
                    match read {
                        b'{' | b'[' => *depth += 1,
                        b'}' | b']' if *depth == 1 => *self = Self::default(),
                        b'}' | b']' => *depth -= 1,
                        _ => {}
                    }
                }
            },
            State::Number(digits) if read.is_ascii_digit() => digits.cover(byte),
            State::Number(_) if matches!(read, b'+' | b'-' | b'.' | b'e' | b'E') => {}
            State::Key(_) | State::Colon(_) if matches!(read, b' ' | b'\t' | b'\n' | b'\r') => {}
            State::Key(kind) if read == b':' => self.state = State::Colon(*kind),
            State::Colon(kind) => {
                let kind = *kind;
                self.inside = false;
                self.state = match read {
                    b'"' => State::Text(Cover::new(kind)),
                    b'{' | b'[' => {
                        State::Nested { depth: 1, text: None, digits: Digits::default() }
                    }
                    b'-' => State::Number(Digits::default()),
                    b'0'..=b'9' => {
                        let mut digits = Digits::default();
                        digits.cover(byte);
                        State::Number(digits)
                    }
                    _ => State::default(),
                };
            }
            State::Key(_) | State::Number(_) => {
                self.state = State::default();
                self.take(key, byte);
            }
        }
    }
}

/// A short text, byte by byte. A longer one is none of those that are searched for.
#[derive(Clone, Copy)]
struct Word {
    bytes: [u8; Self::MAX],
    length: u8,
    escaping: bool,
}

impl Default for Word {
    fn default() -> Self {
        Self { bytes: [0; Self::MAX], length: 0, escaping: false }
    }
}

impl Word {
    /// Length of the longest key with every letter escaped as `\u0000`.
    const MAX: usize = 13 * 6;

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.length)) {
            *place = byte;
        }
        self.length = (self.length + 1).min(Self::MAX as u8 + 1);
        self.escaping = byte == b'\\' && !self.escaping;
    }

    fn is_escaping(&self) -> bool {
        self.escaping
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn is(&self, text: &[u8]) -> bool {
        self.bytes.get(..usize::from(self.length)) == Some(text)
    }

    fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes.get(..usize::from(self.length))?).ok()
    }

    /// Returns the word without its escapes, as far as they stand for letters.
    fn unescaped(&self) -> Option<Vec<u8>> {
        let mut rest = self.bytes.get(..usize::from(self.length))?;
        let mut text = Vec::new();
        while let [first, after @ ..] = rest {
            (text, rest) = match after {
                [b'u', hex @ ..] if *first == b'\\' => {
                    let hex = hex.get(..4).and_then(|hex| std::str::from_utf8(hex).ok())?;
                    text.push(u8::from_str_radix(hex, 16).ok()?);
                    (text, &after[5..])
                }
                _ => {
                    text.push(*first);
                    (text, after)
                }
            };
        }
        Some(text)
    }
}

/// Covers a secret of a head, byte by byte. Only letters and digits are covered, since other
/// characters have a meaning there. The cover of a byte depends on the key and on the secret so
/// far.
#[derive(Default)]
struct Veil {
    /// Hash of the secret so far.
    hash: u64,
    /// Digits of an escape such as `%20` that are missing.
    digits: u8,
}

impl Veil {
    fn cover(&mut self, key: &RandomState, byte: &mut u8) {
        const HEX: &[u8] = b"0123456789abcdef";
        const ALPHANUMERIC: &[u8] =
            b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let read = *byte;
        let among = match (self.digits, read) {
            // The first digit tells a single byte from a part of several, so it stays.
            (2, _) => &[],
            (1, _) => HEX,
            (_, b'%') => &[],
            _ => ALPHANUMERIC,
        };
        let read_as = if self.digits > 0 { read.to_ascii_lowercase() } else { read };
        if let Some(index) = among.iter().position(|known| *known == read_as) {
            *byte = among[shuffle(key, (self.hash, 0), among.len(), index)];
        }
        self.digits = if read == b'%' { 2 } else { self.digits.saturating_sub(1) };
        self.hash = key.hash_one((self.hash, read));
    }
}

/// Covers a secret of JSON, byte by byte and character by character.
///
/// A character may be written as itself or as `\u00e9`, and both are equal. So its cover is chosen
/// in parts that are whole in both spellings: the upper and the lower half of an ASCII byte; of
/// other characters bits 7 and 6, 5 and 4, and 3 to 0 of the code point, as far as they are free.
/// Characters with escapes of their own stay, and so do characters that a secret of this kind may
/// not have.
struct Cover {
    kind: SecretKind,
    /// Hash of the characters so far.
    hash: u64,
    at: At,
    /// The first half of a pair of `\u` escapes.
    high: u32,
}

/// A position in a character.
#[derive(Clone, Copy, Default)]
enum At {
    /// Before its first byte.
    #[default]
    Begin,
    /// After a backslash.
    Escape,
    /// In `\u`, after this many digits of this value.
    Digits(u8, u32),
    /// In UTF-8: this many bytes are missing, after bits of this value.
    Tail { left: u8, value: u32 },
}

impl Cover {
    fn new(kind: SecretKind) -> Self {
        Self { kind, hash: 0, at: At::Begin, high: 0 }
    }

    fn is_escaping(&self) -> bool {
        matches!(self.at, At::Escape)
    }

    fn take(&mut self, key: &RandomState, byte: &mut u8) {
        let read = *byte;
        match self.at {
            At::Begin => match read {
                b'\\' => self.at = At::Escape,
                0..0x80 => {
                    let (row, low) = (read >> 4, read & 15);
                    *byte = self.ascii_row(key, row) << 4 | self.ascii_low(key, row, low);
                    self.end(key, u32::from(read));
                }
                0xc0..0xe0 => self.at = At::Tail { left: 1, value: u32::from(read & 0x1f) },
                0xe0..0xf0 => self.at = At::Tail { left: 2, value: u32::from(read & 0x0f) },
                0xf0..0xf8 => self.at = At::Tail { left: 3, value: u32::from(read & 0x07) },
                _ => {}
            },
            At::Escape if read == b'u' => self.at = At::Digits(0, 0),
            At::Escape => {
                let meant = match read {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    itself => itself,
                };
                self.end(key, u32::from(meant));
            }
            At::Digits(count, value) => match char::from(read).to_digit(16) {
                Some(digit) => self.digit(key, byte, count, value, digit),
                None => self.at = At::Begin,
            },
            At::Tail { left, value } if matches!(read, 0x80..0xc0) => {
                let bits = u32::from(read & 0x3f);
                let code = value << 6 | bits;
                let covered = match left {
                    1 => self.middle(key, code) << 4 | self.lowest(key, code),
                    2 => bits & 0x3c | self.upper(key, code << 6),
                    _ => bits,
                };
                *byte = 0x80 | covered as u8;
                self.at = At::Tail { left: left - 1, value: code };
                if left == 1 {
                    self.end(key, code);
                }
            }
            At::Tail { .. } => self.at = At::Begin,
        }
    }

    /// Covers a digit of `\u`. The first two stay, since they tell halves of a pair from whole
    /// characters.
    fn digit(&mut self, key: &RandomState, byte: &mut u8, count: u8, value: u32, digit: u32) {
        let unit = value << 4 | digit;
        let bits = 4 * (3 - u32::from(count));
        // The code point, as far as it is known.
        let code = match unit << bits {
            low @ 0xdc00..0xe000 => 0x1_0000 + ((self.high & 0x3ff) << 10 | low & 0x3ff),
            code => code,
        };
        let is_high = matches!(unit << bits, 0xd800..0xdc00);
        let covered = match (count, code) {
            (0 | 1, _) => digit,
            _ if is_high => digit,
            (2, 0..0x80) => u32::from(self.ascii_row(key, digit as u8)),
            (_, 0..0x80) => u32::from(self.ascii_low(key, (code >> 4) as u8, digit as u8)),
            (2, 0x80..0x800) => digit & 0xc | self.middle(key, code),
            (2, _) => self.upper(key, code) << 2 | self.middle(key, code),
            _ => self.lowest(key, code),
        };
        if covered != digit {
            *byte = char::from_digit(covered, 16).map_or(*byte, |digit| digit as u8);
        }
        match count {
            3 if is_high => (self.at, self.high) = (At::Begin, unit),
            3 => self.end(key, code),
            _ => self.at = At::Digits(count + 1, unit),
        }
    }

    /// Returns the cover of the upper half of an ASCII character. Only in the free rows may every
    /// character stand for every other.
    fn ascii_row(&self, key: &RandomState, row: u8) -> u8 {
        let free: &[u8] = match self.kind {
            SecretKind::Typed => &[3, 4, 6],
            SecretKind::Token => &[4, 6],
        };
        let index = free.iter().position(|free| *free == row);
        index.map_or(row, |index| free[shuffle(key, (self.hash, 1), free.len(), index)])
    }

    /// Returns the cover of the lower half of an ASCII character of this row.
    fn ascii_low(&self, key: &RandomState, row: u8, low: u8) -> u8 {
        let is_free = |low: &u8| match (self.kind, row << 4 | low) {
            (SecretKind::Typed, byte) => matches!(byte, b' '..=b'~') && !b"\"/\\".contains(&byte),
            (SecretKind::Token, byte) => {
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
            }
        };
        let free: Vec<u8> = (0..16).filter(is_free).collect();
        let index = free.iter().position(|known| *known == low);
        let salt = 16 | u64::from(row);
        index.map_or(low, |index| free[shuffle(key, (self.hash, salt), free.len(), index)])
    }

    /// Returns the cover of bits 7 and 6 of a code point from U+0800 on.
    fn upper(&self, key: &RandomState, code: u32) -> u32 {
        self.bits(key, code, 6, 4)
    }

    /// Returns the cover of bits 5 and 4.
    fn middle(&self, key: &RandomState, code: u32) -> u32 {
        self.bits(key, code, 4, 4)
    }

    /// Returns the cover of bits 3 to 0.
    fn lowest(&self, key: &RandomState, code: u32) -> u32 {
        self.bits(key, code, 0, 16)
    }

    fn bits(&self, key: &RandomState, code: u32, from: u32, count: usize) -> u32 {
        let rest = code >> from;
        // The part of the code point above these bits.
        let salt = u64::from(from + 1) << 32 | u64::from(rest / count as u32);
        shuffle(key, (self.hash, salt), count, rest as usize % count) as u32
    }

    /// Ends a character.
    fn end(&mut self, key: &RandomState, code: u32) {
        (self.hash, self.at, self.high) = (key.hash_one((self.hash, code)), At::Begin, 0);
    }
}

/// Returns the new index of an index in a permutation of `count`, shuffled by the key and these
/// numbers.
fn shuffle(key: &RandomState, by: (u64, u64), count: usize, index: usize) -> usize {
    let mut shuffled: Vec<usize> = (0..count).collect();
    for index in (1..count).rev() {
        let other = key.hash_one((by, index)) % (index as u64 + 1);
        shuffled.swap(index, other as usize);
    }
    shuffled[index]
}

/// Covers a secret that is a plain text, so that it equals the same secret in a JSON string.
fn cover_text(key: &RandomState, kind: SecretKind, secret: &mut String) {
    let mut cover = Cover::new(kind);
    let mut bytes = std::mem::take(secret).into_bytes();
    for byte in &mut bytes {
        match byte {
            b'\\' => cover.end(key, u32::from(b'\\')),
            byte => cover.take(key, byte),
        }
    }
    *secret = String::from_utf8(bytes).unwrap_or_else(|error| "*".repeat(error.as_bytes().len()));
}

#[cfg(test)]
mod tests;
