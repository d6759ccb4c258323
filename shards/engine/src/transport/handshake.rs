//! Requests of connections that speak HTTP: the host answers some, others are rejected, and
//! requests to Engine.IO become clients.

use std::borrow::Cow;
use std::net::IpAddr;

use super::client::{Client, Dialect};
use super::connections::{Connections, Protocol};
use super::event::{Closing, Event, Layer, Opened};
use super::exchange::{
    Exchange, Step, client_address, print_draining, rejected_by_setting, rejected_request,
    too_many, unavailable_now,
};
use super::http_conn::NextRequest;
use super::incoming::{Incoming, Post, PostEnd};
use super::packed::Packed;
use super::polling::{answer_closed, fits, is_of_client, wants_base64};
use super::polling_clients::{Location, Probe};
use super::upgrade::dropped;
use super::{Profile, Transport};
use crate::context::Cx;
use crate::delivery::route::Encoding;
use crate::io::{FreeMemory, HttpRequest, Output, Settings, Version3};
use crate::throttle::peers::PeerRejection;
use crate::wire::deflate::{self, Agreed};
use crate::wire::frame::Reader;
use crate::wire::http::{
    self, Cors, Delivery, Method, Rejected, Rejection, Request, Response, Upgrade,
};
use crate::wire::packing::Packing;
use crate::wire::payload::Version;
use crate::wire::{engine_packet, socket_packet};
use crate::words::ids::{ConnId, MemberId};

