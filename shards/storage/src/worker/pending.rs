//! Pending changes: the newest of each session, in order of waiting.

use std::collections::{BTreeMap, VecDeque};

use bandsync_engine::io::LoadResult;
use bandsync_engine::words::ids::{SessionId, ShardId};

use crate::backends::Change;

/// Maximum changes per batch.
const BATCH_MAX: usize = 512;

/// Maximum bytes per batch; the change that exceeds it is included. A backend makes several copies
/// of them.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// The newest change of each session.
#[derive(Default)]
pub struct Pending {
    /// Changes with the shard that gets the outcome.
    changes: BTreeMap<SessionId, (ShardId, Change)>,
    /// Sessions with a pending change, the longest waiting first.
    order: VecDeque<SessionId>,
}

impl Pending {
    /// Sessions with a pending change.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Adds a change. Returns the one that it replaces.
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

    /// Returns the state of a session once its pending change is carried out, if there is one.
    pub fn find(&self, session: &SessionId) -> Option<LoadResult> {
        self.changes.get(session).map(|(_, change)| match change {
            Change::Put { record, .. } => LoadResult::Record(record[..].into()),
            Change::Delete { .. } => LoadResult::Nothing,
        })
    }

    /// Whether a session that `may_go` has a pending change.
    pub fn has_any(&self, may_go: impl Fn(&SessionId) -> bool) -> bool {
        self.order.iter().any(may_go)
    }

    /// Returns the batch of changes that have waited longest, of sessions that `may_go`.
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

    /// Removes a change that was carried out.
    pub fn remove(&mut self, session: &SessionId) -> Option<(ShardId, Change)> {
        self.leave(session);
        self.changes.remove(session)
    }

    /// Moves a session to the end of the order.
    pub fn postpone(&mut self, session: &SessionId) {
        self.leave(session);
        self.order.push_back(session.clone());
    }

    /// Removes a session from the order. It is near the front, since batches are taken from there.
    fn leave(&mut self, session: &SessionId) {
        if let Some(index) = self.order.iter().position(|other| other == session) {
            self.order.remove(index);
        }
    }
}
