//! When a shard may end: not while any other may still give it a connection. The tests run this
//! very code through every interleaving of two shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bandsync_engine::words::ids::ShardId;
use bandsync_engine::words::time::Micros;

use crate::notifier::Flag;

/// A number that threads share.
pub trait Number {
    /// A number of this value.
    fn new(value: u64) -> Self;
    /// Its value.
    fn get(&self) -> u64;
    /// Makes it greater.
    fn add(&self, value: u64);
    /// Makes it smaller.
    fn sub(&self, value: u64);
    /// Makes it the smaller one of itself and this.
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

/// What all shards know about the end. One shard after the other stops counting the connections that
/// it accepts, and hands connections over meanwhile; once all have stopped and no counted connection
/// lives, none can come into being, so all may end.
#[derive(Debug)]
pub struct ShutdownOf<N: Number, F> {
    /// Until when connections may live, in microseconds; `u64::MAX` while nobody asked for the end.
    until: N,
    /// Which shards count no more connections.
    stopped: Vec<F>,
    live: Arc<N>,
}

/// What the threads of a server share.
pub type Shutdown = ShutdownOf<AtomicU64, AtomicBool>;

impl<N: Number, F: Flag> ShutdownOf<N, F> {
    /// For so many shards, of which none was asked to end.
    pub fn new(shards: u16) -> Self {
        Self {
            until: N::new(u64::MAX),
            stopped: (0..shards).map(|_| F::unset()).collect(),
            live: Arc::new(N::new(0)),
        }
    }

    /// Asks all shards to end by then. An earlier end that was asked for stays.
    pub fn ask(&self, until: Micros) {
        self.until.at_most(until.as_micros());
    }

    /// By when to end, if that was asked for.
    pub fn until(&self) -> Option<Micros> {
        let until = self.until.get();
        (until != u64::MAX).then_some(Micros::from_micros(until))
    }

    /// A shard says that it has counted its last connection.
    pub fn stopped(&self, shard: ShardId) {
        self.stopped[usize::from(shard.0)].swap(true);
    }

    /// Whether no counted connection can reach any shard any more.
    pub fn is_quiet(&self) -> bool {
        // In this order: a shard that has stopped can bring no connection to life after we count
        // them.
        self.stopped.iter().all(Flag::is_set) && self.live.get() == 0
    }

    /// Counts a new connection for as long as the token lives.
    pub fn enter(&self) -> LiveGuard<N> {
        self.live.add(1);
        LiveGuard(Arc::clone(&self.live))
    }
}

/// A connection's place in the count of those that live, on a shard or on its way to one.
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

    /// Loom knows no order of all loads, so a look is a change that changes nothing.
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

        /// The turns of a shard as in `shard`, to the end. At its door waits a connection if
        /// `accepts`, which belongs to the other shard. Returns how many arrived.
        fn run(&self, id: usize, accepts: bool) -> u32 {
            let mailbox = &self.mailboxes[id];
            let (mut heeded, mut told_end, mut arrived, mut mail_waits) = (false, false, 0, false);
            loop {
                for live in mailbox.turn(&mut mail_waits, usize::MAX) {
                    arrived += 1;
                    // It says goodbye and closes.
                    drop(live);
                }
                let asked = self.shutdown.until().is_some();
                if asked && !heeded {
                    let leaving = accepts.then(|| self.shutdown.enter());
                    self.shutdown.stopped(ShardId(id as u16));
                    heeded = true;
                    if let Some(live) = leaving {
                        assert!(self.mailboxes[1 - id].post(live));
                    }
                }
                if heeded && self.shutdown.is_quiet() {
                    if !std::mem::replace(&mut told_end, true) {
                        self.mailboxes.iter().for_each(|mailbox| mailbox.notify());
                    }
                    return arrived;
                }
            }
        }
    }

    /// Loom finds it if a shard sleeps for ever, and we if a connection is left in a mailbox nobody
    /// looks into.
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
    fn both_shards_end_when_nobody_is_there() {
        check_shutdown([false, false]);
    }

    #[test]
    fn a_connection_handed_over_at_the_end_arrives_before_its_shard_ends() {
        check_shutdown([true, false]);
        check_shutdown([false, true]);
    }

    #[test]
    fn connections_that_cross_at_the_end_arrive_both() {
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
