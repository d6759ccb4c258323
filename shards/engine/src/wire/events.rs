//! The table of client events: one entry has everything about an event.
//!
//! An entry gives the event's name, its rate class, its summary, its fields, the command that they
//! make, the fields of its acknowledgement and the codes of its rejections. The reader is generated
//! from it, and so is [`EVENTS`], from which documents are generated.
//!
//! A new event needs one entry here, one arm in `Session::handle`, and one method.

use super::fields::{
    BARS, BEAT, BOOL, COMMAND_ID, COUNT, CUE_KIND, CUE_SECONDS, CUE_TEXT, DENOMINATOR, FADE, Kind,
    LEADER_RULE, LINE, LONG_NAME, LONG_TEXT, LONG_WORDS, MAX_MEMBERS, NUDGE, NUMBER, NUMERATOR,
    ON_LEADER_LOSS, POSITION, QUANTIZE, ROLE, SECRET, SERVER_MS, SESSION, SHORT_TEXT, SOCKET_ID,
    SONG_ID, TEMPO, TICK_HZ, TOKEN, VIEW, WHOLE_BEAT, settable, unread,
};
use super::json::{Field, Value, fields};
use super::schema::{FieldInfo, Form, Schema, nullable, optional};
use super::setlist::{NEW_SETLIST, OPERATIONS, SONG_IDS, signature};
use super::shapes::{
    CLOCK, HEARTBEAT, LATENCY, QUALITY_FIELDS, SEAT, SETLIST_FIELDS, SONG, SONGS, SYNC, TRUE,
};
use crate::speech::{
    ClientCommand, Code, Command, Cue, CueKind, Departure, Join, Number, Reject, SessionCommand,
    SettingsChange, SongChoice, SongSelection, Start, Target, TempoChange, Terms, When,
};
use crate::words::limits::RateClass;
use crate::words::music::{self, TempoEvent};
use crate::words::time::Micros;

/// The description of a client event, for documents.
#[derive(Clone, Copy, Debug)]
pub struct EventInfo {
    /// The event.
    pub event: ClientEvent,
    /// Its purpose, for people.
    pub summary: &'static str,
    /// Whether it concerns the sender's session or its connection alone.
    pub scope: Scope,
    /// Its fields, without those that many events [share](Self::shared_fields).
    pub fields: &'static [FieldInfo],
    /// The fields of its acknowledgement after `ok`.
    pub ack: &'static [FieldInfo],
    own_refusals: &'static [Code],
    flags: &'static [Flag],
}

/// The reach of an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// The sender's session: the event takes effect after all earlier events of its sender there.
    Session,
    /// The sender's connection alone.
    Connection,
}

/// The marks of an entry.
#[allow(non_camel_case_types)] // as they stand in the table
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flag {
    /// The event must not be applied twice, because it changes its session or speaks in it.
    once,
    /// An event that comes too fast may wait.
    waits,
    /// The event may have a time after which it is no longer applied.
    timed,
}

/// Makes the event's enum, its reader and its description from the table.
macro_rules! events {
    ($($event:ident = $name:literal [$class:ident $(, $flag:ident)*], $summary:expr,
        $reading:ident { $($field:ident = $wire:literal: $kind:expr,)* } => $command:expr,
        $ack:expr, $refusals:expr;)*) => {
        /// The events that clients send.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        pub enum ClientEvent {
            $(#[doc = concat!("`", $name, "`.")] $event,)*
        }

        impl ClientEvent {
            /// All events, in order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$event,)*];

            /// Returns the event of this name, `None` if clients send no such event.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$event),)*
                    _ => None,
                }
            }

            /// Returns the name in the protocol.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$event => $name,)*
                }
            }

            /// Returns the rate class that it is counted in.
            pub const fn rate_class(self) -> RateClass {
                match self {
                    $(Self::$event => class!($class, $event),)*
                }
            }

            fn read_fields(self, payload: Value<'_>) -> Result<Command, Reject> {
                match self {
                    $(Self::$event => {
                        reading!($reading, payload, { $($field = $wire: $kind,)* }, $command)
                    })*
                }
            }
        }

        /// Descriptions of all client events, in order of their numbers.
        pub static EVENTS: &[EventInfo] = &[$(EventInfo {
            event: ClientEvent::$event,
            summary: $summary,
            scope: scope!($reading),
            fields: described!($reading, $($kind.info($wire),)*),
            ack: $ack,
            own_refusals: $refusals,
            flags: &[$(Flag::$flag,)*],
        },)*];
    };
}

