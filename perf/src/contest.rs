//! Servers under the same load in turn, for several rounds, so that changes of the machine affect
//! all of them.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::report::{Report, Spread};
use crate::run::{Run, RunFolders, say};

/// The peer whose packages npm installs.
const NODE: &str = "perf/peers/node";

/// A server and the results of its turns.
#[derive(Debug)]
pub struct Contender {
    /// Name on the command line.
    pub name: String,
    /// Name in tables.
    pub title: String,
    /// Command that starts it, with `PORT` in place of its port.
    pub command: String,
    /// Reports of the rounds; `None` for a round in which it failed.
    pub rounds: Vec<Option<Report>>,
}

impl Contender {
    /// Creates a contender without rounds.
    pub fn new(name: &str, title: &str, command: &str) -> Self {
        Self { name: name.into(), title: title.into(), command: command.into(), rounds: Vec::new() }
    }

    /// Returns the spread of a value over the rounds.
    pub fn spread(&self, value: impl Fn(&Report) -> Option<f64>) -> Option<Spread> {
        Spread::of(&self.rounds.iter().flatten().filter_map(value).collect::<Vec<_>>())
    }

    /// Returns the ratio of a value to that of another server, round by round.
    pub fn ratio(&self, to: &Self, value: impl Fn(&Report) -> Option<f64>) -> Option<Spread> {
        let pairs = self.rounds.iter().zip(&to.rounds);
        let ratios =
            pairs.filter_map(|(own, other)| Some(value(own.as_ref()?)? / value(other.as_ref()?)?));
        Spread::of(&ratios.collect::<Vec<_>>())
    }

    /// Returns the reason why it cannot be started here, if there is one.
    pub fn missing(&self) -> Option<String> {
        let program = self.command.split_whitespace().next().unwrap_or_default();
        if program.contains('/') {
            return (!Path::new(program).exists()).then(|| format!("{program} is not built"));
        }
        if self.command.contains(NODE) && !Path::new(NODE).join("node_modules").exists() {
            return Some(format!("npm has not installed {NODE}"));
        }
        let needed = [program].into_iter().chain(self.command.contains(NODE).then_some("node"));
        let is_missing = |program: &&str| {
            Command::new(program)
                .arg("--version")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_err()
        };
        needed
            .into_iter()
            .find(is_missing)
            .map(|program| format!("no program {program} is installed"))
    }
}

/// Returns the contenders, the floor first: the others are compared with it.
pub fn contenders(folders: &RunFolders) -> Vec<Contender> {
    let (release, peers) = (folders.release.display(), folders.peers.display());
    vec![
        Contender::new(
            "floor",
            "floor, `send()`",
            &format!("{release}/perf floor --listen 127.0.0.1:PORT"),
        ),
        Contender::new(
            "floor-uring",
            "floor, io_uring",
            &format!("{release}/perf floor --listen 127.0.0.1:PORT --by uring"),
        ),
        Contender::new("bandsync", "BandSync, io_uring", &folders.bandsync()),
        Contender::new(
            "bandsync-send",
            "BandSync, `send()`",
            &format!("{} --io-uring off", folders.bandsync()),
        ),
        Contender::new(
            "uwebsockets",
            "uWebSockets",
            &format!("{peers}/bandsync-peer-uwebsockets PORT 16"),
        ),
        Contender::new(
            "socketioxide",
            "socketioxide 0.18",
            &format!("{peers}/bandsync-peer-socketioxide PORT 16"),
        ),
        // Its threads wait for each other by yielding, which makes no progress in real time on one
        // core.
        Contender::new(
            "node",
            "Node.js socket.io 4.8",
            &format!("chrt --other 0 node {NODE}/server.js PORT 16"),
        ),
    ]
}

/// Gives each contender a turn, `rounds` times. One that fails loses the turn, and the others go
/// on.
pub fn compete(
    contenders: &mut [Contender],
    rounds: usize,
    folders: &mut RunFolders,
    run: &Run<'_>,
) {
    for round in 1..=rounds {
        for contender in &mut *contenders {
            say(&format!("round {round} of {rounds}: {}", contender.name));
            let its = Run { name: &contender.name, server: &contender.command, ..run.clone() };
            let report = folders.run(&its);
            if let Err(error) = &report {
                say(&format!("{}: {error}", contender.name));
            }
            contender.rounds.push(report.ok());
        }
    }
}

/// Finds the largest number of members that receive their ticks: at least 99.9 % of them, and 99 of
/// 100 gaps under 20 ms. Adds `sessions` until a size fails, then halves the step, down to a
/// sixteenth. A size that fails is tried once more.
///
/// # Errors
/// If the server does not start or the generator fails.
pub fn capacity(
    contender: &Contender,
    sessions: usize,
    folders: &mut RunFolders,
    run: &Run<'_>,
) -> io::Result<usize> {
    const GAP_MAX: f64 = 20_000.0;
    let mut carries = |sessions: usize| -> io::Result<bool> {
        for _ in 0..2 {
            let sized =
                Run { name: &contender.name, server: &contender.command, sessions, ..run.clone() };
            let report = folders.run(&sized)?;
            let gap = report.percentile("gap", "p99").unwrap_or(f64::INFINITY);
            say(&format!(
                "{}: {} members, {:.2} % delivered, gap p99 {:.2} ms",
                contender.name,
                sessions * run.members,
                report.fraction() * 100.0,
                gap / 1_000.0
            ));
            if report.fraction() >= 0.999 && gap < GAP_MAX {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let (mut most, mut step) = (0, sessions.max(16));
    let least = step / 16;
    while carries(most + step)? {
        most += step;
    }
    while step > least {
        step /= 2;
        if carries(most + step)? {
            most += step;
        }
    }
    Ok(most * run.members)
}
