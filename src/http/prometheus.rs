//! Metrics as text: in the format of Prometheus and in its successor OpenMetrics, with the names
//! and units that both recommend.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bandsync_cluster::COMMIT_BOUNDS_US;
use bandsync_engine::speech::Code;
use bandsync_storage as storage;

use super::cluster;
use crate::monitor::latency::{self, HISTOGRAM_COUNT, MAILBOX};
use crate::monitor::thresholds::{self, Status};
use crate::monitor::{Report, ShardTotals, sum};
use crate::ops::process::{Facts, Usage};

/// The text format.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// The text format of Prometheus.
    Prometheus,
    /// The text format of OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// Returns the content type of the text.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A counter or level of a shard.
struct Series {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    read: fn(&ShardTotals) -> u64,
}

/// The kind of a metric, as both formats name it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Gauge,
    /// A count; its name ends with `_total`.
    Counter,
    Histogram,
    /// Labels whose value is always 1; its name ends with `_info`. The older format has no such
    /// kind.
    Info,
}

impl Kind {
    const fn word(self, format: Format) -> &'static str {
        match (self, format) {
            (Self::Gauge, _) | (Self::Info, Format::Prometheus) => "gauge",
            (Self::Counter, _) => "counter",
            (Self::Histogram, _) => "histogram",
            (Self::Info, Format::OpenMetrics) => "info",
        }
    }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&ShardTotals) -> u64) -> Series {
    Series { name, kind: Kind::Gauge, help, read }
}

const fn counter(name: &'static str, help: &'static str, read: fn(&ShardTotals) -> u64) -> Series {
    Series { name, kind: Kind::Counter, help, read }
}

const SERIES: [Series; 17] = [
    gauge("bandsync_connections", "WebSockets that are open.", |shard| shard.connections),
    gauge("bandsync_http_connections", "Connections that are not WebSockets.", |shard| shard.http),
    gauge("bandsync_members", "Members with a connection.", |shard| shard.members),
    gauge("bandsync_sessions", "Sessions in memory.", |shard| shard.sessions),
    gauge("bandsync_sessions_active", "Sessions with a connected member.", |shard| {
        shard.sessions_active
    }),
    counter("bandsync_connections_accepted_total", "Connections accepted.", |shard| shard.accepted),
    counter(
        "bandsync_connections_expelled_total",
        "Connections closed because the peer broke a rule or a limit.",
        |shard| shard.expulsions,
    ),
    counter("bandsync_messages_received_total", "Messages from clients.", |shard| {
        shard.messages_in
    }),
    counter(
        "bandsync_messages_sent_total",
        "Messages to clients, one for each receiver.",
        |shard| shard.messages_out,
    ),
    counter("bandsync_received_bytes_total", "Bytes read from sockets.", |shard| shard.bytes_in),
    counter("bandsync_sent_bytes_total", "Bytes written to sockets.", |shard| shard.bytes_out),
    gauge("bandsync_unsent_bytes", "Bytes that wait for slow readers.", |shard| shard.unsent_bytes),
    counter(
        "bandsync_ticks_dropped_total",
        "Ticks not sent because a client's socket was full.",
        |shard| shard.volatile_dropped,
    ),
    gauge("bandsync_recovery_bytes", "Events kept for lost members.", |shard| shard.recovery_bytes),
    counter(
        "bandsync_recovery_shed_bytes_total",
        "Events of lost members dropped because of memory pressure.",
        |shard| shard.recovery_bytes_shed,
    ),
    counter(
        "bandsync_sessions_shed_total",
        "Sessions that left memory early because of memory pressure.",
        |shard| shard.sessions_shed,
    ),
    counter("bandsync_turns_total", "Turns of the shard's loop.", |shard| shard.turns),
];

