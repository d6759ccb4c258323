//! The server as a whole: how it starts, what it records, and how it ends.

mod adapters;
pub mod record;
pub mod start;
pub mod stop;
