//! Commands on their way into sessions, and sessions as they come and go on this shard.

use std::net::IpAddr;

use super::event::{Moving, Said, Step};
use super::room::Room;
use super::{Shard, State};
use crate::context::Cx;
use crate::io::Memory;
use crate::record::Record;
use crate::session::Session;
use crate::speech::{Ack, Code, Command, Join, LeaveReason, Reject, SessionCommand};
use crate::throttle::guesses::{Guesses, Guessing, Shown};
use crate::wire::parse::{self, Event};
use crate::words::ids::{CommandId, ConnId, MemberId, RoomKey, SessionId};

impl Shard {
    /// Acts on a client event that is within the rates.
    pub(super) fn command(&mut self, event: Event, said: Said<'_>, cx: &mut Cx<'_>) -> Step {
        let done = match parse::command(event, said.payload) {
            Ok(Command::Link(command)) => {
                self.link_command(said, command, cx);
                return Step::Go;
            }
            Ok(Command::Join(join)) => {
                let shard = join.session.shard(cx.settings.shards);
                // mark: session_opened_anywhere
                if shard != cx.settings.shard {
                    if let Some(seat) = self.link_mut(said.conn).and_then(|link| link.seat()) {
                        self.knock(said, seat, shard, cx);
                        return Step::Hold;
                    }
                    return Step::Move(
                        shard,
                        Moving::Join { ack: said.ack, payload: said.written() },
                    );
                }
                if self.must_load(&join.session, cx) {
                    self.wait_for(join.session, said, cx);
                    return Step::Hold;
                }
                self.join(said.conn, &join, cx)
            }
            Ok(Command::Leave(session)) => self.leave(said.conn, &session, cx),
            Ok(Command::Session(session, id, command)) => {
                self.speak(said.conn, &session, id, command, cx)
            }
            Err(reject) => Err(reject),
        };
        self.answer(said, done, cx);
        Step::Go
    }

    /// Handles the `join_session` that made a connection move here, or wait. The rates have let it
    /// through.
    pub(super) fn join_late(
        &mut self,
        id: ConnId,
        ack: Option<u64>,
        payload: &str,
        cx: &mut Cx<'_>,
    ) {
        let event = Event::JoinSession;
        let said = Said { conn: id, name: event.name(), ack, payload: payload.into(), array: "" };
        let step = self.command(event, said, cx);
        assert!(matches!(step, Step::Go | Step::Hold), "a session is at home on one shard");
    }

    /// Answers the sender, then tells its session what came of it.
    pub(super) fn answer(&mut self, said: Said<'_>, done: Result<Ack, Reject>, cx: &mut Cx<'_>) {
        match &done {
            Ok(ack) => self.acknowledge(said, ack, cx),
            Err(reject) => self.refuse(said, reject, cx), // mark: acknowledged_unchecked
        }
        // After the acknowledgement, so that the sender learns the outcome before the news.
        if let Some((key, _)) = self.link_mut(said.conn).and_then(|link| link.seat()) {
            self.settle(key, cx);
        }
    }

    /// Tells a room's members what has come of a change, and sets its timers.
    pub(super) fn settle(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        self.with_room(key, cx, |room, cx, effects| {
            room.gather(key, effects, cx);
            room.arm(key, cx);
        });
        self.note_change(key, cx);
    }

