//! The sessions of a shard: calls in, replies out, packets to members.
//!
//! A call never reaches into a connection. A [`Caller`] describes the client, and a [`Reply`] the
//! outcome. The engine acknowledges the call first; [`Rooms::settle`] then sends the notices to the
//! members.

mod announce;
mod batch;
mod branch;
pub mod clustered;
mod gate;
mod owner;
mod persist;
mod persisted;
mod post;
pub mod replay_log;
mod reservations;
mod room;
mod roster;
mod shared;
mod tick_grid;
mod told;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use crate::context::{Cx, Resources};
use crate::delivery::route::Route;
use crate::io::report::Sample;
use crate::io::{FreeMemory, NodeId, Settings, StoreResult};
use crate::record::Record;
use crate::session::{Audience, Effect, Rules, Session, no_session_to_show};
use crate::slots::Arena;
use crate::speech::{Ack, Code, Join, LeaveReason, Reject, Role, SessionCommand, Terms, View};
use crate::timers::Timer;
use crate::words::ids::{
    ConnId, MemberId, Offset, RecoveryToken, RoomKey, SeatHandle, SessionId, ShardId,
};
use crate::words::time::{Micros, UnixMillis};

use clustered::{Clustered, Nodes};
use persist::PersistQueue;
use room::Room;

/// Highest epoch that may come from a wall clock in milliseconds: 2^44 ms is the year 2527. A
/// higher one was written by another program, and no other session begins above it.
pub const CLOCK_EPOCH_MAX: u64 = 1 << 44;

/// The client that calls, as far as the rooms know it.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The address that wrong guesses count against.
    pub peer: IpAddr,
    pub member: MemberId,
    /// The way of packets to the client.
    pub way: Way,
    pub seat: Option<SeatHandle>,
}

/// The way of packets to a client.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// The client is connected to this shard.
    Here(Route),
    /// The client is connected to another node.
    Node(NodeId),
}

/// A command that a room carries out, and answers with one [`Reply`].
pub enum Call {
    Join(Join),
    Leave(SessionId),
    Session(SessionId, Terms, SessionCommand),
}

/// The outcome of a call.
pub enum Reply {
    /// The call was carried out or rejected.
    Now {
        /// The caller's seat after the call. It may be gone although the call was rejected.
        seat: Option<SeatHandle>,
        /// The connection that had the seat until now, if the caller got it by its token.
        replaced: Option<ConnId>,
        outcome: Result<Ack, Reject>,
    },
    /// The session may be stored and has to be loaded first.
    NotLoaded(SessionId),
    /// The session lives on another shard.
    Elsewhere(ShardId),
    /// Another node owns the session, so the call has to be forwarded.
    Forward(RoomKey),
}

/// The sessions of a shard, with their members' seats.
pub struct Rooms {
    rules: Arc<Rules>,
    rooms: Arena<RoomKey, Room>,
    names: BTreeMap<SessionId, RoomKey>,
    persist: PersistQueue,
    /// The highest epoch given to a session so far, up to [`CLOCK_EPOCH_MAX`].
    last_epoch: u64,
    /// Sessions whose batch window is over, in the order in which they are flushed.
    closed_windows: VecDeque<RoomKey>,
    /// The other nodes, if this one belongs to a cluster.
    nodes: Option<Box<Nodes>>,
    /// Empty between calls; kept to reuse its memory.
    effects: Vec<Effect>,
}

impl Rooms {
    /// Creates the rooms of a shard without sessions.
    pub fn new(settings: &Settings) -> Self {
        let rules = Arc::new(Rules {
            members_max: settings.session_members_max,
            leader_grace: settings.leader_grace,
            claim_window: settings.batch_interval,
            members_listed_max: settings.limits.members_listed_max,
            secret_chars_min: settings.policy.secret_chars_min,
        });
        Self {
            rules,
            rooms: Arena::new(settings.limits.sessions_max),
            names: BTreeMap::new(),
            persist: PersistQueue::default(),
            last_epoch: 0,
            closed_windows: VecDeque::new(),
            nodes: settings.cluster.as_ref().map(Nodes::new).map(Box::new),
            effects: Vec::new(),
        }
    }

