//! The values that a clustered shard exchanges with the other nodes and with the store that all
//! nodes share: orders to that store, its answers, and messages.
//!
//! A session is decided by one node at a time, its owner. Other nodes with members of the session
//! hold a branch, which is a copy. All values are plain, so that they are recorded and replayed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::words::ids::SessionId;
use crate::words::time::Micros;

/// A running server of a cluster. Its text is `<number>.<incarnation>`, both decimal.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Ord, PartialOrd, Hash, Serialize, Deserialize)]
pub struct NodeId {
    /// The node's number in the cluster, from 1 to [`NodeId::NUMBER_MAX`].
    pub number: u16,
    /// A random number of the process, so that a restarted node is another one.
    pub incarnation: u64,
}

impl NodeId {
    /// Maximum number of a node. Specified: an epoch has eleven bits for it.
    pub const NUMBER_MAX: u16 = 2_047;
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.number, self.incarnation)
    }
}

/// The error for a text that names no node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotANode;

impl FromStr for NodeId {
    type Err = NotANode;

    fn from_str(text: &str) -> Result<Self, NotANode> {
        let (number, incarnation) = text.split_once('.').ok_or(NotANode)?;
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(number) || !is_digits(incarnation) {
            return Err(NotANode);
        }
        let number = number.parse().map_err(|_| NotANode)?;
        let incarnation = incarnation.parse().map_err(|_| NotANode)?;
        match (1..=Self::NUMBER_MAX).contains(&number) {
            true => Ok(Self { number, incarnation }),
            false => Err(NotANode),
        }
    }
}

/// The settings of a shard whose node belongs to a cluster.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The shard's node.
    pub node: NodeId,
    /// The number of buckets, which all nodes of the cluster share.
    pub buckets: u16,
    /// Time after which a node that gives no sign of life has lost its lease.
    pub lease_ttl: Micros,
}

/// News from the other nodes and from the shared store.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum NodeNews {
    /// The nodes of the cluster changed, or this is the first news. Every shard receives it, before
    /// any message of a new node.
    Table {
        /// The number of this state of the table, which only rises.
        revision: u64,
        /// The other nodes that live, in order of their numbers.
        peers: Vec<NodeId>,
    },
    /// A node seems to be gone: its leases have lapsed. Every shard receives it.
    Gone {
        /// The node.
        node: NodeId,
    },
    /// The standing of this node in a range of buckets changed. Every shard receives it.
    Standing {
        /// The first bucket.
        first: u16,
        /// The last bucket.
        last: u16,
        /// The standing.
        standing: Standing,
    },
    /// The answer to [`Output::Claim`](super::Output::Claim).
    Claimed {
        /// The session.
        session: SessionId,
        /// The result.
        outcome: ClaimOutcome,
    },
    /// The answer to [`Output::Commit`](super::Output::Commit).
    Committed {
        /// The session.
        session: SessionId,
        /// The epoch that was to be stored.
        epoch: u64,
        /// The version that was to be stored.
        version: u64,
        /// The result.
        outcome: CommitOutcome,
    },
    /// A message could not be queued, or no node received it.
    Unheard {
        /// The session of the message. `None`: it was for all shards.
        session: Option<SessionId>,
        /// The numbers of the nodes that did not receive it.
        to: Vec<u16>,
    },
    /// A message of another node, as its engine published it.
    Heard {
        /// The sender.
        from: NodeId,
        /// The message.
        body: Box<[u8]>,
    },
}

/// The standing of a node in a bucket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Standing {
    /// The node's lease is too young to take over sessions of others.
    New,
    /// The node may do everything.
    Full,
    /// The store does not answer.
    Alone,
}

/// A session as the shared store has it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The record, in the format of [`crate::record`].
    pub record: Box<[u8]>,
    /// The owner's notes about the session's branches; empty if there are none.
    pub branches: Box<[u8]>,
}

/// The result of claiming a session.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum ClaimOutcome {
    /// This node owns the session.
    Mine {
        /// The session's new epoch.
        epoch: u64,
        /// The stored session. `None`: it is new.
        stored: Option<Stored>,
    },
    /// Another node owns the session.
    Theirs {
        /// The owner.
        owner: NodeId,
        /// The session's epoch.
        epoch: u64,
        /// The stored session, if its owner has stored it already.
        stored: Option<Stored>,
    },
    /// The store did not answer, or what it has is damaged. The claim may be repeated.
    Unknown,
}

/// The result of storing a decision.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum CommitOutcome {
    /// The decision is stored and published.
    Done {
        /// The numbers of nodes that should have received the message and did not listen.
        deaf: Vec<u16>,
    },
    /// The decision is not stored, because another node owns the session.
    Lost {
        /// The stored epoch.
        epoch: u64,
        /// The owner, if there is one.
        owner: Option<NodeId>,
    },
    /// The order was not sent, so the store does not have the decision. It may be repeated.
    Unsent,
    /// The order was sent and not answered, so the store may have the decision. It may be repeated.
    Unknown,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_node_is_read_as_it_is_printed(number in 1..=NodeId::NUMBER_MAX, incarnation: u64) {
            let node = NodeId { number, incarnation };
            prop_assert_eq!(node.to_string().parse(), Ok(node));
        }
    }

    #[test]
    fn other_texts_name_no_node() {
        for text in
            ["", "1", "1.", ".1", "0.1", "2048.1", "+1.1", "1.1.1", "1.99999999999999999999"]
        {
            assert_eq!(text.parse::<NodeId>(), Err(NotANode), "{text:?}");
        }
    }
}
