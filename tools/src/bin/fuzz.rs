//! Feeds the fuzz targets mutated seeds on any toolchain: `fuzz [--seconds N] [--target NAME]
//! [--seed N]`.

use std::env;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bandsync_engine::words::rng::Rng;
use bandsync_tools::fuzz::{TARGETS, Target, mutate};

struct Options {
    seconds: u64,
    target: Option<String>,
    seed: u64,
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        let names = TARGETS.map(|target| target.name).join(", ");
        eprintln!("usage: fuzz [--seconds N] [--target NAME] [--seed N]\ntargets: {names}");
        return ExitCode::from(2);
    };
    let wanted = |target: &&Target| options.target.as_ref().is_none_or(|name| name == target.name);
    let mut found = false;
    for target in TARGETS.iter().filter(wanted) {
        found |= !fuzz(target, &options);
    }
    if found { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn options() -> Option<Options> {
    let mut options = Options { seconds: 5, target: None, seed: 1 };
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?;
        match name.as_str() {
            "--seconds" => options.seconds = value.parse().ok()?,
            "--seed" => options.seed = value.parse().ok()?,
            "--target" if TARGETS.iter().any(|target| target.name == value) => {
                options.target = Some(value)
            }
            _ => return None,
        }
    }
    Some(options)
}

/// False if the target panicked; then the bytes are printed as Rust reads them.
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
