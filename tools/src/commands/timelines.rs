//! `tools timelines`: compares the engine's music with that of JavaScript.

use std::io;
use std::process::ExitCode;

use bandsync_tools::timelines;
use clap::Args;

/// Evaluates timelines again that tests/js/unit/drawn.js has evaluated and writes as JSON lines.
/// Reads standard input; the exit code is 1 at the first answer that differs.
#[derive(Args)]
pub struct Options {}

/// Runs the command.
pub fn run(Options {}: Options) -> ExitCode {
    match timelines::compare(io::stdin().lock()) {
        Ok(0) => {
            eprintln!("timelines: standard input has no answers");
            ExitCode::from(2)
        }
        Ok(answers) => {
            println!("{answers} answers agree");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("timelines: {failure}");
            ExitCode::FAILURE
        }
    }
}