macro_rules! class {
    (Other, $event:ident) => {
        RateClass::Other(ClientEvent::$event as u8)
    };
    ($class:ident, $event:ident) => {
        RateClass::$class
    };
}

/// Generates the reader of an event. One `in_session` names its session first, one `of_session`
/// takes it as a field, and one of a `connection` names none. A payload may be absent only where
/// the entry says so.
macro_rules! reading {
    (in_session, $payload:ident, { $($field:ident = $wire:literal: $kind:expr,)* }, $command:expr) => {{
        let [session, $($field,)*] = fields($payload, ["sessionId", $($wire,)*])?;
        let session = SESSION.read(session)?;
        $(let $field = $kind.read($field)?;)*
        Ok(Command::Session(session, Terms::default(), $command))
    }};
    (of_session, $payload:ident, { $($field:ident = $wire:literal: $kind:expr,)* }, $command:expr) => {{
        let [$($field,)*] = fields($payload, [$($wire,)*])?;
        $(let $field = $kind.read($field)?;)*
        Ok($command)
    }};
    (connection, $payload:ident, { $($field:ident = $wire:literal: $kind:expr,)* }, $command:expr) => {{
        let [$($field,)*] = fields($payload, [$($wire,)*])?;
        $(let $field = $kind.read($field)?;)*
        Ok(Command::Client($command))
    }};
    (connection_or_absent, $payload:ident, $fields:tt, $command:expr) => {{
        let payload = or_empty($payload);
        reading!(connection, payload, $fields, $command)
    }};
    (unread, $payload:ident, {}, $command:expr) => {{
        let _ = $payload;
        Ok(Command::Client($command))
    }};
}

macro_rules! described {
    (in_session, $($field:expr,)*) => { &[SESSION.info("sessionId"), $($field,)*] };
    ($reading:ident, $($field:expr,)*) => { &[$($field,)*] };
}

macro_rules! scope {
    (in_session) => {
        Scope::Session
    };
    (of_session) => {
        Scope::Session
    };
    ($reading:ident) => {
        Scope::Connection
    };
}

const MEMBER: &[Code] = &[Code::InvalidSessionId, Code::NotMember];
const LEADER: &[Code] = &[Code::InvalidSessionId, Code::NotMember, Code::NotLeader];

/// The refusals of a change that the state may not allow.
const LIMITED: &[Code] =
    &[Code::InvalidSessionId, Code::NotMember, Code::NotLeader, Code::NotAllowed];

/// The acknowledgement of a change.
const CHANGED: &[FieldInfo] = &[COUNT.info("epoch"), COUNT.info("version")];

/// The acknowledgement of a request to lead.
const CLAIMED: &[FieldInfo] = &[
    optional(COUNT).info("epoch"),
    optional(COUNT).info("version"),
    optional(BOOL).info("pending"),
];

const STEP: Schema = Schema::new("Step", Form::WholeOf(&[1, -1]));

