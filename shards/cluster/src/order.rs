//! Orders of the shards, and the bounded queue in which they wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bandsync_engine::io::NodeId;
use bandsync_engine::words::ids::{SessionId, ShardId};
use crossbeam_channel::{Receiver, Sender, unbounded};
use parking_lot::RwLock;

use crate::meters::add;
use crate::names::Names;
use crate::status::Status;

/// Maximum orders that wait at a primary. Specified.
const ORDERS_MAX: usize = 16_384;

/// Maximum bytes of those orders. Specified.
const BYTES_MAX: usize = 16 * 1024 * 1024;

/// An order of a shard.
#[derive(Clone, Copy, Debug)]
pub enum Order<'a> {
    /// Takes a session. It is answered once.
    Claim {
        /// The session.
        session: &'a SessionId,
        /// The owner whose lease must have ended; with none, only a free session is taken.
        expected: Option<NodeId>,
        /// The highest epoch known here, or 0.
        floor: u64,
    },
    /// Stores a decision and publishes `head ++ record ++ tail`. It is answered once.
    Commit {
        /// The session.
        session: &'a SessionId,
        /// Its epoch.
        epoch: u64,
        /// Its version.
        version: u64,
        /// The record.
        record: &'a [u8],
        /// The owner's notes about branches.
        branches: &'a [u8],
        /// The message before the record.
        head: &'a [u8],
        /// The message after it.
        tail: &'a [u8],
        /// The numbers of the receivers.
        to: &'a [u16],
    },
    /// Publishes a message of a session.
    Publish {
        /// The session.
        session: &'a SessionId,
        /// The numbers of the receivers.
        to: &'a [u16],
        /// The message.
        body: &'a [u8],
    },
    /// Publishes a message to every shard of other nodes.
    Announce {
        /// The numbers of the receivers.
        to: &'a [u16],
        /// The message.
        body: &'a [u8],
    },
    /// The shard has noted this revision of the table.
    Noted {
        /// The revision.
        revision: u64,
    },
    /// Leaves a session without an owner.
    Release {
        /// The session.
        session: &'a SessionId,
        /// Its epoch.
        epoch: u64,
    },
    /// Deletes a session.
    Forget {
        /// The session.
        session: &'a SessionId,
        /// Its epoch.
        epoch: u64,
    },
}

/// An order with its own data.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// See [`Order::Claim`].
    Claim { session: SessionId, expected: Option<NodeId>, floor: u64 },
    /// See [`Order::Commit`].
    Commit(Box<Commit>),
    /// See [`Order::Publish`].
    Publish { session: SessionId, to: Vec<u16>, body: Box<[u8]> },
    /// See [`Order::Announce`].
    Announce { to: Vec<u16>, body: Box<[u8]> },
    /// Makes other nodes read the table.
    Hint { to: Vec<u16> },
    /// See [`Order::Noted`].
    Noted { revision: u64 },
    /// See [`Order::Release`].
    Release { session: SessionId, epoch: u64 },
    /// See [`Order::Forget`].
    Forget { session: SessionId, epoch: u64 },
}

/// The data of [`Order::Commit`].
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The session.
    pub session: SessionId,
    /// Its epoch.
    pub epoch: u64,
    /// Its version.
    pub version: u64,
    /// The record.
    pub record: Box<[u8]>,
    /// The owner's notes about branches.
    pub branches: Box<[u8]>,
    /// The message before the record.
    pub head: Box<[u8]>,
    /// The message after it.
    pub tail: Box<[u8]>,
    /// The numbers of the receivers.
    pub to: Vec<u16>,
}

