//! Measures the cost of monitoring: the part of a server's CPU time that its gauges and its monitor
//! take.
//!
//! The server plays for a crowd from the load generator. The CPU time of the monitor's thread comes
//! from the kernel. The cost of the shards' gauges is the number of their uses, from the server's
//! own metrics, times the cost of one use: reading the clock and counting in a histogram for each
//! input and each turn, counting for each tick and round trip. One use is measured on the server's
//! core while that is idle, in blocks over cold histograms, and the slowest block counts.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use bandsync_perf::{cpu, server::Server, target, timer_fd};
use clap::Args;
use hdrhistogram::Histogram;

/// Measures the part of a server's CPU time that its gauges and its monitor take.
#[derive(Debug, Args)]
pub struct Options {
    /// The server. Its address must be 127.0.0.1:7400
    #[arg(long, default_value_t = server())]
    server: String,
    /// The load generator and its arguments; `--seconds` and the server are added
    #[arg(long, default_value_t = load())]
    load: String,
    /// Duration of the measurement, in seconds
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Maximum part, in percent; beyond it the exit code is 1
    #[arg(long, default_value_t = 1.0)]
    most: f64,
}

/// Returns the command of the built load generator.
fn load() -> String {
    format!("{} load", target("release/perf").display())
}

/// Returns the command of the built server.
fn server() -> String {
    format!(
        "{} --port 7400 --host localhost --shards 1 --log-level error",
        target("release/bandsync").display()
    )
}

const ADDRESS: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 7400));

/// The server's core.
const CORE: usize = 0;

/// Histograms that count the uses of a gauge, and whether the clock is read for it.
const GAUGES: [(&str, bool); 4] = [
    ("bandsync_handler_duration_seconds_count", true),
    ("bandsync_turn_duration_seconds_count", true),
    ("bandsync_tick_lateness_seconds_count", false),
    ("bandsync_sync_round_trip_seconds_count", false),
];

/// Runs the command.
pub fn run(options: Options) -> io::Result<ExitCode> {
    let (clock, count) = price()?;
    let server = Server::start(&options.server, CORE, ADDRESS)?;
    let warm_up = 4;
    let mut words = options.load.split_whitespace();
    let mut load = Command::new(words.next().unwrap_or_default())
        .args(words)
        .args(["--pid", &server.pid().to_string()])
        .args(["--seconds", &(options.seconds + warm_up).to_string()])
        .stdout(Stdio::null())
        .spawn()?;
    std::thread::sleep(std::time::Duration::from_secs(warm_up));
    let before = Observation::now(&server)?;
    std::thread::sleep(std::time::Duration::from_secs(options.seconds));
    let after = Observation::now(&server)?;
    load.wait()?;
    let all = (after.cpu - before.cpu) as f64;
    let monitor = (after.monitor - before.monitor) as f64;
    let mut gauges = 0.0;
    let mut out = io::stdout().lock();
    for (name, reads_clock) in GAUGES {
        let used = after.counts.get(name).unwrap_or(&0.0) - before.counts.get(name).unwrap_or(&0.0);
        gauges += used * (count + if reads_clock { clock } else { 0.0 });
        let short = name.trim_start_matches("bandsync_").trim_end_matches("_seconds_count");
        writeln!(out, "{short:<18} {:>9.0} a second", used / options.seconds as f64)?;
    }
    let percent = |part: f64| 100.0 * part / all;
    writeln!(out, "one reading of the clock {clock:.1} ns, one count {count:.1} ns")?;
    writeln!(out, "server  {:.1} % of a core", all / options.seconds as f64 / 1e7)?;
    writeln!(out, "gauges  {:.3} % of that", percent(gauges))?;
    writeln!(out, "monitor {:.3} % of that", percent(monitor))?;
    let whole = percent(gauges + monitor);
    writeln!(out, "watching costs {whole:.2} %")?;
    Ok(if whole <= options.most { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Readings of the kernel and of the server at one time.
struct Observation {
    /// CPU time of all threads, and of the monitor's.
    cpu: u64,
    monitor: u64,
    /// The server's metrics, summed over shards.
    counts: BTreeMap<String, f64>,
}

impl Observation {
    fn now(server: &Server) -> io::Result<Self> {
        let cpu = server.cpu_time()?.total;
        let monitor = cpu::thread_time(server.pid(), "monitor")?;
        Ok(Self { cpu, monitor, counts: metrics(server)? })
    }
}

fn metrics(server: &Server) -> io::Result<BTreeMap<String, f64>> {
    let text = server.get(ADDRESS, "/metrics/prometheus")?;
    let mut counts = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("bandsync_")) {
        let (name, value) = line.rsplit_once(' ').unwrap_or_default();
        let name = name.split('{').next().unwrap_or_default();
        *counts.entry(name.to_owned()).or_insert(0.0) += value.parse().unwrap_or(0.0);
    }
    Ok(counts)
}

/// Nanoseconds of one reading of the clock and of one count, in the slowest of many blocks.
fn price() -> io::Result<(f64, f64)> {
    const BLOCKS: usize = 50;
    const USES: u64 = 2_000;
    let cores = cpu::pin(0, CORE);
    let (mut clock, mut count) = (0.0_f64, 0.0_f64);
    for _ in 0..BLOCKS {
        // A new histogram each time, so that its memory is not in the cache.
        let made = Histogram::<u32>::new_with_bounds(1, 60_000_000_000, 2);
        let mut histogram = made.map_err(io::Error::other)?;
        let begun = Instant::now();
        for _ in 0..USES {
            std::hint::black_box(timer_fd::now());
        }
        clock = clock.max(begun.elapsed().as_nanos() as f64 / USES as f64);
        let begun = Instant::now();
        for use_ in 0..USES {
            // Values as varied as real ones.
            histogram.saturating_record(std::hint::black_box(use_ * 7_919 % 300_000));
        }
        count = count.max(begun.elapsed().as_nanos() as f64 / USES as f64);
        std::hint::black_box(&histogram);
    }
    cores.map(|()| (clock, count))
}
