//! How the storage does, for everybody to see.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

/// Whether the backend works.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// It does.
    Well,
    /// It does not; what changes is kept in memory meanwhile.
    Degraded {
        /// What is wrong, in a sentence without secrets.
        reason: String,
        /// Since when.
        since: SystemTime,
    },
}

/// What the storage shows of itself.
#[derive(Debug)]
pub struct Status {
    /// Where sessions are kept, in a word.
    pub place: &'static str,
    condition: Mutex<Condition>,
    /// Records written since the start.
    pub written: AtomicU64,
    /// Orders that were replaced by newer ones before they were carried out.
    pub coalesced: AtomicU64,
    /// Sessions asked for since the start.
    pub loads: AtomicU64,
    /// Times that the backend failed.
    pub failures: AtomicU64,
    /// Damaged records that were set aside.
    pub set_aside: AtomicU64,
    /// Times that another server stored a session that is in use here.
    pub conflicts: AtomicU64,
    /// Sessions whose newest order is still to be carried out.
    pub pending: AtomicU64,
}

impl Status {
    pub(super) fn new(place: &'static str) -> Self {
        Self {
            place,
            condition: Mutex::new(Condition::Well),
            written: AtomicU64::default(),
            coalesced: AtomicU64::default(),
            loads: AtomicU64::default(),
            failures: AtomicU64::default(),
            set_aside: AtomicU64::default(),
            conflicts: AtomicU64::default(),
            pending: AtomicU64::default(),
        }
    }

    /// Whether the backend works.
    pub fn condition(&self) -> Condition {
        self.condition.lock().clone()
    }

    pub(super) fn well(&self) {
        *self.condition.lock() = Condition::Well;
    }

    /// Notes a failure. True if all was well before.
    pub(super) fn degraded(&self, reason: &str) -> bool {
        let mut condition = self.condition.lock();
        let before = match &*condition {
            Condition::Well => None,
            Condition::Degraded { since, .. } => Some(*since),
        };
        let since = before.unwrap_or_else(SystemTime::now);
        *condition = Condition::Degraded { reason: reason.to_owned(), since };
        before.is_none()
    }
}

/// Counts.
pub(super) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}
