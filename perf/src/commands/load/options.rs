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
    /// Compares runs: the medians of each side's runs, their spread, and the ratio
    Compare {
        /// Reports of the first side (JSON), separated by commas
        #[arg(value_delimiter = ',', required = true)]
        before: Vec<PathBuf>,
        /// Reports of the second side (JSON), separated by commas
        #[arg(required = true, value_delimiter = ',')]
        after: Vec<PathBuf>,
    },
}

/// One run
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// The scenario of the members
    #[arg(long, value_enum, default_value_t = Scenario::Ticks)]
    pub scenario: Scenario,
    /// Address of the server
    #[arg(long, default_value = "127.0.0.1:7400")]
    pub address: SocketAddr,
    /// Server to start for this run: a program and its arguments, separated by spaces; `PORT`
    /// stands for the port of the address
    #[arg(long, value_name = "COMMAND", conflicts_with = "pid")]
    pub spawn: Option<String>,
    /// Process of a server that is already running, for its CPU time and memory
    #[arg(long)]
    pub pid: Option<u32>,
    /// Core for a server that is started
    #[arg(long, default_value_t = 0)]
    pub server_core: usize,
    /// Core for the generator itself
    #[arg(long, default_value_t = 1)]
    pub own_core: usize,
    /// Sessions
    #[arg(long, default_value_t = 125)]
    pub sessions: usize,
    /// Members of each session
    #[arg(long, default_value_t = 8)]
    pub members: usize,
    /// Ticks per second that members ask for when they join; by default all
    #[arg(long)]
    pub tick_hz: Option<u8>,
    /// Time between two ticks of the server, in milliseconds: the schedule that lateness is
    /// measured against
    #[arg(long, default_value_t = 16)]
    pub tick: u64,
    /// Duration of the measurement, in seconds
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
    /// Duration of playing before the measurement, in seconds
    #[arg(long, default_value_t = 2)]
    pub warm_up: u64,
    /// Maximum connections being set up at once
    #[arg(long, default_value_t = 64)]
    pub in_flight: usize,
    /// Events per second: joins or returns over all (`joins`, `churn`), messages of each session
    /// (`chat`). For `joins`, 0 is as fast as the server allows
    #[arg(long)]
    pub rate: Option<u64>,
    /// Members that probe the round trip
    #[arg(long, default_value_t = 20)]
    pub probes: usize,
    /// Time between two probes of a member, in milliseconds
    #[arg(long, default_value_t = 100)]
    pub probe_interval: u64,
    /// Sleep before reading while much arrives, in microseconds; the first message is found late by
    /// up to this much. With 0 each message is read at once, and waking the generator can take a
    /// quarter of the server's cost of a message
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(..=1_000))]
    pub nap: u64,
    /// Offer compression when connecting, as browsers do
    #[arg(long)]
    pub compression: bool,
    /// Print a line when all members have joined, and go on when standard input has a line, so that
    /// several generators measure at the same time
    #[arg(long)]
    pub cue: bool,
    /// Name of the run
    #[arg(long, default_value = "bandsync")]
    pub name: String,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as a page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Scenario {
    /// All members listen to a playing song
    Ticks,
    /// Every session exchanges messages, and nothing plays
    Chat,
    /// Connections are set up, join and leave
    Joins,
    /// All members have joined, and nothing plays
    Idle,
    /// A song plays while members leave and return
    Churn,
    /// An evening: songs, half of the members on the timeline, chat, seeks, tempo changes, members
    /// that leave and return
    Gig,
}

impl Scenario {
    /// Returns the name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}
