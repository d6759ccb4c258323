//! Values that came too fast: the newest of each event waits until its rate allows it.
//!
//! They belong to a client and end with it. A `join_session` applies them first, so no value waits
//! when a client moves to another shard.

use crate::speech::{Command, SessionCommand, Terms};
use crate::wire::events::ClientEvent;
use crate::wire::json::Value;
use crate::words::ids::SessionId;
use crate::words::time::Micros;

/// The waiting values of one client in order of arrival, at most one of each event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Late(Vec<LateValue>);

/// A waiting value.
#[derive(Clone, Debug, PartialEq)]
pub struct LateValue {
    /// The event.
    pub event: ClientEvent,
    /// The id under which the client wants an acknowledgement.
    pub ack: Option<u64>,
    /// The session that the command names.
    pub session: SessionId,
    /// The terms of the command.
    pub terms: Terms,
    /// The command.
    pub command: SessionCommand,
    /// The JSON of the event's first argument, if another node will read it.
    pub payload: Option<Box<str>>,
    /// The time of its arrival.
    pub since: Micros,
    /// The time at which the rate may allow it.
    pub due: Micros,
}

/// The contents of an event of which only the newest value counts.
pub type Latest = (SessionId, Terms, SessionCommand);

impl Late {
    /// Returns the time at which the rates may allow the first of them.
    pub fn deadline(&self) -> Option<Micros> {
        self.0.iter().map(|value| value.due).min()
    }

    /// Whether no value waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a value. Returns the value that it supersedes, which may be itself.
    pub fn keep(&mut self, new: LateValue) -> Option<LateValue> {
        match self.place_of(new.event) {
            // mark: older_value_wins
            Some(old) if !self.0[old].gives_way_to(&new.terms) => Some(new),
            old => {
                let old = old.map(|old| self.0.remove(old));
                debug_assert!(self.place_of(new.event).is_none(), "one value waits for each event");
                self.0.push(new);
                old
            }
        }
    }

    /// Removes and returns the value of an event that a new one supersedes.
    pub fn superseded_by(&mut self, event: ClientEvent, new: &Latest) -> Option<LateValue> {
        let (session, terms, _) = new;
        let old = self.place_of(event)?;
        let is_needless = self.0[old].session == *session && self.0[old].gives_way_to(terms);
        is_needless.then(|| self.0.remove(old))
    }

    /// Returns the index of the first value whose time has come, and its event.
    pub fn due(&self, now: Micros) -> Option<(usize, ClientEvent)> {
        let index = self.0.iter().position(|value| value.due <= now)?;
        Some((index, self.0[index].event))
    }

    /// Sets another time for the value at this index.
    pub fn postpone(&mut self, index: usize, due: Micros) {
        self.0[index].due = due;
    }

    /// Removes and returns the value that has waited longest.
    pub fn pop(&mut self) -> Option<LateValue> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    fn place_of(&self, event: ClientEvent) -> Option<usize> {
        self.0.iter().position(|value| value.event == event)
    }
}

impl LateValue {
    /// Whether a later value of the same event supersedes this one. A repeated command with a lower
    /// or equal number does not.
    fn gives_way_to(&self, terms: &Terms) -> bool {
        let ids = self.terms.id.zip(terms.id);
        !ids.is_some_and(|(own, other)| own.client == other.client && other.number <= own.number)
    }
}

/// Reads the command of an event, if only its newest value counts.
pub fn latest(event: ClientEvent, payload: Value<'_>) -> Option<Latest> {
    if !event.may_wait() {
        return None;
    }
    match event.read(payload) {
        Ok(Command::Session(session, terms, command)) if command.may_wait() => {
            Some((session, terms, command))
        }
        _ => None,
    }
}