events! {
    JoinSession = "join_session" [JoinSession],
        "Joins a session, and creates it if it does not exist. If no member leads, the new member \
         leads, unless it asks for the role follower. The first member sets passcode and \
         leaderPin; with a PIN, only members that know it may claim the lead. A member of another \
         session leaves that one when this one admits it. If the token belongs to a seat of the \
         session, the member gets that seat, and a connection that has the seat is replaced. With \
         view screen the client only shows an existing session: it is no member, and may send only \
         sync_request, get_setlist, get_songs, get_song, leave_session and events of its \
         connection.",
        of_session {
            session = "sessionId": SESSION,
            display_name = "displayName": optional(LONG_NAME),
            role = "role": optional(ROLE),
            instrument = "instrument": optional(LONG_NAME),
            passcode = "passcode": optional(SECRET),
            leader_pin = "leaderPin": optional(SECRET),
            tick_hz = "tickHz": optional(TICK_HZ),
            metronome = "metronome": optional(BOOL),
            token = "token": optional(TOKEN),
            new_token = "newToken": optional(TOKEN),
            view = "view": optional(VIEW),
        } => Command::Join(Join {
            session,
            display_name: display_name.flatten(),
            role,
            instrument: instrument.flatten(),
            passcode: passcode.flatten(),
            leader_pin: leader_pin.flatten(),
            tick_hz: tick_hz.map(|hz| hz as u8),
            metronome: metronome.unwrap_or(false),
            token,
            new_token,
            view: view.unwrap_or_default(),
        }),
        &[
            SESSION.info("sessionId"),
            SOCKET_ID.info("socketId"),
            ROLE.info("role"),
            COUNT.info("protocol"),
            COUNT.info("epoch"),
            COUNT.info("version"),
            optional(BOOL).info("restored"),
            SEAT.info("seat"),
        ],
        &[
            Code::InvalidSessionId,
            Code::SessionNotFound,
            Code::BadPasscode,
            Code::SessionFull,
            Code::NotAllowed,
            Code::Unavailable,
        ];
    LeaveSession = "leave_session" [Other],
        "Leaves the session, and makes the server forget the sender's token. If the sender leads, \
         the lead passes to another member at once.",
        of_session { session = "sessionId": SESSION, } => Command::Leave(session),
        &[], MEMBER;
    SetRole = "set_role" [Other, once],
        "Claims the lead, gives it up, or, as the leader, hands it to memberId. Under leaderRule \
         \"ask\" a claim becomes a request to the leader, under \"pin\" it requires the PIN. Of \
         two claims within one batch window the first is applied.",
        in_session {
            role = "role": ROLE,
            member = "memberId": optional(SOCKET_ID),
        } => SessionCommand::SetRole { role, member },
        CLAIMED,
        &[Code::InvalidSessionId, Code::NotMember, Code::NotLeader, Code::NotAllowed];
    RequestLeader = "request_leader" [Other, once],
        "Requests the lead. If no member leads, the sender leads at once.",
        in_session {} => SessionCommand::RequestLeader,
        CLAIMED, &[Code::InvalidSessionId, Code::NotMember, Code::NotAllowed];
    ApproveLeaderRequest = "approve_leader_request" [Other, once],
        "Hands the lead to a member that requested it.",
        in_session { requester = "requesterId": SOCKET_ID, }
            => SessionCommand::ApproveLeader { requester },
        CHANGED, LEADER;
    DenyLeaderRequest = "deny_leader_request" [Other, once],
        "Denies a member's request for the lead.",
        in_session { requester = "requesterId": SOCKET_ID, }
            => SessionCommand::DenyLeader { requester },
        &[], LEADER;
    SyncRequest = "sync_request" [SyncRequest],
        "Requests position and timeline. If checksum or version differ from the session's, a \
         snapshot follows. The answer never waits for a batch window.",
        in_session {
            checksum = "checksum": optional(SHORT_TEXT),
            version = "version": optional(COUNT),
        } => SessionCommand::Sync { checksum: checksum.flatten(), version },
        SYNC, MEMBER;
    UpdateMessage = "update_message" [Other, once],
        "Sets the message that all members see. An empty text restores the automatic messages, \
         which say whether a member leads.",
        in_session { message = "message": LONG_TEXT, } => SessionCommand::UpdateMessage(message),
        &[COUNT.info("epoch"), COUNT.info("version"), optional(TRUE).info("cut")], MEMBER;
    ChatMessage = "chat_message" [ChatMessage, once],
        "Sends a chat message to all members.",
        in_session {
            message = "message": LONG_WORDS,
            username = "username": optional(LONG_NAME),
        } => SessionCommand::Chat { message, username: username.flatten() },
        &[optional(TRUE).info("cut")], MEMBER;
    UpdateSettings = "update_settings" [Other, once],
        "Changes all named settings of the session, or none. null removes a passcode or PIN.",
        in_session {
            max_members = "maxMembers": optional(MAX_MEMBERS),
            on_leader_loss = "onLeaderLoss": optional(ON_LEADER_LOSS),
            leader_rule = "leaderRule": optional(LEADER_RULE),
            passcode = "passcode": settable(SECRET),
            leader_pin = "leaderPin": settable(SECRET),
            anyone_may_cue = "anyoneMayCue": optional(BOOL),
            anyone_may_edit = "anyoneMayEdit": optional(BOOL),
        } => SessionCommand::UpdateSettings(some_change(SettingsChange {
            max_members,
            on_leader_loss,
            leader_rule,
            passcode,
            leader_pin,
            anyone_may_cue,
            anyone_may_edit,
        })?),
        CHANGED, LEADER;
    SetMember = "set_member" [Other, once],
        "Gives a member the right to edit the set list, or takes it away. The right belongs to \
         the member's seat.",
        in_session {
            member = "memberId": SOCKET_ID,
            may_edit = "mayEdit": BOOL,
        } => SessionCommand::SetMember { member, may_edit },
        CHANGED, LEADER;
    Cue = "cue" [Other, once],
        "Sends a short stage message to all members, with its server time. It has a text or a \
         kind. seconds says how long it is shown, 5 without it. Followers may send it if \
         anyoneMayCue is set.",
        in_session {
            text = "text": optional(CUE_TEXT),
            kind = "kind": optional(CUE_KIND),
            seconds = "seconds": optional(CUE_SECONDS),
            target = "target": optional(LONG_NAME),
        } => SessionCommand::Cue(Cue {
            text: cue_text(text.flatten(), kind)?,
            kind: kind.unwrap_or_default(),
            seconds: seconds.unwrap_or(CUE_SECONDS_DEFAULT),
            target: target.flatten(),
        }),
        &[], LEADER;

    Play = "play" [Other, once, timed],
        "Starts the song, at once or at atServerMs, and after a count-in if countInBars is set. \
         quantize moves the position back to the beginning of its bar or beat first.",
        in_session {
            at = "atServerMs": optional(SERVER_MS),
            count_in_bars = "countInBars": optional(BARS),
            quantize = "quantize": optional(QUANTIZE),
        } => SessionCommand::Play(Start {
            at,
            count_in_bars: count_in_bars.unwrap_or(0),
            quantize,
        }),
        CHANGED, LEADER;
    Pause = "pause" [Other, once, timed],
        "Stops at the present position, or at that of atServerMs if it is at most 500 ms ago, and \
         cancels scheduled and armed changes.",
        in_session { pressed = "atServerMs": optional(SERVER_MS), }
            => SessionCommand::Pause { pressed },
        CHANGED, LEADER;
    Stop = "stop" [Other, once, timed],
        "Stops at the beginning of the song, and cancels scheduled and armed changes and the loop.",
        // Accepted as with pause. The music stops at the beginning, whenever it was pressed.
        in_session { _pressed = "atServerMs": optional(SERVER_MS), } => SessionCommand::Stop,
        CHANGED, LEADER;
    Seek = "seek" [Other, once, waits, timed],
        "Moves to a position or a beat, also while playing: at once, at atServerMs, or at the next \
         bar line or beat (at) or song beat (atBeat). If the music is stopped, at and atBeat move it \
         at once.",
        in_session {
            position = "position": unread(POSITION.schema),
            beat = "beat": unread(BEAT.schema),
            at_time = "atServerMs": optional(SERVER_MS),
            line = "at": optional(LINE),
            at_beat = "atBeat": optional(WHOLE_BEAT),
        } => seek(position, beat, when(at_time, line, at_beat)?)?,
        CHANGED, LIMITED;
    SetTempo = "set_tempo" [Other, once, waits, timed],
        "Changes the tempo at once. Members receive tempo_changed.",
        in_session { tempo = "tempo": TEMPO, } => SessionCommand::SetTempo(tempo),
        CHANGED, LEADER;
    TempoChange = "tempo_change" [TempoChange, once, waits, timed],
        "Changes the tempo, at once or as a ramp over fadeTime, now or when the song reaches \
         atBeat.",
        in_session {
            fade = "fadeTime": optional(FADE),
            tempo = "tempo": TEMPO,
            at_beat = "atBeat": optional(WHOLE_BEAT),
        } => SessionCommand::ChangeTempo(TempoChange {
            tempo,
            fade: fade.unwrap_or(Micros::ZERO),
            at_beat,
            event: TempoEvent::Change,
        }),
        CHANGED, LIMITED;
    TempoChanged = "tempo_changed" [Other, once, waits, timed],
        "Like tempo_change; members receive it as tempo_changed.",
        in_session {
            fade = "fadeTime": optional(FADE),
            tempo = "tempo": TEMPO,
            at_beat = "atBeat": optional(WHOLE_BEAT),
        } => SessionCommand::ChangeTempo(TempoChange {
            tempo,
            fade: fade.unwrap_or(Micros::ZERO),
            at_beat,
            event: TempoEvent::Changed,
        }),
        CHANGED, LIMITED;
    SetTimeSignature = "set_time_signature" [Other, once, timed],
        "Changes the time signature from the next bar on, or from the present bar if the music is \
         stopped.",
        in_session {
            numerator = "numerator": NUMERATOR,
            denominator = "denominator": DENOMINATOR,
        } => SessionCommand::SetTimeSignature(signature(numerator, denominator)),
        CHANGED, LIMITED;
    Loop = "loop" [Other, once, timed],
        "Repeats the song between two beats until it is released by from: null. The present pass is \
         then the last one. With from, to is required, and lies whole beats after it.",
        in_session {
            from = "from": nullable(BEAT),
            to = "to": unread(BEAT.schema),
        } => SessionCommand::Loop(from.map(|from| loop_to(from, to)).transpose()?),
        CHANGED, LIMITED;
    Cancel = "cancel" [Other, once, timed],
        "Cancels armed jumps, songs, tempos and signatures, but not the loop.",
        in_session {} => SessionCommand::Cancel,
        CHANGED, LEADER;
    Nudge = "nudge" [Other, once, timed],
        "Moves the position by whole beats at once. The click goes on.",
        in_session { beats = "beats": NUDGE, } => SessionCommand::Nudge(beats),
        CHANGED, LIMITED;
    One = "one" [Other, once, timed],
        "Corrects the bar: the nearest bar line moves to atServerMs, the time of a press on beat one, \
         which is at most 2 s ago.",
        in_session { pressed = "atServerMs": SERVER_MS, } => SessionCommand::One(pressed),
        CHANGED, LIMITED;
    BeatSync = "beat_sync" [Other, timed],
        "Reports the leader's beat. Members receive its distance from the timeline; the music does \
         not move.",
        in_session {
            beat_position = "beatPosition": NUMBER,
            master_time = "masterTime": NUMBER,
        } => SessionCommand::BeatSync { beat_position, master_time },
        &[], LEADER;
    PositionSync = "position_sync" [PositionSync, waits, timed],
        "Reports the sender's position. All members receive the leader's report, and if it is more \
         than 25 ms off, the music moves there. A follower whose report is more than 25 ms off \
         receives drift_correction.",
        in_session {
            position = "positionMs": POSITION,
            timestamp = "timestamp": NUMBER,
        } => SessionCommand::PositionSync { position, timestamp },
        CHANGED, MEMBER;
    LatencyProbe = "latency_probe" [LatencyProbe],
        "Measures the round trip; answered at once.",
        connection { timestamp = "timestamp": NUMBER, } => ClientCommand::LatencyProbe { timestamp },
        LATENCY, &[];
    ClockSync = "clock_sync" [ClockSync],
        "Measures the offset to the server's clock with four timestamps; answered at once.",
        connection { t0 = "t0": NUMBER, } => ClientCommand::ClockSync { t0 },
        CLOCK, &[];

    SetSetlist = "set_setlist" [Other, once],
        "Replaces the session's songs, at most 1 MiB in all. A longer list than a message holds is \
         completed with edit_setlist.",
        in_session { setlist = "setlist": NEW_SETLIST, } => SessionCommand::SetSetlist(setlist),
        CHANGED,
        &[Code::InvalidSessionId, Code::NotMember, Code::NotLeader, Code::TooLarge];
    EditSetlist = "edit_setlist" [Other, once],
        "Edits the set list by 1 to 100 operations; all apply, or none. The leader may do this, \
         members with mayEdit, and all members if anyoneMayEdit is set. replace and remove are \
         rejected with conflict if the song's revision is not was, with the song as it is now. A \
         song that plays cannot be removed.",
        in_session { operations = "ops": OPERATIONS, } => SessionCommand::EditSetlist(operations),
        &[COUNT.info("epoch"), COUNT.info("version"), COUNT.info("revision")],
        &[
            Code::InvalidSessionId,
            Code::NotMember,
            Code::NotAllowed,
            Code::Conflict,
            Code::TooLarge,
        ];
    SelectSong = "select_song" [Other, once, timed],
        "Selects a song by songId, or the next (step 1) or previous one (step -1). The song is \
         stopped at its beginning, or with play it plays, in its tempo and signature. It begins at \
         once, or while playing at the next bar line or beat (at) or song beat (atBeat).",
        in_session {
            song = "songId": unread(SONG_ID.schema),
            step = "step": unread(STEP),
            plays = "play": optional(BOOL),
            line = "at": optional(LINE),
            at_beat = "atBeat": optional(WHOLE_BEAT),
        } => SessionCommand::SelectSong(SongSelection {
            choice: song_choice(song, step)?,
            plays: plays.unwrap_or(false),
            departure: departure(line, at_beat)?,
        }),
        CHANGED, LIMITED;
    GetSetlist = "get_setlist" [Other],
        "Requests the set list without the bodies of its songs. Each song has the revision in \
         which it last changed.",
        in_session {} => SessionCommand::GetSetlist,
        SETLIST_FIELDS, MEMBER;
    GetSongs = "get_songs" [Other],
        "Requests songs with their bodies: those of songIds, or the selected song and then all \
         others in order. The answer has at least one and ends after 256 KiB; more has the ids to \
         request next. Songs that are gone are left out.",
        in_session { ids = "songIds": optional(SONG_IDS), } => SessionCommand::GetSongs(ids),
        &[
            COUNT.info("revision"),
            SONGS.info("songs"),
            SONG_IDS.schema.info("more"),
        ],
        MEMBER;
    GetSong = "get_song" [Other],
        "Requests a song with its body.",
        in_session { song = "songId": SONG_ID, } => SessionCommand::GetSong(song),
        &[SONG.info("song")], MEMBER;

    Pong = "pong" [Other],
        "Answers a ping.",
        connection_or_absent { timestamp = "timestamp": optional(NUMBER), }
            => ClientCommand::Pong { timestamp },
        &[], &[];
    Heartbeat = "heartbeat" [Other],
        "Sends a sign of life. The server answers with heartbeat_response.",
        connection_or_absent { timestamp = "timestamp": optional(NUMBER), }
            => ClientCommand::Heartbeat { timestamp },
        HEARTBEAT, &[];
    ConnectionQuality = "connection_quality" [Other],
        "Requests the measured quality of the connection.",
        connection_or_absent {} => ClientCommand::ConnectionQuality,
        QUALITY_FIELDS, &[];
    HeartbeatResponse = "heartbeat_response" [Other],
        "Accepted and ignored, because old clients send it.",
        unread {} => ClientCommand::Ignored,
        &[], &[];
    RoleChanged = "role_changed" [Other],
        "Accepted and ignored, because old clients send it. Roles change by set_role.",
        unread {} => ClientCommand::Ignored,
        &[], &[];
    Error = "error" [Other],
        "Accepted and ignored, because old clients send it.",
        unread {} => ClientCommand::Ignored,
        &[], &[];
}

