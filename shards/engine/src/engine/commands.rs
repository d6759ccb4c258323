//! Commands on their way to the band, and what it replies.

use super::event::{Reason, EventCall, Next};
use super::{Shard, Protocol};
use crate::band::{Call, Caller, Reply};
use crate::context::Cx;
use crate::speech::{Ack, Command, LeaveReason, Reject};
use crate::wire::events::ClientEvent;
use crate::words::ids::ConnId;

impl Shard {
    /// Acts on a client event that is within the rates.
    pub(super) fn command(&mut self, event: ClientEvent, said: EventCall<'_>, cx: &mut Cx<'_>) -> Next {
        let call = match event.read(said.payload) {
            Ok(Command::Link(command)) => {
                self.link_command(said, command, cx);
                return Next::Go;
            }
            Ok(Command::Join(join)) => Call::Join(join),
            Ok(Command::Leave(session)) => Call::Leave(session),
            Ok(Command::Session(session, id, command)) => Call::Session(session, id, command),
            Err(reject) => {
                self.answer(said, &Err(reject), cx);
                return Next::Go;
            }
        };
        self.call(said, call, cx)
    }

    /// Has the band act on a call, and answers its sender if the outcome is known.
    pub(super) fn call(&mut self, said: EventCall<'_>, call: Call, cx: &mut Cx<'_>) -> Next {
        let Some(caller) = self.caller(said.conn) else { return Next::Go };
        match self.band.call(&caller, call, cx) {
            Reply::Now { seat, outcome } => {
                if let Some(link) = self.link_mut(said.conn) {
                    link.seat = seat;
                }
                self.answer(said, &outcome, cx);
                Next::Go
            }
            Reply::NotLoaded(session) => {
                self.wait_for(session, said, cx);
                Next::Hold
            }
            Reply::Elsewhere(shard) => match caller.seat {
                Some(seat) => {
                    self.knock(said, (seat.room, caller.member), shard, cx);
                    Next::Hold
                }
                None => {
                    let moving = Reason::Join { ack: said.ack, payload: said.written() };
                    Next::Move(shard, moving)
                }
            },
        }
    }

    /// The band's view of a client that is connected.
    fn caller(&mut self, id: ConnId) -> Option<Caller> {
        let peer = self.conns.get(id)?.peer;
        let link = self.link_mut(id)?;
        Some(Caller { peer, member: link.member?, line: link.line(id), seat: link.seat })
    }

    /// Handles the `join_session` that made a connection move here, or wait. The rates have let it
    /// through.
    pub(super) fn join_late(
        &mut self,
        id: ConnId,
        ack: Option<u64>,
        payload: &str,
        cx: &mut Cx<'_>,
    ) {
        let event = ClientEvent::JoinSession;
        let said = EventCall { conn: id, name: event.name(), ack, payload: payload.into(), array: "" };
        let step = self.command(event, said, cx);
        assert!(matches!(step, Next::Go | Next::Hold), "a session is at home on one shard");
    }

    /// Answers the sender, then tells its session what came of it.
    fn answer(&mut self, said: EventCall<'_>, outcome: &Result<Ack, Reject>, cx: &mut Cx<'_>) {
        match outcome {
            Ok(ack) => self.acknowledge(said, ack, cx),
            Err(reject) => self.refuse(said, reject, cx), // mark: acknowledged_unchecked
        }
        // After the acknowledgement, so that the sender learns the outcome before the news.
        if let Some(seat) = self.link_mut(said.conn).and_then(|link| link.seat) {
            self.band.settle(seat, cx);
        }
    }

    /// Sends a connection's member out of its session, if it is in one, so that it can go
    /// elsewhere.
    pub(super) fn leave_session(&mut self, id: ConnId, reason: LeaveReason, cx: &mut Cx<'_>) {
        let left = self.link_mut(id).and_then(|link| link.seat.take().zip(link.member));
        if let Some((seat, member)) = left {
            self.band.leave(seat, member, reason, cx);
        }
    }

    /// Notes that a member's client is alive.
    pub(super) fn heard_from(&mut self, id: ConnId, cx: &Cx<'_>) {
        // Not by `link_mut`, for the band is needed beside it.
        if let Some(Protocol::Client(link)) = self.conns.get_mut(id).map(|conn| &mut conn.state)
            && let Some(member) = link.member
            && let Some(seat) = &mut link.seat
        {
            self.band.touch_member(seat, member, cx.now.unix);
        }
    }
}
