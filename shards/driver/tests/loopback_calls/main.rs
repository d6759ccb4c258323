//! The tests of `loopback`, with a system call for each send, as on machines without io_uring.
#![allow(clippy::unwrap_used)]

#[path = "../loopback/bytes.rs"]
mod bytes;
#[path = "../loopback/closing.rs"]
mod closing;
#[path = "../loopback/crowds.rs"]
mod crowds;
#[path = "../loopback/draining.rs"]
mod draining;
#[path = "../loopback/hand_over.rs"]
mod hand_over;
#[path = "../loopback/machines.rs"]
mod machines;
#[path = "../loopback/support.rs"]
mod support;
