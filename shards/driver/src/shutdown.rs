//! The agreement of the shards about the end: a shard must not end while another one may still hand
//! over a connection to it. The tests run this code through every interleaving of two shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;

use crate::notifier::Flag;

/// A number that threads share. The tests use one whose interleavings loom explores.
pub trait Number {
    /// Creates a number of this value.
    fn new(value: u64) -> Self;
    /// Returns the value.
    fn get(&self) -> u64;
    /// Adds `value`.
    fn add(&self, value: u64);
    /// Subtracts `value`.
    fn sub(&self, value: u64);
    /// Lowers the number to `value`, if it is greater.
    fn at_most(&self, value: u64);
}

impl Number for AtomicU64 {
    fn new(value: u64) -> Self {
        Self::new(value)
    }

    fn get(&self) -> u64 {
        self.load(Ordering::SeqCst)
    }

    fn add(&self, value: u64) {
        self.fetch_add(value, Ordering::SeqCst);
    }

    fn sub(&self, value: u64) {
        self.fetch_sub(value, Ordering::SeqCst);
    }

    fn at_most(&self, value: u64) {
        self.fetch_min(value, Ordering::SeqCst);
    }
}

/// The state of the end, which all shards share.
///
/// One shard after the other stops counting the connections that it accepts, while hand-overs go
/// on. When all shards have stopped and no counted connection lives, no new one can appear, so all
/// shards may end.
#[derive(Debug)]
pub struct ShutdownOf<N: Number, F> {
    /// The time until which connections may live, in microseconds. `u64::MAX` if the end was not
    /// asked for.
    until: N,
    /// The shards that no longer count connections.
    stopped: Vec<F>,
    /// Number of counted connections that live.
    live: Arc<N>,
}

/// The state of the end in a server.
pub type Shutdown = ShutdownOf<AtomicU64, AtomicBool>;

impl<N: Number, F: Flag> ShutdownOf<N, F> {
    /// Creates the state of running shards.
    pub fn new(shards: u16) -> Self {
        Self {
            until: N::new(u64::MAX),
            stopped: (0..shards).map(|_| F::unset()).collect(),
            live: Arc::new(N::new(0)),
        }
    }

    /// Asks all shards to end by `until`. An earlier time that was asked for stays.
    pub fn ask(&self, until: Micros) {
        self.until.at_most(until.as_micros());
    }

    /// Returns the time by which to end, if the end was asked for.
    pub fn until(&self) -> Option<Micros> {
        let until = self.until.get();
        (until != u64::MAX).then_some(Micros::from_micros(until))
    }

    /// Notes that a shard has counted its last connection.
    pub fn stopped(&self, shard: ShardId) {
        self.stopped[usize::from(shard.0)].swap(true);
    }

    /// Whether no counted connection can reach any shard.
    pub fn is_quiet(&self) -> bool {
        // The order matters: after all shards have stopped, the count can only fall.
        self.stopped.iter().all(Flag::is_set) && self.live.get() == 0
    }

    /// Counts a new connection as long as the guard lives.
    pub fn enter(&self) -> LiveGuard<N> {
        self.live.add(1);
        LiveGuard(Arc::clone(&self.live))
    }
}

/// A connection's part in the count of live ones, on a shard or on its way to another.
#[derive(Debug)]
pub struct LiveGuard<N: Number = AtomicU64>(Arc<N>);

