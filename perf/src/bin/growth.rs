//! What BandSync costs as it grows: runs of growing size, a table and plots of CPU time and memory against size.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use bandsync_perf::plot;
use bandsync_perf::report::Report;
use bandsync_perf::run::{Place, Run};
use clap::Parser;

/// Grows a server along each axis and draws what that costs. Build with `cargo build --release -p bandsync -p
/// bandsync-perf` first.
#[derive(Debug, Parser)]
struct Options {
    /// How long each run measures, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// The axes to grow along, parted by commas; all of them without.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the programs are.
    #[arg(long, default_value = "target")]
    target: PathBuf,
    /// Where the plots go.
    #[arg(long, default_value = "target/perf")]
    plots: PathBuf,
}

/// What grows while all else stays.
struct Axis {
    name: &'static str,
    title: &'static str,
    scenario: &'static str,
    /// Sessions and members of each.
    sizes: &'static [(usize, usize)],
    more: &'static [&'static str],
}

const AXES: [Axis; 5] = [
    Axis {
        name: "sessions",
        title: "Sessions of 8, every tick to everybody",
        scenario: "ticks",
        sizes: &[(16, 8), (32, 8), (64, 8), (96, 8), (128, 8), (160, 8)],
        more: &[],
    },
    Axis {
        name: "members",
        title: "Eight sessions, every tick to everybody",
        scenario: "ticks",
        sizes: &[(8, 16), (8, 32), (8, 64), (8, 96), (8, 128), (8, 160)],
        more: &[],
    },
    Axis {
        name: "room",
        title: "One room, two ticks a second to everybody",
        scenario: "ticks",
        sizes: &[(1, 500), (1, 1_000), (1, 2_500), (1, 5_000), (1, 7_500), (1, 10_000)],
        more: &["--tick-hz", "2", "--tick", "496"],
    },
    Axis {
        name: "idle",
        title: "Members that have joined and do nothing",
        scenario: "idle",
        sizes: &[(125, 8), (250, 8), (500, 8), (1_000, 8), (1_500, 8), (2_250, 8)],
        more: &[],
    },
    Axis {
        name: "timeline",
        title: "Members that keep the timeline while it plays, no ticks",
        scenario: "ticks",
        sizes: &[(125, 8), (250, 8), (500, 8), (1_000, 8), (1_500, 8), (2_250, 8)],
        more: &["--tick-hz", "0"],
    },
];

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut place = Place::new(&options.target)?;
    std::fs::create_dir_all(&options.plots)?;
    let server = place.bandsync();
    let wanted = |axis: &&Axis| options.only.is_empty() || options.only.iter().any(|name| name == axis.name);
    for axis in AXES.iter().filter(wanted) {
        let more: Vec<String> = axis.more.iter().map(|word| (*word).to_owned()).collect();
        let mut reports = Vec::new();
        for (sessions, members) in axis.sizes.iter().copied() {
            say(&format!("{}: {sessions} × {members}", axis.name));
            let run = Run {
                name: axis.name,
                server: &server,
                scenario: axis.scenario,
                sessions,
                members,
                seconds: options.seconds,
                more: &more,
            };
            match place.run(&run) {
                Ok(report) => reports.push(report),
                // The axis ends where the machine does.
                Err(error) => say(&format!("{}: {error}", axis.name)),
            }
        }
        let (cpu, memory) = pictures(axis, &reports);
        std::fs::write(options.plots.join(format!("{}-cpu.svg", axis.name)), cpu)?;
        std::fs::write(options.plots.join(format!("{}-memory.svg", axis.name)), memory)?;
        io::stdout().lock().write_all(table(axis, &reports).as_bytes())?;
    }
    Ok(())
}

fn table(axis: &Axis, reports: &[Report]) -> String {
    let mut text = format!(
        "\n{}\n\n| members | CPU % of a core | CPU µs a member and second | memory MiB | KiB a member | delivered % \
         | lateness p99 ms | probe p99 ms |\n|---|---|---|---|---|---|---|---|\n",
        axis.title
    );
    for report in reports {
        let joined = report.joined as f64;
        let share = report.cpu_share.unwrap_or(f64::NAN);
        let memory = report.memory_end.unwrap_or(f64::NAN);
        let time = |times: &str| {
            report.percentile(times, "p99").map_or("–".into(), |time| format!("{:.2}", time / 1_000.0))
        };
        let _ = writeln!(
            text,
            "| {joined} | {:.1} | {:.1} | {:.1} | {:.2} | {:.2} | {} | {} |",
            share * 100.0,
            share * 1e6 / joined,
            memory * joined / 1_048_576.0,
            memory / 1_024.0,
            report.fraction() * 100.0,
            time("lateness"),
            time("probe"),
        );
    }
    text
}

fn pictures(axis: &Axis, reports: &[Report]) -> (String, String) {
    let points = |value: &dyn Fn(&Report) -> Option<f64>| -> Vec<(f64, f64)> {
        reports.iter().filter_map(|report| Some((report.joined as f64, value(report)?))).collect()
    };
    let cpu = points(&|report| Some(report.cpu_share? * 100.0));
    let memory = points(&|report| Some(report.memory_end? * report.joined as f64 / 1_048_576.0));
    (
        plot::lines(axis.title, "members", "% of a core", &[("CPU", &cpu)]),
        plot::lines(axis.title, "members", "MiB", &[("memory", &memory)]),
    )
}

fn say(text: &str) {
    // What cannot be shown is not worth failing for.
    let _ = writeln!(io::stderr(), "{text}");
}
