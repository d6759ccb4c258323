//! Serves small applications that any conformance suite can examine, over the driver and wire code
//! of the server: `cargo run --release -p bandsync-tools -- examine --help`.

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

/// Serves one of several small applications over the driver and wire code of the server, for
/// outside conformance suites. Says where it listens; ends with SIGINT or SIGTERM.
#[derive(Args)]
pub struct Options {
    #[command(subcommand)]
    application: Served,
}

#[derive(Subcommand)]
pub enum Served {
    /// WebSocket at any path: every message comes back as it came
    WsEcho(Common),
    /// Engine.IO at /engine.io/: every message comes back, text and binary
    EngineEcho(Common),
    /// Socket.IO at /socket.io/ in the namespaces / and /custom: emits `auth` with the connect
    /// payload, `message` comes back as `message-back`, `message-with-ack` as its acknowledgement
    SocketEcho(Common),
    /// Socket.IO at /socket.io/ as socket.io-client's own tests expect their server
    ClientTests(Common),
}

#[derive(Args)]
pub struct Common {
    /// Where to listen; 0 takes any free port
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The address to listen at
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Threads that serve
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// Engine.IO: ms between two pings
    #[arg(long, default_value_t = 25_000)]
    ping_interval: u64,
    /// Engine.IO: ms that an answer to a ping may take
    #[arg(long, default_value_t = 20_000)]
    ping_timeout: u64,
    /// Socket.IO: ms that a client may take to connect to a namespace
    #[arg(long, default_value_t = 45_000)]
    connect_timeout: u64,
    /// Speak Engine.IO 3 as well, as socket.io-client 2 does
    #[arg(long)]
    eio3: bool,
    /// Refuse HTTP long-polling
    #[arg(long)]
    no_polling: bool,
    /// Socket.IO: ms that a client may take to come back with what it missed; 0 = never
    #[arg(long, default_value_t = 0)]
    recovery: u64,
    /// The largest message that is read, in bytes
    #[arg(long, default_value_t = 1_000_000)]
    max_message_bytes: u32,
    /// Frames that a message may come in
    #[arg(long, default_value_t = 16_384)]
    max_fragments: u32,
    /// Whether permessage-deflate is granted; by default by ws-echo alone, as servers of the others
    /// have it
    #[arg(long)]
    compression: Option<bool>,
    /// Compress each message by itself
    #[arg(long)]
    no_context_takeover: bool,
    /// Shorter messages are not compressed, in bytes
    #[arg(long, default_value_t = 1_024)]
    threshold: u32,
    /// From 1, fast, to 9, small
    #[arg(long, default_value_t = 3)]
    level: u8,
}

/// There is nothing here but what is examined.
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
    let board = SharedMetrics::<Counters>::new(options.shards);
    let host: Arc<dyn Host> = Arc::new(Nothing);
    let plan = Plan { pin: false, ..Plan::new(options.host, options.port) };
    let settings = settings(application, &options, clock);
    let crew = |shard: ShardId| -> (Server, Box<dyn Tap>) {
        (Server::new(Settings { shard, ..settings.clone() }, application), Box::new(NoTap))
    };
    match Fleet::start(&plan, clock, &board, &host, crew) {
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
