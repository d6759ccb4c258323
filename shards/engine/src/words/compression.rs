//! Settings of the compression of messages.

use serde::{Deserialize, Serialize};

/// The compression of messages for clients that offer it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Compression {
    /// Minimum size in bytes of a compressed message: compression saves little on shorter ones.
    /// Ticks are well below the default.
    pub threshold: u32,
    /// Compression level, from 1 (fast) to 9 (small).
    pub level: u8,
    /// Whether a message may refer to earlier ones. This saves more, but each client then needs two
    /// windows of up to 32 KiB, and each receiver a compression of its own instead of one for all.
    pub context_takeover: bool,
}

impl Default for Compression {
    fn default() -> Self {
        Self { threshold: 1_024, level: 3, context_takeover: false }
    }
}
