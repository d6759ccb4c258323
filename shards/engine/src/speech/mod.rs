//! Messages of and to members as plain, checked values: no bytes, no connections.
//!
//! `wire` turns bytes into [`Command`]s and [`Notice`]s into bytes; `session` turns commands into
//! notices.

mod command;
mod notice;
mod reject;

pub use command::*;
pub use notice::*;
pub use reject::*;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::words::ids::MemberId;
use crate::words::time::UnixMillis;

/// The role of a member in its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Role {
    /// The member plays, pauses, seeks and sets the tempo.
    Leader,
    /// The member follows.
    Follower,
}

/// A member as all members of the session see it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its Socket.IO socket id.
    pub id: MemberId,
    /// 1 to 64 characters without control characters.
    pub display_name: Box<str>,
    /// The member's role.
    pub role: Role,
    /// The time at which it joined.
    pub joined_at: UnixMillis,
    /// The time of its last sign of life.
    pub last_ping_at: UnixMillis,
    /// The member's instrument, up to 64 characters.
    pub instrument: Option<Box<str>>,
    /// Whether it has a connection. False while the seat of a lost member is held.
    pub connected: bool,
    /// Whether the leader allows it to edit the set list.
    #[serde(skip)]
    pub may_edit: bool,
}

/// A JSON number that a client sent and that it gets back unchanged, such as its own `timestamp`.
/// Always finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Number(pub f64);

/// A text that must never be logged, recorded or shown.
#[derive(Clone, Eq, Serialize, Deserialize)]
pub struct Secret(pub String);

impl Secret {
    /// Whether this may be the token of a seat: 22 to 64 letters, digits, `_` and `-`, which carry
    /// 128 random bits or more.
    pub fn is_token(&self) -> bool {
        let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        (22..=64).contains(&self.0.len()) && self.0.bytes().all(may_stand)
    }
}

/// Compares in a time that depends on the length of a secret alone.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

#[test]
fn secrets_are_compared_as_texts_and_not_shown() {
    let secret = |text: &str| Secret(text.into());
    assert!(secret("4711") == secret("4711") && secret("") == secret(""));
    for other in ["4712", "5711", "471", "47110", ""] {
        assert!(secret(other) != secret("4711"), "{other}");
    }
    assert_eq!(format!("{:?}", secret("4711")), "***");
}
