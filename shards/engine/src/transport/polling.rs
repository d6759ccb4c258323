//! HTTP long-polling: one client over many requests, which may arrive on any shard.
//!
//! The id of such a client begins with its first shard. A request that arrives on another shard is
//! handed over with its connection. When the client itself moves to the shard of its session, the
//! shard that it leaves remembers its new shard for some minutes.

use std::borrow::Cow;

use super::Transport;
use super::client::{Client, Dialect};
use super::connections::{Connection, Connections, Protocol};
use super::event::{Closing, Event, Farewell, slow_reader};
use super::exchange::{Exchange, Step, client_address, too_many, unavailable_now};
use super::incoming::{Incoming, PendingPacket, Post, PostEnd};
use crate::context::Cx;
use crate::delivery::poll_queue::{Bond, COOKIE, Origin, PollQueue};
use crate::delivery::route::Encoding;
use crate::io::HttpResponse;
use crate::speech::LeaveReason;
use crate::wire::http::{Delivery, Method, OwnedCors, Rejection, Request, Response};
use crate::wire::packing::Packing;
use crate::wire::payload::{self, Body, Version};
use crate::words::ids::{ConnId, MemberId};
use crate::words::policy::UNKNOWN;
use crate::words::time::UnixMillis;

/// Headers of the answer to a request that brings packets.
pub const OK_HEADERS: [(&str, &str); 2] =
    [("Content-Type", "text/html"), ("Cache-Control", "no-store")];

/// Appends an answer with packets, which may set the cookie of a client.
fn print_packets(
    bytes: &mut Vec<u8>,
    now: UnixMillis,
    body: Body,
    cookie: Option<MemberId>,
    packing: Packing,
    delivery: Delivery<'_>,
) {
    let mut answer = packets_answer(body, packing);
    if let Some(cookie) = cookie {
        let value = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax", cookie.as_str());
        answer.headers.push(("Set-Cookie".into(), value.into()));
    }
    Response { status: 200, headers: &answer.headers, body: &answer.body }
        .print(bytes, now, delivery);
}

/// Appends the answer to a request that brings packets.
fn print_ok(bytes: &mut Vec<u8>, now: UnixMillis, delivery: Delivery<'_>) {
    let headers = OK_HEADERS.map(|(name, value)| (name.into(), value.into()));
    Response { status: 200, headers: &headers, body: b"ok" }.print(bytes, now, delivery);
}

/// Returns the answer to a request for packets.
pub fn packets_answer(body: Body, packing: Packing) -> HttpResponse {
    let mut headers = vec![
        ("Content-Type".into(), body.kind.into()),
        ("Cache-Control".into(), "no-store".into()),
    ];
    let packed = packing.pack(&body.bytes);
    if let Some((name, _)) = packed {
        headers.push(("Content-Encoding".into(), name.into()));
    }
    let bytes = packed.map_or(body.bytes, |(_, bytes)| bytes);
    HttpResponse { status: 200, headers, body: bytes.into() }
}

impl Transport {
    /// Creates a client from its first request, and answers that with the first packets.
    pub(super) fn open_polled(
        &mut self,
        exchange: &Exchange<'_>,
        version: Version,
        cx: &mut Cx<'_>,
    ) -> Result<Step, Rejection> {
        let Exchange { conn, peer, request, .. } = *exchange;
        let sid = new_sid(cx);
        let base64 = wants_base64(request);
        let address = client_address(peer, request, cx.settings);
        // The client outlives this connection, which may be a proxy's, so it is counted separately.
        if let Err(rejection) = cx.admit_peer(address) {
            cx.release_peer(address);
            return Ok(Step::Close(too_many(conn, rejection, cx)));
        }
        let dialect = Dialect { version, base64, layer: self.profile.layer };
        let client = Client::new(dialect, Encoding::Polled, Some(sid), cx.now.at, cx.settings);
        let connection = Connection::new(address, Protocol::Client(Box::new(client)));
        let Some(client) = self.connections.insert_polled(connection) else {
            cx.release_peer(address);
            return Ok(Step::Close(unavailable_now(conn, "the shard is full", cx)));
        };
        cx.report.counters.clients += 1;
        self.polling_clients.put(sid, client);
        let mut queue = PollQueue::new(version, base64);
        if version == Version::V3 {
            queue.bond = Some(Box::new(new_bond(exchange, cx)));
        }
        cx.sender.open(client, queue);
        let layer = self.profile.layer;
        let opened =
            self.connections.greet(client, (sid, &["websocket"]), layer, request.query, cx);
        self.connections.arm(client, cx);
        let step = self.connections.poll(exchange, client, cx)?;
        Ok(opened.map_or(step, |opened| Step::Opened(Box::new(opened))))
    }

