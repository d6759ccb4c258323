//! Monitoring: how often the server measures, what raises an alert, and where alerts are posted.

use std::time::Duration;

use crate::config::error::ConfigError;
use crate::config::table;
use crate::config::values::Values;
use crate::monitor::{self, thresholds::Limits};

/// Measurements and alerts.
#[derive(Debug)]
pub struct Monitoring {
    /// The latency that `/metrics` compares with.
    pub target_latency: Duration,
    /// Time after which percentiles start again.
    pub interval: Duration,
    /// The limits that raise alerts.
    pub limits: Limits,
    /// The address that alerts are posted to.
    pub webhook: Option<String>,
}

impl Monitoring {
    /// Returns the plan of a monitor that aborts the process after `stall_limit` and keeps no
    /// history.
    pub fn plan(&self, stall_limit: Option<Duration>) -> monitor::Plan {
        monitor::Plan {
            interval: self.interval,
            limits: self.limits,
            stall_limit,
            webhook: self.webhook.clone(),
            store: None,
        }
    }
}

/// Reads the group. `heartbeat` is the time between two round trips of a member.
pub fn read(values: &mut Values<'_>, heartbeat: Duration) -> Result<Monitoring, ConfigError> {
    let target_latency = values.duration(&table::SYNC_TARGET_LATENCY)?;
    let limits = Limits {
        target_latency_ms: target_latency.as_secs_f64() * 1_000.0,
        latency_ms: values.whole(&table::ALERT_LATENCY)? as f64,
        cpu_percent: values.whole(&table::ALERT_CPU)? as f64,
        cpu_time: values.duration(&table::ALERT_CPU_TIME)?,
        memory_bytes: values.whole(&table::MEMORY_THRESHOLD)? * 1_000_000,
        memory_limit_bytes: values.whole(&table::MEMORY_LIMIT)? * 1_000_000,
        heartbeat,
    };
    Ok(Monitoring {
        target_latency,
        interval: values.duration(&table::METRICS_INTERVAL)?,
        limits,
        webhook: values.unless_none(&table::ALERT_WEBHOOK, webhook)?,
    })
}

/// Returns the text if alerts can be posted to it.
fn webhook(text: &str) -> Option<String> {
    let address: ureq::http::Uri = text.parse().ok()?;
    let fits = matches!(address.scheme_str(), Some("http" | "https"))
        && address.host().is_some_and(|host| !host.is_empty())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned())
}
