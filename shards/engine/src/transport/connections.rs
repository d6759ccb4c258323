//! Connections by their ids: connections of the driver, and clients of HTTP long-polling. A client
//! of long-polling outlives the connections that carry its requests, so the engine allocates its
//! id.

use std::net::IpAddr;

use super::client::{Client, Deferred};
use super::event::{Awaits, Closing, slow_reader};
use super::http_conn::HttpConn;
use super::incoming::{Incoming, Pongs};
use super::polling_clients::Probe;
use crate::context::Cx;
use crate::slots::{Arena, Slots};
use crate::speech::Quality;
use crate::timers::{Timer, TimerHandle};
use crate::words::ids::{ConnId, MemberId};
use crate::words::limits::Limits;
use crate::words::policy::ClientAddress;
use crate::words::time::Micros;

/// A large backlog when memory is low: this many unsent bytes, for this time. A slow network
/// carries a set list in that time; a reader that has stopped does not.
const BACKLOG_SCARCE_BYTES: u32 = 256 * 1024;
const BACKLOG_SCARCE_TIME: Micros = Micros::from_secs(5);

/// The reason for the log if such a backlog closes a connection.
pub const BACKLOG_SCARCE: &str = "slow reader, 256 KiB unsent for 5 s while memory is low";

/// All connections of a shard.
pub struct Connections {
    real: Slots<ConnId, Connection>,
    polled: Arena<ConnId, Connection>,
    /// Whether the server is draining. If so, clients are rejected; pages and probes are still
    /// answered.
    pub draining: bool,
}

/// A connection, or a client of long-polling.
pub struct Connection {
    /// The client's address: the source of the connection, or the address that a trusted proxy
    /// names for a connection that it upgraded.
    pub peer: IpAddr,
    /// Whether a proxy forwarded the client's request. If so, the client is exempt from no limit.
    pub forwarded: bool,
    pub timer: TimerHandle,
    /// The time since which the driver reports a large backlog.
    pub backlogged_since: Option<Micros>,
    pub protocol: Protocol,
}

/// The protocol of a connection. Boxed, so that clients do not pay for the larger variants.
pub enum Protocol {
    /// HTTP, until it is upgraded.
    Http(Box<HttpConn>),
    /// A WebSocket that may take over from long-polling.
    Probe(Box<Probe>),
    /// Engine.IO.
    Client(Box<Client>),
}

impl Connection {
    /// Creates a connection of this client.
    pub fn new(address: ClientAddress, protocol: Protocol) -> Self {
        let ClientAddress { ip: peer, forwarded } = address;
        Self { peer, forwarded, timer: TimerHandle::default(), backlogged_since: None, protocol }
    }

    /// Returns the address that the connection is counted under.
    pub fn address(&self) -> ClientAddress {
        ClientAddress { ip: self.peer, forwarded: self.forwarded }
    }

    fn deadline(&self, limits: &Limits, draining: bool) -> Option<Micros> {
        match &self.protocol {
            Protocol::Http(http) => http.deadline(limits, draining),
            Protocol::Probe(probe) => Some(probe.deadline()),
            Protocol::Client(client) => client.deadline(limits),
        }
    }
}

impl Connections {
    /// Creates a table with room for `polled_max` clients of long-polling, and for as many
    /// connections as the driver has.
    pub fn new(polled_max: u32) -> Self {
        Self {
            real: Slots::new(ConnId::POLLED),
            polled: Arena::new(polled_max.min(ConnId::POLLED)),
            draining: false,
        }
    }

    /// Adds a connection under the id that the driver allocated.
    pub fn insert(&mut self, id: ConnId, conn: Connection) {
        self.real.insert(id, conn);
    }