impl ClientEvent {
    /// Returns the entry in the table.
    pub fn info(self) -> &'static EventInfo {
        &EVENTS[self as usize]
    }

    /// Whether it changes its session or speaks in it, so that a repeated copy must not be applied.
    /// Other events ask, or report a state.
    pub fn is_applied_once(self) -> bool {
        self.info().flags.contains(&Flag::once)
    }

    /// Whether it concerns the sender's session, and so takes effect after all earlier events of
    /// its sender there. Other events concern the connection alone.
    pub fn is_command(self) -> bool {
        self.info().scope == Scope::Session
    }

    /// Whether an event that comes too fast may wait; see [`SessionCommand::may_wait`].
    pub fn may_wait(self) -> bool {
        self.info().flags.contains(&Flag::waits)
    }

    /// Whether it may be longer than other events: it carries songs.
    pub fn may_be_long(self) -> bool {
        matches!(self, Self::SetSetlist | Self::EditSetlist)
    }

    /// Whether it may have a time after which it is no longer applied.
    pub fn is_timed(self) -> bool {
        self.info().flags.contains(&Flag::timed)
    }

    /// Reads an event. `payload` is the first argument after the event's name.
    ///
    /// # Errors
    /// `invalid_payload`, `invalid_session_id` or `too_large`.
    pub fn read<'a>(self, payload: impl Into<Value<'a>>) -> Result<Command, Reject> {
        let payload = payload.into();
        payload.check_depth()?;
        let mut command = self.read_fields(payload)?;
        if let Command::Session(_, terms, _) = &mut command {
            if self.is_applied_once() {
                terms.id = shared_field(payload, COMMAND_ID_FIELD.name, COMMAND_ID)?;
            }
            if self.is_timed() {
                terms.not_after = shared_field(payload, NOT_AFTER_FIELD.name, SERVER_MS)?;
            }
        }
        Ok(command)
    }
}

