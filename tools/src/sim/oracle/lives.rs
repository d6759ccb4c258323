//! Sessions that open, change, end and are loaded again, and members that join, leave, are lost and
//! recover: I3, the half of I6 about recovery, I7 and I13.

use bandsync_engine::record::Record;
use bandsync_engine::words::ids::SessionId;

use super::super::decode::{Ack, log_of};
use super::super::model::Model;
use super::super::wire::Wire;
use super::Oracle;
use super::answers::RESERVED;
use super::journal::Breach;
use super::rules::UNIX_START;

impl Oracle {
    /// Handles a session that was opened, with or without a stored record.
    pub fn opened(
        &mut self,
        now: u64,
        session: &SessionId,
        epoch: u64,
        stored: Option<(Model, Record)>,
    ) {
        let Some(index) = self.sessions.iter().position(|oracle| oracle.name == *session) else {
            return;
        };
        let unix = self.unix(now, index);
        let (grace, members_max) = (self.rules.grace, self.rules.members_max);
        let oracle = &mut self.sessions[index];
        let before =
            oracle.epoch.max(stored.as_ref().map_or(0, |(_, record)| record.timeline.epoch));
        oracle.epoch = epoch;
        oracle.opened();
        oracle.is_news = false;
        oracle.sent.chats.clear();
        oracle.former.clear();
        oracle.restored = stored.is_some().then_some(Some(true));
        let mut model = Model::new(now, members_max);
        let what = if stored.is_some() {
            "session: back from the storage"
        } else {
            "session: begun, asked for in vain"
        };
        self.journal.seen.add(what, 1);
        if let Some((kept, record)) = stored {
            model = kept;
            model.reopen(now, unix, grace, &record);
        }
        (oracle.owed.version, oracle.owed.since, oracle.ticking.since) =
            (model.version, None, None);
        oracle.model = Some(model);
        oracle.dirty = true;
        if epoch <= before {
            self.journal.fail(
                now,
                "I3 epoch",
                format!("{session:?} is opened as {epoch} after {before}"),
            );
        }
    }

    /// Notes that the storage has a newer record than the server, which must continue above its
    /// epoch.
    pub fn outdone(&mut self, now: u64, session: &SessionId, epoch: u64) {
        let Some(oracle) = self.sessions.iter_mut().find(|oracle| oracle.name == *session) else {
            return;
        };
        if let Some(model) = oracle.model.as_mut().filter(|_| epoch >= oracle.epoch) {
            self.journal.seen.add("session: rises above a stored one", 1);
            oracle.former.push(oracle.epoch);
            (oracle.epoch, model.version) = (epoch + 1, 1);
            oracle.changed(now);
        }
    }

    /// Returns the model of a session in this version, if that is certain.
    pub fn model_of(&self, session: &SessionId, version: (u64, u64)) -> Option<Model> {
        let oracle = self
            .sessions
            .iter()
            .find(|oracle| oracle.name == *session && oracle.closings.is_none())?;
        let model = oracle.model.as_ref()?;
        ((oracle.epoch, model.version) == version && !self.server.draining).then(|| model.clone())
    }

    /// Handles the death of the server. Its wall clock is right, unless it `stepped`.
    pub fn restarted(&mut self, wall: i64, stepped: bool) {
        self.server.walls.fill(wall);
        self.memo.logs.clear();
        for oracle in &mut self.sessions {
            (oracle.model, oracle.closings, oracle.restored) = (None, None, None);
            oracle.unchanged.clear();
            (oracle.ticking.since, oracle.owed.since) = (None, None);
            oracle.is_news = true;
        }
        if stepped {
            self.clock_stepped();
        }
    }

    /// Handles the id that the server assigns to a client: that of its former seat, or a new one.
    pub(super) fn connected(&mut self, now: u64, wire: &mut Wire, sid: &str) {
        wire.sid = sid.to_owned();
        let Some(hope) = wire.hope.take().filter(|_| !self.server.draining) else { return };
        let (window, bytes) = (self.rules.recovery, self.memo.sent_bytes - hope.sent_bytes);
        let oracle = &mut self.sessions[usize::from(hope.session)];
        if hope.sid != sid {
            self.journal.seen.add("recovery: denied", 1);
        }
        let same = oracle.epoch == hope.held.0 || oracle.former.contains(&hope.held.0);
        let what = match oracle.model.as_mut().filter(|_| same) {
            None if hope.sid == sid => "it came back to a session that is gone".to_owned(),
            None => return,
            Some(model) if hope.sid == sid => {
                if model.empty_since.is_some() {
                    oracle.owed.since = None;
                }
                self.journal.recoveries += 1;
                let restored = model.restore(now, sid, window);
                wire.seat = Some(hope.session);
                oracle.changed(now);
                let missed = oracle
                    .sent
                    .chats
                    .iter()
                    .find(|chat| **chat > hope.seen && !hope.resent.contains(chat));
                match restored {
                    Err(what) => what,
                    Ok(()) if missed.is_some() => format!("{sid} did not receive event {missed:?}"),
                    // The snapshot of the current state follows.
                    Ok(()) => return,
                }
            }
            Some(model) => {
                let log = self.memo.logs.get(log_of(&hope.offset));
                let first_missed =
                    log.and_then(|log| log.iter().find(|(number, _)| *number > hope.seen));
                let missed_at = match first_missed {
                    // The events between are no longer in the log.
                    Some((number, _)) if *number > hope.seen + 1 => hope.sent_at,
                    Some((_, at)) => *at,
                    None => now,
                };
                // Half of the room may hold events that no member received.
                let known = now < hope.sent_at + window
                    && !self.rules.hurry
                    && bytes * 2 < u64::from(self.rules.memory_max)
                    && oracle.forgot_at.is_none_or(|at| at < hope.sent_at);
                let must = known
                    && self.rules.memory_max > 100_000
                    && model.must_restore(now, &hope.sid, window, missed_at + self.rules.silence);
                model.forget_absent(&hope.sid);
                if must {
                    oracle.denied = Some(hope.sid);
                }
                return;
            }
        };
        self.journal.fail(now, "I6 recovery", what);
    }

