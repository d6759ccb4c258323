//! Connections leave the table: they are closed, or handed over to another shard.

use std::net::IpAddr;

use super::Transport;
use super::client::Client;
use super::connections::{Connections, Protocol};
use super::event::{Closing, Farewell};
use super::packed::{Counted, Packed};
use super::polling::{OK_HEADERS, packets_answer};
use crate::context::Cx;
use crate::io::{Close, Goodbye, HttpResponse};
use crate::speech::{ClientNotice, Code, Reject};
use crate::wire::http::{Delivery, Response};
use crate::wire::payload::{Body, Packet};
use crate::wire::{engine_packet, frame, notices, socket_packet};
use crate::words::ids::{ConnId, MemberId, SeatHandle, ShardId};
use crate::words::policy::ClientAddress;
use crate::words::time::Moment;

/// The close code of RFC 6455 for a server that goes away.
const GOING_AWAY: u16 = 1001;

/// A connection that is out of the table and was not told its end yet.
pub struct Gone {
    conn: ConnId,
    /// The address of its client.
    pub peer: IpAddr,
    client: Option<Box<Client>>,
    /// The clients whose requests it carried.
    polling_for: Option<ConnId>,
    posting_for: Option<ConnId>,
}

impl Gone {
    /// The client's seat, and the member that sat there.
    pub fn seated(&self) -> Option<(SeatHandle, MemberId)> {
        self.client.as_ref()?.seated()
    }

    /// Whether it is a client that was connected to the namespace `/`.
    pub fn was_connected(&self) -> bool {
        self.client.as_ref().is_some_and(|client| client.member.is_some())
    }
}

impl Transport {
    /// Takes a connection out of table, timers and counts. Its session is told next, then
    /// [`release`](Self::release) is due.
    pub fn remove(&mut self, conn: ConnId, cx: &mut Cx<'_>) -> Option<Gone> {
        let connection = self.connections.remove(conn, cx)?;
        cx.release_peer(connection.address());
        let peer = connection.peer;
        let mut gone = Gone { conn, peer, client: None, polling_for: None, posting_for: None };
        match connection.protocol {
            Protocol::Http(http) => {
                gone.polling_for = http.polling_for();
                gone.posting_for = http.posting_for;
            }
            Protocol::Probe(probe) => {
                let client = self.polling_clients.get(probe.sid).filter(|_| probe.probed);
                if let Some(queue) = client.and_then(|client| cx.sender.queue(client)) {
                    queue.probed = None;
                }
            }
            Protocol::Client(client) => {
                cx.report.counters.links -= 1;
                if let Some(sid) = client.sid() {
                    self.polling_clients.remove(sid);
                }
                gone.client = Some(client);
            }
        }
        Some(gone)
    }

    /// The next client that is lost with the connection that carried its request.
    pub fn next_carried(&mut self, gone: &mut Gone, cx: &mut Cx<'_>) -> Option<ConnId> {
        let conn = gone.conn;
        let polling = gone.polling_for.take().filter(|client| {
            let queue = cx.sender.queue(*client);
            queue.is_some_and(|queue| queue.waiting.take_if(|waiting| *waiting == conn).is_some())
        });
        if polling.is_some() {
            return polling;
        }
        gone.posting_for.take().filter(|client| {
            cx.sender.queue(*client).is_some_and(|queue| queue.posting == Some(conn))
        })
    }

    /// Sends the last that a connection is sent, and gives back what was kept for it.
    pub fn release(&mut self, gone: Gone, closing: &Closing, cx: &mut Cx<'_>) {
        let Gone { conn, client, .. } = gone;
        if let Some(client) = &client
            && conn.is_polled()
        {
            if closing.farewell == Farewell::GoingAway {
                print_going_away(client, cx, |cx, print| client.send(conn, cx, print));
            }
            self.close_queue(conn, client.sid(), closing.goodbye, cx);
        }
        // At last, because its session still had packets for it.
        cx.sender.take_window(conn); // mark: window_of_the_gone_kept
        match &closing.farewell {
            Farewell::None => return,
            Farewell::Abort => return cx.out.close(conn, Close::Abort),
            Farewell::Flush => {}
            Farewell::Frame(code, why) if !conn.is_polled() => {
                cx.out.send(conn, |bytes| frame::close(bytes, *code, why));
            }
            Farewell::GoingAway if !conn.is_polled() => {
                if let Some(client) = &client {
                    print_going_away(client, cx, |cx, print| cx.out.text(conn, print));
                    cx.out.send(conn, |bytes| {
                        frame::close(bytes, Some(GOING_AWAY), "server shutting down");
                    });
                }
            }
            Farewell::Frame(..) | Farewell::GoingAway => {}
        }
        cx.out.close(conn, Close::Gently);
    }

