//! A connection that speaks HTTP, as a machine: bytes in, one [`NextRequest`] for each request out.
//! It knows neither its id nor the table of connections.

use crate::wire::http::{Cors, Delivery, HeadReader, OwnedCors, Rejected, Request};
use crate::wire::packing::Packing;
use crate::words::ids::ConnId;
use crate::words::limits::Limits;
use crate::words::time::Micros;

/// Maximum bytes behind a request that is not answered yet. Guessed.
pub const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Maximum wait for a request while the server drains. Guessed: the end waits for connections from
/// before the drain, and browsers open some that they never use.
const DRAIN_PATIENCE: Micros = Micros::from_secs(1);

/// A connection that speaks HTTP.
pub struct HttpConn {
    /// Bytes that were received and not used yet.
    pub bytes: Vec<u8>,
    head: HeadReader,
    /// The time since which it has waited for the next request.
    since: Micros,
    /// Whether it has sent a request before.
    reused: bool,
    /// The request that is not answered yet, because the host was asked, or because a client of
    /// long-polling has no packets.
    pub pending: Option<PendingRequest>,
    /// Number of hand-overs of its first request.
    pub hops: u8,
    /// The compression of answers with packets.
    pub packing: Packing,
    /// The client whose packets are in an incomplete request.
    pub posting_for: Option<ConnId>,
}

/// A request that waits for its answer.
pub struct PendingRequest {
    pub head: bool,
    pub keep_alive: bool,
    pub cors: OwnedCors,
    /// The client of long-polling that sent the request.
    pub client: Option<ConnId>,
}

/// The result of reading a request.
#[allow(clippy::large_enum_variant)] // there is one at a time
pub enum NextRequest<'a> {
    /// Incomplete: more bytes have to arrive.
    Incomplete,
    /// Blocked: the request before it must be answered first.
    Pending,
    /// Too many bytes behind a request that is not answered yet.
    TooMuch,
    /// Bytes that are no request, with their rejection.
    Rejected(Rejected),
    /// A request, with its body if that is complete.
    Request {
        request: Request<'a>,
        body: Option<&'a [u8]>,
        /// Number of bytes of head and body.
        used: usize,
    },
}

impl HttpConn {
    /// Creates a connection that was just accepted.
    pub fn new(now: Micros) -> Self {
        Self {
            bytes: Vec::new(),
            head: HeadReader::default(),
            since: now,
            reused: false,
            pending: None,
            hops: 0,
            packing: Packing::None,
            posting_for: None,
        }
    }

    /// Creates a connection that another shard handed over.
    pub fn handed_over(now: Micros, hops: u8) -> Self {
        Self { hops, ..Self::new(now) }
    }

    /// Takes received bytes. Returns all that are not used yet.
    pub fn receive(&mut self, bytes: &[u8], now: Micros) -> Vec<u8> {
        if self.bytes.is_empty() && self.reused {
            self.since = now;
        }
        self.bytes.extend_from_slice(bytes);
        std::mem::take(&mut self.bytes)
    }

    /// Reads the request at the start of `bytes`.
    pub fn next_request<'a>(&mut self, bytes: &'a [u8]) -> NextRequest<'a> {
        if self.pending.is_some() {
            let is_too_much = bytes.len() > WAITING_BYTES_MAX;
            return if is_too_much { NextRequest::TooMuch } else { NextRequest::Pending };
        }
        match self.head.parse(bytes) {
            Ok(None) => NextRequest::Incomplete,
            Ok(Some((request, length))) => {
                let body = bytes[length..].get(..request.content_length as usize);
                let used = length + body.map_or(0, <[u8]>::len);
                NextRequest::Request { request, body, used }
            }
            Err(rejected) => NextRequest::Rejected(rejected),
        }
    }

    /// Records that a request was used up.
    pub fn request_read(&mut self, now: Micros) {
        self.since = now;
        self.reused = true;
        self.hops = 0;
    }

    /// Records that a pending request was answered.
    pub fn answer_sent(&mut self, now: Micros) {
        self.since = now;
    }

    /// Parks a request of a client of long-polling.
    pub fn park(&mut self, client: ConnId, delivery: Delivery<'_>) {
        debug_assert!(self.pending.is_none(), "a connection has one request pending");
        let Delivery { keep_alive, cors, .. } = delivery;
        let cors = OwnedCors::of(cors);
        self.pending = Some(PendingRequest { head: false, keep_alive, cors, client: Some(client) });
    }

    /// Parks a request that the host answers.
    pub fn ask(&mut self, head: bool, keep_alive: bool, cors: Cors<'_>) {
        debug_assert!(self.pending.is_none(), "a connection has one request pending");
        let cors = OwnedCors::of(cors);
        self.pending = Some(PendingRequest { head, keep_alive, cors, client: None });
    }

    /// Returns the client whose packets its request waits for.
    pub fn polling_for(&self) -> Option<ConnId> {
        self.pending.as_ref().and_then(|pending| pending.client)
    }

    /// Removes a parked request that moves to another shard. Returns whether its connection is kept
    /// alive, its CORS answer, and the bytes behind it.
    pub fn take_pending(&mut self) -> Option<(bool, OwnedCors, Vec<u8>)> {
        let PendingRequest { keep_alive, cors, .. } = self.pending.take()?;
        self.posting_for = None;
        Some((keep_alive, cors, std::mem::take(&mut self.bytes)))
    }

    /// Makes the answer to its current request the last one. Returns false if there is no such
    /// request: between two requests, and while a client of long-polling waits for packets.
    pub fn end_with_answer(&mut self) -> bool {
        match &mut self.pending {
            Some(PendingRequest { keep_alive, client: None, .. }) => {
                *keep_alive = false;
                true
            }
            Some(_) => false,
            None => !self.reused || !self.bytes.is_empty(),
        }
    }

    /// Returns the time by which the next request must have arrived, `None` while one is pending.
    pub fn deadline(&self, limits: &Limits, draining: bool) -> Option<Micros> {
        let idle = self.reused && self.bytes.is_empty();
        let patience = if idle { limits.idle_timeout } else { limits.head_timeout };
        let patience = if draining { patience.min(DRAIN_PATIENCE) } else { patience };
        self.pending.is_none().then(|| self.since + patience)
    }
}
