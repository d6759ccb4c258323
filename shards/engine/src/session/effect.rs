//! Effects: what a session wants to be sent, and the members that receive it.

use crate::speech::Notice;
use crate::words::ids::MemberId;

/// The members that receive a notice.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    /// Every member.
    All,
    /// Every member except this one.
    Others(MemberId),
    /// One member.
    One(MemberId),
    /// The member whose command changed nothing. The notice keeps its order but is not logged: if
    /// the member loses its connection first, the snapshot on its return shows the same.
    Sender(MemberId),
    /// The members that [want metronome ticks](super::Session::wants_metronome).
    Metronome,
}

impl Audience {
    /// Returns the audience of a command's outcome: its sender alone if it changed nothing.
    pub(super) fn of(changed: bool, sender: MemberId) -> Self {
        if changed { Self::All } else { Self::Sender(sender) } // mark: nothing_told_to_all
    }

    /// Whether this member belongs to the audience. `metronome` says whether it wants metronome
    /// ticks.
    pub fn concerns(self, member: MemberId, metronome: bool) -> bool {
        match self {
            Self::All => true,
            Self::Others(other) => other != member,
            Self::One(one) | Self::Sender(one) => one == member,
            Self::Metronome => metronome,
        }
    }
}

/// A message that a session wants to be sent. Effects keep their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// A notice.
    Notify(Audience, Notice),
    /// A [snapshot](super::Session::snapshot) of the time of sending. Several become one.
    Snapshot(Audience),
    /// The [statistics](super::Session::room_stats) of the time of sending, for all members.
    /// Several become one.
    RoomStats,
}
