//! The seam to the shards: starts them, reads their counters, and sends them home.

use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bandsync_driver::{Board, Clock, End, Fleet, Host, Plan};
use bandsync_engine::engine::Engine;
use bandsync_engine::io::Settings;
use bandsync_engine::io::tap::Tap;
use bandsync_engine::words::ids::ShardId;
use bandsync_storage::{Running, Storage};
use bandsync_trace::Recorder;
use log::debug;

use crate::config::Config;
use crate::http::{Progress, Site};
use crate::monitor::{self, Monitor, Totals};
use crate::server::adapters::{ExitHook, FleetTotals, HistoryAdapter, MAILBOX_ROOM, StorageSink};
use crate::server::record;

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
        let totals: Arc<dyn Totals> = Arc::new(FleetTotals {
            board: Arc::clone(&board),
            clock,
            storage: handle.clone(),
            recording: recorder.as_ref().map(Recorder::backlog),
        });
        let series = Box::new(HistoryAdapter(handle.clone()));
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
            let hook: Box<dyn Tap> = Box::new(ExitHook { ended: ended.clone(), recorder: tap });
            (Engine::new(settings(shard)), hook)
        };
        let fleet = Fleet::start(&plan, clock, &board, &site, crew)?;
        let post = fleet.post();
        let reporter = reporter.start(move |asker, answer| post.answer(asker, answer))?;
        let storage = storage.start(StorageSink { post: fleet.post(), shards: config.shards })?;
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
    use crate::config::raw::RawConfig;

    #[test]
    fn an_error_says_what_to_do() {
        let mut config = Config::check(&RawConfig {
            cores: crate::config::raw::Cores { count: 1, quota: None },
            ..RawConfig::default()
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
