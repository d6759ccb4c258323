//! Every setting there is: its names, what it means, what it may be, and what it is if nobody says.
//!
//! The command line, its help, the environment and the checks are all made from this one table.

use std::fmt;

/// One thing that can be set.
#[derive(Debug)]
pub struct Setting {
    /// On the command line, without the dashes.
    pub option: &'static str,
    /// In the environment and in `.env`.
    pub variable: &'static str,
    /// What it may be.
    pub allowed: Allowed,
    /// What a number counts, empty if nothing needs saying.
    pub unit: &'static str,
    /// What it is in development, unless it is given.
    pub development: &'static str,
    /// What it is in production, unless it is given.
    pub production: &'static str,
    /// Whether its value stays out of the log.
    pub secret: bool,
    /// What it does, in sentences.
    pub help: &'static str,
    /// What it does in a few words, for `-h`; empty if that leaves it out.
    pub short: &'static str,
}

/// What a value may be.
#[derive(Debug)]
pub enum Allowed {
    /// A whole number, both bounds included.
    Whole { min: u64, max: u64 },
    /// A whole number, or a word that leaves the choice to the server.
    WholeOr { word: &'static str, min: u64, max: u64 },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// What the sentence says.
    Told(&'static str),
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::WholeOr { word, min, max } => {
                write!(f, "`{word}` or a whole number from {min} to {max}")
            }
            Self::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Self::Told(what) => f.write_str(what),
        }
    }
}

/// What most settings have in common.
const PLAIN: Setting = Setting {
    option: "",
    variable: "",
    allowed: Allowed::Told(""),
    unit: "",
    development: "",
    production: "",
    secret: false,
    help: "",
    short: "",
};

/// `BANDSYNC_ENV`.
pub const PROFILE: Setting = Setting {
    option: "profile",
    variable: "BANDSYNC_ENV",
    allowed: Allowed::OneOf(&["development", "production"]),
    development: "development",
    production: "development",
    help: "Which set of defaults applies. If it is not given, NODE_ENV decides when it is one of the two.",
    short: "Set of defaults: development or production",
    ..PLAIN
};

/// `PORT`.
pub const PORT: Setting = Setting {
    option: "port",
    variable: "PORT",
    allowed: Allowed::Whole { min: 0, max: 65_535 },
    development: "3001",
    production: "3001",
    help: "The TCP port for everything: WebSocket, pages, health. 0 takes any free one.",
    short: "TCP port, 0 for any free one [3001]",
    ..PLAIN
};

/// `HOST`.
pub const HOST: Setting = Setting {
    option: "host",
    variable: "HOST",
    allowed: Allowed::Told("`all`, `localhost` or an IP address of this machine"),
    development: "all",
    production: "all",
    help: "Where to listen. With `all` the tablets on the same Wi-Fi can connect; `localhost` serves this \
           machine only.",
    short: "all, localhost or an IP address [all]",
    ..PLAIN
};

/// `SHARDS`.
pub const SHARDS: Setting = Setting {
    option: "shards",
    variable: "SHARDS",
    allowed: Allowed::WholeOr { word: "auto", min: 1, max: 256 },
    development: "auto",
    production: "auto",
    help: "How many threads serve members. `auto` is one for each core that this process may use: those of its \
           affinity mask, or fewer if a CPU quota (cgroup) allows fewer.",
    ..PLAIN
};

/// `PIN_CORES`.
pub const PIN_CORES: Setting = Setting {
    option: "pin-cores",
    variable: "PIN_CORES",
    allowed: Allowed::OneOf(&["auto", "on", "off"]),
    development: "auto",
    production: "auto",
    help: "Whether each shard stays on a core of its own. `auto` does so if there are as many shards as cores in \
           the affinity mask and no CPU quota allows fewer. `on` pins shard 0 to the first core, so two servers with \
           one shard each would share it.",
    ..PLAIN
};

/// `IO_URING`.
pub const IO_URING: Setting = Setting {
    option: "io-uring",
    variable: "IO_URING",
    allowed: Allowed::OneOf(&["auto", "on", "off"]),
    development: "auto",
    production: "auto",
    help: "Whether the frames of a turn are given to the kernel together. `auto` and `on` do so where the kernel has \
           io_uring and permits it.",
    ..PLAIN
};

/// `LOG_LEVEL`.
pub const LOG_LEVEL: Setting = Setting {
    option: "log-level",
    variable: "LOG_LEVEL",
    allowed: Allowed::Told(
        "`off`, `error`, `warn`, `info`, `debug` or `trace`, also for parts: `warn,bandsync_storage=debug`",
    ),
    development: "info",
    production: "warn",
    help: "Minimum level that is logged. The log goes to standard error. A level for a part of the program follows \
           its name and `=`; the longest name that fits counts.",
    short: "off, error, warn, info, debug or trace",
    ..PLAIN
};

/// `LOG_FORMAT`.
pub const LOG_FORMAT: Setting = Setting {
    option: "log-format",
    variable: "LOG_FORMAT",
    allowed: Allowed::OneOf(&["auto", "pretty", "json"]),
    development: "auto",
    production: "auto",
    help: "How a log line looks. `auto` is pretty on a terminal and in development, one JSON object a line \
           otherwise.",
    ..PLAIN
};

