//! The seam to what computes: the driver moves bytes for any [`Machine`].
//!
//! The engine is the one that a server runs. Small servers of the tools and the driver's own tests
//! run others, so that moving bytes can be measured and tested without the meaning of the bytes.

use bandsync_engine::io::report::{Disconnect, Sample};
use bandsync_engine::io::{Input, Outputs};
use bandsync_engine::words::time::Micros;

/// What a shard thread drives: inputs go in one at a time, outputs come out as values.
pub trait Machine: Send + 'static {
    /// Plain numbers about the machine, for others to read; the driver publishes them after every
    /// turn.
    type Counters: Copy + Default + Send + 'static;

    /// Takes in what happened at `at`, which never lies before that of the call before, and appends
    /// what is to be done to `out`. The bytes of [`Input::Received`] may be changed.
    fn handle(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs);

    /// When the machine wants an [`Input::TurnEnded`] even if nothing else happens.
    fn next_deadline(&self) -> Option<Micros>;

    /// Whether something that it does in time would be missed if it came a little late.
    fn is_ticking(&self) -> bool {
        true
    }

    /// After [`Input::Drain`]: whether nothing is left to be done, but for connections that opened
    /// since.
    fn is_drained(&self) -> bool;

    /// The numbers as of now.
    fn counters(&self) -> Self::Counters;

    /// Hands over what the machine measured since the last call.
    fn samples(&mut self, _each: impl FnMut(Sample, Micros)) {}

    /// Hands over which connections ended since the last call, and why.
    fn disconnects(&mut self, _each: impl FnMut(Disconnect)) {}

    /// Appends what people who run the server may want to see of the machine, as JSON. Called at
    /// most once a second, and only while somebody looks.
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
