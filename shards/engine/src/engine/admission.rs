//! Messages between shards: a member that is in a session asks another shard whether it may join a
//! session there, and keeps its seat until the answer.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::io::Outputs;
use crate::speech::{Code, Command, Join, Reject};
use crate::wire::events::ClientEvent;
use crate::words::ids::{MemberId, RoomKey, ShardId};
use crate::words::time::Micros;

/// The fields that can be the reason for a rejection.
const FIELDS: [&str; 2] = ["passcode", "leaderPin"];

/// A message between shards, as the bytes of
/// [`Output::ShardMessage`](crate::io::Output::ShardMessage).
#[derive(Serialize, Deserialize)]
pub(super) enum ShardMessage {
    /// Asks whether a member may join.
    Ask(JoinRequest),
    /// The answer to such a request.
    Decided { request: JoinRequest, by: ShardId, rejected: Option<WireReject> },
}

/// A `join_session` from another shard.
#[derive(Serialize, Deserialize)]
pub(super) struct JoinRequest {
    /// The shard that asks.
    pub from: ShardId,
    /// The member's seat on that shard.
    pub seat: (RoomKey, MemberId),
    /// The number of the request on that shard. A member may return on another connection and ask
    /// again, so the seat does not identify a request.
    pub number: u64,
    /// The member's address.
    pub peer: IpAddr,
    /// The id under which the client wants an acknowledgement.
    pub ack: Option<u64>,
    /// The JSON of its first argument.
    pub payload: String,
}

/// A [`Reject`] between shards.
#[derive(Serialize, Deserialize)]
pub(super) struct WireReject {
    code: Code,
    message: String,
    field: Option<String>,
    retry_after: Option<Micros>,
}

impl From<Reject> for WireReject {
    fn from(reject: Reject) -> Self {
        // The asking shard has already rejected a join that is too large, and no join edits songs.
        let Reject { code, message, field, retry_after, excess: _, conflict: _ } = reject;
        Self { code, message: message.into_owned(), field: field.map(str::to_owned), retry_after }
    }
}

impl From<WireReject> for Reject {
    fn from(rejected: WireReject) -> Self {
        let named = |field: String| FIELDS.into_iter().find(|known| *known == field);
        let WireReject { code, message, field, retry_after } = rejected;
        Self { field: field.and_then(named), retry_after, ..Self::new(code, message) }
    }
}

impl JoinRequest {
    /// Returns the requested join, which the asking shard has read before.
    pub fn join(&self) -> Option<Join> {
        match ClientEvent::JoinSession.read(self.payload.as_str()) {
            Ok(Command::Join(join)) => Some(join),
            _ => None,
        }
    }

    /// Sends the decision to the shard that asked.
    pub fn decide(self, by: ShardId, rejected: Option<Reject>, out: &mut Outputs) {
        let (to, rejected) = (self.from, rejected.map(WireReject::from));
        ShardMessage::Decided { request: self, by, rejected }.send(to, out);
    }
}

impl ShardMessage {
    /// Reads a message. `None` if the bytes are no message, as in a trace that was changed.
    pub fn read(message: &[u8]) -> Option<Self> {
        postcard::from_bytes(message).ok()
    }

    /// Sends the message to a shard.
    pub fn send(&self, to: ShardId, out: &mut Outputs) {
        // Serializing plain values to a vector cannot fail.
        let message = postcard::to_allocvec(self).unwrap_or_default();
        assert!(!message.is_empty());
        out.shard_message(to, &message);
    }
}
