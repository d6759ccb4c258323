//! Speech to bytes: every notice and acknowledgement as a complete text packet of Engine.IO and Socket.IO.
//!
//! What is printed is written down as views, one beside each value of `speech`: their fields are the fields
//! on the wire, in order. Speech itself stays without a wire form, so that neither can change by accident
//! with the other.

use serde::{Serialize, Serializer};

use super::socket_packet;
use crate::speech::{
    Ack, Checksum, LeaderRule, LinkNotice, Member, Notice, Number, OnLeaderLoss, Quality, Reject, Role,
    RoomStats, Setlist, Settings, Snapshot, Song, SongFormat, SyncResponse, TempoEvent,
};
use crate::words::ids::SessionId;
use crate::words::music::{MeterChange, Segment, Tempo, TimeSignature, Timeline};
use crate::words::time::{Micros, Moment};

/// Appends a notice to the members of `session`.
pub fn notice(out: &mut Vec<u8>, session: &SessionId, notice: &Notice) {
    let (name, fields) = NoticeView::new(notice);
    event(out, name, &InSession { session_id: session.as_str(), fields });
}

/// Appends a notice about a connection.
pub fn link(out: &mut Vec<u8>, notice: &LinkNotice<'_>) {
    let (name, fields) = LinkView::new(notice);
    event(out, name, &fields);
}

/// Appends a `snapshot`.
pub fn snapshot(out: &mut Vec<u8>, snapshot: &Snapshot<'_>) {
    event(out, "snapshot", &SnapshotView::new(snapshot));
}

/// Appends the `room_stats` of `session`.
pub fn room_stats(out: &mut Vec<u8>, session: &SessionId, stats: &RoomStats) {
    let fields = RoomStatsView::new(stats);
    event(out, "room_stats", &InSession { session_id: session.as_str(), fields });
}

/// Appends the acknowledgement of an event that was done. `session` is the one that the sender is in now;
/// `join_session` and `sync_request` are told its id.
pub fn ack(out: &mut Vec<u8>, id: u64, session: Option<&SessionId>, ack: &Ack) {
    let fields = AckView::new(session.map(SessionId::as_str), ack);
    acknowledgement(out, id, &Success { ok: true, fields });
}

/// Appends the acknowledgement of an event that was refused.
pub fn refusal(out: &mut Vec<u8>, id: u64, reject: &Reject) {
    acknowledgement(out, id, &Failure { ok: false, error: ErrorView::new(reject) });
}

fn event(out: &mut Vec<u8>, name: &'static str, payload: &impl Serialize) {
    socket_packet::event_to(out, name, |out| json(out, payload));
}

fn acknowledgement(out: &mut Vec<u8>, id: u64, payload: &impl Serialize) {
    socket_packet::ack(out, id, |out| json(out, payload));
}

/// A `Vec` takes all bytes and no view refuses to be serialised, so this cannot fail.
fn json(out: &mut Vec<u8>, value: &impl Serialize) {
    let written = serde_json::to_writer(out, value);
    assert!(written.is_ok(), "a view that cannot be printed: {written:?}");
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InSession<'a, Fields> {
    session_id: &'a str,
    #[serde(flatten)]
    fields: Fields,
}

#[derive(Serialize)]
struct Success<'a> {
    ok: bool,
    #[serde(flatten)]
    fields: AckView<'a>,
}

#[derive(Serialize)]
struct Failure<'a> {
    ok: bool,
    error: ErrorView<'a>,
}

/// The fields of each [`Notice`] after the session's id.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum NoticeView<'a> {
    UserJoined {
        member: MemberView<'a>,
        member_count: u32,
    },
    UserLeft {
        socket_id: &'a str,
        member_count: u32,
        new_leader: Option<&'a str>,
        disconnect_reason: &'static str,
        timestamp: i64,
    },
    RoleChanged {
        socket_id: &'a str,
        role: &'static str,
        previous_role: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
        timestamp: i64,
    },
    LeaderRequestSent {
        message: &'static str,
        current_leader: &'a str,
    },
    LeaderHandoffRequest {
        requester_id: &'a str,
        requester_info: MemberInfo<'a>,
    },
    LeaderRequestApproved {
        message: &'static str,
    },
    LeaderRequestDenied {
        reason: &'static str,
    },
    LeaderHandoffCompleted {
        new_leader_id: &'a str,
        message: &'static str,
    },
    LeaderChanged {
        new_leader_id: &'a str,
        new_leader_info: MemberInfo<'a>,
        previous_leader: Option<&'a str>,
    },
    SyncResponse(SyncView<'a>),
    Chat {
        message: &'a str,
        username: &'a str,
        socket_id: &'a str,
        timestamp: i64,
    },
    Cue {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<&'a str>,
        from: &'a str,
        at_server_ms: Thousandths,
        server_timestamp: i64,
    },
    Play {
        tempo_bpm: Thousandths,
        position: Thousandths,
        server_timestamp: i64,
        timeline: TimelineView<'a>,
    },
    /// `pause` and `seek`.
    Moved {
        position: Thousandths,
        server_timestamp: i64,
        timeline: TimelineView<'a>,
    },
    Stop {
        server_timestamp: i64,
        timeline: TimelineView<'a>,
    },
    TempoChange {
        old_tempo: Thousandths,
        new_tempo: Thousandths,
        change_time: i64,
        fade_time: Thousandths,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_real_time: Option<bool>,
        server_timestamp: i64,
        timeline: TimelineView<'a>,
    },
    BeatSync {
        master_time: i64,
        beat_position: NumberView,
        tempo: Thousandths,
        drift: Millionths,
    },
    PositionSync {
        position_ms: Thousandths,
        server_time: i64,
        client_timestamp: NumberView,
    },
    DriftCorrection {
        correct_position: Thousandths,
        reported_position: Thousandths,
        /// How far ahead the follower is.
        drift: Thousandths,
        timestamp: i64,
    },
    Tick {
        position_ms: Thousandths,
        tempo_bpm: Thousandths,
        server_timestamp: i64,
        epoch: u64,
        version: u64,
    },
    MetronomeTick {
        beat: u32,
        bar: i64,
        at_server_ms: Thousandths,
        tempo_bpm: Thousandths,
        is_downbeat: bool,
    },
    Setlist {
        setlist: SetlistView<'a>,
    },
    SongChanged {
        song_id: &'a str,
        index: u32,
        server_timestamp: i64,
        timeline: TimelineView<'a>,
    },
    SessionUpdate {
        #[serde(skip_serializing_if = "Option::is_none")]
        settings: Option<SettingsView>,
        #[serde(skip_serializing_if = "Option::is_none")]
        time_signature: Option<TimeSignatureView>,
        #[serde(skip_serializing_if = "Option::is_none")]
        timeline: Option<TimelineView<'a>>,
        epoch: u64,
        version: u64,
        checksum: ChecksumView,
    },
}