impl Transport {
    /// Reads one request.
    pub(super) fn next_request<'i>(
        &mut self,
        incoming: &mut Incoming<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<Event<'i>> {
        let conn = incoming.conn;
        let connection = self.connections.get_mut(conn)?;
        let peer = connection.peer;
        let Protocol::Http(http) = &mut connection.protocol else { return None };
        let rejection = incoming.rejection.take();
        let is_counted = rejection.is_none();
        let (step, used) = match http.next_request(&incoming.bytes.get()[incoming.at..]) {
            NextRequest::Incomplete | NextRequest::Pending => return None,
            NextRequest::TooMuch => {
                return Some(Event::Close { conn, closing: Closing::answered() });
            }
            NextRequest::Rejected(rejected) => {
                (Step::Close(rejected_request(conn, rejected, Cors::Silent, cx)), 0)
            }
            NextRequest::Request { request, body, used } => {
                let cors = self.profile.cors_for(&request, cx.settings);
                let is_looked_after = incoming.is_looked_after;
                let request = &request;
                let exchange =
                    Exchange { conn, peer, request, body, cors, rejection, is_looked_after };
                (self.request(&exchange, cx), used)
            }
        };
        // A request is counted once, in however many pieces its body arrives.
        if is_counted && !matches!(step, Step::More | Step::Due(_)) {
            cx.report.counters.requests += 1;
        }
        let event = match step {
            // The head is parsed again with the rest, which costs little because it is short.
            Step::More => return None,
            Step::Due(client) => {
                incoming.is_looked_after = true;
                return Some(Event::Due { client });
            }
            Step::CloseClient(client, closing, rejection) => {
                incoming.rejection = Some(rejection);
                return Some(Event::Close { conn: client, closing });
            }
            Step::Elsewhere(to) => {
                let hops = self.connections.http_mut(conn).map_or(0, |http| http.hops) + 1;
                let bytes = incoming.rest().to_vec();
                self.connections.send_http(conn, to, Packed::Request { hops, bytes }, cx);
                return Some(Event::Settled);
            }
            Step::Close(closing) => return Some(Event::Close { conn, closing }),
            Step::Post { client, packets, keep_alive, cors } => {
                let (used, end) = (Some(used), PostEnd::Bad);
                incoming.post = Some(Post { client, keep_alive, cors, used, end });
                incoming.packets = packets.into_iter();
                return Some(Event::Settled);
            }
            Step::Next | Step::Upgraded => Event::Settled,
            Step::Opened(opened) => Event::Opened(*opened),
        };
        incoming.request_used(used);
        if let Some(http) = self.connections.http_mut(conn) {
            http.request_read(cx.now.at);
        }
        Some(event)
    }

    fn request(&mut self, exchange: &Exchange<'_>, cx: &mut Cx<'_>) -> Step {
        let &Exchange { conn, peer, request, cors, .. } = exchange;
        // The bodies of these requests are not read, so no request can follow one with a body.
        // While the server drains, no connection is kept for another request.
        let keep_alive =
            request.keep_alive && request.content_length == 0 && !self.connections.draining;
        let now = cx.now.unix;
        let delivery = Delivery { head: request.method == Method::Head, keep_alive, cors };
        match request.method {
            Method::Options => {
                cx.out.send(conn, |bytes| http::print_preflight(bytes, request, now, delivery));
                Step::answered(keep_alive)
            }
            _ if self.connections.draining
                && (self.profile.is_protocol(request) || request.wants_upgrade()) =>
            {
                // Not logged, because a whole hall may return at once.
                cx.out.send(conn, |bytes| print_draining(bytes, now, delivery));
                Step::answered(false)
            }
            _ if self.profile.is_protocol(request) => self.handshake(exchange, cx),
            Method::Get | Method::Head if request.wants_upgrade() => {
                if self.profile.layer == Layer::Frames {
                    return self.accept(exchange, Version::V4, None, cx);
                }
                let headers =
                    [(Cow::Borrowed("Content-Type"), Cow::Borrowed("text/plain; charset=utf-8"))];
                let body = b"WebSockets are at /socket.io/";
                let response = Response { status: 404, headers: &headers, body };
                cx.out.send(conn, |bytes| {
                    response.print(bytes, now, Delivery { keep_alive: false, ..delivery })
                });
                Step::answered(false)
            }
            Method::Get | Method::Head => {
                let request = host_request(peer, request, cx.settings);
                if let Some(http) = self.connections.http_mut(conn) {
                    http.ask(delivery.head, keep_alive, cors);
                }
                cx.out.list.push(Output::Request { conn, request });
                Step::Next
            }
            Method::Post | Method::Other => {
                let headers = [
                    (Cow::Borrowed("Allow"), Cow::Borrowed("GET, HEAD, OPTIONS")),
                    (Cow::Borrowed("Content-Type"), Cow::Borrowed("application/json")),
                ];
                let response = Response {
                    status: 405,
                    headers: &headers,
                    body: br#"{"error":"Method not allowed"}"#,
                };
                cx.out.send(conn, |bytes| response.print(bytes, now, delivery));
                Step::answered(keep_alive)
            }
        }
    }

    /// Checks a request to Engine.IO. The order of the checks is that of other servers, because
    /// clients show the answers.
    fn handshake(&mut self, exchange: &Exchange<'_>, cx: &mut Cx<'_>) -> Step {
        let &Exchange { conn, peer, request, cors, rejection, .. } = exchange;
        // mark: admitted_without_memory
        if self.memory == FreeMemory::Out && request.parameter("sid").is_none() {
            return Step::Close(unavailable_now(conn, "memory is above MEMORY_LIMIT", cx));
        }
        let done = match (rejection, request.parameter("transport").as_deref()) {
            (Some(rejection), _) => Err(rejection),
            (_, Some("websocket" | "polling")) if cors == Cors::Denied => Err(Rejection::Forbidden),
            (_, Some("websocket")) => self.websocket(exchange, cx),
            (_, Some("polling")) if cx.settings.transports.polling => self.polling(exchange, cx),
            _ => Err(Rejection::TransportUnknown),
        };
        done.unwrap_or_else(|rejection| {
            let upgrading = request.wants_upgrade();
            let rejected = if upgrading { rejection.of_upgrade() } else { rejection.of_request() };
            let settings = cx.settings;
            let why = match rejection {
                Rejection::Forbidden => why_forbidden(request, settings),
                Rejection::UnsupportedVersion if would_poll(request, settings) => {
                    NO_POLLING_V3.to_owned()
                }
                _ => return Step::Close(rejected_request(conn, rejected, cors, cx)),
            };
            let peer = client_address(peer, request, settings).ip;
            Step::Close(rejected_by_setting((conn, peer), why, rejected, cors, cx))
        })
    }

    /// Handles a request for a WebSocket, from a new client or one that began with long-polling.
    fn websocket(&mut self, exchange: &Exchange<'_>, cx: &mut Cx<'_>) -> Result<Step, Rejection> {
        let request = exchange.request;
        let client = match request.parameter("sid").map(|sid| self.locate(exchange.conn, &sid, cx))
        {
            None => None,
            Some(Location::Local(client)) => Some(client),
            Some(Location::Remote(shard)) => return Ok(Step::Elsewhere(shard)),
            Some(Location::Unknown) => return Err(Rejection::SessionUnknown),
        };
        if client.is_some_and(|client| !is_of_client(exchange, client, cx)) {
            return Err(Rejection::SessionUnknown);
        }
        if request.method != Method::Get {
            return Err(Rejection::BadMethod);
        }
        if !request.wants_upgrade() {
            return Err(Rejection::BadRequest);
        }
        let version = version(request, false, cx.settings)?;
        if client
            .and_then(|client| self.connections.client(client))
            .is_some_and(|client| client.version != version)
        {
            return Err(Rejection::BadRequest);
        }
        Ok(self.accept(exchange, version, client, cx))
    }

    /// Upgrades a connection to a WebSocket, unless its offer is malformed.
    fn accept(
        &mut self,
        exchange: &Exchange<'_>,
        version: Version,
        client: Option<ConnId>,
        cx: &mut Cx<'_>,
    ) -> Step {
        let &Exchange { conn, request, cors, .. } = exchange;
        let (upgrade, agreed) = match negotiate(request, cx.settings) {
            Ok(granted) => granted,
            Err(rejected) => return Step::Close(rejected_request(conn, rejected, cors, cx)),
        };
        if let Err(rejection) = self.connections.count_client(exchange, cx) {
            return Step::Close(too_many(conn, rejection, cx));
        }
        let extension = agreed.map(|agreed| agreed.answer());
        let now = cx.now.unix;
        cx.out.send(conn, |bytes| upgrade.print(bytes, now, cors, extension.as_deref()));
        let Some(client) = client else {
            return self.open_websocket(exchange, version, agreed, cx);
        };
        let Some(sid) = self.connections.client(client).and_then(Client::sid) else {
            return Step::Upgraded;
        };
        let probe = Probe::new(sid, agreed, cx.now.at);
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.protocol = Protocol::Probe(Box::new(probe));
        }
        if client.is_polled() {
            return Step::Upgraded;
        }
        // The client has a WebSocket already. Clients cope with this better than with a rejection.
        Step::Close(dropped())
    }

    /// Creates a client for a connection whose upgrade was accepted, and greets it.
    fn open_websocket(
        &mut self,
        exchange: &Exchange<'_>,
        version: Version,
        agreed: Option<Agreed>,
        cx: &mut Cx<'_>,
    ) -> Step {
        let sid = cx.draw_id();
        let base64 = wants_base64(exchange.request);
        let dialect = Dialect { version, base64, layer: self.profile.layer };
        let mut client = Client::new(dialect, Encoding::Plain, None, cx.now.at, cx.settings);
        client.upgrade(Reader::new(agreed.is_some()), agreed, agreed.and_then(Agreed::window));
        if let Some(connection) = self.connections.get_mut(exchange.conn) {
            connection.protocol = Protocol::Client(Box::new(client));
        }
        cx.report.counters.clients += 1;
        let (layer, query) = (self.profile.layer, exchange.request.query);
        let opened = self.connections.greet(exchange.conn, (sid, &[]), layer, query, cx);
        opened.map_or(Step::Upgraded, |opened| Step::Opened(Box::new(opened)))
    }

    fn polling(&mut self, exchange: &Exchange<'_>, cx: &mut Cx<'_>) -> Result<Step, Rejection> {
        let &Exchange { conn, request, body, cors, .. } = exchange;
        // JSONP, for browsers without CORS, is not supported: any page may run its answers as
        // scripts.
        if request.parameter("j").is_some() {
            return Err(Rejection::TransportUnknown);
        }
        let packing =
            cx.settings.transports.compression.map_or(Packing::None, |_| Packing::of(request));
        if let Some(http) = self.connections.http_mut(conn) {
            http.packing = packing;
        }
        let Some(sid) = request.parameter("sid") else {
            if request.method != Method::Get {
                return Err(Rejection::BadMethod);
            }
            if request.wants_upgrade() {
                return Err(Rejection::BadRequest);
            }
            let version = version(request, true, cx.settings)?;
            return self.open_polled(exchange, version, cx);
        };
        let client = match self.locate(conn, &sid, cx) {
            // A deadline that was missed counts before a request of the same turn.
            Location::Local(client)
                if !exchange.is_looked_after && self.connections.is_due(client, cx) =>
            {
                return Ok(Step::Due(client));
            }
            Location::Local(client) => client,
            Location::Remote(shard) => return Ok(Step::Elsewhere(shard)),
            Location::Unknown if request.method == Method::Get => {
                let body = self.polling_clients.final_body(&sid, cx.now.at);
                let body = body.ok_or(Rejection::SessionUnknown)?;
                return Ok(answer_closed(exchange, body, cx));
            }
            Location::Unknown => return Err(Rejection::SessionUnknown),
        };
        if !is_of_client(exchange, client, cx) {
            return Err(Rejection::SessionUnknown);
        }
        let version = version(request, true, cx.settings)?;
        let same = self.connections.client(client).is_some_and(|client| client.version == version);
        if !same || !fits(request, client) {
            return Err(Rejection::BadRequest);
        }
        if request.method == Method::Get {
            return self.connections.poll(exchange, client, cx);
        }
        if request.content_length > u64::from(cx.settings.limits.message_bytes_max) {
            return Ok(Step::Close(rejected_request(conn, Rejected::BODY_TOO_LARGE, cors, cx)));
        }
        match body {
            Some(body) => self.connections.post(exchange, client, body, cx),
            None => self.connections.await_body(conn, client, cx),
        }
    }

    /// Finds the client that a request names.
    fn locate(&mut self, conn: ConnId, sid: &str, cx: &Cx<'_>) -> Location {
        let hops = self.connections.http_mut(conn).map_or(0, |http| http.hops);
        let sid = MemberId::parse(sid);
        sid.map_or(Location::Unknown, |sid| {
            self.polling_clients.find(sid, hops, cx.settings, cx.now.at)
        })
    }
}