const HISTOGRAMS: [(&str, &str); HISTOGRAM_COUNT] = [
    ("bandsync_handler_duration_seconds", "Duration of one input in the engine."),
    ("bandsync_tick_lateness_seconds", "Lateness of position ticks after their deadline."),
    ("bandsync_turn_duration_seconds", "Duration of one turn of the shard's loop."),
    (
        "bandsync_sync_round_trip_seconds",
        "Round trip of the application's heartbeat to a member and back.",
    ),
    ("bandsync_mailbox_depth", "Connections from other shards that wait for the shard."),
];

/// Units at the end of names. OpenMetrics requires them in a line of their own.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// The process at the time of the request.
pub struct Process {
    /// CPU time and memory.
    pub usage: Usage,
    /// Numbers of the operating system.
    pub facts: Facts,
}

impl Process {
    /// Reads the process, with several system calls.
    pub fn now() -> Self {
        Self { usage: crate::ops::process::usage(), facts: crate::ops::process::facts() }
    }
}

/// Prints all metrics: those of the moment where possible, otherwise those of the monitor's newest
/// report.
pub fn text(
    format: Format,
    shards: &[ShardTotals],
    report: &Report,
    uptime: Duration,
    storage: &storage::Status,
    cluster: Option<&bandsync_cluster::Status>,
    process: &Process,
) -> String {
    let mut out = Text { format, out: String::with_capacity(48 * 1_024) };
    for Series { name, kind, help, read } in SERIES {
        out.head(name, kind, help);
        for (shard, totals) in shards.iter().enumerate() {
            out.line(format_args!("{name}{{shard=\"{shard}\"}} {}", read(totals)));
        }
    }
    let name = "bandsync_refusals_total";
    out.head(name, Kind::Counter, "Rejected commands, by the code that the client received.");
    for (code, count) in Code::ALL.into_iter().zip(sum(shards).refusals) {
        out.line(format_args!("{name}{{code=\"{}\"}} {count}", code.as_str()));
    }
    for (gauge, (name, help)) in HISTOGRAMS.into_iter().enumerate() {
        out.histogram(gauge, name, help, report);
    }
    out.server(report, uptime);
    out.process(process, report.allocator.committed);
    out.threads(report);
    out.queues(report);
    out.storage(storage);
    if let Some(status) = cluster {
        out.cluster(status, shards);
    }
    out.health(report);
    if format == Format::OpenMetrics {
        out.line(format_args!("# EOF"));
    }
    out.out
}

/// The text so far.
struct Text {
    format: Format,
    out: String,
}