/// `CORS_ORIGIN`.
pub const CORS_ORIGIN: Setting = Setting {
    option: "cors-origin",
    variable: "CORS_ORIGIN",
    allowed: Allowed::Told("`own`, `*`, or a comma-separated list of scheme://host[:port]"),
    development: "own",
    production: "own",
    help: "Which web pages may connect besides the server's own. The default lets in no others, because any page \
           that a member has open in the same browser could otherwise join and lead. Programs and native apps \
           send no origin and are not concerned.",
    ..PLAIN
};

/// `SYNC_TARGET_LATENCY`.
pub const SYNC_TARGET_LATENCY: Setting = Setting {
    option: "sync-target-latency",
    variable: "SYNC_TARGET_LATENCY",
    allowed: Allowed::Whole { min: 1, max: 1_000 },
    unit: "ms",
    development: "50",
    production: "25",
    help: "The latency that /metrics is to be compared with.",
    ..PLAIN
};

/// `SCROLL_TICK_INTERVAL`.
pub const SCROLL_TICK_INTERVAL: Setting = Setting {
    option: "scroll-tick-interval",
    variable: "SCROLL_TICK_INTERVAL",
    allowed: Allowed::Whole { min: 4, max: 1_000 },
    unit: "ms",
    development: "16",
    production: "8",
    help: "Between two scroll_tick events of a session that plays.",
    ..PLAIN
};

/// `BATCH_INTERVAL`.
pub const BATCH_INTERVAL: Setting = Setting {
    option: "batch-interval",
    variable: "BATCH_INTERVAL",
    allowed: Allowed::Whole { min: 0, max: 100 },
    unit: "ms",
    development: "5",
    production: "5",
    help: "How long events to a session may wait to go out together. Chat alone waits for up to four times as long in a \
           session of 32 members and more. 0 lets nothing wait.",
    ..PLAIN
};

/// `TRANSPORTS`.
pub const TRANSPORTS: Setting = Setting {
    option: "transports",
    variable: "TRANSPORTS",
    allowed: Allowed::OneOf(&["polling,websocket", "websocket"]),
    development: "polling,websocket",
    production: "polling,websocket",
    help: "How clients may connect. Networks that block WebSockets, and clients with default options, begin with \
           HTTP long-polling; `websocket` alone turns that off.",
    ..PLAIN
};

/// `ENGINE_IO_3`.
pub const ENGINE_IO_3: Setting = Setting {
    option: "engine-io-3",
    variable: "ENGINE_IO_3",
    allowed: Allowed::OneOf(&["auto", "on", "off"]),
    development: "auto",
    production: "auto",
    help: "Whether clients of version 2 (`EIO=3`) are let in. Everybody in a session sees the id by which they poll, \
           so such a client is known by its address and, once it has returned it, by the cookie `io`. `auto` on \
           `internet`: they may connect by WebSocket only; `on` lets them poll there too.",
    ..PLAIN
};

/// `COMPRESSION`.
pub const COMPRESSION: Setting = Setting {
    option: "compression",
    variable: "COMPRESSION",
    allowed: Allowed::OneOf(&["on", "off"]),
    development: "on",
    production: "on",
    help: "Whether messages are compressed for clients that offer it (permessage-deflate), and answers of \
           long-polling for those that take it. Ticks never are.",
    ..PLAIN
};

/// `COMPRESSION_THRESHOLD`.
pub const COMPRESSION_THRESHOLD: Setting = Setting {
    option: "compression-threshold",
    variable: "COMPRESSION_THRESHOLD",
    allowed: Allowed::Whole { min: 0, max: 1_000_000 },
    unit: "bytes",
    development: "1024",
    production: "1024",
    help: "Shorter messages are not compressed.",
    ..PLAIN
};

/// `COMPRESSION_LEVEL`.
pub const COMPRESSION_LEVEL: Setting = Setting {
    option: "compression-level",
    variable: "COMPRESSION_LEVEL",
    allowed: Allowed::Whole { min: 1, max: 9 },
    development: "3",
    production: "3",
    help: "From 1, fast, to 9, small.",
    ..PLAIN
};

/// `CONTEXT_TAKEOVER`.
pub const CONTEXT_TAKEOVER: Setting = Setting {
    option: "context-takeover",
    variable: "CONTEXT_TAKEOVER",
    allowed: Allowed::OneOf(&["on", "off"]),
    development: "off",
    production: "off",
    help: "Whether a compressed message may refer to those before it. That saves more, costs each connection that \
           uses it up to 64 KiB, and each receiver a compression of its own where otherwise one serves all.",
    ..PLAIN
};

/// `RECOVERY_WINDOW`.
pub const RECOVERY_WINDOW: Setting = Setting {
    option: "recovery-window",
    variable: "RECOVERY_WINDOW",
    allowed: Allowed::Whole { min: 0, max: 3_600_000 },
    unit: "ms",
    development: "120000",
    production: "120000",
    help: "For how long a client whose connection broke may come back as who it was, with what it missed. 0 = \
           not at all.",
    ..PLAIN
};

/// `SOCKET_PING_INTERVAL`.
pub const SOCKET_PING_INTERVAL: Setting = Setting {
    option: "socket-ping-interval",
    variable: "SOCKET_PING_INTERVAL",
    allowed: Allowed::Whole { min: 50, max: 300_000 },
    unit: "ms",
    development: "2500",
    production: "2500",
    help: "Between two Engine.IO pings to a client.",
    ..PLAIN
};

