//! The way of a shared session's news: a decision to the store, and with it or alone to the
//! branches. See [`gate`](super::gate) for the order.

use super::gate::{CommitOrder, HeldAnswer, InFlight};
use super::owner::Owner;
use super::room::Room;
use super::shared::Shared;
use super::told::Told;
use crate::context::Cx;
use crate::io::Output;
use crate::wire::envelope::{Bulletin, Message, Outcome, Packet, State};
use crate::wire::notices;
use crate::words::ids::{RoomKey, SessionId};
use crate::words::time::Micros;

/// A decision that is stored: its acknowledgements are sent first, then its packets.
pub struct Settled {
    /// The session's room.
    pub(super) key: RoomKey,
    /// The acknowledgements that clients of this node wait for.
    pub answers: Vec<HeldAnswer>,
    pub(super) told: Vec<Told>,
}

/// Orders the newest decision to be stored if none is on its way, and publishes what is no
/// decision.
pub(super) fn settle(room: &mut Room, key: RoomKey, cx: &mut Cx<'_>) {
    let Some(Shared::Owner(owner)) = room.shared.as_deref() else { return };
    if owner.gate.in_flight.is_some() {
        return;
    }
    if is_undecided(room, owner) || owner.gate.unproven.is_some() && is_begun(room) {
        return commit(room, key, cx);
    }
    send_directs(room, key, cx);
    publish(room, cx);
}

/// Orders the newest decision again, because the store may have lost it or another node may own
/// the session.
pub(super) fn assert_again(room: &mut Room, key: RoomKey, cx: &mut Cx<'_>) {
    let session = room.session.id().clone();
    let is_begun = is_begun(room);
    let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return };
    if owner.gate.in_flight.is_some() {
        owner.gate.order(&session, cx.out);
    } else if is_begun {
        commit(room, key, cx);
    }
    room.arm(key, cx);
}

/// Orders the newest decision to be stored, whether or not another one is on its way: the node
/// ends.
pub(super) fn store_last(room: &mut Room, key: RoomKey, cx: &mut Cx<'_>) {
    let Some(Shared::Owner(owner)) = room.shared.as_deref() else { return };
    let newest = (room.session.epoch(), room.session.version());
    let ordered = owner.gate.in_flight.as_ref().map(|flight| (flight.epoch, flight.version));
    if is_undecided(room, owner) && ordered != Some(newest) {
        commit(room, key, cx);
    }
}

/// Whether the session has had a member: it is at version 0 until then.
fn is_begun(room: &Room) -> bool {
    room.session.version() != 0
}

/// Whether the session has a decision that is not stored.
fn is_undecided(room: &Room, owner: &Owner) -> bool {
    let newest = (room.session.epoch(), room.session.version());
    is_begun(room)
        && (newest != owner.gate.stored
            || room.session.state().tokens.changes() != owner.gate.tokens)
}

/// Whether an acknowledgement must wait, because a decision is not stored. If the store has not
/// answered for long, commands are rejected at once.
pub(super) fn holds(room: &Room, now: Micros) -> bool {
    match room.shared.as_deref() {
        Some(Shared::Owner(owner)) => {
            owner.waits
                && (owner.gate.is_closed() || is_undecided(room, owner))
                && !owner.gate.is_stuck(now)
        }
        _ => false,
    }
}

/// Sends what waits for single members.
fn send_directs(room: &mut Room, key: RoomKey, cx: &mut Cx<'_>) {
    let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return };
    for effect in std::mem::take(&mut owner.gate.direct) {
        room.send_direct(key, effect, cx);
    }
}

/// Prints what members will receive with the newest decision, and orders it to be stored.
fn commit(room: &mut Room, key: RoomKey, cx: &mut Cx<'_>) {
    let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return };
    if owner.waits {
        owner.gate.is_printing = true;
        room.flush(key, cx);
        send_directs(room, key, cx);
    }
    let mut record = Vec::new();
    room.session.state().print(&mut record);
    let (epoch, version) = (room.session.epoch(), room.session.version());
    let tokens = room.session.state().tokens.changes();
    let timeline = Box::new(room.session.state().timeline.clone());
    let session = room.session.id().clone();
    let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return };
    owner.gate.is_printing = false;
    let (to, branches) = (owner.audience(), owner.notes());
    let (head, tail) = match to.is_empty() {
        true => Default::default(),
        false => next_bulletin(owner, &session, epoch, &record, cx),
    };
    let order = CommitOrder { record, branches, head, tail, to };
    owner.gate.in_flight = Some(Box::new(InFlight {
        epoch,
        version,
        tokens,
        since: cx.now.at.max(owner.gate.hold_until),
        again: None,
        unanswered: 0,
        order,
        told: std::mem::take(&mut owner.gate.told),
        answers: std::mem::take(&mut owner.gate.answers),
        timeline,
    }));
    owner.gate.order(&session, cx.out);
}

