//! Trace files sorted into runs: the segments of each shard in order.

use std::fmt;
use std::fs::{self, File};
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::format::{End, Ending, Entry, FormatError, Header, SegmentReader};

/// Inputs between two reports of progress: a block can take seconds in real time.
const PAUSE: usize = 64;

/// The recorded part of one shard's run.
pub struct Run {
    /// The header of the first segment.
    pub header: Header,
    segments: Vec<PathBuf>,
    /// Size of all segments.
    pub bytes: u64,
}

/// The reason why a trace cannot be used.
#[derive(Debug)]
pub enum Fault {
    /// The file cannot be read as a trace.
    File(PathBuf, FormatError),
    /// Another problem, in a sentence.
    Described(String),
}

impl std::error::Error for Fault {}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{} {error}", path.display()),
            Self::Described(what) => f.write_str(what),
        }
    }
}

/// Sorts files into runs. Of a directory, takes all files that end with `.trace`. Reports skipped
/// files to `left_out`.
pub fn gather(paths: &[PathBuf], mut left_out: impl FnMut(&Fault)) -> Result<Vec<Run>, Fault> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(traces_in(path)?.into_iter().map(|file| (file, false)));
        } else {
            files.push((path.clone(), true));
        }
    }
    let mut found = Vec::new();
    for (file, is_named) in files {
        let header = match open(&file) {
            Ok(reader) => reader.header().clone(),
            // The server was killed as it began this file.
            Err(fault @ Fault::File(_, FormatError::Headless)) if !is_named => {
                left_out(&fault);
                continue;
            }
            Err(fault) => return Err(fault),
        };
        let bytes = fs::metadata(&file).map_or(0, |metadata| metadata.len());
        found.push((header, file, bytes));
    }
    found.sort_by_key(|(header, ..)| {
        let Header { run, segment, ref settings, .. } = *header;
        (settings.started_unix_ms, run, settings.shard, segment)
    });
    let mut runs: Vec<Run> = Vec::new();
    for (header, file, bytes) in found {
        let same = |run: &Run| {
            run.header.run == header.run
                && run.header.settings == header.settings
                && header.segment > 0
        };
        match runs.last_mut().filter(|run| same(run)) {
            Some(run) => {
                let expected = run.header.segment + run.segments.len() as u32;
                if header.segment != expected {
                    let file = file.display();
                    return Err(Fault::Described(format!(
                        "segment {expected} is missing in front of {file}"
                    )));
                }
                run.segments.push(file);
                run.bytes += bytes;
            }
            None => runs.push(Run { header, segments: vec![file], bytes }),
        }
    }
    if runs.is_empty() {
        let places: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Fault::Described(format!("there is no trace in {}", places.join(", "))));
    }
    Ok(runs)
}

fn traces_in(directory: &Path) -> Result<Vec<PathBuf>, Fault> {
    let failed =
        |error: std::io::Error| Fault::Described(format!("{}: {error}", directory.display()));
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "trace") {
            files.push(path);
        }
    }
    Ok(files)
}

fn open(path: &Path) -> Result<SegmentReader<BufReader<File>>, Fault> {
    let broken = |error| Fault::File(path.to_owned(), error);
    let file = File::open(path).map_err(|error| broken(FormatError::Io(error)))?;
    SegmentReader::new(BufReader::new(file)).map_err(broken)
}

impl Run {
    /// Returns the name of the run in reports.
    pub fn name(&self) -> String {
        format!("shard {}", self.header.settings.shard.0)
    }

    /// Whether the run has its first segment. Without it the state of the engine is unknown.
    pub fn is_whole(&self) -> bool {
        self.header.segment == 0
    }

    /// Passes all inputs in order to `act` until it breaks off, and returns how the trace ends.
    /// Reports the bytes read to `advance` from time to time.
    pub fn each(
        &self,
        mut advance: impl FnMut(u64),
        mut act: impl FnMut(&Entry<'_>) -> ControlFlow<()>,
    ) -> Result<Ending, Fault> {
        let mut ending = Ending::Cut;
        for path in &self.segments {
            let mut reader = open(path)?;
            let broken = |error| Fault::File(path.clone(), error);
            let mut before = 0;
            while let Some(block) = reader.next_block().map_err(broken)? {
                for (index, entry) in block.entries().enumerate() {
                    if index % PAUSE == 0 {
                        advance(0);
                    }
                    if act(&entry.map_err(broken)?).is_break() {
                        return Ok(Ending::Marked(End::Finished));
                    }
                }
                let bytes = reader.bytes();
                advance(bytes - std::mem::replace(&mut before, bytes));
            }
            ending = reader.ending().clone();
        }
        Ok(ending)
    }
}

/// Describes the end of a trace, if it is not the end of the server.
pub fn remark(ending: &Ending) -> Option<String> {
    match ending {
        Ending::Marked(End::Finished) => None,
        Ending::Marked(End::Rotated) => Some("continues in a file that is missing".into()),
        Ending::Marked(End::Panicked) => Some("ends with a panic of the shard".into()),
        Ending::Marked(End::Stopped(why)) => Some(format!("recording stopped early: {why}")),
        Ending::Cut => Some("has no end: the server was killed, or is still recording".into()),
        Ending::Damaged => Some("is damaged; nothing after the damage can be read".into()),
    }
}