/// `SOCKET_PING_TIMEOUT`.
pub const SOCKET_PING_TIMEOUT: Setting = Setting {
    option: "socket-ping-timeout",
    variable: "SOCKET_PING_TIMEOUT",
    allowed: Allowed::Whole { min: 50, max: 300_000 },
    unit: "ms",
    development: "5000",
    production: "5000",
    help: "How long an Engine.IO ping may stay unanswered before the connection counts as lost.",
    ..PLAIN
};

/// `HEARTBEAT_INTERVAL`.
pub const HEARTBEAT_INTERVAL: Setting = Setting {
    option: "heartbeat-interval",
    variable: "HEARTBEAT_INTERVAL",
    allowed: Allowed::Whole { min: 100, max: 300_000 },
    unit: "ms",
    development: "5000",
    production: "5000",
    help: "Between two `ping` events of the application's own heartbeat.",
    ..PLAIN
};

/// `MAX_SESSION_MEMBERS`.
pub const MAX_SESSION_MEMBERS: Setting = Setting {
    option: "max-session-members",
    variable: "MAX_SESSION_MEMBERS",
    allowed: Allowed::Whole { min: 2, max: 10_000 },
    unit: "members",
    development: "256",
    production: "256",
    help: "Members that a session may have, unless its own settings say less.",
    ..PLAIN
};

/// `MAX_CONNECTIONS`.
pub const MAX_CONNECTIONS: Setting = Setting {
    option: "max-connections",
    variable: "MAX_CONNECTIONS",
    allowed: Allowed::Whole { min: 1, max: 1_000_000 },
    unit: "connections a shard",
    development: "100000",
    production: "100000",
    help: "Connections that one shard holds at once; one more is answered 503. Counted by the shard, because a \
           session and all its members live on one.",
    ..PLAIN
};

/// `MAX_SESSIONS`.
pub const MAX_SESSIONS: Setting = Setting {
    option: "max-sessions",
    variable: "MAX_SESSIONS",
    allowed: Allowed::Whole { min: 1, max: 1_000_000 },
    unit: "sessions a shard",
    development: "100000",
    production: "100000",
    help: "Sessions that one shard keeps in memory; one more takes the place of the longest empty one.",
    ..PLAIN
};

/// `MAX_MESSAGE_BYTES`.
pub const MAX_MESSAGE_BYTES: Setting = Setting {
    option: "max-message-bytes",
    variable: "MAX_MESSAGE_BYTES",
    allowed: Allowed::Whole { min: 1_024, max: 16_777_216 },
    unit: "bytes",
    development: "1000000",
    production: "1000000",
    help: "The largest WebSocket message a client may send; a larger one closes its connection.",
    ..PLAIN
};

/// `LEADER_GRACE`.
pub const LEADER_GRACE: Setting = Setting {
    option: "leader-grace",
    variable: "LEADER_GRACE",
    allowed: Allowed::Whole { min: 0, max: 600_000 },
    unit: "ms",
    development: "10000",
    production: "10000",
    help: "How long the lead is kept for a leader whose connection dropped. The music goes on meanwhile.",
    ..PLAIN
};

/// `SESSION_TTL`.
pub const SESSION_TTL: Setting = Setting {
    option: "session-ttl",
    variable: "SESSION_TTL",
    allowed: Allowed::Whole { min: 1_000, max: 86_400_000 },
    unit: "ms",
    development: "900000",
    production: "900000",
    help: "How long a session without members is remembered.",
    ..PLAIN
};

/// `DRAIN_TIMEOUT`.
pub const DRAIN_TIMEOUT: Setting = Setting {
    option: "drain-timeout",
    variable: "DRAIN_TIMEOUT",
    allowed: Allowed::Whole { min: 0, max: 600_000 },
    unit: "ms",
    development: "5000",
    production: "5000",
    help: "How long the goodbyes may take when the server is told to stop.",
    ..PLAIN
};

/// `DRAIN_GOODBYE`.
pub const DRAIN_GOODBYE: Setting = Setting {
    option: "drain-goodbye",
    variable: "DRAIN_GOODBYE",
    allowed: Allowed::OneOf(&["reconnect", "disconnect"]),
    development: "reconnect",
    production: "reconnect",
    help: "What clients do when the server stops: after `reconnect` socket.io-client comes back by itself, after \
           `disconnect` it stays away until its program calls connect().",
    ..PLAIN
};

/// `STALL_LIMIT`.
pub const STALL_LIMIT: Setting = Setting {
    option: "stall-limit",
    variable: "STALL_LIMIT",
    allowed: Allowed::Whole { min: 0, max: 3_600_000 },
    unit: "ms",
    development: "30000",
    production: "30000",
    help: "How long one of the threads that serve members may hang before the server aborts, so that a supervisor \
           starts it anew; 0 = for ever.",
    ..PLAIN
};

/// `SEED`.
pub const SEED: Setting = Setting {
    option: "seed",
    variable: "SEED",
    allowed: Allowed::WholeOr { word: "random", min: 0, max: u64::MAX },
    development: "random",
    production: "random",
    secret: true,
    help: "Where all randomness comes from. Only for debugging: who knows it can foretell socket ids.",
    ..PLAIN
};

/// `METRICS_INTERVAL`.
pub const METRICS_INTERVAL: Setting = Setting {
    option: "metrics-interval",
    variable: "METRICS_INTERVAL",
    allowed: Allowed::Whole { min: 1_000, max: 3_600_000 },
    unit: "ms",
    development: "10000",
    production: "10000",
    help: "How often percentiles begin anew and a row of /metrics/history is written.",
    ..PLAIN
};

