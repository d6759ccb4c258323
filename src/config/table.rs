//! Table of all settings: names, meaning, allowed values and defaults.
//!
//! The command line, its help, the environment, the checks and the table in `src/README.md` are all
//! made from it.

use std::fmt;

/// A setting.
#[derive(Debug)]
pub struct Setting {
    /// Option of the command line, without the dashes.
    pub option: &'static str,
    /// Variable of the environment and of `.env`.
    pub variable: &'static str,
    /// Values that it may have.
    pub allowed: Allowed,
    /// Unit of a number; empty if none is needed.
    pub unit: &'static str,
    /// Default in development.
    pub development: &'static str,
    /// Default in production.
    pub production: &'static str,
    /// Whether the value must not be logged.
    pub secret: bool,
    /// Effect, in sentences.
    pub help: &'static str,
    /// Effect in a few words, for `-h`; empty if `-h` leaves the setting out.
    pub short: &'static str,
}

/// Values that a setting may have.
#[derive(Debug)]
pub enum Allowed {
    /// A whole number, both bounds included.
    Whole { min: u64, max: u64 },
    /// A whole number, or a word that leaves the choice to the server.
    WholeOr { word: &'static str, min: u64, max: u64 },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Values that this sentence describes.
    Described(&'static str),
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::WholeOr { word, min, max } => {
                write!(f, "`{word}` or a whole number from {min} to {max}")
            }
            Self::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Self::Described(what) => f.write_str(what),
        }
    }
}

/// Values that most settings have in common.
const PLAIN: Setting = Setting {
    option: "",
    variable: "",
    allowed: Allowed::Described(""),
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
    help: "Set of defaults. If it is not set, NODE_ENV counts if it is `development` or \
           `production`.",
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
    help: "TCP port for everything: WebSocket, pages, health. 0 takes any free port.",
    short: "TCP port, 0 for any free one [3001]",
    ..PLAIN
};

/// `HOST`.
pub const HOST: Setting = Setting {
    option: "host",
    variable: "HOST",
    allowed: Allowed::Described("`all`, `localhost` or an IP address of this machine"),
    development: "all",
    production: "all",
    help: "Address to listen on. With `all`, tablets on the same Wi-Fi can connect; `localhost` \
           serves this machine only.",
    short: "all, localhost or an IP address [all]",
    ..PLAIN
};

/// `MDNS`.
pub const MDNS: Setting = Setting {
    option: "mdns",
    variable: "MDNS",
    allowed: Allowed::OneOf(&["auto", "on", "off"]),
    development: "auto",
    production: "auto",
    help: "Whether the server is announced in the local network as `bandsync.local` (mDNS), so \
           that tablets need no address. If another machine has that name, it is \
           `bandsync-2.local` and so on; the text at start shows the name. A server that \
           listens on this machine only announces nothing. `auto` is `off` on `internet`.",
    ..PLAIN
};

/// `SHARDS`.
pub const SHARDS: Setting = Setting {
    option: "shards",
    variable: "SHARDS",
    allowed: Allowed::WholeOr { word: "auto", min: 1, max: 256 },
    development: "auto",
    production: "auto",
    help: "Number of threads that serve members. `auto` is one per core of the affinity mask, \
           or fewer if a CPU quota (cgroup) allows fewer.",
    ..PLAIN
};

/// `PIN_CORES`.
pub const PIN_CORES: Setting = Setting {
    option: "pin-cores",
    variable: "PIN_CORES",
    allowed: Allowed::OneOf(&["auto", "on", "off"]),
    development: "auto",
    production: "auto",
    help: "Whether each shard stays on a core of its own. `auto` pins if there are as many \
           shards as cores in the affinity mask and no CPU quota. `on` pins shard 0 to the \
           first core, so two servers with one shard each would share that core.",
    ..PLAIN
};

