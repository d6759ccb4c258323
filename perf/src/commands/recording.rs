//! Measures the cost of recording for a shard: a server with and without `--record`, in turn or
//! side by side, and the CPU time of the writer's thread and of the shard's own part.

use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bandsync_engine::engine::Engine;
use bandsync_engine::io::tap::{NoTap, Tap};
use bandsync_engine::io::{Outputs, Settings};
use bandsync_engine::trace;
use bandsync_engine::words::time::Micros;
use bandsync_perf::cpu;
use bandsync_perf::report::Report;
use bandsync_perf::server::Server;
use bandsync_perf::target;
use bandsync_trace::format::{Ending, SegmentReader};
use bandsync_trace::{RecordPlan, Recorder};
use clap::Args;

/// Measures the cost of recording.
#[derive(Debug, Args)]
pub struct Options {
    /// The server
    #[arg(long, default_value_os_t = target("release/bandsync"))]
    server: PathBuf,
    /// The program with the load generator
    #[arg(long, default_value_os_t = target("release/perf"))]
    load: PathBuf,
    /// The scenario of the members
    #[arg(long, default_value = "ticks")]
    scenario: String,
    /// Sessions
    #[arg(long, default_value_t = 125)]
    sessions: usize,
    /// Members of each session
    #[arg(long, default_value_t = 8)]
    members: usize,
    /// Duration of each run, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Number of runs without and with recording
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Run both servers at the same time on the same core, each under its own load, so that other
    /// work of the machine affects both. Together they must leave a part of the core free
    #[arg(long)]
    side_by_side: bool,
    /// Address of the server; the one that records uses the next port
    #[arg(long, default_value = "127.0.0.1:7431")]
    address: SocketAddr,
    /// Folder of the traces; those of the last round stay
    #[arg(long, default_value_os_t = target("perf/recording"))]
    traces: PathBuf,
}

/// Results of a run with recording.
struct Recorded {
    /// CPU time per delivered message, in microseconds.
    micros: f64,
    /// CPU time of the writer's thread, relative to the shard's.
    writer: f64,
    /// CPU time of the shard's recording, relative to its whole.
    tap: f64,
}

/// Runs the command.
pub fn run(options: Options) -> io::Result<()> {
    let mut screen = io::stdout().lock();
    let (mut ratios, mut writers, mut taps) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let (without, with) = if options.side_by_side {
            let (plain, recording) = (Run::start(&options, false)?, Run::start(&options, true)?);
            (plain.end()?.micros, recorded(&options, recording)?)
        } else if round % 2 == 0 {
            // Alternate, so that other work of the machine is spread over both.
            let without = Run::start(&options, false)?.end()?.micros;
            (without, recorded(&options, Run::start(&options, true)?)?)
        } else {
            let with = recorded(&options, Run::start(&options, true)?)?;
            (Run::start(&options, false)?.end()?.micros, with)
        };
        writeln!(
            screen,
            "round {}: {without:.2} µs a message without, {:.2} with; of the shard's time the writer takes {:.2} %, \
             the shard itself {:.2} %",
            round + 1,
            with.micros,
            with.writer * 100.0,
            with.tap * 100.0
        )?;
        ratios.push((with.micros / without - 1.0) * 100.0);
        writers.push(with.writer * 100.0);
        taps.push(with.tap * 100.0);
    }
    let both = writers.iter().zip(&taps).map(|(writer, tap)| writer + tap).collect();
    for (what, values) in
        [("writer", writers), ("shard itself", taps), ("both", both), ("with over without", ratios)]
    {
        let (low, high) = interval(values.clone());
        let (least, median, most) = spread(values);
        writeln!(
            screen,
            "{what:<18} {median:6.2} %   ({least:.2} to {most:.2}; the median is within {low:.2} to {high:.2} with \
             95 % confidence)"
        )?;
    }
    Ok(())
}

/// Returns the least, the median and the greatest.
fn spread(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    (at(0), at(values.len() / 2), at(values.len().saturating_sub(1)))
}

/// Returns the interval that contains the median of the distribution with 95 % confidence, for any
/// distribution. Its ends are the values that correspond to the tails of as many tosses of a fair
/// coin. With fewer than six values there is no such interval.
fn interval(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let count = values.len();
    let (mut below, mut term, mut rank) = (0.0, 0.5_f64.powi(count as i32), None);
    for heads in 0..count {
        below += term;
        if below > 0.025 {
            break;
        }
        rank = Some(heads);
        term *= (count - heads) as f64 / (heads + 1) as f64;
    }
    match rank.map(|rank| (values.get(rank), values.get(count - 1 - rank))) {
        Some((Some(&low), Some(&high))) => (low, high),
        _ => (f64::NEG_INFINITY, f64::INFINITY),
    }
}

/// A server under load.
struct Run {
    server: Server,
    load: Child,
    report: PathBuf,
}

/// Results after the load.
struct Ended {
    server: Server,
    /// CPU time per delivered message, in microseconds.
    micros: f64,
}

