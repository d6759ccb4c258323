//! The inputs of a run in memory, so that parts of it can be played and written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use bandsync_engine::io::CloseCause;
use bandsync_engine::trace::{self, Outcome, Recorded};
use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;
use bandsync_trace::format::{self, End, Entry, EntryBlock, Header, Packer};
use bandsync_trace::reader::{Fault, Run};

use crate::cli::progress::Progress;
use crate::cli::stage::Stage;

/// Inputs in order.
#[derive(Clone)]
pub struct Script {
    /// The header of the trace.
    pub header: Header,
    /// The inputs.
    pub takes: Vec<Take>,
}

/// One input.
#[derive(Clone, Debug, PartialEq)]
pub struct Take {
    /// The time of the input.
    pub at: Micros,
    /// The recorded outputs.
    pub outcome: Outcome,
    /// The input as bytes, with its time set to zero.
    input: Vec<u8>,
}

impl Take {
    fn new(at: Micros, outcome: Outcome, input: &Recorded<'_>) -> Self {
        let mut packed = Vec::new();
        trace::write_input(&mut packed, Micros::ZERO, input);
        Self { at, outcome, input: packed }
    }

    /// Returns the input.
    pub fn input(&self) -> Recorded<'_> {
        // `Script::read` has packed these bytes, so they can be read.
        trace::read_input(&mut &self.input[..]).map_or(Recorded::TurnEnded, |(_, input)| input)
    }

    /// Returns the connection that the input belongs to, if any.
    pub fn conn(&self) -> Option<ConnId> {
        match self.input() {
            Recorded::Opened { conn, .. }
            | Recorded::Arrived { conn, .. }
            | Recorded::Received { conn, .. }
            | Recorded::Closed { conn, .. }
            | Recorded::Backlog { conn, .. }
            | Recorded::Responded { conn, .. } => Some(conn),
            Recorded::Storage { .. }
            | Recorded::Node { .. }
            | Recorded::WallClock { .. }
            | Recorded::ShardMessage { .. }
            | Recorded::Memory(_)
            | Recorded::Drain
            | Recorded::TurnEnded => None,
        }
    }
}

impl Script {
    /// Reads a whole run.
    pub fn read(run: &Run) -> Result<Self, Fault> {
        let mut takes = Vec::new();
        let mut progress = Progress::new(run.bytes);
        run.each(
            |by| progress.advance(by),
            |entry| {
                takes.push(Take::new(entry.at, entry.outcome, &entry.input));
                ControlFlow::Continue(())
            },
        )?;
        Ok(Self { header: run.header.clone(), takes })
    }

    /// Returns the run without the inputs that `keep` rejects. Repairs it so that a driver could
    /// have sent it: an input of a connection that was not opened is removed, and a connection that
    /// is still open when its slot is taken again is closed first.
    pub fn thinned(&self, mut keep: impl FnMut(usize, &Take) -> bool) -> Self {
        let mut open: BTreeMap<u32, u32> = BTreeMap::new();
        let mut takes = Vec::new();
        for (place, take) in self.takes.iter().enumerate() {
            if !keep(place, take) {
                continue;
            }
            if let Some(conn) = take.conn() {
                let there = open.get(&conn.index).copied();
                match take.input() {
                    Recorded::Opened { .. } | Recorded::Arrived { .. } => {
                        if let Some(generation) = there {
                            let conn = ConnId { generation, ..conn };
                            let closed = Recorded::Closed { conn, cause: CloseCause::Ended };
                            takes.push(Take::new(take.at, Outcome::Nothing, &closed));
                        }
                        open.insert(conn.index, conn.generation);
                    }
                    _ if there != Some(conn.generation) => continue,
                    Recorded::Closed { .. } => drop(open.remove(&conn.index)),
                    _ => {}
                }
            }
            takes.push(take.clone());
        }
        Self { header: self.header.clone(), takes }
    }

    /// Plays the inputs, and passes each with its outputs to `watch`, which may stop the run.
    pub fn play(&self, mut watch: impl FnMut(usize, &Take, Outcome, &Stage) -> ControlFlow<()>) {
        let mut stage = Stage::new(self.header.settings.clone());
        for (index, take) in self.takes.iter().enumerate() {
            let outcome = stage.play_input(take.at, &take.input());
            if watch(index, take, outcome, &stage).is_break() || outcome == Outcome::Panic {
                return;
            }
        }
    }

    /// Writes a trace, with the digests of playing it with this program.
    pub fn write(&self, path: &Path) -> Result<(), Fault> {
        const BLOCK_BYTES: usize = 64 * 1024;
        let (mut bytes, mut packer) = (Vec::new(), Packer::default());
        packer.header(&mut bytes, &Header { segment: 0, ..self.header.clone() });
        let (mut entries, mut first, mut since, mut sum) = (Vec::new(), 0, Micros::ZERO, 0);
        let (mut before, mut digest, mut end) = (Micros::ZERO, 0, End::Finished);
        self.play(|place, take, outcome, _| {
            let entry = Entry { index: place as u64, at: take.at, input: take.input(), outcome };
            format::write_entry(&mut entries, before, &entry);
            before = take.at;
            match outcome {
                Outcome::Outputs { digest: now, .. } => digest = now,
                Outcome::Nothing => {}
                Outcome::Panic => end = End::Panicked,
            }
            if entries.len() >= BLOCK_BYTES {
                packer.entries(
                    &mut bytes,
                    &EntryBlock { first, at: since, digest: sum, entries: &entries },
                );
                entries.clear();
                (first, since, sum) = (place as u64 + 1, before, digest);
            }
            ControlFlow::Continue(())
        });
        if !entries.is_empty() {
            packer.entries(
                &mut bytes,
                &EntryBlock { first, at: since, digest: sum, entries: &entries },
            );
        }
        packer.end(&mut bytes, &end);
        let failed = |error: io::Error| Fault::Described(format!("{}: {error}", path.display()));
        fs::write(path, bytes).map_err(failed)
    }
}
