//! What speaks Engine.IO, mostly a WebSocket: frames in, Engine.IO and Socket.IO packets on them,
//! and the connection's own events.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::echo::Echoed;
use super::event::{Reason, EventCall, Next};
use super::heartbeat::{EnginePing, Heartbeat};
use super::late::Late;
use super::{Shard, Protocol};
use crate::context::Cx;
use crate::delivery::route::{Encoding, Route};
use crate::io::report::Sample;
use crate::io::{Close, Goodbye};
use crate::session::Session;
use crate::speech::{Ack, ClientCommand, ClientNotice, Code, LeaveReason, Quality, Reject};
use crate::throttle::event_rates::EventRates;
use crate::wire::deflate::{Agreed, InflateError, Window};
use crate::wire::events::{self, ClientEvent, class};
use crate::wire::frame::{self, FrameError, Message, Reader};
use crate::wire::json::{self, Value};
use crate::wire::payload::Version;
use crate::wire::socket_packet::{self, Assembler, Body, Packet};
use crate::wire::{engine_packet, notices, print};
use crate::words::application::Application;
use crate::words::ids::{ConnId, MemberId, Offset, RecoveryToken, SeatHandle};
use crate::words::limits::Limits;
use crate::words::time::Micros;

/// Bytes of a packet that is no set list. Longer ones are refused before they are read, which takes
/// time in which the shard plays no music.
const EVENT_BYTES_MAX: usize = 64 * 1024;

/// Pings of one read that are answered each for itself. Of more, the last one is: nobody who
/// measures sends so many at once, and a flood shall not be echoed.
const PONGS_MAX: u32 = 16;

/// Why a client is sent away whose packets cannot be read.
pub(super) const NOT_SOCKET_IO: &str = "a packet is no Socket.IO";

/// The protocol state of a client. It moves with the connection from shard to shard.
///
/// Most of a hundred thousand are idle, so what few of them need is in boxes.
#[derive(Serialize, Deserialize)]
pub struct Client {
    reader: Reader,
    /// How packets get to the client.
    pub lane: Encoding,
    /// Which Engine.IO it speaks.
    pub version: Version,
    /// Whether bytes have to be told as text.
    pub base64: bool,
    /// The Engine.IO session id, if it is needed: if requests of long-polling name it.
    sid: Option<Box<MemberId>>,
    /// What the client sent, if its compressed messages refer to that.
    window: Option<Box<Window>>,
    /// Holds a binary event while its attachments arrive.
    assembler: Assembler,
    /// When the last bytes came.
    heard_at: Micros,
    /// When the client last did more than show that it lives.
    pub active_at: Micros,
    /// When the attachments of the event that waits for them must be there.
    attachments_by: Option<Box<Micros>>,
    /// The Socket.IO socket id, while the client is connected to the namespace `/`.
    pub member: Option<MemberId>,
    /// What brings it back to its seat if the connection is lost.
    pub pid: Option<RecoveryToken>,
    /// What an echo keeps of it.
    pub echo: Option<Box<Echoed>>,
    /// Whether it ever was: then the connect time-out is over for good.
    was_connected: bool,
    ping: EnginePing,
    pulse: Heartbeat,
    pub rates: EventRates<Late>,
    /// Its seat in a session, as the member that it is connected as. Not while it moves.
    #[serde(skip)]
    pub seat: Option<SeatHandle>,
    /// While it waits for the session that it wants to join: what was read meanwhile.
    #[serde(skip)]
    pub held: Option<Box<Deferred>>,
}

/// What was read of a client that waits for a session from the storage, or for another shard's
/// answer.
#[derive(Debug, Default)]
pub struct Deferred {
    /// Packets in requests of long-polling, one behind the other: kind, length, bytes.
    pub parts: Vec<u8>,
    /// What came later on a WebSocket, as it came from the network.
    pub bytes: Vec<u8>,
    /// Which answer of another shard is awaited.
    pub knock: Option<u64>,
}

// A size that the allocator has: one byte more costs a quarter more.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Client>() <= 256);

impl Client {
    /// How well the peer is reached.
    pub fn quality(&self, member: MemberId, now: Micros) -> Quality {
        self.pulse.quality(member, now)
    }