    /// Ends the queue of a client of long-polling: the request that waits for packets gets the last
    /// of them.
    fn close_queue(
        &mut self,
        client: ConnId,
        sid: Option<MemberId>,
        said_goodbye: bool,
        cx: &mut Cx<'_>,
    ) {
        let Some(mut queue) = cx.sender.close(client) else { return };
        if let Some(posting) = queue.posting.take() {
            self.answer_post(posting, cx);
        }
        if said_goodbye
            && queue.waiting.is_none()
            && let Some(sid) = sid
        {
            self.polling_clients.closed(sid, queue.noop(), cx.now.at);
        }
        if let Some(waiting) = queue.waiting.take() {
            if !said_goodbye {
                queue.push(Packet::Text(engine_packet::CLOSE.to_vec()));
            }
            self.answer_poll(waiting, queue.body(), cx);
        }
    }

    /// Answers a parked request for packets. The requests behind it are read at the end of the
    /// turn.
    pub(super) fn answer_poll(&mut self, conn: ConnId, body: Body, cx: &mut Cx<'_>) {
        let Some(http) = self.connections.http_mut(conn) else { return };
        let answer = packets_answer(body, http.packing);
        self.answer_parked(conn, &answer, cx);
    }

    /// Answers a parked request with packets.
    pub(super) fn answer_post(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        let Some(http) = self.connections.http_mut(conn) else { return };
        http.posting_for = None;
        let headers = OK_HEADERS.map(|(name, value)| (name.into(), value.into())).to_vec();
        self.answer_parked(conn, &HttpResponse { status: 200, headers, body: b"ok".into() }, cx);
    }

    fn answer_parked(&mut self, conn: ConnId, answer: &HttpResponse, cx: &mut Cx<'_>) {
        match self.connections.respond(conn, answer, cx) {
            Some(true) => {
                self.resumed.push(conn);
                self.connections.arm(conn, cx);
            }
            // It carries no request of a client any more, so no session is concerned.
            Some(false) => {
                if let Some(gone) = self.remove(conn, cx) {
                    self.release(gone, &Closing::answered(), cx);
                }
            }
            None => {}
        }
    }
}

impl Connections {
    /// Answers a pending request. Returns whether the connection is used again, `None` if no
    /// request is pending.
    pub(super) fn respond(
        &mut self,
        conn: ConnId,
        answer: &HttpResponse,
        cx: &mut Cx<'_>,
    ) -> Option<bool> {
        let http = self.http_mut(conn)?;
        let pending = http.pending.take()?;
        let Moment { at: now, unix } = cx.now;
        http.answer_sent(now);
        let response =
            Response { status: answer.status, headers: &answer.headers, body: &answer.body };
        let keep_alive = pending.keep_alive;
        let delivery = Delivery { head: pending.head, keep_alive, cors: pending.cors.as_cors() };
        cx.out.send(conn, |bytes| response.print(bytes, unix, delivery));
        Some(keep_alive)
    }

    /// Hands a connection that speaks HTTP over to another shard.
    pub(super) fn send_http(&mut self, conn: ConnId, to: ShardId, packed: Packed, cx: &mut Cx<'_>) {
        let Some(connection) = self.remove(conn, cx) else { return };
        send_packed(conn, to, connection.address(), packed, cx);
    }
}

/// Hands a connection without a seat over to another shard.
pub fn send_packed(
    conn: ConnId,
    to: ShardId,
    address: ClientAddress,
    packed: Packed,
    cx: &mut Cx<'_>,
) {
    cx.release_peer(address);
    let counted: Counted = (address, packed);
    // Writing plain values to a vector fails only if one of them refuses, which none of ours
    // does.
    let bytes = postcard::to_allocvec(&counted).unwrap_or_default();
    assert!(!bytes.is_empty());
    cx.out.hand_over(conn, to, &bytes);
}

/// Prints the packets that tell a connected client that the server goes away.
fn print_going_away(
    client: &Client,
    cx: &mut Cx<'_>,
    mut send: impl FnMut(&mut Cx<'_>, &dyn Fn(&mut Vec<u8>)),
) {
    // mark: poller_without_goodbye
    if client.member.is_some() {
        let message = "the server is going away: connect again in a moment";
        let reject = Reject::new(Code::Draining, message);
        let notice = ClientNotice::Error { event: "disconnect", reject: &reject };
        send(cx, &|bytes| notices::link(bytes, &notice));
        if cx.settings.goodbye == Goodbye::Disconnect {
            send(cx, &|bytes| bytes.extend_from_slice(socket_packet::DISCONNECT));
        }
    }
}
