//! Moves a connection to another shard and adopts one from there, with its protocol state and
//! unread input.

use super::Transport;
use super::client::{Client, Deferred};
use super::closing::send_packed;
use super::connections::{Connection, Protocol};
use super::event::{Closing, Reason};
use super::exchange::rejected_request;
use super::http_conn::HttpConn;
use super::incoming::{Incoming, PendingPacket, Post, PostEnd};
use super::packed::{Counted, Packed};
use crate::context::Cx;
use crate::delivery::poll_queue::PollQueue;
use crate::io::Close;
use crate::speech::LeaveReason;
use crate::wire::http::{Cors, OwnedCors, Rejection};
use crate::words::ids::{ConnId, ShardId};
use crate::words::policy::ClientAddress;

/// A connection that came from another shard.
pub struct Arrival {
    /// The client, and the call that brought it here.
    pub client: Option<(ConnId, Reason)>,
    /// The input after that call.
    pub incoming: Incoming<'static>,
}

/// A client of long-polling that was separated from its connections, to move to another shard.
struct Unbound {
    client: Client,
    queue: PollQueue,
    address: ClientAddress,
}

impl Transport {
    /// Hands a client without a seat over to another shard, with the rest of its input. If it
    /// cannot move, returns which connection is closed instead, and how.
    pub fn hand_over(
        &mut self,
        mut incoming: Incoming<'_>,
        to: ShardId,
        reason: Reason,
        cx: &mut Cx<'_>,
    ) -> Option<(ConnId, Closing)> {
        incoming.return_inflater(&mut self.inflater);
        let conn = incoming.conn;
        if let Some(post) = incoming.post.take() {
            incoming.at += post.used.unwrap_or_default();
            let rest = incoming.rest().to_vec();
            let packets = incoming.packets.collect();
            let unbound = self.take_polled(post.client, to, cx)?;
            let answer = (post.keep_alive, post.cors);
            let packed = pack_polled(unbound, reason, packets, answer, rest);
            self.connections.send_http(conn, to, packed, cx);
            return None;
        }
        // The client would move again at once, and no request could take it there.
        if incoming.packet.is_some() {
            return Some((conn, Closing::unlogged(LeaveReason::TransportError)));
        }
        if let (Some(client), Some(reader)) =
            (self.connections.client_mut(conn), incoming.reader.take())
        {
            client.reader = reader;
        }
        self.send_websocket(conn, to, reason, incoming.rest(), cx);
        None
    }

    /// Hands a client over to the shard that has admitted it, with its deferred input. If it cannot
    /// move, returns how it is closed instead.
    pub fn move_on(
        &mut self,
        client: ConnId,
        to: ShardId,
        reason: Reason,
        deferred: Deferred,
        cx: &mut Cx<'_>,
    ) -> Option<Closing> {
        if client.is_polled() {
            let posting = cx.sender.queue(client).and_then(|queue| queue.posting);
            let http = posting.and_then(|conn| Some((conn, self.connections.http_mut(conn)?)));
            let taken = http.and_then(|(conn, http)| Some((conn, http.take_pending()?)));
            // No request could take the client there.
            let Some((conn, (keep_alive, cors, rest))) = taken else {
                return Some(Closing::unlogged(LeaveReason::TransportError));
            };
            let unbound = self.take_polled(client, to, cx)?;
            let answer = (keep_alive, cors);
            let packed = pack_polled(unbound, reason, deferred.packets, answer, rest);
            self.connections.send_http(conn, to, packed, cx);
            return None;
        }
        if deferred.packets.is_empty() {
            self.send_websocket(client, to, reason, &deferred.bytes, cx);
            return None;
        }
        // The packets came by long-polling, before a WebSocket took over, and could not be sent
        // again on that.
        let why = "join while another join is pending";
        Some(Closing::expelled(why, LeaveReason::Forced))
    }

    fn send_websocket(
        &mut self,
        conn: ConnId,
        to: ShardId,
        reason: Reason,
        rest: &[u8],
        cx: &mut Cx<'_>,
    ) {
        let Some(connection) = self.connections.remove(conn, cx) else { return };
        let address = connection.address();
        let Protocol::Client(client) = connection.protocol else { return };
        assert!(client.seat.is_none(), "a client leaves its session before it moves");
        assert!(client.late().is_none(), "values that wait are applied before the join");
        cx.report.counters.clients -= 1;
        if let Some(sid) = client.sid() {
            self.polling_clients.remove(sid);
        }
        let (client, window) = (*client, cx.sender.take_window(conn));
        // mark: bytes_behind_hand_over_lost
        let packed = Packed::Socket { client, window, reason, rest: rest.to_vec() };
        send_packed(conn, to, address, packed, cx);
    }

