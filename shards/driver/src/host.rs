//! The seam to the rest of the server, which answers HTTP requests that the engine does not answer
//! itself, stores sessions, and reaches the other nodes of a cluster.

use bandsync_engine::io::{HttpRequest, HttpResponse, NodeId};
use bandsync_engine::words::ids::{ConnId, SessionId, ShardId};

/// The server around the shards. Its methods run on the shard's thread, within a turn, and must not
/// block: the shard sends no ticks until they return.
pub trait Host: Send + Sync + 'static {
    /// Answers `request`, for [`Output::Request`](bandsync_engine::io::Output::Request). Returns `None` if
    /// the answer takes longer than a turn may; then [`Mailer::answer`](crate::Mailer::answer)
    /// posts it to the asker.
    fn answer(&self, asker: Asker, request: &HttpRequest) -> Option<HttpResponse>;

    /// Returns the free memory of the calling thread's allocator to the system. Called every 30 s
    /// while no band plays, and each second while memory is scarce, after the machine has dropped
    /// its caches.
    fn trim(&self) {}

    /// Queues an order for the storage, whose answer comes through [`Mailer`](crate::Mailer).
    /// Returns false if it cannot be queued now; then there will be no answer. A host without a
    /// storage queues none.
    fn store(&self, _shard: ShardId, _order: Order<'_>) -> bool {
        false
    }

    /// Queues an order for the store and the messages that all nodes of a cluster share. Answers
    /// come through [`Mailer`](crate::Mailer). Returns false if it cannot be queued now; then there
    /// will be no answer. The host of a server that is alone queues none.
    fn tell_nodes(&self, _shard: ShardId, _order: NodeOrder<'_>) -> bool {
        false
    }
}

/// The connection that waits for an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asker {
    /// The shard of the connection.
    pub shard: ShardId,
    /// The connection.
    pub conn: ConnId,
}

/// An order of a shard to the storage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order<'a> {
    /// [`Output::Load`](bandsync_engine::io::Output::Load).
    Load(&'a SessionId),
    /// [`Output::Store`](bandsync_engine::io::Output::Store).
    Store {
        /// The session.
        session: &'a SessionId,
        /// The record's epoch.
        epoch: u64,
        /// The record's version.
        version: u64,
        /// The record.
        record: &'a [u8],
    },
    /// [`Output::Forget`](bandsync_engine::io::Output::Forget).
    Forget {
        /// The session.
        session: &'a SessionId,
        /// The session's epoch.
        epoch: u64,
    },
}

/// An order of a shard to the store and the messages that all nodes of a cluster share.
/// [`Order::Forget`] goes there too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NodeOrder<'a> {
    /// [`Output::Claim`](bandsync_engine::io::Output::Claim).
    Claim {
        /// The session.
        session: &'a SessionId,
        /// The owner that seems to be gone.
        expected: Option<NodeId>,
        /// The highest epoch that is known here.
        floor: u64,
    },
    /// [`Output::Commit`](bandsync_engine::io::Output::Commit).
    Commit {
        /// The session.
        session: &'a SessionId,
        /// The record's epoch.
        epoch: u64,
        /// The record's version.
        version: u64,
        /// The record.
        record: &'a [u8],
        /// The owner's notes about the session's branches.
        branches: &'a [u8],
        /// The part of the message before the record.
        head: &'a [u8],
        /// The part of the message after the record.
        tail: &'a [u8],
        /// The numbers of the nodes that receive the message.
        to: &'a [u16],
    },
    /// [`Output::Publish`](bandsync_engine::io::Output::Publish).
    Publish {
        /// The session.
        session: &'a SessionId,
        /// The numbers of the nodes.
        to: &'a [u16],
        /// The message.
        body: &'a [u8],
    },
    /// [`Output::Announce`](bandsync_engine::io::Output::Announce).
    Announce {
        /// The numbers of the nodes.
        to: &'a [u16],
        /// The message.
        body: &'a [u8],
    },
    /// [`Output::Noted`](bandsync_engine::io::Output::Noted).
    Noted {
        /// The number of the table's state.
        revision: u64,
    },
    /// [`Output::Release`](bandsync_engine::io::Output::Release).
    Release {
        /// The session.
        session: &'a SessionId,
        /// The session's epoch.
        epoch: u64,
    },
}
