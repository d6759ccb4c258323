//! What waits to be fetched by the requests of long-polling.

use serde::{Deserialize, Serialize};

use crate::wire::engine_packet;
use crate::wire::payload::{self, Body, Packet, Version};
use crate::words::ids::{ConnId, MemberId};
use crate::words::policy::ClientAddress;
use crate::words::time::Micros;

/// A link's packets until a request fetches them.
#[derive(Debug, Serialize, Deserialize)]
pub struct PollQueue {
    version: Version,
    /// Whether the client takes no bytes but as text.
    base64: bool,
    pub packets: Vec<Packet>,
    bytes: usize,
    /// The connection whose request waits for packets.
    #[serde(skip)]
    pub waiting: Option<ConnId>,
    /// The connection whose request has packets for us that are not all here.
    #[serde(skip)]
    pub posting: Option<ConnId>,
    /// Until when a WebSocket is expected to take over: meanwhile no request is kept waiting.
    pub probed: Option<Micros>,
    /// What the requests of a client of version 3 are known by.
    pub bond: Option<Box<Bond>>,
}

/// The cookie of sessions of version 3, under the name that such clients know.
pub const COOKIE: &str = "io";

/// What binds a session of version 3 to the client that opened it. Its id proves nothing: it is the
/// member's public id.
#[derive(Debug, Serialize, Deserialize)]
pub struct Bond {
    pub origin: Origin,
    /// The value of [`COOKIE`], which nobody else knows.
    pub cookie: MemberId,
    /// Whether the client has been told it.
    pub sent: bool,
    /// Whether the client has returned it. From then on every request needs it.
    pub returned: bool,
}

/// Where a request comes from, as closely as that is known.
#[derive(Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub address: ClientAddress,
    /// What the nearest proxy says of its client, if that proxy is not trusted. Somebody else
    /// behind the same proxy cannot say the same.
    pub hop: Box<[u8]>,
}

impl PollQueue {
    /// Nothing yet, for a client of this version.
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

    /// Takes a packet in.
    pub fn push(&mut self, packet: Packet) {
        self.bytes += packet.bytes().len();
        self.packets.push(packet);
    }

    /// Takes in that a request need not wait any longer.
    pub fn push_noop(&mut self) {
        self.push(Packet::Text(engine_packet::NOOP.to_vec()));
    }

    /// Whether a request waits and nothing else does: then what is volatile may go out.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_some() && self.packets.is_empty()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn take(&mut self) -> Vec<Packet> {
        self.bytes = 0;
        std::mem::take(&mut self.packets)
    }

    pub fn body(&mut self) -> Body {
        payload::body(&self.take(), self.version, self.base64)
    }

    /// The body of an answer with nothing in it.
    pub fn noop(&self) -> Body {
        payload::body(&[Packet::Text(engine_packet::NOOP.to_vec())], self.version, self.base64)
    }
}
