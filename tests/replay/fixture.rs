//! A committed recording: this build behaves like another build on another machine.
//!
//! If the engine changes its outputs on purpose, or the format changes, record it again with
//! `cargo build --release && RECORD_ANEW=target/release/bandsync cargo test --test replay kept`.
//! That also makes the release build verify what this build records.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Scratch, Server, bandsync, play, text};

const THIS: &str = env!("CARGO_BIN_EXE_bandsync");

#[test]
fn a_kept_recording_of_a_release_build_is_verified() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let kept = top.join("tests/traces/band.trace");
    let is_other = std::env::var("RECORD_ONLY").is_ok_and(|only| only != "band");
    if let Some(other) = std::env::var_os("RECORD_ANEW").filter(|_| !is_other) {
        let other = top.join(other);
        record(&other, &kept);
        let scratch = Scratch::new("reverse");
        let ours = scratch.0.join("ours.trace");
        record(Path::new(THIS), &ours);
        let replayed = Command::new(other).arg("replay").arg(ours).output().unwrap();
        assert!(replayed.status.success(), "{}", text(&replayed));
    }
    let replayed = bandsync(&["replay"], &[&kept]);
    let report = text(&replayed);
    let again = "if that is on purpose: cargo build --release && RECORD_ANEW=target/release/bandsync cargo test --test replay kept";
    assert!(replayed.status.success(), "{report}\n{again}");
}

/// Makes a server record a band.
fn record(program: &Path, to: &Path) {
    let scratch = Scratch::new("anew");
    let options = ["--shards", "1", "--storage", "memory", "--log-level", "off"];
    let server = Server::launch(&mut Command::new(program), &scratch.0, &options);
    drop(play(server.port));
    server.stop();
    fs::copy(&scratch.traces()[0], to).unwrap();
}
