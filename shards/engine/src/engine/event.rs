//! A client event on its way through the engine, and what it leads to.

use serde::{Deserialize, Serialize};

use crate::wire::json::{self, Value};
use crate::words::ids::{ConnId, Offset, RecoveryToken, ShardId};

/// What a packet leads to.
pub(super) enum Next {
    /// The next one.
    Go,
    /// The connection is closed.
    Gone,
    /// The connection goes to another shard, which handles what asked for it.
    Move(ShardId, Reason),
    /// Nothing, until the session that it joins, or its shard, was asked.
    Hold,
}

/// What takes a connection to another shard.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reason {
    /// A `join_session`.
    Join {
        /// Under which id it is to be acknowledged.
        ack: Option<u64>,
        /// The JSON of its first argument.
        payload: String,
    },
    /// A connect of somebody who was in a session there.
    Recover {
        /// As whom.
        pid: RecoveryToken,
        /// What it saw last.
        offset: Offset,
    },
}

/// A client event on its way through the engine.
#[derive(Clone, Copy)]
pub(super) struct EventCall<'a> {
    /// Who says it.
    pub conn: ConnId,
    /// The event's name.
    pub name: &'a str,
    /// Whether, and as what, it wants an acknowledgement.
    pub ack: Option<u64>,
    /// Its first argument.
    pub payload: Value<'a>,
    /// The array of all of it as it was written, if `payload` is not.
    pub array: &'a str,
}

impl EventCall<'_> {
    /// Its first argument as it was written, empty if there is none.
    pub fn written(&self) -> String {
        self.payload.written().or_else(|| json::argument(self.array)).unwrap_or_default().to_owned()
    }
}
