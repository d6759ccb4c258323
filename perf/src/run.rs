//! One run of the load generator, as a separate process, against a server that it starts.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::cpu;
use crate::report::Report;

/// The first port. Each run takes the next free one, since the last one may not be free again yet.
const FIRST_PORT: u16 = 7_500;

/// Maximum ports tried. If none is free, the server reports it.
const PORTS_TRIED: u16 = 10_000;

/// The folders of runs. Each run is stored as JSON.
#[derive(Debug)]
pub struct RunFolders {
    /// Folder of the built programs.
    pub release: PathBuf,
    /// Folder of the peers' programs.
    pub peers: PathBuf,
    /// Folder of the reports.
    pub reports: PathBuf,
    next_port: u16,
}

/// The description of a run.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// Name of the run.
    pub name: &'a str,
    /// The server's program and arguments, with `PORT` in place of its port.
    pub server: &'a str,
    /// The scenario of the members: see `load --help`.
    pub scenario: &'a str,
    /// Sessions.
    pub sessions: usize,
    /// Members of each session.
    pub members: usize,
    /// Duration of the measurement, in seconds.
    pub seconds: u64,
    /// Further arguments for the generator.
    pub more: &'a [String],
}

impl RunFolders {
    /// Uses programs built in cargo's folder `target`. From now on this process, the servers and
    /// the generators run in real time if that is permitted.
    ///
    /// # Errors
    /// If the folder for reports cannot be created.
    pub fn new(target: &std::path::Path) -> io::Result<Self> {
        if let Err(error) = cpu::run_in_real_time() {
            say(&format!("not in real time, so other programs make ticks late: {error}"));
        }
        let reports = target.join("perf");
        std::fs::create_dir_all(&reports)?;
        let peers = target.join("peers/release");
        Ok(Self { release: target.join("release"), peers, reports, next_port: FIRST_PORT })
    }

    /// Returns the command that starts BandSync here: one shard, and any number of connections from
    /// this machine.
    pub fn bandsync(&self) -> String {
        let release = self.release.display();
        format!(
            "{release}/bandsync --host 127.0.0.1 --port PORT --shards 1 --scroll-tick-interval 16 --log-level warn \
             --max-session-members 10000 --storage memory --memory-limit 100000 --memory-threshold 50000"
        )
    }

    /// Runs, and reads the report.
    ///
    /// # Errors
    /// If the server does not start or the generator fails.
    pub fn run(&mut self, run: &Run<'_>) -> io::Result<Report> {
        let (mut command, path) = self.command(run);
        finished(command.stdout(Stdio::null()).status()?)?;
        Report::load(&path)
    }

    /// Runs with as many servers and generators as the limit of open files requires for so many
    /// members. All servers share one core and all generators another, and they measure at the same
    /// time.
    ///
    /// # Errors
    /// If a server does not start or a generator fails.
    pub fn run_beside(&mut self, run: &Run<'_>) -> io::Result<Report> {
        let servers = (run.sessions * run.members).div_ceil(cpu::file_limit() * 9 / 10).max(1);
        let mut parts = Vec::new();
        for part in 0..servers {
            let sessions = run.sessions / servers + usize::from(part < run.sessions % servers);
            let (mut command, path) = self.command(&Run { sessions, ..run.clone() });
            command.arg("--cue").stdin(Stdio::piped()).stdout(Stdio::piped());
            parts.push(Part { child: command.spawn()?, path });
        }
        for part in &mut parts {
            part.await_joined()?;
        }
        // All start within a few microseconds.
        for part in &mut parts {
            part.begin()?;
        }
        let mut reports = Vec::new();
        for part in &mut parts {
            finished(part.child.wait()?)?;
            reports.push(Report::load(&part.path)?);
        }
        Ok(Report::together(&reports))
    }

    /// Returns the address for the next server.
    pub fn address(&mut self) -> SocketAddr {
        let mut port = self.next_port;
        while TcpListener::bind(("127.0.0.1", port)).is_err() && port < FIRST_PORT + PORTS_TRIED {
            port += 1;
        }
        self.next_port = port + 1;
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Returns the generator's command for a run, and the path of its report.
    fn command(&mut self, run: &Run<'_>) -> (Command, PathBuf) {
        let address = self.address();
        let path = self.reports.join(format!("{}-{}.json", run.name, address.port()));
        let mut command = Command::new(self.release.join("perf"));
        command
            .arg("load")
            .args(["--name", run.name, "--scenario", run.scenario])
            .args(["--sessions", &run.sessions.to_string(), "--members", &run.members.to_string()])
            .args(["--seconds", &run.seconds.to_string(), "--address", &address.to_string()])
            .args(["--spawn", run.server])
            .arg("--json")
            .arg(&path)
            .args(run.more);
        (command, path)
    }
}

/// One of several generators that run at the same time. It does not outlive this value.
struct Part {
    child: Child,
    path: PathBuf,
}

impl Part {
    /// Waits until its members have joined. If it has ended instead, its exit code is reported
    /// later.
    fn await_joined(&mut self) -> io::Result<()> {
        let Some(out) = self.child.stdout.take() else { return Ok(()) };
        let mut out = BufReader::new(out);
        out.read_line(&mut String::new())?;
        // Further output must be read, or the generator would block.
        std::thread::spawn(move || io::copy(&mut out, &mut io::sink()));
        Ok(())
    }

    fn begin(&mut self) -> io::Result<()> {
        match self.child.stdin.take().map(|mut pipe| pipe.write_all(b"\n")) {
            Some(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reports progress on standard error.
pub fn say(text: &str) {
    // Progress that cannot be shown is no reason to fail.
    let _ = writeln!(io::stderr(), "{text}");
}

fn finished(status: ExitStatus) -> io::Result<()> {
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("the run failed: {status}")))
    }
}
