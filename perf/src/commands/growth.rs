//! Measures the cost of BandSync as it grows: runs of growing size, with a table and plots of CPU
//! time and memory against size.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use bandsync_perf::plot;
use bandsync_perf::report::Report;
use bandsync_perf::run::{Run, RunFolders, say};
use bandsync_perf::target;
use clap::Args;

/// Grows a server along each axis and draws its cost. Build with
/// `cargo build --release -p bandsync -p bandsync-perf` first.
///
/// If one process may not open enough files for an axis, several servers share the core, and their
/// costs are added up.
#[derive(Debug, Args)]
pub struct Options {
    /// Duration of each run, in seconds; longer where heartbeats are rarer
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Axes to grow along, separated by commas; by default all
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Maximum members; larger sizes are skipped
    #[arg(long, default_value_t = usize::MAX)]
    most: usize,
    /// Folder of the programs
    #[arg(long, default_value_os_t = target(""))]
    target: PathBuf,
    /// Folder of the plots
    #[arg(long, default_value_os_t = target("perf"))]
    pictures: PathBuf,
}

/// A dimension that grows while the others stay.
struct Axis {
    name: &'static str,
    title: &'static str,
    /// The limit of growth.
    bound: &'static str,
    lines: &'static [Line],
}

/// A way to grow along an axis.
struct Line {
    name: &'static str,
    scenario: &'static str,
    /// Sessions, and members of each.
    sizes: &'static [(usize, usize)],
    /// Period of all that repeats, in seconds: no measurement is shorter.
    period: u64,
    /// Further arguments for the generator.
    load: &'static [&'static str],
    /// Further arguments for the server.
    server: &'static str,
}

/// Every tick to every member.
const TICKS: Line =
    Line { name: "ticks", scenario: "ticks", sizes: &[], period: 1, load: &[], server: "" };

/// All members have joined, and nothing plays. The application's heartbeat comes every 5 s.
const IDLE: Line = Line {
    name: "ping each 2.5 s",
    scenario: "idle",
    sizes: &[(125, 8), (1_250, 8), (3_125, 8), (6_250, 8), (9_375, 8), (12_500, 8)],
    period: 5,
    // The warm-up lasts until the events kept for lost members are dropped and their memory is
    // returned to the system.
    load: &["--probes", "0", "--in-flight", "128", "--warm-up", "75"],
    server: "",
};

/// Members like a player's page: no ticks, and a probe every 2.5 s.
const TIMELINE: Line = Line {
    name: "no ticks",
    scenario: "ticks",
    sizes: &[(125, 8), (1_250, 8), (2_500, 8), (3_750, 8), (5_000, 8), (6_250, 8)],
    period: 5,
    load: &TIMELINE_LOAD,
    server: "",
};
const TIMELINE_LOAD: [&str; 8] =
    ["--tick-hz", "0", "--probes", "1000000", "--probe-interval", "2500", "--in-flight", "128"];
const SLOW_TICKS_LOAD: [&str; 8] =
    ["--tick-hz", "1", "--probes", "1000000", "--probe-interval", "2500", "--in-flight", "128"];

/// Heartbeats as rare as in most servers. Their runs last long, so there are fewer.
const RARE: &str =
    "--socket-ping-interval 25000 --socket-ping-timeout 20000 --heartbeat-interval 25000";
const RARE_PERIOD: u64 = 25;

const AXES: [Axis; 5] = [
    Axis {
        name: "sessions",
        title: "Sessions of 8, every tick to everybody",
        bound: "the kernel's send: a member costs 62.5 of them a second",
        lines: &[Line {
            sizes: &[(16, 8), (32, 8), (64, 8), (96, 8), (128, 8), (160, 8), (192, 8), (256, 8)],
            ..TICKS
        }],
    },
    Axis {
        name: "members",
        title: "Eight sessions, every tick to everybody",
        bound: "the same: a session of 256 costs what 32 of 8 do",
        lines: &[Line {
            sizes: &[(8, 16), (8, 32), (8, 64), (8, 96), (8, 128), (8, 160), (8, 192), (8, 256)],
            ..TICKS
        }],
    },
    Axis {
        name: "room",
        title: "One room, two ticks a second to everybody",
        bound: "the burst: the last member of a large room is as late as it is long",
        lines: &[Line {
            sizes: &[(1, 500), (1, 1_000), (1, 2_500), (1, 5_000), (1, 7_500), (1, 10_000)],
            period: 5,
            load: &["--tick-hz", "2", "--tick", "496"],
            ..TICKS
        }],
    },
    Axis {
        name: "idle",
        title: "Members that have joined and do nothing",
        bound: "heartbeats, which a longer interval makes rarer, and then memory",
        lines: &[
            IDLE,
            Line {
                name: "ping each 25 s",
                sizes: &[(125, 8), (6_250, 8), (12_500, 8)],
                period: RARE_PERIOD,
                server: RARE,
                ..IDLE
            },
        ],
    },
    Axis {
        name: "timeline",
        title: "Members that keep the timeline while the music plays, with a clock probe each 2.5 s",
        bound: "probes and heartbeats, not music: it takes none of the core",
        lines: &[
            TIMELINE,
            Line {
                name: "no ticks, ping each 25 s",
                sizes: &[(125, 8), (3_750, 8), (6_250, 8)],
                period: RARE_PERIOD,
                server: RARE,
                ..TIMELINE
            },
            Line { name: "a tick a second", load: &SLOW_TICKS_LOAD, ..TIMELINE },
        ],
    },
];

