//! `tools docs`: writes the generated parts of documents.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use bandsync_tools::docs;
use clap::Args;

/// Writes the tables of READMEs and the sets in scripts that are generated from code.
#[derive(Args)]
pub struct Options {
    /// Only list the files that would change; the exit code is 1 if there are any
    #[arg(long)]
    check: bool,
    /// The top of the repository
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
            let fine = changed.is_empty() || !options.check;
            if server_tables(&options) && fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("docs: {error}");
            ExitCode::from(2)
        }
    }
}

/// Compares or writes the tables that only the server's own code can print: its settings and
/// alerts. A test of the server does both. Returns whether it succeeded.
fn server_tables(options: &Options) -> bool {
    let mut test = Command::new("cargo");
    test.current_dir(&options.top).args(["test", "-q", "--bin", "bandsync", "docs::the_readme"]);
    if !options.check {
        test.env("DOCS_WRITE", "1");
    }
    match test.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("docs: cargo: {error}");
            false
        }
    }
}