    /// Returns the time on the wall clock of a session's shard, in milliseconds.
    pub(super) fn unix(&self, now: u64, session: usize) -> i64 {
        let home = usize::from(self.sessions[session].home);
        UNIX_START + self.server.walls[home] + (now / 1_000) as i64
    }

    /// Opens the session of a join, if it does not exist, under a higher epoch.
    pub(super) fn open_session(
        &mut self,
        now: u64,
        session: usize,
        ack: &Ack,
    ) -> Result<(), Breach> {
        let (is_crowded, ttl, members_max) =
            (self.rules.is_crowded(), self.rules.empty_ttl, self.rules.members_max);
        let oracle = &mut self.sessions[session];
        if oracle.model.is_some() && oracle.epoch == ack.version.0 {
            let wrong = oracle.restored.filter(|restored| *restored != ack.restored);
            return wrong.map_or(Ok(()), |should| {
                Err((
                    "I7 restored",
                    format!("restored is {:?}, should be {should:?}", ack.restored),
                ))
            });
        }
        if ack.version.0 <= oracle.epoch {
            return Err(("I3 epoch", format!("epoch {} after {}", ack.version.0, oracle.epoch)));
        }
        if let Some(model) = &oracle.model {
            let empty = model
                .empty_since
                .ok_or(("I13 expiry", "a session with members is gone".to_owned()))?;
            if now < empty + ttl && !is_crowded {
                return Err(("I13 expiry", "a session was forgotten before its time".into()));
            }
        }
        oracle.epoch = ack.version.0;
        oracle.opened();
        oracle.is_news = false;
        oracle.sent.chats.clear();
        oracle.former.clear();
        (oracle.restored, oracle.denied) = (None, None);
        oracle.model = Some(Model::new(now, members_max));
        Ok(())
    }

    pub(super) fn model(&mut self, session: usize) -> Result<&mut Model, Breach> {
        self.sessions[session]
            .model
            .as_mut()
            .ok_or(("I7 acknowledged is done", "by a session that is none".into()))
    }

    /// Notes that a member asked to join.
    pub fn asked(&mut self, now: u64, session: u16, sid: &str) {
        let askers = &mut self.sessions[usize::from(session)].askers;
        askers.push_back((now, sid.to_owned()));
        while askers.front().is_some_and(|(at, _)| at + 2 * RESERVED < now) {
            askers.pop_front();
        }
    }

    /// Handles a member that left its session on purpose. `forgets` says whether its token is
    /// forgotten.
    pub fn leave(&mut self, now: u64, wire: &mut Wire, session: u16, forgets: bool) {
        if wire.seat == Some(session) {
            wire.seat = None;
        }
        let oracle = &mut self.sessions[usize::from(session)];
        if let Some(model) = &mut oracle.model {
            model.leave(now, &wire.sid, forgets);
            oracle.changed(now);
        }
    }

    /// Handles the loss of a member's connection.
    pub fn lost(&mut self, now: u64, wire: &mut Wire) {
        let Some(session) = wire.seat.take() else { return };
        self.journal.note(now, || format!("{} is lost to s{session}", wire.sid));
        let oracle = &mut self.sessions[usize::from(session)];
        // A lost member's answers wait in the replay log until it recovers.
        oracle.unchanged.retain(|(sid, ..)| *sid != wire.sid);
        if let Some(closings) = &mut oracle.closings {
            return closings.push(wire.sid.clone());
        }
        if let Some(model) = &mut oracle.model {
            model.lost(now, &wire.sid, self.rules.grace);
            oracle.changed(now);
        }
    }

    /// Notes that the wall clock was set. A server that has not had a session since its start can
    /// take the next epoch from that clock only.
    pub fn clock_stepped(&mut self) {
        for oracle in self.sessions.iter_mut().filter(|oracle| oracle.is_news) {
            oracle.epoch = 0;
            oracle.sent.facts.clear();
            oracle.sent.changes.clear();
        }
    }
}
