//! A connection as long as it speaks HTTP: requests that the host answers, refusals, and the
//! upgrade that makes a link of it.

use std::borrow::Cow;

use super::http_conn::{PendingRequest, HttpConn, Step, WAITING_BYTES_MAX, wants_base64};
use super::parcel::Packed;
use super::polling_clients::{Location, Probe};
use super::{Protocol, polling};
use crate::context::Cx;
use crate::engine::Shard;
use crate::io::report::{Disconnect, Manner};
use crate::io::{Close, HttpRequest, HttpResponse, Memory, Output, Version3};
use crate::speech::LeaveReason;
use crate::throttle::peers::PeerRefusal;
use crate::wire::deflate::{self, Agreed};
use crate::wire::http::{
    self, Cors, Delivery, Method, Refusal, Refused, Request, Response, Shared, Upgrade,
};
use crate::wire::packing::Packing;
use crate::wire::payload::Version;
use crate::words::application::Application;
use crate::words::ids::{ConnId, MemberId};
use crate::words::manners::{Named, Speaker, plain};
use crate::words::time::{Micros, Moment, UnixMillis};

impl Shard {
    /// Takes bytes of requests in.
    pub(super) fn front_received(&mut self, id: ConnId, bytes: &[u8], cx: &mut Cx<'_>) {
        let now = cx.now.at;
        let Some(front) = self.front_mut(id) else { return };
        if front.bytes.is_empty() && front.kept_alive {
            front.since = now;
        }
        front.bytes.extend_from_slice(bytes);
        self.read_requests(id, cx);
    }

    pub(super) fn read_requests(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        while let Some(front) = self.front_mut(id) {
            if front.asked.is_some() {
                if front.bytes.len() > WAITING_BYTES_MAX {
                    self.drop_front(id, cx);
                }
                break;
            }
            // Out of the table while the request is borrowed from it.
            let mut bytes = std::mem::take(&mut front.bytes);
            // Of the next request nothing was seen yet.
            let mut head = std::mem::take(&mut front.head);
            let (used, outcome) = match head.parse(&bytes) {
                Ok(None) => {
                    front.head = head;
                    front.bytes = bytes;
                    break;
                }
                Ok(Some((request, length))) => {
                    let body = bytes[length..].get(..request.content_length as usize);
                    (length + body.map_or(0, <[u8]>::len), self.request(id, &request, body, cx))
                }
                Err(refused) => (0, self.refuse_request(id, refused, Cors::Silent, cx)),
            };
            // A request is counted once, however many pieces its body comes in.
            cx.report.counters.requests += u64::from(!matches!(outcome, Step::More));
            match outcome {
                Step::Upgraded => return self.link_received(id, &mut bytes[used..], cx),
                Step::Probing => return self.probe_received(id, &mut bytes[used..], cx),
                Step::More => {
                    // The head is read again with the rest: it is short.
                    if let Some(front) = self.front_mut(id) {
                        front.bytes = bytes;
                    }
                    break;
                }
                Step::Elsewhere(shard) => {
                    let hops = self.front_mut(id).map_or(0, |front| front.hops) + 1;
                    return self.hand_over_front(id, shard, &Packed::Request { bytes, hops }, cx);
                }
                Step::Moves(_, None) | Step::Gone => return,
                Step::Moves(shard, Some(mut parcel)) => {
                    parcel.append(&bytes[used..]);
                    return self.hand_over_front(id, shard, &parcel, cx);
                }
                Step::Next | Step::Wait => {}
            }
            let now = cx.now.at;
            let Some(front) = self.front_mut(id) else { return };
            bytes.drain(..used);
            front.bytes = bytes;
            front.since = now;
            front.kept_alive = true;
            front.hops = 0;
        }
        self.arm(id, cx);
    }

