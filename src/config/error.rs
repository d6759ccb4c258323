//! Errors of the configuration.

use std::fmt;

use super::dotenv::DotEnvError;

/// The reason why a configuration cannot be used.
#[derive(Debug, Eq, PartialEq)]
pub enum ConfigError {
    /// A value that is not allowed: its name as given, the value, and the allowed values.
    Rejected { name: String, value: String, allowed: String },
    /// The profile `internet` without a setting that it requires: the variable, and what to set.
    Unsafe(&'static str, &'static str),
    /// A certificate without its key, or the other way round: the variable that is missing.
    HalfOfTls(&'static str),
    /// `CLUSTER=on` with other settings that do not permit it, and what to do.
    Unclustered(&'static str),
    /// The operating system provides no random numbers, for this reason.
    NoRandomness(String),
    /// The file `.env` cannot be used.
    DotEnv(DotEnvError),
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Escaped, because a value may hold anything, including sequences that move a
            // terminal's cursor.
            Self::Rejected { name, value, allowed } => {
                write!(f, "{name} cannot be {value:?}; allowed: {allowed}")
            }
            Self::Unsafe(variable, what) => {
                write!(f, "SECURITY_PROFILE=internet requires {variable}: {what}")
            }
            Self::HalfOfTls(missing) => {
                write!(f, "TLS requires {missing} as well: TLS_CERT and TLS_KEY belong together")
            }
            Self::Unclustered(what) => write!(f, "CLUSTER=on is not possible: {what}"),
            Self::NoRandomness(error) => {
                write!(
                    f,
                    "the system provides no random numbers for ids and secrets: {error}. Start the server again later"
                )
            }
            Self::DotEnv(error) => error.fmt(f),
        }
    }
}
