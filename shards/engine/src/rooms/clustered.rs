//! The rooms of a shard whose node belongs to a cluster: sessions that this node owns, and branches
//! of sessions of other nodes.
//!
//! A session is claimed when a member wants to join it. If another node owns it, commands are
//! forwarded, and the owner's packets are passed on as they are. If the owner is silent, a branch
//! claims the session, and becomes its owner if the cluster's store agrees.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use super::announce;
use super::branch::Branch;
use super::owner::{OwnedOutcome, Owner, ROLL_CALL, RemoteMember, Turn};
use super::post::{
    call, keep_commands, present_of, say, seat_from, send, send_answer, send_bytes, up_in,
};
use super::room::{Room, SCREENS_MAX};
use super::shared::Shared;
use super::told::{Place, Told};
use super::{Caller, Reply, Rooms};
use crate::context::Cx;
use crate::io::node::{CommitOutcome, Standing, Stored};
use crate::io::{Cluster, NodeId, Output};
use crate::record::{Record, Seat};
use crate::session::{Audience, Effect, Session};
use crate::slots::Arena;
use crate::speech::{Code, Join, LeaveReason, Reject, SessionCommand, View};
use crate::timers::{Timer, TimerHandle};
use crate::wire::envelope::{
    self, Attach, Bulletin, Evict, Hearers, Message, Missing, Moved, Outcome, PacketPlace, Part,
    Pulse, RollCall, State,
};
use crate::words::ids::{ConnId, MemberId, RoomKey, SeatHandle, SessionId};
use crate::words::time::Micros;

pub use super::announce::Settled;
pub use super::branch::PendingReply;
pub use super::gate::{HeldAnswer, HeldCommand};

/// Interval at which unanswered messages, silent owners and pulses are looked at. Guessed.
const LOOK_INTERVAL: Micros = Micros::from_millis(50);

/// Interval of pulses. Specified.
const PULSE_INTERVAL: Micros = Micros::from_millis(500);

/// Interval at which pulses name all sessions, not only those with news. Specified.
const FULL_PULSE_INTERVAL: Micros = Micros::from_secs(30);

/// Interval at which pulses name the branches of this node. Guessed.
const BRANCHES_INTERVAL: Micros = Micros::from_secs(2);

/// Maximum number of decisions that are ordered again in one look. Specified.
const ASSERTED_MAX: usize = 512;

/// Delay of a claim for each step of a node's number, so that not all nodes claim at once. Guessed.
const CLAIM_STEP: Micros = Micros::from_millis(50);

/// The other nodes, and what they have been asked.
pub(super) struct Nodes {
    own: NodeId,
    buckets: u16,
    lease_ttl: Micros,
    /// The other nodes that live, with the time of the last message of each.
    peers: BTreeMap<u16, (NodeId, Micros)>,
    /// The rooms of sessions that nodes may share, by tag.
    tags: BTreeMap<u64, RoomKey>,
    /// The buckets whose store does not answer.
    alone: BTreeSet<u16>,
    /// Sessions with news since the last pulse.
    pulse_at: Micros,
    full_pulse_at: Micros,
    /// The time at which pulses name the branches of this node again.
    branches_at: Micros,
    /// Sessions whose newest decision is to be ordered again.
    queued: VecDeque<RoomKey>,
    /// Whether the node gives all sessions up, and takes none.
    draining: bool,
    /// The last bulletin of each session that a pulse has named.
    pulsed: BTreeMap<u64, u64>,
    timer: TimerHandle,
}

impl Nodes {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            own: cluster.node,
            buckets: cluster.buckets,
            lease_ttl: cluster.lease_ttl,
            peers: BTreeMap::new(),
            tags: BTreeMap::new(),
            alone: BTreeSet::new(),
            pulse_at: Micros::ZERO,
            full_pulse_at: Micros::ZERO,
            branches_at: Micros::ZERO,
            queued: VecDeque::new(),
            draining: false,
            pulsed: BTreeMap::new(),
            timer: TimerHandle::default(),
        }
    }

    /// Forgets a room that was removed.
    pub fn removed(&mut self, room: &Room, cx: &mut Cx<'_>) {
        let tag = room.session.id().tag();
        self.tags.remove(&tag);
        self.pulsed.remove(&tag);
        count(cx, room.shared.as_deref(), false);
    }

    /// Whether a session's decisions must be stored before members learn of them.
    fn must_wait(&self, room: &Room) -> bool {
        let Some(Shared::Owner(owner)) = room.shared.as_deref() else { return false };
        let is_home = owner.branches.is_empty();
        !(self.peers.is_empty() || is_home && self.is_alone(room.session.id()))
    }

    /// Whether the store does not answer for this session.
    fn is_alone(&self, session: &SessionId) -> bool {
        !self.alone.is_empty() && self.alone.contains(&session.bucket(self.buckets))
    }

    /// Time for which members receive nothing if another node may own their session.
    fn silence(&self) -> Micros {
        Micros::from_micros(self.lease_ttl.as_micros() / 4)
    }

    fn peer(&self, node: NodeId) -> bool {
        self.peers.get(&node.number).is_some_and(|(peer, _)| *peer == node)
    }
}

/// Counts a session that became, or is no longer, owned or a branch.
fn count(cx: &mut Cx<'_>, shared: Option<&Shared>, is_new: bool) {
    let counters = &mut cx.report.counters.nodes;
    let counter = match shared {
        Some(Shared::Owner(_)) => &mut counters.owned,
        Some(Shared::Branch(_)) => &mut counters.branches,
        None => return,
    };
    if is_new { *counter += 1 } else { *counter -= 1 }
}

/// Whether another node owns the session of a room.
pub(super) fn is_branch(room: &Room) -> bool {
    matches!(room.shared.as_deref(), Some(Shared::Branch(_)))
}

/// Gives up a session that leaves memory.
pub(super) fn give_up(room: &Room, cx: &mut Cx<'_>) {
    if let Some(Shared::Owner(_)) = room.shared.as_deref() {
        let (session, epoch) = (room.session.id().clone(), room.session.epoch());
        cx.out.list.push(Output::Release { session, epoch });
    }
}

/// Tells the node of a member that another connection has its seat.
pub(super) fn evict(room: &Room, member: MemberId, cx: &mut Cx<'_>) {
    let Some(Shared::Owner(owner)) = room.shared.as_deref() else { return };
    if let Some(node) = owner.node_of(member) {
        let session = room.session.id().clone();
        let evict = Evict { session: session.clone(), member };
        send(&session, &[node.number], &Message::Evict(evict), cx);
    }
}

/// Returns the reply to a call that a room cannot carry out: it is forwarded, or rejected while the
/// store does not answer. Questions about a state that members know are answered at once.
pub(super) fn stop(
    (rooms, nodes): (&Arena<RoomKey, Room>, Option<&Nodes>),
    key: RoomKey,
    caller: &Caller,
    command: Option<&SessionCommand>,
    cx: &Cx<'_>,
) -> Option<Reply> {
    let room = rooms.get(key)?;
    let is_question = command.is_some_and(is_question);
    let is_alone = || nodes.is_some_and(|nodes| nodes.is_alone(room.session.id()));
    let is_closed = match room.shared.as_deref()? {
        Shared::Branch(branch) if is_question && branch.seq.is_some() => return None,
        Shared::Branch(_) if is_alone() => true,
        Shared::Branch(_) => return Some(Reply::Forward(key)),
        Shared::Owner(owner) if is_question && !owner.gate.is_closed() => false,
        Shared::Owner(owner) => owner.waits && (owner.gate.is_stuck(cx.now.at) || is_alone()),
    };
    let outcome = Err(unavailable());
    is_closed.then_some(Reply::Now { seat: caller.seat, replaced: None, outcome })
}

