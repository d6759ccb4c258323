//! Serves small applications for conformance suites, with the driver and wire code of the server:
//! `cargo run --release -p bandsync-tools -- examine --help`.

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;

use bandsync_driver::{Asker, Clock, Fleet, Host, Plan, SharedMetrics};
use bandsync_engine::io::report::Counters;
use bandsync_engine::io::tap::{NoTap, Tap};
use bandsync_engine::io::{HttpRequest, HttpResponse, Settings, Transports, Version3};
use bandsync_engine::words::compression::Compression;
use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::origins::Origins;
use bandsync_engine::words::time::Micros;
use bandsync_tools::conformance::{Application, Server};
use clap::{Args, Subcommand};

/// Serves a small application for outside conformance suites, with the driver and wire code of the
/// server. Prints its address; stops at SIGINT or SIGTERM.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    application: Served,
}

#[derive(Subcommand)]
pub enum Served {
    /// WebSocket at any path: every message is returned unchanged
    WsEcho(Common),
    /// Engine.IO at /engine.io/: every message is returned, text and binary
    EngineEcho(Common),
    /// Socket.IO at /socket.io/ in the namespaces / and /custom: emits `auth` with the connect
    /// payload, returns `message` as `message-back` and `message-with-ack` as its acknowledgement
    SocketEcho(Common),
    /// Socket.IO at /socket.io/ as the tests of socket.io-client expect it
    ClientTests(Common),
}

#[derive(Args)]
pub struct Common {
    /// Port to listen on; 0 takes any free port
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// Address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Number of threads
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// Engine.IO: time between two pings, in milliseconds
    #[arg(long, default_value_t = 25_000)]
    ping_interval: u64,
    /// Engine.IO: time for the answer to a ping, in milliseconds
    #[arg(long, default_value_t = 20_000)]
    ping_timeout: u64,
    /// Socket.IO: time for a client to connect to a namespace, in milliseconds
    #[arg(long, default_value_t = 45_000)]
    connect_timeout: u64,
    /// Also accept Engine.IO 3, which socket.io-client 2 speaks
    #[arg(long)]
    eio3: bool,
    /// Reject HTTP long-polling
    #[arg(long)]
    no_polling: bool,
    /// Socket.IO: time for a lost client to recover its events, in milliseconds; 0 = never
    #[arg(long, default_value_t = 0)]
    recovery: u64,
    /// Maximum size of a message, in bytes
    #[arg(long, default_value_t = 1_000_000)]
    max_message_bytes: u32,
    /// Maximum frames of a message
    #[arg(long, default_value_t = 16_384)]
    max_fragments: u32,
    /// Whether to agree to permessage-deflate; by default only ws-echo does, like other servers
    #[arg(long)]
    compression: Option<bool>,
    /// Compress each message independently
    #[arg(long)]
    no_context_takeover: bool,
    /// Minimum size of a compressed message, in bytes
    #[arg(long, default_value_t = 1_024)]
    threshold: u32,
    /// Compression level, from 1 (fast) to 9 (small)
    #[arg(long, default_value_t = 3)]
    level: u8,
}

/// A host without pages.
struct Nothing;

impl Host for Nothing {
    fn answer(&self, _: Asker, _question: &HttpRequest) -> Option<HttpResponse> {
        let headers = vec![("Content-Type".into(), "application/json".into())];
        Some(HttpResponse { status: 404, headers, body: br#"{"error":"Not found"}"#[..].into() })
    }
}

/// Runs the command.
pub fn run(options: Options) -> ExitCode {
    let (application, options) = match options.application {
        Served::WsEcho(options) => (Application::WebSocketEcho, options),
        Served::EngineEcho(options) => (Application::EngineEcho, options),
        Served::SocketEcho(options) => (Application::SocketEcho, options),
        Served::ClientTests(options) => (Application::ClientTests, options),
    };
    let clock = Clock::start();
    let metrics = SharedMetrics::<Counters>::new(options.shards);
    let host: Arc<dyn Host> = Arc::new(Nothing);
    let plan = Plan { pin: false, ..Plan::new(options.host, options.port) };
    let settings = settings(application, &options, clock);
    let crew = |shard: ShardId| -> (Server, Box<dyn Tap>) {
        (Server::new(Settings { shard, ..settings.clone() }, application), Box::new(NoTap))
    };
    match Fleet::start(&plan, clock, &metrics, &host, crew) {
        Ok(fleet) => {
            println!("listening on {}", fleet.address());
            fleet.join();
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("examine: cannot listen on {}: {error}", options.port);
            ExitCode::FAILURE
        }
    }
}

fn settings(application: Application, options: &Common, clock: Clock) -> Settings {
    let compression = Compression {
        threshold: options.threshold,
        level: options.level,
        context_takeover: !options.no_context_takeover,
    };
    let compresses = options.compression.unwrap_or(application == Application::WebSocketEcho);
    let never = Micros::from_secs(365 * 24 * 3_600);
    Settings {
        shards: options.shards,
        started_unix_ms: clock.started_unix_ms(),
        limits: Limits {
            message_bytes_max: options.max_message_bytes,
            fragments_max: options.max_fragments,
            // Suites send much before they read.
            backlog_bytes_max: options.max_message_bytes.saturating_mul(4).max(256 * 1024 * 1024),
            connect_timeout: Micros::from_millis(options.connect_timeout),
            stale_after: never,
            silence_max: never,
            inactivity_max: never,
            ..Limits::PRODUCTION
        },
        ping_interval: Micros::from_millis(options.ping_interval),
        ping_timeout: Micros::from_millis(options.ping_timeout),
        origins: Origins::Any,
        transports: Transports {
            polling: !options.no_polling,
            version_3: if options.eio3 { Version3::On } else { Version3::Off },
            compression: compresses.then_some(compression),
            recovery: Micros::from_millis(options.recovery),
        },
        ..Settings::default()
    }
}
