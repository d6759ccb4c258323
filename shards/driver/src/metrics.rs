//! Shared metrics: numbers that every shard writes, and that any thread may read while the server
//! runs. A shard never waits for a reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use bandsync_engine::io::FreeMemory;
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;
use parking_lot::Mutex;

use crate::telemetry::{DoubleBuffer, Histograms};

/// The metrics of all shards. They exist before the shards start, so that the code that answers
/// `/metrics` can hold them.
#[derive(Debug)]
pub struct SharedMetrics<C> {
    shards: Vec<PerShard<C>>,
    /// The memory that the process has left, as an index in [`MEMORY`].
    memory: AtomicU8,
    /// The time until which rosters are wanted, in microseconds of the server's clock.
    rosters_until: AtomicU64,
}

/// Values of [`SharedMetrics::set_memory`].
const MEMORY: [FreeMemory; 3] = [FreeMemory::Enough, FreeMemory::Low, FreeMemory::Out];

/// The metrics of one shard. They fill cache lines of their own, so that shards that count do not
/// slow each other down.
#[derive(Debug, Default)]
#[repr(align(128))]
struct PerShard<C> {
    stats: Stats,
    counters: Mutex<C>,
    histograms: DoubleBuffer,
    /// The last roster of the machine.
    roster: Mutex<Vec<u8>>,
}

impl<C: Copy + Default> SharedMetrics<C> {
    /// Creates metrics of zero for this number of shards.
    pub fn new(shards: u16) -> Arc<Self> {
        let shards = (0..shards).map(|_| PerShard::default()).collect();
        Arc::new(Self { shards, memory: AtomicU8::new(0), rosters_until: AtomicU64::new(0) })
    }

    /// Returns the number of shards.
    pub fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    /// Returns the counters of a shard's driver.
    pub fn stats(&self, shard: ShardId) -> &Stats {
        &self.shards[usize::from(shard.0)].stats
    }

    /// Returns the counters of a shard's machine, as of its last turn.
    pub fn counters(&self, shard: ShardId) -> C {
        *self.shards[usize::from(shard.0)].counters.lock()
    }

    /// Passes to `read` the histograms of a shard since the last call, about one set per second.
    pub fn collect(&self, shard: ShardId, read: impl FnMut(&Histograms)) {
        self.shards[usize::from(shard.0)].histograms.collect(read);
    }

    /// Reports to all shards how much memory the process has left. They learn of it within a
    /// second.
    pub fn set_memory(&self, memory: FreeMemory) {
        let index = MEMORY.iter().position(|other| *other == memory).unwrap_or_default();
        self.memory.store(index as u8, Ordering::Relaxed);
    }

    /// Asks all shards for a roster each second, until this time.
    pub fn want_rosters(&self, until: Micros) {
        self.rosters_until.fetch_max(until.as_micros(), Ordering::Relaxed);
    }

    /// Returns the last roster of a shard's machine, as JSON. Empty if none was asked for.
    pub fn roster(&self, shard: ShardId) -> Vec<u8> {
        self.shards[usize::from(shard.0)].roster.lock().clone()
    }

    pub(crate) fn memory(&self) -> FreeMemory {
        MEMORY.get(usize::from(self.memory.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    pub(crate) fn histograms(&self, shard: ShardId) -> &DoubleBuffer {
        &self.shards[usize::from(shard.0)].histograms
    }

    /// Writes a roster by `write`, if one is wanted and no thread is reading the last one.
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

    /// Publishes a machine's counters. Returns false if a thread is reading them; the shard does
    /// not wait, but tries again.
    pub(crate) fn publish(&self, shard: ShardId, counters: C) -> bool {
        let shown = self.shards[usize::from(shard.0)].counters.try_lock();
        shown.map(|mut shown| *shown = counters).is_some()
    }
}

/// The counters of one shard's driver since its start. Times are in microseconds.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections accepted from the listener.
    pub accepted: Counter,
    /// Connections rejected because the process had no descriptor for them.
    pub rejected: Counter,
    /// Connections that came from another shard.
    pub arrived: Counter,
    /// Connections handed over to another shard.
    pub departed: Counter,
    /// Connections open now, including those that are closing.
    pub open: Counter,
    /// Times that mail had to wait because the other shard's mailbox was full.
    pub mailbox_full: Counter,
    /// Highest number of connections and messages that waited in this shard's mailbox at once.
    pub mail_max: Peak,
    /// Bytes read.
    pub bytes_in: Counter,
    /// Bytes that the kernel accepted.
    pub bytes_out: Counter,
    /// Reads from sockets that returned bytes.
    pub reads: Counter,
    /// Writes to sockets.
    pub sends: Counter,
    /// Writes of which the kernel accepted only a part.
    pub short_sends: Counter,
    /// Volatile frames that were dropped.
    pub volatile_dropped: Counter,
    /// Bytes that the kernel has not accepted yet, of all connections, now.
    pub unsent: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Time spent in turns: from waking to sleeping.
    pub turn_time: Counter,
    /// The longest turn.
    pub turn_time_max: Peak,
    /// Turns that began because a deadline had passed.
    pub alarms: Counter,
    /// Total delay of these turns after their deadlines.
    pub lateness: Counter,
    /// Longest delay of such a turn.
    pub lateness_max: Peak,
}

/// A number that one thread counts and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Returns the current number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds `count`. Only the shard writes, so a load and a store are enough, and no locked
    /// instruction is needed.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// Subtracts `count`, for numbers that are a current state.
    pub(crate) fn sub(&self, count: u64) {
        debug_assert!(count <= self.get(), "{count} subtracted from {}", self.get());
        self.0.store(self.get().wrapping_sub(count), Ordering::Relaxed);
    }
}

/// The highest of the values seen since the last [`Peak::take`].
#[derive(Debug, Default)]
pub struct Peak(AtomicU64);

impl Peak {
    /// Returns the highest value so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Returns the highest value so far, and starts again at zero.
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
        let metrics = SharedMetrics::<u64>::new(2);
        let shard = ShardId(1);
        assert!(metrics.publish(shard, 5));
        let reader = metrics.shards[1].counters.lock();
        assert!(!metrics.publish(shard, 6));
        drop(reader);
        assert_eq!((metrics.counters(ShardId(0)), metrics.counters(shard)), (0, 5));
        assert!(metrics.publish(shard, 6));
        assert_eq!(metrics.counters(shard), 6);
    }

    #[test]
    fn taking_a_peak_resets_it() {
        let peak = Peak::default();
        for micros in [3, 9, 4] {
            peak.see(micros);
        }
        assert_eq!((peak.take(), peak.get()), (9, 0));
    }
}
