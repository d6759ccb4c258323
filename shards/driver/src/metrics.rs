//! The board: numbers that every shard writes and anybody may read while the server runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bandsync_engine::io::Memory;
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;
use parking_lot::Mutex;

use crate::telemetry::{DoubleBuffer, Histograms};

/// One place per shard. Made before the shards start, so that whoever answers `/metrics` can hold
/// it.
#[derive(Debug)]
pub struct SharedMetrics<C> {
    shards: Vec<PerShard<C>>,
    /// How much memory the process has left, as a place in [`MEMORY`].
    memory: AtomicU8,
    /// Until when rosters are wanted, in microseconds of the server's clock.
    rosters_until: AtomicU64,
}

/// Values of [`SharedMetrics::set_memory`].
const MEMORY: [Memory; 3] = [Memory::Enough, Memory::Low, Memory::Out];

/// What one shard writes. Its numbers fill cache lines of their own: shards that count do not slow
/// each other.
#[derive(Debug, Default)]
#[repr(align(128))]
struct PerShard<C> {
    stats: Stats,
    counters: Mutex<C>,
    histograms: DoubleBuffer,
    /// What the machine told of itself last.
    roster: Mutex<Vec<u8>>,
}

impl<C: Copy + Default> SharedMetrics<C> {
    /// A board of zeros for so many shards.
    pub fn new(shards: u16) -> Arc<Self> {
        let shards = (0..shards).map(|_| PerShard::default()).collect();
        Arc::new(Self { shards, memory: AtomicU8::new(0), rosters_until: AtomicU64::new(0) })
    }

    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    /// What a shard's driver counts.
    pub fn stats(&self, shard: ShardId) -> &Stats {
        &self.shards[usize::from(shard.0)].stats
    }

    /// What a shard's machine counted as of its last turn.
    pub fn counters(&self, shard: ShardId) -> C {
        *self.shards[usize::from(shard.0)].counters.lock()
    }

    /// Shows to `read` what a shard measured since the last call, one set for each second or so.
    pub fn collect(&self, shard: ShardId, read: impl FnMut(&Histograms)) {
        self.shards[usize::from(shard.0)].histograms.collect(read);
    }

    /// Tells all shards how much memory the process has left. They hear of it within a second.
    pub fn set_memory(&self, memory: Memory) {
        let place = MEMORY.iter().position(|other| *other == memory).unwrap_or_default();
        self.memory.store(place as u8, Ordering::Relaxed);
    }

    /// Asks all shards for rosters, once a second, until that time.
    pub fn want_rosters(&self, until: Micros) {
        self.rosters_until.fetch_max(until.as_micros(), Ordering::Relaxed);
    }

    /// What a shard's machine told of itself last, as JSON; empty if nobody had asked for it.
    pub fn roster(&self, shard: ShardId) -> Vec<u8> {
        self.shards[usize::from(shard.0)].roster.lock().clone()
    }

    pub(crate) fn memory(&self) -> Memory {
        MEMORY.get(usize::from(self.memory.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    pub(crate) fn histograms(&self, shard: ShardId) -> &DoubleBuffer {
        &self.shards[usize::from(shard.0)].histograms
    }

    /// Has a roster written, if one is wanted and nobody is reading the last one.
    pub(crate) fn write_roster(
        &self,
        shard: ShardId,
        now: Micros,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if now.as_micros() < self.rosters_until.load(Ordering::Relaxed)
            && let Some(mut roster) = self.shards[usize::from(shard.0)].roster.try_lock()
        {
            roster.clear();
            write(&mut roster);
        }
    }

    /// Shows a machine's counters. False if somebody is reading them: a shard never waits, it tries
    /// again.
    pub(crate) fn publish(&self, shard: ShardId, counters: C) -> bool {
        let shown = self.shards[usize::from(shard.0)].counters.try_lock();
        shown.map(|mut shown| *shown = counters).is_some()
    }
}

/// What the driver of one shard counts since its start. Times are in microseconds.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections accepted from the listener.
    pub accepted: Counter,
    /// Connections refused because the process had no descriptor for them.
    pub refused: Counter,
    /// Connections that came from another shard.
    pub arrived: Counter,
    /// Connections given to another shard.
    pub departed: Counter,
    /// Connections open now, those included that are only waiting for their end.
    pub open: Counter,
    /// Times that a connection could not be given away at once because the other shard's mailbox
    /// was full.
    pub mailbox_full: Counter,
    /// The most connections that waited in this shard's mailbox at once.
    pub mail_max: Peak,
    /// Bytes read.
    pub bytes_in: Counter,
    /// Bytes that the kernel took.
    pub bytes_out: Counter,
    /// Reads from sockets that gave bytes.
    pub reads: Counter,
    /// Writes to sockets.
    pub sends: Counter,
    /// Writes of which the kernel did not take everything.
    pub short_sends: Counter,
    /// Volatile frames that a connection went without.
    pub volatile_dropped: Counter,
    /// Bytes now that the kernel did not take yet, of all connections.
    pub unsent: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Time spent in turns: from waking to sleeping.
    pub turn_time: Counter,
    /// The longest turn.
    pub turn_time_max: Peak,
    /// Turns begun by the alarm.
    pub alarms: Counter,
    /// How much later than their deadline these turns began, in all.
    pub lateness: Counter,
    /// The latest.
    pub lateness_max: Peak,
}

/// A number that one thread counts and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts on. There is one writer only, so a load and a store do, which cost no locked
    /// instruction.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// Counts back, for what is open now.
    pub(crate) fn sub(&self, count: u64) {
        self.0.store(self.get().wrapping_sub(count), Ordering::Relaxed);
    }
}

/// The highest of the values seen since somebody last took it.
#[derive(Debug, Default)]
pub struct Peak(AtomicU64);

impl Peak {
    /// The highest so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// The highest so far; the next begins at zero.
    pub fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn see(&self, value: u64) {
        if value > self.get() {
            self.0.fetch_max(value, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_does_not_wait_for_a_reader() {
        let board = SharedMetrics::<u64>::new(2);
        let shard = ShardId(1);
        assert!(board.publish(shard, 5));
        let reader = board.shards[1].counters.lock();
        assert!(!board.publish(shard, 6));
        drop(reader);
        assert_eq!((board.counters(ShardId(0)), board.counters(shard)), (0, 5));
        assert!(board.publish(shard, 6));
        assert_eq!(board.counters(shard), 6);
    }

    #[test]
    fn a_peak_that_was_taken_begins_anew() {
        let peak = Peak::default();
        for micros in [3, 9, 4] {
            peak.see(micros);
        }
        assert_eq!((peak.take(), peak.get()), (9, 0));
    }
}
