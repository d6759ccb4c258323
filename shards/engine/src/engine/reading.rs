//! Reads input and answers it. This is the only loop of a shard that reads.
//!
//! Transport yields one event at a time, and each is answered before the next is read, so a
//! client's events take effect in order. If an answer has to wait (for a load, or for another
//! shard), the rest of the input is deferred and `pending` resumes it.

use super::Shard;
use crate::context::Cx;
use crate::delivery::route::Route;
use crate::rooms::clustered::Clustered;
use crate::speech::LeaveReason;
use crate::transport::{Closing, Event, Farewell, Incoming, Next, Reason};
use crate::words::ids::{ConnId, Offset, RecoveryToken};
use crate::words::time::Micros;

impl Shard {
    /// Reads input until it is used up.
    pub(super) fn read(&mut self, mut incoming: Incoming<'_>, cx: &mut Cx<'_>) {
        let mut reader = self.transport.reader.lend();
        loop {
            let mut reading = reader.begin();
            let Some(event) = self.transport.next(&mut incoming, &mut reading, cx) else { break };
            match self.act(event, cx) {
                Next::Continue => {}
                Next::Defer(awaits) => {
                    let client = incoming.client();
                    if let Some(closing) = self.transport.defer(&mut incoming, awaits, cx) {
                        self.close(client, closing, cx);
                    }
                }
                Next::HandOver(shard, reason) => {
                    drop(reading);
                    self.transport.reader.take_back(reader);
                    return self.hand_over(incoming, shard, reason, cx);
                }
            }
        }
        self.transport.reader.take_back(reader);
        self.transport.finish(incoming, cx);
    }

    /// Acts on one event.
    fn act(&mut self, event: Event<'_>, cx: &mut Cx<'_>) -> Next {
        match event {
            Event::Named(event) => return self.event(&event, cx),
            Event::Settled => {}
            Event::Connect { recovery: Some((token, offset)), .. }
                if offset.shard != cx.settings.shard =>
            {
                return Next::HandOver(offset.shard, Reason::Recover { token, offset });
            }
            Event::Connect { client, recovery } => self.connect(client, recovery, cx),
            Event::Disconnect { client } => self.disconnect(client, cx),
            Event::Upgraded { from, to } => self.relocate(from, to),
            Event::Due { client } => self.handle_deadline(client, cx),
            Event::Close { conn, closing } => self.close(conn, closing, cx),
            Event::Opened(_) | Event::Packet { .. } | Event::Message { .. } => {
                debug_assert!(false, "a server runs at the layer of events");
            }
        }
        Next::Continue
    }

    /// Handles the call that brought a client here from another shard.
    pub(super) fn take_up(&mut self, client: ConnId, reason: Reason, cx: &mut Cx<'_>) {
        debug_assert!(
            self.transport.connections.client(client).is_none_or(|client| client.seat.is_none()),
            "a client moves without a seat"
        );
        match reason {
            Reason::Join { ack, payload } => self.join(client, ack, &payload, cx),
            Reason::Recover { token, offset } => self.connect(client, Some((token, offset)), cx),
        }
    }

    /// Connects a client to the namespace `/`: as the member of its token, or as a new one.
    fn connect(&mut self, id: ConnId, recovery: Option<(RecoveryToken, Offset)>, cx: &mut Cx<'_>) {
        let recovers = cx.settings.transports.recovery > Micros::ZERO;
        if let Some(client) = self.transport.connections.client_mut(id) {
            client.begin_heartbeat(cx.now.at, cx.settings);
        }
        if let Some((token, offset)) = recovery.filter(|_| recovers)
            && self.recover(id, token, offset, cx)
        {
            return;
        }
        self.transport.connections.connect(id, cx);
    }

    /// Returns a client to the seat that it lost, sends the events that it missed, and then
    /// confirms the connect. Returns false if that is impossible; the client then connects as a new
    /// member.
    fn recover(
        &mut self,
        id: ConnId,
        token: RecoveryToken,
        offset: Offset,
        cx: &mut Cx<'_>,
    ) -> bool {
        // The client may have noticed the loss before the server did.
        if let Some(old) = self.rooms.conn_of_token(offset.room, token) {
            let why = "its member returned on another connection".into();
            let closing = Closing::left(LeaveReason::TransportClosed).with(Farewell::Abort);
            self.close(old, Closing { why, ..closing }, cx);
        }
        let Some(client) = self.transport.connections.client(id) else { return false };
        let route = Route { token: Some(token), ..client.route(id) };
        let Some((member, seat)) = self.rooms.recover(token, offset, route, cx) else {
            return false;
        };
        if let Some(client) = self.transport.connections.client_mut(id) {
            client.seat = Some(seat);
        }
        self.transport.connections.connected(id, member, Some(token), cx);
        self.rooms.settle(seat, cx);
        true
    }

    /// Moves a client's waiting join and its seat to the client's new id, after an upgrade.
    fn relocate(&mut self, from: ConnId, to: ConnId) {
        let Some(client) = self.transport.connections.client(to) else { return };
        if client.deferred.is_some() {
            self.joins.relocate(from, to);
        }
        if let Some((seat, member)) = client.seated() {
            self.rooms.relocate(seat, member, client.route(to));
        }
        Clustered::of(&mut self.rooms).relocate(from, to);
    }
}