    /// Returns a session that is in memory on this shard.
    pub fn session(&self, id: &SessionId) -> Option<&Session> {
        let key = self.names.get(id)?;
        self.rooms.get(*key).map(|room| &room.session)
    }

    /// Returns the session of a seat.
    pub fn session_of(&self, seat: SeatHandle) -> Option<&Session> {
        self.rooms.get(seat.room).map(|room| &room.session)
    }

    /// Number of sessions in memory.
    pub fn sessions(&self) -> u32 {
        self.rooms.len() as u32
    }

    /// Number of sessions that wait to be offered to the storage.
    pub fn dirty(&self) -> u32 {
        self.persist.dirty()
    }

    /// Whether a batch whose window is over still has to be flushed.
    pub fn has_unflushed_batches(&self) -> bool {
        !self.closed_windows.is_empty()
    }

    /// Carries out a call. The caller must be acknowledged next; then [`settle`](Rooms::settle) is
    /// due.
    pub fn call(&mut self, caller: &Caller, call: Call, cx: &mut Cx<'_>) -> Reply {
        let (mut seat, mut replaced) = (caller.seat, None);
        let outcome = match call {
            Call::Join(join) => {
                let shard = join.session.shard(cx.settings.shards);
                // mark: session_opened_anywhere
                if shard != cx.settings.shard {
                    return Reply::Elsewhere(shard);
                }
                if self.needs_load(&join.session, cx.settings) {
                    return Reply::NotLoaded(join.session);
                }
                if let Some(key) = self.names.get(&join.session)
                    && let Some(stop) = clustered::stop(
                        (&self.rooms, self.nodes.as_deref()),
                        *key,
                        caller,
                        None,
                        cx,
                    )
                {
                    return stop;
                }
                self.join(caller, &join, &mut seat, cx).map(|(ack, conn)| {
                    replaced = conn;
                    ack
                })
            }
            Call::Leave(session) => self.seat_in(seat, &session).map(|held| {
                seat = None;
                self.leave(held, caller.member, LeaveReason::Left, cx);
                Ack::Done
            }),
            Call::Session(session, terms, command) => match self.seat_in(seat, &session) {
                Ok(held)
                    if let Some(stop) = clustered::stop(
                        (&self.rooms, self.nodes.as_deref()),
                        held.room,
                        caller,
                        Some(&command),
                        cx,
                    ) =>
                {
                    return stop;
                }
                Ok(held) => self.command(held, caller.member, terms, command, cx),
                Err(reject) => Err(reject),
            },
        };
        Reply::Now { seat, replaced, outcome }
    }

    /// Sends what the last call changed to the session's members, and sets its timers.
    ///
    /// Call it after the caller's acknowledgement: a member must learn the outcome of its own call
    /// before the notices about it.
    pub fn settle(&mut self, seat: SeatHandle, cx: &mut Cx<'_>) {
        self.settle_room(seat.room, cx);
    }

    /// Does what [`settle`](Rooms::settle) does, for a session without a seat at hand. The session
    /// may be empty.
    pub fn settle_room(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.collect(key, &mut self.effects, cx);
        announce::settle(room, key, cx);
        room.arm(key, cx);
        self.persist.mark_dirty(key, room, cx);
    }

    /// Whether a session may be stored and must be loaded before it is used.
    pub fn needs_load(&self, session: &SessionId, settings: &Settings) -> bool {
        settings.storage_wait.is_some() && !self.names.contains_key(session)
    }

    /// Returns the seat if it belongs to the session of this name.
    ///
    /// # Errors
    /// `not_member` if it belongs to another session, or if there is no seat.
    pub fn seat_in(
        &self,
        seat: Option<SeatHandle>,
        session: &SessionId,
    ) -> Result<SeatHandle, Reject> {
        let is_it = |seat: &SeatHandle| {
            self.rooms.get(seat.room).is_some_and(|room| room.session.id() == session)
        };
        seat.filter(is_it).ok_or_else(|| {
            Reject::new(Code::NotMember, "you are not in this session: send join_session first")
        })
    }