/// `IO_URING`.
pub const IO_URING: Setting = Setting {
    option: "io-uring",
    variable: "IO_URING",
    allowed: Allowed::OneOf(&["auto", "on", "off"]),
    development: "auto",
    production: "auto",
    help: "Whether the frames of a turn are given to the kernel together. `auto` and `on` do so \
           if the kernel has io_uring and permits it.",
    ..PLAIN
};

/// `TURN_BUDGET`.
pub const TURN_BUDGET: Setting = Setting {
    option: "turn-budget",
    variable: "TURN_BUDGET",
    allowed: Allowed::Whole { min: 200, max: 10_000 },
    unit: "µs",
    development: "1000",
    production: "1000",
    help: "Time in which a shard should end one round of reading, computing and sending while \
           music plays. What is left waits for the next round. A smaller one makes ticks more \
           punctual beside large sessions, and costs CPU time.",
    ..PLAIN
};

/// `LOG_LEVEL`.
pub const LOG_LEVEL: Setting = Setting {
    option: "log-level",
    variable: "LOG_LEVEL",
    allowed: Allowed::Described(
        "`off`, `error`, `warn`, `info`, `debug` or `trace`, also for parts: `warn,bandsync_storage=debug`",
    ),
    development: "info",
    production: "warn",
    help: "Minimum level that is logged. The log goes to standard error. A level for a part of \
           the program follows its name and `=`; the longest name that matches counts.",
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
    help: "Form of log lines. `auto` is `pretty` on a terminal and in development, otherwise \
           one JSON object per line.",
    ..PLAIN
};

/// `CORS_ORIGIN`.
pub const CORS_ORIGIN: Setting = Setting {
    option: "cors-origin",
    variable: "CORS_ORIGIN",
    allowed: Allowed::Described("`own`, `*`, or a comma-separated list of scheme://host[:port]"),
    development: "own",
    production: "own",
    help: "Web pages that may connect besides the server's own. The default allows no others: \
           any page open in a member's browser could otherwise join and lead. Programs and \
           native apps send no origin and are not affected.",
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
    help: "Latency to aim at. /metrics reports it as `targetLatency`, and a mean of more than \
           twice this raises an alert.",
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
    help: "Time between two scroll_tick events of a session that plays.",
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
    help: "Maximum time that the events of a session wait to be sent together. Chat may wait \
           one more interval for every 32 members, at most four in all. 0 sends at once.",
    ..PLAIN
};

/// `TRANSPORTS`.
pub const TRANSPORTS: Setting = Setting {
    option: "transports",
    variable: "TRANSPORTS",
    allowed: Allowed::OneOf(&["polling,websocket", "websocket"]),
    development: "polling,websocket",
    production: "polling,websocket",
    help: "Transports that clients may use. Clients with default options, and networks that \
           block WebSockets, need HTTP long-polling; `websocket` turns it off.",
    ..PLAIN
};

/// `ENGINE_IO_3`.
pub const ENGINE_IO_3: Setting = Setting {
    option: "engine-io-3",
    variable: "ENGINE_IO_3",
    allowed: Allowed::OneOf(&["auto", "on", "off"]),
    development: "auto",
    production: "auto",
    help: "Whether socket.io-client 2.x (Engine.IO 3, `EIO=3`) may connect. All members of a \
           session can see the id with which such a client polls. So the server also checks \
           its address and, once the client has returned it, the cookie `io`. `auto` on \
           `internet` allows WebSockets only; `on` allows polling there too.",
    ..PLAIN
};

/// `COMPRESSION`.
pub const COMPRESSION: Setting = Setting {
    option: "compression",
    variable: "COMPRESSION",
    allowed: Allowed::OneOf(&["on", "off"]),
    development: "on",
    production: "on",
    help: "Whether messages are compressed for clients that offer it (permessage-deflate), and \
           polling responses for clients that accept gzip. Ticks are never compressed.",
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
    help: "Minimum size of a message that is compressed.",
    ..PLAIN
};

