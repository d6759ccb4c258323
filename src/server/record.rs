//! Starts the recording that the configuration asks for.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use std::{fmt, io};

use bandsync_engine::io::Settings;
use bandsync_trace::{RecordPlan, Recorder};
use log::info;

use crate::config::Config;
use crate::ops::logging::Timestamp;

/// The reason why nothing can be recorded.
#[derive(Debug)]
pub struct RecordError {
    directory: PathBuf,
    error: io::Error,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot record to {}: {}", self.directory.display(), self.error)
    }
}

impl Error for RecordError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// Starts a recorder for shards with these settings, if one is wanted.
///
/// # Errors
/// If the directory cannot be used: an operator would notice the missing recording only when it is
/// needed.
pub fn start(config: &Config, settings: &[Settings]) -> Result<Option<Recorder>, RecordError> {
    let Some(record) = &config.recording else { return Ok(None) };
    let rejected = |error| RecordError { directory: record.directory.clone(), error };
    // A write beyond the limit of the file size then fails instead of ending the process.
    signal_hook::flag::register(libc::SIGXFSZ, Arc::default()).map_err(rejected)?;
    let now = Timestamp(SystemTime::now()).to_string();
    let plan = RecordPlan {
        directory: record.directory.clone(),
        // A name such as 20260131T204500123Z sorts by time and suits every file system.
        name: now.replace(['-', ':', '.'], ""),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        run: settings
            .first()
            .map_or(0, |settings| settings.seed.fingerprint() ^ settings.started_unix_ms as u64),
        file_bytes_max: record.file_bytes_max,
        file_span_max: record.file_span_max,
        files_max: record.files_max,
    };
    let recorder = Recorder::start(&plan, settings).map_err(rejected)?;
    info!("recording to {}", record.directory.display());
    Ok(Some(recorder))
}