    /// Seats a member. If another session holds the member, it leaves that session once this one
    /// has admitted it. Also returns the connection whose seat the member got by its token.
    fn join(
        &mut self,
        caller: &Caller,
        join: &Join,
        seat: &mut Option<SeatHandle>,
        cx: &mut Cx<'_>,
    ) -> Result<(Ack, Option<ConnId>), Reject> {
        let &Caller { peer, member, way, .. } = caller;
        // mark: refused_joiner_has_left
        let leaves = *seat;
        let holder = self.admit(peer, member, join, leaves, cx)?; // mark: log_tells_passcode
        let is_screen = join.view == View::Screen;
        // A member that becomes a screen, or the other way round, leaves first.
        if let Some(held) = *seat
            && self.rooms.get(held.room).is_some_and(|room| {
                *room.session.id() != join.session || room.is_screen(member) != is_screen
            })
        {
            *seat = None;
            self.leave(held, member, LeaveReason::Left, cx);
        }
        let key = match self.names.get(&join.session).copied() {
            Some(key) => key,
            // The member that opens a session chooses its passcode and its PIN.
            None => self.open_room(&join.session, None, cx)?,
        };
        let Some(room) = self.rooms.get_mut(key) else { return Err(gone()) };
        room.flush(key, cx); // mark: window_open_during_join
        let (before, was_empty) = (room.seated(), room.empty_since().is_some());
        if is_screen {
            room.seat_screen(member, way, join, cx.settings, &mut self.effects);
            room.guessed_right(peer, join);
            cx.report.counters.sessions_empty -= u32::from(was_empty);
            *seat = Some(SeatHandle { room: key, index: 0 });
            let (epoch, version) = (room.session.epoch(), room.session.version());
            let role = Role::Follower;
            let (restored, is_back) = (None, false);
            let joined = Ack::Joined { member, role, epoch, version, restored, is_back };
            return Ok((room.persisted.restored(joined), None));
        }
        let version = room.session.version();
        let joined = room.session.join(cx.now, member, join, &mut self.effects);
        assert!(joined.is_ok(), "an admitted member joins");
        let is_shown = |effect: &Effect| matches!(effect, Effect::Snapshot(Audience::All));
        // A first member's decisions concern nobody else, except screens.
        if room.occupants() > before
            && room.session.version() != version
            && !self.effects.iter().any(is_shown)
        {
            self.effects.push(Effect::Snapshot(Audience::All));
        }
        if let Some(holder) = holder {
            clustered::evict(room, holder, cx);
        }
        let replaced = holder.and_then(|holder| room.replace(holder, cx.now.at));
        let tick_hz = room.session.tick_hz(member);
        let metronome = room.session.wants_metronome(member);
        room.seat(member, way, tick_hz, metronome, cx.settings);
        room.reservations.release(member);
        if holder.is_none() {
            room.guessed_right(peer, join);
        }
        cx.report.counters.members += (room.seated() - before) as u32;
        cx.report.counters.sessions_empty -= u32::from(was_empty);
        *seat = Some(SeatHandle { room: key, index: seat.map_or(0, |seat| seat.index) });
        joined.map(|ack| (room.persisted.restored(ack), replaced))
    }

    /// Checks whether a session admits a member that calls from `peer` and gives up the seat
    /// `leaves`. Returns the member whose seat it gets by its token.
    ///
    /// This is the only place where a member's passcode or PIN is compared. A wrong one counts
    /// against the address and the session. An unknown token is no guess: it has too many random
    /// bits to be found by trying.
    ///
    /// # Errors
    /// The reject that the member receives.
    pub fn admit(
        &mut self,
        peer: IpAddr,
        member: MemberId,
        join: &Join,
        leaves: Option<SeatHandle>,
        cx: &mut Cx<'_>,
    ) -> Result<Option<MemberId>, Reject> {
        let Some(key) = self.names.get(&join.session).copied() else {
            if join.view == View::Screen {
                return Err(no_session_to_show());
            }
            self.rules.check_secrets(join.passcode.as_ref(), join.leader_pin.as_ref())?;
            let has_room = self.has_room_for_session(cx) || self.is_left_empty(leaves);
            return if has_room { Ok(None) } else { Err(server_full()) };
        };
        let Some(room) = self.rooms.get_mut(key) else { return Err(gone()) };
        let holder = match join.view {
            View::Member => room.session.holder(cx.now, member, join),
            View::Screen => None,
        };
        let guesses = join.passcode.is_some() && holder.is_none() || join.leader_pin.is_some();
        if guesses {
            room.may_guess(peer, join, cx)?;
        }
        let reserved = room.reservations.for_others(member, cx.now.at);
        let admitted = match join.view {
            // mark: screen_takes_a_seat
            View::Member => room.session.admit(member, join, holder, reserved),
            View::Screen => room.admit_screen(member, join),
        };
        if guesses && admitted.as_ref().is_err_and(|reject| reject.code == Code::BadPasscode) {
            room.guessed_wrong(peer, cx);
        }
        admitted.map(|()| holder)
    }