    /// Takes a member in. It leaves the session that it was in for that, and only if this one
    /// admits it.
    fn join(&mut self, id: ConnId, join: &Join, cx: &mut Cx<'_>) -> Result<Ack, Reject> {
        let Some(peer) = self.conns.get(id).map(|conn| conn.peer) else { return Ok(Ack::Done) };
        // mark: refused_joiner_has_left
        let Some(link) = self.link_mut(id) else { return Ok(Ack::Done) };
        let (seat, line, Some(member)) = (link.seat(), link.line(id), link.member) else {
            return Ok(Ack::Done);
        };
        self.admit(peer, member, join, seat.map(|(key, _)| key), cx)?; // mark: log_tells_passcode
        if let Some((key, _)) = seat
            && self.rooms.get(key).is_some_and(|room| *room.session.id() != join.session)
        {
            self.leave_session(id, LeaveReason::Left, cx);
        }
        let key = match self.names.get(&join.session).copied() {
            Some(key) => key,
            // Who opens a session chooses its passcode and its PIN.
            None => self.make(&join.session, None, cx)?,
        };
        let joined = self.with_room(key, cx, |room, cx, effects| {
            room.flush(key, cx); // mark: window_open_during_join
            let before = room.seated();
            let joined = room.session.join(cx.now, member, join, effects);
            if joined.is_ok() {
                room.sit(member, line, cx.settings);
                room.promises.keep(member);
                room.guard.right(peer, shown(join, &room.session));
            }
            let joined = joined.map(|ack| room.kept.told(ack));
            Some((joined, before, room.seated()))
        });
        let Some((joined, before, after)) = joined else { return Err(gone()) };
        assert!(joined.is_ok(), "it was admitted");
        cx.report.counters.members += (after - before) as u32;
        cx.report.counters.sessions_empty -= u32::from(before == 0);
        if let Some(link) = self.link_mut(id) {
            link.room = Some(key);
        }
        joined
    }

    /// Whether a session would let a member in, or back to its seat, that speaks from this address
    /// and leaves a session here for that. This is the only place where a member's passcode or PIN
    /// is compared: a wrong one counts against the address and the session.
    pub(super) fn admit(
        &mut self,
        peer: IpAddr,
        member: MemberId,
        join: &Join,
        leaves: Option<RoomKey>,
        cx: &mut Cx<'_>,
    ) -> Result<(), Reject> {
        let Some(key) = self.names.get(&join.session).copied() else {
            self.rules.check_secrets(join.passcode.as_ref(), join.leader_pin.as_ref())?;
            let has_room = self.has_room_for_session(cx) || self.is_left_empty(leaves);
            return if has_room { Ok(()) } else { Err(no_room()) };
        };
        let guesses = join.passcode.is_some() || join.leader_pin.is_some();
        if guesses {
            self.may_guess(peer, key, join, cx)?;
        }
        let now = cx.now.at;
        let admitted = self.rooms.get_mut(key).map_or_else(
            || Err(gone()),
            |room| room.session.admit(member, join, room.promises.for_others(member, now)),
        );
        if guesses && admitted.as_ref().is_err_and(|reject| reject.code == Code::BadPasscode) {
            self.guessed_wrong(peer, key, cx);
        }
        admitted
    }

    /// Whether another session can be made.
    pub(super) fn has_room_for_session(&self, cx: &mut Cx<'_>) -> bool {
        !self.rooms.is_full() || cx.report.counters.sessions_empty > 0
    }

    /// Whether nobody would stay if somebody left this session: then it would make room for
    /// another.
    pub(super) fn is_left_empty(&self, leaves: Option<RoomKey>) -> bool {
        leaves.and_then(|key| self.rooms.get(key)).is_some_and(|room| room.seated() == 1)
    }

    /// Whether an address may try a passcode or PIN.
    ///
    /// An address that guessed wrong too often waits. If the session was guessed at too often, all
    /// addresses wait that have guessed wrong, so that many together do not get far. An address
    /// without a wrong guess is spared, or guessers could keep the band out; but one customer may
    /// hold a /48 with 65 536 of these, so a network has only so many spared guesses, and so has
    /// everybody together. An address that has shown these secrets before needs none.
    fn may_guess(
        &self,
        peer: IpAddr,
        key: RoomKey,
        join: &Join,
        cx: &mut Cx<'_>,
    ) -> Result<(), Reject> {
        let now = cx.now.at;
        let Some(room) = self.rooms.get(key) else { return Ok(()) };
        let guard = &room.guard;
        let is_proxy = cx.settings.manners.is_proxy(peer);
        let own = if is_proxy { Guesses::default() } else { cx.peers.guesses(peer) };
        let is_known = || guard.knows(peer, shown(join, &room.session));
        let is_spared = !is_proxy
            && !own.any(now)
            && (cx.peers.spares(peer, now) && guard.may_stranger(now) || is_known());
        let everybody = if is_spared { Ok(()) } else { guard.may(now) };
        own.may(now, Guessing::OF_ADDRESS).and(everybody).map_err(|wait| {
            let seconds = wait.as_millis().div_ceil(1_000);
            let message = format!("too many wrong passcodes or PINs: try again in {seconds} s");
            Reject { retry_after: Some(wait), ..Reject::new(Code::RateLimited, message) }
        })
    }

