//! `tools sbom`: prints the software bill of materials.

use std::path::PathBuf;
use std::process::ExitCode;

use bandsync_tools::{sbom, shipped};
use clap::Args;

/// Prints the packages in the server's binary as a bill of materials (CycloneDX, JSON).
#[derive(Args)]
pub struct Options {
    /// Time of the release, such as 2026-11-29T20:00:00Z
    #[arg(long)]
    time: String,
    /// The top of the repository
    #[arg(long, default_value = ".")]
    top: PathBuf,
}

/// Runs the command.
pub fn run(options: Options) -> ExitCode {
    match shipped::packages(&options.top) {
        Ok(packages) => {
            println!("{:#}", sbom::bill(&packages, &options.time));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("sbom: {error}");
            ExitCode::from(2)
        }
    }
}