    /// Answers a client's request that waits for packets, now that there are some. If too many
    /// bytes are queued, returns how the client is closed.
    pub fn flush_poll(&mut self, client: ConnId, cx: &mut Cx<'_>) -> Option<Closing> {
        let limit = cx.settings.limits.backlog_bytes_max as usize;
        let queue = cx.sender.queue(client)?;
        if queue.bytes() > limit {
            return Some(broken_client(slow_reader(queue.bytes(), limit)));
        }
        // A client from another shard may have no packet yet, and an empty body is no packet.
        if !queue.packets.is_empty() // mark: poll_answered_with_nothing
            && let Some(waiting) = queue.waiting.take()
        {
            let body = queue.body();
            self.answer_poll(waiting, body, cx);
        }
        None
    }
}

impl Connections {
    /// Handles a request for packets. It is answered now if there are any, and parked otherwise.
    pub(super) fn poll(
        &mut self,
        exchange: &Exchange<'_>,
        client: ConnId,
        cx: &mut Cx<'_>,
    ) -> Result<Step, Rejection> {
        let now = cx.now.at;
        let (conn, delivery) = (exchange.conn, exchange.delivery());
        if let Some(client) = self.client_mut(client) {
            client.touch(now);
        }
        let Some(queue) = cx.sender.queue(client) else { return Err(Rejection::SessionUnknown) };
        let probed = queue.probed.is_some_and(|until| now < until);
        if queue.waiting.is_some() {
            // Two polls at once break the protocol.
            let closing = Closing::unlogged(LeaveReason::TransportError);
            return Ok(Step::CloseClient(client, closing, Rejection::BadRequest));
        }
        let http = self.http_mut(conn);
        if queue.packets.is_empty() && !probed {
            queue.waiting = Some(conn);
            if let Some(http) = http {
                http.park(client, delivery);
            }
            return Ok(Step::Next);
        }
        if queue.packets.is_empty() {
            queue.push_noop();
        }
        let body = queue.body();
        let bond = queue.bond.as_mut();
        let cookie =
            bond.and_then(|bond| (!std::mem::replace(&mut bond.sent, true)).then_some(bond.cookie));
        let (packing, now) = (http.map_or(Packing::None, |http| http.packing), cx.now.unix);
        cx.out.send(conn, |bytes| print_packets(bytes, now, body, cookie, packing, delivery));
        Ok(Step::answered(delivery.keep_alive))
    }

    /// Waits for the body of a request with packets. If a client sends two such requests at once,
    /// their order is unknown, so it is closed.
    pub(super) fn await_body(
        &mut self,
        conn: ConnId,
        client: ConnId,
        cx: &mut Cx<'_>,
    ) -> Result<Step, Rejection> {
        let Some(queue) = cx.sender.queue(client) else { return Err(Rejection::SessionUnknown) };
        if queue.posting.is_some_and(|posting| posting != conn) {
            let closing = broken_client("two requests with packets at once");
            return Ok(Step::CloseClient(client, closing, Rejection::BadRequest));
        }
        queue.posting = Some(conn);
        if let Some(http) = self.http_mut(conn) {
            http.posting_for = Some(client);
        }
        Ok(Step::More)
    }

    /// Handles a complete request with packets, which are read next, one at a time.
    pub(super) fn post(
        &mut self,
        exchange: &Exchange<'_>,
        client: ConnId,
        body: &[u8],
        cx: &mut Cx<'_>,
    ) -> Result<Step, Rejection> {
        let Some(version) = self.client(client).map(|client| client.version) else {
            return Err(Rejection::SessionUnknown);
        };
        let conflict = self.await_body(exchange.conn, client, cx)?;
        if !matches!(conflict, Step::More) {
            return Ok(conflict);
        }
        if let Some(queue) = cx.sender.queue(client) {
            queue.posting = None;
        }
        if let Some(http) = self.http_mut(exchange.conn) {
            http.posting_for = None;
        }
        let Ok(parts) = payload::parts(body, version, is_binary(exchange.request)) else {
            let closing = broken_client("malformed Engine.IO body of a polling request");
            return Ok(Step::CloseClient(client, closing, Rejection::BadRequest));
        };
        let packets = parts.into_iter().map(PendingPacket::of).collect();
        let Delivery { keep_alive, cors, .. } = exchange.delivery();
        Ok(Step::Post { client, packets, keep_alive, cors: OwnedCors::of(cors) })
    }

