//! Servers side by side: each in turn on the same core under the same load, several rounds, so that what changes on
//! the machine in the meantime falls on all of them. `perf/compare` builds everything first.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use bandsync_perf::plot;
use bandsync_perf::report::{Report, Spread};
use bandsync_perf::run::{Place, Run};
use clap::Parser;

/// Runs the load generator against each server in turn and prints the ratios.
#[derive(Clone, Debug, Parser)]
struct Options {
    /// How often each server has its turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each turn measures, in seconds.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// What the members do: see `load --help`.
    #[arg(long, default_value = "ticks")]
    scenario: String,
    /// Sessions.
    #[arg(long, default_value_t = 125)]
    sessions: usize,
    /// Members of each.
    #[arg(long, default_value_t = 8)]
    members: usize,
    /// Looks for the largest number of members that each server carries instead, from half of the sessions on.
    #[arg(long)]
    capacity: bool,
    /// Servers to leave out, parted by commas.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Another server: `NAME=COMMAND`, with `PORT` where its port is to stand.
    #[arg(long)]
    with: Vec<String>,
    /// Where the programs are.
    #[arg(long, default_value = "target")]
    target: PathBuf,
    /// More arguments for the generator.
    #[arg(last = true)]
    more: Vec<String>,
}

/// A server and what its turns found.
struct Contender {
    name: String,
    command: String,
    reports: Vec<Report>,
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let mut place = Place::new(&options.target)?;
    let mut contenders = contenders(&options, &place);
    let mut screen = io::stdout().lock();
    if options.capacity {
        writeln!(screen, "| server | members of whom each gets its ticks |\n|---|---|")?;
        for contender in &contenders {
            let most = capacity(&options, contender, &mut place)?;
            writeln!(screen, "| {} | {most} |", contender.name)?;
        }
        return Ok(());
    }
    for round in 1..=options.rounds {
        for contender in &mut contenders {
            say(&format!("round {round} of {}: {}", options.rounds, contender.name));
            match turn(&options, contender, &mut place) {
                Ok(report) => contender.reports.push(report),
                // It has lost the turn and the others go on.
                Err(error) => say(&format!("{}: {error}", contender.name)),
            }
        }
    }
    let reports: Vec<&Report> = contenders.iter().flat_map(|contender| &contender.reports).collect();
    let folder = &place.reports;
    std::fs::write(folder.join("compare.json"), serde_json::to_vec_pretty(&reports)?)?;
    std::fs::write(folder.join("compare.svg"), picture(&contenders))?;
    screen.write_all(table(&contenders).as_bytes())?;
    writeln!(screen, "\nwritten: {0}/compare.json, {0}/compare.svg", folder.display())
}

/// Who takes part, the floor first: the others are seen against it.
fn contenders(options: &Options, place: &Place) -> Vec<Contender> {
    let release = place.release.display();
    let peer = options.target.join("peers/release/bandsync-peer-socketioxide");
    let mut all = vec![
        ("floor".to_owned(), format!("{release}/floor --listen 127.0.0.1:PORT")),
        ("floor-uring".to_owned(), format!("{release}/floor --listen 127.0.0.1:PORT --by uring")),
        ("bandsync".to_owned(), place.bandsync()),
        ("socketioxide".to_owned(), format!("{} PORT 16", peer.display())),
        ("node".to_owned(), "node perf/peers/node/server.js PORT 16".to_owned()),
    ];
    let more = options.with.iter().filter_map(|with| with.split_once('='));
    all.extend(more.map(|(name, command)| (name.to_owned(), command.to_owned())));
    all.retain(|(name, _)| !options.without.contains(name));
    all.into_iter().map(|(name, command)| Contender { name, command, reports: Vec::new() }).collect()
}

