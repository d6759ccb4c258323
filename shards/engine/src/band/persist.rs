//! Sessions that outlive the process: who joins one that is not in memory waits a little for what
//! is stored of it, and what changes is offered to the storage, a bounded amount at a time.
//!
//! Each session has at most one record on its way. What changes meanwhile is offered when that one
//! is answered, so however fast a session changes, its newest state is what waits.

use std::collections::{BTreeMap, VecDeque};

use super::Shard;
use super::event::Said;
use super::knock::Knock;
use super::link::Held;
use super::room::Room;
use crate::context::Cx;
use crate::io::{Found, Outcome, Output, StorageNews};
use crate::record::Record;
use crate::session::Session;
use crate::speech::{Command, LeaveReason, Reject};
use crate::timers::{Alarm, Timer};
use crate::wire::parse::{self, Event};
use crate::words::ids::{ConnId, RoomKey, SessionId};
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

/// How much may be read from a connection that waits, besides one message.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Epochs up to here may come from a wall clock, in milliseconds: that of the year 2527. A higher
/// one was written by somebody else, and no other session may begin above it.
pub(super) const CLOCK_EPOCH_MAX: u64 = 1 << 44;

/// What a shard has to do with the storage.
#[derive(Default)]
pub(super) struct Storage {
    /// Sessions that were asked for, and who waits for them in order of coming.
    loading: BTreeMap<SessionId, Loading>,
    /// The same in order of time; those that were answered are still there.
    deadlines: VecDeque<(Micros, SessionId)>,
    /// Sessions that changed and have no record on its way, in order of changing.
    unstored: VecDeque<RoomKey>,
    /// Whether it had no room for what it was offered last.
    is_full: bool,
    /// Sessions that left memory before their time, by when the storage is to forget them, with
    /// their epochs.
    left: BTreeMap<(Micros, SessionId), u64>,
    offer: Alarm,
    give_up: Alarm,
    forget: Alarm,
}

struct Loading {
    until: Micros,
    waiting: Vec<Waiting>,
}

/// A `join_session` that waits.
enum Waiting {
    /// Its sender is here.
    Here {
        conn: ConnId,
        /// Under which id it is to be acknowledged.
        ack: Option<u64>,
        /// The JSON of its first argument.
        payload: String,
    },
    /// Its sender asks from another shard.
    There(Knock),
}

impl Storage {
    /// Sessions that wait to be offered.
    pub fn unstored(&self) -> u32 {
        self.unstored.len() as u32
    }

    /// A client that waits is at another connection now.
    pub fn relocate(&mut self, from: ConnId, to: ConnId) {
        for waiting in self.loading.values_mut().flat_map(|loading| &mut loading.waiting) {
            match waiting {
                Waiting::Here { conn, .. } if *conn == from => *conn = to,
                Waiting::Here { .. } | Waiting::There(_) => {}
            }
        }
    }

    /// Whether a session is among them, once.
    pub fn lists(&self, key: RoomKey) -> bool {
        self.unstored.iter().filter(|listed| **listed == key).count() == 1
    }
}

impl Shard {
    /// Whether a session may be stored and must be asked for.
    pub(super) fn must_load(&self, session: &SessionId, cx: &Cx<'_>) -> bool {
        cx.settings.storage_wait.is_some() && !self.names.contains_key(session)
    }

    /// Has the sender of a `join_session` wait for its session.
    pub(super) fn wait_for(&mut self, session: SessionId, said: Said<'_>, cx: &mut Cx<'_>) {
        if let Some(link) = self.link_mut(said.conn) {
            link.held = Some(Box::default());
        }
        let payload = said.written();
        self.load_for(session, Waiting::Here { conn: said.conn, ack: said.ack, payload }, cx);
    }

    /// Has somebody of another shard wait to be told whether it may join.
    pub(super) fn wait_to_answer(&mut self, session: SessionId, knock: Knock, cx: &mut Cx<'_>) {
        self.load_for(session, Waiting::There(knock), cx);
    }

