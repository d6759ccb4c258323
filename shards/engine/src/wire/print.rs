//! Speech to bytes: every notice and acknowledgement as a complete text packet of Engine.IO and
//! Socket.IO.
//!
//! What is printed is written down as views, one beside each value of `speech`: their fields are
//! the fields on the wire, in order. Speech itself stays without a wire form, so that neither can
//! change by accident with the other.

use serde::{Serialize, Serializer};

use self::printer::Printer;
use super::{json, socket_packet};
use crate::speech::{
    Ack, Checksum, LeaderRule, LinkNotice, Member, Notice, Number, OnLeaderLoss, Quality, Reject,
    Role, RoomStats, Setlist, Settings, Snapshot, Song, SongFormat, SyncResponse, TempoEvent, Tick,
};
use crate::words::ids::Offset;
use crate::words::ids::SessionId;
use crate::words::music::{MeterChange, Segment, Tempo, TimeSignature, Timeline};
use crate::words::time::{Micros, Moment};

/// Makes an event that was printed end with one more argument: where it stands among all that the
/// client is told.
pub fn offset(event: &mut Vec<u8>, offset: &Offset) {
    super::socket_packet::append_offset(event, &offset.to_string());
}

/// Appends a notice to the members of `session`.
pub fn notice(out: &mut Vec<u8>, session: &SessionId, notice: &Notice) {
    if let Notice::Tick(tick) = notice {
        return scroll_tick(out, session, tick);
    }
    any_notice(out, session, notice);
}

/// As [`any_notice`] prints it, to the byte, with field names that need no escaping any more:
/// nearly everything that a server prints is ticks.
fn scroll_tick(out: &mut Vec<u8>, session: &SessionId, tick: &Tick) {
    socket_packet::event_to(out, "scroll_tick", |out| {
        out.extend_from_slice(br#"{"sessionId":"#);
        json::print_string(out, session.as_str());
        out.extend_from_slice(br#","positionMs":"#);
        value(out, &Thousandths(tick.position));
        out.extend_from_slice(br#","tempoBpm":"#);
        value(out, &bpm(tick.tempo));
        out.extend_from_slice(br#","serverTimestamp":"#);
        value(out, &tick.timestamp.0);
        out.extend_from_slice(br#","epoch":"#);
        value(out, &tick.epoch);
        out.extend_from_slice(br#","version":"#);
        value(out, &tick.version);
        out.push(b'}');
    });
}

fn any_notice(out: &mut Vec<u8>, session: &SessionId, notice: &Notice) {
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

/// Appends the acknowledgement of an event that was done. `session` is the one that the sender is
/// in now; `join_session` and `sync_request` are told its id.
pub fn ack(out: &mut Vec<u8>, id: u64, session: Option<&SessionId>, ack: &Ack) {
    let fields = AckView::new(session.map(SessionId::as_str), ack);
    acknowledgement(out, id, &Success { ok: true, fields });
}

/// Appends the acknowledgement of an event that was refused.
pub fn refusal(out: &mut Vec<u8>, id: u64, reject: &Reject) {
    acknowledgement(out, id, &Failure { ok: false, error: ErrorView::new(reject) });
}

fn event(out: &mut Vec<u8>, name: &'static str, payload: &impl Serialize) {
    socket_packet::event_to(out, name, |out| value(out, payload));
}

fn acknowledgement(out: &mut Vec<u8>, id: u64, payload: &impl Serialize) {
    socket_packet::ack(out, id, |out| value(out, payload));
}

/// A `Vec` takes all bytes and no view refuses to be serialised, so this cannot fail.
fn value(out: &mut Vec<u8>, value: &impl Serialize) {
    let written = value.serialize(Printer(out));
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
            Notice::LeaderRequestApproved => (
                "leader_request_approved",
                Self::LeaderRequestApproved { message: "You lead now." },
            ),
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
            Notice::SyncResponse(sync) => {
                ("sync_response", Self::SyncResponse(SyncView::new(sync)))
            }
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
            Notice::Stop { timestamp, timeline } => (
                "stop",
                Self::Stop { server_timestamp: timestamp.0, timeline: TimelineView::new(timeline) },
            ),
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
                    timeline: time_signature
                        .as_ref()
                        .map(|(_, timeline)| TimelineView::new(timeline)),
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
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<Thousandths>,
        #[serde(skip_serializing_if = "Option::is_none")]
        bytes: Option<usize>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<usize>,
    },
}

impl<'a> LinkView<'a> {
    /// The event's name and its fields.
    fn new(notice: &'a LinkNotice<'_>) -> (&'static str, Self) {
        match notice {
            LinkNotice::LatencyResponse { client_timestamp, moment } => {
                ("latency_response", Self::Latency(LatencyView::new(*client_timestamp, *moment)))
            }
            LinkNotice::ClockSync { t0, at } => {
                ("clock_sync", Self::Clock(ClockView::new(*t0, *at)))
            }
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
                    retry_after: reject.retry_after.map(span),
                    bytes: reject.excess.map(|excess| excess.bytes),
                    max: reject.excess.map(|excess| excess.max),
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
        #[serde(skip_serializing_if = "Option::is_none")]
        restored: Option<bool>,
    },
    Changed {
        epoch: u64,
        version: u64,
    },
    Repeated {
        epoch: u64,
        version: u64,
        repeated: bool,
    },
    Superseded {
        superseded: bool,
        epoch: u64,
        version: u64,
    },
    Cut {
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<u64>,
        cut: bool,
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
            Ack::Joined { member, role, epoch, version, restored } => Self::Joined {
                session_id,
                socket_id: member.as_str(),
                role: role_word(*role),
                epoch: *epoch,
                version: *version,
                restored: *restored,
            },
            Ack::Changed { epoch, version } => Self::Changed { epoch: *epoch, version: *version },
            Ack::Repeated { epoch, version } => {
                Self::Repeated { epoch: *epoch, version: *version, repeated: true }
            }
            Ack::Superseded { epoch, version } => {
                Self::Superseded { superseded: true, epoch: *epoch, version: *version }
            }
            Ack::Cut(state) => {
                let (epoch, version) = state.unzip();
                Self::Cut { epoch, version, cut: true }
            }
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
    #[serde(skip_serializing_if = "Option::is_none")]
    member_count: Option<u32>,
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
            member_count: snapshot.member_count,
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
            setlist: snapshot
                .setlist
                .map(|setlist| SetlistView::new(setlist, SongView::without_body)),
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
        Self { t0: NumberView(t0), t1: span(at), t2: span(at) } // mark: clock_answers_ahead
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
#[serde(rename_all = "camelCase")]
struct ErrorView<'a> {
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<Thousandths>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<usize>,
}

impl<'a> ErrorView<'a> {
    fn new(reject: &'a Reject) -> Self {
        Self {
            code: reject.code.as_str(),
            message: &reject.message,
            field: reject.field,
            retry_after: reject.retry_after.map(span),
            bytes: reject.excess.map(|excess| excess.bytes),
            max: reject.excess.map(|excess| excess.max),
        }
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
            duration_ms: song
                .duration
                .map(|duration| span(Micros::from_micros(duration.as_micros()))),
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
        Self {
            beat: change.beat,
            num: change.signature.numerator,
            den: change.signature.denominator,
        }
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

/// A count of thousandths, printed as a number of wholes: microseconds as milliseconds, milli-BPM
/// as BPM.
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

/// A division is rounded to the nearest float, and of those that name the same float the shortest
/// decimal is printed: up to fifteen digits, which is 31 years in microseconds, that is the
/// quotient itself.
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

mod printer;

#[cfg(test)]
mod tests;
