//! Compares servers: each in turn on the same core under the same load, for several rounds, so that
//! changes of the machine affect all of them. `perf/compare` builds everything first.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use bandsync_perf::contest::{self, Contender};
use bandsync_perf::plot;
use bandsync_perf::report::{Report, Spread};
use bandsync_perf::run::{Run, RunFolders, say};
use bandsync_perf::target;
use clap::Args;

/// Runs the load generator against each server in turn and prints the ratios.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Number of rounds; each server runs once per round
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Duration of each measurement, in seconds
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// The scenario of the members: see `load --help`
    #[arg(long, default_value = "ticks")]
    scenario: String,
    /// Sessions
    #[arg(long, default_value_t = 125)]
    sessions: usize,
    /// Members of each session
    #[arg(long, default_value_t = 8)]
    members: usize,
    /// Search for the largest number of members that each server carries instead, starting with
    /// half of the sessions
    #[arg(long)]
    capacity: bool,
    /// Also measure the cost of idle connections, connecting and chat, in at most two rounds
    #[arg(long)]
    everything: bool,
    /// Servers to skip, separated by commas
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Another server: `NAME=COMMAND`, with `PORT` in place of its port
    #[arg(long)]
    with: Vec<String>,
    /// Folder of the programs
    #[arg(long, default_value_os_t = target(""))]
    target: PathBuf,
    /// Path of the plot, beside the folder of the reports
    #[arg(long)]
    picture: Option<PathBuf>,
    /// Further arguments for the generator
    #[arg(last = true)]
    more: Vec<String>,
}

/// Runs the command.
pub fn run(options: Options) -> io::Result<()> {
    let mut folders = RunFolders::new(&options.target)?;
    let mut contenders = contenders(&options, &folders);
    if contenders.is_empty() {
        return Err(io::Error::other("no server is left to compare; `perf/compare` builds them"));
    }
    let run = Run {
        name: "",
        server: "",
        scenario: &options.scenario,
        sessions: options.sessions,
        members: options.members,
        seconds: options.seconds,
        more: &options.more,
    };
    let mut screen = io::stdout().lock();
    if options.capacity {
        writeln!(screen, "| server | members served without missed ticks |\n|---|---|")?;
        for contender in &contenders {
            match contest::capacity(contender, options.sessions / 2, &mut folders, &run) {
                Ok(most) => writeln!(screen, "| {} | {most} |", contender.title)?,
                Err(error) => writeln!(screen, "| {} | – ({error}) |", contender.title)?,
            }
        }
        return Ok(());
    }
    contest::compete(&mut contenders, options.rounds, &mut folders, &run);
    let reports: Vec<&Report> =
        contenders.iter().flat_map(|it| it.rounds.iter().flatten()).collect();
    let folder = folders.reports.clone();
    std::fs::write(folder.join("compare.json"), serde_json::to_vec_pretty(&reports)?)?;
    let picture = picture(&contenders);
    std::fs::write(folder.join("compare.svg"), &picture)?;
    if let Some(path) = &options.picture {
        std::fs::write(path, &picture)?;
    }
    screen.write_all(table(&contenders).as_bytes())?;
    if options.everything {
        let others = others(&options, &mut folders);
        writeln!(screen, "\n{others}")?;
    }
    writeln!(screen, "\nwritten: {0}/compare.json, {0}/compare.svg", folder.display())
}

/// Returns the contenders. A missing one is skipped and reported.
fn contenders(options: &Options, place: &RunFolders) -> Vec<Contender> {
    let mut all = contest::contenders(place);
    let more = options.with.iter().filter_map(|with| with.split_once('='));
    all.extend(more.map(|(name, command)| Contender::new(name, name, command)));
    all.retain(|contender| !options.without.contains(&contender.name));
    all.retain(|contender| {
        let missing = contender.missing();
        if let Some(why) = &missing {
            say(&format!("without {}: {why}", contender.name));
        }
        missing.is_none()
    });
    all
}

fn with_spread(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("–".into(), |s| {
        format!("{:.digits$} ({:.digits$}–{:.digits$})", s.median, s.min, s.max)
    })
}

fn middle(spread: Option<Spread>, by: f64) -> String {
    spread.map_or("–".into(), |s| format!("{:.2}", s.median / by))
}