    fn load_for(&mut self, session: SessionId, waiting: Waiting, cx: &mut Cx<'_>) {
        let Some(wait) = cx.settings.storage_wait else { return };
        let until = cx.now.at + wait;
        let loading = self.storage.loading.entry(session.clone()).or_insert_with(|| {
            cx.out.list.push(Output::Load { session: session.clone() });
            self.storage.deadlines.push_back((until, session));
            Loading { until, waiting: Vec::new() }
        });
        loading.waiting.push(waiting);
        self.arm_loading(cx);
    }

    /// Keeps what was read from a connection that waits in its `place`, as much as a client in a
    /// hurry may send.
    pub(super) fn hold(
        &mut self,
        id: ConnId,
        place: impl FnOnce(&mut Held) -> &mut Vec<u8>,
        bytes: &[u8],
        cx: &mut Cx<'_>,
    ) {
        let most = cx.settings.limits.message_bytes_max as usize + HELD_BYTES_MAX;
        let Some(held) = self.link_mut(id).and_then(|link| link.held.as_mut()) else { return };
        place(held).extend_from_slice(bytes);
        if held.parts.len() + held.bytes.len() > most {
            self.expel(
                id,
                "it says too much while it waits for its session",
                LeaveReason::TransportError,
                cx,
            );
        } else {
            self.arm(id, cx);
        }
    }

    /// Acts on what the storage says.
    pub(super) fn storage_said(&mut self, news: &StorageNews, cx: &mut Cx<'_>) {
        match news {
            StorageNews::Loaded { session, found } => self.loaded(session, found, cx),
            StorageNews::Stored { session, epoch, version, outcome } => {
                if let Some(key) = self.names.get(session).copied() {
                    self.stored(key, (*epoch, *version), *outcome, cx);
                }
            }
            StorageNews::Returned => {
                for (_, room) in self.rooms.iter_mut() {
                    room.kept.stored = None; // mark: storage_return_ignored
                }
                self.offer_all(cx);
            }
        }
    }

    /// Those who waited long enough for their sessions get new ones.
    pub(super) fn give_up_loading(&mut self, cx: &mut Cx<'_>) {
        self.storage.give_up.rang();
        while let Some((until, _)) = self.storage.deadlines.front()
            && *until <= cx.now.at
            && let Some((until, session)) = self.storage.deadlines.pop_front()
        {
            if self.storage.loading.get(&session).is_some_and(|loading| loading.until == until) {
                self.loaded(&session, &Found::Unknown, cx);
            }
        }
        self.arm_loading(cx);
    }

    fn arm_loading(&mut self, cx: &mut Cx<'_>) {
        let next = self.storage.deadlines.front().map(|(until, _)| *until);
        self.storage.give_up.set(cx.wheel, next, Timer::Load);
    }

    /// Opens a session with what is stored of it, and lets in who waited. An answer that comes too
    /// late finds nobody waiting, and the session that was begun without it stays.
    fn loaded(&mut self, session: &SessionId, found: &Found, cx: &mut Cx<'_>) {
        let Some(Loading { mut waiting, .. }) = self.storage.loading.remove(session) else {
            return;
        };
        let record = match found {
            Found::Record(bytes) => {
                Record::parse(bytes).ok().filter(|record| record.session == *session)
            }
            Found::Nothing | Found::Unknown => None,
        };
        let restored = match found {
            Found::Nothing => None,
            Found::Record(_) | Found::Unknown => Some(record.is_some()),
        };
        let is_there = |waiting: &Waiting| match waiting {
            Waiting::Here { conn, .. } => self.conns.get(*conn).is_some(),
            Waiting::There(_) => true,
        };
        // At the end nobody is let in any more, also who waits on another shard.
        if self.draining || !waiting.iter().any(is_there) {
            return;
        }
        if !self.has_room_for_session(cx) {
            self.make_room_by_leaving(&mut waiting, record.as_ref(), cx);
        }
        let made = self.make(session, record, cx);
        if let Some(room) = made.as_ref().ok().and_then(|key| self.rooms.get_mut(*key)) {
            room.kept.restored = restored;
        }
        for waiting in waiting {
            self.let_in(waiting, made.as_ref().err(), cx);
        }
        if let Ok(key) = made {
            self.settle(key, cx);
        }
    }