    /// `body` is what follows the head, once all of it is here.
    fn request(
        &mut self,
        id: ConnId,
        request: &Request<'_>,
        body: Option<&[u8]>,
        cx: &mut Cx<'_>,
    ) -> Step {
        let cors = self.judge(request, cx);
        // Of the bodies of these requests nothing is read, so nothing can come after them. While the
        // server drains, no connection is kept for another request.
        let keep_alive = request.keep_alive && request.content_length == 0 && !self.draining;
        let now = cx.now.unix;
        let delivery = Delivery { head: request.method == Method::Head, keep_alive, cors };
        match request.method {
            Method::Options => {
                cx.out.send(id, |bytes| http::print_preflight(bytes, request, now, delivery));
                self.answered_one(id, keep_alive, cx)
            }
            _ if self.draining && (self.is_protocol(request, cx) || request.wants_upgrade()) => {
                // No line in the log: a whole hall may come back at once.
                cx.out.send(id, |bytes| draining(bytes, now, delivery));
                self.answered_one(id, false, cx)
            }
            _ if self.is_protocol(request, cx) => self.handshake(id, request, body, cors, cx),
            Method::Get | Method::Head if request.wants_upgrade() => {
                if cx.settings.application == Application::WebSocketEcho {
                    return self.accept(id, request, Version::V4, None, cors, cx);
                }
                let headers =
                    [(Cow::Borrowed("Content-Type"), Cow::Borrowed("text/plain; charset=utf-8"))];
                let body = b"WebSockets are at /socket.io/";
                let response = Response { status: 404, headers: &headers, body };
                cx.out.send(id, |bytes| {
                    response.print(bytes, now, Delivery { keep_alive: false, ..delivery })
                });
                self.answered_one(id, false, cx)
            }
            Method::Get | Method::Head => {
                let Some(speaker) = self.speaker(id, request, cx) else { return Step::Gone };
                let named = request.named(&cx.settings.manners.hosts);
                let Some(front) = self.front_mut(id) else { return Step::Gone };
                front.asked = Some(PendingRequest {
                    head: delivery.head,
                    keep_alive,
                    cors: Shared::of(cors),
                    session: None,
                });
                cx.out
                    .list
                    .push(Output::Ask { conn: id, question: question(request, speaker, named) });
                Step::Wait
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
                cx.out.send(id, |bytes| response.print(bytes, now, delivery));
                self.answered_one(id, keep_alive, cx)
            }
        }
    }

    /// Whether a request is one to Engine.IO.
    fn is_protocol(&self, request: &Request<'_>, cx: &Cx<'_>) -> bool {
        cx.settings.application.path().is_some_and(|path| request.path.starts_with(path))
    }

    /// Checks a request to Engine.IO in the order that other servers have: clients show what it
    /// says.
    fn handshake(
        &mut self,
        id: ConnId,
        request: &Request<'_>,
        body: Option<&[u8]>,
        cors: Cors<'_>,
        cx: &mut Cx<'_>,
    ) -> Step {
        // mark: admitted_without_memory
        if self.memory == Memory::Out && request.parameter("sid").is_none() {
            return self.no_room(id, cx);
        }
        let done = match request.parameter("transport").as_deref() {
            Some("websocket" | "polling") if cors == Cors::Denied => Err(Refusal::Forbidden),
            Some("websocket") => self.websocket(id, request, cors, cx),
            Some("polling") if cx.settings.transports.polling => {
                self.polling(id, request, body, cors, cx)
            }
            _ => Err(Refusal::TransportUnknown),
        };
        done.unwrap_or_else(|refusal| {
            let upgrading = request.wants_upgrade();
            let refused = if upgrading { refusal.of_upgrade() } else { refusal.of_request() };
            let why = match refusal {
                Refusal::Forbidden => self.why_forbidden(request, cx),
                Refusal::UnsupportedVersion if self.would_poll(request, cx) => {
                    NO_POLLING_V3.to_owned()
                }
                _ => return self.refuse_request(id, refused, cors, cx),
            };
            self.refuse_by_setting(id, request, why, refused, cors, cx)
        })
    }

    /// Why a page may not connect, and which setting lets it.
    fn why_forbidden(&self, request: &Request<'_>, cx: &Cx<'_>) -> String {
        let hosts = &cx.settings.manners.hosts;
        if let Some(host) = request.hosts().find(|host| !hosts.allow(host)) {
            let host = for_log(host);
            return format!(
                "refused a page under the name {host}: add the name to ALLOWED_HOSTS if it is yours"
            );
        }
        let host = request.hosts().next().map_or("no name".to_owned(), for_log);
        let origin = request.header("origin").map_or("an unreadable origin".to_owned(), for_log);
        format!(
            "refused a page of {origin} at {host}: add its origin to CORS_ORIGIN if it is yours"
        )
    }

