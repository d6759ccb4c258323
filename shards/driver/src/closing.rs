//! Connections that are closing: how long each may take, and how many may at once.

use std::collections::VecDeque;

use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;

use crate::connections::Phase;

/// How long a peer may take to accept what was sent before a close.
const FLUSH_TIME: Micros = Micros::from_secs(5);

/// How long a peer may take to end its side after we ended ours.
const LINGER_TIME: Micros = Micros::from_secs(2);

/// Entries of one list. The connections are counted by nobody else any more, so this bounds what
/// somebody who opens and closes all day can make us keep.
const ENTRIES_MAX: usize = 4_096;

/// The connections that are closing, in the order in which their time is over. Connections that
/// closed earlier stay listed until then; who takes an entry finds nobody there.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// Those with unsent bytes.
    flushing: VecDeque<(Micros, ConnId)>,
    /// Those whose peer has not ended its side.
    lingering: VecDeque<(Micros, ConnId)>,
}

impl Closing {
    pub(crate) fn flush(&mut self, now: Micros, id: ConnId) {
        self.flushing.push_back((now + FLUSH_TIME, id));
    }

    pub(crate) fn linger(&mut self, now: Micros, id: ConnId) {
        self.lingering.push_back((now + LINGER_TIME, id));
    }

    /// When the next connection's time is over.
    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        let first = |list: &VecDeque<(Micros, ConnId)>| list.front().map(|(until, _)| *until);
        first(&self.flushing).into_iter().chain(first(&self.lingering)).min()
    }

    /// A connection whose time in a phase is over, or which is one too many there.
    pub(crate) fn overdue(&mut self, now: Micros) -> Option<(Phase, ConnId)> {
        for (phase, list) in
            [(Phase::Flushing, &mut self.flushing), (Phase::Lingering, &mut self.lingering)]
        {
            if list.len() > ENTRIES_MAX || list.front().is_some_and(|(until, _)| *until <= now) {
                return list.pop_front().map(|(_, id)| (phase, id));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 0 }
    }

    #[test]
    fn each_is_overdue_when_its_time_is_over() {
        let mut closing = Closing::default();
        closing.flush(Micros::ZERO, conn(1));
        closing.linger(Micros::from_secs(1), conn(2));
        assert_eq!(closing.next_deadline(), Some(Micros::from_secs(3)));
        assert_eq!(closing.overdue(Micros::from_millis(2_999)), None);
        assert_eq!(closing.overdue(Micros::from_secs(3)), Some((Phase::Lingering, conn(2))));
        assert_eq!(closing.next_deadline(), Some(Micros::from_secs(5)));
        assert_eq!(closing.overdue(Micros::from_secs(5)), Some((Phase::Flushing, conn(1))));
        assert_eq!(closing.next_deadline(), None);
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut closing = Closing::default();
        for index in 0..=ENTRIES_MAX as u32 {
            assert_eq!(closing.overdue(Micros::ZERO), None);
            closing.linger(Micros::ZERO, conn(index));
        }
        assert_eq!(closing.overdue(Micros::ZERO), Some((Phase::Lingering, conn(0))));
        assert_eq!(closing.overdue(Micros::ZERO), None);
    }
}
