//! The command line of the load generator.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Drives a server with sessions full of members, through the real protocol, from one thread.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    pub command: Option<Task>,
    #[command(flatten)]
    pub run: Run,
}

#[derive(Debug, Subcommand)]
pub enum Task {
    /// Sets runs side by side: the medians of each side's runs, their spread, and the ratio.
    Compare {
        /// Reports of the first side (JSON), parted by commas.
        #[arg(value_delimiter = ',', required = true)]
        before: Vec<PathBuf>,
        /// Reports of the second side (JSON), parted by commas.
        #[arg(required = true, value_delimiter = ',')]
        after: Vec<PathBuf>,
    },
}

/// One run.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// What the members do.
    #[arg(long, value_enum, default_value_t = Scenario::Ticks)]
    pub scenario: Scenario,
    /// Where the server listens.
    #[arg(long, default_value = "127.0.0.1:7400")]
    pub address: SocketAddr,
    /// A server to start for this run: a program and its arguments, parted by spaces; `PORT` stands
    /// for the port of the address.
    #[arg(long, value_name = "COMMAND", conflicts_with = "pid")]
    pub spawn: Option<String>,
    /// The process of a server that runs already, for its CPU time and memory.
    #[arg(long)]
    pub pid: Option<u32>,
    /// The core for a server that is started.
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// The core for the generator itself.
    #[arg(long, default_value_t = 1)]
    pub own_core: usize,
    /// Sessions.
    #[arg(long, default_value_t = 125)]
    pub sessions: usize,
    /// Members of each session.
    #[arg(long, default_value_t = 8)]
    pub members: usize,
    /// Ticks a second that members ask for when they join; unset = all there are.
    #[arg(long)]
    pub tick_hz: Option<u8>,
    /// Between two ticks of the server, in milliseconds: the schedule that lateness is measured
    /// against.
    #[arg(long, default_value_t = 16)]
    pub tick: u64,
    /// How long to measure, in seconds.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// How long to let it play before that, in seconds.
    #[arg(long, default_value_t = 2)]
    pub warm_up: u64,
    /// Connections being set up at once.
    #[arg(long, default_value_t = 64)]
    pub in_flight: usize,
    /// Events a second over all: joins or comings and goings (`joins`, `churn`), messages of each
    /// session (`chat`). For `joins`, 0 = as fast as the server goes.
    #[arg(long)]
    pub rate: Option<u64>,
    /// Members that probe the round trip.
    #[arg(long, default_value_t = 20)]
    pub probes: usize,
    /// Between two probes of one of them, in milliseconds.
    #[arg(long, default_value_t = 100)]
    pub probe_interval: u64,
    /// How long it sleeps, in microseconds, before it reads all that has come meanwhile, while much
    /// comes; the first of that is found late by so much. 0 = it reads each message at once, and
    /// the server's core pays for waking it, which can be a quarter of what a message costs.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=1_000))]
    pub nap: u64,
    /// Offers compression when connecting, as browsers do.
    #[arg(long)]
    pub compression: bool,
    /// Prints a line when everybody has joined, and goes on when one comes on standard input: so
    /// that several generators measure at the same time.
    #[arg(long)]
    pub cue: bool,
    /// What to call this run.
    #[arg(long, default_value = "bandsync")]
    pub name: String,
    /// Writes the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Writes the report as a page with plots.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Scenario {
    /// Everybody listens to a playing song.
    Ticks,
    /// Messages go round in every session, and nothing plays.
    Chat,
    /// Connections are set up, join and go.
    Joins,
    /// Everybody has joined, and nothing plays.
    Idle,
    /// A song plays while members come and go.
    Churn,
    /// An evening: songs, half of the members on the timeline, chat, seeks, tempo changes, comings
    /// and goings.
    Gig,
}

impl Scenario {
    /// As written on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
