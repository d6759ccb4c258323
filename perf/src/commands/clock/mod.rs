//! Measures clients' clocks against the true one: real clients behind networks of known delays.
//!
//! All processes of a machine share its monotonic clock. So the server's clock is known to a few
//! microseconds ([`truth`]), each look of a client at its clock has an exact time, and the error is
//! their difference ([`analysis`]).

mod analysis;
mod client;
mod table;
mod truth;

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use analysis::{Checks, Error, Found, Look, Seen};
use bandsync_perf::latency::Times;
use bandsync_perf::network::Profile;
use bandsync_perf::plot;
use bandsync_perf::proxy::{Door, Proxy};
use bandsync_perf::run::{RunFolders, say};
use bandsync_perf::server::Server;
use bandsync_perf::target;
use clap::{Args, ValueEnum};
use client::{Client, Plan};
use table::{Goal, Row, Trust};
use truth::{Prober, Truth};

/// Measures the error of clients' clocks on each network, against its goals and against the best
/// that any estimator could do. The exit code is 1 if the machine was too busy for a run to count.
///
/// Build with `cargo build --release -p bandsync -p bandsync-perf` first. Needs Node.js and
/// `npm ci` in `tests/js`, and Chromium for browsers.
#[derive(Debug, Args)]
pub struct Options {
    /// Networks, separated by commas; by default all
    #[arg(long, value_delimiter = ',')]
    profile: Vec<Setting>,
    /// Clients, each a process
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Clients that are headless browsers
    #[arg(long, default_value_t = 1)]
    browsers: usize,
    /// Duration of the measurement of a steady clock, in seconds; the first five are left out
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Members of each client that connect in turn, to be looked at one second later
    #[arg(long, default_value_t = 12)]
    connects: u32,
    /// Steps of each client's clock
    #[arg(long, default_value_t = 3)]
    steps: u32,
    /// Seed of all delays and clocks
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder of the programs
    #[arg(long, default_value_os_t = target(""))]
    target: PathBuf,
    /// Path of the plot
    #[arg(long, default_value_os_t = target("perf/clock.svg"))]
    picture: PathBuf,
}

/// The networks of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Setting {
    Wired,
    Good,
    Busy,
    Bad,
    Mobile,
    /// A band of eight with all of these networks.
    Band,
}

/// The networks of a mixed band of eight. Browsers come last, as on a busy phone.
const BAND: [Profile; 8] = [
    Profile::Wired,
    Profile::Good,
    Profile::Good,
    Profile::Good,
    Profile::Bad,
    Profile::Bad,
    Profile::Mobile,
    Profile::Busy,
];

impl Setting {
    /// Returns the network of a client.
    fn profile(self, client: usize) -> Profile {
        match self {
            Self::Wired => Profile::Wired,
            Self::Good => Profile::Good,
            Self::Busy => Profile::Busy,
            Self::Bad => Profile::Bad,
            Self::Mobile => Profile::Mobile,
            Self::Band => BAND[client % BAND.len()],
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Band => "mixed band",
            other => other.profile(0).title(),
        }
    }

    /// Returns the goal of an error one second after connecting.
    fn connect_goal(self) -> Option<Goal> {
        let goal = |at_most| Some(Goal { percentile: 95.0, at_most });
        match self {
            Self::Good => goal(0.2),
            Self::Bad => goal(0.5),
            _ => None,
        }
    }

    fn steady_goal(self) -> Option<Goal> {
        (self == Self::Good).then_some(Goal { percentile: 99.0, at_most: 0.5 })
    }

    fn spread_goal(self) -> Option<Goal> {
        (self == Self::Band).then_some(Goal { percentile: 99.0, at_most: 5.0 })
    }

    fn recovery_goal(self) -> Option<Goal> {
        (self == Self::Good).then_some(Goal { percentile: 100.0, at_most: 1_000.0 })
    }
}

/// The result of a run.
struct Outcome {
    rows: Vec<Row>,
    trust: Trust,
    /// Percentiles of the steady error, for the plot.
    curve: Vec<(f64, f64)>,
    /// Clients that were browsers.
    browsers: usize,
}

