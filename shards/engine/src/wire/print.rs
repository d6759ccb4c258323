//! Prints values and acknowledgements as bytes.
//!
//! The printed form of each value of `speech` is a view: its fields are the fields of the protocol,
//! in order. Values of `speech` have no printed form of their own, so neither changes by accident
//! with the other.

use serde::{Serialize, Serializer};

use self::printer::Printer;
use super::socket_packet;
use crate::speech::{
    Ack, Checksum, LeaderRule, Member, Number, OnLeaderLoss, Operation, Quality, Reject, Role,
    Setlist, Settings, Song, SongFormat, SyncResponse,
};
use crate::words::ids::{Offset, SessionId};
use crate::words::music::{Change, Loop, MeterChange, Segment, Tempo, TimeSignature, Timeline};
use crate::words::time::{Micros, Moment};

/// The name before the time of sending, in answers to probes.
pub const TIME_OF_SENDING: &[u8] = b"\"t2\":";

/// Appends the acknowledgement of an event that was applied. `session` is the sender's session now,
/// whose id `join_session` and `sync_request` return.
pub fn ack(out: &mut Vec<u8>, id: u64, session: Option<&SessionId>, ack: &Ack) {
    let fields = AckView::new(session.map(SessionId::as_str), ack);
    acknowledgement(out, id, &Success { ok: true, fields });
}

/// Appends the acknowledgement of an event that was rejected.
pub fn rejection(out: &mut Vec<u8>, id: u64, reject: &Reject) {
    acknowledgement(out, id, &Failure { ok: false, error: ErrorView::new(reject) });
}

/// Appends one more argument to a printed event: its offset in the replay log.
pub fn offset(event: &mut Vec<u8>, offset: &Offset) {
    socket_packet::append_offset(event, &offset.to_string());
}

fn acknowledgement(out: &mut Vec<u8>, id: u64, payload: &impl Serialize) {
    socket_packet::ack(out, id, |out| value(out, payload));
}

