//! Settings of the storage.

use std::path::PathBuf;
use std::time::Duration;

use crate::backends::redis::Endpoint;

/// Kind and lifetime of the storage.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The kind of storage, with its address.
    pub target: Target,
    /// Time that the sessions of a server that has ended stay stored.
    pub ttl: Duration,
    /// Time that a shard waits for a session, to report in the log when it took longer.
    pub wait: Duration,
}

/// A kind of storage, with its address.
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
    /// Returns the name that settings and `/health` use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File(_) => "file",
            Self::Redis(_) => "redis",
        }
    }
}
