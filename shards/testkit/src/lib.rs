//! Clients and engines for tests, measurements and tools only.
//!
//! [`TestClient`] talks to a server over a socket. [`Harness`] runs engines with clients that are
//! numbers, in one thread, on a clock that the caller moves. [`frames`] writes and reads the frames
//! of both. Errors panic, so that a test shows them at once.

pub mod client;
pub mod frames;
pub mod harness;

pub use client::TestClient;
pub use harness::Harness;