/// Whether a command changes nothing and only reads the session.
pub(super) fn is_question(command: &SessionCommand) -> bool {
    matches!(
        command,
        SessionCommand::Sync { .. }
            | SessionCommand::GetSetlist
            | SessionCommand::GetSongs(_)
            | SessionCommand::GetSong(_)
    )
}

/// Creates the rejection of a command that no owner has answered.
pub fn unavailable() -> Reject {
    let message = "the session cannot be changed right now: try again in a second";
    Reject::new(Code::Unavailable, message)
}

/// An event of a member on another node, or its place in that node's order.
pub enum Hears {
    /// Carry it out now, in this room.
    Now(RoomKey),
    /// A former owner has carried it out, and its answer is not known.
    Repeated(RoomKey),
    /// Do nothing: an answer was sent, or this node does not own the session.
    No,
}

/// The outcome of a command that was forwarded.
pub struct Answered {
    /// The client that waits.
    pub reply: PendingReply,
    /// Whether the command was carried out.
    pub ok: bool,
    /// The text that the client receives.
    pub text: String,
}

/// The rooms, as far as other nodes are concerned.
pub struct Clustered<'r> {
    rooms: &'r mut Rooms,
}

impl<'r> Clustered<'r> {
    /// Looks at the rooms of a clustered shard.
    pub fn of(rooms: &'r mut Rooms) -> Self {
        Self { rooms }
    }

    /// Returns the room of a session.
    pub fn room_of(&self, session: &SessionId) -> Option<RoomKey> {
        self.rooms.names.get(session).copied()
    }

    /// Whether another node owns the session of this room.
    pub fn is_branch(&self, key: RoomKey) -> bool {
        self.rooms.rooms.get(key).is_some_and(is_branch)
    }

    /// Whether the acknowledgement of a call in this room must wait for the store.
    pub fn holds(&self, key: RoomKey, now: Micros) -> bool {
        self.rooms.rooms.get(key).is_some_and(|room| announce::holds(room, now))
    }

    /// Keeps an acknowledgement until the store has the decision. The command gets a number, which
    /// is stored with the decision: if both turn out to be void, the next owner receives it.
    pub fn hold(&mut self, key: RoomKey, mut answer: HeldAnswer) {
        let Some(own) = self.rooms.nodes.as_deref().map(|nodes| nodes.own) else { return };
        if let Some(owner) = owner_mut(self.rooms, key) {
            if let Some(command) = &mut answer.command {
                command.up = owner.up_of(own) + 1;
                owner.note_up(own, command.up);
            }
            owner.gate.answers.push(answer);
        }
    }

    /// Notes the nodes that live. Returns what need no longer wait, because this node is the only
    /// one.
    pub fn table(&mut self, revision: u64, peers: &[NodeId], cx: &mut Cx<'_>) -> Vec<Settled> {
        let Some(nodes) = self.rooms.nodes.as_deref_mut() else { return Vec::new() };
        let before = std::mem::take(&mut nodes.peers);
        for node in peers.iter().filter(|node| **node != nodes.own) {
            let known = before.get(&node.number).filter(|(known, _)| known == node);
            let heard = known.map_or(cx.now.at, |(_, heard)| *heard);
            nodes.peers.insert(node.number, (*node, heard));
        }
        let gone = before.values().map(|(node, _)| *node);
        let gone: Vec<NodeId> = gone.filter(|node| !nodes.peer(*node)).collect();
        for node in gone {
            self.gone(node, cx);
        }
        let settled = update_gates(self.rooms);
        cx.out.list.push(Output::Noted { revision });
        arm(self.rooms, cx);
        settled
    }

    /// Notes the standing in a range of buckets. Returns what need no longer wait.
    pub fn standing(
        &mut self,
        buckets: std::ops::RangeInclusive<u16>,
        standing: Standing,
        cx: &mut Cx<'_>,
    ) -> Vec<Settled> {
        let Some(nodes) = self.rooms.nodes.as_deref_mut() else { return Vec::new() };
        for bucket in buckets.clone().filter(|bucket| *bucket < nodes.buckets) {
            match standing {
                Standing::Alone => nodes.alone.insert(bucket),
                Standing::New | Standing::Full => nodes.alone.remove(&bucket),
            };
        }
        let settled = update_gates(self.rooms);
        if standing == Standing::New {
            self.assert_all(|session, count| buckets.contains(&session.bucket(count)), cx);
        }
        arm(self.rooms, cx);
        settled
    }

    /// Orders the newest decisions of the owned sessions that `is_one` selects again, because the
    /// store may have lost them, and decides nothing new there for half the life of a lease: if the
    /// store has lost a take-over, too, its node orders it again meanwhile.
    fn assert_all(&mut self, is_one: impl Fn(&SessionId, u16) -> bool, cx: &mut Cx<'_>) {
        let Some(nodes) = self.rooms.nodes.as_deref_mut() else { return };
        let until = cx.now.at + Micros::from_micros(nodes.lease_ttl.as_micros() / 2);
        let mut homes = Vec::new();
        for (key, room) in self.rooms.rooms.iter_mut() {
            let is_one = is_one(room.session.id(), nodes.buckets);
            let Some(Shared::Owner(owner)) = room.shared.as_deref_mut().filter(|_| is_one) else {
                continue;
            };
            owner.gate.hold(until);
            if std::mem::replace(&mut owner.gate.is_queued, true) {
                continue;
            }
            if owner.branches.is_empty() { homes.push(key) } else { nodes.queued.push_back(key) }
        }
        nodes.queued.extend(homes);
        self.assert_queued(cx);
    }

    /// Orders the newest decisions of sessions that are queued again, as many as fit into one turn.
    fn assert_queued(&mut self, cx: &mut Cx<'_>) {
        let Some(nodes) = self.rooms.nodes.as_deref_mut() else { return };
        for _ in 0..ASSERTED_MAX {
            let Some(key) = nodes.queued.pop_front() else { return };
            let Some(room) = self.rooms.rooms.get_mut(key) else { continue };
            if let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() {
                owner.gate.is_queued = false;
                announce::assert_again(room, key, cx);
            }
        }
    }

    /// Notes that the time has come to `cx.now`. If the last look is long overdue, the process was
    /// stopped, and another node may own its sessions by now. Their members receive nothing until
    /// the store has answered.
    pub fn wake(&mut self, cx: &mut Cx<'_>) {
        let now = cx.now.at;
        let Some(nodes) = self.rooms.nodes.as_deref_mut() else { return };
        let stopped = Micros::from_micros(nodes.lease_ttl.as_micros() / 2);
        let silence = nodes.silence();
        if nodes.timer.at().is_none_or(|at| at + stopped > now) {
            return;
        }
        nodes.timer.set(cx.wheel, Some(now), Timer::Nodes);
        // Nobody could be heard meanwhile.
        for (_, heard) in nodes.peers.values_mut() {
            *heard = now;
        }
        for (key, room) in self.rooms.rooms.iter_mut() {
            let is_begun = room.session.version() != 0;
            if let Some(Shared::Owner(owner)) = room.shared.as_deref_mut()
                && owner.waits
                && is_begun
            {
                owner.gate.unproven = Some(now + silence);
                if !std::mem::replace(&mut owner.gate.is_queued, true) {
                    nodes.queued.push_back(key);
                }
            }
        }
        self.assert_queued(cx);
    }

