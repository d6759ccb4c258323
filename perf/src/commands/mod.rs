//! The commands of `perf`, one module each.

pub mod clock;
pub mod compare;
pub mod counted;
pub mod floor;
pub mod goals;
pub mod growth;
pub mod handler;
pub mod load;
pub mod overhead;
pub mod proxy;
pub mod recording;
pub mod storage;
pub mod turns;
