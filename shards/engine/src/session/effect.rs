//! What a session wants told, and to whom.

use crate::speech::Notice;
use crate::words::ids::MemberId;

/// Who is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    /// Every member.
    All,
    /// Every member but this one.
    Others(MemberId),
    /// This member.
    One(MemberId),
    /// The member whose command changed nothing. It is told in turn, and never again: if it loses
    /// the connection first, the snapshot of its return says the same.
    Sender(MemberId),
    /// The members that [want metronome ticks](super::Session::wants_metronome).
    Metronome,
}

impl Audience {
    /// Returns the audience of a command's outcome: its sender alone if it changed nothing.
    pub(super) fn of(changed: bool, sender: MemberId) -> Self {
        if changed { Self::All } else { Self::Sender(sender) } // mark: nothing_told_to_all
    }

    /// Whether this member is among it; `metronome` says that it wants metronome ticks.
    pub fn concerns(self, member: MemberId, metronome: bool) -> bool {
        match self {
            Self::All => true,
            Self::Others(other) => other != member,
            Self::One(one) | Self::Sender(one) => one == member,
            Self::Metronome => metronome,
        }
    }
}

/// Something to tell, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// This notice.
    Notify(Audience, Notice),
    /// The [snapshot](super::Session::snapshot) as it is when it is sent; several become one.
    Snapshot(Audience),
    /// The [statistics](super::Session::room_stats) as they are when they are sent, to all; several
    /// become one.
    RoomStats,
}