    /// Whether another session can be opened: there is a free place, or an empty session to evict.
    pub fn has_room_for_session(&self, cx: &mut Cx<'_>) -> bool {
        !self.rooms.is_full() || cx.report.counters.sessions_empty > 0
    }

    /// Whether a session becomes empty if the member of this seat leaves. It can then be evicted
    /// for another one.
    pub fn is_left_empty(&self, leaves: Option<SeatHandle>) -> bool {
        leaves.and_then(|seat| self.rooms.get(seat.room)).is_some_and(|room| room.occupants() == 1)
    }

    /// Runs a command in the member's room. A sync request flushes the batch first, so that its
    /// response is not followed by older updates.
    fn command(
        &mut self,
        seat: SeatHandle,
        member: MemberId,
        terms: Terms,
        command: SessionCommand,
        cx: &mut Cx<'_>,
    ) -> Result<Ack, Reject> {
        let Some(room) = self.rooms.get_mut(seat.room) else { return Err(gone()) };
        if matches!(command, SessionCommand::Sync { .. }) {
            room.flush(seat.room, cx);
        }
        // mark: screen_commands
        if room.is_screen(member) || clustered::is_branch(room) {
            return room.session.answer_screen(cx.now, member, command, &mut self.effects);
        }
        room.session.handle(cx.now, member, terms, command, &mut self.effects)
    }

    /// Removes a member from its session and notifies the others.
    pub fn leave(
        &mut self,
        seat: SeatHandle,
        member: MemberId,
        reason: LeaveReason,
        cx: &mut Cx<'_>,
    ) {
        let key = seat.room;
        let Some(room) = self.rooms.get_mut(key) else { return };
        if clustered::is_branch(room) {
            return Clustered::of(self).part(key, member, reason, cx);
        }
        let before = room.seated();
        let was_empty = room.empty_since().is_some();
        room.remove_member(key, member, reason, cx, &mut self.effects);
        if reason == LeaveReason::Draining {
            // The shard sends a farewell of its own to the members that are still seated.
            self.effects.clear();
        }
        cx.report.counters.members -= (before - room.seated()) as u32;
        let is_empty = room.occupants() == 0;
        cx.report.counters.sessions_empty += u32::from(is_empty && !was_empty);
        self.settle_room(key, cx);
    }

    /// Gives a lost member its seat back and sends it the events that it missed. Returns `None` if
    /// it cannot be recovered.
    ///
    /// [`settle`](Rooms::settle) is due once the client knows that it is recovered.
    pub fn recover(
        &mut self,
        token: RecoveryToken,
        offset: Offset,
        route: Route,
        cx: &mut Cx<'_>,
    ) -> Option<(MemberId, SeatHandle)> {
        let key = offset.room;
        let room = self.rooms.get_mut(key).filter(|room| !clustered::is_branch(room))?;
        room.flush(key, cx);
        let (before, was_empty) = (room.seated(), room.empty_since().is_some());
        let member = room.recover(token, offset, route, cx, &mut self.effects)?;
        cx.report.counters.members += (room.seated() - before) as u32;
        cx.report.counters.sessions_empty -= u32::from(was_empty);
        cx.report.counters.recoveries += 1;
        Some((member, SeatHandle { room: key, index: 0 }))
    }

    /// Returns the connection of the member that holds this recovery token, if it is still seated.
    pub fn conn_of_token(&self, room: RoomKey, token: RecoveryToken) -> Option<ConnId> {
        self.rooms.get(room)?.conn_of_token(token)
    }

    /// Returns the connection of a member of a session.
    pub fn conn_of(&self, room: RoomKey, member: MemberId) -> Option<ConnId> {
        self.rooms.get(room)?.conn_of(member)
    }

