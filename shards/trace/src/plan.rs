//! Settings of a recording.

use std::path::PathBuf;

use bandsync_engine::words::time::Micros;

/// Place and size of a recording.
#[derive(Clone, Debug)]
pub struct RecordPlan {
    /// Directory of the files. Created if it is missing.
    pub directory: PathBuf,
    /// The beginning of all file names of this run. Names of later runs must sort after it.
    pub name: String,
    /// The version of the program.
    pub program: String,
    /// A number that no other run has.
    pub run: u64,
    /// Size at which a file is followed by another.
    pub file_bytes_max: u64,
    /// Time span at which a file is followed by another.
    pub file_span_max: Micros,
    /// Files kept for each shard, of all runs in the directory. The oldest are removed.
    pub files_max: u32,
}
