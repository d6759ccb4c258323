//! The limits of one turn.
//!
//! A turn must be short, whatever anybody does: nothing else happens on its shard meanwhile. While
//! music plays, it must also end before the next tick is due, with its answers sent. So each phase
//! does as much work as fits into the rest of the turn, by the clock and by the prices below. The
//! rest of the input waits in the kernel, other work in its list.
//!
//! A phase also has a least amount of work, so that no kind of work starves, and a most, because a
//! price is only the usual one.

use std::ops::RangeInclusive;

use bandsync_engine::words::time::Micros;

/// Number of connections that a turn may send to even if something is due.
const SENDS_LEAST: usize = 64;

/// Work of which a turn does a limited amount.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Work {
    /// Reporting one backlog or end to the machine.
    Note,
    /// Accepting one connection.
    Accept,
    /// Handling one piece of mail: mostly a connection that arrives and joins.
    Mail,
    /// Writing to one connection.
    Send,
    /// Shutting down, closing or resetting one connection.
    Close,
}

impl Work {
    /// Returns the usual duration, on the safe side. Measured for sends, guessed by the number of
    /// system calls for the others.
    const fn price(self) -> Micros {
        Micros::from_micros(match self {
            Self::Note => 2,
            Self::Accept => 12,
            Self::Mail => 20,
            Self::Send => 8,
            Self::Close => 5,
        })
    }

    /// Returns the least and the most that a turn does of it.
    const fn range(self) -> RangeInclusive<usize> {
        match self {
            Self::Note => 32..=256,
            Self::Accept => 8..=64,
            Self::Mail => 8..=256,
            Self::Send => 24..=4_096,
            Self::Close => 32..=128,
        }
    }
}

/// The limits of one turn. What exceeds them waits for the next turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Budget {
    /// The time by which the turn should have sent its answers.
    until: Micros,
}

impl Budget {
    /// Returns the limits for a shard on which nothing ticks: twice the usual time. Then a delay of
    /// milliseconds is inaudible, and longer turns need fewer sends. Measured: half the CPU time
    /// while a hall fills.
    pub(crate) fn at_leisure(now: Micros, turn: Micros) -> Self {
        Self { until: now + turn + turn }
    }

    /// Returns the limits for a shard on which something ticks: input that can be answered before
    /// `due`, and in a time of `turn`. At least a quarter of that, because a shard that is always
    /// late would otherwise read nothing.
    pub(crate) fn before(due: Micros, now: Micros, turn: Micros) -> Self {
        let least = Micros::from_micros(turn.as_micros() / 4);
        Self { until: due.clamp(now + least, now + turn) }
    }

    /// Whether there is time for one more read if the turn already has to send to `sends`
    /// connections.
    pub(crate) fn has_time(&self, now: Micros, sends: usize) -> bool {
        now < self.until && (sends < SENDS_LEAST || self.left(now, sends) > Micros::ZERO)
    }

    /// Returns how much of this work the turn may do, if it already has to send to `sends`
    /// connections.
    pub(crate) fn share(&self, work: Work, now: Micros, sends: usize) -> usize {
        let fits = self.left(now, sends).as_micros() / work.price().as_micros();
        let range = work.range();
        (fits as usize).clamp(*range.start(), *range.end())
    }

    /// Returns the time that is left when these sends are done.
    fn left(&self, now: Micros, sends: usize) -> Micros {
        let takes = Micros::from_micros(Work::Send.price().as_micros() * sends as u64);
        self.until.since(now + takes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROS: fn(u64) -> Micros = Micros::from_micros;
    const NOW: Micros = Micros::from_secs(9);
    const TURN: Micros = Micros::from_millis(1);

    #[test]
    fn a_turn_reads_only_as_much_as_it_can_answer_in_its_time() {
        let budget = Budget::before(NOW + MICROS(4_000), NOW, TURN);
        assert!(budget.has_time(NOW, 124) && !budget.has_time(NOW, 125));
        assert!(budget.has_time(NOW + MICROS(400), 74) && !budget.has_time(NOW + MICROS(400), 75));
        assert!(!budget.has_time(NOW + TURN, 0), "it takes its turns though nothing is due soon");
        let soon = Budget::before(NOW + MICROS(300), NOW, TURN);
        assert!(soon.has_time(NOW + MICROS(299), 0) && !soon.has_time(NOW + MICROS(300), 0));
    }

    #[test]
    fn a_late_turn_still_reads_some_input() {
        let late = Budget::before(NOW - MICROS(5_000), NOW, TURN);
        assert!(late.has_time(NOW + MICROS(249), SENDS_LEAST - 1));
        assert!(!late.has_time(NOW, SENDS_LEAST) && !late.has_time(NOW + MICROS(250), 0));
    }

    #[test]
    fn without_ticks_a_turn_takes_twice_the_time() {
        let leisure = Budget::at_leisure(NOW, TURN);
        assert!(leisure.has_time(NOW + MICROS(1_999), SENDS_LEAST - 1));
        assert!(leisure.has_time(NOW, 249) && !leisure.has_time(NOW, 250));
        assert!(!leisure.has_time(NOW + MICROS(2_000), 0));
    }

    #[test]
    fn work_gets_the_rest_of_the_turn() {
        let budget = Budget::before(NOW + MICROS(4_000), NOW, TURN);
        assert_eq!(budget.share(Work::Mail, NOW, 0), 50);
        assert_eq!(budget.share(Work::Mail, NOW + MICROS(200), 50), 20);
        assert_eq!(budget.share(Work::Accept, NOW, 0), 64, "the most");
        for work in [Work::Note, Work::Accept, Work::Mail, Work::Send, Work::Close] {
            let least = budget.share(work, NOW + MICROS(5_000), 0);
            assert!(least > 0 && least == *work.range().start(), "{work:?} starves");
        }
    }
}