    /// Whether a request is one of a client of version 3 that might connect by a WebSocket, and
    /// begins with polling.
    fn would_poll(&self, request: &Request<'_>, cx: &Cx<'_>) -> bool {
        cx.settings.transports.version_3 == Version3::WebSocketOnly
            && request.parameter("transport").as_deref() == Some("polling")
            && request.parameter("EIO").as_deref() == Some("3")
    }

    /// A request for a WebSocket: for a new session, or for one that began with long-polling.
    fn websocket(
        &mut self,
        id: ConnId,
        request: &Request<'_>,
        cors: Cors<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Step, Refusal> {
        let session = match request.parameter("sid").map(|sid| self.look_for(id, &sid, cx)) {
            None => None,
            Some(Location::Local(session)) => Some(session),
            Some(Location::Remote(shard)) => return Ok(Step::Elsewhere(shard)),
            Some(Location::Unknown) => return Err(Refusal::SessionUnknown),
        };
        if session.is_some_and(|session| !self.is_of_client(id, session, request, cx)) {
            return Err(Refusal::SessionUnknown);
        }
        if request.method != Method::Get {
            return Err(Refusal::BadMethod);
        }
        if !request.wants_upgrade() {
            return Err(Refusal::BadRequest);
        }
        let version = self.version(request, false, cx)?;
        if session
            .and_then(|session| self.link_mut(session))
            .is_some_and(|link| link.version != version)
        {
            return Err(Refusal::BadRequest);
        }
        Ok(self.accept(id, request, version, session, cors, cx))
    }

    /// Makes a WebSocket of a connection, unless what it offers is malformed.
    fn accept(
        &mut self,
        id: ConnId,
        request: &Request<'_>,
        version: Version,
        session: Option<ConnId>,
        cors: Cors<'_>,
        cx: &mut Cx<'_>,
    ) -> Step {
        let (upgrade, agreed) = match self.grant(request, cx) {
            Ok(granted) => granted,
            Err(refused) => return self.refuse_request(id, refused, cors, cx),
        };
        if let Some(outcome) = self.turn_away(id, request, cx) {
            return outcome;
        }
        let extension = agreed.map(|agreed| agreed.answer());
        let now = cx.now.unix;
        cx.out.send(id, |bytes| upgrade.print(bytes, now, cors, extension.as_deref()));
        let Some(session) = session else {
            self.open_link(id, agreed, version, wants_base64(request), request.query, cx);
            return Step::Upgraded;
        };
        let Some(sid) = self.link_mut(session).and_then(|link| link.sid()) else {
            return Step::Gone;
        };
        let probe = Probe::new(sid, agreed, cx.now.at);
        if let Some(conn) = self.conns.get_mut(id) {
            conn.state = Protocol::Probe(Box::new(probe));
        }
        if session.is_polled() {
            return Step::Probing;
        }
        // It has a WebSocket already. Clients take this better than a refusal.
        self.drop_probe(id, cx);
        Step::Gone
    }

    fn polling(
        &mut self,
        id: ConnId,
        request: &Request<'_>,
        body: Option<&[u8]>,
        cors: Cors<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Step, Refusal> {
        // JSONP, for browsers without CORS, is not spoken: its answers are scripts that any page
        // may run.
        if request.parameter("j").is_some() {
            return Err(Refusal::TransportUnknown);
        }
        let delivery = polling::delivery(request, cors);
        let packing =
            cx.settings.transports.compression.map_or(Packing::None, |_| Packing::of(request));
        if let Some(front) = self.front_mut(id) {
            front.packing = packing;
        }
        let Some(sid) = request.parameter("sid") else {
            if request.method != Method::Get {
                return Err(Refusal::BadMethod);
            }
            if request.wants_upgrade() {
                return Err(Refusal::BadRequest);
            }
            let version = self.version(request, true, cx)?;
            return self.open_polled(id, version, request, delivery, cx);
        };
        // A session whose time is over is so for a request of the same turn already.
        if let Location::Local(session) = self.look_for(id, &sid, cx) {
            self.link_due(session, cx);
        }
        let session = match self.look_for(id, &sid, cx) {
            Location::Local(session) => session,
            Location::Remote(shard) => return Ok(Step::Elsewhere(shard)),
            Location::Unknown if request.method == Method::Get => {
                let word = self.sids.last_word(&sid, cx.now.at).ok_or(Refusal::SessionUnknown)?;
                return Ok(self.answer_late(id, word, delivery, cx));
            }
            Location::Unknown => return Err(Refusal::SessionUnknown),
        };
        if !self.is_of_client(id, session, request, cx) {
            return Err(Refusal::SessionUnknown);
        }
        let version = self.version(request, true, cx)?;
        let same = self.link_mut(session).is_some_and(|link| link.version == version);
        if !same || !polling::fits(request, session) {
            return Err(Refusal::BadRequest);
        }
        if request.method == Method::Get {
            return self.poll(id, session, delivery, cx);
        }
        if request.content_length > u64::from(cx.settings.limits.message_bytes_max) {
            return Ok(self.refuse_request(id, Refused::BODY_TOO_LARGE, cors, cx));
        }
        match body {
            Some(body) => self.post(id, session, body, polling::is_binary(request), delivery, cx),
            None => self.await_body(id, session, cx),
        }
    }

    fn look_for(&mut self, id: ConnId, sid: &str, cx: &Cx<'_>) -> Location {
        let hops = self.front_mut(id).map_or(0, |front| front.hops);
        MemberId::parse(sid)
            .map_or(Location::Unknown, |sid| self.sids.find(sid, hops, cx.settings, cx.now.at))
    }

    /// Sends somebody away whose address has too many connections.
    fn turn_away(&mut self, id: ConnId, request: &Request<'_>, cx: &mut Cx<'_>) -> Option<Step> {
        let crowded = self.seat_speaker(id, request, cx).err()?;
        Some(self.send_away(id, crowded, cx))
    }

    pub(super) fn send_away(
        &mut self,
        id: ConnId,
        crowded: PeerRefusal,
        cx: &mut Cx<'_>,
    ) -> Step {
        self.note_expulsion(id, crowded.why(), cx);
        let now = cx.now.unix;
        cx.out.send(id, |bytes| too_many(bytes, now, crowded));
        self.drop_front(id, cx);
        Step::Gone
    }

    pub(super) fn no_room(&mut self, id: ConnId, cx: &mut Cx<'_>) -> Step {
        self.note_expulsion(id, "there is no memory for more members", cx);
        let now = cx.now.unix;
        cx.out.send(id, |bytes| no_room(bytes, now));
        self.drop_front(id, cx);
        Step::Gone
    }

    /// The version that a request is in, which polls or asks for a WebSocket.
    fn version(&self, request: &Request<'_>, polls: bool, cx: &Cx<'_>) -> Result<Version, Refusal> {
        match (request.parameter("EIO").as_deref(), cx.settings.transports.version_3) {
            (Some("4"), _) => Ok(Version::V4),
            (_, Version3::On) => Ok(Version::V3),
            (_, Version3::WebSocketOnly) if !polls => Ok(Version::V3),
            (_, Version3::WebSocketOnly | Version3::Off) => Err(Refusal::UnsupportedVersion),
        }
    }

    /// Keeps a request waiting for a session's packets.
    pub(super) fn keep_waiting(&mut self, id: ConnId, session: ConnId, delivery: Delivery<'_>) {
        let Some(front) = self.front_mut(id) else { return };
        let (keep_alive, cors) = (delivery.keep_alive, Shared::of(delivery.cors));
        front.asked = Some(PendingRequest { head: false, keep_alive, cors, session: Some(session) });
    }

    /// Checks a request for a WebSocket, and what it offers.
    fn grant<'a>(
        &self,
        request: &Request<'a>,
        cx: &Cx<'_>,
    ) -> Result<(Upgrade<'a>, Option<Agreed>), Refused> {
        let upgrade = http::upgrade(request)?;
        let Some(compression) = cx.settings.transports.compression else {
            return Ok((upgrade, None));
        };
        let offers = request.list("sec-websocket-extensions");
        match deflate::negotiate(offers, compression) {
            Ok(agreed) => Ok((upgrade, agreed)),
            Err(deflate::BadOffer) => Err(Refused::BAD_REQUEST),
        }
    }

    /// What is said to a page, which must know the server by a name that it may have.
    fn judge<'a>(&self, request: &Request<'a>, cx: &Cx<'_>) -> Cors<'a> {
        let cors = cx.settings.origins.judge(request);
        // Browsers say where a WebSocket comes from, but not always where a plain request does.
        let could_be_page = request.header("origin").is_some()
            || self.is_protocol(request, cx) && !request.wants_upgrade();
        let hosts = &cx.settings.manners.hosts;
        let named = request.hosts().all(|host| hosts.allow(host));
        if cors == Cors::Silent && could_be_page && !named { Cors::Denied } else { cors }
    }

    /// The client that a request comes from. A proxy's connection carries requests of many.
    pub(super) fn speaker(
        &self,
        id: ConnId,
        request: &Request<'_>,
        cx: &Cx<'_>,
    ) -> Option<Speaker> {
        let peer = self.conns.get(id)?.peer;
        let lines = request.all("x-forwarded-for");
        Some(cx.settings.manners.speaker(peer, request.is_forwarded(), lines))
    }

    /// Counts a connection that is to last under the client that it is for.
    fn seat_speaker(
        &mut self,
        id: ConnId,
        request: &Request<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<(), PeerRefusal> {
        let Some(speaker) = self.speaker(id, request, cx) else { return Ok(()) };
        let Some(conn) = self.conns.get_mut(id) else { return Ok(()) };
        let (before, manners) = (conn.speaker(), &cx.settings.manners);
        let is_exempt = manners.is_proxy(speaker.address)
            || speaker.address.is_loopback() && manners.peers.spares_loopback;
        // The address was counted when the connection was accepted, unless it was exempt.
        if plain(before.address) == speaker.address && !(speaker.forwarded && is_exempt) {
            return Ok(());
        }
        (conn.peer, conn.forwarded) = (speaker.address, speaker.forwarded);
        self.leave_crowd(before, cx);
        self.enter(speaker, cx)
    }

    /// The host has answered.
    pub(super) fn answered(&mut self, id: ConnId, answer: HttpResponse, cx: &mut Cx<'_>) {
        if self.give_answer(id, answer, cx) {
            self.read_requests(id, cx);
        }
    }

    /// Answers a request that has waited. Whether the connection reads on.
    pub(super) fn give_answer(
        &mut self,
        id: ConnId,
        answer: HttpResponse,
        cx: &mut Cx<'_>,
    ) -> bool {
        let Some(asked) = self.front_mut(id).and_then(|front| front.asked.take()) else {
            return false;
        };
        let response =
            Response { status: answer.status, headers: &answer.headers, body: &answer.body };
        let delivery =
            Delivery { head: asked.head, keep_alive: asked.keep_alive, cors: asked.cors.as_cors() };
        let Moment { at: now, unix } = cx.now;
        cx.out.send(id, |bytes| response.print(bytes, unix, delivery));
        if let Some(front) = self.front_mut(id) {
            front.since = now;
        }
        matches!(self.answered_one(id, asked.keep_alive, cx), Step::Next)
    }

    pub(super) fn answered_one(
        &mut self,
        id: ConnId,
        keep_alive: bool,
        cx: &mut Cx<'_>,
    ) -> Step {
        if keep_alive {
            return Step::Next;
        }
        self.drop_front(id, cx);
        Step::Gone
    }

    pub(super) fn refuse_request(
        &mut self,
        id: ConnId,
        refused: Refused,
        cors: Cors<'_>,
        cx: &mut Cx<'_>,
    ) -> Step {
        self.note_expulsion(id, refused.reason(), cx);
        self.answer_refused(id, refused, cors, cx)
    }

    /// Refuses a request that an operator may have wanted to be served, and tells in the log which
    /// setting does that.
    fn refuse_by_setting(
        &mut self,
        id: ConnId,
        request: &Request<'_>,
        why: String,
        refused: Refused,
        cors: Cors<'_>,
        cx: &mut Cx<'_>,
    ) -> Step {
        cx.report.counters.expulsions += 1;
        if let Some(speaker) = self.speaker(id, request, cx) {
            let (peer, why) = (speaker.address, why.into());
            cx.report.disconnects.add(Disconnect {
                conn: id,
                peer,
                session: None,
                why,
                manner: Manner::Misconfigured,
            });
        }
        self.answer_refused(id, refused, cors, cx)
    }

    fn answer_refused(
        &mut self,
        id: ConnId,
        refused: Refused,
        cors: Cors<'_>,
        cx: &mut Cx<'_>,
    ) -> Step {
        let now = cx.now.unix;
        cx.out.send(id, |bytes| refused.print(bytes, now, cors));
        self.drop_front(id, cx);
        Step::Gone
    }

    fn drop_front(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        self.forget(id, LeaveReason::Forced, cx);
        cx.out.close(id, Close::Gently);
    }

    /// A connection has taken too long over a request, or was idle for long enough.
    pub(super) fn front_due(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let (now, limits) = (cx.now.at, &cx.settings.limits);
        let draining = self.draining;
        let Some(front) = self.front_mut(id) else { return };
        if front.deadline(limits, draining).is_none_or(|at| now < at) {
            return;
        }
        if !front.bytes.is_empty() {
            let response = Response { status: 408, headers: &[], body: b"" };
            let delivery = Delivery { head: false, keep_alive: false, cors: Cors::Silent };
            let unix = cx.now.unix;
            cx.out.send(id, |bytes| response.print(bytes, unix, delivery));
        }
        self.drop_front(id, cx);
    }

    pub(super) fn front_mut(&mut self, id: ConnId) -> Option<&mut HttpConn> {
        match &mut self.conns.get_mut(id)?.state {
            Protocol::Http(front) => Some(front),
            Protocol::Probe(_) | Protocol::Client(_) => None,
        }
    }
}

/// What a connection is told that the shard has no room for, or no memory.
pub fn no_room(bytes: &mut Vec<u8>, now: UnixMillis) {
    let delivery = Delivery { head: false, keep_alive: false, cors: Cors::Silent };
    unavailable(bytes, br#"{"error":"Too many connections"}"#, now, delivery);
}

/// What a client is told that comes while the server drains.
fn draining(bytes: &mut Vec<u8>, now: UnixMillis, delivery: Delivery<'_>) {
    let body = br#"{"error":"The server is draining: connect again in a moment"}"#;
    unavailable(bytes, body, now, delivery);
}

/// Prints a 503 that asks the client to come again after five seconds.
fn unavailable(bytes: &mut Vec<u8>, body: &[u8], now: UnixMillis, delivery: Delivery<'_>) {
    let headers = [
        (Cow::Borrowed("Content-Type"), Cow::Borrowed("application/json")),
        (Cow::Borrowed("Retry-After"), Cow::Borrowed("5")),
    ];
    Response { status: 503, headers: &headers, body }.print(bytes, now, delivery);
}

/// What an address is told that has or wants too much.
pub fn too_many(bytes: &mut Vec<u8>, now: UnixMillis, crowded: PeerRefusal) {
    let (body, wait): (&[u8], _) = match crowded {
        PeerRefusal::Connections => (br#"{"error":"Too many connections"}"#, Micros::from_secs(5)),
        PeerRefusal::Haste(wait) => (br#"{"error":"Too many requests"}"#, wait),
    };
    let seconds = wait.as_millis().div_ceil(1_000).max(1).to_string();
    let headers = [
        (Cow::Borrowed("Content-Type"), Cow::Borrowed("application/json")),
        (Cow::Borrowed("Retry-After"), Cow::Owned(seconds)),
    ];
    let response = Response { status: 429, headers: &headers, body };
    response.print(bytes, now, Delivery { head: false, keep_alive: false, cors: Cors::Silent });
}

/// What a client of version 3 is refused for that the profile lets in by WebSocket only.
const NO_POLLING_V3: &str = "refused an EIO=3 client that polls, whose socket id would be its secret: let it connect by \
    WebSocket alone, or set ENGINE_IO_3=on";

/// A text from outside for the log: short, and on one line.
fn for_log(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}

fn question(request: &Request<'_>, speaker: Speaker, named: Named) -> HttpRequest {
    let header = |name| request.header(name).unwrap_or_default().to_owned();
    HttpRequest {
        forwarded: speaker.forwarded,
        host: header("host"),
        named,
        head: request.method == Method::Head,
        path: request.path.to_owned(),
        query: request.query.to_owned(),
        accept: request.list("accept").collect::<Vec<_>>().join(","),
        if_none_match: header("if-none-match"),
        authorization: header("authorization"),
        takes_gzip: Packing::of(request) == Packing::Gzip,
        peer: speaker.address,
    }
}