    /// Removes a client of long-polling from this shard, so that it moves with the connection of a
    /// request.
    fn take_polled(&mut self, client: ConnId, to: ShardId, cx: &mut Cx<'_>) -> Option<Unbound> {
        let connection = self.connections.remove(client, cx)?;
        let address = connection.address();
        let id = client;
        let Protocol::Client(client) = connection.protocol else { return None };
        assert!(client.seat.is_none(), "a client leaves its session before it moves");
        cx.report.counters.clients -= 1;
        cx.release_peer(address);
        if let Some(sid) = client.sid() {
            self.polling_clients.moved(sid, to, cx.now.at);
        }
        let mut queue = cx.sender.close(id)?;
        // The client's next request is handed over by `find`.
        if let Some(waiting) = queue.waiting.take() {
            self.answer_poll(waiting, queue.noop(), cx);
        }
        Some(Unbound { client: *client, queue, address })
    }

    /// Adopts a connection from another shard. Returns `None` if it is closed at once.
    pub fn adopt(&mut self, conn: ConnId, packed: &[u8], cx: &mut Cx<'_>) -> Option<Arrival> {
        let Ok((address, packed)) = postcard::from_bytes::<Counted>(packed) else {
            // Only our own engine packs connections, so this is a trace that was changed.
            cx.out.close(conn, Close::Abort);
            return None;
        };
        let is_left = matches!(packed, Packed::Probe { .. } | Packed::Polled { .. });
        if self.connections.draining && is_left {
            cx.out.close(conn, Close::Abort);
            return None;
        }
        let now = cx.now.at;
        match packed {
            Packed::Socket { client, window, reason, rest } => {
                if let Some(sid) = client.sid() {
                    self.polling_clients.put(sid, conn);
                }
                self.connections.adopt(conn, address, Protocol::Client(Box::new(client)), cx);
                cx.report.counters.clients += 1;
                if let Some(window) = window {
                    cx.sender.put_window(conn, window);
                }
                let incoming = Incoming::kept(conn, rest);
                Some(Arrival { client: Some((conn, reason)), incoming })
            }
            Packed::Request { bytes, hops } => {
                let mut http = HttpConn::handed_over(now, hops);
                let bytes = http.receive(&bytes, now);
                self.connections.adopt(conn, address, Protocol::Http(Box::new(http)), cx);
                Some(Arrival { client: None, incoming: Incoming::kept(conn, bytes) })
            }
            Packed::Probe { probe, hops, rest } => {
                self.connections.adopt(conn, address, Protocol::Probe(Box::new(probe)), cx);
                let mut incoming = Incoming::kept(conn, rest);
                incoming.hops = Some(hops);
                Some(Arrival { client: None, incoming })
            }
            Packed::Polled {
                client,
                queue,
                reason,
                packets,
                keep_alive,
                cors,
                address: of_client,
                rest,
            } => {
                let mut http = HttpConn::handed_over(now, 0);
                let bytes = http.receive(&rest, now);
                self.connections.adopt(conn, address, Protocol::Http(Box::new(http)), cx);
                let sid = client.sid();
                let connection = Connection::new(of_client, Protocol::Client(Box::new(client)));
                let Some(client) = self.connections.insert_polled(connection) else {
                    return Some(reject_arrival(conn, cors.as_cors(), cx));
                };
                cx.adopt_peer(of_client);
                cx.report.counters.clients += 1;
                if let Some(sid) = sid {
                    self.polling_clients.put(sid, client);
                }
                cx.sender.open(client, queue);
                let mut incoming = Incoming::kept(conn, bytes);
                let end = PostEnd::Bad;
                incoming.post = Some(Post { client, keep_alive, cors, used: None, end });
                incoming.packets = packets.into_iter();
                Some(Arrival { client: Some((client, reason)), incoming })
            }
        }
    }
}

fn pack_polled(
    unbound: Unbound,
    reason: Reason,
    packets: Vec<PendingPacket>,
    (keep_alive, cors): (bool, OwnedCors),
    rest: Vec<u8>,
) -> Packed {
    let Unbound { client, queue, address } = unbound;
    Packed::Polled { client, queue, reason, packets, keep_alive, cors, address, rest }
}

/// Rejects the request that brought a client for which there is no room.
fn reject_arrival(conn: ConnId, cors: Cors<'_>, cx: &mut Cx<'_>) -> Arrival {
    let closing = rejected_request(conn, Rejection::BadRequest.of_request(), cors, cx);
    Arrival { client: None, incoming: Incoming::closing(conn, closing) }
}
