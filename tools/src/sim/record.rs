//! Checks that a recording of a shard would contain no secrets: all inputs are covered as the
//! recorder covers them, and searched, however reads, hand-overs and records are cut.

use std::collections::BTreeMap;
use std::hash::RandomState;

use bandsync_engine::io::{Input, LoadResult, StorageEvent};
use bandsync_engine::trace::{self, Outcome, Recorded};
use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;
use bandsync_trace::redactor::Redactor;

use super::plan::reveals;

/// Number of bytes that are collected before they are searched. The recorder's buffers have the
/// same size.
const BUFFER_BYTES: usize = 64 * 1024;

/// Number of earlier bytes of a connection that are searched again: more than the length of a
/// secret.
const TAIL: usize = 32;

/// The check of one shard's recording.
pub struct RecorderCheck {
    entries: Vec<u8>,
    redactor: Redactor,
    /// The last covered bytes of each connection.
    tails: BTreeMap<ConnId, Vec<u8>>,
}

impl RecorderCheck {
    /// Creates the check of a shard. All shards of a world have the same key.
    pub fn new(key: RandomState) -> Self {
        Self { entries: Vec::new(), redactor: Redactor::new(key), tails: BTreeMap::new() }
    }

    /// Records an input before it is handled.
    ///
    /// # Errors
    /// If an earlier input would have been written with a secret.
    pub fn input(&mut self, at: u64, input: &Input<'_>) -> Result<(), String> {
        if matches!(input, Input::TurnEnded | Input::Backlog { .. } | Input::WallClock { .. }) {
            // Numbers contain no secrets.
            return Ok(());
        }
        trace::write_input(&mut self.entries, Micros::from_micros(at), &Recorded::of(input));
        trace::write_outcome(&mut self.entries, Outcome::Nothing);
        if self.entries.len() < BUFFER_BYTES { Ok(()) } else { self.look() }
    }

    /// Covers the recorded inputs, as they would be written to the disk, and searches for secrets.
    ///
    /// # Errors
    /// If there is a secret.
    pub fn look(&mut self) -> Result<(), String> {
        let mut entries = std::mem::take(&mut self.entries);
        self.redactor.redact(&mut entries);
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let read = trace::read_input(&mut rest).map(|(_, input)| input);
            let input = read.map_err(|_| "what was covered cannot be read any more".to_owned())?;
            trace::read_outcome(&mut rest)
                .map_err(|_| "an outcome cannot be read any more".to_owned())?;
            self.look_at(&input)?;
        }
        entries.clear();
        self.entries = entries;
        Ok(())
    }

    fn look_at(&mut self, input: &Recorded<'_>) -> Result<(), String> {
        match input {
            Recorded::Opened { conn, .. } => drop(self.tails.insert(*conn, Vec::new())),
            Recorded::Closed { conn, .. } => drop(self.tails.remove(conn)),
            Recorded::Received { conn, bytes } => return self.follow(*conn, bytes),
            Recorded::Arrived { conn, state, .. } => {
                self.tails.insert(*conn, Vec::new());
                return self.follow(*conn, state);
            }
            Recorded::Storage { event } => {
                if let StorageEvent::Loaded { found: LoadResult::Record(record), .. } =
                    event.as_ref()
                {
                    return check(record);
                }
            }
            Recorded::ShardMessage { message } => return check(message),
            Recorded::Backlog { .. }
            | Recorded::Responded { .. }
            | Recorded::Node { .. }
            | Recorded::WallClock { .. }
            | Recorded::Memory(_)
            | Recorded::Drain
            | Recorded::TurnEnded => {}
        }
        Ok(())
    }

    /// Searches the bytes of a connection together with the last ones before, because a secret may
    /// be cut anywhere.
    fn follow(&mut self, conn: ConnId, bytes: &[u8]) -> Result<(), String> {
        let tail = self.tails.entry(conn).or_default();
        tail.extend_from_slice(bytes);
        check(tail)?;
        tail.drain(..tail.len().saturating_sub(TAIL));
        Ok(())
    }
}

fn check(bytes: &[u8]) -> Result<(), String> {
    if reveals(bytes) { Err(String::from_utf8_lossy(bytes).into_owned()) } else { Ok(()) }
}