impl<'a> NoticeView<'a> {
    /// The event's name and its fields.
    fn new(notice: &'a Notice) -> (&'static str, Self) {
        match notice {
            Notice::UserJoined { member, member_count } => (
                "user_joined",
                Self::UserJoined { member: MemberView::new(member), member_count: *member_count },
            ),
            Notice::UserLeft { member, member_count, new_leader, reason, timestamp } => (
                "user_left",
                Self::UserLeft {
                    socket_id: member.as_str(),
                    member_count: *member_count,
                    new_leader: new_leader.as_ref().map(|leader| leader.as_str()),
                    disconnect_reason: reason.as_str(),
                    timestamp: timestamp.0,
                },
            ),
            Notice::RoleChanged { member, role, previous, reason, timestamp } => (
                "role_changed",
                Self::RoleChanged {
                    socket_id: member.as_str(),
                    role: role_word(*role),
                    previous_role: role_word(*previous),
                    reason: *reason,
                    timestamp: timestamp.0,
                },
            ),
            Notice::LeaderRequestSent { current_leader } => (
                "leader_request_sent",
                Self::LeaderRequestSent {
                    message: "The leader has been asked to hand over.",
                    current_leader: current_leader.as_str(),
                },
            ),
            Notice::LeaderHandoffRequest { requester } => (
                "leader_handoff_request",
                Self::LeaderHandoffRequest {
                    requester_id: requester.id.as_str(),
                    requester_info: MemberInfo::new(requester),
                },
            ),
            Notice::LeaderRequestApproved => {
                ("leader_request_approved", Self::LeaderRequestApproved { message: "You lead now." })
            }
            Notice::LeaderRequestDenied { reason } => {
                ("leader_request_denied", Self::LeaderRequestDenied { reason })
            }
            Notice::LeaderHandoffCompleted { new_leader } => (
                "leader_handoff_completed",
                Self::LeaderHandoffCompleted {
                    new_leader_id: new_leader.as_str(),
                    message: "You have handed over the lead.",
                },
            ),
            Notice::LeaderChanged { new_leader, previous } => (
                "leader_changed",
                Self::LeaderChanged {
                    new_leader_id: new_leader.id.as_str(),
                    new_leader_info: MemberInfo::new(new_leader),
                    previous_leader: previous.as_ref().map(|leader| leader.as_str()),
                },
            ),
            Notice::SyncResponse(sync) => ("sync_response", Self::SyncResponse(SyncView::new(sync))),
            Notice::Chat { from, username, message, timestamp } => (
                "chat_message",
                Self::Chat { message, username, socket_id: from.as_str(), timestamp: timestamp.0 },
            ),
            Notice::Cue { from, text, target, moment } => (
                "cue",
                Self::Cue {
                    text,
                    target: target.as_deref(),
                    from: from.as_str(),
                    at_server_ms: span(moment.at),
                    server_timestamp: moment.unix.0,
                },
            ),
            Notice::Play { tempo, position, timestamp, timeline } => (
                "play",
                Self::Play {
                    tempo_bpm: bpm(*tempo),
                    position: Thousandths(*position),
                    server_timestamp: timestamp.0,
                    timeline: TimelineView::new(timeline),
                },
            ),
            Notice::Pause { position, timestamp, timeline } => (
                "pause",
                Self::Moved {
                    position: Thousandths(*position),
                    server_timestamp: timestamp.0,
                    timeline: TimelineView::new(timeline),
                },
            ),
            Notice::Stop { timestamp, timeline } => {
                ("stop", Self::Stop { server_timestamp: timestamp.0, timeline: TimelineView::new(timeline) })
            }
            Notice::Seek { position, timestamp, timeline } => (
                "seek",
                Self::Moved {
                    position: Thousandths(*position),
                    server_timestamp: timestamp.0,
                    timeline: TimelineView::new(timeline),
                },
            ),
            Notice::TempoChange { event, old, new, fade, timestamp, timeline } => {
                let (name, is_real_time) = match event {
                    TempoEvent::Change => ("tempo_change", None),
                    TempoEvent::Changed => ("tempo_changed", Some(true)),
                };
                let fields = Self::TempoChange {
                    old_tempo: bpm(*old),
                    new_tempo: bpm(*new),
                    change_time: timestamp.0,
                    fade_time: span(*fade),
                    is_real_time,
                    server_timestamp: timestamp.0,
                    timeline: TimelineView::new(timeline),
                };
                (name, fields)
            }
            Notice::BeatSync { master_time, beat_position, tempo, drift } => (
                "beat_sync",
                Self::BeatSync {
                    master_time: master_time.0,
                    beat_position: NumberView(*beat_position),
                    tempo: bpm(*tempo),
                    drift: Millionths(*drift),
                },
            ),
            Notice::PositionSync { position, server_time, client_timestamp } => (
                "position_sync",
                Self::PositionSync {
                    position_ms: Thousandths(*position),
                    server_time: server_time.0,
                    client_timestamp: NumberView(*client_timestamp),
                },
            ),
            Notice::DriftCorrection { correct, reported, timestamp } => (
                "drift_correction",
                Self::DriftCorrection {
                    correct_position: Thousandths(*correct),
                    reported_position: Thousandths(*reported),
                    drift: Thousandths(reported.saturating_sub(*correct)),
                    timestamp: timestamp.0,
                },
            ),
            Notice::Tick(tick) => (
                "scroll_tick",
                Self::Tick {
                    position_ms: Thousandths(tick.position),
                    tempo_bpm: bpm(tick.tempo),
                    server_timestamp: tick.timestamp.0,
                    epoch: tick.epoch,
                    version: tick.version,
                },
            ),
            Notice::MetronomeTick { beat, bar, at, tempo } => (
                "metronome_tick",
                Self::MetronomeTick {
                    beat: *beat,
                    bar: *bar,
                    at_server_ms: span(*at),
                    tempo_bpm: bpm(*tempo),
                    is_downbeat: *beat == 1,
                },
            ),
            Notice::Setlist(setlist) => {
                ("setlist", Self::Setlist { setlist: SetlistView::new(setlist, SongView::whole) })
            }
            Notice::SongChanged { song, index, timestamp, timeline } => (
                "song_changed",
                Self::SongChanged {
                    song_id: song,
                    index: *index,
                    server_timestamp: timestamp.0,
                    timeline: TimelineView::new(timeline),
                },
            ),
            Notice::SessionUpdate { settings, time_signature, epoch, version, checksum } => (
                "session_update",
                Self::SessionUpdate {
                    settings: settings.as_ref().map(SettingsView::new),
                    time_signature: time_signature.as_ref().map(|(signature, _)| signature.into()),
                    timeline: time_signature.as_ref().map(|(_, timeline)| TimelineView::new(timeline)),
                    epoch: *epoch,
                    version: *version,
                    checksum: ChecksumView(*checksum),
                },
            ),
        }
    }
}

/// The fields of each [`LinkNotice`].
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum LinkView<'a> {
    Latency(LatencyView),
    Clock(ClockView),
    Ping {
        timestamp: i64,
    },
    Heartbeat(HeartbeatView),
    Quality(QualityView<'a>),
    RateLimitExceeded {
        event_type: &'a str,
        retry_after: Thousandths,
    },
    Error {
        message: &'a str,
        code: &'static str,
        event: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        field: Option<&'static str>,
    },
}

impl<'a> LinkView<'a> {
    /// The event's name and its fields.
    fn new(notice: &'a LinkNotice<'_>) -> (&'static str, Self) {
        match notice {
            LinkNotice::LatencyResponse { client_timestamp, moment } => {
                ("latency_response", Self::Latency(LatencyView::new(*client_timestamp, *moment)))
            }
            LinkNotice::ClockSync { t0, at } => ("clock_sync", Self::Clock(ClockView::new(*t0, *at))),
            LinkNotice::Ping { timestamp } => ("ping", Self::Ping { timestamp: timestamp.0 }),
            LinkNotice::HeartbeatResponse { client_timestamp, timestamp, rtt } => {
                let fields = HeartbeatView::new(*client_timestamp, timestamp.0, *rtt);
                ("heartbeat_response", Self::Heartbeat(fields))
            }
            LinkNotice::ConnectionQuality(quality) => {
                ("connection_quality", Self::Quality(QualityView::new(quality)))
            }
            LinkNotice::RateLimitExceeded { event, retry_after } => (
                "rate_limit_exceeded",
                Self::RateLimitExceeded { event_type: event, retry_after: span(*retry_after) },
            ),
            LinkNotice::Error { event, reject } => (
                "error",
                Self::Error {
                    message: &reject.message,
                    code: reject.code.as_str(),
                    event,
                    field: reject.field,
                },
            ),
        }
    }
}

