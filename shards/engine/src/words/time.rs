//! Points in time. There is deliberately no `now()`: time only arrives with an input.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A point on the server's own monotonic clock in microseconds since its start, or a span of time.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct Micros(u64);

impl Micros {
    /// The server's start.
    pub const ZERO: Self = Self(0);

    /// Creates a time from microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Creates a time from milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000)
    }

    /// Creates a time from seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000)
    }

    /// Returns microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Returns whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// Returns the span from `earlier` to here; zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

impl Add for Micros {
    type Output = Self;

    /// Saturates: the end of time is 584 000 years away, so reaching it means "never".
    fn add(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Micros {
    type Output = Self;

    fn sub(self, span: Self) -> Self {
        assert!(self.0 >= span.0, "time before the start: {} - {} µs", self.0, span.0);
        Self(self.0 - span.0)
    }
}

/// Wall-clock time in milliseconds since the Unix epoch, as clients expect it in `timestamp`,
/// `joinedAt` and the like. It is only for display: nothing is scheduled or ordered by it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct UnixMillis(pub i64);

/// One instant on both clocks: the monotonic one, from which everything is computed, and the wall
/// clock, which people read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Moment {
    /// The server's monotonic clock.
    pub at: Micros,
    /// The wall clock at that instant.
    pub unix: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_saturates_at_never() {
        assert_eq!(
            Micros::from_micros(u64::MAX) + Micros::from_secs(1),
            Micros::from_micros(u64::MAX)
        );
    }

    #[test]
    fn since_is_zero_for_a_later_point() {
        assert_eq!(Micros::from_secs(1).since(Micros::from_secs(2)), Micros::ZERO);
        assert_eq!(Micros::from_secs(3).since(Micros::from_secs(2)), Micros::from_secs(1));
    }

    #[test]
    #[should_panic(expected = "time before the start")]
    fn subtracting_below_the_start_panics() {
        let _ = Micros::from_secs(1) - Micros::from_secs(2);
    }
}
