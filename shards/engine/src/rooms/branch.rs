//! A branch: the copy of a session that another node owns, for the members that are connected
//! here. Commands of its members are forwarded, and kept until the owner has handled them.

use std::collections::VecDeque;

use crate::io::NodeId;
use crate::record::Seat;
use crate::wire::envelope::Heard;
use crate::words::ids::{ConnId, MemberId};
use crate::words::time::Micros;

/// Maximum number and size of commands under way. Specified.
const PENDING_MAX: usize = 64;
const PENDING_BYTES_MAX: usize = 64 * 1024;

/// Times after which a command is sent again, and after which it is given up. Specified.
const AGAIN: [Micros; 3] =
    [Micros::from_millis(250), Micros::from_millis(750), Micros::from_millis(1_750)];
const GIVE_UP: Micros = Micros::from_secs(2);
const GIVE_UP_JOIN: Micros = Micros::from_secs(3);

/// Pause between two requests for missing bulletins, and between two claims. Guessed.
const ASK_AGAIN: Micros = Micros::from_millis(250);

/// A session that another node owns.
#[derive(Debug)]
pub(super) struct Branch {
    pub owner: NodeId,
    pub epoch: u64,
    /// Number of the last bulletin that was applied. `None`: the state has not arrived.
    pub seq: Option<u64>,
    /// Number of the last command.
    pub up: u64,
    pub pending: VecDeque<Pending>,
    /// The time since which the owner could have been heard.
    pub since: Micros,
    /// The time before which nothing is asked again.
    asked: Option<Micros>,
    /// Whether a claim has no answer yet.
    pub claims: bool,
    /// The time before which no claim is repeated.
    pub claim_at: Micros,
    /// The commands that the owner has handled, by node.
    pub heard: Vec<Heard>,
    /// Set if this node owned the session until now: the time until which members receive no ticks
    /// before the new owner's state has arrived.
    pub mute: Option<Micros>,
    /// Seats of members that are connected here, although the owner has given them up.
    pub lost: Vec<Seat>,
}

/// A command that the owner has not answered.
#[derive(Debug)]
pub(super) struct Pending {
    pub up: u64,
    pub since: Micros,
    pub tries: u8,
    /// The message.
    pub body: Vec<u8>,
    /// The client that waits. `None` for a leave.
    pub reply: Option<PendingReply>,
}

/// A client that waits for the owner's answer to its command.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingReply {
    /// The client.
    pub client: ConnId,
    /// Its member.
    pub member: MemberId,
    /// The name of its event.
    pub event: &'static str,
    /// The id under which it wants an acknowledgement.
    pub ack: Option<u64>,
    /// The JSON of the event's first argument.
    pub payload: String,
    /// Whether the command is a join, for which the client's input waits.
    pub is_join: bool,
}

impl Branch {
    pub fn new(owner: NodeId, epoch: u64, now: Micros) -> Self {
        Self {
            owner,
            epoch,
            seq: None,
            up: 0,
            pending: VecDeque::new(),
            since: now,
            asked: None,
            claims: false,
            claim_at: now,
            heard: Vec::new(),
            mute: None,
            lost: Vec::new(),
        }
    }

    /// Whether another command of this size may be forwarded.
    pub fn has_room(&self, bytes: usize) -> bool {
        let waiting: usize = self.pending.iter().map(|pending| pending.body.len()).sum();
        self.pending.len() < PENDING_MAX
            && (self.pending.is_empty() || waiting + bytes <= PENDING_BYTES_MAX)
    }

    /// Keeps a command that was sent until the owner has handled it.
    pub fn note_sent(&mut self, body: Vec<u8>, reply: Option<PendingReply>, now: Micros) {
        self.up += 1;
        self.pending.push_back(Pending { up: self.up, since: now, tries: 0, body, reply });
    }

    /// Removes and returns the command of this number.
    pub fn take(&mut self, up: u64) -> Option<Pending> {
        let index = self.pending.iter().position(|pending| pending.up == up)?;
        self.pending.remove(index)
    }

    /// Drops commands without a waiting client that the owner has handled.
    pub fn trim(&mut self, up: u64) {
        self.pending.retain(|pending| pending.up > up || pending.reply.is_some());
    }

    /// Number before that of the first command without an answer.
    pub fn base(&self) -> u64 {
        self.pending.front().map_or(self.up, |first| first.up - 1)
    }

    /// Takes the client of the first command that has waited too long, or of any command if none
    /// can be handled now. `void` creates a message with the command's number that does nothing: a
    /// number that the owner never receives would stop all later ones.
    pub fn next_given_up(
        &mut self,
        (now, is_alone): (Micros, bool),
        void: impl Fn(u64, &PendingReply) -> Vec<u8>,
    ) -> Option<PendingReply> {
        let is_over = |pending: &&mut Pending| {
            let is_join = pending.reply.as_ref().is_some_and(|reply| reply.is_join);
            // A leave is repeated until it is handled.
            let wait = if is_join { GIVE_UP_JOIN } else { GIVE_UP };
            pending.reply.is_some() && (is_alone || pending.since + wait <= now)
        };
        let pending = self.pending.iter_mut().find(is_over)?;
        let reply = pending.reply.take()?;
        pending.body = void(pending.up, &reply);
        Some(reply)
    }

    /// Returns the messages that are due to be sent again.
    pub fn due(&mut self, now: Micros) -> Vec<Vec<u8>> {
        let mut due = Vec::new();
        for pending in &mut self.pending {
            let wait = AGAIN.get(usize::from(pending.tries)).copied();
            let last = Micros::from_millis(1_000 * u64::from(pending.tries));
            if pending.since + wait.unwrap_or(last) <= now {
                pending.tries = pending.tries.saturating_add(1);
                due.push(pending.body.clone());
            }
        }
        due
    }

    /// Whether something may be asked of the owner now. Notes the question.
    pub fn may_ask(&mut self, now: Micros) -> bool {
        let may = self.asked.is_none_or(|asked| asked + ASK_AGAIN <= now);
        if may {
            self.asked = Some(now);
        }
        may
    }

    /// Notes a claim, which is repeated after a pause if it is not answered well.
    pub fn note_claim(&mut self, now: Micros) {
        (self.claims, self.claim_at) = (true, now + ASK_AGAIN);
    }

    /// Follows a new owner, whose state has not arrived.
    pub fn follow(&mut self, owner: NodeId, epoch: u64, now: Micros) {
        (self.owner, self.epoch, self.seq) = (owner, epoch, None);
        (self.since, self.asked, self.claims) = (now, None, false);
    }

    /// Moves the waiting commands of a client to its new id.
    pub fn relocate(&mut self, from: ConnId, to: ConnId) {
        for reply in self.pending.iter_mut().filter_map(|pending| pending.reply.as_mut()) {
            if reply.client == from {
                reply.client = to;
            }
        }
    }
}