/// Appends a value. A `Vec` accepts all bytes and every view can be serialized, so this cannot
/// fail.
pub(super) fn value(out: &mut Vec<u8>, value: &impl Serialize) {
    let written = value.serialize(Printer(out));
    assert!(written.is_ok(), "a view that cannot be printed: {written:?}");
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

/// The version of the protocol. A client that finds it in the acknowledgement of its join may use
/// everything that this server offers.
const PROTOCOL: u32 = 2;

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
        protocol: u32,
        epoch: u64,
        version: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        restored: Option<bool>,
        seat: &'static str,
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
    Edited {
        epoch: u64,
        version: u64,
        revision: u64,
    },
    Setlist(SetlistView<'a>),
    Songs {
        revision: u64,
        songs: Vec<SongView<'a>>,
        more: &'a [String],
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
            Ack::Joined { member, role, epoch, version, restored, is_back } => Self::Joined {
                session_id,
                socket_id: member.as_str(),
                role: role_word(*role),
                protocol: PROTOCOL,
                epoch: *epoch,
                version: *version,
                restored: *restored,
                seat: if *is_back { "back" } else { "new" },
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
            Ack::Edited { epoch, version, revision } => {
                Self::Edited { epoch: *epoch, version: *version, revision: *revision }
            }
            Ack::Setlist(setlist) => {
                Self::Setlist(SetlistView::new(setlist, SongView::without_body))
            }
            Ack::Songs { revision, songs, more } => Self::Songs {
                revision: *revision,
                songs: songs.iter().map(|song| SongView::whole(song)).collect(),
                more,
            },
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
    fn new(client_timestamp: Number, moment: Moment) -> Self {
        Self {
            client_timestamp: NumberView(client_timestamp),
            server_timestamp: moment.unix.0,
            t1: span(moment.at),
            t2: sent_after(moment.at),
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
    fn new(t0: Number, at: Micros) -> Self {
        Self { t0: NumberView(t0), t1: span(at), t2: sent_after(at) } // mark: clock_answers_ahead
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
    /// Creates the view. Old clients expect their own time under either of the two names.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    song_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    song: Option<Option<SongView<'a>>>,
}

impl<'a> ErrorView<'a> {
    fn new(reject: &'a Reject) -> Self {
        let conflict = reject.conflict.as_deref();
        Self {
            code: reject.code.as_str(),
            message: &reject.message,
            field: reject.field,
            retry_after: reject.retry_after.map(span),
            bytes: reject.excess.map(|excess| excess.bytes),
            max: reject.excess.map(|excess| excess.max),
            revision: conflict.map(|conflict| conflict.revision),
            song_id: conflict.map(|conflict| conflict.id.as_str()),
            song: conflict.map(|conflict| conflict.song.as_deref().map(SongView::whole)),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MemberView<'a> {
    socket_id: &'a str,
    display_name: &'a str,
    role: &'static str,
    joined_at: i64,
    last_ping_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    instrument: Option<&'a str>,
    connected: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    may_edit: Option<bool>,
}

impl<'a> MemberView<'a> {
    pub fn all(members: &[&'a Member]) -> Vec<Self> {
        members.iter().map(|member| Self::new(member)).collect()
    }

    pub fn new(member: &'a Member) -> Self {
        Self {
            socket_id: member.id.as_str(),
            display_name: &member.display_name,
            role: role_word(member.role),
            joined_at: member.joined_at.0,
            last_ping_at: member.last_ping_at.0,
            instrument: member.instrument.as_deref(),
            connected: member.connected,
            may_edit: member.may_edit.then_some(true),
        }
    }
}

/// A member, as named when the lead changes hands.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MemberInfo<'a> {
    display_name: &'a str,
    joined_at: i64,
}

impl<'a> MemberInfo<'a> {
    pub fn new(member: &'a Member) -> Self {
        Self { display_name: &member.display_name, joined_at: member.joined_at.0 }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SettingsView {
    max_members: u32,
    pub on_leader_loss: &'static str,
    pub leader_rule: &'static str,
    anyone_may_cue: bool,
    anyone_may_edit: bool,
    has_passcode: bool,
}

impl SettingsView {
    pub fn new(settings: &Settings) -> Self {
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
            anyone_may_edit: settings.anyone_may_edit,
            has_passcode: settings.has_passcode,
        }
    }
}

#[derive(Serialize)]
pub(super) struct SetlistView<'a> {
    revision: u64,
    title: &'a str,
    songs: Vec<SongView<'a>>,
}

impl<'a> SetlistView<'a> {
    pub fn new(setlist: &'a Setlist, song: impl Fn(&'a Song) -> SongView<'a>) -> Self {
        Self {
            revision: setlist.revision,
            title: &setlist.title,
            songs: setlist.songs.iter().map(|one| song(one)).collect(),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SongView<'a> {
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    meter: Vec<SongMeterView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end_beat: Option<Millionths>,
    revision: u64,
}

/// A time signature of a song, at a beat and not at a microbeat.
#[derive(Serialize)]
struct SongMeterView {
    beat: Millionths,
    num: u8,
    den: u8,
}

impl From<&MeterChange> for SongMeterView {
    fn from(MeterChange { beat, signature }: &MeterChange) -> Self {
        Self { beat: Millionths(*beat), num: signature.numerator, den: signature.denominator }
    }
}

impl<'a> SongView<'a> {
    pub fn whole(song: &'a Song) -> Self {
        Self { body: Some(&song.body), ..Self::without_body(song) }
    }

    pub fn without_body(song: &'a Song) -> Self {
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
            meter: song.meter.iter().map(SongMeterView::from).collect(),
            end_beat: song.end.map(Millionths),
            revision: song.revision,
        }
    }
}

/// An operation of an edit, as all members receive it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OperationView<'a> {
    op: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    song: Option<SongView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    song_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shift: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
}

impl<'a> OperationView<'a> {
    pub fn all(operations: &'a [Operation]) -> Vec<Self> {
        operations.iter().map(Self::new).collect()
    }

    fn new(operation: &'a Operation) -> Self {
        let bare = |op| Self {
            op,
            song: operation.song().map(|song| SongView::whole(song)),
            song_id: None,
            before: None,
            was: None,
            shift: None,
            title: None,
        };
        match operation {
            Operation::Add { before, .. } => Self { before: before.as_deref(), ..bare("add") },
            Operation::Replace { was, shift, .. } => {
                let shift = Some(*shift).filter(|shift| *shift != 0);
                Self { was: Some(*was), shift, ..bare("replace") }
            }
            Operation::Move { id, before } => {
                Self { song_id: Some(id), before: before.as_deref(), ..bare("move") }
            }
            Operation::Remove { id, was } => {
                Self { song_id: Some(id), was: Some(*was), ..bare("remove") }
            }
            Operation::Retitle { title } => Self { title: Some(title), ..bare("retitle") },
        }
    }
}

/// The selected song in a snapshot.
#[derive(Serialize)]
pub(super) struct CurrentSongView<'a> {
    id: &'a str,
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artist: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    index: u32,
}

impl<'a> CurrentSongView<'a> {
    pub fn new(index: u32, song: &'a Song) -> Self {
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
pub(super) struct TimeSignatureView {
    numerator: u8,
    denominator: u8,
}

impl From<&TimeSignature> for TimeSignatureView {
    fn from(signature: &TimeSignature) -> Self {
        Self { numerator: signature.numerator, denominator: signature.denominator }
    }
}

/// The timeline in integers: microseconds, microbeats and milli-BPM.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TimelineView<'a> {
    epoch: u64,
    version: u64,
    leader: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    song: Option<&'a str>,
    segments: Vec<SegmentView<'a>>,
    meter: Vec<MeterView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<i64>,
    quantum: i64,
    count_in: u32,
    made_at: u64,
}

impl<'a> TimelineView<'a> {
    pub fn new(timeline: &'a Timeline) -> Self {
        Self {
            epoch: timeline.epoch,
            version: timeline.version,
            leader: timeline.leader.as_ref().map(|leader| leader.as_str()),
            song: timeline.song.as_deref(),
            segments: timeline.segments.iter().map(SegmentView::from).collect(),
            meter: MeterView::all(&timeline.meter),
            end: timeline.end,
            quantum: timeline.quantum,
            count_in: timeline.count_in,
            made_at: timeline.made_at.as_micros(),
        }
    }
}

#[derive(Serialize)]
struct SegmentView<'a> {
    t0: u64,
    p0: i64,
    b0: i64,
    rate: u8,
    bpm0: u32,
    bpm1: u32,
    ramp: u64,
    #[serde(rename = "loop", skip_serializing_if = "Option::is_none")]
    looped: Option<LoopView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    armed: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    song: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meter: Option<Vec<MeterView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    end: Option<i64>,
}

impl<'a> From<&'a Segment> for SegmentView<'a> {
    fn from(segment: &'a Segment) -> Self {
        let armed = segment.armed.as_deref();
        let (song, end) = match armed.map(|armed| &armed.change) {
            Some(Change::Song { id, end }) => (Some(id.as_str()), *end),
            _ => (None, None),
        };
        Self {
            t0: segment.t0.as_micros(),
            p0: segment.p0,
            b0: segment.b0,
            rate: u8::from(segment.playing),
            bpm0: segment.bpm0.milli_bpm(),
            bpm1: segment.bpm1.milli_bpm(),
            ramp: segment.ramp,
            looped: segment.looped.map(LoopView::from),
            start: segment.start,
            cut: armed.map(|armed| armed.cut),
            armed: armed.map(|armed| change_word(&armed.change)),
            song,
            meter: armed.and_then(|armed| armed.meter.as_deref()).map(MeterView::all),
            end,
        }
    }
}

#[derive(Serialize)]
struct LoopView {
    from: i64,
    to: i64,
    p: i64,
}

impl From<Loop> for LoopView {
    fn from(Loop { from, to, p }: Loop) -> Self {
        Self { from, to, p }
    }
}

#[derive(Serialize)]
struct MeterView {
    beat: i64,
    num: u8,
    den: u8,
}

impl MeterView {
    fn all(meter: &[MeterChange]) -> Vec<Self> {
        meter.iter().map(Self::from).collect()
    }
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

pub(super) struct ChecksumView(pub Checksum);

impl Serialize for ChecksumView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:08x}", self.0.0))
    }
}

/// A client's number, printed as JavaScript prints it: 1 is `1`, not `1.0`.
pub(super) struct NumberView(pub Number);

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

/// A count of thousandths, printed in wholes: microseconds as milliseconds, milli-BPM as BPM.
pub(super) struct Thousandths(pub i64);

impl Serialize for Thousandths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal(self.0, 1_000, serializer)
    }
}

/// A count of millionths, printed in wholes: microbeats as beats.
pub(super) struct Millionths(pub i64);

impl Serialize for Millionths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        decimal(self.0, 1_000_000, serializer)
    }
}

