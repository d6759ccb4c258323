//! Acts on news of other nodes and of the cluster's store.
//!
//! A client receives the acknowledgement of its command before the packets about it, as on a
//! server that is alone.

use super::Shard;
use super::calls::caller;
use crate::context::Cx;
use crate::io::node::{ClaimOutcome, NodeNews, Stored};
use crate::io::{NodeId, Output};
use crate::record::Record;
use crate::rooms::clustered::{
    Answered, Clustered, Hears, HeldAnswer, PendingReply, Settled, unavailable,
};
use crate::rooms::{Call, Caller, Reply, Way};
use crate::session::Session;
use crate::speech::{Ack, ClientNotice, Command, Join, LeaveReason, Reject};
use crate::transport::{Awaits, Payload, ReplyTo};
use crate::wire::envelope::{Bulletin, Message, Part, Say};
use crate::wire::events::ClientEvent;
use crate::wire::json::Value;
use crate::wire::{notices, print};
use crate::words::ids::{ConnId, MemberId, RoomKey, SeatHandle, SessionId};

/// Acts on one piece of news.
pub(super) fn news(shard: &mut Shard, news: &NodeNews, cx: &mut Cx<'_>) {
    if Clustered::of(&mut shard.rooms).is_draining() {
        // A claim that was on its way.
        if let NodeNews::Claimed { session, outcome: ClaimOutcome::Mine { epoch, .. } } = news {
            cx.out.list.push(Output::Release { session: session.clone(), epoch: *epoch });
        }
        return;
    }
    match news {
        NodeNews::Table { revision, peers } => {
            let settled = Clustered::of(&mut shard.rooms).table(*revision, peers, cx);
            settled.into_iter().for_each(|settled| settle(shard, settled, cx));
        }
        NodeNews::Gone { node } => Clustered::of(&mut shard.rooms).gone(*node, cx),
        NodeNews::Standing { first, last, standing } => {
            let buckets = *first..=*last;
            let settled = Clustered::of(&mut shard.rooms).standing(buckets, *standing, cx);
            settled.into_iter().for_each(|settled| settle(shard, settled, cx));
        }
        NodeNews::Claimed { session, outcome } => claimed(shard, session, outcome, cx),
        NodeNews::Committed { session, epoch, version, outcome } => {
            let which = (*epoch, *version);
            let mut rooms = Clustered::of(&mut shard.rooms);
            let (settled, rejected) = rooms.committed(session, which, outcome, cx);
            reject_all(shard, rejected, cx);
            if let Some(settled) = settled {
                settle(shard, settled, cx);
            }
        }
        // Numbers show the receivers what they missed.
        NodeNews::Unheard { .. } => {}
        NodeNews::Heard { from, body } => heard(shard, *from, body, cx),
    }
}

/// Does what is due among the nodes.
pub(super) fn look(shard: &mut Shard, cx: &mut Cx<'_>) {
    let (given_up, stuck) = Clustered::of(&mut shard.rooms).look(cx);
    for reply in given_up {
        reject(shard, reply, &unavailable(), cx);
    }
    reject_all(shard, stuck, cx);
}

/// Sends the acknowledgements of a stored decision, then its packets.
fn settle(shard: &mut Shard, mut settled: Settled, cx: &mut Cx<'_>) {
    for HeldAnswer { client, event, ack, outcome, .. } in std::mem::take(&mut settled.answers) {
        let to = ReplyTo { client, event, ack };
        let seat = shard.transport.connections.client(client).and_then(|client| client.seat);
        let session = seat.and_then(|seat| shard.rooms.session_of(seat)).map(Session::id);
        shard.transport.connections.answer(to, &outcome, session, cx);
    }
    Clustered::of(&mut shard.rooms).release(settled, cx);
}

/// Rejects commands whose decision is void or not known to be stored. Rejections stay.
fn reject_all(shard: &mut Shard, answers: Vec<HeldAnswer>, cx: &mut Cx<'_>) {
    for HeldAnswer { client, event, ack, outcome, .. } in answers {
        let reject = outcome.err().unwrap_or_else(unavailable);
        shard.transport.connections.reject(ReplyTo { client, event, ack }, &reject, cx);
    }
}

