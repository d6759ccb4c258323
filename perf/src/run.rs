//! One run of the load generator, as a process of its own, against a server that it starts.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::cpu;
use crate::report::Report;

/// The first port; each run takes the next free one, for the last one's may still rest.
const FIRST_PORT: u16 = 7_500;

/// How far the search for a free one goes. If none is, the server says so.
const PORTS_TRIED: u16 = 10_000;

/// Where runs take place. Each is written down as JSON.
#[derive(Debug)]
pub struct Place {
    /// The folder of the built programs.
    pub release: PathBuf,
    /// The folder of the peers' programs.
    pub peers: PathBuf,
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
    /// Of programs that were built in cargo's folder `target`. From now on this process runs in
    /// real time where that is permitted, and so do the servers and the generators: the cores are
    /// theirs.
    ///
    /// # Errors
    /// If the folder for reports cannot be made.
    pub fn new(target: &std::path::Path) -> io::Result<Self> {
        if let Err(error) = cpu::run_in_real_time() {
            say(&format!(
                "not in real time, so other work on this machine makes ticks late: {error}"
            ));
        }
        let reports = target.join("perf");
        std::fs::create_dir_all(&reports)?;
        let peers = target.join("peers/release");
        Ok(Self { release: target.join("release"), peers, reports, next_port: FIRST_PORT })
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
        let (mut command, path) = self.command(run);
        finished(command.stdout(Stdio::null()).status()?)?;
        Report::load(&path)
    }

    /// Runs with as many servers, and as many generators, as the limit of open files demands for so
    /// many members. All servers share one core and all generators another, and they measure at the
    /// same time.
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
        // They are told within a few microseconds of each other.
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

    /// Where the next server may listen.
    pub fn address(&mut self) -> SocketAddr {
        let mut port = self.next_port;
        while TcpListener::bind(("127.0.0.1", port)).is_err() && port < FIRST_PORT + PORTS_TRIED {
            port += 1;
        }
        self.next_port = port + 1;
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// The generator's command for a run, and where its report will be.
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
    /// Waits until it says that all its members have joined. If it has ended instead, its exit code
    /// will tell.
    fn await_joined(&mut self) -> io::Result<()> {
        let Some(out) = self.child.stdout.take() else { return Ok(()) };
        let mut out = BufReader::new(out);
        out.read_line(&mut String::new())?;
        // What it prints from now on must have somewhere to go.
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
        // One that has ended by itself needs no end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tells the person who waits how far it is.
pub fn say(text: &str) {
    // What cannot be shown is not worth failing for.
    let _ = writeln!(io::stderr(), "{text}");
}

fn finished(status: ExitStatus) -> io::Result<()> {
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(format!("the run failed: {status}")))
    }
}
