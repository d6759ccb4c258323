//! `tools fuzz`: runs the fuzz targets with mutated seeds, on any toolchain.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bandsync_engine::words::rng::Rng;
use bandsync_tools::fuzz::{TARGETS, Target, mutate};
use clap::Args;

/// Runs the fuzz targets with mutated seeds, on any toolchain.
#[derive(Args)]
pub struct Options {
    /// Duration of each target, in seconds
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Only this target
    #[arg(long, value_parser = TARGETS.map(|target| target.name))]
    target: Option<String>,
    /// Seed of the mutations
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the command.
pub fn run(options: Options) -> ExitCode {
    let wanted = |target: &&Target| options.target.as_ref().is_none_or(|name| name == target.name);
    let mut found = false;
    for target in TARGETS.iter().filter(wanted) {
        found |= !fuzz(target, &options);
    }
    if found { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs a target. Returns false if it panicked, after printing the bytes as Rust reads them.
fn fuzz(target: &Target, options: &Options) -> bool {
    let (began, mut rng, mut runs) = (Instant::now(), Rng::from_seed(options.seed), 0_u64);
    while began.elapsed() < Duration::from_secs(options.seconds) {
        let bytes = mutate(&mut rng, target.seeds);
        if catch_unwind(|| (target.run)(&bytes)).is_err() {
            eprintln!("{}: panics at b\"{}\"", target.name, bytes.escape_ascii());
            return false;
        }
        runs += 1;
    }
    eprintln!("{}: {runs} inputs, seed {}, nothing found", target.name, options.seed);
    true
}