/// Prints a quotient. The division is rounded to the nearest float, and the shortest decimal for
/// that float is printed. For up to fifteen digits, which is 31 years in microseconds, that is the
/// quotient itself.
fn decimal<S: Serializer>(count: i64, in_one: i64, serializer: S) -> Result<S::Ok, S::Error> {
    match count % in_one {
        0 => serializer.serialize_i64(count / in_one),
        _ => serializer.serialize_f64(count as f64 / in_one as f64),
    }
}

/// Returns a time or a duration in milliseconds. A time that never comes is printed as the last
/// one.
pub(super) fn span(span: Micros) -> Thousandths {
    Thousandths(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

/// Returns the time of sending, as long as the driver has not stamped it. It has three decimals, so
/// that the stamp takes the same number of bytes: it is one or two microseconds after `received`.
pub(super) fn sent_after(received: Micros) -> Thousandths {
    let next = received + Micros::from_micros(1);
    let is_short = next.as_micros().is_multiple_of(10);
    span(next + Micros::from_micros(u64::from(is_short)))
}

pub(super) fn bpm(tempo: Tempo) -> Thousandths {
    Thousandths(i64::from(tempo.milli_bpm()))
}

const fn change_word(change: &Change) -> &'static str {
    match change {
        Change::Jump => "jump",
        Change::Song { .. } => "song",
        Change::Tempo(_) => "tempo",
        Change::Meter => "meter",
        Change::End => "end",
    }
}

pub(super) fn role_word(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
    }
}

pub(super) mod printer;
