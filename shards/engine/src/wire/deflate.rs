//! permessage-deflate, RFC 7692: the agreement in the handshake, and the compression of single
//! messages.
//!
//! A connection has no compressor of its own. A message may refer to the last bytes of earlier
//! messages; these are kept as plain bytes, or not at all without context takeover. So a shard has
//! one [`Inflater`] and one [`Deflater`] for all its connections, an idle connection costs nothing
//! but its windows, and a connection can move to another shard between any two messages.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use serde::{Deserialize, Serialize};

use crate::words::compression::Compression;

/// The name of the extension.
const NAME: &str = "permessage-deflate";

/// The largest window, as a power of two, which is also the default.
const BITS_MAX: u8 = 15;

/// The bytes that end every sync flush. The sender removes them, the receiver adds them.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Maximum number of final blocks in a message. A fresh stream begins after each, and no sender
/// needs more than one.
const FINAL_BLOCKS_MAX: u32 = 8;

/// The agreement of both sides.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Agreed {
    /// Whether each of our messages is compressed on its own.
    pub server_no_context_takeover: bool,
    /// Whether each of the client's messages is compressed on its own.
    pub client_no_context_takeover: bool,
    /// Size of our window, as a power of two in bytes: 8 to 15.
    pub server_max_window_bits: u8,
    /// Size of the client's window, if the client limits it.
    pub client_max_window_bits: Option<u8>,
    /// Whether the client asked for the server's bits, so that the answer repeats them.
    server_bits_asked: bool,
}

/// A malformed offer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadOffer;

/// Chooses the first of a client's offers that we support, from the items of
/// `Sec-WebSocket-Extensions`.
///
/// # Errors
/// If any offer of this extension is malformed. The RFC would have us ignore it, but other
/// Socket.IO servers reject too, and a client that cannot write an offer will not keep to it
/// either.
pub fn negotiate<'a>(
    offers: impl Iterator<Item = &'a str>,
    compression: Compression,
) -> Result<Option<Agreed>, BadOffer> {
    let mut agreed = None;
    for offer in offers {
        let mut parts = offer.split(';').map(|part| part.trim_matches([' ', '\t']));
        let name = parts.next().unwrap_or_default();
        if name.is_empty() && offer.is_empty() {
            continue;
        }
        if !is_token(name) {
            return Err(BadOffer);
        }
        if name.eq_ignore_ascii_case(NAME) {
            let read = read_offer(parts, compression)?;
            agreed = agreed.or(Some(read));
        }
    }
    Ok(agreed)
}

fn read_offer<'a>(
    parameters: impl Iterator<Item = &'a str>,
    compression: Compression,
) -> Result<Agreed, BadOffer> {
    let alone = !compression.context_takeover;
    let mut agreed = Agreed {
        server_no_context_takeover: alone,
        client_no_context_takeover: alone,
        server_max_window_bits: BITS_MAX,
        client_max_window_bits: None,
        server_bits_asked: false,
    };
    let mut seen: Vec<&str> = Vec::new();
    for parameter in parameters {
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name.trim_end_matches([' ', '\t']), Some(value)),
            None => (parameter, None),
        };
        if seen.contains(&name) {
            return Err(BadOffer);
        }
        seen.push(name);
        match (name, value) {
            ("server_no_context_takeover", None) => agreed.server_no_context_takeover = true,
            ("client_no_context_takeover", None) => agreed.client_no_context_takeover = true,
            ("server_max_window_bits", Some(value)) => {
                agreed.server_max_window_bits = bits(value)?;
                agreed.server_bits_asked = true;
            }
            ("client_max_window_bits", Some(value)) => {
                agreed.client_max_window_bits = Some(bits(value)?)
            }
            // The client could obey a limit, and we need none.
            ("client_max_window_bits", None) => {}
            _ => return Err(BadOffer),
        }
    }
    Ok(agreed)
}