impl Profile {
    /// Whether a request is for Engine.IO.
    fn is_protocol(&self, request: &Request<'_>) -> bool {
        self.path.is_some_and(|path| request.path.starts_with(path))
    }

    /// Decides the CORS answer to a page, which must name the server by an allowed name.
    fn cors_for<'a>(&self, request: &Request<'a>, settings: &Settings) -> Cors<'a> {
        let cors = settings.origins.judge(request);
        // Browsers state the origin of every WebSocket, but not of every plain request.
        let could_be_page = request.header("origin").is_some()
            || self.is_protocol(request) && !request.wants_upgrade();
        let hosts = &settings.policy.hosts;
        let named = request.hosts().all(|host| hosts.allow(host));
        if cors == Cors::Silent && could_be_page && !named { Cors::Denied } else { cors }
    }
}

impl Connections {
    /// Greets a client whose first request came with a `query`. That also connects a client of
    /// version 3 to `/`. Above [`Layer::Events`], the greeting is returned to be announced instead.
    pub(super) fn greet(
        &mut self,
        id: ConnId,
        (sid, upgrades): (MemberId, &[&str]),
        layer: Layer,
        query: &str,
        cx: &mut Cx<'_>,
    ) -> Option<Opened> {
        let settings = cx.settings;
        let open = engine_packet::Open {
            sid: sid.as_str(),
            upgrades,
            ping_interval_ms: settings.ping_interval.as_millis(),
            ping_timeout_ms: settings.ping_timeout.as_millis(),
            max_payload: settings.limits.message_bytes_max,
        };
        let client = self.client_mut(id)?;
        let is_version_3 = client.version == Version::V3;
        if layer != Layer::Events {
            let mut greeting = Vec::new();
            open.print(&mut greeting);
            return Some(Opened {
                client: id,
                sid,
                greeting,
                query: query.to_owned(),
                is_version_3,
            });
        }
        client.send(id, cx, |bytes| open.print(bytes));
        if is_version_3 {
            // The socket id on `/` equals the session id, and the client cannot recover its seat.
            client.connected_as(sid, None);
            client.send(id, cx, |bytes| bytes.extend_from_slice(socket_packet::CONNECTED_V3));
        }
        None
    }

