//! Clocks that follow another one: an estimate of it from probes ([`BandClock`]), and the course by
//! which a node's clock approaches it without a jump ([`Course`]).
//!
//! Pure values: readings of clocks are passed in.

mod band;
mod course;

pub use band::{BandClock, Estimate, Limits};
pub use course::Course;