    /// Changes the route of a member, which has another connection now.
    pub fn relocate(&mut self, seat: SeatHandle, member: MemberId, route: Route) {
        if let Some(room) = self.rooms.get_mut(seat.room) {
            room.relocate(member, route);
        }
    }

    /// Records a sign of life of a member's client, and the p95 of its round trips.
    pub fn touch_member(
        &mut self,
        seat: &mut SeatHandle,
        member: MemberId,
        now: UnixMillis,
        latency: Option<Micros>,
    ) {
        if let Some(room) = self.rooms.get_mut(seat.room) {
            room.session.touch_member(member, &mut seat.index, now, latency);
        }
    }

    /// Reserves a seat for a member that is handed over from another shard.
    pub fn reserve(&mut self, session: &SessionId, member: MemberId, now: Micros) {
        if let Some(room) = self.names.get(session).and_then(|key| self.rooms.get_mut(*key)) {
            room.reservations.make(member, now);
        }
    }

    /// Opens a session from its record, or a new one. `restored` is reported to the members that
    /// join. [`settle_room`](Rooms::settle_room) is due once all pending joins are done.
    ///
    /// # Errors
    /// `session_full` if the shard is full.
    pub fn open(
        &mut self,
        session: &SessionId,
        record: Option<Record>,
        restored: Option<bool>,
        cx: &mut Cx<'_>,
    ) -> Result<RoomKey, Reject> {
        let key = self.open_room(session, record, cx)?;
        if let Some(room) = self.rooms.get_mut(key) {
            room.persisted.restored = restored;
        }
        Ok(key)
    }

    /// Builds a session from a record without opening it, to check which members it admits.
    pub fn preview(&self, record: &Record, cx: &Cx<'_>) -> Session {
        Session::from_record(record.clone(), &self.rules, cx.now, self.last_epoch)
    }

    /// Sends a session's tick, which was due at `due`.
    pub fn tick(&mut self, key: RoomKey, due: Micros, cx: &mut Cx<'_>) {
        cx.report.samples.add(Sample::TickLateness, cx.now.at.since(due));
        if let Some(room) = self.rooms.get_mut(key) {
            room.tick(key, cx);
        }
    }

    /// Closes a batch window whose time is over. Its batch is flushed after the ticks of the turn.
    pub fn close_window(&mut self, key: RoomKey) {
        if let Some(room) = self.rooms.get_mut(key) {
            room.close_window();
        }
        self.closed_windows.push_back(key);
    }

    /// Flushes closed windows until `most` members were sent a batch. Adds their number to `sent`.
    pub fn flush_windows(&mut self, sent: &mut usize, most: usize, cx: &mut Cx<'_>) {
        while *sent < most
            && let Some(key) = self.closed_windows.pop_front()
        {
            let Some(room) = self.rooms.get_mut(key) else { continue };
            room.flush(key, cx);
            announce::settle(room, key, cx);
            // The flush may have logged events; their expiry needs a timer.
            room.arm(key, cx);
            *sent += room.seated();
        }
    }

    /// Prefetches the memory of each session that is about to tick.
    ///
    /// The sends since the last tick have evicted it from the cache. Fetching all sessions together
    /// overlaps the cache misses, while tick after tick would wait for each of them.
    pub fn prefetch(&self, cx: &mut Cx<'_>) {
        let rooms = cx.wheel.due(cx.now.at).filter_map(|timer| match timer {
            Timer::Tick(key) => self.rooms.get(*key),
            _ => None,
        });
        let read = rooms.fold(0_u64, |read, room| read ^ room.prefetch());
        std::hint::black_box(read);
    }

    /// Handles the storage's result for the record of epoch and version `which`.
    pub fn stored(
        &mut self,
        session: &SessionId,
        which: (u64, u64),
        outcome: StoreResult,
        cx: &mut Cx<'_>,
    ) {
        let Some(key) = self.names.get(session).copied() else { return };
        let Some(room) = self.rooms.get_mut(key) else { return };
        if let Some(epoch) = self.persist.stored(room, which, outcome, cx) {
            room.flush(key, cx);
            room.session.rise_above(epoch, cx.now, &mut self.effects);
            self.note_epoch(epoch + 1);
        }
        self.settle_room(key, cx);
        self.persist.arm_offer(cx);
    }

