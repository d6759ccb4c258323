//! Acknowledgements: I2, I7, I8, I9, I20, I21, I25, I26 and I28.

use std::collections::BTreeSet;

use super::super::decode::Ack;
use super::super::model::{Done, LONG_MESSAGE, Model, needs_lead};
use super::super::plan::Say;
use super::super::wire::{CallContent, PendingCall, Wire};
use super::Oracle;
use super::journal::Breach;

/// Maximum time in microseconds between a member's join and the end of its reserved seat. It
/// includes the time of the question, and 8 s for which a shard may be stopped before it reads
/// that.
pub(super) const RESERVED: u64 = 13_000_000;

impl Oracle {
    /// Checks the answer to a member's call, and applies it to the model.
    pub(super) fn answered(&mut self, now: u64, wire: &mut Wire, ack: &Ack) {
        let Some(index) = wire.asks.iter().position(|ask| ask.id == ack.id) else {
            return self.journal.fail(
                now,
                "I8 answered once",
                format!("{} never asked {}", wire.sid, ack.id),
            );
        };
        let ask = wire.asks.swap_remove(index);
        let is_too_fast = ack.code == "rate_limited" && !ack.guessing;
        if is_too_fast && self.is_patience_over(now, wire) {
            let what = format!("{} exceeds its rates and goes on", wire.sid);
            self.journal.fail(now, "I22 rate limit", what);
        }
        if self.server.draining {
            let late = self.server.drained[usize::from(wire.shard)];
            if ack.ok && late {
                self.journal.fail(
                    now,
                    "I20 no more is acknowledged",
                    format!("{:?} of {}", ask.what, wire.sid),
                );
            }
            return;
        }
        let done = if ack.ok {
            self.obeyed(now, wire, &ask, ack)
        } else {
            self.rejected(now, wire, &ask, ack)
        };
        if let Err((invariant, what)) = done {
            self.journal.fail(now, invariant, what);
        }
    }

