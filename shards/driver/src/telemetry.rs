//! What a shard measures: histograms that its thread fills and another takes away, once a second,
//! without a lock and without allocation. There are two sets per shard; one is filled while the
//! other is read.

use bandsync_engine::words::time::Micros;
use crossbeam_channel::{Receiver, Sender, bounded};
use hdrhistogram::Histogram;

/// How often a shard hands over what it measured. It wakes for this even if nothing else happens,
/// so that whoever watches can tell a quiet shard from one that hangs.
pub(crate) const COLLECT_INTERVAL: Micros = Micros::from_secs(1);

/// Sets in use for each shard.
const SETS: usize = 2;

/// One minute in nanoseconds: what takes longer counts as that.
const LONGEST: u64 = 60_000_000_000;

/// Two digits that hold: a value is told to within one percent.
const DIGITS: u8 = 2;

/// What one shard measured in about a second. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct Histograms {
    /// Time that the machine took for one input: bytes, a connection from another shard, an answer,
    /// or the end of the turn, at which it makes ticks and all that is due.
    pub handler: Histogram<u32>,
    /// How much later than its deadline a session's tick was made. Its bytes are with the kernel
    /// when the turn's writes are done, so at most a turn later.
    pub tick_lateness: Histogram<u32>,
    /// Turns of the loop that did something, from waking to sleeping.
    pub turn: Histogram<u32>,
    /// Round trips of the application's heartbeat.
    pub round_trip: Histogram<u32>,
    /// Not a time: connections from other shards that waited in the mailbox when the shard looked.
    pub queue: Histogram<u32>,
}

impl Histograms {
    /// Empty ones.
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
        }
    }

    /// All five, in the order of their fields.
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
    }
}

impl Default for Histograms {
    fn default() -> Self {
        Self::new()
    }
}

/// The two queues between the shard that fills and the thread that reads.
#[derive(Debug)]
pub(crate) struct DoubleBuffer {
    full: (Sender<Box<Histograms>>, Receiver<Box<Histograms>>),
    empty: (Sender<Box<Histograms>>, Receiver<Box<Histograms>>),
}

impl Default for DoubleBuffer {
    fn default() -> Self {
        let (full, empty) = (bounded(SETS), bounded(SETS));
        for _ in 0..SETS {
            // There is room for exactly these.
            let _ = empty.0.try_send(Box::new(Histograms::new()));
        }
        Self { full, empty }
    }
}

impl DoubleBuffer {
    /// An empty set, unless all are with the reader.
    pub(crate) fn empty(&self) -> Option<Box<Histograms>> {
        self.empty.1.try_recv().ok()
    }

    /// Gives `histograms` away for an empty set. If the reader has not returned one, the shard fills
    /// on.
    pub(crate) fn swap(&self, histograms: &mut Box<Histograms>) {
        if let Some(empty) = self.empty() {
            let full = std::mem::replace(histograms, empty);
            // There are no more sets than places.
            let _ = self.full.0.try_send(full);
        }
    }

    /// Shows every full set to `read` and returns it, empty.
    pub(crate) fn collect(&self, mut read: impl FnMut(&Histograms)) {
        while let Ok(mut histograms) = self.full.1.try_recv() {
            read(&histograms);
            histograms.reset();
            let _ = self.empty.0.try_send(histograms);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reader_gets_each_value_once_and_the_shard_fills_on() {
        let buffer = DoubleBuffer::default();
        let mut filling = buffer.empty().unwrap();
        let mut seen = 0;
        for round in 1..=10 {
            for _ in 0..round {
                filling.turn.saturating_record(round);
            }
            buffer.swap(&mut filling);
            // A reader that is late by a round or two loses nothing.
            if round % 3 == 0 {
                buffer.collect(|histograms| seen += histograms.turn.len());
            }
        }
        // Whatever the reader was too late for is in the shard's hands.
        buffer.collect(|histograms| seen += histograms.turn.len());
        assert_eq!(seen + filling.turn.len(), 55);
    }

    #[test]
    fn what_takes_too_long_counts_as_a_minute() {
        let mut histograms = Histograms::new();
        histograms.handler.saturating_record(u64::MAX);
        let max = histograms.handler.max() as f64;
        assert!((max / LONGEST as f64 - 1.0).abs() < 0.5, "{max}");
    }

    /// What one input costs to measure: a reading of the clock and a count. It asserts no time, as
    /// machines differ; `cargo test -p bandsync-driver --release telemetry -- --nocapture` shows it.
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
