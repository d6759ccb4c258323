//! Removes members from their sessions, and hands clients over to other shards.

use super::Shard;
use super::admission::{JoinRequest, ShardMessage};
use super::closing::note;
use crate::context::Cx;
use crate::io::report::Manner;
use crate::speech::LeaveReason;
use crate::transport::{Awaits, Deferred, Incoming, Next, Payload, Reason, ReplyTo};
use crate::words::ids::{ConnId, MemberId, SeatHandle, ShardId};

impl Shard {
    /// Removes a client's member from its session, if it is in one.
    pub(super) fn leave_session(&mut self, client: ConnId, reason: LeaveReason, cx: &mut Cx<'_>) {
        let client = self.transport.connections.client_mut(client);
        let left = client.and_then(|client| client.seat.take().zip(client.member));
        if let Some((seat, member)) = left {
            self.rooms.leave(seat, member, reason, cx);
        }
    }

    /// Disconnects a client from the namespace. Its connection stays open.
    pub(super) fn disconnect(&mut self, id: ConnId, cx: &mut Cx<'_>) {
        let reason = LeaveReason::Disconnected;
        let connections = &self.transport.connections;
        if let Some((peer, client)) = connections.peer(id).zip(connections.client(id)) {
            let why = reason.as_str().into();
            note(&self.rooms, (id, peer), client.seat, (why, Manner::ByClient), cx);
        }
        self.leave_session(id, reason, cx);
        if let Some(client) = self.transport.connections.client_mut(id) {
            client.member = None;
            client.drop_late();
        }
    }

    /// Asks the shard of another session whether a member that is in a session here may join. The
    /// member keeps its seat until the answer.
    pub(super) fn ask_admission(
        &mut self,
        to: ReplyTo<'_>,
        payload: Payload<'_>,
        (seat, member): (SeatHandle, MemberId),
        shard: ShardId,
        cx: &mut Cx<'_>,
    ) -> Next {
        let Some(peer) = self.transport.connections.peer(to.client) else {
            return Next::Continue;
        };
        self.requests += 1; // mark: waiting_joiner_has_left
        let number = self.requests;
        let request = JoinRequest {
            from: cx.settings.shard,
            seat: (seat.room, member),
            number,
            peer,
            ack: to.ack,
            payload: payload.written(),
        };
        ShardMessage::Ask(request).send(shard, cx.out);
        Next::Defer(Awaits::Admission(number))
    }

    /// Hands a client without a seat over to another shard, with the rest of its input.
    pub(super) fn hand_over(
        &mut self,
        incoming: Incoming<'_>,
        to: ShardId,
        reason: Reason,
        cx: &mut Cx<'_>,
    ) {
        if let Some((conn, closing)) = self.transport.hand_over(incoming, to, reason, cx) {
            self.close(conn, closing, cx);
        }
    }

    /// Hands a client over to the shard that has admitted it, with its deferred input.
    pub(super) fn move_on(
        &mut self,
        client: ConnId,
        to: ShardId,
        reason: Reason,
        deferred: Deferred,
        cx: &mut Cx<'_>,
    ) {
        self.leave_session(client, LeaveReason::Left, cx);
        if let Some(closing) = self.transport.move_on(client, to, reason, deferred, cx) {
            self.close(client, closing, cx);
        }
    }
}