    /// Adds a client of long-polling and allocates its id. `None` if there are too many.
    pub fn insert_polled(&mut self, conn: Connection) -> Option<ConnId> {
        let is_client = matches!(conn.protocol, Protocol::Client(_));
        debug_assert!(is_client, "only clients outlive the connections of their requests");
        if self.polled.is_full() {
            return None;
        }
        let id = self.polled.insert(conn);
        Some(ConnId { index: id.index | ConnId::POLLED, ..id })
    }

    /// Returns the connection of this id.
    pub fn get(&self, id: ConnId) -> Option<&Connection> {
        if id.is_polled() { self.polled.get(inner(id)) } else { self.real.get(id) }
    }

    /// Returns the connection of this id, to change it.
    pub fn get_mut(&mut self, id: ConnId) -> Option<&mut Connection> {
        if id.is_polled() { self.polled.get_mut(inner(id)) } else { self.real.get_mut(id) }
    }

    /// Removes the connection of this id and cancels its timer.
    pub fn remove(&mut self, id: ConnId, cx: &mut Cx<'_>) -> Option<Connection> {
        let mut conn =
            if id.is_polled() { self.polled.remove(inner(id)) } else { self.real.remove(id) }?;
        conn.timer.cancel(cx.wheel);
        Some(conn)
    }

    /// Returns the client of this id.
    pub fn client(&self, id: ConnId) -> Option<&Client> {
        match &self.get(id)?.protocol {
            Protocol::Client(client) => Some(client),
            Protocol::Http(_) | Protocol::Probe(_) => None,
        }
    }

    /// Returns the client of this id, to change it.
    pub fn client_mut(&mut self, id: ConnId) -> Option<&mut Client> {
        match &mut self.get_mut(id)?.protocol {
            Protocol::Client(client) => Some(client),
            Protocol::Http(_) | Protocol::Probe(_) => None,
        }
    }

    /// Returns the connection of this id, if it speaks HTTP.
    pub fn http_mut(&mut self, id: ConnId) -> Option<&mut HttpConn> {
        match &mut self.get_mut(id)?.protocol {
            Protocol::Http(http) => Some(http),
            Protocol::Probe(_) | Protocol::Client(_) => None,
        }
    }

    /// Returns the connection of this id, if it probes to take over from long-polling.
    pub fn probe_mut(&mut self, id: ConnId) -> Option<&mut Probe> {
        match &mut self.get_mut(id)?.protocol {
            Protocol::Probe(probe) => Some(probe),
            Protocol::Http(_) | Protocol::Client(_) => None,
        }
    }

    /// Sets the timer of a connection to its next deadline.
    pub fn arm(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let draining = self.draining;
        if let Some(conn) = self.get_mut(id) {
            let deadline = conn.deadline(&cx.settings.limits, draining);
            conn.timer.set(cx.wheel, deadline, Timer::Connection(id));
        }
    }

    /// Records the unsent bytes of a connection. If they exceed the limit for slow readers, returns
    /// how it is closed.
    pub fn backlog(&mut self, conn: ConnId, bytes: u32, cx: &Cx<'_>) -> Option<Closing> {
        let connection = self.get_mut(conn)?;
        if bytes <= BACKLOG_SCARCE_BYTES {
            connection.backlogged_since = None;
        } else {
            connection.backlogged_since.get_or_insert(cx.now.at);
        }
        let limit = cx.settings.limits.backlog_bytes_max;
        let why = || slow_reader(bytes as usize, limit as usize);
        (bytes > limit).then(|| Closing::slow_reader(why()))
    }

    /// Returns the connections that have had a large backlog for `BACKLOG_SCARCE_TIME`.
    pub fn slow_readers(&self, now: Micros) -> Vec<ConnId> {
        let is_slow = |conn: &Connection| {
            conn.backlogged_since.is_some_and(|since| since + BACKLOG_SCARCE_TIME <= now)
        };
        let slow = self.iter().filter(|(_, conn)| is_slow(conn));
        slow.map(|(id, _)| id).collect()
    }

