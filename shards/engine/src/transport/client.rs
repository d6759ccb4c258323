//! One client of Engine.IO, as a machine: messages in, one [`Received`] for each out. It knows
//! neither its connection nor the table of connections.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::event::{Awaits, Closing, Data, Layer, Payload};
use super::heartbeat::{EnginePing, Heartbeat};
use super::incoming::PendingPacket;
use super::late::Late;
use crate::context::Cx;
use crate::delivery::route::{Encoding, Route};
use crate::io::Settings;
use crate::io::report::Sample;
use crate::speech::{Ack, ClientCommand, ClientNotice, LeaveReason, Quality};
use crate::throttle::event_rates::EventRates;
use crate::wire::deflate::{Agreed, Window};
use crate::wire::events::ClientEvent;
use crate::wire::frame::Reader;
use crate::wire::json::{Reading, Value};
use crate::wire::payload::Version;
use crate::wire::socket_packet::{self, Assembler, Binary, Body, Packet};
use crate::wire::{engine_packet, notices, print};
use crate::words::ids::{ConnId, MemberId, Offset, RecoveryToken, SeatHandle};
use crate::words::limits::Limits;
use crate::words::time::Micros;

/// Maximum bytes of a packet that is no set list. A longer packet is rejected unread, because the
/// shard sends no ticks while it reads.
pub const EVENT_BYTES_MAX: usize = 64 * 1024;

/// Maximum input deferred for a client that waits, besides one message. Guessed: far more than a
/// tablet sends in that time.
const DEFERRED_BYTES_MAX: usize = 64 * 1024;

/// Number of bytes that a deferred packet counts for, besides its own.
const PACKET_HEAD_BYTES: usize = 5;

const NOT_SOCKET_IO: &str = "malformed Socket.IO packet";

/// The protocol state of a client. It moves with the connection from shard to shard.
///
/// Most of a hundred thousand clients are idle, so state that few clients need is boxed.
#[derive(Serialize, Deserialize)]
pub struct Client {
    /// Assembles messages from frames. Taken out during a read.
    pub reader: Reader,
    /// The encoding in which packets reach the client.
    pub encoding: Encoding,
    /// The version of Engine.IO.
    pub version: Version,
    /// Whether attachments are sent as text.
    pub base64: bool,
    /// The Engine.IO session id, if requests of long-polling name it.
    sid: Option<Box<MemberId>>,
    /// The end of the client's earlier messages, if compressed ones refer to them.
    pub window: Option<Box<Window>>,
    /// Holds a binary event while its attachments arrive.
    assembler: Assembler,
    /// The time of the last bytes.
    received_at: Micros,
    /// The time of the last event that was more than a sign of life.
    pub active_at: Micros,
    /// The time by which missing attachments must arrive.
    attachments_by: Option<Box<Micros>>,
    /// The Socket.IO socket id, while the client is connected to the namespace `/`.
    pub member: Option<MemberId>,
    /// The token with which the client recovers its seat after a lost connection.
    pub token: Option<RecoveryToken>,
    /// Whether it was ever connected to a namespace. If so, the connect timeout is over.
    was_connected: bool,
    ping: EnginePing,
    heartbeat: Heartbeat,
    /// The client's rates, and the values that wait for them.
    pub rates: EventRates<Late>,
    /// The client's seat in a session. It has none while it moves.
    #[serde(skip)]
    pub seat: Option<SeatHandle>,
    /// Input that arrived while it waits for a session or an admission.
    #[serde(skip)]
    pub deferred: Option<Box<Deferred>>,
    #[serde(skip)]
    layer: Layer,
}

// A size class of the allocator: one more byte would cost a quarter more.
#[cfg(target_pointer_width = "64")]
const _: () = assert!(size_of::<Client>() <= 256);

/// The deferred input of a client that waits.
#[derive(Debug)]
pub struct Deferred {
    /// The thing that the client waits for.
    pub awaits: Awaits,
    /// Packets from requests of long-polling.
    pub packets: Vec<PendingPacket>,
    packet_bytes: usize,
    /// Later input from a WebSocket, as it was read.
    pub bytes: Vec<u8>,
}

/// The properties of a client that its first request decides.
#[derive(Clone, Copy)]
pub struct Dialect {
    pub version: Version,
    pub base64: bool,
    pub layer: Layer,
}

