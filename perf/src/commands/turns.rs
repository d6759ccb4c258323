//! Measures how long the turns of a shard take beside bulk work, and how punctual a small band
//! stays meanwhile.
//!
//! Each case has a server of its own, with one shard on one core. A band of eight plays there, from
//! the load generator. Then the bulk work of the case begins, from another generator or from clients
//! of this process, all on the other core.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bandsync_perf::cpu;
use bandsync_perf::report::{Report, Spread};
use bandsync_perf::run::{RunFolders, say};
use bandsync_perf::server::Server;
use bandsync_perf::target;
use bandsync_testkit::TestClient;
use clap::Args;
use serde_json::Value;

/// Measures how long turns take beside bulk work, and how punctual a band of eight stays, in about
/// two minutes a round.
#[derive(Debug, Args)]
pub struct Options {
    /// Members of the large room; 10 000 need a limit of 24 000 open files
    #[arg(long, default_value_t = 9_000)]
    members: usize,
    /// Duration of each measurement, in seconds
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Rounds; the table shows medians with the least and the greatest
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Cases to measure, separated by commas: see the table; by default all
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The server; by default the one in the folder of the programs
    #[arg(long)]
    server: Option<PathBuf>,
    /// Folder of the programs
    #[arg(long, default_value_os_t = target(""))]
    target: PathBuf,
}

/// The bulk work of a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bulk {
    /// None: the band alone.
    Nothing,
    /// Two ticks a second to a large room.
    Ticks,
    /// Two messages a second to a large room.
    Chat,
    /// Everybody joins a large room, as fast as the server allows.
    Joins,
    /// All connections of a large room end at once.
    Leaves,
    /// A leader replaces the largest set list, and eight members receive it. Their connections are
    /// compressed or not.
    SetList { compressed: bool },
}

/// The cases with their names.
const CASES: [(&str, Bulk); 7] = [
    ("nothing", Bulk::Nothing),
    ("ticks", Bulk::Ticks),
    ("chat", Bulk::Chat),
    ("joins", Bulk::Joins),
    ("leaves", Bulk::Leaves),
    ("set-list", Bulk::SetList { compressed: false }),
    ("set-list-compressed", Bulk::SetList { compressed: true }),
];

/// Times in milliseconds, unless said otherwise.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    /// The longest turn.
    longest: f64,
    /// Turns of more than 1 ms, per thousand.
    over: f64,
    /// 99th percentile of the lateness of the band's ticks.
    lateness: f64,
    /// Ticks that the band received, in percent.
    delivered: f64,
    /// 99th percentile of a probe's round trip.
    probe: f64,
    /// Duration of the bulk work.
    bulk: f64,
}

/// Size of the largest set list, in bytes of text.
const SET_LIST_BYTES: usize = 900_000;
/// Number of its songs.
const SONGS: usize = 60;
/// Time in which a step that should take a moment must succeed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command.
pub fn run(options: Options) -> io::Result<()> {
    cpu::raise_file_limit();
    let mut folders = RunFolders::new(&options.target)?;
    let mut text = String::from(
        "| beside the band | longest turn, ms | turns over 1 ms, ‰ | ticks late, p99 ms | ticks delivered, % | probe, \
         p99 ms | the bulk work takes, ms |\n|---|---|---|---|---|---|---|\n",
    );
    for (name, bulk) in CASES {
        if !options.only.is_empty() && !options.only.iter().any(|only| only == name) {
            continue;
        }
        let mut found = Vec::new();
        for round in 1..=options.rounds {
            say(&format!("{name}, round {round} of {}", options.rounds));
            found.push(Case::start(&options, &mut folders)?.measure(bulk)?);
        }
        let cell = |value: fn(&Found) -> f64| {
            let values: Vec<f64> =
                found.iter().map(value).filter(|value| !value.is_nan()).collect();
            Spread::of(&values).map_or_else(
                || "–".to_owned(),
                |spread| match options.rounds {
                    1 => format!("{:.2}", spread.median),
                    _ => format!("{:.2} ({:.2}–{:.2})", spread.median, spread.min, spread.max),
                },
            )
        };
        let cells = [
            cell(|found| found.longest),
            cell(|found| found.over),
            cell(|found| found.lateness),
            cell(|found| found.delivered),
            cell(|found| found.probe),
            cell(|found| found.bulk),
        ];
        text.push_str(&format!("| {name} | {} |\n", cells.join(" | ")));
    }
    io::stdout().lock().write_all(text.as_bytes())
}

/// A server with one shard, and what is measured on it.
struct Case<'a> {
    options: &'a Options,
    address: SocketAddr,
    server: Server,
    generator: PathBuf,
    reports: PathBuf,
}

