//! The part of a session that the storage has.

use crate::session::Session;
use crate::speech::Ack;

/// The part of a session that the storage has, by epoch and version.
#[derive(Debug, Default)]
pub struct Persisted {
    /// The epoch and version that the storage has acknowledged.
    pub stored: Option<(u64, u64)>,
    /// The epoch and version that was offered and has no answer yet.
    pub in_flight: Option<(u64, u64)>,
    /// Number of changes of tokens that the last offered record has. They make no version.
    pub token_changes: u32,
    /// Whether the session is queued to be offered.
    pub is_dirty: bool,
    /// Whether the session was loaded from the storage; see [`Ack::Joined`].
    pub restored: Option<bool>,
}

impl Persisted {
    /// Whether the session is queued to be offered.
    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Whether the session's present record is stored, and no other one is queued or in flight.
    pub fn has(&self, session: &Session) -> bool {
        self.stored == Some((session.epoch(), session.version()))
            && self.has_tokens(session)
            && self.in_flight.is_none()
            && !self.is_dirty
    }

    /// Whether the last offered record has all changes of tokens.
    pub fn has_tokens(&self, session: &Session) -> bool {
        self.token_changes == session.state().tokens.changes()
    }

    /// Records that the storage does not have the last offered record.
    pub fn was_rejected(&mut self, session: &Session) {
        self.token_changes = session.state().tokens.changes().wrapping_sub(1);
    }

    /// Adds to the acknowledgement of a join whether the session was loaded from the storage.
    pub fn restored(&self, ack: Ack) -> Ack {
        match ack {
            Ack::Joined { member, role, epoch, version, is_back, .. } => {
                let restored = self.restored;
                Ack::Joined { member, role, epoch, version, restored, is_back }
            }
            ack => ack,
        }
    }
}