impl Run {
    fn start(options: &Options, records: bool) -> io::Result<Self> {
        let Options { server, traces, .. } = options;
        fs::create_dir_all(traces)?;
        let (mut address, mut more) = (options.address, String::new());
        if records {
            fs::remove_dir_all(traces)?;
            fs::create_dir_all(traces)?;
            address.set_port(address.port() + 1);
            more = format!("--record {}", traces.display());
        }
        let command = format!(
            "{} serve --host localhost --port {} --shards 1 --storage memory --log-level warn \
             --scroll-tick-interval 16 --max-session-members 10000 {more}",
            server.display(),
            address.port()
        );
        let server = Server::start(command.trim_end(), 0, address)?;
        let report = traces.with_extension(format!("{}.json", address.port()));
        let load = Command::new(&options.load)
            .arg("load")
            .args(["--address", &address.to_string(), "--pid", &server.pid().to_string()])
            .args(["--scenario", &options.scenario, "--seconds", &options.seconds.to_string()])
            .args([
                "--sessions",
                &options.sessions.to_string(),
                "--members",
                &options.members.to_string(),
            ])
            .arg("--json")
            .arg(&report)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { server, load, report })
    }

    /// Waits until the load is over.
    fn end(mut self) -> io::Result<Ended> {
        let status = self.load.wait()?;
        let report: Report = serde_json::from_slice(&fs::read(&self.report)?)?;
        let micros = report.cpu_micros.filter(|_| status.success());
        let micros =
            micros.ok_or_else(|| io::Error::other("the load generator measured nothing"))?;
        Ok(Ended { server: self.server, micros })
    }
}

fn recorded(options: &Options, run: Run) -> io::Result<Recorded> {
    let Ended { server, micros } = run.end()?;
    let shard = cpu::thread_time(server.pid(), "shard-0")? as f64;
    let writer = cpu::thread_time(server.pid(), "recorder")? as f64;
    drop(server);
    if shard == 0.0 || writer == 0.0 {
        return Err(io::Error::other("the server's threads have other names"));
    }
    let inputs = Inputs::read(&options.traces)?;
    // The cost of recording is the additional time that the same inputs take with it.
    let mut extra = Vec::new();
    for _ in 0..7 {
        let without = inputs.run(&mut NoTap)?;
        let with = inputs.record(&options.traces.with_extension("again"))?;
        extra.push(with as f64 - without as f64);
    }
    let (_, extra, _) = spread(extra);
    Ok(Recorded { micros, writer: writer / shard, tap: extra / shard })
}

/// The inputs of a shard.
struct Inputs {
    settings: Settings,
    /// The inputs with their times, as in the engine's trace.
    packed: Vec<u8>,
}

impl Inputs {
    /// Reads the only trace in a directory, as far as it goes.
    fn read(traces: &Path) -> io::Result<Self> {
        let mut files = fs::read_dir(traces)?;
        let file = files.next().ok_or_else(|| io::Error::other("nothing was recorded"))??.path();
        let mut reader = SegmentReader::new(fs::File::open(file)?).map_err(io::Error::other)?;
        let mut packed = Vec::new();
        let settings = reader.header().settings.clone();
        while let Some(block) = reader.next_block().map_err(io::Error::other)? {
            for entry in block.entries() {
                let entry = entry.map_err(io::Error::other)?;
                trace::write_input(&mut packed, entry.at, &entry.input);
            }
        }
        // The server is killed, so the trace has no end; a mark would mean that recording has
        // stopped.
        match reader.ending() {
            Ending::Cut => Ok(Self { settings, packed }),
            ending => Err(io::Error::other(format!("the recording ends with {ending:?}"))),
        }
    }

    /// The CPU time that a new engine needs for the inputs. Each is passed to `tap`.
    fn run(&self, tap: &mut dyn Tap) -> io::Result<u64> {
        /// Inputs between two pauses: far fewer than the recorder's buffers hold.
        const REST: usize = 4_000;
        let mut engine = Engine::new(self.settings.clone());
        let (mut out, mut copy, mut rest) = (Outputs::default(), Vec::new(), &self.packed[..]);
        let (began, mut count) = (cpu::own_time()?, 0);
        while let Ok((at, input)) = trace::read_input(&mut rest) {
            let input = input.to_input(&mut copy);
            tap.input(at, &input);
            engine.handle(at, input, &mut out);
            tap.outputs(&out, 0);
            black_box(&out);
            out.clear();
            count += 1;
            if count % REST == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(cpu::own_time()? - began)
    }

    /// The CPU time that a new engine needs for the inputs while it is recorded.
    fn record(&self, directory: &Path) -> io::Result<u64> {
        let plan = RecordPlan {
            directory: directory.to_owned(),
            name: "again".into(),
            program: String::new(),
            run: 0,
            file_bytes_max: u64::MAX,
            file_span_max: Micros::from_secs(1_000_000),
            files_max: 1,
        };
        let recorder = Recorder::start(&plan, std::slice::from_ref(&self.settings))?;
        let mut tap = recorder.tap(0);
        let time = self.run(&mut tap);
        drop(tap);
        recorder.finish();
        fs::remove_dir_all(directory)?;
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ranks are those of the sign test's tables.
    #[test]
    fn the_interval_matches_the_sign_test() {
        let within = |count| interval((1..=count).map(f64::from).rev().collect());
        assert_eq!(within(5), (f64::NEG_INFINITY, f64::INFINITY));
        assert_eq!(within(6), (1.0, 6.0));
        assert_eq!(within(10), (2.0, 9.0));
        assert_eq!(within(40), (14.0, 27.0));
    }
}