impl<'a> Case<'a> {
    fn start(options: &'a Options, folders: &mut RunFolders) -> io::Result<Self> {
        let address = folders.address();
        let own = folders.release.join("bandsync");
        let program = options.server.as_ref().unwrap_or(&own).display().to_string();
        let command = folders.bandsync().replacen(&own.display().to_string(), &program, 1)
            + " --metrics-interval 1000";
        Ok(Self {
            options,
            address,
            server: Server::start(&command, 0, address)?,
            generator: folders.release.join("perf"),
            reports: folders.reports.clone(),
        })
    }

    /// Lets the band play, does the bulk work, and measures both.
    fn measure(self, bulk: Bulk) -> io::Result<Found> {
        let crowd = match bulk {
            Bulk::Ticks => Some(self.crowd(&["--tick-hz", "2", "--probes", "0"])?),
            Bulk::Chat => {
                Some(self.crowd(&["--scenario", "chat", "--rate", "2", "--probes", "0"])?)
            }
            Bulk::Leaves => Some(self.crowd(&["--scenario", "idle", "--probes", "0"])?),
            Bulk::Nothing | Bulk::Joins | Bulk::SetList { .. } => None,
        };
        let band =
            self.load("band", &["--sessions", "1", "--members", "8", "--probes", "4"], true)?;
        let before = self.turns()?;
        let mut band = band.begin()?;
        // The band warms up for two seconds.
        std::thread::sleep(Duration::from_secs(2));
        let begun = Instant::now();
        let mut crowd = match crowd {
            Some(crowd) if bulk != Bulk::Leaves => Some(crowd.begin()?),
            other => other,
        };
        let took = match bulk {
            Bulk::Nothing => f64::NAN,
            Bulk::Ticks | Bulk::Chat => f64::NAN,
            Bulk::Joins => {
                crowd = Some(self.crowd(&["--scenario", "idle", "--probes", "0"])?);
                milliseconds(begun)
            }
            Bulk::Leaves => {
                drop(crowd.take());
                self.await_connections(16)?;
                milliseconds(begun)
            }
            Bulk::SetList { compressed } => set_list(self.address.port(), compressed),
        };
        let mut longest = 0_f64;
        while !band.has_ended()? {
            longest = longest.max(self.longest()?);
            std::thread::sleep(Duration::from_millis(500));
        }
        longest = longest.max(self.longest()?);
        let after = self.turns()?;
        let report = Report::load(&band.report)?;
        let millis =
            |times: &str, at: &str| report.percentile(times, at).unwrap_or(f64::NAN) / 1_000.0;
        let spread = match crowd.map(Generator::finish).transpose()?.flatten() {
            Some(crowd) if bulk == Bulk::Ticks => {
                crowd.percentile("spread", "p99").unwrap_or(f64::NAN) / 1_000.0
            }
            Some(crowd) if bulk == Bulk::Chat => {
                crowd.percentile("chat", "p99").unwrap_or(f64::NAN) / 1_000.0
            }
            _ => took,
        };
        Ok(Found {
            longest,
            over: (after.over - before.over) / (after.all - before.all).max(1.0) * 1_000.0,
            lateness: millis("lateness", "p99"),
            delivered: report.delivered as f64 / report.expected.max(1) as f64 * 100.0,
            probe: millis("probe", "p99"),
            bulk: spread,
        })
    }

    /// Starts a generator with the large room, and waits until all have joined.
    fn crowd(&self, more: &[&str]) -> io::Result<Generator> {
        let members = self.options.members.to_string();
        let room = ["--sessions", "1", "--members", &members, "--in-flight", "256"];
        self.load("crowd", &[&room, more].concat(), false)
    }

    /// Starts a generator, and waits until its members have joined. The band's comes first on the
    /// core that they share.
    fn load(&self, name: &str, more: &[&str], first: bool) -> io::Result<Generator> {
        let report = self.reports.join(format!("turns-{name}-{}.json", self.address.port()));
        let mut command = Command::new(&self.generator);
        command
            .args(["load", "--cue", "--name", name])
            .args(["--address", &self.address.to_string(), "--pid", &self.server.pid().to_string()])
            .args(["--seconds", &self.options.seconds.to_string()])
            .arg("--json")
            .arg(&report)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if first {
            // SAFETY: between fork and exec only a system call is made, and nothing is allocated.
            unsafe { command.pre_exec(cpu::run_first) };
        }
        let mut child = command.spawn()?;
        let Some(out) = child.stdout.take() else { return Err(io::Error::other("no output")) };
        let mut generator = Generator { child, report };
        let mut out = BufReader::new(out);
        let mut line = String::new();
        out.read_line(&mut line)?;
        if line.trim() != "joined" {
            let status = generator.child.wait()?;
            return Err(io::Error::other(format!(
                "the members of the {name} did not join: {status}"
            )));
        }
        // Further output must be read, or the generator would block.
        std::thread::spawn(move || io::copy(&mut out, &mut io::sink()));
        Ok(generator)
    }

