//! The resources that a shard lends during an input: time, settings, timers, and the ways to send.
//!
//! Transport and band are stored elsewhere, so that each can be borrowed beside them.

use crate::delivery::Sender;
use crate::io::report::Report;
use crate::io::{Outputs, Settings};
use crate::throttle::peers::{PeerRejection, PeerTable};
use crate::timers::Timer;
use crate::timers::wheel::Wheel;
use crate::words::ids::MemberId;
use crate::words::policy::{ClientAddress, PeerLimits};
use crate::words::rng::Rng;
use crate::words::time::{Micros, Moment, UnixMillis};

/// The parts of a shard that are neither clients nor sessions.
pub struct Resources {
    /// The settings.
    pub settings: Settings,
    /// The time of the last input.
    pub now: Moment,
    /// Unix time at the server's start in milliseconds, computed from the last reading of the wall
    /// clock.
    started_unix_ms: i64,
    rng: Rng,
    /// The timers.
    pub wheel: Wheel<Timer>,
    /// Encodes and sends packets.
    pub sender: Sender,
    /// The connections of each address, which are limited.
    pub peers: PeerTable,
    /// Counters and measurements.
    pub report: Report,
    /// Bytes of events that sessions keep for lost members.
    pub replay_bytes: u64,
    /// Number of sessions that tick.
    pub ticking: u32,
}

/// A shard's resources during one input. Built once per input and passed down; never stored.
pub struct Cx<'a> {
    /// The time of the input.
    pub now: Moment,
    /// The settings. A copied reference outlives any borrow of the context, so nothing is cloned.
    pub settings: &'a Settings,
    /// The generator of random numbers. The shard has one, so ids are drawn in the order of inputs.
    pub rng: &'a mut Rng,
    /// The timers. The shard has one wheel, so equal deadlines fire in the order in which they were
    /// set.
    pub wheel: &'a mut Wheel<Timer>,
    /// Encodes and sends packets.
    pub sender: &'a mut Sender,
    /// The connections of each address, which are limited.
    pub peers: &'a mut PeerTable,
    /// Counters and measurements.
    pub report: &'a mut Report,
    /// Bytes of events that sessions keep for lost members.
    pub replay_bytes: &'a mut u64,
    /// Number of sessions that tick.
    pub ticking: &'a mut u32,
    /// The list to which outputs are appended.
    pub out: &'a mut Outputs,
}

impl Resources {
    /// Creates the resources of a shard before its first input.
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

    /// Sets the wall clock, by the Unix time in milliseconds that it implies for the server's
    /// start. It applies from the next input on.
    pub fn set_wall_clock(&mut self, started_unix_ms: i64) {
        self.started_unix_ms = started_unix_ms;
    }

    /// Moves the time on to that of an input.
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
    /// Draws an id that cannot be guessed.
    pub fn draw_id(&mut self) -> MemberId {
        let mut bytes = [0; 15];
        self.rng.fill(&mut bytes);
        MemberId::from_bytes(bytes)
    }

    /// Counts a connection of an address. Connections of a trusted proxy itself are not counted,
    /// and a connection that a proxy forwarded is exempt from nothing.
    ///
    /// # Errors
    /// If the address has too many connections, or asks too often. The connection is counted all
    /// the same.
    pub fn admit_peer(&mut self, address: ClientAddress) -> Result<(), PeerRejection> {
        if !is_counted(address, self.settings) {
            return Ok(());
        }
        let peers = &self.settings.policy.peers;
        let spares_loopback = peers.spares_loopback && !address.forwarded;
        self.peers.admit(address.ip, self.now.at, &PeerLimits { spares_loopback, ..*peers })
    }

    /// Counts a connection that another shard has admitted and handed over.
    pub fn adopt_peer(&mut self, address: ClientAddress) {
        if is_counted(address, self.settings) {
            self.peers.adopt(address.ip);
        }
    }

    /// Removes a connection from the count of its address.
    pub fn release_peer(&mut self, address: ClientAddress) {
        if is_counted(address, self.settings) {
            self.peers.release(address.ip, self.now.at);
        }
    }
}

/// Whether a connection counts for its address.
pub fn is_counted(address: ClientAddress, settings: &Settings) -> bool {
    address.forwarded || !settings.policy.is_proxy(address.ip)
}