/// `MEMORY_THRESHOLD`.
pub const MEMORY_THRESHOLD: Setting = Setting {
    option: "memory-threshold",
    variable: "MEMORY_THRESHOLD",
    allowed: Allowed::Whole { min: 10, max: 1_000_000 },
    unit: "MB",
    development: "500",
    production: "500",
    help: "From here on the server gives back what memory it can, and says so.",
    ..PLAIN
};

/// `MEMORY_LIMIT`.
pub const MEMORY_LIMIT: Setting = Setting {
    option: "memory-limit",
    variable: "MEMORY_LIMIT",
    allowed: Allowed::Whole { min: 10, max: 1_000_000 },
    unit: "MB",
    development: "1000",
    production: "1000",
    help: "From here on new members are turned away with 503, so that those who play can go on.",
    ..PLAIN
};

/// `ALERT_LATENCY`.
pub const ALERT_LATENCY: Setting = Setting {
    option: "alert-latency",
    variable: "ALERT_LATENCY",
    allowed: Allowed::Whole { min: 1, max: 10_000 },
    unit: "ms",
    development: "100",
    production: "100",
    help: "A 99th percentile of the round trip to members above this is an alert; so is a mean of twice SYNC_TARGET_LATENCY.",
    ..PLAIN
};

/// `ALERT_CPU`.
pub const ALERT_CPU: Setting = Setting {
    option: "alert-cpu",
    variable: "ALERT_CPU",
    allowed: Allowed::Whole { min: 1, max: 100 },
    unit: "%",
    development: "80",
    production: "80",
    help: "A thread that is busy for more than this part of its core is an alert.",
    ..PLAIN
};

/// `ALERT_CPU_TIME`.
pub const ALERT_CPU_TIME: Setting = Setting {
    option: "alert-cpu-time",
    variable: "ALERT_CPU_TIME",
    allowed: Allowed::Whole { min: 1_000, max: 3_600_000 },
    unit: "ms",
    development: "30000",
    production: "30000",
    help: "For how long it must be so.",
    ..PLAIN
};

/// `ALERT_WEBHOOK`.
pub const ALERT_WEBHOOK: Setting = Setting {
    option: "alert-webhook",
    variable: "ALERT_WEBHOOK",
    allowed: Allowed::Told("`none` or an address that begins with https:// or http://"),
    development: "none",
    production: "none",
    secret: true,
    help: "Where alerts are posted as JSON when they are raised and when they are cleared; Slack takes them as they are. \
           SSL_CERT_FILE names an authority of your own, HTTPS_PROXY a proxy. The address may carry a token, so it is never logged.",
    ..PLAIN
};

/// `ADMIN_TOKEN`.
pub const ADMIN_TOKEN: Setting = Setting {
    option: "admin-token",
    variable: "ADMIN_TOKEN",
    allowed: Allowed::Told("`none` or 16 to 256 visible characters without spaces"),
    development: "none",
    production: "none",
    secret: true,
    help: "Whoever sends it may see the dashboard and the metrics, from any machine. Once it is set, requests from this machine need it too; without one only this machine may look. Better in the environment than on the command line, where every user of the machine can read it.",
    short: "Opens the operators' pages to its bearer",
    ..PLAIN
};

/// `LOG_FILE`.
pub const LOG_FILE: Setting = Setting {
    option: "log-file",
    variable: "LOG_FILE",
    allowed: Allowed::Told("`none` or the path of a file"),
    development: "none",
    production: "none",
    help: "Where the log goes instead of standard error. SIGHUP opens it anew, for programs that rotate logs.",
    ..PLAIN
};

/// `SECURITY_PROFILE`.
pub const SECURITY_PROFILE: Setting = Setting {
    option: "security-profile",
    variable: "SECURITY_PROFILE",
    allowed: Allowed::OneOf(&["lan", "internet"]),
    development: "lan",
    production: "lan",
    help: "Where the server stands. `lan`: pages are let in under addresses and local names only, and one address \
           may have many connections, since a venue may be behind one. `internet`: strict limits, passcodes and \
           PINs of at least 8 characters, and the server does not start without TRUSTED_PROXIES (one of them ends \
           TLS) and a list in CORS_ORIGIN.",
    short: "lan, or internet behind a proxy [lan]",
    ..PLAIN
};

/// `TRUSTED_PROXIES`.
pub const TRUSTED_PROXIES: Setting = Setting {
    option: "trusted-proxies",
    variable: "TRUSTED_PROXIES",
    allowed: Allowed::Told(
        "`none`, or a comma-separated list of addresses and networks like 10.0.0.0/8",
    ),
    development: "none",
    production: "none",
    help: "Proxies that are believed when they say in X-Forwarded-For for whom they speak. The limits by address \
           then hold for the clients behind them, and not for the proxies.",
    ..PLAIN
};

/// `ALLOWED_HOSTS`.
pub const ALLOWED_HOSTS: Setting = Setting {
    option: "allowed-hosts",
    variable: "ALLOWED_HOSTS",
    allowed: Allowed::Told("`auto`, `*`, or a comma-separated list of names"),
    development: "auto",
    production: "auto",
    help: "Under which names web pages may reach the server, so that no stranger's name can be moved to its address \
           (DNS rebinding). `auto` on `lan`: addresses, names without a dot, .local, .lan, .internal, .home.arpa, \
           and the hosts of CORS_ORIGIN; a list adds names to these. `auto` on `internet`: any, but without the token \
           the dashboard and the metrics are shown under these names only.",
    ..PLAIN
};

