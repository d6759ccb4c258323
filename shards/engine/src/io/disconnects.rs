//! Why connections ended, for the log of whoever drives the engine.
//!
//! Plain values in a list that is emptied after every turn, like [what is
//! measured](super::measure). Nothing in them is a secret, and nothing is decided by them.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::words::ids::{ConnId, SessionId};

/// So many are kept until they are taken; of more that end in one turn only the counters tell.
pub const DEPARTURES_MAX: usize = 1_024;

/// A connection that ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Departure {
    /// Which.
    pub conn: ConnId,
    /// Who spoke on it.
    pub peer: IpAddr,
    /// The session that it was in.
    pub session: Option<SessionId>,
    /// Why, for people.
    pub why: Cow<'static, str>,
    /// How.
    pub manner: Manner,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Manner {
    /// The client ended it, or was lost.
    Left,
    /// The server closed it because the client broke a rule or a limit.
    Expelled,
    /// The server refused it by its settings, which the operator may want to be others. The reason
    /// says which.
    Misconfigured,
}

/// Departures that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Departures(Vec<Departure>);

impl Departures {
    pub(super) fn add(&mut self, departure: Departure) {
        if self.0.len() < DEPARTURES_MAX {
            self.0.push(departure);
        }
    }

    /// Hands over all of them, in the order in which they happened.
    pub fn take(&mut self, each: impl FnMut(Departure)) {
        self.0.drain(..).for_each(each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_takes_does_not_pile_up() {
        let mut departures = Departures::default();
        for index in 0..DEPARTURES_MAX as u32 + 5 {
            let conn = ConnId { index, generation: 0 };
            let peer = [127, 0, 0, 1].into();
            departures.add(Departure {
                conn,
                peer,
                session: None,
                why: "".into(),
                manner: Manner::Left,
            });
        }
        let mut taken = 0;
        departures.take(|departure| {
            assert_eq!(departure.conn.index, taken);
            taken += 1;
        });
        assert_eq!(taken as usize, DEPARTURES_MAX);
        departures.take(|_| panic!("they were taken"));
    }
}
