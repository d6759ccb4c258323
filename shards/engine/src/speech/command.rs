//! What a member says: one value for each client event of the protocol, checked field by field.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Number, Role, Secret};
use crate::words::ids::{CommandId, MemberId, SessionId};
use crate::words::music::{Position, Tempo, TimeSignature};
use crate::words::time::Micros;

/// A client event after checking.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `join_session`: may take the connection to another shard.
    Join(Join),
    /// `leave_session`.
    Leave(SessionId),
    /// Anything a member says in the session it names, and what it calls that.
    Session(SessionId, Option<CommandId>, SessionCommand),
    /// What concerns the connection alone.
    Client(ClientCommand),
}

/// The fields of `join_session`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Join {
    /// Which session; made if it does not exist.
    pub session: SessionId,
    /// 1 to 64 characters, stripped; `None` for "User " and the last four characters of the socket
    /// id.
    pub display_name: Option<String>,
    /// Whether the newcomer asks to lead or to follow.
    pub role: Option<Role>,
    /// What it plays, up to 64 characters.
    pub instrument: Option<String>,
    /// What a closed session asks for.
    pub passcode: Option<Secret>,
    /// What `leaderRule: "pin"` asks for.
    pub leader_pin: Option<Secret>,
    /// Ticks a second that it wants, 0 to 125; `None` for all of them.
    pub tick_hz: Option<u8>,
    /// Whether it wants `metronome_tick`.
    pub metronome: bool,
}

/// What a member says in its session.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionCommand {
    /// `set_role`; `member` is another member that the leader hands over to.
    SetRole {
        /// The role wanted.
        role: Role,
        /// Whose role; the sender's own if `None`.
        member: Option<MemberId>,
    },
    /// `request_leader`.
    RequestLeader,
    /// `approve_leader_request`.
    ApproveLeader {
        /// Whose request.
        requester: MemberId,
    },
    /// `deny_leader_request`.
    DenyLeader {
        /// Whose request.
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
        /// The name to show, 1 to 64 characters; the member's own if `None`.
        username: Option<String>,
    },
    /// `update_settings`.
    UpdateSettings(SettingsChange),
    /// `cue`.
    Cue {
        /// 1 to 200 characters.
        text: String,
        /// For whom it is meant, up to 64 characters.
        target: Option<String>,
    },
    /// `play`.
    Play(Start),
    /// `pause`.
    Pause,
    /// `stop`: pause and back to the beginning.
    Stop,
    /// `seek`.
    Seek {
        /// Where to.
        position: Position,
        /// When; at once if `None`.
        at: Option<Micros>,
    },
    /// `set_tempo`.
    SetTempo(Tempo),
    /// `tempo_change` and `tempo_changed`.
    ChangeTempo(TempoChange),
    /// `set_time_signature`.
    SetTimeSignature(TimeSignature),
    /// `beat_sync`.
    BeatSync {
        /// The beat that the leader is at.
        beat_position: Number,
        /// The leader's own clock.
        master_time: Number,
    },
    /// `position_sync`.
    PositionSync {
        /// Where the client is.
        position: Position,
        /// The client's own clock.
        timestamp: Number,
    },
    /// `set_setlist`.
    SetSetlist(Setlist),
    /// `select_song`.
    SelectSong(SongChoice),
    /// `get_song`.
    GetSong(String),
}

impl SessionCommand {
    /// Whether one that came too fast may wait for room, and the next of its event makes it
    /// needless: a place or a tempo that holds at once.
    pub fn may_wait(&self) -> bool {
        match self {
            Self::SetTempo(_) | Self::ChangeTempo(_) | Self::PositionSync { .. } => true,
            Self::Seek { at, .. } => at.is_none(),
            _ => false,
        }
    }
}

/// A message to all, and whether it was longer than such a message may be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// What is left of it.
    pub text: String,
    /// Whether its end was cut off.
    pub cut: bool,
}

/// The fields of `play`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Start {
    /// When to start; at once if `None`.
    pub at: Option<Micros>,
    /// Bars counted in, 0 to 8.
    pub count_in_bars: u32,
    /// The boundary to start on.
    pub quantize: Option<Quantize>,
}

/// A new tempo, and how it is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TempoChange {
    /// The new tempo.
    pub tempo: Tempo,
    /// Time in which it is reached; at most an hour.
    pub fade: Micros,
    /// The event that it came as; it goes out as the same.
    pub event: TempoEvent,
}

/// The boundary a scheduled change waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quantize {
    /// The next bar.
    Bar,
    /// The next beat.
    Beat,
}

/// The two names of a tempo change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TempoEvent {
    /// `tempo_change`.
    Change,
    /// `tempo_changed`, which adds `isRealTime: true`.
    Changed,
}

/// How the lead is given.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum LeaderRule {
    /// Whoever asks leads at once.
    Open,
    /// The leader is asked.
    Ask,
    /// Whoever knows the PIN leads at once.
    Pin,
}

/// What playback does when the seat of a lost leader is given to another.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum OnLeaderLoss {
    /// The music goes on.
    Continue,
    /// It pauses.
    Pause,
}

/// The fields of `update_settings`; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SettingsChange {
    /// Members that may be in the session.
    pub max_members: Option<u32>,
    /// What happens to playback when the leader is lost.
    pub on_leader_loss: Option<OnLeaderLoss>,
    /// How the lead is given.
    pub leader_rule: Option<LeaderRule>,
    /// What joining takes; `Some(None)` opens the session.
    pub passcode: Option<Option<Secret>>,
    /// What leading takes; `Some(None)` forgets the PIN.
    pub leader_pin: Option<Option<Secret>>,
    /// Whether followers may send cues.
    pub anyone_may_cue: Option<bool>,
}

/// A set list: the songs of an evening, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Setlist {
    /// Up to 200 characters.
    pub title: String,
    /// Up to 500 songs with ids of their own. Shared, for their texts may be a megabyte.
    pub songs: Arc<[Song]>,
}

impl Setlist {
    /// About as many bytes as it takes when it is written.
    pub fn size(&self) -> usize {
        // Names and numbers are short beside the words of a song, in which line breaks take two
        // bytes in JSON.
        self.songs.iter().map(|song| 256 + song.body.len() + song.body.len() / 16).sum()
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
    /// How `body` is written.
    pub format: SongFormat,
    /// The chart.
    pub body: String,
    /// How long it takes.
    pub duration: Option<Position>,
}

/// How a song's body is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum SongFormat {
    /// ChordPro.
    ChordPro,
    /// Plain text.
    Text,
}

/// Which song `select_song` means.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SongChoice {
    /// The song with this id.
    Id(String),
    /// The next song (true) or the one before (false).
    Step(bool),
}

/// What concerns the connection alone; answered at once.
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
        /// The `timestamp` of the ping it answers.
        timestamp: Option<Number>,
    },
    /// `heartbeat`.
    Heartbeat {
        /// The client's own clock.
        timestamp: Option<Number>,
    },
    /// `connection_quality`.
    ConnectionQuality,
    /// Events that old clients send and that change nothing: `heartbeat_response`, `role_changed`,
    /// `error`.
    Ignored,
}
