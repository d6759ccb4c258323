//! TLS: the files of the certificate.

use std::path::PathBuf;

use crate::config::error::ConfigError;
use crate::config::table;
use crate::config::values::Values;
use crate::ops::tls::TlsFiles;

/// Reads the group. `None`: the server speaks no TLS.
pub fn read(values: &mut Values<'_>) -> Result<Option<TlsFiles>, ConfigError> {
    let path = |path: &str| Some(PathBuf::from(path));
    let cert = values.unless_none(&table::TLS_CERT, path)?;
    let key = values.unless_none(&table::TLS_KEY, path)?;
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(TlsFiles { cert, key })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(ConfigError::HalfOfTls(table::TLS_KEY.variable)),
        (None, Some(_)) => Err(ConfigError::HalfOfTls(table::TLS_CERT.variable)),
    }
}
