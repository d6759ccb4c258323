//! The monitor: looks at all counters once a second and keeps what changed.
//!
//! What is true at this moment (connections, sessions, members) is read when somebody asks; what needs two
//! looks (rates, latency, CPU) is the monitor's newest sample.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::process::{self, Usage};

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(1);

/// What one shard counts: some things as they are now, the others since its start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ShardTotals {
    /// WebSockets now.
    pub connections: u64,
    /// Connections now that are not, or not yet, WebSockets.
    pub http: u64,
    /// Members now that have a connection.
    pub members: u64,
    /// Sessions in memory now.
    pub sessions: u64,
    /// Sessions now that have a member with a connection.
    pub sessions_active: u64,
    /// Messages from clients.
    pub messages_in: u64,
    /// Messages to clients; one that goes to eight members counts eight times.
    pub messages_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Round trips of the application heartbeat.
    pub round_trips: u64,
    /// Their sum, in microseconds.
    pub round_trip_micros: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Time spent in turns, in microseconds.
    pub turn_micros: u64,
}

/// Where the totals come from, one value per shard.
pub trait Totals: Send + Sync + 'static {
    fn shards(&self) -> Vec<ShardTotals>;
}

/// What happened between the two newest looks, if not said otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Messages from and to clients, each second.
    pub messages_in_per_second: f64,
    pub messages_out_per_second: f64,
    /// Bytes read and written, each second.
    pub bytes_in_per_second: f64,
    pub bytes_out_per_second: f64,
    /// The mean round trip of the application heartbeat to members and back, in milliseconds. Of the last
    /// sample that saw one, since members answer only every few seconds; zero before.
    pub latency_ms: f64,
    /// The mean time of a shard's turn, in milliseconds: from learning of events to having sent all that follows
    /// from them. Zero if there was no turn.
    pub turn_ms: f64,
    /// Of one core; 200 = two cores were busy all the time.
    pub cpu_percent: f64,
    /// Memory in RAM.
    pub resident_bytes: u64,
    /// The most connections that any sample saw.
    pub connections_peak: u64,
}

/// The running monitor. It ends when it is dropped.
pub struct Monitor {
    newest: Arc<Mutex<Sample>>,
    started: Instant,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Monitor {
    /// Looks once, then every second on a thread of its own.
    pub fn start(totals: Arc<dyn Totals>) -> std::io::Result<Self> {
        let started = Instant::now();
        let mut earlier = Look::now(totals.as_ref());
        let newest = Arc::new(Mutex::new(Sample {
            resident_bytes: earlier.usage.resident_bytes,
            ..Sample::default()
        }));
        let (stop, stopped) = channel();
        let board = Arc::clone(&newest);
        let look_on = move || {
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let later = Look::now(totals.as_ref());
                let mut newest = board.lock().unwrap_or_else(PoisonError::into_inner);
                *newest = later.since(&earlier, &newest);
                earlier = later;
            }
        };
        let thread = std::thread::Builder::new().name("monitor".into()).spawn(look_on)?;
        Ok(Self { newest, started, thread: Some((stop, thread)) })
    }

    /// The newest sample.
    pub fn newest(&self) -> Sample {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long the server has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            // A panic of the monitor was told in the log when it happened.
            let _ = thread.join();
        }
    }
}

/// All counters at one instant.
struct Look {
    at: Instant,
    usage: Usage,
    all: ShardTotals,
}

impl Look {
    fn now(totals: &dyn Totals) -> Self {
        Self { at: Instant::now(), usage: process::usage(), all: sum(&totals.shards()) }
    }

    fn since(&self, earlier: &Self, last: &Sample) -> Sample {
        let seconds = (self.at - earlier.at).as_secs_f64().max(f64::MIN_POSITIVE);
        let (now, then) = (&self.all, &earlier.all);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let mean_ms = |micros: [u64; 2], counts: [u64; 2]| match counts[0].saturating_sub(counts[1]) {
            0 => None,
            count => Some(micros[0].saturating_sub(micros[1]) as f64 / 1_000.0 / count as f64),
        };
        let latency_ms =
            mean_ms([now.round_trip_micros, then.round_trip_micros], [now.round_trips, then.round_trips]);
        let turn_ms = mean_ms([now.turn_micros, then.turn_micros], [now.turns, then.turns]);
        Sample {
            messages_in_per_second: rate(now.messages_in, then.messages_in),
            messages_out_per_second: rate(now.messages_out, then.messages_out),
            bytes_in_per_second: rate(now.bytes_in, then.bytes_in),
            bytes_out_per_second: rate(now.bytes_out, then.bytes_out),
            latency_ms: latency_ms.unwrap_or(last.latency_ms),
            turn_ms: turn_ms.unwrap_or_default(),
            cpu_percent: 100.0 * self.usage.cpu.saturating_sub(earlier.usage.cpu).as_secs_f64() / seconds,
            resident_bytes: self.usage.resident_bytes,
            connections_peak: last.connections_peak.max(now.connections),
        }
    }
}

