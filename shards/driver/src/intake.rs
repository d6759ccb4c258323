//! How much a turn takes in of what others want, before it does what is due and sends.

use bandsync_engine::words::time::Micros;

/// What a send takes, generously: it costs more than what it answers.
const SEND: Micros = Micros::from_micros(8);

/// The bounds of one turn. Whoever has more to say, or was not heard, is heard in the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Intake {
    /// It reads until then.
    pub(crate) until: Micros,
    /// It reads until it has something to send to so many connections.
    pub(crate) sends: usize,
    /// Connections that it accepts.
    pub(crate) accepts: usize,
    /// Connections and letters that it takes out of the mailbox.
    pub(crate) mail: usize,
}

impl Intake {
    /// While nothing ticks nobody hears it if what is due waits a little, and what is said together takes fewer sends:
    /// a hall that fills takes half the CPU.
    pub(crate) fn at_leisure(now: Micros) -> Self {
        Self { until: now + Micros::from_millis(2), sends: usize::MAX, accepts: 64, mail: 256 }
    }

    /// While something ticks: no more than can be answered before something is due. A little in any case, or a shard
    /// that is always late would hear nobody.
    pub(crate) fn before(due: Micros, now: Micros) -> Self {
        let until = due.clamp(now + Micros::from_micros(250), now + Micros::from_millis(1));
        let sends = (due.since(now).as_micros() / SEND.as_micros()).clamp(64, 1_024);
        Self { until, sends: sends as usize, accepts: 16, mail: 32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_before_something_is_due_and_hears_somebody_though_it_is_late() {
        let (now, micros) = (Micros::from_secs(9), Micros::from_micros);
        let before = |due| Intake::before(due, now);
        assert_eq!(before(now + micros(700)).until, now + micros(700));
        assert_eq!(before(Micros::ZERO), before(now), "late is late");
        assert_eq!((before(now).until, before(now).sends), (now + micros(250), 64));
        assert_eq!(before(now + micros(4_000)).sends, 500);
        let (far, leisure) = (before(now + Micros::from_secs(60)), Intake::at_leisure(now));
        assert!(far.until < leisure.until && far.sends < leisure.sends && far.accepts < leisure.accepts);
    }
}
