//! What a shard is told once, before its first input.

use serde::{Deserialize, Serialize};

use crate::words::compression::Compression;
use crate::words::ids::ShardId;
use crate::words::limits::Limits;
use crate::words::origins::Origins;
use crate::words::policy::AccessPolicy;
use crate::words::rng::Seed;
use crate::words::time::Micros;

/// What a shard is told once, before its first input. With the inputs it determines every output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Which shard this is.
    pub shard: ShardId,
    /// How many there are.
    pub shards: u16,
    /// Where all randomness comes from, of this shard and the others.
    pub seed: Seed,
    /// Unix time at the server's start, in milliseconds.
    pub started_unix_ms: i64,
    /// Bounds.
    pub limits: Limits,
    /// Between two `scroll_tick`s of a session.
    pub tick_interval: Micros,
    /// How long events to a session may wait to go out together; zero = until the end of the turn.
    pub batch_interval: Micros,
    /// Engine.IO's heartbeat.
    pub ping_interval: Micros,
    /// How long a ping may stay unanswered.
    pub ping_timeout: Micros,
    /// Between two `ping` events of the application heartbeat.
    pub heartbeat_interval: Micros,
    /// How long the seat of a leader whose connection dropped is kept.
    pub leader_grace: Micros,
    /// Members a session may have unless its own settings say less.
    pub session_members_max: u32,
    /// Which web pages may connect.
    pub origins: Origins,
    /// What clients may speak.
    pub transports: Transports,
    /// What is expected of those who come.
    pub policy: AccessPolicy,
    /// How long who joins a session that is not in memory waits for what is stored of it; `None` =
    /// nothing is stored, so nobody waits.
    pub storage_wait: Option<Micros>,
    /// How clients are told that the server goes away.
    pub goodbye: Goodbye,
}

/// How clients are told that the server goes away, besides the event `error` and a WebSocket's
/// close code 1001.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum Goodbye {
    /// With Socket.IO's disconnect, after which its clients stay away until they are told to
    /// connect.
    Disconnect,
    /// With nothing else: its clients come back by themselves.
    #[default]
    Reconnect,
}

/// What clients may speak besides Engine.IO 4 on a bare WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transports {
    /// Whether clients may begin with HTTP long-polling and go over to a WebSocket from there.
    pub polling: bool,
    /// Whether Engine.IO 3 is spoken, the language of socket.io-client 1 and 2.
    pub version_3: Version3,
    /// How messages are compressed on WebSockets whose clients offer it; `None` = not at all.
    pub compression: Option<Compression>,
    /// For how long a member that lost its connection may come back as who it was; zero = not at
    /// all.
    pub recovery: Micros,
}

/// How clients of Engine.IO 3 may connect.
///
/// The id that their requests name is the id that other members see. One that polls is therefore
/// known by its address, and by its cookie once it has returned that; a WebSocket names its session
/// once.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Version3 {
    /// Not at all.
    Off,
    /// As others.
    On,
    /// By WebSocket from the beginning.
    WebSocketOnly,
}

impl Default for Transports {
    /// What Socket.IO's clients expect.
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
    /// One shard as a development server runs it, with a seed that is no secret.
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
        }
    }
}