    /// Removes the members of a node that is gone.
    pub fn gone(&mut self, node: NodeId, cx: &mut Cx<'_>) {
        let keys: Vec<RoomKey> = self.rooms.rooms.iter().map(|(key, _)| key).collect();
        if let Some((_, heard)) =
            self.rooms.nodes.as_deref_mut().and_then(|nodes| {
                nodes.peers.get_mut(&node.number).filter(|(known, _)| *known == node)
            })
        {
            *heard = Micros::ZERO;
        }
        for key in keys {
            let Some(room) = self.rooms.rooms.get_mut(key) else { continue };
            match room.shared.as_deref_mut() {
                Some(Shared::Owner(owner)) => {
                    let is_its = owner.branches.get(&node.number).is_some_and(|b| b.node == node);
                    let Some(branch) =
                        is_its.then(|| owner.branches.remove(&node.number)).flatten()
                    else {
                        continue;
                    };
                    for lost in branch.members {
                        lose(self.rooms, key, lost.member, cx);
                    }
                }
                Some(Shared::Branch(branch)) if branch.owner == node => branch.since = Micros::ZERO,
                _ => {}
            }
        }
    }

    /// Opens a session that this node owns from now on in `epoch`.
    ///
    /// # Errors
    /// `session_full` if the shard is full.
    pub fn open_owned(
        &mut self,
        session: &SessionId,
        stored: Option<(Record, &[u8])>,
        (epoch, is_damaged): (u64, bool),
        cx: &mut Cx<'_>,
    ) -> Result<RoomKey, Reject> {
        let restored = (stored.is_some() || is_damaged).then_some(!is_damaged);
        let (record, notes) = stored.unzip();
        let key = self.rooms.open(session, record, restored, cx)?;
        let Some(room) = self.rooms.rooms.get_mut(key) else { return Err(unavailable()) };
        room.session.begin_owned(epoch, cx.now);
        let mut owner = Owner::default();
        owner.read_notes(notes.unwrap_or_default());
        share(self.rooms, key, Shared::Owner(owner), cx);
        Ok(key)
    }

    /// Opens a branch of a session that another node owns.
    ///
    /// # Errors
    /// `session_full` if the shard is full.
    pub fn open_branch(
        &mut self,
        session: &SessionId,
        (owner, epoch): (NodeId, u64),
        record: Option<Record>,
        cx: &mut Cx<'_>,
    ) -> Result<RoomKey, Reject> {
        let key = self.rooms.open(session, None, None, cx)?;
        let Some(room) = self.rooms.rooms.get_mut(key) else { return Err(unavailable()) };
        if let Some(record) = record {
            room.session = Session::copy_of(record, &self.rooms.rules, cx.now);
        }
        share(self.rooms, key, Shared::Branch(Branch::new(owner, epoch, cx.now.at)), cx);
        Ok(key)
    }

    /// Handles the result of a commit. Returns what clients and members may learn now, or the
    /// acknowledgements that become rejections.
    pub fn committed(
        &mut self,
        session: &SessionId,
        which: (u64, u64),
        outcome: &CommitOutcome,
        cx: &mut Cx<'_>,
    ) -> (Option<Settled>, Vec<HeldAnswer>) {
        let Some(key) = self.room_of(session) else { return (None, Vec::new()) };
        let Some(room) = self.rooms.rooms.get_mut(key) else { return (None, Vec::new()) };
        let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else {
            return (None, Vec::new());
        };
        if let CommitOutcome::Lost { epoch: newest, owner } = outcome {
            let is_current = room.session.epoch() == which.0;
            let is_lost = is_current && *newest >= which.0;
            let rejected = match is_lost {
                true => self.step_down(key, *owner, *newest, cx),
                false => Vec::new(),
            };
            return (None, rejected);
        }
        let gate = &mut owner.gate;
        if !gate.is_answered(which) {
            return (None, Vec::new());
        }
        if !matches!(outcome, CommitOutcome::Done { .. }) {
            gate.postpone(cx.now.at);
            arm(self.rooms, cx);
            return (None, Vec::new());
        }
        gate.unproven = None;
        if cx.now.at < gate.hold_until {
            gate.again_after_hold();
            arm(self.rooms, cx);
            return (None, Vec::new());
        }
        (announce::stored(room, key), Vec::new())
    }

    /// Sends the packets of a decision that is stored, after its acknowledgements.
    pub fn release(&mut self, settled: Settled, cx: &mut Cx<'_>) {
        if let Some(room) = self.rooms.rooms.get_mut(settled.key) {
            announce::release(room, settled, cx);
        }
    }

    /// Notes a sign of life of a node. Returns false if the table does not name it.
    pub fn note_life(&mut self, from: NodeId, now: Micros) -> bool {
        let Some(nodes) = self.rooms.nodes.as_deref_mut() else { return false };
        match nodes.peers.get_mut(&from.number).filter(|(peer, _)| *peer == from) {
            Some((_, heard)) => {
                *heard = now;
                true
            }
            None => false,
        }
    }

