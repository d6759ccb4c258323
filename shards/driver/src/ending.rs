//! When a shard may end: not while any other may still give it a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;

/// What all shards know about the end. Shards stop accepting one after the other, and hand connections over
/// meanwhile; once all have stopped and no connection lives, none can come into being, so all may end.
#[derive(Debug)]
pub(crate) struct Ending {
    /// Until when connections may live, in microseconds; `u64::MAX` while nobody asked for the end.
    until: AtomicU64,
    /// Which shards have stopped accepting.
    stopped: Vec<AtomicBool>,
    live: Arc<AtomicU64>,
}

impl Ending {
    pub(crate) fn new(shards: u16) -> Self {
        Self {
            until: AtomicU64::new(u64::MAX),
            stopped: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            live: Arc::default(),
        }
    }

    /// Asks all shards to end by then. An earlier end that was asked for stays.
    pub(crate) fn ask(&self, until: Micros) {
        self.until.fetch_min(until.as_micros(), Ordering::SeqCst);
    }

    /// By when to end, if that was asked for.
    pub(crate) fn until(&self) -> Option<Micros> {
        let until = self.until.load(Ordering::SeqCst);
        (until != u64::MAX).then_some(Micros::from_micros(until))
    }

    /// A shard says that it accepts no more.
    pub(crate) fn stopped(&self, shard: ShardId) {
        self.stopped[usize::from(shard.0)].store(true, Ordering::SeqCst);
    }

    /// Whether nothing can happen to any shard any more.
    pub(crate) fn is_quiet(&self) -> bool {
        // In this order: a shard that has stopped can bring no connection to life after we count them.
        self.stopped.iter().all(|stopped| stopped.load(Ordering::SeqCst))
            && self.live.load(Ordering::SeqCst) == 0
    }

    /// Counts a new connection for as long as the token lives.
    pub(crate) fn enter(&self) -> Alive {
        self.live.fetch_add(1, Ordering::SeqCst);
        Alive(Arc::clone(&self.live))
    }
}

/// A connection's place in the count of those that live, on a shard or on its way to one.
#[derive(Debug)]
pub(crate) struct Alive(Arc<AtomicU64>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_quiet_when_all_have_stopped_and_no_connection_lives() {
        let ending = Ending::new(2);
        let conn = ending.enter();
        ending.stopped(ShardId(0));
        assert!(!ending.is_quiet());
        ending.stopped(ShardId(1));
        assert!(!ending.is_quiet());
        drop(conn);
        assert!(ending.is_quiet());
    }

    #[test]
    fn the_earliest_end_asked_for_counts() {
        let ending = Ending::new(1);
        assert_eq!(ending.until(), None);
        for (asked, until) in [(9, 9), (5, 5), (7, 5)] {
            ending.ask(Micros::from_micros(asked));
            assert_eq!(ending.until(), Some(Micros::from_micros(until)));
        }
    }
}