impl Task {
    fn of(order: Order<'_>) -> Self {
        match order {
            Order::Claim { session, expected, floor } => {
                Self::Claim { session: session.clone(), expected, floor }
            }
            Order::Commit { session, epoch, version, record, branches, head, tail, to } => {
                Self::Commit(Box::new(Commit {
                    session: session.clone(),
                    epoch,
                    version,
                    record: record.into(),
                    branches: branches.into(),
                    head: head.into(),
                    tail: tail.into(),
                    to: to.to_vec(),
                }))
            }
            Order::Publish { session, to, body } => {
                Self::Publish { session: session.clone(), to: to.to_vec(), body: body.into() }
            }
            Order::Announce { to, body } => Self::Announce { to: to.to_vec(), body: body.into() },
            Order::Noted { revision } => Self::Noted { revision },
            Order::Release { session, epoch } => Self::Release { session: session.clone(), epoch },
            Order::Forget { session, epoch } => Self::Forget { session: session.clone(), epoch },
        }
    }

    /// The session, if it is about one.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::Claim { session, .. }
            | Self::Publish { session, .. }
            | Self::Release { session, .. }
            | Self::Forget { session, .. } => Some(session),
            Self::Commit(commit) => Some(&commit.session),
            Self::Announce { .. } | Self::Hint { .. } | Self::Noted { .. } => None,
        }
    }

    /// Bytes that it occupies in the queue.
    fn bytes(&self) -> usize {
        match self {
            Self::Commit(commit) => {
                let Commit { record, branches, head, tail, to, .. } = &**commit;
                record.len() + branches.len() + head.len() + tail.len() + to.len() * 2
            }
            Self::Publish { to, body, .. } | Self::Announce { to, body } => {
                body.len() + to.len() * 2
            }
            Self::Hint { to } => to.len() * 2,
            _ => 0,
        }
    }
}

/// A task under way.
#[derive(Debug)]
pub struct Job {
    /// The shard that ordered it.
    pub shard: ShardId,
    /// When it was ordered.
    pub since: Instant,
    /// The task.
    pub task: Task,
    /// Whether it was sent and not answered, so that Redis may have carried it out.
    pub is_sent: bool,
    /// Whether data of its session was set aside for it.
    pub has_cleared: bool,
    /// The time before which it is not sent.
    pub not_before: Instant,
    /// Its place in the queue, which is free once this is dropped.
    _room: Room,
}

/// Orders and bytes of a queue.
#[derive(Debug, Default)]
struct Load {
    orders: AtomicUsize,
    bytes: AtomicUsize,
}

#[derive(Debug)]
struct Room {
    load: Arc<Load>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.load.orders.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The queue of one primary. An order counts until it is finished, also while it waits for Redis.
#[derive(Clone, Debug)]
pub struct Queue {
    load: Arc<Load>,
    jobs: Sender<Job>,
}

impl Queue {
    /// Creates a queue and its end.
    pub fn new() -> (Self, Receiver<Job>) {
        // Its bound is the load.
        let (jobs, receiver) = unbounded();
        (Self { load: Arc::default(), jobs }, receiver)
    }

    /// Adds a task that was ordered at a time. Returns false if the queue is full or has no end any
    /// more.
    pub fn put(&self, shard: ShardId, task: Task, since: Instant) -> bool {
        let bytes = task.bytes();
        let orders = self.load.orders.fetch_add(1, Ordering::Relaxed);
        let before = self.load.bytes.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { load: Arc::clone(&self.load), bytes };
        if orders >= ORDERS_MAX || before + bytes > BYTES_MAX {
            return false;
        }
        let job = Job {
            shard,
            since,
            task,
            is_sent: false,
            has_cleared: false,
            not_before: since,
            _room: room,
        };
        self.jobs.send(job).is_ok()
    }
}

/// A call that looks whether this process was stopped, or a lease has ended.
pub type Look = Box<dyn Fn() + Send + Sync>;

/// The way of the shards to the courier. Orders before the start wait.
#[derive(Clone)]
pub struct Courier {
    pub(crate) names: Arc<Names>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) status: Arc<Status>,
    /// Looks at the leases of the running node; empty before the start.
    pub(crate) look: Arc<OnceLock<Look>>,
}

