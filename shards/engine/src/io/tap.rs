//! The seam for recording: sees everything that goes into a machine and comes out of it.

use super::{Input, Outputs};
use crate::words::time::Micros;

/// Called on the shard's thread. What it sees is enough to run the machine again: the inputs in
/// their order, and after each of them its outputs.
pub trait Tap: Send + 'static {
    /// The machine is about to be given `input`; received bytes are still as they were read.
    fn input(&mut self, _at: Micros, _input: &Input<'_>) {}

    /// The machine was given that input, and wants done what the list holds from the place `from`
    /// on.
    fn outputs(&mut self, _outputs: &Outputs, _from: usize) {}
}

/// Records nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTap;

impl Tap for NoTap {}