/// Publishes what is no decision.
fn publish(room: &mut Room, cx: &mut Cx<'_>) {
    let session = room.session.id().clone();
    let epoch = room.session.epoch();
    let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return };
    let to = owner.audience();
    if to.is_empty() || owner.outbox.is_empty() && owner.outcomes.is_empty() {
        owner.outbox.clear();
        owner.outcomes.clear();
        return send_states(room, cx);
    }
    let mut record = Vec::new();
    if owner.shows_record && !room.session.is_large() {
        room.session.state().print(&mut record);
    }
    let (head, tail) = next_bulletin(owner, &session, epoch, &record, cx);
    let body = cx.out.span(|bytes| {
        for part in [&head, &record, &tail] {
            bytes.extend_from_slice(part);
        }
    });
    cx.out.list.push(Output::Publish { session, to, body });
    send_states(room, cx);
}

/// Takes what waits for the branches as the next bulletin, around this record.
fn next_bulletin(
    owner: &mut Owner,
    session: &SessionId,
    epoch: u64,
    record: &[u8],
    cx: &mut Cx<'_>,
) -> (Vec<u8>, Vec<u8>) {
    owner.seq += 1;
    owner.shows_record = false;
    let (packets, outcomes) =
        (std::mem::take(&mut owner.outbox), std::mem::take(&mut owner.outcomes));
    let bulletin = Bulletin {
        session: session.clone(),
        epoch,
        seq: owner.seq,
        record: &[],
        outcomes: outcomes
            .iter()
            .map(|one| Outcome { node: one.node, up: one.up, ok: one.ok, text: &one.text })
            .collect(),
        packets: packets
            .iter()
            .map(|packet| Packet { to: packet.to, place: packet.place, text: &packet.text })
            .collect(),
        heard: owner.heard(),
    };
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    bulletin.write_around(record.len(), &mut head, &mut tail);
    cx.report.counters.nodes.bulletins += 1;
    owner.keep_bulletin([&head[..], record, &tail].concat());
    for outcome in outcomes {
        owner.keep_outcome(outcome);
    }
    // A bulletin with a record is the whole state.
    if !record.is_empty() {
        for branch in owner.branches.values_mut() {
            branch.needs_state = false;
        }
    }
    (head, tail)
}

/// Sends the whole state to the branches that need it.
fn send_states(room: &mut Room, cx: &mut Cx<'_>) {
    let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return };
    let mut to = Vec::new();
    for (number, branch) in &mut owner.branches {
        if std::mem::take(&mut branch.needs_state) {
            to.push(*number);
        }
    }
    if to.is_empty() {
        return;
    }
    let (mut record, mut packet) = (Vec::new(), Vec::new());
    room.session.state().print(&mut record);
    notices::snapshot(&mut packet, &room.session.snapshot(cx.now));
    let snapshot = String::from_utf8_lossy(&packet);
    let session = room.session.id().clone();
    let state = State {
        session: session.clone(),
        epoch: room.session.epoch(),
        seq: owner.seq,
        record: &record,
        snapshot: &snapshot,
        heard: owner.heard(),
    };
    let body = cx.out.span(|bytes| Message::State(state).write(bytes));
    cx.report.counters.nodes.repairs += 1;
    cx.out.list.push(Output::Publish { session, to, body });
}

/// Notes that the decision on its way is stored.
pub(super) fn stored(room: &mut Room, key: RoomKey) -> Option<Settled> {
    let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return None };
    let flight = *owner.gate.in_flight.take()?;
    owner.gate.stored = (flight.epoch, flight.version);
    owner.gate.tokens = flight.tokens;
    owner.gate.timeline = Some(flight.timeline);
    room.persisted.stored = Some((flight.epoch, flight.version));
    room.persisted.token_changes = flight.tokens;
    let InFlight { mut answers, mut told, .. } = flight;
    if let Some(Shared::Owner(owner)) = room.shared.as_deref()
        && !is_undecided(room, owner)
        && let Some(Shared::Owner(owner)) = room.shared.as_deref_mut()
    {
        // Later commands have decided nothing, so they wait for no other decision.
        answers.append(&mut owner.gate.answers);
        told.append(&mut owner.gate.told);
    }
    Some(Settled { key, answers, told })
}

/// Opens or closes the gate of a session: whether decisions must be stored before members learn of
/// them. Returns what was held back by a gate that is open now.
pub(super) fn set_waits(room: &mut Room, key: RoomKey, waits: bool) -> Option<Settled> {
    let timeline = &room.session.state().timeline;
    let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return None };
    if owner.waits == waits {
        return None;
    }
    owner.waits = waits;
    if waits {
        owner.gate.timeline = Some(Box::new(timeline.clone()));
        return None;
    }
    let answers = owner.gate.take_answers();
    let mut told = match &mut owner.gate.in_flight {
        Some(flight) => std::mem::take(&mut flight.told),
        None => Vec::new(),
    };
    told.append(&mut owner.gate.told);
    Some(Settled { key, answers, told })
}

/// Sends the packets of a decision to the members of this node, and goes on with the next one.
pub(super) fn release(room: &mut Room, settled: Settled, cx: &mut Cx<'_>) {
    let key = settled.key;
    for told in settled.told {
        room.deliver(key, told, cx);
    }
    settle(room, key, cx);
    if !holds(room, cx.now.at) {
        // The batch window may have closed meanwhile.
        room.flush(key, cx);
        settle(room, key, cx);
    }
    room.arm(key, cx);
}
