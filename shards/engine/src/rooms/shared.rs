//! A session's part in a cluster: this node owns it, or holds a branch.

use super::branch::Branch;
use super::owner::Owner;
use super::told::Told;
use crate::session::{Audience, Effect, Session};
use crate::speech::Notice;
use crate::words::ids::MemberId;
use crate::words::music::Timeline;
use crate::words::time::Micros;

/// A session's part in a cluster. Boxed in its room, so a server that is alone has one word for it.
#[derive(Debug)]
pub(super) enum Shared {
    /// This node decides.
    Owner(Owner),
    /// Another node decides.
    Branch(Branch),
}

impl Shared {
    /// Passes a packet on to be delivered, or keeps it until the store has answered. An owner also
    /// queues it for its branches.
    pub fn pass(&mut self, told: Told) -> Option<Told> {
        let Self::Owner(owner) = self else { return Some(told) };
        if !owner.branches.is_empty() {
            owner.queue(&told);
        }
        if owner.waits && owner.gate.is_closed() {
            owner.gate.told.push(told);
            return None;
        }
        Some(told)
    }

    /// Keeps an effect that is sent at once to a single member, if the store has not answered.
    /// Returns all other effects.
    pub fn hold_direct(&mut self, effect: Effect) -> Option<Effect> {
        let Self::Owner(owner) = self else { return Some(effect) };
        let is_direct = matches!(
            effect,
            Effect::Snapshot(Audience::One(_))
                | Effect::Notify(Audience::One(_), Notice::SyncResponse(_))
        );
        if matches!(effect, Effect::RoomStats) {
            owner.shows_record = true;
        }
        if is_direct && owner.waits {
            owner.gate.direct.push(effect);
            return None;
        }
        Some(effect)
    }

    /// Whether a member on another node is a screen.
    pub fn is_screen(&self, member: MemberId) -> bool {
        let Self::Owner(owner) = self else { return false };
        owner.remote().any(|one| one.is_screen && one.member == member)
    }

    /// Returns the number of screens on other nodes.
    pub fn remote_screens(&self) -> u32 {
        let Self::Owner(owner) = self else { return 0 };
        owner.remote().filter(|one| one.is_screen).count() as u32
    }

    /// Returns the number of members and screens on other nodes.
    pub fn remote(&self) -> usize {
        match self {
            Self::Owner(owner) => owner.remote().count(),
            Self::Branch(_) => 0,
        }
    }
}

/// Returns the timeline that members know, if a newer one is not stored yet.
pub(super) fn timeline_before(shared: &Option<Box<Shared>>) -> Option<&Timeline> {
    match shared.as_deref()? {
        Shared::Owner(owner) if owner.waits => owner.gate.timeline.as_deref(),
        Shared::Owner(_) | Shared::Branch(_) => None,
    }
}

/// Whether members may receive ticks: not if another node may own the session.
pub(super) fn may_tick(shared: &Option<Box<Shared>>) -> bool {
    match shared.as_deref() {
        Some(Shared::Owner(owner)) => owner.gate.unproven.is_none(),
        Some(Shared::Branch(branch)) => branch.mute.is_none(),
        None => true,
    }
}

/// Whether nothing may be sent until the store has answered.
pub(super) fn waits_for_store(shared: &Option<Box<Shared>>) -> bool {
    match shared.as_deref() {
        Some(Shared::Owner(owner)) => owner.waits && owner.gate.is_closed_to_batches(),
        _ => false,
    }
}

/// Returns the time at which something is due in a session.
pub(super) fn deadline(shared: &Option<Box<Shared>>, session: &Session) -> Option<Micros> {
    match shared.as_deref() {
        Some(Shared::Branch(_)) => session.next_deadline_in_copy(),
        _ => session.next_deadline(),
    }
}
