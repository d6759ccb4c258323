//! The engine computes only: what it must not name, and who alone may read a clock.

use super::source::Source;
use super::{Breach, File};

/// Names that the engine does not use, wherever they come from.
const BANNED_NAMES: [&str; 23] = [
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "HashMap",
    "HashSet",
    "RandomState",
    "DefaultHasher",
    "thread_local",
    "unsafe",
    "File",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "println",
    "eprintln",
    "print",
    "eprint",
    "dbg",
    "stdin",
    "stdout",
    "stderr",
];

/// Paths that the engine does not enter.
const BANNED_PATHS: [&str; 9] = [
    "std::thread",
    "std::fs",
    "std::env",
    "std::process",
    "std::io",
    "std::os",
    "std::sync::Mutex",
    "log",
    "libc",
];

/// What reads a clock.
const CLOCKS: [&str; 5] = ["Instant", "SystemTime", "UNIX_EPOCH", "clock_gettime", "gettimeofday"];

const THE_CLOCK: &str = "shards/driver/src/clock.rs";

pub fn check(file: &File, source: &Source) -> Vec<Breach> {
    let in_engine = file.path.starts_with("shards/engine/src/");
    let in_shards = file.path.starts_with("shards/") && file.path != THE_CLOCK;
    let why = |path: &str| {
        let names = |list: &[&str]| path.split("::").any(|step| list.contains(&step));
        if in_engine && (names(&BANNED_NAMES) || BANNED_PATHS.iter().any(|banned| leads_into(path, banned))) {
            Some("the engine computes only")
        } else if in_shards && names(&CLOCKS) {
            Some("only the driver's clock.rs reads a clock")
        } else {
            None
        }
    };
    let paths = source.paths().into_iter();
    paths
        .filter_map(|(line, path)| why(&path).map(|why| file.breach(line, format!("{why}: {path}"))))
        .collect()
}

fn leads_into(path: &str, banned: &str) -> bool {
    path.strip_prefix(banned)
        .is_some_and(|rest| rest.starts_with("::") || rest.is_empty() && banned.contains("::"))
}

#[cfg(test)]
#[track_caller]
fn check_text(path: &str, text: &str, breaches: usize) {
    let found = check(&File::new(path, text), &Source::new(text));
    assert_eq!(found.len(), breaches, "{path} with {text:?}: {found:?}");
}

#[test]
fn what_does_not_only_compute_is_noticed() {
    let engine = "shards/engine/src/engine/mod.rs";
    for text in [
        "use std::time::Instant;",
        "let now = std::time::SystemTime::now();",
        "use std::collections::{BTreeMap, HashMap};",
        "let seen: HashSet<u64> = x;",
        "std::thread::spawn(f);",
        "use std::{cmp, fs};",
        "use std::net::TcpStream;",
        "let home = std::env::var(name);",
        "log::warn!(x);",
        "println!();",
        "thread_local! {}",
        "unsafe { f() }",
    ] {
        check_text(engine, text, 1);
    }
}

#[test]
fn what_computes_is_let_be() {
    let engine = "shards/engine/src/engine/mod.rs";
    for text in [
        "#![forbid(unsafe_code)]",
        "use std::net::IpAddr;",
        "use std::collections::{BTreeMap, VecDeque};",
        "let log = 1; let printed = log;",
        "// HashMap would differ from run to run\n",
        "let text = \"Instant\";",
    ] {
        check_text(engine, text, 0);
    }
    check_text("src/main.rs", "use std::time::Instant;", 0);
}

#[test]
fn a_second_clock_is_noticed() {
    check_text("shards/driver/src/poll.rs", "let now = std::time::Instant::now();", 1);
    check_text("shards/driver/src/timer.rs", "libc::clock_gettime(c, t);", 1);
    check_text(THE_CLOCK, "let now = std::time::Instant::now();", 0);
}
