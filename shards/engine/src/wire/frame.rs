//! RFC 6455 for a server: masked frames in, whole messages out, and back.
//!
//! [`Reader`] unmasks in place. A message that one read contains whole is borrowed from it. A
//! message that is split over frames or reads is copied, into a buffer that is freed with the
//! message.

use std::io::Cursor;

use serde::{Deserialize, Serialize};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

use crate::words::limits::Limits;

/// Maximum payload of a control frame, by RFC 6455 section 5.5.
pub const CONTROL_BYTES_MAX: usize = 125;

/// Maximum bytes of a client's header: flags, length and mask.
const HEADER_BYTES_MAX: usize = 14;

/// One whole message from the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message<'a> {
    /// A text message; UTF-8 was checked.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A compressed message, to be [inflated](super::deflate::Inflater) and, if it is text, checked
    /// for UTF-8.
    Deflated {
        /// Whether it is a text message.
        text: bool,
        /// The payload of its frames.
        payload: &'a [u8],
    },
    /// A ping, to be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// A pong: an answer to a ping, or unsolicited.
    Pong(&'a [u8]),
    /// A close, to be answered with a close frame of the same code. Nothing may follow.
    Close(Option<Close<'a>>),
}

/// The body of a close frame that has one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Close<'a> {
    /// The code, one that [`may_be_sent`].
    pub code: u16,
    /// The reason, for people; may be empty.
    pub reason: &'a str,
}

/// The rule of RFC 6455 or the limit that a peer broke. The connection is closed with
/// [`code`](FrameError::code), and the reader must not be used again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum FrameError {
    /// A client must mask every frame.
    Unmasked,
    /// A reserved bit that no extension uses, or in a frame where none may.
    ReservedBit,
    /// An opcode that RFC 6455 leaves undefined.
    Opcode,
    /// A control frame that is fragmented or longer than [`CONTROL_BYTES_MAX`].
    Control,
    /// A continuation without a message, or a new message inside an unfinished one.
    Continuation,
    /// A close frame of one byte, or with a code that must not be sent.
    CloseBody,
    /// Text, or a close reason, that is not UTF-8.
    Utf8,
    /// A compressed message that cannot be decompressed.
    Deflate,
    /// More than [`Limits::message_bytes_max`]. The header shows it before a byte is kept.
    TooLarge,
    /// More than [`Limits::fragments_max`].
    TooManyFragments,
}

impl FrameError {
    /// Returns the close code for the peer.
    pub fn code(self) -> u16 {
        match self {
            Self::Unmasked
            | Self::ReservedBit
            | Self::Opcode
            | Self::Control
            | Self::Continuation
            | Self::CloseBody => CloseCode::Protocol,
            Self::Utf8 | Self::Deflate => CloseCode::Invalid,
            Self::TooLarge => CloseCode::Size,
            Self::TooManyFragments => CloseCode::Policy,
        }
        .into()
    }
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unmasked => "frame is not masked",
            Self::ReservedBit => "reserved bit is set",
            Self::Opcode => "unknown opcode",
            Self::Control => "control frame is fragmented or too long",
            Self::Continuation => "fragments are out of order",
            Self::CloseBody => "bad close code",
            Self::Utf8 => "text is not UTF-8",
            Self::Deflate => "compressed data is corrupt",
            Self::TooLarge => "message is too large",
            Self::TooManyFragments => "message has too many fragments",
        })
    }
}

impl std::error::Error for FrameError {}

/// Assembles messages from a client's bytes.
///
/// A plain value: it can be recorded, compared, and moved to another shard between any two bytes.
/// Between messages it owns no heap memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reader {
    /// Whether compression was agreed on.
    deflates: bool,
    /// The unfinished message and frame. Boxed, because nearly all messages arrive whole, and
    /// nearly all connections are between two messages.
    open: Option<Box<Open>>,
}

/// The state of a reader inside a message or frame.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Open {
    /// The first bytes of an incomplete header.
    head: [u8; HEADER_BYTES_MAX],
    head_len: u8,
    /// The frame whose payload is arriving.
    frame: Option<Frame>,
    /// The unfinished data message: its kind, and its bytes, unmasked.
    kind: Option<Kind>,
    message: Vec<u8>,
    /// Number of bytes of `message` that are checked and complete UTF-8 characters.
    valid: u32,
    fragments: u32,
    /// Whether the unfinished message is compressed.
    deflated: bool,
    /// The unfinished control frame, which may arrive inside the unfinished message.
    control: Vec<u8>,
}

