//! What members say and hear, as plain checked values: no bytes, no connections.
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

/// What a member does in its session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Role {
    /// Plays, pauses, seeks, sets the tempo.
    Leader,
    /// Follows.
    Follower,
}

/// A member as everybody in the session sees it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its Socket.IO socket id.
    pub id: MemberId,
    /// 1 to 64 characters without control characters.
    pub display_name: String,
    /// Leader or follower.
    pub role: Role,
    /// When it joined.
    pub joined_at: UnixMillis,
    /// When it was last heard of.
    pub last_ping_at: UnixMillis,
    /// What it plays, up to 64 characters.
    pub instrument: Option<String>,
    /// False while its seat is kept for it after its connection dropped.
    pub connected: bool,
}

/// A JSON number that a client sent and gets back as it was, such as its own `timestamp`. Always
/// finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Number(pub f64);

/// A text that must never be logged, recorded or shown.
#[derive(Clone, Eq, Serialize, Deserialize)]
pub struct Secret(pub String);

/// The time that a comparison takes tells nothing of a secret but its length.
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
