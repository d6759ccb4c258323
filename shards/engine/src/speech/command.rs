//! Messages of members: one value for each client event of the protocol, checked field by field.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Number, Role, Secret};
use crate::words::ids::{CommandId, MemberId, SessionId};
use crate::words::music::{MeterChange, Position, Tempo, TempoEvent, TimeSignature};
use crate::words::time::Micros;

/// A client event after checking.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `join_session`, which may take the connection to another shard.
    Join(Join),
    /// `leave_session`.
    Leave(SessionId),
    /// A command in the session that it names, with the terms that its client set.
    Session(SessionId, Terms, SessionCommand),
    /// A command that concerns the connection alone.
    Client(ClientCommand),
}

/// The terms on which a client wants a command to be applied: the fields that many commands share.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Terms {
    /// The id that the client gave the command. A command with this id is applied once.
    pub id: Option<CommandId>,
    /// The time on the server's clock after which the command is no longer applied.
    pub not_after: Option<Micros>,
}

impl Terms {
    /// Returns the time by which the command is too late at `now`, `None` if it is in time.
    pub fn lateness(&self, now: Micros) -> Option<Micros> {
        self.not_after.filter(|not_after| *not_after < now).map(|not_after| now.since(not_after))
    }
}

/// The fields of `join_session`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Join {
    /// The session, which is created if it does not exist.
    pub session: SessionId,
    /// The name, 1 to 64 characters, stripped. `None`: "User " and the last four characters of the
    /// socket id.
    pub display_name: Option<String>,
    /// The role that the newcomer asks for.
    pub role: Option<Role>,
    /// The member's instrument, up to 64 characters.
    pub instrument: Option<String>,
    /// The passcode that a closed session requires.
    pub passcode: Option<Secret>,
    /// The PIN that `leaderRule: "pin"` requires.
    pub leader_pin: Option<Secret>,
    /// Ticks per second that the member wants, 0 to 125. `None`: all of them.
    pub tick_hz: Option<u8>,
    /// Whether the member wants `metronome_tick`.
    pub metronome: bool,
    /// The token of the member's seat, which the client has made. If a seat has it, the member
    /// gets that seat, and otherwise its new seat gets the token.
    pub token: Option<Secret>,
    /// The token that takes the place of `token` once the join is accepted.
    pub new_token: Option<Secret>,
    /// The part that the client takes in the session.
    pub view: View,
}

impl Join {
    /// Returns the token that the seat has once the join is accepted.
    pub fn next_token(&self) -> Option<&Secret> {
        self.new_token.as_ref().or(self.token.as_ref())
    }
}

/// The part that a client takes in a session.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum View {
    /// A member with a seat.
    #[default]
    Member,
    /// A screen, which only shows the session. It is no member.
    Screen,
}

