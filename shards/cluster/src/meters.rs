//! Counters of the cluster, for `/metrics`. Threads add to them, and the server reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the histogram of commits, in microseconds. The last class has no bound.
pub const COMMIT_BOUNDS_US: [u64; 11] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_000_000];

macro_rules! meters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The counters.
        #[derive(Debug, Default)]
        pub struct Meters {
            $($(#[$doc])* pub $name: AtomicU64,)*
            /// Commits by their time, from hand-over to answer; see [`COMMIT_BOUNDS_US`].
            pub commit_times: [AtomicU64; COMMIT_BOUNDS_US.len() + 1],
        }

        impl Meters {
            /// Returns the names and values of all counters except the histogram.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

meters! {
    /// Claims that were answered.
    claims,
    /// Claims that took a session.
    claims_won,
    /// Claims that took a session from another node, whose lease had ended.
    takeovers,
    /// Claims that found another owner.
    claims_refused,
    /// Claims refused because the own lease was gone.
    claims_lapsed,
    /// Claims of sessions in a newer format.
    claims_newer,
    /// Commits that were stored.
    commits,
    /// Sum of the times of stored commits, in microseconds.
    commit_micros,
    /// Longest time of a stored commit, in microseconds.
    commit_micros_max,
    /// Commits refused because another node owns the session.
    commits_lost,
    /// Commits given up without an answer.
    commits_unknown,
    /// Commits given up before they were sent.
    commits_unsent,
    /// Sessions left without an owner.
    releases,
    /// Sessions deleted.
    forgotten,
    /// Commands refused for reasons of one session, such as data of a wrong type.
    senseless,
    /// Data of a session that made no sense and was set aside.
    set_aside,
    /// Commands sent again.
    retries,
    /// Commands that followed a redirection.
    redirections,
    /// Orders refused because a queue was full.
    queue_full,
    /// Messages published. A bulletin counts once, whatever the number of its receivers.
    published,
    /// Frames published, counted by receiver.
    frames_out,
    /// Bytes published, counted by receiver.
    bytes_out,
    /// Messages received.
    heard,
    /// Frames received.
    frames_in,
    /// Bytes received.
    bytes_in,
    /// Messages published that no node listened to.
    deaf,
    /// Frames that Redis did not publish, because this node's lease had ended since they were made.
    published_late,
    /// Frames dropped because they made no sense.
    dropped_malformed,
    /// Frames dropped because their keyed hash was wrong or missing.
    dropped_forged,
    /// Frames dropped because they, or a later one, were received before.
    dropped_replayed,
    /// Frames dropped because the table does not name their sender.
    dropped_unknown,
    /// Messages dropped because a shard's mailbox was full.
    dropped_full,
    /// Beats that were answered.
    beats,
    /// Leases that had ended or were another node's, by a beat or by the own clock.
    lapses,
    /// Pauses of this process that were long enough to matter.
    pauses,
    /// Connections opened again.
    reconnects,
    /// Subscriptions that Redis ended.
    unsubscribed,
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

impl Meters {
    /// Counts a stored commit.
    pub fn committed(&self, took: Duration) {
        let us = took.as_micros() as u64;
        let class = COMMIT_BOUNDS_US.partition_point(|bound| *bound < us);
        add(&self.commits, 1);
        add(&self.commit_micros, us);
        self.commit_micros_max.fetch_max(us, Ordering::Relaxed);
        add(&self.commit_times[class], 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_commit_is_in_one_class() {
        let meters = Meters::default();
        for us in [0, 100, 101, 3_000_000] {
            meters.committed(Duration::from_micros(us));
        }
        let classes = meters.commit_times.each_ref().map(|class| class.load(Ordering::Relaxed));
        assert_eq!(classes, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(meters.list().contains(&("commit_micros", 3_000_201)));
    }
}
