//! Bytes to speech: the name and the payload of a client's event become a checked [`Command`].
//!
//! Every refusal names the field at fault and says what would have been right. An optional field
//! that is `null` counts as left out, and so does an optional text with nothing in it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::json::{Field, Value, fields};
use super::scan;
use crate::speech::{
    Code, Command, Excess, Join, LeaderRule, LinkCommand, Message, Number, OnLeaderLoss, Quantize,
    Reject, Role, Secret, SessionCommand, Setlist, SettingsChange, Song, SongChoice, SongFormat,
    Start, TempoChange, TempoEvent,
};
use crate::words::ids::{CommandId, MemberId, SessionId};
use crate::words::limits::EventClass;
use crate::words::music::{Position, Tempo, TimeSignature};
use crate::words::text::is_control;
use crate::words::time::Micros;

/// Bytes of a set list as it was written.
const SETLIST_BYTES_MAX: usize = 1024 * 1024;
/// Songs of a set list.
const SONGS_MAX: usize = 500;
/// Members that a session may be set to. The server's own bound is lower as a rule, and known
/// elsewhere.
const MEMBERS_MAX: u32 = 100_000;
/// Characters of the name of a member, an instrument or a cue's target, and of a message to all.
/// What is longer is cut, as the original did.
const NAME_CHARS_MAX: usize = 64;
const MESSAGE_CHARS_MAX: usize = 500;
/// Characters of a passcode or PIN.
const SECRET_CHARS_MAX: usize = 128;
/// The longest fade of a tempo, an hour in milliseconds.
const FADE_MS_MAX: f64 = 3_600_000.0;
/// Whole numbers below this one are exact in a client's arithmetic.
const EXACT: f64 = (1_u64 << 53) as f64;

macro_rules! events {
    ($($event:ident = $name:literal,)*) => {
        /// The events that clients send.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum ClientEvent {
            $(#[doc = concat!("`", $name, "`.")] $event,)*
        }

        impl ClientEvent {
            /// All of them, each in the place of its number.
            pub const ALL: &[Self] = &[$(Self::$event,)*];

            /// The event of this name, `None` if clients send no such event.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$event),)*
                    _ => None,
                }
            }

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$event => $name,)*
                }
            }
        }
    };
}

events! {
    JoinSession = "join_session",
    LeaveSession = "leave_session",
    SetRole = "set_role",
    RequestLeader = "request_leader",
    ApproveLeaderRequest = "approve_leader_request",
    DenyLeaderRequest = "deny_leader_request",
    SyncRequest = "sync_request",
    UpdateMessage = "update_message",
    ChatMessage = "chat_message",
    UpdateSettings = "update_settings",
    Cue = "cue",
    Play = "play",
    Pause = "pause",
    Stop = "stop",
    Seek = "seek",
    SetTempo = "set_tempo",
    TempoChange = "tempo_change",
    TempoChanged = "tempo_changed",
    SetTimeSignature = "set_time_signature",
    BeatSync = "beat_sync",
    PositionSync = "position_sync",
    LatencyProbe = "latency_probe",
    ClockSync = "clock_sync",
    SetSetlist = "set_setlist",
    SelectSong = "select_song",
    GetSong = "get_song",
    Pong = "pong",
    Heartbeat = "heartbeat",
    ConnectionQuality = "connection_quality",
    HeartbeatResponse = "heartbeat_response",
    RoleChanged = "role_changed",
    Error = "error",
}

impl ClientEvent {
    /// Whether it changes something or says something in its session, so that sending it again must
    /// not do so twice. The others ask, or tell how things stand.
    pub const fn is_applied_once(self) -> bool {
        match self {
            Self::SetRole
            | Self::RequestLeader
            | Self::ApproveLeaderRequest
            | Self::DenyLeaderRequest
            | Self::UpdateMessage
            | Self::ChatMessage
            | Self::UpdateSettings
            | Self::Cue
            | Self::Play
            | Self::Pause
            | Self::Stop
            | Self::Seek
            | Self::SetTempo
            | Self::TempoChange
            | Self::TempoChanged
            | Self::SetTimeSignature
            | Self::SetSetlist
            | Self::SelectSong => true,
            Self::JoinSession
            | Self::LeaveSession
            | Self::SyncRequest
            | Self::BeatSync
            | Self::PositionSync
            | Self::LatencyProbe
            | Self::ClockSync
            | Self::GetSong
            | Self::Pong
            | Self::Heartbeat
            | Self::ConnectionQuality
            | Self::HeartbeatResponse
            | Self::RoleChanged
            | Self::Error => false,
        }
    }

