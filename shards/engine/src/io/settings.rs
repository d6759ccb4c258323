//! The settings of a shard.

use serde::{Deserialize, Serialize};

use super::node::Cluster;
use crate::words::compression::Compression;
use crate::words::ids::ShardId;
use crate::words::limits::Limits;
use crate::words::origins::Origins;
use crate::words::policy::AccessPolicy;
use crate::words::rng::Seed;
use crate::words::time::Micros;

/// The settings that a shard receives once, before its first input. Together with the inputs they
/// determine every output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The number of this shard.
    pub shard: ShardId,
    /// The number of shards.
    pub shards: u16,
    /// The seed of all random numbers, of this shard and the others.
    pub seed: Seed,
    /// Unix time at the server's start, in milliseconds.
    pub started_unix_ms: i64,
    /// Bounds on memory, time and sizes.
    pub limits: Limits,
    /// Time between two `scroll_tick`s of a session.
    pub tick_interval: Micros,
    /// Length of a batch window, for which events to a session wait so that they are sent together.
    /// Zero: until the end of the turn.
    pub batch_interval: Micros,
    /// Time between two pings of Engine.IO.
    pub ping_interval: Micros,
    /// Maximum time until a ping of Engine.IO is answered.
    pub ping_timeout: Micros,
    /// Time between two `ping` events of the application heartbeat.
    pub heartbeat_interval: Micros,
    /// Time for which the seat of a lost leader is held.
    pub leader_grace: Micros,
    /// Maximum number of members of a session, unless its own settings say less.
    pub session_members_max: u32,
    /// The web pages that may connect.
    pub origins: Origins,
    /// The transports and versions that clients may use.
    pub transports: Transports,
    /// Rules for clients: rates, addresses, names, secrets.
    pub policy: AccessPolicy,
    /// Maximum time for which a join waits for its session to be loaded. `None`: nothing is stored,
    /// so no join waits.
    pub storage_wait: Option<Micros>,
    /// The goodbye to clients when the server goes away.
    pub goodbye: Goodbye,
    /// The cluster that the shard's node belongs to. `None`: the server is alone. Not recorded yet.
    #[serde(skip)]
    pub cluster: Option<Cluster>,
}

/// The goodbye to clients when the server goes away, besides the event `error` and close code 1001
/// of a WebSocket.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum Goodbye {
    /// A disconnect of Socket.IO. Its clients then stay away until the application connects again.
    Disconnect,
    /// Nothing else: clients reconnect by themselves.
    #[default]
    Reconnect,
}

/// Transports and versions that clients may use besides Engine.IO 4 on a bare WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transports {
    /// Whether clients may begin with HTTP long-polling and upgrade to a WebSocket from there.
    pub polling: bool,
    /// The use of Engine.IO 3, which socket.io-client 1 and 2 speak.
    pub version_3: Version3,
    /// The compression of messages on WebSockets whose clients offer it. `None`: none.
    pub compression: Option<Compression>,
    /// Time for which a member that lost its connection may return to its seat. Zero: never.
    pub recovery: Micros,
}

/// The ways in which clients of Engine.IO 3 may connect.
///
/// Their requests name the same id that other members see, so the id proves nothing. A client that
/// polls is therefore recognized by its address, and by its cookie once it has returned one. A
/// WebSocket names its id only once.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Version3 {
    /// Rejected.
    Off,
    /// Accepted, by WebSocket and by long-polling.
    On,
    /// Accepted by WebSocket only.
    WebSocketOnly,
}

impl Default for Transports {
    /// Returns the settings that Socket.IO's clients expect.
    fn default() -> Self {
        Self {
            polling: true,
            version_3: Version3::On,
            compression: Some(Compression::default()),
            recovery: Micros::from_secs(120),
        }
    }
}

impl Default for Settings {
    /// Returns the settings of a development server with one shard and a seed that is no secret.
    fn default() -> Self {
        Self {
            shard: ShardId(0),
            shards: 1,
            seed: Seed::from(0),
            started_unix_ms: 0,
            limits: Limits::PRODUCTION,
            tick_interval: Micros::from_millis(16),
            batch_interval: Micros::from_millis(5),
            ping_interval: Micros::from_millis(2_500),
            ping_timeout: Micros::from_secs(5),
            heartbeat_interval: Micros::from_secs(5),
            leader_grace: Micros::from_secs(10),
            session_members_max: 256,
            origins: Origins::Own,
            transports: Transports::default(),
            policy: AccessPolicy::default(),
            storage_wait: None,
            goodbye: Goodbye::default(),
            cluster: None,
        }
    }
}