    /// When it has to be looked at again.
    pub fn deadline(&self, limits: &Limits) -> Micros {
        let connect =
            (!self.was_connected).then(|| self.pulse.opened_at() + limits.connect_timeout);
        let pulse = self.member.map(|_| self.pulse.deadline());
        let idle = self.seat.is_none().then(|| self.active_at + limits.inactivity_max);
        let silence = match self.ping {
            EnginePing::DueAt(_) => self.heard_at + limits.stale_after,
            EnginePing::AnswerBy(_) => self.heard_at + limits.silence_max,
        };
        let echo = self.echo.as_ref().and_then(|echo| echo.deadline());
        let attachments = self.attachments_by.as_deref().copied();
        let late = self.late().and_then(Late::deadline);
        let all = [connect, pulse, idle, attachments, Some(silence), echo, late];
        all.into_iter().flatten().fold(self.ping.deadline(), Micros::min)
    }

    /// What the client has let pass the time for, if anything.
    fn overdue(&self, now: Micros, limits: &Limits) -> Option<&'static str> {
        if !self.was_connected && self.pulse.opened_at() + limits.connect_timeout <= now {
            return Some("it did not connect in time");
        }
        if self.attachments_by.as_ref().is_some_and(|at| **at <= now) {
            return Some("attachments that it announced did not come in time");
        }
        let idle = self.seat.is_none() && self.active_at + limits.inactivity_max <= now;
        idle.then_some("it is in no session and has done nothing for too long")
    }

    /// A WebSocket is its transport from now on.
    pub fn take_over(
        &mut self,
        reader: Reader,
        agreed: Option<Agreed>,
        window: Option<Box<Window>>,
    ) {
        self.reader = reader;
        self.lane = match agreed {
            None => Encoding::Plain,
            Some(agreed) if agreed.server_no_context_takeover => {
                Encoding::Deflated(agreed.server_max_window_bits)
            }
            Some(agreed) => Encoding::Streamed(agreed.server_max_window_bits),
        };
        self.window = window;
    }

    /// The Engine.IO session id, if requests name it.
    pub fn sid(&self) -> Option<MemberId> {
        self.sid.as_deref().copied()
    }

    /// The session it is in, and as whom.
    pub fn seat(&self) -> Option<(SeatHandle, MemberId)> {
        self.seat.zip(self.member)
    }

    /// What its session needs to know of it.
    pub fn line(&self, conn: ConnId) -> Route {
        Route { conn, lane: self.lane, pid: self.pid }
    }

    /// What waits for room, if anything does.
    pub fn late(&self) -> Option<&Late> {
        self.rates.waiting().filter(|late| !late.is_empty())
    }

    /// The place of what waits for room.
    pub fn late_mut(&mut self) -> &mut Late {
        self.rates.waiting_mut()
    }

    /// Drops what waits for room.
    pub fn drop_late(&mut self) {
        self.rates.drop_waiting();
    }

    /// Something came from the client.
    pub fn heard(&mut self, now: Micros) {
        self.heard_at = now;
    }

    /// It is connected to what it came for: no time limit for that any more.
    pub fn settled(&mut self) {
        self.was_connected = true;
    }

    /// The client is connected to the namespace `/` from now on.
    pub fn connected_as(&mut self, member: MemberId, pid: Option<RecoveryToken>) {
        self.member = Some(member);
        self.pid = pid;
        self.was_connected = true;
    }
}

impl Shard {
    /// Makes a link of a connection whose upgrade was accepted, and greets it.
    pub(super) fn open_link(
        &mut self,
        id: ConnId,
        agreed: Option<Agreed>,
        version: Version,
        base64: bool,
        query: &str,
        cx: &mut Cx<'_>,
    ) {
        let sid = self.new_id(cx);
        let mut link = self.new_link(None, Encoding::Plain, version, base64, cx);
        link.take_over(Reader::new(agreed.is_some()), agreed, agreed.and_then(Agreed::window));
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.state = Protocol::Client(Box::new(link));
        cx.report.counters.links += 1;
        self.greet(id, sid, &[], query, cx);
    }

    pub(super) fn new_link(
        &self,
        sid: Option<MemberId>,
        lane: Encoding,
        version: Version,
        base64: bool,
        cx: &Cx<'_>,
    ) -> Client {
        let now = cx.now.at;
        Client {
            reader: Reader::default(),
            lane,
            version,
            base64,
            sid: sid.map(Box::new),
            window: None,
            assembler: Assembler::default(),
            heard_at: now,
            active_at: now,
            attachments_by: None,
            member: None,
            pid: None,
            echo: None,
            was_connected: false,
            ping: match version {
                Version::V4 => EnginePing::new(now, cx.settings),
                Version::V3 => EnginePing::client_driven(now, cx.settings),
            },
            pulse: Heartbeat::new(now, cx.settings),
            rates: EventRates::default(),
            seat: None,
            held: None,
        }
    }

