//! `bandsync trace show`: prints one line per message.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;

use bandsync_trace::decoder::{Decoder, Direction, Line};
use bandsync_trace::reader::{Fault, remark};
use serde::Serialize;

use super::Filter;
use crate::cli::runs::gather;
use crate::cli::stage::Stage;

/// Options of `trace show`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Trace files, or directories of them
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    #[command(flatten)]
    filter: Filter,
    /// Leave out the server's messages, which are found by replaying
    #[arg(long)]
    inputs: bool,
    /// Print the ends of turns as well
    #[arg(long)]
    turns: bool,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct JsonLine<'a> {
    shard: u16,
    input: u64,
    micros: u64,
    direction: Direction,
    connections: Vec<String>,
    event: &'a str,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<&'a str>,
    content: &'a str,
}

/// Prints the lines. Returns true on success.
pub fn run(options: &Options) -> Result<bool, Fault> {
    let runs = gather(&options.traces)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for run in &runs {
        if !options.inputs && !run.is_whole() {
            let name = run.name();
            return Err(Fault::Described(format!(
                "the first segment of {name} is missing: only --inputs can be shown"
            )));
        }
        let shard = run.header.settings.shard.0;
        if !options.json && runs.len() > 1 {
            let _ = writeln!(out, "== {}", run.name());
        }
        let mut decoder = Decoder::new(&run.header.settings.limits);
        let mut stage = (!options.inputs).then(|| Stage::new(run.header.settings.clone()));
        // The lines themselves show the progress, so there is no bar.
        let ending = run.each(
            |_| {},
            |entry| {
                let mut lines = decoder.input(entry);
                if let Some(stage) = &mut stage {
                    stage.play(entry);
                    lines.extend(decoder.outputs(entry, stage.outputs()));
                }
                lines.retain(|line| options.turns || line.event != "turn ended");
                for line in lines.iter().filter(|line| options.filter.takes(line, &decoder)) {
                    if print(&mut out, shard, line, options.json).is_err() {
                        // The reader, such as `head`, has closed the pipe.
                        return ControlFlow::Break(());
                    }
                }
                match options.filter.is_past(entry.at) {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            },
        )?;
        if let Some(remark) = remark(&ending).filter(|_| !options.json) {
            let _ = writeln!(out, "the trace of {} {remark}", run.name());
        }
    }
    let _ = out.flush();
    Ok(true)
}

fn print(out: &mut impl Write, shard: u16, line: &Line, json: bool) -> io::Result<()> {
    let micros = line.at.as_micros();
    if !json {
        let seconds = micros as f64 / 1e6;
        return writeln!(out, "{seconds:>12.6} {:>8} {}", line.index, line.brief());
    }
    let line = JsonLine {
        shard,
        input: line.index,
        micros,
        direction: line.direction,
        connections: line.conns.iter().map(ToString::to_string).collect(),
        event: &line.event,
        bytes: line.bytes,
        session: line.session.as_deref(),
        member: line.member.as_deref(),
        content: &line.text,
    };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)
}
