//! The doors inside the engine: they point one way, and an absent door is shut.

use super::source::Source;
use super::{Breach, File};

/// Each layer of `shards/engine/src` and the layers, or single modules of them, that it may name.
const DOORS: [(&str, &[&str]); 16] = [
    ("words", &[]),
    ("clock", &[]),
    ("slots", &["words"]),
    ("timers", &["slots", "words"]),
    ("throttle", &["words"]),
    ("speech", &["words"]),
    ("record", &["speech", "words"]),
    ("wire", &["speech", "words"]),
    ("session", &["speech", "record", "words"]),
    ("io", &["record", "speech", "words"]),
    ("trace", &["io", "record", "words"]),
    ("delivery", &["wire", "io", "words"]),
    ("context", &["delivery", "throttle", "timers", "io", "words"]),
    (
        "transport",
        &["context", "delivery", "throttle", "timers", "slots", "wire", "speech", "io", "words"],
    ),
    (
        "rooms",
        &[
            "context",
            "delivery",
            "throttle",
            "timers",
            "slots",
            "session",
            "record",
            "speech",
            "io",
            "words",
            "wire::print",
            "wire::notices",
            "wire::envelope",
        ],
    ),
    (
        "engine",
        &[
            "transport",
            "rooms",
            "context",
            "delivery",
            "throttle",
            "timers",
            "slots",
            "io",
            "trace",
            "record",
            "session",
            "wire",
            "speech",
            "words",
        ],
    ),
];

const ENGINE: &str = "shards/engine/src/";

pub fn check(file: &File, source: &Source) -> Vec<Breach> {
    if file.path.starts_with("shards/driver/src/") {
        return shut(file, source, "bandsync", "the driver knows nothing of the server");
    }
    let Some(inside) = file.path.strip_prefix(ENGINE).filter(|inside| *inside != "lib.rs") else {
        return Vec::new();
    };
    let layer = inside.split(['/', '.']).next().unwrap_or_default();
    let Some((_, doors)) = DOORS.iter().find(|(name, _)| *name == layer) else {
        return vec![file.breach(1, format!("`{layer}` has no place among the layers"))];
    };
    let is_shut = |other: &str, path: &str| {
        let into = |door: &&str| door.contains("::") && path.contains(*door);
        other != layer && !doors.contains(&other) && !doors.iter().any(into)
    };
    source
        .paths()
        .into_iter()
        .filter_map(|(line, path)| {
            let other = named_layer(&path)?;
            is_shut(other, &path)
                .then(|| file.breach(line, format!("`{layer}` may not know `{other}`: {path}")))
        })
        .collect()
}

/// Returns the layer that a path leads to, if any.
fn named_layer(path: &str) -> Option<&'static str> {
    let mut steps = path.split("::").peekable();
    let first = steps.next()?;
    if !["crate", "super", "self"].contains(&first) {
        return None;
    }
    while steps.next_if(|step| *step == "super").is_some() {}
    let step = steps.next()?;
    DOORS.iter().map(|(name, _)| *name).find(|name| *name == step)
}

fn shut(file: &File, source: &Source, name: &str, why: &str) -> Vec<Breach> {
    let leads_there = |path: &str| path.split("::").next() == Some(name);
    let paths = source.paths().into_iter().filter(|(_, path)| leads_there(path));
    paths.map(|(line, _)| file.breach(line, why)).collect()
}

#[cfg(test)]
#[track_caller]
fn check_text(path: &str, text: &str, breaches: usize) {
    let found = check(&File::new(path, text), &Source::new(text));
    assert_eq!(found.len(), breaches, "{path} with {text:?}: {found:?}");
}

#[test]
fn a_forbidden_import_is_reported() {
    check_text("shards/engine/src/wire/frame.rs", "use crate::session::Session;", 1);
    check_text(
        "shards/engine/src/wire/frame.rs",
        "use crate::{words::ids, session::{A, B}, engine};",
        3,
    );
    check_text("shards/engine/src/session/mod.rs", "fn f() { super::wire::print(); }", 1);
    check_text("shards/engine/src/session/leadership.rs", "use super::super::wire;", 1);
    check_text("shards/engine/src/words/time.rs", "use crate::speech::Role;", 1);
    check_text("shards/engine/src/io/mod.rs", "use crate::session::Session;", 1);
    check_text("shards/engine/src/delivery/mod.rs", "use crate::engine::Engine;", 1);
    check_text("shards/engine/src/rooms/room.rs", "use crate::wire::{print, frame};", 1);
    check_text("shards/engine/src/transport/client.rs", "use crate::{rooms, session, engine};", 3);
    check_text("shards/engine/src/rooms/room.rs", "use crate::transport::Client;", 1);
    check_text("shards/engine/src/attic.rs", "", 1);
    check_text("shards/driver/src/poll.rs", "bandsync::config::load();", 1);
}

#[test]
fn an_allowed_import_is_not_reported() {
    check_text(
        "shards/engine/src/wire/frame.rs",
        "use crate::{words::ids, speech::Command, wire::json};",
        0,
    );
    check_text("shards/engine/src/engine/mod.rs", "use crate::{wire, session, io::Input};", 0);
    check_text("shards/engine/src/lib.rs", "pub use crate::{wire, session};", 0);
    check_text(
        "shards/engine/src/words/time.rs",
        "// crate::session\nlet s = \"crate::session\";",
        0,
    );
    check_text("src/serve.rs", "use bandsync_driver::Shard;", 0);
}
