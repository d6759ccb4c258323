//! HTTP long-polling: one link over many requests, which may reach any shard, and its change to a
//! WebSocket.
//!
//! The id of such a session begins with the shard that it was opened on. A request that comes to
//! another shard is handed over, connection and all. When the link itself moves to the shard of its
//! session, the shard that it leaves remembers for a while where it went.

use super::event::{Reason, Next};
use super::http_conn::{Step, wants_base64};
use super::parcel::Packed;
use super::polling_clients::{Location, PendingPacket, Probe, UPGRADE_TIMEOUT, parts_of};
use super::{Connection, Shard, Protocol, echo};
use crate::context::Cx;
use crate::delivery::poll_queue::{Bond, COOKIE, Origin, PollQueue};
use crate::delivery::route::Encoding;
use crate::io::{Close, HttpResponse};
use crate::speech::LeaveReason;
use crate::wire::engine_packet;
use crate::wire::frame::{self, Message};
use crate::wire::http::{Cors, Delivery, Method, Refusal, Request, Response, Shared};
use crate::wire::packing::Packing;
use crate::wire::payload::{self, Body, Packet, Part, Version};
use crate::words::application::Application;
use crate::words::ids::{ConnId, MemberId, ShardId};
use crate::words::manners::{Speaker, UNKNOWN};
use crate::words::time::UnixMillis;

/// Appends an answer with packets, which may set the cookie of a session.
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

/// What stands above the answer to a request with packets.
const OK_HEADERS: [(&str, &str); 2] =
    [("Content-Type", "text/html"), ("Cache-Control", "no-store")];

/// Appends the answer to a request with packets.
fn print_ok(bytes: &mut Vec<u8>, now: UnixMillis, delivery: Delivery<'_>) {
    let headers = OK_HEADERS.map(|(name, value)| (name.into(), value.into()));
    Response { status: 200, headers: &headers, body: b"ok" }.print(bytes, now, delivery);
}