/// `COMPRESSION_LEVEL`.
pub const COMPRESSION_LEVEL: Setting = Setting {
    option: "compression-level",
    variable: "COMPRESSION_LEVEL",
    allowed: Allowed::Whole { min: 1, max: 9 },
    development: "3",
    production: "3",
    help: "Compression level, from 1 (fast) to 9 (small).",
    ..PLAIN
};

/// `CONTEXT_TAKEOVER`.
pub const CONTEXT_TAKEOVER: Setting = Setting {
    option: "context-takeover",
    variable: "CONTEXT_TAKEOVER",
    allowed: Allowed::OneOf(&["on", "off"]),
    development: "off",
    production: "off",
    help: "Whether a compressed message may refer to earlier ones. This saves more bytes, but \
           costs up to 64 KiB per connection that uses it, and each receiver needs its own \
           compression instead of one for all.",
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
    help: "Time for which a client whose connection broke may return to its seat and receive \
           the events that it missed. 0 turns recovery off.",
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
    help: "Time between two Engine.IO pings to a client.",
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
    help: "Time that an Engine.IO ping may stay unanswered before the connection counts as lost.",
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
    help: "Time between two `ping` events of the application's own heartbeat.",
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
    help: "Maximum members of a session, unless its own settings allow fewer.",
    ..PLAIN
};

/// `MAX_CONNECTIONS`.
pub const MAX_CONNECTIONS: Setting = Setting {
    option: "max-connections",
    variable: "MAX_CONNECTIONS",
    allowed: Allowed::Whole { min: 1, max: 1_000_000 },
    unit: "connections per shard",
    development: "100000",
    production: "100000",
    help: "Maximum connections of one shard. Further ones receive status 503. The limit is per \
           shard because a session and all its members live on one shard.",
    ..PLAIN
};

/// `MAX_SESSIONS`.
pub const MAX_SESSIONS: Setting = Setting {
    option: "max-sessions",
    variable: "MAX_SESSIONS",
    allowed: Allowed::Whole { min: 1, max: 1_000_000 },
    unit: "sessions per shard",
    development: "100000",
    production: "100000",
    help: "Maximum sessions that one shard keeps in memory. A further one replaces the session \
           that has been empty longest.",
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
    help: "Size of the largest WebSocket message that a client may send. A larger one closes \
           its connection.",
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
    help: "Time for which the seat of a leader whose connection broke is held. The music goes \
           on meanwhile.",
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
    help: "Time after which a session without members is deleted, from memory and from the \
           storage.",
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
    help: "Maximum time for the goodbyes when the server stops.",
    ..PLAIN
};

/// `DRAIN_GOODBYE`.
pub const DRAIN_GOODBYE: Setting = Setting {
    option: "drain-goodbye",
    variable: "DRAIN_GOODBYE",
    allowed: Allowed::OneOf(&["reconnect", "disconnect"]),
    development: "reconnect",
    production: "reconnect",
    help: "Goodbye that clients receive when the server stops. After `reconnect`, \
           socket.io-client reconnects by itself; after `disconnect`, it stays away until its \
           program calls connect().",
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
    help: "Time that a shard may hang before the server aborts, so that a supervisor restarts \
           it. 0 never aborts.",
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
    help: "Seed for all random numbers. For debugging only: it makes socket ids predictable.",
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
    help: "Time after which percentiles start again and a row of /metrics/history is written.",
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
    help: "Memory above which the server drops caches, closes slow readers and raises an alert.",
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
    help: "Memory above which new members are rejected with status 503, so that those who play \
           can go on.",
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
    help: "Round trip to members (99th percentile) above which an alert is raised. A mean above \
           twice SYNC_TARGET_LATENCY raises one too.",
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
    help: "Part of its core that a thread may use. A thread that is busier for ALERT_CPU_TIME \
           raises an alert.",
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
    help: "Time that a thread may be busier than ALERT_CPU before an alert is raised.",
    ..PLAIN
};