    /// Whether it is about the sender's session, and so takes effect behind all that its sender
    /// said there before. The others concern the connection alone.
    pub const fn is_command(self) -> bool {
        !matches!(
            self,
            Self::LatencyProbe
                | Self::ClockSync
                | Self::Pong
                | Self::Heartbeat
                | Self::ConnectionQuality
                | Self::HeartbeatResponse
                | Self::RoleChanged
                | Self::Error
        )
    }

    /// Whether one that comes too fast may wait; see [`SessionCommand::may_wait`].
    pub const fn may_wait(self) -> bool {
        matches!(
            self,
            Self::SetTempo
                | Self::TempoChange
                | Self::TempoChanged
                | Self::Seek
                | Self::PositionSync
        )
    }
}

/// The event that does here what an event of the original's other dialect did there.
pub fn our_name_for(name: &str) -> Option<&'static str> {
    let event = match name {
        "session:create" | "session:join" => ClientEvent::JoinSession,
        "session:leave" => ClientEvent::LeaveSession,
        "session:state_sync" => ClientEvent::SyncRequest,
        "role:request" => ClientEvent::SetRole,
        "role:transfer" => ClientEvent::ApproveLeaderRequest,
        "metronome:start" => ClientEvent::Play,
        "metronome:stop" => ClientEvent::Stop,
        "tempo:change" | "tempo:ramp" => ClientEvent::TempoChange,
        "metronome:beat" | "metronome:sync" => ClientEvent::BeatSync,
        "position:sync" | "position:correction" | "error:sync_drift" => ClientEvent::PositionSync,
        "latency:probe" | "latency:response" => ClientEvent::LatencyProbe,
        "clock:sync_request" | "clock:sync_response" => ClientEvent::ClockSync,
        "sheet:load" => ClientEvent::SelectSong,
        "sheet:scroll" => ClientEvent::Seek,
        "health:check" => ClientEvent::Heartbeat,
        _ => return None,
    };
    Some(event.name())
}

/// Reads what an event says. `payload` is the first argument behind the event's name.
///
/// Refuses with `invalid_payload`, `invalid_session_id` or `too_large`.
pub fn command<'a>(event: ClientEvent, payload: impl Into<Value<'a>>) -> Result<Command, Reject> {
    let payload = payload.into();
    payload.check_depth()?;
    let mut command = read(event, payload)?;
    if let Command::Session(_, id, _) = &mut command
        && event.is_applied_once()
    {
        *id = command_id(payload)?;
    }
    Ok(command)
}

