//! The time limits of connections that are closing, and their maximum number.
//!
//! A close has two steps: unsent bytes are flushed, then our side is shut down and the connection
//! lingers until the peer ends its side. A peer that is too slow in either step is cut off.

use std::collections::VecDeque;

use bandsync_engine::words::ids::ConnId;
use bandsync_engine::words::time::Micros;

use crate::connections::Phase;

/// Time in which a peer must accept the bytes that were sent before a close. Guessed.
const FLUSH_TIME: Micros = Micros::from_secs(5);

/// Time in which a peer must end its side after we ended ours. Guessed.
const LINGER_TIME: Micros = Micros::from_secs(2);

/// Maximum number of entries in one list. The machine no longer counts these connections, so no
/// other limit holds for a client that keeps opening and closing connections.
const ENTRIES_MAX: usize = 4_096;

/// The connections that are closing, in the order of their deadlines. A connection that closes
/// earlier stays listed until its deadline, so the id of an entry may no longer exist.
#[derive(Debug, Default)]
pub(crate) struct Closing {
    /// Connections with unsent bytes.
    flushing: VecDeque<(Micros, ConnId)>,
    /// Connections whose peer has not ended its side.
    lingering: VecDeque<(Micros, ConnId)>,
}

impl Closing {
    pub(crate) fn flush(&mut self, now: Micros, id: ConnId) {
        append(&mut self.flushing, now + FLUSH_TIME, id);
    }

    pub(crate) fn linger(&mut self, now: Micros, id: ConnId) {
        append(&mut self.lingering, now + LINGER_TIME, id);
    }

    /// Returns the earliest deadline.
    pub(crate) fn next_deadline(&self) -> Option<Micros> {
        let first = |list: &VecDeque<(Micros, ConnId)>| list.front().map(|(until, _)| *until);
        first(&self.flushing).into_iter().chain(first(&self.lingering)).min()
    }

    /// Whether [`Closing::overdue`] would remove a connection.
    pub(crate) fn is_overdue(&self, now: Micros) -> bool {
        let is_over = |list: &VecDeque<(Micros, ConnId)>| is_over(list, now);
        is_over(&self.flushing) || is_over(&self.lingering)
    }

    /// Removes a connection whose time in a phase is over, or the oldest one if a list is too long.
    pub(crate) fn overdue(&mut self, now: Micros) -> Option<(Phase, ConnId)> {
        for (phase, list) in
            [(Phase::Flushing, &mut self.flushing), (Phase::Lingering, &mut self.lingering)]
        {
            if is_over(list, now) {
                return list.pop_front().map(|(_, id)| (phase, id));
            }
        }
        None
    }
}

/// Whether the first connection of a list must go.
fn is_over(list: &VecDeque<(Micros, ConnId)>, now: Micros) -> bool {
    list.len() > ENTRIES_MAX || list.front().is_some_and(|(until, _)| *until <= now)
}

/// Appends a connection. All entries of a list have the same time limit, so they are in the order
/// of their deadlines as long as the clock does not go back.
fn append(list: &mut VecDeque<(Micros, ConnId)>, until: Micros, id: ConnId) {
    debug_assert!(list.back().is_none_or(|(last, _)| *last <= until), "{id} closes out of order");
    list.push_back((until, id));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn(index: u32) -> ConnId {
        ConnId { index, generation: 0 }
    }

    #[test]
    fn each_connection_is_overdue_at_its_deadline() {
        let mut closing = Closing::default();
        closing.flush(Micros::ZERO, conn(1));
        closing.linger(Micros::from_secs(1), conn(2));
        assert_eq!(closing.next_deadline(), Some(Micros::from_secs(3)));
        assert_eq!(closing.overdue(Micros::from_millis(2_999)), None);
        assert!(!closing.is_overdue(Micros::from_millis(2_999)));
        assert!(closing.is_overdue(Micros::from_secs(3)));
        assert_eq!(closing.overdue(Micros::from_secs(3)), Some((Phase::Lingering, conn(2))));
        assert_eq!(closing.next_deadline(), Some(Micros::from_secs(5)));
        assert_eq!(closing.overdue(Micros::from_secs(5)), Some((Phase::Flushing, conn(1))));
        assert_eq!(closing.next_deadline(), None);
    }

    #[test]
    fn a_full_list_evicts_the_oldest() {
        let mut closing = Closing::default();
        for index in 0..=ENTRIES_MAX as u32 {
            assert_eq!(closing.overdue(Micros::ZERO), None);
            closing.linger(Micros::ZERO, conn(index));
        }
        assert_eq!(closing.overdue(Micros::ZERO), Some((Phase::Lingering, conn(0))));
        assert_eq!(closing.overdue(Micros::ZERO), None);
    }
}
