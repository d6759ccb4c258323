//! The settings that the oracle uses, and its knowledge of each shard.

use bandsync_engine::io::Goodbye;

use super::super::plan::WorldShape;

/// The wall clock at the start of the world, in milliseconds.
pub const UNIX_START: i64 = 1_800_000_000_000;

/// Silence after which a server with small limits pings, in microseconds.
pub const STALE_AFTER: u64 = 2_000_000;

/// Delay of a turn that is no fault, in microseconds.
pub const LATE: u64 = 40_000;

/// The part of the server's settings that the oracle needs. Times are in microseconds.
pub struct Rules {
    pub grace: u64,
    pub batch: u64,
    pub tick: u64,
    /// Silence after which a client is pinged.
    pub ping: u64,
    pub hurry: bool,
    pub heartbeat: u64,
    pub empty_ttl: u64,
    sessions_max: u32,
    pub members_max: u32,
    pub members_listed: u32,
    pub recovery: u64,
    /// Maximum silence before a loss is noticed. Missed events are kept for that time.
    pub silence: u64,
    pub memory_max: u32,
}

impl Rules {
    pub fn new(shape: &WorldShape) -> Self {
        Self {
            grace: shape.grace,
            batch: shape.batch,
            tick: shape.tick,
            ping: if shape.hurry { shape.ping.min(STALE_AFTER) } else { shape.ping },
            hurry: shape.hurry,
            heartbeat: shape.heartbeat,
            empty_ttl: shape.empty_ttl,
            sessions_max: shape.sessions_max,
            members_max: shape.members_max,
            members_listed: shape.members_listed,
            recovery: shape.recovery,
            silence: (2 * (shape.ping + shape.ping_timeout) + 5_000_000).min(shape.recovery),
            memory_max: shape.memory_max,
        }
    }

    /// Whether the table of sessions may be full, so that joins are rejected and sessions evicted.
    pub fn is_crowded(&self) -> bool {
        self.sessions_max < 1_000
    }
}

/// The state of the server and its shards, as far as it was announced.
pub struct Server {
    /// Whether the server drains, so that sessions no longer change.
    pub draining: bool,
    /// Shards without memory for more members.
    pub full: Vec<bool>,
    /// Shards that have started to drain.
    pub drained: Vec<bool>,
    /// Wall clock of each shard, in milliseconds.
    pub walls: Vec<i64>,
    pub goodbye: Goodbye,
}

impl Server {
    pub fn new(shards: u16, goodbye: Goodbye) -> Self {
        let shards = usize::from(shards);
        Self {
            draining: false,
            full: vec![false; shards],
            drained: vec![false; shards],
            walls: vec![0; shards],
            goodbye,
        }
    }
}