fn read(event: ClientEvent, payload: Value<'_>) -> Result<Command, Reject> {
    match event {
        ClientEvent::JoinSession => join(payload),
        ClientEvent::LeaveSession => {
            let [session] = fields(payload, ["sessionId"])?;
            Ok(Command::Leave(session_id(session)?))
        }
        ClientEvent::SetRole => {
            in_session(payload, ["sessionId", "role", "memberId"], |[_, wanted, member]| {
                Ok(SessionCommand::SetRole {
                    role: role(wanted)?,
                    member: member.optional(member_id)?,
                })
            })
        }
        ClientEvent::RequestLeader => {
            in_session(payload, ["sessionId"], |_| Ok(SessionCommand::RequestLeader))
        }
        ClientEvent::ApproveLeaderRequest => {
            in_session(payload, ["sessionId", "requesterId"], |[_, requester]| {
                Ok(SessionCommand::ApproveLeader { requester: member_id(requester)? })
            })
        }
        ClientEvent::DenyLeaderRequest => {
            in_session(payload, ["sessionId", "requesterId"], |[_, requester]| {
                Ok(SessionCommand::DenyLeader { requester: member_id(requester)? })
            })
        }
        ClientEvent::SyncRequest => {
            in_session(payload, ["sessionId", "checksum", "version"], |[_, sum, held]| {
                Ok(SessionCommand::Sync {
                    checksum: optional_line(sum, 64)?,
                    version: held.optional(version)?,
                })
            })
        }
        ClientEvent::UpdateMessage => {
            in_session(payload, ["sessionId", "message"], |[_, message]| {
                Ok(SessionCommand::UpdateMessage(cut_text(
                    message,
                    MESSAGE_CHARS_MAX,
                    Lines::Many,
                )?))
            })
        }
        ClientEvent::ChatMessage => {
            in_session(payload, ["sessionId", "message", "username"], |[_, message, username]| {
                let text = cut_text(message, MESSAGE_CHARS_MAX, Lines::Many)?;
                if text.text.is_empty() {
                    return Err(message.wrong("must be a text that is not empty"));
                }
                Ok(SessionCommand::Chat { message: text, username: name(username)? })
            })
        }
        ClientEvent::UpdateSettings => update_settings(payload),
        ClientEvent::Cue => {
            in_session(payload, ["sessionId", "text", "target"], |[_, said, target]| {
                Ok(SessionCommand::Cue { text: line(said, 1, 200)?, target: name(target)? })
            })
        }

        ClientEvent::Play => {
            let names = ["sessionId", "atServerMs", "countInBars", "quantize"];
            in_session(payload, names, |[_, at, bars, boundary]| {
                Ok(SessionCommand::Play(Start {
                    at: at.optional(server_time)?,
                    count_in_bars: bars.optional(|bars| whole(bars, 0, 8))?.unwrap_or(0),
                    quantize: boundary.optional(quantize)?,
                }))
            })
        }
        ClientEvent::Pause => in_session(payload, ["sessionId"], |_| Ok(SessionCommand::Pause)),
        ClientEvent::Stop => in_session(payload, ["sessionId"], |_| Ok(SessionCommand::Stop)),
        ClientEvent::Seek => {
            in_session(payload, ["sessionId", "position", "atServerMs"], |[_, place, at]| {
                Ok(SessionCommand::Seek {
                    position: position(place)?,
                    at: at.optional(server_time)?,
                })
            })
        }
        ClientEvent::SetTempo => in_session(payload, ["sessionId", "tempo"], |[_, bpm]| {
            Ok(SessionCommand::SetTempo(tempo(bpm)?))
        }),
        ClientEvent::TempoChange => change_tempo(payload, TempoEvent::Change),
        ClientEvent::TempoChanged => change_tempo(payload, TempoEvent::Changed),
        ClientEvent::SetTimeSignature => {
            let names = ["sessionId", "numerator", "denominator"];
            in_session(payload, names, |[_, numerator, denominator]| {
                Ok(SessionCommand::SetTimeSignature(time_signature(numerator, denominator)?))
            })
        }
        ClientEvent::BeatSync => {
            in_session(payload, ["sessionId", "beatPosition", "masterTime"], |[_, beat, time]| {
                Ok(SessionCommand::BeatSync {
                    beat_position: number(beat)?,
                    master_time: number(time)?,
                })
            })
        }
        ClientEvent::PositionSync => {
            in_session(payload, ["sessionId", "positionMs", "timestamp"], |[_, place, time]| {
                Ok(SessionCommand::PositionSync {
                    position: position(place)?,
                    timestamp: number(time)?,
                })
            })
        }

        ClientEvent::SetSetlist => in_session(payload, ["sessionId", "setlist"], |[_, list]| {
            Ok(SessionCommand::SetSetlist(setlist(list)?))
        }),
        ClientEvent::SelectSong => {
            in_session(payload, ["sessionId", "songId", "step"], |[_, song, step]| {
                Ok(SessionCommand::SelectSong(song_choice(song, step)?))
            })
        }
        ClientEvent::GetSong => in_session(payload, ["sessionId", "songId"], |[_, song]| {
            Ok(SessionCommand::GetSong(line(song, 1, 64)?))
        }),

        ClientEvent::LatencyProbe => {
            let [timestamp] = fields(payload, ["timestamp"])?;
            Ok(Command::Link(LinkCommand::LatencyProbe { timestamp: number(timestamp)? }))
        }
        ClientEvent::ClockSync => {
            let [t0] = fields(payload, ["t0"])?;
            Ok(Command::Link(LinkCommand::ClockSync { t0: number(t0)? }))
        }
        ClientEvent::Pong => {
            let [timestamp] = fields(or_empty(payload), ["timestamp"])?;
            Ok(Command::Link(LinkCommand::Pong { timestamp: timestamp.optional(number)? }))
        }
        ClientEvent::Heartbeat => {
            let [timestamp] = fields(or_empty(payload), ["timestamp"])?;
            Ok(Command::Link(LinkCommand::Heartbeat { timestamp: timestamp.optional(number)? }))
        }
        ClientEvent::ConnectionQuality => {
            let [] = fields(or_empty(payload), [])?;
            Ok(Command::Link(LinkCommand::ConnectionQuality))
        }
        ClientEvent::HeartbeatResponse | ClientEvent::RoleChanged | ClientEvent::Error => {
            Ok(Command::Link(LinkCommand::Ignored))
        }
    }
}

