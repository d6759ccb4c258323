//! Values that came too fast: the newest of each event waits until there is room for it.
//!
//! They belong to a client and end with it. `join_session` is a later command, so nothing waits
//! when a client moves to another shard.

use crate::speech::{Command, SessionCommand};
use crate::wire::events::ClientEvent;
use crate::wire::json::Value;
use crate::words::ids::{CommandId, SessionId};
use crate::words::time::Micros;

/// Values of one client that wait for room, in order of arrival: at most one of each event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Late(Vec<LateValue>);

/// A value that waits for room.
#[derive(Clone, Debug, PartialEq)]
pub struct LateValue {
    /// The event.
    pub event: ClientEvent,
    /// The id under which it is to be acknowledged.
    pub ack: Option<u64>,
    /// The session that it names.
    pub session: SessionId,
    /// The name that the client gave it.
    pub id: Option<CommandId>,
    /// The command.
    pub command: SessionCommand,
    /// When it came.
    pub since: Micros,
    /// When there may be room for it.
    pub due: Micros,
}

/// A command of which the newest value counts, as an event names it.
pub type Latest = (SessionId, Option<CommandId>, SessionCommand);

impl Late {
    /// When there may be room for the first of them.
    pub fn deadline(&self) -> Option<Micros> {
        self.0.iter().map(|value| value.due).min()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps a value. Returns the one that it makes needless, which may be itself.
    pub fn keep(&mut self, new: LateValue) -> Option<LateValue> {
        match self.place_of(new.event) {
            Some(old) if !self.0[old].gives_way_to(new.id) => Some(new), // mark: older_value_wins
            old => {
                let old = old.map(|old| self.0.remove(old));
                self.0.push(new);
                old
            }
        }
    }

    /// Takes out the value of an event that a new one makes needless.
    pub fn superseded_by(&mut self, event: ClientEvent, new: &Latest) -> Option<LateValue> {
        let (session, id, _) = new;
        let old = self.place_of(event)?;
        let is_needless = self.0[old].session == *session && self.0[old].gives_way_to(*id);
        is_needless.then(|| self.0.remove(old))
    }

    /// The place of the first value that there may be room for, and its event.
    pub fn due(&self, now: Micros) -> Option<(usize, ClientEvent)> {
        let place = self.0.iter().position(|value| value.due <= now)?;
        Some((place, self.0[place].event))
    }

    /// Looks again at the value in this place at another time.
    pub fn postpone(&mut self, place: usize, due: Micros) {
        self.0[place].due = due;
    }

    /// Takes out the value that waits longest.
    pub fn pop(&mut self) -> Option<LateValue> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    fn place_of(&self, event: ClientEvent) -> Option<usize> {
        self.0.iter().position(|value| value.event == event)
    }
}

impl LateValue {
    /// Whether a later value of the same event takes its place. A command that is sent again does
    /// not, if it is older by its number.
    fn gives_way_to(&self, id: Option<CommandId>) -> bool {
        let older = |(own, other): (CommandId, CommandId)| {
            own.client == other.client && other.number <= own.number
        };
        !self.id.zip(id).is_some_and(older)
    }
}

/// The command of an event, if the newest value of it counts and the others do not.
pub fn latest(event: ClientEvent, payload: Value<'_>) -> Option<Latest> {
    if !event.may_wait() {
        return None;
    }
    match event.read(payload) {
        Ok(Command::Session(session, id, command)) if command.may_wait() => {
            Some((session, id, command))
        }
        _ => None,
    }
}
