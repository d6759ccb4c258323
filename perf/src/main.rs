//! Measures the server: one program, a command for each measurement. `perf --help` lists them.
#![allow(clippy::print_stdout)] // a command's answer goes there

mod commands;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use commands::{
    clock, compare, counted, floor, goals, growth, handler, load, overhead, proxy, recording,
    storage, turns,
};

/// Measures the server. Build it as released: `cargo build --release -p bandsync-perf`.
#[derive(Parser)]
#[command(name = "perf")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Clock(clock::Options),
    Compare(compare::Options),
    Counted(counted::Options),
    Floor(floor::Options),
    Goals(goals::Options),
    Growth(growth::Options),
    Handler(handler::Options),
    Load(load::Options),
    Overhead(overhead::Options),
    Proxy(proxy::Options),
    Recording(recording::Options),
    Storage(storage::Options),
    Turns(turns::Options),
}

fn main() -> ExitCode {
    let succeeded = |()| ExitCode::SUCCESS;
    let done: io::Result<ExitCode> = match Options::parse().command {
        Command::Clock(options) => clock::run(options),
        Command::Compare(options) => compare::run(options).map(succeeded),
        Command::Counted(options) => counted::run(options),
        Command::Floor(options) => floor::run(options).map(succeeded),
        Command::Goals(options) => goals::run(options).map(succeeded),
        Command::Growth(options) => growth::run(options).map(succeeded),
        Command::Handler(options) => handler::run(options).map(succeeded),
        Command::Load(options) => load::run(options).map(succeeded),
        Command::Overhead(options) => overhead::run(options),
        Command::Proxy(options) => proxy::run(options).map(succeeded),
        Command::Recording(options) => recording::run(options).map(succeeded),
        Command::Storage(options) => storage::run(options).map(succeeded),
        Command::Turns(options) => turns::run(options).map(succeeded),
    };
    done.unwrap_or_else(|error| {
        // If standard error is gone, nothing can be reported.
        let _ = writeln!(io::stderr(), "perf: {error}");
        ExitCode::FAILURE
    })
}