/// The fields of each [`Ack`] after `ok`.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum AckView<'a> {
    Done {},
    Joined {
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<&'a str>,
        socket_id: &'a str,
        role: &'static str,
        epoch: u64,
        version: u64,
    },
    Changed {
        epoch: u64,
        version: u64,
    },
    Pending {
        pending: bool,
    },
    Sync {
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<&'a str>,
        #[serde(flatten)]
        fields: SyncView<'a>,
    },
    Song {
        song: SongView<'a>,
    },
    Clock(ClockView),
    Latency(LatencyView),
    Heartbeat(HeartbeatView),
    Quality(QualityView<'a>),
}

impl<'a> AckView<'a> {
    fn new(session_id: Option<&'a str>, ack: &'a Ack) -> Self {
        match ack {
            Ack::Done => Self::Done {},
            Ack::Joined { member, role, epoch, version } => Self::Joined {
                session_id,
                socket_id: member.as_str(),
                role: role_word(*role),
                epoch: *epoch,
                version: *version,
            },
            Ack::Changed { epoch, version } => Self::Changed { epoch: *epoch, version: *version },
            Ack::Pending => Self::Pending { pending: true },
            Ack::Sync(sync) => Self::Sync { session_id, fields: SyncView::new(sync) },
            Ack::Song(song) => Self::Song { song: SongView::whole(song) },
            Ack::Clock { t0, at } => Self::Clock(ClockView::new(*t0, *at)),
            Ack::Latency { client_timestamp, moment } => {
                Self::Latency(LatencyView::new(*client_timestamp, *moment))
            }
            Ack::Heartbeat { client_timestamp, timestamp, rtt } => {
                Self::Heartbeat(HeartbeatView::new(*client_timestamp, timestamp.0, *rtt))
            }
            Ack::Quality(quality) => Self::Quality(QualityView::new(quality)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotView<'a> {
    session_id: &'a str,
    message: &'a str,
    tempo: Thousandths,
    tempo_bpm: Thousandths,
    position: Thousandths,
    is_playing: bool,
    leader_socket_id: Option<&'a str>,
    members: Vec<MemberView<'a>>,
    created_at: i64,
    last_active_at: i64,
    settings: SettingsView,
    server_timestamp: i64,
    epoch: u64,
    version: u64,
    checksum: ChecksumView,
    timeline: TimelineView<'a>,
    time_signature: TimeSignatureView,
    #[serde(skip_serializing_if = "Option::is_none")]
    song: Option<CurrentSongView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    setlist: Option<SetlistView<'a>>,
}

impl<'a> SnapshotView<'a> {
    fn new(snapshot: &'a Snapshot<'_>) -> Self {
        let timeline = TimelineView::new(snapshot.timeline);
        Self {
            session_id: snapshot.session.as_str(),
            message: snapshot.message,
            tempo: bpm(snapshot.tempo),
            tempo_bpm: bpm(snapshot.tempo),
            position: Thousandths(snapshot.position),
            is_playing: snapshot.playing,
            leader_socket_id: timeline.leader,
            members: snapshot.members.iter().map(|member| MemberView::new(member)).collect(),
            created_at: snapshot.created_at.0,
            last_active_at: snapshot.last_active_at.0,
            settings: SettingsView::new(&snapshot.settings),
            server_timestamp: snapshot.timestamp.0,
            epoch: timeline.epoch,
            version: timeline.version,
            checksum: ChecksumView(snapshot.checksum),
            timeline,
            time_signature: (&snapshot.time_signature).into(),
            song: snapshot.song.map(|(index, song)| CurrentSongView::new(index, song)),
            setlist: snapshot.setlist.map(|setlist| SetlistView::new(setlist, SongView::without_body)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RoomStatsView<'a> {
    member_count: u32,
    connected_count: u32,
    is_playing: bool,
    tempo: Thousandths,
    position: Thousandths,
    leader: Option<&'a str>,
    uptime: Thousandths,
}

impl<'a> RoomStatsView<'a> {
    fn new(stats: &'a RoomStats) -> Self {
        Self {
            member_count: stats.member_count,
            connected_count: stats.connected_count,
            is_playing: stats.playing,
            tempo: bpm(stats.tempo),
            position: Thousandths(stats.position),
            leader: stats.leader.as_ref().map(|leader| leader.as_str()),
            uptime: span(stats.uptime),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SyncView<'a> {
    position_ms: Thousandths,
    tempo_bpm: Thousandths,
    is_playing: bool,
    server_time: i64,
    server_timestamp: i64,
    epoch: u64,
    version: u64,
    checksum: ChecksumView,
    timeline: TimelineView<'a>,
}

impl<'a> SyncView<'a> {
    fn new(sync: &'a SyncResponse) -> Self {
        Self {
            position_ms: Thousandths(sync.position),
            tempo_bpm: bpm(sync.tempo),
            is_playing: sync.playing,
            server_time: sync.timestamp.0,
            server_timestamp: sync.timestamp.0,
            epoch: sync.timeline.epoch,
            version: sync.timeline.version,
            checksum: ChecksumView(sync.checksum),
            timeline: TimelineView::new(&sync.timeline),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LatencyView {
    client_timestamp: NumberView,
    server_timestamp: i64,
    t1: Thousandths,
    t2: Thousandths,
}

impl LatencyView {
    /// An event is received and answered within one turn, which has one time: `t1` is `t2`.
    fn new(client_timestamp: Number, moment: Moment) -> Self {
        Self {
            client_timestamp: NumberView(client_timestamp),
            server_timestamp: moment.unix.0,
            t1: span(moment.at),
            t2: span(moment.at),
        }
    }
}

#[derive(Serialize)]
struct ClockView {
    t0: NumberView,
    t1: Thousandths,
    t2: Thousandths,
}

impl ClockView {
    /// As in [`LatencyView::new`], `t1` is `t2`.
    fn new(t0: Number, at: Micros) -> Self {
        Self { t0: NumberView(t0), t1: span(at), t2: span(at) }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HeartbeatView {
    timestamp: Option<NumberView>,
    client_timestamp: Option<NumberView>,
    server_timestamp: i64,
    rtt: Option<Thousandths>,
}

impl HeartbeatView {
    /// Old clients disagree about which of the two names their own time comes back under.
    fn new(client_timestamp: Option<Number>, server_timestamp: i64, rtt: Option<Micros>) -> Self {
        Self {
            timestamp: client_timestamp.map(NumberView),
            client_timestamp: client_timestamp.map(NumberView),
            server_timestamp,
            rtt: rtt.map(span),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QualityView<'a> {
    socket_id: &'a str,
    latency: Thousandths,
    packet_loss: Thousandths,
    connection_duration: Thousandths,
    ping_count: u32,
    pong_count: u32,
    timeouts: u32,
    quality: &'static str,
}

impl<'a> QualityView<'a> {
    fn new(quality: &'a Quality) -> Self {
        Self {
            socket_id: quality.member.as_str(),
            latency: span(quality.latency.unwrap_or(Micros::ZERO)),
            packet_loss: Thousandths((quality.packet_loss() * 1_000.0).round() as i64),
            connection_duration: span(quality.connection_duration),
            ping_count: quality.ping_count,
            pong_count: quality.pong_count,
            timeouts: quality.timeouts,
            quality: quality.word(),
        }
    }
}

#[derive(Serialize)]
struct ErrorView<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
}

impl<'a> ErrorView<'a> {
    fn new(reject: &'a Reject) -> Self {
        Self { code: reject.code.as_str(), message: &reject.message, field: reject.field }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberView<'a> {
    socket_id: &'a str,
    display_name: &'a str,
    role: &'static str,
    joined_at: i64,
    last_ping_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    instrument: Option<&'a str>,
    connected: bool,
}

impl<'a> MemberView<'a> {
    fn new(member: &'a Member) -> Self {
        Self {
            socket_id: member.id.as_str(),
            display_name: &member.display_name,
            role: role_word(member.role),
            joined_at: member.joined_at.0,
            last_ping_at: member.last_ping_at.0,
            instrument: member.instrument.as_deref(),
            connected: member.connected,
        }
    }
}

/// What is told of a member beside its id where the lead changes hands.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberInfo<'a> {
    display_name: &'a str,
    joined_at: i64,
}

impl<'a> MemberInfo<'a> {
    fn new(member: &'a Member) -> Self {
        Self { display_name: &member.display_name, joined_at: member.joined_at.0 }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SettingsView {
    max_members: u32,
    on_leader_loss: &'static str,
    leader_rule: &'static str,
    anyone_may_cue: bool,
    has_passcode: bool,
}

impl SettingsView {
    fn new(settings: &Settings) -> Self {
        Self {
            max_members: settings.max_members,
            on_leader_loss: match settings.on_leader_loss {
                OnLeaderLoss::Continue => "continue",
                OnLeaderLoss::Pause => "pause",
            },
            leader_rule: match settings.leader_rule {
                LeaderRule::Open => "open",
                LeaderRule::Ask => "ask",
                LeaderRule::Pin => "pin",
            },
            anyone_may_cue: settings.anyone_may_cue,
            has_passcode: settings.has_passcode,
        }
    }
}

#[derive(Serialize)]
struct SetlistView<'a> {
    title: &'a str,
    songs: Vec<SongView<'a>>,
}

impl<'a> SetlistView<'a> {
    fn new(setlist: &'a Setlist, song: impl Fn(&'a Song) -> SongView<'a>) -> Self {
        Self { title: &setlist.title, songs: setlist.songs.iter().map(song).collect() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SongView<'a> {
    id: &'a str,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artist: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tempo_bpm: Option<Thousandths>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_signature: Option<TimeSignatureView>,
    format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duration_ms: Option<Thousandths>,
}

impl<'a> SongView<'a> {
    fn whole(song: &'a Song) -> Self {
        Self { body: Some(&song.body), ..Self::without_body(song) }
    }

    fn without_body(song: &'a Song) -> Self {
        Self {
            id: &song.id,
            title: &song.title,
            artist: song.artist.as_deref(),
            key: song.key.as_deref(),
            tempo_bpm: song.tempo.map(bpm),
            time_signature: song.time_signature.as_ref().map(TimeSignatureView::from),
            format: match song.format {
                SongFormat::ChordPro => "chordpro",
                SongFormat::Text => "text",
            },
            body: None,
            duration_ms: song.duration.map(|duration| span(Micros::from_micros(duration.as_micros()))),
        }
    }
}

/// The song that a snapshot says is on.
#[derive(Serialize)]
struct CurrentSongView<'a> {
    id: &'a str,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artist: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    index: u32,
}

impl<'a> CurrentSongView<'a> {
    fn new(index: u32, song: &'a Song) -> Self {
        Self {
            id: &song.id,
            title: &song.title,
            artist: song.artist.as_deref(),
            key: song.key.as_deref(),
            index,
        }
    }
}

#[derive(Serialize)]
struct TimeSignatureView {
    numerator: u8,
    denominator: u8,
}

impl From<&TimeSignature> for TimeSignatureView {
    fn from(signature: &TimeSignature) -> Self {
        Self { numerator: signature.numerator, denominator: signature.denominator }
    }
}

/// The timeline in integers alone: microseconds, micro-beats and milli-BPM.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TimelineView<'a> {
    epoch: u64,
    version: u64,
    leader: Option<&'a str>,
    segments: Vec<SegmentView>,
    meter: Vec<MeterView>,
    quantum: i64,
    count_in: u32,
    made_at: u64,
}

impl<'a> TimelineView<'a> {
    fn new(timeline: &'a Timeline) -> Self {
        Self {
            epoch: timeline.epoch,
            version: timeline.version,
            leader: timeline.leader.as_ref().map(|leader| leader.as_str()),
            segments: timeline.segments.iter().map(SegmentView::from).collect(),
            meter: timeline.meter.iter().map(MeterView::from).collect(),
            quantum: timeline.quantum,
            count_in: timeline.count_in,
            made_at: timeline.made_at.as_micros(),
        }
    }
}

#[derive(Serialize)]
struct SegmentView {
    t0: u64,
    p0: i64,
    b0: i64,
    rate: u8,
    bpm0: u32,
    bpm1: u32,
    ramp: u64,
}

impl From<&Segment> for SegmentView {
    fn from(segment: &Segment) -> Self {
        Self {
            t0: segment.t0.as_micros(),
            p0: segment.p0,
            b0: segment.b0,
            rate: u8::from(segment.playing),
            bpm0: segment.bpm0.milli_bpm(),
            bpm1: segment.bpm1.milli_bpm(),
            ramp: segment.ramp,
        }
    }
}

#[derive(Serialize)]
struct MeterView {
    beat: i64,
    num: u8,
    den: u8,
}

impl From<&MeterChange> for MeterView {
    fn from(change: &MeterChange) -> Self {
        Self { beat: change.beat, num: change.signature.numerator, den: change.signature.denominator }
    }
}

struct ChecksumView(Checksum);

impl Serialize for ChecksumView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:08x}", self.0.0))
    }
}

/// A client's number as it would print it itself: 1 comes back as `1`, not as `1.0`.
struct NumberView(Number);

impl Serialize for NumberView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const EXACT: f64 = (1_u64 << 53) as f64;
        let number = self.0.0;
        match number.fract() == 0.0 && number.abs() < EXACT {
            true => serializer.serialize_i64(number as i64),
            false => serializer.serialize_f64(number),
        }
    }
}

/// A count of thousandths, printed as a number of wholes: microseconds as milliseconds, milli-BPM as BPM.
struct Thousandths(i64);

impl Serialize for Thousandths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal(self.0, 1_000, serializer)
    }
}

/// A count of millionths, printed as a number of wholes: micro-beats as beats.
struct Millionths(i64);

impl Serialize for Millionths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal(self.0, 1_000_000, serializer)
    }
}

/// A division is rounded to the nearest float, and of those that name the same float the shortest decimal is
/// printed: up to fifteen digits, which is 31 years in microseconds, that is the quotient itself.
fn decimal<S: Serializer>(count: i64, in_one: i64, serializer: S) -> Result<S::Ok, S::Error> {
    match count % in_one {
        0 => serializer.serialize_i64(count / in_one),
        _ => serializer.serialize_f64(count as f64 / in_one as f64),
    }
}

/// A point in time or a span of it, in milliseconds. What never comes prints as the end of time.
fn span(span: Micros) -> Thousandths {
    Thousandths(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

fn bpm(tempo: Tempo) -> Thousandths {
    Thousandths(i64::from(tempo.milli_bpm()))
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::borrow::Cow;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::speech::{Code, LeaveReason, Tick};
    use crate::words::ids::MemberId;
    use crate::words::music::Position;
    use crate::words::time::UnixMillis;

    const ANN: &str = "AAAAAAAAAAAAAAAAAAAA";
    const BEN: &str = "BBBBBBBBBBBBBBBBBBBB";
    const NOW: UnixMillis = UnixMillis(1_700_000_000_123);
    const TIMELINE: &str = concat!(
        r#"{"epoch":3,"version":7,"leader":"AAAAAAAAAAAAAAAAAAAA","segments":["#,
        r#"{"t0":5000000,"p0":-2000000,"b0":-4000000,"rate":1,"bpm0":120000,"bpm1":90500,"ramp":8000000},"#,
        r#"{"t0":90000001,"p0":83000001,"b0":0,"rate":0,"bpm0":90500,"bpm1":90500,"ramp":0}],"#,
        r#""meter":[{"beat":0,"num":4,"den":4},{"beat":8000000,"num":6,"den":8}],"#,
        r#""quantum":4000000,"countIn":4,"madeAt":4999999}"#,
    );

    fn session() -> SessionId {
        SessionId::parse("stage").unwrap()
    }

    fn id(text: &str) -> MemberId {
        MemberId::parse(text).unwrap()
    }

    fn tempo(milli_bpm: u32) -> Tempo {
        Tempo::from_milli_bpm(milli_bpm).unwrap()
    }

    fn ann() -> Member {
        Member {
            id: id(ANN),
            display_name: "Ann".into(),
            role: Role::Leader,
            joined_at: UnixMillis(1_000),
            last_ping_at: UnixMillis(2_000),
            instrument: Some("bass".into()),
            connected: true,
        }
    }

    fn ben() -> Member {
        Member {
            id: id(BEN),
            display_name: "Ben".into(),
            role: Role::Follower,
            joined_at: UnixMillis(3_000),
            last_ping_at: UnixMillis(4_000),
            instrument: None,
            connected: false,
        }
    }

    fn timeline() -> Timeline {
        let signature = |numerator, denominator| TimeSignature { numerator, denominator };
        Timeline {
            epoch: 3,
            version: 7,
            leader: Some(id(ANN)),
            segments: vec![
                Segment {
                    t0: Micros::from_secs(5),
                    p0: -2_000_000,
                    b0: -4_000_000,
                    playing: true,
                    bpm0: tempo(120_000),
                    bpm1: tempo(90_500),
                    ramp: 8_000_000,
                },
                Segment {
                    t0: Micros::from_micros(90_000_001),
                    p0: 83_000_001,
                    b0: 0,
                    playing: false,
                    bpm0: tempo(90_500),
                    bpm1: tempo(90_500),
                    ramp: 0,
                },
            ],
            meter: vec![
                MeterChange { beat: 0, signature: signature(4, 4) },
                MeterChange { beat: 8_000_000, signature: signature(6, 8) },
            ],
            quantum: 4_000_000,
            count_in: 4,
            made_at: Micros::from_micros(4_999_999),
        }
    }

    fn settings() -> Settings {
        Settings {
            max_members: 8,
            on_leader_loss: OnLeaderLoss::Continue,
            leader_rule: LeaderRule::Open,
            anyone_may_cue: false,
            has_passcode: true,
        }
    }

    fn sync() -> SyncResponse {
        SyncResponse {
            position: 1_500_250,
            tempo: tempo(90_500),
            playing: true,
            timestamp: NOW,
            checksum: Checksum(0xbeef),
            timeline: timeline(),
        }
    }

    fn setlist() -> Setlist {
        let full = Song {
            id: "s1".into(),
            title: "Harbour".into(),
            artist: Some("Us".into()),
            key: Some("Em".into()),
            tempo: Some(tempo(96_000)),
            time_signature: Some(TimeSignature { numerator: 6, denominator: 8 }),
            format: SongFormat::ChordPro,
            body: "[Em]One\ntwo".into(),
            duration: Position::from_micros(180_000_500),
        };
        let bare = Song {
            id: "s2".into(),
            title: "Jam".into(),
            artist: None,
            key: None,
            tempo: None,
            time_signature: None,
            format: SongFormat::Text,
            body: String::new(),
            duration: None,
        };
        Setlist { title: "Friday".into(), songs: vec![full, bare] }
    }

    fn printed(print: impl FnOnce(&mut Vec<u8>)) -> String {
        // Whatever is there already stays: several packets are gathered in one buffer.
        let mut out = b"before".to_vec();
        print(&mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    /// `fields` is what follows the session's id; `$T` stands for [`TIMELINE`].
    #[track_caller]
    fn check(said: Notice, name: &str, fields: &str) {
        let fields = fields.replace("$T", TIMELINE);
        let expected = format!(r#"42["{name}",{{"sessionId":"stage",{fields}}}]"#);
        assert_eq!(printed(|out| notice(out, &session(), &said)), expected);
    }

    #[track_caller]
    fn check_link(said: LinkNotice<'_>, name: &str, fields: &str) {
        assert_eq!(printed(|out| link(out, &said)), format!(r#"42["{name}",{{{fields}}}]"#));
    }

    #[track_caller]
    fn check_ack(said: Ack, fields: &str) {
        let fields = fields.replace("$T", TIMELINE);
        let expected = format!(r#"4317[{{"ok":true{fields}}}]"#);
        assert_eq!(printed(|out| ack(out, 17, Some(&session()), &said)), expected);
    }

    #[test]
    fn members_come_and_go() {
        check(
            Notice::UserJoined { member: ann(), member_count: 2 },
            "user_joined",
            r#""member":{"socketId":"AAAAAAAAAAAAAAAAAAAA","displayName":"Ann","role":"leader","joinedAt":1000,"lastPingAt":2000,"instrument":"bass","connected":true},"memberCount":2"#,
        );
        check(
            Notice::UserLeft {
                member: id(ANN),
                member_count: 1,
                new_leader: Some(id(BEN)),
                reason: LeaveReason::TransportClosed,
                timestamp: NOW,
            },
            "user_left",
            r#""socketId":"AAAAAAAAAAAAAAAAAAAA","memberCount":1,"newLeader":"BBBBBBBBBBBBBBBBBBBB","disconnectReason":"transport close","timestamp":1700000000123"#,
        );
        check(
            Notice::UserLeft {
                member: id(BEN),
                member_count: 0,
                new_leader: None,
                reason: LeaveReason::Left,
                timestamp: NOW,
            },
            "user_left",
            r#""socketId":"BBBBBBBBBBBBBBBBBBBB","memberCount":0,"newLeader":null,"disconnectReason":"leave","timestamp":1700000000123"#,
        );
    }

    #[test]
    fn the_lead_changes_hands() {
        let changed = |reason| Notice::RoleChanged {
            member: id(BEN),
            role: Role::Leader,
            previous: Role::Follower,
            reason,
            timestamp: NOW,
        };
        check(
            changed(Some("leader_left")),
            "role_changed",
            r#""socketId":"BBBBBBBBBBBBBBBBBBBB","role":"leader","previousRole":"follower","reason":"leader_left","timestamp":1700000000123"#,
        );
        check(
            changed(None),
            "role_changed",
            r#""socketId":"BBBBBBBBBBBBBBBBBBBB","role":"leader","previousRole":"follower","timestamp":1700000000123"#,
        );
        check(
            Notice::LeaderRequestSent { current_leader: id(ANN) },
            "leader_request_sent",
            r#""message":"The leader has been asked to hand over.","currentLeader":"AAAAAAAAAAAAAAAAAAAA""#,
        );
        check(
            Notice::LeaderHandoffRequest { requester: ben() },
            "leader_handoff_request",
            r#""requesterId":"BBBBBBBBBBBBBBBBBBBB","requesterInfo":{"displayName":"Ben","joinedAt":3000}"#,
        );
        check(Notice::LeaderRequestApproved, "leader_request_approved", r#""message":"You lead now.""#);
        check(
            Notice::LeaderRequestDenied { reason: "Not tonight" },
            "leader_request_denied",
            r#""reason":"Not tonight""#,
        );
        check(
            Notice::LeaderHandoffCompleted { new_leader: id(BEN) },
            "leader_handoff_completed",
            r#""newLeaderId":"BBBBBBBBBBBBBBBBBBBB","message":"You have handed over the lead.""#,
        );
        check(
            Notice::LeaderChanged { new_leader: ben(), previous: Some(id(ANN)) },
            "leader_changed",
            r#""newLeaderId":"BBBBBBBBBBBBBBBBBBBB","newLeaderInfo":{"displayName":"Ben","joinedAt":3000},"previousLeader":"AAAAAAAAAAAAAAAAAAAA""#,
        );
        check(
            Notice::LeaderChanged { new_leader: ann(), previous: None },
            "leader_changed",
            r#""newLeaderId":"AAAAAAAAAAAAAAAAAAAA","newLeaderInfo":{"displayName":"Ann","joinedAt":1000},"previousLeader":null"#,
        );
    }

    #[test]
    fn members_talk() {
        check(
            Notice::Chat { from: id(BEN), username: "Ben".into(), message: "louder".into(), timestamp: NOW },
            "chat_message",
            r#""message":"louder","username":"Ben","socketId":"BBBBBBBBBBBBBBBBBBBB","timestamp":1700000000123"#,
        );
        let moment = Moment { at: Micros::from_micros(12_345_678), unix: NOW };
        let cue = |target| Notice::Cue { from: id(ANN), text: "chorus x2".into(), target, moment };
        check(
            cue(Some("drums".into())),
            "cue",
            r#""text":"chorus x2","target":"drums","from":"AAAAAAAAAAAAAAAAAAAA","atServerMs":12345.678,"serverTimestamp":1700000000123"#,
        );
        check(
            cue(None),
            "cue",
            r#""text":"chorus x2","from":"AAAAAAAAAAAAAAAAAAAA","atServerMs":12345.678,"serverTimestamp":1700000000123"#,
        );
    }

    #[test]
    fn the_transport_carries_the_timeline() {
        check(
            Notice::Play {
                tempo: tempo(120_000),
                position: -2_000_000,
                timestamp: NOW,
                timeline: timeline(),
            },
            "play",
            r#""tempoBpm":120,"position":-2000,"serverTimestamp":1700000000123,"timeline":$T"#,
        );
        check(
            Notice::Pause { position: 1_500_250, timestamp: NOW, timeline: timeline() },
            "pause",
            r#""position":1500.25,"serverTimestamp":1700000000123,"timeline":$T"#,
        );
        check(
            Notice::Stop { timestamp: NOW, timeline: timeline() },
            "stop",
            r#""serverTimestamp":1700000000123,"timeline":$T"#,
        );
        check(
            Notice::Seek { position: 0, timestamp: NOW, timeline: timeline() },
            "seek",
            r#""position":0,"serverTimestamp":1700000000123,"timeline":$T"#,
        );
        let change = |event| Notice::TempoChange {
            event,
            old: tempo(120_000),
            new: tempo(90_500),
            fade: Micros::from_secs(8),
            timestamp: NOW,
            timeline: timeline(),
        };
        check(
            change(TempoEvent::Change),
            "tempo_change",
            r#""oldTempo":120,"newTempo":90.5,"changeTime":1700000000123,"fadeTime":8000,"serverTimestamp":1700000000123,"timeline":$T"#,
        );
        check(
            change(TempoEvent::Changed),
            "tempo_changed",
            r#""oldTempo":120,"newTempo":90.5,"changeTime":1700000000123,"fadeTime":8000,"isRealTime":true,"serverTimestamp":1700000000123,"timeline":$T"#,
        );
        check(
            Notice::SyncResponse(sync()),
            "sync_response",
            r#""positionMs":1500.25,"tempoBpm":90.5,"isPlaying":true,"serverTime":1700000000123,"serverTimestamp":1700000000123,"epoch":3,"version":7,"checksum":"0000beef","timeline":$T"#,
        );
    }

    #[test]
    fn time_is_told() {
        check(
            Notice::BeatSync {
                master_time: NOW,
                beat_position: Number(17.25),
                tempo: tempo(90_500),
                drift: -250_001,
            },
            "beat_sync",
            r#""masterTime":1700000000123,"beatPosition":17.25,"tempo":90.5,"drift":-0.250001"#,
        );
        check(
            Notice::PositionSync { position: 16_667, server_time: NOW, client_timestamp: Number(99.0) },
            "position_sync",
            r#""positionMs":16.667,"serverTime":1700000000123,"clientTimestamp":99"#,
        );
        check(
            Notice::DriftCorrection { correct: 1_030_000, reported: 1_000_000, timestamp: NOW },
            "drift_correction",
            r#""correctPosition":1030,"reportedPosition":1000,"drift":-30,"timestamp":1700000000123"#,
        );
        check(
            Notice::Tick(Tick {
                position: 16_001,
                tempo: tempo(132_333),
                timestamp: NOW,
                epoch: 1,
                version: 9,
            }),
            "scroll_tick",
            r#""positionMs":16.001,"tempoBpm":132.333,"serverTimestamp":1700000000123,"epoch":1,"version":9"#,
        );
        let click = |beat, bar| Notice::MetronomeTick {
            beat,
            bar,
            at: Micros::from_micros(1_000_500),
            tempo: tempo(120_000),
        };
        check(
            click(1, -1),
            "metronome_tick",
            r#""beat":1,"bar":-1,"atServerMs":1000.5,"tempoBpm":120,"isDownbeat":true"#,
        );
        check(
            click(4, 12),
            "metronome_tick",
            r#""beat":4,"bar":12,"atServerMs":1000.5,"tempoBpm":120,"isDownbeat":false"#,
        );
    }

    #[test]
    fn songs_are_told() {
        check(
            Notice::Setlist(setlist()),
            "setlist",
            r#""setlist":{"title":"Friday","songs":[{"id":"s1","title":"Harbour","artist":"Us","key":"Em","tempoBpm":96,"timeSignature":{"numerator":6,"denominator":8},"format":"chordpro","body":"[Em]One\ntwo","durationMs":180000.5},{"id":"s2","title":"Jam","format":"text","body":""}]}"#,
        );
        check(
            Notice::SongChanged { song: "s2".into(), index: 1, timestamp: NOW, timeline: timeline() },
            "song_changed",
            r#""songId":"s2","index":1,"serverTimestamp":1700000000123,"timeline":$T"#,
        );
    }

    #[test]
    fn an_update_has_only_what_changed() {
        let update = |settings, time_signature| Notice::SessionUpdate {
            settings,
            time_signature,
            epoch: 3,
            version: 8,
            checksum: Checksum(u32::MAX),
        };
        check(update(None, None), "session_update", r#""epoch":3,"version":8,"checksum":"ffffffff""#);
        check(
            update(Some(settings()), None),
            "session_update",
            r#""settings":{"maxMembers":8,"onLeaderLoss":"continue","leaderRule":"open","anyoneMayCue":false,"hasPasscode":true},"epoch":3,"version":8,"checksum":"ffffffff""#,
        );
        check(
            update(None, Some((TimeSignature { numerator: 6, denominator: 8 }, timeline()))),
            "session_update",
            r#""timeSignature":{"numerator":6,"denominator":8},"timeline":$T,"epoch":3,"version":8,"checksum":"ffffffff""#,
        );
    }

    #[test]
    fn every_rule_has_its_word() {
        let mut words = Vec::new();
        for leader_rule in [LeaderRule::Open, LeaderRule::Ask, LeaderRule::Pin] {
            for on_leader_loss in [OnLeaderLoss::Continue, OnLeaderLoss::Pause] {
                let view = SettingsView::new(&Settings { leader_rule, on_leader_loss, ..settings() });
                words.push((view.leader_rule, view.on_leader_loss));
            }
        }
        let expected = ["open", "ask", "pin"].map(|rule| [(rule, "continue"), (rule, "pause")]);
        assert_eq!(words, expected.concat());
    }

    #[test]
    fn a_full_snapshot_has_everything_but_bodies() {
        let (session, ann, ben, timeline, setlist) = (session(), ann(), ben(), timeline(), setlist());
        let full = Snapshot {
            session: &session,
            message: "hello",
            tempo: tempo(90_500),
            position: 1_500_250,
            playing: true,
            members: vec![&ann, &ben],
            created_at: UnixMillis(500),
            last_active_at: UnixMillis(600),
            settings: settings(),
            timestamp: NOW,
            checksum: Checksum(0x0123_abcd),
            time_signature: TimeSignature { numerator: 6, denominator: 8 },
            song: Some((0, &setlist.songs[0])),
            setlist: Some(&setlist),
            timeline: &timeline,
        };
        let expected = [
            r#"42["snapshot",{"sessionId":"stage","message":"hello","tempo":90.5,"tempoBpm":90.5,"position":1500.25,"isPlaying":true,"leaderSocketId":"AAAAAAAAAAAAAAAAAAAA","#,
            r#""members":[{"socketId":"AAAAAAAAAAAAAAAAAAAA","displayName":"Ann","role":"leader","joinedAt":1000,"lastPingAt":2000,"instrument":"bass","connected":true},"#,
            r#"{"socketId":"BBBBBBBBBBBBBBBBBBBB","displayName":"Ben","role":"follower","joinedAt":3000,"lastPingAt":4000,"connected":false}],"#,
            r#""createdAt":500,"lastActiveAt":600,"settings":{"maxMembers":8,"onLeaderLoss":"continue","leaderRule":"open","anyoneMayCue":false,"hasPasscode":true},"#,
            r#""serverTimestamp":1700000000123,"epoch":3,"version":7,"checksum":"0123abcd","timeline":"#,
            TIMELINE,
            r#","timeSignature":{"numerator":6,"denominator":8},"song":{"id":"s1","title":"Harbour","artist":"Us","key":"Em","index":0},"#,
            r#""setlist":{"title":"Friday","songs":[{"id":"s1","title":"Harbour","artist":"Us","key":"Em","tempoBpm":96,"timeSignature":{"numerator":6,"denominator":8},"format":"chordpro","durationMs":180000.5},"#,
            r#"{"id":"s2","title":"Jam","format":"text"}]}}]"#,
        ];
        assert_eq!(printed(|out| snapshot(out, &full)), expected.concat());
    }

    #[test]
    fn an_empty_snapshot_has_no_leader_and_no_songs() {
        let session = session();
        let timeline = Timeline { leader: None, segments: vec![], meter: vec![], ..timeline() };
        let empty = Snapshot {
            session: &session,
            message: "",
            tempo: Tempo::DEFAULT,
            position: 0,
            playing: false,
            members: vec![],
            created_at: NOW,
            last_active_at: NOW,
            settings: settings(),
            timestamp: NOW,
            checksum: Checksum(0),
            time_signature: TimeSignature::COMMON,
            song: None,
            setlist: None,
            timeline: &timeline,
        };
        let expected = [
            r#"42["snapshot",{"sessionId":"stage","message":"","tempo":120,"tempoBpm":120,"position":0,"isPlaying":false,"leaderSocketId":null,"members":[],"#,
            r#""createdAt":1700000000123,"lastActiveAt":1700000000123,"settings":{"maxMembers":8,"onLeaderLoss":"continue","leaderRule":"open","anyoneMayCue":false,"hasPasscode":true},"#,
            r#""serverTimestamp":1700000000123,"epoch":3,"version":7,"checksum":"00000000","timeline":{"epoch":3,"version":7,"leader":null,"segments":[],"meter":[],"quantum":4000000,"countIn":4,"madeAt":4999999},"#,
            r#""timeSignature":{"numerator":4,"denominator":4}}]"#,
        ];
        assert_eq!(printed(|out| snapshot(out, &empty)), expected.concat());
    }

    #[test]
    fn room_stats_count() {
        let stats = RoomStats {
            member_count: 3,
            connected_count: 2,
            playing: true,
            tempo: tempo(90_500),
            position: 250,
            leader: Some(id(ANN)),
            uptime: Micros::from_millis(61_000),
        };
        assert_eq!(
            printed(|out| room_stats(out, &session(), &stats)),
            r#"42["room_stats",{"sessionId":"stage","memberCount":3,"connectedCount":2,"isPlaying":true,"tempo":90.5,"position":0.25,"leader":"AAAAAAAAAAAAAAAAAAAA","uptime":61000}]"#
        );
        let nobody = RoomStats { leader: None, ..stats };
        assert!(printed(|out| room_stats(out, &session(), &nobody)).contains(r#""leader":null,"#));
    }

    fn quality() -> Quality {
        Quality {
            member: id(ANN),
            latency: Some(Micros::from_micros(12_345)),
            ping_count: 4,
            pong_count: 2,
            timeouts: 1,
            connection_duration: Micros::from_secs(20),
        }
    }

    const QUALITY: &str = r#""socketId":"AAAAAAAAAAAAAAAAAAAA","latency":12.345,"packetLoss":33.333,"connectionDuration":20000,"pingCount":4,"pongCount":2,"timeouts":1,"quality":"poor""#;
    const MOMENT: Moment = Moment { at: Micros::from_micros(12_345_678), unix: NOW };

    #[test]
    fn a_connection_is_told() {
        check_link(
            LinkNotice::LatencyResponse { client_timestamp: Number(1.5), moment: MOMENT },
            "latency_response",
            r#""clientTimestamp":1.5,"serverTimestamp":1700000000123,"t1":12345.678,"t2":12345.678"#,
        );
        check_link(
            LinkNotice::ClockSync { t0: Number(7.0), at: MOMENT.at },
            "clock_sync",
            r#""t0":7,"t1":12345.678,"t2":12345.678"#,
        );
        check_link(LinkNotice::Ping { timestamp: NOW }, "ping", r#""timestamp":1700000000123"#);
        let heartbeat =
            |client_timestamp, rtt| LinkNotice::HeartbeatResponse { client_timestamp, timestamp: NOW, rtt };
        check_link(
            heartbeat(Some(Number(5.0)), Some(Micros::from_micros(3_210))),
            "heartbeat_response",
            r#""timestamp":5,"clientTimestamp":5,"serverTimestamp":1700000000123,"rtt":3.21"#,
        );
        check_link(
            heartbeat(None, None),
            "heartbeat_response",
            r#""timestamp":null,"clientTimestamp":null,"serverTimestamp":1700000000123,"rtt":null"#,
        );
        check_link(LinkNotice::ConnectionQuality(quality()), "connection_quality", QUALITY);
        let fresh = Quality { latency: None, ping_count: 1, pong_count: 0, timeouts: 0, ..quality() };
        check_link(
            LinkNotice::ConnectionQuality(fresh),
            "connection_quality",
            r#""socketId":"AAAAAAAAAAAAAAAAAAAA","latency":0,"packetLoss":0,"connectionDuration":20000,"pingCount":1,"pongCount":0,"timeouts":0,"quality":"unknown""#,
        );
        check_link(
            LinkNotice::RateLimitExceeded { event: "seek", retry_after: Micros::from_millis(200) },
            "rate_limit_exceeded",
            r#""eventType":"seek","retryAfter":200"#,
        );
        check_link(
            LinkNotice::Error { event: "seek", reject: &Reject::field("position", "too far") },
            "error",
            r#""message":"too far","code":"invalid_payload","event":"seek","field":"position""#,
        );
        check_link(
            LinkNotice::Error {
                event: "say \"hi\"",
                reject: &Reject::new(Code::UnknownEvent, "No such event."),
            },
            "error",
            r#""message":"No such event.","code":"unknown_event","event":"say \"hi\"""#,
        );
    }

    #[test]
    fn acknowledgements_carry_what_was_asked_for() {
        check_ack(Ack::Done, "");
        check_ack(
            Ack::Joined { member: id(ANN), role: Role::Follower, epoch: 3, version: 7 },
            r#","sessionId":"stage","socketId":"AAAAAAAAAAAAAAAAAAAA","role":"follower","epoch":3,"version":7"#,
        );
        check_ack(Ack::Changed { epoch: 3, version: 8 }, r#","epoch":3,"version":8"#);
        check_ack(Ack::Pending, r#","pending":true"#);
        check_ack(
            Ack::Sync(sync()),
            r#","sessionId":"stage","positionMs":1500.25,"tempoBpm":90.5,"isPlaying":true,"serverTime":1700000000123,"serverTimestamp":1700000000123,"epoch":3,"version":7,"checksum":"0000beef","timeline":$T"#,
        );
        check_ack(
            Ack::Song(setlist().songs.swap_remove(0)),
            r#","song":{"id":"s1","title":"Harbour","artist":"Us","key":"Em","tempoBpm":96,"timeSignature":{"numerator":6,"denominator":8},"format":"chordpro","body":"[Em]One\ntwo","durationMs":180000.5}"#,
        );
        check_ack(
            Ack::Clock { t0: Number(7.5), at: MOMENT.at },
            r#","t0":7.5,"t1":12345.678,"t2":12345.678"#,
        );
        check_ack(
            Ack::Latency { client_timestamp: Number(7.0), moment: MOMENT },
            r#","clientTimestamp":7,"serverTimestamp":1700000000123,"t1":12345.678,"t2":12345.678"#,
        );
        check_ack(
            Ack::Heartbeat { client_timestamp: Some(Number(5.0)), timestamp: NOW, rtt: None },
            r#","timestamp":5,"clientTimestamp":5,"serverTimestamp":1700000000123,"rtt":null"#,
        );
        check_ack(Ack::Quality(quality()), &format!(",{QUALITY}"));
    }

    #[test]
    fn a_refusal_names_its_field_if_there_is_one() {
        assert_eq!(
            printed(|out| refusal(out, u64::MAX, &Reject::field("tempo", "20 to 400 BPM"))),
            r#"4318446744073709551615[{"ok":false,"error":{"code":"invalid_payload","message":"20 to 400 BPM","field":"tempo"}}]"#
        );
        assert_eq!(
            printed(|out| refusal(out, 0, &Reject::new(Code::NotLeader, "Only the leader may."))),
            r#"430[{"ok":false,"error":{"code":"not_leader","message":"Only the leader may."}}]"#
        );
    }

    fn text(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap()
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        for (count, expected) in [
            (0, "0"),
            (1, "0.001"),
            (-1, "-0.001"),
            (1_000, "1"),
            (999_999, "999.999"),
            (86_400_000_001, "86400000.001"),
            (999_999_999_999_999, "999999999999.999"),
            (i64::MAX - 807, "9223372036854775"),
        ] {
            assert_eq!(text(&Thousandths(count)), expected, "{count}");
        }
        assert_eq!(text(&Millionths(-1)), "-1e-6");
        assert_eq!(text(&Millionths(2_500_000)), "2.5");
        for (number, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (9_007_199_254_740_991.0, "9007199254740991"),
            (-9_007_199_254_740_991.0, "-9007199254740991"),
            (1e300, "1e+300"),
        ] {
            assert_eq!(text(&NumberView(Number(number))), expected);
        }
    }

    /// What serde_json reads back of a printed event: its name and its payload.
    fn read_back(packet: &str) -> (String, Value) {
        serde_json::from_str(packet.strip_prefix("42").unwrap()).unwrap()
    }

    /// A number of a printed event, read to the last bit, which serde_json by itself does not.
    fn number(packet: &str, field: &str) -> f64 {
        let (_, rest) = packet.split_once(&format!("\"{field}\":")).unwrap();
        rest.split([',', '}']).next().unwrap().parse().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn any_text_survives(
            name in "[^\\p{Cc}]{1,32}", message in "\\PC{0,40}|[\\x00-\\x7f\"\\\\]{0,40}", target in any::<Option<String>>(),
        ) {
            let session = SessionId::parse(&name).unwrap();
            let said = Notice::Chat {
                from: id(ANN),
                username: target.clone().unwrap_or_default(),
                message: message.clone(),
                timestamp: NOW,
            };
            let (event, payload) = read_back(&printed(|out| notice(out, &session, &said)));
            prop_assert_eq!(event, "chat_message");
            prop_assert_eq!(&payload["sessionId"], &name);
            prop_assert_eq!(&payload["message"], &message);
            prop_assert_eq!(&payload["username"], target.as_deref().unwrap_or(""));
            let reject = Reject { code: Code::Internal, message: Cow::Owned(message.clone()), field: None };
            let packet = printed(|out| link(out, &LinkNotice::Error { event: &name, reject: &reject }));
            let (_, payload) = read_back(&packet);
            prop_assert_eq!(&payload["event"], &name);
            prop_assert_eq!(&payload["message"], &message);
        }

        #[test]
        fn any_number_is_json(position: i64, tempo in 20_000_u32..=400_000, epoch: u64, client: f64, at: u64) {
            let tick = Tick {
                position,
                tempo: Tempo::from_milli_bpm(tempo).unwrap(),
                timestamp: NOW,
                epoch,
                version: epoch,
            };
            let packet = printed(|out| notice(out, &session(), &Notice::Tick(tick)));
            prop_assert_eq!(number(&packet, "positionMs"), position as f64 / 1_000.0);
            prop_assert_eq!(number(&packet, "tempoBpm"), f64::from(tempo) / 1_000.0);
            prop_assert_eq!(&read_back(&packet).1["epoch"], epoch);

            prop_assume!(client.is_finite());
            let clock = LinkNotice::ClockSync { t0: Number(client), at: Micros::from_micros(at) };
            let packet = printed(|out| link(out, &clock));
            prop_assert_eq!(number(&packet, "t0"), client);
            prop_assert!(read_back(&packet).1["t1"].is_number());
        }
    }
}
