//! The log: what is logged, in which form, and where it goes.

use std::path::PathBuf;

use crate::config::error::ConfigError;
use crate::config::profile::Profile;
use crate::config::table;
use crate::config::values::Values;
use crate::ops::logging::{Levels, LogFormat};

/// Level, form and place of the log.
#[derive(Debug)]
pub struct Logging {
    /// Minimum level that is logged.
    pub levels: Levels,
    /// Form of a line.
    pub format: LogFormat,
    /// The file that replaces standard error.
    pub file: Option<PathBuf>,
}

/// Reads the group.
pub fn read(values: &mut Values<'_>) -> Result<Logging, ConfigError> {
    let levels = values.parsed(&table::LOG_LEVEL, Levels::parse)?;
    let format = match values.one_of(&table::LOG_FORMAT)?.as_str() {
        "pretty" => LogFormat::Pretty,
        "json" => LogFormat::Json,
        _ if values.profile == Profile::Production => LogFormat::JsonUnlessTerminal,
        _ => LogFormat::Pretty,
    };
    let file = values.unless_none(&table::LOG_FILE, |path| Some(PathBuf::from(path)))?;
    Ok(Logging { levels, format, file })
}
