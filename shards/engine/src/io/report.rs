//! Reports of the engine about itself: counters, samples, and why connections ended.
//!
//! The driver takes them after every turn. They are plain values: the engine does not know their
//! use, and decides nothing by them.

use std::borrow::Cow;
use std::net::IpAddr;

use super::Output;
use crate::speech::Code;
use crate::words::ids::{ConnId, SessionId};
use crate::words::time::Micros;

/// Maximum number of samples kept until they are taken; later ones are dropped. A turn has fewer
/// unless the shard is far behind, and then the first ones show that.
pub const SAMPLES_MAX: usize = 4_096;

/// The kind of a measurement.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sample {
    /// Time between the deadline of a session's tick and its computation.
    TickLateness,
    /// Round trip of the application heartbeat to a member and back.
    RoundTrip,
}

/// Samples that were not taken yet.
#[derive(Debug, Default)]
pub struct Samples(Vec<(Sample, Micros)>);

impl Samples {
    pub(crate) fn add(&mut self, what: Sample, value: Micros) {
        if self.0.len() < SAMPLES_MAX {
            self.0.push((what, value));
        }
    }

    /// Calls `each` with every sample in order, and empties the list. It keeps its memory.
    pub fn take(&mut self, mut each: impl FnMut(Sample, Micros)) {
        for (what, value) in self.0.drain(..) {
            each(what, value);
        }
    }
}

/// Maximum number of disconnects kept until they are taken. Beyond it only the counters change.
pub const DISCONNECTS_MAX: usize = 1_024;

/// The end of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Disconnect {
    /// The connection.
    pub conn: ConnId,
    /// The address of its client.
    pub peer: IpAddr,
    /// The session of its member, if it was in one.
    pub session: Option<SessionId>,
    /// The reason, for people.
    pub why: Cow<'static, str>,
    /// The manner of its end.
    pub manner: Manner,
}

/// The manner in which a connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Manner {
    /// The client ended it, or was lost.
    ByClient,
    /// The server closed it because the client broke a rule or a limit.
    ByServer,
    /// The server rejected it because of a setting that the operator may want to change. The reason
    /// names the setting.
    Misconfigured,
}

/// Disconnects that were not taken yet.
#[derive(Debug, Default)]
pub struct Disconnects(Vec<Disconnect>);

impl Disconnects {
    pub(crate) fn add(&mut self, disconnect: Disconnect) {
        if self.0.len() < DISCONNECTS_MAX {
            self.0.push(disconnect);
        }
    }

    /// Calls `each` with every disconnect in order, and empties the list.
    pub fn take(&mut self, each: impl FnMut(Disconnect)) {
        self.0.drain(..).for_each(each);
    }
}

/// All reports of a shard about itself.
#[derive(Debug, Default)]
pub struct Report {
    /// Totals since the start, and numbers of now.
    pub counters: Counters,
    /// Measurements since the last turn.
    pub samples: Samples,
    /// Ends of connections since the last turn.
    pub disconnects: Disconnects,
}

/// Totals of a shard since it started, and numbers of now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Number of connections of any kind now.
    pub connections: u32,
    /// Number of clients now, over WebSocket or long-polling.
    pub clients: u32,
    /// Number of members now that have a connection.
    pub members: u32,
    /// Number of sessions now.
    pub sessions: u32,
    /// Number of sessions now without a member.
    pub sessions_empty: u32,
    /// Number of sessions now that changed and were not offered to the storage yet.
    pub sessions_unstored: u32,
    /// Total of HTTP requests, including upgrades.
    pub requests: u64,
    /// Total of messages from clients.
    pub messages_in: u64,
    /// Total of messages to clients, one for each receiver.
    pub messages_out: u64,
    /// Total of rejected commands.
    pub refusals: u64,
    /// Totals of rejected commands by code, in the order of [`Code::ALL`].
    pub refusals_by_code: [u64; Code::ALL.len()],
    /// Total of connections closed because the peer broke a rule or a limit.
    pub expulsions: u64,
    /// Total of members that returned to their seat after a lost connection.
    pub recoveries: u64,
    /// Total of measured round trips of the application heartbeat.
    pub round_trips: u64,
    /// Sum of these round trips.
    pub round_trips_total: Micros,
    /// Number of bytes kept now for lost members that may return.
    pub recovery_bytes: u64,
    /// Total of sessions evicted early because memory was low.
    pub sessions_shed: u64,
    /// Total of bytes kept for lost members that were dropped because memory was low.
    pub recovery_bytes_shed: u64,
    /// Numbers about the cluster, if the node belongs to one.
    pub nodes: NodeCounters,
}

/// Numbers of a shard about sessions that nodes share.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NodeCounters {
    /// Number of sessions that this node owns now.
    pub owned: u32,
    /// Number of branches of sessions of other nodes now.
    pub branches: u32,
    /// Total of commands that were forwarded to other nodes.
    pub forwards: u64,
    /// Total of commands that were sent again.
    pub resends: u64,
    /// Total of commands that were not answered in time.
    pub unavailable: u64,
    /// Total of bulletins for branches.
    pub bulletins: u64,
    /// Total of gaps in the bulletins of other nodes.
    pub gaps: u64,
    /// Total of states that were sent to branches.
    pub repairs: u64,
    /// Total of sessions that were taken over from a lost node.
    pub takeovers: u64,
    /// Total of sessions that another node has taken over.
    pub step_downs: u64,
    /// Total of messages of other nodes that were not readable.
    pub unreadable: u64,
}

impl Counters {
    pub(crate) fn rejected(&mut self, code: Code) {
        self.refusals += 1;
        self.refusals_by_code[code.index()] += 1;
    }
}

/// Counts the messages that these outputs send to clients.
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
    fn samples_that_are_not_taken_are_bounded() {
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
    fn disconnects_that_are_not_taken_are_bounded() {
        let mut disconnects = Disconnects::default();
        for index in 0..DISCONNECTS_MAX as u32 + 5 {
            let conn = ConnId { index, generation: 0 };
            let peer = [127, 0, 0, 1].into();
            disconnects.add(Disconnect {
                conn,
                peer,
                session: None,
                why: "".into(),
                manner: Manner::ByClient,
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