    /// Offers every session again: the storage was away and may have lost data.
    pub fn storage_returned(&mut self, cx: &mut Cx<'_>) {
        for (_, room) in self.rooms.iter_mut() {
            room.persisted.stored = None; // mark: storage_return_ignored
        }
        self.offer_all(cx);
    }

    /// Stops waiting for the storage's answers, because the server is shutting down.
    pub fn drain(&mut self) {
        self.persist.drain();
    }

    /// Queues every session whose newest state is not stored.
    pub fn offer_all(&mut self, cx: &mut Cx<'_>) {
        for (key, room) in self.rooms.iter_mut() {
            self.persist.mark_dirty(key, room, cx);
        }
    }

    /// Offers changed sessions to the storage.
    pub fn offer(&mut self, cx: &mut Cx<'_>) {
        self.persist.offer(&mut self.rooms, cx);
    }

    /// Has the storage forget evicted sessions whose time is over.
    pub fn expire_evicted(&mut self, cx: &mut Cx<'_>) {
        self.persist.expire_evicted(&self.names, cx);
    }

    /// Remembers the epoch of a stored session, so that a new session gets a higher one. An epoch
    /// above [`CLOCK_EPOCH_MAX`] concerns its own session alone.
    fn note_epoch(&mut self, epoch: u64) {
        if epoch <= CLOCK_EPOCH_MAX {
            self.last_epoch = self.last_epoch.max(epoch);
        }
    }

    /// Checks what must hold at the end of every turn.
    ///
    /// # Panics
    /// If counters, names, rooms and the persist queue contradict each other.
    pub fn check_invariants(&self, resources: &Resources) {
        let counters = &resources.report.counters;
        assert_eq!(self.names.len(), self.rooms.len(), "every session has a name");
        let (mut seated, mut empty, mut logged, mut ticking) = (0, 0, 0, 0);
        for (name, key) in &self.names {
            let room =
                self.rooms.get(*key).unwrap_or_else(|| panic!("session {name:?} has no room"));
            assert_eq!(room.session.id(), name);
            room.check_invariants();
            assert_eq!(
                room.persisted.is_dirty(),
                self.persist.lists(*key),
                "changed sessions are listed once"
            );
            seated += room.seated();
            logged += room.logged_bytes();
            ticking += u32::from(room.is_ticking());
            empty += u32::from(room.empty_since().is_some());
        }
        assert_eq!(ticking, resources.ticking, "ticking sessions are counted");
        assert_eq!(empty, counters.sessions_empty, "empty sessions are counted");
        assert_eq!(seated as u32, counters.members, "members are counted");
        assert_eq!(logged, resources.replay_bytes, "bytes of replay logs are counted");
    }

    /// Opens a session that is not in memory, from its record or as a new one.
    fn open_room(
        &mut self,
        session: &SessionId,
        record: Option<Record>,
        cx: &mut Cx<'_>,
    ) -> Result<RoomKey, Reject> {
        if self.rooms.is_full() && !self.evict_empty(cx) {
            return Err(server_full());
        }
        // A new session must look newer than any former one of its name, also to clients that knew
        // that one before the server's restart. If the wall clock was set back since, the next
        // epoch serves as well.
        // mark: epoch_follows_wall_clock
        let epoch = (cx.now.unix.0.max(1) as u64).max(self.last_epoch + 1);
        let spread = cx.rng.next_u64();
        let is_new = record.is_none();
        let made = match record {
            Some(record) => Session::from_record(record, &self.rules, cx.now, epoch),
            None => Session::new(session.clone(), &self.rules, epoch, cx.now),
        };
        // A stored session may have begun under a clock that was ahead of this one.
        if is_new {
            self.last_epoch = made.epoch();
        } else {
            self.note_epoch(made.epoch()); // mark: stored_epoch_unnoted
        }
        let room = Room::new(made, cx.settings, spread, cx.now.at);
        let key = self.rooms.insert(room);
        self.names.insert(session.clone(), key);
        cx.report.counters.sessions_empty += 1;
        Ok(key)
    }