    /// Says what a client is told first, which came with a `query`. One that speaks version 3 is
    /// connected to `/` by that.
    pub(super) fn greet(
        &mut self,
        id: ConnId,
        sid: MemberId,
        upgrades: &[&str],
        query: &str,
        cx: &mut Cx<'_>,
    ) {
        let settings = cx.settings;
        if settings.application == Application::WebSocketEcho {
            return;
        }
        let open = engine_packet::Open {
            sid: sid.as_str(),
            upgrades,
            ping_interval_ms: settings.ping_interval.as_millis(),
            ping_timeout_ms: settings.ping_timeout.as_millis(),
            max_payload: settings.limits.message_bytes_max,
        };
        let mut packet = Vec::new();
        open.print(&mut packet);
        if settings.application != Application::Band {
            return self.echo_opened(id, sid, packet, query, cx);
        }
        self.text(id, cx, |bytes| bytes.extend_from_slice(&packet));
        let Some(link) = self.link_mut(id) else { return };
        if link.version == Version::V3 {
            // Its socket id on `/` is the session's, and it knows nothing of coming back.
            link.connected_as(sid, None);
            self.text(id, cx, |bytes| bytes.extend_from_slice(socket_packet::CONNECTED_V3));
        }
    }

    pub(super) fn link_mut(&mut self, id: ConnId) -> Option<&mut Client> {
        match &mut self.conns.get_mut(id)?.state {
            Protocol::Client(link) => Some(link),
            Protocol::Http(_) | Protocol::Probe(_) => None,
        }
    }

    /// Sends a packet; `print` appends it.
    pub(super) fn text(&mut self, id: ConnId, cx: &mut Cx<'_>, print: impl FnOnce(&mut Vec<u8>)) {
        if let Some(lane) = self.link_mut(id).map(|link| link.lane) {
            cx.sender.text(cx.out, id, lane, print);
        }
    }

    /// Sends bytes: an attachment of the packet before, or a message of Engine.IO.
    pub(super) fn send_attachment(&mut self, id: ConnId, attachment: &[u8], cx: &mut Cx<'_>) {
        if let Some((lane, version, base64)) =
            self.link_mut(id).map(|link| (link.lane, link.version, link.base64))
        {
            cx.sender.attachment(cx.out, id, lane, version, base64, attachment);
        }
    }

    pub(super) fn new_id(&mut self, cx: &mut Cx<'_>) -> MemberId {
        let mut bytes = [0; 15];
        cx.rng.fill(&mut bytes);
        MemberId::from_bytes(bytes)
    }

    /// Reads messages out of what arrived and acts on each in order.
    pub(super) fn link_received(&mut self, id: ConnId, bytes: &mut [u8], cx: &mut Cx<'_>) {
        let now = cx.now.at;
        let Some(link) = self.link_mut(id) else { return };
        link.heard_at = now;
        if link.held.is_some() {
            return self.hold(id, |held| &mut held.bytes, bytes, cx);
        }
        let mut pings = 0;
        let mut owed = Vec::new();
        // Out of the table while its messages are borrowed from it.
        let mut reader = std::mem::take(&mut link.reader);
        let mut at = 0;
        loop {
            let step = match reader.next(&cx.settings.limits, bytes, &mut at) {
                Ok(None) => break,
                Ok(Some(Message::Text(text))) => self.packet(id, text, cx),
                Ok(Some(Message::Binary(data))) => self.binary(id, data, cx),
                Ok(Some(Message::Deflated { text, payload })) => {
                    self.deflated(id, text, payload, cx)
                }
                Ok(Some(Message::Ping(payload))) => {
                    pings += 1;
                    // mark: every_ping_answered
                    if pings <= PONGS_MAX {
                        cx.out.send(id, |bytes| frame::pong(bytes, payload));
                    } else {
                        owed.clear();
                        owed.extend_from_slice(payload);
                    }
                    Next::Go
                }
                Ok(Some(Message::Pong(_))) => Next::Go,
                Ok(Some(Message::Close(close))) => {
                    let code = close.map(|close| close.code);
                    self.note_end(id, LeaveReason::TransportClosed.as_str(), cx);
                    self.close_link(id, code, "", LeaveReason::TransportClosed, cx)
                }
                Err(error) => self.break_off(id, error, cx),
            };
            match step {
                Next::Go => {}
                Next::Gone => return,
                Next::Hold => {
                    if let Some(link) = self.link_mut(id) {
                        link.reader = reader;
                    }
                    return self.hold(id, |held| &mut held.bytes, &bytes[at..], cx);
                }
                Next::Move(shard, moving) => {
                    if let Some(link) = self.link_mut(id) {
                        link.reader = reader;
                    }
                    return self.hand_over(id, shard, moving, &bytes[at..], cx);
                }
            }
        }
        if pings > PONGS_MAX {
            cx.out.send(id, |bytes| frame::pong(bytes, &owed));
        }
        if let Some(link) = self.link_mut(id) {
            link.reader = reader;
        }
        self.arm(id, cx);
    }

