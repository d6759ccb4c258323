//! Waits for reasons to stop: signals, and lost shards.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender, channel};

use log::info;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::logging;

/// A reason to stop.
pub enum Reason {
    /// A signal.
    Signal(i32),
    /// A shard's thread has ended.
    ShardEnded,
}

/// Collects reasons to stop.
pub struct Stopping {
    reasons: Receiver<Reason>,
    /// The queue of reasons.
    reason: Sender<Reason>,
}

impl Stopping {
    /// From here on SIGINT and SIGTERM are reasons to stop. A second one ends the process at once,
    /// with 128 plus the signal's number, as in shells.
    ///
    /// SIGHUP only reopens the log's file and calls `hang_up`: a terminal that is closed by mistake must not end the
    /// gig. Rust's runtime ignores SIGPIPE, so a closed pipe is an error of the write.
    pub fn watch(hang_up: impl Fn() + Send + 'static) -> io::Result<Self> {
        let signalled = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // The order matters: the first signal finds the flag down, passes, and raises it.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&signalled))?;
            flag::register(signal, Arc::clone(&signalled))?;
        }
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (reason, reasons) = channel();
        let sender = reason.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    // A terminal was closed by mistake, or a program rotates logs: neither ends the
                    // gig.
                    logging::reopen();
                    info!("SIGHUP: reopening the log's file");
                    hang_up();
                } else if sender.send(Reason::Signal(signal)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { reasons, reason })
    }

    /// Waits for a reason to stop.
    pub fn wait(&self) -> Reason {
        // This value holds a sender, so the channel stays open.
        self.reasons.recv().unwrap_or(Reason::ShardEnded)
    }

    /// Returns a function to call when a shard's thread has ended.
    pub fn shard_ended(&self) -> impl Fn() + Clone + Send + 'static {
        let reason = self.reason.clone();
        move || {
            // The receiver is gone only if the server is stopping already.
            let _ = reason.send(Reason::ShardEnded);
        }
    }
}
