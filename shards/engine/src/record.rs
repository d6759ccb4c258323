//! The stored form of a session: everything that was decided in it, plain and versioned.

use serde::{Deserialize, Serialize};

use crate::speech::{LeaderRule, Member, OnLeaderLoss, Secret, Setlist};
use crate::words::ids::SessionId;
use crate::words::music::Timeline;
use crate::words::time::{Micros, UnixMillis};

/// A session as it is kept. A session works on this value itself, so what is stored is what is played.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`Record::FORMAT`] of the program that made it.
    pub format: u16,
    /// The session.
    pub session: SessionId,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When somebody last did something, on the clock that the timeline counts by.
    pub last_active_at: Micros,
    /// The same instant on the wall clock: the only bridge to the clock of another server.
    pub last_active_unix: UnixMillis,
    /// The message to all.
    pub message: String,
    /// Members that may be in the session.
    pub max_members: u32,
    /// What happens to playback when the leader is lost.
    pub on_leader_loss: OnLeaderLoss,
    /// How the lead is given.
    pub leader_rule: LeaderRule,
    /// Whether followers may send cues.
    pub anyone_may_cue: bool,
    /// What joining takes.
    pub passcode: Option<Secret>,
    /// What leading takes under [`LeaderRule::Pin`].
    pub leader_pin: Option<Secret>,
    /// The members in order of joining.
    pub seats: Vec<Seat>,
    /// Playback, the leader, and the version of all of this.
    pub timeline: Timeline,
    /// The songs of the evening.
    pub setlist: Option<Setlist>,
    /// The place of the selected song in the set list.
    pub song: Option<u32>,
}

impl Record {
    /// Rises when the fields change their meaning.
    pub const FORMAT: u16 = 1;
}

/// A member and what only the server needs to know of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    /// As everybody sees it.
    pub member: Member,
    /// Ticks a second that it wants; `None` for all of them.
    pub tick_hz: Option<u8>,
    /// Whether it wants `metronome_tick`.
    pub metronome: bool,
    /// Whether it has shown the leader PIN.
    pub knows_pin: bool,
}
