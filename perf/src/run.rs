//! One run of the load generator, as a process of its own, against a server that it starts.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::report::Report;

/// The first port; each run takes the next one, for the last one's may still rest.
const FIRST_PORT: u16 = 7_500;

/// Where runs take place. Each is written down as JSON.
#[derive(Debug)]
pub struct Place {
    /// The folder of the built programs.
    pub release: PathBuf,
    /// The folder of the reports.
    pub reports: PathBuf,
    next_port: u16,
}

/// What a run does.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// What to call it.
    pub name: &'a str,
    /// The server's program and arguments, with `PORT` where its port is to stand.
    pub server: &'a str,
    /// What the members do: see `load --help`.
    pub scenario: &'a str,
    /// Sessions.
    pub sessions: usize,
    /// Members of each.
    pub members: usize,
    /// How long it measures, in seconds.
    pub seconds: u64,
    /// More arguments for the generator.
    pub more: &'a [String],
}

impl Place {
    /// Of programs that were built in cargo's folder `target`.
    ///
    /// # Errors
    /// If the folder for reports cannot be made.
    pub fn new(target: &std::path::Path) -> io::Result<Self> {
        let reports = target.join("perf");
        std::fs::create_dir_all(&reports)?;
        Ok(Self { release: target.join("release"), reports, next_port: FIRST_PORT })
    }

    /// How BandSync is started here: one shard, whoever comes from this machine is let in.
    pub fn bandsync(&self) -> String {
        let release = self.release.display();
        format!(
            "{release}/bandsync --host 127.0.0.1 --port PORT --shards 1 --scroll-tick-interval 16 --log-level warn \
             --max-session-members 10000 --storage memory --memory-limit 100000 --memory-threshold 50000"
        )
    }

    /// Runs, and reads what was found.
    ///
    /// # Errors
    /// If the server does not start or the generator fails.
    pub fn run(&mut self, run: &Run<'_>) -> io::Result<Report> {
        let port = self.next_port;
        self.next_port += 1;
        let path = self.reports.join(format!("{}-{port}.json", run.name));
        let mut command = Command::new(self.release.join("load"));
        command
            .args(["--name", run.name, "--scenario", run.scenario])
            .args(["--sessions", &run.sessions.to_string(), "--members", &run.members.to_string()])
            .args(["--seconds", &run.seconds.to_string(), "--address", &format!("127.0.0.1:{port}")])
            .args(["--spawn", run.server])
            .arg("--json")
            .arg(&path)
            .args(run.more)
            .stdout(Stdio::null());
        let status = command.status()?;
        if !status.success() {
            return Err(io::Error::other(format!("the run failed: {status}")));
        }
        Report::load(&path)
    }
}
