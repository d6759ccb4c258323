//! Parts that the load generator, the floor and the comparison share.

use std::env;
use std::path::PathBuf;

pub mod contest;
pub mod cpu;
pub mod gig;
pub mod latency;
pub mod network;
pub mod plot;
pub mod proxy;
pub mod report;
pub mod run;
pub mod server;
pub mod timer_fd;

/// Returns the path of `name` in cargo's folder: `CARGO_TARGET_DIR`, or `target` if it is unset or
/// empty.
pub fn target(name: &str) -> PathBuf {
    let folder = env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    folder.map_or_else(|| PathBuf::from("target"), PathBuf::from).join(name)
}
