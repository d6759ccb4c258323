//! The table of server events: one entry has the name, summary and fields of an event.
//!
//! The printers are generated from the table, and so are the descriptions in [`notices`], from
//! which documents are generated. A new notice needs one variant in `speech` and one entry here.

use serde::Serialize;

use super::fields::{
    BOOL, COUNT, CUE_KIND, CUE_SECONDS, CUE_TEXT, Kind, NUMBER, ROLE, SERVER_MS, SESSION,
    SHORT_TEXT, SOCKET_ID, SONG_ID, TEMPO,
};
use super::print::printer::Object;
use super::print::{
    ChecksumView, CurrentSongView, MemberInfo, MemberView, Millionths, NumberView, OperationView,
    SetlistView, SettingsView, SongView, Thousandths, TimeSignatureView, TimelineView, bpm,
    role_word, sent_after, span, value,
};
use super::schema::{FieldInfo, Nullable, Optional, Schema, nullable, optional};
use super::setlist::TIME_SIGNATURE;
use super::shapes::{
    ANY_TEXT, BYTES, CHECKSUM, CURRENT_SONG, ERROR_CODE, INTEGER, LEAVE_REASON, MEMBER,
    MEMBER_INFO, MEMBERS, MILLIS, NAME, OPERATIONS, PERCENT, PLACE, QUALITY, SETLIST, SETTINGS,
    SONG, TEXT, TIMELINE, UNIX, WORDS,
};
use super::{json, socket_packet};
use crate::speech::{ClientNotice, Notice, RoomStats, Snapshot, Tick};
use crate::words::ids::{MemberId, SessionId};
use crate::words::music::TempoEvent;
use crate::words::time::Micros;

/// The description of a server event, for documents.
#[derive(Clone, Copy, Debug)]
pub struct NoticeInfo {
    /// The name in the protocol.
    pub name: &'static str,
    /// Its meaning, for people.
    pub summary: &'static str,
    /// Its fields.
    pub fields: &'static [FieldInfo],
}

/// Returns the descriptions of all server events.
pub fn notices() -> impl Iterator<Item = &'static NoticeInfo> {
    [SNAPSHOT, ROOM_STATS, NOTICES, CLIENT_NOTICES].into_iter().flatten()
}

