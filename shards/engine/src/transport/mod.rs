//! Transport: bytes in, one [`Event`] at a time out. It knows sockets, HTTP, WebSocket, Engine.IO
//! and Socket.IO, and nothing of sessions.
//!
//! The engine asks for the next event, acts on it, and asks again. Everything that an event borrows
//! from is first moved out of transport into an [`Incoming`], so that both can be used at once.
//! Transport never calls the engine and closes no client by itself: it yields [`Event::Close`].

mod client;
mod closing;
mod connections;
mod event;
mod exchange;
mod hand_over;
mod handshake;
mod heartbeat;
mod http_conn;
mod incoming;
mod late;
mod packed;
mod polling;
mod polling_clients;
mod replies;
#[cfg(test)]
mod tests;
mod upgrade;

use std::net::IpAddr;

use crate::context::{Cx, Resources, is_counted};
use crate::io::report::{Disconnect, Manner};
use crate::io::{Close, FreeMemory, HttpResponse, Settings};
use crate::speech::LeaveReason;
use crate::wire::deflate::{InflateError, Inflater};
use crate::wire::engine_packet;
use crate::wire::frame::{self, FrameError, Message};
use crate::wire::http::{Cors, Delivery, Response};
use crate::wire::json::{self, Reading};
use crate::wire::socket_packet::{self, Binary};
use crate::words::ids::ConnId;
use crate::words::policy::ClientAddress;
use crate::words::time::Micros;

use client::Received;
use connections::{Connection, Protocol};
use http_conn::HttpConn;
use incoming::{PendingPacket, PostEnd};
use polling_clients::PollingClients;

pub use client::{Client, Deferred, EVENT_BYTES_MAX, recovery};
pub use closing::Gone;
pub use connections::{BACKLOG_SCARCE, Connections};
pub use event::{
    Awaits, Closing, Data, Event, Farewell, Layer, NamedEvent, Next, Opened, Payload, Reason,
    ReplyTo,
};
pub use hand_over::Arrival;
pub use incoming::Incoming;
pub use late::{Late, LateValue, latest};
pub use packed::{Unread, unread};

/// Maximum pings answered one by one per read. Beyond it only the last is answered, so that a flood
/// is not amplified.
const PONGS_MAX: u32 = 16;

/// The layer that transport serves, with the options that conformance suites need.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// The layer whose contents are yielded as events.
    pub layer: Layer,
    /// The path of Engine.IO. `None`: no path, because all WebSockets are served at any path.
    pub path: Option<&'static str>,
    /// Delay of the answer to a WebSocket that probes.
    pub probe_pause: Micros,
}

impl Profile {
    /// The profile of a server.
    pub const SERVER: Self =
        Self { layer: Layer::Events, path: Some("/socket.io/"), probe_pause: Micros::ZERO };
}

/// The connections and clients of a shard. See the [module](self).
pub struct Transport {
    profile: Profile,
    /// The connections and clients.
    pub connections: Connections,
    polling_clients: PollingClients,
    /// Connections whose parked request was answered in this turn, and that may have more to read.
    resumed: Vec<ConnId>,
    inflater: Inflater,
    /// The reader of events.
    pub reader: SpareReader,
    /// The memory that the process has left.
    pub memory: FreeMemory,
}

/// The reader of events, while it is not in use. Empty after an event that made its buffers large,
/// so that they are freed.
#[derive(Default)]
pub struct SpareReader(Option<Box<json::Reader>>);

impl SpareReader {
    /// Lends the reader, or a new one.
    pub fn lend(&mut self) -> Box<json::Reader> {
        self.0.take().unwrap_or_default()
    }

    /// Takes the reader back, unless its buffers have become large.
    pub fn take_back(&mut self, reader: Box<json::Reader>) {
        self.0 = Some(reader).filter(|reader| reader.is_small());
    }
}

impl Transport {
    /// Creates a transport without connections.
    pub fn new(profile: Profile, settings: &Settings) -> Self {
        Self {
            profile,
            connections: Connections::new(settings.limits.connections_max),
            polling_clients: PollingClients::default(),
            resumed: Vec::new(),
            inflater: Inflater::default(),
            reader: SpareReader::default(),
            memory: FreeMemory::Enough,
        }
    }

    /// Adds an accepted connection, or rejects it.
    pub fn opened(&mut self, conn: ConnId, peer: IpAddr, cx: &mut Cx<'_>) {
        let address = ClientAddress { ip: peer, forwarded: false };
        let closing = if self.connections.connections()
            >= cx.settings.limits.connections_max as usize
        {
            let why = format!("the shard is full: {} connections", self.connections.connections());
            exchange::unavailable_now(conn, why, cx)
        } else if let Err(rejection) = cx.admit_peer(address) {
            cx.release_peer(address);
            exchange::too_many(conn, rejection, cx)
        } else {
            let http = HttpConn::new(cx.now.at);
            let connection = Connection::new(address, Protocol::Http(Box::new(http)));
            self.connections.insert(conn, connection);
            return self.connections.arm(conn, cx);
        };
        cx.report.counters.expulsions += 1;
        let (why, manner) = (closing.why, Manner::ByServer);
        cx.report.disconnects.add(Disconnect { conn, peer, session: None, why, manner });
        cx.out.close(conn, Close::Gently);
    }

