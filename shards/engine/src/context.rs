//! What a shard lends to whoever acts: the time, the settings, the timers, and the ways out.
//!
//! Transport and band stand elsewhere, so that each may be borrowed beside it.

use crate::delivery::Sender;
use crate::io::report::Report;
use crate::io::{Outputs, Settings};
use crate::throttle::peers::{PeerRefusal, PeerTable};
use crate::timers::Timer;
use crate::timers::wheel::Wheel;
use crate::words::ids::MemberId;
use crate::words::policy::{ClientAddress, PeerLimits};
use crate::words::rng::Rng;
use crate::words::time::{Micros, Moment, UnixMillis};

/// Everything of a shard that is neither clients nor sessions.
pub struct Resources {
    /// The settings.
    pub settings: Settings,
    /// The time of the last input.
    pub now: Moment,
    /// Unix time at the server's start, by the wall clock as it was looked at last.
    started_unix_ms: i64,
    rng: Rng,
    /// The timers.
    pub wheel: Wheel<Timer>,
    /// The means of sending.
    pub sender: Sender,
    /// The addresses of peers.
    pub peers: PeerTable,
    /// Counters and measurements.
    pub report: Report,
    /// Bytes of events that the sessions keep for members that may come back.
    pub replay_bytes: u64,
    /// Sessions that tick.
    pub ticking: u32,
}

/// A shard's resources during one input. Built once per input and passed down; never stored.
pub struct Cx<'a> {
    /// The time of the input.
    pub now: Moment,
    /// A copied reference outlives any borrow of the context, so nothing is cloned.
    pub settings: &'a Settings,
    /// One generator: ids are drawn in the order of inputs.
    pub rng: &'a mut Rng,
    /// One wheel: equal deadlines fire in the order in which they were set.
    pub wheel: &'a mut Wheel<Timer>,
    /// The means of sending.
    pub sender: &'a mut Sender,
    /// The addresses of peers.
    pub peers: &'a mut PeerTable,
    /// Counters and measurements.
    pub report: &'a mut Report,
    /// Bytes of events that sessions keep for members that may come back.
    pub replay_bytes: &'a mut u64,
    /// Sessions that tick.
    pub ticking: &'a mut u32,
    /// Where outputs are appended.
    pub out: &'a mut Outputs,
}

impl Resources {
    /// Those of a shard that has not seen anything yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            now: Moment { at: Micros::ZERO, unix: UnixMillis(settings.started_unix_ms) },
            started_unix_ms: settings.started_unix_ms,
            rng: Rng::from_key(settings.seed.of_shard(settings.shard)),
            wheel: Wheel::new(Micros::ZERO),
            sender: Sender::new(settings.transports.compression),
            peers: PeerTable::default(),
            report: Report::default(),
            replay_bytes: 0,
            ticking: 0,
            settings,
        }
    }

    /// Sets the wall clock: what Unix time would have been at the server's start, in milliseconds.
    /// It counts from the next input on.
    pub fn set_wall_clock(&mut self, started_unix_ms: i64) {
        self.started_unix_ms = started_unix_ms;
    }

    /// Moves the time to that of an input.
    ///
    /// # Panics
    /// If time runs backwards.
    pub fn advance(&mut self, at: Micros) {
        assert!(self.now.at <= at, "time ran back from {:?} to {at:?}", self.now.at);
        let unix = UnixMillis(self.started_unix_ms + at.as_millis() as i64);
        self.now = Moment { at, unix };
    }

    /// Lends everything for one input, whose outputs are appended to `out`.
    pub fn lend<'a>(&'a mut self, out: &'a mut Outputs) -> Cx<'a> {
        Cx {
            now: self.now,
            settings: &self.settings,
            rng: &mut self.rng,
            wheel: &mut self.wheel,
            sender: &mut self.sender,
            peers: &mut self.peers,
            report: &mut self.report,
            replay_bytes: &mut self.replay_bytes,
            ticking: &mut self.ticking,
            out,
        }
    }
}

impl Cx<'_> {
    /// Draws an id that nobody can guess.
    pub fn draw_id(&mut self) -> MemberId {
        let mut bytes = [0; 15];
        self.rng.fill(&mut bytes);
        MemberId::from_bytes(bytes)
    }

    /// Counts a connection of an address. A trusted proxy's own connections are not counted, and
    /// nothing that a proxy passed on is exempt.
    ///
    /// # Errors
    /// If the address has or wants too much. The connection is counted all the same.
    pub fn admit_peer(&mut self, address: ClientAddress) -> Result<(), PeerRefusal> {
        if !is_counted(address, self.settings) {
            return Ok(());
        }
        let peers = &self.settings.policy.peers;
        let spares_loopback = peers.spares_loopback && !address.forwarded;
        self.peers.admit(address.ip, self.now.at, &PeerLimits { spares_loopback, ..*peers })
    }

    /// Counts a connection that came from another shard, which admitted it.
    pub fn adopt_peer(&mut self, address: ClientAddress) {
        if is_counted(address, self.settings) {
            self.peers.adopt(address.ip);
        }
    }

    /// Counts a connection of an address no longer.
    pub fn release_peer(&mut self, address: ClientAddress) {
        if is_counted(address, self.settings) {
            self.peers.release(address.ip, self.now.at);
        }
    }
}

/// Whether a connection counts among those of its address.
pub fn is_counted(address: ClientAddress, settings: &Settings) -> bool {
    address.forwarded || !settings.policy.is_proxy(address.ip)
}
