//! Takes secrets out of recorded inputs, in place and byte for byte of the same length, so that a
//! replay does the same as the server did.
//!
//! What stands for a secret depends on the secret and on a key that is made for the run and never
//! written. Equal secrets stay equal however they are spelled, and different ones different, so
//! that a right passcode is right in the replay as well. Each character stays of its kind and keeps
//! its spelling, so that what was well-formed is so again, and what was not is not. More than that,
//! and the length, a trace does not tell.
//!
//! A replay takes the same path only if nothing is changed that the engine acts on. So this reads
//! HTTP and frames as the engine does: a secret of JSON is one in a body or a frame, behind a
//! packet's namespace, and nowhere else.
//!
//! Reads cut messages anywhere, so everything here goes on from byte to byte.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use bandsync_engine::io::{Found as Stored, StorageEvent};
use bandsync_engine::record::Record;
use bandsync_engine::trace::{self, Recorded};
use bandsync_engine::transport::{self, Unread};
use bandsync_engine::words::ids::ConnId;

/// JSON keys, and parameters of a query, whose values are secret.
const SECRET_KEYS: [&[u8]; 6] =
    [b"passcode", b"leaderPin", b"token", b"password", b"secret", b"authorization"];

/// Headers whose values are secret, in small letters.
const SECRET_HEADERS: [&[u8]; 4] =
    [b"authorization", b"proxy-authorization", b"x-admin-token", b"x-auth-token"];

/// Redacts what one shard takes in.
pub struct Redactor {
    key: RandomState,
    conns: BTreeMap<u32, Stream>,
}

impl Redactor {
    /// One for a shard; all shards of a run have the same key, because connections go from one to
    /// another.
    pub fn new(key: RandomState) -> Self {
        Self { key, conns: BTreeMap::new() }
    }

    /// Redacts packed entries. What cannot be read as one is left as it is, and so is what follows.
    pub fn redact(&mut self, entries: &mut [u8]) {
        let mut at = 0;
        while let Some((next, found)) = step(entries, at) {
            at = next;
            match found {
                Found::Begin(conn) => drop(self.conns.insert(conn.index, Stream::default())),
                Found::End(conn) => drop(self.conns.remove(&conn.index)),
                Found::Bytes(conn, place) => {
                    let stream = self.conns.entry(conn.index).or_default();
                    stream.redact(&self.key, &mut entries[place]);
                }
                Found::Parcel(conn, place) => self.parcel(conn, &mut entries[place]),
                Found::Letter(place) => {
                    let mut json = Json::default();
                    entries[place].iter_mut().for_each(|byte| json.take(&self.key, byte));
                }
                Found::Record(place) => {
                    Record::cover_secrets(&mut entries[place], |secret| {
                        cover_text(&self.key, secret)
                    });
                }
                Found::Else => {}
            }
        }
    }

    fn parcel(&mut self, conn: ConnId, parcel: &mut [u8]) {
        let (unread, mut stream) = match transport::unread(parcel) {
            Some(Unread::Frames(place)) => (place, Stream::Frames(Frames::default())),
            Some(Unread::Requests(place)) => (place, Stream::default()),
            None => (parcel.len()..parcel.len(), Stream::default()),
        };
        let mut json = Json::default();
        for byte in &mut parcel[..unread.start] {
            json.take(&self.key, byte);
        }
        stream.redact(&self.key, &mut parcel[unread]);
        self.conns.insert(conn.index, stream);
    }
}

/// What of an entry matters here.
enum Found {
    Begin(ConnId),
    End(ConnId),
    Bytes(ConnId, Range<usize>),
    Parcel(ConnId, Range<usize>),
    Letter(Range<usize>),
    Record(Range<usize>),
    Else,
}

