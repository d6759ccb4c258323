//! Operators' view of the process: its log, its text at start, and its dealings with the operating
//! system and other servers.

pub mod activation;
pub mod banner;
pub mod client;
pub mod logging;
pub mod mdns;
pub mod process;
pub mod signals;
pub mod tls;
