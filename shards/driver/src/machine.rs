//! The seam to the code that computes: the driver moves bytes for any [`Machine`].
//!
//! A server runs the engine. The conformance servers of `tools` and the driver's own tests run
//! other machines, so that moving bytes can be measured and tested alone.

use bandsync_engine::io::report::{Disconnect, Sample};
use bandsync_engine::io::{Input, Outputs};
use bandsync_engine::words::time::Micros;

/// The state machine of a shard: inputs go in one at a time, outputs come out as values.
pub trait Machine: Send + 'static {
    /// Numbers about the machine. The driver publishes them after every turn for other threads.
    type Counters: Copy + Default + Send + 'static;

    /// Handles an input that happened at `at`, and appends its outputs to `out`. Time never goes
    /// back from call to call. The machine may change the bytes of [`Input::Received`].
    fn handle(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs);

    /// Returns the time at which the machine needs an [`Input::TurnEnded`] even if nothing else
    /// happens.
    fn next_deadline(&self) -> Option<Micros>;

    /// Whether the machine has deadlines for which milliseconds matter, as those of ticks.
    fn is_ticking(&self) -> bool {
        true
    }

    /// Whether the machine has nothing left to do after [`Input::Drain`]. Connections that opened
    /// since do not count.
    fn is_drained(&self) -> bool;

    /// Returns the current numbers.
    fn counters(&self) -> Self::Counters;

    /// Passes each sample since the last call to `_each`.
    fn samples(&mut self, _each: impl FnMut(Sample, Micros)) {}

    /// Passes each connection that ended since the last call to `_each`, with the reason.
    fn disconnects(&mut self, _each: impl FnMut(Disconnect)) {}

    /// Appends a description of the machine's state for operators, as JSON. Called at most once per
    /// second, and only while an operator looks at it.
    fn roster(&self, _out: &mut Vec<u8>) {}
}

impl Machine for bandsync_engine::engine::Engine {
    type Counters = bandsync_engine::io::report::Counters;

    fn handle(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs) {
        self.handle(at, input, out);
    }

    fn next_deadline(&self) -> Option<Micros> {
        self.next_deadline()
    }

    fn is_ticking(&self) -> bool {
        self.is_ticking()
    }

    fn is_drained(&self) -> bool {
        self.is_drained()
    }

    fn counters(&self) -> Self::Counters {
        self.counters()
    }

    fn samples(&mut self, each: impl FnMut(Sample, Micros)) {
        self.samples().take(each);
    }

    fn disconnects(&mut self, each: impl FnMut(Disconnect)) {
        self.disconnects().take(each);
    }

    fn roster(&self, out: &mut Vec<u8>) {
        self.roster(out);
    }
}