/// The entry at this place, and where the next one is.
fn step(entries: &[u8], at: usize) -> Option<(usize, Found)> {
    let mut rest = entries.get(at..).filter(|rest| !rest.is_empty())?;
    let (_, input) = trace::read_input(&mut rest).ok()?;
    let input_end = entries.len() - rest.len();
    trace::read_outcome(&mut rest).ok()?;
    let place = |bytes: &[u8]| {
        let start = bytes.as_ptr() as usize - entries.as_ptr() as usize;
        start..start + bytes.len()
    };
    let found = match input {
        Recorded::Opened { conn, .. } => Found::Begin(conn),
        Recorded::Closed { conn, .. } => Found::End(conn),
        Recorded::Received { conn, bytes } => Found::Bytes(conn, place(bytes)),
        Recorded::Arrived { conn, parcel, .. } => Found::Parcel(conn, place(parcel)),
        Recorded::Letter { letter } => Found::Letter(place(letter)),
        // What the server itself says holds no secret of a member.
        Recorded::Answered { .. } => Found::Else,
        Recorded::Storage { news } => match news.as_ref() {
            StorageEvent::Loaded { found: Stored::Record(record), .. } => {
                // It was copied while reading, and is the last field of its input.
                let place = input_end - record.len()..input_end;
                assert!(entries[place.clone()] == **record, "a record ends its input");
                Found::Record(place)
            }
            StorageEvent::Loaded { .. } | StorageEvent::Stored { .. } | StorageEvent::Returned => {
                Found::Else
            }
        },
        Recorded::Backlog { .. }
        | Recorded::WallClock { .. }
        | Recorded::Memory(_)
        | Recorded::Drain
        | Recorded::TurnEnded => Found::Else,
    };
    Some((entries.len() - rest.len(), found))
}

/// What a connection speaks.
enum Stream {
    /// The head of a request.
    Head(Head),
    /// A request's body, of which so many bytes are still to come.
    Body(u64, Json),
    /// Between the head of an upgrade and whatever follows.
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

    /// An upgrade may have been refused: then another request follows, which begins with a letter.
    /// That is no frame's beginning, except that of compressed fragments, with which no method
    /// begins.
    fn after_upgrade(first: u8) -> Self {
        if matches!(first, b'C'..=b'Z' | b'a'..=b'z') {
            Self::default()
        } else {
            Self::Frames(Frames::default())
        }
    }
}

/// A request's head, with what decides about the bytes behind it.
#[derive(Default)]
struct Head {
    line: Line,
    /// Whether `Upgrade` names WebSockets, and `Connection` the upgrade.
    upgrade: bool,
    connection: bool,
    /// The body's length, once one is given.
    length: Option<u64>,
}

/// The length of a body that the engine does not read, since it refuses its head and closes the
/// connection.
const UNREAD: u64 = u64::MAX;

/// A line of a request's head.
#[derive(Default)]
enum Line {
    /// Before the first, which empty lines may precede.
    #[default]
    Start,
    /// The first, with method and target.
    Target(Query),
    /// A header's name.
    Name(Word),
    /// A header's value that is secret.
    Secret(Veil),
    /// The value of `Cookie`.
    Cookies(Cookie),
    /// The items of `Upgrade` or, if so, of `Connection`.
    Items(Word, bool),
    /// The value of `Content-Length`.
    Length(Word),
    /// A value that does not matter.
    Value,
}

impl Head {
    /// The state after the head, if this line ends it.
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

    /// An item of a list is complete.
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

/// A cookie, of which name and value are secret.
///
/// The exception is `io`, which names a session of Engine.IO 3. The engine compares it with what it
/// made, so a replay takes the same value. Like a `sid`, it is worth nothing once the session is
/// over.
#[derive(Default)]
struct Cookie {
    /// Bytes that came.
    length: usize,
    /// Bytes at the beginning that equal `io=`. With all of them the rest is shown.
    shown: usize,
    veil: Veil,
    /// The byte before, as it is written.
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
                // No other name may come to look like the one that is shown.
                if self.length == 1 && (self.last, *byte) == (b'i', b'o') {
                    *byte = b'p';
                }
            }
        }
        self.length += 1;
        self.last = *byte;
    }
}

/// Where in a request's target.
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