    /// Has somebody leave the session that it is alone in, which makes room for the one that it
    /// waits for, if that will let it in. It goes first then: whoever opens a session chooses its
    /// passcode, and has nowhere to go back to.
    fn make_room_by_leaving(
        &mut self,
        waiting: &mut [Waiting],
        record: Option<&Record>,
        cx: &mut Cx<'_>,
    ) {
        let opened = record.map(|record| {
            Session::from_record(record.clone(), &self.rules, cx.now, self.last_epoch)
        });
        for place in 0..waiting.len() {
            let Waiting::Here { conn, payload, .. } = &waiting[place] else { continue };
            let conn = *conn;
            let Some((key, member)) = self.link_mut(conn).and_then(|link| link.seat()) else {
                continue;
            };
            let Ok(Command::Join(join)) = parse::command(Event::JoinSession, payload.as_str())
            else {
                continue;
            };
            let admits =
                opened.as_ref().is_none_or(|session| session.admit(member, &join, 0).is_ok());
            if admits && self.is_left_empty(Some(key)) {
                waiting[..=place].rotate_right(1);
                return self.leave_session(conn, LeaveReason::Left, cx);
            }
        }
    }

    /// Goes on with who waits, or says why not.
    fn let_in(&mut self, waiting: Waiting, reject: Option<&Reject>, cx: &mut Cx<'_>) {
        let (id, ack, payload) = match waiting {
            Waiting::Here { conn, ack, payload } => (conn, ack, payload),
            Waiting::There(knock) if reject.is_none() => return self.answer_knock(knock, cx),
            Waiting::There(knock) => return self.tell_knocker(knock, reject.cloned(), cx),
        };
        let Some(held) = self.link_mut(id).and_then(|link| link.held.take()) else { return };
        match reject {
            Some(reject) => {
                let payload = payload.as_str().into();
                let said = Said { conn: id, name: "join_session", ack, payload, array: "" };
                self.refuse(said, reject, cx);
            }
            None => self.join_late(id, ack, &payload, cx),
        }
        self.go_on(id, *held, cx);
    }

    /// Goes on with a connection where it began to wait.
    pub(super) fn go_on(&mut self, id: ConnId, mut held: Held, cx: &mut Cx<'_>) {
        self.held_parts(id, &held.parts, cx);
        if !id.is_polled() {
            self.link_received(id, &mut held.bytes, cx);
        }
        self.arm(id, cx);
    }

    /// Lists a session to be offered if it has something new and nothing on its way. At the end of
    /// the server nothing is waited for any more: the storage keeps the newer of two records.
    pub(super) fn note_change(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        if cx.settings.storage_wait.is_none() {
            return;
        }
        let Some(room) = self.rooms.get_mut(key) else { return };
        let newest = (room.session.epoch(), room.session.version());
        let kept = &mut room.kept;
        let on_its_way =
            // mark: end_waits_for_old_record
            if self.draining { kept.offered == Some(newest) } else { kept.offered.is_some() };
        // Nobody has ever been in a session without a version.
        if newest.1 == 0 || kept.stored == Some(newest) || on_its_way || kept.listed {
            return;
        }
        kept.listed = true;
        self.storage.unstored.push_back(key);
        self.arm_offer(cx);
    }

