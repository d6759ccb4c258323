//! Tools around the server in one program: `tools --help` lists its commands.
#![allow(clippy::print_stdout)] // a command's answer goes there

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use commands::{
    charts, docs, examine, flamegraph, fuzz, licences, sbom, simulate, size, timelines,
};

/// Looks for faults of the server.
#[derive(Parser)]
#[command(name = "tools")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Charts(charts::Options),
    Docs(docs::Options),
    Examine(examine::Options),
    Flamegraph(flamegraph::Options),
    Fuzz(fuzz::Options),
    Licences(licences::Options),
    Sbom(sbom::Options),
    Simulate(Box<simulate::Options>),
    Size(size::Options),
    Timelines(timelines::Options),
}

fn main() -> ExitCode {
    match Options::parse().command {
        Command::Charts(options) => charts::run(options),
        Command::Docs(options) => docs::run(options),
        Command::Examine(options) => examine::run(options),
        Command::Flamegraph(options) => flamegraph::run(options),
        Command::Fuzz(options) => fuzz::run(options),
        Command::Licences(options) => licences::run(options),
        Command::Sbom(options) => sbom::run(options),
        Command::Simulate(options) => simulate::run(*options),
        Command::Size(options) => size::run(options),
        Command::Timelines(options) => timelines::run(options),
    }
}
