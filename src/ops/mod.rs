//! What an operator sees of the process: its log, its start on the screen, and its dealings with the
//! operating system and with other servers.

pub mod banner;
pub mod client;
pub mod logging;
pub mod process;
pub mod signals;
