//! Messages to members: one value for each server event of the protocol, and the contents of
//! acknowledgements.

use std::sync::Arc;

use super::{
    Cue, LeaderRule, Member, Number, OnLeaderLoss, Operation, Reject, Role, Setlist, Song,
};
use crate::words::ids::{MemberId, SessionId};
use crate::words::music::{Tempo, TempoEvent, TimeSignature, Timeline};
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
        /// Number of members now.
        member_count: u32,
    },
    /// `user_left`.
    UserLeft {
        /// The member that left.
        member: MemberId,
        /// Number of members now.
        member_count: u32,
        /// The new leader, if the member led.
        new_leader: Option<MemberId>,
        /// The reason.
        reason: LeaveReason,
        /// The time.
        timestamp: UnixMillis,
    },
    /// `role_changed`.
    RoleChanged {
        /// The member.
        member: MemberId,
        /// Its new role.
        role: Role,
        /// Its old role.
        previous: Role,
        /// The reason, unless the member asked for it: `leader_disconnected`, `leader_left`,
        /// `handed_over`, `claimed`.
        reason: Option<&'static str>,
        /// The time.
        timestamp: UnixMillis,
    },
    /// `leader_request_sent`, to the requester.
    LeaderRequestSent {
        /// The leader that is asked.
        current_leader: MemberId,
    },
    /// `leader_handoff_request`, to the leader.
    LeaderHandoffRequest {
        /// The member that asks, printed as `requesterId` and `requesterInfo{displayName,
        /// joinedAt}`.
        requester: Member,
    },
    /// `leader_request_approved`, to the requester.
    LeaderRequestApproved,
    /// `leader_request_denied`, to the requester.
    LeaderRequestDenied {
        /// The reason, for people.
        reason: &'static str,
    },
    /// `leader_handoff_completed`, to the former leader.
    LeaderHandoffCompleted {
        /// The new leader.
        new_leader: MemberId,
    },
    /// `leader_changed`, to all: `newLeaderId`, `newLeaderInfo{displayName, joinedAt}`,
    /// `previousLeader`.
    LeaderChanged {
        /// The new leader.
        new_leader: Member,
        /// The former leader.
        previous: Option<MemberId>,
    },
    /// `sync_response`.
    SyncResponse(SyncResponse),
    /// `chat_message`: `sessionId, message, username, socketId, timestamp`.
    Chat {
        /// The sender.
        from: MemberId,
        /// The sender's name to show.
        username: String,
        /// The text.
        message: String,
        /// The time.
        timestamp: UnixMillis,
    },
    /// `cue`: `sessionId, text, kind, seconds, target?, from, atServerMs, serverTimestamp`.
    Cue {
        /// The sender.
        from: MemberId,
        /// The stage message.
        cue: Cue,
        /// The time.
        moment: Moment,
    },
    /// `play`: `sessionId, tempoBpm, position, serverTimestamp, timeline`.
    Play {
        /// The tempo.
        tempo: Tempo,
        /// The position at which playing starts.
        position: i64,
        /// The time.
        timestamp: UnixMillis,
        /// The new timeline.
        timeline: Timeline,
    },
    /// `pause`: `sessionId, position, serverTimestamp, timeline, reason?`.
    Pause {
        /// The position at which it stopped.
        position: i64,
        /// The reason, unless a member paused: `end`, the end of the song.
        reason: Option<&'static str>,
        /// The time.
        timestamp: UnixMillis,
        /// The new timeline.
        timeline: Timeline,
    },
    /// `stop`: `sessionId, serverTimestamp, timeline`.
    Stop {
        /// The time.
        timestamp: UnixMillis,
        /// The new timeline.
        timeline: Timeline,
    },
    /// `seek`: `sessionId, position, beat, serverTimestamp, timeline`.
    Seek {
        /// The new position.
        position: i64,
        /// The new song beat, in microbeats.
        beat: i64,
        /// The time.
        timestamp: UnixMillis,
        /// The new timeline.
        timeline: Timeline,
    },
    /// `tempo_change` or `tempo_changed`: `sessionId, oldTempo, newTempo, changeTime, fadeTime,
    /// serverTimestamp, timeline` (`tempo_changed` adds `isRealTime: true`). `changeTime` is Unix
    /// milliseconds.
    TempoChange {
        /// The event's name.
        event: TempoEvent,
        /// The tempo before.
        old: Tempo,
        /// The tempo at the end of the fade.
        new: Tempo,
        /// Duration of the fade.
        fade: Micros,
        /// The time.
        timestamp: UnixMillis,
        /// The new timeline.
        timeline: Timeline,
    },
    /// `beat_sync`: `sessionId, masterTime, beatPosition, tempo, drift`; `masterTime` is the
    /// server's clock.
    BeatSync {
        /// The server's clock, printed as Unix milliseconds.
        master_time: UnixMillis,
        /// The beat position that the leader sent.
        beat_position: Number,
        /// The tempo.
        tempo: Tempo,
        /// Lead of the leader over the timeline, in microbeats.
        drift: i64,
    },
    /// `position_sync`: `sessionId, positionMs, serverTime, clientTimestamp`.
    PositionSync {
        /// The leader's position.
        position: i64,
        /// The time.
        server_time: UnixMillis,
        /// The timestamp that the leader sent.
        client_timestamp: Number,
    },
    /// `drift_correction`: `sessionId, correctPosition, reportedPosition, drift, timestamp`.
    DriftCorrection {
        /// The position of the timeline, in microseconds.
        correct: i64,
        /// The position that the follower reported.
        reported: i64,
        /// The time.
        timestamp: UnixMillis,
    },
    /// `scroll_tick`: `sessionId, positionMs, tempoBpm, serverTimestamp, epoch, version`.
    Tick(Tick),
    /// `metronome_tick`: `sessionId, beat, bar, atServerMs, tempoBpm, isDownbeat`.
    MetronomeTick {
        /// Number of the beat in its bar, from 1.
        beat: u32,
        /// Number of the bar, from 1; 0 and below while counting in.
        bar: i64,
        /// The time at which it sounds.
        at: Micros,
        /// The tempo at that time.
        tempo: Tempo,
    },
    /// `setlist`: `sessionId, setlist`.
    Setlist(Setlist),
    /// `setlist_changed`: `sessionId, revision, base, ops, from, epoch, version, checksum`.
    SetlistChanged {
        /// The list's revision.
        revision: u64,
        /// The revision on which the operations were applied.
        base: u64,
        /// The operations, with the songs of those that add or replace one.
        operations: Arc<[Operation]>,
        /// The member that edited.
        from: MemberId,
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
        /// The state's checksum.
        checksum: Checksum,
    },
    /// `song_changed`: `sessionId, songId, index, serverTimestamp, timeline`.
    SongChanged {
        /// The song's id.
        song: String,
        /// The song's index in the set list, from 0.
        index: u32,
        /// The time.
        timestamp: UnixMillis,
        /// The new timeline.
        timeline: Timeline,
    },
    /// `session_update`: the changed fields with `epoch, version, checksum`.
    SessionUpdate {
        /// The settings, if they changed.
        settings: Option<Settings>,
        /// The time signature, if it changed.
        time_signature: Option<TimeSignature>,
        /// The timeline, if it changed.
        timeline: Option<Box<Timeline>>,
        /// The member whose rights changed.
        member: Option<Box<Member>>,
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
        /// The state's checksum.
        checksum: Checksum,
    },
}

