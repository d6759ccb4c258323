//! A connection as long as it speaks HTTP.

use super::parcel::Packed;
use crate::wire::http::{HeadReader, Request, Shared};
use crate::wire::packing::Packing;
use crate::words::ids::{ConnId, ShardId};
use crate::words::limits::Limits;
use crate::words::time::Micros;

/// Bytes that may wait behind a question that the host has not answered yet.
pub const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Maximum wait for a request while the server drains. Chosen: the end waits for connections from
/// before the drain, and browsers open some that they never use.
const DRAIN_PATIENCE: Micros = Micros::from_secs(1);

/// A connection that speaks HTTP.
pub struct HttpConn {
    /// Received and not used yet.
    pub bytes: Vec<u8>,
    pub head: HeadReader,
    /// Since when it waits for what it waits for.
    pub since: Micros,
    /// Whether it has asked for something before.
    pub kept_alive: bool,
    /// What the host has been asked and has not answered, or a session of long-polling has nothing
    /// to answer to.
    pub asked: Option<PendingRequest>,
    /// How often the request that comes first was handed from shard to shard.
    pub hops: u8,
    /// How long-polling's answers may be compressed.
    pub packing: Packing,
    /// The session to which it sends packets that are not all here.
    pub posts_to: Option<ConnId>,
}

/// What has to be remembered of a request until the host has answered it.
pub struct PendingRequest {
    pub head: bool,
    pub keep_alive: bool,
    pub cors: Shared,
    /// The session whose packets it waits for.
    pub session: Option<ConnId>,
}

/// What becomes of a connection after a request.
pub enum Step {
    /// It reads the next one.
    Next,
    /// It waits for the host.
    Wait,
    /// It speaks WebSocket.
    Upgraded,
    /// It is to become a session's transport.
    Probing,
    /// More of its body has to come.
    More,
    /// It goes to another shard, which reads the request anew.
    Elsewhere(ShardId),
    /// It goes to another shard with what is packed, and with what came behind the request.
    Moves(ShardId, Option<Box<Packed>>),
    /// It is closed.
    Gone,
}

impl HttpConn {
    /// A connection that was just accepted.
    pub fn new(now: Micros) -> Self {
        Self {
            bytes: Vec::new(),
            head: HeadReader::default(),
            since: now,
            kept_alive: false,
            asked: None,
            hops: 0,
            packing: Packing::None,
            posts_to: None,
        }
    }

    /// A connection that another shard has sent.
    pub fn handed_over(now: Micros, hops: u8) -> Self {
        Self { hops, ..Self::new(now) }
    }

    /// The session whose packets it waits for.
    pub fn waits_for(&self) -> Option<ConnId> {
        self.asked.as_ref().and_then(|asked| asked.session)
    }

    /// Takes out of it what a request is to be answered with that goes to another shard: whether it
    /// reads on then, what pages may see, and what came behind it.
    pub fn take_asked(&mut self) -> Option<(bool, Shared, Vec<u8>)> {
        let PendingRequest { keep_alive, cors, .. } = self.asked.take()?;
        self.posts_to = None;
        Some((keep_alive, cors, std::mem::take(&mut self.bytes)))
    }

    /// Whether its peer has a right to an answer that it has not asked for completely: true for a
    /// new connection and in the middle of a request, false between requests.
    pub fn expects_request(&self) -> bool {
        self.asked.is_none() && !(self.kept_alive && self.bytes.is_empty())
    }

    /// When it has waited long enough. The host answers within the turn, so nothing is set while it
    /// is asked.
    pub fn deadline(&self, limits: &Limits, draining: bool) -> Option<Micros> {
        let idle = self.kept_alive && self.bytes.is_empty();
        let patience = if idle { limits.idle_timeout } else { limits.head_timeout };
        let patience = if draining { patience.min(DRAIN_PATIENCE) } else { patience };
        self.asked.is_none().then(|| self.since + patience)
    }
}

/// Whether a client takes no bytes but as text: old ones in old browsers.
pub fn wants_base64(request: &Request<'_>) -> bool {
    request.parameter("b64").is_some_and(|value| !value.is_empty())
}
