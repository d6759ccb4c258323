//! The bounds of every queue, buffer and table. Two sets: [`Limits::PRODUCTION`], and
//! [`Limits::TINY`] under which tests meet each bound within seconds.

use serde::{Deserialize, Serialize};

use super::time::Micros;

/// Bounds that one shard keeps.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Connections at once. One more is refused with status 503.
    pub connections_max: u32,
    /// Sessions in memory. One more takes the place of the one that has been empty longest, or is
    /// refused.
    pub sessions_max: u32,
    /// Bytes of one WebSocket message, also announced as Engine.IO's `maxPayload`. A larger one
    /// closes the connection with code 1009.
    pub message_bytes_max: u32,
    /// Frames that one message may come in, besides the one that ends it. More close the connection
    /// with code 1008.
    pub fragments_max: u32,
    /// Bytes that may wait unsent for a connection; a reader that falls behind further is closed.
    pub backlog_bytes_max: u32,
    /// How long a connection may take to send a whole request head.
    pub head_timeout: Micros,
    /// How long a connection may take from the upgrade to the Socket.IO connect packet.
    pub connect_timeout: Micros,
    /// How long a kept-alive HTTP connection may be idle.
    pub idle_timeout: Micros,
    /// How long the peer may take to answer a WebSocket close.
    pub close_timeout: Micros,
    /// How long a binary event may wait for its attachments.
    pub attachments_timeout: Micros,
    /// A WebSocket that has sent nothing at all for so long is stale, and probed if it was not.
    pub stale_after: Micros,
    /// And after so long closed. Engine.IO's ping is nearly always faster: this holds if its times
    /// are set long.
    pub silence_max: Micros,
    /// How long a client may be in no session and do nothing but show that it lives. Members may
    /// listen for ever.
    pub inactivity_max: Micros,
    /// How long a session without members is remembered.
    pub empty_session_ttl: Micros,
    /// Bytes of events that a session keeps for members that lost their connection. What is older
    /// is forgotten, and who missed it begins anew.
    pub recovery_bytes_max: u32,
    /// The same for all sessions of the shard.
    pub recovery_shard_bytes_max: u64,
    /// Lost members that a session knows to come back; of more, those lost first begin anew.
    pub recovery_seats_max: u32,
    /// Members of a session up to which everybody is told of everybody. In a larger one that would
    /// cost the square of their number: snapshots name an eighth of so many, and how many there
    /// are.
    pub members_listed_max: u32,
}

impl Limits {
    /// What a server runs with.
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

    /// What tests run with to meet every bound.
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

/// What a connection may send, in events a second; 0 lifts that limit. Each may come in a burst of
/// twice its rate.
///
/// The default is what the protocol promises.
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
    /// Any other event, each by itself.
    pub other: u32,
    /// All events together.
    pub total: u32,
    /// So many refusals within a minute close the connection; 0 never does.
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

// A set list of the largest size goes to all members at once, and is no sign of a slow reader.
const _: () =
    assert!(Limits::PRODUCTION.backlog_bytes_max >= 2 * Limits::PRODUCTION.message_bytes_max);

// The announced `maxPayload` must hold the largest set list with its escapes, or no client could
// ever send one.
const _: () = assert!(Limits::PRODUCTION.message_bytes_max >= 1_000_000);

/// The bucket an event is taken from.
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
    /// Any other event, by a number of the caller's choice: each number has a bucket of its own.
    Other(u8),
}

impl RateLimits {
    /// Events of this class that a connection may send in a second; 0 = any number.
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
