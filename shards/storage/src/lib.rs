//! Keeps sessions and the history of measurements beyond the process.
//!
//! Shards put orders into one bounded queue, by the [`Desk`], and never wait. One thread, the
//! [`Keeper`], takes them out, keeps the newest order for each session, carries them to a
//! [`Backend`] in batches, and sends the answers back by [`Shards`]. When the backend is away the
//! newest orders stay here until it is back.

mod backends;
mod backoff;
mod series;
mod status;
mod waiting;
mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bandsync_engine::io::StorageNews;
use bandsync_engine::words::ids::{SessionId, ShardId};
use crossbeam_channel::{Receiver, Sender, bounded};

pub use backends::redis::{ConnectionAddr, RedisPlace, Topology};
pub use series::{History, INTERVAL_MS, Point};
pub use status::{Condition, Status};
use waiting::{Waiting, Weight};
pub use worker::Keeper;

/// Orders that may wait for the thread.
const QUEUE_MAX: usize = 16_384;

/// Where sessions are kept, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub place: Place,
    /// How long a session is kept that is in no server's memory.
    pub ttl: Duration,
    /// How long a shard waits for a session; only to say so in the log when it was longer.
    pub wait: Duration,
}

/// Where sessions are kept.
#[derive(Clone, Debug)]
pub enum Place {
    /// Nowhere: they end with the process.
    Memory,
    /// In a file in this directory; `None` if no directory could be found.
    File(Option<PathBuf>),
    /// In Redis.
    Redis(Box<RedisPlace>),
}

impl Place {
    /// In a word, as settings and `/health` have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::File(_) => "file",
            Self::Redis(_) => "redis",
        }
    }
}

/// The way back to the shards.
pub trait Shards: Send + 'static {
    /// How many there are.
    fn count(&self) -> u16;

    /// Tells a shard, without waiting.
    ///
    /// # Errors
    /// The news, if there is no room for them now.
    fn tell(&self, shard: ShardId, news: StorageNews) -> Result<(), StorageNews>;
}

/// What carries orders out. It is used by one thread, and may block it for about a second at most.
pub trait Backend: Send {
    /// Opens it, again if it was open, and makes sure that it can be written to.
    fn connect(&mut self) -> Result<(), Failure>;

    /// The record of a session; empty if what is stored there makes no sense.
    fn load(&mut self, session: &SessionId) -> Result<Option<Box<[u8]>>, Failure>;

    /// Carries out changes, and says what came of each. One that failed may have been carried out
    /// all the same.
    fn apply(&mut self, changes: &[(SessionId, Change)]) -> Vec<Result<Applied, Failure>>;

    /// Begins the time to live of these sessions anew. False if one of them is not there any more.
    fn refresh(&mut self, sessions: &[SessionId]) -> Result<bool, Failure>;

    /// Looks whether it still works. False if it does, but has lost what was in it.
    fn check(&mut self) -> Result<bool, Failure>;

    /// Begins to tell what other servers store by `heard`, if there can be others.
    ///
    /// # Errors
    /// If the system has no thread left.
    fn listen(&mut self, _heard: Box<dyn Fn(Foreign) + Send>) -> io::Result<()> {
        Ok(())
    }

    /// Deletes what has outlived its time, unless the backend does that by itself.
    fn expire(&mut self) -> Result<(), Failure>;

    /// Brings all that is stored of a session, if anything is, to where it can be looked at for a
    /// week.
    fn set_aside(&mut self, session: &SessionId, how: Aside) -> Result<(), Failure>;

    /// Publishes that these sessions are kept here, for other servers that keep them as well.
    fn announce(&mut self, _kept: &[Foreign]) {}

    /// Adds measurements of one instant, in Unix milliseconds, and forgets those from before
    /// `oldest`.
    fn add_points(&mut self, at: i64, points: &[Point], oldest: i64) -> Result<(), Failure>;

    /// All measurements since an instant, in Unix milliseconds.
    fn points(&mut self, since: i64) -> Result<Vec<(i64, Point)>, Failure>;
}

/// What is to become of a session's record.
#[derive(Clone, Debug)]
pub enum Change {
    /// It takes the place of the one that is there, unless that looks newer.
    Put { epoch: u64, version: u64, record: Waiting },
    /// It is deleted, unless it has a higher epoch.
    Delete { epoch: u64 },
}

/// How a record is set aside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Aside {
    /// It stays where it is, until it is replaced.
    Copy,
    /// It goes: it makes no sense.
    Move,
}

/// What came of a [`Change`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Applied {
    /// It is done and survives the end of this process.
    Done,
    /// What is there looks newer, and stays.
    Outdated { epoch: u64 },
    /// What is there makes no sense, and stays until it is set aside.
    Senseless,
}

/// Why a backend cannot do what it should.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// It may work later; the sentence says what is wrong, without secrets.
    Unavailable(String),
    /// What is stored was made by a later version of the program; it must not be touched.
    Newer(String),
    /// The session that was asked about cannot be served; all others can. The sentence says what is
    /// wrong.
    Session(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Unavailable(reason) | Self::Newer(reason) | Self::Session(reason)) = self;
        f.write_str(reason)
    }
}

/// A session at another server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Foreign {
    /// Whether the other server has just stored it, rather than answered that it keeps it as well.
    pub stored: bool,
    /// The session.
    pub session: SessionId,
    /// Its epoch there.
    pub epoch: u64,
    /// Its version there.
    pub version: u64,
}

