//! The shard driver: moves bytes, and does not know what they mean.
//!
//! One thread per shard polls its sockets, passes what arrives to a [`Machine`], and carries out
//! the outputs. Shards share nothing but bounded queues and metrics. [`Fleet::start`] starts the
//! shards of a server.

pub mod clock;
pub mod fleet;
pub mod host;
pub mod machine;
pub mod metrics;
pub mod telemetry;

mod accept;
mod budget;
mod chain;
mod closing;
mod connections;
mod crowds;
mod laps;
mod mail;
mod mio_net;
pub mod net;
mod notifier;
mod pin;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod ring;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
#[path = "no_ring.rs"]
mod ring;
mod shutdown;
mod thread;
mod timer_fd;
mod tls;
mod turn;
mod unsent;
mod writer;

pub use clock::{Clock, Steering};
pub use crowds::{Buffers, Piece};
pub use fleet::{Fleet, Mailer, Plan};
pub use host::{Asker, Host, NodeOrder, Order};
pub use laps::{LongestTurn, TurnPhase};
pub use machine::Machine;
pub use mail::{HandOver, Mail};
pub use metrics::{SharedMetrics, Stats};
pub use net::{Accepted, Net, Process, Readiness, SendRequest, Shell};
pub use pin::allowed_cores;
pub use shutdown::{LiveGuard, Shutdown};
pub use telemetry::Histograms;
pub use thread::End;
pub use turn::{Turn, TurnSizes};
pub use unsent::Unsent;