/// `CONNECTIONS_PER_IP`.
pub const CONNECTIONS_PER_IP: Setting = Setting {
    option: "connections-per-ip",
    variable: "CONNECTIONS_PER_IP",
    allowed: Allowed::WholeOr { word: "auto", min: 0, max: 1_000_000 },
    unit: "connections a shard",
    development: "auto",
    production: "auto",
    help: "Connections that one address may have at once; one more is answered 429. 0 lifts the limit. `auto` is \
           256 on `lan`, where this machine itself may have any number, and 32 on `internet`. An IPv6 /64 counts \
           as one address.",
    ..PLAIN
};

/// `HANDSHAKES_PER_IP`.
pub const HANDSHAKES_PER_IP: Setting = Setting {
    option: "handshakes-per-ip",
    variable: "HANDSHAKES_PER_IP",
    allowed: Allowed::WholeOr { word: "auto", min: 0, max: 1_000_000 },
    unit: "connections a second and shard",
    development: "auto",
    production: "auto",
    help: "New connections that one address may open, with bursts of twice that; one more is answered 429. 0 lifts \
           the limit. `auto` is 100 on `lan`, where this machine itself may open any number, and 10 on `internet`.",
    ..PLAIN
};

/// `HTTP_REQUESTS_PER_IP`.
pub const HTTP_REQUESTS_PER_IP: Setting = Setting {
    option: "http-requests-per-ip",
    variable: "HTTP_REQUESTS_PER_IP",
    allowed: Allowed::Whole { min: 0, max: 1_000_000 },
    unit: "requests a second",
    development: "100",
    production: "100",
    help: "HTTP requests that one address may make, over all shards; one more is answered 429. 0 lifts the limit.",
    ..PLAIN
};

/// `EVENT_RATES`.
pub const EVENT_RATES: Setting = Setting {
    option: "event-rates",
    variable: "EVENT_RATES",
    allowed: Allowed::Told("`default`, or a comma-separated list of event=rate; 0 lifts a limit"),
    development: "default",
    production: "default",
    help: "Events that one client may send in a second, with bursts of twice that: position_sync=50, \
           metronome_tick=20, sync_request=10, chat_message=10, latency_probe=20, clock_sync=20, tempo_change=5, \
           join_session=2, other=5 (each), total=100; and refusals=10 a minute before the client is sent away. \
           A list changes those that it names.",
    ..PLAIN
};

/// `RECORD_DIR`.
pub const RECORD_DIR: Setting = Setting {
    option: "record",
    variable: "RECORD_DIR",
    allowed: Allowed::Told("`off` or a directory"),
    development: "off",
    production: "off",
    help: "Where to record everything that happens, for `bandsync replay` and `bandsync trace`. Secrets are covered, \
           and nothing is compressed meanwhile. Whoever can read a trace can read what members wrote.",
    ..PLAIN
};

/// `RECORD_MAX_BYTES`.
pub const RECORD_MAX_BYTES: Setting = Setting {
    option: "record-max-bytes",
    variable: "RECORD_MAX_BYTES",
    allowed: Allowed::Whole { min: 65_536, max: 1 << 40 },
    unit: "bytes",
    development: "67108864",
    production: "67108864",
    help: "A recording goes on in another file when one has grown to this.",
    ..PLAIN
};

/// `RECORD_MAX_AGE`.
pub const RECORD_MAX_AGE: Setting = Setting {
    option: "record-max-age",
    variable: "RECORD_MAX_AGE",
    allowed: Allowed::Whole { min: 1_000, max: 604_800_000 },
    unit: "ms",
    development: "3600000",
    production: "3600000",
    help: "A recording goes on in another file when one spans this time.",
    ..PLAIN
};

/// `RECORD_KEEP`.
pub const RECORD_KEEP: Setting = Setting {
    option: "record-keep",
    variable: "RECORD_KEEP",
    allowed: Allowed::Whole { min: 1, max: 100_000 },
    unit: "files a shard",
    development: "64",
    production: "64",
    help: "Files kept in the directory; the oldest are removed. A run whose first file is gone can be looked at and \
           not replayed any more.",
    ..PLAIN
};

/// `STORAGE`.
pub const STORAGE: Setting = Setting {
    option: "storage",
    variable: "STORAGE",
    allowed: Allowed::OneOf(&["auto", "file", "redis", "memory"]),
    development: "auto",
    production: "auto",
    help: "Where sessions outlive the process. `auto` is Redis if REDIS_URL or REDIS_HOST names one, otherwise a \
           file; `memory` is nowhere.",
    ..PLAIN
};

/// `DATA_DIR`.
pub const DATA_DIR: Setting = Setting {
    option: "data",
    variable: "DATA_DIR",
    allowed: Allowed::Told("`auto` or a directory, which is made if it is not there"),
    development: "auto",
    production: "auto",
    help: "Where the file is. `auto` is the place that the system has for the data of programs.",
    short: "Directory of the file with the sessions",
    ..PLAIN
};