/// The name of a line and the reports of its runs.
type Found = (&'static str, Vec<Report>);

/// Runs the command.
pub fn run(options: Options) -> io::Result<()> {
    let mut folders = RunFolders::new(&options.target)?;
    std::fs::create_dir_all(&options.pictures)?;
    let wanted =
        |axis: &&Axis| options.only.is_empty() || options.only.iter().any(|name| name == axis.name);
    for axis in AXES.iter().filter(wanted) {
        let lines: Vec<Found> = axis
            .lines
            .iter()
            .map(|line| (line.name, grow(axis.name, line, &options, &mut folders)))
            .collect();
        let save = |what, picture| {
            std::fs::write(options.pictures.join(format!("{}-{what}.svg", axis.name)), picture)
        };
        save(
            "cpu",
            picture(axis, "CPU, % of a core", &lines, |report| Some(report.cpu_share? * 100.0)),
        )?;
        let memory =
            |report: &Report| Some(report.memory_end? * report.joined as f64 / 1_048_576.0);
        save("memory", picture(axis, "memory, MiB", &lines, memory))?;
        io::stdout().lock().write_all(table(axis, &lines).as_bytes())?;
    }
    Ok(())
}

/// Returns the reports of all sizes that the machine can carry.
fn grow(axis: &str, line: &Line, options: &Options, folders: &mut RunFolders) -> Vec<Report> {
    let more: Vec<String> = line.load.iter().map(|word| (*word).to_owned()).collect();
    let server = format!("{} {}", folders.bandsync(), line.server);
    let mut reports = Vec::new();
    for (sessions, members) in line.sizes.iter().copied().filter(|(s, m)| s * m <= options.most) {
        say(&format!("{axis}, {}: {sessions} × {members}", line.name));
        let run = Run {
            name: axis,
            server: &server,
            scenario: line.scenario,
            sessions,
            members,
            seconds: options.seconds.max(line.period),
            more: &more,
        };
        match folders.run_beside(&run) {
            Ok(report) => reports.push(report),
            // The line ends at the machine's limit.
            Err(error) => say(&format!("{axis}: {error}")),
        }
    }
    reports
}

fn table(axis: &Axis, lines: &[Found]) -> String {
    let mut text = format!(
        "\n**{}.** Bounded by {}.\n\n| | members | CPU % of a core | CPU µs a member and second | memory MiB | KiB a member \
         | delivered % | lateness p99 ms | probe p99 ms | generator's CPU % |\n|---|---|---|---|---|---|---|---|---|---|\n",
        axis.title, axis.bound
    );
    for (name, report) in
        lines.iter().flat_map(|(name, reports)| reports.iter().map(move |r| (name, r)))
    {
        let joined = report.joined as f64;
        let share = report.cpu_share.unwrap_or(f64::NAN);
        let memory = report.memory_end.unwrap_or(f64::NAN);
        let time = |times: &str| {
            report
                .percentile(times, "p99")
                .map_or("–".into(), |time| format!("{:.2}", time / 1_000.0))
        };
        let _ = writeln!(
            text,
            "| {name} | {joined} | {:.1} | {:.1} | {:.1} | {:.2} | {} | {} | {} | {:.0} |",
            share * 100.0,
            share * 1e6 / joined,
            memory * joined / 1_048_576.0,
            memory / 1_024.0,
            if report.expected > 0 {
                format!("{:.2}", report.fraction() * 100.0)
            } else {
                "–".into()
            },
            time("lateness"),
            time("probe"),
            report.own_cpu_share * 100.0,
        );
    }
    text
}

fn picture(
    axis: &Axis,
    y_name: &str,
    lines: &[Found],
    value: impl Fn(&Report) -> Option<f64>,
) -> String {
    let lines: Vec<(&str, Vec<(f64, f64)>)> = lines
        .iter()
        .map(|(name, reports)| {
            let points =
                reports.iter().filter_map(|report| Some((report.joined as f64, value(report)?)));
            (*name, points.collect())
        })
        .collect();
    let lines: Vec<plot::Line<'_>> =
        lines.iter().map(|(name, points)| (*name, points.as_slice())).collect();
    plot::lines(axis.title, "members", y_name, &lines)
}