/// The result of reading on.
enum Step {
    /// The bytes are used up.
    More,
    /// A whole message is in the bytes, from `start` on.
    Whole { opcode: Opcode, deflated: bool, start: usize },
    /// A message was assembled from pieces.
    Gathered(Opcode),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Frame {
    opcode: Opcode,
    last: bool,
    /// Number of payload bytes that are missing.
    missing: u32,
    /// The mask, rotated so that its first byte applies to the next byte of the payload.
    mask: [u8; 4],
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
enum Opcode {
    /// A fragment of a message of this kind. A continuation has the kind of the first frame.
    Data(Kind),
    Control(ControlKind),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
enum ControlKind {
    Ping,
    Pong,
    Close,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
enum Kind {
    Text,
    Binary,
}

impl Reader {
    /// Creates a reader. `deflates`: permessage-deflate was agreed on.
    pub fn new(deflates: bool) -> Self {
        Self { deflates, ..Self::default() }
    }

    /// Returns the next message of `input`, read from `*at` on, and moves `*at` behind it.
    ///
    /// Returns `None` when all of `input` is used up. Call it until then, because only the next
    /// call frees a message that was assembled from pieces. Bytes are unmasked in place, so no byte
    /// may be passed twice.
    pub fn next<'a>(
        &'a mut self,
        limits: &Limits,
        input: &'a mut [u8],
        at: &mut usize,
    ) -> Result<Option<Message<'a>>, FrameError> {
        self.free_delivered();
        let step = match &mut self.open {
            Some(open) => open.step(self.deflates, limits, input, at)?,
            None if *at == input.len() => return Ok(None),
            None => {
                let mut open = Open::default();
                let step = open.step(self.deflates, limits, input, at)?;
                if open.has_begun() || matches!(step, Step::Gathered(_)) {
                    self.open = Some(Box::new(open));
                }
                step
            }
        };
        match (step, &self.open) {
            (Step::Whole { opcode, deflated, start }, _) => {
                read(opcode, deflated, &input[start..*at]).map(Some)
            }
            (Step::Gathered(opcode @ Opcode::Control(_)), Some(open)) => {
                read(opcode, false, &open.control).map(Some)
            }
            (Step::Gathered(opcode @ Opcode::Data(_)), Some(open)) => {
                read(opcode, open.deflated, &open.message).map(Some)
            }
            (Step::More | Step::Gathered(_), _) => Ok(None),
        }
    }

    /// Whether a message or frame is unfinished.
    pub fn in_message(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.has_begun())
    }

    /// Returns the number of bytes of messages held on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.message.capacity() + open.control.capacity())
    }

    fn free_delivered(&mut self) {
        if let Some(open) = &mut self.open {
            open.free_delivered();
            if !open.has_begun() {
                self.open = None;
            }
        }
    }
}

impl Open {
    /// Reads on until a message is complete or the bytes are used up.
    fn step(
        &mut self,
        deflates: bool,
        limits: &Limits,
        input: &mut [u8],
        at: &mut usize,
    ) -> Result<Step, FrameError> {
        loop {
            if self.frame.is_none() {
                self.frame = self.header(deflates, limits, input, at)?;
            }
            let Some(frame) = &mut self.frame else { return Ok(Step::More) };
            let opcode = frame.opcode;
            let last = frame.last;
            let start = *at;
            let whole = frame.unmask(input, at);
            if whole {
                self.frame = None;
            }
            match opcode {
                Opcode::Control(_) if whole && self.control.is_empty() => {
                    return Ok(Step::Whole { opcode, deflated: false, start });
                }
                Opcode::Control(_) => {
                    self.control.extend_from_slice(&input[start..*at]);
                    if whole {
                        return Ok(Step::Gathered(opcode));
                    }
                }
                Opcode::Data(_) if whole && last && self.message.is_empty() => {
                    self.kind = None;
                    return Ok(Step::Whole { opcode, deflated: self.deflated, start });
                }
                Opcode::Data(kind) => {
                    self.message.extend_from_slice(&input[start..*at]);
                    if kind == Kind::Text && !self.deflated {
                        self.check_utf8()?;
                    }
                    if whole && last {
                        self.kind = None;
                        return Ok(Step::Gathered(opcode));
                    }
                }
            }
            if !whole {
                return Ok(Step::More);
            }
        }
    }

