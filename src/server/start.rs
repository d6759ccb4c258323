//! The seam to the shards: starts them, reads their counters, and sends them home.

use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use bandsync_driver::{Board, Clock, End, Fleet, Gauges, Host, Plan, Post};
use bandsync_engine::engine::Engine;
use bandsync_engine::io::report::Counters;
use bandsync_engine::io::tap::Tap;
use bandsync_engine::io::{Input, Memory, Outputs, Settings, StorageNews};
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;
use bandsync_storage::{self as storage, Point, Running, Storage, StorageHandle};
use bandsync_trace::{Backlog, Recorder, ShardRecorder};
use log::debug;

use crate::config::Config;
use crate::http::{Progress, Site};
use crate::monitor::history::{FIELDS, HistoryStore, Row};
use crate::monitor::{self, Monitor, Queue, ShardTotals, Totals};
use crate::ops::logging;
use crate::server::record;

/// Connections that may wait on their way to another shard.
const MAILBOX_ROOM: usize = 1_024;

/// The running shards.
pub struct Server {
    fleet: Fleet,
    recorder: Option<Recorder>,
    storage: Running,
    /// How far it is, for `/readyz`.
    progress: Arc<Progress>,
    /// The thread that answers what takes long.
    reporter: JoinHandle<()>,
}

impl Server {
    /// Starts everything. `ended` is called when a shard's thread ends, asked or not, on that
    /// thread.
    ///
    /// # Errors
    /// If the address cannot be had, or the system has too little of something, or what is stored
    /// is not for this version; [`advice`] says what to do.
    pub fn start(config: &Config, ended: impl Fn() + Clone + Send + 'static) -> io::Result<Self> {
        let storage = Storage::open(&config.storage).map_err(io::Error::other)?;
        let handle = storage.handle().clone();
        let clock = Clock::start();
        let board = Board::new(config.shards);
        let started_unix_ms = clock.started_unix_ms();
        let settings = |shard| Settings { shard, started_unix_ms, ..config.engine.clone() };
        let all: Vec<Settings> = (0..config.shards).map(|shard| settings(ShardId(shard))).collect();
        let recorder = record::start(config, &all)?;
        let totals: Arc<dyn Totals> = Arc::new(Shards {
            board: Arc::clone(&board),
            clock,
            storage: handle.clone(),
            recording: recorder.as_ref().map(Recorder::backlog),
        });
        let series = Box::new(Series(handle.clone()));
        let monitoring = monitor::Plan { store: Some(series), ..config.monitoring() };
        let monitor = Monitor::start(Arc::clone(&totals), monitoring)?;
        let token = config.admin_token.clone();
        let progress = Arc::new(Progress::default());
        let (site, reporter) = Site::new(
            totals,
            monitor,
            handle,
            config.target_latency,
            Arc::clone(&progress),
            token,
            config.http_requests,
        );
        let site: Arc<dyn Host> = Arc::new(site.describing(&config.engine));
        let plan = Plan {
            pin: config.pin,
            ring: config.ring,
            mailbox_room: MAILBOX_ROOM,
            ..Plan::new(config.host, config.port)
        };
        let crew = |shard: ShardId| {
            let tap = recorder.as_ref().map(|recorder| recorder.tap(shard.0));
            let farewell: Box<dyn Tap> = Box::new(Farewell { ended: ended.clone(), recorder: tap });
            (Engine::new(settings(shard)), farewell)
        };
        let fleet = Fleet::start(&plan, clock, &board, &site, crew)?;
        let post = fleet.post();
        let reporter = reporter.start(move |asker, answer| post.answer(asker, answer))?;
        let storage = storage.start(Mail { post: fleet.post(), shards: config.shards })?;
        progress.started();
        Ok(Self { fleet, recorder, storage, progress, reporter })
    }

    /// From here on balancers are told to send nobody. To be called before [`Server::drain`].
    pub fn announce_end(&self) {
        self.progress.draining();
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.fleet.address().port()
    }

    /// Says goodbye to everybody and waits until all shards have ended, at most this long. False if
    /// one of them had panicked.
    pub fn drain(self, within: Duration) -> bool {
        self.announce_end();
        self.fleet.drain(within);
        let ends = self.fleet.join();
        // It ends with the last shard that could ask it; a panic of its was told in the log.
        let _ = self.reporter.join();
        debug!("the shards ended: {ends:?}");
        if let Some(recorder) = self.recorder {
            recorder.finish();
        }
        // Last, for the shards have offered their newest states to it.
        self.storage.end();
        !ends.contains(&End::Panicked)
    }
}

/// The storage's way to the shards.
struct Mail {
    post: Post,
    shards: u16,
}

impl storage::Shards for Mail {
    fn count(&self) -> u16 {
        self.shards
    }

    fn tell(&self, shard: ShardId, news: StorageNews) -> Result<(), StorageNews> {
        self.post.tell(shard, news)
    }
}

/// The monitor's rows on their way to the storage, as a series for each column. They come back as
/// series, not as rows.
struct Series(StorageHandle);

impl HistoryStore for Series {
    fn load(&mut self, _max: usize) -> Vec<Row> {
        Vec::new()
    }

    fn append(&mut self, row: &Row) {
        let points: Vec<Point> = FIELDS[1..]
            .iter()
            .zip(&row[1..])
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect();
        self.0.measure(row[0] as i64, &points);
    }
}

/// Lives as long as its shard's loop, and says so when that is over: when it panics as well.
struct Farewell<Ended: Fn()> {
    ended: Ended,
    /// Records the shard meanwhile, if that is wanted.
    recorder: Option<ShardRecorder>,
}

