//! `bandsync trace shrink`: finds the smallest trace that still fails a check, by removing ever
//! smaller parts.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bandsync_engine::trace::Outcome;
use bandsync_engine::words::ids::ConnId;
use bandsync_trace::reader::Fault;

use super::only_run;
use super::script::Script;
use crate::cli::progress::Progress;
use crate::ops::process::print_line;

/// Options of `trace shrink`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// The trace files of one shard
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// File that the smallest trace is written to
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// The check that fails: `panic`, the engine panics; `digest`, another program has other
    /// outputs; any other text is one that the server sends
    #[arg(long, value_name = "CHECK")]
    check: String,
    /// For `digest`: the other program, such as an older bandsync; by default this one
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Maximum number of tries
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    tries: u64,
}

enum Check {
    Panic,
    Digest { program: PathBuf, scratch: PathBuf },
    Says(Vec<u8>),
}

impl Check {
    fn of(options: &Options) -> Result<Self, Fault> {
        Ok(match options.check.as_str() {
            "panic" => Self::Panic,
            "digest" => {
                let this =
                    || env::current_exe().map_err(|error| Fault::Described(error.to_string()));
                let program = options.against.clone().map_or_else(this, Ok)?;
                let mut scratch = options.out.clone().into_os_string();
                scratch.push(".try");
                Self::Digest { program, scratch: scratch.into() }
            }
            text => Self::Says(text.into()),
        })
    }

    /// Returns the number of inputs after which the check fails, if it fails.
    fn fails(&self, script: &Script) -> Result<Option<usize>, Fault> {
        if let Self::Digest { program, scratch } = self {
            script.write(scratch)?;
            let parts = parts(program, scratch);
            let _ = fs::remove_file(scratch);
            return parts.map(|parts| parts.then_some(script.takes.len()));
        }
        let mut failed = None;
        script.play(|index, _, outcome, stage| {
            let found = match self {
                Self::Says(text) => {
                    stage.outputs().bytes.windows(text.len()).any(|bytes| bytes == text)
                }
                Self::Panic | Self::Digest { .. } => outcome == Outcome::Panic,
            };
            if !found {
                return ControlFlow::Continue(());
            }
            failed = Some(index + 1);
            ControlFlow::Break(())
        });
        Ok(failed)
    }
}

/// Whether the program's outputs differ from those in the trace.
fn parts(program: &Path, trace: &Path) -> Result<bool, Fault> {
    let mut command = Command::new(program);
    command
        .arg("replay")
        .arg(trace)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = command
        .status()
        .map_err(|error| Fault::Described(format!("{}: {error}", program.display())))?;
    Ok(status.code() == Some(1))
}

/// Searches for the smallest trace. Returns false if the whole trace does not fail.
pub fn run(options: &Options) -> Result<bool, Fault> {
    let run = only_run(&options.traces)?;
    if !run.is_whole() {
        return Err(Fault::Described(
            "the first segment is missing, so nothing can be replayed".into(),
        ));
    }
    if options.check.is_empty() {
        return Err(Fault::Described("the text to look for is empty".into()));
    }
    let check = Check::of(options)?;
    let whole = Script::read(&run)?;
    let Some(needed) = check.fails(&whole)? else {
        print_line("the trace passes this check: there is nothing to shrink");
        return Ok(false);
    };
    let mut search =
        Search { check: &check, tries: options.tries, progress: Progress::new(options.tries) };
    let mut script = whole.clone();
    script.takes.truncate(needed);

    // Repeat until nothing more can be removed: one part may become useless once another is gone.
    loop {
        let before = script.takes.len();
        let conns: BTreeSet<ConnId> = script.takes.iter().filter_map(|take| take.conn()).collect();
        let conns = search.smallest(conns.into_iter().collect(), |kept| {
            let kept: BTreeSet<ConnId> = kept.iter().copied().collect();
            script.thinned(|_, take| take.conn().is_none_or(|conn| kept.contains(&conn)))
        })?;
        script = script.thinned(|_, take| take.conn().is_none_or(|conn| conns.contains(&conn)));

        let indices = search.smallest((0..script.takes.len()).collect(), |kept| {
            let kept: BTreeSet<usize> = kept.iter().copied().collect();
            script.thinned(|index, _| kept.contains(&index))
        })?;
        script = script.thinned(|index, _| indices.binary_search(&index).is_ok());
        if script.takes.len() == before || search.tries == 0 {
            break;
        }
    }
    script.write(&options.out)?;
    let tries = options.tries - search.tries;
    let (before, after, out) = (whole.takes.len(), script.takes.len(), options.out.display());
    print_line(&format!("{after} of {before} inputs are enough, found in {tries} tries: {out}"));
    if search.tries == 0 {
        print_line("there may be a smaller one: --tries allows more");
    }
    Ok(true)
}

/// A search by delta debugging.
struct Search<'a> {
    check: &'a Check,
    /// Tries that are left.
    tries: u64,
    progress: Progress,
}

impl Search<'_> {
    /// Removes as many of `items` as possible: halves first, then ever smaller parts.
    fn smallest<T: Copy>(
        &mut self,
        mut items: Vec<T>,
        make: impl Fn(&[T]) -> Script,
    ) -> Result<Vec<T>, Fault> {
        let mut part = items.len().div_ceil(2);
        while part > 0 {
            let mut start = 0;
            while start < items.len() && self.tries > 0 {
                let mut fewer = items.clone();
                fewer.drain(start..(start + part).min(items.len()));
                self.tries -= 1;
                self.progress.advance(1);
                if self.check.fails(&make(&fewer))?.is_some() {
                    items = fewer;
                } else {
                    start += part;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
        Ok(items)
    }
}