    /// Unpacks a message and acts on it.
    fn deflated(&mut self, id: ConnId, text: bool, payload: &[u8], cx: &mut Cx<'_>) -> Next {
        let limit = cx.settings.limits.message_bytes_max;
        let Some(link) = self.link_mut(id) else { return Next::Gone };
        let mut window = link.window.take();
        // Out of the engine while a message is borrowed from it.
        let mut inflater = std::mem::take(&mut self.inflater);
        let message = inflater.inflate(payload, window.as_deref_mut(), limit);
        if let Some(link) = self.link_mut(id) {
            link.window = window;
        }
        let step = match message {
            Ok(message) if !text => self.binary(id, message, cx),
            Ok(message) => match std::str::from_utf8(message) {
                Ok(text) => self.packet(id, text, cx),
                Err(_) => self.break_off(id, FrameError::Utf8, cx),
            },
            Err(InflateError::Corrupt) => self.break_off(id, FrameError::Deflate, cx),
            Err(InflateError::TooLarge) => self.break_off(id, FrameError::TooLarge, cx),
        };
        self.inflater = inflater;
        step
    }

    /// Closes a connection whose bytes are no WebSocket.
    fn break_off(&mut self, id: ConnId, error: FrameError, cx: &mut Cx<'_>) -> Next {
        let reason = error.to_string();
        self.note_expulsion(id, reason.clone(), cx);
        self.close_link(id, Some(error.code()), &reason, LeaveReason::TransportError, cx)
    }

    /// Acts on an Engine.IO packet that came as text.
    pub(super) fn packet(&mut self, id: ConnId, text: &str, cx: &mut Cx<'_>) -> Next {
        use engine_packet::Packet as Engine;
        cx.report.counters.messages_in += 1;
        match cx.settings.application {
            Application::Band => {}
            Application::WebSocketEcho => return self.echo_text(id, text, cx),
            Application::EngineEcho | Application::SocketEcho | Application::ClientTests => {
                self.echo_now(id, cx);
            }
        }
        let now = cx.now.at;
        let Some(Protocol::Client(link)) = self.conns.get_mut(id).map(|conn| &mut conn.state) else {
            return Next::Gone;
        };
        link.heard_at = now;
        let version = link.version;
        let packet = match version {
            Version::V4 => engine_packet::parse(text),
            Version::V3 => {
                link.ping = EnginePing::client_driven(now, cx.settings);
                engine_packet::parse_v3(text)
            }
        };
        match packet {
            Ok(Engine::Message(text)) => self.message(id, text, cx),
            Ok(Engine::Binary(data)) => self.attachment(id, &data, cx),
            Ok(Engine::Pong(_)) if version == Version::V4 => {
                link.ping.answered(now, cx.settings);
                Next::Go
            }
            Ok(Engine::Ping(_)) if version == Version::V3 => {
                self.text(id, cx, |bytes| bytes.extend_from_slice(engine_packet::PONG));
                Next::Go
            }
            Ok(Engine::Close) => {
                if link.lane == Encoding::Polled {
                    self.said_goodbye = true;
                    self.text(id, cx, |bytes| bytes.extend_from_slice(engine_packet::NOOP));
                }
                self.note_end(id, LeaveReason::TransportClosed.as_str(), cx);
                self.close_link(id, None, "", LeaveReason::TransportClosed, cx)
            }
            Ok(Engine::Open | Engine::Upgrade | Engine::Noop) => Next::Go,
            Ok(Engine::Ping(_) | Engine::Pong(_)) | Err(_) => {
                self.expel(id, "a packet is no Engine.IO", LeaveReason::TransportError, cx)
            }
        }
    }

