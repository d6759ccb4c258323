//! Many machines: owners, leases and messages between nodes, through Redis.
//!
//! Shards put orders into a bounded queue through the [`Courier`] handle, and never wait. One
//! thread for each primary carries them to Redis; others renew the leases, receive messages, keep
//! the table of nodes, compare clocks, and report standings. Answers and messages return through
//! [`Shards`]. Nothing here knows what a record or a message says.
//!
//! No decision depends on a lease or a clock: the scripts in Redis refuse whatever a node does that
//! does not own the session any more.

mod attune;
mod beat;
mod census;
mod clock;
mod courier;
mod epoch;
mod frame;
mod inbox;
mod join;
mod lanes;
mod layout;
mod lease;
mod line;
mod meters;
mod names;
mod order;
mod post;
mod probes;
mod readers;
mod reply;
mod roster;
mod running;
mod scripts;
mod shared;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod watch;

pub use bandsync_redis::Topology;
pub use clock::{Reading, Timepiece};
pub use join::{JoinError, Member, join};
pub use meters::{COMMIT_BOUNDS_US, Meters};
pub use order::{Courier, Order};
pub use post::Shards;
pub use readers::read_all;
pub use running::Running;
pub use shared::Plan;
pub use status::{NodeView, Status, View};