/// `STORAGE_TTL`.
pub const STORAGE_TTL: Setting = Setting {
    option: "storage-ttl",
    variable: "STORAGE_TTL",
    allowed: Allowed::Whole { min: 1_000, max: 31_536_000_000 },
    unit: "ms",
    development: "3600000",
    production: "3600000",
    help: "How long a session is stored that is in no server's memory.",
    ..PLAIN
};

/// `STORAGE_WAIT`.
pub const STORAGE_WAIT: Setting = Setting {
    option: "storage-wait",
    variable: "STORAGE_WAIT",
    allowed: Allowed::Whole { min: 1, max: 10_000 },
    unit: "ms",
    development: "500",
    production: "500",
    help: "How long who joins a session that is not in memory waits for the storage, before it begins anew.",
    ..PLAIN
};

/// `REDIS_URL`.
pub const REDIS_URL: Setting = Setting {
    option: "redis-url",
    variable: "REDIS_URL",
    allowed: Allowed::Told(
        "`none`, redis://[user:password@]host[:port][/db], redis+cluster://host:port,…, or \
         redis+sentinel://host:port,…/service[/db]; rediss for TLS",
    ),
    development: "none",
    production: "none",
    secret: true,
    help: "Where Redis is. It goes before REDIS_HOST and the variables that belong to that.",
    ..PLAIN
};

/// `REDIS_HOST`.
pub const REDIS_HOST: Setting = Setting {
    option: "redis-host",
    variable: "REDIS_HOST",
    allowed: Allowed::Told("`none` or a host name or address"),
    development: "none",
    production: "none",
    help: "The machine that Redis runs on.",
    ..PLAIN
};

/// `REDIS_PORT`.
pub const REDIS_PORT: Setting = Setting {
    option: "redis-port",
    variable: "REDIS_PORT",
    allowed: Allowed::Whole { min: 1, max: 65_535 },
    development: "6379",
    production: "6379",
    help: "The port of Redis on REDIS_HOST.",
    ..PLAIN
};

/// `REDIS_PASSWORD`.
pub const REDIS_PASSWORD: Setting = Setting {
    option: "redis-password",
    variable: "REDIS_PASSWORD",
    allowed: Allowed::Told("`none` or the password"),
    development: "none",
    production: "none",
    secret: true,
    help: "The password of Redis on REDIS_HOST. Other users of this machine can read the command line.",
    ..PLAIN
};

/// `REDIS_DB`.
pub const REDIS_DB: Setting = Setting {
    option: "redis-db",
    variable: "REDIS_DB",
    allowed: Allowed::Whole { min: 0, max: 65_535 },
    development: "0",
    production: "0",
    help: "The database of Redis on REDIS_HOST.",
    ..PLAIN
};

/// `REDIS_REPLICAS`.
pub const REDIS_REPLICAS: Setting = Setting {
    option: "redis-replicas",
    variable: "REDIS_REPLICAS",
    allowed: Allowed::Whole { min: 0, max: 16 },
    unit: "replicas",
    development: "0",
    production: "0",
    help: "How many replicas must confirm what was written (WAIT) before it counts as stored.",
    ..PLAIN
};

/// `REDIS_TIMEOUT`.
pub const REDIS_TIMEOUT: Setting = Setting {
    option: "redis-timeout",
    variable: "REDIS_TIMEOUT",
    allowed: Allowed::Whole { min: 50, max: 60_000 },
    unit: "ms",
    development: "500",
    production: "500",
    help: "How long Redis may take to answer before it counts as away. Only storing waits for it, never the music.",
    ..PLAIN
};

/// All settings, in the order of the help.
pub const SETTINGS: [&Setting; 63] = [
    &PROFILE,
    &PORT,
    &HOST,
    &DATA_DIR,
    &LOG_LEVEL,
    &ADMIN_TOKEN,
    &SECURITY_PROFILE,
    // Threads
    &SHARDS,
    &PIN_CORES,
    &IO_URING,
    &STALL_LIMIT,
    // Connections
    &TRANSPORTS,
    &ENGINE_IO_3,
    &COMPRESSION,
    &COMPRESSION_THRESHOLD,
    &COMPRESSION_LEVEL,
    &CONTEXT_TAKEOVER,
    &RECOVERY_WINDOW,
    &SOCKET_PING_INTERVAL,
    &SOCKET_PING_TIMEOUT,
    &HEARTBEAT_INTERVAL,
    &DRAIN_TIMEOUT,
    &DRAIN_GOODBYE,
    // Sessions
    &SCROLL_TICK_INTERVAL,
    &BATCH_INTERVAL,
    &LEADER_GRACE,
    &SESSION_TTL,
    &MAX_SESSION_MEMBERS,
    &MAX_SESSIONS,
    // Security and limits
    &CORS_ORIGIN,
    &ALLOWED_HOSTS,
    &TRUSTED_PROXIES,
    &CONNECTIONS_PER_IP,
    &HANDSHAKES_PER_IP,
    &HTTP_REQUESTS_PER_IP,
    &EVENT_RATES,
    &MAX_CONNECTIONS,
    &MAX_MESSAGE_BYTES,
    // Storage
    &STORAGE,
    &STORAGE_TTL,
    &STORAGE_WAIT,
    &REDIS_URL,
    &REDIS_HOST,
    &REDIS_PORT,
    &REDIS_PASSWORD,
    &REDIS_DB,
    &REDIS_REPLICAS,
    &REDIS_TIMEOUT,
    // Log and monitoring
    &LOG_FORMAT,
    &LOG_FILE,
    &METRICS_INTERVAL,
    &SYNC_TARGET_LATENCY,
    &MEMORY_THRESHOLD,
    &MEMORY_LIMIT,
    &ALERT_LATENCY,
    &ALERT_CPU,
    &ALERT_CPU_TIME,
    &ALERT_WEBHOOK,
    // Recording and debugging
    &RECORD_DIR,
    &RECORD_MAX_BYTES,
    &RECORD_MAX_AGE,
    &RECORD_KEEP,
    &SEED,
];