/// A command of a member in its session.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionCommand {
    /// `set_role`; with `member`, the leader hands the lead over.
    SetRole {
        /// The role wanted.
        role: Role,
        /// The member whose role changes. `None`: the sender.
        member: Option<MemberId>,
    },
    /// `request_leader`.
    RequestLeader,
    /// `approve_leader_request`.
    ApproveLeader {
        /// The member that asked.
        requester: MemberId,
    },
    /// `deny_leader_request`.
    DenyLeader {
        /// The member that asked.
        requester: MemberId,
    },
    /// `sync_request`.
    Sync {
        /// The checksum that the client holds.
        checksum: Option<String>,
        /// The version that the client holds.
        version: Option<u64>,
    },
    /// `update_message`: up to 500 characters.
    UpdateMessage(Message),
    /// `chat_message`.
    Chat {
        /// 1 to 500 characters.
        message: Message,
        /// The name to show, 1 to 64 characters. `None`: the member's own.
        username: Option<String>,
    },
    /// `update_settings`.
    UpdateSettings(SettingsChange),
    /// `set_member`: the rights that the leader gives a member.
    SetMember {
        /// The member.
        member: MemberId,
        /// Whether it may edit the set list.
        may_edit: bool,
    },
    /// `cue`.
    Cue(Cue),
    /// `play`.
    Play(Start),
    /// `pause`.
    Pause {
        /// The time of the press. `None`: now.
        pressed: Option<Micros>,
    },
    /// `stop`: pause and back to the beginning.
    Stop,
    /// `seek`.
    Seek {
        /// The new place.
        to: Target,
        /// The time.
        when: When,
    },
    /// `set_tempo`.
    SetTempo(Tempo),
    /// `tempo_change` and `tempo_changed`.
    ChangeTempo(TempoChange),
    /// `set_time_signature`.
    SetTimeSignature(TimeSignature),
    /// `loop`: the first song beat and the one at which the loop leads back, in microbeats. `None`
    /// releases the loop.
    Loop(Option<(i64, i64)>),
    /// `cancel`: cancels what is armed.
    Cancel,
    /// `nudge`: moves the place by whole beats, in microbeats.
    Nudge(i64),
    /// `one`: moves the nearest bar line to the time of the press.
    One(Micros),
    /// `beat_sync`.
    BeatSync {
        /// The leader's beat position.
        beat_position: Number,
        /// The leader's own clock.
        master_time: Number,
    },
    /// `position_sync`.
    PositionSync {
        /// The client's position.
        position: Position,
        /// The client's own clock.
        timestamp: Number,
    },
    /// `set_setlist`.
    SetSetlist(Setlist),
    /// `select_song`.
    SelectSong(SongSelection),
    /// `edit_setlist`: 1 to 100 operations, of which all apply or none.
    EditSetlist(Vec<Operation>),
    /// `get_setlist`.
    GetSetlist,
    /// `get_songs`: the ids of the songs. `None`: all.
    GetSongs(Option<Vec<String>>),
    /// `get_song`.
    GetSong(String),
}

impl SessionCommand {
    /// Whether only the leader may send this command, of those that may have a time limit. A
    /// follower may report its position.
    pub fn is_of_leader(&self) -> bool {
        !matches!(self, Self::PositionSync { .. })
    }

    /// Whether such a command may wait when it came too fast, because the next of its event makes
    /// it needless: a position or a tempo that applies at once.
    pub fn may_wait(&self) -> bool {
        match self {
            Self::SetTempo(_) | Self::PositionSync { .. } => true,
            Self::ChangeTempo(change) => change.at_beat.is_none(),
            Self::Seek { when, .. } => *when == When::Now,
            _ => false,
        }
    }
}

/// A stage message. It has a text or a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Cue {
    /// Up to 200 characters.
    pub text: String,
    /// The kind.
    pub kind: CueKind,
    /// Seconds for which it is shown, 0 to 60. 0: until the next one.
    pub seconds: Number,
    /// The addressee, up to 64 characters. `None`: all members.
    pub target: Option<String>,
}

/// The kinds of stage messages.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum CueKind {
    /// The band begins or goes on.
    Go,
    /// The band waits.
    Hold,
    /// The band ends.
    Stop,
    /// Anything else.
    #[default]
    Info,
}

impl CueKind {
    /// All kinds, in order.
    pub const ALL: [Self; 4] = [Self::Go, Self::Hold, Self::Stop, Self::Info];

    /// Returns the kind as it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Go => "go",
            Self::Hold => "hold",
            Self::Stop => "stop",
            Self::Info => "info",
        }
    }
}

/// A message to all.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// The text that is left of it.
    pub text: String,
    /// Whether its end was cut off because it was too long.
    pub cut: bool,
}

/// The fields of `play`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Start {
    /// The time of the start. `None`: at once.
    pub at: Option<Micros>,
    /// Number of bars counted in, 0 to 8.
    pub count_in_bars: u32,
    /// The beginning to which the place moves back first.
    pub quantize: Option<Quantize>,
}

/// A new tempo, and the time in which it is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TempoChange {
    /// The new tempo.
    pub tempo: Tempo,
    /// Time in which it is reached, at most an hour.
    pub fade: Micros,
    /// The song beat at which it begins. `None`: at once.
    pub at_beat: Option<i64>,
    /// The event by which it came, and by which members receive it.
    pub event: TempoEvent,
}