fn packets_answer(body: Body, packing: Packing) -> HttpResponse {
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

impl Shard {
    /// Opens a session by its first request, which is answered with the first packets.
    pub(super) fn open_polled(
        &mut self,
        id: ConnId,
        version: Version,
        request: &Request<'_>,
        delivery: Delivery<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Step, Refusal> {
        let sid = self.new_polled_id(cx);
        let base64 = wants_base64(request);
        let Some(speaker) = self.speaker(id, request, cx) else { return Ok(Step::Gone) };
        // It outlives this connection, which may be a proxy's, so it counts for itself.
        if let Err(crowded) = self.enter(speaker, cx) {
            self.leave_crowd(speaker, cx);
            return Ok(self.send_away(id, crowded, cx));
        }
        let link = self.new_link(Some(sid), Encoding::Polled, version, base64, cx);
        let conn = Connection::of(speaker, Protocol::Client(Box::new(link)));
        let Some(session) = self.conns.insert_polled(conn) else {
            self.leave_crowd(speaker, cx);
            return Ok(self.no_room(id, cx));
        };
        cx.report.counters.links += 1;
        self.sids.put(sid, session);
        let bond = (version == Version::V3).then(|| self.new_bond(id, request, cx)).flatten();
        let mut queue = PollQueue::new(version, base64);
        queue.bond = bond.map(Box::new);
        cx.sender.open(session, queue);
        self.greet(session, sid, &["websocket"], request.query, cx);
        self.arm(session, cx);
        self.poll(id, session, delivery, cx)
    }

    /// Binds a session to the client that opens it.
    ///
    /// A browser has one cookie for all its pages, so a value that it returns already is kept: its
    /// other sessions need it. A client whose address is unknown has nothing but the cookie.
    fn new_bond(&mut self, id: ConnId, request: &Request<'_>, cx: &mut Cx<'_>) -> Option<Bond> {
        let origin = self.origin(id, request, cx)?;
        let value = |bytes| std::str::from_utf8(bytes).ok().and_then(MemberId::parse);
        let returned = request.cookies(COOKIE).find_map(value);
        let needs_cookie = returned.is_some() || origin.speaker.address == UNKNOWN;
        let cookie = returned.unwrap_or_else(|| self.new_id(cx));
        Some(Bond { origin, cookie, told: false, returned: needs_cookie })
    }

    fn origin(&self, id: ConnId, request: &Request<'_>, cx: &Cx<'_>) -> Option<Origin> {
        let speaker = self.speaker(id, request, cx)?;
        let is_trusted = cx.settings.manners.is_proxy(self.conns.get(id)?.peer);
        let last = request.all("x-forwarded-for").next_back().filter(|_| !is_trusted);
        let hop =
            last.and_then(|line| line.rsplit(|byte| *byte == b',').next()).unwrap_or_default();
        Some(Origin { speaker, hop: hop.trim_ascii().into() })
    }

    /// Whether a request comes from the client that opened the session, as far as its id does not
    /// prove that.
    pub(super) fn is_of_client(
        &mut self,
        id: ConnId,
        session: ConnId,
        request: &Request<'_>,
        cx: &mut Cx<'_>,
    ) -> bool {
        let origin = self.origin(id, request, cx);
        let queue = cx.sender.queue(session);
        let Some(bond) = queue.and_then(|queue| queue.bond.as_deref_mut()) else { return true };
        if origin.as_ref() != Some(&bond.origin) {
            return false;
        }
        let has_cookie =
            request.cookies(COOKIE).any(|value| value == bond.cookie.as_str().as_bytes());
        bond.returned |= has_cookie;
        has_cookie || !bond.returned
    }

    /// Answers a request with what waits for it.
    fn answer_poll(
        &mut self,
        id: ConnId,
        session: ConnId,
        delivery: Delivery<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Step, Refusal> {
        let Some(queue) = cx.sender.queue(session) else { return Err(Refusal::SessionUnknown) };
        let body = queue.body();
        let bond = queue.bond.as_mut();
        let cookie =
            bond.and_then(|bond| (!std::mem::replace(&mut bond.told, true)).then_some(bond.cookie));
        let (packing, now) = (self.packing(id), cx.now.unix);
        cx.out.send(id, |bytes| print_packets(bytes, now, body, cookie, packing, delivery));
        Ok(self.answered_one(id, delivery.keep_alive, cx))
    }

    /// Answers a request that crossed its client's goodbye.
    pub(super) fn answer_late(
        &mut self,
        id: ConnId,
        word: Body,
        delivery: Delivery<'_>,
        cx: &mut Cx<'_>,
    ) -> Step {
        let now = cx.now.unix;
        cx.out.send(id, |bytes| print_packets(bytes, now, word, None, Packing::None, delivery));
        self.answered_one(id, delivery.keep_alive, cx)
    }

    fn packing(&mut self, id: ConnId) -> Packing {
        self.front_mut(id).map_or(Packing::None, |front| front.packing)
    }

    /// A request for packets: answered now if there are any, else when there are.
    pub(super) fn poll(
        &mut self,
        id: ConnId,
        session: ConnId,
        delivery: Delivery<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Step, Refusal> {
        let now = cx.now.at;
        if let Some(link) = self.link_mut(session) {
            link.heard(now);
        }
        let Some(queue) = cx.sender.queue(session) else { return Err(Refusal::SessionUnknown) };
        let probed = queue.probed.is_some_and(|until| now < until);
        if queue.waiting.is_some() {
            // A client that asks twice at once has lost its way.
            self.forget(session, LeaveReason::TransportError, cx);
            return Err(Refusal::BadRequest);
        }
        if queue.packets.is_empty() && !probed {
            queue.waiting = Some(id);
            self.keep_waiting(id, session, delivery);
            return Ok(Step::Wait);
        }
        if queue.packets.is_empty() {
            queue.push_noop();
        }
        self.answer_poll(id, session, delivery, cx)
    }

    /// The packets of a request are to come. Of a client that sends two such requests at once
    /// nobody knows which is the first, so its session ends.
    pub(super) fn await_body(
        &mut self,
        id: ConnId,
        session: ConnId,
        cx: &mut Cx<'_>,
    ) -> Result<Step, Refusal> {
        let Some(queue) = cx.sender.queue(session) else { return Err(Refusal::SessionUnknown) };
        if queue.posting.is_some_and(|posting| posting != id) {
            self.note_expulsion(session, "it sends two requests with packets at once", cx);
            self.forget(session, LeaveReason::TransportError, cx);
            return Err(Refusal::BadRequest);
        }
        queue.posting = Some(id);
        if let Some(front) = self.front_mut(id) {
            front.posts_to = Some(session);
        }
        Ok(Step::More)
    }

    /// The connection of a request whose packets were to come is gone, and they with it.
    pub(super) fn posting_lost(
        &mut self,
        id: ConnId,
        session: ConnId,
        reason: LeaveReason,
        cx: &mut Cx<'_>,
    ) {
        if cx.sender.queue(session).is_some_and(|queue| queue.posting == Some(id)) {
            self.forget(session, reason, cx);
        }
    }

    /// A request with packets from the client.
    pub(super) fn post(
        &mut self,
        id: ConnId,
        session: ConnId,
        body: &[u8],
        binary: bool,
        delivery: Delivery<'_>,
        cx: &mut Cx<'_>,
    ) -> Result<Step, Refusal> {
        let Some(version) = self.link_mut(session).map(|link| link.version) else {
            return Err(Refusal::SessionUnknown);
        };
        self.await_body(id, session, cx)?;
        if let Some(queue) = cx.sender.queue(session) {
            queue.posting = None;
        }
        if let Some(front) = self.front_mut(id) {
            front.posts_to = None;
        }
        let Ok(parts) = payload::parts(body, version, binary) else {
            self.note_expulsion(session, "a request of its long-polling is no Engine.IO", cx);
            self.forget(session, LeaveReason::TransportError, cx);
            return Err(Refusal::BadRequest);
        };
        for (place, part) in parts.iter().enumerate() {
            match self.part_received(session, *part, cx) {
                Next::Go | Next::Hold => {}
                Next::Gone if self.said_goodbye => {
                    self.said_goodbye = false;
                    break;
                }
                Next::Gone => return Err(Refusal::BadRequest),
                Next::Move(shard, moving) => {
                    let left = parts[place + 1..].iter().map(|part| PendingPacket::of(*part));
                    return Ok(Step::Moves(
                        shard,
                        self.pack_polled(session, shard, moving, left.collect(), delivery, cx),
                    ));
                }
            }
        }
        self.arm(session, cx);
        if self.is_knocking(session) {
            return Ok(self.keep_posting(id, session, delivery, cx));
        }
        let now = cx.now.unix;
        cx.out.send(id, |bytes| print_ok(bytes, now, delivery));
        Ok(self.answered_one(id, delivery.keep_alive, cx))
    }

    /// Acts on a packet of a session, or keeps it while the session waits.
    fn part_received(&mut self, session: ConnId, part: Part<'_>, cx: &mut Cx<'_>) -> Next {
        if self.link_mut(session).is_some_and(|link| link.held.is_some()) {
            let (kind, bytes) = match part {
                Part::Text(text) => (0, text.as_bytes()),
                Part::Binary(bytes) => (1, bytes),
            };
            // The packets stand one behind the other: kind, length, bytes.
            let head = [&[kind], &(bytes.len() as u32).to_le_bytes()[..]].concat();
            self.hold(session, |held| &mut held.parts, &head, cx);
            self.hold(session, |held| &mut held.parts, bytes, cx);
            return Next::Go;
        }
        let step = match part {
            Part::Text(text) => self.packet(session, text, cx),
            Part::Binary(bytes) => self.binary(session, bytes, cx),
        };
        if matches!(step, Next::Hold) { Next::Go } else { step }
    }

    /// Acts on what [`part_received`](Self::part_received) has kept.
    pub(super) fn held_parts(&mut self, session: ConnId, held: &[u8], cx: &mut Cx<'_>) {
        for part in parts_of(held) {
            match self.part_received(session, part, cx) {
                Next::Go | Next::Hold => {}
                Next::Gone => return self.said_goodbye = false,
                // It is connected and wants to go on at once, without a request that could take it
                // there.
                Next::Move(..) => return self.forget(session, LeaveReason::TransportError, cx),
            }
        }
    }

    /// Keeps a request with packets unanswered whose session may be about to move: it takes a
    /// connection along.
    fn keep_posting(
        &mut self,
        id: ConnId,
        session: ConnId,
        delivery: Delivery<'_>,
        cx: &mut Cx<'_>,
    ) -> Step {
        if let Some(queue) = cx.sender.queue(session) {
            queue.posting = Some(id);
        }
        if let Some(front) = self.front_mut(id) {
            front.posts_to = Some(session);
        }
        self.keep_waiting(id, session, delivery);
        Step::Wait
    }

    /// Whether a session waits for what another shard says.
    fn is_knocking(&mut self, session: ConnId) -> bool {
        let held = self.link_mut(session).and_then(|link| link.held.as_ref());
        held.is_some_and(|held| held.knock.is_some())
    }

    /// Answers the request with packets of a session that was kept waiting, if there is one.
    pub(super) fn answer_post_of(&mut self, session: ConnId, cx: &mut Cx<'_>) {
        if let Some(posting) = cx.sender.queue(session).and_then(|queue| queue.posting.take()) {
            self.answer_post(posting, cx);
        }
    }

    fn answer_post(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        if let Some(front) = self.front_mut(id) {
            front.posts_to = None;
        }
        let headers = OK_HEADERS.map(|(name, value)| (name.into(), value.into())).to_vec();
        if self.give_answer(id, HttpResponse { status: 200, headers, body: b"ok".into() }, cx) {
            self.resumed.push(id);
            self.arm(id, cx);
        }
    }

    /// Takes a session to another shard with the connection of the request that asked for it.
    pub(super) fn move_polled(
        &mut self,
        session: ConnId,
        to: ShardId,
        moving: Reason,
        held: &[u8],
        cx: &mut Cx<'_>,
    ) {
        let posting = cx.sender.queue(session).and_then(|queue| queue.posting);
        let taken = posting.and_then(|id| Some((id, self.front_mut(id)?.take_asked()?)));
        // As above.
        let Some((id, (keep_alive, cors, rest))) = taken else {
            return self.forget(session, LeaveReason::TransportError, cx);
        };
        let delivery = Delivery { head: false, keep_alive, cors: cors.as_cors() };
        let left = parts_of(held).map(PendingPacket::of).collect();
        if let Some(mut parcel) = self.pack_polled(session, to, moving, left, delivery, cx) {
            parcel.append(&rest);
            self.hand_over_front(id, to, &parcel, cx);
        }
    }

    /// Takes a session out of this shard, to go with the connection that moves it.
    fn pack_polled(
        &mut self,
        session: ConnId,
        to: ShardId,
        moving: Reason,
        left: Vec<PendingPacket>,
        delivery: Delivery<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<Box<Packed>> {
        let mut conn = self.conns.remove(session)?;
        conn.alarm.cancel(cx.wheel);
        let speaker = conn.speaker();
        let Protocol::Client(link) = conn.state else { return None };
        assert!(link.seat.is_none(), "a connection leaves its session before it moves");
        cx.report.counters.links -= 1;
        self.leave_crowd(speaker, cx);
        if let Some(sid) = link.sid() {
            self.sids.moved(sid, to, cx.now.at);
        }
        let mut queue = cx.sender.close(session)?;
        // Its next request finds the way by itself.
        if let Some(waiting) = queue.waiting.take() {
            self.answer_waiting(waiting, queue.noop(), cx);
        }
        let cors = Shared::of(delivery.cors);
        Some(Box::new(Packed::Polled {
            link: *link,
            queue,
            moving,
            left,
            keep_alive: delivery.keep_alive,
            cors,
            speaker,
            rest: Vec::new(),
        }))
    }

    /// A session came with the connection that moved it: goes on where the other shard stopped.
    #[allow(clippy::too_many_arguments)] // the parts of a parcel
    pub(super) fn polled_arrived(
        &mut self,
        id: ConnId,
        speaker: Speaker,
        link: super::link::Client,
        queue: PollQueue,
        moving: Reason,
        left: Vec<PendingPacket>,
        delivery: Delivery<'_>,
        cx: &mut Cx<'_>,
    ) -> Step {
        let sid = link.sid();
        let conn = Connection::of(speaker, Protocol::Client(Box::new(link)));
        let Some(session) = self.conns.insert_polled(conn) else {
            return self.refuse_request(id, Refusal::BadRequest.of_request(), delivery.cors, cx);
        };
        self.arrive_in_crowd(speaker, cx);
        cx.report.counters.links += 1;
        if let Some(sid) = sid {
            self.sids.put(sid, session);
        }
        cx.sender.open(session, queue);
        self.moved_in(session, moving, cx);
        let mut left = left.into_iter();
        while let Some(part) = left.next() {
            let part = match &part {
                PendingPacket::Text(text) => Part::Text(text),
                PendingPacket::Binary(bytes) => Part::Binary(bytes),
            };
            match self.part_received(session, part, cx) {
                Next::Go | Next::Hold => {}
                Next::Gone => {
                    self.said_goodbye = false;
                    break;
                }
                Next::Move(shard, moving) => {
                    let parcel =
                        self.pack_polled(session, shard, moving, left.collect(), delivery, cx);
                    return Step::Moves(shard, parcel);
                }
            }
        }
        self.arm(session, cx);
        if self.is_knocking(session) {
            return self.keep_posting(id, session, delivery, cx);
        }
        let now = cx.now.unix;
        cx.out.send(id, |bytes| print_ok(bytes, now, delivery));
        self.answered_one(id, delivery.keep_alive, cx)
    }

    /// Answers the requests whose sessions have something to say by now, and goes on with what came
    /// behind them.
    pub(super) fn answer_polls(&mut self, cx: &mut Cx<'_>) {
        for session in cx.sender.take_told() {
            let limit = cx.settings.limits.backlog_bytes_max as usize;
            let Some(queue) = cx.sender.queue(session) else { continue };
            if queue.bytes() > limit {
                self.note_expulsion(session, "it reads too slowly", cx);
                self.forget(session, LeaveReason::TransportError, cx);
                continue;
            }
            // One that came from another shard may have been told nothing yet, and no body is no
            // packet.
            if !queue.packets.is_empty() // mark: poll_answered_with_nothing
                && let Some(waiting) = queue.waiting.take()
            {
                let body = queue.body();
                self.answer_waiting(waiting, body, cx);
            }
        }
        while let Some(id) = self.resumed.pop() {
            self.read_requests(id, cx);
        }
    }

    /// Answers a request that has waited. What came behind it is read at the end of the turn.
    pub(super) fn answer_waiting(&mut self, id: ConnId, body: Body, cx: &mut Cx<'_>) {
        let packing = self.packing(id);
        let answer = packets_answer(body, packing);
        if self.give_answer(id, answer, cx) {
            self.resumed.push(id);
            self.arm(id, cx);
        }
    }

    /// A session is over: whoever waits for its packets gets the last of them.
    pub(super) fn close_queue(&mut self, session: ConnId, sid: Option<MemberId>, cx: &mut Cx<'_>) {
        let Some(mut queue) = cx.sender.close(session) else { return };
        if let Some(posting) = queue.posting.take() {
            self.answer_post(posting, cx);
        }
        if self.said_goodbye
            && queue.waiting.is_none()
            && let Some(sid) = sid
        {
            self.sids.part(sid, queue.noop(), cx.now.at);
        }
        if let Some(waiting) = queue.waiting.take() {
            if !self.said_goodbye {
                queue.push(Packet::Text(engine_packet::CLOSE.to_vec()));
            }
            self.answer_waiting(waiting, queue.body(), cx);
        }
    }

    /// The connection of a request that waited for a session's packets is gone.
    pub(super) fn waiting_lost(
        &mut self,
        id: ConnId,
        session: ConnId,
        reason: LeaveReason,
        cx: &mut Cx<'_>,
    ) {
        if cx
            .sender
            .queue(session)
            .and_then(|queue| queue.waiting.take_if(|waiting| *waiting == id))
            .is_some()
        {
            self.forget(session, reason, cx);
        }
    }

    /// Reads what a WebSocket says that may become a session's transport: first a probe, then that
    /// it takes over.
    pub(super) fn probe_received(&mut self, id: ConnId, bytes: &mut [u8], cx: &mut Cx<'_>) {
        let now = cx.now.at;
        let mut at = 0;
        loop {
            let Some(Protocol::Probe(probe)) = self.conns.get_mut(id).map(|conn| &mut conn.state)
            else {
                return;
            };
            let limits = &cx.settings.limits;
            let text = match probe.reader.next(limits, bytes, &mut at) {
                Ok(None) => return self.arm(id, cx),
                Ok(Some(Message::Text(text))) => text.as_bytes(),
                // A client that remembers what it sent compresses even this.
                Ok(Some(Message::Deflated { text: true, payload })) => {
                    let window = probe.window.as_deref_mut();
                    match self.inflater.inflate(payload, window, limits.message_bytes_max) {
                        Ok(text) => text,
                        Err(_) => return self.drop_probe(id, cx),
                    }
                }
                Ok(Some(Message::Ping(payload))) => {
                    cx.out.send(id, |bytes| frame::pong(bytes, payload));
                    continue;
                }
                Ok(Some(Message::Pong(_))) => continue,
                Ok(Some(_)) | Err(_) => return self.drop_probe(id, cx),
            };
            match text {
                b"2probe" if cx.settings.application == Application::ClientTests => {
                    probe.answer_at = Some(now + echo::PROBE);
                }
                b"2probe" => self.answer_probe(id, cx),
                b"5" if probe.probed => return self.take_over(id, 0, &mut bytes[at..], cx),
                _ => return self.drop_probe(id, cx),
            }
        }
    }

    /// Answers a WebSocket that wants to become a session's transport, and the request that the
    /// session has waiting.
    fn answer_probe(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let until = cx.now.at + UPGRADE_TIMEOUT;
        let Some(Protocol::Probe(probe)) = self.conns.get_mut(id).map(|conn| &mut conn.state) else {
            return;
        };
        probe.probed = true;
        cx.out.text(id, |bytes| bytes.extend_from_slice(b"3probe"));
        // If it has just moved, its next request waits no longer than for a ping.
        if let Some(session) = self.sids.get(probe.sid)
            && let Some(queue) = cx.sender.queue(session)
        {
            queue.probed = Some(until);
            if queue.is_idle() {
                queue.push_noop();
                cx.sender.tell(session);
            }
        }
    }

    /// Such a WebSocket has waited long enough: for its answer, or with taking over.
    pub(super) fn probe_due(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let Some(Protocol::Probe(probe)) = self.conns.get_mut(id).map(|conn| &mut conn.state) else {
            return;
        };
        match probe.answer_at.take() {
            Some(_) => self.answer_probe(id, cx),
            None => self.drop_probe(id, cx),
        }
    }

    /// A WebSocket takes its session over, here or on the shard where that has gone. `rest` is what
    /// it said next.
    pub(super) fn take_over(&mut self, id: ConnId, hops: u8, rest: &mut [u8], cx: &mut Cx<'_>) {
        let Some(Protocol::Probe(probe)) = self.conns.get(id).map(|conn| &conn.state) else { return };
        let sid = probe.sid;
        match self.sids.find(sid, hops, cx.settings, cx.now.at) {
            // What it said is to be answered first, by the request that said it.
            Location::Local(session) if self.is_knocking(session) => self.drop_probe(id, cx),
            Location::Local(session) if session.is_polled() && self.upgrade_to(id, session, cx) => {
                self.link_received(id, rest, cx);
            }
            Location::Remote(shard) => {
                let Some(mut conn) = self.conns.remove(id) else { return };
                conn.alarm.cancel(cx.wheel);
                let speaker = conn.speaker();
                let Protocol::Probe(probe) = conn.state else { return };
                let parcel = Packed::Probe { probe: *probe, hops: hops + 1, rest: rest.to_vec() };
                self.send_parcel(id, speaker, shard, &parcel, cx);
            }
            Location::Local(_) | Location::Unknown => self.drop_probe(id, cx),
        }
    }

    /// Closes a WebSocket that did not become anybody's transport. The session goes on as it was.
    pub(super) fn drop_probe(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        cx.out.send(id, |bytes| frame::close(bytes, None, ""));
        self.forget(id, LeaveReason::Forced, cx);
        cx.out.close(id, Close::Gently);
    }

    /// Ends the candidacy of a WebSocket.
    pub(super) fn probe_over(&mut self, probe: &Probe, cx: &mut Cx<'_>) {
        if let Some(session) = self.sids.get(probe.sid).filter(|_| probe.probed)
            && let Some(queue) = cx.sender.queue(session)
        {
            queue.probed = None;
        }
    }

    /// Makes a WebSocket the transport of a session. False if that is gone.
    fn upgrade_to(&mut self, id: ConnId, session: ConnId, cx: &mut Cx<'_>) -> bool {
        let Some(mut old) = self.conns.remove(session) else { return false };
        old.alarm.cancel(cx.wheel);
        self.leave_crowd(old.speaker(), cx);
        let queue = cx.sender.close(session);
        let Protocol::Client(mut link) = old.state else { return false };
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let Protocol::Probe(probe) = &mut conn.state else { return false };
        link.take_over(std::mem::take(&mut probe.reader), probe.agreed, probe.window.take());
        let (line, seat, sid) = (link.line(id), link.seat(), link.sid());
        let waits = link.held.is_some();
        conn.state = Protocol::Client(link);
        if let Some(sid) = sid {
            self.sids.put(sid, id);
        }
        if waits {
            self.joins.relocate(session, id);
        }
        if let Some((seat, member)) = seat {
            self.band.relocate(seat, member, line);
        }
        if let Some(mut queue) = queue {
            for packet in queue.take() {
                match packet {
                    Packet::Text(text) => self.text(id, cx, |bytes| bytes.extend_from_slice(&text)),
                    Packet::Binary(attachment) => self.send_attachment(id, &attachment, cx),
                }
            }
            if let Some(waiting) = queue.waiting.take() {
                self.answer_waiting(waiting, queue.noop(), cx);
            }
        }
        true
    }

    fn new_polled_id(&mut self, cx: &mut Cx<'_>) -> MemberId {
        let mut bytes = [0; 15];
        cx.rng.fill(&mut bytes);
        bytes[..2].copy_from_slice(&cx.settings.shard.0.to_be_bytes());
        MemberId::from_bytes(bytes)
    }
}

/// Whether a request about a session is one that a session can take.
pub(super) fn fits(request: &Request<'_>, session: ConnId) -> bool {
    session.is_polled() && matches!(request.method, Method::Get | Method::Post)
}

/// How a body's type says that it is binary.
pub(super) fn is_binary(request: &Request<'_>) -> bool {
    request.header("content-type").is_some_and(|kind| kind.starts_with("application/octet-stream"))
}

/// How an answer to a request goes out.
pub(super) fn delivery<'a>(request: &Request<'_>, cors: Cors<'a>) -> Delivery<'a> {
    Delivery { head: false, keep_alive: request.keep_alive, cors }
}
