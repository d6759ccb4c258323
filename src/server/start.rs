//! Starts the shards and everything around them.

use std::error::Error;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use bandsync_cluster::{Courier, JoinError, Member};
use bandsync_driver::{Clock, End, Fleet, Host, Plan, SharedMetrics};
use bandsync_engine::engine::Engine;
use bandsync_engine::io::Settings;
use bandsync_engine::io::tap::Tap;
use bandsync_engine::words::ids::ShardId;
use bandsync_storage::{self as storage, NewerFormat, Running, Storage, Target};
use bandsync_trace::Recorder;
use log::debug;

use crate::config::Config;
use crate::http::{Document, Progress, Reports, Site};
use crate::monitor::{self, Monitor, Totals};
use crate::ops::activation::{self, ActivationError};
use crate::ops::tls::{Identity, TlsError};
use crate::server::adapters::{
    ExitHook, FleetTotals, HistoryAdapter, MAILBOX_CAPACITY, StorageSink,
};
use crate::server::node::{self, NodeHost, NodeSink};
use crate::server::record::{self, RecordError};

/// The reason why the server cannot start. Its text says what an operator can do.
#[derive(Debug)]
pub enum StartError {
    /// The server cannot be a node of the cluster, and may not run alone.
    Cluster(JoinError),
    /// The stored sessions are from a later version.
    Storage(NewerFormat),
    /// The recording cannot be started.
    Record(RecordError),
    /// TLS cannot start.
    Tls(TlsError),
    /// The socket of the supervisor cannot be used.
    Activation(ActivationError),
    /// The address cannot be used.
    Listen {
        /// The address that was given.
        host: IpAddr,
        /// The port that was given.
        port: u16,
        /// The system's error.
        error: io::Error,
    },
    /// The system lacks something, such as threads.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port, error) = match self {
            Self::Cluster(error) => return error.fmt(f),
            Self::Storage(error) => return error.fmt(f),
            Self::Record(error) => return error.fmt(f),
            Self::Tls(error) => return error.fmt(f),
            Self::Activation(error) => return error.fmt(f),
            Self::System(error) => {
                return write!(f, "the system cannot provide what the server needs: {error}");
            }
            Self::Listen { host, port, error } => (host, port, error),
        };
        match error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "port {port} is in use by another program. Stop that program (`ss -ltnp 'sport = :{port}'` \
                 names it), or choose another port with --port or PORT; 0 takes any free one."
            ),
            io::ErrorKind::PermissionDenied => write!(
                f,
                "port {port} may only be used with privileges. Choose one from 1024 up with --port \
                 or PORT, or permit this program: sudo setcap cap_net_bind_service=+ep {}",
                std::env::current_exe().unwrap_or_default().display()
            ),
            io::ErrorKind::AddrNotAvailable if *host != Ipv6Addr::UNSPECIFIED => write!(
                f,
                "{host} is not an address of this machine. Give one of its addresses with --host or HOST, \
                 or listen on all of them: --host all"
            ),
            _ => write!(f, "cannot listen on port {port}: {error}"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Cluster(error) => Some(error),
            Self::Storage(error) => Some(error),
            Self::Record(error) => Some(error),
            Self::Tls(error) => Some(error),
            Self::Activation(error) => Some(error),
            Self::Listen { error, .. } | Self::System(error) => Some(error),
        }
    }
}

/// The running server.
pub struct Server {
    fleet: Fleet,
    recorder: Option<Recorder>,
    storage: Running,
    /// The threads of the node, if the server belongs to a cluster.
    node: Option<bandsync_cluster::Running>,
    /// The phase of the server, for `/readyz`.
    progress: Arc<Progress>,
    /// The thread that prints longer answers.
    reporter: JoinHandle<()>,
}

