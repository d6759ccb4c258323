//! The histograms of a shard. Its thread fills them, and once a second another thread collects
//! them, without locks or allocation: of two sets per shard, one is filled while the other is read.

use bandsync_engine::words::time::Micros;
use crossbeam_channel::{Receiver, Sender, bounded};
use hdrhistogram::Histogram;

use crate::laps::LongestTurn;

/// Interval at which a shard offers its histograms. The shard wakes for this even if nothing else
/// happens, so that the monitor can tell an idle shard from one that hangs.
pub(crate) const COLLECT_INTERVAL: Micros = Micros::from_secs(1);

/// Number of sets per shard.
const SETS: usize = 2;

/// Highest value of a histogram: one minute in nanoseconds. Longer times count as this.
const LONGEST: u64 = 60_000_000_000;

/// Significant digits of a value: its error is at most 1 %.
const DIGITS: u8 = 2;

/// The measurements of one shard in about a second. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct Histograms {
    /// Time that the machine took for one input: bytes, a connection from another shard, an answer,
    /// or the end of the turn, when it sends ticks and whatever else is due.
    pub handler: Histogram<u32>,
    /// Delay of a session's tick after its deadline, until the machine has made it. The kernel has
    /// its bytes at the end of the turn.
    pub tick_lateness: Histogram<u32>,
    /// Duration of turns, from waking to sleeping.
    pub turn: Histogram<u32>,
    /// Round trips of the application's heartbeat.
    pub round_trip: Histogram<u32>,
    /// Number of connections and messages that waited in the mailbox when the shard looked. Not a
    /// time.
    pub queue: Histogram<u32>,
    /// The longest turn, and what it did.
    pub longest_turn: LongestTurn,
}

impl Histograms {
    /// Creates empty histograms.
    pub fn new() -> Self {
        let empty = || {
            let made = Histogram::new_with_bounds(1, LONGEST, DIGITS);
            made.unwrap_or_else(|error| panic!("the bounds are ours: {error}"))
        };
        Self {
            handler: empty(),
            tick_lateness: empty(),
            turn: empty(),
            round_trip: empty(),
            queue: empty(),
            longest_turn: LongestTurn::default(),
        }
    }

    /// Returns the histograms in the order of their fields.
    pub fn all(&self) -> [&Histogram<u32>; 5] {
        [&self.handler, &self.tick_lateness, &self.turn, &self.round_trip, &self.queue]
    }

    fn reset(&mut self) {
        for histogram in [
            &mut self.handler,
            &mut self.tick_lateness,
            &mut self.turn,
            &mut self.round_trip,
            &mut self.queue,
        ] {
            histogram.reset();
        }
        self.longest_turn = LongestTurn::default();
    }
}

impl Default for Histograms {
    fn default() -> Self {
        Self::new()
    }
}

/// Two queues between the shard, which fills sets, and the thread that reads them.
#[derive(Debug)]
pub(crate) struct DoubleBuffer {
    full: (Sender<Box<Histograms>>, Receiver<Box<Histograms>>),
    empty: (Sender<Box<Histograms>>, Receiver<Box<Histograms>>),
}

impl Default for DoubleBuffer {
    fn default() -> Self {
        let (full, empty) = (bounded(SETS), bounded(SETS));
        for _ in 0..SETS {
            // The queue has room for exactly these sets.
            let _ = empty.0.try_send(Box::new(Histograms::new()));
        }
        Self { full, empty }
    }
}

impl DoubleBuffer {
    /// Takes an empty set, if the reader has returned one.
    pub(crate) fn empty(&self) -> Option<Box<Histograms>> {
        self.empty.1.try_recv().ok()
    }

    /// Exchanges `histograms` for an empty set. If the reader has not returned one, the shard keeps
    /// filling the same set.
    pub(crate) fn swap(&self, histograms: &mut Box<Histograms>) {
        if let Some(empty) = self.empty() {
            let full = std::mem::replace(histograms, empty);
            let sent = self.full.0.try_send(full);
            debug_assert!(sent.is_ok(), "the queue has room for all {SETS} sets");
        }
    }

    /// Passes every full set to `read`, and returns it to the shard, empty.
    pub(crate) fn collect(&self, mut read: impl FnMut(&Histograms)) {
        while let Ok(mut histograms) = self.full.1.try_recv() {
            read(&histograms);
            histograms.reset();
            let sent = self.empty.0.try_send(histograms);
            debug_assert!(sent.is_ok(), "the queue has room for all {SETS} sets");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reader_gets_each_value_once_while_the_shard_keeps_recording() {
        let buffer = DoubleBuffer::default();
        let mut filling = buffer.empty().unwrap();
        let mut seen = 0;
        let mut longest = Vec::new();
        for round in 1..=10 {
            for _ in 0..round {
                filling.turn.saturating_record(round);
            }
            let turn = LongestTurn { nanos: 100 - round, ..LongestTurn::default() };
            filling.longest_turn = filling.longest_turn.or(turn);
            buffer.swap(&mut filling);
            // A reader that is late by a round or two loses nothing.
            if round % 3 == 0 {
                buffer.collect(|histograms| {
                    seen += histograms.turn.len();
                    longest.push(histograms.longest_turn.nanos);
                });
            }
        }
        // Values that the reader was too late for are still in the shard's set.
        buffer.collect(|histograms| seen += histograms.turn.len());
        assert_eq!(seen + filling.turn.len(), 55);
        assert!(longest.is_sorted_by(|a, b| a > b), "the longest turn is not that of a set before");
    }

    #[test]
    fn durations_beyond_the_longest_count_as_the_longest() {
        let mut histograms = Histograms::new();
        histograms.handler.saturating_record(u64::MAX);
        let max = histograms.handler.max() as f64;
        assert!((max / LONGEST as f64 - 1.0).abs() < 0.5, "{max}");
    }

    /// Measures the cost of measuring an input: one reading of the clock and one count. It asserts
    /// no time, because machines differ. To see it, run `cargo test -p bandsync-driver --release
    /// telemetry -- --nocapture`.
    #[test]
    fn measuring_an_input_counts_it_once() {
        const INPUTS: u64 = 100_000;
        let clock = crate::clock::Clock::start();
        let mut histograms = Histograms::new();
        let began = clock.nanos();
        let mut last = began;
        for _ in 0..INPUTS {
            let now = clock.nanos();
            histograms.handler.saturating_record(now - last);
            last = now;
        }
        eprintln!("{} ns to measure an input", (last - began) / INPUTS);
        assert_eq!(histograms.handler.len(), INPUTS);
    }
}
