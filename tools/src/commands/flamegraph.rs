//! Draws the output of `perf script`: folds stacks to one line each, then draws an SVG.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use inferno::flamegraph::color::MultiPalette;
use inferno::flamegraph::{self, Palette};

/// Draws the output of `perf script`. `./tools/flamegraph` calls it.
#[derive(Args)]
pub struct Options {
    /// The output of `perf script`
    stacks: PathBuf,
    /// Path of the picture
    picture: PathBuf,
}

/// Runs the command.
pub fn run(options: Options) -> ExitCode {
    match draw(&options.stacks, &options.picture) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flamegraph: {error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(stacks: &Path, picture: &Path) -> io::Result<()> {
    let mut folded = Vec::new();
    Folder::default().collapse(BufReader::new(File::open(stacks)?), &mut folded)?;
    let mut options = flamegraph::Options::default();
    options.title = "bandsync".into();
    // Our crates and others of Rust, its standard library, and the rest, which is mostly the
    // kernel.
    options.colors = Palette::Multi(MultiPalette::Rust);
    options.hash = true;
    let picture = BufWriter::new(File::create(picture)?);
    flamegraph::from_reader(&mut options, folded.as_slice(), picture).map_err(io::Error::other)
}
