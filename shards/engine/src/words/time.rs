//! Points in time. There is deliberately no `now()`: time only ever arrives with an input.

use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

/// A point on the server's own monotonic clock, or a span of it, in microseconds since the server's
/// start.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
pub struct Micros(u64);

impl Micros {
    /// The server's start.
    pub const ZERO: Self = Self(0);

    /// From a count of microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// From a count of milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis * 1_000)
    }

    /// From a count of seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000)
    }

    /// As a count of microseconds.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// As a count of whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// The span from `earlier` to here, zero if `earlier` is later.
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

/// Wall-clock time in milliseconds since the Unix epoch, as existing clients expect in `timestamp`,
/// `joinedAt` and the like. For showing only: nothing is ever scheduled or ordered by it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct UnixMillis(pub i64);

/// One instant on both clocks: the monotonic one that everything is computed from, and the wall
/// clock that people read.
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
    fn subtracting_below_the_start_is_our_bug() {
        let _ = Micros::from_secs(1) - Micros::from_secs(2);
    }
}