/// Reads the fields of an event that names its session in the first of them.
fn in_session<'a, const N: usize>(
    payload: Value<'a>,
    names: [&'static str; N],
    read: impl FnOnce([Field<'a>; N]) -> Result<SessionCommand, Reject>,
) -> Result<Command, Reject> {
    let found = fields(payload, names)?;
    let session = session_id(found[0])?;
    Ok(Command::Session(session, None, read(found)?))
}

/// Few clients name their commands, so it is looked for by itself.
fn command_id(payload: Value<'_>) -> Result<Option<CommandId>, Reject> {
    const NAME: &str = "commandId";
    if !payload.may_have(NAME) {
        return Ok(None);
    }
    let [id] = fields(payload, [NAME])?;
    id.optional(|id| {
        let read = id.text().ok().and_then(|text| CommandId::parse(&text));
        read.ok_or_else(|| {
            let right =
                "must be a text of letters, digits, _ and - that ends in - and a number below 2^53";
            id.wrong(format!("{right}, in all {} bytes at most", CommandId::BYTES_MAX))
        })
    })
}

/// Some events have nothing to say: old clients send them with no payload, or with `undefined`,
/// which arrives as `null`.
fn or_empty(payload: Value<'_>) -> Value<'_> {
    if payload.is_absent() { Value::from("{}") } else { payload }
}

fn join(payload: Value<'_>) -> Result<Command, Reject> {
    let [session, display_name, wanted, instrument, passcode, leader_pin, tick_hz, metronome] =
        fields(
            payload,
            [
                "sessionId",
                "displayName",
                "role",
                "instrument",
                "passcode",
                "leaderPin",
                "tickHz",
                "metronome",
            ],
        )?;
    Ok(Command::Join(Join {
        session: session_id(session)?,
        display_name: name(display_name)?,
        role: wanted.optional(role)?,
        instrument: name(instrument)?,
        passcode: passcode.optional(secret)?.flatten(),
        leader_pin: leader_pin.optional(secret)?.flatten(),
        tick_hz: tick_hz.optional(|hz| whole(hz, 0, 125))?.map(|hz| hz as u8),
        metronome: metronome.optional(Field::boolean)?.unwrap_or(false),
    }))
}

fn update_settings(payload: Value<'_>) -> Result<Command, Reject> {
    let names = [
        "sessionId",
        "maxMembers",
        "onLeaderLoss",
        "leaderRule",
        "passcode",
        "leaderPin",
        "anyoneMayCue",
    ];
    in_session(
        payload,
        names,
        |[_, max_members, loss, rule, passcode, leader_pin, anyone_may_cue]| {
            let change = SettingsChange {
                max_members: max_members.optional(|members| whole(members, 1, MEMBERS_MAX))?,
                on_leader_loss: loss.optional(on_leader_loss)?,
                leader_rule: rule.optional(leader_rule)?,
                passcode: new_secret(passcode)?,
                leader_pin: new_secret(leader_pin)?,
                anyone_may_cue: anyone_may_cue.optional(Field::boolean)?,
            };
            // A misspelt name would otherwise look like a change that was made.
            if change == SettingsChange::default() {
                let message = "update_settings takes at least one of maxMembers, onLeaderLoss, leaderRule, passcode, \
                           leaderPin and anyoneMayCue";
                return Err(Reject::new(Code::InvalidPayload, message));
            }
            Ok(SessionCommand::UpdateSettings(change))
        },
    )
}

fn change_tempo(payload: Value<'_>, event: TempoEvent) -> Result<Command, Reject> {
    in_session(payload, ["sessionId", "tempo", "fadeTime"], |[_, bpm, fade]| {
        let fade = fade.optional(|fade| {
            millis(fade, FADE_MS_MAX, "from 0 to 3600000 ms, which is one hour")
        })?;
        Ok(SessionCommand::ChangeTempo(TempoChange {
            tempo: tempo(bpm)?,
            fade: fade.unwrap_or(Micros::ZERO),
            event,
        }))
    })
}

fn setlist(list: Field<'_>) -> Result<Setlist, Reject> {
    let value = object(list, "title and songs")?;
    // A longer event is read as it was written.
    if let Some(bytes) = value.written().map(str::len).filter(|bytes| *bytes > SETLIST_BYTES_MAX) {
        let reject = too_large(list, format!("must be at most {SETLIST_BYTES_MAX} bytes in all"));
        return Err(Reject { excess: Some(Excess { bytes, max: SETLIST_BYTES_MAX }), ..reject });
    }
    let inside = |reject| within(list, list.name, reject);
    let [title, songs] = fields(value, ["title", "songs"]).map_err(inside)?;
    let title = line(title, 0, 200).map_err(inside)?;
    let array = songs.value.filter(|value| value.is_array());
    let array = array.ok_or_else(|| inside(songs.wrong("must be an array of songs")))?;
    // In a well-formed array nothing but the number of items can be wrong.
    let songs = array
        .items(SONGS_MAX)
        .ok_or_else(|| too_large(list, format!("must have at most {SONGS_MAX} songs")))?;

    let mut ids = BTreeSet::new();
    let mut read = Vec::with_capacity(songs.len());
    for (index, value) in songs.into_iter().enumerate() {
        let place = || format!("{}.songs[{index}]", list.name);
        let song = song(value).map_err(|reject| within(list, &place(), reject))?;
        if !ids.insert(song.id.clone()) {
            return Err(Reject::field(
                list.name,
                format!("{}.id must be unlike those of the songs before it", place()),
            ));
        }
        read.push(song);
    }
    Ok(Setlist { title, songs: read.into() })
}

fn song(song: Value<'_>) -> Result<Song, Reject> {
    let [id, title, artist, key, bpm, signature, format, body, duration] = fields(
        song,
        [
            "id",
            "title",
            "artist",
            "key",
            "tempoBpm",
            "timeSignature",
            "format",
            "body",
            "durationMs",
        ],
    )?;
    Ok(Song {
        id: line(id, 1, 64)?,
        title: line(title, 1, 200)?,
        artist: optional_line(artist, 200)?,
        key: optional_line(key, 16)?,
        tempo: bpm.optional(tempo)?,
        time_signature: signature.optional(|signature| {
            let value = object(signature, "numerator and denominator")?;
            let [numerator, denominator] = fields(value, ["numerator", "denominator"])?;
            time_signature(numerator, denominator)
                .map_err(|reject| within(signature, signature.name, reject))
        })?,
        format: song_format(format)?,
        body: song_body(body)?,
        duration: duration.optional(position)?,
    })
}

/// A chart, in which spaces and tabs stand for something, also at the beginning and the end of a
/// line.
fn song_body(body: Field<'_>) -> Result<String, Reject> {
    let body = body.text().map_err(|_| body.wrong("must be a text"))?;
    Ok(printable(&body, Lines::Chart).into_owned())
}

fn song_choice(song: Field<'_>, step: Field<'_>) -> Result<SongChoice, Reject> {
    match (song.is_absent(), step.is_absent()) {
        (false, true) => Ok(SongChoice::Id(line(song, 1, 64)?)),
        (true, false) => match step.number() {
            Ok(1.0) => Ok(SongChoice::Step(true)),
            Ok(-1.0) => Ok(SongChoice::Step(false)),
            _ => Err(step.wrong("must be 1 for the next song or -1 for the one before")),
        },
        (true, true) => Err(song.wrong("is required, or step instead of it")),
        (false, false) => Err(step.wrong("must be left out where songId says which song")),
    }
}

/// A missing id is `invalid_payload`, one that cannot be is `invalid_session_id`.
fn session_id(field: Field<'_>) -> Result<SessionId, Reject> {
    const RIGHT: &str = "must be a text of 1 to 128 bytes without control characters";
    let text = field.text().map_err(|_| field.wrong(RIGHT))?;
    SessionId::parse(&text)
        .ok_or_else(|| Reject { code: Code::InvalidSessionId, ..field.wrong(RIGHT) })
}

fn member_id(field: Field<'_>) -> Result<MemberId, Reject> {
    let id = field.text().ok().and_then(|text| MemberId::parse(&text));
    id.ok_or_else(|| field.wrong("must be a member's socket id, a text of 20 characters"))
}

/// A tempo in BPM, rounded to thousandths.
fn tempo(field: Field<'_>) -> Result<Tempo, Reject> {
    let bpm = field.number().ok().filter(|bpm| (1.0..=400.0).contains(bpm));
    let tempo = bpm.and_then(|bpm| Tempo::from_milli_bpm((bpm * 1_000.0).round() as u32));
    tempo.ok_or_else(|| field.wrong("must be a number from 1 to 400 BPM"))
}

/// A position in milliseconds, rounded to microseconds.
fn position(field: Field<'_>) -> Result<Position, Reject> {
    const RIGHT: &str = "from 0 to 86400000 ms, which is 24 hours";
    let micros = millis(field, (Position::MAX.as_micros() / 1_000) as f64, RIGHT)?;
    Position::from_micros(micros.as_micros())
        .ok_or_else(|| field.wrong(format!("must be a number {RIGHT}")))
}

/// A time on the server's clock. Whether it is near enough is for the session to say.
fn server_time(field: Field<'_>) -> Result<Micros, Reject> {
    millis(field, EXACT / 1_000.0, "from 0 on, in milliseconds of the server's clock")
}

/// Milliseconds with decimals, `0..=max`, rounded to microseconds.
fn millis(field: Field<'_>, max: f64, right: &str) -> Result<Micros, Reject> {
    let millis = field.number().ok().filter(|millis| (0.0..=max).contains(millis));
    let micros = millis.map(|millis| Micros::from_micros((millis * 1_000.0).round() as u64));
    micros.ok_or_else(|| field.wrong(format!("must be a number {right}")))
}

fn time_signature(numerator: Field<'_>, denominator: Field<'_>) -> Result<TimeSignature, Reject> {
    let beats = whole(numerator, 1, 32)?;
    let note = denominator.whole(32).ok();
    note.and_then(|note| TimeSignature::new(beats.into(), note.into()))
        .ok_or_else(|| denominator.wrong("must be 1, 2, 4, 8, 16 or 32"))
}

/// A number of the client's own, which it gets back as it was.
fn number(field: Field<'_>) -> Result<Number, Reject> {
    field.number().map(Number)
}

fn version(field: Field<'_>) -> Result<u64, Reject> {
    let version = field.number().ok().filter(|n| n.fract() == 0.0 && (0.0..EXACT).contains(n));
    version.map(|n| n as u64).ok_or_else(|| field.wrong("must be a whole number from 0 on"))
}

fn whole(field: Field<'_>, min: u32, max: u32) -> Result<u32, Reject> {
    let whole = field.whole(max).ok().filter(|whole| *whole >= min);
    whole.ok_or_else(|| field.wrong(format!("must be a whole number from {min} to {max}")))
}

fn role(field: Field<'_>) -> Result<Role, Reject> {
    one_of(field, [("leader", Role::Leader), ("follower", Role::Follower)])
}

fn quantize(field: Field<'_>) -> Result<Quantize, Reject> {
    one_of(field, [("bar", Quantize::Bar), ("beat", Quantize::Beat)])
}

fn on_leader_loss(field: Field<'_>) -> Result<OnLeaderLoss, Reject> {
    one_of(field, [("continue", OnLeaderLoss::Continue), ("pause", OnLeaderLoss::Pause)])
}

fn leader_rule(field: Field<'_>) -> Result<LeaderRule, Reject> {
    one_of(field, [("open", LeaderRule::Open), ("ask", LeaderRule::Ask), ("pin", LeaderRule::Pin)])
}

fn song_format(field: Field<'_>) -> Result<SongFormat, Reject> {
    one_of(field, [("chordpro", SongFormat::ChordPro), ("text", SongFormat::Text)])
}

fn one_of<T: Copy, const N: usize>(field: Field<'_>, words: [(&str, T); N]) -> Result<T, Reject> {
    let said = field.text().unwrap_or_default();
    let meant = words.iter().find(|(word, _)| *word == said).map(|(_, meaning)| *meaning);
    meant.ok_or_else(|| {
        let words = words.map(|(word, _)| format!("\"{word}\""));
        field.wrong(format!("must be {}", words.join(" or ")))
    })
}

/// A passcode or PIN, exactly as it was typed; `None` if nothing was.
fn secret(field: Field<'_>) -> Result<Option<Secret>, Reject> {
    let text = field.text().ok().filter(|text| text.chars().count() <= SECRET_CHARS_MAX);
    let text = text.ok_or_else(|| {
        field.wrong(format!("must be a text of at most {SECRET_CHARS_MAX} characters"))
    })?;
    Ok((!text.is_empty()).then(|| Secret(text.into_owned())))
}

/// A setting: left out it stays, while `null` and the empty text take the secret away.
fn new_secret(field: Field<'_>) -> Result<Option<Option<Secret>>, Reject> {
    match field.value {
        None => Ok(None),
        Some(value) if value.is_absent() => Ok(Some(None)),
        Some(_) => secret(field).map(Some),
    }
}

/// What a member or its instrument is called, if anything.
fn name(field: Field<'_>) -> Result<Option<String>, Reject> {
    let name = field.optional(|field| cut_text(field, NAME_CHARS_MAX, Lines::One))?;
    Ok(name.map(|name| name.text).filter(|name| !name.is_empty()))
}

/// A text for other people's screens that is cut where it is too long.
fn cut_text(field: Field<'_>, chars_max: usize, lines: Lines) -> Result<Message, Reject> {
    let text = field.text().map_err(|_| field.wrong("must be a text"))?;
    let mut text = printable(&text, lines).trim().to_owned();
    // No text has more characters than bytes.
    let is_long = text.len() > chars_max;
    let end = if is_long { text.char_indices().nth(chars_max).map(|(end, _)| end) } else { None };
    if let Some(end) = end {
        text.truncate(text[..end].trim_end().len());
    }
    Ok(Message { text, cut: end.is_some() })
}

fn optional_line(field: Field<'_>, chars_max: usize) -> Result<Option<String>, Reject> {
    let line = field.optional(|field| line(field, 0, chars_max))?;
    Ok(line.filter(|line| !line.is_empty()))
}

fn line(field: Field<'_>, chars_min: usize, chars_max: usize) -> Result<String, Reject> {
    text(field, chars_min, chars_max, Lines::One)
}

/// A text for other people's screens: printable and trimmed, and only then measured.
fn text(
    field: Field<'_>,
    chars_min: usize,
    chars_max: usize,
    lines: Lines,
) -> Result<String, Reject> {
    let text = field.text().ok().map(|text| printable(&text, lines).trim().to_owned());
    let text = text.filter(|text| (chars_min..=chars_max).contains(&text.chars().count()));
    text.ok_or_else(|| {
        field.wrong(format!("must be a text of {chars_min} to {chars_max} characters"))
    })
}

/// Whether a text may go over several lines.
#[derive(Clone, Copy)]
enum Lines {
    One,
    Many,
    /// Over several, with tabs to align what stands in them.
    Chart,
}

/// The text without control characters. Where one of them kept words apart, a space does.
fn printable(text: &str, lines: Lines) -> Cow<'_, str> {
    let Some(place) = first_other(text, lines) else { return Cow::Borrowed(text) };
    let (mut printable, mut rest) = (String::with_capacity(text.len()), text);
    let mut place = Some(place);
    while let Some(at) = place {
        let (same, other) = rest.split_at(at);
        printable.push_str(same);
        let mut chars = other.chars();
        printable.extend(chars.next().and_then(|c| shown(c, lines)));
        rest = chars.as_str();
        place = first_other(rest, lines);
    }
    printable.push_str(rest);
    Cow::Owned(printable)
}

/// What is shown of a character, if anything.
fn shown(c: char, lines: Lines) -> Option<char> {
    match (c, lines) {
        ('\n', Lines::Many | Lines::Chart) => Some('\n'),
        ('\t', Lines::Chart) => Some('\t'),
        ('\n' | '\t' | '\u{2028}' | '\u{2029}', _) => Some(' '),
        _ => (!is_control(c)).then_some(c),
    }
}

/// The place of the first character that is not shown as it is. Nearly all of a song of 100 kB is
/// ASCII, which is looked through by stretches.
fn first_other(text: &str, lines: Lines) -> Option<usize> {
    let unplain =
        |word| scan::below(word, b' ') | scan::equal(word, 0x7f) | scan::beyond_ascii(word);
    let mut at = 0;
    loop {
        let rest = &text.as_bytes()[at..];
        at += match lines {
            Lines::One => scan::first(rest, unplain),
            Lines::Many => scan::first(rest, |word| unplain(word) & !scan::equal(word, b'\n')),
            Lines::Chart => scan::first(rest, |word| {
                unplain(word) & !scan::equal(word, b'\n') & !scan::equal(word, b'\t')
            }),
        }?;
        // Other scripts have few characters of ASCII between theirs.
        for c in text[at..].chars() {
            if shown(c, lines) != Some(c) {
                return Some(at);
            }
            at += c.len_utf8();
            if c.is_ascii_alphanumeric() {
                break;
            }
        }
    }
}

/// An object.
fn object<'a>(field: Field<'a>, with: &str) -> Result<Value<'a>, Reject> {
    let object = field.value.filter(|value| value.is_object());
    object.ok_or_else(|| field.wrong(format!("must be an object with {with}")))
}

