//! `bandsync trace cut`: writes a part of a trace as a trace of its own.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;
use bandsync_trace::decoder::Decoder;
use bandsync_trace::format::Entry;
use bandsync_trace::reader::Fault;

use super::script::Script;
use super::{Filter, only_run};
use crate::cli::runs::seconds;
use crate::ops::process::print_line;

/// Options of `trace cut`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The trace files of one shard
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// File that the part is written to
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Keep the connections that were in this session at any time
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Keep the connections of this member: socket id, name, or connection such as 3.1
    #[arg(long, value_name = "WHO")]
    member: Option<String>,
    /// Keep the inputs up to this time, in seconds since the server's start
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    until: Option<Micros>,
}

/// Writes the part. Returns true on success.
pub fn run(options: &Options) -> Result<bool, Fault> {
    let run = only_run(&options.traces)?;
    if !run.is_whole() {
        return Err(Fault::Described(
            "the first segment is missing, so no part could be replayed".into(),
        ));
    }
    let mut script = Script::read(&run)?;
    let all = script.takes.len();
    if let Some(until) = options.until {
        script.takes.retain(|take| take.at <= until);
    }
    if options.session.is_some() || options.member.is_some() {
        let kept = connections(&script, options);
        script = script.thinned(|_, take| take.conn().is_none_or(|conn| kept.contains(&conn)));
    }
    script.write(&options.out)?;
    print_line(&format!("{} of {all} inputs are in {}", script.takes.len(), options.out.display()));
    Ok(true)
}

/// Returns the connections that the options select.
fn connections(script: &Script, options: &Options) -> BTreeSet<ConnId> {
    let filter = Filter {
        session: options.session.clone(),
        member: options.member.clone(),
        event: None,
        from: None,
        until: None,
    };
    let mut decoder = Decoder::new(&script.header.settings.limits);
    let mut found = BTreeSet::new();
    script.play(|place, take, outcome, stage| {
        let entry = Entry { index: place as u64, at: take.at, input: take.input(), outcome };
        let mut lines = decoder.input(&entry);
        lines.extend(decoder.outputs(&entry, stage.outputs()));
        for line in lines.iter().filter(|line| filter.takes(line, &decoder)) {
            let is_meant =
                |conn: &&ConnId| options.member.as_ref().is_none_or(|who| decoder.is(**conn, who));
            found.extend(line.conns.iter().filter(is_meant));
        }
        ControlFlow::Continue(())
    });
    found
}