    fn has_begun(&self) -> bool {
        self.kind.is_some() || self.frame.is_some() || self.head_len > 0
    }

    fn free_delivered(&mut self) {
        if self.kind.is_none() {
            self.message = Vec::new();
        }
        if !matches!(self.frame, Some(Frame { opcode: Opcode::Control(_), .. })) {
            self.control = Vec::new();
        }
    }

    /// Reads one header, which may have begun in an earlier read. `None` while it is incomplete.
    fn header(
        &mut self,
        deflates: bool,
        limits: &Limits,
        input: &[u8],
        at: &mut usize,
    ) -> Result<Option<Frame>, FrameError> {
        let rest = &input[*at..];
        if self.head_len == 0
            && let Some((header, length, used)) = parse_header(rest)?
        {
            *at += used;
            return self.start(deflates, limits, &header, length).map(Some);
        }
        let known = usize::from(self.head_len);
        let more = rest.len().min(HEADER_BYTES_MAX - known);
        self.head[known..known + more].copy_from_slice(&rest[..more]);
        match parse_header(&self.head[..known + more])? {
            Some((header, length, used)) => {
                *at += used - known;
                self.head_len = 0;
                self.start(deflates, limits, &header, length).map(Some)
            }
            None => {
                *at += more;
                self.head_len += more as u8;
                Ok(None)
            }
        }
    }

    /// Checks a header against the rules and the frames before it, and opens its frame.
    fn start(
        &mut self,
        deflates: bool,
        limits: &Limits,
        header: &FrameHeader,
        length: u64,
    ) -> Result<Frame, FrameError> {
        let mask = header.mask.ok_or(FrameError::Unmasked)?;
        // RSV1 on the first frame of a data message says that it is compressed.
        let begins = matches!(header.opcode, OpCode::Data(Data::Text | Data::Binary));
        if header.rsv1 && !(deflates && begins) || header.rsv2 || header.rsv3 {
            return Err(FrameError::ReservedBit);
        }
        let opcode = match header.opcode {
            OpCode::Control(control) => {
                if !header.is_final || length > CONTROL_BYTES_MAX as u64 {
                    return Err(FrameError::Control);
                }
                Opcode::Control(match control {
                    Control::Ping => ControlKind::Ping,
                    Control::Pong => ControlKind::Pong,
                    Control::Close => ControlKind::Close,
                    Control::Reserved(_) => return Err(FrameError::Opcode),
                })
            }
            OpCode::Data(opcode) => {
                let kind = self.begin_or_continue(limits, opcode, header.is_final)?;
                if begins {
                    self.deflated = header.rsv1;
                }
                let room = (limits.message_bytes_max as usize).saturating_sub(self.message.len());
                if length > room as u64 {
                    return Err(FrameError::TooLarge);
                }
                Opcode::Data(kind)
            }
        };
        Ok(Frame { opcode, last: header.is_final, missing: length as u32, mask })
    }

    fn begin_or_continue(
        &mut self,
        limits: &Limits,
        opcode: Data,
        last: bool,
    ) -> Result<Kind, FrameError> {
        let kind = match (opcode, self.kind) {
            (Data::Text, None) => Kind::Text,
            (Data::Binary, None) => Kind::Binary,
            (Data::Continue, Some(kind)) => kind,
            (Data::Reserved(_), _) => return Err(FrameError::Opcode),
            _ => return Err(FrameError::Continuation),
        };
        if self.kind.is_none() {
            self.kind = Some(kind);
            self.valid = 0;
            self.fragments = 0;
        }
        self.fragments += 1;
        // Some senders end a message with an empty fragment after its last full one.
        if self.fragments > limits.fragments_max && !last {
            return Err(FrameError::TooManyFragments);
        }
        Ok(kind)
    }

