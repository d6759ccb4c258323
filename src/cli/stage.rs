//! An engine that is fed recorded inputs.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use bandsync_engine::engine::Engine;
use bandsync_engine::io::report::Sample;
use bandsync_engine::io::{Outputs, Settings};
use bandsync_engine::trace::{Digest, Outcome, Recorded};
use bandsync_engine::words::limits::Limits;
use bandsync_engine::words::time::Micros;
use bandsync_trace::format::Entry;

/// The engine and what came of the last input.
pub struct Stage {
    engine: Engine,
    limits: Limits,
    outputs: Outputs,
    digest: Digest,
    /// Received bytes, for the engine unmasks them where they lie.
    copy: Vec<u8>,
    panic: Option<String>,
}

impl Stage {
    /// A fresh engine with these settings.
    pub fn new(settings: Settings) -> Self {
        listen_to_panics();
        Self {
            limits: settings.limits.clone(),
            engine: Engine::new(settings),
            outputs: Outputs::default(),
            digest: Digest::default(),
            copy: Vec::new(),
            panic: None,
        }
    }

    /// Gives the engine the next input. After a panic it takes no more.
    pub fn play(&mut self, entry: &Entry<'_>) -> Outcome {
        self.play_input(entry.at, &entry.input)
    }

    /// The same by time and input.
    pub fn play_input(&mut self, at: Micros, input: &Recorded<'_>) -> Outcome {
        self.outputs.clear();
        if self.panic.is_some() {
            return Outcome::Panic;
        }
        let Self { engine, outputs, copy, .. } = self;
        let handled =
            catch_unwind(AssertUnwindSafe(|| engine.handle(at, input.to_input(copy), outputs)));
        if handled.is_err() {
            self.panic = Some(PANIC.take());
            return Outcome::Panic;
        }
        match self.outputs.list.len() as u32 {
            0 => Outcome::Nothing,
            count => {
                self.digest.add(&self.outputs, 0);
                Outcome::Outputs { count, digest: self.digest.sum() }
            }
        }
    }

    /// What the engine measured of itself since this was asked last.
    pub fn measures(&mut self, each: impl FnMut(Sample, Micros)) {
        self.engine.measures().take(each);
    }

    /// What the last input made it want done.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// With what message it panicked.
    pub fn panic(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    /// The limits of the engine.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

thread_local! {
    /// The message of this thread's last panic.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps messages of panics instead of printing them: they are part of the report. This process
/// does nothing else.
fn listen_to_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            PANIC.with(|panic| *panic.borrow_mut() = info.to_string())
        }));
    });
}
