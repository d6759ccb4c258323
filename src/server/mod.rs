//! The server as a whole: its start, its recording, and its end.

mod adapters;
mod node;
pub mod record;
pub mod start;
pub mod stop;
