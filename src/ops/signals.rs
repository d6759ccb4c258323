//! Watches for reasons to end: signals, and shards that are lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};

use log::info;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::logging;

/// Why to end.
pub enum Reason {
    /// A signal asked for it.
    Signal(i32),
    /// A shard's thread has ended.
    ShardEnded,
}

/// Watches for reasons to end.
pub struct Stopping {
    reasons: Receiver<Reason>,
    /// Where reasons go.
    reason: Sender<Reason>,
}

impl Stopping {
    /// From here on SIGINT and SIGTERM are reasons to end, and a second one ends the process on the
    /// spot, with 128 and the signal's number as shells have it.
    ///
    /// SIGHUP only opens the log's file anew: a terminal that is closed by mistake must not end the
    /// gig. SIGPIPE is ignored by Rust's runtime already, so that a peer that left shows as an
    /// error of the write.
    pub fn watch() -> io::Result<Self> {
        let told = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order counts: the first signal finds the flag down, passes, and raises it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&told))?;
            flag::register(signal, Arc::clone(&told))?;
        }
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (reason, reasons) = channel();
        let tell = reason.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    // A terminal that was closed by mistake, or a program that rotates logs:
                    // neither ends the gig.
                    logging::reopen();
                    info!("SIGHUP: the server goes on; a log's file is opened anew");
                } else if tell.send(Reason::Signal(signal)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { reasons, reason })
    }

    /// Waits for a reason to end.
    pub fn wait(&self) -> Reason {
        // As this value holds a sender, there is always one who may give a reason.
        self.reasons.recv().unwrap_or(Reason::ShardEnded)
    }

    /// To be called when a shard's thread has ended.
    pub fn shard_ended(&self) -> impl Fn() + Clone + Send + 'static {
        let reason = self.reason.clone();
        move || {
            // Nobody listens any more when the server is ending anyway.
            let _ = reason.send(Reason::ShardEnded);
        }
    }
}
