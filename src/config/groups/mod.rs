//! One file for each group of settings: the only place that reads them and knows what they mean
//! together.

pub mod access;
pub mod cluster;
pub mod connections;
pub mod logging;
pub mod monitoring;
pub mod recording;
pub mod sessions;
pub mod storage;
pub mod threads;
pub mod tls;
