//! What one shard keeps and does between its inputs and its outputs.

pub mod rate;
pub mod slots;
pub mod wheel;