/// Headings of `--help`, each with the first setting below it. Those before the first heading are
/// what most people need; `-h` shows them alone.
pub const HEADINGS: [(&Setting, &str); 7] = [
    (&SHARDS, "Threads"),
    (&TRANSPORTS, "Connections"),
    (&SCROLL_TICK_INTERVAL, "Sessions"),
    (&CORS_ORIGIN, "Security and limits"),
    (&STORAGE, "Storage"),
    (&LOG_FORMAT, "Log and monitoring"),
    (&RECORD_DIR, "Recording and debugging"),
];

/// A setting of the Node.js server that this one replaces.
#[derive(Debug)]
pub struct Predecessor {
    /// Its variables, of which one at least is given.
    pub variables: &'static [&'static str],
    /// The setting here that means the same.
    pub setting: &'static Setting,
    /// Converts the values of `variables` to the text of `setting`. `None` if they make no sense.
    pub convert: fn(&[Option<&str>]) -> Option<String>,
}

/// Variables of the Node.js server that set ours. Whatever is given under our own name counts
/// before them.
pub const PREDECESSORS: [Predecessor; 5] = [
    Predecessor { variables: &["REDIS_ENABLED"], setting: &STORAGE, convert: storage_of_switch },
    Predecessor { variables: &["REDIS_TTL"], setting: &STORAGE_TTL, convert: millis_of_seconds },
    Predecessor {
        variables: &["REDIS_COMMAND_TIMEOUT"],
        setting: &REDIS_TIMEOUT,
        convert: unchanged,
    },
    Predecessor {
        variables: &["SOCKET_MAX_BUFFER_SIZE"],
        setting: &MAX_MESSAGE_BYTES,
        convert: unchanged,
    },
    Predecessor {
        variables: &["RATE_LIMIT_MAX_REQUESTS", "RATE_LIMIT_WINDOW_MS"],
        setting: &EVENT_RATES,
        convert: total_rate,
    },
];

fn unchanged(values: &[Option<&str>]) -> Option<String> {
    Some((*values.first()?)?.to_owned())
}

/// The old server kept sessions in Redis if this was `true`, and in memory otherwise.
fn storage_of_switch(values: &[Option<&str>]) -> Option<String> {
    match *values.first()? {
        Some("true") => Some("redis".to_owned()),
        Some("false") => Some("file".to_owned()),
        _ => None,
    }
}

fn millis_of_seconds(values: &[Option<&str>]) -> Option<String> {
    let seconds: u64 = (*values.first()?)?.parse().ok()?;
    Some(seconds.checked_mul(1_000)?.to_string())
}

/// Events of one client in a window, as events in a second, rounded up. The one that is not given
/// is as it was by default.
fn total_rate(values: &[Option<&str>]) -> Option<String> {
    let [requests, window] = values else { return None };
    let requests: u64 = requests.unwrap_or("100").parse().ok()?;
    let window: u64 = window.unwrap_or("1000").parse().ok()?;
    // No event at all would be of no use, and 0 lifts the limit here.
    let fits = requests > 0 && window > 0;
    fits.then(|| format!("total={}", requests.saturating_mul(1_000).div_ceil(window)))
}

/// Other variables of the Node.js server, which mean nothing here. Besides these, whatever begins
/// with `REDIS_` and is no setting.
pub const UNUSED_VARIABLES: [&str; 10] = [
    "SERVER_ID",
    "SERVER_VERSION",
    "CONNECTION_TIMEOUT",
    "MAX_EVENT_BATCH_SIZE",
    "ENABLE_METRICS",
    "RATE_LIMIT_WINDOW",
    "RATE_LIMIT_MAX",
    "SYNC_RATE_MS",
    "DEBUG_SYNC_ENGINE",
    "DEBUG_REDIS_EVENTS",
];

/// Variables that begin with [`PREFIX`] and are for other programs of this repository.
pub const FOREIGN_VARIABLES: [&str; 3] =
    ["BANDSYNC_BIN", "BANDSYNC_PICTURES", "BANDSYNC_SERVER_URL"];

/// Each variable is also read with this before its name, which counts before the bare name.
pub const PREFIX: &str = "BANDSYNC_";

/// The place of a variable in [`SETTINGS`].
pub fn place(variable: &str) -> Option<usize> {
    SETTINGS.iter().position(|setting| setting.variable == variable)
}