/// Reads 8 to 15 without leading zeros, with or without quotes.
fn bits(value: &str) -> Result<u8, BadOffer> {
    let value = value.trim_start_matches([' ', '\t']);
    let bare = match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"').ok_or(BadOffer)?,
        None => value,
    };
    match bare {
        "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15" => bare.parse().map_err(|_| BadOffer),
        _ => Err(BadOffer),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

impl Agreed {
    /// Returns the window for the client's messages, if they may refer to earlier ones.
    pub fn window(self) -> Option<Box<Window>> {
        (!self.client_no_context_takeover).then(Box::default)
    }

    /// Returns the value of `Sec-WebSocket-Extensions` in the answer.
    pub fn answer(&self) -> String {
        let mut answer = NAME.to_owned();
        if self.server_no_context_takeover {
            answer.push_str("; server_no_context_takeover");
        }
        if self.client_no_context_takeover {
            answer.push_str("; client_no_context_takeover");
        }
        if self.server_bits_asked {
            answer.push_str(&format!("; server_max_window_bits={}", self.server_max_window_bits));
        }
        if let Some(bits) = self.client_max_window_bits {
            answer.push_str(&format!("; client_max_window_bits={bits}"));
        }
        answer
    }
}

/// The end of all bytes sent in one direction, to which the next message may refer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Window(Vec<u8>);

impl Window {
    /// Appends a message, and keeps only the last two to the power of `bits` bytes.
    pub fn extend(&mut self, message: &[u8], bits: u8) {
        let size = 1_usize << bits;
        let fresh = &message[message.len().saturating_sub(size)..];
        let old = self.0.len().min(size - fresh.len());
        self.0.drain(..self.0.len() - old);
        self.0.extend_from_slice(fresh);
    }

    /// Returns the number of bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }
}

/// The reason why a compressed message cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InflateError {
    /// The bytes are no DEFLATE, or refer to bytes that were never sent.
    Corrupt,
    /// The message is longer than a message may be.
    TooLarge,
}

/// Decompresses messages one by one, of any connection.
#[derive(Default)]
pub struct Inflater {
    /// The decompressor, created when it is first needed.
    state: Option<Decompress>,
    /// The last message, kept for its memory.
    message: Vec<u8>,
}

impl Inflater {
    /// Maximum bytes of capacity kept between messages.
    const KEPT_BYTES_MAX: usize = 64 * 1024;

    /// Returns the message that `payload` holds. With context takeover, `window` is the end of the
    /// earlier messages, and the message is appended to it. At most `bytes_max` bytes are
    /// decompressed.
    pub fn inflate(
        &mut self,
        payload: &[u8],
        window: Option<&mut Window>,
        bytes_max: u32,
    ) -> Result<&[u8], InflateError> {
        self.message.clear();
        let before = window.as_ref().map_or(&[][..], |window| &window.0);
        self.begin(before)?;
        let mut finals = 0;
        for part in [payload, &TAIL] {
            let mut part = part;
            while !part.is_empty() {
                if !self.inflate_block(&mut part, bytes_max as usize)? {
                    continue;
                }
                finals += 1;
                if finals > FINAL_BLOCKS_MAX {
                    return Err(InflateError::Corrupt);
                }
                // A stream of its own follows a final block, and goes on with the same window.
                let mut window = Window(before.to_vec());
                window.extend(&self.message, BITS_MAX);
                self.begin(&window.0)?;
            }
        }
        if let Some(window) = window {
            window.extend(&self.message, BITS_MAX);
        }
        Ok(&self.message)
    }

    /// Frees the memory that a long message took.
    pub fn give_back(&mut self) {
        if self.message.capacity() > Self::KEPT_BYTES_MAX {
            self.message = Vec::new();
        }
    }

    /// Returns the number of bytes kept for the next message.
    pub fn kept_bytes(&self) -> usize {
        self.message.capacity()
    }

    fn begin(&mut self, window: &[u8]) -> Result<(), InflateError> {
        let state = self.state();
        state.reset(false);
        if !window.is_empty() {
            state.set_dictionary(window).map_err(|_| InflateError::Corrupt)?;
        }
        Ok(())
    }

    fn state(&mut self) -> &mut Decompress {
        self.state.get_or_insert_with(|| Decompress::new_with_window_bits(false, BITS_MAX))
    }

    /// Decompresses a piece of `part`. Returns whether a final block ended.
    fn inflate_block(&mut self, part: &mut &[u8], bytes_max: usize) -> Result<bool, InflateError> {
        // One byte more than allowed shows that there is too much.
        let room = bytes_max + 1 - self.message.len();
        // At least doubled, or a long text that compresses well would be copied once per kilobyte.
        let more = part.len().saturating_mul(4).max(self.message.len()).max(1_024);
        self.message.reserve_exact(room.min(more));
        let mut message = std::mem::take(&mut self.message);
        let state = self.state();
        let (read, written) = (state.total_in(), state.total_out());
        let status = state.decompress_vec(part, &mut message, FlushDecompress::Sync);
        let read = (state.total_in() - read) as usize;
        let stuck = read == 0 && state.total_out() == written;
        self.message = message;
        let status = status.map_err(|_| InflateError::Corrupt)?;
        if self.message.len() > bytes_max {
            return Err(InflateError::TooLarge);
        }
        *part = &part[read..];
        match status {
            Status::StreamEnd => Ok(true),
            _ if stuck => Err(InflateError::Corrupt),
            _ => Ok(false),
        }
    }
}

/// Compresses messages one by one, for any connection.
pub struct Deflater {
    level: flate2::Compression,
    /// One compressor for each size of window from 9 bits on, created when it is first needed.
    states: [Option<Compress>; 7],
    message: Vec<u8>,
}

