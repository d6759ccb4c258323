//! A request on a connection, and the answers that refuse one.

use std::borrow::Cow;
use std::net::IpAddr;

use super::event::{Closing, Opened};
use super::incoming::PendingPacket;
use crate::context::Cx;
use crate::io::Settings;
use crate::io::report::{Disconnect, Manner};
use crate::throttle::peers::PeerRefusal;
use crate::wire::http::{Cors, Delivery, Refusal, Refused, Request, Response, Shared};
use crate::words::ids::{ConnId, ShardId};
use crate::words::policy::ClientAddress;
use crate::words::time::{Micros, UnixMillis};

/// A request on a connection.
pub struct Exchange<'r> {
    pub conn: ConnId,
    /// The address that the connection comes from.
    pub peer: IpAddr,
    pub request: &'r Request<'r>,
    /// The bytes behind the head, once all of them are here.
    pub body: Option<&'r [u8]>,
    /// The part of the answer that pages may see.
    pub cors: Cors<'r>,
    /// The refusal that it gets, since its client was closed.
    pub refusal: Option<Refusal>,
    /// Whether its client was looked after.
    pub is_looked_after: bool,
}

/// The way in which a connection goes on after a request.
pub enum Step {
    /// With the next request, once this one is answered.
    Next,
    /// Speaks WebSocket from now on.
    Upgraded,
    /// With more of the body.
    More,
    /// With the packets of the request.
    Post { client: ConnId, packets: Vec<PendingPacket>, keep_alive: bool, cors: Shared },
    /// With the same request, after its client was looked after.
    Due(ConnId),
    /// With a refusal of this request, after its client was closed.
    CloseClient(ConnId, Closing, Refusal),
    /// On another shard, which reads the request again.
    Elsewhere(ShardId),
    /// Not at all.
    Close(Closing),
    /// After a client was announced.
    Opened(Box<Opened>),
}

impl Step {
    /// The request was answered.
    pub fn answered(keep_alive: bool) -> Self {
        if keep_alive { Self::Next } else { Self::Close(Closing::answered()) }
    }
}

impl<'r> Exchange<'r> {
    /// The delivery of the answer.
    pub fn delivery(&self) -> Delivery<'r> {
        Delivery { head: false, keep_alive: self.request.keep_alive, cors: self.cors }
    }
}

/// The client that a request comes from. A proxy's connection carries requests of many.
pub fn client_address(peer: IpAddr, request: &Request<'_>, settings: &Settings) -> ClientAddress {
    let lines = request.all("x-forwarded-for");
    settings.policy.client_address(peer, request.is_forwarded(), lines)
}

/// Refuses a request.
pub fn refused_request(conn: ConnId, refused: Refused, cors: Cors<'_>, cx: &mut Cx<'_>) -> Closing {
    let now = cx.now.unix;
    cx.out.send(conn, |bytes| refused.print(bytes, now, cors));
    Closing::refused(refused.reason())
}

/// Refuses a request that an operator may have wanted to be served. The log says which setting does
/// that.
pub fn refused_by_setting(
    (conn, peer): (ConnId, IpAddr),
    why: String,
    refused: Refused,
    cors: Cors<'_>,
    cx: &mut Cx<'_>,
) -> Closing {
    cx.report.counters.expulsions += 1;
    let (why, manner) = (why.into(), Manner::Misconfigured);
    cx.report.disconnects.add(Disconnect { conn, peer, session: None, why, manner });
    let now = cx.now.unix;
    cx.out.send(conn, |bytes| refused.print(bytes, now, cors));
    Closing::answered()
}

/// Refuses a client whose address has or wants too much.
pub fn too_many(conn: ConnId, refusal: PeerRefusal, cx: &mut Cx<'_>) -> Closing {
    let (body, wait): (&[u8], _) = match refusal {
        PeerRefusal::Connections => (br#"{"error":"Too many connections"}"#, Micros::from_secs(5)),
        PeerRefusal::TooFast(wait) => (br#"{"error":"Too many requests"}"#, wait),
    };
    let seconds = wait.as_millis().div_ceil(1_000).max(1).to_string();
    let headers = [
        (Cow::Borrowed("Content-Type"), Cow::Borrowed("application/json")),
        (Cow::Borrowed("Retry-After"), Cow::Owned(seconds)),
    ];
    let response = Response { status: 429, headers: &headers, body };
    let delivery = Delivery { head: false, keep_alive: false, cors: Cors::Silent };
    let now = cx.now.unix;
    cx.out.send(conn, |bytes| response.print(bytes, now, delivery));
    Closing::refused(refusal.why())
}

/// Refuses a client that there is no room or no memory for.
pub fn unavailable_now(conn: ConnId, cx: &mut Cx<'_>) -> Closing {
    let delivery = Delivery { head: false, keep_alive: false, cors: Cors::Silent };
    let now = cx.now.unix;
    let body = br#"{"error":"Too many connections"}"#;
    cx.out.send(conn, |bytes| print_unavailable(bytes, body, now, delivery));
    Closing::refused("there is no memory for more members")
}

/// Prints the answer to a client that comes while the server drains.
pub fn print_draining(bytes: &mut Vec<u8>, now: UnixMillis, delivery: Delivery<'_>) {
    let body = br#"{"error":"The server is draining: connect again in a moment"}"#;
    print_unavailable(bytes, body, now, delivery);
}

/// Prints a 503 that asks the client to come again after five seconds.
fn print_unavailable(bytes: &mut Vec<u8>, body: &[u8], now: UnixMillis, delivery: Delivery<'_>) {
    let headers = [
        (Cow::Borrowed("Content-Type"), Cow::Borrowed("application/json")),
        (Cow::Borrowed("Retry-After"), Cow::Borrowed("5")),
    ];
    Response { status: 503, headers: &headers, body }.print(bytes, now, delivery);
}