/// The queues of the primaries, and the primary of each bucket.
#[derive(Debug)]
pub struct Routes {
    /// One queue for each lane.
    queues: RwLock<Vec<Queue>>,
    /// The lane, by bucket.
    lane_of: Vec<AtomicUsize>,
}

impl Routes {
    /// Creates the queues of these lanes.
    pub fn new(queues: Vec<Queue>, lane_of: &[usize]) -> Self {
        let lane_of = lane_of.iter().map(|lane| AtomicUsize::new(*lane)).collect();
        Self { queues: RwLock::new(queues), lane_of }
    }

    /// Number of lanes.
    pub fn count(&self) -> usize {
        self.queues.read().len()
    }

    /// Adds the queue of another lane.
    pub fn add(&self, queue: Queue) {
        self.queues.write().push(queue);
    }

    /// Notes the lane of each bucket. All of them have a queue.
    pub fn place(&self, lane_of: &[usize]) {
        for (place, lane) in self.lane_of.iter().zip(lane_of) {
            place.store(*lane, Ordering::Relaxed);
        }
    }

    /// Returns the lane of a bucket.
    pub fn lane(&self, bucket: u16) -> usize {
        self.lane_of.get(usize::from(bucket)).map_or(0, |lane| lane.load(Ordering::Relaxed))
    }

    /// Queues a task at the primary of a bucket.
    pub fn put(&self, bucket: u16, shard: ShardId, task: Task) -> bool {
        self.put_since(bucket, shard, task, Instant::now())
    }

    fn put_since(&self, bucket: u16, shard: ShardId, task: Task, since: Instant) -> bool {
        let queues = self.queues.read();
        queues.get(self.lane(bucket)).is_some_and(|queue| queue.put(shard, task, since))
    }

    /// Passes a job on to the lane of a bucket that has moved.
    pub fn forward(&self, bucket: u16, job: Job) {
        if let Some(queue) = self.queues.read().get(self.lane(bucket)) {
            // A lane's thread ends with the node only.
            let _ = queue.jobs.send(job);
        }
    }
}

impl Courier {
    /// Queues an order. Never blocks. If the queue is full, nothing was queued, false is returned,
    /// and no answer will come.
    ///
    /// If this process was stopped for so long that its lease has ended, the shards first receive
    /// the news of it, and this order is one from before the pause: it is answered, and not sent.
    pub fn order(&self, shard: ShardId, order: Order<'_>) -> bool {
        let since = Instant::now();
        if let Some(look) = self.look.get() {
            look();
        }
        let task = Task::of(order);
        let bucket = task.session().map_or(0, |session| self.names.bucket(session));
        let is_queued = self.routes.put_since(bucket, shard, task, since);
        if !is_queued {
            add(&self.status.meters.queue_full, 1);
        }
        is_queued
    }

    /// Returns the readings.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_has_room_again_once_its_jobs_are_finished() {
        let (queue, jobs) = Queue::new();
        let hint = || Task::Hint { to: vec![1] };
        let put = |task| queue.put(ShardId(0), task, Instant::now());
        assert!((0..ORDERS_MAX).all(|_| put(hint())));
        assert!(!put(hint()) && !put(hint()));
        let job = jobs.try_recv();
        assert!(!put(hint()), "a job counts while it is under way");
        drop(job);
        assert!(put(hint()));
        drop(jobs);
        assert!(!put(hint()), "nobody would take it");
    }

    #[test]
    fn a_queue_has_a_bound_in_bytes() {
        let (queue, _jobs) = Queue::new();
        let task = |bytes| Task::Announce { to: vec![], body: vec![0; bytes].into() };
        let put = |task| queue.put(ShardId(0), task, Instant::now());
        assert!(put(task(BYTES_MAX - 10)));
        assert!(!put(task(11)));
        assert!(put(task(10)));
    }
}