    fn guessed_wrong(&mut self, peer: IpAddr, key: RoomKey, cx: &mut Cx<'_>) {
        let now = cx.now.at;
        if !cx.settings.manners.is_proxy(peer) {
            cx.peers.guessed_wrong(peer, now);
        }
        if let Some(room) = self.rooms.get_mut(key) {
            room.guard.wrong(now);
        }
    }

    fn leave(&mut self, id: ConnId, session: &SessionId, cx: &mut Cx<'_>) -> Result<Ack, Reject> {
        self.seat_in(id, session)?;
        self.leave_session(id, LeaveReason::Left, cx);
        Ok(Ack::Done)
    }

    pub(super) fn speak(
        &mut self,
        conn: ConnId,
        session: &SessionId,
        id: Option<CommandId>,
        command: SessionCommand,
        cx: &mut Cx<'_>,
    ) -> Result<Ack, Reject> {
        let (key, member) = self.seat_in(conn, session)?;
        let done = self.with_room(key, cx, |room, cx, effects| {
            if matches!(command, SessionCommand::Sync { .. }) {
                room.flush(key, cx);
            }
            Some(room.session.handle(cx.now, member, id, command, effects))
        });
        done.unwrap_or_else(|| Err(gone()))
    }

    /// The seat of a connection, if it is in the session it names.
    pub(super) fn seat_in(
        &mut self,
        id: ConnId,
        session: &SessionId,
    ) -> Result<(RoomKey, MemberId), Reject> {
        let seat = self.link_mut(id).and_then(|link| link.seat());
        seat.filter(|(key, _)| {
            self.rooms.get(*key).is_some_and(|room| room.session.id() == session)
        })
        .ok_or_else(|| {
            Reject::new(Code::NotMember, "you are not in this session: send join_session first")
        })
    }

    /// Sends a connection's member out of its session, if it is in one, so that it can go
    /// elsewhere.
    pub(super) fn leave_session(&mut self, id: ConnId, reason: LeaveReason, cx: &mut Cx<'_>) {
        let left = self.link_mut(id).and_then(|link| link.room.take().zip(link.member));
        if let Some((key, member)) = left {
            self.part(key, member, reason, cx);
        }
    }

    /// A member is gone: takes its seat away and tells the others.
    pub(super) fn part(
        &mut self,
        key: RoomKey,
        member: MemberId,
        reason: LeaveReason,
        cx: &mut Cx<'_>,
    ) {
        let draining = self.draining;
        let seated = self.with_room(key, cx, |room, cx, effects| {
            room.part(key, member, reason, cx, effects);
            if draining {
                // Those who are still here are about to be told that all is over.
                effects.clear();
            }
            room.seated()
        });
        cx.report.counters.members -= 1;
        cx.report.counters.sessions_empty += u32::from(seated == 0);
        self.settle(key, cx);
    }

    /// Notes that a member's client is alive.
    pub(super) fn heard_from(&mut self, id: ConnId, cx: &Cx<'_>) {
        let unix = cx.now.unix;
        // Not by `link_mut`, for the rooms are needed beside it.
        if let Some(State::Link(link)) = self.conns.get_mut(id).map(|conn| &mut conn.state)
            && let Some((key, member)) = link.seat()
            && let Some(room) = self.rooms.get_mut(key)
        {
            room.session.heard_from(member, &mut link.place, unix);
        }
    }

