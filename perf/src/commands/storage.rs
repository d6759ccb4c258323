//! Measures the speed of the storage: many sessions change far more often than anything could write
//! them, and the newest state of each must still be stored soon.
//!
//! Sessions are offered as a shard offers them: at most 128 every 5 ms, the longest waiting first,
//! and each with one pending record. The server's own storage is measured, including queue and
//! thread.
//!
//!     cargo run --release -p bandsync-perf -- storage --kind file
//!     cargo run --release -p bandsync-perf -- storage --kind redis      # starts a redis-server

use std::collections::VecDeque;
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bandsync_engine::io::{StorageEvent, StoreResult};
use bandsync_engine::record::Record;
use bandsync_engine::session::{Rules, Session};
use bandsync_engine::words::ids::{SessionId, ShardId};
use bandsync_engine::words::time::{Micros, Moment, UnixMillis};
use bandsync_storage::{Condition, Endpoint, Plan, Shards, Storage, Target, Topology};
use clap::Args;
use crossbeam_channel::{Sender, TrySendError, bounded};
use hdrhistogram::Histogram;

/// The engine's interval.
const OFFER_INTERVAL: Duration = Duration::from_millis(5);
const OFFERS_MAX: usize = 128;

/// Measures the storage.
#[derive(Args)]
pub struct Options {
    /// `file` or `redis`
    #[arg(long, default_value = "file")]
    kind: String,
    /// Directory of the file; by default a new one below the system's directory for temporary files
    #[arg(long)]
    data: Option<PathBuf>,
    /// A Redis that is already running. Its keys `session:bench-…` are overwritten
    #[arg(long)]
    redis_url: Option<String>,
    /// Sessions
    #[arg(long, default_value_t = 10_000)]
    sessions: u32,
    /// Changes of each session per second
    #[arg(long, default_value_t = 50)]
    changes: u32,
    /// Duration of the measurement, in seconds, after a quarter of that to warm up
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// The events, in the order of their arrival.
struct Mailbox(Sender<StorageEvent>);

impl Shards for Mailbox {
    fn count(&self) -> u16 {
        1
    }

    fn send(&self, _shard: ShardId, event: StorageEvent) -> Result<(), StorageEvent> {
        match self.0.try_send(event) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(event)) => Err(event),
        }
    }
}

/// A session as its shard sees it.
struct Changing {
    record: Record,
    /// Time of the first change after the last offer.
    changed: Option<Instant>,
    /// Time of the first change in the pending offer.
    offered: Option<Instant>,
    listed: bool,
}

/// A redis-server that ends with this process.
struct OwnRedis(Child);

impl Drop for OwnRedis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the command.
pub fn run(options: Options) -> io::Result<()> {
    measure(&options).map_err(io::Error::other)
}

