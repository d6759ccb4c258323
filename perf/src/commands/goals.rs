//! Measures each performance goal on this machine: the result with its spread, whether the goal is
//! met, and the command. `perf/compare --goals` builds everything first.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bandsync_perf::contest::{self, Contender};
use bandsync_perf::report::{Report, Spread};
use bandsync_perf::run::{Run, RunFolders, say};
use bandsync_perf::server::Server;
use bandsync_perf::target;
use clap::Args;

/// Measures every goal in turn, in about ten minutes.
#[derive(Debug, Args)]
pub struct Options {
    /// Number of rounds where servers are compared; each server runs once per round
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Duration of each run, in seconds
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Goals to measure, separated by commas: `ticks`, `capacity`, `user`, `idle`, `joins`, `chat`,
    /// `timeline`; by default all
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Folder of the programs
    #[arg(long, default_value_os_t = target(""))]
    target: PathBuf,
}

/// The side of its bound on which a goal is met.
#[derive(Clone, Copy)]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

/// A row of the table.
struct Goal {
    name: String,
    unit: &'static str,
    bound: Bound,
    found: Option<Spread>,
    command: &'static str,
}

impl Goal {
    fn row(&self) -> String {
        let (sign, value) = match self.bound {
            Bound::AtMost(value) => ("≤", value),
            Bound::AtLeast(value) => ("≥", value),
        };
        let digits = if value >= 100.0 { 0 } else { 2 };
        let (shown, verdict) = match self.found {
            None => ("not measured".to_owned(), "–"),
            Some(Spread { median, min, max }) => {
                let met = match self.bound {
                    Bound::AtMost(value) => median <= value,
                    Bound::AtLeast(value) => median >= value,
                };
                let shown = format!("{median:.digits$} ({min:.digits$}–{max:.digits$})");
                (shown, if met { "met" } else { "**missed**" })
            }
        };
        format!(
            "| {} | {sign} {value:.digits$} {} | {shown} | {verdict} | `{}` |",
            self.name, self.unit, self.command
        )
    }
}

/// A part of the measurement.
type Step = fn(&mut Bench);

struct Bench {
    options: Options,
    folders: RunFolders,
    goals: Vec<Goal>,
}

/// Runs the command.
pub fn run(options: Options) -> io::Result<()> {
    let folders = RunFolders::new(&options.target)?;
    let mut bench = Bench { options, folders, goals: Vec::new() };
    let steps: [(&str, Step); 7] = [
        ("ticks", Bench::ticks),
        ("capacity", Bench::capacity),
        ("user", Bench::user_space),
        ("idle", Bench::idle),
        ("joins", Bench::joins),
        ("chat", Bench::chat),
        ("timeline", Bench::timeline),
    ];
    for (name, step) in steps {
        if bench.options.only.is_empty() || bench.options.only.iter().any(|only| only == name) {
            step(&mut bench);
        }
    }
    let mut text = String::from(
        "| goal | bound | found: median (least–greatest) | | command |\n|---|---|---|---|---|\n",
    );
    for goal in &bench.goals {
        let _ = writeln!(text, "{}", goal.row());
    }
    io::stdout().lock().write_all(text.as_bytes())
}

impl Bench {
    fn goal(
        &mut self,
        name: &str,
        bound: Bound,
        unit: &'static str,
        found: Option<Spread>,
        command: &'static str,
    ) {
        let goal = Goal { name: name.to_owned(), unit, bound, found, command };
        say(&goal.row());
        self.goals.push(goal);
    }

    /// Reports of several runs of BandSync.
    fn runs(
        &mut self,
        times: usize,
        scenario: &str,
        sessions: usize,
        members: usize,
        more: &str,
    ) -> Vec<Report> {
        let more: Vec<String> = more.split_whitespace().map(str::to_owned).collect();
        let server = self.folders.bandsync();
        // Heartbeats come every 2.5 s and every 5 s; a shorter measurement would contain some or
        // none of them.
        let seconds = match scenario {
            "idle" | "ticks" => self.options.seconds.max(5),
            _ => self.options.seconds,
        };
        let run = Run {
            name: "goal",
            server: &server,
            scenario,
            sessions,
            members,
            seconds,
            more: &more,
        };
        let mut reports = Vec::new();
        for time in 1..=times {
            say(&format!(
                "{scenario}, {sessions} × {members} {}: {time} of {times}",
                more.join(" ")
            ));
            match self.folders.run_beside(&run) {
                Ok(report) => reports.push(report),
                Err(error) => say(&error.to_string()),
            }
        }
        reports
    }