    /// Counts a lasting connection under the address of its client.
    fn count_client(
        &mut self,
        exchange: &Exchange<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), PeerRejection> {
        let address = client_address(exchange.peer, exchange.request, cx.settings);
        let Some(connection) = self.get_mut(exchange.conn) else { return Ok(()) };
        let (before, policy) = (connection.address(), &cx.settings.policy);
        let is_exempt =
            policy.is_proxy(address.ip) || address.ip.is_loopback() && policy.peers.spares_loopback;
        // The address was counted when the connection was accepted, unless it was exempt then.
        if before.ip.to_canonical() == address.ip && !(address.forwarded && is_exempt) {
            return Ok(());
        }
        (connection.peer, connection.forwarded) = (address.ip, address.forwarded);
        cx.release_peer(before);
        cx.admit_peer(address)
    }
}

/// Returns the version of a request that polls or asks for a WebSocket.
fn version(request: &Request<'_>, polls: bool, settings: &Settings) -> Result<Version, Rejection> {
    match (request.parameter("EIO").as_deref(), settings.transports.version_3) {
        (Some("4"), _) => Ok(Version::V4),
        (_, Version3::On) => Ok(Version::V3),
        (_, Version3::WebSocketOnly) if !polls => Ok(Version::V3),
        (_, Version3::WebSocketOnly | Version3::Off) => Err(Rejection::UnsupportedVersion),
    }
}

