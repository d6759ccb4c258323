//! What changes is offered to the storage, a bounded amount at a time, and what nobody is in waits
//! there.
//!
//! Each session has at most one record on its way. What changes meanwhile is offered when that one
//! is answered, so however fast a session changes, its newest state is what waits.

use std::collections::{BTreeMap, VecDeque};

use super::room::Room;
use crate::context::Cx;
use crate::io::{Output, StoreResult};
use crate::record::Record;
use crate::slots::Arena;
use crate::timers::{Timer, TimerHandle};
use crate::words::ids::{RoomKey, SessionId};
use crate::words::time::Micros;

/// How long changes are gathered before they are offered: a session that changes often is written
/// less often, and a turn never prints more than [`OFFERS_MAX`] records.
const OFFER_INTERVAL: Micros = Micros::from_millis(5);

/// How long nothing is offered after the storage had no room: printing what it refuses would be for
/// nothing.
const OFFER_AGAIN: Micros = Micros::from_millis(100);

/// Records offered at once.
const OFFERS_MAX: usize = 128;

/// Bytes offered at once, the record that goes over included: a set list may have a mebibyte.
const OFFER_BYTES_MAX: usize = 1024 * 1024;

/// What a shard has to tell the storage.
#[derive(Default)]
pub(super) struct PersistQueue {
    /// Sessions that changed and have no record on its way, in order of changing.
    dirty: VecDeque<RoomKey>,
    /// Whether it had no room for what it was offered last.
    is_full: bool,
    /// Sessions that left memory before their time, by when the storage is to forget them, with
    /// their epochs.
    evicted: BTreeMap<(Micros, SessionId), u64>,
    /// Whether the server is going away: nothing is waited for any more.
    draining: bool,
    offer: TimerHandle,
    expire: TimerHandle,
}

impl PersistQueue {
    /// Sessions that wait to be offered.
    pub fn dirty(&self) -> u32 {
        self.dirty.len() as u32
    }

    /// Whether a session is among them, once.
    pub fn lists(&self, key: RoomKey) -> bool {
        self.dirty.iter().filter(|listed| **listed == key).count() == 1
    }

    /// The server is going away: nothing is waited for any more, for the storage keeps the newer of
    /// two records.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Lists a session to be offered if it has something new and nothing on its way.
    pub fn mark_dirty(&mut self, key: RoomKey, room: &mut Room, cx: &mut Cx<'_>) {
        if cx.settings.storage_wait.is_none() {
            return;
        }
        let newest = (room.session.epoch(), room.session.version());
        let kept = &mut room.persisted;
        let on_its_way =
            // mark: end_waits_for_old_record
            if self.draining { kept.in_flight == Some(newest) } else { kept.in_flight.is_some() };
        // Nobody has ever been in a session without a version.
        if newest.1 == 0 || kept.stored == Some(newest) || on_its_way || kept.is_dirty {
            return;
        }
        kept.is_dirty = true;
        self.dirty.push_back(key);
        self.arm_offer(cx);
    }

    /// Offers the sessions that have waited longest.
    pub fn offer(&mut self, rooms: &mut Arena<RoomKey, Room>, cx: &mut Cx<'_>) {
        self.offer.fired();
        let full = cx.out.bytes.len() + OFFER_BYTES_MAX;
        for _ in 0..OFFERS_MAX {
            if cx.out.bytes.len() >= full {
                break;
            }
            let Some(key) = self.dirty.pop_front() else { break };
            let Some(room) = rooms.get_mut(key) else { continue };
            let (epoch, version) = (room.session.epoch(), room.session.version());
            room.persisted.is_dirty = false;
            room.persisted.in_flight = Some((epoch, version));
            let record = cx.out.span(|bytes| room.session.state().print(bytes));
            let session = room.session.id().clone();
            cx.out.list.push(Output::Store { session, epoch, version, record });
        }
        self.arm_offer(cx);
    }

    /// Sets the timer of the next offer, if something waits for it.
    pub fn arm_offer(&mut self, cx: &mut Cx<'_>) {
        let waits = !self.dirty.is_empty();
        let at = cx.now.at + if self.is_full { OFFER_AGAIN } else { OFFER_INTERVAL };
        let at = self.offer.at().map_or(at, |set| set.min(at));
        self.offer.set(cx.wheel, waits.then_some(at), Timer::Offer);
    }

    /// Notes what came of a record. Returns the epoch that the session has to rise above, if it is
    /// outdated.
    pub fn stored(
        &mut self,
        room: &mut Room,
        which: (u64, u64),
        outcome: StoreResult,
        cx: &mut Cx<'_>,
    ) -> Option<u64> {
        if room.persisted.in_flight == Some(which) {
            room.persisted.in_flight = None;
            self.is_full = outcome == StoreResult::Refused;
            if self.is_full {
                self.offer.cancel(cx.wheel);
            }
        }
        match outcome {
            StoreResult::Stored => room.persisted.stored = Some(which),
            // mark: refused_record_counts
            StoreResult::Refused => {}
            // There is no epoch above it that could be stored. The next change is offered again.
            StoreResult::Outdated { epoch } if epoch >= Record::EPOCH_MAX => {
                room.persisted.stored = Some(which)
            }
            StoreResult::Outdated { epoch } => return Some(epoch),
        }
        None
    }

    /// Has the storage forget a session that is gone from memory.
    pub fn forget(&mut self, key: RoomKey, room: &Room, cx: &mut Cx<'_>) {
        if room.persisted.is_dirty {
            self.dirty.retain(|listed| *listed != key);
        }
        if room.persisted.stored.is_some() || room.persisted.in_flight.is_some() {
            let (session, epoch) = (room.session.id().clone(), room.session.epoch());
            cx.out.list.push(Output::Forget { session, epoch });
        }
    }

    /// Notes a session that left memory because it is stored. The storage is told to forget it when
    /// its time is over, unless it is in memory again, as `names` says.
    pub fn evict(
        &mut self,
        room: &Room,
        until: Micros,
        names: &BTreeMap<SessionId, RoomKey>,
        cx: &mut Cx<'_>,
    ) {
        self.evicted.insert((until, room.session.id().clone()), room.session.epoch());
        // Of a bounded number only; what is one too many is forgotten early.
        if self.evicted.len() > cx.settings.limits.sessions_max as usize {
            self.expire_first(names, cx);
        }
        self.arm_expire(cx);
    }

    /// The time of some that were left to the storage is over.
    pub fn expire_evicted(&mut self, names: &BTreeMap<SessionId, RoomKey>, cx: &mut Cx<'_>) {
        self.expire.fired();
        while self.evicted.first_key_value().is_some_and(|((until, _), _)| *until <= cx.now.at) {
            self.expire_first(names, cx);
        }
        self.arm_expire(cx);
    }

    fn expire_first(&mut self, names: &BTreeMap<SessionId, RoomKey>, cx: &mut Cx<'_>) {
        let Some(((_, session), epoch)) = self.evicted.pop_first() else { return };
        if !names.contains_key(&session) {
            cx.out.list.push(Output::Forget { session, epoch });
        }
    }

    fn arm_expire(&mut self, cx: &mut Cx<'_>) {
        let next = self.evicted.first_key_value().map(|((until, _), _)| *until);
        self.expire.set(cx.wheel, next, Timer::Expire);
    }
}