    /// Returns the ids of all connections, those of long-polling first.
    pub fn ids(&self) -> Vec<ConnId> {
        self.iter().map(|(id, _)| id).collect()
    }

    /// Records that the timer of a connection has fired.
    pub fn fired(&mut self, conn: ConnId) {
        if let Some(connection) = self.get_mut(conn) {
            connection.timer.fired();
        }
    }

    /// Lets a client wait: its input is deferred from now on.
    pub fn wait(&mut self, client: ConnId, awaits: Awaits) {
        if let Some(client) = self.client_mut(client) {
            debug_assert!(client.deferred.is_none(), "a client waits for one thing at a time");
            client.deferred = Some(Box::new(Deferred::new(awaits)));
        }
    }

    /// Returns the client that waits for this.
    pub fn waiting_for(&self, awaits: Awaits) -> Option<ConnId> {
        let waits = |conn: &Connection| match &conn.protocol {
            Protocol::Client(client) => {
                client.deferred.as_ref().is_some_and(|deferred| deferred.awaits == awaits)
            }
            Protocol::Http(_) | Protocol::Probe(_) => false,
        };
        self.iter().find(|(_, conn)| waits(conn)).map(|(id, _)| id)
    }

    /// Ends the wait of a client and returns its deferred input. `None` if the client is gone or
    /// waits for something else.
    pub fn take_deferred(&mut self, client: ConnId, awaits: Awaits) -> Option<Deferred> {
        let client = self.client_mut(client)?;
        client.deferred.take_if(|deferred| deferred.awaits == awaits).map(|deferred| *deferred)
    }

    /// Defers the rest of a WebSocket's input if its client waits. If that is too much, the input
    /// then begins with the end of the connection.
    pub fn keep_rest(&mut self, incoming: &mut Incoming<'_>, cx: &Cx<'_>) {
        let Some(client) = self.client_mut(incoming.conn) else { return };
        if incoming.conn.is_polled() {
            return;
        }
        client.touch(cx.now.at);
        let Some(deferred) = &mut client.deferred else { return };
        deferred.bytes.extend_from_slice(incoming.rest());
        incoming.at = incoming.bytes.get().len();
        incoming.pongs = Pongs::default();
        incoming.closing = deferred.overflow(&cx.settings.limits);
    }

    /// Whether a client has missed a deadline.
    pub(super) fn is_due(&self, client: ConnId, cx: &Cx<'_>) -> bool {
        let deadline = self.client(client).and_then(|client| client.deadline(&cx.settings.limits));
        deadline.is_some_and(|at| at <= cx.now.at)
    }

    /// Adds a connection that another shard counted under this address.
    pub(super) fn adopt(
        &mut self,
        conn: ConnId,
        address: ClientAddress,
        protocol: Protocol,
        cx: &mut Cx<'_>,
    ) {
        cx.adopt_peer(address);
        self.insert(conn, Connection::new(address, protocol));
    }

    /// Returns the address of a connection's client.
    pub fn peer(&self, conn: ConnId) -> Option<IpAddr> {
        Some(self.get(conn)?.peer)
    }

    /// Returns the quality of the connection to a member.
    pub fn quality(&self, client: ConnId, member: MemberId, now: Micros) -> Option<Quality> {
        Some(self.client(client)?.quality(member, now))
    }

    /// Iterates over all connections. Clients of long-polling are first, so that their waiting
    /// requests receive the end before these connections close.
    pub fn iter(&self) -> impl Iterator<Item = (ConnId, &Connection)> {
        let polled = self
            .polled
            .iter()
            .map(|(id, conn)| (ConnId { index: id.index | ConnId::POLLED, ..id }, conn));
        polled.chain(self.real.iter())
    }

    /// Returns the number of connections of the driver.
    pub fn connections(&self) -> usize {
        self.real.len()
    }
}

fn inner(id: ConnId) -> ConnId {
    ConnId { index: id.index & !ConnId::POLLED, ..id }
}