/// `scroll_tick`: the band's position, many times a second.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tick {
    /// Position in the song, in microseconds.
    pub position: i64,
    /// The tempo at this position.
    pub tempo: Tempo,
    /// The time at which it was computed.
    pub timestamp: UnixMillis,
    /// The epoch of the state that it was computed from.
    pub epoch: u64,
    /// The version of the state that it was computed from.
    pub version: u64,
}

/// `sync_response`: `sessionId, positionMs, tempoBpm, isPlaying, serverTime, serverTimestamp,
/// epoch, version, checksum, timeline`; both times are Unix milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub struct SyncResponse {
    /// Position in the song, in microseconds.
    pub position: i64,
    /// The tempo at this position.
    pub tempo: Tempo,
    /// Whether the position moves.
    pub playing: bool,
    /// The time.
    pub timestamp: UnixMillis,
    /// The state's checksum.
    pub checksum: Checksum,
    /// The timeline, with epoch and version.
    pub timeline: Timeline,
}

/// CRC-32 of a session's state, printed as eight hexadecimal digits. Time, positions and pings do
/// not change it, so equal (epoch, version) means equal checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Checksum(pub u32);

/// A session's settings as members see them: `maxMembers, onLeaderLoss, leaderRule, anyoneMayCue,
/// anyoneMayEdit, hasPasscode`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Maximum number of members of the session.
    pub max_members: u32,
    /// The effect on playback when the leader is lost.
    pub on_leader_loss: OnLeaderLoss,
    /// The rule by which the lead is given.
    pub leader_rule: LeaderRule,
    /// Whether followers may send cues.
    pub anyone_may_cue: bool,
    /// Whether all members may edit the set list.
    pub anyone_may_edit: bool,
    /// Whether a join needs a passcode.
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
    /// Position in the song, in microseconds.
    pub position: i64,
    /// The song beat, in microbeats.
    pub beat: i64,
    /// Whether the position moves.
    pub playing: bool,
    /// Members in order of joining. The leader is named as `leaderSocketId`. A large session has
    /// only some of its members here.
    pub members: Vec<&'a Member>,
    /// Number of members, if not all of them are named.
    pub member_count: Option<u32>,
    /// The time at which the session was created.
    pub created_at: UnixMillis,
    /// The time of the last activity.
    pub last_active_at: UnixMillis,
    /// The settings.
    pub settings: Settings,
    /// The time, printed as `serverTimestamp`.
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
    /// The revision of the set list, printed as `setlistRevision`.
    pub setlist_revision: Option<u64>,
    /// The timeline, which also gives `epoch`, `version` and `leaderSocketId`.
    pub timeline: &'a Timeline,
}

