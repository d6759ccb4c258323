//! What the load generator, the floor and the comparison share.

pub mod alarm;
pub mod contest;
pub mod cpu;
pub mod frames;
pub mod gig;
pub mod latency;
pub mod plot;
pub mod report;
pub mod run;
pub mod server;
