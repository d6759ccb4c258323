//! Storage: where sessions are stored, and for how long.

use std::path::PathBuf;

use bandsync_storage::{Endpoint, Plan, Target, Topology};

use crate::config::error::ConfigError;
use crate::config::raw::RawConfig;
use crate::config::table;
use crate::config::values::Values;

/// Reads the group. `REDIS_URL` takes precedence over `REDIS_HOST`, and `STORAGE` over both.
pub fn read(values: &mut Values<'_>) -> Result<Plan, ConfigError> {
    let kind = values.one_of(&table::STORAGE)?;
    let data = values.parsed(&table::DATA_DIR, |text| Some(text.to_owned()))?;
    let ttl = values.duration(&table::STORAGE_TTL)?;
    let wait = values.duration(&table::STORAGE_WAIT)?;
    let text: fn(&str) -> Option<String> = |text| Some(text.to_owned());
    let url = values.unless_none(&table::REDIS_URL, |url| Topology::parse(url).ok())?;
    let host = values.unless_none(&table::REDIS_HOST, text)?;
    let port = values.whole(&table::REDIS_PORT)? as u16;
    let password = values.unless_none(&table::REDIS_PASSWORD, text)?;
    let db = values.whole(&table::REDIS_DB)?;
    let replicas = values.count(&table::REDIS_REPLICAS)?;
    let timeout = values.duration(&table::REDIS_TIMEOUT)?;
    let on_host = |host: &str| Topology::on_host(host, port, password.as_deref(), db as i64);
    let redis = match (url, host) {
        (Some(topology), _) => Some(topology),
        (None, Some(host)) => on_host(&host),
        // `--storage redis` alone means a Redis on this machine.
        (None, None) => (kind == "redis").then(|| on_host("127.0.0.1")).flatten(),
    };
    let target = match (kind.as_str(), redis) {
        ("redis" | "auto", Some(topology)) => {
            Target::Redis(Box::new(Endpoint { topology, replicas, timeout }))
        }
        ("memory", _) => Target::Memory,
        _ => Target::File(if data == "auto" {
            data_directory(values.given)
        } else {
            Some(data.into())
        }),
    };
    Ok(Plan { target, ttl, wait })
}

/// Returns the directory that the system provides for the data of programs.
fn data_directory(given: &RawConfig) -> Option<PathBuf> {
    let variable = |name: &str| {
        given.environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    };
    let home = |rest: &str| variable("HOME").map(|home| home.join(rest));
    let data = variable("XDG_DATA_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| home(".local/share"));
    data.map(|data| data.join("bandsync"))
}
