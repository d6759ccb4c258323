//! `bandsync trace diff`: finds the first difference between two traces.

use std::path::PathBuf;

use bandsync_engine::io::Settings;
use bandsync_engine::trace::Outcome;
use bandsync_trace::decoder::describe;
use bandsync_trace::reader::Fault;
use serde_json::{Map, Value};

use super::only_run;
use super::script::{Script, Take};
use crate::ops::process::print_line;

/// Options of `trace diff`.
#[derive(clap::Args, Debug)]
pub struct Options {
    /// One trace
    #[arg(value_name = "TRACE")]
    one: PathBuf,
    /// Another
    #[arg(value_name = "OTHER")]
    other: PathBuf,
}

/// Compares two traces. Returns true if they are the same.
pub fn run(options: &Options) -> Result<bool, Fault> {
    let read = |path: &PathBuf| Script::read(&only_run(std::slice::from_ref(path))?);
    let (one, other) = (read(&options.one)?, read(&options.other)?);
    let mut same = true;
    if one.header.settings != other.header.settings {
        same = false;
        let (one, other) = (fields(&one.header.settings), fields(&other.header.settings));
        for (name, value) in one.iter().filter(|(name, value)| other.get(*name) != Some(value)) {
            print_line(&format!(
                "< {name}: {value}\n> {name}: {}",
                other.get(name).unwrap_or(&Value::Null)
            ));
        }
    }
    let shared = one.takes.iter().zip(&other.takes).take_while(|(one, other)| one == other).count();
    let (left, right) = (one.takes.get(shared), other.takes.get(shared));
    if left.is_some() || right.is_some() {
        same = false;
        print_line(&format!(
            "the first {shared} inputs are the same; then\n< {}\n> {}",
            described(left),
            described(right)
        ));
        print_line(&format!(
            "{} inputs more here, {} there",
            one.takes.len() - shared,
            other.takes.len() - shared
        ));
    } else {
        print_line(&format!("all {shared} inputs are the same"));
    }
    Ok(same)
}

/// Returns the settings by name.
fn fields(settings: &Settings) -> Map<String, Value> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

fn described(take: Option<&Take>) -> String {
    let Some(take) = take else { return "nothing more".into() };
    let outcome = match take.outcome {
        Outcome::Nothing => "no outputs".into(),
        Outcome::Outputs { count, digest } => format!("{count} outputs, digest {digest:08x}"),
        Outcome::Panic => "a panic".into(),
    };
    format!("{:.6} s: {}; {outcome}", take.at.as_micros() as f64 / 1e6, describe(&take.input()))
}
