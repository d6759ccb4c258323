//! Frames: messages between nodes as they are published.
//!
//! `42 53`, format, flags, the sender's number and incarnation, a counter, the session's tag, the
//! body, and with a secret a keyed hash over all of that and the bucket. Numbers are little-endian.
//! The counter rises by one a frame and process, so an old frame that is published again is known.

use bandsync_engine::io::NodeId;
use ring::hmac;
use subtle::ConstantTimeEq;

/// Maximum size of a frame. Specified: a message of 4 MiB fits, which may be a record with its set
/// list.
pub const BYTES_MAX: usize = 4 * 1024 * 1024 + 64;

/// Bytes before the body.
pub const FRONT_BYTES: usize = 30;

/// Bytes of the keyed hash.
pub const SEAL_BYTES: usize = 16;

const FORMAT: u8 = 1;
const MAGIC: [u8; 2] = *b"BS";

const SEALED: u8 = 1;
const FOR_ALL: u8 = 2;
const SEVERAL: u8 = 4;
const OWN: u8 = 8;
const CLOCK: u8 = 16;
const KNOWN: u8 = SEALED | FOR_ALL | SEVERAL | OWN | CLOCK;

/// The receiver of a body within its node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// The shard of the session with this tag.
    Session(u64),
    /// Every shard.
    All,
    /// Several bodies, each with its tag; see [`bodies`].
    Several,
    /// The crate itself: the table has changed, or a node tests its own subscription.
    Crate,
    /// The crate's clock. These frames have counters of their own, since they travel on a
    /// connection of their own.
    Clock,
}

/// Makes and checks keyed hashes.
#[derive(Debug)]
pub struct Seal {
    key: Option<hmac::Key>,
}

impl Seal {
    /// Creates one with a secret, or one that makes no hashes and demands none.
    pub fn new(secret: Option<&str>) -> Self {
        let key = |secret: &str| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        Self { key: secret.map(key) }
    }

    /// Returns the hash over these parts in a bucket; empty without a secret.
    pub fn hash(&self, bucket: u16, parts: &[&[u8]]) -> Vec<u8> {
        let Some(key) = &self.key else { return Vec::new() };
        let mut context = hmac::Context::with_key(key);
        // A frame that is published again on the channel of another bucket is forged too.
        context.update(&bucket.to_le_bytes());
        parts.iter().for_each(|part| context.update(part));
        context.sign().as_ref()[..SEAL_BYTES].to_vec()
    }
}

/// A frame that was taken apart.
#[derive(Debug, Eq, PartialEq)]
pub struct Frame<'a> {
    /// The sender.
    pub from: NodeId,
    /// The sender's counter.
    pub counter: u64,
    /// The receiver.
    pub target: Target,
    /// The body.
    pub body: &'a [u8],
}

/// The reason why a frame is dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The frame makes no sense, or is in a format or of a kind that this program does not know.
    Malformed,
    /// The keyed hash is wrong or missing.
    Forged,
}

/// Returns the bytes before the body.
pub fn front(seal: &Seal, from: NodeId, counter: u64, target: Target) -> [u8; FRONT_BYTES] {
    let (flags, tag) = match target {
        Target::Session(tag) => (0, tag),
        Target::All => (FOR_ALL, 0),
        Target::Several => (SEVERAL, 0),
        Target::Crate => (OWN, 0),
        Target::Clock => (CLOCK, 0),
    };
    let flags = flags | if seal.key.is_some() { SEALED } else { 0 };
    let mut front = [0; FRONT_BYTES];
    front[..4].copy_from_slice(&[MAGIC[0], MAGIC[1], FORMAT, flags]);
    front[4..6].copy_from_slice(&from.number.to_le_bytes());
    front[6..14].copy_from_slice(&from.incarnation.to_le_bytes());
    front[14..22].copy_from_slice(&counter.to_le_bytes());
    front[22..].copy_from_slice(&tag.to_le_bytes());
    front
}

/// Returns a whole frame.
pub fn frame(
    seal: &Seal,
    (from, counter): (NodeId, u64),
    target: Target,
    bucket: u16,
    body: &[u8],
) -> Vec<u8> {
    let front = front(seal, from, counter, target);
    let hash = seal.hash(bucket, &[&front, body]);
    [&front, body, &hash].concat()
}

/// Takes a frame apart and checks its hash.
///
/// # Errors
/// If the frame has to be dropped.
pub fn parse<'a>(seal: &Seal, bucket: u16, bytes: &'a [u8]) -> Result<Frame<'a>, Fault> {
    if bytes.len() > BYTES_MAX {
        return Err(Fault::Malformed);
    }
    let (front, rest) = bytes.split_at_checked(FRONT_BYTES).ok_or(Fault::Malformed)?;
    let [first, second, format, flags] = front[..4] else { return Err(Fault::Malformed) };
    if [first, second] != MAGIC || format != FORMAT || flags & !KNOWN != 0 {
        return Err(Fault::Malformed);
    }
    let body = if flags & SEALED == 0 {
        if seal.key.is_some() {
            return Err(Fault::Forged);
        }
        rest
    } else {
        let length = rest.len().checked_sub(SEAL_BYTES).ok_or(Fault::Malformed)?;
        let (body, hash) = rest.split_at(length);
        // A node without the secret cannot check, and accepts as it accepts frames without a hash.
        if seal.key.is_some() && !bool::from(seal.hash(bucket, &[front, body]).ct_eq(hash)) {
            return Err(Fault::Forged);
        }
        body
    };
    let word = |at: usize| front[at..at + 8].try_into().map(u64::from_le_bytes).unwrap_or(0);
    let from = NodeId { number: u16::from_le_bytes([front[4], front[5]]), incarnation: word(6) };
    let target = match flags & !SEALED {
        0 => Target::Session(word(22)),
        FOR_ALL => Target::All,
        SEVERAL => Target::Several,
        OWN => Target::Crate,
        CLOCK => Target::Clock,
        _ => return Err(Fault::Malformed),
    };
    if !(1..=NodeId::NUMBER_MAX).contains(&from.number) {
        return Err(Fault::Malformed);
    }
    Ok(Frame { from, counter: word(14), target, body })
}

