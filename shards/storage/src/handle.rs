//! Where shards and the monitor leave requests for the worker. None of it waits.

use std::sync::Arc;
use std::time::Instant;

use bandsync_engine::words::ids::{SessionId, ShardId};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::backends::{Change, Foreign};
use crate::plan::Target;
use crate::series::{History, Point};
use crate::status::Status;
use crate::waiting::Weight;

/// Requests that may wait for the thread.
const QUEUE_MAX: usize = 16_384;

/// A request on its way to the thread.
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
    /// Another server stored a session, or keeps it.
    Foreign(Foreign),
    /// Nothing comes after it.
    End,
}

/// Where requests are taken. None of it waits.
#[derive(Clone)]
pub struct StorageHandle {
    requests: Option<Sender<StorageRequest>>,
    weight: Weight,
    /// How the storage does.
    pub status: Arc<Status>,
    /// What was measured.
    pub history: Arc<History>,
}

impl StorageHandle {
    /// A handle, and where its requests come out.
    pub(crate) fn new(status: Status) -> (Self, Receiver<StorageRequest>) {
        let (requests, received) = bounded(QUEUE_MAX);
        let (requests, status) = (Some(requests), Arc::new(status));
        let handle = Self { requests, weight: Weight::default(), status, history: Arc::default() };
        (handle, received)
    }

    /// A way into the queue that passes by the handle; none if nothing is stored.
    pub(crate) fn requests(&self) -> Option<Sender<StorageRequest>> {
        self.requests.clone()
    }

    /// A handle that takes nothing: sessions are in memory alone.
    pub fn nowhere() -> Self {
        let status = Arc::new(Status::new(Target::Memory.name()));
        Self { requests: None, weight: Weight::default(), status, history: Arc::default() }
    }

    /// Asks for a session. False if there is no room for the order.
    pub fn load(&self, shard: ShardId, session: &SessionId) -> bool {
        self.put(|| StorageRequest::Load { shard, session: session.clone(), since: Instant::now() })
    }

    /// Has a record stored. False if there is no room for the request, or for so many bytes.
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

    /// Has a session deleted. False if there is no room for the order.
    pub fn forget(&self, shard: ShardId, session: &SessionId, epoch: u64) -> bool {
        self.put(|| StorageRequest::Change {
            shard,
            session: session.clone(),
            change: Change::Delete { epoch },
        })
    }

    /// Takes measurements in. Those of one interval together become one point of the history.
    pub fn measure(&self, at: i64, points: &[Point]) {
        if let Some((at, points)) = self.history.add(at, points) {
            // Without room the point is in memory and not in storage, which nobody will miss.
            self.put(|| StorageRequest::Points { at, points });
        }
    }

    /// Requests that could wait; none if nothing is stored.
    pub fn room(&self) -> usize {
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

    /// The record is copied only when there is room for it: a full queue is the time to save work.
    fn try_put(&self, request: impl FnOnce() -> Option<StorageRequest>) -> bool {
        let Some(requests) = self.requests.as_ref().filter(|requests| !requests.is_full()) else {
            return false;
        };
        request().is_some_and(|request| requests.try_send(request).is_ok())
    }
}
