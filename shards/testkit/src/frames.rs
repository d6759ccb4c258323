//! WebSocket frames, as both sides write and read them. Nothing is fragmented or checked.

/// The first byte of a text frame: its opcode with the final bit.
const TEXT: u8 = 0x81;

/// Returns the handshake that opens a connection. All use the same key, since the answer is not
/// checked.
pub fn handshake(host: &str, compression: bool) -> Vec<u8> {
    let offer = if compression {
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    } else {
        ""
    };
    format!(
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         {offer}\r\n"
    )
    .into_bytes()
}

/// Returns the length of the head of an HTTP message at the front of `bytes`, if it is complete.
pub fn head_length(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Appends a client's text frame. Its mask is all zeros, which costs the receiver the same as any
/// other.
pub fn masked(bytes: &mut Vec<u8>, text: &str) {
    masked_with(bytes, text, [0; 4]);
}

/// Appends a client's text frame with this mask.
pub fn masked_with(bytes: &mut Vec<u8>, text: &str, mask: [u8; 4]) {
    write(bytes, TEXT, text.as_bytes(), Some(mask));
}

/// Appends a server's text frame.
pub fn plain(bytes: &mut Vec<u8>, text: &str) {
    write(bytes, TEXT, text.as_bytes(), None);
}

/// Appends a frame. `first` is its first byte: the opcode with the final and the reserved bits.
/// Frames of clients have a mask.
pub fn write(bytes: &mut Vec<u8>, first: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    let masked = u8::from(mask.is_some()) << 7;
    bytes.push(first);
    match payload.len() {
        length @ 0..126 => bytes.push(masked | length as u8),
        length @ 126..65_536 => {
            bytes.push(masked | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    let Some(mask) = mask else { return bytes.extend_from_slice(payload) };
    bytes.extend_from_slice(&mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// A frame at the front of a buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// 1 = text, 8 = close, 9 = ping.
    pub opcode: u8,
    /// Whether the payload is compressed.
    pub compressed: bool,
    /// The payload as sent: masked with `mask`.
    pub payload: &'a [u8],
    /// The mask; all zeros if there is none.
    pub mask: [u8; 4],
    /// The position of the next frame.
    pub length: usize,
}

/// Returns the frame at the front of `bytes`, if it is complete.
#[inline]
pub fn read(bytes: &[u8]) -> Option<Frame<'_>> {
    let [first, second, ..] = *bytes else { return None };
    let (length, mut at) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])), 4),
        127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize, 10),
        short => (usize::from(short), 2),
    };
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        mask.copy_from_slice(bytes.get(at..at + 4)?);
        at += 4;
    }
    let payload = bytes.get(at..at.checked_add(length)?)?;
    let compressed = first & 0x40 != 0;
    Some(Frame { opcode: first & 0x0f, compressed, payload, mask, length: at + length })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_no_part_of_it() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let text = "x".repeat(length);
            for write in [masked, plain] {
                let mut bytes = Vec::new();
                write(&mut bytes, &text);
                let whole = bytes.len();
                bytes.extend_from_slice(b"next");
                let frame = read(&bytes).unwrap();
                assert_eq!((frame.opcode, frame.payload.len(), frame.length), (1, length, whole));
                assert_eq!(read(&bytes[..whole - 1]), None);
            }
        }
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        assert_eq!(head_length(b"HTTP/1.1 101 X\r\nA: b\r\n"), None);
        assert_eq!(head_length(b"A\r\n\r\nrest"), Some(5));
        for compression in [false, true] {
            let request = handshake("h", compression);
            assert_eq!(head_length(&request), Some(request.len()));
        }
    }
}
