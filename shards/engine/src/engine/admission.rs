//! Messages between shards: a member that is in a session asks another shard whether it may join
//! one there, and keeps its seat until the answer.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::io::Outputs;
use crate::speech::{Code, Command, Join, Reject};
use crate::wire::events::ClientEvent;
use crate::words::ids::{MemberId, RoomKey, ShardId};
use crate::words::time::Micros;

/// The fields for which a join may be rejected.
const FIELDS: [&str; 2] = ["passcode", "leaderPin"];

/// A message between shards, as the bytes of
/// [`Output::ShardMessage`](crate::io::Output::ShardMessage).
#[derive(Serialize, Deserialize)]
pub(super) enum ShardMessage {
    /// Asks whether a member may join.
    Ask(JoinRequest),
    /// The answer to that.
    Decided { request: JoinRequest, by: ShardId, rejected: Option<WireReject> },
}

/// A `join_session` from another shard.
#[derive(Serialize, Deserialize)]
pub(super) struct JoinRequest {
    /// The shard that asks.
    pub from: ShardId,
    /// The member's seat there.
    pub seat: (RoomKey, MemberId),
    /// Its number among the requests of that shard: a member may come back on another connection,
    /// and ask again.
    pub number: u64,
    /// The member's address.
    pub peer: IpAddr,
    /// The id under which it is to be acknowledged.
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
        // A join that is too large was rejected by the shard that asks.
        let Reject { code, message, field, retry_after, excess: _ } = reject;
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
    /// The join that it asks for, which the other shard has read before.
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
    /// Reads a message. `None` if it is none of ours, so from a trace that was tampered with.
    pub fn read(message: &[u8]) -> Option<Self> {
        postcard::from_bytes(message).ok()
    }

    /// Sends it to a shard.
    pub fn send(&self, to: ShardId, out: &mut Outputs) {
        // Writing plain values to a vector fails only if one of them refuses, which none of ours
        // does.
        let message = postcard::to_allocvec(self).unwrap_or_default();
        assert!(!message.is_empty());
        out.shard_message(to, &message);
    }
}
