//! A run's inputs in memory, to be played in part and written as a trace again.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use bandsync_engine::io::Cause;
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
    /// What the trace begins with.
    pub header: Header,
    /// The inputs.
    pub takes: Vec<Take>,
}

/// One input.
#[derive(Clone, Debug, PartialEq)]
pub struct Take {
    /// When it happened.
    pub at: Micros,
    /// What came of it when it was recorded.
    pub outcome: Outcome,
    /// Packed, with a time of zero.
    input: Vec<u8>,
}

impl Take {
    fn new(at: Micros, outcome: Outcome, input: &Recorded<'_>) -> Self {
        let mut packed = Vec::new();
        trace::write_input(&mut packed, Micros::ZERO, input);
        Self { at, outcome, input: packed }
    }

    /// The input.
    pub fn input(&self) -> Recorded<'_> {
        // It was packed above.
        trace::read_input(&mut &self.input[..]).map_or(Recorded::TurnEnded, |(_, input)| input)
    }

    /// The connection that it is about, if it is about one.
    pub fn conn(&self) -> Option<ConnId> {
        match self.input() {
            Recorded::Opened { conn, .. }
            | Recorded::Arrived { conn, .. }
            | Recorded::Received { conn, .. }
            | Recorded::Closed { conn, .. }
            | Recorded::Backlog { conn, .. }
            | Recorded::Answered { conn, .. } => Some(conn),
            Recorded::Storage { .. }
            | Recorded::WallClock { .. }
            | Recorded::Letter { .. }
            | Recorded::Memory(_)
            | Recorded::Drain
            | Recorded::TurnEnded => None,
        }
    }
}

impl Script {
    /// Reads a run whole.
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

    /// The same without the inputs that `keep` does not want, mended so that it stays what a driver
    /// could do: nobody is named who was not opened, and whoever is still there when the place is
    /// taken again is closed first.
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
                            let closed = Recorded::Closed { conn, cause: Cause::Ended };
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

    /// Plays it, and shows every input with what came of it to `watch`, which may break off.
    pub fn play(&self, mut watch: impl FnMut(usize, &Take, Outcome, &Stage) -> ControlFlow<()>) {
        let mut stage = Stage::new(self.header.settings.clone());
        for (place, take) in self.takes.iter().enumerate() {
            let outcome = stage.play_input(take.at, &take.input());
            if watch(place, take, outcome, &stage).is_break() || outcome == Outcome::Panic {
                return;
            }
        }
    }

    /// Writes it as a trace, with the digests of playing it here.
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
        let told = |error: io::Error| Fault::Told(format!("{}: {error}", path.display()));
        fs::write(path, bytes).map_err(told)
    }
}
