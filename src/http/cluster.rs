//! The cluster in `/health`, `/metrics` and for Prometheus.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use bandsync_cluster::{Meters, Status};
use bandsync_engine::io::node::Standing;
use bandsync_engine::io::report::NodeCounters;
use serde::Serialize;

use crate::ops::logging::Timestamp;

/// The cluster in `/health`. Strangers see the standing alone.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    standing: &'static str,
    #[serde(flatten)]
    details: Option<Details>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    /// Number and incarnation of this node.
    node: String,
    number: u16,
    /// RFC 3339, UTC: since when the standing holds.
    since: String,
    /// The reason why the node is not in full standing.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    nodes: Vec<Node>,
    /// Sessions that this node owns.
    owned: u32,
    /// Branches of sessions of other nodes.
    branches: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    number: u16,
    name: String,
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    region: String,
    /// Milliseconds since the node wrote its entry.
    seen_ms: u64,
    draining: bool,
    /// Microseconds by which its clock is ahead of that of the cluster: of this node now, of others
    /// when they wrote their entry. `null` if nothing is known.
    clock_us: Option<i64>,
    /// The maximum error of its clock in microseconds, `clockUs` included.
    bound_us: Option<u64>,
}

impl Cluster {
    /// Reads the current state.
    pub fn now(status: &Status, counters: &NodeCounters) -> Self {
        let view = status.view();
        let since = UNIX_EPOCH + Duration::from_millis(view.since.max(0) as u64);
        let nodes = view.nodes.into_iter().map(|node| Node {
            number: node.number,
            name: node.name,
            version: node.version,
            url: node.url,
            region: node.region,
            seen_ms: node.seen_ms,
            draining: node.is_draining,
            clock_us: node.clock.map(|clock| clock.ahead_us),
            bound_us: node.clock.map(|clock| clock.bound_us),
        });
        let details = view.node.map(|node| Details {
            node: node.to_string(),
            number: node.number,
            since: Timestamp(since).to_string(),
            reason: view.trouble,
            nodes: nodes.collect(),
            owned: counters.owned,
            branches: counters.branches,
        });
        Self { standing: standing(status), details }
    }

    /// Removes everything that only operators may know.
    pub fn for_strangers(&mut self) {
        self.details = None;
    }
}

/// Returns the standing of this node in one word.
pub fn standing(status: &Status) -> &'static str {
    let view = status.view();
    match view.standing {
        _ if view.is_draining => "draining",
        None | Some(Standing::New) => "new",
        Some(Standing::Full) => "full",
        Some(Standing::Alone) => "alone",
    }
}

/// Whether the node is too young to be given new members.
pub fn is_new(status: &Status) -> bool {
    standing(status) == "new"
}

/// Whether Redis does not answer.
pub fn is_alone(status: &Status) -> bool {
    status.view().standing == Some(Standing::Alone)
}

/// The counters in `/metrics`, by name.
pub fn counts(status: &Status, counters: &NodeCounters) -> BTreeMap<String, u64> {
    let own = events(&status.meters, counters).into_iter();
    own.map(|(name, value)| (camel_case(name), value)).collect()
}

/// Returns all counters of events since the start, with their names.
pub fn events(meters: &Meters, counters: &NodeCounters) -> Vec<(&'static str, u64)> {
    let mut events = meters.list();
    events.extend([
        ("forwards", counters.forwards),
        ("resends", counters.resends),
        ("unavailable", counters.unavailable),
        ("bulletins", counters.bulletins),
        ("gaps", counters.gaps),
        ("repairs", counters.repairs),
        ("sessions_taken_over", counters.takeovers),
        ("step_downs", counters.step_downs),
        ("unreadable", counters.unreadable),
    ]);
    events
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| {
        let (initial, rest) = word.split_at(word.len().min(1));
        text + &initial.to_ascii_uppercase() + rest
    })
}

#[test]
fn names_of_counters_are_those_of_json() {
    assert_eq!(camel_case("claims"), "claims");
    assert_eq!(camel_case("commit_micros_max"), "commitMicrosMax");
}
