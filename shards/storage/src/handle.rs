//! Where shards and the monitor leave orders for the worker. None of it waits.

use std::sync::Arc;
use std::time::Instant;

use bandsync_engine::words::ids::{SessionId, ShardId};
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::backends::{Change, Foreign};
use crate::plan::Place;
use crate::series::{History, Point};
use crate::status::Status;
use crate::waiting::Weight;

/// Orders that may wait for the thread.
const QUEUE_MAX: usize = 16_384;

/// An order on its way to the thread.
pub(crate) enum Order {
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
    /// A desk, and where its orders come out.
    pub(crate) fn new(status: Status) -> (Self, Receiver<Order>) {
        let (orders, received) = bounded(QUEUE_MAX);
        let (orders, status) = (Some(orders), Arc::new(status));
        let desk = Self { orders, weight: Weight::default(), status, history: Arc::default() };
        (desk, received)
    }

    /// A way into the queue that passes by the desk; none if nothing is stored.
    pub(crate) fn orders(&self) -> Option<Sender<Order>> {
        self.orders.clone()
    }

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