    /// Acts on an Engine.IO packet that came as bytes: an attachment, in version 3 behind the
    /// number of its type.
    pub(super) fn binary(&mut self, id: ConnId, data: &[u8], cx: &mut Cx<'_>) -> Next {
        cx.report.counters.messages_in += 1;
        if cx.settings.application == Application::WebSocketEcho {
            return self.echo_binary(id, data, cx);
        }
        let now = cx.now.at;
        let Some(link) = self.link_mut(id) else { return Next::Gone };
        link.heard_at = now;
        match (link.version, data) {
            (Version::V4, data) | (Version::V3, [4, data @ ..]) => self.attachment(id, data, cx),
            (Version::V3, _) => {
                self.expel(id, "a binary packet is no Engine.IO", LeaveReason::TransportError, cx)
            }
        }
    }

    /// Acts on a Socket.IO packet, unless its attachments are still to come.
    fn message(&mut self, id: ConnId, text: &str, cx: &mut Cx<'_>) -> Next {
        if cx.settings.application == Application::EngineEcho {
            return self.echo_message(id, text, cx);
        }
        let by = cx.now.at + cx.settings.limits.attachments_timeout;
        let is_band = cx.settings.application == Application::Band;
        let Some(link) = self.link_mut(id) else { return Next::Gone };
        if is_band && text.len() > EVENT_BYTES_MAX && !link.assembler.is_waiting() {
            match socket_packet::event_name(text) {
                Some((_, name)) if name == ClientEvent::SetSetlist.name() => {}
                Some((ack, name)) if link.member.is_some() => {
                    let said = EventCall { conn: id, name, ack, payload: Value::NONE, array: "" };
                    return self.event(said, Some(text.len()), cx);
                }
                _ => return self.expel(id, "a packet is too long", LeaveReason::Forced, cx),
            }
        }
        self.with_reader(|engine, reading| {
            let Some(link) = engine.link_mut(id) else { return Next::Gone };
            match link.assembler.text(text, reading) {
                Ok(Some(packet)) => engine.socket_packet(id, &packet, &[], cx),
                Ok(None) => {
                    link.attachments_by = Some(Box::new(by));
                    Next::Go
                }
                Err(_) => engine.expel(id, NOT_SOCKET_IO, LeaveReason::Forced, cx),
            }
        })
    }