/// Appends a body with its tag to those of a frame for [`Target::Several`].
pub fn append(bodies: &mut Vec<u8>, tag: u64, body: &[u8]) {
    bodies.extend_from_slice(&tag.to_le_bytes());
    bodies.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bodies.extend_from_slice(body);
}

/// Takes the bodies of [`Target::Several`] apart.
///
/// # Errors
/// If they make no sense.
pub fn bodies(mut rest: &[u8]) -> Result<Vec<(u64, &[u8])>, Fault> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (head, behind) = rest.split_at_checked(12).ok_or(Fault::Malformed)?;
        let (tag, length) = head.split_at(8);
        let tag = tag.try_into().map(u64::from_le_bytes).map_err(|_| Fault::Malformed)?;
        let length = length.try_into().map(u32::from_le_bytes).map_err(|_| Fault::Malformed)?;
        let (body, behind) = behind.split_at_checked(length as usize).ok_or(Fault::Malformed)?;
        found.push((tag, body));
        rest = behind;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const FROM: NodeId = NodeId { number: 7, incarnation: u64::MAX - 3 };

    proptest! {
        #[test]
        fn a_frame_is_read_as_it_was_made(tag: u64, body: Vec<u8>, counter: u64, has_secret: bool) {
            let seal = Seal::new(has_secret.then_some("backstage"));
            let crate_targets = [Target::Crate, Target::Clock];
            for target in [Target::Session(tag), Target::All, Target::Several].into_iter().chain(crate_targets) {
                let bytes = frame(&seal, (FROM, counter), target, 3, &body);
                let read = parse(&seal, 3, &bytes).unwrap();
                prop_assert_eq!(read, Frame { from: FROM, counter, target, body: &body });
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, has_secret: bool) {
            let seal = Seal::new(has_secret.then_some("x"));
            let _ = (parse(&seal, 1, &bytes), bodies(&bytes));
            let near = [&b"BS\x01\x00"[..], &bytes].concat();
            let _ = parse(&seal, 1, &near);
        }

        #[test]
        fn with_a_secret_no_changed_byte_passes(body: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
            let seal = Seal::new(Some("backstage"));
            let mut bytes = frame(&seal, (FROM, 9), Target::Session(5), 3, &body);
            prop_assert_eq!(parse(&seal, 4, &bytes), Err(Fault::Forged));
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(parse(&seal, 3, &bytes).is_err());
        }

        #[test]
        fn several_bodies_are_read_as_they_were_joined(list: Vec<(u64, Vec<u8>)>) {
            let mut joined = Vec::new();
            list.iter().for_each(|(tag, body)| append(&mut joined, *tag, body));
            let read = bodies(&joined).unwrap();
            prop_assert_eq!(read, list.iter().map(|(tag, body)| (*tag, &body[..])).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn a_frame_that_is_cut_or_of_an_unknown_kind_is_dropped(
            body: Vec<u8>, at: prop::sample::Index, flags in 32_u8.., format in 2_u8..,
        ) {
            for seal in [Seal::new(None), Seal::new(Some("backstage"))] {
                let bytes = frame(&seal, (FROM, 9), Target::Several, 3, &body);
                let cut = &bytes[..at.index(bytes.len())];
                let read = parse(&seal, 3, cut).map(|frame| frame.body.len());
                // Without a hash, a shorter body is a body.
                prop_assert!(read.is_err() || seal.key.is_none() && cut.len() >= FRONT_BYTES);
                for (place, byte) in [(2, format), (3, flags), (4, 0), (0, b'X')] {
                    let mut unknown = bytes.clone();
                    unknown[place] = byte;
                    unknown[5] = if place == 4 { 0 } else { unknown[5] };
                    prop_assert!(parse(&seal, 3, &unknown).is_err());
                }
            }
        }

        #[test]
        fn bodies_that_claim_to_be_longer_than_they_are_are_dropped(tag: u64, more in 1_u32.., body: Vec<u8>) {
            let mut bytes = Vec::new();
            append(&mut bytes, tag, &body);
            let claimed = (body.len() as u32).saturating_add(more);
            bytes[8..12].copy_from_slice(&claimed.to_le_bytes());
            prop_assert_eq!(bodies(&bytes), Err(Fault::Malformed));
        }
    }

    #[test]
    fn a_frame_without_a_hash_or_of_another_secret_is_forged() {
        let (open, ours, other) = (Seal::new(None), Seal::new(Some("a")), Seal::new(Some("b")));
        let plain = frame(&open, (FROM, 1), Target::All, 0, b"body");
        assert_eq!(parse(&ours, 0, &plain), Err(Fault::Forged));
        let sealed = frame(&ours, (FROM, 1), Target::All, 0, b"body");
        assert_eq!(parse(&other, 0, &sealed), Err(Fault::Forged));
        assert_eq!(parse(&open, 0, &sealed).unwrap().body, b"body");
        let huge = vec![0; BYTES_MAX + 1];
        assert_eq!(parse(&open, 0, &huge), Err(Fault::Malformed));
    }
}
