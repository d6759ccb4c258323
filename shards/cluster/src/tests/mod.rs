//! Tests against real servers of Redis, which each test starts on a free port and ends.
#![allow(clippy::unwrap_used)]

mod clock;
mod failover;
mod faults;
mod nodes;
mod paused;
mod proxy;
mod scripts;
mod server;