/// `ALERT_WEBHOOK`.
pub const ALERT_WEBHOOK: Setting = Setting {
    option: "alert-webhook",
    variable: "ALERT_WEBHOOK",
    allowed: Allowed::Described("`none` or an address that begins with https:// or http://"),
    development: "none",
    production: "none",
    secret: true,
    help: "Address that alerts are posted to as JSON when they are raised and cleared; Slack \
           accepts them unchanged. SSL_CERT_FILE names an authority of your own, HTTPS_PROXY a \
           proxy. The address may carry a token, so it is never logged.",
    ..PLAIN
};

/// `ADMIN_TOKEN`.
pub const ADMIN_TOKEN: Setting = Setting {
    option: "admin-token",
    variable: "ADMIN_TOKEN",
    allowed: Allowed::Described("`none` or 16 to 256 visible characters without spaces"),
    development: "none",
    production: "none",
    secret: true,
    help: "Token that opens the dashboard and the metrics from any machine. Once it is set, \
           requests from this machine need it too; without it, only this machine may see them. \
           Set it in the environment rather than on the command line, which every user of the \
           machine can read.",
    ..PLAIN
};

/// `LOG_FILE`.
pub const LOG_FILE: Setting = Setting {
    option: "log-file",
    variable: "LOG_FILE",
    allowed: Allowed::Described("`none` or the path of a file"),
    development: "none",
    production: "none",
    help: "File that the log goes to instead of standard error. SIGHUP reopens it, for programs \
           that rotate logs.",
    ..PLAIN
};

/// `SECURITY_PROFILE`.
pub const SECURITY_PROFILE: Setting = Setting {
    option: "security-profile",
    variable: "SECURITY_PROFILE",
    allowed: Allowed::OneOf(&["lan", "internet"]),
    development: "lan",
    production: "lan",
    help: "Network that the server is in. `lan`: pages must use an address or a local name, and \
           one address may have many connections, since a venue may share one address. \
           `internet`: strict limits, and passcodes and PINs of at least 8 characters; the \
           server starts only with TRUSTED_PROXIES (the proxy that ends TLS) or TLS_CERT, and a \
           list in CORS_ORIGIN.",
    short: "lan, or internet with TLS [lan]",
    ..PLAIN
};

/// `TLS_CERT`.
pub const TLS_CERT: Setting = Setting {
    option: "tls-cert",
    variable: "TLS_CERT",
    allowed: Allowed::Described("`none` or the path of a file"),
    development: "none",
    production: "none",
    help: "Certificate of the server, followed by those that vouch for it, in PEM form. With it \
           and TLS_KEY the server speaks TLS itself, on the same port, and answers `http://` with \
           a redirect. The files are read again when they change, and after SIGHUP.",
    ..PLAIN
};

/// `TLS_KEY`.
pub const TLS_KEY: Setting = Setting {
    option: "tls-key",
    variable: "TLS_KEY",
    allowed: Allowed::Described("`none` or the path of a file"),
    development: "none",
    production: "none",
    help: "Private key of TLS_CERT, in PEM form without a passphrase.",
    ..PLAIN
};

/// `TRUSTED_PROXIES`.
pub const TRUSTED_PROXIES: Setting = Setting {
    option: "trusted-proxies",
    variable: "TRUSTED_PROXIES",
    allowed: Allowed::Described(
        "`none`, or a comma-separated list of addresses and networks like 10.0.0.0/8",
    ),
    development: "none",
    production: "none",
    help: "Proxies whose X-Forwarded-For is believed. The limits per address then count the \
           clients behind them, not the proxies.",
    ..PLAIN
};