    /// Takes received bytes, and returns them as input. `None` if they are deferred, or if the
    /// connection was closed earlier in this turn.
    pub fn received<'b>(
        &mut self,
        conn: ConnId,
        bytes: &'b mut [u8],
        cx: &mut Cx<'_>,
    ) -> Option<Incoming<'b>> {
        let now = cx.now.at;
        match &mut self.connections.get_mut(conn)?.protocol {
            Protocol::Http(http) => Some(Incoming::kept(conn, http.receive(bytes, now))),
            Protocol::Probe(_) => Some(Incoming::lent(conn, bytes)),
            Protocol::Client(client) => {
                client.touch(now);
                let Some(deferred) = &mut client.deferred else {
                    return Some(Incoming::lent(conn, bytes));
                };
                deferred.bytes.extend_from_slice(bytes);
                if let Some(closing) = deferred.overflow(&cx.settings.limits) {
                    return Some(Incoming::closing(conn, closing));
                }
                self.connections.arm(conn, cx);
                None
            }
        }
    }

    /// Takes one step through the input. Returns `None` when it is used up.
    pub fn next<'i>(
        &mut self,
        incoming: &'i mut Incoming<'_>,
        reading: &'i mut Reading<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<Event<'i>> {
        if let Some(closing) = incoming.closing.take() {
            return Some(Event::Close { conn: incoming.conn, closing });
        }
        if incoming.post.is_some() || incoming.packets.len() > 0 {
            return self.next_packet(incoming, reading, cx);
        }
        match self.connections.get(incoming.conn)?.protocol {
            Protocol::Client(_) => self.next_frame(incoming, reading, cx),
            Protocol::Http(_) => self.next_request(incoming, cx),
            Protocol::Probe(_) => match incoming.hops.take() {
                Some(hops) => Some(self.take_over(incoming, hops, cx)),
                None => self.next_probe(incoming, cx),
            },
        }
    }

    /// Returns what the input has borrowed, and sets the timer of its connection.
    pub fn finish(&mut self, mut incoming: Incoming<'_>, cx: &mut Cx<'_>) {
        debug_assert!(incoming.packets.len() == 0, "all packets of a request are read");
        debug_assert!(incoming.post.is_none(), "a request with packets is answered");
        incoming.return_inflater(&mut self.inflater);
        let conn = incoming.conn;
        let Some(connection) = self.connections.get_mut(conn) else { return };
        match &mut connection.protocol {
            Protocol::Http(http) => http.bytes = incoming.into_rest(),
            Protocol::Probe(probe) => {
                if let Some(reader) = incoming.reader {
                    probe.reader = reader;
                }
            }
            Protocol::Client(client) => {
                if incoming.pongs.count > PONGS_MAX {
                    cx.out.send(conn, |bytes| frame::pong(bytes, &incoming.pongs.owed));
                }
                if let Some(reader) = incoming.reader {
                    client.reader = reader;
                }
            }
        }
        self.connections.arm(conn, cx);
    }

    /// Defers the rest of a client's input until [`resume`](Self::resume). If that is too much,
    /// returns how the client is closed.
    pub fn defer(
        &mut self,
        incoming: &mut Incoming<'_>,
        awaits: Awaits,
        cx: &mut Cx<'_>,
    ) -> Option<Closing> {
        self.connections.wait(incoming.client(), awaits);
        // Packets of a request are deferred one by one, so that the request can be answered.
        if incoming.post.is_some() {
            return None;
        }
        self.connections.keep_rest(incoming, cx);
        incoming.closing.take()
    }

    /// Returns the deferred input of a client, to be read.
    pub fn resume(&mut self, client: ConnId, deferred: Deferred, cx: &Cx<'_>) -> Incoming<'static> {
        let mut incoming = Incoming::kept(client, deferred.bytes);
        incoming.packets = deferred.packets.into_iter();
        self.connections.keep_rest(&mut incoming, cx);
        incoming
    }

    /// Answers the request that brought a client's packets, if it is parked.
    pub fn answer_post_of(&mut self, client: ConnId, cx: &mut Cx<'_>) {
        if let Some(posting) = cx.sender.queue(client).and_then(|queue| queue.posting.take()) {
            self.answer_post(posting, cx);
        }
    }

    /// Sends the host's answer to a request. Returns the input behind the request.
    pub fn answered(
        &mut self,
        conn: ConnId,
        answer: &HttpResponse,
        cx: &mut Cx<'_>,
    ) -> Option<Incoming<'static>> {
        if !self.connections.respond(conn, answer, cx)? {
            return Some(Incoming::closing(conn, Closing::answered()));
        }
        let http = self.connections.http_mut(conn)?;
        Some(Incoming::kept(conn, std::mem::take(&mut http.bytes)))
    }

    /// Returns the input behind the next parked request that was answered in this turn.
    pub fn next_resumed(&mut self) -> Option<Incoming<'static>> {
        loop {
            let conn = self.resumed.pop()?;
            if let Some(http) = self.connections.http_mut(conn) {
                return Some(Incoming::kept(conn, std::mem::take(&mut http.bytes)));
            }
        }
    }

    /// Returns how a connection is closed, if it has missed its deadline.
    pub fn overdue(&mut self, conn: ConnId, cx: &mut Cx<'_>) -> Option<Closing> {
        let (now, limits) = (cx.now, &cx.settings.limits);
        match &self.connections.get(conn)?.protocol {
            Protocol::Client(client) => {
                let why = client.overdue(now.at, limits)?;
                Some(Closing::expelled(why, LeaveReason::TransportClosed))
            }
            Protocol::Probe(_) => self.probe_overdue(conn, cx),
            Protocol::Http(http) => {
                if http.deadline(limits, self.connections.draining).is_none_or(|at| now.at < at) {
                    return None;
                }
                if !http.bytes.is_empty() {
                    let response = Response { status: 408, headers: &[], body: b"" };
                    let delivery = Delivery { head: false, keep_alive: false, cors: Cors::Silent };
                    cx.out.send(conn, |bytes| response.print(bytes, now.unix, delivery));
                }
                Some(Closing::answered())
            }
        }
    }

    /// Frees the buffers that a long message has made large.
    pub fn give_back(&mut self) {
        self.inflater.give_back();
    }

    /// Returns the number of bytes of buffers kept for the next message of any connection.
    #[cfg(test)]
    pub fn kept_bytes(&self) -> usize {
        let reader = self.reader.0.as_ref().map_or(0, |reader| reader.kept_bytes());
        reader + self.inflater.kept_bytes()
    }

    /// Checks the invariants that hold at the end of every turn.
    pub fn check_invariants(&self, resources: &Resources) {
        let Resources { settings, sender, peers, report, .. } = resources;
        let is_client = |conn: &Connection| matches!(conn.protocol, Protocol::Client(_));
        let clients = self.connections.iter().filter(|(_, conn)| is_client(conn)).count();
        assert_eq!(clients as u32, report.counters.clients, "clients are counted");
        assert!(self.polling_clients.len() <= clients, "no removed client is listed");
        assert!(sender.len() <= clients, "no state of a removed connection is kept");
        let is_counted = |conn: &Connection| is_counted(conn.address(), settings);
        let counted = self.connections.iter().filter(|(_, conn)| is_counted(conn)).count() as u64;
        assert_eq!(counted, peers.connections(), "connections are counted by their addresses");
    }

    /// Reads one packet of a request, or one that was deferred.
    fn next_packet<'i>(
        &mut self,
        incoming: &'i mut Incoming<'_>,
        reading: &'i mut Reading<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<Event<'i>> {
        let id = incoming.client();
        let Some(client) = self.connections.client_mut(id) else {
            return self.connections.client_gone(incoming, cx);
        };
        let Some(next) = incoming.packets.next() else {
            let post = incoming.post.take()?;
            return self.connections.end_post(incoming, &post, cx);
        };
        let Incoming { packet, assembled, post, .. } = incoming;
        if let Some(deferred) = &mut client.deferred {
            deferred.push(next);
            let Some(closing) = deferred.overflow(&cx.settings.limits) else {
                return Some(Event::Settled);
            };
            if let Some(post) = post {
                post.end = PostEnd::BadIfMore;
            }
            return Some(Event::Close { conn: id, closing });
        }
        let event = match &*packet.insert(next) {
            PendingPacket::Text(text) => self.text(id, text, assembled, reading, cx),
            PendingPacket::Binary(data) => self.binary(id, data, assembled, reading, cx),
        };
        if let (Some(post), Event::Close { closing, .. }) = (post, &event)
            && closing.goodbye
        {
            post.end = PostEnd::Goodbye;
        }
        Some(event)
    }

    /// Reads one message of a WebSocket.
    fn next_frame<'i>(
        &mut self,
        incoming: &'i mut Incoming<'_>,
        reading: &'i mut Reading<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<Event<'i>> {
        let Incoming { bytes, at, reader, inflater, packet, assembled, pongs, .. } = incoming;
        let id = incoming.conn;
        *packet = None;
        let client = self.connections.client_mut(id)?;
        // The rest is deferred. The reader stays as it is, because it may move with the client.
        if client.deferred.is_some() {
            return None;
        }
        let reader = reader.get_or_insert_with(|| std::mem::take(&mut client.reader));
        let limits = &cx.settings.limits;
        let broken = |error: FrameError| {
            let (why, code) = (error.to_string(), Some(error.code()));
            let closing = Closing::expelled(why.clone(), LeaveReason::TransportError)
                .with(Farewell::Frame(code, why.into()));
            Event::Close { conn: id, closing }
        };
        let event = match reader.next(limits, bytes.get(), at) {
            Ok(None) => return None,
            Ok(Some(Message::Text(text))) => self.text(id, text, assembled, reading, cx),
            Ok(Some(Message::Binary(data))) => self.binary(id, data, assembled, reading, cx),
            Ok(Some(Message::Deflated { text, payload })) => {
                let idle = &mut self.inflater;
                let inflater = inflater.get_or_insert_with(|| std::mem::take(idle));
                let window = client.window.as_deref_mut();
                match inflater.inflate(payload, window, limits.message_bytes_max) {
                    Ok(message) if !text => self.binary(id, message, assembled, reading, cx),
                    Ok(message) => match std::str::from_utf8(message) {
                        Ok(text) => self.text(id, text, assembled, reading, cx),
                        Err(_) => broken(FrameError::Utf8),
                    },
                    Err(InflateError::Corrupt) => broken(FrameError::Deflate),
                    Err(InflateError::TooLarge) => broken(FrameError::TooLarge),
                }
            }
            Ok(Some(Message::Ping(payload))) => {
                pongs.count += 1;
                // mark: every_ping_answered
                if pongs.count <= PONGS_MAX {
                    cx.out.send(id, |bytes| frame::pong(bytes, payload));
                } else {
                    pongs.owed.clear();
                    pongs.owed.extend_from_slice(payload);
                }
                Event::Settled
            }
            Ok(Some(Message::Pong(_))) => Event::Settled,
            Ok(Some(Message::Close(close))) => {
                let farewell = Farewell::Frame(close.map(|close| close.code), "".into());
                let closing = Closing::left(LeaveReason::TransportClosed).with(farewell);
                Event::Close { conn: id, closing }
            }
            Err(error) => broken(error),
        };
        Some(event)
    }

    fn text<'i>(
        &mut self,
        id: ConnId,
        text: &'i str,
        assembled: &'i mut Option<Box<Binary>>,
        reading: &'i mut Reading<'_>,
        cx: &mut Cx<'_>,
    ) -> Event<'i> {
        cx.report.counters.messages_in += 1;
        let Some(client) = self.connections.client_mut(id) else { return Event::Settled };
        let received = client.receive(text, assembled, reading, cx.now.at, cx.settings);
        event_of(id, client, received, cx)
    }

    fn binary<'i>(
        &mut self,
        id: ConnId,
        data: &'i [u8],
        assembled: &'i mut Option<Box<Binary>>,
        reading: &'i mut Reading<'_>,
        cx: &mut Cx<'_>,
    ) -> Event<'i> {
        cx.report.counters.messages_in += 1;
        let Some(client) = self.connections.client_mut(id) else { return Event::Settled };
        let received = client.receive_bytes(data, assembled, reading, cx.now.at, cx.settings);
        event_of(id, client, received, cx)
    }
}

