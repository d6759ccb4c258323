//! `bandsync trace` and the options of `bandsync replay`, with the recording of a small band.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bandsync_engine::trace::Recorded;
use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;
use bandsync_trace::format::{End, EntryBlock, Packer, SegmentReader, write_entry};
use serde_json::Value;

use crate::support::{Scratch, Server, bandsync, first_shard, play, text};

/// Records both shards of a server; also returns the first shard's file.
fn recorded(name: &str) -> (Scratch, PathBuf) {
    let scratch = Scratch::new(name);
    let server = Server::start(&scratch.0, &[]);
    drop(play(server.port));
    server.stop();
    let trace = first_shard(&scratch);
    (scratch, trace)
}

/// The output of a command that must succeed without errors.
#[track_caller]
fn printed(arguments: &[&str], paths: &[&Path]) -> String {
    let output = bandsync(arguments, paths);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{arguments:?}: {}",
        text(&output)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// The lines of `trace show --json` with these filters.
#[track_caller]
fn lines(filters: &[&str], trace: &Path) -> Vec<Value> {
    let shown = printed(&[&["trace", "show", "--json"], filters].concat(), &[trace]);
    shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn every(lines: &[Value], holds: impl Fn(&Value) -> bool) -> bool {
    !lines.is_empty() && lines.iter().all(holds)
}

#[test]
fn show_prints_a_line_for_everything_and_filters() {
    let (_scratch, trace) = recorded("show");
    let all = lines(&[], &trace);
    for event in ["opened", "http", "join_session", "play", "ack", "scroll_tick", "closed", "drain"]
    {
        assert!(all.iter().any(|line| line["event"] == event), "{event} is not shown");
    }
    assert!(all.is_sorted_by_key(|line| line["micros"].as_u64()));
    assert!(
        every(&all, |line| ["in", "out", "here"].contains(&line["direction"].as_str().unwrap()))
    );

    let ticks = lines(&["--event", "scroll_tick"], &trace);
    assert!(
        every(&ticks, |line| line["event"] == "scroll_tick" && line["bytes"].as_u64() > Some(50))
    );
    let session = ticks[0]["session"].as_str().unwrap();
    let of_session = lines(&["--session", session], &trace);
    assert!(every(&of_session, |line| line["session"] == session) && of_session.len() < all.len());
    let of_ada = lines(&["--member", "Ada", "--event", "play"], &trace);
    assert!(every(&of_ada, |line| line["event"] == "play"));
    let conn = of_ada.iter().find(|line| line["direction"] == "in").unwrap();
    assert!(conn["member"].as_str().unwrap().ends_with("Ada"), "{conn}");
    let conn = conn["connections"][0].as_str().unwrap();
    let of_conn = lines(&["--member", conn], &trace);
    assert!(every(&of_conn, |line| line["connections"].as_array().unwrap().contains(&conn.into())));

    let middle = all[all.len() / 2]["micros"].as_u64().unwrap();
    let seconds = format!("{:.6}", middle as f64 / 1e6);
    let (early, late) =
        (lines(&["--until", &seconds], &trace), lines(&["--from", &seconds], &trace));
    assert!(every(&early, |line| line["micros"].as_u64() <= Some(middle)));
    assert!(every(&late, |line| line["micros"].as_u64() >= Some(middle)));
    let inputs = lines(&["--inputs"], &trace);
    assert!(every(&inputs, |line| line["direction"] != "out"));

    let shown = printed(&["trace", "show", "--event", "play"], &[&trace]);
    let line = shown.lines().find(|line| line.contains('→')).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let [seconds, input, _conn, "→", "play", bytes, "B", ..] = words[..] else {
        panic!("{line}")
    };
    assert!(
        seconds.contains('.') && input.parse::<u64>().is_ok() && bytes.parse::<u64>().is_ok(),
        "{line}"
    );
    assert_eq!(shown.lines().count(), lines(&["--event", "play"], &trace).len());
}

#[test]
fn stats_and_show_count_the_same_messages() {
    let (scratch, trace) = recorded("stats");
    let drawn = printed(&["trace", "stats"], &[&scratch.0]);
    for part in [
        "== shard 0:",
        "== shard 1:",
        "to the server",
        "from the server",
        "messages from the server, a column is",
        "lateness of ",
        "busiest members",
    ] {
        assert!(drawn.contains(part), "{part}: {drawn}");
    }

    let stats: Value =
        serde_json::from_str(&printed(&["trace", "stats", "--json"], &[&trace])).unwrap();
    let count = |direction: &str, event: &str| {
        let is = |row: &&Value| row["direction"] == direction && row["event"] == event;
        stats["events"]
            .as_array()
            .unwrap()
            .iter()
            .find(is)
            .map_or(0, |row| row["count"].as_u64().unwrap())
    };
    for (direction, event) in
        [("in", "join_session"), ("in", "play"), ("out", "scroll_tick"), ("out", "ack")]
    {
        let all = lines(&["--event", event], &trace);
        let shown = all.iter().filter(|line| line["direction"] == direction);
        let shown: usize = shown.map(|line| line["connections"].as_array().unwrap().len()).sum();
        assert_eq!(count(direction, event), shown as u64, "{event}");
        assert!(shown > 0, "{event}");
    }
    let sum = |rows: &str, field: &str| -> u64 {
        stats[rows].as_array().unwrap().iter().map(|row| row[field].as_u64().unwrap()).sum()
    };
    let of = |direction: &str| {
        let rows =
            stats["events"].as_array().unwrap().iter().filter(|row| row["direction"] == direction);
        rows.map(|row| row["count"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!((sum("tenths", "in"), sum("tenths", "out")), (of("in"), of("out")));
    assert_eq!(sum("talkers", "count"), of("in"));
    // A tick goes to at most two members of a session, and is printed once for both.
    let (ticks, made) = (count("out", "scroll_tick"), sum("tickLateness", "count"));
    assert!(made <= ticks && ticks <= 2 * made, "{made} made, {ticks} sent");
}

#[test]
fn other_files_and_traces_of_other_versions_get_different_errors() {
    let (scratch, trace) = recorded("others");
    let folder = scratch.0.join("folder");
    fs::create_dir(&folder).unwrap();
    let rejected = bandsync(&["replay"], &[&folder]);
    assert_eq!(rejected.status.code(), Some(2));
    assert!(text(&rejected).contains("there is no trace in"), "{}", text(&rejected));

    // The server was killed as it began another file.
    let bytes = fs::read(&trace).unwrap();
    fs::copy(&trace, folder.join("a.trace")).unwrap();
    fs::write(folder.join("b.trace"), &bytes[..20]).unwrap();
    let replayed = bandsync(&["replay"], &[&folder]);
    assert!(replayed.status.success(), "{}", text(&replayed));
    assert!(
        text(&replayed).contains("b.trace ends before anything was recorded"),
        "{}",
        text(&replayed)
    );

    let other = scratch.0.join("other");
    fs::write(&other, [b"BANDSYNC TRACE 3\n", &bytes[17..]].concat()).unwrap();
    for (path, why) in
        [(other.as_path(), "another version"), (Path::new(file!()), "is not a trace")]
    {
        for arguments in [&["replay"][..], &["trace", "show"], &["trace", "stats"]] {
            let rejected = bandsync(arguments, &[path]);
            assert_eq!(rejected.status.code(), Some(2), "{arguments:?}");
            assert!(text(&rejected).contains(why), "{}", text(&rejected));
        }
    }
}

#[test]
fn diff_names_the_first_difference() {
    let (scratch, trace) = recorded("diff");
    assert!(printed(&["trace", "diff"], &[&trace, &trace]).contains("inputs are the same"));
    let mut traces = scratch.traces();
    traces.retain(|other| *other != trace);
    let parted = bandsync(&["trace", "diff"], &[&trace, &traces[0]]);
    assert_eq!(parted.status.code(), Some(1));
    let report = text(&parted);
    assert!(report.starts_with("< shard: 0\n> shard: 1\n"), "{report}");
    assert!(report.contains("inputs are the same; then"), "{report}");
}

#[test]
fn a_cut_trace_replays_and_contains_only_the_requested_part() {
    let (scratch, trace) = recorded("cut");
    let out = scratch.0.join("part");
    let cut = |filters: &[&str]| {
        let arguments = [&["trace", "cut", "--out", out.to_str().unwrap()], filters].concat();
        assert!(printed(&arguments, &[&trace]).contains("inputs are in"));
        assert!(printed(&["replay"], &[&out]).contains("the outputs are the same"));
        lines(&[], &out)
    };
    let sessions = |lines: &[Value]| -> BTreeSet<String> {
        lines.iter().filter_map(|line| line["session"].as_str()).map(str::to_owned).collect()
    };
    let all = lines(&["--event", "scroll_tick"], &trace);
    let session = all[0]["session"].as_str().unwrap();
    assert!(sessions(&all).len() > 1, "the band has several sessions here");
    let part = cut(&["--session", session]);
    assert_eq!(sessions(&part), BTreeSet::from([session.to_owned()]));
    assert!(part.iter().any(|line| line["event"] == "scroll_tick"));

    let part = cut(&["--member", "Bo"]);
    assert!(part.iter().all(|line| line["event"] != "play"), "only Ada plays");
    let until = all[0]["micros"].as_u64().unwrap();
    let part = cut(&["--until", &format!("{:.6}", until as f64 / 1e6)]);
    assert!(every(&part, |line| line["micros"].as_u64() <= Some(until)));
    assert_eq!(bandsync(&["trace", "diff"], &[&trace, &out]).status.code(), Some(1));
}

/// Shrinks a trace to `out`, and returns its number of inputs.
#[track_caller]
fn shrink(arguments: &[&str], trace: &Path, out: &Path) -> usize {
    let out = out.to_str().unwrap();
    let output = printed(&[&["trace", "shrink", "--out", out], arguments].concat(), &[trace]);
    assert!(output.contains("inputs are enough"), "{output}");
    output.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn shrink_finds_the_few_inputs_that_cause_an_answer() {
    let (scratch, trace) = recorded("shrink");
    let out = scratch.0.join("small");
    let enough = shrink(&["--check", "bad_passcode"], &trace, &out);
    let shown = printed(&["trace", "show"], &[&out]);
    assert!(shown.contains("bad_passcode") && !shown.contains("scroll_tick"), "{shown}");
    // One member sets the passcode and another fails it: each opens, upgrades, connects and sends,
    // in pieces.
    assert!(enough < 40, "{enough}: {shown}");
    assert!(printed(&["replay"], &[&out]).contains("the outputs are the same"));
    // None of its inputs can be removed.
    assert_eq!(shrink(&["--check", "bad_passcode"], &out, &scratch.0.join("smaller")), enough);

    let passed = bandsync(&["trace", "shrink", "--check", "never said", "--out"], &[&out, &trace]);
    assert_eq!(passed.status.code(), Some(1));
    assert!(text(&passed).contains("passes this check"));
}

#[test]
fn shrink_finds_the_input_that_makes_the_engine_panic() {
    let (scratch, trace) = recorded("panic");
    let (broken, out) = (scratch.0.join("broken"), scratch.0.join("small"));
    // A connection beyond every limit can only be a bug of ours: no bytes from outside lead to it.
    let beyond = ConnId { index: u32::MAX, generation: 0 };
    let inputs = rewritten(&trace, &broken, beyond);
    let replayed = bandsync(&["replay"], &[&broken]);
    assert_eq!(replayed.status.code(), Some(1));
    let report = text(&replayed);
    assert!(report.contains("actual    a panic") && report.contains("slot 4294967295"), "{report}");

    assert!(inputs > 50);
    assert_eq!(shrink(&["--check", "panic"], &broken, &out), 1);
    let replayed = bandsync(&["replay"], &[&out]);
    assert!(replayed.status.success(), "the recorded panic is expected: {}", text(&replayed));
    assert!(text(&replayed).contains("ends with a panic"), "{}", text(&replayed));
}

/// Copies a trace and inserts the opening of this connection in its middle. Returns the number of
/// inputs.
fn rewritten(from: &Path, to: &Path, conn: ConnId) -> usize {
    let mut reader = SegmentReader::new(fs::File::open(from).unwrap()).unwrap();
    let (mut bytes, mut entries, mut packer) = (Vec::new(), Vec::new(), Packer::default());
    packer.header(&mut bytes, reader.header());
    let (mut count, mut before) = (0, Micros::ZERO);
    while let Some(block) = reader.next_block().unwrap() {
        for entry in block.entries() {
            let entry = entry.unwrap();
            if count == 40 {
                let input = Recorded::Opened { conn, peer: [127, 0, 0, 1].into() };
                let entry = bandsync_trace::format::Entry { input, ..entry.clone() };
                write_entry(&mut entries, before, &entry);
                before = entry.at;
            }
            write_entry(&mut entries, before, &entry);
            (count, before) = (count + 1, entry.at);
        }
    }
    packer.entries(
        &mut bytes,
        &EntryBlock { first: 0, at: Micros::ZERO, digest: 0, entries: &entries },
    );
    packer.end(&mut bytes, &End::Finished);
    fs::write(to, bytes).unwrap();
    count
}

#[test]
fn shrink_compares_with_another_program() {
    let (scratch, trace) = recorded("against");
    let out = scratch.0.join("small");
    // A program that disagrees as soon as a leader plays.
    let program = scratch.0.join("other");
    let script = format!(
        "#!/bin/sh\n! '{}' trace show --inputs \"$2\" | grep -q ' play '\n",
        env!("CARGO_BIN_EXE_bandsync")
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let enough =
        shrink(&["--check", "digest", "--against", program.to_str().unwrap()], &trace, &out);
    assert!(enough < 10, "{enough}");
    assert!(printed(&["trace", "show"], &[&out]).contains(" play "));

    let same = bandsync(&["trace", "shrink", "--check", "digest", "--out"], &[&out, &trace]);
    assert_eq!(same.status.code(), Some(1), "this program agrees with itself: {}", text(&same));
}

#[test]
fn replays_stop_repeat_and_run_in_real_time() {
    let (_scratch, trace) = recorded("options");
    let all = lines(&["--inputs", "--turns"], &trace);
    let middle = all[all.len() / 2]["micros"].as_u64().unwrap();
    let until = format!("{:.6}", middle as f64 / 1e6);
    let inputs = |report: &str| -> Vec<u64> {
        let number = |line: &str| line.split(": ").nth(1)?.split_whitespace().next()?.parse().ok();
        report.lines().filter_map(number).collect()
    };
    let counted: BTreeSet<u64> = all
        .iter()
        .filter(|line| line["micros"].as_u64() <= Some(middle))
        .map(|line| line["input"].as_u64().unwrap())
        .collect();
    let stopped = inputs(&printed(&["replay", "--until", &until], &[&trace]));
    assert_eq!(stopped, [counted.len() as u64]);
    let repeated = inputs(&printed(&["replay", "--until", &until, "--repeat", "3"], &[&trace]));
    assert_eq!(repeated, [stopped[0], stopped[0], stopped[0], 3 * stopped[0]]);

    let fast = printed(&["replay"], &[&trace]);
    // In real time, the replay takes at least as many seconds as the run. Nothing is drawn without
    // a terminal.
    let real = printed(&["replay", "--realtime"], &[&trace]);
    let times = |report: &str| -> f64 {
        let (_, rest) = report.split_once(" s: ").unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    assert!(times(&real) <= 1.0, "{real}");
    assert!(times(&fast) > times(&real), "{fast}");
}

#[test]
fn a_long_replay_shows_its_progress_on_a_terminal() {
    let (_scratch, trace) = recorded("bar");
    let (mut master, slave) = terminal();
    let mut child = Command::new(env!("CARGO_BIN_EXE_bandsync"))
        .args(["replay", "--realtime", "--repeat", "100"])
        .arg(&trace)
        // Without a kind of terminal no bar is drawn.
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(slave)
        .spawn()
        .unwrap();
    let (mut drawn, mut buffer) = (String::new(), [0; 256]);
    while !drawn.contains('%') {
        let count = master.read(&mut buffer).expect("the bar is drawn before the replay ends");
        drawn.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(drawn.contains("left"), "{drawn:?}");
}

/// A terminal: our end and the program's.
fn terminal() -> (fs::File, OwnedFd) {
    let (mut master, mut slave) = (0, 0);
    let size = libc::winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let (name, settings) = (std::ptr::null_mut(), std::ptr::null());
    // SAFETY: both numbers are ours, neither a name nor settings are requested, and the size
    // outlives the call.
    let opened = unsafe { libc::openpty(&mut master, &mut slave, name, settings, &raw const size) };
    assert_eq!(opened, 0);
    // SAFETY: the call has just opened both, and nothing else owns them.
    let (master, slave) = unsafe { (fs::File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
    assert!(slave.as_raw_fd() > 2);
    (master, slave)
}
