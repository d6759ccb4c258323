//! What is measured: each message against the schedule it should have kept.

use bandsync_perf::alarm::{MILLISECOND, Nanos};
use bandsync_perf::latency::Times;

use super::member::Member;

/// A tick that comes this much before the grid still belongs to its own place on it.
const SLACK: Nanos = MILLISECOND;

/// All that is counted while measuring.
#[derive(Debug, Default)]
pub struct Tally {
    pub ticks: u64,
    pub chats: u64,
    pub joins: u64,
    pub broken: u64,
    pub refused: u64,
    /// Messages and their bytes, of all kinds.
    pub messages: u64,
    pub bytes: u64,
    /// Chat messages that should have been delivered.
    pub chats_due: u64,
    /// From the time on the grid to the tick's arrival. A tick that never came is counted as long as its member
    /// had to wait for the next.
    pub lateness: Times,
    /// Between two ticks of a member that gets all of them.
    pub gaps: Times,
    /// Between the first and the last member of a session to get the same tick.
    pub spread: Times,
    /// From when a probe should have been sent to its answer.
    pub probes: Times,
    /// From when a message should have been sent to its arrival at each member.
    pub chat: Times,
    /// From when a connection should have been begun to its snapshot.
    pub setup: Times,
}

/// The grid on which a session's ticks should come, learned from its first ones.
#[derive(Debug, Default)]
pub struct Grid {
    interval: Nanos,
    /// Any tick's arrival; all others are seen against it.
    base: Option<Nanos>,
    /// How much earlier or later than the grid through the base the earliest tick came.
    earliest: i64,
    /// The place of the tick that is arriving at the members now, and when it came first and last.
    current: (u64, Nanos, Nanos),
}

impl Grid {
    pub fn new(interval: Nanos) -> Self {
        Self { interval, ..Self::default() }
    }

    /// Learns from a tick before measuring: the grid goes through the one that was the least late.
    pub fn learn(&mut self, at: Nanos) {
        let base = *self.base.get_or_insert(at);
        let interval = self.interval as i64;
        let off = (at as i64 - base as i64 + interval / 2).rem_euclid(interval) - interval / 2;
        self.earliest = self.earliest.min(off);
    }

    /// The tick's place on the grid and how late it is for that.
    fn place(&self, at: Nanos) -> (u64, Nanos) {
        let origin = self.base.unwrap_or(at).saturating_add_signed(self.earliest);
        let since = at.saturating_sub(origin);
        let place = (since + SLACK) / self.interval;
        (place, since.saturating_sub(place * self.interval))
    }
}

impl Tally {
    /// A tick arrives.
    #[inline]
    pub fn tick(&mut self, member: &mut Member, grid: &mut Grid, at: Nanos) {
        self.ticks += 1;
        let (place, late) = grid.place(at);
        self.lateness.record(late);
        if let Some((before, then)) = member.tick.replace((place, at))
            && member.stride == 1
        {
            self.gaps.record(at.saturating_sub(then));
            for lost in before + 1..place {
                self.lateness.record(late + (place - lost) * grid.interval);
            }
        }
        let (current, first, last) = grid.current;
        if place == current {
            grid.current.2 = at;
        } else if place > current {
            if last > first {
                self.spread.record(last - first);
            }
            grid.current = (place, at, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: Nanos = 16 * MILLISECOND;

    #[test]
    fn the_grid_goes_through_the_earliest_tick() {
        let mut grid = Grid::new(GRID);
        for late in [3, 5, 2, 9] {
            grid.learn(1_000 * GRID + late * GRID + late * MILLISECOND);
        }
        let origin = 1_000 * GRID + 3 * GRID + 2 * MILLISECOND;
        assert_eq!(grid.place(origin + 10 * GRID), (10, 0));
        assert_eq!(grid.place(origin + 10 * GRID + 7 * MILLISECOND), (10, 7 * MILLISECOND));
        assert_eq!(grid.place(origin + 10 * GRID - SLACK / 2), (10, 0));
    }
}
