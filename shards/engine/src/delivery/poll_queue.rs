//! The packets of a polling client that wait for its next poll.

use serde::{Deserialize, Serialize};

use crate::wire::engine_packet;
use crate::wire::payload::{self, Body, Packet, Version};
use crate::words::ids::{ConnId, MemberId};
use crate::words::policy::ClientAddress;
use crate::words::time::Micros;

/// The queue of one polling client, with the state of its requests.
#[derive(Debug, Serialize, Deserialize)]
pub struct PollQueue {
    version: Version,
    /// Whether the client accepts binary packets only as base64 text.
    base64: bool,
    /// Packets in order of sending.
    pub packets: Vec<Packet>,
    /// Bytes of `packets`.
    bytes: usize,
    /// The connection of the poll that waits for packets.
    #[serde(skip)]
    pub waiting: Option<ConnId>,
    /// The connection of a POST whose body has not fully arrived.
    #[serde(skip)]
    pub posting: Option<ConnId>,
    /// Time until which a WebSocket is expected to take over. Until then no poll is kept waiting.
    pub probed: Option<Micros>,
    /// The bond that requests of a version 3 client must prove.
    pub bond: Option<Box<Bond>>,
}

/// Name of the cookie of version 3 clients: the default of Engine.IO.
pub const COOKIE: &str = "io";

/// The proof that a request belongs to the version 3 client that opened the polling session. The
/// client's id proves nothing, because it is the member's public id.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bond {
    /// The origin of the request that opened the session.
    pub origin: Origin,
    /// The value of [`COOKIE`], which only the client receives.
    pub cookie: MemberId,
    /// Whether the cookie was sent to the client.
    pub sent: bool,
    /// Whether the client has returned the cookie. From then on every request needs it.
    pub returned: bool,
}

/// The origin of a request, as closely as it is known.
#[derive(Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// The address that limits count.
    pub address: ClientAddress,
    /// The client that the nearest proxy names, if that proxy is not trusted. Another client behind
    /// the same proxy cannot claim the same.
    pub hop: Box<[u8]>,
}

impl PollQueue {
    /// Creates an empty queue for a client of this version.
    pub fn new(version: Version, base64: bool) -> Self {
        Self {
            version,
            base64,
            packets: Vec::new(),
            bytes: 0,
            waiting: None,
            posting: None,
            probed: None,
            bond: None,
        }
    }

    /// Appends a packet.
    pub fn push(&mut self, packet: Packet) {
        self.bytes += packet.bytes().len();
        self.packets.push(packet);
    }

    /// Appends a no-op packet, which ends a waiting poll.
    pub fn push_noop(&mut self) {
        self.push(Packet::Text(engine_packet::NOOP.to_vec()));
    }

    /// Whether a poll waits and no packet does. A volatile packet may then be sent.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_some() && self.packets.is_empty()
    }

    /// Returns the bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes all packets.
    pub fn take(&mut self) -> Vec<Packet> {
        self.bytes = 0;
        std::mem::take(&mut self.packets)
    }

    /// Takes all packets, as the body of a response.
    pub fn body(&mut self) -> Body {
        payload::body(&self.take(), self.version, self.base64)
    }

    /// Returns the body of a response that carries only a no-op packet.
    pub fn noop(&self) -> Body {
        payload::body(&[Packet::Text(engine_packet::NOOP.to_vec())], self.version, self.base64)
    }
}
