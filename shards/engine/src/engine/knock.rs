//! Knocking at another shard: who is in a session and wants to join one that lives there keeps its
//! seat until that one has said that it may come.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Shard;
use super::event::{Reason, EventCall};
use super::link::Deferred;
use crate::context::Cx;
use crate::io::Outputs;
use crate::speech::{Code, Command, Join, LeaveReason, Reject};
use crate::wire::events::ClientEvent;
use crate::words::ids::{ConnId, MemberId, RoomKey, ShardId};
use crate::words::time::Micros;

/// The fields for which somebody may be refused.
const FIELDS: [&str; 2] = ["passcode", "leaderPin"];

/// What shards write to each other, as the bytes of [`Output::Letter`](crate::io::Output::Letter).
#[derive(Serialize, Deserialize)]
enum ShardMessage {
    /// May I come?
    Ask(JoinRequest),
    /// What this shard says to that.
    Decided { knock: JoinRequest, by: ShardId, refused: Option<WireReject> },
}

/// A `join_session` whose sender asks from another shard.
#[derive(Serialize, Deserialize)]
pub(super) struct JoinRequest {
    /// From where.
    from: ShardId,
    /// Where it sits there.
    seat: (RoomKey, MemberId),
    /// Which of that shard's it is: a member may come back on another connection, and knock again.
    number: u64,
    /// Who speaks.
    peer: IpAddr,
    /// Under which id it is to be acknowledged.
    ack: Option<u64>,
    /// The JSON of its first argument.
    payload: String,
}

/// A [`Reject`] on its way.
#[derive(Serialize, Deserialize)]
struct WireReject {
    code: Code,
    message: String,
    field: Option<String>,
    retry_after: Option<Micros>,
}

impl From<Reject> for WireReject {
    fn from(reject: Reject) -> Self {
        // No join is too large for another shard that was not refused here.
        let Reject { code, message, field, retry_after, excess: _ } = reject;
        Self { code, message: message.into_owned(), field: field.map(str::to_owned), retry_after }
    }
}

impl From<WireReject> for Reject {
    fn from(refused: WireReject) -> Self {
        let named = |field: String| FIELDS.into_iter().find(|known| *known == field);
        let field = refused.field.and_then(named);
        Self { field, retry_after: refused.retry_after, ..Self::new(refused.code, refused.message) }
    }
}

impl Shard {
    /// Asks the shard of another session whether the sender of a `join_session`, who is in one
    /// here, may come.
    pub(super) fn knock(
        &mut self,
        said: EventCall<'_>,
        seat: (RoomKey, MemberId),
        to: ShardId,
        cx: &mut Cx<'_>,
    ) {
        let Some(peer) = self.conns.get(said.conn).map(|conn| conn.peer) else { return };
        self.knocks += 1; // mark: waiting_joiner_has_left
        let number = self.knocks;
        if let Some(link) = self.link_mut(said.conn) {
            link.held = Some(Box::new(Deferred { knock: Some(number), ..Deferred::default() }));
        }
        let from = cx.settings.shard;
        let knock = JoinRequest { from, seat, number, peer, ack: said.ack, payload: said.written() };
        write(to, &ShardMessage::Ask(knock), cx.out);
    }

    /// Reads what another shard writes.
    pub(super) fn letter(&mut self, letter: &[u8], cx: &mut Cx<'_>) {
        match postcard::from_bytes(letter) {
            // At the end everybody is sent away, also who waits for an answer.
            Ok(_) if self.draining => {}
            Ok(ShardMessage::Ask(knock)) => self.knocked(knock, cx),
            Ok(ShardMessage::Decided { knock, by, refused }) => {
                self.knock_answered(knock, by, refused, cx)
            }
            // Only our own engine writes letters, so this is a trace that was tampered with.
            Err(_) => {}
        }
    }

    /// Somebody of another shard knocks. Answered when it is known what the storage has of the
    /// session.
    fn knocked(&mut self, knock: JoinRequest, cx: &mut Cx<'_>) {
        let Some(join) = knock.join() else { return };
        if self.band.needs_load(&join.session, cx.settings) {
            self.wait_to_answer(join.session, knock, cx);
        } else {
            self.answer_knock(knock, cx);
        }
    }

    /// Says whether who knocks may come, as things are now.
    pub(super) fn answer_knock(&mut self, knock: JoinRequest, cx: &mut Cx<'_>) {
        let Some(join) = knock.join() else { return };
        let member = knock.seat.1;
        let refused = self.band.admit(knock.peer, member, &join, None, cx).err();
        if refused.is_none() {
            self.band.reserve(&join.session, member, cx.now.at);
        }
        self.tell_knocker(knock, refused, cx);
    }

    /// Tells who knocks what has come of it.
    pub(super) fn tell_knocker(&mut self, knock: JoinRequest, refused: Option<Reject>, cx: &mut Cx<'_>) {
        let to = knock.from;
        let (by, refused) = (cx.settings.shard, refused.map(WireReject::from));
        write(to, &ShardMessage::Decided { knock, by, refused }, cx.out);
    }

    /// The other shard has answered: who may come leaves its session and goes, who may not stays
    /// and is told why.
    fn knock_answered(
        &mut self,
        knock: JoinRequest,
        by: ShardId,
        refused: Option<WireReject>,
        cx: &mut Cx<'_>,
    ) {
        let JoinRequest { seat: (key, member), number, ack, payload, .. } = knock;
        // Its connection may be another one by now, or gone.
        let Some(id) = self.band.conn_of(key, member) else { return };
        let Some(link) = self.link_mut(id) else { return };
        let Some(held) = link.held.take_if(|held| held.knock == Some(number)) else { return };
        match refused {
            Some(refused) => {
                let name = ClientEvent::JoinSession.name();
                let said =
                    EventCall { conn: id, name, ack, payload: payload.as_str().into(), array: "" };
                self.refuse(said, &refused.into(), cx);
                self.answer_post_of(id, cx);
                self.go_on(id, *held, cx);
            }
            None => {
                self.leave_session(id, LeaveReason::Left, cx);
                self.move_on(id, by, Reason::Join { ack, payload }, *held, cx);
            }
        }
    }

    /// Takes a connection to another shard, with what it said meanwhile.
    fn move_on(&mut self, id: ConnId, to: ShardId, moving: Reason, held: Deferred, cx: &mut Cx<'_>) {
        if id.is_polled() {
            return self.move_polled(id, to, moving, &held.parts, cx);
        }
        if held.parts.is_empty() {
            return self.hand_over(id, to, moving, &held.bytes, cx);
        }
        // EventCall by requests of long-polling before a WebSocket took over, which no WebSocket could
        // say again.
        self.expel(id, "it wants to be in three sessions at once", LeaveReason::Forced, cx);
    }
}

impl JoinRequest {
    /// What it asks for; it was read by the other shard already.
    fn join(&self) -> Option<Join> {
        match ClientEvent::JoinSession.read(self.payload.as_str()) {
            Ok(Command::Join(join)) => Some(join),
            _ => None,
        }
    }
}

fn write(to: ShardId, letter: &ShardMessage, out: &mut Outputs) {
    // Writing plain values to a vector fails only if one of them refuses, which none of ours does.
    let letter = postcard::to_allocvec(letter).unwrap_or_default();
    assert!(!letter.is_empty());
    out.letter(to, &letter);
}
