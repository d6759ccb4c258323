//! Cluster: whether this server shares its sessions with others, and as which node.

use bandsync_cluster::Plan;
use bandsync_storage::{self as storage, Target};

use crate::config::error::ConfigError;
use crate::config::table;
use crate::config::values::Values;
use crate::ops::process;

/// Unix time in milliseconds before which this version did not exist: 1 November 2026. A wall clock
/// that shows an earlier time is wrong.
const BUILD_UNIX_MS: i64 = 1_793_491_200_000;

/// Maximum characters of a name.
const NAME_MAX: usize = 64;

/// Minimum characters of a secret. Guessed: more than anybody would type from memory.
const SECRET_MIN: usize = 16;

/// The wish to belong to a cluster.
#[derive(Debug)]
pub struct Clustering {
    /// Whether the server may not run alone.
    pub is_required: bool,
    /// The node to be.
    pub node: Plan,
}

/// Reads the group. `None`: the server is alone.
pub fn read(
    values: &mut Values<'_>,
    storage: &storage::Plan,
    port: u16,
    is_recording: bool,
) -> Result<Option<Clustering>, ConfigError> {
    let kind = values.one_of(&table::CLUSTER)?;
    let buckets = values.count(&table::CLUSTER_BUCKETS)? as u16;
    let secret = values.unless_none(&table::CLUSTER_SECRET, secret)?;
    let lease_ttl = values.duration(&table::LEASE_TTL)?;
    let given = values.parsed(&table::NODE_NAME, name)?;
    let url = values.unless_none(&table::NODE_URL, url)?;
    let region = values.unless_none(&table::REGION, name)?;
    if kind == "off" {
        return Ok(None);
    }
    let is_required = kind == "on";
    let lacks = |what: &'static str| match is_required {
        true => Err(ConfigError::Unclustered(what)),
        false => Ok(None),
    };
    let Target::Redis(endpoint) = &storage.target else {
        return lacks("it requires Redis: set REDIS_URL, and do not set STORAGE");
    };
    if is_recording {
        values.notes.push("RECORD_DIR is set: this server is not part of a cluster".into());
        return lacks("nodes of a cluster cannot be recorded yet: remove RECORD_DIR");
    }
    let node = Plan {
        redis: endpoint.topology.clone(),
        timeout: endpoint.timeout,
        name: if given == "auto" { default_name(port) } else { given },
        url,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        region: region.unwrap_or_default(),
        buckets,
        lease_ttl,
        secret,
        session_ttl: storage.ttl,
        build_unix_ms: BUILD_UNIX_MS,
    };
    Ok(Some(Clustering { is_required, node }))
}

/// Returns the name of the machine with the port. Servers that take any free port differ by their
/// processes.
fn default_name(port: u16) -> String {
    let host = process::host_name().unwrap_or_else(|| "node".to_owned());
    let number = if port == 0 { std::process::id() } else { u32::from(port) };
    format!("{host:.50}:{number}")
}

fn name(text: &str) -> Option<String> {
    let fits =
        (1..=NAME_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

fn secret(text: &str) -> Option<String> {
    (text.chars().count() >= SECRET_MIN).then(|| text.to_owned())
}

fn url(text: &str) -> Option<String> {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    (!host.is_empty() && host.chars().all(plain)).then(|| text.to_owned())
}