    /// Checks the place of a command of another node. One that was handled before is answered
    /// again; if others are missing, they are asked for.
    pub fn hears(
        &mut self,
        from: NodeId,
        session: &SessionId,
        (up, member, is_join): (u64, MemberId, bool),
        cx: &mut Cx<'_>,
    ) -> Hears {
        let Some(key) = self.room_of(session) else { return Hears::No };
        let Some(room) = self.rooms.rooms.get_mut(key) else { return Hears::No };
        let epoch = room.session.epoch();
        let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return Hears::No };
        if !is_join && owner.must_call(from, member, cx.now.at) {
            // Its members were given up. It names them, and then sends the command again.
            call(from, (session, epoch), cx);
            return Hears::No;
        }
        owner.branch(from);
        match owner.turn(from, up) {
            Turn::Next => {
                owner.note_up(from, up);
                return Hears::Now(key);
            }
            // The answer is sent with the decision.
            Turn::Repeated if owner.waits && owner.gate.is_closed() => {}
            Turn::Repeated => match owner.kept_outcome(from.number, up) {
                Some(kept) => send_answer(session, epoch, &kept, cx),
                None if is_join => return Hears::Now(key),
                None => return Hears::Repeated(key),
            },
            Turn::Early(after) => {
                let missing = Missing { session: session.clone(), epoch, after };
                send(session, &[from.number], &Message::Missing(missing), cx);
            }
        }
        Hears::No
    }

    /// Queues the outcome of a command of another node: with the decision that it made, or alone.
    pub fn answer_node(
        &mut self,
        key: RoomKey,
        from: NodeId,
        up: u64,
        (ok, text): (bool, String),
        cx: &mut Cx<'_>,
    ) {
        let Some(room) = self.rooms.rooms.get_mut(key) else { return };
        let waits = announce::holds(room, cx.now.at);
        let (session, epoch) = (room.session.id().clone(), room.session.epoch());
        let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return };
        let outcome = OwnedOutcome { node: from.number, up, ok, text };
        if waits {
            return owner.outcomes.push(outcome);
        }
        send_answer(&session, epoch, &outcome, cx);
        owner.keep_outcome(outcome);
    }

    /// Returns the seat of a member of another node in this room.
    pub fn seat_of(&self, key: RoomKey, member: MemberId) -> Option<SeatHandle> {
        let room = self.rooms.rooms.get(key)?;
        let Some(Shared::Owner(owner)) = room.shared.as_deref() else { return None };
        owner.node_of(member).map(|_| SeatHandle { room: key, index: 0 })
    }

    /// Handles the members that a branch names.
    pub fn attach(&mut self, from: NodeId, attach: Attach, cx: &mut Cx<'_>) {
        let Some(key) = self.room_of(&attach.session) else { return };
        let Some(room) = self.rooms.rooms.get_mut(key) else { return };
        let was_empty = room.empty_since().is_some();
        let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return };
        owner.note_up(from, attach.up);
        let branch = owner.branch(from);
        branch.needs_state = true;
        branch.members.retain(|one| !one.is_screen);
        for member in attach.screens.into_iter().take(SCREENS_MAX as usize) {
            branch.members.push(RemoteMember { member, is_screen: true });
        }
        let named: Vec<MemberId> = attach.members.iter().map(|one| one.member.id).collect();
        let kept = branch.members.iter().filter(|one| !one.is_screen).map(|one| one.member);
        let lost: Vec<MemberId> = kept.filter(|member| !named.contains(member)).collect();
        let mut changed = false;
        for present in attach.members {
            let id = present.member.id;
            changed |= room.session.report_seat(seat_from(present), cx.now);
            let is_in = room.session.members().any(|member| member.id == id);
            if is_in && let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() {
                owner.seat(from, id, false);
            }
        }
        room.note_empty(cx.now.at);
        let is_empty = room.empty_since().is_some();
        cx.report.counters.sessions_empty -= u32::from(was_empty && !is_empty);
        for member in lost {
            lose(self.rooms, key, member, cx);
        }
        if changed {
            let effects = [Effect::Snapshot(Audience::All), Effect::RoomStats];
            self.rooms.effects.extend(effects);
        }
        self.rooms.settle_room(key, cx);
    }

    /// Handles a request of another node for messages that it missed.
    pub fn missing(&mut self, from: NodeId, missing: &Missing, cx: &mut Cx<'_>) {
        let Some(key) = self.room_of(&missing.session) else { return };
        let Some(room) = self.rooms.rooms.get_mut(key) else { return };
        let epoch = room.session.epoch();
        match room.shared.as_deref_mut() {
            Some(Shared::Owner(owner)) => {
                owner.branch(from);
                let mut is_kept = false;
                if epoch == missing.epoch
                    && let Some(bulletins) = owner.bulletins_after(missing.after)
                {
                    is_kept = true;
                    for bulletin in bulletins {
                        send_bytes(&missing.session, &[from.number], bulletin, cx);
                    }
                }
                owner.branch(from).needs_state |= !is_kept;
                self.rooms.settle_room(key, cx);
            }
            Some(Shared::Branch(branch)) if branch.owner == from => {
                for pending in branch.pending.iter().filter(|one| one.up > missing.after) {
                    send_bytes(&missing.session, &[from.number], &pending.body, cx);
                    cx.report.counters.nodes.resends += 1;
                }
            }
            _ => {}
        }
    }

    /// Reads a bulletin: takes over the record, and returns the outcomes of commands of this node
    /// with the room in which [`show`](Self::show) is due. `None` if the bulletin is not the next
    /// one.
    pub fn read_bulletin(
        &mut self,
        from: NodeId,
        bulletin: &Bulletin<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<(RoomKey, Vec<Answered>)> {
        let key = self.meet(from, &bulletin.session, bulletin.epoch, cx)?;
        let own = self.rooms.nodes.as_deref()?.own;
        let room = self.rooms.rooms.get_mut(key)?;
        let is_unused = room.occupants() == 0;
        let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() else { return None };
        let is_next = match branch.seq {
            Some(seq) if bulletin.seq <= seq => return None,
            Some(seq) if bulletin.seq == seq + 1 => true,
            // Without members here, nobody misses the packets of earlier bulletins.
            Some(_) if is_unused => !bulletin.record.is_empty(),
            Some(_) => false,
            None => !bulletin.record.is_empty(),
        };
        if !is_next {
            cx.report.counters.nodes.gaps += 1;
            if branch.may_ask(cx.now.at) {
                let missing = Missing {
                    session: bulletin.session.clone(),
                    epoch: branch.epoch,
                    after: branch.seq.unwrap_or(0),
                };
                send(&bulletin.session, &[from.number], &Message::Missing(missing), cx);
            }
            return None;
        }
        if !bulletin.record.is_empty() {
            let record = Record::parse(bulletin.record).ok();
            let record = record.filter(|record| record.session == bulletin.session)?;
            copy(room, record, cx);
        }
        let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() else { return None };
        branch.seq = Some(bulletin.seq);
        branch.since = cx.now.at;
        branch.heard.clone_from(&bulletin.heard);
        let own_up = up_in(&bulletin.heard, own);
        let answered = answers_of(branch, own, &bulletin.outcomes);
        branch.trim(own_up);
        let must_report = !branch.lost.is_empty() && branch.may_ask(cx.now.at);
        if must_report {
            report_members(self.rooms, key, cx);
        }
        Some((key, answered))
    }

    /// Sends a bulletin's packets to the members that are connected here.
    pub fn show(&mut self, key: RoomKey, bulletin: &Bulletin<'_>, cx: &mut Cx<'_>) {
        let Some(room) = self.rooms.rooms.get_mut(key) else { return };
        for packet in &bulletin.packets {
            let audience = match packet.to {
                Hearers::All => Audience::All,
                Hearers::Others(member) => Audience::Others(member),
                Hearers::One(member) => Audience::One(member),
            };
            let place = match packet.place {
                PacketPlace::Nowhere => Place::Nowhere,
                PacketPlace::Newest => Place::Newest,
                PacketPlace::Next => Place::Next(None),
            };
            let packet = packet.text.as_bytes().to_vec();
            room.deliver(key, Told { audience, place, packet }, cx);
        }
        room.arm(key, cx);
    }

    /// Reads an owner's answer. Returns the outcome if its client still waits.
    pub fn read_answer(
        &mut self,
        from: NodeId,
        (session, epoch): (&SessionId, u64),
        outcome: &Outcome<'_>,
        cx: &mut Cx<'_>,
    ) -> Option<(RoomKey, Answered)> {
        let key = self.meet(from, session, epoch, cx)?;
        let own = self.rooms.nodes.as_deref()?.own;
        let room = self.rooms.rooms.get_mut(key)?;
        let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() else { return None };
        let answered = answers_of(branch, own, std::slice::from_ref(outcome)).pop()?;
        Some((key, answered))
    }

    /// Takes over the whole state of a session, and shows it to the members that are connected
    /// here.
    pub fn read_state(&mut self, from: NodeId, state: &State<'_>, cx: &mut Cx<'_>) {
        let Some(key) = self.meet(from, &state.session, state.epoch, cx) else { return };
        let own = self.rooms.nodes.as_deref().map(|nodes| nodes.own);
        let Some(room) = self.rooms.rooms.get_mut(key) else { return };
        let known = (room.session.epoch(), room.session.version());
        let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() else { return };
        if branch.seq.is_some_and(|seq| seq >= state.seq) {
            return;
        }
        let record = Record::parse(state.record).ok();
        let Some(record) = record.filter(|record| record.session == state.session) else { return };
        let newest = (record.timeline.epoch, record.timeline.version);
        branch.seq = Some(state.seq);
        branch.since = cx.now.at;
        branch.heard.clone_from(&state.heard);
        branch.trim(own.map_or(0, |own| up_in(&state.heard, own)));
        if newest < known && newest.0 == known.0 {
            return;
        }
        copy(room, record, cx);
        let packet = state.snapshot.as_bytes().to_vec();
        room.deliver(key, Told { audience: Audience::All, place: Place::Newest, packet }, cx);
        room.arm(key, cx);
        let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() else { return };
        let must_report = !branch.lost.is_empty() && branch.may_ask(cx.now.at);
        if must_report {
            report_members(self.rooms, key, cx);
        }
    }

    /// Compares a pulse with what is known, and asks for what is missing. Returns the
    /// acknowledgements of sessions that another node owns now.
    pub fn read_pulse(&mut self, from: NodeId, pulse: &Pulse, cx: &mut Cx<'_>) -> Vec<HeldAnswer> {
        let mut rejected = Vec::new();
        for tag in &pulse.branches {
            call_unknown(self.rooms, from, *tag, cx);
        }
        for (tag, epoch, seq) in &pulse.sessions {
            let known = self.rooms.nodes.as_deref().and_then(|nodes| nodes.tags.get(tag)).copied();
            let Some(key) = known else { continue };
            let Some(room) = self.rooms.rooms.get(key) else { continue };
            let session = room.session.id().clone();
            rejected.append(&mut self.yield_to(from, key, *epoch, cx));
            if self.meet(from, &session, *epoch, cx).is_none() {
                continue;
            }
            let Some(room) = self.rooms.rooms.get_mut(key) else { continue };
            let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() else { continue };
            branch.since = cx.now.at;
            if branch.seq.is_none_or(|known| known < *seq) && branch.may_ask(cx.now.at) {
                let (epoch, after) = (branch.epoch, branch.seq.unwrap_or(0));
                let missing = Missing { session: session.clone(), epoch, after };
                send(&session, &[from.number], &Message::Missing(missing), cx);
            }
        }
        rejected
    }

    /// Names the members that are connected here to a node that has taken sessions over. Returns
    /// the acknowledgements of sessions that this node owned.
    pub fn read_roll_call(
        &mut self,
        from: NodeId,
        call: &RollCall,
        cx: &mut Cx<'_>,
    ) -> Vec<HeldAnswer> {
        let mut rejected = Vec::new();
        for (session, epoch) in &call.sessions {
            if let Some(key) = self.room_of(session) {
                rejected.append(&mut self.yield_to(from, key, *epoch, cx));
                let known = branch_mut(self.rooms, key).map(|branch| branch.epoch);
                if self.meet(from, session, *epoch, cx).is_some() && known == Some(*epoch) {
                    report_members(self.rooms, key, cx);
                }
            }
        }
        rejected
    }

    /// Steps down if another node owns a session in a higher epoch.
    pub fn yield_to(
        &mut self,
        from: NodeId,
        key: RoomKey,
        epoch: u64,
        cx: &mut Cx<'_>,
    ) -> Vec<HeldAnswer> {
        let is_older = self.rooms.rooms.get(key).is_some_and(|room| {
            matches!(room.shared.as_deref(), Some(Shared::Owner(_))) && room.session.epoch() < epoch
        });
        if is_older { self.step_down(key, Some(from), epoch, cx) } else { Vec::new() }
    }

    /// Forwards a command to the owner.
    ///
    /// # Errors
    /// The reject for the client if too many commands are under way.
    pub fn forward(
        &mut self,
        key: RoomKey,
        caller: &Caller,
        reply: PendingReply,
        cx: &mut Cx<'_>,
    ) -> Result<(), Reject> {
        let Some(room) = self.rooms.rooms.get_mut(key) else { return Err(unavailable()) };
        let session = room.session.id().clone();
        let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() else {
            return Err(unavailable());
        };
        if !branch.has_room(reply.payload.len()) {
            cx.report.counters.nodes.unavailable += 1;
            return Err(unavailable());
        }
        let body = say(&session, branch.up + 1, caller.peer, &reply);
        branch.note_sent(body.clone(), Some(reply), cx.now.at);
        let owner = branch.owner.number;
        send_bytes(&session, &[owner], &body, cx);
        cx.report.counters.nodes.forwards += 1;
        arm(self.rooms, cx);
        Ok(())
    }

    /// Removes a member that is connected here from a branch, and tells the owner.
    pub fn part(&mut self, key: RoomKey, member: MemberId, reason: LeaveReason, cx: &mut Cx<'_>) {
        let Some(room) = self.rooms.rooms.get_mut(key) else { return };
        let (before, was_empty) = (room.seated(), room.empty_since().is_some());
        room.unseat(member, cx.now.at);
        cx.report.counters.members -= (before - room.seated()) as u32;
        let is_empty = room.occupants() == 0;
        cx.report.counters.sessions_empty += u32::from(is_empty && !was_empty);
        let session = room.session.id().clone();
        if let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() {
            let up = branch.up + 1;
            let reason = Part::index_of(reason);
            let mut body = Vec::new();
            Message::Part(Part { session: session.clone(), up, member, reason }).write(&mut body);
            branch.note_sent(body.clone(), None, cx.now.at);
            send_bytes(&session, &[branch.owner.number], &body, cx);
        }
        room.arm(key, cx);
        arm(self.rooms, cx);
    }

    /// Seats a member whose join the owner has accepted.
    pub fn seat_here(&mut self, key: RoomKey, caller: &Caller, join: &Join, cx: &mut Cx<'_>) {
        let Some(room) = self.rooms.rooms.get_mut(key) else { return };
        let (before, was_empty) = (room.seated(), room.empty_since().is_some());
        match join.view {
            View::Member => {
                room.seat(caller.member, caller.way, join.tick_hz, join.metronome, cx.settings);
            }
            // The owner sends the snapshot.
            View::Screen => {
                let (screen, mut effects) = (caller.member, Vec::new());
                room.seat_screen(screen, caller.way, join, cx.settings, &mut effects);
            }
        }
        cx.report.counters.members += (room.seated() - before) as u32;
        cx.report.counters.sessions_empty -= u32::from(was_empty && room.empty_since().is_none());
        room.arm(key, cx);
    }

    /// Returns the connection of a member of a branch, which loses its seat here.
    pub fn evicted(
        &mut self,
        session: &SessionId,
        member: MemberId,
        cx: &mut Cx<'_>,
    ) -> Option<ConnId> {
        let key = self.room_of(session).filter(|key| self.is_branch(*key))?;
        let room = self.rooms.rooms.get_mut(key)?;
        let conn = room.conn_of(member)?;
        let (before, was_empty) = (room.seated(), room.empty_since().is_some());
        room.unseat(member, cx.now.at);
        cx.report.counters.members -= (before - room.seated()) as u32;
        cx.report.counters.sessions_empty += u32::from(room.occupants() == 0 && !was_empty);
        room.arm(key, cx);
        Some(conn)
    }

    /// Moves what a client waits for to its new id.
    pub fn relocate(&mut self, from: ConnId, to: ConnId) {
        if self.rooms.nodes.is_none() {
            return;
        }
        for (_, room) in self.rooms.rooms.iter_mut() {
            match room.shared.as_deref_mut() {
                Some(Shared::Owner(owner)) => owner.gate.relocate(from, to),
                Some(Shared::Branch(branch)) => branch.relocate(from, to),
                None => {}
            }
        }
    }

    /// Returns the branch that waits for the answer to a claim of this session.
    pub fn claims(&self, session: &SessionId) -> Option<RoomKey> {
        let key = self.room_of(session)?;
        match self.rooms.rooms.get(key)?.shared.as_deref()? {
            Shared::Branch(branch) if branch.claims => Some(key),
            _ => None,
        }
    }

    /// Notes that a claim was not decided. It is repeated.
    pub fn claim_failed(&mut self, key: RoomKey) {
        if let Some(branch) = branch_mut(self.rooms, key) {
            branch.claims = false;
        }
    }

    /// Follows the owner that the store has named.
    pub fn claimed_by(&mut self, key: RoomKey, owner: NodeId, epoch: u64, cx: &mut Cx<'_>) {
        if let Some(branch) = branch_mut(self.rooms, key) {
            branch.claims = false;
            if branch.owner == owner && branch.epoch == epoch {
                return;
            }
            branch.follow(owner, epoch, cx.now.at);
            report_members(self.rooms, key, cx);
        }
    }

    /// Gives all sessions up, because the node ends: stores each, leaves it without an owner, and
    /// names the next one: the leader's node, or another that has members.
    pub fn drain(&mut self, cx: &mut Cx<'_>) {
        let Some(nodes) = self.rooms.nodes.as_deref_mut() else { return };
        nodes.draining = true;
        for (key, room) in self.rooms.rooms.iter_mut() {
            let (session, epoch) = (room.session.id().clone(), room.session.epoch());
            let leader = room.session.state().timeline.leader;
            announce::store_last(room, key, cx);
            let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { continue };
            let next = leader.and_then(|leader| owner.node_of(leader)).map(|node| node.number);
            let to = owner.audience();
            cx.out.list.push(Output::Release { session: session.clone(), epoch });
            if let Some(next) = next.or(to.first().copied()) {
                let moved = Moved { session: session.clone(), epoch, to: next };
                send(&session, &to, &Message::Moved(moved), cx);
            }
        }
    }

    /// Whether the node gives all sessions up.
    pub fn is_draining(&self) -> bool {
        self.rooms.nodes.as_deref().is_some_and(|nodes| nodes.draining)
    }

    /// Claims a session that its owner has given up, if this node is to be the next one.
    pub fn moved(&mut self, from: NodeId, moved: &Moved, cx: &mut Cx<'_>) {
        let Some(own) = self.rooms.nodes.as_deref().map(|nodes| nodes.own) else { return };
        let Some(key) = self.meet(from, &moved.session, moved.epoch, cx) else { return };
        let Some(branch) = branch_mut(self.rooms, key).filter(|branch| !branch.claims) else {
            return;
        };
        if moved.to == own.number {
            branch.note_claim(cx.now.at);
            let (session, expected, floor) = (moved.session.clone(), Some(from), branch.epoch);
            cx.out.list.push(Output::Claim { session, expected, floor });
        } else {
            branch.since = cx.now.at;
        }
    }

    /// Becomes the owner of a session whose branch this node has. Returns the commands that its
    /// members wait for, with whether each was handled by the former owner.
    pub fn take_over(
        &mut self,
        key: RoomKey,
        epoch: u64,
        stored: Option<&Stored>,
        cx: &mut Cx<'_>,
    ) -> Vec<(PendingReply, bool)> {
        let Some(own) = self.rooms.nodes.as_deref().map(|nodes| nodes.own) else {
            return Vec::new();
        };
        let Some(room) = self.rooms.rooms.get_mut(key) else { return Vec::new() };
        let record = stored.and_then(|stored| Record::parse(&stored.record).ok());
        let known = (room.session.epoch(), room.session.version());
        let is_newer = |record: &Record| {
            record.session == *room.session.id()
                && (known.1 == 0 || (record.timeline.epoch, record.timeline.version) > known)
        };
        if let Some(record) = record.filter(is_newer) {
            room.session.copy(record, cx.now);
        }
        let mut owner = Owner::default();
        owner.read_notes(stored.map_or(&[][..], |stored| &stored.branches));
        let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() else { return Vec::new() };
        owner.note_heard(&branch.heard);
        let handled = owner.up_of(own);
        // Numbers of this branch are not used again for commands of the owner.
        owner.note_up(own, branch.up);
        let pending = std::mem::take(&mut branch.pending).into_iter();
        let pending =
            pending.filter_map(|one| one.reply.map(|reply| (reply, one.up <= handled))).collect();
        let lost = std::mem::take(&mut branch.lost);
        let here: Vec<MemberId> = room.seated_here().map(|(member, _)| member).collect();
        for seat in lost.into_iter().filter(|seat| here.contains(&seat.member.id)) {
            room.session.report_seat(seat, cx.now);
        }
        let others = room.session.members().filter(|member| member.connected);
        let unheard = others.map(|member| member.id).filter(|member| !here.contains(member));
        owner.unheard = Some((cx.now.at + ROLL_CALL, unheard.collect()));
        count(cx, room.shared.as_deref(), false);
        let session = room.session.id().clone();
        if room.session.version() == 0 {
            room.session.begin_owned(epoch, cx.now);
        } else {
            room.session.take_charge(epoch, cx.now, &mut self.rooms.effects);
        }
        share(self.rooms, key, Shared::Owner(owner), cx);
        cx.report.counters.nodes.takeovers += 1;
        let call = RollCall { sessions: vec![(session, epoch)] };
        announce_to_all(self.rooms, &Message::RollCall(call), cx);
        self.rooms.settle_room(key, cx);
        arm(self.rooms, cx);
        pending
    }

    /// Does what is due: repeats messages and orders, claims sessions of silent owners, sends
    /// pulses. Returns the commands that were given up.
    pub fn look(&mut self, cx: &mut Cx<'_>) -> (Vec<PendingReply>, Vec<HeldAnswer>) {
        let (mut given_up, mut stuck) = (Vec::new(), Vec::new());
        if let Some(nodes) = self.rooms.nodes.as_deref_mut() {
            nodes.timer.fired();
            if nodes.draining {
                return (given_up, stuck);
            }
        }
        let keys: Vec<RoomKey> = self.rooms.rooms.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(room) = self.rooms.rooms.get_mut(key) else { continue };
            match room.shared.as_deref_mut() {
                Some(Shared::Owner(_)) => self.look_at_owned(key, &mut stuck, cx),
                Some(Shared::Branch(_)) => self.look_at_branch(key, &mut given_up, cx),
                None => {}
            }
        }
        self.assert_queued(cx);
        pulse(self.rooms, cx);
        arm(self.rooms, cx);
        (given_up, stuck)
    }

    /// Repeats a commit, rejects what has waited too long, and ends a roll call.
    fn look_at_owned(&mut self, key: RoomKey, stuck: &mut Vec<HeldAnswer>, cx: &mut Cx<'_>) {
        let now = cx.now.at;
        let Some(room) = self.rooms.rooms.get_mut(key) else { return };
        let session = room.session.id().clone();
        let is_alone = self.rooms.nodes.as_deref().is_some_and(|nodes| nodes.is_alone(&session));
        let Some(Shared::Owner(owner)) = room.shared.as_deref_mut() else { return };
        // The music goes on although the store does not answer.
        owner.gate.unproven.take_if(|until| *until <= now);
        if owner.gate.is_due(now) {
            owner.gate.order(&session, cx.out);
        }
        if owner.waits && (owner.gate.is_stuck(now) || is_alone) {
            let answers = owner.gate.take_answers();
            cx.report.counters.nodes.unavailable += answers.len() as u64;
            stuck.extend(answers);
        }
        let Some((_, lost)) = owner.unheard.take_if(|(until, _)| *until <= now) else { return };
        for member in lost {
            lose(self.rooms, key, member, cx);
        }
    }

    /// Sends messages again, and claims the session if its owner is silent.
    fn look_at_branch(&mut self, key: RoomKey, given_up: &mut Vec<PendingReply>, cx: &mut Cx<'_>) {
        let now = cx.now.at;
        let Some(nodes) = self.rooms.nodes.as_deref() else { return };
        let own = nodes.own.number;
        let Some(room) = self.rooms.rooms.get_mut(key) else { return };
        let session = room.session.id().clone();
        let leader = room.session.state().timeline.leader;
        let leads = leader.is_some_and(|leader| room.conn_of(leader).is_some());
        let is_used = room.occupants() > 0;
        let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() else { return };
        // The music goes on although no owner answers.
        branch.mute.take_if(|until| *until <= now);
        let is_alone = nodes.is_alone(&session);
        let void = |up: u64, reply: &PendingReply| {
            let nothing = PendingReply { event: "", ack: None, payload: String::new(), ..*reply };
            say(&session, up, IpAddr::V4(Ipv4Addr::UNSPECIFIED), &nothing)
        };
        while let Some(reply) = branch.next_given_up((now, is_alone), void) {
            cx.report.counters.nodes.unavailable += 1;
            given_up.push(reply);
        }
        let owner = branch.owner;
        for body in branch.due(now) {
            cx.report.counters.nodes.resends += 1;
            send_bytes(&session, &[owner.number], &body, cx);
        }
        if branch.claims || !is_used && branch.pending.is_empty() || now < branch.claim_at {
            return;
        }
        let heard = nodes.peers.get(&owner.number).filter(|(peer, _)| *peer == owner);
        let heard = heard.map_or(Micros::ZERO, |(_, heard)| *heard);
        let lasts = Micros::from_micros(nodes.lease_ttl.as_micros() * 3 / 4);
        let rank = if leads { 0 } else { 1 + u64::from(own % 8) };
        let delay = Micros::from_micros(CLAIM_STEP.as_micros() * rank);
        if heard.max(branch.since) + lasts + delay <= now {
            branch.note_claim(now);
            let (expected, floor) = (Some(owner), branch.epoch);
            cx.out.list.push(Output::Claim { session, expected, floor });
        }
    }

    /// Follows the owner of a message if its epoch is higher than the one known. Returns the room
    /// if this node has a branch in that epoch.
    fn meet(
        &mut self,
        from: NodeId,
        session: &SessionId,
        epoch: u64,
        cx: &mut Cx<'_>,
    ) -> Option<RoomKey> {
        let key = self.room_of(session)?;
        let branch = branch_mut(self.rooms, key)?;
        if epoch < branch.epoch || epoch == branch.epoch && branch.owner != from {
            return None;
        }
        if epoch > branch.epoch {
            branch.follow(from, epoch, cx.now.at);
            report_members(self.rooms, key, cx);
        }
        Some(key)
    }

    /// Becomes a branch of the node that owns the session now. What was decided and not stored is
    /// void. Returns the acknowledgements that become rejections.
    fn step_down(
        &mut self,
        key: RoomKey,
        owner: Option<NodeId>,
        epoch: u64,
        cx: &mut Cx<'_>,
    ) -> Vec<HeldAnswer> {
        let Some(nodes) = self.rooms.nodes.as_deref() else { return Vec::new() };
        let (own, silence) = (nodes.own, nodes.silence());
        let Some(room) = self.rooms.rooms.get_mut(key) else { return Vec::new() };
        room.drop_batch(cx);
        let session = room.session.id().clone();
        let Some(Shared::Owner(old)) = room.shared.as_deref_mut() else { return Vec::new() };
        let (answers, last_up) = (old.gate.take_answers(), old.up_of(own));
        let timeline = old.gate.timeline.take().filter(|_| old.waits);
        count(cx, room.shared.as_deref(), false);
        if let Some(timeline) = timeline {
            room.session.revert_to(*timeline, cx.now.at);
        }
        cx.report.counters.nodes.step_downs += 1;
        // Without an owner in the store the session is claimed at once.
        let nobody = NodeId { number: 0, incarnation: 0 };
        let mut branch = Branch::new(owner.unwrap_or(nobody), epoch, cx.now.at);
        branch.mute = Some(cx.now.at + silence);
        let rejected = keep_commands(&mut branch, answers, &session, cx);
        branch.up = branch.up.max(last_up);
        if owner.is_none() {
            branch.note_claim(cx.now.at);
            let claim = Output::Claim { session, expected: None, floor: epoch };
            cx.out.list.push(claim);
        }
        share(self.rooms, key, Shared::Branch(branch), cx);
        if owner.is_some() {
            report_members(self.rooms, key, cx);
        }
        rejected
    }
}

