//! The engine of a shard: bytes and time come in as [`io::Input`], and all that the driver has to
//! do goes out as [`io::Outputs`]. It only computes. It uses no clock, thread, file, socket,
//! environment or log, so the same inputs give the same outputs, byte for byte, on every machine.
//!
//! The way of the data: `bytes ▶ frames ▶ packets ▶ commands ▶ session ▶ effects ▶ packets ▶ frames
//! ▶ bytes`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod clock;
pub mod context;
mod delivery;
pub mod engine;
pub mod io;
pub mod record;
mod rooms;
pub mod session;
pub mod slots;
pub mod speech;
mod throttle;
pub mod timers;
pub mod trace;
pub mod transport;
pub mod wire;
pub mod words;