/// Handles the answer to a claim: of a branch, or for joins that wait.
fn claimed(shard: &mut Shard, session: &SessionId, outcome: &ClaimOutcome, cx: &mut Cx<'_>) {
    let mut rooms = Clustered::of(&mut shard.rooms);
    if let Some(key) = rooms.claims(session) {
        match outcome {
            ClaimOutcome::Mine { epoch, stored } => {
                let pending = rooms.take_over(key, *epoch, stored.as_ref(), cx);
                go_on(shard, key, pending, cx);
            }
            ClaimOutcome::Theirs { owner, epoch, .. } => rooms.claimed_by(key, *owner, *epoch, cx),
            ClaimOutcome::Unknown => rooms.claim_failed(key),
        }
        return;
    }
    if rooms.room_of(session).is_some() {
        return;
    }
    let read = |stored: &Option<Stored>| {
        let record = Record::parse(&stored.as_ref()?.record).ok();
        record.filter(|record| record.session == *session)
    };
    match outcome {
        ClaimOutcome::Mine { epoch, stored } => {
            let record = read(stored);
            let is_damaged = stored.is_some() && record.is_none();
            let notes = stored.as_ref().map_or(&[][..], |stored| &stored.branches);
            let record = record.map(|record| (record, notes));
            let open = |rooms: &mut Clustered<'_>, cx: &mut Cx<'_>| {
                rooms.open_owned(session, record, (*epoch, is_damaged), cx)
            };
            shard.open_for(session, open, cx);
        }
        ClaimOutcome::Theirs { owner, epoch, stored } => {
            let record = read(stored);
            let open = |rooms: &mut Clustered<'_>, cx: &mut Cx<'_>| {
                rooms.open_branch(session, (*owner, *epoch), record, cx)
            };
            shard.open_for(session, open, cx);
        }
        ClaimOutcome::Unknown => shard.open_for(session, |_, _| Err(unavailable()), cx),
    }
}

/// Carries out the commands that waited for a former owner. Those that it has handled are
/// confirmed.
fn go_on(shard: &mut Shard, key: RoomKey, pending: Vec<(PendingReply, bool)>, cx: &mut Cx<'_>) {
    for (reply, was_handled) in pending {
        let PendingReply { client, event, ack, payload, is_join, .. } = reply;
        let to = ReplyTo { client, event, ack };
        if is_join {
            let connections = &mut shard.transport.connections;
            let Some(deferred) = connections.take_deferred(client, Awaits::Node) else { continue };
            shard.join(client, ack, &payload, cx);
            shard.resume(client, deferred, cx);
        } else if was_handled {
            let seat = SeatHandle { room: key, index: 0 };
            let Some(session) = shard.rooms.session_of(seat) else { continue };
            let (epoch, version) = (session.epoch(), session.version());
            let outcome = Ok(Ack::Repeated { epoch, version });
            shard.transport.connections.answer(to, &outcome, Some(session.id()), cx);
        } else {
            repeat(shard, to, &payload, cx);
        }
    }
}

/// Carries out a command of a client that the former owner has not handled.
fn repeat(shard: &mut Shard, to: ReplyTo<'_>, payload: &str, cx: &mut Cx<'_>) {
    if let Some(event) = ClientEvent::from_name(to.event) {
        let payload = Payload::Read { value: payload.into(), array: "" };
        shard.command(event, to, payload, cx);
    }
}

/// Rejects a command that no owner has answered.
fn reject(shard: &mut Shard, reply: PendingReply, reject: &Reject, cx: &mut Cx<'_>) {
    let PendingReply { client, event, ack, is_join, .. } = reply;
    let connections = &mut shard.transport.connections;
    let deferred = is_join.then(|| connections.take_deferred(client, Awaits::Node));
    connections.reject(ReplyTo { client, event, ack }, reject, cx);
    if let Some(deferred) = deferred.flatten() {
        shard.resume(client, deferred, cx);
    }
}