/// `ALLOWED_HOSTS`.
pub const ALLOWED_HOSTS: Setting = Setting {
    option: "allowed-hosts",
    variable: "ALLOWED_HOSTS",
    allowed: Allowed::Described("`auto`, `*`, or a comma-separated list of names"),
    development: "auto",
    production: "auto",
    help: "Host names that requests may use for this server. It rejects other names, because \
           an attacker could point a name of their own at this address and read the pages \
           (DNS rebinding). `auto` on `lan`: IP addresses, names without a dot, .local, \
           .localhost, .lan, .internal, .home.arpa, and the hosts of CORS_ORIGIN; a list is \
           added to these. `auto` on `internet`: any name; but if no ADMIN_TOKEN is set, \
           dashboard and metrics require a name of the `lan` list. `*`: any name.",
    ..PLAIN
};

/// `CONNECTIONS_PER_IP`.
pub const CONNECTIONS_PER_IP: Setting = Setting {
    option: "connections-per-ip",
    variable: "CONNECTIONS_PER_IP",
    allowed: Allowed::WholeOr { word: "auto", min: 0, max: 1_000_000 },
    unit: "connections per shard",
    development: "auto",
    production: "auto",
    help: "Maximum connections of one address. Further ones receive status 429. 0 lifts the \
           limit. `auto` is 32 on `internet`, and on `lan` 256, with no limit for this machine. \
           An IPv6 /64 counts as one address.",
    ..PLAIN
};

/// `HANDSHAKES_PER_IP`.
pub const HANDSHAKES_PER_IP: Setting = Setting {
    option: "handshakes-per-ip",
    variable: "HANDSHAKES_PER_IP",
    allowed: Allowed::WholeOr { word: "auto", min: 0, max: 1_000_000 },
    unit: "connections per second and shard",
    development: "auto",
    production: "auto",
    help: "Maximum new connections of one address, with bursts of twice that. Further ones \
           receive status 429. 0 lifts the limit. `auto` is 10 on `internet`, and on `lan` 100, \
           with no limit for this machine.",
    ..PLAIN
};

/// `HTTP_REQUESTS_PER_IP`.
pub const HTTP_REQUESTS_PER_IP: Setting = Setting {
    option: "http-requests-per-ip",
    variable: "HTTP_REQUESTS_PER_IP",
    allowed: Allowed::Whole { min: 0, max: 1_000_000 },
    unit: "requests per second",
    development: "100",
    production: "100",
    help: "Maximum HTTP requests of one address, over all shards. Further ones receive status \
           429. 0 lifts the limit.",
    ..PLAIN
};

/// `EVENT_RATES`.
pub const EVENT_RATES: Setting = Setting {
    option: "event-rates",
    variable: "EVENT_RATES",
    allowed: Allowed::Described(
        "`default`, or a comma-separated list of event=rate; 0 lifts a limit",
    ),
    development: "default",
    production: "default",
    help: "Maximum events per second of one client, with bursts of twice that: \
           position_sync=50, sync_request=10, chat_message=10, latency_probe=20, \
           clock_sync=20, tempo_change=5, join_session=2, other=5 (each), total=100; and \
           refusals=10 per minute, after which the client is closed. A list changes the \
           events that it names. metronome_tick is accepted and ignored, because no client \
           sends it.",
    ..PLAIN
};

/// `RECORD_DIR`.
pub const RECORD_DIR: Setting = Setting {
    option: "record",
    variable: "RECORD_DIR",
    allowed: Allowed::Described("`off` or a directory"),
    development: "off",
    production: "off",
    help: "Directory to record every input in, for `bandsync replay` and `bandsync trace`. \
           Secrets are covered, and nothing is compressed meanwhile. Anyone who can read a \
           recording can read what members wrote.",
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
    help: "Size at which a recording continues in another file.",
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
    help: "Time span at which a recording continues in another file.",
    ..PLAIN
};