    /// Measures the CPU time of a tick against the floor and uWebSockets, and its lateness, with 1
    /// 000 and 2 000 members.
    fn ticks(&mut self) {
        for (sessions, late_max) in [(125, 1.0), (250, 2.0)] {
            let mut all = contest::contenders(&self.folders);
            let two = self.folders.bandsync().replace("--shards 1", "--shards 2");
            all.push(Contender::new("shards", "two shards", &two));
            all.retain(|it| !["socketioxide", "node"].contains(&it.name.as_str()));
            for absent in all.iter().filter_map(Contender::missing) {
                say(&absent);
            }
            all.retain(|contender| contender.missing().is_none());
            let more = ["--warm-up".to_owned(), "1".to_owned()];
            let seconds = self.options.seconds;
            let run = Run {
                name: "",
                server: "",
                scenario: "ticks",
                sessions,
                members: 8,
                seconds,
                more: &more,
            };
            contest::compete(&mut all, self.options.rounds, &mut self.folders, &run);
            let by = |name: &str| all.iter().find(|contender| contender.name == name);
            let cpu = |report: &Report| report.cpu_micros;
            let ratio = |name: &str, to: &str| by(name)?.ratio(by(to)?, cpu);
            let members = sessions * 8;
            let command =
                if sessions == 125 { "./perf/compare" } else { "./perf/compare --sessions 250" };
            let mut goal = |name: &str, bound, unit, found| {
                self.goal(&format!("{name}, {members} members"), bound, unit, found, command);
            };
            goal(
                "CPU of a tick, by `send()`",
                Bound::AtMost(1.10),
                "× floor",
                ratio("bandsync-send", "floor"),
            );
            goal(
                "CPU of a tick, by io_uring",
                Bound::AtMost(0.97),
                "× floor",
                ratio("bandsync", "floor"),
            );
            let least = ratio("bandsync", "uwebsockets");
            goal("CPU of a tick, by io_uring", Bound::AtMost(1.0), "× uWebSockets", least);
            let least = ratio("bandsync-send", "uwebsockets");
            goal("CPU of a tick, by `send()`", Bound::AtMost(1.0), "× uWebSockets", least);
            let p99 = |times: &'static str| {
                by("bandsync")?.spread(|report| Some(report.percentile(times, "p99")? / 1_000.0))
            };
            goal("lateness of ticks, p99", Bound::AtMost(late_max), "ms", p99("lateness"));
            goal("round trip of a probe meanwhile, p99", Bound::AtMost(2.0), "ms", p99("probe"));
            // Both shards share one core here, because the generator needs the other. Their
            // capacity on two cores follows from the cost of a tick.
            let carried =
                by("shards").zip(by("bandsync")).and_then(|(two, one)| one.ratio(two, cpu));
            let twice = carried.map(|Spread { median, min, max }| Spread {
                median: 2.0 * median,
                min: 2.0 * min,
                max: 2.0 * max,
            });
            goal("two shards, by CPU of a tick", Bound::AtLeast(1.8), "× one", twice);
        }
    }

    fn capacity(&mut self) {
        let more = ["--warm-up".to_owned(), "1".to_owned()];
        let seconds = self.options.seconds;
        let run = Run {
            name: "",
            server: "",
            scenario: "ticks",
            sessions: 0,
            members: 8,
            seconds,
            more: &more,
        };
        let mut most = Vec::new();
        for contender in contest::contenders(&self.folders) {
            if ["floor", "bandsync"].contains(&contender.name.as_str()) {
                match contest::capacity(&contender, 128, &mut self.folders, &run) {
                    Ok(members) => most.push(members as f64),
                    Err(error) => say(&error.to_string()),
                }
            }
        }
        let found = match most[..] {
            [floor, bandsync] if floor > 0.0 => Spread::of(&[bandsync / floor]),
            _ => None,
        };
        let name = "members that a core carries at 60 ticks a second";
        self.goal(name, Bound::AtLeast(0.95), "× floor", found, "./perf/compare --capacity");
    }

    /// Samples where the server is: the kernel's own accounting is wrong for work that its tick
    /// drives.
    fn user_space(&mut self) {
        let found = self.sampled();
        if let Err(error) = &found {
            say(&format!("user space: {error}"));
        }
        let found = found.ok().and_then(|micros| Spread::of(&[micros]));
        let name = "user space of a tick, 1 000 members";
        self.goal(name, Bound::AtMost(0.4), "µs", found, "./perf/compare --goals --only user");
    }

    fn sampled(&mut self) -> io::Result<f64> {
        let address = self.folders.address();
        let command = self.folders.bandsync();
        let server = Server::start(&command, 0, address)?;
        let pid = server.pid().to_string();
        let report = self.folders.reports.join("user-space.json");
        let mut load = Command::new(self.folders.release.join("perf"))
            .arg("load")
            .args(["--pid", &pid, "--address", &address.to_string(), "--seconds", "6", "--json"])
            .arg(&report)
            .stdout(Stdio::null())
            .spawn()?;
        // The members join within a second, settle for another, and warm up for two more.
        std::thread::sleep(std::time::Duration::from_secs(5));
        let data = self.folders.reports.join("user-space.perf");
        let recorded = Command::new("perf")
            .args(["record", "-q", "-e", "cpu-clock", "-F", "5000", "-p", &pid, "-o"])
            .arg(&data)
            .args(["--", "sleep", "3"])
            .status();
        let ended = load.wait()?;
        if !recorded?.success() || !ended.success() {
            return Err(io::Error::other("`perf record` or the load failed"));
        }
        let samples =
            Command::new("perf").args(["script", "-F", "ip", "-i"]).arg(&data).output()?;
        let (mut user, mut all) = (0_u64, 0_u64);
        for line in String::from_utf8_lossy(&samples.stdout).lines() {
            if let Ok(address) = u64::from_str_radix(line.trim(), 16) {
                all += 1;
                // The kernel has the upper half of the addresses.
                user += u64::from(address < 1 << 63);
            }
        }
        if user == all {
            return Err(io::Error::other("the kernel does not permit sampling here"));
        }
        let whole = Report::load(&report)?.cpu_micros.unwrap_or_default();
        Ok(whole * user as f64 / all as f64)
    }

    fn idle(&mut self) {
        for (compression, most) in [("", 1.0), ("--compression", 1.5)] {
            // By then the events kept for lost members are dropped and their memory is returned to
            // the system.
            let more = format!("--in-flight 128 --warm-up 75 --probes 0 {compression}");
            let reports = self.runs(1, "idle", 2_000, 8, &more);
            let with = if compression.is_empty() { "" } else { ", compression negotiated" };
            let mut goal = |when: &str, bytes: &dyn Fn(&Report) -> Option<f64>| {
                let found = spread(&reports, |report| Some(bytes(report)? / 1_024.0));
                let name = format!("memory of an idle connection, of 16 000, {when}{with}");
                self.goal(
                    &name,
                    Bound::AtMost(most),
                    "KiB",
                    found,
                    "./perf/compare --goals --only idle",
                );
            };
            goal("right after the joins", &|report| report.memory_idle);
            goal("75 s later", &|report| report.memory_end);
        }
    }

    fn joins(&mut self) {
        let reports = self.runs(3, "joins", 125, 8, "--in-flight 256");
        let found = spread(&reports, |report| Some(report.delivered as f64 / report.seconds));
        let command = "./perf/compare --goals --only joins";
        self.goal(
            "connections set up and joined",
            Bound::AtLeast(15_000.0),
            "a second",
            found,
            command,
        );
        let reports = self.runs(3, "joins", 125, 8, "--rate 500");
        let found = spread(&reports, |report| Some(report.percentile("set-up", "p99")? / 1_000.0));
        self.goal("until joined, at 500 a second, p99", Bound::AtMost(10.0), "ms", found, command);
    }

    /// Measures 500 000 messages per second, in sessions of two sizes.
    fn chat(&mut self) {
        for (sessions, members, rate) in [(10, 100, 500), (2, 200, 1_250)] {
            let reports = self.runs(3, "chat", sessions, members, &format!("--rate {rate}"));
            let found = spread(&reports, |report| report.cpu_micros);
            let name =
                format!("CPU per delivered chat message, 500 000 a second, {sessions} × {members}");
            self.goal(&name, Bound::AtMost(1.0), "µs", found, "./perf/compare --goals --only chat");
        }
    }

    fn timeline(&mut self) {
        let more = "--tick-hz 0 --probes 1000000 --probe-interval 2500 --in-flight 128";
        let reports = self.runs(1, "ticks", 6_250, 8, more);
        let found = spread(&reports, |report| Some(report.joined as f64 / report.cpu_share?));
        let name = "members that keep the timeline on a core, by the CPU of 50 000";
        self.goal(
            name,
            Bound::AtLeast(50_000.0),
            "members",
            found,
            "./perf/compare --goals --only timeline",
        );
    }
}

fn spread(reports: &[Report], value: impl Fn(&Report) -> Option<f64>) -> Option<Spread> {
    Spread::of(&reports.iter().filter_map(value).collect::<Vec<_>>())
}
