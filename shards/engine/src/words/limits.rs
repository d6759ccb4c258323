//! The bounds of every queue, buffer and table. There are two sets: [`Limits::PRODUCTION`], and
//! [`Limits::TINY`], under which tests meet each bound within seconds.

use serde::{Deserialize, Serialize};

use super::time::Micros;

/// The bounds of one shard.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Maximum number of connections. One more is rejected with status 503.
    pub connections_max: u32,
    /// Maximum number of sessions in memory. For one more, the session that has been empty longest
    /// is evicted; if there is none, the new one is rejected.
    pub sessions_max: u32,
    /// Maximum bytes of a WebSocket message, also announced as Engine.IO's `maxPayload`. A larger
    /// one closes the connection with code 1009.
    pub message_bytes_max: u32,
    /// Maximum frames of a message, besides its last. More close the connection with code 1008.
    pub fragments_max: u32,
    /// Maximum unsent bytes of a connection. A slower reader is closed.
    pub backlog_bytes_max: u32,
    /// Time within which a connection must send a whole request head.
    pub head_timeout: Micros,
    /// Time from the upgrade within which a client must send the Socket.IO connect packet.
    pub connect_timeout: Micros,
    /// Time after which an idle HTTP connection is closed.
    pub idle_timeout: Micros,
    /// Time within which the peer must answer a WebSocket close.
    pub close_timeout: Micros,
    /// Time within which the attachments of a binary event must arrive.
    pub attachments_timeout: Micros,
    /// Silence after which a WebSocket is stale. A stale one is probed if it was not.
    pub stale_after: Micros,
    /// Silence after which a WebSocket is closed. Engine.IO's ping is nearly always earlier: this
    /// limit matters if its times are set long.
    pub silence_max: Micros,
    /// Time after which a client is closed that is in no session and sends nothing but signs of
    /// life. Members may listen for ever.
    pub inactivity_max: Micros,
    /// Time for which a session without members is kept.
    pub empty_session_ttl: Micros,
    /// Maximum bytes of the replay log of a session. Older events are dropped, and a member that
    /// missed one cannot recover.
    pub recovery_bytes_max: u32,
    /// Maximum bytes of the replay logs of all sessions of the shard.
    pub recovery_shard_bytes_max: u64,
    /// Maximum lost members of a session that may recover. Of more, the first lost cannot.
    pub recovery_seats_max: u32,
    /// Largest session in which all members are announced to all. In a larger one that would cost
    /// the square of their number, so snapshots name an eighth of this many members, and their
    /// total.
    pub members_listed_max: u32,
}

impl Limits {
    /// The limits of a server.
    pub const PRODUCTION: Self = Self {
        connections_max: 100_000,
        sessions_max: 100_000,
        message_bytes_max: 1_000_000,
        fragments_max: 16_384,
        backlog_bytes_max: 2 * 1_000_000,
        head_timeout: Micros::from_secs(10),
        connect_timeout: Micros::from_secs(45),
        idle_timeout: Micros::from_secs(30),
        close_timeout: Micros::from_secs(5),
        attachments_timeout: Micros::from_secs(10),
        stale_after: Micros::from_secs(30),
        silence_max: Micros::from_secs(60),
        inactivity_max: Micros::from_secs(5 * 60),
        empty_session_ttl: Micros::from_secs(15 * 60),
        recovery_bytes_max: 256 * 1024,
        recovery_shard_bytes_max: 64 * 1024 * 1024,
        recovery_seats_max: 1_024,
        members_listed_max: 256,
    };

    /// Limits that tests meet within seconds.
    pub const TINY: Self = Self {
        connections_max: 4,
        sessions_max: 2,
        message_bytes_max: 4_096,
        fragments_max: 8,
        backlog_bytes_max: 4 * 4_096,
        head_timeout: Micros::from_millis(100),
        connect_timeout: Micros::from_millis(200),
        idle_timeout: Micros::from_millis(300),
        close_timeout: Micros::from_millis(50),
        attachments_timeout: Micros::from_millis(100),
        stale_after: Micros::from_millis(300),
        silence_max: Micros::from_millis(600),
        inactivity_max: Micros::from_millis(3_000),
        empty_session_ttl: Micros::from_millis(500),
        recovery_bytes_max: 2_048,
        recovery_shard_bytes_max: 3_072,
        recovery_seats_max: 2,
        members_listed_max: 3,
    };
}

/// Maximum rates of a client in events per second; 0 means no limit. Each allows a burst of twice
/// its rate. The defaults are specified by the protocol.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RateLimits {
    /// `position_sync`.
    pub position_sync: u32,
    /// `metronome_tick`.
    pub metronome_tick: u32,
    /// `sync_request`.
    pub sync_request: u32,
    /// `chat_message`.
    pub chat_message: u32,
    /// `latency_probe`.
    pub latency_probe: u32,
    /// `clock_sync`.
    pub clock_sync: u32,
    /// `tempo_change`.
    pub tempo_change: u32,
    /// `join_session`.
    pub join_session: u32,
    /// Every other event, each for itself.
    pub other: u32,
    /// All events together.
    pub total: u32,
    /// Number of rejections within a minute that close the client; 0 never does.
    pub refusals_max: u32,
}

impl Default for RateLimits {
    fn default() -> RateLimits {
        RateLimits {
            position_sync: 50,
            metronome_tick: 20,
            sync_request: 10,
            chat_message: 10,
            latency_probe: 20,
            clock_sync: 20,
            tempo_change: 5,
            join_session: 2,
            other: 5,
            total: 100,
            refusals_max: 10,
        }
    }
}

// A set list of the maximum size is sent to all members at once, and is no sign of a slow reader.
const _: () =
    assert!(Limits::PRODUCTION.backlog_bytes_max >= 2 * Limits::PRODUCTION.message_bytes_max);

// The announced `maxPayload` must hold the largest set list with its escapes, or no client could
// send one.
const _: () = assert!(Limits::PRODUCTION.message_bytes_max >= 1_000_000);

/// The class of an event, which has a bucket of its own.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum RateClass {
    /// `position_sync`.
    PositionSync,
    /// `metronome_tick`.
    MetronomeTick,
    /// `sync_request`.
    SyncRequest,
    /// `chat_message`.
    ChatMessage,
    /// `latency_probe`.
    LatencyProbe,
    /// `clock_sync`.
    ClockSync,
    /// `tempo_change`.
    TempoChange,
    /// `join_session`.
    JoinSession,
    /// Any other event, by a number that the caller chooses. Each number has a bucket of its own.
    Other(u8),
}

impl RateLimits {
    /// Returns the events of this class per second that a client may send; 0 means no limit.
    pub fn of(&self, class: RateClass) -> u32 {
        match class {
            RateClass::PositionSync => self.position_sync,
            RateClass::MetronomeTick => self.metronome_tick,
            RateClass::SyncRequest => self.sync_request,
            RateClass::ChatMessage => self.chat_message,
            RateClass::LatencyProbe => self.latency_probe,
            RateClass::ClockSync => self.clock_sync,
            RateClass::TempoChange => self.tempo_change,
            RateClass::JoinSession => self.join_session,
            RateClass::Other(_) => self.other,
        }
    }
}