/// `RECORD_KEEP`.
pub const RECORD_KEEP: Setting = Setting {
    option: "record-keep",
    variable: "RECORD_KEEP",
    allowed: Allowed::Whole { min: 1, max: 100_000 },
    unit: "files per shard",
    development: "64",
    production: "64",
    help: "Files kept in the directory; the oldest are removed. Once the first file of a run is \
           gone, the run can be inspected but not replayed.",
    ..PLAIN
};

/// `STORAGE`.
pub const STORAGE: Setting = Setting {
    option: "storage",
    variable: "STORAGE",
    allowed: Allowed::OneOf(&["auto", "file", "redis", "memory"]),
    development: "auto",
    production: "auto",
    help: "Kind of storage in which sessions outlive the process. `auto` is Redis if \
           REDIS_URL or REDIS_HOST is set, otherwise a file; `memory` stores nothing.",
    ..PLAIN
};

/// `DATA_DIR`.
pub const DATA_DIR: Setting = Setting {
    option: "data",
    variable: "DATA_DIR",
    allowed: Allowed::Described("`auto` or a directory, which is created if it is missing"),
    development: "auto",
    production: "auto",
    help: "Directory of the file with the sessions. `auto` is the directory that the system \
           provides for the data of programs.",
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
    help: "Time that the sessions of a server that has ended stay stored. In Redis it counts \
           from the server's end, in a file from its next start. A running server deletes \
           empty sessions after SESSION_TTL.",
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
    help: "Time that a join waits for its session to be loaded. After that the session starts \
           from nothing.",
    ..PLAIN
};

/// `REDIS_URL`.
pub const REDIS_URL: Setting = Setting {
    option: "redis-url",
    variable: "REDIS_URL",
    allowed: Allowed::Described(
        "`none`, redis://[user:password@]host[:port][/db], redis+cluster://host:port,…, or \
         redis+sentinel://host:port,…/service[/db]; rediss for TLS",
    ),
    development: "none",
    production: "none",
    secret: true,
    help: "Address of Redis. It takes precedence over REDIS_HOST and the variables that belong \
           to it.",
    ..PLAIN
};

/// `REDIS_HOST`.
pub const REDIS_HOST: Setting = Setting {
    option: "redis-host",
    variable: "REDIS_HOST",
    allowed: Allowed::Described("`none` or a host name or address"),
    development: "none",
    production: "none",
    help: "Machine that Redis runs on.",
    ..PLAIN
};

/// `REDIS_PORT`.
pub const REDIS_PORT: Setting = Setting {
    option: "redis-port",
    variable: "REDIS_PORT",
    allowed: Allowed::Whole { min: 1, max: 65_535 },
    development: "6379",
    production: "6379",
    help: "Port of Redis on REDIS_HOST.",
    ..PLAIN
};

/// `REDIS_PASSWORD`.
pub const REDIS_PASSWORD: Setting = Setting {
    option: "redis-password",
    variable: "REDIS_PASSWORD",
    allowed: Allowed::Described("`none` or the password"),
    development: "none",
    production: "none",
    secret: true,
    help: "Password of Redis on REDIS_HOST. Other users of this machine can read the command line.",
    ..PLAIN
};

/// `REDIS_DB`.
pub const REDIS_DB: Setting = Setting {
    option: "redis-db",
    variable: "REDIS_DB",
    allowed: Allowed::Whole { min: 0, max: 65_535 },
    development: "0",
    production: "0",
    help: "Database of Redis on REDIS_HOST.",
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
    help: "Replicas that must confirm a write (WAIT) before it counts as stored.",
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
    help: "Time that Redis may take to answer before it counts as unavailable. Only storing \
           waits for it, never the music.",
    ..PLAIN
};

/// `CLUSTER`.
pub const CLUSTER: Setting = Setting {
    option: "cluster",
    variable: "CLUSTER",
    allowed: Allowed::OneOf(&["auto", "on", "off"]),
    development: "off",
    production: "off",
    help: "Whether servers with the same Redis are nodes of one cluster, so that members on any \
           of them share their sessions. `on` requires a Redis that can do it (6.2 or later, \
           noeviction); with `auto`, the server runs alone otherwise, and the log says why.",
    ..PLAIN
};

