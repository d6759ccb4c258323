//! A recording that is kept: what another build on another machine did, this one does.
//!
//! When the engine does something else on purpose, or a trace has another form, it is recorded anew
//! by `cargo build --release && RECORD_ANEW=target/release/bandsync cargo test --test replay kept`,
//! which also has the release build verify what this one records.

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

/// Has a server record what a band does.
fn record(program: &Path, to: &Path) {
    let scratch = Scratch::new("anew");
    let options = ["--shards", "1", "--storage", "memory", "--log-level", "off"];
    let server = Server::launch(&mut Command::new(program), &scratch.0, &options);
    drop(play(server.port));
    server.stop();
    fs::copy(&scratch.traces()[0], to).unwrap();
}