    /// Fails at the first byte that no continuation could make UTF-8. Only a character that is cut
    /// off at the end is checked again with the next piece.
    fn check_utf8(&mut self) -> Result<(), FrameError> {
        let fresh = &self.message[self.valid as usize..];
        match simdutf8::compat::from_utf8(fresh) {
            Ok(_) => self.valid += fresh.len() as u32,
            Err(cut) if cut.error_len().is_none() => self.valid += cut.valid_up_to() as u32,
            Err(_) => return Err(FrameError::Utf8),
        }
        Ok(())
    }
}

impl Frame {
    /// Takes the part of the payload that `input` has, and unmasks it in place. Returns whether the
    /// payload is complete.
    fn unmask(&mut self, input: &mut [u8], at: &mut usize) -> bool {
        let here = (self.missing as usize).min(input.len() - *at);
        unmask(&mut input[*at..*at + here], self.mask);
        *at += here;
        self.missing -= here as u32;
        self.mask.rotate_left(here % 4);
        self.missing == 0
    }
}

/// Reads the header at the start of `bytes`. Returns it with the length of the payload and of
/// itself, `None` if it is incomplete.
fn parse_header(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, FrameError> {
    let mut cursor = Cursor::new(bytes);
    match FrameHeader::parse(&mut cursor) {
        Ok(Some((header, length))) => Ok(Some((header, length, cursor.position() as usize))),
        Ok(None) => Ok(None),
        // Reading from memory cannot fail, so the opcode is undefined.
        Err(_) => Err(FrameError::Opcode),
    }
}

fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn read(opcode: Opcode, deflated: bool, payload: &[u8]) -> Result<Message<'_>, FrameError> {
    match opcode {
        Opcode::Control(kind) => read_control(kind, payload),
        Opcode::Data(kind) => read_data(kind, deflated, payload),
    }
}

fn read_data(kind: Kind, deflated: bool, payload: &[u8]) -> Result<Message<'_>, FrameError> {
    match kind {
        _ if deflated => Ok(Message::Deflated { text: kind == Kind::Text, payload }),
        Kind::Text => {
            simdutf8::basic::from_utf8(payload).map(Message::Text).map_err(|_| FrameError::Utf8)
        }
        Kind::Binary => Ok(Message::Binary(payload)),
    }
}

fn read_control(kind: ControlKind, payload: &[u8]) -> Result<Message<'_>, FrameError> {
    match kind {
        ControlKind::Ping => Ok(Message::Ping(payload)),
        ControlKind::Pong => Ok(Message::Pong(payload)),
        ControlKind::Close => read_close(payload).map(Message::Close),
    }
}

fn read_close(payload: &[u8]) -> Result<Option<Close<'_>>, FrameError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(FrameError::CloseBody),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !may_be_sent(code) {
        return Err(FrameError::CloseBody);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| FrameError::Utf8)?;
    Ok(Some(Close { code, reason }))
}

/// Whether a close frame may have this code, by RFC 6455 section 7.4 and its registry.
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Appends a text message as one frame; `print` appends its payload.
///
/// The payload is printed in place, behind room for the header of messages of 126 bytes to 64 KiB,
/// such as ticks. Shorter payloads are moved down by two bytes, longer ones up by six.
pub fn text(out: &mut Vec<u8>, print: impl FnOnce(&mut Vec<u8>)) {
    message(out, OpCode::Data(Data::Text), print);
}

/// Appends a binary message as one frame; `print` appends its payload.
pub fn binary(out: &mut Vec<u8>, print: impl FnOnce(&mut Vec<u8>)) {
    message(out, OpCode::Data(Data::Binary), print);
}

/// Appends a message that was [deflated](super::deflate::Deflater) as one frame.
pub fn deflated(out: &mut Vec<u8>, text: bool, payload: &[u8]) {
    let opcode = OpCode::Data(if text { Data::Text } else { Data::Binary });
    let header = FrameHeader { opcode, rsv1: true, ..FrameHeader::default() };
    frame(out, header, |out| out.extend_from_slice(payload));
}

/// Whether a frame of the server, with a text or binary message, is compressed.
pub fn is_compressed(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 0x40 != 0)
}

/// Appends a pong with the payload of a ping.
pub fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    assert!(payload.len() <= CONTROL_BYTES_MAX);
    message(out, OpCode::Control(Control::Pong), |out| out.extend_from_slice(payload));
}