    /// Lists every session that has something to be offered.
    pub(super) fn offer_all(&mut self, cx: &mut Cx<'_>) {
        let keys: Vec<RoomKey> = self.rooms.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.note_change(key, cx);
        }
    }

    /// Offers the sessions that have waited longest.
    pub(super) fn offer(&mut self, cx: &mut Cx<'_>) {
        self.storage.offer.rang();
        let full = cx.out.bytes.len() + OFFER_BYTES_MAX;
        for _ in 0..OFFERS_MAX {
            if cx.out.bytes.len() >= full {
                break;
            }
            let Some(key) = self.storage.unstored.pop_front() else { break };
            let Some(room) = self.rooms.get_mut(key) else { continue };
            let (epoch, version) = (room.session.epoch(), room.session.version());
            room.kept.listed = false;
            room.kept.offered = Some((epoch, version));
            let record = cx.out.span(|bytes| room.session.state().print(bytes));
            let session = room.session.id().clone();
            cx.out.list.push(Output::Store { session, epoch, version, record });
        }
        self.arm_offer(cx);
    }

    fn arm_offer(&mut self, cx: &mut Cx<'_>) {
        let waits = !self.storage.unstored.is_empty();
        let at = cx.now.at + if self.storage.is_full { OFFER_AGAIN } else { OFFER_INTERVAL };
        let at = self.storage.offer.at().map_or(at, |set| set.min(at));
        self.storage.offer.set(cx.wheel, waits.then_some(at), Timer::Store);
    }

    /// Notes what came of a record.
    fn stored(&mut self, key: RoomKey, which: (u64, u64), outcome: Outcome, cx: &mut Cx<'_>) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        if room.kept.offered == Some(which) {
            room.kept.offered = None;
            self.storage.is_full = outcome == Outcome::Refused;
            if self.storage.is_full {
                self.storage.offer.cancel(cx.wheel);
            }
        }
        match outcome {
            Outcome::Kept => room.kept.stored = Some(which),
            // mark: refused_record_counts
            Outcome::Refused => {}
            // There is no epoch above it that could be stored. The next change is offered again.
            Outcome::Outdated { epoch } if epoch >= Record::EPOCH_MAX => {
                room.kept.stored = Some(which)
            }
            Outcome::Outdated { epoch } => {
                let now = cx.now;
                self.with_room(key, cx, |room, cx, effects| {
                    room.flush(key, cx);
                    room.session.rise_above(epoch, now, effects);
                });
                self.note_epoch(epoch + 1);
            }
        }
        self.settle(key, cx);
        self.arm_offer(cx);
    }

    /// Remembers the epoch of a session from storage, so that a session made anew gets a higher
    /// one. An epoch that no clock shows concerns its own session alone.
    pub(super) fn note_epoch(&mut self, epoch: u64) {
        if epoch <= CLOCK_EPOCH_MAX {
            self.last_epoch = self.last_epoch.max(epoch);
        }
    }

    /// Has the storage forget a session that is gone from memory.
    pub(super) fn forget_stored(&mut self, key: RoomKey, room: &Room, cx: &mut Cx<'_>) {
        if room.kept.listed {
            self.storage.unstored.retain(|listed| *listed != key);
        }
        if room.kept.stored.is_some() || room.kept.offered.is_some() {
            let (session, epoch) = (room.session.id().clone(), room.session.epoch());
            cx.out.list.push(Output::Forget { session, epoch });
        }
    }

    /// Takes a session that nobody is in and that is stored out of memory. The storage is told to
    /// forget it when its time is over, unless somebody comes back before.
    pub(super) fn leave_to_storage(&mut self, key: RoomKey, until: Micros, cx: &mut Cx<'_>) {
        let Some(room) = self.take_out(key, cx) else { return };
        self.storage.left.insert((until, room.session.id().clone()), room.session.epoch());
        // Of a bounded number only; what is one too many is forgotten early.
        if self.storage.left.len() > cx.settings.limits.sessions_max as usize {
            self.forget_first_left(cx);
        }
        self.arm_forget(cx);
    }

    /// The time of some that were left to the storage is over.
    pub(super) fn forget_left(&mut self, cx: &mut Cx<'_>) {
        self.storage.forget.rang();
        while self.storage.left.first_key_value().is_some_and(|((until, _), _)| *until <= cx.now.at)
        {
            self.forget_first_left(cx);
        }
        self.arm_forget(cx);
    }

    fn forget_first_left(&mut self, cx: &mut Cx<'_>) {
        let Some(((_, session), epoch)) = self.storage.left.pop_first() else { return };
        // Who came back has made a session of it again.
        if !self.names.contains_key(&session) {
            cx.out.list.push(Output::Forget { session, epoch });
        }
    }

    fn arm_forget(&mut self, cx: &mut Cx<'_>) {
        let next = self.storage.left.first_key_value().map(|((until, _), _)| *until);
        self.storage.forget.set(cx.wheel, next, Timer::Forget);
    }
}
