//! Full disks, and traces that end anywhere.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use bandsync_trace::format::{End, Ending, SegmentReader};

use crate::support::{Scratch, Server, bandsync, first_shard, member, play, text};

#[test]
fn a_truncated_trace_is_replayed_up_to_its_last_whole_block() {
    let scratch = Scratch::new("ends");
    let server = Server::start(&scratch.0, &[]);
    drop(play(server.port));
    server.stop();
    let bytes = fs::read(first_shard(&scratch)).unwrap();
    let part = scratch.0.join("part");
    let header = 30 + u32::from_le_bytes(bytes[18..22].try_into().unwrap()) as usize;
    for length in (header..bytes.len()).step_by(bytes.len() / 7) {
        fs::write(&part, &bytes[..length]).unwrap();
        let replayed = bandsync(&["replay"], &[&part]);
        assert!(replayed.status.success(), "{length}: {}", text(&replayed));
        assert!(text(&replayed).contains("has no end"), "{length}: {}", text(&replayed));
    }
    for length in [0, 5, header - 1] {
        fs::write(&part, &bytes[..length]).unwrap();
        assert_eq!(bandsync(&["replay"], &[&part]).status.code(), Some(2), "{length}");
    }
}

/// The kernel limits the size of the server's files, which has the effect of a full disk.
#[test]
fn a_full_disk_stops_the_recording_with_one_warning_but_not_the_server() {
    let scratch = Scratch::new("full");
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 40; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_bandsync")]);
    let rates = "latency_probe=100000,total=100000";
    let options = ["--storage", "memory", "--log-level", "warn", "--event-rates", rates];
    let mut server = Server::launch(command.stderr(Stdio::piped()), &scratch.0, &options);
    let members = play(server.port);
    let mut talker = member(server.port);
    talker.ask("join_session", r#"{"sessionId":"talk"}"#);
    // Send noise, which does not compress, until the recorder gives up.
    let mut stderr = server.child.stderr.take().unwrap();
    let warned = std::thread::spawn(move || {
        let mut text = String::new();
        stderr.read_to_string(&mut text).unwrap();
        text
    });
    let is_stopped = || {
        scratch.traces().iter().any(|trace| {
            let mut reader = SegmentReader::new(fs::File::open(trace).unwrap()).unwrap();
            while let Ok(Some(_)) = reader.next_block() {}
            matches!(reader.ending(), Ending::Marked(End::Stopped(_)))
        })
    };
    let mut noise = 1_u64;
    let mut rounds = 0;
    while !is_stopped() {
        let text: String = (0..400)
            .map(|_| {
                noise = noise
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                char::from(b'a' + (noise >> 59) as u8 % 26)
            })
            .collect();
        for _ in 0..20 {
            talker.say(&format!(r#"42["latency_probe",{{"timestamp":1,"noise":"{text}"}}]"#));
        }
        talker.hear(r#"42["latency_response""#);
        rounds += 1;
        assert!(rounds < 5_000, "the recording does not stop");
    }
    // The server is unharmed: it accepts new members, and all members get ticks.
    let mut late = member(server.port);
    let joined = late.ask("join_session", r#"{"sessionId":"late"}"#);
    assert!(joined.contains(r#""ok":true"#), "{joined}");
    for mut member in members {
        member.hear(r#"42["scroll_tick""#);
    }
    drop(talker);
    server.stop();
    let warned = warned.join().unwrap();
    assert_eq!(
        warned.matches("recording stops, the server goes on: the disk cannot be written").count(),
        1,
        "{warned}"
    );

    let replayed = bandsync(&["replay"], &[&scratch.0]);
    let report = text(&replayed);
    assert!(
        replayed.status.success()
            && report.contains("recording stopped early: the disk cannot be written"),
        "{report}"
    );
}
