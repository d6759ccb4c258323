//! What the rest of the server does for the shards: answers HTTP requests that the engine does not
//! answer itself, and keeps sessions.

use bandsync_engine::io::{HttpRequest, HttpResponse};
use bandsync_engine::words::ids::{ConnId, SessionId, ShardId};

/// Called on the shard's thread, within the turn that asks. Everything must be ready or quick to
/// do: as long as it takes, the shard plays no music.
pub trait Host: Send + Sync + 'static {
    /// The answer to `request`, for [`Output::Request`](bandsync_engine::io::Output::Request).
    /// `None` if it takes longer than a turn may: then [`Mailer::answer`](crate::Mailer::answer)
    /// brings it to the asker.
    fn answer(&self, asker: Asker, request: &HttpRequest) -> Option<HttpResponse>;

    /// Gives back to the system what the shard's thread, which calls this, keeps for later use: now
    /// and then while no band plays, and each second while memory is scarce and the machine has let
    /// go what it could.
    fn trim(&self) {}

    /// Takes an order for the storage, whose answer comes by [`Mailer`](crate::Mailer) later. False
    /// if it cannot be taken now; then there will be no answer. A host without a storage takes
    /// none.
    fn store(&self, _shard: ShardId, _order: Order<'_>) -> bool {
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

/// What a shard wants of the storage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order<'a> {
    /// [`Output::Load`](bandsync_engine::io::Output::Load).
    Load(&'a SessionId),
    /// [`Output::Store`](bandsync_engine::io::Output::Store).
    Store {
        /// Which session.
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
        /// Which session.
        session: &'a SessionId,
        /// Its epoch.
        epoch: u64,
    },
}
