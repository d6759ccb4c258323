//! The answers of `/health` and `/metrics`. Fields of the Node.js server keep their names, types
//! and units; ours are additional.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bandsync_driver::LongestTurn;
use bandsync_engine::speech::Code;
use bandsync_storage::{Condition, StorageHandle};
use serde::Serialize;

use super::cluster::{self, Cluster};
use crate::monitor::latency::{NAMES, Spread, Spreads};
use crate::monitor::thresholds::{self, Alert, Readings, Status};
use crate::monitor::{Queue, Report, Sample, ShardTotals, ThreadShare, sum};
use crate::ops::logging::Timestamp;
use crate::ops::process::Allocator;

/// The answer of `/health`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    status: Status,
    /// RFC 3339, UTC.
    timestamp: String,
    /// Seconds since the start.
    uptime: f64,
    /// Whether sessions are stored in Redis and it answers.
    redis: bool,
    memory: Memory,
    /// WebSockets and polling sessions now.
    connections: u64,
    /// The raised alerts, the worst first. Never empty unless the status is `healthy`.
    reasons: Vec<Alert>,
    /// `connected`, `degraded` or `disabled`.
    redis_status: &'static str,
    storage: Storage,
    connections_detail: Connections,
    sessions: Sessions,
    /// The cluster, if the server belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<Cluster>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shards: Vec<Shard>,
}

/// The answer of `/metrics`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    timestamp: String,
    uptime: f64,
    performance: Performance,
    connections: Connections,
    sessions: Sessions,
    /// Distributions of all shards in the last full interval, by gauge.
    percentiles: BTreeMap<&'static str, Spread>,
    /// Single shards.
    shards: Vec<ShardLoad>,
    threads: Vec<ThreadShare>,
    storage: Storage,
    /// Counts of the cluster since the start, if the server belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<BTreeMap<String, u64>>,
    /// Queues between threads.
    queues: Vec<Queue>,
    /// Rejected commands since the start, by code.
    refusals: BTreeMap<&'static str, u64>,
    /// Rejected commands in the last second, by code; codes without any are left out.
    refusals_per_second: BTreeMap<&'static str, f64>,
    alerts: Vec<Alert>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShardLoad {
    busy_percent: f64,
    #[serde(flatten)]
    now: Shard,
    percentiles: BTreeMap<&'static str, Spread>,
    longest_turn: Longest,
}

/// The longest turn of a shard in the last full interval.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Longest {
    /// Its duration in milliseconds.
    ms: f64,
    /// The phase that took most of it. `None` without a turn.
    phase: Option<&'static str>,
    /// The duration of that phase in milliseconds.
    phase_ms: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Performance {
    active_connections: u64,
    /// Messages in both directions.
    messages_per_second: f64,
    messages_in_per_second: f64,
    messages_out_per_second: f64,
    bytes_in_per_second: f64,
    bytes_out_per_second: f64,
    /// Mean round trip, in milliseconds.
    avg_latency: f64,
    target_latency: f64,
    turn_time: f64,
    memory_usage: MemoryUsage,
    cpu_usage: CpuUsage,
    /// Memory in RAM, in bytes.
    memory_bytes: u64,
    /// Bytes of RAM that the allocator holds.
    allocator_committed: u64,
    /// Bytes kept for lost members.
    recovery_bytes: u64,
    unsent_bytes: u64,
    /// Lines of the log that were lost since the start.
    log_lines_lost: u64,
    /// CPU use in percent of one core.
    cpu_percent: f64,
    /// CPU use of the busiest thread, in percent of one core.
    cpu_busiest_thread: f64,
}

/// Memory in units of 2²⁰ bytes, with two decimals.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemoryUsage {
    heap_used: f64,
    rss: f64,
}

/// CPU time of the last full interval, in seconds.
#[derive(Serialize)]
struct CpuUsage {
    user: f64,
    system: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Storage {
    /// `memory`, `file` or `redis`.
    place: &'static str,
    status: &'static str,
    /// The problem of the storage, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Requests that wait for the storage's thread.
    queue: usize,
    /// Sessions whose newest state is not stored yet.
    pending: u64,
    /// Bytes of records that wait, in the queue and for the backend. Once they exceed 8 MiB,
    /// further changes wait in their sessions.
    waiting_bytes: usize,
    /// Records written since the start.
    written: u64,
    /// States that newer ones replaced before they were written.
    coalesced: u64,
    /// Failures to store.
    failures: u64,
    /// Damaged records that were set aside.
    set_aside: u64,
    /// Times that another server stored a session that is in use here.
    conflicts: u64,
}

/// Memory in bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    rss: u64,
    /// Bytes that the allocator holds.
    heap_used: u64,
}