impl Setting {
    /// Words that are allowed, for completion; a number or a path may be allowed besides.
    pub fn words(&self) -> Vec<&'static str> {
        match self.allowed {
            Allowed::Whole { .. } => Vec::new(),
            Allowed::WholeOr { word, .. } => vec![word],
            Allowed::OneOf(words) => words.to_vec(),
            Allowed::Told(text) => {
                let quoted = text.split('`').skip(1).step_by(2);
                quoted.filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())).collect()
            }
        }
    }

    /// The names that its variable may have; the first that is given counts.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        let own =
            (!self.variable.starts_with(PREFIX)).then(|| format!("{PREFIX}{}", self.variable));
        own.into_iter().chain([self.variable.to_owned()])
    }

    /// The heading of `--help` above it, if there is one.
    pub fn heading(&self) -> Option<&'static str> {
        let own = place(self.variable);
        let above = HEADINGS.iter().rev().find(|(first, _)| place(first.variable) <= own);
        above.map(|(_, heading)| *heading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_whole_and_named_once() {
        for (place, setting) in SETTINGS.iter().enumerate() {
            assert!(!setting.help.is_empty() && !setting.development.is_empty(), "{setting:?}");
            for other in &SETTINGS[..place] {
                assert_ne!(setting.option, other.option);
                assert_ne!(setting.variable, other.variable);
            }
            if !["BANDSYNC_ENV", "DATA_DIR", "RECORD_DIR"].contains(&setting.variable) {
                assert_eq!(setting.option, setting.variable.to_lowercase().replace('_', "-"));
            }
        }
    }

    /// Variable, default and range of each row of the table in `src/README.md` are those of the
    /// setting.
    #[test]
    fn the_readme_tells_every_setting_as_it_is() {
        let readme = include_str!("../README.md");
        let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
        let rows: Vec<Vec<&str>> = rows.map(|row| row.split(" | ").collect()).collect();
        for setting in SETTINGS {
            let variable = format!("{}`", setting.variable);
            let row = rows.iter().find(|row| row[0].split(", `").any(|name| name == variable));
            let Some([names, default, allowed, _]) = row.map(Vec::as_slice) else {
                panic!("the README has no row for {variable}")
            };
            // A row for several settings names their defaults alone.
            let many = names.contains(',');
            let has = |cell: &str, word: &str| {
                cell.split(|c: char| " ,;`".contains(c)).any(|part| part == word)
                    || cell.contains(&format!("`{word}`"))
            };
            for value in [setting.development, setting.production] {
                assert!(has(default, value), "{variable}: {value} in {default}");
            }
            if setting.development != setting.production {
                assert!(default.contains("in production"), "{variable}: {default}");
            }
            let bound = |value: u64| match value {
                u64::MAX => "2⁶⁴".to_owned(),
                value if value == 1 << 40 => "2⁴⁰".to_owned(),
                value => value.to_string(),
            };
            let expected: Vec<String> = match setting.allowed {
                _ if many => Vec::new(),
                Allowed::WholeOr { word, max: u64::MAX, .. } => {
                    vec![word.to_owned(), bound(u64::MAX)]
                }
                Allowed::Whole { min, max } => vec![bound(min), bound(max)],
                Allowed::WholeOr { word, min, max } => {
                    vec![word.to_owned(), bound(min), bound(max)]
                }
                Allowed::OneOf(words) => words.iter().map(|word| (*word).to_owned()).collect(),
                Allowed::Told(_) => Vec::new(),
            };
            for value in expected {
                assert!(has(allowed, &value), "{variable}: {value} in {allowed}");
            }
        }
    }

    #[test]
    fn headings_come_in_the_order_of_the_settings() {
        assert_eq!(PROFILE.heading(), None);
        assert_eq!(SECURITY_PROFILE.heading(), None);
        assert_eq!(SHARDS.heading(), Some("Threads"));
        assert_eq!(STALL_LIMIT.heading(), Some("Threads"));
        assert_eq!(SEED.heading(), Some("Recording and debugging"));
        let mut headings: Vec<_> =
            SETTINGS.iter().filter_map(|setting| setting.heading()).collect();
        headings.dedup();
        assert_eq!(headings, HEADINGS.map(|(_, heading)| heading));
    }

    #[test]
    fn words_can_be_completed() {
        assert_eq!(HOST.words(), ["all", "localhost"]);
        assert_eq!(LOG_LEVEL.words(), ["off", "error", "warn", "info", "debug", "trace"]);
        assert_eq!(SHARDS.words(), ["auto"]);
        assert_eq!(LOG_FORMAT.words(), ["auto", "pretty", "json"]);
        assert_eq!(PORT.words(), [""; 0]);
    }

    #[test]
    fn old_values_are_converted() {
        let converted =
            |place: usize, values: &[Option<&str>]| (PREDECESSORS[place].convert)(values);
        let check = |place, value, expected: Option<&str>| {
            assert_eq!(converted(place, &[Some(value)]).as_deref(), expected, "{value}");
        };
        check(0, "true", Some("redis"));
        check(0, "false", Some("file"));
        check(0, "maybe", None);
        check(1, "7200", Some("7200000"));
        check(1, "an hour", None);
        check(1, "99999999999999999", None);
        check(2, "5000", Some("5000"));
        for (requests, window, expected) in [
            ("120", None, Some("total=120")),
            ("100", Some("1000"), Some("total=100")),
            ("100", Some("3000"), Some("total=34")),
            ("1", Some("60000"), Some("total=1")),
            ("0", Some("1000"), None),
            ("100", Some("0"), None),
            ("many", None, None),
        ] {
            assert_eq!(
                converted(4, &[Some(requests), window]).as_deref(),
                expected,
                "{requests} {window:?}"
            );
        }
        assert_eq!(converted(4, &[None, Some("500")]).as_deref(), Some("total=200"));
    }
}