/// Asks a node for its members of a session that this node owns, if it has named none.
fn call_unknown(rooms: &Rooms, from: NodeId, tag: u64, cx: &mut Cx<'_>) {
    let known = rooms.nodes.as_deref().and_then(|nodes| nodes.tags.get(&tag));
    let Some(room) = known.and_then(|key| rooms.rooms.get(*key)) else { return };
    let Some(Shared::Owner(owner)) = room.shared.as_deref() else { return };
    if owner.branches.get(&from.number).is_none_or(|branch| branch.node != from) {
        call(from, (room.session.id(), room.session.epoch()), cx);
    }
}

/// Names the members that are connected here to the owner, and sends it what it has not
/// handled.
fn report_members(rooms: &mut Rooms, key: RoomKey, cx: &mut Cx<'_>) {
    let Some(room) = rooms.rooms.get(key) else { return };
    let session = room.session.id().clone();
    let here = |screens: bool| {
        let here = room.seated_here().filter(move |(_, is_screen)| *is_screen == screens);
        here.map(|(member, _)| member)
    };
    let Some(Shared::Branch(branch)) = room.shared.as_deref() else { return };
    let known = |seat: &&Seat| room.session.members().any(|one| one.id == seat.member.id);
    let lost = branch.lost.iter().filter(|seat| !known(seat));
    let members = room.session.seats_of(here(false)).chain(lost).map(present_of).collect();
    let screens = here(true).collect();
    let (epoch, up) = (branch.epoch, branch.base());
    let to = [branch.owner.number];
    let attach = Attach { session: session.clone(), epoch, up, members, screens };
    send(&session, &to, &Message::Attach(attach), cx);
    for pending in &branch.pending {
        send_bytes(&session, &to, &pending.body, cx);
    }
    arm(rooms, cx);
}

