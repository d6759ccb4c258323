//! Records the inputs of each shard's machine, and a digest of its outputs, for `bandsync replay`.
//!
//! A shard packs its inputs into a buffer and passes full buffers to one writer thread, which
//! redacts, compresses and writes them. The number of buffers is fixed, and they are reused: a
//! shard never waits and allocates nothing. If no buffer is left, or the disk cannot be written,
//! recording stops and the server goes on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use bandsync_engine::io::tap::Tap;
use bandsync_engine::io::{Input, Outputs, Settings};
use bandsync_engine::trace::{self, Digest, Outcome, Recorded};
use bandsync_engine::words::time::Micros;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::format::{self, End, Header};
use crate::plan::RecordPlan;
use crate::store::{Directory, SegmentStore};
use crate::writer::{Batch, Writer};

/// A buffer is passed on when it holds this many bytes,
const BUFFER_BYTES: usize = 64 * 1024;
/// or when its first input is this old.
const BUFFER_SPAN: Micros = Micros::from_secs(1);

/// Buffers per shard: some seconds of a busy shard, while the disk is slow. Guessed.
const BUFFERS: usize = 64;

/// Records the shards of one run.
#[derive(Debug)]
pub struct Recorder {
    batches: Sender<Batch>,
    backlog: Backlog,
    shards: Vec<ShardLink>,
    thread: JoinHandle<()>,
}

/// The buffers that wait to be written.
#[derive(Clone, Debug)]
pub struct Backlog(Receiver<Batch>);

impl Backlog {
    /// Buffers that wait now.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no buffer waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Buffers that could wait.
    pub fn capacity(&self) -> usize {
        self.0.capacity().unwrap_or_default()
    }
}

/// The queues between a shard and the writer.
#[derive(Debug)]
struct ShardLink {
    /// Empty buffers.
    empty: Receiver<Vec<u8>>,
    /// Set by the writer when it accepts no more buffers.
    rejected: Arc<AtomicBool>,
}

impl Recorder {
    /// Starts to record shards with these settings, one file each.
    ///
    /// # Errors
    /// If the directory or a file cannot be created.
    pub fn start(plan: &RecordPlan, settings: &[Settings]) -> io::Result<Self> {
        let store = Directory::open(&plan.directory)?;
        Self::start_on(Box::new(store), plan, settings)
    }

    fn start_on(
        store: Box<dyn SegmentStore>,
        plan: &RecordPlan,
        settings: &[Settings],
    ) -> io::Result<Self> {
        let (batches, received) = bounded(settings.len() * (BUFFERS + 1));
        let backlog = Backlog(received.clone());
        let mut writer = Writer::new(store, plan);
        let mut shards = Vec::new();
        for settings in settings {
            let (give_back, empty) = bounded(BUFFERS + 1);
            for _ in 0..BUFFERS {
                // Twice the limit, so that a buffer has room for one more read of a socket.
                let _ = give_back.try_send(Vec::with_capacity(2 * BUFFER_BYTES));
            }
            let rejected = Arc::new(AtomicBool::new(false));
            let header = Header {
                program: plan.program.clone(),
                run: plan.run,
                segment: 0,
                settings: settings.clone(),
            };
            writer.add(header, give_back, Arc::clone(&rejected))?;
            shards.push(ShardLink { empty, rejected });
        }
        let thread = Builder::new().name("recorder".into()).spawn(move || writer.run(&received))?;
        Ok(Self { batches, backlog, shards, thread })
    }

    /// Returns the queue of buffers to be written.
    pub fn backlog(&self) -> Backlog {
        self.backlog.clone()
    }

    /// Returns the tap of a shard, by its index in the settings.
    pub fn tap(&self, shard: u16) -> ShardRecorder {
        let ShardLink { empty, rejected } = &self.shards[usize::from(shard)];
        ShardRecorder {
            shard,
            batches: self.batches.clone(),
            empty: empty.clone(),
            rejected: Arc::clone(rejected),
            buffer: empty.try_recv().ok(),
            first: 0,
            since: Micros::ZERO,
            sum: 0,
            index: 0,
            at: Micros::ZERO,
            digest: Digest::default(),
            awaits_outcome: false,
            is_turns_end: false,
        }
    }

    /// Waits until everything is written. The shards must have ended.
    pub fn finish(self) {
        drop(self.batches);
        drop(self.shards);
        if self.thread.join().is_err() {
            log::error!("the recorder has panicked: the traces end too early");
        }
    }
}

/// Records one shard. Dropping it ends the shard's trace.
pub struct ShardRecorder {
    shard: u16,
    batches: Sender<Batch>,
    empty: Receiver<Vec<u8>>,
    rejected: Arc<AtomicBool>,
    /// The buffer being filled; `None` once recording has stopped.
    buffer: Option<Vec<u8>>,
    /// Start of the block in the buffer: number of inputs before, time, and digest.
    first: u64,
    since: Micros,
    sum: u32,
    /// Number of inputs so far, time of the last, and digest of all outputs.
    index: u64,
    at: Micros,
    digest: Digest,
    /// Whether the last input has no outcome yet, and whether it ended a turn.
    awaits_outcome: bool,
    is_turns_end: bool,
}

impl Tap for ShardRecorder {
    fn input(&mut self, at: Micros, input: &Input<'_>) {
        let Some(buffer) = &mut self.buffer else { return };
        debug_assert!(!self.awaits_outcome, "every input has an outcome");
        format::write_input(buffer, at.since(self.at), &Recorded::of(input));
        self.at = at;
        self.awaits_outcome = true;
        self.is_turns_end = matches!(input, Input::TurnEnded);
    }

    fn outputs(&mut self, outputs: &Outputs, from: usize) {
        let Some(buffer) = &mut self.buffer else { return };
        let count = (outputs.list.len() - from) as u32;
        let outcome = if count == 0 {
            Outcome::Nothing
        } else {
            self.digest.add(outputs, from);
            Outcome::Outputs { count, digest: self.digest.sum() }
        };
        trace::write_outcome(buffer, outcome);
        self.awaits_outcome = false;
        self.index += 1;
        let is_full = buffer.len() >= BUFFER_BYTES;
        if is_full || self.is_turns_end && self.at.since(self.since) >= BUFFER_SPAN {
            self.next_buffer();
        }
    }
}

impl ShardRecorder {
    fn next_buffer(&mut self) {
        if self.rejected.load(Ordering::Relaxed) {
            self.buffer = None;
            return;
        }
        match self.empty.try_recv() {
            Ok(empty) => {
                self.give_away(None);
                self.buffer = Some(empty);
            }
            Err(_) => self.give_away(Some(End::Stopped("the disk is too slow".into()))),
        }
    }

    fn give_away(&mut self, end: Option<End>) {
        let Some(entries) = self.buffer.take() else { return };
        let Self { shard, first, since, sum, .. } = *self;
        // There is room for every buffer, so this fails only if the writer has panicked.
        let _ = self.batches.try_send(Batch { shard, first, since, sum, entries, end });
        (self.first, self.since, self.sum) = (self.index, self.at, self.digest.sum());
    }
}

impl Drop for ShardRecorder {
    fn drop(&mut self) {
        let Some(buffer) = &mut self.buffer else { return };
        let end = if self.awaits_outcome {
            trace::write_outcome(buffer, Outcome::Panic);
            End::Panicked
        } else {
            End::Finished
        };
        self.give_away(Some(end));
    }
}

#[cfg(test)]
mod tests;
