//! The watch: notices by this node's own clock that its process was stopped, or that a lease has
//! ended.
//!
//! Every thread looks before it passes news on or takes an order, which costs one reading of the
//! clock. A thread of the cluster reports regularly that the process runs, so a gap in its reports
//! is a pause of the process.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The times at which a thread must look at the leases.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    /// The shortest gap between reports that counts as a pause.
    gap: Duration,
    /// The last report, in microseconds since the beginning.
    reported: AtomicU64,
    /// The end of the first lease, likewise.
    end: AtomicU64,
}

impl Watch {
    /// Creates a watch for leases of this life.
    pub fn new(lease_ttl: Duration, now: Instant) -> Self {
        let (reported, end) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
        Self { began: now, gap: lease_ttl / 2, reported, end }
    }

    /// Whether the process was stopped, or a lease has ended, since the last report.
    pub fn is_due(&self, now: Instant) -> bool {
        self.has_paused(now) || self.at(now) >= self.end.load(Ordering::Acquire)
    }

    /// Whether the process was stopped since the last report.
    pub fn has_paused(&self, now: Instant) -> bool {
        let reported = self.reported.load(Ordering::Acquire);
        self.at(now).saturating_sub(reported) >= self.gap.as_micros() as u64
    }

    /// Reports that the process runs, and when the next lease ends.
    pub fn report(&self, end: Option<Instant>, now: Instant) {
        self.end.store(end.map_or(u64::MAX, |end| self.at(end)), Ordering::Release);
        self.reported.store(self.at(now), Ordering::Release);
    }

    /// The longest time between two reports.
    pub fn interval(&self) -> Duration {
        self.gap / 4
    }

    fn at(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.began).as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_between_reports_and_the_end_of_a_lease_are_noticed() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let watch = Watch::new(Duration::from_secs(2), start);
        assert!(!watch.is_due(at(999)) && watch.has_paused(at(1_000)));
        watch.report(Some(at(1_500)), at(1_000));
        assert!(!watch.is_due(at(1_499)) && watch.is_due(at(1_500)));
        assert!(!watch.has_paused(at(1_500)), "a lease has ended, and nobody slept");
        watch.report(None, at(1_500));
        assert!(!watch.is_due(at(2_499)) && watch.is_due(at(2_500)));
        assert!(watch.interval() * 2 < Duration::from_secs(1));
    }
}
