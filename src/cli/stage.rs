//! An engine that replays recorded inputs.

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

/// The engine and the outputs of its last input.
pub struct Stage {
    engine: Engine,
    limits: Limits,
    outputs: Outputs,
    digest: Digest,
    /// Copy of received bytes: the engine unmasks them in place.
    copy: Vec<u8>,
    panic: Option<String>,
}

impl Stage {
    /// Creates an engine with these settings.
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

    /// Feeds the next input to the engine. After a panic it is ignored.
    pub fn play(&mut self, entry: &Entry<'_>) -> Outcome {
        self.play_input(entry.at, &entry.input)
    }

    /// Feeds an input at its time, as [`Stage::play`] does.
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

    /// Takes the engine's measurements since the last call.
    pub fn samples(&mut self, each: impl FnMut(Sample, Micros)) {
        self.engine.samples().take(each);
    }

    /// Returns the outputs of the last input.
    pub fn outputs(&self) -> &Outputs {
        &self.outputs
    }

    /// Returns the message of the engine's panic, if it panicked.
    pub fn panic(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    /// Returns the limits of the engine.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

thread_local! {
    /// The message of this thread's last panic.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps messages of panics instead of printing them: they are part of the report. This process
/// runs nothing else.
fn listen_to_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            PANIC.with(|panic| *panic.borrow_mut() = info.to_string())
        }));
    });
}
