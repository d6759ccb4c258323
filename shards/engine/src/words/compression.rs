//! How much is done to send less.

use serde::{Deserialize, Serialize};

/// How messages are compressed for clients that offer it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Compression {
    /// Shorter messages go out as they are: little is saved on them. In bytes; ticks are well under
    /// the default.
    pub threshold: u32,
    /// From 1, fast, to 9, small.
    pub level: u8,
    /// Whether a message may refer to those before it. It saves more, and costs each connection two
    /// windows of up to 32 KiB, and each receiver a compression of its own where otherwise one
    /// serves all.
    pub context_takeover: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Self { threshold: 1_024, level: 3, context_takeover: false }
    }
}
