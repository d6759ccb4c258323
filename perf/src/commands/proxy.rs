//! Forwards connections with the delays of a network, and reports how true the delays were.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use bandsync_perf::network::{Profile, Way};
use bandsync_perf::proxy::{Door, Journal, Proxy};
use clap::Args;

/// Forwards TCP connections to a server through a bad network, until standard input ends.
#[derive(Debug, Args)]
pub struct Options {
    /// Address of the server
    #[arg(long)]
    to: SocketAddr,
    /// Networks, separated by commas. Each has a port of its own
    #[arg(long, value_delimiter = ',', default_value = "good")]
    profile: Vec<Profile>,
    /// Address of the first network; the others have the next ports. Port 0 lets the kernel choose
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Seed of all delays
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Path of the journal: a line of comma-separated values for each chunk
    #[arg(long)]
    journal: Option<PathBuf>,
}

/// Runs the command.
pub fn run(options: Options) -> io::Result<()> {
    let door = |(index, profile): (usize, Profile)| {
        let mut listen = options.listen;
        if listen.port() != 0 {
            listen.set_port(listen.port().saturating_add(index as u16));
        }
        Door { listen, profile }
    };
    let doors: Vec<Door> = options.profile.iter().copied().enumerate().map(door).collect();
    let proxy = Proxy::start(options.to, &doors, options.seed)?;
    let mut screen = io::stdout().lock();
    for (door, address) in doors.iter().zip(proxy.addresses()) {
        writeln!(screen, "listening on {address}: {}", door.profile.title())?;
    }
    screen.flush()?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    let journal = proxy.stop()?;
    if let Some(path) = &options.journal {
        std::fs::write(path, lines(&journal))?;
    }
    let late = journal.lateness.summary();
    let at = |index: usize| late.percentiles.get(index).copied().unwrap_or_default();
    writeln!(
        screen,
        "{} chunks left late, µs: p50 {:.1}, p99 {:.1}, most {:.1}",
        late.count,
        at(0),
        at(2),
        at(4)
    )
}

/// Prints the journal as comma-separated values, with times in microseconds.
fn lines(journal: &Journal) -> String {
    let mut text = String::from("connection,way,arrived,wanted,real,bytes\n");
    let micros = |nanos: u64| nanos as f64 / 1_000.0;
    for passage in &journal.passages {
        let _ = writeln!(
            text,
            "{},{},{:.3},{:.3},{:.3},{}",
            passage.connection,
            if passage.way == Way::Up { "up" } else { "down" },
            micros(passage.arrived),
            micros(passage.wanted),
            micros(passage.real),
            passage.bytes
        );
    }
    text
}