/// All shards together.
pub fn sum(shards: &[ShardTotals]) -> ShardTotals {
    shards.iter().fold(ShardTotals::default(), |sum, shard| ShardTotals {
        connections: sum.connections + shard.connections,
        http: sum.http + shard.http,
        members: sum.members + shard.members,
        sessions: sum.sessions + shard.sessions,
        sessions_active: sum.sessions_active + shard.sessions_active,
        messages_in: sum.messages_in + shard.messages_in,
        messages_out: sum.messages_out + shard.messages_out,
        bytes_in: sum.bytes_in + shard.bytes_in,
        bytes_out: sum.bytes_out + shard.bytes_out,
        round_trips: sum.round_trips + shard.round_trips,
        round_trip_micros: sum.round_trip_micros + shard.round_trip_micros,
        turns: sum.turns + shard.turns,
        turn_micros: sum.turn_micros + shard.turn_micros,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn look(at: Instant, cpu_ms: u64, all: ShardTotals) -> Look {
        Look { at, usage: Usage { resident_bytes: 7, cpu: Duration::from_millis(cpu_ms) }, all }
    }

    #[test]
    fn a_sample_is_what_changed_each_second() {
        let start = Instant::now();
        let then = ShardTotals {
            messages_in: 100,
            messages_out: 1_000,
            bytes_in: 50,
            bytes_out: 70,
            round_trips: 7,
            round_trip_micros: 9_000,
            turns: 10,
            turn_micros: 500,
            ..ShardTotals::default()
        };
        let now = ShardTotals {
            messages_in: 110,
            messages_out: 1_080,
            bytes_in: 56,
            bytes_out: 90,
            round_trips: 9,
            round_trip_micros: 15_000,
            turns: 14,
            turn_micros: 2_500,
            connections: 3,
            ..ShardTotals::default()
        };
        let last = Sample { connections_peak: 2, ..Sample::default() };
        let sample = look(start + Duration::from_secs(2), 1_500, now).since(&look(start, 500, then), &last);
        let expected = Sample {
            messages_in_per_second: 5.0,
            messages_out_per_second: 40.0,
            bytes_in_per_second: 3.0,
            bytes_out_per_second: 10.0,
            latency_ms: 3.0,
            turn_ms: 0.5,
            cpu_percent: 50.0,
            resident_bytes: 7,
            connections_peak: 3,
        };
        assert_eq!(sample, expected);
    }

    #[test]
    fn a_quiet_second_divides_by_nothing_and_keeps_the_last_latency() {
        let start = Instant::now();
        let last = Sample { connections_peak: 9, latency_ms: 4.0, turn_ms: 5.0, ..Sample::default() };
        let sample =
            look(start, 0, ShardTotals::default()).since(&look(start, 0, ShardTotals::default()), &last);
        let expected =
            Sample { resident_bytes: 7, connections_peak: 9, latency_ms: 4.0, ..Sample::default() };
        assert_eq!(sample, expected);
    }

    #[test]
    fn all_shards_count() {
        let shard = |n: u64| ShardTotals {
            connections: n,
            http: 2 * n,
            members: 3 * n,
            sessions: 4 * n,
            sessions_active: 5 * n,
            messages_in: 6 * n,
            messages_out: 7 * n,
            bytes_in: 8 * n,
            bytes_out: 9 * n,
            round_trips: 10 * n,
            round_trip_micros: 11 * n,
            turns: 12 * n,
            turn_micros: 13 * n,
        };
        assert_eq!(sum(&[shard(1), shard(10)]), shard(11));
    }

    #[test]
    fn dropping_ends_the_thread_at_once() {
        struct Nothing;
        impl Totals for Nothing {
            fn shards(&self) -> Vec<ShardTotals> {
                Vec::new()
            }
        }
        let totals = Arc::new(Nothing);
        let monitor = Monitor::start(Arc::clone(&totals) as Arc<dyn Totals>).unwrap();
        assert!(monitor.newest().resident_bytes > 0);
        drop(monitor);
        assert_eq!(Arc::strong_count(&totals), 1);
    }
}