/// Returns the ratio to the first of them, round by round.
fn ratio(contenders: &[Contender], contender: &Contender) -> Option<Spread> {
    contender.ratio(contenders.first()?, |report| report.cpu_micros)
}

fn table(contenders: &[Contender]) -> String {
    let first = contenders.first().map_or("", |first| first.title.as_str());
    let mut text = format!(
        "| server | CPU µs per message | ratio to {first} | delivered % | lateness p99 ms | gap p99 / p99.9 ms \
         | probe p50 / p99 ms | memory idle / at the end, KiB a connection | generator's CPU, % of the server's |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for contender in contenders {
        let time = |times: &'static str, percentile: &'static str| {
            middle(contender.spread(|report| report.percentile(times, percentile)), 1_000.0)
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} / {} | {} / {} | {} / {} | {} |",
            contender.title,
            with_spread(contender.spread(|report| report.cpu_micros), 2),
            with_spread(ratio(contenders, contender), 2),
            middle(contender.spread(|report| Some(report.fraction())), 0.01),
            time("lateness", "p99"),
            time("gap", "p99"),
            time("gap", "p99.9"),
            time("probe", "p50"),
            time("probe", "p99"),
            middle(contender.spread(|report| report.memory_idle), 1_024.0),
            middle(contender.spread(|report| report.memory_end), 1_024.0),
            contender
                .spread(Report::own_part)
                .map_or("–".into(), |share| format!("{:.0}", share.median * 100.0)),
        );
    }
    text
}

/// Measures other costs of a connection: idle, connecting, and chat.
fn others(options: &Options, folders: &mut RunFolders) -> String {
    let mut measure = |scenario, sessions, members, more: &[&str]| {
        say(scenario);
        let mut contenders = contenders(options, folders);
        let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
        // Idle members are kept alive every 2.5 s and every 5 s.
        let seconds = if scenario == "idle" { 5 } else { options.seconds.min(4) };
        let run = Run { name: "", server: "", scenario, sessions, members, seconds, more: &more };
        contest::compete(&mut contenders, options.rounds.min(2), folders, &run);
        contenders
    };
    let idle = measure("idle", 1_000, 8, &["--warm-up", "1"]);
    let joins = measure("joins", 125, 8, &["--rate", "0", "--in-flight", "128", "--warm-up", "1"]);
    let paced =
        measure("joins", 125, 8, &["--rate", "500", "--in-flight", "128", "--warm-up", "1"]);
    let chat = measure("chat", 10, 100, &["--rate", "200", "--warm-up", "1"]);
    let mut text = String::from(
        "| server | idle memory of 8 000, KiB each | their CPU, % of a core | set-ups a second | CPU µs each \
         | p99 at 500 a second, ms | chat delivered a second (of 200 000) | CPU µs each | p99 ms |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (((idle, joins), paced), chat) in idle.iter().zip(&joins).zip(&paced).zip(&chat) {
        let rate = |report: &Report| Some(report.delivered as f64 / report.seconds);
        let whole =
            |spread: Option<Spread>| spread.map_or("–".into(), |s| format!("{:.0}", s.median));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            idle.title,
            middle(idle.spread(|report| report.memory_end), 1_024.0),
            middle(idle.spread(|report| report.cpu_share), 0.01),
            whole(joins.spread(rate)),
            middle(joins.spread(|report| report.cpu_micros), 1.0),
            middle(paced.spread(|report| report.percentile("set-up", "p99")), 1_000.0),
            whole(chat.spread(rate)),
            middle(chat.spread(|report| report.cpu_micros), 1.0),
            middle(chat.spread(|report| report.percentile("chat", "p99")), 1_000.0),
        );
    }
    text
}

fn picture(contenders: &[Contender]) -> String {
    let bars: Vec<_> = contenders
        .iter()
        .filter_map(|contender| {
            let ratio = ratio(contenders, contender)?;
            Some((contender.title.as_str(), ratio.median, ratio.min, ratio.max))
        })
        .collect();
    let first = contenders.first().map_or("", |first| first.title.as_str());
    plot::bars(&format!("CPU per delivered message; {first} = 1"), &bars)
}