impl<N: Number> Drop for LiveGuard<N> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::notifier::tests::Model;
    use loom::sync::Arc as LoomArc;
    use loom::sync::atomic::{AtomicBool as LoomBool, AtomicU64 as LoomU64};
    use loom::thread;

    /// Reads by a change that changes nothing, because loom does not order plain loads.
    impl Number for LoomU64 {
        fn new(value: u64) -> Self {
            Self::new(value)
        }

        fn get(&self) -> u64 {
            self.fetch_add(0, Ordering::SeqCst)
        }

        fn add(&self, value: u64) {
            self.fetch_add(value, Ordering::SeqCst);
        }

        fn sub(&self, value: u64) {
            self.fetch_sub(value, Ordering::SeqCst);
        }

        fn at_most(&self, value: u64) {
            self.fetch_min(value, Ordering::SeqCst);
        }
    }

    /// Two shards of a server, each with the mailbox of both.
    struct World {
        shutdown: ShutdownOf<LoomU64, LoomBool>,
        mailboxes: [LoomArc<Model<LiveGuard<LoomU64>>>; 2],
    }

    impl World {
        fn new() -> LoomArc<Self> {
            let mailboxes = [Model::new(1), Model::new(1)];
            LoomArc::new(Self { shutdown: ShutdownOf::new(2), mailboxes })
        }

        fn ask(&self) {
            self.shutdown.ask(Micros::from_secs(1));
            self.mailboxes.iter().for_each(|mailbox| mailbox.notify());
        }

        /// Runs the turns of a shard to the end. If `accepts`, a connection waits at its listener
        /// that belongs to the other shard. Returns the number of connections that arrived.
        fn run(&self, id: usize, accepts: bool) -> u32 {
            let mailbox = &self.mailboxes[id];
            let (mut stopped, mut reported_end, mut arrived, mut mail_waits) =
                (false, false, 0, false);
            loop {
                for live in mailbox.turn(&mut mail_waits, usize::MAX) {
                    arrived += 1;
                    // The connection receives a goodbye and closes.
                    drop(live);
                }
                let asked = self.shutdown.until().is_some();
                if asked && !stopped {
                    let leaving = accepts.then(|| self.shutdown.enter());
                    self.shutdown.stopped(ShardId(id as u16));
                    stopped = true;
                    if let Some(live) = leaving {
                        assert!(self.mailboxes[1 - id].post(live));
                    }
                }
                if stopped && self.shutdown.is_quiet() {
                    if !std::mem::replace(&mut reported_end, true) {
                        self.mailboxes.iter().for_each(|mailbox| mailbox.notify());
                    }
                    return arrived;
                }
            }
        }
    }

    /// Fails if a connection is left in a mailbox. Loom reports it if a shard sleeps for ever.
    fn check_shutdown(accepts: [bool; 2]) {
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(3);
        bounded.check(move || {
            let world = World::new();
            let other = {
                let world = LoomArc::clone(&world);
                thread::spawn(move || world.run(1, accepts[1]))
            };
            world.ask();
            let arrived = world.run(0, accepts[0]);
            let expected = [u32::from(accepts[1]), u32::from(accepts[0])];
            assert_eq!([arrived, other.join().unwrap()], expected);
        });
    }

    #[test]
    fn both_shards_end_if_no_connection_is_open() {
        check_shutdown([false, false]);
    }

    #[test]
    fn a_connection_handed_over_at_the_end_arrives_before_its_shard_ends() {
        check_shutdown([true, false]);
        check_shutdown([false, true]);
    }

    #[test]
    fn two_connections_that_cross_at_the_end_both_arrive() {
        check_shutdown([true, true]);
    }

    #[test]
    fn it_is_quiet_when_all_have_stopped_and_no_connection_lives() {
        let shutdown = Shutdown::new(2);
        let conn = shutdown.enter();
        shutdown.stopped(ShardId(0));
        assert!(!shutdown.is_quiet());
        shutdown.stopped(ShardId(1));
        assert!(!shutdown.is_quiet());
        drop(conn);
        assert!(shutdown.is_quiet());
    }

    #[test]
    fn the_earliest_end_asked_for_counts() {
        let shutdown = Shutdown::new(1);
        assert_eq!(shutdown.until(), None);
        for (asked, until) in [(9, 9), (5, 5), (7, 5)] {
            shutdown.ask(Micros::from_micros(asked));
            assert_eq!(shutdown.until(), Some(Micros::from_micros(until)));
        }
    }
}
