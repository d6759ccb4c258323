//! `bandsync trace`: shows, counts, compares, cuts and shrinks traces.

mod cut;
mod diff;
mod script;
mod show;
mod shrink;
mod stats;

use std::path::PathBuf;
use std::process::ExitCode;

use bandsync_engine::words::time::Micros;
use bandsync_trace::decoder::{Decoder, Line};
use bandsync_trace::reader::{Fault, Run};

use crate::cli::runs::{gather, seconds};
use crate::ops::process::print_error;

/// Options of the command.
#[derive(clap::Args, Debug)]
pub struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Prints the messages of a trace, one per line: time, input, connection, direction, event,
    /// size, content
    Show(show::Options),
    /// Draws the traffic: events by kind, rates over time, lateness of ticks, busiest members
    Stats(stats::Options),
    /// Reports the first difference between two traces
    Diff(diff::Options),
    /// Writes a part of a trace as a trace of its own, which can be replayed
    Cut(cut::Options),
    /// Finds the smallest trace that still fails a check
    Shrink(shrink::Options),
}

/// Selects lines. All given conditions must hold.
#[derive(clap::Args, Clone, Debug)]
pub struct Filter {
    /// Only messages of this session
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Only this member: its socket id, its name, or its connection such as 3.1
    #[arg(long, value_name = "WHO")]
    member: Option<String>,
    /// Only this event, such as scroll_tick
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
    /// Only messages from this time on, in seconds since the server's start
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    from: Option<Micros>,
    /// Only messages up to this time
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    until: Option<Micros>,
}

impl Filter {
    fn takes(&self, line: &Line, decoder: &Decoder) -> bool {
        let session =
            self.session.as_ref().is_none_or(|session| line.session.as_ref() == Some(session));
        let member = self
            .member
            .as_ref()
            .is_none_or(|who| line.conns.iter().any(|conn| decoder.is(*conn, who)));
        let event = self.event.as_ref().is_none_or(|event| line.event == *event);
        let time = self.from.is_none_or(|from| line.at >= from) && !self.is_past(line.at);
        session && member && event && time
    }

    fn is_past(&self, at: Micros) -> bool {
        self.until.is_some_and(|until| at > until)
    }
}

/// Runs the command. Returns 0 on success, 1 if traces differ or no check fails, 2 if a trace
/// cannot be used.
pub fn run(options: &Options) -> ExitCode {
    let done = match &options.what {
        What::Show(options) => show::run(options),
        What::Stats(options) => stats::run(options),
        What::Diff(options) => diff::run(options),
        What::Cut(options) => cut::run(options),
        What::Shrink(options) => shrink::run(options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            print_error(&format!("bandsync trace: {fault}"));
            ExitCode::from(2)
        }
    }
}

/// Returns the single run that the files belong to.
fn only_run(paths: &[PathBuf]) -> Result<Run, Fault> {
    let mut runs = gather(paths)?;
    match (runs.pop(), runs.len()) {
        (Some(run), 0) => Ok(run),
        (_, more) => Err(Fault::Described(format!(
            "name the files of one shard; these belong to {}",
            more + 1
        ))),
    }
}
