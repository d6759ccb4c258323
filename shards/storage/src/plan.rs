//! What the server decides about its storage.

use std::path::PathBuf;
use std::time::Duration;

use crate::backends::redis::Endpoint;

/// Where sessions are kept, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub target: Target,
    /// How long a session is kept that is in no server's memory.
    pub ttl: Duration,
    /// How long a shard waits for a session; only to say so in the log when it was longer.
    pub wait: Duration,
}

/// Where sessions are kept.
#[derive(Clone, Debug)]
pub enum Target {
    /// Nowhere: they end with the process.
    Memory,
    /// In a file in this directory; `None` if no directory could be found.
    File(Option<PathBuf>),
    /// In Redis.
    Redis(Box<Endpoint>),
}

impl Target {
    /// In a word, as settings and `/health` have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File(_) => "file",
            Self::Redis(_) => "redis",
        }
    }
}
