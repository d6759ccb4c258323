//! A WebSocket takes over from long-polling: first it probes, then the client says so.

use super::Transport;
use super::closing::send_packed;
use super::connections::Protocol;
use super::event::{Closing, Event, Farewell};
use super::incoming::Incoming;
use super::packed::Packed;
use super::polling_clients::{Location, UPGRADE_TIMEOUT};
use crate::context::Cx;
use crate::speech::LeaveReason;
use crate::wire::frame::{self, Message};
use crate::wire::payload::Packet;
use crate::words::ids::ConnId;
use crate::words::time::Micros;

impl Transport {
    /// Reads one message of a WebSocket that may take over.
    pub(super) fn next_probe<'i>(
        &mut self,
        incoming: &mut Incoming<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<Event<'i>> {
        let conn = incoming.conn;
        let limits = &cx.settings.limits;
        let probe = self.connections.probe_mut(conn)?;
        let Incoming { bytes, at, reader, .. } = incoming;
        let reader = reader.get_or_insert_with(|| std::mem::take(&mut probe.reader));
        let close = || Some(Event::Close { conn, closing: dropped() });
        let text = match reader.next(limits, bytes.get(), at) {
            Ok(None) => return None,
            Ok(Some(Message::Text(text))) => text.as_bytes(),
            // A client that remembers what it sent compresses even this.
            Ok(Some(Message::Deflated { text: true, payload })) => {
                let window = probe.window.as_deref_mut();
                match self.inflater.inflate(payload, window, limits.message_bytes_max) {
                    Ok(text) => text,
                    Err(_) => return close(),
                }
            }
            Ok(Some(Message::Ping(payload))) => {
                cx.out.send(conn, |bytes| frame::pong(bytes, payload));
                return Some(Event::Settled);
            }
            Ok(Some(Message::Pong(_))) => return Some(Event::Settled),
            Ok(Some(_)) | Err(_) => return close(),
        };
        match text {
            b"2probe" if self.profile.probe_pause > Micros::ZERO => {
                probe.answer_at = Some(cx.now.at + self.profile.probe_pause);
            }
            b"2probe" => self.answer_probe(conn, cx),
            b"5" if probe.probed => return Some(self.take_over(incoming, 0, cx)),
            _ => return close(),
        }
        Some(Event::Settled)
    }

    /// Answers a probe, and the request that its client has waiting.
    fn answer_probe(&mut self, conn: ConnId, cx: &mut Cx<'_>) {
        let until = cx.now.at + UPGRADE_TIMEOUT;
        let Some(probe) = self.connections.probe_mut(conn) else { return };
        probe.probed = true;
        cx.out.text(conn, |bytes| bytes.extend_from_slice(b"3probe"));
        // If the client has just moved, its next request waits no longer than for a ping.
        if let Some(client) = self.polling_clients.get(probe.sid)
            && let Some(queue) = cx.sender.queue(client)
        {
            queue.probed = Some(until);
            if queue.is_idle() {
                queue.push_noop();
                cx.sender.touch(client);
            }
        }
    }

    /// A WebSocket has waited long enough: for its answer, or to take over. Returns how it closes.
    pub(super) fn probe_overdue(&mut self, conn: ConnId, cx: &mut Cx<'_>) -> Option<Closing> {
        let probe = self.connections.probe_mut(conn)?;
        if probe.answer_at.take().is_none() {
            return Some(dropped());
        }
        self.answer_probe(conn, cx);
        None
    }

    /// A WebSocket takes its client over, here or on the shard to which that has moved. The rest of
    /// `incoming` is the client's next input.
    pub(super) fn take_over<'i>(
        &mut self,
        incoming: &mut Incoming<'_>,
        hops: u8,
        cx: &mut Cx<'_>,
    ) -> Event<'i> {
        let conn = incoming.conn;
        let Some(probe) = self.connections.probe_mut(conn) else { return Event::Settled };
        if let Some(reader) = incoming.reader.take() {
            probe.reader = reader;
        }
        let dropped = Event::Close { conn, closing: dropped() };
        match self.polling_clients.find(probe.sid, hops, cx.settings, cx.now.at) {
            Location::Local(client) => {
                let known = self.connections.client(client);
                // An input that waits for an admission is answered first, by its own request.
                let is_free = known.is_some_and(|client| !client.awaits_admission());
                if is_free && client.is_polled() && self.upgrade(conn, client, cx) {
                    self.connections.keep_rest(incoming, cx);
                    return Event::Upgraded { from: client, to: conn };
                }
                dropped
            }
            Location::Remote(shard) => {
                let Some(connection) = self.connections.remove(conn, cx) else { return dropped };
                let address = connection.address();
                let Protocol::Probe(probe) = connection.protocol else { return dropped };
                let rest = incoming.rest().to_vec();
                let packed = Packed::Probe { probe: *probe, hops: hops + 1, rest };
                send_packed(conn, shard, address, packed, cx);
                Event::Settled
            }
            Location::Unknown => dropped,
        }
    }

    /// Makes a WebSocket the transport of a client. False if the client is gone.
    fn upgrade(&mut self, conn: ConnId, client: ConnId, cx: &mut Cx<'_>) -> bool {
        let Some(old) = self.connections.remove(client, cx) else { return false };
        cx.release_peer(old.address());
        let queue = cx.sender.close(client);
        let Protocol::Client(mut client) = old.protocol else { return false };
        let Some(connection) = self.connections.get_mut(conn) else { return false };
        let Protocol::Probe(probe) = &mut connection.protocol else { return false };
        client.upgrade(std::mem::take(&mut probe.reader), probe.agreed, probe.window.take());
        let sid = client.sid();
        client.touch(cx.now.at);
        if let Some(mut queue) = queue {
            for packet in queue.take() {
                match packet {
                    Packet::Text(text) => {
                        client.send(conn, cx, |bytes| bytes.extend_from_slice(&text));
                    }
                    Packet::Binary(attachment) => client.send_attachment(conn, &attachment, cx),
                }
            }
            if let Some(waiting) = queue.waiting.take() {
                self.answer_poll(waiting, queue.noop(), cx);
            }
        }
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.protocol = Protocol::Client(client);
        }
        if let Some(sid) = sid {
            self.polling_clients.put(sid, conn);
        }
        true
    }
}

/// A WebSocket did not take over. Its client goes on as before.
pub(super) fn dropped() -> Closing {
    let farewell = Farewell::Frame(None, "".into());
    Closing::unlogged(LeaveReason::Forced).with(farewell)
}
