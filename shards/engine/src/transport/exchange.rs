//! A request on a connection, and the answers that reject one.

use std::borrow::Cow;
use std::net::IpAddr;

use super::event::{Closing, Opened};
use super::incoming::PendingPacket;
use crate::context::Cx;
use crate::io::Settings;
use crate::io::report::{Disconnect, Manner};
use crate::throttle::peers::PeerRejection;
use crate::wire::http::{Cors, Delivery, OwnedCors, Rejected, Rejection, Request, Response};
use crate::words::ids::{ConnId, ShardId};
use crate::words::policy::ClientAddress;
use crate::words::time::{Micros, UnixMillis};

/// A request on a connection.
pub struct Exchange<'r> {
    pub conn: ConnId,
    /// The source address of the connection.
    pub peer: IpAddr,
    pub request: &'r Request<'r>,
    /// The body, once it is complete.
    pub body: Option<&'r [u8]>,
    /// The CORS answer.
    pub cors: Cors<'r>,
    /// The rejection that the request gets, because its client was closed.
    pub rejection: Option<Rejection>,
    /// Whether the deadlines of its client were handled.
    pub is_looked_after: bool,
}

/// The continuation of a connection after a request.
pub enum Step {
    /// Read the next request; this one is answered, or parked.
    Next,
    /// Speak WebSocket from now on.
    Upgraded,
    /// Wait for more of the body.
    More,
    /// Read the packets of the request.
    Post { client: ConnId, packets: Vec<PendingPacket>, keep_alive: bool, cors: OwnedCors },
    /// Handle the deadlines of this client, then read the request again.
    Due(ConnId),
    /// Close this client, then reject the request.
    CloseClient(ConnId, Closing, Rejection),
    /// Hand the connection over to another shard, which reads the request again.
    Elsewhere(ShardId),
    /// Close the connection.
    Close(Closing),
    /// Announce a client that has opened.
    Opened(Box<Opened>),
}

impl Step {
    /// Continues after an answer: keeps the connection alive, or closes it.
    pub fn answered(keep_alive: bool) -> Self {
        if keep_alive { Self::Next } else { Self::Close(Closing::answered()) }
    }
}

impl<'r> Exchange<'r> {
    /// Returns the delivery of the answer.
    pub fn delivery(&self) -> Delivery<'r> {
        Delivery { head: false, keep_alive: self.request.keep_alive, cors: self.cors }
    }
}

/// Returns the address of the client that sent a request. A proxy's connection carries requests of
/// many clients.
pub fn client_address(peer: IpAddr, request: &Request<'_>, settings: &Settings) -> ClientAddress {
    let lines = request.all("x-forwarded-for");
    settings.policy.client_address(peer, request.is_forwarded(), lines)
}

/// Rejects a request.
pub fn rejected_request(
    conn: ConnId,
    rejected: Rejected,
    cors: Cors<'_>,
    cx: &mut Cx<'_>,
) -> Closing {
    let now = cx.now.unix;
    cx.out.send(conn, |bytes| rejected.print(bytes, now, cors));
    Closing::rejected(rejected.reason())
}

/// Rejects a request because of a setting that the operator may want to change, and names the
/// setting in the log.
pub fn rejected_by_setting(
    (conn, peer): (ConnId, IpAddr),
    why: String,
    rejected: Rejected,
    cors: Cors<'_>,
    cx: &mut Cx<'_>,
) -> Closing {
    cx.report.counters.expulsions += 1;
    let (why, manner) = (why.into(), Manner::Misconfigured);
    cx.report.disconnects.add(Disconnect { conn, peer, session: None, why, manner });
    let now = cx.now.unix;
    cx.out.send(conn, |bytes| rejected.print(bytes, now, cors));
    Closing::answered()
}

/// Rejects a client whose address has too many connections, or asks too often.
pub fn too_many(conn: ConnId, rejection: PeerRejection, cx: &mut Cx<'_>) -> Closing {
    let (body, wait): (&[u8], _) = match rejection {
        PeerRejection::Connections => {
            (br#"{"error":"Too many connections"}"#, Micros::from_secs(5))
        }
        PeerRejection::TooFast(wait) => (br#"{"error":"Too many requests"}"#, wait),
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
    Closing::rejected(rejection.why(&cx.settings.policy.peers))
}

/// Rejects a client because the shard is full or memory is low. `why` says which, for the log.
pub fn unavailable_now(
    conn: ConnId,
    why: impl Into<Cow<'static, str>>,
    cx: &mut Cx<'_>,
) -> Closing {
    let delivery = Delivery { head: false, keep_alive: false, cors: Cors::Silent };
    let now = cx.now.unix;
    let body = br#"{"error":"Too many connections"}"#;
    cx.out.send(conn, |bytes| print_unavailable(bytes, body, now, delivery));
    Closing::rejected(why)
}

/// Prints the answer to a client that connects while the server drains.
pub fn print_draining(bytes: &mut Vec<u8>, now: UnixMillis, delivery: Delivery<'_>) {
    let body = br#"{"error":"The server is draining: connect again in a moment"}"#;
    print_unavailable(bytes, body, now, delivery);
}

/// Prints a 503 that asks the client to retry after five seconds.
fn print_unavailable(bytes: &mut Vec<u8>, body: &[u8], now: UnixMillis, delivery: Delivery<'_>) {
    let headers = [
        (Cow::Borrowed("Content-Type"), Cow::Borrowed("application/json")),
        (Cow::Borrowed("Retry-After"), Cow::Borrowed("5")),
    ];
    Response { status: 503, headers: &headers, body }.print(bytes, now, delivery);
}
