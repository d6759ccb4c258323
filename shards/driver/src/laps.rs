//! Divides a turn's time among its phases, with the clock readings that the turn makes anyway.
//!
//! The time between two readings counts for the phase in which the second one was made, so a phase
//! may get what the end of the phase before took: microseconds. Where a phase can take long and
//! makes no reading of its own, the turn makes one, and only then.

use bandsync_engine::words::time::Micros;

/// A phase of a turn, in the order of the turn.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TurnPhase {
    /// Backlogs and ends of the last turn, reported to the machine.
    Notes,
    /// Input of connections, handled by the machine.
    #[default]
    Reads,
    /// New connections.
    Accepts,
    /// Mail of other shards, events of the storage, and news of other nodes.
    Mail,
    /// Changes of the process, such as scarce memory or the drain, and answers of the host.
    Host,
    /// Ticks, and all else that was due.
    Timers,
    /// Orders to the storage and to other nodes.
    Orders,
    /// Sends.
    Writes,
    /// Connections and messages that leave to other shards.
    HandOvers,
    /// Connections that close.
    Closes,
}

/// Number of phases.
const PHASES: usize = TurnPhase::ALL.len();

impl TurnPhase {
    /// All phases, in the order of a turn.
    pub const ALL: [Self; 10] = [
        Self::Notes,
        Self::Reads,
        Self::Accepts,
        Self::Mail,
        Self::Host,
        Self::Timers,
        Self::Orders,
        Self::Writes,
        Self::HandOvers,
        Self::Closes,
    ];

    /// Returns the name of the phase in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notes => "notes",
            Self::Reads => "reads",
            Self::Accepts => "accepts",
            Self::Mail => "mail",
            Self::Host => "host",
            Self::Timers => "timers",
            Self::Orders => "orders",
            Self::Writes => "writes",
            Self::HandOvers => "hand_overs",
            Self::Closes => "closes",
        }
    }
}

/// The longest turn of some time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LongestTurn {
    /// Its duration in nanoseconds. Zero: there was no turn.
    pub nanos: u64,
    /// The phase that took most of it.
    pub phase: TurnPhase,
    /// The duration of that phase, in nanoseconds.
    pub phase_nanos: u64,
}

impl LongestTurn {
    /// Returns the longer of both.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if other.nanos > self.nanos { other } else { self }
    }
}

/// The readings of the clock in a turn, and the times of its phases, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Laps {
    /// The last reading that dated an input, in microseconds.
    pub(crate) now: Micros,
    /// That reading in nanoseconds.
    pub(crate) nanos: u64,
    /// The first reading of the turn.
    pub(crate) began: u64,
    /// The last reading, also one that dated no input.
    read_at: u64,
    spent: [u64; PHASES],
    /// The reading at which the present phase began.
    since: u64,
    /// The last phase that ended.
    last: TurnPhase,
}

impl Laps {
    /// Takes a reading that dates the next input.
    pub(crate) fn read(&mut self, nanos: u64) {
        debug_assert!(nanos >= self.nanos, "the clock went back from {} to {nanos} ns", self.nanos);
        (self.nanos, self.read_at) = (nanos, nanos);
        self.now = Micros::from_micros(nanos / 1_000);
    }

    /// Takes a reading that only measures. Returns the time since the last one that dated an input.
    pub(crate) fn measure(&mut self, nanos: u64) -> u64 {
        self.read_at = nanos.max(self.nanos);
        self.read_at - self.nanos
    }

    /// Begins a turn at the last reading.
    pub(crate) fn begin(&mut self) {
        self.spent = [0; PHASES];
        (self.began, self.since, self.last) = (self.nanos, self.nanos, TurnPhase::default());
    }

    /// Counts the time since the phase before for this one, as far as the clock was read.
    pub(crate) fn end(&mut self, phase: TurnPhase) {
        self.spent[phase as usize] += self.read_at.saturating_sub(self.since);
        (self.since, self.last) = (self.read_at, phase);
    }

    /// Ends the turn at the reading `nanos` in its last phase, and returns the phase that took the
    /// longest, with its duration.
    pub(crate) fn longest(&self, nanos: u64) -> (TurnPhase, u64) {
        let rest = |phase| if phase == self.last { nanos.saturating_sub(self.since) } else { 0 };
        let spent = TurnPhase::ALL.map(|phase| (phase, self.spent[phase as usize] + rest(phase)));
        spent.into_iter().max_by_key(|(_, nanos)| *nanos).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_share_the_time_of_a_turn() {
        let mut laps = Laps::default();
        laps.read(1_000);
        laps.begin();
        laps.read(1_300);
        laps.end(TurnPhase::Reads);
        laps.end(TurnPhase::Mail);
        assert_eq!(laps.measure(1_500), 200);
        laps.end(TurnPhase::Timers);
        assert_eq!(laps.longest(1_599), (TurnPhase::Reads, 300));
        assert_eq!(laps.longest(1_700), (TurnPhase::Timers, 400));
        laps.read(1_700);
        laps.end(TurnPhase::Reads);
        assert_eq!(laps.longest(1_700), (TurnPhase::Reads, 500));
        laps.begin();
        assert_eq!((laps.began, laps.longest(1_700).1), (1_700, 0));
    }

    #[test]
    fn the_longer_of_two_turns_counts() {
        let short = LongestTurn { nanos: 3, phase: TurnPhase::Closes, phase_nanos: 2 };
        let long = LongestTurn { nanos: 4, phase: TurnPhase::Writes, phase_nanos: 1 };
        assert_eq!((short.or(long), long.or(short)), (long, long));
        assert_eq!(LongestTurn::default().or(short), short);
    }

    #[test]
    fn each_phase_has_its_place() {
        for (index, phase) in TurnPhase::ALL.into_iter().enumerate() {
            assert_eq!(phase as usize, index, "{}", phase.as_str());
        }
    }
}
