//! Checks the states that members receive: I3, I6, I13, I15 and I24.

use super::super::decode::{Snapshot, State};
use super::super::wire::Wire;
use super::Oracle;
use super::session::{Fact, VERSIONS_MAX};

impl Oracle {
    pub(super) fn stated(&mut self, now: u64, state: &State, to: &[usize], wires: &mut [Wire]) {
        let session = usize::from(state.session);
        let mut is_recovering = false;
        for wire in to {
            let wire = &mut wires[*wire];
            let hopes = wire.hope.as_ref().is_some_and(|hope| hope.session == state.session);
            if wire.seat.is_none() && wire.sid.is_empty() && hopes {
                // A recovering member receives missed events before its recovery is announced.
                is_recovering = true;
            } else if wire.seat != Some(state.session) && !self.server.draining {
                self.journal.fail(
                    now,
                    "I13 receivers",
                    format!("{} receives an event of a session that it is not in", wire.sid),
                );
            }
            if state.version < wire.version && !self.server.draining {
                let what =
                    format!("{} was sent {:?} after {:?}", wire.sid, state.version, wire.version);
                self.journal.fail(now, "I15 in order of version", what);
            }
            wire.version = state.version;
        }
        if is_recovering {
            return;
        }
        self.answered_alone(now, state, to, wires);
        let seated = wires.iter().filter(|wire| wire.seat == Some(state.session));
        let behind = seated.filter(|wire| wire.version != state.version).count();
        let oracle = &mut self.sessions[session];
        if behind <= 1 {
            // The batch was sent, to all members except one that is just leaving. Later changes
            // have a window of their own.
            oracle.owed.since = None;
        }
        let stale = |(version, sum, _): &Fact| {
            *version != state.version && sum.is_some() && *sum == state.sum
        };
        if oracle.sent.facts.iter().any(stale) {
            let what = format!("the checksum of {:?} is that of another version", state.version);
            return self.journal.fail(now, "I6 checksum of its version", what);
        }
        let known = oracle.sent.facts.iter_mut().find(|(version, ..)| *version == state.version);
        let clash = match known {
            Some((_, sum, timeline)) => {
                let clash = differ(*sum, state.sum) || differ(*timeline, state.timeline);
                (*sum, *timeline) = (sum.or(state.sum), timeline.or(state.timeline));
                clash
            }
            None => {
                oracle.sent.facts.push_back((state.version, state.sum, state.timeline));
                if oracle.sent.facts.len() > VERSIONS_MAX {
                    oracle.sent.facts.pop_front();
                }
                false
            }
        };
        if clash {
            let what =
                format!("two states are {:?} of {:?}", state.version, self.sessions[session].name);
            self.journal.fail(now, "I6 equal version, equal state", what);
        }
        if let Some(snapshot) = &state.snapshot {
            self.shown(now, state, snapshot);
        }
    }

    /// Checks an event that one member alone receives: for each version one event announces the
    /// change to all members, and only members whose commands changed nothing receive others.
    fn answered_alone(&mut self, now: u64, state: &State, to: &[usize], wires: &[Wire]) {
        let oracle = &mut self.sessions[usize::from(state.session)];
        let others = to.iter().map(|wire| &wires[*wire].sid);
        let mut strangers =
            others.filter(|sid| !oracle.unchanged.iter().any(|(own, ..)| own == *sid));
        if let Some(change) = state.change {
            let stranger = strangers.next().cloned();
            let changes = &oracle.sent.changes;
            let first = changes.iter().find(|(version, _)| *version == state.version);
            match first.map(|(_, first)| *first) {
                Some(first) if first != change => {
                    let is_begun = oracle.announced(now, change);
                    if let Some(sid) = stranger.filter(|_| !self.server.draining)
                        && !is_begun
                    {
                        let what = format!("{sid} receives {:?} once more", state.version);
                        return self.journal.fail(now, "I24 commands without effect", what);
                    }
                }
                Some(_) => {}
                None if oracle.begins(now) => _ = oracle.announced(now, change),
                None if stranger.is_none() => {}
                None => {
                    oracle.sent.changes.push_back((state.version, change));
                    if oracle.sent.changes.len() > VERSIONS_MAX {
                        oracle.sent.changes.pop_front();
                    }
                }
            }
        }
        let receives = |sid: &String| to.iter().any(|wire| wires[*wire].sid == *sid);
        oracle
            .unchanged
            .iter_mut()
            .filter(|(sid, ..)| receives(sid))
            .for_each(|(.., done)| *done = true);
    }

    /// Checks that a snapshot shows the state at the time of sending.
    fn shown(&mut self, now: u64, state: &State, snapshot: &Snapshot) {
        let oracle = &self.sessions[usize::from(state.session)];
        let Some(model) =
            oracle.model.as_ref().filter(|_| oracle.closings.is_none() && !self.server.draining)
        else {
            return;
        };
        let music = model.music.at(now);
        let (people, count) = model.named(self.rules.members_listed);
        let members = snapshot.members.iter().map(|(id, connected)| (id.as_str(), *connected));
        let what = match () {
            () if state.version != (oracle.epoch, model.version) => {
                format!(
                    "a snapshot of {:?} is sent at {:?}",
                    state.version,
                    (oracle.epoch, model.version)
                )
            }
            () if model.music.is_unknown() => return,
            () if snapshot.position != music.position => {
                format!("a snapshot says {}, should be {music:?}", snapshot.position)
            }
            () if snapshot.playing != music.playing => "a snapshot errs about playing".into(),
            () if snapshot.leader != model.leader => {
                format!("a snapshot says that {:?} leads", snapshot.leader)
            }
            () if !members.eq(people) || snapshot.member_count != count => {
                format!(
                    "a snapshot has the members {:?}, should be of {:?}",
                    snapshot, model.people
                )
            }
            () => return,
        };
        self.journal.fail(now, "I6 snapshot is the state", what);
    }
}

fn differ(one: Option<u64>, other: Option<u64>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one != other)
}
