//! The server's clock against the machine's monotonic clock, which all processes share.
//!
//! Both clocks tick alike, so their difference is constant. Each answered probe confines it to an
//! interval, and the intersection of all intervals is the truth that clients are compared with.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bandsync_perf::timer_fd::now;
use bandsync_testkit::{TestClient, frames};
use serde::Deserialize;

/// Time between two probes: the server accepts 20 a second from a client.
const BETWEEN_PROBES: Duration = Duration::from_millis(60);

/// The session of all clients.
pub const SESSION: &str = "clock";

/// An acknowledgement of `clock_sync`. The server's times are in milliseconds.
#[derive(Deserialize)]
struct Answer {
    t1: f64,
    t2: f64,
}

/// The difference of the server's clock and the machine's, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    lower: f64,
    upper: f64,
}

impl Truth {
    /// Confines the difference to what a probe allows. All times are in milliseconds.
    fn confine(&mut self, sent: f64, t1: f64, t2: f64, received: f64) {
        self.upper = self.upper.min(t1 - sent);
        self.lower = self.lower.max(t2 - received);
    }

    /// Returns the server's time less the machine's.
    pub fn offset(&self) -> f64 {
        self.lower.midpoint(self.upper)
    }

    /// Returns the maximum error of the offset.
    pub fn bound(&self) -> f64 {
        (self.upper - self.lower) / 2.0
    }
}

/// A leader without a network that starts the music and probes the server until it is stopped.
pub struct Prober {
    is_stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Truth>>>,
}

impl Prober {
    /// Joins the session of all clients and plays.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(port: u16) -> io::Result<Self> {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&is_stopped);
        let thread =
            thread::Builder::new().name("truth".into()).spawn(move || probe(port, &stop))?;
        Ok(Self { is_stopped, thread: Some(thread) })
    }

    /// Returns the truth from all probes.
    ///
    /// # Errors
    /// If the server did not answer.
    pub fn stop(mut self) -> io::Result<Truth> {
        self.is_stopped.store(true, Ordering::Release);
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(truth)) => truth,
            _ => Err(io::Error::other("the server did not answer the prober")),
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Release);
    }
}

fn probe(port: u16, is_stopped: &AtomicBool) -> io::Result<Truth> {
    let mut client = TestClient::connect(port);
    let session = format!(r#""sessionId":"{SESSION}""#);
    client.ask(
        "join_session",
        &format!(r#"{{{session},"role":"leader","displayName":"Truth","tickHz":0}}"#),
    );
    client.ask("play", &format!("{{{session}}}"));
    let mut question = Vec::new();
    frames::masked(&mut question, r#"427["clock_sync",{"t0":0}]"#);
    let mut truth = Truth { lower: f64::NEG_INFINITY, upper: f64::INFINITY };
    while !is_stopped.load(Ordering::Acquire) {
        let sent = millis();
        client.send(&question);
        let answer = client.hear("437");
        let received = millis();
        let json = answer.strip_prefix("437").unwrap_or_default();
        let [answer]: [Answer; 1] = serde_json::from_str(json)?;
        truth.confine(sent, answer.t1, answer.t2, received);
        thread::sleep(BETWEEN_PROBES);
    }
    Ok(truth)
}

fn millis() -> f64 {
    now() as f64 / 1e6
}

#[cfg(test)]
impl Truth {
    /// Creates a truth without uncertainty.
    pub fn exact(offset: f64) -> Self {
        Self { lower: offset, upper: offset }
    }
}

#[test]
fn each_probe_narrows_the_truth() {
    let mut truth = Truth { lower: f64::NEG_INFINITY, upper: f64::INFINITY };
    // The server's clock is 100 ms behind.
    truth.confine(1_000.0, 903.0, 904.0, 1_005.0);
    assert_eq!((truth.lower, truth.upper), (-101.0, -97.0));
    truth.confine(1_100.0, 1_001.0, 1_001.0, 1_106.0);
    assert_eq!((truth.offset(), truth.bound()), (-100.0, 1.0));
}
