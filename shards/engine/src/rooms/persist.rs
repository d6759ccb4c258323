//! The queue of changed sessions: offers their records to the storage, a bounded amount at a time,
//! and tracks evicted sessions until the storage may forget them.
//!
//! A session has at most one record in flight. A change that arrives meanwhile is offered after the
//! answer, so however fast a session changes, its newest state is the one that is offered.

use std::collections::{BTreeMap, VecDeque};

use super::room::Room;
use crate::context::Cx;
use crate::io::{Output, StoreResult};
use crate::record::Record;
use crate::slots::Arena;
use crate::timers::{Timer, TimerHandle};
use crate::words::ids::{RoomKey, SessionId};
use crate::words::time::Micros;

/// Delay between a change and its offer. A session that changes often is written less often, and a
/// turn never serializes more than [`OFFERS_MAX`] records. Guessed.
const OFFER_INTERVAL: Micros = Micros::from_millis(5);

/// Pause after the storage queue was full. Serializing a record only to have it rejected is wasted
/// work. Guessed.
const OFFER_AGAIN: Micros = Micros::from_millis(100);

/// Maximum number of records in one offer. Guessed.
const OFFERS_MAX: usize = 128;

/// Size of an offer in bytes at which it ends. The record that exceeds it is included: a set list
/// may have 1 MiB.
const OFFER_BYTES_MAX: usize = 1024 * 1024;

/// The changes and evictions that a shard has to report to the storage.
#[derive(Default)]
pub(super) struct PersistQueue {
    /// Sessions that changed and have no record in flight, in order of change.
    dirty: VecDeque<RoomKey>,
    /// Whether the storage rejected the last record because its queue was full.
    is_full: bool,
    /// Sessions evicted from memory, with their epochs, by the time at which the storage may forget
    /// them.
    evicted: BTreeMap<(Micros, SessionId), u64>,
    /// Whether the server is shutting down and no longer waits for answers.
    draining: bool,
    offer: TimerHandle,
    expire: TimerHandle,
}

impl PersistQueue {
    /// Number of sessions that wait to be offered.
    pub fn dirty(&self) -> u32 {
        self.dirty.len() as u32
    }

    /// Whether a session is queued exactly once.
    pub fn lists(&self, key: RoomKey) -> bool {
        self.dirty.iter().filter(|listed| **listed == key).count() == 1
    }

    /// Stops waiting for records in flight. The storage keeps the newer of two records, so their
    /// order does not matter.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// Queues a session if its newest state is neither stored nor in flight.
    pub fn mark_dirty(&mut self, key: RoomKey, room: &mut Room, cx: &mut Cx<'_>) {
        // The nodes of a cluster store a session with each decision.
        if cx.settings.storage_wait.is_none() || cx.settings.cluster.is_some() {
            return;
        }
        let newest = (room.session.epoch(), room.session.version());
        let kept = &mut room.persisted;
        let has = |state| state == Some(newest) && kept.has_tokens(&room.session);
        let on_its_way =
            // mark: end_waits_for_old_record
            if self.draining { has(kept.in_flight) } else { kept.in_flight.is_some() };
        // A session at version 0 has never had a member.
        if newest.1 == 0 || has(kept.stored) || on_its_way || kept.is_dirty {
            return;
        }
        kept.is_dirty = true;
        self.dirty.push_back(key);
        self.arm_offer(cx);
    }

    /// Offers the sessions that have waited longest, and sets the timer of the next offer.
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
            debug_assert!(room.persisted.is_dirty, "only changed sessions are queued");
            debug_assert!(
                self.draining || room.persisted.in_flight.is_none(),
                "a session has at most one record in flight"
            );
            room.persisted.is_dirty = false;
            room.persisted.in_flight = Some((epoch, version));
            room.persisted.token_changes = room.session.state().tokens.changes();
            let record = cx.out.span(|bytes| room.session.state().print(bytes));
            let session = room.session.id().clone();
            cx.out.list.push(Output::Store { session, epoch, version, record });
        }
        self.arm_offer(cx);
    }

    /// Sets the timer of the next offer if a session waits for it.
    pub fn arm_offer(&mut self, cx: &mut Cx<'_>) {
        let waits = !self.dirty.is_empty();
        let at = cx.now.at + if self.is_full { OFFER_AGAIN } else { OFFER_INTERVAL };
        let at = self.offer.at().map_or(at, |set| set.min(at));
        self.offer.set(cx.wheel, waits.then_some(at), Timer::Offer);
    }

    /// Handles the storage's result for the record of epoch and version `which`. Returns the epoch
    /// that the session must rise above, if the record was outdated.
    pub fn stored(
        &mut self,
        room: &mut Room,
        which: (u64, u64),
        outcome: StoreResult,
        cx: &mut Cx<'_>,
    ) -> Option<u64> {
        if room.persisted.in_flight == Some(which) {
            room.persisted.in_flight = None;
            self.is_full = outcome == StoreResult::Rejected;
            if self.is_full {
                self.offer.cancel(cx.wheel);
                room.persisted.was_rejected(&room.session);
            }
        }
        match outcome {
            StoreResult::Stored => room.persisted.stored = Some(which),
            // mark: refused_record_counts
            StoreResult::Rejected => {}
            // No epoch above it can be stored, so the record counts as stored. The next change is
            // offered again.
            StoreResult::Outdated { epoch } if epoch >= Record::EPOCH_MAX => {
                room.persisted.stored = Some(which)
            }
            StoreResult::Outdated { epoch } => return Some(epoch),
        }
        None
    }

    /// Removes a session from the queue and has the storage forget it.
    pub fn forget(&mut self, key: RoomKey, room: &Room, cx: &mut Cx<'_>) {
        if room.persisted.is_dirty {
            self.dirty.retain(|listed| *listed != key);
        }
        if room.persisted.stored.is_some() || room.persisted.in_flight.is_some() {
            let (session, epoch) = (room.session.id().clone(), room.session.epoch());
            cx.out.list.push(Output::Forget { session, epoch });
        }
    }

    /// Tracks a session that left memory because it is stored. At `until` the storage is asked to
    /// forget it, unless `names` shows that it is in memory again.
    pub fn evict(
        &mut self,
        room: &Room,
        until: Micros,
        names: &BTreeMap<SessionId, RoomKey>,
        cx: &mut Cx<'_>,
    ) {
        self.evicted.insert((until, room.session.id().clone()), room.session.epoch());
        // Their number is bounded; beyond it the oldest one is forgotten early.
        if self.evicted.len() > cx.settings.limits.sessions_max as usize {
            self.expire_first(names, cx);
        }
        self.arm_expire(cx);
    }

    /// Has the storage forget the evicted sessions whose time is over, and sets the next timer.
    pub fn expire_evicted(&mut self, names: &BTreeMap<SessionId, RoomKey>, cx: &mut Cx<'_>) {
        self.expire.fired();
        while self.evicted.first_key_value().is_some_and(|((until, _), _)| *until <= cx.now.at) {
            self.expire_first(names, cx);
        }
        self.arm_expire(cx);
    }

    /// Has the storage forget the evicted session that expires first, unless it is in memory again.
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
