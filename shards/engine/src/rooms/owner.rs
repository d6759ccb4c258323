//! The owner's view of a session: its branches on other nodes, with their members, and the
//! numbers by which each command is carried out once and each bulletin arrives.

use std::collections::{BTreeMap, VecDeque};

use super::gate::Gate;
use super::told::{Place, Told};
use crate::io::NodeId;
use crate::session::Audience;
use crate::wire::envelope::{Heard, Hearers, PacketPlace};
use crate::words::ids::MemberId;
use crate::words::time::Micros;

/// Maximum number of bulletins and of bytes that are kept to be sent again. Guessed.
const RECENT_MAX: usize = 64;
const RECENT_BYTES_MAX: usize = 256 * 1024;

/// Maximum number of answers that are kept for each branch. Specified.
const ANSWERS_MAX: usize = 64;

/// Maximum number of nodes whose last command is remembered. Guessed.
const UPS_MAX: usize = 64;

/// Time for which a new owner waits for the members that its record names. Specified.
pub(super) const ROLL_CALL: Micros = Micros::from_secs(1);

/// A session that this node owns.
#[derive(Debug, Default)]
pub(super) struct Owner {
    pub gate: Gate,
    /// Whether a decision must be stored before a member learns of it.
    pub waits: bool,
    /// Number of the last bulletin.
    pub seq: u64,
    /// The nodes with members of the session, by number.
    pub branches: BTreeMap<u16, BranchNode>,
    /// The last command of each node that was handled, the latest at the end.
    ups: VecDeque<(NodeId, u64)>,
    /// Bulletins that may be sent again.
    recent: VecDeque<(u64, Vec<u8>)>,
    /// Packets for the next bulletin.
    pub outbox: Vec<OwnedPacket>,
    /// Outcomes for the next bulletin.
    pub outcomes: Vec<OwnedOutcome>,
    /// Whether the next bulletin carries the record, because members came or left.
    pub shows_record: bool,
    /// Members that the record names and that no node has reported, and the end of the wait.
    pub unheard: Option<(Micros, Vec<MemberId>)>,
}

/// A node with members of the session.
#[derive(Debug)]
pub(super) struct BranchNode {
    pub node: NodeId,
    pub members: Vec<RemoteMember>,
    /// The last outcomes, in case the branch asks again.
    answers: VecDeque<OwnedOutcome>,
    /// Whether the branch needs the whole state.
    pub needs_state: bool,
    /// The time before which the branch is not asked again for its members.
    pub called_until: Micros,
}

/// A member that is connected to another node.
#[derive(Clone, Copy, Debug)]
pub(super) struct RemoteMember {
    pub member: MemberId,
    pub is_screen: bool,
}

/// A packet of a bulletin.
#[derive(Clone, Debug)]
pub(super) struct OwnedPacket {
    pub to: Hearers,
    pub place: PacketPlace,
    pub text: String,
}

/// The outcome of a command of a branch.
#[derive(Clone, Debug)]
pub(super) struct OwnedOutcome {
    pub node: u16,
    pub up: u64,
    pub ok: bool,
    pub text: String,
}

/// The place of a command in the order of its branch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// The next one.
    Next,
    /// A command that was handled before.
    Repeated,
    /// Others are missing before it; the number of the last one that was handled.
    Early(u64),
}

impl Owner {
    /// Returns the numbers of the nodes that receive bulletins.
    pub fn audience(&mut self) -> Vec<u16> {
        let Self { branches, outcomes, .. } = self;
        let waits = |number: u16| outcomes.iter().any(|outcome| outcome.node == number);
        branches.retain(|number, branch| !branch.members.is_empty() || waits(*number));
        branches.keys().copied().collect()
    }

    /// Returns the branch of a node, which is added if it is new.
    pub fn branch(&mut self, node: NodeId) -> &mut BranchNode {
        let fresh = || BranchNode {
            node,
            members: Vec::new(),
            answers: VecDeque::new(),
            needs_state: true,
            called_until: Micros::ZERO,
        };
        let branch = self.branches.entry(node.number).or_insert_with(fresh);
        if branch.node != node {
            *branch = fresh();
        }
        branch
    }

    /// Returns all members on other nodes.
    pub fn remote(&self) -> impl Iterator<Item = RemoteMember> {
        self.branches.values().flat_map(|branch| &branch.members).copied()
    }

    /// Returns the node of a member.
    pub fn node_of(&self, member: MemberId) -> Option<NodeId> {
        let has_it = |branch: &&BranchNode| branch.members.iter().any(|one| one.member == member);
        self.branches.values().find(has_it).map(|branch| branch.node)
    }

    /// Seats a member on a node, and nowhere else.
    pub fn seat(&mut self, node: NodeId, member: MemberId, is_screen: bool) {
        self.unseat(member);
        self.branch(node).members.push(RemoteMember { member, is_screen });
        self.met(member);
    }

    /// Removes a member from its node.
    pub fn unseat(&mut self, member: MemberId) {
        for branch in self.branches.values_mut() {
            branch.members.retain(|one| one.member != member);
        }
    }

