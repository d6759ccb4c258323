//! Adapters between shards and the rest of the server: each type fulfils the contract of another
//! part.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bandsync_driver::{Clock, Histograms, Mailer, SharedMetrics};
use bandsync_engine::io::node::Standing;
use bandsync_engine::io::report::Counters;
use bandsync_engine::io::tap::Tap;
use bandsync_engine::io::{FreeMemory, Input, Outputs, StorageEvent};
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;
use bandsync_storage::{self as storage, Point, StorageHandle};
use bandsync_trace::{Backlog, ShardRecorder};

use crate::monitor::history::{FIELDS, HistoryStore, Row};
use crate::monitor::{Queue, ShardTotals, Totals};
use crate::ops::logging;

/// Connections that may wait in a shard's mailbox. Guessed.
pub(super) const MAILBOX_CAPACITY: usize = 1_024;

/// Passes events of the storage to the shards.
pub(super) struct StorageSink {
    pub(super) post: Mailer,
    pub(super) shards: u16,
}

impl storage::Shards for StorageSink {
    fn count(&self) -> u16 {
        self.shards
    }

    fn send(&self, shard: ShardId, event: StorageEvent) -> Result<(), StorageEvent> {
        self.post.send_event(shard, event)
    }
}

/// Passes the monitor's rows to the storage, as one series per column. The storage returns series,
/// not rows.
pub(super) struct HistoryAdapter(pub(super) StorageHandle);

impl HistoryStore for HistoryAdapter {
    fn load(&mut self, _max: usize) -> Vec<Row> {
        Vec::new()
    }

    fn append(&mut self, row: &Row) {
        let points: Vec<Point> = FIELDS[1..]
            .iter()
            .zip(&row[1..])
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        self.0.measure(row[0] as i64, &points);
    }
}

/// Lives as long as its shard's loop, and calls `ended` when the loop ends, also by a panic.
pub(super) struct ExitHook<Ended: Fn()> {
    pub(super) ended: Ended,
    /// Records the shard, if a recording is wanted.
    pub(super) recorder: Option<ShardRecorder>,
}

impl<Ended: Fn() + Send + 'static> Tap for ExitHook<Ended> {
    fn input(&mut self, at: Micros, input: &Input<'_>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.input(at, input);
        }
    }

    fn outputs(&mut self, outputs: &Outputs, from: usize) {
        if let Some(recorder) = &mut self.recorder {
            recorder.outputs(outputs, from);
        }
    }
}

impl<Ended: Fn()> Drop for ExitHook<Ended> {
    fn drop(&mut self) {
        (self.ended)();
    }
}

/// Provides the counters of all shards to the monitor.
pub(super) struct FleetTotals {
    pub(super) metrics: Arc<SharedMetrics<Counters>>,
    pub(super) clock: Clock,
    pub(super) storage: StorageHandle,
    /// The cluster, if the server belongs to one.
    pub(super) cluster: Option<Arc<bandsync_cluster::Status>>,
    pub(super) recording: Option<Backlog>,
}

/// Error of a clock of which nothing is known. Any error is possible; this one raises the alert.
const CLOCK_UNKNOWN_MS: f64 = 1_000_000.0;

/// Time for which shards send rosters after a request.
const ROSTERS_FOR: Micros = Micros::from_secs(10);

impl Totals for FleetTotals {
    fn storage_down(&self) -> bool {
        let view = self.cluster.as_ref().map(|status| status.view());
        let is_alone = view.is_some_and(|view| view.standing == Some(Standing::Alone));
        is_alone || !self.storage.status.is_up()
    }

    fn clock_error_ms(&self) -> Option<f64> {
        let clock = self.cluster.as_ref()?.clock();
        Some(clock.map_or(CLOCK_UNKNOWN_MS, |clock| clock.bound_us as f64 / 1_000.0))
    }

    fn sessions_unstored(&self) -> u64 {
        self.storage.status.unstored.load(Ordering::Relaxed)
    }

    fn sessions_shared(&self) -> u64 {
        self.storage.status.shared.load(Ordering::Relaxed)
    }

    fn shards(&self) -> Vec<ShardTotals> {
        self.ids().map(|shard| self.totals(shard)).collect()
    }

    fn collect(&self, shard: usize, read: &mut dyn FnMut(&Histograms)) {
        self.metrics.collect(ShardId(shard as u16), read);
    }

    fn queues(&self) -> Vec<Queue> {
        let mailbox = self.ids().map(|shard| self.metrics.stats(shard).mail_max.take()).max();
        let log = logging::backlog();
        let queue = |name, waiting, capacity| Queue {
            name,
            waiting: waiting as u64,
            capacity: capacity as u64,
        };
        let mut queues = vec![
            Queue {
                name: "mailbox",
                waiting: mailbox.unwrap_or_default(),
                capacity: MAILBOX_CAPACITY as u64,
            },
            queue("log", log.waiting, log.capacity),
        ];
        if self.storage.capacity() > 0 {
            queues.push(queue("storage", self.storage.queue(), self.storage.capacity()));
        }
        queues.extend(
            self.recording.as_ref().map(|one| queue("recorder", one.len(), one.capacity())),
        );
        queues
    }

    fn log_lines_lost(&self) -> u64 {
        logging::backlog().lost
    }

    fn rosters(&self) -> Vec<Vec<u8>> {
        self.metrics.want_rosters(self.clock.now() + ROSTERS_FOR);
        self.ids()
            .map(|shard| self.metrics.roster(shard))
            .filter(|roster| !roster.is_empty())
            .collect()
    }

    fn set_memory(&self, memory: FreeMemory) {
        self.metrics.set_memory(memory);
    }
}

impl FleetTotals {
    fn ids(&self) -> impl Iterator<Item = ShardId> {
        (0..self.metrics.shards()).map(ShardId)
    }

    fn totals(&self, shard: ShardId) -> ShardTotals {
        let (stats, counters) = (self.metrics.stats(shard), self.metrics.counters(shard));
        ShardTotals {
            connections: u64::from(counters.clients),
            http: u64::from(counters.connections.saturating_sub(counters.clients)),
            members: u64::from(counters.members),
            sessions: u64::from(counters.sessions),
            sessions_active: u64::from(counters.sessions.saturating_sub(counters.sessions_empty)),
            messages_in: counters.messages_in,
            messages_out: counters.messages_out,
            bytes_in: stats.bytes_in.get(),
            bytes_out: stats.bytes_out.get(),
            round_trips: counters.round_trips,
            round_trip_micros: counters.round_trips_total.as_micros(),
            turns: stats.turns.get(),
            turn_micros: stats.turn_time.get(),
            refusals: counters.refusals_by_code,
            expulsions: counters.expulsions,
            accepted: stats.accepted.get(),
            volatile_dropped: stats.volatile_dropped.get(),
            unsent_bytes: stats.unsent.get(),
            recovery_bytes: counters.recovery_bytes,
            sessions_shed: counters.sessions_shed,
            recovery_bytes_shed: counters.recovery_bytes_shed,
            nodes: counters.nodes,
        }
    }
}
