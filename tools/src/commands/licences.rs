//! `tools licences`: writes the licences of the packages in the server's binary.

use std::path::PathBuf;
use std::process::ExitCode;

use bandsync_tools::licences;
use clap::Args;

/// Writes src/licences.txt, which `bandsync licences` prints, from the packages of Cargo.lock.
#[derive(Args)]
pub struct Options {
    /// Only compare; the exit code is 1 if the text would change
    #[arg(long)]
    check: bool,
    /// The top of the repository
    #[arg(long, default_value = ".")]
    top: PathBuf,
}

/// Runs the command.
pub fn run(options: Options) -> ExitCode {
    match licences::write(&options.top, options.check) {
        Ok(is_changed) => {
            if is_changed {
                println!(
                    "{}: {}",
                    licences::FILE,
                    if options.check { "is stale" } else { "written" }
                );
            }
            if is_changed && options.check { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("licences: {error}");
            ExitCode::from(2)
        }
    }
}
