//! Draws what `perf script` prints: stacks folded to one line each, then an SVG.

use std::env;
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::process::ExitCode;

use inferno::collapse::Collapse;
use inferno::collapse::perf::Folder;
use inferno::flamegraph::color::MultiPalette;
use inferno::flamegraph::{self, Options, Palette};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [command, stacks, picture] = arguments.as_slice() else {
        eprintln!("usage: flamegraph draw STACKS PICTURE");
        return ExitCode::from(2);
    };
    if command != "draw" {
        eprintln!("unknown command: {command}");
        return ExitCode::from(2);
    }
    match draw(stacks, picture) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flamegraph: {error}");
            ExitCode::FAILURE
        }
    }
}

fn draw(stacks: &str, picture: &str) -> io::Result<()> {
    let mut folded = Vec::new();
    Folder::default().collapse(BufReader::new(File::open(stacks)?), &mut folded)?;
    let mut options = Options::default();
    options.title = "bandsync".into();
    // Our crates and others of Rust, its standard library, and the rest, which is the kernel
    // mostly.
    options.colors = Palette::Multi(MultiPalette::Rust);
    options.hash = true;
    let picture = BufWriter::new(File::create(picture)?);
    flamegraph::from_reader(&mut options, folded.as_slice(), picture).map_err(io::Error::other)
}