impl Deflater {
    /// Creates a compressor of this level.
    pub fn new(level: u8) -> Self {
        let level = flate2::Compression::new(u32::from(level.clamp(1, 9)));
        Self { level, states: Default::default(), message: Vec::new() }
    }

    /// Frees the memory that a long message took.
    pub fn give_back(&mut self) {
        if self.message.capacity() > Inflater::KEPT_BYTES_MAX {
            self.message = Vec::new();
        }
    }

    /// Returns the number of bytes kept for the next message.
    pub fn kept_bytes(&self) -> usize {
        self.message.capacity()
    }

    /// Returns the payload of a frame that holds `message` compressed, for a receiver with a window
    /// of `bits` bits. With context takeover, `window` is the end of the earlier messages, and the
    /// message is appended to it.
    ///
    /// Returns `None` if compression does not make it shorter, or if the window has 8 bits, which
    /// the library does not support. Then the message is sent as it is.
    pub fn deflate(
        &mut self,
        message: &[u8],
        bits: u8,
        window: Option<&mut Window>,
    ) -> Option<&[u8]> {
        let place = usize::from(bits.checked_sub(9)?);
        let level = self.level;
        let state = self
            .states
            .get_mut(place)?
            .get_or_insert_with(|| Compress::new_with_window_bits(level, false, bits));
        state.reset();
        if let Some(window) = window.as_ref().filter(|window| !window.0.is_empty()) {
            state.set_dictionary(&window.0).ok()?;
        }
        self.message.clear();
        self.message.reserve(message.len() + 64);
        let mut rest = message;
        loop {
            let read = state.total_in();
            state.compress_vec(rest, &mut self.message, FlushCompress::Sync).ok()?;
            rest = &rest[(state.total_in() - read) as usize..];
            // A flush is complete if it leaves room.
            if rest.is_empty() && self.message.len() < self.message.capacity() {
                break;
            }
            self.message.reserve(self.message.len());
        }
        let payload = self.message.strip_suffix(&TAIL)?;
        if payload.len() >= message.len() {
            return None;
        }
        if let Some(window) = window {
            window.extend(message, bits);
        }
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const ALONE: Compression = Compression { threshold: 0, level: 3, context_takeover: false };
    const TAKEOVER: Compression = Compression { context_takeover: true, ..ALONE };

    fn answer(offer: &str, compression: Compression) -> Result<Option<String>, BadOffer> {
        let offers = offer.split(',').map(str::trim);
        negotiate(offers, compression).map(|agreed| agreed.map(|agreed| agreed.answer()))
    }

    #[test]
    fn an_offer_is_answered_with_the_agreed_parameters() {
        for (offer, expected) in [
            ("permessage-deflate", "permessage-deflate"),
            ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
            (
                "permessage-deflate; client_max_window_bits=10",
                "permessage-deflate; client_max_window_bits=10",
            ),
            (
                "permessage-deflate; client_max_window_bits=\"10\"",
                "permessage-deflate; client_max_window_bits=10",
            ),
            (
                "permessage-deflate; server_max_window_bits=10",
                "permessage-deflate; server_max_window_bits=10",
            ),
            (
                "permessage-deflate; server_max_window_bits=8",
                "permessage-deflate; server_max_window_bits=8",
            ),
            (
                "permessage-deflate;server_no_context_takeover",
                "permessage-deflate; server_no_context_takeover",
            ),
            (
                "permessage-deflate; client_no_context_takeover",
                "permessage-deflate; client_no_context_takeover",
            ),
            (
                "permessage-deflate; server_max_window_bits=9, permessage-deflate",
                "permessage-deflate; server_max_window_bits=9",
            ),
            ("x-other; a=\"b\", Permessage-Deflate", "permessage-deflate"),
        ] {
            assert_eq!(answer(offer, TAKEOVER), Ok(Some(expected.into())), "{offer}");
        }
        assert_eq!(
            answer("permessage-deflate; client_max_window_bits", ALONE),
            Ok(Some(
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover".into()
            ))
        );
        for offer in ["", "x-webkit-deflate-frame", "x-other; y=1"] {
            assert_eq!(answer(offer, TAKEOVER), Ok(None), "{offer}");
        }
    }

    #[test]
    fn a_malformed_offer_invalidates_all_offers() {
        for bad in [
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=+9",
            "server_max_window_bits=\"9",
            "client_max_window_bits=16",
            "client_max_window_bits=",
            "server_no_context_takeover=1",
            "client_no_context_takeover=true",
            "unknown",
            "client_max_window_bits; client_max_window_bits",
            "server_no_context_takeover; server_no_context_takeover",
            "",
        ] {
            for offer in [
                format!("permessage-deflate; {bad}"),
                format!("permessage-deflate, permessage-deflate;{bad}"),
            ] {
                assert_eq!(answer(&offer, TAKEOVER), Err(BadOffer), "{offer}");
            }
        }
        assert_eq!(answer("permessage deflate", TAKEOVER), Err(BadOffer));
    }

    fn inflate(payload: &[u8], bytes_max: u32) -> Result<Vec<u8>, InflateError> {
        Inflater::default().inflate(payload, None, bytes_max).map(<[u8]>::to_vec)
    }

    #[test]
    fn reads_the_examples_of_the_rfc() {
        for payload in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            // A stored block.
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            // A final block, and after it the beginning of another stream.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // Two blocks.
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(inflate(payload, 100), Ok(b"Hello".to_vec()), "{payload:x?}");
        }
        assert_eq!(inflate(&[0x00], 100), Ok(Vec::new()), "the empty message");
        // The second refers to the first.
        let mut window = Window::default();
        let mut inflater = Inflater::default();
        for payload in
            [&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], &[0xf2, 0x00, 0x11, 0x00, 0x00]]
        {
            assert_eq!(inflater.inflate(payload, Some(&mut window), 100), Ok(&b"Hello"[..]));
        }
        assert_eq!(inflate(&[0xf2, 0x00, 0x11, 0x00, 0x00], 100), Err(InflateError::Corrupt));
    }

    #[test]
    fn corrupt_compressed_data_is_rejected() {
        for payload in
            [&[0xff; 8][..], &[0x06, 0x00], &[0x00, 0x05, 0x00, 0x00, 0x00, 1, 2, 3, 4, 5]]
        {
            assert_eq!(inflate(payload, 1_000), Err(InflateError::Corrupt), "{payload:x?}");
        }
        // Final blocks without end, each of which would load a window again.
        let blocks = [0x03, 0x00].repeat(1_000);
        assert_eq!(inflate(&blocks, 1_000), Err(InflateError::Corrupt));
    }

    #[test]
    fn a_decompression_bomb_is_rejected() {
        let mut deflater = Deflater::new(9);
        let bomb = deflater.deflate(&vec![0; 10_000_000], 15, None).unwrap().to_vec();
        assert!(bomb.len() < 11_000);
        let mut inflater = Inflater::default();
        assert_eq!(inflater.inflate(&bomb, None, 1_000_000), Err(InflateError::TooLarge));
        assert!(inflater.message.capacity() < 2_100_000, "{}", inflater.message.capacity());
        assert_eq!(inflater.inflate(&[0x00], None, 10), Ok(&[][..]), "and it works on");
        // Exactly as large as allowed.
        let full = deflater.deflate(&[7; 1_000], 15, None).unwrap().to_vec();
        assert_eq!(inflater.inflate(&full, None, 1_000).map(<[u8]>::len), Ok(1_000));
        assert_eq!(inflater.inflate(&full, None, 999), Err(InflateError::TooLarge));
    }

    #[test]
    fn a_message_that_would_grow_is_not_compressed() {
        let mut deflater = Deflater::new(3);
        assert_eq!(deflater.deflate(b"abc", 15, None), None);
        assert_eq!(deflater.deflate(&[b'a'; 5_000], 8, None), None, "no window of 256 bytes");
    }

    /// Text with many repetitions, near and far.
    fn text() -> impl Strategy<Value = Vec<u8>> {
        let word =
            prop::sample::select(vec!["tempo", "position", "\"sessionId\":", "é", "{}", "12", "x"]);
        prop::collection::vec(word, 0..3_000).prop_map(|words| words.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn deflated_messages_are_inflated_again(messages in prop::collection::vec(text(), 1..6), bits in 9..=15_u8, level in 1..=9_u8, takeover: bool) {
            let (mut deflater, mut inflater) = (Deflater::new(level), Inflater::default());
            // A peer with exactly this window.
            let mut strict = Decompress::new_with_window_bits(false, bits);
            let (mut ours, mut theirs) = (Window::default(), Window::default());
            for message in &messages {
                let payload = deflater.deflate(message, bits, takeover.then_some(&mut ours)).map(<[u8]>::to_vec);
                prop_assert!(ours.0.len() <= 1 << bits);
                let Some(payload) = payload else { continue };
                let inflated = inflater.inflate(&payload, takeover.then_some(&mut theirs), 100_000);
                prop_assert_eq!(inflated, Ok(&message[..]));

                if !takeover {
                    strict.reset(false);
                }
                let mut read = Vec::with_capacity(message.len() + 64);
                let whole = [&payload[..], &TAIL].concat();
                strict.decompress_vec(&whole, &mut read, FlushDecompress::Sync).unwrap();
                prop_assert_eq!(&read, message);
            }
        }

        #[test]
        fn random_payloads_never_panic(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = inflate(&payload, 5_000) {
                prop_assert!(message.len() <= 5_000);
            }
        }
    }
}
