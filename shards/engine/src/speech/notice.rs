//! What a member hears: one value for each server event of the protocol, and what an
//! acknowledgement carries.

use super::{LeaderRule, Member, Number, OnLeaderLoss, Reject, Role, Setlist, Song, TempoEvent};
use crate::words::ids::{MemberId, SessionId};
use crate::words::music::{Tempo, TimeSignature, Timeline};
use crate::words::time::{Micros, Moment, UnixMillis};

/// A server event to members of a session.
///
/// Positions are in microseconds and may be negative while counting in. The session's id is printed
/// with each.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// `user_joined`.
    UserJoined {
        /// The newcomer.
        member: Member,
        /// Members now.
        member_count: u32,
    },
    /// `user_left`.
    UserLeft {
        /// Who.
        member: MemberId,
        /// Members now.
        member_count: u32,
        /// Who leads instead, if the one who left led.
        new_leader: Option<MemberId>,
        /// Why.
        reason: LeaveReason,
        /// When.
        timestamp: UnixMillis,
    },
    /// `role_changed`.
    RoleChanged {
        /// Whose role.
        member: MemberId,
        /// Its role now.
        role: Role,
        /// Its role before.
        previous: Role,
        /// Why, if not by its own wish: `leader_disconnected`, `leader_left`, `handed_over`,
        /// `claimed`.
        reason: Option<&'static str>,
        /// When.
        timestamp: UnixMillis,
    },
    /// `leader_request_sent`, to the requester.
    LeaderRequestSent {
        /// Who is asked.
        current_leader: MemberId,
    },
    /// `leader_handoff_request`, to the leader.
    LeaderHandoffRequest {
        /// Who asks; printed as `requesterId` and `requesterInfo{displayName, joinedAt}`.
        requester: Member,
    },
    /// `leader_request_approved`, to the requester.
    LeaderRequestApproved,
    /// `leader_request_denied`, to the requester.
    LeaderRequestDenied {
        /// Why, for people.
        reason: &'static str,
    },
    /// `leader_handoff_completed`, to the leader that was.
    LeaderHandoffCompleted {
        /// Who leads now.
        new_leader: MemberId,
    },
    /// `leader_changed`, to all: `newLeaderId`, `newLeaderInfo{displayName, joinedAt}`,
    /// `previousLeader`.
    LeaderChanged {
        /// Who leads now.
        new_leader: Member,
        /// Who led before.
        previous: Option<MemberId>,
    },
    /// `sync_response`.
    SyncResponse(SyncResponse),
    /// `chat_message`: `sessionId, message, username, socketId, timestamp`.
    Chat {
        /// Who said it.
        from: MemberId,
        /// The name to show.
        username: String,
        /// What was said.
        message: String,
        /// When.
        timestamp: UnixMillis,
    },
    /// `cue`: `sessionId, text, target?, from, atServerMs, serverTimestamp`.
    Cue {
        /// Who sent it.
        from: MemberId,
        /// The stage message.
        text: String,
        /// For whom.
        target: Option<String>,
        /// When.
        moment: Moment,
    },
    /// `play`: `sessionId, tempoBpm, position, serverTimestamp, timeline`.
    Play {
        /// The tempo.
        tempo: Tempo,
        /// Where playing starts.
        position: i64,
        /// When.
        timestamp: UnixMillis,
        /// The new truth.
        timeline: Timeline,
    },
    /// `pause`: `sessionId, position, serverTimestamp, timeline`.
    Pause {
        /// Where it stands.
        position: i64,
        /// When.
        timestamp: UnixMillis,
        /// The new truth.
        timeline: Timeline,
    },
    /// `stop`: `sessionId, serverTimestamp, timeline`.
    Stop {
        /// When.
        timestamp: UnixMillis,
        /// The new truth.
        timeline: Timeline,
    },
    /// `seek`: `sessionId, position, serverTimestamp, timeline`.
    Seek {
        /// Where to.
        position: i64,
        /// When.
        timestamp: UnixMillis,
        /// The new truth.
        timeline: Timeline,
    },
    /// `tempo_change` or `tempo_changed`: `sessionId, oldTempo, newTempo, changeTime, fadeTime,
    /// serverTimestamp, timeline` (`tempo_changed` adds `isRealTime: true`). `changeTime` is Unix
    /// milliseconds.
    TempoChange {
        /// Under which name.
        event: TempoEvent,
        /// The tempo before.
        old: Tempo,
        /// The tempo at the end of the fade.
        new: Tempo,
        /// How long the fade takes.
        fade: Micros,
        /// When.
        timestamp: UnixMillis,
        /// The new truth.
        timeline: Timeline,
    },
    /// `beat_sync`: `sessionId, masterTime, beatPosition, tempo, drift`; `masterTime` is the
    /// server's clock.
    BeatSync {
        /// The server's clock, printed as Unix milliseconds.
        master_time: UnixMillis,
        /// What the leader sent.
        beat_position: Number,
        /// The tempo.
        tempo: Tempo,
        /// Beats that the leader is ahead of the timeline, in micro-beats.
        drift: i64,
    },
    /// `position_sync`: `sessionId, positionMs, serverTime, clientTimestamp`.
    PositionSync {
        /// Where the leader is.
        position: i64,
        /// When.
        server_time: UnixMillis,
        /// What the leader sent.
        client_timestamp: Number,
    },
    /// `drift_correction`: `sessionId, correctPosition, reportedPosition, drift, timestamp`.
    DriftCorrection {
        /// Where the follower should be, in microseconds.
        correct: i64,
        /// Where it said it was.
        reported: i64,
        /// When.
        timestamp: UnixMillis,
    },
    /// `scroll_tick`: `sessionId, positionMs, tempoBpm, serverTimestamp, epoch, version`.
    Tick(Tick),
    /// `metronome_tick`: `sessionId, beat, bar, atServerMs, tempoBpm, isDownbeat`.
    MetronomeTick {
        /// The beat of the bar, from 1.
        beat: u32,
        /// The bar, from 1; 0 and below while counting in.
        bar: i64,
        /// When it sounds.
        at: Micros,
        /// The tempo there.
        tempo: Tempo,
    },
    /// `setlist`: `sessionId, setlist`.
    Setlist(Setlist),
    /// `song_changed`: `sessionId, songId, index, serverTimestamp, timeline`.
    SongChanged {
        /// Which.
        song: String,
        /// Its place in the set list, from 0.
        index: u32,
        /// When.
        timestamp: UnixMillis,
        /// The new truth.
        timeline: Timeline,
    },
    /// `session_update`: the changed fields with `epoch, version, checksum`.
    SessionUpdate {
        /// The settings, if they changed.
        settings: Option<Settings>,
        /// The time signature and the timeline that has it, if they changed.
        time_signature: Option<(TimeSignature, Timeline)>,
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
        /// The state's checksum.
        checksum: Checksum,
    },
}

