//! Checks after each turn: I1, I6, I13, I18, I24 and I27.

use bandsync_engine::engine::Engine;

use super::super::model::Model;
use super::super::wire::Wire;
use super::Oracle;
use super::journal::Breach;
use super::rules::LATE;

impl Oracle {
    /// Prepares for the end of a shard's turn, when grace periods may end.
    pub fn before_timers(&mut self, now: u64, shard: u16) {
        if self.server.draining {
            return;
        }
        for oracle in self.sessions.iter_mut().filter(|oracle| oracle.home == shard) {
            let over = oracle
                .model
                .as_ref()
                .and_then(|model| model.kept_until)
                .is_some_and(|until| until <= now);
            if over {
                // The order of this and other timers is known only when all have fired.
                oracle.closings.get_or_insert_default();
                oracle.dirty = true;
            }
        }
    }

    /// Checks a shard's sessions after a turn. If `thorough`, compares their whole states.
    pub fn after_turn(
        &mut self,
        now: u64,
        shard: u16,
        engine: &Engine,
        wires: &[Wire],
        thorough: bool,
    ) {
        if self.server.draining {
            return;
        }
        for session in 0..self.sessions.len() {
            if self.sessions[session].home != shard {
                continue;
            }
            if let Err((invariant, what)) =
                self.check_session(now, session, engine, wires, thorough)
            {
                let name = self.sessions[session].name.clone();
                self.journal.fail(now, invariant, format!("{name:?}: {what}"));
            }
        }
    }

    fn check_session(
        &mut self,
        now: u64,
        session: usize,
        engine: &Engine,
        wires: &[Wire],
        thorough: bool,
    ) -> Result<(), Breach> {
        let oracle = &mut self.sessions[session];
        let real = engine.session(&oracle.name);
        let denied = oracle.denied.take().filter(|_| oracle.model.is_some() && real.is_some());
        if let Some(sid) = denied {
            return Err(("I6 recovery", format!("{sid} could not recover")));
        }
        let Some(model) = &mut oracle.model else {
            // A session that was opened for a member that was then rejected is empty.
            let empty = real.is_none_or(|real| real.is_empty());
            return if empty {
                Ok(())
            } else {
                Err(("I13 expiry", "members in a session that is none".into()))
            };
        };
        let Some(real) = real else {
            let empty = model
                .empty_since
                .ok_or(("I13 expiry", "a session with members is gone".to_owned()))?;
            let crowded = self.rules.is_crowded();
            oracle.model = None;
            oracle.ticking.since = None;
            oracle.owed.since = None;
            let right = now >= empty + self.rules.empty_ttl || crowded;
            self.journal
                .seen
                .add(if crowded { "session: gone for another" } else { "session: forgotten" }, 1);
            return if right {
                Ok(())
            } else {
                Err(("I13 expiry", "forgotten before its time".into()))
            };
        };
        if let Some(closings) = oracle.closings.take() {
            self.journal.seen.add("session: a leader's grace is over", 1);
            self.journal.seen.add(
                "session: grace and connections end in one turn",
                u64::from(!closings.is_empty()),
            );
            settle_order(model, &closings, real, now, self.rules.grace);
            oracle.owed.version = model.version;
            // A window that closed in this turn may have announced the version already.
            let newest = (oracle.epoch, model.version);
            let mut seated = wires.iter().filter(|wire| wire.seat == Some(session as u16));
            let owed = seated.any(|wire| wire.version != newest);
            (oracle.owed.since, oracle.owed.changed_at) = (owed.then_some(now), now);
        }
        if model.music.is_unknown() {
            self.journal.seen.add("music: taken over from the session", 1);
            model.music.take_over(&real.state().timeline, now);
        }
        let compare =
            std::mem::take(&mut oracle.dirty) || thorough || real.version() != model.version;
        if compare && let Some(what) = model.differs(real, now) {
            let invariant = if what.contains("should lead") {
                "I1 one leader"
            } else {
                "I6 state is the oracle's"
            };
            return Err((invariant, what));
        }
        if real.epoch() != oracle.epoch {
            return Err(("I3 epoch", format!("{} is {}", oracle.epoch, real.epoch())));
        }
        let late = self.rules.batch + LATE;
        if let Some((sid, since, _)) =
            oracle.unchanged.iter().find(|(_, since, done)| !done && now > since + late)
            && wires.iter().any(|wire| wire.seat == Some(session as u16) && wire.sid == *sid)
        {
            return Err((
                "I24 commands without effect",
                format!("{sid} got no answer since {since}"),
            ));
        }
        oracle.unchanged.retain(|(_, since, _)| now <= since + late);
        oracle.begin(now);
        // Without members nobody receives the event, and later ones find the change in a snapshot.
        if wires.iter().all(|wire| wire.seat != Some(session as u16)) {
            oracle.sent.begun.unsent.clear();
        }
        let late_event = oracle.sent.begun.unsent.front().filter(|since| now > **since + late);
        if let Some(since) = late_event {
            let what = format!("an armed change began at {since}, and no event said so");
            return Err(("I27 armed changes are announced", what));
        }
        let Some(model) = &oracle.model else { return Ok(()) };
        let is_known = !model.music.is_unknown();
        let ticking = is_known && model.music.at(now).playing && model.has_tick_listeners();
        match (ticking, oracle.ticking.since) {
            (true, None) => (oracle.ticking.since, oracle.ticking.count) = (Some(now), 0),
            (false, _) => oracle.ticking.since = None,
            (true, Some(since)) if now - since.max(oracle.ticking.last) >= self.rules.tick => {
                let ago = now - since.max(oracle.ticking.last);
                return Err(("I18 no timer forgotten", format!("no tick for {ago} µs")));
            }
            _ => {}
        }
        let wanted = [
            model.kept_until,
            model.empty_since.map(|since| since + self.rules.empty_ttl),
            model.music.next_wish(now).filter(|_| is_known),
            oracle.ticking.since.map(|since| since.max(oracle.ticking.last) + self.rules.tick),
        ];
        let wanted = wanted.into_iter().flatten().min();
        let next = engine.next_deadline().map(|at| at.as_micros());
        if wanted.is_some_and(|wanted| next.is_none_or(|next| next > wanted)) {
            return Err((
                "I18 no timer forgotten",
                format!("wakes at {next:?}, needed at {wanted:?}"),
            ));
        }
        if oracle.owed.since.is_some_and(|since| now >= since + self.rules.batch) {
            let newest = (oracle.epoch, model.version);
            let own = |wire: &&Wire| wire.seat == Some(session as u16) && wire.version != newest;
            oracle.owed.since = None;
            let behind = wires.iter().find(own);
            if let Some(wire) = behind {
                let what = format!("{} has received {:?} of {newest:?}", wire.sid, wire.version);
                return Err(("I18 notification deadline", what));
            }
        }
        Ok(())
    }
}

/// Settles the order in which the grace period and connections ended within one turn: that in which
/// the model agrees with the real session.
fn settle_order(
    model: &mut Model,
    closings: &[String],
    real: &bandsync_engine::session::Session,
    now: u64,
    grace: u64,
) {
    let mut last = model.clone();
    for first in 0..=closings.len() {
        let mut tried = model.clone();
        closings[..first].iter().for_each(|id| tried.lost(now, id, grace));
        tried.end_grace(now);
        closings[first..].iter().for_each(|id| tried.lost(now, id, grace));
        let right = tried.differs(real, now).is_none();
        last = tried;
        if right {
            break;
        }
    }
    *model = last;
}