#[derive(Serialize)]
struct Connections {
    /// WebSockets and polling sessions now.
    current: u64,
    /// Maximum of `current` so far.
    peak: u64,
    /// Other connections now.
    http: u64,
}

#[derive(Serialize)]
struct Sessions {
    /// Sessions with a connected member.
    active: u64,
    /// Sessions in memory.
    total: u64,
    /// Connected members.
    members: u64,
}

#[derive(Serialize)]
struct Shard {
    connections: u64,
    sessions: u64,
    members: u64,
}

impl Health {
    /// Reads the current state.
    pub fn now(
        shards: &[ShardTotals],
        report: &Report,
        uptime: Duration,
        handle: &StorageHandle,
        cluster: Option<&bandsync_cluster::Status>,
    ) -> Self {
        let (all, sample) = (sum(shards), &report.sample);
        let storage = Storage::of(handle);
        let mut reasons = report.alerts.clone();
        // The monitor reads once a second, but the storage's state applies at once.
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let is_up = handle.status.is_up() && !cluster.is_some_and(cluster::is_alone);
        let now = thresholds::storage_alerts(&Readings {
            at: uptime,
            storage_down: !is_up,
            sessions_unstored: number(&handle.status.unstored),
            sessions_shared: number(&handle.status.shared),
            ..Readings::default()
        });
        for alert in now {
            if !reasons.iter().any(|raised| raised.name == alert.name) {
                reasons.push(alert);
            }
        }
        let at_best = if reasons.is_empty() { Status::Healthy } else { Status::Degraded };
        let redis = storage.place == "redis" || cluster.is_some();
        let redis_status = match (redis, is_up) {
            (true, true) => "connected",
            (true, false) => "degraded",
            (false, _) => "disabled",
        };
        Self {
            status: report.status.max(at_best),
            timestamp: Timestamp(SystemTime::now()).to_string(),
            uptime: rounded(uptime.as_secs_f64()),
            redis: redis && is_up,
            memory: Memory {
                rss: sample.resident_bytes,
                heap_used: heap_used(&report.allocator, sample),
            },
            connections: all.connections,
            reasons,
            redis_status,
            storage,
            connections_detail: Connections::of(&all, sample),
            sessions: Sessions::of(&all),
            cluster: cluster.map(|status| Cluster::now(status, &all.nodes)),
            shards: shards.iter().map(Shard::of).collect(),
        }
    }
}

impl Health {
    /// Removes what only operators may know: paths, hosts, messages of the storage, and shards.
    pub fn for_strangers(mut self) -> Self {
        self.storage.reason = None;
        self.shards.clear();
        self.cluster.iter_mut().for_each(Cluster::for_strangers);
        for alert in &mut self.reasons {
            alert.message = thresholds::meaning(alert.name).to_owned();
        }
        self
    }
}

impl Storage {
    fn of(handle: &StorageHandle) -> Self {
        let status = &handle.status;
        let (reason, since) = match status.condition() {
            Condition::Healthy => (None, None),
            Condition::Degraded { reason, since } => {
                (Some(reason), Some(Timestamp(since).to_string()))
            }
        };
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Self {
            place: status.target,
            status: if reason.is_some() { "degraded" } else { "healthy" },
            reason,
            since,
            queue: handle.queue(),
            pending: number(&status.pending),
            waiting_bytes: handle.waiting_bytes(),
            written: number(&status.written),
            coalesced: number(&status.coalesced),
            failures: number(&status.failures),
            set_aside: number(&status.set_aside),
            conflicts: number(&status.conflicts),
        }
    }
}