/// Acts on a message of another node.
fn heard(shard: &mut Shard, from: NodeId, body: &[u8], cx: &mut Cx<'_>) {
    let Ok(message) = Message::read(body) else {
        cx.report.counters.nodes.unreadable += 1;
        return;
    };
    let mut rooms = Clustered::of(&mut shard.rooms);
    if !rooms.note_life(from, cx.now.at) {
        return;
    }
    match message {
        Message::Attach(attach) => rooms.attach(from, attach, cx),
        Message::Say(say) => said(shard, from, (&say, false), cx),
        Message::Join(say) => said(shard, from, (&say, true), cx),
        Message::Part(part) => parted(shard, from, &part, cx),
        Message::Bulletin(bulletin) => bulletin_of(shard, from, &bulletin, cx),
        Message::Answer(answer) => {
            let which = (&answer.session, answer.epoch);
            if let Some((key, answered)) = rooms.read_answer(from, which, &answer.outcome, cx) {
                answer_client(shard, key, answered, cx);
            }
        }
        Message::Missing(missing) => rooms.missing(from, &missing, cx),
        Message::State(state) => {
            let rejected =
                rooms.room_of(&state.session).map(|key| rooms.yield_to(from, key, state.epoch, cx));
            rooms.read_state(from, &state, cx);
            reject_all(shard, rejected.unwrap_or_default(), cx);
        }
        Message::Pulse(pulse) => {
            let rejected = rooms.read_pulse(from, &pulse, cx);
            reject_all(shard, rejected, cx);
        }
        Message::RollCall(call) => {
            let rejected = rooms.read_roll_call(from, &call, cx);
            reject_all(shard, rejected, cx);
        }
        Message::Moved(moved) => rooms.moved(from, &moved, cx),
        Message::Evict(evict) => {
            if let Some(conn) = rooms.evicted(&evict.session, evict.member, cx) {
                shard.dismiss(conn, cx);
            }
        }
    }
}