/// `scroll_tick`: where the band is, many times a second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tick {
    /// Microseconds into the song.
    pub position: i64,
    /// The tempo there.
    pub tempo: Tempo,
    /// When it was computed.
    pub timestamp: UnixMillis,
    /// The state it was computed from.
    pub epoch: u64,
    /// The state it was computed from.
    pub version: u64,
}

/// `sync_response`: `sessionId, positionMs, tempoBpm, isPlaying, serverTime, serverTimestamp,
/// epoch, version, checksum, timeline`; both times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncResponse {
    /// Microseconds into the song.
    pub position: i64,
    /// The tempo there.
    pub tempo: Tempo,
    /// Whether time moves the position.
    pub playing: bool,
    /// When.
    pub timestamp: UnixMillis,
    /// The state's checksum.
    pub checksum: Checksum,
    /// The truth, with epoch and version.
    pub timeline: Timeline,
}

/// CRC-32 of a session's state, printed as eight hexadecimal digits. It depends on nothing that
/// passes by itself, such as time, positions or pings: equal (epoch, version) means equal checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checksum(pub u32);

/// A session's settings as members see them: `maxMembers, onLeaderLoss, leaderRule, anyoneMayCue,
/// hasPasscode`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Members that may be in the session.
    pub max_members: u32,
    /// What happens to playback when the leader is lost.
    pub on_leader_loss: OnLeaderLoss,
    /// How the lead is given.
    pub leader_rule: LeaderRule,
    /// Whether followers may send cues.
    pub anyone_may_cue: bool,
    /// Whether joining takes a passcode.
    pub has_passcode: bool,
}