/// `CLUSTER_BUCKETS`.
pub const CLUSTER_BUCKETS: Setting = Setting {
    option: "cluster-buckets",
    variable: "CLUSTER_BUCKETS",
    allowed: Allowed::Whole { min: 1, max: 1_024 },
    unit: "buckets",
    development: "64",
    production: "64",
    help: "Number of parts into which a cluster divides its sessions. It is the same on all \
           nodes, and stays as it was when the cluster was founded.",
    ..PLAIN
};

/// `CLUSTER_SECRET`.
pub const CLUSTER_SECRET: Setting = Setting {
    option: "cluster-secret",
    variable: "CLUSTER_SECRET",
    allowed: Allowed::Described("`none` or at least 16 characters"),
    development: "none",
    production: "none",
    secret: true,
    help: "Secret of all nodes, with which they sign their messages. Without it, a node obeys \
           every program that may publish in its Redis. Other users of this machine can read \
           the command line.",
    ..PLAIN
};

/// `LEASE_TTL`.
pub const LEASE_TTL: Setting = Setting {
    option: "lease-ttl",
    variable: "LEASE_TTL",
    allowed: Allowed::Whole { min: 800, max: 10_000 },
    unit: "ms",
    development: "2000",
    production: "2000",
    help: "Time after which a node that gives no sign of life counts as lost, so that other \
           nodes take its sessions over. It is the same on all nodes.",
    ..PLAIN
};

/// `NODE_NAME`.
pub const NODE_NAME: Setting = Setting {
    option: "node-name",
    variable: "NODE_NAME",
    allowed: Allowed::Described("`auto` or a name of at most 64 characters"),
    development: "auto",
    production: "auto",
    help: "Name of this node, which no other node of its cluster has. `auto` is the name of the \
           machine and the port.",
    ..PLAIN
};

/// `NODE_URL`.
pub const NODE_URL: Setting = Setting {
    option: "node-url",
    variable: "NODE_URL",
    allowed: Allowed::Described("`none` or http://host[:port]; https for TLS"),
    development: "none",
    production: "none",
    help: "Address at which members reach this node and no other.",
    ..PLAIN
};

/// `REGION`.
pub const REGION: Setting = Setting {
    option: "region",
    variable: "REGION",
    allowed: Allowed::Described("`none` or a name of at most 64 characters"),
    development: "none",
    production: "none",
    help: "Name of the place where this node runs, for operators.",
    ..PLAIN
};

/// All settings, in the order of the help.
pub const SETTINGS: [&Setting; 74] = [
    &PROFILE,
    &PORT,
    &HOST,
    &MDNS,
    &DATA_DIR,
    &LOG_LEVEL,
    &ADMIN_TOKEN,
    &SECURITY_PROFILE,
    // Threads
    &SHARDS,
    &PIN_CORES,
    &IO_URING,
    &TURN_BUDGET,
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
    &TLS_CERT,
    &TLS_KEY,
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
    // Cluster
    &CLUSTER,
    &CLUSTER_BUCKETS,
    &CLUSTER_SECRET,
    &LEASE_TTL,
    &NODE_NAME,
    &NODE_URL,
    &REGION,
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

/// Headings of `--help`, each with the first setting below it. The settings before the first
/// heading are those that most people need; `-h` shows only these.
pub const HEADINGS: [(&Setting, &str); 8] = [
    (&SHARDS, "Threads"),
    (&TRANSPORTS, "Connections"),
    (&SCROLL_TICK_INTERVAL, "Sessions"),
    (&CORS_ORIGIN, "Security and limits"),
    (&STORAGE, "Storage"),
    (&CLUSTER, "Cluster"),
    (&LOG_FORMAT, "Log and monitoring"),
    (&RECORD_DIR, "Recording and debugging"),
];

/// A setting of the Node.js server that one of ours replaces.
#[derive(Debug)]
pub struct Predecessor {
    /// Its variables. At least one of them is given.
    pub variables: &'static [&'static str],
    /// Our setting with the same meaning.
    pub setting: &'static Setting,
    /// Converts the values of `variables` to the text of `setting`. `None` if they make no sense.
    pub convert: fn(&[Option<&str>]) -> Option<String>,
}

