//! State of the storage, for display.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

/// Whether sessions are stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// All sessions are stored.
    Healthy,
    /// Some or all sessions are not stored.
    Degraded {
        /// The problem, in a sentence without secrets.
        reason: String,
        /// The time at which it began.
        since: SystemTime,
    },
}

/// Counters and condition of the storage.
#[derive(Debug)]
pub struct Status {
    /// The kind of storage: `file`, `redis` or `memory`.
    pub target: &'static str,
    troubles: Mutex<[Option<Trouble>; TROUBLES]>,
    /// Records written since the start.
    pub written: AtomicU64,
    /// Requests that newer ones replaced before they were carried out.
    pub coalesced: AtomicU64,
    /// Sessions requested since the start.
    pub loads: AtomicU64,
    /// Failures of the backend.
    pub failures: AtomicU64,
    /// Damaged records that were set aside.
    pub set_aside: AtomicU64,
    /// Times that another server stored a session that is in use here.
    pub conflicts: AtomicU64,
    /// Sessions whose newest request is not carried out yet.
    pub pending: AtomicU64,
    /// Sessions that cannot be stored, while all others can.
    pub unstored: AtomicU64,
    /// Sessions that another server serves too.
    pub shared: AtomicU64,
}

/// Problems that may exist at the same time, the worst first.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// The backend does not work; changes are kept in memory.
    Backend,
    /// Some sessions cannot be stored.
    Sessions,
    /// Another server serves sessions that this server serves.
    Shared,
}

const TROUBLES: usize = 3;

#[derive(Clone, Debug)]
struct Trouble {
    reason: String,
    since: SystemTime,
}

impl Status {
    pub(super) fn new(target: &'static str) -> Self {
        Self {
            target,
            troubles: Mutex::default(),
            written: AtomicU64::default(),
            coalesced: AtomicU64::default(),
            loads: AtomicU64::default(),
            failures: AtomicU64::default(),
            set_aside: AtomicU64::default(),
            conflicts: AtomicU64::default(),
            pending: AtomicU64::default(),
            unstored: AtomicU64::default(),
            shared: AtomicU64::default(),
        }
    }

    /// Returns the worst problem, if there is one.
    pub fn condition(&self) -> Condition {
        let troubles = self.troubles.lock();
        let worst = troubles.iter().flatten().next();
        worst.map_or(Condition::Healthy, |Trouble { reason, since }| Condition::Degraded {
            reason: reason.clone(),
            since: *since,
        })
    }

    /// Whether the backend works.
    pub fn is_up(&self) -> bool {
        self.troubles.lock()[Part::Backend as usize].is_none()
    }

    /// Records that a problem has ended.
    pub(super) fn recovered(&self, part: Part) {
        self.troubles.lock()[part as usize] = None;
    }

    /// Records a problem. Returns true if there was none of its kind.
    pub(super) fn degraded(&self, part: Part, reason: &str) -> bool {
        let trouble = &mut self.troubles.lock()[part as usize];
        let since = trouble.as_ref().map(|trouble| trouble.since);
        let reason = reason.to_owned();
        *trouble = Some(Trouble { reason, since: since.unwrap_or_else(SystemTime::now) });
        since.is_none()
    }
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_condition_is_shown_and_each_part_recovers_alone() {
        let status = Status::new("test");
        let shown = || match status.condition() {
            Condition::Healthy => String::new(),
            Condition::Degraded { reason, .. } => reason,
        };
        assert!(
            status.degraded(Part::Shared, "shared")
                && !status.degraded(Part::Shared, "shared by two")
        );
        assert!(status.is_up());
        assert_eq!(shown(), "shared by two");
        assert!(status.degraded(Part::Backend, "away"));
        assert!(status.degraded(Part::Sessions, "one"));
        assert_eq!((shown().as_str(), status.is_up()), ("away", false));
        status.recovered(Part::Backend);
        assert_eq!(shown(), "one");
        status.recovered(Part::Sessions);
        status.recovered(Part::Shared);
        assert_eq!(status.condition(), Condition::Healthy);
    }
}
