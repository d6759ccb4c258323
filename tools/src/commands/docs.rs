//! `tools docs`: writes the parts of documents that have their source in code.

use std::path::PathBuf;
use std::process::ExitCode;

use bandsync_tools::docs;
use clap::Args;

/// Writes the tables of READMEs and the sets of scripts that have their source in code.
#[derive(Args)]
pub struct Options {
    /// Only says which files would change; the exit code is 1 if there are any.
    #[arg(long)]
    check: bool,
    /// The top of the repository.
    #[arg(long, default_value = ".")]
    top: PathBuf,
}

/// Runs the command.
pub fn run(options: Options) -> ExitCode {
    match docs::write(&options.top, options.check) {
        Ok(changed) => {
            for file in &changed {
                println!("{file}: {}", if options.check { "is stale" } else { "written" });
            }
            if options.check && !changed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("docs: {error}");
            ExitCode::from(2)
        }
    }
}