/// Variables of the Node.js server that set ours. A value under our own name takes precedence.
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

/// The Node.js server stored sessions in Redis if this was `true`, and kept them in memory
/// otherwise.
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

/// Converts events per window to events per second, rounded up. A value that is not given has the
/// Node.js server's default.
fn total_rate(values: &[Option<&str>]) -> Option<String> {
    let [requests, window] = values else { return None };
    let requests: u64 = requests.unwrap_or("100").parse().ok()?;
    let window: u64 = window.unwrap_or("1000").parse().ok()?;
    // A limit of no events is useless, and 0 means no limit here.
    let fits = requests > 0 && window > 0;
    fits.then(|| format!("total={}", requests.saturating_mul(1_000).div_ceil(window)))
}

/// Other variables of the Node.js server, which have no effect here. So do all that begin with
/// `REDIS_` and are no settings.
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

/// Variables that begin with [`PREFIX`] and belong to other programs of this repository.
pub const FOREIGN_VARIABLES: [&str; 3] =
    ["BANDSYNC_BIN", "BANDSYNC_PICTURES", "BANDSYNC_SERVER_URL"];

/// Prefix under which each variable is also read; it takes precedence over the bare name.
pub const PREFIX: &str = "BANDSYNC_";

/// Returns the index of a variable in [`SETTINGS`].
pub fn index_of(variable: &str) -> Option<usize> {
    SETTINGS.iter().position(|setting| setting.variable == variable)
}

impl Setting {
    /// Words that are allowed, for completion. A number or a path may be allowed too.
    pub fn words(&self) -> Vec<&'static str> {
        match self.allowed {
            Allowed::Whole { .. } => Vec::new(),
            Allowed::WholeOr { word, .. } => vec![word],
            Allowed::OneOf(words) => words.to_vec(),
            Allowed::Described(text) => {
                let quoted = text.split('`').skip(1).step_by(2);
                quoted.filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())).collect()
            }
        }
    }

    /// Returns the names of its variable. The first that is given counts.
    pub fn variables(&self) -> impl Iterator<Item = String> {
        let own =
            (!self.variable.starts_with(PREFIX)).then(|| format!("{PREFIX}{}", self.variable));
        own.into_iter().chain([self.variable.to_owned()])
    }

    /// Returns the heading of `--help` above it, if any.
    pub fn heading(&self) -> Option<&'static str> {
        let own = index_of(self.variable);
        let above = HEADINGS.iter().rev().find(|(first, _)| index_of(first.variable) <= own);
        above.map(|(_, heading)| *heading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_complete_and_has_a_unique_name() {
        for (index, setting) in SETTINGS.iter().enumerate() {
            assert!(!setting.help.is_empty() && !setting.development.is_empty(), "{setting:?}");
            for other in &SETTINGS[..index] {
                assert_ne!(setting.option, other.option);
                assert_ne!(setting.variable, other.variable);
            }
            if !["BANDSYNC_ENV", "DATA_DIR", "RECORD_DIR"].contains(&setting.variable) {
                assert_eq!(setting.option, setting.variable.to_lowercase().replace('_', "-"));
            }
        }
    }

    #[test]
    fn headings_follow_the_order_of_the_settings() {
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
            |index: usize, values: &[Option<&str>]| (PREDECESSORS[index].convert)(values);
        let check = |index, value, expected: Option<&str>| {
            assert_eq!(converted(index, &[Some(value)]).as_deref(), expected, "{value}");
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