/// The meaning of a message of a client.
pub enum Received<'a> {
    /// Nothing for the engine.
    Nothing,
    /// A ping of Engine.IO 3, to be answered with a pong.
    Ping,
    /// The client ends its Engine.IO session.
    Goodbye,
    /// A connect to the namespace `/`.
    Connect(Option<(RecoveryToken, Offset)>),
    /// A connect to a namespace that does not exist.
    NoNamespace(&'a str),
    /// An event.
    Named { event: Cow<'a, str>, ack: Option<u64>, payload: Payload<'a> },
    /// The client leaves the namespace `/`.
    Disconnect,
    /// A broken rule: its name, and the reason for the session.
    Broken(&'static str, LeaveReason),
    /// At [`Layer::Packets`]: a packet with its attachments.
    Packet(Packet<'a>, &'a [Vec<u8>]),
    /// At [`Layer::Messages`] and [`Layer::Frames`]: a message.
    Message(Data<'a>),
}

impl Client {
    /// Creates a client that has just opened.
    pub fn new(
        dialect: Dialect,
        encoding: Encoding,
        sid: Option<MemberId>,
        now: Micros,
        settings: &Settings,
    ) -> Self {
        let Dialect { version, base64, layer } = dialect;
        Self {
            reader: Reader::default(),
            encoding,
            version,
            base64,
            sid: sid.map(Box::new),
            window: None,
            assembler: Assembler::default(),
            received_at: now,
            active_at: now,
            attachments_by: None,
            member: None,
            token: None,
            was_connected: false,
            ping: match version {
                Version::V4 => EnginePing::new(now, settings),
                Version::V3 => EnginePing::client_driven(now, settings),
            },
            heartbeat: Heartbeat::new(now, settings),
            rates: EventRates::default(),
            seat: None,
            deferred: None,
            layer,
        }
    }

    /// Handles a text message, which is a packet of Engine.IO.
    pub fn receive<'a>(
        &mut self,
        text: &'a str,
        assembled: &'a mut Option<Box<Binary>>,
        reading: &'a mut Reading<'_>,
        now: Micros,
        settings: &Settings,
    ) -> Received<'a> {
        use engine_packet::Packet as Engine;
        if self.layer == Layer::Frames {
            return Received::Message(Data::Text(text));
        }
        self.received_at = now;
        let packet = match self.version {
            Version::V4 => engine_packet::parse(text),
            Version::V3 => {
                self.ping = EnginePing::client_driven(now, settings);
                engine_packet::parse_v3(text)
            }
        };
        match packet {
            Ok(Engine::Message(text)) => self.message(text, reading, now, settings),
            Ok(Engine::Binary(data)) => self.attachment(data, assembled, reading, settings),
            Ok(Engine::Pong(_)) if self.version == Version::V4 => {
                self.ping.answered(now, settings);
                Received::Nothing
            }
            Ok(Engine::Ping(_)) if self.version == Version::V3 => Received::Ping,
            Ok(Engine::Close) => Received::Goodbye,
            Ok(Engine::Open | Engine::Upgrade | Engine::Noop) => Received::Nothing,
            Ok(Engine::Ping(_) | Engine::Pong(_)) | Err(_) => {
                Received::Broken("malformed Engine.IO packet", LeaveReason::TransportError)
            }
        }
    }

    /// Handles a binary message, which is an attachment, in version 3 behind the number of its
    /// type.
    pub fn receive_bytes<'a>(
        &mut self,
        data: &'a [u8],
        assembled: &'a mut Option<Box<Binary>>,
        reading: &'a mut Reading<'_>,
        now: Micros,
        settings: &Settings,
    ) -> Received<'a> {
        if self.layer == Layer::Frames {
            return Received::Message(Data::Binary(data.into()));
        }
        self.received_at = now;
        match (self.version, data) {
            (Version::V4, data) | (Version::V3, [4, data @ ..]) => {
                self.attachment(data.into(), assembled, reading, settings)
            }
            (Version::V3, _) => {
                Received::Broken("malformed binary Engine.IO packet", LeaveReason::TransportError)
            }
        }
    }

    /// Handles a packet of Socket.IO, whose attachments may follow.
    fn message<'a>(
        &mut self,
        text: &'a str,
        reading: &'a mut Reading<'_>,
        now: Micros,
        settings: &Settings,
    ) -> Received<'a> {
        match self.layer {
            Layer::Frames | Layer::Messages => return Received::Message(Data::Text(text)),
            Layer::Events if text.len() > EVENT_BYTES_MAX && !self.assembler.is_waiting() => {
                match socket_packet::event_name(text) {
                    Some((_, name))
                        if ClientEvent::from_name(name).is_some_and(ClientEvent::may_be_long) => {}
                    Some((ack, name)) if self.member.is_some() => {
                        let payload = Payload::TooLong(text.len());
                        return Received::Named { event: name.into(), ack, payload };
                    }
                    _ => return Received::Broken("packet longer than 64 KiB", LeaveReason::Forced),
                }
            }
            Layer::Events | Layer::Packets => {}
        }
        match self.assembler.text(text, reading) {
            Ok(Some(packet)) => self.socket_packet(packet, &[], settings),
            Ok(None) => {
                let by = now + settings.limits.attachments_timeout;
                self.attachments_by = Some(Box::new(by));
                Received::Nothing
            }
            Err(_) => Received::Broken(NOT_SOCKET_IO, LeaveReason::Forced),
        }
    }

    /// Handles an attachment of a binary packet, which the last one completes. No event has a field
    /// for an attachment, so the placeholders are left in place, as values of the wrong type.
    fn attachment<'a>(
        &mut self,
        data: Cow<'a, [u8]>,
        assembled: &'a mut Option<Box<Binary>>,
        reading: &'a mut Reading<'_>,
        settings: &Settings,
    ) -> Received<'a> {
        if self.layer == Layer::Messages {
            return Received::Message(Data::Binary(data));
        }
        match self.assembler.binary(&data, settings.limits.message_bytes_max) {
            Ok(Some(whole)) => {
                self.attachments_by = None;
                let whole: &Binary = assembled.insert(whole);
                match whole.packet(reading) {
                    Ok(packet) => self.socket_packet(packet, whole.attachments(), settings),
                    Err(_) => Received::Broken(NOT_SOCKET_IO, LeaveReason::Forced),
                }
            }
            Ok(None) => Received::Nothing,
            Err(_) => {
                Received::Broken("attachment too large or not announced", LeaveReason::Forced)
            }
        }
    }

    fn socket_packet<'a>(
        &self,
        packet: Packet<'a>,
        attachments: &'a [Vec<u8>],
        settings: &Settings,
    ) -> Received<'a> {
        if self.layer == Layer::Packets {
            return Received::Packet(packet, attachments);
        }
        let broken = |why| Received::Broken(why, LeaveReason::Forced);
        let is_connected = self.member.is_some();
        match packet.body {
            Body::Connect { .. } if packet.namespace != "/" => {
                Received::NoNamespace(packet.namespace)
            }
            Body::Connect { .. } if is_connected => broken("second connect"),
            Body::Connect { auth } => {
                let recovery = auth.and_then(recovery);
                let is_ours = |(_, offset): &(_, Offset)| offset.shard.0 < settings.shards;
                Received::Connect(recovery.filter(is_ours))
            }
            _ if !is_connected || packet.namespace != "/" => broken("event before connect"),
            Body::Event { ack, event: Some(event) } => {
                let value = event.argument.unwrap_or(Value::NONE);
                let payload = Payload::Read { value, array: event.array };
                Received::Named { event: event.name, ack, payload }
            }
            // The server requests no acknowledgements, so they are ignored.
            Body::Event { event: None, .. } | Body::Ack { .. } => Received::Nothing,
            Body::Disconnect => Received::Disconnect,
        }
    }

    /// Returns the quality of the connection to the peer.
    pub fn quality(&self, member: MemberId, now: Micros) -> Quality {
        self.heartbeat.quality(member, now)
    }

    /// Returns the round trip that 95 % of the client's round trips do not exceed.
    pub fn latency_p95(&self) -> Option<Micros> {
        self.heartbeat.latency_p95()
    }

    /// Returns the client's next deadline. A bare WebSocket has none: it may be silent for any
    /// time.
    pub fn deadline(&self, limits: &Limits) -> Option<Micros> {
        if self.layer == Layer::Frames {
            return None;
        }
        let connect =
            (!self.was_connected).then(|| self.heartbeat.opened_at() + limits.connect_timeout);
        let heartbeat = self.member.map(|_| self.heartbeat.deadline());
        let idle = self.seat.is_none().then(|| self.active_at + limits.inactivity_max);
        let silence = match self.ping {
            EnginePing::DueAt(_) => self.received_at + limits.stale_after,
            EnginePing::AnswerBy(_) => self.received_at + limits.silence_max,
        };
        let attachments = self.attachments_by.as_deref().copied();
        let late = self.late().and_then(Late::deadline);
        let all = [connect, heartbeat, idle, attachments, Some(silence), late];
        Some(all.into_iter().flatten().fold(self.ping.deadline(), Micros::min))
    }

    /// Returns the deadline that the client missed, as a reason.
    pub fn overdue(&self, now: Micros, limits: &Limits) -> Option<String> {
        let seconds = |time: Micros| time.as_millis().div_ceil(1_000);
        if !self.was_connected && self.heartbeat.opened_at() + limits.connect_timeout <= now {
            return Some(format!("no connect within {} s", seconds(limits.connect_timeout)));
        }
        if self.attachments_by.as_ref().is_some_and(|at| **at <= now) {
            let limit = seconds(limits.attachments_timeout);
            return Some(format!("announced attachments not received within {limit} s"));
        }
        let idle = self.seat.is_none() && self.active_at + limits.inactivity_max <= now;
        idle.then(|| format!("in no session and idle for {} s", seconds(limits.inactivity_max)))
    }

    /// Sends the pings that are due on connection `conn`. If the client has been silent for too
    /// long, returns how it is closed.
    pub fn send_due_pings(&mut self, conn: ConnId, cx: &mut Cx<'_>) -> Option<Closing> {
        let (now, settings) = (cx.now, cx.settings);
        let limits = &settings.limits;
        match self.ping {
            // mark: silent_peer_stays
            EnginePing::AnswerBy(at) if at.min(self.received_at + limits.silence_max) <= now.at => {
                return Some(Closing::left(LeaveReason::PingTimeout));
            }
            EnginePing::DueAt(at) if at.min(self.received_at + limits.stale_after) <= now.at => {
                self.ping = EnginePing::sent(at.min(now.at), now.at, settings);
                self.send(conn, cx, |bytes| bytes.extend_from_slice(engine_packet::PING));
            }
            EnginePing::AnswerBy(_) | EnginePing::DueAt(_) => {}
        }
        if self.member.is_some() && self.heartbeat.deadline() <= now.at {
            self.heartbeat.ping_sent(now.at, now.unix, settings);
            self.send(conn, cx, |bytes| {
                notices::client(bytes, &ClientNotice::Ping { timestamp: now.unix })
            });
        }
        None
    }

    /// Handles a command that concerns the connection alone, and sends its answer. Returns its
    /// acknowledgement; `is_acknowledged` is whether the client asked for one.
    pub fn command(
        &mut self,
        conn: ConnId,
        command: ClientCommand,
        is_acknowledged: bool,
        cx: &mut Cx<'_>,
    ) -> Option<Ack> {
        let now = cx.now;
        let member = self.member?;
        Some(match command {
            ClientCommand::LatencyProbe { timestamp } => {
                let response =
                    ClientNotice::LatencyResponse { client_timestamp: timestamp, moment: now };
                self.notify(conn, &response, cx);
                cx.out.stamp(conn, print::TIME_OF_SENDING);
                Ack::Latency { client_timestamp: timestamp, moment: now }
            }
            ClientCommand::ClockSync { t0 } => {
                if !is_acknowledged {
                    self.notify(conn, &ClientNotice::ClockSync { t0, at: now.at }, cx);
                    cx.out.stamp(conn, print::TIME_OF_SENDING);
                }
                Ack::Clock { t0, at: now.at }
            }
            ClientCommand::Heartbeat { timestamp } => {
                let (rtt, unix) = (self.heartbeat.latency(), now.unix);
                let response = ClientNotice::HeartbeatResponse {
                    client_timestamp: timestamp,
                    timestamp: unix,
                    rtt,
                };
                self.notify(conn, &response, cx);
                Ack::Heartbeat { client_timestamp: timestamp, timestamp: unix, rtt }
            }
            ClientCommand::Pong { timestamp } => {
                let interval = cx.settings.heartbeat_interval;
                let pong = self.heartbeat.pong_received(now, timestamp, interval);
                if let Some((round_trip, report)) = pong {
                    if report {
                        let quality = self.heartbeat.quality(member, now.at);
                        self.notify(conn, &ClientNotice::ConnectionQuality(quality), cx);
                    }
                    cx.report.samples.add(Sample::RoundTrip, round_trip);
                    let counters = &mut cx.report.counters;
                    counters.round_trips += 1;
                    counters.round_trips_total = counters.round_trips_total + round_trip;
                }
                Ack::Done
            }
            ClientCommand::ConnectionQuality => {
                let quality = self.heartbeat.quality(member, now.at);
                self.notify(conn, &ClientNotice::ConnectionQuality(quality), cx);
                Ack::Quality(quality)
            }
            ClientCommand::Ignored => Ack::Done,
        })
    }

    /// Sends a packet on connection `conn`; `print` appends it.
    pub fn send(&self, conn: ConnId, cx: &mut Cx<'_>, print: impl FnOnce(&mut Vec<u8>)) {
        cx.sender.text(cx.out, conn, self.encoding, print);
    }

    /// Sends a notice that concerns the connection alone.
    pub fn notify(&self, conn: ConnId, notice: &ClientNotice<'_>, cx: &mut Cx<'_>) {
        self.send(conn, cx, |bytes| notices::client(bytes, notice));
    }

    /// Sends an attachment of the preceding packet, or a message of Engine.IO.
    pub fn send_attachment(&self, conn: ConnId, attachment: &[u8], cx: &mut Cx<'_>) {
        let form = (self.version, self.base64);
        cx.sender.attachment(cx.out, conn, self.encoding, form, attachment);
    }

    /// Makes a WebSocket the client's transport.
    pub fn upgrade(&mut self, reader: Reader, agreed: Option<Agreed>, window: Option<Box<Window>>) {
        self.reader = reader;
        self.encoding = match agreed {
            None => Encoding::Plain,
            Some(agreed) if agreed.server_no_context_takeover => {
                Encoding::Deflated(agreed.server_max_window_bits)
            }
            Some(agreed) => Encoding::ContextTakeover(agreed.server_max_window_bits),
        };
        self.window = window;
    }

    /// Whether its packets are sent as answers to HTTP requests.
    pub fn is_polling(&self) -> bool {
        self.encoding == Encoding::Polled
    }

    /// Returns the Engine.IO session id, if requests name it.
    pub fn sid(&self) -> Option<MemberId> {
        self.sid.as_deref().copied()
    }

    /// Returns its seat, and the member in it.
    pub fn seated(&self) -> Option<(SeatHandle, MemberId)> {
        self.seat.zip(self.member)
    }

    /// Returns the route of its packets.
    pub fn route(&self, conn: ConnId) -> Route {
        Route { conn, encoding: self.encoding, token: self.token }
    }

    /// Returns the values that wait for their rates, if there are any.
    pub fn late(&self) -> Option<&Late> {
        self.rates.waiting().filter(|late| !late.is_empty())
    }

    /// Returns the values that wait for their rates, to change them.
    pub fn late_mut(&mut self) -> &mut Late {
        self.rates.waiting_mut()
    }

    /// Drops the values that wait for their rates.
    pub fn drop_late(&mut self) {
        self.rates.drop_waiting();
    }

    /// Records that bytes arrived from the client.
    pub fn touch(&mut self, now: Micros) {
        self.received_at = now;
    }

    /// Ends the connect timeout.
    pub fn settle(&mut self) {
        self.was_connected = true;
    }

    /// Restarts the application heartbeat.
    pub fn begin_heartbeat(&mut self, now: Micros, settings: &Settings) {
        self.heartbeat = Heartbeat::new(now, settings);
    }

    /// Connects the client to the namespace `/`.
    pub fn connected_as(&mut self, member: MemberId, token: Option<RecoveryToken>) {
        self.member = Some(member);
        self.token = token;
        self.was_connected = true;
    }

    /// Whether it waits for the decision of another shard.
    pub fn awaits_admission(&self) -> bool {
        let deferred = self.deferred.as_ref();
        deferred.is_some_and(|deferred| matches!(deferred.awaits, Awaits::Admission(_)))
    }
}

impl Deferred {
    /// Creates empty deferred input.
    pub fn new(awaits: Awaits) -> Self {
        Self { awaits, packets: Vec::new(), packet_bytes: 0, bytes: Vec::new() }
    }

    /// Defers a packet.
    pub fn push(&mut self, packet: PendingPacket) {
        self.packet_bytes += PACKET_HEAD_BYTES + packet.len();
        self.packets.push(packet);
    }

    /// If more is deferred than a client may send while it waits, returns how its connection is
    /// closed.
    pub fn overflow(&self, limits: &Limits) -> Option<Closing> {
        let most = limits.message_bytes_max as usize + DEFERRED_BYTES_MAX;
        let bytes = self.packet_bytes + self.bytes.len();
        (bytes > most).then(|| {
            let why = format!("{bytes} bytes of input during a join (limit {most})");
            Closing::expelled(why, LeaveReason::TransportError)
        })
    }
}

/// Returns the token and offset in the `auth` of a connect.
pub fn recovery(auth: &str) -> Option<(RecoveryToken, Offset)> {
    let (pid, offset) = socket_packet::recovery(auth)?;
    Some((RecoveryToken(MemberId::parse(&pid)?), Offset::parse(&offset)?))
}
