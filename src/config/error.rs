//! Why there is no configuration.

use std::fmt;

use super::dotenv::DotEnvError;

/// Why there is no configuration.
#[derive(Debug, Eq, PartialEq)]
pub enum ConfigError {
    /// A value that is not allowed: the name as it was given, the value, and what would be allowed.
    Refused { name: String, value: String, allowed: String },
    /// The profile `internet` without what it takes: the variable, and what to give there.
    Unsafe(&'static str, &'static str),
    /// The operating system gives no random numbers, for this reason.
    NoRandomness(String),
    /// The file `.env` cannot be used.
    DotEnv(DotEnvError),
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Quoted and escaped, because a value may hold anything, even what moves a terminal's
            // cursor.
            Self::Refused { name, value, allowed } => {
                write!(f, "{name} cannot be {value:?}; allowed: {allowed}")
            }
            Self::Unsafe(variable, what) => {
                write!(f, "SECURITY_PROFILE=internet takes {variable}: {what}")
            }
            Self::NoRandomness(error) => {
                write!(
                    f,
                    "the system has no random numbers for ids and secrets: {error}. Start it again later"
                )
            }
            Self::DotEnv(error) => error.fmt(f),
        }
    }
}
