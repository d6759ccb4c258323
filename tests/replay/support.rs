//! A recording server, members with WebSockets, and the actions of a small band.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use bandsync_testkit::TestClient;

/// A directory that is removed after the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn traces(&self) -> Vec<PathBuf> {
        let mut traces: Vec<PathBuf> =
            fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        traces.retain(|path| path.extension().is_some_and(|extension| extension == "trace"));
        traces.sort();
        traces
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn bandsync(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bandsync"))
        .args(arguments)
        .args(paths)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub struct Server {
    pub child: Child,
    pub port: u16,
}

impl Server {
    pub fn start(directory: &Path, options: &[&str]) -> Self {
        let options = [&["--shards", "2", "--log-level", "off"], options].concat();
        Self::launch(&mut Command::new(env!("CARGO_BIN_EXE_bandsync")), directory, &options)
    }

    /// Starts the server with a command that takes its options.
    pub fn launch(command: &mut Command, directory: &Path, options: &[&str]) -> Self {
        let mut child = command
            .args(["serve", "--port", "0", "--host", "localhost"])
            .args(options)
            .arg("--record")
            .arg(directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("http://127.0.0.1:")?;
            rest.split('/').next()?.trim().parse().ok()
        });
        std::thread::spawn(move || lines.count());
        Self { child, port: port.unwrap() }
    }

    /// Stops the server in order.
    pub fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).unwrap();
        // SAFETY: the call takes two numbers, and the child has not been waited for, so its id is
        // still its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A member whose request carries a secret.
pub fn member(port: u16) -> TestClient {
    TestClient::connect_with(port, "Authorization: bearer of the token\r\n")
}

/// Plays as a small band: two sessions, one of them with a passcode and a PIN, on two shards.
pub fn play(port: u16) -> Vec<TestClient> {
    let mut members = Vec::new();
    for session in ["demo", "stage", "a", "b", "c"] {
        let mut leader = member(port);
        let joined = leader
            .ask("join_session", &format!(r#"{{"sessionId":"{session}","displayName":"Ada"}}"#));
        assert!(joined.contains(r#""ok":true"#), "{joined}");
        let settings = format!(
            r#"{{"sessionId":"{session}","leaderRule":"pin","passcode":"open sesame","leaderPin":"pin 4711 pin"}}"#
        );
        let set = leader.ask("update_settings", &settings);
        assert!(set.contains(r#""ok":true"#), "{set}");
        leader.ask("play", &format!(r#"{{"sessionId":"{session}"}}"#));

        let mut follower = member(port);
        let rejected = follower.ask(
            "join_session",
            &format!(r#"{{"sessionId":"{session}","passcode":"wrong sesame"}}"#),
        );
        assert!(rejected.contains("bad_passcode"), "{rejected}");
        let mut follower = member(port);
        let joined = follower.ask(
            "join_session",
            &format!(
                r#"{{"sessionId":"{session}","passcode":"open sesame","leaderPin":"pin 4711 pin","displayName":"Bo"}}"#
            ),
        );
        assert!(joined.contains(r#""ok":true"#), "{joined}");
        for _ in 0..10 {
            follower.hear(r#"42["scroll_tick""#);
        }
        members.extend([leader, follower]);
    }
    members
}

/// The whole trace of the first shard.
pub fn first_shard(scratch: &Scratch) -> PathBuf {
    let mut traces = scratch.traces();
    traces.retain(|trace| trace.to_string_lossy().contains("-shard0-"));
    traces.remove(0)
}
