//! What `/health` and `/metrics` say, under the names that dashboards of the Node.js server read.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::logging::Timestamp;
use crate::monitor::{Monitor, Sample, ShardTotals, sum};

/// Whether all is well.
#[derive(Serialize)]
pub struct Health {
    status: &'static str,
    /// RFC 3339, UTC.
    timestamp: String,
    /// In seconds.
    uptime: f64,
    redis: Redis,
    memory: Memory,
    connections: Connections,
    sessions: Sessions,
    shards: Vec<Shard>,
}

/// How much there is to do, and how well it goes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    timestamp: String,
    uptime: f64,
    performance: Performance,
    connections: Connections,
    sessions: Sessions,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Performance {
    active_connections: u64,
    /// In both directions together.
    messages_per_second: f64,
    messages_in_per_second: f64,
    messages_out_per_second: f64,
    bytes_in_per_second: f64,
    bytes_out_per_second: f64,
    /// In milliseconds.
    avg_latency: f64,
    target_latency: f64,
    turn_time: f64,
    /// In bytes.
    memory_usage: u64,
    /// In percent of one core.
    cpu_usage: f64,
}

#[derive(Serialize)]
struct Redis {
    status: &'static str,
}

#[derive(Serialize)]
struct Memory {
    /// In bytes.
    rss: u64,
}

#[derive(Serialize)]
struct Connections {
    /// WebSockets now.
    current: u64,
    /// The most WebSockets at once.
    peak: u64,
    /// Connections now that are not, or not yet, WebSockets.
    http: u64,
}

#[derive(Serialize)]
struct Sessions {
    /// With a connected member.
    active: u64,
    /// In memory.
    total: u64,
    /// Connected members of all.
    members: u64,
}

#[derive(Serialize)]
struct Shard {
    connections: u64,
    sessions: u64,
    members: u64,
}

impl Health {
    pub fn now(shards: &[ShardTotals], monitor: &Monitor) -> Self {
        let (all, sample) = (sum(shards), monitor.newest());
        Self {
            status: "healthy",
            timestamp: Timestamp(SystemTime::now()).to_string(),
            uptime: rounded(monitor.uptime().as_secs_f64()),
            redis: Redis { status: "disabled" },
            memory: Memory { rss: sample.resident_bytes },
            connections: Connections::of(&all, &sample),
            sessions: Sessions::of(&all),
            shards: shards.iter().map(Shard::of).collect(),
        }
    }
}

impl Metrics {
    pub fn now(shards: &[ShardTotals], monitor: &Monitor, target_latency: Duration) -> Self {
        let (all, sample) = (sum(shards), monitor.newest());
        Self {
            timestamp: Timestamp(SystemTime::now()).to_string(),
            uptime: rounded(monitor.uptime().as_secs_f64()),
            performance: Performance {
                active_connections: all.connections,
                messages_per_second: rounded(sample.messages_in_per_second + sample.messages_out_per_second),
                messages_in_per_second: rounded(sample.messages_in_per_second),
                messages_out_per_second: rounded(sample.messages_out_per_second),
                bytes_in_per_second: rounded(sample.bytes_in_per_second),
                bytes_out_per_second: rounded(sample.bytes_out_per_second),
                avg_latency: rounded(sample.latency_ms),
                turn_time: rounded(sample.turn_ms),
                target_latency: rounded(target_latency.as_secs_f64() * 1_000.0),
                memory_usage: sample.resident_bytes,
                cpu_usage: rounded(sample.cpu_percent),
            },
            connections: Connections::of(&all, &sample),
            sessions: Sessions::of(&all),
        }
    }
}

impl Connections {
    fn of(all: &ShardTotals, sample: &Sample) -> Self {
        let peak = sample.connections_peak.max(all.connections);
        Self { current: all.connections, peak, http: all.http }
    }
}

impl Sessions {
    fn of(all: &ShardTotals) -> Self {
        Self { active: all.sessions_active, total: all.sessions, members: all.members }
    }
}

impl Shard {
    fn of(totals: &ShardTotals) -> Self {
        Self { connections: totals.connections, sessions: totals.sessions, members: totals.members }
    }
}

/// To a thousandth: more digits would only pretend.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
