//! Settings that are only understood together.

pub mod access;
pub mod storage;