/// Carries out an event of a member of another node.
fn said(shard: &mut Shard, from: NodeId, (say, is_join): (&Say<'_>, bool), cx: &mut Cx<'_>) {
    let Say { session, up, member, peer, .. } = say;
    let mut rooms = Clustered::of(&mut shard.rooms);
    let key = match rooms.hears(from, session, (*up, *member, is_join), cx) {
        Hears::Now(key) => key,
        Hears::Repeated(key) => return repeated(shard, from, say, key, cx),
        Hears::No => return,
    };
    let caller = Caller {
        peer: *peer,
        member: *member,
        way: Way::Node(from),
        seat: rooms.seat_of(key, *member),
    };
    let outcome = match call_of(say) {
        Ok(call) => match shard.rooms.call(&caller, call, cx) {
            Reply::Now { replaced, outcome, .. } => {
                if let Some(replaced) = replaced {
                    shard.dismiss(replaced, cx);
                }
                outcome
            }
            Reply::NotLoaded(_) | Reply::Elsewhere(_) | Reply::Forward(_) => Err(unavailable()),
        },
        Err(reject) => Err(reject),
    };
    let text = print_outcome(say, &outcome);
    let mut rooms = Clustered::of(&mut shard.rooms);
    rooms.answer_node(key, from, *up, (outcome.is_ok(), text), cx);
    shard.rooms.settle_room(key, cx);
}

/// Answers a command that a former owner has carried out.
fn repeated(shard: &mut Shard, from: NodeId, say: &Say<'_>, key: RoomKey, cx: &mut Cx<'_>) {
    let Some(session) = shard.rooms.session(&say.session) else { return };
    let (epoch, version) = (session.epoch(), session.version());
    let text = print_outcome(say, &Ok(Ack::Repeated { epoch, version }));
    Clustered::of(&mut shard.rooms).answer_node(key, from, say.up, (true, text), cx);
}

/// Reads a forwarded event. Another program may have written it, so it is checked again.
fn call_of(say: &Say<'_>) -> Result<Call, Reject> {
    let payload = say.payload;
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(payload).is_ok();
    let event = ClientEvent::from_name(say.event).filter(|_| is_json || payload.is_empty());
    let value = if payload.is_empty() { Value::NONE } else { Value::from(payload) };
    let call = match event.map(|event| event.read(value)) {
        Some(Ok(Command::Join(join))) => Call::Join(join),
        Some(Ok(Command::Session(session, terms, command))) => {
            Call::Session(session, terms, command)
        }
        Some(Err(reject)) => return Err(reject),
        Some(Ok(Command::Leave(_) | Command::Client(_))) | None => return Err(unavailable()),
    };
    let is_of_session = match &call {
        Call::Join(Join { session, .. }) | Call::Leave(session) | Call::Session(session, ..) => {
            *session == say.session
        }
    };
    if is_of_session { Ok(call) } else { Err(unavailable()) }
}

/// Prints an outcome for the member's own node, which adds the id of the acknowledgement.
fn print_outcome(say: &Say<'_>, outcome: &Result<Ack, Reject>) -> String {
    /// The id 0 and the type before the arguments of an acknowledgement.
    const PREFIX: usize = "430".len();
    let mut text = Vec::new();
    match outcome {
        Ok(ack) if say.wants_ack => print::ack(&mut text, 0, Some(&say.session), ack),
        Ok(_) => {}
        Err(reject) if say.wants_ack => print::rejection(&mut text, 0, reject),
        Err(reject) => {
            notices::client(&mut text, &ClientNotice::Error { event: say.event, reject });
        }
    }
    let skip = if say.wants_ack { PREFIX.min(text.len()) } else { 0 };
    String::from_utf8_lossy(&text[skip..]).into_owned()
}

/// Removes a member of another node.
fn parted(shard: &mut Shard, from: NodeId, part: &Part, cx: &mut Cx<'_>) {
    let mut rooms = Clustered::of(&mut shard.rooms);
    let place = (part.up, part.member, false);
    let Hears::Now(key) = rooms.hears(from, &part.session, place, cx) else { return };
    if let Some(seat) = rooms.seat_of(key, part.member) {
        let reason = match part.reason() {
            // Its node goes away, and the member returns to another one.
            LeaveReason::Draining => LeaveReason::TransportClosed,
            reason => reason,
        };
        shard.rooms.leave(seat, part.member, reason, cx);
    }
    shard.rooms.settle_room(key, cx);
}

/// Passes a bulletin on: outcomes to the clients that wait, then packets to all members here.
fn bulletin_of(shard: &mut Shard, from: NodeId, bulletin: &Bulletin<'_>, cx: &mut Cx<'_>) {
    let mut rooms = Clustered::of(&mut shard.rooms);
    let rejected =
        rooms.room_of(&bulletin.session).map(|key| rooms.yield_to(from, key, bulletin.epoch, cx));
    let read = rooms.read_bulletin(from, bulletin, cx);
    reject_all(shard, rejected.unwrap_or_default(), cx);
    let Some((key, answers)) = read else { return };
    for answered in answers {
        answer_client(shard, key, answered, cx);
    }
    Clustered::of(&mut shard.rooms).show(key, bulletin, cx);
}

/// Passes the owner's answer on to a client. A member whose join was accepted has its seat first.
fn answer_client(shard: &mut Shard, key: RoomKey, answered: Answered, cx: &mut Cx<'_>) {
    let Answered { reply, ok, text } = answered;
    let PendingReply { client: id, member, ack, payload, is_join, .. } = reply;
    let deferred = match is_join {
        true => shard.transport.connections.take_deferred(id, Awaits::Node),
        false => None,
    };
    if is_join && ok {
        joined(shard, key, (id, member), &payload, cx);
    }
    if let Some(client) = shard.transport.connections.client(id)
        && !text.is_empty()
    {
        client.send(id, cx, |bytes| {
            if let Some(ack) = ack {
                bytes.extend_from_slice(format!("43{ack}").as_bytes());
            }
            bytes.extend_from_slice(text.as_bytes());
        });
    }
    if let Some(deferred) = deferred {
        shard.resume(id, deferred, cx);
    }
}

/// Seats a member whose join the owner has accepted. If its client is gone, the member leaves.
fn joined(
    shard: &mut Shard,
    key: RoomKey,
    (id, member): (ConnId, MemberId),
    payload: &str,
    cx: &mut Cx<'_>,
) {
    let Ok(Command::Join(join)) = ClientEvent::JoinSession.read(payload) else { return };
    let Some(caller) = caller(&shard.transport.connections, id) else {
        let reason = LeaveReason::TransportClosed;
        return Clustered::of(&mut shard.rooms).part(key, member, reason, cx);
    };
    if caller.seat.is_some_and(|seat| seat.room != key) {
        shard.leave_session(id, LeaveReason::Left, cx);
    }
    if let Some(client) = shard.transport.connections.client_mut(id) {
        client.seat = Some(SeatHandle { room: key, index: 0 });
    }
    Clustered::of(&mut shard.rooms).seat_here(key, &caller, &join, cx);
}