/// `room_stats`: `sessionId, memberCount, connectedCount, isPlaying, tempo, position, leader,
/// uptime, screens`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoomStats {
    /// Number of members, including those whose seat is held.
    pub member_count: u32,
    /// Number of members with a connection.
    pub connected_count: u32,
    /// Whether the position moves.
    pub playing: bool,
    /// The tempo now.
    pub tempo: Tempo,
    /// Position in the song, in microseconds.
    pub position: i64,
    /// The leader, if there is one.
    pub leader: Option<MemberId>,
    /// Age of the session, printed in milliseconds.
    pub uptime: Micros,
    /// Number of screens.
    pub screens: u32,
}

/// The reason for which a member left, printed as `disconnectReason`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaveReason {
    /// The member sent `leave_session` or joined another session: `leave`.
    Left,
    /// The client left the namespace: `client namespace disconnect`.
    Disconnected,
    /// The connection closed: `transport close`.
    TransportClosed,
    /// The connection failed, or its peer broke the protocol: `transport error`.
    TransportError,
    /// The client stopped answering pings: `ping timeout`.
    PingTimeout,
    /// The server closed it: `forced close`.
    Forced,
    /// The member's token came on another connection, which has the seat now: `replaced`.
    Replaced,
    /// The server is going away: `server shutting down`.
    Draining,
}

impl LeaveReason {
    /// All reasons, in order.
    pub const ALL: [Self; 8] = [
        Self::Left,
        Self::Disconnected,
        Self::TransportClosed,
        Self::TransportError,
        Self::PingTimeout,
        Self::Forced,
        Self::Replaced,
        Self::Draining,
    ];

    /// Returns the reason as it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Left => "leave",
            Self::Disconnected => "client namespace disconnect",
            Self::TransportClosed => "transport close",
            Self::TransportError => "transport error",
            Self::PingTimeout => "ping timeout",
            Self::Forced => "forced close",
            Self::Replaced => "replaced",
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
        /// The timestamp that the client sent.
        client_timestamp: Number,
        /// The time of receipt and of the answer.
        moment: Moment,
    },
    /// `clock_sync`: `t0, t1, t2` in milliseconds with microsecond decimals.
    ClockSync {
        /// The time that the client sent.
        t0: Number,
        /// The time of receipt and of the answer.
        at: Micros,
    },
    /// `ping`: `timestamp`.
    Ping {
        /// The time.
        timestamp: UnixMillis,
    },
    /// `heartbeat_response`: `timestamp, clientTimestamp, serverTimestamp, rtt`; the first two echo
    /// the client's.
    HeartbeatResponse {
        /// The timestamp that the client sent, if it sent one.
        client_timestamp: Option<Number>,
        /// The time.
        timestamp: UnixMillis,
        /// The last round trip of a ping, if there was one; printed in milliseconds, `null`
        /// otherwise.
        rtt: Option<Micros>,
    },
    /// `connection_quality`.
    ConnectionQuality(Quality),
    /// `rate_limit_exceeded`: `eventType, retryAfter` (milliseconds).
    RateLimitExceeded {
        /// The name of the event that was dropped.
        event: &'a str,
        /// Time after which the event may be sent again.
        retry_after: Micros,
    },
    /// `error`: `message, code, event, field?, retryAfter?`.
    Error {
        /// The name of the event that was rejected.
        event: &'a str,
        /// The reason.
        reject: &'a Reject,
    },
}

