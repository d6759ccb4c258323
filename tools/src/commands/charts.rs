//! `tools charts`: compares the charts that JavaScript has read with those of another parser.

use std::io;
use std::process::ExitCode;

use bandsync_tools::charts;
use clap::Args;

/// Reads charts again that tests/js/unit/make-charts.js has read and writes as JSON lines.
/// Reads standard input; the exit code is 1 at the first chart that differs.
#[derive(Args)]
pub struct Options {}

/// Runs the command.
pub fn run(Options {}: Options) -> ExitCode {
    match charts::compare(io::stdin().lock()) {
        Ok(0) => {
            eprintln!("charts: standard input has no charts");
            ExitCode::from(2)
        }
        Ok(songs) => {
            println!("{songs} songs agree");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("charts: {failure}");
            ExitCode::FAILURE
        }
    }
}