/// Sets a room's part in the cluster.
fn share(rooms: &mut Rooms, key: RoomKey, shared: Shared, cx: &mut Cx<'_>) {
    let Some(room) = rooms.rooms.get_mut(key) else { return };
    let Some(nodes) = rooms.nodes.as_deref_mut() else { return };
    count(cx, Some(&shared), true);
    let (was_empty, now) = (room.empty_since().is_some(), cx.now.at);
    room.shared = Some(Box::new(shared));
    room.note_empty(now);
    let is_empty = room.empty_since().is_some();
    let empty = &mut cx.report.counters.sessions_empty;
    *empty = *empty + u32::from(is_empty) - u32::from(was_empty);
    nodes.tags.insert(room.session.id().tag(), key);
    let waits = nodes.must_wait(room);
    // A gate that closes holds nothing back yet.
    drop(announce::set_waits(room, key, waits));
    arm(rooms, cx);
}

/// Sends a sign of life to each node that shares sessions, with the newest bulletins.
fn pulse(rooms: &mut Rooms, cx: &mut Cx<'_>) {
    let now = cx.now.at;
    let Some(nodes) = rooms.nodes.as_deref_mut() else { return };
    if now < nodes.pulse_at {
        return;
    }
    nodes.pulse_at = now + PULSE_INTERVAL;
    let all = now >= nodes.full_pulse_at;
    if all {
        nodes.full_pulse_at = now + FULL_PULSE_INTERVAL;
    }
    let names_branches = now >= nodes.branches_at;
    if names_branches {
        nodes.branches_at = now + BRANCHES_INTERVAL;
    }
    let mut news: BTreeMap<u16, Pulse> = BTreeMap::new();
    for (_, room) in rooms.rooms.iter() {
        let tag = room.session.id().tag();
        match room.shared.as_deref() {
            Some(Shared::Owner(owner)) => {
                let is_new = nodes.pulsed.get(&tag) != Some(&owner.seq);
                for number in owner.branches.keys() {
                    let pulse = news.entry(*number).or_default();
                    if all || is_new {
                        pulse.sessions.push((tag, room.session.epoch(), owner.seq));
                    }
                }
                if is_new {
                    nodes.pulsed.insert(tag, owner.seq);
                }
            }
            Some(Shared::Branch(branch)) => {
                let pulse = news.entry(branch.owner.number).or_default();
                if names_branches && room.occupants() > 0 {
                    pulse.branches.push(tag);
                }
            }
            None => {}
        }
    }
    for (number, mut pulse) in news {
        // Bulletins show the others.
        pulse.sessions.truncate(envelope::ENTRIES_MAX);
        pulse.branches.truncate(envelope::ENTRIES_MAX);
        let body = cx.out.span(|bytes| Message::Pulse(pulse).write(bytes));
        cx.out.list.push(Output::Announce { to: vec![number], body });
    }
}