/// A place in the song.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Target {
    /// A position.
    Position(Position),
    /// A song beat, in microbeats.
    Beat(i64),
}

/// The time of a change of the place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// At once.
    Now,
    /// At this time.
    At(Micros),
    /// When the playing music reaches a place.
    Armed(Departure),
}

/// The place at which an armed change begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Departure {
    /// The next bar line that is far enough ahead.
    Bar,
    /// The next beat that is far enough ahead.
    Beat,
    /// This song beat in microbeats, when the song next reaches it.
    AtBeat(i64),
}

/// The unit to whose beginning `play` moves the place back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quantize {
    /// The present bar.
    Bar,
    /// The present beat.
    Beat,
}

/// The rule by which the lead is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum LeaderRule {
    /// A member that asks leads at once.
    Open,
    /// The leader decides.
    Ask,
    /// A member that knows the PIN leads at once.
    Pin,
}

/// The effect on playback when the seat of a lost leader is given to another member.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum OnLeaderLoss {
    /// Playback continues.
    Continue,
    /// Playback pauses.
    Pause,
}

/// The fields of `update_settings`; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettingsChange {
    /// Maximum number of members of the session.
    pub max_members: Option<u32>,
    /// The effect on playback when the leader is lost.
    pub on_leader_loss: Option<OnLeaderLoss>,
    /// The rule by which the lead is given.
    pub leader_rule: Option<LeaderRule>,
    /// The passcode for joining. `Some(None)` opens the session.
    pub passcode: Option<Option<Secret>>,
    /// The PIN for leading. `Some(None)` removes it.
    pub leader_pin: Option<Option<Secret>>,
    /// Whether followers may send cues.
    pub anyone_may_cue: Option<bool>,
    /// Whether all members may edit the set list.
    pub anyone_may_edit: Option<bool>,
}

/// A set list: the songs of an evening, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Setlist {
    /// Up to 200 characters.
    pub title: Box<str>,
    /// Up to 500 songs, each with its own id. Shared one by one, because the texts may take a
    /// megabyte and an edit changes few of them.
    pub songs: Arc<[Arc<Song>]>,
    /// Number of accepted edits of the session's list. 0 in a list that a client sends.
    #[serde(skip)]
    pub revision: u64,
}

impl Setlist {
    /// Maximum number of songs. Specified.
    pub const SONGS_MAX: usize = 500;

    /// Maximum bytes of all texts. Specified.
    pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

    /// Returns the song with this id and its place.
    pub fn find(&self, id: &str) -> Option<(usize, &Arc<Song>)> {
        self.songs.iter().enumerate().find(|(_, song)| song.id == id)
    }

    /// Returns the songs to be changed. Those that are shared are copied.
    pub fn songs_mut(&mut self) -> impl Iterator<Item = &mut Song> {
        Arc::make_mut(&mut self.songs).iter_mut().map(Arc::make_mut)
    }

    /// Returns the number of bytes of all texts.
    pub fn text_bytes(&self) -> usize {
        self.title.len() + self.songs.iter().map(|song| song.text_bytes()).sum::<usize>()
    }

    /// Returns roughly the number of bytes of the set list when it is written.
    pub fn size(&self) -> usize {
        self.songs.iter().map(|song| song.size()).sum()
    }
}

/// A song with its words and chords.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Song {
    /// 1 to 64 characters, unique in its set list.
    pub id: String,
    /// 1 to 200 characters.
    pub title: String,
    /// Up to 200 characters.
    pub artist: Option<String>,
    /// Up to 16 characters.
    pub key: Option<String>,
    /// The tempo to start in.
    pub tempo: Option<Tempo>,
    /// The signature to start in.
    pub time_signature: Option<TimeSignature>,
    /// The format of `body`.
    pub format: SongFormat,
    /// The chart.
    pub body: String,
    /// The song's duration.
    pub duration: Option<Position>,
    /// The time signatures of its bars, at most 64. If it is empty, `time_signature` holds from the
    /// beginning.
    #[serde(skip)]
    pub meter: Vec<MeterChange>,
    /// The song beat at which it is over, in microbeats.
    #[serde(skip)]
    pub end: Option<i64>,
    /// The revision of the set list in which the song last changed.
    #[serde(skip)]
    pub revision: u64,
}