    fn obeyed(
        &mut self,
        now: u64,
        wire: &mut Wire,
        ask: &PendingCall,
        ack: &Ack,
    ) -> Result<(), Breach> {
        let session = usize::from(ask.session);
        let alone = matches!(
            ask.what,
            CallContent::Clock
                | CallContent::Say(Say::ClockSync | Say::Probe | Say::Heartbeat | Say::Quality, ..)
        );
        let shard = wire.shard;
        if !alone && shard != self.sessions[session].home {
            let what = format!("shard {shard} answers for s{session}: {:?}", ask.what);
            return Err(("I2 one owner", what));
        }
        let earlier = |other: &PendingCall| {
            other.kind().is_some() && other.id < ask.id && other.came.is_some()
        };
        if !alone
            && !ack.superseded
            && let Some(other) = wire.asks.iter().find(|other| earlier(other))
        {
            let what = format!("{:?} before {:?}, which was sent sooner", ask.what, other.what);
            return Err(("I25 in order", what));
        }
        if ack.superseded {
            wire.spent.needless += 1;
            self.journal.seen.add("command: superseded by a newer value", 1);
            let should = (self.sessions[session].epoch, self.model(session)?.version);
            if ack.version != should {
                return Err((
                    "I7 acknowledged is done",
                    format!("{:?} for {should:?}, superseded", ack.version),
                ));
            }
            let newer =
                wire.asks.iter().any(|other| other.came.is_some() && ask.gives_way_to(other));
            return if ask.kind().is_some() && newer {
                Ok(())
            } else {
                Err(("I25 the newest wins", format!("no newer value supersedes {:?}", ask.what)))
            };
        }
        let waited = ask.kind().is_some() && ask.came.is_some_and(|came| came < now);
        self.journal.seen.add("command: waited for room", u64::from(waited));
        if let Some(command) = ask.command {
            let model = self.model(session)?;
            if model.has_applied(command) != ack.repeated {
                let what = if ack.repeated { "was never applied" } else { "is applied again" };
                return Err(("I8 at most once", format!("{:?}, {command:?}, {what}", ask.what)));
            }
            if ack.repeated {
                let should = (self.sessions[session].epoch, self.model(session)?.version);
                self.journal.seen.add("command: sent again, not applied again", 1);
                return if ack.version == should {
                    Ok(())
                } else {
                    Err((
                        "I7 acknowledged is done",
                        format!("{:?} for {should:?}, again", ack.version),
                    ))
                };
            }
            if !ack.pending {
                model.note_applied(command, &wire.sid);
            }
        }
        if ask.is_over(now) {
            return Err(("I26 in time", format!("{:?} at {now}, after its time", ask.what)));
        }
        let wrong = |what| ("I9 permissions", what);
        let done = match &ask.what {
            CallContent::Nonsense => return Err(wrong("nonsense was acknowledged".into())),
            CallContent::Join(join, tokens) => {
                if let Some(old) = wire.seat.filter(|old| *old != ask.session) {
                    self.leave(now, wire, old, true);
                }
                self.open_session(now, session, ack)?;
                if wire.seat.is_none() {
                    wire.version = (0, 0);
                }
                wire.seat = Some(ask.session);
                let oracle = &mut self.sessions[session];
                if oracle.model.as_ref().is_some_and(|model| model.empty_since.is_some()) {
                    // Before this join no member was there to receive anything.
                    oracle.owed.since = None;
                }
                let unix = self.unix(now, session);
                let name = format!("Member {}", wire.member);
                let model = self.model(session)?;
                let was_seated = model.is_member(&wire.sid);
                let (done, holder) = match join.screen {
                    true => (model.show(&wire.sid, join).map_err(wrong)?, None),
                    false => model.join(unix, &wire.sid, &name, (join, tokens)).map_err(wrong)?,
                };
                self.journal.seen.add("join: a screen", u64::from(join.screen));
                self.journal
                    .seen
                    .add("join: a token brings a seat back", u64::from(holder.is_some()));
                if ack.is_back != (was_seated || holder.is_some()) {
                    let what = format!("back: {}, should be of {holder:?}", ack.is_back);
                    return Err(("I28 a token brings its seat back", what));
                }
                self.replaced = holder;
                done
            }
            CallContent::Leave => {
                self.leave(now, wire, ask.session, true);
                Done::Nothing
            }
            CallContent::Say(Say::ClockSync | Say::Probe, ..) | CallContent::Clock => {
                if ack.t1.is_some_and(|t1| t1 < i128::from(ask.sent) || t1 > i128::from(now)) {
                    return Err((
                        "I21 clock",
                        format!("t1 {:?} outside {}..{now}", ack.t1, ask.sent),
                    ));
                }
                Done::Nothing
            }
            CallContent::Say(Say::Heartbeat | Say::Quality, ..) => Done::Nothing,
            CallContent::Say(say, at, other) => {
                let model = self.model(session)?;
                let was_lost = model.music.is_unknown();
                match model.say(now, &wire.sid, say, *at, other) {
                    Ok(done) => done,
                    Err(_) if was_lost && is_arrangement(say) => Done::Version(ack.version.1),
                    Err(what) => return Err(wrong(what)),
                }
            }
            CallContent::Report(position) => {
                self.model(session)?.report(now, &wire.sid, *position, ask.came.unwrap_or(now))
            }
        };
        if let CallContent::Say(Say::Message { text }, ..) = &ask.what
            && ack.cut != (*text == LONG_MESSAGE && !wire.member.is_multiple_of(2))
        {
            return Err(("I7 acknowledged is done", format!("cut: {}", ack.cut)));
        }
        let oracle = &mut self.sessions[session];
        if alone {
            return Ok(());
        }
        // How the music continues is not known, so whether it changed is not either.
        let mut done = done;
        if let Some(model) = oracle.model.as_mut().filter(|model| model.music.is_unknown())
            && matches!(done, Done::Version(_))
        {
            model.version = ack.version.1;
            done = Done::Version(ack.version.1);
        }
        let version = oracle.model.as_ref().map_or(0, |model| model.version);
        if matches!(ask.what, CallContent::Say(..))
            && done == Done::Version(version)
            && version == oracle.owed.version
        {
            self.journal.seen.add("command: changes nothing", 1);
            oracle.unchanged.push((wire.sid.clone(), now, false));
        }
        oracle.changed(now);
        if let Done::Version(version) = done {
            let should = (oracle.epoch, version);
            if ack.version != should {
                return Err((
                    "I7 acknowledged is done",
                    format!("{:?} for {should:?}: {:?}", ack.version, ask.what),
                ));
            }
        }
        let known = oracle.model.as_ref().filter(|model| !model.music.is_unknown());
        let expected = known.map(|model| model.music.at(now).position);
        if let (CallContent::Say(Say::Sync { .. }, ..), Some(position), Some(expected)) =
            (&ask.what, ack.position, expected)
            && position != expected
        {
            return Err(("I4 position", format!("sync says {position}, should be {expected}")));
        }
        Ok(())
    }

