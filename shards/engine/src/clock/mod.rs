//! Clocks that follow another one: an estimate of it from probes ([`BandClock`]), and the course by
//! which a node's clock approaches it without a jump.
//!
//! Pure values: readings of clocks are passed in.

mod band;

pub use band::{BandClock, Estimate, MAX_SKEW};
