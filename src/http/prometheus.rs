//! The metrics as text, in the format that Prometheus reads, with the names and units that it recommends.

use std::fmt::Write;
use std::time::Duration;

use bandsync_engine::speech::Code;

use crate::monitor::latency::{self, GAUGES, MAILBOX};
use crate::monitor::thresholds::Status;
use crate::monitor::{Report, ShardTotals, sum};

/// What the text is announced as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One count or level of a shard: name, kind, help, and how to read it.
type Series = (&'static str, &'static str, &'static str, fn(&ShardTotals) -> u64);

const SERIES: [Series; 14] = [
    ("bandsync_connections", "gauge", "WebSockets that are open.", |shard| shard.connections),
    ("bandsync_http_connections", "gauge", "Connections that are no WebSockets.", |shard| shard.http),
    ("bandsync_members", "gauge", "Members with a connection.", |shard| shard.members),
    ("bandsync_sessions", "gauge", "Sessions in memory.", |shard| shard.sessions),
    ("bandsync_sessions_active", "gauge", "Sessions that somebody is in.", |shard| shard.sessions_active),
    ("bandsync_connections_accepted_total", "counter", "Connections accepted.", |shard| shard.accepted),
    (
        "bandsync_connections_expelled_total",
        "counter",
        "Connections closed because the peer broke a rule or a limit.",
        |shard| shard.expulsions,
    ),
    ("bandsync_messages_received_total", "counter", "Messages from clients.", |shard| shard.messages_in),
    ("bandsync_messages_sent_total", "counter", "Messages to clients, one for each receiver.", |shard| {
        shard.messages_out
    }),
    ("bandsync_received_bytes_total", "counter", "Bytes read from sockets.", |shard| shard.bytes_in),
    ("bandsync_sent_bytes_total", "counter", "Bytes written to sockets.", |shard| shard.bytes_out),
    (
        "bandsync_ticks_dropped_total",
        "counter",
        "Ticks that a client went without because its socket was full.",
        |shard| shard.volatile_dropped,
    ),
    (
        "bandsync_sessions_shed_total",
        "counter",
        "Sessions forgotten early because memory was scarce.",
        |shard| shard.sessions_shed,
    ),
    ("bandsync_turns_total", "counter", "Turns of the shard's loop.", |shard| shard.turns),
];

const HISTOGRAMS: [(&str, &str); GAUGES] = [
    ("bandsync_handler_duration_seconds", "Time that the engine took for one input."),
    ("bandsync_tick_lateness_seconds", "How much later than its deadline a position tick was made."),
    ("bandsync_turn_duration_seconds", "Time of one turn of the shard's loop."),
    ("bandsync_sync_round_trip_seconds", "Round trip of the application's heartbeat to a member and back."),
    ("bandsync_mailbox_depth", "Connections from other shards that waited when the shard looked."),
];

/// Everything there is, as of now where that can be and otherwise as of the monitor's last look.
pub fn text(shards: &[ShardTotals], report: &Report, uptime: Duration) -> String {
    let mut out = String::with_capacity(32 * 1_024);
    let all = sum(shards);
    for (name, kind, help, read) in SERIES {
        head(&mut out, name, kind, help);
        for (shard, totals) in shards.iter().enumerate() {
            line(&mut out, format_args!("{name}{{shard=\"{shard}\"}} {}", read(totals)));
        }
    }
    head(
        &mut out,
        "bandsync_refusals_total",
        "counter",
        "Commands refused, by the code that the client was told.",
    );
    for (code, count) in Code::ALL.into_iter().zip(all.refusals) {
        line(&mut out, format_args!("bandsync_refusals_total{{code=\"{}\"}} {count}", code.as_str()));
    }
    for (gauge, (name, help)) in HISTOGRAMS.into_iter().enumerate() {
        histogram(&mut out, gauge, name, help, report);
    }
    process(&mut out, report, uptime);
    health(&mut out, report);
    out
}

fn process(out: &mut String, report: &Report, uptime: Duration) {
    let gauges = [
        ("bandsync_uptime_seconds", "How long the server has been running.", uptime.as_secs_f64()),
        ("bandsync_resident_memory_bytes", "Memory in RAM.", report.sample.resident_bytes as f64),
        (
            "bandsync_allocator_committed_bytes",
            "Memory that the allocator holds.",
            report.allocator.committed as f64,
        ),
        ("bandsync_cpu_cores", "Cores in use, user and system.", report.sample.cpu_percent / 100.0),
    ];
    for (name, help, value) in gauges {
        head(out, name, "gauge", help);
        line(out, format_args!("{name} {value}"));
    }
    head(out, "bandsync_shard_busy_ratio", "gauge", "Part of the last second that a shard spent in turns.");
    for (shard, one) in report.shards.iter().enumerate() {
        line(
            out,
            format_args!("bandsync_shard_busy_ratio{{shard=\"{shard}\"}} {}", one.busy_percent / 100.0),
        );
    }
}

fn health(out: &mut String, report: &Report) {
    head(out, "bandsync_health", "gauge", "1 for the state that holds.");
    for (status, name) in
        [(Status::Healthy, "healthy"), (Status::Degraded, "degraded"), (Status::Unhealthy, "unhealthy")]
    {
        let holds = u8::from(report.status == status);
        line(out, format_args!("bandsync_health{{status=\"{name}\"}} {holds}"));
    }
    if !report.alerts.is_empty() {
        head(out, "bandsync_alert", "gauge", "1 for each alert that is raised.");
        for alert in &report.alerts {
            line(out, format_args!("bandsync_alert{{name=\"{}\"}} 1", alert.name));
        }
    }
}

/// Buckets hold what is below them too, as the format wants it.
fn histogram(out: &mut String, gauge: usize, name: &str, help: &str, report: &Report) {
    head(out, name, "histogram", help);
    let unit = if gauge == MAILBOX { 1.0 } else { 1e9 };
    for (shard, one) in report.shards.iter().enumerate() {
        let totals = &one.totals[gauge];
        let mut below = 0;
        for (bound, count) in latency::buckets(gauge).iter().zip(&totals.buckets) {
            below += count;
            let bound = *bound as f64 / unit;
            line(out, format_args!("{name}_bucket{{shard=\"{shard}\",le=\"{bound}\"}} {below}"));
        }
        line(out, format_args!("{name}_bucket{{shard=\"{shard}\",le=\"+Inf\"}} {}", totals.count));
        line(out, format_args!("{name}_sum{{shard=\"{shard}\"}} {}", totals.sum as f64 / unit));
        line(out, format_args!("{name}_count{{shard=\"{shard}\"}} {}", totals.count));
    }
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    line(out, format_args!("# HELP {name} {help}"));
    line(out, format_args!("# TYPE {name} {kind}"));
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::ShardReport;

    #[test]
    fn every_series_has_its_head_and_every_shard_its_line() {
        let mut report = Report { shards: vec![ShardReport::default(); 2], ..Report::default() };
        for shard in &mut report.shards {
            for (gauge, totals) in shard.totals.iter_mut().enumerate() {
                totals.buckets = vec![1; latency::buckets(gauge).len()];
                (totals.count, totals.sum) = (100, 2_000_000_000);
            }
        }
        let shards = [ShardTotals { messages_in: 7, ..ShardTotals::default() }, ShardTotals::default()];
        let text = text(&shards, &report, Duration::from_secs(90));
        for expected in [
            "# TYPE bandsync_messages_received_total counter",
            "bandsync_messages_received_total{shard=\"0\"} 7",
            "bandsync_messages_received_total{shard=\"1\"} 0",
            "bandsync_refusals_total{code=\"not_leader\"} 0",
            "bandsync_turn_duration_seconds_bucket{shard=\"1\",le=\"0.000001\"} 1",
            "bandsync_turn_duration_seconds_bucket{shard=\"1\",le=\"0.0000025\"} 2",
            "bandsync_turn_duration_seconds_bucket{shard=\"1\",le=\"10\"} 22",
            "bandsync_turn_duration_seconds_bucket{shard=\"1\",le=\"+Inf\"} 100",
            "bandsync_turn_duration_seconds_sum{shard=\"0\"} 2",
            "bandsync_mailbox_depth_bucket{shard=\"0\",le=\"1024\"} 11",
            "bandsync_health{status=\"healthy\"} 1",
            "bandsync_uptime_seconds 90",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected} is not in\n{text}");
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let family =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(text.contains(&format!("# HELP {family} ")), "{line}");
        }
    }
}
