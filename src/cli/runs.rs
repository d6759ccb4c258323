//! Helpers of the commands that read traces: their files and times.

use std::path::PathBuf;
use std::time::Duration;

use bandsync_engine::words::time::Micros;
use bandsync_trace::reader::{self, Fault, Run};

use crate::ops::process::print_error;

/// Parses seconds with decimals.
pub fn seconds(text: &str) -> Result<Micros, String> {
    let seconds: f64 = text.parse().map_err(|_| "is not a number of seconds".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    Ok(Micros::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
}

/// Sorts files into runs, and reports those that are skipped.
pub fn gather(paths: &[PathBuf]) -> Result<Vec<Run>, Fault> {
    reader::gather(paths, |fault| print_error(&format!("{fault}: skipped")))
}
