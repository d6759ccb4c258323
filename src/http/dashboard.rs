//! The data of the dashboard: all that changes, in one answer per second.

use std::time::Duration;

use bandsync_storage::StorageHandle;
use serde::Serialize;

use super::status::{Health, Metrics};
use crate::monitor::latency::NAMES;
use crate::monitor::{Event, Report, ShardTotals};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    version: &'static str,
    health: Health,
    metrics: Metrics,
    /// Distributions of the last second, for curves.
    second: std::collections::BTreeMap<&'static str, crate::monitor::latency::Spread>,
    /// Alerts that were raised or cleared, the newest first.
    events: Vec<&'a Event>,
}

/// Prints `version, health, metrics, second, events, sessions` as JSON. `rosters` are JSON arrays
/// of sessions already, so they are copied unchanged.
pub fn data(
    shards: &[ShardTotals],
    report: &Report,
    uptime: Duration,
    target_latency: Duration,
    rosters: &[Vec<u8>],
    storage: &StorageHandle,
    cluster: Option<&bandsync_cluster::Status>,
) -> Vec<u8> {
    let data = Data {
        version: env!("CARGO_PKG_VERSION"),
        health: Health::now(shards, report, uptime, storage, cluster),
        metrics: Metrics::now(shards, report, uptime, target_latency, storage, cluster),
        second: NAMES.into_iter().zip(report.second).collect(),
        events: report.events.iter().rev().collect(),
    };
    let mut out = serde_json::to_vec(&data).unwrap_or_else(|_| b"{}".to_vec());
    out.pop();
    out.extend_from_slice(b",\"sessions\":[");
    let mut first = true;
    for roster in rosters {
        let items =
            roster.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap_or_default();
        if !items.is_empty() {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            out.extend_from_slice(items);
        }
    }
    out.extend_from_slice(b"]}");
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sessions_of_all_shards_are_listed_together() {
        let names = |rosters: &[&str]| {
            let rosters: Vec<Vec<u8>> =
                rosters.iter().map(|roster| roster.as_bytes().to_vec()).collect();
            let target = Duration::from_millis(25);
            let data = data(
                &[],
                &Report::default(),
                Duration::ZERO,
                target,
                &rosters,
                &StorageHandle::nowhere(),
                None,
            );
            let data: serde_json::Value = serde_json::from_slice(&data).unwrap();
            assert_eq!(data["health"]["status"], "healthy");
            data["sessions"].as_array().unwrap().clone()
        };
        assert_eq!(names(&[]).len(), 0);
        assert_eq!(names(&["[]", "[]"]).len(), 0);
        assert_eq!(names(&["[]", "[1,2]", "[]", "[3]"]), [1, 2, 3]);
    }
}
