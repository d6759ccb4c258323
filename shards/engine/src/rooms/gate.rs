//! Holds back what a session has decided until the cluster's store has it.
//!
//! A decision is applied at once. Its packets and acknowledgements wait for the answer of the
//! store, so no member learns of a decision that another owner does not know. One decision at a
//! time is on its way; later ones are stored together with the next.

use std::net::IpAddr;

use super::told::Told;
use crate::io::{Output, Outputs};
use crate::session::Effect;
use crate::speech::{Ack, Reject};
use crate::words::ids::{ConnId, MemberId, SessionId};
use crate::words::music::Timeline;
use crate::words::time::Micros;

/// Time after which a decision that was not stored blocks new commands. Specified.
pub(super) const PATIENCE: Micros = Micros::from_secs(1);

/// Pause before an order that had no answer is repeated. Guessed.
const REPEAT_AFTER: Micros = Micros::from_millis(250);

/// An acknowledgement of a client of this node that waits.
#[derive(Debug)]
pub struct HeldAnswer {
    /// The client.
    pub client: ConnId,
    /// The name of its event.
    pub event: &'static str,
    /// The id under which it wants an acknowledgement.
    pub ack: Option<u64>,
    /// The outcome.
    pub outcome: Result<Ack, Reject>,
    /// The command, if another owner can carry it out.
    pub command: Option<HeldCommand>,
}

/// A command of a client of this node that the session has decided. If the decision turns out to be
/// void, the next owner receives the command.
#[derive(Debug)]
pub struct HeldCommand {
    /// Its number among the commands of this node. 0: it has none yet.
    pub up: u64,
    /// The member that sent it.
    pub member: MemberId,
    /// The member's address.
    pub peer: IpAddr,
    /// The JSON of the event's first argument.
    pub payload: String,
}

/// The gate of a session that this node owns.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Epoch and version that are stored.
    pub stored: (u64, u64),
    /// Number of changes of tokens that are stored.
    pub tokens: u32,
    /// Whether packets are collected for a decision that is about to be ordered.
    pub is_printing: bool,
    /// The decision on its way.
    pub in_flight: Option<Box<InFlight>>,
    /// Packets that were printed and wait for the next decision.
    pub told: Vec<Told>,
    /// Effects for single members that wait for the next decision.
    pub direct: Vec<Effect>,
    /// Acknowledgements that wait for the next decision.
    pub answers: Vec<HeldAnswer>,
    /// The timeline that members know, while a newer one is not stored.
    pub timeline: Option<Box<Timeline>>,
    /// Set if another node may own the session by now, because the process was stopped: the time
    /// until which members receive nothing before the store has answered.
    pub unproven: Option<Micros>,
    /// The time until which nothing new is decided, because the store may have forgotten that
    /// another node took the session over.
    pub hold_until: Micros,
    /// Whether the newest decision is queued to be ordered again.
    pub is_queued: bool,
}

/// A decision that the store has not confirmed.
#[derive(Debug)]
pub(super) struct InFlight {
    pub epoch: u64,
    pub version: u64,
    pub tokens: u32,
    /// The time of the first order.
    pub since: Micros,
    /// The time at which the order is repeated, if the store did not confirm it.
    pub again: Option<Micros>,
    /// Number of orders without an answer.
    pub unanswered: u32,
    pub order: CommitOrder,
    pub told: Vec<Told>,
    pub answers: Vec<HeldAnswer>,
    /// The timeline of the decision.
    pub timeline: Box<Timeline>,
}

/// The contents of an order, kept so that it can be repeated.
#[derive(Debug, Default)]
pub(super) struct CommitOrder {
    pub record: Vec<u8>,
    pub branches: Vec<u8>,
    pub head: Vec<u8>,
    pub tail: Vec<u8>,
    pub to: Vec<u16>,
}

impl Gate {
    /// Whether packets must wait.
    pub fn is_closed(&self) -> bool {
        self.is_printing || self.in_flight.is_some() || self.unproven.is_some()
    }

    /// Whether batches must wait: packets are not collected, and the store has not answered.
    pub fn is_closed_to_batches(&self) -> bool {
        self.in_flight.is_some() || self.unproven.is_some() && !self.is_printing
    }

    /// Orders the decision on its way, for the first time or again.
    pub fn order(&mut self, session: &SessionId, out: &mut Outputs) {
        let Some(in_flight) = &mut self.in_flight else { return };
        in_flight.again = None;
        in_flight.unanswered += 1;
        let CommitOrder { record, branches, head, tail, to } = &in_flight.order;
        let mut span = |bytes: &[u8]| out.span(|all| all.extend_from_slice(bytes));
        let [record, branches, head, tail] = [record, branches, head, tail].map(|part| span(part));
        let (session, to) = (session.clone(), to.clone());
        let (epoch, version) = (in_flight.epoch, in_flight.version);
        out.list.push(Output::Commit { session, epoch, version, record, branches, head, tail, to });
    }

    /// Notes that the decision on its way was not confirmed, and is to be ordered again.
    pub fn postpone(&mut self, now: Micros) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.again = Some(now + REPEAT_AFTER);
        }
    }

    /// Notes an answer to an order of this decision. Returns false if it is not about the decision
    /// on its way, or if a later order of that has no answer yet.
    pub fn is_answered(&mut self, (epoch, version): (u64, u64)) -> bool {
        let Some(in_flight) = &mut self.in_flight else { return false };
        if (in_flight.epoch, in_flight.version) != (epoch, version) {
            return false;
        }
        in_flight.unanswered = in_flight.unanswered.saturating_sub(1);
        in_flight.unanswered == 0
    }

    /// Begins the hold: nothing new is decided until `until`.
    pub fn hold(&mut self, until: Micros) {
        self.hold_until = until;
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.since = in_flight.since.max(until);
        }
    }

    /// Notes that the decision on its way is stored, but that members learn of it only after the
    /// hold, if the store still has it.
    pub fn again_after_hold(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.again = Some(self.hold_until);
        }
    }

    /// Whether the order is to be repeated now.
    pub fn is_due(&self, now: Micros) -> bool {
        self.in_flight.as_ref().and_then(|flight| flight.again).is_some_and(|at| at <= now)
    }

    /// Whether a decision has waited for so long that no further command is accepted.
    pub fn is_stuck(&self, now: Micros) -> bool {
        self.in_flight.as_ref().is_some_and(|flight| flight.since + PATIENCE <= now)
    }

    /// Takes all acknowledgements that wait, in order.
    pub fn take_answers(&mut self) -> Vec<HeldAnswer> {
        let mut answers = match &mut self.in_flight {
            Some(in_flight) => std::mem::take(&mut in_flight.answers),
            None => Vec::new(),
        };
        answers.append(&mut self.answers);
        answers
    }

    /// Moves the acknowledgements of a client to its new id.
    pub fn relocate(&mut self, from: ConnId, to: ConnId) {
        let in_flight = self.in_flight.iter_mut().flat_map(|flight| &mut flight.answers);
        for answer in in_flight.chain(&mut self.answers).filter(|answer| answer.client == from) {
            answer.client = to;
        }
    }
}
