//! The engine of one shard: transport and rooms, and the turn that joins them.
//!
//! Everything enters by [`Engine::handle`] and leaves as [`Outputs`]. The files are a staircase:
//! each calls only those below it. `turn` has an arm for each input, `nodes` hears other nodes, `pending`
//! resumes joins that waited, `reading` has the only loop that reads, `calls` passes calls to the rooms, `leaving`
//! removes members from sessions and hands clients over, and `closing` ends connections.

mod admission;
mod calls;
mod closing;
mod joins;
mod leaving;
mod nodes;
mod pending;
mod reading;
#[cfg(test)]
mod tests;
mod turn;

use crate::context::Resources;
use crate::io::report::{Counters, Disconnects, Samples, messages};
use crate::io::{Input, Outputs, Settings};
use crate::rooms::Rooms;
use crate::session::Session;
use crate::transport::Transport;
use crate::words::ids::SessionId;
use crate::words::time::Micros;

use joins::Joins;

/// One shard, as a value that inputs change. See the [module](self).
pub struct Engine {
    resources: Resources,
    shard: Shard,
}

/// The clients and sessions of a shard. Resources that both need are lent in a
/// [`Cx`](crate::context::Cx).
struct Shard {
    transport: Transport,
    rooms: Rooms,
    /// Joins that wait for their sessions.
    joins: Joins,
    /// Number of admissions requested from other shards.
    requests: u64,
}

impl Engine {
    /// Creates a shard before its first input.
    pub fn new(settings: Settings) -> Self {
        let shard = Shard::new(&settings);
        Self { resources: Resources::new(settings), shard }
    }

    /// Handles one input that happened at `at`, and appends its outputs to `out`.
    ///
    /// # Panics
    /// If time runs backwards, or the driver uses an id twice: these are bugs of ours. Bytes from
    /// outside cannot cause either.
    pub fn handle(&mut self, at: Micros, input: Input<'_>, out: &mut Outputs) {
        let before = out.list.len();
        self.resources.advance(at);
        if let Input::WallClock { started_unix_ms } = input {
            self.resources.set_wall_clock(started_unix_ms);
        } else {
            self.shard.handle(input, &mut self.resources.lend(out));
        }
        self.resources.report.counters.messages_out += messages(&out.list[before..]);
    }

    /// Returns the time by which [`Input::TurnEnded`] must come again, even without another input.
    pub fn next_deadline(&self) -> Option<Micros> {
        let Resources { wheel, now, .. } = &self.resources;
        if self.shard.rooms.has_unflushed_batches() { Some(now.at) } else { wheel.next_deadline() }
    }

    /// Whether a session ticks, so that members would notice a late turn.
    pub fn is_ticking(&self) -> bool {
        self.resources.ticking > 0
    }

    /// Whether the shard has drained: it received [`Input::Drain`], and all sessions were offered
    /// to the storage. Connections that opened since do not count, because they have no session.
    pub fn is_drained(&self) -> bool {
        let shard = &self.shard;
        shard.transport.connections.draining && shard.rooms.dirty() == 0
    }

    /// Returns all counters of the shard.
    pub fn counters(&self) -> Counters {
        let mut counters = self.resources.report.counters;
        counters.connections = self.shard.transport.connections.connections() as u32;
        counters.sessions = self.shard.rooms.sessions();
        counters.sessions_unstored = self.shard.rooms.dirty();
        counters.recovery_bytes = self.resources.replay_bytes;
        counters
    }

    /// Returns the measurements since they were last taken.
    pub fn samples(&mut self) -> &mut Samples {
        &mut self.resources.report.samples
    }

    /// Returns the ends of connections since they were last taken.
    pub fn disconnects(&mut self) -> &mut Disconnects {
        &mut self.resources.report.disconnects
    }

    /// Returns a session of this shard, if it is in memory.
    pub fn session(&self, id: &SessionId) -> Option<&Session> {
        self.shard.rooms.session(id)
    }

    /// Appends this shard's sessions that have members, as a JSON array of objects: `sessionId,
    /// isPlaying, tempoMilliBpm, positionMicros, uptimeMicros, memberCount, connectedCount, epoch,
    /// version, members`, each member with `socketId, displayName, role, connected, latencyMicros,
    /// timeouts, quality`. The list is bounded: of very many sessions it has the largest.
    pub fn roster(&self, out: &mut Vec<u8>) {
        let now = self.resources.now.at;
        let connections = &self.shard.transport.connections;
        let quality = |conn, member| connections.quality(conn, member, now);
        self.shard.rooms.roster(now, quality, out);
    }

    /// Returns the number of bytes of buffers kept for the next message of any connection.
    #[cfg(test)]
    fn kept_bytes(&self) -> usize {
        self.shard.transport.kept_bytes() + self.resources.sender.kept_bytes()
    }

    /// Checks the invariants that hold at the end of every turn. It visits everything, so only
    /// tests call it.
    pub fn check_invariants(&self) {
        self.resources.wheel.check_invariants();
        self.shard.rooms.check_invariants(&self.resources);
        self.shard.transport.check_invariants(&self.resources);
    }
}