impl Metrics {
    /// Reads the current state.
    pub fn now(
        shards: &[ShardTotals],
        report: &Report,
        uptime: Duration,
        target_latency: Duration,
        handle: &StorageHandle,
        cluster: Option<&bandsync_cluster::Status>,
    ) -> Self {
        let (all, sample) = (sum(shards), &report.sample);
        let busiest = report.threads.first();
        Self {
            timestamp: Timestamp(SystemTime::now()).to_string(),
            uptime: rounded(uptime.as_secs_f64()),
            performance: Performance {
                active_connections: all.connections,
                messages_per_second: rounded(
                    sample.messages_in_per_second + sample.messages_out_per_second,
                ),
                messages_in_per_second: rounded(sample.messages_in_per_second),
                messages_out_per_second: rounded(sample.messages_out_per_second),
                bytes_in_per_second: rounded(sample.bytes_in_per_second),
                bytes_out_per_second: rounded(sample.bytes_out_per_second),
                avg_latency: rounded(sample.latency_ms),
                turn_time: rounded(sample.turn_ms),
                target_latency: rounded(target_latency.as_secs_f64() * 1_000.0),
                memory_usage: MemoryUsage {
                    heap_used: megabytes(heap_used(&report.allocator, sample)),
                    rss: megabytes(sample.resident_bytes),
                },
                cpu_usage: CpuUsage {
                    user: rounded(report.cpu.user.as_secs_f64()),
                    system: rounded(report.cpu.system.as_secs_f64()),
                },
                memory_bytes: sample.resident_bytes,
                allocator_committed: report.allocator.committed,
                recovery_bytes: all.recovery_bytes,
                unsent_bytes: all.unsent_bytes,
                log_lines_lost: report.log_lines_lost,
                cpu_percent: rounded(sample.cpu_percent),
                cpu_busiest_thread: busiest
                    .map_or(0.0, |one| rounded(one.user_percent + one.system_percent)),
            },
            connections: Connections::of(&all, sample),
            sessions: Sessions::of(&all),
            percentiles: named(&report.interval),
            shards: (shards.iter().zip(&report.shards))
                .map(|(totals, one)| ShardLoad {
                    busy_percent: rounded(one.busy_percent),
                    now: Shard::of(totals),
                    percentiles: named(&one.interval),
                    longest_turn: Longest::of(&one.longest_turn),
                })
                .collect(),
            threads: report.threads.iter().map(shown).collect(),
            storage: Storage::of(handle),
            cluster: cluster.map(|status| cluster::counts(status, &all.nodes)),
            queues: report.queues.clone(),
            refusals: Code::ALL.into_iter().map(Code::as_str).zip(all.refusals).collect(),
            refusals_per_second: (Code::ALL.into_iter().map(Code::as_str))
                .zip(sample.refusals_per_second_by_code.map(rounded))
                .filter(|(_, rate)| *rate > 0.0)
                .collect(),
            alerts: report.alerts.clone(),
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

impl Longest {
    fn of(turn: &LongestTurn) -> Self {
        // Exact, because most turns take less than a tenth of a millisecond.
        let millis = |nanos: u64| nanos as f64 / 1_000_000.0;
        let phase = (turn.nanos > 0).then_some(turn.phase.as_str());
        Self { ms: millis(turn.nanos), phase, phase_ms: millis(turn.phase_nanos) }
    }
}

fn named(spreads: &Spreads) -> BTreeMap<&'static str, Spread> {
    NAMES.into_iter().zip(*spreads).collect()
}

fn shown(share: &ThreadShare) -> ThreadShare {
    ThreadShare {
        user_percent: rounded(share.user_percent),
        system_percent: rounded(share.system_percent),
        ..share.clone()
    }
}

/// Bytes of RAM that the allocator holds. The allocator counts memory that it has reserved and
/// never touched; a value above `rss` would make no sense to a dashboard of the Node.js server.
fn heap_used(allocator: &Allocator, sample: &Sample) -> u64 {
    allocator.committed.min(sample.resident_bytes)
}

/// Converts to units of 2²⁰ bytes, with two decimals.
fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / 1_048_576.0 * 100.0).round() / 100.0
}

/// Rounds to three decimals: more would suggest a precision that is not there.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[test]
fn the_heap_in_use_is_at_most_the_resident_memory() {
    let sample = Sample { resident_bytes: 20, ..Sample::default() };
    let used = |committed| heap_used(&Allocator { committed, committed_peak: 50 }, &sample);
    assert_eq!((used(10), used(40)), (10, 20));
}
