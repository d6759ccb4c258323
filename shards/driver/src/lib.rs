//! The shard driver: moves bytes only. One thread per shard polls its sockets, hands what arrives
//! to a [`Machine`] and does what that says; between shards there are bounded queues and nothing
//! else.
//!
//! [`Fleet::start`] starts the shards of a server. What the bytes mean, the driver never asks.

pub mod board;
pub mod clock;
pub mod fleet;
pub mod gauge;
pub mod host;
pub mod machine;
pub mod recorder;
pub mod tap;

mod accept;
mod bell;
mod chain;
mod closing;
mod conns;
mod ending;
mod intake;
mod mail;
mod pin;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod ring;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
#[path = "no_ring.rs"]
mod ring;
mod shard;
mod timer;
mod unsent;
mod write;

pub use board::{Board, Stats};
pub use clock::Clock;
pub use fleet::{Fleet, Plan, Post};
pub use gauge::Gauges;
pub use host::{Asker, Host, Order};
pub use machine::Machine;
pub use pin::allowed_cores;
pub use recorder::{Backlog, RecordPlan, Recorder, ShardRecorder};
pub use shard::End;
pub use tap::{NoTap, Tap};
