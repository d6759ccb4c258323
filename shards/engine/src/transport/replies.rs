//! Replies to events of clients: acknowledgements and rejections, and the check of their rates.

use super::connections::Connections;
use super::event::ReplyTo;
use crate::context::Cx;
use crate::speech::{Ack, ClientNotice, Reject};
use crate::wire::events::{ClientEvent, class};
use crate::wire::{print, socket_packet};
use crate::words::ids::{ConnId, MemberId, RecoveryToken, SessionId};
use crate::words::time::Micros;

impl Connections {
    /// Counts an event against the client's rates. Returns whether values of the client wait for
    /// their rates.
    ///
    /// # Errors
    /// If the event comes too fast: the time after which it may be sent again.
    pub fn admit(
        &mut self,
        client: ConnId,
        event: Option<ClientEvent>,
        cx: &mut Cx<'_>,
    ) -> Result<bool, Micros> {
        let Some(client) = self.client_mut(client) else { return Ok(false) };
        client.rates.take(cx.now.at, class(event), &cx.settings.policy.rates)?;
        if !matches!(
            event,
            Some(ClientEvent::Pong | ClientEvent::Heartbeat | ClientEvent::HeartbeatResponse)
        ) {
            client.active_at = cx.now.at;
        }
        Ok(client.late().is_some())
    }

    /// Sends the outcome of an event: its acknowledgement, if the client wants one, or the reason
    /// of its rejection. `session` is the client's session now.
    pub fn answer(
        &mut self,
        to: ReplyTo<'_>,
        outcome: &Result<Ack, Reject>,
        session: Option<&SessionId>,
        cx: &mut Cx<'_>,
    ) {
        match outcome {
            Ok(ack) => self.acknowledge(to, ack, session, cx),
            Err(reject) => self.reject(to, reject, cx), // mark: acknowledged_unchecked
        }
    }

    fn acknowledge(
        &mut self,
        to: ReplyTo<'_>,
        ack: &Ack,
        session: Option<&SessionId>,
        cx: &mut Cx<'_>,
    ) {
        if let (Some(id), Some(client)) = (to.ack, self.client(to.client)) {
            client.send(to.client, cx, |bytes| print::ack(bytes, id, session, ack));
            if matches!(ack, Ack::Clock { .. } | Ack::Latency { .. }) {
                cx.out.stamp(to.client, print::TIME_OF_SENDING);
            }
        }
    }

    /// Sends the reason of a rejection, as the acknowledgement or as the event `error`.
    pub fn reject(&mut self, to: ReplyTo<'_>, reject: &Reject, cx: &mut Cx<'_>) {
        cx.report.counters.rejected(reject.code);
        let Some(client) = self.client(to.client) else { return };
        match to.ack {
            Some(id) => client.send(to.client, cx, |bytes| print::rejection(bytes, id, reject)),
            None => {
                client.notify(to.client, &ClientNotice::Error { event: to.event, reject }, cx);
            }
        }
    }

    /// Connects a client to the namespace `/` as a new member.
    pub fn connect(&mut self, client: ConnId, cx: &mut Cx<'_>) {
        let member = cx.draw_id();
        let recovers = cx.settings.transports.recovery > Micros::ZERO;
        let token = recovers.then(|| RecoveryToken(cx.draw_id()));
        self.connected(client, member, token, cx);
    }

    /// Connects a client to the namespace `/` as this member.
    pub fn connected(
        &mut self,
        id: ConnId,
        member: MemberId,
        token: Option<RecoveryToken>,
        cx: &mut Cx<'_>,
    ) {
        let Some(client) = self.client_mut(id) else { return };
        client.connected_as(member, token);
        let token = token.as_ref().map(|token| token.0.as_str());
        client.send(id, cx, |bytes| socket_packet::connected(bytes, member.as_str(), token));
    }
}
