//! Messages from a room to other nodes, and the values in them.

use std::net::IpAddr;

use super::branch::{Branch, PendingReply};
use super::gate::{HeldAnswer, HeldCommand};
use super::owner::OwnedOutcome;
use crate::context::Cx;
use crate::io::{NodeId, Output};
use crate::record::Seat;
use crate::wire::envelope::{self, Message, Outcome, Present, RollCall};
use crate::words::ids::SessionId;

/// Asks a node for its members of a session.
pub(super) fn call(node: NodeId, (session, epoch): (&SessionId, u64), cx: &mut Cx<'_>) {
    let call = RollCall { sessions: vec![(session.clone(), epoch)] };
    let body = cx.out.span(|bytes| Message::RollCall(call).write(bytes));
    cx.out.list.push(Output::Announce { to: vec![node.number], body });
}

/// Prints a command for the owner of a session.
pub(super) fn say(session: &SessionId, up: u64, peer: IpAddr, reply: &PendingReply) -> Vec<u8> {
    let PendingReply { member, event, ack, payload, is_join, .. } = reply;
    let (session, member, wants_ack) = (session.clone(), *member, ack.is_some());
    let say = envelope::Say { session, up, member, peer, event, payload, wants_ack };
    let message = if *is_join { Message::Join(say) } else { Message::Say(say) };
    let mut body = Vec::new();
    message.write(&mut body);
    body
}

/// Describes a seat to the owner.
pub(super) fn present_of(seat: &Seat) -> Present {
    let Seat { member, tick_hz, metronome, knows_pin, .. } = seat;
    Present {
        member: member.clone(),
        may_edit: member.may_edit,
        knows_pin: *knows_pin,
        metronome: *metronome,
        tick_hz: *tick_hz,
    }
}

/// Returns the seat that another node describes.
pub(super) fn seat_from(present: Present) -> Seat {
    let Present { mut member, may_edit, knows_pin, metronome, tick_hz } = present;
    member.may_edit = may_edit;
    Seat { member, tick_hz, metronome, knows_pin, latency_ms: 0 }
}

/// Sends the outcome of a command to the node that forwarded it.
pub(super) fn send_answer(
    session: &SessionId,
    epoch: u64,
    outcome: &OwnedOutcome,
    cx: &mut Cx<'_>,
) {
    let OwnedOutcome { node, up, ok, text } = outcome;
    let outcome = Outcome { node: *node, up: *up, ok: *ok, text };
    let answer = envelope::Answer { session: session.clone(), epoch, outcome };
    send(session, &[*node], &Message::Answer(answer), cx);
}

/// Sends a message of a session to nodes.
pub(super) fn send(session: &SessionId, to: &[u16], message: &Message<'_>, cx: &mut Cx<'_>) {
    let body = cx.out.span(|bytes| message.write(bytes));
    cx.out.list.push(Output::Publish { session: session.clone(), to: to.to_vec(), body });
}

/// Sends a printed message of a session to nodes.
pub(super) fn send_bytes(session: &SessionId, to: &[u16], body: &[u8], cx: &mut Cx<'_>) {
    let body = cx.out.span(|bytes| bytes.extend_from_slice(body));
    cx.out.list.push(Output::Publish { session: session.clone(), to: to.to_vec(), body });
}

/// Returns the number of the last command of a node that the owner has handled.
pub(super) fn up_in(heard: &[envelope::Heard], node: NodeId) -> u64 {
    let is_it = |heard: &&envelope::Heard| {
        heard.number == node.number && heard.incarnation == node.incarnation
    };
    heard.iter().find(is_it).map_or(0, |heard| heard.up)
}

/// Keeps the commands of void decisions for the next owner, under their numbers. Returns the
/// acknowledgements that no other owner will send.
pub(super) fn keep_commands(
    branch: &mut Branch,
    answers: Vec<HeldAnswer>,
    session: &SessionId,
    cx: &mut Cx<'_>,
) -> Vec<HeldAnswer> {
    let mut left = Vec::new();
    for mut answer in answers {
        let Some(HeldCommand { up, member, peer, payload }) = answer.command.take() else {
            left.push(answer);
            continue;
        };
        let HeldAnswer { client, event, ack, .. } = answer;
        let has_room = branch.has_room(payload.len());
        let reply = PendingReply { client, member, event, ack, payload, is_join: false };
        branch.up = up - 1;
        if has_room {
            branch.note_sent(say(session, up, peer, &reply), Some(reply), cx.now.at);
            cx.report.counters.nodes.forwards += 1;
        } else {
            // Its number must not be missing.
            let nothing = PendingReply { event: "", ack: None, payload: String::new(), ..reply };
            branch.note_sent(say(session, up, peer, &nothing), None, cx.now.at);
            left.push(answer);
        }
    }
    left
}
