//! What a server decides about its recording.

use std::path::PathBuf;

use bandsync_engine::words::time::Micros;

/// Where and how much to record.
#[derive(Clone, Debug)]
pub struct RecordPlan {
    /// Where the files go; made if it is not there.
    pub directory: PathBuf,
    /// What the names of all files of this run begin with; names of later runs must sort behind it.
    pub name: String,
    /// The version of the program.
    pub program: String,
    /// A number that no other run has.
    pub run: u64,
    /// A file that has grown to this is followed by another.
    pub file_bytes_max: u64,
    /// The same for one that holds this span of time.
    pub file_span_max: Micros,
    /// Files kept of each shard, of all runs in the directory; the oldest are removed.
    pub files_max: u32,
}