/// Runs the command.
pub fn run(options: Options) -> io::Result<ExitCode> {
    let mut folders = RunFolders::new(&options.target)?;
    let settings = match options.profile.is_empty() {
        true => Setting::value_variants(),
        false => &options.profile,
    };
    let (mut rows, mut trusts, mut curves) = (Vec::new(), Vec::new(), Vec::new());
    let mut browsers = options.browsers.min(options.clients);
    for &setting in settings {
        say(setting.title());
        let outcome = measure(setting, &options, &mut folders)?;
        rows.extend(outcome.rows);
        trusts.push(outcome.trust);
        curves.push((setting.title(), outcome.curve));
        browsers = browsers.min(outcome.browsers);
    }
    let lines: Vec<_> = curves.iter().map(|(name, curve)| (*name, curve.as_slice())).collect();
    let picture = plot::percentiles("Error of a steady clock, by percentile", &lines);
    std::fs::write(&options.picture, picture)?;

    let left_out = match options.browsers.min(options.clients) - browsers {
        0 => String::new(),
        missing => format!(" ({missing} were left out, because none could be started)"),
    };
    let mut screen = io::stdout().lock();
    writeln!(
        screen,
        "{} clients, browsers among them: {browsers}{left_out}\n\n{}\n{}\nwritten: {}",
        options.clients,
        table::errors(&rows, &trusts),
        table::trust(&trusts),
        options.picture.display()
    )?;
    let counts = trusts.iter().all(Trust::counts);
    Ok(if counts { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all clients of one setting at the same time.
fn measure(setting: Setting, options: &Options, folders: &mut RunFolders) -> io::Result<Outcome> {
    let address = folders.address();
    let server = Server::start(&folders.bandsync(), 0, address)?;
    let prober = Prober::start(address.port())?;
    let doors: Vec<Door> = (0..options.clients)
        .map(|client| Door {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            profile: setting.profile(client),
        })
        .collect();
    let proxy = Proxy::start(address, &doors, options.seed)?;
    let mut clients = Vec::new();
    let mut browsers = 0;
    for (index, door) in proxy.addresses().iter().enumerate() {
        let plan = Plan {
            url: format!("http://{door}"),
            session_id: truth::SESSION,
            name: format!("Client {index}"),
            seed: options.seed.wrapping_mul(1_000).wrapping_add(index as u64),
            connects: options.connects,
            seconds: options.seconds,
            steps: options.steps,
            browser: index + options.browsers >= options.clients,
        };
        let client = Client::start(&plan)?;
        browsers += usize::from(client.is_browser());
        clients.push(client);
    }
    for client in &mut clients {
        client.begin()?;
    }
    let found: Vec<Found> = clients.into_iter().map(Client::finish).collect::<io::Result<_>>()?;
    let journal = proxy.stop()?;
    let truth = prober.stop()?;
    drop(server);

    let late = journal.lateness.summary();
    let late = [0, 2, 4].map(|index| late.percentiles.get(index).copied().unwrap_or_default());
    let (rows, checks, curve) = evaluate(setting, &found, &truth);
    let trust = Trust {
        network: setting.title().to_owned(),
        chunks: journal.lateness.count(),
        late,
        not_stamped: journal.not_stamped,
        truth: truth.bound() * 1_000.0,
        checks: checks.count,
        broken: checks.broken,
    };
    Ok(Outcome { rows, trust, curve, browsers })
}

/// Computes the rows of a run, the checks of its bounds, and the curve of its steady errors.
fn evaluate(
    setting: Setting,
    found: &[Found],
    truth: &Truth,
) -> (Vec<Row>, Checks, Vec<(f64, f64)>) {
    let all = |seen: &Seen| analysis::looks(seen, truth);
    let connects: Vec<Look> = found
        .iter()
        .flat_map(|client| &client.connects)
        .filter_map(|seen| all(seen).last().copied())
        .collect();
    let members: Vec<(&Seen, Vec<Look>)> =
        found.iter().map(|client| (&client.steady, all(&client.steady))).collect();
    let steady: Vec<&[Look]> =
        members.iter().map(|(seen, looks)| analysis::steady(seen, looks)).collect();

    let mut checks = Checks::default();
    checks.add(&connects, truth);
    let mut curve = Times::default();
    for (_, looks) in &members {
        checks.add(looks, truth);
    }
    for look in steady.iter().copied().flatten() {
        curve.record((look.shown.abs() * 1e6) as u64);
    }

    let sizes = |looks: &[Look], error: Error| -> Vec<f64> {
        looks.iter().map(|look| error(look).abs()).collect()
    };
    let settled = steady.concat();
    let recoveries = |error: Error| -> Vec<f64> {
        let each = members.iter();
        each.flat_map(|(seen, looks)| analysis::recoveries(seen, looks, error)).collect()
    };
    let shown: Error = |look| look.shown;
    let estimated: Error = |look| look.estimated;
    let limit: Error = |look| look.limit;
    let row = |name, values, limits, goal| Row::new(setting.title(), name, values, limits, goal);
    let rows = vec![
        row(
            "error 1 s after connecting",
            sizes(&connects, shown),
            sizes(&connects, limit),
            setting.connect_goal(),
        ),
        row(
            "error of a steady clock",
            sizes(&settled, shown),
            sizes(&settled, limit),
            setting.steady_goal(),
        ),
        row("error of its estimate", sizes(&settled, estimated), sizes(&settled, limit), None),
        row(
            "spread of a beat",
            analysis::spreads(&steady, shown),
            analysis::spreads(&steady, limit),
            setting.spread_goal(),
        ),
        row(
            "recovery of the estimate from a step",
            recoveries(estimated),
            vec![],
            setting.recovery_goal(),
        ),
        row("recovery of the clock", recoveries(shown), vec![], setting.recovery_goal()),
    ];
    (rows, checks, curve.summary().curve)
}
