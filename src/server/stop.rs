//! Ends the server: after a drain on the first signal, at once on the second, and with an error
//! when one of its own threads has ended.

use std::process::ExitCode;
use std::time::Duration;

use log::{error, info};
use signal_hook::consts::SIGINT;

use crate::ops::process::{self, print_line};
use crate::ops::signals::{Reason, Stopping};
use crate::server::start::Server;

/// Waits for a reason to end, then ends the server.
pub fn run(stopping: &Stopping, server: Server, drain_timeout: Duration) -> ExitCode {
    match stopping.wait() {
        Reason::Signal(signal) => {
            let name = if signal == SIGINT { "SIGINT" } else { "SIGTERM" };
            server.announce_end();
            info!("{name} received: draining for at most {} ms", drain_timeout.as_millis());
            process::notify("STOPPING=1");
            print_line("Stopping. Press Ctrl-C again to stop at once.");
            let well = server.drain(drain_timeout);
            print_line("Stopped.");
            if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        // The shard ended without a signal, so it panicked and its sessions are lost. The members
        // of the other shards receive a goodbye, and a supervisor restarts the server.
        Reason::ShardEnded => {
            error!("shard thread ended: stopping the server; a supervisor must restart it");
            server.drain(drain_timeout);
            ExitCode::FAILURE
        }
    }
}