fn turn(options: &Options, contender: &Contender, place: &mut Place) -> io::Result<Report> {
    place.run(&Run {
        name: &contender.name,
        server: &contender.command,
        scenario: &options.scenario,
        sessions: options.sessions,
        members: options.members,
        seconds: options.seconds,
        more: &options.more,
    })
}

/// The most members of whom each gets its ticks: at least 99.9 % of them, and 99 of a hundred gaps under 20 ms. Doubles
/// until it fails and then halves the way, in steps of a sixteenth. A size that fails is tried once more.
fn capacity(options: &Options, contender: &Contender, place: &mut Place) -> io::Result<usize> {
    const GAP_MAX: f64 = 20_000.0;
    let mut carries = |sessions: usize| -> io::Result<bool> {
        for _ in 0..2 {
            let sized = Options { sessions, ..options.clone() };
            let report = turn(&sized, contender, place)?;
            let gap = report.percentile("gap", "p99").unwrap_or(f64::INFINITY);
            say(&format!(
                "{}: {} members, {:.2} % delivered, gap p99 {:.2} ms",
                contender.name,
                sessions * options.members,
                report.fraction() * 100.0,
                gap / 1_000.0
            ));
            if report.fraction() >= 0.999 && gap < GAP_MAX {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let (mut most, mut step) = (0, (options.sessions / 2).max(16));
    let least = step / 8;
    while carries(most + step)? {
        most += step;
    }
    while step > least {
        step /= 2;
        if carries(most + step)? {
            most += step;
        }
    }
    Ok(most * options.members)
}

/// The ratio to the first contender, round by round.
fn ratios(contenders: &[Contender], contender: &Contender) -> Option<Spread> {
    let base = contenders.first()?;
    let pairs = base.reports.iter().zip(&contender.reports);
    let ratios = pairs.filter_map(|(base, own)| Some(own.cpu_micros? / base.cpu_micros?));
    Spread::of(&ratios.collect::<Vec<_>>())
}

fn table(contenders: &[Contender]) -> String {
    let mut text = String::from(
        "| server | CPU µs per message | ratio to the first | delivered % | lateness p99 ms | gap p99 / p99.9 ms \
         | probe p50 / p99 ms | memory idle / at the end, KiB a connection |\n|---|---|---|---|---|---|---|---|\n",
    );
    for contender in contenders {
        let of = |value: &dyn Fn(&Report) -> Option<f64>| {
            Spread::of(&contender.reports.iter().filter_map(value).collect::<Vec<_>>())
        };
        let with_spread = |spread: Option<Spread>| {
            spread.map_or("–".into(), |s| format!("{:.2} ({:.2}–{:.2})", s.median, s.min, s.max))
        };
        let middle = |spread: Option<Spread>, by: f64| {
            spread.map_or("–".into(), |s| format!("{:.2}", s.median / by))
        };
        let time = |times: &str, percentile: &str| middle(of(&|r| r.percentile(times, percentile)), 1_000.0);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} / {} | {} / {} | {} / {} |",
            contender.name,
            with_spread(of(&|report| report.cpu_micros)),
            with_spread(ratios(contenders, contender)),
            middle(of(&|report| Some(report.fraction())), 0.01),
            time("lateness", "p99"),
            time("gap", "p99"),
            time("gap", "p99.9"),
            time("probe", "p50"),
            time("probe", "p99"),
            middle(of(&|report| report.memory_idle), 1_024.0),
            middle(of(&|report| report.memory_end), 1_024.0),
        );
    }
    text
}

fn picture(contenders: &[Contender]) -> String {
    let bars: Vec<_> = contenders
        .iter()
        .filter_map(|contender| {
            let ratio = ratios(contenders, contender)?;
            Some((contender.name.as_str(), ratio.median, ratio.min, ratio.max))
        })
        .collect();
    plot::bars("CPU per delivered message, floor = 1", "ratio", &bars)
}

fn say(text: &str) {
    // What cannot be shown is not worth failing for.
    let _ = writeln!(io::stderr(), "{text}");
}