impl Text {
    fn server(&mut self, report: &Report, uptime: Duration) {
        let name = "bandsync_build_info";
        self.head(
            name,
            Kind::Info,
            "Version of the server and the kind of machine that it was built for.",
        );
        let (version, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
        self.line(format_args!("{name}{{version=\"{version}\",arch=\"{arch}\"}} 1"));
        let gauges = [
            ("bandsync_uptime_seconds", "Time since the server's start.", uptime.as_secs_f64()),
            (
                "bandsync_resident_memory_bytes",
                "Memory in RAM.",
                report.sample.resident_bytes as f64,
            ),
            (
                "bandsync_allocator_committed_bytes",
                "Memory that the allocator holds.",
                report.allocator.committed as f64,
            ),
            (
                "bandsync_cpu_cores",
                "Cores in use, user and system.",
                report.sample.cpu_percent / 100.0,
            ),
        ];
        for (name, help, value) in gauges {
            self.head(name, Kind::Gauge, help);
            self.line(format_args!("{name} {value}"));
        }
        let name = "bandsync_shard_busy_ratio";
        self.head(name, Kind::Gauge, "Part of the last second that a shard spent in turns.");
        for (shard, one) in report.shards.iter().enumerate() {
            self.line(format_args!("{name}{{shard=\"{shard}\"}} {}", one.busy_percent / 100.0));
        }
        let name = "bandsync_turn_longest_seconds";
        let help = "Longest turn of the last full interval, by the phase that took most of it.";
        self.head(name, Kind::Gauge, help);
        for (shard, one) in report.shards.iter().enumerate() {
            let (phase, seconds) =
                (one.longest_turn.phase.as_str(), one.longest_turn.nanos as f64 / 1e9);
            self.line(format_args!("{name}{{shard=\"{shard}\",phase=\"{phase}\"}} {seconds}"));
        }
    }

    /// Adds the metrics that Prometheus's own libraries have for every process. A value that is
    /// unknown or unlimited is left out.
    fn process(&mut self, Process { usage, facts }: &Process, heap_bytes: u64) {
        let whole = |value: u64| Some(value as f64);
        let limit = |limit: Option<u64>| limit.map(|limit| limit as f64);
        let metrics = [
            (
                "process_cpu_seconds_total",
                Kind::Counter,
                "CPU time, user and system, in seconds.",
                Some(usage.cpu.total().as_secs_f64()),
            ),
            (
                "process_resident_memory_bytes",
                Kind::Gauge,
                "Memory in RAM.",
                whole(usage.resident_bytes),
            ),
            (
                "process_heap_bytes",
                Kind::Gauge,
                "Memory that the allocator holds.",
                whole(heap_bytes),
            ),
            (
                "process_virtual_memory_bytes",
                Kind::Gauge,
                "Address space.",
                limit(facts.virtual_bytes),
            ),
            (
                "process_virtual_memory_max_bytes",
                Kind::Gauge,
                "Maximum address space.",
                limit(facts.virtual_bytes_max),
            ),
            ("process_open_fds", Kind::Gauge, "Open files and sockets.", limit(facts.files_open)),
            (
                "process_max_fds",
                Kind::Gauge,
                "Maximum of open files and sockets.",
                limit(facts.files_max),
            ),
            ("process_threads", Kind::Gauge, "Threads.", limit(facts.threads)),
            (
                "process_start_time_seconds",
                Kind::Gauge,
                "Unix time of the process's start, in seconds.",
                facts.started_unix_ms.map(|at| at as f64 / 1_000.0),
            ),
        ];
        for (name, kind, help, value) in metrics {
            if let Some(value) = value {
                self.head(name, kind, help);
                self.line(format_args!("{name} {value}"));
            }
        }
    }

    /// Adds the threads. A number tells threads of one name apart, as the kernel cuts names.
    fn threads(&mut self, report: &Report) {
        let name = "bandsync_thread_cpu_seconds_total";
        self.head(name, Kind::Counter, "CPU time by thread, in the program and in the kernel.");
        let mut threads: Vec<_> = report.threads.iter().collect();
        threads.sort_by(|a, b| a.name.cmp(&b.name));
        for same in threads.chunk_by(|a, b| a.name == b.name) {
            let sum = |read: fn(&crate::monitor::ThreadShare) -> Duration| {
                same.iter().map(|thread| read(thread)).sum::<Duration>().as_secs_f64()
            };
            let thread = label(&same[0].name);
            for (mode, spent) in
                [("user", sum(|thread| thread.user)), ("system", sum(|thread| thread.system))]
            {
                self.line(format_args!("{name}{{thread=\"{thread}\",mode=\"{mode}\"}} {spent}"));
            }
        }
    }

    fn queues(&mut self, report: &Report) {
        let name = "bandsync_queue_length";
        self.head(
            name,
            Kind::Gauge,
            "Entries that wait in a queue between threads; of mailboxes, the recent maximum.",
        );
        for queue in &report.queues {
            self.line(format_args!("{name}{{queue=\"{}\"}} {}", queue.name, queue.waiting));
        }
        let name = "bandsync_queue_capacity";
        self.head(name, Kind::Gauge, "Entries that could wait in the queue.");
        for queue in &report.queues {
            self.line(format_args!("{name}{{queue=\"{}\"}} {}", queue.name, queue.capacity));
        }
        let name = "bandsync_log_lines_lost_total";
        self.head(
            name,
            Kind::Counter,
            "Lines of the log that did not fit into its queue or on the disk.",
        );
        self.line(format_args!("{name} {}", report.log_lines_lost));
    }

    fn storage(&mut self, status: &storage::Status) {
        let name = "bandsync_storage_up";
        self.head(name, Kind::Gauge, "Whether the storage is available, by its kind.");
        let up = u8::from(status.is_up());
        self.line(format_args!("{name}{{place=\"{}\"}} {up}", status.target));
        let numbers = [
            (
                "bandsync_storage_pending",
                Kind::Gauge,
                "Sessions whose newest state is not stored yet.",
                &status.pending,
            ),
            ("bandsync_storage_written_total", Kind::Counter, "Records written.", &status.written),
            (
                "bandsync_storage_failures_total",
                Kind::Counter,
                "Failures to store.",
                &status.failures,
            ),
        ];
        for (name, kind, help, number) in numbers {
            self.head(name, kind, help);
            self.line(format_args!("{name} {}", number.load(Ordering::Relaxed)));
        }
    }

    /// Adds the node's part in its cluster.
    fn cluster(&mut self, status: &bandsync_cluster::Status, shards: &[ShardTotals]) {
        let (counters, view) = (sum(shards).nodes, status.view());
        let name = "bandsync_cluster_standing";
        self.head(name, Kind::Gauge, "1 for the present standing of this node.");
        let present = cluster::standing(status);
        for standing in ["new", "full", "alone", "draining"] {
            let holds = u8::from(standing == present);
            self.line(format_args!("{name}{{standing=\"{standing}\"}} {holds}"));
        }
        let name = "bandsync_cluster_nodes";
        self.head(name, Kind::Gauge, "Nodes that live, as far as this one knows.");
        self.line(format_args!("{name} {}", view.nodes.len()));
        let clocks = || view.nodes.iter().filter_map(|node| Some((node.number, node.clock?)));
        let name = "bandsync_cluster_clock_offset_seconds";
        let help = "Time by which a node's clock is ahead of the cluster's, as it estimates.";
        self.head(name, Kind::Gauge, help);
        for (node, clock) in clocks() {
            let seconds = clock.ahead_us as f64 / 1e6;
            self.line(format_args!("{name}{{node=\"{node}\"}} {seconds}"));
        }
        let name = "bandsync_cluster_clock_bound_seconds";
        self.head(name, Kind::Gauge, "Maximum error of a node's clock.");
        for (node, clock) in clocks() {
            let seconds = clock.bound_us as f64 / 1e6;
            self.line(format_args!("{name}{{node=\"{node}\"}} {seconds}"));
        }
        let name = "bandsync_cluster_sessions";
        self.head(name, Kind::Gauge, "Sessions that this node owns, and branches of others.");
        self.line(format_args!("{name}{{role=\"owner\"}} {}", counters.owned));
        self.line(format_args!("{name}{{role=\"branch\"}} {}", counters.branches));
        let name = "bandsync_cluster_events_total";
        self.head(name, Kind::Counter, "Events of this node in its cluster, by kind.");
        let is_event = |name: &str| !name.contains("micros") && !name.starts_with("bytes");
        let events = cluster::events(&status.meters, &counters);
        for (kind, value) in events.iter().filter(|(name, _)| is_event(name)) {
            self.line(format_args!("{name}{{kind=\"{kind}\"}} {value}"));
        }
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let meters = &status.meters;
        for (name, help, bytes) in [
            (
                "bandsync_cluster_sent_bytes_total",
                "Bytes published to other nodes, once for each receiver.",
                read(&meters.bytes_out),
            ),
            (
                "bandsync_cluster_received_bytes_total",
                "Bytes received from other nodes.",
                read(&meters.bytes_in),
            ),
        ] {
            self.head(name, Kind::Counter, help);
            self.line(format_args!("{name} {bytes}"));
        }
        let name = "bandsync_cluster_commit_duration_seconds";
        self.head(name, Kind::Histogram, "Time until Redis has stored a change.");
        let mut below = 0;
        for (bound, count) in COMMIT_BOUNDS_US.iter().zip(&meters.commit_times) {
            below += read(count);
            let bound = self.bound(*bound as f64 / 1e6);
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {below}"));
        }
        let count: u64 = meters.commit_times.iter().map(read).sum();
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        let micros = read(&meters.commit_micros);
        self.line(format_args!("{name}_sum {}", micros as f64 / 1e6));
        self.line(format_args!("{name}_count {count}"));
    }

    fn health(&mut self, report: &Report) {
        self.head("bandsync_health", Kind::Gauge, "1 for the current state.");
        for (status, name) in [
            (Status::Healthy, "healthy"),
            (Status::Degraded, "degraded"),
            (Status::Unhealthy, "unhealthy"),
        ] {
            let holds = u8::from(report.status == status);
            self.line(format_args!("bandsync_health{{status=\"{name}\"}} {holds}"));
        }
        self.head("bandsync_alert", Kind::Gauge, "1 for a raised alert, 0 for others.");
        for name in thresholds::names() {
            let raised = u8::from(report.alerts.iter().any(|alert| alert.name == name));
            self.line(format_args!("bandsync_alert{{name=\"{name}\"}} {raised}"));
        }
    }

    /// Adds a histogram. Both formats require buckets to include those below them.
    fn histogram(&mut self, gauge: usize, name: &str, help: &str, report: &Report) {
        self.head(name, Kind::Histogram, help);
        let unit = if gauge == MAILBOX { 1.0 } else { 1e9 };
        for (shard, one) in report.shards.iter().enumerate() {
            let totals = &one.totals[gauge];
            let mut below = 0;
            for (bound, count) in latency::buckets(gauge).iter().zip(&totals.buckets) {
                below += count;
                let bound = self.bound(*bound as f64 / unit);
                self.line(format_args!(
                    "{name}_bucket{{shard=\"{shard}\",le=\"{bound}\"}} {below}"
                ));
            }
            self.line(format_args!(
                "{name}_bucket{{shard=\"{shard}\",le=\"+Inf\"}} {}",
                totals.count
            ));
            self.line(format_args!("{name}_sum{{shard=\"{shard}\"}} {}", totals.sum as f64 / unit));
            self.line(format_args!("{name}_count{{shard=\"{shard}\"}} {}", totals.count));
        }
    }

    /// Prints the bound of a bucket. OpenMetrics requires a decimal point.
    fn bound(&self, bound: f64) -> String {
        match self.format {
            Format::Prometheus => format!("{bound}"),
            Format::OpenMetrics => format!("{bound:?}"),
        }
    }

    /// Adds the lines before a metric's values. OpenMetrics names a counter without `_total`, and
    /// labels without `_info`.
    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let family = match (self.format, kind) {
            (Format::OpenMetrics, Kind::Counter) => name.strip_suffix("_total").unwrap_or(name),
            (Format::OpenMetrics, Kind::Info) => name.strip_suffix("_info").unwrap_or(name),
            _ => name,
        };
        self.line(format_args!("# HELP {family} {help}"));
        self.line(format_args!("# TYPE {family} {}", kind.word(self.format)));
        let unit = UNITS.iter().find(|unit| family.ends_with(*unit));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            self.line(format_args!("# UNIT {family} {unit}"));
        }
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "{text}");
    }
}