/// An order on its way to the thread.
enum Order {
    Load {
        shard: ShardId,
        session: SessionId,
        since: Instant,
    },
    Change {
        shard: ShardId,
        session: SessionId,
        change: Change,
    },
    Points {
        at: i64,
        points: Vec<Point>,
    },
    /// Another server stored a session, or keeps it.
    Foreign(Foreign),
    /// Nothing comes after it.
    End,
}

/// Where orders are taken. None of it waits.
#[derive(Clone)]
pub struct Desk {
    orders: Option<Sender<Order>>,
    weight: Weight,
    /// How the storage does.
    pub status: Arc<Status>,
    /// What was measured.
    pub history: Arc<History>,
}

impl Desk {
    /// A desk that takes nothing: sessions are in memory alone.
    pub fn nowhere() -> Self {
        let status = Arc::new(Status::new(Place::Memory.name()));
        Self { orders: None, weight: Weight::default(), status, history: Arc::default() }
    }

    /// Asks for a session. False if there is no room for the order.
    pub fn load(&self, shard: ShardId, session: &SessionId) -> bool {
        self.put(|| Order::Load { shard, session: session.clone(), since: Instant::now() })
    }

    /// Has a record stored. False if there is no room for the order, or for so many bytes.
    pub fn store(
        &self,
        shard: ShardId,
        session: &SessionId,
        epoch: u64,
        version: u64,
        record: &[u8],
    ) -> bool {
        let put = || {
            let change = Change::Put { epoch, version, record: self.weight.take(record)? };
            Some(Order::Change { shard, session: session.clone(), change })
        };
        self.try_put(put)
    }

    /// Has a session deleted. False if there is no room for the order.
    pub fn forget(&self, shard: ShardId, session: &SessionId, epoch: u64) -> bool {
        self.put(|| Order::Change {
            shard,
            session: session.clone(),
            change: Change::Delete { epoch },
        })
    }

    /// Takes measurements in. Those of one interval together become one point of the history.
    pub fn measure(&self, at: i64, points: &[Point]) {
        if let Some((at, points)) = self.history.add(at, points) {
            // Without room the point is in memory and not in storage, which nobody will miss.
            self.put(|| Order::Points { at, points });
        }
    }

    /// Orders that could wait; none if nothing is stored.
    pub fn room(&self) -> usize {
        self.orders.as_ref().and_then(Sender::capacity).unwrap_or_default()
    }

    /// Orders that wait.
    pub fn queue(&self) -> usize {
        self.orders.as_ref().map_or(0, Sender::len)
    }

    /// Bytes of records that wait, in the queue or for the backend.
    pub fn waiting_bytes(&self) -> usize {
        self.weight.bytes()
    }

    fn put(&self, order: impl FnOnce() -> Order) -> bool {
        self.try_put(|| Some(order()))
    }

    /// The record is copied only when there is room for it: a full queue is the time to save work.
    fn try_put(&self, order: impl FnOnce() -> Option<Order>) -> bool {
        let Some(orders) = self.orders.as_ref().filter(|orders| !orders.is_full()) else {
            return false;
        };
        order().is_some_and(|order| orders.try_send(order).is_ok())
    }
}

/// The storage before its thread runs.
pub struct Storage {
    desk: Desk,
    keeper: Option<(Keeper, Receiver<Order>)>,
}

/// The running thread.
pub struct Running {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Storage {
    /// Opens the place, if it can be opened now. What cannot be is tried again by the thread.
    ///
    /// # Errors
    /// A sentence, if what is stored there was made by a later version of the program.
    pub fn open(plan: &Plan) -> Result<Self, String> {
        let backend: Option<Box<dyn Backend>> = match &plan.place {
            Place::Memory => None,
            Place::File(directory) => {
                Some(Box::new(backends::file::Store::new(directory.clone(), plan.ttl)))
            }
            Place::Redis(place) => {
                Some(Box::new(backends::redis::Store::new(*place.clone(), plan.ttl)))
            }
        };
        let Some(backend) = backend else {
            return Ok(Self { desk: Desk::nowhere(), keeper: None });
        };
        let status = Arc::new(Status::new(plan.place.name()));
        let history = Arc::new(History::default());
        let (sender, receiver) = bounded(QUEUE_MAX);
        let mut keeper = Keeper::new(backend, plan, Arc::clone(&status), Arc::clone(&history));
        if let Err(Failure::Newer(reason)) = keeper.open() {
            return Err(reason);
        }
        Ok(Self {
            desk: Desk { orders: Some(sender), weight: Weight::default(), status, history },
            keeper: Some((keeper, receiver)),
        })
    }

    /// Where orders are taken.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Starts the thread, which answers by `shards`.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(self, shards: impl Shards) -> io::Result<Running> {
        let Some((mut keeper, orders)) = self.keeper else {
            return Ok(Running { orders: None, thread: None });
        };
        if let Some(sender) = self.desk.orders.clone() {
            // Without room it is lost; the other server will store the session again.
            keeper.listen(move |foreign| drop(sender.try_send(Order::Foreign(foreign))))?;
        }
        let run = move || keeper.run(&orders, &shards);
        let thread = std::thread::Builder::new().name("storage".into()).spawn(run)?;
        Ok(Running { orders: self.desk.orders, thread: Some(thread) })
    }
}

impl Running {
    /// Stores what is still to be stored, and ends. If the backend is away this takes no longer
    /// than its time-outs.
    pub fn end(self) {
        if let Some(orders) = self.orders {
            // The thread takes orders out all the time, so there will be room.
            let _ = orders.send(Order::End);
        }
        if let Some(thread) = self.thread {
            // A panic of the thread was told in the log when it happened.
            let _ = thread.join();
        }
    }
}