    fn rejected(
        &mut self,
        now: u64,
        wire: &mut Wire,
        ask: &PendingCall,
        ack: &Ack,
    ) -> Result<(), Breach> {
        let is_late = ack.code == "too_late";
        self.journal.seen.add("command: rejected after its time", u64::from(is_late));
        let model = self.sessions[usize::from(ask.session)].model.as_ref();
        let elsewhere = wire.seat != Some(ask.session);
        // What is judged before the time: membership, repetition and role.
        let is_premature = || {
            let is_applied =
                ask.command.zip(model).is_some_and(|(id, model)| model.has_applied(id));
            let leads = model.is_some_and(|model| model.leads(&wire.sid));
            let may = matches!(ask.what, CallContent::Report(_)) || leads;
            elsewhere || is_applied || !may || !ask.is_over(now)
        };
        let wrong = match (&ask.what, ack.code.as_str()) {
            // Such a value must wait, unless its member is in another session.
            (_, "rate_limited") if ask.kind().is_some() => !elsewhere,
            (CallContent::Say(..) | CallContent::Leave | CallContent::Report(_), "not_member") => {
                !elsewhere
            }
            (CallContent::Say(say, ..), "not_leader") => {
                let leads = model.is_some_and(|model| model.leads(&wire.sid));
                leads || !needs_lead(say, false) && !matches!(say, Say::HandTo { .. })
            }
            (CallContent::Say(say, at, other), "too_late") if is_arrangement(say) => {
                let may_follow = |model: &Model| {
                    let sid = &wire.sid;
                    model.leads(sid) && model.clone().say(now, sid, say, *at, other).is_ok()
                };
                let is_reachable =
                    model.is_none_or(|model| !model.music.is_unknown() && may_follow(model));
                is_premature() && is_reachable
            }
            (CallContent::Say(Say::Edit(edit), ..), "conflict") => {
                let conflicts = model.is_none_or(|model| model.program.conflicts(edit));
                self.journal.seen.add("edit: conflict", 1);
                !conflicts
            }
            (CallContent::Say(Say::Edit(edit), ..), "not_allowed") => model.is_some_and(|model| {
                model.may_edit(&wire.sid) && !model.removes_playing(now, edit)
            }),
            (CallContent::Say(..) | CallContent::Report(_), "too_late") => is_premature(),
            (CallContent::Join(join, _), "unavailable") => !join.screen,
            (
                CallContent::Join(join, tokens),
                "session_full" | "bad_passcode" | "session_not_found",
            ) => {
                let why = model.and_then(|model| model.rejects(&wire.sid, (join, tokens)));
                // Another shard's answer holds for the time of the question. The session may be
                // gone since.
                let was_asked_before = model.is_none_or(|model| model.door_changed_at >= ask.sent);
                // A full table of sessions rejects like a full session.
                let is_table_full = ack.code == "session_full" && self.rules.is_crowded();
                // The last seat may be reserved for a member on its way from another shard.
                let others = &self.sessions[usize::from(ask.session)].askers;
                let others =
                    others.iter().filter(|(at, sid)| *sid != wire.sid && at + RESERVED >= ask.sent);
                let others: BTreeSet<&String> = others.map(|(_, sid)| sid).collect();
                let others =
                    others.iter().filter(|sid| model.is_some_and(|model| !model.is_member(sid)));
                let is_reserved = ack.code == "session_full"
                    && model.is_some_and(|model| model.is_full_with(others.count()));
                why != Some(ack.code.as_str())
                    && !was_asked_before
                    && !is_table_full
                    && !is_reserved
            }
            (
                _,
                "rate_limited" | "invalid_payload" | "not_allowed" | "too_large" | "unknown_event"
                | "draining",
            ) => false,
            (CallContent::Nonsense, _) => false,
            _ => true,
        };
        if wrong {
            Err(("I9 permissions", format!("{} for {:?}", ack.code, ask.what)))
        } else {
            Ok(())
        }
    }
}

/// Whether a command needs a place that the music still reaches.
fn is_arrangement(say: &Say) -> bool {
    matches!(
        say,
        Say::Loop { .. }
            | Say::Release
            | Say::Jump { .. }
            | Say::ArmTempo { .. }
            | Say::Nudge { .. }
            | Say::One { .. }
    )
}
