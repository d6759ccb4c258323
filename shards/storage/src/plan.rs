//! Settings of the storage.

use std::path::PathBuf;
use std::time::Duration;

use crate::backends::redis::Endpoint;

/// Place and lifetime of stored sessions.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The place.
    pub target: Target,
    /// Time that a session stays stored after the last server dropped it from memory.
    pub ttl: Duration,
    /// Time that a shard waits for a session, to report in the log when it took longer.
    pub wait: Duration,
}

/// The place of stored sessions.
#[derive(Clone, Debug)]
pub enum Target {
    /// Nowhere: sessions end with the process.
    Memory,
    /// In a file in this directory; `None` if no directory could be found.
    File(Option<PathBuf>),
    /// In Redis.
    Redis(Box<Endpoint>),
}

impl Target {
    /// The name that settings and `/health` use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File(_) => "file",
            Self::Redis(_) => "redis",
        }
    }
}