    /// Notes that a member is still there.
    pub fn met(&mut self, member: MemberId) {
        if let Some((_, unheard)) = &mut self.unheard {
            unheard.retain(|other| *other != member);
        }
    }

    /// Returns the number of the last command of a node that was handled.
    pub fn up_of(&self, node: NodeId) -> u64 {
        self.ups.iter().find(|(of, _)| *of == node).map_or(0, |(_, up)| *up)
    }

    /// Checks the place of a command in its branch's order.
    pub fn turn(&self, node: NodeId, up: u64) -> Turn {
        let last = self.up_of(node);
        match up {
            up if up <= last => Turn::Repeated,
            up if up == last.saturating_add(1) => Turn::Next,
            _ => Turn::Early(last),
        }
    }

    /// Whether a node is to be asked for its members, because this one is not known there. Notes
    /// the question: after the answer the member is a stranger.
    pub fn must_call(&mut self, node: NodeId, member: MemberId, now: Micros) -> bool {
        let branch = self.branches.get_mut(&node.number).filter(|branch| branch.node == node);
        let Some(branch) = branch else { return true };
        let is_known = branch.members.iter().any(|one| one.member == member);
        let must = !is_known && branch.called_until <= now;
        if must {
            branch.called_until = now + ROLL_CALL;
        }
        must
    }

    /// Notes that the commands of a node up to this number were handled.
    pub fn note_up(&mut self, node: NodeId, up: u64) {
        let up = up.max(self.up_of(node));
        self.ups.retain(|(of, _)| *of != node);
        if up > 0 {
            self.ups.push_back((node, up));
        }
        while self.ups.len() > UPS_MAX {
            self.ups.pop_front();
        }
    }

    /// Returns the last commands that were handled, by node.
    pub fn heard(&self) -> Vec<Heard> {
        let heard = |&(NodeId { number, incarnation }, up): &(NodeId, u64)| Heard {
            number,
            incarnation,
            up,
        };
        self.ups.iter().map(heard).collect()
    }

    /// Returns the notes that are stored with each decision.
    pub fn notes(&self) -> Vec<u8> {
        // Writing plain values to a vector cannot fail.
        postcard::to_allocvec(&self.heard()).unwrap_or_default()
    }

    /// Takes over the stored notes of another owner. Damaged ones are ignored.
    pub fn read_notes(&mut self, notes: &[u8]) {
        if let Ok(heard) = postcard::from_bytes::<Vec<Heard>>(notes) {
            self.note_heard(&heard);
        }
    }

    /// Takes over the numbers that another owner has stored or sent.
    pub fn note_heard(&mut self, heard: &[Heard]) {
        for Heard { number, incarnation, up } in heard {
            self.note_up(NodeId { number: *number, incarnation: *incarnation }, *up);
        }
    }

    /// Keeps an outcome for a branch that asks again.
    pub fn keep_outcome(&mut self, outcome: OwnedOutcome) {
        if let Some(branch) = self.branches.get_mut(&outcome.node) {
            branch.answers.push_back(outcome);
            if branch.answers.len() > ANSWERS_MAX {
                branch.answers.pop_front();
            }
        }
    }

    /// Returns the kept outcome of a command.
    pub fn kept_outcome(&self, node: u16, up: u64) -> Option<OwnedOutcome> {
        let answers = &self.branches.get(&node)?.answers;
        answers.iter().find(|outcome| outcome.up == up).cloned()
    }

    /// Queues a packet for the branches. Beats are announced by each node itself.
    pub fn queue(&mut self, told: &Told) {
        let to = match told.audience {
            Audience::All => Hearers::All,
            Audience::Others(member) => Hearers::Others(member),
            Audience::One(member) | Audience::Sender(member) => Hearers::One(member),
            Audience::Metronome => return,
        };
        if let Hearers::One(member) = to
            && self.node_of(member).is_none()
        {
            return;
        }
        let place = match told.place {
            Place::Nowhere => PacketPlace::Nowhere,
            Place::Newest => PacketPlace::Newest,
            Place::Next(_) => PacketPlace::Next,
        };
        // Packets are printed as UTF-8.
        let text = String::from_utf8_lossy(&told.packet).into_owned();
        self.outbox.push(OwnedPacket { to, place, text });
    }

    /// Keeps a bulletin to be sent again.
    pub fn keep_bulletin(&mut self, body: Vec<u8>) {
        self.recent.push_back((self.seq, body));
        let mut bytes: usize = self.recent.iter().map(|(_, body)| body.len()).sum();
        while self.recent.len() > RECENT_MAX || bytes > RECENT_BYTES_MAX {
            let Some((_, dropped)) = self.recent.pop_front() else { return };
            bytes -= dropped.len();
        }
    }

    /// Returns the bulletins after a number, if all of them are kept.
    pub fn bulletins_after(&self, seq: u64) -> Option<impl Iterator<Item = &[u8]>> {
        let reaches = self.recent.front().is_some_and(|(first, _)| *first <= seq.saturating_add(1));
        let after = self.recent.iter().filter(move |(number, _)| *number > seq);
        reaches.then(|| after.map(|(_, body)| &body[..]))
    }
}