    /// Makes a session that is not in memory: from what was stored of it, or anew.
    pub(super) fn make(
        &mut self,
        session: &SessionId,
        record: Option<Record>,
        cx: &mut Cx<'_>,
    ) -> Result<RoomKey, Reject> {
        if self.rooms.is_full() && !self.make_room(cx) {
            return Err(no_room());
        }
        // A session that is made anew must look newer than any former one of its name, also to
        // clients that knew that before the server's restart. The wall clock may have been set back
        // since: then the next epoch is as good.
        // mark: epoch_follows_wall_clock
        let epoch = (cx.now.unix.0.max(1) as u64).max(self.last_epoch + 1);
        let luck = cx.rng.next_u64();
        let is_new = record.is_none();
        let made = match record {
            Some(record) => Session::from_record(record, &self.rules, cx.now, epoch),
            None => Session::new(session.clone(), &self.rules, epoch, cx.now),
        };
        // A stored session may have begun under a clock that was ahead of this one.
        if is_new {
            self.last_epoch = made.epoch();
        } else {
            self.note_epoch(made.epoch());
        }
        let room = Room::new(made, cx.settings, luck, cx.now.at);
        let key = self.rooms.insert(room);
        self.names.insert(session.clone(), key);
        cx.report.counters.sessions_empty += 1;
        Ok(key)
    }

    /// Makes room: of the sessions that nobody is in the one that has been empty longest goes,
    /// first of those that can wait in the storage for the rest of their time. If there is none of
    /// those it is forgotten.
    fn make_room(&mut self, cx: &mut Cx<'_>) -> bool {
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
            self.leave_to_storage(key, since + cx.settings.limits.empty_session_ttl, cx);
        }
        true
    }

    /// Gives memory back: what sessions keep for lost members, who get a fresh snapshot instead,
    /// and sessions that nobody is in. With a storage they wait there, once it has them, for the
    /// rest of their time. Without one they are forgotten; but while memory is only low, a band
    /// that just lost its network has time to come back.
    pub(super) fn shed(&mut self, memory: Memory, cx: &mut Cx<'_>) {
        let before = *cx.replay_bytes;
        let keys: Vec<RoomKey> = self.rooms.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.with_room(key, cx, |room, cx, _| room.forget_told(cx));
            let Some((room, since)) =
                self.rooms.get(key).and_then(|room| Some((room, room.empty_since()?)))
            else {
                continue;
            };
            if cx.settings.storage_wait.is_some() {
                // mark: unstored_session_shed
                if room.is_stored() {
                    self.leave_to_storage(key, since + cx.settings.limits.empty_session_ttl, cx);
                    cx.report.counters.sessions_shed += 1;
                }
            } else if memory == Memory::Out // mark: low_memory_counts_as_out
                || since + cx.settings.transports.recovery <= cx.now.at
            {
                self.remove(key, cx);
                cx.report.counters.sessions_shed += 1;
            }
        }
        cx.report.counters.recovery_bytes_shed += before - *cx.replay_bytes;
    }

    /// A session's own deadline has come, or nobody has been there for long enough.
    pub(super) fn room_due(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        let ttl = cx.settings.limits.empty_session_ttl;
        let now = cx.now.at;
        match self.rooms.get(key).and_then(Room::empty_since) {
            // mark: empty_session_expires_early
            Some(since) if since + ttl <= now => self.remove(key, cx),
            _ => {
                self.with_room(key, cx, |room, cx, effects| room.due(key, cx, effects));
                self.note_change(key, cx);
            }
        }
    }

    fn remove(&mut self, key: RoomKey, cx: &mut Cx<'_>) {
        if let Some(room) = self.take_out(key, cx) {
            self.forget_stored(key, &room, cx);
        }
    }

    /// Takes a session that nobody is in out of memory.
    pub(super) fn take_out(&mut self, key: RoomKey, cx: &mut Cx<'_>) -> Option<Room> {
        // Nothing is told, for nobody is there.
        self.with_room(key, cx, |room, cx, _| room.clear(cx));
        let room = self.rooms.remove(key)?;
        assert!(!room.is_ticking(), "nobody is there who would hear it");
        assert_eq!(room.seated(), 0, "nobody's session is forgotten");
        cx.report.counters.sessions_empty -= 1;
        self.names.remove(room.session.id());
        Some(room)
    }
}

/// The secrets of a session that a `join_session` shows.
fn shown(join: &Join, session: &Session) -> Shown {
    let (has_passcode, has_pin) = session.secrets();
    Shown {
        passcode: has_passcode && join.passcode.is_some(),
        pin: has_pin && join.leader_pin.is_some(),
    }
}

fn no_room() -> Reject {
    Reject::new(Code::SessionFull, "this server has no room for another session")
}

pub(super) fn gone() -> Reject {
    Reject::new(Code::Internal, "the session is gone: join it again")
}
