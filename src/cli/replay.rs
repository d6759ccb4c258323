//! `bandsync replay`: feeds recorded inputs to the same engine and compares the outputs.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bandsync_engine::trace::Outcome;
use bandsync_engine::words::time::Micros;
use bandsync_trace::decoder::{Decoder, describe};
use bandsync_trace::format::{Ending, Entry};
use bandsync_trace::reader::{Fault, Run, remark};

use crate::cli::progress::Progress;
use crate::cli::runs::{gather, seconds};
use crate::cli::stage::Stage;
use crate::ops::process::{print_error, print_line};

/// The options of the command.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// Trace files, or directories of them. Each shard is replayed by itself
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// Replay at the speed of the recorded run
    #[arg(long)]
    realtime: bool,
    /// Stop at this time of the run, in seconds since the server's start
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    until: Option<Micros>,
    /// Replay this many times, for a profiler
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
}

/// Replays and reports. Returns 0 if all outputs were the same, 1 if not, 2 if there is nothing to
/// compare.
pub fn run(options: &Options) -> ExitCode {
    match replay_all(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            print_error(&format!("bandsync replay: {fault}"));
            ExitCode::from(2)
        }
    }
}

fn replay_all(options: &Options) -> Result<bool, Fault> {
    let runs = gather(&options.traces)?;
    if let Some(run) = runs.iter().find(|run| !run.is_whole()) {
        let (name, segment) = (run.name(), run.header.segment);
        return Err(Fault::Described(format!(
            "the trace of {name} begins with segment {segment}. A replay needs segment 0, because the engine's state is \
             unknown without it. `bandsync trace show --inputs` shows the rest."
        )));
    }
    let mut progress =
        Progress::new(runs.iter().map(|run| run.bytes).sum::<u64>() * u64::from(options.repeat));
    let mut total = Tally::default();
    let mut all_same = true;
    for _ in 0..options.repeat {
        for run in &runs {
            let (tally, difference) = replay(run, options, &mut progress)?;
            print_line(&tally.report(&run.name(), difference.is_none()));
            if let Some(difference) = difference {
                all_same = false;
                print_line(&difference);
            } else if let Some(remark) = tally.ending.as_ref().and_then(remark) {
                print_line(&format!("  the trace of {} {remark}", run.name()));
            }
            total.add(&tally);
        }
    }
    if runs.len() > 1 || options.repeat > 1 {
        print_line(&total.report("in all", all_same));
    }
    Ok(all_same)
}

#[derive(Default)]
struct Tally {
    inputs: u64,
    outputs: u64,
    service: Duration,
    took: Duration,
    ending: Option<Ending>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.inputs += other.inputs;
        self.outputs += other.outputs;
        self.service += other.service;
        self.took += other.took;
    }

    fn report(&self, name: &str, same: bool) -> String {
        let Self { inputs, outputs, service, took, .. } = self;
        let (service, took) = (service.as_secs_f64(), took.as_secs_f64());
        let times = service / took.max(1e-9);
        let verdict = if same { "the outputs are the same" } else { "THE OUTPUTS DIFFER" };
        format!(
            "{name}: {inputs} inputs, {outputs} outputs, {service:.1} s of service in {took:.2} s: {times:.0} \
             times as fast as recorded; {verdict}"
        )
    }
}

/// Replays one shard. Reports the first input whose outputs differ, if any.
fn replay(
    run: &Run,
    options: &Options,
    progress: &mut Progress,
) -> Result<(Tally, Option<String>), Fault> {
    let mut stage = Stage::new(run.header.settings.clone());
    let mut tally = Tally::default();
    let mut difference = None;
    let mut first = None;
    let began = Instant::now();
    let ending = run.each(
        |by| progress.advance(by),
        |entry| {
            if options.until.is_some_and(|until| entry.at > until) {
                return ControlFlow::Break(());
            }
            let first = *first.get_or_insert(entry.at);
            let since = Duration::from_micros(entry.at.since(first).as_micros());
            if options.realtime {
                std::thread::sleep(since.saturating_sub(began.elapsed()));
            }
            let outcome = stage.play(entry);
            tally.inputs += 1;
            tally.outputs += match outcome {
                Outcome::Outputs { count, .. } => u64::from(count),
                Outcome::Nothing | Outcome::Panic => 0,
            };
            tally.service = since;
            if outcome == entry.outcome {
                return ControlFlow::Continue(());
            }
            difference = Some(describe_difference(entry, outcome, &stage));
            ControlFlow::Break(())
        },
    )?;
    tally.took = began.elapsed();
    tally.ending = Some(ending);
    Ok((tally, difference))
}

/// Describes the first difference from the recorded outputs.
fn describe_difference(entry: &Entry<'_>, actual: Outcome, stage: &Stage) -> String {
    let mut text = format!(
        "  at input {} (counted from 0), {:.6} s after the server's start\n  input     {}\n  expected  {}\n  actual    {}",
        entry.index,
        entry.at.as_micros() as f64 / 1e6,
        describe(&entry.input),
        described(entry.outcome),
        described(actual),
    );
    if let Some(message) = stage.panic() {
        let _ = write!(text, "\n            {message}");
    }
    for line in Decoder::new(stage.limits()).outputs(entry, stage.outputs()) {
        let _ = write!(text, "\n            {}", line.brief());
    }
    text
}

fn described(outcome: Outcome) -> String {
    match outcome {
        Outcome::Nothing => "no outputs".into(),
        Outcome::Outputs { count: 1, digest } => {
            format!("1 output, digest of all so far {digest:08x}")
        }
        Outcome::Outputs { count, digest } => {
            format!("{count} outputs, digest of all so far {digest:08x}")
        }
        Outcome::Panic => "a panic".into(),
    }
}
