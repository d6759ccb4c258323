//! Takes secrets out of recorded inputs, in place and byte for byte of the same length, so that a replay does the
//! same as the server did.
//!
//! What stands for a secret depends on the secret and on a key that is made for the run and never written. Equal
//! secrets stay equal and different ones different, so that a right passcode is right in the replay as well; more than
//! that, and the length, a trace does not tell. A secret that is spelled with escapes counts as equal only to the
//! same spelling.
//!
//! Reads cut messages anywhere, so everything here goes on from byte to byte.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use bandsync_engine::engine::handover::{self, Unread};
use bandsync_engine::io::{Found as Stored, StorageNews};
use bandsync_engine::record::Record;
use bandsync_engine::trace::{self, Recorded};
use bandsync_engine::words::ids::ConnId;

/// JSON keys, and parameters of a query, whose values are secret.
const SECRET_KEYS: [&[u8]; 6] =
    [b"passcode", b"leaderPin", b"token", b"password", b"secret", b"authorization"];

/// Headers whose values are secret, in small letters.
const SECRET_HEADERS: [&[u8]; 5] =
    [b"authorization", b"proxy-authorization", b"cookie", b"x-admin-token", b"x-auth-token"];

/// Redacts what one shard takes in.
pub struct Redactor {
    key: RandomState,
    conns: BTreeMap<u32, Stream>,
}

impl Redactor {
    /// One for a shard; all shards of a run have the same key, because connections go from one to another.
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
                    let mut json = Json::Plain;
                    entries[place].iter_mut().for_each(|byte| json.take(&self.key, byte));
                }
                Found::Record(place) => {
                    Record::cover_secrets(&mut entries[place], |secret| cover_text(&self.key, secret));
                }
                Found::Else => {}
            }
        }
    }

    fn parcel(&mut self, conn: ConnId, parcel: &mut [u8]) {
        let (unread, mut stream) = match handover::unread(parcel) {
            Some(Unread::Frames(place)) => (place, Stream::Frames(Frames::default())),
            Some(Unread::Requests(place)) => (place, Stream::default()),
            None => (parcel.len()..parcel.len(), Stream::default()),
        };
        let mut json = Json::Plain;
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
            StorageNews::Loaded { found: Stored::Record(record), .. } => {
                // It was copied while reading, and is the last field of its input.
                let place = input_end - record.len()..input_end;
                assert!(entries[place.clone()] == **record, "a record ends its input");
                Found::Record(place)
            }
            StorageNews::Loaded { .. } | StorageNews::Stored { .. } | StorageNews::Returned => Found::Else,
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
    /// Requests. Bodies are looked at as if they were heads, and everything as if it were JSON.
    Http { line: Line, json: Json, upgrade: bool },
    /// Between the head of an upgrade and whatever follows.
    Upgrading,
    /// WebSocket frames.
    Frames(Frames),
}

impl Default for Stream {
    fn default() -> Self {
        Self::Http { line: Line::Target(Query::Path), json: Json::Plain, upgrade: false }
    }
}

impl Stream {
    fn redact(&mut self, key: &RandomState, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at += match self {
                Self::Http { .. } => self.http(key, &mut bytes[at]),
                Self::Upgrading => {
                    *self = Self::after_upgrade(bytes[at]);
                    0
                }
                Self::Frames(frames) => {
                    frames.take(key, &mut bytes[at]);
                    1
                }
            };
        }
    }

    /// An upgrade may have been refused: then another request follows, which begins with a capital letter. That is no
    /// frame's beginning, except that of compressed fragments, with which no method begins.
    fn after_upgrade(first: u8) -> Self {
        if matches!(first, b'C'..=b'Z') { Self::default() } else { Self::Frames(Frames::default()) }
    }

    fn http(&mut self, key: &RandomState, byte: &mut u8) -> usize {
        let Self::Http { line, json, upgrade } = self else { return 0 };
        let read = *byte;
        json.take(key, byte);
        match line.take(key, byte) {
            Noticed::Upgrade => *upgrade = true,
            Noticed::EmptyLine if *upgrade => *self = Self::Upgrading,
            Noticed::EmptyLine => *self = Self::default(),
            Noticed::Nothing => {}
        }
        debug_assert!(read != b'\n' || *byte == b'\n', "lines stay where they are");
        1
    }
}

/// A line of a request's head.
enum Line {
    /// The first, with method and target.
    Target(Query),
    /// A header's name.
    Name(Word),
    /// A header's value that is secret.
    Secret(Veil),
    /// The value of `Upgrade`.
    Upgrade(Word),
    /// A value that does not matter.
    Value,
}