    /// Lends the shard's reader of events. It is back afterwards, unless a long event has made it
    /// large.
    fn with_reader(&mut self, act: impl FnOnce(&mut Self, &mut json::Reading<'_>) -> Next) -> Next {
        let mut reader = self.reader.take().unwrap_or_default();
        let step = act(self, &mut reader.begin());
        self.reader = Some(reader).filter(|reader| reader.is_small());
        step
    }

    /// Takes an attachment of a binary packet; with the last one the packet is there. None of our
    /// events has a field for one, so the placeholders are left where they stand, as values of the
    /// wrong type.
    fn attachment(&mut self, id: ConnId, data: &[u8], cx: &mut Cx<'_>) -> Next {
        if cx.settings.application == Application::EngineEcho {
            self.send_attachment(id, data, cx);
            return Next::Go;
        }
        let limit = cx.settings.limits.message_bytes_max;
        let Some(link) = self.link_mut(id) else { return Next::Gone };
        match link.assembler.binary(data, limit) {
            Ok(Some(whole)) => {
                link.attachments_by = None;
                self.with_reader(|engine, reading| match whole.packet(reading) {
                    Ok(packet) => engine.socket_packet(id, &packet, whole.attachments(), cx),
                    Err(_) => engine.expel(id, NOT_SOCKET_IO, LeaveReason::Forced, cx),
                })
            }
            Ok(None) => Next::Go,
            Err(_) => self.expel(
                id,
                "an attachment is too large or was not announced",
                LeaveReason::Forced,
                cx,
            ),
        }
    }

    fn socket_packet(
        &mut self,
        id: ConnId,
        packet: &Packet<'_>,
        attachments: &[Vec<u8>],
        cx: &mut Cx<'_>,
    ) -> Next {
        if cx.settings.application != Application::Band {
            return self.echo_packet(id, packet, attachments, cx);
        }
        let connected = self.link_mut(id).is_some_and(|link| link.member.is_some());
        match &packet.body {
            Body::Connect { .. } if packet.namespace != "/" => {
                let (namespace, why) = (packet.namespace, "Invalid namespace");
                self.text(id, cx, |bytes| socket_packet::connect_error(bytes, namespace, why));
            }
            Body::Connect { auth } if !connected => {
                let before = auth.and_then(socket_packet::recovery).and_then(|(pid, offset)| {
                    Some((RecoveryToken(MemberId::parse(&pid)?), Offset::parse(&offset)?))
                });
                let shards = cx.settings.shards;
                match before.filter(|(_, offset)| offset.shard.0 < shards) {
                    Some((pid, offset)) if offset.shard != cx.settings.shard => {
                        return Next::Move(offset.shard, Reason::Recover { pid, offset });
                    }
                    before => self.connect(id, before, cx),
                }
            }
            // A second connect, or anything for a namespace that the client is not in.
            Body::Connect { .. } => {
                return self.expel(id, "it connects a second time", LeaveReason::Forced, cx);
            }
            _ if !connected || packet.namespace != "/" => {
                return self.expel(id, "it speaks before it is connected", LeaveReason::Forced, cx);
            }
            Body::Event { ack, event: Some(event) } => {
                let payload = event.argument.unwrap_or(Value::NONE);
                let said =
                    EventCall { conn: id, name: &event.name, ack: *ack, payload, array: event.array };
                return self.event(said, None, cx);
            }
            // We ask for no acknowledgements, so one is for nothing.
            Body::Event { event: None, .. } | Body::Ack { .. } => {}
            Body::Disconnect => self.disconnect(id, cx),
        }
        Next::Go
    }

    /// Connects a client to the namespace `/`: as who it was `before`, or anew.
    pub(super) fn connect(
        &mut self,
        id: ConnId,
        before: Option<(RecoveryToken, Offset)>,
        cx: &mut Cx<'_>,
    ) {
        let now = cx.now.at;
        let pulse = Heartbeat::new(now, cx.settings);
        let Some(link) = self.link_mut(id) else { return };
        link.pulse = pulse;
        let recovers = cx.settings.transports.recovery > Micros::ZERO;
        if let Some((pid, offset)) = before.filter(|_| recovers)
            && self.recover(id, pid, offset, cx)
        {
            return;
        }
        let member = self.new_id(cx);
        let pid = recovers.then(|| RecoveryToken(self.new_id(cx)));
        let Some(link) = self.link_mut(id) else { return };
        link.connected_as(member, pid);
        self.text(id, cx, |bytes| {
            socket_packet::connected(
                bytes,
                member.as_str(),
                pid.as_ref().map(|pid| pid.0.as_str()),
            );
        });
    }

    /// The client leaves the namespace and keeps the connection.
    fn disconnect(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        self.note_end(id, LeaveReason::Disconnected.as_str(), cx);
        self.leave_session(id, LeaveReason::Disconnected, cx);
        if let Some(link) = self.link_mut(id) {
            link.member = None;
            link.drop_late();
        }
    }

    /// Acts on a client event, within the rates, or refuses one of so many bytes that it is not read.
    fn event(&mut self, said: EventCall<'_>, unread: Option<usize>, cx: &mut Cx<'_>) -> Next {
        let event = ClientEvent::from_name(said.name);
        let Some(Protocol::Client(link)) = self.conns.get_mut(said.conn).map(|conn| &mut conn.state)
        else {
            return Next::Gone;
        };
        if let Err(wait) = link.rates.take(cx.now.at, class(event), &cx.settings.manners.rates) {
            return self.too_fast(said, event, wait, cx);
        }
        if !matches!(
            event,
            Some(ClientEvent::Pong | ClientEvent::Heartbeat | ClientEvent::HeartbeatResponse)
        ) {
            link.active_at = cx.now.at;
        }
        if link.late().is_some()
            && let Some(event) = event.filter(|event| event.is_command())
        {
            self.catch_up(said, event, cx); // mark: later_command_overtakes
        }
        match (event, unread) {
            (Some(_), Some(bytes)) => {
                let what = format!("such an event must be at most {EVENT_BYTES_MAX} bytes");
                self.refuse(said, &Reject::too_large(what, bytes, EVENT_BYTES_MAX), cx);
                Next::Go
            }
            (Some(event), None) => self.command(event, said, cx),
            (None, _) => {
                let message = match events::our_name_for(said.name) {
                    Some(ours) => {
                        format!("this server knows no such event: {ours} does the same here").into()
                    }
                    None => Cow::from("this server knows no such event"),
                };
                self.refuse(said, &Reject::new(Code::UnknownEvent, message), cx);
                Next::Go
            }
        }
    }

    /// Keeps an event that came too fast for later, or refuses it. One refusal too many closes the
    /// connection.
    #[cold]
    fn too_fast(
        &mut self,
        said: EventCall<'_>,
        event: Option<ClientEvent>,
        wait: Micros,
        cx: &mut Cx<'_>,
    ) -> Next {
        if event.is_some_and(|event| self.keep_late(said, event, wait, cx)) {
            return Next::Go;
        }
        let notice = ClientNotice::RateLimitExceeded { event: said.name, retry_after: wait };
        self.text(said.conn, cx, |bytes| notices::link(bytes, &notice));
        if let Some(ack) = said.ack {
            cx.report.counters.refused(Code::RateLimited);
            let message = format!("too many of these: try again in {} ms", wait.as_millis() + 1);
            let reject =
                Reject { retry_after: Some(wait), ..Reject::new(Code::RateLimited, message) };
            self.text(said.conn, cx, |bytes| print::refusal(bytes, ack, &reject));
        }
        let conn = self.conns.get_mut(said.conn);
        let Some(Protocol::Client(link)) = conn.map(|conn| &mut conn.state) else { return Next::Gone };
        match link.rates.refuse(cx.now.at, &cx.settings.manners.rates) {
            true => self.expel(
                said.conn,
                "it exceeds its rates again and again",
                LeaveReason::Forced,
                cx,
            ),
            false => Next::Go,
        }
    }

    /// Answers what concerns the connection alone, at once.
    pub(super) fn link_command(&mut self, said: EventCall<'_>, command: ClientCommand, cx: &mut Cx<'_>) {
        let (now, id) = (cx.now, said.conn);
        let interval = cx.settings.heartbeat_interval;
        let Some(link) = self.link_mut(id) else { return };
        let Some(member) = link.member else { return };
        let ack = match command {
            ClientCommand::LatencyProbe { timestamp } => {
                let response =
                    ClientNotice::LatencyResponse { client_timestamp: timestamp, moment: now };
                self.text(id, cx, |bytes| notices::link(bytes, &response));
                Ack::Latency { client_timestamp: timestamp, moment: now }
            }
            ClientCommand::ClockSync { t0 } => {
                if said.ack.is_none() {
                    self.text(id, cx, |bytes| {
                        notices::link(bytes, &ClientNotice::ClockSync { t0, at: now.at })
                    });
                }
                Ack::Clock { t0, at: now.at }
            }
            ClientCommand::Heartbeat { timestamp } => {
                let (rtt, unix) = (link.pulse.latency(), now.unix);
                let response = ClientNotice::HeartbeatResponse {
                    client_timestamp: timestamp,
                    timestamp: unix,
                    rtt,
                };
                self.text(id, cx, |bytes| notices::link(bytes, &response));
                self.heard_from(id, cx);
                Ack::Heartbeat { client_timestamp: timestamp, timestamp: unix, rtt }
            }
            ClientCommand::Pong { timestamp } => {
                if let Some((round_trip, report)) = link.pulse.ponged(now, timestamp, interval) {
                    if report {
                        let quality = link.pulse.quality(member, now.at);
                        self.text(id, cx, |bytes| {
                            notices::link(bytes, &ClientNotice::ConnectionQuality(quality))
                        });
                    }
                    cx.report.samples.add(Sample::RoundTrip, round_trip);
                    cx.report.counters.round_trips += 1;
                    cx.report.counters.round_trips_total =
                        cx.report.counters.round_trips_total + round_trip;
                }
                self.heard_from(id, cx);
                Ack::Done
            }
            ClientCommand::ConnectionQuality => {
                let quality = link.pulse.quality(member, now.at);
                self.text(id, cx, |bytes| {
                    notices::link(bytes, &ClientNotice::ConnectionQuality(quality))
                });
                Ack::Quality(quality)
            }
            ClientCommand::Ignored => Ack::Done,
        };
        self.acknowledge(said, &ack, cx);
    }

    /// Acknowledges an event, if its sender wants that.
    pub(super) fn acknowledge(&mut self, said: EventCall<'_>, ack: &Ack, cx: &mut Cx<'_>) {
        let Some(id) = said.ack else { return };
        let Some((seat, lane)) = self.link_mut(said.conn).map(|link| (link.seat, link.lane)) else {
            return;
        };
        let session = seat.and_then(|seat| self.band.session_of(seat)).map(Session::id);
        cx.sender.text(cx.out, said.conn, lane, |bytes| print::ack(bytes, id, session, ack));
    }

    /// Tells the sender of an event why nothing came of it: as its acknowledgement, or as the event
    /// `error`.
    pub(super) fn refuse(&mut self, said: EventCall<'_>, reject: &Reject, cx: &mut Cx<'_>) {
        cx.report.counters.refused(reject.code);
        self.text(said.conn, cx, |bytes| match said.ack {
            Some(id) => print::refusal(bytes, id, reject),
            None => notices::link(bytes, &ClientNotice::Error { event: said.name, reject }),
        });
    }

    /// A link has waited long enough for something.
    pub(super) fn link_due(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let (now, settings) = (cx.now, cx.settings);
        let Some(link) = self.link_mut(id) else { return };
        if let Some(what) = link.overdue(now.at, &settings.limits) {
            self.expel(id, what, LeaveReason::TransportClosed, cx);
            return;
        }
        if link.echo.as_ref().is_some_and(|echo| echo.deadline().is_some_and(|at| at <= now.at)) {
            self.echo_now(id, cx);
        }
        self.late_due(id, cx);
        let Some(link) = self.link_mut(id) else { return };
        match link.ping {
            // mark: silent_peer_stays
            EnginePing::AnswerBy(at) if at.min(link.heard_at + settings.limits.silence_max) <= now.at => {
                self.note_end(id, LeaveReason::PingTimeout.as_str(), cx);
                self.close_link(id, None, "", LeaveReason::PingTimeout, cx);
                return;
            }
            EnginePing::DueAt(at) if at.min(link.heard_at + settings.limits.stale_after) <= now.at => {
                link.ping = EnginePing::sent(at.min(now.at), now.at, settings);
                self.text(id, cx, |bytes| bytes.extend_from_slice(engine_packet::PING));
            }
            _ => {}
        }
        let Some(link) = self.link_mut(id) else { return };
        if link.member.is_some() && link.pulse.deadline() <= now.at {
            link.pulse.pinged(now.at, now.unix, settings);
            self.text(id, cx, |bytes| {
                notices::link(bytes, &ClientNotice::Ping { timestamp: now.unix })
            });
        }
    }

    /// Closes a connection that broke a rule, as Socket.IO servers do: with an empty close frame.
    pub(super) fn expel(
        &mut self,
        id: ConnId,
        why: &'static str,
        reason: LeaveReason,
        cx: &mut Cx<'_>,
    ) -> Next {
        self.note_expulsion(id, why, cx);
        self.close_link(id, None, "", reason, cx)
    }

    fn close_link(
        &mut self,
        id: ConnId,
        code: Option<u16>,
        why: &str,
        reason: LeaveReason,
        cx: &mut Cx<'_>,
    ) -> Next {
        self.forget(id, reason, cx);
        if !id.is_polled() {
            cx.out.send(id, |bytes| frame::close(bytes, code, why));
            cx.out.close(id, Close::Gently);
        }
        Next::Gone
    }

    /// Tells a client that the server is going away, and closes its connection.
    pub(super) fn say_goodbye(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        const GOING_AWAY: u16 = 1001;
        let connected = self.link_mut(id).map(|link| link.member.is_some());
        let reject =
            Reject::new(Code::Draining, "the server is going away: connect again in a moment");
        let farewell = |bytes: &mut Vec<u8>| {
            notices::link(bytes, &ClientNotice::Error { event: "disconnect", reject: &reject });
        };
        let disconnects = cx.settings.goodbye == Goodbye::Disconnect;
        if id.is_polled() {
            // mark: poller_without_goodbye
            if connected == Some(true) {
                self.leave_session(id, LeaveReason::Draining, cx);
                self.text(id, cx, farewell);
                if disconnects {
                    self.text(id, cx, |bytes| bytes.extend_from_slice(socket_packet::DISCONNECT));
                }
            }
            return self.forget(id, LeaveReason::Draining, cx);
        }
        // First, so that what its session still has for it goes out before the end.
        self.forget(id, LeaveReason::Draining, cx);
        if let Some(connected) = connected {
            if connected {
                cx.out.text(id, farewell);
                if disconnects {
                    cx.out.text(id, |bytes| bytes.extend_from_slice(socket_packet::DISCONNECT));
                }
            }
            cx.out.send(id, |bytes| frame::close(bytes, Some(GOING_AWAY), "server shutting down"));
        }
        cx.out.close(id, Close::Gently);
    }
}