impl Server {
    /// Starts everything, over TLS if there is an identity. `ended` is called when a shard's thread
    /// ends for any reason, on that thread.
    ///
    /// # Errors
    /// If the address cannot be used, if the system lacks something, if the stored sessions are from
    /// a later version, or if the server cannot join the cluster that it must belong to.
    pub fn start(
        config: &Config,
        identity: Option<&Arc<Identity>>,
        ended: impl Fn() + Clone + Send + 'static,
    ) -> Result<Self, StartError> {
        let listener = activation::listener(config.port).map_err(StartError::Activation)?;
        let metrics = SharedMetrics::new(config.threads.shards);
        let joined = node::join(config.cluster.as_ref(), &metrics).map_err(StartError::Cluster)?;
        let (member, clock) = match joined {
            Some((member, clock)) => (Some(member), clock),
            None => (None, Clock::start()),
        };
        let storage = match member {
            // The node claims and commits its sessions in the store that all nodes share.
            Some(_) => Storage::open(&storage::Plan { target: Target::Memory, ..config.storage }),
            None => Storage::open(&config.storage),
        };
        let storage = storage.map_err(StartError::Storage)?;
        let handle = storage.handle().clone();
        let tls = identity.map(Identity::config).transpose().map_err(StartError::Tls)?;
        if let Some(identity) = identity {
            identity.watch().map_err(StartError::System)?;
        }
        let started_unix_ms = clock.started_unix_ms();
        let settings = |shard| {
            let alone = Settings { shard, started_unix_ms, ..config.engine.clone() };
            match member.as_ref().zip(config.cluster.as_ref()) {
                Some((member, wish)) => node::settings(member, wish, alone),
                None => alone,
            }
        };
        let all: Vec<Settings> =
            (0..config.threads.shards).map(|shard| settings(ShardId(shard))).collect();
        let recorder = record::start(config, &all).map_err(StartError::Record)?;
        let courier = member.as_ref().map(Member::handle);
        let cluster = courier.as_ref().map(Courier::status);
        let totals: Arc<dyn Totals> = Arc::new(FleetTotals {
            metrics: Arc::clone(&metrics),
            clock,
            storage: handle.clone(),
            cluster: cluster.clone(),
            recording: recorder.as_ref().map(Recorder::backlog),
        });
        let series = Box::new(HistoryAdapter(handle.clone()));
        let monitoring = monitor::Plan {
            store: Some(series),
            ..config.monitoring.plan(config.threads.stall_limit)
        };
        let monitor =
            Monitor::start(Arc::clone(&totals), monitoring).map_err(StartError::System)?;
        let token = config.admin_token.clone();
        let progress = Arc::new(Progress::default());
        let target_latency = config.monitoring.target_latency;
        let protocol = Document::new(&config.engine, identity.is_some());
        let reports =
            Reports { totals, monitor, storage: handle, cluster, target_latency, protocol };
        let (site, reporter) =
            Site::new(reports, Arc::clone(&progress), token, config.http_requests);
        let is_clustered = courier.is_some();
        let host: Arc<dyn Host> = match courier {
            Some(courier) => Arc::new(NodeHost { site, courier }),
            None => Arc::new(site),
        };
        let plan = Plan {
            pin: config.threads.pin,
            ring: config.threads.ring,
            turn_budget: config.threads.turn_budget,
            mailbox_capacity: MAILBOX_CAPACITY,
            is_clustered,
            tls,
            listener: listener.map(Arc::new),
            ..Plan::new(config.host, config.port)
        };
        let crew = |shard: ShardId| {
            let tap = recorder.as_ref().map(|recorder| recorder.tap(shard.0));
            let hook: Box<dyn Tap> = Box::new(ExitHook { ended: ended.clone(), recorder: tap });
            (Engine::new(settings(shard)), hook)
        };
        let listen = |error| StartError::Listen { host: config.host, port: config.port, error };
        let fleet = Fleet::start(&plan, clock, &metrics, &host, crew).map_err(listen)?;
        let post = fleet.post();
        let reporter = reporter
            .start(move |asker, answer| post.answer(asker, answer))
            .map_err(StartError::System)?;
        let sink = StorageSink { post: fleet.post(), shards: config.threads.shards };
        let storage = storage.start(sink).map_err(StartError::System)?;
        let sink = NodeSink { post: fleet.post(), shards: config.threads.shards };
        let node =
            member.map(|member| member.start(sink)).transpose().map_err(StartError::System)?;
        progress.started();
        Ok(Self { fleet, recorder, storage, node, progress, reporter })
    }

    /// Makes `/readyz` report the end, so that balancers send no new clients. Call it before
    /// [`Server::drain`].
    pub fn announce_end(&self) {
        self.progress.draining();
        if let Some(node) = &self.node {
            node.draining();
        }
    }

    /// Returns the port that the server listens on.
    pub fn port(&self) -> u16 {
        self.fleet.address().port()
    }

    /// Drains all shards and waits until they have ended, at most this long. Returns false if one
    /// of them panicked.
    pub fn drain(self, within: Duration) -> bool {
        self.announce_end();
        self.fleet.drain(within);
        let ends = self.fleet.join();
        // The reporter ends with the last shard. If it panicked, the log has the panic.
        let _ = self.reporter.join();
        debug!("the shards ended: {ends:?}");
        if let Some(recorder) = self.recorder {
            recorder.finish();
        }
        // Last, because the shards have offered their newest states to them.
        self.storage.end();
        if let Some(node) = self.node {
            node.end();
        }
        !ends.contains(&End::Panicked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_error_says_what_to_do() {
        for (kind, part) in [
            (io::ErrorKind::AddrInUse, "port 3001 is in use"),
            (io::ErrorKind::PermissionDenied, "from 1024 up"),
            (io::ErrorKind::AddrNotAvailable, "192.0.2.1 is not an address of this machine"),
            (io::ErrorKind::OutOfMemory, "cannot listen on port 3001"),
        ] {
            let host = [192, 0, 2, 1].into();
            let error = StartError::Listen { host, port: 3001, error: kind.into() };
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
