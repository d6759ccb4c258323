//! Engine.IO's HTTP bodies: several packets in one.
//!
//! Version 4 puts a record separator between packets. Version 3 puts the length in front of each,
//! in UTF-16 units as JavaScript counts, or, in a binary body, in decimal digits of one byte each.

use std::borrow::Cow;

/// The byte between two packets of version 4.
const SEPARATOR: u8 = 0x1e;

/// The byte behind a length in a binary body of version 3.
const LENGTH_END: u8 = 0xff;

/// The version of Engine.IO that a client speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Version {
    /// socket.io-client 1 and 2: the client pings.
    V3,
    /// socket.io-client 3 and 4: the server pings.
    V4,
}

/// A body that is no list of packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoPayload;

/// A packet of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part<'a> {
    /// The contents of a text message on a WebSocket.
    Text(&'a str),
    /// The contents of a binary message on a WebSocket.
    Binary(&'a [u8]),
}

/// Returns the packets of a body in order; `binary` if its type is `application/octet-stream`.
pub fn parts(body: &[u8], version: Version, binary: bool) -> Result<Vec<Part<'_>>, NoPayload> {
    match (version, binary) {
        (Version::V4, true) => Err(NoPayload),
        (Version::V4, false) => {
            let text = std::str::from_utf8(body).map_err(|_| NoPayload)?;
            Ok(text.split(char::from(SEPARATOR)).map(Part::Text).collect())
        }
        (Version::V3, false) => counted(std::str::from_utf8(body).map_err(|_| NoPayload)?),
        (Version::V3, true) => measured(body),
    }
}

/// Reads packets of the form `<length>:<packet>`.
fn counted(mut rest: &str) -> Result<Vec<Part<'_>>, NoPayload> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        let (length, tail) = rest.split_once(':').ok_or(NoPayload)?;
        let packet = take_units(tail, decimal(length.bytes())?).ok_or(NoPayload)?;
        parts.push(Part::Text(packet));
        rest = &tail[packet.len()..];
    }
    Ok(parts)
}

/// Returns the first `units` UTF-16 units of `text`.
fn take_units(text: &str, units: usize) -> Option<&str> {
    let mut left = units;
    for (at, character) in text.char_indices() {
        if left == 0 {
            return Some(&text[..at]);
        }
        left = left.checked_sub(character.len_utf16())?;
    }
    (left == 0).then_some(text)
}

/// Reads packets that consist of kind, digits of the length, end of the length, and contents.
fn measured(mut rest: &[u8]) -> Result<Vec<Part<'_>>, NoPayload> {
    let mut parts = Vec::new();
    while let [kind, tail @ ..] = rest {
        let end = tail.iter().position(|byte| *byte == LENGTH_END).ok_or(NoPayload)?;
        let length = decimal(tail[..end].iter().map(|digit| digit.wrapping_add(b'0')))?;
        let packet = tail.get(end + 1..).and_then(|tail| tail.get(..length)).ok_or(NoPayload)?;
        parts.push(match kind {
            0 => Part::Text(std::str::from_utf8(packet).map_err(|_| NoPayload)?),
            1 => Part::Binary(packet),
            _ => return Err(NoPayload),
        });
        rest = &tail[end + 1 + length..];
    }
    Ok(parts)
}

fn decimal(digits: impl ExactSizeIterator<Item = u8>) -> Result<usize, NoPayload> {
    if !(1..=9).contains(&digits.len()) {
        return Err(NoPayload);
    }
    digits.into_iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Ok(number * 10 + usize::from(digit - b'0')),
        _ => Err(NoPayload),
    })
}

/// A packet that waits for a body.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Packet {
    /// A packet as a text message of a WebSocket would carry it.
    Text(Vec<u8>),
    /// The bytes of an attachment, without their type.
    Binary(Vec<u8>),
}

impl Packet {
    /// Returns the packet's own bytes.
    pub fn bytes(&self) -> &[u8] {
        let (Self::Text(bytes) | Self::Binary(bytes)) = self;
        bytes
    }
}

/// A body to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Body {
    /// The `Content-Type`.
    pub kind: &'static str,
    /// The contents.
    pub bytes: Vec<u8>,
}

/// Returns the body that holds these packets. With `base64` the client accepts bytes as text only;
/// a client of version 4 always does.
pub fn body(packets: &[Packet], version: Version, base64: bool) -> Body {
    let is_binary = |packet: &Packet| matches!(packet, Packet::Binary(_));
    if version == Version::V3 && !base64 && packets.iter().any(is_binary) {
        return Body { kind: "application/octet-stream", bytes: measured_body(packets) };
    }
    let mut bytes = Vec::new();
    for (index, packet) in packets.iter().enumerate() {
        let text = match packet {
            Packet::Text(text) => Cow::Borrowed(&**text),
            Packet::Binary(attachment) => {
                let mut text = Vec::new();
                attachment_text(&mut text, attachment, version);
                Cow::Owned(text)
            }
        };
        match version {
            Version::V4 if index > 0 => bytes.push(SEPARATOR),
            Version::V4 => {}
            Version::V3 => {
                let units: usize =
                    String::from_utf8_lossy(&text).chars().map(char::len_utf16).sum();
                bytes.extend_from_slice(format!("{units}:").as_bytes());
            }
        }
        bytes.extend_from_slice(&text);
    }
    Body { kind: "text/plain; charset=UTF-8", bytes }
}