impl EventInfo {
    /// Returns the fields that it shares with other events.
    pub fn shared_fields(&self) -> impl Iterator<Item = FieldInfo> {
        let id = self.event.is_applied_once().then_some(COMMAND_ID_FIELD);
        id.into_iter().chain(self.event.is_timed().then_some(NOT_AFTER_FIELD))
    }

    /// Returns the codes with which it can be rejected, besides those of every event.
    pub fn refusals(&self) -> impl Iterator<Item = Code> {
        let late = self.event.is_timed().then_some(Code::TooLate);
        self.own_refusals.iter().copied().chain(late)
    }
}

/// Returns the rate class of an event.
pub fn class(event: Option<ClientEvent>) -> RateClass {
    event.map_or(RateClass::Other(u8::MAX), ClientEvent::rate_class)
}

/// Returns the event that replaces one of the Node.js server's second event set.
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

/// The field with the id that a client gives a command.
const COMMAND_ID_FIELD: FieldInfo = optional(COMMAND_ID).info("commandId");

/// The field with the time after which a command is no longer applied.
const NOT_AFTER_FIELD: FieldInfo = optional(SERVER_MS).info("notAfterServerMs");

/// Reads a field that many events share. It is searched separately, because few clients send it.
fn shared_field<T>(
    payload: Value<'_>,
    name: &'static str,
    kind: Kind<T>,
) -> Result<Option<T>, Reject> {
    if !payload.may_have(name) {
        return Ok(None);
    }
    let [field] = fields(payload, [name])?;
    optional(kind).read(field)
}