/// Removes a member whose connection, or whose node, is lost.
fn lose(rooms: &mut Rooms, key: RoomKey, member: MemberId, cx: &mut Cx<'_>) {
    let seat = SeatHandle { room: key, index: 0 };
    rooms.leave(seat, member, LeaveReason::TransportClosed, cx);
}

/// Opens and closes the gates of all sessions. Returns what need no longer wait.
fn update_gates(rooms: &mut Rooms) -> Vec<Settled> {
    let Some(nodes) = rooms.nodes.as_deref() else { return Vec::new() };
    let rooms = rooms.rooms.iter_mut();
    rooms
        .filter_map(|(key, room)| {
            let waits = nodes.must_wait(room);
            announce::set_waits(room, key, waits)
        })
        .collect()
}

/// Takes over a record of the owner. Members that are connected here, and that the owner has given
/// up, are noted.
fn copy(room: &mut Room, record: Record, cx: &Cx<'_>) {
    let here = room.seated_here().filter(|(_, is_screen)| !is_screen);
    let mut here: BTreeSet<MemberId> = here.map(|(member, _)| member).collect();
    for seat in record.seats.iter().filter(|seat| seat.member.connected) {
        here.remove(&seat.member.id);
    }
    let known: Vec<Seat> = room.session.seats_of(here.iter().copied()).cloned().collect();
    if let Some(Shared::Branch(branch)) = room.shared.as_deref_mut() {
        branch.mute = None;
        let is_known = |seat: &Seat| known.iter().any(|one| one.member.id == seat.member.id);
        branch.lost.retain(|seat| here.contains(&seat.member.id) && !is_known(seat));
        branch.lost.extend(known);
    }
    room.session.copy(record, cx.now);
}