impl<Ended: Fn() + Send + 'static> Tap for Farewell<Ended> {
    fn input(&mut self, at: Micros, input: &Input<'_>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.input(at, input);
        }
    }

    fn outputs(&mut self, outputs: &Outputs, from: usize) {
        if let Some(recorder) = &mut self.recorder {
            recorder.outputs(outputs, from);
        }
    }
}

impl<Ended: Fn()> Drop for Farewell<Ended> {
    fn drop(&mut self) {
        (self.ended)();
    }
}

/// What all shards count, as the monitor wants it.
struct Shards {
    board: Arc<Board<Counters>>,
    clock: Clock,
    storage: StorageHandle,
    recording: Option<Backlog>,
}

/// How long shards go on telling who plays where after somebody asked.
const ROSTERS_FOR: Micros = Micros::from_secs(10);

impl Totals for Shards {
    fn storage_down(&self) -> bool {
        !self.storage.status.is_up()
    }

    fn sessions_unstored(&self) -> u64 {
        self.storage.status.unstored.load(Ordering::Relaxed)
    }

    fn sessions_shared(&self) -> u64 {
        self.storage.status.shared.load(Ordering::Relaxed)
    }

    fn shards(&self) -> Vec<ShardTotals> {
        self.ids().map(|shard| self.totals(shard)).collect()
    }

    fn collect(&self, shard: usize, read: &mut dyn FnMut(&Gauges)) {
        self.board.collect(ShardId(shard as u16), read);
    }

    fn queues(&self) -> Vec<Queue> {
        let mailbox = self.ids().map(|shard| self.board.stats(shard).mail_max.take()).max();
        let log = logging::backlog();
        let queue =
            |name, waiting, room| Queue { name, waiting: waiting as u64, room: room as u64 };
        let mut queues = vec![
            Queue {
                name: "mailbox",
                waiting: mailbox.unwrap_or_default(),
                room: MAILBOX_ROOM as u64,
            },
            queue("log", log.waiting, log.room),
        ];
        if self.storage.room() > 0 {
            queues.push(queue("storage", self.storage.queue(), self.storage.room()));
        }
        queues.extend(self.recording.as_ref().map(|one| queue("recorder", one.len(), one.room())));
        queues
    }

    fn log_lines_lost(&self) -> u64 {
        logging::backlog().lost
    }

    fn rosters(&self) -> Vec<Vec<u8>> {
        self.board.want_rosters(self.clock.now() + ROSTERS_FOR);
        self.ids()
            .map(|shard| self.board.roster(shard))
            .filter(|roster| !roster.is_empty())
            .collect()
    }

    fn set_memory(&self, memory: Memory) {
        self.board.set_memory(memory);
    }
}

impl Shards {
    fn ids(&self) -> impl Iterator<Item = ShardId> {
        (0..self.board.shards()).map(ShardId)
    }

    fn totals(&self, shard: ShardId) -> ShardTotals {
        let (stats, counters) = (self.board.stats(shard), self.board.counters(shard));
        ShardTotals {
            connections: u64::from(counters.links),
            http: u64::from(counters.connections.saturating_sub(counters.links)),
            members: u64::from(counters.members),
            sessions: u64::from(counters.sessions),
            sessions_active: u64::from(counters.sessions.saturating_sub(counters.sessions_empty)),
            messages_in: counters.messages_in,
            messages_out: counters.messages_out,
            bytes_in: stats.bytes_in.get(),
            bytes_out: stats.bytes_out.get(),
            round_trips: counters.round_trips,
            round_trip_micros: counters.round_trips_total.as_micros(),
            turns: stats.turns.get(),
            turn_micros: stats.turn_time.get(),
            refusals: counters.refusals_by_code,
            expulsions: counters.expulsions,
            accepted: stats.accepted.get(),
            volatile_dropped: stats.volatile_dropped.get(),
            unsent_bytes: stats.unsent.get(),
            recovery_bytes: counters.recovery_bytes,
            sessions_shed: counters.sessions_shed,
            recovery_bytes_shed: counters.recovery_bytes_shed,
        }
    }
}

/// What a person can do about an error of [`Server::start`].
pub fn advice(error: &io::Error, config: &Config) -> String {
    let port = config.port;
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} is in use by another program. End that one (`ss -ltnp 'sport = :{port}'` names it), or \
             choose another port with --port or PORT; 0 takes any free one."
        ),
        io::ErrorKind::PermissionDenied => format!(
            "port {port} may only be used with privileges. Choose one from 1024 up with --port or PORT, or \
             permit this program: sudo setcap cap_net_bind_service=+ep {}",
            std::env::current_exe().unwrap_or_default().display()
        ),
        io::ErrorKind::AddrNotAvailable if config.host != Ipv6Addr::UNSPECIFIED => format!(
            "{} is no address of this machine. Give one that it has with --host or HOST, or all of them: \
             --host all",
            config.host
        ),
        io::ErrorKind::Other => error.to_string(),
        _ => format!("cannot listen on port {port}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::raw::Given;

    #[test]
    fn an_error_says_what_to_do() {
        let mut config = Config::check(&Given {
            cores: crate::config::raw::Cores { count: 1, quota: None },
            ..Given::default()
        })
        .unwrap();
        config.host = [192, 0, 2, 1].into();
        for (kind, part) in [
            (io::ErrorKind::AddrInUse, "port 3001 is in use"),
            (io::ErrorKind::PermissionDenied, "from 1024 up"),
            (io::ErrorKind::AddrNotAvailable, "192.0.2.1 is no address of this machine"),
            (io::ErrorKind::OutOfMemory, "cannot listen on port 3001"),
        ] {
            let advice = advice(&kind.into(), &config);
            assert!(advice.contains(part), "{advice}");
        }
    }
}