/// `snapshot`: the whole state of a session, borrowed for printing.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    /// The session.
    pub session: &'a SessionId,
    /// The message to all.
    pub message: &'a str,
    /// The tempo now, printed as `tempo` and `tempoBpm`.
    pub tempo: Tempo,
    /// Microseconds into the song.
    pub position: i64,
    /// Whether time moves the position.
    pub playing: bool,
    /// In order of joining; whoever leads is `leaderSocketId`. Of a large session only some.
    pub members: Vec<&'a Member>,
    /// How many there are, if not all of them are named.
    pub member_count: Option<u32>,
    /// When the session was made.
    pub created_at: UnixMillis,
    /// When somebody last did something.
    pub last_active_at: UnixMillis,
    /// The settings.
    pub settings: Settings,
    /// Now, printed as `serverTimestamp`.
    pub timestamp: UnixMillis,
    /// The state's checksum.
    pub checksum: Checksum,
    /// The signature now, printed as `timeSignature {numerator, denominator}`.
    pub time_signature: TimeSignature,
    /// The song, without its body: `song {id, title, artist?, key?, index}`.
    pub song: Option<(u32, &'a Song)>,
    /// The set list, bodies left out: `setlist {title, songs[{id, title, artist?, key?, tempoBpm?,
    /// …}]}`.
    pub setlist: Option<&'a Setlist>,
    /// The truth about playback; also gives `epoch`, `version` and `leaderSocketId`.
    pub timeline: &'a Timeline,
}

/// `room_stats`: `sessionId, memberCount, connectedCount, isPlaying, tempo, position, leader,
/// uptime`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoomStats {
    /// Members, with those whose seat is kept.
    pub member_count: u32,
    /// Members with a connection.
    pub connected_count: u32,
    /// Whether time moves the position.
    pub playing: bool,
    /// The tempo now.
    pub tempo: Tempo,
    /// Microseconds into the song.
    pub position: i64,
    /// Who leads.
    pub leader: Option<MemberId>,
    /// How long the session has been there, printed in milliseconds.
    pub uptime: Micros,
}

/// Why a member is gone, printed as `disconnectReason`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaveReason {
    /// It said `leave_session` or joined another session: `leave`.
    Left,
    /// It disconnected on purpose: `client namespace disconnect`.
    Disconnected,
    /// Its connection closed: `transport close`.
    TransportClosed,
    /// Its connection failed or broke the protocol: `transport error`.
    TransportError,
    /// It stopped answering: `ping timeout`.
    PingTimeout,
    /// The server closed it: `forced close`.
    Forced,
    /// The server is going away: `server shutting down`.
    Draining,
}

impl LeaveReason {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Left,
        Self::Disconnected,
        Self::TransportClosed,
        Self::TransportError,
        Self::PingTimeout,
        Self::Forced,
        Self::Draining,
    ];

    /// The reason as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "leave",
            Self::Disconnected => "client namespace disconnect",
            Self::TransportClosed => "transport close",
            Self::TransportError => "transport error",
            Self::PingTimeout => "ping timeout",
            Self::Forced => "forced close",
            Self::Draining => "server shutting down",
        }
    }
}

/// A server event about a connection, whether it is in a session or not.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientNotice<'a> {
    /// `latency_response`: `clientTimestamp, serverTimestamp, t1, t2`; `t1`, `t2` in server
    /// milliseconds.
    LatencyResponse {
        /// What the client sent.
        client_timestamp: Number,
        /// Received and answered.
        moment: Moment,
    },
    /// `clock_sync`: `t0, t1, t2` in milliseconds with microsecond decimals.
    ClockSync {
        /// What the client sent.
        t0: Number,
        /// Received and answered.
        at: Micros,
    },
    /// `ping`: `timestamp`.
    Ping {
        /// Now.
        timestamp: UnixMillis,
    },
    /// `heartbeat_response`: `timestamp, clientTimestamp, serverTimestamp, rtt`; the first two echo
    /// the client's.
    HeartbeatResponse {
        /// What the client sent, if anything.
        client_timestamp: Option<Number>,
        /// Now.
        timestamp: UnixMillis,
        /// The last round trip of a ping, if there was one; printed in milliseconds, `null`
        /// otherwise.
        rtt: Option<Micros>,
    },
    /// `connection_quality`.
    ConnectionQuality(Quality),
    /// `rate_limit_exceeded`: `eventType, retryAfter` (milliseconds).
    RateLimitExceeded {
        /// The event that was dropped.
        event: &'a str,
        /// When it may be tried again.
        retry_after: Micros,
    },
    /// `error`: `message, code, event, field?, retryAfter?`.
    Error {
        /// The event that was refused.
        event: &'a str,
        /// Why.
        reject: &'a Reject,
    },
}