    /// Counts the shard's turns since the start.
    fn turns(&self) -> io::Result<Turns> {
        let text = self.server.get(self.address, "/metrics/prometheus")?;
        let value = |end: &str| {
            let line = text.lines().find(|line| {
                line.starts_with("bandsync_turn_duration_seconds") && line.contains(end)
            });
            line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        };
        match (value("_count{"), value("le=\"0.001\"")) {
            (Some(all), Some(within)) => Ok(Turns { all, over: all - within }),
            _ => Err(io::Error::other("/metrics/prometheus shows no turns")),
        }
    }

    /// Returns the longest turn of the last interval, in milliseconds.
    fn longest(&self) -> io::Result<f64> {
        let text = self.server.get(self.address, "/metrics")?;
        let metrics: Value = serde_json::from_str(&text).map_err(io::Error::other)?;
        let longest = metrics.pointer("/shards/0/percentiles/turn/max").and_then(Value::as_f64);
        longest.ok_or_else(|| io::Error::other("/metrics shows no turns"))
    }

    /// Waits until at most this many connections are open.
    fn await_connections(&self, most: u64) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let text = self.server.get(self.address, "/metrics/prometheus")?;
            let line = text.lines().find(|line| line.starts_with("bandsync_connections"));
            let open = line.and_then(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
            if open.is_some_and(|open| open <= most as f64) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(io::Error::other("connections stay open"))
    }
}

/// Turns of a shard.
struct Turns {
    all: f64,
    /// Those of more than 1 ms.
    over: f64,
}

/// A running generator whose members have joined. It does not outlive this value.
struct Generator {
    child: Child,
    report: PathBuf,
}

impl Generator {
    /// Lets it begin its measurement.
    fn begin(mut self) -> io::Result<Self> {
        if let Some(mut pipe) = self.child.stdin.take() {
            pipe.write_all(b"\n")?;
        }
        Ok(self)
    }

    fn has_ended(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the end of a generator that measures, and returns its report. One that has not
    /// begun is ended.
    fn finish(mut self) -> io::Result<Option<Report>> {
        if self.child.stdin.is_some() {
            return Ok(None);
        }
        self.child.wait()?;
        Report::load(Path::new(&self.report)).map(Some)
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends the largest set list of a session of nine. Returns the milliseconds until all have it.
fn set_list(port: u16, compressed: bool) -> f64 {
    let headers = if compressed { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let mut members: Vec<TestClient> =
        (0..9).map(|_| TestClient::connect_with(port, headers)).collect();
    for (number, member) in members.iter_mut().enumerate() {
        let role = if number == 0 { "leader" } else { "follower" };
        member.say(&format!(
            r#"42["join_session",{{"sessionId":"bulk","displayName":"Member {number}","role":"{role}"}}]"#
        ));
    }
    let song = |number: usize| {
        let body = chart(number as u32, SET_LIST_BYTES / SONGS);
        format!(
            r#"{{"id":"song-{number}","title":"Song {number}","format":"chordpro","body":"{body}"}}"#
        )
    };
    let songs: Vec<String> = (0..SONGS).map(song).collect();
    let list = format!(
        r#"{{"sessionId":"bulk","setlist":{{"title":"All of them","songs":[{}]}}}}"#,
        songs.join(",")
    );
    // Everybody is there before it begins.
    for member in &mut members {
        member.ask("sync_request", r#"{"sessionId":"bulk"}"#);
    }
    let begun = Instant::now();
    let Some((leader, members)) = members.split_first_mut() else { return f64::NAN };
    let stored = leader.ask("set_setlist", &list);
    assert!(stored.contains(r#""ok":true"#), "the set list is refused: {stored:.200}");
    for member in members {
        member.hear_long(SET_LIST_BYTES / 10);
    }
    milliseconds(begun)
}

/// Returns the text of a song, as JSON without its quotes: chords over words that do not repeat.
fn chart(seed: u32, length: usize) -> String {
    let mut text = String::with_capacity(length + 128);
    let mut state = seed;
    while text.len() < length {
        for _ in 0..8 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push_str(&format!(
                "[{}m7]w{:x} ",
                char::from(b'A' + (state >> 29) as u8 % 7),
                state >> 12
            ));
        }
        text.push_str("\\n");
    }
    text
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}
