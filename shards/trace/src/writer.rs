//! The writer thread: writes the full buffers of all shards into files.

use std::hash::RandomState;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bandsync_engine::words::time::Micros;
use crossbeam_channel::{Receiver, Sender};

use super::format::{End, EntryBlock, Header, Packer};
use super::redactor::Redactor;
use super::store::{SegmentFile, SegmentStore};
use crate::plan::RecordPlan;

/// The suffix of all traces.
const SUFFIX: &str = ".trace";

/// A full buffer.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) shard: u16,
    /// The start of the block, as in [`EntryBlock`].
    pub(super) first: u64,
    pub(super) since: Micros,
    pub(super) sum: u32,
    /// Packed entries, with secrets.
    pub(super) entries: Vec<u8>,
    /// The end, if this is the shard's last buffer.
    pub(super) end: Option<End>,
}

pub(super) struct Writer {
    store: Box<dyn SegmentStore>,
    plan: RecordPlan,
    /// The key of all redactors.
    key: RandomState,
    packer: Packer,
    /// The next bytes to write. Kept to reuse its memory.
    bytes: Vec<u8>,
    shards: Vec<ShardSegments>,
    /// Whether a warning was logged.
    warned: bool,
}

/// The state of one shard.
struct ShardSegments {
    header: Header,
    redactor: Redactor,
    give_back: Sender<Vec<u8>>,
    rejected: Arc<AtomicBool>,
    /// The file; `None` once recording has stopped.
    segment: Option<Segment>,
}

struct Segment {
    file: Box<dyn SegmentFile>,
    /// Bytes of whole blocks, and those without the last block.
    length: u64,
    length_before: u64,
    since: Micros,
}

impl Writer {
    pub(super) fn new(store: Box<dyn SegmentStore>, plan: &RecordPlan) -> Self {
        Self {
            store,
            plan: plan.clone(),
            key: RandomState::new(),
            packer: Packer::default(),
            bytes: Vec::new(),
            shards: Vec::new(),
            warned: false,
        }
    }

    /// Adds the next shard.
    pub(super) fn add(
        &mut self,
        header: Header,
        give_back: Sender<Vec<u8>>,
        rejected: Arc<AtomicBool>,
    ) -> io::Result<()> {
        let redactor = Redactor::new(self.key.clone());
        let segment = Some(self.open(&header, Micros::ZERO)?);
        self.shards.push(ShardSegments { header, redactor, give_back, rejected, segment });
        Ok(())
    }

    /// Writes until all shards have ended.
    pub(super) fn run(mut self, batches: &Receiver<Batch>) {
        while let Ok(mut batch) = batches.recv() {
            let shard = usize::from(batch.shard);
            if let Err(error) = self.write(shard, &mut batch) {
                self.stop(shard, &format!("the disk cannot be written: {error}"));
            }
            if let Some(End::Stopped(why)) = batch.end {
                self.warn(&why);
            }
            batch.entries.clear();
            // Fails if the shard has ended and needs no buffer.
            let _ = self.shards[shard].give_back.try_send(batch.entries);
        }
    }

    fn write(&mut self, shard: usize, batch: &mut Batch) -> io::Result<()> {
        // Redact even if it is not written: later input continues from this state.
        self.shards[shard].redactor.redact(&mut batch.entries);
        self.rotate(shard, batch.since)?;
        let Some(segment) = &mut self.shards[shard].segment else { return Ok(()) };
        if !batch.entries.is_empty() {
            self.bytes.clear();
            let Batch { first, since, sum, .. } = *batch;
            let block = EntryBlock { first, at: since, digest: sum, entries: &batch.entries };
            self.packer.entries(&mut self.bytes, &block);
            segment.put(&self.bytes)?;
        }
        if let Some(end) = &batch.end {
            self.bytes.clear();
            self.packer.end(&mut self.bytes, end);
            segment.put(&self.bytes)?;
            self.shards[shard].segment = None;
        }
        Ok(())
    }

    /// Continues in another file if this one is full or old.
    fn rotate(&mut self, shard: usize, at: Micros) -> io::Result<()> {
        let Some(segment) = &self.shards[shard].segment else { return Ok(()) };
        let is_full = segment.length >= self.plan.file_bytes_max;
        if !is_full && at.since(segment.since) < self.plan.file_span_max {
            return Ok(());
        }
        let mut header = self.shards[shard].header.clone();
        header.segment += 1;
        let next = self.open(&header, at)?;
        self.shards[shard].header = header;
        self.bytes.clear();
        self.packer.end(&mut self.bytes, &End::Rotated);
        match self.shards[shard].segment.replace(next) {
            Some(mut segment) => segment.put(&self.bytes),
            None => Ok(()),
        }
    }

    fn open(&mut self, header: &Header, since: Micros) -> io::Result<Segment> {
        let shard = header.settings.shard.0;
        let name = format!("{}-shard{shard}-{:06}{SUFFIX}", self.plan.name, header.segment);
        let file = self.store.create(&name)?;
        let mut segment = Segment { file, length: 0, length_before: 0, since };
        self.bytes.clear();
        self.packer.header(&mut self.bytes, header);
        if let Err(error) = segment.put(&self.bytes) {
            // A file without its header is useless.
            let _ = self.store.remove(&name);
            return Err(error);
        }
        segment.length_before = segment.length;
        self.prune(shard);
        Ok(segment)
    }

    /// Removes the oldest files of a shard beyond the maximum.
    fn prune(&mut self, shard: u16) {
        let Ok(mut names) = self.store.names() else { return };
        let marker = format!("-shard{shard}-");
        names.retain(|name| name.ends_with(SUFFIX) && name.contains(&marker));
        names.sort();
        let surplus = names.len().saturating_sub(self.plan.files_max as usize);
        for name in &names[..surplus] {
            if let Err(error) = self.store.remove(name) {
                log::debug!("removing {name}: {error}");
            }
        }
    }

    /// Ends a shard's trace because it cannot be written, with a mark if there is room for one.
    fn stop(&mut self, shard: usize, why: &str) {
        self.bytes.clear();
        self.packer.end(&mut self.bytes, &End::Stopped(why.to_owned()));
        self.shards[shard].rejected.store(true, Ordering::Relaxed);
        if let Some(segment) = self.shards[shard].segment.take() {
            segment.mark(&self.bytes);
        }
        self.warn(why);
    }

    /// Warns once: the cause that stops one shard's recording will stop the others too.
    fn warn(&mut self, why: &str) {
        if !std::mem::replace(&mut self.warned, true) {
            log::warn!("recording stops, the server goes on: {why}");
        }
    }
}

impl Segment {
    fn put(&mut self, block: &[u8]) -> io::Result<()> {
        self.file.write_all(block)?;
        self.length_before = self.length;
        self.length += block.len() as u64;
        Ok(())
    }

    /// Removes a block that was written in part, then appends a mark; if the disk is full, in place
    /// of the last block.
    fn mark(mut self, mark: &[u8]) {
        for length in [self.length, self.length_before] {
            if self.file.cut(length).is_ok() && self.file.write_all(mark).is_ok() {
                return;
            }
        }
        // If even that fails, a reader still reads up to the last whole block.
        let _ = self.file.cut(self.length_before);
    }
}
