//! How the server ends: in order when it is told to, at once when it is told again, and with an
//! error when one of its own threads is lost.

use std::process::ExitCode;
use std::time::Duration;

use log::{error, info};
use signal_hook::consts::SIGINT;

use crate::ops::process::{self, tell};
use crate::ops::signals::{Reason, Stopping};
use crate::server::start::Server;

/// Waits for a reason to end, then ends the server.
pub fn run(stopping: &Stopping, server: Server, drain_timeout: Duration) -> ExitCode {
    match stopping.wait() {
        Reason::Signal(signal) => {
            let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
            server.announce_end();
            info!("{name}: saying goodbye, for at most {} ms", drain_timeout.as_millis());
            process::notify("STOPPING=1");
            tell("Stopping; once more to stop at once.");
            let well = server.drain(drain_timeout);
            tell("Stopped.");
            if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        // Nobody asked it to, so it panicked. Its sessions are gone and their members wait for
        // nothing; the other shards' members are told, and a supervisor starts the server anew.
        Reason::ShardEnded => {
            error!("a shard is lost: the server ends, so that a supervisor can start it anew");
            server.drain(drain_timeout);
            ExitCode::FAILURE
        }
    }
}