/// Whether the request is from a client of version 3 that could connect by WebSocket, but begins
/// with polling.
fn would_poll(request: &Request<'_>, settings: &Settings) -> bool {
    settings.transports.version_3 == Version3::WebSocketOnly
        && request.parameter("transport").as_deref() == Some("polling")
        && request.parameter("EIO").as_deref() == Some("3")
}

/// Checks a request for a WebSocket, and its offers.
fn negotiate<'a>(
    request: &Request<'a>,
    settings: &Settings,
) -> Result<(Upgrade<'a>, Option<Agreed>), Rejected> {
    let upgrade = http::upgrade(request)?;
    let Some(compression) = settings.transports.compression else {
        return Ok((upgrade, None));
    };
    let offers = request.list("sec-websocket-extensions");
    match deflate::negotiate(offers, compression) {
        Ok(agreed) => Ok((upgrade, agreed)),
        Err(deflate::BadOffer) => Err(Rejected::BAD_REQUEST),
    }
}

/// Returns the reason why a page may not connect, with the setting that would allow it.
fn why_forbidden(request: &Request<'_>, settings: &Settings) -> String {
    let hosts = &settings.policy.hosts;
    if let Some(host) = request.hosts().find(|host| !hosts.allow(host)) {
        let host = for_log(host);
        return format!(
            "rejected a page under the name {host}: add the name to ALLOWED_HOSTS if it is yours"
        );
    }
    let host = request.hosts().next().map_or("no name".to_owned(), for_log);
    let origin = request.header("origin").map_or("an unreadable origin".to_owned(), for_log);
    format!("rejected a page of {origin} at {host}: add its origin to CORS_ORIGIN if it is yours")
}

/// The reason for rejecting a client of version 3 that polls, if the profile admits it by WebSocket
/// only.
const NO_POLLING_V3: &str = "rejected an EIO=3 client that polls, whose socket id would be its secret: let it connect by \
    WebSocket alone, or set ENGINE_IO_3=on";

/// Prepares a text from outside for the log: short, and on one line.
fn for_log(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

/// Copies a request for the host.
fn host_request(peer: IpAddr, request: &Request<'_>, settings: &Settings) -> HttpRequest {
    let address = client_address(peer, request, settings);
    let header = |name| request.header(name).unwrap_or_default().to_owned();
    HttpRequest {
        forwarded: address.forwarded,
        host: header("host"),
        named: request.named(&settings.policy.hosts),
        head: request.method == Method::Head,
        path: request.path.to_owned(),
        query: request.query.to_owned(),
        accept: request.list("accept").collect::<Vec<_>>().join(","),
        if_none_match: header("if-none-match"),
        authorization: header("authorization"),
        takes_gzip: Packing::of(request) == Packing::Gzip,
        peer: address.ip,
    }
}
