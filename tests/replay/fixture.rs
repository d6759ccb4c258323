//! A recording that is kept: what another build on another machine did, this one does.
//!
//! When the engine does something else on purpose, or a trace has another form, it is recorded anew by
//! `RECORD_ANEW=1 cargo test --release --test replay kept`, and what changed is looked at.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Scratch, Server, bandsync, play, text};

#[test]
fn a_kept_recording_of_a_release_build_is_verified() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/band.trace");
    if std::env::var_os("RECORD_ANEW").is_some() {
        let scratch = Scratch::new("anew");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bandsync"));
        let options = ["--shards", "1", "--storage", "memory", "--log-level", "off"];
        let server = Server::launch(&mut command, &scratch.0, &options);
        drop(play(server.port));
        server.stop();
        fs::copy(&scratch.traces()[0], &kept).unwrap();
    }
    let replayed = bandsync(&["replay"], &[&kept]);
    let report = text(&replayed);
    let again = "if that is on purpose: RECORD_ANEW=1 cargo test --release --test replay kept";
    assert!(replayed.status.success(), "{report}\n{again}");
}
