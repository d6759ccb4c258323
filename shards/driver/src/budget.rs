//! The limits on the input of one turn.
//!
//! While music plays, a turn must end before the next tick is due, with its answers sent. So it
//! stops reading in time, and the rest of the input waits in the kernel.

use bandsync_engine::words::time::Micros;

/// Assumed duration of one send, on the safe side: a send takes longer than handling its request.
const SEND: Micros = Micros::from_micros(8);

/// Number of connections that a turn may send to even if something is due.
const SENDS_LEAST: usize = 64;

/// The limits of one turn. Input beyond them waits for the next turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Budget {
    /// The time at which reading ends.
    until: Micros,
    /// The time by which all answers must be sent, if something ticks.
    due: Option<Micros>,
    /// Maximum number of connections to accept.
    pub(crate) accepts: usize,
    /// Maximum number of connections and messages to take out of the mailbox.
    pub(crate) mail: usize,
}

impl Budget {
    /// Returns the limits for a shard on which nothing ticks. Then a delay of milliseconds is
    /// inaudible, and longer turns need fewer sends. Measured: half the CPU time while a hall
    /// fills.
    pub(crate) fn at_leisure(now: Micros) -> Self {
        Self { until: now + Micros::from_millis(2), due: None, accepts: 64, mail: 256 }
    }

    /// Returns the limits for a shard on which something ticks: input that can be answered before
    /// `due`. At least 250 µs, because a shard that is always late would otherwise read nothing.
    pub(crate) fn before(due: Micros, now: Micros) -> Self {
        let until = due.clamp(now + Micros::from_micros(250), now + Micros::from_millis(1));
        Self { until, due: Some(due), accepts: 16, mail: 32 }
    }

    /// Whether there is time for one more read if the turn already has to send to `sends`
    /// connections.
    pub(crate) fn has_time(&self, now: Micros, sends: usize) -> bool {
        let takes = Micros::from_micros(SEND.as_micros() * sends as u64);
        now < self.until && (sends < SENDS_LEAST || self.due.is_none_or(|due| now + takes < due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROS: fn(u64) -> Micros = Micros::from_micros;
    const NOW: Micros = Micros::from_secs(9);

    #[test]
    fn a_turn_reads_only_as_much_as_it_can_answer_before_the_next_tick() {
        let budget = Budget::before(NOW + MICROS(4_000), NOW);
        assert!(budget.has_time(NOW, 499) && !budget.has_time(NOW, 500));
        assert!(
            budget.has_time(NOW + MICROS(800), 399) && !budget.has_time(NOW + MICROS(800), 400)
        );
        assert!(
            !budget.has_time(NOW + MICROS(1_000), 0),
            "it takes its turns though nothing is due for long"
        );
        let soon = Budget::before(NOW + MICROS(300), NOW);
        assert!(soon.has_time(NOW + MICROS(299), 0) && !soon.has_time(NOW + MICROS(300), 0));
    }

    #[test]
    fn a_late_turn_still_reads_some_input() {
        let late = Budget::before(NOW - MICROS(5_000), NOW);
        assert!(late.has_time(NOW + MICROS(249), SENDS_LEAST - 1));
        assert!(!late.has_time(NOW, SENDS_LEAST) && !late.has_time(NOW + MICROS(250), 0));
    }

    #[test]
    fn without_ticks_only_time_limits_a_turn() {
        let leisure = Budget::at_leisure(NOW);
        assert!(
            leisure.has_time(NOW + MICROS(1_999), 100_000)
                && !leisure.has_time(NOW + MICROS(2_000), 0)
        );
    }
}
