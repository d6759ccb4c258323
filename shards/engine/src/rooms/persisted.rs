//! The part of a session that the storage has.

use crate::speech::Ack;

/// The part of a session that the storage has, by epoch and version.
#[derive(Debug, Default)]
pub struct Persisted {
    /// The epoch and version that the storage has acknowledged.
    pub stored: Option<(u64, u64)>,
    /// The epoch and version that was offered and has no answer yet.
    pub in_flight: Option<(u64, u64)>,
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

    /// Whether this state is stored and no newer one is queued or in flight.
    pub fn has(&self, epoch: u64, version: u64) -> bool {
        self.stored == Some((epoch, version)) && self.in_flight.is_none() && !self.is_dirty
    }

    /// Adds to the acknowledgement of a join whether the session was loaded from the storage.
    pub fn restored(&self, ack: Ack) -> Ack {
        match ack {
            Ack::Joined { member, role, epoch, version, .. } => {
                Ack::Joined { member, role, epoch, version, restored: self.restored }
            }
            ack => ack,
        }
    }
}