fn measure(options: &Options) -> Result<(), String> {
    let (target, _redis) = target(options)?;
    let plan = Plan { target, ttl: Duration::from_secs(3_600), wait: Duration::from_millis(500) };
    let storage = Storage::open(&plan).map_err(|error| error.to_string())?;
    let handle = storage.handle().clone();
    let (sender, events) = bounded(1_024);
    let running = storage.start(Mailbox(sender)).map_err(|error| error.to_string())?;

    let mut sessions: Vec<Changing> = (0..options.sessions).map(session).collect();
    let mut waiting: VecDeque<usize> = VecDeque::new();
    // Up to an hour, in microseconds.
    let mut staleness =
        Histogram::<u64>::new_with_max(3_600_000_000, 3).map_err(|error| error.to_string())?;
    let (mut stored, mut changes, mut rejected) = (0_u64, 0_u64, 0_u64);
    let (mut queue_max, mut pending_max, mut waiting_max) = (0, 0, 0);
    let started = Instant::now();
    let begins = started + Duration::from_secs(options.seconds) / 4;
    let ends = begins + Duration::from_secs(options.seconds);
    let mut turn = 0_u32;
    let mut done = 0.0;
    while Instant::now() < ends {
        turn += 1;
        let due = started + OFFER_INTERVAL * turn;
        while let Ok(event) = events.recv_deadline(due) {
            let StorageEvent::Stored { session, outcome, .. } = event else { continue };
            let index = session.as_str().rsplit('-').next().and_then(|n| n.parse::<usize>().ok());
            let Some((index, changing)) = index.and_then(|n| Some((n, sessions.get_mut(n)?)))
            else {
                continue;
            };
            let offered = changing.offered.take();
            let now = Instant::now();
            match (outcome, offered) {
                (StoreResult::Stored, Some(since)) if now >= begins => {
                    stored += 1;
                    staleness.saturating_record((now - since).as_micros() as u64);
                }
                (StoreResult::Stored, _) => {}
                _ => rejected += 1,
            }
            if changing.changed.is_some() && !std::mem::replace(&mut changing.listed, true) {
                waiting.push_back(index);
            }
        }
        let now = Instant::now();
        // The changes of this turn, spread over the sessions.
        let wanted = now.duration_since(started).as_secs_f64()
            * f64::from(options.sessions * options.changes);
        let due_now = (wanted - done) as u64;
        for n in 0..due_now {
            let index = ((done as u64 + n) % sessions.len() as u64) as usize;
            let changing = &mut sessions[index];
            changing.record.timeline.version += 1;
            changing.changed.get_or_insert(now);
            if changing.offered.is_none() && !std::mem::replace(&mut changing.listed, true) {
                waiting.push_back(index);
            }
        }
        done += due_now as f64;
        changes += if now >= begins { due_now } else { 0 };
        waiting_max = waiting_max.max(waiting.len());
        for _ in 0..OFFERS_MAX {
            let Some(index) = waiting.pop_front() else { break };
            let changing = &mut sessions[index];
            changing.listed = false;
            let mut bytes = Vec::new();
            changing.record.print(&mut bytes);
            let timeline = &changing.record.timeline;
            if handle.store(
                ShardId(0),
                &changing.record.session,
                timeline.epoch,
                timeline.version,
                &bytes,
            ) {
                changing.offered = changing.changed.take();
            } else {
                changing.listed = true;
                waiting.push_front(index);
                rejected += 1;
                break;
            }
        }
        queue_max = queue_max.max(handle.queue());
        pending_max = pending_max.max(handle.status.pending.load(Ordering::Relaxed));
    }
    if let Condition::Degraded { reason, .. } = handle.status.condition() {
        return Err(reason);
    }
    drop(handle);
    running.end();
    let seconds = options.seconds as f64;
    let millis = |quantile: f64| staleness.value_at_quantile(quantile) as f64 / 1_000.0;
    println!("storage                    {}", plan.target.name());
    println!("sessions                   {}", options.sessions);
    println!("changes a second           {:.0}", changes as f64 / seconds);
    println!("records stored a second    {:.0}", stored as f64 / seconds);
    println!("changes for each record    {:.1}", changes as f64 / stored.max(1) as f64);
    println!("requests rejected or replaced {rejected}");
    println!("most requests in the queue   {queue_max}");
    println!("most records at the thread {pending_max}");
    println!("most sessions waiting      {waiting_max}");
    println!("from the first change in a record until it is stored, ms");
    println!("  p50 {:.1}   p99 {:.1}   most {:.1}", millis(0.5), millis(0.99), millis(1.0));
    Ok(())
}

fn session(n: u32) -> Changing {
    let rules = Arc::new(Rules {
        members_max: 8,
        leader_grace: Micros::from_secs(10),
        claim_window: Micros::ZERO,
        members_listed_max: 8,
        secret_chars_min: 0,
    });
    let now = Moment { at: Micros::from_secs(1), unix: UnixMillis(1_800_000_000_000) };
    let name = format!("bench-{n}");
    let id = SessionId::parse(&name).unwrap_or_else(|| panic!("{name} is a name"));
    // Newer than the epoch of any earlier run.
    let epoch = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |t| t.as_millis());
    let record = Session::new(id, &rules, epoch as u64, now).record();
    Changing { record, changed: None, offered: None, listed: false }
}

fn target(options: &Options) -> Result<(Target, Option<OwnRedis>), String> {
    match (options.kind.as_str(), &options.redis_url) {
        ("file", _) => {
            let own =
                || std::env::temp_dir().join(format!("bandsync-bench-{}", std::process::id()));
            Ok((Target::File(Some(options.data.clone().unwrap_or_else(own))), None))
        }
        ("redis", Some(url)) => Ok((redis(url)?, None)),
        ("redis", None) => {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let port = port.map_err(|error| error.to_string())?.port();
            let options = [
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
                "--port",
                &port.to_string(),
            ];
            let child = Command::new("redis-server").args(options).stdout(Stdio::null()).spawn();
            let own = OwnRedis(child.map_err(|error| format!("redis-server: {error}"))?);
            for _ in 0..100 {
                if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Ok((redis(&format!("redis://127.0.0.1:{port}"))?, Some(own)));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            Err("redis-server does not listen".into())
        }
        (other, _) => Err(format!("{other} is neither file nor redis")),
    }
}

fn redis(url: &str) -> Result<Target, String> {
    let topology = Topology::parse(url).map_err(|error| error.to_string())?;
    Ok(Target::Redis(Box::new(Endpoint {
        topology,
        replicas: 0,
        timeout: Duration::from_millis(500),
    })))
}
