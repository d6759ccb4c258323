//! Changes that wait to be carried out: the newest of each session, in order of waiting.

use std::collections::{BTreeMap, VecDeque};

use bandsync_engine::io::Found;
use bandsync_engine::words::ids::{SessionId, ShardId};

use crate::backends::Change;

/// Changes carried out at once.
const BATCH_MAX: usize = 512;

/// Bytes carried out at once, the change that goes over included. A backend makes several copies of
/// them.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The newest change of each session.
#[derive(Default)]
pub struct Pending {
    /// With who is told.
    changes: BTreeMap<SessionId, (ShardId, Change)>,
    /// The same sessions, those first that have waited longest.
    order: VecDeque<SessionId>,
}

impl Pending {
    /// Sessions with a change that waits.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Takes a change in, and returns the one that it replaces.
    pub fn put(
        &mut self,
        session: SessionId,
        shard: ShardId,
        change: Change,
    ) -> Option<(ShardId, Change)> {
        let replaced = self.changes.insert(session.clone(), (shard, change));
        if replaced.is_none() {
            self.order.push_back(session);
        }
        replaced
    }

    /// What a session will be when its change is carried out, if one waits.
    pub fn find(&self, session: &SessionId) -> Option<Found> {
        self.changes.get(session).map(|(_, change)| match change {
            Change::Put { record, .. } => Found::Record(record[..].into()),
            Change::Delete { .. } => Found::Nothing,
        })
    }

    /// Whether a change waits of a session that `may_go`.
    pub fn has_any(&self, may_go: impl Fn(&SessionId) -> bool) -> bool {
        self.order.iter().any(may_go)
    }

    /// The changes that have waited longest of sessions that `may_go`, as many as are carried out
    /// at once.
    pub fn batch(&self, may_go: impl Fn(&SessionId) -> bool) -> Vec<(SessionId, Change)> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for session in self.order.iter().filter(|session| may_go(session)) {
            if batch.len() >= BATCH_MAX || bytes >= BATCH_BYTES_MAX {
                break;
            }
            if let Some((_, change)) = self.changes.get(session) {
                bytes += if let Change::Put { record, .. } = change { record.len() } else { 0 };
                batch.push((session.clone(), change.clone()));
            }
        }
        batch
    }

    /// Takes a change out that was carried out.
    pub fn remove(&mut self, session: &SessionId) -> Option<(ShardId, Change)> {
        self.leave(session);
        self.changes.remove(session)
    }

    /// Lets the others go first.
    pub fn postpone(&mut self, session: &SessionId) {
        self.leave(session);
        self.order.push_back(session.clone());
    }

    /// Takes a session out of the order; it is near the front, as batches are taken from there.
    fn leave(&mut self, session: &SessionId) {
        if let Some(place) = self.order.iter().position(|other| other == session) {
            self.order.remove(place);
        }
    }
}
