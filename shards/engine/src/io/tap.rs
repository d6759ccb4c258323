//! The seam for recording: a tap sees all inputs and outputs of a machine.

use super::{Input, Outputs};
use crate::words::time::Micros;

/// An observer of a machine, called on the shard's thread. It sees enough to run the machine again:
/// the inputs in order, and after each of them its outputs.
pub trait Tap: Send + 'static {
    /// Called before the machine gets `input`. Received bytes are still as they were read.
    fn input(&mut self, _at: Micros, _input: &Input<'_>) {}

    /// Called after the machine got that input. Its outputs are those of the list from index `from`
    /// on.
    fn outputs(&mut self, _outputs: &Outputs, _from: usize) {}
}

/// A tap that records nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTap;

impl Tap for NoTap {}
