//! Recording and debugging: whether and where a trace is written, and the seed of a run.

use std::path::PathBuf;

use bandsync_engine::words::rng::Seed;
use bandsync_engine::words::time::Micros;

use crate::config::error::ConfigError;
use crate::config::table::{self, Allowed};
use crate::config::values::{Values, whole};

/// Directory and limits of the recording.
#[derive(Debug, Eq, PartialEq)]
pub struct Recording {
    /// The directory of the files.
    pub directory: PathBuf,
    /// Size at which a file is followed by another.
    pub file_bytes_max: u64,
    /// Time span at which a file is followed by another.
    pub file_span_max: Micros,
    /// Files that are kept for each shard.
    pub files_max: u32,
}

/// Reads the group: the recording, if one is wanted, and the seed.
pub fn read(values: &mut Values<'_>) -> Result<(Option<Recording>, Seed), ConfigError> {
    let recording = Recording {
        directory: values.parsed(&table::RECORD_DIR, |text| Some(PathBuf::from(text)))?,
        file_bytes_max: values.whole(&table::RECORD_MAX_BYTES)?,
        file_span_max: values.millis(&table::RECORD_MAX_AGE)?,
        files_max: values.count(&table::RECORD_KEEP)?,
    };
    let is_on = recording.directory.as_os_str() != "off";
    let given = values.parsed(&table::SEED, seed)?;
    let seed = given.map_or_else(random_seed, Ok)?;
    Ok((is_on.then_some(recording), seed))
}

/// Returns a number, or `None` for the word that leaves the choice to the server.
fn seed(text: &str) -> Option<Option<Seed>> {
    let Allowed::WholeOr { word, min, max } = table::SEED.allowed else {
        panic!("SEED is a number")
    };
    if text == word {
        return Some(None);
    }
    whole(text, min, max).map(|number| Some(Seed::from(number)))
}

/// Draws 256 bits from the system. There is no fallback: a server whose ids can be predicted must
/// not start.
fn random_seed() -> Result<Seed, ConfigError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| ConfigError::NoRandomness(error.to_string()))?;
    Ok(Seed::from_bytes(bytes))
}
