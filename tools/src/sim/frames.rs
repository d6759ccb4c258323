//! The client's side of the wire: frames to the server, frames from it, and rubbish.

use std::ops::Range;

use bandsync_testkit::frames::{handshake, read, write};

use super::rng::SimRng;

/// Returns the request that opens a client's connection.
pub fn upgrade() -> Vec<u8> {
    handshake("band", false)
}

/// Opcodes with the final bit.
pub const TEXT: u8 = 0x81;
pub const DEFLATED: u8 = 0xc1;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

/// The code of the error that announces the end of the server.
pub const DRAINING: &[u8] = b"\"draining\"";

/// Whether a frame announces the end of the server.
pub fn is_draining(frame: &[u8]) -> bool {
    frame.windows(DRAINING.len()).any(|bytes| bytes == DRAINING)
}

/// Appends a frame with a random mask.
pub fn frame(out: &mut Vec<u8>, first: u8, payload: &[u8], luck: &mut SimRng) {
    // One mask in four changes nothing, so that a recording of the world can be read.
    let mask = luck.next() as u32;
    let mask = if mask.is_multiple_of(4) { [0; 4] } else { mask.to_le_bytes() };
    write(out, first, payload, Some(mask));
}

/// Returns the request that opens the connection of a client that offers compression on these
/// terms.
pub fn upgrade_with(terms: &str) -> Vec<u8> {
    let head = upgrade();
    let head = &head[..head.len() - 2];
    [head, b"Sec-WebSocket-Extensions: permessage-deflate", terms.as_bytes(), b"\r\n\r\n"].concat()
}

/// Compresses a message without compression: its blocks are stored unchanged.
pub fn stored(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in text.chunks(65_535) {
        let length = block.len() as u16;
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    // RFC 7692 ends a message with an empty block whose lengths are left out.
    out.push(0);
    out
}

/// Returns the place of the digits of the time of sending, which ends answers to probes.
pub fn stamp_in(frame: &[u8]) -> Option<Range<usize>> {
    const NAME: &[u8] = b"\"t2\":";
    let tail = frame.len().saturating_sub(40);
    let found = frame[tail..].windows(NAME.len()).rposition(|bytes| bytes == NAME)?;
    let start = tail + found + NAME.len();
    let is_digit = |byte: &&u8| byte.is_ascii_digit() || **byte == b'.';
    let count = frame[start..].iter().take_while(is_digit).count();
    (frame[start + count..] == *b"}]").then_some(start..start + count)
}

/// Whether a short frame acknowledges a value that a newer one superseded.
pub fn is_superseded(frame: &[u8]) -> bool {
    const WORD: &[u8] = b"\"superseded\":true";
    frame.len() < 126 && frame.windows(WORD.len()).any(|part| part == WORD)
}

/// Returns the payload of a server's frame, if it fills `bytes`.
pub fn only_payload(bytes: &[u8]) -> Option<&[u8]> {
    read(bytes).filter(|frame| frame.length == bytes.len()).map(|frame| frame.payload)
}

/// Returns rubbish of this kind, which ends or spoils a connection.
pub fn rubbish(kind: u8, luck: &mut SimRng, message_max: u32, fragments_max: u32) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        0 => out.extend((0..luck.between(1, 200)).map(|_| luck.next() as u8)),
        // No mask; reserved bits; an undefined opcode.
        1 => out.extend_from_slice(b"\x81\x022x"),
        2 => frame(&mut out, 0x80 | 0x10 << luck.below(3) | 1, b"2x", luck),
        3 => frame(&mut out, 0x83 + luck.below(5) as u8, b"x", luck),
        // A frame that claims to be larger than memory.
        4 => out.extend_from_slice(&[
            TEXT, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4,
        ]),
        // Fragments without end.
        5 => {
            frame(&mut out, 0x01, b"4", luck);
            for _ in 0..u64::from(fragments_max.min(2_000)) + 2 {
                frame(&mut out, 0x00, b"", luck);
            }
        }
        // Invalid UTF-8, cut inside a character.
        6 => {
            frame(&mut out, 0x01, b"42[\"chat_message\",\"\xf0\x9f", luck);
            frame(&mut out, 0x80, b"\xc0\"]", luck);
        }
        7 => frame(&mut out, CLOSE, &[0x03, *luck.pick(&[0xec, 0xed, 0xee, 0xe9])], luck),
        // A binary event whose attachments never come, and one that announces too many.
        10 => frame(
            &mut out,
            TEXT,
            b"452-[\"cue\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]",
            luck,
        ),
        11 => {
            frame(&mut out, TEXT, b"452147483648-[\"cue\",{\"_placeholder\":true,\"num\":0}]", luck)
        }
        13 => {
            let length = (message_max as usize + 1).min(200_000);
            frame(&mut out, BINARY, &vec![b'4'; length], luck);
        }
        // Invalid packets.
        _ => {
            let text = *luck.pick(&[
                "",
                "9",
                "4",
                "42",
                "42[",
                "42[1]",
                "42{}",
                "2",
                "47[]",
                "42[\"disconnect\"]",
                "40",
                "b!",
            ]);
            frame(&mut out, TEXT, text.as_bytes(), luck);
        }
    }
    out
}