enum Noticed {
    Nothing,
    Upgrade,
    EmptyLine,
}

impl Line {
    fn take(&mut self, key: &RandomState, byte: &mut u8) -> Noticed {
        if *byte == b'\n' {
            let ended = std::mem::replace(self, Self::Name(Word::default()));
            return match ended {
                Self::Name(word) if word.is_empty() => Noticed::EmptyLine,
                Self::Upgrade(word) if word.is(b"websocket") => Noticed::Upgrade,
                _ => Noticed::Nothing,
            };
        }
        match self {
            Self::Target(query) => query.take(key, byte),
            Self::Name(word) if *byte == b':' => {
                *self = if SECRET_HEADERS.iter().any(|name| word.is(name)) {
                    Self::Secret(Veil::default())
                } else if word.is(b"upgrade") {
                    Self::Upgrade(Word::default())
                } else {
                    Self::Value
                }
            }
            Self::Name(word) | Self::Upgrade(word) => {
                if !matches!(byte, b'\r' | b' ' | b'\t') {
                    word.push(byte.to_ascii_lowercase());
                }
            }
            Self::Secret(veil) => veil.cover(key, byte, ALPHANUMERIC),
            Self::Value => {}
        }
        Noticed::Nothing
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
            (_, b'?' | b'&') => *self = Self::Name(Word::default()),
            (_, b' ') => *self = Self::Path,
            (Self::Name(word), b'=') => {
                let is_secret = SECRET_KEYS.iter().any(|name| word.is(name));
                *self = if is_secret { Self::Secret(Veil::default()) } else { Self::Value };
            }
            (Self::Name(word), letter) => word.push(letter),
            (Self::Secret(veil), _) => veil.cover(key, byte, ALPHANUMERIC),
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
        let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        self.missing = match long {
            0 => u64::from(self.head[1] & 0x7f),
            _ => big_endian(&self.head[2..2 + long]),
        };
        self.mask = [0; 4];
        self.mask[..masked].copy_from_slice(&self.head[2 + long..2 + long + masked]);
        self.have = 0;
        if matches!(self.head[0] & 0x0f, 1 | 2) {
            self.compressed = self.head[0] & 0x40 != 0;
            self.json = Json::Plain;
        }
    }
}

/// Where in a JSON text.
///
/// Strings are not told from what is between them: every quote ends one word and begins another. So it does not
/// matter where in a text one begins, and a word is a key if a colon follows.
#[derive(Default)]
enum Json {
    #[default]
    Plain,
    /// Behind a quote.
    Word(Word),
    /// Behind a secret's key.
    Key,
    /// Behind the colon behind it.
    Colon,
    /// In a secret.
    Text(Veil),
    /// In a number in a secret's place.
    Number,
    /// In an object or array in a secret's place.
    Nested { depth: u32, text: Option<Veil> },
}