/// `connection_quality`: `socketId, latency, packetLoss, connectionDuration, pingCount, pongCount,
/// timeouts, quality`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Whose connection.
    pub member: MemberId,
    /// The smoothed round trip, if one was measured; printed in milliseconds, 0 if not.
    pub latency: Option<Micros>,
    /// Pings sent.
    pub ping_count: u32,
    /// Pongs received.
    pub pong_count: u32,
    /// Pings that were not answered before the next one.
    pub timeouts: u32,
    /// How long the connection has been there, printed in milliseconds.
    pub connection_duration: Micros,
}

impl Quality {
    /// Unanswered pings in per cent of those whose time is over; the one still under way does not
    /// count.
    pub fn packet_loss(&self) -> f64 {
        let over = self.pong_count + self.timeouts;
        if over == 0 { 0.0 } else { f64::from(self.timeouts) * 100.0 / f64::from(over) }
    }

    /// The word for it: `excellent`, `good`, `fair`, `poor`, or `unknown` before the first pong.
    pub fn word(&self) -> &'static str {
        let Some(latency) = self.latency else { return "unknown" };
        let loss = self.packet_loss();
        let within = |millis, percent| latency <= Micros::from_millis(millis) && loss <= percent;
        match () {
            () if within(50, 1.0) => "excellent",
            () if within(100, 2.0) => "good",
            () if within(200, 5.0) => "fair",
            () => "poor",
        }
    }
}

/// What a successful acknowledgement carries besides `ok: true`.
#[derive(Clone, Debug, PartialEq)]
pub enum Ack {
    /// Nothing more.
    Done,
    /// Of `join_session`: `sessionId, socketId, role, epoch, version, restored?`.
    Joined {
        /// The newcomer.
        member: MemberId,
        /// The role it got.
        role: Role,
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
        /// Whether the session came back from the storage; false = it began anew because the
        /// storage could not tell in time what it has. `None` if there was nothing to come back.
        restored: Option<bool>,
    },
    /// Of a change: `epoch, version` of the state that has it.
    Changed {
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
    },
    /// Of a command that was applied before: `epoch, version` of the present state, `repeated:
    /// true`.
    Repeated {
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
    },
    /// Of a change that a later one of the same kind made needless before its turn came:
    /// `superseded: true`, with `epoch, version` of the present state.
    Superseded {
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
    },
    /// Of a message that was too long: `cut: true`, with `epoch, version` of the state if it has
    /// the message.
    Cut(Option<(u64, u64)>),
    /// Of a request that somebody else decides: `pending: true`.
    Pending,
    /// Of `sync_request`: the fields of `sync_response`.
    Sync(SyncResponse),
    /// Of `get_song`: `song` with its body.
    Song(Song),
    /// Of `clock_sync`: `t0, t1, t2`.
    Clock {
        /// What the client sent.
        t0: Number,
        /// Received and answered.
        at: Micros,
    },
    /// Of `latency_probe`: the fields of `latency_response`.
    Latency {
        /// What the client sent.
        client_timestamp: Number,
        /// Received and answered.
        moment: Moment,
    },
    /// Of `heartbeat`: the fields of `heartbeat_response`.
    Heartbeat {
        /// What the client sent, if anything.
        client_timestamp: Option<Number>,
        /// Now.
        timestamp: UnixMillis,
        /// The last round trip of a ping.
        rtt: Option<Micros>,
    },
    /// Of `connection_quality`: its fields.
    Quality(Quality),
}

impl Ack {
    /// Adds that the message of the command was cut.
    pub fn cut_if(self, cut: bool) -> Self {
        match self {
            ack if !cut => ack,
            Self::Changed { epoch, version } => Self::Cut(Some((epoch, version))),
            Self::Done => Self::Cut(None),
            ack => ack,
        }
    }
}