/// Replaces a missing payload by an empty object. Old clients send some events without a payload,
/// or with `undefined`, which arrives as `null`.
fn or_empty(payload: Value<'_>) -> Value<'_> {
    if payload.is_absent() { Value::from("{}") } else { payload }
}

/// Rejects settings that change nothing: a misspelt name would otherwise look like a change that
/// was applied.
fn some_change(change: SettingsChange) -> Result<SettingsChange, Reject> {
    if change == SettingsChange::default() {
        let message = "update_settings takes at least one of maxMembers, onLeaderLoss, leaderRule, \
                       passcode, leaderPin, anyoneMayCue and anyoneMayEdit";
        return Err(Reject::new(Code::InvalidPayload, message));
    }
    Ok(change)
}

/// Returns the time of a change. A client names at most one.
fn when(time: Option<Micros>, line: Option<Departure>, beat: Option<i64>) -> Result<When, Reject> {
    match (time, departure(line, beat)?) {
        (None, None) => Ok(When::Now),
        (Some(time), None) => Ok(When::At(time)),
        (None, Some(departure)) => Ok(When::Armed(departure)),
        (Some(_), Some(_)) => {
            let message = "atServerMs must be left out if at or atBeat names the time";
            Err(Reject::field("atServerMs", message))
        }
    }
}

fn departure(line: Option<Departure>, beat: Option<i64>) -> Result<Option<Departure>, Reject> {
    match (line, beat) {
        (Some(_), Some(_)) => {
            Err(Reject::field("at", "at must be left out if atBeat names the beat"))
        }
        (line, beat) => Ok(line.or(beat.map(Departure::AtBeat))),
    }
}

/// Reads the place of a seek. An armed one lands on a whole beat.
fn seek(position: Field<'_>, beat: Field<'_>, when: When) -> Result<SessionCommand, Reject> {
    let is_armed = matches!(when, When::Armed(_));
    let to = match (position.is_absent(), beat.is_absent()) {
        (true, false) if is_armed => Target::Beat(WHOLE_BEAT.read(beat)?),
        (true, false) => Target::Beat(BEAT.read(beat)?),
        (false, true) if is_armed => {
            return Err(position.wrong("must be left out with at or atBeat: send beat instead"));
        }
        (_, true) => Target::Position(POSITION.read(position)?),
        (false, false) => {
            return Err(beat.wrong("must be left out if position names the place"));
        }
    };
    Ok(SessionCommand::Seek { to, when })
}

/// Reads the end of a loop.
fn loop_to(from: i64, to: Field<'_>) -> Result<(i64, i64), Reject> {
    let end = BEAT.read(to)?;
    match end > from && (end - from) % music::BEAT == 0 {
        true => Ok((from, end)),
        false => Err(to.wrong("must be one or more whole beats after from")),
    }
}

/// Seconds for which a stage message is shown unless it says otherwise. Specified.
const CUE_SECONDS_DEFAULT: Number = Number(5.0);

/// Returns the text of a cue. Only a cue with a kind may have none.
fn cue_text(text: Option<String>, kind: Option<CueKind>) -> Result<String, Reject> {
    let text = text.or_else(|| kind.map(|_| String::new()));
    text.ok_or_else(|| Reject::field("text", "text is required, or kind instead of it"))
}

fn song_choice(song: Field<'_>, step: Field<'_>) -> Result<SongChoice, Reject> {
    match (song.is_absent(), step.is_absent()) {
        (false, true) => SONG_ID.read(song).map(SongChoice::Id),
        (true, false) => match step.number() {
            Ok(1.0) => Ok(SongChoice::Step(true)),
            Ok(-1.0) => Ok(SongChoice::Step(false)),
            _ => Err(step.wrong("must be 1 for the next song or -1 for the one before")),
        },
        (true, true) => Err(song.wrong("is required, or step instead of it")),
        (false, false) => Err(step.wrong("must be left out where songId says which song")),
    }
}

#[cfg(test)]
mod tests;