    /// Evicts the session that has been empty longest, and returns whether there was one.
    ///
    /// A stored session is preferred, because the storage keeps it for the rest of its time. If no
    /// empty session is stored, one is forgotten.
    fn evict_empty(&mut self, cx: &mut Cx<'_>) -> bool {
        let has_storage = cx.settings.storage_wait.is_some();
        let empty = self.rooms.iter().filter_map(|(key, room)| {
            Some((!(has_storage && room.is_stored()), room.empty_since()?, key))
        });
        let Some((is_lost, since, key)) =
            empty.min_by_key(|(is_lost, since, _)| (*is_lost, *since))
        else {
            return false;
        };
        if is_lost {
            self.remove(key, cx);
        } else {
            self.evict(key, since + cx.settings.limits.empty_session_ttl, cx);
        }
        true
    }

    /// Frees memory: drops the replay logs, so that lost members receive a snapshot instead, and
    /// removes empty sessions.
    ///
    /// With a storage, an empty session leaves memory once it is stored, and is kept there for the
    /// rest of its time. Without one it is forgotten; but while memory is only low, a session that
    /// was in use within the recovery window is kept, because its band may just have lost its
    /// network.
    pub fn shed_memory(&mut self, memory: FreeMemory, cx: &mut Cx<'_>) {
        let before = *cx.replay_bytes;
        let keys: Vec<RoomKey> = self.rooms.iter().map(|(key, _)| key).collect();
        for key in keys {
            if let Some(room) = self.rooms.get_mut(key) {
                room.drop_events(cx);
            }
            let Some((room, since)) =
                self.rooms.get(key).and_then(|room| Some((room, room.empty_since()?)))
            else {
                continue;
            };
            if cx.settings.storage_wait.is_some() {
                // mark: unstored_session_shed
                if room.is_stored() {
                    self.evict(key, since + cx.settings.limits.empty_session_ttl, cx);
                    cx.report.counters.sessions_shed += 1;
                }
            } else if memory == FreeMemory::Out // mark: low_memory_counts_as_out
                || since + cx.settings.transports.recovery <= cx.now.at
            {
                self.remove(key, cx);
                cx.report.counters.sessions_shed += 1;
            }
        }
        cx.report.counters.recovery_bytes_shed += before - *cx.replay_bytes;
    }

    /// Handles a session's deadline: removes a session that has been empty for long enough, and
    /// otherwise does what is due in it.
    pub fn room_due(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        let ttl = cx.settings.limits.empty_session_ttl;
        let now = cx.now.at;
        match self.rooms.get(key).and_then(Room::empty_since) {
            // mark: empty_session_expires_early
            Some(since) if since + ttl <= now => self.remove(key, cx),
            _ => {
                if let Some(room) = self.rooms.get_mut(key) {
                    room.due(key, cx, &mut self.effects);
                    announce::settle(room, key, cx);
                    self.persist.mark_dirty(key, room, cx);
                }
            }
        }
    }

    /// Removes an empty session for good, from the storage too.
    fn remove(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        if let Some(room) = self.remove_room(key, cx)
            && !clustered::is_branch(&room)
        {
            self.persist.forget(key, &room, cx);
        }
    }

    /// Moves an empty, stored session out of memory. The storage keeps it until `until`.
    fn evict(&mut self, key: RoomKey, until: Micros, cx: &mut Cx<'_>) {
        if let Some(room) = self.remove_room(key, cx)
            && !clustered::is_branch(&room)
        {
            clustered::give_up(&room, cx);
            self.persist.evict(&room, until, &self.names, cx);
        }
    }

    /// Removes an empty session from memory.
    fn remove_room(&mut self, key: RoomKey, cx: &mut Cx<'_>) -> Option<Room> {
        // Nothing is sent, because the session has no subscribers.
        if let Some(room) = self.rooms.get_mut(key) {
            room.clear(cx);
        }
        let room = self.rooms.remove(key)?;
        assert!(!room.is_ticking(), "an empty session does not tick");
        assert_eq!(room.occupants(), 0, "only an empty session is removed");
        cx.report.counters.sessions_empty -= 1;
        self.names.remove(room.session.id());
        if let Some(nodes) = &mut self.nodes {
            nodes.removed(&room, cx);
        }
        Some(room)
    }
}

fn server_full() -> Reject {
    Reject::new(Code::SessionFull, "this server is full: no more sessions can be created")
}

fn gone() -> Reject {
    Reject::new(Code::Internal, "the session is gone: join it again")
}