/// Generates a printer and descriptions from entries: name, summary, value, and fields in order.
/// The first field of a notice `in_session` is the session's id.
macro_rules! notices {
    ($(#[$about:meta])* fn $print:ident($scope:ident, $notice:ty) -> $infos:ident;
        $($name:literal, $summary:expr, $pattern:pat => {
            $($field:literal: $kind:expr => $value:expr,)*
        })*) => {
        $(#[$about])*
        fn $print(out: &mut Vec<u8>, session: session!($scope), notice: &$notice) {
            match notice {
                $($pattern => socket_packet::event_to(out, $name, |out| {
                    let mut object = Object::begin(out);
                    begin!($scope, object, session);
                    $($kind.print(&mut object, $field, &$value);)*
                    object.end();
                }),)*
            }
        }

        const $infos: &[NoticeInfo] = &[$(NoticeInfo {
            name: $name,
            summary: $summary,
            fields: described!($scope; $($kind.info($field),)*),
        },)*];
    };
}

macro_rules! session {
    (in_session) => {
        &SessionId
    };
    (alone) => {
        ()
    };
}

macro_rules! begin {
    (in_session, $object:ident, $session:ident) => {
        $object.field("sessionId", $session.as_str())
    };
    (alone, $object:ident, $session:ident) => {
        let () = $session;
    };
}

macro_rules! described {
    (in_session; $($field:expr,)*) => { &[SESSION.info("sessionId"), $($field,)*] };
    (alone; $($field:expr,)*) => { &[$($field,)*] };
}

/// Appends a `snapshot`.
pub fn snapshot(out: &mut Vec<u8>, snapshot: &Snapshot<'_>) {
    print_snapshot(out, (), snapshot);
}

/// Appends the `room_stats` of a session.
pub fn room_stats(out: &mut Vec<u8>, session: &SessionId, stats: &RoomStats) {
    print_room_stats(out, session, stats);
}

/// Appends a notice to the members of a session.
pub fn notice(out: &mut Vec<u8>, session: &SessionId, notice: &Notice) {
    match notice {
        Notice::Tick(tick) => scroll_tick(out, session, tick),
        notice => print_notice(out, session, notice),
    }
}

/// Appends a notice that concerns a connection alone.
pub fn client(out: &mut Vec<u8>, notice: &ClientNotice<'_>) {
    print_client(out, (), notice);
}

notices! {
    fn print_snapshot(alone, Snapshot<'_>) -> SNAPSHOT;

    "snapshot",
    "The whole session. A new member receives it, and all members receive it after changes of \
     playback, lead, message, set list or names. If the session has more than 256 members, members \
     lists only the leader and those that joined first, and memberCount has the number of all.",
    snapshot => {
        "sessionId": SESSION => snapshot.session.as_str(),
        "message": TEXT => snapshot.message,
        "tempo": TEMPO => bpm(snapshot.tempo),
        "tempoBpm": TEMPO => bpm(snapshot.tempo),
        "position": PLACE => Thousandths(snapshot.position),
        "beat": NUMBER => Millionths(snapshot.beat),
        "isPlaying": BOOL => snapshot.playing,
        "leaderSocketId": nullable(SOCKET_ID) => id(snapshot.timeline.leader.as_ref()),
        "members": MEMBERS => MemberView::all(&snapshot.members),
        "memberCount": optional(COUNT) => snapshot.member_count,
        "createdAt": UNIX => snapshot.created_at.0,
        "lastActiveAt": UNIX => snapshot.last_active_at.0,
        "settings": SETTINGS => SettingsView::new(&snapshot.settings),
        "serverTimestamp": UNIX => snapshot.timestamp.0,
        "epoch": COUNT => snapshot.timeline.epoch,
        "version": COUNT => snapshot.timeline.version,
        "checksum": CHECKSUM => ChecksumView(snapshot.checksum),
        "timeline": TIMELINE => TimelineView::new(snapshot.timeline),
        "timeSignature": TIME_SIGNATURE => TimeSignatureView::from(&snapshot.time_signature),
        "song": optional(CURRENT_SONG)
            => snapshot.song.map(|(index, song)| CurrentSongView::new(index, song)),
        "setlist": optional(SETLIST)
            => snapshot.setlist.map(|setlist| SetlistView::new(setlist, SongView::without_body)),
        "setlistRevision": optional(COUNT) => snapshot.setlist_revision,
    }
}

notices! {
    fn print_room_stats(in_session, RoomStats) -> ROOM_STATS;

    "room_stats",
    "Member counts and playback; the last event of a batch. In a session of more than 256 members \
     at most once per second.",
    stats => {
        "memberCount": COUNT => stats.member_count,
        "connectedCount": COUNT => stats.connected_count,
        "isPlaying": BOOL => stats.playing,
        "tempo": TEMPO => bpm(stats.tempo),
        "position": PLACE => Thousandths(stats.position),
        "leader": nullable(SOCKET_ID) => id(stats.leader.as_ref()),
        "uptime": MILLIS => span(stats.uptime),
        "screens": COUNT => stats.screens,
    }
}

notices! {
    /// Appends a notice as the table describes it.
    fn print_notice(in_session, Notice) -> NOTICES;

    "session_update",
    "The settings, the time signature, the loop, the armed changes or the rights of a member were \
     changed.",
    Notice::SessionUpdate {
        settings,
        time_signature,
        timeline,
        member,
        epoch,
        version,
        checksum,
    } => {
        "settings": optional(SETTINGS) => settings.as_ref().map(SettingsView::new),
        "timeSignature": optional(TIME_SIGNATURE)
            => time_signature.as_ref().map(TimeSignatureView::from),
        "timeline": optional(TIMELINE)
            => timeline.as_ref().map(|timeline| TimelineView::new(timeline)),
        "member": optional(MEMBER) => member.as_ref().map(|member| MemberView::new(member)),
        "epoch": COUNT => epoch,
        "version": COUNT => version,
        "checksum": CHECKSUM => ChecksumView(*checksum),
    }

    "user_joined",
    "A member joined. In a session of more than 256 members only for members that snapshots list.",
    Notice::UserJoined { member, member_count } => {
        "member": MEMBER => MemberView::new(member),
        "memberCount": COUNT => member_count,
    }

    "user_left",
    "A member left or was lost. In a session of more than 256 members only for members that \
     snapshots list.",
    Notice::UserLeft { member, member_count, new_leader, reason, timestamp } => {
        "socketId": SOCKET_ID => member.as_str(),
        "memberCount": COUNT => member_count,
        "newLeader": nullable(SOCKET_ID) => id(new_leader.as_ref()),
        "disconnectReason": LEAVE_REASON => reason.as_str(),
        "timestamp": UNIX => timestamp.0,
    }

    "role_changed",
    "A member's role changed. If a command asks for the present role, only its sender receives \
     this.",
    Notice::RoleChanged { member, role, previous, reason, timestamp } => {
        "socketId": SOCKET_ID => member.as_str(),
        "role": ROLE => role_word(*role),
        "previousRole": ROLE => role_word(*previous),
        "reason": optional(SHORT_TEXT) => *reason,
        "timestamp": UNIX => timestamp.0,
    }

    "leader_request_sent",
    "Sent to the requester: the request waits for the leader's answer.",
    Notice::LeaderRequestSent { current_leader } => {
        "message": SHORT_TEXT => "The leader has been asked to hand over.",
        "currentLeader": SOCKET_ID => current_leader.as_str(),
    }

    "leader_handoff_request",
    "Sent to the leader: a member requests the lead.",
    Notice::LeaderHandoffRequest { requester } => {
        "requesterId": SOCKET_ID => requester.id.as_str(),
        "requesterInfo": MEMBER_INFO => MemberInfo::new(requester),
    }

    "leader_request_approved",
    "Sent to the requester: it leads now.",
    Notice::LeaderRequestApproved => {
        "message": SHORT_TEXT => "You lead now.",
    }

    "leader_request_denied",
    "Sent to the requester: the leader denied the request, or the lead was passed on or given up.",
    Notice::LeaderRequestDenied { reason } => {
        "reason": SHORT_TEXT => reason,
    }

    "leader_handoff_completed",
    "Sent to the former leader: the requester leads now.",
    Notice::LeaderHandoffCompleted { new_leader } => {
        "newLeaderId": SOCKET_ID => new_leader.as_str(),
        "message": SHORT_TEXT => "You have handed over the lead.",
    }

    "leader_changed",
    "The session has another leader. A leader that claims the lead again receives it alone.",
    Notice::LeaderChanged { new_leader, previous } => {
        "newLeaderId": SOCKET_ID => new_leader.id.as_str(),
        "newLeaderInfo": MEMBER_INFO => MemberInfo::new(new_leader),
        "previousLeader": nullable(SOCKET_ID) => id(previous.as_ref()),
    }

    "sync_response",
    "Answer to sync_request: position, tempo and timeline.",
    Notice::SyncResponse(sync) => {
        "positionMs": PLACE => Thousandths(sync.position),
        "tempoBpm": TEMPO => bpm(sync.tempo),
        "isPlaying": BOOL => sync.playing,
        "serverTime": UNIX => sync.timestamp.0,
        "serverTimestamp": UNIX => sync.timestamp.0,
        "epoch": COUNT => sync.timeline.epoch,
        "version": COUNT => sync.timeline.version,
        "checksum": CHECKSUM => ChecksumView(sync.checksum),
        "timeline": TIMELINE => TimelineView::new(&sync.timeline),
    }

    "chat_message",
    "A chat message of a member. In a session of 32 members or more it may wait for up to four \
     batch windows, so that several are sent together.",
    Notice::Chat { from, username, message, timestamp } => {
        "message": WORDS => message,
        "username": NAME => username,
        "socketId": SOCKET_ID => from.as_str(),
        "timestamp": UNIX => timestamp.0,
    }

    "cue",
    "A stage message.",
    Notice::Cue { from, cue, moment } => {
        "text": CUE_TEXT => cue.text,
        "kind": CUE_KIND => cue.kind.as_str(),
        "seconds": CUE_SECONDS => NumberView(cue.seconds),
        "target": optional(NAME) => cue.target.as_deref(),
        "from": SOCKET_ID => from.as_str(),
        "atServerMs": SERVER_MS => span(moment.at),
        "serverTimestamp": UNIX => moment.unix.0,
    }

    "play",
    "The song starts; the timeline has the time.",
    Notice::Play { tempo, position, timestamp, timeline } => {
        "tempoBpm": TEMPO => bpm(*tempo),
        "position": PLACE => Thousandths(*position),
        "serverTimestamp": UNIX => timestamp.0,
        "timeline": TIMELINE => TimelineView::new(timeline),
    }

    "pause",
    "The song was stopped at this position.",
    Notice::Pause { position, reason, timestamp, timeline } => {
        "position": PLACE => Thousandths(*position),
        "reason": optional(SHORT_TEXT) => *reason,
        "serverTimestamp": UNIX => timestamp.0,
        "timeline": TIMELINE => TimelineView::new(timeline),
    }

    "stop",
    "The song was stopped at its beginning.",
    Notice::Stop { timestamp, timeline } => {
        "serverTimestamp": UNIX => timestamp.0,
        "timeline": TIMELINE => TimelineView::new(timeline),
    }

    "seek",
    "The position was changed.",
    Notice::Seek { position, beat, timestamp, timeline } => {
        "position": PLACE => Thousandths(*position),
        "beat": NUMBER => Millionths(*beat),
        "serverTimestamp": UNIX => timestamp.0,
        "timeline": TIMELINE => TimelineView::new(timeline),
    }

    "tempo_change",
    "The tempo was changed by tempo_change.",
    Notice::TempoChange { event: TempoEvent::Change, old, new, fade, timestamp, timeline } => {
        "oldTempo": TEMPO => bpm(*old),
        "newTempo": TEMPO => bpm(*new),
        "changeTime": UNIX => timestamp.0,
        "fadeTime": MILLIS => span(*fade),
        "serverTimestamp": UNIX => timestamp.0,
        "timeline": TIMELINE => TimelineView::new(timeline),
    }

    "tempo_changed",
    "The tempo was changed by set_tempo or tempo_changed.",
    Notice::TempoChange { event: TempoEvent::Changed, old, new, fade, timestamp, timeline } => {
        "oldTempo": TEMPO => bpm(*old),
        "newTempo": TEMPO => bpm(*new),
        "changeTime": UNIX => timestamp.0,
        "fadeTime": MILLIS => span(*fade),
        "isRealTime": BOOL => true,
        "serverTimestamp": UNIX => timestamp.0,
        "timeline": TIMELINE => TimelineView::new(timeline),
    }

    "beat_sync",
    "The leader's beat, and its distance from the timeline's.",
    Notice::BeatSync { master_time, beat_position, tempo, drift } => {
        "masterTime": UNIX => master_time.0,
        "beatPosition": NUMBER => NumberView(*beat_position),
        "tempo": TEMPO => bpm(*tempo),
        "drift": NUMBER => Millionths(*drift),
    }

    "position_sync",
    "The leader's position.",
    Notice::PositionSync { position, server_time, client_timestamp } => {
        "positionMs": PLACE => Thousandths(*position),
        "serverTime": UNIX => server_time.0,
        "clientTimestamp": NUMBER => NumberView(*client_timestamp),
    }

    "drift_correction",
    "Sent to a follower whose reported position is more than 25 ms off.",
    Notice::DriftCorrection { correct, reported, timestamp } => {
        "correctPosition": PLACE => Thousandths(*correct),
        "reportedPosition": PLACE => Thousandths(*reported),
        "drift": NUMBER => Thousandths(reported.saturating_sub(*correct)),
        "timestamp": UNIX => timestamp.0,
    }

    "scroll_tick",
    "The position, with every tick while the music plays. A client that reads too slowly misses \
     ticks.",
    Notice::Tick(tick) => {
        "positionMs": PLACE => Thousandths(tick.position),
        "tempoBpm": TEMPO => bpm(tick.tempo),
        "serverTimestamp": UNIX => tick.timestamp.0,
        "epoch": COUNT => tick.epoch,
        "version": COUNT => tick.version,
    }

    "metronome_tick",
    "A beat, sent 200 ms before its time to members that joined with metronome set.",
    Notice::MetronomeTick { beat, bar, at, tempo } => {
        "beat": COUNT => beat,
        "bar": INTEGER => bar,
        "atServerMs": SERVER_MS => span(*at),
        "tempoBpm": TEMPO => bpm(*tempo),
        "isDownbeat": BOOL => *beat == 1,
    }

    "setlist",
    "The songs were changed; the list has their bodies.",
    Notice::Setlist(setlist) => {
        "setlist": SETLIST => SetlistView::new(setlist, SongView::whole),
    }

    "setlist_changed",
    "The set list was edited. A member that holds the revision base applies the operations in \
     order; another one requests the list.",
    Notice::SetlistChanged { revision, base, operations, from, epoch, version, checksum } => {
        "revision": COUNT => revision,
        "base": COUNT => base,
        "ops": OPERATIONS => OperationView::all(operations),
        "from": SOCKET_ID => from.as_str(),
        "epoch": COUNT => epoch,
        "version": COUNT => version,
        "checksum": CHECKSUM => ChecksumView(*checksum),
    }

    "song_changed",
    "Another song was selected.",
    Notice::SongChanged { song, index, timestamp, timeline } => {
        "songId": SONG_ID => song,
        "index": COUNT => index,
        "serverTimestamp": UNIX => timestamp.0,
        "timeline": TIMELINE => TimelineView::new(timeline),
    }
}

notices! {
    fn print_client(alone, ClientNotice<'_>) -> CLIENT_NOTICES;

    "latency_response",
    "Answer to latency_probe.",
    ClientNotice::LatencyResponse { client_timestamp, moment } => {
        "clientTimestamp": NUMBER => NumberView(*client_timestamp),
        "serverTimestamp": UNIX => moment.unix.0,
        "t1": SERVER_MS => span(moment.at),
        "t2": SERVER_MS => sent_after(moment.at),
    }

    "clock_sync",
    "Answer to a clock_sync without acknowledgement.",
    ClientNotice::ClockSync { t0, at } => {
        "t0": NUMBER => NumberView(*t0),
        "t1": SERVER_MS => span(*at),
        "t2": SERVER_MS => sent_after(*at),
    }

    "ping",
    "Heartbeat of the application, which the client answers with pong.",
    ClientNotice::Ping { timestamp } => {
        "timestamp": UNIX => timestamp.0,
    }

    "heartbeat_response",
    "Answer to heartbeat.",
    ClientNotice::HeartbeatResponse { client_timestamp, timestamp, rtt } => {
        "timestamp": nullable(NUMBER) => client_timestamp.map(NumberView),
        "clientTimestamp": nullable(NUMBER) => client_timestamp.map(NumberView),
        "serverTimestamp": UNIX => timestamp.0,
        "rtt": nullable(MILLIS) => rtt.map(span),
    }

    "connection_quality",
    "Answer to connection_quality; also sent after every fifth pong.",
    ClientNotice::ConnectionQuality(quality) => {
        "socketId": SOCKET_ID => quality.member.as_str(),
        "latency": MILLIS => span(quality.latency.unwrap_or(Micros::ZERO)),
        "packetLoss": PERCENT => Thousandths((quality.packet_loss() * 1_000.0).round() as i64),
        "connectionDuration": MILLIS => span(quality.connection_duration),
        "pingCount": COUNT => quality.ping_count,
        "pongCount": COUNT => quality.pong_count,
        "timeouts": COUNT => quality.timeouts,
        "quality": QUALITY => quality.word(),
    }

    "rate_limit_exceeded",
    "The event exceeded its rate and was dropped. After ten such events within a minute the server \
     closes the connection. Of set_tempo, tempo_change, tempo_changed, position_sync and a seek \
     without a time, the newest waits instead.",
    ClientNotice::RateLimitExceeded { event, retry_after } => {
        "eventType": ANY_TEXT => event,
        "retryAfter": MILLIS => span(*retry_after),
    }

    "error",
    "An event without acknowledgement was rejected.",
    ClientNotice::Error { event, reject } => {
        "message": ANY_TEXT => reject.message,
        "code": ERROR_CODE => reject.code.as_str(),
        "event": ANY_TEXT => event,
        "field": optional(SHORT_TEXT) => reject.field,
        "retryAfter": optional(MILLIS) => reject.retry_after.map(span),
        "bytes": optional(BYTES) => reject.excess.map(|excess| excess.bytes),
        "max": optional(BYTES) => reject.excess.map(|excess| excess.max),
        "revision": optional(COUNT) => reject.conflict.as_ref().map(|conflict| conflict.revision),
        "songId": optional(SONG_ID) => reject.conflict.as_ref().map(|conflict| &*conflict.id),
        "song": optional(nullable(SONG)) => reject
            .conflict
            .as_ref()
            .map(|conflict| conflict.song.as_deref().map(SongView::whole)),
    }
}

/// Appends a `scroll_tick`, byte for byte as the table describes it, with field names that need no
/// escaping. A fast path, because nearly all printed bytes are ticks.
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

impl<T> Kind<T> {
    /// Prints a field that is always there.
    fn print(self, object: &mut Object<'_>, name: &'static str, value: &impl Serialize) {
        object.field(name, value);
    }
}

impl Schema {
    /// Prints a field that is always there.
    fn print(self, object: &mut Object<'_>, name: &'static str, value: &impl Serialize) {
        object.field(name, value);
    }
}

impl<K> Nullable<K> {
    /// Prints the field, as `null` if there is no value.
    fn print(self, object: &mut Object<'_>, name: &'static str, value: &Option<impl Serialize>) {
        object.field(name, value);
    }
}

impl<K> Optional<K> {
    /// Prints the field if there is a value.
    fn print(self, object: &mut Object<'_>, name: &'static str, value: &Option<impl Serialize>) {
        if let Some(value) = value {
            object.field(name, value);
        }
    }
}

fn id(member: Option<&MemberId>) -> Option<&str> {
    member.map(MemberId::as_str)
}

#[cfg(test)]
mod tests;
