//! Everything that the threads of the cluster share.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bandsync_engine::io::{NodeId, NodeNews};
use bandsync_engine::words::ids::ShardId;
use bandsync_redis::{Endpoint, Topology};
use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::clock::{Asked, Keeper};
use crate::frame::Seal;
use crate::layout::Layout;
use crate::lease::Leases;
use crate::line::Line;
use crate::meters::{Meters, add};
use crate::names::Names;
use crate::order::Routes;
use crate::post::Post;
use crate::roster::Roster;
use crate::scripts::Scripts;
use crate::status::Status;
use crate::watch::Watch;

/// Everything that a node needs to join a cluster.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The servers of Redis.
    pub redis: Topology,
    /// Time that an answer of Redis may take.
    pub timeout: Duration,
    /// Name of this node. No two living nodes have one name.
    pub name: String,
    /// Own address for members.
    pub url: Option<String>,
    /// Version of the program.
    pub version: String,
    /// Region of this node.
    pub region: String,
    /// Number of buckets, the same on all nodes.
    pub buckets: u16,
    /// Time for which a lease lives.
    pub lease_ttl: Duration,
    /// Secret of all nodes, for the keyed hashes of messages.
    pub secret: Option<String>,
    /// Time that a session stays in Redis after its last change.
    pub session_ttl: Duration,
    /// Unix milliseconds at which the program was built: an earlier wall clock is wrong.
    pub build_unix_ms: i64,
}

/// The state of a node that has joined.
pub struct Shared {
    /// The settings.
    pub plan: Plan,
    /// The names of keys and channels.
    pub names: Names,
    /// This node.
    pub node: NodeId,
    /// Unix microseconds of the founding, as the table has them.
    pub origin: String,
    /// The keyed hash.
    pub seal: Seal,
    /// The scripts.
    pub scripts: Scripts,
    /// The readings.
    pub status: Arc<Status>,
    /// The way to the shards.
    pub post: Post,
    /// The queues of the primaries.
    pub routes: Arc<Routes>,
    /// The primaries.
    pub layout: Mutex<Layout>,
    /// The leases. Standings are reported while it is locked, so that they arrive in order.
    pub leases: Mutex<Leases>,
    /// Notices pauses of this process and ends of leases.
    pub watch: Watch,
    /// The end of the leases by the clock of Redis (Unix ms), unless they are renewed; 0 if it is
    /// unknown, and in a Redis Cluster, whose servers have clocks of their own.
    pub lease_end: AtomicU64,
    /// The other nodes.
    pub roster: Mutex<Roster>,
    /// The lanes whose inbox has all its subscriptions.
    pub subscribed: Mutex<BTreeSet<usize>>,
    /// Whether slots have moved.
    pub must_learn: AtomicBool,
    /// Whether the node is about to end.
    pub draining: AtomicBool,
    /// Whether the threads end.
    pub ended: AtomicBool,
    /// The counter of frames.
    pub counter: AtomicU64,
    /// Makes the table thread read at once.
    pub table: Sender<()>,
    /// The clock.
    pub clock: Arc<Keeper>,
    /// Probes of other nodes on their way to the thread that answers. `None` only wakes it.
    pub asked: Sender<Option<Asked>>,
}

impl Shared {
    /// The counters.
    pub fn meters(&self) -> &Meters {
        &self.status.meters
    }

    /// The servers of a lane.
    pub fn endpoint(&self, lane: usize) -> Endpoint {
        self.layout.lock().endpoint(lane).clone()
    }

    /// Returns the counter of the next frame.
    pub fn next_counter(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Makes the table thread read the table at once.
    pub fn read_table(&self) {
        // A full channel has a request already.
        let _ = self.table.try_send(());
    }

    /// Makes the thread that sends probes look for the next one.
    pub fn wake_clock(&self) {
        // A full channel wakes it too.
        let _ = self.asked.try_send(None);
    }

    /// Makes the census look for the primaries of a Cluster at once.
    pub fn learn(&self) {
        self.must_learn.store(true, Ordering::Relaxed);
        self.read_table();
    }

    /// Whether the threads end.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether Redis is a Cluster, in which keys need the tag of their bucket.
    pub fn is_redis_cluster(&self) -> bool {
        self.layout.lock().is_cluster()
    }

    /// The buckets of a primary.
    pub fn buckets_of(&self, lane: usize) -> impl Iterator<Item = u16> {
        let leases = self.leases.lock();
        let buckets: Vec<u16> =
            (0..self.names.count()).filter(|bucket| leases.lane(*bucket) == lane).collect();
        buckets.into_iter()
    }

    /// Returns a line to the servers of a lane.
    pub fn line(&self, lane: usize) -> Line {
        Line::new(self.endpoint(lane)).within(self.plan.lease_ttl)
    }

    /// Passes news to a shard, behind the news that the own lease has ended.
    pub fn tell(&self, shard: ShardId, news: NodeNews) {
        self.look();
        self.post.send(shard, news);
    }

    /// Passes news to every shard, behind the news that the own lease has ended.
    pub fn tell_all(&self, news: &NodeNews) {
        self.look();
        self.post.send_all(news);
    }

    /// Reports the standings if this process was stopped, or a lease has ended, since the last
    /// report, and returns whether that was so. Callers see no answer and take no order before that.
    pub fn look(&self) -> bool {
        let now = Instant::now();
        let is_due = self.watch.is_due(now);
        if is_due {
            self.report(now);
        }
        is_due
    }

    /// Ends the leases whose time is over, and reports the standings that changed. Returns the time
    /// of the next change.
    pub fn report(&self, now: Instant) -> Option<Instant> {
        let mut leases = self.leases.lock();
        // Another thread may have reported while this one waited.
        let has_paused = self.watch.has_paused(now);
        add(&self.meters().pauses, u64::from(has_paused));
        let ended = leases.lapse(has_paused, now);
        for (first, last, standing) in leases.changes(now) {
            self.post.send_all(&NodeNews::Standing { first, last, standing });
        }
        let next = leases.next_change(now);
        self.watch.report(leases.next_end(), now);
        drop(leases);
        if ended > 0 {
            add(&self.meters().lapses, ended);
            self.clock.lapse();
            self.roster.lock().lapse();
            self.read_table();
        }
        next
    }

    /// Notes that a connection to a primary was lost.
    pub fn lost(&self, lane: usize) {
        self.leases.lock().lost(lane);
        self.post.wake();
    }
}

/// Returns the Unix time in microseconds.
pub fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros() as u64)
}
