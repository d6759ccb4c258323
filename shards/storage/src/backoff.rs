//! Pauses before a failed operation is retried: from 100 ms to 5 s, longer each time, and random,
//! so that servers that lost the same Redis do not return at the same moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The shortest pause.
pub const PAUSE_MIN: Duration = Duration::from_millis(100);

/// The longest.
pub const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The pauses after consecutive failures.
#[derive(Debug)]
pub struct Backoff {
    last: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { last: PAUSE_MIN }
    }
}

impl Backoff {
    /// Returns the pause after another failure; `chance` is any number.
    pub fn pause(&mut self, chance: u64) -> Duration {
        // Up to three times the last pause: on average a pause grows by half, and two servers soon
        // differ.
        let most = (self.last * 3).min(PAUSE_MAX);
        let spread = (most - PAUSE_MIN).as_millis() as u64 + 1;
        self.last = PAUSE_MIN + Duration::from_millis(chance % spread);
        self.last
    }

    /// Makes the next failure count as the first.
    pub fn reset(&mut self) {
        self.last = PAUSE_MIN;
    }
}

/// Returns a number that differs each time.
pub fn chance() -> u64 {
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_stay_within_their_bounds(chances in proptest::collection::vec(any::<u64>(), 1..50)) {
            let mut backoff = Backoff::default();
            let mut last = PAUSE_MIN;
            for chance in chances {
                let pause = backoff.pause(chance);
                prop_assert!(pause >= PAUSE_MIN && pause <= PAUSE_MAX && pause <= last * 3, "{pause:?} after {last:?}");
                last = pause;
            }
            backoff.reset();
            prop_assert!(backoff.pause(u64::MAX) <= PAUSE_MIN * 3);
        }
    }

    #[test]
    fn pauses_grow_and_differ() {
        let mut backoff = Backoff::default();
        // The greatest remainder of all spreads on the way.
        let longest: Vec<u128> =
            [200, 800, 2_600, 4_900].map(|rest| backoff.pause(rest).as_millis()).to_vec();
        assert_eq!(longest, [300, 900, 2_700, 5_000]);
        assert_ne!(chance(), chance());
    }
}