/// Appends an attachment as text: base64 behind a `b`, and in version 3 behind the digit of its
/// type.
pub fn attachment_text(out: &mut Vec<u8>, attachment: &[u8], version: Version) {
    out.extend_from_slice(if version == Version::V3 { b"b4" } else { b"b" });
    out.extend_from_slice(data_encoding::BASE64.encode(attachment).as_bytes());
}

/// Returns the body that [`measured`] reads.
fn measured_body(packets: &[Packet]) -> Vec<u8> {
    let mut body = Vec::new();
    for packet in packets {
        let (kind, type_bytes) = match packet {
            Packet::Text(_) => (0, 0),
            // An attachment has the number of its type in front.
            Packet::Binary(_) => (1, 1),
        };
        body.push(kind);
        let length = (packet.bytes().len() + type_bytes).to_string();
        body.extend(length.bytes().map(|digit| digit - b'0'));
        body.push(LENGTH_END);
        body.extend_from_slice(&[4][..type_bytes]);
        body.extend_from_slice(packet.bytes());
    }
    body
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_the_bodies_that_clients_send() {
        let text = |texts: &[&'static str]| {
            Ok(texts.iter().map(|text| Part::Text(text)).collect::<Vec<_>>())
        };
        assert_eq!(parts(b"40", Version::V4, false), text(&["40"]));
        assert_eq!(
            parts(b"4hello\x1ebAQIDBA==\x1e3", Version::V4, false),
            text(&["4hello", "bAQIDBA==", "3"])
        );
        assert_eq!(
            parts(b"6:4hello10:b4AQIDBA==", Version::V3, false),
            text(&["4hello", "b4AQIDBA=="])
        );
        assert_eq!(parts("5:4é🎸x1:2".as_bytes(), Version::V3, false), text(&["4é🎸x", "2"]));
        let mixed = [&[0, 6, 0xff][..], b"4hello", &[1, 3, 0xff, 4, 1, 2]].concat();
        let expected = vec![Part::Text("4hello"), Part::Binary(&[4, 1, 2])];
        assert_eq!(parts(&mixed, Version::V3, true), Ok(expected));
    }

    #[test]
    fn rejects_malformed_bodies() {
        for (body, version, binary) in [
            (&b"\xff"[..], Version::V4, false),
            (b"4x", Version::V4, true),
            (b"4x", Version::V3, false),
            (b"3:4x", Version::V3, false),
            (b":4x", Version::V3, false),
            (b"-1:4x", Version::V3, false),
            (b"9999999999:4x", Version::V3, false),
            ("2:4🎸".as_bytes(), Version::V3, false),
            (&[0, 6, 0xff, b'4'], Version::V3, true),
            (&[2, 1, 0xff, b'4'], Version::V3, true),
            (&[0, 1, b'4'], Version::V3, true),
            (&[0, 0xff, b'4'], Version::V3, true),
        ] {
            assert_eq!(parts(body, version, binary), Err(NoPayload), "{body:x?}");
        }
    }

    #[test]
    fn prints_bytes_in_the_form_that_the_client_accepts() {
        let packets = [Packet::Text(b"4hello".to_vec()), Packet::Binary(vec![1, 2, 3, 4])];
        let text = |bytes: &[u8]| Body { kind: "text/plain; charset=UTF-8", bytes: bytes.to_vec() };
        for base64 in [false, true] {
            assert_eq!(body(&packets, Version::V4, base64), text(b"4hello\x1ebAQIDBA=="));
        }
        assert_eq!(body(&packets, Version::V3, true), text(b"6:4hello10:b4AQIDBA=="));
        assert_eq!(body(&packets[..1], Version::V3, false), text(b"6:4hello"));
        let bytes = [&[0, 6, 0xff][..], b"4hello", &[1, 5, 0xff, 4, 1, 2, 3, 4]].concat();
        let measured = body(&packets, Version::V3, false);
        assert_eq!(measured, Body { kind: "application/octet-stream", bytes });
        let read = vec![Part::Text("4hello"), Part::Binary(&[4, 1, 2, 3, 4])];
        assert_eq!(parts(&measured.bytes, Version::V3, true), Ok(read));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn reads_back_what_it_prints(texts in prop::collection::vec("[0-6][a-zé🎸:\\[\\]]{0,12}", 1..5), old: bool) {
            let version = if old { Version::V3 } else { Version::V4 };
            let packets: Vec<Packet> = texts.iter().map(|text| Packet::Text(text.clone().into())).collect();
            let printed = body(&packets, version, false);
            let expected: Vec<Part<'_>> = texts.iter().map(|text| Part::Text(text)).collect();
            prop_assert_eq!(parts(&printed.bytes, version, false), Ok(expected));
        }

        #[test]
        fn random_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..40), old: bool, binary: bool) {
            let _ = parts(&body, if old { Version::V3 } else { Version::V4 }, binary);
        }
    }
}
