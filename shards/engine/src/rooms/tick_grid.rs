//! The grid of times at which a session ticks, and the share of ticks that a member receives.

use crate::words::time::Micros;

/// Distance between two times at which sessions of a shard may tick.
///
/// Sessions in one slot share a turn: one wake-up, one timer and one io_uring submission instead of
/// one each. A session keeps its slot, so it ticks as evenly as alone. Until the core is saturated,
/// the last session of a slot is late by less than one slot.
const SLOT: Micros = Micros::from_micros(500);

/// The times of a session's ticks. They depend on the clock alone: a late tick never delays the
/// ones after it.
#[derive(Clone, Copy, Debug)]
pub struct TickGrid {
    interval: u64,
    /// Distance of the grid's origin before the shard's start, in microseconds. It differs between
    /// sessions, so that neither all ticks nor all ticks of members that want one per second
    /// coincide.
    shift: u64,
}

impl TickGrid {
    /// Creates the grid of a session. A random `spread` distributes the sessions of a shard.
    pub fn new(interval: Micros, spread: u64) -> Self {
        /// More ticks than any stride.
        const STRIDES: u64 = 1 << 16;
        let interval = interval.as_micros();
        debug_assert!(interval > 0, "the interval is positive");
        let shift = spread % (interval * STRIDES);
        Self { interval, shift: shift - shift % interval % SLOT.as_micros() }
    }

    /// Returns the number of the last tick up to `now`.
    pub fn tick_at(self, now: Micros) -> u64 {
        (now.as_micros() + self.shift) / self.interval
    }

    /// Returns the time at which a tick is due. The tick must not lie before the shard's start.
    pub fn time_of(self, tick: u64) -> Micros {
        debug_assert!(tick * self.interval >= self.shift, "tick {tick} is before the start");
        Micros::from_micros(tick * self.interval - self.shift)
    }
}

/// Returns the stride of a member: it receives one tick in this many, the closest to the rate that
/// it asked for. 0 means none.
pub fn stride(tick_hz: Option<u8>, interval: Micros) -> u16 {
    match tick_hz {
        None => 1,
        Some(0) => 0,
        Some(hz) => {
            let apart = 1_000_000 / u64::from(hz);
            let ticks = (apart + interval.as_micros() / 2) / interval.as_micros();
            ticks.clamp(1, u64::from(u16::MAX)) as u16
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_a_grid_are_one_interval_apart() {
        for spread in [0, 1, 15_999, 16_000, 123_456_789, u64::MAX] {
            let grid = TickGrid::new(Micros::from_millis(16), spread);
            let next = grid.tick_at(Micros::ZERO) + 1;
            for tick in next..next + 5 {
                let at = grid.time_of(tick);
                assert_eq!(grid.tick_at(at), tick, "{spread}");
                assert_eq!(grid.tick_at(at - Micros::from_micros(1)), tick - 1, "{spread}");
                assert_eq!(grid.time_of(tick + 1) - at, Micros::from_millis(16), "{spread}");
            }
        }
    }

    #[test]
    fn sessions_spread_over_all_tick_phases() {
        let tick = |spread| {
            TickGrid::new(Micros::from_millis(16), spread).time_of(1 << 17).as_micros() % 16_000
        };
        let moments: std::collections::BTreeSet<u64> = (0..16_000 * 3).map(tick).collect();
        assert_eq!(moments.len(), 32);
        assert!(moments.iter().all(|at| at % 500 == 0));
    }

    #[test]
    fn a_stride_is_the_closest_to_the_requested_rate() {
        let interval = Micros::from_millis(16);
        let cases = [
            (None, 1),
            (Some(0), 0),
            (Some(125), 1),
            (Some(60), 1),
            (Some(30), 2),
            (Some(2), 31),
            (Some(1), 63),
        ];
        for (hz, ticks) in cases {
            assert_eq!(stride(hz, interval), ticks, "{hz:?} Hz");
        }
    }
}
