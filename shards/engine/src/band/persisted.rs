//! What the storage has of a session.

use crate::speech::Ack;

/// What the storage has of a session.
#[derive(Debug, Default)]
pub struct Kept {
    /// The epoch and version that is stored.
    pub stored: Option<(u64, u64)>,
    /// The epoch and version that is on its way there.
    pub offered: Option<(u64, u64)>,
    /// Whether the session is among those to be offered.
    pub listed: bool,
    /// Whether it came back from the storage; see [`Ack::Joined`].
    pub restored: Option<bool>,
}

impl Kept {
    /// Whether the session is among those to be offered.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether just this state is stored, and nothing else on its way.
    pub fn has(&self, epoch: u64, version: u64) -> bool {
        self.stored == Some((epoch, version)) && self.offered.is_none() && !self.listed
    }

    /// Tells who joins whether the session came back from the storage.
    pub fn told(&self, ack: Ack) -> Ack {
        match ack {
            Ack::Joined { member, role, epoch, version, .. } => {
                Ack::Joined { member, role, epoch, version, restored: self.restored }
            }
            ack => ack,
        }
    }
}
