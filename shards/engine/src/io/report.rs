//! What the engine reports of itself, for whoever drives it: counters, samples, and why connections ended.
//!
//! Plain values in a list that is emptied after every turn: the engine neither knows what becomes
//! of them nor decides anything by them.

use std::borrow::Cow;
use std::net::IpAddr;

use super::Output;
use crate::speech::Code;
use crate::words::ids::{ConnId, SessionId};
use crate::words::time::Micros;

/// So many samples are kept until they are taken; what comes later is left out. A shard's turn has
/// fewer unless it is hopelessly behind, and then the first ones tell enough.
pub const SAMPLES_MAX: usize = 4_096;

/// What was measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sample {
    /// How much later than its deadline a session's tick was made.
    TickLateness,
    /// A round trip of the application's heartbeat to a member and back.
    RoundTrip,
}

/// Samples that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Samples(Vec<(Sample, Micros)>);

impl Samples {
    pub(crate) fn add(&mut self, what: Sample, value: Micros) {
        if self.0.len() < SAMPLES_MAX {
            self.0.push((what, value));
        }
    }

    /// Hands over all of them, in the order in which they were made. The list keeps its memory.
    pub fn take(&mut self, mut each: impl FnMut(Sample, Micros)) {
        for (what, value) in self.0.drain(..) {
            each(what, value);
        }
    }
}

/// So many are kept until they are taken; of more that end in one turn only the counters tell.
pub const DISCONNECTS_MAX: usize = 1_024;

/// A connection that ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disconnect {
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

/// Disconnects that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Disconnects(Vec<Disconnect>);

impl Disconnects {
    pub(crate) fn add(&mut self, disconnect: Disconnect) {
        if self.0.len() < DISCONNECTS_MAX {
            self.0.push(disconnect);
        }
    }

    /// Hands over all of them, in the order in which they happened.
    pub fn take(&mut self, each: impl FnMut(Disconnect)) {
        self.0.drain(..).for_each(each);
    }
}

/// Everything that a shard reports of itself.
#[derive(Debug, Default)]
pub struct Report {
    /// What it has done and holds.
    pub counters: Counters,
    /// What was measured.
    pub samples: Samples,
    /// Why connections ended.
    pub disconnects: Disconnects,
}

/// What a shard has done since it started, and what it holds now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Connections now, of any kind.
    pub connections: u32,
    /// Clients now, over WebSocket or long-polling.
    pub clients: u32,
    /// Members now that have a connection.
    pub members: u32,
    /// Sessions now.
    pub sessions: u32,
    /// Sessions among them that nobody is in.
    pub sessions_empty: u32,
    /// Sessions among them that changed and wait to be offered to the storage.
    pub sessions_unstored: u32,
    /// HTTP requests so far, upgrades among them.
    pub requests: u64,
    /// Messages from clients so far.
    pub messages_in: u64,
    /// Messages to clients so far, one for each receiver.
    pub messages_out: u64,
    /// Commands so far that were refused.
    pub refusals: u64,
    /// The same by their code, in the order of [`Code::ALL`].
    pub refusals_by_code: [u64; Code::ALL.len()],
    /// Connections so far that were closed because the peer broke a rule or a limit.
    pub expulsions: u64,
    /// Members so far that came back to their seat after a lost connection.
    pub recoveries: u64,
    /// Round trips of the application heartbeat so far.
    pub round_trips: u64,
    /// Their sum.
    pub round_trips_total: Micros,
    /// Bytes now that are kept for members that may come back.
    pub recovery_bytes: u64,
    /// Sessions so far that left memory early because the server was short of it.
    pub sessions_shed: u64,
    /// Bytes so far that were kept for lost members and given back for the same reason.
    pub recovery_bytes_shed: u64,
}

impl Counters {
    pub(crate) fn refused(&mut self, code: Code) {
        self.refusals += 1;
        self.refusals_by_code[code.index()] += 1;
    }
}

/// Messages that these outputs bring to clients.
pub(crate) fn messages(outputs: &[Output]) -> u64 {
    let of = |output: &Output| match output {
        Output::Send { .. } => 1,
        Output::Fanout { to, .. } => u64::from(to.end - to.start),
        _ => 0,
    };
    outputs.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_takes_does_not_pile_up() {
        let mut samples = Samples::default();
        for micros in 0..SAMPLES_MAX as u64 + 5 {
            samples.add(Sample::RoundTrip, Micros::from_micros(micros));
        }
        let mut taken = Vec::new();
        samples.take(|_, value| taken.push(value.as_micros()));
        assert!(taken.iter().copied().eq(0..SAMPLES_MAX as u64));
        samples.take(|_, _| panic!("they were taken"));
    }

    #[test]
    fn disconnects_that_nobody_takes_do_not_pile_up() {
        let mut disconnects = Disconnects::default();
        for index in 0..DISCONNECTS_MAX as u32 + 5 {
            let conn = ConnId { index, generation: 0 };
            let peer = [127, 0, 0, 1].into();
            disconnects.add(Disconnect {
                conn,
                peer,
                session: None,
                why: "".into(),
                manner: Manner::Left,
            });
        }
        let mut taken = 0;
        disconnects.take(|disconnect| {
            assert_eq!(disconnect.conn.index, taken);
            taken += 1;
        });
        assert_eq!(taken as usize, DISCONNECTS_MAX);
        disconnects.take(|_| panic!("they were taken"));
    }
}