    /// Answers a request whose packets were all read. It is parked if its client waits for an
    /// admission, because a client moves with the connection of a request.
    pub(super) fn end_post<'i>(
        &mut self,
        incoming: &mut Incoming<'_>,
        post: &Post,
        cx: &mut Cx<'_>,
    ) -> Option<Event<'i>> {
        let (conn, client) = (incoming.conn, post.client);
        self.arm(client, cx);
        if self.client(client).is_some_and(Client::awaits_admission) {
            if let Some(queue) = cx.sender.queue(client) {
                queue.posting = Some(conn);
            }
            if let Some(http) = self.http_mut(conn) {
                http.posting_for = Some(client);
                http.park(client, post.delivery());
            }
        } else {
            let now = cx.now.unix;
            cx.out.send(conn, |bytes| print_ok(bytes, now, post.delivery()));
            if !post.keep_alive {
                return Some(Event::Close { conn, closing: Closing::answered() });
            }
        }
        if let Some(used) = post.used {
            incoming.request_used(used);
            if let Some(http) = self.http_mut(conn) {
                http.request_read(cx.now.at);
            }
        }
        Some(Event::Settled)
    }

    /// Answers or rejects a request whose client is gone.
    pub(super) fn client_gone<'i>(
        &mut self,
        incoming: &mut Incoming<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<Event<'i>> {
        let is_all_read = incoming.packets.len() == 0;
        incoming.packets = Vec::new().into_iter();
        let post = incoming.post.take()?;
        let is_answered = match post.end {
            PostEnd::Goodbye => true,
            PostEnd::Bad => false,
            PostEnd::BadIfMore => is_all_read,
        };
        if is_answered || post.used.is_none() {
            return self.end_post(incoming, &post, cx);
        }
        incoming.rejection = Some(Rejection::BadRequest);
        Some(Event::Settled)
    }
}

/// Whether a request comes from the client that it names, where the id alone does not prove that.
pub fn is_of_client(exchange: &Exchange<'_>, client: ConnId, cx: &mut Cx<'_>) -> bool {
    let origin = origin(exchange, cx);
    let queue = cx.sender.queue(client);
    let Some(bond) = queue.and_then(|queue| queue.bond.as_deref_mut()) else { return true };
    if origin != bond.origin {
        return false;
    }
    let has_cookie =
        exchange.request.cookies(COOKIE).any(|value| value == bond.cookie.as_str().as_bytes());
    bond.returned |= has_cookie;
    has_cookie || !bond.returned
}

/// Answers a request that crossed its client's goodbye.
pub fn answer_closed(exchange: &Exchange<'_>, body: Body, cx: &mut Cx<'_>) -> Step {
    let (now, delivery) = (cx.now.unix, exchange.delivery());
    cx.out.send(exchange.conn, |bytes| {
        print_packets(bytes, now, body, None, Packing::None, delivery);
    });
    Step::answered(delivery.keep_alive)
}

fn broken_client(why: impl Into<Cow<'static, str>>) -> Closing {
    Closing::expelled(why, LeaveReason::TransportError).with(Farewell::None)
}

/// Binds a client to the origin of its first request.
///
/// A browser has one cookie for all its pages, so a cookie that the request brings is kept: other
/// clients of the browser need it. A client of unknown address has only the cookie.
fn new_bond(exchange: &Exchange<'_>, cx: &mut Cx<'_>) -> Bond {
    let origin = origin(exchange, cx);
    let value = |bytes| std::str::from_utf8(bytes).ok().and_then(MemberId::parse);
    let returned = exchange.request.cookies(COOKIE).find_map(value);
    let needs_cookie = returned.is_some() || origin.address.ip == UNKNOWN;
    let cookie = returned.unwrap_or_else(|| cx.draw_id());
    Bond { origin, cookie, sent: false, returned: needs_cookie }
}

fn origin(exchange: &Exchange<'_>, cx: &Cx<'_>) -> Origin {
    let Exchange { peer, request, .. } = *exchange;
    let address = client_address(peer, request, cx.settings);
    let is_trusted = cx.settings.policy.is_proxy(peer);
    let last = request.all("x-forwarded-for").next_back().filter(|_| !is_trusted);
    let hop = last.and_then(|line| line.rsplit(|byte| *byte == b',').next()).unwrap_or_default();
    Origin { address, hop: hop.trim_ascii().into() }
}

fn new_sid(cx: &mut Cx<'_>) -> MemberId {
    let mut bytes = [0; 15];
    cx.rng.fill(&mut bytes);
    bytes[..2].copy_from_slice(&cx.settings.shard.0.to_be_bytes());
    MemberId::from_bytes(bytes)
}

/// Whether a client accepts bytes only as text, as old browsers do.
pub fn wants_base64(request: &Request<'_>) -> bool {
    request.parameter("b64").is_some_and(|value| !value.is_empty())
}

/// Whether a request fits a client of long-polling.
pub fn fits(request: &Request<'_>, client: ConnId) -> bool {
    client.is_polled() && matches!(request.method, Method::Get | Method::Post)
}

/// Whether a body is binary by its type.
fn is_binary(request: &Request<'_>) -> bool {
    request.header("content-type").is_some_and(|kind| kind.starts_with("application/octet-stream"))
}
