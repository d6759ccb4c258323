//! Records a real server while members play; replays, inspects and shrinks the recording.
#![allow(clippy::unwrap_used)]

mod disk;
mod engine_script;
mod fixture;
mod kept;
mod look;
mod support;

use std::fs;
use std::path::Path;

use bandsync_trace::format::SegmentReader;

use support::{Scratch, Server, bandsync, first_shard, member, play, text};

const SECRETS: [&str; 4] = ["open sesame", "wrong sesame", "pin 4711 pin", "bearer of the token"];

/// All bytes of the entries, uncompressed.
fn entries(trace: &Path) -> Vec<u8> {
    let mut reader = SegmentReader::new(fs::File::open(trace).unwrap()).unwrap();
    let mut all = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        all.extend_from_slice(block.entries);
    }
    all
}

#[test]
fn a_recorded_server_is_replayed_without_its_secrets() {
    let scratch = Scratch::new("replay");
    let server = Server::start(&scratch.0, &["--record-max-age", "1000"]);
    let members = play(server.port);
    let mut last = member(server.port);
    last.ask("join_session", r#"{"sessionId":"late"}"#);
    server.stop();
    drop(members);

    let traces = scratch.traces();
    assert!(traces.len() >= 2, "{traces:?}");
    let replayed = bandsync(&["replay"], &[&scratch.0]);
    assert!(replayed.status.success(), "{}", text(&replayed));
    let report = text(&replayed);
    assert_eq!(report.matches("the outputs are the same").count(), 3, "{report}");

    let shown = bandsync(&["trace", "show", "--json"], &[&scratch.0]);
    assert!(shown.status.success(), "{}", text(&shown));
    let shown = text(&shown);
    for event in ["join_session", "update_settings", "arrived", "hand over", "scroll_tick", "drain"]
    {
        assert!(shown.contains(&format!(r#""event":"{event}""#)), "{event} is not shown");
    }
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{secret:?} is shown");
        for trace in &traces {
            let entries = entries(trace);
            let found = entries.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
            assert!(!found, "{secret:?} is in {}", trace.display());
        }
    }
    assert!(shown.contains("bad_passcode"), "a wrong passcode stays wrong");
}

#[test]
fn different_outputs_are_reported_and_a_killed_servers_trace_is_readable() {
    let scratch = Scratch::new("parted");
    let server = Server::start(&scratch.0, &["--seed", "5"]);
    let mut members = play(server.port);
    let trace = first_shard(&scratch);
    let header = fs::metadata(&trace).unwrap().len();
    // A shard passes on its recording once a second.
    let mut ticks = 0;
    while fs::metadata(&trace).unwrap().len() == header {
        members[0].hear(r#"42["scroll_tick""#);
        ticks += 1;
        assert!(ticks < 10_000, "nothing is written");
    }
    drop(server);
    let replayed = bandsync(&["replay"], &[&trace]);
    // Everything that was written can be read; the rest is lost with the process.
    assert!(replayed.status.success(), "{}", text(&replayed));

    // With another seed, the same inputs lead to other ids.
    let bytes = fs::read(&trace).unwrap();
    let other = Scratch::new("other");
    let server = Server::start(&other.0, &["--seed", "6"]);
    drop(server);
    let header = fs::read(first_shard(&other)).unwrap();
    let length =
        |bytes: &[u8]| 17 + 13 + u32::from_le_bytes(bytes[18..22].try_into().unwrap()) as usize;
    let mixed = other.0.join("mixed");
    fs::write(&mixed, [&header[..length(&header)], &bytes[length(&bytes)..]].concat()).unwrap();
    let replayed = bandsync(&["replay"], &[&mixed]);
    let report = text(&replayed);
    assert_eq!(replayed.status.code(), Some(1), "{report}");
    for part in ["THE OUTPUTS DIFFER", "at input ", "expected", "actual"] {
        assert!(report.contains(part), "{part}: {report}");
    }
    let rejected = bandsync(&["replay"], &[Path::new(file!())]);
    assert_eq!(rejected.status.code(), Some(2), "{}", text(&rejected));
}
