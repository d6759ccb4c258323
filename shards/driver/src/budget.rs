//! How much a turn takes in of what others want, before it does what is due and sends.

use bandsync_engine::words::time::Micros;

/// What a send takes, generously: it costs more than what it answers.
const SEND: Micros = Micros::from_micros(8);

/// To so many connections a turn may have to send although something is due.
const SENDS_LEAST: usize = 64;

/// The bounds of one turn. Whoever has more to say, or was not heard, is heard in the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Budget {
    /// It reads until then.
    until: Micros,
    /// And as long as it can have sent what it has to send by then.
    due: Option<Micros>,
    /// Connections that it accepts.
    pub(crate) accepts: usize,
    /// Connections and letters that it takes out of the mailbox.
    pub(crate) mail: usize,
}

impl Budget {
    /// While nothing ticks nobody hears it if what is due waits a little, and what is said together
    /// takes fewer sends: a hall that fills takes half the CPU.
    pub(crate) fn at_leisure(now: Micros) -> Self {
        Self { until: now + Micros::from_millis(2), due: None, accepts: 64, mail: 256 }
    }

    /// While something ticks: no more than can be answered before something is due. A little in any
    /// case, or a shard that is always late would hear nobody.
    pub(crate) fn before(due: Micros, now: Micros) -> Self {
        let until = due.clamp(now + Micros::from_micros(250), now + Micros::from_millis(1));
        Self { until, due: Some(due), accepts: 16, mail: 32 }
    }

    /// Whether there is time for one more read when there is something to send to so many
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
    fn a_turn_takes_in_what_it_can_answer_before_something_is_due() {
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
    fn a_turn_that_is_late_hears_somebody() {
        let late = Budget::before(NOW - MICROS(5_000), NOW);
        assert!(late.has_time(NOW + MICROS(249), SENDS_LEAST - 1));
        assert!(!late.has_time(NOW, SENDS_LEAST) && !late.has_time(NOW + MICROS(250), 0));
    }

    #[test]
    fn nothing_hurries_a_turn_while_nothing_ticks() {
        let leisure = Budget::at_leisure(NOW);
        assert!(
            leisure.has_time(NOW + MICROS(1_999), 100_000)
                && !leisure.has_time(NOW + MICROS(2_000), 0)
        );
    }
}
