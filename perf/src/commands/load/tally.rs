//! Measurements: each message against its schedule.

use bandsync_perf::latency::Times;
use bandsync_perf::timer_fd::Nanos;

use super::member::Member;

/// A tick that comes earlier than its grid point by at most this part of the interval still belongs
/// to that point.
const SLACK_PART: Nanos = 16;

/// The counts of a measurement.
#[derive(Debug, Default)]
pub struct Tally {
    pub ticks: u64,
    pub chats: u64,
    pub joins: u64,
    pub broken: u64,
    pub rejected: u64,
    /// Messages and their bytes, of all kinds.
    pub messages: u64,
    pub bytes: u64,
    /// Chat messages that should have been delivered.
    pub chats_due: u64,
    /// Time from the grid point to the tick's arrival. A tick that never came counts as the time
    /// until the member's next tick.
    pub lateness: Times,
    /// Time between two ticks of a member that receives all of them.
    pub gaps: Times,
    /// Time between the first and the last member of a session to receive the same tick.
    pub spread: Times,
    /// Time from when a probe should have been sent to its answer.
    pub probes: Times,
    /// Time from when a message should have been sent to its arrival at each member.
    pub chat: Times,
    /// Time from when a connection should have begun to its snapshot.
    pub setup: Times,
    /// Delay of the generator itself, which all other times include.
    pub own: Times,
}

/// Maximum ticks of a session that its grid is learned from.
const LEARNED_MAX: usize = 128;

/// The grid of a session's ticks, learned from its first ones.
#[derive(Debug, Default)]
pub struct Grid {
    interval: Nanos,
    /// Arrivals of ticks before the measurement, each at the first member.
    learned: Vec<Nanos>,
    /// A point of the grid before the measurement.
    origin: Option<Nanos>,
    /// Number of the tick that is arriving, with its first and last arrival.
    current: (u64, Nanos, Nanos),
}

impl Grid {
    pub fn new(interval: Nanos) -> Self {
        Self { interval, ..Self::default() }
    }

    /// Learns from a tick before the measurement.
    pub fn learn(&mut self, at: Nanos) {
        let is_next = self.learned.last().is_none_or(|last| at > last + self.interval / 2);
        if is_next && self.learned.len() < LEARNED_MAX {
            self.learned.push(at);
        }
    }

    /// Fixes the grid through the tick that makes the sum of all latenesses smallest. A tick that
    /// is early once, or late by more than half an interval, does not move it.
    pub fn fix(&mut self) {
        let late = |origin: Nanos, at: &Nanos| {
            let interval = self.interval as i64;
            (*at as i64 - origin as i64).rem_euclid(interval) as Nanos
        };
        let all_late =
            |origin: &&Nanos| self.learned.iter().map(|at| late(**origin, at)).sum::<Nanos>();
        self.origin = self.learned.iter().min_by_key(all_late).copied();
    }

    /// Returns the tick's number on the grid and its lateness.
    fn slot(&mut self, at: Nanos) -> (u64, Nanos) {
        let since = at.saturating_sub(*self.origin.get_or_insert(at));
        let slot = (since + self.interval / SLACK_PART) / self.interval;
        (slot, since.saturating_sub(slot * self.interval))
    }
}

impl Tally {
    /// Records the arrival of a tick.
    #[inline]
    pub fn tick(&mut self, member: &mut Member, grid: &mut Grid, at: Nanos) {
        self.ticks += 1;
        let (slot, late) = grid.slot(at);
        self.lateness.record(late);
        if let Some((before, then)) = member.tick.replace((slot, at))
            && member.stride == 1
        {
            self.gaps.record(at.saturating_sub(then));
            for lost in before + 1..slot {
                self.lateness.record(late + (slot - lost) * grid.interval);
            }
        }
        let (current, first, last) = grid.current;
        if slot == current {
            grid.current.2 = at;
        } else if slot > current {
            if last > first {
                self.spread.record(last - first);
            }
            grid.current = (slot, at, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use bandsync_perf::timer_fd::MILLISECOND;

    use super::*;

    const GRID: Nanos = 16 * MILLISECOND;

    #[test]
    fn the_grid_is_aligned_with_the_least_late_tick() {
        let mut grid = Grid::new(GRID);
        for (number, late) in [3, 5, 2, 9].into_iter().enumerate() {
            grid.learn((1_000 + number as u64) * GRID + late * MILLISECOND);
        }
        grid.fix();
        let origin = 1_002 * GRID + 2 * MILLISECOND;
        assert_eq!(grid.slot(origin + 10 * GRID), (10, 0));
        assert_eq!(grid.slot(origin + 10 * GRID + 7 * MILLISECOND), (10, 7 * MILLISECOND));
        assert_eq!(grid.slot(origin + 10 * GRID - MILLISECOND / 2), (10, 0));
    }

    #[test]
    fn a_tick_that_is_very_late_does_not_move_the_grid() {
        for very_late in [7, 9, 12, 15] {
            for odd_one in [0, 13, 31] {
                let mut grid = Grid::new(GRID);
                for number in 0..32 {
                    let late = if number == odd_one { very_late * MILLISECOND } else { 0 };
                    let at = (1_000 + number) * GRID + late;
                    grid.learn(at);
                    grid.learn(at + 1_000);
                }
                grid.fix();
                let (_, late) = grid.slot(2_000 * GRID + MILLISECOND);
                assert_eq!(late, MILLISECOND, "{very_late} ms in slot {odd_one}");
            }
        }
    }
}
