//! What the storage has of a session.

use crate::speech::Ack;

/// What the storage has of a session.
#[derive(Debug, Default)]
pub struct Persisted {
    /// The epoch and version that is stored.
    pub stored: Option<(u64, u64)>,
    /// The epoch and version that is on its way there.
    pub in_flight: Option<(u64, u64)>,
    /// Whether the session is among those to be offered.
    pub is_dirty: bool,
    /// Whether it came back from the storage; see [`Ack::Joined`].
    pub restored: Option<bool>,
}

impl Persisted {
    /// Whether the session is among those to be offered.
    pub fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// Whether just this state is stored, and nothing else on its way.
    pub fn has(&self, epoch: u64, version: u64) -> bool {
        self.stored == Some((epoch, version)) && self.in_flight.is_none() && !self.is_dirty
    }

    /// Tells who joins whether the session came back from the storage.
    pub fn restored(&self, ack: Ack) -> Ack {
        match ack {
            Ack::Joined { member, role, epoch, version, .. } => {
                Ack::Joined { member, role, epoch, version, restored: self.restored }
            }
            ack => ack,
        }
    }
}
