//! Locks outside the engine are those of `parking_lot`, which a panic does not poison.

use super::source::Source;
use super::{Breach, File};

const UNWANTED: [&str; 5] = [
    "std::sync::Mutex",
    "std::sync::MutexGuard",
    "std::sync::RwLock",
    "std::sync::Condvar",
    "std::sync::PoisonError",
];

pub fn check(file: &File, source: &Source) -> Vec<Breach> {
    const PLACES: [&str; 5] = [
        "src/",
        "shards/cluster/src/",
        "shards/driver/src/",
        "shards/storage/src/",
        "shards/trace/src/",
    ];
    let is_ours = PLACES.iter().any(|place| file.path.starts_with(place));
    let unwanted = source.paths().into_iter().filter(|(_, path)| {
        is_ours
            && UNWANTED.iter().any(|name| path == name || path.starts_with(&format!("{name}::")))
    });
    unwanted
        .map(|(line, path)| file.breach(line, format!("use parking_lot instead of {path}")))
        .collect()
}

#[test]
fn a_lock_that_can_be_poisoned_is_found() {
    let text = "use std::sync::{Arc, Mutex};\nfn f() { std::sync::PoisonError::into_inner(x); }\nuse parking_lot::RwLock;";
    let found = |path| check(&File::new(path, text), &Source::new(text)).len();
    assert_eq!(
        [found("src/a.rs"), found("shards/driver/src/b.rs"), found("tools/src/c.rs")],
        [2, 2, 0]
    );
}
