//! The checks after the calm: I18 about recovery, I19, and I21 about clocks.

use std::collections::BTreeMap;

use bandsync_engine::words::ids::SessionId;

use super::world::World;

const SECOND: u64 = 1_000_000;

/// The current versions of sessions.
pub type Newest = BTreeMap<SessionId, (u64, u64)>;

impl World<'_> {
    /// Checks that every member is connected and has received the versions in `due` or a rejection,
    /// and that no member waits for an answer.
    pub fn check_recovery(&mut self, due: &Newest) {
        self.check_pollers(due);
        self.check_clocks();
        let now = self.agenda.now;
        for member in 0..self.members.len() {
            let one = &self.members[member];
            let Some(want) = &one.want else { continue };
            let name = &self.oracle.sessions[usize::from(want.session)].name;
            let (newest, due) = (self.newest(name), due.get(name));
            let rejected = one.rejected_at.is_some_and(|at| now - at < 5 * SECOND);
            let what = match one.wire.map(|wire| &self.wires[wire]) {
                _ if rejected => continue,
                None => "has no connection".to_owned(),
                Some(wire) if one.joined != Some(want.session) => {
                    format!(
                        "is not in s{} without a rejection: {:?} {:?}",
                        want.session, wire.shard, wire.asks
                    )
                }
                Some(_)
                    if newest < Some(one.held.version)
                        || due.is_some_and(|due| one.held.version < *due) =>
                {
                    format!("holds {:?} of {newest:?}", one.held.version)
                }
                Some(wire) => {
                    let late =
                        wire.asks.iter().find(|ask| !wire.spoiled && now - ask.sent > 3 * SECOND);
                    let Some(ask) = late else { continue };
                    format!("was never answered: {ask:?}")
                }
            };
            self.oracle.journal.fail(now, "I18 recovery", format!("member {member} {what}"));
        }
        for session in 0..self.oracle.sessions.len() {
            self.check_stored(session);
            let Some(model) = &self.oracle.sessions[session].model else { continue };
            let away = model
                .leader
                .as_ref()
                .and_then(|id| model.people.iter().find(|person| person.id == *id));
            if away.is_some_and(|leader| !leader.connected) {
                self.oracle.journal.fail(
                    now,
                    "I18 recovery",
                    format!("the leader of s{session} is gone for good"),
                );
            }
        }
    }

    /// Checks that every poller is in its session and has received the versions in `due`, or a
    /// rejection.
    fn check_pollers(&mut self, due: &Newest) {
        let now = self.agenda.now;
        // A ping waits for a request, and its answer waits for the end of another one. With less
        // time than that, a poller is lost again and again.
        let shape = &self.plan.shape;
        let trip = 2 * shape.net.delay + shape.net.detour;
        let in_time = 3 * trip + 2 * shape.net.jitter < shape.ping_timeout;
        for (p, poller) in self.pollers.iter().enumerate() {
            let Some(name) = SessionId::parse(&poller.session()) else { continue };
            let (newest, due) = (self.newest(&name), due.get(&name).copied());
            if let Some(what) = poller.complaint(now, newest, due, in_time) {
                self.oracle.journal.fail(now, "I18 recovery", format!("poller {p} {what}"));
            }
        }
    }

    /// Checks that undisturbed clocks are as good as the network allows.
    fn check_clocks(&mut self) {
        let (now, net) = (self.agenda.now, &self.net.habits);
        // Half a round trip, the skew since the last probe, and the duration of a turn.
        let half = (2 * net.delay + net.detour) as f64 / 2_000.0;
        for (m, member) in self.members.iter_mut().enumerate() {
            let steady = member.joined.is_some();
            let Some(keeper) =
                member.keeper.as_mut().filter(|keeper| steady && keeper.calm_answers >= 8)
            else {
                continue;
            };
            let done = match keeper.bound(now) {
                Some(bound) if bound > half + 4.0 => {
                    Err(format!("is {bound:.3} ms with half a trip of {half:.3}"))
                }
                bound => keeper.check(now).map(|()| {
                    self.oracle.journal.seen.add("a clock is good", u64::from(bound.is_some()))
                }),
            };
            if let Err(what) = done {
                self.oracle.journal.fail(
                    now,
                    "I21 clock",
                    format!("in calm the bound of member {m}: {what}"),
                );
            }
        }
    }

    /// Checks that the storage has a session's newest version.
    fn check_stored(&mut self, session: usize) {
        let (now, oracle) = (self.agenda.now, &self.oracle.sessions[session]);
        let (Some(storage), Some(model)) = (&self.storage, &oracle.model) else { return };
        let kept = storage.kept(&oracle.name);
        let newest = (oracle.epoch, model.version);
        if self.life.stepped && kept.is_some_and(|kept| kept.is_late && kept.epoch > oracle.epoch) {
            // A server that died had a clock that was ahead, and its record arrived last.
            return;
        }
        let kept = kept.map(|kept| (kept.epoch, kept.version));
        if model.version > 0 && kept != Some(newest) && now > oracle.owed.changed_at + SECOND {
            let what = format!("{kept:?} is stored of {:?}, which is at {newest:?}", oracle.name);
            self.oracle.journal.fail(now, "I19 stored in the end", what);
        }
    }

    /// Returns the versions of all sessions that members and pollers want to be in.
    pub fn newest_of_all(&self) -> Newest {
        let bands = self.pollers.iter().filter_map(|poller| SessionId::parse(&poller.session()));
        let names = self.oracle.sessions.iter().map(|oracle| oracle.name.clone()).chain(bands);
        names.filter_map(|name| Some((name.clone(), self.newest(&name)?))).collect()
    }

    /// Returns the version of the session with this name, if there is one.
    fn newest(&self, name: &SessionId) -> Option<(u64, u64)> {
        let home = usize::from(name.shard(self.plan.shape.shards).0);
        let session = self.shards[home].turn.machine().session(name)?;
        Some((session.epoch(), session.version()))
    }
}
