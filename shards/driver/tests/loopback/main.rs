//! The driver between real sockets on the loopback device.
#![allow(clippy::unwrap_used)]

mod bytes;
mod closing;
mod crowds;
mod draining;
mod hand_over;
mod machines;
mod support;