/// Sends a message to all shards of all other nodes.
fn announce_to_all(rooms: &Rooms, message: &Message<'_>, cx: &mut Cx<'_>) {
    let Some(nodes) = rooms.nodes.as_deref() else { return };
    let to: Vec<u16> = nodes.peers.keys().copied().collect();
    if !to.is_empty() {
        let body = cx.out.span(|bytes| message.write(bytes));
        cx.out.list.push(Output::Announce { to, body });
    }
}

/// Sets the timer of the next look, if it is not set and anything may become due.
fn arm(rooms: &mut Rooms, cx: &mut Cx<'_>) {
    let Some(nodes) = rooms.nodes.as_deref_mut().filter(|nodes| nodes.timer.at().is_none()) else {
        return;
    };
    let looks = !nodes.tags.is_empty() && !nodes.peers.is_empty()
        || !nodes.queued.is_empty()
        || rooms.rooms.iter().any(|(_, room)| match room.shared.as_deref() {
            Some(Shared::Owner(owner)) => owner.gate.in_flight.is_some(),
            // Its owner may be dead, also if no other node lives.
            Some(Shared::Branch(_)) => true,
            None => false,
        });
    let next = cx.now.at + LOOK_INTERVAL;
    nodes.timer.set(cx.wheel, looks.then_some(next), Timer::Nodes);
}

fn owner_mut(rooms: &mut Rooms, key: RoomKey) -> Option<&mut Owner> {
    match rooms.rooms.get_mut(key)?.shared.as_deref_mut()? {
        Shared::Owner(owner) => Some(owner),
        Shared::Branch(_) => None,
    }
}

fn branch_mut(rooms: &mut Rooms, key: RoomKey) -> Option<&mut Branch> {
    match rooms.rooms.get_mut(key)?.shared.as_deref_mut()? {
        Shared::Branch(branch) => Some(branch),
        Shared::Owner(_) => None,
    }
}

/// Returns the outcomes of this node's commands whose clients still wait.
fn answers_of(branch: &mut Branch, own: NodeId, outcomes: &[Outcome<'_>]) -> Vec<Answered> {
    let mine = outcomes.iter().filter(|outcome| outcome.node == own.number);
    mine.filter_map(|outcome| {
        let reply = branch.take(outcome.up)?.reply?;
        Some(Answered { reply, ok: outcome.ok, text: outcome.text.to_owned() })
    })
    .collect()
}
