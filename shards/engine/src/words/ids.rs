//! Ids of connections, shards, members, sessions, commands and events.

use std::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::text::is_control;

/// A connection on one shard. The driver allocates the id: the index is reused, and the generation
/// distinguishes its users.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ConnId {
    /// Index in the shard's table of connections.
    pub index: u32,
    /// Number of earlier connections with this index.
    pub generation: u32,
}

/// The handle of a member's seat: the key of its room, and a hint to its index among the members.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SeatHandle {
    /// The key of the room.
    pub room: RoomKey,
    /// Index of the member at the last look-up. It may be outdated.
    pub index: u32,
}

impl ConnId {
    /// Marks the index of an id that the engine allocated itself. The driver's indices are file
    /// descriptors, far below it.
    pub const POLLED: u32 = 1 << 31;

    /// Whether this is the id of a polling client instead of a connection of the driver.
    pub const fn is_polled(self) -> bool {
        self.index & Self::POLLED != 0
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// One of the server's shards, counted from zero.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct ShardId(pub u16);

/// A member of a session: the Socket.IO socket id, 20 characters of `A-Za-z0-9_-`.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct MemberId([u8; 20]);

impl MemberId {
    /// Creates an id from 15 bytes, in the URL-safe base64 alphabet with six bits per character.
    pub const fn from_bytes(bytes: [u8; 15]) -> Self {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut text = [0; 20];
        // A constant function cannot use iterators.
        let mut index = 0;
        while index < text.len() {
            let first = index / 4 * 3;
            let bits = (bytes[first] as u32) << 16
                | (bytes[first + 1] as u32) << 8
                | bytes[first + 2] as u32;
            text[index] = ALPHABET[(bits >> (18 - 6 * (index % 4))) as usize & 63];
            index += 1;
        }
        Self(text)
    }

    /// Parses an id that a client sent. Returns `None` if it has another form.
    pub fn parse(text: &str) -> Option<Self> {
        let text: [u8; 20] = text.as_bytes().try_into().ok()?;
        let fits = text.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
        fits.then_some(Self(text))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a session: 1 to 128 bytes of UTF-8 without control characters.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct SessionId(Box<str>);

impl SessionId {
    /// Maximum length of a name in bytes.
    pub const BYTES_MAX: usize = 128;

    /// Parses a name that a client sent. Returns `None` if it is empty, too long or not printable.
    pub fn parse(text: &str) -> Option<Self> {
        let fits =
            !text.is_empty() && text.len() <= Self::BYTES_MAX && !text.chars().any(is_control);
        fits.then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the shard of the session, of `shards` in all: the 64-bit FNV-1a hash of the name,
    /// finished with MurmurHash3's 64-bit mixer, scaled to the number of shards by its high bits.
    pub fn shard(&self, shards: u16) -> ShardId {
        assert!(shards > 0);
        ShardId(part_of(self.tag(), shards))
    }

    /// Returns the bucket of the session, of `buckets` in all.
    pub fn bucket(&self, buckets: u16) -> u16 {
        assert!(buckets > 0);
        part_of(self.tag(), buckets)
    }

    /// Returns the session's tag: the hash of its name that shard and bucket follow from.
    pub fn tag(&self) -> u64 {
        hash(&self.0)
    }
}

/// Returns the part that a hash lies in, of `parts` equal ones in all.
fn part_of(hash: u64, parts: u16) -> u16 {
    ((u128::from(hash) * u128::from(parts)) >> 64) as u16
}

/// Hashes a text with 64-bit FNV-1a, finished with MurmurHash3's 64-bit mixer. Traces and load
/// balancers rely on it, so it may never change.
fn hash(text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

/// The id that a client gives a command, so that a repeated one is not applied again:
/// `<client>-<number>`. The client part is the same for all commands of a client, on all its
/// connections. The number rises.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CommandId {
    /// Hash of the client part. If other clients cannot guess the part, they cannot collide with
    /// its hash.
    pub client: u64,
    /// The number.
    pub number: u64,
}

impl CommandId {
    /// Maximum length of an id in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Parses `<client>-<number>`: letters, digits, `_` and `-`, then a number below 2^53.
    pub fn parse(text: &str) -> Option<Self> {
        let (client, number) = text.rsplit_once('-')?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        if client.is_empty()
            || text.len() > Self::BYTES_MAX
            || !client.bytes().all(fits)
            || !is_number
        {
            return None;
        }
        let number = number.parse().ok().filter(|number| *number < 1 << 53)?;
        Some(Self { client: hash(client), number })
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// The key of a session in the shard's table.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RoomKey {
    /// Index in the shard's table of sessions.
    pub index: u32,
    /// Number of earlier sessions with this index.
    pub generation: u32,
}

/// The token with which a client recovers its seat. It is as hard to guess as a socket id, and only
/// this client receives it.
#[derive(Clone, Copy, Debug, Eq, Serialize, Deserialize)]
pub struct RecoveryToken(pub MemberId);

/// Compares in constant time, so that the duration reveals nothing about a token.
impl PartialEq for RecoveryToken {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str().as_bytes().ct_eq(other.0.as_str().as_bytes()).into()
    }
}

/// Where an event is in a session's log: `<shard>.<room>.<generation>.<number>`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Offset {
    /// The shard of the session.
    pub shard: ShardId,
    /// The key of the session on that shard.
    pub room: RoomKey,
    /// Number of the session's events up to this one.
    pub number: u64,
}

impl Offset {
    /// Parses an offset that a client sent. Returns `None` if no server of ours can have sent it.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut part =
            || parts.next().filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let shard = ShardId(part()?.parse().ok()?);
        let room = RoomKey { index: part()?.parse().ok()?, generation: part()?.parse().ok()? };
        let number = part()?.parse().ok()?;
        parts.next().is_none().then_some(Self { shard, room, number })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shard, room, number } = self;
        write!(f, "{}.{}.{}.{number}", shard.0, room.index, room.generation)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_member_id_is_url_safe_base64_of_its_bytes() {
        assert_eq!(MemberId::from_bytes([0; 15]).as_str(), "AAAAAAAAAAAAAAAAAAAA");
        assert_eq!(MemberId::from_bytes([255; 15]).as_str(), "____________________");
        let id = MemberId::from_bytes(*b"fifteen bytes!!");
        assert_eq!(id.as_str(), "ZmlmdGVlbiBieXRlcyEh");
        assert_eq!(MemberId::parse(id.as_str()), Some(id));
    }

    #[test]
    fn a_member_id_of_another_shape_is_rejected() {
        for text in ["", "short", "twenty-one-characters", "twenty characters ok"] {
            assert_eq!(MemberId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_session_id_is_printable_and_bounded() {
        assert!(SessionId::parse("Gröndal 🎸").is_some());
        assert!(SessionId::parse(&"x".repeat(128)).is_some());
        for text in ["", "tab\there", "\u{7f}", &"x".repeat(129)] {
            assert_eq!(SessionId::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_command_id_is_a_client_and_a_number() {
        let id = |text| CommandId::parse(text);
        assert_eq!(id("a-b_C-17").map(|id| id.number), Some(17));
        assert_eq!(id("ab-1").unwrap().client, id("ab-2").unwrap().client);
        assert_ne!(id("ab-1").unwrap().client, id("aB-1").unwrap().client);
        let long = format!("{}-1", "x".repeat(63));
        for text in ["", "-1", "ab", "ab-", "ab-x", "ab-+1", "a b-1", "ab-9007199254740992", &long]
        {
            assert_eq!(id(text), None, "{text:?}");
        }
    }

    /// Fixed values: traces and load balancers rely on the mapping, so it may never change.
    #[test]
    fn the_shard_of_a_session_is_fixed() {
        let shards: Vec<u16> = ["stage", "demo", "a", "b", "Gröndal 🎸"]
            .map(|id| SessionId::parse(id).unwrap().shard(8).0)
            .to_vec();
        assert_eq!(shards, [5, 1, 4, 3, 4]);
    }

    #[test]
    fn sessions_spread_evenly_over_shards() {
        let mut counts = [0_u32; 7];
        for n in 0..7_000 {
            counts[usize::from(SessionId::parse(&format!("session-{n}")).unwrap().shard(7).0)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn only_a_well_formed_offset_is_read_back() {
        let offset = Offset {
            shard: ShardId(7),
            room: RoomKey { index: 12, generation: 3 },
            number: 18_446_744_073_709_551_615,
        };
        assert_eq!(offset.to_string(), "7.12.3.18446744073709551615");
        assert_eq!(Offset::parse(&offset.to_string()), Some(offset));
        for text in [
            "",
            "7",
            "7.12.3",
            "7.12.3.",
            "7.12.3.4.5",
            "7.12.3.-4",
            "+7.12.3.4",
            "65536.1.1.1",
            "é",
        ] {
            assert_eq!(Offset::parse(text), None, "{text}");
        }
    }
}