impl Song {
    /// Maximum bytes of a body. Specified.
    pub const BODY_BYTES_MAX: usize = 64 * 1024;

    /// Returns the song's time signatures; `None` if it has none.
    pub fn whole_meter(&self) -> Option<Vec<MeterChange>> {
        let only = |signature| vec![MeterChange { beat: 0, signature }];
        let listed = (!self.meter.is_empty()).then(|| self.meter.clone());
        listed.or_else(|| self.time_signature.map(only))
    }

    /// Returns the number of bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let short = self.id.len() + self.title.len();
        short + optional(&self.artist) + optional(&self.key) + self.body.len()
    }

    /// Returns roughly the number of bytes of the song when it is written.
    pub fn size(&self) -> usize {
        // Names and numbers are short beside the words of a song, in which line breaks take two
        // bytes in JSON.
        256 + self.body.len() + self.body.len() / 16
    }
}

/// An operation of `edit_setlist`. Songs are named by their ids.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Adds a song.
    Add {
        /// The song.
        song: Arc<Song>,
        /// The song before which it is inserted. `None`, or a song that is gone: at the end.
        before: Option<String>,
    },
    /// Replaces the song that has the same id.
    Replace {
        /// The new song.
        song: Arc<Song>,
        /// The revision of the song that the editor saw.
        was: u64,
        /// Whole beats by which the place in the song moves, if the song is on.
        shift: i64,
    },
    /// Moves a song. A song that is gone stays away.
    Move {
        /// The song.
        id: String,
        /// The song before which it moves. `None`, or a song that is gone: to the end.
        before: Option<String>,
    },
    /// Removes a song.
    Remove {
        /// The song.
        id: String,
        /// The revision of the song that the editor saw.
        was: u64,
    },
    /// Changes the title of the list.
    Retitle {
        /// Up to 200 characters.
        title: String,
    },
}

impl Operation {
    /// Returns the song that the operation brings.
    pub fn song(&self) -> Option<&Arc<Song>> {
        match self {
            Self::Add { song, .. } | Self::Replace { song, .. } => Some(song),
            Self::Move { .. } | Self::Remove { .. } | Self::Retitle { .. } => None,
        }
    }
}

/// The format of a song's body.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum SongFormat {
    /// ChordPro.
    ChordPro,
    /// Plain text.
    Text,
}

/// The fields of `select_song`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SongSelection {
    /// The song.
    pub choice: SongChoice,
    /// Whether the song plays when it begins, or is stopped at its beginning.
    pub plays: bool,
    /// The place at which it begins. `None`: at once.
    pub departure: Option<Departure>,
}

/// The song that `select_song` chooses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SongChoice {
    /// The song with this id.
    Id(String),
    /// The next song (true) or the one before (false).
    Step(bool),
}

/// A command that concerns the connection alone, and is answered at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClientCommand {
    /// `latency_probe`.
    LatencyProbe {
        /// The client's own clock.
        timestamp: Number,
    },
    /// `clock_sync`.
    ClockSync {
        /// The client's own clock.
        t0: Number,
    },
    /// `pong`, the answer to the server's `ping`.
    Pong {
        /// The `timestamp` of the ping that it answers.
        timestamp: Option<Number>,
    },
    /// `heartbeat`.
    Heartbeat {
        /// The client's own clock.
        timestamp: Option<Number>,
    },
    /// `connection_quality`.
    ConnectionQuality,
    /// An event that old clients send and that changes nothing: `heartbeat_response`,
    /// `role_changed`, `error`.
    Ignored,
}