/// Frames of a client, of which messages are looked into.
#[derive(Default)]
struct Frames {
    head: [u8; 14],
    have: usize,
    /// Payload bytes still to come.
    missing: u64,
    /// Turned so that its first byte is for the next byte of the payload.
    mask: [u8; 4],
    /// Whether the message is compressed, of which only its first frame tells.
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
            // Nobody can look into a part of it. A server that records agrees to no compression.
            plain = 0;
        } else if !is_control {
            self.json.take(key, &mut plain);
        }
        *byte = plain ^ mask;
        self.mask.rotate_left(1);
        self.missing -= 1;
    }

    /// Begins with the payload if the header is whole.
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

/// Where in a packet with JSON.
///
/// A word is what stands in a string, and what stands between two: every quote ends one and begins
/// another. So where a text was cut or is malformed, its secrets are found all the same; a word is
/// a key if a colon follows.
#[derive(Default)]
struct Json {
    state: State,
    /// Whether the word is that of a string, as far as quotes come in pairs.
    inside: bool,
}

/// The next part of a packet.
enum State {
    /// A word.
    Word(Word),
    /// The rest of a namespace, which the server may repeat to its client.
    Namespace,
    /// Behind a secret's key.
    Key,
    /// Behind the colon behind it.
    Colon,
    /// In a secret.
    Text(Cover),
    /// In a number in a secret's place.
    Number(Digits),
    /// In an object or array in a secret's place.
    Nested { depth: u32, text: Option<Cover>, digits: Digits },
}

impl Default for State {
    fn default() -> Self {
        Self::Word(Word::default())
    }
}

/// Where in a number: before its first digit, or behind it.
#[derive(Clone, Copy, Default)]
struct Digits {
    begun: bool,
}

impl Digits {
    /// Covers a digit. A number that begins with 0 has no other digit before its point, or it is
    /// none.
    fn cover(&mut self, byte: &mut u8) {
        if self.begun || *byte != b'0' {
            *byte = b'1';
        }
        self.begun = true;
    }
}

/// Separator of the packets of a long-polling body.
const SEPARATOR: u8 = 0x1e;

impl Json {
    /// As [`Json::take`], in a body that may hold several packets.
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
                    let is_key =
                        word.unescaped().is_some_and(|word| SECRET_KEYS.contains(&word.as_slice()));
                    self.inside = !self.inside;
                    // mark: passcode_uncovered
                    self.state = if is_key { State::Key } else { State::default() };
                }
                // No JSON has that outside of a string.
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
                b'"' => *text = if text.is_some() { None } else { Some(Cover::default()) },
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
            State::Key | State::Colon if matches!(read, b' ' | b'\t' | b'\n' | b'\r') => {}
            State::Key if read == b':' => self.state = State::Colon,
            State::Colon => {
                self.inside = false;
                self.state = match read {
                    b'"' => State::Text(Cover::default()),
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
            State::Key | State::Number(_) => {
                self.state = State::default();
                self.take(key, byte);
            }
        }
    }
}

/// A short text as it comes in; one that is too long is none of those that we look for.
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
    /// Room for the longest key with every letter escaped as `\u0000`.
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

    /// The word with its escapes undone, as far as letters can be meant by them.
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

/// Covers a secret of a head, byte by byte: letters and digits, for other characters have a meaning
/// there. Which byte stands for which depends on the key and on the secret so far.
#[derive(Default)]
struct Veil {
    /// Of the secret so far.
    hash: u64,
    /// Digits of an escape such as `%20` that are still to come.
    digits: u8,
}

impl Veil {
    fn cover(&mut self, key: &RandomState, byte: &mut u8) {
        const HEX: &[u8] = b"0123456789abcdef";
        const ALPHANUMERIC: &[u8] =
            b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let read = *byte;
        let among = match (self.digits, read) {
            // The first digit tells one byte from a part of several, and stays.
            (2, _) => &[],
            (1, _) => HEX,
            (_, b'%') => &[],
            _ => ALPHANUMERIC,
        };
        let read_as = if self.digits > 0 { read.to_ascii_lowercase() } else { read };
        if let Some(place) = among.iter().position(|known| *known == read_as) {
            *byte = among[shuffle(key, (self.hash, 0), among.len(), place)];
        }
        self.digits = if read == b'%' { 2 } else { self.digits.saturating_sub(1) };
        self.hash = key.hash_one((self.hash, read));
    }
}

