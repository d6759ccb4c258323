//! Tests against real servers of Redis, which each test starts on a free port and ends.
#![allow(clippy::unwrap_used)]

mod failover;
mod nodes;
mod scripts;
mod server;
