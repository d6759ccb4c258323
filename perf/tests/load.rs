//! Tests the load generator against the floor: its report matches the run.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use bandsync_perf::report::Report;

#[test]
fn a_generator_waits_for_its_cue_and_reports_everything_received() -> io::Result<()> {
    let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
    let path = std::env::temp_dir().join(format!("bandsync-load-{}.json", std::process::id()));
    let mut load = Command::new(env!("CARGO_BIN_EXE_perf"))
        .arg("load")
        .args(["--spawn", &format!("{} floor --listen 127.0.0.1:PORT", env!("CARGO_BIN_EXE_perf"))])
        .args(["--address", &format!("127.0.0.1:{port}"), "--sessions", "2", "--members", "3"])
        .args([
            "--seconds",
            "1",
            "--warm-up",
            "1",
            "--probes",
            "1",
            "--cue",
            "--own-core",
            "0",
            "--json",
        ])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut out = BufReader::new(load.stdout.take().expect("the stream is piped"));
    let mut line = String::new();
    out.read_line(&mut line)?;
    assert_eq!(line, "joined\n");
    assert!(load.try_wait()?.is_none(), "it waits for the cue");
    load.stdin.take().expect("the stream is piped").write_all(b"\n")?;
    let mut text = String::new();
    out.read_to_string(&mut text)?;
    assert!(load.wait()?.success(), "{text}");

    let report = Report::load(&path)?;
    std::fs::remove_file(&path)?;
    assert_eq!((report.sessions, report.members, report.joined, report.broken), (2, 3, 6, 0));
    let count = |times: &str| {
        report.times.iter().find(|(name, _)| name == times).map_or(0, |(_, summary)| summary.count)
    };
    assert!(report.delivered > 0);
    // Every tick is late by something, and a tick that never came counts too.
    assert!(count("lateness") >= report.delivered, "{report:?}");
    assert!(count("probe") > 0, "{report:?}");
    assert!(report.cpu_micros.is_some_and(|micros| micros > 0.0), "{report:?}");
    assert!(report.html().contains("<svg"), "{report:?}");
    Ok(())
}
