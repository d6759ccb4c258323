//! The engine only computes: the names that it must not use, and the only places that read a clock.

use super::source::Source;
use super::{Breach, File};

/// Names that the engine must not use, from any crate.
const BANNED_NAMES: [&str; 25] = [
    "Instant",
    "SystemTime",
    "UNIX_EPOCH",
    "HashMap",
    "HashSet",
    "RandomState",
    "DefaultHasher",
    "thread_local!",
    "unsafe",
    "Mutex",
    "RwLock",
    "Condvar",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "dbg!",
    "stdin",
    "stdout",
    "stderr",
];

/// Paths that the engine must not use.
const BANNED_PATHS: [&str; 7] = [
    "std::thread",
    "std::process",
    "std::os",
    "std::sync::atomic",
    "std::sync::mpsc",
    "log",
    "libc",
];

/// Paths that its tests may use, to read the vectors that all languages share.
const TESTS_MAY_ENTER: [&str; 2] = ["std::fs", "std::env"];

/// Names that differ between machines or builds: floating-point functions without a fixed rounding,
/// and code for some machines only. A trace must verify on every machine.
const MACHINES: [&str; 26] = [
    "powf",
    "powi",
    "exp",
    "exp2",
    "exp_m1",
    "ln",
    "ln_1p",
    "log2",
    "log10",
    "sin",
    "cos",
    "tan",
    "sin_cos",
    "asin",
    "acos",
    "atan",
    "atan2",
    "sinh",
    "cosh",
    "tanh",
    "hypot",
    "cbrt",
    "mul_add",
    "target_arch",
    "target_endian",
    "debug_assertions",
];

/// Names that read a clock.
const CLOCKS: [&str; 5] = ["Instant", "SystemTime", "UNIX_EPOCH", "clock_gettime", "gettimeofday"];

const THE_CLOCK: &str = "shards/driver/src/clock.rs";

pub fn check(file: &File, source: &Source) -> Vec<Breach> {
    let in_engine = file.path.starts_with("shards/engine/src/");
    // Tests outside the crates may have time limits.
    let in_shards = ["shards/engine/src/", "shards/driver/src/", "shards/trace/src/"]
        .iter()
        .any(|place| file.path.starts_with(place))
        && file.path != THE_CLOCK;
    let tests = source.first_test_line();
    let why = |line: usize, path: &str| {
        let names = |list: &[&str]| path.split("::").any(|step| list.contains(&step));
        let enters = |list: &[&str]| list.iter().any(|banned| leads_into(path, banned));
        let touches = names(&BANNED_NAMES)
            || enters(&BANNED_PATHS)
            || line < tests && enters(&TESTS_MAY_ENTER);
        if in_engine && touches {
            Some("the engine computes only")
        } else if in_engine && names(&MACHINES) {
            Some("the engine does the same on every machine and in every build")
        } else if in_shards && names(&CLOCKS) {
            Some("only the driver's clock.rs reads a clock")
        } else {
            None
        }
    };
    let paths = source.paths().into_iter();
    paths
        .filter_map(|(line, path)| {
            why(line, &path).map(|why| file.breach(line, format!("{why}: {path}")))
        })
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
fn impure_code_in_the_engine_is_reported() {
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
        "use std::sync::{Arc, Mutex};",
        "log::warn!(x);",
        "println!();",
        "thread_local! {}",
        "unsafe { f() }",
        "let tempo = base.powf(x);",
        "#[cfg(target_endian = little)] fn f() {}",
        "if cfg!(debug_assertions) {}",
    ] {
        check_text(engine, text, 1);
    }
}

#[test]
fn pure_code_is_not_reported() {
    let engine = "shards/engine/src/engine/mod.rs";
    for text in [
        "#![forbid(unsafe_code)]",
        "use std::net::IpAddr;",
        "use std::collections::{BTreeMap, VecDeque};",
        "let log = 1; let printed = log;",
        "// HashMap would differ from run to run\n",
        "frame::print(out); print(out);",
        "#[cfg(test)]\nmod tests { let vectors = std::fs::read(path); }",
        "let text = \"Instant\";",
    ] {
        check_text(engine, text, 0);
    }
    check_text("src/main.rs", "use std::time::Instant;", 0);
}

#[test]
fn a_second_clock_is_reported() {
    check_text("shards/driver/src/poll.rs", "let now = std::time::Instant::now();", 1);
    check_text("shards/driver/src/timer.rs", "libc::clock_gettime(c, t);", 1);
    check_text(THE_CLOCK, "let now = std::time::Instant::now();", 0);
}