/// Covers a secret of JSON, byte by byte and character by character.
///
/// A character may stand there as it is or as `\u00e9`, and equals itself. So what stands for it is
/// chosen in parts that are whole in both spellings: of ASCII the upper and the lower half of the
/// byte, of others bits 7 and 6, 5 and 4, and 3 to 0 of the code point, as far as they are free.
/// Characters with escapes of their own stay as they are.
#[derive(Default)]
struct Cover {
    /// Of the characters so far.
    hash: u64,
    at: At,
    /// The first half of a pair of `\u` escapes.
    high: u32,
}

/// Where in a character.
#[derive(Clone, Copy, Default)]
enum At {
    /// Before its first byte.
    #[default]
    Begin,
    /// Behind a backslash.
    Escape,
    /// In `\u`, behind so many digits of this value.
    Digits(u8, u32),
    /// In UTF-8: so many bytes are still to come, behind bits of this value.
    Tail { left: u8, value: u32 },
}

impl Cover {
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

    /// A digit of `\u`: the first two stay, since they tell halves of a pair from whole characters.
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

    /// What stands for the upper half of an ASCII character. Only in these three rows all
    /// characters may stand for all.
    fn ascii_row(&self, key: &RandomState, row: u8) -> u8 {
        const FREE: [u8; 3] = [3, 4, 6];
        let place = FREE.iter().position(|free| *free == row);
        place.map_or(row, |place| FREE[shuffle(key, (self.hash, 1), FREE.len(), place)])
    }

    /// What stands for the lower half of an ASCII character of this row.
    fn ascii_low(&self, key: &RandomState, row: u8, low: u8) -> u8 {
        let is_free = |low: &u8| {
            matches!(row << 4 | low, b' '..=b'~') && !b"\"/\\".contains(&(row << 4 | low))
        };
        let free: Vec<u8> = (0..16).filter(is_free).collect();
        let place = free.iter().position(|known| *known == low);
        let salt = 16 | u64::from(row);
        place.map_or(low, |place| free[shuffle(key, (self.hash, salt), free.len(), place)])
    }

    /// What stands for bits 7 and 6 of a code point from U+0800 on.
    fn upper(&self, key: &RandomState, code: u32) -> u32 {
        self.bits(key, code, 6, 4)
    }

    /// What stands for bits 5 and 4.
    fn middle(&self, key: &RandomState, code: u32) -> u32 {
        self.bits(key, code, 4, 4)
    }

    /// What stands for bits 3 to 0.
    fn lowest(&self, key: &RandomState, code: u32) -> u32 {
        self.bits(key, code, 0, 16)
    }

    fn bits(&self, key: &RandomState, code: u32, from: u32, count: usize) -> u32 {
        let rest = code >> from;
        // Of a code point so far, everything above these bits.
        let salt = u64::from(from + 1) << 32 | u64::from(rest / count as u32);
        shuffle(key, (self.hash, salt), count, rest as usize % count) as u32
    }

    /// The character is complete.
    fn end(&mut self, key: &RandomState, code: u32) {
        (self.hash, self.at, self.high) = (key.hash_one((self.hash, code)), At::Begin, 0);
    }
}

/// Where a permutation of so many takes a place: shuffled by the key and these numbers.
fn shuffle(key: &RandomState, by: (u64, u64), count: usize, place: usize) -> usize {
    let mut shuffled: Vec<usize> = (0..count).collect();
    for place in (1..count).rev() {
        let other = key.hash_one((by, place)) % (place as u64 + 1);
        shuffled.swap(place, other as usize);
    }
    shuffled[place]
}

/// Covers a secret that stands there as it is, so that it equals the same one in a JSON string.
fn cover_text(key: &RandomState, secret: &mut String) {
    let mut cover = Cover::default();
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