/// Escapes a text as the value of a label.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use bandsync_driver::{LongestTurn, TurnPhase};
    use bandsync_storage::StorageHandle;

    use super::*;
    use crate::monitor::{Queue, ShardReport, ThreadShare};
    use crate::ops::process::CpuTime;

    fn written(format: Format) -> String {
        let mut report = Report { shards: vec![ShardReport::default(); 2], ..Report::default() };
        for shard in &mut report.shards {
            for (gauge, totals) in shard.totals.iter_mut().enumerate() {
                totals.buckets = vec![1; latency::buckets(gauge).len()];
                (totals.count, totals.sum) = (100, 2_000_000_000);
            }
        }
        report.shards[1].longest_turn =
            LongestTurn { nanos: 1_500_000, phase: TurnPhase::Timers, phase_nanos: 900_000 };
        let thread = |name: &str| ThreadShare {
            name: name.into(),
            user_percent: 1.0,
            system_percent: 2.0,
            user: Duration::from_millis(1_500),
            system: Duration::from_secs(2),
        };
        report.threads = vec![thread("shard-0"), thread("a \"b\""), thread("shard-0")];
        report.queues = vec![Queue { name: "storage", waiting: 3, capacity: 64 }];
        let shards =
            [ShardTotals { messages_in: 7, ..ShardTotals::default() }, ShardTotals::default()];
        let cpu =
            CpuTime { user: Duration::from_millis(1_250), system: Duration::from_millis(500) };
        let facts = Facts {
            virtual_bytes: Some(1 << 30),
            virtual_bytes_max: None,
            files_open: Some(12),
            files_max: Some(1_024),
            threads: Some(7),
            started_unix_ms: Some(1_700_000_000_250),
        };
        let process = Process { usage: Usage { resident_bytes: 5_000_000, cpu }, facts };
        report.alerts = vec![thresholds::storage_alert(Duration::ZERO)];
        text(
            format,
            &shards,
            &report,
            Duration::from_secs(90),
            &StorageHandle::nowhere().status,
            None,
            &process,
        )
    }

    fn holds(text: &str, lines: &[&str]) {
        for expected in lines {
            assert!(text.lines().any(|line| line == *expected), "{expected} is not in\n{text}");
        }
    }

    #[test]
    fn every_series_has_help_and_every_shard_its_own_line() {
        let text = written(Format::Prometheus);
        holds(
            &text,
            &[
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
                "bandsync_turn_longest_seconds{shard=\"1\",phase=\"timers\"} 0.0015",
                "bandsync_thread_cpu_seconds_total{thread=\"shard-0\",mode=\"user\"} 3",
                "bandsync_thread_cpu_seconds_total{thread=\"a \\\"b\\\"\",mode=\"system\"} 2",
                "bandsync_queue_length{queue=\"storage\"} 3",
                "bandsync_storage_up{place=\"memory\"} 1",
                "bandsync_health{status=\"healthy\"} 1",
                "bandsync_uptime_seconds 90",
                "# TYPE bandsync_build_info gauge",
                "process_cpu_seconds_total 1.75",
                "process_resident_memory_bytes 5000000",
                "process_virtual_memory_bytes 1073741824",
                "process_open_fds 12",
                "process_max_fds 1024",
                "process_threads 7",
                "process_start_time_seconds 1700000000.25",
                "bandsync_alert{name=\"storage\"} 1",
            ],
        );
        assert!(
            !text.contains("process_virtual_memory_max_bytes"),
            "an unlimited value is left out"
        );
        for name in thresholds::names().filter(|name| *name != thresholds::STORAGE) {
            holds(&text, &[&format!("bandsync_alert{{name=\"{name}\"}} 0")]);
        }
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name);
            assert!(text.contains(&format!("# HELP {family} ")), "{line}");
        }
    }

    #[test]
    fn open_metrics_have_families_units_and_an_end_mark() {
        let text = written(Format::OpenMetrics);
        holds(
            &text,
            &[
                "# TYPE bandsync_received_bytes counter",
                "# UNIT bandsync_received_bytes bytes",
                "bandsync_received_bytes_total{shard=\"0\"} 0",
                "# TYPE bandsync_turn_duration_seconds histogram",
                "# UNIT bandsync_turn_duration_seconds seconds",
                "bandsync_turn_duration_seconds_bucket{shard=\"1\",le=\"1e-6\"} 1",
                "bandsync_turn_duration_seconds_bucket{shard=\"1\",le=\"10.0\"} 22",
                "# UNIT bandsync_shard_busy_ratio ratio",
                "# TYPE bandsync_build info",
                "# TYPE process_cpu_seconds counter",
                "# UNIT process_start_time_seconds seconds",
            ],
        );
        assert!(text.ends_with("\n# EOF\n") && !text.contains("_total counter"));
        let of = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(
            of(&text),
            of(&written(Format::Prometheus)),
            "both formats have the same samples"
        );
    }
}
