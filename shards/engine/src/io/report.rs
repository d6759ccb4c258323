//! What the engine measures of itself, for its driver to take and sort into histograms.
//!
//! Plain values in a list that is emptied after every turn: the engine neither knows what becomes
//! of them nor decides anything by them.

use crate::words::time::Micros;

/// So many measures are kept until they are taken; what comes later is left out. A shard's turn has
/// fewer unless it is hopelessly behind, and then the first ones tell enough.
pub const MEASURES_MAX: usize = 4_096;

/// What was measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Measure {
    /// How much later than its deadline a session's tick was made.
    TickLateness,
    /// A round trip of the application's heartbeat to a member and back.
    RoundTrip,
}

/// Measures that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Measures(Vec<(Measure, Micros)>);

impl Measures {
    pub(super) fn add(&mut self, what: Measure, value: Micros) {
        if self.0.len() < MEASURES_MAX {
            self.0.push((what, value));
        }
    }

    /// Hands over all of them, in the order in which they were made. The list keeps its memory.
    pub fn take(&mut self, mut each: impl FnMut(Measure, Micros)) {
        for (what, value) in self.0.drain(..) {
            each(what, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_takes_does_not_pile_up() {
        let mut measures = Measures::default();
        for micros in 0..MEASURES_MAX as u64 + 5 {
            measures.add(Measure::RoundTrip, Micros::from_micros(micros));
        }
        let mut taken = Vec::new();
        measures.take(|_, value| taken.push(value.as_micros()));
        assert!(taken.iter().copied().eq(0..MEASURES_MAX as u64));
        measures.take(|_, _| panic!("they were taken"));
    }
}