/// Handles a message that concerns the connection alone, and turns any other into an event.
fn event_of<'i>(id: ConnId, client: &Client, received: Received<'i>, cx: &mut Cx<'_>) -> Event<'i> {
    match received {
        Received::Nothing => Event::Settled,
        Received::Named { event, ack, payload } => {
            Event::Named(NamedEvent { client: id, event, ack, payload })
        }
        Received::Connect(recovery) => Event::Connect { client: id, recovery },
        Received::Disconnect => Event::Disconnect { client: id },
        Received::Ping => {
            client.send(id, cx, |bytes| bytes.extend_from_slice(engine_packet::PONG));
            Event::Settled
        }
        Received::NoNamespace(namespace) => {
            let why = "Invalid namespace";
            client.send(id, cx, |bytes| socket_packet::connect_error(bytes, namespace, why));
            Event::Settled
        }
        Received::Goodbye => {
            let goodbye = client.is_polling();
            if goodbye {
                client.send(id, cx, |bytes| bytes.extend_from_slice(engine_packet::NOOP));
            }
            let closing = Closing { goodbye, ..Closing::left(LeaveReason::TransportClosed) };
            Event::Close { conn: id, closing }
        }
        Received::Broken(why, reason) => {
            Event::Close { conn: id, closing: Closing::expelled(why, reason) }
        }
        Received::Packet(packet, attachments) => Event::Packet { client: id, packet, attachments },
        Received::Message(data) => Event::Message { client: id, data },
    }
}