/// A refusal from inside a nested value: the field is the outermost one, the message has the whole
/// path.
fn within(field: Field<'_>, place: &str, reject: Reject) -> Reject {
    let message = match reject.field {
        Some(_) => format!("{place}.{}", reject.message),
        None => format!("{place} must be an object"),
    };
    Reject { message: message.into(), field: Some(field.name), ..reject }
}

fn too_large(field: Field<'_>, what: String) -> Reject {
    Reject { code: Code::TooLarge, ..field.wrong(what) }
}

/// The token bucket that an event is taken from.
pub fn class(event: Option<ClientEvent>) -> EventClass {
    match event {
        Some(ClientEvent::PositionSync) => EventClass::PositionSync,
        Some(ClientEvent::SyncRequest) => EventClass::SyncRequest,
        Some(ClientEvent::ChatMessage) => EventClass::ChatMessage,
        Some(ClientEvent::LatencyProbe) => EventClass::LatencyProbe,
        Some(ClientEvent::ClockSync) => EventClass::ClockSync,
        Some(ClientEvent::TempoChange) => EventClass::TempoChange,
        Some(ClientEvent::JoinSession) => EventClass::JoinSession,
        Some(event) => EventClass::Other(event as u8),
        None => EventClass::Other(u8::MAX),
    }
}

#[cfg(test)]
mod tests;