/// Appends a close frame. It has a body if there is a code, and is empty otherwise, as Socket.IO
/// servers close.
///
/// A reason that is too long is cut between two characters.
pub fn close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    message(out, OpCode::Control(Control::Close), |out| {
        if let Some(code) = code {
            assert!(may_be_sent(code), "close code {code}");
            let fits = reason.floor_char_boundary(CONTROL_BYTES_MAX - 2);
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(&reason.as_bytes()[..fits]);
        }
    });
}

fn message(out: &mut Vec<u8>, opcode: OpCode, print: impl FnOnce(&mut Vec<u8>)) {
    frame(out, FrameHeader { opcode, ..FrameHeader::default() }, print);
}

fn frame(out: &mut Vec<u8>, header: FrameHeader, print: impl FnOnce(&mut Vec<u8>)) {
    const RESERVED: usize = 4;
    let start = out.len();
    out.extend_from_slice(&[0; RESERVED]);
    print(out);
    let length = out.len() - start - RESERVED;

    let header_len = header.len(length as u64);
    if header_len != RESERVED {
        out.resize(out.len().max(start + header_len + length), 0);
        out.copy_within(start + RESERVED..start + RESERVED + length, start + header_len);
        out.truncate(start + header_len + length);
    }
    let written = header.format(length as u64, &mut &mut out[start..start + header_len]);
    assert!(written.is_ok(), "a header fits where it was measured to fit");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    /// A message of a reader, without the borrow.
    #[derive(Clone, Debug, PartialEq)]
    enum Owned {
        Text(String),
        Binary(Vec<u8>),
        Ping(Vec<u8>),
        Pong(Vec<u8>),
        Deflated(bool, Vec<u8>),
        Close(Option<(u16, String)>),
        Failed(FrameError),
    }

    const TINY: Limits = Limits { message_bytes_max: 300, fragments_max: 4, ..Limits::TINY };

    fn owned(message: Message<'_>) -> Owned {
        match message {
            Message::Text(text) => Owned::Text(text.into()),
            Message::Binary(bytes) => Owned::Binary(bytes.into()),
            Message::Ping(bytes) => Owned::Ping(bytes.into()),
            Message::Pong(bytes) => Owned::Pong(bytes.into()),
            Message::Deflated { text, payload } => Owned::Deflated(text, payload.into()),
            Message::Close(close) => {
                Owned::Close(close.map(|close| (close.code, close.reason.into())))
            }
        }
    }

    fn read_pieces<'a>(
        limits: &Limits,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<Owned>, Reader) {
        let mut reader = Reader::default();
        let mut all = Vec::new();
        for piece in pieces {
            let mut bytes = piece.to_vec();
            let mut at = 0;
            loop {
                match reader.next(limits, &mut bytes, &mut at) {
                    Ok(Some(message)) => all.push(owned(message)),
                    Ok(None) => break,
                    Err(error) => {
                        all.push(Owned::Failed(error));
                        return (all, reader);
                    }
                }
            }
            assert_eq!(at, bytes.len(), "None means that all was used");
            // A recorded and restored reader must go on where this one was.
            reader = postcard::from_bytes(&postcard::to_allocvec(&reader).unwrap()).unwrap();
        }
        (all, reader)
    }

    /// Reads the stream whole, cut in two at every place, and byte by byte, with equal results.
    fn read(limits: &Limits, stream: &[u8]) -> Vec<Owned> {
        let (whole, reader) = read_pieces(limits, [stream]);
        if !reader.in_message() && !matches!(whole.last(), Some(Owned::Failed(_))) {
            assert_eq!(
                (reader.heap_bytes(), &reader.open),
                (0, &None),
                "an idle reader holds nothing"
            );
        }
        for cut in 0..=stream.len() {
            let (first, second) = stream.split_at(cut);
            assert_eq!(read_pieces(limits, [first, second]).0, whole, "cut at {cut}");
        }
        assert_eq!(read_pieces(limits, stream.chunks(1)).0, whole, "byte by byte");
        whole
    }

    /// A frame as a client would send it; `first` is the byte with flags and opcode.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        frame_claiming(first, payload.len() as u64, payload)
    }

    fn frame_claiming(first: u8, length: u64, payload: &[u8]) -> Vec<u8> {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut bytes = vec![first];
        match length {
            0..126 => bytes.push(0x80 | length as u8),
            126..0x1_0000 => {
                bytes.push(0x80 | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    fn close_body(code: u16, reason: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes(), reason].concat()
    }

    const TEXT: u8 = 0x81;
    const BINARY: u8 = 0x82;
    const CLOSE: u8 = 0x88;
    const PING: u8 = 0x89;
    const PONG: u8 = 0x8a;
    /// The opcode of a text frame without the bit that marks the last frame.
    const TEXT_MORE: u8 = 0x01;
    const BINARY_MORE: u8 = 0x02;
    const MORE: u8 = 0x00;
    const END: u8 = 0x80;

    #[test]
    fn reads_the_examples_of_the_rfc() {
        let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(read(&TINY, &hello), [Owned::Text("Hello".into())]);
        assert_eq!(frame(TEXT, b"Hello"), hello);
    }

    #[test]
    fn reads_messages_whole_and_in_fragments() {
        let text = |text: &str| Owned::Text(text.into());
        let cases: &[(&[Vec<u8>], &[Owned])] = &[
            (&[frame(TEXT, b"")], &[text("")]),
            (&[frame(BINARY, &[0; 125])], &[Owned::Binary(vec![0; 125])]),
            (&[frame(BINARY, &[7; 126])], &[Owned::Binary(vec![7; 126])]),
            (&[frame(TEXT, &[b'x'; 300])], &[text(&"x".repeat(300))]),
            (&[frame(TEXT, b"a"), frame(TEXT, b"b")], &[text("a"), text("b")]),
            (
                &[frame(TEXT_MORE, b"on"), frame(MORE, b"e "), frame(END, b"bar")],
                &[text("one bar")],
            ),
            (&[frame(TEXT_MORE, b""), frame(MORE, b""), frame(END, b"")], &[text("")]),
            (&[frame(TEXT_MORE, b""), frame(END, b"late")], &[text("late")]),
            (&[frame(TEXT_MORE, b"early"), frame(END, b"")], &[text("early")]),
            (
                &[frame(BINARY_MORE, &[0xff]), frame(END, &[0xfe])],
                &[Owned::Binary(vec![0xff, 0xfe])],
            ),
            // Each message may have as many fragments as the one before it.
            (
                &[
                    frame(TEXT_MORE, b""),
                    frame(MORE, b"x"),
                    frame(END, b""),
                    frame(TEXT_MORE, b"y"),
                    frame(END, b""),
                ],
                &[text("x"), text("y")],
            ),
            (
                &[
                    frame(TEXT_MORE, b"a"),
                    frame(PING, b"p"),
                    frame(MORE, b"b"),
                    frame(PONG, b""),
                    frame(END, b"c"),
                ],
                &[Owned::Ping(b"p".into()), Owned::Pong(vec![]), text("abc")],
            ),
            (
                &[frame(PING, &[1; 125]), frame(CLOSE, b"")],
                &[Owned::Ping(vec![1; 125]), Owned::Close(None)],
            ),
            (
                &[frame(TEXT_MORE, b"a"), frame(CLOSE, &close_body(1000, b"bye"))],
                &[Owned::Close(Some((1000, "bye".into())))],
            ),
            // A length may be written longer than it needs to be.
            (&[vec![0x82, 0xfe, 0, 1, 0, 0, 0, 0, 9]], &[Owned::Binary(vec![9])]),
            (&[vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 9]], &[Owned::Binary(vec![9])]),
        ];
        for (frames, expected) in cases {
            assert_eq!(read(&TINY, &frames.concat()), *expected, "{frames:02x?}");
        }
    }

    #[test]
    fn rejects_frames_that_the_rfc_forbids() {
        use FrameError::*;
        let mut unmasked = frame(TEXT, b"");
        unmasked[1] &= 0x7f;
        unmasked.truncate(2);
        let cases: &[(&[Vec<u8>], FrameError, u16)] = &[
            (&[unmasked], Unmasked, 1002),
            (&[frame(TEXT | 0x40, b"")], ReservedBit, 1002),
            (&[frame(TEXT | 0x20, b"")], ReservedBit, 1002),
            (&[frame(PING | 0x10, b"")], ReservedBit, 1002),
            (&[frame(TEXT_MORE, b""), frame(END | 0x40, b"")], ReservedBit, 1002),
            (&[frame(0x83, b"")], Opcode, 1002),
            (&[frame(0x87, b"")], Opcode, 1002),
            (&[frame(0x8b, b"")], Opcode, 1002),
            (&[frame(0x8f, b"")], Opcode, 1002),
            (&[frame(PING & 0x0f, b"")], Control, 1002),
            (&[frame(CLOSE & 0x0f, b"")], Control, 1002),
            (&[frame(PING, &[0; 126])], Control, 1002),
            (&[frame_claiming(PONG, 1 << 40, b"")], Control, 1002),
            (&[frame(END, b"")], Continuation, 1002),
            (&[frame(MORE, b"")], Continuation, 1002),
            (&[frame(TEXT_MORE, b""), frame(TEXT, b"")], Continuation, 1002),
            (&[frame(TEXT_MORE, b""), frame(BINARY_MORE, b"")], Continuation, 1002),
            (&[frame(CLOSE, &[3])], CloseBody, 1002),
            (&[frame(CLOSE, &close_body(1000, b"\xff"))], Utf8, 1007),
            (&[frame(TEXT, &[b'x'; 301])], TooLarge, 1009),
            (&[frame_claiming(TEXT, 1 << 63, b"")], TooLarge, 1009),
            (&[frame_claiming(BINARY_MORE, u64::MAX, b"")], TooLarge, 1009),
            (&[frame(BINARY_MORE, &[0; 200]), frame(END, &[0; 101])], TooLarge, 1009),
            (
                &[
                    frame(BINARY_MORE, b""),
                    frame(MORE, b""),
                    frame(MORE, b""),
                    frame(MORE, b""),
                    frame(MORE, b""),
                ],
                TooManyFragments,
                1008,
            ),
        ];
        for (frames, error, code) in cases {
            assert_eq!(read(&TINY, &frames.concat()), [Owned::Failed(*error)], "{frames:02x?}");
            assert_eq!(error.code(), *code);
        }
    }

    #[test]
    fn accepts_exactly_the_close_codes_that_may_be_sent() {
        let good = [
            1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999,
            4000, 4999,
        ];
        let bad = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
        for code in good {
            let expected = Owned::Close(Some((code, "ok".into())));
            assert_eq!(read(&TINY, &frame(CLOSE, &close_body(code, b"ok"))), [expected], "{code}");
        }
        for code in bad {
            let expected = Owned::Failed(FrameError::CloseBody);
            assert_eq!(read(&TINY, &frame(CLOSE, &close_body(code, b""))), [expected], "{code}");
        }
    }

    #[test]
    fn checks_utf8_to_the_last_character() {
        let good: &[&[u8]] = &[
            "κόσμε".as_bytes(),
            "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
            b"\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd",
        ];
        let bad: &[&[u8]] = &[
            b"\x80",
            b"\xbf\xbf",
            b"\xc0\x80",
            b"\xc1\xbf",
            b"\xe0\x80\x80",
            b"\xe0\x9f\xbf",
            b"\xf0\x80\x80\x80",
            b"\xf0\x8f\xbf\xbf",
            b"\xed\xa0\x80",
            b"\xed\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            b"\xfe",
            b"\xff",
            b"\xe2\x28\xa1",
            b"ok \xc3",
            b"ok \xe2\x82",
            b"ok \xf0\x9f\x8e",
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        ];
        for text in good {
            let expected = [Owned::Text(String::from_utf8(text.to_vec()).unwrap())];
            assert_eq!(read(&TINY, &frame(TEXT, text)), expected);
            for cut in 0..=text.len() {
                let frames = [frame(TEXT_MORE, &text[..cut]), frame(END, &text[cut..])].concat();
                assert_eq!(read(&TINY, &frames), expected, "fragments cut at {cut}");
            }
        }
        for text in bad {
            assert_eq!(
                read(&TINY, &frame(TEXT, text)),
                [Owned::Failed(FrameError::Utf8)],
                "{text:02x?}"
            );
            for cut in 0..=text.len() {
                let frames = [frame(TEXT_MORE, &text[..cut]), frame(END, &text[cut..])].concat();
                assert_eq!(
                    read(&TINY, &frames),
                    [Owned::Failed(FrameError::Utf8)],
                    "{text:02x?} at {cut}"
                );
            }
        }
    }

    #[test]
    fn fails_at_the_first_impossible_byte() {
        // The frame claims 100 bytes. After the fourth the text cannot be UTF-8, so no fifth is
        // needed.
        let stream = frame_claiming(TEXT, 100, b"abc\xf4\x90");
        assert_eq!(read(&TINY, &stream[..stream.len() - 1]), []);
        assert_eq!(read(&TINY, &stream), [Owned::Failed(FrameError::Utf8)]);

        let (_, reader) = read_pieces(&TINY, [&stream[..stream.len() - 1]]);
        assert_eq!(reader.open.as_ref().unwrap().valid, 3, "valid bytes are not checked again");
    }

    #[test]
    fn allocates_only_for_received_bytes() {
        let limits = Limits::PRODUCTION;
        let claimed = frame_claiming(BINARY, 1_000_000, &[1; 10]);
        let (_, reader) = read_pieces(&limits, [&claimed[..]]);
        assert!(reader.heap_bytes() <= 64, "{} bytes held for 10", reader.heap_bytes());
    }

    #[test]
    fn borrows_a_whole_message_from_the_input() {
        let mut bytes = frame(TEXT, b"in place");
        let within = bytes.as_ptr_range();
        let mut reader = Reader::default();
        let Ok(Some(Message::Text(text))) = reader.next(&TINY, &mut bytes, &mut 0) else {
            panic!("no text")
        };
        assert!(within.contains(&text.as_ptr()));
    }

    #[test]
    fn writes_headers_of_every_length() {
        for (length, header) in [
            (0, vec![0x81, 0]),
            (125, vec![0x81, 125]),
            (126, vec![0x81, 126, 0, 126]),
            (0xffff, vec![0x81, 126, 0xff, 0xff]),
            (0x1_0000, vec![0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload: Vec<u8> = (0..length).map(|at| b'a' + (at % 26) as u8).collect();
            let mut out = b"before".to_vec();
            text(&mut out, |out| out.extend_from_slice(&payload));
            text(&mut out, |_| ());
            assert!(
                out == [b"before", &header[..], &payload, &[0x81, 0]].concat(),
                "{length} bytes"
            );
        }
    }

    #[test]
    fn writes_control_frames() {
        let mut out = Vec::new();
        pong(&mut out, b"hi");
        close(&mut out, None, "");
        close(&mut out, Some(1001), "bye");
        binary(&mut out, |out| out.push(0xff));
        assert_eq!(out, b"\x8a\x02hi\x88\x00\x88\x05\x03\xe9bye\x82\x01\xff");

        let mut long = Vec::new();
        close(&mut long, Some(1008), &"é".repeat(100));
        assert_eq!(
            long.len(),
            2 + 2 + 122,
            "the reason is cut before the character that does not fit"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn reads_back_client_messages(
            messages in prop::collection::vec((any::<bool>(), ".{0,40}", 1usize..4), 0..5),
            piece in 1usize..40,
        ) {
            let mut stream = Vec::new();
            let mut expected = Vec::new();
            for (text, payload, fragments) in messages {
                expected.push(match text {
                    true => Owned::Text(payload.clone()),
                    false => Owned::Binary(payload.clone().into_bytes()),
                });
                let bytes = payload.as_bytes();
                for part in 0..fragments {
                    let (from, to) = (bytes.len() * part / fragments, bytes.len() * (part + 1) / fragments);
                    let first = match (part, text) { (0, true) => 1, (0, false) => 2, _ => 0 };
                    let last = if part + 1 == fragments { 0x80 } else { 0 };
                    stream.extend(frame(first | last, &bytes[from..to]));
                }
            }
            let (messages, reader) = read_pieces(&Limits::PRODUCTION, stream.chunks(piece));
            prop_assert_eq!(messages, expected);
            prop_assert_eq!(reader.heap_bytes(), 0);
        }

        #[test]
        fn random_bytes_are_read_the_same_for_any_split(stream in prop::collection::vec(any::<u8>(), 0..80)) {
            read(&TINY, &stream);
        }
    }
}