impl Json {
    fn take(&mut self, key: &RandomState, byte: &mut u8) {
        let read = *byte;
        match self {
            Self::Word(word) => {
                if read != b'"' || word.is_escaping() {
                    return word.push(read);
                }
                let is_secret = word.unescaped().is_some_and(|word| SECRET_KEYS.contains(&word.as_slice()));
                *self = if is_secret { Self::Key } else { Self::Word(Word::default()) };
            }
            Self::Text(veil) => {
                if read == b'"' && !veil.is_escaping() {
                    *self = Self::Plain;
                } else {
                    veil.cover(key, byte, STRING);
                }
            }
            Self::Nested { text: Some(veil), .. } if read != b'"' || veil.is_escaping() => {
                veil.cover(key, byte, STRING);
            }
            Self::Nested { depth, text } => match read {
                b'"' => *text = if text.is_some() { None } else { Some(Veil::default()) },
                b'{' | b'[' => *depth += 1,
                b'}' | b']' if *depth == 1 => *self = Self::Plain,
                b'}' | b']' => *depth -= 1,
                b'0'..=b'9' => *byte = b'1',
                _ => {}
            },
            Self::Number if read.is_ascii_digit() => *byte = b'1',
            Self::Number if matches!(read, b'+' | b'-' | b'.' | b'e' | b'E') => {}
            Self::Key | Self::Colon if matches!(read, b' ' | b'\t' | b'\n' | b'\r') => {}
            Self::Key if read == b':' => *self = Self::Colon,
            Self::Colon => match read {
                b'"' => *self = Self::Text(Veil::default()),
                b'{' | b'[' => *self = Self::Nested { depth: 1, text: None },
                b'-' => *self = Self::Number,
                b'0'..=b'9' => (*self, *byte) = (Self::Number, b'1'),
                _ => *self = Self::Plain,
            },
            Self::Plain | Self::Key | Self::Number => {
                *self = if read == b'"' { Self::Word(Word::default()) } else { Self::Plain };
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

/// What a veil maps onto each other: printable characters of a JSON string that need no escape.
const STRING: fn(u8) -> bool = |byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
/// The same where other characters have a meaning.
const ALPHANUMERIC: fn(u8) -> bool = |byte| byte.is_ascii_alphanumeric();
const HEX: fn(u8) -> bool = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
const CONTINUATION: fn(u8) -> bool = |byte| matches!(byte, 0x80..=0xbf);

/// Covers a secret, byte by byte. Which byte stands for which depends on the key and on the secret so far.
#[derive(Default)]
struct Veil {
    /// Of the secret so far.
    hash: u64,
    escape: Escape,
    /// The byte before.
    last: u8,
}

/// Where in an escape such as `\n`, `\u00e9` or `%20`.
#[derive(Clone, Copy, Default)]
enum Escape {
    #[default]
    None,
    Begun,
    Digits(u8),
}

impl Veil {
    fn is_escaping(&self) -> bool {
        matches!(self.escape, Escape::Begun)
    }

    fn cover(&mut self, key: &RandomState, byte: &mut u8, among: fn(u8) -> bool) {
        let read = *byte;
        let (escape, among): (_, fn(u8) -> bool) = match (self.escape, read) {
            (Escape::Begun, b'u') => (Escape::Digits(4), |_| false),
            (Escape::Begun, _) => (Escape::None, |_| false),
            // The first two digits tell halves of a pair from whole characters, and stay.
            (Escape::Digits(left @ 3..), _) => (Escape::Digits(left - 1), |_| false),
            (Escape::Digits(2), _) => (Escape::Digits(1), HEX),
            (Escape::Digits(_), _) => (Escape::None, HEX),
            (Escape::None, b'\\') => (Escape::Begun, |_| false),
            (Escape::None, b'%') if !among(b'%') => (Escape::Digits(2), |_| false),
            // Behind these the next byte is not free, or the text would not be UTF-8 any more.
            (Escape::None, _) if matches!(self.last, 0xe0 | 0xed | 0xf0 | 0xf4) => (Escape::None, |_| false),
            (Escape::None, 0x80..) => (Escape::None, CONTINUATION),
            (Escape::None, _) => (Escape::None, among),
        };
        let read_as = if matches!(self.escape, Escape::Digits(_)) { read.to_ascii_lowercase() } else { read };
        if among(read_as) {
            *byte = self.stand_in(key, read_as, among);
        }
        self.hash = key.hash_one((self.hash, read));
        self.escape = escape;
        self.last = read;
    }

    /// The byte that stands for this one: a permutation of those it is among, shuffled by key and hash.
    fn stand_in(&self, key: &RandomState, byte: u8, among: fn(u8) -> bool) -> u8 {
        let alphabet: Vec<u8> = (0..=u8::MAX).filter(|byte| among(*byte)).collect();
        let mut shuffled = alphabet.clone();
        for place in (1..shuffled.len()).rev() {
            let other = key.hash_one((self.hash, place)) % (place as u64 + 1);
            shuffled.swap(place, other as usize);
        }
        let place = alphabet.iter().position(|known| *known == byte);
        place.map_or(byte, |place| shuffled[place])
    }
}

/// Covers a secret that stands there as it is, so that it equals the same one in a JSON string.
fn cover_text(key: &RandomState, secret: &mut String) {
    let mut veil = Veil::default();
    let mut bytes = std::mem::take(secret).into_bytes();
    for byte in &mut bytes {
        if matches!(byte, b'"' | b'\\') {
            veil.cover(key, &mut b'\\'.clone(), STRING);
        }
        veil.cover(key, byte, STRING);
    }
    *secret = String::from_utf8(bytes).unwrap_or_else(|error| "*".repeat(error.as_bytes().len()));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use bandsync_engine::trace::Outcome;
    use bandsync_engine::words::time::Micros;
    use proptest::prelude::*;

    const CONN: ConnId = ConnId { index: 0, generation: 0 };
    const UPGRADE: &str = "GET /socket.io/?EIO=4 HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n\r\n";

    /// A masked frame, whole or the first or last part of a message.
    fn frame(first: u8, payload: &str) -> Vec<u8> {
        let mask = [7, 130, 0, 255];
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.push(0x80 | length as u8),
            length => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn unmasked(frame: &[u8]) -> String {
        let start = if frame[1] & 0x7f == 126 { 4 } else { 2 };
        let (mask, payload) = frame[start..].split_at(4);
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        String::from_utf8(payload).unwrap()
    }

    /// Redacts what a connection sends in these reads.
    fn redact(key: &RandomState, reads: &[&[u8]]) -> Vec<u8> {
        let mut stream = Stream::default();
        let mut redacted = Vec::new();
        for read in reads {
            let mut read = read.to_vec();
            stream.redact(key, &mut read);
            redacted.extend(read);
        }
        redacted
    }

    fn message(key: &RandomState, text: &str) -> String {
        let redacted = redact(key, &[UPGRADE.as_bytes(), &frame(0x81, text)]);
        assert_eq!(&redacted[..UPGRADE.len()], UPGRADE.as_bytes());
        unmasked(&redacted[UPGRADE.len()..])
    }

    #[test]
    fn secrets_go_and_everything_else_stays() {
        let key = RandomState::new();
        let told = r#"420["join_session",{"sessionId":"a","passcode":"hidden","x":"passcode","leaderPin" : "4711x","n":"token: 5"}]"#;
        let redacted = message(&key, told);
        assert!(!redacted.contains("hidden") && !redacted.contains("4711x"), "{redacted}");
        assert_eq!(redacted.len(), told.len());
        for part in
            [r#"420["join_session",{"sessionId":"a","passcode":""#, r#"","x":"passcode","leaderPin" : ""#]
        {
            assert!(redacted.contains(part), "{redacted}");
        }
        assert!(redacted.ends_with(r#"","n":"token: 5"}]"#), "{redacted}");
        for harmless in [r#"42["chat",{"message":"the \"passcode\":\"x\" of old"}]"#, "2probe", "40"] {
            assert_eq!(message(&key, harmless), harmless);
        }
    }

    #[test]
    fn other_values_in_a_secrets_place_go_too() {
        let key = RandomState::new();
        let shape = |text: &str| message(&key, text);
        assert_eq!(shape(r#"{"passcode":-4711.5e3,"b":2}"#), r#"{"passcode":-1111.1e1,"b":2}"#);
        assert_eq!(shape(r#"{"passcode":null,"b":"c"}"#), r#"{"passcode":null,"b":"c"}"#);
        assert_eq!(shape(r#"{"passcode":"","b":"c"}"#), r#"{"passcode":"","b":"c"}"#);
        let nested = shape(r#"{"passcode":[{"a":"hidden\"} too"},12],"b":"c"}"#);
        assert!(!nested.contains("hidden") && !nested.contains("too"), "{nested}");
        assert!(nested.ends_with(r#""},11],"b":"c"}"#), "{nested}");
    }

    #[test]
    fn escapes_hide_nothing() {
        let key = RandomState::new();
        let redacted = message(&key, r#"{"pass\u0063ode":"a\u0062c\\\"d","b":"c"}"#);
        assert!(!redacted.contains(r"\u0062"), "{redacted}");
        assert!(redacted.starts_with(r#"{"pass\u0063ode":""#) && redacted.ends_with(r#"","b":"c"}"#));
    }

    #[test]
    fn equal_secrets_stay_equal_and_others_differ() {
        let key = RandomState::new();
        let secret = |text: &str| message(&key, &format!(r#"{{"passcode":"{text}"}}"#));
        assert_eq!(secret("Ünlösbar 🎸"), secret("Ünlösbar 🎸"));
        let all: Vec<String> = (0..500).map(|n| secret(&format!("{n:03}"))).collect();
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
        let other = RandomState::new();
        assert_ne!(message(&other, r#"{"passcode":"a long secret"}"#), secret("a long secret"));
    }

    #[test]
    fn heads_and_bodies_of_requests_are_redacted() {
        let key = RandomState::new();
        let told = "POST /x?a=b&token=hid%64en&c=d HTTP/1.1\r\nHost: hidden.example\r\nAuthorization: Bearer \
                    hidden1\r\ncookie:k=hidden2\r\n\r\n42[\"join_session\",{\"passcode\":\"hidden3\"}]";
        let redacted = String::from_utf8(redact(&key, &[told.as_bytes()])).unwrap();
        for secret in ["hid%64en", "hidden1", "hidden2", "hidden3"] {
            assert!(!redacted.contains(secret), "{redacted}");
        }
        assert!(redacted.contains("?a=b&token=") && redacted.contains("&c=d HTTP"), "{redacted}");
        assert!(redacted.contains("Host: hidden.example\r\n"), "{redacted}");
        assert_eq!(redacted.len(), told.len());
    }

    #[test]
    fn after_a_refused_upgrade_requests_go_on() {
        let key = RandomState::new();
        let next = "GET /?token=hidden HTTP/1.1\r\n\r\n";
        let redacted = redact(&key, &[UPGRADE.as_bytes(), &next.as_bytes()[..1], &next.as_bytes()[1..]]);
        assert!(!String::from_utf8(redacted).unwrap().contains("hidden"));
    }

    #[test]
    fn what_is_compressed_is_wiped() {
        let key = RandomState::new();
        let parts =
            [frame(0x41, "compressed"), frame(0x89, "ping"), frame(0x80, "the rest"), frame(0x81, "plain")];
        let redacted = redact(&key, &[UPGRADE.as_bytes(), &parts.concat()]);
        let mut rest = &redacted[UPGRADE.len()..];
        let told = parts.each_ref().map(|part| {
            let (told, after) = rest.split_at(part.len());
            rest = after;
            unmasked(told)
        });
        assert_eq!(told, ["\0".repeat(10), "ping".into(), "\0".repeat(8), "plain".into()]);
    }

    #[test]
    fn entries_are_redacted_where_they_lie() {
        let mut entries = Vec::new();
        let frame = frame(0x81, r#"{"leaderPin":"hidden"}"#);
        let inputs = [
            Recorded::Opened { conn: CONN, peer: [127, 0, 0, 1].into() },
            Recorded::Received { conn: CONN, bytes: UPGRADE.as_bytes() },
            Recorded::Received { conn: CONN, bytes: &frame },
        ];
        for input in &inputs {
            trace::write_input(&mut entries, Micros::ZERO, input);
            trace::write_outcome(&mut entries, Outcome::Nothing);
        }
        Redactor::new(RandomState::new()).redact(&mut entries);
        let mut rest = &entries[..];
        for input in &inputs[..2] {
            assert_eq!(trace::read_input(&mut rest).unwrap().1, *input);
            trace::read_outcome(&mut rest).unwrap();
        }
        let Recorded::Received { bytes, .. } = trace::read_input(&mut rest).unwrap().1 else { panic!() };
        assert!(!unmasked(bytes).contains("hidden"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Who knew the passcode of a stored session knows it in the replay as well.
        #[test]
        fn a_stored_secret_is_covered_as_a_spoken_one(secret in "[ -~äß🎸]{4,12}") {
            let key = RandomState::new();
            let mut stored = secret.clone();
            cover_text(&key, &mut stored);
            let spell = |secret: &str| secret.replace('\\', "\\\\").replace('"', "\\\"");
            let spoken = message(&key, &format!(r#"{{"passcode":"{}"}}"#, spell(&secret)));
            prop_assert_eq!(spoken, format!(r#"{{"passcode":"{}"}}"#, spell(&stored)));
            prop_assert_eq!(stored.len(), secret.len());
        }

        /// Cuts and fragments make no difference.
        #[test]
        fn reads_may_be_cut_anywhere(secret in "[a-zé\"\\\\🎸]{0,12}", cuts in prop::collection::vec(0_usize..300, 0..6)) {
            let key = RandomState::new();
            let secret = secret.replace('\\', "\\\\").replace('"', "\\\"");
            let (first, second) = (format!(r#"{{"passcode":"{secret}","a":"#), r#""b"}"#);
            let mut bytes = UPGRADE.as_bytes().to_vec();
            bytes.extend(frame(0x01, &first));
            bytes.extend(frame(0x89, "ping"));
            bytes.extend(frame(0x80, second));
            let whole = redact(&key, &[&bytes]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let reads: Vec<&[u8]> = cuts.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect();
            prop_assert_eq!(redact(&key, &reads), whole.clone());
            let length = frame(0x01, &first).len();
            let text = unmasked(&whole[UPGRADE.len()..UPGRADE.len() + length]);
            let shown = text.contains(&format!("\"{secret}\""));
            prop_assert!(secret.len() < 4 || secret.contains('\\') || !shown);
            prop_assert!(whole.ends_with(&frame(0x80, second)));
        }
    }
}
