//! The way to Redis: its addresses, connections to those servers that accept writes, the slots of a
//! Cluster, and the fields of a stored session.
//!
//! The storage and the cluster share it, because neither may depend on the other: the storage runs
//! without a cluster, and the cluster takes the storage's place. It starts no thread and decides
//! nothing.

mod about;
mod connect;
mod endpoint;
mod fields;
mod slots;
mod wire;

pub use about::{About, about};
pub use connect::{
    Answer, Connect, elsewhere, host_of, info_field, is_unreadable, lost, open, open_any,
    open_primary, receive, redirection,
};
pub use endpoint::{Endpoint, Topology, TopologyError};
pub use fields::fields;
pub use redis::ConnectionAddr;
pub use slots::{Range, SLOTS, covers_all, ranges, slot_of};
pub use wire::Wire;