/// `connection_quality`: `socketId, latency, packetLoss, connectionDuration, pingCount, pongCount,
/// timeouts, quality`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// The member at the other end.
    pub member: MemberId,
    /// The smoothed round trip, if one was measured; printed in milliseconds, 0 if not.
    pub latency: Option<Micros>,
    /// Number of pings sent.
    pub ping_count: u32,
    /// Number of pongs received.
    pub pong_count: u32,
    /// Number of pings that were not answered before the next one.
    pub timeouts: u32,
    /// Age of the connection, printed in milliseconds.
    pub connection_duration: Micros,
}

impl Quality {
    /// Returns the unanswered pings in per cent of those whose time is over. The ping that is still
    /// out does not count.
    pub fn packet_loss(&self) -> f64 {
        let over = self.pong_count + self.timeouts;
        if over == 0 { 0.0 } else { f64::from(self.timeouts) * 100.0 / f64::from(over) }
    }

    /// Returns the quality in a word: `excellent`, `good`, `fair`, `poor`, or `unknown` before the
    /// first pong.
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

/// The contents of a successful acknowledgement, besides `ok: true`.
#[derive(Clone, Debug, PartialEq)]
pub enum Ack {
    /// Nothing more.
    Done,
    /// Answer to `join_session`: `sessionId, socketId, role, protocol, epoch, version, restored?,
    /// seat`.
    Joined {
        /// The newcomer.
        member: MemberId,
        /// The role that the newcomer got.
        role: Role,
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
        /// Whether the session was restored from the storage. False: it began without its record,
        /// because the storage did not answer in time. `None`: no record was stored.
        restored: Option<bool>,
        /// Whether the member got a seat that it had before, printed as `seat`: `back` or `new`.
        is_back: bool,
    },
    /// Answer to a change: `epoch, version` of the state with the change.
    Changed {
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
    },
    /// Answer to a command that was applied before: `repeated: true`, with `epoch, version` of the
    /// present state.
    Repeated {
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
    },
    /// Answer to a change that a newer one of the same kind replaced before it was applied:
    /// `superseded: true`, with `epoch, version` of the present state.
    Superseded {
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
    },
    /// Answer to a message that was too long: `cut: true`, with `epoch, version` of the state if it
    /// has the message.
    Cut(Option<(u64, u64)>),
    /// Answer to a request that the leader decides: `pending: true`.
    Pending,
    /// Answer to `sync_request`: the fields of `sync_response`.
    Sync(SyncResponse),
    /// Answer to `edit_setlist`: `revision` of the list with the change, and `epoch, version` of
    /// the state.
    Edited {
        /// The state's epoch.
        epoch: u64,
        /// The state's version.
        version: u64,
        /// The list's revision.
        revision: u64,
    },
    /// Answer to `get_setlist`: `revision, title, songs`, without bodies.
    Setlist(Setlist),
    /// Answer to `get_songs`: `revision, songs` with their bodies, and `more`.
    Songs {
        /// The list's revision.
        revision: u64,
        /// The first of the songs.
        songs: Vec<Arc<Song>>,
        /// The ids of the others.
        more: Vec<String>,
    },
    /// Answer to `get_song`: `song` with its body.
    Song(Arc<Song>),
    /// Answer to `clock_sync`: `t0, t1, t2`.
    Clock {
        /// The time that the client sent.
        t0: Number,
        /// The time of receipt and of the answer.
        at: Micros,
    },
    /// Answer to `latency_probe`: the fields of `latency_response`.
    Latency {
        /// The timestamp that the client sent.
        client_timestamp: Number,
        /// The time of receipt and of the answer.
        moment: Moment,
    },
    /// Answer to `heartbeat`: the fields of `heartbeat_response`.
    Heartbeat {
        /// The timestamp that the client sent, if it sent one.
        client_timestamp: Option<Number>,
        /// The time.
        timestamp: UnixMillis,
        /// The last round trip of a ping, if there was one.
        rtt: Option<Micros>,
    },
    /// Answer to `connection_quality`: its fields.
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
