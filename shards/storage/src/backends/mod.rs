//! Where sessions are kept.

pub mod file;
pub mod redis;
