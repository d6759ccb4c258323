//! One shard's engine: transport and band, and the turn that joins them.
//!
//! Everything enters by [`Engine::handle`] and leaves as [`Outputs`]. The files are a staircase:
//! each calls only those below it. `turn` has an arm for each input, `pending` goes on with joins
//! that waited, `reading` has the only loop that reads, `calls` asks the band, `leaving` takes
//! members out of sessions and clients to other shards, and `closing` ends connections.

mod admission;
mod calls;
mod closing;
mod joins;
mod leaving;
mod pending;
mod reading;
#[cfg(test)]
mod tests;
mod turn;

use crate::band::Band;
use crate::context::Resources;
use crate::io::report::{Counters, Disconnects, Samples, messages};
use crate::io::{Input, Outputs, Settings};
use crate::session::Session;
use crate::transport::Transport;
use crate::words::ids::SessionId;
use crate::words::time::Micros;

use joins::Joins;

/// One shard: a value that inputs change. See the [module](self).
pub struct Engine {
    resources: Resources,
    shard: Shard,
}

/// The clients and sessions of a shard. What both need is lent in a [`Cx`](crate::context::Cx).
struct Shard {
    transport: Transport,
    band: Band,
    /// Joins that wait for their sessions.
    joins: Joins,
    /// Number of admissions that other shards were asked for.
    requests: u64,
}

impl Engine {
    /// A shard that has not seen anything yet.
    pub fn new(settings: Settings) -> Self {
        let shard = Shard::new(&settings);
        Self { resources: Resources::new(settings), shard }
    }

    /// Takes one input that happened at `at`, and appends what must be done about it to `out`.
    ///
    /// # Panics
    /// If time runs backwards, or the driver names a connection twice: those are our bugs. No bytes
    /// from outside lead here.
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

    /// When [`Input::TurnEnded`] must come again even if nothing else happens.
    pub fn next_deadline(&self) -> Option<Micros> {
        let Resources { wheel, now, .. } = &self.resources;
        if self.shard.band.has_open_windows() { Some(now.at) } else { wheel.next_deadline() }
    }

    /// Whether a session ticks, so that somebody may hear it if what is due comes late.
    pub fn is_ticking(&self) -> bool {
        self.resources.ticking > 0
    }

    /// Whether the shard was told to drain, and the storage was offered everything. Connections
    /// that opened since do not count: they have no session to lose.
    pub fn is_drained(&self) -> bool {
        let shard = &self.shard;
        shard.transport.connections.draining && shard.band.dirty() == 0
    }

    /// Counts of everything that the shard has done and holds.
    pub fn counters(&self) -> Counters {
        let mut counters = self.resources.report.counters;
        counters.connections = self.shard.transport.connections.connections() as u32;
        counters.sessions = self.shard.band.sessions();
        counters.sessions_unstored = self.shard.band.dirty();
        counters.recovery_bytes = self.resources.replay_bytes;
        counters
    }

    /// Measurements since they were last taken.
    pub fn samples(&mut self) -> &mut Samples {
        &mut self.resources.report.samples
    }

    /// Connections that ended since somebody last took them.
    pub fn disconnects(&mut self) -> &mut Disconnects {
        &mut self.resources.report.disconnects
    }

    /// A session that lives here now.
    pub fn session(&self, id: &SessionId) -> Option<&Session> {
        self.shard.band.session(id)
    }

    /// Appends the sessions of this shard that somebody is in, as a JSON array of objects:
    /// `sessionId, isPlaying, tempoMilliBpm, positionMicros, uptimeMicros, memberCount,
    /// connectedCount, epoch, version, members`, each member with `socketId, displayName, role,
    /// connected, latencyMicros, timeouts, quality`. Bounded, so that a shard with very many
    /// sessions lists the largest.
    pub fn roster(&self, out: &mut Vec<u8>) {
        let now = self.resources.now.at;
        let connections = &self.shard.transport.connections;
        let quality = |conn, member| connections.quality(conn, member, now);
        self.shard.band.roster(now, quality, out);
    }

    /// Bytes of the buffers that are kept for the next message, of any connection.
    #[cfg(test)]
    fn kept_bytes(&self) -> usize {
        self.shard.transport.kept_bytes() + self.resources.sender.kept_bytes()
    }

    /// What must hold at the end of every turn; costs a walk over everything, so tests call it.
    pub fn check_invariants(&self) {
        self.resources.wheel.check_invariants();
        self.shard.band.check_invariants(&self.resources);
        self.shard.transport.check_invariants(&self.resources);
    }
}
