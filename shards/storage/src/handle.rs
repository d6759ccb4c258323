//! The handle to which shards and the monitor give requests. It never blocks.

use std::sync::Arc;
use std::time::Instant;

use bandsync_engine::words::ids::{SessionId, ShardId};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::backends::{Change, Foreign};
use crate::plan::Target;
use crate::series::{History, Point};
use crate::status::Status;
use crate::waiting::Weight;

/// Requests that may wait for the thread. Guessed.
const QUEUE_MAX: usize = 16_384;

/// A request to the storage's thread.
pub(crate) enum StorageRequest {
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
    /// Another server stored a session, or serves it.
    Foreign(Foreign),
    /// The last request.
    End,
}

/// The entry of the storage's queue. It never blocks.
#[derive(Clone)]
pub struct StorageHandle {
    requests: Option<Sender<StorageRequest>>,
    weight: Weight,
    /// State of the storage, for display.
    pub status: Arc<Status>,
    /// Measurements in memory.
    pub history: Arc<History>,
}

impl StorageHandle {
    /// Creates a handle, and the other end of its queue.
    pub(crate) fn new(status: Status) -> (Self, Receiver<StorageRequest>) {
        let (requests, received) = bounded(QUEUE_MAX);
        let (requests, status) = (Some(requests), Arc::new(status));
        let handle = Self { requests, weight: Weight::default(), status, history: Arc::default() };
        (handle, received)
    }

    /// Returns the queue itself; `None` if nothing is stored.
    pub(crate) fn requests(&self) -> Option<Sender<StorageRequest>> {
        self.requests.clone()
    }

    /// Creates a handle that accepts nothing: sessions are in memory only.
    pub fn nowhere() -> Self {
        let status = Arc::new(Status::new(Target::Memory.name()));
        Self { requests: None, weight: Weight::default(), status, history: Arc::default() }
    }

    /// Requests a session. Returns false if the queue is full.
    pub fn load(&self, shard: ShardId, session: &SessionId) -> bool {
        self.put(|| StorageRequest::Load { shard, session: session.clone(), since: Instant::now() })
    }

    /// Requests that a record be stored. Returns false if the queue is full or too many bytes wait.
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
            Some(StorageRequest::Change { shard, session: session.clone(), change })
        };
        self.try_put(put)
    }

    /// Requests that a session be deleted. Returns false if the queue is full.
    pub fn forget(&self, shard: ShardId, session: &SessionId, epoch: u64) -> bool {
        self.put(|| StorageRequest::Change {
            shard,
            session: session.clone(),
            change: Change::Delete { epoch },
        })
    }

    /// Adds measurements. Those of one interval become one point of the history.
    pub fn measure(&self, at: i64, points: &[Point]) {
        if let Some((at, points)) = self.history.add(at, points) {
            // If the queue is full, the point is in memory only, which is harmless.
            self.put(|| StorageRequest::Points { at, points });
        }
    }

    /// Requests that could wait; 0 if nothing is stored.
    pub fn capacity(&self) -> usize {
        self.requests.as_ref().and_then(Sender::capacity).unwrap_or_default()
    }

    /// Requests that wait.
    pub fn queue(&self) -> usize {
        self.requests.as_ref().map_or(0, Sender::len)
    }

    /// Bytes of records that wait, in the queue or for the backend.
    pub fn waiting_bytes(&self) -> usize {
        self.weight.bytes()
    }

    fn put(&self, request: impl FnOnce() -> StorageRequest) -> bool {
        self.try_put(|| Some(request()))
    }

    /// Copies the record only if there is room: a full queue is the time to save work.
    fn try_put(&self, request: impl FnOnce() -> Option<StorageRequest>) -> bool {
        let Some(requests) = self.requests.as_ref().filter(|requests| !requests.is_full()) else {
            return false;
        };
        request().is_some_and(|request| requests.try_send(request).is_ok())
    }
}
